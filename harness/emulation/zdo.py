"""The Zigbee Device Object of a node: answers what others ask about it, and does what they ask of it."""

from __future__ import annotations

from collections.abc import Callable
from struct import Struct
from struct import error as StructError
from typing import TYPE_CHECKING

from harness.emulation.node_state import NodeKind
from harness.wire.application import FIRST_BROADCAST, ZDO_PROFILE, ApsMessage, SimpleDescriptor
from harness.wire.mac import CAPABILITY_RECEIVER_ON_WHEN_IDLE

if TYPE_CHECKING:
    from harness.emulation.node import Node

# Zigbee PRO (05-3474-21) 2.4.3 and 2.4.4: a response has its request's cluster with the top bit set.
NWK_ADDR = 0x0000
IEEE_ADDR = 0x0001
NODE_DESC = 0x0002
POWER_DESC = 0x0003
SIMPLE_DESC = 0x0004
ACTIVE_EP = 0x0005
MATCH_DESC = 0x0006
DEVICE_ANNCE = 0x0013
PARENT_ANNCE = 0x001F
MGMT_LQI = 0x0031
MGMT_RTG = 0x0032
MGMT_BIND = 0x0033
MGMT_LEAVE = 0x0034
MGMT_PERMIT_JOINING = 0x0036
MGMT_NWK_UPDATE = 0x0038
RESPONSE = 0x8000

SUCCESS = 0x00
INVALID_REQUEST = 0x80
DEVICE_NOT_FOUND = 0x81
INVALID_ENDPOINT = 0x82
NOT_ACTIVE = 0x83
NOT_SUPPORTED = 0x84

_ADDRESSES = Struct("<QH")
_NODE_DESCRIPTOR = Struct("<BBBHBHHHB")
_SIMPLE = Struct("<BHHB")
_DEVICE_ANNCE = Struct("<HQB")
_NEIGHBOR = Struct("<QQHBBBB")
_ROUTE = Struct("<HBH")
_SCAN_ANSWER = Struct("<BIHHB")

_MAX_SIZE = 82
_STACK_REVISION_21 = 21 << 9
_CHANGE_CHANNEL = 0xFE
_CHANGE_MANAGER = 0xFF
_MAX_SCAN_DURATION = 5
_ROUTER_TYPE = {
    NodeKind.COORDINATOR: 0,
    NodeKind.ROUTER: 1,
    NodeKind.END_DEVICE: 2,
    NodeKind.SLEEPY_END_DEVICE: 2,
}
_ROWS_AT_A_TIME = 3
# Long enough for the broadcast of a new channel to get round (nwkNetworkBroadcastDeliveryTime).
_CHANNEL_CHANGE_US = 9_000_000
_ANSWER_FIRST_US = 200_000  # a node that is told to leave has its response out by then


