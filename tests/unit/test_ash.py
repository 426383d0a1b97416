"""ASH: published frames, and the rules of UG101 one by one."""

from __future__ import annotations

import itertools
from typing import Any

import bellows.ash
import bellows.types
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.wire.ash import (
    ERROR_TOO_MANY_TIMEOUTS,
    RESET_POWER_ON,
    RESET_SOFTWARE,
    UNACKNOWLEDGED_OCTETS,
    AshHost,
    AshNcp,
    AshState,
    Event,
    Failed,
    FrameReceived,
    FrameRejected,
    Reset,
)
from harness.wire.ash_frames import CANCEL, FLAG, LONGEST_DATA, Deframer, build_data, build_frame, read_frame

ACK_1 = build_frame(0x81)
COMMAND = bytes.fromhex("00000004")


def frames(events: list[Event]) -> list[bytes]:
    """The EZSP frames among the events."""
    return [event.data for event in events if isinstance(event, FrameReceived)]


def controls(data: bytes) -> list[int]:
    """The control octets of the frames in `data`, all of which must be whole."""
    found = []
    for raw in Deframer().feed(data):
        frame = read_frame(raw)
        assert frame is not None
        found.append(frame[0])
    return found


def connected(**settings: Any) -> tuple[AshHost, AshNcp]:
    """A host and an NCP that have just shaken hands at 0.0 s."""
    host, ncp = AshHost(window=3), AshNcp(**settings)
    host.reset(0.0)
    assert ncp.receive(host.data_to_send(0.0), 0.0) == [Reset(RESET_SOFTWARE)]
    assert host.receive(ncp.data_to_send(0.0), 0.0) == [Reset(RESET_SOFTWARE)]
    return host, ncp


# --- frames -------------------------------------------------------------------------------------------------


def test_the_published_frames_come_out_octet_for_octet() -> None:
    """UG101 3.1, 3.2, 3.4, 3.5 and 3.6: RST, RSTACK, DATA(2,5,0) randomised and plain, ACK(1)+, NAK(6)+, NAK(5)-."""
    assert build_frame(0xC0) == bytes.fromhex("C038BC7E")
    assert build_frame(0xC1, b"\x02\x02") == bytes.fromhex("C102029B7B7E")
    assert build_frame(0x25, bytes.fromhex("00000002")) == bytes.fromhex("25000000021AAD7E").replace(
        b"\x1a", b"\x7d\x3a"
    )
    assert build_data(2, 5, bytes.fromhex("00000002")) == bytes.fromhex("254221A856A6097E")
    assert build_frame(0x81) == bytes.fromhex("8160597E")
    assert build_frame(0xA6) == bytes.fromhex("A634DC7E")
    assert build_frame(0xAD) == bytes.fromhex("AD85B77E")


@given(
    data=st.binary(min_size=3, max_size=LONGEST_DATA),
    number=st.integers(0, 7),
    acknowledged=st.integers(0, 7),
    again=st.booleans(),
)
def test_a_data_frame_is_the_one_bellows_writes_and_reads(
    data: bytes, number: int, acknowledged: int, again: bool
) -> None:
    """Randomisation, CRC and stuffing agree with bellows' both ways for any EZSP frame."""
    ours = build_data(number, acknowledged, data, again=again)
    theirs = bellows.ash.DataFrame(frm_num=number, re_tx=again, ack_num=acknowledged, ezsp_frame=data)
    assert ours == bytes(bellows.ash.AshProtocol._stuff_bytes(theirs.to_bytes())) + FLAG
    assert bellows.ash.parse_frame(bytes(bellows.ash.AshProtocol._unstuff_bytes(ours[:-1]))) == theirs


@given(
    body=st.binary(min_size=1, max_size=LONGEST_DATA), position=st.integers(0, 10_000), bit=st.integers(0, 7)
)
def test_a_flipped_bit_never_gives_another_frame(body: bytes, position: int, bit: int) -> None:
    """CRC-CCITT finds every single flipped bit: what still comes out of the line is the frame or nothing."""
    line = bytearray(build_frame(body[0], body[1:]))
    line[position % (len(line) - 1)] ^= 1 << bit
    seen = [read_frame(raw) for raw in Deframer().feed(bytes(line))]
    assert all(frame is None for frame in seen)


