"""APS fragmentation, both ends: a message goes in blocks, each window of them acknowledged with a bitfield."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.aps import Fragment

MAX_BLOCKS = 255  # the block count has one octet
MAX_WINDOW = 8  # the bitfield has one octet
ALL_ARRIVED = 0xFF

# Zigbee PRO (05-3474-21) 2.2.7.1 and 2.2.8.4.5: apscAckWaitDuration and apscMaxFrameRetries.
ACK_WAIT = 1.6
RETRIES = 3


@dataclass(frozen=True, slots=True)
class BlockToSend:
    """Put this block on the air, in an APS data frame of its own with the message's APS counter."""

    fragment: Fragment
    payload: bytes


@dataclass(frozen=True, slots=True)
class MessageDelivered:
    """The receiver has acknowledged every block."""


@dataclass(frozen=True, slots=True)
class MessageFailed:
    """The receiver went silent at the window that starts with block `block`; the message is given up."""

    block: int


@dataclass(frozen=True, slots=True)
class BlocksToAcknowledge:
    """Answer the sender of message `key` with an APS acknowledgement that carries `fragment`."""

    key: Hashable
    fragment: Fragment


@dataclass(frozen=True, slots=True)
class MessageReassembled:
    """Every block of message `key` has arrived; `payload` is the whole message."""

    key: Hashable
    payload: bytes


@dataclass(frozen=True, slots=True)
class MessageAbandoned:
    """The sender of message `key` went silent with `missing` blocks to come (None: not even their number arrived)."""

    key: Hashable
    missing: int | None


SenderEvent = BlockToSend | MessageDelivered | MessageFailed
ReceiverEvent = BlocksToAcknowledge | MessageReassembled | MessageAbandoned


class Fragmenter:
    """Sends one message in blocks of `block_size` octets, `window` (1 to 8) of them between acknowledgements.

    Blocks of a window go `interframe_delay` seconds apart, at once by default: the radio's own queue spaces them. A
    window not acknowledged within `ack_wait` seconds of its last block is sent again, without the blocks known to have
    arrived, `retries` times before the message fails.
    """

    def __init__(
        self,
        message: bytes,
        block_size: int,
        *,
        window: int = 1,
        retries: int = RETRIES,
        ack_wait: float = ACK_WAIT,
        interframe_delay: float = 0.0,
    ) -> None:
        if not 1 <= window <= MAX_WINDOW:
            raise LocalProtocolError(f"A window of {window} blocks; there are 1 to {MAX_WINDOW}")
        if block_size < 1 or not message:
            raise LocalProtocolError(
                f"A message of {len(message)} octets does not go in blocks of {block_size}"
            )
        self._blocks = [message[start : start + block_size] for start in range(0, len(message), block_size)]
        if len(self._blocks) > MAX_BLOCKS:
            raise LocalProtocolError(
                f"A message of {len(message)} octets in blocks of {block_size} takes {len(self._blocks)}; "
                f"APS has {MAX_BLOCKS}"
            )
        self._window = window
        self._retries = retries
        self._ack_wait = ack_wait
        self._interframe_delay = interframe_delay
        self._base = 0
        self._arrived = 0  # bitfield of the current window
        self._attempts = 0
        self._queue: list[int] = []  # blocks of this attempt that are still to be sent
        self._deadline: float | None = None
        self.finished = False

    @property
    def blocks(self) -> int:
        """How many blocks the message takes."""
        return len(self._blocks)

    def start(self, now: float) -> list[SenderEvent]:
        """Send the first window."""
        return self._send_window(now)

    def acknowledge(self, fragment: Fragment, now: float) -> list[SenderEvent]:
        """Take the extended header of an APS acknowledgement of this message.

        One for an earlier window is a late duplicate and changes nothing; one for blocks not yet sent, or without a
        bitfield, is a RemoteProtocolError.
        """
        if fragment.bitfield is None:
            raise RemoteProtocolError(f"Acknowledgement of block {fragment.number} without bitfield")
        begun = self.finished or self._deadline is not None
        if fragment.number > self._base or not begun:
            raise RemoteProtocolError(
                f"Acknowledgement of the window at block {fragment.number}; the one sent starts at {self._base}"
            )
        if self.finished or fragment.number < self._base:
            return []
        count = min(self._window, len(self._blocks) - self._base)
        everything = (1 << count) - 1
        arrived = self._arrived | fragment.bitfield & everything
        if arrived == everything:
            self._base += count
            self._arrived = self._attempts = 0
            if self._base < len(self._blocks):
                return self._send_window(now)
            self.finished = True
            self._queue.clear()
            self._deadline = None
            return [MessageDelivered()]
        if self._queue:
            # An answer to an earlier attempt while this one is still going out: only skip what it says has arrived.
            self._arrived = arrived
            self._queue = [number for number in self._queue if not arrived >> (number - self._base) & 1]
            return [] if self._queue else self._send_window(now)
        if arrived != self._arrived:
            # TP/PRO/BV-43: the missing blocks follow at once. Progress is a sign of life: the retries start anew.
            self._attempts = 0
        elif self._attempts > self._retries:
            return []  # no attempt left: the time-out decides
        self._arrived = arrived
        return self._send_window(now)

    def next_deadline(self) -> float | None:
        """When `on_deadline` wants to be called; None: nothing to wait for."""
        return self._deadline

    def on_deadline(self, now: float) -> list[SenderEvent]:
        """Send the next block of the window, or the window again, or give the message up."""
        if self._deadline is None or now < self._deadline:
            return []
        if self._queue:
            return self._send_queued(now)
        if self._attempts > self._retries:
            self.finished = True
            self._deadline = None
            return [MessageFailed(self._base)]
        return self._send_window(now)

    def _send_window(self, now: float) -> list[SenderEvent]:
        self._attempts += 1
        end = min(self._base + self._window, len(self._blocks))
        self._queue = [
            number for number in range(self._base, end) if not self._arrived >> (number - self._base) & 1
        ]
        return self._send_queued(now)

    def _send_queued(self, now: float) -> list[SenderEvent]:
        count = 1 if self._interframe_delay else len(self._queue)
        numbers, self._queue = self._queue[:count], self._queue[count:]
        self._deadline = now + (self._interframe_delay if self._queue else self._ack_wait)
        total = len(self._blocks)
        return [
            BlockToSend(Fragment(number == 0, number or total), self._blocks[number]) for number in numbers
        ]


