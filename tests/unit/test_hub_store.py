"""The hub between WAN and HAN: what is delivered waits in its store, is served, gives way, and is told of."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from harness.errors import LocalProtocolError
from harness.members.device_log import EntryRemoved
from harness.members.hub import DeliveryRefused
from harness.members.hub_values import DeliveryRefusal
from harness.members.image_store_values import (
    DEFAULT_PRECEDENCE,
    DiscardCause,
    ImageDiscarded,
    ImageExpired,
    ImageLost,
    ImageRefused,
    ImageStored,
    ImageTransferred,
    RefusalReason,
    StorePolicy,
    TransferFailed,
    Verdict,
)
from harness.wire.image import build_image, parse_image
from harness.wire.ota_client_values import DownloadAborted, DownloadStarted
from harness.wire.ota_messages import (
    ABORT,
    NO_IMAGE_AVAILABLE,
    UPGRADE_WAIT,
    BlockRefusal,
    ImageNotify,
    QueryNextImageResponse,
    UpgradeEndResponse,
    WaitForData,
    parse_message,
)
from harness.wire.ota_server import ImageWithdrawn, TransferProgressed, UpgradeEnded
from harness.wire.utc import UTC_2026
from tests.unit.firmware_bench import activated
from tests.unit.hub_bench import (
    BRIDGE,
    DEVICES,
    DSP,
    ESME,
    GSME,
    HCALCS,
    HUB,
    IHD,
    LINK_KEY,
    MAKER,
    PPMID,
    SHORTS,
    SIZE,
    HubBench,
    image,
    image_type,
)
from tests.unit.ota_bench import PPMID_EUI64, Han, ppmid_image

NOTHING = QueryNextImageResponse(NO_IMAGE_AVAILABLE)
INVALID_IMAGE = 0x96


def offered(kind, version=2):
    """The answer to a query that offers an image."""
    return QueryNextImageResponse(0, MAKER, image_type(kind), version, SIZE)


def lost(kind, version=2, response="IMAGE_DISCARDED"):
    """An alert of what did not reach its device."""
    return (0x8F89, DEVICES[kind], version, response)


def test_an_image_is_delivered_fetched_and_told_of():
    """FW-06, AH-15: stored is one word, transferred another with CCS08; who activates by itself is told now."""
    bench = HubBench(PPMID)
    assert bench.deliver(PPMID) == [ImageStored(DEVICES[PPMID], 2)]
    assert bench.query(PPMID) == offered(PPMID)
    for offset in (0, 50, 100, 150):
        assert bench.block(PPMID, offset).offset == offset
    assert bench.hub.firmware.store.get(DEVICES[PPMID]).offset == SIZE
    bench.now = 70.5
    assert bench.end(PPMID) == UpgradeEndResponse(MAKER, image_type(PPMID), 2, UTC_2026 + 70, UTC_2026 + 70)
    assert UpgradeEnded(DEVICES[PPMID], MAKER, image_type(PPMID), 2, 0) in bench.events
    assert ImageTransferred(DEVICES[PPMID], 2) in bench.events
    ((message, payload),) = bench.told()
    assert (message.originator, message.recipient, message.originator_counter) == (HUB, DSP, 1)
    assert (message.message_code, payload.time) == (0x0128, datetime(2026, 1, 1, 0, 1, 10, tzinfo=UTC))
    assert bench.alerts() == [(0x8F8A, DEVICES[PPMID], 2, "SUCCESS")]
    assert bench.hub.firmware.store.waiting == ()
    assert bench.query(PPMID) == NOTHING


@pytest.mark.parametrize("last", ["store", "bench"])
def test_what_was_offered_last_goes_first_after_a_power_cut_too(last):
    """A device that the store and the bench both have something for is offered what came last."""
    bench = HubBench(PPMID)
    for whose in ("bench", "store") if last == "store" else ("store", "bench"):
        if whose == "store":
            bench.deliver(PPMID, 7)
        else:
            bench.hub.offer(parse_image(image(PPMID, 9)), DEVICES[PPMID], bench.now)
    version = 7 if last == "store" else 9
    assert bench.query(PPMID) == offered(PPMID, version)
    for _ in range(2):
        bench.cut_power()
        bench.announce(PPMID)
        assert bench.query(PPMID) == offered(PPMID, version)
    bench.hub.offer(parse_image(image(PPMID, 8)), DEVICES[PPMID], bench.now)  # in place of the earlier one
    bench.cut_power()
    assert bench.query(PPMID) == offered(PPMID, 8)
    bench.hub.withdraw(DEVICES[PPMID])
    bench.cut_power()
    assert bench.query(PPMID) == offered(PPMID, 7)


def test_a_hub_with_nobody_on_the_wan_only_reports():
    """Without a party to tell, what becomes of an image is an event and no message."""
    bench = HubBench(PPMID, wan_party=None)
    bench.deliver(PPMID)
    bench.fetch(PPMID)
    bench.end(PPMID)
    assert ImageTransferred(DEVICES[PPMID], 2) in bench.events
    assert bench.told() == []


STAGES = {"waiting": None, "asked": 0, "half way": 100, "all octets gone": SIZE}
OVERWRITTEN = [
    (GSME, BRIDGE), (GSME, PPMID), (GSME, HCALCS), (PPMID, HCALCS), (HCALCS, PPMID), (BRIDGE, HCALCS),
    (HCALCS, BRIDGE), (BRIDGE, PPMID), (PPMID, BRIDGE),
]  # fmt: skip


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize(("arriving", "waiting"), OVERWRITTEN)
def test_an_image_is_overwritten_at_any_point_of_its_transfer(arriving, waiting, stage):
    """AH-03 to AH-05: ABORT in mid transfer, then no image; the loss is alerted; the other device gets its own."""
    bench = HubBench(arriving, waiting)
    bench.deliver(waiting, 7)
    upto = STAGES[stage]
    if upto is not None:
        bench.fetch(waiting, upto, 7)
    begun = upto or None  # no octet went before the first block
    events = bench.deliver(arriving, 9)
    target = DEVICES[waiting]
    assert events[0] == ImageDiscarded(target, 7, DiscardCause.OVERWRITTEN, DEVICES[arriving], begun)
    assert ImageWithdrawn(target, 7, begun or 0) in events
    assert ImageStored(DEVICES[arriving], 9) in events
    assert bench.alerts() == [lost(waiting, 7)]
    bench.hub.messages_to_send()
    if begun:
        assert bench.block(waiting, 150, 7) == BlockRefusal(ABORT)
        assert bench.end(waiting, 0, 7) == (0x06, ABORT)
    else:
        assert bench.block(waiting, 0, 7) == (0x03, NO_IMAGE_AVAILABLE)
    assert not [event for event in bench.events if isinstance(event, ImageTransferred)]
    assert bench.query(waiting) == NOTHING
    bench.fetch(arriving, version=9)
    bench.end(arriving, version=9)
    assert bench.alerts() == [(0x8F8A, DEVICES[arriving], 9, "SUCCESS")]


@pytest.mark.parametrize("arriving", [PPMID, BRIDGE, HCALCS])
def test_an_image_for_another_does_not_displace_the_gsmes(arriving):
    """AH-06: it is refused, which is told; the GSME fetches its own undisturbed."""
    bench = HubBench(GSME, arriving)
    bench.deliver(GSME, 7)
    bench.fetch(GSME, 100, 7)
    (refused, *_) = bench.deliver(arriving, 9)
    assert (refused.target, refused.reason) == (DEVICES[arriving], RefusalReason.PRECEDENCE)
    assert bench.alerts() == [lost(arriving, 9)]
    assert bench.query(arriving) == NOTHING
    bench.block(GSME, 100, 7)
    bench.block(GSME, 150, 7)
    bench.end(GSME, 0, 7)
    assert bench.alerts() == [(0x8F8A, DEVICES[GSME], 7, "SUCCESS")]


def test_an_esmes_image_has_a_place_of_its_own():
    """Assumed policy: the GSME's leaves it alone; both are fetched at the same time."""
    bench = HubBench(ESME, GSME)
    bench.deliver(ESME)
    bench.deliver(GSME)
    assert bench.alerts() == []
    bench.query(ESME)
    bench.query(GSME)
    for offset in (0, 50, 100, 150):
        assert bench.block(ESME, offset).offset == bench.block(GSME, offset).offset == offset
    bench.end(ESME)
    bench.end(GSME)
    assert bench.alerts() == [(0x8F8A, DEVICES[GSME], 2, "SUCCESS")]
    assert bench.hub.firmware.store.waiting == ()


