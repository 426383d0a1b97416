"""Key establishment among others: second partners, strangers, repetitions, restarts, two that begin at once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire import zcl
from harness.wire.cbke_messages import (
    CONFIRM_KEY_DATA,
    EPHEMERAL_DATA,
    INITIATE,
    TERMINATE,
    Terminate,
    TerminateStatus,
    build_message,
)
from harness.wire.cbke_values import KeyEstablishmentFailed, KeyRejected
from harness.wire.certificates import SUITE_2, build_certificate
from harness.wire.curves import SECT283K1
from tests.unit.key_partners import (
    HUB,
    METER,
    PPMID,
    Device,
    Wire,
    assert_both_can_try_again,
    credentials,
    other,
    pair,
    terminates,
)

# Who notices: the hub, which answers, or the PPMID, which began.
NOTICED = pytest.mark.parametrize("by", [HUB, PPMID], ids=["by-responder", "by-initiator"])


# --- others -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rounds", range(1, 6))
def test_a_second_partner_is_told_to_wait_and_the_first_is_served(rounds):
    """Whenever it comes: NO_RESOURCES and 30 s; after those the second gets its key too."""
    ppmid, hub, wire = pair()
    meter = Device(credentials(METER))
    wire.devices[METER] = meter
    for _ in range(rounds):
        wire.carry_one_round()
    meter.core.start(HUB, wire.now, suite=SUITE_2)
    wire.run()
    if rounds < 5:
        (failed,) = meter.events
        assert (failed.status, failed.by_us, failed.retry_after) == (
            TerminateStatus.NO_RESOURCES,
            False,
            30.0,
        )
        assert terminates(wire, HUB) == [(Terminate(TerminateStatus.NO_RESOURCES, 30, SUITE_2), True)]
    (established,) = [event for event in hub.events if event.partner == PPMID]
    assert ppmid.key() == established.key
    if rounds < 5:
        (turned_away,) = [event for event in hub.events if event.partner == METER]
        assert (turned_away.status, turned_away.by_us) == (TerminateStatus.NO_RESOURCES, True)
    assert_both_can_try_again(wire, meter, hub, ppmid)


def test_an_initiator_refuses_another_that_comes_to_it():
    """Also a device that has begun itself, and still asks for suites, serves nobody else."""
    ppmid, hub, wire = pair()
    meter = Device(credentials(METER))
    wire.devices[METER] = meter
    meter.core.start(PPMID, wire.now, suite=SUITE_2)
    wire.run()
    assert meter.events[0].status == ppmid.events[0].status == TerminateStatus.NO_RESOURCES
    assert ppmid.events[1].key == hub.key()


def test_a_stranger_cannot_disturb():
    """Messages of a third device, and its Terminate, leave a key establishment alone; it is told BAD_MESSAGE."""
    ppmid, hub, wire = pair()
    for _ in range(3):
        wire.carry_one_round()
    for command, length in ((EPHEMERAL_DATA, 37), (CONFIRM_KEY_DATA, 16), (EPHEMERAL_DATA, 3)):
        for control in (zcl.CLUSTER_COMMAND, zcl.CLUSTER_COMMAND | zcl.FROM_SERVER):
            frame = zcl.Frame(control, None, 1, command, bytes(length))
            (failed,) = hub.core.receive(METER, frame, wire.now)
            assert (failed.partner, failed.status) == (METER, TerminateStatus.BAD_MESSAGE)
    terminate = build_message(Terminate(2, 30, SUITE_2), 1, from_server=False)
    assert hub.core.receive(METER, terminate, wire.now) == []
    wire.run()
    assert len(terminates(wire, HUB)) == 6
    assert ppmid.key() == hub.key()


@NOTICED
def test_a_broadcast_is_ignored(by):
    """Key establishment is between two; so is a frame that claims to come from oneself."""
    device = Device(credentials(by))
    frame = build_message(Terminate(1, 1, 1), 1, from_server=False)
    initiate = zcl.Frame(zcl.CLUSTER_COMMAND, None, 1, INITIATE, b"")
    assert device.core.receive(other(by), initiate, 0.0, unicast=False) == []
    assert device.core.receive(by, initiate, 0.0) == []
    assert device.core.receive(other(by), frame, 0.0) == []
    assert device.core.frames_to_send() == []


def test_a_command_that_the_cluster_has_not_is_refused_by_zcl():
    """UNSUP_CLUSTER_COMMAND, UNSUP_MANUF_CLUSTER_COMMAND; a key establishment under way does not mind."""
    _, hub, wire = pair()
    for _ in range(3):
        wire.carry_one_round()
    hub.core.frames_to_send()
    unknown = zcl.Frame(zcl.CLUSTER_COMMAND, None, 5, 0x04, b"")
    for frame, status in (
        (unknown, zcl.Status.UNSUP_CLUSTER_COMMAND),
        (unknown._replace(manufacturer=0x1234, control=5, command=0), zcl.Status.UNSUP_MANUF_CLUSTER_COMMAND),
    ):
        assert hub.core.receive(PPMID, frame, wire.now) == []
        ((_, data),) = hub.core.frames_to_send()
        assert zcl.parse_frame(data).payload == bytes((frame.command, status))
    assert hub.core.partner == PPMID
    assert hub.core.receive(PPMID, b"\x01", wire.now) == []


# --- Terminate --------------------------------------------------------------------------------------------------------


@NOTICED
@pytest.mark.parametrize("from_server", [True, False])
def test_a_terminate_ends_it_whatever_its_direction(by, from_server):
    """Stacks of the market send it as a server when they have forgotten that they were the client."""
    ppmid, hub, wire = pair()
    for _ in range(3):
        wire.carry_one_round()
    device = hub if by == HUB else ppmid
    frame = build_message(Terminate(4, 77, SUITE_2), 200, from_server=from_server)
    assert device.core.receive(other(by), frame, wire.now) == [
        KeyEstablishmentFailed(
            other(by), TerminateStatus.NO_RESOURCES, False, 77.0, "it sent Terminate with NO_RESOURCES"
        )
    ]
    assert device.core.partner is None


@pytest.mark.parametrize("payload", [b"", b"\x03", b"\x00\x1e\x02\x00", b"\xff\x1e\x02\x00", bytes(9)])
def test_a_terminate_that_says_nothing_still_ends_it(payload):
    """A status that is none, or a payload cut off; it is not answered with a Terminate."""
    ppmid, hub, wire = pair()
    for _ in range(3):
        wire.carry_one_round()
    hub.core.frames_to_send()
    frame = zcl.Frame(zcl.CLUSTER_COMMAND | zcl.NO_DEFAULT_RESPONSE, None, 3, TERMINATE, payload)
    (failed,) = hub.core.receive(PPMID, frame, wire.now)
    assert (failed.status, failed.by_us) == (TerminateStatus.BAD_MESSAGE, False)
    assert hub.core.frames_to_send() == []
    ppmid.core.reset()
    assert_both_can_try_again(wire, ppmid, hub)


def test_a_terminate_without_a_key_establishment_is_only_acknowledged():
    """No event, and a Default Response where one is asked for."""
    hub = Device(credentials(HUB))
    data = build_message(Terminate(3, 30, SUITE_2), 9, from_server=True)
    assert hub.core.receive(PPMID, data, 0.0) == []
    assert hub.core.frames_to_send() == []
    frame = zcl.parse_frame(data)
    asked = frame._replace(control=frame.control & ~zcl.NO_DEFAULT_RESPONSE)
    assert hub.core.receive(PPMID, asked, 0.0) == []
    ((to, reply),) = hub.core.frames_to_send()
    assert (to, zcl.parse_frame(reply).payload) == (PPMID, bytes((TERMINATE, 0)))


def test_an_initiator_may_object_only_while_it_still_waits():
    """After its confirm time and the slack a Terminate takes no key back any more; nor does a second one."""
    for seconds, objections in ((41.9, 1), (42.1, 0)):
        ppmid, hub, wire = pair()
        wire.run()
        frame = build_message(Terminate(2, 30, SUITE_2), 1, from_server=False)
        events = hub.core.receive(PPMID, frame, wire.now + seconds)
        assert len(events) == objections
        assert all(isinstance(event, KeyRejected) for event in events)
        assert hub.core.receive(PPMID, frame, wire.now + seconds) == []
        assert ppmid.core.receive(HUB, frame, wire.now) == []


# --- repetitions, restarts, and two at once ---------------------------------------------------------------------------


def test_repeated_messages_are_taken_once():
    """A frame that arrives twice, as after a lost APS acknowledgement, changes nothing: not even the last one."""
    ppmid, hub, wire = pair()
    deliver = wire.deliver

    def twice(source, to, frame):
        deliver(source, to, frame)
        deliver(source, to, frame)

    wire.deliver = twice
    wire.run()
    assert ppmid.key() == hub.key()
    assert terminates(wire, HUB) == terminates(wire, PPMID) == []


def test_a_partner_that_begins_anew_in_the_middle_is_told_so_and_served_after():
    """An Initiate Request where another message is due: BAD_MESSAGE, then the next try goes through."""
    ppmid, hub, wire = pair()
    for _ in range(3):
        wire.carry_one_round()
    ppmid.core.reset()
    ppmid.core.start(HUB, wire.now)
    wire.run()
    assert [event.status for event in ppmid.events] == [TerminateStatus.BAD_MESSAGE]
    assert_both_can_try_again(wire, ppmid, hub)


def test_a_power_cut_between_two_tries_does_not_make_the_second_a_repetition():
    """The second try's Initiate Request is the first one's, octet for octet: it is answered."""
    hub = Device(credentials(HUB))
    frames = []
    for _ in range(2):
        ppmid = Device(credentials(PPMID))
        ppmid.core.start(HUB, 0.0, suite=SUITE_2)
        ((_, data),) = ppmid.core.frames_to_send()
        frames.append(data)
        assert hub.core.receive(PPMID, data, 0.0) == []
        assert len(hub.core.frames_to_send()) == 1
        hub.core.on_deadline(1000.0)
        hub.core.frames_to_send()
    assert frames[0] == frames[1]


@pytest.mark.parametrize("suite", [None, SUITE_2], ids=["asks", "asks-not"])
@pytest.mark.parametrize("rounds", range(5))
@pytest.mark.parametrize("first", [HUB, PPMID])
def test_two_that_begin_at_once_end_with_one_key(first, rounds, suite):
    """However far the first has come when the second begins: one key, the same on both sides, and no Terminate."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    wire.devices[first].core.start(other(first), wire.now, suite=suite)
    for _ in range(rounds):
        wire.carry_one_round()
    second = wire.devices[other(first)]
    if second.core.partner is None:
        second.core.start(first, wire.now, suite=suite)
    wire.run()
    keys = [[event.key for event in device.events] for device in (hub, ppmid)]
    assert keys[0] == keys[1]
    assert keys[0]
    assert terminates(wire, HUB) == terminates(wire, PPMID) == []
    assert_both_can_try_again(wire, ppmid, hub)


