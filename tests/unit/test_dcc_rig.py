"""Tests of the DCC in its place on a rig: over the emulated HAN, by the rig file, and beside what the rig runs."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest

from harness import Answer, Dcc, Outcome, Rig, RigError, hours, minutes
from harness.dcc.divergence import Divergence, Side
from harness.errors import LocalProtocolError
from harness.rig.images import make_image
from harness.rig.schema import load_rig
from harness.smi.devices import DeviceStatus, DeviceType, SmetsFamily
from harness.smi.requests import (
    Acknowledged,
    Code,
    DeviceLists,
    PreNotifyDevice,
    UpdateDeviceLog,
    User,
    UserRole,
)
from harness.smi.responses import ActivationOutcome, FirmwareVersionRead
from tests.unit.dcc_bench import NOW, premises
from tests.unit.dcc_rigs import RIGS, SIZE, on_rig, run_unheard, status, with_dcc
from tests.unit.served import REPOSITORY
from tests.unit.smi_bench import ESME_ID, GSME_ID, STRANGER, V1, V2

DUAL, DUAL_1 = (RIGS / f"emulated-{name}.yaml" for name in ("dual", "dual-smets1"))
OLD_HUB = RIGS / "emulated-hub-before-secmp0007.yaml"
SUPPLIER = User(UserRole.IS)


# --- the options of MP105, end to end ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mp105", "read", "retried"),
    [
        ("before", DeviceStatus.SUSPENDED, DeviceStatus.SUSPENDED),
        ("sr11_2", DeviceStatus.COMMISSIONED, DeviceStatus.SUSPENDED),
        ("both", DeviceStatus.COMMISSIONED, DeviceStatus.COMMISSIONED),
    ],
)
@pytest.mark.parametrize("by", ["read", "retry"])
def test_what_mends_a_lost_response_is_what_the_rig_file_says(tmp_path, mp105, read, retried, by):
    """SR11.2 and a retried SR11.3 restore the meter, or do not, by the option; what the meter says is the same."""
    path = with_dcc(tmp_path, f"  options: {{mp105: {mp105}}}\n")

    async def work(rig: Rig) -> tuple[Answer, DeviceStatus, int]:
        esme = rig.device("esme")
        image = await run_unheard(rig, esme)
        dcc = rig.dcc
        answer = await (dcc.read_version(esme) if by == "read" else dcc.activate(image, on=esme))
        return answer, status(rig, esme), image.version

    answer, after, version = on_rig(work, path)
    assert after is (read if by == "read" else retried)
    if by == "retry":
        assert (answer.activation, answer.firmware_version) == (ActivationOutcome.NO_IMAGE_HELD, version)
    elif mp105 == "before":
        assert answer.verdict.code is Code.INVALID_DEVICE_STATUS
    else:
        assert answer.firmware_version == version


def test_before_mp105_another_update_is_the_way_back(tmp_path):
    """SU-09, end to end: a third version, delivered, activated and answered, restores the meter that SR11.2 cannot."""
    path = with_dcc(tmp_path, "  options: {mp105: before}\n")

    async def work(rig: Rig) -> None:
        esme, dcc = rig.device("esme"), rig.dcc
        image = await run_unheard(rig, esme)
        third = make_image(random.Random(2))(target=esme, size=SIZE, version=image.version + 1)
        dcc.list_image(third, target=esme)
        assert (await dcc.update_firmware(third, esme)).delivered_to == (esme.eui64,)
        await rig.hub.wan.receipt(esme, within=hours(2))
        assert (await dcc.activate(third, on=esme)).activation is ActivationOutcome.SUCCESS
        assert status(rig, esme) is DeviceStatus.COMMISSIONED
        assert await dcc.divergence() == ()

    on_rig(work, path)


# --- late binding, all four ways --------------------------------------------------------------------------------------


@pytest.mark.parametrize("pre_notified", list(SmetsFamily))
@pytest.mark.parametrize(("path", "family"), [(DUAL, "SMETS2"), (DUAL_1, "SMETS1")])
def test_a_dual_mode_ppmid_is_bound_by_its_hub_all_four_ways(path, family, pre_notified):
    """LB-03, end to end: SR12.2 as either, SR8.11, a join over the air; then it has the family of its hub."""

    async def work(rig: Rig) -> tuple[Any, ...]:
        dcc, ppmid = rig.dcc, rig.device("ppmid")
        await dcc.enrol(rig.hub)
        await dcc.pre_notify(ppmid, smets=pre_notified)
        await dcc.request(UpdateDeviceLog(SUPPLIER, rig.hub.eui64, ppmid.eui64))
        before = rig.inventory.device(ppmid.eui64)
        await ppmid.power_on()
        await ppmid.until(joined=True, within=minutes(10))
        after = rig.inventory.device(ppmid.eui64)
        return before.smets, before.status, after.smets, after.status

    assert on_rig(work, path, joined=False) == (
        pre_notified,
        DeviceStatus.WHITELISTED,
        family,
        DeviceStatus.INSTALLED_NOT_COMMISSIONED,
    )


def test_without_mp202_nobody_is_bound(tmp_path):
    """The option off, a PPMID pre-notified wrongly stays what was pre-notified."""
    path = with_dcc(tmp_path, "  options:\n    mp202: off\n", DUAL)

    async def work(rig: Rig) -> SmetsFamily:
        ppmid = await rig.joined("ppmid")
        await rig.dcc.enrol(rig.hub)
        await rig.dcc.pre_notify(ppmid, smets="SMETS1")
        await rig.dcc.request(UpdateDeviceLog(SUPPLIER, rig.hub.eui64, ppmid.eui64))
        await ppmid.cut_power(5)
        await rig.sleep(minutes(10))
        assert status(rig, ppmid) is DeviceStatus.INSTALLED_NOT_COMMISSIONED
        return rig.inventory.device(ppmid.eui64).smets

    assert on_rig(work, path) is SmetsFamily.SMETS1


# --- the way down -----------------------------------------------------------------------------------------------------


def test_the_wan_of_a_test_and_the_dcc_share_one_way_down():
    """SR11.2 by the one, then by the other: each has the next counter, and the one's response is not the other's."""

    async def work(rig: Rig) -> tuple[list[int], list[Any]]:
        esme, wan = await rig.joined("esme"), rig.hub.wan
        await rig.dcc.enrol(esme)
        for _ in range(2):
            await rig.dcc.read_version(esme)
            assert await wan.version(esme, within=hours(1)) == esme.version_at_start
        return [received.message.originator_counter for received in wan.received], list(rig.journal)

    counters, journal = on_rig(work)
    assert counters == [1, 2, 3, 4]
    ignored = [entry.event for entry in journal if type(entry.event).__name__ == "Ignored"]
    assert [event.reason for event in ignored] == [
        f"a response to {counter}, which is no command of the DSP's to it" for counter in (2, 4)
    ][: len(ignored)]


def test_latency_is_waited_for_both_ways(tmp_path):
    """With 60 s each way, SR11.2 to a meter that answers at once takes two minutes."""
    path = with_dcc(tmp_path, "  latency_seconds: 60\n")

    async def work(rig: Rig) -> float:
        esme = await rig.joined("esme")
        await rig.dcc.enrol(esme)
        began = rig.now()
        await rig.dcc.read_version(esme)
        return rig.now() - began

    assert 120.0 <= on_rig(work, path) < 121.0


def test_a_share_of_all_responses_is_lost_by_the_rigs_seed(tmp_path):
    """All lost: every SR11.2 times out after the DSP's time, and no version reaches the Inventory."""
    path = with_dcc(tmp_path, "  loss: {responses: 1.0}\n  response_seconds: 600\n  attempts: 2\n")

    async def work(rig: Rig) -> tuple[Answer, float]:
        esme = await rig.joined("esme")
        await rig.dcc.enrol(esme)
        began = rig.now()
        return await rig.dcc.read_version(esme), rig.now() - began

    answer, took = on_rig(work, path)
    assert (answer.outcome, answer.attempts, answer.detail) == (
        Outcome.TIMED_OUT,
        2,
        "no response within 600 s",
    )
    assert took == pytest.approx(1200.0, abs=1e-3)


