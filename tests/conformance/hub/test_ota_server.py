"""The hub as a server of the OTA Upgrade cluster (ZCL 07-5123-08 11): what it answers, and to whom.

The GSME asks: nothing tells it of its image but its flags, every half an hour, so that it has no transfer of its own.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from harness import Device, Hub, OtaImage, Rig, hours, minutes, seconds
from harness.zigbee import build_image, ota
from tests.conformance.hub.ota_requests import BLOCK, Questioner

pytestmark = [pytest.mark.under_test("hub"), pytest.mark.requirement("FW-11")]

NewImage = Callable[..., OtaImage]
SIZE = 400  # octets
ASK_WITHIN = minutes(65)  # a device that missed its Image Notify asks within the hour
# ZCL8 table 2-12.
SUCCESS, FAILURE, NOT_AUTHORIZED, MALFORMED_COMMAND, UNSUP_CLUSTER_COMMAND = 0x00, 0x01, 0x7E, 0x80, 0x81
ABORT, INVALID_IMAGE, NO_IMAGE_AVAILABLE = 0x95, 0x96, 0x98
NOTHING = ota.QueryNextImageResponse(NO_IMAGE_AVAILABLE)


@pytest.fixture
async def image(hub: Hub, gsme: Device, new_image: NewImage) -> OtaImage:
    """An image that waits at the hub for the GSME, which does not know of it."""
    image = new_image(target=gsme, size=SIZE)
    await hub.wan.deliver(image, to=gsme)
    return image


@pytest.fixture
def asker(gsme: Device) -> Questioner:
    """Who asks in the GSME's name."""
    return Questioner(gsme)


async def test_a_query_is_answered_with_the_image_that_waits(asker: Questioner, image: OtaImage) -> None:
    """Query Next Image Response names manufacturer, type, version and the size of the whole file."""
    found = await asker.ask_once(asker.query())
    assert found == ota.QueryNextImageResponse(
        SUCCESS, image.manufacturer, image.image_type, image.version, image.total_size
    )


@pytest.mark.parametrize("field", ["manufacturer", "image_type", "version"])
async def test_a_query_of_another_model_or_of_the_same_version_finds_nothing(
    asker: Questioner, image: OtaImage, field: str
) -> None:
    """Another manufacturer, another image type, and a client that runs that very version: NO_IMAGE_AVAILABLE."""
    changed = {
        "manufacturer": image.manufacturer + 1,
        "image_type": image.image_type + 1,
        "version": image.version,
    }
    assert await asker.ask_once(asker.query(**{field: changed[field]})) == NOTHING
    assert isinstance(await asker.ask_once(asker.query()), ota.QueryNextImageResponse)


@pytest.mark.parametrize(
    ("above", "status"), [(0, SUCCESS), (1, NO_IMAGE_AVAILABLE), (-1, NO_IMAGE_AVAILABLE)]
)
async def test_a_query_of_hardware_outside_the_range_finds_nothing(
    asker: Questioner, image: OtaImage, above: int, status: int
) -> None:
    """The range of hardware versions in the header has one member here: that is served, its neighbours are not."""
    assert image.hardware_min is not None
    assert image.hardware_min == image.hardware_max
    found = await asker.ask_once(asker.query(hardware=image.hardware_min + above))
    assert isinstance(found, ota.QueryNextImageResponse)
    assert found.status == status


async def test_the_blocks_are_the_file(asker: Questioner, image: OtaImage) -> None:
    """Block by block, the short last one included, it is the file that was delivered, to the octet."""
    assert await asker.fetch(image.version, image.total_size) == build_image(image)


async def test_a_block_may_be_asked_for_twice_and_from_anywhere(asker: Questioner, image: OtaImage) -> None:
    """A block that was lost on the air is given again, the same; and the last octet alone can be had."""
    data = build_image(image)
    for offset in (100, 100, 0, len(data) - 1):
        block = await asker.block(image.version, offset)
        assert isinstance(block, ota.ImageBlock)
        assert block.offset == offset
        assert data[offset:].startswith(block.data)


@pytest.mark.parametrize(
    ("offset", "most"), [(0, BLOCK), (1, BLOCK), (1 << 31, BLOCK), (-1, 0)],
    ids=["at the end", "past the end", "far past the end", "no octets"],
)  # fmt: skip
async def test_a_block_that_is_not_in_the_file_is_malformed(
    asker: Questioner, image: OtaImage, offset: int, most: int
) -> None:
    """An offset at the end of the file or behind it, and a block of no octets: MALFORMED_COMMAND."""
    answer = await asker.block(image.version, image.total_size + offset, most)
    assert answer == (ota.IMAGE_BLOCK_REQUEST, MALFORMED_COMMAND)


