"""The commands of the Tunneling cluster (0x0704) as values, and their octets behind the ZCL header."""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from enum import IntEnum
from typing import Any, Final, NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl

TUNNELING_CLUSTER: Final = 0x0704

# ZSE 07-5356 D.6: command identifiers, client to server.
REQUEST_TUNNEL: Final = 0x00
CLOSE_TUNNEL: Final = 0x01
TRANSFER_DATA_TO_SERVER: Final = 0x02
TRANSFER_DATA_ERROR_TO_SERVER: Final = 0x03
ACK_TRANSFER_DATA_TO_SERVER: Final = 0x04
READY_DATA_TO_SERVER: Final = 0x05
GET_SUPPORTED_TUNNEL_PROTOCOLS: Final = 0x06
# ZSE 07-5356 D.6: command identifiers, server to client.
REQUEST_TUNNEL_RESPONSE: Final = 0x00
TRANSFER_DATA_TO_CLIENT: Final = 0x01
TRANSFER_DATA_ERROR_TO_CLIENT: Final = 0x02
ACK_TRANSFER_DATA_TO_CLIENT: Final = 0x03
READY_DATA_TO_CLIENT: Final = 0x04
SUPPORTED_TUNNEL_PROTOCOLS_RESPONSE: Final = 0x05
TUNNEL_CLOSURE_NOTIFICATION: Final = 0x06

# GBCS 10.2.2: what every tunnel of a GB HAN is.
GB_HRGP: Final = 6  # the protocol of Remote Party Messages
NO_MANUFACTURER: Final = 0xFFFF
MAX_TRANSFER: Final = 1500

NO_TUNNEL: Final = 0xFFFF  # the tunnel id of a Request Tunnel Response that opens none


class TunnelStatus(IntEnum):
    """The status of a Request Tunnel Response."""

    SUCCESS = 0
    BUSY = 1
    NO_MORE_TUNNEL_IDS = 2
    PROTOCOL_NOT_SUPPORTED = 3
    FLOW_CONTROL_NOT_SUPPORTED = 4


class TransferStatus(IntEnum):
    """The status of a Transfer Data Error."""

    NO_SUCH_TUNNEL = 0
    WRONG_DEVICE = 1
    DATA_OVERFLOW = 2


class RequestTunnel(NamedTuple):
    """0x00, client to server: open a tunnel. `max_transfer` is the most that the client takes at once."""

    protocol: int = GB_HRGP
    manufacturer: int = NO_MANUFACTURER
    flow_control: bool = False
    max_transfer: int = MAX_TRANSFER


class RequestTunnelResponse(NamedTuple):
    """0x00, server to client. `max_transfer` is the most that the server takes at once."""

    tunnel: int
    status: int
    max_transfer: int = MAX_TRANSFER


class CloseTunnel(NamedTuple):
    """0x01, client to server."""

    tunnel: int


class TransferData(NamedTuple):
    """0x02 to the server, 0x01 to the client."""

    tunnel: int
    data: bytes


class TransferDataError(NamedTuple):
    """0x03 to the server, 0x02 to the client: data was not taken."""

    tunnel: int
    status: int


class AckTransferData(NamedTuple):
    """0x04 to the server, 0x03 to the client; only with flow control, which the GB HAN does not have."""

    tunnel: int
    octets_left: int


class ReadyData(NamedTuple):
    """0x05 to the server, 0x04 to the client; only with flow control, which the GB HAN does not have."""

    tunnel: int
    octets_ready: int


class GetSupportedTunnelProtocols(NamedTuple):
    """0x06, client to server: the server's protocols from the one at `offset`."""

    offset: int = 0


class SupportedTunnelProtocols(NamedTuple):
    """0x05, server to client: (manufacturer, protocol) each, and whether that was the last of them."""

    complete: bool
    protocols: tuple[tuple[int, int], ...]


class TunnelClosureNotification(NamedTuple):
    """0x06, server to client: it closed a tunnel that nobody used."""

    tunnel: int


Message = (
    RequestTunnel
    | RequestTunnelResponse
    | CloseTunnel
    | TransferData
    | TransferDataError
    | AckTransferData
    | ReadyData
    | GetSupportedTunnelProtocols
    | SupportedTunnelProtocols
    | TunnelClosureNotification
)

_REQUEST = struct.Struct("<BH?H")
_RESPONSE = struct.Struct("<HBH")
_TUNNEL = struct.Struct("<H")
_ERROR = struct.Struct("<HB")
_COUNT = struct.Struct("<HH")
_LIST = struct.Struct("<?B")
_PROTOCOL = struct.Struct("<HB")


def _build_transfer(message: TransferData) -> bytes:
    return _TUNNEL.pack(message.tunnel) + message.data


def _parse_transfer(payload: bytes) -> TransferData:
    return TransferData(_TUNNEL.unpack_from(payload)[0], payload[_TUNNEL.size :])


def _build_protocols(message: SupportedTunnelProtocols) -> bytes:
    rows = b"".join(_PROTOCOL.pack(*row) for row in message.protocols)
    return _LIST.pack(message.complete, len(message.protocols)) + rows


def _parse_protocols(payload: bytes) -> SupportedTunnelProtocols:
    complete, count = _LIST.unpack_from(payload)
    rows = payload[_LIST.size : _LIST.size + count * _PROTOCOL.size]
    if len(rows) < count * _PROTOCOL.size:
        raise RemoteProtocolError(
            f"Supported Tunnel Protocols Response states {count} protocols and is cut off"
        )
    return SupportedTunnelProtocols(complete, tuple(_PROTOCOL.iter_unpack(rows)))


