"""Two models of Communications Hub, told apart by their profiles alone, before one judge: the matrix can fail."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path

import pytest

from harness.clock import VirtualLoop
from harness.members.hub import Hub as HubBehaviour
from harness.rig.commissioned import Commissioned, commission
from harness.rig.images import make_image
from harness.rig.open import Rig
from harness.rig.schema import RigFile, load_rig
from harness.smi.image_fate import Basis, Cell, Fate, Stage, Target, fate, judge
from tests.conformance.hub.overwriting import Match, Observation, device_for

RIGS = Path(__file__).resolve().parents[2] / "rigs"
STANDING, STRICT = RIGS / "emulated-hub.yaml", RIGS / "emulated-hub-strict.yaml"
TARGETS = (Target.GSME, Target.PPMID, Target.HCALCS, Target.B1)  # those that share a slot somewhere
STAGES = (Stage.QUEUED, Stage.PART_TRANSFERRED)
SMALL = 300  # octets

KEPT, OVERWRITTEN, REFUSED = Fate.KEPT, Fate.OVERWRITTEN, Fate.REFUSED
# (arriving, waiting): what the strict hub does, by its profile, where that is not what the standing one does.
APART = dict.fromkeys(
    [
        ("GSME", "HCALCS"), ("HCALCS", "GSME"), ("PPMID", "HCALCS"), ("HCALCS", "PPMID"), ("B1", "HCALCS"),
        ("HCALCS", "B1"),
    ],
    KEPT,
)  # fmt: skip
UNDER_WAY = dict.fromkeys(
    [
        ("GSME", "PPMID"), ("GSME", "B1"), ("PPMID", "B1"), ("B1", "PPMID"), ("GSME", "GSME"),
        ("PPMID", "PPMID"), ("HCALCS", "HCALCS"), ("B1", "B1"),
    ],
    REFUSED,
)  # fmt: skip
DIFFERENT = {Stage.QUEUED: APART, Stage.PART_TRANSFERRED: APART | UNDER_WAY}
# ... and which of that MP170's Working Group said otherwise.
BROKEN = {
    Stage.QUEUED: {("PPMID", "HCALCS"), ("HCALCS", "PPMID"), ("B1", "HCALCS"), ("HCALCS", "B1")},
    Stage.PART_TRANSFERRED: {
        ("PPMID", "HCALCS"), ("HCALCS", "PPMID"), ("B1", "HCALCS"), ("HCALCS", "B1"), ("GSME", "PPMID"),
        ("GSME", "B1"), ("PPMID", "B1"), ("B1", "PPMID"),
    },
}  # fmt: skip


@lru_cache
def commissioned(path: Path) -> tuple[RigFile, Commissioned]:
    """A rig file, and its HAN when all have joined."""
    file = load_rig(path)
    return file, commission(file)


def run(path: Path, test):
    """What a test returns that is run on a rig with a commissioned HAN, none of whose devices has power."""
    file, state = commissioned(path)

    async def opened():
        async with Rig(file, commissioned=state) as rig:
            return await test(rig)

    loop = VirtualLoop()
    try:
        return loop.run_until_complete(opened())
    finally:
        loop.close()


def seen(path: Path, cell: Cell, force_replace: int = 0) -> Observation:
    """What a hub does in one cell."""

    async def match(rig: Rig) -> Observation:
        first, second = device_for(rig, cell.waiting), device_for(rig, cell.arriving)
        for device in dict.fromkeys((first, second)):
            await rig.joined(device.name)
        make = make_image(random.Random(0))
        between = Match(rig, first, second, make, size=SMALL, force_replace=force_replace)
        await between.bring_to(cell.stage)
        return await between.collide()

    return run(path, match)


def matrix(path: Path, stage: Stage) -> dict[tuple[str, str], tuple[Fate, str]]:
    """What a hub does in each cell of a stage, and the verdict on that, by (arriving, waiting)."""
    found = {}
    for waiting in TARGETS:
        for arriving in TARGETS:
            cell = fate(waiting, stage, arriving)
            became = seen(path, cell).fate
            found[str(arriving), str(waiting)] = became, judge(cell, became)
    return found


@pytest.mark.parametrize("stage", STAGES)
def test_two_hubs_differ_where_their_profiles_do_and_nowhere_else(stage):
    """AH-03 to AH-06: the standing hub passes each sourced cell, the strict one fails those that its profile breaks."""
    standing, strict = matrix(STANDING, stage), matrix(STRICT, stage)
    differences = {pair: became for pair, (became, _) in strict.items() if became is not standing[pair][0]}
    assert differences == DIFFERENT[stage]
    assert not [pair for pair, (_, verdict) in standing.items() if verdict == "FAIL"]
    assert {pair for pair, (_, verdict) in strict.items() if verdict == "FAIL"} == BROKEN[stage]
    sourced = [pair for pair in standing if _cell(pair, stage).basis is Basis.SOURCED]
    assert all(standing[pair][1] == "PASS" for pair in sourced)
    assert len(sourced) == 8


def _cell(pair: tuple[str, str], stage: Stage) -> Cell:
    return fate(Target(pair[1]), stage, Target(pair[0]))


def test_no_code_tells_the_two_hubs_apart():
    """Both are the same behaviour; what differs is in the policy of their configurations, and the model's name."""

    async def hub(rig: Rig) -> HubBehaviour:
        return rig.hub.behaviour

    standing, strict = run(STANDING, hub), run(STRICT, hub)
    assert type(standing) is type(strict) is HubBehaviour
    differing = {
        name
        for name in type(standing.config).__slots__
        if getattr(standing.config, name) != getattr(strict.config, name)
    }
    assert differing == {"store", "model"}


