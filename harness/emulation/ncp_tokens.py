"""EZSP commands about flash tokens (EZSP 9 and newer): what backups of a stick are read from and written to."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import NamedTuple

from harness.emulation import ncp_config as ids
from harness.emulation.ncp_memory import NO_EUI64, SecurityState
from harness.emulation.ncp_network import ALL_CHANNELS, node_type
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_system import Answer, Arguments, Handler

# NVM3 keys (SiSDK's "Zigbee token" reference); those with a 0x1 in front are the ones of EmberZNet 7 and newer.
RESTORED_EUI64 = 0x0000E12A
STACK_NODE_DATA = 0x0001EE64
STACK_NETWORK_MANAGEMENT = 0x0001E125
STACK_TRUST_CENTER = 0x0001E124
STACK_CHILD_TABLE = 0x00010580
STACK_BOOT_COUNTER = 0x0001E263
STACK_NONCE_COUNTER = 0x0001E563
STACK_APS_FRAME_COUNTER = 0x0001E123

_NODE_DATA = struct.Struct("<HbBBBHQ")
_NETWORK_MANAGEMENT = struct.Struct("<IHBB")
_TRUST_CENTER = struct.Struct("<HQ16s")
_CHILD = struct.Struct("<QHB")
_COUNTER = struct.Struct("<I")
_EUI64 = struct.Struct("<Q")

_STACK_PROFILE_PRO = 2
# What the flag octet of a child that joined by itself holds; setChildData leaves 0.
CHILD_JOINED = 0x80


class _Token(NamedTuple):
    """How one token is read (None: not there) and written; `index` is 0 but for `indexed` ones."""

    size: int
    read: Callable[[NcpState, int], bytes | None]
    write: Callable[[NcpState, int, bytes], bool]
    indexed: bool = False
    counter: bool = False


def _refuse(ncp: NcpState, index: int, data: bytes) -> bool:
    return False


def _read_eui64(ncp: NcpState, index: int) -> bytes | None:
    return _EUI64.pack(ncp.tokens.restored_eui64)


def _write_eui64(ncp: NcpState, index: int, data: bytes) -> bool:
    # In force from the next reset on.
    (ncp.tokens.restored_eui64,) = _EUI64.unpack(data)
    return True


def _read_node_data(ncp: NcpState, index: int) -> bytes | None:
    network = ncp.stored_network()
    if network is None:
        return _NODE_DATA.pack(0xFFFF, ncp.tokens.tx_power, 0, 0, 0, 0xFFFE, 0)
    return _NODE_DATA.pack(
        network.pan_id,
        ncp.tokens.tx_power,
        network.channel,
        _STACK_PROFILE_PRO,
        node_type(ncp.node.kind),
        ncp.node.short,
        network.extended_pan_id,
    )


def _write_node_data(ncp: NcpState, index: int, data: bytes) -> bool:
    pan_id, power, channel, _, _, _, extended_pan_id = _NODE_DATA.unpack(data)
    ncp.tokens.tx_power = power
    ncp.tokens.network_changes |= {"pan_id": pan_id, "channel": channel, "extended_pan_id": extended_pan_id}
    return True


def _read_network_management(ncp: NcpState, index: int) -> bytes | None:
    network = ncp.stored_network()
    if network is None:
        return _NETWORK_MANAGEMENT.pack(ALL_CHANNELS, 0, 0, 0)
    return _NETWORK_MANAGEMENT.pack(ncp.tokens.channel_mask, network.manager, network.update_id, 0)


def _write_network_management(ncp: NcpState, index: int, data: bytes) -> bool:
    ncp.tokens.channel_mask, manager, update_id, _ = _NETWORK_MANAGEMENT.unpack(data)
    ncp.tokens.network_changes |= {"manager": manager, "update_id": update_id}
    return True


def _read_trust_center(ncp: NcpState, index: int) -> bytes | None:
    security = ncp.tokens.security
    if security is None:
        return _TRUST_CENTER.pack(0, NO_EUI64, bytes(16))
    return _TRUST_CENTER.pack(security.bitmask & 0xFFFF, ncp.trust_center(), security.preconfigured_key)


def _write_trust_center(ncp: NcpState, index: int, data: bytes) -> bool:
    mode, trust_center, key = _TRUST_CENTER.unpack(data)
    old = ncp.tokens.security or SecurityState()
    ncp.tokens.security = SecurityState(mode, key, old.network_key, old.key_sequence, trust_center)
    ncp.node.trust_center = trust_center
    return True


def _read_child(ncp: NcpState, index: int) -> bytes | None:
    eui64 = ncp.child_slots.get(index)
    child = None if eui64 is None else ncp.node.children.get(eui64)
    if child is None:
        inside = index < ncp.configuration[ids.MAX_END_DEVICE_CHILDREN]
        return _CHILD.pack(NO_EUI64, 0xFFFF, 0) if inside else None
    return _CHILD.pack(child.eui64, child.short, ncp.tokens.child_flags.get(child.eui64, CHILD_JOINED))


def _write_child(ncp: NcpState, index: int, data: bytes) -> bool:
    eui64, _, flags = _CHILD.unpack(data)
    if ncp.child_slots.get(index) != eui64:
        return False
    ncp.tokens.child_flags[eui64] = flags
    return True


def _read_boots(ncp: NcpState, index: int) -> bytes | None:
    return _COUNTER.pack(ncp.tokens.boots)


def _read_nonce(ncp: NcpState, index: int) -> bytes | None:
    return _COUNTER.pack(ncp.node.nwk_counter)


def _read_aps_counter(ncp: NcpState, index: int) -> bytes | None:
    return _COUNTER.pack(ncp.aps_counter())


TOKENS: dict[int, _Token] = {
    STACK_BOOT_COUNTER: _Token(_COUNTER.size, _read_boots, _refuse, counter=True),
    STACK_NONCE_COUNTER: _Token(_COUNTER.size, _read_nonce, _refuse, counter=True),
    STACK_APS_FRAME_COUNTER: _Token(_COUNTER.size, _read_aps_counter, _refuse, counter=True),
    STACK_TRUST_CENTER: _Token(_TRUST_CENTER.size, _read_trust_center, _write_trust_center),
    STACK_NETWORK_MANAGEMENT: _Token(
        _NETWORK_MANAGEMENT.size, _read_network_management, _write_network_management
    ),
    STACK_NODE_DATA: _Token(_NODE_DATA.size, _read_node_data, _write_node_data),
    RESTORED_EUI64: _Token(_EUI64.size, _read_eui64, _write_eui64),
    STACK_CHILD_TABLE: _Token(_CHILD.size, _read_child, _write_child, indexed=True),
}


def get_token_count(ncp: NcpState, args: Arguments) -> Answer:
    return {"count": len(TOKENS)}


def get_token_info(ncp: NcpState, args: Arguments) -> Answer:
    tokens, index = list(TOKENS.items()), int(args["index"])
    if index >= len(tokens):
        return Status.INVALID_INDEX
    key, token = tokens[index]
    rows = ncp.configuration[ids.MAX_END_DEVICE_CHILDREN] if token.indexed else 1
    return {
        "status": Status.OK,
        "token_info": {
            "nvm3Key": key,
            "isCnt": int(token.counter),
            "isIdx": int(token.indexed),
            "size": token.size,
            "arraySize": rows,
        },
    }


def get_token_data(ncp: NcpState, args: Arguments) -> Answer:
    token = TOKENS.get(args["token"]) if ncp.config.nv3_tokens else None
    data = None if token is None else token.read(ncp, int(args["index"]))
    return Status.NOT_FOUND if data is None else {"status": Status.OK, "value": data}


def set_token_data(ncp: NcpState, args: Arguments) -> Answer:
    token = TOKENS.get(args["token"]) if ncp.config.nv3_tokens else None
    data = bytes(args["token_data"])
    if token is None:
        return Status.NOT_FOUND
    if len(data) != token.size or not token.write(ncp, int(args["index"]), data):
        return Status.INVALID_PARAMETER
    ncp.save_tokens()
    return Status.OK


def token_factory_reset(ncp: NcpState, args: Arguments) -> Answer:
    """Forget network, keys and children; the network that is up stays up until the next reset, as on a stick."""
    ncp.factory_reset(
        keep_counters=bool(args["excludeOutgoingFC"]), keep_boots=bool(args["excludeBootCounter"])
    )
    return None


COMMANDS: dict[str, Handler] = {
    "getTokenCount": get_token_count,
    "getTokenInfo": get_token_info,
    "getTokenData": get_token_data,
    "setTokenData": set_token_data,
    "tokenFactoryReset": token_factory_reset,
}
