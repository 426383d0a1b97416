"""Whatever happens to radio, power, line and hub, and in whatever order: the device runs its image in the end."""

from __future__ import annotations

import asyncio
import random

import pytest

from harness.emulation.ncp import Direction
from harness.emulation.node import NodeKind
from tests.unit.joined_han import VERSIONS, JoinedHan, Member, joined_han, new_image

KINDS = (NodeKind.ROUTER, NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE)
HOUR = 3600.0


async def mishap(han: JoinedHan, member: Member, chance: random.Random) -> None:
    """Let one thing go wrong."""
    joiner, ncp = member.joiner, member.ncp
    match chance.randrange(7):
        case 0:
            ncp.reset()
        case 1:
            ncp.fail()
        case 2:
            await joiner.power_cut()
            await asyncio.sleep(chance.random() * chance.choice([0.0, 0.01, 5.0]))
            await joiner.power_on()
        case 3:
            off = asyncio.ensure_future(joiner.power_cut())
            await asyncio.sleep(chance.random() * 0.02)
            await joiner.power_on()
            await off
        case 4:
            han.node.power_off()
            await asyncio.sleep(chance.random() * 20.0)
            han.node.power_on()
            han.node.node.permit_joining(255)
        case 5:
            ncp.faults.drop(chance.randrange(1, 3), direction=chance.choice(list(Direction)))
        case 6:
            ncp.faults.corrupt(chance.randrange(1, 3), direction=chance.choice(list(Direction)))


@pytest.mark.virtual_time
@pytest.mark.parametrize("seed", range(4))
async def test_a_device_runs_its_image_whatever_happened_on_the_way(seed: int) -> None:
    """30 mishaps at arbitrary moments of joining, key establishment and transfer, for two devices at a time."""
    chance = random.Random(seed)
    async with joined_han(seed) as han:
        members = [han.add(index, chance.choice(VERSIONS), kind=chance.choice(KINDS)) for index in range(2)]
        offered: list[Member] = []
        for member in members:
            await member.joiner.start()
            await member.joiner.power_on()
        for _ in range(30):
            await asyncio.sleep(chance.random() * chance.choice([0.01, 0.3, 3.0, 30.0]))
            member = chance.choice(members)
            await mishap(han, member, chance)
            if member.keyed and member not in offered:
                offered.append(member)
                han.offer(member, new_image(size=4096))
        await han.until(lambda: all(member.keyed for member in members), HOUR)
        for member in members:
            if member not in offered:
                han.offer(member, new_image(size=4096))
        await han.until(lambda: all(member.behaviour.running_version == 2 for member in members), 12 * HOUR)
