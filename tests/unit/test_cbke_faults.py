"""Key establishment as it should not go: each fault ends in its Terminate, and the device can try again."""

from __future__ import annotations

import dataclasses
import random

import pytest

from harness.wire import zcl
from harness.wire.cbke_messages import (
    CONFIRM_KEY_DATA,
    EPHEMERAL_DATA,
    INITIATE,
    Terminate,
    TerminateStatus,
)
from harness.wire.cbke_values import KeyEstablished, KeyEstablishmentFailed, KeyRejected
from harness.wire.certificates import SUITE_1, SUITE_2, certify, issue
from harness.wire.curves import SECT283K1, Point
from tests.unit.key_partners import (
    HUB,
    METER,
    PPMID,
    STRANGER,
    Device,
    Wire,
    altering,
    assert_both_can_try_again,
    credentials,
    other,
    pair,
    terminates,
)

COMMANDS = (INITIATE, EPHEMERAL_DATA, CONFIRM_KEY_DATA)
# Who notices: the hub, which answers, or the PPMID, which began.
NOTICED = pytest.mark.parametrize("by", [HUB, PPMID], ids=["by-responder", "by-initiator"])


def assert_terminated(wire, ppmid, hub, by, status):
    """Prove that one side ended it with this status, and that the other understood: as the end, or of its key."""
    assert terminates(wire, by) == [(Terminate(status, 30, SUITE_2), by == HUB)]
    assert terminates(wire, other(by)) == []
    ours, theirs = (hub, ppmid) if by == HUB else (ppmid, hub)
    (mine,), (told,) = ours.events, theirs.events
    assert (mine.partner, mine.status, mine.by_us, mine.retry_after) == (theirs.eui64, status, True, 10.0)
    assert (told.partner, told.status, told.retry_after) == (by, status, 30.0)
    assert isinstance(told, KeyRejected) or not told.by_us
    assert told.reason == f"it sent Terminate with {status.name}"
    assert_both_can_try_again(wire, ppmid, hub)


# --- what the partner sends -------------------------------------------------------------------------------------------


def with_certificate(change):
    """Return a change of an Initiate's certificate."""
    return lambda payload: payload[:4] + change(payload[4:])


def with_octet(offset, value):
    """Return a change of one octet."""
    return lambda data: data[:offset] + bytes((value,)) + data[offset + 1 :]


OFF_CURVE = next(
    octets
    for x in range(2, 100)
    if SECT283K1.field.trace(x ^ SECT283K1.field.square(SECT283K1.field.inverse(x)))
    for octets in [b"\x02" + x.to_bytes(36, "big")]
)
OUT_OF_SUBGROUP = SECT283K1.compress(SECT283K1.add(SECT283K1.generator, Point(0, 1)))
BAD_POINTS = pytest.mark.parametrize(
    "point", [OFF_CURVE, bytes(37), OUT_OF_SUBGROUP, b"\x04" + OFF_CURVE[1:]],
    ids=["off-curve", "infinity", "out-of-subgroup", "prefix"],
)  # fmt: skip


@NOTICED
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (with_octet(0, 1), TerminateStatus.INVALID_CERTIFICATE),
        (with_octet(9, 0x0C), TerminateStatus.INVALID_CERTIFICATE),
        (with_octet(10, 0x04), TerminateStatus.INVALID_CERTIFICATE),
        (with_octet(36, 0x80), TerminateStatus.INVALID_CERTIFICATE),
        (with_octet(37, 0x04), TerminateStatus.INVALID_CERTIFICATE),
        (with_octet(18, 0x77), TerminateStatus.UNKNOWN_ISSUER),
        (with_octet(35, 0x77), TerminateStatus.BAD_MESSAGE),
    ],
    ids=["type", "curve", "hash", "usage", "point", "issuer", "subject"],
)
def test_a_wrong_field_of_the_certificate_has_its_status(by, change, status):
    """What a certificate has wrong says with which status its receiver ends it, in either role."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), INITIATE, with_certificate(change))
    wire.run()
    assert_terminated(wire, ppmid, hub, by, status)


@NOTICED
@BAD_POINTS
def test_a_certificate_without_a_point_is_invalid(by, point):
    """A reconstruction point that is none ends it before any key is made of it."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), INITIATE, with_certificate(lambda data: data[:37] + point))
    wire.run()
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.INVALID_CERTIFICATE)


@NOTICED
@BAD_POINTS
def test_an_ephemeral_key_that_is_no_point_is_a_bad_message(by, point):
    """Nothing is computed with a point that is not of the subgroup: it would tell something of the private key."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), EPHEMERAL_DATA, lambda payload: point)
    wire.run()
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.BAD_MESSAGE)


@NOTICED
def test_an_ephemeral_key_of_the_other_suite_is_a_bad_message(by):
    """22 octets are a point of suite 1, and no message of suite 2."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), EPHEMERAL_DATA, lambda payload: payload[:22])
    wire.run()
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.BAD_MESSAGE)


