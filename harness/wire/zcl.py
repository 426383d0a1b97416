"""ZCL frames: header, general commands, attribute values, and answers from an endpoint's attribute tables."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple

from zigpy.zcl.foundation import Status as Status  # one set of status names, here and in zigpy

from harness.errors import LocalProtocolError, RemoteProtocolError

# ZCL8 2.4.1.1: frame control.
CLUSTER_COMMAND: Final = 0x01
MANUFACTURER_SPECIFIC: Final = 0x04
FROM_SERVER: Final = 0x08
NO_DEFAULT_RESPONSE: Final = 0x10
_FRAME_TYPE: Final = 0x03

# ZCL8 table 2-3: general commands.
READ_ATTRIBUTES: Final = 0x00
READ_ATTRIBUTES_RESPONSE: Final = 0x01
WRITE_ATTRIBUTES: Final = 0x02
WRITE_ATTRIBUTES_UNDIVIDED: Final = 0x03
WRITE_ATTRIBUTES_RESPONSE: Final = 0x04
WRITE_ATTRIBUTES_NO_RESPONSE: Final = 0x05
REPORT_ATTRIBUTES: Final = 0x0A
DEFAULT_RESPONSE: Final = 0x0B
DISCOVER_ATTRIBUTES: Final = 0x0C
DISCOVER_ATTRIBUTES_RESPONSE: Final = 0x0D
# The commands that ask for nothing: responses, the Default Response and reports.
_ANSWERS: Final = frozenset((0x01, 0x04, 0x07, 0x09, 0x0A, 0x0B, 0x0D, 0x10, 0x12, 0x14, 0x16))

# ZCL8 table 2-10: the data types that the clusters of the GB HAN use by name.
BOOLEAN: Final = 0x10
MAP8: Final = 0x18
UINT8: Final = 0x20
UINT16: Final = 0x21
UINT32: Final = 0x23
ENUM8: Final = 0x30
OCTET_STRING: Final = 0x41
STRING: Final = 0x42
UTC_TIME: Final = 0xE2
EUI64: Final = 0xF0

_UNSIGNED_SIZE: Final[Mapping[int, int]] = {
    **{0x08 + n: n + 1 for n in range(8)},  # general data
    BOOLEAN: 1,
    **{0x18 + n: n + 1 for n in range(8)},  # bitmaps
    **{0x20 + n: n + 1 for n in range(8)},  # unsigned integers
    ENUM8: 1,
    0x31: 2,  # enum16
    0xE0: 4,  # time of day
    0xE1: 4,  # date
    UTC_TIME: 4,
    0xE8: 2,  # cluster id
    0xE9: 2,  # attribute id
    0xEA: 4,  # BACnet object id
    EUI64: 8,
}
_SIGNED_SIZE: Final[Mapping[int, int]] = {0x28 + n: n + 1 for n in range(8)}
_FLOATS: Final[Mapping[int, struct.Struct]] = {
    0x38: struct.Struct("<e"),
    0x39: struct.Struct("<f"),
    0x3A: struct.Struct("<d"),
}
_STRING_PREFIX: Final[Mapping[int, int]] = {OCTET_STRING: 1, STRING: 1, 0x43: 2, 0x44: 2}
_TEXT: Final = (STRING, 0x44)
_KEY128: Final = 0xF1
_NO_DATA: Final = 0x00

Value = int | float | str | bytes | None
"""An attribute's value: integers, enumerations, bitmaps and EUI-64s are int; an invalid string is None."""


class Frame(NamedTuple):
    """One ZCL frame. `manufacturer` is None but in a manufacturer-specific one."""

    control: int
    manufacturer: int | None
    sequence: int
    command: int
    payload: bytes


def parse_frame(data: bytes) -> Frame:
    """Split a frame into header and payload. RemoteProtocolError when too short or of a reserved type."""
    if len(data) < 3:
        raise RemoteProtocolError(f"ZCL frame of {len(data)} octets is shorter than its header")
    control = data[0]
    if control & 0x02:
        raise RemoteProtocolError(f"ZCL frame control {control:#04x} has a reserved frame type")
    if control & MANUFACTURER_SPECIFIC:
        if len(data) < 5:
            raise RemoteProtocolError(f"manufacturer-specific ZCL frame of {len(data)} octets is too short")
        return Frame(control, data[1] | data[2] << 8, data[3], data[4], data[5:])
    return Frame(control, None, data[1], data[2], data[3:])


def build_frame(frame: Frame) -> bytes:
    """The octets of a frame; the manufacturer-specific bit follows `manufacturer`."""
    control, manufacturer, sequence, command, payload = frame
    if manufacturer is None:
        return bytes((control & ~MANUFACTURER_SPECIFIC, sequence, command)) + payload
    head = (control | MANUFACTURER_SPECIFIC, manufacturer & 0xFF, manufacturer >> 8, sequence, command)
    return bytes(head) + payload


