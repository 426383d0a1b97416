"""Alt HAN bridges join the HAN as variants of the PPMID (MP170): by a PPMID's entry, and with a PPMID's use cases."""

from __future__ import annotations

import pytest

from harness import Device, DeviceKind, Hub, Rig, minutes
from tests.conformance.bridge.site import ANSWERS_WITHIN

pytestmark = pytest.mark.under_test("bridge")


@pytest.mark.requirement("AH-01")
@pytest.mark.requires("power")
async def test_each_bridge_joins_by_the_entry_of_a_ppmid(rig: Rig, hub: Hub) -> None:
    """A hub that knows of PPMIDs only has each join in its join period, and establishes a link key with it."""
    for bridge in rig.bridges.values():
        code = bridge.settings.install_code
        assert code is not None, "a bridge under test has its install code in the rig file"
        await hub.admit_stranger(bridge.eui64, DeviceKind.PPMID, install_code=code, period=minutes(4))
        await bridge.power_on()
        await bridge.until(joined=True, within=minutes(4))
        await bridge.until(keyed=True, within=minutes(10))


@pytest.mark.requirement("AH-01")
async def test_each_bridge_says_as_a_ppmid_does_what_it_runs(hub: Hub, bridges: dict[str, Device]) -> None:
    """SR11.2 to it is CS08, the use case of a PPMID: the version in its response is that of CurrentFileVersion."""
    for bridge in bridges.values():
        assert await hub.wan.version(bridge, within=ANSWERS_WITHIN) == bridge.version_at_start
        assert await bridge.version(within=ANSWERS_WITHIN) == bridge.version_at_start
