"""EZSP commands about messages: unicast, broadcast, multicast, replies, and the tables that address them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.emulation import ncp_config as ids
from harness.emulation.ncp_memory import NO_EUI64, NULL_NODE_ID, AddressEntry, MulticastEntry, Pending
from harness.emulation.ncp_network import CHANNELS
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_system import Answer, Arguments, Handler
from harness.wire.application import FIRST_BROADCAST, ZDO_PROFILE, ApsMessage
from harness.wire.ezsp import EzspAps, SendUnicast, eui64_to_int

# EmberOutgoingMessageType
DIRECT = 0
VIA_ADDRESS_TABLE = 1
VIA_BINDING = 2
MULTICAST = 3
BROADCAST = 6

# EmberApsOption
ENCRYPTION = 0x0020
RETRY = 0x0040
ENABLE_ROUTE_DISCOVERY = 0x0100
SOURCE_EUI64 = 0x0400
DESTINATION_EUI64 = 0x0800
FRAGMENT = 0x8000

_EUI64_OCTETS = 8
_FRAGMENT_OCTETS = 2
_DEFAULT_RADIUS = 30
# Zigbee PRO (05-3474-21), nwkNetworkBroadcastDeliveryTime: so long a broadcast stays in its table.
_BROADCAST_US = 9_000_000
_UNICAST_BINDING = 1

# Mgmt_NWK_Update_req (Zigbee PRO 05-3474-21 2.4.3.3.9): sequence number, channel mask, 0xFE, nwkUpdateId.
_MGMT_NWK_UPDATE = 0x0038
_CHANGE_CHANNEL = 0xFE
_CHANNEL_CHANGE_OCTETS = 7
_ZDO_RESPONSE = 0x8000
_NO_ALIAS = 0xFFFF


def send_unicast(ncp: NcpState, command: SendUnicast) -> tuple[Status, int]:
    """Take a unicast: status, and the APS counter if it is OK; messageSentHandler says what became of it."""
    kind, destination, aps, tag, payload = command
    short = destination if kind == DIRECT else _resolve(ncp, kind, destination)
    if short is None or short >= FIRST_BROADCAST:
        return Status.INVALID_PARAMETER, 0
    problem = _cannot_send(ncp, aps.options, len(payload), short)
    if problem is not None:
        return problem, 0
    if ncp.pending_unicasts >= ncp.configuration[ids.APS_UNICAST_MESSAGE_COUNT]:
        return Status.MAX_MESSAGE_LIMIT_REACHED, 0
    options = aps.options
    message = ApsMessage(
        short,
        aps.profile,
        aps.cluster,
        aps.source_endpoint,
        aps.destination_endpoint,
        payload,
        options & ENCRYPTION != 0,
        options & RETRY != 0,
    )
    block = blocks = first = None
    if options & FRAGMENT:
        # UG100, EmberApsOption: the group is the fragment's index, with their number in the high octet of the first.
        block = aps.group & 0xFF
        if block == 0:
            blocks = aps.group >> 8
        else:
            first = aps.sequence
    ncp.last_tag += 1
    counter = ncp.node.send(
        message,
        tag=ncp.last_tag,
        relays=ncp.source_routes.get(short),
        block=block,
        blocks=blocks,
        aps_counter=first,
    )
    ncp.pending_unicasts += 1
    ncp.pending[ncp.last_tag] = Pending(kind, destination, EzspAps(*aps[:6], counter), tag)
    if aps.cluster == _MGMT_NWK_UPDATE and aps.profile == ZDO_PROFILE and short == ncp.node.short:
        _change_own_channel(ncp, message)
    return Status.OK, counter


def _change_own_channel(ncp: NcpState, request: ApsMessage) -> None:
    """EmberZNet obeys its own host's channel change at once, and answers it: zigpy waits for that (zigpy #1190)."""
    payload = request.payload
    if len(payload) < _CHANNEL_CHANGE_OCTETS or payload[5] != _CHANGE_CHANNEL:
        return
    mask = int.from_bytes(payload[1:5], "little")
    channel = mask.bit_length() - 1
    if mask != 1 << channel or channel not in CHANNELS:
        return
    ncp.node.update_network(channel=channel, update_id=payload[6])
    ncp.callback("stackStatusHandler", {"status": Status.CHANNEL_CHANGED})
    answer = bytes((payload[0], 0)) + payload[1:5] + bytes(5)
    ncp.hear_self(ApsMessage(request.peer, ZDO_PROFILE, _MGMT_NWK_UPDATE | _ZDO_RESPONSE, 0, 0, answer))


