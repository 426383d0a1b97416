"""The air: time, airtime, who hears whom, collisions, losses, taps."""

from __future__ import annotations

import pytest

from harness.emulation.air import Air, Channel, Link, Transmission, airtime_us
from harness.errors import LocalProtocolError
from harness.wire.mac import EXTENDED, SHORT, MacFrame, build_ack, build_mac

ALICE, BOB, CAROL = 0xA, 0xB, 0xC


class Ear:
    """A radio that transmits what it is told to, when it is told to, and keeps all that it hears."""

    def __init__(self, air, eui64, channel=11):
        self.air = air
        self.eui64 = eui64
        self.tuned: Channel = air.channel(channel)
        self.listening_since = 0
        self.awaiting: Transmission | None = None
        self.heard: list[tuple[int, bytes]] = []
        self.acks: list[tuple[int, bytes]] = []
        self.missed: list[int] = []
        self.wants_ack = False
        self.acknowledges = False
        air.add(self)

    def transmitted(self, transmission):
        if self.wants_ack:
            self.awaiting = transmission

    def received(self, psdu, link):
        self.heard.append((self.air.now, psdu))
        if self.acknowledges:
            self.air.acknowledge(self, psdu[2], False)

    def acknowledged(self, psdu):
        self.acks.append((self.air.now, psdu))

    def ack_missed(self, transmission):
        self.missed.append(self.air.now)


def broadcast(payload=b"", sequence=1):
    """A data frame for everybody."""
    return build_mac(MacFrame(1, sequence, payload, SHORT, 0x1A62, 0xFFFF, SHORT, 0x1A62, 0x0000))


def to(eui64, payload=b"", sequence=1):
    """A data frame for one radio, to be acknowledged."""
    return build_mac(MacFrame(1, sequence, payload, EXTENDED, 0x1A62, eui64, SHORT, 0x1A62, 0x0000, True))


def radios(*eui64s, seed=1):
    """An air and a radio on it for each EUI-64."""
    air = Air(seed)
    return air, *(Ear(air, eui64) for eui64 in eui64s)


# --- time -------------------------------------------------------------------------------------------------------------


def test_calls_of_the_same_microsecond_come_in_the_order_they_were_asked_for():
    """The heap is FIFO among equal times, whatever was pushed and cancelled around them."""
    air = Air()
    order = []
    air.call_at(500, order.append, "late")
    timers = [air.call_at(100, order.append, number) for number in range(50)]
    timers[7].cancel()
    air.call_at(20, order.append, "early")
    air.advance(1_000)
    assert order == ["early", *range(7), *range(8, 50), "late"]


def test_a_call_asked_for_at_the_present_time_comes_after_those_due_already():
    """An event that asks for another one at its own time does not overtake its neighbours."""
    air = Air()
    order = []
    air.call_at(10, lambda: air.call_in(0, order.append, "second"))
    air.call_at(10, order.append, "first")
    air.call_at(11, lambda: air.call_at(3, order.append, air.now))
    air.advance(20)
    assert order == ["first", "second", 11]


def test_the_air_follows_the_timed_contract():
    """next_deadline is in seconds and is None when nothing is to come; on_deadline runs all that is due."""
    air = Air()
    assert air.next_deadline() is None
    ran = []
    air.call_at(1_500_000, ran.append, 1)
    timer = air.call_at(1_000_000, ran.append, 0)
    timer.cancel()
    timer.cancel()
    assert air.next_deadline() == 1.5
    air.on_deadline(1.499999)
    assert ran == []
    air.on_deadline(1.5)
    assert (ran, air.now, air.next_deadline()) == ([1], 1_500_000, None)


def test_cancelled_timers_do_not_pile_up():
    """A hundred thousand long timers set and cancelled leave next to nothing in the heap."""
    air = Air()
    for _ in range(100_000):
        air.call_in(3_600_000_000, print).cancel()
    assert len(air._heap) < 200
    assert air.next_deadline() is None


