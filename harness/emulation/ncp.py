"""An emulated EmberZNet NCP: what a Zigbee stick is to its host, on a node of the emulated air."""

from __future__ import annotations

import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Any

from harness.emulation import (
    ncp_messaging,
    ncp_network,
    ncp_polling,
    ncp_radio,
    ncp_security,
    ncp_system,
    ncp_tokens,
)
from harness.emulation.air import Air
from harness.emulation.ncp_config import DEFAULT_EZSP_VERSION, NcpConfig
from harness.emulation.ncp_dialect import Dialect
from harness.emulation.ncp_events import NodeEvents
from harness.emulation.ncp_line import Direction, SerialFaults, SerialLine, is_ack, is_data
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_store import NvStore
from harness.emulation.ncp_system import Handler
from harness.emulation.node import Node
from harness.errors import RemoteProtocolError
from harness.wire.ash import (
    ERROR_TOO_MANY_TIMEOUTS,
    RESET_POWER_ON,
    RESET_WATCHDOG,
    AshNcp,
    FrameReceived,
    Reset,
)
from harness.wire.ezsp import (
    Command,
    EzspCodec,
    GetExtendedTimeout,
    IncomingMessage,
    MessageSent,
    SendUnicast,
)

__all__ = ["Direction", "EmulatedNcp", "NcpConfig", "NvStore", "SerialFaults", "is_ack", "is_data"]

_HANDLERS: dict[str, Handler] = {
    **ncp_system.COMMANDS,
    **ncp_network.COMMANDS,
    **ncp_polling.COMMANDS,
    **ncp_radio.COMMANDS,
    **ncp_security.COMMANDS,
    **ncp_tokens.COMMANDS,
    **ncp_messaging.COMMANDS,
}

# The probe for vendor extensions: every host that knows one sends it, and takes "no such command" for a no.
_PROBES = frozenset({"customFrame"})

# UG100, frame control of a response or callback, bit 0: a callback was lost for want of memory.
_OVERFLOW = 0x01