def test_flow_control_octets_inside_a_frame_are_not_part_of_it() -> None:
    """UG101 4.2: XON and XOFF are never data; an end without software flow control drops them."""
    line = build_frame(0x81)
    assert read_frame(b"\x11" + line[:1] + b"\x13\x11" + line[1:-1]) == b"\x81"


def test_a_cancel_octet_drops_what_came_since_the_flag() -> None:
    """UG101 4.2: Cancel ends a frame in progress, even one already spoilt by Substitute."""
    _, ncp = connected()
    good = build_data(0, 0, COMMAND)
    assert ncp.receive(good[:4] + b"\x18" + CANCEL + good, 0.0) == [FrameReceived(COMMAND)]


def test_a_substitute_octet_spoils_the_frame_it_stands_in() -> None:
    """UG101 4.2: the UART put it in for an octet it could not read; a DATA frame so damaged is asked for again."""
    _, ncp = connected()
    good = build_data(0, 0, COMMAND)
    events = ncp.receive(good[:4] + b"\x18" + good[4:], 0.0)
    assert [type(event) for event in events] == [FrameRejected]
    assert controls(ncp.data_to_send(0.0)) == [0xA0]


@pytest.mark.parametrize("escaped", [b"\x7d", b"\x7d\x7d\x5e", b"\x7d\x41"])
def test_an_escape_that_no_sender_writes_is_damage(escaped: bytes) -> None:
    """UG101 4.2: 0x7D is followed by one of six octets and by nothing else."""
    assert read_frame(b"\x25" + escaped) is None


def test_noise_without_a_flag_does_not_pile_up() -> None:
    """A line stuck on garbage costs no memory and the first frame after its flag is read."""
    _, ncp = connected()
    for _ in range(100):
        assert ncp.receive(b"\x55" * 100, 0.0) == []
    assert len(ncp._deframer._unfinished) <= 2 * (LONGEST_DATA + 3)
    good = build_data(0, 0, COMMAND)
    assert ncp.receive(b"\x55\x7e" + good, 0.0) == [FrameReceived(COMMAND)]
    for _ in range(10):
        ncp.receive(b"\x55" * 100, 0.0)
    assert frames(ncp.receive(CANCEL + build_data(1, 0, COMMAND), 0.0)) == [COMMAND]


@given(data=st.binary(max_size=400), cuts=st.lists(st.integers(0, 400), max_size=8), to_host=st.booleans())
@settings(max_examples=200)
def test_any_octets_in_any_chunks_raise_nothing_and_give_the_same_events(
    data: bytes, cuts: list[int], to_host: bool
) -> None:
    """Neither end raises on garbage, and where it is cut makes no difference."""
    whole, chunked = (connected()[0 if to_host else 1] for _ in range(2))
    expected = whole.receive(data, 0.0)
    seen: list[Event] = []
    places = [0, *sorted(cuts), len(data)]
    for start, end in itertools.pairwise(places):
        seen += chunked.receive(data[start:end], 0.0)
    assert seen == expected
    assert chunked.data_to_send(0.0) == whole.data_to_send(0.0)


hostile_frames = st.builds(
    lambda control, data: build_frame(control, data),
    st.integers(0, 255),
    st.binary(max_size=LONGEST_DATA + 20),
)


@given(stream=st.lists(hostile_frames, max_size=12), to_host=st.booleans())
@settings(max_examples=200)
def test_frames_with_a_good_crc_and_any_control_octet_raise_nothing(
    stream: list[bytes], to_host: bool
) -> None:
    """A hostile peer that knows the CRC gets its frames dropped, rejected or read, and never an exception."""
    end = connected()[0 if to_host else 1]
    end.send(COMMAND)
    now = 0.0
    for line in stream:
        end.receive(line, now)
        end.data_to_send(now)
        now += 0.5
        end.on_deadline(now)
        end.data_to_send(now)
        deadline = end.next_deadline()
        assert deadline is None or deadline > now - 0.5
        assert end.unacknowledged <= 5


