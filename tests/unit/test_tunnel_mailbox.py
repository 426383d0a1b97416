"""A sleepy GSME's mailbox: its headers, what waits in it, and its fetching through a tunnel."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.tunnel import (
    DataReceived,
    TunnelClient,
)
from harness.wire.tunnel_mailbox import (
    LONGEST_MESSAGE,
    Get,
    GetResponse,
    GsmeCommandNotRetrieved,
    Mailbox,
    MailboxConfig,
    Put,
    build_gsme_data,
    parse_gsme_data,
)
from harness.wire.tunnel_server import TunnelServer

HUB, PPMID, HCALCS = 0x000D6F000A9069E7, 0x00DB1234567890A4, 0x00DB1234567890A5

u8 = st.integers(0, 0xFF)


@settings(max_examples=100)
@given(
    st.one_of(
        st.just(Get()),
        st.builds(GetResponse, u8, st.binary(max_size=40)),
        st.builds(Put, st.binary(max_size=40)),
    )
)
def test_a_header_reads_back_as_it_was_built(data):
    """GET, GET-RESPONSE and PUT."""
    assert parse_gsme_data(build_gsme_data(data)) == data
    assert type(parse_gsme_data(build_gsme_data(data))) is type(data)


@settings(max_examples=100)
@given(st.binary(max_size=10))
def test_random_headers_are_never_more_than_a_remote_error(octets):
    """What is accepted builds back to the same octets."""
    with contextlib.suppress(RemoteProtocolError):
        assert build_gsme_data(parse_gsme_data(octets)) == octets


def test_the_headers_are_these_octets():
    """GBCS 10.2.2: 0x01; 0x02, remaining, message; 0x02 0x00 for none; 0x03, message."""
    assert build_gsme_data(Get()) == b"\x01"
    assert build_gsme_data(GetResponse(3, b"\xdf\x09")) == b"\x02\x03\xdf\x09"
    assert build_gsme_data(GetResponse(0, b"")) == b"\x02\x00"
    assert build_gsme_data(Put(b"\xdf\x09")) == b"\x03\xdf\x09"
    for octets in (b"", b"\x01\x00", b"\x02", b"\x04"):
        with pytest.raises(RemoteProtocolError):
            parse_gsme_data(octets)
    for data in (GetResponse(256, b""), GetResponse(0, bytes(1499)), Put(bytes(1500))):
        with pytest.raises(LocalProtocolError):
            build_gsme_data(data)


def test_a_mailbox_gives_its_messages_in_order():
    """Each GET one message, and how many remain, until it is said to have arrived; then the next, then none."""
    mailbox = Mailbox()
    assert not mailbox.pending
    for message in (b"1", b"2", b"3"):
        mailbox.post(message, 0.0)
    assert mailbox.pending
    mailbox.done()  # nobody has fetched any
    fetched = []
    for _ in range(4):
        fetched += [mailbox.fetch(), mailbox.fetch()]
        mailbox.done()
    assert fetched[::2] == fetched[1::2] == [
        GetResponse(2, b"1"), GetResponse(1, b"2"), GetResponse(0, b"3"), GetResponse(0, b""),
    ]  # fmt: skip
    assert not mailbox.pending


def test_a_message_that_grows_too_old_after_it_was_fetched_takes_no_other_with_it():
    """Its confirmation comes too late: the next message has not been fetched."""
    mailbox = Mailbox()
    mailbox.post(b"old", 0.0)
    mailbox.post(b"new", 3600.0)
    mailbox.fetch()
    assert mailbox.on_deadline(86_400.0) == [GsmeCommandNotRetrieved(b"old")]
    mailbox.done()
    assert mailbox.fetch() == GetResponse(0, b"new")


def test_a_message_not_fetched_in_a_day_is_thrown_away():
    """After 24 h: GSME Command Not Retrieved (0x819D); a later one has its own day."""
    mailbox = Mailbox()
    mailbox.post(b"old", 0.0)
    mailbox.post(b"new", 3600.0)
    assert mailbox.next_deadline() == 86_400.0
    assert mailbox.on_deadline(86_399.0) == []
    assert mailbox.on_deadline(86_400.0) == [GsmeCommandNotRetrieved(b"old")]
    assert mailbox.fetch() == GetResponse(0, b"new")
    mailbox.done()
    assert mailbox.next_deadline() is None


def test_a_mailbox_takes_what_fits():
    """1498 octets behind the header, not empty, up to its capacity."""
    mailbox = Mailbox(MailboxConfig(capacity=1))
    for message in (b"", bytes(LONGEST_MESSAGE + 1)):
        with pytest.raises(LocalProtocolError):
            mailbox.post(message, 0.0)
    mailbox.post(bytes(LONGEST_MESSAGE), 0.0)
    with pytest.raises(LocalProtocolError, match="1 messages wait"):
        mailbox.post(b"x", 0.0)
    assert len(build_gsme_data(mailbox.fetch())) == 1500


def test_a_gsme_fetches_what_waits_through_its_own_tunnel():
    """The GSME is the tunnel's client, the hub its server: GET until nothing remains, then PUT of a response."""
    gsme, hub, mailbox = TunnelClient(), TunnelServer(), Mailbox()
    for message in (b"command 1", b"command 2"):
        mailbox.post(message, 0.0)
    gsme.send(HUB, build_gsme_data(Get()), 1800.0)
    fetched, received = [], []
    for _ in range(12):
        for _, octets in gsme.frames_to_send():
            for event in hub.receive(PPMID, zcl.parse_frame(octets), 1800.0):
                if isinstance(event, DataReceived):
                    asked = parse_gsme_data(event.data)
                    if isinstance(asked, Get):
                        hub.send(PPMID, build_gsme_data(mailbox.fetch()), 1800.0)
                        mailbox.done()
                    else:
                        received.append(asked)
        for _, octets in hub.frames_to_send():
            for event in gsme.receive(HUB, zcl.parse_frame(octets), 1800.0):
                if isinstance(event, DataReceived):
                    answer = parse_gsme_data(event.data)
                    fetched.append(answer)
                    gsme.send(HUB, build_gsme_data(Get() if answer.remaining else Put(b"response")), 1800.0)
    assert fetched == [GetResponse(1, b"command 1"), GetResponse(0, b"command 2")]
    assert received == [Put(b"response")]
    assert not mailbox.pending
