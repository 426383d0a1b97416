"""Tests of MP105 in the Inventory: Suspended, and what brings a Device back. Requirements SU-01 to SU-13."""

from __future__ import annotations

from random import Random

import pytest

from harness.smi.alerts import DeviceRestored, DeviceSuspended, FirmwareNotOnCpl, FirmwareVersionMismatch
from harness.smi.devices import DeviceStatus
from harness.smi.requests import ActivateFirmware, OtherRequest, ReadFirmwareVersion
from harness.smi.responses import (
    ActivationAlertReceived,
    ActivationOutcome,
    DeviceCommissioned,
    FirmwareActivated,
    FirmwareVersionRead,
    TransferReported,
    TransferResponse,
)
from tests.unit.smi_bench import (
    ESME_ID,
    GPF_ID,
    GS,
    GSME_ID,
    HCALCS_ID,
    HUB_1,
    HUB_2,
    IHD_ID,
    IS,
    NO_IMAGE,
    PPMID_ID,
    ROWS,
    S1,
    SUCCESS,
    V1,
    V2,
    V3,
    V9,
    Premises,
    premises,
    row,
    update,
    withdrawn,
    without,
)

BEFORE, SR11_2, BOTH = "before", "sr11_2", "both"
ALL = [BEFORE, SR11_2, BOTH]


def suspended_premises(mp105: str = BOTH, **options: str) -> Premises:
    """Return a premises whose meters run V2 unknown to the Inventory, where V1 has left the CPL."""
    made = premises(mp105=mp105, **options)
    made.load(
        tuple(one for one in ROWS if one.firmware_version != V1 or one.model[:4] not in ("ESME", "GSME"))
    )
    assert made.status(ESME_ID) == made.status(GSME_ID) == "Suspended"
    return made


@pytest.mark.parametrize("rows", [without("ESME-a", V1), withdrawn("ESME-a", V1)], ids=["gone", "Withdrawn"])
def test_a_device_whose_version_is_no_active_cpl_row_becomes_suspended(rows):
    """SU-01: the row is gone or no longer Active; the alert is raised, and other Devices are untouched."""
    made = premises()
    assert made.load(rows) == [DeviceSuspended(ESME_ID)]
    device = made.inventory.device(ESME_ID)
    assert (device.status, device.status_before_suspension) == ("Suspended", "Commissioned")
    assert device.row is None
    assert made.status(GSME_ID) == "Commissioned"


def test_a_version_read_that_is_no_active_cpl_row_suspends():
    """SU-01: the version of the Inventory is what counts, by whatever way it came to be no Active row."""
    made = premises()
    assert made.read(ESME_ID, V9) == [FirmwareNotOnCpl(ESME_ID, V9, False), DeviceSuspended(ESME_ID)]
    assert (made.status(ESME_ID), made.version(ESME_ID)) == ("Suspended", V9)


@pytest.mark.parametrize("mp105", ALL)
def test_a_lost_activation_response_leaves_the_device_suspended(mp105):
    """SU-02: the Device runs V2; nothing came in, so the Inventory has V1 and Suspended still."""
    made = suspended_premises(mp105)
    assert made.code(ActivateFirmware(IS, ESME_ID, bytes(32))) == "I99"
    made.apply(ActivateFirmware(IS, ESME_ID, bytes(32)))
    assert (made.status(ESME_ID), made.version(ESME_ID)) == ("Suspended", V1)


@pytest.mark.parametrize(("mp105", "code"), [(BEFORE, "E5"), (SR11_2, "I99"), (BOTH, "I99")])
def test_reading_the_version_of_a_suspended_device_passes_once_the_modification_is_in(mp105, code):
    """SU-03: SR11.2 is refused with E5 before MP105 and passes after it."""
    made = suspended_premises(mp105)
    assert made.code(ReadFirmwareVersion(IS, ESME_ID)) == code
    assert made.code(ReadFirmwareVersion(GS, GSME_ID)) == code
    if code == "E5":
        verdict = made.inventory.check(ReadFirmwareVersion(IS, ESME_ID))
        assert verdict.rule == "base.suspended_is_refused"
        assert "00-00-00-00-00-00-00-11 is Suspended" in verdict.reason


