"""What a lab's rig remembers from one run to the next, kept in a database through SQLAlchemy Core."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sqlalchemy import Connection, Row, Table, delete, insert, select, update

from harness.errors import LocalProtocolError, RigError
from harness.store.database import Begin, Database
from harness.store.holder import Holder
from harness.store.tables import EVENTS, HANS, INVENTORIES, RUNS, SNAPSHOTS
from harness.store.values import checked_name, checked_time, crc, read, written

# An event as it is kept: when it was applied (POSIX seconds), and the event.
KeptEvent = tuple[float, dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of an Inventory: its last snapshot, None before the first, and the events since.

    Applied to the snapshot, in order, they make the Inventory.
    """

    snapshot: dict[str, Any] | None = field(repr=False)
    events: tuple[KeptEvent, ...] = field(repr=False)


class Run(NamedTuple):
    """One run on a rig; times are POSIX seconds. One without an outcome goes on, or a crash ended it."""

    number: int
    rig: str
    started: float
    ended: float | None
    outcome: str | None


class Store:
    """A lab's database: Inventories, commissioned HANs and runs, as plain JSON values.

    `sqlite:///bench.db` is a file, which is made if it is not there, for its owner alone: HAN states hold keys. Other
    databases by their URL. What a call has returned from is kept, whatever crashes then; what raises has changed
    nothing. A store is for one thread; on SQLite it waits `patience` seconds for a lock. RigError, which never shows a
    password, for a database that cannot be reached or read, is locked, full, damaged, something else's, or of another
    schema.
    """

    def __init__(self, url: str, patience: float = 5.0) -> None:
        self._database = Database(url, patience)

    @property
    def name(self) -> str:
        """Its URL without what is secret."""
        return self._database.name

    def __repr__(self) -> str:
        return f"Store({self.name!r})"

    def __enter__(self) -> Store:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the database."""
        self._database.close()

    # --- Inventories -----------------------------------------------------------------------------------------------

    def inventories(self) -> tuple[str, ...]:
        """Return the names of all Inventories, sorted."""
        return self._names(INVENTORIES)

    def kept(self, name: str) -> Kept:
        """Return what is kept of an Inventory, whoever has it open. RigError for one that is not there."""
        with self._database.transaction(Begin.READ) as connection:
            # First the snapshot, then the log: neither goes back, so that what is written meanwhile does no harm.
            found = connection.execute(select(SNAPSHOTS).where(SNAPSHOTS.c.inventory == name)).one_or_none()
            if found is None:
                return Kept(None, self._log(connection, name, 0))
            if found.crc != crc(found.inventory, found.number, found.value):
                raise self._database.damaged(f"the snapshot of the Inventory {name}")
            return Kept(read(found.value), self._log(connection, name, found.number))

    def events(self, name: str) -> tuple[KeptEvent, ...]:
        """Return the whole log of an Inventory, also what lies before its snapshot. RigError as for `kept`."""
        with self._database.transaction(Begin.READ) as connection:
            return self._log(connection, name, 0)

    @contextmanager
    def inventory(self, name: str, take_over: bool = False) -> Iterator[InventoryLog]:
        """Open an Inventory for writing until the block ends; there is a new one if there was none of that name.

        RigError, saying who, while another has it open. Who was killed has nothing open any more; of another machine
        that cannot be known: `take_over` takes it from whoever has it, and that one can write no more.
        """
        log = InventoryLog(self, checked_name(name), self._hold(name, take_over))
        try:
            yield log
        except BaseException:  # whatever it was, the hold is given back
            # What stopped the run is what must be told; a hold that stays ends with this process.
            with suppress(RigError):
                log.close()
            raise
        log.close()

    # --- commissioned HANs -----------------------------------------------------------------------------------------

    def hans(self) -> tuple[str, ...]:
        """Return the names of all commissioned HANs, sorted."""
        return self._names(HANS)

    def han(self, name: str) -> dict[str, Any]:
        """Return the state of a commissioned HAN. RigError for one that is not there."""
        with self._database.transaction(Begin.READ) as connection:
            found = connection.execute(select(HANS).where(HANS.c.name == name)).one_or_none()
            if found is None:
                raise self._unknown(connection, "commissioned HAN", HANS, name)
            if found.crc != crc(found.name, found.value):
                raise self._database.damaged(f"the commissioned HAN {name}")
            return read(found.value)

    def keep_han(self, name: str, state: Mapping[str, Any]) -> None:
        """Keep the state of a commissioned HAN, in place of the one of that name. LocalProtocolError for no JSON."""
        value = written("the state of a HAN", state)
        with self._database.transaction(Begin.WRITE) as connection:
            connection.execute(delete(HANS).where(HANS.c.name == checked_name(name)))
            connection.execute(insert(HANS).values(name=name, value=value, crc=crc(name, value)))

    # --- runs ------------------------------------------------------------------------------------------------------

    def runs(self) -> tuple[Run, ...]:
        """Return all runs, in the order in which they began."""
        with self._database.transaction(Begin.READ) as connection:
            runs = []
            for *fields, check in connection.execute(select(RUNS).order_by(RUNS.c.number)):
                if check != crc(*fields[1:]):
                    raise self._database.damaged(f"run {fields[0]}")
                runs.append(Run._make(fields))
            return tuple(runs)

    def begin_run(self, rig: str, now: float) -> int:
        """Keep that a run begins on a rig, and return its number, by which it ends."""
        started = checked_time(now)
        check = crc(checked_name(rig), started, None, None)
        with self._database.transaction(Begin.WRITE) as connection:
            done = connection.execute(insert(RUNS).values(rig=rig, started=started, crc=check))
            assert done.inserted_primary_key is not None
            return int(done.inserted_primary_key[0])

    def end_run(self, number: int, outcome: str, now: float) -> None:
        """Keep how a run ended. LocalProtocolError for one that did not begin, or ended before."""
        ended, mine = checked_time(now), RUNS.c.number == number
        with self._database.transaction(Begin.WRITE) as connection:
            found = connection.execute(select(RUNS).where(mine).with_for_update()).one_or_none()
            if found is None or found.outcome is not None:
                raise LocalProtocolError(f"run {number} does not go on, so that it cannot end: {outcome}")
            check = crc(found.rig, found.started, ended, checked_name(outcome))
            connection.execute(update(RUNS).where(mine).values(ended=ended, outcome=outcome, crc=check))

    # --- rows ------------------------------------------------------------------------------------------------------

    def _names(self, table: Table) -> tuple[str, ...]:
        with self._database.transaction(Begin.READ) as connection:
            return tuple(sorted(connection.scalars(select(table.c.name))))

    def _unknown(self, connection: Connection, kind: str, table: Table, name: str) -> RigError:
        there = ", ".join(sorted(connection.scalars(select(table.c.name)))) or "none"
        return RigError(f"{self.name}: there is no {kind} {name!r}; there is: {there}")

    def _log(self, connection: Connection, name: str, since: int) -> tuple[KeptEvent, ...]:
        length = self._row(connection, name).length
        after = (EVENTS.c.inventory == name) & (EVENTS.c.number > since) & (EVENTS.c.number <= length)
        rows = connection.execute(select(EVENTS).where(after).order_by(EVENTS.c.number)).all()
        for number, row in enumerate(rows, since + 1):
            if row.number != number or row.crc != crc(name, number, row.at, row.value):
                raise self._database.damaged(f"event {number} of the Inventory {name}")
        if len(rows) != length - since:
            raise self._database.damaged(f"the end of the log of the Inventory {name}")
        return tuple((row.at, read(row.value)) for row in rows)

    def _row(self, connection: Connection, name: str) -> Row[Any]:
        """Return the row of an Inventory, for writing locked. RigError when there is none."""
        query = select(INVENTORIES).where(INVENTORIES.c.name == name)
        found = connection.execute(query.with_for_update() if _writes(connection) else query).one_or_none()
        if found is None:
            raise self._unknown(connection, "Inventory", INVENTORIES, name)
        if found.crc != crc(found.name, found.length, found.term, found.holder):
            raise self._database.damaged(f"the Inventory {name}")
        return found

    def _put_row(self, connection: Connection, name: str, length: int, term: int, holder: str | None) -> None:
        check = crc(name, length, term, holder)
        connection.execute(
            update(INVENTORIES)
            .where(INVENTORIES.c.name == name)
            .values(length=length, term=term, holder=holder, crc=check)
        )

    def _hold(self, name: str, take_over: bool) -> int:
        """Open an Inventory for this process, and return the term that makes all earlier ones void."""
        me = str(Holder.process(os.getpid()))
        known = select(INVENTORIES.c.name).where(INVENTORIES.c.name == name)
        with self._database.transaction(Begin.WRITE) as connection:
            if connection.scalar(known) is None:
                row = {"name": name, "length": 0, "term": 1, "holder": me, "crc": crc(name, 0, 1, me)}
                connection.execute(insert(INVENTORIES).values(row))
                return 1
            found = self._row(connection, name)
            if found.holder is not None and not take_over:
                holder = Holder.parse(found.holder)
                if holder.may_live:
                    raise RigError(
                        f"{self.name}: {holder.said} has the Inventory {name} open for writing: end that first"
                    )
            self._put_row(connection, name, found.length, found.term + 1, me)
            return int(found.term) + 1


class InventoryLog:
    """An Inventory that is open for writing: what `Store.inventory` gives.

    Apply an event first, which refuses what is wrong, then append it, or do both at once (`appending`); only then tell
    others what became of it. It begins with a snapshot, for the options of an Inventory are in no event.
    """

    def __init__(self, store: Store, name: str, term: int) -> None:
        self.name = name
        self._store = store
        self._term: int | None = term
        self._begun = False

    def kept(self) -> Kept:
        """Return what is kept of it: see `Store.kept`."""
        return self._store.kept(self.name)

    def append(self, event: Mapping[str, Any], now: float) -> int:
        """Append an event that was applied at `now` (POSIX seconds), and return its number, from 1.

        Once this has returned the event is kept. LocalProtocolError for no JSON, and before the first snapshot;
        RigError when it cannot be kept, also by whoever the Inventory was taken over from.
        """
        with self.appending(event, now) as number:
            return number

    @contextmanager
    def appending(self, event: Mapping[str, Any], now: float) -> Iterator[int]:
        """Append an event, if the block does not raise: what the block applies is kept when that has ended.

        A database that takes no event refuses it before the block begins, or, rarely, when it ends. Errors as `append`.
        """
        value, at = written("an event", event), checked_time(now)
        with self._writing() as (connection, row):
            if not self._begun:
                self._refuse_without_snapshot(connection)
            number = int(row.length) + 1
            self._store._put_row(connection, self.name, number, row.term, row.holder)
            check = crc(self.name, number, at, value)
            connection.execute(
                insert(EVENTS).values(inventory=self.name, number=number, at=at, value=value, crc=check)
            )
            yield number
        self._begun = True

    def snapshot(self, inventory: Mapping[str, Any]) -> None:
        """Keep the Inventory as it is after all its events, in place of the snapshot before; the log stays whole."""
        value = written("a snapshot", inventory)
        with self._writing() as (connection, row):
            check = crc(self.name, row.length, value)
            connection.execute(delete(SNAPSHOTS).where(SNAPSHOTS.c.inventory == self.name))
            connection.execute(
                insert(SNAPSHOTS).values(inventory=self.name, number=row.length, value=value, crc=check)
            )
        self._begun = True

    def close(self) -> None:
        """Let others write to it; one that was taken over is another's already."""
        if self._term is None:
            return
        with self._store._database.transaction(Begin.WRITE) as connection:
            row = self._store._row(connection, self.name)
            if row.term == self._term:
                self._store._put_row(connection, self.name, row.length, row.term, None)
        self._term = None

    @contextmanager
    def _writing(self) -> Iterator[tuple[Connection, Row[Any]]]:
        if self._term is None:
            raise LocalProtocolError(f"the Inventory {self.name} is no longer open for writing")
        with self._store._database.transaction(Begin.WRITE) as connection:
            row = self._store._row(connection, self.name)
            if row.term != self._term:
                by = "another, which let go of it" if row.holder is None else Holder.parse(row.holder).said
                raise RigError(f"{self._store.name}: the Inventory {self.name} was taken over by {by}")
            yield connection, row

    def _refuse_without_snapshot(self, connection: Connection) -> None:
        mine = SNAPSHOTS.c.inventory == self.name
        if connection.scalar(select(SNAPSHOTS.c.number).where(mine)) is None:
            raise LocalProtocolError(f"the Inventory {self.name} has no snapshot yet, with which it begins")


def _writes(connection: Connection) -> bool:
    return connection.get_execution_options()["begin"] is Begin.WRITE