@pytest.mark.parametrize(
    ("path", "octet", "became"),
    [(STANDING, 0, OVERWRITTEN), (STANDING, 1, OVERWRITTEN), (STRICT, 0, REFUSED), (STRICT, 1, OVERWRITTEN)],
    ids=["standing 0x00", "standing 0x01", "strict 0x00", "strict 0x01"],
)
def test_force_replace_counts_where_the_profile_says_so(path, octet, became):
    """AH-07: with the octet set the strict hub has a GSME's image overwrite a PPMID's that is being transferred."""
    cell = fate(Target.PPMID, Stage.PART_TRANSFERRED, Target.GSME)
    assert seen(path, cell, octet).fate is became


def test_an_image_is_discarded_after_a_day_where_the_profile_says_so():
    """Retention of 24 h: told as discarded then and not before, and not there for the device that comes back."""

    async def wait(rig: Rig) -> tuple[list[str], list[str], int]:
        ppmid = await rig.joined("ppmid")
        await ppmid.power_off()
        image = make_image(random.Random(0))(target=ppmid, size=SMALL)
        await rig.hub.wan.deliver(image, to=ppmid)
        await rig.sleep(86400 - 1)
        before = told(rig)
        await rig.sleep(2)
        after = told(rig)
        await ppmid.power_on()
        await rig.sleep(7200)
        return before, after, await ppmid.version() - ppmid.version_at_start

    def told(rig: Rig) -> list[str]:
        return [alert.response.name for alert in rig.hub.wan.transfers(rig.device("ppmid"))]

    assert run(STRICT, wait) == ([], ["IMAGE_DISCARDED"], 0)


def test_the_judge_of_overwriting_sees_a_hub_that_does_not_tell(monkeypatch):
    """A hub that throws an image away without a word is no better than one that keeps it: LOST, and the cell fails."""
    cell = fate(Target.B1, Stage.PART_TRANSFERRED, Target.GSME)
    monkeypatch.setattr("harness.rig.wan.Wan.transfers", lambda self, device: [])
    found = seen(STANDING, cell)
    assert found.fate is Fate.LOST
    assert judge(cell, found.fate) == "FAIL"


def test_the_judge_of_overwriting_sees_a_device_that_loses_what_it_held(monkeypatch):
    """A meter that has its image, and cannot run it when it is told to, did not keep it."""
    cell = fate(Target.ESME, Stage.AWAITING_ACTIVATION, Target.PPMID)
    assert seen(STANDING, cell).fate is KEPT
    collide = Match.collide

    async def collide_and_lose(match: Match) -> Observation:
        match.waiting.behaviour.flash.firmware.held = None
        return await collide(match)

    monkeypatch.setattr(Match, "collide", collide_and_lose)
    found = seen(STANDING, cell)
    assert (found.waiting_got, found.fate) == (False, Fate.LOST)