@pytest.mark.parametrize("mp105", [SR11_2, BOTH])
@pytest.mark.parametrize("before", [DeviceStatus.COMMISSIONED, DeviceStatus.INSTALLED_NOT_COMMISSIONED])
def test_the_response_to_a_reading_restores_the_status_held_before(mp105, before):
    """SU-04: version and status by the response alone; not always Commissioned, but what it was."""
    made = premises(meters=False, mp105=mp105)
    made.pre_notify(ESME_ID, "ESME-a")
    made.join(ESME_ID, HUB_2)
    if before is DeviceStatus.COMMISSIONED:
        made.apply(DeviceCommissioned(ESME_ID))
    made.load(without("ESME-a", V1))
    assert made.status(ESME_ID) == "Suspended"
    assert made.read(ESME_ID, V2) == [DeviceRestored(ESME_ID)]
    device = made.inventory.device(ESME_ID)
    assert (device.status, device.status_before_suspension, device.firmware_version) == (before, None, V2)


@pytest.mark.parametrize("mp105", ALL)
def test_a_successful_activation_updates_version_and_status_under_every_option(mp105):
    """F4.3: the first row of the table, SR11.3 response success, is the same before and after."""
    made = suspended_premises(mp105)
    assert made.activated(ESME_ID, SUCCESS, V2) == [DeviceRestored(ESME_ID)]
    assert (made.status(ESME_ID), made.version(ESME_ID)) == ("Commissioned", V2)


@pytest.mark.parametrize("outcome", [one for one in ActivationOutcome if one is not SUCCESS])
@pytest.mark.parametrize("mp105", ALL)
def test_a_retried_activation_that_fails_tells_the_version_and_both_routes_take_it(mp105, outcome):
    """SU-05: whatever the outcome code, under `both` only."""
    made = suspended_premises(mp105)
    taken = mp105 == BOTH
    assert made.activated(ESME_ID, outcome, V2) == ([DeviceRestored(ESME_ID)] if taken else [])
    assert made.version(ESME_ID) == (V2 if taken else V1)
    assert made.status(ESME_ID) == ("Commissioned" if taken else "Suspended")


def test_a_failed_activation_updates_the_version_of_a_device_that_is_not_suspended():
    """SU-05: for Suspended and for all other Devices."""
    made = premises(mp105=BOTH)
    assert made.activated(ESME_ID, NO_IMAGE, V2) == []
    assert (made.status(ESME_ID), made.version(ESME_ID)) == ("Commissioned", V2)


@pytest.mark.parametrize("mp105", ALL)
def test_a_reading_by_the_gpf_does_not_restore_the_gsme_and_raises_n52(mp105):
    """SU-06: the mismatch is alerted with both versions, before the modification and after it."""
    made = suspended_premises(mp105)
    assert made.code(ReadFirmwareVersion(GS, GPF_ID)) == "I99"
    (alert,) = made.read(GPF_ID, V2)
    assert alert == FirmwareVersionMismatch(GSME_ID, "GSME", V1, V2)
    assert (alert.number, alert.mark) == ("N52", "S")
    assert (made.status(GSME_ID), made.version(GSME_ID)) == ("Suspended", V1)
    assert made.read(GPF_ID, V1) == []


def test_a_reading_by_the_gsme_itself_restores_it():
    """SU-07, its half in the Inventory: SR11.2 must target the GSME."""
    made = suspended_premises()
    assert made.read(GSME_ID, V2) == [DeviceRestored(GSME_ID)]
    assert made.status(GSME_ID) == "Commissioned"