class _Incoming:
    """What has arrived of one message."""

    __slots__ = ("base", "blocks", "deadline", "done", "first", "total")

    def __init__(self) -> None:
        self.total: int | None = None
        self.blocks: dict[int, bytes] = {}
        self.first = b""  # block 0, when all has arrived
        self.base = 0
        self.deadline = 0.0
        self.done = False


class Reassembler:
    """Puts fragmented messages together; each is known by a `key` that its caller makes of sender and APS counter.

    `window` is the number of blocks between acknowledgements that sender and receiver agree on. A message whose next
    block does not come within `timeout` seconds is abandoned; a complete one is remembered as long, so that a block
    repeated because its acknowledgement was lost is acknowledged again and not taken for a new message; a first block
    that differs begins a new one, for APS counters come round. No more than `capacity` messages are put together at a
    time.
    """

    def __init__(
        self, *, window: int = 1, timeout: float = ACK_WAIT * (RETRIES + 1), capacity: int = 8
    ) -> None:
        if not 1 <= window <= MAX_WINDOW:
            raise LocalProtocolError(f"A window of {window} blocks; there are 1 to {MAX_WINDOW}")
        self._window = window
        self._timeout = timeout
        self._capacity = capacity
        self._incoming: dict[Hashable, _Incoming] = {}

    def receive(self, key: Hashable, fragment: Fragment, payload: bytes, now: float) -> list[ReceiverEvent]:
        """Take one block; RemoteProtocolError, and nothing changed, for one that fits no message or finds no room."""
        events = self.on_deadline(now)
        number = 0 if fragment.first else fragment.number
        incoming = self._incoming.get(key)
        if (
            incoming is not None
            and incoming.done
            and fragment.first
            and (incoming.total, incoming.first) != (fragment.number, payload)
        ):
            incoming = None
        total = fragment.number if fragment.first else incoming.total if incoming else None
        if fragment.first and total == 0:
            raise RemoteProtocolError("First block of a message of 0 blocks")
        if not fragment.first and number == 0:
            raise RemoteProtocolError("Block 0 is not marked as the first of its message")
        if incoming is None:
            if sum(not other.done for other in self._incoming.values()) >= self._capacity:
                raise RemoteProtocolError(f"Fragmented message while {self._capacity} are being put together")
            incoming = _Incoming()
        elif incoming.total is not None and total != incoming.total:
            raise RemoteProtocolError(f"First block says {total} blocks, it said {incoming.total} before")
        highest = max(incoming.blocks, default=0)
        if total is not None and max(number, highest) >= total:
            raise RemoteProtocolError(f"Block {max(number, highest)} of a message of {total} blocks")
        self._incoming[key] = incoming
        incoming.total = total
        incoming.deadline = now + self._timeout
        if number in incoming.blocks or incoming.done:
            # The acknowledgement was lost, or the sender's window is smaller than ours: say what we have.
            start = (
                number // self._window * self._window
                if number < incoming.base or incoming.done
                else incoming.base
            )
            return [*events, self._acknowledgement(key, incoming, start)]
        incoming.blocks[number] = payload
        end = incoming.base + self._window
        if total is not None:
            end = min(end, total)
        complete = all(block in incoming.blocks for block in range(incoming.base, end))
        if complete or number >= end - 1:
            events.append(self._acknowledgement(key, incoming, incoming.base))
        if complete:
            incoming.base = end
        if incoming.base == total:
            incoming.done = True
            events.append(MessageReassembled(key, b"".join(incoming.blocks[block] for block in range(total))))
            incoming.first = incoming.blocks[0]
            incoming.blocks.clear()
        return events

    def _acknowledgement(self, key: Hashable, incoming: _Incoming, start: int) -> BlocksToAcknowledge:
        # TP/PRO/BV-43: bits of blocks outside the window, or past the message's end, are set.
        bitfield = ALL_ARRIVED
        if not incoming.done and start >= incoming.base:
            end = start + self._window
            if incoming.total is not None:
                end = min(end, incoming.total)
            for block in range(start, end):
                if block not in incoming.blocks:
                    bitfield &= ~(1 << (block - start))
        return BlocksToAcknowledge(key, Fragment(start == 0, start, bitfield))

    def next_deadline(self) -> float | None:
        """When `on_deadline` wants to be called; None: nothing to wait for."""
        return min((incoming.deadline for incoming in self._incoming.values()), default=None)

    def on_deadline(self, now: float) -> list[ReceiverEvent]:
        """Forget what is due at `now`."""
        events: list[ReceiverEvent] = []
        for key, incoming in list(self._incoming.items()):
            if now < incoming.deadline:
                continue
            del self._incoming[key]
            if not incoming.done:
                missing = None if incoming.total is None else incoming.total - len(incoming.blocks)
                events.append(MessageAbandoned(key, missing))
        return events
