"""A device played over an NCP and its network: held over, left, refused, lost, and switched off in the middle."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from harness.clock import VirtualLoop
from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.ncp import EmulatedNcp
from harness.emulation.node import NodeKind, NodeState
from harness.errors import LocalProtocolError, RigError
from harness.radio.coordinator import Coordinator
from harness.radio.emulated import plug_in
from harness.radio.joiner import Joiner
from harness.radio.membership import NetworkDown, NetworkUp
from harness.radio.runner import DeliveryFailed, RadioLost, RadioRestarted
from harness.wire.application import ApsMessage, LinkKeyEstablished, LinkKeyRestored, Restart
from harness.wire.cbke_values import KeyEstablished
from tests.unit.carried import NEW_KEY, Toy, message
from tests.unit.joined_han import DEVICES, HUB, NETWORK, VERSIONS, JoinedHan, Member, joined_han, link_key


class Told(Toy):
    """A toy that also keeps when its network came and went, and breaks on demand."""

    def __init__(self) -> None:
        super().__init__()
        self.network: list[object] = []

    def network_up(self, short: int, now: float) -> list[object]:
        self.network.append(short)
        return []

    def network_down(self, now: float) -> list[object]:
        self.network.append("down")
        return []

    def receive(self, received: ApsMessage, now: float) -> list[object]:
        if received.payload == b"break":
            raise ZeroDivisionError("broken")
        return super().receive(received, now)

    def power_cut(self) -> None:
        super().power_cut()
        self.network.append("cut")


class FromHub:
    """What a toy device gets of the hub's node and the other way round."""

    def __init__(self, han: JoinedHan, member: Member) -> None:
        self.han, self.member = han, member
        self.got: list[bytes] = []
        hub = han.hub
        receive = hub.receive

        def heard(received: ApsMessage, now: float) -> list[object]:
            if received.secured:
                self.got.append(received.payload)
            return receive(received, now)

        hub.receive = heard  # type: ignore[method-assign]

    async def exchange(self, payload: bytes) -> tuple[list[bytes], list[bytes]]:
        """Send the payload both ways, and return what arrived at the device and at the hub."""
        assert self.member.joiner.short is not None
        self.han.node.node.send(message(self.member.joiner.short, payload))
        self.member.behaviour.outbox.append(message(0, payload))
        self.member.joiner.run([])
        await asyncio.sleep(12.0)
        got, self.got = self.got, []
        # The hub may answer what makes no sense to it.
        return [each for each in self.member.behaviour.take() if each == payload], [
            each for each in got if each == payload
        ]


async def joined_toy(han: JoinedHan, **settings: object) -> tuple[Member, Told]:
    """A toy on the network."""
    told = Told()
    member = han.add(behaviour=told, **settings)  # type: ignore[arg-type]
    await member.joiner.start()
    await member.joiner.power_on()
    await han.until(lambda: member.joiner.joined, 30.0)
    return member, told


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("kind", [NodeKind.ROUTER, NodeKind.SLEEPY_END_DEVICE])
async def test_another_run_goes_on_with_the_network_and_the_key_that_the_stick_holds(
    version: int, kind: NodeKind
) -> None:
    """The hub is closed by then: the device is on the HAN without joining, under its address and its key of CBKE."""
    async with joined_han() as han:
        member = han.add(version=version, kind=kind)
        await han.join(member)
        short = member.joiner.short
        await member.joiner.stop()
        han.node.node.permit_joining(0)
        await asyncio.sleep(10.0)
        member.events.clear()
        member.behaviour.power_cut()
        member.joiner = member.new_joiner()
        await member.joiner.start()
        await member.joiner.power_on()
        await han.until(lambda: member.joiner.joined, 10.0)
        assert member.joiner.short == short
        await asyncio.sleep(60.0)
        assert member.of(KeyEstablished) == []
        assert han.hub.read_attribute(short or 0, 0x0019, 0x0002, han.air.now / 1e6) >= 0
        han.node.run([])
        await asyncio.sleep(30.0)
        assert type(han.told[-1]).__name__ == "AttributeRead"


