"""Whether the air is as fast as the standards let it be: an image's rate in virtual time, over the computed limit."""

from __future__ import annotations

import random

from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.node import Network, NodeKind
from harness.members.device_values import DeviceConfig
from harness.members.firmware_values import FirmwareConfig
from harness.members.hub import Hub, HubConfig
from harness.members.kinds import DeviceKind
from harness.members.ppmid import Ppmid
from harness.wire.image import OtaImage
from harness.wire.ota_client_values import DownloadCompleted, DownloadStarted, OtaClientConfig
from harness.wire.ota_server import OtaServerConfig
from harness.wire.utc import UTC_2026
from tests.benchmarks.measure import Figure

IMAGE_OCTETS = 64 * 1024
BLOCK = 56
HUB_EUI64, PPMID_EUI64 = 0x000D6F000A9069E7, 0x000D6F000B7A1102
MANUFACTURER, IMAGE_TYPE = 0x121D, 0x0084

# --- the limit, from IEEE 802.15.4-2006, Zigbee PRO (05-3474-21) and the ZCL (07-5123-08) -----------------------------

SYMBOL = 16  # us, 6.5.3.2: 62.5 ksymbol/s at 2.4 GHz
OCTET = 2 * SYMBOL  # us, 6.5.2.2: four bits a symbol
PHY_HEADER = 6  # octets, 6.3: preamble 4, start of frame 1, length 1
BACKOFF_PERIOD = 20 * SYMBOL  # us, table 85: aUnitBackoffPeriod
MEAN_BACKOFF = (
    3.5 * BACKOFF_PERIOD
)  # us, 7.5.1.4: 0 to 2^macMinBE - 1 periods at macMinBE 3, on a channel that is clear
CCA_AND_TURNAROUND = (8 + 12) * SYMBOL  # us, 6.9.9 and 6.4.1
ACK_TURNAROUND = 12 * SYMBOL  # us, 7.5.6.4.2 on an unslotted PAN
ACK = (PHY_HEADER + 5) * OCTET  # us, 7.2.2.3: frame control 2, sequence 1, FCS 2
LONG_SPACE = 40 * SYMBOL  # us, 7.5.1.3 and table 85: after a frame of more than aMaxSIFSFrameSize
SHORT_SPACE = 12 * SYMBOL  # us
LONGEST_SHORT_FRAME = 18  # octets, aMaxSIFSFrameSize

MAC_HEADER = 2 + 1 + 2 + 2 + 2  # 7.2.1: frame control, sequence, PAN, two short addresses
FCS = 2
NWK_HEADER = 2 + 2 + 2 + 1 + 1  # Zigbee PRO 3.3.1: frame control, two addresses, radius, sequence
NWK_SECURITY = 1 + 4 + 8 + 1 + 4  # 4.5.1: control, counter, EUI-64, key sequence; MIC
APS_HEADER = 1 + 1 + 2 + 2 + 1 + 1  # 2.2.5.1: control, endpoint, cluster, profile, endpoint, counter
APS_SECURITY = 1 + 4 + 4  # 4.5.1: control, counter; MIC
BELOW_ZCL = MAC_HEADER + FCS + NWK_HEADER + NWK_SECURITY + APS_HEADER + APS_SECURITY
ZCL_HEADER = 1 + 1 + 1  # ZCL8 2.4.1: control, sequence, command
BLOCK_REQUEST = (
    1 + 2 + 2 + 4 + 4 + 1 + 2
)  # 11.13.6.1: control, manufacturer, type, version, offset, size, delay
BLOCK_RESPONSE = (
    1 + 2 + 2 + 4 + 4 + 1
)  # 11.13.8.1: status, manufacturer, type, version, offset, size; then the block

# One block: the client's request, the server's APS acknowledgement, its response, the client's acknowledgement.
REQUEST = BELOW_ZCL + ZCL_HEADER + BLOCK_REQUEST
RESPONSE = BELOW_ZCL + ZCL_HEADER + BLOCK_RESPONSE + BLOCK
APS_ACK = BELOW_ZCL  # 2.2.5.2.3: an acknowledgement has a data frame's header and nothing behind it


