"""A sleepy GSME at the hub: its own tunnel, its mailbox, and the flags that it reads when it wakes."""

from __future__ import annotations

import random

import pytest

from harness.members.hub import DeliveryRefused, WanMessage
from harness.members.hub_values import CommandNotRetrieved, GsmeDataRefused
from harness.members.image_store_values import ImageTransferred
from harness.members.ppmid import Ppmid
from harness.members.security import UnsecuredRefused
from harness.members.tunnels import MessageReceived
from harness.wire import zcl
from harness.wire.clusters import METERING_CLUSTER, NEW_OTA_FIRMWARE, TUNNEL_MESSAGE_PENDING
from harness.wire.gbcs import parse_message as parse_gbcs
from harness.wire.gbcs_payloads import FirmwareTransfer, TransferResponse, parse_payload
from harness.wire.image import OtaImage, build_image, parse_image
from harness.wire.ota_client_values import DownloadAborted
from harness.wire.ota_messages import UPGRADE_WAIT
from harness.wire.ota_server import TransferProgressed
from harness.wire.tunnel import MessageLost, TunnelClosed, TunnelOpened
from harness.wire.tunnel_mailbox import Get, GetResponse, Put, build_gsme_data, parse_gsme_data
from harness.wire.tunnel_messages import (
    TUNNELING_CLUSTER,
    RequestTunnel,
    RequestTunnelResponse,
    TransferData,
    TransferDataError,
    TransferStatus,
    build_message,
    parse_message,
)
from tests.unit import firmware_bench
from tests.unit.firmware_bench import HASH, activated, cs06
from tests.unit.hub_bench import DEVICES, DSP, ESME, GSME, PPMID, SHORTS, HubBench, image
from tests.unit.meter_bench import meter
from tests.unit.secured_han import GSME as HAN_GSME
from tests.unit.secured_han import HUB as HAN_HUB
from tests.unit.secured_han import PPMID as HAN_PPMID
from tests.unit.secured_han import SecuredHan, hub_config, ppmid_config

REQUEST = RequestTunnel(6, 0xFFFF, False, 1500)
DAY = 24 * 3600.0


class GsmeBench(HubBench):
    """A hub with a GSME, and whatever else."""

    def __init__(self, *kinds, **config):
        super().__init__(GSME, *kinds, secured=True, **config)
        self.number = 0

    def tunnel(self, message, kind=GSME):
        """Let a device say something as a Tunneling client; return what it is answered, Default Responses left out."""
        self.number += 1
        answers = self.hear(
            kind, build_message(message, self.number, from_server=False), cluster=TUNNELING_CLUSTER
        )
        return [parse_message(frame) for _, _, frame in answers if frame.control & zcl.CLUSTER_COMMAND]

    def open(self, most=1500):
        """Let the GSME open its tunnel."""
        (response,) = self.tunnel(RequestTunnel(6, 0xFFFF, False, most))
        return response.tunnel

    def get(self, tunnel, *, confirms=True):
        """Let the GSME ask for a message, and confirm that it has it where it is asked to."""
        self.number += 1
        get = build_message(TransferData(tunnel, build_gsme_data(Get())), self.number, from_server=False)
        ((_, _, frame),) = self.hear(GSME, get, cluster=TUNNELING_CLUSTER)
        if confirms and zcl.default_response_due(frame, zcl.Status.SUCCESS, unicast=True):
            fetched = self.events
            assert self.hear(GSME, zcl.default_response(frame, 0), cluster=TUNNELING_CLUSTER) == []
            self.events = fetched + self.events
        self.answered = frame
        return parse_gsme_data(parse_message(frame).data)

    def flags(self, kind=GSME):
        """Let a device read its Functional Notification Flags of the hub."""
        read = zcl.Frame(zcl.FROM_SERVER, None, 9, zcl.READ_ATTRIBUTES, zcl.build_read((0,)))
        ((_, _, frame),) = self.hear(kind, zcl.build_frame(read), cluster=METERING_CLUSTER)
        (record,) = zcl.parse_read_response(frame.payload)
        return record.value

    def post(self, octets):
        """Deliver a command for the GSME."""
        return self.hub.deliver_command(DEVICES[GSME], octets, self.now)


