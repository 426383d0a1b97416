"""Tests of rig files and device profiles: what is accepted, and how what is wrong is said."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import textwrap
from pathlib import Path

import jsonschema
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import RigError
from harness.rig.document import nearest, read_document, shown
from harness.rig.profile import (
    PROFILES,
    OtaClientSettings,
    OtaServerSettings,
    profile_folders,
    profile_json_schema,
    read_profile,
)
from harness.rig.schema import load_rig, rig_json_schema
from harness.wire.ota_client_values import OtaClientConfig
from harness.wire.ota_server import LARGEST_BLOCK_SECURED, OtaServerConfig

REPOSITORY = Path(__file__).resolve().parents[2]
STANDING_RIG = REPOSITORY / "rigs" / "emulated-devices.yaml"

# The published test vector of the Zigbee documents, with its CRC.
INSTALL_CODE = "83FED3407A939723A5C639B26916D505C3B5"

RIG = """\
schema: harness.rig/1
name: bench
network: {channel: 11, pan_id: 0x4A11}
members:
  hub:
    by: radio
    profile: hub
    radio: emulated://hub
    eui64: 00-0D-6F-00-0A-90-69-E7
  ppmid:
    by: emulation
    profile: ppmid
    eui64: 00-0D-6F-00-0B-7A-11-02
    install_code: 83FE D340 7A93 9723 A5C6 39B2 6916 D505 C3B5
"""

PPMID = """\
schema: harness.profile/1
role: ppmid
manufacturer_name: Lab
model: One
manufacturer_code: 0x1234
image_type: 1
hardware_version: 2
firmware_version: 3
kind: router
device_id: 0x0502
"""


@pytest.fixture
def written(tmp_path):
    """Return a function that writes a rig file, with parts of the good one replaced, and gives its path."""

    def write(*replacements: tuple[str, str], more: str = "") -> Path:
        text = RIG
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "bench.yaml"
        path.write_text(text + textwrap.dedent(more))
        return path

    return write


def complaint(path: Path) -> str:
    """Return what `load_rig` says of a wrong file, without the folder."""
    with pytest.raises(RigError) as caught:
        load_rig(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def test_the_standing_rig_is_right():
    """The hub is played through an emulated NCP and the PPMID under test takes the DCC's sample image."""
    rig = load_rig(STANDING_RIG)
    assert rig.hub == "hub"
    assert rig.is_emulated
    assert list(rig.members) == [
        "hub", "ppmid", "esme", "gsme", "hcalcs", "b1", "b2", "b3", "b4", "ihd"
    ]  # fmt: skip
    assert rig.members["ppmid"].under_test
    assert rig.members["ppmid"].install_code == bytes.fromhex(INSTALL_CODE)
    ppmid = rig.profiles["ppmid"]
    assert (ppmid.manufacturer_code, ppmid.image_type, ppmid.hardware_version) == (0x121D, 0x0084, 0x1111)
    assert ppmid.firmware_version == 0x0100_0000


def test_defaults_follow_the_hub_and_the_seed(written):
    """The extended PAN id is the hub's EUI-64, as in GB; each seed makes a network key of its own."""
    rig = load_rig(written())
    assert rig.extended_pan_id == 0x000D_6F00_0A90_69E7
    assert rig.network_key == load_rig(written()).network_key
    assert rig.network_key != load_rig(written(more="seed: 7\n")).network_key
    assert len(rig.network_key) == 16
    assert rig.members["hub"].ncp is None


def test_secrets_are_not_in_the_text_of_a_rig(written):
    """Neither the install code nor the network key shows when a rig is printed, as a failing test prints it."""
    path = written(("pan_id: 0x4A11", f"pan_id: 1, network_key: {INSTALL_CODE[:32]}"))
    text = repr(load_rig(path))
    assert "install_code" not in text
    assert "network_key" not in text
    assert load_rig(path).network_key == bytes.fromhex(INSTALL_CODE[:32])


