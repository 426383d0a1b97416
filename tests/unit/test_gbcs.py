"""GBCS messages: headers and the payloads of the firmware use cases, without any published sample."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.gbcs import Cra, GbcsMessage, build_message, parse_message
from harness.wire.gbcs_names import USE_CASES, use_case_name
from harness.wire.gbcs_payloads import (
    NEVER,
    ActivateFirmware,
    ActivateImageResponse,
    ActivationResult,
    CommandAccepted,
    EsmeFirmwareReceipt,
    EsmeFirmwareVersion,
    ExecutionOutcome,
    FirmwareActivated,
    FirmwareTransfer,
    FirmwareVersion,
    FutureDatedActivation,
    GsmeFirmwareReceipt,
    GsmeFirmwareVersion,
    Opaque,
    ReadEsmeFirmwareVersion,
    ReadFirmwareVersion,
    ReadGsmeFirmwareVersion,
    ReadResponse,
    TransferResponse,
    build_payload,
    message_of,
    parse_payload,
)
from harness.wire.gbcs_readings import invoke_id

SUPPLIER, ESME = 0x90B3D51F30010000, 0x00DB1234567890A0
HASH = bytes(range(32))


u8, u16, u32, u64 = (st.integers(0, (1 << bits) - 1) for bits in (8, 16, 32, 64))
times = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(
    lambda value: value.replace(microsecond=0, tzinfo=UTC)
)
hash_octets = st.binary(min_size=32, max_size=32)
receipt_codes = st.sampled_from([0x8F72, 0x8F1C])
outcomes = st.builds(ExecutionOutcome, st.sampled_from(ActivateImageResponse), u32)
payloads = st.one_of(
    st.builds(ActivateFirmware, hash_octets, u64, st.none() | times | st.just(NEVER)),
    st.just(CommandAccepted()),
    outcomes,
    st.builds(FutureDatedActivation, st.sampled_from([0x8F66, 0x8F67]), times, u64, outcomes),
    st.builds(
        FirmwareTransfer,
        st.sampled_from([0x8F89, 0x8F8A]),
        times,
        u64,
        u32,
        st.sampled_from(TransferResponse),
    ),
    st.just(ReadFirmwareVersion()),
    st.builds(FirmwareVersion, u32, st.sampled_from(ReadResponse)),
    st.builds(FirmwareActivated, st.just(0x8F8B), times, u32, st.sampled_from(ActivationResult)),
    st.builds(ReadEsmeFirmwareVersion, u32),
    st.builds(EsmeFirmwareVersion, u32, st.none() | u32, u8),
    st.builds(ReadGsmeFirmwareVersion, u8),
    st.builds(GsmeFirmwareVersion, u32, st.just(0), u8),
    st.builds(GsmeFirmwareVersion, st.none(), st.integers(1, 255), u8),
    st.builds(EsmeFirmwareReceipt, u32, receipt_codes, st.binary(min_size=12, max_size=12), hash_octets),
    st.builds(GsmeFirmwareReceipt, receipt_codes, u32, hash_octets),
)
# A counter that begins like a SEQUENCE would read as a certificate.
supplements = st.one_of(
    st.just({}),
    st.fixed_dictionaries({"supplementary_remote_party": u64}),
    st.fixed_dictionaries(
        {"supplementary_remote_party": u64, "supplementary_remote_party_counter": u64},
        optional={
            "supplementary_originator_counter": st.integers(0, (0x30 << 56) - 1),
            "supplementary_certificate": st.binary(max_size=400).map(lambda octets: b"\x30" + octets),
        },
    ),
)
messages = st.builds(
    lambda supplement, **common: GbcsMessage(**common, **supplement),
    supplements,
    cra=st.sampled_from(Cra),
    originator_counter=u64,
    originator=u64,
    recipient=u64,
    message_code=u16,
    content=st.binary(max_size=300),
    date_time=st.sampled_from([b"", bytes(12)]),
    signature=st.sampled_from([b"", bytes(64)]),
    mac=st.none() | st.binary(min_size=12, max_size=12),
)


@settings(max_examples=200)
@given(messages)
def test_a_message_reads_back_as_it_was_built(message):
    """Every field, with and without MAC, signature, date-time and each of the supplementary fields."""
    assert parse_message(build_message(message)) == message


@settings(max_examples=100)
@given(messages, st.data())
def test_a_message_cut_off_anywhere_is_refused(message, data):
    """No message is the beginning of another."""
    octets = build_message(message)
    with pytest.raises(RemoteProtocolError):
        parse_message(octets[: data.draw(st.integers(0, len(octets) - 1))])
    with pytest.raises(RemoteProtocolError):
        parse_message(octets + b"\0")


@settings(max_examples=200)
@given(messages, st.data())
def test_a_flipped_bit_is_refused_or_stays_in_the_octets(message, data):
    """What a damaged message is taken for, if it is, builds back to its octets: the parser guesses nothing."""
    octets = bytearray(build_message(message))
    bit = data.draw(st.integers(0, 8 * len(octets) - 1))
    octets[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(RemoteProtocolError):
        assert build_message(parse_message(bytes(octets))) == octets


@settings(max_examples=200)
@given(st.sampled_from([b"", b"\xdd", b"\xdf\x09", bytes.fromhex("DD000000000000")]), st.binary(max_size=80))
def test_random_octets_are_never_more_than_a_remote_error(head, octets):
    """Hostile octets cause RemoteProtocolError and nothing else."""
    with contextlib.suppress(RemoteProtocolError):
        parse_message(head + octets)


@pytest.mark.parametrize(
    ("octets", "sentence"),
    [
        ("", "without any octet"),
        ("3001", "begins with 0x30"),
        ("E0C0000100", "General Block Transfer"),
        ("DD0901", "Routing Header"),
        ("DD00000000000081081100000000", "not in its shortest form"),
        ("DD000000000000041100", "states 4 octets, 2 follow"),
        ("DF0904", "CRA flag 4"),
        ("DF0803", "length of the transaction id is 08"),
        ("DF0901" + "00" * 8 + "08" + "00" * 8 + "08" + "00" * 8 + "03", "date-time of 3 octets"),
        ("DF0901" + "00" * 8 + "08" + "00" * 8 + "08" + "00" * 8 + "000200120041", "signature of 65 octets"),
    ],
)
def test_what_is_no_message_is_named(octets, sentence):
    """The error says what stands there and what should."""
    with pytest.raises(RemoteProtocolError, match=sentence):
        parse_message(bytes.fromhex(octets))


@pytest.mark.parametrize(
    "change",
    [
        {"originator": 1 << 64},
        {"message_code": -1},
        {"originator_counter": 1 << 64},
        {"date_time": b"2026"},
        {"signature": bytes(63)},
        {"mac": bytes(16)},
        {"supplementary_remote_party_counter": 1},
        {"supplementary_remote_party": 1, "supplementary_originator_counter": 1},
        {
            "supplementary_remote_party": 1,
            "supplementary_remote_party_counter": 1,
            "supplementary_originator_counter": 0x30 << 56,
        },
        {
            "supplementary_remote_party": 1,
            "supplementary_remote_party_counter": 1,
            "supplementary_certificate": b"\x31",
        },
    ],
)
def test_a_field_that_does_not_fit_is_our_own_error(change):
    """build_message names the field in a LocalProtocolError."""
    message = message_of(CommandAccepted(), originator=ESME, recipient=SUPPLIER, originator_counter=1)
    with pytest.raises(LocalProtocolError):
        build_message(replace(message, **change))


# --- payloads --------------------------------------------------------------------------------------------------------


@settings(max_examples=200)
@given(payloads)
def test_a_payload_reads_back_as_it_was_built(payload):
    """Each of the firmware use cases, with every response code."""
    message = message_of(payload, originator=1, recipient=2, originator_counter=3)
    assert parse_payload(message) == payload
    assert type(parse_payload(message)) is type(payload)


@settings(max_examples=200)
@given(payloads, st.data())
def test_a_damaged_payload_is_refused_or_stays_in_the_octets(payload, data):
    """Cut off it is refused; with a flipped bit it is refused, or builds back to exactly what came."""
    message = message_of(payload, originator=1, recipient=2, originator_counter=3)
    content = message.content
    with pytest.raises(RemoteProtocolError):
        parse_payload(replace(message, content=content[: data.draw(st.integers(0, len(content) - 1))]))
    with pytest.raises(RemoteProtocolError):
        parse_payload(replace(message, content=content + b"\0"))
    flipped = bytearray(content)
    bit = data.draw(st.integers(0, 8 * len(content) - 1))
    flipped[bit // 8] ^= 1 << bit % 8
    with contextlib.suppress(RemoteProtocolError):
        assert build_payload(parse_payload(replace(message, content=bytes(flipped)))) == flipped


@settings(max_examples=200)
@given(payloads, st.binary(max_size=60))
def test_random_content_is_never_more_than_a_remote_error(payload, content):
    """Hostile octets behind a good header cause RemoteProtocolError and nothing else."""
    message = message_of(payload, originator=1, recipient=2, originator_counter=3)
    with contextlib.suppress(RemoteProtocolError):
        parse_payload(replace(message, content=content))


def test_another_use_case_is_carried_as_it_is():
    """GCS28 and a CS06 alert that comes under the command's code are opaque; what they carry is kept."""
    for code, cra in ((0x007F, Cra.COMMAND), (0x0012, Cra.ALERT), (0xBEEF, Cra.ALERT)):
        message = GbcsMessage(cra, 1, 2, 3, code, b"anything")
        assert parse_payload(message) == Opaque(b"anything")
        assert build_payload(Opaque(b"anything")) == b"anything"
    with pytest.raises(LocalProtocolError):
        message_of(Opaque(b""), originator=1, recipient=2, originator_counter=3)