def _resolve(ncp: NcpState, kind: int, index: int) -> int | None:
    if kind == VIA_ADDRESS_TABLE:
        entry = ncp.addresses.get(index)
        return None if entry is None or entry.eui64 == NO_EUI64 else entry.short
    binding = ncp.bindings.get(index) if kind == VIA_BINDING else None
    if binding is None or binding["type"] != _UNICAST_BINDING:
        return None
    return ncp.node.lookup_short(binding["identifier"])


def _cannot_send(ncp: NcpState, options: int, octets: int, short: int | None) -> Status | None:
    if not ncp.up:
        return Status.NETWORK_DOWN
    room = ncp.node.max_payload(
        options & ENCRYPTION != 0, len(ncp.relays_to(short)) if short is not None else 0
    )
    if octets > room - _option_octets(options):
        return Status.MESSAGE_TOO_LONG
    return None


def _option_octets(options: int) -> int:
    octets = 0
    if options & SOURCE_EUI64:
        octets += _EUI64_OCTETS
    if options & DESTINATION_EUI64:
        octets += _EUI64_OCTETS
    if options & FRAGMENT:
        octets += _FRAGMENT_OCTETS
    return octets


def _aps(given: Any) -> EzspAps:
    return EzspAps(
        int(given.profileId),
        int(given.clusterId),
        int(given.sourceEndpoint),
        int(given.destinationEndpoint),
        int(given.options),
        int(given.groupId),
        int(given.sequence),
    )


def _send_to_many(
    ncp: NcpState, args: Arguments, kind: int, destination: int, group: int | None, radius: int
) -> Answer:
    if args.get("alias", _NO_ALIAS) != _NO_ALIAS:
        return Status.NOT_SUPPORTED
    aps, payload = _aps(args["aps_frame"]), bytes(args["message"])
    problem = _cannot_send(ncp, aps.options & ~RETRY, len(payload), None)
    if problem is not None:
        return problem
    recent = ncp.broadcasts
    while recent and recent[0] <= ncp.air.now - _BROADCAST_US:
        recent.popleft()
    if len(recent) >= ncp.configuration[ids.BROADCAST_TABLE_SIZE]:
        return Status.BUSY
    recent.append(ncp.air.now)
    ncp.last_tag += 1
    counter = ncp.node.send(
        ApsMessage(
            peer=destination,
            profile=aps.profile,
            cluster=aps.cluster,
            source_endpoint=aps.source_endpoint,
            destination_endpoint=aps.destination_endpoint,
            payload=payload,
            acknowledged=False,
            broadcast=group is None,
            group=group,
            radius=radius or _DEFAULT_RADIUS,
        ),
        tag=ncp.last_tag,
    )
    told = destination if group is None else group
    ncp.pending[ncp.last_tag] = Pending(kind, told, EzspAps(*aps[:6], counter), int(args["message_tag"]))
    return {"status": Status.OK, "sequence": counter}


def send_broadcast(ncp: NcpState, args: Arguments) -> Answer:
    destination = int(args["destination"])
    if destination < FIRST_BROADCAST:
        return Status.INVALID_PARAMETER
    return _send_to_many(ncp, args, BROADCAST, destination, None, int(args["radius"]))


def send_multicast(ncp: NcpState, args: Arguments) -> Answer:
    destination = int(args.get("broadcast_addr", 0xFFFD))
    group = int(args["aps_frame"].groupId)
    return _send_to_many(ncp, args, MULTICAST, destination, group, int(args["hops"]))


def send_reply(ncp: NcpState, args: Arguments) -> Answer:
    """Answer a unicast: for a fragment, its APS acknowledgement (bellows); else a unicast like any other."""
    sender, aps, payload = int(args["sender"]), _aps(args["aps_frame"]), bytes(args["message"])
    if aps.options & FRAGMENT:
        if not ncp.up:
            return Status.NETWORK_DOWN
        message = ncp.fragments.get((sender, aps.sequence))
        if message is None:
            return Status.NOT_FOUND
        # UG100, EmberApsOption: the low octet is the first block of the window, the high octet says which arrived.
        ncp.node.acknowledge_block(message, aps.sequence, aps.group & 0xFF, aps.group >> 8)
        return Status.OK
    return send_unicast(ncp, SendUnicast(DIRECT, sender, aps, 0, payload))[0]


