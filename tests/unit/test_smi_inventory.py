"""Tests of the records of the Inventory: statuses, systems, history, what it says of itself, plain data."""

from __future__ import annotations

import json
import sys

import pytest

from harness.errors import LocalProtocolError
from harness.smi.alerts import CommsHubFirmwareActivation, DeviceRestored, DeviceSuspended, FirmwareNotOnCpl
from harness.smi.devices import DeviceStatus, PpmidVariant
from harness.smi.inventory import Inventory
from harness.smi.plain import event_from_plain, event_to_plain, from_plain, to_plain
from harness.smi.record import HISTORY_LIMIT
from harness.smi.requests import DecommissionDevice, ReadFirmwareVersion, UpdateInventory
from harness.smi.responses import (
    CplLoaded,
    DeviceCommissioned,
    DeviceJoined,
    DeviceLogUpdated,
    DeviceOptedOut,
    FirmwareActivated,
    FirmwareVersionRead,
    HubFirmwareActivated,
    PpmidsLabelled,
    RecoveryCompleted,
    RecoveryStarted,
    TransferReported,
    TransferResponse,
)
from harness.smi.rules import RULES
from tests.unit.smi_bench import (
    ESME_ID,
    GPF_ID,
    GSME_ID,
    HUB_1,
    HUB_2,
    IHD_ID,
    IS,
    PPMID_ID,
    ROWS,
    S1,
    SUCCESS,
    V1,
    V2,
    V9,
    premises,
    row,
    update,
    without,
)


def test_a_device_goes_through_its_statuses():
    """F4.2: the transitions, each with its rule; all nine statuses but Suspended, which has tests of its own."""
    made = premises(meters=False)
    made.pre_notify(ESME_ID, "ESME-a")
    for event in (
        DeviceLogUpdated(HUB_2, ESME_ID, True), DeviceJoined(HUB_2, ESME_ID), DeviceCommissioned(ESME_ID),
        RecoveryStarted(ESME_ID), RecoveryCompleted(ESME_ID), DeviceOptedOut(ESME_ID), DecommissionDevice(IS, ESME_ID),
    ):  # fmt: skip
        made.apply(event)
    statuses = [
        (one.after, one.rule) for one in made.inventory.device(ESME_ID).history if one.field == "status"
    ]
    assert statuses == [
        ("Pending", "base.pre_notified"),
        ("Whitelisted", "base.added_to_device_log"),
        ("InstalledNotCommissioned", "base.joined"),
        ("Commissioned", "base.commissioned"),
        ("Recovery", "base.recovering"),
        ("Recovered", "base.recovering"),
        ("Withdrawn", "base.withdrawn"),
    ]
    assert made.code(DecommissionDevice(IS, ESME_ID)) == "E5"
    assert {status for status, _ in statuses} | {"Suspended", "Decommissioned"} == set(DeviceStatus)


def test_a_decommissioned_device_leaves_its_system_and_is_not_brought_back_by_late_news():
    """F4.2: nor is it Suspended for want of a row."""
    made = premises()
    assert made.apply(DecommissionDevice(IS, ESME_ID))[0].code == "I0"
    for late in (
        DeviceCommissioned(ESME_ID),
        DeviceJoined(HUB_2, ESME_ID),
        DeviceLogUpdated(HUB_2, ESME_ID, True),
    ):
        made.apply(late)
    assert made.load(without("ESME-a", V1)) == []
    device = made.inventory.device(ESME_ID)
    assert (device.status, device.hub, device.commissioned_at) == ("Decommissioned", None, None)
    assert ESME_ID not in [one.device for one in made.inventory.system(HUB_2).devices]


def test_what_happens_to_a_suspended_device_is_kept_for_its_return():
    """F4.2: it joins and is commissioned meanwhile; restored, it has the status that it would have had."""
    made = premises(meters=False)
    made.pre_notify(ESME_ID, "ESME-a")
    assert made.load(without("ESME-a", V1)) == [DeviceSuspended(ESME_ID)]
    made.join(ESME_ID, HUB_2)
    assert made.inventory.device(ESME_ID).status_before_suspension == "InstalledNotCommissioned"
    made.apply(DeviceCommissioned(ESME_ID), 50.0)
    assert made.status(ESME_ID) == "Suspended"
    assert made.read(ESME_ID, V2) == [DeviceRestored(ESME_ID)]
    device = made.inventory.device(ESME_ID)
    assert (device.status, device.commissioned_at) == ("Commissioned", 50.0)


