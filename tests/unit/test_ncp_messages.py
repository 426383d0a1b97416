"""Tests of the emulated NCP: messages both ways, their limits, fragments."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from harness.emulation.ncp_status import EMBER_STATUS, Status
from harness.emulation.node import NodeKind, SentStatus
from harness.wire.ezsp import VERSIONS, eui64_to_int
from tests.unit.sticks import (
    DEVICE,
    ENCRYPTION,
    FRAGMENT,
    LINK_KEY,
    RETRY,
    aps_frame,
    new,
    no_refusals,
    with_device,
)


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """An NCP that had to refuse a command fails its test; tests of just that clear the list."""
    yield from no_refusals()


@pytest.mark.parametrize("extended", [False, True])
def test_only_a_peer_with_the_extended_timeout_is_waited_for_so_long(extended: bool) -> None:
    """Four attempts at a dead peer take 6.4 s; 37.12 s when the host says that it sleeps, and only then."""
    host, device = with_device()
    host.command("setExtendedTimeout", remoteEui64=DEVICE, extendedTimeout=extended)
    device.node.power_off()
    host.unicast(device.node.short, b"?")
    host.run(7.0)
    assert len(host.called("messageSentHandler")) == (0 if extended else 1)
    host.run(31.0)
    (sent,) = host.called("messageSentHandler")
    assert sent["status"] == EMBER_STATUS[Status.DELIVERY_FAILED]


@pytest.mark.parametrize("version", VERSIONS)
def test_messages_go_both_ways_in_every_version(version: int) -> None:
    """sendUnicast and messageSentHandler, incomingMessageHandler: payload, tag, address and APS counter are right."""
    host, device = with_device(version)
    short = device.node.short
    status, counter = host.unicast(short, b"to the device", tag=0x21)
    host.run(1.0)
    assert status == 0
    assert [message.payload for message in device.received if message.profile] == [b"to the device"]
    (sent,) = host.called("messageSentHandler")
    new_names = version >= 14
    assert int(sent["status"]) == 0
    assert int(sent["message_tag" if new_names else "messageTag"]) == 0x21
    assert int(sent["nwk" if new_names else "indexOrDestination"]) == short
    assert int(sent["aps_frame" if new_names else "apsFrame"].sequence) == counter
    device.send(b"to the hub", secured=True)
    host.run(1.0)
    (incoming,) = host.called("incomingMessageHandler")
    assert bytes(incoming["message" if new_names else "messageContents"]) == b"to the hub"
    assert int(incoming["nwk" if new_names else "sender"]) == short
    assert int(incoming["aps_frame" if new_names else "apsFrame"].options) & ENCRYPTION
    if new_names:
        assert eui64_to_int(incoming["eui64"]) == DEVICE
    assert device.sent == [SentStatus.DELIVERED]


def test_a_message_longer_than_one_frame_carries_is_refused() -> None:
    """82 octets fit, 83 do not; under a link key 73 fit; a real stick does not fragment for its host."""
    host, device = with_device()
    short = device.node.short
    assert host.unicast(short, bytes(82))[0] == 0
    assert host.unicast(short, bytes(83))[0] == EMBER_STATUS[Status.MESSAGE_TOO_LONG]
    assert host.unicast(short, bytes(73), options=RETRY | ENCRYPTION)[0] == 0
    assert host.unicast(short, bytes(74), options=RETRY | ENCRYPTION)[0] == 0x74
    assert host.unicast(short, bytes(75), options=RETRY | 0x0400)[0] == 0x74


def test_more_unicasts_than_the_stick_holds_are_refused() -> None:
    """APS_UNICAST_MESSAGE_COUNT messages may wait for their acknowledgement, the next is MAX_MESSAGE_LIMIT_REACHED."""
    host, device = with_device()
    device.node.power_off()
    assert [host.unicast(device.node.short, b"x")[0] for _ in range(11)] == [0] * 10 + [0x72]
    host.run(30.0)
    assert [int(values["status"]) for values in host.called("messageSentHandler")] == [0x66] * 10
    assert host.unicast(device.node.short, b"x")[0] == 0


def test_a_message_under_a_link_key_that_is_not_there_fails() -> None:
    """After a reset the transient key is gone: APS_ENCRYPTION_ERROR; with one in the key table it goes through."""
    host, device = with_device()
    host.start()
    assert host.status("networkInit", networkInitBitmask=0) == 0
    host.run(0.5)
    host.callbacks.clear()
    host.unicast(device.node.short, b"x", options=RETRY | ENCRYPTION)
    host.run(1.0)
    assert [int(values["status"]) for values in host.called("messageSentHandler")] == [0xA6]
    assert host.status("importLinkKey", index=0, address=DEVICE, key=LINK_KEY) == 0
    host.unicast(device.node.short, b"y", options=RETRY | ENCRYPTION)
    host.run(1.0)
    assert device.received[-1].payload == b"y"


def test_a_message_for_a_sleepy_child_waits_for_7_68_s_and_no_longer() -> None:
    """The child is dead: the indirect frame expires at its parent, the host hears DELIVERY_FAILED."""
    host, device = with_device(kind=NodeKind.SLEEPY_END_DEVICE)
    device.node.power_off()
    before = host.air.now
    host.unicast(device.node.short, b"x", options=0)
    host.run(7.0)
    assert host.called("messageSentHandler") == []
    host.run(1.0)
    assert host.air.now - before < 9_000_000
    assert [int(values["status"]) for values in host.called("messageSentHandler")] == [0x66]


def test_broadcasts_beyond_the_broadcast_table_are_refused() -> None:
    """BROADCAST_TABLE_SIZE (15) within 9 s, then NETWORK_BUSY."""
    host = new(13).start().form()
    args = {"destination": 0xFFFD, "apsFrame": aps_frame(options=0), "radius": 30, "messageTag": 1}
    args["messageContents"] = b"x"
    assert [host.status("sendBroadcast", **args) for _ in range(16)] == [0] * 15 + [0xA1]
    host.run(10.0)
    assert host.status("sendBroadcast", **args) == 0


def test_a_broadcast_and_a_multicast_reach_the_device() -> None:
    """The device hears both; a multicast only for its groups; the host is told that they were sent."""
    host, device = with_device()
    device.node.groups = [0x0BAD]
    args = {"apsFrame": aps_frame(options=0), "radius": 30, "messageTag": 1}
    assert host.status("sendBroadcast", destination=0xFFFD, messageContents=b"all", **args) == 0
    for group in (0x0BAD, 0x0BAE):
        assert host.status("sendMulticast", apsFrame=aps_frame(options=0, group=group), hops=30, nonmemberRadius=7,
                           messageTag=2, messageContents=b"group") == 0  # fmt: skip
    host.run(3.0)
    assert [message.payload for message in device.received if message.profile] == [b"all", b"group"]
    sent = [(int(values["type"]), int(values["status"])) for values in host.called("messageSentHandler")]
    assert sent == [(6, 0), (3, 0), (3, 0)]


def test_a_long_message_comes_in_fragments_that_the_host_acknowledges() -> None:
    """Index in the group's low octet, the count in the first's high octet; sendReply is the APS acknowledgement."""
    host, device = with_device()
    device.send(bytes(range(200)))
    pieces: dict[int, bytes] = {}
    total = 0
    for _ in range(100):
        host.run(0.05)
        for values in host.called("incomingMessageHandler"):
            aps = values["apsFrame"]
            assert aps.options & FRAGMENT
            if aps.groupId & 0xFF == 0:
                total = aps.groupId >> 8
            pieces[int(aps.groupId) & 0xFF] = bytes(values["messageContents"])
            group = 0xFF00 | int(aps.groupId) & 0xFF
            ack = aps_frame(options=int(aps.options), group=group, sequence=int(aps.sequence))
            assert (
                host.status("sendReply", sender=int(values["sender"]), apsFrame=ack, messageContents=b"") == 0
            )
        host.callbacks.clear()
    assert total == len(pieces) == 3
    assert b"".join(pieces[index] for index in sorted(pieces)) == bytes(range(200))
    assert device.sent == [SentStatus.DELIVERED]


def test_a_host_sends_a_long_message_in_fragments() -> None:
    """APS_OPTION_FRAGMENT with index and count: the device gets one message."""
    host, device = with_device()
    payload = bytes(range(150))
    blocks = [payload[start : start + 60] for start in range(0, 150, 60)]
    sequence = 0
    for index, block in enumerate(blocks):
        group = len(blocks) << 8 if index == 0 else index
        values = host.command(
            "sendUnicast", type=0, indexOrDestination=device.node.short, messageTag=index, messageContents=block,
            apsFrame=aps_frame(options=RETRY | FRAGMENT, group=group, sequence=sequence),
        )  # fmt: skip
        assert int(values["status"]) == 0
        sequence = int(values["sequence"])
        host.run(1.0)
    assert [message.payload for message in device.received if message.profile] == [payload]
    assert [int(values["status"]) for values in host.called("messageSentHandler")] == [0, 0, 0]
