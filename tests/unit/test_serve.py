"""Tests of the served NCP: who may hold its line, what it survives, how it ends."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import socket
import struct
import tty
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from harness.errors import RigError
from harness.rig.schema import load_rig
from harness.rig.serve import serve
from harness.wire.ash import AshHost, FrameReceived
from harness.wire.ezsp import EzspCodec
from tests.unit.served import HARNESS, REPOSITORY, STANDING_RIG, harness

# UG101 3.3 and 3.4: a Cancel octet and RST from the host; RSTACK, ASH version 2, with reset code 0x0B (software).
RST = bytes.fromhex("1AC038BC7E")
RSTACK = bytes.fromhex("1AC1020B0A527E")

TOO_LONG = 20.0  # seconds; nothing here takes one


class Serving:
    """A served NCP, in the test's own loop."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.announced = asyncio.Event()

    def say(self, sentence: str) -> None:
        self.said.append(sentence)
        self.announced.set()

    @property
    def url(self) -> str:
        return self.said[0].rpartition(" ")[2]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        host, port = self.url.removeprefix("tcp://").rsplit(":", 1)
        return await asyncio.open_connection(host, int(port))


@asynccontextmanager
async def serving(listen: str = "tcp:127.0.0.1:0", *, pcap: Path | None = None) -> AsyncIterator[Serving]:
    """Serve the standing rig until the block ends, then send this process SIGTERM, which must end the serving."""
    serving = Serving()
    async with asyncio.timeout(TOO_LONG):
        task = asyncio.create_task(serve(load_rig(STANDING_RIG), listen, pcap=pcap, say=serving.say))
        announced = asyncio.create_task(serving.announced.wait())
        await asyncio.wait((task, announced), return_when=asyncio.FIRST_COMPLETED)
        announced.cancel()
        if task.done():
            await task
        try:
            yield serving
        finally:
            if not task.done():  # else nobody takes the signal
                os.kill(os.getpid(), signal.SIGTERM)
            await task


async def answer_to_reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """Send RST and return what comes up to the end of a frame."""
    writer.write(RST)
    return await reader.readuntil(b"\x7e")


async def test_a_tcp_client_resets_the_ncp() -> None:
    """RST over the connection is answered with RSTACK; port 0 was replaced by a free one in the URL."""
    async with serving() as it:
        assert it.said == [f"EZSP 13 NCP of emulated-devices at {it.url}"]
        assert not it.url.endswith(":0")
        reader, writer = await it.connect()
        assert await answer_to_reset(reader, writer) == RSTACK
        writer.close()


async def test_a_second_client_is_refused_and_the_first_goes_on_undisturbed() -> None:
    """One NCP has one line: the second connection ends without an octet, and the first is answered as before."""
    async with serving() as it:
        reader, writer = await it.connect()
        assert await answer_to_reset(reader, writer) == RSTACK
        second_reader, second = await it.connect()
        second.write(RST)
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await second_reader.readexactly(1)
        second.close()
        assert await answer_to_reset(reader, writer) == RSTACK
        writer.close()


async def test_a_host_that_opens_its_port_anew_before_the_old_connection_has_ended_gets_the_line() -> None:
    """A new connection waits a moment: what it says is answered as soon as the one before it is gone."""
    async with serving() as it:
        reader, writer = await it.connect()
        assert await answer_to_reset(reader, writer) == RSTACK
        next_reader, following = await it.connect()
        following.write(RST)
        writer.close()
        assert await next_reader.readexactly(len(RSTACK)) == RSTACK
        following.close()


