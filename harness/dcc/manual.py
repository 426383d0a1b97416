"""A DCC by hand: an operator sends what the harness asks for with the lab's own tool, and writes what came back."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from harness.dcc.dsp import Applied, Ended
from harness.dcc.interface import Alerted, Answer, Outcome
from harness.dcc.manual_files import ManualAnswer, read_answer, request_text, template_text
from harness.errors import LocalProtocolError, RigError
from harness.smi.inventory import Inventory
from harness.smi.ledger import Consequence
from harness.smi.requests import Acknowledged, Distribution, Refused, ServiceRequest
from harness.smi.responses import Event

_NUMBERED = re.compile(r"(\d{4,})-.*")


@dataclass(frozen=True, slots=True)
class LeftForTheOperator:
    """A request waits in this file for somebody to send it."""

    path: Path


@dataclass(frozen=True, slots=True)
class AnswerRefused:
    """What the operator wrote cannot be read; it is waited for until it can. `problem` has a line each."""

    problem: str


class ManualDcc:
    """A `DccSystem` of files in a folder: NNNN-srX.request.yaml and, to be filled in, NNNN-srX.answer.yaml.

    `clock` gives POSIX seconds. The folder is looked at every `poll_seconds`; RigError when nobody has answered
    `within` so many seconds. What is wrong with an answer stands in NNNN-srX.problem.txt until it is put right.
    """

    def __init__(
        self,
        inventory: Inventory,
        folder: Path,
        *,
        clock: Callable[[], float],
        poll_seconds: float = 2.0,
        within: float = 86400.0,
        on_event: Callable[[object], None] = lambda event: None,
    ) -> None:
        self.inventory = inventory
        self.alerts: list[Alerted] = []
        self._folder = folder
        self._clock = clock
        self._poll = poll_seconds
        self._within = within
        self._on_event = on_event
        try:
            folder.mkdir(parents=True, exist_ok=True)
            # A run before this one may have left its own: they are the lab's record.
            numbers = [int(found[1]) for path in folder.iterdir() if (found := _NUMBERED.match(path.name))]
        except OSError as error:
            raise RigError(
                f"{folder}: cannot be used as the folder of a manual DCC ({error.strerror})"
            ) from error
        self._last = max(numbers, default=0)

    async def request(
        self, request: ServiceRequest, *, image: bytes | None = None, at: datetime | None = None
    ) -> Answer:
        """Leave a Service Request for the operator and wait for the answer: see `DccSystem`."""
        if isinstance(request, Distribution) is not (image is not None):
            raise LocalProtocolError(f"SR{request.srv} {'has no' if image is None else 'carries no'} image")
        expected = self.inventory.check(request)
        self._last += 1
        number = f"{self._last:04d}"
        stem = self._folder / f"{number}-sr{request.srv}"
        answer_path = stem.with_name(stem.name + ".answer.yaml")
        self._leave(number, stem, request, answer_path, image, at)
        read = await self._answered(number, stem, request, answer_path)
        return self._take(number, request, read, expected)

    def _leave(
        self,
        number: str,
        stem: Path,
        request: ServiceRequest,
        answer_path: Path,
        image: bytes | None,
        at: datetime | None,
    ) -> None:
        request_path = stem.with_name(stem.name + ".request.yaml")
        image_path = None if image is None else stem.with_name(stem.name + ".image.ota")
        try:
            if image_path is not None and image is not None:
                image_path.write_bytes(image)
            answer_path.write_text(template_text(number, request), encoding="utf-8")
            text = request_text(
                number,
                request,
                self.inventory,
                answer=answer_path.name,
                image=None if image_path is None else image_path.name,
                at=at,
            )
            request_path.write_text(text, encoding="utf-8")  # last: the rest is there when it is seen
        except OSError as error:
            raise RigError(f"{stem}: cannot be left for the operator ({error.strerror})") from error
        self._on_event(LeftForTheOperator(request_path))

    async def _answered(
        self, number: str, stem: Path, request: ServiceRequest, answer_path: Path
    ) -> ManualAnswer:
        problem_path = stem.with_name(stem.name + ".problem.txt")
        waited, told = 0.0, ""
        while True:
            problem = ""
            try:
                answer = read_answer(answer_path, number, request, self.inventory)
            except RigError as error:
                answer, problem = None, str(error)
            if problem != told:
                told = problem
                if problem:
                    problem_path.write_text(problem + "\n", encoding="utf-8")
                    self._on_event(AnswerRefused(problem))
                else:
                    problem_path.unlink(missing_ok=True)
            if answer is not None:
                return answer
            if waited >= self._within:
                wrong = f": {problem}" if problem else ""
                raise RigError(f"{answer_path}: nobody has answered within {self._within:g} s{wrong}")
            await asyncio.sleep(self._poll)
            waited += max(self._poll, 1e-3)

    def _take(
        self, number: str, request: ServiceRequest, read: ManualAnswer, expected: Acknowledged | Refused
    ) -> Answer:
        events: tuple[Event, ...] = ()
        if isinstance(read.verdict, Refused):
            outcome = Outcome.REFUSED
        else:
            # What the Inventory itself would refuse it does not take; `expected` says that the two differ.
            for alert in self.inventory.apply(request, self._clock())[1:]:
                self._alert(alert)
            for event in read.events:
                self.tell(event)
            events = read.events
            outcome = Outcome.DONE if read.responded else Outcome.TIMED_OUT
        answer = Answer(
            request,
            read.verdict,
            outcome,
            events,
            attempts=1,
            detail=f"request {number}",
            expected=expected,
            reported=read.alerts,
        )
        self._on_event(Ended(int(number), answer))
        return answer

    def tell(self, event: Event) -> None:
        """Tell the Inventory what comes with no request. Errors are the Inventory's."""
        consequences = self.inventory.apply(event, self._clock())
        self._on_event(Applied(event))
        for alert in consequences:
            self._alert(alert)

    def _alert(self, alert: Consequence) -> None:
        if isinstance(alert, Acknowledged | Refused):
            return
        self.alerts.append(Alerted(self._clock(), alert))
        self._on_event(self.alerts[-1])

    def check(self) -> None:
        """Nothing goes wrong here beside those who wait."""

    async def close(self) -> None:
        """What waits for the operator stays in the folder."""
