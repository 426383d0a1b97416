"""Octets of a GBCS message: a reader that names what is cut off, and lengths in one, two or more octets."""

from __future__ import annotations

from harness.errors import RemoteProtocolError


class Cursor:
    """Reads octets from front to back. RemoteProtocolError, naming the part, where they end too early."""

    __slots__ = ("_data", "_offset")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._offset = 0

    @property
    def left(self) -> int:
        """How many octets are not read yet."""
        return len(self._data) - self._offset

    def take(self, count: int, what: str) -> bytes:
        """The next `count` octets."""
        octets = self._data[self._offset : self._offset + count]
        if len(octets) < count:
            raise RemoteProtocolError(f"GBCS message is cut off: {what} has {len(octets)} of {count} octets")
        self._offset += count
        return octets

    def number(self, size: int, what: str) -> int:
        """The next `size` octets as an unsigned number, the most significant first."""
        return int.from_bytes(self.take(size, what), "big")

    def expect(self, octets: bytes, what: str) -> None:
        """Read octets that can be nothing else."""
        found = self.take(len(octets), what)
        if found != octets:
            raise RemoteProtocolError(f"GBCS {what} is {found.hex()}, not {octets.hex()}")

    def length(self, what: str) -> int:
        """A length in its shortest form: below 128 one octet, else 0x80 + n and n octets."""
        first = self.number(1, what)
        if first < 0x80:
            return first
        value = self.number(first & 0x7F, what)
        if build_length(value)[0] != first:
            raise RemoteProtocolError(
                f"GBCS {what} {value} is not in its shortest form: it begins with {first:#04x}"
            )
        return value

    def end(self, what: str) -> None:
        """Nothing may be left."""
        if self.left:
            raise RemoteProtocolError(f"GBCS {what} has {self.left} octets behind its end")


def build_length(value: int) -> bytes:
    """The shortest form of a length (A-XDR, IEC 61334-6; DER has the same)."""
    if value < 0x80:
        return bytes((value,))
    octets = value.to_bytes((value.bit_length() + 7) // 8, "big")
    return bytes((0x80 | len(octets),)) + octets