def test_a_hub_has_its_system():
    """F4.1: the hub's family, its GPF, and the Devices of its Device Log in the order of being added."""
    made = premises()
    system = made.inventory.system(HUB_2)
    assert (system.hub, system.smets) == (HUB_2, "SMETS2")
    assert [one.device for one in system.devices] == [GPF_ID, ESME_ID, GSME_ID]
    assert {one.hub for one in system.devices} == {HUB_2}
    assert made.inventory.system(HUB_1).devices == ()


def test_a_device_log_entry_that_is_there_already_moves_nobody():
    """F7, CCS01: a duplicate is success; nor does the removal of a Device that the hub does not have."""
    made = premises()
    for idle in (DeviceLogUpdated(HUB_2, ESME_ID, True), DeviceLogUpdated(HUB_1, ESME_ID, False)):
        assert made.apply(idle) == []
        device = made.inventory.device(ESME_ID)
        assert (device.status, device.hub) == ("Commissioned", HUB_2)
    made.apply(DeviceLogUpdated(HUB_2, ESME_ID, False))
    assert made.status(ESME_ID) == "Pending"
    made.apply(UpdateInventory(IS, ESME_ID, status=DeviceStatus.INSTALLED_NOT_COMMISSIONED))
    made.apply(DeviceLogUpdated(HUB_2, ESME_ID, False))
    assert made.status(ESME_ID) == "InstalledNotCommissioned"


def test_no_image_is_on_its_way_to_a_device_that_has_left_its_hub():
    """F2.6: the hub has it, and no longer the Device."""
    made = premises()
    made.apply(update(ESME_ID))
    made.apply(DeviceLogUpdated(HUB_2, ESME_ID, False))
    assert made.inventory.device(ESME_ID).upgrade is None


def test_the_firmware_of_a_hub_comes_from_the_csp():
    """F2.6: Users are told; a version that is no Active row suspends the hub as any Device."""
    made = premises()
    told = CommsHubFirmwareActivation(HUB_2, V2)
    assert made.apply(HubFirmwareActivated(HUB_2, V2)) == [told]
    assert made.apply(HubFirmwareActivated(HUB_2, V2)) == [told]
    assert made.apply(HubFirmwareActivated(HUB_2, V9))[1:] == [
        FirmwareNotOnCpl(HUB_2, V9, True), DeviceSuspended(HUB_2),
    ]  # fmt: skip
    assert made.apply(HubFirmwareActivated(HUB_2, V1))[1:] == [DeviceRestored(HUB_2)]


def test_a_hub_that_is_deleted_leaves_no_system_behind():
    """Its Devices are in none then."""
    made = premises()
    made.apply(DecommissionDevice(IS, HUB_2))
    made.apply(UpdateInventory(IS, HUB_2, delete=True))
    assert [made.inventory.device(one).hub for one in (GPF_ID, ESME_ID, GSME_ID)] == [None] * 3
    with pytest.raises(LocalProtocolError, match="not in the Inventory"):
        made.inventory.system(HUB_2)
    assert made.apply(FirmwareVersionRead(GPF_ID, V2)) == []


def test_a_response_that_says_what_is_known_changes_nothing():
    """The history has changes, not readings."""
    made = premises()
    before = made.inventory.device(ESME_ID)
    for event in (
        FirmwareVersionRead(ESME_ID, V1),
        FirmwareActivated(ESME_ID, SUCCESS, V1),
        DeviceJoined(HUB_2, ESME_ID),
    ):
        assert made.apply(event) == []
    assert made.inventory.device(ESME_ID) == before


# --- why -------------------------------------------------------------------------------------------------------------


