"""Tests of the DSP: which request becomes which command, what answers it, and what the Inventory is told by it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from harness.dcc.csp import CommandDown, DeviceLogDown, ImageDown, Logged, Up
from harness.dcc.dsp import Applied, Dsp, DspConfig, Ignored, Sent
from harness.dcc.interface import Outcome
from harness.errors import LocalProtocolError
from harness.smi.alerts import CSPFirmwareDeliveryStatus, DeviceRestored, FirmwareVersionMismatch
from harness.smi.devices import DeviceStatus
from harness.smi.firmware_table import day_of
from harness.smi.record import Stage
from harness.smi.requests import (
    Acknowledged,
    ActivateFirmware,
    Code,
    CommissionDevice,
    DeviceLists,
    OtherRequest,
    PreNotifyDevice,
    ReadFirmwareVersion,
    Refused,
    UpdateDeviceLog,
    UpdateFirmware,
    UpdatePpmidFirmware,
)
from harness.smi.responses import (
    ActivationOutcome,
    CplLoaded,
    DeviceJoined,
    FirmwareActivated,
    FirmwareVersionRead,
    ImageDelivered,
)
from harness.wire import gbcs_payloads as gbcs
from harness.wire.gbcs_payloads import parse_payload
from harness.wire.gbcs_readings import (
    EsmeFirmwareReceipt,
    EsmeFirmwareVersion,
    GsmeFirmwareReceipt,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadGsmeFirmwareVersion,
)
from harness.wire.gbcs_security import verify
from tests.unit.dcc_bench import (
    CPL,
    HASH,
    KEY,
    MOMENT,
    NOW,
    USER,
    alerts,
    answer,
    command,
    distribution,
    meter_image,
    new_dsp,
    ppmid_image,
    premises,
    sent,
    up,
)
from tests.unit.smi_bench import (
    ESME_ID,
    GPF_ID,
    GS,
    GSME_ID,
    HCALCS_ID,
    HUB_1,
    IS,
    PPMID_ID,
    S2,
    STRANGER,
    V1,
    V2,
)  # fmt: skip

SUCCESS = gbcs.ActivateImageResponse.SUCCESS
TRANSFERRED = gbcs.FirmwareTransfer(0x8F8A, MOMENT, ESME_ID, V2, gbcs.TransferResponse.SUCCESS)


def suspended(device: int, model: str):
    """The Inventory of a premises where the version that a Device has there is no longer on the CPL."""
    inventory = premises()
    inventory.apply(
        CplLoaded("CPL 2", tuple(r for r in CPL if (r.model, r.firmware_version) != (model, V1))), NOW
    )
    assert inventory.device(device).status is DeviceStatus.SUSPENDED
    return inventory


# --- checks -----------------------------------------------------------------------------------------------------------


def test_a_refused_request_sends_nothing():
    """E5 for a top-up of a Suspended Device, E19 for a stranger: the answer is there at once, and nothing goes down."""
    dsp = new_dsp(suspended(ESME_ID, "ESME-a"))
    for request, code in (
        (OtherRequest(IS, ESME_ID, "2.2"), Code.INVALID_DEVICE_STATUS),
        (ReadFirmwareVersion(IS, STRANGER), Code.NO_SUCH_DEVICE),
        (ActivateFirmware(IS, GSME_ID, HASH), Code.ROLE_NOT_FOR_DEVICE),
    ):
        _, events = dsp.submit(request, NOW)
        assert sent(events) == []
        refused = answer(events)
        assert (refused.outcome, refused.verdict.code) == (Outcome.REFUSED, code)
        assert isinstance(refused.verdict, Refused)
    assert dsp.next_deadline() is None


def test_a_distribution_goes_to_those_that_no_list_names():
    """A stranger, one of another type and one with an image on its way are listed; the image goes to the rest."""
    dsp = new_dsp()
    _, events = dsp.submit(distribution(ESME_ID), NOW, image=meter_image())
    assert sent(events) == [ImageDown(1, ESME_ID, meter_image())]
    again = UpdateFirmware("r2", IS, V2, (STRANGER, PPMID_ID, ESME_ID, HCALCS_ID))
    _, events = dsp.submit(again, NOW, image=meter_image())
    assert sent(events) == [ImageDown(2, HCALCS_ID, meter_image())]
    assert answer(events) is None, "the CSP has still to say that the image is at the hub"
    events = dsp.arrived(ImageDown(2, HCALCS_ID, meter_image()), None, NOW + 2)
    verdict = answer(events).verdict
    assert verdict == Acknowledged(
        Code.ACKNOWLEDGED,
        (HCALCS_ID,),
        "W110101",
        DeviceLists(
            invalid_device_ids=(STRANGER,),
            not_applicable_firmware=(PPMID_ID,),
            other_request_in_progress=(ESME_ID,),
        ),
    )


def test_the_image_is_looked_up_by_its_own_hash():
    """An image of a listed version, but with other octets, is not applicable: nothing is sent."""
    dsp = new_dsp()
    _, events = dsp.submit(distribution(ESME_ID), NOW, image=meter_image(filling=b"other"))
    assert sent(events) == []
    assert answer(events).verdict.lists == DeviceLists(not_applicable_firmware=(ESME_ID,))
    ppmid = UpdatePpmidFirmware("r2", IS, V2, (PPMID_ID,))
    assert sent(dsp.submit(ppmid, NOW, image=ppmid_image())[1])


@pytest.mark.parametrize(
    ("request_", "image", "said"),
    [
        (distribution(ESME_ID), None, "SR11.1 r1 has no image"),
        (distribution(ESME_ID), b"no image", "is no OTA file"),
        (UpdateFirmware("r1", IS, V2, (ESME_ID,), bytes(32)), meter_image(), "names another hash"),
        (ReadFirmwareVersion(IS, ESME_ID), meter_image(), "SR11.2 carries no image"),
    ],
)
def test_a_request_that_cannot_be_sent_is_an_error_and_changes_nothing(request_, image, said):
    """What is wrong on our side is a LocalProtocolError: no verdict, and no image on its way."""
    dsp = new_dsp()
    with pytest.raises(LocalProtocolError, match=said):
        dsp.submit(request_, NOW, image=image)
    assert dsp.inventory.device(ESME_ID).upgrade is None


def test_only_sr11_3_is_future_dated():
    """A date with another request is an error."""
    with pytest.raises(LocalProtocolError, match=r"SR11\.2 is not future-dated"):
        new_dsp().submit(ReadFirmwareVersion(IS, ESME_ID), NOW, at=MOMENT)


# --- commands and responses -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "device", "payload", "response"),
    [
        (IS, ESME_ID, ReadEsmeFirmwareVersion, EsmeFirmwareVersion(0x20000001, V2)),
        (IS, HUB_1, ReadEsmeFirmwareVersion, EsmeFirmwareVersion(0x20000001, V2)),
        (GS, GSME_ID, ReadGsmeFirmwareVersion, GsmeFirmwareVersion(V2)),
        (GS, GPF_ID, ReadGsmeFirmwareVersion, GsmeFirmwareVersion(V2)),
        (IS, PPMID_ID, gbcs.ReadFirmwareVersion, gbcs.FirmwareVersion(V2, gbcs.ReadResponse.SUCCESS)),
        (IS, HCALCS_ID, gbcs.ReadFirmwareVersion, gbcs.FirmwareVersion(V2, gbcs.ReadResponse.SUCCESS)),
    ],
)
def test_sr11_2_is_the_read_of_each_kind_of_device(user, device, payload, response):
    """ECS52 to an ESME or hub, GCS38 to a GSME or GPF, CS08 to a PPMID or HCALCS; the response ends the request."""
    dsp = new_dsp()
    _, events = dsp.submit(ReadFirmwareVersion(user, device), NOW)
    message = command(events)
    assert type(parse_payload(message)) is payload
    assert (message.originator, message.recipient, message.signature) == (USER, device, b"")
    came = answer(dsp.receive(up(response, device), NOW + 5))
    assert (came.outcome, came.responses) == (Outcome.DONE, (FirmwareVersionRead(device, V2),))
    assert came.firmware_version == V2


def test_sr11_3_is_signed_and_its_response_updates_the_inventory():
    """CS06 has the hash, the User's signature and a counter of its own; success is the version that runs now."""
    dsp = new_dsp()
    _, events = dsp.submit(ActivateFirmware(IS, ESME_ID, HASH), NOW)
    message = command(events)
    assert parse_payload(message) == gbcs.ActivateFirmware(HASH, 1)
    assert verify(message, KEY.public_key())
    events = dsp.receive(up(gbcs.ExecutionOutcome(SUCCESS, V2), ESME_ID), NOW + 5)
    assert answer(events).activation is ActivationOutcome.SUCCESS
    assert dsp.inventory.device(ESME_ID).firmware_version == V2
    assert command(dsp.submit(ActivateFirmware(IS, ESME_ID, HASH), NOW)[1]).originator_counter == 2


