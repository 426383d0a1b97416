"""The commands of the Key Establishment cluster (0x0800) as values, and their octets behind the ZCL header."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from enum import IntEnum
from typing import Final, NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.certificates import CERTIFICATE_LENGTHS, CURVES
from harness.wire.clusters import CLUSTER_REVISION
from harness.wire.security import KEY_LENGTH

KEY_ESTABLISHMENT_CLUSTER: Final = 0x0800

KEY_ESTABLISHMENT_SUITE: Final = 0x0000  # ZSE 07-5356-19 annex C.3.1.2.2.1, of client and server
_ENUM16: Final = 0x31  # ZCL8 table 2-10

# ZSE annex C.3.1.2.3 and C.3.1.3.3: a response has its request's identifier.
INITIATE: Final = 0x00
EPHEMERAL_DATA: Final = 0x01
CONFIRM_KEY_DATA: Final = 0x02
TERMINATE: Final = 0x03

LONGEST_TIME: Final = 0xFE  # s, ZSE annex C.3.1.2.3.1: of what Initiate states


class TerminateStatus(IntEnum):
    """Why a key establishment ended (ZSE annex C.3.1.2.3.4)."""

    UNKNOWN_ISSUER = 0x01
    BAD_KEY_CONFIRM = 0x02
    BAD_MESSAGE = 0x03
    NO_RESOURCES = 0x04
    UNSUPPORTED_SUITE = 0x05
    INVALID_CERTIFICATE = 0x06


class Initiate(NamedTuple):
    """0x00: one's certificate, and how long one needs for the next two messages, in seconds."""

    suite: int
    ephemeral_time: int
    confirm_time: int
    certificate: bytes


class EphemeralData(NamedTuple):
    """0x01: one's ephemeral public key, compressed."""

    point: bytes


class ConfirmKeyData(NamedTuple):
    """0x02: the message authentication code that proves that one has the key."""

    mac: bytes


class Terminate(NamedTuple):
    """0x03, either way: it is over. `wait_time` in seconds; `suites` are those that the sender has."""

    status: int
    wait_time: int
    suites: int


Message = Initiate | EphemeralData | ConfirmKeyData | Terminate

_INITIATE: Final = struct.Struct("<HBB")
_TERMINATE: Final = struct.Struct("<BBH")
_POINT_LENGTHS: Final = tuple(curve.octets + 1 for curve in CURVES.values())


def parse_message(frame: zcl.Frame) -> Message:
    """Read one command. RemoteProtocolError when it is none of the cluster's, or not as long as it has to be."""
    payload = frame.payload
    length = len(payload)
    if frame.command == INITIATE:
        if length < _INITIATE.size:
            raise RemoteProtocolError(f"Initiate Key Establishment of {length} octets is cut off")
        suite, ephemeral_time, confirm_time = _INITIATE.unpack_from(payload)
        certificate = payload[_INITIATE.size :]
        # How long the certificate of another suite is, nobody can say.
        expected = CERTIFICATE_LENGTHS.get(suite, len(certificate))
        if len(certificate) != expected:
            raise RemoteProtocolError(
                f"Initiate Key Establishment of suite {suite} has a certificate of {len(certificate)} octets,"
                f" not {expected}"
            )
        return Initiate(suite, ephemeral_time, confirm_time, certificate)
    if frame.command == EPHEMERAL_DATA:
        if length not in _POINT_LENGTHS:
            raise RemoteProtocolError(f"Ephemeral Data of {length} octets: a point has 22 or 37")
        return EphemeralData(payload)
    if frame.command == CONFIRM_KEY_DATA:
        if length != KEY_LENGTH:
            raise RemoteProtocolError(f"Confirm Key Data has {length} octets, not {KEY_LENGTH}")
        return ConfirmKeyData(payload)
    if frame.command == TERMINATE:
        if length != _TERMINATE.size:
            raise RemoteProtocolError(
                f"Terminate Key Establishment has {length} octets, not {_TERMINATE.size}"
            )
        return Terminate(*_TERMINATE.unpack(payload))
    raise RemoteProtocolError(f"Key Establishment has no command {frame.command:#04x}")


def build_message(message: Message, sequence: int, *, from_server: bool) -> bytes:
    """Return the ZCL frame of one command; what a responder sends is `from_server`.

    LocalProtocolError when a field does not fit its place.
    """
    # ZCL8 2.4.1.1.5: responses, and what nobody needs to confirm, ask for no Default Response.
    control = zcl.CLUSTER_COMMAND | (zcl.FROM_SERVER | zcl.NO_DEFAULT_RESPONSE if from_server else 0)
    try:
        if isinstance(message, Initiate):
            command, payload = INITIATE, _INITIATE.pack(*message[:3]) + message.certificate
        elif isinstance(message, EphemeralData):
            command, payload = EPHEMERAL_DATA, message.point
        elif isinstance(message, ConfirmKeyData):
            command, payload = CONFIRM_KEY_DATA, message.mac
        else:
            command, payload = TERMINATE, _TERMINATE.pack(*message)
            control |= zcl.NO_DEFAULT_RESPONSE
    except struct.error as error:
        raise LocalProtocolError(f"{message} does not fit its fields: {error}") from None
    return zcl.build_frame(zcl.Frame(control, None, sequence, command, payload))


_NAMES: Final = {
    INITIATE: "Initiate",
    EPHEMERAL_DATA: "Ephemeral Data",
    CONFIRM_KEY_DATA: "Confirm Key Data",
}


def command_name(command: int, *, from_server: bool) -> str:
    """Return the name of a command but Terminate, as the standard has it: `Ephemeral Data Response`."""
    return f"{_NAMES[command]} {'Response' if from_server else 'Request'}"


def suite_mask(suites: Iterable[int]) -> int:
    """Return the attribute KeyEstablishmentSuite of a device that has these suites."""
    mask = 0
    for suite in suites:
        mask |= suite
    return mask


def key_establishment_attributes(suites: Iterable[int]) -> dict[int, zcl.Attribute]:
    """Key Establishment (0x0800), server and client side alike."""
    return {
        KEY_ESTABLISHMENT_SUITE: zcl.constant(_ENUM16, suite_mask(suites)),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 2),
    }
