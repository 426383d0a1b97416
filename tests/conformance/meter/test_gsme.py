"""A GSME sleeps: it learns of its image when it wakes up, and says itself what it runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Device, Hub, OtaImage, RemoteProtocolError, Rig, hours, image_hash_of, minutes
from tests.conformance.device.firmware import WITHIN, activate, take

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("gsme")

OTA_CLUSTER, CURRENT_FILE_VERSION = 0x0019, 0x0002  # ZCL8 11.10
SIZE = 2048  # octets of the images
AWAKE = minutes(1)  # what reading a flag and asking for an image may take, clocks included


@pytest.mark.requirement("FW-16")
async def test_a_gsme_learns_of_its_image_at_its_wake_up(
    rig: Rig, hub: Hub, gsme: Device, new_image: NewImage
) -> None:
    """With the flag set it asks for its image at its next wake-up, and not before; it fetches it then."""
    interval = gsme.profile.wake_seconds
    await take(hub, gsme, new_image(target=gsme, size=SIZE))
    # It was awake a moment ago. The next image comes in the middle of its sleep.
    await hub.offer(new_image(target=gsme, size=SIZE, version=gsme.version_at_start + 2), to=gsme)
    await hub.until_queried(by=gsme, within=interval + AWAKE)
    woke = rig.now()
    await hub.upgrade_end(gsme, within=minutes(10))
    await rig.sleep(interval / 2)
    await hub.wan.deliver(new_image(target=gsme, size=SIZE, version=gsme.version_at_start + 3), to=gsme)
    await hub.until_queried(by=gsme, within=interval)
    assert abs(rig.now() - woke - interval) <= AWAKE
    await hub.upgrade_end(gsme, within=minutes(10))


@pytest.mark.requirement("FW-16")
async def test_a_gsme_asks_for_no_image_while_its_flag_is_not_set(hub: Hub, gsme: Device) -> None:
    """Through several wake-ups it does not ask for an image: what tells it to is the flag."""
    with pytest.raises(RemoteProtocolError, match="asked for no image"):
        await hub.until_queried(by=gsme, within=4 * gsme.profile.wake_seconds)


@pytest.mark.requirement("SU-07")
async def test_a_gsme_says_itself_what_it_runs(hub: Hub, gsme: Device, new_image: NewImage) -> None:
    """SR11.2 to the GSME is answered by the GSME with the version that it runs: before an upgrade, and after it."""
    wan, image = hub.wan, new_image(target=gsme, size=SIZE)
    assert await wan.version(gsme, within=hours(1)) == gsme.version_at_start
    await take(hub, gsme, image)
    assert await wan.version(gsme, within=hours(1)) == gsme.version_at_start
    await activate(hub, gsme, image_hash_of(image))
    assert await wan.version(gsme, within=WITHIN) == image.version


@pytest.mark.requirement("JN-03")
async def test_a_gsme_does_not_act_on_traffic_without_a_key(
    hub: Hub, gsme: Device, new_image: NewImage
) -> None:
    """While it is awake, the same read gets its value under the link key, and none without APS security."""
    await hub.offer(new_image(target=gsme, size=64 * 1024), to=gsme)
    await hub.until_fetched(SIZE, by=gsme, within=WITHIN)  # it stays awake for as long as it fetches
    assert await hub.read(gsme, OTA_CLUSTER, CURRENT_FILE_VERSION) == gsme.version_at_start
    fetched = hub.fetched(gsme)
    assert await hub.read(gsme, OTA_CLUSTER, CURRENT_FILE_VERSION, plain=True) is None
    assert hub.fetched(gsme) > fetched, "it was awake"
    assert await hub.read(gsme, OTA_CLUSTER, CURRENT_FILE_VERSION) == gsme.version_at_start
