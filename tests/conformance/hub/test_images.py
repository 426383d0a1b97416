"""What the hub makes of the images that the WAN delivers: what it keeps, what it refuses, and what it tells of each."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

import pytest

from harness import (
    Device,
    Hub,
    OtaImage,
    RemoteProtocolError,
    Rig,
    hours,
    image_hash_of,
    minutes,
    seconds,
)
from harness.gbcs import (
    FIRMWARE_TRANSFER_FAILED,
    FIRMWARE_TRANSFERRED,
    FIRMWARE_VERIFICATION_FAILED,
    ActivateImageResponse,
    DeliveryRefusal,
    EsmeFirmwareReceipt,
    ExecutionOutcome,
    FirmwareTransfer,
    TransferResponse,
)
from harness.zigbee import build_image, clusters, ota
from tests.conformance.hub.ota_requests import Questioner
from tests.conformance.hub.secmp0007 import SINCE, needs_images_for

pytestmark = pytest.mark.under_test("hub")

Joined = Callable[[str], Awaitable[Device]]
NewImage = Callable[..., OtaImage]
Observe = Callable[[str], None]
SIZE = 400  # octets
LEARNS_WITHIN = hours(
    2
)  # a GSME wakes every 30 minutes, a device that missed its Image Notify asks within the hour
AT_ONCE = seconds(1)
NO_IMAGE_AVAILABLE, INVALID_IMAGE = 0x98, 0x96


async def told(rig: Rig, device: Device, image: OtaImage, *, within: float) -> FirmwareTransfer:
    """The one Firmware Transfer Alert (CCS08) about an image: what becomes of it is told once, with all it needs."""

    def about() -> list[FirmwareTransfer]:
        return [alert for alert in rig.hub.wan.transfers(device) if alert.firmware_version == image.version]

    await rig.until(
        lambda: bool(about()),
        within=within,
        failure=lambda: f"no CCS08 about {device.name} within {within:g} s",
    )
    await rig.sleep(AT_ONCE)
    (alert,) = about()
    success = alert.response is TransferResponse.SUCCESS
    assert alert.alert_code == (FIRMWARE_TRANSFERRED if success else FIRMWARE_TRANSFER_FAILED)
    return alert


async def unchanged(device: Device, image: OtaImage) -> None:
    """The device runs what it ran, and never had the image whole."""
    assert image.version not in device.images_held
    assert await device.version() == device.version_at_start


def silent(rig: Rig, device: Device) -> bool:
    """Whether nothing has been told of what became of the device's images."""
    return rig.hub.wan.transfers(device) == []


# --- FW-06: each response code of CCS08 -------------------------------------------------------------------------------


@pytest.mark.requirement("FW-06")
@pytest.mark.parametrize("name", ["esme", "gsme", "hcalcs", "ppmid", "b1"])
async def test_a_transfer_that_succeeds_is_told(
    rig: Rig, joined: Joined, new_image: NewImage, name: str
) -> None:
    """Success (0, alert 0x8F8A) comes once, after the device has its image and not before."""
    device = await joined(name)
    needs_images_for(rig.hub, device)
    image = new_image(target=device, size=SIZE)
    await rig.hub.wan.deliver(image, to=device)
    while image.version not in device.images_held:
        assert silent(rig, device)
        assert rig.now() < LEARNS_WITHIN
        await rig.sleep(AT_ONCE)
    assert (await told(rig, device, image, within=minutes(1))).response is TransferResponse.SUCCESS


@pytest.mark.requirement("FW-06")
async def test_an_image_that_is_overwritten_is_told_discarded(
    rig: Rig, gsme: Device, joined: Joined, new_image: NewImage
) -> None:
    """Image Discarded (1): the GSME's image has the bridge's thrown away, which names the bridge and its version."""
    b1 = await joined("b1")
    needs_images_for(rig.hub, b1)
    image = new_image(target=b1, size=SIZE)
    await b1.power_off()
    await rig.hub.wan.deliver(image, to=b1)
    assert silent(rig, b1)
    await rig.hub.wan.deliver(new_image(target=gsme, size=SIZE), to=gsme)
    assert (await told(rig, b1, image, within=AT_ONCE)).response is TransferResponse.IMAGE_DISCARDED
    assert silent(rig, gsme)


@pytest.mark.requirement("FW-06")
async def test_a_transfer_that_the_device_ends_is_told_failed(
    rig: Rig, gsme: Device, new_image: NewImage
) -> None:
    """File Transfer Failure (3): the device says INVALID_IMAGE at the end (ZCL8 11.13.9)."""
    image = new_image(target=gsme, size=SIZE)
    await rig.hub.wan.deliver(image, to=gsme)
    asker = Questioner(gsme)
    await asker.fetch(image.version, image.total_size)
    await asker.ask_once(
        ota.UpgradeEndRequest(INVALID_IMAGE, image.manufacturer, image.image_type, image.version)
    )
    assert (await told(rig, gsme, image, within=AT_ONCE)).response is TransferResponse.FILE_TRANSFER_FAILURE