@pytest.mark.parametrize("status", [0, INVALID_IMAGE, ABORT])
def test_the_end_of_an_overwritten_transfer_is_not_the_end_of_the_next(status):
    """A client is late with its Upgrade End: the image of the same version for the same device goes on waiting."""
    bench = HubBench(PPMID)
    bench.deliver(PPMID, payload=bytes(100))
    bench.fetch(PPMID)
    bench.deliver(PPMID, payload=bytes(range(100)))
    bench.hub.messages_to_send()
    bench.end(PPMID, status)
    assert bench.alerts() == []
    assert bench.hub.firmware.store.get(DEVICES[PPMID]).failures == 0
    assert bench.query(PPMID) == offered(PPMID)
    assert bench.block(PPMID, 100).data == bytes(range(40, 90))


@pytest.mark.parametrize("status", [INVALID_IMAGE, ABORT])
def test_a_transfer_that_fails_is_told_and_the_image_is_gone(status):
    """FW-06: File Transfer Failure, by default after the first."""
    bench = HubBench(PPMID)
    bench.deliver(PPMID)
    bench.fetch(PPMID)
    bench.end(PPMID, status)
    assert bench.alerts() == [lost(PPMID, response="FILE_TRANSFER_FAILURE")]
    assert bench.query(PPMID) == NOTHING


