"""Time in integer microseconds: a heap of calls, and the order of those of the same microsecond."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapify, heappop, heappush
from typing import Any

from harness.errors import LocalProtocolError

# Cancelled timers stay in the heap until they are due; only when they are this many and the larger part is it swept.
_SWEEP_AT = 64

Event = tuple[int, int, Callable[..., object], tuple[Any, ...]]


class Timer:
    """A call that was asked for; `cancel` takes it back."""

    __slots__ = ("_args", "_callback", "_schedule")

    def __init__(self, schedule: Schedule, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        self._schedule = schedule
        self._callback: Callable[..., object] | None = callback
        self._args = args

    def __call__(self) -> None:
        """It is due."""
        callback = self._callback
        if callback is None:
            self._schedule._cancelled -= 1
            return
        self._callback = None
        callback(*self._args)

    @property
    def pending(self) -> bool:
        """Whether the call is still to come."""
        return self._callback is not None

    def cancel(self) -> None:
        """Take the call back; nothing happens when it was made or taken back before."""
        if self._callback is not None:
            self._callback = None
            self._args = ()
            self._schedule._count_cancelled()


class Schedule:
    """What is due when, as a core without a clock of its own.

    Follows the Timed contract: `next_deadline` says when it wants to be called, `on_deadline` runs what is due. Events
    of the same microsecond run in the order in which they were asked for. An exception of a callback leaves through
    `advance`; the events behind it stay in place.
    """

    __slots__ = ("_cancelled", "_heap", "_order", "_running", "now")

    def __init__(self) -> None:
        self.now = 0
        self._heap: list[Event] = []
        self._order = 0
        self._cancelled = 0
        self._running = False

    def post(self, when_us: int, callback: Callable[..., object], args: tuple[Any, ...] = ()) -> None:
        """Call `callback(*args)` at `when_us`, for good: cheaper than `call_at`."""
        order = self._order
        self._order = order + 1
        heappush(self._heap, (when_us, order, callback, args))

    def call_at(self, when_us: int, callback: Callable[..., object], *args: Any) -> Timer:
        """Call `callback(*args)` at `when_us`, or at once after what is already due when that is past."""
        timer = Timer(self, callback, args)
        self.post(when_us if when_us > self.now else self.now, timer)
        return timer

    def call_in(self, delay_us: int, callback: Callable[..., object], *args: Any) -> Timer:
        """Call `callback(*args)` `delay_us` from now."""
        timer = Timer(self, callback, args)
        self.post(self.now + (delay_us if delay_us > 0 else 0), timer)
        return timer

    def next_deadline_us(self) -> int | None:
        """When the next event is due, in us; None: nothing to wait for."""
        heap = self._heap
        while heap:
            timer = heap[0][2]
            if not isinstance(timer, Timer) or timer.pending:
                return heap[0][0]
            heappop(heap)
            self._cancelled -= 1
        return None

    def next_deadline(self) -> float | None:
        """When the next event is due, in seconds; None: nothing to wait for."""
        when = self.next_deadline_us()
        return None if when is None else when / 1_000_000

    def on_deadline(self, now: float) -> None:
        """Run all that is due up to `now`, in seconds."""
        self.advance(round(now * 1_000_000))

    def advance(self, to_us: int) -> None:
        """Run all that is due up to `to_us`, then let it be `to_us`; an earlier time than now does nothing.

        From inside an event there is no going on to a later time: LocalProtocolError.
        """
        if self._running:
            if to_us > self.now:
                raise LocalProtocolError(f"Asked to go on to {to_us} us inside an event of {self.now} us")
            return
        heap = self._heap
        self._running = True
        try:
            while heap and heap[0][0] <= to_us:
                self.now, _, callback, args = heappop(heap)
                callback(*args)
        finally:
            self._running = False
        if to_us > self.now:
            self.now = to_us

    @property
    def events(self) -> int:
        """How many events were taken off the heap so far."""
        return self._order - len(self._heap)

    def _count_cancelled(self) -> None:
        self._cancelled += 1
        heap = self._heap
        if self._cancelled > _SWEEP_AT and self._cancelled * 2 > len(heap):
            # In place: advance() holds on to the list.
            heap[:] = [event for event in heap if not isinstance(event[2], Timer) or event[2].pending]
            heapify(heap)
            self._cancelled = 0
