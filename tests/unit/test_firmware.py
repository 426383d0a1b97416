"""A device's firmware: what it makes of images, of CS06 and of reads, and what it says about it."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from harness.errors import LocalProtocolError
from harness.members.firmware_values import (
    UNSTARTABLE,
    ActivationBegun,
    ActivationEnded,
    AlertRaised,
    CommandAnswered,
    FirmwareFlash,
    HeldImage,
    ImageHeld,
    ImageRejected,
    Receipt,
    dlms_time,
)
from harness.members.kinds import DeviceKind
from harness.wire.gbcs import Cra, build_message, parse_message
from harness.wire.gbcs_image import image_hash
from harness.wire.gbcs_payloads import (
    ExecutionOutcome,
    ReadFirmwareVersion,
    message_of,
)
from harness.wire.gbcs_readings import (
    EsmeFirmwareReceipt,
    GsmeFirmwareReceipt,
    ReadEsmeFirmwareVersion,
    invoke_id,
)
from harness.wire.gbcs_security import verify
from harness.wire.image import OtaImage
from harness.wire.package import Bridge, Package, PackagePart, build_package
from tests.unit.firmware_bench import (
    BROKER,
    COMMANDED,
    DEVICE,
    FAILURE,
    HARDWARE,
    HASH,
    IMAGE_TYPE,
    MAKER,
    MISMATCH,
    NEW,
    NEWER,
    NO_IMAGE,
    OLD,
    OTHER_KEY,
    SELF_ACTIVATED,
    START,
    STRANGE_HASH,
    SUCCESS,
    SUPPLIER,
    command,
    cs06,
    device,
    file,
    holding,
    payloads,
    refusal,
    restart,
    said,
)

# --- images ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DeviceKind)
def test_a_good_file_of_its_own_form_can_be_run(kind):
    """ESME, GSME and HCALCS take the trailer (F1.1); a PPMID, a bridge and an IHD take a plain image."""
    assert device(kind).examine(file(key=None) if kind in SELF_ACTIVATED else file(), NEW) is None


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (file()[:-1], "truncated"),
        (file() + b"\x00", "1 trailing octets"),
        (file(manufacturer=0x1000), "manufacturer 0x1000"),
        (file(image_type=1), "image type 0x0001"),
        (file(hardware_min=1, hardware_max=0x1111), "hardware versions 0x0001 to 0x1111"),
        (file(version=NEWER), "0x01000001 was announced"),
        (file(destination=DEVICE + 1), "00-DB-12-34-56-78-90-A1 alone"),
        (file(key=None), "Force Replace and signature alone have 66"),
        (file(bytes(100), key=None), "no signature"),
        (file(b""), "empty"),
        (file(key=OTHER_KEY), "not the supplier's"),
    ],
)
def test_a_file_that_it_cannot_run_is_told_apart(data, reason):
    """FW-01, FW-13: cut short, octets behind it, another's, another version than announced, or badly signed."""
    firmware = device()
    assert reason in firmware.examine(data, NEW)
    if "announced" not in reason:
        with pytest.raises(LocalProtocolError, match="cannot run was to be kept"):
            firmware.stored(data, 0.0)
    assert firmware.flash == FirmwareFlash(OLD)


def test_its_own_address_and_a_range_that_ends_at_its_hardware_are_fine():
    """ZCL8 11.4.2: a file may name its only device; both ends of the hardware range belong to it."""
    data = file(destination=DEVICE, hardware_min=HARDWARE, hardware_max=HARDWARE)
    assert device().examine(data, NEW) is None
    assert device(hardware_version=None).examine(file(hardware_min=1, hardware_max=1), NEW) is None


def test_without_a_supplier_only_the_form_of_the_trailer_counts():
    """Nobody's signature is known to be wrong then; that there is one is still asked for."""
    assert device(supplier=None).examine(file(key=OTHER_KEY), NEW) is None
    assert "no signature" in device(supplier=None).examine(file(bytes(100), key=None), NEW)


def test_whether_a_ppmids_image_has_a_trailer_is_a_parameter():
    """F1.1: that a PPMID's has none is known from a sample only."""
    assert device(DeviceKind.PPMID, trailer=True).examine(file(), NEW) is None
    assert device(DeviceKind.PPMID, trailer=True).examine(file(key=OTHER_KEY), NEW) is not None
    assert device(DeviceKind.ESME, trailer=False).examine(file(key=None), NEW) is None