def test_a_transfer_may_be_tried_again():
    """With two attempts the first failure is only reported, and the image goes on being offered."""
    bench = HubBench(PPMID, store=StorePolicy(transfer_attempts=2))
    bench.deliver(PPMID)
    bench.fetch(PPMID)
    bench.end(PPMID, ABORT)
    assert TransferFailed(DEVICES[PPMID], 2, 1) in bench.events
    assert bench.alerts() == []
    bench.fetch(PPMID)
    bench.end(PPMID, ABORT)
    assert bench.alerts() == [lost(PPMID, response="FILE_TRANSFER_FAILURE")]


@pytest.mark.parametrize(
    ("hardware", "fits"),
    [(0x1110, False), (0x1111, True), (0x1180, True), (0x1211, True), (0x1212, False)],
)
def test_hardware_that_does_not_fit_is_found_by_the_hub(hardware, fits):
    """FW-07: below, at, between, at and above the header's range, when the device asks and when it is known."""
    bench = HubBench(PPMID)
    bench.deliver(PPMID)
    assert bench.query(PPMID, hardware=hardware) == (offered(PPMID) if fits else NOTHING)
    mismatch = [lost(PPMID, response="HARDWARE_VERSION_MISMATCH")]
    assert bench.alerts() == ([] if fits else mismatch)
    later = HubBench(PPMID)
    later.query(PPMID, hardware=hardware)
    later.deliver(PPMID)
    assert later.alerts() == ([] if fits else mismatch)
    assert [type(event) for event in later.events[:1]] == [ImageStored if fits else ImageRefused]


def test_an_image_for_nobody_is_refused_with_a_sentence():
    """The Device Log says what a device is; of one that is not there the hub knows nothing."""
    bench = HubBench()
    assert bench.deliver(PPMID) == [
        DeliveryRefused(
            DEVICES[PPMID], "0x000d6f000a9069e3 is not in the Device Log", DeliveryRefusal.NOT_IN_DEVICE_LOG
        )
    ]


def test_an_ihd_takes_no_image():
    """It is not in the CPL, and no store has a place for it."""
    bench = HubBench(IHD)
    (refused, _) = bench.deliver(IHD)[:2]
    assert refused.reason is RefusalReason.NO_SLOT


@pytest.mark.parametrize("kind", [PPMID, HCALCS, BRIDGE, ESME, GSME])
def test_a_hub_before_secmp0007_takes_images_for_meters_only(kind):
    """AH-17: the reason is named, nothing is kept, and nothing goes up."""
    bench = HubBench(kind, ppmid_ota=False, gbcs_version="3.2")
    events = bench.deliver(kind)
    if kind in (ESME, GSME):
        assert events == [ImageStored(DEVICES[kind], 2)]
        return
    (refused,) = events
    assert "GBCS 3.2" in refused.reason
    assert kind in refused.reason
    assert bench.query(kind) == NOTHING


def test_waiting_has_an_end_where_the_policy_has_one():
    """The image is withdrawn and its loss alerted; a transfer that was never begun is answered with no image."""
    bench = HubBench(PPMID, store=StorePolicy(retention_seconds=100.0))
    bench.deliver(PPMID)
    assert bench.hub.next_deadline() == 110.0
    assert bench.hub.on_deadline(109.9) == []
    bench.now = 110.0
    bench.events = bench.hub.on_deadline(bench.now)
    assert ImageExpired(DEVICES[PPMID], 2, None) in bench.events
    assert bench.alerts() == [lost(PPMID)]
    assert bench.query(PPMID) == NOTHING