def test_an_image_that_the_wan_loses_is_told_at_once():
    """The CSP says so (N61), the request ends, and the device may be sent another image."""

    async def work(rig: Rig) -> tuple[Answer, list[Any], Any]:
        esme = await rig.joined("esme")
        await rig.dcc.enrol(esme)
        image = make_image(random.Random(1))(target=esme, size=SIZE)
        rig.dcc.list_image(image, target=esme)
        rig.dcc.lose_next_request(to=esme)
        async with asyncio.timeout(minutes(1)):
            answer = await rig.dcc.update_firmware(image, esme)
        return answer, rig.dcc.alerts_of("N61"), rig.inventory.device(esme.eui64).upgrade

    answer, lost, upgrade = on_rig(work)
    assert (answer.delivered_to, answer.detail) == ((), "00-0D-6F-00-0B-7A-11-03: lost on the WAN")
    assert (len(lost), upgrade) == (1, None)


def test_a_hub_that_is_too_old_is_named_and_sent_nothing():
    """FW-14, AH-17: the PPMID of such a hub is on InvalidGBCSVersionList, and the hub hears of no image."""

    async def work(rig: Rig) -> tuple[Any, list[Any]]:
        ppmid = await rig.joined("ppmid")
        await rig.dcc.enrol()
        image = make_image(random.Random(1))(target=ppmid, size=SIZE)
        rig.dcc.list_image(image, target=ppmid)
        answer = await rig.dcc.update_firmware(image, ppmid)
        return answer.verdict, list(rig.journal)

    verdict, journal = on_rig(work, OLD_HUB)
    ppmid = load_rig(OLD_HUB).members["ppmid"].eui64
    assert isinstance(verdict, Acknowledged)
    assert (verdict.sent_to, verdict.lists) == ((), DeviceLists(invalid_gbcs_version=(ppmid,)))
    assert not any(type(entry.event).__name__ == "ImageDown" for entry in journal)


