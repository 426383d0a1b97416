"""What no modification changed: who may send what to which Device, the statuses, the CPL, the five lists."""

from __future__ import annotations

from collections.abc import Mapping

from harness.smi.devices import ON_THE_CPL, DeviceStatus, DeviceType
from harness.smi.firmware_table import CplRow
from harness.smi.image_fate import Basis
from harness.smi.record import Record, Stage
from harness.smi.requests import DeviceRequest, Distribution, OtherRequest, ServiceRequest, User, UserRole
from harness.smi.responses import ActivationOutcome
from harness.smi.rule import rule

_SUPPLIERS = frozenset({UserRole.IS, UserRole.GS})
_ALL_ROLES = frozenset(UserRole)

# F2.1, F7. A reference that is not here may be sent by all: the facts do not have its Roles.
SENDERS: dict[str, frozenset[UserRole]] = {
    "8.11": _SUPPLIERS | {UserRole.OU},
    "11.1": _SUPPLIERS,
    "11.2": _ALL_ROLES,
    "11.3": _SUPPLIERS,
    "11.4": _SUPPLIERS,
}

_NOT_A_SUPPLIER_OF = {
    UserRole.IS: frozenset({DeviceType.GSME, DeviceType.GPF}),
    UserRole.GS: frozenset({DeviceType.ESME, DeviceType.HCALCS}),
    UserRole.ES: frozenset({DeviceType.GSME, DeviceType.GPF}),
    UserRole.ED: frozenset({DeviceType.GSME, DeviceType.GPF}),
    UserRole.GT: frozenset({DeviceType.ESME, DeviceType.HCALCS}),
}

_GONE = frozenset({DeviceStatus.DECOMMISSIONED, DeviceStatus.WITHDRAWN})
_IN_USE = frozenset(
    {DeviceStatus.INSTALLED_NOT_COMMISSIONED, DeviceStatus.COMMISSIONED, DeviceStatus.RECOVERED}
)
_COMMISSIONED = frozenset({DeviceStatus.COMMISSIONED, DeviceStatus.RECOVERED})

# Statuses besides Suspended; what is not here asks for a Device in use.
_STATUSES: dict[str, frozenset[DeviceStatus]] = {
    "8.1.1": frozenset({DeviceStatus.WHITELISTED, DeviceStatus.INSTALLED_NOT_COMMISSIONED}),
    "8.3": frozenset(DeviceStatus) - _GONE - {DeviceStatus.SUSPENDED},
    "8.4": frozenset(DeviceStatus) - {DeviceStatus.SUSPENDED},
}

_SETTABLE = frozenset({DeviceStatus.PENDING, DeviceStatus.INSTALLED_NOT_COMMISSIONED})
_SETTABLE_OF_A_HUB = frozenset(
    {DeviceStatus.COMMISSIONED, DeviceStatus.WITHDRAWN, DeviceStatus.INSTALLED_NOT_COMMISSIONED}
)


# --- who may send ------------------------------------------------------------------------------------------------


@rule(source="F4.3 (E1)")
def user_is_known(user: User) -> bool:
    """A User and its Role are a SEC Party's."""
    return user.known


@rule(source="F4.3 (E2), F2.1")
def role_may_send(request: ServiceRequest) -> bool:
    """Each Service Request has its User Roles."""
    return request.user.role in SENDERS.get(request.srv, _ALL_ROLES)


@rule(source="F4.3 (E3)")
def user_is_live(user: User) -> bool:
    """The status of the User lets it send."""
    return user.live


@rule(source="F4.3 (E19)")
def device_is_known(record: Record | None) -> bool:
    """A Device that a request is for is in the Inventory."""
    return record is not None


@rule(source="F4.3 (E4); which Role is whose is inferred from what the Roles are", basis=Basis.ASSUMED)
def role_is_for_device(user: User, device_type: DeviceType) -> bool:
    """An electricity Role is not for a GSME or GPF, a gas Role not for an ESME or HCALCS."""
    return device_type not in _NOT_A_SUPPLIER_OF.get(user.role, ())


