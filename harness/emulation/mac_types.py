"""The words of the emulated MAC: its statuses, its counters, what it reports to the layer above."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from harness.wire.mac import Beacon, MacFrame


class MacStatus(IntEnum):
    """How a MAC transaction ended (IEEE 802.15.4-2006 table 78)."""

    SUCCESS = 0x00
    CHANNEL_ACCESS_FAILURE = 0xE1
    NO_ACK = 0xE9
    NO_DATA = 0xEB
    TRANSACTION_EXPIRED = 0xF0
    TRANSACTION_OVERFLOW = 0xF1


Done = Callable[[MacStatus], None]


@dataclass(slots=True)
class MacCounters:
    """What a MAC has done since it was made or reset. Frames are of data and commands alike.

    `tx_broadcast` counts all that asks for no acknowledgement, beacons too; `tx_unicast_failed` transactions without an
    acknowledgement at last, `tx_unicast_retry` attempts after the first; `cca_failures` transactions given up with the
    channel busy.
    """

    tx_broadcast: int = 0
    tx_unicast_success: int = 0
    tx_unicast_failed: int = 0
    tx_unicast_retry: int = 0
    cca_failures: int = 0
    rx_broadcast: int = 0
    rx_unicast: int = 0
    rx_duplicate: int = 0
    rx_malformed: int = 0
    rx_polls: int = 0
    indirect_expired: int = 0
    indirect_overflow: int = 0


@dataclass(frozen=True, slots=True)
class FoundBeacon:
    """A coordinator or router that answered an active scan."""

    channel: int
    pan_id: int
    short: int
    beacon: Beacon
    lqi: int
    rssi: float


class MacListener(Protocol):
    """The layer above a MAC."""

    def mac_received(self, frame: MacFrame, lqi: int, rssi: float) -> None:
        """A data frame for this node or for everybody has arrived; `frame.pending`: its sender holds another one."""

    def mac_association_requested(self, eui64: int, capability: int) -> tuple[int, int]:
        """A device asks to join: return the status and the short address of its association response."""

    def mac_polled(self, src: int, extended: bool) -> None:
        """A child has asked for what waits for it; what is sent indirectly from here on waits for its next poll."""
