"""What a Communications Hub takes images for: its firmware has SECMP0007, or it knows of meters' images alone."""

from __future__ import annotations

import pytest

from harness import Device, Hub

# The kinds of device whose images came with SECMP0007 (F3).
SINCE = ("hcalcs", "ppmid", "bridge")


def needs_images_for(hub: Hub, *devices: Device) -> None:
    """Skip a test that needs an image for one of these devices on a hub that takes none for it."""
    for device in devices:
        if device.profile.role in SINCE and not hub.profile.ppmid_ota:
            pytest.skip(f"the firmware of {hub.name} predates SECMP0007: it takes no image for {device.name}")
