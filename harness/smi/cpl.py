"""Reads an extract of the Central Products List, checks it, and gives all of it or none.

An extract comes as people publish it and pass it on: CSV or XLSX, with the faults that such lists have had (F1.3). Each
is named by row and column, so that one reading of the message mends the list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from harness.errors import RigError
from harness.smi.cpl_checks import check_list
from harness.smi.cpl_columns import COLUMNS, NEEDED, fields_by_header, read_columns
from harness.smi.cpl_files import Cell, read_tables
from harness.smi.cpl_sheet import Fault, Findings, read_sheet
from harness.smi.firmware_table import CplRow

__all__ = ["Cpl", "CplError", "Fault", "read_columns", "read_cpl"]

_NO_COLUMNS: Mapping[str, str] = MappingProxyType({})


class CplError(RigError):
    """A list that is not loaded: its message has a line `FILE: FAULT` for each of its `faults`, in the file's order."""

    def __init__(self, path: Path, faults: Sequence[Fault]) -> None:
        super().__init__("\n".join(f"{path}: {fault}" for fault in faults))
        self.path = path
        self.faults = tuple(faults)


@dataclass(frozen=True, slots=True)
class Cpl:
    """A list without faults. `rows` are in the file's order; `remarks` say what was skipped, trimmed or is unusual.

    `entries` has the row of each CPL Entry ID; `unknown` the cells, one a row, of each column that is no field of one.
    """

    rows: tuple[CplRow, ...]
    remarks: tuple[str, ...]
    entries: Mapping[str, CplRow]
    unknown: Mapping[str, tuple[Cell, ...]]


def read_cpl(path: Path, *, columns: Mapping[str, str] = _NO_COLUMNS) -> Cpl:
    """Read an extract of the CPL: .csv, .xlsx or .yaml. `columns` adds headers: `{"Our hash": "image_hash"}`.

    CplError names every fault of the list; another RigError says that the file is not what its suffix calls it.
    """
    known = fields_by_header(columns)
    tables = read_tables(path)
    findings = Findings(list(tables.remarks))
    for sheet in tables.sheets:
        read_sheet(sheet, known, findings)
    if not findings.headers:
        names = ", ".join(repr(COLUMNS[needed][0]) for needed in NEEDED)
        raise CplError(
            path, [Fault(None, None, None, None, None, f"has no header of a CPL, which has {names}")]
        )
    check_list(findings)
    if not findings.rows and not findings.faults:
        # Loaded, it would suspend every Device.
        raise CplError(
            path, [Fault(None, None, None, None, None, "has a header of a CPL and no row under it")]
        )
    if findings.faults:
        findings.faults.sort(key=lambda placed: placed[0])
        raise CplError(path, [fault for _, fault in findings.faults])
    return _loaded(findings)


def _loaded(findings: Findings) -> Cpl:
    rows, entries = [], {}
    for read in findings.rows:
        values = read.values
        row = CplRow(
            device_type=values["device_type"],
            manufacturer=values["manufacturer"],
            model=values["model"],
            hardware_version=values.get("hardware_version"),
            firmware_version=values["firmware_version"],
            smets=values["smets"],
            smets_version=values["smets_version"],
            gbcs_version=values.get("gbcs_version"),
            image_hash=values["image_hash"],
            status=values["status"],
            expiry=values.get("expiry"),
            predecessors=values.get("predecessors", ()),
            row=read.number,
        )
        rows.append(row)
        if "entry_id" in values:
            entries[values["entry_id"]] = row
    return Cpl(tuple(rows), tuple(findings.remarks), entries, _unknown(findings))


def _unknown(findings: Findings) -> dict[str, tuple[Cell, ...]]:
    columns = [
        {column.header: column for column in header.columns if column.field is None}
        for header in findings.headers
    ]
    return {
        name: tuple(
            read.cell(columns[read.header.order][name]) if name in columns[read.header.order] else None
            for read in findings.rows
        )
        for name in dict.fromkeys(name for of_sheet in columns for name in of_sheet)
    }
