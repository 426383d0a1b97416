"""Service Requests as values, and what the DSP says of each before anything is sent."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import ClassVar

from harness.errors import LocalProtocolError
from harness.smi.devices import (
    DeviceStatus,
    DeviceType,
    PpmidVariant,
    SmetsFamily,
    check_eui64,
    check_version,
    format_eui64,
)

MAX_DEVICES = 50_000
"""The most Devices on the list of one firmware Service Request (F2.1)."""


class UserRole(StrEnum):
    """The User Roles of the DUIS that may send what is modelled (F2.1)."""

    IS = "IS"
    """Import Supplier."""

    ES = "ES"
    """Export Supplier."""

    GS = "GS"
    """Gas Supplier."""

    RSA = "RSA"
    """Registered Supplier Agent."""

    ED = "ED"
    """Electricity Distributor."""

    GT = "GT"
    """Gas Transporter."""

    OU = "OU"
    """Other User."""


@dataclass(frozen=True, slots=True)
class User:
    """Who sends a request, as the DCC's register of Users has it, which is not modelled.

    `known`: a SEC Party has this role (E1). `live`: it may send at present (E3). A string will do for the role.
    """

    role: UserRole
    known: bool = True
    live: bool = True

    def __post_init__(self) -> None:
        try:
            object.__setattr__(self, "role", UserRole(self.role))
        except ValueError:
            raise LocalProtocolError(f"{self.role!r} is no User Role: {', '.join(UserRole)}") from None


# --- the requests ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Distribution:
    """One image for a list of Devices. `image_hash`: SHA-256 of its Manufacturer Image; None: not compared."""

    request_id: str
    user: User
    firmware_version: int
    devices: tuple[int, ...]
    image_hash: bytes | None = None

    def __post_init__(self) -> None:
        check_version(self.firmware_version)
        if not 0 < len(self.devices) <= MAX_DEVICES:
            raise LocalProtocolError(
                f"request {self.request_id}: {len(self.devices)} Devices, of at most {MAX_DEVICES}"
            )
        seen: set[int] = set()
        for device in self.devices:
            if check_eui64(device) in seen:
                raise LocalProtocolError(
                    f"request {self.request_id}: {format_eui64(device)} stands there twice"
                )
            seen.add(device)


@dataclass(frozen=True, slots=True)
class UpdateFirmware(_Distribution):
    """SR11.1: an image for ESMEs, GSMEs or HCALCSs."""

    srv: ClassVar[str] = "11.1"
    warning: ClassVar[str] = "W110101"


@dataclass(frozen=True, slots=True)
class UpdatePpmidFirmware(_Distribution):
    """SR11.4: an image for PPMIDs, which activate it by themselves (SECMP0007)."""

    srv: ClassVar[str] = "11.4"
    warning: ClassVar[str] = "W110401"


@dataclass(frozen=True, slots=True)
class ReadFirmwareVersion:
    """SR11.2."""

    srv: ClassVar[str] = "11.2"
    user: User
    device: int


@dataclass(frozen=True, slots=True)
class ActivateFirmware:
    """SR11.3: run the image whose Manufacturer Image Hash (32 octets) is given."""

    srv: ClassVar[str] = "11.3"
    user: User
    device: int
    image_hash: bytes

    def __post_init__(self) -> None:
        if len(self.image_hash) != 32:  # F2.1: FirmwareHash
            raise LocalProtocolError(
                f"SR11.3: a Manufacturer Image Hash of {len(self.image_hash)} octets, not 32"
            )


@dataclass(frozen=True, slots=True)
class PreNotifyDevice:
    """SR12.2. `associated_gpf` is a CHF's GPF, which gets a record of its own."""

    srv: ClassVar[str] = "12.2"
    user: User
    device: int
    device_type: DeviceType
    manufacturer: str
    model: str
    smets: SmetsFamily
    firmware_version: int | None = None
    ppmid_variant: PpmidVariant | None = None
    associated_gpf: int | None = None

    def __post_init__(self) -> None:
        check_eui64(self.device)
        _coerce(self, "device_type", DeviceType)
        _coerce(self, "smets", SmetsFamily)
        _check_variant(self)
        if self.firmware_version is not None:
            check_version(self.firmware_version)
        if self.associated_gpf is not None:
            if self.device_type is not DeviceType.CHF:
                raise LocalProtocolError(f"{self.device_type} {format_eui64(self.device)} cannot have a GPF")
            if check_eui64(self.associated_gpf) == self.device:
                raise LocalProtocolError(f"CHF and GPF are both {format_eui64(self.device)}")
        if self.ppmid_variant is not None and self.device_type is not DeviceType.PPMID:
            raise LocalProtocolError(
                f"{self.device_type} {format_eui64(self.device)} cannot have a PPMIDVariant"
            )


