"""The Communications Hub's Device Log: who may be on the HAN, with which key a device may join, and until when."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from enum import IntEnum
from typing import Any

from harness.errors import LocalProtocolError
from harness.members.kinds import TYPE_1, TYPE_2, DeviceKind
from harness.members.security import soonest
from harness.wire.ota_messages import CLOCK_TOLERANCE
from harness.wire.security import KEY_LENGTH, mmo

DEVICE_LOG_CHANGED = 0x8F12  # CS14: CHF Device Log Changed
LONGEST_JOIN_PERIOD = 3600  # seconds: JoinTimePeriod of SR8.11, DUIS schema 5.4
_PPMIDS = (DeviceKind.PPMID, DeviceKind.BRIDGE)


class JoinResponse(IntEnum):
    """How a join ended, as the response to CS03 tells it (GBCS v0.8.1 13.7)."""

    SUCCESS = 0
    INVALID_MESSAGE_CODE_FOR_JOIN_METHOD_AND_ROLE = 1
    INVALID_JOIN_METHOD_AND_ROLE = 2
    INCOMPATIBLE_WITH_EXISTING_ENTRY = 3
    DEVICE_LOG_FULL = 4
    WRITE_FAILURE = 5
    KEY_AGREEMENT_NO_RESOURCES = 6
    KEY_AGREEMENT_UNKNOWN_ISSUER = 7
    KEY_AGREEMENT_UNSUPPORTED_SUITE = 8
    KEY_AGREEMENT_BAD_MESSAGE = 9
    KEY_AGREEMENT_BAD_KEY_CONFIRM = 10
    INVALID_OR_MISSING_CERTIFICATE = 11
    NO_PARTNER_LINK_KEY_RECEIVED = 12
    NO_CBKE_RESPONSE = 13


@dataclass(frozen=True, slots=True)
class DeviceLimits:
    """What one model of hub has room for, in devices. The defaults are the least of CHTS 4.4.2.1, of 2014.

    `ppmid` are the most PPMIDs, bridges among them, of the Type 1 devices: CHTS promises 2. None: as many as Type 1.
    """

    esme: int = 4
    gsme: int = 1
    type_1: int = 7
    type_2: int = 3
    ppmid: int | None = None
    total: int = 16  # entries of the CHF Device Log (DUIS schema 5.4)
    # Assumed: the hub's own GPF takes one of them. 4 + 1 + 1 + 7 + 3 are 16 with it, and CCS02 speaks of removing it.
    gpf_takes_entry: bool = True
    historic: int = 15  # CCS02: entries of the CHF Historic Device Log


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One device of the log. Times in seconds on the owner's clock.

    `link_key` is that of its install code; `tc_key` is the link key that is established with it, None before that. It
    joins until `join_until`, None once that is over; and until `historic_until` with `historic_key`, where it has one.
    """

    eui64: int
    kind: DeviceKind
    link_key: bytes = field(repr=False)
    added_at: float
    join_until: float | None
    joined: bool = False
    tc_key: bytes | None = field(default=None, repr=False)
    historic_key: bytes | None = field(default=None, repr=False)
    historic_until: float | None = None


@dataclass(frozen=True, slots=True)
class HistoricEntry:
    """A device that was removed, and the link key that was established with it."""

    eui64: int
    link_key: bytes = field(repr=False)
    removed_at: float


@dataclass(frozen=True, slots=True)
class EntryAdded:
    """A device is in the log now."""

    eui64: int
    kind: DeviceKind


@dataclass(frozen=True, slots=True)
class EntryDuplicate:
    """A device that is in the log was added again: success, and the key that came with it is discarded."""

    eui64: int
    kind: DeviceKind


@dataclass(frozen=True, slots=True)
class EntryRefused:
    """There is no room for a device; `detail` is a sentence that says of what there is too much."""

    eui64: int
    kind: DeviceKind
    response: JoinResponse
    detail: str


