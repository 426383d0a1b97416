"""IEEE 802.15.4 MAC frames (2003 and 2006) as Zigbee uses them: data, acknowledgement, commands, beacon."""

from __future__ import annotations

from binascii import crc_hqx
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.crc import REVERSED_BITS, reflected_crc16

MAX_PSDU = 127  # aMaxPHYPacketSize, FCS included
BROADCAST = 0xFFFF
NO_SHORT = 0xFFFE  # associated, but addressed by EUI-64 only

# Address modes (IEEE 802.15.4-2006 table 80).
NO_ADDRESS = 0
SHORT = 2
EXTENDED = 3


class FrameType(IntEnum):
    """Frame types (IEEE 802.15.4-2006 table 79)."""

    BEACON = 0
    DATA = 1
    ACK = 2
    COMMAND = 3


# Capability information of an association request (IEEE 802.15.4-2006 figure 56).
CAPABILITY_FULL_FUNCTION = 0x02
CAPABILITY_MAINS_POWERED = 0x04
CAPABILITY_RECEIVER_ON_WHEN_IDLE = 0x08
CAPABILITY_ALLOCATE_ADDRESS = 0x80

# Association statuses (IEEE 802.15.4-2006 table 83).
ASSOCIATED = 0
PAN_AT_CAPACITY = 1
PAN_ACCESS_DENIED = 2

_SECURITY = 0x0008
_PENDING = 0x0010
_ACK_REQUEST = 0x0020
_PAN_COMPRESSION = 0x0040
_ADDRESSING = 0xCC40
_BOTH_SHORT = 0x8840

_FCF_SEQUENCE = Struct("<HB")
_SHORT_SHORT = Struct("<HBHHH")
_FCS = Struct("<H")
_PAN = Struct("<H")
_PAN_SHORT = Struct("<HH")
_PAN_EXTENDED = Struct("<HQ")
_SHORT_ADDRESS = Struct("<H")
_EXTENDED_ADDRESS = Struct("<Q")
_new = tuple.__new__  # a NamedTuple without the call of its constructor: half the time


def fcs(data: bytes) -> int:
    """Return the frame check sequence of `data` (IEEE 802.15.4-2006 7.2.1.9); it goes on the air low octet first."""
    return reflected_crc16(data)


class MacFrame(NamedTuple):
    """One MAC frame. PAN compression is not a field: it follows from both addresses being there with equal PANs.

    An address whose mode is NO_ADDRESS is 0, as is its PAN. `payload` is the MSDU: for a command its identifier and
    content, for a beacon everything from the superframe specification on.
    """

    kind: int
    sequence: int
    payload: bytes = b""
    dst_mode: int = NO_ADDRESS
    dst_pan: int = 0
    dst: int = 0
    src_mode: int = NO_ADDRESS
    src_pan: int = 0
    src: int = 0
    ack_request: bool = False
    pending: bool = False
    version: int = 0


def build_mac(frame: MacFrame) -> bytes:
    """Return the PSDU of `frame`, FCS included; LocalProtocolError for a value that has no place in it."""
    kind, sequence, payload, dst_mode, dst_pan, dst, src_mode, src_pan, src, ack_request, pending, version = (
        frame
    )
    if not 0 <= kind <= 3 or not 0 <= version <= 1:
        raise LocalProtocolError(f"No MAC frame has type {kind} and version {version}")
    fcf = kind | version << 12
    if ack_request:
        fcf |= _ACK_REQUEST
    if pending:
        fcf |= _PENDING
    try:
        if dst_mode == SHORT and src_mode == SHORT and dst_pan == src_pan:
            data = _SHORT_SHORT.pack(fcf | _BOTH_SHORT, sequence, dst_pan, dst, src) + payload
        else:
            data = _addresses(fcf, frame) + payload
    except StructError as error:
        shown = frame._replace(payload=b"")
        raise LocalProtocolError(f"MAC frame with a value out of range ({error}): {shown}") from None
    if len(data) > MAX_PSDU - 2:
        raise LocalProtocolError(f"MAC frame of {len(data) + 2} octets; the radio carries at most {MAX_PSDU}")
    return data + crc_hqx(data.translate(REVERSED_BITS), 0).to_bytes(2, "big").translate(REVERSED_BITS)


