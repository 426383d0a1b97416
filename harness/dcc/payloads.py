"""Between Service Requests and GBCS: which command a request is, what an answer or alert tells the Inventory."""

from __future__ import annotations

from datetime import datetime

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.smi.devices import DeviceType
from harness.smi.requests import ActivateFirmware, ReadFirmwareVersion, ServiceRequest
from harness.smi.responses import (
    ActivationAlertReceived,
    ActivationOutcome,
    Event,
    FirmwareActivated,
    FirmwareVerified,
    FirmwareVersionRead,
    TransferReported,
    TransferResponse,
)
from harness.wire import gbcs_payloads as gbcs
from harness.wire.gbcs_image import image_hash, parse_upgrade_image
from harness.wire.gbcs_names import FIRMWARE_VERIFIED
from harness.wire.gbcs_readings import (
    EsmeFirmwareReceipt,
    EsmeFirmwareVersion,
    GsmeFirmwareReceipt,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadGsmeFirmwareVersion,
    invoke_id,
)
from harness.wire.image import parse_image


def command_for(
    request: ActivateFirmware | ReadFirmwareVersion, kind: DeviceType, counter: int, at: datetime | None
) -> gbcs.Payload:
    """Return what goes to a Device of this type: CS06, or ECS52, GCS38 or CS08 (F2.1, F2.2)."""
    if isinstance(request, ActivateFirmware):
        return gbcs.ActivateFirmware(request.image_hash, counter, at)
    if kind in (DeviceType.ESME, DeviceType.CHF):
        return ReadEsmeFirmwareVersion(invoke_id(counter))
    if kind in (DeviceType.GSME, DeviceType.GPF):
        return ReadGsmeFirmwareVersion()
    return gbcs.ReadFirmwareVersion()


def event_of_response(source: int, request: ServiceRequest, payload: gbcs.Payload) -> Event | None:
    """Return what a response to a request tells the Inventory; None: nothing, or it answers another request."""
    if isinstance(request, ActivateFirmware):
        if isinstance(payload, gbcs.ExecutionOutcome):
            return FirmwareActivated(source, ActivationOutcome(payload.response), payload.firmware_version)
        return None
    if isinstance(payload, gbcs.FirmwareVersion):
        failed = payload.response is not gbcs.ReadResponse.SUCCESS
        return None if failed else FirmwareVersionRead(source, payload.version)
    if isinstance(payload, EsmeFirmwareVersion | GsmeFirmwareVersion) and payload.version is not None:
        return FirmwareVersionRead(source, payload.version)
    return None


def event_of_alert(source: int, payload: gbcs.Payload) -> Event | None:
    """Return what an alert tells the Inventory; None: nothing."""
    if isinstance(payload, EsmeFirmwareReceipt | GsmeFirmwareReceipt):
        return FirmwareVerified(source, payload.alert_code == FIRMWARE_VERIFIED)
    if isinstance(payload, gbcs.FutureDatedActivation):
        outcome = payload.outcome
        return FirmwareActivated(source, ActivationOutcome(outcome.response), outcome.firmware_version)
    if isinstance(payload, gbcs.FirmwareTransfer):
        response = TransferResponse(payload.response)
        return TransferReported(source, payload.target, payload.firmware_version, response)
    if isinstance(payload, gbcs.FirmwareActivated):
        activated = payload.result is gbcs.ActivationResult.SUCCESS
        return ActivationAlertReceived(source, payload.firmware_version, activated)
    return None


def image_hash_in(octets: bytes, *, with_trailer: bool) -> bytes:
    """Return the Manufacturer Image Hash of an OTA file. LocalProtocolError for octets that are none.

    With a trailer (SR11.1) the Manufacturer Image ends where Force Replace begins; without (SR11.4) it is all there is,
    as it is where the trailer that should be there is missing.
    """
    try:
        payload = parse_image(octets).payload
    except RemoteProtocolError as error:
        raise LocalProtocolError(f"the image of the request is no OTA file: {error}") from error
    if with_trailer:
        try:
            return parse_upgrade_image(payload).image_hash
        except RemoteProtocolError:
            pass
    return image_hash(payload)
