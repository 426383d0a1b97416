"""Tests of MP170 in the Inventory: bridges as PPMID variants. Requirements AH-01, AH-02 and AH-09 to AH-17."""

from __future__ import annotations

from dataclasses import fields

import pytest

from harness.errors import LocalProtocolError
from harness.smi.alerts import CommsHubAlert, CSPFirmwareDeliveryStatus, PPMIDAlert
from harness.smi.devices import TYPE_1, PpmidVariant
from harness.smi.record import Stage
from harness.smi.requests import Acknowledged, Refused
from harness.smi.responses import (
    ActivationAlertReceived,
    DeviceCommissioned,
    DeviceLogUpdated,
    ImageDelivered,
    PpmidsLabelled,
    TransferReported,
    TransferResponse,
)
from tests.unit.smi_bench import (
    ESME_ID,
    GS,
    GSME_ID,
    HCALCS_ID,
    HUB_2,
    IS,
    PPMID_ID,
    ROWS,
    S2,
    SUCCESS,
    V1,
    V2,
    Premises,
    image_hash,
    premises,
    relabel,
    row,
    update,
    update_ppmid,
)

BRIDGES = [PpmidVariant.B1, PpmidVariant.B2, PpmidVariant.B3, PpmidVariant.B4]
BRIDGE_ROWS = tuple(row(f"PPMID-{bridge}", version) for bridge in BRIDGES for version in (V1, V2))
IDS = {bridge: 0x50 + number for number, bridge in enumerate(BRIDGES)}
SHOWN = {"off": [], "base": BRIDGES, "option_a": BRIDGES[:3], "option_b": BRIDGES[:1]}


def site(mp170: str, **options: str) -> Premises:
    """Return a premises with as many bridges commissioned as the Inventory shows."""
    made = premises(mp170=mp170, **options)
    made.load((*ROWS, *BRIDGE_ROWS))
    for bridge in SHOWN[mp170]:
        made.commission(IDS[bridge], f"PPMID-{bridge}", HUB_2, variant=bridge)
    return made


@pytest.mark.parametrize("mp170", SHOWN)
@pytest.mark.parametrize("bridge", BRIDGES)
def test_the_inventory_shows_the_bridges_of_the_option_and_no_others(mp170, bridge):
    """AH-01, AH-11, AH-12: B1 to B4; B1 to B3; B1 alone; and none without the modification."""
    made = premises(mp170=mp170)
    made.load((*ROWS, *BRIDGE_ROWS))
    (verdict,) = made.pre_notify(IDS[bridge], f"PPMID-{bridge}", variant=bridge)
    if bridge in SHOWN[mp170]:
        assert isinstance(verdict, Acknowledged)
        assert made.inventory.device(IDS[bridge]).ppmid_variant is bridge
    else:
        assert isinstance(verdict, Refused)
        assert verdict.rule.startswith("mp170.")
        assert IDS[bridge] not in made.inventory


def test_each_bridge_has_a_package_of_its_own():
    """AH-02, its half in the Inventory: the package of B1 is not applicable to B2, and B2 is named."""
    made = site("base")
    package = update_ppmid(IDS[BRIDGES[0]], IDS[BRIDGES[1]], image_hash=image_hash("PPMID-B1", V2))
    (verdict,) = made.apply(package)
    assert verdict.sent_to == (IDS[BRIDGES[0]],)
    assert verdict.lists.not_applicable_firmware == (IDS[BRIDGES[1]],)


@pytest.mark.parametrize("mp170", ["base", "option_a", "option_b"])
@pytest.mark.parametrize(("presence", "taken"), [("optional", True), ("mandatory", False)])
def test_the_variant_may_be_absent_or_must_be_there(mp170, presence, taken):
    """AH-09: and a Device of another type needs none in either case."""
    made = premises(mp170=mp170, ppmid_variant=presence)
    assert isinstance(made.pre_notify(PPMID_ID, "PPMID-s2")[0], Acknowledged) is taken
    assert (PPMID_ID in made.inventory) is taken
    assert isinstance(made.pre_notify(0x60, "PPMID-s2", variant=PpmidVariant.PPMID)[0], Acknowledged)
    assert isinstance(made.pre_notify(HCALCS_ID, "HCALCS-a")[0], Acknowledged)


def test_without_the_modification_no_variant_is_needed():
    """AH-09: `mandatory` is MP170's."""
    made = premises(mp170="off", ppmid_variant="mandatory")
    assert isinstance(made.pre_notify(PPMID_ID, "PPMID-s2")[0], Acknowledged)


