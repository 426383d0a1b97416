"""What the DSP says of a Service Request before anything is sent: E1 to E5, E11, E19, and the five lists."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.errors import LocalProtocolError
from harness.smi.devices import (
    DeviceStatus,
    DeviceType,
    PpmidVariant,
    check_eui64,
    format_eui64,
    format_version,
)
from harness.smi.firmware_table import FirmwareTable
from harness.smi.options import Options
from harness.smi.record import Record
from harness.smi.requests import (
    Acknowledged,
    Code,
    DeviceLists,
    DeviceRequest,
    Distribution,
    PreNotifyDevice,
    Refused,
    ServiceRequest,
    UpdateDeviceLog,
    UpdateFirmware,
    UpdateInventory,
    UpdatePpmidFirmware,
    Verdict,
)
from harness.smi.rule import Rule
from harness.smi.rules import base, mp105, mp170, mp202, secmp0007

_SHOWN = (mp170.no_variant, mp170.all_bridges_shown, mp170.option_a_shows, mp170.option_b_shows)

# By what PPMIDs and HCALCSs have these Service Requests.
_EXTENDED: dict[str, Rule[Any, Any]] = {"11.2": secmp0007.versions_are_read, "11.3": secmp0007.takes_images}

# Which list of `DeviceLists` a Device is on; None: the image goes to it.
_FREE = None


class Checks:
    """Judges Service Requests by the records and the Firmware Version table of an Inventory; changes neither."""

    def __init__(self, options: Options, records: Mapping[int, Record], table: FirmwareTable) -> None:
        self._options = options
        self._records = records
        self._table = table

    def verdict(self, request: ServiceRequest) -> Verdict:
        """Judge a request. LocalProtocolError for what is no request, or is for what is no EUI-64."""
        if not isinstance(request, ServiceRequest):
            raise LocalProtocolError(f"{request!r} is no Service Request")
        refused = self._sender(request)
        if refused is not None:
            return refused
        if isinstance(request, UpdateFirmware | UpdatePpmidFirmware):
            return self._distribution(request)
        if isinstance(request, PreNotifyDevice):
            return self._pre_notification(request)
        return self._device_request(request)

    def shows_variant(self, variant: PpmidVariant | None) -> Rule[[PpmidVariant | None], bool] | None:
        """Return the rule by which the Inventory cannot show a PPMIDVariant; None: it can."""
        return next((shown for shown in _SHOWN if self._holds(shown) and not shown(variant)), None)

    def _holds(self, rule: Rule[Any, Any]) -> bool:
        return rule.holds(self._options)

    # --- the sender ----------------------------------------------------------------------------------------------

    def _sender(self, request: ServiceRequest) -> Refused | None:
        role = request.user.role
        if not base.user_is_known(request.user):
            return _refused(Code.INVALID_USER, base.user_is_known, f"no SEC Party is known as this {role}")
        if not base.role_may_send(request):
            return _refused(
                Code.ROLE_MAY_NOT_SEND, base.role_may_send, f"User Role {role} may not send SR{request.srv}"
            )
        if not base.user_is_live(request.user):
            return _refused(
                Code.INVALID_USER_STATUS, base.user_is_live, f"this {role} may not send at present"
            )
        return None

    # --- one Device ----------------------------------------------------------------------------------------------

    def _device_request(self, request: DeviceRequest) -> Verdict:
        name = format_eui64(check_eui64(request.device))
        record = self._records.get(request.device)
        if record is None or record.status is None:
            return _refused(Code.NO_SUCH_DEVICE, base.device_is_known, f"{name} is not in the Inventory")
        kind = record.device_type
        if not base.role_is_for_device(request.user, kind):
            reason = f"User Role {request.user.role} is not for {kind} {name}"
            return _refused(Code.ROLE_NOT_FOR_DEVICE, base.role_is_for_device, reason)
        suspended = record.status is DeviceStatus.SUSPENDED
        reason = f"{kind} {name} is {record.status}: SR{request.srv} does not go to it"
        if base.suspended_is_refused(record.status, excepted=self._excepted(request, record)):
            return _refused(Code.INVALID_DEVICE_STATUS, base.suspended_is_refused, reason)
        if not suspended and not base.status_lets_through(request, record.status):
            return _refused(Code.INVALID_DEVICE_STATUS, base.status_lets_through, reason)
        reason = f"SR{request.srv} is not for {kind} {name}"
        if not base.request_is_for_type(request, kind):
            return _refused(Code.NOT_FOR_DEVICE_TYPE, base.request_is_for_type, reason)
        if secmp0007.versions_are_read(kind):
            needed = _EXTENDED.get(request.srv)
            if needed is not None and not self._holds(needed):
                return _refused(Code.NOT_FOR_DEVICE_TYPE, needed, reason)
        if isinstance(request, UpdateDeviceLog):
            return self._device_log(request)
        if isinstance(request, UpdateInventory):
            return self._update(request, record)
        return Acknowledged(Code.SUCCESS if request.srv == "8.3" else Code.ACKNOWLEDGED)

    def _excepted(self, request: DeviceRequest, record: Record) -> bool:
        if base.exception_list(request.srv):
            return True
        if request.srv != "11.2" or not self._holds(mp105.read_while_suspended):
            return False
        return mp105.read_while_suspended(record.device_type) or (
            self._holds(secmp0007.versions_are_read) and secmp0007.versions_are_read(record.device_type)
        )

    def _device_log(self, request: UpdateDeviceLog) -> Verdict:
        joining = self._records.get(check_eui64(request.joining))
        if joining is None:
            reason = f"{format_eui64(request.joining)} is not in the Inventory"
            return _refused(Code.NO_SUCH_DEVICE, base.device_is_known, reason)
        if joining.device_type is DeviceType.CHF:
            reason = f"CHF {format_eui64(request.joining)} has no place in a Device Log"
            return _refused(Code.NOT_FOR_DEVICE_TYPE, base.added_to_device_log, reason)
        if not request.add and joining.hub != request.device:
            reason = (
                f"{format_eui64(request.joining)} is not in the Device Log of {format_eui64(request.device)}"
            )
            return _refused(None, base.added_to_device_log, reason)
        return Acknowledged(Code.ACKNOWLEDGED)

    def _update(self, request: UpdateInventory, record: Record) -> Verdict:
        name = f"{record.device_type} {format_eui64(record.device)}"
        if request.status is not None and not base.status_is_settable(record.device_type, request.status):
            reason = f"{name} is not set {request.status} by SR8.4"
            return _refused(None, base.status_is_settable, reason)
        version = request.firmware_version
        if version is not None and not base.version_is_settable(record, version):
            reason = f"{name} is {record.status}, or {format_version(version)} is no Active CPL row of it"
            return _refused(None, base.version_is_settable, reason)
        if request.delete and not base.record_is_deletable(record):
            return _refused(None, base.record_is_deletable, f"{name} is {record.status}")
        if request.ppmid_variant is not None:
            hidden = self.shows_variant(request.ppmid_variant)
            if hidden is not None:
                return _refused(None, hidden, f"the Inventory does not show {request.ppmid_variant}")
            if not mp170.variant_changed(record):
                return _refused(None, mp170.variant_changed, f"{name} has no PPMIDVariant")
            if self._holds(mp170.variant_stays) and not mp170.variant_stays(record):
                return _refused(
                    None, mp170.variant_stays, f"{name} was commissioned as {record.ppmid_variant}"
                )
        return Acknowledged(Code.SUCCESS)

    # --- pre-notification ----------------------------------------------------------------------------------------

    def _pre_notification(self, request: PreNotifyDevice) -> Verdict:
        for device in (request.device, request.associated_gpf):
            if device is not None and device in self._records:
                return _refused(
                    None, base.pre_notified, f"{format_eui64(device)} is in the Inventory already"
                )
        rows = self._table.active(request.manufacturer, request.model, request.smets)
        if not base.pre_notified(request.device_type, rows, request.firmware_version):
            reason = (
                f"{request.manufacturer} {request.model} {format_version(request.firmware_version)} "
                f"is no Active CPL row of {request.smets}"
            )
            return _refused(None, base.pre_notified, reason)
        hidden = self.shows_variant(request.ppmid_variant)
        if hidden is not None:
            return _refused(None, hidden, f"the Inventory does not show {request.ppmid_variant}")
        mandatory = mp170.variant_is_mandatory
        if self._holds(mandatory) and not mandatory(request.device_type, request.ppmid_variant):
            return _refused(None, mandatory, f"PPMID {format_eui64(request.device)} has no PPMIDVariant")
        return Acknowledged(Code.SUCCESS)

    # --- distribution --------------------------------------------------------------------------------------------

    def _distribution(self, request: Distribution) -> Verdict:
        if isinstance(request, UpdatePpmidFirmware) and not self._holds(secmp0007.ppmid_request):
            return _refused(None, secmp0007.ppmid_request, "there is no SR11.4 before SECMP0007")
        listed: dict[str | None, list[int]] = {}
        for device in request.devices:
            listed.setdefault(self._list_of(request, self._records.get(device)), []).append(device)
        sent_to = tuple(listed.pop(_FREE, ()))
        lists = DeviceLists(**{name: tuple(devices) for name, devices in listed.items() if name is not None})
        return Acknowledged(Code.ACKNOWLEDGED, sent_to, request.warning if lists else None, lists)

    def _list_of(self, request: Distribution, record: Record | None) -> str | None:
        if not base.listed_device_is_valid(record, request.user) or record is None:
            return "invalid_device_ids"
        if not base.listed_device_is_commissioned(record):
            return "not_commissioned"
        takes = secmp0007.takes_images(request.srv)
        if not self._holds(secmp0007.takes_images):
            takes &= secmp0007.BEFORE
        if record.device_type not in takes:
            return "not_applicable_firmware"
        hub = None if record.hub is None else self._records.get(record.hub)
        family = record.smets if hub is None else hub.smets
        if self._holds(secmp0007.hub_is_too_old) and secmp0007.hub_is_too_old(
            record.device_type, family, self._gbcs(hub), self._options
        ):
            return "invalid_gbcs_version"
        # Which list names a PPMID that Requirement 7 leaves out was not found.
        refused = mp202.smets1_ota_refused
        row = record.active_rows.get(request.firmware_version)
        if not base.listed_firmware_is_applicable(request, row) or (
            self._holds(refused) and refused(record, self._table, family)
        ):
            return "not_applicable_firmware"
        return _FREE if base.listed_device_is_free(record) else "other_request_in_progress"

    def _gbcs(self, hub: Record | None) -> str | None:
        if hub is None:
            return None
        row = self._table.get(hub.manufacturer, hub.model, hub.firmware_version, hub.smets)
        return None if row is None else row.gbcs_version


def _refused(code: Code | None, by: Rule[Any, Any], reason: str) -> Refused:
    return Refused(code, reason, by.id)
