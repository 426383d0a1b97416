"""The emulated air: one heap of microsecond events, one seed, and who hears which bytes on which channel."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from heapq import heappush
from typing import Any, Protocol

from harness.emulation.schedule import Schedule, Timer
from harness.errors import LocalProtocolError
from harness.wire.mac import build_ack, format_eui64

__all__ = [
    "Air",
    "Channel",
    "Drop",
    "EnergyMeter",
    "Link",
    "Radio",
    "Tap",
    "Timer",
    "Transmission",
    "airtime_us",
]

# IEEE 802.15.4-2006 6.5.2 and 6.5.3: O-QPSK at 2.4 GHz sends two symbols of 16 us an octet, that is 250 kbit/s.
SYMBOL_US = 16
OCTET_US = 2 * SYMBOL_US
# 6.3: preamble 4 octets, start of frame 1, length 1.
PHY_HEADER_OCTETS = 6
TURNAROUND_US = 12 * SYMBOL_US  # aTurnaroundTime, 6.4.1; also t_ack of an unslotted PAN, 7.5.6.4.2
CCA_US = 8 * SYMBOL_US  # 6.9.9: clear channel assessment looks for 8 symbols
# From the start of the assessment to the first octet: 8 + 12 symbols.
SENSE_US = CCA_US + TURNAROUND_US
ACK_AIRTIME_US = (PHY_HEADER_OCTETS + 5) * OCTET_US
# 7.4.2 macAckWaitDuration: 20 (back-off period) + 12 (turnaround) + 10 (SHR) + 12 (6 octets) symbols.
ACK_WAIT_US = 54 * SYMBOL_US

NEVER = 1 << 62  # a time that does not come: since when a radio that is off listens
NOISE_FLOOR_DBM = -95.0

_BROADCAST = b"\xff\xff"

Tap = Callable[[int, bytes, int, int, float, int], None]


def airtime_us(octets: int) -> int:
    """How long a PSDU of so many octets, FCS included, is on the air with its PHY header."""
    return (octets + PHY_HEADER_OCTETS) * OCTET_US


@dataclass(frozen=True, slots=True)
class Link:
    """How one radio hears another.

    `loss` is the probability that a frame is lost, 0 to 1; `delay_us` comes on top of every frame's airtime; a link
    that is not `heard` carries nothing: no frames, no carrier to sense, no collisions; `rssi` is in dBm.
    """

    loss: float = 0.0
    delay_us: int = 0
    heard: bool = True
    rssi: float = -50.0
    lqi: int = field(init=False, compare=False)

    def __post_init__(self) -> None:
        if not 0.0 <= self.loss <= 1.0:
            raise LocalProtocolError(f"A link's loss is a probability, 0 to 1 (loss={self.loss})")
        if self.delay_us < 0:
            raise LocalProtocolError(f"A link's delay is not negative (delay_us={self.delay_us})")
        # 6.9.8 leaves the scale open: 255 from -50 dBm up, 0 at -100 dBm, as usual receivers report it.
        object.__setattr__(self, "lqi", max(0, min(255, int((self.rssi + 100.0) * 51 / 10))))


class Drop:
    """Frames that a test has the air lose: the next `remaining` that satisfy `where`."""

    __slots__ = ("remaining", "where")

    def __init__(self, count: int, where: Callable[[bytes, int], bool] | None) -> None:
        self.remaining = count
        self.where = where


class Radio(Protocol):
    """What the air knows of a radio, and what it calls on it."""

    eui64: int
    tuned: Channel
    listening_since: int  # us; NEVER while the receiver is off
    # The own transmission whose acknowledgement is waited for; the air clears it.
    awaiting: Transmission | None

    def transmitted(self, transmission: Transmission) -> None:
        """The last octet of `transmission` has left; a radio that wants an acknowledgement sets `awaiting` to it."""

    def received(self, psdu: bytes, link: Link) -> None:
        """A frame for this radio, or for all, has arrived whole."""

    def acknowledged(self, psdu: bytes) -> None:
        """An acknowledgement with the sequence number of `awaiting` has arrived."""

    def ack_missed(self, transmission: Transmission) -> None:
        """No acknowledgement came within macAckWaitDuration after the end of `transmission`."""


class Channel:
    """One frequency: who is tuned to it and what is, or was a moment ago, on it."""

    __slots__ = ("awaiting", "meters", "number", "on_air", "page", "radios")

    def __init__(self, number: int, page: int) -> None:
        self.number = number
        self.page = page
        self.radios: tuple[Radio, ...] = ()
        self.on_air: list[Transmission] = []
        self.awaiting: list[Radio] = []
        self.meters: list[EnergyMeter] = []


class Transmission:
    """One frame on the air, from its first octet at `start` to its last at `end`, in us."""

    __slots__ = ("answered", "answers", "channel", "cut", "dropped", "end", "psdu", "sender", "start")

    def __init__(
        self, sender: Radio, psdu: bytes, start: int, end: int, answers: Transmission | None
    ) -> None:
        self.sender = sender
        self.psdu = psdu
        self.start = start
        self.end = end
        self.channel = sender.tuned
        self.answers = answers
        self.answered = False
        self.cut = False
        self.dropped = False


class EnergyMeter:
    """The strongest signal that one radio has met on its channel since it was set up, in dBm."""

    __slots__ = ("channel", "peak", "radio")

    def __init__(self, radio: Radio) -> None:
        self.radio = radio
        self.channel = radio.tuned
        self.peak = NOISE_FLOOR_DBM


class Air(Schedule):
    """The one medium, clock and source of chance of an emulated HAN."""

    __slots__ = (
        "_addresses",
        "_channels",
        "_delivering",
        "_drops",
        "_links",
        "_radios",
        "_taps",
        "capture_db",
        "default_link",
        "random",
    )

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        self.random = random.Random(seed)
        self.default_link = Link()
        """The link of every pair of radios that `set_link` has not named."""
        self.capture_db: float | None = None
        """When set, a frame survives a collision if it is so many dB stronger than every other."""
        self._links: dict[tuple[int, int], Link] = {}
        self._channels: dict[tuple[int, int], Channel] = {}
        self._radios: dict[int, Radio] = {}
        self._addresses: dict[bytes, tuple[Radio, ...]] = {}
        self._taps: list[Tap] = []
        self._drops: list[Drop] = []
        self._delivering: Transmission | None = None

    # ---- what a test sets ----------------------------------------------------------------------------------------

    def link(self, a: int, b: int) -> Link:
        """How the radio with EUI-64 `b` hears the one with EUI-64 `a`."""
        return self._links.get((a, b), self.default_link)

    def set_link(
        self,
        a: int,
        b: int,
        *,
        loss: float | None = None,
        delay_us: int | None = None,
        heard: bool | None = None,
        rssi: float | None = None,
        both_ways: bool = True,
    ) -> None:
        """Change what is given of the link from EUI-64 `a` to `b`, and of the one back unless `both_ways` is False."""
        given: dict[str, Any] = {"loss": loss, "delay_us": delay_us, "heard": heard, "rssi": rssi}
        changes = {name: value for name, value in given.items() if value is not None}
        self._links[a, b] = replace(self.link(a, b), **changes)
        if both_ways:
            self._links[b, a] = replace(self.link(b, a), **changes)

    def add_tap(self, tap: Tap) -> None:
        """Call `tap(time_us, psdu, channel, page, rssi, lqi)` for every frame, acks too, at its first octet."""
        self._taps.append(tap)

    def drop(self, count: int = 1, *, where: Callable[[bytes, int], bool] | None = None) -> Drop:
        """Let nobody hear the next `count` frames for which `where(psdu, transmitter's EUI-64)` is true.

        They are on the air all the same: taps show them, and they collide. The value returned counts down.
        """
        drop = Drop(count, where)
        if count > 0:
            self._drops.append(drop)
        return drop

    # ---- radios --------------------------------------------------------------------------------------------------

    def channel(self, number: int, page: int = 0) -> Channel:
        """The channel of that number on that channel page."""
        found = self._channels.get((page, number))
        if found is None:
            found = self._channels[page, number] = Channel(number, page)
        return found

    def add(self, radio: Radio) -> None:
        """Let `radio` take part, on the channel that it is tuned to; its EUI-64 must be the only one on this air."""
        if radio.eui64 in self._radios:
            raise LocalProtocolError(f"Two radios on one air with EUI-64 {format_eui64(radio.eui64)}")
        self._radios[radio.eui64] = radio
        radio.tuned.radios += (radio,)
        self.set_address(radio, None, radio.eui64.to_bytes(8, "little"))

    def tune(self, radio: Radio, channel: Channel) -> None:
        """Move `radio` to `channel`; a frame that it was in the middle of hearing is lost to it."""
        old = radio.tuned
        old.radios = tuple(other for other in old.radios if other is not radio)
        channel.radios += (radio,)
        radio.tuned = channel
        if radio.listening_since != NEVER:
            radio.listening_since = self.now

    def set_address(self, radio: Radio, old: bytes | None, new: bytes | None) -> None:
        """Let frames to the address `new` reach `radio`, those to `old` no longer.

        As on the air: PAN and short address (4 octets) or EUI-64 (8 octets), little-endian.
        """
        table = self._addresses
        if old is not None:
            left = tuple(other for other in table[old] if other is not radio)
            if left:
                table[old] = left
            else:
                del table[old]
        if new is not None:
            table[new] = (*table.get(new, ()), radio)

    def is_clear(self, radio: Radio) -> bool:
        """What the clear channel assessment said that ended one turnaround time ago (6.9.9 mode 2: carrier sense).

        Asked at the moment of the first octet, so that assessment and start of transmission are one event.
        """
        now = self.now
        sensed_from, sensed_to = now - SENSE_US, now - TURNAROUND_US
        needed = sensed_from
        clear = True
        stale = False
        channel = radio.tuned
        links = self._links
        default = self.default_link
        for other in channel.on_air:
            if other.end <= sensed_from:
                stale = True
                continue
            if other.end > now and other.start < needed:
                needed = other.start
            if other.sender is radio:
                # Its own acknowledgement is on the air, or about to be: there is one transmitter in it.
                clear = False
            elif other.start < sensed_to:
                link = links.get((other.sender.eui64, radio.eui64), default) if links else default
                if link.heard:
                    clear = False
        if stale:
            # What ended before the oldest frame still on the air began can no longer collide nor be sensed.
            channel.on_air = [other for other in channel.on_air if other.end > needed]
        return clear

    def transmit(self, radio: Radio, psdu: bytes) -> Transmission:
        """Put the first octet of `psdu` on the air now."""
        now = self.now
        end = now + (len(psdu) + PHY_HEADER_OCTETS) * OCTET_US
        transmission = Transmission(radio, psdu, now, end, None)
        channel = transmission.channel
        channel.on_air.append(transmission)
        if self._drops:
            transmission.dropped = self._is_dropped(psdu, radio.eui64)
        if channel.meters:
            self._measure(transmission)
        order = self._order
        self._order = order + 1
        heappush(self._heap, (end, order, self._ended, (transmission,)))
        if self._taps:
            self._tap(transmission)
        return transmission

    def acknowledge(self, radio: Radio, sequence: int, pending: bool) -> int:
        """Acknowledge the frame that `radio` is just being given; return when its last octet will be out, in us.

        7.5.6.4.2: an acknowledgement starts aTurnaroundTime after the frame's last symbol, without CSMA-CA.
        """
        start = self.now + TURNAROUND_US
        end = start + ACK_AIRTIME_US
        answered = self._delivering
        ack = Transmission(radio, build_ack(sequence, pending), start, end, answered)
        if answered is not None:
            answered.answered = True
        channel = ack.channel
        channel.on_air.append(ack)
        if self._drops:
            ack.dropped = self._is_dropped(ack.psdu, radio.eui64)
        if channel.meters:
            self._measure(ack)
        order = self._order
        self._order = order + 1
        heappush(self._heap, (end, order, self._ack_ended, (ack,)))
        if self._taps:
            self.post(start, self._tap, (ack,))
        return end

    def cut(self, radio: Radio) -> None:
        """End what `radio` is transmitting, in the middle: nobody receives it."""
        now = self.now
        for channel in self._channels.values():
            for transmission in channel.on_air:
                # What ends in this very microsecond is not over either: its end may come behind this call.
                if transmission.sender is radio and transmission.end >= now:
                    transmission.cut = True
                    transmission.end = max(now, transmission.start)
            channel.on_air = [other for other in channel.on_air if other.end > other.start]
        if radio.awaiting is not None:
            radio.awaiting.channel.awaiting.remove(radio)
            radio.awaiting = None

    def measure(self, radio: Radio) -> EnergyMeter:
        """Set up a meter for an energy scan of the channel that `radio` is tuned to."""
        meter = EnergyMeter(radio)
        radio.tuned.meters.append(meter)
        for transmission in radio.tuned.on_air:
            if transmission.end > self.now:
                self._measure(transmission)
        return meter

    def stop_measuring(self, meter: EnergyMeter) -> None:
        """Take the meter away again."""
        meter.channel.meters.remove(meter)

    # ---- events --------------------------------------------------------------------------------------------------

    def _ended(self, transmission: Transmission) -> None:
        """The last octet of a frame that is no acknowledgement has left: find out who has it."""
        if transmission.cut:
            return
        sender = transmission.sender
        sender.transmitted(transmission)
        if sender.awaiting is transmission:
            transmission.channel.awaiting.append(sender)
        if not transmission.dropped:
            psdu = transmission.psdu
            channel = transmission.channel
            mode = psdu[1] & 0x0C
            # 7.5.6.2, third level of filtering: a frame for one address never bothers the other radios.
            if mode == 0x08 and psdu[5:7] != _BROADCAST and psdu[3:5] != _BROADCAST:
                candidates = self._addresses.get(psdu[3:7], ())
            elif mode == 0x0C:
                candidates = self._addresses.get(psdu[5:13], ())
            else:
                candidates = channel.radios
            clashes = self._clashes(transmission) if len(channel.on_air) > 1 else None
            links = self._links
            default = self.default_link
            start = transmission.start
            for radio in candidates:
                if radio.listening_since > start or radio.tuned is not channel or radio is sender:
                    continue
                link = links.get((sender.eui64, radio.eui64), default) if links else default
                if not link.heard or (clashes and self._is_spoiled(clashes, radio, link)):
                    continue
                if link.loss and self.random.random() < link.loss:
                    continue
                if link.delay_us:
                    self.post(self.now + link.delay_us, self._arrived, (transmission, radio, link))
                else:
                    self._delivering = transmission
                    radio.received(psdu, link)
        if not transmission.answered and sender.awaiting is transmission:
            # No acknowledgement is under way: only now is the timer worth its place in the heap.
            self.post(transmission.end + ACK_WAIT_US, self._ack_wait_over, (transmission,))

    def _arrived(self, transmission: Transmission, radio: Radio, link: Link) -> None:
        """A frame has arrived over a link with a delay."""
        if radio.listening_since <= transmission.start and radio.tuned is transmission.channel:
            self._delivering = transmission
            radio.received(transmission.psdu, link)

    def _ack_ended(self, ack: Transmission) -> None:
        """The last octet of an acknowledgement has left: it goes to whoever waits for its sequence number."""
        channel = ack.channel
        if channel.awaiting and not ack.cut and not ack.dropped:
            clashes = self._clashes(ack) if len(channel.on_air) > 1 else None
            psdu = ack.psdu
            for radio in tuple(channel.awaiting):
                awaiting = radio.awaiting
                if awaiting is None or awaiting.psdu[2] != psdu[2]:
                    continue
                if radio.listening_since > ack.start or radio.tuned is not channel:
                    continue
                link = self.link(ack.sender.eui64, radio.eui64) if self._links else self.default_link
                if not link.heard or (clashes and self._is_spoiled(clashes, radio, link)):
                    continue
                if link.loss and self.random.random() < link.loss:
                    continue
                if link.delay_us:
                    self.post(self.now + link.delay_us, self._ack_arrived, (psdu, radio, awaiting))
                else:
                    channel.awaiting.remove(radio)
                    radio.awaiting = None
                    radio.acknowledged(psdu)
        answered = ack.answers
        if answered is not None and answered.sender.awaiting is answered:
            self.post(answered.end + ACK_WAIT_US, self._ack_wait_over, (answered,))

    def _ack_wait_over(self, transmission: Transmission) -> None:
        sender = transmission.sender
        if sender.awaiting is transmission:
            transmission.channel.awaiting.remove(sender)
            sender.awaiting = None
            sender.ack_missed(transmission)

    def _ack_arrived(self, psdu: bytes, radio: Radio, awaiting: Transmission) -> None:
        """An acknowledgement has arrived over a link with a delay."""
        if radio.awaiting is awaiting:
            awaiting.channel.awaiting.remove(radio)
            radio.awaiting = None
            radio.acknowledged(psdu)

    # ---- the medium ----------------------------------------------------------------------------------------------

    def _clashes(self, transmission: Transmission) -> list[Transmission]:
        """The transmissions that were on the same channel while `transmission` was."""
        start, end = transmission.start, transmission.end
        return [
            other
            for other in transmission.channel.on_air
            if other.end > start and other.start < end and other is not transmission
        ]

    def _is_spoiled(self, clashes: list[Transmission], radio: Radio, link: Link) -> bool:
        """Whether one of `clashes` keeps `radio` from receiving what comes over `link`."""
        for other in clashes:
            if other.sender is radio:
                return True  # half duplex: a transmitting radio does not receive
            heard = self.link(other.sender.eui64, radio.eui64)
            if heard.heard and (self.capture_db is None or heard.rssi > link.rssi - self.capture_db):
                return True
        return False

    def _is_dropped(self, psdu: bytes, eui64: int) -> bool:
        for drop in self._drops:
            if drop.where is None or drop.where(psdu, eui64):
                drop.remaining -= 1
                if drop.remaining <= 0:
                    self._drops.remove(drop)
                return True
        return False

    def _measure(self, transmission: Transmission) -> None:
        for meter in transmission.channel.meters:
            link = self.link(transmission.sender.eui64, meter.radio.eui64)
            if transmission.sender is not meter.radio and link.heard and link.rssi > meter.peak:
                meter.peak = link.rssi

    def _tap(self, transmission: Transmission) -> None:
        if transmission.cut and transmission.end <= transmission.start:
            return  # an acknowledgement whose radio lost its power before the first octet
        channel, link = transmission.channel, self.default_link
        for tap in self._taps:
            tap(transmission.start, transmission.psdu, channel.number, channel.page, link.rssi, link.lqi)
