"""Tests of reading CPL extracts: each of the three forms, what is normalised, and what is only remarked on."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import re
import zipfile
from pathlib import Path

import openpyxl
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RigError
from harness.smi.cpl import Cpl, CplError, read_columns, read_cpl
from harness.smi.devices import DeviceType, SmetsFamily
from harness.smi.firmware_table import CplRow, CplStatus, FirmwareTable
from tests.unit.cpl_lists import cpl_row, cpl_rows, image_hash, make_cpl

REPOSITORY = Path(__file__).resolve().parents[2]
FORMS = [".csv", ".xlsx"]

names = (
    st.text("ABCxyz 019-&é", min_size=1, max_size=30).map(lambda text: " ".join(text.split())).filter(bool)
)
numbers = st.integers(2, 9).flatmap(
    lambda major: st.sampled_from([f"{major}.0", f"{major}.1", f"{major}.12"])
)


@st.composite
def any_rows(draw: st.DrawFn) -> list[CplRow]:
    """Rows of different keys, numbered as a file with a header numbers them."""
    rows: dict[object, CplRow] = {}
    for _ in range(draw(st.integers(1, 6))):
        smets = draw(st.sampled_from(SmetsFamily))
        row = CplRow(
            device_type=draw(
                st.sampled_from([DeviceType.ESME, DeviceType.GSME, DeviceType.HCALCS, DeviceType.PPMID])
            ),
            manufacturer=draw(names.filter(lambda text: text.casefold() not in ("-", "na"))),
            model=draw(names),
            hardware_version=draw(st.none() | st.sampled_from(["1111", "0x0101", "A.1"])),
            firmware_version=draw(st.integers(0, 0xFFFFFFFF)),
            smets=smets,
            smets_version="1.2" if smets is SmetsFamily.SMETS1 else draw(numbers),
            gbcs_version=draw(st.none() | numbers),
            image_hash=draw(st.binary(min_size=32, max_size=32).filter(any)),
            status=draw(st.sampled_from(CplStatus)),
            expiry=draw(st.none() | st.dates(dt.date(2000, 1, 1), dt.date(2099, 12, 31))),
            predecessors=(),
            row=len(rows) + 2,
        )
        if row.key not in rows:
            rows[row.key] = row
    return list(rows.values())


def written(row: CplRow, date: object) -> dict[str, object]:
    """Return the cells of a row."""
    return {
        "Device Type": str(row.device_type),
        "Manufacturer": row.manufacturer,
        "Model": row.model,
        "Hardware Version": row.hardware_version,
        "Firmware Version": f"{row.firmware_version:08X}",
        "SMETS": str(row.smets),
        "SMETS Version": row.smets_version,
        "GBCS Version": row.gbcs_version,
        "Image Hash": row.image_hash.hex(),
        "Status": str(row.status),
        "Expiry": date,
    }


def read(path: Path, rows: list[dict[str, object]], **arguments: object) -> Cpl:
    """Write a list and read it."""
    return read_cpl(make_cpl(path, rows, **arguments))


def change_sheet(path: Path, pattern: bytes, text: bytes) -> None:
    """Replace what is in the XML of a workbook's sheet."""
    with zipfile.ZipFile(path) as old:
        parts = {name: old.read(name) for name in old.namelist()}
    with zipfile.ZipFile(path, "w") as new:
        for name, octets in parts.items():
            new.writestr(name, re.sub(pattern, text, octets) if "worksheets" in name else octets)


@pytest.mark.parametrize("suffix", FORMS)
@given(rows=any_rows())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_is_written_is_read(tmp_path, suffix, rows):
    """Any list of rows comes back as it was: CSV with ISO dates, XLSX with date cells."""
    cells = [
        written(row, row.expiry and (row.expiry.isoformat() if suffix == ".csv" else row.expiry))
        for row in rows
    ]
    assert list(read(tmp_path / f"list{suffix}", cells).rows) == rows


