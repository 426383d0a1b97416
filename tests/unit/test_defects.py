"""Tests of the conformance tests: a member with a deliberate fault fails where the fault is, and nowhere else."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

# pytester forgets what a run inside this process was the first to import; bellows and zigpy shall not be loaded twice.
import harness.evidence.report
import harness.rig.open  # noqa: F401
from harness.errors import RigError
from harness.members.defects import DEFECTS
from harness.members.firmware import Firmware
from harness.members.image_store_values import Verdict
from harness.members.kinds import DeviceKind
from harness.members.ppmid import Ihd
from harness.rig.behaviours import device_of, hub_of
from harness.rig.schema import load_rig
from tests.unit.served import REPOSITORY, STANDING_RIG

pytest_plugins = ["pytester"]

CONFORMANCE = REPOSITORY / "tests" / "conformance"
HUB_RIG = REPOSITORY / "rigs" / "emulated-hub.yaml"
OPTION_B_RIG = REPOSITORY / "rigs" / "emulated-option-b.yaml"


@dataclass(frozen=True)
class Suite:
    """The tests that a member is judged by here, and the rig: those of its members that the tests need."""

    rig: Path
    members: tuple[str, ...]
    tests: tuple[str, ...]


# For each requirement that a defect breaks the shortest test, and others to be left alone by it: whole, the suites take
# minutes.
_AWAKE = (
    "device/test_joining.py::test_smart_energy_traffic_without_a_key_is_not_acted_on[{}]",
    "device/test_transfer.py::test_a_notified_device_asks_for_its_image[{}]",
    "device/test_transfer.py::test_a_device_that_is_told_to_wait_waits[{}]",
)
_COMMANDED = (
    "device/test_activation.py::test_an_image_is_stored_and_runs_after_sr11_3_only[{}]",
    "device/test_activation.py::test_an_image_that_the_supplier_did_not_sign_is_discarded[{}-stranger]",
    "device/test_activation.py::test_sr11_3_without_an_image_changes_nothing[{}]",
    "device/test_activation.py::test_sr11_3_with_another_hash_changes_nothing[{}]",
    "device/test_activation.py::test_a_future_dated_sr11_3_acts_at_its_time[{}]",
    "device/test_activation.py::test_a_future_dated_sr11_3_that_fails_is_alerted[{}]",
    "device/test_activation.py::test_a_future_dated_sr11_3_can_be_cancelled[{}]",
    "device/test_activation.py::test_a_power_cut_while_the_new_image_starts_bricks_nothing[{}]",
)
_OVERWRITING = "hub/test_overwriting.py::test_what_becomes_of_a_waiting_image"
SUITES = {
    "ppmid": Suite(
        STANDING_RIG,
        ("hub", "ppmid"),
        (
            *_AWAKE,
            "ppmid/test_firmware.py::test_a_ppmid_says_which_version_it_activated",
            "ppmid/test_firmware.py::test_a_ppmid_says_that_it_could_not_activate",
            "ppmid/test_firmware.py::test_a_power_cut_in_mid_transfer_costs_time_and_nothing_else[at 50%]",
            "ppmid/test_firmware.py::test_a_ppmid_whose_image_is_taken_away_keeps_running_and_takes_the_next_one",
        ),
    ),
    "esme": Suite(STANDING_RIG, ("hub", "esme"), (*_AWAKE, *_COMMANDED)),
    "hcalcs": Suite(STANDING_RIG, ("hub", "hcalcs"), (*_AWAKE, *_COMMANDED)),
    "gsme": Suite(
        STANDING_RIG,
        ("hub", "gsme"),
        (
            *_COMMANDED,
            "meter/test_gsme.py::test_a_gsme_learns_of_its_image_at_its_wake_up",
            "meter/test_gsme.py::test_a_gsme_asks_for_no_image_while_its_flag_is_not_set",
        ),
    ),
    "bridge": Suite(
        OPTION_B_RIG,
        ("hub", "b1", "b2"),
        (
            "bridge/test_images.py::test_a_fed_bridge_does_not_run_the_image_of_another_type",
            "bridge/test_option_b.py",
        ),
    ),
    "hub": Suite(
        HUB_RIG,
        ("hub", "ppmid", "esme", "gsme", "hcalcs", "b1"),
        (
            f"{_OVERWRITING}[GSME over B1, part transferred]",
            f"{_OVERWRITING}[GSME over PPMID, part transferred]",
            f"{_OVERWRITING}[HCALCS over PPMID, part transferred]",
            f"{_OVERWRITING}[PPMID over HCALCS, queued]",
            "hub/test_images.py::test_a_transfer_that_succeeds_is_told[ppmid]",
            "hub/test_images.py::test_an_image_that_is_overwritten_is_told_discarded",
            "hub/test_images.py::test_a_transfer_that_the_device_ends_is_told_failed",
            "hub/test_images.py::test_hardware_that_the_hub_knows_when_the_image_comes[below the range]",
            "hub/test_images.py::test_hardware_that_the_hub_knows_when_the_image_comes[at its lower end]",
            "hub/test_images.py::test_delivered_to_the_hub_to_the_device_and_activated_are_three",
            "hub/test_images.py::test_the_flag_for_a_gsme_is_set_while_its_image_waits",
            "hub/test_ota_server.py::test_an_image_is_for_its_target_alone",
        ),
    ),
    "hub's log": Suite(
        HUB_RIG,
        ("hub", "ppmid", "esme", "b1", "b2"),
        (
            "hub/test_joining.py::test_nothing_joins_after_its_period",
            "hub/test_joining.py::test_a_wrong_install_code_does_not_join",
            "hub/test_joining.py::test_a_duplicate_entry_is_a_success_and_changes_no_key",
            "hub/test_joining.py::test_the_bridge_past_the_limit_is_refused",
            "hub/test_joining.py::test_the_device_log_has_room_for_so_many_of_a_kind[gsme-1]",
        ),
    ),
}
# The members to judge; the others are named as their suites.
MEMBER = {"bridge": "b1", "hub's log": "hub"}
# The suite for a defect, where it is not that of its first role.
TRIED_ON = {
    "takes_any_signature": "gsme",
    "takes_any_hash": "hcalcs",
    "lets_join_at_any_time": "hub's log",
    "has_no_limits": "hub's log",
    "obeys_without_a_link_key": "hcalcs",
    "runs_half_an_image_after_a_power_cut": "ppmid",
}

Certify = Callable[..., dict[str, list[str]]]


@pytest.fixture
def certify(pytester: pytest.Pytester) -> Certify:
    """Return a function that judges a member by its suite, and returns the requirements by verdict."""

    def run(judged: str, *defects: str) -> dict[str, list[str]]:
        suite = SUITES[judged]
        content = yaml.safe_load(suite.rig.read_text())
        content["members"] = {name: content["members"][name] for name in suite.members}
        content["members"][MEMBER.get(judged, judged)]["defects"] = list(defects)
        rig = pytester.path / "rig.yaml"
        rig.write_text(yaml.safe_dump(content, sort_keys=False))
        pytester.runpytest_inprocess(
            *("-c", REPOSITORY / "pyproject.toml", "-p", "no:cacheprovider", "-p", "no:xdist", "-q"),
            *("--rig", rig, "--certify", "--evidence", "evidence"),
            *(f"{CONFORMANCE}/{test.format(judged)}" for test in suite.tests),
        )
        results = json.loads((pytester.path / "evidence" / "results.json").read_text())
        verdicts: dict[str, list[str]] = {}
        for requirement in results["requirements"]:
            verdicts.setdefault(requirement["verdict"], []).append(requirement["id"])
        return verdicts

    return run


@pytest.mark.parametrize("name", DEFECTS)
def test_a_defect_fails_the_requirements_that_it_names_and_no_others(certify, name):
    """DESIGN.md section 6: each defect breaks one requirement, and the suite fails exactly there."""
    defect = DEFECTS[name]
    verdicts = certify(TRIED_ON.get(name, defect.roles[0]), name)
    assert "ERROR" not in verdicts
    assert sorted(verdicts["FAIL"]) == sorted(defect.requirements)


@pytest.mark.parametrize("judged", SUITES)
def test_without_a_defect_nothing_fails(certify, judged):
    """What a defect makes fail is the defect's: the same tests on the same rig pass without it."""
    verdicts = certify(judged)
    assert not verdicts.keys() & {"FAIL", "ERROR"}


