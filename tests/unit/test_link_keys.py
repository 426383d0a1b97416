"""Link keys on both carriers: established, kept over power cuts and resets, restored, told to nobody."""

from __future__ import annotations

import asyncio

import pytest

from harness.emulation.host import MemberNode, SecurityFailed
from harness.emulation.ncp import NcpConfig
from harness.emulation.ncp_config import KEY_TABLE_SIZE
from harness.emulation.node import NodeKind
from harness.errors import LocalProtocolError
from harness.radio.coordinator import LinkKeyNotStored, RadioRestarted
from harness.wire.application import LinkKeyEstablished, LinkKeyRestored
from harness.wire.mac import format_eui64
from tests.unit.carried import HUB, INSTALL_KEY, NETWORK, NEW_KEY, OTHER, PPMID, Han, Toy, han, message
from tests.unit.premises import CHANNEL, Premises

PINNED = (8, 13, 14, 19)


class Pair:
    """A hub and a device, both on nodes."""

    def __init__(self) -> None:
        premises = Premises()
        premises.hub.power_off()
        self.air = premises.air
        self.run = premises.run
        self.told: list[object] = []
        self.hub, self.device = Toy(), Toy()
        self.hub_node = MemberNode(
            self.air,
            self.hub,
            eui64=HUB,
            kind=NodeKind.COORDINATOR,
            network=NETWORK,
            on_event=lambda now, event: self.told.append(event),
        )
        self.keys: list[tuple[bytes, str]] = []
        self.hub_node.node.on_key = lambda key, label: self.keys.append((key, label))
        self.member = MemberNode(
            self.air,
            self.device,
            eui64=PPMID,
            kind=NodeKind.ROUTER,
            link_key=INSTALL_KEY,
            channels=[CHANNEL],
        )
        self.hub_node.power_on()
        self.hub_node.node.set_link_key(PPMID, INSTALL_KEY)
        self.hub_node.node.permit_joining(60)
        self.member.power_on()
        self.run(6)
        assert self.member.joined

    def exchange(self, payload: bytes) -> tuple[list[bytes], list[bytes]]:
        """What the device gets of the hub, and the hub of the device."""
        self.hub.outbox.append(message(self.member.node.short, payload))
        self.hub_node._follow([])
        self.device.outbox.append(message(0, payload))
        self.member._follow([])
        self.run(10)
        return self.device.take(), self.hub.take()

    def establish(self, key: bytes = NEW_KEY) -> None:
        self.hub_node._follow([LinkKeyEstablished(PPMID, key)])
        self.member._follow([LinkKeyEstablished(HUB, key)])


def test_an_established_key_takes_the_place_of_the_one_before() -> None:
    """Both ends talk under it from then on; the capture's key file hears of it, the events' text does not show it."""
    pair = Pair()
    assert pair.exchange(b"before") == ([b"before"], [b"before"])
    pair.establish()
    assert pair.exchange(b"after") == ([b"after"], [b"after"])
    assert (NEW_KEY, f"link key {format_eui64(PPMID)}") in pair.keys
    assert pair.hub_node.node.link_keys[PPMID].key == NEW_KEY
    assert NEW_KEY.hex() not in repr(pair.told)
    assert repr(NEW_KEY) not in repr(pair.told)


def test_the_key_before_is_refused_and_that_is_an_event() -> None:
    """A device that goes on under its pre-configured key is not heard; the hub's carrier says whose message it was."""
    pair = Pair()
    pair.hub_node._follow([LinkKeyEstablished(PPMID, NEW_KEY)])
    pair.device.outbox.append(message(0, b"old"))
    pair.member._follow([])
    pair.run(10)
    assert pair.hub.take() == []
    failed = [event for event in pair.told if isinstance(event, SecurityFailed)]
    assert failed[0] == SecurityFailed(pair.member.node.short, "not under the link key with its sender")


def test_a_message_of_a_stranger_and_a_replay_are_events_too() -> None:
    """A secured message of a sender without a link key here, and a frame counter used before, are each told."""
    pair = Pair()
    short = pair.member.node.short
    pair.exchange(b"one")
    pair.member.node.link_keys[HUB].outgoing_counter = 0
    pair.device.outbox.append(message(0, b"two"))
    pair.member._follow([])
    pair.run(0.5)
    replay = pair.told[-1]
    assert isinstance(replay, SecurityFailed)
    assert (replay.peer, "used before" in replay.reason) == (short, True)
    pair.hub_node.node.forget_link_key(PPMID)
    pair.run(10)
    pair.device.outbox.append(message(0, b"three"))
    pair.member._follow([])
    pair.run(0.5)
    assert pair.told[-1] == SecurityFailed(short, "no link key with its sender")


def test_an_established_key_outlives_power_cuts_of_both_ends() -> None:
    """After a power cut each end goes on under the new key, with frame counters that were never used."""
    pair = Pair()
    pair.establish()
    pair.exchange(b"one")
    for node in (pair.member, pair.hub_node):
        node.power_cut()
        pair.run(5)
        node.power_on()
        pair.run(20)
    assert pair.exchange(b"two") == ([b"two"], [b"two"])


def test_a_restored_key_serves_again() -> None:
    """LinkKeyRestored puts the key before the last back on both ends; there is no third one to go back to."""
    pair = Pair()
    pair.exchange(b"before")
    pair.establish()
    pair.exchange(b"after")
    pair.hub_node._follow([LinkKeyRestored(PPMID)])
    pair.member._follow([LinkKeyRestored(HUB)])
    assert pair.exchange(b"restored") == ([b"restored"], [b"restored"])
    assert pair.hub_node.node.link_keys[PPMID].key == INSTALL_KEY
    with pytest.raises(LocalProtocolError, match=format_eui64(PPMID)):
        pair.hub_node._follow([LinkKeyRestored(PPMID)])