def _addresses(fcf: int, frame: MacFrame) -> bytes:
    dst_mode, src_mode = frame.dst_mode, frame.src_mode
    compressed = dst_mode != NO_ADDRESS and src_mode != NO_ADDRESS and frame.dst_pan == frame.src_pan
    if compressed:
        fcf |= _PAN_COMPRESSION
    header = _FCF_SEQUENCE.pack(fcf | dst_mode << 10 | src_mode << 14, frame.sequence)
    if dst_mode == SHORT:
        header += _PAN_SHORT.pack(frame.dst_pan, frame.dst)
    elif dst_mode == EXTENDED:
        header += _PAN_EXTENDED.pack(frame.dst_pan, frame.dst)
    elif dst_mode != NO_ADDRESS:
        raise LocalProtocolError(f"Destination address mode {dst_mode} does not exist")
    if src_mode == SHORT:
        source = _PAN_SHORT.pack(frame.src_pan, frame.src)
    elif src_mode == EXTENDED:
        source = _PAN_EXTENDED.pack(frame.src_pan, frame.src)
    elif src_mode == NO_ADDRESS:
        return header
    else:
        raise LocalProtocolError(f"Source address mode {src_mode} does not exist")
    return header + (source[2:] if compressed else source)


def parse_mac(data: bytes) -> MacFrame:
    """Read a PSDU, FCS included; RemoteProtocolError for a wrong FCS and for anything that is not such a frame."""
    size = len(data)
    if size < 5 or size > MAX_PSDU:
        raise RemoteProtocolError(f"MAC frame of {size} octets; there are 5 to {MAX_PSDU}")
    # The CRC over a frame and its own FCS is 0.
    if crc_hqx(data.translate(REVERSED_BITS), 0):
        raise RemoteProtocolError(
            f"FCS {_FCS.unpack_from(data, size - 2)[0]:#06x} of a MAC frame, expected {fcs(data[:-2]):#06x}"
        )
    fcf = data[0] | data[1] << 8
    if fcf & 0x200C:
        raise RemoteProtocolError(
            f"MAC frame control {fcf:#06x}: secured, or of a type or version not Zigbee's"
        )
    ack_request = fcf & _ACK_REQUEST != 0
    pending = fcf & _PENDING != 0
    if fcf & _ADDRESSING == _BOTH_SHORT and size >= 11:
        _, sequence, pan, dst, src = _SHORT_SHORT.unpack_from(data)
        return _new(
            MacFrame,
            (
                fcf & 3,
                sequence,
                data[9:-2],
                SHORT,
                pan,
                dst,
                SHORT,
                pan,
                src,
                ack_request,
                pending,
                fcf >> 12 & 1,
            ),
        )
    dst_pan = dst = src_pan = src = 0
    dst_mode = fcf >> 10 & 3
    src_mode = fcf >> 14
    at = 3
    body = data[:-2]
    try:
        if dst_mode == SHORT:
            dst_pan, dst = _PAN_SHORT.unpack_from(body, at)
            at += 4
        elif dst_mode == EXTENDED:
            dst_pan, dst = _PAN_EXTENDED.unpack_from(body, at)
            at += 10
        elif dst_mode != NO_ADDRESS:
            raise RemoteProtocolError(f"MAC frame control {fcf:#06x}: reserved destination address mode")
        if src_mode == NO_ADDRESS:
            if fcf & _PAN_COMPRESSION:
                raise RemoteProtocolError(f"MAC frame control {fcf:#06x}: PAN compression without a source")
        else:
            if not fcf & _PAN_COMPRESSION:
                (src_pan,) = _PAN.unpack_from(body, at)
                at += 2
            elif dst_mode == NO_ADDRESS:
                raise RemoteProtocolError(
                    f"MAC frame control {fcf:#06x}: PAN compression without a destination"
                )
            else:
                src_pan = dst_pan
            if src_mode == SHORT:
                (src,) = _SHORT_ADDRESS.unpack_from(body, at)
                at += 2
            elif src_mode == EXTENDED:
                (src,) = _EXTENDED_ADDRESS.unpack_from(body, at)
                at += 8
            else:
                raise RemoteProtocolError(f"MAC frame control {fcf:#06x}: reserved source address mode")
    except StructError:
        raise RemoteProtocolError(f"MAC frame of {size} octets ends within its addresses") from None
    return MacFrame(
        fcf & 3,
        data[2],
        body[at:],
        dst_mode,
        dst_pan,
        dst,
        src_mode,
        src_pan,
        src,
        ack_request,
        pending,
        fcf >> 12 & 1,
    )


