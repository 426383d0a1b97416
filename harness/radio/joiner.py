"""Carries a device's behaviour over an NCP: it joins somebody else's HAN with the key of its install code."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from bellows.types import sl_Status

from harness.emulation.joining import CHANNELS, capability
from harness.emulation.node import NodeKind
from harness.errors import LocalProtocolError, RigError
from harness.radio.device_ezsp import DeviceEzsp
from harness.radio.link_keys import LinkKeys
from harness.radio.membership import Membership, NetworkDown, NetworkUp
from harness.radio.runner import (
    RESTART_ATTEMPTS,
    START_TIMEOUT,
    DeliveryFailed,
    LinkKeyNotStored,
    RadioLost,
    RadioRestarted,
    Runner,
)
from harness.radio.sending import NOT_SENT, Sender, reason_of
from harness.radio.values import from_eui64
from harness.wire.application import (
    BROADCAST_RX_ON,
    FIRST_BROADCAST,
    ZDO_PROFILE,
    ApsMessage,
    Behaviour,
    Restart,
)

RESTART_PAUSE = 2.0  # seconds: a stick on USB that lost its power has no port for so long
DEVICE_ANNOUNCE = 0x0013  # Zigbee PRO 2.4.3.1.11
# Before a restart what was sent gets out, above all the acknowledgement of what caused it; in seconds.
LAST_WORDS = 0.25

# A sleepy device polls so often when it does nothing (unless told otherwise), and when an answer may be near: for so
# long after it sent or received anything. An end device that listens only shows its parent that it is there.
POLL_SECONDS = 7.5
FAST_POLL_SECONDS = 0.25
AWAKE_SECONDS = 1.5
KEEP_ALIVE_SECONDS = 60.0

# What says nothing about being a member.
_ABOUT_OTHERS = (
    sl_Status.ZIGBEE_NETWORK_OPENED,
    sl_Status.ZIGBEE_NETWORK_CLOSED,
    sl_Status.ZIGBEE_CHANNEL_CHANGED,
)
_TAGS = 255  # EZSP's message tag is an octet; 0 is left to messages that nobody asks after


class Joiner:
    """A device of a HAN, played through an NCP.

    `url` is a serial port, a `tcp://` address or an `emulated://` one. The device joins with `link_key`, that of its
    install code, as that `kind` of node: the network with `extended_pan_id`, or the best heard that lets it in. A
    sleepy end device polls every `poll_seconds`. `on_event` gets `(seconds, event)` for everything that the behaviour
    reports or that happens to the carrier; seconds count from `start`. `on_key` gets each link key that the NCP is
    given, and a label.

    As with `MemberNode`, the behaviour of a device starts without power, and is told of its network by `network_up` and
    `network_down`; a `Restart`, a `LinkKeyEstablished` and a `LinkKeyRestored` are obeyed. What a `LinkKeyRestored`
    brings back is known only of a network that this object has joined or established a key on.
    """

    def __init__(
        self,
        url: str,
        behaviour: Behaviour,
        *,
        link_key: bytes,
        kind: NodeKind,
        extended_pan_id: int | None = None,
        channels: Sequence[int] = CHANNELS,
        poll_seconds: float | None = None,
        manufacturer_code: int = 0,
        baudrate: int = 115200,
        on_event: Callable[[float, object], None],
        on_key: Callable[[bytes, str], None] | None = None,
    ) -> None:
        if kind == NodeKind.COORDINATOR:
            raise LocalProtocolError("A coordinator forms a network, a device joins one")
        self.behaviour = behaviour
        self._url = url
        self._baudrate = baudrate
        self._kind = kind
        self._membership = Membership(
            link_key,
            kind,
            extended_pan_id,
            tuple(channels),
            on_link_key=lambda: self._keys.joining(self.eui64, link_key),
        )
        self._poll_seconds = POLL_SECONDS if poll_seconds is None else poll_seconds
        self._manufacturer_code = manufacturer_code
        self._on_event = on_event
        self._keys = LinkKeys(lambda: self.ezsp, on_key, of_device=True)
        self._runner = Runner(behaviour, self._keys, self._send, self._take_event)
        self._tags = itertools.cycle(range(1, _TAGS + 1))
        self._sender = self._new_sender()
        self._ezsp: DeviceEzsp | None = None
        self._line = asyncio.Lock()  # held by whoever resets or prepares the NCP
        self._on_air = False  # the NCP was told to go on a network since its last reset
        self._powered = False
        self._restart: asyncio.TimerHandle | None = None
        self._life: asyncio.Task[None] | None = None
        self._recovery: asyncio.Task[None] | None = None
        self._sends: set[asyncio.Task[None]] = set()
        self._early: list[ApsMessage] = []  # came before the behaviour was told that the network is up
        self._lost = False
        self._asleep: asyncio.TimerHandle | None = None  # when the fast polls of a sleepy device end
        self.eui64 = 0
        self.joined = False
        """Whether it is on its network now."""
        self.short: int | None = None
        """Its NWK address there."""

    @property
    def last_join_failure(self) -> str | None:
        """Why the last attempt to join or to rejoin failed; None after one that did not."""
        return self._membership.failure

    def _new_sender(self) -> Sender:
        return Sender(lambda: self.ezsp, lambda: next(self._tags))

    # --- the radio ----------------------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Open the radio; the device is without power yet.

        Raises RigError where the port cannot be opened, or nothing on it answers as an NCP.
        """
        self._runner.begin()
        await self._open()

    async def stop(self) -> None:
        """Close the radio. The NCP keeps its network."""
        self._fall_dark()
        self._runner.stop()
        await self._close()

    def now(self) -> float:
        """Seconds since `start`: the behaviour's clock."""
        return self._runner.now()

    @property
    def ezsp(self) -> Any:
        """bellows' EZSP object, for commands that have no method here. RigError while the radio is not running."""
        if self._ezsp is None:
            raise RigError(f"{self._url}: the radio is not running")
        return self._ezsp

    async def _open(self) -> None:
        ezsp = DeviceEzsp(
            self._url,
            self._baudrate,
            on_message=self._received,
            on_status=self._status,
            on_sent=lambda fields, version: self._sender.sent(fields, version),
            on_poll=self._polled,
            # One that was closed on purpose is not lost, and neither is one that does not open.
            on_lost=lambda reason: self.lost(reason) if self._ezsp is ezsp else None,
            run=self._acknowledge,
            clock=self.now,
        )
        try:
            async with asyncio.timeout(START_TIMEOUT):
                await ezsp.connect(use_thread=False)
                (eui64,) = await ezsp.getEui64()
        except (OSError, *NOT_SENT) as error:
            await ezsp.disconnect()  # type: ignore[no-untyped-call]
            raise RigError(f"{self._url}: no EmberZNet NCP answers there ({reason_of(error)})") from error
        except BaseException:  # whatever it was, the port is not to stay open behind it
            await ezsp.disconnect()  # type: ignore[no-untyped-call]
            raise
        self._ezsp, self._on_air = ezsp, False
        self.eui64 = from_eui64(eui64)

    async def _close(self) -> None:
        ezsp, self._ezsp = self._ezsp, None
        if ezsp is not None:
            await ezsp.disconnect()  # type: ignore[no-untyped-call]

    def lost(self, reason: str) -> None:
        """The NCP is gone: start it again, and go on with the network that it holds."""
        if self._ezsp is None or self._recovery is not None:
            return
        self._lost = True
        self._runner.report(RadioLost(reason))
        self._leave_the_air()
        self._recovery = self._runner.task(self._recover())

    async def _recover(self) -> None:
        try:
            for attempt in range(1, RESTART_ATTEMPTS + 1):
                await self._close()
                try:
                    await self._open()
                    break
                except RigError:
                    if attempt == RESTART_ATTEMPTS:
                        raise
                    await asyncio.sleep(RESTART_PAUSE)
        finally:
            self._recovery = None
        if self._powered:
            self._live()

    # --- power --------------------------------------------------------------------------------------------------------

    async def power_on(self) -> None:
        """Give it power: it joins, or goes on with the network that its NCP holds; nothing if it has power already.

        An NCP that was lost for good is looked for once more.
        """
        self._power_on()

    def _power_on(self) -> None:
        if self._powered:
            return
        self._cancel_restart()
        self._powered = True
        self._runner.wake()
        if self._recovery is not None:
            return  # it ends in a life
        if self._ezsp is None:
            self._recovery = self._runner.task(self._recover())
        else:
            self._live()

    async def power_cut(self) -> None:
        """Take the power of the whole member away: the behaviour loses what is not in storage."""
        was_powered = self._powered
        self._fall_dark()
        self.behaviour.power_cut()
        if was_powered:
            await self._silence()

    def _fall_dark(self) -> None:
        self._cancel_restart()
        self._powered = False
        self._runner.sleep()
        if self.joined:
            self._runner.report(NetworkDown())
        self.joined, self.short = False, None
        self._leave_the_air()

    def _leave_the_air(self) -> None:
        """Stop all that is under way on the network; the behaviour is told where it still believes to be on one."""
        if self._life is not None:
            self._life.cancel()
            self._life = None
        for task in self._sends:
            task.cancel()
        self._sender = self._new_sender()
        self._early.clear()
        self._go_down()

    async def _silence(self) -> None:
        """Make the NCP do nothing on the air; it keeps its network."""
        async with self._line:
            if self._ezsp is None or self._powered or not self._on_air:
                return  # it has power again: then it is for the next life to begin with a reset
            try:
                await self._ezsp.silence()
                self._on_air = False
            except NOT_SENT as error:
                self.lost(reason_of(error))

    def _cancel_restart(self) -> None:
        if self._restart is not None:
            self._restart.cancel()
            self._restart = None

    def _take_event(self, seconds: float, event: object) -> None:
        self._on_event(seconds, event)
        if isinstance(event, Restart) and self._powered and self._restart is None:
            loop = asyncio.get_running_loop()
            self._restart = loop.call_later(LAST_WORDS, self._go_dark, event.seconds)

    def _go_dark(self, seconds: float) -> None:
        self._fall_dark()
        self.behaviour.power_cut()
        self._runner.task(self._silence())
        self._restart = asyncio.get_running_loop().call_later(seconds, self._power_on)

    # --- membership ---------------------------------------------------------------------------------------------------

    def _live(self) -> None:
        self._life = self._runner.task(self._be_member())

    async def _be_member(self) -> None:
        """Be on the network, or on the way to it, until somebody takes the power away or the radio is lost."""
        try:
            async with self._line:
                ezsp = self._ezsp
                assert ezsp is not None  # a life begins with the radio open, and ends before it closes
                if self._on_air:
                    await ezsp.silence()
                self._on_air = True
                await ezsp.prepare(self.behaviour.descriptors, self._manufacturer_code)
            silent = await self._membership.resume(ezsp)
            if silent is None:
                await self._membership.join(ezsp)
            while True:
                await self._be_up(ezsp, announce=bool(silent))
                silent = False
                if not await ezsp.is_member():
                    return  # it left, or was told to: it stays away until it is switched off and on again
                await self._membership.rejoin(ezsp)
        except NOT_SENT as error:
            self._life = None  # this task, which `lost` is not to cancel
            self.lost(reason_of(error))

    async def _be_up(self, ezsp: DeviceEzsp, *, announce: bool) -> None:
        """Tell the behaviour that the network is up, and wait until it is down."""
        (short,) = await ezsp.getNodeId()
        if self._kind != NodeKind.ROUTER:
            await ezsp.poll_every(self._idle_poll())
        events: list[object] = []
        if self._lost:
            refused = await self._keys.renew()
            events = [*(LinkKeyNotStored(partner, reason) for partner, reason in refused), RadioRestarted()]
            self._lost = False
        if self._membership.down.is_set():
            return
        self._membership.recognised = True
        self.short, self.joined = int(short), True
        self._runner.report(NetworkUp(self.short))
        self._runner.run(events)
        if announce:
            # As `MemberNode`: of a router that goes on in silence the hub would not know that its tunnel is gone.
            self._runner.task(self._send(self._announcement()))
        self._runner.tell(self.behaviour.network_up, self.short)
        early, self._early = self._early, []
        for message in early:
            self._runner.receive(message)
        await self._membership.down.wait()

    def _announcement(self) -> ApsMessage:
        """Device_annce (Zigbee PRO 2.4.3.1.11)."""
        assert self.short is not None
        payload = b"\0%b%b%c" % (
            self.short.to_bytes(2, "little"),
            self.eui64.to_bytes(8, "little"),
            capability(self._kind),
        )
        return ApsMessage(BROADCAST_RX_ON, ZDO_PROFILE, DEVICE_ANNOUNCE, 0, 0, payload)

    def _idle_poll(self) -> float:
        return self._poll_seconds if self._kind == NodeKind.SLEEPY_END_DEVICE else KEEP_ALIVE_SECONDS

    def _status(self, status: sl_Status) -> None:
        """The NCP: something became of the network."""
        if status in _ABOUT_OTHERS:
            return
        if not self._membership.told(status) and status == sl_Status.NETWORK_DOWN:
            self._go_down()

    def _go_down(self) -> None:
        self._membership.down.set()
        if self._asleep is not None:
            self._asleep.cancel()
            self._asleep = None
        if self.joined:
            self.joined, self.short = False, None
            self._runner.report(NetworkDown())
            self._runner.tell(self.behaviour.network_down)

    def _polled(self, status: sl_Status) -> None:
        """The NCP: polls had no answer, so that the parent is lost. UG100: it is for the host to look for another."""
        if status not in (sl_Status.OK, sl_Status.MAC_NO_DATA):
            self._go_down()

    # --- the behaviour ------------------------------------------------------------------------------------------------

    def run(self, events: Sequence[object]) -> None:
        """Carry on after the behaviour was called from outside: report `events`, send what it has to send."""
        self._runner.run(events)

    def _received(self, message: ApsMessage) -> None:
        if self.joined:
            self._stay_awake()
            self._runner.receive(message)
        elif self._life is not None:
            self._early.append(message)

    async def _send(self, message: ApsMessage) -> None:
        if not self.joined:
            return  # as on a node: a behaviour goes by the answers that it gets
        task = asyncio.current_task()
        assert task is not None
        self._sends.add(task)
        try:
            await self._runner.settle(message)
            self._stay_awake()
            if message.peer >= FIRST_BROADCAST:
                await self._sender.broadcast(message)
            else:
                await self._sender.unicast(message)
        except NOT_SENT as error:
            self._runner.report(DeliveryFailed(message, reason_of(error)))
        finally:
            self._sends.discard(task)

    def _acknowledge(self, work: Coroutine[Any, Any, None]) -> None:
        self._stay_awake()  # for the next block of a long message
        self._quietly(work)

    def _stay_awake(self) -> None:
        """An answer may be near: let a sleepy device poll fast for a while."""
        if self._kind != NodeKind.SLEEPY_END_DEVICE:
            return
        if self._asleep is None:
            self._poll_every(FAST_POLL_SECONDS)
        else:
            self._asleep.cancel()
        self._asleep = asyncio.get_running_loop().call_later(AWAKE_SECONDS, self._fall_asleep)

    def _fall_asleep(self) -> None:
        self._asleep = None
        self._poll_every(self._poll_seconds)

    def _poll_every(self, seconds: float) -> None:
        if self._ezsp is not None:
            self._quietly(self._ezsp.poll_every(seconds))

    def _quietly(self, work: Coroutine[Any, Any, None]) -> None:
        self._runner.task(_try(work))


async def _try(work: Coroutine[Any, Any, None]) -> None:
    try:
        await work
    except NOT_SENT:
        return  # an NCP that is gone says so itself; else the next message or poll tries again
