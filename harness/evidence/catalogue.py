"""The catalogue of requirements: what the conformance tests judge, and how sure the project is of each."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import MappingProxyType

import yaml

from harness.errors import LocalProtocolError, RigError

BASES = ("sourced", "assumed")

MEMBERS = ("hub", "esme", "gsme", "hcalcs", "ppmid", "bridge", "ihd")
"""The members of a HAN that a test can judge: the roles of the device profiles."""

# Who fits what the catalogue names: a requirement is judged only where one of these is under test.
FITS: Mapping[str, Collection[str]] = MappingProxyType(
    {
        "hub": ("hub",),
        # The rows on images, receipts and SR11.3 name the ESME, the first of the devices that SR11.3 activates; they
        # hold for the other two as they stand (F2.3). What is a GSME's or an HCALCS' own has its own row.
        "esme": ("esme", "gsme", "hcalcs"),
        "gsme": ("gsme",),
        "hcalcs": ("hcalcs",),
        "ppmid": ("ppmid", "bridge"),  # MP170: a bridge is a variant of the PPMID, and joins as one
        "bridge": ("bridge",),
        "any": MEMBERS,
        "smi": ("smi",),  # the Inventory, and who asks it: no member of the HAN
        "image": (*MEMBERS, "smi"),  # about a file, whoever takes it
    }
)


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of the catalogue.

    `under_test` is the member judged (`FITS` says who else is), or several with commas between them, each of which is
    judged for its part. `basis` is `sourced` (a public document says it) or `assumed`. `options` are the
    settings of the Inventory under which it holds. `uncovered` is what no test judges yet: a requirement with such a
    rest passes in part only.
    """

    id: str
    under_test: str
    basis: str
    source: str
    text: str
    options: str = ""
    uncovered: str = ""

    def judges(self, roles: Collection[str]) -> bool:
        """Whether what is found out about members of these roles, or `smi`, says something of the requirement."""
        return any(role in FITS[name] for name in _named(self.under_test) for role in roles)


def _named(under_test: str) -> list[str]:
    return [name.strip() for name in under_test.split(",")]


def find_requirement(catalogue: Mapping[str, Requirement], name: str) -> Requirement:
    """Return a requirement by its id; LocalProtocolError, with the nearest id, for one that a test made up."""
    if name not in catalogue:
        close = difflib.get_close_matches(name, list(catalogue), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise LocalProtocolError(f"no requirement {name!r} in the catalogue{hint}")
    return catalogue[name]


def load_catalogue(path: Path) -> dict[str, Requirement]:
    """Read the requirements by id, in the order of the file; RigError names the file and the row that is wrong."""
    try:
        rows = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error
    except yaml.YAMLError as error:
        raise RigError(f"{path}: is not YAML: {error}") from error
    if not isinstance(rows, list):
        raise RigError(f"{path}: must be a list of requirements")
    known = {field.name for field in fields(Requirement)}
    required = known - {"options", "uncovered"}
    requirements: dict[str, Requirement] = {}
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise RigError(f"{path}: requirement {number} must be a mapping")
        name = row.get("id", f"number {number}")
        wrong = [*sorted(required - row.keys()), *sorted(map(str, row.keys() - known))]
        if wrong:
            raise RigError(f"{path}: requirement {name} has missing or unknown keys: {', '.join(wrong)}")
        odd = [key for key, value in row.items() if not isinstance(value, str)]
        if odd:
            raise RigError(f"{path}: requirement {name}: {', '.join(odd)} must be text")
        if row["basis"] not in BASES:
            raise RigError(f"{path}: requirement {name}: basis is {' or '.join(BASES)}, not {row['basis']!r}")
        strange = [name for name in _named(row["under_test"]) if name not in FITS]
        if strange:
            hint = difflib.get_close_matches(strange[0], list(FITS), n=1)
            raise RigError(
                f"{path}: requirement {name}: nothing is under_test {strange[0]!r}"
                + (f"; did you mean {hint[0]}?" if hint else f"; known: {', '.join(FITS)}")
            )
        if name in requirements:
            raise RigError(f"{path}: requirement {name} is there twice")
        requirements[name] = Requirement(**row)
    return requirements
