"""Tests of the emulated NCP: what each command is answered with, and how callbacks go out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.emulation.ncp import NcpConfig
from harness.emulation.ncp_config import KEY_TABLE_SIZE
from harness.emulation.ncp_status import Status
from harness.errors import LocalProtocolError
from harness.wire.ezsp import VERSIONS
from tests.unit.sticks import (
    MADE,
    new,
    no_refusals,
    with_device,
)


@pytest.fixture(autouse=True)
def no_failures() -> Iterator[None]:
    """An NCP that had to refuse a command fails its test; tests of just that clear the list."""
    yield from no_refusals()


@pytest.mark.parametrize("version", VERSIONS)
def test_every_command_of_a_version_is_answered_and_none_is_our_error(version: int) -> None:
    """Each frame id of the tables, with zeros for parameters, gets its own answer or invalidCommand."""
    host = new(version).start().form()
    zeros = bytes(160)
    for name in host.codec.names:
        if name in ("resetNode", "leaveNetwork", "version"):
            continue
        blank = host.codec.build_callback(0, name, _SAMPLES.get(name, {}), fill=True)
        frame_id = host.codec.parse_response(blank).frame_id
        response = host.raw(frame_id, zeros)
        assert response.name in (name, "invalidCommand")
    assert [failure for failure in host.ncp.failures if "ended in" in failure] == []
    host.ncp.failures.clear()


_SAMPLES = {"getTokenData": {"status": 0, "value": b""}}


@pytest.mark.parametrize("version", [8, 13, 14, 19])
def test_a_command_that_is_not_known_gets_invalid_command_and_fails_the_test(version: int) -> None:
    """An unknown id is answered at once, with the version's status, and leaves a sentence with id and version."""
    host = new(version).start()
    response = host.raw(0x7F00, b"")
    assert response.name == "invalidCommand"
    assert len(host.frames[-1]) == 5 + (4 if version >= 14 else 1)
    assert host.ncp.unknown_commands == ["0x7F00"]
    assert host.ncp.failures == [
        f"the emulated NCP does not know a command (0x7F00, EZSP {version}); the host got invalidCommand"
    ]
    host.ncp.failures.clear()


def test_a_known_command_without_a_handler_fails_the_test_by_name() -> None:
    """A command of the tables that the NCP does not carry out is refused and recorded by its name."""
    host = new(13).start()
    assert host.raw(0x00F7, b"").name == "invalidCommand"
    assert host.ncp.unknown_commands == ["sendLinkPowerDeltaRequest"]
    assert "sendLinkPowerDeltaRequest (0x00F7, EZSP 13)" in host.ncp.failures.pop()


def test_the_probe_for_vendor_extensions_and_tolerated_commands_are_no_failures() -> None:
    """customFrame, and what the configuration tolerates, are refused without a trace in `failures`."""
    host = new(13, config=NcpConfig(tolerate=frozenset({"sendLinkPowerDeltaRequest"}))).start()
    assert host.raw(0x0047, b"\x00").name == "invalidCommand"
    assert host.raw(0x00F7, b"").name == "invalidCommand"
    assert host.ncp.failures == []


def test_an_error_of_ours_is_answered_and_surfaces() -> None:
    """A handler that raises still answers, and `failures` says which command, which error and where."""
    many: Any = "many"
    host = new(13, config=NcpConfig(configuration={KEY_TABLE_SIZE: many})).start()
    assert host.raw(0x010F, b"\x00").name == "invalidCommand"
    failure = host.ncp.failures.pop()
    assert failure.startswith("exportLinkKeyByIndex (0x010F, EZSP 13) ended in TypeError")
    assert "ncp_security.py" in failure


def test_a_malformed_command_is_answered_and_recorded() -> None:
    """Parameters cut short give invalidCommand under the command's sequence number."""
    host = new(13).start()
    assert host.raw(0x0053, b"\x01").name == "invalidCommand"
    assert "malformed" in host.ncp.failures.pop()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_on_the_line_raise_nothing(chunks: list[bytes]) -> None:
    """Noise on the serial line is dropped; afterwards the host can reset and go on."""
    host = new(13)
    for chunk in chunks:
        host.ncp.receive(chunk, host.air.now / 1e6)
        host.run(0.01)
    host.start()
    MADE.clear()


@settings(max_examples=100, deadline=None)
@given(frame_id=st.integers(0, 0x120), parameters=st.binary(max_size=120))
def test_any_parameters_are_answered_and_are_never_our_error(frame_id: int, parameters: bytes) -> None:
    """Whatever follows a frame id, the host gets an answer, and no handler raises."""
    host = new(13).start().form()
    host.raw(frame_id, parameters)
    assert [failure for failure in host.ncp.failures if "ended in" in failure] == []
    MADE.clear()


def test_a_stick_is_not_set_up_with_what_does_not_exist() -> None:
    """An unknown configuration id, or an install code with a wrong CRC, is our own error, named."""
    with pytest.raises(LocalProtocolError, match="configuration=255"):
        new(13, config=NcpConfig(configuration={0xFF: 1}))
    with pytest.raises(LocalProtocolError, match="CRC"):
        new(13, config=NcpConfig(install_code=bytes(8)))


def test_the_same_seed_gives_the_same_bytes() -> None:
    """Two sticks on two airs of one seed say the same to their hosts, octet by octet."""
    said: list[list[bytes]] = []
    for _ in range(2):
        host, device = with_device()
        device.send(b"x" * 50, secured=True)
        host.run(5.0)
        said.append(host.frames)
    assert said[0] == said[1]


def test_commands_are_counted_by_name() -> None:
    """`commands` says what the host sent."""
    host = new(13).start()
    host.command("nop")
    host.command("nop")
    assert host.ncp.commands["nop"] == 2
    assert host.ncp.commands["version"] == 2


@pytest.mark.parametrize(("version", "not_found"), [(8, 0x37), (13, 0x37), (14, Status.NOT_FOUND)])
def test_an_unknown_configuration_id_is_refused_in_the_words_of_the_version(
    version: int, not_found: int
) -> None:
    """EzspStatus ERROR_INVALID_ID up to EZSP 13, an sl_Status from 14."""
    host = new(version).start()
    assert host.status("getConfigurationValue", configId=0xEE) == not_found


def test_a_callback_goes_out_under_the_last_answered_sequence_number_marked_asynchronous() -> None:
    """Frame control 0x90 0x01, and the sequence of the last response: bellows takes any other for a response."""
    host = new(13).start().form()
    (up,) = [callback for callback in host.callbacks if callback.name == "stackStatusHandler"]
    frame = next(frame for frame in host.frames if frame[3] == 0x19)
    assert up.values["status"] == 0x90
    assert frame[:3] == bytes([host.sequence - 1, 0x90, 0x01])


def test_what_does_not_fit_the_callback_queue_is_dropped_and_the_overflow_bit_says_so() -> None:
    """With the queue full a message is lost; the next frame has bit 0 of its frame control set, later ones not."""
    host, device = with_device(config=NcpConfig(callback_queue=8))
    host.frames.clear()
    host.ncp.fill_callbacks()
    host.ncp.fill_callbacks()
    device.send(b"lost")
    host.run(1.0)
    assert host.called("incomingMessageHandler") == []
    overflowed = [frame[1] & 1 for frame in host.frames]
    assert sum(overflowed) == 1
    device.send(b"heard")
    host.run(1.0)
    assert [bytes(values["messageContents"]) for values in host.called("incomingMessageHandler")] == [
        b"heard"
    ]