# --- the rig file, and the report ------------------------------------------------------------------------------------


def faulty(folder: Path, member: str, *defects: str, rig: Path = STANDING_RIG) -> Path:
    """Write a standing rig with a member that has these defects, and return its path."""
    content = yaml.safe_load(rig.read_text())
    content["members"][member]["defects"] = list(defects)
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


@pytest.mark.parametrize(
    ("member", "defects", "problem"),
    [
        ("esme", ["runs_at_onc"], "no such defect: runs_at_onc; did you mean runs_at_once?"),
        (
            "ppmid",
            ["runs_at_once"],
            "runs_at_once is a defect of esme, gsme, hcalcs, and the role of ppmid is ppmid",
        ),
        ("esme", ["takes_any_hash", "takes_any_hash"], "takes_any_hash is there twice"),
        ("hub", ["has_no_limits"], "are for a member by emulation, not by radio"),
    ],
)
def test_a_rig_file_gives_members_only_defects_that_they_can_have(tmp_path, member, defects, problem):
    """An unknown defect, one of another role, one given twice, and one of a member that is not emulated are refused."""
    with pytest.raises(RigError, match=re.escape(f"members.{member}.defects: {problem}")):
        load_rig(faulty(tmp_path, member, *defects))


@pytest.mark.parametrize("kind", [DeviceKind.ESME, DeviceKind.GSME, DeviceKind.HCALCS, DeviceKind.PPMID])
def test_a_member_may_have_all_defects_of_its_role(tmp_path, kind):
    """Each adds to those before it, in the member and in its firmware core; the other members stay what they are."""
    names = [name for name, defect in DEFECTS.items() if kind in defect.roles]
    file = load_rig(faulty(tmp_path, kind, *names))
    device, other = device_of(file, kind), device_of(file, "ihd")
    assert all(isinstance(device, DEFECTS[name].flaw) for name in names)
    assert type(other) is Ihd
    assert type(other.firmware) is Firmware
    for name in names:
        alone = device_of(load_rig(faulty(tmp_path, kind, name)), kind).firmware
        assert {*type(alone).__bases__} <= {*type(device.firmware).__bases__, object}


