"""Tests of the emulated NCP: what becomes of scans, polls, rejoins and messages when its node stops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.emulation.ncp_config import VALUE_STACK_IS_PERFORMING_REJOIN
from harness.emulation.node import NodeKind, NodeListener, NodeState, SentStatus
from harness.wire.application import BROADCAST_RX_ON, ApsMessage
from tests.unit.sticks import (
    ALLOW_JOINS,
    DEVICE,
    HASHED_SECURITY,
    INSTALL_CODE_ONLY,
    LINK_KEY,
    Host,
    aps_frame,
    give_key,
    new,
    no_refusals,
    parameters,
    security,
    with_device,
)

ENERGY, ACTIVE = 0, 1
CHANNEL_15 = 1 << 15
SLEEPY, ROUTER = 4, 2


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """An NCP that had to refuse a command fails its test."""
    yield from no_refusals()


def joined_stick(node_type: int) -> tuple[Host, Host]:
    """A hub, and a second stick on its network."""
    hub = new(13).start().form(HASHED_SECURITY)
    hub.status("setPolicy", policyId=0, decisionId=ALLOW_JOINS | INSTALL_CODE_ONLY)
    give_key(hub)
    hub.status("permitJoining", duration=60)
    stick = new(13, air=hub.air, eui64=DEVICE).start()
    assert stick.status("setInitialSecurityState", state=security(0x0100, LINK_KEY)) == 0
    assert stick.status("joinNetwork", nodeType=node_type, parameters=parameters()) == 0
    stick.run(10.0)
    assert stick.ncp.node.state == NodeState.JOINED
    stick.callbacks.clear()
    return hub, stick


def scan(host: Host, kind: int, mask: int = CHANNEL_15, duration: int = 5) -> int:
    """Start a scan; its status."""
    return host.status("startScan", scanType=kind, channelMask=mask, duration=duration)


def test_a_sleepy_ncp_that_loses_its_parent_stops_polling() -> None:
    """The hub dies under a periodic pollForData: NETWORK_DOWN, no poll without a parent, and none is taken."""
    hub, sleepy = joined_stick(SLEEPY)
    assert sleepy.status("pollForData", interval=1000, units=1, failureLimit=0) == 0
    hub.ncp.node.power_off()
    sleepy.run(60.0)
    assert sleepy.ncp.node.state == NodeState.JOINED_NO_PARENT
    assert [int(down["status"]) for down in sleepy.called("stackStatusHandler")] == [0x91]
    polls = len(sleepy.called("pollCompleteHandler"))
    assert sleepy.status("pollForData", interval=1000, units=1, failureLimit=0) == 0x93
    sleepy.run(10.0)
    assert len(sleepy.called("pollCompleteHandler")) == polls


@pytest.mark.parametrize("kind", [ENERGY, ACTIVE])
def test_a_scan_ends_when_the_node_leaves_its_network(kind: int) -> None:
    """startScan, leaveNetwork: scanCompleteHandler comes once, and the next scan is taken and reports its own."""
    host = new(13).start().form()
    assert scan(host, kind, duration=10) == 0
    assert scan(host, kind) == 0x3D
    assert host.status("leaveNetwork") == 0
    host.run(1.0)
    assert len(host.called("scanCompleteHandler")) == 1
    assert scan(host, kind) == 0
    host.run(5.0)
    assert len(host.called("scanCompleteHandler")) == 2


def test_a_scan_after_a_stopped_one_reports_its_own_results() -> None:
    """start, stop, start: the first one's channel is never reported, and each ends once."""
    host = new(13).start()
    assert scan(host, ENERGY, 1 << 11, 4) == 0
    assert host.status("stopScan") == 0
    assert scan(host, ENERGY, 1 << 20, 4) == 0
    host.run(5.0)
    assert [int(found["channel"]) for found in host.called("energyScanResultHandler")] == [20]
    assert len(host.called("scanCompleteHandler")) == 2


def rejoining(host: Host) -> bool:
    """Whether the stack says that it performs a rejoin."""
    return bytes(host.command("getValue", valueId=VALUE_STACK_IS_PERFORMING_REJOIN)["value"]) == b"\x01"


def rejoin(host: Host) -> int:
    """Start a rejoin under the network key; its status."""
    return host.status("findAndRejoinNetwork", haveCurrentNetworkKey=1, channelMask=0)


