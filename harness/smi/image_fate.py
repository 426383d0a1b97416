"""The oracle of the image store: what must become of an image that waits in a Communications Hub when another arrives.

It is written from the public documents alone and shares nothing with the emulated hub's store, which it judges as it
judges a real one. MP170 is the SEC Working Group's summary; F is a section of the project's facts on firmware.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from itertools import product
from typing import Literal

from harness.errors import LocalProtocolError


class Target(StrEnum):
    """What a firmware image is for. B1 to B4 are the Alt HAN bridges, each with an image of its own (MP170, AH-02)."""

    GSME = "GSME"
    ESME = "ESME"
    PPMID = "PPMID"
    HCALCS = "HCALCS"
    B1 = "B1"
    B2 = "B2"
    B3 = "B3"
    B4 = "B4"


class Stage(StrEnum):
    """How far the waiting image has come at the moment the other one arrives at the hub."""

    QUEUED = "queued"
    """The hub has the whole image; nothing has told the device of it."""

    ANNOUNCED = "announced"
    """The device was told (Image Notify 0x00, notification flag, Query Next Image Response) and has no block yet."""

    PART_TRANSFERRED = "part transferred"
    """The device has a block at least, and has not yet ended the download with success (Upgrade End Request 0x06)."""

    FULLY_TRANSFERRED = "fully transferred"
    """The device has ended the download with success; its verdict on the signature has not reached the hub."""

    AWAITING_ACTIVATION = "awaiting activation"
    """The device holds the verified image and does not run it yet: it waits for SR11.3, or for itself (PPMID)."""


class Fate(StrEnum):
    """What the arrival does, as far as the air and the hub's alerts show it."""

    KEPT = "kept"
    """Nothing is lost: the hub takes the arriving image, and each of the two reaches its device."""

    OVERWRITTEN = "overwritten"
    """The hub takes the arriving image, drops the waiting one and says so: CCS08, Image Discarded."""

    REFUSED = "refused"
    """The arriving image does not reach its device; the waiting one does."""

    LOST = "lost"
    """As OVERWRITTEN, but no alert says so. No cell asks for it: it is for what was seen."""

    UNKNOWN = "unknown"
    """None of the above: both are gone, or something else was seen. No cell asks for it."""


class Basis(StrEnum):
    """Where a cell comes from: a public document says it, or it is the most plausible of what none settles."""

    SOURCED = "sourced"
    ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Cell:
    """What must become of the image for `waiting`, at `stage`, when one for `arriving` comes, and who says so.

    It holds for Force Replace 0x00, the only value that any public example has; what another value does is not found
    (F1.1) and is only recorded (AH-07). `requirements` are the ids that the cell judges the hub or the device by.
    """

    waiting: Target
    stage: Stage
    arriving: Target
    fate: Fate
    basis: Basis
    source: str
    requirements: tuple[str, ...]
    note: str


@dataclass(frozen=True, slots=True)
class _Statement:
    """One statement of the documents, or one assumption, about all pairs of two families of targets."""

    waiting: tuple[Target, ...]
    arriving: tuple[Target, ...]
    stages: tuple[Stage, ...]
    fate: Fate
    basis: Basis
    source: str
    note: str
    requirements: tuple[str, ...] = ()
    same_target: bool = False  # it speaks of two images for one target; if not, of two targets only

    def covers(self, waiting: Target, stage: Stage, arriving: Target) -> bool:
        return (
            waiting in self.waiting
            and arriving in self.arriving
            and stage in self.stages
            and (waiting is arriving) is self.same_target
        )


_ALL = tuple(Target)
_GSME, _ESME, _PPMID, _HCALCS = (Target.GSME,), (Target.ESME,), (Target.PPMID,), (Target.HCALCS,)
_BRIDGES = (Target.B1, Target.B2, Target.B3, Target.B4)
# The hub still has something to deliver: what it drops now, the device never gets.
_IN_HUB = (Stage.QUEUED, Stage.ANNOUNCED, Stage.PART_TRANSFERRED)
# The device holds the image itself: nothing the hub does to its own copy can take that away.
_IN_DEVICE = (Stage.FULLY_TRANSFERRED, Stage.AWAITING_ACTIVATION)
_OVERWRITTEN, _KEPT, _REFUSED = Fate.OVERWRITTEN, Fate.KEPT, Fate.REFUSED
_SOURCED, _ASSUMED = Basis.SOURCED, Basis.ASSUMED

