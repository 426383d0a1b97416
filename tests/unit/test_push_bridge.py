"""`harness push` of a package to the bridge that feeds others: under either option of MP170 all of them run it."""

from __future__ import annotations

import io
import json
import random
from pathlib import Path

import pytest
from rich.console import Console

from harness import OtaImage, RigError, hours
from harness.members.bridge_values import BridgeUpdated
from harness.rig.images import make_image
from harness.rig.open import Rig
from harness.rig.push import push_image
from harness.rig.schema import load_rig
from harness.wire.image import build_image
from harness.wire.package import Bridge, parse_package

RIGS = Path(__file__).resolve().parents[2] / "rigs"
OPTION_A, OPTION_B = RIGS / "emulated-devices.yaml", RIGS / "emulated-option-b.yaml"
SITES = [
    pytest.param(OPTION_A, "b3", (Bridge.B3, Bridge.B4), id="option A"),
    pytest.param(OPTION_B, "b1", tuple(Bridge), id="option B"),
]


def image_for(rig: Path, member: str) -> OtaImage:
    """An image that a member of the rig takes: a package for one that feeds others."""
    return make_image(random.Random(7))(target=Rig(load_rig(rig)).device(member), size=512)


def written(image: OtaImage, folder: Path) -> Path:
    """The image as a file."""
    path = folder / "image.zigbee"
    path.write_bytes(build_image(image))
    return path


@pytest.mark.virtual_time
@pytest.mark.parametrize(("rig", "member", "bridges"), SITES)
async def test_a_package_that_is_pushed_updates_its_feeder_and_those_that_it_feeds(
    rig: Path, member: str, bridges: tuple[Bridge, ...], tmp_path: Path
) -> None:
    """The push joins the fed bridges, too, and is over when the feeder runs the package: it runs its own part last."""
    image = image_for(rig, member)
    assert parse_package(image.payload).bridges == bridges
    shown = io.StringIO()
    evidence = tmp_path / "evidence"
    await push_image(
        load_rig(rig),
        member,
        written(image, tmp_path),
        evidence=evidence,
        within=hours(3),
        console=Console(file=shown, width=120),
    )
    assert f"{member} runs {image.version:#010x}" in shown.getvalue()
    journal = [json.loads(line) for line in (evidence / "journal.jsonl").read_text().splitlines()]
    updated = [entry["member"] for entry in journal if entry["event"] == BridgeUpdated.__name__]
    assert updated == [member] * (len(bridges) - 1)


@pytest.mark.virtual_time
async def test_the_image_of_another_type_of_bridge_is_not_pushed(tmp_path: Path) -> None:
    """A package for B3 is refused for B1 before anything is powered: its image type is not B1's."""
    path = written(image_for(OPTION_A, "b3"), tmp_path)
    with pytest.raises(RigError, match="image type 0x0093 is not b1's, which is 0x0091"):
        await push_image(load_rig(OPTION_A), "b1", path, evidence=None, within=hours(1))