def test_smets1_meters_are_in_scope():
    """SU-08: ESME and GSME, SMETS1 and SMETS2+."""
    made = premises(meters=False)
    one = row("ESME-old", V1, "SMETS1"), row("ESME-old", V2, "SMETS1")
    made.load((*ROWS, *one))
    made.commission(ESME_ID, "ESME-old", HUB_1, smets=S1)
    made.load((*ROWS, one[1]))
    assert made.status(ESME_ID) == "Suspended"
    assert made.read(ESME_ID, V2) == [DeviceRestored(ESME_ID)]


@pytest.mark.parametrize(("secmp0007", "mp105", "code"), [
    ("on", BOTH, "I99"), ("on", SR11_2, "I99"), ("on", BEFORE, "E5"), ("off", BOTH, "E5"), ("off", BEFORE, "E5"),
])  # fmt: skip
@pytest.mark.parametrize(("device", "model"), [(PPMID_ID, "PPMID-s2"), (HCALCS_ID, "HCALCS-a")])
def test_a_ppmid_or_hcalcs_is_in_scope_by_secmp0007_only(secmp0007, mp105, code, device, model):
    """SU-08: their SR11.2 is SECMP0007's extension."""
    made = premises(secmp0007=secmp0007, mp105=mp105)
    made.commission(device, model, HUB_2)
    made.load(without(model, V1))
    assert made.status(device) == "Suspended"
    assert made.code(ReadFirmwareVersion(IS, device)) == code
    # Even a response that comes in all the same changes nothing where they are out of scope.
    assert made.apply(FirmwareVersionRead(device, V2)) == ([DeviceRestored(device)] if code == "I99" else [])


@pytest.mark.parametrize("secmp0007", ["on", "off"])
def test_a_commissioned_ppmid_is_read_only_with_secmp0007(secmp0007):
    """SU-08: without SECMP0007 the Service Request is not for the type."""
    made = premises(secmp0007=secmp0007)
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    assert made.code(ReadFirmwareVersion(IS, PPMID_ID)) == ("I99" if secmp0007 == "on" else "E11")


@pytest.mark.parametrize("secmp0007", ["on", "off"])
def test_an_ihd_is_never_suspended_and_never_read(secmp0007):
    """SU-08: IHDs are not on the CPL."""
    made = premises(secmp0007=secmp0007)
    made.commission(IHD_ID, "IHD-a", HUB_2, version=None)
    assert made.load(()) == [DeviceSuspended(device) for device in (HUB_2, HUB_1, ESME_ID, GSME_ID)]
    assert made.status(IHD_ID) == "Commissioned"
    assert made.code(ReadFirmwareVersion(IS, IHD_ID)) == "E11"
    assert made.apply(FirmwareVersionRead(IHD_ID, V2)) == []
    assert made.version(IHD_ID) is None


def test_before_the_modification_only_another_update_brings_a_device_back():
    """SU-09: not the reading, not the retry, which says V2; a new image and its successful activation do."""
    made = suspended_premises(BEFORE)
    assert made.read(ESME_ID, V2)[0].code == "E5"
    assert made.apply(FirmwareVersionRead(ESME_ID, V2)) == []
    assert made.activated(ESME_ID, NO_IMAGE, V2) == []
    assert (made.status(ESME_ID), made.version(ESME_ID)) == ("Suspended", V1)
    (verdict,) = made.apply(update(ESME_ID, version=V3))
    assert (verdict.code, verdict.sent_to, verdict.warning) == ("I99", (ESME_ID,), None)
    assert made.activated(ESME_ID, SUCCESS, V3) == [DeviceRestored(ESME_ID)]
    assert (made.status(ESME_ID), made.version(ESME_ID)) == ("Commissioned", V3)


@pytest.mark.parametrize("mp105", ALL)
@pytest.mark.parametrize("srv", ["2.2", "2.1", "4.1.1", "1.5"])
def test_a_suspended_device_gets_no_top_up(mp105, srv):
    """SU-10: whatever is not on the exception list is refused with E5, and passes once the Device is restored."""
    made = suspended_premises(mp105)
    assert made.code(OtherRequest(IS, ESME_ID, srv)) == "E5"
    made.activated(ESME_ID, SUCCESS, V2)
    assert made.code(OtherRequest(IS, ESME_ID, srv)) == "I99"