def _plain(shape: struct.Struct) -> Callable[[Any], bytes]:
    return lambda message: shape.pack(*message)


# One row a message: its command to the server, its command to the client (None: it does not go there), how it is built.
_BUILDERS: Final[Mapping[type, tuple[int | None, int | None, Callable[[Any], bytes]]]] = {
    RequestTunnel: (REQUEST_TUNNEL, None, _plain(_REQUEST)),
    RequestTunnelResponse: (None, REQUEST_TUNNEL_RESPONSE, _plain(_RESPONSE)),
    CloseTunnel: (CLOSE_TUNNEL, None, _plain(_TUNNEL)),
    TransferData: (TRANSFER_DATA_TO_SERVER, TRANSFER_DATA_TO_CLIENT, _build_transfer),
    TransferDataError: (TRANSFER_DATA_ERROR_TO_SERVER, TRANSFER_DATA_ERROR_TO_CLIENT, _plain(_ERROR)),
    AckTransferData: (ACK_TRANSFER_DATA_TO_SERVER, ACK_TRANSFER_DATA_TO_CLIENT, _plain(_COUNT)),
    ReadyData: (READY_DATA_TO_SERVER, READY_DATA_TO_CLIENT, _plain(_COUNT)),
    GetSupportedTunnelProtocols: (GET_SUPPORTED_TUNNEL_PROTOCOLS, None, bytes),
    SupportedTunnelProtocols: (None, SUPPORTED_TUNNEL_PROTOCOLS_RESPONSE, _build_protocols),
    TunnelClosureNotification: (None, TUNNEL_CLOSURE_NOTIFICATION, _plain(_TUNNEL)),
}

_TO_SERVER: Final[Mapping[int, Callable[[bytes], Message]]] = {
    REQUEST_TUNNEL: lambda payload: RequestTunnel(*_REQUEST.unpack_from(payload)),
    CLOSE_TUNNEL: lambda payload: CloseTunnel(*_TUNNEL.unpack_from(payload)),
    TRANSFER_DATA_TO_SERVER: _parse_transfer,
    TRANSFER_DATA_ERROR_TO_SERVER: lambda payload: TransferDataError(*_ERROR.unpack_from(payload)),
    ACK_TRANSFER_DATA_TO_SERVER: lambda payload: AckTransferData(*_COUNT.unpack_from(payload)),
    READY_DATA_TO_SERVER: lambda payload: ReadyData(*_COUNT.unpack_from(payload)),
    GET_SUPPORTED_TUNNEL_PROTOCOLS: lambda payload: GetSupportedTunnelProtocols(payload[0]),
}
_TO_CLIENT: Final[Mapping[int, Callable[[bytes], Message]]] = {
    REQUEST_TUNNEL_RESPONSE: lambda payload: RequestTunnelResponse(*_RESPONSE.unpack_from(payload)),
    TRANSFER_DATA_TO_CLIENT: _parse_transfer,
    TRANSFER_DATA_ERROR_TO_CLIENT: lambda payload: TransferDataError(*_ERROR.unpack_from(payload)),
    ACK_TRANSFER_DATA_TO_CLIENT: lambda payload: AckTransferData(*_COUNT.unpack_from(payload)),
    READY_DATA_TO_CLIENT: lambda payload: ReadyData(*_COUNT.unpack_from(payload)),
    SUPPORTED_TUNNEL_PROTOCOLS_RESPONSE: _parse_protocols,
    TUNNEL_CLOSURE_NOTIFICATION: lambda payload: TunnelClosureNotification(*_TUNNEL.unpack_from(payload)),
}


def build_message(message: Message, sequence: int, *, from_server: bool, confirmed: bool = False) -> bytes:
    """The whole ZCL frame of a message, which asks for no Default Response in case of success unless `confirmed`.

    LocalProtocolError when a field does not fit its place, or the message does not go that way.
    """
    to_server, to_client, build = _BUILDERS[type(message)]
    command = to_client if from_server else to_server
    if command is None:
        raise LocalProtocolError(
            f"{type(message).__name__} does not go to the {'client' if from_server else 'server'}"
        )
    control = zcl.CLUSTER_COMMAND | (zcl.FROM_SERVER if from_server else 0)
    if not confirmed:
        control |= zcl.NO_DEFAULT_RESPONSE
    try:
        return bytes((control, sequence, command)) + build(message)
    except (struct.error, ValueError) as error:
        raise LocalProtocolError(f"{type(message).__name__} does not fit its command: {error}") from error


def parse_message(frame: zcl.Frame) -> Message | None:
    """The message in a frame of this cluster, in the direction that the frame says; None when it is none of them.

    RemoteProtocolError when it is cut off. Octets behind the last known field are passed over.
    """
    if not frame.control & zcl.CLUSTER_COMMAND or frame.manufacturer is not None:
        return None
    parse = (_TO_CLIENT if frame.control & zcl.FROM_SERVER else _TO_SERVER).get(frame.command)
    if parse is None:
        return None
    try:
        return parse(frame.payload)
    except (struct.error, IndexError) as error:
        raise RemoteProtocolError(
            f"Tunneling command {frame.command:#04x} with {len(frame.payload)} octets of payload is cut off"
        ) from error
