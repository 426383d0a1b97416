"""Tests of the `harness` command: what it does, and how it says what is wrong."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import re
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from click.testing import CliRunner, Result

from harness.cli import main
from harness.rig.authority import make_authority, save_credentials
from harness.wire.image import OtaImage, build_image
from tests.unit.served import REPOSITORY, STANDING_RIG
from tests.unit.served import harness as in_a_process

# The devices of the standing rig, in the order of its file.
DEVICES = ("ppmid", "esme", "gsme", "hcalcs", "b1", "b2", "b3", "b4", "ihd")
# What the standing PPMID takes; its profile says so in device_profiles/ppmid.yaml.
IMAGE = OtaImage(
    manufacturer=0x121D,
    image_type=0x0084,
    version=0x0100_0001,
    payload=bytes(range(256)) * 8,
    header_string=b"for a test of the command",
    hardware_min=0x1111,
    hardware_max=0x1111,
)


def harness(*arguments: str | os.PathLike[str]) -> Result:
    """Run the command in this process, and return its exit code and what it wrote where."""
    return CliRunner().invoke(main, [str(argument) for argument in arguments], prog_name="harness")


def refused(result: Result) -> str:
    """Return the one sentence that the command ended in; it must be one, on stderr, with exit code 1."""
    assert result.exit_code == 1, result.output
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.stdout == ""
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1, result.stderr
    return result.stderr.removeprefix("Error: ").rstrip("\n")


@pytest.fixture
def image_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes an image for the standing PPMID, but for what it is given: octets, or fields."""

    def write(content: bytes | None = None, **fields: Any) -> Path:
        path = tmp_path / "image.ota"
        path.write_bytes(build_image(dataclasses.replace(IMAGE, **fields)) if content is None else content)
        return path

    return write


# --- help and rig files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments",
    [[], ["rig"], ["rig", "check"], ["rig", "schema"], ["rig", "commission"], ["push"], ["emulate"]],
)
def test_every_command_has_help(arguments: list[str]) -> None:
    """--help and -h say the same, on stdout, with exit code 0, and every option is explained."""
    long, short = harness(*arguments, "--help"), harness(*arguments, "-h")
    assert (long.exit_code, long.stderr) == (0, "")
    assert long.stdout.startswith(" ".join(["Usage: harness", *arguments]))
    assert long.stdout == short.stdout
    assert not re.search(r"^  --?\S+( [A-Z|:]+)?$\n(?!    )", long.stdout, re.MULTILINE), (
        "an option without help"
    )


def test_rig_check_names_the_members_of_a_good_file() -> None:
    """One line: the file, the rig's name, and its members in the order of the file."""
    result = harness("rig", "check", STANDING_RIG)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{STANDING_RIG}: emulated-devices, 10 members: {', '.join(('hub', *DEVICES))}\n"


def test_rig_check_says_all_that_is_wrong_with_a_file(tmp_path: Path) -> None:
    """One line a problem, each with file, line, key and value; exit code 1."""
    path = tmp_path / "rig.yaml"
    path.write_text(
        STANDING_RIG.read_text().replace("channel: 11", "chanel: 11").replace("seed: 1", "seed: one")
    )
    result = harness("rig", "check", path)
    assert (result.exit_code, result.stdout) == (1, "")
    problems = result.stderr.removeprefix("Error: ").splitlines()
    assert all(re.match(rf"{re.escape(str(path))}:\d+: ", problem) for problem in problems), result.stderr
    assert any("chanel" in problem and "channel" in problem for problem in problems)
    assert any("seed" in problem for problem in problems)