def test_an_activation_is_for_now_for_later_or_taken_back():
    """CS06 without a time, with one, and with 99991231235959Z; a local time is written in UTC."""
    now, later = ActivateFirmware(HASH, 7), datetime(2030, 1, 15, 9, 0, tzinfo=UTC)
    assert build_payload(now).hex() == "30250420" + HASH.hex() + "020107"
    assert build_payload(replace(now, execution_time=later)).endswith(b"\x18\x0f20300115090000Z")
    cancel = replace(now, execution_time=NEVER)
    assert build_payload(cancel).endswith(b"\x18\x0f99991231235959Z")
    assert (now.cancels, cancel.cancels) == (False, True)
    summer = later.astimezone(timezone(timedelta(hours=1)))
    assert build_payload(replace(now, execution_time=summer)) == build_payload(
        replace(now, execution_time=later)
    )


def test_a_future_dated_command_is_accepted_with_null():
    """The two responses of CS06: DER NULL, and the outcome with the version that runs."""
    assert build_payload(CommandAccepted()).hex() == "0500"
    outcome = ExecutionOutcome(ActivateImageResponse.HASH_MISMATCH, 0x0123ABCF)
    assert build_payload(outcome).hex() == "300902010204040123abcf"


@pytest.mark.parametrize(
    ("payload", "sentence"),
    [
        (ActivateFirmware(HASH[1:], 1), "image hash of 31 octets"),
        (ActivateFirmware(HASH, 1 << 64), "originator counter"),
        (ActivateFirmware(HASH, 1, datetime(2030, 1, 1)), "time zone"),
        (ExecutionOutcome(ActivateImageResponse.SUCCESS, 1 << 32), "firmware version"),
        (FirmwareTransfer(0x8F8A, NEVER, -1, 1, TransferResponse.SUCCESS), "target"),
        (EsmeFirmwareReceipt(1, 0x8F35, bytes(12), HASH), "alert code 0x8f35"),
        (EsmeFirmwareReceipt(1, 0x8F72, bytes(11), HASH), "time of 11 octets"),
        (GsmeFirmwareReceipt(0x8F72, 1 << 32, HASH), "time"),
        (GsmeFirmwareVersion(1, 0xC0), "status 0xc0 with version 1"),
        (GsmeFirmwareVersion(None), "version None"),
        (ReadGsmeFirmwareVersion(256), "sequence"),
    ],
)
def test_a_payload_that_does_not_fit_is_our_own_error(payload, sentence):
    """build_payload names the field and its value."""
    with pytest.raises(LocalProtocolError, match=sentence):
        build_payload(payload)


