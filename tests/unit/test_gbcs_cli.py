"""`harness gbcs show`: fields in words and as JSON, octets built back, and one sentence about a file that is bad."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime

import pytest
from click.testing import CliRunner

from harness.cli.gbcs import gbcs
from harness.wire.gbcs import Cra, GbcsMessage, build_message
from harness.wire.gbcs_payloads import (
    NEVER,
    ActivateFirmware,
    ActivateImageResponse,
    EsmeFirmwareReceipt,
    ExecutionOutcome,
    FirmwareTransfer,
    FutureDatedActivation,
    TransferResponse,
    message_of,
)

SUPPLIER, ESME, PPMID = 0x90B3D51F30010000, 0x00DB1234567890A0, 0x00DB1234567890A4
HASH = bytes(range(32))


@pytest.fixture
def show(tmp_path):
    """A function that runs the command on a file with this text."""

    def run(text, *options):
        path = tmp_path / "message.hex"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return CliRunner().invoke(gbcs, ["show", *options, str(path)])

    return run


def hex_of(payload, **fields):
    """A message with this payload from the ESME, in hex."""
    message = message_of(payload, originator=ESME, recipient=SUPPLIER, originator_counter=1001, **fields)
    return build_message(message).hex()


def test_a_message_is_shown_in_words(show):
    """Names of use case, response and alert codes; parties as printed on the device; no line for what is not there."""
    outcome = ExecutionOutcome(ActivateImageResponse.HASH_MISMATCH, 0x0123ABCF)
    alert = FutureDatedActivation(0x8F67, datetime(2030, 1, 15, 9, tzinfo=UTC), 1001, outcome)
    result = show(hex_of(alert))
    assert result.exit_code == 0
    assert [re.split(" {2,}", line.strip(), maxsplit=1) for line in result.output.splitlines()] == [
        ["use case", "CS06 Future Dated Firmware Activation Alert"],
        ["message code", "0x00CA"],
        ["cra", "alert"],
        ["originator", "00-DB-12-34-56-78-90-A0"],
        ["originator counter", "1001"],
        ["recipient", "90-B3-D5-1F-30-01-00-00"],
        ["payload"],
        ["kind", "FutureDatedActivation"],
        ["alert code", "0x8F67 Future-dated HAN Command Not Successfully Actioned"],
        ["execution time", "2030-01-15 09:00:00 UTC"],
        ["originator counter", "1001"],
        ["outcome"],
        ["response", "hash_mismatch (2)"],
        ["firmware version", "0123ABCF"],
    ]


def test_a_message_is_shown_as_json(show):
    """The same fields, those that it does not have null."""
    time = bytes.fromhex("07DF0101FF000000008000FF")
    shown = json.loads(
        show(hex_of(EsmeFirmwareReceipt(7, 0x8F72, time, HASH), date_time=time), "--json").output
    )
    assert shown["use_case"] == "Firmware Distribution Receipt Alert (ESME)"
    assert shown["date_time"] == "2015-01-01 00:00:00 (07DF0101FF000000008000FF)"
    assert shown["payload"] == {
        "kind": "EsmeFirmwareReceipt",
        "invoke_id": 7,
        "alert_code": "0x8F72 Firmware Verification Successful",
        "time": "2015-01-01 00:00:00 (07DF0101FF000000008000FF)",
        "image_hash": HASH.hex().upper(),
    }
    assert [name for name, value in shown.items() if value is None] == [
        "supplementary_remote_party",
        "supplementary_remote_party_counter",
        "supplementary_originator_counter",
        "supplementary_certificate",
        "signature",
        "mac",
    ]


def test_what_is_special_is_said(show):
    """A cancellation, a target device, a time with wildcards, an opaque payload and supplementary fields."""
    assert "9999-12-31 23:59:59 UTC (cancels)" in show(hex_of(ActivateFirmware(HASH, 1, NEVER))).output
    transfer = FirmwareTransfer(
        0x8F89, datetime(2026, 1, 1, tzinfo=UTC), PPMID, 1, TransferResponse.IMAGE_DISCARDED
    )
    output = show(hex_of(transfer)).output
    assert "00-DB-12-34-56-78-90-A4" in output
    assert "image_discarded (1)" in output
    assert "FFFFFFFFFFFFFFFFFFFFFFFF" in show(hex_of(transfer, date_time=b"\xff" * 12)).output
    other = GbcsMessage(
        Cra.COMMAND, 1, SUPPLIER, ESME, 0x007F, b"\x30\x00", supplementary_remote_party=PPMID,
        supplementary_remote_party_counter=5, supplementary_originator_counter=6,
        supplementary_certificate=b"\x30\x01", signature=bytes(64), mac=bytes(12),
    )  # fmt: skip
    shown = json.loads(show(build_message(other).hex(), "--json").output)
    assert shown["use_case"] == "GCS28"
    assert shown["payload"] == {"kind": "Opaque", "octets": "3000"}
    assert shown["supplementary_remote_party"] == "00-DB-12-34-56-78-90-A4"
    assert shown["supplementary_certificate"] == "3001"
    assert shown["mac"] == "00" * 12


def test_the_octets_are_built_back_from_the_fields(show):
    """Spaces and lines in the file do not matter; the answer is in one line of capitals."""
    text = hex_of(ActivateFirmware(HASH, 1001))
    result = show("\n".join(text[at : at + 8] + "  " for at in range(0, len(text), 8)) + "\n", "--rebuild")
    assert (result.exit_code, result.output) == (0, text.upper() + "\n")


def test_every_sample_is_shown_and_built_back(show, shared_data):
    """The messages of RTDS 4.5.0."""
    for path in sorted((shared_data / "rtds-4.5.0").glob("*.hex")):
        text = path.read_text()
        assert show(text, "--rebuild").output.split() == text.upper().split()
        assert json.loads(show(text, "--json").output)["payload"]["kind"] != "Opaque"
        assert show(text).exit_code == 0


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "without any octet"),
        ("DD0", "3 hexadecimal digits"),
        ("DD 0g", "'g' is no hexadecimal digit"),
        (b"DD\xff", "octet 0xff at 2"),
        ("3000", "begins with 0x30"),
        (hex_of(ActivateFirmware(HASH, 1))[:-2], "cut off"),
        (hex_of(ActivateFirmware(HASH, 1)).replace("0420", "0421"), "not the ASN.1"),
    ],
)
def test_a_bad_file_is_one_sentence(text, sentence, show):
    """Not hex, not whole, no message, cut off, or a payload against its use case: exit code 1, no traceback."""
    result = show(text)
    assert result.exit_code == 1
    assert sentence in result.output
    assert result.output.startswith("Error: ")
    assert result.output.count("\n") == 1


def test_a_missing_file_and_two_answers_at_once_are_refused(show, tmp_path):
    """A file that is not there, and --json with --rebuild."""
    result = CliRunner().invoke(gbcs, ["show", str(tmp_path / "none.hex")])
    assert (result.exit_code, "cannot be read" in result.output) == (1, True)
    result = show("00", "--json", "--rebuild")
    assert (result.exit_code, "exclude one another" in result.output) == (2, True)