def test_yaml_has_no_surprises(written):
    """Text that YAML 1.1 takes for base-60 numbers, octal numbers, dates or booleans stays text."""
    path = written(("00-0D-6F-00-0A-90-69-E7", "00:12:34:56:11:22:33:44"), ("name: bench", "name: no"))
    rig = load_rig(path)
    assert rig.members["hub"].eui64 == 0x0012_3456_1122_3344
    assert rig.name == "no"


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "    install_code:",
            "    instal_code:",
            "bench.yaml:14: members.ppmid.instal_code: no such key; did you mean install_code?",
        ),
        ("channel: 11", "chanel: 11", "bench.yaml:3: network.chanel: no such key; did you mean channel?"),
        ("channel: 11", "channel: 27", "bench.yaml:3: network.channel: must be less than or equal to 26, not 27"),
        ("channel: 11", 'channel: "11"', "bench.yaml:3: network.channel: must be a whole number, not '11'"),
        ("channel: 11", "channel: true", "bench.yaml:3: network.channel: must be a whole number, not true"),
        ("name: bench\n", "", "bench.yaml:1: name: is missing"),
        ("name: bench", 'name: " "', "bench.yaml:2: name: must say something"),
        ("harness.rig/1", "harness.rig/2", "bench.yaml:1: schema: must be 'harness.rig/1', not 'harness.rig/2'"),
        (
            "by: emulation",
            "by: emulated",
            "bench.yaml:11: members.ppmid.by: must be 'equipment', 'emulation' or 'radio', not 'emulated'; "
            "did you mean emulation?",
        ),
        (
            "profile: ppmid",
            "profile: ppmd",
            "bench.yaml:12: members.ppmid.profile: no device profile 'ppmd'; did you mean ppmid?",
        ),
        (
            "00-0D-6F-00-0B-7A-11-02",
            "00-0D-6F-00-0A-90-69-E7",
            "bench.yaml:13: members.ppmid.eui64: 00-0D-6F-00-0A-90-69-E7 is already that of hub",
        ),
        (
            "00-0D-6F-00-0B-7A-11-02",
            "00-0D-6F",
            "bench.yaml:13: members.ppmid.eui64: must be an EUI-64 such as 00-0D-6F-00-0A-90-69-E7, not '00-0D-6F'",
        ),
        (
            "00-0D-6F-00-0B-7A-11-02",
            "FF-FF-FF-FF-FF-FF-FF-FF",
            "bench.yaml:13: members.ppmid.eui64: FF-FF-FF-FF-FF-FF-FF-FF is no device's EUI-64",
        ),
        (
            "    radio: emulated://hub\n",
            "",
            "bench.yaml:5: members.hub.radio: is missing: the serial port or URL of the NCP",
        ),
        ("emulated://hub", "emulated://", "bench.yaml:8: members.hub.radio: must be emulated://NAME, not 'emulated://'"),
        (
            "emulated://hub",
            "/dev/null",
            "bench.yaml:11: members.ppmid.by: is emulated, but the hub is real: they cannot hear each other",
        ),
        (
            "profile: ppmid",
            "profile: hub",
            "bench.yaml:4: members: a rig has exactly one hub, this one has hub, ppmid",
        ),
        (
            "by: emulation",
            "by: emulation\n    poll_seconds: 7.5",
            "bench.yaml:12: members.ppmid.poll_seconds: is for a sleepy_end_device, and the profile ppmid is none",
        ),
        (
            "by: emulation",
            "by: emulation\n    radio: emulated://other",
            "bench.yaml:12: members.ppmid.radio: is for a member by radio, not by emulation",
        ),
        (
            "by: emulation",
            "by: emulation\n    ncp: {ezsp: 13}",
            "bench.yaml:12: members.ppmid.ncp: is for an emulated:// radio",
        ),
        (
            "by: emulation",
            "by: emulation\n    parent: hbu",
            "bench.yaml:12: members.ppmid.parent: no such member: hbu; did you mean hub?",
        ),
        (
            "by: emulation",
            "by: emulation\n    parent: ppmid",
            "bench.yaml:12: members.ppmid.parent: never comes to the hub: ppmid -> ppmid",
        ),
        ("  ppmid:", "  PPMID:", "bench.yaml:10: members.PPMID: must match pattern '^[a-z][a-z0-9_]*$', not 'PPMID'"),
        ("  ppmid:", "  hub:", "bench.yaml:10: is not YAML: members.hub is already on line 5"),
        ("  ppmid:", "  7:", "bench.yaml:10: is not YAML: the key 7 is not text"),
        ("name: bench", "name: [bench", "bench.yaml:3: is not YAML: expected ',' or ']', but got ':'"),
        ("name: bench", "name: &a [*a]", "bench.yaml:2: is not YAML: an anchor that holds itself"),
        ("name: bench", "name: !!python/object:os.system x", "bench.yaml:2: is not YAML: could not determine a "
         "constructor for the tag 'tag:yaml.org,2002:python/object:os.system'"),
    ],
)  # fmt: skip
def test_each_mistake_is_one_sentence_with_file_line_key_and_value(written, old, new, said):
    """A person who reads the message knows where to look, what is there, and what it should be."""
    assert complaint(written((old, new))) == said


