"""Plans a campaign of images: which Devices can take theirs, why the others cannot, and in which order it is sent.

All of it is decided before anything is sent. Who is refused, the Inventory says, as the DSP would; what may be at a hub
together, the oracle of the image store says: `image_fate`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

from harness.errors import LocalProtocolError
from harness.smi.devices import (
    DeviceType,
    PpmidVariant,
    check_eui64,
    check_version,
    format_eui64,
    format_version,
)
from harness.smi.image_fate import Cell, Fate, Stage, Target, fate
from harness.smi.inventory import Inventory
from harness.smi.record import Device, Record
from harness.smi.record import Stage as UpgradeStage
from harness.smi.requests import (
    MAX_DEVICES,
    DeviceLists,
    Distribution,
    Refused,
    UpdateFirmware,
    UpdatePpmidFirmware,
    User,
    UserRole,
)
from harness.smi.rule import Rule
from harness.smi.rules import base, mp202, secmp0007

SUPPLIERS = (User(UserRole.IS), User(UserRole.GS))
"""A Supplier of both fuels: the first of its Roles that a Device is for sends it the image."""

LISTS = {
    "invalid_device_ids": "InvalidDeviceIDList",
    "not_commissioned": "NotCommissionedDeviceIDList",
    "not_applicable_firmware": "NotApplicableFirmwareDeviceIDList",
    "other_request_in_progress": "OtherRequestInProgressList",
    "invalid_gbcs_version": "InvalidGBCSVersionList",
}
"""What the DUIS calls each field of `DeviceLists` (F2.1)."""


@dataclass(frozen=True, slots=True)
class CampaignImage:
    """One image of a campaign, by its CPL row. `image_hash`: SHA-256 of its Manufacturer Image; None: not compared."""

    manufacturer: str
    model: str
    firmware_version: int
    image_hash: bytes | None = None

    def __post_init__(self) -> None:
        check_version(self.firmware_version)

    def __str__(self) -> str:
        return f"{self.manufacturer} {self.model} {format_version(self.firmware_version)}"


@dataclass(frozen=True, slots=True)
class Arrival:
    """An image that comes to a hub, or waits there: for which Device, and for which kind of target."""

    device: int
    hub: int
    target: Target


@dataclass(frozen=True, slots=True)
class Send:
    """One image for one Device. `after` is the cell that keeps it out of the wave before; None: it is in the first."""

    arrival: Arrival
    image: CampaignImage
    user: User
    after: Cell | None


@dataclass(frozen=True, slots=True)
class Left:
    """A Device that gets no image, with the reason in words.

    `listed` is the list of the DUIS that names it (FW-14) and `rule` the id of the rule that puts it there; both None
    where no request would be made at all.
    """

    device: int
    reason: str
    listed: str | None = None
    rule: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Every Device of a campaign once: in a wave, or refused.

    A wave is sent when the Devices of the wave before have their images, hub by hub: one hub does not wait for another.
    `under_way` are images for other Devices that are at the same hubs already; the first wave may join them.
    """

    waves: tuple[tuple[Send, ...], ...]
    refused: tuple[Left, ...]
    under_way: tuple[Arrival, ...]

    def requests(self, wave: int, request_id: str) -> list[Distribution]:
        """Return the Service Requests of a wave; their ids are `request_id` and a number behind it."""
        batches: dict[tuple[CampaignImage, User, bool], list[int]] = {}
        for send in self.waves[wave]:
            to_ppmid = send.arrival.target not in _BY_11_1
            batches.setdefault((send.image, send.user, to_ppmid), []).append(send.arrival.device)
        made: list[Distribution] = []
        for (image, user, to_ppmid), devices in batches.items():
            made += _requests(image, user, to_ppmid, devices, f"{request_id}-{wave + 1}-{len(made) + 1}")
        return made


_BY_11_1 = (Target.ESME, Target.GSME, Target.HCALCS)
_ORDER = {target: place for place, target in enumerate(Target)}


