"""The `harness campaign` command: plan an update over many Devices, compare two ways of it, run it on a rig."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from harness.cli.inventories import SOURCE_HELP, read_inventory
from harness.errors import LocalProtocolError, RigError
from harness.smi.campaign import CampaignImage, Plan, plan
from harness.smi.devices import format_eui64
from harness.smi.inventory import Inventory
from harness.smi.options import Options
from harness.wire.mac import parse_eui64

if TYPE_CHECKING:
    from harness.smi.campaign_runs import CampaignRun

_BARS = "·▁▂▃▄▅▆▇█"
_MOST_SHOWN = 20  # Devices of one wave that the terminal lists; --json has all


def _compared(
    ctx: click.Context, param: click.Parameter, value: str | None
) -> tuple[str, tuple[str, ...]] | None:
    if value is None:
        return None
    option, _, listed = value.partition("=")
    values = tuple(part.strip() for part in listed.split(","))
    if len(values) < 2 or "" in values:
        raise click.BadParameter(
            f"{value!r} is not OPTION=VALUE,VALUE, such as mp105=before,both", ctx, param
        )
    if len(set(values)) < len(values):
        raise click.BadParameter(f"{value!r} compares a value with itself", ctx, param)
    for one in values:
        try:
            Options.of({option: one})
        except LocalProtocolError as error:
            raise click.BadParameter(str(error), ctx, param) from error
    return option, values


def _share(ctx: click.Context, param: click.Parameter, value: float) -> float:
    # FloatRange compares, and nan is neither below 0 nor above 1.
    if math.isnan(value):
        raise click.BadParameter(f"{value} is no share from 0 to 1", ctx, param)
    return value


def _firmware(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[CampaignImage, ...]:
    images = []
    for value in values:
        manufacturer, _, rest = value.partition("/")
        model, _, version = rest.rpartition("/")
        if not manufacturer or not model or not re.fullmatch("[0-9A-Fa-f]{8}", version):
            raise click.BadParameter(
                f"{value!r} is not MANUFACTURER/MODEL/VERSION, the version in 8 hexadecimal digits",
                ctx,
                param,
            )
        images.append(CampaignImage(manufacturer, model, int(version, 16)))
    return tuple(images)


def _listed(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[str, ...]:
    names = tuple(name.strip() for name in (value or "").split(",")) if value is not None else ()
    if "" in names or len(set(names)) < len(names):
        raise click.BadParameter(f"{value!r} has an empty name, or one twice", ctx, param)
    return names


@click.command()
@click.option("--devices", type=click.IntRange(1, 1_000_000), help="Over so many made-up ESMEs.")
@click.option(
    "--inventory", "source", metavar="FILE|URL", help=f"Over the Devices of an Inventory. {SOURCE_HELP}"
)
@click.option("--name", help="Which Inventory of a database that has several.")
@click.option("--rig", "rig_file", type=click.Path(path_type=Path), help="Run it on this bench.")
@click.option(
    "--image",
    "files",
    multiple=True,
    type=click.Path(path_type=Path),
    help="An OTA file; once a model. With --inventory, its CPL row is found by its Manufacturer Image Hash.",
)
@click.option(
    "--firmware",
    multiple=True,
    metavar="MANUFACTURER/MODEL/VERSION",
    callback=_firmware,
    help="With --inventory: an image by its CPL row, in place of a file.",
)
@click.option(
    "--to",
    "names",
    metavar="A,B,C",
    callback=_listed,
    help="Only these: EUI-64s of the Inventory, or members of the rig. Absent: all Devices of the images' models.",
)
@click.option(
    "--compare",
    "compared",
    metavar="OPTION=VALUE,VALUE",
    callback=_compared,
    help="Run the campaign under each value of an option of the Inventory: mp105=before,both.",
)
@click.option(
    "--loss",
    default=0.2,
    show_default=True,
    type=click.FloatRange(0, 1),
    callback=_share,
    help="With --compare: the share of responses that the WAN loses.",
)
@click.option(
    "--request-loss",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    callback=_share,
    help="With --compare: the share of requests that it loses.",
)
@click.option("--seed", default=1, show_default=True, help="With --compare: what is lost.")
@click.option(
    "--days",
    default=8,
    show_default=True,
    type=click.IntRange(0, 365),
    help="With --compare: for how many days what is not answered is asked again, before another image is sent.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--plot", type=click.Path(path_type=Path), help="With --compare: draw Suspended by day, as SVG."
)
@click.option(
    "--evidence", type=click.Path(path_type=Path), help="With --rig: leave the capture and journal here."
)
@click.option(
    "--within",
    default=12.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True, max=24 * 365),
    callback=_share,
    help="With --rig: give each wave so many hours (the rig's own time).",
)
def campaign(
    devices: int | None,
    source: str | None,
    name: str | None,
    rig_file: Path | None,
    files: tuple[Path, ...],
    firmware: tuple[CampaignImage, ...],
    names: tuple[str, ...],
    compared: tuple[str, tuple[str, ...]] | None,
    loss: float,
    request_loss: float,
    seed: int,
    days: int,
    as_json: bool,
    plot: Path | None,
    evidence: Path | None,
    within: float,
) -> None:
    """Plan an update over many Devices: who can take it, who cannot and why, and in which order.

    Without --compare and --rig nothing is sent. --compare runs the campaign on the Inventory alone, with Devices that
    do as they are told and a WAN that loses messages; the same seed loses the same under each value. --rig runs it.
    """
    if [devices, source, rig_file].count(None) != 2:
        raise click.UsageError("give one of --devices, --inventory and --rig")
    if compared is None and plot is not None:
        raise click.UsageError("--plot draws what --compare finds: give both")
    if rig_file is not None:
        _on_rig(rig_file, files, names, firmware, compared, evidence, within, as_json)
        return
    if evidence is not None:
        raise click.UsageError("--evidence is what a rig leaves: it needs --rig")
    from harness.smi.campaign_runs import (
        METER,
        Losses,
        compare,
        made_up_meters,
        rebuilding,
        runs_to_plain,
    )

    build: Callable[..., Inventory]
    if devices is not None:
        if files or firmware or names or name:
            raise click.UsageError(
                "the Devices of --devices and their image are made up: it goes without others"
            )
        build = partial(made_up_meters, devices)
        inventory, images = build(), [METER]
    else:
        assert source is not None
        inventory = read_inventory(source, name)
        build = rebuilding(inventory)
        images = [*firmware, *(_image_of(inventory, file) for file in files)]
        if not images:
            raise click.UsageError("--inventory needs an --image or a --firmware")
    listed = _chosen(inventory, images, names)
    if compared is None:
        _show_plan(plan(inventory, images, listed), as_json)
        return
    option, values = compared
    losses = Losses(seed, loss, request_loss)
    runs = compare(
        build, images, listed, option=option, values=values, losses=losses, options=inventory.options, retry_days=days
    )  # fmt: skip
    if plot is not None:
        from harness.cli.campaign_chart import draw

        try:
            plot.write_bytes(draw([run.outcome for run in runs], losses))
        except OSError as error:
            raise RigError(f"{plot}: cannot be written ({error.strerror})") from error
    if as_json:
        click.echo(json.dumps(runs_to_plain(runs, losses, days), indent=2))
        return
    title = f"{option} compared: {loss:.0%} of responses and {request_loss:.0%} of requests lost, seed {seed}"
    Console().print(_side_by_side(runs, title, days))


# --- what is planned -----------------------------------------------------------------------------------------------


def _image_of(inventory: Inventory, file: Path) -> CampaignImage:
    """Return the image of a file as the CPL of an Inventory has it. RigError for one that it does not have."""
    from harness.rig.images import read_image
    from harness.wire.gbcs_image import image_hash, parse_upgrade_image
    from harness.wire.image_reading import Form, find_form

    image = read_image(file)
    content = image.payload
    if find_form(content) is Form.GBCS:
        content = parse_upgrade_image(content).manufacturer_image
    found = image_hash(content)
    rows = [row for row in inventory.rows() if row.image_hash == found]
    if not rows:
        raise RigError(f"{file}: no CPL row of the Inventory has its Manufacturer Image Hash, {found.hex()}")
    row = rows[0]
    if row.firmware_version != image.version:
        raise RigError(
            f"{file}: its header says version {image.version:08X}, {row.place} of its hash {row.firmware_version:08X}"
        )
    return CampaignImage(row.manufacturer, row.model, row.firmware_version, found)


def _chosen(inventory: Inventory, images: Iterable[CampaignImage], names: Sequence[str]) -> list[int]:
    if names:
        return [parse_eui64(name) for name in names]
    models = {(image.manufacturer, image.model) for image in images}
    records = inventory.ledger.records.values()
    listed = [record.device for record in records if (record.manufacturer, record.model) in models]
    if not listed:
        raise RigError(
            f"the Inventory has no Device of {' or '.join(' '.join(model) for model in sorted(models))}"
        )
    return listed


def _show_plan(planned: Plan, as_json: bool) -> None:
    if as_json:
        from harness.smi.campaign_runs import plan_to_plain

        click.echo(json.dumps(plan_to_plain(planned), indent=2))
        return
    console = Console()
    going = sum(map(len, planned.waves))
    console.print(f"{going} Devices in {len(planned.waves)} waves, {len(planned.refused)} refused")
    if planned.under_way:
        others = ", ".join(f"{one.target} {format_eui64(one.device)}" for one in planned.under_way)
        console.print(f"under way at the same hubs: {others}", highlight=False)
    table = Table("wave", "Device", "hub", "image for", "version", "why not before")
    for number, wave in enumerate(planned.waves, 1):
        for send in wave[:_MOST_SHOWN]:
            arrival, after = send.arrival, send.after
            why = "" if after is None else f"{after.note} [{after.basis}: {after.source}]"
            cells = (
                format_eui64(arrival.device), format_eui64(arrival.hub), str(arrival.target),
                f"{send.image.firmware_version:08X}", why,
            )  # fmt: skip
            table.add_row(str(number), *map(escape, cells))
        if len(wave) > _MOST_SHOWN:
            table.add_row(str(number), f"and {len(wave) - _MOST_SHOWN} more", "", "", "", "")
    if going:
        console.print(table)
    if planned.refused:
        refused = Table("Device", "refused because", "list", "rule")
        for left in planned.refused:
            told = (format_eui64(left.device), left.reason, left.listed or "", left.rule or "")
            refused.add_row(*map(escape, told))
        console.print(refused)


# --- what is compared ----------------------------------------------------------------------------------------------


def _side_by_side(runs: Sequence[CampaignRun], title: str, days: int) -> Table:
    outcomes = [run.outcome for run in runs]
    table = Table("", title=title)
    for outcome in outcomes:
        table.add_column(f"{outcome.option}={outcome.value}", justify="right")
    rows: list[tuple[str, list[str]]] = [
        ("Devices planned", [f"{one.planned:,}" for one in outcomes]),
        ("refused", [f"{one.refused:,}" for one in outcomes]),
        (f"aligned after {days} days of retries", [f"{one.end.aligned:,}" for one in outcomes]),
        ("Suspended then", [f"{one.end.suspended:,}" for one in outcomes]),
        ("second images sent", [f"{one.second_images:,}" for one in outcomes]),
        (
            "aligned after those",
            [f"{one.after_second.aligned:,}" if one.after_second else "-" for one in outcomes],
        ),
        (
            "Suspended then",
            [f"{one.after_second.suspended:,}" if one.after_second else "-" for one in outcomes],
        ),
    ]
    for srv in sorted({srv for one in outcomes for srv in one.requests}):
        rows.append((f"SR{srv} sent", [f"{one.requests.get(srv, 0):,}" for one in outcomes]))
    rows += [
        ("requests lost", [f"{one.lost_requests:,}" for one in outcomes]),
        ("responses lost", [f"{one.lost_responses:,}" for one in outcomes]),
        ("Device-days Suspended", [f"{one.suspended_device_days:,}" for one in outcomes]),
    ]
    most = max((count.suspended for one in outcomes for count in one.days), default=0)
    bars = [
        "".join(_BARS[math.ceil(count.suspended / most * 8) if most else 0] for count in one.days)
        for one in outcomes
    ]
    for label, cells in rows:
        table.add_row(label, *cells)
    # From the left, so that one day stands under another; one that needed no second image ends earlier.
    width = max(map(len, bars))
    table.add_row("Suspended by day", *(Text(bar.ljust(width), justify="left") for bar in bars))
    return table


# --- what is run ---------------------------------------------------------------------------------------------------


def _on_rig(
    rig_file: Path,
    files: tuple[Path, ...],
    names: tuple[str, ...],
    firmware: tuple[CampaignImage, ...],
    compared: object,
    evidence: Path | None,
    within: float,
    as_json: bool,
) -> None:
    if compared is not None or firmware or as_json:
        raise click.UsageError("--rig runs images of files: it goes without --compare, --firmware and --json")
    if not files or not names:
        raise click.UsageError("--rig needs --image, once a model, and --to")
    from harness.rig.campaign import run_campaign
    from harness.rig.open import event_loop_for
    from harness.rig.schema import load_rig

    checked = load_rig(rig_file)
    work = run_campaign(checked, files, names, evidence=evidence, within=within * 3600)
    with asyncio.Runner(loop_factory=event_loop_for(checked)) as runner:
        runner.run(work)
