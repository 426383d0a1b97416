"""Runs a behaviour on an event loop: its deadlines, its messages, its events, and the tasks of its carrier."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from harness.radio.link_keys import LinkKeys
from harness.radio.sending import NOT_SENT, reason_of
from harness.wire.application import ApsMessage, Behaviour, LinkKeyEstablished, LinkKeyRestored

# How long one attempt to open a port and start its NCP may take, in seconds: bellows alone spends 3 resets of 2.5 s
# on a port where nothing answers.
START_TIMEOUT = 30.0
RESTART_ATTEMPTS = 5


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """A message of the behaviour did not reach its destination, for `reason`."""

    message: ApsMessage
    reason: str


@dataclass(frozen=True, slots=True)
class LinkKeyNotStored:
    """The NCP does not have the link key that it should have with `partner`, for `reason`: it uses the one before."""

    partner: int
    reason: str


@dataclass(frozen=True, slots=True)
class RadioLost:
    """The NCP stopped answering or reset by itself, for `reason`; the carrier starts it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class RadioRestarted:
    """The NCP runs the HAN again."""


class Runner:
    """What all carriers over an NCP do with a behaviour.

    Each of its messages is given to `send`, in a task of its own. `on_event` gets `(seconds, event)`; seconds count
    from `begin`. A `LinkKeyEstablished` and a `LinkKeyRestored` are obeyed by `keys`. What a task raises is reported as
    an event.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        keys: LinkKeys,
        send: Callable[[ApsMessage], Coroutine[Any, Any, None]],
        on_event: Callable[[float, object], None],
    ) -> None:
        self._behaviour = behaviour
        self._keys = keys
        self._send = send
        self._on_event = on_event
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._origin = 0.0
        self._awake = False

    def begin(self) -> None:
        """Let seconds count from now."""
        self._origin = asyncio.get_running_loop().time()

    def wake(self) -> None:
        """Keep the behaviour's deadlines from now on."""
        self._awake = True
        self.run([])

    def sleep(self) -> None:
        """Keep no deadlines until `wake`."""
        self._awake = False
        self._stop_timer()

    def stop(self) -> None:
        """End everything that is under way."""
        self.sleep()
        for task in list(self._tasks):
            task.cancel()

    def now(self) -> float:
        """Seconds since `begin`: the behaviour's clock."""
        return asyncio.get_running_loop().time() - self._origin

    def report(self, event: object) -> None:
        """Hand an event on."""
        self._on_event(self.now(), event)

    def receive(self, message: ApsMessage) -> None:
        """Hand one message off the HAN to the behaviour."""
        self.tell(self._behaviour.receive, message)

    def tell(self, call: Callable[..., list[object]], *what: object) -> None:
        """Call the behaviour with `what` and the time, and carry on; what it raises is reported as an event."""
        try:
            self.run(call(*what, self.now()))
        except Exception as error:  # noqa: BLE001  # this is called by bellows, which would log it and go on
            self.report(error)

    def run(self, events: Sequence[object]) -> None:
        """Carry on after the behaviour was called: report `events`, send what it has to send, see when it is due."""
        for event in events:
            self.report(event)
            if isinstance(event, LinkKeyEstablished):
                self.store(event.partner, partial(self._keys.establish, event.partner, event.key))
            elif isinstance(event, LinkKeyRestored):
                self.store(event.partner, partial(self._keys.restore, event.partner))
        for message in self._behaviour.messages_to_send():
            self.task(self._send(message))
        self._stop_timer()
        deadline = self._behaviour.next_deadline() if self._awake else None
        if deadline is not None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_at(self._origin + deadline, self._due, deadline)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _due(self, deadline: float) -> None:
        self._timer = None
        # A loop's clock is coarse: it may be there before the deadline is.
        self.run(self._behaviour.on_deadline(max(self.now(), deadline)))

    def store(self, partner: int, work: Callable[[], Coroutine[Any, Any, str | None]]) -> None:
        """Change a link key in the NCP; what is secured and sent after this call waits for it."""
        self.task(self._stored(partner, work))

    async def _stored(self, partner: int, work: Callable[[], Coroutine[Any, Any, str | None]]) -> None:
        try:
            refusal = await work()
        except NOT_SENT as error:
            refusal = reason_of(error)
        if refusal is not None:
            self.report(LinkKeyNotStored(partner, refusal))

    async def settle(self, message: ApsMessage) -> None:
        """Wait until the NCP has the link key that `message` is to be secured under."""
        if message.secured and not self._keys.settled:
            await self._keys.settle()

    def task(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Run `work` beside everything else; what it raises is reported as an event."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.report(error)
