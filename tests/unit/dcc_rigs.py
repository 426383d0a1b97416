"""Standing rigs with a `dcc` section, for the tests of the DCC in its place on a rig."""

from __future__ import annotations

from pathlib import Path

from harness import Device, Rig
from harness.smi.devices import DeviceStatus
from tests.unit.served import STANDING_RIG as DEVICES


def with_dcc(folder: Path, section: str, path: Path = DEVICES) -> Path:
    """A standing rig's file with a `dcc` section."""
    file = folder / path.name
    file.write_text(path.read_text() + f"\ndcc:\n{section}")
    return file


def status(rig: Rig, device: Device) -> DeviceStatus:
    """What the Inventory says of a device."""
    return rig.inventory.device(device.eui64).status
