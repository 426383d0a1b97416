"""A database of the harness, by its URL: one connection, its transactions, and what its errors mean to a lab."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from enum import StrEnum
from typing import Any

from sqlalchemy import Connection, NullPool, create_engine, event, insert, inspect, make_url, select
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from harness.errors import LocalProtocolError, RigError
from harness.store.tables import SCHEMA, TABLES, VERSION

_SQLITE_SAYS = {
    sqlite3.SQLITE_BUSY: "is locked by another program: nothing was changed; end that program, or wait for it",
    sqlite3.SQLITE_FULL: "is full: nothing was changed; make room where it lies",
    sqlite3.SQLITE_CORRUPT: "is damaged: nothing was changed; take the last copy that was saved of it",
    sqlite3.SQLITE_NOTADB: "is no SQLite database, or a damaged one: nothing was changed",
    sqlite3.SQLITE_READONLY: "cannot be written: nothing was changed",
    sqlite3.SQLITE_CANTOPEN: "cannot be opened",
    sqlite3.SQLITE_IOERR: "cannot be read or written: nothing was changed",
}


class Begin(StrEnum):
    """How a transaction begins on SQLite.

    One that will write says so at once: a lock that is only asked for after a read can be refused without waiting.
    """

    READ = "BEGIN"
    WRITE = "BEGIN IMMEDIATE"  # https://www.sqlite.org/lang_transaction.html, 2.2
    NOT = ""  # some of SQLite's own settings cannot be made in one


class Database:
    """A database that is the harness' own. It is for one thread; SQLite waits `patience` seconds for a lock.

    RigError for one that cannot be reached or read, is something else's, or has another schema: it is unchanged then.
    """

    def __init__(self, url: str, patience: float) -> None:
        parsed = _parse_url(url)
        # A password can be among a URL's options, too: neither is in what is shown of it.
        shown = URL.create(
            parsed.drivername, parsed.username, None, parsed.host, parsed.port, parsed.database
        )
        self.name = shown.render_as_string()
        self._sqlite = parsed.get_backend_name() == "sqlite"
        if self._sqlite:
            self._make_private(parsed)
        with self._told():
            self._connection = self._connect(parsed, patience)
        try:
            self._prepare()
        except BaseException:  # whatever it was, no connection is to stay open behind it
            self.close()
            raise

    def close(self) -> None:
        """Let go of it."""
        self._connection.close()

    @contextmanager
    def transaction(self, begin: Begin) -> Iterator[Connection]:
        """Do all that the block does, or, when it raises, nothing. RigError for what the database says to it."""
        if self._connection.closed:
            raise LocalProtocolError(f"{self.name}: the store is closed")
        with self._told():
            self._connection.execution_options(begin=begin)
            with self._connection.begin():
                yield self._connection

    def damaged(self, what: str) -> RigError:
        """Return the error that says what in it is damaged."""
        return RigError(
            f"{self.name}: {what} is damaged: nothing was changed; take the last copy that was saved"
        )

    # --- how it is opened ------------------------------------------------------------------------------------------

    def _make_private(self, url: URL) -> None:
        """Make a file that only its owner can read, if there is none; what SQLite puts beside it is as private."""
        if url.database in (None, "", ":memory:"):
            return
        try:
            os.close(os.open(url.database, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except FileExistsError:
            pass
        except OSError as error:
            raise RigError(f"{self.name}: cannot be made ({error.strerror})") from error

    def _connect(self, url: URL, patience: float) -> Connection:
        # SQLAlchemy begins the transactions, not Python's sqlite3, which would do it late and not for every statement.
        options: dict[str, Any] = {}
        if self._sqlite:
            options["connect_args"] = {"timeout": patience, "isolation_level": None}
        if url.get_dialect().is_async:
            raise RigError(f"{self.name}: {url.drivername} is an asynchronous driver: take another")
        try:
            # What is kept holds keys: it is in no error and no log.
            engine = create_engine(url, poolclass=NullPool, hide_parameters=True, **options)
        except ImportError as error:
            raise RigError(f"{self.name}: its driver {error.name} is not installed") from error
        if self._sqlite:
            event.listen(engine, "connect", _set_up_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
        return engine.connect()

    def _prepare(self) -> None:
        """Make the tables where there are none. Nothing is written before it is known whose database it is."""
        with self.transaction(Begin.READ) as connection:
            if self._sqlite and connection.exec_driver_sql("PRAGMA integrity_check(1)").scalar() != "ok":
                raise self.damaged("the database")
            new = self._is_new(connection)
        if self._sqlite:
            with self.transaction(Begin.NOT) as connection:
                connection.exec_driver_sql("PRAGMA journal_mode = WAL")
        if new:
            with self.transaction(Begin.WRITE) as connection:
                if self._is_new(connection):  # still
                    TABLES.create_all(connection)
                    connection.execute(insert(VERSION).values(version=SCHEMA))

    def _is_new(self, connection: Connection) -> bool:
        there = set(inspect(connection).get_table_names())
        if not there:
            return True
        if VERSION.name not in there:
            raise RigError(
                f"{self.name}: is something else's, it has {min(there)}: give the harness a database of its own"
            )
        versions = connection.scalars(select(VERSION.c.version)).all()
        if len(versions) != 1 or (versions[0] == SCHEMA and not there >= TABLES.tables.keys()):
            raise self.damaged("the database")
        if versions[0] != SCHEMA:
            other = "an older" if versions[0] < SCHEMA else "a newer"
            raise RigError(
                f"{self.name}: has schema {versions[0]}, of {other} harness, where this one has {SCHEMA}: "
                "nothing was changed; go on with that harness, or begin a new database"
            )
        return False

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except SQLAlchemyError as error:
            cause = error.orig if isinstance(error, DBAPIError) else error
            # PostgreSQL's further lines can show the values of a row.
            text = str(cause).partition("\n")[0]
            code = getattr(cause, "sqlite_errorcode", None)
            known = (
                None if code is None else _SQLITE_SAYS.get(code & 0xFF)
            )  # the code that an extended one extends
            said = f"the database says: {text}" if known is None else f"{known} ({text})"
            raise RigError(f"{self.name}: {said}") from error
        except UnicodeDecodeError as error:  # a text of SQLite's own, which quotes the damage
            raise self.damaged("the database") from error


def _parse_url(text: str) -> URL:
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        # Neither the text is shown nor its parser's error: who knows which part of it is the password?
        raise RigError(
            "the URL of the store cannot be read: it is like sqlite:///bench.db or postgresql+psycopg://user@host/lab"
        ) from None
    if "@" in (url.host or ""):
        raise RigError("the URL of the store has two @: in a user's name or a password it is written %40")
    if url.get_backend_name() == "sqlite" and (url.query or url.host):
        raise RigError("the URL of a SQLite store is sqlite:/// and a path, with no host and no options")
    return url


def _set_up_sqlite(connection: sqlite3.Connection, _: object) -> None:
    # FULL: a commit returns when it is on the disk. https://www.sqlite.org/pragma.html#pragma_synchronous
    connection.execute("PRAGMA synchronous = FULL")


def _begin_sqlite(connection: Connection) -> None:
    begin = connection.get_execution_options()["begin"]
    if begin:
        connection.exec_driver_sql(begin)
