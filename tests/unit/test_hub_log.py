"""The hub's Device Log on the air: who may join, with which key, for how long, and who has to go."""

from __future__ import annotations

import random
import struct

import pytest

from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.node import NodeConfig, NodeKind
from harness.members.device_log import (
    DeviceLimits,
    DeviceLogChanged,
    EntryAdded,
    EntryDuplicate,
    EntryRefused,
    EntryRemoved,
    JoinPeriodEnded,
    JoinResponse,
    RemovalRefused,
)
from harness.members.hub import DeviceExpelled, DeviceJoined, DeviceLeft, Hub, HubConfig
from harness.members.kinds import DeviceKind
from harness.members.security import UnsecuredRefused
from harness.wire.application import (
    SMART_ENERGY_PROFILE,
    ZDO_PROFILE,
    ApsMessage,
    JoinEnded,
    JoinPermitted,
    LinkKeyForgotten,
    SimpleDescriptor,
)
from harness.wire.cbke_values import KeyEstablished, KeyRejected
from harness.wire.ota_messages import NO_IMAGE_AVAILABLE
from harness.wire.zcl import Status
from tests.unit.hub_bench import BRIDGE, DEVICES, HCALCS, HubBench
from tests.unit.hub_bench import SHORTS as BENCH_SHORTS
from tests.unit.ota_bench import ppmid_image
from tests.unit.premises import BRIDGE as BRIDGE_EUI64
from tests.unit.premises import CHANNEL, HUB, METER, NETWORK, link_key
from tests.unit.premises import PPMID as PPMID_EUI64
from tests.unit.secured_han import HUB as HAN_HUB
from tests.unit.secured_han import PPMID as HAN_PPMID
from tests.unit.secured_han import SHORTS, SecuredHan

PPMID = DeviceKind.PPMID
SHORT = BENCH_SHORTS[DEVICES[PPMID]]


class Idle:
    """A device that joins and says nothing."""

    descriptors = (SimpleDescriptor(1, SMART_ENERGY_PROFILE, 0x0502, 0, (0,), ()),)

    def network_up(self, short, now):
        return []

    def network_down(self, now):
        return []

    def receive(self, message, now):
        return []

    def messages_to_send(self):
        return []

    def next_deadline(self):
        return None

    def on_deadline(self, now):
        return []

    def power_cut(self):
        pass


class LogBench:
    """A hub's node on the air, and devices that try to join it every 20 s once they have power."""

    def __init__(self, **config):
        self.air = Air(1)
        self.events = []
        self.hub = Hub(HubConfig(**config), random.Random(1))
        self.carrier = MemberNode(
            self.air, self.hub, eui64=HUB, kind=NodeKind.COORDINATOR, network=NETWORK, on_event=self._event
        )
        self.carrier.power_on()
        self.run(1)

    def _event(self, now, event):
        self.events.append(event)

    def run(self, seconds):
        self.air.advance(self.air.now + round(seconds * 1e6))

    def device(self, eui64, key=None, kind=NodeKind.END_DEVICE):
        """A device with power."""
        node = MemberNode(
            self.air, Idle(), eui64=eui64, kind=kind, link_key=key or link_key(eui64), channels=[CHANNEL],
            config=NodeConfig(),
        )  # fmt: skip
        node.power_on()
        return node

    def admit(self, eui64, period=600, kind=PPMID, key=None):
        """Add a device to the log, and let the carrier obey."""
        key = link_key(eui64) if key is None else key
        self.carrier.run(self.hub.admit(eui64, kind, key, period, self.carrier.now()))

    def remove(self, eui64):
        """Remove a device from the log, and let the carrier obey."""
        self.carrier.run(self.hub.remove(eui64, self.carrier.now()))

    @property
    def open(self):
        """Whether the HAN is open to joiners."""
        return self.carrier.node.permits_joining

    def of(self, *kinds):
        """The events of these kinds so far."""
        return [event for event in self.events if isinstance(event, kinds)]


def test_a_device_joins_while_its_period_runs_and_the_han_is_open_no_longer():
    """JN-01: not before it is in the log; the HAN closes when it has joined, and its key stays."""
    bench = LogBench()
    ppmid = bench.device(PPMID_EUI64)
    bench.run(30)
    assert (ppmid.joined, bench.open) == (False, False)
    bench.admit(PPMID_EUI64)
    assert bench.open
    bench.run(30)
    assert ppmid.joined
    assert not bench.open
    assert bench.of(JoinPermitted, JoinEnded, LinkKeyForgotten, DeviceJoined) == [
        JoinPermitted(PPMID_EUI64, link_key(PPMID_EUI64), 600.0),
        DeviceJoined(PPMID_EUI64, ppmid.node.short),
        JoinEnded(PPMID_EUI64),
    ]
    assert bench.of(EntryAdded) == [EntryAdded(PPMID_EUI64, PPMID)]
    assert bench.carrier.node.link_keys[PPMID_EUI64].key == link_key(PPMID_EUI64)


