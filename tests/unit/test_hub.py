"""The hub's behaviour: whom it serves, what it reads, and what a power cut leaves of it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.errors import LocalProtocolError
from harness.members.hub import AttributeRead, Hub, HubConfig, ReadFailed
from harness.wire import zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage
from harness.wire.ota_messages import (
    UPGRADE_WAIT,
    ImageBlockRequest,
    ImageNotify,
    QueryNextImageRequest,
    QueryNextImageResponse,
    UpgradeEndRequest,
    UpgradeEndResponse,
    build_message,
    parse_message,
)
from harness.wire.ota_server import ImageWithdrawn, OtaServerConfig
from harness.wire.utc import UTC_2026
from harness.wire.zcl import Status
from tests.unit.ota_bench import PPMID_EUI64, PPMID_SHORT, ppmid_image

QUERY = QueryNextImageRequest(0x121D, 0x0084, 1, 0x1180)


class Bench:
    """A hub that knows one PPMID."""

    def __init__(self, **config):
        self.hub = Hub(HubConfig(**config))
        self.hub.device_joined(PPMID_EUI64, PPMID_SHORT)
        self.now = 10.0
        self.events = []

    def say(self, frame, *, peer=PPMID_SHORT, cluster=0x0019, endpoint=1, **fields):
        """Give the hub a message from endpoint 5; return what it sends, but for its own questions of the ZDO."""
        payload = frame if isinstance(frame, bytes) else build_message(frame, 0x42)
        message = ApsMessage(peer, SMART_ENERGY_PROFILE, cluster, 5, endpoint, payload, **fields)
        self.events = self.hub.receive(message, self.now)
        sent = self.hub.messages_to_send()
        self.asked = [each for each in sent if each.profile == ZDO_PROFILE]
        return [each for each in sent if each.profile != ZDO_PROFILE]

    def ask(self, frame, **fields):
        """The same, with the hub's one answer read."""
        (message,) = self.say(frame, **fields)
        assert (message.peer, message.destination_endpoint) == (fields.get("peer", PPMID_SHORT), 5)
        answer = zcl.parse_frame(message.payload)
        if not answer.control & zcl.CLUSTER_COMMAND and answer.command == zcl.DEFAULT_RESPONSE:
            return zcl.parse_default_response(answer.payload)
        return parse_message(answer)


def test_a_known_device_is_served_and_a_stranger_is_not():
    """FW-11: the short address of a device on the HAN, as its carrier told; anyone else gets NOT_AUTHORIZED."""
    bench = Bench()
    bench.hub.offer(ppmid_image(), PPMID_EUI64, 0.0)
    assert bench.ask(QUERY) == QueryNextImageResponse(0, 0x121D, 0x0084, 2, 560)
    assert bench.ask(QUERY, peer=0x5555) == (0x01, Status.NOT_AUTHORIZED)
    assert bench.ask(ImageBlockRequest(0x121D, 0x0084, 2, 0, 50), peer=0x5555) == (
        0x03,
        Status.NOT_AUTHORIZED,
    )
    bench.hub.device_left(PPMID_EUI64, 0.0)
    assert bench.ask(QUERY) == (0x01, Status.NOT_AUTHORIZED)


def test_a_device_is_followed_to_its_new_address():
    """After a rejoin the old short address is a stranger's; a device that left may come back."""
    bench = Bench()
    bench.hub.device_joined(PPMID_EUI64, 0x7777)
    assert bench.ask(QUERY, peer=0x7777) == QueryNextImageResponse(0x98)
    assert bench.ask(QUERY) == (0x01, Status.NOT_AUTHORIZED)
    assert [(device.eui64, device.short) for device in bench.hub.devices] == [(PPMID_EUI64, 0x7777)]
    bench.hub.device_left(PPMID_EUI64, 0.0)
    bench.hub.device_left(PPMID_EUI64, 0.0)
    bench.hub.device_joined(PPMID_EUI64, PPMID_SHORT)
    assert bench.ask(QUERY) == QueryNextImageResponse(0x98)


def test_an_address_taken_over_belongs_to_the_later_device():
    """A device that comes with another's short address is that address; the other is not deleted with it."""
    bench = Bench()
    bench.hub.device_joined(0x99, PPMID_SHORT)
    bench.hub.device_left(PPMID_EUI64, 0.0)
    assert bench.ask(QUERY) == QueryNextImageResponse(0x98)
    assert bench.events[0].client == 0x99


def test_an_offer_is_notified_to_a_device_that_was_heard():
    """Payload type 3 to the endpoint that it queried from; before its first query there is nothing to notify."""
    bench = Bench()
    assert bench.hub.offer(ppmid_image(), PPMID_EUI64, 0.0) == []
    assert bench.hub.messages_to_send() == []
    bench.say(QUERY)
    assert bench.hub.offer(ppmid_image(version=3), PPMID_EUI64, 0.0) == [ImageWithdrawn(PPMID_EUI64, 2, 0)]
    (message,) = bench.hub.messages_to_send()
    assert (message.peer, message.destination_endpoint) == (PPMID_SHORT, 5)
    assert parse_message(zcl.parse_frame(message.payload)) == ImageNotify(3, 100, 0x121D, 0x0084, 3)
    silent = Bench(notifies=False)
    silent.say(QUERY)
    silent.hub.offer(ppmid_image(), PPMID_EUI64, 0.0)
    assert silent.hub.messages_to_send() == []


