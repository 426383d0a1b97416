"""The Tunneling cluster's commands, octet by octet."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.tunnel_messages import (
    AckTransferData,
    CloseTunnel,
    GetSupportedTunnelProtocols,
    ReadyData,
    RequestTunnel,
    RequestTunnelResponse,
    SupportedTunnelProtocols,
    TransferData,
    TransferDataError,
    TunnelClosureNotification,
    build_message,
    parse_message,
)

u8, u16 = st.integers(0, 0xFF), st.integers(0, 0xFFFF)
both_ways = st.one_of(
    st.builds(TransferData, u16, st.binary(max_size=64)),
    st.builds(TransferDataError, u16, u8),
    st.builds(AckTransferData, u16, u16),
    st.builds(ReadyData, u16, u16),
)
to_server = st.one_of(
    st.builds(RequestTunnel, u8, u16, st.booleans(), u16),
    st.builds(CloseTunnel, u16),
    st.builds(GetSupportedTunnelProtocols, u8),
)
to_client = st.one_of(
    st.builds(RequestTunnelResponse, u16, u8, u16),
    st.builds(SupportedTunnelProtocols, st.booleans(), st.lists(st.tuples(u16, u8), max_size=5).map(tuple)),
    st.builds(TunnelClosureNotification, u16),
)
sent = st.one_of(
    st.tuples(both_ways, st.booleans()),
    st.tuples(to_server, st.just(False)),
    st.tuples(to_client, st.just(True)),
)


@settings(max_examples=200)
@given(sent, u8)
def test_a_command_reads_back_as_it_was_built(message, sequence):
    """Every command, the two-way ones in both directions."""
    what, from_server = message
    frame = zcl.parse_frame(build_message(what, sequence, from_server=from_server))
    assert (frame.sequence, bool(frame.control & zcl.FROM_SERVER)) == (sequence, from_server)
    assert parse_message(frame) == what
    assert type(parse_message(frame)) is type(what)


@settings(max_examples=200)
@given(sent, st.data())
def test_a_command_cut_off_anywhere_is_refused(message, data):
    """Shorter than its command asks for is a RemoteProtocolError; but for data, which has no length of its own."""
    what, from_server = message
    frame = zcl.parse_frame(build_message(what, 1, from_server=from_server))
    fixed = len(frame.payload) - (len(what.data) if isinstance(what, TransferData) else 0)
    short = frame._replace(payload=frame.payload[: data.draw(st.integers(0, fixed - 1))])
    with pytest.raises(RemoteProtocolError):
        parse_message(short)


@pytest.mark.parametrize(
    ("message", "from_server", "octets"),
    [
        (RequestTunnel(), False, "11 05 00 06 ffff 00 dc05"),
        (RequestTunnelResponse(7, 0), True, "19 05 00 0700 00 dc05"),
        (CloseTunnel(7), False, "11 05 01 0700"),
        (TransferData(7, b"\x03\xdf"), False, "11 05 02 0700 03df"),
        (TransferData(7, b"\x02\x00"), True, "19 05 01 0700 0200"),
        (TransferDataError(7, 1), False, "11 05 03 0700 01"),
        (TransferDataError(7, 2), True, "19 05 02 0700 02"),
        (AckTransferData(7, 1500), False, "11 05 04 0700 dc05"),
        (AckTransferData(7, 1500), True, "19 05 03 0700 dc05"),
        (ReadyData(7, 1500), False, "11 05 05 0700 dc05"),
        (ReadyData(7, 1500), True, "19 05 04 0700 dc05"),
        (GetSupportedTunnelProtocols(1), False, "11 05 06 01"),
        (SupportedTunnelProtocols(True, ((0xFFFF, 6),)), True, "19 05 05 01 01 ffff 06"),
        (TunnelClosureNotification(7), True, "19 05 06 0700"),
    ],
)
def test_a_command_has_these_octets(message, from_server, octets):
    """ZSE D.6, and the values of GBCS 10.2.2 as defaults: manufacturer 0xFFFF, protocol 6, no flow control, 1500."""
    assert build_message(message, 5, from_server=from_server) == bytes.fromhex(octets)


@pytest.mark.parametrize(
    ("message", "from_server"),
    [
        (RequestTunnel(), True),
        (TunnelClosureNotification(1), False),
        (CloseTunnel(0x10000), False),
        (RequestTunnelResponse(1, 256), True),
        (GetSupportedTunnelProtocols(256), False),
    ],
)
def test_a_command_that_does_not_fit_is_our_own_error(message, from_server):
    """A field too large, or a command that does not go that way."""
    with pytest.raises(LocalProtocolError):
        build_message(message, 1, from_server=from_server)
