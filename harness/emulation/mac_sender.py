"""The sending half of an emulated MAC, and its radio: addresses, receiver, CSMA-CA, acknowledgements, retries."""

from __future__ import annotations

from harness.emulation.air import NEVER, SENSE_US, SYMBOL_US, TURNAROUND_US, Air, Channel, Link, Transmission
from harness.emulation.mac_types import Done, MacCounters, MacStatus
from harness.errors import LocalProtocolError
from harness.wire.mac import BROADCAST, NO_SHORT, format_eui64

# IEEE 802.15.4-2006 tables 85 (constants) and 86 (attributes, at their defaults).
UNIT_BACKOFF_US = 20 * SYMBOL_US  # aUnitBackoffPeriod
_MIN_BE = 3  # macMinBE
_MAX_BE = 5  # macMaxBE
_MAX_CSMA_BACKOFFS = 4  # macMaxCSMABackoffs
_MAX_RETRIES = 3  # macMaxFrameRetries
_MAX_SIFS_FRAME = 18  # aMaxSIFSFrameSize, octets
_SIFS_US = 12 * SYMBOL_US  # macMinSIFSPeriod
_LIFS_US = 40 * SYMBOL_US  # macMinLIFSPeriod

PENDING = 0x10  # in the first octet of the frame control: the sender holds another frame

_SUCCESS = MacStatus.SUCCESS


class Job:
    """One frame on its way out, and where its CSMA-CA stands."""

    __slots__ = ("ack", "backoffs", "be", "done", "indirect", "psdu", "retries")

    def __init__(self, psdu: bytes, ack: bool, done: Done | None, indirect: bool = False) -> None:
        self.psdu = psdu
        self.ack = ack
        self.done = done
        self.indirect = indirect
        self.retries = 0
        self.backoffs = 0
        self.be = _MIN_BE


