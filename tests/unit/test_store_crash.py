"""The lab's database through crashes, full disks and a second process: what was acknowledged is there, and no more."""

from __future__ import annotations

import itertools
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, event

from harness.errors import RigError
from harness.store.holder import Holder
from harness.store.store import InventoryLog, Kept, Store
from tests.unit.served import REPOSITORY

# Appends, with a snapshot now and then that says how much is in it, and tells of each only when it is kept.
APPENDS = """
import sys
from harness.store.store import Store
with Store(sys.argv[1]) as store, store.inventory("bench-3") as log:
    kept = log.kept()
    length = (kept.snapshot or {"length": 0})["length"] + len(kept.events)
    if kept.snapshot is None:
        log.snapshot({"length": 0})
    print("open", flush=True)
    while True:
        length = log.append({"number": length + 1, "what": "x" * 300}, float(length))
        if length % 7 == 0:
            log.snapshot({"length": length})
        print(length, flush=True)
"""
# Has the Inventory open until its input ends.
HOLDS = """
import sys
from harness.store.store import Store
with Store(sys.argv[1]) as store, store.inventory("bench-3") as log:
    print("open", flush=True)
    sys.stdin.read()
"""
# Fills the disk: no file may be longer than what argv[2] says. Then it can be again, and one more is appended.
FILLS = """
import resource, sys
from harness.errors import RigError
from harness.store.store import Store
with Store(sys.argv[1]) as store, store.inventory("bench-3") as log:
    log.snapshot({})
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), hard))
    try:
        while True:
            length = log.append({"what": "x" * 3000}, 1.0)
    except RigError as error:
        print(length, error)
    assert len(log.kept().events) == length
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert log.append({"what": "x" * 3000}, 1.0) == length + 1
"""


@contextmanager
def process(script: str, *args: str) -> Iterator[subprocess.Popen[str]]:
    """Run a script; killed, if it still runs at the end."""
    command = [sys.executable, "-c", script, *args]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=REPOSITORY
    ) as child:
        try:
            yield child
        finally:
            child.kill()


def lines_of(child: subprocess.Popen[str]) -> Iterator[str]:
    """Return the lines that it prints, as they come."""
    assert child.stdout is not None
    return iter(child.stdout.readline, "")


def test_what_was_acknowledged_before_a_kill_is_there_after_it(tmp_path):
    """Five crashes in the middle of appends, one after the other on one database: each goes on where the last ended."""
    url, rng, acknowledged = f"sqlite:///{tmp_path}/bench.db", random.Random(5), 0
    for _ in range(5):
        with process(APPENDS, url) as child:
            lines = lines_of(child)
            assert next(lines) == "open\n"  # nobody must be asked whether the dead one is dead
            for _ in range(rng.randrange(1, 120)):
                next(lines)
            child.kill()
            printed = [int(line) for line in lines if line.endswith("\n")]
            assert child.wait() == -signal.SIGKILL
        with Store(url) as store:
            events = store.events("bench-3")
            assert len(events) >= max([acknowledged, *printed])
            assert [one["number"] for _, one in events] == list(range(1, len(events) + 1))
            kept = store.kept("bench-3")
            assert kept.snapshot is not None
            assert events[kept.snapshot["length"] :] == kept.events
            acknowledged = len(events)
    assert acknowledged > 100


def test_a_power_cut_at_any_octet_of_an_append_leaves_all_before_it(tmp_path):
    """The log beside the file, cut at any length between two acknowledgements: the first is there."""
    db, wal = tmp_path / "bench.db", tmp_path / "bench.db-wal"
    cut, found = tmp_path / "cut.db", set()
    with Store(f"sqlite:///{db}") as store, store.inventory("bench-3") as log:
        log.snapshot({})
        for number in range(1, 6):
            before = wal.stat().st_size
            log.append({"what": "x" * 3000}, 1.0)
            data = wal.read_bytes()
            for length in (*range(before, len(data), 509), len(data)):
                for beside in ("cut.db-wal", "cut.db-shm"):
                    (tmp_path / beside).unlink(missing_ok=True)
                shutil.copy(db, cut)
                (tmp_path / "cut.db-wal").write_bytes(data[:length])
                with Store(f"sqlite:///{cut}") as after:
                    found.add((number, len(after.events("bench-3")), length == len(data)))
    whole = {(number, number, True) for number in range(1, 6)}
    assert found == whole | {(number, number - 1, False) for number in range(1, 6)}


