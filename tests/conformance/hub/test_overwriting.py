"""What becomes of an image that waits at a Communications Hub when another arrives: every pair, at every stage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest

from harness import Device, OtaImage, Rig
from harness.smi.image_fate import Basis, Cell, Stage, cells, judge
from tests.conformance.hub.overwriting import Match, device_for
from tests.conformance.hub.secmp0007 import needs_images_for

pytestmark = pytest.mark.under_test("hub")


def cell_parameter(cell: Cell) -> object:
    """A cell as a parameter that names itself and the requirements that it judges."""
    name = f"{cell.arriving} over {cell.waiting}, {cell.stage}"
    # AH-08 is what the device does, and the devices here are the harness' own: tests/conformance/ppmid judges it.
    of_the_hub = [requirement for requirement in cell.requirements if requirement != "AH-08"]
    return pytest.param(cell, id=name, marks=pytest.mark.requirement(*of_the_hub))


@pytest.mark.parametrize("cell", [cell_parameter(cell) for cell in cells()])
async def test_what_becomes_of_a_waiting_image(
    cell: Cell,
    rig: Rig,
    joined: Callable[[str], Awaitable[Device]],
    new_image: Callable[..., OtaImage],
    observe: Callable[[str], None],
) -> None:
    """The waiting image's fate, by what the devices got and the hub alerted, is that of the oracle's cell."""
    waiting, arriving = device_for(rig, cell.waiting), device_for(rig, cell.arriving)
    for device in dict.fromkeys((waiting, arriving)):
        await joined(device.name)
    needs_images_for(rig.hub, waiting, arriving)
    match = Match(rig, waiting, arriving, new_image)
    await match.bring_to(cell.stage)
    seen = await match.collide()
    if cell.basis is Basis.ASSUMED:
        observe(f"{seen}; {judge(cell, seen.fate)} by the assumption {cell.fate} ({cell.source})")
        return
    assert judge(cell, seen.fate) == "PASS", f"{seen}; {cell.source} asks for {cell.fate}: {cell.note}"
    if cell.stage is Stage.PART_TRANSFERRED:
        await match.offer_again()
