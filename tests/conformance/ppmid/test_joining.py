"""A PPMID joins the HAN of its Communications Hub, and only that way."""

from __future__ import annotations

import pytest

from harness import Device, Hub, RemoteProtocolError, Rig, minutes, seconds

OTA_CLUSTER, CURRENT_FILE_VERSION = 0x0019, 0x0002  # ZCL8 11.10
# A published test vector with its CRC: no device's own.
ANOTHER_INSTALL_CODE = bytes.fromhex("83FED3407A932B70")


@pytest.mark.requirement("JN-01")
async def test_a_ppmid_joins_with_its_install_code(rig: Rig, hub: Hub) -> None:
    """A PPMID whose EUI-64 and install code are in the Device Log joins while the join period runs."""
    ppmid = rig.device("ppmid")
    await hub.admit(ppmid, period=minutes(4))
    await ppmid.power_on()
    await ppmid.until(joined=True, within=minutes(4))
    assert await ppmid.version() == ppmid.version_at_start


@pytest.mark.requirement("JN-02")
async def test_key_establishment_follows_the_join(rig: Rig, hub: Hub) -> None:
    """A PPMID that has joined establishes a link key with the hub by CBKE, within minutes and unasked."""
    ppmid = rig.device("ppmid")
    await hub.admit(ppmid, period=minutes(4))
    await ppmid.power_on()
    await ppmid.until(keyed=True, within=minutes(10))


@pytest.mark.requirement("JN-03")
async def test_smart_energy_traffic_without_a_key_is_not_acted_on(hub: Hub, ppmid: Device) -> None:
    """The same read of CurrentFileVersion gets its value under the link key, and none without APS security."""
    assert await hub.read(ppmid, OTA_CLUSTER, CURRENT_FILE_VERSION) == ppmid.version_at_start
    assert await hub.read(ppmid, OTA_CLUSTER, CURRENT_FILE_VERSION, plain=True) is None
    assert await hub.read(ppmid, OTA_CLUSTER, CURRENT_FILE_VERSION) == ppmid.version_at_start


@pytest.mark.requirement("JN-01")
@pytest.mark.requires("power")
async def test_a_wrong_install_code_does_not_join(rig: Rig, hub: Hub) -> None:
    """A PPMID that the Device Log knows under another install code is never given the network key."""
    ppmid = rig.device("ppmid")
    await hub.admit(ppmid, install_code=ANOTHER_INSTALL_CODE, period=minutes(4))
    await ppmid.power_on()
    with pytest.raises(RemoteProtocolError, match="has not joined"):
        await ppmid.until(joined=True, within=minutes(5))


@pytest.mark.requirement("JN-01")
@pytest.mark.requires("power")
async def test_nothing_joins_outside_the_join_period(rig: Rig, hub: Hub) -> None:
    """A PPMID that is in the Device Log does not join after its join period is over."""
    ppmid = rig.device("ppmid")
    await hub.admit(ppmid, period=seconds(60))
    await rig.sleep(seconds(90))
    await ppmid.power_on()
    with pytest.raises(RemoteProtocolError, match="has not joined"):
        await ppmid.until(joined=True, within=minutes(5))


@pytest.mark.requirement("JN-01")
@pytest.mark.requires("power")
async def test_a_ppmid_that_was_refused_joins_when_it_is_admitted(
    rig: Rig, hub: Hub, ppmid_out_of_log: Device
) -> None:
    """A device that is not in the Device Log is refused; once its entry is there it joins, without a factory reset."""
    await hub.admit(ppmid_out_of_log, period=minutes(4))
    await ppmid_out_of_log.until(joined=True, within=minutes(4))


@pytest.fixture
async def ppmid_out_of_log(rig: Rig, hub: Hub) -> Device:
    """A powered PPMID that tried to join for five minutes without an entry in the Device Log."""
    ppmid = rig.device("ppmid")
    await ppmid.power_on()
    with pytest.raises(RemoteProtocolError, match="has not joined"):
        await ppmid.until(joined=True, within=minutes(5))
    return ppmid
