"""Tests of a rig whose Inventory is kept in a database: from one run to the next, through crashes and locks."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import Connection, Engine, event

from harness import Outcome, Rig, RigError, minutes
from harness.cli import main
from harness.rig.schema import load_rig
from harness.smi.devices import DeviceStatus
from harness.smi.plain import to_plain
from harness.smi.requests import UpdateDeviceLog, UpdateFirmware, User, UserRole
from harness.store.store import Store
from harness.wire.mac import format_eui64
from tests.unit.dcc_rigs import DEVICES, on_rig, run_unheard, with_dcc
from tests.unit.served import REPOSITORY

OF_A_LAB = "  database: sqlite:///lab.db\n"
# Sends SR12.2 for each name, says so when it is acknowledged, and dies in the middle of the run.
DIES = """
import asyncio, os, sys
from harness import open_rig
from harness.clock import VirtualLoop

async def run():
    async with open_rig(sys.argv[1]) as rig:
        await rig.dcc.enrol(rig.hub)
        for name in sys.argv[2:]:
            await rig.dcc.pre_notify(rig.device(name))
            print(name, flush=True)
        os._exit(3)

asyncio.Runner(loop_factory=VirtualLoop).run(run())
"""


def kept_as(rig: Rig) -> dict[str, Any]:
    """All that an Inventory has, as plain data."""
    return to_plain(rig.inventory)


async def look(rig: Rig) -> dict[str, Any]:
    """Open the Inventory, and do nothing to it."""
    return kept_as(rig)


def database(folder: Path) -> str:
    """The URL of the rigs' database."""
    return f"sqlite:///{folder}/lab.db"


def test_the_next_run_knows_what_the_one_before_it_learnt(tmp_path):
    """Suspended, versions, CPL, and why: all of it; and time, and the numbers of its requests, go on."""
    path = with_dcc(tmp_path, OF_A_LAB)

    async def first(rig: Rig) -> tuple[Any, ...]:
        esme = rig.device("esme")
        image = await run_unheard(rig, esme)
        assert rig.inventory.device(esme.eui64).status is DeviceStatus.SUSPENDED
        return kept_as(rig), rig.inventory.explain(esme.eui64), rig.dcc.now(), image

    async def second(rig: Rig) -> tuple[Any, ...]:
        esme = await rig.joined("esme")
        before = kept_as(rig), rig.inventory.explain(esme.eui64), rig.dcc.now()
        await rig.dcc.enrol()  # all are there
        assert kept_as(rig) == before[0]
        image = await run_unheard(rig, esme)
        return *before, image

    before, why, ended, _ = on_rig(first, path)
    after, still_why, began, _ = on_rig(second, path)
    assert (after, still_why) == (before, why)
    # It ended by waiting 4 h for a response, in which nothing was applied.
    assert ended - 5 * 3600 < began <= ended
    with Store(database(tmp_path)) as store:
        (name,) = store.inventories()
        assert name == load_rig(path).name
        log = store.events(name)
    assert [at for at, _ in log] == sorted(at for at, _ in log)
    images = [plain["request_id"] for _, plain in log if plain["is"] == UpdateFirmware.__name__]
    assert images == ["request 1", "request 2"]


def test_a_rig_that_was_closed_has_its_log_in_a_snapshot_and_the_database_is_free(tmp_path):
    """Nothing is left to be applied again, nobody holds it; without the snapshot the log gives the same Inventory."""
    path = with_dcc(tmp_path, OF_A_LAB)

    async def work(rig: Rig) -> dict[str, Any]:
        await rig.dcc.enrol(rig.hub)
        with Store(database(tmp_path)) as store:
            assert len(store.kept(rig.name).events) == len(store.events(rig.name)) > 2
        return kept_as(rig)

    before = on_rig(work, path, joined=False)
    with Store(database(tmp_path)) as store, store.inventory(load_rig(path).name) as log:
        assert (log.kept().snapshot, log.kept().events) == (before, ())


