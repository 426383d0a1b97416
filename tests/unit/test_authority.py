"""The files of the test CA and of certificates: what is written, what is read, and what a wrong file is told."""

from __future__ import annotations

import json
import random
import stat

import pytest
from click.testing import CliRunner

from harness.cli.ca import ca
from harness.errors import RigError
from harness.rig.authority import (
    describe,
    load_authority,
    load_credentials,
    make_authority,
    save_authority,
    save_credentials,
)
from harness.wire.certificates import SUITE_1, SUITE_2, USAGE_SIGNATURE, issue
from harness.wire.curves import SECT283K1, Point
from tests.unit.key_partners import HUB, ISSUER, PPMID, VECTORS, published

AUTHORITY = make_authority(random.Random(1).randbytes, ISSUER)
DEVICE = AUTHORITY.issue(PPMID, random.Random(2).randbytes)
PRIVATE = [f"{own.private_key:0{2 * own.curve.octets}X}" for own in DEVICE]


@pytest.fixture
def authority_file(tmp_path):
    """Return the file of the test CA."""
    path = tmp_path / "ca.json"
    save_authority(AUTHORITY, path)
    return path


@pytest.fixture
def device_file(tmp_path):
    """Return the file of a device's credentials."""
    path = tmp_path / "ppmid.json"
    save_credentials(DEVICE, path)
    return path


def change(path, *keys, value):
    """Change one value of a file; None takes it away."""
    content = json.loads(path.read_text())
    part = content
    for key in keys[:-1]:
        part = part[key]
    if value is None:
        del part[keys[-1]]
    else:
        part[keys[-1]] = value(part[keys[-1]]) if callable(value) else value
    path.write_text(json.dumps(content, indent=2))


def test_a_ca_and_its_certificates_survive_their_files(authority_file, device_file):
    """Both suites, in order; the same random octets make the same CA."""
    assert load_authority(authority_file) == AUTHORITY
    assert load_credentials(device_file) == load_credentials(device_file, PPMID, ISSUER) == DEVICE
    assert [own.suite for own in DEVICE] == [SUITE_1, SUITE_2]
    assert make_authority(random.Random(1).randbytes, ISSUER) == AUTHORITY


