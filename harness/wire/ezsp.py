"""EZSP frames of every version bellows speaks, both ends, on bellows' own command tables."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, Final, NamedTuple

import bellows.ezsp
import zigpy.types

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.ezsp_fast import (
    WIDE_STATUS,
    EzspAps,
    FastCodec,
    GetExtendedTimeout,
    HotCommand,
    IncomingMessage,
    MessageSent,
    SendUnicast,
    SetExtendedTimeout,
)

__all__ = [
    "VERSIONS",
    "Command",
    "EzspAps",
    "EzspCodec",
    "GetExtendedTimeout",
    "IncomingMessage",
    "MessageSent",
    "Response",
    "SendUnicast",
    "SetExtendedTimeout",
    "eui64_to_int",
]

VERSIONS: Final = tuple(
    sorted(
        int(module.name[1:])
        for module in pkgutil.iter_modules(bellows.ezsp.__path__)
        if re.fullmatch(r"v\d+", module.name) and int(module.name[1:]) >= 8
    )
)
"""The EZSP versions that the installed bellows speaks, from 8 up (older ones have another frame header)."""

VERSION: Final = 0x0000
INVALID_COMMAND: Final = 0x0058

# UG100: frame control, low octet. Bit 7: from the NCP; bit 4: a callback; bit 3: a callback asked for.
_RESPONSE = 0x80
_CALLBACK = 0x90
_CALLBACK_BITS = 0x18
# Frame control, high octet: bits 0-1 the frame format; 1 is the extended format of EZSP 8 and newer.
_EXTENDED = 0x01

# EzspStatus. From EZSP 14 on bellows' table has four octets of sl_Status in its place, while Silicon Labs' host
# and zigbee-herdsman still read one EzspStatus: little-endian, the same number serves all three.
_ERROR_VERSION_NOT_SET = 0x30
_ERROR_INVALID_FRAME_ID = 0x31

# Last parameters that some EZSP host leaves out, and that the NCP then takes as 0:
# zigbee-herdsman sends importTransientKey without flags, hosts made for EZSP 13 leaveNetwork without options.
_OMISSIBLE: Final = {"importTransientKey": "flags", "leaveNetwork": "options"}

# addEndpoint (UG100) sends two lists one after the other, their lengths before both. The tables' list type
# knows no length and would take both for the first.
_COUNTED: Final = {"inputClusterList": "inputClusterCount", "outputClusterList": "outputClusterCount"}

# What the tables' types raise on values that do not fit them; on octets it is ValueError alone.
_ENCODE_ERRORS = (ValueError, TypeError, AttributeError, KeyError, AssertionError)


class Command(NamedTuple):
    """A command as the NCP got it.

    `name` is None when the version has no such command. `hot` is the plain value of the busiest commands
    (`args` is then empty); every other command has bellows' typed values in `args`, by the table's names.
    `legacy` marks the 3-octet header in which a host asks for the version first.
    """

    sequence: int
    frame_id: int
    name: str | None
    args: dict[str, Any]
    hot: HotCommand | None = None
    legacy: bool = False


class Response(NamedTuple):
    """A response or a callback as the host got it; `name` is None when the version has no such frame."""

    sequence: int
    frame_id: int
    name: str | None
    values: dict[str, Any]
    is_callback: bool
    legacy: bool = False


def eui64_to_int(value: Sequence[int]) -> int:
    """The 64-bit number of an address that EZSP carries as eight octets, least significant first."""
    return int.from_bytes(bytes(value), "little")


class _Field(NamedTuple):
    name: str
    type: Any


class _Frame(NamedTuple):
    """One row of a table: `struct` is set where bellows describes the parameters by a class, not a dict."""

    frame_id: int
    name: str
    command: tuple[_Field, ...]
    command_struct: Any
    response: tuple[_Field, ...]
    response_struct: Any


def _fields(schema: Any) -> tuple[tuple[_Field, ...], Any]:
    if isinstance(schema, type):
        fields: Any = schema
        return tuple(_Field(field.name, field.type) for field in fields.fields), schema
    # An empty tuple stands for "no parameters" in one row of bellows' tables.
    return tuple(_Field(name, kind) for name, kind in dict(schema).items()), None


@cache
def _table(version: int) -> tuple[dict[str, _Frame], dict[int, _Frame]]:
    rows = importlib.import_module(f"bellows.ezsp.v{version}.commands").COMMANDS
    frames = [
        _Frame(frame_id, name, *_fields(command), *_fields(response))
        for name, (frame_id, command, response) in rows.items()
    ]
    return {frame.name: frame for frame in frames}, {frame.frame_id: frame for frame in frames}


def _convert(kind: Any, value: Any) -> Any:
    """`value` as the table's type: an int for an EUI-64 and a mapping for a structure are welcome."""
    if isinstance(value, kind):
        return value
    if issubclass(kind, zigpy.types.EUI64) and isinstance(value, int):
        return kind(value.to_bytes(8, "little"))
    if isinstance(value, Mapping) and issubclass(kind, zigpy.types.Struct):
        known = {field.name: field.type for field in kind.fields}
        return kind(**{name: _convert(known[name], item) for name, item in value.items()})
    item_type = getattr(kind, "_item_type", None)
    if item_type is not None and isinstance(value, list | tuple):
        return kind([_convert(item_type, item) for item in value])
    return kind(value)


