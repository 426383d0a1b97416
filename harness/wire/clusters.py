"""The attribute tables of the clusters that members serve, for `zcl.AttributeServer`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Final

from harness.wire import zcl
from harness.wire.ota_client import OtaClient

BASIC_CLUSTER = 0x0000
TIME_CLUSTER = 0x000A
KEEP_ALIVE_CLUSTER = 0x0025
METERING_CLUSTER = 0x0702
PREPAYMENT_CLUSTER = 0x0705

CLUSTER_REVISION = 0xFFFD  # ZCL8 2.3.5.1

# Basic, ZCL8 3.2.2.
ZCL_VERSION = 0x0000
APPLICATION_VERSION = 0x0001
HARDWARE_VERSION = 0x0003
MANUFACTURER_NAME = 0x0004
MODEL_IDENTIFIER = 0x0005
POWER_SOURCE = 0x0007
PHYSICAL_ENVIRONMENT = 0x0011

# Time, ZCL8 3.12.2.
TIME = 0x0000
TIME_STATUS = 0x0001
TIME_STATUS_MASTER = 0x09  # master clock, and master for its zone and daylight saving

# Keep-Alive, ZCL8 3.18.2.2.
TC_KEEP_ALIVE_BASE = 0x0000
TC_KEEP_ALIVE_JITTER = 0x0001

# Tunneling, ZSE D.6: the only attribute of its own.
CLOSE_TUNNEL_TIMEOUT = 0x0000

# Metering, client side, ZSE D.3: what a sleepy meter reads of its mirror to learn that something waits for it.
FUNCTIONAL_NOTIFICATION_FLAGS = 0x0000
NEW_OTA_FIRMWARE = 1 << 0
TUNNEL_MESSAGE_PENDING = 1 << 21

# Metering, server side, ZSE D.3.
CURRENT_SUMMATION_DELIVERED = 0x0000
METERING_STATUS = 0x0200
UNIT_OF_MEASURE = 0x0300
METERING_DEVICE_TYPE = 0x0306
ELECTRIC_METERING = 0x00
GAS_METERING = 0x01
_KILOWATT_HOURS = 0x00
_CUBIC_METRES = 0x01

# Prepayment, ZSE D.7.
PAYMENT_CONTROL_CONFIGURATION = 0x0000
CREDIT_REMAINING = 0x0001

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
_GBCS_ENVIRONMENT = 0x01  # GBCS 10.2.2: PhysicalEnvironment of every device
# ZCL8 table 2-10.
_MAP16 = 0x19
_MAP32 = 0x1B
_UINT48 = 0x25
_INT32 = 0x2B


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
        PHYSICAL_ENVIRONMENT: zcl.constant(zcl.ENUM8, _GBCS_ENVIRONMENT),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 3),
    }


def time_attributes(utc: Callable[[float], int]) -> dict[int, zcl.Attribute]:
    """Time (0x000A) of a master clock; `utc` gives UTC seconds since 2000 for a time on the carrier's clock."""
    return {
        TIME: zcl.Attribute(zcl.UTC_TIME, utc),
        TIME_STATUS: zcl.constant(zcl.MAP8, TIME_STATUS_MASTER),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 2),
    }


def keep_alive_attributes(base: int = 10, jitter: int = 300) -> dict[int, zcl.Attribute]:
    """Keep-Alive (0x0025) of a Trust Center: how often it wants to be asked, in minutes plus up to `jitter` seconds."""
    return {
        TC_KEEP_ALIVE_BASE: zcl.constant(zcl.UINT8, base),
        TC_KEEP_ALIVE_JITTER: zcl.constant(zcl.UINT16, jitter),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 1),
    }


def tunneling_attributes(close_timeout: int = 0xFFFF) -> dict[int, zcl.Attribute]:
    """Tunneling (0x0704), the server side: after how many seconds without traffic it closes a tunnel."""
    return {
        CLOSE_TUNNEL_TIMEOUT: zcl.constant(zcl.UINT16, close_timeout),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 1),
    }


def notification_attributes(flags: Callable[[float], int]) -> dict[int, zcl.Attribute]:
    """Metering (0x0702), the client side of a meter's mirror: the functional notification flags at a time."""
    return {
        FUNCTIONAL_NOTIFICATION_FLAGS: zcl.Attribute(_MAP32, flags),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 1),
    }