@dataclass(frozen=True, slots=True)
class EntryRemoved:
    """A device is in the log no more. A request to the carrier, too: forget every key with it."""

    eui64: int
    kind: DeviceKind


@dataclass(frozen=True, slots=True)
class RemovalRefused:
    """A device that is to be removed is not in the log."""

    eui64: int


@dataclass(frozen=True, slots=True)
class JoinAllowed:
    """A request to the carrier: let this device join with this key, and no other, for so many seconds from now."""

    eui64: int
    key: bytes = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class JoinPeriodEnded:
    """A device did not join in its time, or left without a link key of its own: the carrier forgets its key."""

    eui64: int


@dataclass(frozen=True, slots=True)
class DeviceLogChanged:
    """What the hub is to say as CS14: the log changed. `DeviceLog.backup` is what it has to say of it."""

    alert_code: int = DEVICE_LOG_CHANGED


class DeviceLog:
    """The devices that one hub lets on its HAN. It says nothing on the air: its owner's carrier obeys the events.

    What a device does that is not in the log changes nothing here: `joined`, `left` and `established` then return [].

    A duplicate (CCS01) has its join period run anew, with the key that the log has. Assumed: CCS01 says that the new
    key is discarded and the old is as it was, and of the period says nothing.
    """

    def __init__(self, limits: DeviceLimits = DeviceLimits()) -> None:
        self.limits = limits
        self._entries: dict[int, LogEntry] = {}  # in the order of adding
        self._historic: dict[int, HistoricEntry] = {}  # the oldest first
        self._former: dict[
            int, bytes | None
        ] = {}  # the link key before the last one, while that can be taken back

    @property
    def entries(self) -> tuple[LogEntry, ...]:
        """The devices in the log, in the order of adding."""
        return tuple(self._entries.values())

    @property
    def historic(self) -> tuple[HistoricEntry, ...]:
        """The Historic Device Log, the oldest first."""
        return tuple(self._historic.values())

    def kind_of(self, eui64: int) -> DeviceKind | None:
        """Return what a device is; None: it is not in the log."""
        entry = self._entries.get(eui64)
        return None if entry is None else entry.kind

    # --- what the WAN asks ---------------------------------------------------------------------------------------

    def add(self, eui64: int, kind: DeviceKind, link_key: bytes, period: float, now: float) -> list[object]:
        """Add a device (CCS01, SR8.11): it may join for `period` seconds with the key of its install code.

        A device of the Historic Device Log joins with its old link key in the first half of the period.
        LocalProtocolError for no EUI-64, no 16 octets of key, and a period that is not within 3600 seconds.
        """
        if not 0 <= eui64 < 1 << 64:
            raise LocalProtocolError(f"device log: {eui64:#x} is no EUI-64")
        if len(link_key) != KEY_LENGTH:
            raise LocalProtocolError(f"device log: a link key of {len(link_key)} octets, not {KEY_LENGTH}")
        if not 0 < period <= LONGEST_JOIN_PERIOD:
            raise LocalProtocolError(
                f"device log: a join period of {period:g} s, {LONGEST_JOIN_PERIOD} are the most"
            )
        entry = self._entries.get(eui64)
        if entry is not None:
            events: list[object] = [EntryDuplicate(eui64, entry.kind)]
            if not entry.joined and entry.tc_key is None:
                events.append(self._open(entry, period, now))
            return events
        full = self._full(kind)
        if full is not None:
            # CCS01's own results are not known beyond success; requirement AH-14 gives it the one of CS03.
            return [EntryRefused(eui64, kind, JoinResponse.DEVICE_LOG_FULL, full)]
        opened = self._open(LogEntry(eui64, kind, bytes(link_key), now, None), period, now)
        return [EntryAdded(eui64, kind), opened, DeviceLogChanged()]

    def remove(self, eui64: int, now: float) -> list[object]:
        """Remove a device (CCS02). A link key that was established with it goes to the Historic Device Log."""
        entry = self._entries.pop(eui64, None)
        if entry is None:
            return [RemovalRefused(eui64)]
        self._former.pop(eui64, None)
        if entry.tc_key is not None:
            # CCS02: a record that there is already is updated. Assumed: it is the youngest then.
            self._historic.pop(eui64, None)
            self._historic[eui64] = HistoricEntry(eui64, entry.tc_key, now)
            while len(self._historic) > self.limits.historic:
                del self._historic[next(iter(self._historic))]  # CCS02: the oldest is overwritten
        return [EntryRemoved(eui64, entry.kind), DeviceLogChanged()]

    def _full(self, kind: DeviceKind) -> str | None:
        """Return the sentence that says why there is no room for one more; None: there is."""
        limits = self.limits
        rooms: list[tuple[tuple[DeviceKind, ...], int, str]] = [
            (tuple(DeviceKind), limits.total - limits.gpf_takes_entry, "devices"),
            ((DeviceKind.ESME,), limits.esme, "ESMEs"),
            ((DeviceKind.GSME,), limits.gsme, "GSMEs"),
            (TYPE_1, limits.type_1, "Type 1 devices"),
            (TYPE_2, limits.type_2, "Type 2 devices"),
        ]
        if limits.ppmid is not None:
            rooms.append((_PPMIDS, limits.ppmid, "PPMIDs"))
        for kinds, room, name in rooms:
            held = sum(entry.kind in kinds for entry in self._entries.values())
            if kind in kinds and held >= room:
                return f"the Device Log holds {held} {name}, and has room for {room}"
        return None

    # --- what the HAN shows --------------------------------------------------------------------------------------

    def joined(self, eui64: int, now: float) -> list[object]:
        """A device is on the HAN. With a historic key it joined, that is its link key again (CCS01)."""
        entry = self._entries.get(eui64)
        if entry is None:
            return []
        old_key = entry.historic_key if _runs(entry.historic_until, now) else None
        self._entries[eui64] = entry = replace(entry, joined=True, historic_key=None, historic_until=None)
        if old_key is None:
            return []
        self._entries[eui64] = replace(entry, tc_key=old_key)
        return [DeviceLogChanged()]

    def left(self, eui64: int, now: float) -> list[object]:
        """A device is off the HAN. Without a link key of its own it joins again as long as its period runs."""
        entry = self._entries.get(eui64)
        if entry is None or not entry.joined:
            return []
        entry = self._entries[eui64] = replace(entry, joined=False)
        return self._unjoined(entry, now)

    def established(self, eui64: int, link_key: bytes) -> list[object]:
        """CBKE gave a device a link key, in the place of the one that it had."""
        if len(link_key) != KEY_LENGTH:
            raise LocalProtocolError(f"device log: a link key of {len(link_key)} octets, not {KEY_LENGTH}")
        entry = self._entries.get(eui64)
        if entry is None:
            return []
        self._former[eui64] = entry.tc_key
        self._entries[eui64] = replace(entry, tc_key=bytes(link_key), historic_key=None, historic_until=None)
        return [] if entry.tc_key == link_key else [DeviceLogChanged()]

    def rejected(self, eui64: int, now: float) -> list[object]:
        """The device does not have the last key that was established after all: the one before counts again."""
        entry = self._entries.get(eui64)
        if entry is None or eui64 not in self._former:
            return []
        rejected, former = entry.tc_key, self._former.pop(eui64)
        entry = self._entries[eui64] = replace(entry, tc_key=former)
        events: list[object] = [] if former == rejected else [DeviceLogChanged()]
        return events if entry.joined else events + self._unjoined(entry, now)

    # --- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When a device has to change its key, or its join period ends."""
        waits = [entry for entry in self._entries.values() if _waits(entry)]
        return soonest(*(soonest(entry.historic_until, entry.join_until) for entry in waits))

    def on_deadline(self, now: float) -> list[object]:
        """Let the install code's key follow the historic one, and end the periods that are over."""
        events: list[object] = []
        for entry in self.entries:
            if not _waits(entry):
                continue
            if not _runs(entry.join_until, now):
                events += self._unjoined(entry, now)
            elif entry.historic_until is not None and not _runs(entry.historic_until, now):
                entry = self._entries[entry.eui64] = replace(entry, historic_key=None, historic_until=None)
                events.append(_allowed(entry, now))
        return events

    def _open(self, entry: LogEntry, period: float, now: float) -> JoinAllowed:
        """Begin a join period. CCS01: its first half belongs to the historic key, where there is one."""
        old = self._historic.get(entry.eui64)
        entry = self._entries[entry.eui64] = replace(
            entry,
            join_until=now + period,
            historic_key=None if old is None else old.link_key,
            historic_until=None if old is None else now + period / 2,
        )
        return _allowed(entry, now)

    def _unjoined(self, entry: LogEntry, now: float) -> list[object]:
        """Return what the carrier does with a device that is not on the HAN: nothing, if it has a link key."""
        if entry.tc_key is not None:
            return []
        if _runs(entry.join_until, now):
            return [_allowed(entry, now)]
        self._entries[entry.eui64] = replace(entry, join_until=None, historic_key=None, historic_until=None)
        return [JoinPeriodEnded(entry.eui64)]

    @property
    def backup(self) -> tuple[tuple[int, bytes], ...]:
        """Each device (EUI-64) with the hash of the link key established with it, no octets where there is none (CS14).

        The GPF is the owner's to add. Not to be printed: a hub is restored from such a hash (CCS03), as from a key.
        """
        # Assumed: the hash is the AES-MMO of the key, as in the rest of Zigbee.
        keys = [(entry.eui64, entry.tc_key) for entry in self._entries.values()]
        return tuple((eui64, b"" if key is None else mmo(key)) for eui64, key in keys)

    # --- a power cut ---------------------------------------------------------------------------------------------

    def snapshot(self) -> dict[str, object]:
        """Return what a power cut leaves, for JSON: it has the keys in it."""
        return {
            "entries": [_saved(entry) for entry in self._entries.values()],
            "historic": [_saved(entry) for entry in self._historic.values()],
        }

    def restore(self, saved: object, now: float) -> list[object]:
        """Take what `snapshot` gave in the place of all that is here, on a clock that went on meanwhile.

        Nobody is on the HAN that is not joined; returned are the requests to the carrier, whose transient keys the cut
        took. LocalProtocolError that names the field, and nothing changed, for no snapshot and for one too large.
        """
        entries: dict[int, LogEntry] = {}
        other = DeviceLog(self.limits)
        for where, item in _items(saved, "entries"):
            entry = _entry(where, item, now)
            if entry.eui64 in entries:
                raise LocalProtocolError(f"device log: {where}.eui64 is there twice")
            full = other._full(entry.kind)
            if full is not None:
                raise LocalProtocolError(f"device log: {where} is one too many: {full}")
            other._entries[entry.eui64] = entries[entry.eui64] = entry
        historic: dict[int, HistoricEntry] = {}
        for where, item in _items(saved, "historic"):
            record = HistoricEntry(**_read(where, item, _HISTORIC_FIELDS))  # type: ignore[arg-type]
            if record.eui64 in historic:
                raise LocalProtocolError(f"device log: {where}.eui64 is there twice")
            historic[record.eui64] = record
        if len(historic) > self.limits.historic:
            raise LocalProtocolError(f"device log: historic has more than {self.limits.historic} entries")
        self._entries, self._historic, self._former = entries, historic, {}
        return [
            _allowed(entry, now) for entry in self.entries if _waits(entry) and _runs(entry.join_until, now)
        ]


