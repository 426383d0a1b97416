"""The `harness` command: what a lab does by hand."""

from __future__ import annotations

import asyncio
import json
import math
import sys
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import click

from harness.cli.ca import ca
from harness.cli.campaign import campaign
from harness.cli.gbcs import gbcs
from harness.cli.image import image
from harness.cli.smi import smi
from harness.errors import HarnessError


class _Harness(click.Group):
    """The command group: an error that the harness raises on purpose is one sentence and exit code 1."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except HarnessError as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Harness, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="han-harness", prog_name="harness")
def main() -> None:
    """Test devices on a GB smart-metering Home Area Network, real or emulated."""


@main.group()
def rig() -> None:
    """Look at rig files."""


@rig.command("check")
@click.argument("file", type=click.Path(path_type=Path))
def rig_check(file: Path) -> None:
    """Check a rig file and the profiles it names, without touching the bench."""
    from harness.rig.schema import load_rig

    checked = load_rig(file)
    click.echo(f"{file}: {checked.name}, {len(checked.members)} members: {', '.join(checked.members)}")


@rig.command("schema")
@click.argument("kind", type=click.Choice(["rig", "profile"]), default="rig")
def rig_schema(kind: str) -> None:
    """Print the JSON Schema of rig files, or of device profiles, for an editor."""
    from harness.rig.profile import profile_json_schema
    from harness.rig.schema import rig_json_schema

    schema = rig_json_schema() if kind == "rig" else profile_json_schema()
    click.echo(json.dumps(schema, indent=2))


@rig.command("commission")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path),
    help="Write the state here; it holds keys, and only its owner can read it.",
)
def rig_commission(file: Path, out: Path) -> None:
    """Let the devices of a rig join and establish their keys, and keep that, for pytest --commissioned."""
    from harness.rig.commissioned import commission, save_commissioned
    from harness.rig.schema import load_rig

    checked = load_rig(file)
    state = commission(checked)
    save_commissioned(state, out)
    missing = [name for name in checked.members if name not in state.members]
    click.echo(
        f"{out}: {', '.join(state.members)}" + (f"; not on the HAN: {', '.join(missing)}" if missing else "")
    )


def _number(ctx: click.Context, param: click.Parameter, value: float) -> float:
    # FloatRange compares, and nan is neither too small nor too large: a push would wait for ever.
    if not math.isfinite(value):
        raise click.BadParameter(f"{value} is no length of time", ctx, param)
    return value


@main.command()
@click.option(
    "--rig", "rig_file", required=True, type=click.Path(path_type=Path), help="The bench to work on."
)
@click.option("--to", "member", required=True, help="The member that shall run the image.")
@click.option(
    "--evidence", type=click.Path(path_type=Path), help="Leave the capture and its key file in this folder."
)
@click.option(
    "--within",
    default=2.0,
    show_default=True,
    type=click.FloatRange(min=0, min_open=True),
    callback=_number,
    help="Give up after this many hours (the rig's own time).",
)
@click.argument("image", type=click.Path(path_type=Path))
def push(rig_file: Path, member: str, evidence: Path | None, within: float, image: Path) -> None:
    """Push an OTA image to a member of a rig, and wait until the member runs it."""
    from harness.rig.open import event_loop_for
    from harness.rig.push import push_image
    from harness.rig.schema import load_rig

    checked = load_rig(rig_file)
    work = push_image(checked, member, image, evidence=evidence, within=within * 3600)
    _run(work, event_loop_for(checked))


@main.command()
@click.argument("rig_file", type=click.Path(path_type=Path))
@click.option(
    "--listen", required=True, metavar="tcp:HOST:PORT|pty:LINK", help="Where other programs open the NCP."
)
@click.option(
    "--pcap", type=click.Path(path_type=Path), help="Capture the air to this file, its keys beside it."
)
def emulate(rig_file: Path, listen: str, pcap: Path | None) -> None:
    """Serve the emulated NCP of a rig to other programs, in real time, with the rig's other members on its air."""
    from harness.rig.schema import load_rig
    from harness.rig.serve import serve

    _run(serve(load_rig(rig_file), listen, pcap=pcap, say=click.echo), asyncio.new_event_loop)


main.add_command(ca)
main.add_command(campaign)
main.add_command(gbcs)
main.add_command(image)
main.add_command(smi)


def _run(work: Coroutine[Any, Any, None], loop_factory: Any) -> None:
    with asyncio.Runner(loop_factory=loop_factory) as runner:
        try:
            runner.run(work)
        except KeyboardInterrupt:
            sys.exit(130)
