"""A meter or a load switch stores what it fetches, and runs it when SR11.3 says so: then, and not before."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from harness import Device, Hub, OtaImage, Rig, hours, image_hash_of, minutes, seconds
from harness.gbcs import (
    FIRMWARE_VERIFICATION_FAILED,
    FUTURE_DATED_COMMAND_ACTIONED,
    FUTURE_DATED_COMMAND_FAILED,
    NEVER,
    ActivateImageResponse,
    CommandAccepted,
    ExecutionOutcome,
    FutureDatedActivation,
)
from tests.conformance.device.firmware import WITHIN, activate, stored, take

NewImage = Callable[..., OtaImage]

SIZE = 2048  # octets of the images: what is judged here is not the transfer
LATER = hours(3)  # enough for a GSME to fetch the command
ANY_HASH = bytes(32)


@pytest.mark.requirement("FW-02", "SU-13")
async def test_an_image_is_stored_and_runs_after_sr11_3_only(
    rig: Rig, hub: Hub, commanded: Device, new_image: NewImage
) -> None:
    """What was verified (0x8F72) is not run for hours; SR11.3 with its hash has it run, and the response says so."""
    before = commanded.version_at_start
    image = new_image(target=commanded, size=SIZE)
    await take(hub, commanded, image)
    await rig.sleep(hours(5))
    assert await hub.wan.version(commanded, within=WITHIN) == before
    outcome = await activate(hub, commanded, image_hash_of(image))
    assert outcome == ExecutionOutcome(ActivateImageResponse.SUCCESS, image.version)
    assert await hub.wan.version(commanded, within=WITHIN) == image.version


@pytest.mark.requirement("FW-02")
async def test_the_hubs_word_does_not_run_an_image(
    rig: Rig, hub: Hub, commanded: Device, new_image: NewImage
) -> None:
    """An Upgrade End Response that says now, which a PPMID would obey, leaves the image waiting for its SR11.3."""
    image = new_image(target=commanded, size=SIZE)
    await hub.offer(image, to=commanded)
    await stored(hub, commanded, image)
    await rig.sleep(seconds(1))  # its Upgrade End Request goes out
    await hub.release(commanded)
    await rig.sleep(hours(2))
    assert await hub.wan.version(commanded, within=WITHIN) == commanded.version_at_start


@pytest.mark.requirement("FW-01", "SU-13")
@pytest.mark.parametrize("signed_by", ["stranger", None])
async def test_an_image_that_the_supplier_did_not_sign_is_discarded(
    hub: Hub, commanded: Device, new_image: NewImage, signed_by: str | None
) -> None:
    """An image with a stranger's signature, or with none, is alerted (0x8F1C) and gone; the next good one is stored."""
    before = commanded.version_at_start
    await hub.wan.deliver(new_image(target=commanded, size=SIZE, signed_by=signed_by), to=commanded)
    receipt = await hub.wan.receipt(commanded, within=WITHIN)
    assert receipt.alert_code == FIRMWARE_VERIFICATION_FAILED
    outcome = await activate(hub, commanded, receipt.image_hash)
    assert outcome == ExecutionOutcome(ActivateImageResponse.NO_IMAGE_HELD, before)
    assert await hub.wan.version(commanded, within=WITHIN) == before
    await take(hub, commanded, new_image(target=commanded, size=SIZE, version=before + 2))


@pytest.mark.requirement("FW-03", "SU-13")
async def test_sr11_3_without_an_image_changes_nothing(hub: Hub, commanded: Device) -> None:
    """A device that holds no image answers SR11.3 with outcome 1 and the version that goes on running."""
    before = commanded.version_at_start
    outcome = await activate(hub, commanded, ANY_HASH)
    assert outcome == ExecutionOutcome(ActivateImageResponse.NO_IMAGE_HELD, before)
    assert await hub.wan.version(commanded, within=WITHIN) == before


@pytest.mark.requirement("FW-04", "SU-13")
async def test_sr11_3_with_another_hash_changes_nothing(
    hub: Hub, commanded: Device, new_image: NewImage
) -> None:
    """A hash that is not the held image's gets outcome 2 and the version that goes on running."""
    before = commanded.version_at_start
    await take(hub, commanded, new_image(target=commanded, size=SIZE))
    outcome = await activate(hub, commanded, ANY_HASH)
    assert outcome == ExecutionOutcome(ActivateImageResponse.HASH_MISMATCH, before)
    assert await hub.wan.version(commanded, within=WITHIN) == before


