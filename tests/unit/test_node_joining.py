"""Joining an emulated network: install codes, parents, policy, rejoin, leave, time-outs, power."""

from __future__ import annotations

import pytest

from harness.emulation.node import Network, NodeKind, NodeState, SentStatus
from harness.errors import LocalProtocolError
from harness.evidence.capture import PcapWriter
from harness.wire.mac import EXTENDED, parse_mac
from tests.unit.premises import (
    BRIDGE,
    CHANNEL,
    HUB,
    METER,
    NETWORK,
    OTHER,
    PPMID,
    Premises,
    link_key,
    message,
)

DEVICES = [NodeKind.ROUTER, NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE]


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_with_its_install_code_joins(kind):
    """Scan, association, Transport-Key under the install code's key-transport key, Device_annce; told to the hub."""
    premises = Premises()
    device = premises.member(PPMID, kind)
    hub = premises.told[HUB]
    assert hub.of("joined") == [(PPMID, device.short, 0, 1)]
    assert [event[0] for event in hub.of("zdo")] == [0x0013]
    assert hub.of("child") == ([] if kind == NodeKind.ROUTER else [(PPMID, device.short, kind)])
    assert premises.told[PPMID].seen[0] == ("up",)
    assert device.network == NETWORK
    assert (device.parent_short, device.parent_eui64, device.trust_center) == (0, HUB, HUB)
    assert premises.hub.lookup_short(PPMID) == device.short
    assert premises.hub.lookup_eui64(device.short) == PPMID


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_with_another_install_code_does_not_join(kind):
    """A Transport-Key that its own key does not open leaves it outside, with the reason; the hub forgets it."""
    premises = Premises()
    device, ended = premises.join(PPMID, kind, key=link_key(OTHER), wait=15.0)
    assert ended == [
        (False, "not authenticated within 10 s: the link key does not open the Transport-Key that came")
    ]
    assert device.state == NodeState.NO_NETWORK
    assert device.network is None
    assert not premises.hub.children
    assert premises.hub.lookup_short(PPMID) is None
    assert [event[3] for event in premises.told[HUB].of("joined")] == [1, 2]
    assert premises.told[PPMID].of("up") == []


def test_a_device_that_the_hub_does_not_know_is_ignored():
    """With install codes only, a joiner without a link key of its own gets no Transport-Key."""
    premises = Premises()
    device, ended = premises.join(PPMID, NodeKind.END_DEVICE, known=False, wait=15.0)
    assert ended == [(False, "not authenticated within 10 s: no Transport-Key came")]
    assert [event[0] for event in premises.told[HUB].of("denied")] == [PPMID]
    assert premises.told[HUB].of("joined") == []
    assert device.state == NodeState.NO_NETWORK


def test_a_global_link_key_serves_where_the_policy_lets_it():
    """Without install_code_only the default link key authenticates a joiner that has none of its own."""
    premises = Premises()
    premises.hub.policy.install_code_only = False
    premises.hub.default_link_key = b"ZigBeeAlliance09"
    _, ended = premises.join(PPMID, NodeKind.END_DEVICE, key=b"ZigBeeAlliance09", known=False)
    assert ended == [(True, "")]


def test_a_transient_key_serves_only_in_its_time():
    """A link key with a lifetime is gone when that is over."""
    premises = Premises()
    premises.hub.set_link_key(PPMID, link_key(PPMID), provisional=True, seconds=300)
    premises.run(301)
    _, ended = premises.join(PPMID, NodeKind.END_DEVICE, known=False, wait=15.0)
    assert ended[0][0] is False
    assert premises.hub.link_keys == {}


def test_a_closed_network_is_not_joined():
    """Without permission to join the beacons say so, and the device gives the reason."""
    premises = Premises()
    premises.hub.permit_joining(0)
    _, ended = premises.join(PPMID, NodeKind.END_DEVICE)
    assert ended == [(False, "no network is open on channels [11] (1 beacons heard)")]


def test_a_permission_to_join_ends_by_itself():
    """permit_joining(30) lets no device in after 30 s."""
    premises = Premises()
    premises.hub.permit_joining(30)
    premises.run(31)
    assert not premises.hub.permits_joining
    _, ended = premises.join(PPMID, NodeKind.END_DEVICE)
    assert not ended[0][0]


