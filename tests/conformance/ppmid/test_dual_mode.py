"""A dual-mode PPMID is a PPMID of the system that its Communications Hub belongs to, SMETS1 or SMETS2+ (MP202)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Device, Hub, OtaImage, Rig, hours, minutes
from harness.gbcs import ActivationResult, FirmwareActivated

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("ppmid")


@pytest.fixture
def dual(ppmid: Device) -> Device:
    """The rig's PPMID, where it is a dual-mode one."""
    if ppmid.profile.smets != "dual":
        pytest.skip(f"{ppmid.name} is a {ppmid.profile.smets} PPMID, no dual-mode one")
    return ppmid


def enrolled_in(hub: Hub, family: str) -> None:
    """Skip a test of one SMETS family on a rig of the other."""
    if hub.profile.smets != family:
        pytest.skip(f"the system of this rig is {hub.profile.smets}")


@pytest.mark.requirement("LB-05", "LB-11")
async def test_in_a_smets2_system_it_takes_an_upgrade_and_speaks_gbcs(
    hub: Hub, dual: Device, new_image: NewImage
) -> None:
    """It answers SR11.2, takes the image that the Supplier sends, runs it and says so (0x8F8B), as a SMETS2+ PPMID."""
    enrolled_in(hub, "SMETS2")
    wan, image = hub.wan, new_image(target=dual, size=16 * 1024)
    assert await wan.version(dual, within=minutes(1)) == dual.version_at_start
    await wan.deliver(image, to=dual)
    activated = await wan.until(FirmwareActivated, within=hours(2), source=dual)
    assert (activated.firmware_version, activated.result) == (image.version, ActivationResult.SUCCESS)
    assert await wan.version(dual, within=minutes(1)) == await dual.version() == image.version


@pytest.mark.requirement("LB-11")
async def test_in_a_smets1_system_it_works_without_gbcs(
    rig: Rig, hub: Hub, dual: Device, new_image: NewImage
) -> None:
    """It is a keyed member, takes its hub's image, runs it, and says nothing in GBCS, which nobody there would read."""
    enrolled_in(hub, "SMETS1")
    image = new_image(target=dual, size=16 * 1024)
    await hub.offer(image, to=dual)
    await dual.until(running=image.version, within=hours(2))
    await rig.sleep(hours(1))
    assert hub.wan.received == []
    assert await dual.version() == image.version
