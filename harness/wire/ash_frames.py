"""ASH frames as they stand on the line: flags, stuffing, randomisation, CRC.

Clauses are those of UG101 r1.7 (the same text is published as "UART-EZSP Gateway Protocol Reference").
"""

from __future__ import annotations

from binascii import crc_hqx
from typing import Final

# 4.2: reserved octets.
FLAG: Final = b"\x7e"
CANCEL: Final = b"\x1a"
_SUBSTITUTE = b"\x18"
_ESCAPE = b"\x7d"
_XON_XOFF = b"\x11\x13"
_RESERVED_INSIDE = b"\x11\x13\x18\x1a\x7d"

# 2.1: control octets. DATA frames have bit 7 clear.
ACK: Final = 0x80
NAK: Final = 0xA0
RST: Final = 0xC0
RSTACK: Final = 0xC1
ERROR: Final = 0xC2
RETRANSMITTED: Final = 0x08
NOT_READY: Final = 0x08

# 2.5 says 128 octets of data; since EZSP 8 an NCP takes and sends EZSP frames of up to 220.
LONGEST_DATA: Final = 220
SHORTEST_DATA: Final = 3
# Every octet of a frame may be escaped; anything longer without a flag is noise.
_LONGEST_ON_WIRE = 2 * (LONGEST_DATA + 3)


def _random_sequence(length: int) -> bytes:
    # 4.3: an 8-bit linear feedback shift register, seed 0x42, taps 0xB8.
    value = 0x42
    sequence = bytearray()
    for _ in range(length):
        sequence.append(value)
        value = value >> 1 ^ 0xB8 if value & 1 else value >> 1
    return bytes(sequence)


# The sequence as one number per length: XOR of two big integers is the fastest XOR of two byte strings.
_RANDOM = tuple(int.from_bytes(_random_sequence(length), "little") for length in range(LONGEST_DATA + 1))


def randomize(data: bytes) -> bytes:
    """The data field as it stands on the line, and back (4.3); at most LONGEST_DATA octets."""
    length = len(data)
    return (int.from_bytes(data, "little") ^ _RANDOM[length]).to_bytes(length, "little")


def build_frame(control: int, data: bytes = b"") -> bytes:
    """A whole frame: CRC-CCITT (2.3), stuffing, flag; `data` is already randomised where it must be."""
    body = bytes((control,)) + data
    body += crc_hqx(body, 0xFFFF).to_bytes(2, "big")
    # 4.2. Escapes first: the other replacements bring new ones in.
    return (
        body.replace(b"\x7d", b"\x7d\x5d")
        .replace(b"\x7e", b"\x7d\x5e")
        .replace(b"\x11", b"\x7d\x31")
        .replace(b"\x13", b"\x7d\x33")
        .replace(b"\x18", b"\x7d\x38")
        .replace(b"\x1a", b"\x7d\x3a")
        + FLAG
    )


def build_data(number: int, acknowledged: int, data: bytes, *, again: bool = False) -> bytes:
    """A whole DATA frame (3.4) around an EZSP frame; `again` sets reTx."""
    return build_frame(number << 4 | (RETRANSMITTED if again else 0) | acknowledged, randomize(data))


def read_frame(raw: bytes) -> bytes | None:
    """Control octet and data of what stood between two flags; None if the frame was damaged on its way."""
    if len(raw.translate(None, _RESERVED_INSIDE)) != len(raw):
        if _SUBSTITUTE in raw:
            return None
        raw = raw.translate(None, _XON_XOFF)
        if raw.count(_ESCAPE) != raw.count(b"\x7d\x5d"):
            # 0x7D itself comes last: until then every 0x7D is the start of an escape.
            raw = (
                raw.replace(b"\x7d\x5e", b"\x7e")
                .replace(b"\x7d\x31", b"\x11")
                .replace(b"\x7d\x33", b"\x13")
                .replace(b"\x7d\x38", b"\x18")
                .replace(b"\x7d\x3a", b"\x1a")
            )
            if raw.count(_ESCAPE) != raw.count(b"\x7d\x5d"):
                return None
        raw = raw.replace(b"\x7d\x5d", _ESCAPE)
    # 2.3: over a frame and its own CRC the CRC is 0.
    if len(raw) < 3 or crc_hqx(raw, 0xFFFF):
        return None
    return raw[:-2]


class Deframer:
    """Cuts what comes off the line, however chunked, at the flags."""

    __slots__ = ("_skipping", "_unfinished")

    def __init__(self) -> None:
        self._unfinished = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[bytes]:
        """What stood between flags, still stuffed, never empty; a frame that Cancel dropped is not among it."""
        if FLAG not in data:
            self._keep(data)
            return []
        pieces = (self._unfinished + data).split(FLAG)
        if self._skipping:
            # The flag that ends the noise ends no frame, unless a Cancel in between started one.
            self._skipping = False
            if CANCEL not in pieces[0]:
                pieces[0] = b""
        self._unfinished = b""
        self._keep(pieces.pop())
        # 4.2: Cancel drops everything since the last flag. 2.4: consecutive flags are not frames.
        return [raw for raw in (piece[piece.rfind(CANCEL) + 1 :] for piece in pieces) if raw]

    def forget(self) -> None:
        """Drops what has come of an unfinished frame."""
        self._unfinished = b""
        self._skipping = False

    def _keep(self, data: bytes) -> None:
        cancelled = data.rfind(CANCEL) + 1
        if cancelled:
            self._skipping = False
            self._unfinished = data[cancelled:]
        elif not self._skipping:
            self._unfinished += data
        if len(self._unfinished) > _LONGEST_ON_WIRE:
            self._unfinished = b""
            self._skipping = True
