"""The hub's tunnels: found, opened and re-opened once a device has its link key, and what waits for them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from harness.errors import LocalProtocolError
from harness.members.discovery import Discovery
from harness.members.security import soonest
from harness.wire import zcl
from harness.wire.application import ApsMessage
from harness.wire.tunnel import DataReceived, MessageLost, TunnelClient, TunnelClientConfig
from harness.wire.tunnel_messages import MAX_TRANSFER, TUNNELING_CLUSTER


@dataclass(frozen=True, slots=True)
class MessageReceived:
    """A GBCS message came through a tunnel, from the party `eui64`."""

    eui64: int
    octets: bytes


def messages_received(events: list[object]) -> list[object]:
    """Return a tunnel's events with the data as messages."""
    return [
        MessageReceived(event.peer, event.data) if isinstance(event, DataReceived) else event
        for event in events
    ]


@dataclass(slots=True)
class _End:
    """The far end of a tunnel; `endpoint` is its Tunneling server's once it is known."""

    discovery: Discovery
    endpoint: int | None = None
    waiting: deque[bytes] = field(default_factory=deque)


class HubTunnels:
    """Keeps a tunnel to every device that has a link key and a Tunneling server. Devices are known by EUI-64."""

    def __init__(
        self, config: TunnelClientConfig, pause: float, longest: float, next_sequence: Callable[[], int]
    ) -> None:
        self.config = config
        self.client = TunnelClient(config)
        self._pauses = (pause, longest)
        self._next_sequence = next_sequence
        self._ends: dict[int, _End] = {}

    def open(self, eui64: int, short: int, now: float, endpoint: int | None = None) -> None:
        """Open a tunnel to a device that has just got its key, joined again, or was there before a restart.

        What it knew of an earlier tunnel is forgotten: GBCS 10.2.2.1. The device is asked where its Tunneling server
        is, unless that is known to be on `endpoint`.
        """
        end = self._end(eui64)
        self.client.forget(eui64)
        end.endpoint = endpoint
        if endpoint is not None:
            end.discovery.stop()
            self._open(eui64, end, now)
            return
        end.discovery.start(short, (), now, dispensable=(TUNNELING_CLUSTER,), eui64=eui64)

    def forget(self, eui64: int) -> None:
        """A device has left, or has no key any more. What waits for its tunnel goes on waiting."""
        end = self._ends.get(eui64)
        if end is not None:
            end.discovery.stop()
            end.endpoint = None
            self.client.forget(eui64)

    def remove(self, eui64: int) -> list[object]:
        """A device is to have nothing more of this hub. Returns what waited for its tunnel, and is lost."""
        self.forget(eui64)
        end = self._ends.pop(eui64, None)
        waiting = () if end is None else end.waiting
        return [*(MessageLost(eui64, octets) for octets in waiting), *self.client.close(eui64)]

    def send(self, eui64: int, octets: bytes, now: float) -> None:
        """Send a message through the tunnel, or let it wait for one.

        LocalProtocolError when it has more octets than a tunnel takes, or when too many wait already.
        """
        end = self._end(eui64)
        if end.endpoint is not None:
            self.client.send(eui64, octets, now)
            return
        if not 0 < len(octets) <= MAX_TRANSFER:
            raise LocalProtocolError(f"message of {len(octets)} octets, a tunnel takes 1 to {MAX_TRANSFER}")
        if len(end.waiting) >= self.config.queue:
            raise LocalProtocolError(
                f"{len(end.waiting)} messages wait for a tunnel to {eui64:#018x} already"
            )
        end.waiting.append(octets)

    def discovered(self, message: ApsMessage, now: float) -> list[tuple[int, int]]:
        """Take a ZDO message: where a device has its Tunneling server, the tunnel is opened.

        Returned are the devices whose end this message told, with its endpoint.
        """
        found = []
        for eui64, end in self._ends.items():
            if end.endpoint is None and end.discovery.receive(message):
                end.endpoint = end.discovery.endpoints.get(TUNNELING_CLUSTER)
                if end.endpoint is not None:
                    found.append((eui64, end.endpoint))
                    self._open(eui64, end, now)
        return found

    def _open(self, eui64: int, end: _End, now: float) -> None:
        self.client.open(eui64, now)
        while end.waiting:
            self.client.send(eui64, end.waiting.popleft(), now)

    def receive(self, eui64: int, frame: zcl.Frame, now: float) -> list[object]:
        """Take one unicast frame of a device's Tunneling server."""
        return messages_received(self.client.receive(eui64, frame, now))

    def next_deadline(self) -> float | None:
        """When a question or a request is to be repeated."""
        return soonest(self.client.next_deadline(), *(end.discovery.deadline for end in self._ends.values()))

    def on_deadline(self, now: float) -> list[object]:
        """Ask again where it is time."""
        for end in self._ends.values():
            end.discovery.on_deadline(now)
        return self.client.on_deadline(now)

    def questions_to_send(self) -> list[ApsMessage]:
        """The ZDO messages that wait to be sent."""
        return [message for end in self._ends.values() for message in end.discovery.messages_to_send()]

    def frames_to_send(self) -> list[tuple[int, int, bytes]]:
        """The ZCL frames that wait to be sent, as (device, endpoint, frame)."""
        frames = []
        for eui64, frame in self.client.frames_to_send():
            endpoint = self._end(eui64).endpoint
            if endpoint is not None:
                frames.append((eui64, endpoint, frame))
        return frames

    def _end(self, eui64: int) -> _End:
        end = self._ends.get(eui64)
        if end is None:
            end = self._ends[eui64] = _End(Discovery(*self._pauses, self._next_sequence))
        return end