@pytest.mark.parametrize(
    ("code", "cra", "content", "sentence"),
    [
        (0x0012, 2, "300902010404040123abcf", "response code 4"),
        (0x0129, 1, "0501", "CS08 command"),
        (
            0x012B,
            3,
            "301f0203008f8a180f32303135303130313030303030305a04041234abcd020100",
            "0x8f8a is not 0x8f8b",
        ),
        (0x0059, 2, "da200003e8000001020401", "DLMS type 0x02"),
        (0x0084, 2, "010901010702000c180001060200410401234567", "frame control 0x18"),
        (0x0084, 1, "01090101070200050000000502", "not 0x0206 alone"),
        (0x00CE, 3, "0f200007d000020312" + "8f35" + "090c" + "00" * 12 + "0920" + "00" * 32, "0x8f35"),
    ],
)
def test_a_payload_against_its_use_case_is_named(code, cra, content, sentence):
    """A response code, an alert code or a type that the use case does not have."""
    message = GbcsMessage(Cra(cra), 1, 2, 3, code, bytes.fromhex(content))
    with pytest.raises(RemoteProtocolError, match=sentence):
        parse_payload(message)


def test_the_invoke_id_is_the_end_of_the_counter():
    """As in RTDS 4.5.0: 0x20, then 24 bits of the originator counter."""
    assert invoke_id(0x1234_5678_9ABC) == 0x2078_9ABC


def test_a_message_code_has_a_name():
    """Firmware use cases with their title, others with their id, unknown ones say so."""
    assert use_case_name(0x0012) == "CS06 Activate Firmware"
    assert use_case_name(0x007F) == USE_CASES[0x007F] == "GCS28"
    assert use_case_name(0x00CF) == "Firmware Distribution Receipt Alert (GSME)"
    assert use_case_name(0xBEEF) == "unknown use case"
