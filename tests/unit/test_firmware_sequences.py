"""The firmware core under any sequence and hostile octets, and against the DCC's messages and images."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.members.firmware import Firmware
from harness.members.firmware_values import (
    UNSTARTABLE,
    ActivationBegun,
    ActivationCancelled,
    ActivationScheduled,
    CommandAnswered,
    CommandRefused,
    FirmwareFlash,
    HeldImage,
)
from harness.members.kinds import DeviceKind
from harness.wire.gbcs import build_message, parse_message
from harness.wire.gbcs_image import image_hash
from harness.wire.gbcs_names import CS06
from harness.wire.gbcs_payloads import (
    NEVER,
    ActivateImageResponse,
    CommandAccepted,
    ExecutionOutcome,
    FutureDatedActivation,
    ReadFirmwareVersion,
    build_payload,
    parse_payload,
)
from harness.wire.gbcs_readings import ReadEsmeFirmwareVersion, ReadGsmeFirmwareVersion, invoke_id
from harness.wire.gbcs_security import KeyUse, load_certificate
from tests.unit.firmware_bench import (
    DEVICE,
    HASH,
    NEW,
    OLD,
    START,
    command,
    config,
    cs06,
    device,
    file,
    holding,
    power_cut,
    refusal,
    said,
)

# --- any sequence ----------------------------------------------------------------------------------------------------

IMAGES = (b"first", b"second", UNSTARTABLE)
HASHES = (*map(image_hash, IMAGES), image_hash(b"nobody has this"))
# Unsigned: signatures are slow, and the core's reasons to refuse are tested elsewhere.
FILES = [file(image, key=None) for image in IMAGES]


@dataclass
class Expected:
    """What a device should do, by another way: images by their place in IMAGES, one step at a time."""

    held: tuple[int, int] | None = None  # place, version
    scheduled: tuple[int, int, float] | None = None  # place, counter, when
    running: int = OLD
    outcomes: dict[int, tuple[ActivateImageResponse, int]] = field(default_factory=dict)  # by counter
    cancelled: list[int] = field(default_factory=list)
    acknowledged: list[int] = field(default_factory=list)

    def run(self, wanted, counter):
        """CS06's turn has come."""
        result = ActivateImageResponse.NO_IMAGE_HELD
        if self.held is not None:
            place, version = self.held
            result = ActivateImageResponse.HASH_MISMATCH
            if place == wanted:
                self.held = None
                result = ActivateImageResponse.ACTIVATION_FAILURE
                if IMAGES[place] != UNSTARTABLE:
                    self.running = version
                    result = ActivateImageResponse.SUCCESS
        self.outcomes[counter] = (result, self.running)

    def schedule(self, scheduled, counter):
        """A future-dated CS06, or None for a cancellation."""
        if self.scheduled is not None:
            self.cancelled.append(self.scheduled[1])
        self.scheduled = scheduled
        self.acknowledged.append(counter)

    def reach(self, now):
        """Time has come so far."""
        if self.scheduled is not None and self.scheduled[2] <= now:
            wanted, counter, _ = self.scheduled
            self.scheduled = None
            self.run(wanted, counter)


STEPS = st.tuples(
    st.sampled_from(["store", "now", "now", "later", "later", "cancel", "wait", "take"]),
    st.integers(0, len(HASHES) - 1),
    st.sampled_from([0.0, 3.0, 10.0]),
    st.lists(st.booleans(), min_size=3, max_size=3),  # where the power is cut
)