def test_a_hub_may_have_all_defects_of_its_role(tmp_path):
    """What each changes in the hub's make is changed, and what another changed before it stays so."""
    names = [name for name, defect in DEFECTS.items() if "hub" in defect.roles]
    hub = hub_of(load_rig(faulty(tmp_path, "hub", *names, rig=HUB_RIG)))
    kept = {pair for pair, verdict in hub.config.store.precedence.items() if verdict is Verdict.REFUSE}
    assert kept >= {("gsme", "bridge"), ("gsme", "ppmid"), ("hcalcs", "ppmid"), ("ppmid", "hcalcs")}
    assert not hub.config.store.checks_hardware
    assert hub.config.limits.gsme > 1


def test_a_report_names_the_defects_of_its_rig(pytester):
    """Nobody takes a run with a faulty member for one that says something of the member."""
    rig = faulty(pytester.path, "ppmid", "says_that_it_activated")
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = function\n")
    pytester.makepyfile(test_lab="def test_it(): pass\n")
    pytester.runpytest_inprocess(
        *("-p", "no:cacheprovider", "-p", "no:xdist", "--rig", rig, "--certify", "--evidence", "evidence")
    )
    said = (
        "ppmid has says_that_it_activated: It says by 0x8F8B that its activation succeeded, though it failed."
    )
    results = json.loads((pytester.path / "evidence" / "results.json").read_text())
    assert results["rig"]["defects"] == [said]
    assert said in (pytester.path / "evidence" / "report.html").read_text()
