"""The meters that the tests here are run with, in the Inventory; what is judged is the model, not a device."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from harness import Device, Rig

Joined = Callable[[str], Awaitable[Device]]

METERS = ("esme", "gsme")


@pytest.fixture
async def meter(request: pytest.FixtureRequest, rig: Rig, joined: Joined) -> Device:
    """The rig's electricity meter, then its gas meter: a commissioned member of the HAN and of the Inventory."""
    device = rig.of_role(request.param)
    if device is None:
        pytest.skip(f"{rig.name} has no {request.param.upper()}")
    await joined(device.name)
    await rig.dcc.enrol()
    return device


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test of a meter with each kind of meter that MP105 is about."""
    if "meter" in metafunc.fixturenames:
        metafunc.parametrize("meter", METERS, indirect=True)