def test_a_future_dated_sr11_3_is_recorded_and_its_alert_updates_the_inventory():
    """The response says that it is recorded; 0x8F66 comes later, with the version."""
    dsp = new_dsp()
    _, events = dsp.submit(ActivateFirmware(IS, ESME_ID, HASH), NOW, at=MOMENT)
    assert parse_payload(command(events)).execution_time == MOMENT
    came = answer(dsp.receive(up(gbcs.CommandAccepted(), ESME_ID), NOW + 5))
    assert (came.outcome, came.responses, came.detail) == (Outcome.DONE, (), "recorded")
    outcome = gbcs.ExecutionOutcome(SUCCESS, V2)
    events = dsp.receive(up(gbcs.FutureDatedActivation(0x8F66, MOMENT, 1, outcome), ESME_ID, 9), NOW + 50)
    assert events[0] == Applied(FirmwareActivated(ESME_ID, ActivationOutcome.SUCCESS, V2))
    assert dsp.inventory.device(ESME_ID).firmware_version == V2


def test_a_response_answers_the_request_whose_counter_and_device_it_has():
    """Of two reads under way each response finds its own, whichever comes first; another Device's finds none."""
    dsp = new_dsp()
    first, _ = dsp.submit(ReadFirmwareVersion(IS, ESME_ID), NOW)
    second, _ = dsp.submit(ReadFirmwareVersion(IS, ESME_ID), NOW)
    reading = EsmeFirmwareVersion(0x20000002, V2)
    stranger = dsp.receive(up(gbcs.FirmwareVersion(V2, gbcs.ReadResponse.SUCCESS), PPMID_ID, 2), NOW)
    assert isinstance(stranger[0], Ignored)
    assert [event.ticket for event in dsp.receive(up(reading, ESME_ID, 2), NOW)[-1:]] == [second]
    assert [event.ticket for event in dsp.receive(up(reading, ESME_ID, 1), NOW)[-1:]] == [first]
    assert isinstance(dsp.receive(up(reading, ESME_ID, 1), NOW)[0], Ignored), "and a copy of it none any more"


