"""The sites that the tests here are run on: who feeds whom is the rig file's word."""

from __future__ import annotations

import pytest

from harness import Device, Rig

Bridges = dict[str, Device]


def feeding(rig: Rig) -> dict[str, str]:
    """Who feeds whom on this rig, by type: {"B4": "B3"} is option A."""
    return {
        bridge: device.fed_by.profile.bridge
        for bridge, device in rig.bridges.items()
        if device.fed_by is not None
    }


def described(rig: Rig) -> str:
    """Who feeds whom on this rig, for a reason to skip."""
    fed = ", ".join(f"{feeder} feeds {bridge}" for bridge, feeder in feeding(rig).items())
    return f"on {rig.name} {fed or 'no bridge feeds another'}"


@pytest.fixture
def served(bridges: Bridges) -> list[Device]:
    """The bridges that take their images from the hub. They, and those that they feed, are keyed members of the HAN."""
    return [bridge for bridge in bridges.values() if bridge.fed_by is None]


@pytest.fixture
def option_a(rig: Rig, bridges: Bridges) -> Bridges:
    """The bridges of a site under option A of MP170: B3 feeds B4, and nobody else is fed."""
    if feeding(rig) != {"B4": "B3"}:
        pytest.skip(f"needs option A: {described(rig)}")
    return bridges


@pytest.fixture
def option_b(rig: Rig, bridges: Bridges) -> Bridges:
    """The bridges of a site under option B of MP170: B1 feeds all others."""
    others = [bridge for bridge in bridges if bridge != "B1"]
    if not others or feeding(rig) != dict.fromkeys(others, "B1"):
        pytest.skip(f"needs option B: {described(rig)}")
    return bridges
