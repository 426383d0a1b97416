"""The devices that the tests here are run with: one of each kind, wherever such a one is under test."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from harness import Device, Rig
from harness.pytest_plugin import roles_under_test
from tests.conformance.device.firmware import BY_COMMAND

Joined = Callable[[str], Awaitable[Device]]

KINDS = {
    "newcomer": (*BY_COMMAND, "ppmid", "bridge", "ihd"),
    "device": (*BY_COMMAND, "ppmid"),
    "commanded": BY_COMMAND,
    "notified": ("esme", "hcalcs", "ppmid"),
}
"""The kinds of device that each fixture gives, in turn."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test with each kind that is under test on the rig; where none is, it is skipped with each."""
    judged = roles_under_test(metafunc.config)
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
