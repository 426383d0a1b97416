"""GBCS payloads that are not ASN.1: firmware versions read with DLMS or ZCL, and the meters' receipts for an image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.gbcs_names import FIRMWARE_VERIFICATION_FAILED, FIRMWARE_VERIFIED
from harness.wire.gbcs_octets import Cursor

HASH_LENGTH: Final = 32
VERSION_LENGTH: Final = 4
UTC_LENGTH: Final = 12

# IEC 62056-5-3: tags of the DLMS services and data types that appear here.
_ACCESS_REQUEST: Final = 0xD9
_ACCESS_RESPONSE: Final = 0xDA
_DATA_NOTIFICATION: Final = 0x0F
_NULL: Final = 0x00
_STRUCTURE: Final = 0x02
_OCTET_STRING: Final = 0x09
_LONG_UNSIGNED: Final = 0x12
_GET: Final = 0x01
# Where RTDS 4.5.0 reads an ESME's firmware version: class 1 (Data), 0-0:0.2.1.255, attribute 2 (value).
_FIRMWARE_OBJECT: Final = bytes.fromhex("00010000000201FF02")
_RECEIPT_ALERTS: Final = (FIRMWARE_VERIFIED, FIRMWARE_VERIFICATION_FAILED)

# The head of a GBZ payload: the Smart Energy profile; after it comes how many components follow.
_GBZ_HEAD: Final = bytes.fromhex("0109")
_LAST_COMPONENT: Final = bytes.fromhex("01")
_METERING: Final = bytes.fromhex("0702")
_FIRMWARE_ATTRIBUTE: Final = 0x0206  # where RTDS 4.5.0 reads a GSME's firmware version
_ALERT_HASH: Final = bytes((_OCTET_STRING, HASH_LENGTH))

_SERVICE_CLASS: Final = 0x2000_0000  # what RTDS 4.5.0 has above the 24 bits of a long invoke id


def invoke_id(originator_counter: int) -> int:
    """The DLMS long-invoke-id-and-priority of a message: the low 24 bits of its originator counter."""
    return _SERVICE_CLASS | (originator_counter & 0xFF_FFFF)


@dataclass(frozen=True, slots=True)
class ReadEsmeFirmwareVersion:
    """The command of ECS52, to an ESME or a Communications Hub. `invoke_id`: see that function."""

    invoke_id: int


@dataclass(frozen=True, slots=True)
class EsmeFirmwareVersion:
    """The response of ECS52. `result` is DLMS's Data-Access-Result, 0 success; `version` None: nothing was read."""

    invoke_id: int
    version: int | None
    result: int = 0


@dataclass(frozen=True, slots=True)
class ReadGsmeFirmwareVersion:
    """The command of GCS38."""

    sequence: int = 0


@dataclass(frozen=True, slots=True)
class GsmeFirmwareVersion:
    """The response of GCS38. `status` is ZCL's, 0 success; `version` None where nothing was read."""

    version: int | None
    status: int = 0
    sequence: int = 0


@dataclass(frozen=True, slots=True)
class EsmeFirmwareReceipt:
    """An ESME's Firmware Distribution Receipt Alert (0x00CE): what it makes of an image that it got.

    `alert_code` is 0x8F72 (verified) or 0x8F1C (failed); `time` is a DLMS date-time of 12 octets; `image_hash` is what
    the ESME calculated over the Manufacturer Image.
    """

    invoke_id: int
    alert_code: int
    time: bytes
    image_hash: bytes


@dataclass(frozen=True, slots=True)
class GsmeFirmwareReceipt:
    """A GSME's Firmware Distribution Receipt Alert (0x00CF); `time` is in UTC seconds since 2000."""

    alert_code: int
    time: int
    image_hash: bytes


def number(name: str, value: int, size: int) -> bytes:
    """`value` in `size` octets, the most significant first. LocalProtocolError when it does not fit."""
    try:
        return value.to_bytes(size, "big")
    except OverflowError as error:
        raise LocalProtocolError(f"GBCS {name} {value:#x} does not fit {8 * size} bits") from error


def octets(name: str, value: bytes, size: int) -> bytes:
    """`value`, which has `size` octets. LocalProtocolError when it has not."""
    if len(value) != size:
        raise LocalProtocolError(f"GBCS {name} of {len(value)} octets, it has {size}")
    return value


def _receipt_alert(code: int, error: type[LocalProtocolError | RemoteProtocolError]) -> int:
    if code not in _RECEIPT_ALERTS:
        raise error(
            f"GBCS Firmware Distribution Receipt Alert has alert code {code:#06x}, not 0x8f72 or 0x8f1c"
        )
    return code


