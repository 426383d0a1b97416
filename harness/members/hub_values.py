"""What a Communications Hub is made as, whom it knows, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from harness.members.device_log import DeviceLimits
from harness.members.image_store_values import StorePolicy
from harness.wire.cbke_values import KeyEstablishmentConfig
from harness.wire.certificates import Credentials
from harness.wire.gbcs_names import GSME_COMMAND_NOT_RETRIEVED
from harness.wire.ota_server import OtaServerConfig
from harness.wire.tunnel import TunnelClientConfig
from harness.wire.tunnel_mailbox import MailboxConfig
from harness.wire.tunnel_server import TunnelServerConfig
from harness.wire.utc import UTC_2026

ENERGY_SERVICE_INTERFACE = 0x0500  # ZSE table 5-13


@dataclass(frozen=True, slots=True)
class HubConfig:
    """One model of Communications Hub. Times in seconds.

    A hub that is `secured` and has `credentials` establishes link keys with its devices, and speaks Smart Energy under
    those only; without credentials the pre-configured keys are as good. Without `eui64` and `wan_party` it has nobody
    on the WAN to tell of its images, and only reports what becomes of them.
    """

    ota: OtaServerConfig = field(default_factory=lambda: OtaServerConfig(utc_at_zero=UTC_2026))
    manufacturer_name: str = "Harness"
    model: str = "Communications Hub"
    endpoint: int = 1
    device: int = ENERGY_SERVICE_INTERFACE
    secured: bool = False  # whether Smart Energy clusters travel under the APS link key
    read_timeout: float = 15.0  # assumed: two polls of a sleepy device, 7.5 s apart
    notifies: bool = True  # whether an offer is told to its device by a unicast Image Notify
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)
    key_establishment: KeyEstablishmentConfig = KeyEstablishmentConfig()
    tunnels: bool = (
        True  # whether it opens a tunnel to each device that has its link key, and grants a GSME one
    )
    tunnel: TunnelClientConfig = TunnelClientConfig()
    discovery_timeout: float = (
        5.0  # assumed: from one question after a Tunneling server to the next, doubling ...
    )
    discovery_longest: float = 60.0  # ... up to this
    keep_alive_base: int = 10  # ZCL8 3.18.2.2: TC Keep-Alive Base, in minutes
    keep_alive_jitter: int = 300  # ZCL8 3.18.2.2: TC Keep-Alive Jitter
    eui64: int | None = None  # its own: the originator of its messages
    wan_party: int | None = None  # EUI-64 of who its alerts are addressed to
    firmware_version: int = 1  # what it answers ECS52
    store: StorePolicy = field(default_factory=StorePolicy)
    limits: DeviceLimits = DeviceLimits()
    gbcs_version: str = "4.1"  # only to be named
    # SECMP0007: whether it takes images for PPMIDs, bridges and HCALCSs; a hub whose firmware is older does not.
    ppmid_ota: bool = True
    gsme_tunnel: TunnelServerConfig = TunnelServerConfig()
    mailbox: MailboxConfig = MailboxConfig()


@dataclass(slots=True)
class KnownDevice:
    """One device of the HAN; `endpoint` is its OTA client's and `key_endpoint` its Key Establishment's, once heard.

    `tunnel_endpoint` is where its end of the tunnel is, and `hardware` the hardware version that it said when it asked
    for an image; None: not known yet.
    """

    eui64: int
    short: int
    endpoint: int | None = None
    key_endpoint: int = 1
    tunnel_endpoint: int | None = None
    hardware: int | None = None


@dataclass(frozen=True, slots=True)
class DeviceJoined:
    """A device is on the HAN: joined, rejoined or seen anew, as NWK address `short`."""

    eui64: int
    short: int


@dataclass(frozen=True, slots=True)
class DeviceExpelled:
    """A device that was removed from the Device Log is on the HAN yet, as NWK address `short`, and is told to leave."""

    eui64: int
    short: int


@dataclass(frozen=True, slots=True)
class DeviceLeft:
    """A device left the HAN."""

    eui64: int
    short: int


@dataclass(frozen=True, slots=True)
class WanMessage:
    """A GBCS message goes up to the WAN: the hub's own, or one that `source` (EUI-64) put in its tunnel."""

    source: int
    octets: bytes


class DeliveryRefusal(StrEnum):
    """Why a hub keeps nothing for a device. No public document gives these codes: they are the harness' own."""

    NOT_IN_DEVICE_LOG = "not in the Device Log"
    BEFORE_SECMP0007 = "before SECMP0007"  # its firmware takes images for meters alone


@dataclass(frozen=True, slots=True)
class DeliveryRefused:
    """What the WAN delivered for `recipient` (EUI-64) goes no further; `reason` is a sentence.

    `code` says the same in a word; None: there is no code for it.
    """

    recipient: int
    reason: str
    code: DeliveryRefusal | None = None


@dataclass(frozen=True, slots=True)
class GsmeDataRefused:
    """What a GSME put in its tunnel is neither GET nor PUT, for `reason`."""

    eui64: int
    reason: str


@dataclass(frozen=True, slots=True)
class CommandNotRetrieved:
    """A GSME did not fetch a message in time, and it is gone (alert 0x819D).

    An event, not a message to the WAN: how the alert is laid out is in no public document.
    """

    eui64: int
    octets: bytes
    alert_code: int = GSME_COMMAND_NOT_RETRIEVED
