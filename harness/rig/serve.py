"""Serves an emulated NCP to other programs in real time, over TCP or a pseudo-terminal."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import tty
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

from harness.clock import RealTimeDriver
from harness.emulation.ncp import EmulatedNcp
from harness.errors import RigError
from harness.rig.bench import EmulatedBench
from harness.rig.schema import RigFile

_READ_SIZE = 4096
_HANDOVER = 0.2  # seconds that a new connection waits for the one before it to end
_FLUSH_INTERVAL = 1.0  # seconds between two looks that a reader gets at the capture
_END_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class _Line:
    """The NCP's end of a serial line that one host at a time may hold."""

    def __init__(self, ncp: EmulatedNcp, driver: RealTimeDriver, say: Callable[[str], None]) -> None:
        self._ncp = ncp
        self._driver = driver
        self._say = say
        self._told = 0
        self.release()

    @property
    def taken(self) -> bool:
        """Whether a host holds it."""
        return self._ncp.on_output is not _nowhere

    def hold(self, to_host: Callable[[bytes], None]) -> None:
        """Give the line to a host that takes what the NCP says with `to_host`."""
        self._ncp.on_output = to_host

    def release(self) -> None:
        """The host has gone. The NCP keeps its power, and says what it says to nobody."""
        self._ncp.on_output = _nowhere

    def from_host(self, data: bytes) -> None:
        """Hand the NCP what the host wrote, now."""
        self._ncp.receive(data, self._driver.now())
        self._driver.wake()
        self.tell()

    def tell(self) -> None:
        """Say, once each, which commands the NCP could not answer as a stick does: no test is there to fail by them."""
        failures = self._ncp.failures
        for sentence in failures[self._told :]:
            self._say(sentence)
        self._told = len(failures)


def _nowhere(data: bytes) -> None:
    """What an NCP says while no host holds the line is lost."""


async def serve(file: RigFile, listen: str, *, pcap: Path | None, say: Callable[[str], None]) -> None:
    """Serve the emulated NCP of `file`'s hub on `listen`, until SIGINT or SIGTERM.

    `listen` is `tcp:HOST:PORT` (port 0 takes a free one) or `pty:LINK`. `say` gets one line with the URL that a host
    opens, and one for each command that the NCP does not know. Raises RigError for an address that cannot be listened
    on, and for a rig without an emulated NCP; nothing is written then. What an emulated member raises ends the serving.
    """
    kind, _, where = listen.partition(":")
    if kind not in _SERVERS or not where:
        raise RigError(f"--listen {listen}: neither tcp:HOST:PORT nor pty:LINK")
    with EmulatedBench(file) as bench, _ending() as ended:
        ncp = bench.hub_ncp()
        driver = RealTimeDriver(bench.air, asyncio.get_running_loop())
        line = _Line(ncp, driver, say)
        async with _SERVERS[kind](line, where, listen) as url:
            if pcap is not None:
                bench.capture(pcap, pcap.parent)
            bench.power_on()
            driver.wake()
            say(f"EZSP {ncp.ezsp_version} NCP of {file.name} at {url}")
            following = asyncio.create_task(_flush(bench))
            try:
                await ended
            finally:
                following.cancel()
                driver.stop()
                line.tell()


async def _flush(bench: EmulatedBench) -> None:
    """Let the capture be followed while it grows."""
    while True:
        await asyncio.sleep(_FLUSH_INTERVAL)
        bench.flush()


@contextmanager
def _ending() -> Iterator[asyncio.Future[None]]:
    """What to wait for: SIGINT and SIGTERM end it, and so does, raising it, what a callback of the loop raises.

    The loop alone would print such an error, and go on with half a bench.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def stop() -> None:
        if not ended.done():
            ended.set_result(None)

    def fail(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, Exception) and not ended.done():
            ended.set_exception(error)
        else:
            loop.default_exception_handler(context)

    for number in _END_SIGNALS:
        loop.add_signal_handler(number, stop)
    loop.set_exception_handler(fail)
    try:
        yield ended
    finally:
        loop.set_exception_handler(None)
        for number in _END_SIGNALS:
            loop.remove_signal_handler(number)


class _TcpHost(asyncio.Protocol):
    """One connection: it holds the line, or it is refused because another one does.

    A host that closes its port and opens it again at once may be accepted before its old connection is seen to end:
    a new one waits a moment for the line, with what it has said so far.
    """

    def __init__(self, line: _Line, connections: list[asyncio.Transport]) -> None:
        self._line = line
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._holds = False
        self._said = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._connections.append(transport)
        if self._line.taken:
            asyncio.get_running_loop().call_later(_HANDOVER, self._take)
        else:
            self._take()

    def _take(self) -> None:
        transport = self._transport
        if transport is None:
            return  # it has gone
        if self._line.taken:  # one NCP, one host: a second one would take the first one's answers
            transport.abort()
            return
        self._holds = True
        self._line.hold(transport.write)
        if self._said:
            self._line.from_host(self._said)

    def data_received(self, data: bytes) -> None:
        if self._holds:
            self._line.from_host(data)
        else:
            self._said += data

    def connection_lost(self, exc: Exception | None) -> None:
        if self._transport is not None:  # a host may go without a word; the next one starts with a reset
            self._connections.remove(self._transport)
            self._transport = None
        if self._holds:
            self._holds = False
            self._line.release()


@asynccontextmanager
async def _serve_tcp(line: _Line, where: str, listen: str) -> AsyncIterator[str]:
    host, _, port = where.rpartition(":")
    if not host or not (port.isascii() and port.isdecimal()) or int(port) > 65535:
        raise RigError(f"--listen {listen}: the address is not HOST:PORT")
    connections: list[asyncio.Transport] = []
    try:
        server = await asyncio.get_running_loop().create_server(
            lambda: _TcpHost(line, connections), host.strip("[]"), int(port)
        )
    except OSError as error:
        raise RigError(f"--listen {listen}: cannot listen there: {_reason(error)}") from error
    try:
        yield f"tcp://{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for connection in tuple(connections):
            connection.abort()
        await server.wait_closed()


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror) or error.errno is None:
        return error.strerror or str(error)
    return os.strerror(error.errno)  # asyncio's own text repeats the address


@asynccontextmanager
async def _serve_pty(line: _Line, where: str, listen: str) -> AsyncIterator[str]:
    loop = asyncio.get_running_loop()
    # The far end stays open here too, or the near end would report an error whenever no host has it open.
    near, far = os.openpty()
    try:
        tty.setraw(far)
        os.set_blocking(near, False)
        try:
            os.symlink(os.ttyname(far), where)
        except OSError as error:
            raise RigError(f"--listen {listen}: cannot make that link: {_reason(error)}") from error

        def to_host(data: bytes) -> None:
            with suppress(BlockingIOError):  # nobody reads: the bytes are lost, as on a line without a host
                os.write(near, data)

        line.hold(to_host)
        loop.add_reader(near, lambda: line.from_host(os.read(near, _READ_SIZE)))
        try:
            yield where
        finally:
            loop.remove_reader(near)
            line.release()
            with suppress(FileNotFoundError):  # it may have been tidied away meanwhile
                os.unlink(where)
    finally:
        os.close(near)
        os.close(far)


_SERVERS = {"tcp": _serve_tcp, "pty": _serve_pty}