class Zdo:
    """The ZDO server of one node."""

    __slots__ = ("_node", "_sequence")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._sequence = node.air.random.randrange(256)

    def next_sequence(self) -> int:
        """Return a fresh ZDO transaction sequence number."""
        self._sequence = sequence = (self._sequence + 1) & 0xFF
        return sequence

    def received(self, message: ApsMessage) -> bool:
        """Take a ZDO frame; True when it goes up as well: responses, announcements, and requests if so configured."""
        node = self._node
        cluster = message.cluster
        payload = message.payload
        if cluster & RESPONSE:
            if cluster in (NWK_ADDR | RESPONSE, IEEE_ADDR | RESPONSE):
                self._address_told(payload)
            return True
        if not payload:
            node.counters.malformed += 1
            return False
        if cluster == DEVICE_ANNCE:
            return self._announced(payload)
        handler = _HANDLERS.get(cluster)
        try:
            if handler is not None:
                answer = handler(self, message, payload[1:])
            else:
                answer = None if message.broadcast else bytes((NOT_SUPPORTED,))
        except (StructError, IndexError):
            node.counters.malformed += 1
            answer = None if message.broadcast else bytes((INVALID_REQUEST,))
        if answer is not None:
            self.respond(message, answer)
        return node.config.hand_up_zdo_requests

    def respond(self, request: ApsMessage, answer: bytes) -> None:
        """Send the response to a request: its sequence number, then `answer`, status first."""
        self._send(request.peer, request.cluster | RESPONSE, request.payload[:1] + answer)

    def _send(self, peer: int, cluster: int, payload: bytes) -> None:
        self._node.aps.send(ApsMessage(peer, ZDO_PROFILE, cluster, 0, 0, payload))

    def ask_to_leave(self, short: int, eui64: int) -> None:
        """Send Mgmt_Leave_req to a device that is neither ours nor known to be anybody's child."""
        self._send(short, MGMT_LEAVE, bytes((self.next_sequence(),)) + eui64.to_bytes(8, "little") + b"\0")

    # --- announcements ------------------------------------------------------------------------------------------------

    def _announced(self, payload: bytes) -> bool:
        node = self._node
        try:
            short, eui64, capability = _DEVICE_ANNCE.unpack_from(payload, 1)
        except StructError:
            node.counters.malformed += 1
            return False
        if eui64 != node.eui64:
            node.parenting.announced(short, eui64)
            if not capability & CAPABILITY_RECEIVER_ON_WHEN_IDLE:
                node.extended_timeouts[eui64] = True
            else:
                node.extended_timeouts.pop(eui64, None)
        return True

    # --- addresses ----------------------------------------------------------------------------------------------------

    def _address_told(self, payload: bytes) -> None:
        """Enter what an address response says: APS security needs the EUI-64 behind a short address."""
        if len(payload) < 2 + _ADDRESSES.size or payload[1] != SUCCESS:
            return
        eui64, short = _ADDRESSES.unpack_from(payload, 2)
        if eui64 != self._node.eui64 and short < FIRST_BROADCAST:
            self._node.learn_address(short, eui64)

    def _nwk_addr(self, message: ApsMessage, data: bytes) -> bytes | None:
        eui64 = int.from_bytes(data[:8], "little")
        if len(data) < 8:
            raise IndexError
        node = self._node
        child = node.children.get(eui64)
        if eui64 == node.eui64:
            short = node.short
        elif child is not None:
            short = child.short
        else:
            return None if message.broadcast else bytes((DEVICE_NOT_FOUND,)) + _ADDRESSES.pack(eui64, 0xFFFF)
        return self._addresses(eui64, short, data[8:])

    def _ieee_addr(self, message: ApsMessage, data: bytes) -> bytes:
        short = data[0] | data[1] << 8
        node = self._node
        if short == node.short:
            return self._addresses(node.eui64, short, data[2:])
        child = node.parenting.by_short.get(short)
        if child is not None:
            return self._addresses(child.eui64, short, data[2:])
        return bytes((DEVICE_NOT_FOUND,)) + _ADDRESSES.pack(0xFFFF_FFFF_FFFF_FFFF, short)

    def _addresses(self, eui64: int, short: int, how: bytes) -> bytes:
        """An address response; with request type 1 it lists the children of this node, too."""
        answer = bytes((SUCCESS,)) + _ADDRESSES.pack(eui64, short)
        node = self._node
        if how[:1] == b"\x01" and eui64 == node.eui64:
            start = how[1]
            children = list(node.children.values())
            part = children[start : start + 30]
            answer += bytes((len(children), start)) if children else b"\0"
            answer += b"".join(child.short.to_bytes(2, "little") for child in part)
        return answer

    # --- descriptors --------------------------------------------------------------------------------------------------

    def _is_ours(self, data: bytes) -> int | None:
        """None when the NWK address of interest is this node's, else the status to answer with."""
        short = data[0] | data[1] << 8
        if short == self._node.short:
            return None
        return DEVICE_NOT_FOUND if self._node.kind <= NodeKind.ROUTER else INVALID_REQUEST

    def _node_desc(self, message: ApsMessage, data: bytes) -> bytes:
        status = self._is_ours(data)
        if status is not None:
            return bytes((status,)) + data[:2]
        node = self._node
        from_join = 0x80 | (0x02 if node.kind <= NodeKind.ROUTER else 0)
        if node.kind != NodeKind.SLEEPY_END_DEVICE:
            from_join |= 0x0C
        server = _STACK_REVISION_21 | (0x0041 if node.is_trust_center else 0)
        descriptor = _NODE_DESCRIPTOR.pack(
            _ROUTER_TYPE[node.kind], 0x40, from_join, node.manufacturer_code, _MAX_SIZE, 1500, server, 1500, 0
        )
        return bytes((SUCCESS,)) + data[:2] + descriptor

    def _power_desc(self, message: ApsMessage, data: bytes) -> bytes:
        status = self._is_ours(data)
        if status is not None:
            return bytes((status,)) + data[:2]
        # Zigbee PRO 2.3.2.4: mode 0 receiver on, 1 by periods; source 1 mains, 4 disposable battery; level 12: full.
        power = b"\x41\xc4" if self._node.kind == NodeKind.SLEEPY_END_DEVICE else b"\x10\xc1"
        return bytes((SUCCESS,)) + data[:2] + power

    def _active_ep(self, message: ApsMessage, data: bytes) -> bytes:
        status = self._is_ours(data)
        if status is not None:
            return bytes((status,)) + data[:2] + b"\0"
        endpoints = bytes(descriptor.endpoint for descriptor in self._node.descriptors)
        return bytes((SUCCESS,)) + data[:2] + bytes((len(endpoints),)) + endpoints

    def _simple_desc(self, message: ApsMessage, data: bytes) -> bytes:
        status = self._is_ours(data)
        endpoint = data[2]
        if status is None:
            for descriptor in self._node.descriptors:
                if descriptor.endpoint == endpoint:
                    packed = _pack_simple(descriptor)
                    return bytes((SUCCESS,)) + data[:2] + bytes((len(packed),)) + packed
            status = NOT_ACTIVE if 1 <= endpoint <= 254 else INVALID_ENDPOINT
        return bytes((status,)) + data[:2] + b"\0"

    def _match_desc(self, message: ApsMessage, data: bytes) -> bytes | None:
        short, profile = data[0] | data[1] << 8, data[2] | data[3] << 8
        node = self._node
        inputs, at = _clusters(data, 4)
        outputs, _ = _clusters(data, at)
        if short != node.short and short < FIRST_BROADCAST:
            return None if message.broadcast else bytes((DEVICE_NOT_FOUND,)) + data[:2] + b"\0"
        matching = bytes(
            descriptor.endpoint
            for descriptor in node.descriptors
            if profile in (descriptor.profile, 0xFFFF)
            and (
                any(cluster in descriptor.server_clusters for cluster in inputs)
                or any(cluster in descriptor.client_clusters for cluster in outputs)
            )
        )
        if not matching and message.broadcast:
            return None
        return bytes((SUCCESS,)) + node.short.to_bytes(2, "little") + bytes((len(matching),)) + matching

    # --- management ---------------------------------------------------------------------------------------------------

    def _mgmt_lqi(self, message: ApsMessage, data: bytes) -> bytes:
        node = self._node
        network = node.network
        epid = 0 if network is None else network.extended_pan_id
        rows: list[bytes] = []
        for neighbor in node.neighbors.values():
            # Device type, receiver on when idle, relationship: 0 parent, 1 child, 2 sibling.
            kind = 0 if neighbor.short == 0 else 1
            relationship = 0 if neighbor.short == node.parent_short else 2
            what = kind | 1 << 2 | relationship << 4
            rows.append(_NEIGHBOR.pack(epid, neighbor.eui64, neighbor.short, what, 2, 15, neighbor.lqi))
        for child in node.children.values():
            awake = child.kind != NodeKind.SLEEPY_END_DEVICE
            rows.append(_NEIGHBOR.pack(epid, child.eui64, child.short, 2 | awake << 2 | 1 << 4, 2, 15, 255))
        return _table(rows, data[0])

    def _mgmt_rtg(self, message: ApsMessage, data: bytes) -> bytes:
        rows = [_ROUTE.pack(dst, 0, route.next_hop) for dst, route in self._node.routes.items()]
        return _table(rows, data[0])

    def _mgmt_bind(self, message: ApsMessage, data: bytes) -> bytes:
        return _table([], data[0])

    def _mgmt_leave(self, message: ApsMessage, data: bytes) -> bytes:
        target = int.from_bytes(data[:8], "little")
        options = data[8]
        node = self._node
        rejoin = options & 0x80 != 0
        if target in (0, node.eui64):
            if node.kind == NodeKind.COORDINATOR:
                return bytes((NOT_SUPPORTED,))
            node.after(_ANSWER_FIRST_US, self._leave, f"asked to leave by {message.peer:#06x}", rejoin)
        elif target in node.children:
            node.leaving.tell(node.children[target].short, target, rejoin=rejoin)
        else:
            return bytes((DEVICE_NOT_FOUND,))
        return bytes((SUCCESS,))

    def _mgmt_permit_joining(self, message: ApsMessage, data: bytes) -> bytes | None:
        seconds, _ = data[0], data[1]
        node = self._node
        if node.kind <= NodeKind.ROUTER:
            # Zigbee PRO 2.4.3.3.7.2: the permission must end some day.
            node.permit_joining(min(seconds, 254))
        return None if message.broadcast else bytes((SUCCESS,))

    def _mgmt_nwk_update(self, message: ApsMessage, data: bytes) -> bytes | None:
        mask, duration = int.from_bytes(data[:4], "little"), data[4]
        node = self._node
        channels = [channel for channel in range(11, 27) if mask >> channel & 1]
        if duration <= _MAX_SCAN_DURATION:
            if message.broadcast or not channels:
                return None if message.broadcast else bytes((INVALID_REQUEST,))

            def scanned(levels: list[tuple[int, int]]) -> None:
                energies = bytes(max(0, min(255, (dbm + 100) * 255 // 100)) for _, dbm in levels)
                totals = node.mac.counters
                failures = totals.tx_unicast_failed
                body = _SCAN_ANSWER.pack(
                    SUCCESS,
                    mask,
                    (totals.tx_unicast_success + failures) & 0xFFFF,
                    failures & 0xFFFF,
                    len(energies),
                )
                self.respond(message, body + energies)

            node.energy_scan(channels, duration, scanned)
            return None
        if duration == _CHANGE_CHANNEL and len(channels) == 1:
            node.after(_CHANNEL_CHANGE_US, self._change_channel, channels[0], data[5])
            return None
        if duration == _CHANGE_MANAGER:
            node.update_network(update_id=data[5], manager=data[6] | data[7] << 8)
            return None
        return None if message.broadcast else bytes((INVALID_REQUEST,)) + bytes(10)

    def _change_channel(self, channel: int, update_id: int) -> None:
        self._node.update_network(channel=channel, update_id=update_id)

    def _leave(self, reason: str, rejoin: bool) -> None:
        self._node.leaving.leave(reason, quietly=False, rejoin=rejoin)

    def _parent_annce(self, message: ApsMessage, data: bytes) -> bytes | None:
        """A router says whose parent it is; which of them were ours are so no more (2.4.3.1.12)."""
        node = self._node
        claimed = [int.from_bytes(data[1 + 8 * index : 9 + 8 * index], "little") for index in range(data[0])]
        known = [eui64 for eui64 in claimed if eui64 in node.children]
        if not known:
            return None
        # Both think they are the parent: a child that was heard here lately is ours.
        ours = [eui64 for eui64 in known if node.air.now - node.children[eui64].last_seen_us < 30_000_000]
        for eui64 in known:
            if eui64 not in ours:
                node.parenting.drop_child(eui64)
        if not ours:
            return None
        return bytes((SUCCESS, len(ours))) + b"".join(eui64.to_bytes(8, "little") for eui64 in ours)


def _pack_simple(descriptor: SimpleDescriptor) -> bytes:
    data = _SIMPLE.pack(descriptor.endpoint, descriptor.profile, descriptor.device, descriptor.device_version)
    for clusters in (descriptor.server_clusters, descriptor.client_clusters):
        data += bytes((len(clusters),)) + b"".join(cluster.to_bytes(2, "little") for cluster in clusters)
    return data


def _clusters(data: bytes, at: int) -> tuple[tuple[int, ...], int]:
    count = data[at]
    return Struct(f"<{count}H").unpack_from(data, at + 1), at + 1 + 2 * count


def _table(rows: list[bytes], start: int) -> bytes:
    """A management table response: how many rows there are, where it starts, how many it holds, the rows."""
    part = rows[start : start + _ROWS_AT_A_TIME]
    return bytes((SUCCESS, len(rows), start, len(part))) + b"".join(part)


_HANDLERS: dict[int, Callable[[Zdo, ApsMessage, bytes], bytes | None]] = {
    NWK_ADDR: Zdo._nwk_addr,
    IEEE_ADDR: Zdo._ieee_addr,
    NODE_DESC: Zdo._node_desc,
    POWER_DESC: Zdo._power_desc,
    SIMPLE_DESC: Zdo._simple_desc,
    ACTIVE_EP: Zdo._active_ep,
    MATCH_DESC: Zdo._match_desc,
    PARENT_ANNCE: Zdo._parent_annce,
    MGMT_LQI: Zdo._mgmt_lqi,
    MGMT_RTG: Zdo._mgmt_rtg,
    MGMT_BIND: Zdo._mgmt_bind,
    MGMT_LEAVE: Zdo._mgmt_leave,
    MGMT_PERMIT_JOINING: Zdo._mgmt_permit_joining,
    MGMT_NWK_UPDATE: Zdo._mgmt_nwk_update,
}
