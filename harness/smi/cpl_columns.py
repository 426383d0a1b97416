"""The columns of a CPL extract: which headers mean which field.

The column list of the CPL Requirements Document is not public (F1.3), so all these names are assumed: they are what
such lists can be expected to say. `read_cpl` takes more by argument.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from harness.errors import LocalProtocolError, RigError
from harness.smi.cpl_files import Cell, read_mapping

# Field: the headers that mean it, the first being what a fault calls it. Case, spaces and punctuation do not count.
COLUMNS: Mapping[str, tuple[str, ...]] = {
    "entry_id": ("CPL Entry ID", "Entry ID", "CPL ID", "CPL Entry", "CPL Reference"),
    "device_type": ("Device Type", "Type", "Type of Device"),
    "manufacturer": (
        "Manufacturer", "Manufacturer Name", "Device Manufacturer", "Manufacturer ID", "Manufacturer Identifier",
    ),
    "model": ("Model", "Model Name", "Device Model", "Model ID", "Model Identifier", "Model Number"),
    "hardware_version": (
        "Hardware Version", "HW Version", "Hardware Version Number", "Hardware Revision", "Hardware",
    ),
    "firmware_version": (
        "Firmware Version", "FW Version", "Firmware Version Number", "Device Firmware Version", "Firmware",
    ),
    "smets": ("SMETS", "SMETS Family", "SMETS Generation", "SMETS1 or SMETS2", "SMETS1/SMETS2+"),
    "smets_version": (
        "SMETS Version", "SMETS/CHTS Version", "SMETS CHTS Version", "SMETS Version Number",
        "SMETS/CHTS Version Number", "SMETS or CHTS Version", "Technical Specification Version",
    ),
    "gbcs_version": ("GBCS Version", "GBCS", "GBCS Version Number"),
    "image_hash": (
        "Manufacturer Image Hash", "Image Hash", "Firmware Hash", "Firmware Image Hash", "Hash", "Hash (SHA-256)",
    ),
    "status": ("Status", "CPL Status", "Entry Status", "Firmware Version Status"),
    "start": ("Start Date", "Start", "Valid From", "Effective From", "Date Added", "CPL Entry Date"),
    "expiry": ("Expiry Date", "Expiry", "Expires", "Valid To", "Valid Until", "End Date", "CPL Expiry Date"),
    "certificate_start": (
        "Certificate Start Date", "CPA Certificate Start Date", "CPA Certificate Date", "CPA Start Date",
    ),
    "certificate_expiry": (
        "Certificate Expiry Date", "CPA Certificate Expiry Date", "CPA Certificate Expiry", "CPA Expiry Date",
        "Certificate Expiry",
    ),
    "predecessors": (
        "Predecessors", "Predecessor", "Predecessor CPL Entry ID(s)", "Predecessor CPL Entry IDs",
        "Predecessor CPL Entry ID", "Predecessor Entries", "CPL Entry ID(s) of Predecessors",
    ),
}  # fmt: skip

NEEDED = (
    "device_type", "manufacturer", "model", "firmware_version", "smets_version", "image_hash", "status",
)  # fmt: skip

_NO_LETTERS = re.compile(r"[\W_]+")
# Above its header a published list has a title, a version and a date, or nothing.
_ROWS_TO_LOOK_AT = 30


def _plain(header: str) -> str:
    return _NO_LETTERS.sub("", header).casefold()


_FIELDS = {_plain(name): field for field, names in COLUMNS.items() for name in names}


def read_columns(path: Path) -> dict[str, str]:
    """Read a mapping file, YAML of `header: field`, for `read_cpl`; RigError for what is not the name of a field."""
    columns = dict(read_mapping(path))
    wrong = [
        f"{path}: {header}: {_no_field(field)}" for header, field in columns.items() if field not in COLUMNS
    ]
    if wrong:
        raise RigError("\n".join(wrong))
    return columns


def fields_by_header(added: Mapping[str, str]) -> Mapping[str, str]:
    """Return the field of each known header, in its plain form; the added ones come before the table's."""
    for field in added.values():
        if field not in COLUMNS:
            raise LocalProtocolError(_no_field(field))
    return _FIELDS | {_plain(header): field for header, field in added.items()}


def find_header(rows: Sequence[tuple[int, Sequence[Cell]]], known: Mapping[str, str]) -> int | None:
    """Return the index of the header: the first row in which two cells are known headers. None if there is none."""
    for index, (_, cells) in enumerate(rows[:_ROWS_TO_LOOK_AT]):
        if len({field for cell in cells if (field := field_of(cell, known))}) >= 2:
            return index
    return None


def field_of(cell: Cell, known: Mapping[str, str]) -> str | None:
    """Return the field that a cell of the header names, or None."""
    return known.get(_plain(cell)) if isinstance(cell, str) else None


def _no_field(field: str) -> str:
    return f"{field!r} is no field of a CPL row ({', '.join(COLUMNS)})"
