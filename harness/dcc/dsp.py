"""The DSP as a core: it checks Service Requests, makes commands of them, and tells the Inventory what comes back."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import datetime

from harness.dcc.csp import CommandDown, DeviceLogDown, Down, ImageDown, Logged, Up
from harness.dcc.interface import Alerted, Answer, Outcome
from harness.dcc.payloads import command_for, event_of_alert, event_of_response, image_hash_in
from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.smi.alerts import Alert
from harness.smi.devices import format_eui64
from harness.smi.inventory import Inventory
from harness.smi.ledger import Consequence
from harness.smi.requests import (
    Acknowledged,
    ActivateFirmware,
    CommissionDevice,
    Distribution,
    ReadFirmwareVersion,
    Refused,
    ServiceRequest,
    UpdateDeviceLog,
    UpdateFirmware,
    Verdict,
)
from harness.smi.responses import DeviceCommissioned, DeviceLogUpdated, Event, ImageDelivered
from harness.wire.gbcs import Cra, GbcsMessage, build_message, parse_message
from harness.wire.gbcs_payloads import ActivateFirmware as Cs06
from harness.wire.gbcs_payloads import CommandAccepted, Payload, message_of, parse_payload
from harness.wire.gbcs_security import PrivateKey, sign


@dataclass(frozen=True, slots=True)
class Originator:
    """The User whose commands go down: its EUI-64, its signing key, and what gives the next originator counter."""

    eui64: int
    private_key: PrivateKey = field(repr=False)
    next_counter: Callable[[], int] = field(repr=False)


@dataclass(frozen=True, slots=True)
class DspConfig:
    """How long a response is waited for, in seconds, and how often a command is sent in all.

    A command is sent again as it was: a critical one is the User's, by its signature, and the DSP cannot make another.
    A Device that has acted on it does not act, or answer, again.
    """

    # Assumed: a GSME looks for commands every half an hour, and may sleep through some of that.
    response_seconds: float = 4 * 3600.0
    attempts: int = 1  # assumed: it is the User that tries again

    def __post_init__(self) -> None:
        if not 0 < self.response_seconds < float("inf") or self.attempts < 1:
            raise LocalProtocolError(f"a DSP that waits {self.response_seconds} s, {self.attempts} times")


@dataclass(frozen=True, slots=True)
class Sent:
    """This goes down the WAN."""

    what: Down


@dataclass(frozen=True, slots=True)
class Applied:
    """The Inventory was told this; `late`: its request had timed out."""

    event: Event
    late: bool = False


@dataclass(frozen=True, slots=True)
class Ended:
    """A Service Request has its answer."""

    ticket: int
    answer: Answer


@dataclass(frozen=True, slots=True)
class Ignored:
    """What came up from `source` (EUI-64) tells the Inventory nothing, for `reason`."""

    source: int
    reason: str


DspEvent = Sent | Applied | Ended | Ignored | Alerted


@dataclass(slots=True)
class _Pending:
    """A request that was sent: what it waits for, until when, and what has come."""

    ticket: int
    request: ServiceRequest
    verdict: Verdict
    target: int
    deadline: float
    down: Down | None = None  # what is sent again; images never are
    waiting: set[int] = field(default_factory=set)  # Devices whose image is on its way to the hub
    responses: list[Event] = field(default_factory=list)
    attempts: int = 1
    detail: str = ""
    ended: bool = False


class Dsp:
    """Judges by an Inventory, speaks GBCS for one User, and keeps who waits for what. Times are POSIX seconds."""

    def __init__(
        self, inventory: Inventory, originator: Originator | None, config: DspConfig | None = None
    ) -> None:
        self.inventory = inventory
        self.config = config or DspConfig()
        self._originator = originator
        self._tickets = itertools.count(1)
        self._pending: dict[int, _Pending] = {}  # by ticket
        self._by_counter: dict[int, _Pending] = {}  # kept when they have ended: a response may come late

    # --- down --------------------------------------------------------------------------------------------------------

    def submit(
        self, request: ServiceRequest, now: float, *, image: bytes | None = None, at: datetime | None = None
    ) -> tuple[int, list[DspEvent]]:
        """Take a Service Request; return its ticket and what comes of it. `image`, `at`: see `DccSystem.request`.

        LocalProtocolError, and nothing changed, for a distribution without an image, or a command that nobody signs.
        """
        request = self._with_hash(request, image)
        if at is not None and not isinstance(request, ActivateFirmware):
            raise LocalProtocolError(f"SR{request.srv} is not future-dated here: only SR11.3 is")
        events = self._time_passed(now)
        if isinstance(request, ActivateFirmware | ReadFirmwareVersion):
            self._sender()
        ticket = next(self._tickets)
        verdict, raised = _split(self.inventory.apply(request, now))
        assert verdict is not None  # every Service Request has one
        events += [Alerted(now, alert) for alert in raised]
        if isinstance(verdict, Refused):
            return ticket, [*events, Ended(ticket, Answer(request, verdict, Outcome.REFUSED))]
        pending = _Pending(ticket, request, verdict, 0, now + self.config.response_seconds)
        if isinstance(request, Distribution):
            assert image is not None  # _with_hash
            pending.waiting = set(verdict.sent_to)
            pending.attempts = min(1, len(verdict.sent_to))
            if pending.waiting:
                self._pending[ticket] = pending
                return ticket, [
                    *events, *(Sent(ImageDown(ticket, target, image)) for target in verdict.sent_to)
                ]  # fmt: skip
        elif isinstance(request, ActivateFirmware | ReadFirmwareVersion):
            pending.target = request.device
            pending.down = CommandDown(ticket, request.device, self._command(pending, request, at))
        elif isinstance(request, UpdateDeviceLog):
            pending.target = request.joining
            pending.down = DeviceLogDown(ticket, request.joining, request.add)
        elif isinstance(request, CommissionDevice):
            # Assumed: what SR8.1.1 and SR8.7.x do to a Device is in no payload here; one that is on the HAN does it.
            events += self._apply(DeviceCommissioned(request.device), now, pending)
        if pending.down is None:
            pending.attempts = 0
            return ticket, [*events, self._end(pending, Outcome.DONE)]
        self._pending[ticket] = pending
        return ticket, [*events, Sent(pending.down)]

    def _with_hash(self, request: ServiceRequest, image: bytes | None) -> ServiceRequest:
        """Return a distribution with its image's own hash: that is what the Firmware Version table is asked for."""
        if not isinstance(request, Distribution):
            if image is not None:
                raise LocalProtocolError(f"SR{request.srv} carries no image")
            return request
        if image is None:
            raise LocalProtocolError(f"SR{request.srv} {request.request_id} has no image")
        found = image_hash_in(image, with_trailer=isinstance(request, UpdateFirmware))
        if request.image_hash not in (None, found):
            raise LocalProtocolError(
                f"SR{request.srv} {request.request_id} names another hash than its image has, {found.hex()}"
            )
        return replace(request, image_hash=found)

    def _command(
        self, pending: _Pending, request: ActivateFirmware | ReadFirmwareVersion, at: datetime | None
    ) -> bytes:
        sender = self._sender()
        counter = sender.next_counter()
        kind = self.inventory.device(request.device).device_type
        payload = command_for(request, kind, counter, at)
        message = message_of(
            payload, originator=sender.eui64, recipient=request.device, originator_counter=counter
        )
        if isinstance(payload, Cs06):
            message = sign(message, sender.private_key)
        self._by_counter[counter] = pending
        return build_message(message)

    def _sender(self) -> Originator:
        if self._originator is None:
            raise LocalProtocolError("there is no User whose commands could be sent")
        return self._originator

    # --- what becomes of what was sent -------------------------------------------------------------------------------

    def arrived(self, what: Down, refusal: str | None, now: float) -> list[DspEvent]:
        """Take what the hub makes of what was sent to it: `refusal` is why it goes no further, None: it has it."""
        if isinstance(what, ImageDown):
            return self._delivered(what, refusal, now)
        pending = self._pending.get(what.ticket)
        if refusal is None or pending is None or isinstance(what, DeviceLogDown):
            return []
        del self._pending[what.ticket]
        return [self._end(pending, Outcome.UNDELIVERED, refusal)]

    def lost(self, what: Down, now: float) -> list[DspEvent]:
        """Take that something sent came to nothing on the WAN. The CSP tells of images; of a command nobody does."""
        return self._delivered(what, "lost on the WAN", now) if isinstance(what, ImageDown) else []

    def _delivered(self, image: ImageDown, refusal: str | None, now: float) -> list[DspEvent]:
        pending = self._pending.get(image.ticket)
        if pending is None or image.target not in pending.waiting:
            return []
        pending.waiting.discard(image.target)
        request = pending.request
        assert isinstance(request, Distribution)
        hub = self.inventory.device(image.target).hub
        if refusal is not None:
            told = f"{format_eui64(image.target)}: {refusal}"
            pending.detail = f"{pending.detail}; {told}" if pending.detail else told
        events: list[DspEvent] = []
        if hub is not None:
            version, there = request.firmware_version, refusal is None
            event = ImageDelivered(request.request_id, hub, image.target, version, there)
            events = self._apply(event, now, pending)
        if not pending.waiting:
            del self._pending[image.ticket]
            events.append(self._end(pending, Outcome.DONE, pending.detail))
        return events

    # --- up ----------------------------------------------------------------------------------------------------------

    def receive(self, what: Up | Logged, now: float) -> list[DspEvent]:
        """Take what came up: a response to what waits for it, an alert, or something else."""
        events = self._time_passed(now)
        if isinstance(what, Logged):
            return events + self._logged(what, now)
        try:
            message = parse_message(what.octets)
            payload = parse_payload(message)
        except RemoteProtocolError as error:
            return [*events, Ignored(what.source, str(error))]
        if message.originator != what.source:
            return [*events, Ignored(what.source, f"it says that it is {message.originator:#018x}'s")]
        if message.cra is Cra.RESPONSE:
            return events + self._response(message, payload, now)
        event = event_of_alert(message.originator, payload)
        if event is None:
            return [*events, Ignored(what.source, f"{type(payload).__name__} changes nothing")]
        return events + self._apply(event, now)

    def _logged(self, what: Logged, now: float) -> list[DspEvent]:
        pending = self._pending.pop(what.ticket, None)
        if pending is None:
            return [Ignored(what.target, "an answer to SR8.11 that nobody waits for any more")]
        request = pending.request
        assert isinstance(request, UpdateDeviceLog)
        event = DeviceLogUpdated(request.device, request.joining, request.add, what.refusal is None)
        events = self._apply(event, now, pending)
        return [*events, self._end(pending, Outcome.DONE, what.refusal or "")]

    def _response(self, message: GbcsMessage, payload: Payload, now: float) -> list[DspEvent]:
        source, counter = message.originator, message.originator_counter
        pending = self._by_counter.get(counter)
        if pending is None or pending.target != source:
            return [Ignored(source, f"a response to {counter}, which is no command of the DSP's to it")]
        event = event_of_response(source, pending.request, payload)
        if event is None and not isinstance(payload, CommandAccepted):
            return [Ignored(source, f"answers SR{pending.request.srv} with {payload}")]
        del self._by_counter[counter]
        late = pending.ended
        events: list[DspEvent] = [] if event is None else self._apply(event, now, pending, late=late)
        if late:
            return events
        del self._pending[pending.ticket]
        return [*events, self._end(pending, Outcome.DONE, "recorded" if event is None else "")]

    def take(self, event: Event, now: float) -> list[DspEvent]:
        """Take news that does not come as a message: a Device on the HAN, a CPL. Errors are the Inventory's."""
        _, raised = _split(self.inventory.apply(event, now))
        return [Applied(event), *(Alerted(now, alert) for alert in raised)]

    # --- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next response is given up, or its command sent again; None: nothing is waited for."""
        return min((pending.deadline for pending in self._pending.values() if pending.down), default=None)

    def on_deadline(self, now: float) -> list[DspEvent]:
        """Send again, or give up, what is due."""
        events = self._time_passed(now)
        for pending in list(self._pending.values()):
            if pending.down is None or pending.deadline > now:
                continue
            if pending.attempts < self.config.attempts:
                pending.attempts += 1
                pending.deadline = now + self.config.response_seconds
                events.append(Sent(pending.down))
                continue
            del self._pending[pending.ticket]
            waited = f"no response within {self.config.response_seconds:g} s"
            events.append(self._end(pending, Outcome.TIMED_OUT, waited))
        return events

    def _time_passed(self, now: float) -> list[DspEvent]:
        # CPL rows end years from now, for which nobody shall wait: they are looked at when something happens.
        due = self.inventory.next_deadline()
        if due is None or due > now:
            return []
        return [Alerted(now, alert) for alert in _split(self.inventory.on_deadline(now))[1]]

    def _apply(
        self, event: Event, now: float, pending: _Pending | None = None, *, late: bool = False
    ) -> list[DspEvent]:
        try:
            _, raised = _split(self.inventory.apply(event, now))
        except LocalProtocolError as error:
            # It came from outside: a Device of another premises, or one that says what its kind cannot say.
            return [Ignored(_who(event), str(error))]
        if pending is not None:
            pending.responses.append(event)
        return [Applied(event, late), *(Alerted(now, alert) for alert in raised)]

    def _end(self, pending: _Pending, outcome: Outcome, detail: str = "") -> Ended:
        pending.ended = True
        answer = Answer(
            pending.request, pending.verdict, outcome, tuple(pending.responses), pending.attempts, detail
        )
        return Ended(pending.ticket, answer)


def _split(consequences: list[Consequence]) -> tuple[Verdict | None, list[Alert]]:
    verdict: Verdict | None = None
    raised: list[Alert] = []
    for one in consequences:
        if isinstance(one, Acknowledged | Refused):
            verdict = one
        else:
            raised.append(one)
    return verdict, raised


def _who(event: Event) -> int:
    device: int = getattr(event, "device", 0)
    return device
