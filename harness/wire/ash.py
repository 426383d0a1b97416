"""ASH, the reliable link that carries EZSP frames over a serial line: both ends, as cores without I/O.

Clauses are those of UG101 r1.7 (the same text is published as "UART-EZSP Gateway Protocol Reference").
No octets make an end raise: what is not a frame, or not the frame due, is dropped or asked for again.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from harness.errors import LocalProtocolError
from harness.wire.ash_frames import (
    ACK,
    CANCEL,
    ERROR,
    LONGEST_DATA,
    NAK,
    NOT_READY,
    RETRANSMITTED,
    RST,
    RSTACK,
    SHORTEST_DATA,
    Deframer,
    build_data,
    build_frame,
    randomize,
    read_frame,
)

# 6: reset and error codes.
RESET_POWER_ON: Final = 0x02
RESET_WATCHDOG: Final = 0x03
RESET_SOFTWARE: Final = 0x0B
ERROR_TOO_MANY_TIMEOUTS: Final = 0x51

# 7: configuration parameters, seconds and frames.
T_RX_ACK_INIT: Final = 1.6
T_RX_ACK_MIN: Final = 0.4
T_RX_ACK_MAX: Final = 3.2
T_TX_ACK_DELAY: Final = 0.02
T_REMOTE_NOTRDY: Final = 1.0
T_RSTACK_MAX: Final = 3.2
TX_K: Final = 5
ACK_TIMEOUTS: Final = 4
# 5: the host retries the reset up to five times.
RESET_RETRIES: Final = 5

# bellows 1.2.1 forgets all but the last 1024 octets that it has not parsed yet.
UNACKNOWLEDGED_OCTETS: Final = 900

_VERSION = 2

# Seconds that a deadline may be early: a clock of whole microseconds rounds.
_EARLY = 1e-6


class AshState(IntEnum):
    """Where an end stands. RESETTING: RST was sent (host) or received (NCP), RSTACK is due."""

    CONNECTED = 0
    RESETTING = 1
    FAILED = 2


@dataclass(frozen=True, slots=True)
class FrameReceived:
    """An EZSP frame arrived, once and in order."""

    data: bytes


@dataclass(frozen=True, slots=True)
class Reset:
    """NCP: the host sent RST, RSTACK goes out next. Host: RSTACK arrived. Frames under way are gone."""

    code: int


@dataclass(frozen=True, slots=True)
class Failed:
    """The link is down until the next reset: too many time-outs, or (host) the NCP said ERROR."""

    code: int


@dataclass(frozen=True, slots=True)
class FrameRejected:
    """A frame was thrown away; a DATA frame is asked for again. For traces only."""

    reason: str
    data: bytes


Event = FrameReceived | Reset | Failed | FrameRejected


class _Sent:
    """A DATA frame that the other end has not acknowledged yet."""

    __slots__ = ("data", "number", "sent_at", "size")

    def __init__(self, number: int, data: bytes, size: int, sent_at: float) -> None:
        self.number = number
        self.data = data
        self.size = size
        self.sent_at = sent_at


class _AshEnd:
    """What both ends do: frame numbers, acknowledgement, retransmission (5)."""

    def __init__(self, *, window: int, octets: int, ack_delay: float, timeouts: int) -> None:
        # 5.1: a 3-bit frame number tells at most 7 frames apart from the one after them.
        if not 1 <= window <= 7:
            raise LocalProtocolError(f"a window of {window} frames does not fit 3-bit frame numbers")
        self.state = AshState.CONNECTED
        self._window = window
        self._octets = octets
        self._ack_delay = ack_delay
        self._timeouts_allowed = timeouts
        self._deframer = Deframer()
        self._control = b""
        self._queue: deque[tuple[bytes, bool]] = deque()
        self._sent: deque[_Sent] = deque()
        self._start_over()

    def _start_over(self) -> None:
        self._next_number = 0
        self._expected = 0
        self._queue.clear()
        self._sent.clear()
        self._octets_sent = 0
        self._resend = False
        self._rejecting = False
        self._nak_due = False
        self._ack_at: float | None = None
        self._timeout_at: float | None = None
        self._timeouts = 0
        self._t_rx_ack = T_RX_ACK_INIT
        self._held_until: float | None = None

    @property
    def unacknowledged(self) -> int:
        """How many DATA frames are on their way to the other end, not acknowledged by it."""
        return len(self._sent)

    @property
    def queued(self) -> int:
        """How many frames wait for room in the window, or for the host to be ready."""
        return len(self._queue)

    def next_deadline(self) -> float | None:
        """When on_deadline and then data_to_send must be called, in seconds; None: nothing to wait for."""
        deadline = self._timeout_at
        for other in (self._ack_at, self._held_until):
            if other is not None and (deadline is None or other < deadline):
                deadline = other
        return deadline

    def on_deadline(self, now: float) -> list[Event]:
        """Does what is due; data_to_send may have something afterwards."""
        if self._held_until is not None and now + _EARLY >= self._held_until:
            self._held_until = None
        if self._timeout_at is None or now + _EARLY < self._timeout_at:
            return []
        # 5: a time-out doubles t_rx_ack and all is sent again; 7: too many in a row fail the link.
        self._timeouts += 1
        if self._timeouts_allowed and self._timeouts > self._timeouts_allowed:
            return self._give_up(ERROR_TOO_MANY_TIMEOUTS)
        self._t_rx_ack = min(2 * self._t_rx_ack, T_RX_ACK_MAX)
        self._timeout_at = now + self._t_rx_ack
        self._resend = True
        return []

    def receive(self, data: bytes, now: float) -> list[Event]:
        """Takes octets off the line, however chunked; data_to_send may have something afterwards."""
        events: list[Event] = []
        for raw in self._deframer.feed(data):
            frame = read_frame(raw)
            if frame is None:
                # The control octet may be damaged too; as on the NCP, it is believed all the same.
                self._reject("the frame is damaged", raw, events)
                continue
            control = frame[0]
            if control >= RST or self.state is not AshState.CONNECTED:
                self._take_control(control, frame, events)
            elif control < ACK:
                self._take_data(control, frame, now, events)
            else:
                self._take_ack(control, frame, now, events)
        return events

    def data_to_send(self, now: float) -> bytes:
        """What goes on the line now: call it after every receive, send and on_deadline."""
        out = self._control
        self._control = b""
        if self.state is not AshState.CONNECTED:
            return out
        if self._nak_due:
            # 5.5: a NAK acknowledges what came before the rejected frame.
            self._nak_due = False
            self._ack_at = None
            out += build_frame(NAK | self._ready_bit() | self._expected)
        data = b""
        if self._resend:
            self._resend = False
            for sent in self._sent:
                data += build_data(sent.number, self._expected, sent.data, again=True)
                sent.sent_at = now
            if data:
                self._timeout_at = now + self._t_rx_ack
        while self._queue and len(self._sent) < self._window:
            place = 0 if self._held_until is None else self._first_response()
            if place < 0:
                break
            frame = self._queue[place][0]
            encoded = build_data(self._next_number, self._expected, frame)
            size = len(encoded)
            if self._sent and self._octets_sent + size > self._octets:
                break
            del self._queue[place]
            self._sent.append(_Sent(self._next_number, frame, size, now))
            self._octets_sent += size
            self._next_number = self._next_number + 1 & 7
            if self._timeout_at is None:
                self._timeout_at = now + self._t_rx_ack
            data += encoded
        if data:
            # 5.3: the ackNum of a DATA frame is an acknowledgement too.
            self._ack_at = None
        elif self._ack_at is not None and now + _EARLY >= self._ack_at:
            self._ack_at = None
            data = build_frame(ACK | self._ready_bit() | self._expected)
        return out + data

    def _first_response(self) -> int:
        for place, (_, is_callback) in enumerate(self._queue):
            if not is_callback:
                return place
        return -1

    def _ready_bit(self) -> int:
        return 0

    def _enqueue(self, frame: bytes, is_callback: bool) -> None:
        if not SHORTEST_DATA <= len(frame) <= LONGEST_DATA:
            raise LocalProtocolError(
                f"ASH carries EZSP frames of {SHORTEST_DATA} to {LONGEST_DATA} octets, not {len(frame)}"
            )
        self._queue.append((frame, is_callback))

    def _give_up(self, code: int) -> list[Event]:
        self._start_over()
        self.state = AshState.FAILED
        return [Failed(code)]

    def _take_control(self, control: int, frame: bytes, events: list[Event]) -> None:
        raise NotImplementedError

    def _take_data(self, control: int, frame: bytes, now: float, events: list[Event]) -> None:
        if not SHORTEST_DATA < len(frame) <= LONGEST_DATA + 1:
            self._reject(f"a DATA frame has no {len(frame) - 1} octets of data", frame, events)
        elif not self._acknowledge(control & 7, now):
            self._reject(f"it acknowledges frame {control & 7}, which is not under way", frame, events)
        elif control >> 4 == self._expected:
            self._expected = self._expected + 1 & 7
            self._rejecting = False
            self._nak_due = False
            if control & RETRANSMITTED:
                self._ack_at = now
            elif self._ack_at is None:
                self._ack_at = now + self._ack_delay
            events.append(FrameReceived(randomize(frame[1:])))
        elif control & RETRANSMITTED:
            # 5.5: the other end has missed our acknowledgement and gets another at once.
            self._ack_at = now
        else:
            self._reject(f"DATA frame {control >> 4} came, {self._expected} is next", frame, events)

    def _take_ack(self, control: int, frame: bytes, now: float, events: list[Event]) -> None:
        if len(frame) != 1:
            self._reject("an ACK or NAK has no data", frame, events)
        elif not self._acknowledge(control & 7, now):
            self._reject(f"it acknowledges frame {control & 7}, which is not under way", frame, events)
        else:
            self._held_until = now + T_REMOTE_NOTRDY if control & NOT_READY else None
            if control >= NAK and self._sent:
                self._adapt(now - self._sent[0].sent_at)
                self._resend = True

    def _acknowledge(self, number: int, now: float) -> bool:
        """5.2: ackNum is the frame expected next, so it acknowledges all before; False if it cannot be meant."""
        sent = self._sent
        if not sent:
            return number == self._next_number
        count = number - sent[0].number & 7
        if count > len(sent):
            return False
        if count:
            for _ in range(count):
                last = sent.popleft()
                self._octets_sent -= last.size
            self._adapt(now - last.sent_at)
            self._timeouts = 0
            self._timeout_at = now + self._t_rx_ack if sent else None
        return True

    def _adapt(self, measured: float) -> None:
        # 5: t_rx_ack becomes 7/8 of itself plus 1/2 of the time that the acknowledgement took.
        self._t_rx_ack = min(max(0.875 * self._t_rx_ack + 0.5 * measured, T_RX_ACK_MIN), T_RX_ACK_MAX)

    def _reject(self, reason: str, frame: bytes, events: list[Event]) -> None:
        """5.5: a bad or unexpected DATA frame gets one NAK, the ones after it none until a good one comes."""
        events.append(FrameRejected(reason, frame))
        if frame[0] < ACK and self.state is AshState.CONNECTED and not self._rejecting:
            self._rejecting = True
            self._nak_due = True


class AshNcp(_AshEnd):
    """The NCP's end. Answers RST by itself; frames sent while it has FAILED or restarts are lost, as on a real stick.

    `window` frames and `octets` octets may be on their way to the host unacknowledged; `ack_delay` seconds an
    acknowledgement waits for a DATA frame to ride on; more than `timeouts` time-outs in a row fail the link
    (0: never).
    """

    def __init__(
        self,
        *,
        window: int = TX_K,
        octets: int = UNACKNOWLEDGED_OCTETS,
        ack_delay: float = T_TX_ACK_DELAY,
        timeouts: int = ACK_TIMEOUTS,
    ) -> None:
        super().__init__(window=window, octets=octets, ack_delay=ack_delay, timeouts=timeouts)
        self._failure = 0

    def send(self, frame: bytes, *, callback: bool = False) -> None:
        """Queues an EZSP frame; a `callback` waits while the host says that it is not ready (nRdy)."""
        # One chunk may hold a command and an RST behind it: the answer must not go out after RSTACK.
        if self.state is AshState.CONNECTED:
            self._enqueue(frame, callback)

    def reset(self, code: int = RESET_POWER_ON) -> None:
        """The NCP has restarted: all frames are forgotten and RSTACK goes out, asked for or not."""
        self._start_over()
        self.state = AshState.RESETTING
        self._control = CANCEL + build_frame(RSTACK, bytes((_VERSION, code)))

    def fail(self, code: int) -> None:
        """The NCP has detected a fatal error: ERROR goes out, and again for every frame but RST (6)."""
        self._start_over()
        self.state = AshState.FAILED
        self._failure = code
        self._control = build_frame(ERROR, bytes((_VERSION, code)))

    def data_to_send(self, now: float) -> bytes:
        """What goes on the line now: call it after every receive, send and on_deadline."""
        if self.state is AshState.RESETTING:
            self.state = AshState.CONNECTED
            self._deframer.forget()
        return super().data_to_send(now)

    def _give_up(self, code: int) -> list[Event]:
        self.fail(code)
        return [Failed(code)]

    def _take_control(self, control: int, frame: bytes, events: list[Event]) -> None:
        if self.state is AshState.RESETTING:
            # A chip that restarts hears nothing until it has said RSTACK.
            events.append(FrameRejected("the NCP is restarting", frame))
        elif frame == bytes((RST,)):
            self.reset(RESET_SOFTWARE)
            events.append(Reset(RESET_SOFTWARE))
        elif self.state is AshState.FAILED:
            self._control = build_frame(ERROR, bytes((_VERSION, self._failure)))
            events.append(FrameRejected("the NCP has failed", frame))
        else:
            events.append(FrameRejected(f"a host sends no frame 0x{control:02X}", frame))


class AshHost(_AshEnd):
    """The host's end. Call `reset` first; frames may be queued at once, they go out after RSTACK."""

    def __init__(self, *, window: int = 1, timeouts: int = ACK_TIMEOUTS) -> None:
        # 5.2: the host acknowledges promptly. The NCP has room for its whole window.
        super().__init__(window=window, octets=window * 2 * LONGEST_DATA, ack_delay=0.0, timeouts=timeouts)
        self._ready = True
        self._reset_at: float | None = None
        self._resets = 0

    def send(self, frame: bytes) -> None:
        """Queues an EZSP frame; LocalProtocolError once the link has failed."""
        if self.state is AshState.FAILED:
            raise LocalProtocolError("the ASH link has failed, reset it first")
        self._enqueue(frame, False)

    def reset(self, now: float) -> None:
        """Asks the NCP to restart; Failed comes when five retries bring no RSTACK either."""
        self._start_over()
        self._resets = 0
        self._send_reset(now)

    def set_ready(self, ready: bool, now: float) -> None:
        """Tells the NCP whether callbacks are welcome (nRdy); it forgets a "no" after 1 s."""
        self._ready = ready
        self._ack_at = now

    def next_deadline(self) -> float | None:
        """When on_deadline and then data_to_send must be called, in seconds; None: nothing to wait for."""
        return super().next_deadline() if self._reset_at is None else self._reset_at

    def on_deadline(self, now: float) -> list[Event]:
        """Does what is due; data_to_send may have something afterwards."""
        if self._reset_at is None:
            return super().on_deadline(now)
        if now + _EARLY < self._reset_at:
            return []
        if self._resets > RESET_RETRIES:
            return self._give_up(ERROR_TOO_MANY_TIMEOUTS)
        self._send_reset(now)
        return []

    def _send_reset(self, now: float) -> None:
        self.state = AshState.RESETTING
        self._resets += 1
        self._reset_at = now + T_RSTACK_MAX
        self._control = CANCEL + build_frame(RST)

    def _ready_bit(self) -> int:
        return 0 if self._ready else NOT_READY

    def _give_up(self, code: int) -> list[Event]:
        self._reset_at = None
        return super()._give_up(code)

    def _take_control(self, control: int, frame: bytes, events: list[Event]) -> None:
        if control == RSTACK and len(frame) == 3 and frame[1] == _VERSION:
            # Frames queued since our own RST are meant for the restarted NCP, others died with the old one.
            waiting = list(self._queue) if self.state is AshState.RESETTING else []
            self._start_over()
            self._queue.extend(waiting)
            self._control = b""
            self._reset_at = None
            self.state = AshState.CONNECTED
            events.append(Reset(frame[2]))
        elif control == ERROR and len(frame) == 3 and self.state is AshState.CONNECTED:
            events.extend(self._give_up(frame[2]))
        else:
            # 5: after RST the host drops everything until RSTACK.
            reason = f"frame 0x{control:02X} is not due while the host is {self.state.name}"
            events.append(FrameRejected(reason, frame))
