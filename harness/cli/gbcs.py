"""The `harness gbcs` commands: what a GBCS message says."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import fields, replace
from datetime import datetime
from enum import IntEnum
from pathlib import Path
from typing import Any

import click

from harness.errors import HarnessError, RigError
from harness.wire.gbcs import GbcsMessage, build_message, parse_message
from harness.wire.gbcs_names import alert_name, use_case_name
from harness.wire.gbcs_payloads import NEVER, Payload, build_payload, parse_payload
from harness.wire.mac import format_eui64

# How an integer field of a payload is written; the others are plain decimal.
_VERSIONS = ("firmware_version", "version")
_EUI64S = ("target",)


@click.group()
def gbcs() -> None:
    """Look at GBCS messages."""


@gbcs.command()
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the fields as JSON.")
@click.option("--rebuild", is_flag=True, help="Print the octets built back from the fields, in hex.")
def show(file: Path, as_json: bool, rebuild: bool) -> None:
    """Print the fields of the GBCS message in FILE, which holds its octets in hex, spaces and lines as you like."""
    if as_json and rebuild:
        raise click.UsageError("--json and --rebuild exclude one another")
    try:
        message = parse_message(_read(file))
        payload = parse_payload(message)
        if rebuild:
            octets = build_message(replace(message, content=build_payload(payload)))
            click.echo(octets.hex().upper())
            return
    except HarnessError as error:
        raise click.ClickException(f"{file}: {error}") from error
    shown = describe(message, payload)
    click.echo(json.dumps(shown, indent=2) if as_json else "\n".join(_lines(shown)))


def describe(message: GbcsMessage, payload: Payload) -> dict[str, Any]:
    """The fields of a message in words, fit for JSON; octets in hex, fields that it does not have are None."""
    certificate = message.supplementary_certificate
    return {
        "use_case": use_case_name(message.message_code),
        "message_code": f"0x{message.message_code:04X}",
        "cra": message.cra.name.lower(),
        "originator": format_eui64(message.originator),
        "originator_counter": message.originator_counter,
        "recipient": format_eui64(message.recipient),
        "date_time": _dlms_time(message.date_time) if message.date_time else None,
        "supplementary_remote_party": _eui64(message.supplementary_remote_party),
        "supplementary_remote_party_counter": message.supplementary_remote_party_counter,
        "supplementary_originator_counter": message.supplementary_originator_counter,
        "supplementary_certificate": _hex(certificate) if certificate else None,
        "payload": {"kind": type(payload).__name__} | _fields(payload),
        "signature": _hex(message.signature) if message.signature else None,
        "mac": None if message.mac is None else _hex(message.mac),
    }


def _read(file: Path) -> bytes:
    try:
        text = file.read_text(encoding="ascii")
    except OSError as error:
        raise RigError(f"the file cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise RigError(f"not hex: octet {error.object[error.start]:#04x} at {error.start}") from error
    digits = "".join(text.split())
    wrong = re.search(r"[^0-9A-Fa-f]", digits)
    if wrong:
        raise RigError(f"not hex: {wrong[0]!r} is no hexadecimal digit")
    if len(digits) % 2:
        raise RigError(f"not whole octets: {len(digits)} hexadecimal digits")
    return bytes.fromhex(digits)


def _fields(payload: Any) -> dict[str, Any]:
    # A payload is a frozen dataclass, in one case with another one inside.
    return {it.name: _value(it.name, getattr(payload, it.name)) for it in fields(payload)}


def _value(name: str, value: object) -> Any:
    if isinstance(value, IntEnum):
        return f"{value.name.lower()} ({value:d})"
    if isinstance(value, int):
        if name == "alert_code":
            return f"0x{value:04X} {alert_name(value)}"
        if name in _VERSIONS:
            return f"{value:08X}"
        return format_eui64(value) if name in _EUI64S else value
    if isinstance(value, datetime):
        return f"{value.replace(tzinfo=None)} UTC" + (" (cancels)" if value == NEVER else "")
    if isinstance(value, bytes):
        return _dlms_time(value) if name == "time" else _hex(value)
    return None if value is None else _fields(value)


def _eui64(value: int | None) -> str | None:
    return None if value is None else format_eui64(value)


def _hex(octets: bytes) -> str:
    return octets.hex().upper()


def _dlms_time(octets: bytes) -> str:
    """A DLMS date-time; in hex where it has wildcards."""
    year, month, day = int.from_bytes(octets[:2], "big"), octets[2], octets[3]
    try:
        moment = datetime(year, month, day, *octets[5:8])
    except ValueError:
        return _hex(octets)
    return f"{moment} ({_hex(octets)})"


def _lines(shown: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in shown.items():
        label = f"{indent}{name.replace('_', ' ')}"
        if isinstance(value, Mapping):
            yield label
            yield from _lines(value, indent + "  ")
        elif value is not None:
            yield f"{label:<38} {value}"
