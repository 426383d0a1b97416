"""Tests of the serial console: its dialect, a device on a pseudo-terminal, and the consoles of a rig's members."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import select
import socket
import threading
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serial
from hypothesis import given
from hypothesis import strategies as st

from harness.clock import VirtualLoop
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.members.console import UNKNOWN_COMMAND, ConsoleDialect
from harness.rig.console import ask, read_version
from harness.rig.open import Rig, open_rig
from harness.rig.schema import load_rig

DIALECT = ConsoleDialect()
BAUD = 115200
ANSWER = b"firmware 0a0B0c0D\r\n"
VERSION = 0x0A0B0C0D

LONGEST = 10.0  # seconds until a test that hangs ends; where an answer comes, nothing takes one
SHORT = 0.5  # seconds for an answer that never comes

BENCH = """\
schema: harness.rig/1
name: bench
network: {{channel: 11, pan_id: 0x4A11}}
members:
  hub: {{by: equipment, profile: hub, eui64: 00-0D-6F-00-0A-90-69-E7}}
  ppmid: {{by: equipment, profile: {profile}, eui64: 00-0D-6F-00-0B-7A-11-02{console}}}
"""

EMULATED = """\
schema: harness.rig/1
name: emulated
network: {channel: 11, pan_id: 0x4A11}
members:
  hub: {by: emulation, profile: hub, eui64: 00-0D-6F-00-0A-90-69-E7}
  ppmid:
    by: emulation
    profile: chatty
    eui64: 00-0D-6F-00-0B-7A-11-02
    install_code: 83FED3407A939723A5C639B26916D505C3B5
    firmware_version: 0x0A0B0C0D