def test_a_rejoin_ends_when_the_node_leaves_its_network() -> None:
    """findAndRejoinNetwork, leaveNetwork: the stack performs no rejoin any more, and joins and rejoins again."""
    hub, stick = joined_stick(ROUTER)
    assert rejoin(stick) == 0
    assert rejoining(stick)
    assert rejoin(stick) == 0x70
    assert stick.status("leaveNetwork") == 0
    assert not rejoining(stick)
    give_key(hub)
    assert stick.status("setInitialSecurityState", state=security(0x0100, LINK_KEY)) == 0
    assert stick.status("joinNetwork", nodeType=ROUTER, parameters=parameters()) == 0
    stick.run(10.0)
    assert rejoin(stick) == 0
    stick.run(10.0)
    assert not rejoining(stick)
    assert stick.ncp.node.state == NodeState.JOINED


def test_a_rejoin_while_the_node_looks_for_its_network_is_refused() -> None:
    """networkInit of a sleepy NCP rejoins by itself: findAndRejoinNetwork is INVALID_CALL then, and leaves no mark."""
    _, sleepy = joined_stick(SLEEPY)
    sleepy.start()
    assert sleepy.status("networkInit", networkInitBitmask=0) == 0
    assert sleepy.ncp.node.state == NodeState.JOINING
    assert rejoin(sleepy) == 0x70
    assert not rejoining(sleepy)


def test_unicasts_without_retry_are_reported_when_the_node_leaves_its_network() -> None:
    """Ten that wait for a route: NETWORK_DOWN for each, and then the stick takes ten more."""
    host = new(13).start().form()
    peers = [0x1234 + index // 5 for index in range(11)]
    assert [host.unicast(peer, b"x", options=0)[0] for peer in peers] == [0] * 10 + [0x72]
    assert host.status("leaveNetwork") == 0
    host.run(3.0)
    assert [int(sent["status"]) for sent in host.called("messageSentHandler")] == [0x91] * 10
    host.form()
    assert host.unicast(0x1234, b"x", options=0)[0] == 0


class Recorder(NodeListener):
    """Remembers what became of messages."""

    def __init__(self) -> None:
        self.heard: list[tuple[int, SentStatus]] = []

    def message_sent(self, tag: int, message: ApsMessage, status: SentStatus) -> None:
        self.heard.append((tag, status))


@pytest.mark.parametrize("silently", [False, True])
def test_messages_in_the_mac_are_reported_once_when_the_node_stops(silently: bool) -> None:
    """An indirect unicast, one to itself and a broadcast: NOT_JOINED each; without power nobody hears of them."""
    host, device = with_device(kind=NodeKind.SLEEPY_END_DEVICE)
    hub, recorder = host.ncp.node, Recorder()
    hub.listener = recorder
    message = ApsMessage(device.node.short, 0x0109, 0x0019, 1, 1, b"x", acknowledged=False)
    hub.send(message, tag=1)
    hub.send(message._replace(peer=hub.short), tag=2)
    hub.send(message._replace(peer=BROADCAST_RX_ON, broadcast=True), tag=3)
    if silently:
        hub.power_off()
    else:
        hub.leave(quietly=True)
    host.run(20.0)
    assert recorder.heard == ([] if silently else [(tag, SentStatus.NOT_JOINED) for tag in (1, 2, 3)])


def test_a_message_that_is_through_is_not_reported_again() -> None:
    """Unicast without RETRY, and a broadcast: OK; the node leaves, and the host hears no more of them."""
    host, device = with_device()
    assert host.unicast(device.node.short, b"x", options=0)[0] == 0
    broadcast = {
        "destination": BROADCAST_RX_ON,
        "apsFrame": aps_frame(options=0),
        "radius": 30,
        "messageTag": 1,
    }
    assert host.status("sendBroadcast", **broadcast, messageContents=b"y") == 0
    host.run(1.0)
    assert host.status("leaveNetwork") == 0
    host.run(1.0)
    assert [int(sent["status"]) for sent in host.called("messageSentHandler")] == [0, 0]


def test_the_source_route_table_ends_where_configured() -> None:
    """SOURCE_ROUTE_TABLE_SIZE 2: the third destination gets NO_BUFFERS; a known one gets another route."""
    host = new(8).start()
    assert host.status("setConfigurationValue", configId=0x1A, value=2) == 0
    host.form()
    answers = [
        host.status("setSourceRoute", destination=destination, relayList=[0x1111])
        for destination in (0x2001, 0x2002, 0x2003, 0x2001)
    ]
    assert answers == [0, 0, 0x18, 0]
