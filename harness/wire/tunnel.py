"""The client side of the Tunneling cluster (0x0704) as a core: it opens tunnels for GBCS messages and keeps them."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.ota_messages import CLOCK_TOLERANCE
from harness.wire.tunnel_messages import (
    GB_HRGP,
    MAX_TRANSFER,
    NO_MANUFACTURER,
    NO_TUNNEL,
    REQUEST_TUNNEL,
    CloseTunnel,
    Message,
    RequestTunnel,
    RequestTunnelResponse,
    TransferData,
    TransferDataError,
    TransferStatus,
    TunnelClosureNotification,
    TunnelStatus,
    build_message,
    parse_message,
)

# A peer is any number that its owner knows it by: the hub uses EUI-64s.


@dataclass(frozen=True, slots=True)
class TunnelOpened:
    """A tunnel is open; `max_transfer` is the most octets that the other end takes at once."""

    peer: int
    tunnel: int
    max_transfer: int


@dataclass(frozen=True, slots=True)
class TunnelRefused:
    """A request for a tunnel was refused with `status`; the client asks again in `retry_in` seconds, None: never."""

    peer: int
    status: int
    retry_in: float | None = None


@dataclass(frozen=True, slots=True)
class TunnelFailed:
    """A client gave up opening a tunnel."""

    peer: int
    reason: str


@dataclass(frozen=True, slots=True)
class TunnelClosed:
    """A tunnel is no more."""

    peer: int
    tunnel: int
    reason: str


@dataclass(frozen=True, slots=True)
class DataReceived:
    """Data came through a tunnel."""

    peer: int
    tunnel: int
    data: bytes


@dataclass(frozen=True, slots=True)
class DataRefused:
    """One end did not take data: `status` is a TransferStatus; `ours` says whether it was sent by this end."""

    peer: int
    tunnel: int
    status: int
    ours: bool


@dataclass(frozen=True, slots=True)
class MessageLost:
    """Data that waited for a tunnel was dropped."""

    peer: int
    data: bytes


@dataclass(frozen=True, slots=True)
class TunnelClientConfig:
    """What a tunnel client asks for, and how it goes on where it gets nothing. Times in seconds.

    "SL" marks what Silicon Labs' GBCS plugins do, which quote GBCS 10.2.2.
    """

    protocol: int = GB_HRGP  # GBCS 10.2.2
    manufacturer: int = NO_MANUFACTURER  # GBCS 10.2.2
    flow_control: bool = False  # GBCS 10.2.2
    max_transfer: int = MAX_TRANSFER  # GBCS 10.2.2
    busy_retry: float = 180.0  # GBCS 10.2.2.1: 3 minutes
    closed_retry: float = 5.0  # SL: from closing old tunnels to the next request
    response_timeout: float = 15.0  # assumed: two polls of a sleepy device, 7.5 s apart
    retry: float = 60.0  # assumed: after a request that nobody answered
    attempts: int = 5  # SL: requests in a row before it gives up
    renew: float = 65535.0  # GBCS 10.2.2.1: asks again after 0xFFFF s
    queue: int = 16  # assumed: messages that wait for a tunnel


class _State(Enum):
    CLOSED = auto()
    WAITING = auto()  # until the next request is due
    REQUESTED = auto()
    OPEN = auto()


# The errors that say that the other end does not have this tunnel with this end.
GONE: Final = (TransferStatus.NO_SUCH_TUNNEL, TransferStatus.WRONG_DEVICE)


@dataclass(slots=True)
class _Line:
    """What a client knows of its tunnel to one peer. `earlier` are tunnels that the peer may still hold.

    So are `other`, which it granted since the last request, in answers to more than one: they are not closed before the
    next one is answered, as nobody here can know which of them the peer took for the last.
    """

    state: _State = _State.CLOSED
    tunnel: int = NO_TUNNEL
    max_transfer: int = MAX_TRANSFER
    attempts: int = 0
    sequence: int = 0
    deadline: float | None = None
    earlier: list[int] = field(default_factory=list)
    other: list[int] = field(default_factory=list)
    queue: deque[bytes] = field(default_factory=deque)
    last: bytes | None = None  # what was sent last, if it was for the first time
    last_through: int = NO_TUNNEL
    again: bytes | None = None  # what the server did not know the tunnel of: goes first through the next one

    def waiting(self) -> list[bytes]:
        """What goes through the next tunnel, in order."""
        return ([] if self.again is None else [self.again]) + list(self.queue)


class TunnelClient:
    """Opens tunnels to its peers and keeps them open. Takes and gives ZCL frames of the cluster."""

    def __init__(self, config: TunnelClientConfig = TunnelClientConfig()) -> None:
        self.config = config
        self._lines: dict[int, _Line] = {}
        self._outgoing: list[tuple[int, bytes]] = []
        self._sequence = 0

    def tunnel(self, peer: int) -> int | None:
        """The id of the open tunnel to a peer; None when there is none."""
        line = self._lines.get(peer)
        return line.tunnel if line is not None and line.state is _State.OPEN else None

    def open(self, peer: int, now: float) -> None:
        """Ask for a tunnel, unless there is one or one is being asked for."""
        line = self._lines.setdefault(peer, _Line())
        if line.state is _State.CLOSED:
            line.attempts = 0
            self._request(peer, line, now)

    def restore(self, peer: int, tunnel: int, now: float) -> None:
        """Hold a tunnel that an earlier run opened to a peer."""
        self._lines[peer] = _Line(_State.OPEN, tunnel, deadline=now + self.config.renew)

    def send(self, peer: int, data: bytes, now: float) -> None:
        """Send through the tunnel; without one, open it first.

        LocalProtocolError when the data is more than a transfer takes, or too much waits already.
        """
        line = self._lines.setdefault(peer, _Line())
        most = min(line.max_transfer, MAX_TRANSFER)
        if not 0 < len(data) <= most:
            raise LocalProtocolError(f"transfer of {len(data)} octets, the tunnel takes 1 to {most}")
        if line.state is _State.OPEN:
            self._transfer(peer, line, data, now)
            return
        if len(line.queue) >= self.config.queue:
            raise LocalProtocolError(f"{len(line.queue)} messages wait for a tunnel to {peer:#x} already")
        line.queue.append(data)
        self.open(peer, now)

    def close(self, peer: int) -> list[object]:
        """Close the tunnel and ask for no other. Returns what is lost with it."""
        line = self._lines.pop(peer, None)
        if line is None:
            return []
        events: list[object] = []
        if line.state is _State.OPEN:
            self._put(peer, CloseTunnel(line.tunnel))
            events.append(TunnelClosed(peer, line.tunnel, "closed by this end"))
        return events + [MessageLost(peer, data) for data in line.waiting()]

    def forget(self, peer: int) -> None:
        """The peer rejoined or left: it knows of no tunnel any more. What waits for one goes on waiting."""
        line = self._lines.get(peer)
        if line is not None:
            self._lines[peer] = _Line(queue=line.queue, again=line.again)

    def frames_to_send(self) -> list[tuple[int, bytes]]:
        """What waits to be sent, as (peer, ZCL frame), each once."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def receive(self, peer: int, frame: zcl.Frame, now: float) -> list[object]:
        """Take one unicast frame of the cluster from a server."""
        events: list[object] = []
        line = self._lines.setdefault(peer, _Line())
        if not frame.control & zcl.CLUSTER_COMMAND:
            if frame.command == zcl.DEFAULT_RESPONSE:
                self._default_response(peer, line, frame, now, events)
            return events
        try:
            message = parse_message(frame)
        except RemoteProtocolError:
            self._respond(peer, frame, zcl.Status.MALFORMED_COMMAND)
            return events
        self._respond(peer, frame, self._handle(peer, line, frame, message, now, events))
        return events

    def _handle(
        self,
        peer: int,
        line: _Line,
        frame: zcl.Frame,
        message: Message | None,
        now: float,
        events: list[object],
    ) -> int:
        """Act on a message, and return the status of having done so."""
        if isinstance(message, RequestTunnelResponse):
            self._answered(peer, line, frame.sequence, message, now, events)
        elif isinstance(message, TransferData):
            self._data(peer, line, message, now, events)
        elif isinstance(message, TransferDataError):
            self._refused(peer, line, message, now, events)
        elif isinstance(message, TunnelClosureNotification):
            if line.state is not _State.OPEN or message.tunnel != line.tunnel:
                return zcl.Status.NOT_FOUND
            self._closed(peer, line, "closed by the server", events)
            # GBCS 10.2.2.1: after 0xFFFF s it is asked for again, and the server's clock is the one that began earlier.
            line.attempts = 0
            line.deadline = now + self.config.closed_retry
        else:
            return zcl.Status.UNSUP_CLUSTER_COMMAND
        return zcl.Status.SUCCESS

    def _answered(
        self,
        peer: int,
        line: _Line,
        sequence: int,
        message: RequestTunnelResponse,
        now: float,
        events: list[object],
    ) -> None:
        status = message.status
        if line.state is not _State.REQUESTED or sequence != line.sequence:
            if status == TunnelStatus.SUCCESS and message.tunnel != line.tunnel:
                self._granted_late(peer, line, message, now, events)
            return
        if status != TunnelStatus.SUCCESS:
            delay = self._retry_after(peer, line, status)
            if line.attempts >= self.config.attempts:
                delay = None
            events.append(TunnelRefused(peer, status, delay))
            self._again(peer, line, now, delay, f"refused with status {status}", events)
            return
        for tunnel in line.earlier:
            if tunnel != message.tunnel:
                self._put(peer, CloseTunnel(tunnel))
        line.earlier.clear()
        self._opened(peer, line, message, now, events)

    def _granted_late(
        self, peer: int, line: _Line, message: RequestTunnelResponse, now: float, events: list[object]
    ) -> None:
        """A tunnel was granted that this client asked for before, or instead of, the one that it waits for.

        A request that was repeated on its way comes behind a later one: closing what it is answered with would close
        the only tunnel that a server holds where the last takes the place of all others.
        """
        if line.state is _State.CLOSED:
            self._put(peer, CloseTunnel(message.tunnel))  # SL: a tunnel that nobody waits for any more
            return
        if line.state is _State.REQUESTED:
            line.other.append(message.tunnel)
            return
        if line.state is _State.OPEN:
            line.other.append(line.tunnel)
        self._opened(peer, line, message, now, events)

    def _opened(
        self, peer: int, line: _Line, message: RequestTunnelResponse, now: float, events: list[object]
    ) -> None:
        line.state, line.tunnel, line.max_transfer = _State.OPEN, message.tunnel, message.max_transfer
        line.other = [tunnel for tunnel in line.other if tunnel != line.tunnel]
        line.attempts = 0
        line.deadline = now + self.config.renew
        events.append(TunnelOpened(peer, message.tunnel, message.max_transfer))
        waiting, again = line.waiting(), line.again
        line.queue.clear()
        line.again = None
        for data in waiting:
            if len(data) > line.max_transfer:
                events.append(MessageLost(peer, data))
                continue
            self._transfer(peer, line, data, now)
            if data is again:
                line.last = None  # a third time would not help

    def _retry_after(self, peer: int, line: _Line, status: int) -> float | None:
        """How soon to ask again after a refusal; None: never."""
        if status == TunnelStatus.BUSY:
            return self.config.busy_retry
        if status != TunnelStatus.NO_MORE_TUNNEL_IDS:
            return None
        held = line.earlier + line.other
        if not held:
            return self.config.retry
        for tunnel in held:  # GBCS 10.2.2.1: close the others, then ask again
            self._put(peer, CloseTunnel(tunnel))
        line.earlier.clear()
        line.other.clear()
        return self.config.closed_retry

    def _data(self, peer: int, line: _Line, message: TransferData, now: float, events: list[object]) -> None:
        known = line.state is _State.OPEN and message.tunnel == line.tunnel
        if not known and message.tunnel not in (*line.earlier, *line.other):
            self._put(peer, TransferDataError(message.tunnel, TransferStatus.NO_SUCH_TUNNEL))
            events.append(DataRefused(peer, message.tunnel, TransferStatus.NO_SUCH_TUNNEL, ours=False))
        elif len(message.data) > self.config.max_transfer:
            self._put(peer, TransferDataError(message.tunnel, TransferStatus.DATA_OVERFLOW))
            events.append(DataRefused(peer, message.tunnel, TransferStatus.DATA_OVERFLOW, ours=False))
        else:
            if known:
                line.deadline = now + self.config.renew
            events.append(DataReceived(peer, message.tunnel, message.data))

    def _refused(
        self, peer: int, line: _Line, message: TransferDataError, now: float, events: list[object]
    ) -> None:
        replaced = message.tunnel in line.other
        if line.state is not _State.OPEN or not (replaced or message.tunnel == line.tunnel):
            return
        events.append(DataRefused(peer, message.tunnel, message.status, ours=True))
        if message.status not in GONE:
            return
        if replaced:
            line.other.remove(message.tunnel)
            if line.last is not None and line.last_through == message.tunnel:
                self._transfer(peer, line, line.last, now)
                line.last = None
            return
        line.again = line.last
        self._closed(peer, line, "unknown to the server", events)
        line.attempts = 0
        self._request(peer, line, now)

    def _default_response(
        self, peer: int, line: _Line, frame: zcl.Frame, now: float, events: list[object]
    ) -> None:
        try:
            command, status = zcl.parse_default_response(frame.payload)
        except RemoteProtocolError:
            return
        pending = line.state is _State.REQUESTED and frame.sequence == line.sequence
        if pending and command == REQUEST_TUNNEL and status != zcl.Status.SUCCESS:
            self._again(peer, line, now, self.config.retry, f"refused with {zcl.status_name(status)}", events)

    def _closed(self, peer: int, line: _Line, reason: str, events: list[object]) -> None:
        events.append(TunnelClosed(peer, line.tunnel, reason))
        line.state, line.tunnel, line.deadline, line.last = _State.CLOSED, NO_TUNNEL, None, None

    def _request(self, peer: int, line: _Line, now: float) -> None:
        if line.state is _State.OPEN:
            line.earlier.append(line.tunnel)
            line.tunnel = NO_TUNNEL
        line.earlier += line.other
        line.other.clear()
        config = self.config
        line.state = _State.REQUESTED
        line.attempts += 1
        line.deadline = now + config.response_timeout
        line.sequence = self._put(
            peer,
            RequestTunnel(config.protocol, config.manufacturer, config.flow_control, config.max_transfer),
        )

    def _again(
        self, peer: int, line: _Line, now: float, delay: float | None, reason: str, events: list[object]
    ) -> None:
        if delay is not None and line.attempts < self.config.attempts:
            line.state, line.deadline = _State.WAITING, now + delay
            return
        line.state, line.deadline = _State.CLOSED, None
        events.append(TunnelFailed(peer, reason))
        events += [MessageLost(peer, data) for data in line.waiting()]
        line.queue.clear()
        line.again = None

    def _transfer(self, peer: int, line: _Line, data: bytes, now: float) -> None:
        line.last, line.last_through = data, line.tunnel
        line.deadline = now + self.config.renew
        self._put(peer, TransferData(line.tunnel, data))

    def _put(self, peer: int, message: Message) -> int:
        self._sequence = (self._sequence + 1) & 0xFF
        self._outgoing.append((peer, build_message(message, self._sequence, from_server=False)))
        return self._sequence

    def _respond(self, peer: int, frame: zcl.Frame, status: int) -> None:
        if zcl.default_response_due(frame, status, unicast=True):
            self._outgoing.append((peer, zcl.default_response(frame, status)))

    def next_deadline(self) -> float | None:
        """When the next request, or the time-out of one, is due."""
        return min(
            (line.deadline for line in self._lines.values() if line.deadline is not None), default=None
        )

    def on_deadline(self, now: float) -> list[object]:
        """Ask, ask again, or give up where it is time."""
        events: list[object] = []
        for peer, line in self._lines.items():
            if line.deadline is None or now + CLOCK_TOLERANCE < line.deadline:
                continue
            if line.state is _State.REQUESTED:
                self._again(peer, line, now, self.config.retry, "no answer", events)
            else:
                self._request(peer, line, now)
        return events