def test_the_crc_does_not_see_zeros_behind_a_frame() -> None:
    """A property of UG101 2.3 and not of this code: bellows reads the same wrong frame out of the same octets."""
    line = build_data(0, 0, COMMAND)[:-1] + bytes(1) + FLAG
    frame = read_frame(line[:-1])
    assert frame is not None
    assert len(frame) == 1 + len(COMMAND) + 1
    theirs = bellows.ash.parse_frame(bytes(bellows.ash.AshProtocol._unstuff_bytes(line[:-1])))
    assert len(theirs.ezsp_frame) == len(COMMAND) + 1


# --- reset --------------------------------------------------------------------------------------------------


def test_a_reset_is_answered_and_starts_the_numbers_over() -> None:
    """UG101 3.1, 3.2 and 5: RST, after a Cancel, brings RSTACK version 2; both frame numbers are 0 again."""
    host, ncp = connected()
    host.send(COMMAND)
    assert frames(ncp.receive(host.data_to_send(0.1), 0.1)) == [COMMAND]
    ncp.send(b"answer")
    assert ncp.receive(CANCEL * 32 + build_frame(0xC0), 0.2) == [Reset(RESET_SOFTWARE)]
    assert ncp.data_to_send(0.2) == CANCEL + build_frame(0xC1, b"\x02\x0b")
    assert (ncp.unacknowledged, ncp.queued, ncp.next_deadline()) == (0, 0, None)
    assert frames(ncp.receive(build_data(0, 0, COMMAND), 0.3)) == [COMMAND]


def test_a_restarting_ncp_hears_nothing_until_it_has_said_rstack() -> None:
    """A second RST, and a command that was under way, are lost while the chip restarts."""
    ncp = AshNcp()
    stream = build_frame(0xC0) + build_data(0, 0, COMMAND) + build_frame(0xC0)
    events = ncp.receive(stream, 0.0)
    assert [type(event) for event in events] == [Reset, FrameRejected, FrameRejected]
    assert controls(ncp.data_to_send(0.0)) == [0xC1]


def test_an_answer_to_a_command_from_before_the_reset_is_lost() -> None:
    """A command and an RST behind it may come in one chunk: the host hears RSTACK, and no answer of the old link."""
    host, ncp = connected()
    host.send(COMMAND)
    stream = host.data_to_send(0.1) + CANCEL + build_frame(0xC0)
    assert ncp.receive(stream, 0.1) == [FrameReceived(COMMAND), Reset(RESET_SOFTWARE)]
    ncp.send(b"answer")
    assert controls(ncp.data_to_send(0.1)) == [0xC1]
    assert (ncp.unacknowledged, ncp.queued) == (0, 0)


def test_an_ncp_that_restarts_by_itself_tells_the_host() -> None:
    """An unasked RSTACK carries the reason, and whatever either end had queued is gone."""
    host, ncp = connected()
    host.send(COMMAND)
    host.data_to_send(0.1)
    ncp.send(b"callback")
    ncp.reset(RESET_POWER_ON)
    assert host.receive(ncp.data_to_send(0.2), 0.2) == [Reset(RESET_POWER_ON)]
    assert (host.unacknowledged, host.queued, ncp.queued) == (0, 0, 0)