def test_nothing_acknowledged_is_lost_when_the_harness_is_killed(tmp_path):
    """The process ends at once, twice: all that it said was acknowledged is there, and the next run goes on with it."""
    path = with_dcc(tmp_path, OF_A_LAB)
    for names in (("esme", "ppmid"), ("gsme",)):
        died = subprocess.run(
            [sys.executable, "-c", DIES, str(path), *names],
            stdout=subprocess.PIPE,
            text=True,
            cwd=REPOSITORY,
            check=False,
        )
        assert (died.returncode, tuple(died.stdout.split())) == (3, names)
    with Store(database(tmp_path)) as store:
        kept = store.kept(load_rig(path).name)
    assert kept.events  # no run got to its closing snapshot
    assert kept.snapshot["records"] == []

    async def work(rig: Rig) -> None:
        assert {
            rig.inventory.device(rig.device(name).eui64).status for name in ("esme", "gsme", "ppmid")
        } == {DeviceStatus.PENDING}
        assert rig.inventory.device(rig.hub.eui64).status is DeviceStatus.COMMISSIONED

    on_rig(work, path, joined=False)


def test_what_is_told_is_in_the_database_already(tmp_path):
    """Whenever the journal hears from the DCC that something was applied or answered, the log has it."""
    path = with_dcc(tmp_path, OF_A_LAB)
    seen: list[tuple[str, bool]] = []

    async def work(rig: Rig) -> None:
        dcc, remark = rig.dcc, rig.remark

        def told(source: str, news: object) -> None:
            kind = type(news).__name__
            if kind in ("Applied", "Ended"):
                of = type(news.event if kind == "Applied" else news.answer.request).__name__
                with Store(database(tmp_path)) as store:
                    seen.append((of, store.events(rig.name)[-1][1]["is"] == of))
            remark(source, news)

        rig.remark = told
        await dcc.enrol(rig.hub)
        await dcc.pre_notify(rig.device("esme"))

    on_rig(work, path, joined=False)
    assert seen == [("DeviceCommissioned", True)] * 2 + [("PreNotifyDevice", True)]


def test_an_inventory_under_other_options_is_refused_and_stays_as_it_is(tmp_path):
    """Both are named; with the options that it has, it is opened again."""
    on_rig(look, with_dcc(tmp_path, OF_A_LAB + "  options: {mp105: before}\n"), joined=False)
    with Store(database(tmp_path)) as store:
        before = store.kept(load_rig(DEVICES).name)
    said = (
        r"lab\.db: Inventory .+ other options than the rig file's: mp105 is before there and both here; go on"
    )
    with pytest.raises(RigError, match=said):
        on_rig(look, with_dcc(tmp_path, OF_A_LAB + "  options: {mp105: both}\n"), joined=False)
    with Store(database(tmp_path)) as store:
        assert store.kept(load_rig(DEVICES).name) == before
    on_rig(look, with_dcc(tmp_path, OF_A_LAB + "  options: {mp105: before}\n"), joined=False)


