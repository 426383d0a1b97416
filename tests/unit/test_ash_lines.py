"""ASH over lossy lines, and with unmodified bellows as the other end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from typing import Any

import bellows.ash
import bellows.types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.clock import VirtualLoop
from harness.wire.ash import (
    RESET_SOFTWARE,
    UNACKNOWLEDGED_OCTETS,
    AshHost,
    AshNcp,
    Failed,
    FrameReceived,
    Reset,
)
from harness.wire.ash_frames import FLAG

COMMAND = bytes.fromhex("00000004")

# --- lossy lines --------------------------------------------------------------------------------------------


def disturb(source: random.Random, rate: float) -> Callable[[bytes], bytes]:
    """A line that now and then loses a frame, flips a bit of it, or takes octets away or puts some in.

    It leaves zeros alone: ASH's CRC, as any that starts and ends without inversion, does not see a zero too many or
    too few behind a frame, and so neither end can (bellows is taken in as well).
    """

    def carry(data: bytes) -> bytes:
        out = bytearray()
        for part in data.split(FLAG)[:-1]:
            frame = bytearray(part + FLAG)
            if source.random() < rate:
                fault = source.randrange(5)
                place = source.randrange(len(frame))
                if fault == 0:
                    frame.clear()
                elif fault == 1:
                    frame[place] ^= 1 << source.randrange(8)
                elif fault == 2 and frame[place]:
                    del frame[place]
                elif fault == 3 and all(frame[place:]):
                    del frame[place:]
                elif fault == 4:
                    frame[place:place] = bytes(
                        source.randrange(1, 256) for _ in range(source.randrange(1, 6))
                    )
            out += frame
        return bytes(out)

    return carry


@given(
    seed=st.integers(0, 2**32),
    rate=st.sampled_from([0.0, 0.05, 0.2, 0.5]),
    window=st.integers(1, 7),
    commands=st.integers(0, 12),
    answers=st.integers(0, 12),
)
@settings(max_examples=120, derandomize=True)
def test_a_lossy_line_delivers_every_frame_once_and_in_order_or_fails(
    seed: int, rate: float, window: int, commands: int, answers: int
) -> None:
    """Both directions at once; without a reported failure everything arrives, with one a beginning of it."""
    source = random.Random(seed)
    host, ncp = AshHost(window=window), AshNcp(window=window)
    sent = {
        host: [source.randbytes(source.randrange(3, 90)) for _ in range(commands)],
        ncp: [source.randbytes(source.randrange(3, 90)) for _ in range(answers)],
    }
    received: dict[Any, list[bytes]] = {host: [], ncp: []}
    line = disturb(source, rate)
    host.reset(0.0)
    for frame in sent[host]:
        host.send(frame)
    failed = False
    started = False
    now = 0.0
    while not failed:
        quiet = False
        while not quiet:
            quiet = True
            for sender, receiver in ((host, ncp), (ncp, host)):
                out = sender.data_to_send(now)
                quiet &= not out
                for event in receiver.receive(line(out), now):
                    if isinstance(event, FrameReceived):
                        received[receiver].append(event.data)
                    elif isinstance(event, Failed):
                        failed = True
                    elif isinstance(event, Reset) and receiver is host:
                        assert not started
                        started = True
                        for frame in sent[ncp]:
                            ncp.send(frame)
        now += 0.001
        deadlines = [deadline for end in (host, ncp) if (deadline := end.next_deadline()) is not None]
        if not deadlines:
            break
        now = max(now, min(deadlines))
        for end in (host, ncp):
            failed |= any(isinstance(event, Failed) for event in end.on_deadline(now))
        assert now < 300.0
    for sender, receiver in ((host, ncp), (ncp, host)):
        expected = sent[sender]
        assert received[receiver] == (expected[: len(received[receiver])] if failed else expected)
    if rate == 0.0:
        assert not failed


# --- bellows as the host ------------------------------------------------------------------------------------


class BellowsHost:
    """Bellows' ASH on one end of a line in memory, an AshNcp on the other that answers each frame with its reverse."""

    def __init__(self, loop: VirtualLoop, line: Callable[[bytes], bytes]) -> None:
        self._loop = loop
        self._line = line
        self.ncp = AshNcp()
        self.ash = bellows.ash.AshProtocol(self)
        self.answers: list[bytes] = []
        self.commands: list[bytes] = []
        self.resets: list[int] = []
        self.errors: list[int] = []
        self.reset_seen = asyncio.Event()
        self.longest = 0
        loop.attach(self)
        self.ash.connection_made(self)

    # What bellows calls its transport for.
    def write(self, data: bytes) -> None:
        self._loop.call_later(0.002, self._to_ncp, self._line(bytes(data)))

    def is_closing(self) -> bool:
        return False

    def close(self) -> None:
        self._loop.detach(self)

    # What bellows tells the layer above.
    def connection_made(self, protocol: object) -> None:
        pass

    def connection_lost(self, error: Exception | None) -> None:
        pass

    def data_received(self, data: bytes) -> None:
        self.answers.append(bytes(data))

    def reset_received(self, code: int) -> None:
        self.resets.append(int(code))
        self.reset_seen.set()

    def error_received(self, code: int) -> None:
        self.errors.append(int(code))

    # The NCP's end.
    def next_deadline(self) -> float | None:
        return self.ncp.next_deadline()

    def on_deadline(self, now: float) -> None:
        self.ncp.on_deadline(now)
        self._flush(now)

    def _to_ncp(self, data: bytes) -> None:
        now = self._loop.time()
        for event in self.ncp.receive(data, now):
            if isinstance(event, FrameReceived):
                self.commands.append(event.data)
                self.ncp.send(event.data[::-1])
        self._flush(now)

    def _flush(self, now: float) -> None:
        if data := self.ncp.data_to_send(now):
            self.longest = max(self.longest, len(data))
            self._loop.call_later(0.002, self.ash.data_received, self._line(data))

    def send_callback(self, frame: bytes) -> None:
        self.ncp.send(frame, callback=True)
        self._flush(self._loop.time())

    async def restart(self) -> None:
        for _ in range(5):
            self.ash.send_reset()
            try:
                async with asyncio.timeout(3.0):
                    await self.reset_seen.wait()
            except TimeoutError:
                continue
            return


