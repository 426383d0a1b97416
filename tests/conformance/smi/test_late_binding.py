"""MP202, end to end: a dual-mode PPMID has the SMETS family of the hub that it joins, whatever was pre-notified."""

from __future__ import annotations

import pytest

from harness import Dcc, Outcome, Rig, minutes
from harness.smi.devices import DeviceStatus, SmetsFamily
from harness.smi.requests import UpdateDeviceLog, User, UserRole

pytestmark = pytest.mark.under_test("smi")


@pytest.mark.requirement("LB-02", "LB-03")
@pytest.mark.parametrize("pre_notified", list(SmetsFamily))
async def test_a_dual_mode_ppmid_is_bound_by_its_hub(rig: Rig, dcc: Dcc, pre_notified: SmetsFamily) -> None:
    """Pre-notified as either, it is added to the Device Log, joins, and has the family of the rig's hub."""
    ppmid = rig.of_role("ppmid")
    if ppmid is None or ppmid.profile.smets != "dual":
        pytest.skip(f"{rig.name} has no dual-mode PPMID")
    await dcc.enrol(rig.hub)
    assert (await dcc.pre_notify(ppmid, smets=pre_notified)).outcome is Outcome.DONE
    assert rig.inventory.device(ppmid.eui64).smets is pre_notified
    await dcc.request(UpdateDeviceLog(User(UserRole.IS), rig.hub.eui64, ppmid.eui64))
    assert rig.inventory.device(ppmid.eui64).status is DeviceStatus.WHITELISTED
    await ppmid.power_on()
    await ppmid.until(joined=True, within=minutes(10))
    record = rig.inventory.device(ppmid.eui64)
    assert (record.smets, record.status) == (rig.hub.profile.smets, DeviceStatus.INSTALLED_NOT_COMMISSIONED)
    assert [raised.alert for raised in dcc.alerts] == []
