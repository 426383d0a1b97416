"""The OTA client that waits with a verified image, or for a word to ask: when it asks, and where it goes back to."""

from __future__ import annotations

import pytest

from harness.wire.image import OtaImage, build_image
from harness.wire.ota_client_values import (
    ClientState,
    DownloadAborted,
    DownloadStarted,
    ImageRefused,
    ImageVerified,
    OtaStorage,
    ServerLost,
    UpgradeDue,
    UpgradeScheduled,
    UpgradeStatus,
)
from harness.wire.ota_messages import (
    BlockRefusal,
    ImageBlock,
    ImageNotify,
    QueryNextImageRequest,
    QueryNextImageResponse,
    UpgradeEndRequest,
    UpgradeEndResponse,
)
from harness.wire.zcl import Status
from tests.unit.ota_bench import FILE, FOUND, KEY, ClientBench, block, request

QUERY = QueryNextImageRequest(0x121D, 0x0084, 6, 0x1111)
NOTHING = QueryNextImageResponse(Status.NO_IMAGE_AVAILABLE)
WAIT = UpgradeEndResponse(*KEY, 0, 0xFFFFFFFF)
NEWER = QueryNextImageResponse(0, 0x121D, 0x0084, 8, 300)


def waiting(**config):
    """A client that has its image and was told to wait."""
    bench = ClientBench(**config)
    bench.fetch()
    assert bench.say(WAIT) == [UpgradeScheduled(7, None)]
    return bench


def is_waiting(bench):
    """Whether it waits with its image, and asks for its time again in wait_interval."""
    client = bench.client
    assert (bench.storage.version, bench.storage.verified, bytes(bench.storage.data)) == (7, True, FILE)
    assert client.upgrade_status == UpgradeStatus.WAITING
    return client.state == ClientState.ENDING and client.next_deadline() == bench.now + 3600.0


@pytest.mark.parametrize(
    "answer",
    [NOTHING, FOUND, QueryNextImageResponse(0, 0x121D, 0x0084, 6, 300)],
    ids=["nothing", "the image that it has", "the version that runs"],
)
def test_a_client_that_waits_is_notified_asks_and_goes_on_waiting(answer):
    """Nothing newer is there: its image stays, and so does its wait; no block is asked for."""
    bench = waiting()
    bench.now += 100.0
    bench.say(ImageNotify(0, 100))
    assert bench.sent() == [QUERY]
    assert bench.client.upgrade_status == UpgradeStatus.WAITING
    bench.now += 1.0
    assert bench.say(answer) == ([ImageRefused(6, "version 0x00000006 runs")] if answer[3] == 6 else [])
    assert is_waiting(bench)
    assert bench.sent() == []
    bench.wait()
    assert bench.sent() == [UpgradeEndRequest(0, *KEY)]


def test_a_client_that_waits_takes_a_newer_image():
    """The newer file takes the place of the one that waits, from its first octet."""
    bench = waiting()
    bench.client.ask(bench.now)
    bench.sent()
    assert bench.say(NEWER) == [DownloadStarted(8, 300, 0)]
    assert bench.sent() == [request(0)._replace(version=8)]
    assert (bench.storage.version, bench.storage.verified, len(bench.storage.data)) == (8, False, 0)
    assert bench.client.upgrade_status == UpgradeStatus.DOWNLOADING
    assert bench.say(BlockRefusal(Status.ABORT)) == [
        DownloadAborted(8, 0, "the server answered ABORT (0x95)")
    ]
    assert bench.client.upgrade_status == UpgradeStatus.NORMAL


def test_what_was_said_of_the_first_image_does_not_hold_for_the_next():
    """The newer one is fetched, and nobody has said yet when to run it: it is no wait, and nothing to ask about."""
    bench = waiting()
    bench.client.ask(bench.now)
    data = build_image(OtaImage(0x121D, 0x0084, 8, bytes(50)))
    bench.say(QueryNextImageResponse(0, 0x121D, 0x0084, 8, len(data)))
    for offset in range(0, len(data), 50):
        bench.say(ImageBlock(0x121D, 0x0084, 8, offset, data[offset : offset + 50]))
    assert bench.wait() == [ImageVerified(8, True)]
    assert bench.sent()[-1] == UpgradeEndRequest(0, 0x121D, 0x0084, 8)
    assert bench.client.upgrade_status == UpgradeStatus.DOWNLOADED
    bench.client.ask(bench.now)
    assert (bench.client.state, bench.sent()) == (ClientState.ENDING, [])


def test_a_question_has_all_its_attempts_whatever_failed_before_it():
    """Two Upgrade End Requests without an answer do not count against the query that comes behind them."""
    bench = waiting(error_threshold=3)
    for _ in range(4):
        bench.wait()
    assert bench.sent() == [UpgradeEndRequest(0, *KEY)] * 2
    bench.client.ask(bench.now)
    assert [bench.wait() for _ in range(4)] == [[]] * 4
    assert bench.wait() == [ServerLost()]


