"""Zigbee PRO APS frames: data, commands and acknowledgements, fragments, APS security."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.security import MIC_LENGTH, AuxHeader, open_sealed, parse_aux, seal


class FrameType(IntEnum):
    """APS frame types (Zigbee PRO 05-3474-21)."""

    DATA = 0
    COMMAND = 1
    ACK = 2
    INTER_PAN = 3


class Delivery(IntEnum):
    """Delivery modes."""

    UNICAST = 0
    BROADCAST = 2
    GROUP = 3


_ACK_FORMAT = 0x10
_SECURITY = 0x20
_ACK_REQUEST = 0x40
_EXTENDED_HEADER = 0x80

_FIRST = 1
_FOLLOWING = 2

_ENDPOINTS = Struct("<BBHHBB")
_GROUP = Struct("<BHHHBB")
_COUNTER = Struct("<BB")
_INTER_PAN = Struct("<BHH")
_INTER_PAN_GROUP = Struct("<BHHH")
_new = tuple.__new__  # a NamedTuple without the call of its constructor: half the time


class Fragment(NamedTuple):
    """The extended header of one block of a fragmented message (Zigbee PRO 2.2.5.1.8).

    `number` is the block's, or in the first block of a message (number 0) how many there are. In an acknowledgement it
    is the first block of the window, and bit n of `bitfield` says that block number + n has arrived.
    """

    first: bool
    number: int
    bitfield: int | None = None


class ApsFrame(NamedTuple):
    """One APS frame; a field that its kind does not carry is at its default.

    `aux` is None for an unsecured frame. `header` is b"" but for a frame that was parsed and is still sealed: then it
    is every octet before the ciphertext, and `payload` is ciphertext and MIC. With `ack_format` an ACK answers a
    command: it carries the counter and no endpoints. An INTER_PAN frame has only delivery, group, cluster, profile and
    payload.
    """

    kind: int
    delivery: int = Delivery.UNICAST
    dst_endpoint: int = 0
    group: int | None = None
    cluster: int = 0
    profile: int = 0
    src_endpoint: int = 0
    counter: int = 0
    payload: bytes = b""
    ack_request: bool = False
    ack_format: bool = False
    fragment: Fragment | None = None
    aux: AuxHeader | None = None
    header: bytes = b""


def build_aps(frame: ApsFrame, key: bytes | None = None, source: int | None = None) -> bytes:
    """Return the octets of `frame`, secured under `key` when it has an auxiliary header.

    `key` is the key itself: see security.aps_key for those derived from a link key. `source` is the EUI-64 for the
    nonce, the auxiliary header's own by default. LocalProtocolError: a value that has no place in the frame, or a
    missing key. A frame still sealed is built as it was received, whatever its other fields say.
    """
    (kind, delivery, dst_endpoint, group, cluster, profile, src_endpoint, counter, payload, ack_request, ack_format,
     fragment, aux, sealed_header) = frame  # fmt: skip
    if sealed_header:
        return sealed_header + payload
    if not 0 <= kind <= 3 or delivery not in (0, 2, 3) or (delivery == 3) != (group is not None):
        raise LocalProtocolError(f"No APS frame has type {kind}, delivery mode {delivery} and group {group}")
    control = kind | delivery << 2
    if ack_request:
        control |= _ACK_REQUEST
    if ack_format:
        control |= _ACK_FORMAT
    if aux is not None:
        control |= _SECURITY
    if fragment is not None:
        control |= _EXTENDED_HEADER
    try:
        if kind == 0 or (kind == 2 and not ack_format):
            if group is None:
                header = _ENDPOINTS.pack(control, dst_endpoint, cluster, profile, src_endpoint, counter)
            else:
                header = _GROUP.pack(control, group, cluster, profile, src_endpoint, counter)
        elif kind == 3:
            if fragment is not None or aux is not None:
                raise LocalProtocolError("An inter-PAN frame has neither fragments nor security")
            if group is None:
                header = _INTER_PAN.pack(control, cluster, profile)
            else:
                header = _INTER_PAN_GROUP.pack(control, group, cluster, profile)
        elif group is not None:
            raise LocalProtocolError("An APS command, or the acknowledgement of one, goes to no group")
        else:
            header = _COUNTER.pack(control, counter)
        if fragment is not None:
            header += _extended_header(kind, fragment)
    except (StructError, ValueError) as error:
        shown = frame._replace(payload=b"")  # it may hold a key
        raise LocalProtocolError(f"APS frame with a value out of range ({error}): {shown}") from None
    if aux is None:
        return header + payload
    if key is None:
        raise LocalProtocolError("A secured APS frame needs its key to be built")
    return seal(key, header, aux, payload, source)


def _extended_header(kind: int, fragment: Fragment) -> bytes:
    control = _FIRST if fragment.first else _FOLLOWING
    if kind == FrameType.ACK:
        if fragment.bitfield is None:
            raise LocalProtocolError(f"{fragment}: the acknowledgement of a block has a bitfield")
        return bytes((control, fragment.number, fragment.bitfield))
    if fragment.bitfield is not None:
        raise LocalProtocolError(f"{fragment}: only an acknowledgement has a bitfield")
    return bytes((control, fragment.number))


def parse_aps(data: bytes) -> ApsFrame:
    """Read an APS frame; the payload of a secured one stays sealed until open_aps."""
    size = len(data)
    if size < 2:
        raise RemoteProtocolError(f"APS frame of {size} octets")
    control = data[0]
    kind = control & 3
    delivery = control >> 2 & 3
    if delivery == 1:
        raise RemoteProtocolError(f"APS frame control {control:#04x}: reserved delivery mode")
    dst_endpoint = cluster = profile = src_endpoint = counter = 0
    group = fragment = aux = None
    header = b""
    try:
        if kind == 0 or (kind == 2 and not control & _ACK_FORMAT):
            if delivery == 3:
                _, group, cluster, profile, src_endpoint, counter = _GROUP.unpack_from(data)
                at = 9
            else:
                _, dst_endpoint, cluster, profile, src_endpoint, counter = _ENDPOINTS.unpack_from(data)
                at = 8
        elif kind == 3:
            if control & (_EXTENDED_HEADER | _SECURITY):
                raise RemoteProtocolError(
                    f"APS frame control {control:#04x}: inter-PAN with fragments or security"
                )
            if delivery == 3:
                _, group, cluster, profile = _INTER_PAN_GROUP.unpack_from(data)
                at = 7
            else:
                _, cluster, profile = _INTER_PAN.unpack_from(data)
                at = 5
        else:
            counter = data[1]
            at = 2
            if delivery == 3:
                raise RemoteProtocolError(
                    f"APS frame control {control:#04x}: a command or its ACK has no group"
                )
        if control & _EXTENDED_HEADER:
            fragment, at = _parse_extended_header(data, at, kind)
        if control & _SECURITY:
            aux, at = parse_aux(data, at)
            if size - at < MIC_LENGTH:
                raise RemoteProtocolError(
                    f"Secured APS frame of {size} octets has no room for its integrity code"
                )
            header = data[:at]
    except (IndexError, StructError):
        raise RemoteProtocolError(f"APS frame of {size} octets ends within its header") from None
    return _new(
        ApsFrame,
        (
            kind,
            delivery,
            dst_endpoint,
            group,
            cluster,
            profile,
            src_endpoint,
            counter,
            data[at:],
            control & _ACK_REQUEST != 0,
            control & _ACK_FORMAT != 0,
            fragment,
            aux,
            header,
        ),
    )


def _parse_extended_header(data: bytes, at: int, kind: int) -> tuple[Fragment | None, int]:
    fragmentation = data[at] & 3
    if fragmentation == 3:
        raise RemoteProtocolError(f"APS extended header {data[at]:#04x}: reserved fragmentation")
    if fragmentation == 0:
        return None, at + 1
    number = data[at + 1]
    if kind == FrameType.ACK:
        return Fragment(fragmentation == _FIRST, number, data[at + 2]), at + 3
    return Fragment(fragmentation == _FIRST, number), at + 2


def open_aps(frame: ApsFrame | bytes, key: bytes, source: int | None = None) -> ApsFrame:
    """Return the frame with its payload in plain; RemoteProtocolError when the MIC does not match.

    `source` is the sender's EUI-64, used when the frame does not carry it. An unsecured or already opened frame comes
    back as it is.
    """
    if isinstance(frame, bytes):
        frame = parse_aps(frame)
    (kind, delivery, dst_endpoint, group, cluster, profile, src_endpoint, counter, sealed, ack_request, ack_format,
     fragment, aux, header) = frame  # fmt: skip
    if aux is None or not header:
        return frame
    payload = open_sealed(key, header, aux, sealed, source)
    return _new(
        ApsFrame,
        (kind, delivery, dst_endpoint, group, cluster, profile, src_endpoint, counter, payload, ack_request, ack_format,
         fragment, aux, b""),
    )  # fmt: skip
