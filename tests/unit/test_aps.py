"""Zigbee PRO APS frames and key commands: a recorded join, round trips, hostile octets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.aps import ApsFrame, Delivery, Fragment, FrameType, build_aps, open_aps, parse_aps
from harness.wire.aps_commands import (
    REQUEST_TC_LINK,
    ApsCommand,
    ConfirmKey,
    KeyType,
    RemoveDevice,
    RequestKey,
    SwitchKey,
    TransportKey,
    Tunnel,
    UpdateDevice,
    VerifyKey,
    build_aps_command,
    parse_aps_command,
)
from harness.wire.nwk import open_nwk
from harness.wire.security import AuxHeader, KeyId, aps_key, verify_key_hash

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "fixtures" / "recorded-zigbee-frames.json").read_text()
)
NETWORK_KEY = bytes.fromhex(RECORDED["network_key"])
LINK_KEY = bytes.fromhex(RECORDED["link_key"])
COORDINATOR = 0x804B50FFFE0599F9
DEVICE = 0xA4C1386D9B280FDF
MAC_HEADER = 9  # of the recorded APS frames: all have short addresses in one PAN

octet = st.integers(0, 255)
short = st.integers(0, 0xFFFF)
eui64 = st.integers(0, 2**64 - 1)
key = st.binary(min_size=16, max_size=16)


@st.composite
def aps_frames(draw: st.DrawFn, secured: bool | None = None) -> ApsFrame:
    """Return any frame that has a place on the air."""
    kind = draw(st.sampled_from(FrameType) if not secured else st.integers(0, 2))
    ack_format = draw(st.booleans()) if kind == FrameType.ACK else False
    addressed = kind == FrameType.DATA or (kind == FrameType.ACK and not ack_format)
    group = draw(st.none() | short) if addressed or kind == FrameType.INTER_PAN else None
    routable = kind != FrameType.INTER_PAN
    if secured is None:
        secured = routable and draw(st.booleans())
    fragment = None
    if routable and draw(st.booleans()):
        fragment = Fragment(draw(st.booleans()), draw(octet), draw(octet) if kind == FrameType.ACK else None)
    return ApsFrame(
        kind=int(kind),
        delivery=Delivery.GROUP if group is not None else draw(st.sampled_from((0, 2))),
        dst_endpoint=draw(octet) if addressed and group is None else 0,
        group=group,
        cluster=draw(short) if addressed or not routable else 0,
        profile=draw(short) if addressed or not routable else 0,
        src_endpoint=draw(octet) if addressed else 0,
        counter=draw(octet) if routable else 0,
        payload=draw(st.binary(max_size=60)),
        ack_request=draw(st.booleans()),
        ack_format=ack_format,
        fragment=fragment,
        aux=AuxHeader(
            draw(st.sampled_from((0, 2, 3))), draw(st.integers(0, 2**32 - 1)), draw(st.none() | eui64)
        )
        if secured
        else None,
    )


commands = st.one_of(
    st.builds(TransportKey, st.just(1), key, eui64, eui64, sequence=octet),
    st.builds(TransportKey, st.just(4), key, eui64, eui64),
    st.builds(TransportKey, st.just(3), key, partner=eui64, initiator=st.booleans()),
    st.builds(UpdateDevice, eui64, short, octet),
    st.builds(RemoveDevice, eui64),
    st.builds(RequestKey, st.just(2), eui64),
    st.builds(RequestKey, st.just(4)),
    st.builds(SwitchKey, octet),
    st.builds(VerifyKey, octet, eui64, key),
    st.builds(ConfirmKey, octet, octet, eui64),
)


def recorded(name: str) -> bytes:
    """Return the APS frame within a frame sniffed on a real network, out of its NWK security."""
    return open_nwk(bytes.fromhex(RECORDED["frames"][name]["octets"])[MAC_HEADER:], NETWORK_KEY).payload


@pytest.mark.parametrize(
    ("name", "key_id", "command"),
    [
        (
            "transport_network_key",
            2,
            TransportKey(KeyType.NETWORK, NETWORK_KEY, DEVICE, COORDINATOR, sequence=0),
        ),
        ("request_link_key", 0, RequestKey(REQUEST_TC_LINK)),
        ("transport_link_key", 3, TransportKey(KeyType.TC_LINK, LINK_KEY, DEVICE, COORDINATOR)),
        ("verify_key", None, VerifyKey(KeyType.TC_LINK, DEVICE, verify_key_hash(LINK_KEY))),
    ],
)
def test_a_recorded_key_command_is_opened_and_built_again(
    name: str, key_id: int | None, command: ApsCommand
) -> None:
    """Key commands of a real join open with the key that their key identifier names, and are rebuilt to the octet."""
    octets = recorded(name)
    frame = parse_aps(octets)
    used = None
    if key_id is not None:
        assert frame.aux is not None
        assert frame.aux.key_id == key_id
        used = aps_key(LINK_KEY, key_id)
        frame = open_aps(frame, used)
    assert frame.kind == FrameType.COMMAND
    assert parse_aps_command(frame.payload) == command
    assert build_aps_command(command) == frame.payload
    assert build_aps(frame, used) == octets


@pytest.mark.parametrize(
    ("name", "frame"),
    [
        ("ack_to_coordinator", ApsFrame(FrameType.ACK, 0, 1, None, 0xEF00, 0x0104, 1, 51)),
        (
            "zcl_command",
            ApsFrame(FrameType.DATA, 0, 1, None, 0xEF00, 0x0104, 1, 63, bytes.fromhex("095025af00")),
        ),
        (
            "device_announce",
            ApsFrame(
                0, Delivery.BROADCAST, 0, None, 0x0013, 0, 0, 123, bytes.fromhex("008fa1df0f289b6d38c1a48e")
            ),
        ),
    ],
)
def test_a_recorded_frame_reads_right(name: str, frame: ApsFrame) -> None:
    """Acknowledgement, data and broadcast of real devices, field by field and back."""
    assert parse_aps(recorded(name)) == frame
    assert build_aps(frame) == recorded(name)


@given(aps_frames())
def test_a_frame_comes_back_as_it_was_built(frame: ApsFrame) -> None:
    """open_aps inverts build_aps, in one step and in two, and a sealed frame is passed on as it came."""
    source = DEVICE if frame.aux is not None and frame.aux.source is None else None
    octets = build_aps(frame, LINK_KEY, source)
    assert build_aps(parse_aps(octets)) == octets
    assert open_aps(parse_aps(octets), LINK_KEY, DEVICE) == frame
    assert open_aps(octets, LINK_KEY, DEVICE) == frame


@given(aps_frames())
def test_every_truncation_is_a_frame_or_an_error(frame: ApsFrame) -> None:
    """A frame cut short at any octet gives a value or a RemoteProtocolError, and a secured one never opens."""
    octets = build_aps(frame, LINK_KEY, DEVICE)
    for length in range(len(octets)):
        try:
            opened = open_aps(octets[:length], LINK_KEY, DEVICE)
        except RemoteProtocolError:
            continue
        assert opened.aux is None


@given(aps_frames(secured=True), st.data())
def test_no_flipped_bit_of_a_secured_frame_goes_unnoticed(frame: ApsFrame, data: st.DataObject) -> None:
    """Header and payload are authenticated; only the level bits, which are 0 on the air, are not."""
    source = DEVICE if frame.aux is not None and frame.aux.source is None else None
    octets = build_aps(frame, LINK_KEY, source)
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    damaged = (int.from_bytes(octets, "little") ^ 1 << bit).to_bytes(len(octets), "little")
    try:
        opened = open_aps(damaged, LINK_KEY, DEVICE)
    except RemoteProtocolError:
        return
    if opened.aux is not None:
        assert opened == frame
        assert bit % 8 < 3


@given(octet, st.binary(max_size=40))
def test_any_octets_are_a_frame_or_an_error(control: int, content: bytes) -> None:
    """Hostile octets give a value or a RemoteProtocolError."""
    try:
        open_aps(bytes((control,)) + content, LINK_KEY, DEVICE)
    except RemoteProtocolError:
        return


def test_an_acknowledgement_with_security_has_a_mic_of_its_own() -> None:
    """tshark does not check the MIC of an empty payload; open_aps does."""
    frame = ApsFrame(FrameType.ACK, 0, 1, None, 0x0019, 0x0109, 1, 7, aux=AuxHeader(KeyId.LINK, 9))
    octets = build_aps(frame, LINK_KEY, DEVICE)
    assert open_aps(octets, LINK_KEY, DEVICE) == frame
    with pytest.raises(RemoteProtocolError, match="integrity"):
        open_aps(octets[:-1] + bytes((octets[-1] ^ 1,)), LINK_KEY, DEVICE)


def test_an_extended_header_without_fragmentation_is_passed_over() -> None:
    """Zigbee PRO 2.2.5.1.8: fragmentation 0 says that the frame is whole."""
    plain = build_aps(ApsFrame(FrameType.DATA, counter=5, payload=b"x"))
    extended = bytes((plain[0] | 0x80,)) + plain[1:8] + b"\x00" + plain[8:]
    assert parse_aps(extended) == parse_aps(plain)
    with pytest.raises(RemoteProtocolError, match="reserved fragmentation"):
        parse_aps(extended[:8] + b"\x03" + extended[9:])


def test_a_reserved_delivery_mode_is_refused() -> None:
    """The indirect mode of Zigbee 2004 is not Zigbee PRO's, and commands have no group."""
    with pytest.raises(RemoteProtocolError, match="reserved delivery mode"):
        parse_aps(bytes((0x04,)) + bytes(10))
    with pytest.raises(RemoteProtocolError, match="no group"):
        parse_aps(bytes((0x0D,)) + bytes(10))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": 4},
        {"delivery": 1},
        {"delivery": 3},
        {"group": 1},
        {"kind": 1, "delivery": 3, "group": 1},
        {"cluster": 0x10000},
        {"counter": 256},
        {"fragment": Fragment(True, 256)},
        {"fragment": Fragment(True, 1, 0xFF)},
        {"kind": 2, "fragment": Fragment(True, 1)},
        {"kind": 3, "fragment": Fragment(True, 1)},
        {"aux": AuxHeader(0, 0, DEVICE)},
    ],
)
def test_a_value_without_a_place_is_our_mistake(change: dict[str, Any]) -> None:
    """build_aps refuses what does not fit, and a secured frame without a key; the message shows no payload."""
    frame = ApsFrame(0, 0, 1, None, 0x19, 0x0109, 1, 4, b"secret")
    with pytest.raises(LocalProtocolError) as mistake:
        build_aps(frame._replace(**change))
    assert "secret" not in str(mistake.value)


