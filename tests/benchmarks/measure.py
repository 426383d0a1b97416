"""How the benchmarks measure: the best of some rounds, the sides of a comparison in turn."""

from __future__ import annotations

import gc
import os
import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """What came out of one row: its `ratio`, and in words what was measured."""

    ratio: float
    detail: str


@dataclass(frozen=True, slots=True)
class Row:
    """One row of the table. Its ratio has to be `low` or more, and `high` or less where that is given."""

    id: str
    measure: Callable[[], Figure]
    unit: str
    low: float
    high: float | None = None

    @property
    def target(self) -> float | list[float]:
        """A number: at least so much. Two: from the one to the other."""
        return self.low if self.high is None else [self.low, self.high]

    def is_met(self, figure: Figure) -> bool:
        """Whether the figure is what it has to be."""
        return self.low <= figure.ratio and (self.high is None or figure.ratio <= self.high)


@dataclass(frozen=True, slots=True)
class Seconds:
    """How long something took: by the clock, and of the processor's time."""

    wall: float
    cpu: float


class Stopwatch:
    """Measures from `start` to `stop`."""

    def __init__(self) -> None:
        self.taken = Seconds(0.0, 0.0)
        self._wall = self._cpu = 0.0

    def start(self) -> None:
        """Begin."""
        self._wall, self._cpu = time.perf_counter(), time.process_time()

    def stop(self) -> None:
        """End: the time is in `taken`."""
        self.taken = Seconds(time.perf_counter() - self._wall, time.process_time() - self._cpu)


def timed(work: Callable[[], object]) -> Seconds:
    """Return how long `work` takes."""
    watch = Stopwatch()
    watch.start()
    work()
    watch.stop()
    return watch.taken


def best_of(rounds: int, *sides: Callable[[], Seconds]) -> list[Seconds]:
    """Run every side once a round, one after the other, and return each side's shortest times.

    What slows the machine for a while then slows all sides; and of what disturbs, the least is nearest the truth.
    """
    taken: list[list[Seconds]] = [[] for _ in sides]
    for _ in range(rounds):
        for side, results in zip(sides, taken, strict=True):
            gc.collect()
            results.append(side())
    return [Seconds(min(one.wall for one in side), min(one.cpu for one in side)) for side in taken]


def resident_bytes() -> int:
    """Return how much memory this process has, garbage collected: the resident set that Linux tells of."""
    gc.collect()
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
