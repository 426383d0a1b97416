"""The serial line of an emulated NCP: how fast bytes go, and the faults that a test puts on it."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from harness.emulation.air import Air
from harness.errors import LocalProtocolError
from harness.wire.ash_frames import FLAG

# 8N1: a start bit, eight data bits, a stop bit.
_BITS_A_BYTE = 10
_MICROSECONDS = 1_000_000

_ESCAPE = 0x7D
_INVERTED_BIT = 0x20


class Direction(Enum):
    """Which way bytes go."""

    TO_HOST = "to the host"
    TO_NCP = "to the NCP"


def frame_body(raw: bytes) -> bytes:
    """The control octet, data (still randomised) and CRC of a frame as it stands on the line, flag included or not.

    UG101 4.2: an octet behind 0x7D has its bit 5 inverted; a frame starts behind the last Cancel (0x1A).
    """
    raw = raw[raw.rfind(b"\x1a") + 1 :]
    body = bytearray()
    escaped = False
    for octet in raw:
        if octet == _ESCAPE:
            escaped = True
        elif octet != FLAG[0]:
            body.append(octet ^ _INVERTED_BIT if escaped else octet)
            escaped = False
    return bytes(body)


def is_data(raw: bytes) -> bool:
    """Whether a frame on the line is a DATA frame: for the `where` of a fault."""
    body = frame_body(raw)
    return bool(body) and body[0] < 0x80


def is_ack(raw: bytes) -> bool:
    """Whether a frame on the line is an ACK frame: for the `where` of a fault."""
    body = frame_body(raw)
    return bool(body) and body[0] & 0xE0 == 0x80


Where = Callable[[bytes], bool]


class Fault:
    """One order of a test: what happens to the next `remaining` frames that satisfy `where`."""

    __slots__ = ("delay_us", "direction", "kind", "remaining", "where")

    def __init__(
        self, kind: str, direction: Direction, count: int, where: Where | None, delay_us: int = 0
    ) -> None:
        if count < 1:
            raise LocalProtocolError(f"a serial fault takes 1 frame or more (count={count})")
        self.kind = kind
        self.direction = direction
        self.remaining = count
        self.where = where
        self.delay_us = delay_us

    def takes(self, direction: Direction, raw: bytes) -> bool:
        """Whether this fault is for the frame `raw`, which then counts."""
        if (
            not self.remaining
            or direction is not self.direction
            or (self.where is not None and not self.where(raw))
        ):
            return False
        self.remaining -= 1
        return True


class SerialFaults:
    """Faults that a test puts on the line; each returns an order whose `remaining` counts down.

    A `where` is asked with each frame as it stands on the line, flag included: `is_data`, `is_ack`, or one's own.
    A frame meets the first fault that takes it. `count` frames are affected, one after the other.
    """

    def __init__(self) -> None:
        self._orders: list[Fault] = []

    def drop(
        self, count: int = 1, *, direction: Direction = Direction.TO_HOST, where: Where | None = None
    ) -> Fault:
        """Lose frames."""
        return self._order(Fault("drop", direction, count, where))

    def corrupt(
        self, count: int = 1, *, direction: Direction = Direction.TO_HOST, where: Where | None = None
    ) -> Fault:
        """Change a bit, so that the frame's CRC is wrong."""
        return self._order(Fault("corrupt", direction, count, where))

    def duplicate(
        self, count: int = 1, *, direction: Direction = Direction.TO_HOST, where: Where | None = None
    ) -> Fault:
        """Deliver frames twice."""
        return self._order(Fault("duplicate", direction, count, where))

    def delay(
        self,
        seconds: float,
        count: int = 1,
        *,
        direction: Direction = Direction.TO_HOST,
        where: Where | None = None,
    ) -> Fault:
        """Hold frames, and everything behind them, for `seconds`: a line keeps its order."""
        return self._order(Fault("delay", direction, count, where, round(seconds * _MICROSECONDS)))

    def clear(self) -> None:
        """Take all orders back."""
        self._orders.clear()

    def _order(self, fault: Fault) -> Fault:
        self._orders.append(fault)
        return fault

    @property
    def armed(self) -> bool:
        """Whether any order still waits for its frames."""
        if self._orders:
            self._orders = [order for order in self._orders if order.remaining]
        return bool(self._orders)

    def apply(self, direction: Direction, raw: bytes) -> tuple[bytes, int]:
        """What becomes of one frame, and how much later it comes, in microseconds."""
        for order in self._orders:
            if order.takes(direction, raw):
                if order.kind == "drop":
                    return b"", 0
                if order.kind == "corrupt":
                    return _corrupted(raw), 0
                if order.kind == "duplicate":
                    return raw + raw, 0
                return raw, order.delay_us
        return raw, 0


def _corrupted(raw: bytes) -> bytes:
    # The lowest bit of the first octet where that makes no reserved one; reserved ones are 0x11 to 0x1A, 0x7D, 0x7E.
    for index, octet in enumerate(raw):
        if octet not in b"\x1a\x7e\x7d" and (octet ^ 0x40) not in b"\x11\x13\x18\x1a\x7d\x7e":
            return raw[:index] + bytes([octet ^ 0x40]) + raw[index + 1 :]
    return raw


class SerialLine:
    """One direction of the line. Without pacing and faults, bytes pass straight through."""

    def __init__(
        self,
        air: Air,
        direction: Direction,
        baud: int | None,
        faults: SerialFaults,
        deliver: Callable[[bytes], None],
    ) -> None:
        if baud is not None and baud <= 0:
            raise LocalProtocolError(f"a baud rate is above 0 (baud={baud})")
        self._air = air
        self._direction = direction
        self._baud = baud
        self._faults = faults
        self._deliver = deliver
        self._free_at = 0
        self._waiting = 0
        self._epoch = 0
        self._partial = b""

    def put(self, data: bytes) -> None:
        """Put bytes on the line now."""
        if self._partial or self._faults.armed:
            self._put_frames(data)
        else:
            self._send(data, 0)

    def cut(self) -> None:
        """Lose what is on the line."""
        self._epoch += 1
        self._waiting = 0
        self._free_at = 0
        self._partial = b""

    def _put_frames(self, data: bytes) -> None:
        *frames, self._partial = (self._partial + data).split(FLAG)
        for frame in frames:
            kept, delay_us = self._faults.apply(self._direction, frame + FLAG)
            if kept:
                self._send(kept, delay_us)
        if not self._faults.armed:
            rest, self._partial = self._partial, b""
            if rest:
                self._send(rest, 0)

    def _send(self, data: bytes, delay_us: int) -> None:
        baud = self._baud
        if baud is None and not delay_us and not self._waiting:
            self._deliver(data)
            return
        start = max(self._air.now, self._free_at) + delay_us
        line_us = 0 if baud is None else -(-len(data) * _BITS_A_BYTE * _MICROSECONDS // baud)
        self._free_at = start + line_us
        self._waiting += 1
        self._air.post(self._free_at, self._arrive, (data, self._epoch))

    def _arrive(self, data: bytes, epoch: int) -> None:
        if epoch == self._epoch:
            self._waiting -= 1
            self._deliver(data)
