"""A hardware-in-the-loop test harness for devices on a GB smart-metering Home Area Network: its public API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.errors import HarnessError, LocalProtocolError, RemoteProtocolError, RigError

if TYPE_CHECKING:
    from harness.dcc.divergence import Diverged
    from harness.dcc.interface import Answer, Outcome
    from harness.members.kinds import DeviceKind
    from harness.rig.commissioned import Commissioned, commission, load_commissioned, save_commissioned
    from harness.rig.dcc import Dcc
    from harness.rig.hub import Hub
    from harness.rig.images import image_hash_of
    from harness.rig.nouns import Device, Member
    from harness.rig.open import Rig, open_rig
    from harness.rig.wan import Received, Wan
    from harness.wire.image import OtaImage

__all__ = [
    "Answer",
    "Commissioned",
    "Dcc",
    "Device",
    "DeviceKind",
    "Diverged",
    "HarnessError",
    "Hub",
    "LocalProtocolError",
    "Member",
    "OtaImage",
    "Outcome",
    "Received",
    "RemoteProtocolError",
    "Rig",
    "RigError",
    "Wan",
    "commission",
    "hours",
    "image_hash_of",
    "load_commissioned",
    "minutes",
    "open_rig",
    "save_commissioned",
    "seconds",
]

_HOMES = {
    "Answer": "harness.dcc.interface",
    "Commissioned": "harness.rig.commissioned",
    "Dcc": "harness.rig.dcc",
    "Device": "harness.rig.nouns",
    "DeviceKind": "harness.members.kinds",
    "Diverged": "harness.dcc.divergence",
    "Hub": "harness.rig.hub",
    "Member": "harness.rig.nouns",
    "OtaImage": "harness.wire.image",
    "Outcome": "harness.dcc.interface",
    "Received": "harness.rig.wan",
    "Rig": "harness.rig.open",
    "Wan": "harness.rig.wan",
    "commission": "harness.rig.commissioned",
    "image_hash_of": "harness.rig.images",
    "load_commissioned": "harness.rig.commissioned",
    "open_rig": "harness.rig.open",
    "save_commissioned": "harness.rig.commissioned",
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
