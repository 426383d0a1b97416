"""A device's firmware: future-dated CS06, activation of its own accord, reads of the version, and what flash keeps."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from harness.errors import LocalProtocolError
from harness.members.firmware_values import (
    UNSTARTABLE,
    Activation,
    ActivationBegun,
    ActivationCancelled,
    ActivationEnded,
    ActivationScheduled,
    AlertRaised,
    CommandAnswered,
    FirmwareFlash,
    HeldImage,
    Order,
    ScheduledActivation,
)
from harness.members.kinds import DeviceKind
from harness.wire.gbcs import Cra, build_message, parse_message
from harness.wire.gbcs_image import image_hash
from harness.wire.gbcs_payloads import (
    NEVER,
    ActivationResult,
    CommandAccepted,
    ExecutionOutcome,
    FirmwareActivated,
    FirmwareVersion,
    FutureDatedActivation,
    ReadFirmwareVersion,
    ReadResponse,
)
from harness.wire.gbcs_readings import (
    EsmeFirmwareVersion,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadGsmeFirmwareVersion,
    invoke_id,
)
from tests.unit.firmware_bench import (
    BROKER,
    DEVICE,
    FAILURE,
    HASH,
    MISMATCH,
    NEW,
    NEWER,
    NO_IMAGE,
    OLD,
    START,
    STRANGE_HASH,
    SUCCESS,
    SUPPLIER,
    command,
    config,
    cs06,
    device,
    file,
    holding,
    payloads,
    power_cut,
    refusal,
    restart,
    said,
)

# --- future-dated CS06 -----------------------------------------------------------------------------------------------

LATER = START + timedelta(seconds=100)


def test_a_future_dated_cs06_acts_at_its_time():
    """FW-05: acknowledged with NULL; at its time the image runs, and 0x8F66 says so."""
    firmware = holding()
    assert firmware.receive(cs06(HASH, 5, LATER), 0.0) == [
        ActivationScheduled(5, LATER),
        CommandAnswered(0x0012, SUPPLIER, 5),
    ]
    assert payloads(firmware) == [CommandAccepted()]
    firmware = power_cut(firmware)
    assert firmware.next_deadline() == 100.0
    assert firmware.on_deadline(99.9) == []
    assert firmware.on_deadline(100.0) == [ActivationBegun(NEW)]
    assert firmware.next_deadline() is None
    firmware, events = restart(firmware, 130.0)
    assert events == [ActivationEnded(NEW, NEW, SUCCESS), AlertRaised(0x8F66, SUPPLIER, 2)]
    [(message, payload)] = said(firmware)
    assert (message.message_code, message.originator_counter) == (0x00CA, 2)
    assert payload == FutureDatedActivation(0x8F66, LATER, 5, ExecutionOutcome(SUCCESS, NEW))


@pytest.mark.parametrize(
    ("image", "outcome", "changes"), [(None, NO_IMAGE, 0), (b"x", MISMATCH, 0), (UNSTARTABLE, FAILURE, 1)]
)
def test_a_future_dated_cs06_that_fails_says_so_at_its_time(image, outcome, changes):
    """FW-05: 0x8F67 with the outcome and the version of before; what is held is looked at only then (GBCS 11.5)."""
    firmware = device()
    firmware.receive(cs06(image_hash(UNSTARTABLE), 5, LATER), 0.0)
    if image is not None:
        firmware.stored(file(image), 50.0)
    firmware.messages_to_send()
    assert firmware.on_deadline(100.0).count(ActivationBegun(NEW)) == changes
    firmware.booted(130.0)
    alert = FutureDatedActivation(0x8F67, LATER, 5, ExecutionOutcome(outcome, OLD))
    assert payloads(firmware) == [alert]


def test_a_future_dated_cs06_can_be_cancelled():
    """FW-05: 99991231235959Z takes it back and is acknowledged, also where nothing was to be taken back."""
    firmware = holding()
    firmware.receive(cs06(HASH, 5, LATER), 0.0)
    assert firmware.receive(cs06(HASH, 6, NEVER), 1.0) == [
        ActivationCancelled(5, 6),
        CommandAnswered(0x0012, SUPPLIER, 6),
    ]
    assert (firmware.next_deadline(), firmware.on_deadline(100.0)) == (None, [])
    assert firmware.receive(cs06(HASH, 7, NEVER), 2.0) == [CommandAnswered(0x0012, SUPPLIER, 7)]
    assert payloads(firmware) == [CommandAccepted()] * 3
    assert firmware.flash.held.version == NEW


def test_a_later_future_dated_cs06_takes_the_place_of_an_earlier_one():
    """Assumed: a device has one record."""
    firmware = holding()
    firmware.receive(cs06(STRANGE_HASH, 5, LATER), 0.0)
    sooner = LATER - timedelta(seconds=50)
    assert ActivationCancelled(5, 6) in firmware.receive(cs06(HASH, 6, sooner), 1.0)
    assert firmware.next_deadline() == 50.0


def test_a_time_that_has_passed_is_now():
    """A device that was off then, or a command that was long on its way."""
    firmware = holding()
    firmware.receive(cs06(HASH, 5, START - timedelta(seconds=1)), 10.0)
    assert firmware.next_deadline() == -1.0
    assert firmware.on_deadline(10.0) == [ActivationBegun(NEW)]


def test_a_future_dated_cs06_waits_for_an_activation_to_end():
    """Its turn comes after the restart; the image is then no more."""
    firmware = holding()
    firmware.receive(cs06(HASH, 5, LATER), 0.0)
    firmware.receive(cs06(HASH, 6), 99.0)
    assert (firmware.next_deadline(), firmware.on_deadline(101.0)) == (None, [])
    firmware, _ = restart(firmware, 130.0)
    assert firmware.on_deadline(130.0) == [AlertRaised(0x8F67, SUPPLIER, 2)]
    assert payloads(firmware)[-1].outcome == ExecutionOutcome(NO_IMAGE, NEW)


# --- devices that activate by themselves -----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [DeviceKind.PPMID, DeviceKind.BRIDGE])
@pytest.mark.parametrize(
    ("image", "runs", "response", "result"),
    [
        (b"firmware", NEW, SUCCESS, ActivationResult.SUCCESS),
        (UNSTARTABLE, OLD, FAILURE, ActivationResult.FAILURE),
    ],
)
def test_a_ppmid_runs_its_image_when_it_is_due_and_sends_cs09(kind, image, runs, response, result):
    """FW-08: 0x8F8B to the Access Control Broker, with the version that runs and the result."""
    firmware = device(kind)
    firmware.stored(file(image, key=None), 0.0)
    assert firmware.due(1.0) == [ActivationBegun(NEW)]
    assert firmware.due(1.1) == []
    firmware, events = restart(firmware, 30.0)
    assert events == [ActivationEnded(NEW, runs, response), AlertRaised(0x8F8B, BROKER, 1)]
    [(message, payload)] = said(firmware)
    assert message.message_code == 0x012B
    assert payload == FirmwareActivated(0x8F8B, START + timedelta(seconds=30), runs, result)
    assert firmware.flash.held is None


def test_an_ihd_runs_its_image_without_a_word():
    """F3: no Remote Party is told of a Type 2 Device."""
    firmware = device(DeviceKind.IHD)
    firmware.stored(file(key=None), 0.0)
    firmware.due(1.0)
    firmware, events = restart(firmware, 2.0)
    assert events == [ActivationEnded(NEW, NEW, SUCCESS)]
    assert firmware.messages_to_send() == []


def test_an_hcalcs_may_be_told_to_send_cs09_too():
    """The title of CS09 names it; the default is silent."""
    firmware = holding(DeviceKind.HCALCS, activation_alert=True)
    firmware.receive(cs06(HASH, 5), 0.0)
    firmware, _ = restart(firmware, 1.0)
    assert [type(payload) for payload in payloads(firmware)] == [ExecutionOutcome, FirmwareActivated]


def test_due_is_for_who_may_and_has_something_to_run():
    """GBCS 11.2.1: a meter's image runs on CS06, whatever an OTA server says."""
    with pytest.raises(LocalProtocolError, match="ESME runs an image on CS06 only"):
        holding().due(0.0)
    with pytest.raises(LocalProtocolError, match="PPMID holds no image"):
        device(DeviceKind.PPMID).due(0.0)


