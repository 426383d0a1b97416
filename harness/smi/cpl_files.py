"""The sheets of a CPL extract, from CSV, XLSX or YAML: rows of cells under the numbers that a spreadsheet shows."""

from __future__ import annotations

import csv
import datetime as dt
import io
import re
import struct
import warnings
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile, ZipFile

import openpyxl
import yaml
from openpyxl.utils.exceptions import InvalidFileException

from harness.errors import RigError

Cell: TypeAlias = str | int | float | bool | dt.date | dt.time | dt.timedelta | None
"""What a cell holds. A datetime is a date too. CSV and YAML have text only; an empty cell is None or ""."""

# What openpyxl has been seen to raise for a workbook that is damaged: it checks little of what it parses. Its XML
# errors are SyntaxErrors (xml.etree).
_DAMAGE = (
    ArithmeticError,
    AttributeError,
    BadZipFile,
    EOFError,
    InvalidFileException,
    LookupError,
    NotImplementedError,  # zipfile, for a compression that it does not know
    OSError,
    RuntimeError,  # zipfile, for a part with a password
    SyntaxError,
    TypeError,
    ValueError,
    struct.error,
    zlib.error,
)
_COMPOUND_FILE = bytes.fromhex("D0CF11E0A1B11AE1")
# A number shown with all its zeros (00000000, 0.00): what people see of the cell, and so what the list says.
_ZEROS = re.compile(r"(0+)(?:\.(0+))?$")
# In the XML of a sheet: the number of a row, and a cell whose formula has no result beside it. An empty text is one.
_ROW_NUMBER = re.compile(rb'<(?:\w+:)?row\b[^>]*?\sr="(\d+)"')
_NO_RESULT = re.compile(
    rb"<c\b(?![^>]*\st=\"str\")[^>]*?\sr=\"(\w+)\"[^>]*><f\b[^>]*(?:/>|>[^<]*</f>)(?:<v ?/>|<v></v>)?</c>"
)
_DELIMITERS = ",;\t"


@dataclass(frozen=True, slots=True)
class Sheet:
    """One table of a file. `rows` are (number, cells): the spreadsheet's row number, or the line of a YAML file."""

    name: str | None
    rows: Sequence[tuple[int, Sequence[Cell]]]
    letters: bool = True
    """Whether its columns have letters: those of a YAML file have not."""


@dataclass(frozen=True, slots=True)
class Tables:
    """The sheets of one file, and what is to be said of how it was read."""

    sheets: Sequence[Sheet]
    remarks: tuple[str, ...] = ()


def read_tables(path: Path) -> Tables:
    """Return the sheets of a file, by its suffix; RigError if it cannot be read as what it is called."""
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise RigError(
            f"{path}: a CPL extract is one of {', '.join(_READERS)}, not {path.suffix or 'a bare name'!r}"
        )
    return reader(path, _octets(path))


def read_mapping(path: Path) -> Mapping[str, str]:
    """Return a YAML file of `text: text`; RigError with the line for anything else."""
    return {key: value or "" for key, value, _ in _scalars(path, _compose(path, _octets(path)))}


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error


# --- CSV ----------------------------------------------------------------------------------------------------------


def _read_csv(path: Path, data: bytes) -> Tables:
    text, encoding = _decode(path, data)
    if "\0" in text:
        raise RigError(f"{path}: is not CSV: it has NUL octets (a workbook with the wrong suffix?)")
    delimiter = max(_DELIMITERS, key=text[: text.find("\n", 4096) + 1 or len(text)].count)
    lines = io.StringIO(text, newline="")
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    rows: list[tuple[int, Sequence[Cell]]] = []
    try:
        # A cell may hold line ends, so a row number, which is what a spreadsheet shows, is not always a line number.
        rows += enumerate(map(tuple, reader), start=1)
    except csv.Error as error:
        raise RigError(f"{path}: row {len(rows) + 1}, line {reader.line_num}: is not CSV: {error}") from None
    remarks = [f"read as {encoding}"]
    if delimiter != ",":
        remarks.append(f"its delimiter is {delimiter!r}")
    return Tables((Sheet(None, rows),), tuple(remarks))


def _decode(path: Path, data: bytes) -> tuple[str, str]:
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        try:
            return data.decode("utf-16"), "UTF-16, as Excel writes Unicode text"
        except UnicodeDecodeError as error:
            raise RigError(
                f"{path}: is not the UTF-16 text that it begins as (octet {error.start})"
            ) from None
    try:
        return data.decode("utf-8-sig"), "UTF-8"
    except UnicodeDecodeError:
        pass
    try:
        return data.decode("cp1252"), "Windows-1252, as Excel writes CSV: it is not UTF-8"
    except UnicodeDecodeError as error:
        raise RigError(
            f"{path}: is neither UTF-8 nor Windows-1252 text (octet {error.start} is 0x{data[error.start]:02X})"
        ) from None


# --- XLSX ---------------------------------------------------------------------------------------------------------


