"""An OTA push through unmodified bellows and zigpy: every EZSP version, read by tshark, the same bytes every time."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import random
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import yaml
from rich.console import Console

from harness import LocalProtocolError, RemoteProtocolError, Rig, hours, minutes, open_rig
from harness.clock import VirtualLoop
from harness.rig.images import make_image
from harness.rig.push import push_image
from harness.rig.schema import load_rig
from harness.wire.ezsp import VERSIONS
from harness.wire.image import build_image

REPOSITORY = Path(__file__).resolve().parents[2]
STANDING_RIG = REPOSITORY / "rigs" / "emulated-devices.yaml"
RECORDED = REPOSITORY / "fixtures" / "push-capture.json"


def rig_file(folder: Path, **changes: dict[str, Any]) -> Path:
    """Write the standing rig with changes to its members: {name: {key: value}}; gives its path."""
    content = yaml.safe_load(STANDING_RIG.read_text())
    for member, values in changes.items():
        content["members"][member].update(values)
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    return path


def profile(folder: Path, **changes: Any) -> str:
    """Write the standing PPMID's profile with changes beside a rig file in `folder`; gives its name."""
    content = yaml.safe_load((REPOSITORY / "device_profiles" / "ppmid.yaml").read_text())
    path = folder / "device_profiles" / "changed-ppmid.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(content | changes))
    return path.stem