def test_a_locked_database_is_said_to_the_test_and_nothing_changes(tmp_path, monkeypatch):
    """Neither in it nor in the Inventory; when it is free again, the same request is taken."""
    monkeypatch.setattr("harness.rig.dcc_kept._PATIENCE", 0.01)
    path = with_dcc(tmp_path, OF_A_LAB)

    async def work(rig: Rig) -> None:
        esme = rig.device("esme")
        await rig.dcc.enrol(rig.hub)
        before = kept_as(rig)
        other = sqlite3.connect(tmp_path / "lab.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(RigError, match=r"lab\.db: is locked by another program: nothing was changed"):
            await rig.dcc.pre_notify(esme)
        assert kept_as(rig) == before
        other.close()
        assert (await rig.dcc.pre_notify(esme)).outcome is Outcome.DONE

    on_rig(work, path, joined=False)


def test_a_database_that_is_locked_while_a_device_joins_stops_the_test_and_not_the_hub(tmp_path, monkeypatch):
    """The device is on the HAN, of which the Inventory could not be told: the rig's check says why."""
    monkeypatch.setattr("harness.rig.dcc_kept._PATIENCE", 0.01)
    path = with_dcc(tmp_path, OF_A_LAB)
    joined = []

    async def work(rig: Rig) -> None:
        ppmid = rig.device("ppmid")
        await rig.dcc.enrol(rig.hub)
        await rig.dcc.pre_notify(ppmid)
        await rig.dcc.pre_notify(rig.device("esme"))
        for device in (ppmid, rig.device("esme")):
            await rig.dcc.request(UpdateDeviceLog(User(UserRole.IS), rig.hub.eui64, device.eui64))
        other = sqlite3.connect(tmp_path / "lab.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        await ppmid.power_on()
        await ppmid.until(joined=True, within=minutes(10))
        other.close()
        joined.append(rig.inventory.device(ppmid.eui64).status)
        await rig.device("esme").power_on()
        await rig.device("esme").until(joined=True, within=minutes(10))

    with pytest.raises(RigError, match="is locked by another program"):
        on_rig(work, path, joined=False)
    assert joined == [DeviceStatus.WHITELISTED]


def test_what_fails_only_when_it_is_committed_stops_the_run(tmp_path):
    """What was applied then is not kept: nothing may build on it. The next run has what was acknowledged."""
    path = with_dcc(tmp_path, OF_A_LAB)
    fails = [False]

    def refuse(connection: Connection) -> None:
        if fails[0]:
            connection.connection.rollback()  # as SQLite does when a commit fails for want of room
            raise RigError("the disk is gone")

    async def work(rig: Rig) -> dict[str, Any]:
        await rig.dcc.enrol(rig.hub)
        before = kept_as(rig)
        fails[0] = True
        with pytest.raises(RigError, match="the disk is gone"):
            await rig.dcc.pre_notify(rig.device("esme"))
        fails[0] = False
        with pytest.raises(
            RigError, match="takes nothing more until the rig is opened again: the disk is gone"
        ):
            await rig.dcc.pre_notify(rig.device("gsme"))
        return before

    event.listen(Engine, "commit", refuse)
    try:
        before = on_rig(work, path, joined=False)
    finally:
        event.remove(Engine, "commit", refuse)
    assert on_rig(look, path, joined=False) == before


def test_one_database_is_open_to_one_run_at_a_time(tmp_path):
    """A second is told who has it, and a run that could not open it does not keep it."""
    path = with_dcc(tmp_path, OF_A_LAB)
    held = r"this very process \(\d+\) has the Inventory .+ open"
    with (
        Store(database(tmp_path)) as store,
        store.inventory(load_rig(path).name),
        pytest.raises(RigError, match=held),
    ):
        on_rig(look, path, joined=False)
    on_rig(look, path, joined=False)


def test_smi_explain_reads_the_database_of_a_rig(tmp_path):
    """After a run, `harness smi explain` says of a device what the run's own Inventory did."""
    path = with_dcc(tmp_path, OF_A_LAB)

    async def work(rig: Rig) -> list[str]:
        await rig.dcc.enrol(rig.hub)
        await rig.dcc.pre_notify(rig.device("esme"))
        return rig.inventory.explain(rig.device("esme").eui64)

    lines = on_rig(work, path, joined=False)
    esme = format_eui64(load_rig(path).members["esme"].eui64)
    result = CliRunner().invoke(main, ["smi", "explain", esme, "--log", database(tmp_path)])
    assert result.exit_code == 0, result.output
    told = "".join(result.output.split())
    assert all("".join(line.split()) in told for line in lines)
    assert len(lines) > 2


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("lab.db", "dcc.database: must be the URL of a database, such as sqlite:///lab.db"),
        ("sqlite://", "dcc.database: must name the file of a SQLite database"),
        ("sqlite:///:memory:", "dcc.database: must name the file of a SQLite database"),
        ("sqlite:///nowhere/lab.db", "dcc.database: the folder of the database does not exist"),
    ],
)
def test_a_wrong_url_is_said_with_the_rig_file(tmp_path, url, said):
    """A path alone, no file, a memory that forgets, a folder that is not there."""
    with pytest.raises(RigError, match=re.escape(said)):
        load_rig(with_dcc(tmp_path, f"  database: '{url}'\n"))


def test_the_password_of_a_database_is_not_in_the_text_of_a_rig(tmp_path):
    """Nor in what is said of a key that stands beside it."""
    file = load_rig(with_dcc(tmp_path, "  database: postgresql+psycopg://lab:geheim@host/lab\n"))
    assert file.dcc.database == "postgresql+psycopg://lab:geheim@host/lab"
    assert "geheim" not in repr(file)
