"""The Communications Hub: serves images, the time and its identity, and reads what a device says of itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import clusters, zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage, SimpleDescriptor
from harness.wire.image import OtaImage
from harness.wire.ota_messages import CLOCK_TOLERANCE, OTA_CLUSTER, UPGRADE_NOW
from harness.wire.ota_server import Offer, OtaServer, OtaServerConfig

ENERGY_SERVICE_INTERFACE = 0x0500  # ZSE table 5-13
ANY_ENDPOINT = 0xFF  # Zigbee PRO 2.2.4.1.1: the broadcast endpoint
UTC_2026 = 820540800  # 1 January 2026 in UTC seconds since 2000


@dataclass(frozen=True, slots=True)
class HubConfig:
    """One model of Communications Hub. Times in seconds."""

    ota: OtaServerConfig = field(default_factory=lambda: OtaServerConfig(utc_at_zero=UTC_2026))
    manufacturer_name: str = "Harness"
    model: str = "Communications Hub"
    endpoint: int = 1
    device: int = ENERGY_SERVICE_INTERFACE
    secured: bool = False  # whether Smart Energy clusters travel under the APS link key
    read_timeout: float = 15.0  # assumed: two polls of a sleepy device, 7.5 s apart
    notifies: bool = True  # whether an offer is told to its device by a unicast Image Notify


@dataclass(slots=True)
class KnownDevice:
    """One device of the HAN; `endpoint` is its OTA client's, once it was heard."""

    eui64: int
    short: int
    endpoint: int | None = None


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


