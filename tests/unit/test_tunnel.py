"""The Tunneling cluster: both state machines against each other."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.wire import zcl
from harness.wire.tunnel import (
    DataReceived,
    DataRefused,
    MessageLost,
    TunnelClient,
    TunnelClientConfig,
    TunnelClosed,
    TunnelFailed,
    TunnelOpened,
    TunnelRefused,
)
from harness.wire.tunnel_messages import (
    NO_TUNNEL,
    AckTransferData,
    CloseTunnel,
    GetSupportedTunnelProtocols,
    ReadyData,
    RequestTunnel,
    RequestTunnelResponse,
    SupportedTunnelProtocols,
    TransferData,
    TransferDataError,
    TransferStatus,
    TunnelClosureNotification,
    TunnelStatus,
    build_message,
    parse_message,
)
from harness.wire.tunnel_server import TunnelServer, TunnelServerConfig
from tests.unit.tunnel_line import HCALCS, HUB, PPMID, Line, opened

u8 = st.integers(0, 0xFF)


def test_a_tunnel_carries_data_both_ways():
    """Opened once, though asked for twice; 1500 octets there and back."""
    line = opened()
    line.open()
    assert (line.client_says(), line.server_says()) == ([], [])
    assert (line.client.tunnel(PPMID), line.server.tunnel(HUB)) == (0, 0)
    line.send(b"q" * 1500)
    assert line.server_says() == [DataReceived(HUB, 0, b"q" * 1500)]
    line.server.send(HUB, b"a" * 1500, line.now)
    line.settle()
    assert line.client_says() == [DataReceived(PPMID, 0, b"a" * 1500)]


def test_a_message_opens_the_tunnel_that_it_needs():
    """GBCS 10.2.2.1: a message without a tunnel makes the hub ask for one; messages keep their order."""
    line = Line()
    line.client.send(PPMID, b"one", 0.0)
    line.client.send(PPMID, b"two", 0.0)
    line.settle()
    assert line.server_says()[1:] == [DataReceived(HUB, 0, b"one"), DataReceived(HUB, 0, b"two")]


@pytest.mark.parametrize("size", [0, 1501])
def test_a_transfer_of_another_size_is_refused(size):
    """1 to 1500 octets: everything else is our own error, at either end."""
    line = opened()
    with pytest.raises(LocalProtocolError, match=f"{size} octets"):
        line.client.send(PPMID, bytes(size), 0.0)
    with pytest.raises(LocalProtocolError, match=f"{size} octets"):
        line.server.send(HUB, bytes(size), 0.0)


def test_the_other_ends_limit_holds():
    """A server that takes 100 octets at once is sent no more; what waited for it and is longer is lost."""
    line = Line(server=TunnelServerConfig(max_transfer=100))
    line.client.send(PPMID, bytes(101), 0.0)
    line.settle()
    assert line.client_says() == [TunnelOpened(PPMID, 0, 100), MessageLost(PPMID, bytes(101))]
    with pytest.raises(LocalProtocolError, match="1 to 100"):
        line.client.send(PPMID, bytes(101), 0.0)
    short = Line(client=TunnelClientConfig(max_transfer=100))
    short.open()
    with pytest.raises(LocalProtocolError, match="1 to 100"):
        short.server.send(HUB, bytes(101), 0.0)


def test_more_than_announced_is_an_overflow():
    """Data above the limit is answered with DATA_OVERFLOW and the tunnel stays."""
    line = opened(server=TunnelServerConfig(max_transfer=1500))
    frame = zcl.parse_frame(build_message(TransferData(0, bytes(1501)), 9, from_server=False))
    line.at_server += line.server.receive(HUB, frame, 0.0)
    line.settle()
    assert line.server_says() == [DataRefused(HUB, 0, TransferStatus.DATA_OVERFLOW, ours=False)]
    assert line.client_says() == [DataRefused(PPMID, 0, TransferStatus.DATA_OVERFLOW, ours=True)]
    assert line.client.tunnel(PPMID) == 0
    frame = zcl.parse_frame(build_message(TransferData(0, bytes(1501)), 9, from_server=True))
    line.at_client += line.client.receive(PPMID, frame, 0.0)
    line.settle()
    assert line.client_says() == [DataRefused(PPMID, 0, TransferStatus.DATA_OVERFLOW, ours=False)]
    assert line.server.tunnel(HUB) == 0


def test_a_busy_server_is_asked_again_after_three_minutes():
    """GBCS 10.2.2.1; what waits for the tunnel is sent then."""
    line = Line()
    line.server.busy = True
    line.send(b"firmware")
    assert line.client_says() == [TunnelRefused(PPMID, TunnelStatus.BUSY, 180.0)]
    assert line.server_says() == [TunnelRefused(HUB, TunnelStatus.BUSY)]
    line.until(179.0)
    assert line.server_says() == []
    line.server.busy = False
    line.until(180.0)
    assert line.server_says() == [TunnelOpened(HUB, 0, 1500), DataReceived(HUB, 0, b"firmware")]


def test_a_client_gives_up_after_five_requests():
    """Busy five times: the tunnel fails, what waited is lost; the next message starts anew."""
    line = Line()
    line.server.busy = True
    line.send(b"firmware")
    line.until(100_000.0)
    assert line.client_says() == [
        *[TunnelRefused(PPMID, TunnelStatus.BUSY, 180.0)] * 4,
        TunnelRefused(PPMID, TunnelStatus.BUSY, None),
        TunnelFailed(PPMID, "refused with status 1"),
        MessageLost(PPMID, b"firmware"),
    ]
    assert line.client.next_deadline() is None
    line.server.busy = False
    line.send(b"again")
    assert line.server_says()[-1] == DataReceived(HUB, 0, b"again")


def test_silence_is_a_failure_too():
    """Five requests that nobody answers, a time-out and a pause apart; a late answer's tunnel is closed again."""
    line = Line()
    line.whole = False
    line.open()
    line.until(100_000.0)
    assert line.client_says() == [TunnelFailed(PPMID, "no answer")]
    assert line.requests == 5
    line.whole = True
    late = build_message(RequestTunnelResponse(9, 0), 77, from_server=True)
    assert line.client.receive(PPMID, zcl.parse_frame(late), line.now) == []
    ((peer, octets),) = line.client.frames_to_send()
    assert (peer, parse_message(zcl.parse_frame(octets))) == (PPMID, CloseTunnel(9))