def acknowledged(octets: int) -> float:
    """Return how long a MAC frame of so many octets takes with its acknowledgement, in us, on a clear channel."""
    return MEAN_BACKOFF + CCA_AND_TURNAROUND + (PHY_HEADER + octets) * OCTET + ACK_TURNAROUND + ACK


def space_after(octets: int) -> int:
    """Return how long its sender then waits before its next back-off, in us."""
    return LONG_SPACE if octets > LONGEST_SHORT_FRAME else SHORT_SPACE


def block_us() -> float:
    """Return the mean time of one block, in us.

    Only two of the four frames follow one of the same sender: the response the server's acknowledgement, and the next
    request the client's. The receiver of the other two begins its own back-off at the end of its MAC acknowledgement.
    """
    frames = acknowledged(REQUEST) + acknowledged(APS_ACK) + acknowledged(RESPONSE) + acknowledged(APS_ACK)
    return frames + 2 * space_after(APS_ACK)


# --- the run ----------------------------------------------------------------------------------------------------------


class Lengths:
    """A tap that counts the frames on the air by their lengths."""

    def __init__(self) -> None:
        self.seen: dict[int, int] = {}

    def frame(self, time_us: int, psdu: bytes, channel: int, page: int, rssi: float, lqi: int) -> None:
        """Take one frame."""
        self.seen[len(psdu)] = self.seen.get(len(psdu), 0) + 1


def _transfer() -> tuple[float, Lengths]:
    """Run one transfer under link-key security; return its virtual seconds, and what was on the air."""
    air = Air(seed=1)
    marks: dict[type, float] = {}
    image = OtaImage(
        MANUFACTURER, IMAGE_TYPE, 2, random.Random(1).randbytes(IMAGE_OCTETS), hardware_min=1, hardware_max=1
    )
    hub = Hub(HubConfig(ota=OtaServerConfig(utc_at_zero=UTC_2026), secured=True))
    hub_node = MemberNode(
        air,
        hub,
        eui64=HUB_EUI64,
        kind=NodeKind.COORDINATOR,
        network=Network(11, 0x4A11, HUB_EUI64, bytes(range(16))),
    )
    client = OtaClientConfig(MANUFACTURER, IMAGE_TYPE, hardware_version=1, block_size=BLOCK, start_jitter=0.0)
    firmware = FirmwareConfig(DeviceKind.PPMID, PPMID_EUI64, MANUFACTURER, IMAGE_TYPE, 1)
    ppmid = MemberNode(
        air,
        Ppmid(DeviceConfig(firmware, 1, client, secured=True), random.Random(1)),
        eui64=PPMID_EUI64,
        kind=NodeKind.END_DEVICE,
        link_key=bytes(range(16, 32)),
        on_event=lambda now, event: marks.setdefault(type(event), now),
    )
    hub_node.power_on()
    hub_node.node.set_link_key(PPMID_EUI64, bytes(range(16, 32)))
    hub_node.node.permit_joining(60)
    hub.offer(image, PPMID_EUI64, 0.0)
    ppmid.power_on()
    while not ppmid.joined:
        air.advance(air.now + 1000)
    hub.device_joined(PPMID_EUI64, ppmid.node.short)
    while DownloadStarted not in marks:
        air.advance(air.now + 1000)
    lengths = Lengths()
    air.add_tap(lengths.frame)
    while DownloadCompleted not in marks:
        air.advance(air.now + 1_000_000)
    return marks[DownloadCompleted] - marks[DownloadStarted], lengths


def air_rate_over_limit() -> Figure:
    """The rate of an image over the air at 2.4 GHz with Smart Energy security, over the computed one."""
    seconds, lengths = _transfer()
    blocks = IMAGE_OCTETS // BLOCK
    for octets in (REQUEST, RESPONSE, APS_ACK):
        assert lengths.seen.get(octets, 0) >= blocks, (
            f"{lengths.seen} has no frame of {octets} octets for each block"
        )
    limit = BLOCK / block_us() * 1e6
    rate = IMAGE_OCTETS / seconds
    return Figure(
        rate / limit,
        f"{rate / 1024:.3f} KiB/s in virtual time; at {block_us() / 1000:.2f} ms for a block of {BLOCK} octets "
        f"{limit / 1024:.3f} KiB/s can go",
    )
