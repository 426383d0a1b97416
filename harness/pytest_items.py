"""What the pytest plugin reads off a test: the requirements that it judges, its catalogue, and where its files go."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.errors import LocalProtocolError, RigError

if TYPE_CHECKING:
    from harness.evidence.catalogue import Requirement

CATALOGUE = "requirements.yaml"
_LONGEST_NAME = 80  # characters of a folder's name, of the 255 that a file system takes


def requirements_of(item: pytest.Item) -> list[str]:
    """The requirements that a test judges, by its markers."""
    return [name for marker in item.iter_markers("requirement") for name in marker.args]


def catalogue_of(config: pytest.Config, items: Sequence[pytest.Item]) -> dict[str, Requirement]:
    """Read the catalogues above the tests; UsageError for one that is wrong, and for an id that none of them has."""
    from harness.evidence.catalogue import find_requirement, load_catalogue

    catalogue: dict[str, Requirement] = {}
    read: set[Path] = set()
    try:
        for item in items:
            path = _catalogue_path(config, item)
            if path is not None and path not in read:
                read.add(path)
                catalogue |= load_catalogue(path)
        for item in items:
            for name in requirements_of(item):
                try:
                    find_requirement(catalogue, name)
                except LocalProtocolError as error:
                    where = "" if read else f": there is no {CATALOGUE} beside or above the test"
                    raise pytest.UsageError(f"{item.nodeid}: {error}{where}") from error
    except RigError as error:
        raise pytest.UsageError(str(error)) from error
    return catalogue


def _catalogue_path(config: pytest.Config, item: pytest.Item) -> Path | None:
    for folder in item.path.parents:
        if (folder / CATALOGUE).is_file():
            return folder / CATALOGUE
        if folder == config.rootpath:
            break  # what lies further up is not the project's: other tools call their files that, too
    return None


def evidence_folder(item: pytest.Item) -> Path | None:
    """Return where a test leaves its files: folders as in its node id, and none for two tests."""
    evidence = item.config.getoption("--evidence")
    if evidence is None:
        return None
    module, _, rest = item.nodeid.partition("::")
    head, bracket, parameters = rest.partition("[")
    *classes, function = head.split("::")
    parts = [part for part in Path(module).with_suffix("").parts if part not in ("..", "/")]
    name = function + bracket + parameters
    clean = re.sub(r"[^A-Za-z0-9_]+", "-", name).strip("-")[:_LONGEST_NAME]
    if clean != name:
        clean += "-" + hashlib.sha256(item.nodeid.encode()).hexdigest()[:6]
    return Path(evidence, *parts, *classes, clean)