def test_a_one_off_uplift_labels_the_ppmids_that_have_no_variant():
    """AH-09: the record says that it was the uplift."""
    made = site("base")
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    assert made.apply(PpmidsLabelled(((PPMID_ID, PpmidVariant.PPMID),))) == []
    device = made.inventory.device(PPMID_ID)
    assert (device.ppmid_variant, device.history[-1].rule) == ("PPMID", "mp170.uplifted")


@pytest.mark.parametrize(("mp170", "device", "variant", "message"), [
    ("off", PPMID_ID, PpmidVariant.B1, "mp170 is off"),
    ("base", ESME_ID, PpmidVariant.B1, "ESME 00-00-00-00-00-00-00-11"),
    ("base", 0x50, PpmidVariant.B2, "has variant B1"),
    ("option_b", PPMID_ID, PpmidVariant.B2, "as B2"),
    ("base", 0x99, PpmidVariant.B1, "00-00-00-00-00-00-00-99 is not in the Inventory"),
])  # fmt: skip
def test_an_uplift_with_one_label_wrong_labels_nobody(mp170, device, variant, message):
    """AH-09: a clear error, and nothing changed."""
    made = site(mp170)
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    made.commission(0x61, "PPMID-s2", HUB_2)
    with pytest.raises(LocalProtocolError, match=message):
        made.apply(PpmidsLabelled(((0x61, PpmidVariant.PPMID), (device, variant))))
    assert made.inventory.device(0x61).ppmid_variant is None


@pytest.mark.parametrize(("change", "taken"), [("refused", False), ("allowed", True)])
def test_the_variant_can_or_cannot_be_changed_after_commissioning(change, taken):
    """AH-10."""
    made = site("base", variant_change=change)
    device = IDS[PpmidVariant.B1]
    (verdict,) = made.apply(relabel(device, PpmidVariant.B2))
    assert isinstance(verdict, Acknowledged) is taken
    assert made.inventory.device(device).ppmid_variant == ("B2" if taken else "B1")
    if not taken:
        assert verdict.rule == "mp170.variant_stays"


@pytest.mark.parametrize("change", ["refused", "allowed"])
def test_before_commissioning_the_variant_can_be_changed_in_either_case(change):
    """AH-10 speaks of the time after commissioning."""
    made = premises(mp170="base", variant_change=change)
    made.pre_notify(PPMID_ID, "PPMID-s2", variant=PpmidVariant.B1)
    assert isinstance(made.apply(relabel(PPMID_ID, PpmidVariant.B2))[0], Acknowledged)
    made.apply(DeviceCommissioned(PPMID_ID))
    assert isinstance(made.apply(relabel(PPMID_ID, PpmidVariant.B3))[0], Acknowledged) is (
        change == "allowed"
    )


@pytest.mark.parametrize(("mp170", "device", "variant"), [
    ("off", PPMID_ID, "B1"), ("option_a", PPMID_ID, "B4"), ("option_b", PPMID_ID, "B2"), ("base", ESME_ID, "B1"),
])  # fmt: skip
def test_a_variant_that_the_inventory_does_not_show_is_not_set(mp170, device, variant):
    """AH-10, AH-11, AH-12: nor that of a Device that is no PPMID."""
    made = site(mp170)
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    assert isinstance(made.apply(relabel(device, PpmidVariant(variant)))[0], Refused)
    assert made.inventory.device(device).ppmid_variant is None


def test_option_a_updates_b3_and_b4_by_one_package_to_b3():
    """AH-11, its half in the Inventory: B4 is not known, so the only package is B3's."""
    made = site("option_a")
    (verdict,) = made.apply(update_ppmid(IDS[PpmidVariant.B3], IDS[PpmidVariant.B4]))
    assert verdict.sent_to == (IDS[PpmidVariant.B3],)
    assert verdict.lists.invalid_device_ids == (IDS[PpmidVariant.B4],)


def test_under_option_b_the_one_failure_does_not_say_which_bridge_failed():
    """AH-13: B1 answers for its site; neither the alert nor the Inventory has a place for another bridge."""
    made = site("option_b")
    bridge = IDS[PpmidVariant.B1]
    made.apply(update_ppmid(bridge))
    (alert,) = made.apply(ActivationAlertReceived(bridge, V2, activated=False))
    assert alert == PPMIDAlert(bridge, V2, activated=False)
    assert {field.name for field in fields(alert)} == {"device", "firmware_version", "activated"}
    assert [one.device for one in made.inventory.system(HUB_2).devices if one.ppmid_variant] == [bridge]
    assert not any(other in " ".join(made.inventory.explain(bridge)) for other in ("B2", "B3", "B4"))


