"""Reads a device's firmware version on its serial console, beside the HAN."""

from __future__ import annotations

import asyncio
import re
import termios
import time
from typing import TYPE_CHECKING

import serial

from harness.emulation.host import MemberNode
from harness.errors import RemoteProtocolError, RigError
from harness.members.console import ConsoleDialect
from harness.members.device import HanDevice
from harness.rig.document import shown
from harness.rig.profile import DeviceProfile

if TYPE_CHECKING:
    from harness.rig.nouns import Device

# Seconds that one read waits at most: how much later than it should a silent console is given up.
_POLL = 0.05
# What pyserial lets out of a port that is not there, is taken, is no terminal, or is unplugged; its own are OSErrors.
_PORT_FAILED = (OSError, termios.error)


async def read_version(device: Device, *, within: float = 5.0) -> int:
    """Read the firmware version that a device runs on its console: its own, or the port that the rig file names.

    A port is given `within` seconds to answer, of the world's time: real equipment runs on no other.

    RemoteProtocolError for a device that is dark, or has not answered by then. RigError for equipment without a
    `console`, and for a port that cannot be opened or fails.
    """
    profile, url = device.profile, device.settings.console
    assert isinstance(profile, DeviceProfile)  # whatever is no hub
    dialect = ConsoleDialect(profile.console.version_command, profile.console.version_answer)
    where = f"{device.rig.file.path}: members.{device.name}.console"
    if device.behaviour is not None:
        return _ask_own(device, device.behaviour, dialect)
    if url is None:
        raise RigError(f"{where}: is missing: the serial port or URL where {device.name} says what it runs")
    try:
        # The thread outlives a caller that is cancelled, by no more than its own time-out.
        return await asyncio.to_thread(ask, url, profile.console.baud, dialect, within)
    except RigError as error:
        raise RigError(f"{where}: {error}") from error
    except RemoteProtocolError as error:
        raise RemoteProtocolError(f"{device.name}: {error}") from error


def ask(url: str, baud: int, dialect: ConsoleDialect, within: float) -> int:
    """Ask the console at a serial port or pyserial URL for the firmware version.

    Blocks for as long as it takes to open the port, and `within` seconds at most from then on.

    Lines that are not the answer are passed over. RemoteProtocolError when it has not come by then; RigError for a port
    that cannot be opened or fails.
    """
    try:
        # Exclusive: a second reader would get some of the octets. Opening drops what was said before.
        port = serial.serial_for_url(
            url, baudrate=baud, timeout=min(_POLL, within), write_timeout=within, exclusive=True
        )
    except (ValueError, *_PORT_FAILED) as error:  # ValueError: a URL or baud rate that pyserial does not know
        raise RigError(f"{url} cannot be opened: {error}") from error
    with port:
        try:
            return _ask(port, url, dialect, within)
        except _PORT_FAILED as error:
            raise RigError(f"{url} failed while it was asked: {error}") from error


def _ask(port: serial.Serial, url: str, dialect: ConsoleDialect, within: float) -> int:
    deadline = time.monotonic() + within
    port.write(f"{dialect.version_command}\r\n".encode())
    last, rest = "", b""
    while time.monotonic() < deadline:
        # What is there already in one go: octet by octet takes longer than a chatty console leaves.
        *lines, rest = re.split(rb"[\r\n]+", rest + port.read(port.in_waiting or 1))
        for line in map(_text, lines):
            version = dialect.parse(line)
            if version is not None:
                return version
            last = line or last
    last = last or _text(rest)  # a prompt or half a line says less than the line before it
    raise RemoteProtocolError(
        f"{url}: no version in answer to {dialect.version_command!r} within {within:g} s; "
        + (f"the last line was {shown(last)}" if last else "it said nothing")
    )


def _text(line: bytes) -> str:
    return line.decode(errors="backslashreplace").strip()


def _ask_own(device: Device, behaviour: HanDevice, dialect: ConsoleDialect) -> int:
    """Ask a device that the harness plays or emulates."""
    if isinstance(device.carrier, MemberNode) and not device.carrier.node.powered:
        raise RemoteProtocolError(f"{device.name} has no power: its console says nothing")
    line = behaviour.console(dialect.version_command)
    version = dialect.parse(line)
    if version is None:
        raise RemoteProtocolError(
            f"{device.name}: no version in answer to {dialect.version_command!r}; the last line was {shown(line)}"
        )
    return version