# --- reads -----------------------------------------------------------------------------------------------------------

READS = [
    (ReadEsmeFirmwareVersion(invoke_id(9)), [DeviceKind.ESME], EsmeFirmwareVersion(invoke_id(9), OLD)),
    (ReadGsmeFirmwareVersion(7), [DeviceKind.GSME], GsmeFirmwareVersion(OLD, sequence=7)),
    (
        ReadFirmwareVersion(),
        [DeviceKind.HCALCS, DeviceKind.PPMID, DeviceKind.BRIDGE],
        FirmwareVersion(OLD, ReadResponse.SUCCESS),
    ),
]


@pytest.mark.parametrize("kind", DeviceKind)
@pytest.mark.parametrize(("read", "kinds", "answer"), READS)
def test_a_read_is_answered_by_the_kinds_that_it_is_for(read, kinds, answer, kind):
    """ECS52 by an ESME, GCS38 by a GSME, CS08 by HCALCS, PPMID and bridge; to whom asked, under its counter."""
    firmware = device(kind)
    octets = build_message(
        replace(
            parse_message(command(read, 9, BROKER)),
            supplementary_remote_party=SUPPLIER,
            supplementary_remote_party_counter=1000,
            supplementary_originator_counter=3,
        )
    )
    events = firmware.receive(octets, 0.0)
    if kind not in kinds:
        assert f"no firmware command of this {kind.name}" in refusal(events)
        assert firmware.messages_to_send() == []
        return
    [(message, payload)] = said(firmware)
    assert events == [CommandAnswered(message.message_code, BROKER, 9)]
    assert payload == answer
    assert (message.cra, message.originator, message.recipient) == (Cra.RESPONSE, DEVICE, BROKER)
    assert (message.originator_counter, message.supplementary_remote_party) == (9, SUPPLIER)
    assert (message.supplementary_remote_party_counter, message.supplementary_originator_counter) == (
        1000,
        None,
    )