@settings(max_examples=200)
@given(st.sampled_from([DeviceKind.ESME, DeviceKind.GSME, DeviceKind.HCALCS]), st.lists(STEPS, max_size=25))
def test_any_sequence_ends_as_each_command_says(kind, steps):
    """The version changes to held, matching images only; each CS06 has one end, power cut or not, told once."""
    firmware = device(kind, supplier=None, trailer=False)
    expected, now, taken, scheduled, cancelled = Expected(), 0.0, [], [], []
    for counter, (what, place, seconds, cuts) in enumerate(steps, 1):
        events: list[object] = []
        if what == "store":
            version = NEW + counter
            image = replace_version(FILES[place % len(FILES)], version)
            firmware.stored(image, now)
            expected.held = (place % len(FILES), version)
        elif what == "now":
            events = firmware.receive(cs06(HASHES[place], counter, key=None), now)
            expected.run(place, counter)
        elif what == "later":
            at = START + timedelta(seconds=now + seconds)
            events = firmware.receive(cs06(HASHES[place], counter, at, key=None), now)
            expected.schedule((place, counter, now + seconds), counter)
        elif what == "cancel":
            events = firmware.receive(cs06(HASHES[place], counter, NEVER, key=None), now)
            expected.schedule(None, counter)
        elif what == "wait":
            now += seconds
        else:
            taken += said(firmware)
        firmware = settle(firmware, events, now, cuts)
        assert (firmware.next_deadline() is None) is (expected.scheduled is None)
        events += (more := firmware.on_deadline(now))
        expected.reach(now)
        firmware = settle(firmware, more, now, cuts)
        assert not any(isinstance(event, CommandRefused) for event in events)
        scheduled += [event.originator_counter for event in events if isinstance(event, ActivationScheduled)]
        cancelled += [event.originator_counter for event in events if isinstance(event, ActivationCancelled)]
        held = firmware.flash.held
        assert (None if held is None else held.version) == (expected.held and expected.held[1])
        assert firmware.running_version == expected.running
    taken += said(firmware)
    assert firmware.messages_to_send() == []
    outcomes, alerts = [], []
    for message, payload in taken:
        if isinstance(payload, ExecutionOutcome):
            outcomes.append((message.originator_counter, payload))
        elif isinstance(payload, FutureDatedActivation):
            outcomes.append((payload.originator_counter, payload.outcome))
            alerts.append(payload.originator_counter)
            success = payload.outcome.response is ActivateImageResponse.SUCCESS
            assert payload.alert_code == (0x8F66 if success else 0x8F67)
    assert sorted(outcomes) == sorted((of, ExecutionOutcome(*end)) for of, end in expected.outcomes.items())
    acknowledged = [message.originator_counter for message, payload in taken if payload == CommandAccepted()]
    assert acknowledged == expected.acknowledged
    assert cancelled == expected.cancelled
    waiting = [] if expected.scheduled is None else [expected.scheduled[1]]
    assert sorted(scheduled) == sorted(alerts + cancelled + waiting)
    own = [message.originator_counter for message, _ in taken if message.cra.name == "ALERT"]
    assert own == list(range(1, len(own) + 1))


def replace_version(data, version):
    """The same file as another version: 4 octets at offset 14 of the header (ZCL8 11.4.2)."""
    return data[:14] + version.to_bytes(4, "little") + data[18:]


def settle(firmware, events, now, cuts):
    """Restart where the events ask for it, and cut the power where `cuts` says, before, amid and after the boot."""
    restarts = any(isinstance(event, ActivationBegun) for event in events)
    if cuts[0]:
        firmware = power_cut(firmware)
    if cuts[1] or restarts:
        firmware.boot()
        if cuts[2]:
            firmware = power_cut(firmware)
        firmware.booted(now)
    return power_cut(firmware) if cuts[2] else firmware


# --- hostile octets --------------------------------------------------------------------------------------------------

COMMANDS = [
    cs06(HASH, 5, key=None),
    cs06(HASH, 6, datetime(2030, 1, 15, 9, tzinfo=UTC), key=None),
    command(ReadFirmwareVersion()),
    command(ReadEsmeFirmwareVersion(invoke_id(1))),
    command(ReadGsmeFirmwareVersion()),
]
CHANGES = st.lists(st.tuples(st.integers(0, 120), st.integers(0, 255)), max_size=4)


@settings(max_examples=200)
@given(
    st.sampled_from(DeviceKind),
    st.one_of(
        st.binary(max_size=80), st.tuples(st.sampled_from(COMMANDS), CHANGES, st.integers(0, 150)).map(tuple)
    ),
)
def test_hostile_octets_are_refused_or_are_a_command(kind, made):
    """Nothing is raised, and what is refused leaves no trace."""
    octets = made
    if isinstance(made, tuple):
        base, changes, length = made
        spoilt = bytearray(base)
        for place, value in changes:
            spoilt[place % len(spoilt)] = value
        octets = bytes(spoilt[:length])
    firmware = device(kind, supplier=None)
    before = firmware.flash.saved()
    events = firmware.receive(octets, 0.0)
    kinds = [type(event) for event in events]
    if kinds == [CommandRefused]:
        assert firmware.flash.saved() == before
    else:
        assert kinds in ([CommandAnswered], [ActivationScheduled, CommandAnswered])
        assert len(firmware.messages_to_send()) == 1


