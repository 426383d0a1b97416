"""The MAC: channel access, acknowledgements, retries, duplicates, power, the same air from the same seed."""

from __future__ import annotations

from functools import partial
from hashlib import sha256
from itertools import pairwise

import pytest

from harness.emulation.air import Air, Link, airtime_us
from harness.emulation.mac_layer import Mac, MacStatus
from harness.errors import LocalProtocolError
from harness.wire.mac import ASSOCIATED, EXTENDED, SHORT, FrameType, MacFrame, build_ack, build_mac
from tests.unit.macs import (
    CHILD,
    OTHER,
    PAN,
    PARENT,
    SENSE,
    Jammer,
    Layer,
    Tap,
    associate,
    member,
    network,
    pair,
    run,
)

# --- sending ----------------------------------------------------------------------------------------------------------


def test_a_data_frame_arrives_and_is_acknowledged():
    """One frame, one acknowledgement, on whole back-off periods; the octets are those of the codec."""
    air, parent, child = pair()
    tap, statuses = Tap(air), []
    parent.send(b"hello", 1, done=statuses.append)
    assert statuses == []
    run(air, 1)
    assert statuses == [MacStatus.SUCCESS]
    assert child.listener.payloads == [b"hello"]
    (at, psdu), (ack_at, ack) = tap.seen
    assert psdu == build_mac(MacFrame(1, psdu[2], b"hello", SHORT, PAN, 1, SHORT, PAN, 0, True))
    assert (at - SENSE) % 320 == 0
    assert 0 <= at - SENSE <= 7 * 320
    assert (ack_at, ack) == (at + airtime_us(len(psdu)) + 192, build_ack(psdu[2]))