def test_an_exception_leaves_the_air_and_the_rest_goes_on_later():
    """What a callback raises comes out of advance; the events behind it are not lost."""
    air = Air()
    ran = []

    def fail():
        raise ZeroDivisionError("in an emulated member")

    air.call_at(5, fail)
    air.call_at(5, ran.append, "next")
    with pytest.raises(ZeroDivisionError, match="emulated member"):
        air.advance(10)
    assert (air.now, ran) == (5, [])
    air.advance(10)
    assert (air.now, ran) == (10, ["next"])


def test_time_does_not_go_back_nor_on_inside_an_event():
    """An earlier time does nothing; an event cannot make the time go on under itself."""
    air = Air()
    air.advance(100)
    air.advance(50)
    assert air.now == 100
    air.call_in(1, air.advance, 101)
    air.advance(101)
    air.call_in(1, air.advance, 200)
    with pytest.raises(LocalProtocolError, match="200 us inside an event of 102 us"):
        air.advance(150)


# --- airtime ----------------------------------------------------------------------------------------------------------


def test_a_frame_takes_32_us_an_octet_and_6_octets_of_phy_header():
    """802.15.4-2006 6.3 and 6.5: 127 octets are 4256 us, an acknowledgement is 352 us."""
    assert (airtime_us(127), airtime_us(5)) == (4256, 352)
    air, alice, bob = radios(ALICE, BOB)
    air.advance(1_000)
    psdu = broadcast(bytes(116))
    assert len(psdu) == 127
    air.transmit(alice, psdu)
    air.advance(1_000_000)
    assert bob.heard == [(1_000 + 4_256, psdu)]
    assert alice.heard == []


def test_an_acknowledgement_starts_a_turnaround_after_the_frame():
    """7.5.6.4.2: 192 us after the last octet the acknowledgement starts, 352 us later the sender has it."""
    air, alice, bob = radios(ALICE, BOB)
    alice.wants_ack = bob.acknowledges = True
    tapped = []
    air.add_tap(lambda at, psdu, *rest: tapped.append((at, psdu)))
    psdu = to(BOB)
    air.transmit(alice, psdu)
    air.advance(1_000_000)
    end = airtime_us(len(psdu))
    assert alice.acks == [(end + 192 + 352, build_ack(1))]
    assert tapped == [(0, psdu), (end + 192, build_ack(1))]
    assert alice.missed == []


def test_a_sender_waits_864_us_for_its_acknowledgement():
    """7.4.2 macAckWaitDuration is 54 symbols, whether nobody answered or the answer was lost."""
    air, alice, bob = radios(ALICE, BOB)
    alice.wants_ack = True
    end = airtime_us(len(to(BOB)))
    air.transmit(alice, to(BOB))
    air.advance(10_000)
    bob.acknowledges = True
    air.drop(where=lambda psdu, sender: sender == BOB)
    air.transmit(alice, to(BOB))
    air.advance(20_000)
    assert alice.missed == [end + 864, 10_000 + end + 864]
    assert alice.acks == []


# --- who hears --------------------------------------------------------------------------------------------------------


def test_only_the_addressed_radio_is_bothered():
    """A frame for one EUI-64 reaches that radio, a broadcast reaches all on the channel."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    elsewhere = Ear(air, 0xD, channel=12)
    air.transmit(alice, to(BOB))
    air.advance(10_000)
    air.transmit(alice, broadcast())
    air.advance(20_000)
    assert (len(bob.heard), len(carol.heard), len(elsewhere.heard)) == (2, 1, 0)


def test_a_radio_must_listen_from_the_first_octet_to_the_last():
    """Switched on, or retuned, in the middle of a frame it hears nothing of it."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    air.transmit(alice, broadcast(bytes(50)))
    air.advance(100)
    bob.listening_since = 100
    air.tune(carol, air.channel(12))
    air.tune(carol, air.channel(11))
    air.advance(10_000)
    assert bob.heard == carol.heard == []
    air.transmit(alice, broadcast(bytes(50)))
    air.advance(20_000)
    assert len(bob.heard) == len(carol.heard) == 1


