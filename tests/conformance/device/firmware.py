"""A device and its image, from the Supplier's side: whatever its kind, the image is to run in the end."""

from __future__ import annotations

from harness import Device, Hub, OtaImage, hours, image_hash_of, minutes
from harness.gbcs import FIRMWARE_VERIFIED, ActivateImageResponse, ExecutionOutcome

BY_COMMAND = ("esme", "gsme", "hcalcs")
"""The kinds of device that run an image when SR11.3 says so; the others do by themselves."""

# A GSME wakes up every half an hour; whoever missed its Image Notify asks within the hour.
WITHIN = hours(2)


async def take(hub: Hub, device: Device, image: OtaImage) -> None:
    """Deliver an image to a device that SR11.3 activates, and see that it stores it."""
    await hub.wan.deliver(image, to=device)
    await stored(hub, device, image)


async def stored(hub: Hub, device: Device, image: OtaImage) -> None:
    """See that a device that SR11.3 activates stores the image that it fetches."""
    receipt = await hub.wan.receipt(device, image_hash=image_hash_of(image), within=WITHIN)
    assert receipt.alert_code == FIRMWARE_VERIFIED


async def running(hub: Hub, device: Device) -> int:
    """Return the version that a device runs, asked until it answers; of one that sleeps, by SR11.2."""
    if device.device_kind == "gsme":
        return await hub.wan.version(device, within=WITHIN)
    return await device.version(within=minutes(10))


async def activate(hub: Hub, device: Device, image_hash: bytes) -> ExecutionOutcome:
    """Send SR11.3 for now, and return the response."""
    counter = await hub.wan.activate(image_hash, on=device)
    return await hub.wan.until(ExecutionOutcome, within=WITHIN, source=device, counter=counter)


async def complete(hub: Hub, device: Device, image: OtaImage) -> None:
    """See a device through to the image that it is fetching: it runs it, by itself or when SR11.3 says so."""
    if device.device_kind not in BY_COMMAND:
        await device.until(running=image.version, within=WITHIN)
        return
    await stored(hub, device, image)
    outcome = await activate(hub, device, image_hash_of(image))
    assert outcome.response is ActivateImageResponse.SUCCESS  # the version in it is SU-13's, and judged there
