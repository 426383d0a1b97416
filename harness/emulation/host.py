"""Carries the behaviour of a member on an emulated node: power, joining, messages, deadlines, restarts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any

from harness.emulation.air import Air, Timer
from harness.emulation.joining import CHANNELS
from harness.emulation.node import (
    LinkKey,
    Network,
    Node,
    NodeConfig,
    NodeKind,
    NodeListener,
    NodeState,
    SentStatus,
)
from harness.errors import LocalProtocolError
from harness.wire.application import (
    ApsMessage,
    Behaviour,
    JoinEnded,
    JoinPermitted,
    LinkKeyEstablished,
    LinkKeyForgotten,
    LinkKeyRestored,
    Restart,
    TrustCenterBehaviour,
)
from harness.wire.aps_commands import DEVICE_LEFT
from harness.wire.mac import format_eui64

JOIN_RETRY = 20.0  # seconds
# Before a restart what was sent gets out, above all the acknowledgement of what caused it.
_LAST_WORDS_US = 50_000
_UNTIL_ENDED = 255  # permit_joining: no time of its own


@dataclass(frozen=True, slots=True)
class SecurityFailed:
    """A message from short address `peer` was dropped: it is not secured under the link key with it, or replayed."""

    peer: int
    reason: str


class MemberNode(NodeListener):
    """A member of the HAN as a node: `behaviour` decides what it does, this class only lets it.

    It starts without power. A device joins with its `link_key` when it is switched on, and again `join_retry` seconds
    after a failure; one that is a member goes on as one. A coordinator forms `network`. Each event of the behaviour
    goes to `on_event` with the time in seconds; the requests among them (a `Restart`, those about link keys and, of a
    coordinator, about joining) are obeyed as well. Link keys outlive power cuts. The behaviour of a coordinator that is
    a `TrustCenterBehaviour` is told who left. What the behaviour raises surfaces from the air.
    """

    __slots__ = (
        "_channels", "_deadline", "_join_retry_us", "_joiners", "_network", "_on_event", "_previous", "_restart",
        "_retry", "air", "behaviour", "last_join_failure", "link_key", "node",
    )  # fmt: skip

    def __init__(
        self,
        air: Air,
        behaviour: Behaviour,
        *,
        eui64: int,
        kind: NodeKind,
        link_key: bytes | None = None,
        network: Network | None = None,
        channels: Sequence[int] = CHANNELS,
        config: NodeConfig | None = None,
        join_retry: float = JOIN_RETRY,
        on_event: Callable[[float, object], None] | None = None,
    ) -> None:
        if (network is None) == (kind == NodeKind.COORDINATOR) or (link_key is None) == (network is None):
            raise LocalProtocolError(
                "A coordinator forms a network, any other node joins one with a link key"
            )
        self.air = air
        self.behaviour = behaviour
        self.node = Node(air, eui64, kind, self, config=config)
        self.node.descriptors = tuple(behaviour.descriptors)
        self.node.power_off()
        self.link_key = link_key
        self.last_join_failure: str | None = None
        """Why the last attempt to join failed; None after one that did not."""
        self._network = network
        self._channels = channels
        self._join_retry_us = round(join_retry * 1e6)
        self._on_event = on_event
        self._joiners: frozenset[int] = frozenset()  # those that may join now
        self._deadline: Timer | None = None
        self._retry: Timer | None = None
        self._restart: Timer | None = None
        self._previous: dict[
            int, LinkKey | None
        ] = {}  # by partner: what the established key took the place of

    @property
    def joined(self) -> bool:
        """Whether it is on its network now."""
        return self.node.state == NodeState.JOINED

    # --- power --------------------------------------------------------------------------------------------------------

    def power_on(self) -> None:
        """Give it power: it joins, or goes on with the network that it was on. Nothing happens when it has power."""
        if self.node.powered:
            return
        self._cancel()
        self.node.power_on()
        if self.node.network is None:
            self._join()
        elif self.node.kind == NodeKind.ROUTER:
            # An end device rejoins; of a router that goes on in silence the hub would not know that its tunnel is gone.
            self.node.joining.announce()
        self._follow([])

    def power_off(self) -> None:
        """Take the node's power away, as if its radio failed: the behaviour is none the wiser."""
        self._cancel()
        self._joiners = frozenset()
        self.node.power_off()

    def power_cut(self) -> None:
        """Take the power of the whole member away: the behaviour loses what is not in storage."""
        self.power_off()
        self.behaviour.power_cut()

    def save(self) -> dict[str, Any]:
        """Return what the node keeps of its network, as JSON can write it, keys included."""
        return self.node.save()

    def restore(self, saved: dict[str, Any]) -> None:
        """Let it go on, when it gets its power, with the network that `save` was called on.

        LocalProtocolError for anything else, and for a node that has power.
        """
        if self.node.powered:
            raise LocalProtocolError(
                f"{format_eui64(self.node.eui64)} has power: its network is not replaced"
            )
        self.node.power_on(resume=False)
        self.node.restore(saved)
        self.node.power_off()

    def _cancel(self) -> None:
        for timer in (self._deadline, self._retry, self._restart):
            if timer is not None:
                timer.cancel()
        self._deadline = self._retry = self._restart = None

    # --- joining ------------------------------------------------------------------------------------------------------

    def _join(self) -> None:
        self._retry = None
        if self._network is not None:
            self.node.form(self._network)
        elif self.link_key is not None:
            self.node.join(link_key=self.link_key, channels=self._channels, done=self._joined)

    def _joined(self, ok: bool, reason: str) -> None:
        self.last_join_failure = None if ok else reason
        if not ok:
            self._retry = self.air.call_in(self._join_retry_us, self._join)

    # --- the behaviour ------------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds on the air's clock: the behaviour's."""
        return self.air.now / 1e6

    def run(self, events: Sequence[object]) -> None:
        """Carry on after the behaviour was called from outside: report `events`, send what it has to send."""
        self._follow(events)

    def _follow(self, events: Sequence[object]) -> None:
        """Pass the behaviour's events on, send its messages, and see when it wants to be called."""
        behaviour = self.behaviour
        restart: Restart | None = None
        for event in events:
            if self._on_event is not None:
                self._on_event(self.now(), event)
            if isinstance(event, Restart):
                restart = event
            elif isinstance(event, LinkKeyEstablished):
                self._previous[event.partner] = self.node.link_keys.get(event.partner)
                self.node.set_link_key(event.partner, event.key)
            elif isinstance(event, LinkKeyRestored):
                self._restore_key(event.partner)
            elif isinstance(event, LinkKeyForgotten):
                self._forget(event.partner)
            elif isinstance(event, JoinPermitted):
                self.node.set_link_key(event.eui64, event.key)
                self._permit(self._joiners | {event.eui64})
            elif isinstance(event, JoinEnded):
                self._permit(self._joiners - {event.eui64})
        for message in behaviour.messages_to_send():
            self.node.send(message)
        if restart is not None and self._restart is None:
            self._restart = self.air.call_in(_LAST_WORDS_US, self._go_dark, restart.seconds)
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None
        deadline = behaviour.next_deadline()
        if deadline is not None and self.node.powered:
            when = max(ceil(deadline * 1e6), self.air.now)
            self._deadline = self.air.call_at(when, self._due, deadline)

    def _permit(self, joiners: frozenset[int]) -> None:
        """Let devices associate as long as one of them may join; the others have no key to get any further with."""
        self._joiners = joiners
        if self.joined:
            self.node.permit_joining(_UNTIL_ENDED if joiners else 0)

    def _forget(self, partner: int) -> None:
        """Have a device leave, and drop the key with it."""
        if self.joined:
            self.node.remove_device(partner)
        self.node.forget_link_key(partner)
        self._previous.pop(partner, None)

    def _restore_key(self, partner: int) -> None:
        """Put the key before the last one back, none if there was none; nothing to undo is a LocalProtocolError."""
        if partner not in self._previous:
            raise LocalProtocolError(
                f"No link key was established with {format_eui64(partner)} to restore one before"
            )
        previous = self._previous.pop(partner)
        if previous is None:
            self.node.forget_link_key(partner)
            return
        # What the partner sent under it before does not count again.
        self.node.set_link_key(partner, previous.key, incoming_counter=previous.incoming_counter)

    def _go_dark(self, seconds: float) -> None:
        self.power_cut()
        self._restart = self.air.call_in(round(seconds * 1e6), self.power_on)

    def _due(self, deadline: float) -> None:
        self._deadline = None
        # Seconds in floating point may fall short of the deadline that the microsecond was computed from.
        self._follow(self.behaviour.on_deadline(max(self.now(), deadline)))

    # --- the node -----------------------------------------------------------------------------------------------------

    def network_up(self) -> None:
        """The node: it is a member of its network."""
        self._follow(self.behaviour.network_up(self.node.short, self.now()))

    def network_down(self, reason: str) -> None:
        """The node: it is none any more, or lost its parent."""
        self._follow(self.behaviour.network_down(self.now()))

    def message_received(self, message: ApsMessage, aps_counter: int, lqi: int, rssi: float) -> None:
        """The node: a message for an endpoint, or an answer to a ZDO request."""
        self._follow(self.behaviour.receive(message, self.now()))

    def security_failed(self, peer: int, reason: str) -> None:
        """The node: it dropped a message."""
        if self._on_event is not None:
            self._on_event(self.now(), SecurityFailed(peer, reason))

    def device_joined(self, eui64: int, short: int, parent_short: int, status: int) -> None:
        """The node, a trust centre: a device joined or left; of the first, its own announcement tells the behaviour."""
        if status == DEVICE_LEFT and isinstance(self.behaviour, TrustCenterBehaviour):
            self._follow(self.behaviour.device_left(eui64, self.now()))

    def message_sent(self, tag: int, message: ApsMessage, status: SentStatus) -> None:
        """The node: what became of a message; a behaviour goes by the answers that it gets."""
