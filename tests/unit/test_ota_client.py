"""The OTA client: what it asks and when, and what it makes of each answer, a wrong or late one above all."""

from __future__ import annotations

import pytest

from harness.wire import zcl
from harness.wire.ota_client_values import (
    ClientState,
    DownloadAborted,
    DownloadCompleted,
    DownloadStarted,
    ImageRefused,
    ImageVerified,
    OtaStorage,
    ServerLost,
)
from harness.wire.ota_messages import (
    BlockRefusal,
    ImageNotify,
    QueryNextImageRequest,
    QueryNextImageResponse,
    UpgradeEndRequest,
    UpgradeEndResponse,
    VersionPolicy,
    WaitForData,
    build_message,
)
from harness.wire.zcl import Status
from tests.unit.ota_bench import FILE, FOUND, KEY, SERVER, ClientBench, block, request


def test_the_first_query_comes_after_a_jitter_that_the_seed_decides():
    """From 0 to start_jitter seconds after the start; the same seed, the same second."""
    first = [ClientBench(seed=seed, start_jitter=255.0).client.next_deadline() for seed in range(50)]
    assert first == [ClientBench(seed=seed, start_jitter=255.0).client.next_deadline() for seed in range(50)]
    assert all(10.0 <= deadline <= 265.0 for deadline in first)
    assert max(first) - min(first) > 150
    bench = ClientBench()
    bench.wait()
    assert bench.sent() == [QueryNextImageRequest(0x121D, 0x0084, 6, 0x1111)]


def test_a_file_is_fetched_block_by_block_and_verified():
    """Each block asks for the next; the last one leads to the check, the check to the Upgrade End Request."""
    given_to_verify = []
    bench = ClientBench(verify=lambda data: not given_to_verify.append(data))
    bench.wait()
    assert bench.say(FOUND) == [DownloadStarted(7, 240, 0)]
    assert bench.sent()[-1] == request(0)
    for offset in (0, 50, 100, 150):
        assert bench.say(block(offset)) == []
        assert bench.sent() == [request(offset + 50)]
    assert bench.say(block(200)) == [DownloadCompleted(7)]
    assert bench.sent() == []
    assert bench.wait() == [ImageVerified(7, True)]
    assert bench.sent() == [UpgradeEndRequest(0, *KEY)]
    assert given_to_verify == [FILE]


def test_no_image_means_another_query_later():
    """After query_interval; a unicast notification, whatever is in it, brings it forward."""
    bench = ClientBench(query_interval=3600.0)
    bench.wait()
    bench.say(QueryNextImageResponse(0x98))
    assert bench.client.next_deadline() == 3610.0
    bench.sent()
    for payload in (b"\0\x64", b"", b"\7\0garbage"):
        bench.now += 1.0
        bench.say(zcl.Frame(0x19, None, 1, 0x00, payload))
        assert bench.sent() == [QueryNextImageRequest(0x121D, 0x0084, 6, 0x1111)]
        bench.say(QueryNextImageResponse(0x98))


@pytest.mark.parametrize(
    ("message", "queries"),
    [
        (ImageNotify(0, 100), True),
        (ImageNotify(3, 100, *KEY), True),
        (ImageNotify(3, 100, 0xFFFF, 0xFFFF, 0xFFFFFFFF), True),
        (ImageNotify(3, 100, 0x121D, 0x0084, 6), False),
        (ImageNotify(1, 100, 0x121E), False),
        (ImageNotify(2, 100, 0x121D, 0x0085), False),
        (ImageNotify(0, 0), False),
        (ImageNotify(0, 101), False),
        (zcl.Frame(0x19, None, 1, 0x00, b"\0\x64\0"), False),
        (zcl.Frame(0x19, None, 1, 0x00, b"\4\x64"), False),
    ],
)
def test_a_broadcast_notification_is_for_those_that_it_fits(message, queries):
    """Length, jitter range, manufacturer, type and another version than the running one."""
    bench = ClientBench()
    bench.wait()
    bench.say(QueryNextImageResponse(0x98))
    bench.sent()
    bench.say(message, unicast=False)
    assert bool(bench.sent()) is queries


