"""What a device of a HAN is configured with, keeps without power, and reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from harness.errors import LocalProtocolError
from harness.members.console import ConsoleDialect
from harness.members.firmware_values import FirmwareConfig, FirmwareFlash
from harness.wire.cbke_values import KeyEstablishmentConfig
from harness.wire.certificates import Credentials
from harness.wire.keep_alive import KeepAliveConfig
from harness.wire.ota_client_values import OtaClientConfig, OtaStorage
from harness.wire.tunnel_server import TunnelServerConfig

IN_HOME_DISPLAY = 0x0502  # ZSE table 5-13
_EUI64 = 0xFFFF_FFFF_FFFF_FFFF  # the largest


@dataclass(frozen=True, slots=True)
class DeviceConfig:
    """One model of device. Times in seconds.

    A device that is `secured` and has `credentials` establishes a link key with its hub before it speaks Smart Energy;
    without credentials the pre-configured key is as good. One without `ota` takes no images over the HAN.
    """

    firmware: FirmwareConfig
    running_version: int  # what it leaves the factory with
    ota: OtaClientConfig | None = None
    manufacturer_name: str = "Harness"
    model: str = "Device"
    endpoint: int = 1
    device: int = IN_HOME_DISPLAY
    secured: bool = False  # whether Smart Energy clusters travel under the APS link key
    activation_seconds: float = 30.0  # assumed: dark while it changes to the new image
    hub: int = 0x0000  # the hub is the trust centre, and the coordinator's address is fixed
    server_endpoint: int | None = None  # of the hub's OTA server; None: discovered by Match_Desc_req
    discovery_timeout: float = 5.0  # assumed: from one attempt at discovery to the next, doubling ...
    discovery_longest: float = 60.0  # ... up to this
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)
    key_establishment: KeyEstablishmentConfig = KeyEstablishmentConfig()
    tunnels: bool = True  # whether it has the Tunneling cluster, and so speaks GBCS
    tunnel: TunnelServerConfig = TunnelServerConfig()
    keep_alive: KeepAliveConfig | None = KeepAliveConfig()  # None: it does not watch its Trust Center
    console: ConsoleDialect = ConsoleDialect()


@dataclass(slots=True)
class DeviceFlash:
    """What a device keeps without power: its firmware, and the image on its way.

    `keyed` are the EUI-64s that it has established a link key with; the keys themselves are its carrier's to keep.
    """

    firmware: FirmwareFlash
    download: OtaStorage = field(default_factory=OtaStorage)
    keyed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class HubKnown:
    """What a commissioned device knows of its hub: its EUI-64, the endpoint of each cluster, and the open tunnel."""

    eui64: int
    endpoints: dict[int, int]
    tunnel: int | None = None


def commissioned(flash: DeviceFlash, hub: HubKnown | None) -> dict[str, Any]:
    """Return what commissioning made of a device, as JSON can write it; an image on its way is no part of that."""
    known = None
    if hub is not None:
        endpoints = [list(pair) for pair in hub.endpoints.items()]
        known = {"eui64": hub.eui64, "endpoints": endpoints, "tunnel": hub.tunnel}
    return {"firmware": flash.firmware.saved(), "keyed": list(flash.keyed), "hub": known}


def recalled(saved: dict[str, Any]) -> tuple[DeviceFlash, HubKnown | None]:
    """Read what `commissioned` gave. LocalProtocolError for anything else."""
    try:
        keyed = [_number("keyed", eui64, _EUI64) for eui64 in saved["keyed"]]
        flash = DeviceFlash(FirmwareFlash.loaded(saved["firmware"]), keyed=keyed)
        known = saved["hub"]
        if known is None:
            return flash, None
        endpoints = {
            _number("a cluster", cluster, 0xFFFF): _number("an endpoint", endpoint, 0xFF)
            for cluster, endpoint in known["endpoints"]
        }
        tunnel = None if known["tunnel"] is None else _number("tunnel", known["tunnel"], 0xFFFF)
        return flash, HubKnown(_number("eui64", known["eui64"], _EUI64), endpoints, tunnel)
    except (KeyError, TypeError, ValueError) as error:
        raise LocalProtocolError(f"not the commissioned state of a device: {error!r}") from error


def _number(name: str, value: object, most: int) -> int:
    if type(value) is not int or not 0 <= value <= most:
        raise ValueError(f"{name} is no number from 0 to {most:#x}")  # and maybe half a key: not shown
    return value
