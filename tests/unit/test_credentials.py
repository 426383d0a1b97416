"""The certificates of a rig's members: from the lab, from its test CA, or from an emulated rig's seed."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import RigError
from harness.rig.authority import make_authority, save_authority, save_credentials
from harness.rig.credentials import credentials_of
from harness.rig.schema import load_rig
from harness.wire.certificates import SUITE_2, check_credentials

REPOSITORY = Path(__file__).resolve().parents[2]
HUB, PPMID = 0x000D6F000A9069E7, 0x000D6F000B7A1102


def write_rig(folder: Path, changes: dict[str, Any], **members: dict[str, Any]) -> Path:
    """Write the standing rig with changes to it and to its members; gives its path."""
    content = yaml.safe_load((REPOSITORY / "rigs" / "emulated-devices.yaml").read_text()) | changes
    for name, values in members.items():
        content["members"][name].update(values)
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def test_an_emulated_rig_has_a_test_ca_of_its_seed(tmp_path: Path) -> None:
    """Its members' certificates are of one issuer, whole, the same in every run, and others for another seed."""
    file = load_rig(write_rig(tmp_path, {}))
    hub, ppmid = credentials_of(file, "hub", HUB), credentials_of(file, "ppmid", PPMID)
    for (own,) in (hub, ppmid):
        assert own.suite == SUITE_2
        check_credentials(own)
    assert hub[0].certificate.issuer == ppmid[0].certificate.issuer
    assert hub[0].ca_public_key == ppmid[0].ca_public_key
    another = load_rig(write_rig(tmp_path, {"seed": 2}))
    assert credentials_of(another, "hub", HUB)[0].ca_public_key != hub[0].ca_public_key


def test_a_ca_file_certifies_each_member_on_first_use(tmp_path: Path) -> None:
    """The first use leaves the member's credentials beside the CA's file; the next one reads the same ones."""
    save_authority(make_authority(random.Random(1).randbytes), tmp_path / "ca.json")
    file = load_rig(write_rig(tmp_path, {"authority": "ca.json"}))
    first = credentials_of(file, "ppmid", PPMID)
    kept = tmp_path / "ca.00-0D-6F-00-0B-7A-11-02.json"
    assert kept.stat().st_mode & 0o077 == 0
    assert credentials_of(file, "ppmid", PPMID) == first


def test_a_lab_brings_its_own_certificates(tmp_path: Path) -> None:
    """A member's own file goes before the CA; one of another device is refused with file and key."""
    authority = make_authority(random.Random(1).randbytes)
    own = authority.issue(PPMID, random.Random(2).randbytes)
    save_credentials(own, tmp_path / "ppmid.json")
    file = load_rig(write_rig(tmp_path, {}, ppmid={"credentials": "ppmid.json"}))
    assert {each.suite: each for each in credentials_of(file, "ppmid", PPMID)} == {
        each.suite: each for each in own
    }
    with pytest.raises(
        RigError, match=r"ppmid\.json:\d+: suites\.suite_\d\.certificate: is that of 00-0D-6F-00-0B-7A-11-02"
    ):
        credentials_of(file, "ppmid", HUB)


def test_a_missing_file_is_one_sentence_with_its_name(tmp_path: Path) -> None:
    """A credentials file, or a CA's, that is not there is named."""
    file = load_rig(write_rig(tmp_path, {"authority": "no-ca.json"}, ppmid={"credentials": "none.json"}))
    with pytest.raises(RigError, match=r"none\.json"):
        credentials_of(file, "ppmid", PPMID)
    with pytest.raises(RigError, match=r"no-ca\.json"):
        credentials_of(file, "hub", HUB)


def test_a_real_secured_rig_without_any_says_what_to_do(tmp_path: Path) -> None:
    """The sentence names the member and the command that makes a CA."""
    content = yaml.safe_load((REPOSITORY / "rigs" / "emulated-devices.yaml").read_text())
    content["members"]["hub"] |= {"radio": "/dev/null"}
    del content["members"]["hub"]["ncp"]
    content["members"] = {name: content["members"][name] for name in ("hub", "ppmid")}
    content["members"]["ppmid"] |= {"by": "equipment"}
    content["network"]["network_key"] = "00112233445566778899AABBCCDDEEFF"
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    with pytest.raises(
        RigError, match=r"rig\.yaml:\d+: members\.hub\.credentials: is missing.*harness ca new"
    ):
        load_rig(path)
