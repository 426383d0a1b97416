"""Zigbee PRO NWK frames and commands: recorded frames, round trips, hostile octets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.nwk import FrameType, NwkFrame, build_nwk, open_nwk, parse_nwk
from harness.wire.nwk_commands import (
    EndDeviceTimeoutRequest,
    EndDeviceTimeoutResponse,
    Leave,
    LinkStatus,
    NetworkReport,
    NetworkStatus,
    NetworkUpdate,
    NwkCommand,
    RejoinRequest,
    RejoinResponse,
    RouteRecord,
    RouteReply,
    RouteRequest,
    build_nwk_command,
    parse_nwk_command,
)
from harness.wire.security import AuxHeader

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "fixtures" / "recorded-zigbee-frames.json").read_text()
)
RECORDED_KEY = bytes.fromhex(RECORDED["network_key"])
KEY = bytes(range(16))
EUI64 = 0x000D6F000A9069E7
# fmt: off
RECORDED_LINKS = (
    (0x0000, 1, 1), (0x0B7C, 7, 7), (0x16CA, 1, 1), (0x2020, 1, 0), (0x2303, 7, 7), (0x5E74, 1, 1), (0x65B1, 1, 1),
    (0x67B4, 1, 1), (0x7326, 7, 7), (0x87C6, 1, 3), (0x8C4F, 7, 7), (0x96BA, 1, 1), (0xAA38, 1, 1), (0xC8CD, 1, 1),
    (0xD054, 1, 1), (0xF1F0, 1, 1), (0xFD3D, 1, 1),
)
# fmt: on
MAC_HEADER = 9  # of the recorded NWK frames: all have short addresses in one PAN

octet = st.integers(0, 255)
short = st.integers(0, 0xFFFF)
eui64 = st.integers(0, 2**64 - 1)
shorts = st.lists(short, max_size=10).map(tuple)


@st.composite
def nwk_frames(draw: st.DrawFn, secured: bool | None = None) -> NwkFrame:
    """Return any data or command frame that has a place on the air."""
    relays = draw(st.none() | shorts)
    if secured is None:
        secured = draw(st.booleans())
    aux = (
        AuxHeader(1, draw(st.integers(0, 2**32 - 1)), draw(st.none() | eui64), draw(octet))
        if secured
        else None
    )
    return NwkFrame(
        kind=draw(st.integers(0, 1)),
        dst=draw(short),
        src=draw(short),
        radius=draw(octet),
        sequence=draw(octet),
        payload=draw(st.binary(max_size=80)),
        dst_ieee=draw(st.none() | eui64),
        src_ieee=draw(st.none() | eui64),
        discover_route=draw(st.integers(0, 3)),
        relays=relays,
        relay_index=draw(st.integers(0, len(relays) - 1)) if relays else 0,
        multicast=draw(st.none() | octet),
        end_device_initiator=draw(st.booleans()),
        aux=aux,
    )


commands = st.one_of(
    st.builds(RouteRequest, octet, short, octet, st.integers(0, 2), st.none() | eui64, st.booleans()),
    st.builds(RouteReply, octet, short, short, octet, st.none() | eui64, st.none() | eui64, st.booleans()),
    st.builds(NetworkStatus, octet, short),
    st.builds(Leave, st.booleans(), st.booleans(), st.booleans()),
    st.builds(RouteRecord, shorts),
    st.builds(RejoinRequest, octet),
    st.builds(RejoinResponse, short, octet),
    st.builds(
        LinkStatus,
        st.lists(st.tuples(short, st.integers(0, 7), st.integers(0, 7)), max_size=31).map(tuple),
        st.booleans(),
        st.booleans(),
    ),
    st.builds(NetworkReport, eui64, st.lists(short, max_size=31).map(tuple)),
    st.builds(NetworkUpdate, eui64, octet, short),
    st.builds(EndDeviceTimeoutRequest, octet, octet),
    st.builds(EndDeviceTimeoutResponse, octet, octet),
)


def recorded(name: str) -> bytes:
    """Return the NWK frame within a frame sniffed on a real network."""
    return bytes.fromhex(RECORDED["frames"][name]["octets"])[MAC_HEADER:]


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("route_record", RouteRecord((0xF1F0,))),
        ("many_to_one_route_request", RouteRequest(45, 0xFFFC, 0, many_to_one=1)),
        ("leave", Leave()),
        ("link_status", LinkStatus(RECORDED_LINKS)),
    ],
)
def test_a_recorded_command_is_opened_and_built_again(name: str, command: NwkCommand) -> None:
    """What real devices sent opens with their network key, means what Wireshark says, and is rebuilt to the octet."""
    frame = open_nwk(recorded(name), RECORDED_KEY)
    assert frame.kind == FrameType.COMMAND
    assert parse_nwk_command(frame.payload) == command
    assert build_nwk_command(command) == frame.payload
    assert build_nwk(frame, RECORDED_KEY) == recorded(name)


def test_a_recorded_header_reads_right() -> None:
    """The fields of a forwarded route record, where the sender of this hop differs from the frame's source."""
    assert parse_nwk(recorded("route_record"))._replace(payload=b"", header=b"") == NwkFrame(
        FrameType.COMMAND,
        dst=0,
        src=0xAC3A,
        radius=30,
        sequence=207,
        payload=b"",
        src_ieee=0x00124B002549F442,
        aux=AuxHeader(1, 6240313, 0x00124B0024C04113, 0),
    )