def test_what_does_not_wait_cannot_be_withdrawn_or_released():
    """Asking for it is our own error, and names the device."""
    bench = Bench()
    for wrong in (lambda: bench.hub.withdraw(0x99), lambda: bench.hub.release(0x99, 0.0)):
        with pytest.raises(LocalProtocolError, match="0x0000000000000099"):
            wrong()


def test_a_waiting_device_is_released():
    """Wait, then the later Upgrade End Response with the hub's time."""
    bench = Bench()
    bench.hub.offer(ppmid_image(), PPMID_EUI64, 0.0, upgrade_at=UPGRADE_WAIT)
    end = UpgradeEndRequest(0, 0x121D, 0x0084, 2)
    assert bench.ask(end) == UpgradeEndResponse(0x121D, 0x0084, 2, UTC_2026 + 10, UPGRADE_WAIT)
    bench.hub.release(PPMID_EUI64, 20.0)
    (message,) = bench.hub.messages_to_send()
    word = parse_message(zcl.parse_frame(message.payload))
    assert word == UpgradeEndResponse(0x121D, 0x0084, 2, UTC_2026 + 20, UTC_2026 + 20)


def test_a_power_cut_keeps_devices_and_images():
    """What was in transfer goes on being served; messages and reads are gone."""
    bench = Bench()
    bench.hub.offer(ppmid_image(), PPMID_EUI64, 0.0, upgrade_at=UPGRADE_WAIT)
    bench.say(ImageBlockRequest(0x121D, 0x0084, 2, 0, 50))
    bench.hub.read_attribute(PPMID_SHORT, 0x0000, 0x0005, 0.0)
    bench.hub.power_cut()
    assert (bench.hub.messages_to_send(), bench.hub.next_deadline()) == ([], None)
    assert bench.ask(ImageBlockRequest(0x121D, 0x0084, 2, 50, 50)).offset == 50
    assert bench.ask(UpgradeEndRequest(0, 0x121D, 0x0084, 2)).upgrade_time == UPGRADE_WAIT


def test_the_network_coming_and_going_is_no_event_of_the_hub():
    """It forgets nothing: devices and images are there when the network is back."""
    bench = Bench()
    bench.hub.offer(ppmid_image(), PPMID_EUI64, 0.0)
    assert bench.hub.network_down(1.0) == []
    assert bench.hub.network_up(0, 2.0) == []
    assert bench.ask(QUERY).status == Status.SUCCESS


# --- reading attributes -----------------------------------------------------------------------------------------------


def general(command, payload, sequence, control=0x18):
    """A general command as a device sends it."""
    return zcl.build_frame(zcl.Frame(control, None, sequence, command, payload))


def test_an_attribute_is_read_and_its_answer_reported():
    """The request names one attribute; OTA Upgrade is read from its client side."""
    bench = Bench()
    sequence = bench.hub.read_attribute(PPMID_SHORT, 0x0019, 0x0002, 10.0, endpoint=3)
    (message,) = bench.hub.messages_to_send()
    frame = zcl.parse_frame(message.payload)
    assert (message.peer, message.cluster, message.destination_endpoint) == (PPMID_SHORT, 0x0019, 3)
    assert (frame.control, frame.sequence, frame.command) == (0x18, sequence, zcl.READ_ATTRIBUTES)
    record = zcl.build_read_response([zcl.AttributeStatus(0x0002, 0, zcl.UINT32, 0xACDCACDC)])
    answer = general(zcl.READ_ATTRIBUTES_RESPONSE, record, sequence)
    assert bench.say(answer, peer=0x5555) == []
    assert bench.events == []
    assert bench.say(answer) == []
    assert bench.events == [AttributeRead(PPMID_SHORT, 0x0019, 2, sequence, 0, zcl.UINT32, 0xACDCACDC)]
    assert bench.say(answer) == []
    assert bench.events == []
    assert bench.hub.next_deadline() is None


