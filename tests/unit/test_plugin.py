"""Tests of the pytest plugin as a lab uses it: in a project of its own, which configures nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

# pytester forgets what a run inside this process was the first to import; bellows and zigpy shall not be loaded twice.
import harness.evidence.report
import harness.rig.open  # noqa: F401
from tests.unit.served import STANDING_RIG

pytest_plugins = ["pytester"]

CATALOGUE = """
- {id: FW-08, under_test: ppmid, basis: sourced, source: F3, text: "It activates by itself."}
- {id: FW-13, under_test: any, basis: assumed, source: F1.2, text: "Same version, older version."}
"""
JOINS = "async def test_it(ppmid):\n    assert ppmid.joined\n"

Run = Callable[..., pytest.RunResult]


@pytest.fixture
def lab(pytester: pytest.Pytester) -> Run:
    """Return a function that runs pytest on one module, in a folder with a catalogue and nothing else."""
    pytester.path.joinpath("requirements.yaml").write_text(CATALOGUE)
    # pytest-asyncio asks every project to choose one; which one must not matter here.
    pytester.makeini("[pytest]\nasyncio_default_fixture_loop_scope = session\n")

    def run(module: str, *options: str) -> pytest.RunResult:
        pytester.makepyfile(test_lab="import pytest\n" + module)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", "-p", "no:xdist", *options)

    return run


@pytest.fixture
def certify(lab: Run, pytester: pytest.Pytester) -> Callable[..., dict[str, Any]]:
    """Return a function that judges one module on the standing rig, and returns what results.json holds."""

    def run(module: str, *options: str) -> dict[str, Any]:
        lab(module, "--rig", str(STANDING_RIG), "--certify", "--evidence", "evidence", *options)
        results: dict[str, Any] = json.loads((pytester.path / "evidence" / "results.json").read_text())
        return results

    return run


def verdicts(results: dict[str, Any]) -> dict[str, str]:
    """Return the verdict on each test, by the name of its function."""
    return {row["test"].partition("::")[2]: row["verdict"] for row in results["tests"]}


# --- running ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["strict", "auto"])
@pytest.mark.parametrize("scope", ["function", "session"])
def test_an_async_test_on_a_rig_runs_however_its_project_is_configured(lab, mode, scope):
    """Neither the asyncio mode nor the loop scopes of a lab's own project keep its tests from the rig's event loop."""
    module = (
        "class TestIt:\n    @pytest.mark.parametrize('x', [1, 2])\n    async def test_it(self, ppmid, x):\n"
    )
    module += "        assert ppmid.joined and x\n" + JOINS
    result = lab(
        module,
        "--rig",
        str(STANDING_RIG),
        "--asyncio-mode",
        mode,
        "-o",
        f"asyncio_default_test_loop_scope={scope}",
    )
    result.assert_outcomes(passed=3)


def test_a_rig_runs_on_virtual_time(lab):
    """A day of the rig's time passes in a moment, with no marker."""
    result = lab(
        "async def test_it(rig):\n    await rig.sleep(86400)\n    assert rig.now() >= 86400\n",
        "--rig", str(STANDING_RIG),
    )  # fmt: skip
    result.assert_outcomes(passed=1)
    assert result.duration < 60


def test_the_marker_gives_virtual_time_without_a_rig(lab):
    """`virtual_time` is enough: a test that sleeps for a day is over at once."""
    module = (
        "import asyncio\n@pytest.mark.virtual_time\nasync def test_it():\n    await asyncio.sleep(86400)\n"
    )
    result = lab(module)
    result.assert_outcomes(passed=1)
    assert result.duration < 60


def test_an_async_test_that_uses_no_rig_is_its_projects_own_affair(lab):
    """The plugin takes no other async test: trio's, say."""
    result = lab("async def test_it():\n    assert False, 'never run'\n")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*async def functions are not natively supported*"])


def test_without_a_rig_its_tests_are_skipped_and_say_what_they_need(lab):
    """The plugin is inert without --rig."""
    result = lab(JOINS, "-rs")
    result.assert_outcomes(skipped=1)
    result.stdout.fnmatch_lines(["*needs a bench: --rig FILE*"])


def test_a_failure_shows_the_end_of_the_journal(lab):
    """What happened on the rig stands under a failed test."""
    module = "async def test_it(rig):\n    ppmid = await rig.joined('ppmid')\n    assert not ppmid.joined\n"
    result = lab(module, "--rig", str(STANDING_RIG))
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*journal of the rig*", "*hub *DeviceJoined*"])


def test_a_capability_that_no_bench_has_is_misspelt(lab):
    """A test that requires `powr` would be skipped for ever: it ends in an error that knows the right words."""
    result = lab("@pytest.mark.requires('powr')\n" + JOINS, "--rig", str(STANDING_RIG))
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*requires('powr'): no such capability; known: air, power, reset*"])