@given(rows=any_rows())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_yaml_says_the_same(tmp_path, rows):
    """The fixtures' form: every cell is taken as the text that it is, and a row is numbered by its line."""
    path = tmp_path / "list.yaml"
    path.write_text(yaml.safe_dump({"rows": [written(row, row.expiry and str(row.expiry)) for row in rows]}))
    found = read_cpl(path).rows
    assert [CplRow(*[getattr(row, name) for name in CplRow.__slots__[:-1]]) for row in found] == [
        CplRow(*[getattr(row, name) for name in CplRow.__slots__[:-1]]) for row in rows
    ]
    lines = path.read_text().splitlines()
    assert all(lines[row.row - 1].startswith("- ") for row in found)


@given(
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.integers(0, 255)), min_size=1, max_size=3),
    kept=st.just(1.0) | st.floats(0, 1),
)
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("suffix", [*FORMS, ".yaml"])
def test_a_damaged_file_is_refused_or_read_whole(tmp_path, suffix, changes, kept):
    """Octets changed or cut off: RigError and nothing else, or a list of as many rows."""
    path = tmp_path / f"list{suffix}"
    if suffix == ".yaml":
        path.write_text(yaml.safe_dump({"rows": cpl_rows(3)}))
    else:
        make_cpl(path, cpl_rows(3))
    octets = bytearray(path.read_bytes())
    # In fractions of its length, since a workbook's, which has the time in it, is not always the same.
    for place, octet in changes:
        octets[int(place * len(octets))] = octet
    path.write_bytes(octets[: int(kept * len(octets))])
    with contextlib.suppress(RigError):
        found = read_cpl(path)
        assert found.rows


@pytest.mark.parametrize("suffix", FORMS)
def test_headers_are_found_whatever_their_case_and_spaces(tmp_path, suffix):
    """Case, spaces and punctuation of a header do not count, and what stands above it is remarked on."""
    row = {
        "DEVICE  TYPE": "ESME",
        "Manufacturer\nName": "Harness",
        "model_identifier": "M",
        "firmware version": "01040605",
        "SmetsVersion": "SMETS2 v4.2",
        "Hash (SHA256)": image_hash("x"),
        " cpl status ": "active",
    }
    found = read(
        tmp_path / f"list{suffix}", [row], above=[["Central Products List", None], ["Version", 7], []]
    )
    assert [(one.model, one.firmware_version, one.smets, one.row) for one in found.rows] == [
        ("M", 0x01040605, "SMETS2", 5)
    ]
    assert any("above the header" in remark for remark in found.remarks)


def test_a_list_may_name_its_columns_itself(tmp_path):
    """A header that the table does not know is given by argument or mapping file; one that is no field is refused."""
    row = cpl_row(1)
    row["Prüfsumme"] = row.pop("Manufacturer Image Hash")
    path = make_cpl(tmp_path / "list.csv", [row])
    with pytest.raises(CplError, match="column 'Manufacturer Image Hash': is missing"):
        read_cpl(path)
    mapping = tmp_path / "columns.yaml"
    mapping.write_text("Prüfsumme: image_hash\n", encoding="utf-8")
    assert read_columns(mapping) == {"Prüfsumme": "image_hash"}
    assert read_cpl(path, columns=read_columns(mapping)).rows[0].image_hash.hex() == image_hash("image 1")
    mapping.write_text("Prüfsumme: hash_of_image\n", encoding="utf-8")
    with pytest.raises(RigError, match="Prüfsumme: 'hash_of_image' is no field"):
        read_columns(mapping)
    with pytest.raises(LocalProtocolError, match="'checksum' is no field"):
        read_cpl(path, columns={"Prüfsumme": "checksum"})


@pytest.mark.parametrize("suffix", FORMS)
def test_unknown_columns_are_kept_and_listed(tmp_path, suffix):
    """The list's columns are not public (F1.3): one more is no fault."""
    rows = [cpl_row(1, Colour="red"), cpl_row(2)]
    found = read(tmp_path / f"list{suffix}", rows)
    assert found.unknown["Colour"][0] == "red"
    assert not found.unknown["Colour"][1]
    assert any("unknown columns: O 'Colour'" in remark for remark in found.remarks)


