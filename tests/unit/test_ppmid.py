"""The PPMID's behaviour: discovery, what it answers, and what its flash keeps."""

from __future__ import annotations

import random
import struct

import pytest

from harness.members.device_values import IN_HOME_DISPLAY
from harness.members.firmware_values import TEST_BROKER, AlertRaised
from harness.members.ppmid import Ppmid
from harness.wire import zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage, Restart, SimpleDescriptor
from harness.wire.gbcs_names import PPMID_FIRMWARE_ACTIVATION
from harness.wire.image import build_image
from harness.wire.ota_messages import (
    ImageBlock,
    QueryNextImageResponse,
    UpgradeEndResponse,
    build_message,
    parse_message,
)
from harness.wire.zcl import Status
from tests.unit.firmware_bench import activated
from tests.unit.ota_bench import HUB_EUI64, PPMID_SHORT, ppmid_config, ppmid_image, replace_peer, zdo_answer


class Bench:
    """A PPMID alone, on the network as soon as it is made."""

    def __init__(self, config=None, up=True):
        self.ppmid = Ppmid(config or ppmid_config(), random.Random(1))
        self.now = 0.0
        self.events = self.ppmid.network_up(PPMID_SHORT, 0.0) if up else []

    def say(self, payload, *, cluster=0x0019, peer=0, profile=SMART_ENERGY_PROFILE, endpoint=1, **fields):
        message = ApsMessage(peer, profile, cluster, 1, endpoint, payload, **fields)
        return self.ppmid.receive(message, self.now)

    def answer_zdo(self):
        for message in self.ppmid.messages_to_send():
            self.ppmid.receive(replace_peer(zdo_answer(replace_peer(message, PPMID_SHORT)), 0), self.now)

    def download(self, image, size=56):
        """From the discovery to the moment before the Upgrade End Response."""
        data = build_image(image)
        key = (image.manufacturer, image.image_type, image.version)
        self.answer_zdo()
        self.ppmid.on_deadline(self.now)
        self.say(build_message(QueryNextImageResponse(0, *key, len(data)), 1))
        for offset in range(0, len(data), size):
            self.say(build_message(ImageBlock(*key, offset, data[offset : offset + size]), 1))
        self.now += 1.0
        events = self.ppmid.on_deadline(self.now)
        self.ppmid.messages_to_send()
        return events


def test_its_endpoint_is_described_as_configured():
    """Smart Energy profile, In-Home Display unless told otherwise, Basic server, OTA client."""
    assert Bench().ppmid.descriptors == (
        SimpleDescriptor(1, SMART_ENERGY_PROFILE, IN_HOME_DISPLAY, 0, (0x0000,), (0x0019, 0x0702, 0x0705)),
    )
    config = ppmid_config()
    object.__setattr__(config, "device", 0x0506)  # ZSE table 5-13: Prepayment Terminal
    assert Bench(config).ppmid.descriptors[0].device == 0x0506


def test_it_finds_the_server_and_then_queries():
    """Match_Desc_req and IEEE_addr_req to the hub; both answers, and the first query goes to the endpoint found."""
    bench = Bench()
    sent = bench.ppmid.messages_to_send()
    assert [(message.peer, message.profile, message.cluster) for message in sent] == [
        (0, ZDO_PROFILE, 0x0006),
        (0, ZDO_PROFILE, 0x0001),
    ]
    match = struct.pack("<BBHBB", 1, 0, 0x0000, 1, 9)
    assert bench.say(match, cluster=0x8006, profile=ZDO_PROFILE, endpoint=0) == []
    assert bench.ppmid.next_deadline() == 5.0
    bench.say(struct.pack("<BBQH", 2, 0, HUB_EUI64, 0), cluster=0x8001, profile=ZDO_PROFILE, endpoint=0)
    assert bench.ppmid.next_deadline() == 0.0
    bench.ppmid.on_deadline(0.0)
    (query,) = bench.ppmid.messages_to_send()
    assert (query.peer, query.cluster, query.source_endpoint, query.destination_endpoint) == (0, 0x0019, 1, 9)
    assert bench.ppmid.client.server_eui64 == HUB_EUI64


def test_discovery_is_repeated_with_longer_and_longer_pauses():
    """5, 10, 20, 40 s, then every minute, until somebody answers."""
    bench = Bench()
    times = []
    for _ in range(7):
        times.append(bench.ppmid.next_deadline())
        bench.ppmid.on_deadline(times[-1])
        assert len(bench.ppmid.messages_to_send()) in (2, 4)
    assert times == [5.0, 15.0, 35.0, 75.0, 135.0, 195.0, 255.0]