def test_an_error_inside_the_bench_surfaces_in_the_test_that_caused_it(lab):
    """An emulated member's exception fails a test that passes, and is what is said of one that fails."""
    module = """
async def test_passes(rig):
    rig.note(0.0, "ppmid", ZeroDivisionError("in a member"))

async def test_fails(rig):
    rig.note(0.0, "ppmid", ZeroDivisionError("in a member"))
    assert False, "the device did nothing"
"""
    result = lab(module, "--rig", str(STANDING_RIG))
    result.assert_outcomes(failed=2)
    assert result.outlines.count("E           ZeroDivisionError: in a member") == 2


# --- usage errors -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--certify"], "--certify needs --rig FILE to judge on, and --evidence DIR for its report"),
        (["--rig", "nowhere.yaml"], "nowhere.yaml: cannot be read (No such file or directory)"),
        (
            ["--rig", "{rig}", "-p", "no:asyncio"],
            "--rig needs the plugin pytest-asyncio, which is switched off",
        ),
        (
            ["--rig", "{rig}", "--certify", "--evidence", "used"],
            "--evidence used: holds report.html already; --certify needs a new folder",
        ),
        (
            ["--rig", "{rig}", "--certify", "--evidence", "requirements.yaml"],
            "--evidence requirements.yaml: cannot be used (Not a directory)",
        ),
    ],
)
def test_a_wrong_command_line_is_one_sentence_before_anything_runs(lab, pytester, options, sentence):
    """pytest's usage error, exit code 4, and no test has run."""
    pytester.mkdir("used").joinpath("report.html").write_text("of an earlier run")
    result = lab(JOINS, *(option.format(rig=STANDING_RIG) for option in options))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: {sentence}"]
    assert (pytester.path / "used" / "report.html").read_text() == "of an earlier run"


def test_a_certification_is_refused_where_its_report_would_be_torn_apart(pytester):
    """Under pytest-xdist each process would write a report of its own over the others'."""
    result = pytester.runpytest_inprocess(
        "-n", "2", "--rig", str(STANDING_RIG), "--certify", "--evidence", "evidence"
    )
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == "ERROR: --certify makes one report in one process: run it without -n"


@pytest.mark.parametrize(
    ("catalogue", "sentence"),
    [
        (CATALOGUE, "no requirement 'FW-8' in the catalogue; did you mean FW-08?"),
        (
            None,
            "no requirement 'FW-8' in the catalogue: there is no requirements.yaml beside or above the test",
        ),
        ("[", "requirements.yaml: is not YAML"),
    ],
)
def test_a_wrong_requirement_is_found_before_anything_is_powered(lab, pytester, catalogue, sentence):
    """A misspelt id, or a catalogue that is wrong or missing, ends the run at its collection."""
    path = pytester.path / "requirements.yaml"
    if catalogue is None:
        path.unlink()
    else:
        path.write_text(catalogue)
    module = "@pytest.mark.requirement('FW-8')\n" + JOINS
    result = lab(module, "--rig", str(STANDING_RIG), "--certify", "--evidence", "evidence")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert sentence in result.stderr.str()
    assert not (pytester.path / "evidence").exists()


# --- verdicts ---------------------------------------------------------------------------------------------------------


def test_each_end_of_a_test_has_its_verdict(certify):
    """Only an assertion, and an error that names the device, fail it; whatever else goes wrong is an ERROR."""
    module = """
from harness import LocalProtocolError, RemoteProtocolError, RigError

@pytest.fixture
def broken():
    assert False, "in set-up"

@pytest.fixture
def torn():
    yield
    assert False, "in tear-down"

def test_passes(): pass
def test_asserts(): assert 1 == 2
def test_fails(): pytest.fail("by its own word")
def test_remote(): raise RemoteProtocolError("the device is wrong")
def test_rig(): raise RigError("the bench is wrong")
def test_local(): raise LocalProtocolError("we are wrong")
def test_mistaken(): {}["no such key"]
def test_set_up(broken): pass
def test_tear_down(torn): pass
def test_skipped_and_torn(torn): pytest.skip("no time")
def test_group():
    raise ExceptionGroup("two", [RemoteProtocolError("the device"), RigError("the bench")])
async def test_member(rig):
    rig.note(0.0, "ppmid", AssertionError("in a member"))
@pytest.mark.requirement("FW-13")
def test_assumed(): assert False
@pytest.mark.requirement("FW-08", "FW-13")
def test_both(): assert False
"""
    assert verdicts(certify(module)) == {
        "test_passes": "PASS",
        "test_asserts": "FAIL",
        "test_fails": "FAIL",
        "test_remote": "FAIL",
        "test_rig": "ERROR",
        "test_local": "ERROR",
        "test_mistaken": "ERROR",
        "test_set_up": "ERROR",
        "test_tear_down": "ERROR",
        "test_skipped_and_torn": "ERROR",
        "test_group": "ERROR",
        "test_member": "ERROR",
        "test_assumed": "OBSERVED",
        "test_both": "FAIL",
    }