@pytest.mark.parametrize(
    ("config", "status"),
    [
        (TunnelClientConfig(protocol=0), TunnelStatus.PROTOCOL_NOT_SUPPORTED),
        (TunnelClientConfig(manufacturer=0x121D), TunnelStatus.PROTOCOL_NOT_SUPPORTED),
        (TunnelClientConfig(flow_control=True), TunnelStatus.FLOW_CONTROL_NOT_SUPPORTED),
    ],
)
def test_another_protocol_or_flow_control_is_refused_for_good(config, status):
    """Only protocol 6 of manufacturer 0xFFFF, without flow control; asking again would not help."""
    line = Line(client=config)
    line.open()
    assert line.client_says() == [
        TunnelRefused(PPMID, status, None),
        TunnelFailed(PPMID, f"refused with status {status}"),
    ]
    assert line.server_says() == [TunnelRefused(HUB, status)]


def test_without_ids_the_old_tunnels_are_closed_first():
    """GBCS 10.2.2.1: on NO_MORE_TUNNEL_IDS close the other tunnels, then ask again."""
    line = opened(server=TunnelServerConfig(capacity=1, replaces=False, close_timeout=10_000_000))
    line.until(65_535.0)  # the renewal finds the only id taken, by this client's own first tunnel
    assert line.client_says() == [TunnelRefused(PPMID, TunnelStatus.NO_MORE_TUNNEL_IDS, 5.0)]
    assert line.server_says() == [
        TunnelRefused(HUB, TunnelStatus.NO_MORE_TUNNEL_IDS), TunnelClosed(HUB, 0, "closed by the client"),
    ]  # fmt: skip
    line.until(65_540.0)
    assert line.client_says() == [TunnelOpened(PPMID, 1, 1500)]


def test_a_tunnel_that_others_took_is_asked_for_a_minute_later():
    """With nothing of its own to close a client can only wait."""
    line = Line(server=TunnelServerConfig(capacity=0))
    line.open()
    assert line.client_says() == [TunnelRefused(PPMID, TunnelStatus.NO_MORE_TUNNEL_IDS, 60.0)]


def test_a_tunnel_is_renewed_after_its_time():
    """After 0xFFFF s without traffic the client asks anew; the server's answer replaces the first tunnel."""
    line = opened(server=TunnelServerConfig(close_timeout=10_000_000))
    line.until(60_000.0)
    line.send(b"x")
    line.until(65_535.0)
    assert line.client_says() == []
    line.until(60_000.0 + 65_535.0)
    assert line.client_says() == [TunnelOpened(PPMID, 1, 1500)]
    assert (line.client.tunnel(PPMID), line.server.tunnel(HUB)) == (1, 1)


