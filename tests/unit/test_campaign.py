"""Tests of planning a campaign: everybody planned or refused once, and no two images at a hub that undo each other."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.smi.campaign import (
    LISTS,
    SUPPLIERS,
    Arrival,
    CampaignImage,
    Plan,
    into_waves,
    parted_by,
    plan,
)
from harness.smi.devices import DeviceType, PpmidVariant
from harness.smi.image_fate import Basis, Fate, Stage, Target, fate
from harness.smi.requests import Acknowledged, UpdateFirmware, UpdatePpmidFirmware
from harness.smi.responses import TransferReported, TransferResponse
from harness.smi.rules import RULES
from tests.unit.smi_bench import (
    ESME_ID,
    GPF_ID,
    GSME_ID,
    HCALCS_ID,
    HUB_1,
    HUB_2,
    IHD_ID,
    IS,
    PPMID_ID,
    S1,
    STRANGER,
    V1,
    V2,
    V3,
    V9,
    Premises,
    image_hash,
    premises,
    update,
    update_ppmid,
    without,
)

OLD_HUB, PPMID_2 = 0x23, 0x34


def image(model: str, version: int = V2, **other: bytes) -> CampaignImage:
    """Return an image of the bench's maker."""
    return CampaignImage("Acme", model, version, **other)


ALL_IMAGES = (image("ESME-a"), image("GSME-a"), image("HCALCS-a"), image("PPMID-s2"))


def full_premises(**options: str) -> Premises:
    """Return a premises with one Device of each kind at its SMETS2+ hub."""
    made = premises(**options)
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    made.commission(HCALCS_ID, "HCALCS-a", HUB_2)
    made.commission(IHD_ID, "IHD-a", HUB_2, version=None)
    return made


def waves_of(planned: Plan) -> list[list[int]]:
    """Return the Devices of each wave."""
    return [[send.arrival.device for send in wave] for wave in planned.waves]


# --- the order -----------------------------------------------------------------------------------------------------


def test_the_devices_of_one_hub_get_their_images_in_an_order_that_loses_none():
    """F2.6: the ESME goes beside others; GSME, PPMID and HCALCS share what only one of them can have at a time."""
    planned = plan(full_premises().inventory, ALL_IMAGES, [PPMID_ID, HCALCS_ID, ESME_ID, GSME_ID])
    assert waves_of(planned) == [[GSME_ID, ESME_ID], [PPMID_ID], [HCALCS_ID]]
    assert planned.refused == ()
    first, second, third = planned.waves
    assert [send.after for send in first] == [None, None]
    assert second[0].after is not None
    assert (second[0].after.waiting, second[0].after.arriving) == ("GSME", "PPMID")
    assert second[0].after.fate is Fate.REFUSED
    assert second[0].after.basis is Basis.ASSUMED
    assert third[0].after is not None
    assert third[0].after.basis is Basis.SOURCED


def test_several_hubs_go_in_parallel():
    """What waits at one hub is nothing to another."""
    made = full_premises()
    made.commission(OLD_HUB, "CHF-s2")
    made.commission(PPMID_2, "PPMID-s2", OLD_HUB)
    planned = plan(made.inventory, ALL_IMAGES, [PPMID_ID, PPMID_2, GSME_ID])
    assert waves_of(planned) == [[GSME_ID, PPMID_2], [PPMID_ID]]
    assert {send.arrival.hub for send in planned.waves[0]} == {HUB_2, OLD_HUB}


def test_an_image_that_is_under_way_is_waited_for():
    """A plan does not overwrite what somebody else has sent: not even in its first wave, which is empty then."""
    made = full_premises()
    made.apply(update_ppmid(PPMID_ID))
    planned = plan(made.inventory, ALL_IMAGES, [HCALCS_ID])
    assert planned.under_way == (Arrival(PPMID_ID, HUB_2, Target.PPMID),)
    assert waves_of(planned) == [[], [HCALCS_ID]]
    made.apply(TransferReported(HUB_2, PPMID_ID, V2, TransferResponse.SUCCESS))
    planned = plan(made.inventory, ALL_IMAGES, [HCALCS_ID])
    assert (planned.under_way, waves_of(planned)) == ((), [[HCALCS_ID]])