def _runs(until: float | None, now: float) -> bool:
    return until is not None and now + CLOCK_TOLERANCE < until


def _waits(entry: LogEntry) -> bool:
    """Whether a device may yet join, or its period is to be ended."""
    return entry.join_until is not None and not entry.joined and entry.tc_key is None


def _allowed(entry: LogEntry, now: float) -> JoinAllowed:
    key, until = entry.link_key, entry.join_until
    if entry.historic_key is not None and _runs(entry.historic_until, now):
        key, until = entry.historic_key, entry.historic_until
    assert until is not None  # asked of those only whose period runs
    return JoinAllowed(entry.eui64, key, until - now)


# What is saved has a field's name and its value, but octets as hex digits, and an EUI-64 as 16 of them.


def _saved(value: LogEntry | HistoricEntry) -> dict[str, object]:
    saved: dict[str, object] = {}
    for each in fields(value):
        held = getattr(value, each.name)
        if each.name == "eui64":
            held = f"{held:016X}"
        saved[each.name] = held.hex() if isinstance(held, bytes) else held
    return saved


def _octets(value: object, length: int) -> bytes:
    octets = bytes.fromhex(value) if isinstance(value, str) else b""
    if len(octets) != length:
        raise ValueError
    return octets


def _key(value: object) -> bytes:
    return _octets(value, KEY_LENGTH)


