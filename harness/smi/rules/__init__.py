"""The rules of the Inventory, one module a modification of the SEC, and `RULES`: all of them by id."""

from __future__ import annotations

from typing import Any

from harness.smi.rule import Rule
from harness.smi.rules import base, mp105, mp170, mp202, secmp0007

RULES: dict[str, Rule[..., Any]] = {
    found.id: found
    for module in (base, mp105, mp170, mp202, secmp0007)
    for found in vars(module).values()
    if isinstance(found, Rule) and found.modification == module.__name__.rpartition(".")[2]
}
