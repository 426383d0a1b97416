"""Tests of MP202 in the Inventory: dual-mode PPMIDs and late binding. Requirements LB-01 to LB-11."""

from __future__ import annotations

from itertools import permutations

import pytest

from harness.errors import RigError
from harness.smi.alerts import DeviceRestored, DeviceSuspended, PPMIDAlert, SmetsFamilyMismatch
from harness.smi.devices import SmetsFamily
from harness.smi.firmware_table import FirmwareTable
from harness.smi.requests import Acknowledged
from harness.smi.responses import ActivationAlertReceived, DeviceCommissioned, DeviceLogUpdated
from tests.unit.smi_bench import (
    ESME_ID,
    HUB_1,
    HUB_2,
    PPMID_ID,
    ROWS,
    S1,
    S2,
    V1,
    V2,
    image_hash,
    premises,
    row,
    update,
    update_ppmid,
    without,
)

HUBS = {S1: HUB_1, S2: HUB_2}
OTHER_PPMID, THIRD_PPMID = 0x41, 0x42


@pytest.mark.parametrize("order", list(permutations([S1, S2])))
@pytest.mark.parametrize("hashes", ["equal", "different"])
def test_the_two_rows_of_a_dual_mode_model_stand_side_by_side(order, hashes):
    """LB-01: neither replaces the other, in either order, whole or one after the other, hashes equal or not."""
    rows = [
        row("PPMID-x", V1, smets, image_hash=image_hash("x" if hashes == "equal" else smets, V1))
        for smets in order
    ]
    table = FirmwareTable()
    table.load(rows[:1], 0.0)
    table.load(rows, 0.0)
    assert {one.smets for one in table} == {S1, S2}
    for one in rows:
        assert table.get("Acme", "PPMID-x", V1, one.smets) == one
        assert table.active("Acme", "PPMID-x", one.smets) == {V1: one}


@pytest.mark.parametrize("smets", SmetsFamily)
def test_a_dual_mode_ppmid_can_be_pre_notified_as_either(smets):
    """LB-02."""
    made = premises()
    (verdict,) = made.pre_notify(PPMID_ID, "PPMID-dual", smets)
    assert isinstance(verdict, Acknowledged)
    assert (made.family(PPMID_ID), made.status(PPMID_ID)) == (smets, "Pending")


@pytest.mark.parametrize("pre_notified", SmetsFamily)
@pytest.mark.parametrize("hub", SmetsFamily)
def test_a_dual_mode_ppmid_is_bound_by_its_hub_all_four_ways(pre_notified, hub):
    """LB-03: whatever was pre-notified; the record says by which rule."""
    made = premises()
    made.pre_notify(PPMID_ID, "PPMID-dual", pre_notified)
    assert made.join(PPMID_ID, HUBS[hub]) == []
    device = made.inventory.device(PPMID_ID)
    assert (device.smets, device.status) == (hub, "InstalledNotCommissioned")
    assert device.row is not None
    assert device.row.smets is hub
    bindings = [change for change in device.history if change.field == "smets"]
    assert [(one.rule, one.before, one.after) for one in bindings] == (
        [] if pre_notified is hub else [("mp202.bound_by_hub", pre_notified, hub)]
    )


@pytest.mark.parametrize("pre_notified", SmetsFamily)
def test_without_the_modification_nothing_is_bound(pre_notified):
    """mp202: off. What was pre-notified stays, and nobody looks."""
    made = premises(mp202="off")
    made.pre_notify(PPMID_ID, "PPMID-dual", pre_notified)
    assert made.join(PPMID_ID, HUB_1) + made.join(PPMID_ID, HUB_2) == []
    assert made.family(PPMID_ID) == pre_notified


@pytest.mark.parametrize(("model", "pre_notified", "hub"), [("PPMID-s1", S1, S2), ("PPMID-s2", S2, S1)])
def test_a_ppmid_with_one_row_is_not_bound_and_the_mismatch_is_reported(model, pre_notified, hub):
    """LB-04: the family and the row stay; it joins all the same."""
    made = premises()
    made.pre_notify(PPMID_ID, model, pre_notified)
    assert made.join(PPMID_ID, HUBS[hub]) == [SmetsFamilyMismatch(PPMID_ID, HUBS[hub], pre_notified, hub)]
    assert (made.family(PPMID_ID), made.status(PPMID_ID)) == (pre_notified, "InstalledNotCommissioned")


