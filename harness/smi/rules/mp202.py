"""MP202: dual-mode PPMIDs and late binding. Source: the MP202 Working Group summary, F5; its outcome was not found."""

from __future__ import annotations

from harness.smi.devices import DeviceType, SmetsFamily
from harness.smi.firmware_table import FirmwareTable
from harness.smi.image_fate import Basis
from harness.smi.record import Record
from harness.smi.rule import rule

_ON = ("on",)


def _has_row(record: Record, table: FirmwareTable, smets: SmetsFamily) -> bool:
    return table.get(record.manufacturer, record.model, record.firmware_version, smets) is not None


@rule("LB-01", "LB-02", source="MP202 Solution", mp202=_ON)
def dual_mode(record: Record, table: FirmwareTable) -> bool:
    """A PPMID is dual-mode where its version has two CPL rows, one SMETS1 and one SMETS2+."""
    return record.device_type is DeviceType.PPMID and all(
        _has_row(record, table, smets) for smets in SmetsFamily
    )


@rule("LB-03", source="MP202 Solution", mp202=_ON)
def bound_by_hub(record: Record, table: FirmwareTable, hub: SmetsFamily) -> bool:
    """A dual-mode PPMID that joins has the SMETS family of its hub, whatever was pre-notified."""
    # A row that is not Active binds nobody: the PPMID would be Suspended for it.
    active = record.firmware_version in table.active(record.manufacturer, record.model, hub)
    return active and dual_mode(record, table)


@rule("LB-07", source="F5 (inferred)", basis=Basis.ASSUMED, mp202=_ON)
def bound_anew(record: Record) -> bool:
    """A dual-mode PPMID that has moved to another hub is bound anew, to that hub's SMETS family."""
    return record.moved


@rule("LB-08", source="F4.2, F5 (inferred)", basis=Basis.ASSUMED, mp202=_ON)
def row_of_family_gone(device_type: DeviceType) -> bool:
    """Where a version loses its Active row of one SMETS family, the PPMIDs of that family are Suspended, no others."""
    return device_type is DeviceType.PPMID


@rule("LB-04", source="F5 (inferred)", basis=Basis.ASSUMED, mp202=_ON)
def not_bound(device_type: DeviceType) -> bool:
    """A PPMID with a row of one family only is not bound to the other; the mismatch is reported."""
    return device_type is DeviceType.PPMID


@rule("LB-06", source="MP202 Requirement 7", mp202=_ON, smets1_ota=("refused",))
def smets1_ota_refused(record: Record, table: FirmwareTable, hub: SmetsFamily) -> bool:
    """A dual-mode PPMID takes an image over the air only where it is enrolled in a SMETS2+ system."""
    return hub is SmetsFamily.SMETS1 and dual_mode(record, table)