@pytest.mark.parametrize(
    ("cluster", "payload", "peer"),
    [
        (0x8006, b"", 0),
        (0x8006, struct.pack("<BBHBB", 1, 0, 0, 1, 9), 0x5555),
        (0x8006, struct.pack("<BBHBB", 1, 0x81, 0, 1, 9), 0),
        (0x8006, struct.pack("<BBHB", 1, 0, 0, 0), 0),
        (0x8006, struct.pack("<BBHBB", 1, 0, 0x77, 1, 9), 0),
        (0x8001, struct.pack("<BBQ", 1, 0, 5), 0),
        (0x8001, struct.pack("<BBQH", 1, 0x81, 5, 0), 0),
        (0x8001, struct.pack("<BBQH", 1, 0, 5, 0x77), 0),
        (0x0013, bytes(12), 0),
    ],
)
def test_an_answer_that_is_none_does_not_end_the_discovery(cluster, payload, peer):
    """Cut off, from a stranger, about another node, or without a match: it goes on looking."""
    bench = Bench()
    bench.say(payload, cluster=cluster, profile=ZDO_PROFILE, endpoint=0, peer=peer)
    bench.ppmid.messages_to_send()
    bench.ppmid.on_deadline(5.0)
    assert [message.cluster for message in bench.ppmid.messages_to_send()] == [0x0006, 0x0001]


def test_a_configured_endpoint_is_not_looked_for():
    """Only the hub's EUI-64 is asked for then."""
    config = ppmid_config()
    object.__setattr__(config, "server_endpoint", 3)
    bench = Bench(config)
    assert [message.cluster for message in bench.ppmid.messages_to_send()] == [0x0001]
    bench.say(struct.pack("<BBQH", 1, 0, HUB_EUI64, 0), cluster=0x8001, profile=ZDO_PROFILE, endpoint=0)
    bench.ppmid.on_deadline(0.0)
    assert bench.ppmid.messages_to_send()[0].destination_endpoint == 3


def test_it_activates_by_itself_and_says_what_it_runs():
    """FW-08: verified, told now, dark for activation_seconds; the flash changes over at the boot that follows."""
    bench = Bench()
    image = ppmid_image(version=2)
    bench.download(image)
    bench.say(build_message(UpgradeEndResponse(0x121D, 0x0084, 2, 0, 0), 1))
    bench.now += 3.0
    events = bench.ppmid.on_deadline(bench.now)
    assert events[-1] == Restart(30.0)
    assert (bench.ppmid.running_version, bench.ppmid.flash.firmware.changing) == (1, True)
    assert bench.ppmid.next_deadline() is None
    alert = AlertRaised(PPMID_FIRMWARE_ACTIVATION, TEST_BROKER, 1)
    assert bench.ppmid.network_up(PPMID_SHORT, bench.now + 30.0) == [activated(2), alert]
    assert (bench.ppmid.running_version, bench.ppmid.flash.firmware.changing) == (2, False)
    assert bench.ppmid.flash.download.version is None
    assert bench.ppmid.network_up(PPMID_SHORT, bench.now + 60.0) == []


def test_a_power_cut_while_it_changes_over_still_ends_with_the_new_image():
    """The boot loader takes up the change again, and the activation is reported once."""
    bench = Bench()
    bench.download(ppmid_image(version=2))
    bench.say(build_message(UpgradeEndResponse(0x121D, 0x0084, 2, 0, 0), 1))
    bench.ppmid.on_deadline(bench.now + 3.0)
    bench.ppmid.power_cut()
    bench.ppmid.power_cut()
    assert bench.ppmid.running_version == 2
    assert bench.ppmid.network_up(PPMID_SHORT, 100.0)[0] == activated(2)


@pytest.mark.parametrize(
    "fields",
    [{"hardware_min": 0x1181}, {"hardware_max": 0x1100, "hardware_min": 0x1000}],
)
def test_an_image_for_other_hardware_is_refused(fields):
    """The header's range does not have this device: INVALID_IMAGE, nothing kept."""
    bench = Bench()
    verified, rejected = bench.download(ppmid_image(version=2, **fields))
    assert not verified.good
    assert "hardware versions" in rejected.reason
    assert bench.ppmid.flash.download.version is None


@pytest.mark.parametrize(
    ("offset", "octets"), [(0, b"X"), (10, b"\0"), (12, b"\0"), (14, b"\3"), (52, b"\xff")]
)
def test_a_header_that_does_not_fit_is_refused(offset, octets):
    """Magic, manufacturer, type, version or length: the file is not run."""
    bench = Bench()
    data = bytearray(build_image(ppmid_image(version=2)))
    data[offset : offset + 1] = octets
    bench.ppmid.flash.download.version = 2
    assert not bench.ppmid._verify(bytes(data))


def test_leaving_the_network_stops_every_request():
    """No deadline and no message until it is back; then it looks for its server again."""
    bench = Bench()
    bench.answer_zdo()
    assert bench.ppmid.network_down(1.0) == []
    assert (bench.ppmid.next_deadline(), bench.ppmid.messages_to_send()) == (None, [])
    bench.ppmid.network_up(PPMID_SHORT, 50.0)
    assert len(bench.ppmid.messages_to_send()) == 2


