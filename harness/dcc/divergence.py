"""What Devices really run beside what the Inventory says: where the two differ, and which side moved."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from harness.smi.devices import DeviceType, format_eui64, format_version
from harness.smi.inventory import Inventory


class Side(StrEnum):
    """Who moved away from what both had."""

    DEVICE = "device"
    INVENTORY = "Inventory"
    BOTH = "both"
    NEITHER = "neither"
    """They have never been seen to agree."""


@dataclass(frozen=True, slots=True)
class Diverged:
    """A Device (EUI-64) runs `runs`, the Inventory says `says`; they last agreed on `agreed`, None: never seen to.

    `since` is when that was first seen, in POSIX seconds, `after` the step that it was seen after.
    """

    device: int
    device_type: DeviceType
    runs: int
    says: int | None
    moved: Side
    agreed: int | None
    since: float
    after: str

    def __str__(self) -> str:
        who = f"{self.device_type} {format_eui64(self.device)}"
        runs, says = format_version(self.runs), format_version(self.says)
        if self.moved is Side.NEITHER:
            moved = "they have never been seen to agree"
        else:
            moved = f"{self.moved} moved, from {format_version(self.agreed)}"
        return f"{who} runs {runs}, the Inventory says {says}: {moved}, after {self.after}"


@dataclass(frozen=True, slots=True)
class Realigned:
    """A Device and the Inventory agree again, on `version`."""

    device: int
    device_type: DeviceType
    version: int
    after: str


class Divergence:
    """Follows the versions of some Devices, step by step."""

    def __init__(self, inventory: Inventory) -> None:
        self._inventory = inventory
        self._agreed: dict[int, int] = {}
        self._now: dict[int, Diverged] = {}

    @property
    def diverged(self) -> tuple[Diverged, ...]:
        """The Devices that differ from the Inventory, as of the last step, in its order."""
        return tuple(self._now[device] for device in self._inventory if device in self._now)

    def step(self, running: Mapping[int, int], now: float, after: str) -> list[Diverged | Realigned]:
        """Compare what Devices run (version by EUI-64) after a step, and return what is new.

        A Device that is not in the Inventory, or not in `running`, is not compared: it stays as it was.
        """
        news: list[Diverged | Realigned] = []
        for device, runs in running.items():
            if device not in self._inventory:
                self._now.pop(device, None)
                self._agreed.pop(device, None)
                continue
            record = self._inventory.device(device)
            says, before = record.firmware_version, self._now.get(device)
            if runs == says:
                self._agreed[device] = runs
                if self._now.pop(device, None) is not None:
                    news.append(Realigned(device, record.device_type, runs, after))
                continue
            if before is not None and (before.runs, before.says) == (runs, says):
                continue
            agreed = self._agreed.get(device)
            found = Diverged(
                device,
                record.device_type,
                runs,
                says,
                _moved(agreed, runs, says),
                agreed,
                now if before is None else before.since,
                after,
            )
            self._now[device] = found
            news.append(found)
        return news


def _moved(agreed: int | None, runs: int, says: int | None) -> Side:
    if agreed is None:
        return Side.NEITHER
    if runs == agreed:
        return Side.INVENTORY
    return Side.DEVICE if says == agreed else Side.BOTH
