"""The parent's side of a node: who joins through it, its end devices, and when they are given up."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import Child, NodeKind, NodeState
from harness.wire.application import BROADCAST_RX_ON
from harness.wire.aps_commands import SECURED_REJOIN, UNSECURED_JOIN, UNSECURED_REJOIN
from harness.wire.mac import (
    ASSOCIATED,
    CAPABILITY_FULL_FUNCTION,
    CAPABILITY_RECEIVER_ON_WHEN_IDLE,
    PAN_ACCESS_DENIED,
    PAN_AT_CAPACITY,
    Beacon,
)
from harness.wire.nwk import NwkFrame
from harness.wire.nwk_commands import (
    ADDRESS_CONFLICT,
    END_DEVICE_TIMEOUTS,
    EndDeviceTimeoutRequest,
    EndDeviceTimeoutResponse,
    Leave,
    NetworkStatus,
    RejoinRequest,
    RejoinResponse,
    build_nwk_command,
)

if TYPE_CHECKING:
    from harness.emulation.air import Timer
    from harness.emulation.node import Node

_RENAMED = 16
NO_SHORT_ADDRESS = 0xFFFF
_PERMIT_FOREVER = 255
_LAST_ADDRESS = 0xFFF7

# How long after a joiner's poll its association response is taken to have arrived.
_RESPONSE_US = 30_000


def kind_of(capability: int) -> NodeKind:
    """Return what the capability octet of an association or rejoin request says that the device is."""
    if capability & CAPABILITY_FULL_FUNCTION:
        return NodeKind.ROUTER
    if capability & CAPABILITY_RECEIVER_ON_WHEN_IDLE:
        return NodeKind.END_DEVICE
    return NodeKind.SLEEPY_END_DEVICE


@dataclass(slots=True)
class _Joiner:
    """A device that has an address from us but has not shown the network key yet."""

    short: int
    kind: NodeKind
    status: int
    timer: Timer
    reported: bool = False


class Parenting:
    """What a coordinator or router does for the devices that join through it and for its end devices."""

    __slots__ = ("_aging", "_joiners", "_node", "_permit_timer", "_renamed", "by_short", "sleepy")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._joiners: dict[int, _Joiner] = {}
        self.by_short: dict[int, Child] = {}
        self.sleepy: dict[int, Child] = {}  # a dict and not a set: broadcasts go to them in this order
        self._renamed: dict[int, int] = {}  # old address of a device that rejoins under another -> used until
        self._aging: Timer | None = None
        self._permit_timer: Timer | None = None

    def start(self) -> None:
        """The node is a router or coordinator on a network now."""
        node = self._node
        node.mac.coordinator = True
        for child in node.children.values():
            child.last_seen_us = node.air.now
            self._index(child)
        self._age()
        self.update_beacon()

    def stop(self) -> None:
        """No longer."""
        node = self._node
        for joiner in self._joiners.values():
            joiner.timer.cancel()
        self._joiners.clear()
        self._renamed.clear()
        self.by_short.clear()
        self.sleepy.clear()
        self._aging = None
        node.permit_until_us = 0
        node.mac.coordinator = False
        node.mac.beacon = None

    # --- beacon and permission ----------------------------------------------------------------------------------------

    def update_beacon(self) -> None:
        """Make the beacon say what is so now."""
        node = self._node
        network = node.network
        if network is None or node.kind >= NodeKind.END_DEVICE or node.state != NodeState.JOINED:
            return
        room = len(node.children) + len(self._joiners) < node.config.max_children
        node.mac.beacon = Beacon(
            extended_pan_id=network.extended_pan_id,
            coordinator=node.kind == NodeKind.COORDINATOR,
            permit_association=node.permits_joining,
            router_capacity=room and node.depth < node.config.max_depth,
            depth=min(node.depth, 15),
            end_device_capacity=room,
            update_id=network.update_id,
        )

    def permit(self, seconds: int) -> None:
        """Let devices associate for so long; 0 ends it, 255 is for ever."""
        node = self._node
        if self._permit_timer is not None:
            self._permit_timer.cancel()
            self._permit_timer = None
        if seconds >= _PERMIT_FOREVER:
            node.permit_until_us = 1 << 62
        else:
            node.permit_until_us = node.air.now + seconds * 1_000_000 if seconds else 0
            if seconds:
                self._permit_timer = node.after(seconds * 1_000_000, self.update_beacon)
        self.update_beacon()

    # --- association --------------------------------------------------------------------------------------------------

    def association_requested(self, eui64: int, capability: int) -> tuple[int, int]:
        """Answer an association request: the status and the short address for the response."""
        node = self._node
        if node.state != NodeState.JOINED or node.kind >= NodeKind.END_DEVICE or not node.permits_joining:
            return PAN_ACCESS_DENIED, NO_SHORT_ADDRESS
        known = node.children.get(eui64)
        if known is not None:
            self.drop_child(eui64, tell=False)
        if len(node.children) + len(self._joiners) >= node.config.max_children and eui64 not in self._joiners:
            return PAN_AT_CAPACITY, NO_SHORT_ADDRESS
        again = self._joiners.get(eui64)
        short = known.short if known is not None else again.short if again is not None else self.new_address()
        self._expect(eui64, short, kind_of(capability), UNSECURED_JOIN)
        node.counters.joins += 1
        return ASSOCIATED, short

    def association_delivered(self, eui64: int) -> None:
        """The device has its address: have it authenticated."""
        joiner = self._joiners.get(eui64)
        if joiner is not None and not joiner.reported:
            joiner.reported = True
            self._node.trust.device_arrived(eui64, joiner.short, joiner.status)

    def new_address(self) -> int:
        """Draw a short address that nobody known here has (Zigbee PRO 3.6.1.7, stochastic assignment)."""
        node = self._node
        taken = [node.short, *self.by_short, *(joiner.short for joiner in self._joiners.values())]
        while True:
            short = node.air.random.randrange(1, _LAST_ADDRESS + 1)
            if short not in node.addresses and short not in taken:
                return short

    def _expect(self, eui64: int, short: int, kind: NodeKind, status: int) -> None:
        """Take a device as one that must prove itself soon."""
        node = self._node
        old = self._joiners.pop(eui64, None)
        if old is not None:
            old.timer.cancel()
        # The device may have been reset, and its counter with it; it gets the network key afresh.
        node.nwk.incoming.pop(eui64, None)
        timer = node.after(node.config.authentication_timeout_us, self.forget_joiner, eui64)
        self._joiners[eui64] = _Joiner(short, kind, status, timer)
        self.update_beacon()

    def joiner(self, eui64: int) -> tuple[int, bool] | None:
        """Return the short address of a device that is about to be authenticated here, and whether it sleeps."""
        joiner = self._joiners.get(eui64)
        return None if joiner is None else (joiner.short, joiner.kind == NodeKind.SLEEPY_END_DEVICE)

    def forget_joiner(self, eui64: int, *, tell: bool = True) -> None:
        """It did not prove that it has the network key: it never was here. `tell`: the trust centre hears of it."""
        node = self._node
        joiner = self._joiners.pop(eui64, None)
        if joiner is None:
            return
        joiner.timer.cancel()
        node.mac.purge(joiner.short)
        if node.addresses.get(joiner.short) == eui64:
            node.forget_address(joiner.short)
        self.update_beacon()
        if tell:
            node.trust.device_gone(eui64, joiner.short)

    # --- children -----------------------------------------------------------------------------------------------------

    def heard(self, eui64: int, sender: int) -> None:
        """A frame that only a holder of the network key can make came from `eui64`."""
        node = self._node
        if self._joiners:
            joiner = self._joiners.pop(eui64, None)
            if joiner is not None:
                joiner.timer.cancel()
                self._welcome(eui64, joiner.short, joiner.kind)
                return
        child = node.children.get(eui64)
        if child is not None and child.short == sender:
            child.last_seen_us = node.air.now

    def _welcome(self, eui64: int, short: int, kind: NodeKind) -> None:
        node = self._node
        node.learn_address(short, eui64)
        if kind == NodeKind.ROUTER:
            self.drop_child(eui64, tell=False)
            node.routing.learn_neighbor(short, eui64, outgoing_cost=1)
            return
        timeout = END_DEVICE_TIMEOUTS[node.config.end_device_timeout]
        self.add_child(Child(eui64, short, kind, timeout, node.air.now))
        node.listener.child_joined(eui64, short, kind)

    def add_child(self, child: Child) -> None:
        """Enter an end device; an older entry with its EUI-64 or short address gives way."""
        node = self._node
        self.drop_child(child.eui64, tell=False)
        other = self.by_short.get(child.short)
        if other is not None:
            self.drop_child(other.eui64)
        node.children[child.eui64] = child
        node.learn_address(child.short, child.eui64)
        node.routes.pop(child.short, None)
        self._index(child)
        node.listener.storage_changed()
        self.update_beacon()
        self._age()

    def _index(self, child: Child) -> None:
        self.by_short[child.short] = child
        if child.kind == NodeKind.SLEEPY_END_DEVICE:
            self.sleepy[child.short] = child

    def drop_child(self, eui64: int, *, tell: bool = True) -> None:
        """Strike an end device off, if it is there; `tell` says whether the listener hears of it."""
        node = self._node
        child = node.children.pop(eui64, None)
        if child is None:
            return
        self.by_short.pop(child.short, None)
        self.sleepy.pop(child.short, None)
        node.mac.purge(child.short)
        node.listener.storage_changed()
        self.update_beacon()
        if tell:
            node.counters.children_removed += 1
            node.listener.child_left(eui64, child.short)

    def is_joiner(self, short: int) -> bool:
        """Say whether a device that has not proved itself yet was given this address."""
        return any(joiner.short == short for joiner in self._joiners.values())

    def polled(self, src: int, extended: bool) -> None:
        """A data request came: it keeps a child; a stranger who takes us for its parent is told to rejoin."""
        node = self._node
        if extended:
            joiner = self._joiners.get(src)
            if joiner is not None and joiner.status == UNSECURED_JOIN:
                node.after(_RESPONSE_US, self.association_delivered, src)
            return
        child = self.by_short.get(src)
        if child is not None:
            child.last_seen_us = node.air.now
            node.listener.polled(child)
        elif node.state == NodeState.JOINED and self._renamed.get(src, 0) <= node.air.now:
            if self.is_joiner(src) or node.mac.indirect.waits_for(src, False):
                return  # told once, and again when it has heard that: a deaf stranger must not fill the queue
            # Zigbee PRO 05-3474-21 3.6.10.4: a leave with rejoin waits for the stranger's next poll.
            frame = node.nwk.command_frame(Leave(rejoin=True, request=True), src)
            node.nwk.transmit(frame, src, indirect=True)

    def _age(self) -> None:
        """Give up the end devices that were silent too long, and look again when the next may be (3.6.10)."""
        node = self._node
        if self._aging is not None:
            self._aging.cancel()
            self._aging = None
        now = node.air.now
        for child in list(node.children.values()):
            if now - child.last_seen_us >= child.timeout_s * 1_000_000:
                self.drop_child(child.eui64)
        if node.children:
            due = min(child.last_seen_us + child.timeout_s * 1_000_000 for child in node.children.values())
            self._aging = node.after(max(due - now, 1), self._age)

    def timeout_requested(self, src: int, source: int | None, request: EndDeviceTimeoutRequest) -> None:
        """A child says how long it may be silent."""
        node = self._node
        child = self.by_short.get(src)
        if child is None or child.eui64 != source:
            return
        valid = request.timeout < len(END_DEVICE_TIMEOUTS)
        if valid:
            child.timeout_s = END_DEVICE_TIMEOUTS[request.timeout]
            node.listener.storage_changed()
            self._age()
        response = EndDeviceTimeoutResponse(0 if valid else 1)
        node.nwk.send_command(response, src, dst_ieee=source)

    # --- rejoin -------------------------------------------------------------------------------------------------------

    def rejoin_requested(self, nwk: NwkFrame, request: RejoinRequest, secured: bool) -> None:
        """A device that knows the network wants us for its parent."""
        node = self._node
        eui64 = nwk.src_ieee
        if (
            node.state != NodeState.JOINED
            or node.kind >= NodeKind.END_DEVICE
            or nwk.dst != node.short
            or eui64 is None
        ):
            return
        kind = kind_of(request.capability)
        short = nwk.src
        if len(node.children) >= node.config.max_children and eui64 not in node.children:
            response = RejoinResponse(nwk.src, PAN_AT_CAPACITY)
        else:
            if (
                not 0 < short <= _LAST_ADDRESS
                or short == node.short
                or node.addresses.get(short, eui64) != eui64
            ):
                short = self.new_address()
                if len(self._renamed) >= _RENAMED:
                    del self._renamed[next(iter(self._renamed))]
                self._renamed[nwk.src] = node.air.now + node.config.aps_ack_wait_sleepy_us
            response = RejoinResponse(short, ASSOCIATED)
        indirect = kind == NodeKind.SLEEPY_END_DEVICE
        accepted = response.status == ASSOCIATED
        if secured:
            if accepted:
                self._welcome(
                    eui64, short, kind
                )  # first: it drops what waits for the child that it was before
            frame = node.nwk.command_frame(response, nwk.src, dst_ieee=eui64)
            node.nwk.transmit(frame, nwk.src, indirect=indirect)
            if accepted:
                node.trust.device_arrived(eui64, short, SECURED_REJOIN)
            return
        if accepted:
            self._expect(eui64, short, kind, UNSECURED_REJOIN)

        def delivered(status: MacStatus) -> None:
            if accepted and status == MacStatus.SUCCESS:
                self.association_delivered(eui64)

        payload = build_nwk_command(response)
        node.nwk.transmit_clear(payload, nwk.src, kind=1, dst_ieee=eui64, indirect=indirect, done=delivered)

    # --- address conflicts --------------------------------------------------------------------------------------------

    def announced(self, short: int, eui64: int) -> None:
        """A device announced itself: it may have moved, and have another address than before."""
        node = self._node
        child = node.children.get(eui64)
        if child is not None and child.short != short:
            self.drop_child(eui64)  # it has a new address, and so another parent
        old = node.lookup_short(eui64)
        if old is not None and old != short:
            node.forget_address(old)
            node.routing.forget_neighbor(old)
        node.learn_address(short, eui64)

    def conflict_seen(self, short: int) -> None:
        """Two nodes were seen to use `short`: tell everybody (Zigbee PRO 3.6.1.9)."""
        node = self._node
        if node.state == NodeState.JOINED and node.kind <= NodeKind.ROUTER:
            node.counters.address_conflicts += 1
            node.listener.id_conflict(short)
            node.nwk.broadcast(
                node.nwk.command_frame(NetworkStatus(ADDRESS_CONFLICT, short), BROADCAST_RX_ON, radius=30)
            )
            self.address_conflict(short)

    def address_conflict(self, short: int) -> None:
        """Two nodes have `short`: one that is this node, or its child, gets another."""
        node = self._node
        if short == node.short and node.kind == NodeKind.ROUTER:
            node.joining.change_address(self.new_address())
            return
        child = self.by_short.get(short)
        if child is not None:
            new = self.new_address()
            frame = node.nwk.command_frame(RejoinResponse(new, ASSOCIATED), short, dst_ieee=child.eui64)
            node.nwk.transmit(frame, short)
            moved = Child(child.eui64, new, child.kind, child.timeout_s, node.air.now)
            # The child listens to its old address until the response has reached it.
            node.after(node.config.aps_ack_wait_sleepy_us, self.add_child, moved)