@pytest.mark.parametrize("kind", [ESME, GSME, HCALCS])
def test_who_is_activated_by_command_is_told_to_wait_for_ever(kind):
    """GBCS 11.2.1: 0xFFFFFFFF, again each hour, whatever happens to the hub or the device, until it runs the image."""
    bench = HubBench(kind)
    bench.deliver(kind)
    bench.fetch(kind)
    for _ in range(2):
        assert bench.end(kind).upgrade_time == UPGRADE_WAIT
        bench.now += 3600.0
    bench.hub.device_left(DEVICES[kind], bench.now)
    bench.hub.device_joined(DEVICES[kind], SHORTS[DEVICES[kind]])
    assert bench.end(kind).upgrade_time == UPGRADE_WAIT
    assert bench.alerts() == []
    bench.cut_power()
    assert bench.end(kind).upgrade_time == UPGRADE_WAIT
    assert bench.alerts() == []
    assert bench.end(kind, version=3) == (0x06, NO_IMAGE_AVAILABLE)
    assert bench.end(kind, INVALID_IMAGE) == (0x06, NO_IMAGE_AVAILABLE)
    assert bench.query(kind, version=2) == NOTHING
    assert bench.end(kind) == (0x06, NO_IMAGE_AVAILABLE)


def test_a_device_that_waits_and_is_removed_is_told_nothing_more():
    """It is another device when it comes again; its image is no business of this hub, after a power cut neither."""
    bench = HubBench(HCALCS)
    bench.deliver(HCALCS)
    bench.fetch(HCALCS)
    bench.end(HCALCS)
    bench.hub.remove(DEVICES[HCALCS], bench.now)
    bench.hub.admit(DEVICES[HCALCS], HCALCS, LINK_KEY, 600, bench.now)
    bench.announce(HCALCS)
    assert bench.end(HCALCS) == (0x06, NO_IMAGE_AVAILABLE)
    bench.cut_power()
    assert bench.end(HCALCS) == (0x06, NO_IMAGE_AVAILABLE)


def test_a_transfer_is_under_way_from_its_first_request_on():
    """A client that is made to wait for its first block has begun: such a store does not overwrite it."""
    never = dict.fromkeys(DEFAULT_PRECEDENCE, Verdict.OVERWRITE_WAITING)
    bench = HubBench(PPMID, HCALCS, store=StorePolicy(precedence=never))
    bench.deliver(PPMID)
    bench.query(PPMID)
    bench.hub.server.hold(DEVICES[PPMID], 1000.0)
    assert isinstance(bench.block(PPMID), WaitForData)
    (refused, *_) = bench.deliver(HCALCS)
    assert refused.reason is RefusalReason.TRANSFER_UNDER_WAY
    bench.cut_power()
    assert bench.deliver(HCALCS)[-1] == ImageStored(DEVICES[HCALCS], 2)


def test_what_is_stored_is_notified_to_who_was_heard_but_not_to_a_gsme():
    """A unicast Image Notify of payload type 3; a GSME reads a flag instead."""
    bench = HubBench(PPMID, ESME, GSME)
    for kind in (PPMID, ESME, GSME):
        bench.query(kind)
    bench.deliver(PPMID)
    bench.deliver(GSME)
    bench.deliver(ESME)
    notified = [(peer, parse_message(frame)) for peer, _, frame in bench.sent()]
    assert notified == [
        (SHORTS[DEVICES[kind]], ImageNotify(3, 100, MAKER, image_type(kind), 2)) for kind in (PPMID, ESME)
    ]


def test_what_the_bench_offers_is_no_business_of_the_store():
    """`offer` takes what the store would refuse, tells the WAN nothing, and leaves what waits alone."""
    bench = HubBench(PPMID, GSME)
    bench.deliver(GSME)
    direct = parse_image(image(PPMID, 5))
    assert bench.hub.offer(direct, DEVICES[PPMID], bench.now) == []
    assert [held.target for held in bench.hub.firmware.store.waiting] == [DEVICES[GSME]]
    assert bench.query(PPMID) == offered(PPMID, 5)
    bench.fetch(PPMID, version=5)
    assert TransferProgressed(DEVICES[PPMID], 5, SIZE, SIZE) in bench.events
    bench.end(PPMID, version=5)
    assert bench.alerts() == []
    with pytest.raises(LocalProtocolError, match="no image waits"):
        bench.hub.withdraw(DEVICES[GSME])
    bench.hub.withdraw(DEVICES[PPMID])
    assert bench.query(GSME) == offered(GSME)