def answer(request: Frame, command: int, payload: bytes, *, control: int = 0) -> bytes:
    """A frame back to the sender of `request`: same sequence and manufacturer, the other direction.

    `control` is CLUSTER_COMMAND or, for a general command, 0. No Default Response is asked for.
    """
    control |= (~request.control & FROM_SERVER) | NO_DEFAULT_RESPONSE
    return build_frame(Frame(control, request.manufacturer, request.sequence, command, payload))


def default_response(request: Frame, status: int) -> bytes:
    """The Default Response frame (ZCL8 2.5.12) to `request`."""
    return answer(request, DEFAULT_RESPONSE, bytes((request.command, status)))


def default_response_due(request: Frame, status: int, *, unicast: bool) -> bool:
    """Whether ZCL8 2.5.12.2 asks for a Default Response: to a unicast, not to another one, success if wanted."""
    if not unicast or (request.command == DEFAULT_RESPONSE and not request.control & CLUSTER_COMMAND):
        return False
    return status != Status.SUCCESS or not request.control & NO_DEFAULT_RESPONSE


def parse_default_response(payload: bytes) -> tuple[int, int]:
    """The command answered and its status. RemoteProtocolError when cut off."""
    if len(payload) < 2:
        raise RemoteProtocolError(f"Default Response has {len(payload)} octets of payload, not 2")
    return payload[0], payload[1]


_STATUS_NAMES: Final[Mapping[int, str]] = {int(status): status.name for status in Status}


def status_name(status: int) -> str:
    """A status as text: `NO_IMAGE_AVAILABLE (0x98)`."""
    return f"{_STATUS_NAMES.get(status, 'status')} ({status:#04x})"


def encode_value(kind: int, value: Value) -> bytes:
    """The octets of a value of ZCL data type `kind`. LocalProtocolError when the value is not of that type."""
    try:
        if (size := _UNSIGNED_SIZE.get(kind)) is not None and isinstance(value, int):
            return value.to_bytes(size, "little")
        if (size := _SIGNED_SIZE.get(kind)) is not None and isinstance(value, int):
            return value.to_bytes(size, "little", signed=True)
        if (size := _STRING_PREFIX.get(kind)) is not None:
            if value is None:  # ZCL8 2.6.2.10: a length of all ones is the invalid string
                return b"\xff" * size
            text = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value
            if isinstance(text, bytes) and len(text) < (1 << 8 * size) - 1:
                return len(text).to_bytes(size, "little") + text
        if (floating := _FLOATS.get(kind)) is not None and isinstance(value, (int, float)):
            return floating.pack(value)
    except (OverflowError, struct.error) as error:
        raise LocalProtocolError(f"value {value!r} does not fit ZCL type {kind:#04x}") from error
    if kind == _KEY128 and isinstance(value, bytes) and len(value) == 16:
        return value
    if kind == _NO_DATA and value is None:
        return b""
    raise LocalProtocolError(f"value {value!r} is not one of ZCL type {kind:#04x}")


def decode_value(kind: int, data: bytes, offset: int = 0) -> tuple[Value, int]:
    """The value of ZCL data type `kind` at `offset`, and the offset behind it.

    RemoteProtocolError when it is cut off, or of an array, structure, set, bag or unknown type: no attribute that
    the harness reads has one.
    """
    prefix = _STRING_PREFIX.get(kind)
    if prefix is not None:
        start = offset + prefix
        size = int.from_bytes(_take(kind, data, offset, prefix), "little")
        if size == (1 << 8 * prefix) - 1:
            return None, start
        octets = _take(kind, data, start, size)
        return (octets.decode("utf-8", "surrogateescape") if kind in _TEXT else octets), start + size
    if (unsigned := _UNSIGNED_SIZE.get(kind)) is not None:
        return int.from_bytes(_take(kind, data, offset, unsigned), "little"), offset + unsigned
    if (signed := _SIGNED_SIZE.get(kind)) is not None:
        return int.from_bytes(_take(kind, data, offset, signed), "little", signed=True), offset + signed
    if (floating := _FLOATS.get(kind)) is not None:
        number: float = floating.unpack(_take(kind, data, offset, floating.size))[0]
        return number, offset + floating.size
    if kind == _KEY128:
        return _take(kind, data, offset, 16), offset + 16
    if kind == _NO_DATA:
        return None, offset
    raise RemoteProtocolError(f"attribute of ZCL type {kind:#04x}, which the harness does not read")