def test_one_flipped_bit_anywhere_in_a_signed_cs06_and_it_is_refused():
    """Every bit, from the tag to the signature."""
    octets = cs06(HASH, 5)
    firmware = holding()
    before = firmware.flash.saved()
    for bit in range(8 * len(octets)):
        spoilt = bytearray(octets)
        spoilt[bit // 8] ^= 1 << bit % 8
        refusal(firmware.receive(bytes(spoilt), 0.0))
    assert firmware.flash.saved() == before
    assert firmware.receive(octets, 0.0) == [ActivationBegun(NEW)]


# --- the DCC's -------------------------------------------------------------------------------------------------------

UTC_2015 = 473385600  # 1 January 2015, which the messages of RTDS 4.5.0 are of, in UTC seconds since 2000
RTDS_HASH = bytes.fromhex("AA758690730934FF0685AA758690730934FF0685657788990011223344556677")
EUI64 = {"ECS52": DEVICE, "GCS38": DEVICE + 1, "CS08": DEVICE + 4}


def rtds(shared_data, name):
    """The octets of a message of RTDS 4.5.0."""
    return bytes.fromhex((shared_data / "rtds-4.5.0" / f"{name}.hex").read_text())


def bare(octets):
    """A message without signature and MAC."""
    return replace(parse_message(octets), signature=b"", mac=None)


def supplier_of(shared_data):
    """The certificate that signs the DCC's images and commands."""
    return load_certificate((shared_data / "dcc-samples" / "z1-supplier-ds.pem").read_bytes(), KeyUse.SIGNING)


def rtds_esme(supplier, **flash):
    """The ESME of RTDS 4.5.0, on 1 January 2015."""
    return Firmware(config(utc_at_zero=UTC_2015, supplier=supplier), FirmwareFlash(0x0123ABCD, **flash))


def test_the_dccs_cs06_is_answered_as_the_dcc_answers_it(shared_data):
    """Verified with the DCC's certificate; the response is the one of RTDS, but for its signature."""
    firmware = rtds_esme(supplier_of(shared_data), held=HeldImage(0x0123ABCE, RTDS_HASH, 70))
    events = firmware.receive(rtds(shared_data, "CS06_11.3_IMMEDIATE_SUCCESS_COMMAND"), 0.0)
    assert events == [ActivationBegun(0x0123ABCE)]
    firmware.booted(0.0)
    expected = bare(rtds(shared_data, "CS06_11.3_IMMEDIATE_SUCCESS_RESPONSE"))
    assert firmware.messages_to_send() == [build_message(expected)]


def test_the_dccs_future_dated_cs06_is_acknowledged_as_the_dcc_does(shared_data):
    """The acknowledgement is the one of RTDS; it is due on 15 January 2030 at 9:00."""
    firmware = rtds_esme(supplier_of(shared_data))
    firmware.receive(rtds(shared_data, "CS06_11.3_FUTURE_DATED_SUCCESS_COMMAND"), 0.0)
    expected = bare(rtds(shared_data, "CS06_11.3_FUTURE_DATED_SUCCESS_RESPONSE"))
    assert firmware.messages_to_send() == [build_message(expected)]
    due = datetime(2030, 1, 15, 9, tzinfo=UTC) - datetime(2015, 1, 1, tzinfo=UTC)
    assert firmware.next_deadline() == due.total_seconds()


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (DeviceKind.ESME, "ECS52"),
        (DeviceKind.GSME, "GCS38"),
        (DeviceKind.PPMID, "CS08"),
    ],
)
def test_the_dccs_reads_are_answered_as_the_dcc_answers_them(kind, case, shared_data):
    """The response is the one of RTDS, but for its MAC."""
    firmware = Firmware(config(kind, eui64=EUI64[case]), FirmwareFlash(0x0123ABCD))
    firmware.receive(rtds(shared_data, f"{case}_11.2_SUCCESS_COMMAND"), 0.0)
    expected = bare(rtds(shared_data, f"{case}_11.2_SUCCESS_RESPONSE"))
    assert firmware.messages_to_send() == [build_message(expected)]


def test_the_receipt_is_the_dccs_but_for_the_hash(shared_data):
    """RTDS has the hash 01 01 01 ..., which no image has."""
    sample = bare(rtds(shared_data, "FDRA-DLMS_NA_8F72_ALERT"))
    firmware = rtds_esme(None, counter=1999)
    firmware.stored(file(), 0.0)
    payload = replace(parse_payload(sample), image_hash=HASH)
    assert firmware.messages_to_send() == [build_message(replace(sample, content=build_payload(payload)))]


def test_the_dccs_images_are_for_the_devices_that_they_name(shared_data):
    """SR11.1's for an ESME of image type 0, SR11.4's for a PPMID of 0x0084; one bit off, and the signature is bad."""
    folder, version = shared_data / "dcc-samples", 0xACDCACDC
    esme = device(image_type=0, supplier=supplier_of(shared_data))
    for_esme, for_ppmid = (
        (folder / "sr11_1-esme.ota").read_bytes(),
        (folder / "sr11_4-ppmid.ota").read_bytes(),
    )
    assert esme.examine(for_esme, version) is None
    esme.stored(for_esme, 0.0)
    known = "7542f475e3f12eae887d81e32c46d313741d67076b13caec2f82e00ba5e1bb36"
    assert esme.flash.held == HeldImage(version, bytes.fromhex(known), 361)
    spoilt = bytearray(for_esme)
    spoilt[100] ^= 1
    assert esme.examine(bytes(spoilt), version) == "its signature is not the supplier's"
    ppmid = device(DeviceKind.PPMID)
    assert ppmid.examine(for_ppmid, version) is None
    assert "image type" in ppmid.examine(for_esme, version)
    assert esme.examine(for_ppmid, version) is not None


def test_a_cs06_of_the_dcc_with_another_signer_is_refused(shared_data):
    """The same octets, and a device that knows another supplier."""
    octets = rtds(shared_data, "CS06_11.3_IMMEDIATE_SUCCESS_COMMAND")
    assert parse_message(octets).message_code == CS06
    assert "signature" in refusal(device().receive(octets, 0.0))
