"""Tests of the WAN between the DSP and a hub: what it delays, and what it loses, by seed and by name."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.dcc.csp import CameDown, CameUp, CommandDown, Csp, CspConfig, ImageDown, Logged, LostOnTheWan, Up
from harness.errors import LocalProtocolError
from harness.wire.gbcs import build_message
from harness.wire.gbcs_payloads import (
    ActivateImageResponse,
    ActivationResult,
    ExecutionOutcome,
    FirmwareActivated,
    message_of,
)
from harness.wire.gbcs_readings import GsmeFirmwareVersion
from tests.unit.dcc_bench import MOMENT, USER

METER, OTHER = 0x11, 0x12


def response(source: int = METER) -> Up:
    """A response of a meter to SR11.3."""
    payload = ExecutionOutcome(ActivateImageResponse.SUCCESS, 2)
    return Up(
        source,
        build_message(message_of(payload, originator=source, recipient=USER, originator_counter=1)),
    )


def alert(source: int = METER) -> Up:
    """An alert of a PPMID."""
    payload = FirmwareActivated(0x8F8B, MOMENT, 2, ActivationResult.SUCCESS)
    return Up(
        source,
        build_message(message_of(payload, originator=source, recipient=USER, originator_counter=1)),
    )


def test_each_way_takes_its_time():
    """What goes down, and what comes up, is there after the latency, not before, and in its order."""
    csp = Csp(CspConfig(latency_seconds=3.0))
    first, second = CommandDown(1, METER, b"one"), CommandDown(2, METER, b"two")
    assert csp.next_deadline() is None
    assert csp.down(first, 10.0) == []
    assert csp.down(second, 10.0) == []
    assert csp.up(response(), 11.0) == []
    assert csp.next_deadline() == 13.0
    assert csp.on_deadline(12.999) == []
    assert csp.on_deadline(13.0) == [CameDown(first), CameDown(second)]
    assert csp.on_deadline(14.0) == [CameUp(response())]
    assert csp.next_deadline() is None


def test_a_loss_by_name_hits_the_next_of_that_device_and_no_other():
    """`lose_next_response(of)` lets the others' pass, loses one of the named Device's, and lets its next pass."""
    csp = Csp(CspConfig(latency_seconds=0.0))
    csp.lose_next_response(METER)
    assert csp.up(response(OTHER), 0.0) == []
    assert csp.up(response(METER), 0.0) == [LostOnTheWan(response(METER), named=True)]
    assert csp.up(response(METER), 0.0) == []
    assert csp.on_deadline(0.0) == [CameUp(response(OTHER)), CameUp(response(METER))]


def test_an_unnamed_loss_hits_whoever_is_next():
    """Without a Device, the next response is lost, and a request by its own call; neither touches the other way."""
    csp = Csp(CspConfig(latency_seconds=0.0))
    csp.lose_next_response()
    image = ImageDown(1, METER, b"image")
    assert csp.down(image, 0.0) == []
    assert csp.up(response(OTHER), 0.0) == [LostOnTheWan(response(OTHER), named=True)]
    csp.lose_next_request()
    assert csp.up(response(OTHER), 0.0) == []
    assert csp.down(image, 0.0) == [LostOnTheWan(image, named=True)]


def test_a_loss_that_names_a_device_is_used_up_before_one_that_names_none():
    """A response that both would hit is lost by its name: the other loss is left for another Device's."""
    csp = Csp()
    csp.lose_next_response()
    csp.lose_next_response(METER)
    assert csp.up(response(METER), 0.0) == [LostOnTheWan(response(METER), named=True)]
    assert csp.up(response(OTHER), 0.0) == [LostOnTheWan(response(OTHER), named=True)]


def test_a_share_of_requests_is_lost_on_the_way_down():
    """All of them: images and commands; what comes up meanwhile comes through."""
    csp = Csp(CspConfig(loss_requests=1.0))
    for what in (ImageDown(1, METER, b"image"), CommandDown(2, METER, b"command")):
        assert csp.down(what, 0.0) == [LostOnTheWan(what, named=False)]
    assert csp.up(response(), 0.0) == []


