"""Captures of the air for Wireshark: a pcap writer with radio metadata, and the key file that opens it."""

from __future__ import annotations

import os
import re
import struct
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from harness.errors import LocalProtocolError, RigError

# tcpdump.org link-layer types: 283 is LINKTYPE_IEEE802_15_4_TAP, a frame behind a header of TLVs about its reception.
LINKTYPE_IEEE802_15_4_TAP = 283

# 2000-01-01T00:00:00Z, where Zigbee's UTCTime begins (ZCL 07-5123-08 2.6.2.6). A fixed start lets two runs of one seed
# leave the same bytes.
FIXED_EPOCH = 946_684_800

KEY_FILE_NAME = "zigbee_pc_keys"

_MAGIC_MICROSECONDS = 0xA1B2C3D4
_SNAP_LENGTH = 65535
_FILE_HEADER = struct.Struct("<IHHiIII")

_TAP_LENGTH = 36
# The pcap record header, then the whole TAP header, in one pack: seconds, microseconds, captured and original length;
# version, reserved, header length; then type, length and value of the FCS type, RSS, channel and LQI, padded to 4.
_RECORD = struct.Struct("<IIII BBH HHB3x HHf HHHBx HHB3x")
_FCS_TYPE, _RSS, _CHANNEL, _LQI = 0, 1, 3, 10
_FCS_16_BIT = 1

_KEY_LINE = re.compile(r'\s*"([0-9A-Fa-f]{32})"')


def _create(path: str | os.PathLike[str]) -> BinaryIO:
    try:
        return open(path, "wb")
    except OSError as error:
        raise RigError(f"{os.fspath(path)}: the capture cannot be written ({error.strerror})") from error


class PcapWriter:
    """A classic pcap of IEEE 802.15.4 frames with TAP metadata, written as the frames come.

    `target` is a path, which is created or replaced, or a binary stream, which stays open after `close`. `epoch` is the
    second since 1970 that time 0 stands for. The file header is written at once; `close` (or leaving the context)
    flushes. A path that cannot be written raises RigError.
    """

    __slots__ = ("_closes", "_epoch", "_stream", "_write")

    def __init__(self, target: str | os.PathLike[str] | BinaryIO, *, epoch: int = FIXED_EPOCH) -> None:
        self._closes = isinstance(target, (str, os.PathLike))
        self._stream = _create(target) if isinstance(target, (str, os.PathLike)) else target
        self._write = self._stream.write
        self._epoch = epoch
        header = _FILE_HEADER.pack(_MAGIC_MICROSECONDS, 2, 4, 0, 0, _SNAP_LENGTH, LINKTYPE_IEEE802_15_4_TAP)
        self._write(header)
        self.flush()

    def frame(self, time_us: int, psdu: bytes, channel: int, page: int, rssi: float, lqi: int) -> None:
        """Record one frame: `psdu` from frame control to FCS, sent at `time_us` microseconds after the epoch.

        `rssi` is in dBm, `lqi` 0 to 255. The signature is that of the air's tap.
        """
        seconds, microseconds = divmod(time_us, 1_000_000)
        length = _TAP_LENGTH + len(psdu)
        # fmt: off
        self._write(_RECORD.pack(
            self._epoch + seconds, microseconds, length, length,
            0, 0, _TAP_LENGTH,
            _FCS_TYPE, 1, _FCS_16_BIT,
            _RSS, 4, rssi,
            _CHANNEL, 3, channel, page,
            _LQI, 1, lqi,
        ) + psdu)
        # fmt: on

    def flush(self) -> None:
        """Hand what is buffered to the reader of the file, as a live Wireshark wants."""
        self._stream.flush()

    def close(self) -> None:
        """Flush, and close the file if this writer opened it. Closing twice is harmless."""
        if self._stream.closed:
            return
        self.flush()
        if self._closes:
            self._stream.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class KeyFile:
    """Wireshark's table of Zigbee keys, in `directory`: the one place where keys may be written.

    Point WIRESHARK_CONFIG_DIR at the directory and tshark decrypts what these keys protect. One table holds network and
    link keys alike; key-transport and key-load keys are derived by the reader. Keys that the file already holds stay
    in it and are not written twice. The file is readable by its owner only. A directory that cannot be written raises
    RigError.
    """

    __slots__ = ("_known", "path")

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.path = Path(directory) / KEY_FILE_NAME
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
            with os.fdopen(descriptor, "r", encoding="ascii", errors="replace") as stream:
                os.fchmod(stream.fileno(), 0o600)
                found = (_KEY_LINE.match(line) for line in stream)
                self._known = {bytes.fromhex(match[1]) for match in found if match}
        except OSError as error:
            raise RigError(f"{self.path}: the key file cannot be written ({error.strerror})") from error

    def add(self, key: bytes, label: str) -> None:
        """Write a 16-octet `key` under `label`, unless the file holds it; on disk when this returns.

        The signature is that of a node's `on_key`.
        """
        if len(key) != 16:
            raise LocalProtocolError(f"A Zigbee key has 16 octets, the one labelled {label!r} has {len(key)}")
        if key in self._known:
            return
        self._known.add(bytes(key))
        # The table's reader takes a backslash and a quote for its own.
        clean = re.sub(r"[^ !#-\[\]-~]", "_", label)
        with self.path.open("a", encoding="ascii") as stream:
            stream.write(f'"{key.hex()}","Normal","{clean}"\n')