def test_an_esme_goes_beside_an_image_that_is_under_way():
    """Whatever is under way for another target, every cell with the ESME says KEPT."""
    made = full_premises()
    made.apply(update_ppmid(PPMID_ID))
    assert waves_of(plan(made.inventory, ALL_IMAGES, [ESME_ID])) == [[ESME_ID]]


def test_a_bridge_is_what_its_variant_says():
    """MP170: each bridge has images of its own, and the PPMID and a bridge overwrite each other."""
    made = full_premises(mp170="base")
    made.commission(PPMID_2, "PPMID-s2", HUB_2, variant=PpmidVariant.B2)
    planned = plan(made.inventory, ALL_IMAGES, [PPMID_2, PPMID_ID])
    assert [[send.arrival.target for send in wave] for wave in planned.waves] == [["PPMID"], ["B2"]]


def oracle_loses(one: Target, other: Target) -> bool:
    """Say, from the cells alone, whether one of two images that meet at a hub can come to grief."""
    return any(
        fate(waiting, stage, arriving).fate is not Fate.KEPT
        for waiting, arriving in ((one, other), (other, one))
        for stage in Stage
    )


def test_what_may_be_at_a_hub_together_is_what_the_oracle_keeps_either_way():
    """All 64 pairs, and at least one of each kind: the ESME beside the others, and the rest apart."""
    for one in Target:
        for other in Target:
            cell = parted_by(one, other)
            assert (cell is not None) == oracle_loses(one, other)
            assert cell is None or cell.fate is not Fate.KEPT
    together = {(str(a), str(b)) for a, b in combinations(Target, 2) if not oracle_loses(a, b)}
    assert together == {
        tuple(sorted(("ESME", str(b)), key=list(Target).index)) for b in Target if b != "ESME"
    }


ARRIVALS = st.lists(
    st.builds(Arrival, st.integers(1, 10_000), st.integers(1, 4), st.sampled_from(Target)),
    max_size=25,
    unique_by=lambda arrival: arrival.device,
)


@given(ARRIVALS, st.integers(0, 4))
@settings(max_examples=200, deadline=None)
def test_no_two_images_of_one_wave_meet_at_a_hub_where_one_would_be_lost(arrivals, already):
    """By the oracle's cells, in either order and at every stage; and each image is in one wave."""
    under_way, going = arrivals[:already], arrivals[already:]
    waves = into_waves(going, under_way)
    flat = [arrival for wave in waves for arrival, _ in wave]
    assert sorted(flat, key=lambda one: one.device) == sorted(going, key=lambda one: one.device)
    for number, wave in enumerate(waves):
        there = [arrival for arrival, _ in wave] + (list(under_way) if number == 0 else [])
        for one, other in combinations(there, 2):
            planned = one in flat or other in flat
            if planned and one.hub == other.hub:
                assert not oracle_loses(one.target, other.target)


@given(ARRIVALS)
@settings(max_examples=200, deadline=None)
def test_no_image_waits_for_a_wave_that_it_could_have_joined(arrivals):
    """Each image of a later wave would meet one at its hub in every earlier wave, and says which cell parts them."""
    waves = into_waves(arrivals)
    for number, wave in enumerate(waves):
        for arrival, after in wave:
            before = [
                [other.target for other, _ in earlier if other.hub == arrival.hub]
                for earlier in waves[:number]
            ]
            assert all(any(oracle_loses(target, arrival.target) for target in there) for there in before)
            assert (after is None) == (number == 0)
            if after is not None:
                assert arrival.target in (after.waiting, after.arriving)
                assert {after.waiting, after.arriving} - {arrival.target} <= set(before[-1])


# --- who cannot ----------------------------------------------------------------------------------------------------


