"""How a node finds the way: neighbours by link status, routes by discovery, source routes by route records."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import Neighbor, NodeKind, NodeState, Route
from harness.wire.application import BROADCAST_ROUTERS
from harness.wire.nwk import NwkFrame
from harness.wire.nwk_commands import (
    ADDRESS_CONFLICT,
    NO_ROUTE_AVAILABLE,
    NON_TREE_LINK_FAILURE,
    SOURCE_ROUTE_FAILURE,
    LinkStatus,
    NetworkStatus,
    RouteRecord,
    RouteReply,
    RouteRequest,
)

if TYPE_CHECKING:
    from harness.emulation.air import Timer
    from harness.emulation.node import Node

Sent = Callable[["MacStatus | None"], None]  # None: no route

# RouteRequest.many_to_one: what kind of discovery it is.
MANY_TO_ONE_RECORDED = 1  # the concentrator keeps what route records tell it
MANY_TO_ONE = 2

_MAX_RADIUS = 30
_REPLY_WAIT_US = 500_000
_REQUEST_TRIES = 3
_REQUEST_JITTER_US = (2_000, 128_000)
_ORIGIN_JITTER_US = 50_000
_ANSWER_JITTER_US = (10_000, 200_000)
_DISCOVERY_TABLE = 16
_DISCOVERY_LIVES_US = 10_000_000
_ROUTES = 64
_SOURCE_ROUTES = 64
_NEIGHBORS = 26
_NEIGHBOR_AGE_PERIODS = 4
_WAITING = 8
_HOP_RETRIES = 2
_HOP_WAIT_US = (5_000, 30_000)


@dataclass(slots=True)
class _Search:
    """A route discovery of our own, and who waits for it."""

    tries: int
    waiting: list[Callable[[bool], None]]
    timer: Timer | None = None


@dataclass(slots=True)
class _Request:
    """A route request that passed here: the best way back to its originator."""

    cost: int
    previous_hop: int
    expires_us: int
    reply_cost: int = 0xFF


def link_cost(lqi: int) -> int:
    """The cost 1 to 7 of a link (Zigbee PRO 3.6.3.1 leaves the mapping from LQI open)."""
    if lqi >= 200:
        return 1
    if lqi >= 150:
        return 3
    return 5 if lqi >= 100 else 7


class Routing:
    """The routing half of a node's NWK layer. End devices use only its way to the parent."""

    __slots__ = ("_answers_soon", "_identifier", "_node", "_requests", "_searches")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._identifier = 0
        self._requests: dict[int, _Request] = {}  # originator << 8 | identifier
        self._searches: dict[int, _Search] = {}  # by destination
        self._answers_soon = False

    def start(self) -> None:
        """The node is a router or coordinator on a network: tell the neighbours, now and every 15 s."""
        node = self._node
        node.after(node.air.random.randrange(50_000, 500_000), self._send_link_status)

    def stop(self) -> None:
        """Forget what is volatile; frames that waited for a route are lost with it."""
        self._requests.clear()
        self._searches.clear()
        self._answers_soon = False
        self._node.routes.clear()
        self._node.neighbors.clear()

    # --- sending ------------------------------------------------------------------------------------------------------

    def send(self, frame: NwkFrame, done: Sent | None = None) -> None:
        """Send a unicast of our own towards `frame.dst`, finding a route first when there is none."""
        node = self._node
        if node.kind >= NodeKind.END_DEVICE:
            node.nwk.transmit(frame, node.parent_short, _Hop(node, frame, node.parent_short, done))
            return
        relays = frame.relays
        if relays is not None:
            hop = relays[-1] if relays else frame.dst
            node.nwk.transmit(frame, hop, _Hop(node, frame, hop, done))
            return
        self.forward(frame, None, done)

    def forward(self, frame: NwkFrame, sender: int | None, done: Sent | None = None) -> None:
        """Send `frame` on by child, neighbour or routing table; for our own and our end devices' frames, search."""
        node = self._node
        dst = frame.dst
        parenting = node.parenting
        if dst in parenting.by_short or parenting.is_joiner(dst):
            hop = dst
        else:
            route = node.routes.get(dst)
            if route is not None:
                hop = route.next_hop
                if route.record:
                    self._record_route(frame, route)
            else:
                neighbor = node.neighbors.get(dst)
                if neighbor is None or not neighbor.outgoing_cost:
                    if sender is None or sender in parenting.by_short:
                        self.search(dst, _Continuation(self, frame, done))
                    else:
                        self.report_failure(frame.src, dst, NO_ROUTE_AVAILABLE)
                    return
                hop = dst
        node.nwk.transmit(frame, hop, _Hop(node, frame, hop, done))

    def _record_route(self, frame: NwkFrame, route: Route) -> None:
        """Tell a concentrator the way that this frame goes, before it goes (Zigbee PRO 3.6.3.5.4)."""
        node = self._node
        own = frame.src == node.short
        if not own and frame.src not in node.parenting.by_short:
            return  # the first router on the way did it
        record = RouteRecord(() if own else (node.short,))
        node.nwk.send_command(record, frame.dst, hop=route.next_hop, radius=_MAX_RADIUS, src=frame.src)
        if not route.low_ram:
            route.record = False

    def has_way(self, dst: int) -> bool:
        """Say whether a frame to `dst` can be sent at once."""
        node = self._node
        if node.kind >= NodeKind.END_DEVICE or dst in node.parenting.by_short or dst in node.routes:
            return True
        neighbor = node.neighbors.get(dst)
        return neighbor is not None and neighbor.outgoing_cost != 0

    def search(self, dst: int, found: Callable[[bool], None]) -> None:
        """Look for a route to `dst`; `found(False)` when there is none, or too many wait for it already."""
        search = self._searches.get(dst)
        if search is None:
            self._searches[dst] = search = _Search(_REQUEST_TRIES, [found])
            self._node.counters.route_discoveries += 1
            self._request_soon(dst)
        elif len(search.waiting) < _WAITING:
            search.waiting.append(found)
        else:
            self._node.after(0, found, False)

    def _request_soon(self, dst: int) -> None:
        # Two nodes that do not hear each other may begin at one moment: without chance their requests would meet, and
        # meet again at every repetition.
        node = self._node
        node.after(node.air.random.randrange(_ORIGIN_JITTER_US), self._request_route, dst)

    def _request_route(self, dst: int) -> None:
        node = self._node
        search = self._searches.get(dst)
        if search is None:
            return  # answered meanwhile
        if search.tries == 0:
            del self._searches[dst]
            for found in search.waiting:
                found(False)
            return
        search.tries -= 1
        self._identifier = identifier = (self._identifier + 1) & 0xFF
        self._enter(node.short << 8 | identifier, 0, node.short)
        request = RouteRequest(identifier, dst, 0)
        node.nwk.send_command(request, BROADCAST_ROUTERS, radius=_MAX_RADIUS)
        search.timer = node.after(_REPLY_WAIT_US, self._request_soon, dst)

    def request_many_to_one(self, radius: int, high_ram: bool) -> None:
        """Make every router learn the way to this node, a concentrator (Zigbee PRO 3.6.3.5.1)."""
        node = self._node
        self._identifier = identifier = (self._identifier + 1) & 0xFF
        self._enter(node.short << 8 | identifier, 0, node.short)
        kind = MANY_TO_ONE_RECORDED if high_ram else MANY_TO_ONE
        node.nwk.send_command(
            RouteRequest(identifier, BROADCAST_ROUTERS, 0, kind), BROADCAST_ROUTERS, radius=radius
        )

    # --- route requests and replies -----------------------------------------------------------------------------------

    def _enter(self, key: int, cost: int, previous_hop: int) -> _Request:
        table = self._requests
        now = self._node.air.now
        while table:
            oldest = next(iter(table))
            if table[oldest].expires_us > now and len(table) < _DISCOVERY_TABLE:
                break
            del table[oldest]
        table[key] = request = _Request(cost, previous_hop, now + _DISCOVERY_LIVES_US)
        return request

    def route_requested(self, nwk: NwkFrame, request: RouteRequest, sender: int, lqi: int) -> None:
        """A route request came: answer it, or pass it on if it is new here or came a better way than before."""
        node = self._node
        if node.kind >= NodeKind.END_DEVICE or nwk.src == node.short:
            return
        here = link_cost(lqi)
        neighbor = node.neighbors.get(sender)
        if neighbor is not None:
            if not neighbor.outgoing_cost:
                return  # it does not hear us, so that no answer would reach it
            here = max(
                here, neighbor.outgoing_cost
            )  # links are taken for symmetric, as bad as their worse side
        cost = min(request.cost + here, 0xFF)
        key = nwk.src << 8 | request.identifier
        known = self._requests.get(key)
        if known is not None and known.expires_us > node.air.now and known.cost <= cost:
            return
        self._enter(key, cost, sender)
        # Zigbee PRO 3.6.3.5.2 with nwkSymLink: the way that the request came is the way back.
        many_to_one = request.many_to_one
        self.learn_route(nwk.src, sender, cost, record=many_to_one != 0, low_ram=many_to_one == MANY_TO_ONE)
        if not many_to_one and (
            request.destination == node.short or request.destination in node.parenting.by_short
        ):
            self._reply(RouteReply(request.identifier, nwk.src, request.destination, 0), sender)
            return
        if nwk.radius > 1:
            command = replace(request, cost=cost)
            node.after(node.air.random.randrange(*_REQUEST_JITTER_US), self._pass_request_on, nwk, command)

    def _pass_request_on(self, nwk: NwkFrame, request: RouteRequest) -> None:
        node = self._node
        node.nwk.pass_command_on(nwk, request)

    def _reply(self, reply: RouteReply, hop: int) -> None:
        self._node.nwk.send_command(reply, hop, radius=_MAX_RADIUS)

    def route_replied(self, reply: RouteReply, sender: int, lqi: int) -> None:
        """A route reply came from the neighbour `sender`: that is the way to its responder."""
        node = self._node
        if node.kind >= NodeKind.END_DEVICE:
            return
        request = self._requests.get(reply.originator << 8 | reply.identifier)
        if request is None:
            return
        cost = min(reply.cost + link_cost(lqi), 0xFF)
        if cost >= request.reply_cost:
            return
        request.reply_cost = cost
        self.learn_route(reply.responder, sender, cost)
        if reply.originator != node.short:
            self.learn_route(reply.originator, request.previous_hop, request.cost)
            self._reply(replace(reply, cost=cost), request.previous_hop)
            return

    def learn_route(
        self, dst: int, hop: int, cost: int, *, record: bool = False, low_ram: bool = False
    ) -> None:
        """Enter the way to `dst`; the oldest entry gives way when the table is full."""
        node = self._node
        if dst in node.parenting.by_short or dst == node.short:
            return
        routes = node.routes
        if dst not in routes and len(routes) >= _ROUTES:
            del routes[next(iter(routes))]
        routes[dst] = Route(hop, cost, record, low_ram)
        search = self._searches.pop(dst, None)
        if search is not None:
            if search.timer is not None:
                search.timer.cancel()
            for found in search.waiting:
                found(True)

    def route_recorded(self, src: int, source: int | None, relays: tuple[int, ...]) -> None:
        """A route record arrived at its concentrator."""
        node = self._node
        if src not in node.source_routes and len(node.source_routes) >= _SOURCE_ROUTES:
            del node.source_routes[next(iter(node.source_routes))]
        # A record lists the routers from its originator on, and a source route from its destination on: it is the same.
        node.source_routes[src] = relays
        node.listener.route_recorded(src, 0 if source is None else source, relays)

    # --- failures -----------------------------------------------------------------------------------------------------

    def hop_failed(self, frame: NwkFrame, hop: int) -> None:
        """The MAC could not deliver to `hop`: routes by way of it are dead (Zigbee PRO 3.6.3.7)."""
        node = self._node
        neighbor = node.neighbors.get(hop)
        if neighbor is not None:
            neighbor.outgoing_cost = 0
        for dst in [dst for dst, route in node.routes.items() if route.next_hop == hop]:
            del node.routes[dst]
        if frame.relays is not None:
            node.source_routes.pop(frame.dst, None)
        if frame.src != node.short:
            self.report_failure(frame.src, frame.dst, NON_TREE_LINK_FAILURE)

    def report_failure(self, originator: int, dst: int, code: int) -> None:
        """Tell the originator of a frame that it went no further."""
        node = self._node
        if node.network is None:
            return
        command = NetworkStatus(code, dst)
        frame = node.nwk.command_frame(command, originator, radius=_MAX_RADIUS)
        if originator in node.parenting.by_short or originator in node.routes or originator in node.neighbors:
            self.forward(frame, None)

    def status_received(self, sender: int, status: NetworkStatus) -> None:
        """A network status came: a route of ours is dead, or an address is used twice."""
        node = self._node
        if status.status == ADDRESS_CONFLICT:
            node.parenting.address_conflict(status.destination)
            return
        node.routes.pop(status.destination, None)
        if status.status == SOURCE_ROUTE_FAILURE:
            node.source_routes.pop(status.destination, None)
            node.aps.source_route_failed(status.destination)
        node.listener.route_failed(status.destination, status.status)

    # --- neighbours ---------------------------------------------------------------------------------------------------

    def learn_neighbor(self, short: int, eui64: int, lqi: int = 255, outgoing_cost: int = 0) -> None:
        """A router or coordinator is in reach; `outgoing_cost` (1 to 7) when it is known to hear us."""
        node = self._node
        known = node.neighbors.get(short)
        if known is None:
            if len(node.neighbors) >= _NEIGHBORS:
                return
            node.counters.neighbors_added += 1
            node.neighbors[short] = Neighbor(short, eui64, lqi, outgoing_cost, node.air.now)
            return
        known.eui64, known.lqi, known.last_heard_us = eui64 or known.eui64, lqi, node.air.now
        if outgoing_cost:
            known.outgoing_cost = outgoing_cost

    def forget_neighbor(self, short: int) -> None:
        """That router left, or has another address now."""
        node = self._node
        if node.neighbors.pop(short, None) is not None:
            node.counters.neighbors_removed += 1
        for dst in [dst for dst, route in node.routes.items() if short in (dst, route.next_hop)]:
            del node.routes[dst]

    def link_status_received(self, status: LinkStatus, sender: int, eui64: int | None, lqi: int) -> None:
        """A neighbouring router said whom it hears; whether it names us tells whether it hears us."""
        node = self._node
        if node.kind >= NodeKind.END_DEVICE or eui64 is None:
            return
        is_news = sender not in node.neighbors
        self.learn_neighbor(sender, eui64, lqi)
        neighbor = node.neighbors.get(sender)
        if neighbor is None:
            return
        cost = next((incoming for short, incoming, _ in status.links if short == node.short), None)
        if cost is not None:
            neighbor.outgoing_cost = cost
        elif status.first and status.last:
            is_news = is_news or neighbor.outgoing_cost != 0
            neighbor.outgoing_cost = 0
        if is_news and not self._answers_soon:
            # It is new, or was restarted: the sooner it knows us, the sooner there is a way between us.
            self._answers_soon = True
            node.after(node.air.random.randrange(*_ANSWER_JITTER_US), self._answer_link_status)

    def _send_link_status(self) -> None:
        node = self._node
        if node.state != NodeState.JOINED or node.kind >= NodeKind.END_DEVICE:
            return
        self._tell_links()
        jitter = node.air.random.randrange(-500_000, 500_000)
        node.after(node.config.link_status_us + jitter, self._send_link_status)

    def _answer_link_status(self) -> None:
        self._answers_soon = False
        if self._node.state == NodeState.JOINED:
            self._tell_links()

    def _tell_links(self) -> None:
        node = self._node
        oldest = node.air.now - _NEIGHBOR_AGE_PERIODS * node.config.link_status_us
        for short in [short for short, neighbor in node.neighbors.items() if neighbor.last_heard_us < oldest]:
            self.forget_neighbor(short)
        links = tuple(
            (short, link_cost(node.neighbors[short].lqi), node.neighbors[short].outgoing_cost)
            for short in sorted(node.neighbors)
        )
        # Zigbee PRO 3.4.8.1: sent as a one-hop broadcast; with at most 26 neighbours one frame holds them all.
        node.nwk.send_command(LinkStatus(links), BROADCAST_ROUTERS)