def test_an_answer_of_another_kind_ends_nothing():
    """A response that has the counter but is no answer to the request leaves it waiting."""
    dsp = new_dsp()
    dsp.submit(ActivateFirmware(IS, ESME_ID, HASH), NOW)
    events = dsp.receive(up(EsmeFirmwareVersion(1, V2), ESME_ID), NOW)
    assert isinstance(events[0], Ignored)
    assert dsp.inventory.device(ESME_ID).firmware_version == V1
    assert answer(dsp.receive(up(gbcs.ExecutionOutcome(SUCCESS, V2), ESME_ID), NOW)).outcome is Outcome.DONE


def test_a_read_that_failed_tells_no_version():
    """An ECS52 without a version, a CS08 of failure: nothing is taken from them, and they are waited past."""
    dsp = new_dsp()
    dsp.submit(ReadFirmwareVersion(IS, ESME_ID), NOW)
    dsp.submit(ReadFirmwareVersion(IS, PPMID_ID), NOW)
    assert isinstance(dsp.receive(up(EsmeFirmwareVersion(1, None, 3), ESME_ID, 1), NOW)[0], Ignored)
    failed = gbcs.FirmwareVersion(V2, gbcs.ReadResponse.FAILURE)
    assert isinstance(dsp.receive(up(failed, PPMID_ID, 2), NOW)[0], Ignored)
    assert dsp.inventory.device(PPMID_ID).firmware_version == V1


