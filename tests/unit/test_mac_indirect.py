"""Polls and the indirect queue: frames that wait until a sleepy device asks for them."""

from __future__ import annotations

from harness.emulation.air import Air
from harness.emulation.mac_layer import Mac, MacStatus
from harness.wire.mac import FrameType, build_ack
from tests.unit.macs import CHILD, PAN, PARENT, Layer, Tap, run, sleepy_pair


def test_a_poll_fetches_the_frame_that_waits():
    """Data request, acknowledgement with the pending bit, the frame, its acknowledgement; then the radio sleeps."""
    air, parent, child = sleepy_pair()
    tap, sent, polled = Tap(air), [], []
    parent.send(b"for you", 1, indirect=True, done=sent.append)
    run(air, 3)
    assert tap.seen == []
    child.poll(polled.append)
    run(air, 1)
    assert (sent, polled) == ([MacStatus.SUCCESS], [MacStatus.SUCCESS])
    assert child.listener.payloads == [b"for you"]
    assert parent.listener.polls == [(1, False)]
    frames = [psdu for _, psdu in tap.seen]
    assert [psdu[0] & 7 for psdu in frames] == [3, 2, 1, 2]
    assert frames[0][:2] == b"\x63\x88"
    assert frames[1] == build_ack(frames[0][2], True)
    parent.send(b"direct", 1, done=sent.append)
    run(air, 1)
    assert sent[-1] is MacStatus.NO_ACK


def test_a_poll_with_nothing_to_fetch_says_so_at_once():
    """The acknowledgement without the pending bit ends the poll: NO_DATA."""
    air, _, child = sleepy_pair()
    tap, polled = Tap(air), []
    child.poll(polled.append)
    run(air, 1)
    assert polled == [MacStatus.NO_DATA]
    assert [psdu for _, psdu in tap.of(FrameType.ACK)] == [build_ack(tap.seen[0][1][2], False)]


def test_a_poll_of_nobody_ends_in_no_ack():
    """The parent is gone: three retries, then NO_ACK."""
    air, parent, child = sleepy_pair()
    polled = []
    parent.power_off()
    child.poll(polled.append)
    run(air, 1)
    assert polled == [MacStatus.NO_ACK]


def test_an_indirect_frame_expires_after_7680_ms():
    """macTransactionPersistenceTime is 500 superframes of 960 symbols; a poll after that finds nothing."""
    air, parent, child = sleepy_pair()
    sent, polled = [], []
    air.advance(1_000)
    parent.send(b"too late", 1, indirect=True, done=lambda status: sent.append((air.now, status)))
    air.advance(1_000 + 7_679_999)
    assert sent == []
    air.advance(1_000 + 7_680_000)
    assert sent == [(7_681_000, MacStatus.TRANSACTION_EXPIRED)]
    child.poll(polled.append)
    run(air, 1)
    assert polled == [MacStatus.NO_DATA]
    assert parent.counters.indirect_expired == 1


def test_frames_that_wait_are_fetched_in_order_one_a_poll():
    """The pending bit of each frame says whether another one waits; the last one's is clear."""
    air, parent, child = sleepy_pair()
    for number in range(3):
        parent.send(bytes((number,)), 1, indirect=True)
    child.listener.on_frame = lambda frame: child.poll(polled.append) if frame.pending else None
    polled = []
    child.poll(polled.append)
    run(air, 1)
    assert polled == [MacStatus.SUCCESS] * 3
    assert child.listener.payloads == [b"\0", b"\1", b"\2"]
    assert [frame.pending for frame in child.listener.frames] == [True, True, False]


def test_an_indirect_frame_that_is_lost_waits_for_the_next_poll():
    """7.5.6.4.3: no retry of its own; the next data request brings it, with the same sequence number."""
    air, parent, child = sleepy_pair()
    tap, sent, polled = Tap(air), [], []
    parent.send(b"again", 1, indirect=True, done=sent.append)
    air.drop(where=lambda psdu, sender: psdu[0] & 7 == FrameType.DATA)
    child.poll(polled.append)
    run(air, 1)
    assert (sent, polled) == ([], [MacStatus.NO_DATA])
    child.poll(polled.append)
    run(air, 1)
    assert (sent, polled[1:]) == ([MacStatus.SUCCESS], [MacStatus.SUCCESS])
    (_, first), (_, second) = tap.of(FrameType.DATA)
    assert first == second


def test_a_child_waits_31776_us_for_the_frame_that_was_promised():
    """macMaxFrameTotalWaitTime: 86 back-off periods and the longest frame, from the acknowledgement on."""
    air, parent, child = sleepy_pair()
    tap, ended = Tap(air), []
    parent.send(b"lost", 1, indirect=True)
    air.drop(where=lambda psdu, sender: psdu[0] & 7 == FrameType.DATA)
    child.poll(lambda status: ended.append(air.now))
    run(air, 1)
    (at, _), *_ = tap.of(FrameType.ACK)
    assert ended == [at + 352 + 31_776]


def test_an_indirect_duplicate_is_dropped_at_the_next_poll():
    """The child had the frame, its acknowledgement was lost: the second copy ends the poll but is not passed up."""
    air, parent, child = sleepy_pair()
    sent, polled = [], []
    parent.send(b"once", 1, indirect=True, done=sent.append)
    air.drop(where=lambda psdu, sender: sender == CHILD and psdu[0] & 7 == FrameType.ACK)
    child.poll(polled.append)
    run(air, 7)
    child.poll(polled.append)
    run(air, 1)
    assert polled == [MacStatus.SUCCESS, MacStatus.SUCCESS]
    assert sent == [MacStatus.SUCCESS]
    assert child.listener.payloads == [b"once"]


def test_the_indirect_queue_has_an_end():
    """A full queue refuses at once, in an event of its own: TRANSACTION_OVERFLOW."""
    air = Air(1)
    parent = Mac(air, PARENT, Layer(), indirect_limit=2)
    parent.pan_id, parent.short = PAN, 0
    sent = []
    for _ in range(3):
        parent.send(b"", 1, indirect=True, done=sent.append)
    assert sent == []
    run(air, 1)
    assert sent == [MacStatus.TRANSACTION_OVERFLOW]
    assert parent.counters.indirect_overflow == 1


def test_purged_frames_are_given_up():
    """What waits for a child that left is settled as expired; what waits for others stays."""
    air, parent, child = sleepy_pair()
    sent = []
    parent.send(b"gone", 1, indirect=True, done=lambda status: sent.append((1, status)))
    parent.send(b"kept", 2, indirect=True, done=lambda status: sent.append((2, status)))
    parent.purge(1)
    assert sent == [(1, MacStatus.TRANSACTION_EXPIRED)]
    polled = []
    child.poll(polled.append)
    run(air, 1)
    assert polled == [MacStatus.NO_DATA]
    assert parent.indirect.held == 1


def test_what_a_poll_prompts_waits_for_the_next_poll():
    """The pending bit is settled when the layer above hears of the poll."""
    air, parent, child = sleepy_pair()
    polled = []
    parent.listener.on_poll = lambda: parent.send(b"prompted", 1, indirect=True)
    child.poll(polled.append)
    run(air, 1)
    parent.listener.on_poll = None
    child.poll(polled.append)
    run(air, 1)
    assert polled == [MacStatus.NO_DATA, MacStatus.SUCCESS]
