"""What an emulated stick is made of: configuration ids with their limits, values, policies, manufacturing tokens."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

DEFAULT_EZSP_VERSION = 13

# EmberZNet version that firmware of each EZSP version reports: (major, minor, patch, special, build).
FIRMWARE: dict[int, tuple[int, int, int, int, int]] = {
    8: (6, 7, 8, 0, 373),
    9: (7, 0, 2, 0, 257),
    10: (7, 1, 1, 0, 273),
    11: (7, 1, 3, 0, 278),
    12: (7, 2, 2, 0, 190),
    13: (7, 4, 4, 0, 295),
    14: (8, 0, 2, 0, 397),
    16: (8, 1, 1, 0, 405),
    17: (8, 2, 1, 0, 410),
    18: (9, 0, 1, 0, 420),
    19: (9, 1, 0, 0, 430),
}


@dataclass(frozen=True, slots=True)
class NcpConfig:
    """How an emulated stick is set up.

    `baud` paces the serial line in both directions, in virtual time; None: bytes arrive at once. `callback_queue` is
    how many callbacks wait for the host before the next is dropped. `tolerate` names commands that are answered with
    invalidCommand without failing the test (customFrame, the probe for vendor extensions, always is).
    `install_code` is the installation code token: 6, 8, 12 or 16 octets and their CRC.
    """

    baud: int | None = None
    callback_queue: int = 64
    ash_window: int = 5
    firmware: tuple[int, int, int, int, int] | None = None
    manufacturer: str = "Emulated"
    board: str = "EZSP NCP"
    install_code: bytes | None = field(default=None, repr=False)
    nv3_tokens: bool = True
    max_tx_power: int = 20
    tolerate: frozenset[str] = frozenset()
    configuration: dict[int, int] = field(default_factory=dict)


class Setting(NamedTuple):
    """One configuration id (UG100, EzspConfigId): what it is out of the box, and the range a host may set it to.

    A `memory` one sizes a table: it cannot be set while the network is up.
    """

    name: str
    default: int
    lowest: int
    highest: int
    memory: bool = False


PACKET_BUFFER_COUNT = 0x01
APS_UNICAST_MESSAGE_COUNT = 0x03
BINDING_TABLE_SIZE = 0x04
ADDRESS_TABLE_SIZE = 0x05
MULTICAST_TABLE_SIZE = 0x06
ROUTE_TABLE_SIZE = 0x07
STACK_PROFILE = 0x0C
SECURITY_LEVEL = 0x0D
MAX_END_DEVICE_CHILDREN = 0x11
INDIRECT_TRANSMISSION_TIMEOUT = 0x12
END_DEVICE_POLL_TIMEOUT = 0x13
TRUST_CENTER_ADDRESS_CACHE_SIZE = 0x19
SOURCE_ROUTE_TABLE_SIZE = 0x1A
KEY_TABLE_SIZE = 0x1E
APS_ACK_TIMEOUT = 0x1F
APPLICATION_ZDO_FLAGS = 0x2A
BROADCAST_TABLE_SIZE = 0x2B
TRANSIENT_KEY_TIMEOUT_S = 0x36

CONFIGURATION: dict[int, Setting] = {
    PACKET_BUFFER_COUNT: Setting("PACKET_BUFFER_COUNT", 255, 1, 0xFFFF, memory=True),
    0x02: Setting("NEIGHBOR_TABLE_SIZE", 26, 16, 26, memory=True),
    APS_UNICAST_MESSAGE_COUNT: Setting("APS_UNICAST_MESSAGE_COUNT", 10, 1, 128, memory=True),
    BINDING_TABLE_SIZE: Setting("BINDING_TABLE_SIZE", 32, 0, 127, memory=True),
    ADDRESS_TABLE_SIZE: Setting("ADDRESS_TABLE_SIZE", 16, 0, 128, memory=True),
    MULTICAST_TABLE_SIZE: Setting("MULTICAST_TABLE_SIZE", 8, 0, 127, memory=True),
    ROUTE_TABLE_SIZE: Setting("ROUTE_TABLE_SIZE", 16, 0, 255, memory=True),
    0x08: Setting("DISCOVERY_TABLE_SIZE", 8, 0, 64, memory=True),
    STACK_PROFILE: Setting("STACK_PROFILE", 0, 0, 2),
    SECURITY_LEVEL: Setting("SECURITY_LEVEL", 5, 0, 5),
    0x10: Setting("MAX_HOPS", 30, 0, 30),
    MAX_END_DEVICE_CHILDREN: Setting("MAX_END_DEVICE_CHILDREN", 6, 0, 64, memory=True),
    INDIRECT_TRANSMISSION_TIMEOUT: Setting("INDIRECT_TRANSMISSION_TIMEOUT", 3000, 0, 30000),
    END_DEVICE_POLL_TIMEOUT: Setting("END_DEVICE_POLL_TIMEOUT", 8, 0, 14),
    0x17: Setting("TX_POWER_MODE", 0, 0, 0xFFFF),
    0x18: Setting("DISABLE_RELAY", 0, 0, 1),
    TRUST_CENTER_ADDRESS_CACHE_SIZE: Setting("TRUST_CENTER_ADDRESS_CACHE_SIZE", 0, 0, 255, memory=True),
    SOURCE_ROUTE_TABLE_SIZE: Setting("SOURCE_ROUTE_TABLE_SIZE", 32, 0, 255, memory=True),
    0x1C: Setting("FRAGMENT_WINDOW_SIZE", 1, 1, 8),
    0x1D: Setting("FRAGMENT_DELAY_MS", 0, 0, 0xFFFF),
    KEY_TABLE_SIZE: Setting("KEY_TABLE_SIZE", 12, 0, 127, memory=True),
    APS_ACK_TIMEOUT: Setting("APS_ACK_TIMEOUT", 1600, 100, 0xFFFF),
    0x20: Setting("ACTIVE_SCAN_DURATION", 3, 0, 6),
    0x21: Setting("END_DEVICE_BIND_TIMEOUT", 60, 1, 255),
    0x22: Setting("PAN_ID_CONFLICT_REPORT_THRESHOLD", 2, 1, 63),
    0x24: Setting("REQUEST_KEY_TIMEOUT", 0, 0, 10),
    0x29: Setting("CERTIFICATE_TABLE_SIZE", 0, 0, 1),
    APPLICATION_ZDO_FLAGS: Setting("APPLICATION_ZDO_FLAGS", 0, 0, 255),
    BROADCAST_TABLE_SIZE: Setting("BROADCAST_TABLE_SIZE", 15, 15, 254, memory=True),
    0x2C: Setting("MAC_FILTER_TABLE_SIZE", 0, 0, 254, memory=True),
    0x2D: Setting("SUPPORTED_NETWORKS", 1, 1, 2, memory=True),
    0x2E: Setting("SEND_MULTICASTS_TO_SLEEPY_ADDRESS", 0, 0, 1),
    0x2F: Setting("ZLL_GROUP_ADDRESSES", 0, 0, 255),
    0x30: Setting("ZLL_RSSI_THRESHOLD", 0xFF80, 0, 0xFFFF),
    0x33: Setting("MTORR_FLOW_CONTROL", 1, 0, 1),
    0x34: Setting("RETRY_QUEUE_SIZE", 8, 0, 64, memory=True),
    0x35: Setting("NEW_BROADCAST_ENTRY_THRESHOLD", 10, 0, 254),
    TRANSIENT_KEY_TIMEOUT_S: Setting("TRANSIENT_KEY_TIMEOUT_S", 300, 0, 0xFFFF),
    0x37: Setting("BROADCAST_MIN_ACKS_NEEDED", 255, 0, 255),
    0x38: Setting("TC_REJOINS_USING_WELL_KNOWN_KEY_TIMEOUT_S", 300, 0, 0xFFFF),
    0x39: Setting("CTUNE_VALUE", 0, 0, 0xFFFF),
    0x40: Setting("ASSUME_TC_CONCENTRATOR_TYPE", 0, 0, 2),
    0x41: Setting("GP_PROXY_TABLE_SIZE", 5, 0, 255, memory=True),
    0x42: Setting("GP_SINK_TABLE_SIZE", 0, 0, 255, memory=True),
}


# EzspValueId (UG100): those that the NCP computes are answered in ncp_system, the rest are cells that keep what is set.
VALUE_FREE_BUFFERS = 0x03
VALUE_MAXIMUM_INCOMING_TRANSFER_SIZE = 0x05
VALUE_MAXIMUM_OUTGOING_TRANSFER_SIZE = 0x06
VALUE_STACK_TOKEN_WRITING = 0x07
VALUE_STACK_IS_PERFORMING_REJOIN = 0x08
VALUE_NODE_SHORT_ID = 0x0B
VALUE_ENDPOINT_FLAGS = 0x0F
VALUE_VERSION_INFO = 0x11
VALUE_CLEAR_COUNTERS = 0x19
VALUE_NWK_FRAME_COUNTER = 0x23
VALUE_APS_FRAME_COUNTER = 0x24
VALUE_TRANSIENT_KEY_TIMEOUT_S = 0x3B

VALUE_CELLS: dict[int, bytes] = {
    0x01: b"\x00",  # MAC_PASSTHROUGH_FLAGS
    0x02: b"\x00\x00",  # EMBERNET_PASSTHROUGH_SOURCE_ADDRESS
    0x04: b"\x00",  # UART_SYNCH_CALLBACKS
    VALUE_MAXIMUM_INCOMING_TRANSFER_SIZE: b"\x52\x00",
    VALUE_MAXIMUM_OUTGOING_TRANSFER_SIZE: b"\x52\x00",
    VALUE_STACK_TOKEN_WRITING: b"\x01",
    0x09: b"",  # MAC_FILTER_LIST
    0x0A: b"\x00\x00",  # EXTENDED_SECURITY_BITMASK
    0x0C: b"\x00",  # DESCRIPTOR_CAPABILITY
    0x0D: b"\x00",  # STACK_DEVICE_REQUEST_SEQUENCE_NUMBER
    0x0E: b"\x00",  # RADIO_HOLD_OFF
    0x10: b"\x00\x00",  # MFG_SECURITY_CONFIG
    0x12: b"\x00",  # NEXT_HOST_REJOIN_REASON
    0x13: b"\x00",  # LAST_REJOIN_REASON
    0x14: b"\x00",  # NEXT_ZIGBEE_SEQUENCE_NUMBER
    0x15: b"\xb5",  # CCA_THRESHOLD: -75 dBm
    0x17: b"\x00" * 3,  # SET_COUNTER_THRESHOLD
    0x18: b"\x00",  # RESET_COUNTER_THRESHOLDS
    0x25: b"\x00" * 11,  # RETRY_DEVICE_TYPE
    0x29: b"\x01",  # ENABLE_R21_BEHAVIOR
    0x30: b"\x00",  # ANTENNA_MODE
    0x31: b"\x00",  # ENABLE_PTA
    0x32: b"\x00" * 4,  # PTA_OPTIONS
    0x33: b"\x00",  # MFGLIB_OPTIONS
    0x34: b"\x00",  # USE_NEGOTIATED_POWER_BY_LPD
    0x35: b"\x00" * 3,  # PTA_PWM_OPTIONS
    0x36: b"\x00",  # PTA_DIRECTIONAL_PRIORITY_PULSE_WIDTH
    0x37: b"\x00\x00",  # PTA_PHY_SELECT_TIMEOUT
    0x38: b"\x00",  # ANTENNA_RX_MODE
    0x39: b"\x00" * 4,  # NWK_KEY_TIMEOUT
    0x3A: b"\x00",  # FORCE_TX_AFTER_FAILED_CCA_ATTEMPTS
    0x3C: b"\x00" * 4,  # COULOMB_COUNTER_USAGE
    0x3D: b"\x05",  # MAX_BEACONS_TO_STORE
    0x3E: b"\x00\x40",  # END_DEVICE_TIMEOUT_OPTIONS_MASK
    0x3F: b"\x03",  # END_DEVICE_KEEP_ALIVE_SUPPORT_MODE
    0x41: b"\x00\x00",  # ACTIVE_RADIO_CONFIG
    0x43: b"\x00\x28",  # TRANSIENT_DEVICE_TIMEOUT
    0x44: b"\x01",  # KEY_STORAGE_VERSION
    0x45: b"\x00",  # DELAYED_JOIN_ACTIVATION
    0x46: b"\x03",  # MAX_NWK_RETRIES
    0x47: b"\x00",  # REJOIN_MODE
    0x48: b"\x00",  # JOIN_USE_INSTALL_CODE_ENABLE
}

# EzspPolicyId and EzspDecisionId (UG100).
POLICY_TRUST_CENTER = 0x00
POLICY_BINDING_MODIFICATION = 0x01
POLICY_UNICAST_REPLIES = 0x02
POLICY_POLL_HANDLER = 0x03
POLICY_MESSAGE_CONTENTS_IN_CALLBACK = 0x04
POLICY_TC_KEY_REQUEST = 0x05
POLICY_APP_KEY_REQUEST = 0x06

POLICIES: dict[int, int] = {
    POLICY_TRUST_CENTER: 0x00,  # no joins, no rejoins
    POLICY_BINDING_MODIFICATION: 0x10,
    POLICY_UNICAST_REPLIES: 0x20,
    POLICY_POLL_HANDLER: 0x30,
    POLICY_MESSAGE_CONTENTS_IN_CALLBACK: 0x40,
    POLICY_TC_KEY_REQUEST: 0x50,
    POLICY_APP_KEY_REQUEST: 0x60,
    0x07: 0x62,  # PACKET_VALIDATE_LIBRARY: checks on
    0x08: 0x00,  # ZLL
    0x09: 0x00,  # TC_REJOINS_USING_WELL_KNOWN_KEY
}

# EzspDecisionBitmask, the values of POLICY_TRUST_CENTER.
ALLOW_JOINS = 0x01
ALLOW_UNSECURED_REJOINS = 0x02
SEND_KEY_IN_CLEAR = 0x04
JOINS_USE_INSTALL_CODE_KEY = 0x10

POLL_HANDLER_CALLBACK = 0x31
MESSAGE_TAG_AND_CONTENTS_IN_CALLBACK = 0x41
DENY_TC_KEY_REQUESTS = 0x50

# EzspMfgTokenId (UG100): size in octets. An unwritten token reads as 0xFF.
MFG_STRING = 0x01
MFG_BOARD_NAME = 0x02
MFG_MANUF_ID = 0x03
MFG_INSTALLATION_CODE = 0x0A
MFG_CUSTOM_EUI_64 = 0x0C

MFG_TOKENS: dict[int, int] = {
    0x00: 2,  # custom version
    MFG_STRING: 16,
    MFG_BOARD_NAME: 16,
    MFG_MANUF_ID: 2,
    0x04: 2,  # PHY config
    0x05: 16,  # bootload AES key
    0x06: 40,  # ASH config
    0x07: 8,  # EZSP storage
    0x08: 64,  # calibration
    0x09: 92,  # CBKE
    MFG_INSTALLATION_CODE: 20,
    0x0B: 1,  # channel filter calibration
    MFG_CUSTOM_EUI_64: 8,
    0x0D: 2,  # CTUNE
}

# What getLibraryStatus answers: bit 7, the library is in the image. A coordinator image without the Smart Energy
# (CBKE, ECC) libraries, as sticks are sold.
LIBRARY_PRESENT = 0x80
LIBRARY_STUB = 0x00
LIBRARY_UNKNOWN = 0xFF
LIBRARIES: dict[int, int] = {
    0x00: LIBRARY_PRESENT | 0x02,  # Zigbee PRO, coordinator and router capable
    0x01: LIBRARY_PRESENT,  # binding
    0x02: LIBRARY_STUB,  # end device bind
    0x03: LIBRARY_PRESENT,  # security core
    0x04: LIBRARY_PRESENT,  # security link keys
    0x05: LIBRARY_STUB,  # alarm
    0x06: LIBRARY_STUB,  # CBKE 163k1
    0x07: LIBRARY_STUB,  # CBKE DSA sign
    0x08: LIBRARY_STUB,  # ECC
    0x09: LIBRARY_STUB,  # CBKE DSA verify
    0x0A: LIBRARY_PRESENT,  # packet validate
    0x0B: LIBRARY_PRESENT,  # install code
    0x0C: LIBRARY_STUB,  # ZLL
    0x0D: LIBRARY_STUB,  # CBKE 283k1
    0x0E: LIBRARY_STUB,  # ECC 283k1
    0x0F: LIBRARY_STUB,  # CBKE core
    0x10: LIBRARY_PRESENT,  # NCP
    0x11: LIBRARY_STUB,  # multi-network
    0x12: LIBRARY_STUB,  # enhanced beacon request
    0x13: LIBRARY_STUB,  # CBKE DSA verify 283k1
    0x14: LIBRARY_STUB,  # multi-PAN
}
