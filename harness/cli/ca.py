"""`harness ca`: the test CA of a bench, from the command line."""

from __future__ import annotations

import secrets
from pathlib import Path

import click

from harness.errors import LocalProtocolError


def _eui64(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    from harness.wire.mac import parse_eui64

    if value is None:
        return None
    try:
        return parse_eui64(value)
    except LocalProtocolError as error:
        raise click.BadParameter(str(error), ctx, param) from error


@click.group()
def ca() -> None:
    """Make certificates for key establishment: test keys, for benches only."""


@ca.command("new")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--issuer", callback=_eui64, help="The EUI-64 that its certificates name. Absent: one of the harness."
)
def ca_new(file: Path, issuer: int | None) -> None:
    """Make a test CA for both suites, and keep its keys in FILE."""
    from harness.rig.authority import DEFAULT_ISSUER, describe, make_authority, save_authority

    authority = make_authority(secrets.token_bytes, DEFAULT_ISSUER if issuer is None else issuer)
    save_authority(authority, file)
    click.echo(f"{file}: {describe(file)}")


@ca.command("issue")
@click.argument("ca_file", type=click.Path(path_type=Path))
@click.argument("eui64", callback=_eui64)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path), help="Where certificates and private keys go."
)
def ca_issue(ca_file: Path, eui64: int, out: Path) -> None:
    """Issue the certificates of a device, with its private keys, by the CA in CA_FILE."""
    from harness.rig.authority import describe, load_authority, save_credentials

    save_credentials(load_authority(ca_file).issue(eui64, secrets.token_bytes), out)
    click.echo(f"{out}: {describe(out)}")


@ca.command("show")
@click.argument("file", type=click.Path(path_type=Path))
def ca_show(file: Path) -> None:
    """Check a CA's or a device's FILE, and say what is in it, but for its private keys."""
    from harness.rig.authority import describe

    click.echo(describe(file))
