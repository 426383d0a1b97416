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

from harness.errors import RemoteProtocolError, RigError
from harness.evidence.capture import KEY_FILE_NAME
from harness.members.kinds import ACTIVATED_BY_COMMAND
from harness.rig.bench import CAPTURE_NAME
from harness.rig.images import read_image
from harness.rig.nouns import Device
from harness.rig.open import Rig
from harness.rig.schema import RigFile
from harness.wire.gbcs_image import parse_upgrade_image
from harness.wire.gbcs_payloads import ActivateImageResponse, ExecutionOutcome
from harness.wire.image import OtaImage
from harness.wire.ota_messages import SUCCESS
from harness.wire.zcl import status_name

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
    member, or that it runs already, and for a member that the rig does not have; RemoteProtocolError where the member
    does not come to run it.
    """
    image = read_image(path)
    rig = Rig(file, evidence=evidence)
    device = rig.device(member)
    device.refuse_unfit(image, str(path))
    console = console or Console(stderr=True)
    async with rig:
        await rig.joined(member)
        for other in device.feeds:
            await rig.joined(other.name)  # its part of the package is handed on to it
        running = await device.version()
        console.print(f"{member} is on the HAN and runs {running:#010x}")
        if running == image.version:
            # It would take nothing, and be seen to run the "new" version at once.
            raise RigError(
                f"{path}: is version {running:#010x}, which {member} runs already: nothing was pushed"
            )
        await rig.hub.offer(image, to=device)
        columns = (
            TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True),
            TransferSpeedColumn(), TimeElapsedColumn(),
        )  # fmt: skip
        # Speed and elapsed time are the rig's, as all times of a rig are; the speed is that of the whole transfer.
        clock = asyncio.get_running_loop().time
        with Progress(*columns, console=console, get_time=clock, speed_estimate_period=within) as progress:
            shown = progress.add_task(f"{path.name} -> {member}", total=image.total_size)
            watch = asyncio.get_running_loop().create_task(_watch(rig, device, progress, shown))
            deadline = rig.now() + within
            try:
                if device.device_kind in ACTIVATED_BY_COMMAND:
                    end = await rig.hub.upgrade_end(device, within=within)
                    if end.status != SUCCESS:
                        raise RemoteProtocolError(
                            f"{member} has fetched the image, and refuses it with {status_name(end.status)}"
                        )
                    await _activate(rig, device, image, deadline - rig.now())
                await device.until(running=image.version, within=deadline - rig.now())
            finally:
                watch.cancel()
            progress.update(shown, completed=image.total_size)
        console.print(f"{member} runs {image.version:#010x} after {rig.now():.1f} s on the rig's clock")
    if evidence is not None and file.is_emulated:  # what is on a real air, a sniffer has to capture
        console.print(f"capture: {evidence / CAPTURE_NAME}, keys: {evidence / KEY_FILE_NAME}")


async def _activate(rig: Rig, device: Device, image: OtaImage, within: float) -> None:
    """Send CS06, and raise RemoteProtocolError for an answer that is not success: the device goes on as before then."""
    counter = await rig.hub.wan.activate(parse_upgrade_image(image.payload).image_hash, on=device)
    outcome = await rig.hub.wan.until(ExecutionOutcome, within=within, source=device, counter=counter)
    if outcome.response is not ActivateImageResponse.SUCCESS:
        raise RemoteProtocolError(
            f"{device.name} answers CS06 with {outcome.response.name}, and runs {outcome.firmware_version:#010x}"
        )


async def _watch(rig: Rig, device: Device, progress: Progress, shown: int) -> None:
    while True:
        progress.update(shown, completed=rig.hub.fetched(device))  # type: ignore[arg-type]
        await asyncio.sleep(_REFRESH)
