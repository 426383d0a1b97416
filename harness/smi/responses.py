"""What reaches the Inventory besides Service Requests: responses, alerts of Devices, news of the CSP and of the CPL.

They are what came in. What was lost on its way is nowhere: the Inventory does not know of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from harness.smi.devices import PpmidVariant
from harness.smi.firmware_table import CplRow, ModelKey


class ActivationOutcome(IntEnum):
    """activateImageResponseCode of CS06 (F2.3)."""

    SUCCESS = 0
    NO_IMAGE_HELD = 1
    HASH_MISMATCH = 2
    ACTIVATION_FAILURE = 3


class TransferResponse(IntEnum):
    """responseCode of CCS08 (F2.3)."""

    SUCCESS = 0
    IMAGE_DISCARDED = 1
    HARDWARE_VERSION_MISMATCH = 2
    FILE_TRANSFER_FAILURE = 3


@dataclass(frozen=True, slots=True)
class FirmwareVersionRead:
    """The response to SR11.2 (ECS52, GCS38, CS08). From a GPF it is the version of its GSME, as the GPF has it."""

    device: int
    firmware_version: int


@dataclass(frozen=True, slots=True)
class FirmwareActivated:
    """The response to SR11.3, or alert 0x8F66 or 0x8F67: the version that the Device runs now, whatever came of it."""

    device: int
    outcome: ActivationOutcome
    firmware_version: int


@dataclass(frozen=True, slots=True)
class ActivationAlertReceived:
    """Alert 0x8F8B of a PPMID or HCALCS: it activated the image of this version, or failed to."""

    device: int
    firmware_version: int
    activated: bool


@dataclass(frozen=True, slots=True)
class FirmwareVerified:
    """Alert 0x8F72 of a Device, or 0x8F1C where it found the image wrong and discarded it."""

    device: int
    valid: bool


@dataclass(frozen=True, slots=True)
class ImageDelivered:
    """The CSP brought an image as far as the hub, or did not."""

    request_id: str
    hub: int
    device: int
    firmware_version: int
    delivered: bool


@dataclass(frozen=True, slots=True)
class TransferReported:
    """Firmware Transfer Alert (CCS08) of a hub."""

    hub: int
    device: int
    firmware_version: int
    response: TransferResponse


@dataclass(frozen=True, slots=True)
class HubFirmwareActivated:
    """A hub runs other firmware, which the CSP brought (F2.6)."""

    device: int
    firmware_version: int


@dataclass(frozen=True, slots=True)
class DeviceLogUpdated:
    """The response to SR8.11: the hub has added the Device to its Device Log, removed it, or not (`done`)."""

    hub: int
    device: int
    added: bool
    done: bool = True


@dataclass(frozen=True, slots=True)
class DeviceJoined:
    """A Device communicates on the HAN of a hub."""

    hub: int
    device: int


@dataclass(frozen=True, slots=True)
class DeviceCommissioned:
    """The response to SR8.1.1 or SR8.7.x: success."""

    device: int


@dataclass(frozen=True, slots=True)
class DeviceOptedOut:
    """The Device was withdrawn."""

    device: int


@dataclass(frozen=True, slots=True)
class RecoveryStarted:
    """The DCC replaces the credentials of a Device by its recovery procedure."""

    device: int


@dataclass(frozen=True, slots=True)
class RecoveryCompleted:
    """The DCC has replaced the credentials of a Device."""

    device: int


@dataclass(frozen=True, slots=True)
class CplLoaded:
    """A CPL was published: all its rows, in place of the one before. `label` says which, for who asks why."""

    label: str
    rows: tuple[CplRow, ...]


@dataclass(frozen=True, slots=True)
class TimePassed:
    """A deadline of the Inventory came: see `Inventory.next_deadline`."""


@dataclass(frozen=True, slots=True)
class PpmidsLabelled:
    """The one-off uplift of MP170: PPMIDVariants for PPMIDs that have none."""

    labels: tuple[tuple[int, PpmidVariant], ...]


Event = (
    FirmwareVersionRead
    | FirmwareActivated
    | ActivationAlertReceived
    | FirmwareVerified
    | ImageDelivered
    | TransferReported
    | HubFirmwareActivated
    | DeviceLogUpdated
    | DeviceJoined
    | DeviceCommissioned
    | DeviceOptedOut
    | RecoveryStarted
    | RecoveryCompleted
    | CplLoaded
    | TimePassed
    | PpmidsLabelled
)


# --- what stands in a history in place of an event that is about many Devices ---------------------------------------


@dataclass(frozen=True, slots=True)
class ActiveRowsChanged:
    """By a CPL, or by the passing of a row's last day, a model has other Active rows."""

    cpl: str
    model: ModelKey


@dataclass(frozen=True, slots=True)
class ImageRequested:
    """SR11.1 or SR11.4 sends an image to a Device."""

    request_id: str
    srv: str
    firmware_version: int


@dataclass(frozen=True, slots=True)
class PpmidLabelled:
    """The one-off uplift gave a PPMID its variant."""

    ppmid_variant: PpmidVariant


Cause = ActiveRowsChanged | ImageRequested | PpmidLabelled
