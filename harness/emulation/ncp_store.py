"""What an NCP keeps when its power goes: one JSON file, replaced whole or not at all."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from harness.errors import RigError

FORMAT = "harness.ncp/1"


class NvStore:
    """The flash of one emulated stick, as a file.

    An absent file is an empty flash. `load` raises RigError, naming the file, on one that is cut short or not ours.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def load(self) -> dict[str, Any]:
        """Read the tokens; {} when the file does not exist yet."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return {}
        except (OSError, UnicodeDecodeError) as error:
            raise RigError(f"the NCP's token file {self.path} cannot be read: {error}") from error
        try:
            content = json.loads(text)
        except ValueError as error:
            raise RigError(f"the NCP's token file {self.path} is damaged or cut short: {error}") from error
        if not isinstance(content, dict) or content.get("format") != FORMAT:
            raise RigError(f"the NCP's token file {self.path} is not a {FORMAT} file")
        tokens = content.get("tokens")
        if not isinstance(tokens, dict):
            raise RigError(f"the NCP's token file {self.path} holds no tokens")
        return tokens

    def save(self, tokens: dict[str, Any]) -> None:
        """Write the tokens beside the file and move them into place: a crash of ours leaves the old ones whole."""
        content = json.dumps({"format": FORMAT, "tokens": tokens}, indent=1, sort_keys=True)
        beside = self.path.with_name(self.path.name + ".new")
        try:
            beside.write_text(content, encoding="utf-8")
            os.replace(beside, self.path)
        except OSError as error:
            raise RigError(f"the NCP's token file {self.path} cannot be written: {error}") from error
