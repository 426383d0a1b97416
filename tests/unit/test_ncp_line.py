"""Tests of the emulated NCP: faults and speed of its serial line, scans, captures, counters."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.emulation.ncp import Direction, NcpConfig, is_ack, is_data
from harness.emulation.ncp_status import Status
from tests.unit.sticks import (
    DEVICE,
    new,
    no_refusals,
    with_device,
)


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """An NCP that had to refuse a command fails its test; tests of just that clear the list."""
    yield from no_refusals()


@pytest.mark.parametrize("direction", list(Direction))
@pytest.mark.parametrize("fault", ["drop", "corrupt", "duplicate"])
def test_the_link_survives_faults_of_single_frames(direction: Direction, fault: str) -> None:
    """A DATA frame lost, damaged or doubled, either way: the command is answered all the same, and once."""
    host = new(13).start()
    order = getattr(host.ncp.faults, fault)(direction=direction, where=is_data)
    assert bytes(host.command("echo", data=b"hello")["echo"]) == b"hello"
    assert order.remaining == 0
    assert host.ncp.commands["echo"] == 1


def test_a_lost_acknowledgement_makes_the_ncp_send_again() -> None:
    """The host sees one response; the second copy is recognised."""
    host = new(13).start()
    order = host.ncp.faults.drop(direction=Direction.TO_NCP, where=is_ack)
    host.command("nop")
    host.run(5.0)
    host.command("nop")
    assert order.remaining == 0
    assert len([frame for frame in host.frames if frame[3] == 0x05]) == 2


def test_a_delayed_frame_comes_that_much_later() -> None:
    """Half a second of virtual time, and what is behind it waits, too."""
    host = new(13).start()
    host.ncp.faults.delay(0.5, direction=Direction.TO_HOST, where=is_data)
    before = host.air.now
    host.command("nop")
    assert 500_000 <= host.air.now - before <= 700_000


def test_a_paced_line_takes_the_time_of_its_bytes() -> None:
    """At 9600 baud an octet takes 10/9600 s, in both directions."""
    host = new(13, config=NcpConfig(baud=9600)).start()
    octets: list[int] = []
    host.ncp.on_output = lambda data: (octets.append(host.air.now), host.take(data))[1]
    before = host.air.now
    host.command("nop")
    # The command's DATA frame is 1 + 5 + 2 octets and a flag, and so is the response's; few are escaped.
    assert (9 + 9) / 960 <= (octets[0] - before) / 1e6 <= (9 + 9 + 6) / 960


def test_the_manufacturing_library_hears_its_channel_and_no_other() -> None:
    """mfglibStart, mfglibSetChannel: each frame of the other network without FCS, two octets behind it."""
    host, device = with_device()
    heard: list[bytes] = []
    host.air.add_tap(lambda time_us, psdu, channel, page, rssi, lqi: heard.append(psdu))
    sniffer = new(14, air=host.air, eui64=DEVICE + 9).start()
    assert sniffer.status("mfglibSetChannel", channel=15) == Status.FAIL
    assert sniffer.status("mfglibStart", rxCallback=1) == 0
    device.send(b"not heard")
    host.run(1.0)
    assert sniffer.called("mfglibRxHandler") == []
    assert sniffer.status("mfglibSetChannel", channel=15) == 0
    heard.clear()
    device.send(b"heard")
    host.run(1.0)
    packets = [bytes(values["packetContents"]) for values in sniffer.called("mfglibRxHandler")]
    assert [packet[:-2] for packet in packets] == [psdu[:-2] for psdu in heard]
    assert len(packets) >= 4
    assert sniffer.status("mfglibEnd") == 0
    assert sniffer.status("mfglibEnd") == Status.FAIL


def test_scans_find_the_network_and_the_energy() -> None:
    """networkFoundHandler with the beacon's fields, energyScanResultHandler for each channel, scanCompleteHandler."""
    hub = new(13).start().form()
    hub.status("permitJoining", duration=255)
    host = new(13, air=hub.air, eui64=DEVICE).start()
    assert host.status("startScan", scanType=1, channelMask=1 << 15 | 1 << 20, duration=3) == 0
    assert host.status("startScan", scanType=1, channelMask=1 << 15, duration=3) == 0x3D
    host.run(2.0)
    (found,) = host.called("networkFoundHandler")
    network = found["networkFound"]
    assert (int(network.channel), int(network.panId), int(network.allowingJoin)) == (15, 0x1A62, 1)
    assert [int(values["status"]) for values in host.called("scanCompleteHandler")] == [0]
    assert host.status("startScan", scanType=0, channelMask=1 << 11 | 1 << 12, duration=2) == 0
    host.run(2.0)
    assert [int(values["channel"]) for values in host.called("energyScanResultHandler")] == [11, 12]
    assert host.status("startScan", scanType=0, channelMask=1, duration=2) == 0x35


def test_the_counters_count_and_can_be_cleared() -> None:
    """EmberCounterType: unicasts of the MAC and APS, from 0 after readAndClearCounters."""
    host, device = with_device()
    host.unicast(device.node.short, b"x")
    host.run(1.0)
    counts = host.command("readAndClearCounters")["values"]
    assert len(counts) == 41
    assert counts[3] > 0
    assert counts[9] > 0
    assert sum(host.command("readCounters")["values"]) == 0
