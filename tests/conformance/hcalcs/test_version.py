"""An HCALCS says what it runs: to the Supplier, to its hub, and on its console."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Device, Hub, OtaImage, Rig, hours, image_hash_of, minutes
from tests.conformance.device.firmware import activate, take

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("hcalcs")

SIZE = 2048  # octets of the image


@pytest.mark.requirement("FW-02")
async def test_an_hcalcs_says_the_same_over_the_han_and_through_the_wan(
    rig: Rig, hub: Hub, hcalcs: Device, new_image: NewImage
) -> None:
    """CS08 and CurrentFileVersion name the old version while the image is only stored, and the new one after SR11.3."""
    wan, image = hub.wan, new_image(target=hcalcs, size=SIZE)
    await take(hub, hcalcs, image)
    await rig.sleep(hours(1))
    assert await wan.version(hcalcs, within=minutes(1)) == await hcalcs.version() == hcalcs.version_at_start
    await activate(hub, hcalcs, image_hash_of(image))
    assert await wan.version(hcalcs, within=minutes(5)) == await hcalcs.version() == image.version


@pytest.mark.requirement("FW-02")
async def test_the_console_of_an_hcalcs_says_what_runs(hub: Hub, hcalcs: Device, new_image: NewImage) -> None:
    """The console, which no one on the HAN has a hand in, has the old version until SR11.3, and the new one then."""
    if hcalcs.behaviour is None and hcalcs.settings.console is None:
        pytest.skip(f"{hcalcs.name} has no console on this bench")
    image = new_image(target=hcalcs, size=SIZE)
    await take(hub, hcalcs, image)
    assert await hcalcs.console_version() == hcalcs.version_at_start
    await activate(hub, hcalcs, image_hash_of(image))
    assert await hcalcs.console_version() == image.version
