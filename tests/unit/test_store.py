"""The lab's database: what is kept comes back equal; a database that cannot be used is refused and stays as it was."""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RigError
from harness.smi.inventory import Inventory
from harness.smi.plain import event_from_plain, event_to_plain, from_plain, to_plain
from harness.store.store import Kept, Run, Store
from tests.unit.test_smi_sequences import OPTIONS, STEPS, begin

EMPTY = {"records": []}
HAN = {"format": "harness.commissioned/1", "rig": "bench-3", "members": {"hub": {"node": {"key": "5A" * 16}}}}


def url_of(path: Path) -> str:
    """Return the URL of a SQLite file."""
    return f"sqlite:///{path}"


def filled(path: Path, events: int = 40) -> str:
    """Make a database with an Inventory, a HAN and a run, closed, and return its URL."""
    with Store(url_of(path)) as store:
        with store.inventory("bench-3") as log:
            log.snapshot(EMPTY)
            for number in range(events):
                log.append({"is": "DeviceJoined", "device": number}, float(number))
        store.keep_han("bench-3", HAN)
        store.end_run(store.begin_run("bench-3", 5.0), "passed", 9.0)
    return url_of(path)


def everything(url: str) -> list[object]:
    """Return all that is kept."""
    with Store(url, patience=0.05) as store:
        inventories = [(name, store.kept(name), store.events(name)) for name in store.inventories()]
        return [inventories, [(name, store.han(name)) for name in store.hans()], store.runs()]


def refusal(url: str) -> str:
    """Return what a store says that cannot be opened or read."""
    with pytest.raises(RigError) as caught:
        everything(url)
    return str(caught.value)


def with_schema(path: Path, version: int) -> str:
    """Make a database of another schema, which may have other columns, and return its URL."""
    url = filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE harness_schema SET version = ?", (version,))
        connection.execute("ALTER TABLE harness_events DROP COLUMN crc")
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    return url


# --- what is kept --------------------------------------------------------------------------------------------------


@given(OPTIONS, STEPS, st.lists(st.integers(0, 60), max_size=3))
@settings(max_examples=60, deadline=None)
def test_an_inventory_comes_back_equal_from_its_snapshot_and_log_and_from_its_whole_log(
    options, steps, snapshots
):
    """Whatever happened to it, and wherever a snapshot was taken; also in another run, with the log opened anew."""
    world = begin(options)
    for step in steps:
        world.step(step)
    applied = Inventory(options)
    with Store("sqlite://") as store:
        with store.inventory("bench-3") as log:
            log.snapshot(to_plain(applied))
            for number, (now, event) in enumerate(world.log):
                applied.apply(event, now)
                assert log.append(event_to_plain(event), now) == number + 1
                if number in snapshots:
                    log.snapshot(to_plain(applied))
        with store.inventory("bench-3") as log:
            kept = log.kept()
        again, from_start = from_plain(kept.snapshot), Inventory(options)
        for inventory, events in ((again, kept.events), (from_start, store.events("bench-3"))):
            for now, plain in events:
                inventory.apply(event_from_plain(plain), now)
        assert len(kept.events) == len(world.log) - max(
            (n + 1 for n in snapshots if n < len(world.log)), default=0
        )
    assert (
        json.dumps(to_plain(again))
        == json.dumps(to_plain(world.inventory))
        == json.dumps(to_plain(from_start))
    )


JSON = st.dictionaries(
    st.text(),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=8,
    ),
    max_size=4,
)  # fmt: skip


@given(JSON, st.floats(allow_nan=False, allow_infinity=False))
@example({"\0": "\ud800", "a": [2**70, 5e-324]}, -0.0)
@settings(max_examples=60, deadline=None)
def test_any_json_value_comes_back_with_its_time(value, now):
    """Integers past 64 bits, NUL and lone surrogates in texts, subnormal times and minus zero among them."""
    with Store("sqlite://") as store:
        with store.inventory("bench-3") as log:
            log.snapshot(value)
            log.append(value, now)
        store.keep_han("bench-3", value)
        assert store.kept("bench-3") == Kept(value, ((now, value),))
        assert store.han("bench-3") == value


def test_inventories_hans_and_runs_are_there_in_the_next_run(tmp_path):
    """Each by its name; a run that never ended has no outcome."""
    url = filled(tmp_path / "bench.db", events=2)
    with Store(url) as store, store.inventory("bench-4") as log:
        log.snapshot(EMPTY)
        store.keep_han("bench-3", HAN | {"rig": "bench-3b"})
        store.begin_run("bench-4", 20.0)
    with Store(url) as store:
        assert store.inventories() == ("bench-3", "bench-4")
        assert [now for now, _ in store.kept("bench-3").events] == [0.0, 1.0]
        assert store.kept("bench-4") == Kept(EMPTY, ())
        assert (store.hans(), store.han("bench-3")["rig"]) == (("bench-3",), "bench-3b")
        assert store.runs() == (
            Run(1, "bench-3", 5.0, 9.0, "passed"), Run(2, "bench-4", 20.0, None, None)
        )  # fmt: skip
        with pytest.raises(LocalProtocolError, match="run 1 does not go on, so that it cannot end: failed"):
            store.end_run(1, "failed", 30.0)


