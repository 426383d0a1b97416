"""The Inventory of a rig, kept in the lab's database from one run to the next."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import fields

from harness.errors import LocalProtocolError, RigError
from harness.smi.inventory import Inventory
from harness.smi.options import Options
from harness.smi.plain import event_from_plain, event_to_plain, from_plain, to_plain
from harness.smi.requests import Distribution, ServiceRequest
from harness.smi.responses import Event
from harness.store.store import InventoryLog, Store

_PATIENCE = 5.0  # seconds for a lock, in which the rig stands still


class KeptInventory:
    """The Inventory of a name in a database, open for writing; a new one if there is none.

    Whatever is applied to it is kept before anybody is told what comes of it. RigError, from whatever applies
    something, when the database does not take it, and nothing has changed then; from here, for a database that cannot
    be used, whose Inventory has other options, or which another has open.
    """

    def __init__(self, url: str, name: str, options: Options) -> None:
        self._ahead = ""
        with ExitStack() as stack:
            store = stack.enter_context(Store(url, _PATIENCE))
            self._log: InventoryLog = stack.enter_context(store.inventory(name))
            self._place = f"{store.name}: Inventory {name}"
            kept = self._log.kept()
            self.is_new = kept.snapshot is None
            if kept.snapshot is None:
                self.inventory = Inventory(options)
                self._log.snapshot(to_plain(self.inventory))
            else:
                try:
                    self.inventory = from_plain(kept.snapshot)
                    for at, plain in kept.events:
                        self.inventory.apply(event_from_plain(plain), at)
                    log = [(at, event_from_plain(plain)) for at, plain in store.events(name)]
                except LocalProtocolError as error:
                    raise RigError(f"{self._place}: {error}") from error
                self._refuse_other(options)
            events = [] if self.is_new else log
            self.last = max((at for at, _ in events), default=0.0)
            """When the last thing was applied, in POSIX seconds; 0: nothing was."""
            self.distributions = sum(isinstance(event, Distribution) for _, event in events)
            """How many distributions of images were requested so far."""
            self._stack = stack.pop_all()
        self.inventory.keeping = self._keeping

    def _refuse_other(self, options: Options) -> None:
        kept = self.inventory.options
        pairs = [(one.name, getattr(kept, one.name), getattr(options, one.name)) for one in fields(Options)]
        differing = [
            f"{name} is {there} there and {here} here" for name, there, here in pairs if there != here
        ]
        if differing:
            raise RigError(
                f"{self._place} is kept under other options than the rig file's: {', '.join(differing)}; "
                "go on with those, or begin a new database"
            )

    @contextmanager
    def _keeping(self, event: Event | ServiceRequest, now: float) -> Iterator[None]:
        if self._ahead:
            raise RigError(f"{self._place}: takes nothing more until the rig is opened again: {self._ahead}")
        applied = False
        try:
            with self._log.appending(event_to_plain(event), now):
                yield
                applied = True
        except RigError as error:
            # Refused only when it had been applied: what is kept does not have it, and nothing may build on it.
            if applied:
                self._ahead = str(error)
            raise

    def close(self) -> None:
        """Keep a snapshot, which saves the next run its log, and let go of the database. RigError if it cannot."""
        with self._stack:
            self.inventory.keeping = None
            if not self._ahead:
                self._log.snapshot(to_plain(self.inventory))
