"""Events, requests and whole Inventories as plain data that a store can keep: what JSON can say, and back.

A store that keeps each applied event with its time has all there is: applied again in order they make the same
Inventory. A snapshot of an Inventory saves doing so from the start. EUI-64s are integers of 64 bits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import UTC, date, datetime
from enum import Enum
from functools import cache
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from harness.errors import LocalProtocolError
from harness.smi import requests, responses
from harness.smi.devices import DeviceStatus, DeviceType, PpmidVariant, SmetsFamily
from harness.smi.firmware_table import CplRow
from harness.smi.inventory import Inventory
from harness.smi.options import Options
from harness.smi.record import Record, Stage, Upgrade

SCHEMA = "harness.smi/1"

_NAMED: dict[str, type] = {
    found.__name__: found
    for union in (responses.Event, responses.Cause, requests.ServiceRequest)
    for found in get_args(union)
}

_FIELD_TYPES: dict[str, Any] = {
    "status": DeviceStatus,
    "status_before_suspension": DeviceStatus,
    "smets": SmetsFamily,
    "ppmid_variant": PpmidVariant,
    "upgrade": Upgrade,
}
_SIMPLE = ("firmware_version", "hub", "moved", "commissioned_at", "forgotten")
_RECORD = ("device", "device_type", "manufacturer", "model", *_FIELD_TYPES, *_SIMPLE)


def event_to_plain(event: object) -> dict[str, Any]:
    """Return an event, a Service Request or a cause as plain data."""
    return {"is": type(event).__name__, **_fields(event)}


def event_from_plain(plain: Mapping[str, Any]) -> Any:
    """Return what `event_to_plain` was given. LocalProtocolError for plain data that is no event."""
    kind = _NAMED.get(plain.get("is", ""))
    if kind is None:
        raise LocalProtocolError(
            f"plain data says it is {plain.get('is')!r}, which is no event of the Inventory"
        )
    return _build(kind, {name: value for name, value in plain.items() if name != "is"})


def to_plain(inventory: Inventory) -> dict[str, Any]:
    """Return a snapshot of an Inventory as plain data."""
    ledger = inventory.ledger
    return {
        "schema": SCHEMA,
        "options": _fields(inventory.options),
        "cpl": ledger.cpl,
        "day": ledger.table.day.isoformat(),
        "rows": [_fields(row) for row in ledger.table],
        "systems": [[hub, list(devices)] for hub, devices in ledger.systems.items()],
        "records": [_record_to_plain(record) for record in ledger.records.values()],
    }


def from_plain(plain: Mapping[str, Any]) -> Inventory:
    """Return the Inventory of a snapshot. LocalProtocolError for plain data that is none."""
    if plain.get("schema") != SCHEMA:
        raise LocalProtocolError(f"a snapshot of schema {plain.get('schema')!r}, not {SCHEMA}")
    _same_keys("a snapshot", {"schema", "options", "cpl", "day", "rows", "systems", "records"}, plain)
    inventory = Inventory(_build(Options, plain["options"]))
    ledger = inventory.ledger
    day = date.fromisoformat(plain["day"])
    ledger.cpl = plain["cpl"]
    ledger.table.load(
        (_build(CplRow, row) for row in plain["rows"]),
        datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp(),
    )
    for one in plain["records"]:
        _same_keys("a Device", {*_RECORD, "history"}, one)
        rows = ledger.table.active(one["manufacturer"], one["model"], SmetsFamily(one["smets"]))
        record = Record(
            one["device"],
            DeviceType(one["device_type"]),
            one["manufacturer"],
            one["model"],
            SmetsFamily(one["smets"]),
            rows,
        )
        for name in (*_FIELD_TYPES, *_SIMPLE):
            setattr(record, name, _decode(_FIELD_TYPES.get(name), one[name]))
        record.history = [
            (
                at,
                by,
                event_from_plain(event),
                name,
                *(_decode(_FIELD_TYPES.get(name), value) for value in values),
            )
            for at, by, event, name, *values in one["history"]
        ]
        ledger.records[record.device] = record
    ledger.systems.update((hub, dict.fromkeys(devices)) for hub, devices in plain["systems"])
    return inventory


def _record_to_plain(record: Record) -> dict[str, Any]:
    history = [
        [at, by, event_to_plain(event), name, _encode(before), _encode(after)]
        for at, by, event, name, before, after in record.history
    ]
    return {**{name: _encode(getattr(record, name)) for name in _RECORD}, "history": history}


# --- values -------------------------------------------------------------------------------------------------------


def _fields(value: Any) -> dict[str, Any]:
    return {field.name: _encode(getattr(value, field.name)) for field in fields(value)}


def _encode(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.value
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):
        return [_encode(part) for part in value]
    return _fields(value) if is_dataclass(value) else value


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _build(kind: type, plain: Mapping[str, Any]) -> Any:
    _same_keys(kind.__name__, {field.name for field in fields(kind)}, plain)
    return kind(**{name: _decode(_hints(kind)[name], value) for name, value in plain.items()})


def _same_keys(what: str, names: set[str], plain: Mapping[str, Any]) -> None:
    if names != plain.keys():
        differing = ", ".join(sorted(names ^ plain.keys()))
        raise LocalProtocolError(f"plain data of {what} differs from it in {differing}")


def _decode(hint: Any, plain: Any) -> Any:
    if plain is None or hint is None:
        return plain
    if get_origin(hint) in (Union, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not type(None))
    if get_origin(hint) is tuple:
        parts = get_args(hint)
        if parts[-1] is Ellipsis:
            return tuple(_decode(parts[0], value) for value in plain)
        return tuple(_decode(part, value) for part, value in zip(parts, plain, strict=True))
    if hint is Upgrade:
        request_id, version, stage = plain
        return Upgrade(request_id, version, Stage(stage))
    if hint is bytes:
        return bytes.fromhex(plain)
    if hint is date:
        return date.fromisoformat(plain)
    if is_dataclass(hint):
        return _build(hint, plain)  # type: ignore[arg-type]
    return hint(plain) if issubclass(hint, Enum) else plain
