"""The serial console of a device: the one command that a lab asks on it, and the line that answers."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.errors import LocalProtocolError

UNKNOWN_COMMAND = "unknown command"

_VERSION = "{version}"


@dataclass(frozen=True, slots=True)
class ConsoleDialect:
    """What a model's console understands and says, one line a command. Assumed: no document knows of a console.

    `version_answer` is a whole line, with {version} once for the 8 hexadecimal digits of the firmware version.
    """

    version_command: str = "version"
    version_answer: str = "firmware {version}"

    def __post_init__(self) -> None:
        if self.version_answer.count(_VERSION) != 1:
            raise LocalProtocolError(f"the answer {self.version_answer!r} must have {_VERSION} once")

    def answer(self, line: str, version: int) -> str:
        """Return the line that a device which runs `version` answers to a line."""
        if line.strip() != self.version_command.strip():
            # The line is not repeated: whatever it was, no version can be read out of this.
            return UNKNOWN_COMMAND
        return self.version_answer.replace(_VERSION, f"{version:08x}")

    def parse(self, line: str) -> int | None:
        """Return the version that a line says, None for one that is not the answer: log noise, an echo, a prompt."""
        # The whole line: a log that speaks of another firmware's version in passing is no answer.
        before, _, after = self.version_answer.strip().partition(_VERSION)
        found = re.fullmatch(f"{re.escape(before)}([0-9A-Fa-f]{{8}}){re.escape(after)}", line.strip())
        return None if found is None else int(found[1], 16)