def test_what_is_not_there_is_an_error_that_says_what_is(tmp_path):
    """A misspelt name does not read as an empty Inventory, or a HAN that was never commissioned."""
    with Store(filled(tmp_path / "bench.db")) as store:
        for ask, kind in (
            (store.kept, "Inventory"),
            (store.events, "Inventory"),
            (store.han, "commissioned HAN"),
        ):
            with pytest.raises(RigError, match=f"there is no {kind} 'bench-8'; there is: bench-3$"):
                ask("bench-8")


def test_a_log_begins_with_a_snapshot(tmp_path):
    """The options of an Inventory are in its snapshot and in no event: a log alone could not be applied again."""
    with Store("sqlite://") as store, store.inventory("bench-3") as log:
        with pytest.raises(LocalProtocolError, match="has no snapshot yet"):
            log.append({"is": "TimePassed"}, 1.0)
        assert log.kept() == Kept(None, ())


@pytest.mark.parametrize(
    "value", [{"a": float("nan")}, {"a": b"key"}, {"a": {1, 2}}, {"a": object()}, {("a",): 1}]
)
def test_what_is_no_json_is_refused_without_being_shown(value):
    """It might be a key; and what could not come back equal is not kept."""
    with Store("sqlite://") as store, store.inventory("bench-3") as log:
        log.snapshot(EMPTY)
        for keep in (
            log.snapshot,
            lambda value: log.append(value, 1.0),
            lambda value: store.keep_han("b", value),
        ):
            with pytest.raises(
                LocalProtocolError, match=r"^(a snapshot|an event|the state of a HAN) is no JSON"
            ):
                keep(value)
        assert (log.kept(), store.hans()) == (Kept(EMPTY, ()), ())


@pytest.mark.parametrize("name", ["", "a\nb", "a\0b", "\ud800", "x" * 101])
def test_a_name_can_be_printed(name):
    """It stands in messages and on command lines."""
    with Store("sqlite://") as store:
        for use in (lambda: store.inventory(name).__enter__(), lambda: store.keep_han(name, {})):
            with pytest.raises(LocalProtocolError, match="is no name"):
                use()
        assert store.inventories() == store.hans() == ()


def test_nothing_is_appended_after_the_block_or_at_no_time():
    """A log that was let go of may be another's."""
    with Store("sqlite://") as store:
        with store.inventory("bench-3") as log:
            log.snapshot(EMPTY)
            with pytest.raises(LocalProtocolError, match="nan is no time"):
                log.append({}, float("nan"))
        with pytest.raises(LocalProtocolError, match="no longer open for writing"):
            log.append({}, 1.0)
        assert store.kept("bench-3") == Kept(EMPTY, ())
    with pytest.raises(LocalProtocolError, match="the store is closed"):
        store.kept("bench-3")


def test_only_its_owner_can_read_a_new_database(tmp_path):
    """HAN states hold keys; the log beside the file holds what the file will."""
    path = tmp_path / "bench.db"
    with Store(url_of(path)) as store:
        store.keep_han("bench-3", HAN)
        modes = {one.name: one.stat().st_mode & 0o777 for one in tmp_path.iterdir()}
        assert modes == dict.fromkeys(("bench.db", "bench.db-wal", "bench.db-shm"), 0o600)


def test_no_key_is_in_an_error_or_a_repr(tmp_path):
    """A HAN state that the database refuses is not in what it says, nor in what that came from."""
    with Store(url_of(tmp_path / "bench.db")) as store:
        with sqlite3.connect(tmp_path / "bench.db") as connection:
            connection.execute(
                "CREATE TRIGGER t BEFORE INSERT ON harness_hans BEGIN SELECT RAISE(FAIL, 'no'); END"
            )
        connection.close()
        with pytest.raises(RigError) as caught:
            store.keep_han("bench-3", HAN)
        assert "5A5A" not in f"{caught.value} {caught.value.__cause__}"
        assert "5A5A" not in repr(Kept(HAN, ((1.0, HAN),)))


# --- databases that cannot be used ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("version", "other"), [(0, "an older"), (2, "a newer")])
def test_another_schema_is_refused_with_what_to_do_and_stays_as_it_was(tmp_path, version, other):
    """Whatever its tables look like: nothing of them is read before the number is known to be ours."""
    path = tmp_path / "bench.db"
    url = with_schema(path, version)
    before = path.read_bytes()
    assert refusal(url) == (
        f"{url}: has schema {version}, of {other} harness, where this one has 1: "
        "nothing was changed; go on with that harness, or begin a new database"
    )
    assert path.read_bytes() == before


