"""Finds what a member has to know of another one before it can speak to it: its EUI-64, and an endpoint a cluster."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Mapping

from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage
from harness.wire.ota_messages import CLOCK_TOLERANCE

# Zigbee PRO (05-3474-21) 2.4.3 and 2.4.4: a response has its request's cluster with the top bit set.
IEEE_ADDRESS_REQUEST = 0x0001
IEEE_ADDRESS_RESPONSE = 0x8001
DEVICE_ANNOUNCE = 0x0013
_MATCH_DESCRIPTOR_REQUEST = 0x0006
_MATCH_DESCRIPTOR_RESPONSE = 0x8006
_IEEE_REQUEST = struct.Struct("<BHBB")
_IEEE_RESPONSE = struct.Struct("<BBQH")
_ANNOUNCED = struct.Struct("<xHQ")
_MATCH_REQUEST = struct.Struct("<BHHBHB")
_MATCH_RESPONSE = struct.Struct("<BBHB")
_LAST_ADDRESS = 0xFFF7  # Zigbee PRO table 3.59: those above are broadcasts and reserved


ASK_AGAIN = 15.0  # assumed: seconds until a stranger that goes on talking is asked again who it is


class ZdoSequence:
    """Numbers the ZDO requests of one member: 1 at first."""

    def __init__(self) -> None:
        self._last = 0

    def __call__(self) -> int:
        """Return the next number."""
        self._last = (self._last + 1) & 0xFF
        return self._last


def ieee_address_request(short: int, sequence: int) -> ApsMessage:
    """Return the question to a node for its EUI-64."""
    payload = _IEEE_REQUEST.pack(sequence, short, 0, 0)
    return ApsMessage(short, ZDO_PROFILE, IEEE_ADDRESS_REQUEST, 0, 0, payload)


def address_told(message: ApsMessage) -> tuple[int, int] | None:
    """Return (EUI-64, short address) of a Device_annce or IEEE_addr_rsp; None of any other or a broken one."""
    payload = message.payload
    if message.profile != ZDO_PROFILE:
        return None
    if message.cluster == DEVICE_ANNOUNCE and len(payload) >= _ANNOUNCED.size:
        short, eui64 = _ANNOUNCED.unpack_from(payload)
    elif message.cluster == IEEE_ADDRESS_RESPONSE and len(payload) >= _IEEE_RESPONSE.size:
        _, status, eui64, short = _IEEE_RESPONSE.unpack_from(payload)
        if status != 0:
            return None
    else:
        return None
    return (eui64, short) if short <= _LAST_ADDRESS else None


class Strangers:
    """Asks those who speak from an address that nobody is known under who they are. Times in seconds."""

    def __init__(self, next_sequence: Callable[[], int]) -> None:
        self._next_sequence = next_sequence
        self._asked: dict[int, float] = {}  # by short address, when

    def heard(self, short: int, now: float) -> list[ApsMessage]:
        """Return the question to a stranger that spoke; none when it was asked less than `ASK_AGAIN` seconds ago."""
        if now < self._asked.get(short, -ASK_AGAIN) + ASK_AGAIN:
            return []
        self._asked[short] = now
        return [ieee_address_request(short, self._next_sequence())]

    def known(self, short: int) -> None:
        """Somebody is known under this address now."""
        self._asked.pop(short, None)

    def clear(self) -> None:
        """Forget who was asked."""
        self._asked.clear()


class Discovery:
    """Asks one node, again and again in longer and longer pauses, until it has said all that is wanted.

    `pause` is the first pause and `longest` the last one, in seconds; `next_sequence` numbers the ZDO requests.
    """

    def __init__(self, pause: float, longest: float, next_sequence: Callable[[], int]) -> None:
        self._first_pause = pause
        self._longest = longest
        self._next_sequence = next_sequence
        self._outgoing: list[ApsMessage] = []
        self._asked: dict[int, int] = {}  # by sequence number, the cluster that a match was asked for
        self._missing: list[int] = []
        self._dispensable: tuple[int, ...] = ()
        self.deadline: float | None = None
        self.short = 0
        self.eui64: int | None = None
        self.endpoints: dict[int, int] = {}

    def start(
        self,
        short: int,
        clusters: Iterable[int],
        now: float,
        *,
        dispensable: Iterable[int] = (),
        known: Mapping[int, int] | None = None,
        eui64: int | None = None,
    ) -> None:
        """Look for the node's EUI-64 and the endpoints that serve `clusters`, but for what is `known` already.

        A node that says that it has no cluster is asked again, unless that is a `dispensable` one.
        """
        self.short, self.eui64 = short, eui64
        self._dispensable = tuple(dispensable)
        self.endpoints = dict(known or {})
        self._missing = [
            cluster for cluster in (*clusters, *self._dispensable) if cluster not in self.endpoints
        ]
        self._asked.clear()
        self._pause = self._first_pause
        self._ask(now)

    def stop(self) -> None:
        """Ask no more."""
        self.deadline = None
        self._outgoing.clear()

    def receive(self, message: ApsMessage) -> bool:
        """Take a ZDO message; say whether it told something new."""
        if self.deadline is None or message.peer != self.short:
            return False
        payload = message.payload
        if message.cluster == _MATCH_DESCRIPTOR_RESPONSE and len(payload) >= _MATCH_RESPONSE.size:
            news = self._matched(payload)
        elif message.cluster == IEEE_ADDRESS_RESPONSE and self.eui64 is None:
            told = address_told(message)
            news = told is not None and told[1] == self.short
            if told is not None and news:
                self.eui64 = told[0]
        else:
            return False
        if not self._missing and self.eui64 is not None:
            self.deadline = None
            self._asked = {}  # a dict that was emptied keeps its room
        return news

    def _matched(self, payload: bytes) -> bool:
        sequence, status, address, count = _MATCH_RESPONSE.unpack_from(payload)
        cluster = self._asked.get(sequence)
        if cluster not in self._missing or address != self.short:
            return False
        if status == 0 and count and len(payload) > _MATCH_RESPONSE.size:
            self.endpoints[cluster] = payload[_MATCH_RESPONSE.size]
        elif cluster not in self._dispensable:
            return False
        self._missing.remove(cluster)
        return True

    def on_deadline(self, now: float) -> None:
        """Ask again for what has not been answered."""
        if self.deadline is not None and now + CLOCK_TOLERANCE >= self.deadline:
            self._ask(now)

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def _ask(self, now: float) -> None:
        short = self.short
        for cluster in self._missing:
            sequence = self._next_sequence()
            self._asked[sequence] = cluster
            payload = _MATCH_REQUEST.pack(sequence, short, SMART_ENERGY_PROFILE, 1, cluster, 0)
            self._outgoing.append(ApsMessage(short, ZDO_PROFILE, _MATCH_DESCRIPTOR_REQUEST, 0, 0, payload))
        if self.eui64 is None:
            self._outgoing.append(ieee_address_request(short, self._next_sequence()))
        self.deadline = now + self._pause
        self._pause = min(2 * self._pause, self._longest)