async def test_a_file_that_the_hub_does_not_have_is_not_available(asker: Questioner, image: OtaImage) -> None:
    """The missing file of the Smart Energy test specification (9.5.6): NO_IMAGE_AVAILABLE, by block, page and end."""
    missing = (0xFFF0, 0x0000, 0xFFFFFFF0)
    block = await asker.ask_once(ota.ImageBlockRequest(*missing, 100, BLOCK))
    assert block == (ota.IMAGE_BLOCK_REQUEST, NO_IMAGE_AVAILABLE)
    end = await asker.ask_once(ota.UpgradeEndRequest(SUCCESS, *missing))
    assert end == (ota.UPGRADE_END_REQUEST, NO_IMAGE_AVAILABLE)
    another = await asker.block(image.version + 1, 0)
    assert another == (ota.IMAGE_BLOCK_REQUEST, NO_IMAGE_AVAILABLE)


async def test_an_image_is_for_its_target_alone(esme: Device, image: OtaImage) -> None:
    """An ESME that asks for the GSME's image, as if it were one, finds nothing and gets no block of it."""
    asker = Questioner(esme)
    other = asker.query(image_type=image.image_type)
    assert await asker.ask_once(other) == NOTHING
    wanted = ota.ImageBlockRequest(image.manufacturer, image.image_type, image.version, 0, BLOCK)
    assert await asker.ask_once(wanted) == (ota.IMAGE_BLOCK_REQUEST, NO_IMAGE_AVAILABLE)


async def test_a_client_without_a_link_key_is_not_authorised(asker: Questioner, image: OtaImage) -> None:
    """What does not come under the link key is answered NOT_AUTHORIZED (ZSE 5.4.6), the next that does is served."""
    query, wanted = asker.query(), (image.manufacturer, image.image_type, image.version)
    assert await asker.ask_once(query, secured=False) == (ota.QUERY_NEXT_IMAGE_REQUEST, NOT_AUTHORIZED)
    block = ota.ImageBlockRequest(*wanted, 0, BLOCK)
    assert await asker.ask_once(block, secured=False) == (ota.IMAGE_BLOCK_REQUEST, NOT_AUTHORIZED)
    end = ota.UpgradeEndRequest(SUCCESS, *wanted)
    assert await asker.ask_once(end, secured=False) == (ota.UPGRADE_END_REQUEST, NOT_AUTHORIZED)
    assert isinstance(await asker.ask_once(block), ota.ImageBlock)


@pytest.mark.parametrize("command", [0x01, 0x03, 0x04, 0x06, 0x08], ids="command {:#04x}".format)
async def test_a_request_that_is_cut_off_is_malformed(
    asker: Questioner, image: OtaImage, command: int
) -> None:
    """A request of two octets: MALFORMED_COMMAND, and the server goes on."""
    assert await asker.ask_once(bytes((command, 0x00, 0x12))) == (command, MALFORMED_COMMAND)
    assert isinstance(await asker.block(image.version, 0), ota.ImageBlock)


async def test_a_command_that_no_server_has_is_not_supported(asker: Questioner) -> None:
    """A command beyond those of the cluster: UNSUP_CLUSTER_COMMAND."""
    assert await asker.ask_once(bytes((0x0A,))) == (0x0A, UNSUP_CLUSTER_COMMAND)


async def test_there_is_no_file_for_one_device_alone(asker: Questioner, image: OtaImage) -> None:
    """A device specific file, which no GB image is: NO_IMAGE_AVAILABLE."""
    request = ota.QueryDeviceSpecificFileRequest(
        asker.device.eui64, image.manufacturer, image.image_type, image.version, 2
    )
    assert await asker.ask_once(request) == ota.QueryDeviceSpecificFileResponse(NO_IMAGE_AVAILABLE)


async def test_a_page_is_sent_block_by_block_or_not_at_all(
    hub: Hub, asker: Questioner, image: OtaImage
) -> None:
    """An optional command: served with as many blocks as the page has, or answered UNSUP_CLUSTER_COMMAND."""
    wanted = (image.manufacturer, image.image_type, image.version)
    page = ota.ImagePageRequest(*wanted, 0, BLOCK, 4 * BLOCK, 100)
    if not hub.profile.ota.page_requests:
        assert await asker.ask_once(page) == (ota.IMAGE_PAGE_REQUEST, UNSUP_CLUSTER_COMMAND)
        return
    period = hub.profile.ota.block_period_ms
    blocks = await asker.ask(page, answers=4, within=seconds(15 + 4 * period / 1000))
    assert [block.offset for block in blocks if isinstance(block, ota.ImageBlock)] == [
        0, BLOCK, 2 * BLOCK, 3 * BLOCK,
    ]  # fmt: skip
    data = b"".join(block.data for block in blocks if isinstance(block, ota.ImageBlock))
    assert data == build_image(image)[: 4 * BLOCK]