def test_the_jitter_of_a_broadcast_notification_picks_a_part_of_the_clients():
    """Of 400 clients about a quarter queries at a jitter of 25."""
    asked = 0
    for seed in range(400):
        bench = ClientBench(seed=seed)
        bench.wait()
        bench.say(QueryNextImageResponse(0x98))
        bench.sent()
        bench.say(ImageNotify(0, 25), unicast=False)
        asked += len(bench.sent())
    assert 70 <= asked <= 130


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (block(0)._replace(version=8), Status.INVALID_VALUE),
        (block(0)._replace(manufacturer=1), Status.INVALID_VALUE),
        (block(0)._replace(image_type=1), Status.INVALID_VALUE),
        (block(0, 51), Status.INVALID_VALUE),
        (block(0)._replace(data=b""), Status.INVALID_VALUE),
        (block(200)._replace(data=bytes(50)), Status.INVALID_VALUE),
        (BlockRefusal(0x01), Status.INVALID_VALUE),
        (zcl.Frame(0x19, None, 1, 0x05, b"\0\x1d\x12"), Status.MALFORMED_COMMAND),
        (
            zcl.Frame(0x19, None, 1, 0x05, b"\0\x1d\x12\x84\0\7\0\0\0\0\0\0\0\x32abc"),
            Status.MALFORMED_COMMAND,
        ),
        (zcl.Frame(0x19, None, 1, 0x05, b""), Status.MALFORMED_COMMAND),
        (FOUND, Status.FAILURE),
        (UpgradeEndResponse(*KEY, 0, 0), Status.FAILURE),
        (zcl.Frame(0x19, None, 1, 0x20, b""), Status.UNSUP_CLUSTER_COMMAND),
        (zcl.Frame(0x1D, 0x121D, 1, 0x20, b""), Status.UNSUP_MANUF_CLUSTER_COMMAND),
    ],
)
def test_a_wrong_answer_in_a_download_is_refused_and_changes_nothing(message, status):
    """FW-10: the status that the Ember client gives; the right block afterwards goes on."""
    bench = ClientBench()
    bench.begin()
    command = message.command if isinstance(message, zcl.Frame) else build_message(message, 0)[2]
    assert bench.say(message) == []
    assert bench.sent() == [(command, status)]
    assert bench.storage.data == b""
    bench.say(block(0))
    assert bench.sent() == [request(50)]


@pytest.mark.parametrize("offset", [0, 100, 150])
def test_a_block_of_another_offset_is_passed_over(offset):
    """A stale, repeated or early block causes neither data nor a request; the timer goes on."""
    bench = ClientBench()
    bench.begin()
    bench.say(block(0))
    bench.sent()
    deadline = bench.client.next_deadline()
    assert bench.say(block(offset)) == []
    assert (bench.sent(), bytes(bench.storage.data)) == ([], FILE[:50])
    assert bench.client.next_deadline() == deadline


def test_a_stranger_is_told_that_it_has_no_authority():
    """FW-10: a good block, end or ABORT from another node than the server changes nothing."""
    bench = ClientBench()
    bench.begin()
    for message in (block(0), BlockRefusal(0x95), FOUND, UpgradeEndResponse(*KEY, 0, 0), ImageNotify(0, 100)):
        assert bench.say(message, source=0x5555) == []
        ((to, (_, status)),) = bench.sent()
        assert (to, status) == (0x5555, Status.NOT_AUTHORIZED)
    bench.say(block(0), source=0x5555, unicast=False)
    assert bench.sent() == []
    abort = zcl.Frame(zcl.FROM_SERVER, None, 9, zcl.DEFAULT_RESPONSE, b"\x03\x95")
    assert bench.say(abort, source=0x5555) == []
    assert bench.client.state == ClientState.DOWNLOADING


def test_a_default_response_is_sent_where_it_is_asked_for():
    """With the bit clear, a good command gets SUCCESS."""
    bench = ClientBench()
    bench.wait()
    bench.sent()
    bench.say(FOUND, default_response=True)
    assert bench.sent() == [request(0), (0x02, Status.SUCCESS)]