@pytest.mark.parametrize("route", ["read", "activated"])
def test_a_version_read_back_that_is_no_active_row_leaves_the_device_suspended(route):
    """SU-11: it is what the Device runs, so the Inventory has it, and says that the CPL does not."""
    made = suspended_premises()
    if route == "read":
        assert made.read(ESME_ID, V9) == [FirmwareNotOnCpl(ESME_ID, V9, False)]
    else:
        assert made.activated(ESME_ID, SUCCESS, V9) == [FirmwareNotOnCpl(ESME_ID, V9, True)]
    assert (made.status(ESME_ID), made.version(ESME_ID)) == ("Suspended", V9)
    assert made.top_up(ESME_ID) == "E5"


def test_the_version_that_a_device_sends_with_its_activation_alert_is_taken_for_success_only():
    """F2.3: the version in a failed 0x8F8B may be the one that failed; the Inventory keeps what it had."""
    made = premises()
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    made.apply(ActivationAlertReceived(PPMID_ID, V2, activated=False))
    assert made.version(PPMID_ID) == V1
    made.apply(ActivationAlertReceived(PPMID_ID, V2, activated=True))
    assert made.version(PPMID_ID) == V2


# --- SU-12: a campaign ---------------------------------------------------------------------------------------------

METERS = 500


def campaign(mp105: str) -> tuple[int, int, int]:
    """Upgrade meters over a line that loses one response in five; return aligned, Suspended, and second images."""
    loss = Random(2021)  # one draw a response: the first round is the same under every option
    made = premises(meters=False, mp105=mp105)
    meters = range(0x1000, 0x1000 + METERS)
    for meter in meters:
        made.commission(meter, "ESME-a", HUB_2)
    runs = dict.fromkeys(meters, V1)
    made.apply(update(*meters))
    made.load(without("ESME-a", V1))
    for meter in meters:
        made.apply(TransferReported(HUB_2, meter, V2, TransferResponse.SUCCESS))
        made.apply(ActivateFirmware(IS, meter, bytes(32)))
        runs[meter] = V2
        if loss.random() >= 0.2:
            made.apply(FirmwareActivated(meter, SUCCESS, runs[meter]))
    for _ in range(8):  # what the modification allows, over and over: retries, readings
        for meter in meters:
            if made.status(meter) != "Suspended":
                continue
            assert made.code(ActivateFirmware(IS, meter, bytes(32))) == "I99"
            if loss.random() >= 0.2:
                made.apply(FirmwareActivated(meter, NO_IMAGE, runs[meter]))
            if made.code(ReadFirmwareVersion(IS, meter)) == "I99" and loss.random() >= 0.2:
                made.apply(FirmwareVersionRead(meter, runs[meter]))
    aligned = sum(made.version(meter) == runs[meter] for meter in meters)
    stuck = [meter for meter in meters if made.status(meter) == "Suspended"]
    (verdict,) = made.apply(update(*stuck, version=V3)) if stuck else (None,)
    return aligned, len(stuck), 0 if verdict is None else len(verdict.sent_to)


@pytest.mark.parametrize(("mp105", "figures"), [
    (BEFORE, (395, 105, 105)), (SR11_2, (500, 0, 0)), (BOTH, (500, 0, 0)),
])  # fmt: skip
def test_a_campaign_with_lost_responses_ends_aligned_after_the_modification_only(mp105, figures):
    """SU-12: same seed; aligned Devices, Devices still Suspended, Devices that need a second image."""
    assert campaign(mp105) == figures


def test_every_response_to_an_activation_carries_a_version():
    """SU-13, its half in the Inventory: there is no response without one."""
    made = premises()
    for outcome in ActivationOutcome:
        made.activated(ESME_ID, outcome, V3)
        assert made.version(ESME_ID) == V3
        made.activated(ESME_ID, SUCCESS, V1)