def test_the_host_asks_again_and_gives_up_after_five_retries() -> None:
    """UG101 5: without RSTACK within T_RSTACK_MAX the host resets again, up to five times more."""
    host = AshHost()
    host.reset(0.0)
    host.send(COMMAND)
    now, sent = 0.0, []
    while True:
        sent += controls(host.data_to_send(now))
        deadline = host.next_deadline()
        if deadline is None:
            break
        assert host.on_deadline(deadline - 0.001) == []
        now = deadline
        events = host.on_deadline(now)
    assert events == [Failed(ERROR_TOO_MANY_TIMEOUTS)]
    assert sent == [0xC0] * 6
    assert now == pytest.approx(6 * 3.2)
    with pytest.raises(LocalProtocolError, match="has failed, reset it first"):
        host.send(COMMAND)
    host.reset(20.0)
    host.send(COMMAND)
    assert host.receive(CANCEL + build_frame(0xC1, b"\x02\x0b"), 20.1) == [Reset(RESET_SOFTWARE)]
    assert controls(host.data_to_send(20.1)) == [0x00]


def test_the_host_drops_everything_until_rstack() -> None:
    """UG101 5: after RST the line may still carry frames from before; and RSTACK of another version is not one."""
    host = AshHost()
    host.reset(0.0)
    stale = build_data(3, 1, b"stale") + build_frame(0xC2, b"\x02\x51") + build_frame(0xC1, b"\x01\x0b")
    assert frames(host.receive(stale, 0.1)) == []
    assert host.state is AshState.RESETTING
    assert controls(host.data_to_send(0.1)) == [0xC0]


# --- acknowledgement ----------------------------------------------------------------------------------------


def test_an_answer_that_is_ready_carries_the_acknowledgement() -> None:
    """UG101 5.3: no ACK frame where a DATA frame goes out anyway."""
    host, ncp = connected()
    host.send(COMMAND)
    ncp.receive(host.data_to_send(0.0), 0.0)
    ncp.send(b"answer")
    line = ncp.data_to_send(0.0)
    assert controls(line) == [0x01]
    assert frames(host.receive(line, 0.0)) == [b"answer"]
    assert (host.unacknowledged, host.next_deadline()) == (0, 0.0)
    assert host.data_to_send(0.0) == ACK_1


def test_the_ncp_waits_20_ms_for_an_answer_before_it_acknowledges() -> None:
    """UG101 7: T_TX_ACK_DELAY; then an ACK of its own goes out, once."""
    host, ncp = connected()
    host.send(COMMAND)
    ncp.receive(host.data_to_send(1.0), 1.0)
    assert ncp.data_to_send(1.0) == b""
    assert ncp.next_deadline() == pytest.approx(1.02)
    assert ncp.on_deadline(1.02) == []
    assert ncp.data_to_send(1.02) == ACK_1
    assert ncp.next_deadline() is None


def test_a_repeated_frame_is_acknowledged_at_once_and_not_delivered_again() -> None:
    """UG101 5.5: reTx with an old number means that our acknowledgement was lost."""
    host, ncp = connected()
    host.send(COMMAND)
    line = host.data_to_send(0.0)
    assert frames(ncp.receive(line, 0.0)) == [COMMAND]
    ncp.on_deadline(0.02)
    assert ncp.data_to_send(0.02) == ACK_1
    host.on_deadline(1.6)
    again = host.data_to_send(1.6)
    assert controls(again) == [0x08]
    assert frames(ncp.receive(again, 1.6)) == []
    assert ncp.data_to_send(1.6) == ACK_1


def test_an_acknowledgement_of_a_frame_never_sent_is_not_believed() -> None:
    """UG101 5.2: ackNum lies between the oldest frame under way and the next one; DATA with another is rejected."""
    host, ncp = connected()
    ncp.send(b"answer")
    ncp.data_to_send(0.0)
    events = ncp.receive(build_frame(0x83), 0.0)
    assert events == [FrameRejected("it acknowledges frame 3, which is not under way", b"\x83")]
    assert ncp.unacknowledged == 1
    assert frames(ncp.receive(build_data(0, 3, COMMAND), 0.0)) == []
    assert controls(ncp.data_to_send(0.0)) == [0xA0]
    assert frames(host.receive(build_data(0, 0, b"\x01\x02"), 0.0)) == []


# --- rejection ----------------------------------------------------------------------------------------------


