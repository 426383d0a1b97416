"""Tests of `harness smi`: why a Device is as it is, the rules, and a CPL extract that is checked by row and column."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.cli.inventories import read_inventory
from harness.errors import RigError
from harness.smi.plain import event_to_plain, to_plain
from harness.smi.requests import ReadFirmwareVersion
from harness.smi.responses import CplLoaded, FirmwareActivated, FirmwareVersionRead
from harness.smi.rules import RULES
from harness.store.store import Store
from tests.unit.cpl_lists import cpl_row, cpl_rows, make_cpl
from tests.unit.smi_bench import ESME_ID, IS, SUCCESS, V2, Premises, premises, without

ESME = "00-00-00-00-00-00-00-11"
V1_GONE = CplLoaded("CPL of 4 November", without("ESME-a", 0x0100))
EVENTS = [(1_636_000_000.0, V1_GONE), (1_636_000_100.0, ReadFirmwareVersion(IS, ESME_ID))]
RESTORED = [*EVENTS, (1_636_000_200.0, FirmwareVersionRead(ESME_ID, V2))]


def harness(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["smi", *map(str, arguments)])


def applied(events: list[tuple[float, Any]]) -> Premises:
    """Return the premises of the bench after these events."""
    made = premises()
    for at, event in events:
        made.apply(event, at)
    return made


def write_log(path: Path, events: list[tuple[float, Any]]) -> Path:
    """Write a log that begins with a snapshot of the bench's premises."""
    lines = [
        to_plain(premises().inventory),
        *({"at": at, "event": event_to_plain(event)} for at, event in events),
    ]
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


# --- explain -------------------------------------------------------------------------------------------------------


def test_why_is_this_device_suspended_has_an_answer(tmp_path):
    """Each line is a change with its time, its event and its rule: the last one says which CPL it was."""
    result = harness("explain", ESME, "--log", write_log(tmp_path / "log.jsonl", EVENTS))
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert lines[0].startswith(f"ESME {ESME} (Acme ESME-a, SMETS2) is Suspended and was Commissioned")
    assert "00000100 is no Active row of CPL of 4 November" in lines[0]
    assert lines[-1].startswith("2021-11-04 04:26:40: status Commissioned -> Suspended")
    assert "base.suspended (SU-01; sourced: MP105 Issue" in lines[-1]
    assert lines == applied(EVENTS).inventory.explain(ESME_ID)


def test_a_log_a_snapshot_and_a_database_tell_the_same(tmp_path):
    """Whatever keeps an Inventory, its history is in it."""
    log = write_log(tmp_path / "log.jsonl", RESTORED)
    whole = tmp_path / "whole.json"
    whole.write_text(json.dumps(to_plain(applied(RESTORED).inventory), indent=1))
    url = f"sqlite:///{tmp_path / 'bench.db'}"
    with Store(url) as store, store.inventory("premises") as kept:
        kept.snapshot(to_plain(premises().inventory))
        for at, event in RESTORED:
            kept.append(event_to_plain(event), at)
    told = [harness("explain", ESME, "--log", source).output for source in (log, whole, url)]
    assert (
        told[0] == told[1] == told[2] == harness("explain", ESME, "--log", url, "--name", "premises").output
    )
    assert "is Commissioned" in told[0].splitlines()[0]
    assert "mp105.version_read" in told[0]


def test_a_log_without_a_snapshot_begins_with_nothing(tmp_path):
    """Its Devices are then those that its events pre-notify, under the options that are in force."""
    path = tmp_path / "log.jsonl"
    path.write_text(json.dumps({"at": 1.0, "event": event_to_plain(V1_GONE)}) + "\n")
    assert len(read_inventory(str(path))) == 0
    assert read_inventory(str(path)).ledger.cpl == "CPL of 4 November"
    result = harness("explain", ESME, "--log", path)
    assert (result.exit_code, f"{ESME} is not in the Inventory" in result.output) == (1, True)


@pytest.mark.parametrize(
    "text", ["11", "00-00-00-00-00-00-00", "00-00-00-00-00-00-00-1G", "0x0000000000000011"]
)
def test_an_eui64_in_the_wrong_form_is_told(text):
    """A usage error, with an example of one."""
    result = harness("explain", text, "--log", "any.jsonl")
    assert result.exit_code == 2
    assert f"{text!r} is not an EUI-64 such as" in result.output


GOOD = json.dumps({"at": 1.0, "event": event_to_plain(FirmwareActivated(ESME_ID, SUCCESS, V2))})


@pytest.mark.parametrize(("text", "message"), [
    ("", "has no event of an Inventory"),
    ("{", "log.jsonl:1: is no JSON"),
    ("[]\n", "log.jsonl:1: is no"),
    ("42\n", "log.jsonl:1: is no"),
    ('{"at": 1.0}\n', "log.jsonl:1: is no"),
    ('{"at": 1.0, "event": {"is": "Nothing"}}\n', "log.jsonl:1: plain data says it is 'Nothing'"),
    ('{"at": 1.0, "event": []}\n', "log.jsonl:1: is no plain data"),
    ('{"at": 1.0, "event": {"is": []}}\n', "log.jsonl:1: is no plain data"),
    ('{"at": "now", "event": {"is": "TimePassed"}}\n', "log.jsonl:1: 'now' is no time"),
    ('{"at": true, "event": {"is": "TimePassed"}}\n', "log.jsonl:1: True is no time"),
    ('{"at": NaN, "event": {"is": "TimePassed"}}\n', "log.jsonl:1: nan is no time"),
    ('{"at": 1e15, "event": {"is": "TimePassed"}}\n', "log.jsonl:1: 1000000000000000.0 is no time"),
    (f"{GOOD}\n", "log.jsonl:1: 00-00-00-00-00-00-00-11 is not in the Inventory"),
    ('{"schema": "harness.smi/9"}\n', "a snapshot of schema 'harness.smi/9'"),
    ('{"schema": "harness.smi/1"}\n', "plain data of a snapshot differs"),
    ('{"at": 1.0, "event": {"is": "TimePassed"}}\n{"schema": "harness.smi/1"}\n', "log.jsonl:2: a snapshot stands"),
])  # fmt: skip
def test_a_log_that_is_none_is_told_with_its_line(text, message, tmp_path):
    """One sentence, exit code 1; never a traceback."""
    path = tmp_path / "log.jsonl"
    path.write_text(text)
    result = harness("explain", ESME, "--log", path)
    assert result.exit_code == 1
    assert message in result.output
    assert result.output.startswith("Error: ")


