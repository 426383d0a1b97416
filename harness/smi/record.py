"""What the Inventory keeps of one Device, with how it came about, and what it shows of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

from harness.smi.devices import DeviceStatus, DeviceType, PpmidVariant, SmetsFamily
from harness.smi.firmware_table import CplRow
from harness.smi.requests import ServiceRequest
from harness.smi.responses import Cause, Event

HISTORY_LIMIT = 16
"""The most changes that are kept of one Device. The last change of each field is always among them."""


class Stage(StrEnum):
    """How far an image has come on its way to its Device, as far as the DSP was told (AH-15)."""

    REQUESTED = "requested"
    AT_HUB = "delivered to the hub"
    AT_DEVICE = "delivered to the Device"


class Upgrade(NamedTuple):
    """The image that is on its way to a Device."""

    request_id: str
    firmware_version: int
    stage: Stage

    def __str__(self) -> str:
        return f"{self.firmware_version:08X} {self.stage} ({self.request_id})"


FieldValue = DeviceStatus | SmetsFamily | PpmidVariant | Upgrade | int | str | None


class Change(NamedTuple):
    """One change of one field of a record: when (POSIX seconds), by which rule (its id), because of what."""

    at: float
    rule: str
    event: Event | ServiceRequest | Cause
    field: str
    before: FieldValue
    after: FieldValue


class Record:
    """A Device as the Inventory works on it. What a field was set to by, the history says."""

    __slots__ = (
        "active_rows",
        "commissioned_at",
        "device",
        "device_type",
        "firmware_version",
        "forgotten",
        "history",
        "hub",
        "manufacturer",
        "model",
        "moved",
        "ppmid_variant",
        "smets",
        "status",
        "status_before_suspension",
        "upgrade",
    )

    def __init__(
        self,
        device: int,
        device_type: DeviceType,
        manufacturer: str,
        model: str,
        smets: SmetsFamily,
        active_rows: Mapping[int, CplRow],
    ) -> None:
        self.device = device
        self.device_type = device_type
        self.manufacturer = manufacturer
        self.model = model
        self.smets = smets
        self.active_rows = active_rows
        """Its model's Active rows by firmware version: the Firmware Version table's own, which loads change."""
        self.status: DeviceStatus | None = (
            None  # only until its first change, which comes with the pre-notification
        )
        self.status_before_suspension: DeviceStatus | None = None
        self.firmware_version: int | None = None
        self.ppmid_variant: PpmidVariant | None = None
        self.hub: int | None = None
        self.moved = False  # it has left a Smart Metering System
        self.commissioned_at: float | None = None
        self.upgrade: Upgrade | None = None
        # Plain tuples in the form of Change: there are as many as a hundred thousand Devices have.
        self.history: list[tuple[float, str, object, str, FieldValue, FieldValue]] = []
        self.forgotten = 0

    def set(self, field: str, value: FieldValue, at: float, rule: str, event: object) -> None:
        """Change a field, and keep why. What is so already is not changed."""
        before = getattr(self, field)
        if before == value:
            return
        setattr(self, field, value)
        if len(self.history) >= HISTORY_LIMIT:
            self.forget()
        self.history.append((at, rule, event, field, before, value))

    def forget(self) -> None:
        """Drop the older half of the history, but for the last change of each field."""
        # By the half, for a change to cost little: a Device that changes often would else pay for each.
        history = self.history
        recent = history[HISTORY_LIMIT // 2 :]
        fields = {change[3] for change in recent}
        kept = []
        for change in reversed(history[: HISTORY_LIMIT // 2]):
            if change[3] not in fields:
                fields.add(change[3])
                kept.append(change)
        kept.reverse()
        self.forgotten += len(history) - len(kept) - len(recent)
        self.history = kept + recent


@dataclass(frozen=True, slots=True)
class Device:
    """A Device as the Inventory shows it, at one moment. `row` is its Active CPL row; None: it has none."""

    device: int
    device_type: DeviceType
    manufacturer: str
    model: str
    smets: SmetsFamily
    firmware_version: int | None
    status: DeviceStatus
    status_before_suspension: DeviceStatus | None
    ppmid_variant: PpmidVariant | None
    hub: int | None
    commissioned_at: float | None
    upgrade: Upgrade | None
    row: CplRow | None
    history: tuple[Change, ...]
    forgotten: int
    """How many changes are no longer in the history."""


@dataclass(frozen=True, slots=True)
class SmartMeteringSystem:
    """A Communications Hub and the Devices of its Device Log, in the order in which they were added."""

    hub: int
    smets: SmetsFamily
    devices: tuple[Device, ...]