def test_a_period_that_is_over_lets_nobody_in():
    """JN-01: its key is dropped, and the device does not join however often it tries."""
    bench = LogBench()
    bench.admit(PPMID_EUI64, period=40)
    bench.run(41)
    assert bench.of(JoinPeriodEnded, JoinEnded, LinkKeyForgotten) == [
        JoinPeriodEnded(PPMID_EUI64),
        JoinEnded(PPMID_EUI64),
        LinkKeyForgotten(PPMID_EUI64),
    ]
    assert not bench.open
    assert PPMID_EUI64 not in bench.carrier.node.link_keys
    ppmid = bench.device(PPMID_EUI64)
    bench.run(60)
    assert not ppmid.joined


def test_a_wrong_install_code_does_not_join():
    """JN-01: the HAN is open to it, and it cannot read its network key."""
    bench = LogBench()
    bench.admit(PPMID_EUI64, key=link_key(METER))
    ppmid = bench.device(PPMID_EUI64)
    bench.run(60)
    assert bench.open
    assert not ppmid.joined
    assert not bench.of(DeviceJoined)


def test_a_device_that_is_not_in_the_log_does_not_join_through_an_open_door():
    """JN-01: the HAN is open for another one's sake."""
    bench = LogBench()
    bench.admit(METER, period=300)
    ppmid = bench.device(PPMID_EUI64)
    bench.run(60)
    assert bench.open
    assert not ppmid.joined


def test_the_han_is_open_as_long_as_one_period_runs():
    """Two periods; the longer one closes it."""
    bench = LogBench()
    bench.admit(METER, period=20)
    bench.admit(PPMID_EUI64, period=50)
    bench.run(30)
    assert bench.open
    bench.run(30)
    assert not bench.open


@pytest.mark.parametrize("cut", ["the radio's power", "the hub's power"])
def test_a_power_cut_in_a_period_does_not_end_it(cut):
    """The carrier gets its permission anew for what is left of it, and the device joins."""
    bench = LogBench()
    bench.admit(PPMID_EUI64, period=120)
    (bench.carrier.power_cut if cut == "the hub's power" else bench.carrier.power_off)()
    bench.run(20)
    bench.carrier.power_on()
    bench.run(1)
    assert bench.of(JoinPermitted)[-1].seconds == pytest.approx(100.0, abs=0.1)
    assert bench.open
    ppmid = bench.device(PPMID_EUI64)
    bench.run(30)
    assert ppmid.joined
    assert not bench.open


@pytest.mark.parametrize("kind", [NodeKind.END_DEVICE, NodeKind.ROUTER])
def test_a_removed_device_has_to_go_and_does_not_come_back(kind):
    """JN-05: it is told to leave, its key is dropped; and it joins again only when it is added again."""
    bench = LogBench()
    bench.admit(PPMID_EUI64)
    ppmid = bench.device(PPMID_EUI64, kind=kind)
    bench.run(30)
    assert ppmid.joined
    bench.remove(PPMID_EUI64)
    assert EntryRemoved(PPMID_EUI64, PPMID) in bench.events
    assert bench.of(DeviceLeft) == [DeviceLeft(PPMID_EUI64, bench.of(DeviceJoined)[0].short)]
    bench.run(30)
    assert not ppmid.joined
    assert PPMID_EUI64 not in bench.carrier.node.link_keys
    assert bench.hub.devices == ()
    bench.admit(PPMID_EUI64)
    ppmid.power_off()
    ppmid.power_on()
    bench.run(30)
    assert ppmid.joined


