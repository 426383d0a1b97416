"""Who may join the HAN of a hub that is played over an NCP, and how long: as the hub's Device Log asks for it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from harness.emulation.host import MemberNode
from harness.emulation.ncp import NcpConfig
from harness.radio.coordinator import RadioRestarted
from harness.wire.application import JoinEnded, JoinPermitted, LinkKeyForgotten
from harness.wire.ezsp import VERSIONS
from tests.unit.carried import INSTALL_KEY, OTHER, PPMID, Han, Toy, han

PINNED = sorted({8, 13, 14, VERSIONS[-1]})
ZDO_PERMIT = 0x0036


async def ask(bench: Han, *events: object) -> None:
    """Have the hub ask its carrier for something about joining."""
    bench.carrier.run(list(events))
    await bench.carrier.settled()


def is_open(bench: Han) -> bool:
    """Whether the hub's own NCP lets devices associate now: what its beacons say."""
    return bench.ncp.node.permits_joining


async def joins(member: MemberNode, within: float = 60.0) -> bool:
    """Switch a device on, and say whether it has joined."""
    member.power_on()
    for _ in range(round(within)):
        await asyncio.sleep(1)
        if member.joined:
            return True
    return False


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_period_of_an_hour_is_open_the_whole_hour_and_closed_after_it(version: int) -> None:
    """One request opens a HAN for 254 s, and an NCP keeps a joiner's key for 300 s: both are renewed for 3600 s."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await ask(bench, JoinPermitted(PPMID, INSTALL_KEY, 3600.0))
        for _ in range(3590):
            assert is_open(bench), f"closed after {bench.carrier.now()} s"
            await asyncio.sleep(1)
        assert await joins(bench.member, within=9)
        await ask(bench, JoinEnded(PPMID))
        assert not is_open(bench)
        await asyncio.sleep(600)
        assert not is_open(bench), "a renewal outlived the period"


@pytest.mark.virtual_time
@pytest.mark.parametrize(("seconds", "commands"), [(60.0, 1), (254.0, 1), (254.5, 2), (508.0, 3)])
async def test_the_han_is_opened_no_more_often_than_it_takes(seconds: float, commands: int) -> None:
    """A period that one request covers costs one; longer ones are renewed a second before the last request ends."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        before = bench.ncp.commands["permitJoining"]
        await ask(bench, JoinPermitted(PPMID, INSTALL_KEY, seconds))
        await asyncio.sleep(seconds - 0.4)
        assert is_open(bench)
        assert bench.ncp.commands["permitJoining"] - before == commands
        await asyncio.sleep(1.5)
        assert not is_open(bench)