@given(nwk_frames())
def test_a_frame_comes_back_as_it_was_built(frame: NwkFrame) -> None:
    """open_nwk inverts build_nwk, in one step and in two, and a sealed frame is forwarded as it came."""
    octets = build_nwk(frame, KEY, EUI64)
    parsed = parse_nwk(octets)
    assert build_nwk(parsed) == octets
    if frame.aux is not None and frame.aux.source is not None:
        octets = build_nwk(frame, KEY)
        parsed = parse_nwk(octets)
    assert open_nwk(parsed, KEY, EUI64) == frame
    assert open_nwk(octets, KEY, EUI64) == frame
    assert (
        build_nwk(
            open_nwk(octets, KEY, EUI64), KEY, EUI64 if frame.aux and frame.aux.source is None else None
        )
        == octets
    )


@given(nwk_frames())
def test_every_truncation_is_a_frame_or_an_error(frame: NwkFrame) -> None:
    """A frame cut short at any octet gives a value or a RemoteProtocolError, and a secured one never opens."""
    octets = build_nwk(frame, KEY, EUI64)
    for length in range(len(octets)):
        try:
            opened = open_nwk(octets[:length], KEY, EUI64)
        except RemoteProtocolError:
            continue
        assert opened.aux is None


@given(nwk_frames(secured=True), st.data())
def test_no_flipped_bit_of_a_secured_frame_goes_unnoticed(frame: NwkFrame, data: st.DataObject) -> None:
    """Header and payload are authenticated; only the level bits, which are 0 on the air, are not."""
    source = EUI64 if frame.aux is not None and frame.aux.source is None else None
    octets = build_nwk(frame, KEY, source)
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    damaged = (int.from_bytes(octets, "little") ^ 1 << bit).to_bytes(len(octets), "little")
    try:
        opened = open_nwk(damaged, KEY, EUI64)
    except RemoteProtocolError:
        return
    if opened.aux is not None:
        assert opened == frame
        assert bit % 8 < 3


@given(st.binary(max_size=60), st.sampled_from((0x08, 0x09, 0x0B, 0x48)), st.integers(0, 0x3F))
def test_any_octets_are_a_frame_or_an_error(content: bytes, low: int, high: int) -> None:
    """Behind a right frame type and version too, hostile octets give a value or a RemoteProtocolError."""
    try:
        open_nwk(bytes((low, high)) + content, KEY, EUI64)
    except RemoteProtocolError:
        return


def test_an_inter_pan_frame_is_a_frame_control_and_a_payload() -> None:
    """Zigbee PRO annex G: the inter-PAN stub has no NWK addresses."""
    frame = NwkFrame(FrameType.INTER_PAN, 0, 0, 0, 0, b"\x03\x00\x08\x09\x01")
    assert build_nwk(frame) == bytes.fromhex("0b000300080901")
    assert parse_nwk(build_nwk(frame)) == frame


def test_another_key_does_not_open_a_frame() -> None:
    """A wrong network key is a RemoteProtocolError that names the frame counter."""
    octets = build_nwk(NwkFrame(0, 1, 2, 30, 4, b"hello", aux=AuxHeader(1, 77, EUI64, 0)), KEY)
    with pytest.raises(RemoteProtocolError, match="integrity"):
        open_nwk(octets, bytes(16))
    with pytest.raises(RemoteProtocolError, match="frame counter 77"):
        open_nwk(parse_nwk(octets), bytes(16))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": 2},
        {"discover_route": 4},
        {"dst": 0x10000},
        {"radius": 256},
        {"src_ieee": 1 << 64},
        {"multicast": 256},
        {"relays": (1, 2), "relay_index": 2},
        {"relays": (0x10000,)},
        {"relays": (1,) * 256},
        {"aux": AuxHeader(1, 0, EUI64, 0)},
    ],
)
def test_a_value_without_a_place_is_our_mistake(change: dict[str, Any]) -> None:
    """build_nwk refuses what does not fit, and a secured frame without a key; the message shows no payload."""
    frame = NwkFrame(0, 1, 2, 30, 4, b"secret")
    with pytest.raises(LocalProtocolError) as mistake:
        build_nwk(frame._replace(**change))
    assert "secret" not in str(mistake.value)


@given(commands)
def test_a_command_comes_back_as_it_was_built(command: NwkCommand) -> None:
    """parse_nwk_command inverts build_nwk_command, ignores what later revisions append, and no truncation passes."""
    octets = build_nwk_command(command)
    assert parse_nwk_command(octets) == command
    assert parse_nwk_command(octets + b"\x00\x01") == command
    for length in range(len(octets)):
        with pytest.raises(RemoteProtocolError):
            parse_nwk_command(octets[:length])


@given(st.integers(0, 0x0D), st.binary(max_size=40))
def test_any_octets_are_a_command_or_an_error(identifier: int, content: bytes) -> None:
    """Hostile octets give a value that can be built, or a RemoteProtocolError."""
    try:
        command = parse_nwk_command(bytes((identifier,)) + content)
    except RemoteProtocolError:
        return
    assert parse_nwk_command(build_nwk_command(command)) == command


@pytest.mark.parametrize(
    "command",
    [
        RouteRequest(256, 0),
        RouteRequest(0, 0, many_to_one=3),
        RouteReply(0, 0, 0, responder_ieee=1 << 64),
        LinkStatus(((0, 8, 0),)),
        LinkStatus(((0, 0, 0),) * 32),
        RouteRecord((1,) * 256),
        NetworkReport(0, (0,) * 32),
        RejoinRequest(-1),
    ],
)
def test_a_command_that_does_not_fit_is_our_mistake(command: NwkCommand) -> None:
    """build_nwk_command refuses values wider than their fields."""
    with pytest.raises(LocalProtocolError):
        build_nwk_command(command)
