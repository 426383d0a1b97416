"""The kinds of device that a GB HAN has beside its hub, and how a hub counts them."""

from __future__ import annotations

from enum import StrEnum


class DeviceKind(StrEnum):
    """What a device is. A bridge (B1 to B4 of an Alt HAN) joins as a PPMID and is told from one where that matters."""

    ESME = "esme"
    GSME = "gsme"
    HCALCS = "hcalcs"
    PPMID = "ppmid"
    BRIDGE = "bridge"
    IHD = "ihd"


# SMETS: a Type 1 Device is one that a Supplier commands, a Type 2 Device only looks.
TYPE_1 = (DeviceKind.HCALCS, DeviceKind.PPMID, DeviceKind.BRIDGE)
TYPE_2 = (DeviceKind.IHD,)
# F3: SR11.3 (CS06) activates their images; all others activate by themselves, or take none.
ACTIVATED_BY_COMMAND = (DeviceKind.ESME, DeviceKind.GSME, DeviceKind.HCALCS)
