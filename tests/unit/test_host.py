"""A behaviour on an emulated node: power, joining, messages, deadlines, restarts, events."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from harness.emulation.host import MemberNode
from harness.emulation.node import NodeConfig, NodeKind, NodeState
from harness.errors import LocalProtocolError
from harness.wire.application import SMART_ENERGY_PROFILE, Restart, SimpleDescriptor
from tests.unit.premises import CHANNEL, CLUSTER, HUB, NETWORK, OTHER, PPMID, Premises, link_key, message


@dataclass(frozen=True)
class Ticked:
    number: int


class Clockwork:
    """A behaviour that sends a message every ten seconds, echoes what it gets, and restarts when told to."""

    def __init__(self):
        self.up = None
        self.outbox = []
        self.due = None
        self.ticks = 0
        self.cuts = 0
        self.calls = []

    @property
    def descriptors(self):
        return [SimpleDescriptor(1, SMART_ENERGY_PROFILE, 0x0502, 0, (0,), (CLUSTER,))]

    def network_up(self, short, now):
        self.up = short
        self.due = now + 10.0
        self.calls.append(("up", now))
        return []

    def network_down(self, now):
        self.up = None
        self.calls.append(("down", now))
        return []

    def receive(self, received, now):
        if received.payload == b"restart":
            return [Restart(30.0)]
        if received.payload == b"break":
            raise ZeroDivisionError
        if received.profile == SMART_ENERGY_PROFILE:
            self.outbox.append(message(received.peer, b"echo " + received.payload))
        return []

    def messages_to_send(self):
        outbox, self.outbox = self.outbox, []
        return outbox

    def next_deadline(self):
        return self.due

    def on_deadline(self, now):
        assert self.due is not None
        assert now >= self.due
        self.due += 10.0
        self.ticks += 1
        self.outbox.append(message(0, b"tick"))
        return [Ticked(self.ticks)]

    def power_cut(self):
        self.cuts += 1
        self.ticks = 0
        self.due = None
        self.outbox = []


class Bench(Premises):
    """A premises with one member."""

    def __init__(self, kind=NodeKind.END_DEVICE, key=None, known=True, **settings):
        super().__init__()
        self.events = []
        self.clockwork = Clockwork()
        if known:
            self.hub.set_link_key(PPMID, link_key(PPMID))
        self.member = MemberNode(
            self.air,
            self.clockwork,
            eui64=PPMID,
            kind=kind,
            link_key=key or link_key(PPMID),
            channels=[CHANNEL],
            config=NodeConfig(manufacturer_code=0x121D),
            on_event=lambda now, event: self.events.append((now, event)),
            **settings,
        )


@pytest.mark.parametrize("kind", [NodeKind.ROUTER, NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE])
def test_a_member_joins_and_works(kind):
    """Switched on it joins, answers messages, acts at its deadlines; its events come with their times."""
    bench = Bench(kind)
    assert not bench.member.joined
    bench.member.power_on()
    bench.run(5)
    assert bench.member.joined
    assert bench.clockwork.up == bench.member.node.short
    bench.hub.send(message(bench.member.node.short, b"hello"), tag=1)
    bench.run(25)
    assert [each.payload for each in bench.told[HUB].messages if each.payload != b"tick"] == [b"echo hello"]
    start = bench.clockwork.calls[0][1]
    assert [event for _, event in bench.events] == [Ticked(1), Ticked(2)]
    assert [now for now, _ in bench.events] == pytest.approx([start + 10.0, start + 20.0], abs=1e-5)
    assert [each.payload for each in bench.told[HUB].messages].count(b"tick") == 2


def test_a_member_without_power_does_nothing():
    """Before power_on it is not on the air."""
    bench = Bench()
    bench.run(30)
    assert bench.member.node.state == NodeState.NO_NETWORK
    assert bench.clockwork.calls == []


def test_a_member_tries_again_to_join():
    """After a failure it waits, and joins when the hub knows it; the reason of the failure is there meanwhile."""
    bench = Bench(known=False, join_retry=20.0)
    bench.member.power_on()
    bench.run(15)
    assert bench.member.last_join_failure == "not authenticated within 10 s: no Transport-Key came"
    bench.hub.set_link_key(PPMID, link_key(PPMID))
    bench.run(25)
    assert bench.member.joined
    assert bench.member.last_join_failure is None


def test_a_member_with_a_wrong_install_code_never_joins():
    """However often it tries."""
    bench = Bench(key=link_key(OTHER))
    bench.member.power_on()
    bench.run(300)
    assert not bench.member.joined
    assert "the link key does not open the Transport-Key" in bench.member.last_join_failure
    assert bench.clockwork.calls == []


def test_a_member_comes_back_after_a_power_cut():
    """Its behaviour loses what is not stored, the node goes on as the member that it was."""
    bench = Bench()
    bench.member.power_on()
    bench.run(25)
    short = bench.member.node.short
    bench.member.power_cut()
    assert bench.clockwork.cuts == 1
    bench.run(60)
    assert not bench.member.joined
    bench.member.power_on()
    bench.run(5)
    assert bench.member.joined
    assert bench.member.node.short == short
    assert len(bench.told[HUB].of("joined")) == 2
    bench.run(20)
    assert bench.clockwork.ticks > 0


def test_power_twice_is_power_once():
    """Switching on what is on, and off what is off, changes nothing."""
    bench = Bench()
    bench.member.power_on()
    bench.run(5)
    short = bench.member.node.short
    bench.member.power_on()
    bench.run(1)
    assert bench.member.node.short == short
    bench.member.power_off()
    bench.member.power_off()
    bench.run(5)
    assert bench.clockwork.cuts == 0


def test_a_restart_is_obeyed():
    """For the seconds asked for it is dark; then it is back, with what storage holds."""
    bench = Bench()
    bench.member.power_on()
    bench.run(5)
    bench.hub.send(message(bench.member.node.short, b"restart"), tag=1)
    bench.run(1)
    assert not bench.member.node.powered
    assert bench.events[-1][1] == Restart(30.0)
    assert bench.clockwork.cuts == 1
    bench.run(28)
    assert not bench.member.node.powered
    bench.run(5)
    assert bench.member.joined


def test_power_given_during_a_restart_ends_it():
    """The switch has the last word."""
    bench = Bench()
    bench.member.power_on()
    bench.run(5)
    bench.hub.send(message(bench.member.node.short, b"restart"))
    bench.run(2)
    bench.member.power_on()
    bench.run(5)
    assert bench.member.joined
    bench.member.power_cut()
    bench.run(60)
    assert not bench.member.node.powered


def test_a_member_told_to_leave_stays_away():
    """Removed by the trust centre it is on no network until it is switched off and on again."""
    bench = Bench()
    bench.member.power_on()
    bench.run(5)
    bench.hub.remove_device(PPMID)
    bench.run(100)
    assert not bench.member.joined
    assert [call[0] for call in bench.clockwork.calls] == ["up", "down"]
    bench.member.power_cut()
    bench.member.power_on()
    bench.run(5)
    assert bench.member.joined


def test_what_a_behaviour_raises_surfaces():
    """An exception in a member comes out of the air, in the test that caused it."""
    bench = Bench()
    bench.member.power_on()
    bench.run(5)
    bench.hub.send(message(bench.member.node.short, b"break"))
    with pytest.raises(ZeroDivisionError):
        bench.run(1)


def test_a_coordinator_forms_its_network():
    """A member that is a hub forms at its first power and goes on with the network after that."""
    premises = Premises()
    premises.hub.power_off()
    clockwork = Clockwork()
    hub = MemberNode(premises.air, clockwork, eui64=OTHER, kind=NodeKind.COORDINATOR, network=NETWORK)
    hub.power_on()
    assert hub.joined
    hub.power_cut()
    hub.power_on()
    assert hub.node.network == NETWORK
    assert [call[0] for call in clockwork.calls] == ["up", "up"]


def test_a_member_needs_a_way_into_a_network():
    """A device without a link key, or a coordinator without a network, is a LocalProtocolError."""
    premises = Premises()
    with pytest.raises(LocalProtocolError, match="link key"):
        MemberNode(premises.air, Clockwork(), eui64=PPMID, kind=NodeKind.END_DEVICE)
    with pytest.raises(LocalProtocolError, match="coordinator"):
        MemberNode(premises.air, Clockwork(), eui64=PPMID, kind=NodeKind.COORDINATOR, link_key=bytes(16))