def test_every_commit_waits_for_the_disk(tmp_path):
    """WAL with synchronous FULL: a commit returns when it would outlive a power cut; NORMAL would not say so."""
    settings: list[tuple[object, ...]] = []

    def remember(connection):
        if connection.get_execution_options()["begin"] == "BEGIN IMMEDIATE":
            names = ("journal_mode", "synchronous")
            settings.append(tuple(connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names))

    event.listen(Engine, "begin", remember)
    try:
        with Store(f"sqlite:///{tmp_path}/bench.db") as store, store.inventory("bench-3") as log:
            log.snapshot({})
            log.append({}, 1.0)
    finally:
        event.remove(Engine, "begin", remember)
    assert settings == [("wal", 2)] * 5  # the tables, open, snapshot, append, close


def append_until_refused(log: InventoryLog, said: str) -> int:
    """Append until the database refuses it with these words, and return how many events it took."""
    for number in itertools.count():
        try:
            log.append({"what": "x" * 3000}, 1.0)
        except RigError as error:
            if said in str(error):
                return number
            raise
    raise AssertionError


# --- full ----------------------------------------------------------------------------------------------------------


def test_a_full_database_is_said_and_nothing_changed(tmp_path):
    """SQLITE_FULL by a limit on its pages, as on a disk without room; where there is room again, the log goes on."""
    url = f"sqlite:///{tmp_path}/bench.db"

    def limit(connection, _):
        connection.execute("PRAGMA max_page_count = 30")

    with Store(url) as store:
        store.keep_han("bench-3", {"before": True})
    event.listen(Engine, "connect", limit)
    try:
        with Store(url) as store, store.inventory("bench-3") as log:
            log.snapshot({"length": 0})
            appended = append_until_refused(log, "is full: nothing was changed; make room where it lies")
            before = log.kept()
            assert len(before.events) == appended > 2
            with pytest.raises(RigError, match="is full"):
                log.snapshot({"length": appended, "what": "x" * 50_000})
            with pytest.raises(RigError, match="is full"):
                store.keep_han("bench-3", {"what": "x" * 50_000})
            assert (log.kept(), store.han("bench-3")) == (before, {"before": True})
    finally:
        event.remove(Engine, "connect", limit)
    with Store(url) as store, store.inventory("bench-3") as log:
        assert log.append({}, 2.0) == appended + 1
        assert log.kept() == Kept(before.snapshot, (*before.events, (2.0, {})))


def test_a_file_that_cannot_grow_is_said_and_nothing_changed(tmp_path):
    """A write that the system refuses in the middle of a run; and the log goes on when it can."""
    with process(FILLS, f"sqlite:///{tmp_path}/bench.db", "200000") as child:
        output, _ = child.communicate()
        assert child.returncode == 0
    length, _, said = output.partition(" ")
    assert int(length) > 2
    assert (
        "bench.db: cannot be read or written: nothing was changed" in said or "is full: nothing was" in said
    )


# --- two at once ---------------------------------------------------------------------------------------------------


def test_a_second_process_is_told_who_has_the_inventory_open_and_reads_meanwhile(tmp_path):
    """Other Inventories, HANs and runs are open to all; and when the first has ended, this one."""
    url = f"sqlite:///{tmp_path}/bench.db"
    with process(HOLDS, url) as child:
        assert next(lines_of(child)) == "open\n"
        with Store(url) as store:
            with pytest.raises(
                RigError, match=rf"process {child.pid} on .+ has the Inventory bench-3 open for writing"
            ):
                store.inventory("bench-3").__enter__()
            assert store.kept("bench-3") == Kept(None, ())
            with store.inventory("bench-4") as log:
                log.snapshot({})
            child.communicate()
            with store.inventory("bench-3") as log:
                log.snapshot({})


def test_whoever_an_inventory_was_taken_over_from_can_write_no_more(tmp_path):
    """It may not know, being on another machine, and its late append must not get between those of the other."""
    url = f"sqlite:///{tmp_path}/bench.db"
    with Store(url) as first, Store(url) as second:
        with first.inventory("bench-3") as old:
            old.snapshot({})
            old.append({"by": "old"}, 1.0)
            with pytest.raises(RigError, match=r"this very process \(\d+\) has the Inventory bench-3 open"):
                second.inventory("bench-3").__enter__()
            with second.inventory("bench-3", take_over=True) as new:
                new.append({"by": "new"}, 2.0)
                for write in (lambda: old.append({"by": "old"}, 3.0), lambda: old.snapshot({"by": "old"})):
                    with pytest.raises(RigError, match="bench-3 was taken over by this very process"):
                        write()
                old.close()
                new.append({"by": "new"}, 4.0)
        assert first.kept("bench-3") == Kept(
            {}, ((1.0, {"by": "old"}), (2.0, {"by": "new"}), (4.0, {"by": "new"}))
        )


