"""UTC as Zigbee and GBCS count it: in seconds since the beginning of 2000 (ZCL8 2.6.2.6)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

UTC_2026: Final = 820540800
"""1 January 2026: where the clocks of emulated members start."""

_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)


def utc_time(seconds: float) -> datetime:
    """Return the moment that is so many seconds after the beginning of 2000."""
    return _EPOCH + timedelta(seconds=seconds)


def utc_seconds(time: datetime) -> float:
    """Return how many seconds after the beginning of 2000 a moment with a time zone is."""
    return (time - _EPOCH).total_seconds()
