"""What a certification run leaves for its reader: results.json, and one self-contained report.html."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from importlib import metadata
from pathlib import Path
from typing import Any, Literal

import jinja2

from harness.evidence.catalogue import Requirement, find_requirement

RESULTS_SCHEMA = "harness.results/1"
RESULTS_NAME = "results.json"
REPORT_NAME = "report.html"

# What decides a result beside the device and the rig.
_DISTRIBUTIONS = ("han-harness", "bellows", "zigpy", "serialx", "cryptography", "pytest")

DECISION_RULE = (
    "A requirement passes when every test listed for it passed; a test that was skipped, or ended in an error of the "
    "bench or of the harness, is no pass. One of which a part is judged by no test yet passes in part, and says which. "
    "A device that differs from a requirement whose basis is assumed, not sourced from a public document, is OBSERVED: "
    "reported with what it did, and not failed. A test speaks for requirements of what it judges alone: what one of "
    "the harness' own devices does while a hub is judged counts for no requirement of a device."
)


class Verdict(StrEnum):
    """What became of a test, or of a requirement; the worse comes first."""

    FAIL = "FAIL"
    ERROR = "ERROR"
    OBSERVED = "OBSERVED"
    SKIPPED = "SKIPPED"
    PARTIAL = "PASS IN PART"
    PASS = "PASS"
    NOT_RUN = "NOT RUN"


Outcome = Literal["passed", "observed", "failed", "error", "skipped"]


def judge(outcome: Outcome, requirements: Iterable[Requirement] = ()) -> Verdict:
    """Return the verdict on a test.

    `observed` says that the test noted what the device did where nothing sourced says what it should, `failed` that it
    did otherwise than the test asserts, `error` that the bench or the harness went wrong.
    The oracle fails only on what is sourced: a failed test whose requirements are all assumed is OBSERVED.
    """
    if outcome == "passed":
        return Verdict.PASS
    if outcome == "observed":
        return Verdict.OBSERVED
    if outcome == "skipped":
        return Verdict.SKIPPED
    if outcome == "error":
        return Verdict.ERROR
    bases = [requirement.basis for requirement in requirements]
    return Verdict.OBSERVED if bases and all(basis == "assumed" for basis in bases) else Verdict.FAIL


@dataclass(frozen=True, slots=True)
class EvidenceFile:
    """A file that a test left: its path relative to the report, with / between folders, its size and its SHA-256."""

    path: str
    octets: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Result:
    """What one test did.

    `test` is its node id, `statement` the first paragraph of its docstring, `detail` why it did not pass. `seconds`
    is the wall time it took, `simulated_seconds` the time that passed on its rig (None: it has no clock of its own).
    """

    test: str
    statement: str
    requirements: tuple[str, ...]
    verdict: Verdict
    detail: str = ""
    seconds: float = 0.0
    simulated_seconds: float | None = None
    evidence: tuple[EvidenceFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Judged:
    """A requirement with the results of its tests, and the verdict that follows."""

    requirement: Requirement
    results: tuple[Result, ...]

    @property
    def verdict(self) -> Verdict:
        """The worst of the tests' verdicts, but never a failure on what is only assumed."""
        if not self.results:
            return Verdict.NOT_RUN
        order = list(Verdict)
        worst = min((result.verdict for result in self.results), key=order.index)
        if worst is Verdict.FAIL and self.requirement.basis == "assumed":
            return Verdict.OBSERVED
        if worst is Verdict.PASS and self.requirement.uncovered:
            return Verdict.PARTIAL
        return worst


@dataclass(frozen=True, slots=True)
class Bench:
    """The rig, as the report names it. `defects` are the deliberate faults of its members, each as a sentence."""

    name: str
    description: str = ""
    emulated: bool = True
    seed: int = 0
    tags: Mapping[str, str] = field(default_factory=dict)
    under_test: Sequence[str] = ()
    defects: Sequence[str] = ()


def versions() -> dict[str, str]:
    """Return the versions of what a result depends on, by name; a distribution that is not installed is left out."""
    found = {"Python": platform.python_version(), "system": f"{platform.system()} {platform.machine()}"}
    for name in _DISTRIBUTIONS:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found


