"""The catalogue of requirements: what the conformance tests judge, and how sure the project is of each."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

import yaml

from harness.errors import LocalProtocolError, RigError

BASES = ("sourced", "assumed")


@dataclass(frozen=True, slots=True)
class Requirement:
    """One row of the catalogue.

    `under_test` is the member judged. `basis` is `sourced` (a public document says it) or `assumed`. `options` are the
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
        if name in requirements:
            raise RigError(f"{path}: requirement {name} is there twice")
        requirements[name] = Requirement(**row)
    return requirements
