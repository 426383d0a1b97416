"""An ESME says what it runs, to whoever asks."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Device, Hub, OtaImage, image_hash_of, minutes, seconds
from tests.conformance.device.firmware import activate, take

pytestmark = pytest.mark.under_test("esme")

SIZE = 2048  # octets of the image


@pytest.mark.requirement("SU-13")
async def test_an_esme_says_the_same_over_the_han_and_through_the_wan(
    hub: Hub, esme: Device, new_image: Callable[..., OtaImage]
) -> None:
    """SR11.2, the response to SR11.3 and CurrentFileVersion name the same version: before an upgrade, and after it."""
    wan, image = hub.wan, new_image(target=esme, size=SIZE)
    assert await wan.version(esme, within=seconds(30)) == await esme.version() == esme.version_at_start
    await take(hub, esme, image)
    outcome = await activate(hub, esme, image_hash_of(image))
    assert outcome.firmware_version == image.version
    assert await wan.version(esme, within=minutes(5)) == await esme.version() == image.version