# Columns: waiting, arriving, stages. Exactly one statement covers each pair and stage: their order says nothing.
# fmt: off
_STATEMENTS = (
    # What a public document says.
    _Statement(_BRIDGES, _GSME, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion, F2.6",
               "The GSME has priority over an Alt HAN device, at any point of the transfer.", ("AH-03",)),
    _Statement(_PPMID, _GSME, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion, F2.6",
               "A bridge has exactly a PPMID's priority, so the GSME overwrites a PPMID's image too.", ("AH-04",)),
    _Statement(_HCALCS, _PPMID, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion, F2.6",
               "PPMID and HCALCS overwrite each other; no stage is excepted.", ("AH-05",)),
    _Statement(_PPMID, _HCALCS, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion, F2.6",
               "PPMID and HCALCS overwrite each other; no stage is excepted.", ("AH-05",)),
    _Statement(_HCALCS, _BRIDGES, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion, F2.6",
               "A bridge stands to the HCALCS as a PPMID does.", ("AH-05",)),
    _Statement(_BRIDGES, _HCALCS, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion, F2.6",
               "A bridge stands to the HCALCS as a PPMID does.", ("AH-05",)),
    _Statement(_PPMID, _BRIDGES, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion",
               "A bridge and a PPMID overwrite each other.", ("AH-05",)),
    _Statement(_BRIDGES, _PPMID, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion",
               "A bridge and a PPMID overwrite each other.", ("AH-05",)),
    _Statement(_BRIDGES, _BRIDGES, _IN_HUB, _OVERWRITTEN, _SOURCED, "MP170 discussion",
               "Two different bridges overwrite each other.", ("AH-05",)),
    # What none settles, with what is most plausible.
    _Statement(_HCALCS, _GSME, _IN_HUB, _OVERWRITTEN, _ASSUMED, "F2.6 (inferred)",
               "One slot for GSME, PPMID and HCALCS, the GSME highest, is what the sourced pairs look like."),
    _Statement(_GSME, _PPMID + _HCALCS + _BRIDGES, _IN_HUB, _REFUSED, _ASSUMED, "F2.6 (inferred)",
               "The GSME's priority suggests that the other image is refused; a second slot for it would also fit.",
               ("AH-06",)),
    _Statement(_ESME, (*_GSME, *_PPMID, *_HCALCS, *_BRIDGES), _IN_HUB, _KEPT, _ASSUMED, "F2.6 (not found)",
               "No document names the ESME among the images that overwrite: a slot of its own."),
    _Statement((*_GSME, *_PPMID, *_HCALCS, *_BRIDGES), _ESME, _IN_HUB, _KEPT, _ASSUMED, "F2.6 (not found)",
               "No document names the ESME among the images that overwrite: a slot of its own."),
    _Statement(_ALL, _ALL, _IN_HUB, _OVERWRITTEN, _ASSUMED, "F2.6 (not found)",
               "The later image for one target replaces the earlier: what the sender wants run is the later.",
               same_target=True),
    _Statement(_ALL, _ALL, _IN_DEVICE, _KEPT, _ASSUMED, "F1.1, F2.7, F3 (inferred)",
               "The device holds the image and activates that copy: the hub can no longer lose it."),
    _Statement(_ALL, _ALL, _IN_DEVICE, _KEPT, _ASSUMED, "F2.6 (inferred from one vendor's ESME)",
               "The hub loses nothing; the device may replace what it holds once it has the later image.",
               same_target=True),
)
# fmt: on


def _expand(waiting: Target, stage: Stage, arriving: Target) -> Cell:
    covering = [statement for statement in _STATEMENTS if statement.covers(waiting, stage, arriving)]
    if len(covering) != 1:
        raise LocalProtocolError(
            f"{len(covering)} statements cover {arriving} over {waiting}, {stage}, not one"
        )
    (said,) = covering
    requirements = said.requirements
    # MP170 discussion, F2.7: the device stops, runs what it ran, and asks again. It is asked of the device only where
    # the overwriting is sourced, since a verdict on a cell falls on all of its requirements.
    if stage is Stage.PART_TRANSFERRED and said.fate is Fate.OVERWRITTEN and said.basis is Basis.SOURCED:
        requirements = (*requirements, "AH-08")
    return Cell(waiting, stage, arriving, said.fate, said.basis, said.source, requirements, said.note)


_CELLS = {key: _expand(*key) for key in product(Target, Stage, Target)}


def fate(waiting: Target, stage: Stage, arriving: Target) -> Cell:
    """Return the cell for an image for `arriving` that reaches the hub while one for `waiting` is at `stage`."""
    return _CELLS[waiting, stage, arriving]


def cells() -> Iterator[Cell]:
    """Iterate over all cells: by waiting target, then by stage, then by arriving target, each in declared order."""
    return iter(_CELLS.values())


def judge(cell: Cell, observed: Fate) -> Literal["PASS", "FAIL", "OBSERVED"]:
    """Judge what was seen by a cell: PASS where they agree; else FAIL if the cell is sourced, OBSERVED if assumed.

    A test that could not see what became of the image has nothing to judge: UNKNOWN is a fate that was seen.
    """
    if observed is cell.fate:
        return "PASS"
    return "FAIL" if cell.basis is Basis.SOURCED else "OBSERVED"