def test_two_tests_never_share_an_evidence_folder(certify, pytester):
    """Odd parameters and classes of one name's tests each keep their own capture, below the evidence folder."""
    module = """
@pytest.mark.parametrize("text", ["a/b", "a-b", "a::b", "../../up", "x" * 300, "<script>"])
async def test_it(rig, text): pass

class TestA:
    async def test_it(self, rig): pass

class TestB:
    async def test_it(self, rig): pass
"""
    results = certify(module)
    assert set(verdicts(results).values()) == {"PASS"}
    captures = [
        file["path"] for row in results["tests"] for file in row["evidence"] if file["path"].endswith(".pcap")
    ]
    assert len(set(captures)) == len(captures) == 8
    assert all(".." not in path for path in captures)
    found = {
        path.relative_to(pytester.path / "evidence").as_posix() for path in pytester.path.rglob("*.pcap")
    }
    assert found == set(captures)


@pytest.mark.parametrize(
    ("options", "gaps"),
    [
        ([], []),
        (["-k", "one"], ["2 of 3 tests were deselected"]),
        (["-k", "nothing"], ["3 of 3 tests were deselected"]),
        (["-x"], ["the run ended early: 1 of 3 tests did not run"]),
    ],
)
def test_a_report_says_what_it_lacks(certify, pytester, options, gaps):
    """A run of a part, or one that was stopped, is not to be taken for the whole."""
    module = "def test_one(): pass\ndef test_two(): assert False\ndef test_three(): pass\n"
    assert certify(module, *options)["gaps"] == gaps
    page = (pytester.path / "evidence" / "report.html").read_text()
    assert ("The run was not whole" in page) is bool(gaps)


def test_an_interrupted_run_leaves_its_report(lab, pytester):
    """Ctrl-C keeps what was found so far, and says that the rest did not run."""
    pytester.makepyfile(
        test_lab="def test_one(): pass\ndef test_two(): raise KeyboardInterrupt\ndef test_three(): pass\n"
    )
    options = ("--rig", str(STANDING_RIG), "--certify", "--evidence", "evidence")
    assert pytester.runpytest_subprocess(*options).ret == pytest.ExitCode.INTERRUPTED
    results = json.loads((pytester.path / "evidence" / "results.json").read_text())
    assert verdicts(results) == {"test_one": "PASS"}
    assert results["gaps"] == ["the run ended early: 2 of 3 tests did not run"]


def test_collecting_alone_judges_nothing(lab, pytester):
    """--collect-only leaves no report and no folder."""
    lab(JOINS, "--rig", str(STANDING_RIG), "--certify", "--evidence", "evidence", "--collect-only")
    assert not Path(pytester.path, "evidence").exists()


# --- what is under test, and what is observed -------------------------------------------------------------------------


def test_a_test_of_what_the_rig_does_not_judge_is_left_out(lab):
    """`under_test` names the roles; a test for none of those under test on the rig is deselected, not skipped."""
    module = """
@pytest.mark.under_test("hub")
async def test_hub(rig): pass

@pytest.mark.under_test("hub", "ihd")
async def test_either(rig): pass

@pytest.mark.under_test("hub", "esme")
async def test_esme(rig): pass
"""
    lab(module, "--rig", str(STANDING_RIG)).assert_outcomes(passed=1, deselected=2)
    lab(module).assert_outcomes(skipped=3)


@pytest.mark.parametrize(
    ("roles", "sentence"),
    [
        ('"ppmid", "ppmdi"', "under_test: no such role: 'ppmdi'; known: hub,"),
        ("", "under_test: it names no role"),
    ],
)
def test_a_test_of_a_role_that_nobody_has_is_refused(lab, roles, sentence):
    """A misspelt role would have the test left out on every rig."""
    result = lab(f"@pytest.mark.under_test({roles})\ndef test_it(): pass\n", "--rig", str(STANDING_RIG))
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    result.stderr.fnmatch_lines([f"*test_it: {sentence}*"])


def test_a_requirement_is_credited_only_by_what_is_under_test(certify):
    """FW-08 is a PPMID's: a test of an ESME that claims it is listed, and the requirement is not run by it."""
    module = """
@pytest.mark.requirement("FW-08")
@pytest.mark.under_test("esme")
def test_esme(): pass

@pytest.mark.requirement("FW-13")
@pytest.mark.under_test("hub", "esme")
def test_any(): pass
"""
    results = certify(module)
    assert verdicts(results) == {"test_esme": "PASS", "test_any": "PASS"}
    assert {row["id"]: row["verdict"] for row in results["requirements"]} == {
        "FW-08": "NOT RUN",
        "FW-13": "PASS",
    }


