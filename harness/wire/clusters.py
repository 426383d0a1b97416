"""The attribute tables of the clusters that members serve, for `zcl.AttributeServer`."""

from __future__ import annotations

from collections.abc import Callable

from harness.wire import zcl
from harness.wire.ota_client import OtaClient

BASIC_CLUSTER = 0x0000
TIME_CLUSTER = 0x000A

CLUSTER_REVISION = 0xFFFD  # ZCL8 2.3.5.1

# Basic, ZCL8 3.2.2.
ZCL_VERSION = 0x0000
APPLICATION_VERSION = 0x0001
HARDWARE_VERSION = 0x0003
MANUFACTURER_NAME = 0x0004
MODEL_IDENTIFIER = 0x0005
POWER_SOURCE = 0x0007

# Time, ZCL8 3.12.2.
TIME = 0x0000
TIME_STATUS = 0x0001
TIME_STATUS_MASTER = 0x09  # master clock, and master for its zone and daylight saving

# OTA Upgrade, client side, ZCL8 11.10.
UPGRADE_SERVER_ID = 0x0000
FILE_OFFSET = 0x0001
CURRENT_FILE_VERSION = 0x0002
CURRENT_STACK_VERSION = 0x0003
DOWNLOADED_FILE_VERSION = 0x0004
DOWNLOADED_STACK_VERSION = 0x0005
IMAGE_UPGRADE_STATUS = 0x0006
MANUFACTURER_ID = 0x0007
IMAGE_TYPE_ID = 0x0008
MINIMUM_BLOCK_PERIOD = 0x0009
UPGRADE_ACTIVATION_POLICY = 0x000B
UPGRADE_TIMEOUT_POLICY = 0x000C

_ZCL_VERSION = 8  # ZCL8 3.2.2.2.1
_MAINS = 0x01  # ZCL8 table 3-9


def basic_attributes(
    manufacturer_name: str, model: str, *, hardware_version: int = 1, application_version: int = 1
) -> dict[int, zcl.Attribute]:
    """Basic (0x0000): who made the device and what it is. Both texts have 32 octets at most."""
    return {
        ZCL_VERSION: zcl.constant(zcl.UINT8, _ZCL_VERSION),
        APPLICATION_VERSION: zcl.constant(zcl.UINT8, application_version),
        HARDWARE_VERSION: zcl.constant(zcl.UINT8, hardware_version),
        MANUFACTURER_NAME: zcl.constant(zcl.STRING, manufacturer_name),
        MODEL_IDENTIFIER: zcl.constant(zcl.STRING, model),
        POWER_SOURCE: zcl.constant(zcl.ENUM8, _MAINS),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 3),
    }


def time_attributes(utc: Callable[[float], int]) -> dict[int, zcl.Attribute]:
    """Time (0x000A) of a master clock; `utc` gives UTC seconds since 2000 for a time on the carrier's clock."""
    return {
        TIME: zcl.Attribute(zcl.UTC_TIME, utc),
        TIME_STATUS: zcl.constant(zcl.MAP8, TIME_STATUS_MASTER),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 2),
    }


def ota_client_attributes(client: OtaClient) -> dict[int, zcl.Attribute]:
    """OTA Upgrade (0x0019), the client side."""
    config, storage = client.config, client.storage
    table = {
        UPGRADE_SERVER_ID: zcl.Attribute(zcl.EUI64, lambda now: client.server_eui64),
        FILE_OFFSET: zcl.Attribute(
            zcl.UINT32, lambda now: 0xFFFFFFFF if storage.version is None else len(storage.data)
        ),
        CURRENT_FILE_VERSION: zcl.constant(zcl.UINT32, client.running_version),
        CURRENT_STACK_VERSION: zcl.constant(zcl.UINT16, config.stack_version),
        DOWNLOADED_FILE_VERSION: zcl.Attribute(
            zcl.UINT32, lambda now: storage.version if storage.verified else 0xFFFFFFFF
        ),
        DOWNLOADED_STACK_VERSION: zcl.Attribute(
            zcl.UINT16, lambda now: config.stack_version if storage.verified else 0xFFFF
        ),
        IMAGE_UPGRADE_STATUS: zcl.Attribute(zcl.ENUM8, lambda now: client.upgrade_status),
        MANUFACTURER_ID: zcl.constant(zcl.UINT16, config.manufacturer),
        IMAGE_TYPE_ID: zcl.constant(zcl.UINT16, config.image_type),
        UPGRADE_ACTIVATION_POLICY: zcl.constant(zcl.ENUM8, 0),  # the server may activate
        UPGRADE_TIMEOUT_POLICY: zcl.constant(zcl.ENUM8, 0 if config.upgrades_unanswered else 1),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 3),
    }
    if config.keeps_block_period:
        table[MINIMUM_BLOCK_PERIOD] = zcl.Attribute(zcl.UINT16, lambda now: client.block_period_ms)
    return table
