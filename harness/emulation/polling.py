"""An end device and its parent: when it polls, how it stays awake for answers, how it finds its parent gone."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import NodeKind, NodeState

if TYPE_CHECKING:
    from harness.emulation.air import Timer
    from harness.emulation.node import Node


class Polling:
    """The data requests of one end device."""

    __slots__ = ("_awake_until_us", "_failures", "_interval_us", "_node", "_timer")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._failures = 0  # frames to the parent in a row that it did not acknowledge
        self._timer: Timer | None = None
        self._interval_us: int | None = None  # None: the configured one of this kind of node
        self._awake_until_us = 0

    def stop(self) -> None:
        """The node is off the network; the interval stays."""
        self._timer = None
        self._failures = self._awake_until_us = 0

    def start(self) -> None:
        """Begin to poll as the kind of node and the interval say."""
        node = self._node
        node.mac.receiver_on_when_idle = node.kind != NodeKind.SLEEPY_END_DEVICE
        self._schedule()

    def set_interval(self, us: int | None) -> None:
        """Poll so often from now on; None or 0: not at all by itself."""
        self._interval_us = us or 0
        if self._node.kind >= NodeKind.END_DEVICE and self._node.state == NodeState.JOINED:
            self._schedule()

    def stay_awake(self) -> None:
        """Something was sent or came: an answer may be near, so poll fast for a while."""
        node = self._node
        if node.kind != NodeKind.SLEEPY_END_DEVICE:
            return
        now = node.air.now
        asleep = self._awake_until_us <= now
        self._awake_until_us = now + node.config.awake_us
        if asleep and node.state == NodeState.JOINED:
            self._schedule()

    def _schedule(self) -> None:
        node = self._node
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        config = node.config
        sleepy = node.kind == NodeKind.SLEEPY_END_DEVICE
        interval = self._interval_us
        if interval is None:
            interval = config.poll_interval_us if sleepy else config.keepalive_us
        if sleepy and (self._awake_until_us > node.air.now or node.aps.waiting):
            interval = min(interval or config.fast_poll_us, config.fast_poll_us)
        if interval:
            self._timer = node.after(interval, self._poll)

    def _poll(self) -> None:
        self._timer = None
        if self._node.state == NodeState.JOINED:
            self.poll(None)

    def poll(self, done: Callable[[MacStatus], None] | None) -> None:
        """Ask the parent for what waits here, and go on asking while there is more."""

        def answered(status: MacStatus) -> None:
            if done is not None:
                done(status)
            self._polled(status)

        self._node.mac.poll(answered)

    def _polled(self, status: MacStatus) -> None:
        node = self._node
        if node.state != NodeState.JOINED:
            return
        self.parent_answered(status)
        if node.state != NodeState.JOINED:
            return
        if status == MacStatus.SUCCESS and node.more_waits:
            node.more_waits = False
            self.poll(None)
        elif self._timer is None:
            self._schedule()

    def parent_answered(self, status: MacStatus) -> None:
        """A frame went to the parent: was it acknowledged?"""
        if status in (MacStatus.SUCCESS, MacStatus.NO_DATA):
            self._failures = 0
            return
        if status == MacStatus.NO_ACK:
            self._failures += 1
            if self._failures >= self._node.config.lost_parent_polls:
                self._node.joining.parent_lost(
                    f"parent lost: {self._failures} frames in a row without acknowledgement"
                )
