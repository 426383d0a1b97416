"""IEEE 802.15.4 MAC frames: layouts, vectors, the radio's address filter, hostile octets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.mac import (
    BROADCAST,
    EXTENDED,
    NO_ADDRESS,
    SHORT,
    AssociationRequest,
    AssociationResponse,
    Beacon,
    BeaconRequest,
    Command,
    CoordinatorRealignment,
    DataRequest,
    Disassociation,
    FrameType,
    MacFrame,
    OrphanNotification,
    PanIdConflict,
    build_ack,
    build_beacon_payload,
    build_command,
    build_mac,
    fcs,
    format_eui64,
    parse_beacon_payload,
    parse_command,
    parse_eui64,
    parse_mac,
)

RECORDED: dict[str, Any] = json.loads(
    (Path(__file__).resolve().parents[2] / "fixtures" / "recorded-zigbee-frames.json").read_text()
)
COORDINATOR = 0x804B50FFFE0599F9
DEVICE = 0xA4C1386D9B280FDF
OTHER = 0x000D6F000A9069E7
PAN = 0x1A64

octet = st.integers(0, 255)
short = st.integers(0, 0xFFFF)
eui64 = st.integers(0, 2**64 - 1)


@st.composite
def mac_frames(draw: st.DrawFn) -> MacFrame:
    """Return any frame that has a place on the air."""
    address = {NO_ADDRESS: st.just(0), SHORT: short, EXTENDED: eui64}
    modes = st.sampled_from((NO_ADDRESS, SHORT, EXTENDED))
    dst_mode, src_mode = draw(modes), draw(modes)
    pan = draw(short)
    return MacFrame(
        kind=draw(st.integers(0, 3)),
        sequence=draw(octet),
        payload=draw(st.binary(max_size=100)),
        dst_mode=dst_mode,
        dst_pan=pan if dst_mode else 0,
        dst=draw(address[dst_mode]),
        src_mode=src_mode,
        src_pan=draw(st.just(pan) | short) if src_mode else 0,
        src=draw(address[src_mode]),
        ack_request=draw(st.booleans()),
        pending=draw(st.booleans()),
        version=draw(st.integers(0, 1)),
    )


commands = st.one_of(
    st.builds(AssociationRequest, octet),
    st.builds(AssociationResponse, short, octet),
    st.builds(Disassociation, octet),
    st.sampled_from((DataRequest(), PanIdConflict(), OrphanNotification(), BeaconRequest())),
    st.builds(CoordinatorRealignment, short, short, octet, short),
)
beacons = st.builds(
    Beacon,
    extended_pan_id=eui64,
    coordinator=st.booleans(),
    permit_association=st.booleans(),
    stack_profile=st.integers(0, 15),
    protocol_version=st.integers(0, 15),
    router_capacity=st.booleans(),
    depth=st.integers(0, 15),
    end_device_capacity=st.booleans(),
    update_id=octet,
)


def recorded(name: str) -> bytes:
    """Return the octets of a frame sniffed on a real network, with the FCS that the sniffer had replaced."""
    octets = bytes.fromhex(RECORDED["frames"][name]["octets"])
    return octets + fcs(octets).to_bytes(2, "little")


def test_the_fcs_is_that_of_the_standard() -> None:
    """The example of IEEE 802.15.4-2006 7.2.1.9, an acknowledgement with sequence number 0x6A."""
    # The bits 0100 0000 0000 0000 0101 0110 of the example in the order sent, and its result 0010 0111 1001 1110.
    example = int("010000000000000001010110", 2).to_bytes(3, "big")
    sent = bytes(int(f"{value:08b}"[::-1], 2) for value in example)
    result = int("0010011110011110"[::-1], 2)
    assert fcs(sent) == result


def test_an_acknowledgement_has_three_octets_and_its_fcs() -> None:
    """build_ack gives the frame that parse_mac reads, with and without the pending bit."""
    assert build_ack(0x3F)[:3] == bytes.fromhex("02003f")
    assert build_ack(0x3F, pending=True)[:3] == bytes.fromhex("12003f")
    assert parse_mac(build_ack(0x3F, pending=True)) == MacFrame(FrameType.ACK, 0x3F, pending=True)


@pytest.mark.parametrize("name", RECORDED["frames"])
def test_a_recorded_frame_is_built_again_octet_by_octet(name: str) -> None:
    """What real devices sent is read and rebuilt without a difference."""
    assert build_mac(parse_mac(recorded(name))) == recorded(name)


def test_the_recorded_association_reads_right() -> None:
    """Beacon request, beacon, association request and response of a real join, field by field."""
    request = parse_mac(recorded("beacon_request"))
    assert request == MacFrame(FrameType.COMMAND, 100, b"\x07", SHORT, BROADCAST, BROADCAST)
    assert parse_command(request.payload) == BeaconRequest()
    beacon = parse_mac(recorded("beacon"))
    assert (beacon.kind, beacon.src_mode, beacon.src_pan, beacon.src) == (FrameType.BEACON, SHORT, PAN, 0)
    content = Beacon(0xDDDDDDDDDDDDDDDD, coordinator=True, permit_association=True)
    assert parse_beacon_payload(beacon.payload) == content
    assert build_beacon_payload(content) == beacon.payload
    asked = parse_mac(recorded("association_request"))
    assert asked == MacFrame(
        3, 116, b"\x01\x8e", SHORT, PAN, 0, EXTENDED, BROADCAST, DEVICE, ack_request=True
    )
    assert parse_command(asked.payload) == AssociationRequest(0x8E)
    answer = parse_mac(recorded("association_response"))
    assert (answer.dst, answer.src, answer.dst_pan, answer.src_pan) == (DEVICE, COORDINATOR, PAN, PAN)
    assert parse_command(answer.payload) == AssociationResponse(0xA18F, 0)


@given(mac_frames())
def test_a_frame_comes_back_as_it_was_built(frame: MacFrame) -> None:
    """parse_mac inverts build_mac for every combination of addresses."""
    octets = build_mac(frame)
    assert parse_mac(octets) == frame
    assert build_mac(parse_mac(octets)) == octets


@given(mac_frames(), st.data())
def test_a_damaged_frame_is_refused(frame: MacFrame, data: st.DataObject) -> None:
    """No truncation goes unnoticed but by the FCS's own chance, and no single flipped bit ever does."""
    octets = build_mac(frame)
    for length in range(len(octets)):
        try:
            parse_mac(octets[:length])
        except RemoteProtocolError:
            continue
    bit = data.draw(st.integers(0, len(octets) * 8 - 1))
    damaged = (int.from_bytes(octets, "little") ^ 1 << bit).to_bytes(len(octets), "little")
    with pytest.raises(RemoteProtocolError, match="FCS"):
        parse_mac(damaged)


