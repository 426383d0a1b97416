"""The OTA client at the end of a file, with pages, and with what storage holds."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.wire import clusters, zcl
from harness.wire.ota_client_values import (
    ClientState,
    DownloadCompleted,
    DownloadStarted,
    OtaStorage,
    UpgradeDue,
    UpgradeScheduled,
)
from harness.wire.ota_messages import (
    UPGRADE_WAIT,
    ImagePageRequest,
    QueryNextImageRequest,
    UpgradeEndRequest,
    UpgradeEndResponse,
)
from harness.wire.zcl import Status
from tests.unit.ota_bench import FILE, FOUND, KEY, SERVER, ClientBench, block, request


@pytest.mark.parametrize(
    ("times", "delay"), [((0, 0), 3.0), ((500, 500), 3.0), ((0, 2), 3.0), ((1000, 1600), 600.0)]
)
def test_the_upgrade_comes_at_its_time(times, delay):
    """Now is 3 s later, so that acknowledgements get out; a later time is counted from the current one."""
    bench = ClientBench()
    bench.fetch()
    assert bench.say(UpgradeEndResponse(*KEY, *times)) == [UpgradeScheduled(7, delay)]
    at = bench.now + delay
    assert bench.client.on_deadline(at - 0.1) == []
    assert bench.client.next_deadline() == pytest.approx(at)
    assert bench.wait() == [UpgradeDue(7)]
    assert bench.client.next_deadline() is None


def test_a_client_told_to_wait_asks_hourly_and_obeys_the_later_word():
    """0xFFFFFFFF: the request again each hour, until an unsolicited Upgrade End Response, wildcards and all."""
    bench = ClientBench()
    bench.fetch()
    assert bench.say(UpgradeEndResponse(*KEY, 100, UPGRADE_WAIT)) == [UpgradeScheduled(7, None)]
    for _ in range(30):
        since = bench.now
        assert bench.wait() == []
        assert (bench.now - since, bench.sent()) == (3600.0, [UpgradeEndRequest(0, *KEY)])
        bench.say(UpgradeEndResponse(*KEY, 100, UPGRADE_WAIT))
    bench.now += 1000.0
    assert bench.say(UpgradeEndResponse(0xFFFF, 0xFFFF, 0xFFFFFFFF, 0, 0)) == [UpgradeScheduled(7, 3.0)]
    assert bench.wait() == [UpgradeDue(7)]


def test_a_time_in_the_past_is_asked_about_again():
    """After an hour, as with the wait."""
    bench = ClientBench()
    bench.fetch()
    assert bench.say(UpgradeEndResponse(*KEY, 100, 90)) == [UpgradeScheduled(7, None)]
    assert bench.client.next_deadline() == bench.now + 3600.0


@pytest.mark.parametrize("change", [{"version": 8}, {"manufacturer": 1}, {"image_type": 2}])
def test_an_end_for_another_file_is_refused(change):
    """INVALID_VALUE, and the request stays open."""
    bench = ClientBench()
    bench.fetch()
    assert bench.say(UpgradeEndResponse(*KEY, 0, 0)._replace(**change)) == []
    assert bench.sent() == [(0x07, Status.INVALID_VALUE)]
    assert bench.client.state == ClientState.ENDING


@pytest.mark.parametrize("status", [Status.ABORT, Status.NO_IMAGE_AVAILABLE])
def test_an_image_taken_back_after_its_transfer_is_not_run(status):
    """OTA-TC-14C: ABORT to the Upgrade End Request drops the verified file; the client asks again."""
    bench = ClientBench()
    bench.fetch()
    assert len(bench.refuse(0x06, status)) == 1
    assert bench.storage == OtaStorage()
    bench.wait()
    assert bench.sent() == [QueryNextImageRequest(0x121D, 0x0084, 6, 0x1111)]


def test_without_any_answer_the_upgrade_policy_decides():
    """Ten unanswered Upgrade End Requests: it upgrades anyway, or, with UpgradeTimeoutPolicy 1, keeps asking."""
    bench = ClientBench()
    bench.fetch()
    events = []
    while bench.client.next_deadline() is not None:
        events += bench.wait()
    assert events == [UpgradeDue(7)]
    assert sum(type(message) is UpgradeEndRequest for message in bench.sent()) == 9
    patient = ClientBench(upgrades_unanswered=False)
    patient.fetch()
    for _ in range(100):
        assert patient.wait() == []
    assert patient.say(UpgradeEndResponse(*KEY, 0, 0)) == [UpgradeScheduled(7, 3.0)]


# --- pages ------------------------------------------------------------------------------------------------------------


def test_a_file_is_fetched_page_by_page():
    """One request a page; its blocks cause no requests of their own."""
    bench = ClientBench(page_size=120, page_spacing_ms=40)
    bench.begin()
    bench.say(block(0))
    bench.say(block(50))
    assert bench.sent() == []
    bench.say(block(100, 20))
    assert bench.sent() == [ImagePageRequest(*KEY, 120, 50, 120, 40)]
    bench.say(block(120))
    bench.say(block(170))
    assert bench.say(block(220)) == [DownloadCompleted(7)]
    assert bytes(bench.storage.data) == FILE


def test_a_hole_in_a_page_is_filled_by_a_block():
    """The later blocks of the page are kept, the missing one is asked for alone, the next page follows."""
    bench = ClientBench(page_size=150, page_spacing_ms=40)
    bench.begin()
    bench.say(block(50))
    bench.say(block(100))
    assert bench.sent() == [request(0)]
    bench.say(block(0))
    assert bench.sent() == [ImagePageRequest(*KEY, 150, 50, 90, 40)]
    assert bytes(bench.storage.data) == FILE[:150]
    bench.say(block(150))
    bench.wait()  # the second block of the page was lost: time-out
    bench.wait()
    assert bench.sent() == [request(200)]
    assert bench.say(block(200)) == [DownloadCompleted(7)]


def test_a_server_without_pages_is_asked_for_blocks():
    """UNSUP_CLUSTER_COMMAND to a page request: block requests from then on."""
    bench = ClientBench(page_size=150)
    bench.begin()
    bench.refuse(0x04, Status.UNSUP_CLUSTER_COMMAND)
    assert bench.sent() == [request(0)]
    for offset in (0, 50, 100):
        bench.say(block(offset))
        assert bench.sent() == [request(offset + 50)]


# --- storage and attributes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("have", "verified", "expected"),
    [
        (0, False, request(0)),
        (100, False, request(100)),
        (240, False, UpgradeEndRequest(0, *KEY)),
        (240, True, UpgradeEndRequest(0, *KEY)),
    ],
)
def test_a_client_goes_on_with_what_storage_holds(have, verified, expected):
    """After a power cut it resumes at its offset, checks a whole file, reports a checked one."""
    storage = OtaStorage(7, 240, bytearray(FILE[:have]), verified)
    bench = ClientBench(storage=storage)
    bench.wait()
    assert bench.sent() == [expected]


def test_another_file_does_not_continue_the_one_in_storage():
    """A different version or size begins at 0; the very same goes on."""
    for found, offset in ((FOUND, 100), (FOUND._replace(version=8), 0), (FOUND._replace(size=241), 0)):
        bench = ClientBench()
        bench.wait()
        bench.storage.version, bench.storage.size, bench.storage.data = 7, 240, bytearray(FILE[:100])
        assert bench.say(found) == [DownloadStarted(found.version, found.size, offset)]


def test_attributes_follow_the_transfer():
    """FileOffset, DownloadedFileVersion and ImageUpgradeStatus say where the client is."""
    bench = ClientBench(start=False)
    table = clusters.ota_client_attributes(bench.client)

    def read():
        numbers = (
            clusters.FILE_OFFSET,
            clusters.CURRENT_FILE_VERSION,
            clusters.DOWNLOADED_FILE_VERSION,
            clusters.IMAGE_UPGRADE_STATUS,
        )
        return tuple(table[number].read(bench.now) for number in numbers)

    assert table[clusters.UPGRADE_SERVER_ID].read(0.0) == 0xFFFFFFFFFFFFFFFF
    assert read() == (0xFFFFFFFF, 6, 0xFFFFFFFF, 0)
    bench.client.start(SERVER, 0xABCD, bench.now)
    assert table[clusters.UPGRADE_SERVER_ID].read(0.0) == 0xABCD
    bench.begin()
    bench.say(block(0))
    assert read() == (50, 6, 0xFFFFFFFF, 1)
    for offset in range(50, 240, 50):
        bench.say(block(offset))
    assert read() == (240, 6, 0xFFFFFFFF, 2)
    bench.wait()
    assert read() == (240, 6, 7, 2)
    bench.say(UpgradeEndResponse(*KEY, 0, UPGRADE_WAIT))
    assert read() == (240, 6, 7, 3)
    bench.say(UpgradeEndResponse(*KEY, 0, 0))
    assert read() == (240, 6, 7, 4)
    bench.client.stop()
    assert read() == (240, 6, 7, 2)


@settings(max_examples=200)
@given(st.lists(st.binary(min_size=3, max_size=40), max_size=4), st.sampled_from([0, 1, 2, 3]))
def test_random_frames_never_break_the_client(frames, steps):
    """Any frames at any stage are answered or passed over."""
    bench = ClientBench(page_size=150)
    for step in (bench.wait, lambda: bench.say(FOUND), lambda: bench.say(block(0)))[:steps]:
        step()
    for data in frames:
        with contextlib.suppress(zcl.RemoteProtocolError):
            bench.say(zcl.parse_frame(data))
    assert len(bench.storage.data) <= bench.storage.size
