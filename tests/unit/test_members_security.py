"""Smart Energy security between a hub and PPMIDs: keys first, everything else under them."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.node import NodeKind
from harness.errors import LocalProtocolError
from harness.members.hub import DeviceJoined, DeviceLeft, Hub, ReadFailed, WanMessage
from harness.members.kinds import DeviceKind
from harness.members.ppmid import Ppmid
from harness.members.security import UNDER_NETWORK_KEY, UnsecuredRefused
from harness.members.tunnels import MessageReceived
from harness.wire import zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage, LinkKeyEstablished
from harness.wire.cbke_messages import (
    CONFIRM_KEY_DATA,
    EPHEMERAL_DATA,
    INITIATE,
    KEY_ESTABLISHMENT_CLUSTER,
    TERMINATE,
    TerminateStatus,
    parse_message,
)
from harness.wire.cbke_values import KeyEstablished, KeyEstablishmentFailed, KeyRejected
from harness.wire.keep_alive import KeepAliveFailed, TrustCenterAnswered, TrustCenterLost
from harness.wire.ota_client_values import ServerLost
from harness.wire.ota_messages import QueryNextImageRequest, build_message
from harness.wire.tunnel import TunnelOpened
from harness.wire.zcl import Status
from tests.unit.firmware_bench import activated
from tests.unit.ota_bench import ppmid_image
from tests.unit.premises import NETWORK, link_key
from tests.unit.secured_han import (
    CREDENTIALS,
    HUB,
    PPMID,
    SECOND,
    SHORTS,
    STRANGERS,
    SecuredHan,
    hub_config,
    ppmid_config,
)

KEYED = SecuredHan()
KEYED.run(30.0)
QUERY = build_message(QueryNextImageRequest(0x121D, 0x0084, 1, 0x1180), 9)


def opened(event):
    """Whether one end of a tunnel has it open."""
    return isinstance(event, TunnelOpened)


def assert_keyed(han, *eui64s):
    """Each pair holds one and the same key, and nobody has refused anything."""
    for eui64 in eui64s or (PPMID,):
        assert han.key(HUB, eui64) is not None
        assert han.key(HUB, eui64) == han.key(eui64, HUB)
        assert eui64 in han.hub.keyed
        assert han.members[eui64].flash.keyed == [HUB]


def steps(han, sender, command):
    """The commands of key establishment that a member sent."""
    found = []
    for who, message in han.sent:
        if who == sender and message.cluster == KEY_ESTABLISHMENT_CLUSTER:
            frame = zcl.parse_frame(message.payload)
            if frame.control & zcl.CLUSTER_COMMAND and frame.command == command:
                found.append(parse_message(frame))
    return found


def test_keys_come_first_and_everything_else_under_them():
    """Joined, keyed, tunnel and keep-alive, then a whole OTA transfer: not one Smart Energy message without the key."""
    han = SecuredHan()
    han.hub.offer(ppmid_image(), PPMID, 0.0)
    assert han.run(600.0, lambda event: event == activated(2))
    assert_keyed(han)
    assert len(han.of(HUB, KeyEstablished)) == len(han.of(PPMID, KeyEstablished)) == 1
    assert han.of(HUB, DeviceJoined)[0] == DeviceJoined(PPMID, SHORTS[PPMID])
    assert TrustCenterAnswered(10, 300) in han.of(PPMID, TrustCenterAnswered)
    assert not han.of(HUB, UnsecuredRefused) + han.of(PPMID, UnsecuredRefused)
    for _, message in han.sent:
        if message.profile == SMART_ENERGY_PROFILE:
            assert message.secured is (message.cluster not in UNDER_NETWORK_KEY)


def test_the_endpoints_say_what_they_speak():
    """Key Establishment both ways, Keep-Alive and Tunneling where they belong; its suites can be read."""
    han = SecuredHan()
    (hub,), (ppmid,) = han.hub.descriptors, han.ppmid.descriptors
    assert hub.server_clusters == (0, 0x0A, 0x19, 0x25, 0x0800, 0x0704)
    assert hub.client_clusters == (0x0800, 0x0704, 0x0702)
    assert (ppmid.server_clusters, ppmid.client_clusters) == (
        (0, 0x0704, 0x0800),
        (0x19, 0x0702, 0x0705, 0x25, 0x0800),
    )
    read = zcl.build_frame(zcl.Frame(0, None, 7, zcl.READ_ATTRIBUTES, zcl.build_read((0,))))
    for member in (han.hub, han.ppmid):
        member.messages_to_send()
        member.receive(ApsMessage(0x5555, SMART_ENERGY_PROFILE, 0x0800, 1, 1, read), 0.0)
        answers = [each for each in member.messages_to_send() if each.profile != ZDO_PROFILE]
        (record,) = zcl.parse_read_response(zcl.parse_frame(answers[0].payload).payload)
        assert (record.status, record.value) == (0, 0x0002)


def test_endpoints_are_found_and_not_taken_for_granted():
    """A hub on endpoint 123 and a PPMID on 5: every message to the endpoint that has the cluster."""
    han = SecuredHan(hub=hub_config(endpoint=123), ppmid=ppmid_config(endpoint=5))
    han.hub.offer(ppmid_image(), PPMID, 0.0)
    assert han.run(600.0, lambda event: event == activated(2))
    assert_keyed(han)
    ends = {HUB: (123, 5), PPMID: (5, 123)}
    for sender, message in han.sent:
        if message.profile == SMART_ENERGY_PROFILE:
            assert (message.source_endpoint, message.destination_endpoint) == ends[sender]


def test_certificates_stay_unused_without_security():
    """An unsecured member with credentials is as it was without; a secured hub with them needs a generator."""
    assert Hub(hub_config(secured=False)).descriptors == Hub().descriptors
    assert "Credentials" not in repr(hub_config()) + repr(ppmid_config())
    with pytest.raises(LocalProtocolError, match="generator"):
        Hub(hub_config())
    hub = Hub()
    hub.admit(PPMID, DeviceKind.PPMID, bytes(16), 600, 0.0)
    (refused,) = hub.deliver_command(PPMID, b"x", 0.0)
    assert "opens no tunnels" in refused.reason


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_lost_and_repeated_messages_only_cost_time(seed):
    """One message in ten lost, one in ten twice: keys, tunnel and image are there in the end."""
    han = SecuredHan(loss=0.1, repeats=0.1, seed=seed)
    han.hub.offer(ppmid_image(), PPMID, 0.0)
    assert han.run(3600.0, lambda event: event == activated(2))
    assert_keyed(han)


@pytest.mark.parametrize("culprit", [HUB, PPMID])
@pytest.mark.parametrize("command", [INITIATE, EPHEMERAL_DATA, CONFIRM_KEY_DATA])
def test_silence_at_any_step_is_tried_again(culprit, command):
    """Each command of each side lost once: the second try succeeds, and both have its key."""
    han = SecuredHan()
    lost = []

    def lose(sender, message):
        frame = zcl.parse_frame(message.payload) if message.cluster == KEY_ESTABLISHMENT_CLUSTER else None
        hit = frame is not None and frame.control & zcl.CLUSTER_COMMAND and frame.command == command
        if sender == culprit and hit and not lost:
            lost.append(message)
            return True
        return False

    han.lose = lose
    assert han.run(300.0, opened)
    assert lost
    assert_keyed(han)
    # The responder had its proof one message before the initiator: it takes its key back.
    assert bool(han.of(HUB, KeyRejected)) is (culprit == HUB and command == CONFIRM_KEY_DATA)


def test_a_certificate_of_another_issuer_ends_in_terminate_and_is_tried_again():
    """UNKNOWN_ISSUER from the hub, which both report; the PPMID begins again when it was told to, without end."""
    han = SecuredHan(ppmid=ppmid_config(credentials=STRANGERS))
    han.run(100.0)
    assert [each.status for each in steps(han, HUB, TERMINATE)] == [TerminateStatus.UNKNOWN_ISSUER] * 4
    mine, theirs = han.of(HUB, KeyEstablishmentFailed)[0], han.of(PPMID, KeyEstablishmentFailed)[0]
    assert (mine.partner, mine.status, mine.by_us) == (PPMID, TerminateStatus.UNKNOWN_ISSUER, True)
    assert (theirs.partner, theirs.status, theirs.retry_after) == (HUB, TerminateStatus.UNKNOWN_ISSUER, 30.0)
    assert (han.hub.keyed, han.ppmid.flash.keyed) == ((), [])
    assert all(each.cluster in UNDER_NETWORK_KEY for _, each in han.sent if each.profile != ZDO_PROFILE)


@pytest.mark.parametrize("count", [1, 2, 3, 4])
@pytest.mark.parametrize("victim", [HUB, PPMID])
def test_a_power_cut_in_the_middle_is_got_over(victim, count):
    """Whoever loses power after whichever message of the other side: there is a key in the end, the same on both."""
    han = SecuredHan()
    seen = []

    def cut(sender, message):
        if message.cluster == KEY_ESTABLISHMENT_CLUSTER and sender != victim:
            seen.append(message)
            if len(seen) == count:
                han._at(han.now + 0.007, lambda: han.power_cut(victim, dark=3.0))
        return False

    han.lose = cut
    assert han.run(300.0, lambda event: isinstance(event, TunnelOpened) and han.now > 2.9)
    assert_keyed(han)


def test_a_restart_needs_no_new_key():
    """After a power cut the PPMID goes on under the key that it has; the hub opens the tunnel again."""
    han = SecuredHan()
    han.hub.admit(PPMID, DeviceKind.PPMID, bytes(16), 600, 0.0)
    assert han.run(60.0, opened)
    for victim in (PPMID, HUB):
        han.run(han.now + 20.0)
        han.power_cut(victim)
        assert han.run(han.now + 60.0, opened)
    assert len(han.of(PPMID, LinkKeyEstablished)) == 1
    assert_keyed(han)
    han.run(han.now + 10.0)
    assert han.hub.deliver_command(PPMID, b"still here", han.now) == []
    assert han.run(han.now + 10.0, lambda event: event == MessageReceived(HUB, b"still here"))


def test_two_at_the_same_time_are_served_one_after_the_other():
    """NO_RESOURCES for the second, which comes back when it was told to."""
    han = SecuredHan(PPMID, SECOND)
    assert han.run(5.0, lambda event: isinstance(event, KeyEstablishmentFailed))
    han.run(29.0)
    statuses = [each.status for each in steps(han, HUB, TERMINATE)]
    assert statuses == [TerminateStatus.NO_RESOURCES]
    assert han.hub.keyed == (PPMID,)
    han.run(60.0)
    assert_keyed(han, PPMID, SECOND)


@pytest.mark.parametrize("victim", [HUB, PPMID])
def test_what_is_not_under_the_key_is_refused(victim):
    """NOT_AUTHORIZED where an answer is due, and an event; nothing else happens. Basic is for everybody."""
    han = SecuredHan()
    assert han.run(60.0, opened)
    member, partner = han.members[victim], PPMID if victim == HUB else HUB
    peer = SHORTS[partner]
    member.messages_to_send()
    for cluster in (0x0019, 0x000A, 0x0025, 0x0704, 0x0702):
        message = ApsMessage(peer, SMART_ENERGY_PROFILE, cluster, 1, 1, QUERY)
        assert member.receive(message, han.now) == [UnsecuredRefused(peer, partner, cluster, 0x01)]
        (refusal,) = member.messages_to_send()
        assert zcl.parse_frame(refusal.payload).payload == bytes((0x01, Status.NOT_AUTHORIZED))
        assert member.receive(message._replace(broadcast=True), han.now)
        assert not member.messages_to_send()
    stranger = ApsMessage(0x5555, SMART_ENERGY_PROFILE, 0x0019, 1, 1, QUERY, secured=True)
    assert member.receive(stranger, han.now) == [UnsecuredRefused(0x5555, None, 0x0019, 0x01, True)]
    member.messages_to_send()
    read = zcl.build_frame(zcl.Frame(0, None, 7, zcl.READ_ATTRIBUTES, zcl.build_read((5,))))
    assert member.receive(ApsMessage(peer, SMART_ENERGY_PROFILE, 0x0000, 1, 1, read), han.now) == []
    (answer,) = member.messages_to_send()
    assert not answer.secured


def test_the_pre_configured_key_is_not_enough():
    """Before key establishment even a secured message is refused, and the hub reads nothing that needs the key."""
    hub = Hub(hub_config(), random.Random(1))
    hub.device_joined(PPMID, SHORTS[PPMID])
    message = ApsMessage(SHORTS[PPMID], SMART_ENERGY_PROFILE, 0x0019, 1, 1, QUERY, secured=True)
    assert hub.receive(message, 1.0) == [UnsecuredRefused(SHORTS[PPMID], PPMID, 0x0019, 0x01, True)]
    hub.messages_to_send()
    sequence = hub.read_attribute(SHORTS[PPMID], 0x0019, 2, 1.0)
    assert hub.messages_to_send() == []
    assert hub.next_deadline() == 1.0
    assert hub.on_deadline(1.0) == [ReadFailed(SHORTS[PPMID], 0x19, 2, sequence, "it has no link key yet")]
    hub.read_attribute(SHORTS[PPMID], 0x0000, 5, 1.0)
    (read,) = hub.messages_to_send()
    assert not read.secured
    hub.flash.keyed.append(PPMID)
    assert not any(isinstance(event, UnsecuredRefused) for event in hub.receive(message, 2.0))


def test_long_messages_go_through_the_tunnel_both_ways():
    """1500 octets, whole and under the key; one that was there before the tunnel waits for it."""
    han = SecuredHan()
    long = random.Random(1).randbytes(1500)
    for eui64 in (PPMID, SECOND):
        han.hub.admit(eui64, DeviceKind.PPMID, bytes(16), 600, 0.0)
    (refused,) = han.hub.deliver_command(PPMID, long + b"x", 0.0)
    assert "1501" in refused.reason
    with pytest.raises(LocalProtocolError, match="1501"):
        han.ppmid.send_message(long + b"x", 0.0)
    assert han.hub.deliver_command(PPMID, long, 0.0) == []
    assert han.run(60.0, lambda event: event == MessageReceived(HUB, long))
    han.ppmid.send_message(long[::-1], han.now)
    assert han.run(70.0, lambda event: event == WanMessage(PPMID, long[::-1]))
    for _ in range(20):
        assert han.hub.deliver_command(PPMID, b"x", han.now) == []
    han.run(80.0)
    assert len(han.of(PPMID, MessageReceived)) == 21
    for _ in range(16):
        assert han.hub.deliver_command(SECOND, b"x", han.now) == []
    (refused,) = han.hub.deliver_command(SECOND, b"x", han.now)
    assert "16 messages wait for a tunnel" in refused.reason


def test_a_message_into_a_tunnel_that_the_hub_forgot_goes_again_through_the_next():
    """NO_SUCH_TUNNEL: nothing is lost, and nothing comes twice."""
    han = SecuredHan()
    assert han.run(60.0, lambda event: isinstance(event, TunnelOpened))
    han.run(han.now + 1.0)
    han.hub._sessions.tunnels.client.forget(PPMID)
    han.ppmid.send_message(b"alert", han.now)
    han.run(han.now + 5.0)
    assert han.of(HUB, WanMessage) == []
    han.hub.network_up(0, han.now)
    han.run(han.now + 60.0)
    assert han.of(HUB, WanMessage) == [WanMessage(PPMID, b"alert")]


def test_a_hub_that_opens_no_tunnels_opens_none():
    """`tunnels` off: keys and keep-alive, but nobody asks for a tunnel."""
    han = SecuredHan(hub=hub_config(tunnels=False, keep_alive_base=1, keep_alive_jitter=0))
    assert not han.run(200.0, opened)
    assert_keyed(han)
    assert len(han.of(PPMID, TrustCenterAnswered)) == 4


def test_a_device_that_left_has_to_establish_a_key_again():
    """DeviceLeft, once; when it comes back with its old key the hub refuses, and the PPMID begins anew by itself."""
    han = SecuredHan()
    assert han.run(60.0, opened)
    assert han.hub.device_left(PPMID, han.now) == [DeviceLeft(PPMID, SHORTS[PPMID])]
    assert han.hub.device_left(PPMID, han.now) == []
    assert han.hub.keyed == ()
    han.power_cut(PPMID)
    assert han.run(han.now + 120.0, opened)
    assert_keyed(han)
    assert len(han.of(PPMID, LinkKeyEstablished)) == 2
    refused = han.of(HUB, UnsecuredRefused)
    assert refused
    assert all(each.secured for each in refused)


def test_a_hub_that_is_silent_too_long_is_looked_for():
    """Three reads of the keep-alive without an answer: the key counts no more, and another one is established."""
    han = SecuredHan(hub=hub_config(keep_alive_base=1, keep_alive_jitter=0))
    han.run(30.0)
    han.lose = lambda sender, message: message.secured
    assert han.run(600.0, lambda event: isinstance(event, TrustCenterLost))
    assert [each.failures for each in han.of(PPMID, KeepAliveFailed)] == [1, 2, 3]
    han.lose = lambda sender, message: False
    assert han.run(han.now + 120.0, opened)
    assert_keyed(han)


def test_a_hub_that_is_gone_for_good_is_found_out_while_it_is_looked_for():
    """Its OTA server is lost every few minutes, and looked for; the keep-alive goes on counting beside that."""
    han = SecuredHan(hub=hub_config(keep_alive_base=10, keep_alive_jitter=0))
    assert han.run(60.0, opened)
    han.hub.offer(ppmid_image(size=60_000), PPMID, han.now)
    han.run(han.now + 1.0)
    han.lose = lambda sender, message: True
    assert han.run(han.now + 3600.0, lambda event: isinstance(event, TrustCenterLost))
    assert han.of(PPMID, ServerLost)
    assert [each.failures for each in han.of(PPMID, KeepAliveFailed)] == [1, 2, 3]
    han.lose = lambda sender, message: False
    assert han.run(han.now + 120.0, opened)
    assert_keyed(han)
    assert len(han.of(PPMID, LinkKeyEstablished)) == 2


def test_what_the_network_left_behind_in_a_tunnel_goes_through_the_next_one():
    """A message that no carrier has taken when the network goes down is not lost; one that was taken goes once."""
    han = SecuredHan()
    assert han.run(60.0, opened)
    han.ppmid.send_message(b"taken", han.now)
    han.run(han.now + 1.0)
    han.ppmid.send_message(b"left behind", han.now)
    han.ppmid.network_down(han.now)
    han.power_on(PPMID)
    han.run(han.now + 60.0)
    assert han.of(HUB, WanMessage) == [WanMessage(PPMID, b"taken"), WanMessage(PPMID, b"left behind")]


def test_another_hub_in_the_old_ones_place_gets_its_own_key():
    """The key in flash is with another EUI-64: that one is forgotten, and key establishment begins."""
    han = SecuredHan()
    han.ppmid.flash.keyed.append(SECOND)
    han.power_cut(PPMID)
    assert han.run(60.0, opened)
    assert_keyed(han)


def test_a_stranger_is_asked_who_it_is():
    """IEEE_addr_req to an unknown address, every 15 s at most; its answer makes it known, a broken one does not."""
    hub = Hub()
    message = ApsMessage(0x1A2B, SMART_ENERGY_PROFILE, 0x0000, 1, 1, b"\x10\x01\x0b\x00\x00")
    for now, asked in ((0.0, 1), (14.9, 0), (15.0, 1)):
        hub.receive(message, now)
        assert [each.cluster for each in hub.messages_to_send()] == [0x0001] * asked

    def told(cluster, payload):
        return hub.receive(ApsMessage(0x1A2B, ZDO_PROFILE, cluster, 0, 0, payload), 1.0)

    eui64 = PPMID.to_bytes(8, "little")
    for cluster, payload in (
        (0x8001, b"\x01\x81" + eui64 + b"\x2b\x1a"),
        (0x8001, b"\x01\x00" + eui64),
        (0x8001, b"\x01\x00" + eui64 + b"\xfd\xff"),
        (0x0013, b"\x01\x2b\x1a"),
    ):
        assert told(cluster, payload) == []
    assert told(0x8001, b"\x01\x00" + eui64 + b"\x2b\x1a") == [DeviceJoined(PPMID, 0x1A2B)]
    assert told(0x0013, b"\x01\x2c\x1a" + eui64 + b"\x80") == [DeviceJoined(PPMID, 0x1A2C)]
    assert [(each.eui64, each.short) for each in hub.devices] == [(PPMID, 0x1A2C)]


def test_nodes_on_the_air_join_establish_keys_and_transfer():
    """Both behaviours on emulated nodes: install code, CBKE, tunnel with a long message, and the image to its end."""
    air, events = Air(1), []
    hub = Hub(hub_config(), random.Random(1))
    ppmid = Ppmid(ppmid_config(), random.Random(2))
    hub_node = MemberNode(
        air,
        hub,
        eui64=HUB,
        kind=NodeKind.COORDINATOR,
        network=NETWORK,
        on_event=lambda now, event: events.append(event),
    )
    node = MemberNode(
        air,
        ppmid,
        eui64=PPMID,
        kind=NodeKind.END_DEVICE,
        link_key=link_key(PPMID),
        on_event=lambda now, event: events.append(event),
    )
    hub_node.power_on()
    hub_node.node.set_link_key(PPMID, link_key(PPMID))
    hub_node.node.permit_joining(255)
    hub.offer(ppmid_image(), PPMID, 0.0)
    long = random.Random(1).randbytes(1500)
    hub.admit(PPMID, DeviceKind.PPMID, link_key(PPMID), 600, 0.0)
    assert hub.deliver_command(PPMID, long, 0.0) == []
    node.power_on()
    air.advance(300_000_000)
    (first, _) = [event for event in events if isinstance(event, KeyEstablished)]
    assert node.node.link_keys[HUB].key == hub_node.node.link_keys[PPMID].key == first.key
    assert MessageReceived(HUB, long) in events
    assert activated(2) in events
    assert not any(isinstance(event, UnsecuredRefused) for event in events)
    assert CREDENTIALS[HUB][0].suite == first.suite
    # Removed and admitted anew it has the key of its install code again, whatever its flash says.
    hub_node.node.remove_device(PPMID)
    air.advance(air.now + 5_000_000)
    assert DeviceLeft in [type(event) for event in events]
    hub_node.node.set_link_key(PPMID, link_key(PPMID))
    hub_node.node.permit_joining(255)
    node.power_cut()
    node.power_on()
    air.advance(air.now + 60_000_000)
    second = [event for event in events if isinstance(event, KeyEstablished)][-1]
    assert second.key != first.key
    assert node.node.link_keys[HUB].key == hub_node.node.link_keys[PPMID].key == second.key


@given(
    st.sampled_from((0x0000, 0x0019, 0x0025, 0x0704, 0x0800, 0x0001, 0x0006, 0x8001, 0x8006, 0x0013)),
    st.sampled_from((SMART_ENERGY_PROFILE, ZDO_PROFILE)),
    st.binary(max_size=100),
    st.booleans(),
)
@settings(max_examples=200, deadline=None)
def test_hostile_octets_are_survived(cluster, profile, payload, secured):
    """Whatever comes, under the key or not, into the middle of it all: no exception, and nobody stops waiting."""
    for member, partner in ((KEYED.hub, PPMID), (KEYED.ppmid, HUB)):
        endpoint = 0 if profile == ZDO_PROFILE else 1
        message = ApsMessage(SHORTS[partner], profile, cluster, endpoint, endpoint, payload, secured=secured)
        member.receive(message, KEYED.now)
        member.messages_to_send()
        assert member.next_deadline() is not None


def test_the_hub_reads_the_suites_of_a_device():
    """KeyEstablishmentSuite, without a key: the answer is the read's, not the key establishment's."""
    hub, ppmid = Hub(hub_config(), random.Random(1)), Ppmid(ppmid_config(), random.Random(2))
    hub.device_joined(PPMID, SHORTS[PPMID])
    hub.read_attribute(SHORTS[PPMID], KEY_ESTABLISHMENT_CLUSTER, 0x0000, 1.0)
    (question,) = hub.messages_to_send()
    ppmid.receive(question._replace(peer=0), 1.0)
    (answer,) = ppmid.messages_to_send()
    (read,) = hub.receive(answer._replace(peer=SHORTS[PPMID]), 1.0)
    assert (read.attribute, read.value) == (0x0000, 0x0002)
