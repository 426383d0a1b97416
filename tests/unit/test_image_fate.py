"""Tests of the oracle of the image store, against the words of the requirements AH-03 to AH-06 and AH-08."""

from __future__ import annotations

from collections import Counter

import pytest

from harness.smi.image_fate import Basis, Cell, Fate, Stage, Target, cells, fate, judge

# The words of the requirements, written out: nothing here is taken from the table.
TARGETS = ["GSME", "ESME", "PPMID", "HCALCS", "B1", "B2", "B3", "B4"]
BRIDGES = ["B1", "B2", "B3", "B4"]
BEFORE_THE_DEVICE_HAS_IT = ["queued", "announced", "part transferred"]
ONCE_THE_DEVICE_HAS_IT = ["fully transferred", "awaiting activation"]
STAGES = BEFORE_THE_DEVICE_HAS_IT + ONCE_THE_DEVICE_HAS_IT


def cell(waiting: str, stage: str, arriving: str) -> Cell:
    """Return the cell that has these words."""
    return fate(Target(waiting), Stage(stage), Target(arriving))


def words(found: Cell) -> tuple[str, str, str]:
    """Return the words of a cell: waiting, stage, arriving."""
    return str(found.waiting), str(found.stage), str(found.arriving)


def ah_03() -> list[tuple[str, str]]:
    """Waiting and arriving: a GSME image overwrites an image waiting for a bridge."""
    return [(bridge, "GSME") for bridge in BRIDGES]


def ah_04() -> list[tuple[str, str]]:
    """Waiting and arriving: a GSME image overwrites an image waiting for a PPMID."""
    return [("PPMID", "GSME")]


def ah_05() -> list[tuple[str, str]]:
    """PPMID and HCALCS, either order; the same for bridge and HCALCS, bridge and PPMID, and two bridges."""
    pairs = [("PPMID", "HCALCS"), ("HCALCS", "PPMID")]
    for bridge in BRIDGES:
        pairs += [(bridge, "HCALCS"), ("HCALCS", bridge), (bridge, "PPMID"), ("PPMID", bridge)]
        pairs += [(bridge, other) for other in BRIDGES if other != bridge]
    return pairs


def ah_06() -> list[tuple[str, str]]:
    """A PPMID, bridge or HCALCS image does not displace a waiting GSME image."""
    return [("GSME", arriving) for arriving in ["PPMID", "HCALCS", *BRIDGES]]


def at(stages: list[str], pairs: list[tuple[str, str]]) -> set[tuple[str, str, str]]:
    """Return each pair at each of the stages."""
    return {(waiting, stage, arriving) for waiting, arriving in pairs for stage in stages}


SOURCED = at(BEFORE_THE_DEVICE_HAS_IT, ah_03() + ah_04() + ah_05())


def test_every_pair_at_every_stage_has_its_cell():
    """Issue 4, item 6: 8 targets by 8, same-target pairs included, at 5 stages: 320 cells."""
    expected = [(waiting, stage, arriving) for waiting in TARGETS for stage in STAGES for arriving in TARGETS]
    assert [words(found) for found in cells()] == expected
    assert len(expected) == 320
    assert all(fate(found.waiting, found.stage, found.arriving) is found for found in cells())


@pytest.mark.parametrize(
    ("requirement", "pairs"),
    [("AH-03", ah_03()), ("AH-04", ah_04()), ("AH-05", ah_05())],
    ids=lambda x: str(x)[:5],
)
def test_what_the_working_group_says_is_overwritten_is_overwritten(requirement, pairs):
    """AH-03, AH-04, AH-05: sourced to the MP170 discussion, at any point before the device holds the image."""
    for waiting, stage, arriving in at(BEFORE_THE_DEVICE_HAS_IT, pairs):
        found = cell(waiting, stage, arriving)
        assert (found.fate, found.basis) == (Fate.OVERWRITTEN, Basis.SOURCED)
        assert "MP170 discussion" in found.source
    named = {words(found) for found in cells() if requirement in found.requirements}
    assert named == at(BEFORE_THE_DEVICE_HAS_IT, pairs)


def test_a_waiting_gsme_image_is_not_displaced_but_that_is_assumed():
    """AH-06: no document says whether the other image is refused or waits, so a hub that differs is OBSERVED."""
    expected = at(BEFORE_THE_DEVICE_HAS_IT, ah_06())
    assert {words(found) for found in cells() if "AH-06" in found.requirements} == expected
    for waiting, stage, arriving in expected:
        found = cell(waiting, stage, arriving)
        assert (found.fate, found.basis) == (Fate.REFUSED, Basis.ASSUMED)
        assert judge(found, Fate.OVERWRITTEN) == "OBSERVED"