@pytest.mark.requirement("SU-13")
async def test_sr11_3_for_an_image_that_does_not_start_says_what_runs(
    hub: Hub, commanded: Device, new_image: NewImage
) -> None:
    """A device that cannot start its image goes on with the old version: outcome 3, and that version."""
    _needs_unstartable(commanded)
    before = commanded.version_at_start
    image = new_image(target=commanded, size=SIZE, starts=False)
    await take(hub, commanded, image)
    outcome = await activate(hub, commanded, image_hash_of(image))
    assert outcome == ExecutionOutcome(ActivateImageResponse.ACTIVATION_FAILURE, before)
    assert await hub.wan.version(commanded, within=WITHIN) == before


@pytest.mark.requirement("FW-05")
async def test_a_future_dated_sr11_3_acts_at_its_time(
    rig: Rig, hub: Hub, commanded: Device, new_image: NewImage
) -> None:
    """It is acknowledged at once, acts at its time and not before, and 0x8F66 says so with the version that runs."""
    wan, before = hub.wan, commanded.version_at_start
    image = new_image(target=commanded, size=SIZE)
    await take(hub, commanded, image)
    time = (wan.clock() + timedelta(seconds=LATER)).replace(microsecond=0)
    due = rig.now() + LATER - 1
    counter = await wan.activate(image_hash_of(image), on=commanded, at=time)
    await wan.until(CommandAccepted, within=hours(1), source=commanded, counter=counter)
    assert await wan.version(commanded, within=hours(1)) == before
    alert = await wan.until(FutureDatedActivation, within=LATER + WITHIN, source=commanded)
    assert rig.now() >= due, "it did not act before its time"
    outcome = ExecutionOutcome(ActivateImageResponse.SUCCESS, image.version)
    assert alert == FutureDatedActivation(FUTURE_DATED_COMMAND_ACTIONED, time, counter, outcome)
    assert await wan.version(commanded, within=WITHIN) == image.version


@pytest.mark.requirement("FW-05")
async def test_a_future_dated_sr11_3_that_fails_is_alerted(hub: Hub, commanded: Device) -> None:
    """With no image held when its time comes, 0x8F67 says so, with the version that goes on running."""
    wan = hub.wan
    time = (wan.clock() + timedelta(seconds=LATER)).replace(microsecond=0)
    counter = await wan.activate(ANY_HASH, on=commanded, at=time)
    await wan.until(CommandAccepted, within=hours(1), source=commanded, counter=counter)
    alert = await wan.until(FutureDatedActivation, within=LATER + WITHIN, source=commanded)
    outcome = ExecutionOutcome(ActivateImageResponse.NO_IMAGE_HELD, commanded.version_at_start)
    assert alert == FutureDatedActivation(FUTURE_DATED_COMMAND_FAILED, time, counter, outcome)


@pytest.mark.requirement("FW-05")
async def test_a_future_dated_sr11_3_can_be_cancelled(
    rig: Rig, hub: Hub, commanded: Device, new_image: NewImage
) -> None:
    """After its cancellation nothing happens at its time: the old version runs on, and no alert says otherwise."""
    wan = hub.wan
    image = new_image(target=commanded, size=SIZE)
    await take(hub, commanded, image)
    image_hash = image_hash_of(image)
    for time in (wan.clock() + timedelta(seconds=LATER), NEVER):
        counter = await wan.activate(image_hash, on=commanded, at=time)
        await wan.until(CommandAccepted, within=hours(1), source=commanded, counter=counter)
    await rig.sleep(LATER + hours(1))
    assert await wan.version(commanded, within=WITHIN) == commanded.version_at_start
    assert not [came for came in wan.received if isinstance(came.payload, FutureDatedActivation)]
    # The image is still there.
    outcome = await activate(hub, commanded, image_hash)
    assert outcome == ExecutionOutcome(ActivateImageResponse.SUCCESS, image.version)


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
async def test_a_power_cut_while_the_new_image_starts_bricks_nothing(
    rig: Rig, hub: Hub, commanded: Device, new_image: NewImage
) -> None:
    """Power that fails seconds after the activation began leaves a device that runs the new image, and says so."""
    wan = hub.wan
    image = new_image(target=commanded, size=SIZE)
    await take(hub, commanded, image)
    begins = rig.now() + LATER
    time = wan.clock() + timedelta(seconds=LATER)
    counter = await wan.activate(image_hash_of(image), on=commanded, at=time)
    await wan.until(CommandAccepted, within=hours(1), source=commanded, counter=counter)
    await rig.sleep(begins + seconds(5) - rig.now())
    await commanded.cut_power(seconds(5))
    alert = await wan.until(FutureDatedActivation, within=WITHIN, source=commanded)
    assert alert.outcome == ExecutionOutcome(ActivateImageResponse.SUCCESS, image.version)
    await rig.sleep(minutes(1))
    assert await wan.version(commanded, within=WITHIN) == image.version


def _needs_unstartable(device: Device) -> None:
    if device.behaviour is None:
        pytest.skip(f"nobody here can make an image that {device.name} cannot start")