def test_an_unused_tunnel_is_closed_and_opened_again():
    """The server's CloseTunnelTimeout; the next message opens another tunnel and goes through it."""
    line = opened(server=TunnelServerConfig(close_timeout=600))
    line.until(500.0)
    line.send(b"x")
    line.until(1_099.0)
    assert line.client_says() == []
    line.until(1_100.0)
    assert line.client_says() == [TunnelClosed(PPMID, 0, "closed by the server")]
    assert line.server_says()[-1] == TunnelClosed(HUB, 0, "without traffic for too long")
    with pytest.raises(LocalProtocolError, match="no tunnel"):
        line.server.send(HUB, b"x", line.now)
    line.send(b"y")
    assert line.server_says() == [TunnelOpened(HUB, 1, 1500), DataReceived(HUB, 1, b"y")]


def test_a_tunnel_that_the_server_closed_is_asked_for_again():
    """GBCS 10.2.2.1: a tunnel is asked for again when its time is over, though the server was the first to see it."""
    line = opened(server=TunnelServerConfig(close_timeout=600))
    line.until(600.0)
    assert line.client_says() == [TunnelClosed(PPMID, 0, "closed by the server")]
    line.until(610.0)
    assert line.client_says() == [TunnelOpened(PPMID, 1, 1500)]


def test_data_to_a_tunnel_that_was_closed_in_silence_is_not_lost():
    """The server says NO_SUCH_TUNNEL; the client asks for a tunnel and sends the message a second time."""
    line = opened(server=TunnelServerConfig(close_timeout=600, notifies_closure=False))
    line.until(600.0)
    line.server_says()
    line.send(b"again")
    assert line.server_says() == [
        DataRefused(HUB, 0, TransferStatus.NO_SUCH_TUNNEL, ours=False),
        TunnelOpened(HUB, 1, 1500),
        DataReceived(HUB, 1, b"again"),
    ]
    assert line.client_says() == [
        DataRefused(PPMID, 0, TransferStatus.NO_SUCH_TUNNEL, ours=True),
        TunnelClosed(PPMID, 0, "unknown to the server"),
        TunnelOpened(PPMID, 1, 1500),
    ]


def test_a_message_is_not_sent_a_third_time():
    """A server that grants tunnels and knows none of them does not keep the client busy for ever."""
    line = opened()
    for refused in (0, 1):
        line.send(b"x") if not refused else None
        line.at_client.clear()
        frame = build_message(TransferDataError(refused, 0), 1, from_server=True)
        line.client.receive(PPMID, zcl.parse_frame(frame), line.now)
        line.server_says()
        line.settle()
    assert [event for event in line.server_says() if isinstance(event, DataReceived)] == []
    assert line.client.tunnel(PPMID) == 2


def test_another_devices_tunnel_is_not_its_own():
    """WRONG_DEVICE for data, NOT_FOUND for a close; the owner's tunnel stays."""
    line = opened()
    frame = zcl.parse_frame(build_message(TransferData(0, b"x"), 1, from_server=False))
    assert line.server.receive(HCALCS, frame, 0.0) == [
        DataRefused(HCALCS, 0, TransferStatus.WRONG_DEVICE, ours=False)
    ]
    close = zcl.parse_frame(build_message(CloseTunnel(0), 2, from_server=False))
    assert line.server.receive(HCALCS, close, 0.0) == []
    (_, error), (_, answer) = line.server.frames_to_send()
    assert parse_message(zcl.parse_frame(error)) == TransferDataError(0, TransferStatus.WRONG_DEVICE)
    assert zcl.parse_default_response(zcl.parse_frame(answer).payload) == (0x01, zcl.Status.NOT_FOUND)
    assert line.server.tunnel(HUB) == 0


def test_data_through_a_tunnel_unknown_to_the_client_is_refused():
    """The server that sends on gets NO_SUCH_TUNNEL and drops its tunnel."""
    line = opened()
    line.client.forget(PPMID)
    line.server.send(HUB, b"alert", 0.0)
    line.settle()
    assert line.client_says() == [DataRefused(PPMID, 0, TransferStatus.NO_SUCH_TUNNEL, ours=False)]
    assert line.server_says() == [
        DataRefused(HUB, 0, TransferStatus.NO_SUCH_TUNNEL, ours=True),
        TunnelClosed(HUB, 0, "unknown to the client"),
    ]
    assert line.server.tunnel(HUB) is None