def test_a_read_says_what_runs_before_and_after():
    """The image that waits is not what runs."""
    firmware = holding(DeviceKind.GSME)
    read = command(ReadGsmeFirmwareVersion())
    firmware.receive(read, 0.0)
    firmware.receive(cs06(HASH, 5), 1.0)
    firmware.receive(read, 1.0)
    firmware, _ = restart(firmware, 2.0)
    firmware.receive(read, 3.0)
    read_ = [payload.version for payload in payloads(firmware) if isinstance(payload, GsmeFirmwareVersion)]
    assert read_ == [OLD, OLD, NEW]


# --- flash -----------------------------------------------------------------------------------------------------------

FULL = FirmwareFlash(
    NEW,
    HeldImage(NEWER, HASH, 70, starts=False),
    ScheduledActivation(HASH, SUPPLIER, 5, LATER),
    Activation(HeldImage(NEW, HASH, 70), Order(SUPPLIER, 6, LATER), SUCCESS),
    [b"\xdf\x00"],
    7,
    {SUPPLIER: 6},
)


def test_flash_comes_back_from_what_it_saved():
    """Every field, and each that may be empty."""
    assert FirmwareFlash.loaded(FULL.saved()) == FULL
    assert FirmwareFlash.loaded(FirmwareFlash(OLD).saved()) == FirmwareFlash(OLD)
    by_itself = FirmwareFlash(OLD, activation=Activation(HeldImage(NEW, HASH, 70)))
    assert FirmwareFlash.loaded(by_itself.saved()) == by_itself
    for_now = FirmwareFlash(OLD, activation=Activation(HeldImage(NEW, HASH, 70), Order(SUPPLIER, 6)))
    assert FirmwareFlash.loaded(for_now.saved()) == for_now
    assert (by_itself.changing, FULL.changing, FirmwareFlash(OLD).changing) == (True, False, False)


@pytest.mark.parametrize(
    ("path", "value", "wrong"),
    [
        (["running_version"], 1 << 32, "running_version is 4294967296, not a number of 32 bits"),
        (["running_version"], True, "running_version is True"),
        (["held"], 3, "held image is 3, not a mapping"),
        (["held", "image_hash"], "00", "32 octets"),
        (["held", "starts"], 1, "true or false"),
        (["scheduled", "execution_time"], "soon", "'soon', not a time"),
        (["scheduled", "execution_time"], "2026-01-01T00:00:00", "a time in UTC"),
        (["scheduled", "originator"], -1, "64 bits"),
        (["activation", "result"], 4, "result is 4"),
        (["activation", "order"], [], "order of the activation is [], not a mapping"),
        (["owed"], "df00", "a list"),
        (["owed"], ["zz"], "octets in hex"),
        (["owed"], [3], "octets in hex"),
        (["seen"], [], "a mapping"),
        (["seen"], {"00": "x"}, "64 bits"),
        (["more"], 1, "has 'more', which nothing reads"),
    ],
)
def test_what_is_wrong_with_a_saved_flash_is_said(path, value, wrong):
    """The field and the value; nothing is guessed."""
    saved = FULL.saved()
    place = saved
    for name in path[:-1]:
        place = place[name]
    place[path[-1]] = value
    with pytest.raises(LocalProtocolError) as error:
        FirmwareFlash.loaded(saved)
    assert wrong in str(error.value)


def test_a_saved_flash_that_lacks_a_field_is_said():
    """Nothing is filled in."""
    saved = FULL.saved()
    del saved["counter"]
    with pytest.raises(LocalProtocolError, match="firmware flash lacks counter"):
        FirmwareFlash.loaded(saved)


def test_a_party_that_is_no_eui64_is_no_configuration():
    """64 bits, and not below zero."""
    for name in ("eui64", "supplier_id", "broker_id"):
        with pytest.raises(LocalProtocolError, match="does not fit 64 bits"):
            config(**{name: 1 << 64})