def test_a_device_picks_the_network_that_it_was_told():
    """With an extended PAN ID given, another open network is no candidate."""
    premises = Premises()
    other = premises.node(OTHER, NodeKind.COORDINATOR)
    other.form(Network(CHANNEL, 0x2222, 0x77, bytes(16)))
    other.permit_joining(255)
    device = premises.node(PPMID, NodeKind.END_DEVICE)
    premises.hub.set_link_key(PPMID, link_key(PPMID))
    device.join(link_key=link_key(PPMID), channels=[CHANNEL], extended_pan_id=NETWORK.extended_pan_id)
    premises.run(5)
    assert device.network == NETWORK


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_joins_through_a_router(kind):
    """Out of the hub's reach: Update-Device to the hub, the Transport-Key in a Tunnel; messages go two hops."""
    premises = Premises()
    premises.deaf(HUB, PPMID)
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    bridge.permit_joining(255)
    device = premises.member(PPMID, kind, wait=10.0)
    assert premises.told[HUB].of("joined")[-1] == (PPMID, device.short, bridge.short, 1)
    premises.run(20)
    assert (device.parent_short, device.parent_eui64) == (bridge.short, BRIDGE)
    device.send(message(0, b"up"), tag=1)
    premises.hub.send(message(device.short, b"down"), tag=2)
    premises.run(10)
    assert [each.payload for each in premises.told[HUB].messages] == [b"up"]
    assert [each.payload for each in premises.told[PPMID].messages] == [b"down"]
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]
    assert premises.told[HUB].sent == [(2, SentStatus.DELIVERED)]


def test_a_router_repeats_the_network_key_at_every_join():
    """The fifth join through one router has as many attempts at its Transport-Key as the first."""
    premises = Premises()
    router = premises.member(BRIDGE, NodeKind.ROUTER)
    premises.hub.permit_joining(0)
    router.permit_joining(255)
    premises.hub.set_link_key(PPMID, link_key(PPMID))
    device = premises.node(PPMID, NodeKind.END_DEVICE)
    for lost in (0, 0, 0, 0, 12):
        ended = []
        device.join(link_key=link_key(PPMID), channels=[CHANNEL], done=lambda *end, to=ended: to.append(end))
        # The Transport-Key is the only long frame of the router that is not for the hub.
        drop = premises.air.drop(
            lost, where=lambda psdu, sender: sender == BRIDGE and len(psdu) > 60 and psdu[5:7] != b"\0\0"
        )
        premises.run(8)
        assert drop.remaining == 0
        assert ended == [(True, "")]
        device.power_off()
        device.power_on(resume=False)
        device.forget_network()


def test_a_wrong_key_through_a_router_is_forgotten_there_too():
    """The router tells the trust centre that the device left when it did not prove itself."""
    premises = Premises()
    premises.deaf(HUB, PPMID)
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    bridge.permit_joining(255)
    _, ended = premises.join(PPMID, NodeKind.END_DEVICE, key=link_key(OTHER), wait=15.0)
    assert not ended[0][0]
    assert not bridge.children
    assert [event[3] for event in premises.told[HUB].of("joined") if event[0] == PPMID] == [1, 2]


@pytest.mark.parametrize("lost", range(1, 14))
def test_a_join_survives_the_loss_of_any_one_frame(lost):
    """Whichever frame of a join is lost, the device is a member within two attempts."""
    premises = Premises()
    device = premises.node(PPMID, NodeKind.END_DEVICE)
    premises.hub.set_link_key(PPMID, link_key(PPMID))
    count = 0

    def nth(psdu, transmitter):
        nonlocal count
        count += 1
        return count == lost

    premises.air.drop(1, where=nth)
    ended = []

    def again(ok, reason):
        ended.append(ok)
        if not ok:
            device.join(link_key=link_key(PPMID), channels=[CHANNEL], done=again)

    device.join(link_key=link_key(PPMID), channels=[CHANNEL], done=again)
    premises.run(30)
    assert ended[-1] is True
    assert len(ended) <= 2


@pytest.mark.parametrize("at_us", range(0, 1_200_000, 61_003))
def test_a_power_cut_while_joining_does_not_hinder_the_next_attempt(at_us):
    """Wherever a join is cut off, the device joins when it tries again."""
    premises = Premises()
    device = premises.node(PPMID, NodeKind.SLEEPY_END_DEVICE)
    premises.hub.set_link_key(PPMID, link_key(PPMID))
    device.join(link_key=link_key(PPMID), channels=[CHANNEL])
    premises.air.advance(at_us)
    device.power_off()
    premises.run(1)
    device.power_on()
    if device.network is None:
        device.join(link_key=link_key(PPMID), channels=[CHANNEL])
    premises.run(25)
    assert device.state == NodeState.JOINED
    assert list(premises.hub.children) == [PPMID]