def plan(
    inventory: Inventory,
    images: Sequence[CampaignImage],
    devices: Sequence[int],
    *,
    users: Sequence[User] = SUPPLIERS,
) -> Plan:
    """Plan a campaign over a list of Devices; each gets the image of its model. Nothing changes in the Inventory.

    LocalProtocolError for no image, two images for one model, or a Device that is listed twice or is no EUI-64.
    """
    by_model = _by_model(images)
    if len(set(map(check_eui64, devices))) < len(devices):
        twice = next(device for device in devices if list(devices).count(device) > 1)
        raise LocalProtocolError(f"campaign: {format_eui64(twice)} stands there twice")
    batches: dict[tuple[CampaignImage, User, bool], list[int]] = {}
    for device in devices:
        record = inventory.ledger.records.get(device)
        kind = None if record is None else record.device_type
        image = images[0] if record is None else by_model.get((record.manufacturer, record.model), images[0])
        user = next((one for one in users if kind and base.role_is_for_device(one, kind)), users[0])
        batches.setdefault((image, user, kind is DeviceType.PPMID), []).append(device)
    refused: dict[int, Left] = {}
    for (image, user, to_ppmid), listed in batches.items():
        for request in _requests(image, user, to_ppmid, listed, "plan"):
            refused.update((left.device, left) for left in _refused(inventory, request))
    going: dict[int, tuple[Arrival, CampaignImage, User]] = {}
    for (image, user, _), listed in batches.items():
        for device in listed:
            if device in refused:
                continue
            found = _arrival(inventory, device, image)
            if isinstance(found, Left):
                refused[device] = found
            else:
                going[device] = found, image, user
    arrivals = [going[device][0] for device in devices if device in going]
    under_way = _under_way(inventory, {arrival.hub: None for arrival in arrivals})
    waves = tuple(
        tuple(Send(arrival, *going[arrival.device][1:], after) for arrival, after in wave)
        for wave in into_waves(arrivals, under_way)
    )
    return Plan(waves, tuple(refused[device] for device in devices if device in refused), under_way)


# --- who cannot ----------------------------------------------------------------------------------------------------


def _by_model(images: Sequence[CampaignImage]) -> dict[tuple[str, str], CampaignImage]:
    if not images:
        raise LocalProtocolError("campaign: there is no image")
    by_model: dict[tuple[str, str], CampaignImage] = {}
    for image in images:
        first = by_model.setdefault((image.manufacturer, image.model), image)
        if first is not image:
            raise LocalProtocolError(
                f"campaign: {first} and {format_version(image.firmware_version)} are for one model: "
                "one image a Device and campaign"
            )
    return by_model


def _requests(
    image: CampaignImage, user: User, to_ppmid: bool, devices: Sequence[int], request_id: str
) -> list[Distribution]:
    kind = UpdatePpmidFirmware if to_ppmid else UpdateFirmware
    return [
        kind(
            f"{request_id}.{at // MAX_DEVICES + 1}" if len(devices) > MAX_DEVICES else request_id,
            user,
            image.firmware_version,
            tuple(devices[at : at + MAX_DEVICES]),
            image.image_hash,
        )
        for at in range(0, len(devices), MAX_DEVICES)
    ]


def _refused(inventory: Inventory, request: Distribution) -> list[Left]:
    verdict = inventory.check(request)
    if isinstance(verdict, Refused):
        code = "" if verdict.code is None else f" ({verdict.code})"
        return [Left(device, f"{verdict.reason}{code}", None, verdict.rule) for device in request.devices]
    return [
        Left(device, reason, LISTS[name], by.id)
        for name in LISTS
        for device in _listed(verdict.lists, name)
        for reason, by in (_why(inventory, request, device, name),)
    ]


def _listed(lists: DeviceLists, name: str) -> tuple[int, ...]:
    found: tuple[int, ...] = getattr(lists, name)
    return found


def _why(inventory: Inventory, request: Distribution, device: int, listed: str) -> tuple[str, Rule[Any, Any]]:
    """Say why the DSP puts a Device on a list. Which list it is, `inventory.check` has said."""
    record = inventory.ledger.records.get(device)
    if record is None:
        return "it is not in the Inventory", base.listed_device_is_valid
    kind = record.device_type
    if listed == "invalid_device_ids":
        return f"User Role {request.user.role} is not for {kind}", base.listed_device_is_valid
    if listed == "not_commissioned":
        before = record.status_before_suspension
        was = "" if before is None else f" and was {before}"
        return f"it is {record.status}{was}", base.listed_device_is_commissioned
    if listed == "other_request_in_progress":
        return f"an image is on its way to it: {record.upgrade}", base.listed_device_is_free
    if listed == "invalid_gbcs_version":
        return _hub_is_too_old(inventory, record), secmp0007.hub_is_too_old
    return _not_applicable(inventory, request, record)


