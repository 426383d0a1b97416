"""Runs a campaign on an Inventory alone: Devices that do as they are told, and a WAN that loses some of what is said.

It shows what an option of the Inventory is worth: the same campaign under two values of it, with the same losses. A day
is the unit of its time. Assumed, and not sourced: a Device gets its image on the day that it is sent, what is not
answered is asked again the next day, and the old version leaves the CPL once the first images have arrived.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime

from harness.errors import LocalProtocolError
from harness.smi.campaign import SUPPLIERS, CampaignImage, Left, Plan, plan
from harness.smi.devices import DeviceStatus, DeviceType, SmetsFamily, format_eui64, format_version
from harness.smi.firmware_table import CplRow, CplStatus
from harness.smi.inventory import Inventory
from harness.smi.ledger import Consequence
from harness.smi.options import Options
from harness.smi.plain import from_plain, to_plain
from harness.smi.requests import (
    ActivateFirmware,
    PreNotifyDevice,
    ReadFirmwareVersion,
    Refused,
    ServiceRequest,
    User,
)
from harness.smi.responses import (
    ActivationAlertReceived,
    ActivationOutcome,
    CplLoaded,
    DeviceCommissioned,
    DeviceLogUpdated,
    Event,
    FirmwareActivated,
    FirmwareVersionRead,
    ImageDelivered,
    TransferReported,
    TransferResponse,
)

DAY = 86_400.0
RETRY_DAYS = 8
"""For how many days what is not answered is asked again, before another image is sent: assumed."""

_UNKNOWN_HASH = bytes(32)


@dataclass(frozen=True, slots=True)
class Losses:
    """What the WAN loses: the share of responses and of requests, 0 to 1, by a seed. LocalProtocolError for another.

    Each message has a chance of its own, by its Device, its Service Request and the number of the attempt: what is lost
    does not depend on what else was sent, so that two campaigns that differ lose the same where they are the same.
    Images and what the hub says of them are not lost (MP105 is about responses).
    """

    seed: int
    responses: float = 0.2
    requests: float = 0.0

    def __post_init__(self) -> None:
        for name, share in (("responses", self.responses), ("requests", self.requests)):
            if not 0 <= share <= 1:
                raise LocalProtocolError(f"a share of {name} lost of {share}, which is not from 0 to 1")

    def request_lost(self, device: int, srv: str, attempt: int) -> bool:
        """Whether the request is lost on its way down."""
        return self._drawn("down", device, srv, attempt) < self.requests

    def response_lost(self, device: int, srv: str, attempt: int) -> bool:
        """Whether the response is lost on its way up."""
        return self._drawn("up", device, srv, attempt) < self.responses

    def _drawn(self, way: str, device: int, srv: str, attempt: int) -> float:
        # A digest, and no generator: its cost is a microsecond, and nothing is drawn in an order.
        digest = hashlib.blake2b(f"{self.seed} {way} {device} {srv} {attempt}".encode(), digest_size=7)
        return int.from_bytes(digest.digest(), "big") / 2**56


@dataclass(frozen=True, slots=True)
class Count:
    """How the planned Devices stand at the end of a day; aligned: the Inventory has the version that one runs."""

    day: int
    aligned: int
    suspended: int
    updated: int
    """How many run an image of the campaign, whatever the Inventory has."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a campaign under one value of an option.

    `end` is how it stood when all retries were through, `second_images` how many Devices were then sent another image
    because nothing else was left, and `after_second` how it stood after the same retries for that; None: none was sent.
    `requests` are the Service Requests that were sent, by reference; a distribution counts once for all its Devices.
    """

    option: str
    value: str
    planned: int
    refused: int
    end: Count
    second_images: int
    after_second: Count | None
    requests: dict[str, int]
    lost_requests: int
    lost_responses: int
    suspended_device_days: int
    days: tuple[Count, ...]


@dataclass(frozen=True, slots=True)
class CampaignRun:
    """An outcome, with what it was counted from: the plan, the Inventory as it ended, and what each Device runs."""

    outcome: Outcome
    plan: Plan
    inventory: Inventory
    running: dict[int, int]


def compare(
    build: Callable[[Options], Inventory],
    images: Sequence[CampaignImage],
    devices: Sequence[int],
    *,
    option: str,
    values: Sequence[str],
    losses: Losses,
    options: Options | None = None,
    retry_days: int = RETRY_DAYS,
    users: Sequence[User] = SUPPLIERS,
) -> tuple[CampaignRun, ...]:
    """Run one campaign under each value of an option; `build` makes the Inventory, anew for each.

    `options` are all the others. LocalProtocolError for an option or a value that there is none of, less than two
    values or one twice, and for what `plan` does not take.
    """
    if len(values) < 2 or len(set(values)) < len(values):
        raise LocalProtocolError(f"{option}: {', '.join(values) or 'nothing'} is no comparison")
    others = asdict(options or Options())
    chosen = [Options.of({**others, option: value}) for value in values]
    runs = []
    for value, under in zip(values, chosen, strict=True):
        run = _Run(build(under), losses, users, f"{option}={value}")
        runs.append(run.outcome(option, value, images, devices, retry_days))
    return tuple(runs)


def rebuilding(inventory: Inventory) -> Callable[[Options], Inventory]:
    """Return what makes copies of an Inventory as it is now, under options of their own."""
    snapshot = to_plain(inventory)
    return lambda options: from_plain({**snapshot, "options": asdict(options)})


class _Run:
    def __init__(self, inventory: Inventory, losses: Losses, users: Sequence[User], label: str) -> None:
        self.inventory = inventory
        self._losses = losses
        self._users = users
        self._label = label
        day = inventory.ledger.table.day
        self._start = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        self._day = 0
        self.running: dict[int, int] = {}
        self._held: dict[int, CampaignImage] = {}  # what waits at the Device for SR11.3
        self._wanted: dict[int, CampaignImage] = {}
        self._by: dict[int, User] = {}
        self._sent: set[int] = set()  # the versions of the images
        self._attempts: Counter[tuple[int, str]] = Counter()
        self._requests: Counter[str] = Counter()
        self._lost_requests = self._lost_responses = 0
        self._days: list[Count] = []

    def outcome(
        self,
        option: str,
        value: str,
        images: Sequence[CampaignImage],
        devices: Sequence[int],
        retry_days: int,
    ) -> CampaignRun:
        planned = plan(self.inventory, images, devices, users=self._users)
        second = [replace(image, firmware_version=self._next(image), image_hash=None) for image in images]
        # Read before anything is sent: from here on, what a Device runs is not the Inventory's to say.
        for send in (send for wave in planned.waves for send in wave):
            device = send.arrival.device
            self.running[device] = self.inventory.ledger.records[device].firmware_version or 0
        self._send(planned, "first", retry_days, [*images, *second])
        end = self._days[-1] if self._days else self._count()
        stuck = [device for device in self.running if not self._settled(device)]
        again = plan(self.inventory, second, stuck, users=self._users) if stuck else Plan((), (), ())
        sent = sum(map(len, again.waves))
        if sent:
            self._send(again, "second", retry_days, None)
        after = self._days[-1] if sent else None
        outcome = Outcome(
            option,
            value,
            len(self.running),
            len(planned.refused),
            end,
            sent,
            after,
            dict(sorted(self._requests.items())),
            self._lost_requests,
            self._lost_responses,
            sum(count.suspended for count in self._days),
            tuple(self._days),
        )
        return CampaignRun(outcome, planned, self.inventory, self.running)

    # --- what is sent ----------------------------------------------------------------------------------------------

    def _send(self, planned: Plan, name: str, retry_days: int, on_cpl: list[CampaignImage] | None) -> None:
        """Send a plan wave by wave, a day each, and ask again for so many days; `on_cpl` replaces its models' rows."""
        for day in range(len(planned.waves) + retry_days):
            arriving = planned.waves[day] if day < len(planned.waves) else ()
            asked_before = [device for device in self._wanted if not self._settled(device)]
            if arriving:
                self._deliver(planned, day, name)
            if day == 0 and on_cpl is not None:
                self._load_cpl(on_cpl)
            for send in arriving:
                self._begin(send.arrival.device)
            arrived = {send.arrival.device for send in arriving}
            for device in asked_before:
                if device not in arrived and not self._settled(device):
                    self._ask_again(device)
            self._days.append(self._count())
            self._day += 1

    def _deliver(self, planned: Plan, wave: int, name: str) -> None:
        by_device = {send.arrival.device: send for send in planned.waves[wave]}
        for request in planned.requests(wave, f"{self._label}-{name}"):
            self._requests[request.srv] += 1
            self._apply(request)
            for device in request.devices:
                send, version = by_device[device], request.firmware_version
                hub = send.arrival.hub
                self._wanted[device], self._by[device] = send.image, send.user
                self._apply(ImageDelivered(request.request_id, hub, device, version, True))
                self._apply(TransferReported(hub, device, version, TransferResponse.SUCCESS))
                self._held[device] = send.image
                self._sent.add(version)

    def _begin(self, device: int) -> None:
        """Have a Device that has got its image run it: SR11.3, but for a PPMID, which does so by itself."""
        if self._type(device) is not DeviceType.PPMID:
            self._activate(device)
            return
        version = self._held.pop(device).firmware_version
        self.running[device] = version
        self._attempts[device, "0x8F8B"] += 1
        if self._arrives(device, "0x8F8B"):
            self._apply(ActivationAlertReceived(device, version, activated=True))

    def _ask_again(self, device: int) -> None:
        """SR11.3 once more, and where that did not help SR11.2: each as the DSP lets it pass."""
        if self._type(device) is not DeviceType.PPMID:
            self._activate(device)
        if not self._settled(device):
            self._read(device)

    def _activate(self, device: int) -> None:
        image_hash = self._wanted[device].image_hash or _UNKNOWN_HASH
        if self._passes(ActivateFirmware(self._by[device], device, image_hash)):
            held = self._held.pop(device, None)
            if held is not None:
                self.running[device] = held.firmware_version
            outcome = ActivationOutcome.NO_IMAGE_HELD if held is None else ActivationOutcome.SUCCESS
            if self._arrives(device, "11.3"):
                self._apply(FirmwareActivated(device, outcome, self.running[device]))

    def _read(self, device: int) -> None:
        if self._passes(ReadFirmwareVersion(self._by[device], device)) and self._arrives(device, "11.2"):
            self._apply(FirmwareVersionRead(device, self.running[device]))

    def _passes(self, request: ActivateFirmware | ReadFirmwareVersion) -> bool:
        """Whether a request reaches its Device: the DSP lets it pass, and the WAN does not lose it."""
        if isinstance(self._apply(request)[0], Refused):
            return False
        self._requests[request.srv] += 1
        self._attempts[request.device, request.srv] += 1
        lost = self._losses.request_lost(
            request.device, request.srv, self._attempts[request.device, request.srv]
        )
        self._lost_requests += lost
        return not lost

    def _arrives(self, device: int, srv: str) -> bool:
        lost = self._losses.response_lost(device, srv, self._attempts[device, srv])
        self._lost_responses += lost
        return not lost

    # --- how it stands ---------------------------------------------------------------------------------------------

    def _settled(self, device: int) -> bool:
        """Whether the Inventory has what was wanted of a Device: all that its Supplier knows."""
        record = self.inventory.ledger.records[device]
        wanted = self._wanted.get(device)
        return (
            wanted is not None
            and record.firmware_version == wanted.firmware_version
            and record.status is not DeviceStatus.SUSPENDED
        )

    def _count(self) -> Count:
        records = self.inventory.ledger.records
        return Count(
            self._day,
            sum(records[device].firmware_version == version for device, version in self.running.items()),
            sum(records[device].status is DeviceStatus.SUSPENDED for device in self.running),
            sum(version in self._sent for version in self.running.values()),
        )

    def _type(self, device: int) -> DeviceType:
        return self.inventory.ledger.records[device].device_type

    def _next(self, image: CampaignImage) -> int:
        """Return the version of the second image of a model: the one above all that its CPL rows have."""
        rows = self.inventory.rows()
        model = (image.manufacturer, image.model)
        return 1 + max(
            image.firmware_version,
            *(row.firmware_version for row in rows if (row.manufacturer, row.model) == model),
        )

    def _load_cpl(self, images: list[CampaignImage]) -> None:
        """Publish a CPL that has these images and no other version of their models."""
        by_model: dict[tuple[str, str], list[CampaignImage]] = {}
        for image in images:
            by_model.setdefault((image.manufacturer, image.model), []).append(image)
        rows: list[CplRow] = []
        for row in self.inventory.rows():
            of_model = by_model.get((row.manufacturer, row.model))
            if of_model is None:
                rows.append(row)
            elif row.firmware_version != of_model[0].firmware_version:
                rows.append(replace(row, status=CplStatus.WITHDRAWN))
            else:
                other = hashlib.sha256(row.image_hash).digest()  # of an image that nobody has
                rows += [row, *(_row_of(image, row, other) for image in of_model[1:])]
        self._apply(CplLoaded(f"CPL of day {self._day}, {self._label}", tuple(rows)))

    def _apply(self, event: Event | ServiceRequest) -> list[Consequence]:
        return self.inventory.apply(event, self._start + self._day * DAY)


