"""CPL extracts for tests: rows that are right, and files that are written of them with whatever fault a test gives."""

from __future__ import annotations

import csv
import hashlib
import io
from pathlib import Path
from typing import Any

import openpyxl
from openpyxl.cell import WriteOnlyCell

HEADERS = (
    "CPL Entry ID",
    "Device Type",
    "Manufacturer",
    "Model",
    "Hardware Version",
    "Firmware Version",
    "SMETS Family",
    "SMETS/CHTS Version",
    "GBCS Version",
    "Manufacturer Image Hash",
    "Status",
    "Start Date",
    "Expiry Date",
    "Predecessors",
)


def image_hash(text: str) -> str:
    """Return the hash of an image that nobody has."""
    return hashlib.sha256(text.encode()).hexdigest()


def cpl_row(number: int, **changed: Any) -> dict[str, Any]:
    """Return a row that is right, the `number`th of its list; `changed` has spaces as underscores: Device_Type."""
    row: dict[str, Any] = {
        "CPL Entry ID": f"CPL-{number}",
        "Device Type": "PPMID",
        "Manufacturer": "Harness",
        "Model": f"PPMID {number}",
        "Hardware Version": "1111",
        "Firmware Version": "09030A07",
        "SMETS Family": "SMETS2",
        "SMETS/CHTS Version": "4.2",
        "GBCS Version": "4.1",
        "Manufacturer Image Hash": image_hash(f"image {number}"),
        "Status": "Active",
        "Start Date": "2025-11-30",
        "Expiry Date": "2031-11-30",
        "Predecessors": "N/A",
    }
    for name, value in changed.items():
        header = {"SMETS_Version": "SMETS/CHTS Version", "Hash": "Manufacturer Image Hash"}.get(
            name, name.replace("_", " ")
        )
        row[header] = value
    return row


def cpl_rows(count: int, **of_second: Any) -> list[dict[str, Any]]:
    """Return rows that are right, but for what the second of them has: row 3 of a file."""
    return [cpl_row(number, **(of_second if number == 2 else {})) for number in range(1, count + 1)]


def make_cpl(
    path: Path,
    rows: list[dict[str, Any]],
    *,
    encoding: str = "utf-8",
    delimiter: str = ",",
    above: list[list[Any]] | None = None,
    formats: dict[str, str] | None = None,
) -> Path:
    """Write a list as CSV or XLSX, by the suffix; its header has every key of its rows. Row 2 is the first of them.

    `above` stands ahead of the header; `formats` are the number formats of columns of an XLSX.
    """
    headers = list(dict.fromkeys([*HEADERS, *(key for row in rows for key in row)]))
    headers = [header for header in headers if any(header in row for row in rows)]
    table = [*(above or []), headers, *([row.get(header) for header in headers] for row in rows)]
    if path.suffix == ".csv":
        text = io.StringIO(newline="")
        csv.writer(text, delimiter=delimiter).writerows(table)
        path.write_bytes(text.getvalue().encode(encoding))
        return path
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("CPL")
    for cells in table:
        written = []
        for header, value in zip(headers, cells, strict=False):
            cell = WriteOnlyCell(sheet, value)
            if formats and header in formats and isinstance(value, int | float):
                cell.number_format = formats[header]
            written.append(cell)
        sheet.append(written)
    book.save(path)
    return path