@pytest.mark.parametrize(("mp170", "used"), [("base", 4), ("option_a", 3), ("option_b", 1)])
def test_the_options_use_up_the_hubs_type_1_devices_unequally(mp170, used):
    """AH-14, its half in the Inventory: Option B uses one where the base solution uses up to four."""
    made = site(mp170)
    assert sum(device.device_type in TYPE_1 for device in made.inventory.system(HUB_2).devices) == used


def test_a_join_that_the_hub_refuses_leaves_the_device_pending():
    """AH-14: deviceLogFull; nothing of the record changes."""
    made = site("base")
    made.pre_notify(PPMID_ID, "PPMID-s2")
    before = made.inventory.device(PPMID_ID)
    assert made.apply(DeviceLogUpdated(HUB_2, PPMID_ID, added=True, done=False)) == []
    assert made.inventory.device(PPMID_ID) == before
    assert before.status == "Pending"


@pytest.mark.parametrize(("device", "model"), [(ESME_ID, None), (GSME_ID, None), (PPMID_ID, "PPMID-s2")])
def test_delivered_to_the_hub_delivered_to_the_device_and_activated_are_three_things(device, model):
    """AH-15: three reports, three stages, three alerts or answers; none of them says another."""
    made = premises()
    if model is not None:
        made.commission(device, model, HUB_2)

    def stage() -> Stage | None:
        upgrade = made.inventory.device(device).upgrade
        return None if upgrade is None else upgrade.stage

    request = update_ppmid(device) if model else update(device, user=GS if device == GSME_ID else IS)
    made.apply(request)
    assert (stage(), made.version(device)) == (Stage.REQUESTED, V1)
    delivered = made.apply(ImageDelivered("r1", HUB_2, device, V2, delivered=True))
    n60 = CSPFirmwareDeliveryStatus("r1", HUB_2, device, V2, True)
    assert delivered == ([] if model else [n60])
    assert (stage(), made.version(device)) == (Stage.AT_HUB, V1)
    (transferred,) = made.apply(TransferReported(HUB_2, device, V2, TransferResponse.SUCCESS))
    assert transferred == CommsHubAlert(HUB_2, device, V2, TransferResponse.SUCCESS, "r1")
    assert (stage(), made.version(device)) == (Stage.AT_DEVICE, V1)
    if model:
        made.apply(ActivationAlertReceived(device, V2, activated=True))
    else:
        made.activated(device, SUCCESS, V2)
    assert (stage(), made.version(device)) == (None, V2)


def test_the_history_has_the_steps_of_a_run_in_order():
    """AH-16, its half in the Inventory: what happened, by which event, for who draws it."""
    made = site("option_b")
    bridge = IDS[PpmidVariant.B1]
    made.apply(update_ppmid(bridge), 200.0)
    made.apply(ImageDelivered("r1", HUB_2, bridge, V2, True), 201.0)
    made.apply(TransferReported(HUB_2, bridge, V2, TransferResponse.SUCCESS), 202.0)
    made.apply(ActivationAlertReceived(bridge, V2, True), 203.0)
    steps = [change for change in made.inventory.device(bridge).history if change.at >= 200.0]
    assert [(one.at, type(one.event).__name__, one.field) for one in steps] == [
        (200.0, "ImageRequested", "upgrade"),
        (201.0, "ImageDelivered", "upgrade"),
        (202.0, "TransferReported", "upgrade"),
        (203.0, "ActivationAlertReceived", "firmware_version"),
        (203.0, "ActivationAlertReceived", "upgrade"),
    ]


@pytest.mark.parametrize(("hub_model", "least", "sent"), [
    ("CHF-s2", "4.0", True), ("CHF-old", "4.0", False), ("CHF-old", "3.2", True), ("CHF-s2", "10.0", False),
])  # fmt: skip
def test_a_hub_that_predates_secmp0007_is_named_and_nothing_is_sent(hub_model, least, sent):
    """AH-17: InvalidGBCSVersionList; which GBCS version it takes is assumed, and so a parameter."""
    made = premises(secmp0007_gbcs=least)
    made.commission(0x70, hub_model)
    made.commission(PPMID_ID, "PPMID-s2", 0x70, smets=S2)
    made.commission(HCALCS_ID, "HCALCS-a", 0x70)
    made.commission(0x71, "ESME-a", 0x70)
    for request, device in ((update_ppmid(PPMID_ID), PPMID_ID), (update(HCALCS_ID), HCALCS_ID)):
        (verdict,) = made.apply(request)
        assert verdict.sent_to == ((device,) if sent else ())
        assert verdict.lists.invalid_gbcs_version == (() if sent else (device,))
        assert (made.inventory.device(device).upgrade is not None) is sent
    assert made.apply(update(0x71))[0].sent_to == (0x71,)  # an ESME's image asks for nothing new
