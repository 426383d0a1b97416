"""What a rule of the Inventory says of itself: its source, its basis, and the options under which it holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar

from harness.smi.image_fate import Basis
from harness.smi.options import Options

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Rule(Generic[P, R]):
    """One rule. `when` are the settings under which it holds: an option and the values of it, all of them to be met.

    `source`: MP105, MP170, MP202 are the SEC Working Group's summaries; F is a section of the facts on firmware.
    `text` is the first line of the function's docstring. Called, a rule decides, whether it holds or not.
    """

    id: str
    modification: str
    requirements: tuple[str, ...]
    source: str
    basis: Basis
    when: tuple[tuple[str, tuple[str, ...]], ...]
    text: str
    decide: Callable[P, R]

    def holds(self, options: Options) -> bool:
        """Whether the rule is in force."""
        return all(getattr(options, name) in values for name, values in self.when)

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """Decide."""
        return self.decide(*args, **kwargs)

    def __str__(self) -> str:
        named = ", ".join(self.requirements)
        return f"{self.id} ({named + '; ' if named else ''}{self.basis}: {self.source})"


def rule(
    *requirements: str, source: str, basis: Basis = Basis.SOURCED, **when: tuple[str, ...]
) -> Callable[[Callable[P, R]], Rule[P, R]]:
    """Make a rule of a function: its id is its module's name and its own."""

    def make(decide: Callable[P, R]) -> Rule[P, R]:
        module = decide.__module__.rpartition(".")[2]
        text = (decide.__doc__ or "").partition("\n")[0]
        return Rule(
            f"{module}.{decide.__name__}",
            module,
            requirements,
            source,
            basis,
            tuple(when.items()),
            text,
            decide,
        )

    return make
