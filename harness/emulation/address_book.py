"""Whose short address is whose: the address map of one node."""

from __future__ import annotations

_CAPACITY = 256


class AddressBook:
    """Short addresses and EUI-64s, each at most once; the oldest entry gives way when the book is full."""

    __slots__ = ("eui64s", "shorts")

    def __init__(self) -> None:
        self.eui64s: dict[int, int] = {}
        self.shorts: dict[int, int] = {}

    def learn(self, short: int, eui64: int) -> bool:
        """Enter a pair in place of what contradicts it; True when the short address was known as another's."""
        other = self.eui64s.get(short)
        old = self.shorts.get(eui64)
        if other == eui64 and old == short:
            return False
        if other is not None:
            del self.shorts[other]
        if old is not None:
            del self.eui64s[old]
        if len(self.eui64s) >= _CAPACITY and short not in self.eui64s:
            self.forget(next(iter(self.eui64s)))
        self.eui64s[short] = eui64
        self.shorts[eui64] = short
        return other is not None

    def forget(self, short: int) -> None:
        """Strike a short address out."""
        eui64 = self.eui64s.pop(short, None)
        if eui64 is not None:
            del self.shorts[eui64]

    def clear(self) -> None:
        """Forget everybody."""
        self.eui64s.clear()
        self.shorts.clear()