def bridge_file(*bridges, **of_the_first):
    """A package in an OTA file, whose first image is for IMAGE_TYPE."""
    parts = []
    for place, bridge in enumerate(bridges):
        fields = {"manufacturer": MAKER, "image_type": IMAGE_TYPE + place, "payload": b"bridge firmware"}
        image = OtaImage(version=NEW, **(fields if place else {**fields, **of_the_first}))
        parts.append(PackagePart(bridge, image))
    return file(build_package(Package(tuple(parts))), key=None)


def test_a_bridge_takes_the_package_of_its_own_site_only():
    """AH-02: for another bridge, one too few, one too many, its own part for another type, or no package at all."""
    b3 = device(DeviceKind.BRIDGE, bridges=(Bridge.B3, Bridge.B4))
    b3_b4 = bridge_file(Bridge.B3, Bridge.B4)
    assert b3.examine(b3_b4, NEW) is None
    assert "lacks the image of B4" in b3.examine(bridge_file(Bridge.B3), NEW)
    assert "an image for B1" in b3.examine(bridge_file(Bridge.B1, Bridge.B3, Bridge.B4), NEW)
    assert "image of B3 in it is of image type 0x0001" in b3.examine(
        bridge_file(Bridge.B3, Bridge.B4, image_type=1), NEW
    )
    assert "not a package" in b3.examine(file(key=None), NEW)
    assert "package for bridges" in device(DeviceKind.BRIDGE).examine(b3_b4, NEW)
    assert "image type" in device(DeviceKind.BRIDGE, image_type=1).examine(file(key=None), NEW)


def test_a_package_fails_to_start_with_its_own_part():
    """The device runs its own part, so that this is the one that counts."""
    firmware = device(DeviceKind.BRIDGE, bridges=(Bridge.B1,))
    firmware.stored(bridge_file(Bridge.B1, payload=UNSTARTABLE), 0.0)
    firmware.due(1.0)
    assert restart(firmware, 2.0)[1][0] == ActivationEnded(NEW, OLD, FAILURE)


# --- stored and rejected ---------------------------------------------------------------------------------------------


def test_an_esme_keeps_a_good_image_and_says_so():
    """FW-02: stored, not run; 0x8F72 as message 0x00CE to the supplier, with the hash and the time."""
    firmware = device()
    assert firmware.stored(file(), 60.0) == [ImageHeld(NEW, HASH), AlertRaised(0x8F72, SUPPLIER, 1)]
    assert firmware.running_version == OLD
    assert firmware.flash.held == HeldImage(NEW, HASH, len(file()))
    [(message, payload)] = said(firmware)
    assert (message.message_code, message.cra, message.recipient) == (0x00CE, Cra.ALERT, SUPPLIER)
    time = dlms_time(START + timedelta(seconds=60))
    assert payload == EsmeFirmwareReceipt(invoke_id(1), 0x8F72, time, HASH)
    assert firmware.messages_to_send() == []


@pytest.mark.parametrize("kind", [DeviceKind.GSME, DeviceKind.HCALCS])
def test_a_gsme_says_it_in_its_own_form(kind):
    """Message 0x00CF with UTC seconds; that an HCALCS has it, too, is assumed."""
    firmware = device(kind, utc_at_zero=1000)
    firmware.stored(file(), 60.9)
    assert payloads(firmware) == [GsmeFirmwareReceipt(0x8F72, 1060, HASH)]


@pytest.mark.parametrize("kind", SELF_ACTIVATED)
def test_a_device_that_activates_by_itself_says_nothing_yet(kind):
    """F3: CS09 comes with the activation, and nothing before."""
    firmware = device(kind)
    assert firmware.stored(file(key=None), 0.0) == [ImageHeld(NEW, HASH)]
    assert firmware.rejected(NEWER, "it is bad", 1.0) == [ImageRejected(NEWER, "it is bad")]
    assert firmware.messages_to_send() == []


def test_the_form_of_the_receipt_is_a_parameter():
    """What no public document says of an HCALCS can be set."""
    firmware = device(DeviceKind.HCALCS, receipt=Receipt.NONE)
    assert firmware.stored(file(), 0.0) == [ImageHeld(NEW, HASH)]


