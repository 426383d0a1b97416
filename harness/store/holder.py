"""Who has an Inventory open: a process, named so that nothing else is taken for it, and whether it may still live."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple


class Holder(NamedTuple):
    """A process of a machine. A pid is used again, and a machine restarted: it is known by when it began, too."""

    pid: int
    began: str
    boot: str
    machine: str

    @classmethod
    def process(cls, pid: int) -> Holder:
        """Return the process of this machine that has a pid now."""
        return cls(pid, _began(pid), _boot(), os.uname().nodename)

    @classmethod
    def parse(cls, text: str) -> Holder:
        """Return what `str` made a text of."""
        pid, began, boot, machine = text.split(" ", 3)
        return cls(int(pid), began, boot, machine)

    def __str__(self) -> str:
        return " ".join(map(str, self))

    @property
    def may_live(self) -> bool:
        """Whether it may still be there: of another machine that cannot be known."""
        return self.machine != os.uname().nodename or self == Holder.process(self.pid)

    @property
    def said(self) -> str:
        """Its name for a person."""
        if self == Holder.process(os.getpid()):
            return f"this very process ({self.pid})"
        return f"process {self.pid} on {self.machine}"


def _began(pid: int) -> str:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return "-"
    # proc(5): from behind the name, which can hold spaces and parentheses, the state is field 3, the start time 22.
    fields = stat.rpartition(")")[2].split()
    return "-" if fields[0] in ("Z", "X") else fields[19]


def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    except OSError:
        return "-"