def build_ack(sequence: int, pending: bool = False) -> bytes:
    """Return the acknowledgement of the frame with `sequence`; `pending` tells a poller that a frame follows."""
    return _PENDING_ACKS[sequence] if pending else _ACKS[sequence]


_ACKS = tuple(build_mac(MacFrame(FrameType.ACK, sequence)) for sequence in range(256))
_PENDING_ACKS = tuple(build_mac(MacFrame(FrameType.ACK, sequence, pending=True)) for sequence in range(256))


# --- Commands ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class AssociationRequest:
    """A device asks to join; `capability` is the octet of CAPABILITY_ bits."""

    capability: int


@dataclass(frozen=True, slots=True)
class AssociationResponse:
    """The answer: the short address given (0xFFFF when refused) and a status (0: associated)."""

    address: int
    status: int


@dataclass(frozen=True, slots=True)
class Disassociation:
    """A device leaves (reason 2), or is told to (reason 1)."""

    reason: int


@dataclass(frozen=True, slots=True)
class DataRequest:
    """A poll: a sleepy device asks its parent for what waits for it."""


@dataclass(frozen=True, slots=True)
class PanIdConflict:
    """A device tells its coordinator of another network with the same PAN identifier."""


@dataclass(frozen=True, slots=True)
class OrphanNotification:
    """A device that lost its coordinator asks for it."""


@dataclass(frozen=True, slots=True)
class BeaconRequest:
    """An active scan asks every coordinator in reach for its beacon."""


@dataclass(frozen=True, slots=True)
class CoordinatorRealignment:
    """The answer to an orphan, or a change of the PAN's parameters."""

    pan_id: int
    coordinator: int
    channel: int
    address: int


Command = (
    AssociationRequest
    | AssociationResponse
    | Disassociation
    | DataRequest
    | PanIdConflict
    | OrphanNotification
    | BeaconRequest
    | CoordinatorRealignment
)

ASSOCIATION_REQUEST = 0x01
ASSOCIATION_RESPONSE = 0x02
DISASSOCIATION = 0x03
DATA_REQUEST = 0x04
PAN_ID_CONFLICT = 0x05
ORPHAN_NOTIFICATION = 0x06
BEACON_REQUEST = 0x07
COORDINATOR_REALIGNMENT = 0x08

# IEEE 802.15.4-2006 table 82. GTS request (9) belongs to beacon-enabled networks, which Zigbee PRO does not have.
_COMMANDS: dict[int, tuple[Struct, Callable[..., Command]]] = {
    ASSOCIATION_REQUEST: (Struct("<B"), AssociationRequest),
    ASSOCIATION_RESPONSE: (Struct("<HB"), AssociationResponse),
    DISASSOCIATION: (Struct("<B"), Disassociation),
    DATA_REQUEST: (Struct(""), DataRequest),
    PAN_ID_CONFLICT: (Struct(""), PanIdConflict),
    ORPHAN_NOTIFICATION: (Struct(""), OrphanNotification),
    BEACON_REQUEST: (Struct(""), BeaconRequest),
    COORDINATOR_REALIGNMENT: (Struct("<HHBH"), CoordinatorRealignment),
}
_IDENTIFIERS = {make: (identifier, layout) for identifier, (layout, make) in _COMMANDS.items()}


def build_command(command: Command) -> bytes:
    """Return the payload of a command frame: identifier and content."""
    identifier, layout = _IDENTIFIERS[type(command)]
    try:
        return bytes((identifier,)) + layout.pack(*(getattr(command, name) for name in command.__slots__))
    except StructError as error:
        raise LocalProtocolError(f"{command} does not fit its fields: {error}") from None


def parse_command(payload: bytes) -> Command:
    """Read the payload of a command frame."""
    if not payload:
        raise RemoteProtocolError("MAC command frame without a command")
    known = _COMMANDS.get(payload[0])
    if known is None:
        raise RemoteProtocolError(f"MAC command {payload[0]:#04x} is not one that Zigbee uses")
    layout, make = known
    if len(payload) != layout.size + 1:
        raise RemoteProtocolError(
            f"{make.__name__} of {len(payload)} octets, expected {layout.size + 1}: {payload.hex()}"
        )
    return make(*layout.unpack_from(payload, 1))


# --- Beacon -----------------------------------------------------------------------------------------------------------