def _take(kind: int, data: bytes, offset: int, size: int) -> bytes:
    octets = data[offset : offset + size]
    if len(octets) < size:
        raise RemoteProtocolError(f"value of ZCL type {kind:#04x} is cut off: {len(octets)} of {size} octets")
    return octets


class AttributeValue(NamedTuple):
    """One attribute as a write or a report carries it."""

    attribute: int
    kind: int
    value: Value


class AttributeStatus(NamedTuple):
    """One record of a Read Attributes Response; `kind` and `value` are None where `status` is not SUCCESS."""

    attribute: int
    status: int
    kind: int | None = None
    value: Value = None


def build_read(attributes: Iterable[int]) -> bytes:
    """Payload of Read Attributes."""
    return b"".join(attribute.to_bytes(2, "little") for attribute in attributes)


def parse_read(payload: bytes) -> tuple[int, ...]:
    """The attributes that a Read Attributes asks for. RemoteProtocolError when the last one is cut off."""
    if len(payload) % 2:
        raise RemoteProtocolError(f"Read Attributes of {len(payload)} octets ends within an identifier")
    return struct.unpack(f"<{len(payload) // 2}H", payload)


def build_read_response(records: Iterable[AttributeStatus]) -> bytes:
    """Payload of Read Attributes Response."""
    parts = []
    for attribute, status, kind, value in records:
        parts.append(attribute.to_bytes(2, "little") + bytes((status,)))
        if status == Status.SUCCESS:
            if kind is None:
                raise LocalProtocolError(f"attribute {attribute:#06x} is read with success but no type")
            parts.append(bytes((kind,)) + encode_value(kind, value))
    return b"".join(parts)


def parse_read_response(payload: bytes) -> tuple[AttributeStatus, ...]:
    """The records of a Read Attributes Response. RemoteProtocolError when the last one is cut off."""
    records = []
    offset = 0
    while offset < len(payload):
        if offset + 3 > len(payload):
            raise RemoteProtocolError("Read Attributes Response ends within a record")
        attribute, status = payload[offset] | payload[offset + 1] << 8, payload[offset + 2]
        offset += 3
        if status != Status.SUCCESS:
            records.append(AttributeStatus(attribute, status))
            continue
        if offset >= len(payload):
            raise RemoteProtocolError(f"Read Attributes Response ends before the type of {attribute:#06x}")
        kind = payload[offset]
        value, offset = decode_value(kind, payload, offset + 1)
        records.append(AttributeStatus(attribute, status, kind, value))
    return tuple(records)


def build_values(values: Iterable[AttributeValue]) -> bytes:
    """Payload of Write Attributes and of Report Attributes."""
    return b"".join(
        attribute.to_bytes(2, "little") + bytes((kind,)) + encode_value(kind, value)
        for attribute, kind, value in values
    )


def parse_values(payload: bytes) -> tuple[AttributeValue, ...]:
    """The attributes that a write or a report carries. RemoteProtocolError when the last one is cut off."""
    values = []
    offset = 0
    while offset < len(payload):
        if offset + 3 > len(payload):
            raise RemoteProtocolError("attribute record ends within its identifier or type")
        attribute, kind = payload[offset] | payload[offset + 1] << 8, payload[offset + 2]
        value, offset = decode_value(kind, payload, offset + 3)
        values.append(AttributeValue(attribute, kind, value))
    return tuple(values)


def build_write_response(failures: Iterable[tuple[int, int]]) -> bytes:
    """Payload of Write Attributes Response: (attribute, status) of each write that failed."""
    # ZCL8 2.5.5.1: when nothing failed, one SUCCESS without an attribute.
    return b"".join(struct.pack("<BH", status, attribute) for attribute, status in failures) or b"\x00"


def parse_write_response(payload: bytes) -> tuple[tuple[int, int], ...]:
    """(attribute, status) of the writes that failed. RemoteProtocolError when a record is cut off."""
    if payload == b"\x00":
        return ()
    if not payload or len(payload) % 3:
        raise RemoteProtocolError(f"Write Attributes Response of {len(payload)} octets ends within a record")
    return tuple((attribute, status) for status, attribute in struct.iter_unpack("<BH", payload))


def build_discover_response(complete: bool, attributes: Iterable[tuple[int, int]]) -> bytes:
    """Payload of Discover Attributes Response: (attribute, type) in order of attribute."""
    return bytes((complete,)) + b"".join(struct.pack("<HB", *record) for record in attributes)


def parse_discover_response(payload: bytes) -> tuple[bool, tuple[tuple[int, int], ...]]:
    """Whether that was all, and (attribute, type) each. RemoteProtocolError when a record is cut off."""
    if len(payload) % 3 != 1:
        raise RemoteProtocolError(
            f"Discover Attributes Response of {len(payload)} octets ends within a record"
        )
    return bool(payload[0]), tuple(struct.iter_unpack("<HB", payload[1:]))