# --- FW-07: hardware versions -----------------------------------------------------------------------------------------

# Where the device's hardware version lies, as what its range has below and above it.
RANGES = {
    "below the range": ((1, 0x100), False),
    "at its lower end": ((0, 0x100), True),
    "within": ((-0x100, 0x100), True),
    "at its upper end": ((-0x100, 0), True),
    "above the range": ((-0x100, -1), False),
}


def ranged(image: OtaImage, around: tuple[int, int]) -> OtaImage:
    """The image for another range of hardware, given as distances from the device's own version."""
    assert image.hardware_min is not None
    own = image.hardware_min
    return replace(image, hardware_min=own + around[0], hardware_max=own + around[1])


@pytest.mark.requirement("FW-06", "FW-07")
@pytest.mark.parametrize(("around", "fits"), RANGES.values(), ids=RANGES)
async def test_hardware_that_the_hub_learns_when_the_device_asks(
    rig: Rig, gsme: Device, new_image: NewImage, around: tuple[int, int], fits: bool
) -> None:
    """A GSME says its hardware when it asks; an image that excludes it goes then: Hardware Version Mismatch (2)."""
    image = ranged(new_image(target=gsme, size=SIZE), around)
    await rig.hub.wan.deliver(image, to=gsme)
    await rig.sleep(AT_ONCE)
    assert silent(rig, gsme), "nobody has said which hardware it is"
    alert = await told(rig, gsme, image, within=LEARNS_WITHIN)
    if fits:
        assert alert.response is TransferResponse.SUCCESS
        assert image.version in gsme.images_held
    else:
        assert alert.response is TransferResponse.HARDWARE_VERSION_MISMATCH
        assert gsme.fetching is None, "it was offered nothing"
        await unchanged(gsme, image)


@pytest.mark.requirement("FW-06", "FW-07")
@pytest.mark.parametrize(("around", "fits"), RANGES.values(), ids=RANGES)
async def test_hardware_that_the_hub_knows_when_the_image_comes(
    rig: Rig, esme: Device, new_image: NewImage, around: tuple[int, int], fits: bool
) -> None:
    """An ESME that has asked before: an image that excludes its hardware is not kept, Hardware Version Mismatch (2)."""
    asker = Questioner(esme)
    assert await asker.ask_once(asker.query()) == ota.QueryNextImageResponse(NO_IMAGE_AVAILABLE)
    image = ranged(new_image(target=esme, size=SIZE), around)
    await rig.hub.wan.deliver(image, to=esme)
    if fits:
        assert silent(rig, esme)
        alert = await told(rig, esme, image, within=LEARNS_WITHIN)
        assert alert.response is TransferResponse.SUCCESS
        return
    alert = await told(rig, esme, image, within=AT_ONCE)
    assert alert.response is TransferResponse.HARDWARE_VERSION_MISMATCH
    await rig.sleep(LEARNS_WITHIN)
    await unchanged(esme, image)


# --- files that are no good -------------------------------------------------------------------------------------------


@pytest.mark.requirement("FW-12")
@pytest.mark.parametrize("more", [-1, 0, 1], ids="{:+d} octet".format)
async def test_a_file_at_the_size_limit(
    rig: Rig, hub: Hub, esme: Device, new_image: NewImage, observe: Observe, more: int
) -> None:
    """The largest file is what the hub's profile says: one octet above is refused, told of, and not offered."""
    limit = hub.profile.store.size_limit
    if limit is None:
        pytest.skip("its profile gives no limit")
    image = new_image(target=esme, size=limit + more)
    assert image.total_size == limit + more
    await hub.hold(esme, LEARNS_WITHIN)  # so large a file shall not be fetched
    await hub.wan.deliver(image, to=esme)
    asker = Questioner(esme)
    found = await asker.ask_once(asker.query())
    alerts = [alert.response.name for alert in hub.wan.transfers(esme)]
    kept = found.status == 0
    assert kept is (more <= 0), f"a limit of {limit} octets, and {found} for {limit + more}"
    assert kept is (not alerts), f"what is refused is told: {found}, {alerts}"
    assert not kept or found.size == limit + more
    await unchanged(esme, image)
    observe(f"{limit + more} octets, limit {limit}: {'kept' if kept else 'refused, ' + ', '.join(alerts)}")


