"""How fast firmware goes: to four devices at once, and through every case of one image that meets another at a hub."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Coroutine
from pathlib import Path

from harness import Device
from harness.clock import VirtualLoop
from harness.rig.commissioned import Commissioned, commission
from harness.rig.images import make_image
from harness.rig.open import Rig
from harness.rig.schema import RigFile, load_rig
from harness.smi.image_fate import Basis, Cell, cells, judge
from harness.wire.ota_server import TransferCompleted, TransferStarted
from tests.benchmarks.measure import Figure
from tests.conformance.hub.overwriting import Match, device_for

RIGS = Path(__file__).resolve().parents[2] / "rigs"
FOUR = ("ppmid", "esme", "hcalcs", "b1")
IMAGE_OCTETS = 32 * 1024
WITHIN = 7200.0  # seconds on the rig's clock


def ota_four_over_one() -> Figure:
    """The octets a second of four transfers at once over those of one, on the rig's clock: both share one air."""
    file = load_rig(RIGS / "emulated-devices.yaml")
    state = commission(file)
    one = _run(_rate(file, state, FOUR[:1]))
    four = _run(_rate(file, state, FOUR))
    return Figure(
        four / one,
        f"{four / 1024:.2f} KiB/s to {', '.join(FOUR)} together, {one / 1024:.2f} KiB/s to {FOUR[0]} alone, "
        f"{IMAGE_OCTETS // 1024} KiB each",
    )


async def _rate(file: RigFile, state: Commissioned, names: tuple[str, ...]) -> float:
    """Octets a second from the first block to the last, all transfers together."""
    make = make_image(random.Random(1))
    async with Rig(file, commissioned=state) as rig:
        devices = [await rig.joined(name) for name in names]
        for device in devices:
            await rig.hub.offer(make(target=device, size=IMAGE_OCTETS), to=device)
        await rig.until(
            lambda: all(_times(rig, TransferCompleted, device) for device in devices),
            within=WITHIN,
            failure=lambda: f"not all of {', '.join(names)} have their image after {WITHIN:g} s",
        )
        rig.check()
        began = min(_times(rig, TransferStarted, device)[0] for device in devices)
        ended = max(_times(rig, TransferCompleted, device)[0] for device in devices)
    return len(names) * IMAGE_OCTETS / (ended - began)


def _times(rig: Rig, kind: type[TransferStarted | TransferCompleted], device: Device) -> list[float]:
    return [
        entry.seconds
        for entry in rig.journal
        if isinstance(entry.event, kind) and entry.event.client == device.eui64
    ]


def overwrite_matrix() -> Figure:
    """Hours on the rig's clock that a minute of wall time goes through, of the whole pair-and-stage matrix."""
    file = load_rig(RIGS / "emulated-hub.yaml")
    state = commission(file)
    began = time.perf_counter()
    simulated, sourced = 0.0, 0
    for cell in cells():
        simulated += _run(_cell(file, state, cell))
        sourced += cell.basis is Basis.SOURCED
    wall = time.perf_counter() - began
    return Figure(
        simulated / 3600 / (wall / 60),
        f"{len(list(cells()))} cells, {sourced} of them sourced and passed, {simulated / 3600:.0f} simulated hours "
        f"in {wall:.0f} s of wall time on one core",
    )


async def _cell(file: RigFile, state: Commissioned, cell: Cell) -> float:
    """Run one cell, and return the seconds that it took on the rig's clock."""
    make = make_image(random.Random(1))
    async with Rig(file, commissioned=state) as rig:
        waiting, arriving = device_for(rig, cell.waiting), device_for(rig, cell.arriving)
        for device in dict.fromkeys((waiting, arriving)):
            await rig.joined(device.name)
        match = Match(rig, waiting, arriving, make)
        await match.bring_to(cell.stage)
        seen = await match.collide()
        assert judge(cell, seen.fate) != "FAIL", f"{cell}: {seen}"
        rig.check()
    return rig.elapsed


def _run(work: Coroutine[None, None, float]) -> float:
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)