def test_the_hub_grants_a_gsme_its_tunnel_and_answers_get():
    """JN-04: protocol 6, manufacturer 0xFFFF, 1500 octets; the oldest message first, with how many remain."""
    bench = GsmeBench()
    assert bench.tunnel(REQUEST) == [RequestTunnelResponse(0, 0, 1500)]
    assert bench.events == [TunnelOpened(DEVICES[GSME], 0, 1500)]
    assert bench.get(0) == GetResponse(0, b"")
    assert bench.post(b"first") == bench.post(b"second") == []
    assert bench.sent() == []
    assert bench.get(0) == GetResponse(1, b"first")
    assert bench.get(0) == GetResponse(0, b"second")
    assert bench.get(0) == GetResponse(0, b"")


def test_a_get_response_that_is_lost_comes_again():
    """FW-16: until the GSME has confirmed it, a message waits, with its flag, and behind it nothing changes."""
    bench = GsmeBench()
    tunnel = bench.open()
    bench.post(b"first")
    bench.post(b"second")
    assert bench.get(tunnel, confirms=False) == GetResponse(1, b"first")
    late = bench.answered
    assert bench.flags() == TUNNEL_MESSAGE_PENDING
    assert bench.get(tunnel, confirms=False) == GetResponse(1, b"first")
    for word in (
        zcl.default_response(late, 0),  # to the first GET-RESPONSE, which another one has followed
        zcl.default_response(bench.answered, zcl.Status.FAILURE),
        zcl.default_response(bench.answered._replace(command=0x06), 0),
        zcl.default_response(bench.answered, 0)[:-1],
    ):
        bench.hear(GSME, word, cluster=TUNNELING_CLUSTER)
    assert bench.get(tunnel) == GetResponse(1, b"first")
    bench.hear(GSME, zcl.default_response(bench.answered, 0), cluster=TUNNELING_CLUSTER)  # once more
    assert bench.get(tunnel) == GetResponse(0, b"second")
    assert bench.flags() == 0


def test_a_get_response_that_the_gsme_has_no_tunnel_for_comes_again():
    """A Default Response says that the frame came, and Transfer Data Error that nobody took what was in it."""
    bench = GsmeBench()
    tunnel = bench.open()
    bench.post(b"waiting")
    bench.get(tunnel, confirms=False)
    sent = bench.answered
    bench.tunnel(TransferDataError(tunnel, TransferStatus.NO_SUCH_TUNNEL))
    bench.hear(GSME, zcl.default_response(sent, 0), cluster=TUNNELING_CLUSTER)
    assert bench.get(bench.open()) == GetResponse(0, b"waiting")


@pytest.mark.parametrize("gone", ["removed", "too old"])
def test_a_confirmation_of_a_message_that_is_gone_confirms_no_other(gone):
    """What waits behind it, or came later, is not thrown away by it."""
    bench = GsmeBench()
    tunnel = bench.open()
    bench.post(b"old")
    bench.get(tunnel, confirms=False)
    if gone == "removed":
        bench.hub.remove(DEVICES[GSME], bench.now)
        bench.hub.admit(DEVICES[GSME], GSME, bytes(16), 600, bench.now)
        bench.hub.flash.keyed.append(DEVICES[GSME])
        bench.announce(GSME)
    bench.now += 10.0
    bench.post(b"new")
    bench.hub.on_deadline(10.0 + DAY)
    bench.hear(GSME, zcl.default_response(bench.answered, 0), cluster=TUNNELING_CLUSTER)
    assert bench.get(bench.open()) == GetResponse(0, b"new")


def test_what_a_gsme_puts_goes_up():
    """PUT 0x03 and the message, without its header."""
    bench = GsmeBench()
    tunnel = bench.open()
    assert bench.tunnel(TransferData(tunnel, build_gsme_data(Put(b"response")))) == []
    assert bench.events == [WanMessage(DEVICES[GSME], b"response")]


@pytest.mark.parametrize("octets", [b"\x04", b"\x01\x00", b"\x02", b"\x02\x00late", b"\x03"])
def test_what_is_neither_get_nor_put_is_refused(octets):
    """Nothing goes up, and what waits goes on waiting."""
    bench = GsmeBench()
    tunnel = bench.open()
    bench.post(b"waiting")
    bench.tunnel(TransferData(tunnel, octets))
    assert [type(event) for event in bench.events] == [GsmeDataRefused]
    assert bench.get(tunnel) == GetResponse(0, b"waiting")


def test_a_message_that_the_tunnel_does_not_take_is_lost_and_the_next_one_comes():
    """The GSME stated fewer octets than the message has."""
    bench = GsmeBench()
    tunnel = bench.open(most=20)
    bench.post(bytes(30))
    bench.post(b"short")
    assert bench.get(tunnel) == GetResponse(0, b"short")
    assert bench.events == [MessageLost(DEVICES[GSME], bytes(30))]