def test_a_device_that_the_rig_does_not_have_is_in_no_device_log():
    """SR8.11 for a pre-notified stranger: the hub's side says why not, and the Inventory leaves it Pending."""

    async def work(rig: Rig) -> tuple[str, DeviceStatus]:
        dcc, ppmid = rig.dcc, rig.device("ppmid")
        await dcc.enrol(rig.hub)
        profile, family, version = ppmid.profile, SmetsFamily.SMETS2, ppmid.version_at_start
        maker, model = profile.manufacturer_name, profile.model
        await dcc.request(
            PreNotifyDevice(SUPPLIER, STRANGER, DeviceType.PPMID, maker, model, family, version)
        )
        answer = await dcc.request(UpdateDeviceLog(SUPPLIER, rig.hub.eui64, STRANGER))
        return answer.detail, rig.inventory.device(STRANGER).status

    detail, after = on_rig(work)
    assert detail == "the rig has no 00-00-00-00-00-00-00-77, and so no install code of it"
    assert after is DeviceStatus.PENDING


def test_sr8_11_takes_a_device_off_the_hubs_device_log():
    """Removed by the DCC, a PPMID is off the HAN, and Pending in the Inventory."""

    async def work(rig: Rig) -> tuple[bool, DeviceStatus]:
        ppmid = await rig.joined("ppmid")
        await rig.dcc.enrol()
        await rig.dcc.request(UpdateDeviceLog(SUPPLIER, rig.hub.eui64, ppmid.eui64, add=False))
        await ppmid.until(joined=False, within=minutes(10))
        return ppmid.joined, status(rig, ppmid)

    assert on_rig(work) == (False, DeviceStatus.PENDING)


