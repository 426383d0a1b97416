"""One APS unicast on its way: attempts, acknowledgement, fragments."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import LinkKey, SentStatus
from harness.errors import RemoteProtocolError
from harness.wire.application import ApsMessage
from harness.wire.aps import ApsFrame, Fragment, build_aps
from harness.wire.fragments import BlockToSend, Fragmenter, MessageDelivered, SenderEvent

if TYPE_CHECKING:
    from harness.emulation.air import Timer
    from harness.emulation.node import Node

_DATA = 0
_UNICAST = 0


class Outgoing:
    """A unicast message until it is delivered or given up."""

    __slots__ = (
        "_attempts", "_block", "_counter", "_entry", "_fragmenter", "_no_route", "_node", "_timer",
        "message", "relays", "tag",
    )  # fmt: skip

    def __init__(
        self, node: Node, message: ApsMessage, tag: int | None, counter: int, entry: LinkKey | None,
        relays: tuple[int, ...] | None, block: Fragment | None,
    ) -> None:  # fmt: skip
        self._node = node
        self.message = message
        self.tag = tag
        self._counter = counter
        self._entry = entry
        self.relays = relays
        self._block = block
        self._attempts = 0
        self._no_route = False
        self._fragmenter: Fragmenter | None = None
        self._timer: Timer | None = None

    def split(self, block_size: int) -> None:
        """Send in blocks of this size."""
        config = self._node.config
        self._fragmenter = Fragmenter(
            self.message.payload, block_size, window=config.fragment_window, retries=config.aps_retries,
            ack_wait=self._ack_wait_us() / 1e6,
        )  # fmt: skip

    def start(self) -> None:
        """Make the first attempt."""
        if self._fragmenter is not None:
            self._follow(self._fragmenter.start(self._node.air.now / 1e6))
        else:
            self._attempt()

    def stop(self) -> None:
        """Wait for nothing any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ack_wait_us(self) -> int:
        node = self._node
        peer = self.message.peer
        eui64 = node.lookup_eui64(peer)
        sleepy = peer in node.parenting.sleepy or (
            eui64 is not None and node.extended_timeouts.get(eui64, False)
        )
        return node.config.aps_ack_wait_sleepy_us if sleepy else node.config.aps_ack_wait_us

    def _attempt(self) -> None:
        node = self._node
        message = self.message
        if not message.acknowledged:
            self._transmit(message.payload, self._block)
            return
        if self._attempts > node.config.aps_retries:
            self._finish(SentStatus.NO_ROUTE if self._no_route else SentStatus.NOT_ACKNOWLEDGED)
            return
        if self._attempts:
            node.counters.aps_tx_unicast_retry += 1
        self._attempts += 1
        self._timer = node.after(self._ack_wait_us(), self._attempt)
        self._transmit(message.payload, self._block)

    def _transmit(self, payload: bytes, fragment: Fragment | None) -> None:
        """Put the message, or a block of it, into a frame with fresh counters and send it."""
        node = self._node
        message = self.message
        if self.relays is None and not node.routing.has_way(message.peer):
            # Sealed only when it goes: while it waits for a route another frame under the same key may overtake it.
            node.routing.search(message.peer, partial(self._found, payload, fragment))
            return
        frame = ApsFrame(
            _DATA, _UNICAST, message.destination_endpoint, None, message.cluster, message.profile,
            message.source_endpoint, self._counter, payload, message.acknowledged, False, fragment,
        )  # fmt: skip
        data = build_aps(frame) if self._entry is None else node.aps.seal(frame, self._entry)
        node.routing.send(
            node.nwk.data_frame(message.peer, data, radius=message.radius, relays=self.relays), self._sent
        )

    def _found(self, payload: bytes, fragment: Fragment | None, found: bool) -> None:
        """A route was found, or none; meanwhile the message may have been delivered or given up."""
        if self.message.acknowledged and self._node.aps.waiting.get(self._counter) is not self:
            return
        if found:
            self._transmit(payload, fragment)
        else:
            self._sent(None)

    def _sent(self, status: MacStatus | None) -> None:
        """The frame went one hop, or found no way."""
        self._no_route = status is None
        if status != MacStatus.SUCCESS and self.relays is not None:
            self.relays = None  # the next attempt finds a route of its own
        if not self.message.acknowledged:
            if status == MacStatus.SUCCESS:
                self._finish(SentStatus.DELIVERED)
            else:
                self._finish(SentStatus.NO_ROUTE if status is None else SentStatus.NOT_ACKNOWLEDGED)

    def acknowledged(self, src: int, ack: ApsFrame, secured: bool) -> None:
        """An APS acknowledgement with our counter came; it counts if it is our partner's, and as secure."""
        message = self.message
        if src != message.peer or (message.secured and not secured):
            return
        if not ack.ack_format and (
            ack.cluster != message.cluster or ack.src_endpoint != message.destination_endpoint
        ):
            return
        if self._fragmenter is not None:
            if ack.fragment is not None:
                try:
                    events = self._fragmenter.acknowledge(ack.fragment, self._node.air.now / 1e6)
                except RemoteProtocolError:
                    self._node.counters.malformed += 1
                    return
                self._follow(events)
            return
        block = self._block
        if block is not None and (
            ack.fragment is None or ack.fragment.number != (0 if block.first else block.number)
        ):
            return  # for a block before this one, again: the blocks of a message share its counter
        self._finish(SentStatus.DELIVERED)

    def _finish(self, status: SentStatus) -> None:
        node = self._node
        self.stop()
        if not self.message.acknowledged:
            if node.aps.sending.pop(self, None) is None:
                return  # reported when the node stopped
        elif node.aps.waiting.get(self._counter) is self:
            del node.aps.waiting[self._counter]
        if status == SentStatus.DELIVERED:
            node.counters.aps_tx_unicast_success += 1
        else:
            node.counters.aps_tx_unicast_failed += 1
        node.aps.report(self.tag, self.message, status)

    # --- fragments ----------------------------------------------------------------------------------------------------

    def _follow(self, events: list[SenderEvent]) -> None:
        """Do what the fragmenter says, and wake it when it wants."""
        fragmenter = self._fragmenter
        assert fragmenter is not None
        for event in events:
            if isinstance(event, BlockToSend):
                self._transmit(event.payload, event.fragment)
            elif isinstance(event, MessageDelivered):
                self._finish(SentStatus.DELIVERED)
                return
            else:
                self._finish(SentStatus.NO_ROUTE if self._no_route else SentStatus.NOT_ACKNOWLEDGED)
                return
        self.stop()
        deadline = fragmenter.next_deadline()
        if deadline is not None:
            node = self._node
            self._timer = node.after(max(round(deadline * 1e6) - node.air.now, 1), self._woken)

    def _woken(self) -> None:
        assert self._fragmenter is not None
        self._timer = None
        # The deadline in seconds may lie a rounding after the microsecond that the timer was set for.
        deadline = self._fragmenter.next_deadline()
        now = self._node.air.now / 1e6
        self._follow(self._fragmenter.on_deadline(now if deadline is None else max(now, deadline)))