def test_two_radios_with_one_eui64_are_refused():
    """An EUI-64 is one radio's: a rig that gives it twice is wrong."""
    air, *_ = radios(ALICE)
    with pytest.raises(LocalProtocolError, match="00-00-00-00-00-00-00-0A"):
        Ear(air, ALICE)


def test_frames_that_overlap_at_a_receiver_are_lost_there_and_only_there():
    """Hidden nodes: Bob hears Alice and Carol at once and gets neither; Dan hears Carol alone and gets her frame."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    dan = Ear(air, 0xD)
    air.set_link(ALICE, CAROL, heard=False)
    air.set_link(ALICE, 0xD, heard=False)
    air.transmit(alice, broadcast(b"from alice"))
    air.advance(airtime_us(len(broadcast(b"from alice"))) - 1)
    air.transmit(carol, broadcast(b"from carol"))
    air.advance(10_000)
    assert bob.heard == []
    assert [psdu for _, psdu in dan.heard] == [broadcast(b"from carol")]


def test_frames_that_follow_each_other_without_a_gap_do_not_collide():
    """A frame that starts in the microsecond in which another ends leaves both whole."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    air.transmit(alice, broadcast(b"one"))
    air.advance(airtime_us(len(broadcast(b"one"))))
    air.transmit(carol, broadcast(b"two"))
    air.advance(10_000)
    assert len(bob.heard) == 2


def test_a_transmitting_radio_does_not_receive():
    """Half duplex: what arrives while a radio sends is lost to it, even when it is out of the others' reach."""
    air, alice, bob = radios(ALICE, BOB)
    air.set_link(BOB, ALICE, heard=False, both_ways=False)
    air.transmit(alice, broadcast(bytes(20)))
    air.advance(64)
    air.transmit(bob, broadcast())
    air.advance(10_000)
    assert alice.heard == bob.heard == []


def test_with_capture_the_stronger_frame_survives():
    """With a capture threshold of 10 dB a frame 20 dB above the other is received, the weaker is not."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    air.capture_db = 10.0
    air.set_link(CAROL, BOB, rssi=-70.0)
    air.transmit(alice, broadcast(b"strong"))
    air.transmit(carol, broadcast(b"weak"))
    air.advance(10_000)
    assert [psdu for _, psdu in bob.heard] == [broadcast(b"strong")]


def test_carrier_sense_tells_what_the_radio_could_hear():
    """The assessment looks at the 128 us that ended 192 us ago, and only at radios that are heard."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    air.set_link(ALICE, CAROL, heard=False)
    air.advance(1_000)
    air.transmit(alice, broadcast(bytes(20)))
    end = 1_000 + airtime_us(len(broadcast(bytes(20))))
    verdicts = {}
    for at in (1_000, 1_192, 1_193, end, end + 319, end + 320):
        air.advance(at)
        verdicts[at] = (air.is_clear(bob), air.is_clear(carol))
    assert verdicts == {
        1_000: (True, True),
        1_192: (True, True),  # it began as the assessment ended: the two will collide
        1_193: (False, True),
        end: (False, True),
        end + 319: (False, True),
        end + 320: (True, True),
    }


# --- links ------------------------------------------------------------------------------------------------------------


def test_a_lossy_link_loses_its_share():
    """10 % loss over 10,000 frames loses 10 % within three standard deviations, the same for the same seed."""

    def received(seed):
        air, alice, bob = radios(ALICE, BOB, seed=seed)
        air.set_link(ALICE, BOB, loss=0.1)
        psdu = broadcast()
        for number in range(10_000):
            air.advance(number * 1_000)
            air.transmit(alice, psdu)
        air.advance(20_000_000)
        return len(bob.heard)

    assert received(7) == 9017
    assert 9_000 - 90 < received(8) < 9_000 + 90


def test_a_perfect_link_costs_no_randomness():
    """Random numbers are drawn for lossy frames only, one each, so that a change elsewhere does not move them."""
    air, alice, _ = radios(ALICE, BOB, seed=3)
    state = air.random.getstate()
    air.transmit(alice, broadcast())
    air.advance(10_000)
    assert air.random.getstate() == state
    air.default_link = Link(loss=0.5)
    air.transmit(alice, broadcast())
    air.advance(20_000)
    air.random.setstate(state)
    air.random.random()
    after_one = air.random.getstate()
    air.random.setstate(state)
    air.transmit(alice, broadcast())
    air.advance(30_000)
    assert air.random.getstate() == after_one