def test_a_broadcast_about_another_image_is_asked_about_while_waiting():
    """One that names the image it has, or the version that runs, is not."""
    bench = waiting()
    for version, asked in ((7, False), (6, False), (8, True)):
        bench.say(ImageNotify(3, 100, 0x121D, 0x0084, version), unicast=False)
        assert (bench.sent() == [QUERY]) == asked


def test_a_client_that_was_told_its_time_and_did_not_obey_can_be_asked():
    """A meter waits for its CS06, whatever the server says: DUE is no end."""
    bench = ClientBench()
    bench.fetch()
    bench.say(UpgradeEndResponse(*KEY, 0, 0))
    assert bench.wait() == [UpgradeDue(7)]
    bench.client.ask(bench.now)
    assert bench.sent() == [QUERY]
    bench.say(NOTHING)
    assert is_waiting(bench)


def test_nothing_is_asked_while_something_is_under_way():
    """A query, a transfer, the check, an Upgrade End Request without answer, the countdown: `ask` changes nothing."""
    bench = ClientBench(start=False)
    bench.client.ask(bench.now)
    assert (bench.client.state, bench.sent()) == (ClientState.OFFLINE, [])
    bench = ClientBench()
    bench.wait()
    bench.sent()
    bench.client.ask(bench.now)
    assert bench.sent() == []
    bench.say(FOUND)
    bench.sent()
    bench.client.ask(bench.now)
    assert (bench.client.state, bench.sent()) == (ClientState.DOWNLOADING, [])
    bench = ClientBench()
    bench.fetch()
    bench.client.ask(bench.now)
    assert (bench.client.state, bench.sent()) == (ClientState.ENDING, [])
    bench.say(UpgradeEndResponse(*KEY, 0, 60))
    bench.client.ask(bench.now)
    assert (bench.client.state, bench.sent()) == (ClientState.COUNTDOWN, [])


def test_an_unanswered_question_of_a_waiting_client_loses_the_server_and_keeps_the_image():
    """As any query: `error_threshold` times, then ServerLost; the next start asks for the time again."""
    bench = waiting(error_threshold=2, response_timeout=3.0, back_off=2.0)
    bench.client.ask(bench.now)
    assert [bench.wait() for _ in range(2)] == [[], []]
    assert bench.sent() == [QUERY, QUERY]
    assert bench.wait() == [ServerLost()]
    assert bench.storage.verified
    bench.client.start(0, 0xABCD, bench.now)
    bench.wait()
    assert bench.sent() == [UpgradeEndRequest(0, *KEY)]


def test_a_client_that_is_not_unprompted_waits_for_a_word():
    """No query at its start nor after one that found nothing; `ask` and a notification lead to one each."""
    bench = ClientBench(unprompted=False)
    assert (bench.client.state, bench.client.next_deadline()) == (ClientState.IDLE, None)
    bench.client.ask(bench.now)
    assert bench.sent() == [QUERY]
    bench.say(NOTHING)
    assert bench.client.next_deadline() is None
    bench.say(ImageNotify(0, 100))
    assert bench.sent() == [QUERY]


def test_a_client_that_is_not_unprompted_repeats_what_failed():
    """An unanswered query, and one after a transfer that was taken back, are its own affair."""
    bench = ClientBench(unprompted=False, back_off=2.0, requery_delay=5.0)
    bench.client.ask(bench.now)
    bench.wait()
    bench.wait()
    assert bench.sent() == [QUERY, QUERY]
    bench.say(FOUND)
    bench.say(BlockRefusal(Status.ABORT))
    bench.sent()
    assert bench.client.next_deadline() == bench.now + 5.0
    bench.wait()
    assert bench.sent() == [QUERY]


def test_a_client_that_is_not_unprompted_goes_on_with_what_it_had_begun():
    """A part of a file in storage is fetched to its end after a start, without a word."""
    storage = OtaStorage(7, 240, bytearray(FILE[:100]))
    bench = ClientBench(storage=storage, unprompted=False)
    bench.wait()
    assert bench.sent() == [request(100)]


def test_a_bad_image_is_not_asked_for_again_without_a_word():
    """INVALID_IMAGE, and the file is dropped; a client that is not unprompted leaves it at that."""
    bench = ClientBench(unprompted=False, verify=lambda data: False)
    bench.client.ask(bench.now)
    bench.say(FOUND)
    for offset in range(0, 240, 50):
        bench.say(block(offset))
    bench.sent()
    bench.wait()
    assert bench.sent() == [UpgradeEndRequest(Status.INVALID_IMAGE, *KEY)]
    assert (bench.storage, bench.client.next_deadline()) == (OtaStorage(), None)
