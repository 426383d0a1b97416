"""The `harness smi` commands: why a Device is as it is, what the rules are, and whether a CPL extract is right."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from harness.cli.inventories import SOURCE_HELP, read_inventory
from harness.errors import LocalProtocolError
from harness.wire.mac import parse_eui64


@click.group()
def smi() -> None:
    """Ask the Smart Metering Inventory, its rules, and a CPL."""


def read_eui64(ctx: click.Context, param: click.Parameter, value: str) -> int:
    """Read an EUI-64 from the command line."""
    try:
        return parse_eui64(value)
    except LocalProtocolError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@smi.command()
@click.argument("device", metavar="EUI64", callback=read_eui64)
@click.option("--log", "source", required=True, metavar="FILE|URL", help=SOURCE_HELP)
@click.option("--name", help="Which Inventory of a database that has several.")
def explain(device: int, source: str, name: str | None) -> None:
    """Say how a Device stands, and each change with its time, its event and its rule."""
    for line in read_inventory(source, name).explain(device):
        click.echo(line)


@smi.command()
@click.option("--json", "as_json", is_flag=True, help="Print the rules as JSON.")
def rules(as_json: bool) -> None:
    """Print every rule of the Inventory: what it says, its source, its basis, and the options under which it holds."""
    from harness.smi.rules import RULES

    if as_json:
        found = [
            {
                "id": rule.id,
                "modification": rule.modification,
                "text": rule.text,
                "requirements": list(rule.requirements),
                "source": rule.source,
                "basis": str(rule.basis),
                "when": {name: list(values) for name, values in rule.when},
            }
            for rule in RULES.values()
        ]
        click.echo(json.dumps({"schema": "harness.rules/1", "rules": found}, indent=2))
        return
    table = Table("rule", "says", "source", "basis", "holds under")
    table.columns[0].no_wrap = True
    for rule in RULES.values():
        under = "; ".join(f"{name}: {' | '.join(values)}" for name, values in rule.when) or "all options"
        source = "; ".join(filter(None, (", ".join(rule.requirements), rule.source)))
        table.add_row(*map(escape, (rule.id, rule.text, source, str(rule.basis), under)))
    Console().print(table)


def _columns(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    columns = {}
    for value in values:
        header, _, field = value.rpartition("=")
        if not header or not field:
            raise click.BadParameter(f"{value!r} is not HEADER=FIELD", ctx, param)
        columns[header] = field
    return columns


@smi.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="HEADER=FIELD",
    callback=_columns,
    help='A header of your own list: --column "Our hash=image_hash".',
)
@click.option("--json", "as_json", is_flag=True, help="Print rows, remarks and faults as JSON.")
def cpl(file: Path, columns: dict[str, str], as_json: bool) -> None:
    """Check an extract of the CPL (CSV, XLSX or YAML): each fault by row and column. Exit code 1 if there is any."""
    from harness.smi.cpl import CplError, Fault, read_cpl

    rows = 0
    remarks: tuple[str, ...] = ()
    faults: tuple[Fault, ...] = ()
    try:
        found = read_cpl(file, columns=columns)
    except CplError as error:
        faults = error.faults
    else:
        rows, remarks = len(found.rows), found.remarks
    if as_json:
        told = {
            "schema": "harness.cpl-check/1",
            "file": str(file),
            "rows": rows,
            "remarks": list(remarks),
            "faults": [
                {
                    "sheet": fault.sheet,
                    "row": fault.row,
                    "column": fault.column,
                    "letter": fault.letter,
                    "value": None if fault.value is None else str(fault.value),
                    "text": fault.text,
                    "right": fault.right,
                }
                for fault in faults
            ],
        }
        click.echo(json.dumps(told, indent=2))
    else:
        for remark in remarks:
            click.echo(f"{file}: {remark}")
        for fault in faults:
            click.echo(f"{file}: {fault}")
        if not faults:
            click.echo(f"{file}: {rows} rows, all right")
    if faults:
        click.echo(f"Error: {file}: {len(faults)} fault{'s' if len(faults) > 1 else ''}", err=True)
        sys.exit(1)