def _row_of(image: CampaignImage, like: CplRow, image_hash: bytes) -> CplRow:
    return replace(like, firmware_version=image.firmware_version, image_hash=image_hash, row=None)


# --- Devices for a campaign that has none ----------------------------------------------------------------------------

METER = CampaignImage("Harness", "ESME", 0x0100_0001)
"""The image of the campaign over the meters of `made_up_meters`."""

_FIRST_HUB, _FIRST_METER = 0x000D_6F00_0A00_0000, 0x000D_6F00_0B00_0000
_MP105_IN_FORCE = datetime(2021, 11, 4, tzinfo=UTC)  # F4.3


def made_up_meters(count: int, options: Options | None = None) -> Inventory:
    """Return an Inventory of so many made-up ESMEs, each commissioned at a hub of its own.

    LocalProtocolError for no Device at all, or more than a made-up range of EUI-64s has.
    """
    if not 0 < count <= 1_000_000:
        raise LocalProtocolError(f"a campaign over {count} Devices, which is not from 1 to 1,000,000")
    inventory, now = Inventory(options), _MP105_IN_FORCE.timestamp()
    user, smets, esme = SUPPLIERS[0], SmetsFamily.SMETS2, DeviceType.ESME
    old = METER.firmware_version - 1
    rows = (
        _row(DeviceType.CHF, "Hub", old),
        _row(esme, METER.model, old),
        _row(esme, METER.model, METER.firmware_version),
    )
    inventory.apply(CplLoaded("made-up CPL", rows), now)
    for number in range(count):
        hub, meter = _FIRST_HUB + number, _FIRST_METER + number
        for event in (
            PreNotifyDevice(user, hub, DeviceType.CHF, METER.manufacturer, "Hub", smets, old),
            DeviceCommissioned(hub),
            PreNotifyDevice(user, meter, esme, METER.manufacturer, METER.model, smets, old),
            DeviceLogUpdated(hub, meter, added=True),
            DeviceCommissioned(meter),
        ):
            inventory.apply(event, now)
    return inventory


