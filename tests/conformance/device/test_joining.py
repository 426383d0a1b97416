"""A device joins the HAN of its Communications Hub, and only that way."""

from __future__ import annotations

import pytest

from harness import Device, Hub, RemoteProtocolError, Rig, minutes, seconds

OTA_CLUSTER, CURRENT_FILE_VERSION = 0x0019, 0x0002  # ZCL8 11.10
# A published test vector with its CRC: no device's own.
ANOTHER_INSTALL_CODE = bytes.fromhex("83FED3407A932B70")


@pytest.mark.requirement("JN-01", "JN-02")
@pytest.mark.requires("power")
async def test_a_device_joins_with_its_install_code(rig: Rig, hub: Hub, newcomer: Device) -> None:
    """With its EUI-64 and install code in the Device Log it joins in the join period; CBKE follows within minutes."""
    await hub.admit(newcomer, period=minutes(4))
    await newcomer.power_on()
    await newcomer.until(joined=True, within=minutes(4))
    await newcomer.until(keyed=True, within=minutes(10))


@pytest.mark.requirement("JN-01")
@pytest.mark.requires("power")
async def test_a_wrong_install_code_does_not_join(hub: Hub, newcomer: Device) -> None:
    """A device that the Device Log knows under another install code is never given the network key."""
    await hub.admit(newcomer, install_code=ANOTHER_INSTALL_CODE, period=minutes(4))
    await newcomer.power_on()
    with pytest.raises(RemoteProtocolError, match="has not joined"):
        await newcomer.until(joined=True, within=minutes(5))


@pytest.mark.requirement("JN-01")
@pytest.mark.requires("power")
async def test_nothing_joins_outside_the_join_period(rig: Rig, hub: Hub, newcomer: Device) -> None:
    """A device that is in the Device Log does not join after its join period is over."""
    await hub.admit(newcomer, period=seconds(60))
    await rig.sleep(seconds(90))
    await newcomer.power_on()
    with pytest.raises(RemoteProtocolError, match="has not joined"):
        await newcomer.until(joined=True, within=minutes(5))


@pytest.mark.requirement("JN-01")
@pytest.mark.requires("power")
async def test_a_device_that_was_refused_joins_when_it_is_admitted(hub: Hub, out_of_log: Device) -> None:
    """A device that is not in the Device Log is refused; once its entry is there it joins, without a factory reset."""
    await hub.admit(out_of_log, period=minutes(4))
    await out_of_log.until(joined=True, within=minutes(4))


@pytest.mark.requirement("JN-03")
async def test_smart_energy_traffic_without_a_key_is_not_acted_on(hub: Hub, notified: Device) -> None:
    """The same read of CurrentFileVersion gets its value under the link key, and none without APS security."""
    assert await hub.read(notified, OTA_CLUSTER, CURRENT_FILE_VERSION) == notified.version_at_start
    assert await hub.read(notified, OTA_CLUSTER, CURRENT_FILE_VERSION, plain=True) is None
    assert await hub.read(notified, OTA_CLUSTER, CURRENT_FILE_VERSION) == notified.version_at_start


@pytest.fixture
async def out_of_log(newcomer: Device) -> Device:
    """A powered device that tried to join for five minutes without an entry in the Device Log."""
    await newcomer.power_on()
    with pytest.raises(RemoteProtocolError, match="has not joined"):
        await newcomer.until(joined=True, within=minutes(5))
    return newcomer