def test_what_goes_wrong_on_the_way_down_reaches_the_sender():
    """A hub that nobody plays any more is the bench's fault, and the one who waits for an answer is told."""

    async def work(rig: Rig) -> None:
        esme = await rig.joined("esme")
        await rig.dcc.enrol(esme)
        rig.hub.carrier, carrier = None, rig.hub.carrier
        with pytest.raises(RigError, match="no way to its WAN side"):
            await rig.dcc.read_version(esme)
        with pytest.raises(RigError, match="no way to its WAN side"):
            rig.check()
        rig.hub.carrier = carrier
        rig._dcc = None

    on_rig(work)


def test_without_a_supplier_no_command_goes_down(monkeypatch):
    """What needs no command still does; SR11.2 says which part of the rig file is missing."""
    monkeypatch.setattr("harness.rig.dcc.supplier_of", lambda file: None)

    async def work(rig: Rig) -> Answer:
        esme = await rig.joined("esme")
        await rig.dcc.enrol(rig.hub)
        with pytest.raises(RigError, match="supplier: is missing: there is nobody to send commands"):
            await rig.dcc.read_version(esme)
        return await rig.dcc.pre_notify(esme)

    assert on_rig(work).outcome is Outcome.DONE


# --- the premises -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mp170", "variants"),
    [
        ("off", {"ppmid": None, "b1": None, "b2": None, "b3": None, "b4": None}),
        ("base", {"ppmid": "PPMID", "b1": "B1", "b2": "B2", "b3": "B3", "b4": "B4"}),
        ("option_a", {"ppmid": "PPMID", "b1": "B1", "b2": "B2", "b3": "B3"}),
        ("option_b", {"ppmid": "PPMID", "b1": "B1"}),
    ],
)
def test_the_members_are_enrolled_as_the_options_show_them(tmp_path, mp170, variants):
    """Hub, GPF, meters and PPMIDs commissioned; of the bridges those that MP170's option shows, by their variant."""
    path = with_dcc(tmp_path, f"  options: {{mp170: {mp170}}}\n")

    async def work(rig: Rig) -> list[Any]:
        await rig.dcc.enrol()
        await rig.dcc.enrol()  # what is there stays
        assert await rig.dcc.divergence() == ()
        return [rig.inventory.device(device) for device in rig.inventory]

    records = on_rig(work, path)
    names = {member.eui64: name for name, member in load_rig(path).members.items()}
    assert {
        names[one.device]: one.ppmid_variant for one in records if one.device_type is DeviceType.PPMID
    } == variants
    assert [one.device_type for one in records[:2]] == [DeviceType.CHF, DeviceType.GPF]
    assert {one.status for one in records} == {DeviceStatus.COMMISSIONED}


def test_who_is_not_on_the_han_is_pending():
    """Nothing has joined: the members are in the Inventory, and not commissioned, but for the hub."""

    async def work(rig: Rig) -> set[DeviceStatus]:
        await rig.dcc.enrol()
        return {status(rig, device) for device in rig.devices}

    assert on_rig(work, joined=False) == {DeviceStatus.PENDING}


def test_a_rig_that_sends_no_request_has_no_dcc():
    """It is made when it is asked for: no task, no Inventory and no line in the journal before."""

    async def work(rig: Rig) -> tuple[Any, bool]:
        await rig.joined("esme")
        return rig._dcc, any(entry.member == "dcc" for entry in rig.journal)

    assert on_rig(work) == (None, False)


def test_a_cpl_of_the_lab_is_in_force(tmp_path):
    """The rows of the file are on the CPL beside those of the members' own firmware."""
    path = with_dcc(tmp_path, f"  cpl: {REPOSITORY / 'fixtures' / 'cpl-extract.yaml'}\n")

    async def work(rig: Rig) -> set[tuple[str, int]]:
        return {(row.model, row.firmware_version) for row in rig.inventory.rows()}

    rows = on_rig(work, path)
    assert {("ESME", 0x01000001), ("PPMID dual", 0x01000000), ("Communications Hub", 0x01000000)} <= rows


