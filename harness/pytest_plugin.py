"""The pytest plugin: options, markers, one fixture a noun. Inert without `--rig`."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Callable, Generator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from harness.errors import RigError

if TYPE_CHECKING:
    from harness.evidence.report import Outcome, Report
    from harness.rig.nouns import Device, Hub
    from harness.rig.open import Rig
    from harness.rig.schema import RigFile
    from harness.wire.image import OtaImage

RIG_FILE: pytest.StashKey[RigFile] = pytest.StashKey()
REPORT: pytest.StashKey[Report] = pytest.StashKey()
RIG: pytest.StashKey[Rig] = pytest.StashKey()
PHASES: pytest.StashKey[dict[str, pytest.TestReport]] = pytest.StashKey()

MARKERS = (
    "requirement(*ids): the requirements of the catalogue that the test judges",
    "requires(*capabilities): what the bench must be able to do: air (faults on it), power, reset (of the hub's radio)",
    "virtual_time: run this async test on the virtual-time event loop, with or without a rig",
)
CATALOGUE = "requirements.yaml"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the harness' options."""
    group = parser.getgroup("harness", "hardware-in-the-loop tests of a Home Area Network")
    group.addoption("--rig", metavar="FILE", help="the rig file of the bench to test on")
    group.addoption(
        "--evidence", metavar="DIR", help="leave each test's capture, key file and journal in DIR"
    )
    group.addoption(
        "--certify",
        action="store_true",
        help="judge the requirements of the catalogue; leaves a report in --evidence",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and check the rig file before anything is powered."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    name, evidence = config.getoption("--rig"), config.getoption("--evidence")
    if config.getoption("--certify") and not (name and evidence):
        raise pytest.UsageError("--certify needs --rig FILE to judge on, and --evidence DIR for its report")
    if name is not None:
        from harness.rig.schema import load_rig

        try:
            config.stash[RIG_FILE] = load_rig(Path(name))
        except RigError as error:
            raise pytest.UsageError(str(error)) from error


@pytest.hookimpl(optionalhook=True)
def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    """Give each async test its clock: the rig's radio decides, and there is no second switch."""
    file = config.stash.get(RIG_FILE, None)
    on_emulated_rig = file is not None and file.is_emulated and "rig" in getattr(item, "fixturenames", ())
    if on_emulated_rig or item.get_closest_marker("virtual_time"):
        from harness.clock import VirtualLoop

        return {"virtual": VirtualLoop}
    return {"real": asyncio.new_event_loop}


# --- fixtures: one a noun ---------------------------------------------------------------------------------------------


@pytest.fixture
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    """The bench, opened: its hub runs the HAN, nothing has joined. An emulated one is made anew for each test."""
    file = request.config.stash.get(RIG_FILE, None)
    if file is None:
        pytest.skip("needs a bench: --rig FILE")
    from harness.rig.open import Rig

    bench = Rig(file, evidence=_evidence_folder(request.node))
    missing = [
        capability
        for marker in request.node.iter_markers("requires")
        for capability in marker.args
        if capability not in bench.capabilities
    ]
    if missing:
        pytest.skip(f"{file.name} has no means for {', '.join(missing)}")
    async with bench:
        request.node.stash[RIG] = bench
        yield bench


@pytest.fixture
def hub(rig: Rig) -> Hub:
    """The Communications Hub of the rig, running its HAN."""
    return rig.hub


@pytest.fixture
async def ppmid(rig: Rig) -> Device:
    """The rig's PPMID, joined to the hub's HAN."""
    return await rig.joined("ppmid")


@pytest.fixture
def new_image(request: pytest.FixtureRequest) -> Callable[..., OtaImage]:
    """Make an OTA image that its target takes: `new_image(target=ppmid, size=65536, version=None)`, sizes in octets.

    The version is one above what the target runs unless given. The payload is random, but the same in every run.
    """
    from harness.rig.images import make_image

    return make_image(random.Random(request.node.nodeid))


# --- verdicts ---------------------------------------------------------------------------------------------------------


@pytest.hookimpl(wrapper=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Fail a test that made the bench misbehave, even where its own assertions hold."""
    result = yield
    bench = pyfuncitem.stash.get(RIG, None)
    if bench is not None:
        bench.check()
    return result


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, pytest.TestReport]:
    """Put the end of the journal under a failure, and keep each phase for the report."""
    report: pytest.TestReport = yield
    bench = item.stash.get(RIG, None)
    if report.failed and bench is not None:
        report.sections.append(("journal of the rig", bench.journal.tail()))
    if call.excinfo is not None and call.excinfo.errisinstance(RigError):
        report.user_properties.append(("harness.fault", "rig"))
    item.stash.setdefault(PHASES, {})[report.when] = report
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add each test to the report of a certification run."""
    result = yield
    if item.config.getoption("--certify"):
        _judge(item)
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report of a certification run."""
    report = session.config.stash.get(REPORT, None)
    if report is not None:
        report.write()


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Say where the report is, and what it says."""
    report = config.stash.get(REPORT, None)
    if report is not None:
        counts = ", ".join(
            f"{count} {verdict}" for verdict, count in report.as_dict()["counts"]["requirements"].items()
        )
        terminalreporter.section("certification")
        terminalreporter.line(f"requirements: {counts}")
        terminalreporter.line(f"report: {report.folder / 'report.html'}")


def _judge(item: pytest.Item) -> None:
    phases = item.stash.get(PHASES, {})
    worst = next((report for report in phases.values() if not report.passed), phases.get("call"))
    if worst is None:
        return
    bench = item.stash.get(RIG, None)
    folder = _evidence_folder(item)
    _report(item).add(
        item.nodeid,
        _outcome(worst),
        statement=getattr(getattr(item, "function", None), "__doc__", None) or "",
        requirements=[name for marker in item.iter_markers("requirement") for name in marker.args],
        detail="" if worst.passed else _reason(worst),
        seconds=sum(report.duration for report in phases.values()),
        simulated_seconds=bench.elapsed if bench is not None and bench.file.is_emulated else None,
        evidence=[] if folder is None else [folder],
    )


def _outcome(report: pytest.TestReport) -> Outcome:
    if report.passed:
        return "passed"
    if report.skipped:
        return "skipped"
    # What goes wrong before or after the test, or is the bench's fault, says nothing about the device.
    if report.when != "call" or ("harness.fault", "rig") in report.user_properties:
        return "error"
    return "failed"


def _reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash is not None else str(report.longrepr)


def _report(item: pytest.Item) -> Report:
    config = item.config
    if REPORT not in config.stash:
        from harness.evidence.catalogue import load_catalogue
        from harness.evidence.report import Bench, Report

        file = config.stash[RIG_FILE]
        catalogue = next(
            (folder / CATALOGUE for folder in item.path.parents if (folder / CATALOGUE).is_file()), None
        )
        config.stash[REPORT] = Report(
            Path(config.getoption("--evidence")),
            Bench(
                name=file.name,
                description=file.description,
                emulated=file.is_emulated,
                seed=file.seed,
                tags=file.tags,
                under_test=[name for name, member in file.members.items() if member.under_test],
            ),
            {} if catalogue is None else load_catalogue(catalogue),
        )
    return config.stash[REPORT]


def _evidence_folder(item: pytest.Item) -> Path | None:
    evidence = item.config.getoption("--evidence")
    if evidence is None:
        return None
    module, _, name = item.nodeid.rpartition("::")
    folder = Path(module).with_suffix("")
    clean = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")
    return Path(evidence, *folder.parts[-2:], clean)