def test_keys_do_not_show():
    """No repr of a node, network, link key or message of an error holds a key."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    text = repr((device, device.network, device.link_keys, premises.hub.link_keys, premises.hub.policy))
    for key in (NETWORK.network_key, link_key(PPMID)):
        assert key.hex() not in text
        assert repr(key) not in text


def test_every_key_in_use_is_told():
    """on_key gets the network key and the link keys: what the capture's key file needs."""
    premises = Premises()
    keys = []
    device = premises.node(PPMID, NodeKind.END_DEVICE)
    device.on_key = lambda key, label: keys.append((key, label))
    premises.hub.set_link_key(PPMID, link_key(PPMID))
    device.join(link_key=link_key(PPMID), channels=[CHANNEL])
    premises.run(5)
    assert [key for key, _ in keys] == [link_key(PPMID), NETWORK.network_key]


def test_a_device_may_ask_for_a_link_key_of_its_own():
    """Request-Key, Transport-Key under the key-load key, Verify-Key, Confirm-Key: both ends hold the new key."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.policy.allow_link_key_requests = True
    device.request_link_key()
    premises.run(3)
    assert premises.told[PPMID].of("key") == [(HUB, 0)]
    assert premises.told[HUB].of("key") == [(PPMID, 0)]
    new = device.link_keys[HUB].key
    assert new != link_key(PPMID)
    assert premises.hub.link_keys[PPMID].key == new
    device.send(message(0), tag=1)
    premises.run(2)
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]


def test_a_device_may_be_set_up_to_ask_for_a_link_key():
    """With request_link_key it asks by itself, once it has joined."""
    premises = Premises()
    premises.hub.policy.allow_link_key_requests = True
    device = premises.member(PPMID, NodeKind.END_DEVICE, request_link_key=True)
    assert device.link_keys[HUB].verified
    assert device.link_keys[HUB].key != link_key(PPMID)


def test_two_devices_get_a_link_key_with_each_other():
    """Request-Key with a partner: the trust centre sends the same new key to both, and they use it."""
    premises = Premises()
    premises.hub.policy.allow_link_key_requests = True
    meter = premises.member(METER, NodeKind.END_DEVICE)
    ppmid = premises.member(PPMID, NodeKind.END_DEVICE)
    ppmid.request_link_key(METER)
    premises.run(3)
    assert meter.link_keys[PPMID].key == ppmid.link_keys[METER].key
    ppmid.learn_address(meter.short, METER)
    meter.learn_address(ppmid.short, PPMID)
    ppmid.send(message(meter.short), tag=1)
    premises.run(2)
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]


def test_a_network_key_in_clear_is_not_taken():
    """A trust centre that sends the network key without APS security gets no member of ours."""
    premises = Premises()
    premises.hub.policy.send_key_in_clear = True
    _, ended = premises.join(PPMID, NodeKind.END_DEVICE, wait=15)
    assert ended[0][0] is False


def test_a_link_key_that_comes_back_keeps_its_counters_rising():
    """A key that was forgotten and entered again does not use a frame counter twice."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.send(message(device.short), tag=1)
    premises.run(1)
    premises.hub.forget_link_key(PPMID)
    premises.hub.set_link_key(PPMID, link_key(PPMID))
    premises.hub.send(message(device.short), tag=2)
    premises.run(1)
    assert premises.told[HUB].sent == [(1, SentStatus.DELIVERED), (2, SentStatus.DELIVERED)]
    assert device.counters.aps_counter_failures == 0


