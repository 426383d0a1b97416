"""Tunnels whose requests overtake each other, or that one end forgets while something waits for them."""

from __future__ import annotations

import pytest

from harness.wire import zcl
from harness.wire.tunnel import (
    DataReceived,
    TunnelClosed,
    TunnelOpened,
)
from harness.wire.tunnel_server import TunnelServerConfig
from tests.unit.tunnel_line import HUB, PPMID, Line, opened


def received(events):
    """The data that came."""
    return [event.data for event in events if isinstance(event, DataReceived)]


def overtaken(*, requests, answers, waiting=(), **settings):
    """A line whose client asked for a tunnel twice, and whose frames did not arrive in the order of their sending."""
    line = Line(**settings)
    line.client.open(PPMID, 0.0)
    sent = line.client.frames_to_send()
    line.client.forget(PPMID)
    line.client.open(PPMID, 0.0)
    for data in waiting:
        line.client.send(PPMID, data, 0.0)
    sent += line.client.frames_to_send()
    for number in requests:
        line.at_server += line.server.receive(HUB, zcl.parse_frame(sent[number][1]), 0.0)
    given = line.server.frames_to_send()
    for number in answers:
        line.at_client += line.client.receive(PPMID, zcl.parse_frame(given[number][1]), 0.0)
    line.settle()
    return line


@pytest.mark.parametrize("waiting", [[], [b"firmware"]])
@pytest.mark.parametrize("replaces", [True, False])
@pytest.mark.parametrize("requests", [(0, 1), (1, 0)])
@pytest.mark.parametrize("answers", [(0, 1), (1, 0)])
def test_of_two_requests_that_overtake_each_other_a_tunnel_is_left(requests, answers, replaces, waiting):
    """A hub that restarts asks a device twice; an APS retry turns their order, or that of the answers, round.

    A server that holds one tunnel for a client replaces the first by the last: closing the wrong one leaves none, and
    its alerts would wait until the tunnel is renewed, after 0xFFFF s.
    """
    line = overtaken(
        requests=requests, answers=answers, waiting=waiting, server=TunnelServerConfig(replaces=replaces)
    )
    assert received(line.server_says()) == waiting
    line.client_says()
    line.server.send(HUB, b"alert", 0.0)
    line.settle()
    assert received(line.client_says()) == [b"alert"]
    line.server_says()
    line.send(b"command")
    assert received(line.server_says()) == [b"command"]
    line.server.send(HUB, b"response", 0.0)
    line.settle()
    assert received(line.client_says()) == [b"response"]


def test_a_tunnel_too_many_is_closed_with_the_next_request():
    """A server that keeps all that it granted holds one again after the renewal: none leaks."""
    line = overtaken(
        requests=(0, 1), answers=(1, 0), server=TunnelServerConfig(replaces=False, close_timeout=10_000_000)
    )
    line.server_says()
    line.until(65_535.0)
    closed = [event.tunnel for event in line.server_says() if isinstance(event, TunnelClosed)]
    assert sorted(closed) == [0, 1]
    assert line.client.tunnel(PPMID) == line.server.tunnel(HUB) == 2


def test_an_answer_after_its_time_is_one_all_the_same():
    """A device that sleeps for longer than its hub waits for an answer gets its tunnel with the first request."""
    line = Line()
    line.client.open(PPMID, 0.0)
    ((_, request),) = line.client.frames_to_send()
    line.client.on_deadline(15.0)
    line.now = 20.0
    line.server.receive(HUB, zcl.parse_frame(request), line.now)
    line.settle()
    assert line.client_says() == [TunnelOpened(PPMID, 0, 1500)]
    assert line.server.tunnel(HUB) == 0
    assert line.client.next_deadline() == 20.0 + 65_535.0


@pytest.mark.parametrize("rejoined", ["server", "client"])
def test_a_tunnel_is_forgotten_with_a_rejoin(rejoined):
    """After a rejoin neither end's old tunnel counts; a new one is opened, and messages that wait are kept."""
    line = opened()
    if rejoined == "server":
        line.server.forget(HUB)
        assert line.server.tunnel(HUB) is None
    line.client.forget(PPMID)
    assert line.client.tunnel(PPMID) is None
    line.send(b"x")
    assert line.server_says()[-1] == DataReceived(HUB, 1, b"x")
    assert line.server.tunnel(HUB) == line.client.tunnel(PPMID) == 1


def test_what_waits_survives_a_rejoin():
    """The device was away while a message waited for its tunnel: it comes through the next one."""
    line = Line()
    line.whole = False
    line.send(b"kept")
    line.client.forget(PPMID)
    line.whole = True
    line.open()
    assert line.server_says() == [TunnelOpened(HUB, 0, 1500), DataReceived(HUB, 0, b"kept")]
