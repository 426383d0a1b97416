"""What the node on the air tells the NCP, turned into the callbacks of its host."""

from __future__ import annotations

from collections.abc import Callable

from harness.emulation import ncp_config as ids
from harness.emulation.ncp_memory import NO_EUI64
from harness.emulation.ncp_messaging import (
    BROADCAST,
    ENABLE_ROUTE_DISCOVERY,
    ENCRYPTION,
    FRAGMENT,
    MULTICAST,
    RETRY,
)
from harness.emulation.ncp_network import node_type
from harness.emulation.ncp_radio import dbm
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.node import Child, NodeKind, NodeListener, SentStatus
from harness.wire.application import ApsMessage
from harness.wire.ezsp import EzspAps, IncomingMessage, MessageSent

# EmberIncomingMessageType
_UNICAST = 0
_MULTICAST = 2
_BROADCAST = 4

# EmberDeviceUpdate and EmberJoinDecision
_DEVICE_LEFT = 2
_USE_PRECONFIGURED_KEY = 0
_SEND_KEY_IN_THE_CLEAR = 1
_DENY_JOIN = 2
_NO_ACTION = 3

# EmberKeyStatus
_KEY_ESTABLISHED = 0x03
_KEY_TIMEOUT = 0x04
_VERIFIED_BY_REQUESTER = 0x34

# NWK status codes that mean a source route or many-to-one route is broken.
_ROUTE_FAILURES = {0x0B: Status.SOURCE_ROUTE_FAILURE, 0x0C: Status.MANY_TO_ONE_ROUTE_FAILURE}

_FRAGMENTS_REMEMBERED = 32
_TIMER_TICKS = 0xFFFFFFFF

SENT: dict[int, Status] = {
    SentStatus.DELIVERED: Status.OK,
    SentStatus.NOT_ACKNOWLEDGED: Status.DELIVERY_FAILED,
    SentStatus.NO_ROUTE: Status.DELIVERY_FAILED,
    SentStatus.NOT_JOINED: Status.NETWORK_DOWN,
    SentStatus.NO_KEY: Status.APS_ENCRYPTION_ERROR,
    SentStatus.TOO_LONG: Status.MESSAGE_TOO_LONG,
    SentStatus.BUSY: Status.MAX_MESSAGE_LIMIT_REACHED,
}