def test_a_bad_image_raises_its_alert_and_leaves_the_held_one():
    """FW-01: 0x8F1C with the hash that the device calculated; zeros where there was nothing to calculate."""
    firmware = holding()
    bad = file(b"another", version=NEWER, key=OTHER_KEY)
    reason = firmware.examine(bad, NEWER)
    assert firmware.rejected(NEWER, reason, 0.0) == [
        ImageRejected(NEWER, "its signature is not the supplier's"),
        AlertRaised(0x8F1C, SUPPLIER, 2),
    ]
    assert firmware.examine(file(), NEW) is None
    firmware.rejected(NEWER, firmware.examine(b"", NEWER), 0.0)
    receipts = payloads(firmware)
    assert [(receipt.alert_code, receipt.image_hash) for receipt in receipts] == [
        (0x8F1C, STRANGE_HASH),
        (0x8F1C, bytes(32)),
    ]
    assert firmware.flash.held.version == NEW


# --- CS06 ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", COMMANDED)
def test_cs06_runs_the_held_image_and_is_answered_from_the_new_one(kind):
    """FW-02, SU-13: no word before the restart; then success, with the version that runs now."""
    firmware = holding(kind)
    assert firmware.receive(cs06(HASH, 5), 10.0) == [ActivationBegun(NEW)]
    assert firmware.messages_to_send() == []
    assert firmware.running_version == OLD
    firmware.boot()
    firmware.boot()  # once more changes nothing
    assert firmware.running_version == NEW
    assert firmware.booted(40.0) == [ActivationEnded(NEW, NEW, SUCCESS), CommandAnswered(0x0012, SUPPLIER, 5)]
    [(message, payload)] = said(firmware)
    assert payload == ExecutionOutcome(SUCCESS, NEW)
    assert (message.cra, message.originator, message.recipient) == (Cra.RESPONSE, DEVICE, SUPPLIER)
    assert (message.originator_counter, message.signature, message.mac) == (5, b"", None)
    assert message.date_time == dlms_time(START + timedelta(seconds=40))
    assert firmware.booted(41.0) == []
    assert firmware.flash == FirmwareFlash(NEW, counter=1, seen={SUPPLIER: 5})


def test_cs06_without_an_image():
    """FW-03: outcome 1 at once, with the version of before; so ends a retry after a lost success (MP105)."""
    firmware = device()
    assert firmware.receive(cs06(HASH, 5), 0.0) == [CommandAnswered(0x0012, SUPPLIER, 5)]
    assert payloads(firmware) == [ExecutionOutcome(NO_IMAGE, OLD)]
    firmware.stored(file(), 1.0)
    firmware.receive(cs06(HASH, 6), 2.0)
    firmware, _ = restart(firmware, 3.0)
    firmware.messages_to_send()
    firmware.receive(cs06(HASH, 7), 4.0)
    assert payloads(firmware) == [ExecutionOutcome(NO_IMAGE, NEW)]


def test_cs06_with_another_hash():
    """FW-04: outcome 2, the old version goes on, and the image stays for a better command."""
    firmware = holding()
    assert firmware.receive(cs06(STRANGE_HASH, 5), 0.0) == [CommandAnswered(0x0012, SUPPLIER, 5)]
    assert payloads(firmware) == [ExecutionOutcome(MISMATCH, OLD)]
    assert firmware.receive(cs06(HASH, 6), 1.0) == [ActivationBegun(NEW)]


def test_an_image_that_does_not_start_leaves_the_old_one_running():
    """Outcome 3, the version of before; the image is gone."""
    image = UNSTARTABLE + b"firmware"
    firmware = holding(data=file(image))
    assert firmware.receive(cs06(image_hash(image), 5), 0.0) == [ActivationBegun(NEW)]
    firmware, events = restart(firmware, 1.0)
    assert events == [ActivationEnded(NEW, OLD, FAILURE), CommandAnswered(0x0012, SUPPLIER, 5)]
    assert payloads(firmware) == [ExecutionOutcome(FAILURE, OLD)]
    firmware.receive(cs06(image_hash(image), 6), 2.0)
    assert payloads(firmware) == [ExecutionOutcome(NO_IMAGE, OLD)]


def test_a_new_download_takes_the_place_of_the_held_image():
    """CS06 refers to the one that came last."""
    firmware = holding()
    firmware.stored(file(b"another", NEWER), 1.0)
    firmware.messages_to_send()
    firmware.receive(cs06(HASH, 5), 2.0)
    assert payloads(firmware) == [ExecutionOutcome(MISMATCH, OLD)]
    assert firmware.receive(cs06(STRANGE_HASH, 6), 3.0) == [ActivationBegun(NEWER)]