# Beacon order, superframe order and final CAP slot 15: the PAN has no superframe.
_SUPERFRAME = 0x0FFF
_PAN_COORDINATOR = 0x4000
_PERMIT = 0x8000
_BEACON = Struct("<HBBBBBQ3sB")
_ZIGBEE_PAYLOAD = Struct("<BBBQ3sB")
_NO_TX_OFFSET = b"\xff\xff\xff"


@dataclass(frozen=True, slots=True)
class Beacon:
    """A Zigbee PRO beacon: the superframe flags and the NWK payload."""

    extended_pan_id: int
    coordinator: bool = False
    permit_association: bool = False
    protocol_id: int = 0
    stack_profile: int = 2
    protocol_version: int = 2
    router_capacity: bool = True
    depth: int = 0
    end_device_capacity: bool = True
    update_id: int = 0


def build_beacon_payload(beacon: Beacon) -> bytes:
    """Return the payload of a beacon frame, superframe specification first."""
    if not (
        0 <= beacon.stack_profile <= 15 and 0 <= beacon.protocol_version <= 15 and 0 <= beacon.depth <= 15
    ):
        raise LocalProtocolError(f"{beacon}: profile, version and depth have four bits each")
    superframe = _SUPERFRAME
    if beacon.coordinator:
        superframe |= _PAN_COORDINATOR
    if beacon.permit_association:
        superframe |= _PERMIT
    capacity = beacon.depth << 3
    if beacon.router_capacity:
        capacity |= 0x04
    if beacon.end_device_capacity:
        capacity |= 0x80
    try:
        return _BEACON.pack(
            superframe,
            0,  # no guaranteed time slots
            0,  # no pending addresses: Zigbee devices poll
            beacon.protocol_id,
            beacon.stack_profile | beacon.protocol_version << 4,
            capacity,
            beacon.extended_pan_id,
            _NO_TX_OFFSET,
            beacon.update_id,
        )
    except StructError as error:
        raise LocalProtocolError(f"{beacon} does not fit its fields: {error}") from None


def parse_beacon_payload(payload: bytes) -> Beacon:
    """Read the payload of a beacon frame; a beacon that is not Zigbee's is a RemoteProtocolError."""
    try:
        superframe, slots = payload[0] | payload[1] << 8, payload[2] & 7
        at = 3 + (1 + 3 * slots if slots else 0)
        pending = payload[at]
        at += 1 + 2 * (pending & 7) + 8 * (pending >> 4 & 7)
        protocol_id, versions, capacity, extended_pan_id, _, update_id = _ZIGBEE_PAYLOAD.unpack_from(
            payload, at
        )
    except (IndexError, StructError):
        raise RemoteProtocolError(
            f"Beacon payload of {len(payload)} octets is not Zigbee's: {payload.hex()}"
        ) from None
    if protocol_id != 0:
        raise RemoteProtocolError(f"Beacon of protocol {protocol_id:#04x}, Zigbee's is 0")
    return Beacon(
        extended_pan_id=extended_pan_id,
        coordinator=superframe & _PAN_COORDINATOR != 0,
        permit_association=superframe & _PERMIT != 0,
        stack_profile=versions & 15,
        protocol_version=versions >> 4,
        router_capacity=capacity & 0x04 != 0,
        depth=capacity >> 3 & 15,
        end_device_capacity=capacity & 0x80 != 0,
        update_id=update_id,
    )


# --- EUI-64 as text ---------------------------------------------------------------------------------------------------


def format_eui64(eui64: int) -> str:
    """Return the GB text form of an EUI-64: 00-0D-6F-00-0A-90-69-E7."""
    if not 0 <= eui64 < 1 << 64:
        raise LocalProtocolError(f"{eui64:#x} is not an EUI-64")
    return eui64.to_bytes(8, "big").hex("-").upper()


def parse_eui64(text: str) -> int:
    """Read 16 hexadecimal digits, in pairs separated by - or : or not at all, most significant first."""
    digits = text
    for separator in "-:":
        if separator in text:
            pairs = text.split(separator)
            digits = "".join(pairs) if all(len(pair) == 2 for pair in pairs) else ""
            break
    if len(digits) != 16 or any(digit not in "0123456789abcdefABCDEF" for digit in digits):
        raise LocalProtocolError(f"{text!r} is not an EUI-64 such as 00-0D-6F-00-0A-90-69-E7")
    return int(digits, 16)
