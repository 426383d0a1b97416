"""Staying a member of an emulated network: rejoin, leave, time-outs, power cuts, storage."""

from __future__ import annotations

from json import dumps, loads

import pytest

from harness.emulation.node import NodeKind, NodeState, SentStatus
from harness.errors import LocalProtocolError
from harness.wire.mac import FrameType, parse_mac
from harness.wire.nwk import parse_nwk
from tests.unit.premises import (
    BRIDGE,
    CHANNEL,
    HUB,
    METER,
    NETWORK,
    OTHER,
    PPMID,
    SECOND,
    Premises,
    link_key,
    message,
)

DEVICES = [NodeKind.ROUTER, NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE]


def test_a_sleepy_child_whose_parent_went_dark_rejoins_when_it_is_back():
    """Failed polls make it give the parent up; it looks for the network, ever less often, until it finds it again."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    short = device.short
    premises.hub.power_off()
    premises.run(120)
    assert device.state != NodeState.JOINED
    assert premises.told[METER].of("down") == [("parent lost: 3 frames in a row without acknowledgement",)]
    premises.hub.power_on()
    premises.run(200)
    assert device.state == NodeState.JOINED
    assert device.short == short
    assert premises.told[HUB].of("joined")[-1] == (METER, short, 0, 0)
    premises.hub.send(message(device.short), tag=5)
    premises.run(20)
    assert premises.told[HUB].sent == [(5, SentStatus.DELIVERED)]


def test_a_device_moves_to_another_parent():
    """A rejoin finds the router when the hub is out of reach; the hub then reaches the device by it."""
    premises = Premises()
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    assert device.parent_short == 0
    premises.deaf(HUB, METER)
    premises.run(60)
    assert device.state == NodeState.JOINED
    assert device.parent_short == bridge.short
    assert METER not in premises.hub.children
    premises.hub.send(message(device.short), tag=5)
    premises.run(40)
    assert premises.told[HUB].sent == [(5, SentStatus.DELIVERED)]


def test_a_parent_that_missed_the_move_of_its_child_learns_of_it_by_its_messages():
    """Device_annce and Update-Device lost: a message of the child by another hop tells the old parent the same."""
    premises = Premises()
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    stale = premises.hub.children[METER]
    premises.deaf(HUB, METER)
    premises.run(60)
    premises.hub.add_child(stale)
    device.send(message(0), tag=1)
    premises.run(10)
    assert device.parent_short == bridge.short
    assert premises.told[METER].sent == [(1, SentStatus.DELIVERED)]
    assert METER not in premises.hub.children


def test_a_rejoin_without_the_network_key_gets_it_anew():
    """Trust centre rejoin: an unsecured request, then Transport-Key under the link key; status 3 for the hub."""
    premises = Premises()
    device = premises.member(METER, NodeKind.END_DEVICE)
    ended = []
    device.rejoin(secured=False, done=lambda *end: ended.append(end))
    premises.run(5)
    assert ended == [(True, "")]
    assert premises.told[HUB].of("joined")[-1] == (METER, device.short, 0, 3)
    device.send(message(0), tag=1)
    premises.run(2)
    assert premises.told[METER].sent == [(1, SentStatus.DELIVERED)]


def test_a_rejoin_without_the_network_key_may_be_refused():
    """With allow_rejoins off the trust centre sends no key."""
    premises = Premises()
    premises.hub.policy.allow_rejoins = False
    device = premises.member(METER, NodeKind.END_DEVICE, auto_rejoin=False)
    ended = []
    device.rejoin(secured=False, done=lambda *end: ended.append(end))
    premises.run(15)
    assert ended == [(False, "not authenticated within 10 s: no Transport-Key came")]
    assert device.state == NodeState.JOINED_NO_PARENT


def test_a_silent_child_is_given_up_after_its_time_out():
    """End Device Timeout Request: 10 s here; a child that stays silent longer is forgotten, one that polls is not."""
    premises = Premises()
    silent = premises.member(METER, NodeKind.SLEEPY_END_DEVICE, end_device_timeout=0)
    polling = premises.member(PPMID, NodeKind.SLEEPY_END_DEVICE, end_device_timeout=0)
    assert premises.hub.children[METER].timeout_s == 10
    silent.power_off()
    premises.run(60)
    assert premises.told[HUB].of("child left") == [(METER, silent.short)]
    assert list(premises.hub.children) == [PPMID]
    assert polling.state == NodeState.JOINED


def test_a_child_that_its_parent_forgot_is_told_to_rejoin():
    """A poll from a stranger is answered by a leave with rejoin; the device is a child again soon after."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    premises.hub.remove_child(METER)
    premises.run(40)
    assert METER in premises.hub.children
    assert device.state == NodeState.JOINED
    assert premises.told[METER].of("down") == [("told to leave by 0x0000",)]


