"""A PPMID takes the firmware that waits for it at the Communications Hub, whatever happens on the way."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest

from harness import Device, Hub, OtaImage, Rig, hours, minutes, seconds

SUCCESS = 0x00  # ZCL8 table 2-12
LARGEST_BLOCK = 255  # octets that an Image Block Request can ask for (ZCL8 11.13.6: an 8-bit MaximumDataSize)
NewImage = Callable[..., OtaImage]


@pytest.mark.requirement("FW-08")
async def test_a_ppmid_runs_the_image_it_was_sent(hub: Hub, ppmid: Device, new_image: NewImage) -> None:
    """A PPMID fetches the image that waits for it at the hub, activates it by itself and reports the new version."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("FW-10")
async def test_a_ppmid_fetches_all_of_an_image_before_it_ends_the_upgrade(
    hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """The Upgrade End Request comes after the last octet of a 64 KiB image was served, and says SUCCESS."""
    image = new_image(target=ppmid, size=64 * 1024)
    await hub.offer(image, to=ppmid)
    end = await hub.upgrade_end(ppmid, within=hours(2))
    assert end.status == SUCCESS
    assert hub.fetched(ppmid) == image.total_size


@pytest.mark.requirement("FW-10")
@pytest.mark.requires("air")
async def test_a_lost_block_is_asked_for_again(
    rig: Rig, hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """A block whose every retry is lost on the air is asked for again, and the transfer completes."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await hub.until_fetched(image.total_size // 3, by=ppmid, within=minutes(30))
    lost = rig.air.drop(40)
    await ppmid.until(running=image.version, within=hours(2))
    assert lost.remaining == 0


@pytest.mark.requirement("FW-10")
@pytest.mark.requires("air")
async def test_an_air_that_loses_one_frame_in_a_hundred_is_no_obstacle(
    rig: Rig, hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """With 1 % of all frames lost, acknowledgements among them, the right image runs in the end."""
    rig.air.default_link = replace(rig.air.default_link, loss=0.01)
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await ppmid.until(running=image.version, within=hours(2))
    counters = await hub.carrier.counters()
    assert counters["COUNTER_MAC_TX_UNICAST_RETRY"] > 10, "the air has lost frames"


@pytest.mark.requirement("FW-10")
@pytest.mark.requires("reset")
async def test_a_transfer_survives_a_reset_of_the_hubs_radio(
    hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """The hub's radio resets in mid transfer and comes back on the same HAN: the PPMID goes on to the right image."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await hub.until_fetched(image.total_size // 2, by=ppmid, within=minutes(30))
    await hub.reset_radio()
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99], ids="at {:.0%}".format)
async def test_a_power_cut_in_mid_transfer_costs_time_and_nothing_else(
    hub: Hub, ppmid: Device, new_image: NewImage, share: float
) -> None:
    """A PPMID that loses power while it fetches comes back running what it ran, and completes the upgrade."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await hub.until_fetched(int(image.total_size * share), by=ppmid, within=minutes(30))
    await ppmid.cut_power(seconds(5))
    assert await ppmid.version(within=minutes(10)) == ppmid.version_at_start
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
async def test_power_may_fail_at_any_block(hub: Hub, ppmid: Device, new_image: NewImage) -> None:
    """After each block of a short image in turn the power fails: every time the PPMID completes the upgrade."""
    image = new_image(target=ppmid, size=600)
    version, size, cuts = image.version, image.total_size, [0]
    while cuts[-1] < size:
        image = new_image(target=ppmid, size=600, version=version)
        await hub.offer(image, to=ppmid)
        await hub.until_fetched(cuts[-1] + 1, by=ppmid, within=minutes(30))
        cuts.append(hub.fetched(ppmid))
        await ppmid.cut_power(seconds(5))
        await ppmid.until(running=version, within=hours(2))
        version += 1
    assert cuts == sorted(set(cuts)), "each time one block later"
    largest = max(after - before for before, after in pairwise(cuts))
    assert largest <= LARGEST_BLOCK, "no block was passed over"


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
async def test_a_power_cut_while_the_new_image_starts_bricks_nothing(
    hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """Power that fails between the end of the transfer and the new version's first word leaves a running PPMID."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await hub.upgrade_end(ppmid, within=hours(2))
    await ppmid.cut_power(seconds(5))
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("AH-08")
async def test_a_ppmid_whose_image_is_taken_away_keeps_running_and_takes_the_next_one(
    hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """An image that vanishes in mid download leaves the PPMID on its old version; the next one offered is taken."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await hub.until_fetched(image.total_size // 2, by=ppmid, within=minutes(30))
    await hub.withdraw(to=ppmid)
    assert await ppmid.version(within=minutes(10)) == ppmid.version_at_start
    successor = new_image(target=ppmid, version=image.version + 1)
    await hub.offer(successor, to=ppmid)
    await ppmid.until(running=successor.version, within=hours(2))


@pytest.mark.requirement("FW-10")
async def test_a_ppmid_that_is_told_to_wait_waits(
    rig: Rig, hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """WAIT_FOR_DATA stops a transfer for as long as the hub says, and costs nothing but time."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await hub.until_fetched(image.total_size // 2, by=ppmid, within=minutes(30))
    await hub.hold(ppmid, minutes(5))
    await rig.sleep(seconds(10))
    fetched = hub.fetched(ppmid)
    await rig.sleep(minutes(4))
    assert hub.fetched(ppmid) == fetched < image.total_size
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("FW-10")
async def test_a_notified_ppmid_asks_for_its_image(hub: Hub, ppmid: Device, new_image: NewImage) -> None:
    """A unicast Image Notify is always followed by a Query Next Image Request (ZCL8 11.11.3)."""
    await hub.until_queried(by=ppmid, within=hours(1))
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await hub.until_queried(by=ppmid, within=seconds(30))
