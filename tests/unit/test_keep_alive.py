"""The Keep-Alive cluster: polling at the Trust Center's own pace, three failures, and the attribute tables."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zigpy.zcl.clusters.general import KeepAlive

from harness.wire import clusters, zcl
from harness.wire.keep_alive import (
    KeepAliveClient,
    KeepAliveConfig,
    KeepAliveFailed,
    TrustCenterAnswered,
    TrustCenterLost,
)


def client(**config):
    """A client that was started at 0, and its first read."""
    made = KeepAliveClient(KeepAliveConfig(**config), random.Random(1))
    made.start(0.0)
    (frame,) = made.frames_to_send()
    return made, zcl.parse_frame(frame)


def answer(read, base=20, jitter=100):
    """What a Trust Center with these attributes answers, from our own attribute server."""
    server = zcl.AttributeServer({clusters.KEEP_ALIVE_CLUSTER: clusters.keep_alive_attributes(base, jitter)})
    octets = server.answer(clusters.KEEP_ALIVE_CLUSTER, read, 0.0)
    return zcl.parse_frame(octets)


def test_the_attributes_are_zigpys():
    """The same identifiers, and the first read asks for both."""
    names = {definition.name: number for number, definition in KeepAlive.attributes.items()}
    assert names["tc_keep_alive_base"] == clusters.TC_KEEP_ALIVE_BASE
    assert names["tc_keep_alive_jitter"] == clusters.TC_KEEP_ALIVE_JITTER
    assert KeepAlive.cluster_id == clusters.KEEP_ALIVE_CLUSTER
    _, read = client()
    assert zcl.parse_read(read.payload) == (0, 1)


def test_the_trust_center_says_how_often_it_is_asked():
    """20 minutes and up to 100 s: the next read is due between 1200 s and 1300 s later, and goes out then."""
    alive, read = client()
    assert alive.receive(answer(read), 2.0, secured=True) == [TrustCenterAnswered(20, 100)]
    due = alive.next_deadline()
    assert 1202.0 <= due <= 1302.0
    assert alive.on_deadline(due - 1) == []
    assert alive.frames_to_send() == []
    assert alive.on_deadline(due) == []
    assert len(alive.frames_to_send()) == 1


def test_three_failures_in_a_row_lose_the_trust_center():
    """Silence counts after 10 s; after the third the client stops, until it is started again."""
    alive, _ = client()
    said = []
    while (due := alive.next_deadline()) is not None:
        said += alive.on_deadline(due)
        alive.frames_to_send()
    reason = "no answer"
    assert said == [
        KeepAliveFailed(1, reason), KeepAliveFailed(2, reason), KeepAliveFailed(3, reason), TrustCenterLost(),
    ]  # fmt: skip
    alive.start(9000.0)
    (frame,) = alive.frames_to_send()
    events = alive.receive(answer(zcl.parse_frame(frame)), 9001.0, secured=True)
    assert events == [TrustCenterAnswered(20, 100)]


def test_a_new_start_forgives_no_failure_but_a_new_key_does():
    """A device that rejoins goes on counting: else one whose hub is gone for good would never find out."""
    alive, _ = client()
    counts = []
    for forgive in (False, True, False, True):
        due = alive.next_deadline()  # the time-out of the first read after a start
        counts += [event.failures for event in alive.on_deadline(due)]
        (alive.forgive if forgive else alive.stop)()
        assert not alive.watching
        alive.start(due)
    assert counts == [1, 2, 1, 2]


def test_an_answer_between_failures_starts_the_count_anew():
    """Two failures, an answer, two failures: the Trust Center is not lost."""
    alive, read = client()
    now, counts = 0.0, []
    for answered in (False, False, True, False, False):
        if answered:
            alive.receive(answer(read), now, secured=True)
        else:
            now = alive.next_deadline()
            counts += [event.failures for event in alive.on_deadline(now)]
        now = alive.next_deadline()
        alive.on_deadline(now)
        read = zcl.parse_frame(alive.frames_to_send()[0])
    assert counts == [1, 2, 1, 2]


def test_an_answer_in_clear_does_not_count():
    """ZCL8 3.18.4: the read response must be APS encrypted; a configuration may look the other way."""
    alive, read = client()
    assert alive.receive(answer(read), 1.0, secured=False) == [
        KeepAliveFailed(1, "the answer is not APS encrypted")
    ]
    alive, read = client(secured=False)
    assert alive.receive(answer(read), 1.0, secured=False) == [TrustCenterAnswered(20, 100)]


@pytest.mark.parametrize(
    ("command", "payload", "reason"),
    [
        (zcl.DEFAULT_RESPONSE, b"\x00\x86", "refused"),
        (zcl.READ_ATTRIBUTES_RESPONSE, b"\x00\x00\x86\x01\x00\x86", "both attributes"),
        (
            zcl.READ_ATTRIBUTES_RESPONSE,
            b"\x00\x00\x00\x21\x0a\x00\x01\x00\x00\x21\x2c\x01",
            "both attributes",
        ),
        (zcl.READ_ATTRIBUTES_RESPONSE, b"\x00\x00\x00\x20", "cut off"),
    ],
)
def test_an_answer_that_is_none_is_a_failure(command, payload, reason):
    """Refused, without the attributes, of another type, or cut off."""
    alive, read = client()
    (event,) = alive.receive(zcl.Frame(0x18, None, read.sequence, command, payload), 1.0, secured=True)
    assert event.failures == 1
    assert reason in event.reason


def test_what_was_not_asked_for_is_passed_over():
    """An answer of another sequence, a late one, a report, and anything after stop."""
    alive, read = client()
    assert alive.receive(answer(read._replace(sequence=read.sequence + 1)), 1.0, secured=True) == []
    assert alive.receive(read._replace(command=zcl.REPORT_ATTRIBUTES), 1.0, secured=True) == []
    assert alive.receive(read._replace(control=zcl.CLUSTER_COMMAND), 1.0, secured=True) == []
    alive.stop()
    assert alive.receive(answer(read), 1.0, secured=True) == []
    assert (alive.next_deadline(), alive.on_deadline(99.0)) == (None, [])


def test_a_base_of_nothing_is_a_minute():
    """TC Keep-Alive Base 0 is out of range: the client does not poll without pause."""
    alive, read = client()
    assert alive.receive(answer(read, 0, 0), 1.0, secured=True) == [TrustCenterAnswered(1, 0)]
    assert alive.next_deadline() == 61.0


@settings(max_examples=100)
@given(st.integers(0, 255), st.integers(0, 255), st.binary(max_size=30))
def test_random_answers_are_answers_or_failures(control, command, payload):
    """Hostile octets cause events and nothing else."""
    alive, read = client()
    events = alive.receive(zcl.Frame(control, None, read.sequence, command, payload), 1.0, secured=True)
    assert all(isinstance(event, TrustCenterAnswered | KeepAliveFailed) for event in events)


def test_the_tables_of_the_other_clusters_can_be_read():
    """Tunneling, Metering with its notification flags, Prepayment: every attribute has a value of its type."""
    flags = clusters.NEW_OTA_FIRMWARE | clusters.TUNNEL_MESSAGE_PENDING
    tables = {
        0x0704: clusters.tunneling_attributes(600),
        clusters.METERING_CLUSTER: clusters.metering_attributes(clusters.GAS_METERING, lambda now: int(now)),
        clusters.PREPAYMENT_CLUSTER: clusters.prepayment_attributes(0x0002, lambda now: -500),
    }
    server = zcl.AttributeServer(
        tables, {clusters.METERING_CLUSTER: clusters.notification_attributes(lambda now: flags)}
    )

    def read(cluster, *attributes, control=0):
        frame = zcl.Frame(control, None, 1, zcl.READ_ATTRIBUTES, zcl.build_read(attributes))
        reply = zcl.parse_frame(server.answer(cluster, frame, 77.0))
        return [record.value for record in zcl.parse_read_response(reply.payload)]

    assert read(0x0704, clusters.CLOSE_TUNNEL_TIMEOUT) == [600]
    assert read(clusters.METERING_CLUSTER, 0x0000, 0x0200, 0x0300, 0x0306) == [77, 0, 1, 1]
    assert read(clusters.PREPAYMENT_CLUSTER, 0x0000, 0x0001) == [2, -500]
    assert read(clusters.METERING_CLUSTER, 0x0000, control=zcl.FROM_SERVER) == [0x200001]
    electric = clusters.metering_attributes(clusters.ELECTRIC_METERING, lambda now: 0)
    assert electric[clusters.UNIT_OF_MEASURE].read(0.0) == 0
