"""The bit-reflected CRC-16 (polynomial 0x1021) that ends MAC frames and install codes."""

from __future__ import annotations

from binascii import crc_hqx

# crc_hqx runs the same polynomial most significant bit first: reversing the bits of every octet on the way in and of
# both octets on the way out turns one into the other, all in C.
REVERSED_BITS = bytes(int(f"{octet:08b}"[::-1], 2) for octet in range(256))


def reflected_crc16(data: bytes, initial: int = 0) -> int:
    """Return the CRC of `data`, the register starting at `initial` (0 or 0xFFFF); it is sent low octet first."""
    register = crc_hqx(data.translate(REVERSED_BITS), initial)
    return int.from_bytes(register.to_bytes(2, "big").translate(REVERSED_BITS), "little")