def test_a_stranger_that_hears_nothing_does_not_fill_its_parents_queue():
    """It is told to rejoin by one frame at a time, however often it polls: there is room for what waits for others."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    premises.hub.remove_child(METER)
    told = premises.air.drop(
        10_000, where=lambda psdu, sender: sender == HUB and psdu[0] & 7 == FrameType.DATA
    )
    device.set_poll_interval(100_000)
    premises.run(6)
    assert told.remaining < 10_000 - 30
    assert premises.hub.mac.indirect.held == 1
    assert premises.hub.mac.counters.indirect_overflow == 0


def test_a_sleepy_device_polls_no_faster_the_more_parents_it_asks():
    """Three parents that answer no rejoin request, one after the other: four polls a second all the time."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    for eui64 in (BRIDGE, OTHER):
        premises.member(eui64, NodeKind.ROUTER)
    premises.run(40)
    answer = device.short.to_bytes(2, "little")
    premises.air.drop(10_000, where=lambda psdu, sender: sender != METER and psdu[5:7] == answer)
    began = premises.air.now
    device.rejoin(channels=[CHANNEL])
    premises.frames.clear()
    premises.run(8.5)
    polls = [frame[0] for frame in premises.frames if parse_mac(frame[1]).kind == FrameType.COMMAND]
    assert device.state == NodeState.JOINING
    for second in range(1, 8):
        assert 2 <= sum(began + second * SECOND <= at < began + (second + 1) * SECOND for at in polls) <= 4


@pytest.mark.parametrize("kind", DEVICES)
def test_a_device_that_leaves_says_so(kind):
    """The leave command reaches the hub, which forgets the device; the device is on no network."""
    premises = Premises()
    device = premises.member(PPMID, kind)
    short = device.short
    device.leave()
    premises.run(2)
    assert device.state == NodeState.NO_NETWORK
    assert device.network is None
    assert premises.told[PPMID].of("down") == [("left",)]
    assert premises.told[HUB].of("joined")[-1] == (PPMID, short, 0, 2)
    assert PPMID not in premises.hub.children
    assert short not in premises.hub.neighbors


@pytest.mark.parametrize("kind", DEVICES)
def test_the_trust_centre_removes_a_device(kind):
    """remove_device makes its own child or neighbour leave."""
    premises = Premises()
    device = premises.member(PPMID, kind)
    assert premises.hub.remove_device(PPMID)
    premises.run(12)
    assert device.network is None
    assert premises.told[PPMID].of("down") == [("told to leave by 0x0000",)]
    assert not premises.hub.remove_device(OTHER)


def test_the_trust_centre_removes_a_device_behind_a_router():
    """Remove-Device goes to the router that the device joined through, which makes it leave."""
    premises = Premises()
    premises.deaf(HUB, PPMID)
    bridge = premises.member(BRIDGE, NodeKind.ROUTER)
    bridge.permit_joining(255)
    device = premises.member(PPMID, NodeKind.END_DEVICE, wait=10)
    assert premises.hub.remove_device(PPMID)
    premises.run(5)
    assert device.network is None
    assert not bridge.children
    assert premises.told[HUB].of("joined")[-1] == (
        PPMID,
        premises.told[HUB].of("joined")[-2][1],
        bridge.short,
        2,
    )


