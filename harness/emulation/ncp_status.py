"""The statuses an EmberZNet NCP answers with, and how each EZSP generation writes them."""

from __future__ import annotations

from enum import IntEnum


class Status(IntEnum):
    """Silicon Labs' `sl_status_t`, as EZSP 14 and newer carry it in 4 octets; older ones write one octet, see below."""

    OK = 0x0000
    FAIL = 0x0001
    INVALID_STATE = 0x0002
    BUSY = 0x0004
    NOT_AVAILABLE = 0x000E
    NOT_SUPPORTED = 0x000F
    NETWORK_UP = 0x0015
    NETWORK_DOWN = 0x0016
    NOT_JOINED = 0x0017
    NO_BEACONS = 0x0018
    ALLOCATION_FAILED = 0x0019
    FULL = 0x001C
    INVALID_PARAMETER = 0x0021
    INVALID_CONFIGURATION = 0x0023
    INVALID_INDEX = 0x0027
    INVALID_RANGE = 0x0028
    NOT_FOUND = 0x002D
    MESSAGE_TOO_LONG = 0x0038
    FLASH_VERIFY_FAILED = 0x003C
    MAC_NO_DATA = 0x003F
    MAC_NO_ACK_RECEIVED = 0x0040
    MAC_SCANNING = 0x004D
    MAC_INCORRECT_SCAN_TYPE = 0x004E
    INVALID_CHANNEL_MASK = 0x004F
    BAD_SCAN_DURATION = 0x0050
    TRANSMIT_INVALID_CHANNEL = 0x0055
    TRANSMIT_INVALID_POWER = 0x0056
    DELIVERY_FAILED = 0x0C02
    MAX_MESSAGE_LIMIT_REACHED = 0x0C03
    MOVE_FAILED = 0x0C06
    APS_ENCRYPTION_ERROR = 0x0C0A
    SECURITY_STATE_NOT_SET = 0x0C0B
    SOURCE_ROUTE_FAILURE = 0x0C13
    MANY_TO_ONE_ROUTE_FAILURE = 0x0C14
    CHANNEL_CHANGED = 0x0C17
    NETWORK_OPENED = 0x0C18
    NETWORK_CLOSED = 0x0C19
    NO_NETWORK_KEY_RECEIVED = 0x0C1B
    PRECONFIGURED_KEY_REQUIRED = 0x0C1D


# EZSP 8 to 13 answer most commands with an EmberStatus (UG100 "EZSP Reference Guide", EmberStatus).
EMBER_STATUS: dict[int, int] = {
    Status.OK: 0x00,
    Status.FAIL: 0x01,
    Status.INVALID_PARAMETER: 0x02,
    Status.NOT_FOUND: 0x03,
    Status.ALLOCATION_FAILED: 0x18,
    Status.MAC_NO_DATA: 0x31,
    Status.BAD_SCAN_DURATION: 0x33,
    Status.MAC_INCORRECT_SCAN_TYPE: 0x34,
    Status.INVALID_CHANNEL_MASK: 0x35,
    Status.MAC_SCANNING: 0x3D,
    Status.MAC_NO_ACK_RECEIVED: 0x40,
    Status.FLASH_VERIFY_FAILED: 0x47,
    Status.DELIVERY_FAILED: 0x66,
    Status.INVALID_RANGE: 0x6A,
    Status.INVALID_STATE: 0x70,
    Status.MAX_MESSAGE_LIMIT_REACHED: 0x72,
    Status.MESSAGE_TOO_LONG: 0x74,
    Status.TRANSMIT_INVALID_CHANNEL: 0x8A,
    Status.TRANSMIT_INVALID_POWER: 0x8B,
    Status.NETWORK_UP: 0x90,
    Status.NETWORK_DOWN: 0x91,
    Status.NOT_JOINED: 0x93,
    Status.MOVE_FAILED: 0x96,
    Status.CHANNEL_CHANGED: 0x9B,
    Status.NETWORK_OPENED: 0x9C,
    Status.NETWORK_CLOSED: 0x9D,
    Status.BUSY: 0xA1,
    Status.APS_ENCRYPTION_ERROR: 0xA6,
    Status.SECURITY_STATE_NOT_SET: 0xA8,
    Status.SOURCE_ROUTE_FAILURE: 0xA9,
    Status.MANY_TO_ONE_ROUTE_FAILURE: 0xAA,
    Status.NO_BEACONS: 0xAB,
    Status.NO_NETWORK_KEY_RECEIVED: 0xAD,
    Status.PRECONFIGURED_KEY_REQUIRED: 0xAF,
    Status.INVALID_INDEX: 0xB1,
    Status.FULL: 0xB4,
    Status.NOT_AVAILABLE: 0xB5,
    Status.NOT_SUPPORTED: 0xB5,
    Status.INVALID_CONFIGURATION: 0xB7,
}

# ... and a few, about the serial protocol itself, with an EzspStatus.
EZSP_STATUS: dict[int, int] = {
    Status.OK: 0x00,
    Status.INVALID_PARAMETER: 0x36,
    Status.INVALID_RANGE: 0x36,
    Status.NOT_FOUND: 0x37,
    Status.INVALID_STATE: 0x38,
}