@pytest.mark.virtual_time
async def test_a_stick_that_holds_another_network_leaves_it_and_joins() -> None:
    """One that has formed a network of its own, as its coordinator, does not go on with that."""
    async with joined_han() as han:
        member = han.add(extended_pan_id=NETWORK.extended_pan_id)
        other = replace(NETWORK, extended_pan_id=0x55, pan_id=0x5555, channel=20)
        formed = Coordinator(member.url, Toy(), other, on_event=lambda now, event: None)
        await formed.start()
        await formed.stop()
        await member.joiner.start()
        await member.joiner.power_on()
        await han.until(lambda: member.keyed, 60.0)
        assert member.ncp.node.network is not None
        assert member.ncp.node.network.extended_pan_id == NETWORK.extended_pan_id
        assert member.ncp.node.kind == NodeKind.ROUTER


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", [NodeKind.ROUTER, NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE])
async def test_a_stick_that_holds_a_network_that_is_gone_joins_the_one_wanted(kind: NodeKind) -> None:
    """An end device of it does not look for a parent there for ever; its hub is dark by then."""
    async with joined_han() as han:
        foreign = MemberNode(
            han.air,
            Toy(),
            eui64=HUB + 1,
            kind=NodeKind.COORDINATOR,
            network=replace(NETWORK, extended_pan_id=0x55, pan_id=0x5555),
            on_event=lambda now, event: None,
        )
        foreign.power_on()
        foreign.node.set_link_key(DEVICES[0], link_key(DEVICES[0]))
        foreign.node.permit_joining(255)
        member, told = await joined_toy(han, kind=kind, extended_pan_id=0x55)
        await member.joiner.stop()
        foreign.power_off()
        member.joiner = Joiner(
            member.url,
            told,
            link_key=link_key(member.eui64),
            kind=kind,
            extended_pan_id=NETWORK.extended_pan_id,
            channels=[15],
            on_event=lambda now, event: None,
        )
        await member.joiner.start()
        await member.joiner.power_on()
        await han.until(lambda: member.joiner.joined, 120.0)
        assert member.ncp.node.network is not None
        assert member.ncp.node.network.extended_pan_id == NETWORK.extended_pan_id


@pytest.mark.virtual_time
async def test_why_a_rejoin_fails_is_said_until_one_does_not() -> None:
    """Whoever waits for a device that lost its parent reads why it is not back; each coming and going is an event."""
    async with joined_han() as han:
        member, _ = await joined_toy(han, kind=NodeKind.SLEEPY_END_DEVICE)
        first = member.joiner.short
        assert member.of(NetworkUp, NetworkDown) == [NetworkUp(first)]
        assert member.joiner.last_join_failure is None
        han.node.power_off()
        await asyncio.sleep(60.0)
        assert member.joiner.last_join_failure == "its network does not let it rejoin: no parent answered"
        assert member.of(NetworkUp, NetworkDown) == [NetworkUp(first), NetworkDown()]
        han.node.power_on()
        await han.until(lambda: member.joiner.joined, 600.0)
        assert member.joiner.last_join_failure is None
        await member.joiner.power_cut()
        second = member.of(NetworkUp)[1]
        assert member.of(NetworkUp, NetworkDown) == [NetworkUp(first), NetworkDown(), second, NetworkDown()]


@pytest.mark.virtual_time
async def test_a_stick_that_is_another_kind_of_node_joins_anew() -> None:
    """A router of yesterday that is a sleepy device today leaves and joins as one, under its install code."""
    async with joined_han() as han:
        first, told = await joined_toy(han)
        await first.joiner.stop()
        sleepy = Joiner(
            first.url,
            told,
            link_key=link_key(first.eui64),
            kind=NodeKind.SLEEPY_END_DEVICE,
            channels=[15],
            on_event=lambda now, event: None,
        )
        first.joiner = sleepy
        await sleepy.start()
        await sleepy.power_on()
        await han.until(lambda: sleepy.joined, 60.0)
        assert first.ncp.node.kind == NodeKind.SLEEPY_END_DEVICE


@pytest.mark.virtual_time
async def test_a_device_that_the_hub_removes_stays_away_until_it_is_switched_on_again() -> None:
    """Its behaviour is told; with power anew it joins anew."""
    async with joined_han() as han:
        member, told = await joined_toy(han)
        first = member.joiner.short
        han.node.node.remove_device(member.eui64)
        await asyncio.sleep(200.0)
        assert not member.joiner.joined
        assert told.network == [first, "down"]
        await member.joiner.power_cut()
        await member.joiner.power_on()
        await han.until(lambda: member.joiner.joined, 30.0)
        assert told.network == [first, "down", "cut", member.joiner.short]