@given(commands)
def test_a_command_comes_back_as_it_was_built(command: ApsCommand) -> None:
    """parse_aps_command inverts build_aps_command, ignores what later revisions append, and no truncation passes."""
    octets = build_aps_command(command)
    assert parse_aps_command(octets) == command
    assert parse_aps_command(octets + b"\x00\x01") == command
    for length in range(len(octets)):
        with pytest.raises(RemoteProtocolError):
            parse_aps_command(octets[:length])


@given(eui64, st.binary(max_size=60))
def test_a_tunnel_carries_a_whole_frame(destination: int, frame: bytes) -> None:
    """Everything behind the tunnel's address is the frame to be passed on."""
    octets = build_aps_command(Tunnel(destination, frame))
    assert parse_aps_command(octets) == Tunnel(destination, frame)
    for length in range(9):
        with pytest.raises(RemoteProtocolError):
            parse_aps_command(octets[:length])


@given(octet, st.binary(max_size=50))
def test_any_octets_are_a_command_or_an_error(identifier: int, content: bytes) -> None:
    """Hostile octets give a value that can be built, or a RemoteProtocolError."""
    try:
        command = parse_aps_command(bytes((identifier,)) + content)
    except RemoteProtocolError:
        return
    assert parse_aps_command(build_aps_command(command)) == command