def test_a_device_that_left_joins_again():
    """Its frame counters go on rising, so that nobody takes it for a replay."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.leave()
    premises.run(2)
    before = device.nwk_counter
    device.join(link_key=link_key(PPMID), channels=[CHANNEL])
    premises.run(5)
    assert device.state == NodeState.JOINED
    assert device.nwk_counter > before


def test_a_device_that_was_reset_to_factory_state_joins_again():
    """One that lost its storage starts its counters at 0: its association makes the hub accept that."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.send(message(0))
    premises.run(1)
    device.leave(quietly=True)
    device.nwk_counter = 0
    device.link_keys.clear()
    device.join(link_key=link_key(PPMID), channels=[CHANNEL])
    premises.run(5)
    device.send(message(0), tag=1)
    premises.run(2)
    assert premises.told[PPMID].sent[-1] == (1, SentStatus.DELIVERED)
    assert len(premises.hub.children) == 1


@pytest.mark.parametrize("kind", DEVICES)
def test_a_power_cut_at_any_moment_leaves_a_member_a_member(kind):
    """Power comes back with network, keys and counters; no counter is used twice."""
    premises = Premises()
    device = premises.member(PPMID, kind)
    for cut in range(8):
        device.send(message(0, bytes([cut])))
        premises.run(0.001 * cut)
        device.power_off()
        premises.run(0.5)
        device.power_on()
        premises.run(20)
        assert device.state == NodeState.JOINED
    device.send(message(0), tag=9)
    premises.run(5)
    assert premises.told[PPMID].sent[-1] == (9, SentStatus.DELIVERED)
    counters = [
        parse_nwk(frame.payload).aux
        for frame in (parse_mac(psdu) for _, psdu, *_ in premises.frames)
        if frame.kind == 1 and parse_nwk(frame.payload).aux is not None
    ]
    used = [aux.frame_counter for aux in counters if aux.source == PPMID]
    # A MAC retransmission repeats its frame: between different frames the counter rises.
    assert used == sorted(used)
    assert premises.hub.counters.nwk_counter_failures == 0


def test_saved_state_is_gone_on_with():
    """restore and resume: network, children, keys, addresses; counters go on above those that were used."""
    premises = Premises()
    device = premises.member(METER, NodeKind.SLEEPY_END_DEVICE)
    device.send(message(0))
    premises.run(2)
    new = premises.hub
    used = new.nwk_counter
    saved = loads(dumps(new.save()))
    new.leave(quietly=True)
    new.nwk_counter = 0
    new.link_keys.clear()
    new.restore(saved)
    new.resume()
    assert new.network == NETWORK
    assert new.nwk_counter >= used
    assert new.children[METER].short == device.short
    new.send(message(device.short), tag=3)
    premises.run(20)
    assert premises.told[HUB].sent == [(3, SentStatus.DELIVERED)]
    counters = dict.fromkeys(("nwk_counter", "aps_counter", "link_keys", "incoming_counters"))
    assert new.save() | counters == saved | counters


@pytest.mark.parametrize("broken", [{}, {"eui64": "00-00-00-00-00-00-00-01"}, {"eui64": 3}, {"network": 4}])
def test_state_that_is_none_is_refused(broken):
    """Anything but saved state of this EUI-64 is a LocalProtocolError without a key in it."""
    premises = Premises()
    saved = premises.hub.save()
    premises.hub.leave(quietly=True)
    premises.run(1)
    with pytest.raises(LocalProtocolError) as raised:
        premises.hub.restore(saved | broken if broken else {})
    assert NETWORK.network_key.hex() not in str(raised.value)


@pytest.mark.parametrize("kind", [NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE])
@pytest.mark.parametrize("secured", [True, False])
def test_a_device_whose_address_was_taken_rejoins_under_another(kind, secured):
    """The parent gives a new short address when the old one is somebody else's."""
    premises = Premises()
    device = premises.member(METER, kind)
    old = device.short
    premises.hub.remove_child(METER)
    premises.hub.forget_address(old)
    premises.hub.learn_address(old, OTHER)
    ended = []
    device.rejoin(secured=secured, done=lambda *end: ended.append(end))
    premises.run(8)
    assert ended == [(True, "")]
    assert device.short != old
    device.send(message(0), tag=1)
    premises.run(2)
    assert premises.told[METER].sent == [(1, SentStatus.DELIVERED)]
