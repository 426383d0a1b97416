"""A hardware-in-the-loop test harness for devices on a GB smart-metering Home Area Network: its public API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, LocalProtocolError, RemoteProtocolError, RigError

if TYPE_CHECKING:
    from harness.members.kinds import DeviceKind
    from harness.rig.hub import Hub
    from harness.rig.images import image_hash_of
    from harness.rig.nouns import Device, Member
    from harness.rig.open import Rig, open_rig
    from harness.wire.image import OtaImage

__all__ = [
    "Device",
    "DeviceKind",
    "HarnessError",
    "Hub",
    "LocalProtocolError",
    "Member",
    "OtaImage",
    "RemoteProtocolError",
    "Rig",
    "RigError",
    "hours",
    "image_hash_of",
    "minutes",
    "open_rig",
    "seconds",
]

_HOMES = {
    "Device": "harness.rig.nouns",
    "DeviceKind": "harness.members.kinds",
    "Hub": "harness.rig.hub",
    "Member": "harness.rig.nouns",
    "OtaImage": "harness.wire.image",
    "Rig": "harness.rig.open",
    "image_hash_of": "harness.rig.images",
    "open_rig": "harness.rig.open",
}


def seconds(count: float) -> float:
    """`count` seconds, in seconds: the unit of every time that the API takes."""
    return float(count)


def minutes(count: float) -> float:
    """`count` minutes, in seconds."""
    return count * 60.0


def hours(count: float) -> float:
    """`count` hours, in seconds."""
    return count * 3600.0


def __getattr__(name: str) -> Any:
    # Loading a rig loads bellows and zigpy, a second of imports that a core, or pytest's start, shall not pay for.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_HOMES[name]), name)
