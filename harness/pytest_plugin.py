"""The pytest plugin: options, markers, one fixture a noun. Inert without `--rig`."""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import pytest_asyncio

from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.pytest_items import catalogue_of, evidence_folder, requirements_of

if TYPE_CHECKING:
    from harness.evidence.catalogue import Requirement
    from harness.evidence.report import Outcome, Report
    from harness.rig.commissioned import Commissioned
    from harness.rig.dcc import Dcc
    from harness.rig.hub import Hub
    from harness.rig.nouns import Device
    from harness.rig.open import Rig
    from harness.rig.schema import RigFile
    from harness.wire.image import OtaImage

RIG_FILE: pytest.StashKey[RigFile] = pytest.StashKey()
REPORT: pytest.StashKey[Report] = pytest.StashKey()
RIG: pytest.StashKey[Rig] = pytest.StashKey()
COMMISSIONED: pytest.StashKey[Commissioned] = pytest.StashKey()
PHASES: pytest.StashKey[dict[str, pytest.TestReport]] = pytest.StashKey()

CAPABILITIES = {"air": "faults on it", "power": "switches", "reset": "of the hub's radio"}
MARKERS = (
    "requirement(*ids): the requirements of the catalogue that the test judges",
    "requires(*capabilities): what the bench must be able to do: "
    + ", ".join(f"{name} ({what})" for name, what in CAPABILITIES.items()),
    "under_test(*roles): what the test judges; it is left out on a rig where no such member is under test; "
    "smi is the Inventory, on a rig with an emulated DCC",
    "virtual_time: run this async test on the virtual-time event loop, with or without a rig",
)
MEMBER_FIXTURES = frozenset({"esme", "gsme", "hcalcs", "ppmid", "ihd", "bridges", "joined"})