def test_a_stored_image_for_a_device_with_an_offer_is_followed_by_itself():
    """The later one is offered; what ends is told of the one that ended."""
    bench = HubBench(PPMID)
    bench.deliver(PPMID, 2)
    bench.hub.offer(parse_image(image(PPMID, 5)), DEVICES[PPMID], bench.now)
    assert bench.query(PPMID) == offered(PPMID, 5)
    bench.block(PPMID, 0, 5)
    bench.end(PPMID, INVALID_IMAGE, 5)
    assert bench.alerts() == []
    bench.hub.withdraw(DEVICES[PPMID])
    bench.fetch(PPMID)
    bench.end(PPMID)
    assert bench.alerts() == [(0x8F8A, DEVICES[PPMID], 2, "SUCCESS")]


# --- a power cut ------------------------------------------------------------------------------------------------------


def test_a_power_cut_keeps_images_and_their_transfers_go_on():
    """The client asks for its next block as if nothing had been; counters of the hub's messages go on rising."""
    bench = HubBench(PPMID, ESME)
    bench.deliver(ESME)
    bench.fetch(ESME)
    bench.end(ESME)
    bench.deliver(PPMID)
    bench.fetch(PPMID, 100)
    assert bench.cut_power() == []
    assert bench.hub.firmware.store.get(DEVICES[PPMID]).offset is None
    assert bench.block(PPMID, 100).offset == 100
    assert bench.block(PPMID, 150).offset == 150
    bench.end(PPMID)
    ((message, _),) = bench.told()
    assert message.originator_counter == 2
    assert bench.alerts() == [(0x8F8A, DEVICES[PPMID], 2, "SUCCESS")]
    bench.cut_power()
    assert bench.query(PPMID) == NOTHING


def test_a_snapshot_cut_short_loses_what_is_lost_and_says_so_once():
    """The later image is gone and alerted; the earlier one is served."""
    bench = HubBench(ESME, PPMID)
    bench.deliver(ESME, 3)
    bench.deliver(PPMID, 4)
    bench.hub.flash.images = bench.hub.flash.images[:-10]
    events = bench.cut_power()
    assert isinstance(events[0], ImageLost)
    assert bench.alerts() == [lost(PPMID, 4)]
    assert bench.query(PPMID) == NOTHING
    assert bench.query(ESME) == offered(ESME, 3)
    assert bench.cut_power() == []


def test_a_new_hub_on_the_flash_of_an_old_one_goes_on():
    """Devices, log and images are what flash holds."""
    old = HubBench(PPMID)
    old.query(PPMID)
    old.deliver(PPMID)
    new = HubBench(flash=old.hub.flash)
    new.hub.network_up(0, 20.0)
    assert new.hub.log.kind_of(DEVICES[PPMID]) is PPMID
    assert new.query(PPMID) == offered(PPMID)


# --- the Device Log ---------------------------------------------------------------------------------------------------


def test_a_removed_device_loses_its_image_and_another_kind_may_take_its_place():
    """Assumed: nobody can fetch it. The loss is alerted like any other."""
    bench = HubBench(PPMID)
    target = DEVICES[PPMID]
    bench.deliver(PPMID)
    bench.fetch(PPMID, 100)
    bench.events = bench.hub.remove(target, bench.now)
    assert EntryRemoved(target, PPMID) in bench.events
    assert bench.alerts() == [lost(PPMID)]
    bench.hub.admit(target, ESME, LINK_KEY, 60, bench.now)
    assert bench.hub.deliver_image(image(ESME), target, bench.now) == [ImageStored(target, 2)]


# --- with a PPMID -----------------------------------------------------------------------------------------------------


def test_a_ppmid_whose_image_is_overwritten_takes_the_next():
    """AH-08: it stops, keeps running what it ran, asks again, and runs the image that comes then."""
    bench = HubBench(HCALCS)
    hub = bench.hub
    hub.admit(PPMID_EUI64, PPMID, LINK_KEY, 600, 0.0)
    han = Han(hub=hub)
    assert isinstance(hub.deliver_image(_file(2), PPMID_EUI64, 0.0)[0], ImageStored)
    assert han.run(9000.0, lambda event: isinstance(event, TransferProgressed) and event.offset > 200)
    hub.deliver_image(image(HCALCS), DEVICES[HCALCS], han.now)
    assert han.run(han.now + 60.0, lambda event: isinstance(event, DownloadAborted))
    assert han.ppmid.running_version == 1
    hub.remove(DEVICES[HCALCS], han.now)
    hub.deliver_image(_file(3), PPMID_EUI64, han.now)
    assert han.run(han.now + 90000.0, lambda event: event == activated(3))
    started = [event.version for event in han.kinds() if isinstance(event, DownloadStarted)]
    assert started == [2, 3]
    assert ImageTransferred(PPMID_EUI64, 3) in han.kinds()


def _file(version):
    """An OTA file for the bench's PPMID."""
    return build_image(ppmid_image(version=version))
