"""A GSME's image while another transfer is half way, at every block; and what the Force Replace octet does."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from itertools import pairwise, product

import pytest

from harness import Device, OtaImage, Rig, hours, seconds
from harness.gbcs import TransferResponse
from harness.smi.image_fate import Fate, Stage, Target
from tests.conformance.hub.overwriting import Match, device_for
from tests.conformance.hub.secmp0007 import needs_images_for

pytestmark = pytest.mark.under_test("hub")

Joined = Callable[[str], Awaitable[Device]]
NewImage = Callable[..., OtaImage]
SMALL = 300  # octets: some blocks, each of them a place to be interrupted at
LARGEST_BLOCK = 255  # octets that an Image Block Request can ask for (ZCL8 11.13.6: an 8-bit MaximumDataSize)
LEARNS_WITHIN = hours(
    2
)  # a GSME wakes every 30 minutes, a device that missed its Image Notify asks within the hour


@pytest.mark.parametrize(
    "name",
    [
        pytest.param("b1", marks=pytest.mark.requirement("AH-03")),
        pytest.param("ppmid", marks=pytest.mark.requirement("AH-04")),
    ],
)
async def test_a_gsme_update_at_any_block_of_another_transfer(
    rig: Rig, gsme: Device, joined: Joined, new_image: NewImage, name: str
) -> None:
    """After each block in turn: the GSME gets its image, the other keeps running, asks again and gets its own after."""
    device, wan = await joined(name), rig.hub.wan
    needs_images_for(rig.hub, device)
    running, gas = device.version_at_start, gsme.version_at_start
    cuts = [-1]
    while cuts[-1] < SMALL:
        lost = new_image(target=device, size=SMALL, version=running + 1)
        assert lost.total_size == SMALL
        await wan.deliver(lost, to=device)
        # Queried and no block is the first place, then a block more each time; a block is no event.
        ends = rig.now() + LEARNS_WITHIN
        while device.fetching != lost.version or device.fetched <= cuts[-1]:
            assert rig.now() < ends, f"{device.name} fetches {device.fetching}, has {device.fetched} octets"
            await rig.sleep(seconds(0.01))
        cuts.append(device.fetched)
        gas += 1
        await wan.deliver(new_image(target=gsme, size=SMALL, version=gas), to=gsme)
        await rig.until(
            lambda version=gas: responses(rig, gsme, version) == [TransferResponse.SUCCESS],
            within=LEARNS_WITHIN,
            failure=lambda cut=cuts[-1]: f"the GSME has not got its image over {cut} octets of the other",
        )
        assert gas in gsme.images_held
        assert responses(rig, device, lost.version) == [TransferResponse.IMAGE_DISCARDED]
        assert device.joined
        assert await device.version() == running, f"cut after {cuts[-1]} octets"
        assert device.fetching is None, "it has stopped"
        running += 2
        after = new_image(target=device, size=SMALL, version=running)
        await wan.deliver(after, to=device)
        await device.until(running=running, within=LEARNS_WITHIN)
        assert responses(rig, device, running) == [TransferResponse.SUCCESS]
    assert cuts[1] == 0, "the first cut is before the first block"
    assert max(after - before for before, after in pairwise(cuts[1:])) <= LARGEST_BLOCK, (
        "none was passed over"
    )
    assert len(wan.transfers(gsme)) == len(cuts) - 1, "none of the GSME's images was told of twice"


def responses(rig: Rig, device: Device, version: int) -> list[TransferResponse]:
    """What the hub has told of one image."""
    alerts = rig.hub.wan.transfers(device)
    return [alert.response for alert in alerts if alert.firmware_version == version]


# Only these have the octet: the image of a PPMID ends with its Manufacturer Image (F1.1).
WITH_OCTET = (Target.ESME, Target.GSME, Target.HCALCS)


@pytest.mark.requirement("AH-07")
@pytest.mark.parametrize("octet", [0x00, 0x01], ids="{:#04x}".format)
@pytest.mark.parametrize(
    ("arriving", "waiting"), list(product(WITH_OCTET, Target)), ids=lambda target: str(target)
)
async def test_what_force_replace_does(
    rig: Rig,
    joined: Joined,
    new_image: NewImage,
    observe: Callable[[str], None],
    arriving: Target,
    waiting: Target,
    octet: int,
) -> None:
    """No document says what the octet does: it is recorded. That a hub tells of what it throws away holds for all."""
    first, second = device_for(rig, waiting), device_for(rig, arriving)
    for device in dict.fromkeys((first, second)):
        await joined(device.name)
    needs_images_for(rig.hub, first, second)
    match = Match(rig, first, second, new_image, size=SMALL, force_replace=octet)
    await match.bring_to(Stage.QUEUED)
    seen = await match.collide()
    assert seen.fate not in (Fate.LOST, Fate.UNKNOWN), str(seen)
    observe(f"Force Replace {octet:#04x}, {arriving} over {waiting}: {seen}")