def test_a_download_is_broken_off_where_a_part_transferred_image_is_overwritten():
    """AH-08: what a device does when its image is overwritten mid-download, wherever AH-03 to AH-05 overwrite it."""
    expected = at(["part transferred"], ah_03() + ah_04() + ah_05())
    assert {words(found) for found in cells() if "AH-08" in found.requirements} == expected


def test_the_sourced_cells_are_those_of_the_requirements_and_no_others():
    """AH-03, AH-04 and AH-05 name 4, 1 and 30 pairs, at 3 stages: 105 cells can fail a hub, 215 cannot."""
    assert {words(found) for found in cells() if found.basis is Basis.SOURCED} == SOURCED
    assert Counter(str(found.basis) for found in cells()) == {"sourced": 105, "assumed": 215}


@pytest.mark.parametrize("other", TARGETS)
def test_an_esme_image_is_assumed_to_wait_beside_the_others(other):
    """F2.6: whether the ESME shares the slot is not found; nothing about it is sourced, in either order."""
    for stage in STAGES:
        for found in (cell("ESME", stage, other), cell(other, stage, "ESME")):
            assert found.basis is Basis.ASSUMED
            assert found.fate is Fate.KEPT or other == "ESME"


@pytest.mark.parametrize("target", TARGETS)
def test_two_images_for_one_target_are_never_sourced(target):
    """F2.6: the rule for a second image of the same type is not found."""
    for stage in STAGES:
        found = cell(target, stage, target)
        overwritten = stage in BEFORE_THE_DEVICE_HAS_IT
        assert (found.fate, found.basis) == (Fate.OVERWRITTEN if overwritten else Fate.KEPT, Basis.ASSUMED)


@pytest.mark.parametrize("stage", ONCE_THE_DEVICE_HAS_IT)
def test_an_image_that_the_device_holds_is_no_longer_the_hubs_to_lose(stage):
    """The documents speak of images that wait in the hub: of one that the device holds, all is assumed to be kept."""
    found = [one for one in cells() if one.stage == stage]
    assert len(found) == 64
    assert {(one.fate, one.basis) for one in found} == {(Fate.KEPT, Basis.ASSUMED)}
    assert {one.requirements for one in found} == {()}


def test_a_gsme_image_over_an_hcalcs_one_is_assumed():
    """AH-03 and AH-04 name bridge and PPMID only; one shared slot is an inference of F2.6."""
    for stage in BEFORE_THE_DEVICE_HAS_IT:
        found = cell("HCALCS", stage, "GSME")
        assert (found.fate, found.basis, found.requirements) == (Fate.OVERWRITTEN, Basis.ASSUMED, ())


def test_what_was_seen_passes_where_it_is_the_fate_of_the_cell():
    """Agreement is PASS, whatever the basis: DESIGN.md section 6 speaks of those that differ."""
    assert {judge(found, found.fate) for found in cells()} == {"PASS"}


def test_a_difference_fails_where_sourced_and_only_there():
    """DESIGN.md section 6: one that breaks a sourced cell FAILS; one that differs from an assumed one is OBSERVED."""
    for found in cells():
        for seen in Fate:
            if seen is not found.fate:
                expected = "FAIL" if words(found) in SOURCED else "OBSERVED"
                assert judge(found, seen) == expected


def test_a_loss_that_no_alert_tells_of_fails_a_sourced_cell():
    """AH-03: the loss is alerted (Image Discarded); a hub that loses the image in silence breaks it."""
    assert judge(cell("B1", "part transferred", "GSME"), Fate.LOST) == "FAIL"
    assert judge(cell("HCALCS", "queued", "GSME"), Fate.LOST) == "OBSERVED"


def test_each_cell_says_where_it_comes_from_and_asks_for_something_that_can_be_asked():
    """Issue 4, item 6: source and basis in each cell; an assumed cell does not claim to be a document's."""
    for found in cells():
        assert found.source
        assert found.note
        assert found.fate not in (Fate.LOST, Fate.UNKNOWN)
        if found.basis is Basis.SOURCED:
            assert found.requirements
            assert "inferred" not in found.source
            assert "not found" not in found.source
        else:
            assert "inferred" in found.source or "not found" in found.source