def test_a_command_that_is_not_fetched_in_a_day_is_gone():
    """0x819D, GSME Command Not Retrieved, each message by itself."""
    bench = GsmeBench()
    bench.post(b"first")
    bench.now += 10.0
    bench.post(b"second")
    due = 10.0 + DAY
    assert bench.hub.next_deadline() <= due
    assert bench.hub.on_deadline(due - 0.1) == []
    assert bench.hub.on_deadline(due) == [CommandNotRetrieved(DEVICES[GSME], b"first", 0x819D)]
    assert bench.flags() & TUNNEL_MESSAGE_PENDING
    assert bench.hub.on_deadline(due + 10.0) == [CommandNotRetrieved(DEVICES[GSME], b"second")]
    assert bench.flags() == 0


def test_the_flags_say_what_waits_for_who_reads_them():
    """FW-16: bit 0 for an image, bit 21 for a message, each reader its own; no bit of the other's."""
    bench = GsmeBench(ESME)
    assert (bench.flags(), bench.flags(ESME)) == (0, 0)
    bench.deliver(ESME)
    assert (bench.flags(), bench.flags(ESME)) == (0, NEW_OTA_FIRMWARE)
    bench.deliver(GSME)
    bench.post(b"command")
    assert bench.flags() == 1 << 0 | 1 << 21
    bench.get(bench.open())
    assert bench.flags() == NEW_OTA_FIRMWARE
    bench.fetch(GSME)
    assert bench.flags() == NEW_OTA_FIRMWARE
    assert bench.end(GSME).upgrade_time == UPGRADE_WAIT
    assert (bench.flags(), bench.flags(ESME)) == (0, NEW_OTA_FIRMWARE)


def test_the_flag_is_set_for_an_offer_of_the_bench_until_it_is_fetched():
    """The bench's direct way tells a GSME as the hub's own does, and by no Image Notify."""
    bench = GsmeBench()
    bench.query(GSME)
    bench.hub.offer(parse_image(image(GSME)), DEVICES[GSME], bench.now, upgrade_at=UPGRADE_WAIT)
    assert bench.sent() == []
    assert bench.flags() == NEW_OTA_FIRMWARE
    bench.fetch(GSME)
    assert bench.flags() == NEW_OTA_FIRMWARE
    bench.end(GSME)
    assert bench.flags() == 0


def test_the_flags_are_for_members_with_a_key():
    """Under the link key only, as all of Smart Energy."""
    bench = GsmeBench()
    bench.secured = False
    bench.hear(GSME, b"\x08\x01\x00\x00\x00", cluster=METERING_CLUSTER)
    assert [type(event) for event in bench.events] == [UnsecuredRefused]


def test_a_gsme_that_rejoins_opens_a_new_tunnel_and_finds_what_waited():
    """GBCS 10.2.2.1: whoever rejoins knows of no tunnel."""
    bench = GsmeBench()
    old = bench.open()
    bench.post(b"waiting")
    bench.announce(GSME)
    bench.tunnel(TransferData(old, build_gsme_data(Get())))
    assert bench.flags() == TUNNEL_MESSAGE_PENDING
    assert bench.get(bench.open()) == GetResponse(0, b"waiting")


def test_a_tunnel_without_traffic_is_closed():
    """After CloseTunnelTimeout, 0xFFFF s."""
    bench = GsmeBench()
    bench.open()
    assert bench.hub.next_deadline() == 10.0 + 0xFFFF
    (closed,) = bench.hub.on_deadline(10.0 + 0xFFFF)
    assert isinstance(closed, TunnelClosed)


def test_what_a_gsme_says_as_a_server_is_not_acted_on():
    """The hub is no client of a GSME: data from the wrong end of the tunnel goes nowhere."""
    bench = GsmeBench()
    tunnel = bench.open()
    wrong = build_message(TransferData(tunnel, build_gsme_data(Put(b"up"))), 9, from_server=True)
    assert bench.hear(GSME, wrong, cluster=TUNNELING_CLUSTER) == []
    assert bench.events == []


def test_others_are_not_granted_a_tunnel():
    """The hub is Tunneling server of its GSME alone; another's request is answered as an unknown command."""
    bench = GsmeBench(PPMID)
    assert bench.tunnel(REQUEST, PPMID) == []
    assert not [event for event in bench.events if isinstance(event, TunnelOpened)]


