"""EZSP frames: every row of every table both ways, the busiest ones against the tables, hostile octets."""

from __future__ import annotations

import contextlib
import importlib
import random
from typing import Any

import bellows.ezsp
import bellows.types as t
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.ezsp import (
    VERSIONS,
    EzspAps,
    EzspCodec,
    GetExtendedTimeout,
    IncomingMessage,
    MessageSent,
    SendUnicast,
    SetExtendedTimeout,
    eui64_to_int,
)

CODECS = {version: EzspCodec(version) for version in VERSIONS}
EUI64 = 0x000D6F000A9069E7

# Octets for example values: small, so that length octets stay short, and none of them zero.
EXAMPLE = bytes(1 + (7 * i) % 5 for i in range(600))

APS = EzspAps(0x0109, 0x0019, 1, 2, 0x1140, 0x1234, 0x56)
UNICAST = SendUnicast(0, 0xABCD, APS, 0x2A, b"\x19\x01\x03" + bytes(range(50)))


def tables(version: int) -> dict[str, tuple[int, Any, Any]]:
    """Bellows' own table, read without the codec."""
    return importlib.import_module(f"bellows.ezsp.v{version}.commands").COMMANDS


def example(schema: Any) -> dict[str, Any]:
    """One value for each parameter, as bellows' types read them from the example octets."""
    if isinstance(schema, type):
        value, _ = schema.deserialize(bytes(8))
        return value.as_dict(skip_missing=True)
    values = {}
    for name, kind in dict(schema).items():
        if issubclass(kind, t.List) and not issubclass(kind, t.LVList | t.FixedList):
            values[name] = kind([1, 2])
        elif issubclass(kind, t.LVBytes32):
            values[name] = kind(b"abc")
        else:
            values[name], _ = kind.deserialize(EXAMPLE)
    for name in ("inputClusterCount", "outputClusterCount"):
        if name in values:
            values[name] = t.uint8_t(2)
    return values


def test_the_codec_knows_every_version_that_bellows_can_switch_to() -> None:
    """VERSIONS is what bellows itself has a protocol handler for, from 8 up."""
    assert list(VERSIONS) == sorted(v for v in bellows.ezsp.EZSP._BY_VERSION if v >= 8)
    assert {8, 13, 14, 19} <= set(VERSIONS)
    with pytest.raises(LocalProtocolError, match="EZSP version 15 is none of"):
        EzspCodec(15)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_command_comes_back_as_the_host_built_it(version: int) -> None:
    """For every row of the table: octets as bellows' own types write them, and parsed back to the same values."""
    codec = CODECS[version]
    for sequence, (name, (frame_id, schema, _)) in enumerate(tables(version).items()):
        values = example(schema)
        frame = codec.build_command(sequence & 0xFF, name, **values)
        expected = b"".join(value.serialize() for value in values.values())
        assert frame == bytes([sequence & 0xFF, 0, 1]) + frame_id.to_bytes(2, "little") + expected, name
        command = codec.parse_command(frame, hot=False)
        assert command == (sequence & 0xFF, frame_id, name, values, None, False), name


@pytest.mark.parametrize("version", VERSIONS)
def test_every_response_comes_back_as_the_ncp_built_it(version: int) -> None:
    """For every row of the table: the answer has frame control 0x80 0x01, its command's sequence, and its values."""
    codec = CODECS[version]
    for name, (frame_id, schema, response) in tables(version).items():
        command = codec.parse_command(codec.build_command(0x42, name, **example(schema)), hot=False)
        values = example(response)
        frame = codec.build_response(command, values)
        assert frame[:5] == bytes([0x42, 0x80, 1]) + frame_id.to_bytes(2, "little"), name
        answer = codec.parse_response(frame)
        assert answer.name == name
        assert {key: value for key, value in answer.values.items() if value is not None} == values, name
        assert not answer.is_callback