@NOTICED
def test_a_wrong_confirmation_is_a_bad_key_confirm(by):
    """One bit of a MAC ends it; the responder that has sent its own takes its key back when it is told."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), CONFIRM_KEY_DATA, lambda payload: bytes((payload[0] ^ 1,)) + payload[1:])
    wire.run()
    if by == PPMID:
        assert [type(event) for event in hub.events] == [KeyEstablished, KeyRejected]
        hub.events.pop(0)
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.BAD_KEY_CONFIRM)


@NOTICED
@pytest.mark.parametrize("offset", [2, 3], ids=["ephemeral", "confirm"])
def test_a_time_of_255_is_a_bad_message(by, offset):
    """ZSE annex C.3.1.2.3.1: 0xFE s are the most."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), INITIATE, with_octet(offset, 0xFF))
    wire.run()
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.BAD_MESSAGE)


@NOTICED
@pytest.mark.parametrize("suite", [0, 3, 4, 0x8000])
def test_a_suite_that_is_not_there_is_unsupported(by, suite):
    """Neither no suite, nor two at once, nor an unknown one; also when it comes as the answer."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), INITIATE, lambda payload: suite.to_bytes(2, "little") + payload[2:])
    wire.run()
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.UNSUPPORTED_SUITE)


def test_a_responder_without_the_suite_says_so():
    """A device of suite 1 alone is asked for suite 2 by one that did not ask first; it states its own suite."""
    ppmid, hub = Device(credentials(PPMID), credentials(PPMID, SUITE_1)), Device(credentials(HUB, SUITE_1))
    wire = Wire(hub, ppmid)
    ppmid.core.start(HUB, wire.now, suite=SUITE_2)
    wire.run()
    assert terminates(wire, HUB) == [(Terminate(TerminateStatus.UNSUPPORTED_SUITE, 30, SUITE_1), True)]
    assert_both_can_try_again(wire, ppmid, hub)


@NOTICED
@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("cut", [0, 1, -1])
def test_a_message_cut_short_is_a_bad_message(by, command, cut):
    """Each command, cut to nothing, to an octet, by an octet."""
    ppmid, hub, wire = pair()
    altering(wire, other(by), command, lambda payload: payload[:cut])
    wire.run()
    if by == PPMID and command == CONFIRM_KEY_DATA:
        hub.events.pop(0)
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.BAD_MESSAGE)


@NOTICED
@pytest.mark.parametrize(
    ("step", "instead"),
    [(step, command) for step in range(3) for command in COMMANDS if command != COMMANDS[step]],
)
def test_a_message_out_of_order_is_a_bad_message(by, step, instead):
    """At each step, each command but the one that is due."""
    ppmid, hub, wire = pair()
    lengths = {INITIATE: 78, EPHEMERAL_DATA: 37, CONFIRM_KEY_DATA: 16}

    def alter(source, frame):
        if source == other(by) and frame.control & zcl.CLUSTER_COMMAND and frame.command == COMMANDS[step]:
            payload = SUITE_2.to_bytes(2, "little") + bytes(lengths[instead] - 2)
            return frame._replace(command=instead, payload=payload)
        return frame

    wire.alter = alter
    wire.run()
    if by == PPMID and step == 2:
        hub.events.pop(0)
    assert_terminated(wire, ppmid, hub, by, TerminateStatus.BAD_MESSAGE)


def test_a_certificate_of_another_ca_is_found_out_by_its_key():
    """One that names the right issuer but is none of its own: its holder cannot confirm a key."""
    hub = Device(credentials(HUB))
    template = dataclasses.replace(credentials(PPMID).certificate)
    octets = random.Random(9).randbytes
    forged, _ = certify(
        dataclasses.replace(STRANGER, issuer=template.issuer), template, SECT283K1.generator, octets
    )
    ppmid = Device(dataclasses.replace(credentials(PPMID), certificate=forged))
    wire = Wire(hub, ppmid)
    ppmid.core.start(HUB, wire.now)
    wire.run()
    assert [message.status for message, _ in terminates(wire, HUB)] == [TerminateStatus.BAD_KEY_CONFIRM]
    (failed,) = ppmid.events
    assert failed.status == TerminateStatus.BAD_KEY_CONFIRM


@NOTICED
def test_a_device_of_another_ca_is_an_unknown_issuer(by):
    """With certificates of two CAs the first to see the other's ends it: the responder."""
    own = issue(STRANGER, by, random.Random(4).randbytes)
    stranger, native = Device(own), Device(credentials(other(by)))
    wire = Wire(stranger, native)
    stranger.core.start(native.eui64, wire.now)
    wire.run()
    assert [message.status for message, _ in terminates(wire, native.eui64)] == [
        TerminateStatus.UNKNOWN_ISSUER
    ]
    assert "48-54-45-53-54-43-41-02" in native.events[0].reason