def test_a_ppmid_of_whose_joining_nothing_was_heard_is_bound_when_it_is_commissioned():
    """LB-03: it is in the Device Log, and has joined if it answers."""
    made = premises()
    made.pre_notify(PPMID_ID, "PPMID-dual", S1)
    made.apply(DeviceLogUpdated(HUB_2, PPMID_ID, True))
    assert made.family(PPMID_ID) == S1
    made.apply(DeviceCommissioned(PPMID_ID))
    assert (made.family(PPMID_ID), made.status(PPMID_ID)) == (S2, "Commissioned")


def test_late_binding_is_about_ppmids_only():
    """MP202 Solution: a meter in a system of the other family is not bound, and not reported."""
    made = premises(meters=False)
    made.load((*ROWS, row("ESME-a", V1, "SMETS1")))
    made.pre_notify(ESME_ID, "ESME-a")
    assert made.join(ESME_ID, HUB_1) == []
    assert made.family(ESME_ID) == S2


def test_a_dual_mode_ppmid_in_a_smets2_system_takes_an_image_and_runs_it():
    """LB-05, its half in the Inventory: SR11.4 goes to it, its alert updates the version, the User is told."""
    made = premises()
    made.commission(PPMID_ID, "PPMID-dual", HUB_2, smets=S1)
    (verdict,) = made.apply(update_ppmid(PPMID_ID))
    assert (verdict.sent_to, verdict.warning) == ((PPMID_ID,), None)
    assert made.apply(ActivationAlertReceived(PPMID_ID, V2, True)) == [PPMIDAlert(PPMID_ID, V2, True)]
    assert (made.version(PPMID_ID), made.status(PPMID_ID), made.family(PPMID_ID)) == (V2, "Commissioned", S2)


@pytest.mark.parametrize(("smets1_ota", "mp202", "sent"), [
    ("refused", "on", False), ("allowed", "on", True), ("refused", "off", True), ("allowed", "off", True),
])  # fmt: skip
def test_ota_in_a_smets1_system_is_refused_or_still_possible(smets1_ota, mp202, sent):
    """LB-06: both positions are selectable; Requirement 7 is MP202's, so without it there is none."""
    made = premises(smets1_ota=smets1_ota, mp202=mp202)
    made.commission(PPMID_ID, "PPMID-dual", HUB_1, smets=S1)
    (verdict,) = made.apply(update_ppmid(PPMID_ID))
    assert verdict.sent_to == ((PPMID_ID,) if sent else ())
    assert verdict.lists.not_applicable_firmware == (() if sent else (PPMID_ID,))
    assert verdict.warning == (None if sent else "W110401")


def test_requirement_7_is_about_dual_mode_ppmids_only():
    """LB-06: a PPMID with a SMETS1 row only is not its subject."""
    made = premises(smets1_ota="refused")
    made.commission(PPMID_ID, "PPMID-s1", HUB_1, smets=S1)
    assert made.apply(update_ppmid(PPMID_ID))[0].sent_to == (PPMID_ID,)


@pytest.mark.parametrize(("first", "second"), list(permutations([S1, S2])))
@pytest.mark.parametrize("removed", [True, False])
def test_a_ppmid_moved_to_a_hub_of_the_other_family_is_bound_anew(first, second, removed):
    """LB-07: there, and back; removed from the first Device Log before, or not."""
    made = premises()
    made.commission(PPMID_ID, "PPMID-dual", HUBS[first], smets=first)
    for leaving, hub in ((first, second), (second, first)):
        if removed:
            made.apply(DeviceLogUpdated(HUBS[leaving], PPMID_ID, False))
            assert made.status(PPMID_ID) == "Pending"
        made.join(PPMID_ID, HUBS[hub])
        assert made.family(PPMID_ID) == hub
        (*_, change) = (one for one in made.inventory.device(PPMID_ID).history if one.field == "smets")
        assert (change.rule, change.after) == ("mp202.bound_anew", hub)
        assert [one.device for one in made.inventory.system(HUBS[hub]).devices][-1] == PPMID_ID
        assert PPMID_ID not in [one.device for one in made.inventory.system(HUBS[leaving]).devices]