def test_only_the_first_of_several_bad_frames_gets_a_nak() -> None:
    """UG101 5.5: the reject condition lasts until the frame that is due arrives."""
    host, ncp = connected()
    for command in (b"one", b"two", b"three"):
        host.send(command)
    first, second, third = (part + FLAG for part in host.data_to_send(0.0).split(FLAG)[:-1])
    assert frames(ncp.receive(first[:-2] + b"\x55" + FLAG, 0.0)) == []
    assert controls(ncp.data_to_send(0.0)) == [0xA0]
    assert frames(ncp.receive(second + third, 0.0)) == []
    assert ncp.data_to_send(0.0) == b""
    host.receive(build_frame(0xA0), 0.1)
    assert controls(again := host.data_to_send(0.1)) == [0x08, 0x18, 0x28]
    assert frames(ncp.receive(again, 0.1)) == [b"one", b"two", b"three"]
    assert frames(ncp.receive(build_data(4, 0, COMMAND), 0.2)) == []
    assert controls(ncp.data_to_send(0.2)) == [0xA3]


def test_a_nak_acknowledges_what_came_before_it() -> None:
    """UG101 5.5: of three frames the second was lost; only it and the third are sent again."""
    host, ncp = connected()
    for command in (b"one", b"two", b"three"):
        host.send(command)
    first, _, third = (part + FLAG for part in host.data_to_send(0.0).split(FLAG)[:-1])
    assert frames(ncp.receive(first + third, 0.0)) == [b"one"]
    nak = ncp.data_to_send(0.0)
    assert controls(nak) == [0xA1]
    host.receive(nak, 0.1)
    assert host.unacknowledged == 2
    assert controls(host.data_to_send(0.1)) == [0x18, 0x28]


def test_frames_of_a_length_that_does_not_exist_are_rejected() -> None:
    """UG101 2.5: DATA has 3 octets at least and the longest EZSP frame at most; ACK has none."""
    _, ncp = connected()
    for line in (
        build_data(0, 0, b"ab"),
        build_frame(0x00, bytes(LONGEST_DATA + 1)),
        build_frame(0x80, b"x"),
    ):
        assert [type(event) for event in ncp.receive(line, 0.0)] == [FrameRejected]
    for size in (2, LONGEST_DATA + 1):
        with pytest.raises(LocalProtocolError, match=f"3 to 220 octets, not {size}"):
            ncp.send(bytes(size))


# --- window and time-outs -----------------------------------------------------------------------------------


def test_no_more_than_five_frames_go_to_the_host_unacknowledged() -> None:
    """UG101 7: TX_K is 5; each acknowledgement lets as many more out."""
    _, ncp = connected()
    for index in range(8):
        ncp.send(bytes([index]) * 3)
    assert controls(ncp.data_to_send(0.0)) == [0x00, 0x10, 0x20, 0x30, 0x40]
    assert (ncp.unacknowledged, ncp.queued) == (5, 3)
    ncp.receive(build_frame(0x82), 0.0)
    assert controls(ncp.data_to_send(0.0)) == [0x50, 0x60]


def test_never_more_octets_go_to_the_host_than_bellows_can_hold() -> None:
    """Bellows forgets all but 1024 unparsed octets, so long frames shrink the window; one always goes out."""
    _, ncp = connected()
    for _ in range(5):
        ncp.send(bytes(LONGEST_DATA))
    line = ncp.data_to_send(0.0)
    assert len(line) <= UNACKNOWLEDGED_OCTETS < bellows.ash.MAX_BUFFER_SIZE
    assert (ncp.unacknowledged, ncp.queued) == (3, 2)
    _, tiny = connected(octets=1)
    tiny.send(COMMAND)
    tiny.send(COMMAND)
    tiny.data_to_send(0.0)
    assert (tiny.unacknowledged, tiny.queued) == (1, 1)


def test_a_window_that_frame_numbers_cannot_hold_is_our_error() -> None:
    """UG101 5.1: three bits number at most seven frames under way."""
    for window in (0, 8):
        with pytest.raises(LocalProtocolError, match=f"a window of {window} frames"):
            AshNcp(window=window)