class Sender:
    """A radio that sends one frame after the other; what becomes of those that it receives is for the Mac to say."""

    __slots__ = (
        "_ack_pending", "_address", "_job", "_on_hold", "_pan_id", "_powered", "_queue", "_ready_at",
        "_receiver_on_when_idle", "_receiver_wanted", "_sequence", "_short", "air", "awaiting", "counters", "eui64",
        "listening_since", "tuned",
    )  # fmt: skip

    def __init__(self, air: Air, eui64: int) -> None:
        self.air = air
        self.eui64 = eui64
        self.counters = MacCounters()
        self.tuned: Channel = air.channel(11)
        self.listening_since = air.now
        self.awaiting: Transmission | None = None
        self._powered = True
        self._receiver_on_when_idle = True
        self._receiver_wanted = False  # by a poll or a scan
        self._pan_id = BROADCAST
        self._short = BROADCAST
        self._address: bytes | None = None
        self._ready_at = 0
        self._queue: list[Job] = []
        self._job: Job | None = None
        self._on_hold = False  # while a scan is in progress only its own frames go out
        self._ack_pending = False
        self._sequence = int(air.random.random() * 256)  # macDSN starts at random

    # ---- settings ------------------------------------------------------------------------------------------------

    @property
    def short(self) -> int:
        """macShortAddress; 0xFFFF: none."""
        return self._short

    @short.setter
    def short(self, short: int) -> None:
        self._short = short
        self._readdress()

    @property
    def pan_id(self) -> int:
        """macPANId; 0xFFFF: in no PAN."""
        return self._pan_id

    @pan_id.setter
    def pan_id(self, pan_id: int) -> None:
        self._pan_id = pan_id
        self._readdress()

    def _readdress(self) -> None:
        address: bytes | None = None
        if self._short < NO_SHORT and self._pan_id != BROADCAST:
            address = self._pan_id.to_bytes(2, "little") + self._short.to_bytes(2, "little")
        if address != self._address:
            self.air.set_address(self, self._address, address)
            self._address = address

    @property
    def channel(self) -> int:
        """The channel number, on channel page `page`."""
        return self.tuned.number

    @channel.setter
    def channel(self, channel: int) -> None:
        self.air.tune(self, self.air.channel(channel, self.tuned.page))

    @property
    def page(self) -> int:
        """The channel page: 0 is 2.4 GHz."""
        return self.tuned.page

    @page.setter
    def page(self, page: int) -> None:
        self.air.tune(self, self.air.channel(self.tuned.number, page))

    @property
    def receiver_on_when_idle(self) -> bool:
        """macRxOnWhenIdle: a sleepy device hears acknowledgements, and after a poll one frame, but nothing else."""
        return self._receiver_on_when_idle

    @receiver_on_when_idle.setter
    def receiver_on_when_idle(self, on: bool) -> None:
        self._receiver_on_when_idle = on
        self._switch_receiver()

    @property
    def powered(self) -> bool:
        """Whether the radio has power."""
        return self._powered

    def _switch_receiver(self) -> None:
        on = self._powered and (
            self._receiver_on_when_idle or self._receiver_wanted or self.awaiting is not None
        )
        if not on:
            self.listening_since = NEVER
        elif self.listening_since == NEVER:
            self.listening_since = self.air.now

    def _need_power(self) -> None:
        if not self._powered:
            raise LocalProtocolError(
                f"The radio {format_eui64(self.eui64)} was asked to send with its power off"
            )

    # ---- sending -------------------------------------------------------------------------------------------------

    def _enqueue(self, job: Job) -> None:
        if self._job is None and not self._on_hold:
            self._start(job)
        else:
            self._queue.append(job)

    def _next(self) -> None:
        """Nothing is in hand: begin with what waits."""
        if self._queue and self._job is None and not self._on_hold:
            self._start(self._queue.pop(0))

    def _start(self, job: Job) -> None:
        """Begin unslotted CSMA-CA (7.5.1.4), after the interframe space of what this radio sent last (7.5.1.3)."""
        self._job = job
        air = self.air
        at = self._ready_at
        if at < air.now:
            at = air.now
        periods = int(air.random.random() * (1 << _MIN_BE))
        # One event for it all: the clear channel assessment is judged at the first octet, a turnaround after its end.
        air.post(at + periods * UNIT_BACKOFF_US + SENSE_US, self._begin, (job,))

    def _begin(self, job: Job) -> None:
        if self._job is not job:
            return  # the power was cut, or the MAC reset
        air = self.air
        if not self.tuned.on_air or air.is_clear(self):
            air.transmit(self, job.psdu)
            return
        job.backoffs += 1
        if job.backoffs > _MAX_CSMA_BACKOFFS:
            self.counters.cca_failures += 1
            self._finish(job, MacStatus.CHANNEL_ACCESS_FAILURE)
            return
        if job.be < _MAX_BE:
            job.be += 1
        periods = int(air.random.random() * (1 << job.be))
        # The next back-off began when the assessment ended, a turnaround ago.
        air.post(air.now - TURNAROUND_US + periods * UNIT_BACKOFF_US + SENSE_US, self._begin, (job,))

    def received(self, psdu: bytes, link: Link) -> None:
        """The air: a frame that passes the address filter, or that is for everybody, has arrived whole."""

    def transmitted(self, transmission: Transmission) -> None:
        """The air: the frame in hand has left."""
        job = self._job
        assert job is not None
        if job.ack:
            self.awaiting = transmission
            if self.listening_since == NEVER:
                self.listening_since = self.air.now
        else:
            self.counters.tx_broadcast += 1
            self._space(job)
            self._finish(job, _SUCCESS)

    def acknowledged(self, psdu: bytes) -> None:
        """The air: the acknowledgement waited for has come."""
        job = self._job
        assert job is not None
        self.counters.tx_unicast_success += 1
        self._ack_pending = psdu[0] & PENDING != 0
        self._space(job)
        self._finish(job, _SUCCESS)
        if not self._receiver_on_when_idle:
            self._switch_receiver()

    def ack_missed(self, transmission: Transmission) -> None:
        """The air: no acknowledgement has come (7.5.6.4.3). An indirect frame is not repeated but waits for a poll."""
        job = self._job
        assert job is not None
        if not job.indirect and job.retries < _MAX_RETRIES:
            job.retries += 1
            job.backoffs = 0
            job.be = _MIN_BE
            self.counters.tx_unicast_retry += 1
            self._start(job)
        else:
            self.counters.tx_unicast_failed += 1
            self._finish(job, MacStatus.NO_ACK)
        if not self._receiver_on_when_idle:
            self._switch_receiver()

    def _space(self, job: Job) -> None:
        # 7.5.1.3: a long frame, with its acknowledgement, is followed by a long space, a short one by a short.
        self._ready_at = self.air.now + (_LIFS_US if len(job.psdu) > _MAX_SIFS_FRAME else _SIFS_US)

    def _finish(self, job: Job, status: MacStatus) -> None:
        self._job = None
        self._next()
        if job.done is not None:
            job.done(status)
