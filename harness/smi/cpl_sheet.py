"""One sheet of a CPL extract: its header, and each row under it, cell by cell."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from openpyxl.utils import get_column_letter

from harness.smi.cpl_columns import COLUMNS, NEEDED, field_of, find_header
from harness.smi.cpl_files import Cell, Sheet
from harness.smi.cpl_values import READERS, Wrong, says_nothing

_LONGEST_SHOWN = 140  # a hash with a separator between all its digits
_MOST_ROWS_NAMED = 5


@dataclass(frozen=True, slots=True)
class Fault:
    """One fault of a list: where it stands, as the spreadsheet shows it, what stands there and what is wrong with it.

    `row` is the line in YAML, and None for a fault of the whole file; `column` is a header, and None for a fault of the
    whole row; `letter` is the column's, None in YAML. `right` is what would be right, where that is obvious.
    """

    sheet: str | None
    row: int | None
    column: str | None
    letter: str | None
    value: Cell
    text: str
    right: str | None = None

    def __str__(self) -> str:
        where = [] if self.sheet is None else [f"sheet {self.sheet!r}"]
        where += [] if self.row is None else [f"row {self.row}"]
        if self.column is not None:
            where.append(" ".join(("column", *filter(None, (self.letter, repr(self.column))))))
        value = "" if self.value is None else f"{shown(self.value)} "
        right = "" if self.right is None else f"; {self.right!r} would be right"
        return f"{', '.join(where)}{': ' if where else ''}{value}{self.text}{right}"


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a sheet; `field` is None for one that is unknown."""

    index: int
    header: str
    letter: str | None
    field: str | None


@dataclass(frozen=True, slots=True)
class Header:
    """The header of a sheet, which is the file's `order`th that has one."""

    order: int
    sheet: str | None
    row: int
    columns: Sequence[Column]
    fields: Mapping[str, Column]


@dataclass(frozen=True, slots=True)
class Row:
    """One row as it was read: `values` has the fields that say something, `wrong` those whose cell is at fault."""

    header: Header
    number: int
    cells: Sequence[Cell]
    values: dict[str, Any]
    wrong: set[str]

    def cell(self, column: Column) -> Cell:
        """Return the cell of a column."""
        return self.cells[column.index] if column.index < len(self.cells) else None

    def shown(self, name: str) -> str:
        """Return the cell of a field, for a message."""
        column = self.header.fields.get(name)
        return "nothing" if column is None else shown(self.cell(column))

    @property
    def place(self) -> str:
        """Where the row stands, for a message about another one."""
        return (
            f"row {self.number}"
            if self.header.sheet is None
            else f"row {self.number} of {self.header.sheet!r}"
        )


@dataclass(slots=True)
class Findings:
    """What was found in a file so far: rows, faults with the place to sort them by, and remarks."""

    remarks: list[str]
    headers: list[Header] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    faults: list[tuple[tuple[int, int, int], Fault]] = field(default_factory=list)
    # A list repeats itself: most cells of a column were read before. By type too, since 1 == 1.0 == True.
    seen: dict[str, dict[tuple[type, Cell], Any]] = field(
        default_factory=lambda: {name: {} for name in READERS}
    )

    def fault(self, row: Row, name: str, text: str, right: str | None = None) -> None:
        """Note a fault of a field of a row, or of the whole row where its sheet has no such column."""
        column = row.header.fields.get(name)
        if column is None:
            self.fault_at(row.header, row.number, -1, None, None, None, text, right)
            return
        cell = row.cell(column)
        value = None if cell == "" else cell
        self.fault_at(row.header, row.number, column.index, column.header, column.letter, value, text, right)

    def fault_at(
        self,
        header: Header,
        row: int,
        index: int,
        column: str | None,
        letter: str | None,
        value: Cell,
        text: str,
        right: str | None = None,
    ) -> None:
        """Note a fault of the cell at `index` of a row; -1 for the row's own."""
        found = Fault(header.sheet, row, column, letter, value, text, right)
        self.faults.append(((header.order, row, index), found))

    def remark(self, sheet: str | None, text: str) -> None:
        """Note what is no fault."""
        self.remarks.append(text if sheet is None else f"sheet {sheet!r}: {text}")


def shown(cell: Cell) -> str:
    """Return a cell for a message."""
    if cell is None or cell == "":
        return "nothing"
    text = repr(cell) if isinstance(cell, str | float | int) else str(cell)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}... ({len(text)} characters)"