class EmulatedNcp:
    """A Zigbee stick with the factory address `eui64`, speaking EZSP `ezsp_version` over ASH.

    Bytes from the host go into `receive`; bytes for it come through `on_output`, never from another thread, sometimes
    from within `receive`. All time is the air's. `failures` holds a sentence for every command that was answered with
    invalidCommand or by an error of ours: a test that leaves one has failed. `commands` counts commands by name.

    A reset, by the host or by `reset`, keeps tokens and network; `power_cycle` keeps them only with an `nv` file.
    `node` is another object after a host has given the stick another EUI-64.
    """

    def __init__(
        self,
        air: Air,
        eui64: int,
        *,
        ezsp_version: int = DEFAULT_EZSP_VERSION,
        config: NcpConfig | None = None,
        nv: NvStore | None = None,
    ) -> None:
        self.air = air
        self.config = config if config is not None else NcpConfig()
        self.on_output: Callable[[bytes], None] = _nowhere
        self.failures: list[str] = []
        self.unknown_commands: list[str] = []
        self.commands: Counter[str] = Counter()
        self.faults = SerialFaults()
        self._codec = EzspCodec(ezsp_version)
        self._fast = self._codec.fast
        self._dialect = Dialect(self._codec)
        self._to_ncp = SerialLine(air, Direction.TO_NCP, self.config.baud, self.faults, self._from_host)
        self._to_host = SerialLine(air, Direction.TO_HOST, self.config.baud, self.faults, self._output)
        self._ash = AshNcp(window=self.config.ash_window)
        self._deadline_us: int | None = None
        self._callbacks: deque[bytes] = deque()
        self._sequence = 0
        self._overflowed = False
        self._busy = False
        self._tolerated = self.config.tolerate | _PROBES
        events = NodeEvents(self._incoming, self._sent)
        self._state = NcpState(air, eui64, self.config, self._dialect, nv, events, self._callback)
        self._state.callbacks_waiting = lambda: len(self._callbacks)
        self._state.restart = self.reset
        events.ncp = self._state

    @property
    def node(self) -> Node:
        """The node that this NCP is on the air."""
        return self._state.node

    @property
    def ezsp_version(self) -> int:
        """The EZSP version that it speaks."""
        return self._dialect.version

    def save(self) -> dict[str, Any]:
        """Return the tokens as JSON can write them, keys included: network, link keys, children, counters."""
        self._state.save_tokens()
        return self._state.tokens.to_json()

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Restart with what `save` gave, in this run or another. LocalProtocolError for anything else."""
        self._state.take_tokens(saved)

    # --- the line -----------------------------------------------------------------------------------------

    def receive(self, data: bytes, now: float) -> None:
        """Take bytes from the host at `now` seconds of the air's clock; the air is brought up to then first."""
        self.air.on_deadline(now)
        self._to_ncp.put(data)

    def _from_host(self, data: bytes) -> None:
        self._busy = True
        try:
            for event in self._ash.receive(data, self.air.now / 1_000_000):
                if isinstance(event, FrameReceived):
                    self._ash.send(self._answer(event.data))
                elif isinstance(event, Reset):
                    self._restart()
        finally:
            self._busy = False
            self._pump()

    def _output(self, data: bytes) -> None:
        self.on_output(data)

    def _pump(self) -> None:
        ash, callbacks = self._ash, self._callbacks
        if callbacks:
            room = self.config.ash_window - ash.unacknowledged - ash.queued
            while callbacks and room > 0:
                ash.send(self._addressed(callbacks.popleft()), callback=True)
                room -= 1
        data = ash.data_to_send(self.air.now / 1_000_000)
        if data:
            self._to_host.put(data)
        deadline = ash.next_deadline()
        if deadline is not None:
            # One microsecond late: the deadline itself may lie a rounding error behind.
            when_us = int(deadline * 1_000_000) + 1
            if self._deadline_us is None or when_us < self._deadline_us:
                self._deadline_us = when_us
                self.air.post(when_us, self._due, (when_us,))

    def _due(self, when_us: int) -> None:
        if when_us != self._deadline_us:
            return  # superseded by an earlier one, which has looked after this one, too
        self._deadline_us = None
        deadline = self._ash.next_deadline()
        if deadline is not None and self.air.now > deadline * 1_000_000:
            self._ash.on_deadline(self.air.now / 1_000_000)
        self._pump()

    # --- commands -----------------------------------------------------------------------------------------

    def _answer(self, frame: bytes) -> bytes:
        try:
            command = self._codec.parse_command(frame)
        except RemoteProtocolError as error:
            # Its parameters may be a key: the report must not hold them.
            self._fail(f"the host sent an EZSP frame of {len(frame)} octets, which is malformed: {error}")
            return self._mark(self._codec.invalid_frame(frame[0]))
        self.commands[command.name or f"0x{command.frame_id:04X}"] += 1
        try:
            answer = self._execute(command)
        except Exception as error:  # noqa: BLE001  # whatever it is, the host gets an answer, and the test that it happened in fails
            where = traceback.extract_tb(error.__traceback__)[-1]
            self._fail(
                f"{self._named(command)} ended in {error!r}, at {where.filename.rpartition('/')[2]}:{where.lineno}"
            )
            answer = self._codec.invalid_command(command)
        self._sequence = command.sequence
        return self._mark(answer)

    def _execute(self, command: Command) -> bytes:
        hot = command.hot
        if hot is not None:
            state = self._state
            if isinstance(hot, SendUnicast):
                status, counter = ncp_messaging.send_unicast(state, hot)
                return self._fast.unicast_reply(
                    command.sequence, self._dialect.message_status(status), counter
                )
            if isinstance(hot, GetExtendedTimeout):
                extended = state.node.extended_timeouts.get(hot.eui64, False)
                return self._fast.get_timeout_reply(command.sequence, extended)
            state.node.extended_timeouts[hot.eui64] = hot.extended
            return self._fast.set_timeout_reply(command.sequence)
        handler = _HANDLERS.get(command.name or "")
        if handler is None or command.name is None:
            return self._refuse(command)
        result = handler(self._state, self._dialect.arguments(command.args))
        if isinstance(result, Status):
            result = {"status": result}
        values = self._dialect.answer(command.name, result or {})
        return self._codec.build_response(command, values, fill=True)

    def _refuse(self, command: Command) -> bytes:
        if command.name not in self._tolerated:
            named = self._named(command)
            self.unknown_commands.append(command.name or f"0x{command.frame_id:04X}")
            self._fail(f"the emulated NCP does not know {named}; the host got invalidCommand")
        return self._codec.invalid_command(command)

    def _named(self, command: Command) -> str:
        return f"{command.name or 'a command'} (0x{command.frame_id:04X}, EZSP {self.ezsp_version})"

    def _fail(self, sentence: str) -> None:
        self.failures.append(sentence)

    # --- callbacks ----------------------------------------------------------------------------------------

    def _callback(self, name: str, values: Mapping[str, Any]) -> None:
        self._enqueue(self._codec.build_callback(0, name, self._dialect.answer(name, values), fill=True))

    def _incoming(self, message: IncomingMessage) -> None:
        self._enqueue(self._fast.incoming_message(0, message))

    def _sent(self, message: MessageSent) -> None:
        self._enqueue(self._fast.message_sent(0, message))

    def _enqueue(self, frame: bytes) -> None:
        if len(self._callbacks) < self.config.callback_queue:
            self._callbacks.append(frame)
        else:
            self._overflowed = True
        if not self._busy:
            self._pump()

    def _addressed(self, frame: bytes) -> bytes:
        # A callback goes out under the sequence number of the last command answered.
        return self._mark(bytes((self._sequence,)) + frame[1:])

    def _mark(self, frame: bytes) -> bytes:
        if not self._overflowed:
            return frame
        self._overflowed = False
        return frame[:1] + bytes((frame[1] | _OVERFLOW,)) + frame[2:]

    def fill_callbacks(self) -> None:
        """Fill the queue of callbacks: the next one is lost, and with it every other until the host has taken some.

        What fills it means nothing to a host: a counter has rolled over.
        """
        busy, self._busy = self._busy, True
        while len(self._callbacks) < self.config.callback_queue:
            self._callback("counterRolloverHandler", {"type": 0})
        self._busy = busy

    # --- resets -------------------------------------------------------------------------------------------

    def reset(self, code: int = RESET_WATCHDOG) -> None:
        """Restart without being asked to, for reason `code` (NcpResetCode), and say so to the host."""
        self._restart()
        self._ash.reset(code)
        self._pump()

    def fail(self, code: int = ERROR_TOO_MANY_TIMEOUTS) -> None:
        """Detect a fatal error of the link: the host gets ERROR until it resets the NCP."""
        self._ash.fail(code)
        self._pump()

    def power_cycle(self) -> None:
        """Lose power and come back: with what is in the flash file, or as a new stick where there is none."""
        self._to_ncp.cut()
        self._to_host.cut()
        self._reboot(self._state.lose_power)
        self._ash.reset(RESET_POWER_ON)
        self._pump()

    def _restart(self) -> None:
        self._reboot(self._state.reset)

    def _reboot(self, boot: Callable[[], None]) -> None:
        busy, self._busy = self._busy, True
        try:
            boot()
        finally:
            self._busy = busy
            self._forget_callbacks()

    def _forget_callbacks(self) -> None:
        self._callbacks.clear()
        self._sequence = 0
        self._overflowed = False


def _nowhere(data: bytes) -> None:
    """Bytes for a host that is not there are lost."""
