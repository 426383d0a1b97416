"""The APS layer of a node: messages with acknowledgements and retries, link-key security, fragments, duplicates."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

from harness.emulation.aps_outgoing import Outgoing
from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import LinkKey, NodeKind, NodeState, SentStatus
from harness.errors import RemoteProtocolError
from harness.wire.application import ANY_ENDPOINT, BROADCAST_RX_ON, FIRST_BROADCAST, ZDO_PROFILE, ApsMessage
from harness.wire.aps import ApsFrame, Delivery, Fragment, build_aps, open_aps, parse_aps
from harness.wire.fragments import MAX_BLOCKS, BlocksToAcknowledge, MessageReassembled, Reassembler
from harness.wire.nwk import NwkFrame
from harness.wire.security import AuxHeader, KeyId

if TYPE_CHECKING:
    from harness.emulation.air import Timer
    from harness.emulation.node import Node

DATA = 0
COMMAND = 1
ACK = 2
ANY_PROFILE = 0xFFFF

# What fits the 127 octets of a PSDU beside MAC header and FCS (11), NWK header and security (26) and APS header (8).
MAX_PAYLOAD = 82
_SECURITY_OVERHEAD = 9  # auxiliary header without extended nonce, MIC
_FRAGMENT_OVERHEAD = 2
_SOURCE_ROUTE_OVERHEAD = 2

_DUPLICATES = 32
_DUPLICATE_US = 40_000_000  # longer than the retries of a message to a sleepy device take


class ApsLayer:
    """Sends and takes the APS frames of one node."""

    __slots__ = (
        "_counter", "_duplicates", "_node", "_reassembler", "_reassembly_timer", "sending", "waiting",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self._node = node
        self._counter = node.air.random.randrange(256)
        self.waiting: dict[int, Outgoing] = {}  # by APS counter: unicasts without their acknowledgement yet
        # All other messages on their way, by what will hear that one is gone.
        self.sending: dict[object, tuple[int | None, ApsMessage]] = {}
        self._duplicates: dict[int, int] = {}  # checksum of the message, sender and counter -> when it came
        self._reassembler: Reassembler | None = None
        self._reassembly_timer: Timer | None = None

    def stop(self, silently: bool) -> None:
        """The node is off the network: what waits has failed; `silently`: and nobody is left to hear of it."""
        waiting, self.waiting = self.waiting, {}
        sending, self.sending = self.sending, {}
        self._duplicates.clear()
        self._reassembler = None
        self._reassembly_timer = None
        for outgoing in waiting.values():
            outgoing.stop()
            if not silently:
                self.report(outgoing.tag, outgoing.message, SentStatus.NOT_JOINED)
        if not silently:
            for tag, message in sending.values():
                self.report(tag, message, SentStatus.NOT_JOINED)

    def next_counter(self) -> int:
        """Return an APS counter that no waiting message has."""
        counter = (self._counter + 1) & 0xFF
        while counter in self.waiting:
            counter = (counter + 1) & 0xFF
        self._counter = counter
        return counter

    # --- sending ------------------------------------------------------------------------------------------------------

    def report(self, tag: int | None, message: ApsMessage, status: SentStatus) -> None:
        """Tell the listener what became of a message; the node's own (without a tag) are nobody's business."""
        if tag is not None:
            self._node.listener.message_sent(tag, message, status)

    def _refuse(self, tag: int | None, message: ApsMessage, status: SentStatus) -> None:
        if tag is not None:
            self._node.air.call_in(0, self.report, tag, message, status)

    def send(
        self, message: ApsMessage, tag: int | None = None, *, relays: tuple[int, ...] | None = None,
        block: Fragment | None = None, aps_counter: int | None = None,
    ) -> int:  # fmt: skip
        """Send a message and return its APS counter; the result comes by `message_sent`, later."""
        node = self._node
        counter = self.next_counter() if aps_counter is None else aps_counter
        if node.state != NodeState.JOINED:
            self._refuse(tag, message, SentStatus.NOT_JOINED)
            return counter
        if message.broadcast or message.group is not None or message.peer >= FIRST_BROADCAST:
            self._send_to_many(message, tag, counter)
            return counter
        if message.peer == node.short:
            self._loop_back(message, tag, counter)
            return counter
        entry: LinkKey | None = None
        if message.secured:
            entry = self.link_key(node.lookup_eui64(message.peer))
            if entry is None:
                self._refuse(tag, message, SentStatus.NO_KEY)
                return counter
        if message.acknowledged and (len(self.waiting) >= node.config.max_pending or counter in self.waiting):
            self._refuse(tag, message, SentStatus.BUSY)
            return counter
        if relays is None and node.source_routing:
            relays = node.source_routes.get(message.peer) or None
        room = self.room(message.secured, None if relays is None else len(relays))
        outgoing = Outgoing(node, message, tag, counter, entry, relays, block)
        if len(message.payload) > (room if block is None else room - _FRAGMENT_OVERHEAD):
            room -= _FRAGMENT_OVERHEAD
            can_split = block is None and node.config.fragment and message.acknowledged
            if not can_split or len(message.payload) > room * MAX_BLOCKS:
                self._refuse(tag, message, SentStatus.TOO_LONG)
                return counter
            outgoing.split(room)
        if message.acknowledged:
            self.waiting[counter] = outgoing
        else:
            self.sending[outgoing] = tag, message
        outgoing.start()
        if node.kind == NodeKind.SLEEPY_END_DEVICE:
            node.polling.stay_awake()
        return counter

    def source_route_failed(self, peer: int) -> None:
        """What waits for `peer` must find another way at its next attempt."""
        for outgoing in self.waiting.values():
            if outgoing.message.peer == peer:
                outgoing.relays = None

    def room(self, secured: bool, relays: int | None) -> int:
        """How many octets of payload one data frame holds; `relays` None: no source route."""
        room = MAX_PAYLOAD
        if secured:
            room -= _SECURITY_OVERHEAD
        if relays is not None:
            room -= _SOURCE_ROUTE_OVERHEAD + 2 * relays
        return room

    def _send_to_many(self, message: ApsMessage, tag: int | None, counter: int) -> None:
        node = self._node
        group = message.group
        if message.secured:
            self._refuse(tag, message, SentStatus.NO_KEY)  # a link key has one partner
            return
        if len(message.payload) > MAX_PAYLOAD - (group is not None):
            self._refuse(tag, message, SentStatus.TOO_LONG)
            return
        delivery = Delivery.BROADCAST if group is None else Delivery.GROUP
        frame = ApsFrame(
            DATA, delivery, message.destination_endpoint if group is None else 0, group, message.cluster,
            message.profile, message.source_endpoint, counter, message.payload,
        )  # fmt: skip
        dst = message.peer if message.peer >= FIRST_BROADCAST else BROADCAST_RX_ON
        done: Callable[[MacStatus], None] | None = None
        if tag is not None:

            def done(status: MacStatus) -> None:
                if self.sending.pop(done, None) is None:
                    return  # reported when the node stopped
                sent = SentStatus.DELIVERED if status == MacStatus.SUCCESS else SentStatus.NOT_ACKNOWLEDGED
                self.report(tag, message, sent)

            self.sending[done] = tag, message
        node.counters.aps_tx_broadcast += 1
        node.nwk.broadcast(node.nwk.data_frame(dst, build_aps(frame), radius=message.radius), done)

    def _loop_back(self, message: ApsMessage, tag: int | None, counter: int) -> None:
        def arrived() -> None:
            del self.sending[arrived]
            self.report(tag, message, SentStatus.DELIVERED)
            self.deliver(message, counter, 255, 0.0)

        self.sending[arrived] = tag, message
        self._node.after(0, arrived)

    # --- security -----------------------------------------------------------------------------------------------------

    def link_key(self, partner: int | None) -> LinkKey | None:
        """Return the link key with `partner`; an expired one is forgotten."""
        node = self._node
        if partner is None:
            return None
        entry = node.link_keys.get(partner)
        if entry is not None and entry.expires_us is not None and entry.expires_us <= node.air.now:
            del node.link_keys[partner]
            return None
        return entry

    def take_counter(self, entry: LinkKey) -> int:
        """Return the next frame counter of a link key, and keep storage ahead of it."""
        counter = entry.outgoing_counter
        if counter >= entry.reserved:
            node = self._node
            entry.reserved = counter + node.config.counter_reserve
            node.aps_high = max(node.aps_high, entry.reserved)
            node.listener.storage_changed()
        entry.outgoing_counter = counter + 1
        return counter

    def seal(self, frame: ApsFrame, entry: LinkKey) -> bytes:
        """Build a data or acknowledgement frame secured under a link key (as data: key identifier 0)."""
        aux = AuxHeader(KeyId.LINK, self.take_counter(entry))
        return build_aps(frame._replace(aux=aux), entry.key, self._node.eui64)

    # --- receiving ----------------------------------------------------------------------------------------------------

    def received_clear(self, nwk: NwkFrame) -> None:
        """A frame without network security: only a Transport-Key command may come so."""
        try:
            frame = parse_aps(nwk.payload)
        except RemoteProtocolError:
            self._node.counters.malformed += 1
            return
        if frame.kind == COMMAND:
            self._node.trust.command_received(nwk, frame, None, clear=True)

    def received(self, nwk: NwkFrame, source: int | None, lqi: int, rssi: float) -> None:
        """A data frame of the NWK layer for this node, opened; `source` is its originator's EUI-64, if it is known."""
        node = self._node
        try:
            frame = parse_aps(nwk.payload)
        except RemoteProtocolError:
            node.counters.malformed += 1
            return
        kind = frame.kind
        if kind == COMMAND:
            node.trust.command_received(nwk, frame, source, clear=False)
            return
        entry: LinkKey | None = None
        aux = frame.aux
        if aux is not None:
            if aux.source is not None:
                source = aux.source
            entry = self.link_key(source)
            if entry is None or aux.key_id != KeyId.LINK:
                node.counters.link_key_missing += 1
                node.listener.security_failed(nwk.src, "no link key with its sender")
                return
            # Zigbee PRO 4.4.1.2: as with the NWK layer's, a counter must rise.
            if aux.frame_counter < entry.incoming_counter:
                node.counters.aps_counter_failures += 1
                node.listener.security_failed(
                    nwk.src,
                    f"frame counter {aux.frame_counter} used before, {entry.incoming_counter} is next",
                )
                return
            try:
                frame = open_aps(frame, entry.key, source)
            except RemoteProtocolError:
                node.counters.aps_decryption_failures += 1
                node.listener.security_failed(nwk.src, "not under the link key with its sender")
                return
            entry.incoming_counter = aux.frame_counter + 1
        if kind == ACK:
            outgoing = self.waiting.get(frame.counter)
            if outgoing is not None:
                outgoing.acknowledged(nwk.src, frame, entry is not None)
        elif kind == DATA:
            self._data_received(nwk, frame, entry, lqi, rssi)

    def _data_received(
        self, nwk: NwkFrame, frame: ApsFrame, entry: LinkKey | None, lqi: int, rssi: float
    ) -> None:
        node = self._node
        src = nwk.src
        payload = frame.payload
        unicast = frame.delivery == Delivery.UNICAST and nwk.dst < FIRST_BROADCAST
        if not self._is_for_us(frame, unicast):
            return
        if node.kind == NodeKind.SLEEPY_END_DEVICE:
            node.polling.stay_awake()
        message = ApsMessage(
            src, frame.profile, frame.cluster, frame.src_endpoint, frame.dst_endpoint, payload, entry is not None,
            frame.ack_request, not unicast, frame.group, nwk.radius,
        )  # fmt: skip
        fragment = frame.fragment
        if fragment is not None:
            if unicast:
                self._block_received(message, frame.counter, fragment, lqi, rssi)
            return
        if frame.ack_request and unicast:
            self.acknowledge(message, frame.counter, entry)
        now = node.air.now
        # The APS counter is one octet and wraps within seconds during an image transfer: what repeats counter and
        # content alike is a retransmission, a new message under an old counter is not.
        key = crc32(payload) << 24 | src << 8 | frame.counter
        duplicates = self._duplicates
        came = duplicates.get(key)
        if came is not None and now - came < _DUPLICATE_US:
            return
        if came is not None:
            del duplicates[key]
        while duplicates:
            # What is too old goes first: of a device that hears little the table stays small.
            oldest = next(iter(duplicates))
            if now - duplicates[oldest] < _DUPLICATE_US and len(duplicates) < _DUPLICATES:
                break
            del duplicates[oldest]
        duplicates[key] = now
        if unicast:
            node.counters.aps_rx_unicast += 1
        else:
            node.counters.aps_rx_broadcast += 1
        self.deliver(message, frame.counter, lqi, rssi)

    def _is_for_us(self, frame: ApsFrame, unicast: bool) -> bool:
        """Say whether an endpoint here takes the frame."""
        node = self._node
        if frame.profile == ZDO_PROFILE and frame.dst_endpoint == 0 and frame.group is None:
            return True
        if frame.group is not None and frame.group not in node.groups:
            return False
        if node.config.deliver_all:
            return True
        endpoint = frame.dst_endpoint
        for descriptor in node.descriptors:
            if frame.group is not None or endpoint == ANY_ENDPOINT:
                if frame.profile in (descriptor.profile, ANY_PROFILE):
                    return True
            elif endpoint == descriptor.endpoint:
                return unicast or frame.profile in (descriptor.profile, ANY_PROFILE)
        return False

    def acknowledge(
        self, message: ApsMessage, counter: int, entry: LinkKey | None, fragment: Fragment | None = None
    ) -> None:
        """Send the APS acknowledgement of a message, secured like the message."""
        node = self._node
        routing = node.routing
        relays = (node.source_routes.get(message.peer) or None) if node.source_routing else None
        if relays is None and not routing.has_way(message.peer):
            routing.search(message.peer, partial(self._acknowledge_if, message, counter, entry, fragment))
            return
        ack = ApsFrame(
            ACK, Delivery.UNICAST, message.source_endpoint, None, message.cluster, message.profile,
            message.destination_endpoint, counter, b"", False, False, fragment,
        )  # fmt: skip
        data = build_aps(ack) if entry is None else self.seal(ack, entry)
        routing.send(node.nwk.data_frame(message.peer, data, relays=relays))

    def _acknowledge_if(
        self, message: ApsMessage, counter: int, entry: LinkKey | None, fragment: Fragment | None, found: bool
    ) -> None:
        if found:
            self.acknowledge(message, counter, entry, fragment)

    def deliver(self, message: ApsMessage, counter: int, lqi: int, rssi: float) -> None:
        """Hand a message to ZDO or up."""
        node = self._node
        if (
            message.profile == ZDO_PROFILE
            and message.destination_endpoint == 0
            and not node.zdo.received(message)
        ):
            return
        node.listener.message_received(message, counter, lqi, rssi)

    # --- fragments ----------------------------------------------------------------------------------------------------

    def _block_received(
        self, message: ApsMessage, counter: int, fragment: Fragment, lqi: int, rssi: float
    ) -> None:
        node = self._node
        if not node.config.fragment:
            number = 0 if fragment.first else fragment.number
            total = fragment.number if fragment.first else None
            node.listener.fragment_received(message, counter, number, total, lqi, rssi)
            return
        if self._reassembler is None:
            config = node.config
            sleepy = node.kind == NodeKind.SLEEPY_END_DEVICE
            wait = config.aps_ack_wait_sleepy_us if sleepy else config.aps_ack_wait_us
            # As long as the sender goes on trying.
            timeout = wait * (config.aps_retries + 1) / 1e6
            self._reassembler = Reassembler(window=config.fragment_window, timeout=timeout)
        key = (message.peer, counter, message.source_endpoint, message.cluster)
        now = node.air.now / 1e6
        try:
            events = self._reassembler.receive(key, fragment, message.payload, now)
        except RemoteProtocolError:
            node.counters.malformed += 1
            return
        for event in events:
            if isinstance(event, BlocksToAcknowledge):
                entry = self.link_key(node.lookup_eui64(message.peer)) if message.secured else None
                self.acknowledge(message, counter, entry, event.fragment)
            elif isinstance(event, MessageReassembled):
                node.counters.aps_rx_unicast += 1
                whole = ApsMessage(
                    message.peer, message.profile, message.cluster, message.source_endpoint,
                    message.destination_endpoint, event.payload, message.secured, message.acknowledged,
                )  # fmt: skip
                self.deliver(whole, counter, lqi, rssi)
        if self._reassembly_timer is None:
            self._await_blocks()

    def _await_blocks(self) -> None:
        """Let the reassembler forget in time what does not come to its end."""
        node = self._node
        self._reassembly_timer = None
        if self._reassembler is None:
            return
        now = node.air.now
        self._reassembler.on_deadline(now / 1e6)
        deadline = self._reassembler.next_deadline()
        if deadline is None:
            self._reassembler = None
        else:
            self._reassembly_timer = node.after(max(round(deadline * 1e6) - now, 1), self._await_blocks)