class _Continuation:
    """A frame that waits for its route."""

    __slots__ = ("_done", "_frame", "_routing")

    def __init__(self, routing: Routing, frame: NwkFrame, done: Sent | None) -> None:
        self._routing = routing
        self._frame = frame
        self._done = done

    def __call__(self, found: bool) -> None:
        if found:
            self._routing.forward(self._frame, None, self._done)
        elif self._done is not None:
            self._done(None)


class _Hop:
    """What is done when the MAC is done with one unicast: failures reach the routing, the result its sender."""

    __slots__ = ("_done", "_frame", "_hop", "_node", "_tries")

    def __init__(self, node: Node, frame: NwkFrame, hop: int, done: Sent | None) -> None:
        self._node = node
        self._frame = frame
        self._hop = hop
        self._done = done
        self._tries = 0

    def __call__(self, status: MacStatus) -> None:
        node = self._node
        retry = status == MacStatus.CHANNEL_ACCESS_FAILURE or (
            status == MacStatus.NO_ACK and self._hop not in node.parenting.by_short
        )
        if retry and self._tries < _HOP_RETRIES:
            # A channel busy for all of the MAC's back-offs, or two transmitters that do not hear each other, are no
            # dead link yet. To an end device the retries of the APS layer must do.
            self._tries += 1
            wait = node.air.random.randrange(*_HOP_WAIT_US)
            node.after(wait, node.nwk.transmit, self._frame, self._hop, self)
            return
        if node.kind >= NodeKind.END_DEVICE:
            node.polling.parent_answered(status)
        elif status != MacStatus.SUCCESS and self._hop not in node.parenting.by_short:
            node.routing.hop_failed(self._frame, self._hop)
        if self._done is not None:
            self._done(status)
