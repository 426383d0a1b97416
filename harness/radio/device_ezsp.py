"""bellows' EZSP with what the host of a device asks of its NCP: scans, joining, resuming, rejoining, polling."""

# bellows' integer types take any int and check its range when they are made; its annotations ask for the types.
# mypy: disable-error-code="arg-type, no-untyped-call"

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import zigpy.config
import zigpy.types
from bellows.ezsp.xncp import FirmwareFeatures
from bellows.types import (
    Channels,
    EmberEventUnits,
    EmberInitialSecurityBitmask,
    EmberInitialSecurityState,
    EmberJoinMethod,
    EmberNetworkInitBitmask,
    EmberNetworkParameters,
    EmberNetworkStatus,
    EmberNodeType,
    EmberZigbeeNetwork,
    EzspConfigId,
    EzspNetworkScanType,
    sl_Status,
)

from harness.emulation.node import NodeKind
from harness.radio.fragments import ORDER_CHANGED, ReassemblingEzsp
from harness.radio.values import to_eui64
from harness.wire.application import ApsMessage, SimpleDescriptor
from harness.wire.mac import format_eui64

# Seconds until the NCP has said how a join, a resumption or a rejoin ended: after association it waits 10 s for the
# network key, and a scan of all channels comes before that.
MEMBERSHIP_TIMEOUT = 60.0
SCAN_DURATION = 3  # 2**3 + 1 superframes of 15.36 ms: 138 ms a channel
TX_POWER = 8  # dBm, as bellows forms networks with
POLL_FAILURES = 3  # polls in a row without an answer, after which the parent is taken for lost

# What EmberZNet starts without and a device of a Zigbee PRO network needs. The memory is given out last (UG100).
_CONFIGURATION = (
    (EzspConfigId.CONFIG_STACK_PROFILE, 2),
    (EzspConfigId.CONFIG_SECURITY_LEVEL, 5),
    (EzspConfigId.CONFIG_INDIRECT_TRANSMISSION_TIMEOUT, 7680),
    (EzspConfigId.CONFIG_KEY_TABLE_SIZE, 4),
    (EzspConfigId.CONFIG_PACKET_BUFFER_COUNT, 255),
)
_LEGACY = 4  # the EZSP version that bellows begins with after a reset
# bellows gives results of scans and polls back as lists, and raises a bare Exception where there are none.
_SCAN_SECONDS = 30.0
_LONGEST_MS = 0xFFFF
_QUARTER_SECOND = 0.256

_WHY_NOT = {
    sl_Status.ZIGBEE_NO_NETWORK_KEY_RECEIVED: "not authenticated: no network key came that the link key opens",
    sl_Status.NO_BEACONS: "its beacon was not heard again",
    sl_Status.ZIGBEE_MOVE_FAILED: "no parent answered",
    sl_Status.TIMEOUT: f"the NCP has not said how it ended within {MEMBERSHIP_TIMEOUT:g} s",
}


@dataclass(frozen=True, slots=True)
class FoundNetwork:
    """A network that an active scan found, and how well its best beacon was heard."""

    network: EmberZigbeeNetwork
    lqi: int

    @property
    def extended_pan_id(self) -> int:
        """Its extended PAN ID, as the number that it is."""
        return int.from_bytes(self.network.extendedPanId.serialize(), "little")

    @property
    def is_open(self) -> bool:
        """Whether a Zigbee PRO device may associate with it now."""
        return bool(self.network.allowingJoin) and self.network.stackProfile == 2


