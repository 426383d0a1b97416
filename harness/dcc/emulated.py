"""The emulated DCC: the DSP and the CSP, run on the event loop between a sender and the way down to a hub."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from datetime import datetime

from harness.dcc.csp import (
    CameDown,
    CameUp,
    CommandDown,
    Csp,
    CspEvent,
    Down,
    ImageDown,
    Logged,
    LostOnTheWan,
    Up,
)
from harness.dcc.dsp import Dsp, DspEvent, Ended, Sent
from harness.dcc.interface import Alerted, Answer, Downlink
from harness.errors import RigError
from harness.smi.requests import ServiceRequest
from harness.smi.responses import Event


class EmulatedDcc:
    """A `DccSystem` that runs the cores. `clock` gives POSIX seconds; `on_event` gets what happens, as it does.

    Made on a running event loop. What goes wrong in it reaches whoever waits for an answer, and `check`.
    """

    def __init__(
        self,
        dsp: Dsp,
        csp: Csp,
        downlink: Downlink,
        *,
        clock: Callable[[], float],
        on_event: Callable[[object], None] = lambda event: None,
    ) -> None:
        self.dsp = dsp
        self.csp = csp
        self.inventory = dsp.inventory
        self.alerts: list[Alerted] = []
        self._downlink = downlink
        self._clock = clock
        self._on_event = on_event
        self._answers: dict[int, asyncio.Future[Answer]] = {}
        self._news = asyncio.Event()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def request(
        self, request: ServiceRequest, *, image: bytes | None = None, at: datetime | None = None
    ) -> Answer:
        """Send a Service Request and wait for what comes of it: see `DccSystem`."""
        self.check()
        ticket, events = self.dsp.submit(request, self._clock(), image=image, at=at)
        answer = self._answers[ticket] = asyncio.get_running_loop().create_future()
        self._follow(events)
        try:
            await asyncio.wait((answer, self._task), return_when=asyncio.FIRST_COMPLETED)
        finally:
            del self._answers[ticket]
        if not answer.done():
            self.check()
        answered: Answer = answer.result()
        return answered

    def take(self, source: int, octets: bytes) -> None:
        """Take octets that the hub sends up, from a Device or from itself (EUI-64)."""
        self._up(Up(source, octets))

    def tell(self, event: Event) -> None:
        """Tell the Inventory what comes as no message: a Device on the HAN, a CPL. Errors are the Inventory's."""
        self._follow(self.dsp.take(event, self._clock()))

    def check(self) -> None:
        """Raise what went wrong between the DSP and the hub; RigError when it has been closed."""
        if self._task.cancelled():
            raise RigError("the emulated DCC is closed: the rig is")
        if self._task.done() and (error := self._task.exception()) is not None:
            raise error

    async def close(self) -> None:
        """End it: what is under way comes to nothing."""
        self._task.cancel()
        await asyncio.wait((self._task,))

    # --- between the cores -------------------------------------------------------------------------------------------

    def _follow(self, events: Iterable[DspEvent]) -> None:
        for event in events:
            self._on_event(event)
            if isinstance(event, Sent):
                self._followed(self.csp.down(event.what, self._clock()))
            elif isinstance(event, Alerted):
                self.alerts.append(event)
            elif isinstance(event, Ended):
                answer = self._answers.get(event.ticket)
                if answer is not None and not answer.done():  # its sender may have gone
                    answer.set_result(event.answer)
        self._news.set()

    def _followed(self, events: Iterable[CspEvent]) -> None:
        for event in events:
            self._on_event(event)
            if isinstance(event, LostOnTheWan) and not isinstance(event.what, Up | Logged):
                self._follow(self.dsp.lost(event.what, self._clock()))
        self._news.set()

    def _up(self, what: Up | Logged) -> None:
        self._followed(self.csp.up(what, self._clock()))

    async def _run(self) -> None:
        """Wake up when something arrives, or is waited for no longer."""
        while True:
            self._news.clear()
            deadlines = [when for core in (self.csp, self.dsp) if (when := core.next_deadline()) is not None]
            if deadlines:
                due = min(deadlines)
                if due > self._clock():
                    try:
                        async with asyncio.timeout(due - self._clock()):
                            await self._news.wait()
                    except TimeoutError:
                        pass
                    else:
                        continue
                # Of POSIX seconds in a float some microseconds are lost: what was waited for is due.
                await self._due(max(due, self._clock()))
            else:
                await self._news.wait()

    async def _due(self, now: float) -> None:
        for event in self.csp.on_deadline(now):
            self._on_event(event)
            if isinstance(event, CameUp):
                self._follow(self.dsp.receive(event.what, now))
            elif isinstance(event, CameDown):
                await self._at_the_hub(event.what)
        self._follow(self.dsp.on_deadline(now))

    async def _at_the_hub(self, what: Down) -> None:
        below = self._downlink
        if isinstance(what, ImageDown):
            refusal = await below.deliver_image(what.target, what.octets)
        elif isinstance(what, CommandDown):
            refusal = await below.deliver_command(what.target, what.octets)
        else:
            refusal = await below.update_device_log(what.target, add=what.add)
            self._up(Logged(what.ticket, what.target, refusal))
        self._follow(self.dsp.arrived(what, refusal, self._clock()))
