"""The client side of the Keep-Alive cluster (0x0025) as a core: it asks the Trust Center whether it is still there."""

from __future__ import annotations

import random
from dataclasses import dataclass

from harness.errors import RemoteProtocolError
from harness.wire import zcl
from harness.wire.clusters import TC_KEEP_ALIVE_BASE, TC_KEEP_ALIVE_JITTER
from harness.wire.ota_messages import CLOCK_TOLERANCE

_KINDS = {TC_KEEP_ALIVE_BASE: zcl.UINT8, TC_KEEP_ALIVE_JITTER: zcl.UINT16}


@dataclass(frozen=True, slots=True)
class KeepAliveConfig:
    """How a device watches its Trust Center, until the Trust Center's own attributes say how. Times in seconds."""

    base: int = 10  # ZCL8 3.18.2.2: TC Keep-Alive Base, in minutes
    jitter: int = 300  # ZCL8 3.18.2.2: TC Keep-Alive Jitter, in seconds
    response_timeout: float = 10.0  # assumed
    failures: int = (
        3  # ZSE 105638 5.4.2.2.3.4, quoted by Silicon Labs: in a row, then the Trust Center is lost
    )
    secured: bool = True  # ZCL8 3.18.4: an answer without APS encryption does not count


@dataclass(frozen=True, slots=True)
class TrustCenterAnswered:
    """The Trust Center is there; `base` in minutes and `jitter` in seconds are what it asks for now."""

    base: int
    jitter: int


@dataclass(frozen=True, slots=True)
class KeepAliveFailed:
    """The Trust Center did not answer, `failures` times in a row."""

    failures: int
    reason: str


@dataclass(frozen=True, slots=True)
class TrustCenterLost:
    """The Trust Center did not answer too often: the device has to look for it. Polling has stopped."""


class KeepAliveClient:
    """Reads both attributes of the Trust Center's server, time and again. Takes and gives ZCL frames."""

    def __init__(self, config: KeepAliveConfig, generator: random.Random) -> None:
        self.config = config
        self.base = config.base
        self.jitter = config.jitter
        self._random = generator
        self._failures = 0
        self._pending: int | None = None  # the sequence of the read that waits for its answer
        self._deadline: float | None = None
        self._sequence = 0
        self._outgoing: list[bytes] = []

    @property
    def watching(self) -> bool:
        """Whether it reads, or waits for its next turn to."""
        return self._deadline is not None

    def start(self, now: float, *, at_once: bool = True) -> None:
        """The device knows the Trust Center's endpoint: the first read goes out `at_once`, or when the next is due.

        The failures before go on counting, see `forgive`.
        """
        if at_once:
            self._read(now)
        else:
            self._wait(now)

    def stop(self) -> None:
        """The network is gone: ask for nothing until the next start."""
        self._pending = self._deadline = None
        self._outgoing.clear()

    def forgive(self) -> None:
        """There is a new key: stop, and count no failure that came before it."""
        self.stop()
        self._failures = 0

    def frames_to_send(self) -> list[bytes]:
        """The ZCL frames that wait to be sent to the Trust Center, each once."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def receive(self, frame: zcl.Frame, now: float, *, secured: bool) -> list[object]:
        """Take one frame of the cluster from the Trust Center; `secured` says that it came under the link key."""
        if frame.control & zcl.CLUSTER_COMMAND or frame.sequence != self._pending:
            return []
        if frame.command == zcl.DEFAULT_RESPONSE:
            return self._failed(now, "the read was refused")
        if frame.command != zcl.READ_ATTRIBUTES_RESPONSE:
            return []
        if self.config.secured and not secured:
            return self._failed(now, "the answer is not APS encrypted")
        try:
            records = zcl.parse_read_response(frame.payload)
        except RemoteProtocolError as error:
            return self._failed(now, str(error))
        values = {
            record.attribute: record.value
            for record in records
            if record.attribute in _KINDS and record.kind == _KINDS[record.attribute]
        }
        base, jitter = values.get(TC_KEEP_ALIVE_BASE), values.get(TC_KEEP_ALIVE_JITTER)
        if not isinstance(base, int) or not isinstance(jitter, int):
            return self._failed(now, "the answer does not have both attributes")
        self.base, self.jitter = max(base, 1), jitter  # ZCL8 3.18.2.2: 0 is no base
        self._failures = 0
        self._wait(now)
        return [TrustCenterAnswered(self.base, self.jitter)]

    def next_deadline(self) -> float | None:
        """When the next read, or the time-out of one, is due."""
        return self._deadline

    def on_deadline(self, now: float) -> list[object]:
        """Read, or take silence for a failure."""
        if self._deadline is None or now + CLOCK_TOLERANCE < self._deadline:
            return []
        if self._pending is not None:
            return self._failed(now, "no answer")
        self._read(now)
        return []

    def _read(self, now: float) -> None:
        self._sequence = (self._sequence + 1) & 0xFF
        self._pending = self._sequence
        self._deadline = now + self.config.response_timeout
        payload = zcl.build_read((TC_KEEP_ALIVE_BASE, TC_KEEP_ALIVE_JITTER))
        frame = zcl.Frame(zcl.NO_DEFAULT_RESPONSE, None, self._sequence, zcl.READ_ATTRIBUTES, payload)
        self._outgoing.append(zcl.build_frame(frame))

    def _wait(self, now: float) -> None:
        self._pending = None
        self._deadline = now + 60.0 * self.base + self._random.uniform(0.0, self.jitter)

    def _failed(self, now: float, reason: str) -> list[object]:
        self._failures += 1
        events: list[object] = [KeepAliveFailed(self._failures, reason)]
        if self._failures < self.config.failures:
            self._wait(now)
        else:
            self.forgive()  # whoever starts it again has found a Trust Center
            events.append(TrustCenterLost())
        return events
