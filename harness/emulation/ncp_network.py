"""EZSP commands about membership: form, join, resume, leave, permit, children, routes, polling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.emulation import ncp_config as ids
from harness.emulation.ncp_memory import (
    HAVE_NETWORK_KEY,
    HAVE_PRECONFIGURED_KEY,
    NO_EUI64,
    NULL_NODE_ID,
    SecurityState,
)
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_system import Answer, Arguments, Handler
from harness.emulation.node import Child, Network, NodeKind, NodeState
from harness.wire.application import SimpleDescriptor
from harness.wire.ezsp import eui64_to_int

CHANNELS = range(11, 27)
ALL_CHANNELS = sum(1 << channel for channel in CHANNELS)
FOREVER = 255

_LOW_RAM_CONCENTRATOR = 0xFFF8
_HIGH_RAM_CONCENTRATOR = 0xFFF9
_UNKNOWN_NODE = 0xFFFE
_ROUTE_ACTIVE = 0x00
_ROUTE_UNUSED = 0x03
_TIMEOUT_UNIT_MS = 1000


def signed(octet: int) -> int:
    """A power in dBm out of the unsigned octet that some versions carry it in."""
    return octet - 256 if octet > 127 else octet


def channels_of(mask: int) -> list[int]:
    """The 2.4 GHz channels of a channel mask."""
    return [channel for channel in CHANNELS if mask & 1 << channel]


# --- form, join, leave --------------------------------------------------------------------------------------


def network_state(ncp: NcpState, args: Arguments) -> Answer:
    return {"status": int(ncp.node.state)}


def network_init(ncp: NcpState, args: Arguments) -> Answer:
    """Go on with the network in the tokens; NETWORK_UP follows, or MOVE_FAILED where an end device finds no parent."""
    node = ncp.node
    if node.state != NodeState.NO_NETWORK:
        return Status.INVALID_STATE
    if node.network is None:
        return Status.NOT_JOINED
    if node.kind >= NodeKind.END_DEVICE:
        _rejoin(ncp, secured=True, channels=[node.network.channel])
    else:
        node.resume()
    return Status.OK


def form_network(ncp: NcpState, args: Arguments) -> Answer:
    node = ncp.node
    if node.state != NodeState.NO_NETWORK:
        return Status.INVALID_STATE
    security = ncp.initial_security
    if security is None:
        return Status.SECURITY_STATE_NOT_SET
    given = args["parameters"]
    problem = _radio_problem(ncp, given)
    if problem is not None:
        return problem
    random = ncp.air.random
    network_key = security.network_key if security.bitmask & HAVE_NETWORK_KEY else random.randbytes(16)
    node.kind = NodeKind.COORDINATOR
    ncp.tokens.security = security
    ncp.tokens.tx_power = signed(given.radioTxPower)
    ncp.tokens.channel_mask = int(given.channels)
    node.default_link_key = _joiners_key(security)
    # What the host gives as nwkUpdateId is not looked at: a new network starts at 0 (bellows works around it).
    node.form(
        Network(
            channel=int(given.radioChannel),
            pan_id=int(given.panId),
            extended_pan_id=eui64_to_int(given.extendedPanId) or random.getrandbits(64),
            network_key=network_key,
            key_sequence=security.key_sequence,
            manager=int(given.nwkManagerId),
        )
    )
    ncp.network_made()
    return Status.OK


def _radio_problem(ncp: NcpState, given: Any) -> Status | None:
    if given.radioChannel not in CHANNELS:
        return Status.TRANSMIT_INVALID_CHANNEL
    if signed(given.radioTxPower) > ncp.config.max_tx_power:
        return Status.TRANSMIT_INVALID_POWER
    return None


def _joiners_key(security: SecurityState) -> bytes | None:
    """The link key for devices without one of their own: the global one, if that is what the host gave."""
    if security.hashed or not security.bitmask & HAVE_PRECONFIGURED_KEY:
        return None
    return security.preconfigured_key


def join_network(ncp: NcpState, args: Arguments) -> Answer:
    """Scan, associate and authenticate; a stackStatusHandler says how it ended."""
    node = ncp.node
    kind = _KINDS.get(args["nodeType"])
    if node.state != NodeState.NO_NETWORK:
        return Status.INVALID_STATE
    security = ncp.initial_security
    if security is None:
        return Status.SECURITY_STATE_NOT_SET
    if not security.bitmask & HAVE_PRECONFIGURED_KEY:
        return Status.PRECONFIGURED_KEY_REQUIRED
    if kind is None or kind is NodeKind.COORDINATOR:
        return Status.INVALID_PARAMETER
    given = args["parameters"]
    problem = _radio_problem(ncp, given)
    if problem is not None:
        return problem
    node.kind = kind
    ncp.tokens.security = security
    ncp.tokens.tx_power = signed(given.radioTxPower)

    def joined(ok: bool, reason: str) -> None:
        if ok:
            ncp.network_made()
        else:
            ncp.callback("stackStatusHandler", {"status": _join_failure(reason)})

    extended_pan_id = eui64_to_int(given.extendedPanId)
    node.join(
        link_key=security.preconfigured_key,
        channels=[int(given.radioChannel)],
        extended_pan_id=None if extended_pan_id in (0, NO_EUI64) else extended_pan_id,
        done=joined,
    )
    return Status.OK


_KINDS = {1: NodeKind.COORDINATOR, 2: NodeKind.ROUTER, 3: NodeKind.END_DEVICE, 4: NodeKind.SLEEPY_END_DEVICE}


def node_type(kind: int) -> int:
    """EmberNodeType of a node."""
    return kind + 1


def _join_failure(reason: str) -> Status:
    if reason.startswith("no network"):
        return Status.NO_BEACONS
    return Status.NO_NETWORK_KEY_RECEIVED if "Transport-Key" in reason else Status.NOT_JOINED


def find_and_rejoin(ncp: NcpState, args: Arguments) -> Answer:
    node = ncp.node
    if node.network is None:
        return Status.NOT_JOINED
    if node.kind == NodeKind.COORDINATOR or node.state == NodeState.JOINING:
        return Status.INVALID_STATE
    mask = int(args["channelMask"])
    channels = channels_of(mask) if mask else [node.network.channel]
    _rejoin(ncp, secured=bool(args["haveCurrentNetworkKey"]), channels=channels)
    ncp.rejoining = True
    return Status.OK


def _rejoin(ncp: NcpState, *, secured: bool, channels: list[int]) -> None:
    def rejoined(ok: bool, reason: str) -> None:
        ncp.rejoining = False
        if not ok:
            ncp.callback("stackStatusHandler", {"status": Status.MOVE_FAILED})

    ncp.node.rejoin(secured=secured, channels=channels, done=rejoined)


def leave_network(ncp: NcpState, args: Arguments) -> Answer:
    if ncp.node.state == NodeState.NO_NETWORK:
        return Status.INVALID_STATE
    ncp.stop_timer("permit")
    ncp.node.leave()
    ncp.child_slots.clear()
    ncp.tokens.child_flags.clear()
    ncp.save_tokens()
    return Status.OK


def permit_joining(ncp: NcpState, args: Arguments) -> Answer:
    if not ncp.up:
        return Status.NOT_JOINED
    seconds = int(args["duration"])
    was_open = ncp.node.permits_joining
    ncp.node.permit_joining(seconds)
    ncp.stop_timer("permit")

    def closed() -> None:
        ncp.callback("stackStatusHandler", {"status": Status.NETWORK_CLOSED})

    if seconds == 0:
        if was_open:
            closed()
        return Status.OK
    if not was_open:
        ncp.callback("stackStatusHandler", {"status": Status.NETWORK_OPENED})
    if seconds != FOREVER:
        ncp.start_timer("permit", seconds, closed)
    return Status.OK


def remove_device(ncp: NcpState, args: Arguments) -> Answer:
    if not ncp.up:
        return Status.NETWORK_DOWN
    return Status.OK if ncp.node.remove_device(eui64_to_int(args["targetLong"])) else Status.NOT_FOUND


# --- who we are ---------------------------------------------------------------------------------------------


def get_eui64(ncp: NcpState, args: Arguments) -> Answer:
    return {"eui64": ncp.node.eui64}


def get_node_id(ncp: NcpState, args: Arguments) -> Answer:
    return {"nodeId": ncp.node.short if ncp.up else _UNKNOWN_NODE}


def get_network_parameters(ncp: NcpState, args: Arguments) -> Answer:
    network = ncp.node.network
    if network is None or not ncp.up:
        return Status.NOT_JOINED
    return {
        "status": Status.OK,
        "nodeType": node_type(ncp.node.kind),
        "parameters": network_parameters(ncp, network),
    }


def network_parameters(ncp: NcpState, network: Network) -> Mapping[str, Any]:
    """EmberNetworkParameters of the network."""
    return {
        "extendedPanId": network.extended_pan_id,
        "panId": network.pan_id,
        "radioTxPower": ncp.tokens.tx_power & 0xFF,
        "radioChannel": network.channel,
        "joinMethod": 0,
        "nwkManagerId": network.manager,
        "nwkUpdateId": network.update_id,
        "channels": ncp.tokens.channel_mask,
    }


def get_parent_child_parameters(ncp: NcpState, args: Arguments) -> Answer:
    node = ncp.node
    has_parent = ncp.up and node.kind >= NodeKind.END_DEVICE
    return {
        "childCount": len(node.children),
        "parentEui64": node.parent_eui64 if has_parent else 0,
        "parentNodeId": node.parent_short if has_parent else NULL_NODE_ID,
    }


def add_endpoint(ncp: NcpState, args: Arguments) -> Answer:
    """UG100: endpoints are registered before the network is up; they are forgotten at the next reset."""
    if ncp.up:
        return Status.INVALID_STATE
    endpoint = int(args["endpoint"])
    if not 1 <= endpoint <= 254 or endpoint in ncp.endpoints:
        return Status.INVALID_PARAMETER
    # The two lists stand one behind the other without lengths: read back, the first takes everything.
    clusters = tuple(map(int, [*args["inputClusterList"], *args["outputClusterList"]]))
    inputs = int(args["inputClusterCount"])
    ncp.endpoints[endpoint] = SimpleDescriptor(
        endpoint=endpoint,
        profile=int(args["profileId"]),
        device=int(args["deviceId"]),
        device_version=int(args["deviceVersion"]),
        server_clusters=clusters[:inputs],
        client_clusters=clusters[inputs : inputs + int(args["outputClusterCount"])],
    )
    ncp.node.descriptors = tuple(ncp.endpoints.values())
    return Status.OK


def set_manufacturer_code(ncp: NcpState, args: Arguments) -> Answer:
    ncp.node.manufacturer_code = int(args["code"])
    return Status.OK


# --- children -----------------------------------------------------------------------------------------------


def get_child_data(ncp: NcpState, args: Arguments) -> Answer:
    child = _child_at(ncp, args["index"])
    if child is None:
        return Status.NOT_JOINED
    silent_ms = (ncp.air.now - child.last_seen_us) // 1000
    return {
        "status": Status.OK,
        "child_data": {
            "eui64": child.eui64,
            "type": node_type(child.kind),
            "id": child.short,
            "timeout": ncp.configuration[ids.END_DEVICE_POLL_TIMEOUT],
            "timeout_remaining": max(0, child.timeout_s * _TIMEOUT_UNIT_MS - silent_ms),
        },
    }


def set_child_data(ncp: NcpState, args: Arguments) -> Answer:
    """Write one row of the child table, as a backup is restored."""
    index, given = int(args["index"]), args["child_data"]
    kind = _KINDS.get(given.type)
    if index >= ncp.configuration[ids.MAX_END_DEVICE_CHILDREN]:
        return Status.INVALID_INDEX
    if kind is None or kind < NodeKind.END_DEVICE:
        return Status.INVALID_PARAMETER
    eui64 = eui64_to_int(given.eui64)
    old = ncp.child_slots.get(index)
    if old is not None and old != eui64:
        ncp.node.remove_child(old)
    ncp.node.add_child(Child(eui64, int(given.id), kind, ncp.child_timeout_s(), ncp.air.now))
    ncp.child_slots[index] = eui64
    # A row written by setChildData lacks the flag of one that joined; hosts mend it through the token (bellows does).
    ncp.tokens.child_flags[eui64] = 0x00
    ncp.save_tokens()
    return Status.OK


def child_id(ncp: NcpState, args: Arguments) -> Answer:
    child = _child_at(ncp, args["childIndex"])
    return {"childId": NULL_NODE_ID if child is None else child.short}


def _child_at(ncp: NcpState, index: int) -> Child | None:
    eui64 = ncp.child_slots.get(index)
    return None if eui64 is None else ncp.node.children.get(eui64)


# --- neighbours and routes ----------------------------------------------------------------------------------


def neighbor_count(ncp: NcpState, args: Arguments) -> Answer:
    return {"value": len(ncp.node.neighbors)}


def get_neighbor(ncp: NcpState, args: Arguments) -> Answer:
    neighbors = list(ncp.node.neighbors.values())
    index = int(args["index"])
    if index >= len(neighbors):
        return Status.INVALID_INDEX
    neighbor = neighbors[index]
    periods = (ncp.air.now - neighbor.last_heard_us) // 16_000_000
    return {
        "status": Status.OK,
        "value": {
            "shortId": neighbor.short,
            "averageLqi": neighbor.lqi,
            "inCost": 1,
            "outCost": neighbor.outgoing_cost,
            "age": min(periods, 255),
            "longId": neighbor.eui64,
        },
    }


def get_route_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    index = int(args["index"])
    if index >= ncp.configuration[ids.ROUTE_TABLE_SIZE]:
        return Status.INVALID_INDEX
    routes = list(ncp.node.routes.items())
    if index >= len(routes):
        return {
            "status": Status.OK,
            "value": {"destination": NULL_NODE_ID, "nextHop": NULL_NODE_ID, "status": _ROUTE_UNUSED},
        }
    destination, route = routes[index]
    return {
        "status": Status.OK,
        "value": {"destination": destination, "nextHop": route.next_hop, "status": _ROUTE_ACTIVE},
    }


def set_concentrator(ncp: NcpState, args: Arguments) -> Answer:
    """Tell the network now and then (every maxTime seconds) that routes to this node are wanted."""
    ncp.stop_timer("concentrator")
    if not args["on"]:
        ncp.concentrator = None
        return Status.OK
    kind = int(args["concentratorType"])
    if kind not in (_LOW_RAM_CONCENTRATOR, _HIGH_RAM_CONCENTRATOR):
        return Status.INVALID_PARAMETER
    ncp.concentrator = (kind, max(1, int(args["maxTime"])), int(args["maxHops"]) or 30)
    return Status.OK


def set_source_route_discovery_mode(ncp: NcpState, args: Arguments) -> Answer:
    """0 off, 1 on, 2 again from now; answers the milliseconds until the next many-to-one route request."""
    if args["mode"] == 0 or ncp.concentrator is None:
        ncp.stop_timer("concentrator")
        return {"remainingTime": 0xFFFFFFFF}
    announce_concentrator(ncp)
    return {"remainingTime": ncp.concentrator[1] * 1000}


def announce_concentrator(ncp: NcpState) -> None:
    """Send a many-to-one route request, and the next one in maxTime seconds."""
    if ncp.concentrator is None:
        return
    kind, seconds, hops = ncp.concentrator
    if ncp.up:
        ncp.node.request_many_to_one_routes(hops, high_ram=kind == _HIGH_RAM_CONCENTRATOR)
    ncp.start_timer("concentrator", seconds, lambda: announce_concentrator(ncp))


def send_many_to_one(ncp: NcpState, args: Arguments) -> Answer:
    if not ncp.up:
        return Status.NETWORK_DOWN
    high_ram = int(args["concentratorType"]) == _HIGH_RAM_CONCENTRATOR
    ncp.node.request_many_to_one_routes(int(args["radius"]) or 30, high_ram=high_ram)
    return Status.OK


def source_route_table_size(ncp: NcpState, args: Arguments) -> Answer:
    return {"sourceRouteTableTotalSize": ncp.configuration[ids.SOURCE_ROUTE_TABLE_SIZE]}


def source_route_table_filled(ncp: NcpState, args: Arguments) -> Answer:
    return {"sourceRouteTableFilledSize": len(ncp.node.source_routes)}


COMMANDS: dict[str, Handler] = {
    "networkState": network_state,
    "networkInit": network_init,
    "formNetwork": form_network,
    "joinNetwork": join_network,
    "findAndRejoinNetwork": find_and_rejoin,
    "leaveNetwork": leave_network,
    "permitJoining": permit_joining,
    "removeDevice": remove_device,
    "getEui64": get_eui64,
    "getNodeId": get_node_id,
    "getNetworkParameters": get_network_parameters,
    "getParentChildParameters": get_parent_child_parameters,
    "addEndpoint": add_endpoint,
    "setManufacturerCode": set_manufacturer_code,
    "setPowerDescriptor": lambda ncp, args: Status.OK,
    "getChildData": get_child_data,
    "setChildData": set_child_data,
    "childId": child_id,
    "neighborCount": neighbor_count,
    "getNeighbor": get_neighbor,
    "getRouteTableEntry": get_route_table_entry,
    "setConcentrator": set_concentrator,
    "setSourceRouteDiscoveryMode": set_source_route_discovery_mode,
    "sendManyToOneRouteRequest": send_many_to_one,
    "getSourceRouteTableTotalSize": source_route_table_size,
    "getSourceRouteTableFilledSize": source_route_table_filled,
}