def metering_attributes(device_type: int, summation: Callable[[float], int]) -> dict[int, zcl.Attribute]:
    """Metering (0x0702) of a meter: ELECTRIC_METERING in kWh or GAS_METERING in cubic metres, and its register."""
    unit = _CUBIC_METRES if device_type == GAS_METERING else _KILOWATT_HOURS
    return {
        CURRENT_SUMMATION_DELIVERED: zcl.Attribute(_UINT48, summation),
        METERING_STATUS: zcl.constant(zcl.MAP8, 0),
        UNIT_OF_MEASURE: zcl.constant(zcl.ENUM8, unit),
        METERING_DEVICE_TYPE: zcl.constant(zcl.MAP8, device_type),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 1),
    }


def prepayment_attributes(configuration: int, credit: Callable[[float], int]) -> dict[int, zcl.Attribute]:
    """Prepayment (0x0705) of a meter: its payment control configuration (bit 1: prepayment) and remaining credit."""
    return {
        PAYMENT_CONTROL_CONFIGURATION: zcl.constant(_MAP16, configuration),
        CREDIT_REMAINING: zcl.Attribute(_INT32, credit),
        CLUSTER_REVISION: zcl.constant(zcl.UINT16, 1),
    }


# OTA Upgrade, the client side: each attribute's kind, and what it reads of a client at a time.
_OTA_CLIENT: Final[Mapping[int, tuple[int, Callable[[OtaClient], zcl.Value]]]] = {
    UPGRADE_SERVER_ID: (zcl.EUI64, lambda client: client.server_eui64),
    FILE_OFFSET: (
        zcl.UINT32,
        lambda client: 0xFFFFFFFF if client.storage.version is None else len(client.storage.data),
    ),
    CURRENT_FILE_VERSION: (zcl.UINT32, lambda client: client.running_version),
    CURRENT_STACK_VERSION: (zcl.UINT16, lambda client: client.config.stack_version),
    DOWNLOADED_FILE_VERSION: (
        zcl.UINT32,
        lambda client: client.storage.version if client.storage.verified else 0xFFFFFFFF,
    ),
    DOWNLOADED_STACK_VERSION: (
        zcl.UINT16,
        lambda client: client.config.stack_version if client.storage.verified else 0xFFFF,
    ),
    IMAGE_UPGRADE_STATUS: (zcl.ENUM8, lambda client: client.upgrade_status),
    MANUFACTURER_ID: (zcl.UINT16, lambda client: client.config.manufacturer),
    IMAGE_TYPE_ID: (zcl.UINT16, lambda client: client.config.image_type),
    MINIMUM_BLOCK_PERIOD: (zcl.UINT16, lambda client: client.block_period_ms),
    UPGRADE_ACTIVATION_POLICY: (zcl.ENUM8, lambda client: 0),  # the server may activate
    UPGRADE_TIMEOUT_POLICY: (zcl.ENUM8, lambda client: 0 if client.config.upgrades_unanswered else 1),
    CLUSTER_REVISION: (zcl.UINT16, lambda client: 3),
}


class _OtaClientTable(Mapping[int, zcl.Attribute]):
    """The attributes of one OTA client, made when they are read: seldom, and a premises has eight such clients."""

    __slots__ = ("_client",)

    def __init__(self, client: OtaClient) -> None:
        self._client = client

    def __getitem__(self, attribute: int) -> zcl.Attribute:
        client = self._client
        if attribute == MINIMUM_BLOCK_PERIOD and not client.config.keeps_block_period:
            raise KeyError(attribute)
        kind, read = _OTA_CLIENT[attribute]
        return zcl.Attribute(kind, lambda now: read(client))

    def __iter__(self) -> Iterator[int]:
        keeps = self._client.config.keeps_block_period
        return (attribute for attribute in _OTA_CLIENT if keeps or attribute != MINIMUM_BLOCK_PERIOD)

    def __len__(self) -> int:
        return sum(1 for _ in self)


def ota_client_attributes(client: OtaClient) -> zcl.AttributeTable:
    """OTA Upgrade (0x0019), the client side."""
    return _OtaClientTable(client)
