"""The NWK commands of Zigbee PRO: routing, leave, rejoin, link status, network update, end-device time-out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from struct import Struct
from struct import error as StructError
from typing import Any

from harness.errors import LocalProtocolError, RemoteProtocolError

# Command identifiers (Zigbee PRO 05-3474-21 3.4).
ROUTE_REQUEST = 0x01
ROUTE_REPLY = 0x02
NETWORK_STATUS = 0x03
LEAVE = 0x04
ROUTE_RECORD = 0x05
REJOIN_REQUEST = 0x06
REJOIN_RESPONSE = 0x07
LINK_STATUS = 0x08
NETWORK_REPORT = 0x09
NETWORK_UPDATE = 0x0A
END_DEVICE_TIMEOUT_REQUEST = 0x0B
END_DEVICE_TIMEOUT_RESPONSE = 0x0C

# The time-outs that an end device may request, in seconds, by their number.
END_DEVICE_TIMEOUTS = (10, *(60 * 2**power for power in range(1, 15)))

# Status of a network status command, those that the harness names.
NO_ROUTE_AVAILABLE = 0x00
NON_TREE_LINK_FAILURE = 0x02
SOURCE_ROUTE_FAILURE = 0x0B
MANY_TO_ONE_ROUTE_FAILURE = 0x0C
ADDRESS_CONFLICT = 0x0D

_MAX_LINKS = 31  # five bits of the link status options


@dataclass(frozen=True, slots=True)
class RouteRequest:
    """A route to `destination` is sought; `many_to_one` 1: to the sender, with route records, 2: without."""

    identifier: int
    destination: int
    cost: int = 0
    many_to_one: int = 0
    destination_ieee: int | None = None
    multicast: bool = False


@dataclass(frozen=True, slots=True)
class RouteReply:
    """`responder` answers the route request `identifier` of `originator`."""

    identifier: int
    originator: int
    responder: int
    cost: int = 0
    originator_ieee: int | None = None
    responder_ieee: int | None = None
    multicast: bool = False


@dataclass(frozen=True, slots=True)
class NetworkStatus:
    """Something failed on the way to `destination` (a short address)."""

    status: int
    destination: int


@dataclass(frozen=True, slots=True)
class Leave:
    """A device says that it leaves, or with `request` is told to."""

    request: bool = False
    rejoin: bool = False
    remove_children: bool = False


@dataclass(frozen=True, slots=True)
class RouteRecord:
    """The relays that this frame passed on its way to the concentrator, the first one first."""

    relays: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class RejoinRequest:
    """A device wants back into its network; `capability` as in the MAC association request."""

    capability: int


@dataclass(frozen=True, slots=True)
class RejoinResponse:
    """The answer: the short address to use and a MAC association status."""

    address: int
    status: int


@dataclass(frozen=True, slots=True)
class LinkStatus:
    """A router's neighbours as (short address, incoming cost, outgoing cost), by rising address; costs 0 to 7."""

    links: tuple[tuple[int, int, int], ...] = ()
    first: bool = True
    last: bool = True


@dataclass(frozen=True, slots=True)
class NetworkReport:
    """A router reports to the network manager a PAN identifier conflict, with the PAN identifiers that it hears."""

    extended_pan_id: int
    pan_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class NetworkUpdate:
    """The network manager moves the network to `pan_id`."""

    extended_pan_id: int
    update_id: int
    pan_id: int


@dataclass(frozen=True, slots=True)
class EndDeviceTimeoutRequest:
    """A child asks its parent for a time-out: `timeout` indexes END_DEVICE_TIMEOUTS."""

    timeout: int
    configuration: int = 0


@dataclass(frozen=True, slots=True)
class EndDeviceTimeoutResponse:
    """The parent's answer; `parent_information` bit 0: it takes MAC polls as keep-alive, bit 1: time-out requests."""

    status: int
    parent_information: int = 1


NwkCommand = (
    RouteRequest
    | RouteReply
    | NetworkStatus
    | Leave
    | RouteRecord
    | RejoinRequest
    | RejoinResponse
    | LinkStatus
    | NetworkReport
    | NetworkUpdate
    | EndDeviceTimeoutRequest
    | EndDeviceTimeoutResponse
)