def left(made: Premises, device: int, *images: CampaignImage) -> tuple[str | None, str | None, str]:
    """Plan for one Device that is refused; return list, rule and reason."""
    planned = plan(made.inventory, images or ALL_IMAGES, [device])
    assert waves_of(planned) == []
    (found,) = planned.refused
    assert found.device == device
    assert found.rule is None or found.rule in RULES
    return found.listed, found.rule, found.reason


def test_an_unknown_device_is_refused():
    """FW-14: InvalidDeviceIDList."""
    assert left(full_premises(), STRANGER) == (
        "InvalidDeviceIDList", "base.listed_device_is_valid", "it is not in the Inventory",
    )  # fmt: skip


def test_a_device_of_another_suppliers_fuel_is_refused():
    """FW-14: a Supplier of electricity alone sends nothing to a GSME."""
    planned = plan(full_premises().inventory, ALL_IMAGES, [GSME_ID, ESME_ID], users=[IS])
    assert waves_of(planned) == [[ESME_ID]]
    (found,) = planned.refused
    assert (found.device, found.listed) == (GSME_ID, "InvalidDeviceIDList")
    assert found.reason == "User Role IS is not for GSME"


def test_a_device_that_is_not_commissioned_is_refused():
    """FW-14: NotCommissionedDeviceIDList, with what it is."""
    made = full_premises()
    made.pre_notify(0x55, "ESME-a")
    assert left(made, 0x55) == (
        "NotCommissionedDeviceIDList", "base.listed_device_is_commissioned", "it is Pending",
    )  # fmt: skip


def test_a_version_that_is_no_active_row_is_refused():
    """FW-14: NotApplicableFirmwareDeviceIDList, for want of a row, another model's image, and another hash."""
    made = full_premises()
    listed, rule = "NotApplicableFirmwareDeviceIDList", "base.listed_firmware_is_applicable"
    assert left(made, ESME_ID, image("ESME-a", V9)) == (
        listed, rule, "00000900 is no Active CPL row of Acme ESME-a, SMETS2",
    )  # fmt: skip
    assert left(made, ESME_ID, image("ESME-b", V9))[:2] == (listed, rule)
    wrong = image("ESME-a", V2, image_hash=image_hash("ESME-a", V3))
    assert left(made, ESME_ID, wrong) == (
        listed, rule, "the image is not the one of CPL row: Acme ESME-a 00000200 has another hash",
    )  # fmt: skip
    right = image("ESME-a", V2, image_hash=image_hash("ESME-a", V2))
    assert waves_of(plan(made.inventory, [right], [ESME_ID])) == [[ESME_ID]]


@pytest.mark.parametrize("device", [IHD_ID, GPF_ID, HUB_2])
def test_what_takes_no_image_is_refused(device):
    """F2.1: SR11.1 and SR11.4 have images for ESME, GSME, HCALCS and PPMID."""
    made = full_premises()
    listed, rule, reason = left(made, device)
    assert (listed, rule) == ("NotApplicableFirmwareDeviceIDList", "secmp0007.takes_images")
    assert reason.startswith("SR11.1 has no image for ")


def test_a_dual_mode_ppmid_in_a_smets1_system_is_refused():
    """LB-06: Requirement 7."""
    made = full_premises()
    made.commission(PPMID_2, "PPMID-dual", HUB_1, smets=S1)
    listed, rule, _ = left(made, PPMID_2, image("PPMID-dual"))
    assert (listed, rule) == ("NotApplicableFirmwareDeviceIDList", "mp202.smets1_ota_refused")


def test_a_hub_of_before_secmp0007_refuses_a_ppmid_and_not_an_esme():
    """AH-17: InvalidGBCSVersionList names what the hub has, and what would be needed."""
    made = premises(meters=False)
    made.commission(OLD_HUB, "CHF-old")
    made.commission(PPMID_ID, "PPMID-s2", OLD_HUB)
    made.commission(ESME_ID, "ESME-a", OLD_HUB)
    planned = plan(made.inventory, ALL_IMAGES, [PPMID_ID, ESME_ID])
    assert waves_of(planned) == [[ESME_ID]]
    (found,) = planned.refused
    assert (found.listed, found.rule) == ("InvalidGBCSVersionList", "secmp0007.hub_is_too_old")
    assert found.reason == "hub 00-00-00-00-00-00-00-23 has GBCS 3.2: images for a PPMID need 4.0"


