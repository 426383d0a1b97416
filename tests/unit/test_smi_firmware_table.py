"""Tests of the Firmware Version table: the key of a row, contradictions, expiry."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest

from harness.errors import LocalProtocolError, RigError
from harness.smi.alerts import DeviceRestored, DeviceSuspended
from harness.smi.firmware_table import CplRow, CplStatus, FirmwareTable
from harness.smi.responses import CplLoaded
from tests.unit.smi_bench import ESME_ID, ROWS, S1, S2, V1, V2, premises, row, without

ESME = ("Acme", "ESME-a", S2)


def seconds(year: int, month: int, day: int, hour: int = 0) -> float:
    """Return POSIX seconds."""
    return datetime(year, month, day, hour, tzinfo=UTC).timestamp()


@pytest.mark.parametrize("other", [
    row("ESME-b", V1), row("ESME-a", V2), row("ESME-a", V1, "SMETS1"), row("ESME-a", V1, manufacturer="Other"),
], ids=["model", "version", "family", "manufacturer"])  # fmt: skip
def test_a_row_is_kept_by_manufacturer_model_version_and_family(other):
    """F5: two rows that differ in one of the four are two rows."""
    table = FirmwareTable()
    table.load([row("ESME-a", V1), other], 0.0)
    assert list(table) == [row("ESME-a", V1), other]


@pytest.mark.parametrize(("name", "value"), [
    ("image_hash", bytes(32)), ("status", "Withdrawn"), ("expiry", date(2030, 1, 1)), ("gbcs_version", "3.2"),
    ("smets_version", "4.2"), ("device_type", "GSME"), ("predecessors", ("CPL-1",)),
])  # fmt: skip
def test_two_rows_that_contradict_each_other_are_named_and_nothing_is_loaded(name, value):
    """Bad input: both rows by their numbers, what they say, and the table as it was."""
    made = premises()
    rows = (row("ESME-z", V1, row=3), row("ESME-a", V1, row=4), row("ESME-z", V1, row=7, **{name: value}))
    with pytest.raises(
        RigError, match=f"CPL row 7 contradicts row 3: for Acme ESME-z 00000100 SMETS2, {name} is"
    ):
        made.apply(CplLoaded("bad", rows))
    assert made.inventory.rows() == ROWS
    assert made.status(ESME_ID) == "Commissioned"
    made.pre_notify(0x80, "ESME-z")
    assert 0x80 not in made.inventory


def test_one_row_said_twice_is_no_contradiction():
    """Nor is one for each hardware version: the key has none."""
    table = FirmwareTable()
    table.load([row("ESME-a", V1, row=1), row("ESME-a", V1, row=2, hardware_version="0002")], 0.0)
    assert [one.row for one in table] == [1]


@pytest.mark.parametrize("status", CplStatus)
def test_only_an_active_row_lets_firmware_run(status):
    """F1.3: Active, Cancelled, Expired, Withdrawn."""
    table = FirmwareTable()
    table.load([row("ESME-a", V1, status=status)], 0.0)
    assert (V1 in table.active(*ESME)) is (status == "Active")
    assert table.get("Acme", "ESME-a", V1, S2).status is status
    assert table.get("Acme", "ESME-a", V1, S1) is None


def test_a_row_expires_after_its_last_day_and_its_devices_are_suspended():
    """LB-08, SU-01: when is a deadline of the Inventory, told beforehand."""
    made = premises()
    last = date(2026, 11, 21)
    rows = (
        *without("ESME-a", V1),
        row("ESME-a", V1, expiry=last),
        row("ESME-c", V1, expiry=date(2027, 1, 1)),
    )
    assert made.load(rows, now=seconds(2026, 11, 20)) == []
    due = made.inventory.next_deadline()
    assert due == seconds(2026, 11, 22)
    assert made.inventory.on_deadline(due - 1.0) == []
    assert made.inventory.on_deadline(due) == [DeviceSuspended(ESME_ID)]
    assert made.inventory.next_deadline() == seconds(2027, 1, 2)
    assert made.inventory.device(ESME_ID).history[-1].event.cpl == "CPL 2"
    assert made.load(ROWS, now=due) == [DeviceRestored(ESME_ID)]
    assert made.inventory.next_deadline() is None


def test_a_row_that_was_past_its_last_day_when_it_was_loaded_is_not_active():
    """Whatever its status says: assumed."""
    table = FirmwareTable()
    table.load([row("ESME-a", V1, expiry=date(2026, 1, 1))], seconds(2026, 1, 1, 23))
    assert V1 in table.active(*ESME)
    table.load([row("ESME-a", V1, expiry=date(2026, 1, 1))], seconds(2026, 1, 2))
    assert V1 not in table.active(*ESME)
    assert table.next_deadline() is None


def test_loading_says_which_models_have_other_active_rows():
    """The others are not looked at: a CPL has thousands of rows, of which few change."""
    table = FirmwareTable()
    assert table.load([row("ESME-a", V1), row("ESME-b", V1), row("ESME-c", V1, status="Expired")], 0.0) == {
        ESME, ("Acme", "ESME-b", S2),
    }  # fmt: skip
    assert table.load([row("ESME-a", V1), row("ESME-a", V2), row("ESME-b", V1)], 0.0) == {ESME}
    assert table.load([row("ESME-b", V1, gbcs_version="4.2")], 0.0) == {ESME, ("Acme", "ESME-b", S2)}


def test_the_active_rows_of_a_model_are_a_live_view():
    """What a Device's record holds changes with the table."""
    table = FirmwareTable()
    active = table.active(*ESME)
    table.load([row("ESME-a", V1)], 0.0)
    assert list(active) == [V1]
    table.load([], 0.0)
    assert not active


@pytest.mark.parametrize(("name", "value", "message"), [
    ("device_type", "TOASTER", "CPL row 5: device_type is 'TOASTER', not one of ESME"),
    ("device_type", "IHD", "CPL row 5: the CPL has no rows for IHD"),
    ("smets", "SMETS3", "CPL row 5: smets is 'SMETS3', not one of SMETS1, SMETS2"),
    ("status", "active", "CPL row 5: status is 'active', not one of Active"),
    ("firmware_version", 1 << 32, "CPL row 5: 4294967296 is no firmware version"),
    ("firmware_version", "0100", "CPL row 5: '0100' is no firmware version"),
    ("image_hash", bytes(20), "CPL row 5: the Manufacturer Image Hash has 20 octets, not 32"),
    ("model", "", "CPL row 5: manufacturer 'Acme', model ''"),
])  # fmt: skip
def test_a_value_that_no_row_can_have_is_a_clear_error(name, value, message):
    """F1.3, F4.1: the message has the row, the value and what would be right."""
    said = {
        "device_type": "ESME", "manufacturer": "Acme", "model": "x", "hardware_version": None,
        "firmware_version": V1, "smets": "SMETS2", "smets_version": "5.1", "gbcs_version": None,
        "image_hash": bytes(32), "status": "Active", "row": 5,
    }  # fmt: skip
    with pytest.raises(LocalProtocolError, match=message):
        CplRow(**(said | {name: value}))
