"""Tests of the `dcc` section of a rig file, and of a lab that sends its Service Requests by hand."""

from __future__ import annotations

import asyncio

import pytest

from harness import Outcome, Rig, RigError, open_rig
from harness.rig.schema import load_rig
from harness.smi.devices import DeviceStatus
from harness.smi.requests import Acknowledged, Code
from tests.unit.dcc_rigs import status, with_dcc


@pytest.mark.parametrize(
    ("section", "said"),
    [
        ("  options: {mp202: true}\n", "dcc.options: mp202 must be a word such as on, not true"),
        ("  options: {secmp0007_gbcs: 4.0}\n", 'secmp0007_gbcs must be text, not 4.0; a number needs quotes: "4.0"'),
        ("  options: {mp105: befor}\n", "mp105: 'befor' is none of before | sr11_2 | both; did you mean before?"),
        ("  options: {mp15: both}\n", "dcc.options: there is no Inventory option 'mp15'; did you mean mp105?"),
        ("  options: on\n", "dcc.options: must be a mapping of options, not 'on'"),
        ("  by: hand\n", "dcc.by: must be 'emulated' or 'manual', not 'hand'"),
        ("  loss: {responses: 20}\n", "dcc.loss.responses: must be less than or equal to 1, not 20"),
        ("  latency: 2\n", "dcc.latency: no such key; did you mean latency_seconds?"),
        ("  folder: requests\n", "dcc.folder: is for a manual DCC, not for an emulated one"),
        ("  gpf: 00-0D-6F-00-0A-90-69-E7\n", "dcc.gpf: is the EUI-64 of a member"),
        ("  cpl: nowhere/cpl.csv\n", "dcc.cpl: the folder of 'nowhere/cpl.csv' does not exist"),
        ("  by: manual\n", "dcc.by: manual is for a real rig: on virtual time no operator answers in time"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_the_section_is_said(tmp_path, section, said):
    """With file, line and key, as everything in a rig file; `off` and `on` are words, true and false are not."""
    with pytest.raises(RigError) as error:
        load_rig(with_dcc(tmp_path, section))
    assert any(line.endswith(said) for line in str(error.value).splitlines()), str(error.value)


def test_off_and_on_are_words_here(tmp_path):
    """A YAML reader that takes them for truth values would change what is switched."""
    file = load_rig(with_dcc(tmp_path, "  options: {mp202: off, secmp0007: on}\n"))
    assert file.dcc is not None
    assert (file.dcc.options.mp202, file.dcc.options.secmp0007) == ("off", "on")


REAL = """schema: harness.rig/1
name: real
network:
  channel: 11
  pan_id: 0x4A11
members:
  hub:
    by: equipment
    profile: hub
    eui64: 00-0D-6F-00-0A-90-69-E7
  esme:
    by: equipment
    profile: esme
    eui64: 00-0D-6F-00-0B-7A-11-03
"""


def test_a_hub_by_equipment_has_no_emulated_dcc(tmp_path):
    """Without a section there is none, and who asks is told; with one it is said when the file is read."""
    path = tmp_path / "real.yaml"
    path.write_text(REAL)

    async def work() -> None:
        async with open_rig(path) as rig:
            assert rig.file.carries_requests is None
            with pytest.raises(RigError, match="dcc: is missing: the hub is by equipment"):
                rig.dcc  # noqa: B018 - it is made then

    asyncio.run(work())
    path.write_text(REAL + "dcc:\n  latency_seconds: 1\n")
    with pytest.raises(RigError, match=r"dcc\.by: an emulated DCC has no way to the WAN side"):
        load_rig(path)
    path.write_text(REAL + "dcc:\n  by: manual\n  latency_seconds: 1\n")
    with pytest.raises(RigError) as error:
        load_rig(path)
    assert "dcc.folder: is missing" in str(error.value)
    assert "dcc.latency_seconds: is for an emulated DCC, not for a manual one" in str(error.value)


def test_a_lab_without_a_dcc_of_its_own_works_by_hand(tmp_path):
    """A rig of equipment, `by: manual`: SR11.2 is left in the folder, and what the operator writes is the answer."""
    path = tmp_path / "real.yaml"
    path.write_text(REAL + "dcc:\n  by: manual\n  folder: requests\n  poll_seconds: 0.001\n")

    async def operate(rig: Rig) -> None:
        folder = tmp_path / "requests"
        left = folder / "0001-sr12.2.request.yaml"
        await rig.until(left.exists, within=60.0, failure=lambda: f"{left} is not there")
        answer = folder / "0001-sr12.2.answer.yaml"
        text = answer.read_text().replace("verdict:", "verdict: acknowledged").replace("code:", "code: I0")
        answer.write_text(text.replace("done: no", "done: yes"))

    async def work() -> None:
        async with open_rig(path) as rig:
            await rig.dcc.enrol(rig.hub)
            esme = rig.device("esme")
            answer, _ = await asyncio.gather(rig.dcc.pre_notify(esme), operate(rig))
            assert (answer.outcome, answer.verdict) == (Outcome.DONE, Acknowledged(Code.SUCCESS))
            assert status(rig, esme) is DeviceStatus.PENDING
            with pytest.raises(RigError, match="manual DCC: nobody here loses anything"):
                rig.dcc.lose_next_response()

    asyncio.run(work())