"""


# --- the dialect ------------------------------------------------------------------------------------------------------

around = st.text(st.characters(exclude_characters="{}"), max_size=8)
versions = st.integers(0, 0xFFFF_FFFF)
dialects = st.builds(
    lambda command, before, after: ConsoleDialect(command, f"{before}{{version}}{after}"),
    around, around, around,
)  # fmt: skip


@given(dialects, versions)
def test_what_a_device_answers_is_read_back(dialect: ConsoleDialect, version: int) -> None:
    """Whatever stands around the version in the template, be it special to a regular expression, a digit or a blank."""
    line = dialect.answer(f" {dialect.version_command}\r\n", version)
    assert dialect.parse(line) == dialect.parse(f"{line}\r\n") == version


@given(dialects, st.text(max_size=20), versions)
def test_an_unknown_command_is_never_answered_with_a_version(
    dialect: ConsoleDialect, line: str, version: int
) -> None:
    """What the console does not know it says so, and no dialect can read that as a version."""
    if line.strip() != dialect.version_command.strip():
        said = dialect.answer(line, version)
        assert said == UNKNOWN_COMMAND
        assert dialect.parse(said) is None


@pytest.mark.parametrize("digits", ["deadbeef", "DEADBEEF", "DeadBeef"])
def test_hexadecimal_digits_may_be_large_or_small(digits: str) -> None:
    """The case of the digits says nothing."""
    assert DIALECT.parse(f"firmware {digits}") == 0xDEADBEEF


@pytest.mark.parametrize(
    "line",
    [
        "",
        "version",
        "firmware",
        "firmware 0102030",
        "firmware 010203040",
        "firmware 0x01020304",
        "firmware 0102030g",
        "firmware 01020304 erased",
        "[12.5] firmware 01020304",
        "Firmware 01020304",
        "firmware {version}",
        # Digits to str.isdigit, of another script.
        "firmware \u0660\u0661\u0662\u0663\u0664\u0665\u0666\u0667",
    ],
)
def test_only_the_whole_line_is_an_answer(line: str) -> None:
    """8 hexadecimal digits in their place and nothing besides: a log may speak of other versions."""
    assert DIALECT.parse(line) is None


def test_what_is_special_to_a_regular_expression_stands_for_itself() -> None:
    """A template is text, not a pattern."""
    dialect = ConsoleDialect("ver", "fw (v.1) {version}")
    assert dialect.parse("fw (v.1) 00000007") == 7
    assert dialect.parse("fw (vX1) 00000007") is None


@pytest.mark.parametrize("template", ["firmware", "{version} {version}"])
def test_an_answer_has_one_place_for_the_version(template: str) -> None:
    """A dialect whose answer could not be read is refused when it is made."""
    with pytest.raises(LocalProtocolError, match=r"must have \{version\} once"):
        ConsoleDialect("version", template)


# --- a device on a line -----------------------------------------------------------------------------------------------


class Played:
    """A device at the far end of a pseudo-terminal: what it has heard, and the port where it is asked."""

    def __init__(self) -> None:
        self.near, self.far = os.openpty()
        tty.setraw(self.far)
        self.port = os.ttyname(self.far)
        self.heard = b""

    def hear(self) -> bool:
        """Wait for a line; whether one came."""
        while not self.heard.endswith(b"\n"):
            if not select.select([self.near], [], [], LONGEST)[0]:
                return False
            self.heard += os.read(self.near, 100)
        return True

    def say(self, *pieces: bytes) -> None:
        """Say so, with a pause between the pieces."""
        for piece in pieces:
            os.write(self.near, piece)
            time.sleep(0.002)


@contextmanager
def played(then: Callable[[Played], None] = lambda device: None) -> Iterator[Played]:
    """Play a device that does `then` once it has heard a line."""
    device = Played()
    thread = threading.Thread(target=lambda: device.hear() and then(device))
    thread.start()
    try:
        yield device
    finally:
        thread.join()
        for end in (device.near, device.far):
            os.close(end)


@pytest.mark.parametrize(
    "pieces",
    [
        pytest.param([ANSWER], id="at once"),
        pytest.param([ANSWER[:12], ANSWER[12:]], id="in two pieces"),
        pytest.param([bytes([octet]) for octet in ANSWER], id="octet by octet"),
        pytest.param([ANSWER[:-1], b"\n"], id="torn between CR and LF"),
        pytest.param([ANSWER.replace(b"\r\n", b"\n")], id="LF only"),
        pytest.param([ANSWER.replace(b"\r\n", b"\r")], id="CR only"),
        pytest.param([b"version\r\n" + ANSWER + b"> "], id="echo and prompt"),
        pytest.param(
            [b"rssi -71\r\nfirmware 01", b"020304 erased\r\n\r\n", b"[12.5] poll\r\n", ANSWER, b"[12.6] po"],
            id="between lines of a log",
        ),
        pytest.param([b"\xff\x00\xfe\r\n\xc3\r\n", ANSWER], id="after octets that are no text"),
        pytest.param([b"unknown command\r\nfirmware 0a0b0c0\r\n", ANSWER], id="after wrong lines"),
    ],
)
def test_the_version_is_read_out_of_what_a_console_says(pieces: list[bytes]) -> None:
    """However it comes, and whatever comes before and after; the command is sent once, with CR LF."""
    with played(lambda device: device.say(*pieces)) as device:
        assert ask(device.port, BAUD, DIALECT, LONGEST) == VERSION
        assert device.heard == b"version\r\n"


def test_what_was_said_before_the_question_is_no_answer() -> None:
    """A version that still waits in the port, from before an upgrade perhaps, is dropped."""
    with played(lambda device: device.say(ANSWER)) as device:
        device.say(b"firmware 01010101\r\n")
        assert select.select([device.far], [], [], LONGEST)[0], "it is in the port before that is opened"
        assert ask(device.port, BAUD, DIALECT, LONGEST) == VERSION


def test_command_and_answer_are_the_dialects() -> None:
    """What is not ASCII travels as UTF-8."""
    dialect = ConsoleDialect("zeig état", "état: {version}.")
    with played(lambda device: device.say("état: 00000007.\n".encode())) as device:
        assert ask(device.port, 9600, dialect, LONGEST) == 7
        assert device.heard == "zeig état\r\n".encode()


@pytest.mark.parametrize(
    ("pieces", "last"),
    [
        ([], "it said nothing"),
        ([b"\r\n"], "it said nothing"),
        ([b"boot\r\nunknown command\r\n", b"> "], "the last line was 'unknown command'"),
        ([b"firmware 0a0b", b"0c0d"], "the last line was 'firmware 0a0b0c0d'"),
        ([b"\xff\xfe\r\n"], r"the last line was '\\xff\\xfe'"),
        ([b"00112233445566778899AABBCCDDEEFF\r\n"], "the last line was 32 hexadecimal digits"),
    ],
)
def test_no_answer_is_the_devices_fault_and_what_it_said_instead_is_shown(
    pieces: list[bytes], last: str
) -> None:
    """Silence, a wrong line, one that never ends: with the port and the command. A key in a log is not repeated."""
    with played(lambda device: device.say(*pieces)) as device:
        with pytest.raises(RemoteProtocolError) as caught:
            ask(device.port, BAUD, DIALECT, SHORT)
        said = f"{device.port}: no version in answer to 'version' within {SHORT:g} s; {last}"
        assert str(caught.value) == said


def test_a_console_that_never_stops_talking_is_given_up_all_the_same() -> None:
    """Lines without an end do not keep the question open."""
    quiet = threading.Event()

    def chatter(device: Played) -> None:
        while not quiet.is_set():
            device.say(b"tick\r\n")

    with played(chatter) as device:
        try:
            with pytest.raises(RemoteProtocolError, match="the last line was 'tick'"):
                ask(device.port, BAUD, DIALECT, SHORT)
        finally:
            quiet.set()


def test_a_console_is_reached_over_tcp_as_well() -> None:
    """pyserial's socket:// URL, as a raw ser2net port is opened."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection, connection.makefile("rwb", buffering=0) as line:
                if line.readline() == b"version\r\n":
                    line.write(b"[1.0] hello\r\n" + ANSWER)
                    line.readline()  # until it hangs up

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"socket://127.0.0.1:{server.getsockname()[1]}"
        assert ask(url, BAUD, DIALECT, LONGEST) == VERSION
        thread.join()