def test_two_requests_that_cross_leave_the_lower_eui64_the_initiator():
    """The rule that both sides can follow without a word more."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    hub.core.start(PPMID, wire.now, suite=SUITE_2)
    ppmid.core.start(HUB, wire.now, suite=SUITE_2)
    wire.run()
    assert HUB < PPMID
    assert (hub.events[0].initiator, ppmid.events[0].initiator) == (True, False)
    assert hub.key() == ppmid.key()


def test_a_partner_that_ends_the_withdrawn_request_does_not_end_the_other():
    """It keeps its own and turns ours away: as a server, for a request that we have withdrawn already."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    hub.core.start(PPMID, wire.now, suite=SUITE_2)
    ppmid.core.start(HUB, wire.now, suite=SUITE_2)
    ((to, initiate),) = hub.core.frames_to_send()
    assert to == PPMID
    ppmid.core.frames_to_send()
    assert ppmid.core.receive(HUB, initiate, wire.now) == []
    refusal = build_message(Terminate(4, 30, SUITE_2), 1, from_server=True)
    assert ppmid.core.receive(HUB, refusal, wire.now) == []
    wire.run()
    assert hub.key() == ppmid.key()


def test_a_partner_of_another_rule_leaves_a_clean_failure():
    """It ignores our request as we ignore its own: both time out, and the next try goes through."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    hub.core.start(PPMID, wire.now, suite=SUITE_2)
    ppmid.core.start(HUB, wire.now, suite=SUITE_2)
    wire.lose = lambda source, frame: source == HUB
    wire.run()
    wire.wait()
    assert [event.status for event in (*ppmid.events, *hub.events)] == [None, None]
    assert_both_can_try_again(wire, ppmid, hub)


# --- anything at all --------------------------------------------------------------------------------------------------

frames = st.builds(
    zcl.Frame,
    st.sampled_from([0x00, 0x01, 0x08, 0x09, 0x10, 0x11, 0x18, 0x19]),
    st.none(),
    st.integers(0, 3),
    st.sampled_from([0, 1, 2, 3, 4, zcl.DEFAULT_RESPONSE]),
    st.one_of(
        st.binary(max_size=80),
        st.binary(min_size=16, max_size=16),
        st.binary(min_size=36, max_size=36).map(lambda x: b"\x02" + x),
        st.just(SECT283K1.compress(SECT283K1.generator)),
        st.just(b"\x02\x00\x01\x01" + build_certificate(credentials(HUB).certificate)),
        st.just(b"\x02\x00\x01\x01" + build_certificate(credentials(METER).certificate)),
        st.just(b"\x00\x00\x00\x31\x02\x00"),
    ),
)
steps = st.lists(st.tuples(st.sampled_from([HUB, METER]), frames), max_size=8)


@given(steps=steps, starts=st.booleans())
@settings(max_examples=60)
def test_no_order_of_frames_is_too_strange(steps, starts):
    """Frames of all kinds from two partners: no error comes out, no key either, and then a key is established."""
    ppmid, hub = Device(credentials(PPMID)), Device(credentials(HUB))
    wire = Wire(hub, ppmid)
    if starts:
        ppmid.core.start(HUB, wire.now)
    for partner, frame in steps:
        for event in ppmid.core.receive(partner, frame, wire.now):
            assert isinstance(event, KeyEstablishmentFailed)
    assert all(to in (HUB, METER) for to, _ in ppmid.core.frames_to_send())
    ppmid.core.on_deadline(wire.now + 1000.0)
    ppmid.core.frames_to_send()
    assert_both_can_try_again(wire, ppmid, hub)
