"""The CSP as a core: the WAN between the DSP and a hub, which takes time and loses things."""

from __future__ import annotations

import heapq
import itertools
import random
from dataclasses import dataclass, field

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.gbcs import Cra, parse_message


@dataclass(frozen=True, slots=True)
class CspConfig:
    """The WAN: how long each way takes, in seconds, and which share of requests and of responses it loses (0 to 1).

    Requests are images and commands. Alerts are never lost: what was lost in the field were responses (MP105).
    """

    latency_seconds: float = 2.0  # assumed
    loss_requests: float = 0.0
    loss_responses: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.latency_seconds < float("inf"):
            raise LocalProtocolError(f"a WAN latency of {self.latency_seconds} s")
        for name, share in (("requests", self.loss_requests), ("responses", self.loss_responses)):
            if not 0 <= share <= 1:
                raise LocalProtocolError(f"a share of {name} lost of {share}, which is not from 0 to 1")


@dataclass(frozen=True, slots=True)
class ImageDown:
    """An OTA file for a Device, as part of one Service Request (`ticket`)."""

    ticket: int
    target: int
    octets: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class CommandDown:
    """A GBCS message for a Device, its GPF or its hub."""

    ticket: int
    target: int
    octets: bytes


@dataclass(frozen=True, slots=True)
class DeviceLogDown:
    """SR8.11 for the hub: `target` is what joins or is removed."""

    ticket: int
    target: int
    add: bool


Down = ImageDown | CommandDown | DeviceLogDown


@dataclass(frozen=True, slots=True)
class Up:
    """Octets that a hub sent up, and who put them on their way (EUI-64)."""

    source: int
    octets: bytes


@dataclass(frozen=True, slots=True)
class Logged:
    """What a hub made of an SR8.11: `refusal` is why not, None: done."""

    ticket: int
    target: int
    refusal: str | None


@dataclass(frozen=True, slots=True)
class CameDown:
    """It is at the hub's end of the WAN."""

    what: Down


@dataclass(frozen=True, slots=True)
class CameUp:
    """It is at the DSP's end of the WAN."""

    what: Up | Logged


@dataclass(frozen=True, slots=True)
class LostOnTheWan:
    """It is nowhere. `named`: a test asked for that; else it was chance."""

    what: Down | Up | Logged
    named: bool


CspEvent = CameDown | CameUp | LostOnTheWan


class Csp:
    """The WAN of one hub. Time is in seconds, on any clock; what is sent one way arrives in order."""

    def __init__(self, config: CspConfig | None = None, seed: int = 0) -> None:
        self.config = config or CspConfig()
        # One each: what is lost one way does not depend on what was sent the other way.
        self._down_chance = random.Random(f"{seed} WAN down")
        self._up_chance = random.Random(f"{seed} WAN up")
        self._under_way: list[tuple[float, int, CspEvent]] = []
        self._order = itertools.count()
        self._losing_requests: list[int | None] = []
        self._losing_responses: list[int | None] = []

    def lose_next_request(self, to: int | None = None) -> None:
        """Lose the next image or command for a Device (EUI-64), or for any, whatever the shares are."""
        self._losing_requests.append(to)

    def lose_next_response(self, of: int | None = None) -> None:
        """Lose the next response of a Device (EUI-64), or of any, whatever the shares are."""
        self._losing_responses.append(of)

    def down(self, what: Down, now: float) -> list[CspEvent]:
        """Take something for the hub; `LostOnTheWan` where it goes no further."""
        named = _take(self._losing_requests, what.target)
        # The chance is drawn for each: a loss by name moves no other.
        by_chance = self._down_chance.random() < self.config.loss_requests
        return self._send(CameDown(what), now, named=named, lost=named or by_chance)

    def up(self, what: Up | Logged, now: float) -> list[CspEvent]:
        """Take something from the hub; `LostOnTheWan` where it goes no further."""
        if isinstance(what, Up) and not _is_response(what.octets):
            return self._send(CameUp(what), now, named=False, lost=False)
        named = _take(self._losing_responses, what.source if isinstance(what, Up) else what.target)
        by_chance = self._up_chance.random() < self.config.loss_responses
        return self._send(CameUp(what), now, named=named, lost=named or by_chance)

    def _send(self, event: CameDown | CameUp, now: float, *, named: bool, lost: bool) -> list[CspEvent]:
        if lost:
            return [LostOnTheWan(event.what, named)]
        heapq.heappush(self._under_way, (now + self.config.latency_seconds, next(self._order), event))
        return []

    def next_deadline(self) -> float | None:
        """When the next thing arrives; None: nothing is under way."""
        return self._under_way[0][0] if self._under_way else None

    def on_deadline(self, now: float) -> list[CspEvent]:
        """Return what has arrived by now, in order."""
        arrived = []
        while self._under_way and self._under_way[0][0] <= now:
            arrived.append(heapq.heappop(self._under_way)[2])
        return arrived


def _take(losing: list[int | None], device: int) -> bool:
    for wanted in (device, None):
        if wanted in losing:
            losing.remove(wanted)
            return True
    return False


def _is_response(octets: bytes) -> bool:
    try:
        return parse_message(octets).cra is Cra.RESPONSE
    except RemoteProtocolError:
        return False  # what it is, the DSP finds out
