"""Long messages between emulated nodes: what fits a frame, fragments, refusals."""

from __future__ import annotations

import pytest

from harness.emulation.node import NodeKind, SentStatus
from tests.unit.premises import (
    HUB,
    PPMID,
    Premises,
    message,
)


def test_messages_are_as_long_as_a_frame_allows():
    """82 octets fit a frame, 73 under a link key; the longest one makes a PSDU of 127 octets."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    assert (device.max_payload(), device.max_payload(secured=True)) == (82, 73)
    assert device.max_payload(secured=True, relays=2) == 67
    for secured, octets in ((False, 82), (True, 73)):
        premises.frames.clear()
        device.send(message(0, bytes(octets), secured=secured))
        premises.run(1)
        assert len(premises.frames[0][1]) == 127
    assert [len(each.payload) for each in premises.told[HUB].messages] == [82, 73]


@pytest.mark.parametrize("kind", [NodeKind.END_DEVICE, NodeKind.SLEEPY_END_DEVICE])
@pytest.mark.parametrize("loss", [0.0, 0.1])
@pytest.mark.parametrize("window", [1, 3])
def test_a_long_message_goes_in_fragments(kind, loss, window):
    """1,500 octets, the longest of a GBCS tunnel, arrive whole in both directions; each block is secured by itself."""
    premises = Premises(fragment_window=window)
    device = premises.member(PPMID, kind, fragment_window=window)
    premises.air.set_link(HUB, PPMID, loss=loss)
    long = bytes(number & 0xFF for number in range(1500))
    device.send(message(0, long), tag=1)
    premises.run(60)
    premises.hub.send(message(device.short, long[::-1]), tag=2)
    premises.run(300)
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]
    assert premises.told[HUB].sent == [(2, SentStatus.DELIVERED)]
    assert [each.payload for each in premises.told[HUB].messages] == [long]
    assert [each.payload for each in premises.told[PPMID].messages] == [long[::-1]]


def test_a_long_message_to_nobody_fails():
    """Fragments that are not acknowledged fail like a message."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    device.power_off()
    premises.hub.send(message(device.short, bytes(300)), tag=1)
    premises.run(10)
    assert premises.told[HUB].sent == [(1, SentStatus.NOT_ACKNOWLEDGED)]


def test_what_fits_no_frame_and_cannot_be_split_is_refused():
    """Without acknowledgement, to many, or with fragments off, a long message is TOO_LONG."""
    premises = Premises(fragment=False)
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    premises.hub.send(message(device.short, bytes(74)), tag=1)
    device.send(message(0, bytes(74), acknowledged=False), tag=2)
    device.send(message(0xFFFD, bytes(83), secured=False, broadcast=True), tag=3)
    device.send(message(0, bytes(71 * 256)), tag=4)
    premises.run(1)
    assert premises.told[HUB].sent == [(1, SentStatus.TOO_LONG)]
    assert premises.told[PPMID].sent == [(tag, SentStatus.TOO_LONG) for tag in (2, 3, 4)]


def test_an_application_may_split_messages_itself():
    """As an EZSP host does: blocks in, blocks out, each acknowledged by the application."""
    premises = Premises(fragment=False)
    device = premises.member(PPMID, NodeKind.END_DEVICE)
    long = bytes(range(150))
    device.send(message(0, long), tag=1)
    hub = premises.told[HUB]
    for _ in range(10):
        premises.run(0.2)
        for whole, counter, block, _ in hub.of("fragment"):
            premises.hub.acknowledge_block(whole, counter, block)
        hub.messages += [event[0] for event in hub.of("fragment")]
        hub.seen.clear()
    assert b"".join(each.payload for each in hub.messages) == long
    assert premises.told[PPMID].sent == [(1, SentStatus.DELIVERED)]
    parts = [long[start : start + 50] for start in range(0, 150, 50)]
    counter = premises.hub.send(message(device.short, parts[0]), tag=10, block=0, blocks=3)
    premises.run(1)
    for number in (1, 2):
        premises.hub.send(
            message(device.short, parts[number]), tag=10 + number, block=number, aps_counter=counter
        )
        premises.run(1)
    assert hub.sent == [(10 + number, SentStatus.DELIVERED) for number in range(3)]
    assert [each.payload for each in premises.told[PPMID].messages] == [long]
