"""The payloads of the GBCS firmware use cases as values, and the messages that carry them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum
from typing import Annotated, Any, Final, TypeVar

from cryptography.hazmat import asn1

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import gbcs_names as names
from harness.wire import gbcs_readings as readings
from harness.wire.gbcs import Cra, GbcsMessage
from harness.wire.gbcs_readings import (
    HASH_LENGTH,
    VERSION_LENGTH,
    EsmeFirmwareReceipt,
    EsmeFirmwareVersion,
    GsmeFirmwareReceipt,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadGsmeFirmwareVersion,
    number,
    octets,
)

# The execution date-time that cancels a future-dated command, in the DCC's templates and in RTDS 4.5.0.
NEVER: Final = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)

_DER_NULL: Final = b"\x05\x00"


class ActivateImageResponse(IntEnum):
    """activateImageResponseCode of CS06 (GBCS 11.5)."""

    SUCCESS = 0
    NO_IMAGE_HELD = 1
    HASH_MISMATCH = 2
    ACTIVATION_FAILURE = 3


class TransferResponse(IntEnum):
    """responseCode of CCS08 (GBCS 11.7)."""

    SUCCESS = 0
    IMAGE_DISCARDED = 1
    HARDWARE_VERSION_MISMATCH = 2
    FILE_TRANSFER_FAILURE = 3


class ReadResponse(IntEnum):
    """readResponse of CS08 (GBCS 11.8)."""

    SUCCESS = 0
    FAILURE = 1


class ActivationResult(IntEnum):
    """activateImage of CS09."""

    SUCCESS = 0
    FAILURE = 1


@dataclass(frozen=True, slots=True)
class ActivateFirmware:
    """The command of CS06. `execution_time` None: at once; NEVER: cancel what waits for its time."""

    image_hash: bytes
    originator_counter: int
    execution_time: datetime | None = None

    @property
    def cancels(self) -> bool:
        """Whether this takes an activation back that has not come yet."""
        return self.execution_time == NEVER


@dataclass(frozen=True, slots=True)
class CommandAccepted:
    """The response of CS06 to a future-dated command: it is recorded."""


@dataclass(frozen=True, slots=True)
class ExecutionOutcome:
    """The response of CS06 to a command for now. `firmware_version` runs now, whatever the outcome."""

    response: ActivateImageResponse
    firmware_version: int


@dataclass(frozen=True, slots=True)
class FutureDatedActivation:
    """The alert of CS06: the time has come; `originator_counter` is the command's. 0x8F66 actioned, 0x8F67 not."""

    alert_code: int
    execution_time: datetime
    originator_counter: int
    outcome: ExecutionOutcome


@dataclass(frozen=True, slots=True)
class FirmwareTransfer:
    """The alert of CCS08: what became of an image for `target` (EUI-64). 0x8F8A success, 0x8F89 anything else."""

    alert_code: int
    time: datetime
    target: int
    firmware_version: int
    response: TransferResponse


@dataclass(frozen=True, slots=True)
class ReadFirmwareVersion:
    """The command of CS08, to a PPMID or an HCALCS."""


@dataclass(frozen=True, slots=True)
class FirmwareVersion:
    """The response of CS08."""

    version: int
    response: ReadResponse


@dataclass(frozen=True, slots=True)
class FirmwareActivated:
    """The alert of CS09: a PPMID or an HCALCS has tried to run an image; `alert_code` is 0x8F8B."""

    alert_code: int
    time: datetime
    firmware_version: int
    result: ActivationResult


@dataclass(frozen=True, slots=True)
class Opaque:
    """The payload of any other use case."""

    octets: bytes


Payload = (
    ActivateFirmware
    | CommandAccepted
    | ExecutionOutcome
    | FutureDatedActivation
    | FirmwareTransfer
    | ReadFirmwareVersion
    | FirmwareVersion
    | FirmwareActivated
    | ReadEsmeFirmwareVersion
    | EsmeFirmwareVersion
    | ReadGsmeFirmwareVersion
    | GsmeFirmwareVersion
    | EsmeFirmwareReceipt
    | GsmeFirmwareReceipt
    | Opaque
)

# --- the shapes in DER -----------------------------------------------------------------------------------------------

_Version = Annotated[bytes, asn1.Size(min=VERSION_LENGTH, max=VERSION_LENGTH)]


@asn1.sequence
class _Activate:
    hash: Annotated[bytes, asn1.Size(min=HASH_LENGTH, max=HASH_LENGTH)]
    counter: int
    time: asn1.GeneralizedTime | None


@asn1.sequence
class _Outcome:
    response: int
    version: _Version


@asn1.sequence
class _FutureDated:
    alert: int
    time: asn1.GeneralizedTime
    counter: int
    outcome: _Outcome


@asn1.sequence
class _Transfer:
    alert: int
    time: asn1.GeneralizedTime
    target: Annotated[bytes, asn1.Size(min=8, max=8)]
    version: _Version
    response: int


@asn1.sequence
class _VersionRead:
    version: _Version
    response: int


@asn1.sequence
class _Activated:
    alert: int
    time: asn1.GeneralizedTime
    version: _Version
    result: int