def test_silence_is_met_with_a_back_off_and_then_an_abort():
    """3 s without an answer, 2 s back-off, the same request; after 10 in a row UpgradeEnd ABORT and a new query."""
    bench = ClientBench(requery_delay=5.0)
    bench.begin()
    bench.say(block(0))
    bench.sent()
    for attempt in range(9):
        assert bench.client.next_deadline() == pytest.approx(10.0 + 5 * attempt + 3)
        assert bench.wait() == []
        assert bench.sent() == []
        bench.wait()
        assert bench.sent() == [request(50)]
    assert bench.wait() == [DownloadAborted(7, 50, "10 failures in a row, the last: no answer")]
    assert bench.sent() == [UpgradeEndRequest(0x95, *KEY)]
    assert bench.storage == OtaStorage()
    bench.wait()
    assert bench.sent() == [QueryNextImageRequest(0x121D, 0x0084, 6, 0x1111)]
    assert bench.now == pytest.approx(10 + 9 * 5 + 3 + 5)


def test_an_answer_ends_the_row_of_failures():
    """The threshold counts failures in a row: nine, an answer and nine more abort nothing."""
    bench = ClientBench()
    bench.begin()
    for offset in (0, 50):
        for _ in range(18):
            bench.wait()
        bench.say(block(offset))
    assert bench.client.state == ClientState.DOWNLOADING
    assert bytes(bench.storage.data) == FILE[:100]


def test_an_error_status_counts_as_a_failure():
    """NOT_AUTHORIZED or MALFORMED_COMMAND to a block request: the same request after the back-off."""
    bench = ClientBench()
    bench.begin()
    assert bench.refuse(0x03, Status.NOT_AUTHORIZED) == []
    assert bench.client.next_deadline() == 12.0
    bench.wait()
    assert bench.sent() == [request(0)]


def test_a_default_response_that_says_nothing_changes_nothing():
    """Cut off, or SUCCESS: the client goes on waiting for its answer."""
    bench = ClientBench()
    bench.begin()
    for payload in (b"", b"\3", b"\3\0"):
        assert bench.say(zcl.Frame(zcl.FROM_SERVER, None, 9, zcl.DEFAULT_RESPONSE, payload)) == []
    assert (bench.sent(), bench.client.next_deadline()) == ([], 13.0)


def test_a_deadline_is_met_within_a_microsecond():
    """A carrier that counts whole microseconds may come half of one early; earlier, nothing is due."""
    bench = ClientBench()
    bench.client.on_deadline(10.0 - 1e-5)
    assert bench.sent() == []
    bench.client.on_deadline(10.0 - 5e-7)
    assert len(bench.sent()) == 1


@pytest.mark.parametrize("how", ["abort", "missing", "default abort", "default missing"])
def test_an_image_taken_back_ends_the_download_and_is_asked_for_again(how):
    """AH-08: it stops without an Upgrade End Request, keeps nothing, and queries."""
    bench = ClientBench(requery_delay=5.0)
    bench.begin()
    bench.say(block(0))
    bench.sent()
    status = 0x95 if "abort" in how else 0x98
    events = bench.refuse(0x03, status) if "default" in how else bench.say(BlockRefusal(status))
    name = "ABORT (0x95)" if "abort" in how else "NO_IMAGE_AVAILABLE (0x98)"
    assert events == [DownloadAborted(7, 50, f"the server answered {name}")]
    assert bench.sent() == []
    assert bench.storage == OtaStorage()
    bench.wait()
    assert (bench.now, bench.sent()) == (15.0, [QueryNextImageRequest(0x121D, 0x0084, 6, 0x1111)])


