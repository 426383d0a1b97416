"""Option B of MP170: B1 takes one package for all bridges of the site, hands it out, and speaks for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from harness import Device, Hub, OtaImage, Rig
from harness.gbcs import ActivationResult, build_message
from tests.conformance.bridge.site import (
    QUIET,
    SIZE,
    WITHIN,
    activations,
    all_run,
    refuses_mismatched,
    taken,
    told,
    type_of,
    versions,
    with_part,
)

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("bridge")


@pytest.mark.requirement("AH-12")
async def test_one_package_updates_all_bridges_of_a_site(
    rig: Rig, hub: Hub, option_b: dict[str, Device], new_image: NewImage
) -> None:
    """All run the version of the package; B1 alone asks the hub for it, and the Supplier is told once, by B1."""
    b1 = option_b["B1"]
    package = new_image(target=b1, size=SIZE)
    await hub.wan.deliver(package, to=b1)
    await taken(hub, b1, package)
    await rig.sleep(QUIET)
    await all_run(option_b.values(), package.version)
    for bridge in b1.feeds:
        assert hub.queries(bridge) == 0, f"{bridge.name} has asked the hub for nothing"
        assert hub.wan.transfers(bridge) == []
    assert activations(hub) == [(b1.eui64, package.version, ActivationResult.SUCCESS)]


@pytest.mark.requirement("AH-12")
async def test_a_package_that_does_not_match_the_site_is_refused(
    rig: Rig, hub: Hub, option_b: dict[str, Device], new_image: NewImage
) -> None:
    """Without the image of a bridge of the site, or with one for a bridge that is not there, it changes nothing.

    0x8F8B says failure, once; the package that matches the site is taken after it.
    """
    await refuses_mismatched(rig, hub, option_b["B1"], new_image)


@pytest.mark.requirement("AH-13")
@pytest.mark.requires("power")
async def test_of_a_bridge_without_power_the_supplier_hears_no_name(
    rig: Rig, hub: Hub, option_b: dict[str, Device], new_image: NewImage
) -> None:
    """One failure comes up, from B1, with nothing of another bridge in it; the HAN shows who runs the old firmware."""
    b1 = option_b["B1"]
    other = b1.feeds[0]
    await other.power_off()
    package = new_image(target=b1, size=SIZE)
    await hub.wan.deliver(package, to=b1)
    assert await told(hub, b1, within=b1.profile.feed_seconds + WITHIN) is ActivationResult.FAILURE
    await other.power_on()
    await _one_unnamed_failure(rig, hub, option_b, other)


@pytest.mark.requirement("AH-13")
async def test_of_a_bridge_that_cannot_run_its_image_the_supplier_hears_no_name(
    rig: Rig, hub: Hub, option_b: dict[str, Device], new_image: NewImage
) -> None:
    """One failure comes up, from B1, with nothing of another bridge in it; the HAN shows who runs the old firmware."""
    b1 = option_b["B1"]
    other = b1.feeds[-1]
    hardware = other.profile.hardware_version + 1
    part = replace(new_image(target=other, size=SIZE), hardware_min=hardware, hardware_max=hardware)
    await hub.wan.deliver(with_part(new_image(target=b1, size=SIZE), type_of(other), part), to=b1)
    assert await told(hub, b1, within=b1.profile.feed_seconds + WITHIN) is ActivationResult.FAILURE
    await _one_unnamed_failure(rig, hub, option_b, other)


async def _one_unnamed_failure(rig: Rig, hub: Hub, site: dict[str, Device], failed: Device) -> None:
    """See that the Supplier got one failure that names none but B1, and that the HAN says which bridge failed."""
    await rig.sleep(QUIET)
    b1 = site["B1"]
    assert [(source, result) for source, _, result in activations(hub)] == [
        (b1.eui64, ActivationResult.FAILURE)
    ]
    up = b"".join(build_message(received.message) for received in hub.wan.received)
    named = [
        bridge.name
        for bridge in site.values()
        if bridge.eui64.to_bytes(8, "big") in up or bridge.eui64.to_bytes(8, "little") in up
    ]
    assert named == [b1.name], "what came up names no bridge but the one that speaks for all"
    # Which one it is, the HAN says: assumed is no more than that a bridge whose image did not fail may run it.
    said = await versions(site.values())
    assert said[failed.name] == failed.version_at_start
    assert {name for name, version in said.items() if version == failed.version_at_start} == {failed.name}