def test_a_log_that_is_not_there_is_told(tmp_path):
    """A file, a file of octets, a database: which is not made by asking."""
    octets = tmp_path / "octets.jsonl"
    octets.write_bytes(b"\xff\xfe")
    missing = tmp_path / "missing.db"
    for source, message in (
        (tmp_path / "missing.jsonl", "cannot be read (No such file or directory)"),
        (octets, "is no text in UTF-8 (octet 0)"),
        (f"sqlite:///{missing}", "there is no such file"),
    ):
        result = harness("explain", ESME, "--log", source)
        assert (result.exit_code, message in result.output) == (1, True), result.output
    assert not missing.exists()


def test_a_database_of_several_inventories_asks_which(tmp_path):
    """And a file has only the one, which needs no name."""
    url = f"sqlite:///{tmp_path / 'bench.db'}"
    with Store(url) as store:
        for name in ("bench 1", "bench 2"):
            with store.inventory(name) as kept:
                kept.snapshot(to_plain(premises().inventory))
    with pytest.raises(RigError, match="has 2 Inventories: --name one of bench 1, bench 2"):
        read_inventory(url)
    assert ESME_ID in read_inventory(url, "bench 2")
    with pytest.raises(RigError, match="bench 3"):
        read_inventory(url, "bench 3")
    with pytest.raises(RigError, match="is a file, which has one Inventory"):
        read_inventory(str(tmp_path / "log.jsonl"), "bench 1")


# --- rules -----------------------------------------------------------------------------------------------------------


def test_every_rule_is_printed_with_its_source_and_what_it_holds_under():
    """As JSON and as a table; assumed ones are marked."""
    told = json.loads(harness("rules", "--json").output)
    assert (told["schema"], len(told["rules"])) == ("harness.rules/1", len(RULES))
    by_id = {rule["id"]: rule for rule in told["rules"]}
    assert by_id["mp105.version_read"] == {
        "id": "mp105.version_read",
        "modification": "mp105",
        "text": "The response to SR11.2 updates the version of an ESME or GSME, and by it the status.",
        "requirements": ["SU-04", "SU-08"],
        "source": "MP105 Solution, F4.3",
        "basis": "sourced",
        "when": {"mp105": ["sr11_2", "both"]},
    }
    shown = harness("rules").output
    assert all(rule in shown for rule in RULES)
    assert "assumed" in shown


# --- cpl -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".csv", ".xlsx"])
def test_a_cpl_that_is_right_is_told_so(suffix, tmp_path):
    """Exit code 0, and how many rows there are."""
    path = make_cpl(tmp_path / f"cpl{suffix}", cpl_rows(3))
    result = harness("cpl", path)
    assert (result.exit_code, result.output.splitlines()[-1]) == (0, f"{path}: 3 rows, all right")


def test_each_fault_of_a_cpl_is_told_by_row_and_column(tmp_path):
    """Exit code 1: one reading of the output mends the list."""
    rows = [*cpl_rows(2, Status="Actve"), cpl_row(3, Hash="0042")]
    path = make_cpl(tmp_path / "cpl.csv", rows)
    result = harness("cpl", path)
    assert result.exit_code == 1
    first, second, last = result.output.splitlines()
    assert first.startswith(f"{path}: row 3, column K 'Status': 'Actve' ")
    assert "'Active' would be right" in first
    assert second.startswith(f"{path}: row 4, column J 'Manufacturer Image Hash': '0042' ")
    assert last == f"Error: {path}: 2 faults"
    told = CliRunner().invoke(main, ["smi", "cpl", str(path), "--json"])
    assert told.exit_code == 1
    found = json.loads(told.stdout)
    assert list(found) == ["schema", "file", "rows", "remarks", "faults"]
    assert [(fault["row"], fault["column"], fault["right"]) for fault in found["faults"]] == [
        (3, "Status", "Active"), (4, "Manufacturer Image Hash", None),
    ]  # fmt: skip


def test_a_header_of_ones_own_can_be_named(tmp_path):
    """And a wrong name of a field says so."""
    row = cpl_row(1)
    row["Our hash"] = row.pop("Manufacturer Image Hash")
    path = make_cpl(tmp_path / "cpl.csv", [row])
    assert harness("cpl", path).exit_code == 1
    assert harness("cpl", path, "--column", "Our hash=image_hash").exit_code == 0
    wrong = harness("cpl", path, "--column", "Our hash")
    assert (wrong.exit_code, "is not HEADER=FIELD" in wrong.output) == (2, True)
    assert harness("cpl", path, "--column", "Our hash=hush").exit_code == 1


def test_a_file_that_is_no_cpl_is_told(tmp_path):
    """Its suffix says what it has to be."""
    path = tmp_path / "cpl.txt"
    path.write_text("nothing")
    result = harness("cpl", path)
    assert (result.exit_code, "a CPL extract is one of" in result.output) == (1, True)