@pytest.mark.parametrize("kind", [NodeKind.END_DEVICE, NodeKind.ROUTER])
def test_a_removed_device_that_was_dark_has_to_go_when_it_is_back(kind):
    """JN-05: the Leave did not reach it; it is told again as soon as it shows up, and is no member in between."""
    bench = LogBench()
    bench.admit(PPMID_EUI64)
    ppmid = bench.device(PPMID_EUI64, kind=kind)
    bench.run(30)
    short = ppmid.node.short
    ppmid.power_off()
    bench.remove(PPMID_EUI64)
    bench.run(30)
    assert ppmid.node.network is not None  # the Leave has not reached it
    ppmid.power_on()
    bench.run(30)
    assert bench.of(DeviceExpelled) == [DeviceExpelled(PPMID_EUI64, short)]
    assert not ppmid.joined
    assert len(bench.of(DeviceJoined)) == 1
    assert bench.hub.devices == ()
    assert PPMID_EUI64 not in bench.carrier.node.link_keys
    bench.admit(PPMID_EUI64)
    ppmid.power_off()
    ppmid.power_on()
    bench.run(30)
    assert ppmid.joined


def test_a_removed_device_that_stays_gets_no_key_no_tunnel_and_no_image():
    """JN-01, JN-05: whatever it tries, it is told to leave each time that it says who it is."""
    han = SecuredHan()
    han._record(HAN_HUB, han.hub.admit(HAN_PPMID, PPMID, bytes(16), 600, 0.0))
    han.run(60.0)
    han.hub.offer(ppmid_image(), HAN_PPMID, han.now)
    han.power_cut(HAN_PPMID, dark=30.0)
    han._record(HAN_HUB, han.hub.remove(HAN_PPMID, han.now))
    han.ppmid.flash.keyed.clear()  # it begins anew, by key establishment
    before = len(han.events)
    han.run(600.0)
    assert han.hub.keyed == han.hub.devices == ()
    later = [event for _, who, event in han.events[before:] if who == HAN_HUB]
    assert len([event for event in later if isinstance(event, DeviceExpelled)]) > 1
    assert {type(event) for event in later} <= {DeviceExpelled, LinkKeyForgotten, UnsecuredRefused}
    assert later.count(LinkKeyForgotten(HAN_PPMID)) == later.count(
        DeviceExpelled(HAN_PPMID, SHORTS[HAN_PPMID])
    )


def test_who_takes_the_address_of_a_member_is_not_taken_for_it():
    """A removed device that announces itself under a member's address is answered as a stranger."""
    bench = HubBench(PPMID, BRIDGE)
    bench.hub.remove(DEVICES[BRIDGE], 10.0)
    assert bench.query(PPMID).status == NO_IMAGE_AVAILABLE
    payload = struct.pack("<BHQB", 1, SHORT, DEVICES[BRIDGE], 0x80)
    bench.hub.receive(ApsMessage(SHORT, ZDO_PROFILE, 0x0013, 0, 0, payload), 20.0)
    assert bench.query(PPMID) == (0x01, Status.NOT_AUTHORIZED)
    bench.announce(PPMID)
    assert bench.query(PPMID).status == NO_IMAGE_AVAILABLE


def test_a_removed_device_is_one_until_it_is_added_again():
    """A power cut does not change that, and neither does a run of another hub with what this one remembers."""
    bench = HubBench(PPMID)
    target, gone = DEVICES[PPMID], [DeviceExpelled(DEVICES[PPMID], SHORT), LinkKeyForgotten(DEVICES[PPMID])]
    bench.hub.remove(target, 10.0)
    bench.announce(PPMID)
    assert bench.events == gone
    bench.cut_power()
    bench.announce(PPMID)
    assert bench.events == gone
    other = HubBench()
    other.hub.recall(bench.hub.remember())
    other.announce(PPMID)
    assert other.events == gone
    other.hub.admit(target, PPMID, bytes(16), 600, 20.0)
    other.hub.admit(target, PPMID, bytes(16), 600, 20.0)  # a duplicate
    other.announce(PPMID)
    assert DeviceJoined(target, SHORT) in other.events
    assert other.hub.flash.removed == []


def test_a_bench_may_play_a_hub_without_a_log():
    """Who was never in the log and announces itself is served."""
    bench = HubBench()
    bench.announce(PPMID)
    assert [device.eui64 for device in bench.hub.devices] == [DEVICES[PPMID]]
    assert bench.query(PPMID).status == NO_IMAGE_AVAILABLE


def test_a_removal_of_what_is_not_there_and_a_duplicate_are_told():
    """JN-05: the duplicate's key is discarded."""
    bench = LogBench()
    bench.remove(PPMID_EUI64)
    bench.admit(PPMID_EUI64)
    bench.admit(PPMID_EUI64, key=link_key(METER))
    assert bench.of(RemovalRefused) == [RemovalRefused(PPMID_EUI64)]
    assert bench.of(EntryDuplicate) == [EntryDuplicate(PPMID_EUI64, PPMID)]
    assert {event.key for event in bench.of(JoinPermitted)} == {link_key(PPMID_EUI64)}