def refused_port() -> str:
    """Return the URL of a TCP port where nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"socket://127.0.0.1:{server.getsockname()[1]}"


@pytest.mark.parametrize("kind", ["missing", "a file", "no such scheme", "nobody there"])
def test_a_port_that_cannot_be_opened_is_the_benchs_fault(kind: str, tmp_path: Path) -> None:
    """A path that is not there, one that is no terminal, a URL that pyserial does not know, a refused connection."""
    (tmp_path / "file").touch()
    url = {
        "missing": str(tmp_path / "none"),
        "a file": str(tmp_path / "file"),
        "no such scheme": "console://bench",
        "nobody there": refused_port(),
    }[kind]
    with pytest.raises(RigError) as caught:
        ask(url, BAUD, DIALECT, SHORT)
    assert str(caught.value).startswith(f"{url} cannot be opened: ")


def test_a_port_that_somebody_holds_is_not_read_beside_them() -> None:
    """Two readers of one port would each get some of the octets."""
    with played(lambda device: device.say(ANSWER)) as device:
        with serial.Serial(device.port, exclusive=True), pytest.raises(RigError, match="exclusively lock"):
            ask(device.port, BAUD, DIALECT, LONGEST)
        assert ask(device.port, BAUD, DIALECT, LONGEST) == VERSION


def test_a_port_that_is_unplugged_while_it_is_asked_is_the_benchs_fault() -> None:
    """The adapter is gone, which says nothing about the device."""

    def unplug(device: Played) -> None:
        os.close(device.near)
        device.near = os.open(os.devnull, os.O_RDWR)

    with played(unplug) as device, pytest.raises(RigError) as caught:
        ask(device.port, BAUD, DIALECT, LONGEST)
    assert str(caught.value).startswith(f"{device.port} failed while it was asked: ")


# --- the members of a rig ---------------------------------------------------------------------------------------------


def profile(folder: Path, console: str) -> str:
    """Write the PPMID's profile with a console of its own, and return its name."""
    (folder / "device_profiles").mkdir()
    standing = Path(__file__).resolve().parents[2] / "device_profiles" / "ppmid.yaml"
    text = f"{standing.read_text()}\nconsole: {console}\n"
    (folder / "device_profiles" / "chatty.yaml").write_text(text)
    return "chatty"


