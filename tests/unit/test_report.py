"""Tests of the report of a certification run: its verdicts, its files and its honesty."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from harness.errors import LocalProtocolError, RigError
from harness.evidence.catalogue import FITS, MEMBERS, Requirement, find_requirement, load_catalogue
from harness.evidence.report import Bench, Report, Verdict, judge
from harness.rig.profile import PROFILES

REPOSITORY = Path(__file__).resolve().parents[2]

SOURCED = Requirement("FW-08", "ppmid", "sourced", "F3", "A PPMID activates by itself.")
ASSUMED = Requirement("FW-13", "any", "assumed", "F1.2", "Same version, older version.")
UNTESTED = Requirement("JN-01", "any", "sourced", "F7", "A wrong install code does not join.")
CATALOGUE = {requirement.id: requirement for requirement in (SOURCED, ASSUMED, UNTESTED)}


class Tags(HTMLParser):
    """Checks that every element is closed in its turn, and collects ids, links and text."""

    VOID = frozenset({"meta", "br", "link", "img"})

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: dict[str, list[str]] = {}
        self.text: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        for key, value in attrs:
            self.attributes.setdefault(key, []).append(value)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)

    def words(self) -> str:
        """Return the visible text with single spaces."""
        return " ".join(" ".join(self.text).split())


def written(report: Report) -> tuple[dict, Tags]:
    """Write a report and return its results and its page, read back."""
    path = report.write()
    assert sorted(item.name for item in path.parent.iterdir() if item.is_file()) == [
        "report.html",
        "results.json",
    ]
    return json.loads((path.parent / "results.json").read_text()), Tags(path.read_text())


@pytest.mark.parametrize(
    ("outcome", "requirements", "verdict"),
    [
        ("passed", [SOURCED], Verdict.PASS),
        ("passed", [ASSUMED], Verdict.PASS),
        ("failed", [SOURCED], Verdict.FAIL),
        ("failed", [ASSUMED], Verdict.OBSERVED),
        ("failed", [ASSUMED, SOURCED], Verdict.FAIL),
        ("failed", [], Verdict.FAIL),
        ("error", [ASSUMED], Verdict.ERROR),
        ("skipped", [SOURCED], Verdict.SKIPPED),
    ],
)
def test_the_oracle_fails_only_on_what_is_sourced(outcome, requirements, verdict):
    """A device that differs from an assumed requirement is OBSERVED; an error of the bench is no verdict on it."""
    assert judge(outcome, requirements) is verdict


@pytest.mark.parametrize(
    ("outcomes", "verdict"),
    [
        ([], "NOT RUN"),
        (["passed", "passed"], "PASS"),
        (["passed", "skipped"], "SKIPPED"),
        (["passed", "error"], "ERROR"),
        (["error", "failed", "passed"], "FAIL"),
    ],
)
def test_a_requirement_passes_only_when_all_its_tests_passed(tmp_path, outcomes, verdict):
    """The worst of its tests decides; none means that nothing is said about it."""
    report = Report(tmp_path, Bench("bench"), CATALOGUE)
    for number, outcome in enumerate(outcomes):
        report.add(f"test_{number}", outcome, requirements=["FW-08"])
    results, _ = written(report)
    assert {row["id"]: row["verdict"] for row in results["requirements"]}["FW-08"] == verdict


@pytest.mark.parametrize(
    ("under_test", "roles", "credited"),
    [
        ("ppmid", {"ppmid"}, True),
        ("ppmid", {"bridge"}, True),  # a variant of it
        ("bridge", {"ppmid"}, False),
        ("ppmid", {"hub"}, False),  # the PPMID of such a rig is the harness' own
        ("esme", {"hcalcs"}, True),  # SR11.3 activates both
        ("esme", {"ppmid"}, False),
        ("gsme", {"esme"}, False),
        ("smi", {"bridge"}, False),
        ("bridge, smi", {"bridge"}, True),
        ("bridge, smi", {"hub"}, False),
        ("any", {"hub", "ihd"}, True),
        ("any", {"smi"}, False),
        ("any", set(), False),
        ("image", {"smi"}, True),
        ("ppmid", None, True),
    ],
)
def test_a_test_speaks_for_requirements_of_what_it_judges_alone(tmp_path, under_test, roles, credited):
    """What a member does that is not under test is credited to no requirement; the verdict on the test stays."""
    row = replace(ASSUMED, under_test=under_test)
    report = Report(tmp_path, Bench("bench"), {row.id: row})
    report.add("test_it", "failed", requirements=[row.id], roles=roles)
    results, _ = written(report)
    assert results["requirements"][0]["verdict"] == ("OBSERVED" if credited else "NOT RUN")
    assert results["requirements"][0]["tests"] == (["test_it"] if credited else [])
    assert results["tests"][0]["verdict"] == "OBSERVED"


def test_the_catalogue_knows_every_role_of_a_profile():
    """Whatever can be under test on a rig fits a requirement on it, and `any`."""
    assert set(MEMBERS) == set(PROFILES)
    assert set().union(*FITS.values()) == {*PROFILES, "smi"}


def test_a_requirement_with_an_uncovered_rest_passes_in_part_only(tmp_path):
    """Passing tests do not speak for what none of them looks at; a failure stays a failure."""
    partly = replace(SOURCED, uncovered="the alert 0x8F8B")
    for outcome, verdict in (("passed", "PASS IN PART"), ("failed", "FAIL")):
        report = Report(tmp_path, Bench("bench"), {partly.id: partly})
        report.add("test_it", outcome, requirements=[partly.id])
        results, page = written(report)
        assert results["requirements"][0]["verdict"] == verdict
        assert "the alert 0x8F8B" in "".join(page.text)


def test_an_assumed_requirement_is_observed_where_its_sourced_neighbour_fails(tmp_path):
    """One failed test of two requirements fails the sourced one only."""
    report = Report(tmp_path, Bench("bench"), CATALOGUE)
    report.add("test_both", "failed", requirements=["FW-08", "FW-13"])
    results, _ = written(report)
    verdicts = {row["id"]: row["verdict"] for row in results["requirements"]}
    assert verdicts == {"FW-08": "FAIL", "FW-13": "OBSERVED", "JN-01": "NOT RUN"}
    assert results["counts"] == {
        "tests": {"FAIL": 1},
        "requirements": {"FAIL": 1, "OBSERVED": 1, "NOT RUN": 1},
    }


def test_the_report_leads_from_requirement_to_evidence(tmp_path):
    """Requirement, test, verdict and the digest of each evidence file stand in both files, and links are relative."""
    folder = tmp_path / "tests" / "one run"
    folder.mkdir(parents=True)
    (folder / "air.pcap").write_bytes(b"frames")
    report = Report(tmp_path, Bench("bench", "of a lab", seed=7, under_test=("ppmid",)), CATALOGUE)
    report.add(
        "tests/conformance/ppmid/test_ota.py::test_it",
        "passed",
        statement="A PPMID fetches\n    its image.\n\n    And more.",
        requirements=["FW-08"],
        seconds=0.5,
        simulated_seconds=3725.0,
        evidence=[tmp_path / "tests", tmp_path / "missing"],
    )
    results, page = written(report)
    (test,) = results["tests"]
    digest = hashlib.sha256(b"frames").hexdigest()
    assert test["statement"] == "A PPMID fetches its image."
    assert test["evidence"] == [{"path": "tests/one run/air.pcap", "octets": 6, "sha256": digest}]
    assert results["requirements"][0]["tests"] == [test["test"]]
    assert page.attributes["href"] == ["tests/one%20run/air.pcap"]
    assert page.attributes["id"] == ["FW-08", "FW-13", "JN-01"]
    for text in (
        digest,
        "A PPMID fetches its image.",
        "0.50 s, 1 h 2 min on the rig",
        "Requirements not run",
        "ppmid",
    ):
        assert text in page.words()


def test_the_page_stands_alone(tmp_path):
    """One file with no script and nothing loaded from elsewhere opens on any machine, and in print."""
    _, page = written(Report(tmp_path, Bench("bench"), CATALOGUE))
    assert not page.open
    assert not {"script", "link", "img", "iframe"} & set(page.seen)
    assert not {"src", "href"} & set(page.attributes)


def test_an_emulated_rig_is_said_to_be_one(tmp_path):
    """Nobody can take a run without hardware for evidence about a product."""
    _, emulated = written(Report(tmp_path / "a", Bench("bench", emulated=True), CATALOGUE))
    _, real = written(Report(tmp_path / "b", Bench("bench", emulated=False), CATALOGUE))
    assert "The rig is emulated." in emulated.words()
    assert "The rig is emulated." not in real.words()
    for page in (emulated, real):
        assert "pre-certification evidence" in page.words()


def test_what_a_device_said_cannot_break_the_page(tmp_path):
    """Text from a failure is shown as text."""
    report = Report(tmp_path, Bench("<b>bench"), CATALOGUE)
    report.add("test_it[<i>]", "failed", detail="<script>alert(1)</script> &amp;", requirements=["FW-08"])
    _, page = written(report)
    assert "script" not in page.seen
    assert "<script>alert(1)</script> &amp;" in page.words()


def test_a_requirement_that_is_not_in_the_catalogue_is_the_tests_fault(tmp_path):
    """A misspelt id is found when the test runs, with the nearest one."""
    report = Report(tmp_path, Bench("bench"), CATALOGUE)
    with pytest.raises(
        LocalProtocolError, match=r"no requirement 'FW-8' in the catalogue; did you mean FW-08\?"
    ):
        report.add("test_it", "passed", requirements=["FW-8"])
    assert find_requirement(CATALOGUE, "FW-08") is SOURCED


def test_the_projects_catalogue_is_right():
    """Every row reads, with an id of its own and a basis."""
    catalogue = load_catalogue(REPOSITORY / "tests" / "conformance" / "requirements.yaml")
    assert {"LB-01", "SU-01", "AH-01", "FW-01", "JN-01"} <= catalogue.keys()
    assert catalogue["FW-08"].basis == "sourced"
    assert catalogue["SU-03"].options == "mp105: before | sr11_2 | both"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1", "must be a list of requirements"),
        ("- 1", "requirement 1 must be a mapping"),
        ("- {id: A-1}", "requirement A-1 has missing or unknown keys: basis, source, text, under_test"),
        (
            "- {id: A-1, under_test: any, basis: guessed, source: y, text: z}",
            "basis is sourced or assumed, not 'guessed'",
        ),
        (
            "- {id: A-1, under_test: any, basis: sourced, source: y, text: 1}",
            "requirement A-1: text must be text",
        ),
        (
            "- {id: A-1, under_test: 'hub, ppmdi', basis: sourced, source: y, text: z}",
            "requirement A-1: nothing is under_test 'ppmdi'; did you mean ppmid?",
        ),
        ("[", "is not YAML"),
        (
            "- &a {id: A-1, under_test: any, basis: sourced, source: y, text: z}\n- *a",
            "requirement A-1 is there twice",
        ),
    ],
)
def test_a_wrong_catalogue_names_the_row(tmp_path, text, said):
    """The catalogue is edited by hand: file and row are in the message."""
    path = tmp_path / "requirements.yaml"
    path.write_text(text)
    with pytest.raises(RigError) as caught:
        load_catalogue(path)
    assert str(caught.value).startswith(str(path))
    assert said in str(caught.value)