class Report:
    """Collects the results of one run and writes them to `folder`.

    `catalogue` holds the requirements by id: those without a test are listed as NOT RUN. `gaps` are sentences on why
    the run was not whole, which its reader must know.
    """

    def __init__(self, folder: Path, bench: Bench, catalogue: Mapping[str, Requirement]) -> None:
        self.folder = folder
        self.bench = bench
        self.catalogue = catalogue
        self.results: list[Result] = []
        self.gaps: list[str] = []
        self.started = datetime.now(UTC)

    def add(
        self,
        test: str,
        outcome: Outcome,
        *,
        statement: str = "",
        requirements: Sequence[str] = (),
        roles: Collection[str] | None = None,
        detail: str = "",
        seconds: float = 0.0,
        simulated_seconds: float | None = None,
        evidence: Iterable[Path] = (),
    ) -> Result:
        """Judge one test and keep its result.

        `roles` are those of the members that it judged, and `smi`: it is listed for the requirements that they fit, as
        `Requirement.judges` has it; None: for all. `evidence` are files, or folders whose files count, below the
        report's folder; what does not exist is left out.
        LocalProtocolError for a requirement that the catalogue does not have.
        """
        judged = [find_requirement(self.catalogue, name) for name in requirements]
        files = sorted(path for root in evidence for path in _files(root))
        result = Result(
            test=test,
            statement=" ".join(statement.strip().split("\n\n")[0].split()),
            requirements=tuple(row.id for row in judged if roles is None or row.judges(roles)),
            verdict=judge(outcome, judged),
            detail=detail.strip(),
            seconds=seconds,
            simulated_seconds=simulated_seconds,
            evidence=tuple(self._evidence_file(path) for path in files),
        )
        self.results.append(result)
        return result

    def _evidence_file(self, path: Path) -> EvidenceFile:
        with path.open("rb") as stream:
            digest = hashlib.file_digest(stream, "sha256").hexdigest()
        relative = Path(os.path.relpath(path, self.folder)).as_posix()
        return EvidenceFile(relative, path.stat().st_size, digest)

    def judged(self) -> list[Judged]:
        """Return each requirement of the catalogue, in its order, with what its tests found."""
        return [
            Judged(requirement, tuple(result for result in self.results if name in result.requirements))
            for name, requirement in self.catalogue.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        """Return what results.json holds."""
        judged = self.judged()
        return {
            "schema": RESULTS_SCHEMA,
            "rig": asdict(self.bench) | {"tags": dict(self.bench.tags)},
            "started": self.started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "versions": versions(),
            "decision_rule": DECISION_RULE,
            "gaps": list(self.gaps),
            "counts": {
                "tests": _counts(result.verdict for result in self.results),
                "requirements": _counts(item.verdict for item in judged),
            },
            "requirements": [
                asdict(item.requirement)
                | {"verdict": item.verdict, "tests": [result.test for result in item.results]}
                for item in judged
            ],
            "tests": [asdict(result) for result in self.results],
        }

    def write(self) -> Path:
        """Write results.json and report.html, each whole or not at all; give the path of the report."""
        self.folder.mkdir(parents=True, exist_ok=True)
        content = self.as_dict()
        judged = self.judged()
        environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        environment.filters["span"] = _span
        page = environment.get_template("report.html.j2").render(
            content,
            bench=self.bench,
            run=[item for item in judged if item.results],
            not_run=[item.requirement for item in judged if not item.results],
            others=[result for result in self.results if not result.requirements],
            simulated=sum(result.simulated_seconds or 0.0 for result in self.results),
            wall=sum(result.seconds for result in self.results),
        )
        _replace(self.folder / RESULTS_NAME, json.dumps(content, indent=2) + "\n")
        return _replace(self.folder / REPORT_NAME, page)


def _files(root: Path) -> list[Path]:
    if root.is_dir():
        return [path for path in root.rglob("*") if path.is_file()]
    return [root] if root.is_file() else []


def _counts(verdicts: Iterable[Verdict]) -> dict[str, int]:
    counted = Counter(verdicts)
    return {verdict.value: counted[verdict] for verdict in Verdict if counted[verdict]}


def _span(seconds: float | None) -> str:
    """Return a length of time for a reader: 0.42 s, 12 s, 3 min 5 s, 2 h 7 min."""
    if seconds is None:
        return ""
    if seconds < 10:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def _replace(path: Path, text: str) -> Path:
    beside = path.with_name(path.name + ".new")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)
    return path