@pytest.mark.parametrize("family", SmetsFamily)
def test_removing_one_of_the_two_rows_suspends_the_ppmids_of_that_family_only(family):
    """LB-08: and no other Device; with the row back, they are what they were."""
    made = premises()
    made.commission(PPMID_ID, "PPMID-dual", HUB_1, smets=S1)
    made.commission(OTHER_PPMID, "PPMID-dual", HUB_2, smets=S2)
    made.commission(THIRD_PPMID, "PPMID-dual", HUBS[family], smets=family, version=V2)
    bound = {S1: PPMID_ID, S2: OTHER_PPMID}[family]
    assert made.load(without("PPMID-dual", V1, family)) == [DeviceSuspended(bound)]
    assert [one for one in made.inventory if made.status(one) == "Suspended"] == [bound]
    assert made.inventory.device(bound).history[-1].rule == "mp202.row_of_family_gone"
    assert made.load(ROWS, "CPL 3") == [DeviceRestored(bound)]
    change = made.inventory.device(bound).history[-1]
    assert (change.rule, change.event.cpl) == ("base.restored_by_the_cpl", "CPL 3")


def test_a_ppmid_bound_to_an_active_row_is_restored_by_the_binding():
    """No Device is both Suspended and on an Active row: pre-notified as SMETS1, whose row was withdrawn since."""
    made = premises()
    made.pre_notify(PPMID_ID, "PPMID-dual", S1)
    rows = (*without("PPMID-dual", V1, S1), row("PPMID-dual", V1, "SMETS1", status="Withdrawn"))
    assert made.load(rows) == [DeviceSuspended(PPMID_ID)]
    assert made.join(PPMID_ID, HUB_2) == [DeviceRestored(PPMID_ID)]
    assert (made.status(PPMID_ID), made.family(PPMID_ID)) == ("InstalledNotCommissioned", S2)


def test_a_ppmid_is_not_bound_to_a_row_that_is_not_active():
    """Late binding would suspend it: it stays what it is, and the mismatch is reported."""
    made = premises()
    made.load((*without("PPMID-dual", V1, S2), row("PPMID-dual", V1, "SMETS2", status="Expired")))
    made.pre_notify(PPMID_ID, "PPMID-dual", S1)
    assert made.join(PPMID_ID, HUB_2) == [SmetsFamilyMismatch(PPMID_ID, HUB_2, S1, S2)]
    assert (made.status(PPMID_ID), made.family(PPMID_ID)) == ("InstalledNotCommissioned", S1)


def test_a_ppmid_whose_version_came_after_it_joined_is_bound_then():
    """LB-03: pre-notified without a version, nothing says that it is dual-mode until its version is read."""
    made = premises()
    made.pre_notify(PPMID_ID, "PPMID-dual", S1, version=None)
    assert made.join(PPMID_ID, HUB_2) == [SmetsFamilyMismatch(PPMID_ID, HUB_2, S1, S2)]
    assert made.read(PPMID_ID, V1) == []
    assert (made.family(PPMID_ID), made.version(PPMID_ID)) == (S2, V1)


def test_three_variants_of_one_image_need_three_rows():
    """LB-09: the hash differs by variant, and one row has one hash."""
    hashes = [image_hash(f"variant {number}", V1) for number in range(3)]
    table = FirmwareTable()
    with pytest.raises(RigError, match="image_hash"):
        table.load([row("PPMID-x", V1, image_hash=one) for one in hashes], 0.0)
    table.load([row(f"PPMID-x{number}", V1, image_hash=one) for number, one in enumerate(hashes)], 0.0)
    assert len(table) == 3


def test_the_devices_that_cannot_take_the_one_image_are_named():
    """LB-10: one image a request; who is of another model, or has another hash, is named and gets nothing."""
    made = premises()
    made.commission(PPMID_ID, "PPMID-dual", HUB_2)
    made.commission(OTHER_PPMID, "PPMID-s2", HUB_2)
    (verdict,) = made.apply(
        update_ppmid(PPMID_ID, OTHER_PPMID, ESME_ID, image_hash=image_hash("PPMID-dual", V2))
    )
    assert verdict.sent_to == (PPMID_ID,)
    assert verdict.warning == "W110401"
    assert verdict.lists.not_applicable_firmware == (OTHER_PPMID, ESME_ID)
    assert made.inventory.device(OTHER_PPMID).upgrade is None
    assert made.apply(update(PPMID_ID))[0].lists.not_applicable_firmware == (PPMID_ID,)


@pytest.mark.parametrize("hub", SmetsFamily)
def test_the_family_that_a_device_has_to_behave_as_is_its_hubs(hub):
    """LB-11, its half in the Inventory: what the record and the system say of it is one and the same."""
    made = premises()
    made.commission(PPMID_ID, "PPMID-dual", HUBS[hub], smets=S1)
    system = made.inventory.system(HUBS[hub])
    assert {one.smets for one in system.devices if one.device == PPMID_ID} == {system.smets} == {hub}
