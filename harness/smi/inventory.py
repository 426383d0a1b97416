"""The Smart Metering Inventory: its records, what changes them, and why each is as it is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from harness.errors import LocalProtocolError
from harness.smi.alerts import (
    CommsHubAlert,
    CommsHubFirmwareActivation,
    CSPFirmwareDeliveryStatus,
    FirmwareVersionMismatch,
    PPMIDAlert,
)
from harness.smi.checks import Checks
from harness.smi.devices import DeviceStatus, DeviceType, format_eui64
from harness.smi.explain import explain
from harness.smi.firmware_table import CplRow, ModelKey
from harness.smi.ledger import GONE, Consequence, Ledger, unknown
from harness.smi.options import Options
from harness.smi.record import Change, Device, Record, SmartMeteringSystem, Stage, Upgrade
from harness.smi.requests import (
    Acknowledged,
    ActivateFirmware,
    CommissionDevice,
    DecommissionDevice,
    Distribution,
    OtherRequest,
    PreNotifyDevice,
    ReadFirmwareVersion,
    Refused,
    ServiceRequest,
    UpdateDeviceLog,
    UpdateFirmware,
    UpdateInventory,
    UpdatePpmidFirmware,
    Verdict,
)
from harness.smi.responses import (
    ActivationAlertReceived,
    ActiveRowsChanged,
    CplLoaded,
    DeviceCommissioned,
    DeviceJoined,
    DeviceLogUpdated,
    DeviceOptedOut,
    Event,
    FirmwareActivated,
    FirmwareVerified,
    FirmwareVersionRead,
    HubFirmwareActivated,
    ImageDelivered,
    ImageRequested,
    PpmidLabelled,
    PpmidsLabelled,
    RecoveryCompleted,
    RecoveryStarted,
    TimePassed,
    TransferReported,
    TransferResponse,
)
from harness.smi.rules import base, mp105, mp170, mp202, secmp0007

_Request = TypeVar("_Request", bound=ServiceRequest)


class Inventory:
    """The Devices of some premises under one set of options. Times are POSIX seconds; EUI-64s are integers.

    It knows what was applied to it and nothing else: what a Device really runs reaches it by responses and alerts.
    Whatever raises has changed nothing.
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self.keeping: Callable[[Event | ServiceRequest, float], AbstractContextManager[object]] | None = None
        """What keeps each thing that is applied, around its being applied: before anybody is told what comes of it."""
        self.ledger = Ledger(self.options)
        self._records, self._systems = self.ledger.records, self.ledger.systems
        self._table = self.ledger.table
        self._checks = Checks(self.options, self._records, self._table)
        # By type: the rule by which a response to SR11.2, or one to SR11.3 of any outcome, updates the version.
        self._on_reading: dict[DeviceType, str] = {}
        self._on_any_outcome: dict[DeviceType, str] = {}
        for kind in DeviceType:
            extended = secmp0007.versions_are_read.holds(self.options) and secmp0007.versions_are_read(kind)
            for rules, found in (
                (self._on_reading, mp105.version_read),
                (self._on_any_outcome, mp105.version_in_any_outcome),
            ):
                if found.holds(self.options) and (found(kind) or extended):
                    rules[kind] = found.id
        self._handlers: dict[type, Callable[[Any, float], list[Consequence]]] = {
            FirmwareVersionRead: self._version_read,
            FirmwareActivated: self._firmware_activated,
            ActivationAlertReceived: self._activation_alert,
            FirmwareVerified: self._firmware_verified,
            ImageDelivered: self._image_delivered,
            TransferReported: self._transfer_reported,
            HubFirmwareActivated: self._hub_activated,
            DeviceLogUpdated: self._device_log_updated,
            DeviceJoined: self._joined,
            DeviceCommissioned: self._commissioned,
            DeviceOptedOut: self._opted_out,
            RecoveryStarted: self._recovery_started,
            RecoveryCompleted: self._recovery_completed,
            CplLoaded: self._cpl_loaded,
            TimePassed: self._time_passed,
            PpmidsLabelled: self._ppmids_labelled,
            UpdateFirmware: self._request(self._distribute),
            UpdatePpmidFirmware: self._request(self._distribute),
            PreNotifyDevice: self._request(self._pre_notify),
            UpdateInventory: self._request(self._update),
            DecommissionDevice: self._request(self._decommission),
            # Nothing changes before these are answered.
            ReadFirmwareVersion: self._request(None),
            ActivateFirmware: self._request(None),
            UpdateDeviceLog: self._request(None),
            CommissionDevice: self._request(None),
            OtherRequest: self._request(None),
        }

    # --- what is asked of it ---------------------------------------------------------------------------------------

    def check(self, request: ServiceRequest) -> Verdict:
        """Say what becomes of a Service Request, and change nothing. LocalProtocolError for what is none."""
        return self._checks.verdict(request)

    def apply(self, event: Event | ServiceRequest, now: float) -> list[Consequence]:
        """Take what happened; a Service Request is checked, and its verdict is the first consequence.

        LocalProtocolError for an event about a Device that is not in the Inventory, or cannot have sent it; RigError
        for a CPL that contradicts itself. Nothing has changed then.
        """
        handler = self._handlers.get(type(event))
        if handler is None:
            raise LocalProtocolError(f"the Inventory does not know of {type(event).__name__}: {event!r}")
        if self.keeping is None:
            return handler(event, now)
        with self.keeping(event, now):
            return handler(event, now)

    def next_deadline(self) -> float | None:
        """When the next CPL row expires, for a `TimePassed`; None: none does."""
        return self._table.next_deadline()

    def on_deadline(self, now: float) -> list[Consequence]:
        """Take that time has passed."""
        return self.apply(TimePassed(), now)

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[int]:
        """Iterate over the EUI-64s, in the order of pre-notification."""
        return iter(self._records)

    def __contains__(self, device: object) -> bool:
        return device in self._records

    def device(self, device: int) -> Device:
        """Return a Device as it is now. LocalProtocolError for one that is not in the Inventory."""
        record = self.ledger.record(device)
        assert record.status is not None
        return Device(
            record.device,
            record.device_type,
            record.manufacturer,
            record.model,
            record.smets,
            record.firmware_version,
            record.status,
            record.status_before_suspension,
            record.ppmid_variant,
            record.hub,
            record.commissioned_at,
            record.upgrade,
            None if record.firmware_version is None else record.active_rows.get(record.firmware_version),
            tuple(Change._make(change) for change in record.history),
            record.forgotten,
        )

    def explain(self, device: int) -> list[str]:
        """Say how a Device stands, and for each change that is kept when, what, because of what and by which rule.

        LocalProtocolError for one that is not in the Inventory.
        """
        return explain(self.device(device), self.ledger.cpl)

    def system(self, hub: int) -> SmartMeteringSystem:
        """Return the Smart Metering System of a hub. LocalProtocolError for what is no hub in the Inventory."""
        record = self.ledger.hub(hub)
        devices = tuple(self.device(device) for device in self._systems[hub])
        return SmartMeteringSystem(hub, record.smets, devices)

    def rows(self) -> tuple[CplRow, ...]:
        """Return the rows of the Firmware Version table, Active or not."""
        return tuple(self._table)

    # --- Service Requests ----------------------------------------------------------------------------------------

    def _request(
        self, then: Callable[[_Request, Acknowledged, float], list[Consequence]] | None
    ) -> Callable[[_Request, float], list[Consequence]]:
        def handle(request: _Request, now: float) -> list[Consequence]:
            verdict = self._checks.verdict(request)
            if then is None or isinstance(verdict, Refused):
                return [verdict]
            return [verdict, *then(request, verdict, now)]

        return handle

    def _distribute(self, request: Distribution, verdict: Acknowledged, now: float) -> list[Consequence]:
        cause = ImageRequested(request.request_id, request.srv, request.firmware_version)
        upgrade = Upgrade(request.request_id, request.firmware_version, Stage.REQUESTED)
        for device in verdict.sent_to:
            self._records[device].set("upgrade", upgrade, now, base.image_is_on_its_way.id, cause)
        return []

    def _pre_notify(self, request: PreNotifyDevice, _: Acknowledged, now: float) -> list[Consequence]:
        self._add(request, request.device, request.device_type, now)
        if request.device_type is DeviceType.CHF:
            self._systems[request.device] = {}
            if request.associated_gpf is not None:
                gpf = self._add(request, request.associated_gpf, DeviceType.GPF, now)
                self.ledger.enrol(gpf, request.device, now, base.pre_notified.id, request)
        return []

    def _add(self, request: PreNotifyDevice, device: int, kind: DeviceType, now: float) -> Record:
        rows = self._table.active(request.manufacturer, request.model, request.smets)
        record = Record(device, kind, request.manufacturer, request.model, request.smets, rows)
        by = base.pre_notified.id
        record.set("status", DeviceStatus.PENDING, now, by, request)
        if kind is request.device_type:
            record.set("firmware_version", request.firmware_version, now, by, request)
            record.set("ppmid_variant", request.ppmid_variant, now, by, request)
        self._records[device] = record
        return record

    def _update(self, request: UpdateInventory, _: Acknowledged, now: float) -> list[Consequence]:
        record = self._records[request.device]
        if request.delete:
            self.ledger.leave(record, now, base.record_is_deletable.id, request)
            for device in self._systems.pop(record.device, ()):
                self._records[device].set("hub", None, now, base.record_is_deletable.id, request)
            del self._records[record.device]
            return []
        if request.ppmid_variant is not None:
            record.set("ppmid_variant", request.ppmid_variant, now, mp170.variant_changed.id, request)
            return []
        if request.firmware_version is not None:
            by = base.version_is_settable.id
            record.set("firmware_version", request.firmware_version, now, by, request)
            return self.ledger.settle(record, now, request)
        assert request.status is not None
        return self.ledger.move(record, request.status, now, base.status_is_settable.id, request)

    def _decommission(self, request: DecommissionDevice, _: Acknowledged, now: float) -> list[Consequence]:
        record = self._records[request.device]
        by = base.decommissioned.id
        self.ledger.leave(record, now, by, request)
        return self.ledger.move(record, base.decommissioned(), now, by, request)

    # --- versions ------------------------------------------------------------------------------------------------

    def _version_read(self, event: FirmwareVersionRead, now: float) -> list[Consequence]:
        record = self._records.get(event.device)
        if record is None:
            raise unknown(event.device)
        version = event.firmware_version
        # What the Inventory has is settled already: nothing changes. Most responses end here.
        if version == record.firmware_version:
            return []
        by = self._on_reading.get(record.device_type)
        if by is not None:
            return self.ledger.take_version(record, version, by, event, now)
        if record.device_type is DeviceType.GPF and record.hub is not None:
            return [
                FirmwareVersionMismatch(gsme.device, gsme.device_type, gsme.firmware_version, version)
                for gsme in map(self._records.__getitem__, self._systems[record.hub])
                if gsme.device_type is DeviceType.GSME and mp105.gpf_shows_mismatch(gsme, version)
            ]
        return []

    def _firmware_activated(self, event: FirmwareActivated, now: float) -> list[Consequence]:
        record = self._records.get(event.device)
        if record is None:
            raise unknown(event.device)
        version, upgrade = event.firmware_version, record.upgrade
        success = base.activated.decide(event.outcome)
        if success:
            by: str | None = base.activated.id
        else:
            by = self._on_any_outcome.get(record.device_type)
        alerts: list[Consequence] = []
        if by is not None and version != record.firmware_version:
            alerts = self.ledger.take_version(record, version, by, event, now)
        if upgrade is not None and (success or (by and upgrade[1] == version)):
            record.set("upgrade", None, now, base.upgrade_ended.id, event)
        return alerts

    def _activation_alert(self, event: ActivationAlertReceived, now: float) -> list[Consequence]:
        record = self.ledger.record(event.device)
        if not secmp0007.version_in_alert(record.device_type):
            raise LocalProtocolError(f"0x8F8B from {record.device_type} {format_eui64(record.device)}")
        if not secmp0007.version_in_alert.holds(self.options):
            return []
        alerts: list[Consequence] = []
        version = event.firmware_version
        if event.activated and version != record.firmware_version:
            alerts = self.ledger.take_version(record, version, secmp0007.version_in_alert.id, event, now)
        # Activated or not, the image is at its end: mp170.failure_says_no_version leaves the version as it was.
        record.set("upgrade", None, now, base.upgrade_ended.id, event)
        if secmp0007.activates_by_itself(record.device_type):
            alerts.append(PPMIDAlert(record.device, version, event.activated))
        return alerts

    def _hub_activated(self, event: HubFirmwareActivated, now: float) -> list[Consequence]:
        record = self.ledger.hub(event.device)
        alert = CommsHubFirmwareActivation(record.device, event.firmware_version)
        if event.firmware_version == record.firmware_version:
            return [alert]
        return [
            alert,
            *self.ledger.take_version(record, event.firmware_version, base.hub_activated.id, event, now),
        ]

    # --- images on their way -------------------------------------------------------------------------------------

    def _image_delivered(self, event: ImageDelivered, now: float) -> list[Consequence]:
        self.ledger.hub(event.hub)
        record = self.ledger.record(event.device)
        upgrade = record.upgrade
        if upgrade is not None and upgrade.request_id == event.request_id:
            self._stage(record, base.delivered_to_hub(event.delivered), now, base.delivered_to_hub.id, event)
        if not base.delivery_is_alerted(record.device_type):
            return []
        return [
            CSPFirmwareDeliveryStatus(
                event.request_id, event.hub, event.device, event.firmware_version, event.delivered
            )
        ]

    def _transfer_reported(self, event: TransferReported, now: float) -> list[Consequence]:
        self.ledger.hub(event.hub)
        record = self.ledger.record(event.device)
        upgrade, request_id = record.upgrade, None
        if upgrade is not None and upgrade.firmware_version == event.firmware_version:
            request_id = upgrade.request_id
            stage = base.delivered_to_device(event.response == TransferResponse.SUCCESS)
            self._stage(record, stage, now, base.delivered_to_device.id, event)
        return [CommsHubAlert(event.hub, event.device, event.firmware_version, event.response, request_id)]

    def _firmware_verified(self, event: FirmwareVerified, now: float) -> list[Consequence]:
        record = self.ledger.record(event.device)
        if record.upgrade is not None:
            stage = Stage.AT_DEVICE if event.valid else None
            self._stage(record, stage, now, base.upgrade_ended.id, event)
        return []

    def _stage(self, record: Record, stage: Stage | None, now: float, by: str, event: Event) -> None:
        assert record.upgrade is not None
        upgrade = None if stage is None else record.upgrade._replace(stage=stage)
        record.set("upgrade", upgrade, now, by, event)

    # --- joining, statuses ---------------------------------------------------------------------------------------

    def _device_log_updated(self, event: DeviceLogUpdated, now: float) -> list[Consequence]:
        self.ledger.hub(event.hub)
        record = self.ledger.record(event.device)
        by = base.added_to_device_log.id
        if not event.done or record.status in GONE or event.added is (record.hub == event.hub):
            return []
        if not event.added and record.hub is not None and record.hub != event.hub:
            return []  # it has moved on already
        self.ledger.leave(record, now, by, event)
        if event.added:
            self.ledger.enrol(record, event.hub, now, by, event)
        return self.ledger.move(record, base.added_to_device_log(event.added), now, by, event)

    def _joined(self, event: DeviceJoined, now: float) -> list[Consequence]:
        hub = self.ledger.hub(event.hub)
        record = self.ledger.record(event.device)
        by = base.joined.id
        if record.status in GONE:
            return []
        if record.hub != event.hub:  # the response to SR8.11 was lost
            self.ledger.leave(record, now, by, event)
            self.ledger.enrol(record, event.hub, now, by, event)
        alerts: list[Consequence] = []
        suspended = record.status is DeviceStatus.SUSPENDED
        if base.joined(record.status_before_suspension if suspended else record.status):
            alerts = self.ledger.move(record, DeviceStatus.INSTALLED_NOT_COMMISSIONED, now, by, event)
        return [*alerts, *self.ledger.bind(record, hub, event, now)]

    def _commissioned(self, event: DeviceCommissioned, now: float) -> list[Consequence]:
        record = self.ledger.record(event.device)
        if record.status in GONE:
            return []
        alerts = self.ledger.move(record, base.commissioned(), now, base.commissioned.id, event)
        if record.hub is not None:
            alerts += self.ledger.bind(record, self._records[record.hub], event, now)
        return alerts

    def _opted_out(self, event: DeviceOptedOut, now: float) -> list[Consequence]:
        record = self.ledger.record(event.device)
        return self.ledger.move(record, base.withdrawn(), now, base.withdrawn.id, event)

    def _recovery_started(self, event: RecoveryStarted, now: float) -> list[Consequence]:
        record = self.ledger.record(event.device)
        return self.ledger.move(record, base.recovering(completed=False), now, base.recovering.id, event)

    def _recovery_completed(self, event: RecoveryCompleted, now: float) -> list[Consequence]:
        record = self.ledger.record(event.device)
        return self.ledger.move(record, base.recovering(completed=True), now, base.recovering.id, event)

    # --- the CPL, and what is about many Devices -------------------------------------------------------------------

    def _cpl_loaded(self, event: CplLoaded, now: float) -> list[Consequence]:
        changed = self._table.load(event.rows, now)
        self.ledger.cpl = event.label
        return self._settle_all(changed, now)

    def _time_passed(self, _: TimePassed, now: float) -> list[Consequence]:
        return self._settle_all(self._table.pass_to(now), now)

    def _settle_all(self, changed: set[ModelKey], now: float) -> list[Consequence]:
        causes = {model: ActiveRowsChanged(self.ledger.cpl, model) for model in changed}
        restoring, family = base.restored_by_the_cpl.id, mp202.row_of_family_gone
        late_binding = family.holds(self.options)
        alerts: list[Consequence] = []
        for record in self._records.values() if causes else ():
            cause = causes.get((record.manufacturer, record.model, record.smets))
            if cause is not None:
                by = family if late_binding and family(record.device_type) else base.suspended
                alerts += self.ledger.settle(record, now, cause, restoring, by.id)
        return alerts

    def _ppmids_labelled(self, event: PpmidsLabelled, now: float) -> list[Consequence]:
        if not mp170.uplifted.holds(self.options):
            raise LocalProtocolError(f"there is no PPMIDVariant: mp170 is {self.options.mp170}")
        for device, variant in event.labels:
            record, hidden = self.ledger.record(device), self._checks.shows_variant(variant)
            if hidden is not None or not mp170.uplifted(record):
                has = f"{record.device_type} {format_eui64(device)}, which has variant {record.ppmid_variant}"
                raise LocalProtocolError(f"the uplift cannot label {has}, as {variant}")
        for device, variant in event.labels:
            by = mp170.uplifted.id
            self._records[device].set("ppmid_variant", variant, now, by, PpmidLabelled(variant))
        return []
