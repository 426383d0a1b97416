"""SR11.1 and SR11.4 end to end: who is left out before anything is sent, and how far each image has come."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Dcc, Device, Hub, OtaImage, Rig, hours
from harness.gbcs import FirmwareActivated, FirmwareTransfer
from harness.smi.devices import DeviceType, SmetsFamily
from harness.smi.record import Stage
from harness.smi.requests import (
    Acknowledged,
    DeviceLists,
    PreNotifyDevice,
    UpdatePpmidFirmware,
    User,
    UserRole,
)

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("smi")

SIZE = 2048
WITHIN = hours(2)
SUPPLIER = User(UserRole.IS)
STRANGER, PENDING = 0x000D6F000B7A1177, 0x000D6F000B7A1178


def stage(rig: Rig, device: Device) -> Stage | None:
    """How far the image for a device has come, as far as the Inventory was told."""
    upgrade = rig.inventory.device(device.eui64).upgrade
    return None if upgrade is None else upgrade.stage


@pytest.fixture
async def display(rig: Rig, ppmid: Device) -> Device:
    """The rig's PPMID, where images may be sent to it."""
    if rig.hub.profile.smets != "SMETS2" or not rig.hub.profile.ppmid_ota:
        pytest.skip(f"the hub of {rig.name} takes no image for a PPMID")
    await rig.dcc.enrol()
    return ppmid


@pytest.mark.requirement("FW-14", "LB-10")
async def test_devices_that_cannot_take_the_image_are_named_and_left_out(
    rig: Rig, hub: Hub, dcc: Dcc, display: Device, new_image: NewImage
) -> None:
    """Unknown, not commissioned, not applicable, other request in progress: each on its list, and nothing sent."""
    image = new_image(target=display, size=SIZE)
    dcc.list_image(image, target=display)
    profile = display.profile
    version = display.version_at_start
    await dcc.request(
        PreNotifyDevice(
            SUPPLIER,
            PENDING,
            DeviceType.PPMID,
            profile.manufacturer_name,
            profile.model,
            SmetsFamily.SMETS2,
            version,
        )
    )
    assert (await dcc.update_firmware(image, display)).delivered_to == (display.eui64,)
    sent = len(hub.wan.received)
    listed = (STRANGER, PENDING, hub.eui64, display.eui64)
    answer = await dcc.request(UpdatePpmidFirmware("all", SUPPLIER, image.version, listed), image=image)
    assert isinstance(answer.verdict, Acknowledged)
    assert (answer.verdict.warning, answer.verdict.sent_to) == ("W110401", ())
    assert answer.verdict.lists == DeviceLists(
        invalid_device_ids=(STRANGER,),
        not_commissioned=(PENDING,),
        not_applicable_firmware=(hub.eui64,),
        other_request_in_progress=(display.eui64,),
    )
    assert len(hub.wan.received) == sent, "the hub was given nothing to alert"


@pytest.mark.requirement("FW-14", "AH-17")
async def test_a_hub_that_is_too_old_is_sent_nothing(
    rig: Rig, hub: Hub, dcc: Dcc, ppmid: Device, new_image: NewImage
) -> None:
    """A PPMID of a hub whose firmware predates SECMP0007 is on InvalidGBCSVersionList, and no image is sent."""
    if hub.profile.smets != "SMETS2" or hub.profile.ppmid_ota:
        pytest.skip(f"the hub of {rig.name} does not predate SECMP0007")
    await dcc.enrol()
    image = new_image(target=ppmid, size=SIZE)
    dcc.list_image(image, target=ppmid)
    answer = await dcc.update_firmware(image, ppmid)
    assert isinstance(answer.verdict, Acknowledged)
    assert answer.verdict.lists == DeviceLists(invalid_gbcs_version=(ppmid.eui64,))
    assert (answer.verdict.sent_to, answer.responses) == ((), ())
    assert stage(rig, ppmid) is None


@pytest.mark.requirement("FW-15")
async def test_n60_and_n61_say_whether_the_hub_has_the_image(
    rig: Rig, hub: Hub, dcc: Dcc, meter: Device, new_image: NewImage
) -> None:
    """An image lost on the WAN raises N61 and may be sent again; one that reaches the hub raises N60."""
    image = new_image(target=meter, size=SIZE)
    dcc.list_image(image, target=meter)
    dcc.lose_next_request(to=meter)
    assert (await dcc.update_firmware(image, meter)).delivered_to == ()
    assert [alert.device for alert in dcc.alerts_of("N61")] == [meter.eui64]
    assert (stage(rig, meter), dcc.alerts_of("N60")) == (None, [])
    assert (await dcc.update_firmware(image, meter)).delivered_to == (meter.eui64,)
    assert [alert.firmware_version for alert in dcc.alerts_of("N60")] == [image.version]
    assert (await hub.wan.receipt(meter, within=WITHIN)).image_hash


@pytest.mark.requirement("AH-15")
async def test_delivered_to_the_hub_delivered_to_the_device_and_activated_are_three_verdicts(
    rig: Rig, hub: Hub, dcc: Dcc, display: Device, new_image: NewImage
) -> None:
    """Each comes at its time: the CSP's, then the hub's (CCS08), then the PPMID's (0x8F8B)."""
    image = new_image(target=display, size=SIZE)
    dcc.list_image(image, target=display)
    await dcc.update_firmware(image, display)
    assert stage(rig, display) is Stage.AT_HUB
    await hub.wan.until(FirmwareTransfer, within=WITHIN)
    await rig.sleep(10)  # it goes up the WAN
    assert stage(rig, display) is Stage.AT_DEVICE
    assert rig.inventory.device(display.eui64).firmware_version == display.version_at_start
    await hub.wan.until(FirmwareActivated, within=WITHIN, source=display)
    await rig.sleep(10)
    record = rig.inventory.device(display.eui64)
    assert (record.upgrade, record.firmware_version) == (None, image.version)
    assert await dcc.divergence() == ()