# What only the device can be blamed for. Whatever else a test raises is an error of the bench, the harness or the test.
BY_THE_DEVICE = (AssertionError, RemoteProtocolError, pytest.fail.Exception)
FAULT = "harness.fault"
OBSERVED = "harness.observed"
_LAST_STEPS = 30  # of the sequence diagram under a failure


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the harness' options."""
    group = parser.getgroup("harness", "hardware-in-the-loop tests of a Home Area Network")
    group.addoption("--rig", metavar="FILE", help="the rig file of the bench to test on")
    group.addoption(
        "--evidence", metavar="DIR", help="leave each test's capture, key file and journal in DIR"
    )
    group.addoption(
        "--commissioned",
        metavar="FILE",
        help="begin with the HAN as harness rig commission left it; an emulated rig makes its own without",
    )
    group.addoption(
        "--certify",
        action="store_true",
        help="judge the requirements of the catalogue; leaves a report in --evidence, which must be a new folder",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers, and check the rig file before anything is powered."""
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    name, evidence = config.getoption("--rig"), config.getoption("--evidence")
    if config.getoption("--certify"):
        if not (name and evidence):
            raise pytest.UsageError(
                "--certify needs --rig FILE to judge on, and --evidence DIR for its report"
            )
        if config.getoption("dist", "no") != "no":
            raise pytest.UsageError("--certify makes one report in one process: run it without -n")
        _refuse_used_folder(Path(evidence))
    if config.getoption("--commissioned") is not None and name is None:
        raise pytest.UsageError("--commissioned needs --rig FILE: the state is of one rig")
    if name is not None:
        if not config.pluginmanager.hasplugin("asyncio"):
            raise pytest.UsageError("--rig needs the plugin pytest-asyncio, which is switched off")
        from harness.rig.schema import load_rig

        try:
            config.stash[RIG_FILE] = load_rig(Path(name))
            state = config.getoption("--commissioned")
            if state is not None:
                from harness.rig.commissioned import load_commissioned, refuse_foreign

                config.stash[COMMISSIONED] = loaded = load_commissioned(Path(state))
                refuse_foreign(config.stash[RIG_FILE], loaded)
        except RigError as error:
            raise pytest.UsageError(str(error)) from error


def _refuse_used_folder(folder: Path) -> None:
    """What an earlier run left must neither be lost nor be taken for this run's."""
    try:
        used = next(folder.iterdir(), None)
    except FileNotFoundError:
        return
    except OSError as error:
        raise pytest.UsageError(f"--evidence {folder}: cannot be used ({error.strerror})") from error
    if used is not None:
        raise pytest.UsageError(
            f"--evidence {folder}: holds {used.name} already; --certify needs a new folder"
        )


@pytest.hookimpl(wrapper=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> Generator[None]:
    """Let an async test on a rig be one for pytest-asyncio, whatever `asyncio_mode` its project has."""
    function = getattr(metafunc.function, "__func__", metafunc.function)
    ours = "rig" in metafunc.fixturenames or metafunc.definition.get_closest_marker("virtual_time")
    if (
        ours
        and inspect.iscoroutinefunction(function)
        and not metafunc.definition.get_closest_marker("asyncio")
    ):
        # On the definition for pytest-asyncio's own hook of this name; on the function for the items made from it.
        mark = pytest.mark.asyncio(loop_scope="function")
        metafunc.definition.add_marker(mark)
        mark(function)
    return (yield)


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
def commissioned(request: pytest.FixtureRequest) -> Commissioned | None:
    """The HAN that a test with members on it begins with: that of --commissioned, or on an emulated rig its own.

    The latter is made once a run. None for a test that asks for no member by its fixture, as those of joining do.
    """
    stash = request.config.stash
    file = stash.get(RIG_FILE, None)
    if file is None or not MEMBER_FIXTURES.intersection(request.fixturenames):
        return None
    if COMMISSIONED not in stash and file.is_emulated:
        from harness.rig.commissioned import commission

        stash[COMMISSIONED] = commission(file)
    return stash.get(COMMISSIONED, None)


@pytest_asyncio.fixture(loop_scope="function")
async def rig(request: pytest.FixtureRequest, commissioned: Commissioned | None) -> AsyncIterator[Rig]:
    """The bench, opened: its hub runs the HAN. An emulated one is made anew for each test.

    Nothing has joined, unless the test asks for a member by its fixture.
    """
    file = request.config.stash.get(RIG_FILE, None)
    if file is None:
        pytest.skip("needs a bench: --rig FILE")
    from harness.rig.open import Rig

    bench = Rig(file, evidence=evidence_folder(request.node), commissioned=commissioned)
    required = [name for marker in request.node.iter_markers("requires") for name in marker.args]
    unknown = [name for name in required if name not in CAPABILITIES]
    if unknown:
        raise LocalProtocolError(
            f"requires({unknown[0]!r}): no such capability; known: {', '.join(CAPABILITIES)}"
        )
    missing = [name for name in required if name not in bench.capabilities]
    if missing:
        pytest.skip(f"{file.name} has no means for {', '.join(missing)}")
    async with bench:
        request.node.stash[RIG] = bench
        yield bench


def roles_under_test(config: pytest.Config) -> frozenset[str]:
    """The roles of the members that the rig of this run is there to judge, and `smi` with an emulated DCC on it.

    Empty without `--rig`.
    """
    file = config.stash.get(RIG_FILE, None)
    if file is None:
        return frozenset()
    roles: set[str] = {file.profiles[name].role for name, member in file.members.items() if member.under_test}
    if file.carries_requests == "emulated":
        roles.add("smi")  # the Inventory and the DCC are the harness' own there: what is judged is the model
    return frozenset(roles)


def _judged(item: pytest.Item) -> frozenset[str]:
    """What of that a test judges; a test that does not say what it judges is for all of it."""
    roles = roles_under_test(item.config)
    for marker in item.iter_markers("under_test"):
        roles &= frozenset(marker.args)
    return roles


def _is_for_another_rig(item: pytest.Item) -> bool:
    return item.get_closest_marker("under_test") is not None and not _judged(item)


def _refuse_unknown_roles(items: Sequence[pytest.Item]) -> None:
    """A misspelt role would leave its test out on every rig, and nobody would know."""
    from harness.evidence.catalogue import MEMBERS

    known = (*MEMBERS, "smi")
    for item in items:
        for marker in item.iter_markers("under_test"):
            unknown = [role for role in marker.args if role not in known]
            if unknown or not marker.args:
                what = f"no such role: {unknown[0]!r}" if unknown else "it names no role"
                raise pytest.UsageError(f"{item.nodeid}: under_test: {what}; known: {', '.join(known)}")


@pytest.fixture
def hub(rig: Rig) -> Hub:
    """The Communications Hub of the rig, running its HAN."""
    return rig.hub


@pytest_asyncio.fixture(loop_scope="function")
async def dcc(rig: Rig) -> Dcc:
    """What carries Service Requests on the rig; its Inventory is `dcc.inventory`, and empty until `dcc.enrol`."""
    return rig.dcc


def _device_fixture(role: str, what: str) -> Any:
    async def device(rig: Rig) -> Device:
        found = rig.of_role(role)
        if found is None:
            pytest.skip(f"{rig.name} has no {role.upper()}")
        return await rig.joined(found.name)

    device.__doc__ = f"The rig's {what}, a keyed member of the hub's HAN."
    return pytest_asyncio.fixture(loop_scope="function", name=role)(device)


esme = _device_fixture("esme", "electricity meter (ESME)")
gsme = _device_fixture("gsme", "gas meter (GSME)")
hcalcs = _device_fixture("hcalcs", "load switch (HCALCS)")
ppmid = _device_fixture("ppmid", "PPMID")
ihd = _device_fixture("ihd", "In-Home Display (IHD)")


@pytest_asyncio.fixture(loop_scope="function")
async def bridges(rig: Rig) -> dict[str, Device]:
    """The rig's Alt HAN bridges by type ("B1" to "B4"), keyed members of the hub's HAN."""
    found = rig.bridges
    if not found:
        pytest.skip(f"{rig.name} has no bridge")
    return {bridge: await rig.joined(device.name) for bridge, device in found.items()}


@pytest.fixture
def joined(rig: Rig) -> Callable[[str], Awaitable[Device]]:
    """Have a member of the rig by name, a keyed member of the hub's HAN: `device = await joined("b1")`."""
    return rig.joined


@pytest.fixture
def observe(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Note what the member under test does where no public document says what it should: OBSERVED, and not failed."""
    return lambda text: request.node.user_properties.append((OBSERVED, text))


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
    try:
        result = yield
    except (Exception, pytest.fail.Exception):
        # What broke inside the bench is why the test saw what it saw: that is said, and the device not blamed for it.
        _check_bench(pyfuncitem)
        raise
    _check_bench(pyfuncitem)
    return result


def _check_bench(item: pytest.Item) -> None:
    bench = item.stash.get(RIG, None)
    if bench is None:
        return
    try:
        bench.check()
    except AssertionError as error:
        raise LocalProtocolError(f"an assertion of the harness itself failed: {error}") from error


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, Any, pytest.TestReport]:
    """Put the end of the journal, also drawn, under a failure, say whose fault it is, and keep each phase."""
    report: pytest.TestReport = yield
    bench = item.stash.get(RIG, None)
    if report.failed and bench is not None:
        report.sections.append(("journal of the rig", bench.journal.tail()))
        steps, lifelines = bench.sequence()
        if steps:
            from harness.evidence.diagram import as_text

            report.sections.append(("sequence on the rig", as_text(steps, lifelines, last=_LAST_STEPS)))
    if report.failed and call.excinfo is not None:
        report.user_properties.append((FAULT, _fault(call.excinfo.value)))
    # A set-up begins anew: a test may be run again.
    phases = item.stash.setdefault(PHASES, {}) if report.when != "setup" else {}
    item.stash[PHASES] = phases | {report.when: report}
    return report


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Add each test to the report of a certification run."""
    result = yield
    report = item.config.stash.get(REPORT, None)
    if report is not None:
        _judge(item, report)
    if RIG in item.stash:
        del item.stash[RIG]  # pytest keeps every item to the end; a bench is too big for that
    return result


@pytest.hookimpl(wrapper=True)
def pytest_collection_modifyitems(
    session: pytest.Session, config: pytest.Config, items: list[pytest.Item]
) -> Generator[None]:
    """Leave out what judges nothing on this rig, and begin the report of a certification run.

    Its catalogue is checked before anything is powered.
    """
    if RIG_FILE in config.stash:
        _refuse_unknown_roles(items)
        strangers = [item for item in items if _is_for_another_rig(item)]
        if strangers:
            config.hook.pytest_deselected(items=strangers)
            items[:] = [item for item in items if item not in strangers]
    collected = list(items)
    result = yield
    if config.getoption("--certify") and not config.option.collectonly:
        config.stash[REPORT] = report = _new_report(config, catalogue_of(config, collected))
        if len(items) < len(collected):
            report.gaps.append(f"{len(collected) - len(items)} of {len(collected)} tests were deselected")
    return result


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Write the report of a certification run."""
    report = session.config.stash.get(REPORT, None)
    if report is not None:
        unrun = len(session.items) - len(report.results)
        if unrun:
            report.gaps.append(f"the run ended early: {unrun} of {len(session.items)} tests did not run")
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


def _judge(item: pytest.Item, report: Report) -> None:
    phases = item.stash.get(PHASES, {})
    worst = next(
        (phase for phase in phases.values() if phase.failed),
        next((phase for phase in phases.values() if phase.skipped), phases.get("call")),
    )
    if worst is None:
        return
    bench = item.stash.get(RIG, None)
    folder = evidence_folder(item)
    observed = [str(text) for name, text in item.user_properties if name == OBSERVED]
    report.add(
        item.nodeid,
        "observed" if worst.passed and observed else _outcome(worst),
        statement=getattr(getattr(item, "function", None), "__doc__", None) or "",
        requirements=requirements_of(item),
        roles=_judged(item),
        detail="; ".join(observed) if worst.passed else _reason(worst),
        seconds=sum(phase.duration for phase in phases.values()),
        simulated_seconds=bench.elapsed if bench is not None and bench.file.is_emulated else None,
        evidence=[] if folder is None else [folder],
    )


def _fault(error: BaseException) -> str:
    if isinstance(error, BaseExceptionGroup):
        faults = {_fault(inner) for inner in error.exceptions}
        return next(fault for fault in ("rig", "harness", "device") if fault in faults)
    if isinstance(error, RigError):
        return "rig"
    return "device" if isinstance(error, BY_THE_DEVICE) else "harness"


def _outcome(report: pytest.TestReport) -> Outcome:
    if report.passed:
        return "passed"
    if report.skipped:
        return "skipped"
    # What goes wrong before or after the test, or beside the device, says nothing about the device. What has no fault
    # is an xfail that passed, against what the test's author knew of the device.
    by_the_device = dict(report.user_properties).get(FAULT, "device") == "device"
    return "failed" if report.when == "call" and by_the_device else "error"


def _reason(report: pytest.TestReport) -> str:
    if report.skipped and isinstance(report.longrepr, tuple):
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash is not None else str(report.longrepr)


def _new_report(config: pytest.Config, catalogue: Mapping[str, Requirement]) -> Report:
    from harness.evidence.report import Bench, Report

    file = config.stash[RIG_FILE]
    bench = Bench(
        name=file.name,
        description=file.description,
        emulated=file.is_emulated,
        seed=file.seed,
        tags=file.tags,
        under_test=[name for name, member in file.members.items() if member.under_test],
        defects=file.defects,
    )
    return Report(Path(config.getoption("--evidence")), bench, catalogue)