@pytest.mark.virtual_time
async def test_a_routers_own_joiners_are_let_in_and_shut_out_too() -> None:
    """The request goes to all routers: a device behind one joins there, and no longer once the period is over."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        await bench.join()
        await ask(bench, JoinEnded(PPMID), JoinPermitted(OTHER, INSTALL_KEY, 3600.0))
        await asyncio.sleep(1000)
        assert bench.member.node.permits_joining
        await ask(bench, JoinEnded(OTHER))
        await asyncio.sleep(1)
        assert not bench.member.node.permits_joining


@pytest.mark.virtual_time
async def test_two_periods_that_overlap_end_each_at_its_own_time() -> None:
    """The HAN stays open to the end of the longer one, whichever began first; the end of one does not close it."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        await ask(bench, JoinPermitted(PPMID, INSTALL_KEY, 600.0))
        await asyncio.sleep(100)
        await ask(bench, JoinPermitted(OTHER, bytes(range(1, 17)), 60.0))
        await asyncio.sleep(60)
        await ask(bench, JoinEnded(OTHER), LinkKeyForgotten(OTHER))
        assert is_open(bench)
        await asyncio.sleep(430)
        assert is_open(bench)
        assert await joins(bench.member, within=9)
        await ask(bench, JoinEnded(PPMID))
        assert not is_open(bench)


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_one_whose_period_is_over_does_not_slip_in_with_another(version: int) -> None:
    """Its key is taken out of the NCP at once, though the HAN stays open for somebody else, whose key stays."""
    async with han(asyncio.get_running_loop(), version) as bench:
        late = bench.add(Toy(), OTHER)
        await ask(bench, JoinPermitted(OTHER, INSTALL_KEY, 5.0), JoinPermitted(PPMID, INSTALL_KEY, 200.0))
        await asyncio.sleep(5)
        await ask(bench, JoinEnded(OTHER), LinkKeyForgotten(OTHER))
        assert not await joins(late)
        assert await joins(bench.member)


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_one_that_is_removed_leaves_and_its_key_is_of_no_use(version: int) -> None:
    """It is told to leave, and comes back neither with its old key nor while the HAN is open for another."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        await ask(bench, JoinEnded(PPMID))
        await ask(bench, LinkKeyForgotten(PPMID))
        await asyncio.sleep(10)
        assert not bench.member.joined
        assert bench.hub.gone == [PPMID]
        await ask(bench, JoinPermitted(OTHER, bytes(range(1, 17)), 200.0))
        bench.member.power_off()
        assert not await joins(bench.member)
        await ask(bench, JoinPermitted(PPMID, INSTALL_KEY, 200.0))
        assert await joins(bench.member), "admitted again, it is a member again"


@pytest.mark.virtual_time
async def test_requests_are_obeyed_in_their_order() -> None:
    """Admitted, removed and admitted again in one breath: the last word counts, and nothing is left half done."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        key = bytes(range(1, 17))
        await ask(
            bench,
            JoinPermitted(PPMID, key, 100.0),
            JoinEnded(PPMID),
            LinkKeyForgotten(PPMID),
            JoinPermitted(PPMID, INSTALL_KEY, 100.0),
        )
        assert await joins(bench.member)


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_reset_of_the_ncp_does_not_end_an_open_period(version: int) -> None:
    """An NCP that resets forgets key, policy and that it is open: it gets all three again, for what is left."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await ask(bench, JoinPermitted(PPMID, INSTALL_KEY, 1000.0))
        await asyncio.sleep(300)
        bench.ncp.reset()
        await asyncio.sleep(20)
        assert bench.of(RadioRestarted)
        assert is_open(bench)
        await asyncio.sleep(600)
        assert is_open(bench)
        assert await joins(bench.member)
        await ask(bench, JoinEnded(PPMID))
        assert not is_open(bench)


@pytest.mark.virtual_time
async def test_a_reset_after_all_periods_leaves_the_han_closed() -> None:
    """Nobody is expected: a restart opens nothing."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        await bench.join()
        await ask(bench, JoinEnded(PPMID))
        bench.ncp.reset()
        await asyncio.sleep(20)
        assert bench.of(RadioRestarted)
        assert not is_open(bench)


@pytest.mark.virtual_time
@pytest.mark.parametrize("delay", [0.0, 0.0005, 0.001, 0.002, 0.004, 0.008, 0.016])
@pytest.mark.parametrize("what", ["permit", "remove"])
async def test_what_a_reset_cuts_short_is_done_once_the_ncp_is_back(what: str, delay: float) -> None:
    """The NCP resets while it is told who may join: afterwards it has been told, and `settled` has waited for that."""
    loop: Any = asyncio.get_running_loop()
    async with han(loop, 13, NcpConfig(baud=115200)) as bench:
        if what == "remove":
            await bench.join()
            await ask(bench, JoinEnded(PPMID))
        loop.call_later(delay, bench.ncp.reset)
        if what == "permit":
            await ask(bench, JoinPermitted(PPMID, INSTALL_KEY, 600.0))
            await asyncio.sleep(20)
            assert is_open(bench)
            assert await joins(bench.member)
        else:
            await ask(bench, LinkKeyForgotten(PPMID))
            await asyncio.sleep(20)
            assert PPMID not in bench.ncp.node.link_keys


@pytest.mark.virtual_time
async def test_a_key_that_the_ncp_refuses_is_said_and_opens_nothing() -> None:
    """A key table without room: the error surfaces as an event, and the HAN stays closed."""
    async with han(asyncio.get_running_loop(), 13) as bench:

        async def refuse(*what: Any) -> str:
            return "the key table is full"

        bench.carrier._keys.give = refuse
        await ask(bench, JoinPermitted(PPMID, INSTALL_KEY, 60.0))
        await asyncio.sleep(0)
        (error,) = bench.of(BaseException)
        assert str(error) == (
            "the NCP does not take the link key of 00-15-5F-00-01-02-03-04: the key table is full"
        )
        assert not is_open(bench)
        bench.events.remove(error)