@pytest.mark.parametrize("version", VERSIONS)
def test_bellows_reads_every_answer_and_callback(version: int) -> None:
    """Bellows' own protocol handler takes the frames apart to the same values that were put in."""
    codec = CODECS[version]
    handler = bellows.ezsp.EZSP._BY_VERSION[version](None, None)
    for name, (frame_id, _, response) in tables(version).items():
        values = example(response)
        frame = codec.build_callback(7, name, values)
        assert frame[1:3] == b"\x90\x01"
        assert codec.parse_response(frame).is_callback
        sequence, seen_id, data = handler._ezsp_frame_rx(frame)
        assert (sequence, seen_id) == (7, frame_id)
        if isinstance(response, type):
            assert response.deserialize(data)[0].as_dict(skip_missing=True) == values
        else:
            assert t.deserialize_dict(data, dict(response)) == (values, b""), name


@pytest.mark.parametrize("version", VERSIONS)
def test_every_answer_can_be_sent_with_zeros_for_what_is_not_given(version: int) -> None:
    """`fill` makes a readable answer of every row, which is what an NCP sends beside an error status."""
    codec = CODECS[version]
    for name, (_, _, response) in tables(version).items():
        if name == "getTokenData" and isinstance(response, type):
            # The one answer described by a structure: its status decides what follows and cannot be left out.
            continue
        assert codec.parse_response(codec.build_callback(0, name, fill=True)).name == name


def test_an_answer_described_by_a_structure_is_as_long_as_its_status_says() -> None:
    """getTokenData carries a value only with a status of success (SDK token-interface; bellows v9 and v14)."""
    for version, ok in ((9, t.EmberStatus.SUCCESS), (14, t.sl_Status.OK)):
        codec = CODECS[version]
        command = codec.parse_command(codec.build_command(1, "getTokenData", token=0x1E124, index=0))
        with_value = codec.build_response(command, {"status": ok, "value": b"abc"})
        assert codec.parse_response(with_value).values["value"] == b"abc"
        without = codec.build_response(command, {"status": t.sl_Status.NOT_FOUND if version == 14 else 0x03})
        assert len(without) == 5 + (4 if version == 14 else 1)
        assert codec.parse_response(without).values["value"] is None


def test_the_version_is_asked_for_in_the_legacy_header_and_answered_in_it() -> None:
    """UG100: the version command works in the 3-octet header, so that host and NCP can find a common format."""
    for version in VERSIONS:
        codec = CODECS[version]
        command = codec.parse_command(bytes.fromhex("00000004"))
        assert (command.name, command.legacy) == ("version", True)
        assert command.args == {"desiredProtocolVersion": 4}
        answer = codec.build_response(command, [version, 2, 0x7440])
        assert answer == bytes([0, 0x80, 0, version, 2, 0x40, 0x74])
        # This is how bellows reads it: with the handler of EZSP 4.
        sequence, frame_id, data = bellows.ezsp.EZSP._BY_VERSION[4](None, None)._ezsp_frame_rx(answer)
        assert (sequence, frame_id, data[0]) == (0, 0, version)
        assert codec.parse_response(answer).legacy
        extended = codec.parse_command(codec.build_command(1, "version", desiredProtocolVersion=version))
        assert codec.build_response(extended, [version, 2, 0x7440])[:5] == bytes([1, 0x80, 1, 0, 0])


def test_another_command_in_the_legacy_header_is_told_to_ask_for_the_version_first() -> None:
    """UG100: before the version is set an NCP accepts nothing else: invalidCommand with ERROR_VERSION_NOT_SET."""
    codec = CODECS[13]
    command = codec.parse_command(bytes.fromhex("090018"))
    assert (command.name, command.frame_id, command.legacy) == (None, 0x18, True)
    assert codec.invalid_command(command) == bytes([9, 0x80, 0x58, t.EzspStatus.ERROR_VERSION_NOT_SET])