def test_keys_are_for_their_owner_and_say_what_they_are(authority_file, device_file):
    """Mode 0600, and TEST in the text of both files."""
    for path in (authority_file, device_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert "TEST KEYS" in path.read_text()


def test_keys_are_never_overwritten(authority_file, device_file, tmp_path):
    """A file that is there stays as it is; a folder that is not there is named."""
    before = authority_file.read_bytes()
    with pytest.raises(RigError, match=r"ca\.json: is there already"):
        save_authority(AUTHORITY, authority_file)
    with pytest.raises(RigError, match="is there already"):
        save_credentials(DEVICE, device_file)
    assert authority_file.read_bytes() == before
    with pytest.raises(RigError, match="cannot be written"):
        save_authority(AUTHORITY, tmp_path / "nowhere" / "ca.json")


def test_no_private_key_is_shown(authority_file, device_file):
    """Neither by describe, nor by repr, of a CA or of a device."""
    shown = describe(authority_file) + describe(device_file) + repr(AUTHORITY) + repr(DEVICE)
    keys = PRIVATE + [f"{entry.private_key:X}" for entry in AUTHORITY.suites.values()]
    for key in keys:
        assert key not in shown.upper()
    for own in (*DEVICE, *AUTHORITY.suites.values()):
        assert str(own.private_key) not in shown
    assert "device 00-0D-6F-00-0B-7A-11-02" in shown
    assert "key usage 0x88" in shown


def test_a_file_of_a_lab_is_read_like_our_own(tmp_path):
    """The standard's own credentials, written by hand as YAML, with the separators that people use."""
    path = tmp_path / "lab.yaml"
    entry = VECTORS["2"]["initiator"]
    key = "-".join(entry["private_key"][at : at + 2] for at in range(0, 72, 2))
    path.write_text(
        "schema: harness.credentials/1\nsuites:\n  suite_2:\n"
        f'    certificate: "{entry["certificate"].lower()}"\n    private_key: "{key}"\n'
        f'    ca_public_key: "{VECTORS["2"]["ca_public_key"]}"\n'
    )
    assert load_credentials(path) == (published(SUITE_2, "initiator"),)


NO_POINT = b"\x02" + next(
    x.to_bytes(36, "big")
    for x in range(2, 100)
    if SECT283K1.field.trace(x ^ SECT283K1.field.square(SECT283K1.field.inverse(x)))
)
GENERATOR = SECT283K1.compress(SECT283K1.generator).hex()
NOT_OF_SUBGROUP = SECT283K1.compress(SECT283K1.add(SECT283K1.generator, Point(0, 1)))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("certificate", lambda text: text[:-2], "a certificate of suite 2 has 74 octets, not 73"),
        ("certificate", lambda text: text[:18] + "0C" + text[20:], "certificate of curve 0x0c"),
        ("certificate", lambda text: text[:72] + "80" + text[74:], "key usage 0x80 is not for key agreement"),
        ("certificate", lambda text: text[:74] + NO_POINT.hex(), "no point of sect283k1"),
        ("certificate", lambda text: text[:74] + "00" * 37, "the point at infinity is no public key"),
        ("certificate", lambda text: text[:74] + NOT_OF_SUBGROUP.hex(), "subgroup of prime order"),
        ("certificate", lambda text: text[:36] + "77" + text[38:], "does not belong to the private key"),
        ("certificate", "not hexadecimal", "must be pairs of hexadecimal digits"),
        ("certificate", 12, "must be hexadecimal digits in quotes"),
        ("private_key", lambda text: text[:-2], "a private key of sect283k1 has 36 octets, not 35"),
        ("private_key", "00" * 36, "between 1 and the order less 1"),
        ("private_key", "FF" * 36, "between 1 and the order less 1"),
        ("private_key", lambda text: text[:-1] + "xy", "must be pairs of hexadecimal digits"),
        ("ca_public_key", lambda text: "04" + text[2:], "begins with 02 or 03, not 04"),
        ("ca_public_key", None, "is missing"),
    ],
)
def test_a_wrong_credentials_file_is_told_what_is_wrong(device_file, key, value, message):
    """One sentence with file, line and key, and nothing of the private key in it."""
    change(device_file, "suites", "suite_2", key, value=value)
    with pytest.raises(RigError, match=message) as mistake:
        load_credentials(device_file)
    sentence = str(mistake.value)
    assert sentence.count("\n") == 0
    assert sentence.startswith(f"{device_file}:")
    assert "suites.suite_2" in sentence
    assert PRIVATE[1][:12] not in sentence.upper()


def test_the_device_and_issuer_asked_for_are_checked(device_file):
    """Somebody else's certificate, one of another CA, and a file with two devices in it."""
    with pytest.raises(RigError, match="is that of 00-0D-6F-00-0B-7A-11-02, not of 00-0D-6F-00-0A-90-69-E7"):
        load_credentials(device_file, HUB)
    with pytest.raises(
        RigError, match="is issued by 48-54-45-53-54-43-41-01, not by 48-54-45-53-54-43-41-02"
    ):
        load_credentials(device_file, PPMID, ISSUER + 1)
    other = AUTHORITY.issue(HUB, random.Random(3).randbytes)[1]
    path = device_file.with_name("mixed.json")
    save_credentials((DEVICE[0], other), path)
    with pytest.raises(RigError, match=r"suite_2\.certificate: is that of 00-0D-6F-00-0A-90-69-E7"):
        load_credentials(path)