def test_what_is_observed_is_no_verdict_on_the_device(certify, pytester):
    """OBSERVED, with the text, in results.json and in the report; a test that fails all the same is failed."""
    module = """
@pytest.mark.requirement("FW-08")
def test_seen(observe):
    observe("it keeps the old image")
    observe("and says nothing")

@pytest.mark.requirement("FW-08")
def test_failed(observe):
    observe("it keeps the old image")
    assert False
"""
    results = certify(module)
    assert verdicts(results) == {"test_seen": "OBSERVED", "test_failed": "FAIL"}
    seen = next(row for row in results["tests"] if row["test"].endswith("test_seen"))
    assert "it keeps the old image; and says nothing" in json.dumps(seen)
    page = (pytester.path / "evidence" / "report.html").read_text()
    assert "it keeps the old image; and says nothing" in page


# --- the commissioned state -------------------------------------------------------------------------------------------


def test_a_test_with_a_member_begins_commissioned_and_one_of_joining_does_not(lab):
    """A member that is asked for by its fixture is there at once, without key establishment; else nobody has joined."""
    module = """
from harness.wire.cbke_values import KeyEstablished

def established(rig):
    return any(isinstance(event, KeyEstablished) for event in rig.journal.since(0, "hub"))

async def test_esme(rig, esme):
    assert esme.joined and esme.keyed and rig.now() < 5 and not established(rig)

async def test_by_name(rig, joined):
    ihd = await joined("ihd")
    assert ihd.joined and rig.now() < 5 and not established(rig)

async def test_bridges(rig, bridges):
    assert sorted(bridges) == ["B1", "B2", "B3", "B4"] and not established(rig)

async def test_joining(rig):
    assert not any(device.joined for device in rig.devices) and not rig.hub.behaviour.log.entries
    await rig.joined("esme")
    assert established(rig)
"""
    lab(module, "--rig", str(STANDING_RIG)).assert_outcomes(passed=4)


def test_a_state_from_a_file_is_what_members_begin_with(lab, pytester):
    """--commissioned takes what `harness rig commission` left, and makes none of its own."""
    from harness.rig.commissioned import Commissioned, commission, save_commissioned
    from harness.rig.schema import load_rig

    state = commission(load_rig(STANDING_RIG))
    # Without the GSME: a state that the run made itself would have it.
    members = {name: kept for name, kept in state.members.items() if name != "gsme"}
    save_commissioned(Commissioned(state.rig, members), pytester.path / "state.json")
    module = "async def test_it(rig, esme):\n    assert 'gsme' not in rig._commissioned.members\n"
    lab(module, "--rig", str(STANDING_RIG), "--commissioned", "state.json").assert_outcomes(passed=1)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "state.json: cannot be read (No such file or directory)"),
        ('{"format": "harness.comm', "state.json: is damaged or cut short: it is no JSON"),
        (
            '{"format": "harness.commissioned/1", "rig": "other", "members": {}}',
            "the commissioned state is of the rig other, not of emulated-devices",
        ),
        (
            '{"format": "harness.commissioned/1", "rig": "emulated-devices", "members": {"aunt": {}}}',
            "the commissioned state has aunt, which emulated-devices has not",
        ),
    ],
)
def test_a_state_that_does_not_serve_is_one_sentence_before_anything_runs(lab, pytester, content, sentence):
    """Missing, cut short, or of another rig: pytest's usage error, and nothing is skipped or run."""
    if content is not None:
        (pytester.path / "state.json").write_text(content)
    result = lab(JOINS, "--rig", str(STANDING_RIG), "--commissioned", "state.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert [line for line in result.errlines if line] == [f"ERROR: {sentence}"]


def test_a_state_needs_its_rig(lab):
    """--commissioned alone would be left unread."""
    result = lab(JOINS, "--commissioned", "state.json")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    assert result.errlines[0] == "ERROR: --commissioned needs --rig FILE: the state is of one rig"


def test_a_damaged_member_of_a_state_is_an_error_that_names_it(lab, pytester):
    """What only shows when the rig is opened fails the test's set-up: no test is skipped for it."""
    content = {"format": "harness.commissioned/1", "rig": "emulated-devices", "members": {"hub": {}}}
    (pytester.path / "state.json").write_text(json.dumps(content))
    result = lab(JOINS, "--rig", str(STANDING_RIG), "--commissioned", "state.json")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(["*RigError: the commissioned state of hub cannot be taken: it has no ncp"])