@pytest.fixture
def virtual_loop() -> Iterator[VirtualLoop]:
    """A loop on virtual time: lost frames cost no real seconds."""
    loop = VirtualLoop()
    yield loop
    loop.close()


def test_unmodified_bellows_exchanges_frames_with_the_ncp(virtual_loop: VirtualLoop) -> None:
    """Reset, then frames both ways over all frame numbers; bellows sees each answer and each callback once."""

    async def scenario() -> BellowsHost:
        line = BellowsHost(virtual_loop, bytes)
        await line.restart()
        for number in range(20):
            await line.ash.send_data(bytes([number]) * (3 + number))
            line.send_callback(b"callback %d" % number)
        await asyncio.sleep(1)
        line.ash.close()
        return line

    line = virtual_loop.run_until_complete(scenario())
    assert line.resets == [RESET_SOFTWARE]
    assert line.commands == [bytes([number]) * (3 + number) for number in range(20)]
    assert [answer for answer in line.answers if not answer.startswith(b"callback")] == line.commands
    assert [answer for answer in line.answers if answer.startswith(b"callback")] == [
        b"callback %d" % number for number in range(20)
    ]
    assert line.ncp.unacknowledged == 0


@pytest.mark.parametrize("seed", range(6))
def test_unmodified_bellows_gets_everything_over_a_lossy_line(virtual_loop: VirtualLoop, seed: int) -> None:
    """With one frame in ten disturbed each way, nothing is lost, doubled or out of order, in either direction."""

    async def scenario() -> BellowsHost:
        line = BellowsHost(virtual_loop, disturb(random.Random(seed), 0.1))
        await line.restart()
        for number in range(30):
            await line.ash.send_data(b"command %d" % number)
            line.send_callback(b"callback %d" % number)
        await asyncio.sleep(20)
        line.ash.close()
        return line

    line = virtual_loop.run_until_complete(scenario())
    assert line.errors == []
    assert line.commands == [b"command %d" % number for number in range(30)]
    assert [answer[::-1] for answer in line.answers if answer.endswith(b"mmoc")] == line.commands
    assert [answer for answer in line.answers if answer.startswith(b"callback")] == [
        b"callback %d" % number for number in range(30)
    ]


def test_a_burst_of_callbacks_never_overflows_bellows_buffer(virtual_loop: VirtualLoop) -> None:
    """Forty callbacks of 150 octets at once all arrive: no write is longer than bellows can hold."""

    async def scenario() -> BellowsHost:
        line = BellowsHost(virtual_loop, bytes)
        await line.restart()
        for number in range(40):
            line.send_callback(bytes([number]) * 150)
        await asyncio.sleep(5)
        line.ash.close()
        return line

    line = virtual_loop.run_until_complete(scenario())
    assert line.answers == [bytes([number]) * 150 for number in range(40)]
    assert line.longest <= UNACKNOWLEDGED_OCTETS


def test_bellows_learns_that_the_ncp_has_failed(virtual_loop: VirtualLoop) -> None:
    """ERROR reaches bellows' layer above, its send fails, and a reset brings the link back."""

    async def scenario() -> BellowsHost:
        line = BellowsHost(virtual_loop, bytes)
        await line.restart()
        line.ncp.fail(0x80)
        line._flush(virtual_loop.time())
        await asyncio.sleep(0.1)
        with pytest.raises(bellows.ash.NcpFailure):
            await line.ash.send_data(COMMAND)
        line.reset_seen.clear()
        await line.restart()
        await line.ash.send_data(COMMAND)
        await asyncio.sleep(0.1)
        line.ash.close()
        return line

    line = virtual_loop.run_until_complete(scenario())
    assert line.errors == [0x80]
    assert line.resets == [RESET_SOFTWARE, RESET_SOFTWARE]
    assert line.answers == [COMMAND[::-1]]
