"""The MAC of one emulated radio: frames in and out, duplicates, polls, indirect transmission, scans, association."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from harness.emulation.air import PHY_HEADER_OCTETS, SYMBOL_US, Air, Link, Timer
from harness.emulation.mac_indirect import PERSISTENCE_US, IndirectQueue
from harness.emulation.mac_management import ActiveScan, Association, EnergyScan, association_response
from harness.emulation.mac_sender import UNIT_BACKOFF_US, Job, Sender
from harness.emulation.mac_types import Done, FoundBeacon, MacCounters, MacListener, MacStatus
from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.mac import (
    BROADCAST,
    EXTENDED,
    MAX_PSDU,
    NO_ADDRESS,
    NO_SHORT,
    SHORT,
    AssociationRequest,
    AssociationResponse,
    Beacon,
    BeaconRequest,
    DataRequest,
    FrameType,
    MacFrame,
    build_beacon_payload,
    build_command,
    build_mac,
    format_eui64,
    parse_command,
    parse_mac,
)

__all__ = ["Done", "FoundBeacon", "Mac", "MacCounters", "MacListener", "MacStatus"]

# IEEE 802.15.4-2006 table 86, macMaxFrameTotalWaitTime: the longest back-offs that still succeed, as 7.4.2 adds them
# up, and the longest frame.
_FRAME_WAIT_US = (8 + 16 + 31 + 31) * UNIT_BACKOFF_US + (PHY_HEADER_OCTETS + MAX_PSDU) * 2 * SYMBOL_US
_NEIGHBOURS = 32  # whose last frames are remembered, to know a repeated one

_SHORT_POLL = b"\x63\x88"  # frame control of a data request: acknowledgement asked for, PAN compressed
_EXTENDED_POLL = b"\x63\xc8"
_DATA_REQUEST = build_command(DataRequest())

_DATA = int(FrameType.DATA)
_COMMAND = int(FrameType.COMMAND)
_SUCCESS = MacStatus.SUCCESS


class Mac(Sender):
    """The MAC of the radio with EUI-64 `eui64` on `air`: on channel 11, powered and listening until told otherwise.

    Every `done` is called once, and never from within the call that it was given to; what is outstanding at a `reset`
    or `power_off` is forgotten. Sending, polling, scanning and associating without power is a LocalProtocolError.
    """

    __slots__ = (
        "_association",
        "_frame_wait",
        "_polls",
        "_scan",
        "_scans",
        "_seen",
        "beacon",
        "coordinator",
        "indirect",
        "listener",
        "parent",
    )

    def __init__(self, air: Air, eui64: int, listener: MacListener, *, indirect_limit: int = 16) -> None:
        super().__init__(air, eui64)
        self.listener = listener
        self.coordinator = False
        """Whether it answers beacon requests (with `beacon`) and association requests."""
        self.beacon: Beacon | None = None
        self.parent = BROADCAST
        """Short address of the parent, which `poll` asks."""
        self.indirect = IndirectQueue(self, indirect_limit)
        self._polls: list[Done] = []
        self._frame_wait: Timer | None = None
        self._seen: dict[int, tuple[bytes, int]] = {}
        self._scan: ActiveScan | EnergyScan | None = None
        self._scans: list[ActiveScan | EnergyScan] = []
        self._association: Association | None = None
        air.add(self)

    # ---- power ---------------------------------------------------------------------------------------------------

    def power_off(self) -> None:
        """Go dark at once: a frame half sent is received by nobody, all that waits is gone. Settings stay."""
        self._halt()
        self._powered = False
        self._switch_receiver()

    def power_on(self) -> None:
        """Listen again, if `receiver_on_when_idle`; nothing happens when the power is on."""
        if not self._powered:
            self._powered = True
            self._sequence = int(self.air.random.random() * 256)
            self._switch_receiver()

    def reset(self) -> None:
        """Forget all that waits and every setting but channel, `receiver_on_when_idle` and power (MLME-RESET)."""
        self._halt()
        self.counters = MacCounters()
        self.coordinator = False
        self.beacon = None
        self.parent = BROADCAST
        self._short = self._pan_id = BROADCAST
        self._readdress()
        self._switch_receiver()

    def _halt(self) -> None:
        self.air.cut(self)
        if self._scan is not None:
            self._scan.stop()
        if self._association is not None:
            self._association.stop()
        if self._frame_wait is not None:
            self._frame_wait.cancel()
        self._scan = self._association = self._frame_wait = self._job = None
        self._on_hold = self._receiver_wanted = False
        self._scans.clear()
        self._queue.clear()
        self._polls.clear()
        self._seen.clear()
        self.indirect.clear()
        self._ready_at = 0

    # ---- what the layer above asks for ---------------------------------------------------------------------------

    def send(
        self,
        payload: bytes,
        dst: int,
        *,
        extended: bool = False,
        ack: bool = True,
        indirect: bool = False,
        done: Done | None = None,
    ) -> None:
        """Send a data frame within the PAN to the short address `dst`, or the EUI-64 when `extended`.

        0xFFFF is everybody, without acknowledgement. `indirect`: hold it until `dst` polls, at most 7.68 s. `done` gets
        SUCCESS, NO_ACK, CHANNEL_ACCESS_FAILURE, or, indirect, TRANSACTION_EXPIRED or TRANSACTION_OVERFLOW.
        LocalProtocolError when the frame would be longer than 127 octets.
        """
        if not self._powered:
            self._need_power()
        if dst == BROADCAST and not extended:
            ack = False
        self._sequence = sequence = (self._sequence + 1) & 0xFF
        pan_id, short = self._pan_id, self._short
        dst_mode = EXTENDED if extended else SHORT
        if short < NO_SHORT:
            frame = MacFrame(_DATA, sequence, payload, dst_mode, pan_id, dst, SHORT, pan_id, short, ack)
        else:
            frame = MacFrame(
                _DATA, sequence, payload, dst_mode, pan_id, dst, EXTENDED, pan_id, self.eui64, ack
            )
        psdu = build_mac(frame)
        if indirect:
            self.indirect.hold(psdu, dst, extended, done)
        else:
            self._enqueue(Job(psdu, ack, done))

    def send_command(
        self,
        payload: bytes,
        *,
        dst_mode: int,
        dst_pan: int,
        dst: int,
        src_pan: int | None = None,
        ack: bool,
        done: Done | None = None,
        scanning: bool = False,
    ) -> None:
        """Send a command frame (`payload` from build_command); with `src_pan`, from the EUI-64 in that PAN.

        `scanning` is for the scan in progress: its frames go out while all others wait.
        """
        self._need_power()
        self._sequence = sequence = (self._sequence + 1) & 0xFF
        src_mode = NO_ADDRESS if src_pan is None else EXTENDED
        src = 0 if src_pan is None else self.eui64
        frame = MacFrame(
            _COMMAND, sequence, payload, dst_mode, dst_pan, dst, src_mode, src_pan or 0, src, ack
        )
        job = Job(build_mac(frame), ack, done)
        if scanning:
            self._start(job)
        else:
            self._enqueue(job)

    def poll(self, done: Done) -> None:
        """Ask the parent for a frame that it holds; polls asked for meanwhile follow one after the other.

        SUCCESS: one has been received, and was reported before; NO_DATA: there is none, or it did not come; otherwise
        what became of the data request. A frame received with `pending` says that the parent holds another.
        """
        self._need_power()
        self._polls.append(done)
        if len(self._polls) == 1:
            self._send_poll()

    def purge(self, dst: int, *, extended: bool = False) -> None:
        """Give up the indirect frames for `dst`: TRANSACTION_EXPIRED to each."""
        self.indirect.purge(dst, extended)

    def scan(self, channels: Sequence[int], duration: int, done: Callable[[list[FoundBeacon]], None]) -> None:
        """Ask for beacons on each channel, and listen for 15.36 ms * (2^duration + 1); sending waits meanwhile."""
        self._need_power()
        self._scans.append(ActiveScan(self, channels, duration, done))
        self._next()

    def energy_scan(
        self, channels: Sequence[int], duration: int, done: Callable[[list[tuple[int, int]]], None]
    ) -> None:
        """Measure the peak on each channel for 15.36 ms * (2^duration + 1): (channel, dBm)."""
        self._need_power()
        self._scans.append(EnergyScan(self, channels, duration, done))
        self._next()

    def associate(
        self, channel: int, pan_id: int, parent: int, capability: int, done: Callable[[int | None, int], None]
    ) -> None:
        """Join at MAC level: `done` gets the response's status and short address, or None and 0xFFFF without one.

        The response is fetched by a poll after macResponseWaitTime, 491.52 ms. Joined, `short`, `pan_id` and `parent`
        are set; otherwise the MAC is in no PAN.
        """
        self._need_power()
        if self._association is not None:
            raise LocalProtocolError(f"The radio {format_eui64(self.eui64)} is associating already")
        if channel != self.channel:
            self.channel = channel
        self._pan_id, self._short, self.parent = pan_id, BROADCAST, parent
        self._readdress()
        self._association = Association(self, done)
        self._association.start(capability)

    def _next(self) -> None:
        """Nothing is in hand: a scan goes before the frames that wait."""
        if self._scans and self._job is None and self._scan is None:
            self._scan = self._scans.pop(0)
            self._on_hold = True
            self._want_receiver()
            self._scan.start()
        super()._next()

    def _want_receiver(self) -> None:
        self._receiver_wanted = self._scan is not None or self._frame_wait is not None
        if not self._receiver_on_when_idle:
            self._switch_receiver()

    # ---- polls ---------------------------------------------------------------------------------------------------

    def _send_poll(self) -> None:
        self._sequence = sequence = (self._sequence + 1) & 0xFF
        pan_id, short = self._pan_id, self._short
        if short < NO_SHORT:
            frame = MacFrame(
                _COMMAND, sequence, _DATA_REQUEST, SHORT, pan_id, self.parent, SHORT, pan_id, short, True
            )
        else:
            frame = MacFrame(
                _COMMAND,
                sequence,
                _DATA_REQUEST,
                SHORT,
                pan_id,
                self.parent,
                EXTENDED,
                pan_id,
                self.eui64,
                True,
            )
        self._enqueue(Job(build_mac(frame), True, self._poll_sent))

    def _poll_sent(self, status: MacStatus) -> None:
        if status is not _SUCCESS:
            self._end_poll(status)
        elif self._ack_pending:
            self._frame_wait = self.air.call_in(_FRAME_WAIT_US, self._end_poll, MacStatus.NO_DATA)
            self._want_receiver()
        else:
            self._end_poll(MacStatus.NO_DATA)

    def _end_poll(self, status: MacStatus) -> None:
        if self._frame_wait is not None:
            self._frame_wait.cancel()
            self._frame_wait = None
            self._want_receiver()
        done = self._polls.pop(0)
        if self._polls:
            self._send_poll()
        done(status)

    # ---- receiving -----------------------------------------------------------------------------------------------

    def received(self, psdu: bytes, link: Link) -> None:
        """The air: a frame that passes the address filter, or that is for everybody, has arrived whole."""
        if self._scan is not None:
            self._scan.heard(psdu, link)
            return
        kind = psdu[0] & 7
        if kind == _DATA:
            frame = self._take(psdu)
            if frame is not None:
                self.listener.mac_received(frame, link.lqi, link.rssi)
        elif kind == _COMMAND:
            # A data request is the most frequent command, and its acknowledgement must tell whether a frame follows:
            # it is known by its octets, without a parse.
            if psdu[3:7] == self._address:
                if psdu[:2] == _SHORT_POLL and psdu[9:-2] == _DATA_REQUEST:
                    self._polled(psdu[2], psdu[7] | psdu[8] << 8, False)
                    return
                if psdu[:2] == _EXTENDED_POLL and psdu[15:-2] == _DATA_REQUEST:
                    self._polled(psdu[2], int.from_bytes(psdu[7:15], "little"), True)
                    return
            frame = self._take(psdu)
            if frame is not None:
                self._obey(frame)

    def _take(self, psdu: bytes) -> MacFrame | None:
        """Check a frame and filter it by its destination (7.5.6.2), acknowledge it; None for what goes no further."""
        counters = self.counters
        try:
            frame = parse_mac(psdu)
        except RemoteProtocolError:
            counters.rx_malformed += 1
            return None
        dst_pan, dst_mode = frame.dst_pan, frame.dst_mode
        if (dst_pan != self._pan_id and dst_pan != BROADCAST) or dst_mode == NO_ADDRESS:
            return None
        if dst_mode == SHORT:
            dst = frame.dst
            if dst == BROADCAST:
                counters.rx_broadcast += 1
                return frame
            if dst != self._short:
                return None
        air = self.air
        if frame.ack_request:
            self._ready_at = air.acknowledge(self, frame.sequence, False)
        if self._frame_wait is not None:
            # What the poll was for; it ends as soon as the frame has been passed on.
            self._frame_wait.cancel()
            self._frame_wait = air.call_in(0, self._end_poll, _SUCCESS)
        # A repeated frame has the sequence number and the octets of the one before. The number alone would also match
        # the 256th frame after it, which may well be the sender's next one for this radio.
        src = frame.src
        mark = psdu[2:3] + psdu[-6:-2]
        seen = self._seen
        last = seen.get(src)
        if last is not None:
            if last[0] == mark and air.now - last[1] < PERSISTENCE_US:
                counters.rx_duplicate += 1
                return None
        elif len(seen) >= _NEIGHBOURS:
            del seen[next(iter(seen))]
        seen[src] = (mark, air.now)
        counters.rx_unicast += 1
        return frame

    def _polled(self, sequence: int, src: int, extended: bool) -> None:
        waits, held = self.indirect.take(src, extended)
        # 7.5.6.3: the acknowledgement of a data request tells whether a frame follows.
        self._ready_at = self.air.acknowledge(self, sequence, waits)
        self.counters.rx_polls += 1
        if held is not None:
            self._queue.insert(0, Job(held.psdu, True, held.settle, indirect=True))
            self._next()
        self.listener.mac_polled(src, extended)

    def _obey(self, frame: MacFrame) -> None:
        try:
            command = parse_command(frame.payload)
        except RemoteProtocolError:
            self.counters.rx_malformed += 1
            return
        if isinstance(command, BeaconRequest):
            if self.coordinator and self.beacon is not None:
                self._send_beacon(self.beacon)
        elif isinstance(command, AssociationRequest):
            if self.coordinator and frame.src_mode == EXTENDED:
                self._answer_association(frame.src, command.capability)
        elif isinstance(command, AssociationResponse) and self._association is not None:
            self._association.answered(command)

    def _send_beacon(self, beacon: Beacon) -> None:
        self._sequence = sequence = (self._sequence + 1) & 0xFF
        payload = build_beacon_payload(beacon)
        frame = MacFrame(
            FrameType.BEACON, sequence, payload, src_mode=SHORT, src_pan=self._pan_id, src=self._short
        )
        self._enqueue(Job(build_mac(frame), False, None))

    def _answer_association(self, eui64: int, capability: int) -> None:
        status, short = self.listener.mac_association_requested(eui64, capability)
        self.indirect.purge(eui64, True)  # an older answer is of no use any more
        self._sequence = sequence = (self._sequence + 1) & 0xFF
        response = association_response(self, eui64, sequence, status, short)
        self.indirect.hold(build_mac(response), eui64, True, None)

    # ---- what the longer procedures report -----------------------------------------------------------------------

    def scan_ended(self) -> None:
        """The scan in progress is over: what waited goes on."""
        self._scan = None
        self._on_hold = False
        self._want_receiver()
        self._next()

    def association_ended(self) -> None:
        """The association in progress is over."""
        self._association = None