@given(st.binary(max_size=130), st.integers(0, 0xFFFF))
def test_any_octets_with_a_right_fcs_are_a_frame_or_an_error(content: bytes, control: int) -> None:
    """Behind a right FCS too, hostile octets give a value or a RemoteProtocolError."""
    octets = control.to_bytes(2, "little") + content
    octets += fcs(octets).to_bytes(2, "little")
    try:
        frame = parse_mac(octets)
    except RemoteProtocolError:
        return
    build_mac(frame)


@pytest.mark.parametrize(
    ("octets", "what"),
    [
        ("0920 05", "secured"),
        ("0120 05", "version"),
        ("0500 05", "type"),
        ("0104 05 641a 0000", "reserved destination"),
        ("0140 05 641a 0000", "reserved source"),
        ("4188 05 641a 0000", "within its addresses"),
        ("4108 05 641a 0000", "without a source"),
        ("4180 05 641a 0000", "without a destination"),
    ],
)
def test_a_frame_that_zigbee_does_not_use_is_refused_with_its_reason(octets: str, what: str) -> None:
    """Security, other versions and types, reserved modes and short headers each have their sentence."""
    content = bytes.fromhex(octets)
    with pytest.raises(RemoteProtocolError, match=what):
        parse_mac(content + fcs(content).to_bytes(2, "little"))


def test_a_frame_is_5_to_127_octets() -> None:
    """aMaxPHYPacketSize: 127 octets are built and read, 128 are nobody's."""
    longest = MacFrame(FrameType.DATA, 1, bytes(116), SHORT, PAN, 0, SHORT, PAN, 1)
    assert len(build_mac(longest)) == 127
    assert parse_mac(build_mac(longest)) == longest
    with pytest.raises(LocalProtocolError, match="128 octets"):
        build_mac(longest._replace(payload=bytes(117)))
    for size in (0, 4, 128):
        with pytest.raises(RemoteProtocolError, match=f"{size} octets"):
            parse_mac(bytes(size))


