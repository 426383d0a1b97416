"""Tests of `harness campaign`: the two outcomes side by side, the JSON, the plot, the plan, and what is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from harness.cli import main
from harness.smi.campaign_runs import SCHEMA
from harness.smi.plain import to_plain
from tests.unit.smi_bench import ESME_ID, GSME_ID, HUB_2, IHD_ID, PPMID_ID, V1, premises, without
from tests.unit.test_campaign_rig import STANDING_RIG, images

COMPARE = ["--devices", "500", "--compare", "mp105=before,both", "--loss", "0.2", "--seed", "7"]


def harness(*arguments: object) -> Result:
    """Run the command."""
    return CliRunner().invoke(main, ["campaign", *map(str, arguments)])


def row(output: str, label: str) -> list[str]:
    """Return the cells of the first row of a table with this label."""
    line = next(line for line in output.splitlines() if label in line)
    return [cell.strip() for cell in line.strip("│").split("│")][1:]


def snapshot(folder: Path, **options: str) -> Path:
    """Write an Inventory with an ESME, a GSME, a PPMID and an IHD at one hub."""
    made = premises(**options)
    made.commission(PPMID_ID, "PPMID-s2", HUB_2)
    made.commission(IHD_ID, "IHD-a", HUB_2, version=None)
    path = folder / "inventory.json"
    path.write_text(json.dumps(to_plain(made.inventory)))
    return path


# --- comparing -----------------------------------------------------------------------------------------------------


def test_two_outcomes_stand_side_by_side():
    """SU-12: the command of the README, and its figures."""
    result = harness(*COMPARE)
    assert result.exit_code == 0
    assert "20% of responses and 0% of requests lost, seed 7" in result.output
    assert row(result.output, "aligned after 8 days") == ["409", "500"]
    assert row(result.output, "Suspended then") == ["91", "0"]
    assert row(result.output, "second images sent") == ["91", "0"]
    assert row(result.output, "Suspended by day")[1].startswith("█▁·")


def test_the_json_of_a_comparison_has_these_keys_and_figures():
    """Whoever reads it by program relies on them; a change of them is a change of the schema's number."""
    result = harness(*COMPARE, "--json")
    told = json.loads(result.output)
    assert list(told) == ["schema", "compare", "seed", "loss", "request_loss", "retry_days", "outcomes"]
    assert (told["schema"], told["compare"], told["seed"], told["loss"]) == (SCHEMA, "mp105", 7, 0.2)
    assert SCHEMA == "harness.campaign/1"
    before, both = told["outcomes"]
    assert list(before) == list(both) == [
        "option", "value", "planned", "refused", "end", "second_images", "after_second", "requests",
        "lost_requests", "lost_responses", "suspended_device_days", "days",
    ]  # fmt: skip
    assert before["end"] == {"day": 8, "aligned": 409, "suspended": 91, "updated": 500}
    assert both["end"] == {"day": 8, "aligned": 500, "suspended": 0, "updated": 500}
    assert (before["second_images"], both["second_images"], both["after_second"]) == (91, 0, None)


def test_the_same_seed_prints_the_same():
    """And another seed something else."""
    few = ["--devices", 60, "--compare", "mp105=before,both", "--json", "--seed"]
    assert harness(*few, 7).output == harness(*few, 7).output != harness(*few, 8).output


def test_the_plot_is_an_svg_that_is_the_same_every_time(tmp_path):
    """A line a value; it has no date and no script, and loads nothing."""
    first, second = tmp_path / "a.svg", tmp_path / "b.svg"
    few = ["--devices", 60, *COMPARE[2:]]
    for path in (first, second):
        assert harness(*few, "--plot", path).exit_code == 0
    assert first.read_bytes() == second.read_bytes()
    root = ElementTree.parse(first).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = [text for element in root.iter() if (text := (element.text or "").strip())]
    assert {"mp105=before", "mp105=both"} <= set(words)
    assert not [element for element in root.iter() if str(element.tag).endswith("script")]
    assert not [
        value
        for element in root.iter()
        for name, value in element.attrib.items()
        if name.endswith(("href", "src"))
    ]


def test_an_inventory_of_ones_own_is_compared(tmp_path):
    """With all Devices of the images' models, or those that are named; nothing lost, all aligned."""
    path = snapshot(tmp_path)
    images = ["--firmware", "Acme/ESME-a/00000200", "--firmware", "Acme/PPMID-s2/00000200"]
    result = harness(
        "--inventory", path, *images, "--compare", "mp105=before,sr11_2,both", "--loss", 0, "--json"
    )
    assert [one["planned"] for one in json.loads(result.output)["outcomes"]] == [2, 2, 2]
    assert all(one["end"]["aligned"] == 2 for one in json.loads(result.output)["outcomes"])


# --- the plan --------------------------------------------------------------------------------------------------------


def test_without_a_comparison_the_plan_is_printed(tmp_path):
    """Who goes when and why not before; who does not go, on which list, by which rule."""
    names = "00-00-00-00-00-00-00-11,00-00-00-00-00-00-00-12,00-00-00-00-00-00-00-31,00-00-00-00-00-00-00-33"
    arguments = ["--inventory", snapshot(tmp_path), "--to", names]
    for model in ("ESME-a", "GSME-a", "PPMID-s2"):
        arguments += ["--firmware", f"Acme/{model}/00000200"]
    told = json.loads(harness(*arguments, "--json").output)
    assert list(told) == ["schema", "waves", "refused", "under_way"]
    assert told["schema"] == "harness.campaign-plan/1"
    assert [[one["target"] for one in wave] for wave in told["waves"]] == [["GSME", "ESME"], ["PPMID"]]
    assert list(told["waves"][1][0]) == ["device", "hub", "target", "firmware_version", "user", "after"]
    assert told["waves"][1][0]["after"]["basis"] == "assumed"
    assert told["refused"] == [
        {
            "device": "00-00-00-00-00-00-00-33",
            "reason": "SR11.1 has no image for IHD",
            "list": "NotApplicableFirmwareDeviceIDList",
            "rule": "secmp0007.takes_images",
        }
    ]
    shown = harness(*arguments)
    assert shown.exit_code == 0
    assert "3 Devices in 2 waves, 1 refused" in shown.output