def test_silence_doubles_the_time_out_until_the_link_fails() -> None:
    """UG101 5 and 7: 1.6, then 3.2 s; ACK_TIMEOUTS is 4, the fifth makes the NCP send ERROR 0x51."""
    _, ncp = connected()
    ncp.send(COMMAND)
    ncp.data_to_send(0.0)
    now, waits, events = 0.0, [], []
    while not events:
        deadline = ncp.next_deadline()
        assert deadline is not None
        waits.append(round(deadline - now, 3))
        now = deadline
        events = ncp.on_deadline(now)
        line = ncp.data_to_send(now)
    assert waits == [1.6, 3.2, 3.2, 3.2, 3.2]
    assert events == [Failed(ERROR_TOO_MANY_TIMEOUTS)]
    assert line == build_frame(0xC2, b"\x02\x51")
    assert ncp.state is AshState.FAILED


def test_a_failed_ncp_answers_every_frame_with_error_until_it_is_reset() -> None:
    """UG101 6: only RST brings it back; frames it is given meanwhile are lost."""
    host, ncp = connected()
    ncp.fail(0x80)
    error = build_frame(0xC2, b"\x02\x80")
    assert ncp.data_to_send(0.0) == error
    ncp.send(b"lost")
    assert [type(event) for event in ncp.receive(build_data(0, 0, COMMAND), 0.1)] == [FrameRejected]
    assert ncp.data_to_send(0.1) == error
    assert host.receive(error, 0.1) == [Failed(0x80)]
    assert ncp.receive(build_frame(0xC0), 0.2) == [Reset(RESET_SOFTWARE)]
    assert controls(ncp.data_to_send(0.2)) == [0xC1]


def test_quick_acknowledgements_shorten_the_time_out() -> None:
    """UG101 5: t_rx_ack becomes 7/8 of itself plus half the measured time, never under 0.4 s."""
    _, ncp = connected()
    now, last = 0.0, 0.0
    for number in range(20):
        ncp.send(COMMAND)
        ncp.data_to_send(now)
        deadline = ncp.next_deadline()
        assert deadline is not None
        last = deadline - now
        if number == 1:
            assert last == pytest.approx(0.875 * 1.6 + 0.5 * 0.01)
        now += 0.01
        ncp.receive(build_frame(0x80 | (number + 1) & 7), now)
    assert last == pytest.approx(0.4)


def test_no_time_out_ever_fails_an_ncp_that_is_told_so() -> None:
    """UG101 7: ACK_TIMEOUTS of 0 prevents the error state."""
    _, ncp = connected(timeouts=0)
    ncp.send(COMMAND)
    ncp.data_to_send(0.0)
    for _ in range(20):
        deadline = ncp.next_deadline()
        assert deadline is not None
        assert ncp.on_deadline(deadline) == []
        assert controls(ncp.data_to_send(deadline)) == [0x08]


def test_callbacks_wait_while_the_host_is_not_ready_and_responses_do_not() -> None:
    """UG101 2.1 and 7: nRdy holds callbacks back until it is withdrawn, or for T_REMOTE_NOTRDY."""
    host, ncp = connected()
    host.set_ready(False, 1.0)
    ncp.receive(host.data_to_send(1.0), 1.0)
    ncp.send(b"callback", callback=True)
    assert ncp.data_to_send(1.0) == b""
    ncp.send(b"response")
    line = ncp.data_to_send(1.0)
    assert frames(host.receive(line, 1.0)) == [b"response"]
    ncp.receive(host.data_to_send(1.1), 1.1)
    assert ncp.next_deadline() == pytest.approx(2.1)
    ncp.on_deadline(2.1)
    assert frames(host.receive(ncp.data_to_send(2.1), 2.1)) == [b"callback"]
    ncp.send(b"callback two", callback=True)
    host.set_ready(True, 2.2)
    ncp.receive(host.data_to_send(2.2), 2.2)
    assert frames(host.receive(ncp.data_to_send(2.2), 2.2)) == [b"callback two"]
