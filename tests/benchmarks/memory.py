"""How much memory one premises takes, with and without a live host stack."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory

from harness.clock import VirtualLoop
from harness.rig.open import Rig, open_rig
from tests.benchmarks.measure import Figure, resident_bytes
from tests.benchmarks.premises import Premises

KIB = 1024
AIR_LIMIT = 128  # KiB a premises
LIVE_LIMIT = 450
PREMISES = 20
TRAFFIC_SECONDS = 600.0
DEVICES = 7 * ("ppmid",) + ("ihd",)  # as many as a hub has room for, and one that is no Type 1 device

# Seven install codes would need seven CRCs: all devices have the published one of the Zigbee documents.
_INSTALL_CODE = "83FE D340 7A93 9723 A5C6 39B2 6916 D505 C3B5"
_HEAD = """
schema: harness.rig/1
name: premises-{number}
seed: {number}
network: {{channel: 11, pan_id: 0x4A11}}
members:
  hub: {{by: radio, profile: hub, radio: "emulated://hub-{number}", eui64: 00-0D-6F-00-0A-90-69-{number:02X}}}
"""
_DEVICE = (
    "  device_{device}: {{by: emulation, profile: {profile}, eui64: 00-0D-6F-00-0B-7A-{device:02X}-{number:02X}, "
    'install_code: "{code}"}}\n'
)


def _figure(grown: int, limit: int, what: str) -> Figure:
    each = grown / PREMISES / KIB
    return Figure(
        each / limit,
        f"{each:.0f} KiB a premises, {what}: growth of the resident set over {PREMISES} premises",
    )


def premises_memory_air() -> Figure:
    """A premises with 8 nodes on its air, after ten minutes of traffic."""
    premises = [_busy_premises(seed) for seed in range(2)]  # imports, caches, the allocator's first pools
    before = resident_bytes()
    premises += [_busy_premises(seed) for seed in range(2, 2 + PREMISES)]
    return _figure(resident_bytes() - before, AIR_LIMIT, f"air and {len(premises[0].devices)} nodes")


def _busy_premises(seed: int) -> Premises:
    premises = Premises(seed)
    premises.run(TRAFFIC_SECONDS)
    assert premises.answered > 0
    return premises


def premises_memory_live() -> Figure:
    """A premises whose hub is played by a live bellows and zigpy, with 8 devices joined, after ten minutes."""
    with TemporaryDirectory() as folder, asyncio.Runner(loop_factory=VirtualLoop) as runner:
        grown = runner.run(_live_growth(Path(folder)))
    return _figure(grown, LIVE_LIMIT, f"air, emulated NCP, bellows, zigpy and {len(DEVICES)} devices")


async def _live_growth(folder: Path) -> int:
    async with AsyncExitStack() as stack:
        for number in range(2):
            await _live_premises(stack, folder, number)
        before = resident_bytes()
        for number in range(2, 2 + PREMISES):
            await _live_premises(stack, folder, number)
        return resident_bytes() - before


async def _live_premises(stack: AsyncExitStack, folder: Path, number: int) -> Rig:
    path = folder / f"premises-{number}.yaml"
    devices = (
        _DEVICE.format(device=device, profile=profile, number=number, code=_INSTALL_CODE)
        for device, profile in enumerate(DEVICES)
    )
    path.write_text(_HEAD.format(number=number) + "".join(devices), encoding="utf-8")
    rig = await stack.enter_async_context(open_rig(path))
    for device in range(len(DEVICES)):
        await rig.joined(f"device_{device}")
    await rig.sleep(TRAFFIC_SECONDS)
    rig.check()
    return rig
