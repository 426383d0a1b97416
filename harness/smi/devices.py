"""What the Inventory calls things: Device types, statuses, SMETS families, PPMID variants, identifiers."""

from __future__ import annotations

from enum import StrEnum

from harness.errors import LocalProtocolError

_EUI64_MAX = 0xFFFF_FFFF_FFFF_FFFF


class DeviceType(StrEnum):
    """The Device types of the DUIS 5.4 schema (F4.1)."""

    ESME = "ESME"
    GSME = "GSME"
    GPF = "GPF"
    CHF = "CHF"
    HCALCS = "HCALCS"
    PPMID = "PPMID"
    IHD = "IHD"
    CAD = "CAD"


class DeviceStatus(StrEnum):
    """The nine statuses of the DUIS 5.4 schema (F4.1)."""

    PENDING = "Pending"
    WHITELISTED = "Whitelisted"
    INSTALLED_NOT_COMMISSIONED = "InstalledNotCommissioned"
    COMMISSIONED = "Commissioned"
    DECOMMISSIONED = "Decommissioned"
    WITHDRAWN = "Withdrawn"
    SUSPENDED = "Suspended"
    RECOVERY = "Recovery"
    RECOVERED = "Recovered"


class SmetsFamily(StrEnum):
    """What the SEC divides Devices by, and MP202 the CPL rows of a dual-mode PPMID: SMETS2 stands for SMETS2+."""

    SMETS1 = "SMETS1"
    SMETS2 = "SMETS2"


class PpmidVariant(StrEnum):
    """PPMIDVariant: which Alt HAN bridge a PPMID is (MP170). Assumed values: no DUIS up to 5.4 has the field."""

    PPMID = "PPMID"
    """None: a PPMID that a consumer looks at."""

    B1 = "B1"
    B2 = "B2"
    B3 = "B3"
    B4 = "B4"


ON_THE_CPL = frozenset(
    {DeviceType.ESME, DeviceType.GSME, DeviceType.CHF, DeviceType.HCALCS, DeviceType.PPMID}
)
"""The types whose firmware is a CPL row. IHD and CAD are Type 2 (F1.3); a GPF is its hub's firmware (assumed)."""

TYPE_1 = frozenset({DeviceType.PPMID, DeviceType.HCALCS})
"""Type 1 Devices: what a hub's limit of Type 1 Devices counts (F6)."""


def format_eui64(eui64: int) -> str:
    """Return an EUI-64 as the DUIS writes it: 00-0D-6F-00-0A-90-69-E7."""
    return eui64.to_bytes(8, "big").hex("-").upper()


def check_eui64(value: object) -> int:
    """Return an EUI-64 as it came. LocalProtocolError for anything but an integer that a Device may have."""
    if type(value) is not int or not 0 < value < _EUI64_MAX:
        raise LocalProtocolError(f"{value!r} is no Device's EUI-64, which is an integer of 64 bits")
    return value


def format_version(version: int | None) -> str:
    """Return a firmware version as eight hexadecimal digits; "none" for None."""
    return "none" if version is None else f"{version:08X}"


def check_version(value: object) -> int:
    """Return a firmware version as it came: four octets on the wire (F1.2). LocalProtocolError for anything else."""
    if type(value) is not int or not 0 <= value <= 0xFFFF_FFFF:
        raise LocalProtocolError(f"{value!r} is no firmware version, which is an integer of 32 bits")
    return value