def test_without_secmp0007_no_image_goes_to_a_ppmid_or_hcalcs():
    """SR11.4 is no Service Request then: refused whole, on no list."""
    made = full_premises(secmp0007="off")
    assert left(made, PPMID_ID)[:2] == (None, "secmp0007.ppmid_request")
    assert left(made, HCALCS_ID)[:2] == ("NotApplicableFirmwareDeviceIDList", "secmp0007.takes_images")


def test_a_device_with_an_image_on_its_way_is_refused():
    """FW-14: OtherRequestInProgressList, with the request that is in progress."""
    made = full_premises()
    made.apply(update(ESME_ID, number="theirs"))
    listed, rule, reason = left(made, ESME_ID)
    assert (listed, rule) == ("OtherRequestInProgressList", "base.listed_device_is_free")
    assert reason == "an image is on its way to it: 00000200 requested (theirs)"


def test_a_device_that_has_the_version_already_is_sent_nothing():
    """The DSP would take the request; the campaign makes none, so that no list and no rule has it."""
    assert left(full_premises(), ESME_ID, image("ESME-a", V1)) == (None, None, "it has 00000100 already")


def test_a_device_at_no_hub_is_sent_nothing():
    """The DSP does not look at the hub of a meter; there is nowhere to bring the image."""
    made = full_premises()
    made.commission(0x55, "ESME-a")
    assert left(made, 0x55)[2].startswith("it is in no Smart Metering System")


def test_a_suspended_device_can_take_an_image():
    """SU-09: before MP105 another image was the only way back."""
    made = full_premises()
    made.load(without("ESME-a", V1))
    assert made.status(ESME_ID) == "Suspended"
    assert waves_of(plan(made.inventory, ALL_IMAGES, [ESME_ID])) == [[ESME_ID]]


DEVICES = [ESME_ID, GSME_ID, GPF_ID, HUB_1, HUB_2, PPMID_ID, HCALCS_ID, IHD_ID, STRANGER, OLD_HUB, PPMID_2]
DEVICES += list(range(0x100, 0x110))
MODELS = ["ESME-a", "GSME-a", "HCALCS-a", "PPMID-s2", "PPMID-s1", "PPMID-dual"]


def crowd(steps: list[tuple[int, int, bool]], **options: str) -> Premises:
    """Return a premises with more Devices: of a model, at a hub, with an image on its way or not."""
    made = full_premises(**options)
    made.commission(OLD_HUB, "CHF-old")
    made.commission(PPMID_2, "PPMID-s2", OLD_HUB)
    for number, (model, hub, busy) in enumerate(steps):
        device, name = 0x100 + number, MODELS[model]
        smets1 = name == "PPMID-s1"
        made.commission(
            device, name, HUB_1 if smets1 else (HUB_2, OLD_HUB)[hub], **({"smets": S1} if smets1 else {})
        )
        if busy:
            made.apply((update_ppmid if name.startswith("PPMID") else update)(device, number=f"r{device}"))
    return made