@pytest.mark.parametrize(
    ("command", "payload", "expected"),
    [
        (0x01, b"\5\0\x86", AttributeRead(PPMID_SHORT, 0, 5, 1, 0x86, None, None)),
        (0x0B, b"\0\xc3", AttributeRead(PPMID_SHORT, 0, 5, 1, 0xC3, None, None)),
        (0x01, b"\5\0", ReadFailed(PPMID_SHORT, 0, 5, 1, "Read Attributes Response ends within a record")),
        (0x01, b"", ReadFailed(PPMID_SHORT, 0, 5, 1, "the answer does not have attribute 0x0005")),
        (0x01, b"\6\0\x86", ReadFailed(PPMID_SHORT, 0, 5, 1, "the answer does not have attribute 0x0005")),
        (0x0B, b"", ReadFailed(PPMID_SHORT, 0, 5, 1, "Default Response has 0 octets of payload, not 2")),
        (0x0B, b"\2\0", None),
    ],
)
def test_a_refusal_or_a_broken_answer_ends_the_read(command, payload, expected):
    """The status, or what is wrong with the answer, is reported; a Default Response to something else is not it."""
    bench = Bench()
    bench.hub.read_attribute(PPMID_SHORT, 0x0000, 0x0005, 10.0)
    bench.say(general(command, payload, 1), cluster=0x0000)
    assert bench.events == ([] if expected is None else [expected])


def test_a_read_without_an_answer_fails_at_its_time_out():
    """After read_timeout seconds, each by itself."""
    bench = Bench(read_timeout=15.0)
    bench.hub.read_attribute(PPMID_SHORT, 0, 5, 10.0)
    bench.hub.read_attribute(PPMID_SHORT, 0, 4, 12.0)
    assert bench.hub.next_deadline() == 25.0
    assert bench.hub.on_deadline(24.9) == []
    assert bench.hub.on_deadline(25.0) == [ReadFailed(PPMID_SHORT, 0, 5, 1, "no answer")]
    assert bench.hub.next_deadline() == 27.0


def test_reads_beyond_the_sequence_numbers_are_our_own_error():
    """256 may wait for their answers."""
    bench = Bench()
    sequences = {bench.hub.read_attribute(PPMID_SHORT, 0, 5, 0.0) for _ in range(256)}
    assert len(sequences) == 256
    with pytest.raises(LocalProtocolError, match="no ZCL sequence number is free"):
        bench.hub.read_attribute(PPMID_SHORT, 0, 5, 0.0)


# --- its own clusters -------------------------------------------------------------------------------------------------


def test_it_tells_the_time_and_who_it_is():
    """Basic and Time are read by anybody on the HAN."""
    bench = Bench()
    bench.now = 61.9
    for cluster, attribute, value in (
        (0x000A, 0x0000, UTC_2026 + 61),
        (0x000A, 0x0001, 0x09),
        (0x0000, 0x0005, "Communications Hub"),
    ):
        read = general(zcl.READ_ATTRIBUTES, zcl.build_read((attribute,)), 9, control=0x00)
        (message,) = bench.say(read, cluster=cluster, peer=0x5555)
        answer = zcl.parse_frame(message.payload)
        assert zcl.parse_read_response(answer.payload)[0].value == value


@pytest.mark.parametrize(("utc", "year"), [(UTC_2026, 2026), (None, 2000)])
def test_its_clock_is_for_who_asks(utc, year):
    """To the second; without a clock it counts from its start."""
    hub = Hub(HubConfig(ota=OtaServerConfig(utc_at_zero=utc)))
    assert hub.clock(61.9) == datetime(year, 1, 1, 0, 1, 1, tzinfo=UTC)


def test_without_a_clock_it_has_no_time_cluster():
    """A server that sends delays instead of times does not describe one."""
    assert Hub(HubConfig(ota=OtaServerConfig())).descriptors[0].server_clusters == (0x0000, 0x0019)
    assert Hub().descriptors[0].server_clusters == (0x0000, 0x000A, 0x0019)


@pytest.mark.parametrize(
    ("frame", "fields", "expected"),
    [
        (b"\x01\x09\x20", {}, (0x20, Status.UNSUP_CLUSTER_COMMAND)),
        (b"\x01\x09\x03\x00", {}, (0x03, Status.MALFORMED_COMMAND)),
        (b"\x09\x09\x05\x95", {}, (0x05, Status.UNSUPPORTED_CLUSTER)),
        (b"\x01\x09\x00", {"cluster": 0x0500}, (0x00, Status.UNSUPPORTED_CLUSTER)),
        (b"\x01\x09\x01", {"broadcast": True}, None),
        (b"\x01\x09\x01", {"group": 7}, None),
        (b"\x01\x09\x01", {"endpoint": 2}, None),
        (b"\x01\x09", {}, None),
        (b"", {}, None),
    ],
)
def test_what_it_does_not_know_is_refused(frame, fields, expected):
    """Unknown commands and clusters by a Default Response; no answer to broadcasts, other endpoints or scraps."""
    bench = Bench()
    if expected is None:
        assert bench.say(frame, **fields) == []
    else:
        assert bench.ask(frame, **fields) == expected


def test_a_secured_hub_serves_secured_requests_only():
    """With APS security on, an unsecured request gets NOT_AUTHORIZED; the answers are under the link key."""
    bench = Bench(secured=True)
    bench.hub.offer(ppmid_image(), PPMID_EUI64, 0.0)
    assert bench.ask(QUERY) == (0x01, Status.NOT_AUTHORIZED)
    (message,) = bench.say(QUERY, secured=True)
    assert message.secured