def test_a_link_can_be_slow_in_one_direction():
    """delay_us is added after the airtime, and only where it was set."""
    air, alice, bob = radios(ALICE, BOB)
    air.set_link(ALICE, BOB, delay_us=250, both_ways=False)
    air.transmit(alice, broadcast())
    air.advance(10_000)
    air.transmit(bob, broadcast())
    air.advance(20_000)
    airtime = airtime_us(len(broadcast()))
    assert bob.heard[0][0] == airtime + 250
    assert alice.heard[0][0] == 10_000 + airtime


def test_set_link_changes_only_what_it_is_given():
    """A second call leaves what the first one set; the default link stands for all others."""
    air = Air()
    air.default_link = Link(rssi=-60.0)
    air.set_link(ALICE, BOB, loss=0.2)
    air.set_link(BOB, ALICE, rssi=-80.0)
    assert air.link(ALICE, BOB) == Link(loss=0.2, rssi=-80.0)
    assert air.link(ALICE, CAROL) == Link(rssi=-60.0)
    assert (air.link(ALICE, BOB).lqi, air.link(ALICE, CAROL).lqi, Link().lqi) == (102, 204, 255)


def test_a_link_that_cannot_be_is_refused():
    """A loss above 1 and a delay below 0 are mistakes of the test."""
    with pytest.raises(LocalProtocolError, match=r"loss=1\.5"):
        Air().set_link(ALICE, BOB, loss=1.5)
    with pytest.raises(LocalProtocolError, match="delay_us=-1"):
        Link(delay_us=-1)


def test_dropped_frames_are_those_that_the_test_described():
    """drop() loses the next frames that fit, no others, and says how many are still to be lost."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    drop = air.drop(2, where=lambda psdu, sender: sender == ALICE and b"key" in psdu)
    tapped = []
    air.add_tap(lambda at, psdu, *rest: tapped.append(psdu))
    for number, sender in enumerate((carol, alice, alice, alice, alice)):
        air.transmit(sender, broadcast(b"key" if number != 1 else b"other", sequence=number))
        air.advance((number + 1) * 10_000)
        if number == 2:
            assert drop.remaining == 1
    assert [psdu[2] for _, psdu in bob.heard] == [0, 1, 4]
    assert drop.remaining == 0
    assert [psdu[2] for psdu in tapped] == [0, 1, 2, 3, 4]


def test_a_tap_gets_all_that_a_capture_needs():
    """Time of the first octet, octets, channel, page, RSSI and LQI."""
    air = Air()
    alice = Ear(air, ALICE, channel=25)
    tapped = []
    air.add_tap(lambda *values: tapped.append(values))
    air.advance(77)
    air.transmit(alice, broadcast())
    assert tapped == [(77, broadcast(), 25, 0, -50.0, 255)]


def test_channels_of_one_number_on_two_pages_are_two():
    """A channel is a page and a number: 2.4 GHz is page 0, other bands have pages of their own."""
    air, alice, bob = radios(ALICE, BOB)
    air.tune(bob, air.channel(11, 28))
    air.transmit(alice, broadcast())
    air.advance(10_000)
    assert bob.heard == []
    assert air.channel(11, 28) is bob.tuned


def test_a_radio_cut_off_in_the_middle_of_a_frame_is_heard_by_nobody():
    """The rest of the frame never comes, and the channel is free at once."""
    air, alice, bob, carol = radios(ALICE, BOB, CAROL)
    air.transmit(alice, broadcast(bytes(100)))
    air.advance(500)
    air.cut(alice)
    air.advance(501)
    air.transmit(carol, broadcast(b"after"))
    air.advance(20_000)
    assert [psdu for _, psdu in bob.heard] == [broadcast(b"after")]
