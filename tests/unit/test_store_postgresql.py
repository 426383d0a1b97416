"""The lab's database on a PostgreSQL server of its own making: another database by its URL alone."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.errors import RigError
from harness.store.store import Kept, Run, Store

psycopg = pytest.importorskip("psycopg", reason="psycopg is not installed")
if shutil.which("initdb") is None or shutil.which("pg_ctl") is None:
    pytest.skip("initdb and pg_ctl are not installed", allow_module_level=True)

KEY = "5A" * 16


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """Return the folder of the socket of a server with the user lab, whose password is hunter2."""
    # A server refuses to run as root, and another user gets into none of pytest's folders.
    user = "postgres" if os.getuid() == 0 else None
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        (home / "password").write_text("hunter2\n", encoding="utf-8")
        if user is not None:
            shutil.chown(home, user)

        def run(*command: str | Path) -> None:
            subprocess.run(command, check=True, user=user, cwd=home, stdout=subprocess.DEVNULL)

        data = home / "data"
        run("initdb", "-D", data, "-U", "lab", "-A", "scram-sha-256", f"--pwfile={home}/password")
        options = f"-c listen_addresses='' -c unix_socket_directories='{home}'"
        run("pg_ctl", "-D", data, "-w", "-l", home / "log", "-o", options, "start")
        yield name
        run("pg_ctl", "-D", data, "-w", "-m", "immediate", "stop")


@pytest.fixture
def url(server: str, request: pytest.FixtureRequest) -> str:
    """Return the URL of an empty database."""
    name = f"lab_{zlib.crc32(request.node.name.encode())}"
    with psycopg.connect(
        host=server, user="lab", password="hunter2", dbname="postgres", autocommit=True
    ) as admin:
        admin.execute(f"CREATE DATABASE {name}")
    return f"postgresql+psycopg://lab:hunter2@/{name}?host={server}"


def test_what_is_kept_comes_back_in_the_next_run(url):
    """Any JSON value and any time, NUL and lone surrogates among them; HANs and runs."""
    value = {"a": [1, 2**70, 0.1, None, "\0\ud800"], "é": {}}
    for number in (1, 2):
        with Store(url) as store:
            with store.inventory("bench-3") as log:
                if number == 1:
                    log.snapshot(value)
                assert log.append(value, 0.1 * number) == number
            store.keep_han("bench-3", {"number": number})
            store.end_run(store.begin_run("bench-3", 1.0), "passed", 5e-324)
    with Store(url) as store:
        assert store.kept("bench-3") == Kept(value, ((0.1, value), (0.2, value)))
        assert store.han("bench-3") == {"number": 2}
        assert store.runs() == tuple(Run(number, "bench-3", 1.0, 5e-324, "passed") for number in (1, 2))


def test_a_second_writer_is_told_and_the_one_it_takes_over_from_can_write_no_more(url):
    """As on SQLite: there is one way to hold an Inventory."""
    with Store(url) as first, Store(url) as second, first.inventory("bench-3") as old:
        old.snapshot({})
        with pytest.raises(RigError, match="has the Inventory bench-3 open for writing"):
            second.inventory("bench-3").__enter__()
        with second.inventory("bench-3", take_over=True) as new:
            new.append({"by": "new"}, 1.0)
            with pytest.raises(RigError, match="was taken over by"):
                old.append({"by": "old"}, 2.0)
            assert first.kept("bench-3").events == ((1.0, {"by": "new"}),)


def test_a_connection_that_the_server_ends_loses_nothing_and_is_made_again(url):
    """An error in between; what was appended before is there, and the log goes on under its hold."""
    with Store(url) as store, store.inventory("bench-3") as log:
        log.snapshot({})
        log.append({}, 1.0)
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid <> pg_backend_pid()"
            )
        with pytest.raises(RigError, match="the database says: "):
            log.append({}, 2.0)
        assert log.append({}, 3.0) == 2
        assert [at for at, _ in log.kept().events] == [1.0, 3.0]


def test_errors_show_neither_the_password_nor_a_key(url):
    """A wrong password, a database that is not there, a row that the server refuses."""
    for wrong in (url.replace("hunter2", "hunter3"), url.replace("/lab_", "/no_")):
        with pytest.raises(RigError, match=r"^postgresql\+psycopg://lab@/\w+: the database says: ") as caught:
            Store(wrong)
        assert "hunter" not in f"{caught.value} {caught.value.__cause__}"
    with Store(url) as store:
        with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
            admin.execute("ALTER TABLE harness_hans ADD CHECK (length(value) < 20)")
        with pytest.raises(RigError) as caught:
            store.keep_han("bench-3", {"key": KEY})
        assert KEY not in str(caught.value)


@pytest.mark.parametrize(("version", "other"), [(0, "an older"), (2, "a newer")])
def test_another_schema_and_something_elses_database_are_refused(url, version, other):
    """As on SQLite."""
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as admin:
        admin.execute("CREATE TABLE cookies (host TEXT)")
        with pytest.raises(RigError, match="is something else's, it has cookies"):
            Store(url)
        admin.execute("DROP TABLE cookies")
        Store(url).close()
        admin.execute(f"UPDATE harness_schema SET version = {version}")
        with pytest.raises(RigError, match=f"has schema {version}, of {other} harness, where this one has 1"):
            Store(url)