def test_an_image_file_is_found_on_the_cpl_by_its_hash(tmp_path):
    """F1.1: the Manufacturer Image Hash is what a CPL row has of an image; a file that no row has is refused."""
    (path,) = images(tmp_path, "esme")
    result = harness("--inventory", snapshot(tmp_path), "--image", path)
    assert result.exit_code == 1
    assert "esme.ota: no CPL row of the Inventory has its Manufacturer Image Hash" in result.output


def test_a_suspended_meter_is_planned(tmp_path):
    """SU-09: the only way back before MP105."""
    made = premises(mp105="before")
    made.load(without("ESME-a", V1))
    path = tmp_path / "suspended.json"
    path.write_text(json.dumps(to_plain(made.inventory)))
    told = json.loads(harness("--inventory", path, "--firmware", "Acme/ESME-a/00000200", "--json").output)
    assert [one["device"] for wave in told["waves"] for one in wave] == ["00-00-00-00-00-00-00-11"]
    assert (ESME_ID, GSME_ID) == (0x11, 0x12)


def test_a_campaign_runs_on_an_emulated_rig(tmp_path):
    """Two members, two waves, on virtual time."""
    paths = images(tmp_path, "ppmid", "hcalcs")
    result = harness("--rig", STANDING_RIG, "--image", paths[0], "--image", paths[1], "--to", "ppmid,hcalcs")
    assert result.exit_code == 0, result.output
    assert result.output.count("runs 01000001") == 2


# --- what is wrong ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("arguments", "message"), [
    (["--devices", 5, "--compare", "mp105=before,boht"], "did you mean both?"),
    (["--devices", 5, "--compare", "mp1o5=before,both"], "did you mean mp105?"),
    (["--devices", 5, "--compare", "mp105=both"], "is not OPTION=VALUE,VALUE"),
    (["--devices", 5, "--compare", "mp105=both,both"], "compares a value with itself"),
    (["--devices", 5, "--compare", "mp105=before,both", "--loss", "1.5"], "0<=x<=1"),
    (["--devices", 5, "--compare", "mp105=before,both", "--loss", "nan"], "nan is no share"),
    (["--devices", 5, "--compare", "mp105=before,both", "--request-loss", "-1"], "0<=x<=1"),
    (["--devices", 0, "--compare", "mp105=before,both"], "1<=x<=1000000"),
    (["--compare", "mp105=before,both"], "give one of --devices, --inventory and --rig"),
    (["--devices", 5, "--rig", "x.yaml"], "give one of --devices, --inventory and --rig"),
    (["--devices", 5, "--plot", "x.svg"], "give both"),
    (["--devices", 5, "--to", "00-00-00-00-00-00-00-11"], "made up"),
    (["--devices", 5, "--evidence", "x"], "needs --rig"),
    (["--inventory", "x.json", "--firmware", "Acme/ESME-a/2"], "8 hexadecimal digits"),
    (["--inventory", "x.json", "--to", "a,,b"], "empty name"),
    (["--rig", "x.yaml", "--to", "ppmid"], "--rig needs --image"),
    (["--rig", "x.yaml", "--json"], "goes without"),
])  # fmt: skip
def test_a_command_that_makes_no_sense_says_what_would(arguments, message):
    """A usage error: exit code 2, before anything is read."""
    result = harness(*arguments)
    assert result.exit_code == 2
    assert message in " ".join(result.output.replace("│", " ").split())


@pytest.mark.parametrize(("arguments", "message"), [
    (["--to", "11"], "'11' is not an EUI-64 such as"),
    (["--to", "00-00-00-00-00-00-00-11,0000000000000011"], "stands there twice"),
    (["--firmware", "Acme/ESME-a/00000300"], "are for one model"),
])  # fmt: skip
def test_a_campaign_over_an_inventory_says_what_is_wrong_with_it(arguments, message, tmp_path):
    """One sentence, exit code 1."""
    result = harness("--inventory", snapshot(tmp_path), "--firmware", "Acme/ESME-a/00000200", *arguments)
    assert result.exit_code == 1
    assert message in result.output


def test_an_unknown_device_is_refused_in_the_plan(tmp_path):
    """Not an error: FW-14 has a list for it."""
    image = ["--firmware", "Acme/ESME-a/00000200", "--to", "00-00-00-00-00-00-00-77"]
    told = json.loads(harness("--inventory", snapshot(tmp_path), *image, "--json").output)
    assert told["refused"][0]["list"] == "InvalidDeviceIDList"


def test_an_inventory_without_such_a_device_is_told(tmp_path):
    """Else an empty plan would look like success."""
    result = harness("--inventory", snapshot(tmp_path), "--firmware", "Acme/ESME-b/00000200")
    assert (result.exit_code, "has no Device of Acme ESME-b" in result.output) == (1, True)


def test_a_plot_that_cannot_be_written_is_told(tmp_path):
    """With its name."""
    result = harness(*COMPARE, "--plot", tmp_path / "missing" / "a.svg")
    assert (result.exit_code, "a.svg: cannot be written" in result.output) == (1, True)
