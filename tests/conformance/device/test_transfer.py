"""A device fetches the image that waits for it at the Communications Hub, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from harness import Device, Hub, OtaImage, RemoteProtocolError, Rig, hours, minutes, seconds
from tests.conformance.device.firmware import WITHIN, complete, running

NewImage = Callable[..., OtaImage]

SUCCESS = 0x00  # ZCL8 table 2-12
LARGEST_BLOCK = 255  # octets that an Image Block Request can ask for (ZCL8 11.13.6: an 8-bit MaximumDataSize)
SIZE = 2048  # octets of the images, where their size is nothing to the test


@pytest.mark.requirement("FW-10")
async def test_all_of_an_image_is_fetched_before_the_upgrade_ends(
    hub: Hub, device: Device, new_image: NewImage
) -> None:
    """The Upgrade End Request comes after the last octet of the image was served, and says SUCCESS."""
    image = new_image(target=device, size=8 * 1024)
    await hub.wan.deliver(image, to=device)
    end = await hub.upgrade_end(device, within=WITHIN)
    assert (end.version, end.status) == (image.version, SUCCESS)
    assert hub.fetched(device) == image.total_size


@pytest.mark.requirement("FW-10")
@pytest.mark.requires("air")
async def test_a_lost_block_is_asked_for_again(
    rig: Rig, hub: Hub, device: Device, new_image: NewImage
) -> None:
    """A block whose every retry is lost on the air is asked for again, and the transfer completes."""
    image = new_image(target=device, size=SIZE)
    await hub.wan.deliver(image, to=device)
    await hub.until_fetched(image.total_size // 3, by=device, within=WITHIN)
    lost = rig.air.drop(40)
    await complete(hub, device, image)
    assert lost.remaining == 0


@pytest.mark.requirement("FW-10")
@pytest.mark.requires("reset")
async def test_a_transfer_survives_a_reset_of_the_hubs_radio(
    hub: Hub, device: Device, new_image: NewImage
) -> None:
    """The hub's radio resets in mid transfer and comes back on the same HAN: the device goes on to the right image."""
    image = new_image(target=device, size=SIZE)
    await hub.wan.deliver(image, to=device)
    await hub.until_fetched(image.total_size // 2, by=device, within=WITHIN)
    await hub.reset_radio()
    await complete(hub, device, image)


@pytest.mark.requirement("FW-10")
async def test_a_device_that_is_told_to_wait_waits(
    rig: Rig, hub: Hub, device: Device, new_image: NewImage
) -> None:
    """WAIT_FOR_DATA stops a transfer for as long as the hub says, and costs nothing but time."""
    image = new_image(target=device, size=SIZE)
    await hub.wan.deliver(image, to=device)
    await hub.until_fetched(image.total_size // 2, by=device, within=WITHIN)
    await hub.hold(device, minutes(5))
    await rig.sleep(seconds(10))
    fetched = hub.fetched(device)
    await rig.sleep(minutes(4))
    assert hub.fetched(device) == fetched < image.total_size
    await complete(hub, device, image)


@pytest.mark.requirement("FW-10")
async def test_a_notified_device_asks_for_its_image(hub: Hub, notified: Device, new_image: NewImage) -> None:
    """A unicast Image Notify is always followed by a Query Next Image Request (ZCL8 11.11.3)."""
    await hub.until_queried(by=notified, within=hours(1))
    await hub.wan.deliver(new_image(target=notified, size=SIZE), to=notified)
    await hub.until_queried(by=notified, within=seconds(30))


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
async def test_power_may_fail_at_any_block(hub: Hub, device: Device, new_image: NewImage) -> None:
    """After each block of a short image in turn the power fails: every time the device completes the upgrade."""
    version, before, cuts, size = device.version_at_start, device.version_at_start, [0], 1
    while cuts[-1] < size:
        version += 1
        image = new_image(target=device, size=600, version=version)
        size = image.total_size
        await hub.wan.deliver(image, to=device)
        await hub.until_fetched(cuts[-1] + 1, by=device, within=WITHIN)
        cuts.append(hub.fetched(device))
        await device.cut_power(seconds(5))
        assert await running(hub, device) == before
        await complete(hub, device, image)
        before = version
    assert cuts == sorted(set(cuts)), "each time one block later"
    largest = max(after - before for before, after in pairwise(cuts))
    assert largest <= LARGEST_BLOCK, "no block was passed over"


# --- where no public document says what a device should do ------------------------------------------------------------


@pytest.mark.requirement("FW-13")
@pytest.mark.parametrize("step", [0, -1], ids=["the same version", "an older version"])
async def test_an_image_that_is_no_newer(
    hub: Hub, device: Device, new_image: NewImage, observe: Callable[[str], None], step: int
) -> None:
    """What a device makes of the version that it runs, and of an older one; it goes on running one of both."""
    image = new_image(target=device, size=SIZE, version=device.version_at_start + step)
    observe(await reaction(hub, device, image))
    assert await running(hub, device) in (device.version_at_start, image.version)


@pytest.mark.requirement("FW-13")
@pytest.mark.parametrize("field", ["manufacturer", "image_type"])
async def test_an_image_for_another_model(
    hub: Hub, device: Device, new_image: NewImage, observe: Callable[[str], None], field: str
) -> None:
    """A device that is told of another maker's image, or of one of another type, goes on running what it ran."""
    image = new_image(target=device, size=SIZE)
    image = replace(image, **{field: getattr(image, field) ^ 1})
    observe(await reaction(hub, device, image))
    assert await running(hub, device) == device.version_at_start


@pytest.mark.requirement("FW-12")
@pytest.mark.parametrize("beyond", [-1, 0, 1], ids=["one octet below", "at the limit", "one octet above"])
async def test_an_image_at_the_size_limit(
    hub: Hub, device: Device, new_image: NewImage, observe: Callable[[str], None], beyond: int
) -> None:
    """Whether a device begins to fetch the largest image that its profile says it has room for, and a larger one."""
    limit = device.profile.ota.storage_limit
    observe(await reaction(hub, device, new_image(target=device, size=limit + beyond)))


async def reaction(hub: Hub, device: Device, image: OtaImage) -> str:
    """Offer an image, and say whether the device begins to fetch it within the time that it has to learn of it."""
    await hub.offer(image, to=device)
    query = await hub.until_queried(by=device, within=WITHIN)
    try:
        await hub.until_fetched(1, by=device, within=minutes(2))
    except RemoteProtocolError:
        asked = (
            f"{device.name} asked for manufacturer {query.manufacturer:#06x}, type {query.image_type:#06x}"
        )
        offered = "was offered it, and did not fetch it" if query.status == SUCCESS else "had nothing offered"
        return f"{asked}, {offered}"
    return f"{device.name} fetches it"
