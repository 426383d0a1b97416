"""The attribute reads that a member has under way, and what came of them."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.security import soonest
from harness.wire import zcl
from harness.wire.application import ApsMessage
from harness.wire.ota_messages import CLOCK_TOLERANCE, OTA_CLUSTER


@dataclass(frozen=True, slots=True)
class AttributeRead:
    """A device answered a read; `kind` and `value` are None where `status` is not SUCCESS."""

    short: int
    cluster: int
    attribute: int
    sequence: int
    status: int
    kind: int | None
    value: zcl.Value


@dataclass(frozen=True, slots=True)
class ReadFailed:
    """A read came to nothing: no answer in time, or one that is none."""

    short: int
    cluster: int
    attribute: int
    sequence: int
    reason: str


@dataclass(frozen=True, slots=True)
class _Read:
    short: int
    cluster: int
    attribute: int
    deadline: float
    failure: str


class Reads:
    """Attribute reads, each known by its ZCL sequence number."""

    def __init__(self) -> None:
        self._sequence = 0
        self._waiting: dict[int, _Read] = {}

    def begin(
        self,
        short: int,
        cluster: int,
        attribute: int,
        deadline: float,
        failure: str = "no answer",
        *,
        from_server: bool = False,
    ) -> tuple[int, bytes]:
        """Return the sequence number and the frame of a read, which fails with that reason at its deadline.

        With `from_server`, and always of the OTA Upgrade cluster, the attribute is one of the other's client side.
        LocalProtocolError when 256 reads wait.
        """
        for _ in range(0x100):
            self._sequence = (self._sequence + 1) & 0xFF
            if self._sequence not in self._waiting:
                break
        else:
            raise LocalProtocolError("256 reads wait for their answers: no ZCL sequence number is free")
        self._waiting[self._sequence] = _Read(short, cluster, attribute, deadline, failure)
        control = zcl.NO_DEFAULT_RESPONSE | (zcl.FROM_SERVER if from_server or cluster == OTA_CLUSTER else 0)
        payload = zcl.build_read((attribute,))
        frame = zcl.Frame(control, None, self._sequence, zcl.READ_ATTRIBUTES, payload)
        return self._sequence, zcl.build_frame(frame)

    def clear(self) -> None:
        """Forget the reads under way."""
        self._waiting.clear()

    def answered(self, message: ApsMessage, frame: zcl.Frame) -> list[object]:
        """Take a Read Attributes Response or a Default Response; no event when it answers none of the reads."""
        sequence = frame.sequence
        read = self._waiting.get(sequence)
        if read is None or (read.short, read.cluster) != (message.peer, message.cluster):
            return []
        try:
            if frame.command == zcl.DEFAULT_RESPONSE:
                command, status = zcl.parse_default_response(frame.payload)
                if command != zcl.READ_ATTRIBUTES:
                    return []
                record = zcl.AttributeStatus(read.attribute, status)
            else:
                records = zcl.parse_read_response(frame.payload)
                if not records or records[0].attribute != read.attribute:
                    raise RemoteProtocolError(f"the answer does not have attribute {read.attribute:#06x}")
                record = records[0]
        except RemoteProtocolError as error:
            del self._waiting[sequence]
            return [ReadFailed(read.short, read.cluster, read.attribute, sequence, str(error))]
        del self._waiting[sequence]
        return [AttributeRead(read.short, read.cluster, record.attribute, sequence, *record[1:])]

    def next_deadline(self) -> float | None:
        """When the next read's time is over."""
        return soonest(*(read.deadline for read in self._waiting.values())) if self._waiting else None

    def on_deadline(self, now: float) -> list[object]:
        """End the reads that nobody answered."""
        events: list[object] = []
        for sequence, read in tuple(self._waiting.items()):
            if now + CLOCK_TOLERANCE >= read.deadline:
                del self._waiting[sequence]
                events.append(ReadFailed(read.short, read.cluster, read.attribute, sequence, read.failure))
        return events
