"""Reads an Inventory for the commands that ask about one: from a snapshot, a log of events, or the lab's database."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from harness.errors import HarnessError, RigError
from harness.smi.inventory import Inventory
from harness.smi.plain import SCHEMA, event_from_plain, from_plain

_T = TypeVar("_T")

_YEAR_10000 = 253_402_300_800  # POSIX seconds: what no date can say any more

SOURCE_HELP = (
    "A snapshot (JSON), a log of events (JSON lines: a snapshot may come first, each other line is "
    '{"at": POSIX seconds, "event": {...}}), or the URL of a database (sqlite:///bench.db).'
)


def read_inventory(source: str, name: str | None = None) -> Inventory:
    """Return the Inventory of a file or a database; `name` is which one of a database that has several.

    RigError for what cannot be read, with the file and the line.
    """
    if "://" in source:
        return _from_database(source, name)
    if name is not None:
        raise RigError(f"{source}: is a file, which has one Inventory and no name for it ({name})")
    path = Path(source)
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RigError(f"{path}: is no text in UTF-8 (octet {error.start})") from error
    try:
        whole = json.loads(text)
    except ValueError:
        return _from_lines(path, text)
    # A log of one line is one JSON value, too.
    return _snapshot(str(path), whole) if _is_snapshot(whole) else _from_lines(path, text)


def _from_lines(path: Path, text: str) -> Inventory:
    inventory: Inventory | None = None
    events: list[tuple[str, Any, Any]] = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        place = f"{path}:{number}"
        try:
            plain = json.loads(line)
        except ValueError as error:
            raise RigError(f"{place}: is no JSON ({error})") from error
        if _is_snapshot(plain):
            if inventory is not None or events:
                raise RigError(f"{place}: a snapshot stands at the head of a log or nowhere")
            inventory = _snapshot(place, plain)
            continue
        if not isinstance(plain, dict) or plain.keys() != {"at", "event"}:
            raise RigError(f'{place}: is no {{"at": ..., "event": ...}}, and no snapshot of an Inventory')
        events.append((place, plain["at"], plain["event"]))
    if inventory is None and not events:
        raise RigError(f"{path}: has no event of an Inventory")
    return _applied(inventory or Inventory(), events)


def _from_database(url: str, name: str | None) -> Inventory:
    from harness.store.store import Store

    # A store that is not there would be made: whoever only asks does not want one.
    file = url.partition(":///")[2]
    if url.startswith("sqlite:") and not Path(file).is_file():
        raise RigError(f"{url}: there is no such file")
    with Store(url) as store:
        names = store.inventories()
        if name is None:
            if len(names) != 1:
                raise RigError(
                    f"{store.name}: has {len(names)} Inventories: --name one of {', '.join(names) or 'none'}"
                )
            (name,) = names
        kept = store.kept(name)
        place = f"{store.name}: Inventory {name}"
    inventory = Inventory() if kept.snapshot is None else _snapshot(place, kept.snapshot)
    return _applied(inventory, [(place, at, event) for at, event in kept.events])


def _applied(inventory: Inventory, events: Iterable[tuple[str, Any, Any]]) -> Inventory:
    for place, at, plain in events:
        if isinstance(at, bool) or not isinstance(at, int | float) or not 0 <= at < _YEAR_10000:
            raise RigError(f"{place}: {at!r} is no time in POSIX seconds")
        _read(place, partial(_apply, inventory, float(at)), plain)
    return inventory


def _apply(inventory: Inventory, at: float, plain: Mapping[str, Any]) -> None:
    inventory.apply(event_from_plain(plain), at)


def _snapshot(place: str, plain: Mapping[str, Any]) -> Inventory:
    return _read(place, from_plain, plain)


def _is_snapshot(plain: object) -> bool:
    return isinstance(plain, dict) and str(plain.get("schema", "")).startswith(SCHEMA.partition("/")[0])


def _read(place: str, reader: Callable[[Any], _T], plain: object) -> _T:
    """Read plain data. Its reader trusts the types of what JSON holds; a file that people edited may have any."""
    try:
        return reader(plain)
    except HarnessError as error:
        raise RigError(f"{place}: {error}") from error
    except (AttributeError, LookupError, TypeError, ValueError) as error:
        raise RigError(f"{place}: is no plain data of an Inventory ({error})") from error
