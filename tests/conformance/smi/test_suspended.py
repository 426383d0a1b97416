"""MP105, end to end: what a response that the WAN lost leaves behind, and what mends it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from harness import Dcc, Device, Hub, OtaImage, Outcome, Rig, hours
from harness.smi.devices import DeviceStatus
from harness.smi.requests import Code, OtherRequest, Refused, User, UserRole
from harness.smi.responses import ActivationOutcome

NewImage = Callable[..., OtaImage]

pytestmark = pytest.mark.under_test("smi")

SIZE = 2048  # octets of the images: what is judged here is not the transfer
WITHIN = hours(2)  # a GSME wakes up every half an hour


def status(rig: Rig, device: Device) -> DeviceStatus:
    """What the Inventory says of a device."""
    return rig.inventory.device(device.eui64).status


async def take(hub: Hub, dcc: Dcc, meter: Device, new_image: NewImage) -> OtaImage:
    """Bring a meter a new image that is on the CPL, and take the one that it runs off the CPL."""
    image = new_image(target=meter, size=SIZE)
    dcc.list_image(image, target=meter)
    answer = await dcc.update_firmware(image, meter)
    assert answer.delivered_to == (meter.eui64,)
    await hub.wan.receipt(meter, within=WITHIN)
    dcc.withdraw(meter.version_at_start, of=meter)
    return image


async def run_unheard(hub: Hub, dcc: Dcc, meter: Device, new_image: NewImage) -> OtaImage:
    """Have a meter run its new image by an SR11.3 whose response is lost on the WAN."""
    image = await take(hub, dcc, meter, new_image)
    dcc.lose_next_response(of=meter)
    answer = await dcc.activate(image, on=meter)
    assert (answer.outcome, answer.responses) == (Outcome.TIMED_OUT, ())
    return image


@pytest.mark.requirement("SU-01", "SU-02", "SU-10")
async def test_a_lost_response_leaves_the_meter_running_and_the_inventory_suspended(
    rig: Rig, hub: Hub, dcc: Dcc, meter: Device, new_image: NewImage
) -> None:
    """The meter says on the HAN that it runs the new image, the Inventory has it Suspended with the old one."""
    image = await run_unheard(hub, dcc, meter, new_image)
    assert await hub.wan.version(meter, within=WITHIN) == image.version
    record = rig.inventory.device(meter.eui64)
    assert (record.status, record.firmware_version) == (DeviceStatus.SUSPENDED, meter.version_at_start)
    assert [alert.device for alert in dcc.alerts_of("N28")] == [meter.eui64]
    (found,) = await dcc.divergence()
    assert (found.device, found.runs, found.says) == (meter.eui64, image.version, meter.version_at_start)
    assert found.moved == "device"
    role = UserRole.GS if meter.device_kind == "gsme" else UserRole.IS
    topped_up = await dcc.request(OtherRequest(User(role), meter.eui64, "2.2"))
    assert isinstance(topped_up.verdict, Refused)
    assert topped_up.verdict.code is Code.INVALID_DEVICE_STATUS


@pytest.mark.requirement("SU-03", "SU-04", "SU-07")
async def test_sr11_2_restores_a_suspended_meter(
    rig: Rig, hub: Hub, dcc: Dcc, meter: Device, new_image: NewImage
) -> None:
    """SR11.2 passes, its response alone updates version and status, and the two sides agree again."""
    image = await run_unheard(hub, dcc, meter, new_image)
    answer = await dcc.read_version(meter)
    assert (answer.outcome, answer.firmware_version) == (Outcome.DONE, image.version)
    record = rig.inventory.device(meter.eui64)
    assert (record.status, record.firmware_version) == (DeviceStatus.COMMISSIONED, image.version)
    assert [alert.device for alert in dcc.alerts_of("N29")] == [meter.eui64]
    assert await dcc.divergence() == ()


@pytest.mark.requirement("SU-05")
async def test_a_retried_sr11_3_restores_a_suspended_meter(
    rig: Rig, hub: Hub, dcc: Dcc, meter: Device, new_image: NewImage
) -> None:
    """The meter holds no image any more and says so, with the version that it runs: that mends the Inventory."""
    image = await run_unheard(hub, dcc, meter, new_image)
    answer = await dcc.activate(image, on=meter)
    assert answer.activation == ActivationOutcome.NO_IMAGE_HELD
    assert answer.firmware_version == image.version
    assert status(rig, meter) is DeviceStatus.COMMISSIONED
    assert await dcc.divergence() == ()


@pytest.mark.requirement("SU-06", "SU-07")
async def test_sr11_2_to_the_gpf_does_not_restore_a_gsme(
    rig: Rig, hub: Hub, dcc: Dcc, gsme: Device, new_image: NewImage
) -> None:
    """The GPF answers with the new version: that raises N52 and restores nothing; the GSME's own answer does."""
    await dcc.enrol()
    image = await run_unheard(hub, dcc, gsme, new_image)
    answer = await dcc.read_version_of_gpf()
    assert (answer.outcome, answer.firmware_version) == (Outcome.DONE, image.version)
    (mismatch,) = dcc.alerts_of("N52")
    assert (mismatch.device, mismatch.version_smi, mismatch.version_device) == (
        gsme.eui64,
        gsme.version_at_start,
        image.version,
    )
    assert status(rig, gsme) is DeviceStatus.SUSPENDED
    await dcc.read_version(gsme)
    assert status(rig, gsme) is DeviceStatus.COMMISSIONED
    assert len(dcc.alerts_of("N52")) == 1


@pytest.mark.requirement("SU-02")
async def test_a_lost_sr11_3_moves_nobody(
    rig: Rig, hub: Hub, dcc: Dcc, meter: Device, new_image: NewImage
) -> None:
    """Where the request is lost in place of the response, the meter runs on what it ran, and nothing diverges."""
    image = await take(hub, dcc, meter, new_image)
    dcc.lose_next_request(to=meter)
    answer = await dcc.activate(image, on=meter)
    assert answer.outcome is Outcome.TIMED_OUT
    assert await hub.wan.version(meter, within=WITHIN) == meter.version_at_start
    assert await dcc.divergence() == ()
    assert (await dcc.activate(image, on=meter)).activation == ActivationOutcome.SUCCESS
    assert status(rig, meter) is DeviceStatus.COMMISSIONED
