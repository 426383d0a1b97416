"""A campaign on an emulated rig: planned, sent wave by wave through the DCC, and told when one does not end aligned."""

from __future__ import annotations

import io
import random
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from harness import RemoteProtocolError, RigError
from harness.rig.campaign import Done, run_campaign
from harness.rig.images import make_image
from harness.rig.open import Rig
from harness.rig.schema import load_rig
from harness.wire.image import build_image

STANDING_RIG = Path(__file__).resolve().parents[2] / "rigs" / "emulated-devices.yaml"
HOURS = 3600.0


def rig_with(folder: Path, **dcc: Any) -> Path:
    """Write the standing rig with a DCC of its own."""
    content = yaml.safe_load(STANDING_RIG.read_text())
    content["dcc"] = dcc
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def images(folder: Path, *names: str) -> list[Path]:
    """Write an image for each of these members of the standing rig."""
    rig, make = Rig(load_rig(STANDING_RIG)), make_image(random.Random(5))
    paths = [folder / f"{name}.ota" for name in names]
    for name, path in zip(names, paths, strict=True):
        path.write_bytes(build_image(make(target=rig.device(name), size=2048)))
    return paths


async def run(rig: Path, paths: list[Path], *members: str, hours: float = 48.0) -> tuple[list[Done], str]:
    """Run a campaign; return what became of it and what it said."""
    said = Console(file=io.StringIO(), width=160)
    done = await run_campaign(load_rig(rig), paths, members, within=hours * HOURS, console=said)
    return done, said.file.getvalue()


@pytest.mark.virtual_time
async def test_a_campaign_brings_each_member_to_its_image_and_refuses_the_one_that_has_none(tmp_path):
    """GSME and ESME first; PPMID and HCALCS, which overwrite each other, one by one; b1 is refused, and why."""
    kinds = ("hcalcs", "ppmid", "esme", "gsme")
    done, said = await run(STANDING_RIG, images(tmp_path, *kinds), *kinds, "b1")
    assert {one.member: one.what for one in done} == dict.fromkeys(kinds, "runs 01000001")
    assert all(one.aligned for one in done)
    assert [one.member for one in done] == ["gsme", "esme", "ppmid", "hcalcs"]
    assert re.search(r"refused .* b1 .* hcalcs\.ota: image type 0x0085 is not b1's", said)
    assert re.search(r"3 .* hcalcs .* overwrite each other.*\[sourced\]", said)


@pytest.mark.virtual_time
async def test_lost_responses_are_made_up_for_by_asking_again(tmp_path):
    """Most responses are lost: the ESME activates once, and SR11.3 and SR11.2 are sent until the version comes."""
    rig = rig_with(tmp_path, response_seconds=60, loss={"responses": 0.75})
    done, _ = await run(rig, images(tmp_path, "esme"), "esme")
    (one,) = done
    assert one.aligned
    assert re.fullmatch("runs 01000001, after [2-5] attempts", one.what)


@pytest.mark.virtual_time
async def test_a_member_that_does_not_end_aligned_is_told(tmp_path):
    """No response ever comes: the ESME runs the image, and the Inventory does not know."""
    rig = rig_with(tmp_path, response_seconds=60, loss={"responses": 1.0})
    with pytest.raises(
        RemoteProtocolError, match=r"esme: the Inventory has it Commissioned with 01000000; SR11\.2"
    ):
        await run(rig, images(tmp_path, "esme"), "esme")


@pytest.mark.virtual_time
async def test_a_wave_is_not_sent_into_an_image_that_is_still_at_the_hub(tmp_path):
    """The GSME wakes every half an hour: in a minute its image is not through, and the PPMID's would be refused."""
    with pytest.raises(RemoteProtocolError) as caught:
        await run(STANDING_RIG, images(tmp_path, "gsme", "ppmid"), "gsme", "ppmid", hours=1 / 60)
    assert "ppmid: not sent: the image for gsme is still at the hub" in str(caught.value)


@pytest.mark.virtual_time
async def test_a_campaign_that_nobody_can_take_sends_nothing(tmp_path):
    """RigError, as for any bench that is not as it should be."""
    with pytest.raises(RigError, match="none of ppmid, b1 can take an image: nothing was sent"):
        await run(STANDING_RIG, images(tmp_path, "esme"), "ppmid", "b1")


@pytest.mark.virtual_time
async def test_an_image_that_the_member_runs_already_is_not_sent(tmp_path):
    """It would take nothing, and be seen to run the "new" version at once."""
    rig, make = Rig(load_rig(STANDING_RIG)), make_image(random.Random(5))
    esme = rig.device("esme")
    path = tmp_path / "same.ota"
    path.write_bytes(build_image(make(target=esme, size=2048, version=esme.version_at_start)))
    with pytest.raises(RigError, match="nothing was sent"):
        await run(STANDING_RIG, [path], "esme")
