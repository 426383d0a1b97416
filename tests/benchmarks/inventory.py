"""What the Inventory costs: over a bare dict that is updated, and a CPL that is checked over one that is only read."""

from __future__ import annotations

import gc
import itertools
from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory
from typing import Any

import openpyxl

from harness.smi.cpl import read_cpl
from harness.smi.devices import DeviceType, SmetsFamily
from harness.smi.firmware_table import CplRow, CplStatus
from harness.smi.inventory import Inventory
from harness.smi.requests import PreNotifyDevice, User, UserRole
from harness.smi.responses import (
    ActivationOutcome,
    CplLoaded,
    DeviceCommissioned,
    DeviceLogUpdated,
    FirmwareActivated,
    FirmwareVersionRead,
)
from tests.benchmarks.measure import Figure, Seconds, Stopwatch, best_of, resident_bytes, timed
from tests.unit.cpl_lists import cpl_rows, make_cpl

DEVICES = 100_000
EVENTS = 1_000_000
PER_HUB = 10  # ESMEs at one hub, more than any has: hubs are no part of what is measured
MEMORY_LIMIT = 4 * 1024  # octets a Device
EVENT_ROUNDS = 3
CPL_ROWS = 20_000
CPL_ROUNDS = 3

_V1, _V2, _V9 = 0x0100, 0x0200, 0x0900
_HUB, _METER = 0x000D_6F00_0A00_0000, 0x000D_6F00_0B00_0000
_USER = User(UserRole.IS)


def _row(kind: DeviceType, model: str, version: int) -> CplRow:
    return CplRow(
        kind, "Acme", model, None, version, SmetsFamily.SMETS2, "5.1", "4.1", bytes(32), CplStatus.ACTIVE
    )  # fmt: skip


def _commissioned() -> Inventory:
    """Return an Inventory of meters that run V1, where V1 and V2 are on the CPL and V9 is not."""
    inventory = Inventory()
    rows = (
        _row(DeviceType.CHF, "Hub", _V1),
        _row(DeviceType.ESME, "ESME", _V1),
        _row(DeviceType.ESME, "ESME", _V2),
    )
    inventory.apply(CplLoaded("CPL 1", rows), 0.0)
    for hub in range(_HUB, _HUB + DEVICES // PER_HUB):
        inventory.apply(
            PreNotifyDevice(_USER, hub, DeviceType.CHF, "Acme", "Hub", SmetsFamily.SMETS2, _V1), 1.0
        )
    for number in range(DEVICES):
        meter, hub = _METER + number, _HUB + number // PER_HUB
        inventory.apply(
            PreNotifyDevice(_USER, meter, DeviceType.ESME, "Acme", "ESME", SmetsFamily.SMETS2, _V1), 1.0
        )
        inventory.apply(DeviceLogUpdated(hub, meter, True), 2.0)
        inventory.apply(DeviceCommissioned(meter), 3.0)
    return inventory


def _responses() -> list[FirmwareVersionRead | FirmwareActivated]:
    """Return responses in random order: some change the version, some suspend and restore, some say what is known."""
    chance = Random(105)
    read = FirmwareVersionRead
    made: list[FirmwareVersionRead | FirmwareActivated] = []
    for _ in range(EVENTS):
        meter = _METER + chance.randrange(DEVICES)
        draw = chance.random()
        if draw < 0.35:
            made.append(read(meter, _V1))
        elif draw < 0.60:
            made.append(read(meter, _V2))
        elif draw < 0.85:
            made.append(FirmwareActivated(meter, ActivationOutcome.SUCCESS, _V2))
        else:
            made.append(read(meter, _V9))  # no row of the CPL: Suspended until another version comes back
    return made


def inventory_over_dict() -> Figure:
    """Events a second that an Inventory takes, over those that a bare dict does; and its memory a Device."""
    events = _responses()
    before = resident_bytes()
    inventory = _commissioned()
    built = resident_bytes() - before
    # What is there stays there: a collector that looks through it again and again is no part of either side.
    gc.freeze()
    versions = dict.fromkeys(range(_METER, _METER + DEVICES), _V1)
    times = itertools.count(10.0)

    def apply() -> Seconds:
        return timed(lambda: _apply_all(inventory, events, next(times)))

    def update() -> Seconds:
        return timed(lambda: _update_all(versions, events))

    changed = _changing(events)
    by_inventory, by_dict = best_of(EVENT_ROUNDS, apply, update)
    grown = resident_bytes() - before
    each = grown / DEVICES
    if any(inventory.device(meter).firmware_version != versions[meter] for meter in versions):
        raise AssertionError("the Inventory and the dict have not ended with the same versions")
    if each > MEMORY_LIMIT:
        raise AssertionError(f"{each / 1024:.2f} KiB a Device, of at most {MEMORY_LIMIT / 1024:g} KiB")
    return Figure(
        by_dict.cpu / by_inventory.cpu,
        f"{EVENTS / by_inventory.cpu:,.0f} events/s on {DEVICES:,} Devices ({changed:.0%} change something) over "
        f"{EVENTS / by_dict.cpu:,.0f} dict updates/s; {each / 1024:.2f} KiB a Device with its history after "
        f"{EVENT_ROUNDS * EVENTS:,} events, {built / DEVICES / 1024:.2f} KiB commissioned",
    )


def _apply_all(inventory: Inventory, events: list[Any], now: float) -> None:
    apply = inventory.apply
    for event in events:
        apply(event, now)


def _update_all(versions: dict[int, int], events: list[Any]) -> None:
    for event in events:
        versions[event.device] = event.firmware_version


def _changing(events: list[Any]) -> float:
    """Return the share of events that change a version: half of them at least, or the row would flatter."""
    versions: dict[int, int] = {}
    changing = 0
    for event in events:
        changing += versions.get(event.device, _V1) != event.firmware_version
        versions[event.device] = event.firmware_version
    share = changing / len(events)
    if share < 0.5:
        raise AssertionError(f"only {share:.0%} of the events change something")
    return share


def cpl_over_reader() -> Figure:
    """The CPU time of loading and checking a CPL as XLSX, over openpyxl alone reading all of its cells."""
    with TemporaryDirectory() as folder:
        path = make_cpl(Path(folder) / "cpl.xlsx", cpl_rows(CPL_ROWS))

        def check() -> Seconds:
            watch = Stopwatch()
            watch.start()
            loaded = read_cpl(path)
            watch.stop()
            assert len(loaded.rows) == CPL_ROWS
            return watch.taken

        def read() -> Seconds:
            watch = Stopwatch()
            watch.start()
            book = openpyxl.load_workbook(path, read_only=True, data_only=True)
            cells = sum(len(row) for row in book["CPL"].iter_rows(values_only=True))
            book.close()
            watch.stop()
            assert cells == (CPL_ROWS + 1) * 14
            return watch.taken

        checked, alone = best_of(CPL_ROUNDS, check, read)
    return Figure(
        checked.cpu / alone.cpu,
        f"{CPL_ROWS:,} rows: {checked.cpu:.2f} s of processor time to load and check, openpyxl alone {alone.cpu:.2f} s",
    )
