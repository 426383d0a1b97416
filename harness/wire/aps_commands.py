"""The APS commands of Zigbee PRO that move keys and tell the trust centre who came and went."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import Any

from harness.errors import LocalProtocolError, RemoteProtocolError

# Command identifiers (Zigbee PRO 05-3474-21).
TRANSPORT_KEY = 0x05
UPDATE_DEVICE = 0x06
REMOVE_DEVICE = 0x07
REQUEST_KEY = 0x08
SWITCH_KEY = 0x09
TUNNEL = 0x0E
VERIFY_KEY = 0x0F
CONFIRM_KEY = 0x10


class KeyType(IntEnum):
    """Key types of the key commands; Request-Key has its own numbers, below."""

    NETWORK = 1
    APP_LINK = 3
    TC_LINK = 4


# Request-Key's key types.
REQUEST_APP_LINK = 2
REQUEST_TC_LINK = 4

# Update-Device statuses.
SECURED_REJOIN = 0
UNSECURED_JOIN = 1
DEVICE_LEFT = 2
UNSECURED_REJOIN = 3


@dataclass(frozen=True, slots=True)
class TransportKey:
    """A key on its way: to `destination` from the trust centre `source`, or (APP_LINK) one shared with `partner`.

    `sequence` goes with NETWORK keys, `partner` and `initiator` with APP_LINK keys; the others ignore them.
    """

    key_type: int
    key: bytes = field(repr=False)
    destination: int = 0
    source: int = 0
    sequence: int = 0
    partner: int = 0
    initiator: bool = False


@dataclass(frozen=True, slots=True)
class UpdateDevice:
    """A parent tells the trust centre what became of `device`: a status from SECURED_REJOIN to UNSECURED_REJOIN."""

    device: int
    short: int
    status: int


@dataclass(frozen=True, slots=True)
class RemoveDevice:
    """The trust centre tells a parent to make its child `target` leave."""

    target: int


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A device asks the trust centre for a link key: REQUEST_TC_LINK, or REQUEST_APP_LINK with a `partner`."""

    key_type: int
    partner: int | None = None


@dataclass(frozen=True, slots=True)
class SwitchKey:
    """The trust centre puts the network key `sequence` into use."""

    sequence: int


@dataclass(frozen=True, slots=True)
class Tunnel:
    """A whole secured APS `frame` that a parent is to pass on to its joining child `destination`."""

    destination: int
    frame: bytes


@dataclass(frozen=True, slots=True)
class VerifyKey:
    """A device proves that it holds its new key: `digest` is security.verify_key_hash of it."""

    key_type: int
    source: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class ConfirmKey:
    """The trust centre's answer to Verify-Key; status 0: verified."""

    status: int
    key_type: int
    destination: int


ApsCommand = (
    TransportKey | UpdateDevice | RemoveDevice | RequestKey | SwitchKey | Tunnel | VerifyKey | ConfirmKey
)

_NETWORK_KEY = Struct("<B16sBQQ")
_TC_LINK_KEY = Struct("<B16sQQ")
_APP_LINK_KEY = Struct("<B16sQB")
_UPDATE_DEVICE = Struct("<QHB")
_EUI64 = Struct("<Q")
_VERIFY_KEY = Struct("<BQ16s")
_CONFIRM_KEY = Struct("<BBQ")


def _build_transport_key(command: TransportKey) -> bytes:
    kind, key = command.key_type, command.key
    if len(key) != 16:
        raise LocalProtocolError(f"A Zigbee key has 16 octets, this one has {len(key)}")
    if kind == KeyType.NETWORK:
        return _NETWORK_KEY.pack(kind, key, command.sequence, command.destination, command.source)
    if kind == KeyType.TC_LINK:
        return _TC_LINK_KEY.pack(kind, key, command.destination, command.source)
    if kind == KeyType.APP_LINK:
        return _APP_LINK_KEY.pack(kind, key, command.partner, command.initiator)
    raise LocalProtocolError(f"Transport-Key of type {kind}; there are 1, 3 and 4")


