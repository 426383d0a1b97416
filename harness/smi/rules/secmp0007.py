"""SECMP0007: images for PPMIDs and HCALCSs over the air. Source: F3, F2.1."""

from __future__ import annotations

from harness.smi.devices import DeviceType, SmetsFamily
from harness.smi.image_fate import Basis
from harness.smi.options import Options, gbcs_number
from harness.smi.rule import rule

_ON = ("on",)
_NEW = frozenset({DeviceType.PPMID, DeviceType.HCALCS})

BEFORE = frozenset({DeviceType.ESME, DeviceType.GSME})
"""What took images before."""


@rule(source="F3, M0007", secmp0007=_ON)
def ppmid_request() -> None:
    """SR11.4 is a Service Request."""


@rule(source="F3, M0007, F2.1", secmp0007=_ON)
def takes_images(srv: str) -> frozenset[DeviceType]:
    """SR11.1 is for ESME, GSME and HCALCS, SR11.4 for PPMID."""
    return frozenset({DeviceType.PPMID}) if srv == "11.4" else BEFORE | {DeviceType.HCALCS}


@rule("SU-08", source="MP105 Device scope, F3", secmp0007=_ON)
def versions_are_read(device_type: DeviceType) -> bool:
    """SR11.2 and what MP105 makes of it extend to PPMID and HCALCS."""
    return device_type in _NEW


@rule("AH-17", "FW-14", source="F3, N0007 (InvalidGBCSVersionList)", secmp0007=_ON)
def hub_is_too_old(device_type: DeviceType, family: SmetsFamily, gbcs: str | None, options: Options) -> bool:
    """A hub whose firmware predates SECMP0007 carries no image for a PPMID or HCALCS."""
    least, has = gbcs_number(options.secmp0007_gbcs), gbcs_number(gbcs)
    # A SMETS1 hub has no GBCS version; what it may carry is MP202's question.
    return (
        device_type in _NEW and family is SmetsFamily.SMETS2 and (has is None or least is None or has < least)
    )


@rule(source="F3, F2.5, XSD", secmp0007=_ON)
def activates_by_itself(device_type: DeviceType) -> bool:
    """A PPMID activates its image by itself; its alert 0x8F8B goes to Users."""
    return device_type is DeviceType.PPMID


@rule(source="F3; that the Inventory takes the version is inferred", basis=Basis.ASSUMED, secmp0007=_ON)
def version_in_alert(device_type: DeviceType) -> bool:
    """Alert 0x8F8B of success updates the version of a PPMID or HCALCS."""
    return device_type in _NEW