def _row(kind: DeviceType, model: str, version: int) -> CplRow:
    image_hash = hashlib.sha256(f"{model} {format_version(version)}".encode()).digest()
    return CplRow(
        kind, METER.manufacturer, model, None, version, SmetsFamily.SMETS2, "5.1", "4.1", image_hash, CplStatus.ACTIVE
    )  # fmt: skip


# --- as plain data ---------------------------------------------------------------------------------------------------

SCHEMA = "harness.campaign/1"
PLAN_SCHEMA = "harness.campaign-plan/1"


def plan_to_plain(planned: Plan) -> dict[str, object]:
    """Return a plan as JSON has it: `schema`, `waves`, `refused`, `under_way`."""
    return {
        "schema": PLAN_SCHEMA,
        "waves": [
            [
                {
                    "device": format_eui64(send.arrival.device),
                    "hub": format_eui64(send.arrival.hub),
                    "target": str(send.arrival.target),
                    "firmware_version": format_version(send.image.firmware_version),
                    "user": str(send.user.role),
                    "after": None
                    if send.after is None
                    else {
                        "note": send.after.note,
                        "basis": str(send.after.basis),
                        "source": send.after.source,
                    },
                }
                for send in wave
            ]
            for wave in planned.waves
        ],
        "refused": [_left_to_plain(left) for left in planned.refused],
        "under_way": [
            {"device": format_eui64(one.device), "hub": format_eui64(one.hub), "target": str(one.target)}
            for one in planned.under_way
        ],
    }


def runs_to_plain(runs: Sequence[CampaignRun], losses: Losses, retry_days: int) -> dict[str, object]:
    """Return a comparison as JSON has it: `schema`, `compare`, the WAN's settings and the `outcomes`."""
    return {
        "schema": SCHEMA,
        "compare": runs[0].outcome.option,
        "seed": losses.seed,
        "loss": losses.responses,
        "request_loss": losses.requests,
        "retry_days": retry_days,
        "outcomes": [asdict(run.outcome) for run in runs],
    }


def _left_to_plain(left: Left) -> dict[str, object]:
    return {
        "device": format_eui64(left.device),
        "reason": left.reason,
        "list": left.listed,
        "rule": left.rule,
    }
