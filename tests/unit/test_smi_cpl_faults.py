"""Tests of the faults of CPL extracts: each is named by row and column, all of them at once, and nothing is loaded."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import openpyxl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import RigError
from harness.smi.cpl import CplError, Fault, read_cpl
from tests.unit.cpl_lists import cpl_row, cpl_rows, image_hash, make_cpl

HASH = image_hash("image")
LETTERS = dict(zip(cpl_row(1), "ABCDEFGHIJKLMN", strict=True))
COLUMN = {"SMETS_Version": "SMETS/CHTS Version", "Hash": "Manufacturer Image Hash"}


def faults_of(path: Path) -> tuple[Fault, ...]:
    """Return the faults of a list that has some."""
    with pytest.raises(CplError) as raised:
        read_cpl(path)
    assert str(raised.value).splitlines() == [f"{path}: {fault}" for fault in raised.value.faults]
    return raised.value.faults


# Field, cell of row 3, what is wrong with it, what would be right. As text, so CSV and XLSX alike.
TEXTS = [
    ("Hash", HASH[:-1] + "g", "is not hexadecimal: character 64 is 'g'", None),
    ("Hash", "O" + HASH[1:], "is not hexadecimal: character 1 is 'O', a letter and no zero", None),
    ("Hash", HASH[:-1], "has 63 hexadecimal digits: a SHA-256 has 64", None),
    ("Hash", HASH[:40], "has 40 hexadecimal digits, as SHA-1 has: a SHA-256 has 64", None),
    ("Hash", HASH + "00", "has 66 hexadecimal digits: a SHA-256 has 64", None),
    ("Hash", "7.54E+63", "is a number that a spreadsheet has rounded: the digits of the hash are lost", None),
    ("Hash", "00" * 32, "is a place holder: all zeros are the hash of no image", None),
    ("Hash", image_hash(""), "is the SHA-256 of nothing: it was made of an empty file", None),
    ("Hash", "#N/A", "is the error of an Excel formula", None),
    ("Firmware_Version", "v1.2", "is not four pairs of digits", None),
    ("Firmware_Version", "G9030A07", "is no firmware version: it is not hexadecimal", None),
    ("Firmware_Version", "1.003E+07", "is a number that a spreadsheet has rounded", None),
    ("Firmware_Version", "10030807.0", "is a number to a spreadsheet", "10030807"),
    ("Firmware_Version", "1040605", "has 7 digits, not 8", "01040605"),
    ("Firmware_Version", "268634119", "is a firmware version in decimal", "10030807"),
    ("Firmware_Version", "109030A07", "has 9 digits, not the 8 of a firmware version", None),
    ("Firmware_Version", "10.3.8.7", "has two readings: 10030807 as BCD, 0A030807 as hexadecimal", None),
    ("Expiry_Date", "31/02/2031", "is no day of the calendar", None),
    ("Expiry_Date", "01/03/31", "has a year of two digits", "01/03/2031"),
    ("Expiry_Date", "12/31/2031", "has its month first", "31/12/2031"),
    ("Expiry_Date", "46082", "is a number, and so no date until somebody formats it as one", "2026-03-01"),
    ("Expiry_Date", "2031", "is no date (2027-03-31, 31/03/2027)", None),
    ("Expiry_Date", "1900-01-01", "is before 2000", None),
    ("Expiry_Date", "1 Mai 2031", "is no date: 'Mai' is no month", None),
    ("Expiry_Date", "2025-11-29", "is before its 'Start Date', 2025-11-30", None),
    ("SMETS_Family", "SMETS1", "does not match '4.2', which is a version of SMETS2", None),
    ("SMETS_Family", "SMETS3", "is no SMETS family (SMETS1, SMETS2)", None),
    ("SMETS_Version", "four", "is no SMETS or CHTS version", None),
    ("GBCS_Version", "latest", "is no GBCS version", None),
    ("Device_Type", "IHD", "has no rows on the CPL: IHD is not a device type of it", None),
    ("Device_Type", "CAD", "has no rows on the CPL", None),
    ("Device_Type", "PPIMD", "is no device type of the CPL (ESME, GSME, CHF, HCALCS, PPMID)", "PPMID"),
    ("Status", "Canceled", "is no status (Active, Cancelled, Expired, Withdrawn)", "Cancelled"),
    ("Status", "Live", "is no status", None),
    ("Model", "P" * 31, "has 31 characters, 30 are the most", None),
    ("Model", "PPMID\u200b 2", "has the character U+200B, which nobody sees or means", "PPMID 2"),
    ("Manufacturer", "Harness  Ltd", "has two spaces together", "Harness Ltd"),
    ("Predecessors", "CPL-9", "names 'CPL-9', which the list does not have", None),
    ("Predecessors", "CPL-2", "names 'CPL-2', which has this row among its own predecessors", None),
    ("Predecessors", "CPL-1", "names 'CPL-1', which is another model's: row 2", None),
    ("CPL_Entry_ID", "CPL-1", "is the entry of row 2", None),
]


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@pytest.mark.parametrize(("field", "cell", "wrong", "right"), TEXTS)
def test_a_fault_is_named_by_row_and_column(tmp_path, suffix, field, cell, wrong, right):
    """One fault in row 3 of four, and the message says where it is, what stands there, what is wrong and what not."""
    path = make_cpl(tmp_path / f"list{suffix}", cpl_rows(3, **{field: cell}))
    (fault,) = faults_of(path)
    header = COLUMN.get(field, field.replace("_", " "))
    sheet = "CPL" if suffix == ".xlsx" else None
    assert (fault.sheet, fault.row, fault.column, fault.letter) == (sheet, 3, header, LETTERS[header])
    assert (fault.value, fault.right) == (cell, right)
    assert wrong in fault.text


# As the cells of a spreadsheet hold them: what Excel made of a text.
CELLS = [
    ("Firmware_Version", 1040605, "has 7 digits, not 8: a spreadsheet drops the zeros", "01040605"),
    ("Firmware_Version", 1.003e10, "has 11 digits, not the 8 of a firmware version", None),
    ("Firmware_Version", 10030807.5, "is a fraction, so no firmware version", None),
    ("Firmware_Version", 268634119.0, "is a firmware version in decimal", "10030807"),
    ("Firmware_Version", dt.datetime(2027, 3, 4), "is a date or time: Excel has made it of a text", None),
    ("Hash", 7.54e63, "is not text: Excel has made a number or a date of the hash", None),
    ("SMETS_Version", dt.datetime(2027, 2, 4), "is a date or time: Excel has made it of a text", None),
    ("Model", True, "is a truth value: Excel has made it of a text", None),
    ("Expiry_Date", 46082, "is a number, and so no date until somebody formats it as one", "2026-03-01"),
    ("Expiry_Date", 4, "is a number, and so no date", None),
]


@pytest.mark.parametrize(("field", "cell", "wrong", "right"), CELLS)
def test_what_excel_made_of_a_text_is_named(tmp_path, field, cell, wrong, right):
    """Numbers, dates and truth values where text belongs: what was typed is lost, or can be told."""
    (fault,) = faults_of(make_cpl(tmp_path / "list.xlsx", cpl_rows(3, **{field: cell})))
    assert (fault.row, fault.column) == (3, COLUMN.get(field, field.replace("_", " ")))
    assert fault.value == cell
    assert fault.right == right
    assert wrong in fault.text


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
@pytest.mark.parametrize("cell", [None, "  "])
def test_an_empty_cell_is_a_fault_where_the_field_is_needed(tmp_path, suffix, cell):
    """All that a row needs is named at once, in the order of the columns; what may be absent is not."""
    needed = ["Device_Type", "Manufacturer", "Model", "Firmware_Version", "SMETS_Version", "Hash", "Status"]
    optional = [
        "CPL_Entry_ID",
        "Hardware_Version",
        "SMETS_Family",
        "GBCS_Version",
        "Expiry_Date",
        "Predecessors",
    ]
    rows = cpl_rows(3, **dict.fromkeys([*needed, *optional], cell))
    found = faults_of(make_cpl(tmp_path / f"list{suffix}", rows))
    assert [(fault.row, fault.column, fault.text) for fault in found] == [
        (3, COLUMN.get(field, field.replace("_", " ")), "is empty") for field in needed
    ]


def test_a_missing_column_is_named_with_the_names_it_may_have(tmp_path):
    """The needed columns, each once, and none of the others."""
    rows = [{"Device Type": "ESME", "Manufacturer": "Harness", "Model": "M"}]
    found = faults_of(make_cpl(tmp_path / "list.csv", rows))
    assert [fault.column for fault in found] == [
        "Firmware Version",
        "SMETS Version",
        "Manufacturer Image Hash",
        "Status",
    ]
    assert all(fault.row == 1 and "is missing; it may also be called" in fault.text for fault in found)
    assert "'SMETS/CHTS Version'" in found[1].text


def test_two_columns_of_one_meaning_are_a_fault(tmp_path):
    """Nobody can say which of the two the list means."""
    (fault,) = faults_of(make_cpl(tmp_path / "list.csv", [cpl_row(1, Image_Hash=HASH)]))
    assert str(fault) == "row 1, column O 'Image Hash': means the same as 'Manufacturer Image Hash'"


def test_a_value_under_no_header_is_a_fault(tmp_path):
    """A comma that nobody quoted moves the rest of its row to the right."""
    path = make_cpl(tmp_path / "list.csv", cpl_rows(2))
    path.write_text(path.read_text().replace("PPMID 2", "PPMID,2"))
    found = faults_of(path)
    assert {fault.row for fault in found} == {3}
    assert [fault.text for fault in found if fault.letter == "O"] == ["stands under no header"]


@pytest.mark.parametrize(
    ("codings", "row", "right"),
    [
        (["09030A07", "09030A08", "09.03.0A.09"], 4, "09030A09"),
        (["09.03.0A.07", "0x09030A08", "09.03.0A.09"], 3, "09.03.0A.08"),
    ],
)
def test_firmware_versions_in_two_codings_are_a_fault(tmp_path, codings, row, right):
    """CPLQ: the firmware version is coded consistently. The rarer coding is named, as the other would write it."""
    rows = [cpl_row(number, Firmware_Version=version) for number, version in enumerate(codings, 1)]
    (fault,) = faults_of(make_cpl(tmp_path / "list.csv", rows))
    assert (fault.row, fault.column, fault.right) == (row, "Firmware Version", right)
    assert "2 of the list's 3 versions are" in fault.text


def test_a_date_with_its_month_first_puts_the_others_in_doubt(tmp_path):
    """04/03/2031 is 4 March in a list of the UK, unless another row shows that the list is not."""
    rows = [cpl_row(number, Expiry_Date=date) for number, date in enumerate(("04/03/2031", "05/05/2031"), 1)]
    assert read_cpl(make_cpl(tmp_path / "list.csv", rows)).rows[0].expiry == dt.date(2031, 3, 4)
    rows.append(cpl_row(3, Expiry_Date="12/31/2031"))
    found = faults_of(make_cpl(tmp_path / "list.csv", rows))
    assert [(fault.row, fault.right) for fault in found] == [(2, None), (4, "31/12/2031")]
    assert found[0].text == "is 2031-03-04 or 2031-04-03: row 4 has its month first"


def test_date_cells_that_excel_may_have_swapped_are_a_fault(tmp_path):
    """A spreadsheet with American settings makes April 3 of 04/03/2031 and leaves 31/03/2031 as text."""
    rows = [cpl_row(1, Expiry_Date=dt.date(2031, 4, 3)), cpl_row(2, Expiry_Date="31/03/2031")]
    (fault,) = faults_of(make_cpl(tmp_path / "list.xlsx", rows))
    assert (fault.row, fault.column) == (2, "Expiry Date")
    assert "(for 2031-03-04): Excel has left '31/03/2031' in row 3 of 'CPL' as text" in fault.text
    rows.append(cpl_row(3, Expiry_Date=dt.date(2031, 4, 30)))  # which it could not have made so
    assert len(read_cpl(make_cpl(tmp_path / "list.xlsx", rows)).rows) == 3


@pytest.mark.parametrize(
    ("field", "cell", "said"),
    [
        ("Hash", HASH, image_hash("image 1")),
        ("Status", "Withdrawn", "Active"),
        ("Expiry_Date", "2030-11-30", "2031-11-30"),
        ("Device_Type", "HCALCS", "PPMID"),
        ("GBCS_Version", "3.2", "4.1"),
        ("SMETS_Version", "5.0", "4.2"),
    ],
)
def test_two_rows_that_contradict_each_other_are_both_named(tmp_path, field, cell, said):
    """One manufacturer, model, version and family has one hash and one status, whatever lies between the rows."""
    rows = [cpl_row(1), cpl_row(2), cpl_row(1, CPL_Entry_ID="CPL-3", **{field: cell})]
    (fault,) = faults_of(make_cpl(tmp_path / "list.csv", rows))
    assert (fault.row, fault.column, fault.value) == (4, COLUMN.get(field, field.replace("_", " ")), cell)
    assert fault.text == f"contradicts {said!r} in row 2: both are for Harness PPMID 1 09030A07 SMETS2"


def test_a_row_said_twice_is_a_fault(tmp_path):
    """It says nothing new: somebody pasted it, and most likely meant another."""
    (fault,) = faults_of(make_cpl(tmp_path / "list.csv", [cpl_row(1), cpl_row(1, CPL_Entry_ID="CPL-2")]))
    assert str(fault) == "row 3: says again what row 2 says"


def test_rows_of_two_sheets_contradict_each_other_too(tmp_path):
    """A list that is parted over sheets is one list; the message names the sheet of each row."""
    path = make_cpl(tmp_path / "list.xlsx", cpl_rows(1))
    book = openpyxl.load_workbook(path)
    sheet = book.create_sheet("More")
    sheet.append(list(cpl_row(1)))
    sheet.append(list(cpl_row(1, Status="Expired", CPL_Entry_ID="CPL-2").values()))
    book.save(path)
    (fault,) = faults_of(path)
    assert str(fault).startswith(
        "sheet 'More', row 2, column K 'Status': 'Expired' contradicts 'Active' in row 2 of 'CPL'"
    )


def test_predecessors_in_a_circle_are_a_fault(tmp_path):
    """Each of them would have to be installed before the other."""
    rows = [
        cpl_row(1, Model="M", Firmware_Version="01000001", Predecessors="CPL-2"),
        cpl_row(2, Model="M", Firmware_Version="01000002", Predecessors="CPL-1"),
    ]
    assert [(fault.row, fault.column) for fault in faults_of(make_cpl(tmp_path / "list.csv", rows))] == [
        (2, "Predecessors"),
        (3, "Predecessors"),
    ]


def test_a_certificate_that_ends_before_it_begins_is_a_fault(tmp_path):
    """CPLQ: the validity of the certificate is checked."""
    row = cpl_row(1) | {
        "CPA Certificate Start Date": "01/12/2026",
        "CPA Certificate Expiry Date": "30/11/2026",
    }
    (fault,) = faults_of(make_cpl(tmp_path / "list.csv", [row]))
    assert str(fault) == (
        "row 2, column P 'CPA Certificate Expiry Date': '30/11/2026' is before its "
        "'CPA Certificate Start Date', 2026-12-01"
    )


@given(data=st.data())
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_every_fault_is_listed_in_the_order_of_the_list(tmp_path, data):
    """Faults in any rows and columns: each of them, no more, and none of the rows."""
    own = [entry for entry in TEXTS if entry[0] not in ("CPL_Entry_ID", "Predecessors", "Expiry_Date")]
    by_field = {entry[0]: entry for entry in own}
    rows = [cpl_row(number) for number in range(1, 6)]
    places = data.draw(
        st.sets(st.tuples(st.integers(0, 4), st.sampled_from(sorted(by_field))), min_size=1, max_size=8)
    )
    # A version that is wrong says no family for the family to differ from.
    places = {
        place
        for place in places
        if not (place[1] == "SMETS_Family" and (place[0], "SMETS_Version") in places)
    }
    for index, field in places:
        cell = "SMETS9" if field == "SMETS_Family" else by_field[field][1]
        rows[index][COLUMN.get(field, field.replace("_", " "))] = cell
    found = faults_of(make_cpl(tmp_path / "list.csv", rows))
    order = list(cpl_row(1))
    wanted = sorted(
        (index + 2, order.index(COLUMN.get(field, field.replace("_", " ")))) for index, field in places
    )
    assert [(fault.row, order.index(fault.column)) for fault in found] == wanted


def test_the_line_of_a_yaml_list_is_its_row(tmp_path):
    """A YAML file has lines and keys, and no letters."""
    path = tmp_path / "list.yaml"
    path.write_text("# made up\n" + yaml.safe_dump({"rows": cpl_rows(2, Status="Live")}, sort_keys=False))
    (fault,) = faults_of(path)
    assert (
        str(fault) == "row 17, column 'Status': 'Live' is no status (Active, Cancelled, Expired, Withdrawn)"
    )


@pytest.mark.parametrize(
    ("name", "octets", "message"),
    [
        ("list.ods", b"", "a CPL extract is one of .csv, .xlsx, .yaml, .yml, not '.ods'"),
        ("list", b"", "not 'a bare name'"),
        ("list.csv", b"", "has no header of a CPL, which has 'Device Type'"),
        ("list.csv", b"PK\x03\x04\0\0", "is not CSV: it has NUL octets"),
        ("list.csv", b"Model,Hash\n\x81\n", "is neither UTF-8 nor Windows-1252 text (octet 11 is 0x81)"),
        ("list.csv", b'Model,Status\n"M"x,1\n', "row 2, line 2: is not CSV"),
        ("list.csv", b'Model,Status\n"M,1\n', "is not CSV"),
        ("list.xlsx", b"Model,Status\n", "is not a workbook that can be read (BadZipFile"),
        ("list.xlsx", bytes.fromhex("D0CF11E0A1B11AE1"), "is an old .xls or a workbook with a password"),
        ("list.yaml", b"rows: 1\n", "rows: is missing, said twice, or is no list"),
        ("list.yaml", b"rows: []\nrows: []\n", "rows: is missing, said twice, or is no list"),
        ("list.yaml", b"rows:\n- Model: a\n  Model: b\n", ":3: Model: is already in this row"),
        ("list.yaml", b"rows:\n- Model: {a: b}\n", ":2: Model: is neither text nor a list of texts"),
        ("list.yaml", b"rows:\n- 7\n", ":2: is no mapping of columns to cells"),
        ("list.yaml", b"rows: [\n", "is not YAML"),
    ],
)
def test_a_file_that_is_not_what_it_is_called_is_refused(tmp_path, name, octets, message):
    """RigError with the file's name, in words, whatever the library underneath calls it."""
    path = tmp_path / name
    path.write_bytes(octets)
    with pytest.raises(RigError) as raised:
        read_cpl(path)
    assert str(raised.value).startswith(str(path))
    assert message in str(raised.value)


def test_a_missing_file_is_the_benchs_fault(tmp_path):
    """RigError, as for any file of a rig."""
    with pytest.raises(RigError, match="cannot be read"):
        read_cpl(tmp_path / "list.csv")


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_a_list_of_no_rows_is_refused(tmp_path, suffix):
    """Loaded, it would take every Device's firmware off the CPL."""
    path = make_cpl(tmp_path / f"list{suffix}", [dict.fromkeys(cpl_row(1))])
    (fault,) = faults_of(path)
    assert fault.text == "has a header of a CPL and no row under it"