@pytest.mark.parametrize(
    ("wait", "seconds"),
    [
        (WaitForData(100, 130, 0), 30.0),
        (WaitForData(0, 7200, 0), 3600.0),
        (WaitForData(100, 90, 0), 300.0),
        (WaitForData(100, 100, 0), 2.0),
        (WaitForData(100, 100, 400), 0.4),
    ],
)
def test_a_client_told_to_wait_waits(wait, seconds):
    """The difference of the times, an hour at most, five minutes for a time in the past, or the block period."""
    bench = ClientBench()
    bench.begin()
    bench.say(wait)
    assert bench.client.next_deadline() == pytest.approx(10.0 + seconds)
    bench.wait()
    assert bench.sent() == [request(0)._replace(block_period=wait.block_period)]


def test_the_block_period_spaces_the_requests():
    """400 ms count from request to request, and are stated in each; without the attribute it is not kept."""
    bench = ClientBench()
    bench.begin()
    bench.say(WaitForData(0, 0, 400))
    bench.wait()
    bench.sent()
    bench.now = 10.5
    bench.say(block(0))
    assert bench.sent() == []
    assert bench.client.next_deadline() == pytest.approx(10.8)
    bench.wait()
    assert bench.sent() == [request(50)._replace(block_period=400)]
    other = ClientBench(keeps_block_period=False)
    other.begin()
    other.say(WaitForData(0, 1, 400))
    other.wait()
    other.say(block(0))
    assert other.sent()[-1] == request(50)._replace(block_period=None)


@pytest.mark.parametrize(
    ("response", "status"),
    [
        (FOUND._replace(manufacturer=1), Status.INVALID_VALUE),
        (FOUND._replace(image_type=1), Status.INVALID_VALUE),
        (FOUND._replace(size=55), Status.INVALID_VALUE),
    ],
)
def test_an_offer_that_is_not_for_this_client_is_refused(response, status):
    """Manufacturer, type or a size that no file has: INVALID_VALUE, and the query stays open."""
    bench = ClientBench()
    bench.wait()
    bench.sent()
    assert bench.say(response) == []
    assert bench.sent() == [(0x02, status)]
    assert bench.client.state == ClientState.QUERYING


def test_a_file_too_large_or_of_the_running_version_is_not_fetched():
    """FW-12, FW-13: INSUFFICIENT_SPACE one octet above the limit, silence for a version that the policy refuses."""
    bench = ClientBench(storage_limit=239)
    bench.wait()
    bench.sent()
    assert bench.say(FOUND) == [ImageRefused(7, "240 octets, room for 239")]
    assert bench.sent() == [(0x02, Status.INSUFFICIENT_SPACE)]
    for policy, running, taken in (
        (VersionPolicy.DIFFERENT, 7, False),
        (VersionPolicy.DIFFERENT, 8, True),
        (VersionPolicy.NEWER, 8, False),
        (VersionPolicy.ANY, 7, True),
    ):
        bench = ClientBench(running=running, version_policy=policy, storage_limit=240)
        bench.wait()
        bench.sent()
        bench.say(FOUND)
        assert bench.sent() == ([request(0)] if taken else [])


def test_a_server_that_answers_no_query_is_lost():
    """Ten queries, 5 s apart; NOT_AUTHORIZED counts like silence."""
    bench = ClientBench()
    bench.wait()
    for _ in range(9):
        bench.wait()
        bench.wait()
    assert bench.say(QueryNextImageResponse(0x7E)) == [ServerLost()]
    assert (bench.client.state, bench.client.next_deadline()) == (ClientState.OFFLINE, None)
    bench.client.start(SERVER, 0xABCD, bench.now)
    bench.wait()
    assert bench.refuse(0x01, Status.NOT_AUTHORIZED) == []
    assert bench.client.next_deadline() == bench.now + 2.0


def test_a_bad_file_is_dropped_and_said_so():
    """FW-10: Upgrade End INVALID_IMAGE, nothing kept, no upgrade, the next query after the interval."""
    bench = ClientBench(verify=lambda data: False, query_interval=600.0)
    bench.begin()
    for offset in range(0, 240, 50):
        bench.say(block(offset))
    bench.sent()
    assert bench.wait() == [ImageVerified(7, False)]
    assert bench.sent() == [UpgradeEndRequest(0x96, *KEY)]
    assert bench.storage == OtaStorage()
    assert bench.client.next_deadline() == bench.now + 600.0
