"""Tests of the capture writer and the key file, read back by tshark."""

from __future__ import annotations

import io
import os
import stat
import struct

import pytest

from harness.errors import LocalProtocolError, RigError
from harness.evidence.capture import FIXED_EPOCH, KeyFile, PcapWriter

# IEEE 802.15.4: a beacon request and an acknowledgement, each with its FCS.
BEACON_REQUEST = bytes.fromhex("030881ffffffff07") + b"\x60\x07"
ACKNOWLEDGEMENT = bytes.fromhex("020005")

TEST_KEY = bytes(range(16))


def fcs(data: bytes) -> bytes:
    """Return the FCS bit by bit from its definition (IEEE 802.15.4-2015 7.2.10), least significant octet first."""
    register = 0
    for octet in data:
        register ^= octet
        for _ in range(8):
            register = register >> 1 ^ (0x8408 if register & 1 else 0)
    return struct.pack("<H", register)


def framed(data: bytes) -> bytes:
    """Return a MAC frame with its FCS."""
    return data + fcs(data)


def test_tshark_reads_back_every_value_of_a_frame(tmp_path, check_capture):
    """Time, channel, page, RSS and LQI are what the writer was given, and the FCS is found good."""
    path = tmp_path / "air.pcap"
    with PcapWriter(path) as capture:
        capture.frame(0, framed(bytes.fromhex("030881ffffffff07")), 11, 0, -41.5, 255)
        capture.frame(1_500_001, framed(ACKNOWLEDGEMENT), 26, 0, -90.0, 0)
    rows = check_capture(path).fields(
        "frame.time_epoch",
        "wpan-tap.ch_num",
        "wpan-tap.ch_page",
        "wpan-tap.rss",
        "wpan-tap.lqi",
        "wpan.fcs_ok",
    )
    assert [(float(row[0]), *row[1:]) for row in rows] == [
        (FIXED_EPOCH, "11", "0", "-41.5", "255", "1"),
        (FIXED_EPOCH + 1.500001, "26", "0", "-90", "0", "1"),
    ]


def test_a_sub_ghz_page_is_kept(tmp_path, dissect):
    """Channel page 28 (GB's 868 MHz band) comes back as a page, not folded into the channel."""
    path = tmp_path / "air.pcap"
    with PcapWriter(path) as capture:
        capture.frame(0, framed(ACKNOWLEDGEMENT), 3, 28, -60.0, 200)
    assert dissect(path).fields("wpan-tap.ch_num", "wpan-tap.ch_page") == [("3", "28")]


def test_a_bad_fcs_is_seen(tmp_path, dissect, check_capture):
    """The capture carries the FCS that was on the air, so a damaged frame is found by an outside reader."""
    path = tmp_path / "air.pcap"
    with PcapWriter(path) as capture:
        capture.frame(0, ACKNOWLEDGEMENT + b"\x00\x00", 11, 0, -41.5, 255)
    assert len(dissect(path).unread()) == 1
    with pytest.raises(AssertionError, match="cannot read 1 frames"):
        check_capture(path)


def test_the_header_is_there_before_the_first_frame(tmp_path):
    """A live reader that opens the file at once finds a capture, not an empty file."""
    path = tmp_path / "air.pcap"
    capture = PcapWriter(path)
    header = path.read_bytes()
    capture.close()
    capture.close()
    assert header == struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 65535, 283)
    assert path.read_bytes() == header


def test_a_stream_stays_open_for_its_owner():
    """A writer on somebody else's stream flushes it and leaves it open; the same frames give the same bytes."""
    streams = [io.BytesIO(), io.BytesIO()]
    for stream in streams:
        with PcapWriter(stream) as capture:
            capture.frame(12, BEACON_REQUEST, 11, 0, -41.5, 255)
    assert streams[0].getvalue() == streams[1].getvalue()
    assert len(streams[0].getvalue()) == 24 + 16 + 36 + len(BEACON_REQUEST)


def test_a_capture_that_cannot_be_written_is_a_fault_of_the_bench(tmp_path):
    """A missing folder ends in one sentence that names the file."""
    with pytest.raises(RigError, match=r"missing/air\.pcap: the capture cannot be written"):
        PcapWriter(tmp_path / "missing" / "air.pcap")


def test_the_key_file_is_the_owners_alone(tmp_path):
    """Keys are secrets: the file has mode 0600, also where a laxer one stood before."""
    keys = KeyFile(tmp_path / "new" / "folder")
    keys.add(TEST_KEY, "network")
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600
    os.chmod(keys.path, 0o644)
    KeyFile(tmp_path / "new" / "folder")
    assert stat.S_IMODE(keys.path.stat().st_mode) == 0o600


def test_a_key_is_written_once(tmp_path):
    """The same key under two labels, or added in a second run, is one line; a label cannot break the table."""
    KeyFile(tmp_path).add(TEST_KEY, 'the "hub"\n\\')
    keys = KeyFile(tmp_path)
    keys.add(TEST_KEY, "again")
    keys.add(bytes(16), "zero")
    assert keys.path.read_text() == (
        f'"{TEST_KEY.hex()}","Normal","the _hub___"\n"{"00" * 16}","Normal","zero"\n'
    )


def test_a_key_of_another_length_is_refused_without_being_shown(tmp_path):
    """The message names the label and the length, never the key."""
    with pytest.raises(LocalProtocolError) as caught:
        KeyFile(tmp_path).add(TEST_KEY[:15], "short")
    assert str(caught.value) == "A Zigbee key has 16 octets, the one labelled 'short' has 15"


def test_a_key_file_that_cannot_be_made_is_a_fault_of_the_bench(tmp_path):
    """A file where the folder should be ends in one sentence that names the key file."""
    (tmp_path / "taken").write_text("")
    with pytest.raises(RigError, match="the key file cannot be written"):
        KeyFile(tmp_path / "taken")