async def push(path: Path, evidence: Path | None = None, *, size: int = 8192) -> Rig:
    """Join the rig's PPMID, push an image to it, wait until it runs; gives the rig, closed."""
    async with open_rig(path, evidence=evidence) as rig:
        ppmid = await rig.joined("ppmid")
        image = make_image(random.Random(7))(target=ppmid, size=size)
        await rig.hub.offer(image, to=ppmid)
        await ppmid.until(running=image.version, within=hours(2))
        rig.check()
    return rig


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", sorted({8, 13, 14, VERSIONS[-1]}))
async def test_an_image_goes_through_bellows_on_this_ezsp_version_and_tshark_reads_it_all(
    version: int, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """Join, transfer and activation work on the EZSP version, and an outside reader reads all that was on the air."""
    evidence = tmp_path / "evidence"
    await push(rig_file(tmp_path, hub={"ncp": {"ezsp": version}}), evidence)
    capture = check_capture(evidence / "han.pcap", evidence)
    assert capture.count("zbee_aps.cmd.id == 0x05") == 1, "the network key goes to the joiner once"
    blocks = capture.fields(
        "zbee_zcl_general.ota.file.offset", where="zbee_zcl_general.ota.cmd.srv_tx.id == 0x05"
    )
    assert {int(offset, 0) for (offset,) in blocks} == set(range(0, 8192, 56))
    ends = capture.fields("zbee_zcl_general.ota.status", where="zbee_zcl_general.ota.cmd.srv_rx.id == 0x06")
    assert [int(status, 0) for (status,) in ends] == [0]


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", ["router", "end_device", "sleepy_end_device"])
async def test_an_image_reaches_a_ppmid_of_each_kind(
    kind: str, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """A PPMID takes its image as a router, as an end device, and asleep, when the hub holds messages for its polls."""
    changes = {"poll_seconds": 7.5} if kind == "sleepy_end_device" else {}
    path = rig_file(tmp_path, ppmid={"profile": profile(tmp_path, kind=kind, **changes)})
    await push(path, tmp_path / "evidence", size=4096)
    check_capture(tmp_path / "evidence" / "han.pcap", tmp_path / "evidence")


@pytest.mark.virtual_time
async def test_an_image_reaches_a_ppmid_behind_a_router(
    tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """A PPMID that hears only a router joins through it (its key in a Tunnel command) and takes its image."""
    rig = yaml.safe_load(STANDING_RIG.read_text())
    rig["members"]["relay"] = {
        "by": "emulation",
        "profile": profile(tmp_path, kind="router"),
        "eui64": "00-0D-6F-00-0B-7A-11-77",
        "install_code": "83FED3407A932B70",
    }
    rig["members"]["ppmid"]["parent"] = "relay"
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump(rig, sort_keys=False))
    evidence = tmp_path / "evidence"
    async with open_rig(path, evidence=evidence) as opened:
        await opened.joined("relay")
        ppmid = await opened.joined("ppmid")
        image = make_image(random.Random(7))(target=ppmid, size=4096)
        await opened.hub.offer(image, to=ppmid)
        await ppmid.until(running=image.version, within=hours(2))
        opened.check()
    capture = check_capture(evidence / "han.pcap", evidence)
    assert capture.count("zbee_aps.cmd.id == 0x0e") >= 1, (
        "the PPMID's key went through the relay in a Tunnel command"
    )


@pytest.mark.virtual_time
async def test_two_runs_of_one_seed_leave_the_same_capture(tmp_path: Path) -> None:
    """The same rig and seed give the same pcap, byte for byte, twice in one process; another seed gives another."""
    path = rig_file(tmp_path)
    await push(path, tmp_path / "first")
    await push(path, tmp_path / "second")
    content = yaml.safe_load(path.read_text()) | {"seed": 2}
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    await push(path, tmp_path / "third")
    first, second, third = (
        (tmp_path / run / "han.pcap").read_bytes() for run in ("first", "second", "third")
    )
    assert first == second
    assert first != third


def test_a_capture_is_the_same_on_every_python(tmp_path: Path) -> None:
    """The pcap's digest is the recorded one, whatever Python runs; it is the same on 3.11, 3.12 and 3.13."""
    recorded = json.loads(RECORDED.read_text())
    for distribution, version in recorded["versions"].items():
        if metadata.version(distribution) != version:
            pytest.skip(f"recorded with {distribution} {version}, which says other things to its NCP")
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        runner.run(push(rig_file(tmp_path), tmp_path))
    assert hashlib.sha256((tmp_path / "han.pcap").read_bytes()).hexdigest() == recorded["sha256"]


@pytest.mark.virtual_time
async def test_a_command_that_the_ncp_does_not_know_fails_the_test_that_sent_it(tmp_path: Path) -> None:
    """invalidCommand is the answer, and the rig's check raises with the command's name: silence would hide it."""
    async with open_rig(rig_file(tmp_path)) as rig:
        ezsp = rig.hub.carrier.ezsp
        with pytest.raises(Exception, match="delayTest"):
            await ezsp.delayTest(delay=1)
        with pytest.raises(LocalProtocolError, match="delayTest"):
            rig.check()


@pytest.mark.virtual_time
async def test_the_hub_learns_who_was_on_its_han_before_it_was_opened(tmp_path: Path) -> None:
    """A stick with a state file keeps its HAN over a power cycle; a router that stayed is known by its first word."""
    path = rig_file(
        tmp_path,
        hub={"ncp": {"ezsp": 13, "state": "stick.json"}},
        ppmid={"profile": profile(tmp_path, kind="router")},
    )
    async with open_rig(path) as rig:
        ppmid = await rig.joined("ppmid")
        left_behind = ppmid.carrier.node.save()
    async with open_rig(path) as rig:
        ppmid = rig.device("ppmid")
        node = ppmid.carrier.node
        node.power_on(resume=False)
        node.restore(left_behind)
        node.resume()
        await ppmid.until(joined=True, within=minutes(10))
        assert await ppmid.version() == ppmid.version_at_start
        rig.check()


@pytest.mark.virtual_time
@pytest.mark.parametrize("made", ["good", "with a broken signature", "so that it does not start"])
async def test_a_meter_is_told_to_activate_what_was_pushed_and_what_it_refuses_is_said(
    made: str, tmp_path: Path
) -> None:
    """CS06 follows the transfer, or the ESME would wait with its image; a refused image, or CS06, ends the push."""
    file = load_rig(rig_file(tmp_path))
    starts = made != "so that it does not start"
    image = make_image(random.Random(7))(target=Rig(file).device("esme"), size=4096, starts=starts)
    if made == "with a broken signature":
        image = replace(image, payload=bytes((image.payload[0] ^ 1,)) + image.payload[1:])
    path, said = tmp_path / "image.ota", io.StringIO()
    path.write_bytes(build_image(image))
    console = Console(file=said, width=200)
    work = push_image(file, "esme", path, evidence=None, within=hours(2), console=console)
    if made == "good":
        await work
        assert f"esme runs {image.version:#010x} after" in said.getvalue()
    else:
        refusal = "esme has fetched the image, and refuses it with"
        if not starts:
            refusal = "esme answers CS06 with ACTIVATION_FAILURE, and runs 0x"
        with pytest.raises(RemoteProtocolError, match=refusal):
            await work
        assert asyncio.get_running_loop().time() < hours(1)