@pytest.mark.parametrize("version", [7, 15, 99])
def test_an_ezsp_version_that_bellows_does_not_speak_is_refused(written, version):
    """EZSP 15 was never published; 8 is the oldest that the project supports."""
    path = written(("radio: emulated://hub", f"radio: emulated://hub\n    ncp: {{ezsp: {version}}}"))
    said = complaint(path)
    assert said.startswith("bench.yaml:9: members.hub.ncp.ezsp: the installed bellows speaks EZSP 8, 9, 10,")
    assert said.endswith(f"not {version}")


@pytest.mark.parametrize(
    ("code", "said"),
    [
        (INSTALL_CODE[:-4] + "C3B6", "Install code of 16 octets: its CRC is C3B5, it ends with C3B6"),
        (
            INSTALL_CODE[:-2],
            "An install code has 6, 8, 12 or 16 octets and a CRC of 2, this one has 17 in all",
        ),
        (INSTALL_CODE[:-1] + "X", "must be pairs of hexadecimal digits"),
        ("123456789012345678901234567890123456", "must be hexadecimal digits in quotes"),
    ],
)
def test_a_bad_install_code_is_refused_without_being_shown(written, code, said):
    """The message says what is wrong with the code; nothing that could open a HAN gets into a log."""
    path = written(("83FE D340 7A93 9723 A5C6 39B2 6916 D505 C3B5", code))
    text = complaint(path)
    assert text == f"bench.yaml:14: members.ppmid.install_code: {said}"
    assert "7A93" not in text


def test_a_key_or_code_in_a_wrong_place_is_not_shown(written):
    """A secret pasted under another key, or under a misspelt one, stays out of the message."""
    assert complaint(written(("00-0D-6F-00-0B-7A-11-02", INSTALL_CODE))).endswith("not 36 hexadecimal digits")
    path = written(("{channel: 11", f"{{netwrok_key: {INSTALL_CODE}, channel: 11"))
    assert complaint(path) == "bench.yaml:3: network.netwrok_key: no such key; did you mean network_key?"
    assert shown(int("9" * 32)) == "a number of 32 digits"


def test_all_mistakes_are_said_at_once_in_the_order_of_the_file(written):
    """One run of the check is enough to put a file right."""
    path = written(("channel: 11", "channel: 9"), ("by: radio", "by: wire"), ("name: bench", "nmae: bench"))
    assert [line.split(": ")[:2] for line in complaint(path).splitlines()] == [
        ["bench.yaml:2", "nmae"],
        ["bench.yaml:3", "network.channel"],
        ["bench.yaml:6", "members.hub.by"],
    ]


def test_links_of_the_air_are_between_members(written):
    """A link names two different members, once; unknown keys are found inside lists too."""
    path = written(
        more="""\
        air:
          loss: 0.01
          links:
            - {between: [hub, ppmid], loss: 0.5, delay_ms: 2}
            - {between: [ppmid, hub], heard: false}
            - {between: [hub, pmid]}
            - {between: [hub, hub]}
        """
    )
    assert complaint(path).splitlines() == [
        "bench.yaml:19: air.links[1].between: the link between hub and ppmid is already given",
        "bench.yaml:20: air.links[2].between: no such member: pmid; did you mean ppmid?",
        "bench.yaml:21: air.links[3].between: hub does not speak to itself",
    ]
    path = written(more="air: {links: [{between: [hub, ppmid], lost: 1.0}]}\n")
    assert complaint(path) == "bench.yaml:15: air.links[0].lost: no such key; did you mean loss?"
    path = written(more="air: {links: [{between: [hub]}]}\n")
    assert complaint(path).startswith("bench.yaml:15: air.links[0].between")