class Hub:
    """The hub's behaviour (`Behaviour`). Its carrier tells it who is on the HAN; only those are served images."""

    def __init__(self, config: HubConfig = HubConfig()) -> None:
        self.config = config
        self._by_short: dict[int, KnownDevice] = {}
        self._by_eui64: dict[int, KnownDevice] = {}
        self._waiting: dict[int, Offer] = {}
        self._sequence = 0
        self._reads: dict[int, _Read] = {}
        self._outgoing: list[ApsMessage] = []
        self.server = OtaServer(config.ota, self._by_eui64.__contains__)
        tables = {clusters.BASIC_CLUSTER: clusters.basic_attributes(config.manufacturer_name, config.model)}
        utc_at_zero = config.ota.utc_at_zero
        if utc_at_zero is not None:
            tables[clusters.TIME_CLUSTER] = clusters.time_attributes(lambda now: utc_at_zero + int(now))
        self._descriptors = (
            SimpleDescriptor(
                config.endpoint, SMART_ENERGY_PROFILE, config.device, 0, (*tables, OTA_CLUSTER), ()
            ),
        )
        tables[OTA_CLUSTER] = {clusters.CLUSTER_REVISION: zcl.constant(zcl.UINT16, 3)}
        self._attributes = zcl.AttributeServer(tables)

    @property
    def descriptors(self) -> Sequence[SimpleDescriptor]:
        """One endpoint: Basic, Time and OTA Upgrade servers."""
        return self._descriptors

    @property
    def devices(self) -> tuple[KnownDevice, ...]:
        """Who is on the HAN, in the order of joining."""
        return tuple(self._by_eui64.values())

    # --- what its carrier tells it -------------------------------------------------------------------------------

    def device_joined(self, eui64: int, short: int) -> None:
        """A device joined or came back, maybe under another short address."""
        known = self._by_eui64.get(eui64)
        if known is None:
            known = self._by_eui64[eui64] = KnownDevice(eui64, short)
        elif self._by_short.get(known.short) is known:
            del self._by_short[known.short]
        known.short = short
        self._by_short[short] = known

    def device_left(self, eui64: int) -> None:
        """A device is no more of this HAN. Its image keeps waiting."""
        known = self._by_eui64.pop(eui64, None)
        if known is not None:
            if self._by_short.get(known.short) is known:
                del self._by_short[known.short]
            self.server.forget(eui64)

    def network_up(self, short: int, now: float) -> list[object]:
        """The HAN is up."""
        return []

    def network_down(self, now: float) -> list[object]:
        """The HAN is down."""
        return []

    def power_cut(self) -> None:
        """Keep the devices and the images that wait, lose the transfers and the reads."""
        self._outgoing.clear()
        self._reads.clear()
        self.server = OtaServer(self.config.ota, self._by_eui64.__contains__)
        for eui64, offer in self._waiting.items():
            self._waiting[eui64] = self.server.offer(offer.image, eui64, upgrade_at=offer.upgrade_at)

    # --- what it is asked to do ----------------------------------------------------------------------------------

    def offer(self, image: OtaImage, to: int, now: float, *, upgrade_at: int = UPGRADE_NOW) -> list[object]:
        """Let an image wait for the device `to` (EUI-64), in place of one that waited; tell the device if it is known.

        `upgrade_at`: see `OtaServer.offer`. Returns the events of taking the earlier image back.
        """
        events = self.withdraw(to) if to in self._waiting else []
        offer = self._waiting[to] = self.server.offer(image, to, upgrade_at=upgrade_at)
        known = self._by_eui64.get(to)
        # An endpoint not heard yet belongs to a device that has its first query still to make.
        if self.config.notifies and known is not None and known.endpoint is not None:
            self.server.notify(to, offer)
            self._take_frames()
        return events

    def withdraw(self, eui64: int) -> list[object]:
        """Take back the image that waits for a device. LocalProtocolError when none does."""
        if eui64 not in self._waiting:
            raise LocalProtocolError(f"no image waits for {eui64:#018x}")
        return self.server.withdraw(self._waiting.pop(eui64))

    def release(self, eui64: int, now: float) -> None:
        """Tell a device that was told to wait to upgrade now. LocalProtocolError when no image waits for it."""
        if eui64 not in self._waiting:
            raise LocalProtocolError(f"no image waits for {eui64:#018x}")
        self.server.release(self._waiting[eui64], now)
        self._take_frames()

    def read_attribute(
        self, short: int, cluster: int, attribute: int, now: float, *, endpoint: int = 1
    ) -> int:
        """Ask a device for one attribute; the answer is `AttributeRead` or `ReadFailed` with the sequence returned.

        An attribute of the OTA Upgrade cluster is read from its client side. LocalProtocolError when 256 reads wait.
        """
        for _ in range(0x100):
            self._sequence = (self._sequence + 1) & 0xFF
            if self._sequence not in self._reads:
                break
        else:
            raise LocalProtocolError("256 reads wait for their answers: no ZCL sequence number is free")
        control = zcl.NO_DEFAULT_RESPONSE | (zcl.FROM_SERVER if cluster == OTA_CLUSTER else 0)
        frame = zcl.Frame(control, None, self._sequence, zcl.READ_ATTRIBUTES, zcl.build_read((attribute,)))
        self._reads[self._sequence] = _Read(short, cluster, attribute, now + self.config.read_timeout)
        self._send(short, cluster, endpoint, zcl.build_frame(frame))
        return self._sequence

    # --- what the HAN says ---------------------------------------------------------------------------------------

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take one message from the HAN."""
        config = self.config
        if message.profile != SMART_ENERGY_PROFILE or message.destination_endpoint not in (
            config.endpoint,
            ANY_ENDPOINT,
        ):
            return []
        try:
            frame = zcl.parse_frame(message.payload)
        except RemoteProtocolError:
            return []  # without a header there is nothing to answer to
        unicast = not message.broadcast and message.group is None
        if frame.control & zcl.CLUSTER_COMMAND:
            if message.cluster == OTA_CLUSTER and unicast and not frame.control & zcl.FROM_SERVER:
                return self._ota(message, frame, now)
        elif frame.command in (zcl.READ_ATTRIBUTES_RESPONSE, zcl.DEFAULT_RESPONSE):
            return self._read_answered(message, frame)
        reply = self._attributes.answer(message.cluster, frame, now, unicast=unicast)
        if reply is not None:
            self._answer(message, reply)
        return []

    def _ota(self, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        known = self._by_short.get(message.peer)
        # ZSE 5.4.6: this cluster's messages count under the link key only.
        if known is None or (self.config.secured and not message.secured):
            self._answer(message, zcl.default_response(frame, zcl.Status.NOT_AUTHORIZED))
            return []
        known.endpoint = message.source_endpoint
        events = self.server.receive(known.eui64, frame, now)
        self._take_frames()
        return events

    def _read_answered(self, message: ApsMessage, frame: zcl.Frame) -> list[object]:
        sequence = frame.sequence
        read = self._reads.get(sequence)
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
            del self._reads[sequence]
            return [ReadFailed(read.short, read.cluster, read.attribute, sequence, str(error))]
        del self._reads[sequence]
        return [AttributeRead(read.short, read.cluster, record.attribute, sequence, *record[1:])]

    # --- time and messages ---------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next block of a page, or a read's time-out, is due."""
        deadline = self.server.next_deadline()
        if not self._reads:
            return deadline
        soonest = min(read.deadline for read in self._reads.values())
        return soonest if deadline is None else min(deadline, soonest)

    def on_deadline(self, now: float) -> list[object]:
        """Send the blocks that are due, and end the reads that nobody answered."""
        events = self.server.on_deadline(now)
        self._take_frames()
        for sequence, read in tuple(self._reads.items()):
            if now + CLOCK_TOLERANCE >= read.deadline:
                del self._reads[sequence]
                events.append(ReadFailed(read.short, read.cluster, read.attribute, sequence, "no answer"))
        return events

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def _take_frames(self) -> None:
        for eui64, frame in self.server.frames_to_send():
            known = self._by_eui64.get(eui64)
            if known is not None and known.endpoint is not None:
                self._send(known.short, OTA_CLUSTER, known.endpoint, frame)

    def _send(self, short: int, cluster: int, endpoint: int, frame: bytes) -> None:
        self._outgoing.append(
            ApsMessage(
                peer=short,
                profile=SMART_ENERGY_PROFILE,
                cluster=cluster,
                source_endpoint=self.config.endpoint,
                destination_endpoint=endpoint,
                payload=frame,
                secured=self.config.secured,
            )
        )

    def _answer(self, message: ApsMessage, frame: bytes) -> None:
        self._outgoing.append(
            ApsMessage(
                peer=message.peer,
                profile=message.profile,
                cluster=message.cluster,
                source_endpoint=self.config.endpoint,
                destination_endpoint=message.source_endpoint,
                payload=frame,
                secured=message.secured,
            )
        )
