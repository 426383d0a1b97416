"""The indirect queue of an emulated MAC: frames that wait until their sleepy receiver asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.emulation.air import Timer
from harness.emulation.mac_sender import PENDING
from harness.emulation.mac_types import Done, MacStatus
from harness.wire.mac import fcs

if TYPE_CHECKING:
    from harness.emulation.mac_layer import Mac

# IEEE 802.15.4-2006 table 86: macTransactionPersistenceTime, 500 times aBaseSuperframeDuration of 960 symbols.
PERSISTENCE_US = 500 * 960 * 16


class IndirectFrame:
    """One frame that waits; `in_flight` from the poll that asked for it until it is settled."""

    __slots__ = ("_queue", "done", "expired", "in_flight", "key", "psdu", "timer")

    def __init__(self, queue: IndirectQueue, psdu: bytes, key: int, done: Done | None) -> None:
        self._queue = queue
        self.psdu = psdu
        self.key = key
        self.done = done
        self.timer: Timer | None = None
        self.in_flight = False
        self.expired = False

    def settle(self, status: MacStatus) -> None:
        """The transmission that a poll asked for has ended with `status`."""
        self._queue.settle(self, status)


class IndirectQueue:
    """The frames that one MAC holds for its children, oldest first for each; at most `limit` in all."""

    __slots__ = ("_mac", "_waiting", "held", "limit")

    def __init__(self, mac: Mac, limit: int) -> None:
        self._mac = mac
        self._waiting: dict[int, list[IndirectFrame]] = {}
        self.limit = limit
        self.held = 0

    def hold(self, psdu: bytes, dst: int, extended: bool, done: Done | None) -> None:
        """Keep `psdu` until `dst` polls for it, or give it up: expired after 7.68 s, overflow if the queue is full."""
        mac = self._mac
        if self.held >= self.limit:
            mac.counters.indirect_overflow += 1
            if done is not None:
                mac.air.post(mac.air.now, done, (MacStatus.TRANSACTION_OVERFLOW,))
            return
        frame = IndirectFrame(self, psdu, _key(dst, extended), done)
        # 7.1.1.1.3: a transaction that is not fetched within macTransactionPersistenceTime is discarded.
        frame.timer = mac.air.call_in(PERSISTENCE_US, self._expire, frame)
        self._waiting.setdefault(frame.key, []).append(frame)
        self.held += 1

    def waits_for(self, dst: int, extended: bool) -> bool:
        """Whether anything is held for `dst`."""
        return _key(dst, extended) in self._waiting

    def take(self, dst: int, extended: bool) -> tuple[bool, IndirectFrame | None]:
        """Whether anything waits for `dst`, and what is to be sent to it now (None: that is on its way already)."""
        waiting = self._waiting.get(_key(dst, extended))
        if waiting is None:
            return False, None
        frame = waiting[0]
        if frame.in_flight:
            return True, None
        frame.in_flight = True
        # 7.2.1.1.3: the frame itself says whether more follows.
        more = PENDING if len(waiting) > 1 else 0
        if frame.psdu[0] & PENDING != more:
            data = bytes((frame.psdu[0] ^ PENDING,)) + frame.psdu[1:-2]
            frame.psdu = data + fcs(data).to_bytes(2, "little")
        return True, frame

    def settle(self, frame: IndirectFrame, status: MacStatus) -> None:
        """Take a frame out of the queue, or back into it.

        7.5.6.4.3: what was not acknowledged goes back to wait for another poll, its sequence number unchanged.
        """
        frame.in_flight = False
        if status is MacStatus.SUCCESS:
            self._end(frame, status)
        elif frame.expired:
            self._end(frame, MacStatus.TRANSACTION_EXPIRED)

    def purge(self, dst: int, extended: bool) -> None:
        """Give up everything for `dst`: TRANSACTION_EXPIRED."""
        for frame in tuple(self._waiting.get(_key(dst, extended), ())):
            self._end(frame, MacStatus.TRANSACTION_EXPIRED)

    def clear(self) -> None:
        """Forget everything, without a word."""
        for waiting in self._waiting.values():
            for frame in waiting:
                if frame.timer is not None:
                    frame.timer.cancel()
                frame.done = None
        self._waiting.clear()
        self.held = 0

    def _expire(self, frame: IndirectFrame) -> None:
        frame.expired = True
        if not frame.in_flight:
            self._mac.counters.indirect_expired += 1
            self._end(frame, MacStatus.TRANSACTION_EXPIRED)

    def _end(self, frame: IndirectFrame, status: MacStatus) -> None:
        waiting = self._waiting.get(frame.key)
        if waiting is None or frame not in waiting:
            return  # purged while it was in flight
        waiting.remove(frame)
        if not waiting:
            del self._waiting[frame.key]
        self.held -= 1
        if frame.timer is not None:
            frame.timer.cancel()
        done, frame.done = frame.done, None
        if done is not None:
            done(status)


def _key(dst: int, extended: bool) -> int:
    """One number for either kind of address: an EUI-64 may be as small as a short address."""
    return dst | 1 << 64 if extended else dst