def test_cs06_while_the_device_changes_is_refused_and_the_image_that_runs_is_the_first():
    """From the switch on nothing can come between, a new download included."""
    firmware = holding()
    firmware.receive(cs06(HASH, 5), 0.0)
    assert "changes to 0x01000001" in refusal(firmware.receive(cs06(STRANGE_HASH, 6), 0.1))
    firmware.stored(file(b"another", NEWER), 0.2)
    firmware, _ = restart(firmware, 1.0)
    assert (firmware.running_version, firmware.flash.held.version) == (NEW, NEWER)


@pytest.mark.parametrize(
    ("octets", "reason"),
    [
        (cs06(HASH, 5, key=OTHER_KEY), "signature"),
        (cs06(HASH, 5, key=None), "signature"),
        (cs06(HASH, 5, recipient=DEVICE + 1), "00-DB-12-34-56-78-90-A1"),
        (cs06(HASH, 3), "counter 3, 90-B3-D5-1F-30-01-00-00 has come to 4"),
        (cs06(HASH, 4), "counter 4, 90-B3-D5-1F-30-01-00-00 has come to 4"),
        (b"", "without any octet"),
        (cs06(HASH, 5)[:-1], "cut off"),
        (cs06(HASH, 5) + b"\x00", "behind its end"),
        (
            build_message(
                message_of(ExecutionOutcome(SUCCESS, NEW), originator=SUPPLIER, recipient=DEVICE, originator_counter=5)
            ),
            "a response is no command",
        ),
        (build_message(replace(parse_message(command(ReadFirmwareVersion())), message_code=8)), "CS02a (0x0008)"),
    ],
)  # fmt: skip
def test_what_does_not_count_changes_nothing_and_gets_no_answer(octets, reason):
    """Not the supplier's, for another, seen before (assumed), broken, no command, or none of firmware."""
    firmware = holding()
    firmware.flash.seen[SUPPLIER] = 4
    before = firmware.flash.saved()
    assert reason in refusal(firmware.receive(octets, 0.0))
    assert firmware.flash.saved() == before


def test_a_counter_that_differs_between_header_and_payload_is_refused():
    """GBCS 0.8.1 annex 3: the payload's is that of the Grouping Header."""
    firmware = holding(supplier=None)
    octets = build_message(replace(parse_message(cs06(HASH, 5)), originator_counter=6))
    assert "counter 5, its header 6" in refusal(firmware.receive(octets, 0.0))


def test_without_a_supplier_cs06_needs_no_signature_and_replays_may_be_let_in():
    """Both are the configuration's to say; counters are by originator."""
    firmware = device(supplier=None)
    for counter, originator in ((5, SUPPLIER), (5, BROKER)):
        octets = cs06(HASH, counter, key=None, originator=originator)
        assert firmware.receive(octets, 0.0) == [CommandAnswered(0x0012, originator, counter)]
    firmware = device(refuses_replays=False)
    for counter in (5, 5, 4):
        assert firmware.receive(cs06(HASH, counter), 0.0) == [CommandAnswered(0x0012, SUPPLIER, counter)]
    assert firmware.flash.seen == {SUPPLIER: 5}


@pytest.mark.parametrize("kind", SELF_ACTIVATED)
def test_a_device_that_activates_by_itself_refuses_cs06(kind):
    """F3: there is no SR11.3 for it."""
    firmware = device(kind)
    firmware.stored(file(key=None), 0.0)
    assert "by itself" in refusal(firmware.receive(cs06(HASH, 5), 1.0))


def test_what_it_says_is_signed_where_it_has_a_key():
    """RTDS 4.5.0 signs responses to CS06 and alerts, and does not sign what a read is answered."""
    firmware = device(signing_key=OTHER_KEY)
    firmware.receive(cs06(HASH, 5), 0.0)
    firmware.stored(file(), 0.0)
    firmware.receive(command(ReadEsmeFirmwareVersion(invoke_id(1))), 0.0)
    signed = [verify(message, OTHER_KEY.public_key()) for message, _ in said(firmware)]
    assert signed == [True, True, False]
    assert "OTHER" not in repr(firmware.config)
    assert "signing_key" not in repr(firmware.config)