@pytest.mark.parametrize("suffix", FORMS)
def test_blank_rows_and_spaces_are_left_out_and_told(tmp_path, suffix):
    """Neither says anything of a device; the rows under them keep the numbers that the spreadsheet shows."""
    rows = [cpl_row(1, Model="PPMID 1 "), dict.fromkeys(cpl_row(1)), cpl_row(3, Status="\u00a0Active")]
    found = read(tmp_path / f"list{suffix}", rows)
    assert [(row.model, row.status, row.row) for row in found.rows] == [
        ("PPMID 1", "Active", 2),
        ("PPMID 3", "Active", 4),
    ]
    remarks = "\n".join(found.remarks)
    assert "row 3: blank, skipped" in remarks
    assert "column 'Model': spaces ahead or behind are left out in row 2" in remarks


@pytest.mark.parametrize(
    ("encoding", "said"),
    [("utf-8", "UTF-8"), ("utf-8-sig", "UTF-8"), ("cp1252", "Windows-1252"), ("utf-16", "UTF-16")],
)
def test_csv_is_read_in_the_encodings_that_excel_writes(tmp_path, encoding, said):
    """Excel saves CSV in three encodings and says in none of them which; the remarks do."""
    found = read(tmp_path / "list.csv", [cpl_row(1, Manufacturer="Zähler & Söhne © UK")], encoding=encoding)
    assert found.rows[0].manufacturer == "Zähler & Söhne © UK"
    assert any(remark.startswith(f"read as {said}") for remark in found.remarks)


def test_csv_may_be_delimited_by_semicolons(tmp_path):
    """As Excel writes it where a comma is the decimal point."""
    found = read(tmp_path / "list.csv", cpl_rows(2), delimiter=";")
    assert len(found.rows) == 2
    assert "its delimiter is ';'" in found.remarks


@pytest.mark.parametrize(
    "cell",
    [
        image_hash("image").upper(),
        "0x" + image_hash("image"),
        bytes.fromhex(image_hash("image")).hex(" "),
        bytes.fromhex(image_hash("image")).hex(":").upper(),
        bytes.fromhex(image_hash("image")).hex(" ", 4),
    ],
)
def test_a_hash_is_taken_however_its_digits_are_parted(tmp_path, cell):
    """CPLQ: the hash is in hexadecimal. Case, 0x and what stands between the digits leave none of them in doubt."""
    assert read(tmp_path / "list.csv", [cpl_row(1, Hash=cell)]).rows[0].image_hash.hex() == image_hash(
        "image"
    )


@pytest.mark.parametrize(
    ("cell", "version"),
    [
        ("09030A07", 0x09030A07),
        ("0x09030a07", 0x09030A07),
        ("0x1000000", 0x01000000),
        ("01040605", 0x01040605),
        ("09.03.0A.07", 0x09030A07),
        ("10.03.08.07", 0x10030807),
        ("1.3.8.7", 0x01030807),
        ("1E030807", 0x1E030807),
    ],
)
def test_a_firmware_version_is_taken_in_either_coding(tmp_path, cell, version):
    """F1.2's examples, BCD and hexadecimal: eight digits, or dotted pairs of them."""
    assert (
        read(tmp_path / "list.csv", [cpl_row(1, Firmware_Version=cell)]).rows[0].firmware_version == version
    )


@pytest.mark.parametrize(
    ("cell", "number_format", "version"),
    [
        (10030807, "General", 0x10030807),
        (10030807.0, "General", 0x10030807),
        (1040605, "00000000", 0x01040605),
    ],
)
def test_a_version_that_excel_took_for_a_number_is_read_by_its_digits(tmp_path, cell, number_format, version):
    """Eight digits are all there, by themselves or as the cell's format shows them."""
    found = read(
        tmp_path / "list.xlsx",
        [cpl_row(1, Firmware_Version=cell)],
        formats={"Firmware Version": number_format},
    )
    assert found.rows[0].firmware_version == version


@pytest.mark.parametrize(
    "cell",
    [
        "2027-03-04",
        "2027-03-04T00:00:00",
        "04/03/2027",
        "4.3.2027",
        "4 March 2027",
        "04-Mar-2027",
        dt.date(2027, 3, 4),
        dt.datetime(2027, 3, 4, 23, 59),
    ],
)
def test_a_date_is_taken_in_the_forms_of_the_uk(tmp_path, cell):
    """Day before month, unless the year comes first."""
    suffix = ".csv" if isinstance(cell, str) else ".xlsx"
    assert read(tmp_path / f"list{suffix}", [cpl_row(1, Expiry_Date=cell)]).rows[0].expiry == dt.date(
        2027, 3, 4
    )


