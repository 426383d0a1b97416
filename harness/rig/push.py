"""Pushes one image to one member of a rig, as a lab does by hand, and shows how far it is."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TransferSpeedColumn,
)

from harness.rig.images import read_image
from harness.rig.nouns import Device
from harness.rig.open import Rig
from harness.rig.schema import RigFile

_REFRESH = 1.0  # seconds on the rig's clock between two looks at the transfer


async def push_image(
    file: RigFile,
    member: str,
    path: Path,
    *,
    evidence: Path | None,
    within: float,
    console: Console | None = None,
) -> None:
    """Let the image of `path` wait for `member` at the hub until the member runs it.

    `within` is in seconds on the rig's clock. Raises RigError for a file that is no image or that is not for this
    member, and for a member that the rig does not have; RemoteProtocolError where the member does not come to run it.
    """
    image = read_image(path)
    rig = Rig(file, evidence=evidence)
    device = rig.device(member)
    device.refuse_unfit(image, str(path))
    console = console or Console(stderr=True)
    async with rig:
        await rig.joined(member)
        console.print(f"{member} is on the HAN and runs {await device.version():#010x}")
        await rig.hub.offer(image, to=device)
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
            TransferSpeedColumn(), TimeElapsedColumn(),
        )  # fmt: skip
        with Progress(*columns, console=console) as progress:
            shown = progress.add_task(f"{path.name} -> {member}", total=image.total_size)
            watch = asyncio.get_running_loop().create_task(_watch(rig, device, progress, shown))
            try:
                await device.until(running=image.version, within=within)
            finally:
                watch.cancel()
            progress.update(shown, completed=image.total_size)
        console.print(f"{member} runs {image.version:#010x} after {rig.now():.1f} s on the rig's clock")
    if evidence is not None:
        console.print(f"capture: {evidence / 'han.pcap'}, keys: {evidence / 'zigbee_pc_keys'}")


async def _watch(rig: Rig, device: Device, progress: Progress, shown: int) -> None:
    while True:
        progress.update(shown, completed=rig.hub.fetched(device))  # type: ignore[arg-type]
        await asyncio.sleep(_REFRESH)
