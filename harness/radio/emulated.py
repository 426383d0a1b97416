"""The `emulated://NAME` URL: a serial line to an emulated NCP, for any program that opens its port with serialx."""

from __future__ import annotations

import asyncio
import errno
import os
from typing import Any, NoReturn

import serialx
from serialx.common import BaseSerial, BaseSerialTransport, ModemPins, PortSettingsUpdate

from harness.clock import SerialPort, Timed, VirtualLoop

SCHEME = "emulated://"


def _no_output(data: bytes) -> None:
    """Bytes for a host that has closed its port are lost, as on a real line."""


class EmulatedSerial(BaseSerial):
    """The settings of an emulated line. There is no blocking access: it lives on the event loop's virtual time."""

    def _refuse(self, *args: Any, **kwargs: Any) -> NoReturn:
        raise serialx.UnsupportedSetting(
            f"{self._path}: an emulated port can only be opened from an asyncio event loop"
        )

    _open = _readinto = _write = _flush = _get_modem_pins = _set_modem_pins = _refuse
    _reset_read_buffer = _reset_write_buffer = num_unread_bytes = num_unwritten_bytes = _refuse

    def _reconfigure_port(self, update: PortSettingsUpdate) -> None:
        """Take any setting: an emulated line has no electrical side."""

    def _close(self) -> None:
        """Nothing is open."""

    @property
    def is_open(self) -> bool:
        """False: the transport holds the line, not this."""
        return False


class EmulatedTransport(BaseSerialTransport):
    """An asyncio transport between a host's protocol and the emulated NCP that the URL names."""

    transport_name = "emulated"

    def __init__(self, loop: asyncio.AbstractEventLoop, protocol: asyncio.Protocol) -> None:
        super().__init__(loop, protocol)
        self._port: SerialPort | None = None
        self._core: Timed | None = None
        self._reading = True
        self._writing = False
        self._held = bytearray()

    async def _connect(self, *, path: str | None, **settings: Any) -> None:
        name = (path or "").removeprefix(SCHEME)
        ports = self._loop.serial_ports if isinstance(self._loop, VirtualLoop) else {}
        if name not in ports:
            known = ", ".join(SCHEME + known for known in ports) or "none"
            raise FileNotFoundError(
                errno.ENOENT, f"{os.strerror(errno.ENOENT)} on this event loop (it has: {known})", path
            )
        port, self._core = ports[name]
        if port.on_output is not _no_output:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        self._serial = EmulatedSerial(path, **settings)
        self._port = port
        port.on_output = self._from_ncp
        self._call_protocol_connection_made()

    def _from_ncp(self, data: bytes) -> None:
        if not self._reading:
            self._held += data
        elif self._writing:
            # The host is in the middle of a call of its own, and may not expect an answer within it.
            self._loop.call_soon(self._deliver, data)
        else:
            self._protocol.data_received(data)

    def _deliver(self, data: bytes) -> None:
        if not self._closing:
            self._protocol.data_received(data)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Hand bytes to the NCP now."""
        self._check_broken()
        if self._port is not None and self._core is not None and isinstance(self._loop, VirtualLoop):
            self._writing = True
            try:
                self._port.receive(bytes(data), self._loop.core_time(self._core))
            finally:
                self._writing = False

    def pause_reading(self) -> None:
        """Hold back what the NCP says until `resume_reading`."""
        self._reading = False

    def resume_reading(self) -> None:
        """Deliver what was held back, and go on."""
        self._reading = True
        if self._held:
            self._loop.call_soon(self._deliver, bytes(self._held))
            self._held.clear()

    def close(self) -> None:
        """Close the host's end; the NCP keeps its power."""
        if self._closing:
            return
        self._closing = True
        self._mark_user_closed()
        if self._port is not None:
            self._port.on_output = _no_output
            self._port = None
        self._loop.call_soon(self._call_protocol_connection_lost, None)

    abort = close

    def get_write_buffer_size(self) -> int:
        """0: the line takes bytes at once."""
        return 0

    async def _flush(self) -> None:
        """Nothing is ever buffered."""

    async def _get_modem_pins(self) -> ModemPins:
        return ModemPins()

    async def _set_modem_pins(self, modem_pins: ModemPins) -> None:
        """There are no pins."""

    async def _reconfigure_port(self, update: PortSettingsUpdate) -> None:
        """Take any setting: an emulated line has no electrical side."""


def plug_in(loop: VirtualLoop, url: str, port: SerialPort, core: Timed) -> None:
    """Make `port`, which lives on the attached `core`, what the `emulated://NAME` of `url` opens on `loop`."""
    port.on_output = _no_output
    loop.serial_ports[url.removeprefix(SCHEME)] = (port, core)


serialx.register_uri_handler(
    scheme=SCHEME, unique_scheme=SCHEME, sync_cls=EmulatedSerial, async_transport_cls=EmulatedTransport
)
