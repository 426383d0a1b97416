"""Messages between emulated nodes: acknowledgements, retries, security, replays, fragments, broadcasts, ZDO."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulation.mac_layer import Mac
from harness.emulation.node import NodeKind, NodeState, SentStatus
from harness.wire.application import ApsMessage
from harness.wire.aps import build_aps, parse_aps
from harness.wire.mac import SHORT, FrameType, MacFrame, parse_mac
from harness.wire.nwk import build_nwk, open_nwk, parse_nwk
from harness.wire.security import AuxHeader, KeyId
from tests.unit.premises import (
    BRIDGE,
    HUB,
    METER,
    NETWORK,
    OTHER,
    PPMID,
    SECOND,
    Premises,
    Witness,
    message,
)


def sent_by(premises, node):
    """What a node put on the air, data frames only, opened to the APS frame; MAC retries counted once."""
    opened = {}
    for _, psdu, *_ in premises.frames:
        frame = parse_mac(psdu)
        if frame.kind == FrameType.DATA and frame.src == node.short:
            nwk = open_nwk(frame.payload, NETWORK.network_key)
            if nwk.kind == 0:
                opened[frame.payload] = parse_aps(nwk.payload)
    return list(opened.values())


class Rogue:
    """A radio that sends what it likes, from any address."""

    def __init__(self, premises, short):
        self.mac = Mac(premises.air, 0xBAD, self)
        self.mac.channel, self.mac.pan_id, self.mac.short = NETWORK.channel, NETWORK.pan_id, short

    def mac_received(self, frame, lqi, rssi):
        pass

    def mac_association_requested(self, eui64, capability):
        return 2, 0xFFFF

    def mac_polled(self, src, extended):
        pass


@pytest.mark.parametrize("secured", [True, False])
@pytest.mark.parametrize("kind", [NodeKind.ROUTER, NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE])
def test_messages_go_both_ways(kind, secured):
    """Payload, endpoints, profile, cluster and security arrive as they were sent; both senders learn of it."""
    premises = Premises()
    device = premises.member(PPMID, kind)
    premises.hub.send(message(device.short, b"down", secured=secured), tag=1)
    device.send(message(0, b"up", secured=secured), tag=2)
    premises.run(10)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    assert premises.told[PPMID].sent == [(2, SentStatus.DELIVERED)]
    (up,) = premises.told[HUB].messages
    (down,) = premises.told[PPMID].messages
    assert (up.payload, up.peer, up.secured) == (b"up", device.short, secured)
    assert (down.payload, down.peer, down.secured) == (b"down", 0, secured)
    assert (down.profile, down.cluster, down.source_endpoint, down.destination_endpoint) == (
        0x0109,
        0x0702,
        1,
        1,
    )


def test_an_acknowledgement_is_as_secure_as_its_message():
    """The APS acknowledgement of a secured message is secured under the link key, that of another is not."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.frames.clear()
    device.send(message(0, secured=True))
    premises.run(1)
    device.send(message(0, secured=False))
    premises.run(1)
    acks = [frame for frame in sent_by(premises, premises.hub) if frame.kind == 2]
    assert [frame.aux is not None for frame in acks] == [True, False]
    assert acks[0].aux.key_id == KeyId.LINK


def test_a_secured_message_needs_a_link_key():
    """Without a key with its partner a message to be secured is not sent."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.forget_link_key(PPMID)
    premises.frames.clear()
    premises.hub.send(message(device.short), tag=1)
    premises.run(1)
    assert premises.told[HUB].sent == [(1, SentStatus.NO_KEY)]
    assert sent_by(premises, premises.hub) == []


def test_a_message_under_another_key_is_not_taken():
    """When the partners' link keys differ the message does not open: counted, not delivered, not acknowledged."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.set_link_key(PPMID, bytes(16))
    premises.hub.send(message(device.short), tag=1)
    premises.run(10)
    assert premises.told[HUB].sent == [(1, SentStatus.NOT_ACKNOWLEDGED)]
    assert premises.told[PPMID].messages == []
    failures = device.counters
    assert failures.aps_decryption_failures + failures.aps_counter_failures == 4