def bench(folder: Path, *, console: str | None, profile: str = "ppmid") -> Rig:
    """Return a bench of equipment, whose PPMID has this console."""
    path = folder / "bench.yaml"
    path.write_text(BENCH.format(profile=profile, console=f", console: {console!r}" if console else ""))
    return Rig(load_rig(path))


async def test_equipment_is_asked_at_its_port_in_its_models_words(tmp_path: Path) -> None:
    """The rig file names the port, the profile the words. The loop goes on meanwhile: here it plays the device."""
    device = Played()
    loop = asyncio.get_running_loop()

    def hear() -> None:
        device.heard += os.read(device.near, 100)
        if device.heard.endswith(b"\r\n"):
            os.write(device.near, b"version\r\nfw=0a0b0c0d\r\n")

    loop.add_reader(device.near, hear)
    name = profile(tmp_path, "{baud: 9600, version_command: ver, version_answer: 'fw={version}'}")
    ppmid = bench(tmp_path, console=device.port, profile=name).device("ppmid")
    assert await ppmid.console_version() == VERSION
    assert device.heard == b"ver\r\n"
    loop.remove_reader(device.near)
    for end in (device.near, device.far):
        os.close(end)


async def test_silent_equipment_is_named(tmp_path: Path) -> None:
    """The member, beside the port and the command."""
    with played() as device:
        ppmid = bench(tmp_path, console=device.port).device("ppmid")
        with pytest.raises(RemoteProtocolError) as caught:
            await read_version(ppmid, within=SHORT)
    said = f"ppmid: {device.port}: no version in answer to 'version' within {SHORT:g} s; it said nothing"
    assert str(caught.value) == said


async def test_a_wrong_port_is_found_in_the_rig_file(tmp_path: Path) -> None:
    """The error says which file and which key to look at."""
    port = str(tmp_path / "none")
    ppmid = bench(tmp_path, console=port).device("ppmid")
    with pytest.raises(RigError) as caught:
        await read_version(ppmid)
    assert str(caught.value).startswith(
        f"{tmp_path / 'bench.yaml'}: members.ppmid.console: {port} cannot be opened: "
    )


async def test_equipment_without_a_console_cannot_be_asked(tmp_path: Path) -> None:
    """That is a gap of the bench, not a fault of the device."""
    ppmid = bench(tmp_path, console=None).device("ppmid")
    with pytest.raises(RigError, match=r"bench\.yaml: members\.ppmid\.console: is missing"):
        await read_version(ppmid)


def test_an_emulated_device_has_a_console_of_its_own_while_it_has_power(tmp_path: Path) -> None:
    """It says what it runs, in its profile's words, on the HAN or off it; dark, it says nothing."""
    profile(tmp_path, "{version_command: ver, version_answer: 'fw={version}'}")
    path = tmp_path / "emulated.yaml"
    path.write_text(EMULATED)

    async def run() -> None:
        async with open_rig(path) as rig:
            ppmid = rig.device("ppmid")
            with pytest.raises(RemoteProtocolError, match="ppmid has no power: its console says nothing"):
                await ppmid.console_version()
            await ppmid.power_on()
            assert not ppmid.joined
            assert await ppmid.console_version() == VERSION
            assert ppmid.behaviour is not None
            assert ppmid.behaviour.console("ver") == "fw=0a0b0c0d"
            assert ppmid.behaviour.console("version") == UNKNOWN_COMMAND
            # Hardware that does not speak as its profile says.
            ppmid.behaviour.config = dataclasses.replace(ppmid.behaviour.config, console=DIALECT)
            with pytest.raises(RemoteProtocolError) as caught:
                await ppmid.console_version()
            said = "ppmid: no version in answer to 'ver'; the last line was 'unknown command'"
            assert str(caught.value) == said
            await ppmid.power_off()
            with pytest.raises(RemoteProtocolError, match="has no power"):
                await ppmid.console_version()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(run())