def test_why_is_this_device_suspended_has_an_answer():
    """Each change has its time, its event, its rule with source and basis, in a sentence."""
    made = premises()
    made.load(without("ESME-a", V1), "CPL of 20 November", 1_795_132_800.0)
    said = made.inventory.explain(ESME_ID)
    assert said[0] == (
        "ESME 00-00-00-00-00-00-00-11 (Acme ESME-a, SMETS2) is Suspended and was Commissioned; firmware version "
        "00000100 is no Active row of CPL of 20 November for this model and family."
    )
    assert said[-1] == (
        "2026-11-20 00:00:00: status Commissioned -> Suspended, after ActiveRowsChanged(cpl CPL of 20 November, "
        "Acme ESME-a SMETS2). A Device whose firmware version in the Inventory is no Active CPL row of its model and "
        "family is Suspended. [base.suspended (SU-01; sourced: MP105 Issue, F4.2)]"
    )


def test_each_change_is_told_with_its_request_or_response():
    """Service Requests by their reference, Devices by their EUI-64, versions in hexadecimal."""
    made = premises()
    made.apply(update(ESME_ID))
    made.activated(ESME_ID, SUCCESS, V2)
    said = "\n".join(made.inventory.explain(ESME_ID))
    assert "status none -> Pending, after PreNotifyDevice(SR12.2, device 00-00-00-00-00-00-00-11" in said
    assert "hub none -> 00-00-00-00-00-00-00-22, after DeviceLogUpdated(" in said
    assert "upgrade none -> 00000200 requested (r1), after ImageRequested(SR11.1, request id r1" in said
    assert "firmware version 00000100 -> 00000200, after FirmwareActivated(" in said
    assert "outcome 0" in said
    with pytest.raises(LocalProtocolError, match="00-00-00-00-00-00-00-77 is not in the Inventory"):
        made.inventory.explain(0x77)


def test_the_history_is_bounded_and_never_forgets_the_last_change_of_a_field():
    """The answer to "why" stays; how many changes are gone is told."""
    made = premises()
    for number in range(100):
        # None is Active: Suspended by the first, another version each time.
        made.apply(FirmwareVersionRead(ESME_ID, V9 + number), 100.0 + number)
        times = [change.at for change in made.inventory.device(ESME_ID).history]
        assert times == sorted(times)
    device = made.inventory.device(ESME_ID)
    assert HISTORY_LIMIT // 2 < len(device.history) <= HISTORY_LIMIT
    last = {change.field: change for change in device.history}
    assert (last["status"].after, last["status"].event) == ("Suspended", FirmwareVersionRead(ESME_ID, V9))
    assert (last["firmware_version"].after, last["hub"].after) == (V9 + 99, HUB_2)
    assert f"{device.forgotten} earlier changes are not kept." in made.inventory.explain(ESME_ID)
    assert device.forgotten + len(device.history) == 107


def test_a_device_with_its_whole_history_takes_less_than_4_kib():
    """A hundred thousand Devices are 400 MB at the most: what the record holds that no other Device shares."""
    made = premises()
    for number in range(100):
        made.apply(FirmwareVersionRead(ESME_ID, V9 + number), 100.0 + number)
    record = made.inventory.ledger.records[ESME_ID]
    shared = (type(None), str, bool, type)
    seen: dict[int, object] = {id(record): record}
    for change in (record.history, *record.history):
        seen[id(change)] = change
        parts = change if isinstance(change, tuple) else ()
        for part in parts:
            if not isinstance(part, shared) and type(part).__name__ != "PreNotifyDevice":
                seen[id(part)] = part
                seen.update(
                    (id(value), value)
                    for name in getattr(part, "__slots__", ())
                    if (value := getattr(part, name))
                )
    size = sum(sys.getsizeof(value) for value in seen.values())
    assert size < 4096


# --- plain data ------------------------------------------------------------------------------------------------------