def test_a_message_is_tried_four_times():
    """apscMaxFrameRetries is 3, 1.6 s apart, each with frame counters of its own and the same APS counter."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.power_off()
    premises.frames.clear()
    start = premises.air.now
    counter = premises.hub.send(message(device.short), tag=1)
    premises.run(6.3)
    assert premises.told[HUB].sent == []
    premises.run(0.2)
    assert premises.told[HUB].sent == [(1, SentStatus.NOT_ACKNOWLEDGED)]
    frames = sent_by(premises, premises.hub)
    assert [frame.counter for frame in frames] == [counter] * 4
    assert len({frame.aux.frame_counter for frame in frames}) == 4
    data = [time for time, psdu, *_ in premises.frames if parse_mac(psdu).dst == device.short]
    firsts = [time for index, time in enumerate(data) if index % 4 == 0]  # four MAC attempts each
    assert len(data) == 16
    assert [round((time - start) / SECOND, 1) for time in firsts] == [0.0, 1.6, 3.2, 4.8]
    assert premises.hub.counters.aps_tx_unicast_failed == 1
    assert premises.hub.counters.aps_tx_unicast_retry == 3


def test_a_message_without_acknowledgement_is_sent_once():
    """Its result is the MAC's."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.send(message(device.short, acknowledged=False), tag=1)
    premises.run(1)
    device.power_off()
    premises.hub.send(message(device.short, acknowledged=False), tag=2)
    premises.run(1)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED), (2, SentStatus.NOT_ACKNOWLEDGED)]
    assert len(premises.told[PPMID].messages) == 1


def test_lost_frames_are_made_up_for():
    """On an air that loses every fifth frame all messages arrive, once each."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.air.set_link(HUB, PPMID, loss=0.2)
    for number in range(50):
        device.send(message(0, bytes([number])), tag=number)
        premises.run(7)
    assert [each.payload[0] for each in premises.told[HUB].messages] == list(range(50))
    assert premises.told[PPMID].sent == [(number, SentStatus.DELIVERED) for number in range(50)]


def test_a_repeated_message_is_delivered_once():
    """When its acknowledgement is lost a message comes again: acknowledged again, not delivered again."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.air.drop(4, where=lambda psdu, sender: sender == HUB and len(psdu) > 5)  # all MAC attempts
    device.send(message(0), tag=1)
    premises.run(5)
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]
    assert len(premises.told[HUB].messages) == 1
    assert device.counters.aps_tx_unicast_retry == 1


def test_equal_messages_are_two_messages():
    """A new APS counter makes a message new, and a new content does under a counter that came round."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    for number in range(300):
        device.send(message(0, b"same" if number < 2 else bytes([number & 0xFF, number >> 8])))
        premises.run(0.05)
    assert len(premises.told[HUB].messages) == 300


def test_a_sleepy_device_gets_its_message_when_it_polls():
    """The message waits in its parent's queue until the next poll."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE, poll_interval_us=5 * SECOND)
    premises.run(20)
    start = premises.air.now
    premises.hub.send(message(device.short), tag=1)
    premises.run(5)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    polls = [time for time, psdu, *_ in premises.frames if time > start and parse_mac(psdu).kind == 3]
    data = [
        time for time, psdu, *_ in premises.frames if time > start and parse_mac(psdu).dst == device.short
    ]
    assert polls[0] < data[0] < polls[0] + 10_000


def test_a_message_that_waited_too_long_is_sent_again():
    """The indirect queue drops after 7.68 s; the retries of a message to a sleepy device reckon with that."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE, poll_interval_us=12 * SECOND)
    premises.run(12)
    device.poll()
    premises.run(0.5)
    premises.hub.send(message(device.short), tag=1)
    premises.run(14)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    assert premises.hub.mac.counters.indirect_expired == 1


def test_a_sleepy_device_polls_by_hand():
    """With the interval off nothing is fetched until poll is called; done says what came of it."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    premises.run(5)
    device.set_poll_interval(None)
    premises.hub.send(message(device.short), tag=1)
    premises.run(5)
    assert premises.told[HUB].sent == []
    outcomes = []
    device.poll(outcomes.append)
    premises.run(1)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    assert [status.name for status in outcomes] == ["SUCCESS"]


