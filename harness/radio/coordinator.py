"""Carries a hub's behaviour over an NCP: bellows and zigpy form the HAN, the behaviour speaks on it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import zigpy.config
import zigpy.exceptions
import zigpy.types
from bellows.ash import AshException
from bellows.exception import EzspError
from bellows.types import (
    EmberApsFrame,
    EmberApsOption,
    EmberIncomingMessageType,
    EzspDecisionBitmask,
    EzspPolicyId,
    sl_Status,
)
from bellows.zigbee.application import ControllerApplication

from harness.emulation.node import Network
from harness.errors import LocalProtocolError, RigError
from harness.radio.values import (
    LOWEST_BROADCAST,
    from_eui64,
    identity,
    to_coordinator_info,
    to_descriptor,
    to_eui64,
    to_network_info,
    to_packet,
)
from harness.wire.application import BROADCAST_ROUTERS, ZDO_PROFILE, ApsMessage, Behaviour, SimpleDescriptor
from harness.wire.mac import format_eui64

# How long one attempt to open a port and start its NCP may take, in seconds: bellows alone spends 3 resets of 2.5 s
# on a port where nothing answers.
START_TIMEOUT = 30.0
RESTART_ATTEMPTS = 5

MOST_UNICASTS = 8  # on their way at a time, as zigpy has it for a coordinator with room for few
# Seconds until a message without a word from the NCP has failed. The NCP speaks first: even for a sleepy device that is
# 4 attempts of 7.68 s.
DELIVERY_TIMEOUT = 40.0

# How bellows says that a command did not come through; RuntimeError is what it raises on a port that closed meanwhile.
_NOT_SENT = (zigpy.exceptions.ZigbeeException, EzspError, AshException, TimeoutError, RuntimeError)

# Zigbee PRO (05-3474-21) 2.4.3.1.11 and 2.4.4.1.2: where the ZDO tells of addresses, behind the sequence number.
DEVICE_ANNCE = 0x0013
IEEE_ADDR_REQ = 0x0001
MGMT_PERMIT_JOINING_REQ = 0x0036  # 2.4.3.3.7
IEEE_ADDR_RSP = 0x8001
_ANNOUNCED = struct.Struct("<xHQ")
_ANSWERED = struct.Struct("<xBQH")
_IEEE_ADDRESS_REQUEST = struct.Struct("<BHBB")


@dataclass(frozen=True, slots=True)
class DeviceJoined:
    """A device is on the HAN: joined, rejoined or seen anew, as NWK address `short`."""

    eui64: int
    short: int


@dataclass(frozen=True, slots=True)
class DeviceLeft:
    """A device left the HAN."""

    eui64: int
    short: int


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """A message of the behaviour did not reach its destination, for `reason`."""

    message: ApsMessage
    reason: str


@dataclass(frozen=True, slots=True)
class RadioLost:
    """The NCP stopped answering or reset by itself, for `reason`; the carrier starts it again."""

    reason: str


@dataclass(frozen=True, slots=True)
class RadioRestarted:
    """The NCP runs the HAN again."""


class Coordinator:
    """The trust centre and OTA server of a HAN, played through an NCP.

    `url` is a serial port, a `tcp://` address or an `emulated://` one. `network` is the HAN to run: an NCP that holds
    another one, or none, is made to form it. `on_event` gets `(seconds, event)` for everything that the behaviour
    reports or that happens to the carrier; seconds count from `start`.
    """

    def __init__(
        self,
        url: str,
        behaviour: Behaviour,
        network: Network,
        *,
        baudrate: int = 115200,
        on_event: Callable[[float, object], None],
    ) -> None:
        self._url = url
        self._baudrate = baudrate
        self._behaviour = behaviour
        self._network = network
        self._on_event = on_event
        self._application: _Application | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._origin = 0.0
        self._restarting = False
        self._devices: dict[int, int | None] = {}  # by NWK address; None: asked for its EUI-64
        self.eui64 = 0

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the radio, form the HAN or resume it, and put the behaviour on it.

        Raises RigError where the port cannot be opened, or nothing on it answers as an NCP.
        """
        self._origin = asyncio.get_running_loop().time()
        await self._open()
        self._events(self._behaviour.network_up(0, self.now()))

    async def stop(self) -> None:
        """Close the radio. The NCP keeps its network."""
        if self._timer is not None:
            self._timer.cancel()
        for task in list(self._tasks):
            task.cancel()
        if self._application is not None:
            application, self._application = self._application, None
            await application.shutdown()

    def now(self) -> float:
        """Seconds since `start`: the behaviour's clock."""
        return asyncio.get_running_loop().time() - self._origin

    async def _open(self) -> None:
        application = _Application(self, self._config())
        self._application = application
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await application.connect()
                await self._start_network(application)
        except (OSError, *_NOT_SENT) as error:
            self._application = None
            await application.shutdown()
            raise RigError(f"{self._url}: no EmberZNet NCP answers there ({_reason(error)})") from error

    async def _start_network(self, application: _Application) -> None:
        try:
            await application.load_network_info()
            held = application.state.network_info
        except zigpy.exceptions.NetworkNotFormed:
            held = None
        wanted = to_network_info(self._network)
        if held is None or identity(held) != identity(wanted):
            await application.write_network_info(network_info=wanted, node_info=to_coordinator_info())
        await application.start_network()  # type: ignore[no-untyped-call]
        self.eui64 = from_eui64(application.state.node_info.ieee)
        await application.permit_ncp(0)  # type: ignore[no-untyped-call]

    def _config(self) -> dict[str, Any]:
        return {
            zigpy.config.CONF_DEVICE: {
                zigpy.config.CONF_DEVICE_PATH: self._url,
                zigpy.config.CONF_DEVICE_BAUDRATE: self._baudrate,
            },
            # zigpy's own housekeeping would put traffic on the HAN that no hub sends, or commands on the line that no
            # test asked for; a second thread would not live on virtual time.
            "use_thread": False,
            zigpy.config.CONF_WATCHDOG_ENABLED: False,
            zigpy.config.CONF_NWK_BACKUP_ENABLED: False,
            zigpy.config.CONF_TOPO_SCAN_ENABLED: False,
            zigpy.config.CONF_OTA: {zigpy.config.CONF_OTA_ENABLED: False},
        }

    # --- joining ------------------------------------------------------------------------------------------------

    async def permit(self, eui64: int, link_key: bytes, seconds: int) -> None:
        """Let the device `eui64` join within `seconds` (1 to 254), under its pre-configured `link_key`.

        Devices without a link key of their own are refused. LocalProtocolError when the NCP does not take the key.
        """
        ezsp = self.ezsp
        status = await ezsp.add_transient_link_key(to_eui64(eui64), zigpy.types.KeyData(link_key))
        if sl_Status.from_ember_status(status) != sl_Status.OK:
            raise LocalProtocolError(
                f"the NCP does not take the link key of {format_eui64(eui64)}: {status!r}"
            )
        decision = EzspDecisionBitmask.ALLOW_JOINS | EzspDecisionBitmask.JOINS_USE_INSTALL_CODE_KEY
        await ezsp.setPolicy(policyId=EzspPolicyId.TRUST_CENTER_POLICY, decisionId=decision)
        await self._open_for(seconds)

    async def close(self) -> None:
        """End the join period."""
        await self._open_for(0)

    async def _open_for(self, seconds: int) -> None:
        await self._running().permit_ncp(seconds)  # type: ignore[no-untyped-call]
        # The routers, too; zigpy's own `permit` would open the HAN for Green Power devices as well.
        request = bytes((0, seconds, 0))
        await self._send(
            ApsMessage(
                BROADCAST_ROUTERS, ZDO_PROFILE, MGMT_PERMIT_JOINING_REQ, 0, 0, request, acknowledged=False
            )
        )

    @property
    def ezsp(self) -> Any:
        """bellows' EZSP object, for commands that have no method here. RigError while the radio is not running."""
        return self._running().ezsp

    async def counters(self) -> dict[str, int]:
        """The NCP's own counters by name."""
        read = await self.ezsp.read_counters()
        return {counter.name: value for counter, value in read.items()}

    # --- the behaviour ------------------------------------------------------------------------------------------

    def run(self, events: list[object]) -> None:
        """Carry on after the behaviour was called from outside: report `events`, send what it has to send."""
        self._events(events)

    def message(self, message: ApsMessage) -> None:
        """Hand one message off the HAN to the behaviour."""
        events: list[object] = []
        if message.profile == ZDO_PROFILE and message.cluster in (DEVICE_ANNCE, IEEE_ADDR_RSP):
            events += self._addresses(message)
        elif message.peer not in self._devices:
            # A member from before this start, which announced itself to somebody else: who is it?
            self._ask(message.peer)
        self._report(events)
        self._events(self._behaviour.receive(message, self.now()))

    def left(self, short: int, eui64: int) -> None:
        """A device left."""
        self._devices.pop(short, None)
        self._events([DeviceLeft(eui64, short)])

    def _addresses(self, message: ApsMessage) -> list[object]:
        """Learn who has which address from a Device_annce or an IEEE_addr_rsp.

        Only these count as joined: what the NCP reports of a joiner comes before that has proved to know its link key.
        """
        if message.cluster == DEVICE_ANNCE and len(message.payload) >= _ANNOUNCED.size:
            short, eui64 = _ANNOUNCED.unpack_from(message.payload)
        elif message.cluster == IEEE_ADDR_RSP and len(message.payload) >= _ANSWERED.size:
            status, eui64, short = _ANSWERED.unpack_from(message.payload)
            if status != 0:
                return []
        else:
            return []
        self._devices[short] = eui64
        return [DeviceJoined(eui64, short)]

    def _ask(self, short: int) -> None:
        self._devices[short] = None  # asked once; the answer fills it in
        request = _IEEE_ADDRESS_REQUEST.pack(0, short, 0, 0)
        self._task(self._send(ApsMessage(short, ZDO_PROFILE, IEEE_ADDR_REQ, 0, 0, request)))

    def lost(self, reason: str) -> None:
        """The NCP is gone: start it again, with the behaviour as it is."""
        if self._application is None or self._restarting:
            return
        self._restarting = True
        self._on_event(self.now(), RadioLost(reason))
        self._task(self._restart())

    async def _restart(self) -> None:
        try:
            if self._application is not None:
                await self._application.shutdown()
            for attempt in range(1, RESTART_ATTEMPTS + 1):
                try:
                    await self._open()
                    break
                except RigError:
                    if attempt == RESTART_ATTEMPTS:
                        raise
        finally:
            self._restarting = False
        self._events([RadioRestarted()])

    def _events(self, events: list[object]) -> None:
        self._report(events)
        for message in self._behaviour.messages_to_send():
            self._task(self._send(message))
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        deadline = self._behaviour.next_deadline()
        if deadline is not None:
            self._timer = asyncio.get_running_loop().call_at(self._origin + deadline, self._due)

    def _report(self, events: list[object]) -> None:
        now = self.now()
        for event in events:
            self._on_event(now, event)

    def _due(self) -> None:
        self._timer = None
        self._events(self._behaviour.on_deadline(self.now()))

    async def _send(self, message: ApsMessage) -> None:
        application = self._application
        if application is None:
            return
        try:
            if message.peer >= LOWEST_BROADCAST:
                await application.send_packet(to_packet(message, application.get_sequence()))
            else:
                await application.send_unicast(message)
        except _NOT_SENT as error:
            self._on_event(self.now(), DeliveryFailed(message, _reason(error)))

    def _task(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_event(self.now(), error)

    def _running(self) -> _Application:
        if self._application is None:
            raise RigError(f"{self._url}: the radio is not running")
        return self._application

    @property
    def descriptors(self) -> tuple[SimpleDescriptor, ...]:
        """The endpoints of the behaviour."""
        return tuple(self._behaviour.descriptors)


def _reason(error: Exception) -> str:
    """Say why, for a reader: a time-out has no words of its own."""
    return str(error) or ("no answer in time" if isinstance(error, TimeoutError) else type(error).__name__)


_MESSAGES = (
    EmberIncomingMessageType.INCOMING_UNICAST,
    EmberIncomingMessageType.INCOMING_MULTICAST,
    EmberIncomingMessageType.INCOMING_BROADCAST,
)


def _to_message(kind: int, aps: EmberApsFrame, peer: int, payload: bytes) -> ApsMessage:
    """Return what an incomingMessageHandler callback brought as a message."""
    return ApsMessage(
        peer=int(peer),
        profile=int(aps.profileId),
        cluster=int(aps.clusterId),
        source_endpoint=int(aps.sourceEndpoint),
        destination_endpoint=int(aps.destinationEndpoint),
        payload=bytes(payload),
        secured=bool(aps.options & EmberApsOption.APS_OPTION_ENCRYPTION),
        broadcast=kind == EmberIncomingMessageType.INCOMING_BROADCAST,
        group=int(aps.groupId) if kind == EmberIncomingMessageType.INCOMING_MULTICAST else None,
    )


def _expire(delivered: asyncio.Future[sl_Status]) -> None:
    if not delivered.done():
        delivered.set_exception(TimeoutError())


class _Application(ControllerApplication):
    """zigpy's application with its own ideas about devices taken out: the behaviour is the only one who speaks."""

    def __init__(self, carrier: Coordinator, config: dict[str, Any]) -> None:
        super().__init__(config)
        self._carrier = carrier
        self._room = asyncio.Semaphore(MOST_UNICASTS)
        self._on_their_way: dict[tuple[int, int], asyncio.Future[sl_Status]] = {}
        self._headers: dict[tuple[int, ...], EmberApsFrame] = {}

    @property
    def ezsp(self) -> Any:
        """bellows' EZSP object."""
        return self._ezsp

    async def register_endpoints(self) -> None:
        """Register the behaviour's endpoints; zigpy's own only where it cannot do without (it needs endpoint 1)."""
        descriptors = self._carrier.descriptors
        if all(descriptor.endpoint != 1 for descriptor in descriptors):
            await super().register_endpoints()
        for descriptor in descriptors:
            await self.add_endpoint(to_descriptor(descriptor))

    def ezsp_callback_handler(self, frame_name: str, args: list[Any]) -> None:
        """Take each message before zigpy's devices do: they drop identical ones within 10 s, and answer OTA.

        Here and in `send_unicast` zigpy's packets are left out as well: they are a sixth of the cost of a block.
        """
        newest = self.ezsp.ezsp_version >= 14  # which orders the fields anew
        if frame_name == "incomingMessageHandler":
            kind, aps, peer, payload = args[0], args[1], args[2 if newest else 4], args[9 if newest else 7]
            if peer != self.state.node_info.nwk and kind in _MESSAGES:
                self._carrier.message(_to_message(kind, aps, peer, payload))
                return
        elif frame_name == "messageSentHandler":
            status, peer, tag = (args[0], args[2], args[4]) if newest else (args[4], args[1], args[3])
            waiting = self._on_their_way.pop((peer, tag), None)
            if waiting is not None:
                if not waiting.done():
                    waiting.set_result(sl_Status.from_ember_status(status))
                return
        super().ezsp_callback_handler(frame_name, args)  # type: ignore[no-untyped-call]

    async def send_unicast(self, message: ApsMessage) -> None:
        """Send a message to one device; return when the NCP says that it is there, DeliveryError when it is not."""
        async with self._room:
            if not self.is_controller_running:
                raise zigpy.exceptions.ControllerException("the NCP is not running")
            tag = self.get_sequence()
            key = (message.peer, tag)
            delivered: asyncio.Future[sl_Status] = asyncio.get_running_loop().create_future()
            self._on_their_way[key] = delivered
            try:
                status, _ = await self.ezsp.send_unicast(
                    nwk=message.peer, aps_frame=self._header(message), message_tag=tag, data=message.payload
                )
                if status == sl_Status.OK:
                    overdue = asyncio.get_running_loop().call_later(DELIVERY_TIMEOUT, _expire, delivered)
                    try:
                        status = await delivered
                    finally:
                        overdue.cancel()
            finally:
                self._on_their_way.pop(key, None)
        if status != sl_Status.OK:
            raise zigpy.exceptions.DeliveryError(f"{status!r}", status)

    def _header(self, message: ApsMessage) -> EmberApsFrame:
        """Return the EZSP header of a message. bellows only reads it, so one serves all messages of a kind."""
        kind = (
            message.profile, message.cluster, message.source_endpoint, message.destination_endpoint, message.secured,
            message.acknowledged,
        )  # fmt: skip
        header = self._headers.get(kind)
        if header is None:
            options = EmberApsOption.APS_OPTION_ENABLE_ROUTE_DISCOVERY
            if message.secured:
                options |= EmberApsOption.APS_OPTION_ENCRYPTION
            if message.acknowledged:
                options |= EmberApsOption.APS_OPTION_RETRY  # what asks for an APS acknowledgement
            header = self._headers[kind] = EmberApsFrame(
                profileId=message.profile,
                clusterId=message.cluster,
                sourceEndpoint=message.source_endpoint,
                destinationEndpoint=message.destination_endpoint,
                options=options,
                groupId=0,
                sequence=0,  # the NCP gives each message its own
            )
        return header

    def handle_join(
        self, nwk: int, ieee: zigpy.types.EUI64, parent_nwk: int, *, handle_rejoin: bool = True
    ) -> None:
        """Leave it: the device has joined when it announces itself, and zigpy is not to interview it."""

    def handle_leave(self, nwk: int, ieee: zigpy.types.EUI64) -> None:
        """Tell the carrier."""
        self._carrier.left(int(nwk), from_eui64(ieee))

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the carrier."""
        self._carrier.lost(repr(exc))