# --- DLMS ------------------------------------------------------------------------------------------------------------


def build_read_esme(payload: ReadEsmeFirmwareVersion) -> bytes:
    """An access request with one get, and the null data that belongs to it."""
    head = bytes((_ACCESS_REQUEST,)) + number("invoke id", payload.invoke_id, 4) + b"\x00"
    return head + bytes((1, _GET)) + _FIRMWARE_OBJECT + bytes((1, _NULL))


def parse_read_esme(content: bytes) -> ReadEsmeFirmwareVersion:
    """Read the command of ECS52."""
    cursor = Cursor(content)
    cursor.expect(bytes((_ACCESS_REQUEST,)), "tag of the access request")
    invoke = cursor.number(4, "invoke id")
    cursor.expect(
        b"\x00" + bytes((1, _GET)) + _FIRMWARE_OBJECT + bytes((1, _NULL)), "access request of ECS52"
    )
    cursor.end("access request")
    return ReadEsmeFirmwareVersion(invoke)


def build_esme_version(payload: EsmeFirmwareVersion) -> bytes:
    """An access response with one datum and one result."""
    datum = bytes((_NULL,))
    if payload.version is not None:
        datum = bytes((_OCTET_STRING, VERSION_LENGTH)) + number(
            "firmware version", payload.version, VERSION_LENGTH
        )
    head = bytes((_ACCESS_RESPONSE,)) + number("invoke id", payload.invoke_id, 4) + b"\x00\x00"
    return head + b"\x01" + datum + bytes((1, _GET)) + number("result", payload.result, 1)


def parse_esme_version(content: bytes) -> EsmeFirmwareVersion:
    """Read the response of ECS52."""
    cursor = Cursor(content)
    cursor.expect(bytes((_ACCESS_RESPONSE,)), "tag of the access response")
    invoke = cursor.number(4, "invoke id")
    cursor.expect(b"\x00\x00\x01", "access response of ECS52")
    version = None
    kind = cursor.number(1, "type of the firmware version")
    if kind == _OCTET_STRING:
        cursor.expect(bytes((VERSION_LENGTH,)), "length of the firmware version")
        version = cursor.number(VERSION_LENGTH, "firmware version")
    elif kind != _NULL:
        raise RemoteProtocolError(f"GBCS firmware version of DLMS type {kind:#04x} is no octet string")
    cursor.expect(bytes((1, _GET)), "list of access results")
    result = cursor.number(1, "result")
    cursor.end("access response")
    return EsmeFirmwareVersion(invoke, version, result)


def build_esme_receipt(payload: EsmeFirmwareReceipt) -> bytes:
    """A data notification of alert code, time and hash."""
    code = _receipt_alert(payload.alert_code, LocalProtocolError)
    return b"".join(
        (
            bytes((_DATA_NOTIFICATION,)) + number("invoke id", payload.invoke_id, 4) + b"\x00",
            bytes((_STRUCTURE, 3, _LONG_UNSIGNED)) + number("alert code", code, 2),
            bytes((_OCTET_STRING, UTC_LENGTH)) + octets("time", payload.time, UTC_LENGTH),
            bytes((_OCTET_STRING, HASH_LENGTH)) + octets("image hash", payload.image_hash, HASH_LENGTH),
        )
    )


def parse_esme_receipt(content: bytes) -> EsmeFirmwareReceipt:
    """Read an ESME's Firmware Distribution Receipt Alert."""
    cursor = Cursor(content)
    cursor.expect(bytes((_DATA_NOTIFICATION,)), "tag of the data notification")
    invoke = cursor.number(4, "invoke id")
    cursor.expect(b"\x00" + bytes((_STRUCTURE, 3, _LONG_UNSIGNED)), "structure of the alert")
    code = _receipt_alert(cursor.number(2, "alert code"), RemoteProtocolError)
    cursor.expect(bytes((_OCTET_STRING, UTC_LENGTH)), "type of the time")
    time = cursor.take(UTC_LENGTH, "time")
    cursor.expect(bytes((_OCTET_STRING, HASH_LENGTH)), "type of the image hash")
    receipt = EsmeFirmwareReceipt(invoke, code, time, cursor.take(HASH_LENGTH, "image hash"))
    cursor.end("alert")
    return receipt


# --- GBZ: ZCL frames in a row ----------------------------------------------------------------------------------------


def _build_component(frame: zcl.Frame) -> bytes:
    octets = zcl.build_frame(frame)
    head = _GBZ_HEAD + b"\x01" + _LAST_COMPONENT + _METERING
    return head + number("length of the component", len(octets), 2) + octets