@dataclass(frozen=True, slots=True)
class Attribute:
    """One attribute of a cluster: its ZCL data type, how to read it at a time, how to write it where allowed.

    `write` returns the status of the write; None makes the attribute read-only.
    """

    kind: int
    read: Callable[[float], Value]
    write: Callable[[Value], int] | None = None


# One for each value that any device has: a premises of eight has a hundred attributes that are the same in all of them.
@lru_cache(maxsize=1024)
def constant(kind: int, value: Value) -> Attribute:
    """A read-only attribute that never changes. Equal ones are one: every device of a HAN has a dozen of them."""
    return Attribute(kind, lambda now: value)


AttributeTable = Mapping[int, Attribute]


class AttributeServer:
    """Answers the general commands to one endpoint from its attribute tables, and refuses what it has not."""

    def __init__(
        self, server: Mapping[int, AttributeTable], client: Mapping[int, AttributeTable] | None = None
    ) -> None:
        """`server` and `client` hold the attributes of the endpoint's server and client sides, by cluster."""
        self._server = server
        self._client = client or {}

    def answer(self, cluster: int, request: Frame, now: float, *, unicast: bool = True) -> bytes | None:
        """The frame that answers `request`, which its member did not take; None where ZCL asks for silence."""
        if not unicast:
            return None
        table = (self._client if request.control & FROM_SERVER else self._server).get(cluster)
        status: int
        if table is None:
            status = Status.UNSUPPORTED_CLUSTER
        elif request.control & CLUSTER_COMMAND:
            own = request.manufacturer is not None
            status = Status.UNSUP_MANUF_CLUSTER_COMMAND if own else Status.UNSUP_CLUSTER_COMMAND
        elif request.manufacturer is not None:
            status = Status.UNSUP_MANUF_GENERAL_COMMAND
        elif request.command in _ANSWERS:
            status = Status.SUCCESS
        else:
            try:
                reply = self._general(table, request, now)
            except RemoteProtocolError:
                status = Status.MALFORMED_COMMAND
            else:
                if reply is not None:
                    return answer(request, *reply)
                if request.command == WRITE_ATTRIBUTES_NO_RESPONSE:
                    return None
                status = Status.UNSUP_GENERAL_COMMAND
        due = default_response_due(request, status, unicast=unicast)
        return default_response(request, status) if due else None

    def _general(self, table: AttributeTable, request: Frame, now: float) -> tuple[int, bytes] | None:
        command = request.command
        if command == READ_ATTRIBUTES:
            return READ_ATTRIBUTES_RESPONSE, build_read_response(
                AttributeStatus(number, Status.UNSUPPORTED_ATTRIBUTE)
                if (attribute := table.get(number)) is None
                else AttributeStatus(number, Status.SUCCESS, attribute.kind, attribute.read(now))
                for number in parse_read(request.payload)
            )
        if command == WRITE_ATTRIBUTES_NO_RESPONSE:
            self._write(table, parse_values(request.payload))
        elif command == WRITE_ATTRIBUTES:
            failures = self._write(table, parse_values(request.payload))
            return WRITE_ATTRIBUTES_RESPONSE, build_write_response(failures)
        elif command == WRITE_ATTRIBUTES_UNDIVIDED:
            values = parse_values(request.payload)
            refused = [(value.attribute, status) for value in values if (status := _writable(table, value))]
            return WRITE_ATTRIBUTES_RESPONSE, build_write_response(refused or self._write(table, values))
        elif command == DISCOVER_ATTRIBUTES:
            if len(request.payload) < 3:
                raise RemoteProtocolError("Discover Attributes is cut off")
            first, most = struct.unpack_from("<HB", request.payload)
            found = [(number, table[number].kind) for number in sorted(table) if number >= first]
            return DISCOVER_ATTRIBUTES_RESPONSE, build_discover_response(len(found) <= most, found[:most])
        return None

    def _write(self, table: AttributeTable, values: Iterable[AttributeValue]) -> list[tuple[int, int]]:
        failures = []
        for value in values:
            status = _writable(table, value)
            write = None if status else table[value.attribute].write
            if write is not None:
                status = write(value.value)
            if status:
                failures.append((value.attribute, status))
        return failures


def _writable(table: AttributeTable, value: AttributeValue) -> int:
    attribute = table.get(value.attribute)
    if attribute is None:
        return Status.UNSUPPORTED_ATTRIBUTE
    if attribute.write is None:
        return Status.READ_ONLY
    return Status.INVALID_DATA_TYPE if attribute.kind != value.kind else Status.SUCCESS