def test_a_rig_of_equipment_has_no_emulated_air(written):
    """On a real bench the air is not set, and a device decides its own version."""
    path = written(
        ("pan_id: 0x4A11", f"pan_id: 1, network_key: {INSTALL_CODE[:32]}"),
        ("emulated://hub", "/dev/serial/by-id/stick"),
        ("by: emulation", "by: equipment\n    firmware_version: 2"),
        more="air: {loss: 0.1}\nauthority: ca.json\n",
    )
    assert complaint(path).splitlines() == [
        "bench.yaml:12: members.ppmid.firmware_version: equipment decides this by itself",
        "bench.yaml:16: air: is for an emulated rig; what the real air does nobody sets",
    ]


def test_a_lab_copies_the_standing_rig_for_its_bench(written):
    """With a serial port, `by: equipment` and a network key of its own the same file is a real rig."""
    changes = [("emulated://hub", "/dev/serial/by-id/stick"), ("by: emulation", "by: equipment")]
    assert complaint(written(*changes)).splitlines() == [
        "bench.yaml:3: network.network_key: is missing: on a real radio a key made from the seed is no secret",
        "bench.yaml:5: members.hub.credentials: is missing: the member is secured, and the rig has no authority "
        "(harness ca new FILE)",
    ]
    changes.append(("pan_id: 0x4A11", f"pan_id: 1, network_key: {INSTALL_CODE[:32]}"))
    rig = load_rig(written(*changes, more="authority: ca.json\n"))
    assert not rig.is_emulated
    assert rig.extended_pan_id == 0x000D6F000A9069E7
    changes.append(("    eui64: 00-0D-6F-00-0A-90-69-E7\n", ""))
    assert complaint(written(*changes, more="authority: ca.json\n")) == (
        "bench.yaml:5: members.hub.eui64: is missing: the certificate of a secured member names it"
    )


def test_the_state_file_is_beside_the_rig(written):
    """A relative path counts from the rig file, and its folder must be there before anything starts."""
    path = written(("radio: emulated://hub", "radio: emulated://hub\n    ncp: {state: stick.json}"))
    rig = load_rig(path)
    assert rig.members["hub"].ncp.state == path.parent / "stick.json"
    path = written(("radio: emulated://hub", "radio: emulated://hub\n    ncp: {state: no/stick.json}"))
    assert (
        complaint(path) == "bench.yaml:9: members.hub.ncp.state: the folder of 'no/stick.json' does not exist"
    )


def test_a_labs_own_profile_beside_the_rig_wins(written):
    """A model is added with one YAML file next to the rig; a mistake in it names that file."""
    path = written()
    folder = path.parent / "device_profiles"
    folder.mkdir()
    (folder / "ppmid.yaml").write_text(PPMID)
    assert load_rig(path).profiles["ppmid"].manufacturer_name == "Lab"
    (folder / "ppmid.yaml").write_text(PPMID + "ota: {blok_size: 3}\n")
    assert complaint(path) == (
        "bench.yaml:12: members.ppmid.profile: device_profiles/ppmid.yaml:11: ota.blok_size: no such key; "
        "did you mean block_size?"
    )


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("role: ppmid", "role: ppmd", "ppmid.yaml:2: role: no such role: 'ppmd'; did you mean ppmid?"),
        ("role: ppmid\n", "", "ppmid.yaml:1: role: is missing; known: hub, ppmid, esme, gsme, hcalcs, bridge, ihd"),
        (
            "image_type: 1",
            "image_type: 0x10000",
            "ppmid.yaml:6: image_type: must be less than or equal to 65535, not 65536",
        ),
        (
            "kind: router",
            "kind: sleepy_end_device",
            "ppmid.yaml:1: poll_seconds: sleepy_end_device has one and no other kind does; kind is sleepy_end_device",
        ),
    ],
)  # fmt: skip
def test_a_wrong_profile_is_said_like_a_wrong_rig(tmp_path, old, new, said):
    """File, line, key, value, and the nearest right one."""
    path = tmp_path / "ppmid.yaml"
    assert old in PPMID
    path.write_text(PPMID.replace(old, new))
    with pytest.raises(RigError) as caught:
        read_profile(path)
    assert str(caught.value) == f"{tmp_path}/{said}"