def _parse_component(content: bytes, control: int, command: int) -> zcl.Frame:
    cursor = Cursor(content)
    cursor.expect(_GBZ_HEAD + b"\x01" + _LAST_COMPONENT + _METERING, "head of the GBZ payload")
    length = cursor.number(2, "length of the component")
    frame = zcl.parse_frame(cursor.take(length, "component"))
    cursor.end("GBZ payload")
    if (frame.control, frame.command) != (control, command):
        raise RemoteProtocolError(
            f"GBZ component of frame control {frame.control:#04x} and command {frame.command:#04x}, not"
            f" {control:#04x} and {command:#04x}"
        )
    return frame


def build_read_gsme(payload: ReadGsmeFirmwareVersion) -> bytes:
    """One component: Read Attributes."""
    _fits_octet("sequence", payload.sequence)
    attributes = zcl.build_read((_FIRMWARE_ATTRIBUTE,))
    return _build_component(zcl.Frame(0, None, payload.sequence, zcl.READ_ATTRIBUTES, attributes))


def parse_read_gsme(content: bytes) -> ReadGsmeFirmwareVersion:
    """Read the command of GCS38."""
    frame = _parse_component(content, 0, zcl.READ_ATTRIBUTES)
    attributes = zcl.parse_read(frame.payload)
    if attributes != (_FIRMWARE_ATTRIBUTE,):
        raise RemoteProtocolError(
            f"GCS38 reads {len(attributes)} attributes, not {_FIRMWARE_ATTRIBUTE:#06x} alone"
        )
    return ReadGsmeFirmwareVersion(frame.sequence)


def build_gsme_version(payload: GsmeFirmwareVersion) -> bytes:
    """One component: Read Attributes Response."""
    _fits_octet("sequence", payload.sequence)
    _fits_octet("status", payload.status)
    if (payload.version is None) is (payload.status == zcl.Status.SUCCESS):
        raise LocalProtocolError(
            f"GCS38 response of status {payload.status:#04x} with version {payload.version}"
        )
    value = None if payload.version is None else number("firmware version", payload.version, VERSION_LENGTH)
    record = zcl.AttributeStatus(_FIRMWARE_ATTRIBUTE, payload.status, zcl.OCTET_STRING, value)
    frame = zcl.Frame(
        zcl.FROM_SERVER,
        None,
        payload.sequence,
        zcl.READ_ATTRIBUTES_RESPONSE,
        zcl.build_read_response((record,)),
    )
    return _build_component(frame)


def parse_gsme_version(content: bytes) -> GsmeFirmwareVersion:
    """Read the response of GCS38."""
    frame = _parse_component(content, zcl.FROM_SERVER, zcl.READ_ATTRIBUTES_RESPONSE)
    records = zcl.parse_read_response(frame.payload)
    if len(records) != 1 or records[0].attribute != _FIRMWARE_ATTRIBUTE:
        raise RemoteProtocolError(
            f"GCS38 response of {len(records)} attributes, not {_FIRMWARE_ATTRIBUTE:#06x} alone"
        )
    record = records[0]
    if record.status != zcl.Status.SUCCESS:
        return GsmeFirmwareVersion(None, record.status, frame.sequence)
    value = record.value
    if record.kind != zcl.OCTET_STRING or not isinstance(value, bytes) or len(value) != VERSION_LENGTH:
        raise RemoteProtocolError(f"GSME firmware version of ZCL type {record.kind:#04x} is not 4 octets")
    return GsmeFirmwareVersion(int.from_bytes(value, "big"), 0, frame.sequence)


def build_gsme_receipt(payload: GsmeFirmwareReceipt) -> bytes:
    """Alert code, time and hash behind the head of a GBZ alert."""
    code = _receipt_alert(payload.alert_code, LocalProtocolError)
    head = _GBZ_HEAD + b"\x01" + number("alert code", code, 2) + number("time", payload.time, 4)
    return head + _ALERT_HASH + octets("image hash", payload.image_hash, HASH_LENGTH)


def parse_gsme_receipt(content: bytes) -> GsmeFirmwareReceipt:
    """Read a GSME's Firmware Distribution Receipt Alert."""
    cursor = Cursor(content)
    cursor.expect(_GBZ_HEAD + b"\x01", "head of the GBZ alert")
    code = _receipt_alert(cursor.number(2, "alert code"), RemoteProtocolError)
    time = cursor.number(4, "time")
    cursor.expect(_ALERT_HASH, "type of the image hash")
    receipt = GsmeFirmwareReceipt(code, time, cursor.take(HASH_LENGTH, "image hash"))
    cursor.end("alert")
    return receipt


def _fits_octet(name: str, value: int) -> None:
    number(name, value, 1)