class DeviceEzsp(ReassemblingEzsp):
    """The NCP of one device.

    `on_status` gets each status of the stack, `on_sent` the fields of each messageSentHandler, `on_poll` the status of
    each poll that ends POLL_FAILURES or more without an answer, and `on_lost` the reason why the NCP is gone.
    """

    def __init__(
        self,
        url: str,
        baudrate: int,
        *,
        on_message: Callable[[ApsMessage], None],
        on_status: Callable[[sl_Status], None],
        on_sent: Callable[[list[Any], int], object],
        on_poll: Callable[[sl_Status], None],
        on_lost: Callable[[str], None],
        run: Callable[[Coroutine[Any, Any, None]], object],
        clock: Callable[[], float],
    ) -> None:
        settings = {
            zigpy.config.CONF_DEVICE_PATH: url,
            zigpy.config.CONF_DEVICE_BAUDRATE: baudrate,
            zigpy.config.CONF_DEVICE_FLOW_CONTROL: None,
        }
        super().__init__(settings, None, on_message, run, clock)
        self._on_status = on_status
        self._on_sent = on_sent
        self._on_poll = on_poll
        self._on_lost = on_lost
        self._found: list[FoundNetwork] = []
        self._scanned: asyncio.Future[sl_Status] | None = None
        self._configured = False
        self.add_callback(self._called)

    def connection_lost(self, exc: Exception | None) -> None:
        """bellows: the port closed, or the NCP reset by itself."""
        self._on_lost(repr(exc))

    async def get_xncp_features(self) -> FirmwareFeatures:
        """Leave it: no vendor's extension serves a device, and the question costs a command."""
        return FirmwareFeatures.NONE

    def _called(self, name: str, fields: list[Any]) -> None:
        if name == "incomingMessageHandler":
            self.whole_message(fields)
        elif name == "messageSentHandler":
            self._on_sent(fields, self.ezsp_version)
        elif name == "stackStatusHandler":
            self._on_status(sl_Status.from_ember_status(fields[0]))
        elif name == "networkFoundHandler":
            self._found.append(FoundNetwork(fields[0], int(fields[1])))
        elif name == "scanCompleteHandler":
            if self._scanned is not None and not self._scanned.done():
                self._scanned.set_result(sl_Status.from_ember_status(fields[1]))
        elif name == "pollCompleteHandler":
            self._on_poll(sl_Status.from_ember_status(fields[0]))

    # --- life -------------------------------------------------------------------------------------------------------

    async def silence(self) -> None:
        """Reset the NCP: it keeps its network, and does nothing on it."""
        self._configured = False
        await self.reset()

    async def prepare(self, descriptors: Sequence[SimpleDescriptor], manufacturer_code: int) -> None:
        """Make an NCP that was reset ready to join or resume; nothing where that is done already."""
        if self._configured:
            return
        if self.ezsp_version == _LEGACY:
            await self.version()
        for number, value in _CONFIGURATION:
            await self.setConfigurationValue(configId=number, value=value)
        for descriptor in descriptors:
            await self.addEndpoint(
                endpoint=descriptor.endpoint,
                profileId=descriptor.profile,
                deviceId=descriptor.device,
                deviceVersion=descriptor.device_version,
                inputClusterCount=len(descriptor.server_clusters),
                outputClusterCount=len(descriptor.client_clusters),
                inputClusterList=list(descriptor.server_clusters),
                outputClusterList=list(descriptor.client_clusters),
            )
        if manufacturer_code:
            await self.setManufacturerCode(code=manufacturer_code)
        self._configured = True

    # --- membership: each returns what the NCP answers; how it ends, `on_status` tells --------------------------------

    async def resume(self, kind: NodeKind) -> sl_Status:
        """Go on with the network that the NCP holds; NOT_JOINED: there is none."""
        options = EmberNetworkInitBitmask.NETWORK_INIT_NO_OPTIONS
        if kind != NodeKind.ROUTER:
            # The parent may have struck it off its table meanwhile.
            options = EmberNetworkInitBitmask.NETWORK_INIT_END_DEVICE_REJOIN_ON_REBOOT
        (status,) = await self.networkInit(networkInitBitmask=options)
        return sl_Status.from_ember_status(status)

    async def scan(self, channels: Sequence[int]) -> list[FoundNetwork]:
        """Return the networks in reach, the best heard first. TimeoutError when the NCP does not come to an end."""
        self._found = []
        self._scanned = asyncio.get_running_loop().create_future()
        (answered,) = await self._command(
            "startScan",
            scanType=EzspNetworkScanType.ACTIVE_SCAN,
            channelMask=_mask(channels),
            duration=SCAN_DURATION,
        )
        if sl_Status.from_ember_status(answered) == sl_Status.OK:
            async with asyncio.timeout(_SCAN_SECONDS):
                await self._scanned
        return sorted(self._found, key=lambda found: -found.lqi)

    async def pre_configure(self, link_key: bytes) -> sl_Status:
        """Join under `link_key` next: that of an install code, whose trust centre is whoever knows it, too."""
        # The frame counters go on: the trust centre may know those that this device has used under the same key before.
        bits = (
            EmberInitialSecurityBitmask.HAVE_PRECONFIGURED_KEY
            | EmberInitialSecurityBitmask.REQUIRE_ENCRYPTED_KEY
            | EmberInitialSecurityBitmask.NO_FRAME_COUNTER_RESET
        )
        (status,) = await self.setInitialSecurityState(
            state=EmberInitialSecurityState(
                bitmask=bits,
                preconfiguredKey=zigpy.types.KeyData(link_key),
                networkKey=zigpy.types.KeyData(bytes(16)),
                networkKeySequenceNumber=0,
                preconfiguredTrustCenterEui64=to_eui64(0),
            )
        )
        return sl_Status.from_ember_status(status)

    async def associate(self, kind: NodeKind, found: FoundNetwork) -> sl_Status:
        """Join that network as that kind of node."""
        network = found.network
        (status,) = await self.joinNetwork(
            nodeType=_node_type(kind),
            parameters=EmberNetworkParameters(
                extendedPanId=network.extendedPanId,
                panId=network.panId,
                radioTxPower=TX_POWER,
                radioChannel=network.channel,
                joinMethod=EmberJoinMethod.USE_MAC_ASSOCIATION,
                nwkManagerId=0,
                nwkUpdateId=network.nwkUpdateId,
                channels=_mask([network.channel]),
            ),
        )
        return sl_Status.from_ember_status(status)

    async def rejoin(self, kind: NodeKind, channels: Sequence[int]) -> sl_Status:
        """Look for a parent in the network that the NCP holds, on `channels` (none: on its own)."""
        more: dict[str, Any] = {}
        if self.ezsp_version >= ORDER_CHANGED:
            more = {"reason": 0, "nodeType": _node_type(kind)}
        (status,) = await self.findAndRejoinNetwork(
            haveCurrentNetworkKey=True, channelMask=_mask(channels), **more
        )
        return sl_Status.from_ember_status(status)

    async def leave(self) -> sl_Status:
        """Leave the network that the NCP is on."""
        protocol: Any = self._protocol  # bellows leaves it without a type; its own method waits for the end
        status: sl_Status = await protocol.leave_network()
        return status

    async def is_member(self) -> bool:
        """Whether the NCP still belongs to a network, with or without a parent."""
        (state,) = await self.networkState()
        return bool(state not in (EmberNetworkStatus.NO_NETWORK, EmberNetworkStatus.LEAVING_NETWORK))

    async def fits(self, kind: NodeKind, extended_pan_id: int | None) -> bool:
        """Whether the network that is up is the one wanted (None: any), and the NCP a node of that kind on it."""
        _, node_type, parameters = await self.getNetworkParameters()
        held = int.from_bytes(parameters.extendedPanId.serialize(), "little")
        return bool(node_type == _node_type(kind)) and extended_pan_id in (None, held)

    async def poll_every(self, seconds: float) -> None:
        """Ask the parent so often for what waits there; only failures are told."""
        units, interval = EmberEventUnits.EVENT_MS_TIME, round(seconds * 1000)
        if interval > _LONGEST_MS:
            units, interval = EmberEventUnits.EVENT_QS_TIME, round(seconds / _QUARTER_SECOND)
        await self._command("pollForData", interval=interval, units=units, failureLimit=POLL_FAILURES)


def _mask(channels: Sequence[int]) -> Channels:
    return Channels(sum(1 << channel for channel in channels))


def _node_type(kind: NodeKind) -> EmberNodeType:
    return EmberNodeType(kind + 1)


def why_not(status: sl_Status) -> str:
    """Say why an attempt to join or to rejoin ended in `status`."""
    return _WHY_NOT.get(status, repr(status))


def why_not_joined(found: FoundNetwork, status: sl_Status) -> str:
    """Say why an attempt to join that network ended in `status`."""
    network = format_eui64(found.extended_pan_id)
    return f"network {network} on channel {found.network.channel}: {why_not(status)}"
