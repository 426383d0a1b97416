"""The journal of a run: what happened on the rig, when, and to whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TAIL = 30


@dataclass(frozen=True, slots=True)
class Entry:
    """One event of one member, `seconds` after the rig was opened."""

    seconds: float
    member: str
    event: object

    def __str__(self) -> str:
        return f"{self.seconds:12.6f}  {self.member:<12} {self.event!r}"


class Journal:
    """Everything that was reported since the rig was opened, in order."""

    def __init__(self) -> None:
        self._entries: list[Entry] = []

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries)

    def __len__(self) -> int:
        return len(self._entries)

    def add(self, seconds: float, member: str, event: object) -> None:
        """Note an event."""
        self._entries.append(Entry(seconds, member, event))

    def since(self, index: int, member: str) -> Iterator[object]:
        """Give the events of one member from entry number `index` on, oldest first."""
        return (entry.event for entry in self._entries[index:] if entry.member == member)

    def tail(self) -> str:
        """Give the last entries for a reader, a line each; a run of one kind of event is folded into its last."""
        lines: list[str] = []
        folded = 0
        previous: Entry | None = None
        for entry in self._entries:
            if previous is not None and _same_kind(previous, entry):
                folded += 1
                lines[-1] = f"{entry}  (and {folded} before)"
            else:
                folded = 0
                lines.append(str(entry))
            previous = entry
        return "\n".join(lines[-_TAIL:])

    def write(self, path: Path) -> None:
        """Write it as JSON lines: seconds, member, event, and the event's fields as text."""
        with path.open("w", encoding="utf-8") as stream:
            for entry in self._entries:
                row: dict[str, Any] = {
                    "seconds": round(entry.seconds, 6),
                    "member": entry.member,
                    "event": type(entry.event).__name__,
                    "detail": repr(entry.event),
                }
                stream.write(json.dumps(row) + "\n")


def _same_kind(one: Entry, other: Entry) -> bool:
    return one.member == other.member and type(one.event) is type(other.event)