@pytest.mark.requirement("FW-06")
@pytest.mark.parametrize("fault", ["trailing octets", "cut short", "no OTA file"])
async def test_a_file_that_is_none_is_not_offered(
    rig: Rig, hub: Hub, esme: Device, new_image: NewImage, observe: Observe, fault: str
) -> None:
    """Octets behind the end, octets missing, an identifier that is none: never offered; told of if it can be."""
    image = new_image(target=esme, size=SIZE)
    data = build_image(image)
    spoilt = {"trailing octets": data + b"\0", "cut short": data[:-1], "no OTA file": b"\0" + data[1:]}[fault]
    await hub.wan.deliver(spoilt, to=esme)
    asker = Questioner(esme)
    assert await asker.ask_once(asker.query()) == ota.QueryNextImageResponse(NO_IMAGE_AVAILABLE)
    if fault == "no OTA file":
        # CCS08 names a version, which such a file does not have.
        observe(f"a file that is no OTA file: {[alert.response.name for alert in hub.wan.transfers(esme)]}")
    else:
        assert (await told(rig, esme, image, within=AT_ONCE)).response is TransferResponse.IMAGE_DISCARDED
    await rig.sleep(LEARNS_WITHIN)
    await unchanged(esme, image)


@pytest.mark.requirement("FW-06")
@pytest.mark.parametrize("fault", ["bad signature", "no signature"])
async def test_an_image_that_its_device_does_not_verify_is_told_failed(
    rig: Rig, hub: Hub, esme: Device, new_image: NewImage, fault: str
) -> None:
    """The ESME says why (0x8F1C), the hub that the transfer failed (3); it runs what it ran, and holds nothing."""
    image = new_image(target=esme, size=SIZE)
    payload = image.payload[:-66] if fault == "no signature" else image.payload[:-1] + b"\0"
    image = replace(image, payload=payload)
    await hub.wan.deliver(image, to=esme)
    alert = await told(rig, esme, image, within=LEARNS_WITHIN)
    if alert.response is TransferResponse.IMAGE_DISCARDED:
        assert fault == "no signature", "a hub may look for the trailer, but has no key to check it with"
    else:
        assert alert.response is TransferResponse.FILE_TRANSFER_FAILURE
        receipts = [
            received.payload.alert_code
            for received in hub.wan.received
            if isinstance(received.payload, EsmeFirmwareReceipt)
        ]
        assert receipts == [FIRMWARE_VERIFICATION_FAILED]
    await unchanged(esme, image)
    counter = await hub.wan.activate(bytes(32), on=esme)
    outcome = await hub.wan.until(ExecutionOutcome, counter=counter, within=minutes(5))
    assert outcome == ExecutionOutcome(ActivateImageResponse.NO_IMAGE_HELD, esme.version_at_start)


@pytest.mark.requirement("FW-13")
@pytest.mark.parametrize("field", ["manufacturer", "image_type"])
async def test_an_image_of_another_model_is_never_fetched(
    rig: Rig, hub: Hub, esme: Device, new_image: NewImage, observe: Observe, field: str
) -> None:
    """The ESME asks for its own model's images and gets none; what the hub tells is observed."""
    image = new_image(target=esme, size=SIZE)
    image = replace(image, **{field: getattr(image, field) + 1})
    await hub.wan.deliver(image, to=esme)
    await rig.sleep(LEARNS_WITHIN)
    assert esme.fetching is None
    await unchanged(esme, image)
    observe(f"another {field}: {[alert.response.name for alert in hub.wan.transfers(esme)] or 'not told of'}")


# --- delivered to the hub, delivered to the device, activated ---------------------------------------------------------


@pytest.mark.requirement("AH-15")
async def test_delivered_to_the_hub_to_the_device_and_activated_are_three(
    rig: Rig, hub: Hub, esme: Device, new_image: NewImage
) -> None:
    """Each of the three comes by itself, is known by a sign of its own, and says nothing of the next."""
    image = new_image(target=esme, size=SIZE)
    asker, query = Questioner(esme), ota.QueryNextImageResponse

    def delivered_to_device() -> bool:
        return [alert.response for alert in hub.wan.transfers(esme)] == [TransferResponse.SUCCESS]

    def outcomes() -> list[ExecutionOutcome]:
        return [
            received.payload
            for received in hub.wan.received
            if isinstance(received.payload, ExecutionOutcome)
        ]

    assert await asker.ask_once(asker.query()) == query(NO_IMAGE_AVAILABLE), "not at the hub yet"
    await hub.hold(esme, hours(1))
    await hub.wan.deliver(image, to=esme)
    found = await asker.ask_once(asker.query())
    assert found == query(0, image.manufacturer, image.image_type, image.version, image.total_size)
    await rig.sleep(minutes(30))
    assert (silent(rig, esme), outcomes()) == (True, []), "delivered to the hub, and no further"
    assert image.version not in esme.images_held

    await rig.sleep(minutes(90))
    assert (delivered_to_device(), outcomes()) == (True, []), "delivered to the device, and no further"
    assert image.version in esme.images_held
    assert await esme.version() == esme.version_at_start

    counter = await hub.wan.activate(bytes(32), on=esme)
    refused = await hub.wan.until(ExecutionOutcome, counter=counter, within=minutes(5))
    assert refused == ExecutionOutcome(ActivateImageResponse.HASH_MISMATCH, esme.version_at_start)
    assert delivered_to_device(), "an activation that fails takes nothing of that back"

    counter = await hub.wan.activate(image_hash_of(image), on=esme)
    done = await hub.wan.until(ExecutionOutcome, counter=counter, within=minutes(5))
    assert done == ExecutionOutcome(ActivateImageResponse.SUCCESS, image.version)
    assert await esme.version() == image.version