# --- time-outs, retries, late responses -------------------------------------------------------------------------------


def test_a_response_that_does_not_come_is_given_up():
    """At the deadline, not before, the request ends with TIMED_OUT and no response."""
    dsp = new_dsp(response_seconds=60.0)
    dsp.submit(ReadFirmwareVersion(IS, ESME_ID), NOW)
    assert dsp.next_deadline() == NOW + 60
    assert dsp.on_deadline(NOW + 59) == []
    given_up = answer(dsp.on_deadline(NOW + 60))
    assert (given_up.outcome, given_up.responses, given_up.attempts) == (Outcome.TIMED_OUT, (), 1)
    assert dsp.next_deadline() is None


def test_a_retry_is_the_same_command():
    """The DSP cannot sign for the User: it sends the octets again, as often as it may, and then gives up."""
    dsp = new_dsp(response_seconds=60.0, attempts=3)
    _, events = dsp.submit(ActivateFirmware(IS, ESME_ID, HASH), NOW)
    (first,) = sent(events)
    assert sent(dsp.on_deadline(NOW + 60)) == [first]
    assert dsp.on_deadline(NOW + 100) == []
    assert sent(dsp.on_deadline(NOW + 120)) == [first]
    assert answer(dsp.on_deadline(NOW + 180)).attempts == 3


def test_a_late_response_still_updates_the_inventory():
    """Its request has timed out and ends no second time, but the version is the Device's: assumed that it is taken."""
    inventory = suspended(ESME_ID, "ESME-a")
    dsp = new_dsp(inventory, response_seconds=60.0)
    dsp.submit(ActivateFirmware(IS, ESME_ID, HASH), NOW)
    dsp.on_deadline(NOW + 60)
    events = dsp.receive(up(gbcs.ExecutionOutcome(SUCCESS, V2), ESME_ID), NOW + 90)
    assert answer(events) is None
    assert events[0] == Applied(FirmwareActivated(ESME_ID, ActivationOutcome.SUCCESS, V2), late=True)
    assert alerts(events) == [DeviceRestored(ESME_ID)]


def test_a_command_that_the_hub_does_not_pass_on_ends_at_once():
    """The hub's reason is the answer's detail, and no deadline is left."""
    dsp = new_dsp()
    _, events = dsp.submit(ReadFirmwareVersion(IS, ESME_ID), NOW)
    (down,) = sent(events)
    assert isinstance(down, CommandDown)
    undelivered = answer(dsp.arrived(down, "it is not in the Device Log", NOW + 2))
    assert (undelivered.outcome, undelivered.detail) == (Outcome.UNDELIVERED, "it is not in the Device Log")
    assert dsp.next_deadline() is None


# --- images on their way ----------------------------------------------------------------------------------------------


def test_n60_and_n61_follow_each_image():
    """Of two images one reaches the hub and one is lost: N60 for the one, N61 for the other, then the answer."""
    dsp = new_dsp()
    _, events = dsp.submit(distribution(ESME_ID, HCALCS_ID), NOW, image=meter_image())
    first, second = sent(events)
    events = dsp.arrived(first, None, NOW + 2)
    assert alerts(events) == [CSPFirmwareDeliveryStatus("r1", HUB_1, ESME_ID, V2, delivered=True)]
    assert answer(events) is None
    assert dsp.arrived(first, None, NOW + 2) == [], "that was said already"
    done = answer(dsp.lost(second, NOW + 2))
    assert done.delivered_to == (ESME_ID,)
    assert done.responses[1] == ImageDelivered("r1", HUB_1, HCALCS_ID, V2, delivered=False)
    assert dsp.inventory.device(ESME_ID).upgrade.stage is Stage.AT_HUB
    assert dsp.inventory.device(HCALCS_ID).upgrade is None, "it may be sent another"
    assert dsp.arrived(first, None, NOW + 3) == [], "it was answered already"