_ROUTE_REQUEST = Struct("<BBHB")
_ROUTE_REPLY = Struct("<BBHHB")
_STATUS = Struct("<BH")
_ADDRESS_STATUS = Struct("<HB")
_LINK = Struct("<HB")
_IEEE = Struct("<Q")
_UPDATE = Struct("<BQBH")
_REPORT = Struct("<BQ")


def _build_route_request(command: RouteRequest) -> bytes:
    if not 0 <= command.many_to_one <= 2:
        raise LocalProtocolError(f"{command}: many-to-one is 0, 1 or 2")
    options = command.many_to_one << 3 | command.multicast << 6
    tail = b""
    if command.destination_ieee is not None:
        options |= 0x20
        tail = _IEEE.pack(command.destination_ieee)
    return _ROUTE_REQUEST.pack(options, command.identifier, command.destination, command.cost) + tail


def _parse_route_request(data: bytes) -> RouteRequest:
    options, identifier, destination, cost = _ROUTE_REQUEST.unpack_from(data, 1)
    if options & 0x18 == 0x18:
        raise RemoteProtocolError(f"Route request with reserved many-to-one field: {data.hex()}")
    ieee = _IEEE.unpack_from(data, 6)[0] if options & 0x20 else None
    return RouteRequest(identifier, destination, cost, options >> 3 & 3, ieee, options & 0x40 != 0)


def _build_route_reply(command: RouteReply) -> bytes:
    options = command.multicast << 6
    tail = b""
    if command.originator_ieee is not None:
        options |= 0x10
        tail = _IEEE.pack(command.originator_ieee)
    if command.responder_ieee is not None:
        options |= 0x20
        tail += _IEEE.pack(command.responder_ieee)
    return (
        _ROUTE_REPLY.pack(options, command.identifier, command.originator, command.responder, command.cost)
        + tail
    )


def _parse_route_reply(data: bytes) -> RouteReply:
    options, identifier, originator, responder, cost = _ROUTE_REPLY.unpack_from(data, 1)
    at = 8
    originator_ieee = responder_ieee = None
    if options & 0x10:
        (originator_ieee,) = _IEEE.unpack_from(data, at)
        at += 8
    if options & 0x20:
        (responder_ieee,) = _IEEE.unpack_from(data, at)
    return RouteReply(
        identifier, originator, responder, cost, originator_ieee, responder_ieee, options & 0x40 != 0
    )


def _build_leave(command: Leave) -> bytes:
    return bytes((command.rejoin << 5 | command.request << 6 | command.remove_children << 7,))


def _parse_leave(data: bytes) -> Leave:
    options = data[1]
    return Leave(request=options & 0x40 != 0, rejoin=options & 0x20 != 0, remove_children=options & 0x80 != 0)


def _build_route_record(command: RouteRecord) -> bytes:
    return bytes((len(command.relays),)) + Struct(f"<{len(command.relays)}H").pack(*command.relays)


def _parse_route_record(data: bytes) -> RouteRecord:
    return RouteRecord(Struct(f"<{data[1]}H").unpack_from(data, 2))


def _build_link_status(command: LinkStatus) -> bytes:
    if len(command.links) > _MAX_LINKS:
        raise LocalProtocolError(f"Link status of {len(command.links)} links; one command holds {_MAX_LINKS}")
    if not all(0 <= cost <= 7 for _, *costs in command.links for cost in costs):
        raise LocalProtocolError(f"{command}: a link cost is 0 to 7")
    options = len(command.links) | command.first << 5 | command.last << 6
    return bytes((options,)) + b"".join(
        _LINK.pack(address, incoming | outgoing << 4) for address, incoming, outgoing in command.links
    )


def _parse_link_status(data: bytes) -> LinkStatus:
    options = data[1]
    links = []
    for index in range(options & 0x1F):
        address, costs = _LINK.unpack_from(data, 2 + 3 * index)
        links.append((address, costs & 7, costs >> 4 & 7))
    return LinkStatus(tuple(links), first=options & 0x20 != 0, last=options & 0x40 != 0)


def _build_network_report(command: NetworkReport) -> bytes:
    if len(command.pan_ids) > 31:
        raise LocalProtocolError(
            f"Network report of {len(command.pan_ids)} PAN identifiers; one command holds 31"
        )
    return _REPORT.pack(len(command.pan_ids), command.extended_pan_id) + Struct(
        f"<{len(command.pan_ids)}H"
    ).pack(*command.pan_ids)


