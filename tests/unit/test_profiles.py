"""Tests of what the harness' profiles and rig files know of meters, bridges, stores, consoles and Suppliers."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness.errors import RigError
from harness.members.device_log import DeviceLimits
from harness.members.image_store_values import StorePolicy, Verdict, Victim
from harness.members.kinds import DeviceKind
from harness.rig.profile import ConsoleSettings, LimitSettings, StoreSettings, read_profile
from harness.rig.schema import load_rig
from tests.unit.served import REPOSITORY

HUB = """\
schema: harness.profile/1
role: hub
manufacturer_name: Lab
model: One
device_id: 0x0500
"""
CODE = "83FED3407A939723A5C639B26916D505C3B5"


def profile_of(folder: Path, text: str) -> Path:
    """Write a profile."""
    path = folder / "profile.yaml"
    path.write_text(text)
    return path


def complaint(path: Path) -> str:
    """Return what is said of a wrong profile, without the folder."""
    with pytest.raises(RigError) as caught:
        read_profile(path)
    return str(caught.value).replace(f"{path.parent}/", "")


def rig_of(folder: Path, members: dict[str, dict[str, Any]], **more: Any) -> Path:
    """Write a rig with a hub and these members, a key a line; EUI-64s and install codes are filled in."""
    hub = {"by": "emulation", "profile": "hub", "eui64": "00-0D-6F-00-0A-90-69-E7"}
    content: dict[str, Any] = {
        "schema": "harness.rig/1",
        "name": "bench",
        "network": {"channel": 11, "pan_id": 1},
        "members": {"hub": hub},
    }
    for number, (name, settings) in enumerate(members.items()):
        common = {"by": "emulation", "eui64": f"00-0D-6F-00-0B-7A-11-{number:02X}", "install_code": CODE}
        content["members"][name] = common | settings
    path = folder / "bench.yaml"
    path.write_text(yaml.safe_dump(content | more, sort_keys=False))
    return path


def rig_complaint(path: Path) -> list[str]:
    """Return what is said of a wrong rig, a line each, without the folder and the line's number."""
    with pytest.raises(RigError) as caught:
        load_rig(path)
    lines = str(caught.value).replace(f"{path.parent}/", "").splitlines()
    assert all(line.split(":")[1].isdigit() for line in lines)
    return [line.partition(": ")[2] for line in lines]


@pytest.mark.parametrize(
    ("standing", "more", "said"),
    [
        (None, "stroe: {}", "6: stroe: no such key; did you mean store?"),
        (None, "store: {victims: oldest}", "6: store.victims: no such key; did you mean victim?"),
        (None, "store: {victim: eldest}",
         "6: store.victim: must be 'oldest' or 'newest', not 'eldest'; did you mean oldest?"),
        (None, "store: {groups: [{kinds: [esme], slots: 0}]}",
         "6: store.groups[0].slots: must be greater than or equal to 1, not 0"),
        (None, "store: {groups: [{kinds: []}]}", "6: store.groups[0].kinds: "),
        (None, "store: {groups: [{kinds: [esme]}, {kinds: [esme]}]}",
         "6: store: image store: esme has its slots twice"),
        (None, "store: {groups: [{kinds: [esme, gsme]}]}",
         "6: store: image store: esme and gsme share slots, and no precedence says"),
        (None, "store: {precedence: [{arriving: gsme, waitng: esme, verdict: refuse}]}",
         "6: store.precedence[0].waitng: no such key; did you mean waiting?"),
        (None, "store: {precedence: [{arriving: gsme, waiting: ppmid, verdict: refused}]}",
         "6: store.precedence[0].verdict: must be 'overwrite', 'overwrite_waiting' or 'refuse', not 'refused'"),
        (None, "store: {size_limit: 0}", "6: store.size_limit: must be greater than or equal to 1, not 0"),
        (None, "store: {trailer_kinds: [esmee]}", "6: store.trailer_kinds[0]: must be 'esme', 'gsme', "),
        (None, "limits: {esmes: 4}", "6: limits.esmes: no such key; did you mean esme?"),
        (None, "limits: {type_1: -1}", "6: limits.type_1: must be greater than or equal to 0, not -1"),
        (None, "smets: SMETS3", "6: smets: must be 'SMETS1' or 'SMETS2', not 'SMETS3'"),
        (None, "bands: [900 MHz]", "6: bands[0]: must be '2400 MHz' or '868 MHz', not '900 MHz'"),
        (None, "ppmid_ota: 1", "6: ppmid_ota: must be true or false, not 1"),
        ("gsme", "wake_second: 60", "wake_second: no such key; did you mean wake_seconds?"),
        ("gsme", "wake_seconds: 0", "wake_seconds: must be greater than 0, not 0"),
        ("bridge-b1", "feed_second: 60", "feed_second: no such key; did you mean feed_seconds?"),
        ("bridge-b1", "feed_seconds: -1", "feed_seconds: must be greater than 0, not -1"),
        ("bridge-b1", "bridge: B5", "bridge: must be 'B1', 'B2', 'B3' or 'B4', not 'B5'"),
        ("ppmid-dual", "smets: both", "smets: must be 'SMETS1', 'SMETS2' or 'dual', not 'both'"),
        ("esme", "console: {bauds: 9600}", "console.bauds: no such key; did you mean baud?"),
        ("esme", "console: {baud: 0}", "console.baud: must be greater than or equal to 1200, not 0"),
        ("esme", "console: {version_answer: fw}",
         "console.version_answer: must have {version} once, and no other braces"),
        ("esme", 'console: {version_answer: "fw {version} {x}"}',
         "console.version_answer: must have {version} once, and no other braces"),
        ("esme", 'console: {version_command: "ver\\nreboot"}', "console.version_command: must be one line"),
        ("esme", 'console: {version_command: "ver\\r"}', "console.version_command: must be one line"),
        ("esme", 'console: {version_command: " "}', "console.version_command: must say something"),
        ("esme", 'console: {version_answer: "fw\\n{version}"}', "console.version_answer: must be one line"),
        ("esme", 'console: {version_answer: "fw {version}\\u2028"}', "console.version_answer: must be one line"),
        ("ihd", "image_type: 1", "image_type: no such key"),
    ],
)  # fmt: skip
def test_each_mistake_in_a_profile_is_one_sentence(
    tmp_path: Path, standing: str | None, more: str, said: str
) -> None:
    """File, line, key and value, and the nearest right key for one misspelt."""
    text = HUB if standing is None else (REPOSITORY / "device_profiles" / f"{standing}.yaml").read_text()
    key = more.partition(":")[0]
    kept = [line for line in text.splitlines() if not line.startswith(f"{key}:")]
    path = profile_of(tmp_path, "\n".join([*kept, more]) + "\n")
    found = complaint(path)
    assert "\n" not in found
    assert found.startswith(
        f"profile.yaml:{said}" if standing is None else f"profile.yaml:{len(kept) + 1}: {said}"
    )


