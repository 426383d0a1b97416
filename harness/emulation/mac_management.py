"""Longer procedures of an emulated MAC: active scan, energy scan, association."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.emulation.air import SYMBOL_US, EnergyMeter, Link, Timer
from harness.emulation.mac_types import FoundBeacon, MacStatus
from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.mac import (
    ASSOCIATED,
    BROADCAST,
    EXTENDED,
    SHORT,
    AssociationRequest,
    AssociationResponse,
    BeaconRequest,
    FrameType,
    MacFrame,
    build_command,
    parse_beacon_payload,
    parse_mac,
)

if TYPE_CHECKING:
    from harness.emulation.mac_layer import Mac

_BASE_SUPERFRAME_US = 960 * SYMBOL_US  # aBaseSuperframeDuration
RESPONSE_WAIT_US = 32 * _BASE_SUPERFRAME_US  # macResponseWaitTime, table 86
_MAX_SCAN_DURATION = 14


def scan_us(duration: int) -> int:
    """How long a scan listens to one channel, in us: aBaseSuperframeDuration * (2^duration + 1) (7.5.2.1)."""
    if not 0 <= duration <= _MAX_SCAN_DURATION:
        raise LocalProtocolError(f"A scan's duration is 0 to {_MAX_SCAN_DURATION} (duration={duration})")
    return _BASE_SUPERFRAME_US * ((1 << duration) + 1)


class Scan:
    """Visits channels one after the other; while it does, the MAC neither sends nor receives anything else."""

    __slots__ = ("_channels", "_home", "_listen_us", "_mac", "_timer")

    def __init__(self, mac: Mac, channels: Sequence[int], duration: int) -> None:
        self._mac = mac
        self._channels = list(channels)
        self._listen_us = scan_us(duration)
        self._home = mac.channel
        self._timer: Timer | None = None

    def start(self) -> None:
        """The MAC is free for it: remember the channel and begin."""
        self._home = self._mac.channel
        self._timer = self._mac.air.call_in(0, self._visit_next)

    def stop(self) -> None:
        """Give up, without a word."""
        if self._timer is not None:
            self._timer.cancel()
        self._mac.channel = self._home

    def heard(self, psdu: bytes, link: Link) -> None:
        """A frame has arrived in the meantime."""

    def _visit_next(self) -> None:
        mac = self._mac
        if self._channels:
            mac.channel = self._channels.pop(0)
            self._visit()
        else:
            mac.channel = self._home
            mac.scan_ended()
            self._report()

    def _listen(self, then: Callable[[], None]) -> None:
        self._timer = self._mac.air.call_in(self._listen_us, then)

    def _visit(self) -> None:
        raise NotImplementedError

    def _report(self) -> None:
        raise NotImplementedError


class ActiveScan(Scan):
    """Asks for beacons on each channel and collects what answers (7.5.2.1.2)."""

    __slots__ = ("_done", "_found")

    def __init__(
        self, mac: Mac, channels: Sequence[int], duration: int, done: Callable[[list[FoundBeacon]], None]
    ) -> None:
        super().__init__(mac, channels, duration)
        self._done = done
        self._found: dict[tuple[int, int, int], FoundBeacon] = {}

    def heard(self, psdu: bytes, link: Link) -> None:
        """Take a beacon; one from each source counts, and one that is not Zigbee's does not."""
        mac = self._mac
        try:
            frame = parse_mac(psdu)
            if frame.kind != FrameType.BEACON or frame.src_mode != SHORT:
                return
            beacon = parse_beacon_payload(frame.payload)
        except RemoteProtocolError:
            mac.counters.rx_malformed += 1
            return
        found = FoundBeacon(mac.channel, frame.src_pan, frame.src, beacon, link.lqi, link.rssi)
        self._found.setdefault((found.channel, found.pan_id, found.short), found)

    def _visit(self) -> None:
        request = build_command(BeaconRequest())
        self._mac.send_command(
            request,
            dst_mode=SHORT,
            dst_pan=BROADCAST,
            dst=BROADCAST,
            ack=False,
            done=self._asked,
            scanning=True,
        )

    def _asked(self, status: MacStatus) -> None:
        if status is MacStatus.SUCCESS:
            self._listen(self._visit_next)
        else:
            self._visit_next()  # 7.5.2.1.2: no request went out on this channel; on to the next

    def _report(self) -> None:
        self._done(list(self._found.values()))


class EnergyScan(Scan):
    """Measures the strongest signal on each channel (7.5.2.1.1)."""

    __slots__ = ("_done", "_levels", "_meter")

    def __init__(
        self, mac: Mac, channels: Sequence[int], duration: int, done: Callable[[list[tuple[int, int]]], None]
    ) -> None:
        super().__init__(mac, channels, duration)
        self._done = done
        self._levels: list[tuple[int, int]] = []
        self._meter: EnergyMeter | None = None

    def stop(self) -> None:
        """Give up, without a word."""
        self._take_meter()
        super().stop()

    def _visit(self) -> None:
        self._meter = self._mac.air.measure(self._mac)
        self._listen(self._measured)

    def _measured(self) -> None:
        self._levels.append((self._mac.channel, self._take_meter()))
        self._visit_next()

    def _take_meter(self) -> int:
        meter, self._meter = self._meter, None
        if meter is None:
            return 0
        self._mac.air.stop_measuring(meter)
        return round(meter.peak)

    def _report(self) -> None:
        self._done(self._levels)


class Association:
    """One attempt to join a parent at MAC level (7.5.3.1): request, wait, fetch the response by a poll."""

    __slots__ = ("_done", "_mac", "_response", "_timer")

    def __init__(self, mac: Mac, done: Callable[[int | None, int], None]) -> None:
        self._mac = mac
        self._done = done
        self._response: AssociationResponse | None = None
        self._timer: Timer | None = None

    def start(self, capability: int) -> None:
        """Send the request to the MAC's parent."""
        mac = self._mac
        request = build_command(AssociationRequest(capability))
        mac.send_command(
            request,
            dst_mode=SHORT,
            dst_pan=mac.pan_id,
            dst=mac.parent,
            src_pan=BROADCAST,
            ack=True,
            done=self._asked,
        )

    def stop(self) -> None:
        """Give up, without a word."""
        if self._timer is not None:
            self._timer.cancel()

    def answered(self, response: AssociationResponse) -> None:
        """The response has come; the poll that fetched it ends next."""
        self._response = response

    def _asked(self, status: MacStatus) -> None:
        if status is MacStatus.SUCCESS:
            self._timer = self._mac.air.call_in(RESPONSE_WAIT_US, self._mac.poll, self._fetched)
        else:
            self._end(None, BROADCAST)

    def _fetched(self, status: MacStatus) -> None:
        response = self._response
        if response is None:
            self._end(None, BROADCAST)
        else:
            self._end(response.status, response.address if response.status == ASSOCIATED else BROADCAST)

    def _end(self, status: int | None, short: int) -> None:
        mac = self._mac
        mac.association_ended()
        if status == ASSOCIATED:
            mac.short = short
        else:
            mac.pan_id = BROADCAST
        self._done(status, short)


def association_response(mac: Mac, eui64: int, sequence: int, status: int, short: int) -> MacFrame:
    """The response to an association request: both addresses are EUI-64 (7.3.2)."""
    return MacFrame(
        FrameType.COMMAND,
        sequence,
        build_command(AssociationResponse(short, status)),
        EXTENDED,
        mac.pan_id,
        eui64,
        EXTENDED,
        mac.pan_id,
        mac.eui64,
        ack_request=True,
    )
