"""A PPMID takes the firmware that waits for it at the Communications Hub, runs it by itself and says so."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness import Device, Hub, OtaImage, Rig, hours, minutes, seconds
from harness.gbcs import (
    FIRMWARE_TRANSFERRED,
    PPMID_FIRMWARE_ACTIVATION,
    ActivationResult,
    FirmwareActivated,
    FirmwareTransfer,
    TransferResponse,
)

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("ppmid")

SIZE = 16 * 1024  # octets of the images that something happens to


@pytest.mark.requirement("FW-08")
async def test_a_ppmid_runs_the_image_it_was_sent(hub: Hub, ppmid: Device, new_image: NewImage) -> None:
    """A PPMID fetches the image that waits for it at the hub, activates it by itself and reports the new version."""
    image = new_image(target=ppmid)
    await hub.offer(image, to=ppmid)
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("FW-08")
async def test_a_ppmid_says_which_version_it_activated(hub: Hub, ppmid: Device, new_image: NewImage) -> None:
    """After the hub's word that the image was fetched (0x8F8A) comes the PPMID's that it runs it: 0x8F8B, success."""
    _needs_gbcs(hub)
    wan, image = hub.wan, new_image(target=ppmid, size=SIZE)
    await wan.deliver(image, to=ppmid)
    transfer = await wan.until(FirmwareTransfer, within=hours(2))
    assert (transfer.alert_code, transfer.target) == (FIRMWARE_TRANSFERRED, ppmid.eui64)
    assert (transfer.firmware_version, transfer.response) == (image.version, TransferResponse.SUCCESS)
    activated = await wan.until(FirmwareActivated, within=hours(1), source=ppmid)
    assert activated.alert_code == PPMID_FIRMWARE_ACTIVATION
    assert (activated.firmware_version, activated.result) == (image.version, ActivationResult.SUCCESS)
    assert await wan.version(ppmid, within=minutes(1)) == await ppmid.version() == image.version


@pytest.mark.requirement("FW-08")
async def test_a_ppmid_says_that_it_could_not_activate(hub: Hub, ppmid: Device, new_image: NewImage) -> None:
    """A PPMID that cannot start its image goes on with the old version; 0x8F8B has that version, and failure."""
    _needs_gbcs(hub)
    if ppmid.behaviour is None:
        pytest.skip(f"nobody here can make an image that {ppmid.name} cannot start")
    wan = hub.wan
    await wan.deliver(new_image(target=ppmid, size=SIZE, starts=False), to=ppmid)
    activated = await wan.until(FirmwareActivated, within=hours(2), source=ppmid)
    assert activated.alert_code == PPMID_FIRMWARE_ACTIVATION
    assert activated.result == ActivationResult.FAILURE
    assert await wan.version(ppmid, within=minutes(1)) == await ppmid.version() == ppmid.version_at_start


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
    counters = await hub.radio().counters()
    assert counters["COUNTER_MAC_TX_UNICAST_RETRY"] > 10, "the air has lost frames"


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99], ids="at {:.0%}".format)
async def test_a_power_cut_in_mid_transfer_costs_time_and_nothing_else(
    hub: Hub, ppmid: Device, new_image: NewImage, share: float
) -> None:
    """A PPMID that loses power while it fetches comes back running what it ran, and completes the upgrade."""
    image = new_image(target=ppmid, size=SIZE)
    await hub.offer(image, to=ppmid)
    await hub.until_fetched(int(image.total_size * share), by=ppmid, within=minutes(30))
    await ppmid.cut_power(seconds(5))
    assert await ppmid.version(within=minutes(10)) == ppmid.version_at_start
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
async def test_a_power_cut_while_the_new_image_starts_bricks_nothing(
    hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """Power that fails between the end of the transfer and the new version's first word leaves a running PPMID."""
    image = new_image(target=ppmid, size=SIZE)
    await hub.offer(image, to=ppmid)
    await hub.upgrade_end(ppmid, within=hours(2))
    await ppmid.cut_power(seconds(5))
    await ppmid.until(running=image.version, within=hours(2))


@pytest.mark.requirement("AH-08")
async def test_a_ppmid_whose_image_is_taken_away_keeps_running_and_takes_the_next_one(
    hub: Hub, ppmid: Device, new_image: NewImage
) -> None:
    """An image that vanishes in mid download leaves the PPMID on its version; it asks again, and takes the next one."""
    image = new_image(target=ppmid, size=SIZE)
    await hub.offer(image, to=ppmid)
    await hub.until_fetched(image.total_size // 2, by=ppmid, within=minutes(30))
    await hub.withdraw(to=ppmid)
    await hub.until_queried(by=ppmid, within=hours(2))
    assert await ppmid.version(within=minutes(10)) == ppmid.version_at_start
    successor = new_image(target=ppmid, size=SIZE, version=image.version + 1)
    await hub.offer(successor, to=ppmid)
    await ppmid.until(running=successor.version, within=hours(2))


def _needs_gbcs(hub: Hub) -> None:
    if hub.profile.smets == "SMETS1":
        pytest.skip("a SMETS1 system has no GBCS, and so no alerts of it")