def _eui64(value: object) -> int:
    return int.from_bytes(_octets(value, 8), "big")


def _time(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError
    return value


def _optional(read: Callable[[object], object]) -> Callable[[object], object]:
    return lambda value: None if value is None else read(value)


_HISTORIC_FIELDS: dict[str, Callable[[Any], object]] = {
    "eui64": _eui64,
    "link_key": _key,
    "removed_at": _time,
}
_ENTRY_FIELDS: dict[str, Callable[[Any], object]] = {
    "eui64": _eui64,
    "kind": DeviceKind,  # whatever is none is a ValueError
    "link_key": _key,
    "added_at": _time,
    "join_until": _optional(_time),
    "joined": _flag,
    "tc_key": _optional(_key),
    "historic_key": _optional(_key),
    "historic_until": _optional(_time),
}


def _items(saved: object, name: str) -> list[tuple[str, object]]:
    items = saved.get(name) if isinstance(saved, Mapping) else None
    if not isinstance(items, list):
        raise LocalProtocolError(f"device log: {name} is no list")
    return [(f"{name}[{index}]", item) for index, item in enumerate(items)]


def _read(where: str, item: object, shape: Mapping[str, Callable[[Any], object]]) -> dict[str, object]:
    """Read one saved value by its fields. What is wrong is not printed: a key may stand in the wrong place."""
    if not isinstance(item, Mapping) or set(item) != set(shape):
        raise LocalProtocolError(
            f"device log: {where} does not have the fields {', '.join(shape)}, and no other"
        )
    values: dict[str, object] = {}
    for name, read in shape.items():
        try:
            values[name] = read(item[name])
        except (ValueError, OverflowError):  # the latter: an integer that no time is as large as
            raise LocalProtocolError(f"device log: {where}.{name} is not what a snapshot has there") from None
    return values


def _entry(where: str, item: object, now: float) -> LogEntry:
    entry = LogEntry(**_read(where, item, _ENTRY_FIELDS))  # type: ignore[arg-type]
    until, half = entry.join_until, entry.historic_until
    if until is not None and until > now + LONGEST_JOIN_PERIOD:
        raise LocalProtocolError(
            f"device log: {where}.join_until is {until - now:g} s ahead, {LONGEST_JOIN_PERIOD} are the most"
        )
    ordered = half is None or (until is not None and half <= until and _waits(entry))
    if not ordered or (half is None) != (entry.historic_key is None):
        raise LocalProtocolError(f"device log: {where}.historic_until does not go with the other fields")
    return entry