def test_a_wrong_usage_is_refused_when_it_is_loaded(tmp_path):
    """A certificate for signatures alone, and right otherwise, establishes no keys."""
    path = tmp_path / "signer.json"
    own = issue(AUTHORITY.suites[SUITE_2], HUB, random.Random(5).randbytes, usage=USAGE_SIGNATURE)
    save_credentials([own], path)
    with pytest.raises(RigError, match="key usage 0x80 is not for key agreement"):
        load_credentials(path)


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (
            ("suites", "suite_2", "public_key"),
            SECT283K1.compress(SECT283K1.generator).hex(),
            "is not that of the private",
        ),
        (("suites", "suite_1", "private_key"), lambda text: text + "00", "has 21 octets, not 22"),
        (("suites", "suite_1", "public_key"), "00" * 22, "the point at infinity"),
        (("suites", "suite_1"), None, None),
        (("suites",), {}, "at least 1"),
        (("issuer",), "12", "must be an EUI-64"),
        (("schema",), "harness.ca/9", "must be 'harness.ca/1'"),
        (("suites",), {"suite_3": {}}, "suite_3"),
    ],
    ids=["pair", "length", "infinity", "one-suite", "none", "issuer", "schema", "suite"],
)
def test_a_wrong_ca_file_is_told_what_is_wrong(authority_file, keys, value, message):
    """One sentence; and a CA of one suite is none the worse."""
    change(authority_file, *keys, value=value)
    if message is None:
        assert list(load_authority(authority_file).suites) == [SUITE_2]
        return
    with pytest.raises(RigError, match=message) as mistake:
        load_authority(authority_file)
    for entry in AUTHORITY.suites.values():
        assert f"{entry.private_key:X}"[:12] not in str(mistake.value).upper()


@pytest.mark.parametrize("text", ["", "[1, 2]", "schema: harness.rig/1", "{", "\0"])
def test_what_is_no_such_file_is_refused(tmp_path, text):
    """Also an empty one, a list, a rig file, and what is not YAML at all."""
    path = tmp_path / "file.json"
    path.write_text(text)
    for load in (load_authority, load_credentials, describe):
        with pytest.raises(RigError, match=r"file\.json"):
            load(path)


def test_what_is_neither_a_ca_nor_a_device_is_said_once(tmp_path):
    """`harness ca show` on a rig file: one sentence, with both kinds of file that it reads."""
    path = tmp_path / "rig.yaml"
    path.write_text("schema: harness.rig/1\nname: bench\n")
    with pytest.raises(RigError) as mistake:
        describe(path)
    assert str(mistake.value) == (
        f"{path}:1: schema: must be harness.ca/1 or harness.credentials/1, not 'harness.rig/1'"
    )


# --- the command ------------------------------------------------------------------------------------------------------


def command(*arguments):
    """Run `harness ca` and return its result."""
    return CliRunner().invoke(ca, [str(argument) for argument in arguments])


def test_the_command_makes_a_ca_and_issues_a_certificate(tmp_path):
    """new, issue, show: the device's file is the CA's, and nothing that is printed is a private key."""
    ca_file, out = tmp_path / "ca.json", tmp_path / "hub.json"
    results = [
        command("new", ca_file, "--issuer", "48-54-45-53-54-43-41-01"),
        command("issue", ca_file, "00-0D-6F-00-0A-90-69-E7", "--out", out),
        command("show", ca_file),
        command("show", out),
    ]
    assert [result.exit_code for result in results] == [0, 0, 0, 0], results[0].output
    assert "test CA 48-54-45-53-54-43-41-01" in results[2].output
    assert "device 00-0D-6F-00-0A-90-69-E7" in results[3].output
    loaded = load_credentials(out, HUB, ISSUER)
    printed = "".join(result.output for result in results).upper()
    for own in (*loaded, *load_authority(ca_file).suites.values()):
        assert f"{own.private_key:X}" not in printed


def test_two_commands_make_two_cas(tmp_path):
    """The keys are of the system's randomness, under the harness' own issuer."""
    for name in ("one.json", "two.json"):
        assert command("new", tmp_path / name).exit_code == 0
    one, two = (load_authority(tmp_path / name) for name in ("one.json", "two.json"))
    assert one.issuer == two.issuer == int.from_bytes(b"HANTEST1", "big")
    assert one.suites[SUITE_2].private_key != two.suites[SUITE_2].private_key


def test_the_command_refuses_what_is_no_eui64(tmp_path, authority_file):
    """A usage error that says so; a file that is missing is the bench's fault."""
    result = command("issue", authority_file, "00-0D", "--out", tmp_path / "x.json")
    assert result.exit_code == 2
    assert "EUI64" in result.output
    assert isinstance(command("show", tmp_path / "nothing.json").exception, RigError)
