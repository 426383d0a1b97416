"""The devices that the tests here are run with: one of each kind, wherever such a one is under test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import cache

import pytest

from harness import Device, Rig, open_rig
from tests.conformance.device.firmware import BY_COMMAND

Joined = Callable[[str], Awaitable[Device]]

KINDS = {
    "newcomer": (*BY_COMMAND, "ppmid", "bridge", "ihd"),
    "device": (*BY_COMMAND, "ppmid"),
    "commanded": BY_COMMAND,
    "notified": ("esme", "hcalcs", "ppmid"),
}
"""The kinds of device that each fixture gives, in turn."""


@cache
def kinds_under_test(rig_file: str) -> frozenset[str]:
    """The kinds of device that a rig is there to judge."""
    return frozenset(device.profile.role for device in open_rig(rig_file).devices if device.under_test)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with each kind that is under test on the rig; where none is, it is skipped with each."""
    rig_file = metafunc.config.getoption("--rig")
    judged = frozenset() if rig_file is None else kinds_under_test(rig_file)
    for fixture, kinds in KINDS.items():
        if fixture in metafunc.fixturenames:
            chosen = [kind for kind in kinds if kind in judged] or kinds
            parameters = [pytest.param(kind, marks=pytest.mark.under_test(kind)) for kind in chosen]
            metafunc.parametrize(fixture, parameters, indirect=True)


def of_kind(rig: Rig, kind: str) -> Device:
    """The rig's device of a kind."""
    device = rig.of_role(kind)
    if device is None:
        pytest.skip(f"{rig.name} has no {kind.upper()}")
    return device


@pytest.fixture
def newcomer(request: pytest.FixtureRequest, rig: Rig) -> Device:
    """A device of each kind, which has not joined."""
    return of_kind(rig, request.param)


@pytest.fixture
async def device(request: pytest.FixtureRequest, rig: Rig, joined: Joined) -> Device:
    """A keyed member of the HAN, of each kind that takes images from its hub."""
    return await joined(of_kind(rig, request.param).name)


@pytest.fixture
async def commanded(request: pytest.FixtureRequest, rig: Rig, joined: Joined) -> Device:
    """A keyed member of the HAN, of each kind that runs an image when SR11.3 says so."""
    return await joined(of_kind(rig, request.param).name)


@pytest.fixture
async def notified(request: pytest.FixtureRequest, rig: Rig, joined: Joined) -> Device:
    """A keyed member of the HAN, of each kind that is awake, and told of its image by an Image Notify."""
    return await joined(of_kind(rig, request.param).name)