@given(
    st.lists(st.tuples(st.integers(0, 5), st.integers(0, 1), st.booleans()), max_size=16),
    st.lists(st.sampled_from(DEVICES), unique=True, max_size=len(DEVICES)),
    st.sets(st.sampled_from(MODELS), min_size=1),
    st.sampled_from(["on", "off"]),
)
@settings(max_examples=120, deadline=None)
def test_every_device_is_planned_or_refused_exactly_once(steps, devices, models, secmp0007):
    """And who is planned, the DSP sends it to; who is on a list, the DSP puts there: nobody else has a say."""
    made = crowd(steps, secmp0007=secmp0007)
    planned = plan(made.inventory, [image(model) for model in sorted(models)], devices)
    going = [device for wave in waves_of(planned) for device in wave]
    refused = [found.device for found in planned.refused]
    assert sorted(going + refused) == sorted(devices)
    assert refused == [device for device in devices if device in refused]
    assert all(found.reason for found in planned.refused)
    for number in range(len(planned.waves)):
        sent = []
        for request in planned.requests(number, "c"):
            verdict = made.inventory.check(request)
            assert isinstance(verdict, Acknowledged)
            assert (verdict.sent_to, verdict.warning) == (request.devices, None)
            sent += request.devices
        assert sorted(sent) == sorted(waves_of(planned)[number])
    names = {duis: name for name, duis in LISTS.items()}
    for found in planned.refused:
        if found.listed is not None:
            record = made.inventory.ledger.records.get(found.device)
            kind = None if record is None else record.device_type
            request = (UpdatePpmidFirmware if kind is DeviceType.PPMID else UpdateFirmware)(
                "c", SUPPLIERS[kind in (DeviceType.GSME, DeviceType.GPF)], V2, (found.device,)
            )
            lists = made.inventory.check(request).lists
            assert getattr(lists, names[found.listed]) == (found.device,)


def test_planning_changes_nothing():
    """It asks the Inventory; that nothing was sent, a second plan shows."""
    made = full_premises()
    devices = [ESME_ID, GSME_ID, PPMID_ID, STRANGER]
    assert plan(made.inventory, ALL_IMAGES, devices) == plan(made.inventory, ALL_IMAGES, devices)
    assert all(made.inventory.device(device).upgrade is None for device in devices[:3])


def test_the_requests_of_a_wave_are_by_image_role_and_reference():
    """One image a request (F1.1); SR11.4 for PPMIDs; the GSME's from the gas Supplier."""
    planned = plan(full_premises().inventory, ALL_IMAGES, [ESME_ID, GSME_ID, PPMID_ID])
    first = planned.requests(0, "spring")
    assert [(one.request_id, one.srv, one.user.role, one.devices) for one in first] == [
        ("spring-1-1", "11.1", "GS", (GSME_ID,)), ("spring-1-2", "11.1", "IS", (ESME_ID,)),
    ]  # fmt: skip
    (second,) = planned.requests(1, "spring")
    assert (second.request_id, second.srv, second.firmware_version) == ("spring-2-1", "11.4", V2)


def test_a_list_longer_than_a_request_takes_is_split(monkeypatch):
    """F2.1: 50,000 Devices a request; here 2, so that the test needs no 50,001 of them."""
    monkeypatch.setattr("harness.smi.campaign.MAX_DEVICES", 2)
    made = full_premises()
    for device in range(0x100, 0x105):
        hub = 0x200 + device
        made.commission(hub, "CHF-s2")
        made.commission(device, "ESME-a", hub)
    planned = plan(made.inventory, ALL_IMAGES, list(range(0x100, 0x105)))
    requests = planned.requests(0, "c")
    assert [request.devices for request in requests] == [(0x100, 0x101), (0x102, 0x103), (0x104,)]
    assert len({request.request_id for request in requests}) == 3


@pytest.mark.parametrize(("images", "devices", "message"), [
    ((), [ESME_ID], "there is no image"),
    ((image("ESME-a", V2), image("ESME-a", V3)), [ESME_ID], "one image a Device and campaign"),
    (ALL_IMAGES, [ESME_ID, GSME_ID, ESME_ID], "00-00-00-00-00-00-00-11 stands there twice"),
    (ALL_IMAGES, [0], "no Device's EUI-64"),
])  # fmt: skip
def test_a_campaign_that_makes_no_sense_says_why(images, devices, message):
    """A mistake of ours, found before anything is sent."""
    with pytest.raises(LocalProtocolError, match=message):
        plan(full_premises().inventory, images, devices)
