"""Tests of virtual time: the loop that jumps, the cores that it runs, and the driver for real time."""

from __future__ import annotations

import asyncio
import heapq
import time
from collections.abc import Callable

import pytest

from harness.clock import RealTimeDriver, VirtualLoop
from harness.errors import LocalProtocolError


class Alarms:
    """The simplest core: it calls back at the times that it was given, in seconds."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Callable[[], object]]] = []
        self.rung: list[float] = []

    def set(self, when: float, ring: Callable[[], object] = lambda: None) -> None:
        heapq.heappush(self._due, (when, len(self._due) + len(self.rung), ring))

    def next_deadline(self) -> float | None:
        return self._due[0][0] if self._due else None

    def on_deadline(self, now: float) -> None:
        while self._due and self._due[0][0] <= now:
            _, _, ring = heapq.heappop(self._due)
            self.rung.append(now)
            ring()


def virtual_loop() -> VirtualLoop:
    """Return the running loop, which must be a virtual one."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    return loop


@pytest.mark.virtual_time
async def test_a_marked_test_runs_from_second_0_of_virtual_time() -> None:
    """The marker gives a test a loop of its own, on which nothing has happened yet."""
    assert virtual_loop().time() == 0.0


@pytest.mark.virtual_time
async def test_a_day_of_sleep_costs_nothing() -> None:
    """The clock jumps by exactly what was slept, and no second of real time passes."""
    began = time.perf_counter()
    await asyncio.sleep(24 * 3600)
    assert virtual_loop().time() == 24 * 3600
    assert time.perf_counter() - began < 5.0


@pytest.mark.virtual_time
async def test_timers_of_one_deadline_fire_in_the_order_they_were_set() -> None:
    """A hundred timers for one instant, set by call_at and call_later in turn, come first in, first out."""
    loop = virtual_loop()
    fired: list[int] = []
    for number in range(100):
        if number % 2:
            loop.call_at(1.0, fired.append, number)
        else:
            loop.call_later(1.0, fired.append, number)
    await asyncio.sleep(1.0)
    assert fired == list(range(100))


@pytest.mark.virtual_time
async def test_an_earlier_callback_of_the_same_instant_can_cancel_a_timer() -> None:
    """Both timers are due; the first cancels the second, which then never fires."""
    loop = virtual_loop()
    fired: list[str] = []
    timers: list[asyncio.TimerHandle] = []
    loop.call_at(1.0, lambda: timers[0].cancel())
    timers.append(loop.call_at(1.0, fired.append, "cancelled"))
    loop.call_at(1.0, fired.append, "kept")
    await asyncio.sleep(2.0)
    assert fired == ["kept"]


@pytest.mark.virtual_time
async def test_the_clock_does_not_stop_at_a_cancelled_timer() -> None:
    """A timer that was cancelled before it was due leaves no trace on the clock."""
    loop = virtual_loop()
    loop.call_at(1.0, lambda: None).cancel()
    await asyncio.sleep(5.0)
    assert loop.time() == 5.0


@pytest.mark.virtual_time
async def test_cancelled_timers_do_not_pile_up() -> None:
    """Time-outs of a day that end after 10 ms are swept out, as asyncio does it; a timer among them still fires."""
    loop = virtual_loop()
    fired: list[float] = []
    loop.call_at(15.0, lambda: fired.append(loop.time()))
    for _ in range(2000):
        async with asyncio.timeout(24 * 3600):
            await asyncio.sleep(0.01)
    assert len(loop._timers) < 210
    assert fired == [15.0]


@pytest.mark.virtual_time
async def test_a_timer_in_the_past_fires_now_and_never_turns_the_clock_back() -> None:
    """As on an ordinary loop: late is at once."""
    loop = virtual_loop()
    await asyncio.sleep(10.0)
    fired = asyncio.Event()
    loop.call_at(3.0, fired.set)
    await fired.wait()
    assert loop.time() == 10.0


@pytest.mark.virtual_time
async def test_microseconds_are_kept_over_a_day() -> None:
    """The clock has steps of one microsecond, without the drift of adding up floating-point numbers."""
    loop = virtual_loop()
    await asyncio.sleep(24 * 3600)
    for _ in range(1000):
        await asyncio.sleep(0.000_001)
    assert loop.time() == 86_400.001


@pytest.mark.virtual_time
async def test_asyncio_timeouts_run_on_the_virtual_clock() -> None:
    """asyncio.timeout ends a wait at its own second, and leaves one that ended before alone."""
    loop = virtual_loop()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(30.0):
            await asyncio.get_running_loop().create_future()
    assert loop.time() == 30.0
    async with asyncio.timeout(30.0):
        await asyncio.sleep(10.0)
    assert loop.time() == 40.0
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(loop.create_future(), 2.5)
    assert loop.time() == 42.5