@pytest.mark.parametrize(
    ("kind", "family", "version", "expected"),
    [
        ("PPMID", None, "1.2", ("SMETS1", "1.2")),
        ("PPMID", None, "5.1", ("SMETS2", "5.1")),
        ("PPMID", "SMETS2+", "v4.2", ("SMETS2", "4.2")),
        ("ESME", "SMETS2", "SMETS2 v1.58", ("SMETS2", "1.58")),
        ("Communications Hub", None, "1.4", ("SMETS2", "1.4")),
        ("CHF", "SMETS2", "CHTS v1.4", ("SMETS2", "1.4")),
    ],
)
def test_the_family_follows_from_the_version_where_no_column_says_it(
    tmp_path, kind, family, version, expected
):
    """A version of 1 is SMETS1's unless it names SMETS2; a hub's is of the CHTS, which only SMETS2 has."""
    row = cpl_row(1, Device_Type=kind, SMETS_Family=family, SMETS_Version=version)
    found = read(tmp_path / "list.csv", [row]).rows[0]
    assert (str(found.smets), found.smets_version) == expected


def test_predecessors_are_entries_of_the_list(tmp_path):
    """MP231: the CPL Entry IDs of the versions that have to come before, or N/A."""
    rows = [cpl_row(number, Model="M", Firmware_Version=f"0100000{number}") for number in (1, 2, 3)]
    rows[2]["Predecessors"] = "CPL-1; CPL-2"
    found = read(tmp_path / "list.csv", rows)
    assert [row.predecessors for row in found.rows] == [(), (), ("CPL-1", "CPL-2")]
    assert found.entries["CPL-2"] is found.rows[1]


def test_the_rows_of_a_dual_mode_ppmid_stand_side_by_side(tmp_path):
    """LB-01: same model, same version, same hash even; the family tells them apart."""
    both = [
        cpl_row(1, Model="Dual", Hash=image_hash("dual"), SMETS_Family=family, SMETS_Version=version)
        for family, version in (("SMETS1", "1.2"), ("SMETS2", "4.2"))
    ]
    both[1]["CPL Entry ID"] = "CPL-2"
    found = read(tmp_path / "list.csv", both)
    assert [str(row.smets) for row in found.rows] == ["SMETS1", "SMETS2"]
    assert not any("hash" in remark for remark in found.remarks)


def test_hardware_versions_of_one_model_have_a_row_each(tmp_path):
    """The key of a row has no hardware version: rows that differ in it alone agree."""
    rows = [cpl_row(1), cpl_row(1, Hardware_Version="2222", CPL_Entry_ID="CPL-2")]
    found = read(tmp_path / "list.csv", rows)
    assert [row.hardware_version for row in found.rows] == ["1111", "2222"]
    FirmwareTable().load(found.rows, 0.0)


def test_what_is_likely_wrong_but_possible_is_remarked_on(tmp_path):
    """A hash that two versions share, a name in two spellings and dates in two forms load, and are told."""
    rows = [
        cpl_row(1),
        cpl_row(2, Hash=image_hash("image 1"), Manufacturer="HARNESS", Expiry_Date="31/03/2031"),
    ]
    remarks = "\n".join(read(tmp_path / "list.csv", rows).remarks)
    assert "row 3 has the hash of row 2, another model or version" in remarks
    assert "row 3 has 'HARNESS' where row 2 has 'Harness'" in remarks
    assert "'Expiry Date' has dates as year-month-day in row 2, day/month/year in row 3" in remarks


