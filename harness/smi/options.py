"""Which modifications of the SEC hold in an Inventory, and in which of the forms that were discussed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from difflib import get_close_matches
from enum import StrEnum

from harness.errors import LocalProtocolError


class Mp105(StrEnum):
    """What brings a Suspended Device back: SR11.3 success only, SR11.2 too, or any SR11.3 response as well."""

    BEFORE = "before"
    SR11_2 = "sr11_2"
    BOTH = "both"


class Mp170(StrEnum):
    """Which Alt HAN bridges the Inventory shows: none, B1 to B4, B1 to B3 (Option A), B1 alone (Option B)."""

    OFF = "off"
    BASE = "base"
    OPTION_A = "option_a"
    OPTION_B = "option_b"


class Presence(StrEnum):
    """Whether a pre-notified PPMID has to say its PPMIDVariant."""

    OPTIONAL = "optional"
    MANDATORY = "mandatory"


class Permission(StrEnum):
    """Whether something is let through."""

    REFUSED = "refused"
    ALLOWED = "allowed"


class Switch(StrEnum):
    """Whether a modification is in force."""

    OFF = "off"
    ON = "on"


@dataclass(frozen=True, slots=True)
class Options:
    """The settings of one Inventory; strings will do. LocalProtocolError names a wrong value and the nearest right one.

    The defaults are what is in force (F4.3, F3) and, where nothing was decided, what the working group asked for.
    `secmp0007_gbcs` is the least GBCS version of a hub that carries images to PPMIDs and HCALCSs: assumed (F3).
    """

    mp105: Mp105 = Mp105.BOTH
    mp170: Mp170 = Mp170.OFF
    ppmid_variant: Presence = Presence.OPTIONAL
    variant_change: Permission = Permission.ALLOWED
    mp202: Switch = Switch.ON
    smets1_ota: Permission = Permission.REFUSED
    secmp0007: Switch = Switch.ON
    secmp0007_gbcs: str = "4.0"

    def __post_init__(self) -> None:
        for name, kind in _KINDS.items():
            value = getattr(self, name)
            try:
                object.__setattr__(self, name, kind(value))
            except ValueError:
                raise LocalProtocolError(
                    f"Inventory option {name}: {value!r} is none of {' | '.join(kind)}"
                    f"{_nearest(str(value), list(kind))}"
                ) from None
        if gbcs_number(self.secmp0007_gbcs) is None:
            raise LocalProtocolError(
                f"Inventory option secmp0007_gbcs: {self.secmp0007_gbcs!r} is no GBCS version such as 4.0"
            )

    @classmethod
    def of(cls, settings: Mapping[str, str]) -> Options:
        """Return the options of a mapping, the rest as they are by default. LocalProtocolError for an unknown one."""
        names = [field.name for field in fields(cls)]
        for name in settings:
            if name not in names:
                raise LocalProtocolError(
                    f"there is no Inventory option {name!r}{_nearest(name, names) or '; there are ' + ', '.join(names)}"
                )
        return cls(**settings)  # type: ignore[arg-type]


_KINDS: dict[str, type[StrEnum]] = {
    "mp105": Mp105,
    "mp170": Mp170,
    "ppmid_variant": Presence,
    "variant_change": Permission,
    "mp202": Switch,
    "smets1_ota": Permission,
    "secmp0007": Switch,
}


def gbcs_number(version: str | None) -> tuple[int, ...] | None:
    """Return a GBCS version such as 4.1 or v4.1 as numbers that can be compared; None: it is none."""
    parts = (version or "").strip().lower().removeprefix("v").split(".")
    return tuple(int(part) for part in parts) if all(part.isdecimal() for part in parts) else None


def _nearest(value: str, right: list[str]) -> str:
    found = get_close_matches(value.lower(), right, n=1, cutoff=0.4)
    return f"; did you mean {found[0]}?" if found else ""
