"""Time: the contract of everything that is timed, an event loop on virtual time, and a driver for the real one."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
from collections.abc import Callable
from contextvars import Context
from typing import Any, Protocol

from harness.errors import LocalProtocolError


class Timed(Protocol):
    """A core that never waits: it says when it wants to be called, and is called then."""

    def next_deadline(self) -> float | None:
        """When `on_deadline` is due, in seconds on the core's clock; None: nothing to wait for."""

    def on_deadline(self, now: float) -> object:
        """Do everything that is due at `now` (seconds); where nothing is, the core only learns the time."""


# asyncio sweeps cancelled timers out of its heap when they are so many and the larger part; so does the virtual loop.
_SWEEP_AT = 100

# Microsecond when it is due, place in the queue, handle, and what to call.
_Timer = tuple[int, int, asyncio.TimerHandle, Callable[..., object], tuple[Any, ...], Context | None]


class SerialPort(Protocol):
    """The far end of an emulated serial line, as a core."""

    on_output: Callable[[bytes], None]
    """Called with each run of bytes for the host."""

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the host at `now` (seconds on the core's clock)."""


class _JumpingSelector(selectors.DefaultSelector):
    """The loop's selector: where an ordinary one would sleep, it lets the loop move its clock on."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout == 0:  # callbacks are ready: real files are looked at when the loop would sleep
            self.loop.release_due_timers()
            return []
        events = super().select(0)
        if not events:
            self.loop.jump()
        return events


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next deadline as soon as nothing is left to run.

    The cores attached to it (the emulated air) run inside the loop's own wait, without an asyncio callback for each of
    their events. Time is in seconds from 0.0, in steps of one microsecond. Timers of one deadline fire in the order
    they were set (asyncio's own order is arbitrary), and executor jobs run inline, so that every run is the same.

    What a core raises leaves `run_until_complete`: nothing is swallowed. A loop on which every task waits for what
    can never happen raises LocalProtocolError instead of hanging.
    """

    def __init__(self) -> None:
        selector = _JumpingSelector()
        selector.loop = self
        self._now_us = 0
        self._order = itertools.count()
        self._timers: list[_Timer] = []
        self._cancelled = 0  # timers cancelled since the last sweep
        self._cores: dict[Timed, float] = {}  # the loop's time at each core's second 0.0
        self._ready_to_run = False
        self.serial_ports: dict[str, tuple[SerialPort, Timed]] = {}
        """What `emulated://NAME` opens on this loop, by NAME, and the core that it lives on."""
        super().__init__(selector)

    def time(self) -> float:
        """Virtual seconds since the loop was made."""
        return self._now_us / 1_000_000

    def attach(self, core: Timed) -> None:
        """Have `core` run by this loop; its second 0.0 is now."""
        self._cores[core] = self.time()

    def core_time(self, core: Timed) -> float:
        """Seconds on the clock of an attached core."""
        return self.time() - self._cores[core]

    def detach(self, core: Timed) -> None:
        """Stop running `core`."""
        del self._cores[core]

    # typeshed types the arguments of these three with a TypeVarTuple, which an override cannot repeat.
    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        """Run `callback` before the clock moves on."""
        self._ready_to_run = True
        return super().call_soon(callback, *args, context=context)

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run `callback` after `delay` virtual seconds."""
        return self.call_at(self.time() + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Run `callback` at `when`, in virtual seconds; after those that were set for the same time before."""
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        heapq.heappush(
            self._timers, (round(when * 1_000_000), next(self._order), timer, callback, args, context)
        )
        return timer

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        # What a timer handle calls on its loop. A time-out of hours is cancelled soon, and must not stay for hours.
        self._cancelled += 1
        timers = self._timers
        if self._cancelled > _SWEEP_AT and self._cancelled * 2 > len(timers):
            # In place: jump() holds on to the list.
            timers[:] = [timer for timer in timers if not timer[2].cancelled()]
            heapq.heapify(timers)
            self._cancelled = 0

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """Run `func` here and now: a thread would live on real time."""
        future: asyncio.Future[Any] = self.create_future()
        try:
            future.set_result(func(*args))
        except Exception as error:  # noqa: BLE001  whatever it is, it belongs to the one who awaits the job
            future.set_exception(error)
        return future

    def release_due_timers(self) -> None:
        """Make every timer that is due ready to run."""
        timers = self._timers
        while timers and timers[0][0] <= self._now_us:
            _, _, timer, callback, args, context = heapq.heappop(timers)
            if not timer.cancelled():
                self.call_soon(_fire, timer, callback, args, context=context)

    def jump(self) -> None:
        """Run the cores, and move the clock on, until a callback is ready to run."""
        timers = self._timers
        self._ready_to_run = False
        while not self._ready_to_run:
            while timers and timers[0][2].cancelled():
                heapq.heappop(timers)
            timer_us = timers[0][0] if timers else None
            core, due_us = self._next_core()
            if core is not None and (timer_us is None or due_us <= timer_us):
                if due_us > self._now_us:
                    self._now_us = due_us
                core.on_deadline(self.core_time(core))
            elif timer_us is not None:
                if timer_us > self._now_us:
                    self._now_us = timer_us
                    for each in self._cores:
                        # Nothing is due there, but whoever acts on a core next shall find its clock right.
                        each.on_deadline(self.core_time(each))
                self.release_due_timers()
            else:
                raise LocalProtocolError(
                    f"at {self.time():.6f} s everything waits for something that nothing is left to do"
                )

    def _next_core(self) -> tuple[Timed | None, int]:
        chosen, earliest = None, 0
        for core, origin in self._cores.items():
            deadline = core.next_deadline()
            if deadline is not None:
                due_us = round((origin + deadline) * 1_000_000)
                if chosen is None or due_us < earliest:
                    chosen, earliest = core, due_us
        return chosen, earliest


def _fire(timer: asyncio.TimerHandle, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
    if not timer.cancelled():  # a callback of the same round may have cancelled it
        callback(*args)


class RealTimeDriver:
    """Runs one core on an ordinary event loop: the core's second 0.0 is the moment the driver was made."""

    def __init__(self, core: Timed, loop: asyncio.AbstractEventLoop) -> None:
        self._core = core
        self._loop = loop
        self._origin = loop.time()
        self._timer: asyncio.TimerHandle | None = None

    def now(self) -> float:
        """Seconds on the core's clock."""
        return self._loop.time() - self._origin

    def wake(self) -> None:
        """Look at the core's deadline again: to be called after anything was handed to the core."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._core.next_deadline()
        if deadline is not None:
            self._timer = self._loop.call_at(self._origin + deadline, self._due)

    def stop(self) -> None:
        """Run the core no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self) -> None:
        self._core.on_deadline(self.now())
        self.wake()
