"""Runs a campaign of images on a rig: planned as any campaign is, sent wave by wave as Service Requests."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, DownloadColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from harness.dcc.interface import Answer
from harness.dcc.payloads import image_hash_in
from harness.errors import RemoteProtocolError, RigError
from harness.members.kinds import ACTIVATED_BY_COMMAND
from harness.rig.images import read_image
from harness.rig.nouns import Device
from harness.rig.open import Rig
from harness.rig.schema import RigFile
from harness.smi.campaign import CampaignImage, Left, Plan, Send, plan
from harness.smi.devices import DeviceStatus, format_version
from harness.smi.record import Stage
from harness.smi.requests import Distribution, Refused
from harness.wire.image import OtaImage, build_image
from harness.wire.ota_messages import SUCCESS
from harness.wire.zcl import status_name

_REFRESH = 1.0  # seconds on the rig's clock between two looks at the transfers
_ATTEMPTS = 5  # of each Service Request whose answer does not come: assumed


@dataclass(frozen=True, slots=True)
class Done:
    """What became of one member's image: in words, and whether the member runs it and the Inventory has that."""

    member: str
    what: str
    aligned: bool


@dataclass(frozen=True, slots=True)
class _Fitting:
    """An image of a file, and what it is in the CPL."""

    octets: OtaImage
    listed: CampaignImage


async def run_campaign(
    file: RigFile,
    paths: Sequence[Path],
    members: Sequence[str],
    *,
    evidence: Path | None = None,
    within: float,
    console: Console | None = None,
) -> list[Done]:
    """Give each member the image that is for its model; a wave has `within` seconds on the rig's clock.

    Every member is planned or refused before anything is sent. Raises RigError for a file that is no image, a member
    that the rig does not have, or where all are refused; RemoteProtocolError where a member that was planned does not
    come to run its image, or the Inventory not to have it.
    """
    console = console or Console(stderr=True)
    images = {path: read_image(path) for path in paths}
    rig = Rig(file, evidence=evidence)
    devices = {name: rig.device(name) for name in members}
    async with rig:
        for device in devices.values():
            for joining in (device, *device.feeds):
                await rig.joined(joining.name)
        await rig.dcc.enrol()
        fitting, unfit = _fitting(rig, devices, images)
        planned = Plan((), (), ())
        if fitting:
            chosen = list(dict.fromkeys(one.listed for one in fitting.values()))
            planned = plan(rig.inventory, chosen, [devices[name].eui64 for name in fitting])
        _show(console, devices, planned, unfit)
        if not planned.waves:
            raise RigError(f"{file.path}: none of {', '.join(members)} can take an image: nothing was sent")
        campaign = _Campaign(rig, {devices[name].eui64: name for name in devices}, fitting, within)
        done = await campaign.run(planned, console)
        rig.check()
    table = Table("member", "")
    for one in done:
        table.add_row(one.member, escape(one.what))
    console.print(table)
    failed = [one for one in done if not one.aligned]
    if failed:
        raise RemoteProtocolError("; ".join(f"{one.member}: {one.what}" for one in failed))
    return done


def _fitting(
    rig: Rig, devices: Mapping[str, Device], images: Mapping[Path, OtaImage]
) -> tuple[dict[str, _Fitting], list[Left]]:
    """Find the image of each member by its OTA header. It is put on the CPL, unless the rig has a CPL of its own."""
    fitting, unfit = {}, []
    own_cpl = rig.file.dcc is not None and rig.file.dcc.cpl is not None
    for name, device in devices.items():
        reasons = []
        for path, image in images.items():
            try:
                device.refuse_unfit(image, path.name)
            except RigError as error:
                reasons.append(str(error))
                continue
            if name in fitting:
                raise RigError(f"{path}: is for {name}, and so is another image of the campaign")
            if not own_cpl:
                rig.dcc.list_image(image, target=device)
            found = image_hash_in(build_image(image), with_trailer=device.device_kind in ACTIVATED_BY_COMMAND)
            profile = device.profile
            fitting[name] = _Fitting(
                image, CampaignImage(profile.manufacturer_name, profile.model, image.version, found)
            )
        if name not in fitting:
            unfit.append(Left(device.eui64, "; ".join(reasons)))
    return fitting, unfit


def _show(console: Console, devices: Mapping[str, Device], planned: Plan, unfit: Sequence[Left]) -> None:
    names = {device.eui64: name for name, device in devices.items()}
    table = Table("wave", "member", "image", "why")
    for number, wave in enumerate(planned.waves, 1):
        for send in wave:
            after = "" if send.after is None else f"{send.after.note} [{send.after.basis}]"
            version = format_version(send.image.firmware_version)
            table.add_row(str(number), names[send.arrival.device], version, escape(after))
    for left in (*planned.refused, *unfit):
        by = f" [{', '.join(filter(None, (left.listed, left.rule)))}]" if left.rule else ""
        table.add_row("refused", names[left.device], "", escape(f"{left.reason}{by}"))
    console.print(table)


