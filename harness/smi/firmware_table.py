"""The Firmware Version table: the CPL as the Inventory holds it, keyed by model, version and SMETS family."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields
from datetime import UTC, date, datetime, timedelta
from enum import StrEnum

from harness.errors import LocalProtocolError, RigError
from harness.smi.devices import ON_THE_CPL, DeviceType, SmetsFamily, check_version, format_version

_HASH_OCTETS = 32  # SHA-256 of the Manufacturer Image (F1.1)

ModelKey = tuple[str, str, SmetsFamily]
"""Manufacturer, model, SMETS family: what a Device is, whatever it runs."""

RowKey = tuple[str, str, int, SmetsFamily]
"""Manufacturer, model, firmware version, SMETS family: what a CPL row is about (F5)."""


class CplStatus(StrEnum):
    """The status of a CPL row as Users see it (F1.3)."""

    ACTIVE = "Active"
    CANCELLED = "Cancelled"
    EXPIRED = "Expired"
    WITHDRAWN = "Withdrawn"


@dataclass(frozen=True, slots=True)
class CplRow:
    """One row of the CPL. `expiry` is its last day; `predecessors` are CPL Entry IDs (MP231); `row` is where it stands.

    LocalProtocolError for a value that no row can have. Strings will do for the enumerations.
    """

    device_type: DeviceType
    manufacturer: str
    model: str
    hardware_version: str | None
    firmware_version: int
    smets: SmetsFamily
    smets_version: str
    gbcs_version: str | None
    image_hash: bytes
    status: CplStatus
    expiry: date | None = None
    predecessors: tuple[str, ...] = ()
    row: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (("device_type", DeviceType), ("smets", SmetsFamily), ("status", CplStatus)):
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                wanted = ", ".join(kind)
                raise LocalProtocolError(f"{self.place}: {name} is {value!r}, not one of {wanted}") from None
        if self.device_type not in ON_THE_CPL:
            raise LocalProtocolError(f"{self.place}: the CPL has no rows for {self.device_type}")
        if not self.manufacturer or not self.model:
            raise LocalProtocolError(
                f"{self.place}: manufacturer {self.manufacturer!r}, model {self.model!r}"
            )
        try:
            check_version(self.firmware_version)
        except LocalProtocolError as error:
            raise LocalProtocolError(f"{self.place}: {error}") from None
        if len(self.image_hash) != _HASH_OCTETS:
            raise LocalProtocolError(
                f"{self.place}: the Manufacturer Image Hash has {len(self.image_hash)} octets, not {_HASH_OCTETS}"
            )

    @property
    def key(self) -> RowKey:
        """What the row is about: two rows of one key have to say the same."""
        return self.manufacturer, self.model, self.firmware_version, self.smets

    @property
    def model_key(self) -> ModelKey:
        """The Devices that the row is for, whatever they run."""
        return self.manufacturer, self.model, self.smets

    @property
    def place(self) -> str:
        """Where the row stands, for a message."""
        return "CPL row" if self.row is None else f"CPL row {self.row}"

    def is_active(self, today: date) -> bool:
        """Whether firmware may run by this row today. That an Active row ends with its last day is assumed."""
        return self.status is CplStatus.ACTIVE and (self.expiry is None or today <= self.expiry)


# Rows of one key may differ in where they stand, and in the hardware: the key has no hardware version.
_MAY_DIFFER = ("row", "hardware_version")
_STATEMENTS = tuple(field.name for field in fields(CplRow) if field.name not in _MAY_DIFFER)


def day_of(now: float) -> date:
    """Return the UTC day of a time in POSIX seconds."""
    return datetime.fromtimestamp(now, UTC).date()


class FirmwareTable:
    """All rows of the CPL that was loaded last, with those that are Active at hand. Times are POSIX seconds."""

    def __init__(self) -> None:
        self._rows: dict[RowKey, CplRow] = {}
        self.day = date(1970, 1, 1)
        """The UTC day that the rows are Active on, or not."""
        # Changed in place and never replaced: a Device's record keeps the one of its model.
        self._active: dict[ModelKey, dict[int, CplRow]] = {}

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[CplRow]:
        return iter(self._rows.values())

    def get(
        self, manufacturer: str, model: str, firmware_version: int | None, smets: SmetsFamily
    ) -> CplRow | None:
        """Return a row, Active or not; None: the CPL has none."""
        return (
            None
            if firmware_version is None
            else self._rows.get((manufacturer, model, firmware_version, smets))
        )

    def active(self, manufacturer: str, model: str, smets: SmetsFamily) -> Mapping[int, CplRow]:
        """Return the Active rows of a model by firmware version: the table's own, which later loads change."""
        return self._active.setdefault((manufacturer, model, smets), {})

    def load(self, rows: Iterable[CplRow], now: float) -> set[ModelKey]:
        """Take a whole CPL in place of what was there; return the models whose Active rows are others now.

        RigError, and the table unchanged, where two rows of one key contradict each other.
        """
        taken: dict[RowKey, CplRow] = {}
        for row in rows:
            first = taken.setdefault(row.key, row)
            differing = [name for name in _STATEMENTS if getattr(first, name) != getattr(row, name)]
            if differing:
                name = differing[0]
                raise RigError(
                    f"{row.place} contradicts {_place_of(first)}: for {row.manufacturer} {row.model} "
                    f"{format_version(row.firmware_version)} {row.smets}, {name} is {_shown(getattr(row, name))} "
                    f"and was {_shown(getattr(first, name))}"
                )
        self._rows = taken
        return self.pass_to(now)

    def pass_to(self, now: float) -> set[ModelKey]:
        """Let rows expire that had their last day; return the models whose Active rows are others now."""
        self.day = day_of(now)
        active: dict[ModelKey, dict[int, CplRow]] = {}
        for row in self._rows.values():
            if row.is_active(self.day):
                active.setdefault(row.model_key, {})[row.firmware_version] = row
        changed = set()
        for key in self._active.keys() | active.keys():
            held, wanted = self._active.setdefault(key, {}), active.get(key, {})
            if held != wanted:
                changed.add(key)
                held.clear()
                held.update(wanted)
        return changed

    def next_deadline(self) -> float | None:
        """When the next Active row expires: the first moment of the day after its last; None: none does."""
        days = [
            row.expiry for held in self._active.values() for row in held.values() if row.expiry is not None
        ]
        if not days:
            return None
        after = min(days) + timedelta(days=1)
        return datetime(after.year, after.month, after.day, tzinfo=UTC).timestamp()


def _place_of(row: CplRow) -> str:
    return "another CPL row" if row.row is None else f"row {row.row}"


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)