def test_a_database_of_something_else_is_refused_and_stays_as_it_was(tmp_path):
    """A path mistaken for another must not get our tables."""
    path = tmp_path / "cookies.sqlite"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cookies (host TEXT)")
    connection.close()
    before = path.read_bytes()
    assert "is something else's, it has cookies" in refusal(url_of(path))
    assert path.read_bytes() == before


def test_what_is_no_database_is_refused_and_stays_as_it_was(tmp_path):
    """A rig file, say."""
    path = tmp_path / "bench.yaml"
    path.write_text("name: bench-3\n" * 100, encoding="utf-8")
    assert "is no SQLite database, or a damaged one: nothing was changed" in refusal(url_of(path))
    assert path.read_text(encoding="utf-8") == "name: bench-3\n" * 100


def test_a_damaged_database_is_refused_or_the_damage_hit_nothing(tmp_path):
    """One octet anywhere in the file: an error that names the database, or all that was kept, and never less."""
    path = tmp_path / "bench.db"
    url = filled(path)
    whole, kept = path.read_bytes(), everything(url)
    rng, refusals = random.Random(20), []
    for _ in range(150):
        data = bytearray(whole)
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        path.write_bytes(data)
        with suppress(RigError):
            assert everything(url) == kept
            continue
        refusals.append(refusal(url))
        for beside in ("bench.db-wal", "bench.db-shm"):
            (tmp_path / beside).unlink(missing_ok=True)
    assert len(refusals) > 15
    assert all(said.startswith(f"{url}: ") for said in refusals)


def test_a_database_that_was_cut_short_is_refused(tmp_path):
    """At any page, and within one."""
    path = tmp_path / "bench.db"
    url = filled(path)
    whole = path.read_bytes()
    for length in (50, 1000, 4096, 4097, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:length])
        assert refusal(url).startswith(f"{url}: ")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        ("UPDATE harness_events SET value = '{}' WHERE number = 3", "event 3 of the Inventory bench-3"),
        ("UPDATE harness_events SET at = 3.5 WHERE number = 3", "event 3 of the Inventory bench-3"),
        ("DELETE FROM harness_events WHERE number = 3", "event 3 of the Inventory bench-3"),
        ("DELETE FROM harness_events WHERE number = 40", "the end of the log of the Inventory bench-3"),
        ("UPDATE harness_inventories SET length = 39", "the Inventory bench-3"),
        ("UPDATE harness_snapshots SET number = 40", "the snapshot of the Inventory bench-3"),
        ("UPDATE harness_hans SET value = '{}'", "the commissioned HAN bench-3"),
        ("UPDATE harness_runs SET outcome = 'failed'", "run 1"),
        ("DELETE FROM harness_schema", "the database"),
        ("DROP TABLE harness_hans", "the database"),
    ],
)
def test_damage_that_the_database_cannot_see_is_named(tmp_path, spoil, named):
    """A value, a time, an event that is gone: each row has a check over it, and the Inventory the length of its log."""
    path = tmp_path / "bench.db"
    url = filled(path)
    with sqlite3.connect(path) as connection:
        connection.execute(spoil)
    connection.close()
    assert (
        refusal(url) == f"{url}: {named} is damaged: nothing was changed; take the last copy that was saved"
    )


def test_a_place_that_is_not_there_is_said(tmp_path):
    """A folder that is missing, a folder in place of a file."""
    assert "cannot be made (No such file or directory)" in refusal(url_of(tmp_path / "gone" / "bench.db"))
    assert "cannot be opened" in refusal(url_of(tmp_path))


# --- URLs ----------------------------------------------------------------------------------------------------------

SECRET = "hunter2"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        (f"bench.db?{SECRET}", "is like sqlite:///bench.db"),
        ("", "is like sqlite:///bench.db"),
        (f"postgresql://lab:{SECRET}@db:port/lab", "is like sqlite:///bench.db"),
        (f"postgresql://lab:p@{SECRET}@db/lab", "it is written %40"),
        (f"sqlite:///bench.db?key={SECRET}", "with no host and no options"),
        (f"sqlite://{SECRET}/bench.db", "with no host and no options"),
        (f"nosuch://lab:{SECRET}@db/lab", "nosuch://lab@db/lab: the database says: Can't load plugin"),
        (
            f"oracle+cx_oracle://lab:{SECRET}@db/lab?a={SECRET}",
            "oracle+cx_oracle://lab@db/lab: its driver cx_Oracle",
        ),
        ("sqlite+aiosqlite://", "is an asynchronous driver"),
    ],
)
def test_a_url_that_cannot_be_used_is_refused_without_its_password(url, said):
    """Nor do the errors that it came from show it."""
    with pytest.raises(RigError) as caught:
        Store(url)
    assert said in str(caught.value)
    causes = itertools.takewhile(bool, (caught.value, caught.value.__cause__))
    assert SECRET not in " ".join(map(str, causes))