@given(st.sampled_from((5, 6, 7, 8, 9, 14, 15, 16)), st.binary(max_size=50))
def test_any_content_of_a_known_command_is_taken_or_refused(identifier: int, content: bytes) -> None:
    """The same, for the identifiers that have a parser."""
    try:
        command = parse_aps_command(bytes((identifier,)) + content)
    except RemoteProtocolError:
        return
    assert parse_aps_command(build_aps_command(command)) == command


def test_a_key_does_not_show_in_the_text_of_its_command() -> None:
    """Commands end up in messages and reports; the key must not."""
    assert "key=" not in repr(TransportKey(KeyType.NETWORK, b"ZigBeeAlliance09", DEVICE))


@pytest.mark.parametrize(
    "command",
    [
        TransportKey(2, bytes(16)),
        TransportKey(1, bytes(15)),
        TransportKey(1, bytes(16), 1 << 64),
        RequestKey(2),
        RequestKey(4, DEVICE),
        SwitchKey(256),
        VerifyKey(4, DEVICE, bytes(15)),
        UpdateDevice(DEVICE, 0x10000, 0),
    ],
)
def test_a_command_that_does_not_fit_is_our_mistake(command: ApsCommand) -> None:
    """build_aps_command refuses values wider than their fields and key types that do not exist."""
    with pytest.raises(LocalProtocolError):
        build_aps_command(command)
