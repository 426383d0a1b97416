"""Carries a hub's behaviour over an NCP: bellows and zigpy form the HAN, the behaviour speaks on it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from typing import Any

import zigpy.config
import zigpy.exceptions
from bellows.types import EzspDecisionBitmask, EzspPolicyId

from harness.emulation.node import Network
from harness.errors import LocalProtocolError, RigError
from harness.radio.application import NOT_SENT, Application
from harness.radio.link_keys import LinkKeys
from harness.radio.values import (
    from_eui64,
    identity,
    to_coordinator_info,
    to_network_info,
    to_packet,
)
from harness.wire.application import (
    BROADCAST_ROUTERS,
    FIRST_BROADCAST,
    ZDO_PROFILE,
    ApsMessage,
    LinkKeyEstablished,
    LinkKeyRestored,
    SimpleDescriptor,
    TrustCenterBehaviour,
)
from harness.wire.mac import format_eui64

# How long one attempt to open a port and start its NCP may take, in seconds: bellows alone spends 3 resets of 2.5 s
# on a port where nothing answers.
START_TIMEOUT = 30.0
RESTART_ATTEMPTS = 5

# Zigbee PRO (05-3474-21) 2.4.3.1.11: a joiner tells of itself, behind the sequence number.
DEVICE_ANNCE = 0x0013
MGMT_PERMIT_JOINING_REQ = 0x0036  # 2.4.3.3.7
_ANNOUNCED = struct.Struct("<xHQ")


@dataclass(frozen=True, slots=True)
class DeliveryFailed:
    """A message of the behaviour did not reach its destination, for `reason`."""

    message: ApsMessage
    reason: str


@dataclass(frozen=True, slots=True)
class LinkKeyNotStored:
    """The NCP does not have the link key that it should have with `partner`, for `reason`: it uses the one before."""

    partner: int
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
    reports or that happens to the carrier; seconds count from `start`. `on_key` gets each link key that the NCP is
    given, and a label: what a capture's reader needs.

    Link keys: one given to `permit` is kept in the NCP's key table once its device has announced itself, so that it
    serves after an NCP reset and the 300 s of a transient key; a `LinkKeyEstablished` of the behaviour takes its place
    there. What an NCP drops because it is under another key, EZSP does not tell: there is no event of it.
    """

    def __init__(
        self,
        url: str,
        behaviour: TrustCenterBehaviour,
        network: Network,
        *,
        baudrate: int = 115200,
        on_event: Callable[[float, object], None],
        on_key: Callable[[bytes, str], None] | None = None,
    ) -> None:
        self._url = url
        self._baudrate = baudrate
        self._behaviour = behaviour
        self._network = network
        self._on_event = on_event
        self._application: Application | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._origin = 0.0
        self._restarting = False
        self._keys = LinkKeys(lambda: self.ezsp, on_key)
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
        application = Application(self, self._config())
        self._application = application
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await application.connect()
                await self._start_network(application)
        except (OSError, *NOT_SENT) as error:
            self._application = None
            await application.shutdown()
            raise RigError(f"{self._url}: no EmberZNet NCP answers there ({_reason(error)})") from error

    async def _start_network(self, application: Application) -> None:
        try:
            await application.load_network_info()
            held = application.state.network_info
        except zigpy.exceptions.NetworkNotFormed:
            held = None
        wanted = to_network_info(self._network)
        if held is None or identity(held) != identity(wanted):
            await application.write_network_info(network_info=wanted, node_info=to_coordinator_info())
        await application.start_network()
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

        A key that was agreed with the device before is forgotten. Devices without a link key of their own are refused.
        LocalProtocolError when the NCP does not take the key.
        """
        refusal = await self._keys.give(eui64, link_key)
        if refusal is not None:
            raise LocalProtocolError(
                f"the NCP does not take the link key of {format_eui64(eui64)}: {refusal}"
            )
        decision = EzspDecisionBitmask.ALLOW_JOINS | EzspDecisionBitmask.JOINS_USE_INSTALL_CODE_KEY
        await self.ezsp.setPolicy(policyId=EzspPolicyId.TRUST_CENTER_POLICY, decisionId=decision)
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
        if (
            message.profile == ZDO_PROFILE
            and message.cluster == DEVICE_ANNCE
            and len(message.payload) >= _ANNOUNCED.size
        ):
            # Only now has it proved to know its link key: what the NCP reports of a joiner comes before that.
            _, eui64 = _ANNOUNCED.unpack_from(message.payload)
            if self._keys.awaits(eui64):
                self._store(eui64, partial(self._keys.keep, eui64))
        self._events(self._behaviour.receive(message, self.now()))

    def left(self, eui64: int) -> None:
        """A device left."""
        self._events(self._behaviour.device_left(eui64, self.now()))

    def _store(self, partner: int, work: Callable[[], Coroutine[Any, Any, str | None]]) -> None:
        """Change a link key in the NCP; what is secured and sent after this call waits for it."""
        self.task(self._stored(partner, work))

    async def _stored(self, partner: int, work: Callable[[], Coroutine[Any, Any, str | None]]) -> None:
        try:
            refusal = await work()
        except NOT_SENT as error:
            refusal = _reason(error)
        if refusal is not None:
            self._on_event(self.now(), LinkKeyNotStored(partner, refusal))

    def lost(self, reason: str) -> None:
        """The NCP is gone: start it again, with the behaviour as it is."""
        if self._application is None or self._restarting:
            return
        self._restarting = True
        self._on_event(self.now(), RadioLost(reason))
        self.task(self._restart())

    async def _restart(self) -> None:
        try:
            for attempt in range(1, RESTART_ATTEMPTS + 1):
                if self._application is not None:
                    await self._application.shutdown()
                try:
                    await self._open()
                    refused = await self._keys.renew()
                    break
                except (RigError, *NOT_SENT):
                    if attempt == RESTART_ATTEMPTS:
                        raise
        finally:
            self._restarting = False
        self._events([LinkKeyNotStored(partner, reason) for partner, reason in refused] + [RadioRestarted()])

    def _events(self, events: list[object]) -> None:
        self._report(events)
        for message in self._behaviour.messages_to_send():
            self.task(self._send(message))
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
            if isinstance(event, LinkKeyEstablished):
                self._store(event.partner, partial(self._keys.establish, event.partner, event.key))
            elif isinstance(event, LinkKeyRestored):
                self._store(event.partner, partial(self._keys.restore, event.partner))

    def _due(self) -> None:
        self._timer = None
        self._events(self._behaviour.on_deadline(self.now()))

    async def _send(self, message: ApsMessage) -> None:
        application = self._application
        if application is None:
            return
        try:
            if message.secured and not self._keys.settled:
                await self._keys.settle()
            if message.peer >= FIRST_BROADCAST:
                await application.send_packet(to_packet(message, application.get_sequence()))
            else:
                await application.send_unicast(message)
        except NOT_SENT as error:
            self._on_event(self.now(), DeliveryFailed(message, _reason(error)))

    def task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; what it raises is reported as an event."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_event(self.now(), error)

    def _running(self) -> Application:
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