def test_bridges_use_up_the_type_1_devices():
    """AH-14: the join past the limit is refused with deviceLogFull, and nobody is let in for it."""
    bench = LogBench(limits=DeviceLimits(type_1=2))
    bench.admit(PPMID_EUI64)
    bench.admit(BRIDGE_EUI64, kind=BRIDGE)
    bench.admit(METER, kind=HCALCS)
    (refused,) = bench.of(EntryRefused)
    assert (refused.eui64, refused.response) == (METER, JoinResponse.DEVICE_LOG_FULL)
    assert METER not in bench.carrier.node.link_keys


def test_a_device_that_comes_back_has_the_key_that_it_had():
    """CCS01: one of the historic log joins with its old link key, which counts at once: no key establishment."""
    bench = HubBench(secured=True)
    target, old = DEVICES[PPMID], bytes(range(16, 32))
    bench.hub.admit(target, PPMID, bytes(16), 600, 0.0)
    bench.hub.log.established(target, old)
    bench.hub.remove(target, 5.0)
    (permitted,) = [
        event
        for event in bench.hub.admit(target, PPMID, bytes(16), 600, 10.0)
        if isinstance(event, JoinPermitted)
    ]
    assert (permitted.key, permitted.seconds) == (old, 300.0)
    bench.now = 20.0
    bench.announce(PPMID)
    assert bench.hub.keyed == (target,)
    assert JoinEnded(target) in bench.events
    assert len(bench.asked) == 1  # after its Tunneling server


def test_after_half_the_period_the_install_code_counts():
    """CCS01: the second permission takes the place of the first."""
    bench = HubBench()
    target, old, new = DEVICES[PPMID], bytes(range(16, 32)), bytes(16)
    bench.hub.admit(target, PPMID, new, 600, 0.0)
    bench.hub.log.established(target, old)
    bench.hub.remove(target, 5.0)
    bench.hub.admit(target, PPMID, new, 600, 10.0)
    assert bench.hub.next_deadline() == 310.0
    assert bench.hub.on_deadline(310.0) == [JoinPermitted(target, new, 300.0)]
    assert bench.hub.on_deadline(610.0) == [
        JoinPeriodEnded(target),
        JoinEnded(target),
        LinkKeyForgotten(target),
    ]
    assert bench.hub.next_deadline() is None


def test_a_device_that_leaves_without_a_key_of_its_own_may_join_again():
    """JN-01: its period runs on; when that is over, its key is dropped."""
    bench = HubBench(PPMID)
    target = DEVICES[PPMID]
    bench.now = 110.0
    events = bench.hub.device_left(target, bench.now)
    assert JoinPermitted(target, bytes(range(16)), 500.0) in events
    assert bench.hub.on_deadline(610.0) == [
        JoinPeriodEnded(target),
        JoinEnded(target),
        LinkKeyForgotten(target),
    ]


class Corrupting(SecuredHan):
    """A link that spoils the first Confirm Key Data of the hub."""

    def _deliver(self, sender, to, message, key):
        if sender == HAN_HUB and message.cluster == 0x0800 and message.payload[2] == 0x02 and not self.spoilt:
            self.spoilt = True
            message = message._replace(payload=message.payload[:-1] + bytes([message.payload[-1] ^ 1]))
        super()._deliver(sender, to, message, key)

    spoilt = False


def test_a_key_that_the_device_would_not_have_is_not_in_the_log():
    """The hub takes it back, and the next key establishment gives another one."""
    han = Corrupting()
    han.hub.admit(HAN_PPMID, PPMID, bytes(16), 600, 0.0)
    assert han.run(60.0, lambda event: isinstance(event, KeyRejected))
    assert han.hub.log.entries[0].tc_key is None
    assert han.run(300.0, lambda event: isinstance(event, KeyEstablished) and not event.initiator)
    assert han.hub.log.entries[0].tc_key == han.key(HAN_HUB, HAN_PPMID)


def test_key_establishment_is_in_the_log():
    """CS14: the log's change is told, and what the device is known by is the key that CBKE gave."""
    han = SecuredHan()
    han.hub.admit(HAN_PPMID, PPMID, bytes(16), 600, 0.0)
    han.run(60.0)
    (entry,) = han.hub.log.entries
    assert entry.joined
    assert entry.tc_key == han.key(HAN_HUB, HAN_PPMID)
    assert len(han.of(HAN_HUB, DeviceLogChanged)) == 1
    assert han.hub.flash.log == han.hub.log.snapshot()