def _parse_transport_key(data: bytes) -> TransportKey:
    kind = data[1]
    if kind == KeyType.NETWORK:
        _, key, sequence, destination, source = _NETWORK_KEY.unpack_from(data, 1)
        return TransportKey(kind, key, destination, source, sequence=sequence)
    if kind == KeyType.TC_LINK:
        _, key, destination, source = _TC_LINK_KEY.unpack_from(data, 1)
        return TransportKey(kind, key, destination, source)
    if kind == KeyType.APP_LINK:
        _, key, partner, initiator = _APP_LINK_KEY.unpack_from(data, 1)
        return TransportKey(kind, key, partner=partner, initiator=initiator != 0)
    raise RemoteProtocolError(f"Transport-Key of type {kind}; there are 1, 3 and 4")


def _build_request_key(command: RequestKey) -> bytes:
    if (command.key_type == REQUEST_APP_LINK) != (command.partner is not None):
        raise LocalProtocolError(f"{command}: a partner goes with key type {REQUEST_APP_LINK} only")
    partner = b"" if command.partner is None else _EUI64.pack(command.partner)
    return bytes((command.key_type,)) + partner


def _parse_request_key(data: bytes) -> RequestKey:
    kind = data[1]
    return RequestKey(kind, _EUI64.unpack_from(data, 2)[0] if kind == REQUEST_APP_LINK else None)


def _build_verify_key(command: VerifyKey) -> bytes:
    if len(command.digest) != 16:
        raise LocalProtocolError(f"The hash of Verify-Key has 16 octets, this one has {len(command.digest)}")
    return _VERIFY_KEY.pack(command.key_type, command.source, command.digest)


_BUILDERS: dict[type[Any], tuple[int, Callable[[Any], bytes]]] = {
    TransportKey: (TRANSPORT_KEY, _build_transport_key),
    UpdateDevice: (
        UPDATE_DEVICE,
        lambda command: _UPDATE_DEVICE.pack(command.device, command.short, command.status),
    ),
    RemoveDevice: (REMOVE_DEVICE, lambda command: _EUI64.pack(command.target)),
    RequestKey: (REQUEST_KEY, _build_request_key),
    SwitchKey: (SWITCH_KEY, lambda command: bytes((command.sequence,))),
    Tunnel: (TUNNEL, lambda command: _EUI64.pack(command.destination) + command.frame),
    VerifyKey: (VERIFY_KEY, _build_verify_key),
    ConfirmKey: (
        CONFIRM_KEY,
        lambda command: _CONFIRM_KEY.pack(command.status, command.key_type, command.destination),
    ),
}

_PARSERS: dict[int, Callable[[bytes], ApsCommand]] = {
    TRANSPORT_KEY: _parse_transport_key,
    UPDATE_DEVICE: lambda data: UpdateDevice(*_UPDATE_DEVICE.unpack_from(data, 1)),
    REMOVE_DEVICE: lambda data: RemoveDevice(*_EUI64.unpack_from(data, 1)),
    REQUEST_KEY: _parse_request_key,
    SWITCH_KEY: lambda data: SwitchKey(data[1]),
    TUNNEL: lambda data: Tunnel(_EUI64.unpack_from(data, 1)[0], data[9:]),
    VERIFY_KEY: lambda data: VerifyKey(*_VERIFY_KEY.unpack_from(data, 1)),
    CONFIRM_KEY: lambda data: ConfirmKey(*_CONFIRM_KEY.unpack_from(data, 1)),
}


def build_aps_command(command: ApsCommand) -> bytes:
    """Return the payload of an APS command frame: identifier and content."""
    identifier, build = _BUILDERS[type(command)]
    try:
        return bytes((identifier,)) + build(command)
    except (StructError, ValueError) as error:
        raise LocalProtocolError(f"{command} does not fit its fields: {error}") from None


def parse_aps_command(payload: bytes) -> ApsCommand:
    """Read the payload of an APS command frame; octets after the last known field are ignored (R23 appends TLVs)."""
    if not payload:
        raise RemoteProtocolError("APS command frame without a command")
    parse = _PARSERS.get(payload[0])
    if parse is None:
        raise RemoteProtocolError(f"APS command {payload[0]:#04x} is not known")
    try:
        return parse(payload)
    except (IndexError, StructError):
        # No octets in the message: a key command holds secrets.
        raise RemoteProtocolError(
            f"APS command {payload[0]:#04x} of {len(payload)} octets ends early"
        ) from None
