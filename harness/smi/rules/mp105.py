"""MP105: SR11.2 to a Suspended Device, and the version in every response to SR11.3. Source: MP105, F4.3."""

from __future__ import annotations

from harness.smi.devices import DeviceType
from harness.smi.record import Record
from harness.smi.rule import rule

_AFTER = ("sr11_2", "both")

METERS = frozenset({DeviceType.ESME, DeviceType.GSME})
"""What the modification is about, SMETS1 and SMETS2+ alike (MP105 Device scope)."""


@rule("SU-03", "SU-08", source="MP105 Solution, F4.3 (E5)", mp105=_AFTER)
def read_while_suspended(device_type: DeviceType) -> bool:
    """SR11.2 is on the exception list of E5, for ESME and GSME."""
    return device_type in METERS


@rule("SU-04", "SU-08", source="MP105 Solution, F4.3", mp105=_AFTER)
def version_read(device_type: DeviceType) -> bool:
    """The response to SR11.2 updates the version of an ESME or GSME, and by it the status."""
    return device_type in METERS


@rule("SU-05", source="MP105 Alternate approach, F4.3", mp105=("both",))
def version_in_any_outcome(device_type: DeviceType) -> bool:
    """The response to SR11.3 updates the version whatever its outcome, for Suspended and all other Devices."""
    return device_type in METERS


@rule("SU-06", source="MP105 Solution, F2.5")
def gpf_shows_mismatch(gsme: Record, firmware_version: int) -> bool:
    """SR11.2 to the GPF updates nothing of the GSME; a version that is not the Inventory's raises N52."""
    return gsme.firmware_version != firmware_version
