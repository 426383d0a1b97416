"""Standing rigs with a `dcc` section, for the tests of the DCC in its place on a rig."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path
from typing import Any

from harness import Device, Outcome, Rig, hours, open_rig
from harness.clock import VirtualLoop
from harness.rig.commissioned import Commissioned, commission
from harness.rig.images import make_image
from harness.rig.schema import load_rig
from harness.smi.devices import DeviceStatus
from tests.unit.served import REPOSITORY
from tests.unit.served import STANDING_RIG as DEVICES

RIGS = REPOSITORY / "rigs"
SIZE = 1024


def with_dcc(folder: Path, section: str, path: Path = DEVICES) -> Path:
    """A standing rig's file with a `dcc` section."""
    file = folder / path.name
    file.write_text(path.read_text() + f"\ndcc:\n{section}")
    return file


def status(rig: Rig, device: Device) -> DeviceStatus:
    """What the Inventory says of a device."""
    return rig.inventory.device(device.eui64).status


@cache
def commissioned(path: Path) -> Commissioned:
    """The HAN of a standing rig, joined once."""
    return commission(load_rig(path))


def on_rig(work: Callable[[Rig], Awaitable[Any]], path: Path = DEVICES, *, joined: bool = True) -> Any:
    """Run it on a standing rig whose devices are on the HAN, or have still to join."""

    state = commissioned(RIGS / path.name) if joined else None

    async def run() -> Any:
        async with open_rig(path, commissioned=state) as rig:
            result = await work(rig)
            rig.check()
            return result

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(run())


async def run_unheard(rig: Rig, device: Device) -> Any:
    """Have a meter run an image by an SR11.3 whose response is lost, while its old version leaves the CPL."""
    dcc = rig.dcc
    await rig.joined(device.name)
    await dcc.enrol()
    image = make_image(random.Random(1))(target=device, size=SIZE)
    dcc.list_image(image, target=device)
    await dcc.update_firmware(image, device)
    await rig.hub.wan.receipt(device, within=hours(2))
    dcc.withdraw(device.version_at_start, of=device)
    dcc.lose_next_response(of=device)
    lost = await dcc.activate(image, on=device)
    assert lost.outcome is Outcome.TIMED_OUT
    return image