def busy() -> Inventory:
    """Return an Inventory in which all sorts of things happened."""
    made = premises(mp170="base")
    made.commission(PPMID_ID, "PPMID-dual", HUB_1, smets=S1)
    made.commission(IHD_ID, "IHD-a", HUB_2, version=None)
    made.apply(PpmidsLabelled(((PPMID_ID, PpmidVariant.PPMID),)))
    made.apply(update(ESME_ID, version=V2))
    made.apply(TransferReported(HUB_2, ESME_ID, V2, TransferResponse.SUCCESS))
    made.load((*without("GSME-a", V1), row("ESME-q", V1, predecessors=("CPL-1", "CPL-2"), row=9)))
    made.join(PPMID_ID, HUB_2)
    return made.inventory


def test_a_snapshot_brings_back_the_whole_inventory():
    """Through JSON: every Device, its history, the systems, the rows, and what is live between them."""
    inventory = busy()
    plain = json.loads(json.dumps(to_plain(inventory)))
    again = from_plain(plain)
    assert [again.device(one) for one in again] == [inventory.device(one) for one in inventory]
    assert [again.explain(one) for one in again] == [inventory.explain(one) for one in inventory]
    assert again.system(HUB_2) == inventory.system(HUB_2)
    assert again.rows() == inventory.rows()
    assert again.options == inventory.options
    assert again.next_deadline() == inventory.next_deadline()
    assert to_plain(again) == plain
    # The records look at the table that was loaded, not at a copy of it.
    assert again.apply(CplLoaded("CPL 9", ROWS), 300.0) == inventory.apply(CplLoaded("CPL 9", ROWS), 300.0)
    assert again.device(GSME_ID).status == "Commissioned"
    assert again.check(update(ESME_ID)) == inventory.check(update(ESME_ID))
    assert again.check(update(ESME_ID)).sent_to == (ESME_ID,)


@pytest.mark.parametrize("event", [
    CplLoaded("x", (row("ESME-a", V1, row=3, predecessors=("a",)),)), FirmwareActivated(ESME_ID, SUCCESS, V2),
    update(ESME_ID, image_hash=bytes(32)), ReadFirmwareVersion(IS, ESME_ID), PpmidsLabelled(((1, PpmidVariant.B1),)),
    UpdateInventory(IS, ESME_ID, status=DeviceStatus.PENDING), HubFirmwareActivated(HUB_2, V2),
], ids=lambda event: type(event).__name__)  # fmt: skip
def test_an_event_comes_back_from_plain_data(event):
    """For a log of what was applied; enumerations and nested values included."""
    again = event_from_plain(json.loads(json.dumps(event_to_plain(event))))
    assert again == event
    assert repr(again) == repr(event)


@pytest.mark.parametrize(("plain", "message"), [
    ({"is": "Popen"}, "says it is 'Popen'"),
    ({}, "says it is None"),
    ({"is": "FirmwareVersionRead", "device": 1}, "FirmwareVersionRead differs from it in firmware_version"),
    ({"is": "FirmwareVersionRead", "device": 1, "firmware_version": 2, "x": 1}, "differs from it in x"),
])  # fmt: skip
def test_plain_data_that_is_no_event_is_a_clear_error(plain, message):
    """Bad input."""
    with pytest.raises(LocalProtocolError, match=message):
        event_from_plain(plain)


def test_a_snapshot_of_another_schema_is_not_read():
    """Bad input."""
    with pytest.raises(LocalProtocolError, match=r"schema 'harness\.smi/0', not harness\.smi/1"):
        from_plain({**to_plain(busy()), "schema": "harness.smi/0"})


def test_a_snapshot_that_lacks_something_is_not_read():
    """Bad input: what is missing is named."""
    plain = to_plain(busy())
    with pytest.raises(LocalProtocolError, match="a snapshot differs from it in cpl"):
        from_plain({name: value for name, value in plain.items() if name != "cpl"})
    del plain["records"][0]["hub"]
    with pytest.raises(LocalProtocolError, match="a Device differs from it in hub"):
        from_plain(plain)


def test_every_rule_that_a_history_names_is_in_the_table():
    """`explain` prints a rule by its id."""
    inventory = busy()
    named = {change.rule for one in inventory for change in inventory.device(one).history}
    assert len(named) > 5
    assert named <= RULES.keys()
