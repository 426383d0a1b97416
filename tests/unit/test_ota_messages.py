"""The commands of the OTA Upgrade cluster: coded as zigpy codes them, cut off or random octets refused."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from zigpy.zcl import foundation
from zigpy.zcl.clusters.general import Ota

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.ota_messages import (
    BlockRefusal,
    ImageBlock,
    ImageBlockRequest,
    ImageNotify,
    ImagePageRequest,
    QueryDeviceSpecificFileRequest,
    QueryDeviceSpecificFileResponse,
    QueryNextImageRequest,
    QueryNextImageResponse,
    UpgradeEndRequest,
    UpgradeEndResponse,
    VersionPolicy,
    WaitForData,
    build_message,
    parse_message,
)

u8 = st.integers(0, 0xFF)
u16 = st.integers(0, 0xFFFF)
u32 = st.integers(0, 0xFFFFFFFF)
u64 = st.integers(0, 0xFFFFFFFFFFFFFFFF)
error = st.sampled_from([0x01, 0x7E, 0x95, 0x98])


def notify(kind, jitter, manufacturer, image_type, version):
    """A notification with the fields that its payload type carries."""
    return ImageNotify(kind, jitter, *(manufacturer, image_type, version)[:kind])


messages = st.one_of(
    st.builds(notify, st.integers(0, 3), u8, u16, u16, u32),
    st.builds(QueryNextImageRequest, u16, u16, u32, st.none() | u16),
    st.builds(QueryNextImageResponse, st.just(0), u16, u16, u32, u32),
    error.map(QueryNextImageResponse),
    st.builds(ImageBlockRequest, u16, u16, u32, u32, u8, st.none() | u64, st.none() | u16),
    st.builds(ImagePageRequest, u16, u16, u32, u32, u8, u16, u16, st.none() | u64),
    st.builds(ImageBlock, u16, u16, u32, u32, st.binary(max_size=64)),
    st.builds(WaitForData, u32, u32, u16),
    st.builds(BlockRefusal, error),
    st.builds(UpgradeEndRequest, st.sampled_from([0x00, 0x95, 0x96, 0x99]), u16, u16, u32),
    st.builds(UpgradeEndResponse, u16, u16, u32, u32, u32),
    st.builds(QueryDeviceSpecificFileRequest, u64, u16, u16, u32, u16),
    st.builds(QueryDeviceSpecificFileResponse, st.just(0), u16, u16, u32, u32),
    error.map(QueryDeviceSpecificFileResponse),
)


@settings(max_examples=200)
@given(messages, u8)
def test_a_message_reads_back_as_it_was_built(message, sequence):
    """Every command with every combination of optional fields survives the frame."""
    frame = zcl.parse_frame(build_message(message, sequence))
    assert frame.sequence == sequence
    assert parse_message(frame) == message
    assert type(parse_message(frame)) is type(message)


@settings(max_examples=200)
@given(messages, u8)
def test_zigpy_reads_a_message_and_writes_the_same_octets(message, sequence):
    """zigpy's schema of the command consumes our payload whole and serialises back to it, header included."""
    data = build_message(message, sequence)
    header, payload = foundation.ZCLHeader.deserialize(data)
    from_server = header.direction == foundation.Direction.Server_to_Client
    definitions = Ota.client_commands if from_server else Ota.server_commands
    parsed, rest = definitions[header.command_id].schema.deserialize(payload)
    assert rest == b""
    assert header.serialize() + parsed.serialize() == data


@settings(max_examples=200)
@given(messages, st.data())
def test_a_message_cut_off_anywhere_is_refused(message, data):
    """A payload shorter than its command asks for is a RemoteProtocolError, never a shorter message."""
    frame = zcl.parse_frame(build_message(message, 1))
    size = len(frame.payload)
    short = frame._replace(payload=frame.payload[: data.draw(st.integers(0, size - 1))])
    with pytest.raises(RemoteProtocolError):
        parse_message(short)


@settings(max_examples=200)
@given(u8, st.sampled_from([0x01, 0x09, 0x05, 0x08]), st.binary(max_size=40))
def test_random_payloads_are_never_more_than_a_remote_error(command, control, payload):
    """Hostile octets cause RemoteProtocolError and nothing else."""
    with contextlib.suppress(RemoteProtocolError):
        parse_message(zcl.Frame(control, None, 1, command, payload))


def test_octets_behind_the_last_field_are_passed_over():
    """A client that adds its MinimumBlockPeriod without saying so in the field control is understood (facts Z1.5)."""
    frame = zcl.parse_frame(build_message(ImageBlockRequest(1, 2, 3, 4, 5), 1))
    assert parse_message(frame._replace(payload=frame.payload + b"\x10\x00")) == ImageBlockRequest(
        1, 2, 3, 4, 5
    )


def test_a_notification_has_exactly_its_length():
    """Its length is the only check that a broadcast notification has."""
    frame = zcl.parse_frame(build_message(ImageNotify(1, 100, 0x121D), 1))
    with pytest.raises(RemoteProtocolError):
        parse_message(frame._replace(payload=frame.payload + b"\0"))
    with pytest.raises(RemoteProtocolError):
        parse_message(frame._replace(payload=b"\4\x64\0\0\0\0\0\0\0\0"))


@pytest.mark.parametrize(
    "change",
    [{"control": 0x09}, {"control": 0x00}, {"command": 0x0A}, {"manufacturer": 0x121D, "control": 0x05}],
)
def test_a_frame_of_another_kind_is_no_message(change):
    """Wrong direction, general, unknown command and manufacturer-specific frames are left to others."""
    frame = zcl.parse_frame(build_message(ImageBlockRequest(1, 2, 3, 4, 5), 1))
    assert parse_message(frame._replace(**change)) is None


@pytest.mark.parametrize(
    "message",
    [
        ImageNotify(4, 100),
        ImageBlockRequest(0x10000, 0, 0, 0, 0),
        ImageBlock(1, 2, 3, 4, bytes(256)),
        BlockRefusal(256),
    ],
)
def test_a_field_that_does_not_fit_is_our_own_error(message):
    """build_message names the message in a LocalProtocolError."""
    with pytest.raises(LocalProtocolError):
        build_message(message, 1)


def test_a_version_policy_is_a_table():
    """Newer only, any other, or any at all."""
    allowed = {policy: [policy.allows(5, offered) for offered in (4, 5, 6)] for policy in VersionPolicy}
    assert allowed == {
        VersionPolicy.NEWER: [False, False, True],
        VersionPolicy.DIFFERENT: [True, False, True],
        VersionPolicy.ANY: [True, True, True],
    }