async def test_the_next_host_gets_the_line_of_one_that_went_without_a_word() -> None:
    """A host that dies leaves the NCP powered and its line free; the next one starts with a reset, as on a stick."""
    async with serving() as it:
        reader, writer = await it.connect()
        assert await answer_to_reset(reader, writer) == RSTACK
        # Lingering for 0 s makes the kernel send a TCP reset instead of a farewell.
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
        await asyncio.sleep(0.05)
        reader, writer = await it.connect()
        assert await answer_to_reset(reader, writer) == RSTACK
        writer.close()


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_random_octets_do_not_stop_it(seed: int) -> None:
    """64 KiB of random octets are survived; a reset is then answered on the same connection and on the next one."""
    noise = random.Random(seed).randbytes(64 * 1024)
    async with serving() as it:
        reader, writer = await it.connect()
        writer.write(noise)
        await writer.drain()
        writer.write(b"\x7e" + RST)
        heard = b""
        while RSTACK not in heard:
            octets = await reader.read(4096)
            assert octets, "the connection ended"
            heard += octets
        writer.close()
        await writer.wait_closed()
        await asyncio.sleep(0.05)
        reader, writer = await it.connect()
        assert await answer_to_reset(reader, writer) == RSTACK
        writer.close()


async def test_a_command_that_the_ncp_does_not_know_is_said_once() -> None:
    """The host gets invalidCommand, and the operator one line with the command's name: silence would hide it."""
    loop = asyncio.get_running_loop()
    codec, ash = EzspCodec(13), AshHost()
    async with serving() as it:
        reader, writer = await it.connect()
        ash.reset(loop.time())
        ash.send(codec.build_command(1, "delayTest", delay=1))
        ash.send(codec.build_command(2, "nop"))
        answers: list[bytes] = []
        while len(answers) < 2:
            writer.write(ash.data_to_send(loop.time()))
            events = ash.receive(await reader.read(4096), loop.time())
            answers += [event.data for event in events if isinstance(event, FrameReceived)]
        assert codec.parse_response(answers[0]).name == "invalidCommand"
        assert codec.parse_response(answers[1]).name == "nop"
        writer.close()
    assert len(it.said) == 2
    assert "delayTest" in it.said[1]


async def test_what_a_callback_raises_ends_the_serving() -> None:
    """An error inside an emulated member comes out of `serve`, where the loop would only have printed it."""

    def wrong() -> None:
        raise ZeroDivisionError("in a member")

    async def serve_and_go_wrong() -> None:
        async with serving():
            asyncio.get_running_loop().call_soon(wrong)
            await asyncio.sleep(0.01)

    with pytest.raises(ZeroDivisionError, match="in a member"):
        await serve_and_go_wrong()


async def test_a_host_opens_the_pty_and_the_link_is_gone_afterwards(tmp_path: Path) -> None:
    """Octets go both ways unchanged through the pseudo-terminal behind the link, 0x03 and 0x0D among them."""
    link = tmp_path / "stick"
    async with serving(f"pty:{link}") as it:
        assert it.url == str(link)
        descriptor = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        try:
            readable = asyncio.Event()
            asyncio.get_running_loop().add_reader(descriptor, readable.set)
            # 0x03 would be an interrupt, 0x0D a new line, 0x13 a stop, if the terminal were not raw.
            os.write(descriptor, b"\x03\x0d\x13\x7e" + RST)
            await readable.wait()
            assert os.read(descriptor, 100) == RSTACK
            asyncio.get_running_loop().remove_reader(descriptor)
        finally:
            os.close(descriptor)
    assert not link.is_symlink()


async def test_a_host_that_was_killed_does_not_spoil_the_pty_for_the_next_one(tmp_path: Path) -> None:
    """The next host flushes its port, as every serial host does, and its reset is answered."""
    link = tmp_path / "stick"
    async with serving(f"pty:{link}"):
        first = os.open(link, os.O_RDWR | os.O_NOCTTY)
        os.write(first, RST)
        os.close(first)
        await asyncio.sleep(0.05)
        second = os.open(link, os.O_RDWR | os.O_NOCTTY | os.O_NONBLOCK)
        tty.setraw(second, when=tty.TCSAFLUSH)
        os.write(second, RST)
        await asyncio.sleep(0.05)
        assert os.read(second, 100) == RSTACK
        os.close(second)