def test_a_client_closes_its_tunnel():
    """Close Tunnel; what waited is named; the server answers with success only where that is asked for."""
    line = opened()
    assert line.client.close(PPMID) == [TunnelClosed(PPMID, 0, "closed by this end")]
    line.settle()
    assert line.server_says() == [TunnelClosed(HUB, 0, "closed by the client")]
    assert line.client.close(PPMID) == []
    line.whole = False
    line.send(b"x")
    assert line.client.close(PPMID) == [MessageLost(PPMID, b"x")]
    assert line.client.next_deadline() is None


def test_a_queue_has_an_end():
    """Messages for a tunnel that does not open are kept up to a number."""
    client = TunnelClient(TunnelClientConfig(queue=2))
    client.send(PPMID, b"1", 0.0)
    client.send(PPMID, b"2", 0.0)
    with pytest.raises(LocalProtocolError, match="2 messages wait"):
        client.send(PPMID, b"3", 0.0)


def test_a_refused_request_is_made_again():
    """A Default Response with an error, from a device that has its cluster not ready, counts as an attempt."""
    client = TunnelClient()
    client.open(PPMID, 0.0)
    request = zcl.parse_frame(client.frames_to_send()[0][1])
    refusal = zcl.parse_frame(zcl.default_response(request, zcl.Status.NOT_AUTHORIZED))
    assert client.receive(PPMID, refusal, 1.0) == []
    assert client.next_deadline() == 61.0
    assert client.receive(PPMID, refusal._replace(payload=b""), 1.0) == []


def test_a_server_names_its_protocols():
    """Get Supported Tunnel Protocols, from an offset; and no more ids where all are taken by others."""
    server = TunnelServer(TunnelServerConfig(capacity=1))
    for offset, protocols in ((0, ((0xFFFF, 6),)), (1, ())):
        ask = build_message(GetSupportedTunnelProtocols(offset), 5, from_server=False)
        server.receive(HUB, zcl.parse_frame(ask), 0.0)
        frame = zcl.parse_frame(server.frames_to_send()[0][1])
        assert (frame.sequence, parse_message(frame)) == (5, SupportedTunnelProtocols(True, protocols))
    ask = zcl.parse_frame(build_message(RequestTunnel(), 6, from_server=False))
    assert server.receive(HUB, ask, 0.0) == [TunnelOpened(HUB, 0, 1500)]
    assert server.receive(HCALCS, ask, 0.0) == [TunnelRefused(HCALCS, TunnelStatus.NO_MORE_TUNNEL_IDS)]
    refusal = parse_message(zcl.parse_frame(server.frames_to_send()[1][1]))
    assert refusal == RequestTunnelResponse(NO_TUNNEL, TunnelStatus.NO_MORE_TUNNEL_IDS)


def status_of(frames):
    """The status of the only Default Response."""
    ((_, octets),) = frames
    return zcl.parse_default_response(zcl.parse_frame(octets).payload)[1]


def test_flow_control_and_malformed_commands_are_refused():
    """Ack and Ready need flow control: unsupported; a command cut off is malformed; success is said where asked for."""
    client, server = TunnelClient(), TunnelServer()
    for end, from_server in ((client, True), (server, False)):
        for what in (AckTransferData(0, 1), ReadyData(0, 1)):
            frame = zcl.parse_frame(build_message(what, 1, from_server=from_server))
            assert end.receive(HUB, frame, 0.0) == []
            assert status_of(end.frames_to_send()) == zcl.Status.UNSUP_CLUSTER_COMMAND
        assert end.receive(HUB, frame._replace(payload=b"\x00"), 0.0) == []
        assert status_of(end.frames_to_send()) == zcl.Status.MALFORMED_COMMAND
    frame = zcl.parse_frame(build_message(TransferDataError(3, 0), 1, from_server=False))
    server.receive(HUB, frame._replace(control=zcl.CLUSTER_COMMAND), 0.0)
    assert status_of(server.frames_to_send()) == zcl.Status.SUCCESS
    frame = zcl.parse_frame(build_message(TunnelClosureNotification(3), 1, from_server=True))
    client.receive(HUB, frame, 0.0)
    assert status_of(client.frames_to_send()) == zcl.Status.NOT_FOUND


@settings(max_examples=200)
@given(st.lists(st.tuples(u8, u8, st.binary(max_size=12)), max_size=8))
def test_random_frames_cause_events_and_nothing_else(frames):
    """Hostile octets at both ends, in any state."""
    line = opened()
    for control, command, payload in frames:
        frame = zcl.Frame(control, None, 1, command, payload)
        line.client.receive(PPMID, frame, 1.0)
        line.server.receive(HUB, frame, 1.0)
    line.settle()