@pytest.mark.parametrize(
    "change",
    [
        {"kind": 4},
        {"version": 2},
        {"sequence": 256},
        {"dst_mode": 1},
        {"src_mode": 1},
        {"dst": 0x10000},
        {"src_pan": -1},
    ],
)
def test_a_value_without_a_place_is_our_mistake(change: dict[str, int]) -> None:
    """build_mac refuses what does not fit, whichever field it is in."""
    frame = MacFrame(FrameType.DATA, 1, b"", SHORT, PAN, 0, SHORT, PAN, 1)
    with pytest.raises(LocalProtocolError):
        build_mac(frame._replace(**change))


@given(commands)
def test_a_command_comes_back_as_it_was_built(command: Command) -> None:
    """parse_command inverts build_command, and no truncation or excess passes."""
    octets = build_command(command)
    assert parse_command(octets) == command
    for length in range(len(octets)):
        with pytest.raises(RemoteProtocolError):
            parse_command(octets[:length])
    with pytest.raises(RemoteProtocolError, match="expected"):
        parse_command(octets + b"\0")


@given(st.binary(max_size=12))
def test_any_octets_are_a_command_or_an_error(octets: bytes) -> None:
    """Hostile octets give a value that is built again, or a RemoteProtocolError."""
    try:
        command = parse_command(octets)
    except RemoteProtocolError:
        return
    assert build_command(command) == octets


def test_a_command_that_does_not_fit_is_our_mistake() -> None:
    """build_command refuses a capability of nine bits."""
    with pytest.raises(LocalProtocolError, match="AssociationRequest"):
        build_command(AssociationRequest(256))


@given(beacons)
def test_a_beacon_comes_back_as_it_was_built(beacon: Beacon) -> None:
    """parse_beacon_payload inverts build_beacon_payload, and no truncation passes."""
    octets = build_beacon_payload(beacon)
    assert parse_beacon_payload(octets) == beacon
    for length in range(len(octets)):
        with pytest.raises(RemoteProtocolError):
            parse_beacon_payload(octets[:length])


@given(st.binary(max_size=40))
def test_any_octets_are_a_beacon_or_an_error(octets: bytes) -> None:
    """Hostile octets give a value or a RemoteProtocolError."""
    try:
        build_beacon_payload(parse_beacon_payload(octets))
    except RemoteProtocolError:
        return


def test_a_beacon_with_time_slots_and_pending_addresses_is_read() -> None:
    """The Zigbee payload is found behind the two lists that Zigbee itself leaves empty."""
    plain = build_beacon_payload(Beacon(0x1122334455667788, depth=3, update_id=9))
    slots = b"\x02\x00" + bytes(6)
    pending = b"\x11" + bytes(10)
    assert parse_beacon_payload(plain[:2] + slots + pending + plain[4:]) == parse_beacon_payload(plain)
    with pytest.raises(RemoteProtocolError, match="protocol 0x01"):
        parse_beacon_payload(plain[:4] + b"\x01" + plain[5:])


@pytest.mark.parametrize("beacon", [Beacon(1, depth=16), Beacon(1, stack_profile=16), Beacon(1 << 64)])
def test_a_beacon_that_does_not_fit_is_our_mistake(beacon: Beacon) -> None:
    """build_beacon_payload refuses values wider than their fields."""
    with pytest.raises(LocalProtocolError):
        build_beacon_payload(beacon)


@given(eui64)
def test_an_eui64_comes_back_from_its_text(value: int) -> None:
    """parse_eui64 reads what format_eui64 writes, and the two other usual forms."""
    text = format_eui64(value)
    assert parse_eui64(text) == value
    assert parse_eui64(text.replace("-", ":").lower()) == value
    assert parse_eui64(text.replace("-", "")) == value


def test_an_eui64_has_its_gb_form() -> None:
    """Most significant octet first, in pairs, capital letters."""
    assert format_eui64(OTHER) == "00-0D-6F-00-0A-90-69-E7"


@pytest.mark.parametrize(
    "text", ["", "000D6F000A9069E", "00-0D-6F-00-0A-90-69", "00-0D:6F-00-0A-90-69-E7", "0-00D-6F-00-0A-90-69-E7",
             "00-0D-6F-00-0A-90-69-G7", "+00D6F000A9069E7", "0x0D6F000A9069E7"]
)  # fmt: skip
def test_a_text_that_is_no_eui64_is_our_mistake(text: str) -> None:
    """The message repeats the text and shows the right form."""
    with pytest.raises(LocalProtocolError, match="is not an EUI-64 such as"):
        parse_eui64(text)


def test_a_number_that_is_no_eui64_is_our_mistake() -> None:
    """65 bits have no text form."""
    with pytest.raises(LocalProtocolError, match="is not an EUI-64"):
        format_eui64(1 << 64)