@pytest.mark.virtual_time
async def test_a_restart_is_obeyed_and_power_given_meanwhile_ends_it() -> None:
    """Dark for the seconds asked for, after its last words; the switch has the last word, in both directions."""
    async with joined_han() as han:
        member, told = await joined_toy(han)
        talk = FromHub(han, member)
        short = member.joiner.short
        told.outbox.append(message(0, b"last words"))
        member.joiner.run([Restart(30.0)])
        await asyncio.sleep(1.0)
        assert talk.got == [b"last words"]
        assert (member.joiner.joined, told.network) == (False, [short, "cut"])
        await asyncio.sleep(29.0)
        assert not member.joiner.joined
        await asyncio.sleep(2.0)
        assert told.network == [short, "cut", short]
        member.joiner.run([Restart(30.0)])
        await asyncio.sleep(1.0)
        await member.joiner.power_on()
        await asyncio.sleep(2.0)
        assert member.joiner.joined
        member.joiner.run([Restart(30.0)])
        await asyncio.sleep(1.0)
        await member.joiner.power_cut()
        await asyncio.sleep(100.0)
        assert not member.joiner.joined


@pytest.mark.virtual_time
async def test_power_on_and_off_in_any_rhythm_ends_in_the_state_last_asked_for() -> None:
    """At whatever moment of a join or a resumption the power goes, the device is on the HAN once it stays."""
    async with joined_han() as han:
        member, _ = await joined_toy(han)
        for step in range(40):
            await member.joiner.power_cut()
            await member.joiner.power_on()
            await asyncio.sleep(0.0007 * step)
        await han.until(lambda: member.joiner.joined, 5.0)
        await member.joiner.power_on()
        for step in range(40):
            off = asyncio.ensure_future(member.joiner.power_cut())
            await asyncio.sleep(0.0003 * step)
            await member.joiner.power_on()
            await off
        await han.until(lambda: member.joiner.joined, 5.0)
        await member.joiner.power_cut()
        await asyncio.sleep(60.0)
        assert not member.joiner.joined
        assert member.of(RadioLost) == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", VERSIONS)
async def test_link_keys_are_established_and_restored(version: int) -> None:
    """Both ends talk under the key of the moment; after a restoration that is the pre-configured one again."""
    async with joined_han() as han:
        member, _ = await joined_toy(han, version=version)
        talk = FromHub(han, member)
        assert await talk.exchange(b"one") == ([b"one"], [b"one"])
        han.node.node.set_link_key(member.eui64, NEW_KEY)
        member.joiner.run([LinkKeyEstablished(HUB, NEW_KEY)])
        assert await talk.exchange(b"two") == ([b"two"], [b"two"])
        await member.joiner.power_cut()
        await member.joiner.power_on()
        await han.until(lambda: member.joiner.joined, 10.0)
        assert await talk.exchange(b"three") == ([b"three"], [b"three"])
        han.node.node.set_link_key(member.eui64, link_key(member.eui64))
        member.joiner.run([LinkKeyRestored(HUB)])
        assert await talk.exchange(b"four") == ([b"four"], [b"four"])
        assert member.keys == [link_key(member.eui64), NEW_KEY, link_key(member.eui64)]


@pytest.mark.virtual_time
async def test_a_key_established_while_the_radio_is_lost_is_stored_when_it_is_back() -> None:
    """No secured message goes out under the old one."""
    async with joined_han() as han:
        member, _ = await joined_toy(han)
        talk = FromHub(han, member)
        member.joiner.run([LinkKeyEstablished(HUB, NEW_KEY)])
        await asyncio.sleep(0.0)
        member.ncp.reset()
        await han.until(lambda: member.of(RadioRestarted) != [], 60.0)
        han.node.node.set_link_key(member.eui64, NEW_KEY)
        assert await talk.exchange(b"one") == ([b"one"], [b"one"])
        assert member.ncp.node.link_keys[HUB].key == NEW_KEY


@pytest.mark.virtual_time
async def test_a_sleepy_toy_hears_its_hub_at_its_polls_and_at_once_while_it_is_awake() -> None:
    """A message waits for the next poll, 5 s apart; the one after that comes within the fast polls."""
    async with joined_han() as han:
        member, told = await joined_toy(han, kind=NodeKind.SLEEPY_END_DEVICE, poll_seconds=5.0)
        await asyncio.sleep(20.3)
        short = member.joiner.short or 0
        waited = []
        for payload in (b"asleep", b"awake"):
            before = han.air.now
            han.node.node.send(message(short, payload))
            await han.until(lambda: told.received != [], 6.0)
            waited.append((han.air.now - before) / 1e6)
            assert told.take() == [payload]
        assert waited[0] > 0.5
        assert waited[1] < 0.6