def test_a_request_for_a_link_key_goes_unanswered_by_default():
    """GB devices agree on their key by CBKE: the policy does not give any."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.request_link_key()
    premises.run(3)
    assert device.link_keys[HUB].key == link_key(PPMID)


def test_the_table_of_children_is_limited():
    """With room for one child the beacon says so after the first, and the second finds no parent."""
    premises = Premises(max_children=1)
    premises.member(METER, NodeKind.END_DEVICE)
    _, ended = premises.join(PPMID, NodeKind.END_DEVICE)
    assert not ended[0][0]


def test_two_nodes_with_one_address_are_separated():
    """Device_annce with an address in use: the conflict is reported, and the router that has it takes another."""
    premises = Premises()
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    other = premises.member(OTHER, NodeKind.ROUTER)
    short = bridge.short
    other.short = other.mac.short = short
    other.joining.announce()
    premises.run(5)
    assert (short,) in premises.told[HUB].of("conflict")
    assert bridge.short != other.short


def test_a_node_refuses_what_its_state_does_not_allow():
    """Joining twice, forming as a device, resuming without a network, acting without power: LocalProtocolError."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    fresh = premises.node(OTHER, NodeKind.END_DEVICE)
    with pytest.raises(LocalProtocolError, match="JOINED"):
        device.join(link_key=link_key(PPMID))
    with pytest.raises(LocalProtocolError, match="no coordinator"):
        fresh.form(NETWORK)
    with pytest.raises(LocalProtocolError, match="no network"):
        fresh.resume()
    with pytest.raises(LocalProtocolError, match="no network"):
        fresh.rejoin()
    with pytest.raises(LocalProtocolError, match="16 octets"):
        fresh.join(link_key=b"short")
    fresh.power_off()
    with pytest.raises(LocalProtocolError, match="no power"):
        fresh.join(link_key=link_key(OTHER))


def test_a_whole_join_is_read_by_tshark(tmp_path, check_capture):
    """With only the install-code keys tshark decrypts every frame of joins, messages and a rejoin, over two hops."""
    premises = Premises()
    premises.deaf(HUB, METER)
    premises.run(1)
    premises.frames.clear()  # the hub's first link status: nobody but members can know its key
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    bridge.permit_joining(255)
    meter = premises.member(METER, NodeKind.SLEEPY_END_DEVICE, wait=10)
    ppmid = premises.member(PPMID, NodeKind.END_DEVICE)
    for device in (meter, ppmid):
        device.send(message(0, b"\x00\x01\x00" + bytes(200)))  # ZCL Read Attributes
        premises.hub.send(message(device.short, b"\x00\x02\x00\x00\x00"))
    premises.run(30)
    ppmid.rejoin()
    premises.run(5)
    premises.hub.policy.allow_link_key_requests = True
    ppmid.request_link_key()
    premises.run(2)
    premises.hub.remove_device(METER)
    premises.run(20)
    capture = tmp_path / "join.pcap"
    with PcapWriter(capture) as pcap:
        for frame in premises.frames:
            pcap.frame(*frame)
    keys = {f"{eui64:016x}": link_key(eui64) for eui64 in (BRIDGE, METER, PPMID)}
    seen = check_capture(capture, keys)
    assert seen.count() == len(premises.frames)
    assert seen.count("zbee_aps.cmd.id == 0x05") >= 3  # Transport-Key
    assert seen.count("zbee_aps.cmd.id == 0x0e") == 1  # Tunnel
    assert seen.count("zbee_zdp.ext_addr && zbee_aps.zdp_cluster == 0x0013") >= 3
    assert seen.count("zbee_nwk.cmd.id == 0x07") == 1  # Rejoin Response
    assert len(premises.told[HUB].messages) == 2


def test_the_same_seed_gives_the_same_bytes():
    """Two premises with one seed put the same octets on the air at the same microseconds; another seed does not."""

    def story(seed):
        premises = Premises(seed)
        premises.deaf(HUB, METER)
        bridge = premises.member(BRIDGE, NodeKind.ROUTER)
        bridge.permit_joining(255)
        meter = premises.member(METER, NodeKind.SLEEPY_END_DEVICE, wait=10)
        premises.hub.send(message(meter.short, bytes(150)))
        premises.run(60)
        return premises.frames

    assert story(4) == story(4)
    assert story(4) != story(5)


def test_the_association_goes_by_eui64():
    """The association response is addressed to the EUI-64 of the device (IEEE 802.15.4-2006 7.3.2)."""
    premises = Premises()
    premises.member(PPMID, NodeKind.END_DEVICE)
    frames = [parse_mac(psdu) for _, psdu, *_ in premises.frames]
    (response,) = [frame for frame in frames if frame.kind == 3 and frame.payload[0] == 2]
    assert (response.dst_mode, response.dst) == (EXTENDED, PPMID)