def test_a_key_established_where_there_was_none_goes_when_the_one_before_comes_back() -> None:
    """None is what was before: the partner's messages are then refused."""
    pair = Pair()
    pair.hub_node.node.forget_link_key(PPMID)
    pair.hub_node._follow([LinkKeyEstablished(PPMID, NEW_KEY), LinkKeyRestored(PPMID)])
    assert PPMID not in pair.hub_node.node.link_keys


def test_a_trust_centre_on_a_node_hears_who_left() -> None:
    """The behaviour of a coordinator is told when a device says that it leaves."""
    pair = Pair()
    pair.member.node.leave()
    pair.run(2)
    assert pair.hub.gone == [PPMID]


# --- over an NCP ------------------------------------------------------------------------------------------------------


async def exchange(bench: Han, payload: bytes) -> tuple[list[bytes], list[bytes]]:
    """What the device gets of the hub, and the hub of the device."""
    bench.down(payload)
    bench.up(payload)
    await asyncio.sleep(10)
    return bench.device.take(), bench.hub.take()


async def reset(bench: Han) -> None:
    """Brown out the NCP, and wait until the carrier has it again."""
    before = len(bench.of(RadioRestarted))
    bench.ncp.reset()
    for _ in range(60):
        await asyncio.sleep(1)
        if len(bench.of(RadioRestarted)) > before:
            return
    raise AssertionError(bench.events)


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_key_is_imported_into_the_ncp_and_stays(version: int) -> None:
    """Messages go both ways under the new key at once, after 10 minutes, and after an NCP reset; then it is undone."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        assert await exchange(bench, b"before") == ([b"before"], [b"before"])
        bench.member._follow([LinkKeyEstablished(HUB, NEW_KEY)])
        # What the behaviour sends with the new key in force waits until the NCP has it.
        bench.hub.outbox.append(message(bench.member.node.short, b"at once"))
        bench.carrier.run([LinkKeyEstablished(PPMID, NEW_KEY)])
        await asyncio.sleep(5)
        assert bench.device.take() == [b"at once"]
        assert bench.ncp.node.link_keys[PPMID].key == NEW_KEY
        await asyncio.sleep(600)
        assert await exchange(bench, b"later") == ([b"later"], [b"later"])
        await reset(bench)
        assert await exchange(bench, b"after reset") == ([b"after reset"], [b"after reset"])
        bench.carrier.run([LinkKeyRestored(PPMID)])
        bench.member._follow([LinkKeyRestored(HUB)])
        assert await exchange(bench, b"restored") == ([b"restored"], [b"restored"])
        label = f"link key of {format_eui64(PPMID)}"
        assert list(dict.fromkeys(bench.keys)) == [(INSTALL_KEY, label), (NEW_KEY, label)]
        assert bench.of(LinkKeyNotStored) == []


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_the_key_of_the_install_code_serves_for_longer_than_a_join(version: int) -> None:
    """Without a key establishment, secured messages go on after the 300 s of a transient key and an NCP reset."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        await asyncio.sleep(600)
        assert await exchange(bench, b"later") == ([b"later"], [b"later"])
        await reset(bench)
        assert await exchange(bench, b"after reset") == ([b"after reset"], [b"after reset"])


@pytest.mark.virtual_time
async def test_a_reset_between_permit_and_join_does_not_lose_the_key() -> None:
    """The NCP is given the joiner's key again: permitted once more, the device joins."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        await bench.permit()
        await reset(bench)
        assert PPMID in bench.ncp.node.link_keys
        await bench.join()
        assert await exchange(bench, b"in") == ([b"in"], [b"in"])


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_device_joins_anew_after_its_key_was_agreed(version: int) -> None:
    """A device that lost its memory is permitted again: the agreed key is forgotten, its install code's serves."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        bench.member._follow([LinkKeyEstablished(HUB, NEW_KEY)])
        bench.carrier.run([LinkKeyEstablished(PPMID, NEW_KEY)])
        await asyncio.sleep(2)
        bench.member.node.leave()
        await asyncio.sleep(2)
        assert bench.hub.gone == [PPMID]
        bench.member.power_cut()
        await bench.join()
        assert await exchange(bench, b"anew") == ([b"anew"], [b"anew"])


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_full_key_table_is_told(version: int) -> None:
    """The event says whose key the NCP has no room for, and why; the one before goes on."""
    config = NcpConfig(configuration={KEY_TABLE_SIZE: 4})  # bellows asks for 4 at least
    async with han(asyncio.get_running_loop(), version, config) as bench:
        for index in range(5):
            bench.carrier.run([LinkKeyEstablished(OTHER + index, NEW_KEY)])
        await asyncio.sleep(1)
        assert bench.of(LinkKeyNotStored) == [LinkKeyNotStored(OTHER + 4, "the key table is full")]


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_key_that_a_reset_kept_from_the_ncp_is_written_after_it(version: int) -> None:
    """The NCP resets while the key is on its way: when it is back it gets the key, and messages go on under it."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        bench.member._follow([LinkKeyEstablished(HUB, NEW_KEY)])
        bench.carrier.run([LinkKeyEstablished(PPMID, NEW_KEY)])
        await reset(bench)
        assert bench.ncp.node.link_keys[PPMID].key == NEW_KEY
        assert await exchange(bench, b"after") == ([b"after"], [b"after"])


@pytest.mark.virtual_time
async def test_a_key_without_one_before_cannot_be_undone() -> None:
    """The coordinator knows no key from before its start: an event says so."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        bench.carrier.run([LinkKeyRestored(PPMID)])
        await asyncio.sleep(1)
        assert bench.of(LinkKeyNotStored) == [LinkKeyNotStored(PPMID, "the key before it is not known here")]