@pytest.mark.virtual_time
async def test_what_comes_before_the_behaviour_knows_its_network_waits_for_that() -> None:
    """On a slow line a message overtakes the answer to getNodeId: the behaviour gets it after network_up."""
    async with joined_han() as han:
        told = Told()
        member = han.add(behaviour=told, baud=2400)
        await member.joiner.start()
        await member.joiner.power_on()
        await han.until(lambda: member.ncp.node.state == NodeState.JOINED, 10.0, step=0.001)
        han.node.node.send(message(member.ncp.node.short, b"early"))
        seen: list[bool] = []
        receive = told.receive
        told.receive = lambda *what: seen.append(member.joiner.joined) or receive(*what)  # type: ignore[func-returns-value,method-assign]
        assert not member.joiner.joined
        await asyncio.sleep(10.0)
        assert told.network == [member.joiner.short]
        assert told.take() == [b"early"]
        assert seen == [True]


@pytest.mark.virtual_time
async def test_what_a_behaviour_raises_is_an_event() -> None:
    """As in every task of a carrier: nobody's log swallows it, and the device goes on."""
    async with joined_han() as han:
        member, _ = await joined_toy(han)
        han.node.node.send(message(member.joiner.short or 0, b"break"))
        await asyncio.sleep(1.0)
        _, (_, error) = member.events  # behind NetworkUp
        assert isinstance(error, ZeroDivisionError)
        member.events.clear()
        assert await FromHub(han, member).exchange(b"one") == ([b"one"], [b"one"])


@pytest.mark.virtual_time
async def test_a_message_that_does_not_arrive_is_reported() -> None:
    """DeliveryFailed names it; the behaviour itself goes by the answers that it does not get."""
    async with joined_han() as han:
        member, told = await joined_toy(han)
        han.node.power_off()
        lost = message(0, b"lost")
        told.outbox.append(lost)
        member.joiner.run([])
        await asyncio.sleep(60.0)
        assert [event.message for event in member.of(DeliveryFailed)] == [lost]


@pytest.mark.virtual_time
async def test_where_no_ncp_answers_is_a_rig_error() -> None:
    """At the start, and in the end of all attempts to restart one, which the next power begins anew."""
    async with joined_han() as han:
        nowhere = Joiner(
            "emulated://nowhere",
            Toy(),
            link_key=bytes(16),
            kind=NodeKind.ROUTER,
            on_event=lambda now, event: None,
        )
        with pytest.raises(RigError, match="emulated://nowhere"):
            await nowhere.start()
        with pytest.raises(RigError, match="not running"):
            _ = nowhere.ezsp
        member, told = await joined_toy(han)
        member.ncp.reset()
        port = han.loop.serial_ports.pop(member.url.removeprefix("emulated://"))
        await asyncio.sleep(100.0)
        assert isinstance(member.events[-1][1], RigError)
        assert told.network[-1] == "down"
        member.events.clear()
        await member.joiner.power_cut()
        han.loop.serial_ports[member.url.removeprefix("emulated://")] = port
        await member.joiner.power_on()
        await han.until(lambda: member.joiner.joined, 10.0)


@pytest.mark.virtual_time
async def test_a_joiner_is_no_coordinator() -> None:
    """A coordinator forms its network."""
    with pytest.raises(LocalProtocolError, match="coordinator"):
        Joiner(
            "emulated://x",
            Toy(),
            link_key=bytes(16),
            kind=NodeKind.COORDINATOR,
            on_event=lambda now, event: None,
        )


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", [8, 14])
async def test_two_joiners_without_a_hub_in_reach_wait_for_one(version: int) -> None:
    """A silent channel is no failure of the bench: the reason says that nothing was heard."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    air = Air(seed=1)
    loop.attach(air)
    joiners = []
    for eui64 in DEVICES[:2]:
        plug_in(loop, f"emulated://{eui64}", EmulatedNcp(air, eui64, ezsp_version=version), air)
        joiner = Joiner(
            f"emulated://{eui64}",
            Toy(),
            link_key=bytes(16),
            kind=NodeKind.ROUTER,
            on_event=lambda now, event: None,
        )
        joiners.append(joiner)
        await joiner.start()
        await joiner.power_on()
    await asyncio.sleep(50.0)
    for joiner in joiners:
        assert "(0 networks heard)" in (joiner.last_join_failure or "")
        await joiner.stop()
    loop.detach(air)