class NodeEvents(NodeListener):
    """The node's listener. `ncp` is set as soon as there is one; what the node does before concerns no host.

    The two busiest callbacks go out as prebuilt frames, by `incoming` and `sent`.
    """

    def __init__(
        self, incoming: Callable[[IncomingMessage], None], sent: Callable[[MessageSent], None]
    ) -> None:
        self.ncp: NcpState | None = None
        self._incoming = incoming
        self._sent = sent

    def network_up(self) -> None:
        """The network is up: formed, joined or resumed."""
        ncp = self.ncp
        if ncp is None:
            return
        if ncp.node.kind == NodeKind.SLEEPY_END_DEVICE:
            ncp.node.set_poll_interval(None)  # an NCP's host says when to poll
        ncp.callback("stackStatusHandler", {"status": Status.NETWORK_UP})

    def network_down(self, reason: str) -> None:
        """The network is gone: left, or the parent was lost."""
        if self.ncp is not None:
            self.ncp.callback("stackStatusHandler", {"status": Status.NETWORK_DOWN})

    def stopped(self) -> None:
        """The node stopped all work, as it does when it leaves, loses its parent or rejoins."""
        if self.ncp is not None:
            self.ncp.node_stopped()

    def message_received(self, message: ApsMessage, aps_counter: int, lqi: int, rssi: float) -> None:
        """A message for the host."""
        self._hand_up(message, aps_counter, lqi, rssi, 0, None)

    def fragment_received(
        self, message: ApsMessage, aps_counter: int, block: int, total: int | None, lqi: int, rssi: float
    ) -> None:
        """A block of a long message: the host puts them together, and acknowledges them with sendReply."""
        ncp = self.ncp
        if ncp is None:
            return
        while len(ncp.fragments) >= _FRAGMENTS_REMEMBERED:
            del ncp.fragments[next(iter(ncp.fragments))]
        ncp.fragments[message.peer, aps_counter] = message
        self._hand_up(message, aps_counter, lqi, rssi, FRAGMENT, block | (total or 0) << 8)

    def _hand_up(
        self, message: ApsMessage, aps_counter: int, lqi: int, rssi: float, options: int, group: int | None
    ) -> None:
        ncp = self.ncp
        if ncp is None:
            return
        options |= ENABLE_ROUTE_DISCOVERY
        if message.secured:
            options |= ENCRYPTION
        if message.acknowledged:
            options |= RETRY
        if message.group is not None:
            kind, group = _MULTICAST, message.group
        elif message.broadcast:
            kind = _BROADCAST
        else:
            kind = _UNICAST
        peer = message.peer
        eui64 = ncp.node.lookup_eui64(peer)
        self._incoming(
            IncomingMessage(
                kind,
                EzspAps(
                    message.profile,
                    message.cluster,
                    message.source_endpoint,
                    message.destination_endpoint,
                    options,
                    group or 0,
                    aps_counter,
                ),
                peer,
                lqi,
                dbm(rssi),
                message.payload,
                eui64 or 0,
                ncp.air.now // 1000 & _TIMER_TICKS,
            )
        )

    def message_sent(self, tag: int, message: ApsMessage, status: SentStatus) -> None:
        """What became of a message of the host's."""
        ncp = self.ncp
        pending = None if ncp is None else ncp.pending.pop(tag, None)
        if ncp is None or pending is None:
            return
        if pending.kind not in (MULTICAST, BROADCAST):
            ncp.pending_unicasts -= 1
        policy = ncp.policies[ids.POLICY_MESSAGE_CONTENTS_IN_CALLBACK]
        self._sent(
            MessageSent(
                ncp.dialect.message_status(SENT[status]),
                pending.kind,
                pending.destination,
                pending.aps,
                pending.tag,
                message.payload if policy == ids.MESSAGE_TAG_AND_CONTENTS_IN_CALLBACK else b"",
            )
        )

    def device_joined(self, eui64: int, short: int, parent_short: int, status: int) -> None:
        """A device joined, rejoined or left the network whose trust centre this is."""
        ncp = self.ncp
        if ncp is None:
            return
        if status == _DEVICE_LEFT:
            decision = _NO_ACTION
        else:
            decision = _SEND_KEY_IN_THE_CLEAR if ncp.node.policy.send_key_in_clear else _USE_PRECONFIGURED_KEY
        self._trust_center_join(eui64, short, parent_short, status, decision)

    def device_denied(self, eui64: int, short: int, parent_short: int, status: int) -> None:
        """A device was refused the network key."""
        self._trust_center_join(eui64, short, parent_short, status, _DENY_JOIN)

    def _trust_center_join(
        self, eui64: int, short: int, parent_short: int, status: int, decision: int
    ) -> None:
        if self.ncp is not None:
            self.ncp.callback(
                "trustCenterJoinHandler",
                {
                    "newNodeId": short,
                    "newNodeEui64": eui64,
                    "status": status,
                    "policyDecision": decision,
                    "parentOfNewNodeId": parent_short,
                },
            )

    def child_joined(self, eui64: int, short: int, kind: NodeKind) -> None:
        """An end device has this node for its parent."""
        ncp = self.ncp
        if ncp is None:
            return
        slots = ncp.child_slots
        index = next((index for index, child in slots.items() if child == eui64), None)
        if index is None:
            index = next(index for index in range(len(slots) + 1) if index not in slots)
        slots[index] = eui64
        self._child(ncp, index, True, short, eui64, node_type(kind))

    def child_left(self, eui64: int, short: int) -> None:
        """It has not any more."""
        ncp = self.ncp
        if ncp is None:
            return
        for index, child in list(ncp.child_slots.items()):
            if child == eui64:
                del ncp.child_slots[index]
                ncp.tokens.child_flags.pop(eui64, None)
                self._child(ncp, index, False, short, eui64, 0)

    @staticmethod
    def _child(ncp: NcpState, index: int, joining: bool, short: int, eui64: int, kind: int) -> None:
        ncp.callback(
            "childJoinHandler",
            {
                "index": index,
                "joining": int(joining),
                "childId": short,
                "childEui64": eui64,
                "childType": kind,
            },
        )

    def route_recorded(self, short: int, eui64: int, relays: tuple[int, ...]) -> None:
        """A route record arrived."""
        if self.ncp is not None:
            self.ncp.callback(
                "incomingRouteRecordHandler",
                {
                    "source": short,
                    "sourceEui": eui64 or NO_EUI64,
                    "lqi": 255,
                    "rssi": -50,
                    "relayList": list(relays),
                },
            )

    def route_failed(self, short: int, status: int) -> None:
        """Somebody on the way could not reach `short`."""
        if self.ncp is None:
            return
        failure = _ROUTE_FAILURES.get(status)
        if failure is not None:
            self.ncp.callback("incomingRouteErrorHandler", {"status": failure, "target": short})
        else:
            self.ncp.callback("incomingNetworkStatusHandler", {"errorCode": status, "target": short})

    def id_conflict(self, short: int) -> None:
        """Two nodes have the same short address."""
        if self.ncp is not None:
            self.ncp.callback("idConflictHandler", {"nodeId": short})

    def polled(self, child: Child) -> None:
        """A child polled; told only to a host that has asked for it."""
        ncp = self.ncp
        if ncp is not None and ncp.policies[ids.POLICY_POLL_HANDLER] == ids.POLL_HANDLER_CALLBACK:
            ncp.callback("pollHandler", {"childId": child.short, "transmitExpected": 0})

    def key_changed(self, partner: int, status: int) -> None:
        """A link key was established or confirmed, or was not."""
        ncp = self.ncp
        if ncp is None:
            return
        established = _VERIFIED_BY_REQUESTER if ncp.is_trust_center() else _KEY_ESTABLISHED
        ncp.callback(
            "zigbeeKeyEstablishmentHandler",
            {"partner": partner, "status": established if status == 0 else _KEY_TIMEOUT},
        )

    def storage_changed(self) -> None:
        """Something changed that must survive."""
        if self.ncp is not None:
            self.ncp.storage_changed()