# --- silence ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("told", [True, False], ids=["terminate", "no-terminate"])
@pytest.mark.parametrize("step", range(6))
def test_silence_at_any_step_ends_both_sides(step, told):
    """Each message lost in turn, requests and responses: both sides are free after their times, and try again."""
    ppmid, hub, wire = pair(terminates_on_silence=told)
    command, from_server = COMMANDS[step // 2], bool(step % 2)
    wire.lose = lambda source, frame: (
        bool(frame.control & zcl.CLUSTER_COMMAND)
        and (frame.command, bool(frame.control & zcl.FROM_SERVER)) == (command, from_server)
    )
    wire.run()
    wire.wait()
    failed = [event for event in ppmid.events if isinstance(event, KeyEstablishmentFailed)]
    assert [(event.status, event.by_us) for event in failed] == [(None, True)]
    assert failed[0].reason.startswith("no ")
    if step == 5:
        # The responder has its proof; it is the initiator's Terminate alone that takes the key back.
        assert [type(event) for event in hub.events] == (
            [KeyEstablished, KeyRejected] if told else [KeyEstablished]
        )
    assert len(terminates(wire, PPMID)) == told
    assert_both_can_try_again(wire, ppmid, hub)


def test_a_partner_that_does_not_tell_its_suites_is_given_up_without_a_terminate():
    """It knows of no key establishment that could be terminated."""
    ppmid, hub, wire = pair()
    wire.lose = lambda source, frame: source == HUB
    wire.run()
    wire.wait()
    assert wire.now == 110.0
    assert ppmid.events == [
        KeyEstablishmentFailed(HUB, None, True, 10.0, "no answer about its suites in time")
    ]
    assert wire.sent(PPMID) == []
    assert_both_can_try_again(wire, ppmid, hub)


def test_an_early_deadline_does_nothing():
    """A core that is called too soon keeps waiting, to the microsecond."""
    ppmid, _, wire = pair()
    due = ppmid.core.next_deadline()
    assert ppmid.core.on_deadline(due - 0.001) == []
    assert ppmid.core.partner == HUB
    assert len(ppmid.core.on_deadline(due - 1e-7)) == 1
    assert ppmid.core.on_deadline(wire.now + 1000) == []


# --- the partner's suites ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("payload", "status"),
    [
        (b"\x00\x00\x00\x31\x01\x00", TerminateStatus.UNSUPPORTED_SUITE),
        (b"\x00\x00\x86", TerminateStatus.UNSUPPORTED_SUITE),
        (b"", TerminateStatus.UNSUPPORTED_SUITE),
        (b"\x00\x00\x00\x31", TerminateStatus.BAD_MESSAGE),
    ],
    ids=["suite-1", "no-attribute", "empty", "cut-off"],
)
def test_a_partner_without_a_common_suite_is_given_up(payload, status):
    """The answer about its suites says that there is nothing to begin with."""
    ppmid, hub, wire = pair()
    wire.alter = lambda source, frame: frame._replace(payload=payload) if source == HUB else frame
    wire.run()
    (failed,) = ppmid.events
    assert (failed.status, failed.by_us) == (status, True)
    assert wire.sent(PPMID) == []
    assert_both_can_try_again(wire, ppmid, hub)


def test_a_partner_without_the_cluster_is_given_up():
    """It answers the read, or the Initiate Request, with a Default Response of an error."""
    ppmid, hub, wire = pair()
    ((_, data),) = ppmid.core.frames_to_send()
    refusal = zcl.default_response(zcl.parse_frame(data), zcl.Status.UNSUPPORTED_CLUSTER)
    (failed,) = ppmid.core.receive(HUB, refusal, wire.now)
    assert (failed.status, failed.by_us) == (None, False)
    assert "UNSUPPORTED_CLUSTER" in failed.reason

    ppmid.core.start(HUB, wire.now, suite=SUITE_2)
    ((_, data),) = ppmid.core.frames_to_send()
    refusal = zcl.default_response(zcl.parse_frame(data), zcl.Status.UNSUP_CLUSTER_COMMAND)
    (failed,) = ppmid.core.receive(HUB, refusal, wire.now)
    assert failed.status == TerminateStatus.BAD_MESSAGE
    ppmid.core.frames_to_send()
    assert_both_can_try_again(wire, ppmid, hub)


def test_default_responses_of_success_and_strangers_change_nothing():
    """Also one that is cut off, and a Read Attributes Response that nobody asked for."""
    ppmid, hub, wire = pair()
    ((_, data),) = ppmid.core.frames_to_send()
    read = zcl.parse_frame(data)
    for partner, octets in (
        (METER, zcl.default_response(read, zcl.Status.UNSUPPORTED_CLUSTER)),
        (HUB, zcl.default_response(read._replace(sequence=99), zcl.Status.UNSUPPORTED_CLUSTER)),
        (HUB, zcl.default_response(read, zcl.Status.SUCCESS)),
        (HUB, zcl.answer(read, zcl.DEFAULT_RESPONSE, b"")),
        (METER, zcl.answer(read, zcl.READ_ATTRIBUTES_RESPONSE, b"\x00\x00\x86")),
        (HUB, zcl.answer(read, zcl.REPORT_ATTRIBUTES, b"")),
    ):
        assert ppmid.core.receive(partner, octets, wire.now) == []
    assert ppmid.core.partner == HUB
    assert hub.core.receive(PPMID, zcl.answer(read, zcl.READ_ATTRIBUTES_RESPONSE, b""), wire.now) == []