def test_each_sheet_with_a_header_is_read_and_the_others_are_told(tmp_path):
    """A list may be parted over sheets; a sheet of notes is not one, and a hidden one is not published."""
    path = make_cpl(tmp_path / "list.xlsx", cpl_rows(2))
    book = openpyxl.load_workbook(path)
    more, notes, hidden = book.create_sheet("More"), book.create_sheet("Notes"), book.create_sheet("Old")
    more.append(list(cpl_row(3)))
    more.append(list(cpl_row(3).values()))
    notes.append(["Published for nobody"])
    hidden.append(["x"])
    hidden.sheet_state = "hidden"
    book.save(path)
    found = read_cpl(path)
    assert [row.model for row in found.rows] == ["PPMID 1", "PPMID 2", "PPMID 3"]
    assert found.remarks == (
        "the sheet 'Old' is hidden: not read",
        "sheet 'Notes': has no header of a CPL: not read",
    )


def test_a_sheet_that_states_a_wrong_size_is_read_whole(tmp_path):
    """Some writers state the size A1, and a reader that believes it loads one cell, or none of the rows."""
    path = make_cpl(tmp_path / "list.xlsx", cpl_rows(5))
    change_sheet(path, rb"<dimension [^>]*/>", b"")
    change_sheet(path, b"<sheetData>", b'<dimension ref="A1"/><sheetData>')
    assert len(read_cpl(path).rows) == 5


def test_extensions_of_excel_are_nobodys_trouble(tmp_path, recwarn):
    """Published lists have data validation in an extension, which openpyxl warns of and no cell is in."""
    path = make_cpl(tmp_path / "list.xlsx", cpl_rows(2))
    extension = b'<extLst><ext uri="{CCE6A557-97BC-4B89-ADB6-D9C93CAAB3DF}"/></extLst></worksheet>'
    change_sheet(path, b"</worksheet>", extension)
    assert len(read_cpl(path).rows) == 2
    assert not recwarn.list


def test_a_workbook_with_a_row_out_of_order_is_refused(tmp_path):
    """openpyxl leaves such a row out and says nothing: the list would be half loaded."""
    path = make_cpl(tmp_path / "list.xlsx", cpl_rows(5))
    change_sheet(path, b'<row r="5"', b'<row r="4"')
    with pytest.raises(RigError, match=r"list.xlsx: xl/worksheets/sheet1.xml has row 4 behind row 4"):
        read_cpl(path)


def test_a_formula_without_a_result_is_refused(tmp_path):
    """What a script has written and no spreadsheet has opened: its cell would be empty, and an expiry lost."""
    path = make_cpl(tmp_path / "list.xlsx", cpl_rows(3, Expiry_Date="=TODAY()"))
    with pytest.raises(
        RigError, match=r"list.xlsx: xl/worksheets/sheet1.xml has a formula without a result in M3"
    ):
        read_cpl(path)
    change_sheet(path, b"(</f>)<v ?/>|(</f>)<v></v>", b"</f><v>48000</v>")
    with pytest.raises(CplError, match="row 3, column M 'Expiry Date': 48000 is a number"):
        read_cpl(path)


def test_the_fixture_matches_the_standing_profiles():
    """Every profile with a firmware version has its row, the dual-mode PPMID one of each family, and no IHD has any."""
    found = read_cpl(REPOSITORY / "fixtures" / "cpl-extract.yaml")
    assert found.remarks == ()
    table = FirmwareTable()
    table.load(found.rows, 1_800_000_000.0)
    assert len(table) == len(found.rows)
    models = set()
    for path in sorted((REPOSITORY / "device_profiles").glob("*.yaml")):
        profile = yaml.safe_load(path.read_text(encoding="utf-8"))
        if "firmware_version" not in profile or profile["role"] == "ihd":
            continue
        wanted = profile.get("smets", "SMETS2")
        families = list(SmetsFamily) if wanted == "dual" else [SmetsFamily(wanted)]
        models.add(profile["model"])
        for smets in SmetsFamily:
            active = table.active(profile["manufacturer_name"], profile["model"], smets)
            first = profile["firmware_version"]
            assert sorted(active) == ([first, first + 1] if smets in families else [])
            assert all(
                row.hardware_version == f"0x{profile['hardware_version']:04X}" for row in active.values()
            )
    assert {row.model for row in found.rows} == models
    for row in found.rows:
        text = f"Harness {row.model} {row.firmware_version:08X}"
        assert row.image_hash == hashlib.sha256(text.encode()).digest()
