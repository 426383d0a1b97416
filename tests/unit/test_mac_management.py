"""Scans and association: how a radio finds a PAN and gets an address in it."""

from __future__ import annotations

from harness.emulation.air import Air
from harness.emulation.mac_layer import Mac, MacStatus
from harness.wire.mac import ASSOCIATED, PAN_ACCESS_DENIED, AssociationRequest, parse_command, parse_mac
from tests.unit.macs import (
    CHILD,
    OTHER,
    PAN,
    PARENT,
    SENSE,
    Layer,
    Tap,
    associate,
    member,
    network,
    pair,
    run,
)


def test_an_active_scan_finds_the_coordinators_of_each_channel():
    """Beacon request, beacons after CSMA-CA, 15.36 ms * (2^n + 1) a channel; then the old channel again."""
    air = Air(1)
    joiner = Mac(air, CHILD, Layer())
    joiner.channel = 20
    network(air, PARENT, 11, 0x1111)
    network(air, OTHER, 15, 0x2222)
    network(air, 0x77, 15, 0x2222, short=0x0077)
    results = []
    joiner.scan([11, 15, 26], 3, results.append)
    air.advance(3 * 138_240)
    assert results == []
    run(air, 1)
    (found,) = results
    assert sorted((beacon.channel, beacon.pan_id, beacon.short) for beacon in found) == [
        (11, 0x1111, 0),
        (15, 0x2222, 0),
        (15, 0x2222, 0x77),
    ]
    assert {beacon.beacon.extended_pan_id for beacon in found} == {PARENT, OTHER, 0x77}
    assert (joiner.channel, found[0].lqi, found[0].rssi) == (20, 255, -50.0)


def test_sending_waits_for_the_end_of_a_scan():
    """7.5.2.1: a scanning device neither sends nor takes data frames; what was asked for follows."""
    air, parent, child = pair()
    results, statuses = [], []
    child.scan([12, 13], 2, results.append)
    child.send(b"after", 0, done=statuses.append)
    parent.send(b"into the void", 1)
    air.advance(76_800)
    assert (statuses, child.listener.frames) == ([], [])
    run(air, 1)
    assert (statuses, results) == ([MacStatus.SUCCESS], [[]])


def test_a_sleepy_device_listens_while_it_scans():
    """Its receiver is on for beacons, and off again afterwards."""
    air = Air(1)
    network(air, PARENT, 11, PAN)
    joiner = Mac(air, CHILD, Layer())
    joiner.receiver_on_when_idle = False
    results = []
    joiner.scan([11], 2, results.append)
    run(air, 1)
    assert len(results[0]) == 1
    joiner.pan_id, joiner.short = PAN, 5
    other = member(air, OTHER, 6)
    other.send(b"", 0xFFFF)
    run(air, 1)
    assert joiner.listener.frames == []


def test_an_energy_scan_measures_the_strongest_signal():
    """The noise floor where nobody sends, the link's RSSI where somebody does."""
    air, parent, child = pair()
    other = Mac(air, OTHER, Layer())
    other.channel = 20
    air.set_link(PARENT, OTHER, rssi=-63.0)
    results = []
    other.energy_scan([11, 12], 3, results.append)
    parent.send(bytes(100), 1)
    run(air, 1)
    assert results == [[(11, -50), (12, -95)]]
    assert other.channel == 20
    child.power_off()
    other.energy_scan([11], 3, results.append)
    parent.send(bytes(100), 1)
    run(air, 1)
    assert results[1] == [(11, -63)]


# --- association ------------------------------------------------------------------------------------------------------


def test_a_device_associates_through_a_poll():
    """Request, wait of macResponseWaitTime 491.52 ms, data request from the EUI-64, response, address."""
    air = Air(1)
    parent = network(air, PARENT, 15, PAN)
    joiner = Mac(air, CHILD, Layer())
    joiner.receiver_on_when_idle = False
    tap = Tap(air)
    assert associate(air, joiner, 15) == (ASSOCIATED, 0x1234)
    assert parent.listener.requests == [(CHILD, 0x80)]
    assert (joiner.short, joiner.pan_id, joiner.parent, joiner.channel) == (0x1234, PAN, 0, 15)
    frames = [psdu for _, psdu in tap.seen]
    assert [psdu[:2].hex() for psdu in frames if psdu[0] & 7 == 3] == ["23c8", "63c8", "63cc"]
    assert parse_command(parse_mac(frames[0]).payload) == AssociationRequest(0x80)
    assert tap.seen[2][0] - tap.seen[1][0] - 352 - 491_520 >= SENSE


def test_a_refused_device_learns_the_status():
    """The response's status is passed on; the device is in no PAN."""
    air = Air(1)
    parent = network(air, PARENT, 11, PAN)
    parent.listener.response = (PAN_ACCESS_DENIED, 0xFFFF)
    joiner = Mac(air, CHILD, Layer())
    assert associate(air, joiner) == (PAN_ACCESS_DENIED, 0xFFFF)
    assert (joiner.short, joiner.pan_id) == (0xFFFF, 0xFFFF)


def test_association_without_an_answer_ends():
    """Nobody there, or nobody who answers requests: None."""
    air = Air(1)
    joiner = Mac(air, CHILD, Layer())
    assert associate(air, joiner) == (None, 0xFFFF)
    parent = network(air, PARENT, 11, PAN)
    parent.coordinator = False
    assert associate(air, joiner) == (None, 0xFFFF)
    parent.coordinator = True
    assert associate(air, joiner) == (ASSOCIATED, 0x1234)


def test_a_repeated_association_request_is_asked_about_once():
    """The acknowledgement of the request was lost: the retry is a duplicate."""
    air = Air(1)
    parent = network(air, PARENT, 11, PAN)
    air.drop(where=lambda psdu, sender: sender == PARENT)
    assert associate(air, Mac(air, CHILD, Layer())) == (ASSOCIATED, 0x1234)
    assert parent.listener.requests == [(CHILD, 0x80)]
