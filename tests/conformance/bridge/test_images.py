"""Each type of Alt HAN bridge has images of its own (MP170), and takes them as a PPMID does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness import Device, Hub, OtaImage, Rig, hours, minutes, seconds
from harness.gbcs import ActivationResult
from tests.conformance.bridge.site import (
    SIZE,
    WITHIN,
    activations,
    taken,
    told,
    type_of,
    unchanged,
    versions,
    with_part,
)

NewImage = Callable[..., OtaImage]

SHORT = 150  # octets of an image whose every block is looked at
BETWEEN_BLOCKS = 0.005  # seconds: no two blocks follow each other faster

pytestmark = pytest.mark.under_test("bridge")


@pytest.mark.requirement("AH-02")
async def test_each_bridge_runs_the_image_of_its_type_and_says_so(
    hub: Hub, served: list[Device], new_image: NewImage
) -> None:
    """It activates by itself what it fetched; 0x8F8B comes up once, with the new version and success."""
    expected = []
    for bridge in served:
        image = new_image(target=bridge, size=SIZE)
        await hub.wan.deliver(image, to=bridge)
        await taken(hub, bridge, image)
        assert await hub.wan.version(bridge, within=minutes(1)) == image.version
        expected.append((bridge.eui64, image.version, ActivationResult.SUCCESS))
    assert activations(hub) == expected


@pytest.mark.requirement("AH-02")
async def test_a_bridge_does_not_run_the_image_of_another_type(
    rig: Rig, hub: Hub, served: list[Device], new_image: NewImage
) -> None:
    """Delivered the images of the other types one by one, it runs what it ran; its own is taken after them."""
    if len(rig.bridges) < 2:
        pytest.skip(f"{rig.name} has one type of bridge only")
    for bridge in served:
        version = bridge.version_at_start
        for other in rig.bridges.values():
            if other is not bridge:
                version += 1
                await hub.wan.deliver(new_image(target=other, size=SIZE, version=version), to=bridge)
                # By then it has asked for images.
                await unchanged(rig, [bridge, *bridge.feeds], after=hours(2))
        own = new_image(target=bridge, size=SIZE, version=version + 1)
        await hub.wan.deliver(own, to=bridge)
        await taken(hub, bridge, own)


@pytest.mark.requirement("AH-02")
async def test_a_fed_bridge_does_not_run_the_image_of_another_type(
    hub: Hub, served: list[Device], new_image: NewImage
) -> None:
    """A package that has, under the name of a bridge, an image of its feeder's type leaves that bridge unchanged."""
    for feeder in served:
        for fed in feeder.feeds[-1:]:
            foreign = replace(new_image(target=fed, size=SIZE), image_type=feeder.profile.image_type)
            package = with_part(new_image(target=feeder, size=SIZE), type_of(fed), foreign)
            await hub.wan.deliver(package, to=feeder)
            within = feeder.profile.feed_seconds + WITHIN
            assert await told(hub, feeder, within=within) is ActivationResult.FAILURE
            assert await versions([fed]) == {fed.name: fed.version_at_start}


@pytest.mark.requirement("AH-08")
async def test_a_bridge_whose_image_is_taken_away_keeps_running_and_takes_the_next_one(
    rig: Rig, hub: Hub, served: list[Device], new_image: NewImage
) -> None:
    """An image that vanishes in mid download leaves it on its old version; the next one offered is taken."""
    for bridge in served:
        image = new_image(target=bridge, size=SIZE)
        await hub.offer(image, to=bridge)
        await hub.until_fetched(image.total_size // 2, by=bridge, within=WITHIN)
        await hub.withdraw(to=bridge)
        await unchanged(rig, [bridge, *bridge.feeds], after=minutes(10))
        successor = new_image(target=bridge, size=SIZE, version=image.version + 1)
        await hub.offer(successor, to=bridge)
        await taken(hub, bridge, successor)
    assert [result for *_, result in activations(hub)] == [ActivationResult.SUCCESS] * len(served)


@pytest.mark.requirement("AH-08")
async def test_a_bridge_whose_image_is_overwritten_takes_the_one_that_overwrote_it(
    hub: Hub, served: list[Device], new_image: NewImage
) -> None:
    """A second image for it that comes in mid download is the one that it runs; nothing is said of the first one."""
    for bridge in served:
        image = new_image(target=bridge, size=SIZE)
        await hub.wan.deliver(image, to=bridge)
        await hub.until_fetched(image.total_size // 2, by=bridge, within=WITHIN)
        successor = new_image(target=bridge, size=SIZE, version=image.version + 1)
        await hub.wan.deliver(successor, to=bridge)
        await taken(hub, bridge, successor)
    assert [result for *_, result in activations(hub)] == [ActivationResult.SUCCESS] * len(served)


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
async def test_power_may_fail_at_any_block_from_the_hub(
    hub: Hub, served: list[Device], new_image: NewImage
) -> None:
    """After each block of a short image in turn its power fails: every time it completes the upgrade."""
    for bridge in served:
        version = before = bridge.version_at_start
        cuts, size = [0], 1
        while cuts[-1] < size:
            version += 1
            image = new_image(target=bridge, size=SHORT, version=version)
            size = image.total_size
            await hub.wan.deliver(image, to=bridge)
            await hub.until_fetched(cuts[-1] + 1, by=bridge, within=WITHIN)
            cuts.append(hub.fetched(bridge))
            await bridge.cut_power(seconds(5))
            assert await bridge.version(within=minutes(10)) == before
            await taken(hub, bridge, image)
            before = version
        assert cuts == sorted(set(cuts)), "each time one block later"


@pytest.mark.requirement("FW-09")
@pytest.mark.requires("power")
@pytest.mark.parametrize("dark", ["fed", "feeder"])
async def test_power_may_fail_at_any_block_from_another_bridge(
    rig: Rig, hub: Hub, served: list[Device], new_image: NewImage, dark: str
) -> None:
    """After each block that a bridge hands another the power of either fails: every time both complete the upgrade."""
    for feeder in served:
        for fed in feeder.feeds[-1:]:
            if fed.behaviour is None:
                pytest.skip(f"nobody here can see which block of its image {fed.name} has")
            cut = fed if dark == "fed" else feeder
            version = before = feeder.version_at_start
            cuts = [0]
            while cuts[-1] < SHORT:
                version += 1
                package = new_image(target=feeder, size=SHORT, version=version)
                await hub.wan.deliver(package, to=feeder)
                await _until_fed(rig, fed, version, cuts[-1] + 1)
                cuts.append(fed.fetched)
                await cut.cut_power(seconds(5))
                assert await fed.console_version() == before
                await taken(hub, feeder, package)
                before = version
            assert cuts == sorted(set(cuts)), "each time one block later"


async def _until_fed(rig: Rig, fed: Device, version: int, octets: int) -> None:
    """Wait until a bridge has so many octets of an image that another hands it."""

    def failure() -> str:
        return f"{fed.name} has not fetched {octets} octets from {fed.settings.fed_by} within {WITHIN:g} s"

    await rig.until(lambda: fed.fetching == version, within=WITHIN, failure=failure)
    deadline = rig.now() + minutes(10)
    while fed.fetched < octets:  # no event of the rig says so
        assert rig.now() < deadline, failure()
        await rig.sleep(BETWEEN_BLOCKS)
