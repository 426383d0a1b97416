"""Carries a hub's behaviour over an NCP: bellows and zigpy form the HAN, the behaviour speaks on it."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import Callable, Coroutine
from functools import partial
from math import ceil
from typing import Any

import zigpy.config
import zigpy.exceptions
from bellows.types import EzspDecisionBitmask, EzspPolicyId

from harness.emulation.node import Network
from harness.errors import LocalProtocolError, RigError
from harness.radio.application import Application
from harness.radio.link_keys import LinkKeys
from harness.radio.runner import RESTART_ATTEMPTS, START_TIMEOUT, RadioLost, Runner
from harness.radio.runner import DeliveryFailed as DeliveryFailed
from harness.radio.runner import LinkKeyNotStored as LinkKeyNotStored
from harness.radio.runner import RadioRestarted as RadioRestarted
from harness.radio.sending import NOT_SENT, reason_of
from harness.radio.values import (
    from_eui64,
    identity,
    to_coordinator_info,
    to_eui64,
    to_network_info,
)
from harness.wire.application import (
    BROADCAST_ROUTERS,
    FIRST_BROADCAST,
    ZDO_PROFILE,
    ApsMessage,
    JoinEnded,
    JoinPermitted,
    LinkKeyForgotten,
    SimpleDescriptor,
    TrustCenterBehaviour,
)
from harness.wire.mac import format_eui64

# Zigbee PRO (05-3474-21) 2.4.3.1.11: a joiner tells of itself, behind the sequence number.
DEVICE_ANNCE = 0x0013
MGMT_LEAVE_REQ = 0x0034  # 2.4.3.3.5
MGMT_PERMIT_JOINING_REQ = 0x0036  # 2.4.3.3.7
LONGEST_PERMIT = 254  # seconds that one such request can give (2.4.3.3.7: 255 is for ever)
_ANNOUNCED = struct.Struct("<xHQ")


class Coordinator:
    """The trust centre and OTA server of a HAN, played through an NCP.

    `url` is a serial port, a `tcp://` address or an `emulated://` one. `network` is the HAN to run: an NCP that holds
    another one, or none, is made to form it. `on_event` gets `(seconds, event)` for everything that the behaviour
    reports or that happens to the carrier; seconds count from `start`. `on_key` gets each link key that the NCP is
    given, and a label: what a capture's reader needs.

    Link keys: one of a `JoinPermitted` is kept in the NCP's key table once its device has announced itself, so that it
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
        self._application: Application | None = None
        self._restarting = False
        self._running_again = asyncio.Event()  # not set while the NCP is being started
        self._keys = LinkKeys(lambda: self.ezsp, on_key)
        self._on_event = on_event
        self._runner = Runner(behaviour, self._keys, self._send, self._take_event)
        self._joiners: dict[int, float] = {}  # who may join, and until when
        self._gate = asyncio.Lock()  # held by whoever changes who may join
        self._renewal: asyncio.TimerHandle | None = None
        self.eui64 = 0

    # --- life ---------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the radio, form the HAN or resume it, and put the behaviour on it.

        Raises RigError where the port cannot be opened, or nothing on it answers as an NCP.
        """
        self._runner.begin()
        await self._open()
        self._running_again.set()
        self._runner.wake()
        self._runner.run(self._behaviour.network_up(0, self.now()))

    async def stop(self) -> None:
        """Close the radio. The NCP keeps its network."""
        if self._renewal is not None:
            self._renewal.cancel()
        self._runner.stop()
        if self._application is not None:
            application, self._application = self._application, None
            await application.shutdown()

    def now(self) -> float:
        """Seconds since `start`: the behaviour's clock."""
        return self._runner.now()

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
            raise RigError(f"{self._url}: no EmberZNet NCP answers there ({reason_of(error)})") from error

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

    def _take_event(self, seconds: float, event: object) -> None:
        """Hand an event on, and obey what the hub asks of who may join."""
        self._on_event(seconds, event)
        if isinstance(event, JoinPermitted):
            self._joiners[event.eui64] = self.now() + event.seconds
            self._in_turn(partial(self._let_join, event.eui64, event.key))
        elif isinstance(event, JoinEnded):
            if self._joiners.pop(event.eui64, None) is not None:
                self._in_turn(self._permit)
        elif isinstance(event, LinkKeyForgotten):
            self._joiners.pop(event.partner, None)
            self._in_turn(partial(self._remove, event.partner))

    def _in_turn(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Change who may join, after the changes before this one."""
        self.task(self._after_the_others(work))

    async def _after_the_others(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        async with self._gate:
            while True:
                await self._running_again.wait()
                try:
                    return await work()
                except NOT_SENT as error:
                    if self._running_again.is_set():
                        # What does not answer is gone; whether bellows saw that too does not matter.
                        self.lost(reason_of(error))

    async def settled(self) -> None:
        """Wait until the NCP has done what it was asked of who may join."""
        # A task that was made before this one holds the gate, or waits for it, by then.
        await asyncio.sleep(0)
        async with self._gate:
            pass

    async def _let_join(self, eui64: int, link_key: bytes) -> None:
        """Let a device join under its pre-configured key: one agreed with it before is forgotten.

        Devices without a link key of their own are refused.
        """
        refusal = await self._keys.give(eui64, link_key)
        if refusal is not None:
            self._joiners.pop(eui64, None)
            raise LocalProtocolError(
                f"the NCP does not take the link key of {format_eui64(eui64)}: {refusal}"
            )
        await self._permit()

    async def _remove(self, eui64: int) -> None:
        """Have a device leave, and drop the key with it."""
        # Its last element is the node id in every EZSP version; the status before it is only in the newer ones.
        short = int((await self.ezsp.lookupNodeIdByEui64(eui64=to_eui64(eui64)))[-1])
        if short < FIRST_BROADCAST:
            request = bytes((0,)) + eui64.to_bytes(8, "little") + bytes((0,))
            await self._send(ApsMessage(short, ZDO_PROFILE, MGMT_LEAVE_REQ, 0, 0, request))
        await self._keys.forget(eui64)
        await self._permit()

    async def _permit_again(self) -> None:
        """Go on with a join period that is longer than the NCP keeps the keys of joiners, or the HAN open."""
        self._runner.run([LinkKeyNotStored(*refused) for refused in await self._keys.renew()])
        await self._permit()

    async def _permit(self) -> None:
        """Keep the HAN open as long as somebody may join, as often as that takes."""
        if self._renewal is not None:
            self._renewal.cancel()
            self._renewal = None
        left = max(self._joiners.values(), default=0.0) - self.now()
        seconds = min(max(ceil(left), 0), LONGEST_PERMIT)
        if left > LONGEST_PERMIT:
            loop = asyncio.get_running_loop()
            self._renewal = loop.call_later(LONGEST_PERMIT - 1, self._in_turn, self._permit_again)
        application = self._running()
        if seconds:
            decision = EzspDecisionBitmask.ALLOW_JOINS | EzspDecisionBitmask.JOINS_USE_INSTALL_CODE_KEY
            await application.ezsp.setPolicy(policyId=EzspPolicyId.TRUST_CENTER_POLICY, decisionId=decision)
        await application.permit_ncp(seconds)  # type: ignore[no-untyped-call]
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
        self._runner.run(events)

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
                self._runner.store(eui64, partial(self._keys.keep, eui64))
        self._runner.receive(message)

    def left(self, eui64: int) -> None:
        """A device left."""
        self._runner.tell(self._behaviour.device_left, eui64)

    def lost(self, reason: str) -> None:
        """The NCP is gone: start it again, with the behaviour as it is."""
        if self._application is None or self._restarting:
            return
        self._restarting = True
        self._running_again.clear()
        self._runner.report(RadioLost(reason))
        self.task(self._restart())

    async def _restart(self) -> None:
        try:
            for attempt in range(1, RESTART_ATTEMPTS + 1):
                if self._application is not None:
                    await self._application.shutdown()
                try:
                    await self._open()
                    refused = await self._keys.renew()
                    if self._joiners:
                        await self._permit()  # a reset has closed the HAN
                    break
                except (RigError, *NOT_SENT):
                    if attempt == RESTART_ATTEMPTS:
                        raise
        finally:
            self._restarting = False
            self._running_again.set()  # where it is gone for good, whoever waited is told so
        self._runner.run(
            [LinkKeyNotStored(partner, reason) for partner, reason in refused] + [RadioRestarted()]
        )

    async def _send(self, message: ApsMessage) -> None:
        application = self._application
        if application is None:
            return
        try:
            await self._runner.settle(message)
            if message.peer >= FIRST_BROADCAST:
                await application.sender.broadcast(message)
            else:
                await application.sender.unicast(message)
        except NOT_SENT as error:
            self._runner.report(DeliveryFailed(message, reason_of(error)))

    def task(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside everything else; what it raises is reported as an event."""
        self._runner.task(work)

    def _running(self) -> Application:
        if self._application is None:
            raise RigError(f"{self._url}: the radio is not running")
        return self._application

    @property
    def descriptors(self) -> tuple[SimpleDescriptor, ...]:
        """The endpoints of the behaviour."""
        return tuple(self._behaviour.descriptors)