@pytest.mark.requirement("AH-17")
@pytest.mark.parametrize("name", ["esme", "gsme", "hcalcs", "ppmid", "b1"])
async def test_a_hub_before_secmp0007_takes_images_for_meters_alone(
    rig: Rig, hub: Hub, joined: Joined, new_image: NewImage, name: str
) -> None:
    """Before SECMP0007 there are images for meters alone: one for another is refused, nothing is sent on the HAN."""
    if hub.profile.ppmid_ota:
        pytest.skip(f"the firmware of {hub.name} has SECMP0007: AH-17 is of those that predate it")
    device = await joined(name)
    image = new_image(target=device, size=SIZE)
    if device.profile.role not in SINCE:
        await hub.wan.deliver(image, to=device)
        assert (await told(rig, device, image, within=LEARNS_WITHIN)).response is TransferResponse.SUCCESS
        return
    heard = device.overhear(ota.OTA_CLUSTER)
    with pytest.raises(RemoteProtocolError) as refused:
        await hub.wan.deliver(image, to=device)
    assert refused.value.code is DeliveryRefusal.BEFORE_SECMP0007
    await rig.sleep(LEARNS_WITHIN)
    offers = [message for message in heard if message.payload[2] == ota.IMAGE_NOTIFY]
    assert (offers, device.fetching) == ([], None)
    await unchanged(device, image)


@pytest.mark.requirement("FW-17")
async def test_the_flag_for_a_gsme_is_set_while_its_image_waits(
    rig: Rig, hub: Hub, gsme: Device, esme: Device, new_image: NewImage
) -> None:
    """Functional Notification Flags bit 0: set from the delivery until the GSME has its image, and for it alone."""
    asker, other = Questioner(gsme), Questioner(esme)
    assert not await asker.flags() & clusters.NEW_OTA_FIRMWARE
    image = new_image(target=gsme, size=SIZE)
    await hub.wan.deliver(image, to=gsme)
    assert await asker.flags() & clusters.NEW_OTA_FIRMWARE
    assert not await other.flags() & clusters.NEW_OTA_FIRMWARE
    assert gsme.fetching is None, "it sleeps"
    alert = await told(rig, gsme, image, within=LEARNS_WITHIN)
    assert alert.response is TransferResponse.SUCCESS
    assert not await asker.flags() & clusters.NEW_OTA_FIRMWARE


@pytest.mark.requirement("FW-06")
async def test_how_long_an_image_waits(
    rig: Rig, hub: Hub, esme: Device, new_image: NewImage, observe: Observe
) -> None:
    """An image for a dark device is told discarded when the hub's profile says; where it does not, it is observed."""
    image = new_image(target=esme, size=SIZE)
    await esme.power_off()
    await hub.wan.deliver(image, to=esme)
    declared = hub.profile.store.retention_seconds
    if declared is not None:
        await rig.sleep(declared - AT_ONCE)
        assert silent(rig, esme), f"it is to wait for {declared:g} s"
        alert = await told(rig, esme, image, within=2 * AT_ONCE)
        assert alert.response is TransferResponse.IMAGE_DISCARDED
        await esme.power_on()
        await rig.sleep(LEARNS_WITHIN)
        await unchanged(esme, image)
        return
    waited = 0.0
    while waited < hours(25) and silent(rig, esme):
        await rig.sleep(hours(1))
        waited += hours(1)
    alerts = hub.wan.transfers(esme)
    await esme.power_on()
    await rig.sleep(LEARNS_WITHIN)
    if not alerts:
        assert image.version in esme.images_held, "what is not told discarded is still there"
        observe(f"an image waits for {waited / 3600:g} hours at least")
        return
    assert [alert.response for alert in alerts] == [TransferResponse.IMAGE_DISCARDED]
    await unchanged(esme, image)
    observe(f"an image is discarded after {waited / 3600:g} hours at most")
