"""How a sleepy GSME uses its tunnel: GET, GET-RESPONSE and PUT headers, and the hub's queue of messages for it."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from typing import Final, NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.ota_messages import CLOCK_TOLERANCE
from harness.wire.tunnel_messages import MAX_TRANSFER

# GBCS 10.2.2: the first octet of what goes through a GSME's tunnel. Other devices' tunnels carry messages bare.
_GET: Final = 0x01
_GET_RESPONSE: Final = 0x02
_PUT: Final = 0x03
_GET_RESPONSE_HEADER: Final = 2
_MOST_REMAINING: Final = 0xFF

LONGEST_MESSAGE: Final = MAX_TRANSFER - _GET_RESPONSE_HEADER


class Get(NamedTuple):
    """0x01, GSME to hub: is there a message for me?"""


class GetResponse(NamedTuple):
    """0x02, hub to GSME: the next message, empty for none, and how many remain behind it."""

    remaining: int
    message: bytes


class Put(NamedTuple):
    """0x03, GSME to hub: a message of the GSME's own, a response or an alert."""

    message: bytes


GsmeData = Get | GetResponse | Put


def build_gsme_data(data: GsmeData) -> bytes:
    """What goes into Transfer Data. LocalProtocolError when it does not fit a transfer."""
    if isinstance(data, Get):
        octets = bytes((_GET,))
    elif isinstance(data, Put):
        octets = bytes((_PUT,)) + data.message
    else:
        if not 0 <= data.remaining <= _MOST_REMAINING:
            raise LocalProtocolError(
                f"GET-RESPONSE with {data.remaining} remaining messages, 255 are the most"
            )
        octets = bytes((_GET_RESPONSE, data.remaining)) + data.message
    if len(octets) > MAX_TRANSFER:
        raise LocalProtocolError(
            f"{type(data).__name__} of {len(octets)} octets, a transfer has {MAX_TRANSFER}"
        )
    return octets


def parse_gsme_data(octets: bytes) -> GsmeData:
    """What a GSME's tunnel carried. RemoteProtocolError when its header is unknown or cut off."""
    kind = octets[0] if octets else None
    if kind == _GET:
        if len(octets) > 1:
            raise RemoteProtocolError(f"GET has {len(octets) - 1} octets behind its header")
        return Get()
    if kind == _GET_RESPONSE:
        if len(octets) < _GET_RESPONSE_HEADER:
            raise RemoteProtocolError("GET-RESPONSE ends before its number of remaining messages")
        return GetResponse(octets[1], octets[_GET_RESPONSE_HEADER:])
    if kind == _PUT:
        return Put(octets[1:])
    raise RemoteProtocolError(
        "no octet in a GSME's tunnel" if kind is None else f"header {kind:#04x} in a GSME's tunnel is unknown"
    )


@dataclass(frozen=True, slots=True)
class MailboxConfig:
    """How the hub keeps messages for a sleepy GSME. Times in seconds."""

    keep: float = 24 * 3600.0  # GBCS 10.2.2 quoted by Silicon Labs: 24 h by default
    capacity: int = _MOST_REMAINING + 1  # assumed; more could not be counted in a GET-RESPONSE


@dataclass(frozen=True, slots=True)
class GsmeCommandNotRetrieved:
    """A message was thrown away because the GSME did not fetch it in time (alert 0x819D)."""

    message: bytes


class Mailbox:
    """The hub's queue of messages for one GSME, oldest first."""

    def __init__(self, config: MailboxConfig = MailboxConfig()) -> None:
        self.config = config
        self._waiting: deque[tuple[float, bytes]] = deque()
        self._fetched = False  # whether the oldest was fetched, and has not been said to have arrived

    @property
    def pending(self) -> bool:
        """Whether the flag "tunnel message pending" (clusters.TUNNEL_MESSAGE_PENDING) is to be set."""
        return bool(self._waiting)

    def post(self, message: bytes, now: float) -> None:
        """Let a message wait for the next GET. LocalProtocolError when it is too long, or the queue is full."""
        if len(message) > LONGEST_MESSAGE:
            raise LocalProtocolError(
                f"message of {len(message)} octets for a GSME, {LONGEST_MESSAGE} fit behind a GET-RESPONSE header"
            )
        if not message:
            raise LocalProtocolError("an empty message for a GSME says that there is none")
        if len(self._waiting) >= self.config.capacity:
            raise LocalProtocolError(f"{len(self._waiting)} messages wait for the GSME already")
        self._waiting.append((now + self.config.keep, message))

    def fetch(self) -> GetResponse:
        """What a GET is answered with: the oldest message, which the next GET gets again until `done` with it."""
        if not self._waiting:
            return GetResponse(0, b"")
        self._fetched = True
        return GetResponse(len(self._waiting) - 1, self._waiting[0][1])

    def done(self) -> None:
        """The message that was fetched is gone: the GSME has it, or cannot take it. Nothing happens without one."""
        if self._fetched:
            self._fetched = False
            self._waiting.popleft()

    def next_deadline(self) -> float | None:
        """When the oldest message has waited too long."""
        return self._waiting[0][0] if self._waiting else None

    def on_deadline(self, now: float) -> list[object]:
        """Throw away what has waited too long."""
        events: list[object] = []
        while self._waiting and now + CLOCK_TOLERANCE >= self._waiting[0][0]:
            events.append(GsmeCommandNotRetrieved(self._waiting.popleft()[1]))
            self._fetched = False
        return events