def test_defaults_of_a_hub_are_those_of_its_parts() -> None:
    """A key that a profile leaves out is what the core has; there is no second list of defaults, and no key missing."""
    assert StoreSettings().policy() == StorePolicy()
    names = {field.name for field in dataclasses.fields(StorePolicy)}
    assert set(StoreSettings.model_fields) == names
    assert DeviceLimits(**LimitSettings().model_dump()) == DeviceLimits()
    assert set(LimitSettings.model_fields) == {field.name for field in dataclasses.fields(DeviceLimits)}


def test_a_policy_is_what_the_settings_say() -> None:
    """Every key of the store reaches the policy."""
    settings = StoreSettings.model_validate(
        {
            "groups": ({"kinds": ("esme", "gsme"), "slots": 3},),
            "precedence": (
                {"arriving": "esme", "waiting": "esme", "verdict": "refuse"},
                {"arriving": "esme", "waiting": "gsme", "verdict": "overwrite_waiting"},
                {"arriving": "gsme", "waiting": "esme", "verdict": "overwrite"},
            ),
            "victim": "newest",
            "same_target": "refuse",
            "same_target_newer_only": True,
            "force_replace_forces": True,
            "trailer_kinds": ("ppmid",),
            "checks_trailer": True,
            "checks_hardware": False,
            "size_limit": 1000,
            "retention_seconds": 60.0,
            "transfer_attempts": None,
            "expires_during_transfer": True,
            "alerts_refusals": False,
        }
    )
    policy = settings.policy()
    esme, gsme = DeviceKind.ESME, DeviceKind.GSME
    assert [(group.kinds, group.slots) for group in policy.groups] == [((esme, gsme), 3)]
    assert policy.precedence[esme, esme] is Verdict.REFUSE
    assert policy.precedence[esme, gsme] is Verdict.OVERWRITE_WAITING
    assert policy.precedence[gsme, esme] is Verdict.OVERWRITE
    assert policy.precedence[gsme, gsme] is StorePolicy().precedence[gsme, gsme]
    assert (policy.victim, policy.same_target) == (Victim.NEWEST, Verdict.REFUSE)
    assert policy.trailer_kinds == (DeviceKind.PPMID,)
    assert (policy.size_limit, policy.retention_seconds, policy.transfer_attempts) == (1000, 60.0, None)
    flags = (
        policy.same_target_newer_only, policy.force_replace_forces, policy.checks_trailer,
        policy.expires_during_transfer,
    )  # fmt: skip
    assert all(flags)
    assert not policy.checks_hardware
    assert not policy.alerts_refusals


