"""Tests of the `emulated://` URL, opened as bellows opens it: through serialx, on virtual time."""

from __future__ import annotations

import asyncio
import errno

import pytest
import serialx

from harness.clock import VirtualLoop
from harness.radio.emulated import plug_in

URL = "emulated://stick"


class Echo:
    """The far end of the line: it says back what it hears, and remembers when that was."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, float]] = []

    def receive(self, data: bytes, now: float) -> None:
        self.heard.append((data, now))
        self.on_output(data)

    def on_output(self, data: bytes) -> None:
        raise AssertionError("plug_in gives the line its first, deaf, host")

    def next_deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> None:
        """Nothing is ever due."""


class Host(asyncio.Protocol):
    """The near end: what it heard, and how its connection ended."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.made = False
        self.lost: list[Exception | None] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.made = True

    def data_received(self, data: bytes) -> None:
        self.heard.append(data)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)


@pytest.fixture
def echo() -> Echo:
    """Return what stands at the far end of the line."""
    return Echo()


async def opened(url: str = URL) -> tuple[serialx.SerialTransport, Host]:
    """Open the URL as any program does that has serialx open its port."""
    transport, host = await serialx.create_serial_connection(
        asyncio.get_running_loop(), Host, url, baudrate=115200, rtscts=False, xonxoff=True
    )
    assert isinstance(host, Host)
    return transport, host


def plugged(echo: Echo) -> VirtualLoop:
    """Plug the far end into the running loop, and return the loop."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    loop.attach(echo)
    plug_in(loop, URL, echo, echo)
    return loop


@pytest.mark.virtual_time
async def test_octets_go_both_ways_at_once_and_in_order(echo: Echo) -> None:
    """A write reaches the far end within the call, at its own time; the answer comes to the host in another call."""
    await asyncio.sleep(100.0)  # before the far end has begun to live
    plugged(echo)
    transport, host = await opened()
    assert host.made
    await asyncio.sleep(2.5)
    transport.write(b"one")
    transport.write(bytearray(b"two"))
    transport.write(memoryview(b"three"))
    assert echo.heard == [(b"one", 2.5), (b"two", 2.5), (b"three", 2.5)]
    assert host.heard == [], "the host is not called from within its own call"
    await asyncio.sleep(0)
    assert host.heard == [b"one", b"two", b"three"]
    assert transport.get_write_buffer_size() == 0
    transport.close()


@pytest.mark.virtual_time
async def test_an_unknown_name_is_a_file_that_does_not_exist(echo: Echo) -> None:
    """FileNotFoundError, as for a serial port that is not there, with the names that there are."""
    plugged(echo)
    with pytest.raises(FileNotFoundError, match="emulated://stick") as refused:
        await opened("emulated://another")
    assert refused.value.errno == errno.ENOENT
    assert refused.value.filename == "emulated://another"


async def test_on_a_real_loop_there_is_no_emulated_port() -> None:
    """The line lives on virtual time: an ordinary loop has none, and says so."""
    with pytest.raises(FileNotFoundError, match="none"):
        await opened()


@pytest.mark.virtual_time
async def test_a_second_opener_finds_the_port_busy_and_the_first_goes_on(echo: Echo) -> None:
    """EBUSY, as for a serial port that another program holds."""
    plugged(echo)
    transport, host = await opened()
    with pytest.raises(OSError, match="busy") as refused:
        await opened()
    assert refused.value.errno == errno.EBUSY
    transport.write(b"still here")
    await asyncio.sleep(0)
    assert host.heard == [b"still here"]
    transport.close()


@pytest.mark.virtual_time
async def test_a_closed_port_can_be_opened_again(echo: Echo) -> None:
    """What the far end says in between is lost; the first host hears no more, and is told once that it is over."""
    plugged(echo)
    transport, first = await opened()
    transport.write(b"on its way")
    transport.close()
    transport.close()
    assert transport.is_closing()
    await asyncio.sleep(0)
    assert (first.heard, first.lost) == ([], [None])
    echo.on_output(b"to nobody")
    transport, second = await opened()
    transport.write(b"again")
    await asyncio.sleep(0)
    assert (first.heard, second.heard) == ([], [b"again"])
    transport.close()


@pytest.mark.virtual_time
async def test_reading_can_be_paused_and_nothing_is_lost(echo: Echo) -> None:
    """What comes meanwhile is delivered after resume_reading, whole and in order, before what comes later."""
    plugged(echo)
    transport, host = await opened()
    transport.write(b"before ")
    await asyncio.sleep(0)
    transport.pause_reading()
    transport.write(b"during ")
    transport.write(b"it ")
    await asyncio.sleep(1.0)
    assert host.heard == [b"before "]
    transport.resume_reading()
    transport.write(b"after")
    await asyncio.sleep(0)
    assert b"".join(host.heard) == b"before during it after"
    transport.close()


def test_blocking_access_is_refused() -> None:
    """A program that would read the port with blocking calls is told that it needs an event loop."""
    with pytest.raises(serialx.UnsupportedSetting, match=r"emulated://stick: .* asyncio"):
        serialx.serial_for_url(URL, baudrate=115200).open()