@pytest.mark.parametrize("kind", ["rig", "profile"])
def test_rig_schema_prints_a_json_schema(kind: str) -> None:
    """Editors get a valid schema; the standing files satisfy it."""
    result = harness("rig", "schema", kind)
    assert result.exit_code == 0
    schema = json.loads(result.stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    standing = STANDING_RIG if kind == "rig" else REPOSITORY / "device_profiles" / "ppmid.yaml"
    jsonschema.validate(yaml.safe_load(standing.read_text()), schema)


@pytest.mark.parametrize(
    "command",
    [("rig", "check", "{rig}"), ("push", "--rig", "{rig}", "--to", "ppmid", "{rig}"),
     ("emulate", "{rig}", "--listen", "tcp:127.0.0.1:0")],
)  # fmt: skip
def test_a_rig_file_that_is_not_there_is_one_sentence(command: tuple[str, ...], tmp_path: Path) -> None:
    """Every command that takes a rig file names the one that it cannot read."""
    path = tmp_path / "nowhere.yaml"
    said = refused(harness(*(part.format(rig=path) for part in command)))
    assert said == f"{path}: cannot be read (No such file or directory)"


def test_a_usage_error_is_exit_code_2() -> None:
    """A forgotten or wrong option is told apart from a bench that is wrong."""
    assert harness("push", "image.ota").exit_code == 2
    assert harness("emulate", STANDING_RIG).exit_code == 2
    for within in ("0", "nan", "inf"):
        push = ("push", "--rig", STANDING_RIG, "--to", "ppmid", "--within", within, "image.ota")
        assert harness(*push).exit_code == 2


# --- push -----------------------------------------------------------------------------------------------------------


def test_push_brings_an_image_to_the_member_and_leaves_a_capture_that_tshark_reads(
    image_file: Callable[..., Path], tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """The member runs the new version; DIR holds the capture and its key file, and nothing on the air is unread."""
    evidence = tmp_path / "evidence"
    result = harness("push", "--rig", STANDING_RIG, "--to", "ppmid", "--evidence", evidence, image_file())
    assert result.exit_code == 0, result.output
    assert "ppmid runs 0x01000001" in result.stderr
    capture = check_capture(evidence / "han.pcap", evidence)
    blocks = capture.fields(
        "zbee_zcl_general.ota.file.offset", where="zbee_zcl_general.ota.cmd.srv_tx.id == 0x05"
    )
    size = len(build_image(IMAGE))
    assert {int(offset, 0) for (offset,) in blocks} == set(range(0, size, 56))
    assert (evidence / "zigbee_pc_keys").is_file()


def test_push_brings_the_dccs_own_sample_to_the_standing_ppmid(
    shared_data: Path, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """The SR11.4 sample that the DCC published goes through as it is, and the PPMID runs its version 0xACDCACDC."""
    sample, evidence = shared_data / "dcc-samples" / "sr11_4-ppmid.ota", tmp_path / "evidence"
    result = harness("push", "--rig", STANDING_RIG, "--to", "ppmid", "--evidence", evidence, sample)
    assert result.exit_code == 0, result.output
    assert "ppmid runs 0xacdcacdc" in result.stderr
    check_capture(evidence / "han.pcap", evidence)


def test_a_push_of_the_version_that_runs_already_is_no_push(image_file: Callable[..., Path]) -> None:
    """The device would fetch nothing: another image of the same number must not be taken for running."""
    path = image_file(version=0x0100_0000)
    result = harness("push", "--rig", STANDING_RIG, "--to", "ppmid", path)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.endswith(
        f"Error: {path}: is version 0x01000000, which ppmid runs already: nothing was pushed\n"
    )


def test_push_gives_up_after_the_time_it_was_given(image_file: Callable[..., Path]) -> None:
    """The time is the rig's: an image that cannot be through in 3.6 s leaves a sentence with how far it came."""
    path = image_file(payload=bytes(64 * 1024))
    result = harness("push", "--rig", STANDING_RIG, "--to", "ppmid", "--within", "0.001", path)
    assert result.exit_code == 1
    assert re.search(
        r"^Error: ppmid .* after 3\.6 s, not 0x01000001; it has fetched ", result.stderr, re.MULTILINE
    )


def octets(change: Callable[[bytes], bytes]) -> bytes:
    """Return the standing test image, changed."""
    return change(build_image(IMAGE))


@pytest.mark.parametrize(
    ("content", "fields", "said"),
    [
        (b"", {}, "OTA file is truncated: 0 octets, a header has 56"),
        (octets(lambda image: image[:40]), {}, "OTA file is truncated: 40 octets, a header has 56"),
        (octets(lambda image: image[:-1]), {}, "OTA file is truncated: 2107 of the 2108 octets"),
        (octets(lambda image: image + b"\x00"), {}, "OTA file has 1 trailing octets"),
        (octets(lambda image: b"\xde\xad\xbe\xef" + image[4:]), {}, "not an OTA file: "),
        (octets(lambda image: image[:6] + b"\x08\x00" + image[8:]), {}, "OTA header length 8 is wrong"),
        (
            octets(lambda image: image[:52] + b"\xff\xff\xff\xff" + image[56:]),
            {},
            "OTA file is truncated: 2108 of the 4294967295 octets",
        ),
        (None, {"manufacturer": 0x1234}, "manufacturer code 0x1234 is not ppmid's, which is 0x121d"),
        (None, {"image_type": 0x0001}, "image type 0x0001 is not ppmid's, which is 0x0084"),
        (
            None,
            {"hardware_min": 0x2000, "hardware_max": 0x2FFF},
            "is for hardware 0x2000 to 0x2fff, ppmid is 0x1111",
        ),
    ],
    ids=[
        "empty",
        "header-cut",
        "cut",
        "too-long",
        "magic",
        "header-length",
        "length",
        "maker",
        "type",
        "hardware",
    ],
)
def test_an_image_that_is_no_good_is_refused_before_anything_is_powered(
    content: bytes | None,
    fields: dict[str, int],
    said: str,
    image_file: Callable[..., Path],
    tmp_path: Path,
) -> None:
    """One sentence that begins with the file's name; no evidence folder is begun."""
    path, evidence = image_file(content, **fields), tmp_path / "evidence"
    sentence = refused(harness("push", "--rig", STANDING_RIG, "--to", "ppmid", "--evidence", evidence, path))
    assert sentence.startswith(f"{path}: {said}")
    assert not evidence.exists()


def test_a_missing_image_and_a_folder_for_an_image_are_refused(tmp_path: Path) -> None:
    """The file's name, and why it cannot be read."""
    push = ("push", "--rig", STANDING_RIG, "--to", "ppmid", "--evidence", tmp_path / "evidence")
    missing = tmp_path / "missing.ota"
    assert refused(harness(*push, missing)) == f"{missing}: cannot be read (No such file or directory)"
    assert refused(harness(*push, tmp_path)) == f"{tmp_path}: cannot be read (Is a directory)"
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("member", ["meter", "hub", ""])
def test_a_member_that_takes_no_image_is_refused_with_those_that_do(
    member: str, image_file: Callable[..., Path], tmp_path: Path
) -> None:
    """An unknown name, and the hub, which nobody joins: the sentence names the devices that there are."""
    evidence = tmp_path / "evidence"
    said = refused(
        harness("push", "--rig", STANDING_RIG, "--to", member, "--evidence", evidence, image_file())
    )
    assert said == f"{STANDING_RIG}: no device {member!r}; there are: {', '.join(DEVICES)}"
    assert not evidence.exists()


# --- real radios ----------------------------------------------------------------------------------------------------


REAL_RIG = """\
schema: harness.rig/1
name: bench
network:
  channel: 11
  pan_id: 0x4A11
  network_key: 00112233445566778899AABBCCDDEEFF
members:
  hub:
    by: radio
    profile: hub
    eui64: 00-0D-6F-00-0A-90-69-E7
    radio: {radio}
    credentials: {credentials}
  ppmid:
    by: equipment
    profile: ppmid
    eui64: 00-0D-6F-00-0B-7A-11-02
    install_code: 83FED3407A939723A5C639B26916D505C3B5
"""


@pytest.fixture
def real_rig(tmp_path: Path) -> Callable[[object], Path]:
    """Return a writer of rig files with the hub on a real port, and certificates from a test CA."""

    def write(radio: object) -> Path:
        credentials = make_authority(random.Random(1).randbytes).issue(
            0x000D6F000A9069E7, random.Random(2).randbytes
        )
        save_credentials(credentials, tmp_path / "hub.json")
        path = tmp_path / "rig.yaml"
        path.write_text(REAL_RIG.format(radio=radio, credentials="hub.json"))
        return path

    return write


@pytest.fixture
def dead_port() -> Iterator[str]:
    """Return the path of a serial port on which nobody ever answers."""
    near, far = os.openpty()
    tty.setraw(far)
    yield os.ttyname(far)
    os.close(near)
    os.close(far)


def test_a_radio_that_never_answers_is_one_sentence_in_bounded_time(
    dead_port: str, image_file: Callable[..., Path], real_rig: Callable[[object], Path]
) -> None:
    """Bellows' resets run out within seconds; the sentence names the port, and the process ends with exit code 1."""
    began = time.monotonic()
    done = in_a_process("push", "--rig", real_rig(dead_port), "--to", "ppmid", image_file())
    assert time.monotonic() - began < 45.0
    assert (done.returncode, done.stdout) == (1, "")
    assert re.fullmatch(rf"Error: {dead_port}: no EmberZNet NCP answers there \(.+\)\n", done.stderr), (
        done.stderr
    )


def test_a_radio_that_is_not_there_is_one_sentence(
    image_file: Callable[..., Path], tmp_path: Path, real_rig: Callable[[object], Path]
) -> None:
    """A stick that was pulled out: the port that the rig file names, and why it cannot be opened."""
    rig = real_rig(tmp_path / "no-stick")
    said = refused(harness("push", "--rig", rig, "--to", "ppmid", image_file()))
    assert said.startswith(f"{tmp_path / 'no-stick'}: ")


def test_only_an_emulated_radio_can_be_served(real_rig: Callable[[object], Path]) -> None:
    """A real stick is already where other programs find it."""
    rig = real_rig("/dev/ttyUSB0")
    said = refused(harness("emulate", rig, "--listen", "tcp:127.0.0.1:0"))
    assert said == f"{rig}: members.hub.radio: is not an emulated:// one"


# --- rig commission ---------------------------------------------------------------------------------------------------


def test_commission_leaves_a_state_and_says_who_is_in_it(tmp_path: Path) -> None:
    """The members by name, and those that did not come; the file is its owner's alone, and no key is printed."""
    content = yaml.safe_load(STANDING_RIG.read_text())
    content["members"] = {name: content["members"][name] for name in ("hub", "ppmid", "esme")}
    content["air"] = {"links": [{"between": [one, "ppmid"], "heard": False} for one in ("hub", "esme")]}
    rig, state = tmp_path / "rig.yaml", tmp_path / "state.json"
    rig.write_text(yaml.safe_dump(content, sort_keys=False))
    result = harness("rig", "commission", rig, "--out", state)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{state}: hub, esme; not on the HAN: ppmid\n"
    assert state.stat().st_mode & 0o777 == 0o600
    assert list(json.loads(state.read_text())["members"]) == ["hub", "esme"]


def test_commission_refuses_what_it_cannot_do(tmp_path: Path) -> None:
    """A rig that is not there, and a folder that is not."""
    said = refused(harness("rig", "commission", tmp_path / "none.yaml", "--out", tmp_path / "state.json"))
    assert said == f"{tmp_path / 'none.yaml'}: cannot be read (No such file or directory)"
    nowhere = tmp_path / "nowhere" / "state.json"
    said = refused(harness("rig", "commission", STANDING_RIG, "--out", nowhere))
    assert said == f"{nowhere}: cannot be written (No such file or directory)"
