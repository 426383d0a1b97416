"""What an OTA server does by its own choice, what it offers, and what it reports."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from harness.wire.image import OtaImage
from harness.wire.ota_messages import VersionPolicy

# Octets of an image that one frame holds: 127 less MAC 11, NWK 8, its security 18, APS 8, ZCL 3 and the 14 of the
# response; and less the 9 of APS security.
LARGEST_BLOCK = 65
LARGEST_BLOCK_SECURED = LARGEST_BLOCK - 9


@dataclass(frozen=True, slots=True)
class OtaServerConfig:
    """What an OTA server does where the standard leaves it a choice."""

    block_size: int = LARGEST_BLOCK_SECURED
    block_period_ms: int = 0  # ZCL8 11.10.10: the pace it asks of its clients; 0: their own
    page_requests: bool = True  # optional for a server, ZCL8 11.13.7
    shortest_spacing: float = (
        0.02  # assumed: s between the blocks of a page, whatever less the client asks for
    )
    # An operator says what to offer, so that older versions go too; never the running one, ZCL8 11.13.5.
    version_policy: VersionPolicy = VersionPolicy.DIFFERENT
    # UTC seconds since 2000 at time 0 of the carrier's clock; None: no clock, times are sent as 0 and a delay.
    utc_at_zero: int | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Offer:
    """One image that waits at the server, for one client (EUI-64) or, with None, for all that it fits."""

    image: OtaImage
    data: bytes
    client: int | None
    upgrade_at: int

    @property
    def key(self) -> tuple[int, int, int]:
        """Manufacturer, image type and version: how the commands name the file."""
        return (self.image.manufacturer, self.image.image_type, self.image.version)


@dataclass(frozen=True, slots=True)
class ImageQueried:
    """A client asked for an image, and what it was answered."""

    client: int
    manufacturer: int
    image_type: int
    version: int
    hardware: int | None
    status: int


@dataclass(frozen=True, slots=True)
class TransferStarted:
    """A client asked for its first block of an image, at `offset`."""

    client: int
    version: int
    offset: int
    total: int


class TransferProgressed(NamedTuple):
    """A block was served: `offset` of `total` octets are behind it."""

    client: int
    version: int
    offset: int
    total: int


@dataclass(frozen=True, slots=True)
class TransferCompleted:
    """The last octet of an image was served for the first time. Not yet the client's word that it has it."""

    client: int
    version: int


@dataclass(frozen=True, slots=True)
class UpgradeEnded:
    """A client said how its transfer ended: SUCCESS, INVALID_IMAGE, REQUIRE_MORE_IMAGE or ABORT."""

    client: int
    manufacturer: int
    image_type: int
    version: int
    status: int


@dataclass(frozen=True, slots=True)
class ImageWithdrawn:
    """An image was taken back after `offset` octets of it went to `client`; None: it was for all, nobody had begun."""

    client: int | None
    version: int
    offset: int


@dataclass(frozen=True, slots=True)
class RequestRefused:
    """A request was answered with an error status."""

    client: int
    command: int
    status: int
