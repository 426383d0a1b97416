"""The NWK layer of a node: frames in and out, network security, broadcasts, relaying."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import NodeKind, NodeState
from harness.errors import RemoteProtocolError
from harness.wire.application import BROADCAST_ALL, BROADCAST_ROUTERS, FIRST_BROADCAST
from harness.wire.mac import MacFrame
from harness.wire.nwk import NwkFrame, build_nwk, open_nwk, parse_nwk
from harness.wire.nwk_commands import (
    REJOIN_REQUEST,
    SOURCE_ROUTE_FAILURE,
    EndDeviceTimeoutRequest,
    Leave,
    LinkStatus,
    NetworkStatus,
    NwkCommand,
    RejoinRequest,
    RejoinResponse,
    RouteRecord,
    RouteReply,
    RouteRequest,
    build_nwk_command,
    parse_nwk_command,
)
from harness.wire.security import AuxHeader, KeyId

if TYPE_CHECKING:
    from harness.emulation.node import Node

Done = Callable[[MacStatus], None]

DATA = 0
COMMAND = 1
MAC_BROADCAST = 0xFFFF

# Zigbee PRO (05-3474-21): the NIB's values for 2.4 GHz.
_BROADCAST_DELIVERY_US = 9_000_000
_BROADCAST_JITTER_US = 64_000
_PASSIVE_ACK_US = 500_000
_BROADCAST_RETRIES = 2
_BROADCAST_TABLE = 48
_REJOIN_REQUEST = bytes((REJOIN_REQUEST,))
_RADIUS = 30  # twice nwkMaxDepth
_INCOMING_TABLE = 64


class _Broadcast:
    """One entry of the broadcast transaction table: who was heard to pass it on, and what to repeat."""

    __slots__ = ("expires_us", "frame", "heard", "retries")

    def __init__(self, expires_us: int, frame: NwkFrame | None, heard: list[int]) -> None:
        self.expires_us = expires_us
        self.frame = frame
        self.heard = heard
        self.retries = _BROADCAST_RETRIES


class NwkLayer:
    """Builds, secures, opens, relays and dispatches the NWK frames of one node."""

    __slots__ = ("_broadcasts", "_limit", "_node", "_sequence", "counter", "incoming")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sequence = node.air.random.randrange(256)
        self.counter = 0  # the next outgoing frame counter
        self._limit = 0  # what storage holds; see reserve
        self.incoming: dict[int, int] = {}  # EUI-64 of the neighbour -> lowest frame counter still accepted
        self._broadcasts: dict[int, _Broadcast] = {}

    # --- counters -----------------------------------------------------------------------------------------------------

    @property
    def stored_counter(self) -> int:
        """What a node that loses its power now goes on with: above every counter that it has used."""
        return self._limit

    def set_counter(self, value: int) -> None:
        """Go on from `value`."""
        self.counter = self._limit = value

    def resume(self) -> None:
        """After a power cycle: go on from what storage held."""
        self.counter = self._limit
        self._broadcasts.clear()

    def _take_counter(self) -> int:
        counter = self.counter
        if counter >= self._limit:
            self._limit = counter + self._node.config.counter_reserve
            self._node.listener.storage_changed()
        self.counter = counter + 1
        return counter

    def next_sequence(self) -> int:
        """Return a fresh NWK sequence number."""
        self._sequence = sequence = (self._sequence + 1) & 0xFF
        return sequence

    # --- out ----------------------------------------------------------------------------------------------------------

    def transmit(
        self, frame: NwkFrame, hop: int, done: Done | None = None, *, indirect: bool = False
    ) -> None:
        """Secure `frame` afresh and give it to the MAC for the neighbour or child `hop` (0xFFFF: everybody).

        The security of a frame is of one hop, and its counter must rise in the order of sending: so it is put on here,
        at the last moment.
        """
        node = self._node
        network = node.network
        assert network is not None
        aux = AuxHeader(KeyId.NETWORK, self._take_counter(), node.eui64, network.key_sequence)
        data = build_nwk(tuple.__new__(NwkFrame, (*frame[:13], aux, b"")), network.network_key)
        if hop == MAC_BROADCAST:
            node.mac.send(data, hop, ack=False, done=done)
        else:
            node.mac.send(data, hop, indirect=indirect or hop in node.parenting.sleepy, done=done)

    def transmit_clear(
        self, payload: bytes, dst: int, *, kind: int = DATA, dst_ieee: int | None = None, indirect: bool,
        done: Done | None = None,
    ) -> None:  # fmt: skip
        """Send an unsecured frame to the neighbour `dst`: to a device that has no network key yet, or from one."""
        node = self._node
        frame = NwkFrame(
            kind=kind, dst=dst, src=node.short, radius=1, sequence=self.next_sequence(), payload=payload,
            src_ieee=node.eui64 if kind == COMMAND else None, dst_ieee=dst_ieee,
        )  # fmt: skip
        node.mac.send(build_nwk(frame), dst, indirect=indirect, done=done)

    def data_frame(
        self, dst: int, payload: bytes, *, radius: int = 0, relays: tuple[int, ...] | None = None
    ) -> NwkFrame:
        """Make the frame of an APS frame of our own; `radius` 0 is the usual one."""
        index = len(relays) - 1 if relays else 0
        # Routes are looked for when there is none (discover route 1), broadcasts need none.
        discover = 0 if dst >= FIRST_BROADCAST else 1
        return NwkFrame(
            DATA, dst, self._node.short, radius or _RADIUS, self.next_sequence(), payload, None, None, discover,
            relays, index,
        )  # fmt: skip

    def command_frame(
        self,
        command: NwkCommand,
        dst: int,
        *,
        radius: int = 1,
        src: int | None = None,
        dst_ieee: int | None = None,
    ) -> NwkFrame:
        """Make the frame of a NWK command of our own (or, with `src`, in the name of a child)."""
        node = self._node
        return NwkFrame(
            COMMAND, dst, node.short if src is None else src, radius, self.next_sequence(), build_nwk_command(command),
            dst_ieee=dst_ieee, src_ieee=node.eui64 if src is None else None,
        )  # fmt: skip

    def send_command(
        self, command: NwkCommand, dst: int, *, hop: int | None = None, radius: int = 1, src: int | None = None,
        dst_ieee: int | None = None, done: Done | None = None,
    ) -> None:  # fmt: skip
        """Send a NWK command to the neighbour `hop` (default: `dst` itself; broadcasts go to everybody in reach)."""
        if hop is None:
            hop = MAC_BROADCAST if dst >= FIRST_BROADCAST else dst
        self.transmit(self.command_frame(command, dst, radius=radius, src=src, dst_ieee=dst_ieee), hop, done)

    def pass_command_on(self, nwk: NwkFrame, command: NwkCommand) -> None:
        """Repeat a broadcast command of another node, changed on the way, with one hop less to go."""
        if self._node.network is not None:
            payload = build_nwk_command(command)
            self.transmit(nwk._replace(radius=nwk.radius - 1, payload=payload, aux=None), MAC_BROADCAST)

    def broadcast(self, frame: NwkFrame, done: Done | None = None) -> None:
        """Send a broadcast of our own. An end device leaves it to its parent (Zigbee PRO 3.6.5)."""
        node = self._node
        if node.kind >= NodeKind.END_DEVICE:
            self.transmit(frame, node.parent_short, done)
        elif self._remember(frame, [node.short]) is None:
            node.air.call_in(0, done or _ignore, MacStatus.TRANSACTION_OVERFLOW)
        else:
            self._spread(frame, done)

    def _spread(self, frame: NwkFrame, done: Done | None = None) -> None:
        node = self._node
        self.transmit(frame, MAC_BROADCAST, done)
        if frame.dst == BROADCAST_ALL:
            for short in node.parenting.sleepy:
                self.transmit(frame, short)
        if node.neighbors:
            node.after(_PASSIVE_ACK_US, self._check_passive_acks, frame.src << 8 | frame.sequence)

    def _check_passive_acks(self, key: int) -> None:
        """Repeat a broadcast that some neighbouring router was not heard to pass on (Zigbee PRO 3.6.5)."""
        entry = self._broadcasts.get(key)
        node = self._node
        if entry is None or entry.frame is None or node.network is None or node.state != NodeState.JOINED:
            return
        missing = any(short not in entry.heard for short in node.neighbors)
        if not missing or entry.retries == 0:
            entry.frame = None
            return
        entry.retries -= 1
        self.transmit(entry.frame, MAC_BROADCAST)
        node.after(_PASSIVE_ACK_US, self._check_passive_acks, key)

    def _remember(self, frame: NwkFrame, heard: list[int]) -> _Broadcast | None:
        """Enter a broadcast in the transaction table; None when the table is full of live ones."""
        table = self._broadcasts
        now = self._node.air.now
        while table:
            oldest = next(iter(table))
            if table[oldest].expires_us > now:
                break
            del table[oldest]
        if len(table) >= _BROADCAST_TABLE:
            self._node.counters.broadcast_table_full += 1
            return None
        entry = _Broadcast(now + _BROADCAST_DELIVERY_US, frame, heard)
        table[frame.src << 8 | frame.sequence] = entry
        return entry

    # --- in -----------------------------------------------------------------------------------------------------------

    def received(self, frame: MacFrame, lqi: int, rssi: float) -> None:
        """Take a MAC data frame: check it, open it, and hand it on or up."""
        node = self._node
        counters = node.counters
        sender = frame.src
        try:
            nwk = parse_nwk(frame.payload)
        except RemoteProtocolError:
            counters.malformed += 1
            return
        aux = nwk.aux
        if aux is None:
            self._received_clear(nwk, frame, lqi, rssi)
            return
        network = node.network
        eui64 = aux.source
        if network is None or eui64 is None or aux.key_sequence != network.key_sequence:
            return
        is_broadcast = nwk.dst >= FIRST_BROADCAST
        if is_broadcast and self._is_known(nwk, sender):
            return
        counter = aux.frame_counter
        incoming = self.incoming
        # Zigbee PRO 4.3.1.2: a frame counter below the lowest still acceptable is a replay.
        if counter < incoming.get(eui64, 0):
            counters.nwk_counter_failures += 1
            return
        try:
            nwk = open_nwk(nwk, network.network_key)
        except RemoteProtocolError:
            counters.nwk_decryption_failures += 1
            return
        if eui64 not in incoming and len(incoming) >= _INCOMING_TABLE:
            del incoming[next(iter(incoming))]
        incoming[eui64] = counter + 1
        if node.addresses.get(sender) != eui64 and sender != node.short and not _asks_to_rejoin(nwk):
            node.learn_address(sender, eui64)
        node.parenting.heard(eui64, sender)
        src = nwk.src
        if src == node.short:
            if sender == src and eui64 != node.eui64:
                node.parenting.conflict_seen(src)
            return
        source = nwk.src_ieee
        if source is None:
            source = eui64 if src == sender else node.addresses.get(src)
        elif node.addresses.get(src) != source and not _asks_to_rejoin(nwk):
            node.learn_address(src, source)
        if src != sender:
            # What an end device of ours sends comes from itself, a broadcast first of all. By another hop: it has
            # another parent, and keeps its address maybe.
            child = node.parenting.by_short.get(src)
            if child is not None:
                node.parenting.drop_child(child.eui64)
        if is_broadcast:
            self._received_broadcast(nwk, sender, source, lqi, rssi)
        elif nwk.dst == node.short:
            if nwk.kind == DATA:
                node.aps.received(nwk, source, lqi, rssi)
            else:
                self._received_command(nwk, sender, source, lqi)
        elif node.kind <= NodeKind.ROUTER and nwk.radius > 1:
            self._relay(nwk, sender)

    def _is_known(self, nwk: NwkFrame, sender: int) -> bool:
        """Say whether a broadcast came before; whoever sent it has passed it on."""
        entry = self._broadcasts.get(nwk.src << 8 | nwk.sequence)
        if entry is None or entry.expires_us <= self._node.air.now:
            return False
        entry.heard.append(sender)
        return True

    def _received_broadcast(
        self, nwk: NwkFrame, sender: int, source: int | None, lqi: int, rssi: float
    ) -> None:
        node = self._node
        if nwk.kind == COMMAND and nwk.radius <= 1:
            self._received_command(
                nwk, sender, source, lqi
            )  # of one hop, such as a link status: never repeated
            return
        command = None
        if nwk.kind == COMMAND:
            command = self._parse_command(nwk)
            if command is None:
                return
        if isinstance(command, RouteRequest):
            node.routing.route_requested(nwk, command, sender, lqi)  # has a table of its own
            return
        entry = self._remember(nwk, [sender, node.short])
        if entry is None:
            return
        entry.frame = None  # kept below where it is sent on; that it was seen is enough otherwise
        # Zigbee PRO 3.6.5: 0xFFFC is for routers, 0xFFFD for all whose receiver is on, 0xFFFF for all.
        if nwk.dst != BROADCAST_ROUTERS or node.kind <= NodeKind.ROUTER:
            if command is not None:
                self._received_command(nwk, sender, source, lqi)
            else:
                node.aps.received(nwk, source, lqi, rssi)
        if node.kind <= NodeKind.ROUTER and nwk.radius > 1 and node.network is not None:
            entry.frame = relayed = nwk._replace(radius=nwk.radius - 1, aux=None)
            node.after(node.air.random.randrange(_BROADCAST_JITTER_US), self._spread, relayed)

    def _relay(self, nwk: NwkFrame, sender: int) -> None:
        """Pass a unicast on, by its source route or by our routing table."""
        node = self._node
        node.counters.relayed_unicasts += 1
        frame = nwk._replace(radius=nwk.radius - 1, aux=None)
        if nwk.relays is not None:
            index = nwk.relay_index
            if index == 0 or index > len(nwk.relays):
                hop = nwk.dst
            else:
                hop = nwk.relays[index - 1]
                frame = frame._replace(relay_index=index - 1)
            self.transmit(frame, hop, _FailureReport(node, nwk.src, nwk.dst, hop, SOURCE_ROUTE_FAILURE))
            return
        if nwk.kind == COMMAND:
            command = self._parse_command(nwk)
            if command is None or isinstance(command, RouteReply):
                return  # goes from hop to hop, never by routing
            if isinstance(command, RouteRecord):
                # Zigbee PRO 3.6.3.5.4: every router on the way adds itself.
                longer = RouteRecord((*command.relays, node.short))
                frame = frame._replace(payload=build_nwk_command(longer))
        node.routing.forward(frame, sender)

    def _received_command(self, nwk: NwkFrame, sender: int, source: int | None, lqi: int) -> None:
        """Hand a NWK command, opened or of a device without the key, to the part of the node that it is for."""
        node = self._node
        command = self._parse_command(nwk)
        secured = nwk.aux is not None
        match command:
            case None:
                pass
            case RejoinRequest():
                node.parenting.rejoin_requested(nwk, command, secured)
            case RejoinResponse():
                node.joining.rejoin_answered(nwk, command, sender, secured)
            case _ if not secured:
                node.counters.malformed += 1  # Zigbee PRO 4.3.1.2: everything else must be secured
            case LinkStatus():
                node.routing.link_status_received(command, sender, source, lqi)
            case RouteRequest():
                node.routing.route_requested(nwk, command, sender, lqi)
            case RouteReply():
                node.routing.route_replied(command, sender, lqi)
            case RouteRecord():
                node.routing.route_recorded(nwk.src, source, command.relays)
            case NetworkStatus():
                node.routing.status_received(nwk.src, command)
            case Leave():
                node.leaving.leave_received(nwk, command, sender, source)
            case EndDeviceTimeoutRequest():
                node.parenting.timeout_requested(nwk.src, source, command)
            case _:
                # End Device Timeout Response: a refusal leaves the parent's default in force. Network Report and
                # Network Update: conflicts of PAN identifiers are not modelled.
                pass

    def _parse_command(self, nwk: NwkFrame) -> NwkCommand | None:
        try:
            return parse_nwk_command(nwk.payload)
        except RemoteProtocolError:
            self._node.counters.malformed += 1
            return None

    def _received_clear(self, nwk: NwkFrame, frame: MacFrame, lqi: int, rssi: float) -> None:
        """An unsecured frame: only the messages that make a device a member may be so (Zigbee PRO 4.6.3.2)."""
        node = self._node
        if nwk.dst != node.short:
            return
        if nwk.kind == COMMAND:
            self._received_command(nwk, frame.src, nwk.src_ieee, lqi)
        elif nwk.kind == DATA:
            node.aps.received_clear(nwk)


def _asks_to_rejoin(nwk: NwkFrame) -> bool:
    """Say whether this is a rejoin request: its short address holds only when the parent lets it."""
    return nwk.kind == COMMAND and nwk.payload[:1] == _REJOIN_REQUEST


class _FailureReport:
    """Tells the originator of a source-routed frame when the next hop did not acknowledge it."""

    __slots__ = ("_code", "_dst", "_hop", "_node", "_src")

    def __init__(self, node: Node, src: int, dst: int, hop: int, code: int) -> None:
        self._node, self._src, self._dst, self._hop, self._code = node, src, dst, hop, code

    def __call__(self, status: MacStatus) -> None:
        if status != MacStatus.SUCCESS:
            self._node.routing.report_failure(self._src, self._dst, self._code)


def _ignore(status: MacStatus) -> None:
    """Take a result that nobody waits for."""
