"""EZSP commands about the NCP itself: version, configuration, values, policies, counters, manufacturing tokens."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from harness.emulation import ncp_config as ids
from harness.emulation.ncp_config import (
    CONFIGURATION,
    LIBRARIES,
    LIBRARY_UNKNOWN,
    MFG_TOKENS,
    POLICIES,
    VALUE_CELLS,
)
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.wire.security import mmo

Arguments = Mapping[str, Any]
Answer = Mapping[str, Any] | Status | None
"""What a handler returns: the values of the response, or its `status` alone, or nothing."""
Handler = Callable[[NcpState, Arguments], Answer]

# UG100, version: 2 is the mesh stack; the version is four hex digits, 0x7440 for 7.4.4.0 ... as EmberZNet packs it.
_STACK_TYPE_MESH = 2
_GA_RELEASE = 0xAA

_UNKNOWN_NODE = 0xFFFD
_ENDPOINT_FLAGS = 0x00
_LAST_LEAVE_REASON = 0x01
_SOURCE_ROUTE_OVERHEAD = 0x02

# A callback that waits for the host keeps one packet buffer, of those that configuration id 0x01 counts.
_LARGEST_COUNT = 0xFF

# A frame counter has 32 bits and never starts again: one set higher would soon leave nothing to send with.
_HIGHEST_COUNTER = 0xFFFE_FFFF


def version(ncp: NcpState, args: Arguments) -> Answer:
    """Say which EZSP this is; a host that wants another one has to adapt."""
    major, minor, patch, special, _ = ncp.firmware
    return {
        "protocolVersion": ncp.dialect.version,
        "stackType": _STACK_TYPE_MESH,
        "stackVersion": major << 12 | minor << 8 | patch << 4 | special,
    }


def nothing(ncp: NcpState, args: Arguments) -> Answer:
    """Commands whose answer is empty and that change nothing here: nop, callback polling, Green Power tables."""
    return None


def ok(ncp: NcpState, args: Arguments) -> Answer:
    """Commands that tune what an emulated radio does not have: taken, without effect."""
    return Status.OK


def library_missing(ncp: NcpState, args: Arguments) -> Answer:
    """CBKE and ECC commands, on firmware without those libraries; see getLibraryStatus."""
    return Status.NOT_AVAILABLE


def echo(ncp: NcpState, args: Arguments) -> Answer:
    return {"echo": args["data"]}


def get_library_status(ncp: NcpState, args: Arguments) -> Answer:
    return {"status": LIBRARIES.get(args["libraryId"], LIBRARY_UNKNOWN)}


def get_random_number(ncp: NcpState, args: Arguments) -> Answer:
    return {"status": Status.OK, "value": ncp.air.random.getrandbits(16)}


def aes_mmo_hash(ncp: NcpState, args: Arguments) -> Answer:
    """Hash the last and only part of a message; what hosts use it for (install codes) is shorter than one command."""
    context = args["context"]
    if context.length or not args["finalize"]:
        return Status.NOT_SUPPORTED
    data = bytes(args["data"])
    return {"status": Status.OK, "returnContext": {"result": list(mmo(data)), "length": len(data)}}


# --- configuration, values, policies ----------------------------------------------------------------------


def get_configuration_value(ncp: NcpState, args: Arguments) -> Answer:
    value = ncp.configuration.get(args["configId"])
    if value is None:
        return {"status": Status.NOT_FOUND, "value": 0}
    return {"status": Status.OK, "value": value}


def set_configuration_value(ncp: NcpState, args: Arguments) -> Answer:
    number, value = int(args["configId"]), int(args["value"])
    setting = CONFIGURATION.get(number)
    if setting is None:
        return Status.NOT_FOUND
    if not setting.lowest <= value <= setting.highest:
        return Status.INVALID_PARAMETER
    # UG100: memory is allocated before the stack is initialised, so tables cannot be sized once the network is up.
    if setting.memory and ncp.up:
        return Status.INVALID_STATE
    ncp.configuration[number] = value
    ncp.apply_configuration()
    return Status.OK


def get_value(ncp: NcpState, args: Arguments) -> Answer:
    number = int(args["valueId"])
    value = _computed_value(ncp, number)
    if value is None:
        value = ncp.values.get(number)
    if value is None:
        return {"status": Status.NOT_FOUND, "value": b""}
    return {"status": Status.OK, "value": value}


def _computed_value(ncp: NcpState, number: int) -> bytes | None:
    if number == ids.VALUE_FREE_BUFFERS:
        free = ncp.configuration[ids.PACKET_BUFFER_COUNT] - ncp.callbacks_waiting() - len(ncp.pending)
        return bytes([max(0, min(free, _LARGEST_COUNT))])
    if number == ids.VALUE_VERSION_INFO:
        major, minor, patch, special, build = ncp.firmware
        return build.to_bytes(2, "little") + bytes([major, minor, patch, special, _GA_RELEASE])
    if number == ids.VALUE_NODE_SHORT_ID:
        return (ncp.node.short if ncp.up else 0xFFFE).to_bytes(2, "little")
    if number == ids.VALUE_STACK_IS_PERFORMING_REJOIN:
        return bytes([ncp.rejoining])
    if number == ids.VALUE_NWK_FRAME_COUNTER:
        return ncp.node.nwk_counter.to_bytes(4, "little")
    if number == ids.VALUE_APS_FRAME_COUNTER:
        return ncp.aps_counter().to_bytes(4, "little")
    if number == ids.VALUE_TRANSIENT_KEY_TIMEOUT_S:
        return ncp.configuration[ids.TRANSIENT_KEY_TIMEOUT_S].to_bytes(2, "little")
    return None


def set_value(ncp: NcpState, args: Arguments) -> Answer:
    number, value = int(args["valueId"]), bytes(args["value"])
    if number in (ids.VALUE_NWK_FRAME_COUNTER, ids.VALUE_APS_FRAME_COUNTER):
        if ncp.up:
            return Status.INVALID_STATE
        if len(value) != 4:
            return Status.INVALID_PARAMETER
        counter = int.from_bytes(value, "little")
        if counter > _HIGHEST_COUNTER:
            return Status.INVALID_PARAMETER
        if number == ids.VALUE_NWK_FRAME_COUNTER:
            ncp.node.nwk_counter = counter
        else:
            ncp.tokens.aps_counter = counter
        ncp.save_tokens()
    elif number == ids.VALUE_TRANSIENT_KEY_TIMEOUT_S:
        if len(value) != 2:
            return Status.INVALID_PARAMETER
        ncp.configuration[ids.TRANSIENT_KEY_TIMEOUT_S] = int.from_bytes(value, "little")
    elif number == ids.VALUE_CLEAR_COUNTERS:
        ncp.clear_counters()
    elif number == ids.VALUE_ENDPOINT_FLAGS:
        if len(value) != 3 or value[0] not in ncp.endpoints:
            return Status.INVALID_PARAMETER
        ncp.endpoint_flags[value[0]] = int.from_bytes(value[1:], "little")
    elif number in VALUE_CELLS:
        ncp.values[number] = value
    else:
        return Status.NOT_FOUND
    return Status.OK


def get_extended_value(ncp: NcpState, args: Arguments) -> Answer:
    number, about = int(args["valueId"]), int(args["characteristics"])
    if number == _ENDPOINT_FLAGS:
        # zigbee-herdsman reads the two octets whatever the status says.
        known = about in ncp.endpoints
        flags = ncp.endpoint_flags.get(about, int(known))
        return {
            "status": Status.OK if known else Status.INVALID_PARAMETER,
            "value": flags.to_bytes(2, "little"),
        }
    if number == _LAST_LEAVE_REASON:
        return {
            "status": Status.OK,
            "value": bytes(1) + _UNKNOWN_NODE.to_bytes(2, "little"),
        }
    if number == _SOURCE_ROUTE_OVERHEAD:
        relays = ncp.relays_to(about & 0xFFFF)
        # Zigbee PRO (05-3474-21) 3.3.1.9: the sub-frame is a relay count, an index and two octets a relay.
        overhead = 2 + 2 * len(relays) if relays else 0
        return {"status": Status.OK, "value": bytes([overhead])}
    return {"status": Status.NOT_FOUND, "value": b""}


def set_policy(ncp: NcpState, args: Arguments) -> Answer:
    policy = int(args["policyId"])
    if policy not in POLICIES:
        return Status.NOT_FOUND
    ncp.policies[policy] = int(args["decisionId"])
    ncp.apply_policies()
    return Status.OK


def get_policy(ncp: NcpState, args: Arguments) -> Answer:
    decision = ncp.policies.get(args["policyId"])
    if decision is None:
        return {"status": Status.NOT_FOUND, "decisionId": 0}
    return {"status": Status.OK, "decisionId": decision}


# --- counters -----------------------------------------------------------------------------------------------


def read_counters(ncp: NcpState, args: Arguments) -> Answer:
    return {"values": ncp.read_counters()}


def read_and_clear_counters(ncp: NcpState, args: Arguments) -> Answer:
    values = ncp.read_counters()
    ncp.clear_counters()
    return {"values": values}


# --- manufacturing tokens, bootloader, restart --------------------------------------------------------------


def get_mfg_token(ncp: NcpState, args: Arguments) -> Answer:
    token = int(args["tokenId"])
    return {"tokenData": ncp.manufacturing_token(token) if token in MFG_TOKENS else b""}


def set_mfg_token(ncp: NcpState, args: Arguments) -> Answer:
    token, data = int(args["tokenId"]), bytes(args["tokenData"])
    size = MFG_TOKENS.get(token)
    if size is None or len(data) > size:
        return Status.INVALID_PARAMETER
    # UG100, setMfgToken: manufacturing tokens can be written once, while they are still erased.
    if ncp.manufacturing_token(token).strip(b"\xff"):
        return Status.FLASH_VERIFY_FAILED
    ncp.tokens.manufacturing[token] = data.ljust(size, b"\xff")
    ncp.save_tokens()
    return Status.OK


def bootloader_version(ncp: NcpState, args: Arguments) -> Answer:
    """There is no standalone bootloader: 0xFFFF."""
    return {"bootloader_version": 0xFFFF, "nodePlat": 4, "nodeMicro": 24, "nodePhy": 0}


def reset_node(ncp: NcpState, args: Arguments) -> Answer:
    """Restart, once the answer has left."""
    ncp.air.call_in(1000, ncp.restart)
    return None


def get_xncp_info(ncp: NcpState, args: Arguments) -> Answer:
    """No vendor extension: status and zeros."""
    return {"status": Status.NOT_SUPPORTED, "manufacturerId": 0, "versionNumber": 0}


COMMANDS: dict[str, Handler] = {
    "version": version,
    "nop": nothing,
    "callback": nothing,
    "noCallbacks": nothing,
    "debugWrite": ok,
    "echo": echo,
    "getLibraryStatus": get_library_status,
    "getRandomNumber": get_random_number,
    "aesMmoHash": aes_mmo_hash,
    "getConfigurationValue": get_configuration_value,
    "setConfigurationValue": set_configuration_value,
    "getValue": get_value,
    "setValue": set_value,
    "getExtendedValue": get_extended_value,
    "setPolicy": set_policy,
    "getPolicy": get_policy,
    "readCounters": read_counters,
    "readAndClearCounters": read_and_clear_counters,
    "getMfgToken": get_mfg_token,
    "setMfgToken": set_mfg_token,
    "getStandaloneBootloaderVersionPlatMicroPhy": bootloader_version,
    "launchStandaloneBootloader": library_missing,
    "resetNode": reset_node,
    "getXncpInfo": get_xncp_info,
    "setPassiveAckConfig": ok,
    "setBrokenRouteErrorCode": ok,
    "setRoutingShortcutThreshold": ok,
    "setRadioIeee802154CcaMode": ok,
    "setMacPollFailureWaitTime": nothing,
    "radioSetSchedulerPriorities": nothing,
    "gpSinkTableClearAll": nothing,
    "gpSinkTableInit": nothing,
    "gpClearProxyTable": nothing,
    "gpProxyTableRemoveEntry": nothing,
    "gpSinkTableRemoveEntry": nothing,
    "generateCbkeKeys": library_missing,
    "generateCbkeKeys283k1": library_missing,
    "calculateSmacs": library_missing,
    "calculateSmacs283k1": library_missing,
    "clearTemporaryDataMaybeStoreLinkKey": library_missing,
    "clearTemporaryDataMaybeStoreLinkKey283k1": library_missing,
    "getCertificate": library_missing,
    "getCertificate283k1": library_missing,
    "setPreinstalledCbkeData": library_missing,
    "savePreinstalledCbkeData283k1": library_missing,
    "dsaSign": library_missing,
    "dsaVerify": library_missing,
    "dsaVerify283k1": library_missing,
}