def maximum_payload_length(ncp: NcpState, args: Arguments) -> Answer:
    return {"apsLength": ncp.node.max_payload(False)}


def set_source_route(ncp: NcpState, args: Arguments) -> Answer:
    """EZSP 8: how to reach a destination, relays nearest to it first. Newer firmware takes it and does nothing."""
    if ncp.dialect.version >= 9:
        return Status.OK
    destination, routes = int(args["destination"]), ncp.source_routes
    if destination not in routes and len(routes) >= ncp.configuration[ids.SOURCE_ROUTE_TABLE_SIZE]:
        return Status.ALLOCATION_FAILED  # UG100, setSourceRoute: EMBER_NO_BUFFERS
    routes[destination] = tuple(map(int, args["relayList"]))
    return Status.OK


# --- address table ------------------------------------------------------------------------------------------


def _entry(ncp: NcpState, index: int) -> AddressEntry | None:
    if index >= ncp.configuration[ids.ADDRESS_TABLE_SIZE]:
        return None
    return ncp.addresses.setdefault(index, AddressEntry())


def replace_address_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    entry = _entry(ncp, int(args["addressTableIndex"]))
    if entry is None:
        return Status.INVALID_RANGE
    old = entry.eui64
    extended = ncp.node.extended_timeouts
    answer = {
        "status": Status.OK,
        "oldEui64": old,
        "oldId": entry.short,
        "oldExtendedTimeout": int(extended.get(old, False)),
    }
    _set_entry(ncp, entry, eui64_to_int(args["newEui64"]), int(args["newId"]))
    extended.pop(old, None)
    if args["newExtendedTimeout"]:
        extended[entry.eui64] = True
    return answer


def _set_entry(ncp: NcpState, entry: AddressEntry, eui64: int, short: int) -> None:
    entry.eui64 = NO_EUI64 if eui64 == 0 else eui64
    entry.short = short
    if entry.eui64 != NO_EUI64 and short < FIRST_BROADCAST:
        ncp.node.learn_address(short, entry.eui64)


def set_address_table_info(ncp: NcpState, args: Arguments) -> Answer:
    entry = _entry(ncp, int(args["index"]))
    if entry is None:
        return Status.INVALID_RANGE
    _set_entry(ncp, entry, eui64_to_int(args["eui64"]), int(args["nwk"]))
    return Status.OK


def get_address_table_info(ncp: NcpState, args: Arguments) -> Answer:
    entry = _entry(ncp, int(args["index"]))
    if entry is None:
        return Status.INVALID_INDEX
    if entry.eui64 == NO_EUI64:
        return Status.NOT_FOUND
    return {"status": Status.OK, "nwk": entry.short, "eui64": entry.eui64}


def set_address_table_eui64(ncp: NcpState, args: Arguments) -> Answer:
    entry = _entry(ncp, int(args["addressTableIndex"]))
    if entry is None:
        return Status.INVALID_RANGE
    _set_entry(ncp, entry, eui64_to_int(args["eui64"]), entry.short)
    return Status.OK


def set_address_table_node_id(ncp: NcpState, args: Arguments) -> Answer:
    entry = _entry(ncp, int(args["addressTableIndex"]))
    if entry is not None:
        _set_entry(ncp, entry, entry.eui64, int(args["id"]))
    return None


def get_address_table_eui64(ncp: NcpState, args: Arguments) -> Answer:
    entry = _entry(ncp, int(args["addressTableIndex"]))
    return {"eui64": 0 if entry is None or entry.eui64 == NO_EUI64 else entry.eui64}


def get_address_table_node_id(ncp: NcpState, args: Arguments) -> Answer:
    entry = _entry(ncp, int(args["addressTableIndex"]))
    return {"nodeId": NULL_NODE_ID if entry is None or entry.eui64 == NO_EUI64 else entry.short}


def address_table_entry_is_active(ncp: NcpState, args: Arguments) -> Answer:
    """Whether messages are on their way to it."""
    entry = _entry(ncp, int(args["addressTableIndex"]))
    on_the_way = [pending.destination for pending in ncp.pending.values() if pending.kind == DIRECT]
    return {"active": int(entry is not None and entry.short in on_the_way)}