def named(rows: Sequence[int]) -> str:
    """Return row numbers for a message: the first of them, and how many more."""
    first = ", ".join(map(str, rows[:_MOST_ROWS_NAMED]))
    more = f" and {len(rows) - _MOST_ROWS_NAMED} more" if len(rows) > _MOST_ROWS_NAMED else ""
    return f"row{'s' if len(rows) > 1 else ''} {first}{more}"


def read_sheet(sheet: Sheet, known: Mapping[str, str], findings: Findings) -> None:
    """Add what stands under a sheet's header to the findings. One without a header is for people, and not read."""
    at = find_header(sheet.rows, known)
    if at is None:
        if sheet.name is not None:
            findings.remark(sheet.name, "has no header of a CPL: not read")
        return
    if any(not _is_empty(cell) for _, cells in sheet.rows[:at] for cell in cells):
        findings.remark(sheet.name, "what stands above the header is not read")
    header = _read_header(sheet, at, known, findings)
    under_none = _under_no_header(header)
    blank: list[int] = []
    trimmed: dict[str, list[int]] = defaultdict(list)
    for number, cells in sheet.rows[at + 1 :]:
        if all(map(_is_empty, cells)):
            blank.append(number)
            continue
        row = Row(header, number, cells, {}, set())
        _read_cells(row, findings, trimmed)
        for index in (*under_none, *range(_width(header), len(cells))):
            if index < len(cells) and not _is_empty(cells[index]):
                letter = get_column_letter(index + 1)
                findings.fault_at(header, number, index, "", letter, cells[index], "stands under no header")
        findings.rows.append(row)
    if blank:
        findings.remark(sheet.name, f"{named(blank)}: blank, skipped")
    for name, numbers in trimmed.items():
        findings.remark(
            sheet.name, f"column {name!r}: spaces ahead or behind are left out in {named(numbers)}"
        )


def _is_empty(cell: Cell) -> bool:
    return cell is None or (type(cell) is str and not cell.strip())


def _width(header: Header) -> int:
    return header.columns[-1].index + 1


def _under_no_header(header: Header) -> tuple[int, ...]:
    named_ones = {column.index for column in header.columns}
    return tuple(index for index in range(_width(header)) if index not in named_ones)


def _read_header(sheet: Sheet, at: int, known: Mapping[str, str], findings: Findings) -> Header:
    number, cells = sheet.rows[at]
    columns: list[Column] = []
    fields: dict[str, Column] = {}
    header = Header(len(findings.headers), sheet.name, number, columns, fields)
    findings.headers.append(header)
    for index, cell in enumerate(cells):
        if _is_empty(cell):
            continue
        letter = get_column_letter(index + 1) if sheet.letters else None
        column = Column(index, " ".join(str(cell).split()), letter, field_of(cell, known))
        columns.append(column)
        if column.field is None:
            continue
        first = fields.setdefault(column.field, column)
        if first is not column:
            text = f"means the same as {first.header!r}"
            findings.fault_at(header, number, index, column.header, letter, None, text)
    for needed in NEEDED:
        if needed not in fields:
            name, *others = COLUMNS[needed]
            text = f"is missing; it may also be called {', '.join(map(repr, others))}"
            findings.fault_at(header, number, -1, name, None, None, text)
    unknown = [column for column in columns if column.field is None]
    if unknown:
        names = (" ".join(filter(None, (column.letter, repr(column.header)))) for column in unknown)
        findings.remark(sheet.name, f"unknown columns: {', '.join(names)}")
    return header


def _read_cells(row: Row, findings: Findings, trimmed: dict[str, list[int]]) -> None:
    cells, values = row.cells, row.values
    width = len(cells)
    for name, column in row.header.fields.items():
        cell = cells[column.index] if column.index < width else None
        if type(cell) is str:
            stripped = cell.strip()
            if stripped != cell and stripped:
                trimmed[column.header].append(row.number)
            cell = stripped or None
        if cell is None:
            if name in NEEDED:
                row.wrong.add(name)
                findings.fault(row, name, "is empty")
            continue
        seen = findings.seen[name]
        key = (type(cell), cell)
        try:
            value = seen[key]
        except KeyError:
            nothing = name not in NEEDED and says_nothing(cell)
            value = seen[key] = None if nothing else READERS[name](cell)
        if type(value) is Wrong:
            row.wrong.add(name)
            findings.fault(row, name, value.text, value.right)
        elif value is not None:
            values[name] = value