@pytest.mark.parametrize("version", VERSIONS)
def test_an_unknown_command_is_answered_with_a_status_of_the_versions_own_size(version: int) -> None:
    """One octet up to EZSP 13, four from 14 as bellows reads it; the first is the EzspStatus that other hosts read."""
    codec = CODECS[version]
    command = codec.parse_command(bytes.fromhex("05000134ff"))
    assert (command.name, command.frame_id, command.args) == (None, 0xFF34, {})
    frame = codec.invalid_command(command)
    _, _, schema = tables(version)["invalidCommand"]
    values, rest = t.deserialize_dict(frame[5:], schema)
    assert rest == b""
    assert frame[:5] == bytes.fromhex("0580015800")
    assert values["status"] == frame[5] == t.EzspStatus.ERROR_INVALID_FRAME_ID
    # Bellows puts the status's name into its own error.
    assert values["status"].name
    assert codec.invalid_frame(5) == frame
    with pytest.raises(LocalProtocolError, match="0xFF34 is unknown"):
        codec.build_response(command)


@pytest.mark.parametrize("version", [v for v in VERSIONS if v >= 12])
def test_import_transient_key_may_lack_its_flags(version: int) -> None:
    """zigbee-herdsman's ember driver sends address and key only; the NCP takes the flags for none."""
    codec = CODECS[version]
    full = codec.build_command(1, "importTransientKey", eui64=EUI64, plaintext_key=bytes(range(16)), flags=0)
    size = len(t.SecurityManagerContextFlags(0).serialize())
    assert codec.parse_command(full[:-size]) == codec.parse_command(full)
    with pytest.raises(RemoteProtocolError, match=r"importTransientKey.plaintext_key cannot be read"):
        codec.parse_command(full[: -size - 1])


def test_leave_network_may_lack_its_options() -> None:
    """EZSP 14 added an options octet to leaveNetwork; a host made for EZSP 13 does not send it."""
    command = CODECS[14].parse_command(bytes.fromhex("0100012000"))
    assert command.args == {"options": 0}
    assert CODECS[13].parse_command(bytes.fromhex("0100012000")).args == {}


def test_the_two_cluster_lists_of_an_endpoint_are_told_apart_by_their_counts() -> None:
    """AddEndpoint sends both counts before both lists (UG100); bellows' type for them would take all for the first."""
    codec = CODECS[13]
    values = {
        "endpoint": 1,
        "profileId": 0x0109,
        "deviceId": 0x0500,
        "deviceVersion": 0,
        "inputClusterCount": 2,
        "outputClusterCount": 1,
        "inputClusterList": [0x0000, 0x0700],
        "outputClusterList": [0x0019],
    }
    frame = codec.build_command(3, "addEndpoint", **values)
    assert codec.parse_command(frame).args == values
    with pytest.raises(
        RemoteProtocolError, match=r"addEndpoint.outputClusterList has 1 clusters by its count, 0"
    ):
        codec.parse_command(frame[:-2])


def test_numbers_octets_and_mappings_stand_for_the_tables_types() -> None:
    """An EUI-64 may be an int, a key octets, a structure a mapping, also inside one another."""
    codec = CODECS[13]
    command = codec.parse_command(codec.build_command(1, "getNetworkParameters"))
    answer = codec.build_response(
        command,
        {
            "status": 0,
            "nodeType": 1,
            "parameters": {
                "extendedPanId": EUI64,
                "panId": 0x1A62,
                "radioTxPower": 8,
                "radioChannel": 15,
                "joinMethod": 0,
                "nwkManagerId": 0,
                "nwkUpdateId": 3,
                "channels": 0x07FFF800,
            },
        },
    )
    parameters = codec.parse_response(answer).values["parameters"]
    assert eui64_to_int(parameters.extendedPanId) == EUI64
    assert (parameters.panId, parameters.radioChannel) == (0x1A62, 15)