def _read_xlsx(path: Path, data: bytes) -> Tables:
    if data.startswith(_COMPOUND_FILE):
        raise RigError(f"{path}: is an old .xls or a workbook with a password: save it as a plain .xlsx")
    sheets, remarks = [], []
    try:
        _refuse_what_openpyxl_loses(path, data)
        with warnings.catch_warnings():
            # openpyxl warns of each extension that it leaves out (data validation, slicers): none is in a cell.
            warnings.simplefilter("ignore")
            book = openpyxl.load_workbook(io.BytesIO(data), read_only=True, data_only=True)
            for sheet in book.worksheets:
                if sheet.sheet_state != "visible":
                    remarks.append(f"the sheet {sheet.title!r} is hidden: not read")
                    continue
                sheets.append(Sheet(sheet.title, _rows(sheet)))
    except _DAMAGE as error:
        raise RigError(
            f"{path}: is not a workbook that can be read ({type(error).__name__}: {error})"
        ) from error
    return Tables(sheets, tuple(remarks))


def _refuse_what_openpyxl_loses(path: Path, data: bytes) -> None:
    """RigError for a row out of its order, which openpyxl leaves out, and a formula without a result: it reads None."""
    with ZipFile(io.BytesIO(data)) as archive:
        for part in archive.namelist():
            if not part.startswith("xl/worksheets/"):
                continue
            text = archive.read(part)
            last = 0
            for number in map(int, _ROW_NUMBER.findall(text)):
                if number <= last:
                    raise RigError(f"{path}: {part} has row {number} behind row {last}")
                last = number
            found = _NO_RESULT.search(text)
            if found is not None:
                raise RigError(
                    f"{path}: {part} has a formula without a result in {found[1].decode()}: "
                    "open the workbook in a spreadsheet and save it"
                )


def _rows(sheet: Any) -> list[tuple[int, Sequence[Cell]]]:
    # Some writers give a sheet the size A1, or an old one, and openpyxl would read no further than that.
    sheet.reset_dimensions()
    return [
        # As tuples: those of text and numbers alone cost the collector nothing.
        (number, tuple([_shown(cell) if cell.data_type == "n" else cell.value for cell in cells]))
        for number, cells in enumerate(sheet.iter_rows(), start=1)
    ]


def _shown(cell: Any) -> Cell:
    value: Cell = cell.value
    if type(value) is int or type(value) is float:
        zeros = _ZEROS.match(cell.number_format)
        if zeros is not None and value >= 0:
            places = len(zeros[2] or "")
            shown = f"{value:.{places}f}"
            if float(shown) == value:  # else it shows less than it holds
                return shown.zfill(len(zeros[0]))
    return value


# --- YAML ---------------------------------------------------------------------------------------------------------


def _read_yaml(path: Path, data: bytes) -> Tables:
    """A mapping with `rows`, a list of mappings from a column's header to its cell; other keys are for people."""
    node = _compose(path, data)
    lists = [value for key, value in node.value if key.value == "rows"]
    if len(lists) != 1 or not isinstance(lists[0], yaml.SequenceNode):
        raise RigError(f"{path}: rows: is missing, said twice, or is no list")
    entries = lists[0]
    header: dict[str, int] = {}
    found: list[tuple[int, dict[str, str | None]]] = []
    for entry in entries.value:
        cells: dict[str, str | None] = {}
        for key, value, line in _scalars(path, entry):
            if key in cells:
                raise RigError(f"{path}:{line}: {key}: is already in this row")
            header.setdefault(key, len(header))
            cells[key] = value
        found.append((entry.start_mark.line + 1, cells))
    table: list[tuple[int, Sequence[Cell]]] = [(entries.start_mark.line + 1, list(header))]
    table += ((line, [cells.get(name) for name in header]) for line, cells in found)
    return Tables((Sheet(None, table, letters=False),))


def _compose(path: Path, data: bytes) -> yaml.MappingNode:
    try:
        text = data.decode("utf-8")
        # The base loader leaves every scalar as it is written: 0x01000000 keeps its zeros, and a date its form.
        node = yaml.compose(text, yaml.BaseLoader)
    except UnicodeDecodeError as error:
        raise RigError(f"{path}: is not UTF-8 text (octet {error.start})") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise RigError(f"{where}: is not YAML: {error.problem or error.context}") from None
    except yaml.reader.ReaderError as error:
        raise RigError(f"{path}: is not YAML: {error.reason} at character {error.position}") from None
    except RecursionError:
        raise RigError(f"{path}: is not YAML that anybody writes: it is nested too deep") from None
    if not isinstance(node, yaml.MappingNode):
        raise RigError(f"{path}: is no mapping of keys to values")
    return node


def _scalars(path: Path, node: yaml.Node) -> Iterator[tuple[str, str | None, int]]:
    """Yield key, text (None for null; a list of texts joined by commas) and line of a mapping."""
    if not isinstance(node, yaml.MappingNode):
        raise RigError(f"{path}:{node.start_mark.line + 1}: is no mapping of columns to cells")
    for key, value in node.value:
        line = key.start_mark.line + 1
        parts = value.value if isinstance(value, yaml.SequenceNode) else [value]
        if not all(isinstance(part, yaml.ScalarNode) for part in (key, *parts)):
            raise RigError(f"{path}:{line}: {key.value}: is neither text nor a list of texts")
        plain_null = value.value in ("", "~", "null") and getattr(value, "style", None) is None
        yield key.value, None if plain_null else ", ".join(part.value for part in parts) or None, line


_READERS = {".csv": _read_csv, ".xlsx": _read_xlsx, ".yaml": _read_yaml, ".yml": _read_yaml}
