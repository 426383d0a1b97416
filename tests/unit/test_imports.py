"""Tests of who imports whom: the layers of the project, read from its source."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
PACKAGE = REPOSITORY / "harness"

# Left may import right, never back. What a right one imports its left may import too: a rig file has EUI-64s and
# install codes, which are values of wire. Members and emulation do not know each other, nor do smi, wire, evidence and
# store.
LAYERS: dict[str, tuple[str, ...]] = {
    "__init__": ("rig", "pytest_plugin", "cli"),
    "__main__": ("cli",),
    "gbcs": ("members",),
    "zigbee": ("wire",),
    "pytest_plugin": ("pytest_items", "rig", "evidence"),
    "pytest_items": ("evidence",),
    "cli": ("rig", "evidence"),
    "rig": ("dcc", "radio", "emulation", "members", "evidence", "store"),
    "dcc": ("smi", "members", "wire", "clock"),
    "radio": ("emulation", "members", "wire", "clock"),
    "members": ("wire",),
    "emulation": ("wire",),
    "smi": ("errors",),
    "wire": ("errors",),
    "evidence": ("errors",),
    "store": ("errors",),
    "clock": ("errors",),
    "errors": (),
}

# Only these know the world's clock and its sockets: all the rest are cores, which take time as an argument.
MAY_WAIT = ("clock", "radio", "dcc", "rig", "cli", "pytest_plugin")


def reach(layer: str) -> set[str]:
    """Return the layers that a layer may import: itself, those to its right, and theirs."""
    return {layer}.union(*(reach(right) for right in LAYERS[layer]))


def modules() -> dict[str, Path]:
    """Return every module of the package by its dotted name."""
    paths = sorted(PACKAGE.rglob("*.py"))
    return {".".join(path.relative_to(REPOSITORY).with_suffix("").parts): path for path in paths}


def imported(path: Path) -> list[tuple[int, str]]:
    """Return the line and the dotted name of each import of a module, wherever in it they stand."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [(node.lineno, alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            # `from harness import wire` imports harness.wire, `from harness.wire import mac` harness.wire.mac.
            found += [(node.lineno, f"{node.module}.{alias.name}") for alias in node.names]
    return found


def layer_of(name: str) -> str:
    """Return the layer of a module of the harness."""
    parts = name.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LAYERS else "__init__"


def starts(name: str, *packages: str) -> bool:
    """Say whether a dotted name is one of the packages, or in one."""
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("module", modules())
def test_a_module_imports_only_to_its_right(module):
    """DESIGN.md section 5: left may import right, never back."""
    layer = layer_of(module)
    allowed = reach(layer)
    wrong = [
        f"{modules()[module].relative_to(REPOSITORY)}:{line}: {layer} imports {name}"
        for line, name in imported(modules()[module])
        if starts(name, "harness") and layer_of(name) not in allowed
    ]
    assert not wrong


def test_every_module_has_its_layer():
    """A new top-level module is put into the table before it is used."""
    known = [name for name in modules() if name.count(".") >= 1]
    assert [name for name in known if name.split(".")[1] not in LAYERS] == []


@pytest.mark.parametrize("module", modules())
def test_only_the_radio_knows_the_radio_libraries(module):
    """bellows, zigpy's application and serialx are radio/'s; wire/ has zigpy's types, and bellows' tables for EZSP."""
    layer = layer_of(module)
    wrong = []
    for line, name in imported(modules()[module]):
        if layer in ("radio", "__init__") or not starts(name, "bellows", "zigpy", "serialx"):
            continue
        types = layer == "wire" and starts(name, "zigpy.types", "zigpy.zcl", "zigpy.zdo")
        tables = starts(module, "harness.wire.ezsp") and starts(name, "bellows")
        if not (types or tables):
            wrong.append(f"{modules()[module].relative_to(REPOSITORY)}:{line}: {layer} imports {name}")
    assert not wrong


@pytest.mark.parametrize("module", [name for name in modules() if layer_of(name) not in MAY_WAIT])
def test_a_core_never_waits(module):
    """No event loop, thread, socket or clock of the world in wire/, members/, emulation/, smi/ and evidence/."""
    waiting = (
        "asyncio",
        "time",
        "threading",
        "socket",
        "select",
        "selectors",
        "concurrent",
        "multiprocessing",
    )
    wrong = [
        f"{modules()[module].relative_to(REPOSITORY)}:{line}: imports {name}"
        for line, name in imported(modules()[module])
        if starts(name, *waiting)
    ]
    assert not wrong


def test_conformance_tests_use_the_public_api():
    """What judges a device is written in the API: `harness`, and the vocabulary of harness.smi and harness.gbcs."""
    wrong = []
    public = {path.stem for path in PACKAGE.iterdir()} - {"smi", "gbcs", "zigbee"}
    for path in sorted((REPOSITORY / "tests" / "conformance").rglob("*.py")):
        for line, name in imported(path):
            parts = name.split(".")
            plumbing = path.name == "conftest.py" and parts[1:2] == ["pytest_plugin"]
            if parts[0] == "harness" and len(parts) > 1 and parts[1] in public and not plumbing:
                wrong.append(f"{path.relative_to(REPOSITORY)}:{line}: imports {name}")
    assert not wrong


def test_the_table_has_no_circle():
    """Each layer stands left of what it imports: errors is reached from everywhere and reaches nothing."""
    assert all(layer not in reach(right) for layer, rights in LAYERS.items() for right in rights)
    assert all("errors" in reach(layer) for layer in LAYERS)