class _Campaign:
    def __init__(
        self, rig: Rig, names: Mapping[int, str], fitting: Mapping[str, _Fitting], within: float
    ) -> None:
        self._rig = rig
        self._names = names
        self._fitting = fitting
        self._within = within
        self._shown: dict[str, TaskID] = {}

    async def run(self, planned: Plan, console: Console) -> list[Done]:
        done: list[Done] = []
        clock = asyncio.get_running_loop().time  # times are the rig's, as all times of a rig are
        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True))
        with Progress(*columns, TimeElapsedColumn(), console=console, get_time=clock) as progress:
            watch = asyncio.get_running_loop().create_task(self._watch(progress))
            try:
                for number, wave in enumerate(planned.waves):
                    stuck = [one.member for one in done if self._waits(one.member)]
                    if stuck:
                        # What comes now would overwrite it, or be refused for it: the plan is at its end.
                        why = f"not sent: the image for {', '.join(stuck)} is still at the hub"
                        done += [Done(self._name(send), why, False) for send in wave]
                        continue
                    for send in wave:
                        name = self._name(send)
                        total = self._fitting[name].octets.total_size
                        self._shown[name] = progress.add_task(f"wave {number + 1}: {name}", total=total)
                    done += await self._wave(wave, planned.requests(number, "campaign"))
            finally:
                watch.cancel()
            for name, task in self._shown.items():
                progress.update(task, completed=self._rig.hub.fetched(self._rig.device(name)))
        return done

    async def _wave(self, wave: Sequence[Send], requests: Sequence[Distribution]) -> list[Done]:
        loop = asyncio.get_running_loop()
        by_device = {send.arrival.device: send for send in wave}
        sent = [(request.devices, loop.create_task(self._distribute(request))) for request in requests]
        tasks = [
            loop.create_task(self._one(by_device[device], ahead))
            for devices, ahead in sent
            for device in devices
        ]
        try:
            return await asyncio.gather(*tasks)
        finally:
            # One that raises is the bench's fault, and ends all; a TaskGroup would wrap what it says.
            every = [*(ahead for _, ahead in sent), *tasks]
            for task in every:
                task.cancel()
            await asyncio.gather(*every, return_exceptions=True)

    async def _distribute(self, request: Distribution) -> Answer:
        for device in request.devices:
            self._rig.hub.begin_transfer(self._device(device))
        image = self._fitting[self._names[request.devices[0]]].octets
        return await self._rig.dcc.request(request, image=image)

    async def _one(self, send: Send, ahead: asyncio.Task[Answer]) -> Done:
        name, version = self._name(send), send.image.firmware_version
        device, deadline = self._device(send.arrival.device), self._rig.now() + self._within
        by_command = device.device_kind in ACTIVATED_BY_COMMAND
        # Before the image is at the hub: what waits for the end of a transfer must not come too late for it.
        end = asyncio.ensure_future(self._end(device)) if by_command else None
        try:
            answer = await ahead
            if send.arrival.device not in answer.delivered_to:
                return Done(name, f"its image has not reached the hub: {_said(answer)}", False)
            if end is not None:
                await end
            else:
                await device.until(running=version, within=deadline - self._rig.now())
            told = await self._told(device, send, by_command, deadline)
        except RemoteProtocolError as error:
            return Done(name, str(error), False)
        finally:
            if end is not None:
                end.cancel()
        return told

    async def _end(self, device: Device) -> None:
        end = await self._rig.hub.upgrade_end(device, within=self._within)
        if end.status != SUCCESS:
            raise RemoteProtocolError(
                f"it has fetched the image, and refuses it with {status_name(end.status)}"
            )

    async def _told(self, device: Device, send: Send, by_command: bool, deadline: float) -> Done:
        """Activate and ask until the Inventory has the version, as far as its options let that help."""
        name, said = self._names[device.eui64], ""
        assert send.image.image_hash is not None  # _fitting
        for attempt in range(1, _ATTEMPTS + 1):
            if by_command:
                said = _said(await self._rig.dcc.activate(send.image.image_hash, on=device, user=send.user))
            if not self._settled(send):
                said = _said(await self._rig.dcc.read_version(device)) or said
            if self._settled(send):
                tries = "" if attempt == 1 else f", after {attempt} attempts"
                return Done(name, f"runs {format_version(send.image.firmware_version)}{tries}", True)
            if self._rig.now() >= deadline:
                break
        record = self._rig.inventory.device(device.eui64)
        has = f"the Inventory has it {record.status} with {format_version(record.firmware_version)}"
        return Done(name, f"{has}; {said}" if said else has, False)

    def _settled(self, send: Send) -> bool:
        device = self._rig.inventory.device(send.arrival.device)
        wanted = send.image.firmware_version
        return device.firmware_version == wanted and device.status is not DeviceStatus.SUSPENDED

    def _waits(self, name: str) -> bool:
        upgrade = self._rig.inventory.device(self._rig.device(name).eui64).upgrade
        return upgrade is not None and upgrade.stage is not Stage.AT_DEVICE

    def _device(self, eui64: int) -> Device:
        return self._rig.device(self._names[eui64])

    def _name(self, send: Send) -> str:
        return self._names[send.arrival.device]

    async def _watch(self, progress: Progress) -> None:
        while True:
            for name, task in self._shown.items():
                progress.update(task, completed=self._rig.hub.fetched(self._rig.device(name)))
            await asyncio.sleep(_REFRESH)


def _said(answer: Answer) -> str:
    """Return what an answer says, for a reader."""
    verdict = answer.verdict
    if isinstance(verdict, Refused):
        return f"SR{answer.request.srv} is refused: {verdict.reason} ({verdict.rule})"
    return f"SR{answer.request.srv} {answer.outcome}{': ' + answer.detail if answer.detail else ''}"