_Shape = TypeVar("_Shape")
_Code = TypeVar("_Code", bound=IntEnum)


def _decode(shape: type[_Shape], content: bytes) -> _Shape:
    try:
        return asn1.decode_der(shape, content)
    except ValueError as error:
        raise RemoteProtocolError(f"GBCS payload is not the ASN.1 of its use case: {error}") from error


def _encode(value: object) -> bytes:
    try:
        return asn1.encode_der(value)
    except (ValueError, OverflowError) as error:
        raise LocalProtocolError(f"GBCS payload cannot be encoded: {error}") from error


def _code(codes: type[_Code], value: int) -> _Code:
    try:
        return codes(value)
    except ValueError as error:
        raise RemoteProtocolError(f"GBCS response code {value} is none of {codes.__name__}'s") from error


def _alert(value: int, *allowed: int) -> int:
    if value not in allowed:
        raise RemoteProtocolError(
            f"GBCS alert code {value:#06x} is not {' or '.join(f'{code:#06x}' for code in allowed)}"
        )
    return value


def _counter(value: int) -> int:
    if not 0 <= value < 1 << 64:
        raise RemoteProtocolError(f"GBCS originator counter {value} does not fit 64 bits")
    return value


def _time(value: datetime) -> asn1.GeneralizedTime:
    if value.utcoffset() is None:
        raise LocalProtocolError(f"GBCS time {value} does not say its time zone")
    try:
        return asn1.GeneralizedTime(value.astimezone(UTC).replace(microsecond=0))
    except (ValueError, OverflowError) as error:
        raise LocalProtocolError(f"GBCS time {value} cannot be encoded: {error}") from error


def _moment(value: asn1.GeneralizedTime) -> datetime:
    return value.as_datetime().replace(tzinfo=UTC)


def _version(value: int) -> bytes:
    return number("firmware version", value, VERSION_LENGTH)


def _build_activate(payload: ActivateFirmware) -> bytes:
    number("originator counter", payload.originator_counter, 8)
    time = None if payload.execution_time is None else _time(payload.execution_time)
    hash_ = octets("image hash", payload.image_hash, HASH_LENGTH)
    return _encode(_Activate(hash=hash_, counter=payload.originator_counter, time=time))


def _parse_activate(content: bytes) -> ActivateFirmware:
    shape = _decode(_Activate, content)
    time = None if shape.time is None else _moment(shape.time)
    return ActivateFirmware(shape.hash, _counter(shape.counter), time)


def _outcome(payload: ExecutionOutcome) -> _Outcome:
    return _Outcome(response=int(payload.response), version=_version(payload.firmware_version))


def _read_outcome(shape: _Outcome) -> ExecutionOutcome:
    response = _code(ActivateImageResponse, shape.response)
    return ExecutionOutcome(response, int.from_bytes(shape.version, "big"))


def _parse_activate_response(content: bytes) -> CommandAccepted | ExecutionOutcome:
    return CommandAccepted() if content == _DER_NULL else _read_outcome(_decode(_Outcome, content))


def _build_future_dated(payload: FutureDatedActivation) -> bytes:
    number("originator counter", payload.originator_counter, 8)
    return _encode(
        _FutureDated(
            alert=payload.alert_code,
            time=_time(payload.execution_time),
            counter=payload.originator_counter,
            outcome=_outcome(payload.outcome),
        )
    )


def _parse_future_dated(content: bytes) -> FutureDatedActivation:
    shape = _decode(_FutureDated, content)
    code = _alert(shape.alert, names.FUTURE_DATED_COMMAND_ACTIONED, names.FUTURE_DATED_COMMAND_FAILED)
    return FutureDatedActivation(
        code, _moment(shape.time), _counter(shape.counter), _read_outcome(shape.outcome)
    )


def _build_transfer(payload: FirmwareTransfer) -> bytes:
    return _encode(
        _Transfer(
            alert=payload.alert_code,
            time=_time(payload.time),
            target=number("target", payload.target, 8),
            version=_version(payload.firmware_version),
            response=int(payload.response),
        )
    )


def _parse_transfer(content: bytes) -> FirmwareTransfer:
    shape = _decode(_Transfer, content)
    return FirmwareTransfer(
        _alert(shape.alert, names.FIRMWARE_TRANSFER_FAILED, names.FIRMWARE_TRANSFERRED),
        _moment(shape.time),
        int.from_bytes(shape.target, "big"),
        int.from_bytes(shape.version, "big"),
        _code(TransferResponse, shape.response),
    )


def _parse_read(content: bytes) -> ReadFirmwareVersion:
    if content != _DER_NULL:
        raise RemoteProtocolError(f"GBCS payload of the CS08 command is {content[:8].hex()}, not 0500")
    return ReadFirmwareVersion()


def _build_version(payload: FirmwareVersion) -> bytes:
    return _encode(_VersionRead(version=_version(payload.version), response=int(payload.response)))


def _parse_version(content: bytes) -> FirmwareVersion:
    shape = _decode(_VersionRead, content)
    return FirmwareVersion(int.from_bytes(shape.version, "big"), _code(ReadResponse, shape.response))


