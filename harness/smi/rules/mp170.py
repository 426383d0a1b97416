"""MP170: Alt HAN bridges as PPMID variants. Source: the MP170 Working Group summary, F6; nothing of it was decided."""

from __future__ import annotations

from harness.smi.devices import DeviceType, PpmidVariant
from harness.smi.image_fate import Basis
from harness.smi.record import Record
from harness.smi.rule import rule

_PPMID, _B1, _B2, _B3, _B4 = PpmidVariant
_HAS_BRIDGES = ("base", "option_a", "option_b")


@rule(source="F6 (no DUIS up to 5.4 has the field)", mp170=("off",))
def no_variant(variant: PpmidVariant | None) -> bool:
    """Without the modification there is no PPMIDVariant."""
    return variant is None


@rule("AH-01", source="MP170 Solution", mp170=("base",))
def all_bridges_shown(variant: PpmidVariant | None) -> bool:
    """Each bridge, B1 to B4, is a PPMID variant of its own in the Inventory."""
    return variant in (None, *PpmidVariant)


@rule("AH-11", source="MP170 Option A", mp170=("option_a",))
def option_a_shows(variant: PpmidVariant | None) -> bool:
    """B4 takes its image from B3, so that the Inventory shows B1, B2 and B3."""
    return variant in (None, _PPMID, _B1, _B2, _B3)


@rule("AH-12", source="MP170 Option B", mp170=("option_b",))
def option_b_shows(variant: PpmidVariant | None) -> bool:
    """B1 hands out the firmware of all bridges of its site, so that the Inventory shows B1 only."""
    return variant in (None, _PPMID, _B1)


@rule("AH-09", source="MP170 discussion", mp170=_HAS_BRIDGES, ppmid_variant=("mandatory",))
def variant_is_mandatory(device_type: DeviceType, variant: PpmidVariant | None) -> bool:
    """A PPMID is pre-notified with its PPMIDVariant."""
    return device_type is not DeviceType.PPMID or variant is not None


@rule("AH-10", source="MP170 discussion (MP125)", mp170=_HAS_BRIDGES, variant_change=("refused",))
def variant_stays(record: Record) -> bool:
    """After commissioning, PPMIDVariant is not changed any more."""
    return record.commissioned_at is None


@rule("AH-10", source="MP170 discussion (MP125)", mp170=_HAS_BRIDGES)
def variant_changed(record: Record) -> bool:
    """SR8.4 changes the PPMIDVariant of a PPMID."""
    return record.device_type is DeviceType.PPMID


@rule("AH-09", source="MP170 discussion", mp170=_HAS_BRIDGES)
def uplifted(record: Record) -> bool:
    """The one-off uplift labels the PPMIDs that have no variant yet."""
    return record.device_type is DeviceType.PPMID and record.ppmid_variant is None


@rule("AH-13", source="MP170 discussion, F6", mp170=("option_b",))
def one_response_for_the_site() -> None:
    """B1 sends one response for all bridges of its site; a failure does not say whose it is."""


@rule("AH-13", source="F2.3 (inferred)", basis=Basis.ASSUMED)
def failure_says_no_version() -> None:
    """The version in a failed activation alert may be the one that failed: the Inventory keeps what it had."""