def test_the_first_backoff_is_0_to_7_periods_evenly():
    """7.5.1.4: macMinBE 3; over 4,000 frames each of the 8 lengths comes 500 times within 5 deviations."""
    air, parent, _ = pair()
    tap = Tap(air)
    for number in range(4_000):
        air.advance(number * 10_000)
        parent.send(b"", 0xFFFF)
    run(air, 1)
    periods = [(at % 10_000 - SENSE) // 320 for at, _ in tap.seen]
    counts = [periods.count(length) for length in range(8)]
    assert sum(counts) == 4_000
    assert all(abs(count - 500) < 105 for count in counts)


def test_an_unanswered_frame_is_sent_four_times():
    """7.5.6.4.3: macMaxFrameRetries 3, each after macAckWaitDuration and a new back-off; then NO_ACK."""
    air, parent, _ = pair()
    tap, statuses = Tap(air), []
    parent.send(b"anybody?", 0x0BAD, done=statuses.append)
    run(air, 1)
    assert statuses == [MacStatus.NO_ACK]
    assert len({psdu for _, psdu in tap.seen}) == 1
    times = [at for at, _ in tap.seen]
    assert len(times) == 4
    airtime = airtime_us(len(tap.seen[0][1]))
    for before, after in pairwise(times):
        periods, rest = divmod(after - before - airtime - 864 - SENSE, 320)
        assert rest == 0
        assert 0 <= periods <= 7
    assert (parent.counters.tx_unicast_retry, parent.counters.tx_unicast_failed) == (3, 1)


def test_a_lost_acknowledgement_leads_to_a_duplicate_that_is_dropped():
    """The receiver acknowledges the repeated frame too, and passes it up once."""
    air, parent, child = pair()
    tap, statuses = Tap(air), []
    air.drop(2, where=lambda psdu, sender: sender == CHILD)
    parent.send(b"once", 1, done=statuses.append)
    run(air, 1)
    assert statuses == [MacStatus.SUCCESS]
    assert child.listener.payloads == [b"once"]
    assert child.counters.rx_duplicate == 2
    assert [psdu[0] & 7 for _, psdu in tap.seen] == [1, 2, 1, 2, 1, 2]


def test_the_256th_frame_after_is_not_taken_for_a_duplicate():
    """A sender that serves many has the same sequence number again for this receiver: that is a new frame."""
    air, parent, child = pair()
    other = member(air, OTHER, 2)
    parent.send(b"first", 1)
    for number in range(255):
        parent.send(bytes((number,)), 2)
    parent.send(b"last", 1)
    run(air, 5)
    assert child.listener.frames[0].sequence == child.listener.frames[1].sequence
    assert child.listener.payloads == [b"first", b"last"]
    assert len(other.listener.frames) == 255


def test_frames_go_out_one_after_the_other_in_order():
    """A MAC has one transmitter and one queue; each done is called in its turn."""
    air, parent, child = pair()
    order = []
    for number in range(20):
        parent.send(bytes((number,)), 1, done=lambda status, number=number: order.append(number))
    run(air, 1)
    assert order == list(range(20))
    assert child.listener.payloads == [bytes((number,)) for number in range(20)]


@pytest.mark.parametrize(("payload", "space"), [(7, 192), (8, 640), (100, 640)])
def test_a_long_frame_is_followed_by_a_long_space(payload, space):
    """7.5.1.3: up to 18 octets 192 us after the acknowledgement, above that 640 us, before the back-off begins."""
    air, parent, _ = pair()
    tap = Tap(air)
    for _ in range(60):
        parent.send(bytes(payload), 1)
    run(air, 2)
    starts = [at for at, _ in tap.of(FrameType.DATA)]
    ends = [at + 352 for at, _ in tap.of(FrameType.ACK)]
    backoffs = [start - end - space - SENSE for end, start in zip(ends, starts[1:], strict=False)]
    assert {divmod(backoff, 320) for backoff in backoffs} == {(periods, 0) for periods in range(8)}


def test_a_saturated_sender_reaches_the_rate_of_the_standard():
    """127 octets, acknowledged: 1120 + 320 + 4256 + 192 + 352 + 640 us on average, 134.9 kbit/s of MAC payload.

    Latre et al. find at most 163 kbit/s without addresses and acknowledgement, and count no assessment and turnaround.
    """
    air, parent, child = pair()
    count = 2_000
    for _ in range(count):
        parent.send(bytes(116), 1)
    while len(child.listener.frames) < count:
        air.advance(air.next_deadline_us())
    rate = count * 116 * 8 / (air.now / 1_000_000)
    assert abs(rate / (116 * 8 / 6_880e-6) - 1) < 0.005


def test_a_busy_channel_is_waited_for():
    """Two that hear each other do not collide: carrier sense holds the second back, and both arrive unrepeated."""
    air, parent, child = pair()
    other = member(air, OTHER, 2)
    statuses = []
    parent.send(bytes(100), 2, done=statuses.append)
    air.advance(air.next_deadline_us() + 200)
    for _ in range(8):
        child.send(bytes(10), 2, done=statuses.append)
    run(air, 1)
    assert statuses == [MacStatus.SUCCESS] * 9
    assert len(other.listener.frames) == 9
    assert parent.counters.tx_unicast_retry == child.counters.tx_unicast_retry == 0


def test_a_channel_busy_for_too_long_is_given_up():
    """7.5.1.4: after macMaxCSMABackoffs 4 repetitions, five assessments in all, CHANNEL_ACCESS_FAILURE."""
    air, parent, child = pair()
    jammer = Jammer(air, OTHER, Layer())
    statuses = []
    for burst in range(40):
        air.call_at(burst * 4_256, air.transmit, jammer, bytes(127))
    air.advance(1_000)
    parent.send(b"", 1, done=statuses.append)
    air.advance(100_000)
    assert statuses == [MacStatus.CHANNEL_ACCESS_FAILURE]
    assert parent.counters.cca_failures == 1
    assert child.listener.frames == []


def test_hidden_nodes_collide_and_retry():
    """Two senders that do not hear each other lose frames at the one between them, and most arrive by retries."""
    air, parent, child = pair(seed=4)
    other = member(air, OTHER, 2)
    air.set_link(CHILD, OTHER, heard=False)
    statuses = []
    for _ in range(100):
        child.send(bytes(60), 0, done=statuses.append)
        other.send(bytes(60), 0, done=statuses.append)
    run(air, 5)
    assert len(statuses) == 200
    retries = child.counters.tx_unicast_retry + other.counters.tx_unicast_retry
    assert retries > 50
    delivered = statuses.count(MacStatus.SUCCESS)
    assert delivered < 200
    assert len(parent.listener.frames) >= delivered


def test_neighbours_that_hear_each_other_share_the_channel():
    """Six saturated senders in one room: few frames are lost for good; those that find no gap are told."""
    air = Air(5)
    sink = member(air, PARENT, 0)
    senders = [member(air, 0x100 + number, 0x100 + number) for number in range(6)]
    statuses = []
    for _ in range(40):
        for sender in senders:
            sender.send(bytes(40), 0, done=statuses.append)
    run(air, 10)
    assert len(statuses) == 240
    assert statuses.count(MacStatus.NO_ACK) < 20
    assert 140 < statuses.count(MacStatus.SUCCESS) <= len(sink.listener.frames)


def test_a_broadcast_reaches_all_that_listen_and_asks_for_nothing():
    """No acknowledgement, no retry; a sleeping radio does not hear it, nor one in another PAN."""
    air, parent, child = pair()
    sleepy = member(air, OTHER, 2, sleepy=True)
    stranger = member(air, 0x99, 3)
    stranger.pan_id = 0x2222
    tap, statuses = Tap(air), []
    parent.send(b"all", 0xFFFF, done=statuses.append)
    run(air, 1)
    assert statuses == [MacStatus.SUCCESS]
    assert len(tap.seen) == 1
    assert child.listener.payloads == [b"all"]
    assert sleepy.listener.frames == stranger.listener.frames == []


def test_a_frame_to_an_eui64_finds_a_radio_without_short_address():
    """Both address modes carry data, and a sender without short address gives its EUI-64."""
    air, parent, _ = pair()
    joiner = Mac(air, OTHER, Layer())
    joiner.pan_id = PAN
    parent.send(b"to you", OTHER, extended=True)
    joiner.send(b"from me", 0)
    run(air, 1)
    assert joiner.listener.payloads == [b"to you"]
    (frame,) = parent.listener.frames
    assert (frame.src_mode, frame.src, frame.payload) == (EXTENDED, OTHER, b"from me")


def test_a_frame_too_long_for_the_radio_is_refused():
    """116 octets of payload are the most between short addresses; 117 are our mistake."""
    _, parent, _ = pair()
    parent.send(bytes(116), 1)
    with pytest.raises(LocalProtocolError, match="128 octets"):
        parent.send(bytes(117), 1)


def test_octets_that_are_no_frame_are_counted_and_dropped():
    """A wrong FCS, a frame that ends in its addresses, an unknown command: none of it gets further."""
    air, _, child = pair()
    jammer = Jammer(air, OTHER, Layer())
    good = build_mac(MacFrame(1, 1, b"x", SHORT, PAN, 1, SHORT, PAN, 0, True))
    unknown = build_mac(MacFrame(3, 1, b"\x63", SHORT, PAN, 1, SHORT, PAN, 0, True))
    for number, rubbish in enumerate((good[:-1] + b"\0", good[:9], good[:3], good[:1] + b"\0\0", unknown)):
        air.call_at(number * 10_000, air.transmit, jammer, rubbish)
    run(air, 1)
    assert child.listener.frames == []
    assert child.counters.rx_malformed == 4


def test_a_slow_link_still_gets_its_acknowledgement_in_time():
    """100 us of delay each way fit into macAckWaitDuration; 200 us do not."""
    for delay, status in ((100, MacStatus.SUCCESS), (200, MacStatus.NO_ACK)):
        air, parent, child = pair()
        air.set_link(PARENT, CHILD, delay_us=delay)
        statuses = []
        parent.send(b"slow", 1, done=statuses.append)
        run(air, 1)
        assert statuses == [status]
        assert child.listener.payloads == [b"slow"]


# --- power ------------------------------------------------------------------------------------------------------------


def test_a_power_cut_in_the_middle_of_a_frame():
    """Nobody receives it, nothing is retried, and the radio comes back with nothing to do."""
    air, parent, child = pair()
    tap, statuses = Tap(air), []
    parent.send(bytes(100), 1, done=statuses.append)
    parent.send(b"next", 1, done=statuses.append)
    parent.send(b"held", 2, indirect=True, done=statuses.append)
    air.advance(air.next_deadline_us())
    air.advance(air.now + 1_000)
    assert len(tap.seen) == 1
    parent.power_off()
    run(air, 10)
    assert (len(tap.seen), statuses, child.listener.frames) == (1, [], [])
    with pytest.raises(
        LocalProtocolError, match="00-0D-6F-00-00-00-00-01 was asked to send with its power off"
    ):
        parent.send(b"", 1)
    parent.power_on()
    parent.send(b"back", 1, done=statuses.append)
    run(air, 1)
    assert statuses == [MacStatus.SUCCESS]
    assert child.listener.payloads == [b"back"]


def test_a_power_cut_in_the_microsecond_of_the_last_octet():
    """The cut comes first when it was asked for first: the frame is heard by nobody, and nothing is raised."""
    air, parent, child = pair()
    tap = Tap(air)
    parent.send(b"first", 0xFFFF)
    run(air, 1)
    ((at, psdu),) = tap.of(1)
    air, parent, child = pair()
    air.call_at(at + airtime_us(len(psdu)), parent.power_off)
    parent.send(b"first", 0xFFFF)
    run(air, 1)
    assert child.listener.payloads == []
    parent.power_on()
    parent.send(b"second", 0xFFFF)
    run(air, 1)
    assert child.listener.payloads == [b"second"]


def test_a_receiver_that_loses_its_power_before_the_acknowledgement_sends_none():
    """It had the frame, but 192 us later it is dark: the sender repeats in vain."""
    air, parent, child = pair()
    tap, statuses = Tap(air), []
    child.listener.on_frame = lambda frame: air.call_in(100, child.power_off)
    parent.send(b"x", 1, done=statuses.append)
    run(air, 1)
    assert statuses == [MacStatus.NO_ACK]
    assert len(child.listener.frames) == 1
    assert tap.of(FrameType.ACK) == []


def join_blindly(joiner, found):
    """Ask to join, whatever the scan found."""
    joiner.associate(15, PAN, 0, 0x80, lambda status, short: None)


def test_power_off_in_every_moment_of_a_join_leaves_a_radio_that_works():
    """Cut at each event of scan and association, then on again: the next association succeeds."""
    for events in range(60):
        air = Air(events)
        network(air, PARENT, 15, PAN)
        joiner = Mac(air, CHILD, Layer())
        joiner.receiver_on_when_idle = False
        joiner.scan([11, 15], 1, partial(join_blindly, joiner))
        for _ in range(events):
            when = air.next_deadline_us()
            if when is not None:
                air.advance(when)
        joiner.power_off()
        run(air, 1)
        joiner.power_on()
        joiner.reset()
        assert associate(air, joiner, 15) == (ASSOCIATED, 0x1234)


def test_reset_forgets_addresses_and_counters():
    """MLME-RESET: the radio hears what is addressed to it by EUI-64 only, in no PAN."""
    air, parent, child = pair()
    child.poll(lambda status: None)
    run(air, 1)
    child.reset()
    assert (child.short, child.pan_id, child.parent, child.counters.tx_unicast_success) == (0xFFFF,) * 3 + (
        0,
    )
    statuses = []
    parent.send(b"", 1, done=statuses.append)
    run(air, 1)
    assert statuses == [MacStatus.NO_ACK]


# --- determinism ------------------------------------------------------------------------------------------------------


def busy_cell(seed):
    """Ten simulated seconds of a lossy cell with sleepy devices and a hidden pair: all that was on the air."""
    air = Air(seed)
    air.default_link = Link(loss=0.02)
    tap = Tap(air)
    hub = member(air, PARENT, 0)
    others = [member(air, 0x100 + n, n, parent=0, sleepy=n > 3) for n in range(1, 7)]
    air.set_link(0x101, 0x102, heard=False)

    def chatter(mac):
        if mac.receiver_on_when_idle:
            mac.send(bytes(mac.short * 10), 0)
            hub.send(b"answer", mac.short)
        else:
            mac.poll(lambda status: None)
            hub.send(b"held", mac.short, indirect=True)
        air.call_in(50_000, chatter, mac)

    for mac in others:
        chatter(mac)
    air.advance(10_000_000)
    return tap.seen


def fingerprint(seen):
    """SHA-256 over times and octets, in hexadecimal."""
    return sha256(b"".join(at.to_bytes(8, "big") + psdu for at, psdu in seen)).hexdigest()


def test_the_same_seed_gives_the_same_air():
    """Every octet and every microsecond is the same twice, and in every version of Python; another seed's differ."""
    seen = busy_cell(11)
    assert len(seen) == 5581
    assert fingerprint(seen) == fingerprint(busy_cell(11))
    assert fingerprint(seen).startswith("b0c1894f7463c838")
    assert fingerprint(busy_cell(12)) != fingerprint(seen)