def _hub_is_too_old(inventory: Inventory, record: Record) -> str:
    least = inventory.options.secmp0007_gbcs
    if record.hub is None:
        return f"it has no hub that could be of GBCS {least}"
    hub, table = inventory.ledger.records[record.hub], inventory.ledger.table
    row = table.get(hub.manufacturer, hub.model, hub.firmware_version, hub.smets)
    has = "no GBCS version" if row is None else f"GBCS {row.gbcs_version}"
    return f"hub {format_eui64(hub.device)} has {has}: images for a {record.device_type} need {least}"


def _not_applicable(
    inventory: Inventory, request: Distribution, record: Record
) -> tuple[str, Rule[Any, Any]]:
    takes = secmp0007.takes_images(request.srv)
    if not secmp0007.takes_images.holds(inventory.options):
        takes &= secmp0007.BEFORE
    if record.device_type not in takes:
        return f"SR{request.srv} has no image for {record.device_type}", secmp0007.takes_images
    row = record.active_rows.get(request.firmware_version)
    model = f"{record.manufacturer} {record.model}"
    version = format_version(request.firmware_version)
    applicable = base.listed_firmware_is_applicable
    if row is None:
        return f"{version} is no Active CPL row of {model}, {record.smets}", applicable
    if not applicable(request, row):
        return f"the image is not the one of {row.place}: {model} {version} has another hash", applicable
    return f"{model} is dual-mode and in a SMETS1 system", mp202.smets1_ota_refused


def _arrival(inventory: Inventory, device: int, image: CampaignImage) -> Arrival | Left:
    record = inventory.ledger.records[device]
    # What the DSP does not look at, and what would still be sent for nothing.
    if record.firmware_version == image.firmware_version:
        return Left(device, f"it has {format_version(image.firmware_version)} already")
    if record.hub is None:
        return Left(device, "it is in no Smart Metering System: there is no hub to bring the image to")
    return Arrival(device, record.hub, target_of(record))


# --- the order -----------------------------------------------------------------------------------------------------


def target_of(device: Record | Device) -> Target:
    """Return what an image for a Device is for. LocalProtocolError for a type that takes none (F2.1)."""
    if device.ppmid_variant not in (None, PpmidVariant.PPMID):
        return Target(str(device.ppmid_variant))
    try:
        return Target(str(device.device_type))
    except ValueError:
        raise LocalProtocolError(
            f"{device.device_type} {format_eui64(device.device)} takes no image"
        ) from None


def _under_way(inventory: Inventory, hubs: Iterable[int]) -> tuple[Arrival, ...]:
    records = (inventory.ledger.records[device] for hub in hubs for device in inventory.ledger.systems[hub])
    return tuple(
        Arrival(record.device, record.hub, target_of(record))
        for record in records
        if record.hub is not None
        and record.upgrade is not None
        and record.upgrade.stage is not UpgradeStage.AT_DEVICE
    )


def parted_by(waiting: Target, arriving: Target) -> Cell | None:
    """Return a cell by which two images may not be at a hub together, whichever comes first; None: they may.

    Which of them comes first and how far it is, no plan knows: every cell of the pair has to say KEPT.
    """
    pairs = ((waiting, arriving), (arriving, waiting))
    cells = (fate(first, stage, second) for (first, second), stage in product(pairs, Stage))
    return next((cell for cell in cells if cell.fate is not Fate.KEPT), None)


_PARTED = {pair: parted_by(*pair) for pair in product(Target, Target)}


def into_waves(
    arrivals: Iterable[Arrival], under_way: Iterable[Arrival] = ()
) -> list[list[tuple[Arrival, Cell | None]]]:
    """Put each image into the first wave of its hub whose images it may be at the hub with.

    Beside each stands the cell that keeps it out of the wave before. The first wave may be empty: nothing goes
    together with what is under way.
    """
    waves: list[list[tuple[Arrival, Cell | None]]] = []
    there: dict[int, list[list[Target]]] = {}  # by hub what is in each of its waves
    for waiting in under_way:
        there.setdefault(waiting.hub, [[]])[0].append(waiting.target)
    # In the oracle's order of targets: the GSME first, whose image nothing takes away.
    for arrival in sorted(arrivals, key=lambda one: _ORDER[one.target]):
        of_hub, after, number = there.setdefault(arrival.hub, []), None, 0
        while number < len(of_hub):
            parting = (_PARTED[target, arrival.target] for target in of_hub[number])
            found = next((cell for cell in parting if cell is not None), None)
            if found is None:
                break
            after, number = found, number + 1
        if number == len(of_hub):
            of_hub.append([])
        of_hub[number].append(arrival.target)
        while number >= len(waves):
            waves.append([])
        waves[number].append((arrival, after))
    return waves