async def test_a_capture_is_whole_when_the_serving_has_ended(tmp_path: Path) -> None:
    """The pcap and its key file are there, with the beacon requests of a PPMID that finds no network."""
    async with serving(pcap=tmp_path / "air" / "han.pcap"):
        await asyncio.sleep(0.3)
    assert (tmp_path / "air" / "zigbee_pc_keys").is_file()
    # A pcap header has 24 octets; a beacon request with its headers 62.
    assert (tmp_path / "air" / "han.pcap").stat().st_size >= 24 + 2 * 62


async def test_ctrl_c_ends_the_command_with_exit_code_0() -> None:
    """SIGINT is an ordinary end, as SIGTERM is in every other test here, even while a host holds the line."""
    process = await asyncio.create_subprocess_exec(
        *HARNESS, "emulate", str(STANDING_RIG), "--listen", "tcp:127.0.0.1:0",
        cwd=REPOSITORY, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    try:
        async with asyncio.timeout(TOO_LONG):
            assert process.stdout is not None
            announced = (await process.stdout.readline()).decode()
            port = int(announced.rpartition(":")[2])
            _, writer = await asyncio.open_connection("127.0.0.1", port)
            process.send_signal(signal.SIGINT)
            assert await process.stdout.read() == b""
            assert await process.wait() == 0
            writer.close()
    finally:
        if process.returncode is None:
            process.kill()


@pytest.mark.parametrize(
    ("listen", "said"),
    [
        ("tcp", "neither tcp:HOST:PORT nor pty:LINK"),
        ("tcp:", "neither tcp:HOST:PORT nor pty:LINK"),
        ("udp:127.0.0.1:7000", "neither tcp:HOST:PORT nor pty:LINK"),
        ("", "neither tcp:HOST:PORT nor pty:LINK"),
        ("tcp:7000", "the address is not HOST:PORT"),
        ("tcp:127.0.0.1:", "the address is not HOST:PORT"),
        ("tcp:127.0.0.1:ezsp", "the address is not HOST:PORT"),
        ("tcp:127.0.0.1:65536", "the address is not HOST:PORT"),
        ("tcp:127.0.0.1:-1", "the address is not HOST:PORT"),
        ("tcp:127.0.0.1:²", "the address is not HOST:PORT"),
        ("tcp:256.256.256.256:0", "cannot listen there: "),
        ("tcp:192.0.2.1:0", "cannot listen there: "),
        ("pty:/nowhere/stick", "cannot make that link: No such file or directory"),
    ],
)
async def test_what_cannot_be_listened_on_is_refused(listen: str, said: str, tmp_path: Path) -> None:
    """The sentence repeats the address and says what is wrong with it; no capture is begun."""
    with pytest.raises(RigError) as refused:
        async with serving(listen, pcap=tmp_path / "han.pcap"):
            pass
    assert str(refused.value).startswith(f"--listen {listen}: {said}")
    assert os.listdir(tmp_path) == []


async def test_a_port_in_use_is_refused_and_its_owner_undisturbed(tmp_path: Path) -> None:
    """One sentence and exit code 1; the one who has the port goes on serving."""
    async with serving() as it:
        port = int(it.url.rpartition(":")[2])
        done = await asyncio.to_thread(
            harness, "emulate", STANDING_RIG,
            "--listen", f"tcp:127.0.0.1:{port}", "--pcap", tmp_path / "han.pcap", timeout=TOO_LONG,
        )  # fmt: skip
        said = f"Error: --listen tcp:127.0.0.1:{port}: cannot listen there: Address already in use\n"
        assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
        reader, writer = await it.connect()
        assert await answer_to_reset(reader, writer) == RSTACK
        writer.close()
        assert os.listdir(tmp_path) == []
    assert len(it.said) == 1


async def test_a_link_that_exists_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A file of somebody's is not replaced by a pty."""
    link = tmp_path / "stick"
    link.write_text("mine")
    with pytest.raises(RigError, match="cannot make that link: File exists"):
        async with serving(f"pty:{link}"):
            pass
    assert link.read_text() == "mine"