@pytest.mark.virtual_time
async def test_an_executor_job_runs_inline() -> None:
    """The job's result and its exception come back awaited, from this thread, at no time."""
    loop = virtual_loop()

    def divide(dividend: int, divisor: int) -> tuple[float, object]:
        return dividend / divisor, asyncio.get_running_loop()

    assert await loop.run_in_executor(None, divide, 6, 3) == (2.0, loop)
    with pytest.raises(ZeroDivisionError):
        await loop.run_in_executor(None, divide, 6, 0)
    assert (await asyncio.to_thread(divide, 1, 2))[0] == 0.5
    assert loop.time() == 0.0


@pytest.mark.virtual_time
async def test_a_core_runs_inside_the_wait_and_wakes_who_waits_for_it() -> None:
    """Its deadlines come in order with the timers, each at its time on the loop's clock."""
    loop = virtual_loop()
    core, events, woken = Alarms(), [], asyncio.Event()
    core.set(1.0, lambda: events.append("core at 1"))
    core.set(3.0, woken.set)
    loop.call_at(2.0, events.append, "timer at 2")
    loop.attach(core)
    await woken.wait()
    assert events == ["core at 1", "timer at 2"]
    assert core.rung == [1.0, 3.0]
    assert loop.time() == 3.0


@pytest.mark.virtual_time
async def test_a_core_goes_before_a_timer_of_the_same_instant() -> None:
    """What is due on the air has happened when a timer of the same microsecond looks at it."""
    loop = virtual_loop()
    core, events = Alarms(), []
    loop.attach(core)
    loop.call_at(1.0, events.append, "timer")
    core.set(1.0, lambda: events.append("core"))
    await asyncio.sleep(2.0)
    assert events == ["core", "timer"]


@pytest.mark.virtual_time
async def test_the_earlier_of_two_cores_runs_first_and_the_first_attached_at_a_tie() -> None:
    """Several cores share one clock."""
    loop = virtual_loop()
    one, other, events = Alarms(), Alarms(), []
    loop.attach(one)
    loop.attach(other)
    one.set(2.0, lambda: events.append("one at 2"))
    other.set(1.0, lambda: events.append("other at 1"))
    other.set(2.0, lambda: events.append("other at 2"))
    await asyncio.sleep(3.0)
    assert events == ["other at 1", "one at 2", "other at 2"]


@pytest.mark.virtual_time
async def test_the_second_0_of_a_core_is_when_it_was_attached() -> None:
    """A core that comes later lives on a clock of its own, as many seconds behind the loop's."""
    loop = virtual_loop()
    await asyncio.sleep(100.0)
    core = Alarms()
    core.set(2.0)
    loop.attach(core)
    await asyncio.sleep(5.0)
    assert core.rung == [2.0]
    assert loop.core_time(core) == 5.0


@pytest.mark.virtual_time
async def test_a_detached_core_runs_no_more() -> None:
    """Its deadlines pass without it."""
    loop = virtual_loop()
    core = Alarms()
    core.set(1.0)
    loop.attach(core)
    loop.detach(core)
    await asyncio.sleep(2.0)
    assert core.rung == []


def test_what_a_core_raises_comes_out_of_the_loop() -> None:
    """Nothing is swallowed: the exception leaves run_until_complete, where a loop's own callback would be logged."""

    def wrong() -> None:
        raise ZeroDivisionError("in the core")

    async def main() -> None:
        core = Alarms()
        core.set(1.0, wrong)
        virtual_loop().attach(core)
        await asyncio.sleep(10.0)

    with (
        pytest.raises(ZeroDivisionError, match="in the core"),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(main())


def test_a_wait_for_what_can_never_happen_is_an_error_and_not_a_hang() -> None:
    """With no timer, no core's deadline and nothing to run, the loop says so, with its time."""

    async def main() -> None:
        await asyncio.sleep(1.5)
        await asyncio.get_running_loop().create_future()

    with (
        pytest.raises(LocalProtocolError, match=r"^at 1\.500000 s everything waits"),
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(main())


async def test_the_driver_runs_a_core_in_real_time() -> None:
    """The core's second 0 is when the driver was made; a deadline set later, and an earlier one, need only a wake."""
    loop = asyncio.get_running_loop()
    core, done = Alarms(), asyncio.Event()
    driver = RealTimeDriver(core, loop)
    driver.wake()  # nothing to wait for yet
    core.set(0.06, done.set)
    driver.wake()
    core.set(0.02)
    driver.wake()
    await asyncio.wait_for(done.wait(), 5.0)
    assert len(core.rung) == 2
    assert core.rung[0] + 0.001 >= 0.02
    assert core.rung[1] + 0.001 >= 0.06
    assert driver.now() >= core.rung[1]


async def test_a_stopped_driver_runs_its_core_no_more() -> None:
    """What was due passes without it; stopping twice is harmless."""
    core = Alarms()
    core.set(0.01)
    driver = RealTimeDriver(core, asyncio.get_running_loop())
    driver.wake()
    driver.stop()
    driver.stop()
    await asyncio.sleep(0.03)
    assert core.rung == []
