"""The records of an Inventory and the table that judges them: the changes that all events are made of."""

from __future__ import annotations

from harness.errors import LocalProtocolError
from harness.smi.alerts import Alert, DeviceRestored, DeviceSuspended, FirmwareNotOnCpl, SmetsFamilyMismatch
from harness.smi.devices import (
    ON_THE_CPL,
    DeviceStatus,
    DeviceType,
    check_eui64,
    check_version,
    format_eui64,
)
from harness.smi.firmware_table import FirmwareTable
from harness.smi.options import Options
from harness.smi.record import Record
from harness.smi.requests import Verdict
from harness.smi.responses import Event, FirmwareVersionRead
from harness.smi.rules import base, mp202

Consequence = Verdict | Alert

GONE = (DeviceStatus.DECOMMISSIONED, DeviceStatus.WITHDRAWN)
_SUSPENDED, _COMMISSIONED, _PPMID = DeviceStatus.SUSPENDED, DeviceStatus.COMMISSIONED, DeviceType.PPMID
# As they are decided, without the call through the rule: a hundred thousand Devices pass here.
_is_suspended, _is_restored = base.suspended.decide, base.restored.decide


class Ledger:
    """What an Inventory writes in. After each change of a version, a family or a row, its Device is settled."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.table = FirmwareTable()
        self.cpl = "no CPL"
        """The label of the CPL that was loaded last."""
        self.records: dict[int, Record] = {}
        self.systems: dict[int, dict[int, None]] = {}
        """By hub what is in its Device Log, in the order of being added."""

    def take_version(
        self, record: Record, version: int, by: str, event: Event, now: float
    ) -> list[Consequence]:
        """Put another version into a record. LocalProtocolError for what is none."""
        active = version in record.active_rows
        if not active:
            check_version(version)
        record.set("firmware_version", version, now, by, event)
        if active and record.status is not _SUSPENDED and record.device_type is not _PPMID:
            return []  # nothing follows: most changes end here
        alerts: list[Consequence] = []
        if record.device_type is _PPMID and record.hub is not None:
            alerts += self.bind(record, self.records[record.hub], event, now)
        if version not in record.active_rows and record.device_type in ON_THE_CPL:
            activated = type(event) is not FirmwareVersionRead
            alerts.append(FirmwareNotOnCpl(record.device, version, activated))
        alerts += self.settle(record, now, event)
        return alerts

    def settle(
        self,
        record: Record,
        now: float,
        event: object,
        restoring: str = base.restored.id,
        suspending: str = base.suspended.id,
    ) -> list[Consequence]:
        """Suspend or restore a Device by its version. Whatever changes a version, a family or a row ends here."""
        if record.status is _SUSPENDED:
            if not _is_restored(record):
                return []
            record.set("status", record.status_before_suspension, now, restoring, event)
            record.status_before_suspension = None
            return [DeviceRestored(record.device)]
        if not _is_suspended(record):
            return []
        record.status_before_suspension = record.status
        record.set("status", _SUSPENDED, now, suspending, event)
        return [DeviceSuspended(record.device)]

    def bind(self, record: Record, hub: Record, event: Event, now: float) -> list[Consequence]:
        """Give a dual-mode PPMID the family of its hub (MP202)."""
        bound = mp202.bound_by_hub
        if record.smets is hub.smets or not bound.holds(self.options):
            return []
        if bound(record, self.table, hub.smets):
            by = mp202.bound_anew.id if mp202.bound_anew(record) else bound.id
            record.set("smets", hub.smets, now, by, event)
            record.active_rows = self.table.active(record.manufacturer, record.model, hub.smets)
            return self.settle(record, now, event, by)
        if mp202.not_bound(record.device_type):
            return [SmetsFamilyMismatch(record.device, hub.device, record.smets, hub.smets)]
        return []

    def move(
        self, record: Record, status: DeviceStatus, now: float, by: str, event: object
    ) -> list[Consequence]:
        """Give a Device a status. One that is Suspended stays so, unless it goes: it has the status once restored."""
        if status is _COMMISSIONED:
            record.commissioned_at = now
        elif status is DeviceStatus.DECOMMISSIONED:
            record.commissioned_at = None
        if record.status is _SUSPENDED and status not in GONE:
            record.set("status_before_suspension", status, now, by, event)
            return []
        record.set("status", status, now, by, event)
        record.status_before_suspension = None
        return self.settle(record, now, event)

    def enrol(self, record: Record, hub: int, now: float, by: str, event: object) -> None:
        """Put a Device into the Smart Metering System of a hub. LocalProtocolError for another hub."""
        if record.device_type is DeviceType.CHF:
            raise LocalProtocolError(f"CHF {format_eui64(record.device)} has no place in a Device Log")
        self.systems[hub][record.device] = None
        record.set("hub", hub, now, by, event)

    def leave(self, record: Record, now: float, by: str, event: object) -> None:
        """Take a Device out of its Smart Metering System, where it has one; no image is on its way to it then."""
        if record.hub is not None:
            del self.systems[record.hub][record.device]
            record.moved = True
            record.set("hub", None, now, by, event)
            record.set("upgrade", None, now, by, event)

    def record(self, device: int) -> Record:
        """Return a record. LocalProtocolError for a Device that is not in the Inventory."""
        record = self.records.get(device)
        if record is None:
            raise unknown(device)
        return record

    def hub(self, hub: int) -> Record:
        """Return the record of a hub. LocalProtocolError for what is none."""
        record = self.record(hub)
        if record.device_type is not DeviceType.CHF:
            raise LocalProtocolError(f"{record.device_type} {format_eui64(hub)} is no Communications Hub")
        return record


def unknown(device: object) -> LocalProtocolError:
    """Return the error that says that a Device is not in the Inventory, or that it is no Device at all."""
    return LocalProtocolError(f"{format_eui64(check_eui64(device))} is not in the Inventory")