def test_a_replayed_network_frame_is_refused():
    """A frame recorded on the air and sent again has an old frame counter: counted and dropped."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.frames.clear()
    device.send(message(0))
    premises.run(1)
    recorded = next(
        parse_mac(psdu).payload for _, psdu, *_ in premises.frames if parse_mac(psdu).src == device.short
    )
    Rogue(premises, device.short).mac.send(recorded, 0)
    premises.run(1)
    assert premises.hub.counters.nwk_counter_failures == 1
    assert len(premises.told[HUB].messages) == 1


def test_a_replayed_secured_message_is_refused():
    """A holder of the network key alone cannot repeat a message under a link key, whatever its APS counter."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.frames.clear()
    device.send(message(0))
    premises.run(1)
    recorded = next(
        parse_mac(psdu).payload for _, psdu, *_ in premises.frames if parse_mac(psdu).src == device.short
    )
    nwk = open_nwk(recorded, NETWORK.network_key)
    aux = AuxHeader(KeyId.NETWORK, device.nwk_counter + 100, PPMID, 0)
    again = build_nwk(nwk._replace(aux=aux, sequence=99), NETWORK.network_key)
    Rogue(premises, device.short).mac.send(again, 0)
    premises.run(1)
    assert premises.hub.counters.aps_counter_failures == 1
    assert len(premises.told[HUB].messages) == 1


def test_a_frame_under_another_network_key_is_refused():
    """What does not open is counted and dropped, and leaves the frame counter where it was."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    nwk = parse_nwk(build_nwk(premises.hub.nwk.data_frame(0, b"\x00\x01\x02\x07\x09\x01\x01\x00")))
    aux = AuxHeader(KeyId.NETWORK, 0xFFFFFFF0, PPMID, 0)
    forged = build_nwk(nwk._replace(src=device.short, aux=aux), bytes(16))
    Rogue(premises, device.short).mac.send(forged, 0)
    premises.run(1)
    assert premises.hub.counters.nwk_decryption_failures == 1
    device.send(message(0), tag=1)
    premises.run(1)
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]


def test_an_unsecured_message_to_a_member_is_refused():
    """Without network security only the frames of a join are taken."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    aps = build_aps(parse_aps(b"\x00\x01\x02\x07\x09\x01\x01\x00hello"))
    frame = premises.hub.nwk.data_frame(0, aps)._replace(src=device.short)
    Rogue(premises, device.short).mac.send(build_nwk(frame), 0)
    premises.run(1)
    assert premises.told[HUB].messages == []


@settings(max_examples=150)
@given(
    payload=st.binary(max_size=100),
    secure=st.sampled_from(["no", "network", "command", "sealed command", "sealed"]),
    kind=st.sampled_from([0, 1]),
)
def test_hostile_bytes_raise_nothing(payload, secure, kind):
    """Any octets, clear or under the network key, as NWK command or APS frame, are dropped or obeyed, never raised."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    if secure != "no":
        counter = AuxHeader(KeyId.NETWORK, device.nwk_counter + 50, PPMID, 0)
        heads = {
            "command": b"\x01\x55",
            "sealed command": b"\x21\x55",
            "sealed": b"\x60\x01\x02\x07\x09\x01\x01\x07",
        }
        payload = heads.get(secure, b"") + payload
        frame = device.nwk.data_frame(0, payload)._replace(kind=kind, aux=counter)
        payload = build_nwk(frame, NETWORK.network_key)
    mac = MacFrame(FrameType.DATA, 0, payload, SHORT, NETWORK.pan_id, 0, SHORT, NETWORK.pan_id, device.short)
    premises.hub.mac_received(mac, 255, -50.0)
    premises.run(2)
    assert premises.hub.state == NodeState.JOINED


def test_what_a_listener_raises_surfaces():
    """An exception of the application is not swallowed on the way."""

    class Broken(Witness):
        def message_received(self, message, aps_counter, lqi, rssi):
            raise ZeroDivisionError

    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.listener = Broken()
    device.send(message(0))
    with pytest.raises(ZeroDivisionError):
        premises.run(1)


def test_a_message_to_oneself_comes_back():
    """Loop-back: delivered and received, with nothing on the air; ZDO answers its own node, too."""
    premises = Premises()
    premises.frames.clear()
    premises.hub.send(message(0, b"me"), tag=1)
    premises.hub.send(ApsMessage(0, 0, 0x0005, 0, 0, b"\x07\x00\x00"), tag=2)
    premises.air.advance(premises.air.now + 10)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED), (2, SentStatus.DELIVERED)]
    assert [each.payload for each in premises.told[HUB].messages] == [b"me"]
    assert premises.told[HUB].of("zdo") == [(0x8005, b"\x07\x00\x00\x00\x01\x01")]
    assert premises.frames == []


def test_a_message_for_no_endpoint_goes_unacknowledged():
    """Only registered endpoints take messages; with deliver_all the application gets them all."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.send(message(0, destination_endpoint=9), tag=1)
    premises.run(8)
    assert premises.told[PPMID].sent == [(1, SentStatus.NOT_ACKNOWLEDGED)]
    everything = Premises(deliver_all=True)
    device = everything.member(PPMID, NodeKind.END_DEVICE)
    device.send(message(0, destination_endpoint=9), tag=1)
    everything.run(1)
    assert everything.told[PPMID].sent == [(1, SentStatus.DELIVERED)]


