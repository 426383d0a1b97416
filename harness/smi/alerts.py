"""DCC Alerts as values. The number of each is given where the facts have one, with the mark that they put on it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from harness.smi.devices import DeviceType, SmetsFamily
from harness.smi.responses import TransferResponse

Mark = Literal["S", "G", "NF"]
"""S: the number is sourced. G: general knowledge, no oracle. NF: none was found (F0)."""


@dataclass(frozen=True, slots=True)
class DeviceSuspended:
    """DeviceStatusChangeEvent: a Device became Suspended (F2.5)."""

    number: ClassVar[str | None] = "N28"
    mark: ClassVar[Mark] = "G"
    device: int


@dataclass(frozen=True, slots=True)
class DeviceRestored:
    """DeviceStatusChangeEvent: a Device is what it was before it was Suspended (F2.5)."""

    number: ClassVar[str | None] = "N29"
    mark: ClassVar[Mark] = "G"
    device: int


@dataclass(frozen=True, slots=True)
class FirmwareVersionMismatch:
    """A GPF says that its GSME runs another version than the Inventory has (F2.5, MP105)."""

    number: ClassVar[str | None] = "N52"
    mark: ClassVar[Mark] = "S"
    device: int
    device_type: DeviceType
    version_smi: int | None
    version_device: int


@dataclass(frozen=True, slots=True)
class CSPFirmwareDeliveryStatus:
    """An image was delivered to the hub (N60) or failed to reach it (N61)."""

    mark: ClassVar[Mark] = "S"  # the numbers; that this is their body is inferred (F2.5)
    request_id: str
    hub: int
    device: int
    firmware_version: int
    delivered: bool

    @property
    def number(self) -> str:
        """N60 or N61."""
        return "N60" if self.delivered else "N61"


@dataclass(frozen=True, slots=True)
class CommsHubAlert:
    """A hub's Firmware Transfer Alert, handed on (F2.3, F2.5). `request_id`: None where no request is known."""

    number: ClassVar[str | None] = None
    mark: ClassVar[Mark] = "NF"
    hub: int
    device: int
    firmware_version: int
    response: TransferResponse
    request_id: str | None = None


@dataclass(frozen=True, slots=True)
class PPMIDAlert:
    """A PPMID's alert 0x8F8B, handed on (F2.5)."""

    number: ClassVar[str | None] = "N43"
    mark: ClassVar[Mark] = "G"
    device: int
    firmware_version: int
    activated: bool


@dataclass(frozen=True, slots=True)
class CommsHubFirmwareActivation:
    """A hub runs other firmware (F2.5)."""

    number: ClassVar[str | None] = None
    mark: ClassVar[Mark] = "NF"
    device: int
    firmware_version: int


@dataclass(frozen=True, slots=True)
class FirmwareNotOnCpl:
    """A Device runs a version that is no Active CPL row. The number goes by how it came out: activated, or read."""

    mark: ClassVar[Mark] = "G"
    device: int
    firmware_version: int
    activated: bool

    @property
    def number(self) -> str:
        """N50 or N51."""
        return "N50" if self.activated else "N51"


@dataclass(frozen=True, slots=True)
class SmetsFamilyMismatch:
    """A PPMID joined a hub of the family that it has no CPL row for (LB-04). The harness says so: no DCC Alert does."""

    number: ClassVar[str | None] = None
    mark: ClassVar[Mark] = "NF"
    device: int
    hub: int
    pre_notified: SmetsFamily
    hub_family: SmetsFamily


Alert = (
    DeviceSuspended
    | DeviceRestored
    | FirmwareVersionMismatch
    | CSPFirmwareDeliveryStatus
    | CommsHubAlert
    | PPMIDAlert
    | CommsHubFirmwareActivation
    | FirmwareNotOnCpl
    | SmetsFamilyMismatch
)