def test_a_dialect_of_one_line_is_taken_as_it_is() -> None:
    """Blanks and signs in it are the device's own affair."""
    settings = ConsoleSettings(version_command="AT+VER?", version_answer="\t+VER: {version};")
    assert (settings.version_command, settings.version_answer) == ("AT+VER?", "\t+VER: {version};")


B = {"profile": "bridge-b1"}, {"profile": "bridge-b2"}, {"profile": "bridge-b3"}


@pytest.mark.parametrize(
    ("members", "said"),
    [
        ({"b1": B[0], "b2": {**B[1], "fed_by": "b3"}},
         ["members.b2.fed_by: no such member: b3; known: hub, b1, b2"]),
        ({"b1": {**B[0], "fed_by": "b1"}}, ["members.b1.fed_by: b1 is no other bridge"]),
        ({"b1": {**B[0], "fed_by": "b2"}, "b2": {**B[1], "fed_by": "b1"}},
         ["members.b1.fed_by: b2 is itself fed by b1: it has nothing to hand on",
          "members.b2.fed_by: b1 is itself fed by b2: it has nothing to hand on"]),
        ({"b1": B[0], "b2": {**B[1], "fed_by": "b1"}, "b3": {**B[2], "fed_by": "b2"}},
         ["members.b3.fed_by: b2 is itself fed by b1: it has nothing to hand on"]),
        ({"esme": {"profile": "esme"}, "b1": {**B[0], "fed_by": "esme"}},
         ["members.b1.fed_by: esme is no other bridge"]),
        ({"b1": {**B[0], "fed_by": "hub"}}, ["members.b1.fed_by: hub is no other bridge"]),
        ({"b1": B[0], "esme": {"profile": "esme", "fed_by": "b1"}},
         ["members.esme.fed_by: is for a bridge, and the role of esme is esme"]),
        ({"b1": B[0], "b2": {**B[1], "fed_by": "b1"}, "b2_too": {**B[1], "fed_by": "b1"}},
         ["members.b2_too.fed_by: b1 has one part of a package for a B2, and that is for b2"]),
        ({"b1_too": {**B[0], "fed_by": "b1"}, "b1": B[0]},
         ["members.b1_too.fed_by: b1 has one part of a package for a B1, and that is for b1"]),
        ({"esme": {"profile": "esme", "console": "/dev/ttyUSB0"}},
         ["members.esme.console: is for a member by equipment, not by emulation"]),
        ({"esme": {"profile": "esme", "consol": "/dev/ttyUSB0"}},
         ["members.esme.consol: no such key; did you mean console?"]),
        ({"b1": {**B[0], "fedby": "b2"}}, ["members.b1.fedby: no such key; did you mean fed_by?"]),
    ],
)  # fmt: skip
def test_each_mistake_about_bridges_and_consoles_is_one_sentence(
    tmp_path: Path, members: dict[str, dict[str, Any]], said: list[str]
) -> None:
    """Who feeds whom, in one step and with one part each; and a console is a port of real equipment."""
    assert rig_complaint(rig_of(tmp_path, members)) == said


def test_two_members_never_share_a_console(tmp_path: Path) -> None:
    """One serial port is one device's."""
    path = rig_of(
        tmp_path,
        {name: {"profile": "esme", "by": "equipment", "console": "/dev/ttyUSB0"} for name in ("one", "two")},
    )
    content = yaml.safe_load(path.read_text()) | {"authority": "ca.json"}
    content["members"]["hub"] |= {"by": "radio", "radio": "/dev/ttyUSB1"}
    content["network"]["network_key"] = "00112233445566778899AABBCCDDEEFF"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    assert rig_complaint(path) == ["members.two.console: /dev/ttyUSB0 is already that of one"]


@pytest.mark.parametrize(
    ("supplier", "said"),
    [
        ({"eui64": "90-B3-D5-1F-30-01-00-00"},
         ["supplier.certificate: is missing", "supplier.private_key: is missing"]),
        ({"eui64": "x", "certificate": "a.pem", "private_key": "b.pem"},
         ["supplier.eui64: must be an EUI-64 such as 00-0D-6F-00-0A-90-69-E7, not 'x'"]),
        ({"eui64": "90-B3-D5-1F-30-01-00-00", "certificate": "a.pem", "privat_key": "b.pem"},
         ["supplier.privat_key: no such key; did you mean private_key?"]),
    ],
)  # fmt: skip
def test_each_mistake_about_the_supplier_is_one_sentence(
    tmp_path: Path, supplier: dict[str, str], said: list[str]
) -> None:
    """Its EUI-64, certificate and key are needed, all three."""
    assert sorted(rig_complaint(rig_of(tmp_path, {}, supplier=supplier))) == sorted(said)
