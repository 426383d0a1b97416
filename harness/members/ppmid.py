"""The devices that look and let a consumer act: the PPMID, which activates its images by itself, and the IHD."""

from __future__ import annotations

from harness.members.device import HanDevice
from harness.wire.clusters import METERING_CLUSTER, PREPAYMENT_CLUSTER


class Ppmid(HanDevice):
    """A Prepayment Meter Interface Device: it reads the meters, and runs the image that it fetched when told to."""

    def used(self) -> tuple[int, ...]:
        """Metering and Prepayment, of the hub's mirrors."""
        return METERING_CLUSTER, PREPAYMENT_CLUSTER


class Ihd(HanDevice):
    """An In-Home Display: it reads the meters, and takes no image over the HAN (SECMP0007)."""

    def used(self) -> tuple[int, ...]:
        """Metering, of the hub's mirrors."""
        return (METERING_CLUSTER,)