async def test_a_server_that_is_busy_says_how_long(
    rig: Rig, hub: Hub, asker: Questioner, image: OtaImage
) -> None:
    """WAIT_FOR_DATA names a time that is not before the current one; after it the block is there."""
    await hub.hold(asker.device, seconds(60))
    answer = await asker.block_once(image.version, 0)
    assert isinstance(answer, ota.WaitForData)
    wait = answer.request_time - answer.current_time
    assert 0 < wait <= 61
    await rig.sleep(wait)
    assert isinstance(await asker.block_once(image.version, 0), ota.ImageBlock)


async def test_blocks_are_given_no_faster_than_the_hub_wants(
    rig: Rig, hub: Hub, asker: Questioner, image: OtaImage
) -> None:
    """A hub with a pace tells it by MinimumBlockPeriod when asked too soon; one without gives block after block."""
    period = hub.profile.ota.block_period_ms
    began = rig.now()
    assert isinstance(await asker.block_once(image.version, 0), ota.ImageBlock)
    answer = await asker.block_once(image.version, BLOCK)
    took = rig.now() - began
    if took < period / 1000:
        assert isinstance(answer, ota.WaitForData), (
            f"the second block {took:g} s after the first was asked for"
        )
        assert answer.block_period == period
        await rig.sleep(period / 1000 + 1)
        answer = await asker.block_once(image.version, BLOCK)
    elif period:
        pytest.skip(f"two questions take longer than {period} ms here: none comes too soon")
    assert isinstance(answer, ota.ImageBlock)


async def test_a_meter_that_has_its_image_is_told_to_wait(asker: Questioner, image: OtaImage) -> None:
    """Upgrade Time 0xFFFFFFFF, each time it asks: activation comes from CS06 (GBCS 11.2.1)."""
    await asker.fetch(image.version, image.total_size)
    wanted = (image.manufacturer, image.image_type, image.version)
    for _ in range(2):
        told = await asker.ask_once(ota.UpgradeEndRequest(SUCCESS, *wanted))
        assert isinstance(told, ota.UpgradeEndResponse)
        assert told[:3] == wanted
        assert told.upgrade_time == ota.UPGRADE_WAIT


@pytest.mark.parametrize("status", [ABORT, INVALID_IMAGE], ids="status {:#04x}".format)
async def test_a_transfer_that_failed_is_acknowledged(
    asker: Questioner, image: OtaImage, status: int
) -> None:
    """Upgrade End Response is for success alone; any other end has a Default Response of SUCCESS (ZCL8 11.13.9.4)."""
    wanted = (image.manufacturer, image.image_type, image.version)
    assert isinstance(await asker.block(image.version, 0), ota.ImageBlock)
    assert await asker.ask_once(ota.UpgradeEndRequest(status, *wanted)) == (ota.UPGRADE_END_REQUEST, SUCCESS)


async def test_four_clients_at_once_all_get_their_images(
    rig: Rig, hub: Hub, joined: Callable[[str], Awaitable[Device]], new_image: NewImage
) -> None:
    """Four clients, told to wait until one moment, then fetch at once, each its own file (past the hub's store)."""
    devices = [await joined(name) for name in ("esme", "hcalcs", "ppmid", "b1")]
    images = [new_image(target=device, size=2000) for device in devices]
    for device, image in zip(devices, images, strict=True):
        await hub.hold(device, ASK_WITHIN)
        await hub.offer(image, to=device)
    await rig.sleep(ASK_WITHIN - 1)
    assert [device.fetching for device in devices] == [image.version for image in images]
    assert not any(device.fetched for device in devices)
    ends = rig.now() + minutes(10)
    while not all(device.fetched for device in devices):
        assert rig.now() < ends, f"{[device.fetched for device in devices]} octets"
        assert not any(device.images_held for device in devices), "they overlap"
        await rig.sleep(seconds(0.05))
    await rig.until(
        lambda: all(
            image.version in device.images_held for device, image in zip(devices, images, strict=True)
        ),
        within=minutes(10),
        failure=lambda: f"they have {[device.fetched for device in devices]} octets of 2000",
    )
    for device, image in zip(devices[2:], images[2:], strict=True):
        await device.until(running=image.version, within=hours(1))
