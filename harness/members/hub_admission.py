"""Who may be on the hub's HAN: the Device Log, kept in flash, and what the carrier is asked to do about it."""

from __future__ import annotations

from harness.members.device_log import (
    DeviceLimits,
    DeviceLog,
    EntryAdded,
    EntryRemoved,
    JoinAllowed,
    JoinPeriodEnded,
)
from harness.members.hub_flash import HubFlash
from harness.wire.application import JoinEnded, JoinPermitted, LinkKeyForgotten


class HubAdmission:
    """Turns what the Device Log says into requests to the carrier, and writes the log down at each change.

    `log` is for asking; whoever changes it hands the events of that to `followed`.
    """

    def __init__(self, limits: DeviceLimits, flash: HubFlash) -> None:
        self.log = DeviceLog(limits)
        self._flash = flash
        self._permitted: set[int] = set()  # those that the carrier has a permission to join for

    def followed(self, events: list[object]) -> list[object]:
        """Pass on what the log said when it was changed, with what the carrier is to do, and write the log down."""
        obeyed: list[object] = []
        for event in events:
            if isinstance(event, JoinAllowed):
                self._permitted.add(event.eui64)
                obeyed.append(JoinPermitted(event.eui64, event.key, event.seconds))
                continue
            obeyed.append(event)
            if isinstance(event, EntryAdded) and event.eui64 in self._flash.removed:
                self._flash.removed.remove(event.eui64)
            if isinstance(event, EntryRemoved):
                self._flash.removed.append(event.eui64)
            if isinstance(event, (JoinPeriodEnded, EntryRemoved)):
                obeyed += self._ended(event.eui64)
                obeyed.append(LinkKeyForgotten(event.eui64))
        self._flash.log = self.log.snapshot()
        return obeyed

    def joined(self, eui64: int, now: float) -> list[object]:
        """A device is on the HAN, which is open no more for its sake (JN-01)."""
        if self.log.kind_of(eui64) is None:
            return []
        had = self._has_key(eui64)
        events = self._ended(eui64) + self.followed(self.log.joined(eui64, now))
        if not had and self._has_key(eui64) and eui64 not in self._flash.keyed:
            # CCS01: it came with the link key that was established before it was removed, and that counts again.
            self._flash.keyed.append(eui64)
        return events

    def _has_key(self, eui64: int) -> bool:
        return any(entry.eui64 == eui64 and entry.tc_key is not None for entry in self.log.entries)

    def _ended(self, eui64: int) -> list[object]:
        if eui64 not in self._permitted:
            return []
        self._permitted.discard(eui64)
        return [JoinEnded(eui64)]

    def resumed(self, now: float) -> list[object]:
        """The hub has power, or its radio has: the log is what flash holds, and the joins that run are permitted."""
        return [] if self._flash.log is None else self.followed(self.log.restore(self._flash.log, now))

    def recall(self, log: dict[str, object] | None) -> None:
        """Take a snapshot of another run in the place of this log. LocalProtocolError, and no change, for a broken one.

        No join period runs in it, so that its clock does not matter.
        """
        self.log.restore({"entries": [], "historic": []} if log is None else log, 0.0)

    def on_deadline(self, now: float) -> list[object]:
        """End the join periods that are over."""
        events = self.log.on_deadline(now)
        return self.followed(events) if events else []