@pytest.mark.parametrize(
    ("address", "reached"),
    [(0xFFFF, [METER, PPMID, BRIDGE, OTHER]), (0xFFFD, [PPMID, BRIDGE, OTHER]), (0xFFFC, [BRIDGE])],
)
def test_a_broadcast_reaches_whom_it_is_for(address, reached):
    """All, all with their receiver on, or the routers; behind a router as well; each once."""
    premises = Premises()
    premises.deaf(HUB, OTHER)
    premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    premises.member(PPMID, NodeKind.END_DEVICE)
    premises.member(BRIDGE, NodeKind.ROUTER).permit_joining(255)
    premises.member(OTHER, NodeKind.END_DEVICE, wait=10)
    premises.hub.send(message(address, secured=False, acknowledged=False, broadcast=True), tag=1)
    premises.run(15)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED)]
    assert premises.unread() == dict.fromkeys(reached, 1)
    assert all(witness.messages[0].broadcast for eui64, witness in premises.told.items() if eui64 in reached)


def test_an_end_device_broadcasts_by_its_parent():
    """Its parent passes the broadcast on to everybody else."""
    premises = Premises()
    sleepy = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    premises.member(PPMID, NodeKind.END_DEVICE)
    sleepy.send(message(0xFFFF, secured=False, acknowledged=False, broadcast=True), tag=1)
    premises.run(2)
    assert premises.unread() == {HUB: 1, PPMID: 1}


def test_a_group_message_reaches_its_members():
    """Delivery by group, wherever a node is a member of it."""
    premises = Premises()
    premises.member(PPMID, NodeKind.END_DEVICE).groups.append(0x1234)
    premises.member(OTHER, NodeKind.END_DEVICE)
    premises.hub.send(message(0xFFFD, secured=False, acknowledged=False, group=0x1234), tag=1)
    premises.run(2)
    assert premises.unread() == {PPMID: 1}
    assert premises.told[PPMID].messages[0].group == 0x1234


def test_a_message_to_many_cannot_be_secured():
    """A link key has one partner."""
    premises = Premises()
    premises.hub.send(message(0xFFFD, broadcast=True), tag=1)
    premises.run(1)
    assert premises.told[HUB].sent == [(1, SentStatus.NO_KEY)]


def test_no_more_messages_wait_than_the_node_holds():
    """BUSY is the answer when the table of waiting messages is full."""
    premises = Premises(max_pending=2)
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    for tag in range(3):
        premises.hub.send(message(device.short), tag=tag)
    premises.run(2)
    assert premises.told[HUB].sent == [
        (2, SentStatus.BUSY),
        (0, SentStatus.DELIVERED),
        (1, SentStatus.DELIVERED),
    ]


def test_a_node_without_network_sends_nothing():
    """NOT_JOINED, before it joined and for what waited when it left."""
    premises = Premises()
    stranger = premises.node(OTHER, NodeKind.END_DEVICE)
    stranger.send(message(0), tag=1)
    premises.run(1)
    assert premises.told[OTHER].sent == [(1, SentStatus.NOT_JOINED)]
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.power_off()
    device.send(message(0), tag=2)
    device.leave(quietly=True)
    assert premises.told[PPMID].sent == [(2, SentStatus.NOT_JOINED)]


def test_a_node_without_power_tells_nobody_anything():
    """What waited when the power went is gone without a word."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.send(message(0), tag=1)
    device.power_off()
    premises.run(20)
    assert premises.told[PPMID].sent == []
    assert device.state == NodeState.NO_NETWORK