@rule(source="F2.1, F4.3 (E11); the types of SR8.11 and SR8.1.1 are inferred", basis=Basis.ASSUMED)
def request_is_for_type(request: DeviceRequest, device_type: DeviceType) -> bool:
    """SR11.3 is for ESME, GSME and HCALCS, SR8.11 for a CHF, SR11.2 for all that have firmware or mirror it."""
    if isinstance(request, OtherRequest):
        return True
    if request.srv == "11.3":
        return device_type in (DeviceType.ESME, DeviceType.GSME, DeviceType.HCALCS)
    if request.srv == "11.2":
        return device_type in ON_THE_CPL or device_type is DeviceType.GPF
    return request.srv != "8.11" or device_type is DeviceType.CHF


@rule(source="F4.3 (inferred)", basis=Basis.ASSUMED)
def exception_list(srv: str) -> bool:
    """SR11.3 passes to a Suspended Device: another firmware update was the only way back. So does SR8.3."""
    return srv in ("11.3", "8.3")


@rule("SU-10", source="MP105 Consumers, F4.3 (E5)")
def suspended_is_refused(status: DeviceStatus | None, *, excepted: bool) -> bool:
    """While Suspended, a Device gets no Service Request that is not on the exception list."""
    return status is DeviceStatus.SUSPENDED and not excepted


@rule(source="F4.3 (E5); the statuses are general knowledge", basis=Basis.ASSUMED)
def status_lets_through(request: DeviceRequest, status: DeviceStatus) -> bool:
    """A Service Request to a Device asks for one that is installed, commissioned or recovered."""
    return status in _STATUSES.get(request.srv, _IN_USE)


# --- the five lists ----------------------------------------------------------------------------------------------


@rule("FW-14", source="F2.1 (InvalidDeviceIDList)")
def listed_device_is_valid(record: Record | None, user: User) -> bool:
    """A listed Device is known, and its Supplier is who asks."""
    return record is not None and role_is_for_device(user, record.device_type)


@rule("FW-14", source="F2.1 (NotCommissionedDeviceIDList)")
def listed_device_is_commissioned(record: Record) -> bool:
    """A listed Device is commissioned, or was when it was Suspended: another image is a way back."""
    suspended = record.status is DeviceStatus.SUSPENDED
    return (record.status_before_suspension if suspended else record.status) in _COMMISSIONED


@rule("FW-14", "LB-10", "AH-02", source="F2.1 (NotApplicableFirmwareDeviceIDList), MP202 discussion")
def listed_firmware_is_applicable(request: Distribution, row: CplRow | None) -> bool:
    """The image is an Active CPL row of a listed Device's own model and family, with this hash."""
    return row is not None and request.image_hash in (None, row.image_hash)


@rule("FW-14", source="F2.1 (OtherRequestInProgressList)")
def listed_device_is_free(record: Record) -> bool:
    """No other image is on its way to a listed Device."""
    return record.upgrade is None or record.upgrade.stage is Stage.AT_DEVICE


@rule(source="F2.1 (inferred)", basis=Basis.ASSUMED)
def image_is_on_its_way() -> None:
    """From its request until the hub or the Device is done with it, an image is on its way to the Device."""


# --- statuses ----------------------------------------------------------------------------------------------------


@rule(source="F4.2 (general knowledge): a row has to be Active", basis=Basis.ASSUMED)
def pre_notified(device_type: DeviceType, active: Mapping[int, CplRow], firmware_version: int | None) -> bool:
    """A Device is pre-notified as Pending, with a version that is an Active CPL row, unless it needs none."""
    if device_type not in ON_THE_CPL:
        return True
    return bool(active) if firmware_version is None else firmware_version in active


@rule(source="F4.2 (general knowledge)", basis=Basis.ASSUMED)
def added_to_device_log(added: bool) -> DeviceStatus:
    """A Device added to a hub's Device Log is Whitelisted, one removed from it Pending."""
    return DeviceStatus.WHITELISTED if added else DeviceStatus.PENDING


@rule(source="F4.2 (general knowledge)", basis=Basis.ASSUMED)
def joined(status: DeviceStatus | None) -> bool:
    """A Pending or Whitelisted Device that communicates on the HAN is InstalledNotCommissioned."""
    return status in (DeviceStatus.PENDING, DeviceStatus.WHITELISTED)


@rule(source="F4.2 (general knowledge)", basis=Basis.ASSUMED)
def commissioned() -> DeviceStatus:
    """SR8.1.1 and SR8.7.x make a Device Commissioned."""
    return DeviceStatus.COMMISSIONED