def test_a_power_cut_keeps_flash_and_nothing_else():
    """Version and partial file survive; what waited to be sent does not."""
    bench = Bench()
    bench.answer_zdo()
    bench.ppmid.on_deadline(0.0)
    bench.say(build_message(QueryNextImageResponse(0, 0x121D, 0x0084, 2, 300), 1))
    bench.say(build_message(ImageBlock(0x121D, 0x0084, 2, 0, bytes(56)), 1))
    bench.ppmid.power_cut()
    assert bench.ppmid.messages_to_send() == []
    assert (bench.ppmid.flash.download.version, len(bench.ppmid.flash.download.data)) == (2, 56)
    again = Ppmid(ppmid_config(), random.Random(1), bench.ppmid.flash)
    assert again.flash.download.data == bytes(56)


def read(bench, cluster, attribute, control=0, **fields):
    """One attribute of the PPMID, as its answer has it."""
    payload = zcl.build_frame(zcl.Frame(control, None, 7, zcl.READ_ATTRIBUTES, zcl.build_read((attribute,))))
    assert bench.say(payload, cluster=cluster, peer=0x5555, **fields) == []
    answers = [message for message in bench.ppmid.messages_to_send() if message.profile != ZDO_PROFILE]
    if not answers:
        return None
    ((message),) = answers
    assert (message.peer, message.cluster, message.destination_endpoint) == (0x5555, cluster, 1)
    return zcl.parse_read_response(zcl.parse_frame(message.payload).payload)[0]


def test_attributes_are_read_over_the_han():
    """Basic on its server side, CurrentFileVersion on the client side of OTA Upgrade, by whoever asks."""
    bench = Bench()
    assert read(bench, 0x0000, 0x0005).value == "PPMID"
    assert read(bench, 0x0019, 0x0002, zcl.FROM_SERVER).value == 1
    assert read(bench, 0x0019, 0x0008, zcl.FROM_SERVER, endpoint=0xFF).value == 0x0084
    assert read(bench, 0x0000, 0x0005, endpoint=2) is None
    assert read(bench, 0x0000, 0x0005, profile=0x0104) is None
    assert read(bench, 0x0000, 0x0005, broadcast=True) is None


@pytest.mark.parametrize("payload", [b"", b"\x01", b"\x02\0\0", b"\x05\0\0\0"])
def test_a_frame_without_a_header_is_passed_over(payload):
    """There is nothing to answer to."""
    bench = Bench()
    bench.ppmid.messages_to_send()
    assert bench.say(payload) == []
    assert bench.ppmid.messages_to_send() == []


def test_a_stranger_is_answered_at_its_own_endpoint():
    """NOT_AUTHORIZED goes where the message came from, not to the server."""
    bench = Bench()
    bench.answer_zdo()
    bench.say(build_message(ImageBlock(0x121D, 0x0084, 2, 0, b"x"), 1), peer=0x5555)
    (message,) = bench.ppmid.messages_to_send()
    assert (message.peer, message.destination_endpoint) == (0x5555, 1)
    status = zcl.parse_default_response(zcl.parse_frame(message.payload).payload)
    assert status == (0x05, Status.NOT_AUTHORIZED)


def test_a_request_of_a_client_is_for_no_cluster_of_its():
    """A Query Next Image Request to a PPMID, which serves no images: UNSUPPORTED_CLUSTER."""
    bench = Bench()
    bench.ppmid.messages_to_send()
    bench.say(b"\x01\x05\x01\0")
    (message,) = bench.ppmid.messages_to_send()
    assert zcl.parse_frame(message.payload).payload == bytes((0x01, Status.UNSUPPORTED_CLUSTER))


def test_a_secured_ppmid_acts_on_secured_messages_only():
    """With APS security on, OTA goes out under the link key, and an unsecured answer is refused."""
    config = ppmid_config()
    object.__setattr__(config, "secured", True)
    bench = Bench(config)
    bench.answer_zdo()
    bench.ppmid.on_deadline(0.0)
    (query,) = bench.ppmid.messages_to_send()
    assert query.secured
    found = build_message(QueryNextImageResponse(0, 0x121D, 0x0084, 2, 300), 1)
    assert bench.say(found) == []
    (refusal,) = bench.ppmid.messages_to_send()
    assert zcl.parse_frame(refusal.payload).payload == bytes((0x02, Status.NOT_AUTHORIZED))
    assert bench.say(found, broadcast=True) == []
    assert bench.ppmid.messages_to_send() == []
    assert len(bench.say(found, secured=True)) == 1
    assert parse_message(zcl.parse_frame(bench.ppmid.messages_to_send()[0].payload)).offset == 0