def _build_activated(payload: FirmwareActivated) -> bytes:
    return _encode(
        _Activated(
            alert=payload.alert_code,
            time=_time(payload.time),
            version=_version(payload.firmware_version),
            result=int(payload.result),
        )
    )


def _parse_activated(content: bytes) -> FirmwareActivated:
    shape = _decode(_Activated, content)
    return FirmwareActivated(
        _alert(shape.alert, names.PPMID_FIRMWARE_ACTIVATION),
        _moment(shape.time),
        int.from_bytes(shape.version, "big"),
        _code(ActivationResult, shape.result),
    )


# One row a payload: the message that it travels in, how it is built.
_BUILDERS: Final[Mapping[type, tuple[int, Cra, Callable[[Any], bytes]]]] = {
    ActivateFirmware: (names.CS06, Cra.COMMAND, _build_activate),
    CommandAccepted: (names.CS06, Cra.RESPONSE, lambda payload: _DER_NULL),
    ExecutionOutcome: (names.CS06, Cra.RESPONSE, lambda payload: _encode(_outcome(payload))),
    FutureDatedActivation: (names.CS06_ALERT, Cra.ALERT, _build_future_dated),
    FirmwareTransfer: (names.CCS08, Cra.ALERT, _build_transfer),
    ReadFirmwareVersion: (names.CS08, Cra.COMMAND, lambda payload: _DER_NULL),
    FirmwareVersion: (names.CS08, Cra.RESPONSE, _build_version),
    FirmwareActivated: (names.CS09, Cra.ALERT, _build_activated),
    ReadEsmeFirmwareVersion: (names.ECS52, Cra.COMMAND, readings.build_read_esme),
    EsmeFirmwareVersion: (names.ECS52, Cra.RESPONSE, readings.build_esme_version),
    ReadGsmeFirmwareVersion: (names.GCS38, Cra.COMMAND, readings.build_read_gsme),
    GsmeFirmwareVersion: (names.GCS38, Cra.RESPONSE, readings.build_gsme_version),
    EsmeFirmwareReceipt: (names.ESME_FIRMWARE_RECEIPT, Cra.ALERT, readings.build_esme_receipt),
    GsmeFirmwareReceipt: (names.GSME_FIRMWARE_RECEIPT, Cra.ALERT, readings.build_gsme_receipt),
}

# One row a message: how its content is read. Other messages have opaque content.
_PARSERS: Final[Mapping[tuple[int, Cra], Callable[[bytes], Payload]]] = {
    (names.CS06, Cra.COMMAND): _parse_activate,
    (names.CS06, Cra.RESPONSE): _parse_activate_response,
    (names.CS06_ALERT, Cra.ALERT): _parse_future_dated,
    (names.CCS08, Cra.ALERT): _parse_transfer,
    (names.CS08, Cra.COMMAND): _parse_read,
    (names.CS08, Cra.RESPONSE): _parse_version,
    # RTDS 4.5.0 sends it as CS09; other tools expect the same payload under CS08.
    (names.CS08, Cra.ALERT): _parse_activated,
    (names.CS09, Cra.ALERT): _parse_activated,
    (names.ECS52, Cra.COMMAND): readings.parse_read_esme,
    (names.ECS52, Cra.RESPONSE): readings.parse_esme_version,
    (names.GCS38, Cra.COMMAND): readings.parse_read_gsme,
    (names.GCS38, Cra.RESPONSE): readings.parse_gsme_version,
    (names.ESME_FIRMWARE_RECEIPT, Cra.ALERT): readings.parse_esme_receipt,
    (names.GSME_FIRMWARE_RECEIPT, Cra.ALERT): readings.parse_gsme_receipt,
}


def build_payload(payload: Payload) -> bytes:
    """The content of the message that carries a payload. LocalProtocolError when a field does not fit its place."""
    return payload.octets if isinstance(payload, Opaque) else _BUILDERS[type(payload)][2](payload)


def parse_payload(message: GbcsMessage) -> Payload:
    """What a message says. RemoteProtocolError when its content is not that of its use case, to the octet."""
    parse = _PARSERS.get((message.message_code, message.cra))
    if parse is None:
        return Opaque(message.content)
    payload = parse(message.content)
    if build_payload(payload) != message.content:
        raise RemoteProtocolError(
            f"GBCS payload of {names.use_case_name(message.message_code)} is not in its only valid form"
        )
    return payload


def message_of(
    payload: Payload, *, originator: int, recipient: int, originator_counter: int, date_time: bytes = b""
) -> GbcsMessage:
    """The message that carries a payload, unsigned and without MAC. LocalProtocolError for an opaque payload."""
    if isinstance(payload, Opaque):
        raise LocalProtocolError("an opaque GBCS payload does not say which message carries it")
    message_code, cra, _ = _BUILDERS[type(payload)]
    return GbcsMessage(
        cra=cra,
        originator_counter=originator_counter,
        originator=originator,
        recipient=recipient,
        message_code=message_code,
        content=build_payload(payload),
        date_time=date_time,
    )
