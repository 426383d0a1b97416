"""EZSP commands about the radio: scans, power, channel, and the manufacturing library that captures packets."""

from __future__ import annotations

from harness.emulation.mac_layer import FoundBeacon
from harness.emulation.ncp_network import ALL_CHANNELS, CHANNELS, channels_of
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_system import Answer, Arguments, Handler

_ENERGY_SCAN = 0
_ACTIVE_SCAN = 1
_LONGEST_DURATION = 14
_STACK_PROFILE_PRO = 2


def start_scan(ncp: NcpState, args: Arguments) -> Answer:
    """Results come as energyScanResultHandler or networkFoundHandler, then scanCompleteHandler."""
    kind, mask, duration = int(args["scanType"]), int(args["channelMask"]), int(args["duration"])
    if ncp.scanning:
        return Status.MAC_SCANNING
    if kind not in (_ENERGY_SCAN, _ACTIVE_SCAN):
        return Status.MAC_INCORRECT_SCAN_TYPE
    if duration > _LONGEST_DURATION:
        return Status.BAD_SCAN_DURATION
    channels = channels_of(mask)
    if not channels or mask & ~ALL_CHANNELS:
        return Status.INVALID_CHANNEL_MASK
    node = ncp.node
    ncp.last_scan += 1
    ncp.scanning = number = ncp.last_scan

    def energy_found(results: list[tuple[int, int]]) -> None:
        if ncp.scanning != number:
            return  # a scan that was stopped reports nothing more
        for channel, rssi in results:
            ncp.callback("energyScanResultHandler", {"channel": channel, "maxRssiValue": rssi})
        ncp.end_scan()

    def networks_found(beacons: list[FoundBeacon]) -> None:
        if ncp.scanning != number:
            return  # a scan that was stopped reports nothing more
        for found in _one_a_network(beacons):
            ncp.callback("networkFoundHandler", _network_found(found))
        ncp.end_scan()

    if kind == _ENERGY_SCAN:
        node.energy_scan(channels, duration, energy_found)
    else:
        node.scan(channels, duration, networks_found)
    return Status.OK


def _one_a_network(beacons: list[FoundBeacon]) -> list[FoundBeacon]:
    """The best beacon of each network, in the order in which the networks were first heard; an open one before others.

    Assumed: EmberZNet tells of a network once, and its documents do not say of which of its beacons.
    """
    best: dict[tuple[int, int], FoundBeacon] = {}
    for found in beacons:
        key = (found.channel, found.pan_id)
        if key not in best or _rank(found) > _rank(best[key]):
            best[key] = found
    return list(best.values())


def _rank(found: FoundBeacon) -> tuple[bool, int]:
    return found.beacon.permit_association, found.lqi


def _network_found(found: FoundBeacon) -> dict[str, object]:
    beacon = found.beacon
    return {
        "networkFound": {
            "channel": found.channel,
            "panId": found.pan_id,
            "extendedPanId": beacon.extended_pan_id,
            "allowingJoin": int(beacon.permit_association),
            "stackProfile": beacon.stack_profile,
            "nwkUpdateId": beacon.update_id,
        },
        "lqi": found.lqi,
        "rssi": dbm(found.rssi),
    }


def dbm(rssi: float) -> int:
    """A signal strength as EZSP carries it: whole dBm in a signed octet."""
    return max(-128, min(127, round(rssi)))


def stop_scan(ncp: NcpState, args: Arguments) -> Answer:
    ncp.end_scan()
    return Status.OK


# --- power and channel --------------------------------------------------------------------------------------


def set_radio_power(ncp: NcpState, args: Arguments) -> Answer:
    """Until the next reset: it is for the host to write the token (bellows does)."""
    if int(args["power"]) > ncp.config.max_tx_power:
        return Status.TRANSMIT_INVALID_POWER
    ncp.tokens.tx_power = int(args["power"])
    return Status.OK


def set_radio_channel(ncp: NcpState, args: Arguments) -> Answer:
    (channel,) = args.values()
    if channel not in CHANNELS:
        return Status.TRANSMIT_INVALID_CHANNEL
    if ncp.up:
        ncp.node.update_network(channel=int(channel))
        ncp.save_tokens()
    return Status.OK


def get_logical_channel(ncp: NcpState, args: Arguments) -> Answer:
    network = ncp.node.network
    return {"radioChannel": 0 if network is None or not ncp.up else network.channel}


# --- manufacturing library ----------------------------------------------------------------------------------


def mfglib_start(ncp: NcpState, args: Arguments) -> Answer:
    """Hear everything on one channel; each frame is a mfglibRxHandler if the host wants them."""
    if ncp.mfglib is not None:
        return Status.FAIL
    ncp.mfglib = CHANNELS[0]
    ncp.mfglib_listens = bool(args["rxCallback"])
    ncp.tap()
    return Status.OK


def mfglib_end(ncp: NcpState, args: Arguments) -> Answer:
    if ncp.mfglib is None:
        return Status.FAIL
    ncp.mfglib = None
    return Status.OK


def mfglib_set_channel(ncp: NcpState, args: Arguments) -> Answer:
    if ncp.mfglib is None:
        return Status.FAIL
    if args["channel"] not in CHANNELS:
        return Status.TRANSMIT_INVALID_CHANNEL
    ncp.mfglib = int(args["channel"])
    return Status.OK


def mfglib_get_channel(ncp: NcpState, args: Arguments) -> Answer:
    return {"channel": CHANNELS[0] if ncp.mfglib is None else ncp.mfglib}


def mfglib_get_power(ncp: NcpState, args: Arguments) -> Answer:
    return {"power": ncp.tokens.tx_power}


COMMANDS: dict[str, Handler] = {
    "startScan": start_scan,
    "stopScan": stop_scan,
    "setRadioPower": set_radio_power,
    "setRadioChannel": set_radio_channel,
    "setLogicalAndRadioChannel": set_radio_channel,
    "getLogicalChannel": get_logical_channel,
    "mfglibStart": mfglib_start,
    "mfglibEnd": mfglib_end,
    "mfglibSetChannel": mfglib_set_channel,
    "mfglibGetChannel": mfglib_get_channel,
    "mfglibSetPower": lambda ncp, args: Status.OK,
    "mfglibGetPower": mfglib_get_power,
}