def test_a_gsme_out_of_the_log_loses_what_waits_for_it():
    """Its messages, each named, and its tunnel."""
    bench = GsmeBench()
    bench.open()
    bench.post(b"waiting")
    events = bench.hub.remove(DEVICES[GSME], bench.now)
    assert MessageLost(DEVICES[GSME], b"waiting") in events
    assert isinstance(bench.post(b"more")[0], DeliveryRefused)
    assert bench.hub.next_deadline() is None


def test_a_power_cut_of_the_hub_empties_the_mailbox():
    """Assumed. The tunnel is gone as well, which the GSME learns when it uses it."""
    bench = GsmeBench()
    tunnel = bench.open()
    bench.post(b"waiting")
    bench.cut_power()
    assert bench.flags() == 0
    (error,) = bench.tunnel(TransferData(tunnel, build_gsme_data(Get())))
    assert error.status == 0  # no such tunnel
    assert SHORTS[DEVICES[GSME]] == bench.hub.devices[0].short


# --- with a GSME and a PPMID ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["GET-RESPONSE", "confirmation"])
def test_a_command_reaches_a_gsme_whose_get_response_or_confirmation_is_lost(lost):
    """FW-16: it asks again when it wakes up next, as the flag is still set."""
    han = SecuredHan(hub=hub_config(eui64=HAN_HUB, wan_party=DSP), devices={HAN_GSME: meter(HAN_GSME)})
    han._record(HAN_HUB, han.hub.admit(HAN_GSME, GSME, bytes(16), 3600, 0.0))
    han.run(300.0)
    dropped = []

    def lose(sender, message):
        if message.cluster != TUNNELING_CLUSTER or dropped:
            return False
        frame = zcl.parse_frame(message.payload)
        if lost == "GET-RESPONSE":
            hit = sender == HAN_HUB and frame.control & zcl.CLUSTER_COMMAND and frame.command == 0x01
        else:
            hit = sender == HAN_GSME and not frame.control & zcl.CLUSTER_COMMAND
        dropped.extend([message] if hit else [])
        return bool(hit)

    han.lose = lose
    assert han.hub.deliver_command(HAN_GSME, b"command", han.now) == []
    han.run(6000.0)
    assert len(dropped) == 1
    received = han.of(HAN_GSME, MessageReceived)
    assert received == [MessageReceived(HAN_HUB, b"command")] * (1 if lost == "GET-RESPONSE" else 2)
    assert not han.hub._sessions.gsmes.pending(HAN_GSME)


def test_a_gsmes_image_overwrites_a_ppmids_download_and_is_fetched_at_its_wake_up():
    """AH-04, FW-16, JN-04: CCS08 for the loss, the flag for the GSME, its image, CCS08 for that, and CS06 by GET."""
    han = SecuredHan(
        hub=hub_config(eui64=HAN_HUB, wan_party=DSP),
        devices={HAN_GSME: meter(HAN_GSME), HAN_PPMID: Ppmid(ppmid_config(), random.Random(1))},
    )
    for eui64, kind in ((HAN_GSME, GSME), (HAN_PPMID, PPMID)):
        han._record(HAN_HUB, han.hub.admit(eui64, kind, bytes(16), 3600, 0.0))
    han.run(300.0)
    data = build_image(OtaImage(0x121D, 0x0084, 2, bytes(20_000)))
    han._record(HAN_HUB, han.hub.deliver_image(data, HAN_PPMID, han.now))
    assert han.run(400.0, lambda event: isinstance(event, TransferProgressed) and event.offset > 5000)
    han._record(HAN_HUB, han.hub.deliver_image(firmware_bench.file(), HAN_GSME, han.now))
    assert han.run(400.0, lambda event: isinstance(event, DownloadAborted))
    assert han.run(2500.0, lambda event: isinstance(event, ImageTransferred))
    han._record(HAN_HUB, han.hub.deliver_command(HAN_GSME, cs06(HASH, 1, recipient=HAN_GSME), han.now))
    assert han.run(5000.0, lambda event: event == activated(firmware_bench.NEW))
    told = [
        (payload.target, payload.response)
        for event in han.of(HAN_HUB, WanMessage)
        if isinstance(payload := parse_payload(parse_gbcs(event.octets)), FirmwareTransfer)
    ]
    assert told == [
        (HAN_PPMID, TransferResponse.IMAGE_DISCARDED),
        (HAN_GSME, TransferResponse.SUCCESS),
    ]
    assert han.members[HAN_PPMID].running_version == 1
    assert not han.of(HAN_GSME, UnsecuredRefused)
