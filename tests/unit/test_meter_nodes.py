"""The meters on emulated nodes: a router and a device that sleeps for half an hour, on the air with their hub."""

from __future__ import annotations

import random

from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.node import NodeConfig, NodeKind
from harness.members.firmware_values import ImageHeld
from harness.members.hub import AttributeRead, Hub
from harness.members.hub_values import WanMessage
from harness.members.kinds import DeviceKind
from harness.wire import clusters
from harness.wire.gbcs import parse_message
from harness.wire.gbcs_payloads import ExecutionOutcome, parse_payload
from harness.wire.mac import parse_mac
from harness.wire.ota_client_values import DownloadStarted
from tests.unit import firmware_bench
from tests.unit.firmware_bench import NEW, OLD
from tests.unit.meter_bench import SUCCESS, WAKES, meter
from tests.unit.premises import CHANNEL, NETWORK, link_key
from tests.unit.secured_han import ESME, GSME, HUB, hub_config

KINDS = {ESME: DeviceKind.ESME, GSME: DeviceKind.GSME}
BIG = firmware_bench.file(random.Random(5).randbytes(3000))
BIG_HASH = firmware_bench.image_hash(random.Random(5).randbytes(3000))


class Home:
    """A hub, an ESME that routes, and a GSME that polls every half hour."""

    def __init__(self):
        self.air = Air(11)
        self.events = []
        self.frames = []  # (time in seconds, frame)
        self.air.add_tap(self._tap)
        self.hub = Hub(hub_config(eui64=HUB), random.Random(1))
        self.node = self._member(HUB, self.hub, NodeKind.COORDINATOR, network=NETWORK)
        self.node.power_on()
        self.meters = {}
        for eui64, kind, config in (
            (ESME, NodeKind.ROUTER, NodeConfig()),
            (GSME, NodeKind.SLEEPY_END_DEVICE, NodeConfig(poll_interval_us=round(WAKES * 1e6))),
        ):
            self.meters[eui64] = self._member(
                eui64, meter(eui64), kind, link_key=link_key(eui64), channels=[CHANNEL], config=config
            )
            self.node.run(self.hub.admit(eui64, KINDS[eui64], link_key(eui64), 3600.0, self.now))
        for member in self.meters.values():
            member.power_on()
            self.after(30.0)

    def _member(self, eui64, behaviour, kind, **fields):
        return MemberNode(
            self.air,
            behaviour,
            eui64=eui64,
            kind=kind,
            on_event=lambda now, event: self.events.append((now, eui64, event)),
            **fields,
        )

    def _tap(self, time_us, psdu, channel, page, rssi, lqi):
        self.frames.append((time_us / 1e6, parse_mac(psdu)))

    @property
    def now(self):
        return self.air.now / 1e6

    def after(self, seconds):
        self.air.advance(self.air.now + round(seconds * 1e6))

    def of(self, eui64, *kinds):
        return [
            (when, event) for when, who, event in self.events if who == eui64 and isinstance(event, kinds)
        ]

    def deliver(self, eui64, image=None, command=None):
        """The WAN delivers an image or a command."""
        if image is not None:
            self.node.run(self.hub.deliver_image(image, eui64, self.now))
        if command is not None:
            self.node.run(self.hub.deliver_command(eui64, command, self.now))

    def told(self, eui64):
        """What a meter sent to the WAN, and when."""
        return [
            (when, parse_payload(parse_message(event.octets)))
            for when, event in self.of(HUB, WanMessage)
            if event.source == eui64
        ]

    def wake_ups(self):
        """When the GSME got its flags."""
        return [
            when for when, event in self.of(GSME, AttributeRead) if event.cluster == clusters.METERING_CLUSTER
        ]


def test_an_esme_on_a_node_holds_an_image_and_runs_it_on_cs06():
    """Over MAC, NWK and APS, with fragments: 0x8F72, then the response with the new version."""
    home = Home()
    assert home.meters[ESME].joined
    home.deliver(ESME, BIG)
    home.after(60.0)
    (receipt,) = [payload for _, payload in home.told(ESME)]
    assert (receipt.alert_code, receipt.image_hash) == (0x8F72, BIG_HASH)
    home.after(3600.0)
    esme = home.meters[ESME].behaviour
    assert esme.running_version == OLD
    home.deliver(ESME, command=firmware_bench.cs06(BIG_HASH, 1, recipient=ESME))
    home.after(60.0)
    assert esme.running_version == NEW
    assert [it for _, it in home.told(ESME)[1:]] == [ExecutionOutcome(SUCCESS, NEW)]


def test_a_gsme_on_a_node_sleeps_learns_at_its_wake_up_and_gets_cs06_by_get():
    """FW-16 on the air: nothing happens before the wake-up, all of it within a minute after, and CS06 at the next."""
    home = Home()
    assert home.meters[GSME].joined
    (first,) = home.wake_ups()
    home.after(300.0)
    home.deliver(GSME, BIG)
    home.after(first + WAKES - 5.0 - home.now)
    assert home.of(GSME, DownloadStarted) == []
    home.after(65.0)
    ((held, _),) = home.of(GSME, ImageHeld)
    assert first + WAKES < held < first + WAKES + 60.0
    ((told, receipt),) = home.told(GSME)
    assert (receipt.alert_code, receipt.image_hash) == (0x8F72, BIG_HASH)
    assert held <= told < held + 2.0
    home.deliver(GSME, command=firmware_bench.cs06(BIG_HASH, 1, recipient=GSME))
    home.after(first + 2 * WAKES - 5.0 - home.now)
    gsme = home.meters[GSME].behaviour
    assert gsme.flash.firmware.activation is None
    home.after(65.0)
    assert gsme.running_version == NEW
    assert [it for _, it in home.told(GSME)[1:]] == [ExecutionOutcome(SUCCESS, NEW)]


def test_a_gsme_on_a_node_is_silent_between_its_wake_ups():
    """Between two wake-ups it sends what a keep-alive needs, and polls no more than that."""
    home = Home()
    short = home.meters[GSME].node.short
    (first,) = home.wake_ups()
    home.after(4 * WAKES)
    sent = [when for when, frame in home.frames if frame.src == short and when > first + 60.0]
    assert len(home.wake_ups()) == 5
    seconds = {int(when) for when in sent}
    assert 0 < len(seconds) < 0.02 * 4 * WAKES, len(seconds)


def test_a_power_cut_on_the_node_ends_in_the_right_version():
    """Cut in the middle of its download, a meter comes back, goes on, and runs the image on CS06."""
    for eui64 in (ESME, GSME):
        home = Home()
        member = home.meters[eui64]
        home.deliver(eui64, BIG)
        while not 1000 < len(member.behaviour.flash.download.data) < 2500:
            home.after(0.05)
        member.power_cut()
        home.after(20.0)
        member.power_on()
        home.after(WAKES + 60.0)
        assert len(home.of(eui64, DownloadStarted)) == 1
        home.deliver(eui64, command=firmware_bench.cs06(BIG_HASH, 1, recipient=eui64))
        home.after(WAKES + 120.0)
        assert [it for _, it in home.told(eui64)[1:]] == [ExecutionOutcome(SUCCESS, NEW)]