def _parse_network_report(data: bytes) -> NetworkReport:
    options, extended_pan_id = _REPORT.unpack_from(data, 1)
    if options >> 5:
        raise RemoteProtocolError(f"Network report {options >> 5} is not the PAN identifier conflict")
    return NetworkReport(extended_pan_id, Struct(f"<{options & 31}H").unpack_from(data, 10))


def _build_network_update(command: NetworkUpdate) -> bytes:
    return _UPDATE.pack(1, command.extended_pan_id, command.update_id, command.pan_id)


def _parse_network_update(data: bytes) -> NetworkUpdate:
    options, extended_pan_id, update_id, pan_id = _UPDATE.unpack_from(data, 1)
    if options != 1:
        raise RemoteProtocolError(f"Network update options {options:#04x}: not one new PAN identifier")
    return NetworkUpdate(extended_pan_id, update_id, pan_id)


_BUILDERS: dict[type[Any], tuple[int, Callable[[Any], bytes]]] = {
    RouteRequest: (ROUTE_REQUEST, _build_route_request),
    RouteReply: (ROUTE_REPLY, _build_route_reply),
    NetworkStatus: (NETWORK_STATUS, lambda command: _STATUS.pack(command.status, command.destination)),
    Leave: (LEAVE, _build_leave),
    RouteRecord: (ROUTE_RECORD, _build_route_record),
    RejoinRequest: (REJOIN_REQUEST, lambda command: bytes((command.capability,))),
    RejoinResponse: (REJOIN_RESPONSE, lambda command: _ADDRESS_STATUS.pack(command.address, command.status)),
    LinkStatus: (LINK_STATUS, _build_link_status),
    NetworkReport: (NETWORK_REPORT, _build_network_report),
    NetworkUpdate: (NETWORK_UPDATE, _build_network_update),
    EndDeviceTimeoutRequest: (
        END_DEVICE_TIMEOUT_REQUEST,
        lambda command: bytes((command.timeout, command.configuration)),
    ),
    EndDeviceTimeoutResponse: (
        END_DEVICE_TIMEOUT_RESPONSE,
        lambda command: bytes((command.status, command.parent_information)),
    ),
}

_PARSERS: dict[int, Callable[[bytes], NwkCommand]] = {
    ROUTE_REQUEST: _parse_route_request,
    ROUTE_REPLY: _parse_route_reply,
    NETWORK_STATUS: lambda data: NetworkStatus(*_STATUS.unpack_from(data, 1)),
    LEAVE: _parse_leave,
    ROUTE_RECORD: _parse_route_record,
    REJOIN_REQUEST: lambda data: RejoinRequest(data[1]),
    REJOIN_RESPONSE: lambda data: RejoinResponse(*_ADDRESS_STATUS.unpack_from(data, 1)),
    LINK_STATUS: _parse_link_status,
    NETWORK_REPORT: _parse_network_report,
    NETWORK_UPDATE: _parse_network_update,
    END_DEVICE_TIMEOUT_REQUEST: lambda data: EndDeviceTimeoutRequest(data[1], data[2]),
    END_DEVICE_TIMEOUT_RESPONSE: lambda data: EndDeviceTimeoutResponse(data[1], data[2]),
}


def build_nwk_command(command: NwkCommand) -> bytes:
    """Return the payload of a NWK command frame: identifier and content."""
    identifier, build = _BUILDERS[type(command)]
    try:
        return bytes((identifier,)) + build(command)
    except (StructError, ValueError) as error:
        raise LocalProtocolError(f"{command} does not fit its fields: {error}") from None


def parse_nwk_command(payload: bytes) -> NwkCommand:
    """Read the payload of a NWK command frame; octets after the last known field are ignored (R23 appends TLVs)."""
    if not payload:
        raise RemoteProtocolError("NWK command frame without a command")
    parse = _PARSERS.get(payload[0])
    if parse is None:
        raise RemoteProtocolError(f"NWK command {payload[0]:#04x} is not known")
    try:
        return parse(payload)
    except (IndexError, StructError):
        raise RemoteProtocolError(f"NWK command {payload[0]:#04x} ends early: {payload.hex()}") from None