def _shown(value: Any, error: Exception) -> str:
    """A value that does not fit, and why; of anything that may hold a key only what it is."""
    if isinstance(value, int | str):
        return f"{value!r}: {error}"
    size = f" of {len(value)} octets" if isinstance(value, bytes) else ""
    return f"{type(value).__name__}{size}: {type(error).__name__}"


@cache
def _zero(kind: Any) -> bytes:
    """The octets of a type's zero value: the zeros that it is read from."""
    zeros = bytes(512)
    _, rest = kind.deserialize(zeros)
    # A list without a length takes all there is; its zero value is the empty one.
    return zeros[: len(zeros) - len(rest)] if rest else b""


class EzspCodec:
    """One EZSP version: commands in, responses and callbacks out (NCP), and the other way round (host).

    Parsers raise RemoteProtocolError on anything malformed, naming command and field; octets after the last
    known parameter are ignored, as every EZSP end does. Builders raise LocalProtocolError. Neither repeats what may be
    a key: of octets a message says how many there are.
    """

    def __init__(self, version: int) -> None:
        if version not in VERSIONS:
            raise LocalProtocolError(f"EZSP version {version} is none of {VERSIONS}")
        self.version = version
        self.fast = FastCodec(version)
        self._by_name, self._by_id = _table(version)

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all commands and callbacks of this version, in the table's order."""
        return tuple(self._by_name)

    # --- NCP side ---------------------------------------------------------------------------------------

    def parse_command(self, data: bytes, *, hot: bool = True) -> Command:
        """Reads a command; with `hot` False even the busiest ones come as bellows' typed values."""
        sequence, control, frame_id, parameters, legacy = self._parse_header(data)
        if control & _RESPONSE:
            raise RemoteProtocolError(f"frame 0x{frame_id:04X} from the host is marked as a response")
        if hot and not legacy:
            value = self.fast.parse(frame_id, parameters)
            if value is not None:
                return Command(sequence, frame_id, self._by_id[frame_id].name, {}, value)
        frame = self._by_id.get(frame_id)
        # UG100: the legacy header is good for nothing but the version command.
        if frame is None or (legacy and frame_id != VERSION):
            return Command(sequence, frame_id, None, {}, None, legacy)
        return Command(sequence, frame_id, frame.name, self._parse_command(frame, parameters), None, legacy)

    def build_response(
        self, command: Command, values: Mapping[str, Any] | Sequence[Any] = (), *, fill: bool = False
    ) -> bytes:
        """The answer to `command`, in its own header format; `fill` sends zeros for values not given."""
        if command.name is None:
            raise LocalProtocolError(f"command 0x{command.frame_id:04X} is unknown, answer invalid_command")
        frame = self._by_id[command.frame_id]
        return self._header(command.sequence, _RESPONSE, frame.frame_id, command.legacy) + self._serialize(
            frame.name, frame.response, frame.response_struct, values, fill
        )

    def build_callback(
        self,
        sequence: int,
        name: str,
        values: Mapping[str, Any] | Sequence[Any] = (),
        *,
        fill: bool = False,
    ) -> bytes:
        """A callback; `sequence` must be that of the last answered command (bellows matches by it alone)."""
        frame = self._frame(name)
        return self._header(sequence, _CALLBACK, frame.frame_id, False) + self._serialize(
            name, frame.response, frame.response_struct, values, fill
        )

    def invalid_command(self, command: Command) -> bytes:
        """The answer to a command that this version does not know or whose parameters cannot be read."""
        return self.invalid_frame(command.sequence, legacy=command.legacy)

    def invalid_frame(self, sequence: int, *, legacy: bool = False) -> bytes:
        """The same where there is no Command, because its parameters were malformed."""
        if legacy:
            return self._header(sequence, _RESPONSE, INVALID_COMMAND, True) + bytes([_ERROR_VERSION_NOT_SET])
        size = 4 if self.version >= WIDE_STATUS else 1
        status = _ERROR_INVALID_FRAME_ID.to_bytes(size, "little")
        return self._header(sequence, _RESPONSE, INVALID_COMMAND, False) + status

    # --- host side --------------------------------------------------------------------------------------

    def build_command(self, sequence: int, name: str, /, *, legacy: bool = False, **args: Any) -> bytes:
        """A command; `legacy` puts it in the 3-octet header, which only `version` may use."""
        frame = self._frame(name)
        if legacy and frame.frame_id != VERSION:
            raise LocalProtocolError(f"{name} has no legacy header, only version has")
        return self._header(sequence, 0, frame.frame_id, legacy) + self._serialize(
            name, frame.command, frame.command_struct, args, False
        )

    def parse_response(self, data: bytes) -> Response:
        """Reads a response or a callback, as bellows' typed values."""
        sequence, control, frame_id, parameters, legacy = self._parse_header(data)
        if not control & _RESPONSE:
            raise RemoteProtocolError(f"frame 0x{frame_id:04X} from the NCP is marked as a command")
        is_callback = bool(control & _CALLBACK_BITS)
        frame = self._by_id.get(frame_id)
        if frame is None:
            return Response(sequence, frame_id, None, {}, is_callback, legacy)
        values = self._deserialize(frame.name, frame.response, frame.response_struct, parameters)
        return Response(sequence, frame_id, frame.name, values, is_callback, legacy)

    # --- both -------------------------------------------------------------------------------------------

    def _frame(self, name: str) -> _Frame:
        frame = self._by_name.get(name)
        if frame is None:
            raise LocalProtocolError(f"EZSP {self.version} has no {name}")
        return frame

    @staticmethod
    def _header(sequence: int, control: int, frame_id: int, legacy: bool) -> bytes:
        if not 0 <= sequence <= 0xFF:
            raise LocalProtocolError(f"an EZSP sequence number is one octet, not {sequence}")
        if legacy:
            return bytes((sequence, control, frame_id))
        return bytes((sequence, control, _EXTENDED, frame_id & 0xFF, frame_id >> 8))

    @staticmethod
    def _parse_header(data: bytes) -> tuple[int, int, int, bytes, bool]:
        if len(data) >= 5 and data[2] == _EXTENDED:
            return data[0], data[1], data[3] | data[4] << 8, data[5:], False
        if len(data) < 3:
            raise RemoteProtocolError(f"EZSP frame {data.hex()} is shorter than its header")
        return data[0], data[1], data[2], data[3:], True

    def _parse_command(self, frame: _Frame, parameters: bytes) -> dict[str, Any]:
        omissible = _OMISSIBLE.get(frame.name)
        if omissible and frame.command and frame.command[-1].name == omissible:
            before = frame.command[:-1]
            last = frame.command[-1]
            known = sum(len(_zero(field.type)) for field in before)
            if len(parameters) == known:
                parameters += _zero(last.type)
        return self._deserialize(frame.name, frame.command, frame.command_struct, parameters)

    @staticmethod
    def _deserialize(name: str, fields: tuple[_Field, ...], struct: Any, data: bytes) -> dict[str, Any]:
        if struct is not None:
            try:
                value, _ = struct.deserialize(data)
            except ValueError as error:
                raise RemoteProtocolError(
                    f"{name} cannot be read from {len(data)} octets: {error}"
                ) from error
            return {field.name: getattr(value, field.name) for field in fields}
        values: dict[str, Any] = {}
        for field in fields:
            count = values.get(_COUNTED.get(field.name, ""))
            rest = b""
            if count is not None:
                if len(data) < 2 * count:
                    raise RemoteProtocolError(
                        f"{name}.{field.name} has {count} clusters by its count, {len(data)} octets are left"
                    )
                data, rest = data[: 2 * count], data[2 * count :]
            try:
                values[field.name], data = field.type.deserialize(data)
                data += rest
            except ValueError as error:
                raise RemoteProtocolError(
                    f"{name}.{field.name} cannot be read from {len(data)} octets: {error}"
                ) from error
        return values

    @staticmethod
    def _serialize(
        name: str,
        fields: tuple[_Field, ...],
        struct: Any,
        values: Mapping[str, Any] | Sequence[Any],
        fill: bool,
    ) -> bytes:
        if isinstance(values, Mapping):
            given = dict(values)
        else:
            if len(values) > len(fields):
                raise LocalProtocolError(f"{name} has {len(fields)} values, not {len(values)}")
            given = {field.name: value for field, value in zip(fields, values, strict=False)}
        unknown = [key for key in given if all(key != field.name for field in fields)]
        if unknown:
            raise LocalProtocolError(
                f"{name} has no {unknown[0]!r}, it has {[field.name for field in fields]}"
            )
        if struct is not None:
            try:
                return bytes(_convert(struct, given).serialize())
            except _ENCODE_ERRORS as error:
                raise LocalProtocolError(f"{name} cannot be built from {_shown(given, error)}") from None
        parts = []
        for field in fields:
            if field.name not in given:
                if not fill:
                    raise LocalProtocolError(f"{name} lacks {field.name}")
                parts.append(_zero(field.type))
                continue
            try:
                parts.append(_convert(field.type, given[field.name]).serialize())
            except _ENCODE_ERRORS as error:
                raise LocalProtocolError(
                    f"{name}.{field.name} cannot be {_shown(given[field.name], error)}"
                ) from None
        return b"".join(parts)
