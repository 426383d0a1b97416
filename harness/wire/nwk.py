"""Zigbee PRO NWK frames: header, source route, auxiliary security header, CCM*."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.security import MIC_LENGTH, AuxHeader, ccm_decrypt, open_sealed, parse_aux, seal


class FrameType(IntEnum):
    """NWK frame types (Zigbee PRO 05-3474-21)."""

    DATA = 0
    COMMAND = 1
    INTER_PAN = 3


# Frame control. Protocol version 2 is Zigbee 2006 and later.
_VERSION_2 = 0x0008
_VERSION_MASK = 0x003C
_MULTICAST = 0x0100
_SECURITY = 0x0200
_SOURCE_ROUTE = 0x0400
_DST_IEEE = 0x0800
_SRC_IEEE = 0x1000
_END_DEVICE_INITIATOR = 0x2000
_EXTRAS = _MULTICAST | _SOURCE_ROUTE | _DST_IEEE | _SRC_IEEE

_HEADER = Struct("<HHHBB")
_IEEE = Struct("<Q")
# Header and auxiliary header of what nearly every frame is: no IEEE addresses, no source route; network key with
# extended nonce.
_ORDINARY = Struct("<HHHBBBIQB")
_ORDINARY_MASK = _VERSION_MASK | _EXTRAS | _SECURITY | 0x0002
_ORDINARY_FCF = _VERSION_2 | _SECURITY
_new = tuple.__new__  # a NamedTuple without the call of its constructor: half the time


class NwkFrame(NamedTuple):
    """One NWK frame; addresses are short unless named ieee (EUI-64).

    `aux` is None for an unsecured frame. `header` is b"" but for a frame that was parsed and is still sealed: then it
    is every octet before the ciphertext, and `payload` is ciphertext and MIC. An INTER_PAN frame has no field but kind
    and payload: build_nwk ignores the others, parse_nwk gives 0.

    `relays` are those of a source route, the one nearest the destination first, and `relay_index` is that of the next
    (Zigbee PRO 3.3.1.9); None: no source route. `multicast` is the multicast control octet.
    """

    kind: int
    dst: int
    src: int
    radius: int
    sequence: int
    payload: bytes
    dst_ieee: int | None = None
    src_ieee: int | None = None
    discover_route: int = 0
    relays: tuple[int, ...] | None = None
    relay_index: int = 0
    multicast: int | None = None
    end_device_initiator: bool = False
    aux: AuxHeader | None = None
    header: bytes = b""


def build_nwk(frame: NwkFrame, key: bytes | None = None, source: int | None = None) -> bytes:
    """Return the octets of `frame`, secured under `key` when it has an auxiliary header.

    `source` is the EUI-64 for the nonce, the auxiliary header's own by default. LocalProtocolError: a value that has no
    place in the frame, or a missing key. A frame still sealed is built as it was received, whatever its other fields
    say.
    """
    (kind, dst, src, radius, sequence, payload, dst_ieee, src_ieee, discover_route, relays, _, multicast, initiator,
     aux, sealed_header) = frame  # fmt: skip
    if sealed_header:
        return sealed_header + payload
    if kind == FrameType.INTER_PAN:
        return (kind | _VERSION_2).to_bytes(2, "little") + payload
    if not 0 <= kind <= 1 or not 0 <= discover_route <= 3:
        raise LocalProtocolError(f"No NWK frame has type {kind} and route discovery {discover_route}")
    fcf = kind | _VERSION_2 | discover_route << 6
    if initiator:
        fcf |= _END_DEVICE_INITIATOR
    if aux is not None:
        fcf |= _SECURITY
    try:
        if dst_ieee is None and src_ieee is None and relays is None and multicast is None:
            header = _HEADER.pack(fcf, dst, src, radius, sequence)
        else:
            header = _extended_header(fcf, frame)
    except (StructError, ValueError) as error:
        shown = frame._replace(payload=b"")  # it may hold a key
        raise LocalProtocolError(f"NWK frame with a value out of range ({error}): {shown}") from None
    if aux is None:
        return header + payload
    if key is None:
        raise LocalProtocolError("A secured NWK frame needs its key to be built")
    return seal(key, header, aux, payload, source)


def _extended_header(fcf: int, frame: NwkFrame) -> bytes:
    extras = b""
    if frame.dst_ieee is not None:
        fcf |= _DST_IEEE
        extras += _IEEE.pack(frame.dst_ieee)
    if frame.src_ieee is not None:
        fcf |= _SRC_IEEE
        extras += _IEEE.pack(frame.src_ieee)
    if frame.multicast is not None:
        fcf |= _MULTICAST
        extras += bytes((frame.multicast,))
    if frame.relays is not None:
        if frame.relay_index >= max(len(frame.relays), 1):
            raise LocalProtocolError(f"Relay index {frame.relay_index} of {len(frame.relays)} relays")
        fcf |= _SOURCE_ROUTE
        count = len(frame.relays)
        extras += Struct(f"<BB{count}H").pack(count, frame.relay_index, *frame.relays)
    return _HEADER.pack(fcf, frame.dst, frame.src, frame.radius, frame.sequence) + extras


def parse_nwk(data: bytes) -> NwkFrame:
    """Read a NWK frame; the payload of a secured one stays sealed until open_nwk."""
    size = len(data)
    if size < 2:
        raise RemoteProtocolError(f"NWK frame of {size} octets")
    fcf = data[0] | data[1] << 8
    if fcf & _VERSION_MASK != _VERSION_2:
        raise RemoteProtocolError(
            f"NWK frame control {fcf:#06x}: protocol version {fcf >> 2 & 15}, expected 2"
        )
    kind = fcf & 3
    if kind == 3:
        return NwkFrame(3, 0, 0, 0, 0, data[2:])
    if kind == 2:
        raise RemoteProtocolError(f"NWK frame control {fcf:#06x}: reserved frame type")
    if size < 8:
        raise RemoteProtocolError(f"NWK frame of {size} octets ends within its header")
    _, dst, src, radius, sequence = _HEADER.unpack_from(data)
    dst_ieee = src_ieee = relays = multicast = aux = None
    relay_index = 0
    at = 8
    if fcf & _EXTRAS:
        try:
            if fcf & _DST_IEEE:
                (dst_ieee,) = _IEEE.unpack_from(data, at)
                at += 8
            if fcf & _SRC_IEEE:
                (src_ieee,) = _IEEE.unpack_from(data, at)
                at += 8
            if fcf & _MULTICAST:
                multicast = data[at]
                at += 1
            if fcf & _SOURCE_ROUTE:
                count, relay_index = data[at], data[at + 1]
                if relay_index >= max(count, 1):
                    raise RemoteProtocolError(
                        f"NWK source route with relay index {relay_index} of {count} relays"
                    )
                relays = Struct(f"<{count}H").unpack_from(data, at + 2)
                at += 2 + 2 * count
        except (IndexError, StructError):
            raise RemoteProtocolError(f"NWK frame of {size} octets ends within its header") from None
    header = b""
    if fcf & _SECURITY:
        aux, at = parse_aux(data, at)
        if size - at < MIC_LENGTH:
            raise RemoteProtocolError(
                f"Secured NWK frame of {size} octets has no room for its integrity code"
            )
        header = data[:at]
    return _new(
        NwkFrame,
        (
            kind,
            dst,
            src,
            radius,
            sequence,
            data[at:],
            dst_ieee,
            src_ieee,
            fcf >> 6 & 3,
            relays,
            relay_index,
            multicast,
            fcf & _END_DEVICE_INITIATOR != 0,
            aux,
            header,
        ),
    )


def open_nwk(frame: NwkFrame | bytes, key: bytes, source: int | None = None) -> NwkFrame:
    """Return the frame with its payload in plain; RemoteProtocolError when the MIC does not match.

    `source` is the sender's EUI-64, used when the frame does not carry it. An unsecured or already opened frame comes
    back as it is.
    """
    if isinstance(frame, bytes):
        data = frame
        if len(data) >= 26 and data[8] == 0x28:
            fcf, dst, src, radius, sequence, _, counter, ieee, key_sequence = _ORDINARY.unpack_from(data)
            if fcf & _ORDINARY_MASK == _ORDINARY_FCF:
                # The same as below, in one piece: this is the path of every hop of every frame.
                payload = ccm_decrypt(
                    key, data[13:21] + data[9:13] + b"\x2d", data[22:], data[:8] + b"\x2d" + data[9:22]
                )
                network_aux = _new(AuxHeader, (1, counter, ieee, key_sequence))
                return _new(
                    NwkFrame,
                    (fcf & 1, dst, src, radius, sequence, payload, None, None, fcf >> 6 & 3, None, 0, None,
                     fcf & _END_DEVICE_INITIATOR != 0, network_aux, b""),
                )  # fmt: skip
        frame = parse_nwk(data)
    (kind, dst, src, radius, sequence, sealed, dst_ieee, src_ieee, discover_route, relays, relay_index, multicast,
     initiator, aux, header) = frame  # fmt: skip
    if aux is None or not header:
        return frame
    payload = open_sealed(key, header, aux, sealed, source)
    return _new(
        NwkFrame,
        (kind, dst, src, radius, sequence, payload, dst_ieee, src_ieee, discover_route, relays, relay_index, multicast,
         initiator, aux, b""),
    )  # fmt: skip