@pytest.mark.parametrize(
    ("part", "lives"), [("none", True), ("began", False), ("boot", False), ("machine", True)]
)
def test_a_pid_that_is_used_again_is_not_taken_for_the_one_that_had_it(tmp_path, monkeypatch, part, lives):
    """Nor is one from before the machine was restarted; of another machine's processes nothing is known."""
    url = f"sqlite:///{tmp_path}/bench.db"
    mine = Holder.process(1)
    other = mine if part == "none" else mine._replace(**{part: "other"})
    monkeypatch.setattr(Holder, "process", classmethod(lambda cls, pid: other))
    with Store(url) as store, store.inventory("bench-3"):
        monkeypatch.undo()
        if lives:
            said = rf"process 1 on {other.machine} has the Inventory bench-3 open"
            with pytest.raises(RigError, match=said):
                store.inventory("bench-3").__enter__()
        else:
            with store.inventory("bench-3") as log:
                log.snapshot({})


def test_a_database_that_another_program_has_locked_is_said_and_nothing_changed(tmp_path):
    """Bounded by the store's patience; what only reads is not held up."""
    url = f"sqlite:///{tmp_path}/bench.db"
    with Store(url, patience=0.01) as store, store.inventory("bench-3") as log:
        log.snapshot({})
        other = sqlite3.connect(tmp_path / "bench.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        for write in (
            lambda: log.append({}, 1.0),
            lambda: log.snapshot({"later": True}),
            lambda: store.keep_han("bench-3", {}),
            lambda: store.begin_run("bench-3", 1.0),
            lambda: store.inventory("bench-4").__enter__(),
        ):
            with pytest.raises(RigError) as caught:
                write()
            assert str(caught.value).startswith(f"{url}: is locked by another program: nothing was changed;")
        assert store.kept("bench-3") == Kept({}, ())
        other.execute("ROLLBACK")
        other.close()
        assert (store.inventories(), store.hans(), store.runs()) == (("bench-3",), (), ())
        assert log.append({}, 1.0) == 1


def test_a_database_that_is_locked_whole_cannot_be_opened(tmp_path):
    """A program that lets nobody read either: a new file, before it is anyone's, too."""
    for name in ("old.db", "new.db"):
        url = f"sqlite:///{tmp_path}/{name}"
        if name == "old.db":
            Store(url).close()
        other = sqlite3.connect(tmp_path / name, isolation_level=None)
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(RigError, match=f"{name}: is locked by another program"):
            Store(url, patience=0.01)
        other.close()
        Store(url).close()


def test_what_stopped_the_run_is_told_though_the_database_is_locked_then(tmp_path):
    """The Inventory stays this process' then, and ends with it."""
    url = f"sqlite:///{tmp_path}/bench.db"
    other = sqlite3.connect(tmp_path / "bench.db", isolation_level=None)
    with Store(url, patience=0.01) as store:
        opened = store.inventory("bench-3")
        opened.__enter__().snapshot({})
        other.execute("BEGIN IMMEDIATE")
        stopped = ZeroDivisionError()
        assert not opened.__exit__(ZeroDivisionError, stopped, None)
        other.close()
        with pytest.raises(RigError, match="this very process"):
            store.inventory("bench-3").__enter__()


def test_many_processes_that_make_one_database_at_once_all_get_it(tmp_path):
    """The first run of a lab may be several at once."""
    script = HOLDS.replace('"bench-3"', "sys.argv[2]")
    url = f"sqlite:///{tmp_path}/bench.db"
    names = [f"bench-{number}" for number in range(6)]
    command = [sys.executable, "-c", script, url]
    children = [
        subprocess.Popen([*command, name], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, cwd=REPOSITORY)
        for name in names
    ]
    assert [child.communicate()[0] for child in children] == [b"open\n"] * len(names)
    with Store(url) as store:
        assert list(store.inventories()) == names
