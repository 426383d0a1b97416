"""EZSP commands about keys: initial security, the key table, transient keys, exports and imports for backups."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from harness.emulation import ncp_config as ids
from harness.emulation.ncp_memory import (
    HAVE_PRECONFIGURED_KEY,
    NO_EUI64,
    NO_FRAME_COUNTER_RESET,
    PRECONFIGURED_KEY_FROM_INSTALL_CODE,
    SecurityState,
)
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_system import Answer, Arguments, Handler
from harness.emulation.node import LinkKey
from harness.errors import LocalProtocolError
from harness.wire.ezsp import eui64_to_int
from harness.wire.security import link_key_from_install_code

# EmberCurrentSecurityBitmask
_HAVE_LINK_KEY = 0x0010
_CURRENT_BITS = 0x0087

# EmberKeyStructBitmask
_HAS_SEQUENCE_NUMBER = 0x0001
_HAS_OUTGOING_COUNTER = 0x0002
_HAS_INCOMING_COUNTER = 0x0004
_HAS_PARTNER = 0x0008
_IS_AUTHORIZED = 0x0010
_HAS_KEY_DATA = 0x0100
_LINK_KEY_BITS = _HAS_OUTGOING_COUNTER | _HAS_INCOMING_COUNTER | _HAS_PARTNER | _HAS_KEY_DATA

# EmberKeyType
_TRUST_CENTER_LINK_KEY = 1
_CURRENT_NETWORK_KEY = 3
_APPLICATION_LINK_KEY = 5

# SecurityManagerKeyType
_NETWORK = 1
_TC_LINK = 2
_TC_LINK_WITH_TIMEOUT = 3
_APP_LINK = 4

_NOT_IN_TABLE = 0xFF
_INSTALL_CODE_SIZES = (6, 8, 12, 16)


# --- initial and current security ---------------------------------------------------------------------------


def set_initial_security_state(ncp: NcpState, args: Arguments) -> Answer:
    """How to form or join next."""
    if ncp.up:
        return Status.INVALID_STATE
    given = args["state"]
    bitmask = int(given.bitmask)
    key = bytes(given.preconfiguredKey)
    if bitmask & PRECONFIGURED_KEY_FROM_INSTALL_CODE:
        from_code = _install_code_key(ncp)
        if from_code is None:
            return Status.INVALID_CONFIGURATION
        key = from_code
        bitmask |= HAVE_PRECONFIGURED_KEY
    if not bitmask & NO_FRAME_COUNTER_RESET:
        ncp.node.nwk_counter = 0
        ncp.tokens.aps_counter = 0
    ncp.initial_security = SecurityState(
        bitmask,
        key,
        bytes(given.networkKey),
        int(given.networkKeySequenceNumber),
        eui64_to_int(given.preconfiguredTrustCenterEui64),
    )
    return Status.OK


def _install_code_key(ncp: NcpState) -> bytes | None:
    token = ncp.manufacturing_token(ids.MFG_INSTALLATION_CODE)
    flags = int.from_bytes(token[:2], "little")
    if flags & 1:
        return None
    size = _INSTALL_CODE_SIZES[flags >> 1 & 3]
    try:
        return link_key_from_install_code(token[2 : 2 + size] + token[18:20])
    except LocalProtocolError:
        return None


def get_current_security_state(ncp: NcpState, args: Arguments) -> Answer:
    security = ncp.tokens.security
    if not ncp.up or security is None:
        return Status.NOT_JOINED
    bitmask = security.bitmask & _CURRENT_BITS
    if security.bitmask & HAVE_PRECONFIGURED_KEY:
        bitmask |= _HAVE_LINK_KEY
    return {
        "status": Status.OK,
        "state": {"bitmask": bitmask, "trustCenterLongAddress": ncp.trust_center()},
    }


def _trust_center_key(ncp: NcpState) -> bytes | None:
    """The key that UG100 calls the trust centre link key: on the trust centre itself, the one it was given."""
    own = ncp.node.link_keys.get(ncp.node.trust_center)
    if own is not None:
        return own.key
    security = ncp.tokens.security
    if security is None or not security.bitmask & HAVE_PRECONFIGURED_KEY:
        return None
    return security.preconfigured_key


# --- the key table ------------------------------------------------------------------------------------------


def _size(ncp: NcpState) -> int:
    return ncp.configuration[ids.KEY_TABLE_SIZE]


def _key_at(ncp: NcpState, index: int) -> LinkKey | None:
    partner = ncp.tokens.key_table.get(index)
    return None if partner is None or index >= _size(ncp) else ncp.node.link_keys.get(partner)


def _index_of(ncp: NcpState, partner: int) -> int | None:
    for index, eui64 in ncp.tokens.key_table.items():
        if eui64 == partner and index < _size(ncp):
            return index
    return None


def _free_index(ncp: NcpState) -> int | None:
    for index in range(_size(ncp)):
        if index not in ncp.tokens.key_table:
            return index
    return None


def _write(ncp: NcpState, index: int, partner: int, key: bytes) -> Status:
    if index >= _size(ncp):
        return Status.INVALID_INDEX
    if partner in (0, NO_EUI64):
        return Status.INVALID_PARAMETER
    if _index_of(ncp, partner) not in (None, index):
        return Status.INVALID_PARAMETER
    _erase(ncp, index, keep=partner)
    ncp.tokens.key_table[index] = partner
    ncp.node.set_link_key(partner, key, outgoing_counter=ncp.aps_counter())
    ncp.save_tokens()
    return Status.OK


def _erase(ncp: NcpState, index: int, *, keep: int | None = None) -> bool:
    partner = ncp.tokens.key_table.pop(index, None)
    if partner is None:
        return False
    if partner != keep:
        ncp.node.forget_link_key(partner)
    return True


def import_link_key(ncp: NcpState, args: Arguments) -> Answer:
    return _write(ncp, int(args["index"]), eui64_to_int(args["address"]), bytes(args["key"]))


def set_key_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    return _write(ncp, int(args["index"]), eui64_to_int(args["address"]), bytes(args["keyData"]))


def add_or_update_key_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    partner = eui64_to_int(args["address"])
    index = _index_of(ncp, partner)
    if index is None:
        index = _free_index(ncp)
    if index is None:
        return Status.FULL
    return _write(ncp, index, partner, bytes(args["keyData"]))


def find_key_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    """UG100: all zeros search for the first empty entry."""
    address = eui64_to_int(args["address"])
    index = _index_of(ncp, address) if address else _free_index(ncp)
    return {"index": _NOT_IN_TABLE if index is None else index}


def erase_key_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    index = int(args["index"])
    if index >= _size(ncp):
        return Status.INVALID_INDEX
    if not _erase(ncp, index):
        return Status.NOT_FOUND
    ncp.save_tokens()
    return Status.OK


def clear_key_table(ncp: NcpState, args: Arguments) -> Answer:
    for index in list(ncp.tokens.key_table):
        _erase(ncp, index)
    ncp.save_tokens()
    return Status.OK


def get_key_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    index = int(args["index"])
    if index >= _size(ncp):
        return Status.INVALID_INDEX
    key = _key_at(ncp, index)
    return Status.NOT_FOUND if key is None else {"status": Status.OK, "keyStruct": _key_struct(key)}


def _key_struct(key: LinkKey) -> Mapping[str, Any]:
    return {
        "bitmask": _LINK_KEY_BITS | (0 if key.provisional else _IS_AUTHORIZED),
        "type": _APPLICATION_LINK_KEY,
        "key": key.key,
        "outgoingFrameCounter": key.outgoing_counter,
        "incomingFrameCounter": key.incoming_counter,
        "partnerEUI64": key.partner,
    }


def get_key(ncp: NcpState, args: Arguments) -> Answer:
    """EZSP 8 to 12: the network key or the trust centre link key."""
    network = ncp.node.network
    if network is None:
        return Status.NOT_JOINED
    if args["keyType"] == _CURRENT_NETWORK_KEY:
        return {
            "status": Status.OK,
            "keyStruct": {
                "bitmask": _HAS_SEQUENCE_NUMBER | _HAS_OUTGOING_COUNTER | _HAS_KEY_DATA,
                "type": _CURRENT_NETWORK_KEY,
                "key": network.network_key,
                "outgoingFrameCounter": ncp.node.nwk_counter,
                "sequenceNumber": network.key_sequence,
            },
        }
    key = _trust_center_key(ncp)
    if args["keyType"] != _TRUST_CENTER_LINK_KEY or key is None:
        return Status.NOT_FOUND
    return {
        "status": Status.OK,
        "keyStruct": {
            "bitmask": _HAS_OUTGOING_COUNTER | _HAS_PARTNER | _HAS_KEY_DATA | _IS_AUTHORIZED,
            "type": _TRUST_CENTER_LINK_KEY,
            "key": key,
            "outgoingFrameCounter": ncp.aps_counter(),
            # A trust centre has no one partner for its own key.
            "partnerEUI64": NO_EUI64 if ncp.is_trust_center() else ncp.trust_center(),
        },
    }


# --- the security manager (EZSP 12 and newer) ---------------------------------------------------------------


def get_network_key_info(ncp: NcpState, args: Arguments) -> Answer:
    network = ncp.node.network
    return {
        "status": Status.OK,
        "network_key_info": {
            "network_key_set": int(network is not None),
            "network_key_sequence_number": 0 if network is None else network.key_sequence,
            "network_key_frame_counter": ncp.node.nwk_counter,
        },
    }


def export_key(ncp: NcpState, args: Arguments) -> Answer:
    context = args["context"]
    kind = int(context.core_key_type)
    key: bytes | None = None
    if kind == _NETWORK and ncp.node.network is not None:
        key = ncp.node.network.network_key
    elif kind == _TC_LINK:
        key = _trust_center_key(ncp)
    elif kind == _APP_LINK:
        found = _key_at(ncp, int(context.key_index))
        key = None if found is None else found.key
    elif kind == _TC_LINK_WITH_TIMEOUT:
        found = _transient(ncp, eui64_to_int(context.eui64))
        key = None if found is None else found.key
    if key is None:
        return {"status": Status.NOT_FOUND, "context": context}
    return {"status": Status.OK, "key": key, "context": context}


def import_key(ncp: NcpState, args: Arguments) -> Answer:
    context, key = args["context"], bytes(args["key"])
    kind = int(context.core_key_type)
    if kind == _APP_LINK:
        status = _write(ncp, int(context.key_index), eui64_to_int(context.eui64), key)
    elif kind == _TC_LINK_WITH_TIMEOUT:
        status = _add_transient(ncp, eui64_to_int(context.eui64), key)
    elif kind == _TC_LINK:
        status = _set_trust_center_key(ncp, key)
    else:
        status = Status.NOT_SUPPORTED
    return {"status": status, "context": context}


def _set_trust_center_key(ncp: NcpState, key: bytes) -> Status:
    """SiSDK: on a joining device, the key that it talks to the trust centre under; its counters begin anew."""
    if ncp.node.network is None or ncp.is_trust_center():
        return Status.NOT_SUPPORTED  # a trust centre's own is set with the network, and not needed here
    ncp.node.set_link_key(ncp.trust_center(), key, outgoing_counter=ncp.aps_counter())
    ncp.save_tokens()
    return Status.OK


def check_key_context(ncp: NcpState, args: Arguments) -> Answer:
    known = int(args["context"].core_key_type) in (_NETWORK, _TC_LINK, _TC_LINK_WITH_TIMEOUT, _APP_LINK)
    return Status.OK if known else Status.INVALID_PARAMETER


def export_link_key_by_index(ncp: NcpState, args: Arguments) -> Answer:
    index = int(args["index"])
    if index >= _size(ncp):
        return Status.INVALID_INDEX
    return _exported(_key_at(ncp, index), index, _APP_LINK)


def export_link_key_by_eui(ncp: NcpState, args: Arguments) -> Answer:
    index = _index_of(ncp, eui64_to_int(args["eui64"]))
    if index is None:
        return Status.NOT_FOUND
    return _exported(_key_at(ncp, index), index, _APP_LINK)


def get_aps_key_info(ncp: NcpState, args: Arguments) -> Answer:
    context = args["context"]
    index = int(context.key_index)
    if int(context.core_key_type) != _APP_LINK:
        return {"status": Status.NOT_SUPPORTED, "context": context}
    return _exported(_key_at(ncp, index), index, _APP_LINK)


def _exported(key: LinkKey | None, index: int, kind: int, seconds: int = 0) -> Mapping[str, Any] | Status:
    if key is None:
        return Status.NOT_FOUND
    return {
        "status": Status.OK,
        "eui64": key.partner,
        "index": index,
        "plaintext_key": key.key,
        "context": {"core_key_type": kind, "key_index": index, "eui64": key.partner, "flags": 0x03},
        "key_data": {
            "bitmask": _LINK_KEY_BITS,
            "outgoing_frame_counter": key.outgoing_counter,
            "incoming_frame_counter": key.incoming_counter,
            "ttl_in_seconds": seconds,
        },
    }


# --- transient keys -----------------------------------------------------------------------------------------


def _add_transient(ncp: NcpState, partner: int, key: bytes) -> Status:
    """A key for one joiner, or (all ones) for any without one of its own; it ends with its time or a reset."""
    seconds = float(ncp.configuration[ids.TRANSIENT_KEY_TIMEOUT_S])
    if partner != NO_EUI64:
        if _index_of(ncp, partner) is None:
            ncp.node.set_link_key(
                partner, key, provisional=True, seconds=seconds, outgoing_counter=ncp.aps_counter()
            )
        return Status.OK
    ncp.node.default_link_key = key
    ncp.wildcard_until_us = ncp.air.now + round(seconds * 1_000_000)
    ncp.start_timer("wildcard", seconds, ncp.forget_wildcard)
    return Status.OK


def _transients(ncp: NcpState) -> list[LinkKey]:
    keys = ncp.transient_keys()
    wildcard = ncp.node.default_link_key
    if wildcard is not None and "wildcard" in ncp.timers:
        keys.append(LinkKey(NO_EUI64, wildcard, provisional=True, expires_us=ncp.wildcard_until_us))
    return keys


def _transient(ncp: NcpState, partner: int) -> LinkKey | None:
    for key in _transients(ncp):
        if key.partner == partner:
            return key
    return None


def _seconds_left(ncp: NcpState, key: LinkKey) -> int:
    if key.expires_us is None:
        return 0xFFFF
    return max(0, min(0xFFFF, (key.expires_us - ncp.air.now) // 1_000_000))


def import_transient_key(ncp: NcpState, args: Arguments) -> Answer:
    return _add_transient(ncp, eui64_to_int(args["eui64"]), bytes(args["plaintext_key"]))


def add_transient_link_key(ncp: NcpState, args: Arguments) -> Answer:
    return _add_transient(ncp, eui64_to_int(args["partner"]), bytes(args["transientKey"]))


def clear_transient_link_keys(ncp: NcpState, args: Arguments) -> Answer:
    ncp.forget_transient_keys()
    return None


def export_transient_key_by_eui(ncp: NcpState, args: Arguments) -> Answer:
    key = _transient(ncp, eui64_to_int(args["eui64"]))
    return (
        Status.NOT_FOUND if key is None else _exported(key, 0, _TC_LINK_WITH_TIMEOUT, _seconds_left(ncp, key))
    )


def export_transient_key_by_index(ncp: NcpState, args: Arguments) -> Answer:
    keys, index = _transients(ncp), int(args["index"])
    if index >= len(keys):
        return Status.NOT_FOUND
    return _exported(keys[index], index, _TC_LINK_WITH_TIMEOUT, _seconds_left(ncp, keys[index]))


def get_transient_link_key(ncp: NcpState, args: Arguments) -> Answer:
    return _transient_struct(ncp, _transient(ncp, eui64_to_int(args["eui64"])))


def get_transient_key_table_entry(ncp: NcpState, args: Arguments) -> Answer:
    keys, index = _transients(ncp), int(args["index"])
    return _transient_struct(ncp, keys[index]) if index < len(keys) else Status.INVALID_INDEX


def _transient_struct(ncp: NcpState, key: LinkKey | None) -> Answer:
    if key is None:
        return Status.NOT_FOUND
    return {
        "status": Status.OK,
        "transient_key_data": {
            "eui64": key.partner,
            "keyData": key.key,
            "bitmask": _HAS_PARTNER | _HAS_KEY_DATA,
            "remainingTimeSeconds": _seconds_left(ncp, key),
        },
    }


# --- a key of our own from the trust centre -----------------------------------------------------------------


def update_tc_link_key(ncp: NcpState, args: Arguments) -> Answer:
    """A zigbeeKeyEstablishmentHandler says how it ended."""
    if not ncp.up:
        return Status.NOT_JOINED
    if ncp.is_trust_center():
        return Status.INVALID_STATE
    ncp.node.request_link_key()
    return Status.OK


def request_link_key(ncp: NcpState, args: Arguments) -> Answer:
    if not ncp.up:
        return Status.NOT_JOINED
    if ncp.is_trust_center():
        return Status.INVALID_STATE
    ncp.node.request_link_key(eui64_to_int(args["partner"]))
    return Status.OK


COMMANDS: dict[str, Handler] = {
    "setInitialSecurityState": set_initial_security_state,
    "getCurrentSecurityState": get_current_security_state,
    "importLinkKey": import_link_key,
    "setKeyTableEntry": set_key_table_entry,
    "addOrUpdateKeyTableEntry": add_or_update_key_table_entry,
    "findKeyTableEntry": find_key_table_entry,
    "eraseKeyTableEntry": erase_key_table_entry,
    "clearKeyTable": clear_key_table,
    "getKeyTableEntry": get_key_table_entry,
    "getKey": get_key,
    "getNetworkKeyInfo": get_network_key_info,
    "exportKey": export_key,
    "importKey": import_key,
    "checkKeyContext": check_key_context,
    "exportLinkKeyByIndex": export_link_key_by_index,
    "exportLinkKeyByEui": export_link_key_by_eui,
    "getApsKeyInfo": get_aps_key_info,
    "importTransientKey": import_transient_key,
    "addTransientLinkKey": add_transient_link_key,
    "clearTransientLinkKeys": clear_transient_link_keys,
    "exportTransientKeyByEui": export_transient_key_by_eui,
    "exportTransientKeyByIndex": export_transient_key_by_index,
    "getTransientLinkKey": get_transient_link_key,
    "getTransientKeyTableEntry": get_transient_key_table_entry,
    "updateTcLinkKey": update_tc_link_key,
    "requestLinkKey": request_link_key,
}