def lookup_node_id(ncp: NcpState, args: Arguments) -> Answer:
    eui64 = eui64_to_int(args["eui64"])
    short = ncp.node.short if eui64 == ncp.node.eui64 and ncp.up else ncp.node.lookup_short(eui64)
    if short is None:
        return {"status": Status.NOT_FOUND, "nodeId": NULL_NODE_ID}
    return {"status": Status.OK, "nodeId": short}


def lookup_eui64(ncp: NcpState, args: Arguments) -> Answer:
    short = int(args["nodeId"])
    eui64 = ncp.node.eui64 if short == ncp.node.short and ncp.up else ncp.node.lookup_eui64(short)
    return Status.NOT_FOUND if eui64 is None else {"status": Status.OK, "eui64": eui64}


# --- multicast and binding tables ---------------------------------------------------------------------------


def get_multicast_entry(ncp: NcpState, args: Arguments) -> Answer:
    index = int(args["index"])
    if index >= ncp.configuration[ids.MULTICAST_TABLE_SIZE]:
        return Status.INVALID_INDEX
    entry = ncp.multicast.get(index, MulticastEntry())
    value = {"multicastId": entry.group, "endpoint": entry.endpoint, "networkIndex": entry.network_index}
    return {"status": Status.OK, "value": value}


def set_multicast_entry(ncp: NcpState, args: Arguments) -> Answer:
    index, given = int(args["index"]), args["value"]
    if index >= ncp.configuration[ids.MULTICAST_TABLE_SIZE]:
        return Status.INVALID_INDEX
    ncp.multicast[index] = MulticastEntry(
        int(given.multicastId), int(given.endpoint), int(given.networkIndex or 0)
    )
    ncp.node.groups = [entry.group for entry in ncp.multicast.values() if entry.endpoint]
    return Status.OK


def set_binding(ncp: NcpState, args: Arguments) -> Answer:
    index, given = int(args["index"]), args["value"]
    if index >= ncp.configuration[ids.BINDING_TABLE_SIZE]:
        return Status.INVALID_INDEX
    ncp.bindings[index] = {
        "type": int(given.type),
        "local": int(given.local),
        "clusterId": int(given.clusterId),
        "remote": int(given.remote),
        "identifier": eui64_to_int(given.identifier),
        "networkIndex": int(given.networkIndex),
    }
    return Status.OK


def get_binding(ncp: NcpState, args: Arguments) -> Answer:
    index = int(args["index"])
    if index >= ncp.configuration[ids.BINDING_TABLE_SIZE]:
        return Status.INVALID_INDEX
    unused: Mapping[str, Any] = {"type": 0}
    return {"status": Status.OK, "value": ncp.bindings.get(index, unused)}


def delete_binding(ncp: NcpState, args: Arguments) -> Answer:
    if int(args["index"]) >= ncp.configuration[ids.BINDING_TABLE_SIZE]:
        return Status.INVALID_INDEX
    ncp.bindings.pop(int(args["index"]), None)
    return Status.OK


def clear_binding_table(ncp: NcpState, args: Arguments) -> Answer:
    ncp.bindings.clear()
    return Status.OK


def binding_is_active(ncp: NcpState, args: Arguments) -> Answer:
    by_binding = [pending.destination for pending in ncp.pending.values() if pending.kind == VIA_BINDING]
    return {"active": int(args["index"] in by_binding)}


COMMANDS: dict[str, Handler] = {
    "sendBroadcast": send_broadcast,
    "sendMulticast": send_multicast,
    "sendReply": send_reply,
    "maximumPayloadLength": maximum_payload_length,
    "setSourceRoute": set_source_route,
    "replaceAddressTableEntry": replace_address_table_entry,
    "setAddressTableInfo": set_address_table_info,
    "getAddressTableInfo": get_address_table_info,
    "setAddressTableRemoteEui64": set_address_table_eui64,
    "setAddressTableRemoteNodeId": set_address_table_node_id,
    "getAddressTableRemoteEui64": get_address_table_eui64,
    "getAddressTableRemoteNodeId": get_address_table_node_id,
    "addressTableEntryIsActive": address_table_entry_is_active,
    "lookupNodeIdByEui64": lookup_node_id,
    "lookupEui64ByNodeId": lookup_eui64,
    "getMulticastTableEntry": get_multicast_entry,
    "setMulticastTableEntry": set_multicast_entry,
    "setBinding": set_binding,
    "getBinding": get_binding,
    "deleteBinding": delete_binding,
    "clearBindingTable": clear_binding_table,
    "bindingIsActive": binding_is_active,
}