def test_a_value_we_got_wrong_is_our_error_and_says_which() -> None:
    """Builders name frame and field: unknown names, missing ones, values too large, too many of them."""
    codec = CODECS[14]
    with pytest.raises(LocalProtocolError, match="EZSP 14 has no addTransientLinkKey"):
        codec.build_command(1, "addTransientLinkKey")
    with pytest.raises(LocalProtocolError, match="permitJoining lacks duration"):
        codec.build_command(1, "permitJoining")
    with pytest.raises(LocalProtocolError, match=r"permitJoining.duration cannot be 256"):
        codec.build_command(1, "permitJoining", duration=256)
    with pytest.raises(LocalProtocolError, match="permitJoining has no 'time'"):
        codec.build_command(1, "permitJoining", time=60)
    with pytest.raises(LocalProtocolError, match="permitJoining has no legacy header"):
        codec.build_command(1, "permitJoining", legacy=True, duration=1)
    with pytest.raises(LocalProtocolError, match="sequence number is one octet, not 256"):
        codec.build_command(256, "permitJoining", duration=1)
    with pytest.raises(LocalProtocolError, match="stackStatusHandler has 1 values, not 2"):
        codec.build_callback(1, "stackStatusHandler", [0, 0])
    with pytest.raises(LocalProtocolError, match=r"getNetworkParameters.parameters cannot be"):
        codec.build_callback(
            1, "getNetworkParameters", {"status": 0, "nodeType": 1, "parameters": {"pan": 1}}
        )
    with pytest.raises(LocalProtocolError, match="getTokenData cannot be built"):
        codec.build_callback(1, "getTokenData", {"status": t.sl_Status.OK})


@pytest.mark.parametrize("version", [v for v in VERSIONS if v >= 13])
def test_an_error_message_repeats_no_key(version: int) -> None:
    """Of a key that is cut short, or too long, the message says where it stood and how many octets there were."""
    codec = CODECS[version]
    key = bytes(range(0xA0, 0xB0))
    full = codec.build_command(1, "importTransientKey", eui64=EUI64, plaintext_key=key, flags=0)
    with pytest.raises(RemoteProtocolError) as read:
        codec.parse_command(full[: full.index(key) + 15])
    with pytest.raises(LocalProtocolError) as built:
        codec.build_command(1, "importTransientKey", eui64=EUI64, plaintext_key=key + b"\0", flags=0)
    assert "importTransientKey.plaintext_key cannot be read from 15 octets" in str(read.value)
    assert "importTransientKey.plaintext_key cannot be bytes of 17 octets" in str(built.value)
    for said in (str(read.value), str(built.value)):
        assert key[:4].hex() not in said.replace(":", "")


def test_a_frame_that_goes_the_wrong_way_is_refused() -> None:
    """Bit 7 of the frame control tells a command from a response (UG100)."""
    codec = CODECS[13]
    with pytest.raises(RemoteProtocolError, match="0x0005 from the host is marked as a response"):
        codec.parse_command(bytes.fromhex("0180010500"))
    with pytest.raises(RemoteProtocolError, match="0x0005 from the NCP is marked as a command"):
        codec.parse_response(bytes.fromhex("0100010500"))
    with pytest.raises(RemoteProtocolError, match="0102 is shorter than its header"):
        codec.parse_command(bytes.fromhex("0102"))
    assert codec.parse_response(bytes.fromhex("01800134ff")).name is None


