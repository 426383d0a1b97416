"""What an Alt HAN bridge is configured with, keeps without power, and reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Final

from harness.errors import LocalProtocolError
from harness.members.device_values import DeviceConfig
from harness.members.kinds import DeviceKind
from harness.wire.mac import format_eui64
from harness.wire.ota_server import OtaServerConfig
from harness.wire.package import Bridge

# Assumed: seconds from when a package is handed out until the bridges that do not run their image yet have failed. A
# bridge that missed its Image Notify asks for an image an hour after it asked last.
FEEDING_LIMIT: Final = 4 * 3600.0


@dataclass(frozen=True, slots=True)
class BridgeConfig(DeviceConfig):
    """One model of Alt HAN bridge: a PPMID variant (MP170). Times in seconds, other bridges by EUI-64.

    `feeds` are the bridges that it hands images to: its own are packages then, which have to match it (option A: B3
    feeds B4; option B: B1 feeds all others on site). One that is `fed_by` another bridge takes its images from that
    one, not from the hub. The one that feeds speaks to the Supplier for all of them, so that the others send no CS09.

    LocalProtocolError for a bridge that is none, that feeds itself, that feeds and is fed, or that has no certificate
    for the key that it would need with another bridge.
    """

    bridge: Bridge = Bridge.B1
    feeds: Mapping[Bridge, int] = field(default_factory=dict)
    fed_by: int | None = None
    # What bridges say to each other is in no public document. Assumed: Zigbee OTA over the HAN, under a link key of the
    # two, which the fed one asks for by key establishment.
    feeder: OtaServerConfig = field(default_factory=OtaServerConfig)
    feeding_limit: float = FEEDING_LIMIT

    def __post_init__(self) -> None:
        firmware = self.firmware
        if firmware.kind is not DeviceKind.BRIDGE:
            raise LocalProtocolError(f"a bridge is a {DeviceKind.BRIDGE}, not a {firmware.kind}")
        if self.bridge in self.feeds or firmware.eui64 in (*self.feeds.values(), self.fed_by):
            raise LocalProtocolError(f"{self.bridge.name} cannot feed itself")
        if not self.linked:
            return
        if self.feeds and self.fed_by is not None:
            raise LocalProtocolError(
                f"{self.bridge.name} feeds bridges, and takes its images from the hub: not from"
                f" {format_eui64(self.fed_by)}"
            )
        if not (self.secured and self.credentials):
            raise LocalProtocolError(
                f"{self.bridge.name} needs a certificate for its keys with other bridges"
            )
        bridges = (self.bridge, *sorted(self.feeds)) if self.feeds else ()
        # One CS09 for all of them is sent when all are done: not by the firmware core, which knows of one device.
        object.__setattr__(self, "firmware", replace(firmware, bridges=bridges, activation_alert=False))

    @property
    def linked(self) -> bool:
        """Whether it has anything to do with other bridges."""
        return bool(self.feeds) or self.fed_by is not None

    @property
    def partners(self) -> tuple[int, ...]:
        """The bridges that it speaks to."""
        return tuple(self.feeds.values()) if self.fed_by is None else (self.fed_by,)


# --- flash -----------------------------------------------------------------------------------------------------------


class FedState(StrEnum):
    """How far a bridge has come that a package has an image for."""

    WAITING = "waiting"  # for its image, or in the middle of it
    TAKEN = "taken"  # it has the image, and was told to run it
    UPDATED = "updated"  # it said that it runs the image
    FAILED = "failed"


@dataclass(slots=True)
class LinkPartner:
    """What is known of another bridge: its NWK address, and the endpoints that it spoke from or was found at."""

    short: int
    key_endpoint: int = 1
    ota_endpoint: int | None = None


@dataclass(slots=True)
class BridgeFlash:
    """What a bridge keeps of other bridges without power.

    `keyed` are those that it has established a link key with, whose keys are its carrier's to keep. `package` is the
    OTA file that it hands out until all in `fed` are updated or failed, or `limit` (seconds of its clock) is past.
    """

    keyed: list[int] = field(default_factory=list)
    partners: dict[int, LinkPartner] = field(default_factory=dict)
    package: bytes = b""
    fed: dict[Bridge, FedState] = field(default_factory=dict)
    limit: float = 0.0

    def saved(self) -> dict[str, Any]:
        """What commissioning made of it, in values that JSON has; a package on its way is no part of that."""
        partners = [
            [eui64, it.short, it.key_endpoint, it.ota_endpoint] for eui64, it in self.partners.items()
        ]
        return {"keyed": list(self.keyed), "partners": partners}

    @classmethod
    def loaded(cls, saved: object) -> BridgeFlash:
        """Read what `saved` gave. LocalProtocolError for anything else."""
        try:
            keyed, partners = saved["keyed"], saved["partners"]  # type: ignore[index]
            return cls(
                [int(eui64) for eui64 in keyed],
                {
                    int(eui64): LinkPartner(int(short), int(key), None if ota is None else int(ota))
                    for eui64, short, key, ota in partners
                },
            )
        except (KeyError, TypeError, ValueError) as error:
            raise LocalProtocolError(f"not what a bridge knows of other bridges: {error!r}") from error


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class FeedingBegun:
    """A bridge hands out the package `version`; `to` are the bridges that it feeds."""

    version: int
    to: tuple[Bridge, ...]


@dataclass(frozen=True, slots=True)
class BridgeUpdated:
    """A bridge said that it runs what it was fed."""

    bridge: Bridge
    version: int


@dataclass(frozen=True, slots=True)
class BridgeFailed:
    """A bridge does not run what it was fed; `reason` is a sentence."""

    bridge: Bridge
    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class FeedingEnded:
    """Every bridge is updated or failed: it is the turn of the one that feeds them."""

    version: int
    failed: tuple[Bridge, ...]