@pytest.mark.parametrize(
    "path", sorted((REPOSITORY / "device_profiles").glob("*.yaml")), ids=lambda path: path.stem
)
def test_every_profile_of_the_project_is_right(path):
    """Each device profile that comes with the harness reads without complaint."""
    assert read_profile(path).role in PROFILES


@pytest.mark.parametrize(
    ("settings", "config"),
    [
        (OtaClientSettings(), OtaClientConfig(manufacturer=1, image_type=2)),
        (OtaServerSettings(block_size=LARGEST_BLOCK_SECURED), OtaServerConfig()),
    ],
)
def test_the_keys_of_ota_are_those_of_the_state_machines(settings, config):
    """What a profile leaves out is what the client or server does by itself, and what it says goes in as it stands."""
    assert dataclasses.replace(config, **settings.model_dump()) == config


def test_profiles_come_with_the_harness(tmp_path):
    """A rig in any folder finds the profiles of the harness, last."""
    assert (profile_folders(tmp_path)[-1] / "ppmid.yaml").is_file()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\xff\xfe\xfa", "is not UTF-8 text (octet 0)"),
        (b"a: \x07", "is not YAML: special characters are not allowed at character 3"),
        (b"- 1\n--- \n- 2", "is not YAML"),
        (b"just text", "must be a mapping, not 'just text'"),
        (b"a: !!int x", ":1: is not YAML: a value that is no int"),
        (b"a: !!bool x", ":1: is not YAML: a value that is no bool"),
        (b"a: !!timestamp x", ":1: is not YAML: a value that is no timestamp"),
        (b"\na: " + b"9" * 5000, ":2: is not YAML: a value that is no int"),
        (b"a: " + b"[" * 3000, "is not YAML that anybody writes: it is nested too deep"),
    ],
)
def test_a_file_that_is_no_rig_is_one_sentence(tmp_path, content, said):
    """Whatever is in the file, the answer is RigError with the file's name."""
    path = tmp_path / "bench.yaml"
    path.write_bytes(content)
    with pytest.raises(RigError) as caught:
        load_rig(path)
    assert said in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_missing_file_is_one_sentence(tmp_path):
    """A mistyped path names itself."""
    with pytest.raises(RigError, match=r"none\.yaml: cannot be read \(No such file or directory\)"):
        load_rig(tmp_path / "none.yaml")


@given(st.binary(max_size=60) | st.text(alphabet="{}[]&*!|>'\"%@,:?-# ab\n\t", max_size=60).map(str.encode))
def test_any_bytes_are_read_or_refused(tmp_path_factory, data):
    """No content of a file makes the reader fail in another way than with RigError."""
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)
    with contextlib.suppress(RigError):
        assert read_document(path).lines[()] == 1


def test_words_that_resemble_nothing_are_answered_with_what_there_is():
    """A hint that is no help is not given."""
    assert nearest("zzz", ["hub", "ppmid"]) == "; known: hub, ppmid"
    assert nearest("zzz", []) == ""


@pytest.mark.parametrize(("name", "schema"), [("rig", rig_json_schema), ("profile", profile_json_schema)])
def test_the_exported_schemas_are_up_to_date(name, schema):
    """What editors check against is what the harness checks against: `harness rig schema` prints the same."""
    path = REPOSITORY / "schemas" / f"{name}.schema.json"
    assert json.loads(path.read_text()) == schema()


def test_the_exported_schema_takes_the_standing_rig():
    """An editor with the JSON Schema finds nothing wrong with the files of the project."""
    for schema, path in (
        (rig_json_schema(), STANDING_RIG),
        (profile_json_schema(), REPOSITORY / "device_profiles" / "ppmid.yaml"),
        (profile_json_schema(), REPOSITORY / "device_profiles" / "hub.yaml"),
    ):
        jsonschema.validate(yaml.safe_load(path.read_text()), schema)