def test_of_a_lost_command_nobody_tells():
    """The DSP hears nothing of it: it waits until its deadline."""
    dsp = new_dsp(response_seconds=60.0)
    _, events = dsp.submit(ReadFirmwareVersion(IS, ESME_ID), NOW)
    assert dsp.lost(sent(events)[0], NOW) == []
    assert dsp.next_deadline() == NOW + 60


@pytest.mark.parametrize(
    ("payload", "source", "stage"),
    [
        (EsmeFirmwareReceipt(1, 0x8F72, bytes(12), HASH), ESME_ID, Stage.AT_DEVICE),
        (EsmeFirmwareReceipt(1, 0x8F1C, bytes(12), HASH), ESME_ID, None),
        (TRANSFERRED, HUB_1, Stage.AT_DEVICE),
        (gbcs.FirmwareTransfer(0x8F89, MOMENT, ESME_ID, V2, gbcs.TransferResponse.IMAGE_DISCARDED), HUB_1, None),
    ],
)  # fmt: skip
def test_alerts_say_how_far_an_image_is(payload, source, stage):
    """0x8F72 and a transfer of success bring it to the Device; 0x8F1C and a discarded image end it."""
    dsp = new_dsp()
    _, events = dsp.submit(distribution(ESME_ID), NOW, image=meter_image())
    dsp.arrived(sent(events)[0], None, NOW)
    dsp.receive(up(payload, source), NOW + 9)
    upgrade = dsp.inventory.device(ESME_ID).upgrade
    assert (None if upgrade is None else upgrade.stage) == stage


def test_a_ppmids_own_alert_ends_its_upgrade():
    """0x8F8B of success updates the version of a PPMID; of failure, it stays."""
    for result, version in ((gbcs.ActivationResult.SUCCESS, V2), (gbcs.ActivationResult.FAILURE, V1)):
        dsp = new_dsp()
        request = UpdatePpmidFirmware("r1", IS, V2, (PPMID_ID,))
        (down,) = sent(dsp.submit(request, NOW, image=ppmid_image())[1])
        dsp.arrived(down, None, NOW)
        events = dsp.receive(up(gbcs.FirmwareActivated(0x8F8B, MOMENT, V2, result), PPMID_ID), NOW + 9)
        assert alerts(events)[-1].number == "N43"
        device = dsp.inventory.device(PPMID_ID)
        assert (device.firmware_version, device.upgrade) == (version, None)


def test_sr11_2_to_the_gpf_raises_n52():
    """The GPF's answer is another version than the Inventory has of its GSME: N52, and the record stays."""
    dsp = new_dsp(suspended(GSME_ID, "GSME-a"))
    dsp.submit(ReadFirmwareVersion(GS, GPF_ID), NOW)
    events = dsp.receive(up(GsmeFirmwareVersion(V2), GPF_ID), NOW + 5)
    assert [type(alert) for alert in alerts(events)] == [FirmwareVersionMismatch]
    assert dsp.inventory.device(GSME_ID).status is DeviceStatus.SUSPENDED