@pytest.mark.parametrize("version", VERSIONS)
def test_every_cut_of_every_command_is_read_or_refused_as_the_hosts_fault(version: int) -> None:
    """Each command cut short at a few places gives a Command or RemoteProtocolError naming command and field."""
    codec = CODECS[version]
    for name, (_, schema, _) in tables(version).items():
        frame = codec.build_command(1, name, **example(schema))
        for size in {5, 6, (len(frame) + 5) // 2, len(frame) - 1} & set(range(5, len(frame))):
            refusal = ""
            try:
                assert codec.parse_command(frame[:size]).name == name
            except RemoteProtocolError as error:
                refusal = str(error)
            assert refusal.startswith(name) or not refusal


@pytest.mark.parametrize("version", VERSIONS)
def test_random_octets_behind_every_header_never_raise_anything_else(version: int) -> None:
    """For every row of the table random parameters are read or refused with RemoteProtocolError, both ways."""
    codec = CODECS[version]
    source = random.Random(version)
    for name, (frame_id, _, _) in tables(version).items():
        body = source.randbytes(source.choice((0, 1, 2, 4, 9, 17, 40, 200)))
        identifier = frame_id.to_bytes(2, "little")
        for parse, header in (
            (codec.parse_command, b"\x01\x00\x01"),
            (codec.parse_response, b"\x01\x80\x01"),
        ):
            refusal = ""
            try:
                assert parse(header + identifier + body).name == name
            except RemoteProtocolError as error:
                refusal = str(error)
            assert refusal.startswith(name) or not refusal


@given(data=st.binary(max_size=80), version=st.sampled_from(VERSIONS))
@settings(max_examples=200)
def test_random_frames_never_raise_anything_but_remote_protocol_error(data: bytes, version: int) -> None:
    """Header octets included, hostile octets are the other end's fault and nothing else."""
    for parse in (CODECS[version].parse_command, CODECS[version].parse_response):
        with contextlib.suppress(RemoteProtocolError):
            parse(data)


# --- the busiest frames, against the tables -----------------------------------------------------------------


def aps_struct(aps: EzspAps) -> Any:
    """The same header as bellows' own structure."""
    return t.EmberApsFrame(
        profileId=aps.profile,
        clusterId=aps.cluster,
        sourceEndpoint=aps.source_endpoint,
        destinationEndpoint=aps.destination_endpoint,
        options=aps.options,
        groupId=aps.group,
        sequence=aps.sequence,
    )


octet = st.integers(0, 0xFF)
word = st.integers(0, 0xFFFF)
aps_headers = st.builds(EzspAps, word, word, octet, octet, word, word, octet)
payloads = st.binary(max_size=120)


@pytest.mark.parametrize("version", VERSIONS)
@given(kind=octet, destination=word, aps=aps_headers, tag=octet, payload=payloads)
@settings(max_examples=25)
def test_a_unicast_request_has_the_tables_layout(
    version: int, kind: int, destination: int, aps: EzspAps, tag: int, payload: bytes
) -> None:
    """What bellows' table writes for sendUnicast is read to the same plain values, payload and all."""
    codec = CODECS[version]
    names = list(tables(version)["sendUnicast"][1])
    values = dict(zip(names, (kind, destination, aps_struct(aps), tag, payload), strict=True))
    frame = codec.build_command(9, "sendUnicast", **values)
    command = codec.parse_command(frame)
    assert command == (9, 0x0034, "sendUnicast", {}, SendUnicast(kind, destination, aps, tag, payload), False)
    assert codec.parse_command(frame, hot=False).args == values
    assert type(command.hot.destination) is int


@pytest.mark.parametrize("version", VERSIONS)
def test_a_unicast_request_cut_short_names_the_field_it_lacks(version: int) -> None:
    """A frame too short for the fast layout falls back on the table, which says what is missing."""
    codec = CODECS[version]
    names = list(tables(version)["sendUnicast"][1])
    values = dict(zip(names, (0, 1, aps_struct(APS), 2, b"abc"), strict=True))
    frame = codec.build_command(9, "sendUnicast", **values)
    with pytest.raises(RemoteProtocolError, match=f"sendUnicast.{names[-1]} cannot be read"):
        codec.parse_command(frame[:-1])
    with pytest.raises(RemoteProtocolError, match=f"sendUnicast.{names[1]} cannot be read"):
        codec.parse_command(frame[:7])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_answer_to_a_unicast_request_has_the_tables_layout(version: int) -> None:
    """Status and APS counter, byte for byte as the table writes them."""
    codec = CODECS[version]
    command = codec.parse_command(codec.build_command(9, "nop"))._replace(frame_id=0x34, name="sendUnicast")
    for status in (0, 0x74 if version < 14 else 0x0C1B):
        assert codec.fast.unicast_reply(9, status, 0x21) == codec.build_response(command, [status, 0x21])


@pytest.mark.parametrize("version", VERSIONS)
def test_the_extended_timeout_commands_have_the_tables_layout(version: int) -> None:
    """Questions, orders and their answers; from EZSP 14 "no" is sl_Status FAIL."""
    codec = CODECS[version]
    question = codec.parse_command(codec.build_command(5, "getExtendedTimeout", remoteEui64=EUI64))
    assert question.hot == GetExtendedTimeout(EUI64)
    yes, no = (t.sl_Status.OK, t.sl_Status.FAIL) if version >= 14 else (t.Bool.true, t.Bool.false)
    assert codec.fast.get_timeout_reply(5, True) == codec.build_response(question, [yes])
    assert codec.fast.get_timeout_reply(5, False) == codec.build_response(question, [no])
    order = codec.build_command(6, "setExtendedTimeout", remoteEui64=EUI64, extendedTimeout=True)
    command = codec.parse_command(order)
    assert command.hot == SetExtendedTimeout(EUI64, True)
    assert codec.fast.set_timeout_reply(6) == codec.build_response(command, fill=True)
    with pytest.raises(RemoteProtocolError, match=r"setExtendedTimeout.extendedTimeout"):
        codec.parse_command(order[:-1])


@pytest.mark.parametrize("version", VERSIONS)
@given(
    kind=octet, destination=word, aps=aps_headers, tag=octet, status=octet, sequence=octet, payload=payloads
)
@settings(max_examples=25)
def test_the_fate_of_a_message_has_the_tables_layout(
    version: int,
    kind: int,
    destination: int,
    aps: EzspAps,
    tag: int,
    status: int,
    sequence: int,
    payload: bytes,
) -> None:
    """MessageSentHandler byte for byte as the table writes it; the status moves to the front in EZSP 14."""
    codec = CODECS[version]
    sent = MessageSent(status, kind, destination, aps, tag, payload)
    values: tuple[Any, ...] = (kind, destination, aps_struct(aps), tag)
    values = (status, *values, payload) if version >= 14 else (*values, status, payload)
    assert codec.fast.message_sent(sequence, sent) == codec.build_callback(
        sequence, "messageSentHandler", values
    )


@pytest.mark.parametrize("version", VERSIONS)
@given(
    kind=octet,
    aps=aps_headers,
    sender=word,
    lqi=octet,
    rssi=st.integers(-128, 127),
    payload=payloads,
    eui64=st.integers(0, 2**64 - 1),
    timestamp=st.integers(0, 2**32 - 1),
    indices=st.tuples(octet, octet),
)
@settings(max_examples=25)
def test_an_incoming_message_has_the_tables_layout(
    version: int,
    kind: int,
    aps: EzspAps,
    sender: int,
    lqi: int,
    rssi: int,
    payload: bytes,
    eui64: int,
    timestamp: int,
    indices: tuple[int, int],
) -> None:
    """IncomingMessageHandler byte for byte as the table writes it; EZSP 14 reordered it and added two fields."""
    codec = CODECS[version]
    message = IncomingMessage(kind, aps, sender, lqi, rssi, payload, eui64, timestamp, *indices)
    values: tuple[Any, ...] = (kind, aps_struct(aps), lqi, rssi, sender, *indices, payload)
    if version >= 14:
        values = (kind, aps_struct(aps), sender, eui64, *indices, lqi, rssi, timestamp, payload)
    assert codec.fast.incoming_message(0x99, message) == codec.build_callback(
        0x99, "incomingMessageHandler", values
    )


def test_a_message_that_fits_no_frame_is_our_error() -> None:
    """Neither a payload over 254 octets nor a number too large for its field leaves the NCP."""
    for version in VERSIONS:
        fast = CODECS[version].fast
        with pytest.raises(LocalProtocolError, match="a message of 255 octets does not fit"):
            fast.incoming_message(0, IncomingMessage(0, APS, 1, 2, 3, bytes(255)))
        with pytest.raises(LocalProtocolError, match="a message of 255 octets does not fit"):
            fast.message_sent(0, MessageSent(0, 0, 1, APS, 2, bytes(255)))
        with pytest.raises(LocalProtocolError, match="does not fit an EZSP frame"):
            fast.incoming_message(0, IncomingMessage(0, APS, 0x10000, 2, 3, b""))