@dataclass(frozen=True, slots=True)
class UpdateDeviceLog:
    """SR8.11: add a Device to the Device Log of a hub, or remove it. It is sent to the hub."""

    srv: ClassVar[str] = "8.11"
    user: User
    device: int
    """The Communications Hub (CHF)."""

    joining: int
    """The Device that is added or removed."""

    add: bool = True


@dataclass(frozen=True, slots=True)
class CommissionDevice:
    """SR8.1.1 for a meter or a hub, SR8.7.x (join) for a Type 1 Device."""

    srv: ClassVar[str] = "8.1.1"
    user: User
    device: int


@dataclass(frozen=True, slots=True)
class UpdateInventory:
    """SR8.4: set a status, a PPMIDVariant or the firmware version, or delete the record; what is None stays."""

    srv: ClassVar[str] = "8.4"
    user: User
    device: int
    status: DeviceStatus | None = None
    ppmid_variant: PpmidVariant | None = None
    firmware_version: int | None = None
    delete: bool = False

    def __post_init__(self) -> None:
        if self.status is not None:
            _coerce(self, "status", DeviceStatus)
        _check_variant(self)
        if self.firmware_version is not None:
            check_version(self.firmware_version)
        changes = (self.status, self.ppmid_variant, self.firmware_version, self.delete or None)
        if sum(change is not None for change in changes) != 1:
            raise LocalProtocolError("SR8.4 changes one thing: a status, a variant, a version, or it deletes")


@dataclass(frozen=True, slots=True)
class DecommissionDevice:
    """SR8.3."""

    srv: ClassVar[str] = "8.3"
    user: User
    device: int


@dataclass(frozen=True, slots=True)
class OtherRequest:
    """Any other Service Request to a Device, by its reference: a top-up is 2.2."""

    user: User
    device: int
    srv: str


DeviceRequest = (
    ReadFirmwareVersion
    | ActivateFirmware
    | UpdateDeviceLog
    | CommissionDevice
    | UpdateInventory
    | DecommissionDevice
    | OtherRequest
)
Distribution = UpdateFirmware | UpdatePpmidFirmware
ServiceRequest = Distribution | DeviceRequest | PreNotifyDevice


def _coerce(value: object, name: str, kind: type[StrEnum]) -> None:
    given = getattr(value, name)
    try:
        object.__setattr__(value, name, kind(given))
    except ValueError:
        raise LocalProtocolError(f"{name} {given!r} is none of {', '.join(kind)}") from None


def _check_variant(request: PreNotifyDevice | UpdateInventory) -> None:
    if request.ppmid_variant is not None:
        _coerce(request, "ppmid_variant", PpmidVariant)


# --- the verdicts ------------------------------------------------------------------------------------------------


class Code(StrEnum):
    """Response codes of the DCC's systems (F4.3)."""

    SUCCESS = "I0"
    ACKNOWLEDGED = "I99"
    INVALID_USER = "E1"
    ROLE_MAY_NOT_SEND = "E2"
    INVALID_USER_STATUS = "E3"
    ROLE_NOT_FOR_DEVICE = "E4"
    INVALID_DEVICE_STATUS = "E5"
    NOT_FOR_DEVICE_TYPE = "E11"
    NO_SUCH_DEVICE = "E19"


@dataclass(frozen=True, slots=True)
class DeviceLists:
    """The five lists of a W110101 or W110401, in the order of the request: a Device stands in one at most."""

    invalid_device_ids: tuple[int, ...] = ()
    not_commissioned: tuple[int, ...] = ()
    not_applicable_firmware: tuple[int, ...] = ()
    other_request_in_progress: tuple[int, ...] = ()
    invalid_gbcs_version: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        return any(
            (
                self.invalid_device_ids,
                self.not_commissioned,
                self.not_applicable_firmware,
                self.other_request_in_progress,
                self.invalid_gbcs_version,
            )
        )


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The request is taken. A distribution goes to the Devices of `sent_to`; the others are in `lists`, with a code."""

    code: Code
    sent_to: tuple[int, ...] = ()
    warning: str | None = None
    lists: DeviceLists = DeviceLists()


@dataclass(frozen=True, slots=True)
class Refused:
    """The request is not taken; nothing changed. `code` is None where no public document gives it; `rule` is an id."""

    code: Code | None
    reason: str
    rule: str


Verdict = Acknowledged | Refused