# --- what is not for the Inventory ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (Up(ESME_ID, b"noise"), "GBCS"),
        (Up(ESME_ID, up(GsmeFirmwareReceipt(0x8F72, 0, HASH), GSME_ID).octets), "it says that it is"),
        (up(gbcs.FirmwareActivated(0x8F8B, MOMENT, V2, gbcs.ActivationResult.SUCCESS), ESME_ID), "0x8F8B from ESME"),
        (up(GsmeFirmwareReceipt(0x8F72, 0, HASH), STRANGER), "not in the Inventory"),
        (up(TRANSFERRED, PPMID_ID), "no Communications Hub"),
        (up(gbcs.ReadFirmwareVersion(), PPMID_ID), "changes nothing"),
        (Logged(99, PPMID_ID, None), "nobody waits"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_ignored_with_its_reason(what, said):
    """Noise, a false name, an alert that its sender cannot send: the Inventory stays, and the event says why."""
    dsp = new_dsp()
    before = [dsp.inventory.device(device) for device in dsp.inventory]
    (ignored,) = dsp.receive(what, NOW)
    assert isinstance(ignored, Ignored)
    assert said in ignored.reason
    assert [dsp.inventory.device(device) for device in dsp.inventory] == before


def test_a_row_of_the_cpl_that_has_ended_is_noticed_with_the_next_request():
    """Nobody waits for the last day of a row; the first request after it finds the Device Suspended, and E5."""
    dsp, after = new_dsp(), NOW + 2 * 86400
    rows = tuple(
        replace(one, expiry=day_of(NOW)) if (one.model, one.firmware_version) == ("ESME-a", V1) else one
        for one in CPL
    )
    dsp.take(CplLoaded("CPL 2", rows), NOW)
    assert dsp.next_deadline() is None
    _, events = dsp.submit(OtherRequest(IS, ESME_ID, "2.2"), after)
    assert [alert.number for alert in alerts(events)] == ["N28"]
    assert answer(events).verdict.code is Code.INVALID_DEVICE_STATUS


# --- what needs no GBCS -----------------------------------------------------------------------------------------------


def test_a_device_is_pre_notified_logged_joined_and_commissioned():
    """SR12.2 ends at once, SR8.11 with what the hub made of it, SR8.1.1 for a Device that is on the HAN."""
    dsp, new = new_dsp(), 0x41
    request = PreNotifyDevice(IS, new, "PPMID", "Acme", "PPMID-s2", S2, V1)
    assert answer(dsp.submit(request, NOW)[1]).outcome is Outcome.DONE
    ticket, events = dsp.submit(UpdateDeviceLog(IS, HUB_1, new), NOW)
    assert events == [Sent(DeviceLogDown(ticket, new, add=True))]
    assert dsp.arrived(events[0].what, None, NOW) == []
    assert answer(dsp.receive(Logged(ticket, new, None), NOW + 4)).outcome is Outcome.DONE
    assert dsp.inventory.device(new).status is DeviceStatus.WHITELISTED
    dsp.take(DeviceJoined(HUB_1, new), NOW + 9)
    assert answer(dsp.submit(CommissionDevice(IS, new), NOW + 9)[1]).outcome is Outcome.DONE
    assert dsp.inventory.device(new).status is DeviceStatus.COMMISSIONED


def test_a_device_log_that_is_full_leaves_the_device_pending():
    """The hub's reason comes up, and the Inventory has the Device where it was."""
    dsp, new = new_dsp(), 0x41
    dsp.submit(PreNotifyDevice(IS, new, "PPMID", "Acme", "PPMID-s2", S2, V1), NOW)
    ticket, _ = dsp.submit(UpdateDeviceLog(IS, HUB_1, new), NOW)
    assert (
        answer(dsp.receive(Logged(ticket, new, "the Device Log is full"), NOW)).detail
        == "the Device Log is full"
    )
    assert dsp.inventory.device(new).status is DeviceStatus.PENDING


def test_without_a_user_no_command_is_sent():
    """A bench without a Supplier can still pre-notify; a command to a Device is an error that changes nothing."""
    dsp = Dsp(premises(), None)
    with pytest.raises(LocalProtocolError, match="no User"):
        dsp.submit(ReadFirmwareVersion(IS, ESME_ID), NOW)
    assert answer(dsp.submit(OtherRequest(IS, ESME_ID, "2.2"), NOW)[1]).outcome is Outcome.DONE


@pytest.mark.parametrize("settings", [{"response_seconds": 0.0}, {"attempts": 0}])
def test_a_dsp_that_does_not_wait_is_refused(settings):
    """It waits for some time, and sends once at least."""
    with pytest.raises(LocalProtocolError, match="a DSP that waits"):
        DspConfig(**settings)