def test_an_image_is_listed_for_both_families_of_a_dual_mode_ppmid_and_withdrawn_for_one():
    """MP202: two rows of one version; withdrawing the one of the PPMID's family suspends it, the other does not."""

    async def work(rig: Rig) -> list[DeviceStatus]:
        dcc: Dcc = rig.dcc
        ppmid = await rig.joined("ppmid")
        await dcc.enrol()
        image = make_image(random.Random(1))(target=ppmid, size=SIZE)
        dcc.list_image(image, target=ppmid)
        assert {row.smets for row in rig.inventory.rows() if row.firmware_version == image.version} == set(
            SmetsFamily
        )
        seen = []
        for family in ("SMETS1", "SMETS2"):
            dcc.withdraw(ppmid.version_at_start, of=ppmid, smets=family)
            seen.append(status(rig, ppmid))
        with pytest.raises(LocalProtocolError, match="the CPL has no Harness PPMID dual 00000009"):
            dcc.withdraw(9, of=ppmid)
        return seen

    assert on_rig(work, DUAL) == [DeviceStatus.COMMISSIONED, DeviceStatus.SUSPENDED]


# --- divergence -------------------------------------------------------------------------------------------------------


def test_the_divergence_is_seen_at_the_step_that_made_it():
    """The journal has it when the response is lost, long before its request times out; and when SR11.2 ends it."""

    async def work(rig: Rig) -> list[Any]:
        esme = rig.device("esme")
        await run_unheard(rig, esme)
        (found,) = await rig.dcc.divergence()
        assert str(found) == (
            "ESME 00-0D-6F-00-0B-7A-11-03 runs 01000001, the Inventory says 01000000: "
            "device moved, from 01000000, after Up lost on the WAN"
        )
        await rig.dcc.read_version(esme)
        return [(entry.seconds, type(entry.event).__name__) for entry in rig.journal if entry.member == "dcc"]

    news = [(at, name) for at, name in on_rig(work) if name in ("Diverged", "Realigned", "LostOnTheWan")]
    assert [name for _, name in news] == ["LostOnTheWan", "Diverged", "Realigned"]
    assert news[0][0] == news[1][0] < minutes(5)


def test_which_side_moved_is_told_by_what_both_had():
    """The Device alone, the Inventory alone, both; a Device that was never seen to agree gives neither."""
    inventory = premises()
    divergence = Divergence(inventory)
    assert divergence.step({ESME_ID: V1, STRANGER: V1}, NOW, "start") == []
    (found,) = divergence.step({ESME_ID: V2, GSME_ID: V2}, NOW, "step 1")[:1]
    assert (found.device, found.moved, found.agreed, found.after) == (ESME_ID, Side.DEVICE, V1, "step 1")
    assert [one.moved for one in divergence.diverged] == [Side.DEVICE, Side.NEITHER]
    assert divergence.step({ESME_ID: V2, GSME_ID: V2}, NOW + 1, "step 2") == [], "nothing is new"
    inventory.apply(FirmwareVersionRead(ESME_ID, 0x300), NOW)
    (found,) = divergence.step({ESME_ID: V2}, NOW + 2, "step 3")
    assert (found.moved, found.since, found.after) == (Side.BOTH, NOW, "step 3")
    (back,) = divergence.step({ESME_ID: 0x300, GSME_ID: V2}, NOW + 3, "step 4")
    assert (back.device, back.version) == (ESME_ID, 0x300)
    inventory.apply(FirmwareVersionRead(ESME_ID, V1), NOW)
    (found,) = divergence.step({ESME_ID: 0x300}, NOW + 4, "step 5")
    assert (found.moved, found.agreed) == (Side.INVENTORY, 0x300)
