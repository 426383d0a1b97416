"""APS fragmentation: windows, losses, duplicates, silence, hostile blocks."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.aps import Fragment
from harness.wire.fragments import (
    BlocksToAcknowledge,
    BlockToSend,
    Fragmenter,
    MessageAbandoned,
    MessageDelivered,
    MessageFailed,
    MessageReassembled,
    Reassembler,
    SenderEvent,
)

KEY = (0x1234, 7)


def numbers(events: list[SenderEvent]) -> list[int]:
    """Return the block numbers of the blocks that the sender puts on the air."""
    return [
        0 if event.fragment.first else event.fragment.number
        for event in events
        if isinstance(event, BlockToSend)
    ]


def test_a_message_goes_window_by_window_as_the_certification_test_says() -> None:
    """TP/PRO/BV-43: 8 blocks of 30 octets, window 3, block 1 lost once; block numbers and bitfields as in its steps."""
    now = 0.0
    message = bytes(range(1, 0xF1))
    sender = Fragmenter(message, 30, window=3)
    receiver = Reassembler(window=3)
    sent = sender.start(now)
    assert [event.fragment for event in sent if isinstance(event, BlockToSend)] == [
        Fragment(True, 8),
        Fragment(False, 1),
        Fragment(False, 2),
    ]
    answers = []
    for event in (sent[0], sent[2]):
        assert isinstance(event, BlockToSend)
        answers += receiver.receive(KEY, event.fragment, event.payload, now)
    assert answers == [BlocksToAcknowledge(KEY, Fragment(True, 0, 0xFD))]
    windows = []
    history = []
    while not sender.finished:
        (answer,) = (answer for answer in answers if isinstance(answer, BlocksToAcknowledge))
        sent = sender.acknowledge(answer.fragment, now)
        windows.append(numbers(sent))
        answers = []
        for event in sent:
            if isinstance(event, BlockToSend):
                answers += receiver.receive(KEY, event.fragment, event.payload, now)
        history += answers
    assert windows == [[1], [3, 4, 5], [6, 7], []]
    assert history == [
        BlocksToAcknowledge(KEY, Fragment(True, 0, 0xFF)),
        BlocksToAcknowledge(KEY, Fragment(False, 3, 0xFF)),
        BlocksToAcknowledge(KEY, Fragment(False, 6, 0xFF)),
        MessageReassembled(KEY, message),
    ]
    assert sent == [MessageDelivered()]
    assert sender.next_deadline() is None


@given(
    st.binary(min_size=1, max_size=300),
    st.integers(1, 60),
    st.integers(1, 8),
    st.sampled_from((0.0, 0.05)),
    st.lists(st.integers(0, 9), max_size=200),
)
def test_a_message_arrives_once_and_whole_or_the_sender_knows(
    message: bytes,
    block_size: int,
    window: int,
    interframe_delay: float,
    fates: list[int],
) -> None:
    """Whatever is lost or doubled: one whole message, or a failure after the retries."""
    if -(-len(message) // block_size) > 255:
        block_size = 2
    now = 0.0
    sender = Fragmenter(message, block_size, window=window, interframe_delay=interframe_delay)
    receiver = Reassembler(window=window, timeout=30.0)
    received: list[bytes] = []
    outcome: object = None
    fate = iter(fates)
    pending = sender.start(now)
    for _ in range(3000):
        replies = []
        for event in pending:
            if not isinstance(event, BlockToSend):
                outcome = event
                continue
            copies = {0: 0, 1: 2}.get(next(fate, 9), 1)
            for _ in range(copies):
                replies += receiver.receive(KEY, event.fragment, event.payload, now)
        pending = []
        for reply in replies:
            if isinstance(reply, MessageReassembled):
                received.append(reply.payload)
            elif isinstance(reply, BlocksToAcknowledge) and next(fate, 9) != 0:
                pending += sender.acknowledge(reply.fragment, now)
        if pending:
            continue
        deadline = sender.next_deadline()
        if deadline is None:
            break
        now = deadline
        pending = sender.on_deadline(now)
    assert sender.finished
    assert received in ([], [message])
    if isinstance(outcome, MessageDelivered):
        assert received == [message]
    else:
        assert isinstance(outcome, MessageFailed)


def test_a_lost_acknowledgement_costs_one_repetition() -> None:
    """The window goes again after apscAckWaitDuration; the receiver acknowledges again, and has one message."""
    now = 0.0
    sender = Fragmenter(b"abcdef", 3)
    receiver = Reassembler()
    (first,) = sender.start(now)
    assert isinstance(first, BlockToSend)
    receiver.receive(KEY, first.fragment, first.payload, now)
    assert sender.next_deadline() == 1.6
    assert sender.on_deadline(1.59) == []
    now = 1.6
    assert sender.on_deadline(now) == [first]
    (acknowledgement,) = receiver.receive(KEY, first.fragment, first.payload, now)
    assert acknowledgement == BlocksToAcknowledge(KEY, Fragment(True, 0, 0xFF))
    (last,) = sender.acknowledge(Fragment(True, 0, 0xFF), now)
    assert isinstance(last, BlockToSend)
    assert receiver.receive(KEY, last.fragment, last.payload, now) == [
        BlocksToAcknowledge(KEY, Fragment(False, 1, 0xFF)),
        MessageReassembled(KEY, b"abcdef"),
    ]
    now += 1.6
    assert sender.on_deadline(now) == [last]
    assert receiver.receive(KEY, last.fragment, last.payload, now) == [
        BlocksToAcknowledge(KEY, Fragment(False, 1, 0xFF))
    ]
    assert sender.acknowledge(Fragment(False, 1, 0xFF), now) == [MessageDelivered()]
    assert sender.acknowledge(Fragment(False, 1, 0xFF), now) == []


def test_silence_fails_the_message_after_the_retries() -> None:
    """apscMaxFrameRetries repetitions, apscAckWaitDuration apart, then the message is given up."""
    now = 0.0
    sender = Fragmenter(bytes(100), 50, window=2, retries=3)
    attempts = [numbers(sender.start(now))]
    while (deadline := sender.next_deadline()) is not None:
        now = deadline
        events = sender.on_deadline(now)
        attempts.append(numbers(events))
    assert attempts == [[0, 1]] * 4 + [[]]
    assert events == [MessageFailed(0)]
    assert now == pytest.approx(6.4)
    assert sender.on_deadline(99.0) == []


def test_a_receiver_that_never_gets_on_does_not_keep_the_sender_busy() -> None:
    """Acknowledgements that confirm nothing new use up the retries like silence does."""
    now = 0.0
    sender = Fragmenter(bytes(100), 50, window=2, retries=2)
    sender.start(now)
    assert numbers(sender.acknowledge(Fragment(True, 0, 0xFC), now)) == [0, 1]
    assert numbers(sender.acknowledge(Fragment(True, 0, 0xFC), now)) == [0, 1]
    assert sender.acknowledge(Fragment(True, 0, 0xFC), now) == []
    assert sender.on_deadline(1.6) == [MessageFailed(0)]


def test_blocks_keep_the_interframe_delay() -> None:
    """apsInterframeDelay: the blocks of a window go one by one, and the wait for the answer starts at the last."""
    sender = Fragmenter(bytes(6), 2, window=3, interframe_delay=0.1)
    assert numbers(sender.start(0.0)) == [0]
    assert sender.next_deadline() == 0.1
    assert numbers(sender.on_deadline(0.1)) == [1]
    assert numbers(sender.on_deadline(0.2)) == [2]
    assert sender.next_deadline() == pytest.approx(1.8)
    assert numbers(sender.on_deadline(1.8)) == [0]
    assert sender.acknowledge(Fragment(True, 0, 0xFA), 1.85) == []
    assert numbers(sender.on_deadline(1.91)) == [2]


def test_a_sender_in_smaller_windows_is_understood() -> None:
    """A receiver that expects windows of three answers one that waits after each block, once it repeats."""
    receiver = Reassembler(window=3)
    assert receiver.receive(KEY, Fragment(True, 2), b"a", 0.0) == []
    assert receiver.receive(KEY, Fragment(True, 2), b"a", 1.6) == [
        BlocksToAcknowledge(KEY, Fragment(True, 0, 0xFD))
    ]


def test_blocks_may_overtake_the_first() -> None:
    """Before block 0 tells the number of blocks, the others are kept, and a full window reports it missing."""
    receiver = Reassembler(window=2)
    assert receiver.receive(KEY, Fragment(False, 1), b"b", 0.0) == [
        BlocksToAcknowledge(KEY, Fragment(True, 0, 0xFE))
    ]
    assert receiver.receive(KEY, Fragment(True, 2), b"a", 0.1) == [
        BlocksToAcknowledge(KEY, Fragment(True, 0, 0xFF)),
        MessageReassembled(KEY, b"ab"),
    ]


def test_an_unfinished_message_is_abandoned() -> None:
    """The receiver gives up when no block comes for its time-out, and says how many are missing."""
    receiver = Reassembler(window=1, timeout=6.4)
    receiver.receive(KEY, Fragment(True, 3), b"a", 0.0)
    receiver.receive("other", Fragment(False, 2), b"c", 1.0)
    assert receiver.next_deadline() == 6.4
    assert receiver.on_deadline(6.3) == []
    assert receiver.on_deadline(8.0) == [MessageAbandoned(KEY, 2), MessageAbandoned("other", None)]
    assert receiver.next_deadline() is None


def test_a_new_message_under_the_key_of_a_finished_one_is_taken() -> None:
    """APS counters come round: another first block begins another message, the same one is answered again."""
    receiver = Reassembler(timeout=37.0)
    receiver.receive(KEY, Fragment(True, 2), b"a", 0.0)
    assert MessageReassembled(KEY, b"ab") in receiver.receive(KEY, Fragment(False, 1), b"b", 0.1)
    assert receiver.receive(KEY, Fragment(True, 2), b"a", 0.2) == [
        BlocksToAcknowledge(KEY, Fragment(True, 0, 0xFF))
    ]
    receiver.receive(KEY, Fragment(True, 2), b"c", 5.0)
    assert MessageReassembled(KEY, b"cd") in receiver.receive(KEY, Fragment(False, 1), b"d", 5.1)
    receiver.receive(KEY, Fragment(True, 3), b"c", 9.0)
    receiver.receive(KEY, Fragment(False, 1), b"e", 9.1)
    assert MessageReassembled(KEY, b"cef") in receiver.receive(KEY, Fragment(False, 2), b"f", 9.2)


def test_two_messages_do_not_mix_and_a_third_finds_no_room() -> None:
    """Keys separate messages; more than `capacity` at a time are refused, and a finished one gives its place back."""
    receiver = Reassembler(capacity=2)
    receiver.receive(1, Fragment(True, 2), b"a", 0.0)
    receiver.receive(2, Fragment(True, 2), b"x", 0.0)
    with pytest.raises(RemoteProtocolError, match="while 2 are being put together"):
        receiver.receive(3, Fragment(True, 2), b"?", 0.0)
    assert MessageReassembled(1, b"ab") in receiver.receive(1, Fragment(False, 1), b"b", 0.1)
    assert MessageReassembled(2, b"xy") in receiver.receive(2, Fragment(False, 1), b"y", 0.1)
    assert MessageReassembled(3, b"!") in receiver.receive(3, Fragment(True, 1), b"!", 0.1)


@pytest.mark.parametrize(
    ("fragment", "what"),
    [
        (Fragment(True, 0), "0 blocks"),
        (Fragment(False, 0), "not marked"),
        (Fragment(True, 4), "it said 3 before"),
        (Fragment(False, 3), "Block 3 of a message of 3"),
    ],
    ids=["empty", "unmarked", "recounted", "beyond"],
)
def test_a_block_that_fits_no_message_is_refused(fragment: Fragment, what: str) -> None:
    """The offending block is named and the message goes on without it."""
    receiver = Reassembler()
    receiver.receive(KEY, Fragment(True, 3), b"a", 0.0)
    with pytest.raises(RemoteProtocolError, match=what):
        receiver.receive(KEY, fragment, b"?", 0.0)
    receiver.receive(KEY, Fragment(False, 1), b"b", 0.0)
    assert MessageReassembled(KEY, b"abc") in receiver.receive(KEY, Fragment(False, 2), b"c", 0.0)


@given(
    st.integers(1, 8),
    st.lists(
        st.tuples(st.integers(0, 3), st.booleans(), st.integers(0, 255), st.binary(max_size=4)), max_size=40
    ),
)
def test_any_blocks_are_taken_or_refused(window: int, blocks: list[tuple[int, bool, int, bytes]]) -> None:
    """Hostile blocks give events or a RemoteProtocolError."""
    receiver = Reassembler(window=window, capacity=3)
    now = 0.0
    for key, first, number, payload in blocks:
        now += 0.5
        try:
            receiver.receive(key, Fragment(first, number), payload, now)
        except RemoteProtocolError:
            continue


@given(
    st.integers(1, 8), st.lists(st.tuples(st.integers(0, 20), st.none() | st.integers(0, 255)), max_size=40)
)
def test_any_acknowledgements_are_taken_or_refused(
    window: int, answers: list[tuple[int, int | None]]
) -> None:
    """Hostile acknowledgements give events or a RemoteProtocolError, and the sender comes to an end."""
    sender = Fragmenter(bytes(100), 10, window=window)
    now = 0.0
    sender.start(now)
    for number, bitfield in answers:
        now += 0.1
        try:
            sender.acknowledge(Fragment(number == 0, number, bitfield), now)
        except RemoteProtocolError:
            continue
    for _ in range(100):
        deadline = sender.next_deadline()
        if deadline is None:
            break
        sender.on_deadline(deadline)
    assert sender.finished


def test_an_acknowledgement_before_its_time_is_refused() -> None:
    """One for a window that was not sent, or for a message not begun, or without bitfield, names itself."""
    sender = Fragmenter(bytes(20), 10)
    with pytest.raises(RemoteProtocolError, match="window at block 0"):
        sender.acknowledge(Fragment(True, 0, 0xFF), 0.0)
    sender.start(0.0)
    with pytest.raises(RemoteProtocolError, match="window at block 1; the one sent starts at 0"):
        sender.acknowledge(Fragment(False, 1, 0xFF), 0.0)
    with pytest.raises(RemoteProtocolError, match="without bitfield"):
        sender.acknowledge(Fragment(True, 0), 0.0)


def test_what_cannot_be_fragmented_is_our_mistake() -> None:
    """255 blocks are the most; windows have 1 to 8."""
    assert Fragmenter(bytes(255), 1).blocks == 255
    for arguments in ((bytes(256), 1), (b"", 10), (b"x", 0)):
        with pytest.raises(LocalProtocolError):
            Fragmenter(*arguments)
    for window in (0, 9):
        with pytest.raises(LocalProtocolError, match="window"):
            Fragmenter(b"x", 1, window=window)
        with pytest.raises(LocalProtocolError, match="window"):
            Reassembler(window=window)