def test_alerts_are_not_responses():
    """An alert neither uses up a loss by name nor falls to chance; nor do octets that nobody can read."""
    csp = Csp(CspConfig(latency_seconds=0.0, loss_responses=1.0))
    csp.lose_next_response()
    noise = Up(METER, b"noise")
    assert csp.up(alert(), 0.0) == []
    assert csp.up(noise, 0.0) == []
    assert csp.on_deadline(0.0) == [CameUp(alert()), CameUp(noise)]
    assert csp.up(response(), 0.0) == [LostOnTheWan(response(), named=True)]
    assert csp.up(response(), 0.0) == [LostOnTheWan(response(), named=False)]
    assert csp.up(Logged(1, METER, None), 0.0) == [LostOnTheWan(Logged(1, METER, None), named=False)]


def lost_of(csp: Csp, count: int) -> list[int]:
    """Which of so many responses are lost."""
    return [number for number in range(count) if csp.up(response(), 0.0)]


def test_a_share_of_responses_is_lost_by_seed():
    """One in five of 1000, give or take: the same ones for a seed, others for another, whatever goes down meanwhile."""
    config = CspConfig(loss_requests=0.5, loss_responses=0.2)
    once, again, other = Csp(config, 7), Csp(config, 7), Csp(config, 8)
    for number in range(50):
        again.down(CommandDown(number, METER, b""), 0.0)
    lost = lost_of(once, 1000)
    assert 150 < len(lost) < 250
    assert lost_of(again, 1000) == lost
    assert lost_of(other, 1000) != lost


def test_a_loss_by_name_moves_no_loss_by_chance():
    """What is lost by seed later is the same with a loss by name before it."""
    config = CspConfig(loss_responses=0.2)
    plain, named = Csp(config, 7), Csp(config, 7)
    named.lose_next_response()
    first, second = lost_of(plain, 200), lost_of(named, 200)
    assert second == sorted({0, *first})


@given(
    st.lists(st.tuples(st.floats(0, 100), st.booleans(), st.sampled_from([METER, OTHER])), max_size=30),
    st.floats(0, 1),
)
@settings(max_examples=60)
def test_everything_arrives_or_is_lost_once(sent, share):
    """Of whatever is sent, each is lost or arrives, once, and never before its time."""
    csp = Csp(CspConfig(latency_seconds=2.0, loss_requests=share, loss_responses=share), 3)
    lost, now, sent_at = 0, 0.0, []
    for ticket, (pause, down, device) in enumerate(sent):
        now += pause
        events = csp.down(CommandDown(ticket, device, b""), now) if down else csp.up(response(device), now)
        lost += len(events)
        sent_at += [now] * (not events)
    arrived = []
    while (due := csp.next_deadline()) is not None:
        arrived += [due] * len(csp.on_deadline(due))
    assert lost + len(arrived) == len(sent)
    assert arrived == [at + 2.0 for at in sent_at]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"latency_seconds": -1.0}, "a WAN latency of -1.0 s"),
        ({"loss_requests": 1.5}, "a share of requests lost of 1.5"),
        ({"loss_responses": float("nan")}, "a share of responses lost of nan"),
    ],
)
def test_a_wan_that_cannot_be_is_refused(settings, said):
    """Shares are from 0 to 1, and time does not run back."""
    with pytest.raises(LocalProtocolError, match=said):
        CspConfig(**settings)


def test_a_reading_is_a_response_too():
    """The answer to SR11.2 can be lost like any response."""
    payload = GsmeFirmwareVersion(2)
    octets = build_message(message_of(payload, originator=METER, recipient=USER, originator_counter=1))
    csp = Csp()
    csp.lose_next_response(METER)
    assert csp.up(Up(METER, octets), 0.0) == [LostOnTheWan(Up(METER, octets), named=True)]
