"""What is kept: names, times, and JSON values. A database finds damage to its own order, but none in a value."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping
from typing import Any

from harness.errors import LocalProtocolError
from harness.store.tables import LONGEST_NAME


def checked_name(name: str) -> str:
    """Return a name. LocalProtocolError for what cannot be one."""
    if not name or len(name) > LONGEST_NAME or not name.isprintable():
        raise LocalProtocolError(
            f"{name!r} is no name: it has 1 to {LONGEST_NAME} characters that can be printed"
        )
    return name


def checked_time(now: float) -> float:
    """Return a time, in POSIX seconds. LocalProtocolError for what is none."""
    if not math.isfinite(now):
        raise LocalProtocolError(f"{now} is no time")
    return float(now) + 0.0  # SQLite keeps no -0.0


def written(what: str, value: Mapping[str, Any]) -> str:
    """Return the text of a JSON value. LocalProtocolError, which does not show it, for what is none."""
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError):
        raise LocalProtocolError(f"{what} is no JSON value, which is all that can be kept") from None


def read(text: str) -> dict[str, Any]:
    """Return the value of which `written` made the text."""
    value: dict[str, Any] = json.loads(text)
    return value


def crc(*row: object) -> int:
    """Return the CRC-32 of all else in a row."""
    return zlib.crc32("\0".join(map(str, row)).encode("utf-8", "surrogatepass"))