@rule(source="F4.2 (general knowledge)", basis=Basis.ASSUMED)
def decommissioned() -> DeviceStatus:
    """SR8.3 makes a Device Decommissioned, whatever it was, and takes it out of its Smart Metering System."""
    return DeviceStatus.DECOMMISSIONED


@rule(source="F4.2 (general knowledge)", basis=Basis.ASSUMED)
def withdrawn() -> DeviceStatus:
    """A Device that opts out is Withdrawn."""
    return DeviceStatus.WITHDRAWN


@rule(source="F4.2 (general knowledge)", basis=Basis.ASSUMED)
def recovering(completed: bool) -> DeviceStatus:
    """The recovery procedure of the DCC makes a Device Recovery, and its end Recovered."""
    return DeviceStatus.RECOVERED if completed else DeviceStatus.RECOVERY


@rule(source="F4.1")
def status_is_settable(device_type: DeviceType, status: DeviceStatus) -> bool:
    """By SR8.4 a hub is set Commissioned, Withdrawn, InstalledNotCommissioned, another Device Pending or the last."""
    return status in (_SETTABLE_OF_A_HUB if device_type is DeviceType.CHF else _SETTABLE)


@rule(source="F4.1 (UpdateDeviceDetails); when is inferred", basis=Basis.ASSUMED)
def version_is_settable(record: Record, firmware_version: int) -> bool:
    """By SR8.4 a User sets the version of a Device that has not joined, to an Active CPL row."""
    early = record.status in (DeviceStatus.PENDING, DeviceStatus.WHITELISTED)
    return early and pre_notified(record.device_type, record.active_rows, firmware_version)


@rule(source="F4.1 (DeleteDevice); when is inferred", basis=Basis.ASSUMED)
def record_is_deletable(record: Record) -> bool:
    """By SR8.4 a User deletes a Device that is Pending, Decommissioned or Withdrawn."""
    return record.status in _GONE or record.status is DeviceStatus.PENDING


# --- firmware and the CPL ----------------------------------------------------------------------------------------


@rule("SU-01", source="MP105 Issue, F4.2")
def suspended(record: Record) -> bool:
    """A Device whose firmware version in the Inventory is no Active CPL row of its model and family is Suspended."""
    return (
        record.firmware_version is not None
        and record.firmware_version not in record.active_rows
        and record.device_type in ON_THE_CPL
        and record.status not in _GONE
    )


@rule("SU-04", source="MP105 Solution, F4.3")
def restored(record: Record) -> bool:
    """A Suspended Device whose version is updated to an Active CPL row is what it was before it was Suspended."""
    return record.status is DeviceStatus.SUSPENDED and record.firmware_version in record.active_rows


@rule(source="F4.2 (inferred: the mirror of LB-08)", basis=Basis.ASSUMED)
def restored_by_the_cpl() -> None:
    """A Device that is Suspended for want of an Active row is restored when the row of its version is Active again."""


@rule("SU-02", "SU-09", source="F4.3")
def activated(outcome: ActivationOutcome) -> bool:
    """The response to SR11.3 updates the version where its outcome is success."""
    return outcome == ActivationOutcome.SUCCESS


@rule("SU-11", source="F4.3 (inferred)", basis=Basis.ASSUMED)
def kept_though_not_on_cpl() -> None:
    """A version that comes back is kept although it is no Active CPL row: the Device runs it."""


@rule("AH-15", source="F2.5, N0007")
def delivered_to_hub(delivered: bool) -> Stage | None:
    """The CSP says whether an image reached the hub; if not, it is on its way no longer."""
    return Stage.AT_HUB if delivered else None


@rule("FW-15", source="F2.5, F3, N0007")
def delivery_is_alerted(device_type: DeviceType) -> bool:
    """N60 or N61 says whether an image for an ESME or GSME reached the hub."""
    return device_type in (DeviceType.ESME, DeviceType.GSME)


@rule("AH-15", source="F2.3, F2.5")
def delivered_to_device(transferred: bool) -> Stage | None:
    """The hub says whether an image reached its Device: CommsHubAlert, and if not it is on its way no longer."""
    return Stage.AT_DEVICE if transferred else None


@rule("AH-15", source="F2.3, F2.4")
def upgrade_ended() -> None:
    """An image that was activated, or found wrong by its Device, is waited for no longer."""


@rule(source="F2.6")
def hub_activated() -> None:
    """The CSP brings the hub's own firmware; Users are told that it runs."""
