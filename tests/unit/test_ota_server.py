"""The OTA server: what each request is answered, and what it reports."""

from __future__ import annotations

import contextlib
import dataclasses

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.errors import LocalProtocolError
from harness.wire import zcl
from harness.wire.image import OtaImage, build_image
from harness.wire.ota_messages import (
    UPGRADE_WAIT,
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
from harness.wire.ota_server import (
    ImageQueried,
    ImageWithdrawn,
    OtaServer,
    OtaServerConfig,
    RequestRefused,
    TransferCompleted,
    TransferProgressed,
    TransferStarted,
    UpgradeEnded,
)
from harness.wire.zcl import Status

PPMID = 0x000D6F000A9069E7
OTHER = 0x000D6F000A9069E8
IMAGE = OtaImage(0x121D, 0x0084, 7, bytes(range(200)), hardware_min=0x1111, hardware_max=0x1211)
FILE = build_image(IMAGE)  # 260 octets
KEY = (0x121D, 0x0084, 7)
QUERY = QueryNextImageRequest(0x121D, 0x0084, 6, 0x1111)


class Bench:
    """A server, and what it says to one message."""

    def __init__(self, authorized=lambda client: True, **config):
        self.server = OtaServer(OtaServerConfig(**config), authorized)
        self.now = 100.0
        self.events = []

    def ask(self, message, client=PPMID, *, sequence=0x42):
        """Give the server a message; return its only answer: a message, or a status of a Default Response."""
        frame = (
            message if isinstance(message, zcl.Frame) else zcl.parse_frame(build_message(message, sequence))
        )
        self.events = self.server.receive(client, frame, self.now)
        ((to, data),) = self.server.frames_to_send()
        answer = zcl.parse_frame(data)
        assert (to, answer.sequence) == (client, frame.sequence)
        return self.read(answer, frame)

    def read(self, answer, frame=None):
        if answer.command == zcl.DEFAULT_RESPONSE and not answer.control & zcl.CLUSTER_COMMAND:
            command, status = zcl.parse_default_response(answer.payload)
            assert frame is None or command == frame.command
            return status
        return parse_message(answer)

    def sent(self):
        return [(to, parse_message(zcl.parse_frame(data))) for to, data in self.server.frames_to_send()]


@pytest.mark.parametrize(
    ("query", "status"),
    [
        (QUERY, Status.SUCCESS),
        (QUERY._replace(hardware=None), Status.SUCCESS),
        (QUERY._replace(hardware=0x1110), Status.NO_IMAGE_AVAILABLE),
        (QUERY._replace(hardware=0x1180), Status.SUCCESS),
        (QUERY._replace(hardware=0x1211), Status.SUCCESS),
        (QUERY._replace(hardware=0x1212), Status.NO_IMAGE_AVAILABLE),
        (QUERY._replace(manufacturer=0x121E), Status.NO_IMAGE_AVAILABLE),
        (QUERY._replace(image_type=0x0085), Status.NO_IMAGE_AVAILABLE),
        (QUERY._replace(version=7), Status.NO_IMAGE_AVAILABLE),
        (QUERY._replace(version=8), Status.SUCCESS),
    ],
)
def test_a_query_finds_the_image_that_fits(query, status):
    """FW-11, FW-07: manufacturer, type, version and the hardware range with both ends decide."""
    bench = Bench()
    bench.server.offer(IMAGE)
    found = QueryNextImageResponse(0, *KEY, 260) if status == 0 else QueryNextImageResponse(0x98)
    assert bench.ask(query) == found
    assert bench.events == [ImageQueried(PPMID, *query, status)]


def test_the_version_policy_may_ask_for_newer_ones():
    """With NEWER, a client that runs a later version is told that there is none."""
    bench = Bench(version_policy=VersionPolicy.NEWER)
    bench.server.offer(IMAGE)
    assert bench.ask(QUERY._replace(version=8)) == QueryNextImageResponse(0x98)


def test_an_offer_to_one_client_is_for_it_alone():
    """Neither a query nor a block request of another client sees it; nor an image with another's destination."""
    bench = Bench()
    bench.server.offer(IMAGE, PPMID)
    assert bench.ask(QUERY, OTHER) == QueryNextImageResponse(0x98)
    assert bench.ask(ImageBlockRequest(*KEY, 0, 50), OTHER) == Status.NO_IMAGE_AVAILABLE
    bench.server.offer(dataclasses.replace(IMAGE, version=9, destination=OTHER))
    assert bench.ask(QUERY) == QueryNextImageResponse(0, *KEY, 260)
    assert bench.ask(ImageBlockRequest(0x121D, 0x0084, 9, 0, 50)) == Status.NO_IMAGE_AVAILABLE
    assert bench.ask(QUERY, OTHER).version == 9


def test_the_newest_offer_is_found_first():
    """Of two that fit, the one offered later."""
    bench = Bench()
    bench.server.offer(IMAGE)
    bench.server.offer(dataclasses.replace(IMAGE, version=5))
    assert bench.ask(QUERY).version == 5


def test_a_client_without_authority_is_refused_whatever_it_asks():
    """FW-11: NOT_AUTHORIZED to query, block, page and end."""
    bench = Bench(authorized=lambda client: client == PPMID)
    bench.server.offer(IMAGE)
    for message in (
        QUERY,
        ImageBlockRequest(*KEY, 0, 50),
        ImagePageRequest(*KEY, 0, 50, 100, 10),
        UpgradeEndRequest(0, *KEY),
    ):
        assert bench.ask(message, OTHER) == Status.NOT_AUTHORIZED
    assert bench.events == [RequestRefused(OTHER, 0x06, Status.NOT_AUTHORIZED)]
    assert bench.ask(QUERY).status == Status.SUCCESS


def test_blocks_add_up_to_the_file():
    """Each block has what was asked for, no more than the server's own limit, and the last one the rest."""
    bench = Bench()
    bench.server.offer(IMAGE)
    got = b""
    events = []
    while len(got) < len(FILE):
        block = bench.ask(ImageBlockRequest(*KEY, len(got), 200))
        assert block == ImageBlock(*KEY, len(got), FILE[len(got) : len(got) + 56])
        got += block.data
        events += bench.events
    assert got == FILE
    progress = [TransferProgressed(PPMID, 7, min(end, 260), 260) for end in (56, 112, 168, 224, 280)]
    assert events == [TransferStarted(PPMID, 7, 0, 260), *progress, TransferCompleted(PPMID, 7)]
    assert bench.ask(ImageBlockRequest(*KEY, 10, 20)).data == FILE[10:30]


def test_two_clients_are_served_side_by_side():
    """Each has its own transfer and its own events."""
    bench = Bench()
    bench.server.offer(IMAGE)
    assert bench.ask(ImageBlockRequest(*KEY, 0, 50)).data == FILE[:50]
    assert bench.ask(ImageBlockRequest(*KEY, 200, 56), OTHER).data == FILE[200:256]
    assert bench.events == [TransferStarted(OTHER, 7, 200, 260), TransferProgressed(OTHER, 7, 256, 260)]
    assert bench.ask(ImageBlockRequest(*KEY, 50, 50)).data == FILE[50:100]
    assert bench.events == [TransferProgressed(PPMID, 7, 100, 260)]


@pytest.mark.parametrize(
    ("message", "status"),
    [
        (ImageBlockRequest(*KEY, 260, 50), Status.MALFORMED_COMMAND),
        (ImageBlockRequest(*KEY, 0xFFFFFFFF, 50), Status.MALFORMED_COMMAND),
        (ImageBlockRequest(*KEY, 0, 0), Status.MALFORMED_COMMAND),
        (ImagePageRequest(*KEY, 260, 50, 100, 10), Status.MALFORMED_COMMAND),
        (ImagePageRequest(*KEY, 0, 0, 100, 10), Status.MALFORMED_COMMAND),
        (ImagePageRequest(*KEY, 0, 50, 0, 10), Status.MALFORMED_COMMAND),
        (ImageBlockRequest(0xFFF0, 0x0000, 0xFFFFFFF0, 100, 50), Status.NO_IMAGE_AVAILABLE),
        (ImagePageRequest(0xFFF0, 0x0000, 0xFFFFFFF0, 100, 50, 100, 0), Status.NO_IMAGE_AVAILABLE),
        (UpgradeEndRequest(0, 0x121D, 0x0084, 8), Status.NO_IMAGE_AVAILABLE),
        (zcl.Frame(0x01, None, 9, 0x03, b"\0\x1d"), Status.MALFORMED_COMMAND),
        (zcl.Frame(0x01, None, 9, 0x0A, b""), Status.UNSUP_CLUSTER_COMMAND),
        (zcl.Frame(0x05, 0x121D, 9, 0x03, b""), Status.UNSUP_MANUF_CLUSTER_COMMAND),
        (zcl.Frame(0x11, None, 9, 0x00, b""), Status.UNSUP_CLUSTER_COMMAND),
    ],
)
def test_what_cannot_be_served_is_refused(message, status):
    """Past the end or nothing at all is malformed; an unknown file is not available; unknown commands are named."""
    bench = Bench()
    bench.server.offer(IMAGE)
    assert bench.ask(message) == status
    assert bench.events[-1].status == status


@settings(max_examples=200)
@given(st.binary(min_size=3, max_size=60))
def test_random_frames_never_break_the_server(data):
    """Any cluster-specific frame is answered or passed over."""
    bench = Bench()
    bench.server.offer(IMAGE)
    with contextlib.suppress(zcl.RemoteProtocolError):
        frame = zcl.parse_frame(bytes((data[0] & 0xF5 | 0x01,)) + data[1:])
        bench.server.receive(PPMID, frame, 0.0)
        bench.server.on_deadline(1e9)
        bench.server.frames_to_send()


def test_a_page_is_paced_by_its_spacing():
    """The blocks of a page come one spacing apart, up to its end, under the request's sequence number."""
    bench = Bench()
    bench.server.offer(IMAGE)
    assert bench.ask(ImagePageRequest(*KEY, 0, 50, 120, 100)).data == FILE[:50]
    assert bench.server.next_deadline() == 100.1
    assert bench.server.on_deadline(100.05) == []
    bench.server.on_deadline(100.1)
    bench.server.on_deadline(100.2)
    assert bench.sent() == [
        (PPMID, ImageBlock(*KEY, 50, FILE[50:100])),
        (PPMID, ImageBlock(*KEY, 100, FILE[100:120])),
    ]
    assert bench.server.next_deadline() is None


def test_a_page_ends_with_the_file_and_a_new_one_replaces_it():
    """No octet past the end; a client that asks for another page wants no more of the first."""
    bench = Bench()
    bench.server.offer(IMAGE)
    bench.ask(ImagePageRequest(*KEY, 0, 50, 200, 100))
    assert bench.ask(ImagePageRequest(*KEY, 200, 50, 500, 0)).offset == 200
    assert bench.server.next_deadline() == 100.02
    bench.server.on_deadline(200.0)
    assert bench.sent() == [(PPMID, ImageBlock(*KEY, 250, FILE[250:]))]
    assert bench.server.next_deadline() is None


def test_a_server_may_know_no_pages():
    """Image Page Request is optional: UNSUP_CLUSTER_COMMAND."""
    bench = Bench(page_requests=False)
    bench.server.offer(IMAGE)
    assert bench.ask(ImagePageRequest(*KEY, 0, 50, 120, 100)) == Status.UNSUP_CLUSTER_COMMAND


def test_a_client_is_told_to_wait():
    """WAIT_FOR_DATA carries the seconds left, rounded up, on the server's UTC clock or, without one, from 0."""
    for utc, base in ((None, 0), (1000, 1100)):
        bench = Bench(utc_at_zero=utc)
        bench.server.offer(IMAGE)
        bench.server.hold(PPMID, 130.5)
        assert bench.ask(ImageBlockRequest(*KEY, 0, 50)) == WaitForData(base, base + 31, 0)
        assert bench.ask(ImagePageRequest(*KEY, 0, 50, 100, 0)) == WaitForData(base, base + 31, 0)
        assert bench.ask(ImageBlockRequest(*KEY, 0, 50), OTHER).data == FILE[:50]
        bench.now = 130.5
        assert bench.ask(ImageBlockRequest(*KEY, 0, 50)).data == FILE[:50]


def test_the_pace_is_set_by_the_block_period_where_the_client_keeps_one():
    """Equal times and the period in ms; a client that then states the period is served."""
    bench = Bench(block_period_ms=500)
    bench.server.offer(IMAGE)
    assert bench.ask(ImageBlockRequest(*KEY, 0, 50, None, 0)) == WaitForData(0, 0, 500)
    assert bench.ask(ImageBlockRequest(*KEY, 0, 50, None, 500)).data == FILE[:50]
    assert bench.ask(ImageBlockRequest(*KEY, 50, 50, None, 500)).data == FILE[50:100]
    bench.server.block_period_ms = 0
    assert bench.ask(ImageBlockRequest(*KEY, 100, 50, None, 0)).data == FILE[100:150]


def test_the_pace_is_set_by_waits_where_the_client_keeps_none():
    """A client without MinimumBlockPeriod that comes too early is sent away for whole seconds."""
    bench = Bench(block_period_ms=1500)
    bench.server.offer(IMAGE)
    assert bench.ask(ImageBlockRequest(*KEY, 0, 50)).data == FILE[:50]
    bench.now = 100.1
    assert bench.ask(ImageBlockRequest(*KEY, 50, 50)) == WaitForData(0, 2, 1500)
    bench.now = 101.5
    assert bench.ask(ImageBlockRequest(*KEY, 50, 50)).data == FILE[50:100]


def test_a_withdrawn_image_aborts_its_transfer():
    """The client in the middle gets ABORT at every request up to its next query, the others NO_IMAGE_AVAILABLE."""
    bench = Bench()
    offer = bench.server.offer(IMAGE)
    bench.ask(ImageBlockRequest(*KEY, 0, 50))
    assert bench.server.withdraw(offer) == [ImageWithdrawn(PPMID, 7, 50)]
    assert bench.ask(ImageBlockRequest(*KEY, 50, 50)) == BlockRefusal(0x95)
    assert bench.ask(ImageBlockRequest(*KEY, 50, 50)) == BlockRefusal(0x95)
    assert bench.ask(ImageBlockRequest(*KEY, 0, 50), OTHER) == Status.NO_IMAGE_AVAILABLE
    assert bench.ask(UpgradeEndRequest(0, *KEY)) == Status.ABORT
    assert bench.ask(QUERY) == QueryNextImageResponse(0x98)
    assert bench.ask(ImageBlockRequest(*KEY, 50, 50)) == Status.NO_IMAGE_AVAILABLE
    with pytest.raises(LocalProtocolError, match="not on offer"):
        bench.server.withdraw(offer)


def test_a_withdrawn_image_ends_its_page():
    """Instead of the next block comes ABORT, and nothing after it."""
    bench = Bench()
    offer = bench.server.offer(IMAGE)
    bench.ask(ImagePageRequest(*KEY, 0, 50, 200, 100))
    bench.server.withdraw(offer)
    bench.server.on_deadline(101.0)
    assert bench.sent() == [(PPMID, BlockRefusal(0x95))]
    assert bench.server.next_deadline() is None
    assert bench.ask(ImagePageRequest(*KEY, 50, 50, 200, 100)) == BlockRefusal(0x95)


def test_an_image_that_nobody_fetched_is_withdrawn_too():
    """The event has no client then."""
    bench = Bench()
    assert bench.server.withdraw(bench.server.offer(IMAGE)) == [ImageWithdrawn(None, 7, 0)]


@pytest.mark.parametrize(
    ("utc", "upgrade_at", "times"),
    [
        (None, 0, (0, 0)),
        (None, 600, (0, 600)),
        (None, UPGRADE_WAIT, (0, UPGRADE_WAIT)),
        (1000, 0, (1100, 1100)),
        (1000, 1400, (1100, 1400)),
        (1000, 900, (1100, 1100)),
        (1000, UPGRADE_WAIT, (1100, UPGRADE_WAIT)),
    ],
)
def test_the_end_of_a_transfer_is_answered_with_its_time(utc, upgrade_at, times):
    """Now, at a time, or wait; never a time in the past; asked again, answered again, reported once."""
    bench = Bench(utc_at_zero=utc)
    bench.server.offer(IMAGE, upgrade_at=upgrade_at)
    bench.ask(ImageBlockRequest(*KEY, 224, 50))
    assert bench.ask(UpgradeEndRequest(0, *KEY)) == UpgradeEndResponse(*KEY, *times)
    assert bench.events == [UpgradeEnded(PPMID, *KEY, 0)]
    assert bench.ask(UpgradeEndRequest(0, *KEY)) == UpgradeEndResponse(*KEY, *times)
    assert bench.events == []


def test_a_client_that_waits_is_released():
    """The later, unsolicited Upgrade End Response says now, to those that ended well only."""
    bench = Bench(utc_at_zero=0)
    offer = bench.server.offer(IMAGE, upgrade_at=UPGRADE_WAIT)
    bench.ask(UpgradeEndRequest(0, *KEY))
    bench.ask(ImageBlockRequest(*KEY, 0, 50), OTHER)
    bench.server.release(offer, 500.0)
    assert bench.sent() == [(PPMID, UpgradeEndResponse(*KEY, 500, 500))]


@pytest.mark.parametrize("status", [0x95, 0x96, 0x99])
def test_an_end_without_success_gets_a_default_response(status):
    """Upgrade End Response answers success only; a client may then fetch the file from its beginning again."""
    bench = Bench()
    bench.server.offer(IMAGE)
    bench.ask(ImageBlockRequest(*KEY, 0, 50))
    assert bench.ask(UpgradeEndRequest(status, *KEY)) == Status.SUCCESS
    assert bench.events == [UpgradeEnded(PPMID, *KEY, status)]
    assert bench.ask(ImageBlockRequest(*KEY, 0, 50)).data == FILE[:50]
    assert bench.events[0] == TransferStarted(PPMID, 7, 0, 260)


def test_a_restarted_server_answers_the_end_of_a_transfer_that_it_did_not_see():
    """It knows the offer: that is enough."""
    bench = Bench()
    bench.server.offer(IMAGE)
    assert bench.ask(UpgradeEndRequest(0, *KEY)) == UpgradeEndResponse(*KEY, 0, 0)


@pytest.mark.parametrize("payload_type", [0, 1, 2, 3])
def test_a_notification_says_as_much_as_its_payload_type(payload_type):
    """Types 0 to 3 add manufacturer, image type and version, one after another."""
    bench = Bench()
    offer = bench.server.offer(IMAGE)
    bench.server.notify(PPMID, offer, payload_type=payload_type, jitter=77)
    assert bench.sent() == [(PPMID, ImageNotify(payload_type, 77, *KEY[:payload_type]))]


def test_a_device_specific_file_is_found_by_its_destination():
    """Query Device Specific File asks for a node; only a file with that destination answers."""
    bench = Bench()
    bench.server.offer(IMAGE)
    bench.server.offer(dataclasses.replace(IMAGE, version=9, destination=PPMID))
    query = QueryDeviceSpecificFileRequest(PPMID, 0x121D, 0x0084, 0xFFFFFFFF, 2)
    found = QueryDeviceSpecificFileResponse(0, 0x121D, 0x0084, 9, 268)
    assert bench.ask(query) == found
    assert bench.ask(query._replace(version=9)) == found
    assert bench.ask(query._replace(version=8)) == QueryDeviceSpecificFileResponse(0x98)
    assert bench.ask(query._replace(node=OTHER)) == QueryDeviceSpecificFileResponse(0x98)


# --- what its owner asks and tells it of one client -------------------------------------------------------------------


def test_whose_offer_a_client_fetches_is_known_until_it_is_taken_back():
    """Of two offers with the same name, the one that the blocks are of; none after it was withdrawn."""
    bench = Bench()
    offer = bench.server.offer(IMAGE, PPMID)
    assert bench.server.fetching(PPMID) is None
    bench.ask(ImageBlockRequest(*offer.key, 0, 50))
    assert bench.server.fetching(PPMID) is offer
    assert not bench.server.fetched(PPMID, offer)
    other = bench.server.offer(IMAGE, PPMID)
    bench.ask(UpgradeEndRequest(0, *offer.key))
    assert bench.server.fetched(PPMID, offer)
    assert not bench.server.fetched(PPMID, other)
    again = bench.server.offer(IMAGE, OTHER)
    bench.ask(ImageBlockRequest(*again.key, 0, 50), OTHER)
    bench.server.withdraw(again)
    assert bench.server.fetching(OTHER) is None


def test_a_client_with_a_settled_file_goes_on_being_told_its_time():
    """Without an offer or a transfer, past `forget`, to success alone and to this file alone, until it is unsettled."""
    bench = Bench()
    key = (IMAGE.manufacturer, IMAGE.image_type, IMAGE.version)
    bench.server.settle(PPMID, key, UPGRADE_WAIT)
    bench.server.forget(PPMID)
    assert bench.ask(UpgradeEndRequest(0, *key)) == UpgradeEndResponse(*key, 0, UPGRADE_WAIT)
    assert bench.events == []
    assert bench.ask(UpgradeEndRequest(0x96, *key)) == Status.NO_IMAGE_AVAILABLE
    assert bench.ask(UpgradeEndRequest(0, *key[:2], key[2] + 1)) == Status.NO_IMAGE_AVAILABLE
    assert bench.ask(UpgradeEndRequest(0, *key), OTHER) == Status.NO_IMAGE_AVAILABLE
    bench.server.unsettle(PPMID)
    assert bench.ask(UpgradeEndRequest(0, *key)) == Status.NO_IMAGE_AVAILABLE
