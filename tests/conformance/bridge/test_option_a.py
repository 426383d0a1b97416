"""Option A of MP170: B4 sleeps and takes its image from B3, for which a package of both is meant."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Device, Hub, OtaImage, Rig
from harness.gbcs import ActivationResult
from tests.conformance.bridge.site import (
    QUIET,
    SIZE,
    WITHIN,
    activations,
    all_run,
    refuses_mismatched,
    taken,
    told,
    versions,
)

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("bridge")


@pytest.mark.requirement("AH-11")
async def test_three_images_update_the_four_bridges_of_a_site(
    rig: Rig, hub: Hub, option_a: dict[str, Device], new_image: NewImage
) -> None:
    """The images of B1 and B2 and the package of B3 and B4 update all; B4 asks the hub for none; three are told of."""
    *served, b4 = (option_a[bridge] for bridge in sorted(option_a))
    images = [new_image(target=bridge, size=SIZE) for bridge in served]
    for bridge, image in zip(served, images, strict=True):
        await hub.wan.deliver(image, to=bridge)
        await taken(hub, bridge, image)
    await rig.sleep(QUIET)
    await all_run([*served, b4], b4.version_at_start + 1)
    assert hub.queries(b4) == 0, "B4 has asked the hub for nothing"
    assert hub.wan.transfers(b4) == []
    assert activations(hub) == [
        (bridge.eui64, image.version, ActivationResult.SUCCESS)
        for bridge, image in zip(served, images, strict=True)
    ]


@pytest.mark.requirement("AH-11")
async def test_b4_is_updated_with_b3_and_nobody_else(
    rig: Rig, hub: Hub, option_a: dict[str, Device], new_image: NewImage
) -> None:
    """A package for B3 changes B3 and B4, a pair; B1 and B2 run what they ran."""
    pair = [option_a["B3"], option_a["B4"]]
    package = new_image(target=option_a["B3"], size=SIZE)
    await hub.wan.deliver(package, to=option_a["B3"])
    await taken(hub, option_a["B3"], package)
    others = [bridge for bridge in option_a.values() if bridge not in pair]
    assert await versions(others) == {bridge.name: bridge.version_at_start for bridge in others}


@pytest.mark.requirement("AH-11")
@pytest.mark.requires("power")
async def test_of_a_b4_that_fails_the_supplier_hears_from_b3(
    rig: Rig, hub: Hub, option_a: dict[str, Device], new_image: NewImage
) -> None:
    """With B4 without power one 0x8F8B comes up, failure, from B3; the next package updates both."""
    b3, b4 = option_a["B3"], option_a["B4"]
    await b4.power_off()
    package = new_image(target=b3, size=SIZE)
    await hub.wan.deliver(package, to=b3)
    assert await told(hub, b3, within=b3.profile.feed_seconds + WITHIN) is ActivationResult.FAILURE
    await rig.sleep(QUIET)
    assert [(source, result) for source, _, result in activations(hub)] == [
        (b3.eui64, ActivationResult.FAILURE)
    ]
    await b4.power_on()
    assert await versions([b4]) == {b4.name: b4.version_at_start}
    successor = new_image(target=b3, size=SIZE, version=package.version + 1)
    await hub.wan.deliver(successor, to=b3)
    await taken(hub, b3, successor)


@pytest.mark.requirement("AH-11")
async def test_a_package_that_is_not_for_b3_and_b4_is_refused(
    rig: Rig, hub: Hub, option_a: dict[str, Device], new_image: NewImage
) -> None:
    """Without the image of either, or with one for B1 or B2, it changes nothing, and 0x8F8B says failure."""
    await refuses_mismatched(rig, hub, option_a["B3"], new_image)
