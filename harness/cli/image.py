"""The `harness image` commands: make, look at, verify and sign OTA files."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

import click
from cryptography.x509 import Certificate
from cryptography.x509.oid import NameOID

from harness.errors import HarnessError, LocalProtocolError, RigError
from harness.wire.gbcs_image import (
    UpgradeImage,
    build_upgrade_image,
    image_hash,
    parse_upgrade_image,
    sign_image,
    verify_image,
)
from harness.wire.gbcs_security import KeyUse, PrivateKey, load_certificate, load_private_key
from harness.wire.image import OtaImage, SubElement, build_image, parse_image
from harness.wire.image_reading import (
    UNSIGNED,
    Form,
    ImageReading,
    find_form,
    read_whatever_is_there,
)
from harness.wire.mac import format_eui64, parse_eui64
from harness.wire.package import Bridge, Package, PackagePart, build_package

# ZCL8 11.4.3: what a sub-element is, by its tag.
_ELEMENTS: Final = {
    0x0000: "upgrade image",
    0x0001: "signature",
    0x0002: "signing certificate",
    0x0003: "image integrity code",
    0x0004: "picture data",
    0x0005: "signature, suite 2",
    0x0006: "signing certificate, suite 2",
}
# The octets of the header's numbers that are printed in hex; the others are sizes.
_HEX_OCTETS: Final = {
    "file_identifier": 4,
    "header_version": 2,
    "field_control": 2,
    "manufacturer": 2,
    "image_type": 2,
    "stack_version": 2,
    "security_credential": 1,
    "hardware_min": 2,
    "hardware_max": 2,
}
_HEADER: Final = (
    "file_identifier",
    "header_version",
    "header_length",
    "field_control",
    "manufacturer",
    "image_type",
    "version",
    "stack_version",
    "header_string",
    "total_size",
    "security_credential",
    "destination",
    "hardware_min",
    "hardware_max",
)


def _hexadecimal(digits: int) -> Callable[[click.Context, click.Parameter, str | None], int | None]:
    """Return the reader of an option: 0x before the number or all its digits, so that none is taken for decimal."""
    pattern = re.compile(f"0[xX][0-9A-Fa-f]{{1,{digits}}}|[0-9A-Fa-f]{{{digits}}}")

    def read(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
        if value is None:
            return None
        if not pattern.fullmatch(value):
            raise click.BadParameter(
                f"{value!r} is not {digits} hexadecimal digits, nor 0x and up to as many", ctx, param
            )
        return int(value, 16)

    return read


def _eui64(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    try:
        return None if value is None else parse_eui64(value)
    except LocalProtocolError as error:
        raise click.BadParameter(str(error), ctx, param) from error


def _parts(ctx: click.Context, param: click.Parameter, values: tuple[str, ...]) -> dict[Bridge, Path]:
    files: dict[Bridge, Path] = {}
    for value in values:
        name, _, path = value.partition("=")
        if not path or name not in Bridge.__members__:
            raise click.BadParameter(f"{value!r} is not B1=FILE, B2=FILE, B3=FILE or B4=FILE", ctx, param)
        if Bridge[name] in files:
            raise click.BadParameter(f"{name} has two files", ctx, param)
        files[Bridge[name]] = Path(path)
    return files


_OUT = click.option("--out", required=True, type=click.Path(path_type=Path), help="The new file.")
_FORM = click.option(
    "--form",
    type=click.Choice([form.value for form in Form]),
    help="What IMAGE is. Absent: gbcs where the octet at 65 from the end is 0x40, the length of a GBCS signature.",
)
_FORCE_REPLACE = click.IntRange(0, 0xFF)


@click.group()
def image() -> None:
    """Make, look at, verify and sign OTA images."""


@image.command()
@click.argument("payload_file", metavar="[PAYLOAD]", required=False, type=click.Path(path_type=Path))
@click.option(
    "--manufacturer",
    required=True,
    metavar="HEX",
    callback=_hexadecimal(4),
    help="The manufacturer code, e.g. 121D.",
)
@click.option(
    "--image-type", required=True, metavar="HEX", callback=_hexadecimal(4), help="The image type, e.g. 0084."
)
@click.option(
    "--version",
    required=True,
    metavar="HEX",
    callback=_hexadecimal(8),
    help="The firmware version, e.g. 09030A07.",
)
@click.option(
    "--hardware-min",
    metavar="HEX",
    callback=_hexadecimal(4),
    help="The first hardware version that it is for.",
)
@click.option(
    "--hardware-max",
    metavar="HEX",
    callback=_hexadecimal(4),
    help="The last hardware version that it is for.",
)
@click.option("--destination", metavar="EUI64", callback=_eui64, help="The only device that it is for.")
@click.option("--header-string", default="", help="Up to 32 octets of text.")
@click.option("--security-credential", type=click.IntRange(0, 0xFF), help="The security credential version.")
@click.option(
    "--gbcs",
    is_flag=True,
    help="For an ESME, GSME or HCALCS: PAYLOAD with Force Replace and signature behind.",
)
@click.option("--force-replace", type=_FORCE_REPLACE, help="With --gbcs: that octet. Absent: 0.")
@click.option(
    "--signer-key",
    type=click.Path(path_type=Path),
    help="With --gbcs: the P-256 key that signs. Absent: zeros stand where the signature belongs.",
)
@click.option(
    "--bridge",
    "parts",
    multiple=True,
    metavar="B1|B2|B3|B4=IMAGE",
    callback=_parts,
    help="In place of PAYLOAD, once a bridge: the OTA file that B1, B2, B3 or B4 gets out of this package.",
)
@_OUT
def build(
    payload_file: Path | None,
    manufacturer: int,
    image_type: int,
    version: int,
    hardware_min: int | None,
    hardware_max: int | None,
    destination: int | None,
    header_string: str,
    security_credential: int | None,
    gbcs: bool,
    force_replace: int | None,
    signer_key: Path | None,
    parts: dict[Bridge, Path],
    out: Path,
) -> None:
    """Make an OTA file from PAYLOAD, or a package for bridges from their OTA files.

    The format of a package is the harness's own: the real ones are not public.
    """
    if (payload_file is None) == (not parts):
        raise click.UsageError("give either PAYLOAD or --bridge")
    if not gbcs and (force_replace is not None or signer_key is not None):
        raise click.UsageError("--force-replace and --signer-key need --gbcs")
    if gbcs and parts:
        raise click.UsageError("bridges take plain images: --bridge and --gbcs exclude one another")
    if (hardware_min is None) != (hardware_max is None):
        raise click.UsageError("--hardware-min and --hardware-max need one another")
    if hardware_min is not None and hardware_max is not None and hardware_min > hardware_max:
        raise click.UsageError(
            f"--hardware-min {hardware_min:04X} is above --hardware-max {hardware_max:04X}"
        )
    payload = _package(parts) if payload_file is None else _read(payload_file)
    if not payload:
        raise click.ClickException(f"{payload_file}: the payload is empty")
    if gbcs:
        payload = _upgrade_image(payload, signer_key, force_replace or 0)
    _write(
        out,
        OtaImage(
            manufacturer=manufacturer,
            image_type=image_type,
            version=version,
            payload=payload,
            header_string=os.fsencode(header_string),
            security_credential=security_credential,
            destination=destination,
            hardware_min=hardware_min,
            hardware_max=hardware_max,
        ),
        Form.GBCS if gbcs else Form.PLAIN,
    )


@image.command()
@click.argument("image_file", metavar="IMAGE", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print the fields as JSON.")
@_FORM
def show(image_file: Path, as_json: bool, form: str | None) -> None:
    """Print every field of IMAGE, its hash as in the CPL, and what is wrong with it.

    Of a damaged file, as much as can be read; the exit code is 1 when something is wrong. Nothing in a file says
    whether it is a GBCS upgrade image or a plain one: it is told from the octet where the length of the signature
    would be, which one plain image in 256 has there by chance. --form overrides.
    """
    reading = read_whatever_is_there(_read(image_file), Form(form) if form else None)
    shown = {"file": str(image_file)} | describe(reading)
    click.echo(json.dumps(shown, indent=2) if as_json else "\n".join(_lines(shown)))
    for problem in reading.problems:
        click.echo(f"Error: {image_file}: {problem}", err=True)
    if reading.problems:
        sys.exit(1)


@image.command()
@click.option("--signer", required=True, type=click.Path(path_type=Path), help="The signer's certificate.")
@click.option("--json", "as_json", is_flag=True, help="Print the verdict as JSON.")
@click.argument("image_file", metavar="IMAGE", type=click.Path(path_type=Path))
def verify(signer: Path, image_file: Path, as_json: bool) -> None:
    """Check that IMAGE, a GBCS upgrade image, is signed by the party of the certificate. Exit code 1 when it is not."""
    certificate = _certificate(signer)
    with _in(image_file):
        upgrade = parse_upgrade_image(parse_image(_octets(image_file)).payload)
    verified = verify_image(upgrade, certificate)
    who = _subject(certificate)
    if as_json:
        verdict = {
            "file": str(image_file),
            "signer": {"file": str(signer), "subject": who, "serial_number": str(certificate.serial_number)},
            "cpl_hash": _hex(upgrade.image_hash),
            "signature": _hex(upgrade.signature),
            "verified": verified,
        }
        click.echo(json.dumps(verdict, indent=2))
    if not verified:
        raise click.ClickException(f"{image_file}: its signature is not that of {who} ({signer})")
    if not as_json:
        click.echo(f"{image_file}: signed by {who}, CPL hash {_hex(upgrade.image_hash)}")


@image.command()
@click.option("--key", required=True, type=click.Path(path_type=Path), help="The signer's P-256 private key.")
@click.option(
    "--force-replace", type=_FORCE_REPLACE, help="That octet. Absent: as it is in IMAGE, 0 for a plain one."
)
@_FORM
@_OUT
@click.argument("image_file", metavar="IMAGE", type=click.Path(path_type=Path))
def sign(key: Path, force_replace: int | None, form: str | None, out: Path, image_file: Path) -> None:
    """Sign the Manufacturer Image of IMAGE, a plain one or a GBCS upgrade image that nobody has signed."""
    private_key = _key(key)
    with _in(image_file):
        unsigned = parse_image(_octets(image_file))
        content, found = unsigned.payload, 0
        if (Form(form) if form else find_form(content)) is Form.GBCS:
            upgrade = parse_upgrade_image(content)
            if upgrade.signature != UNSIGNED:
                raise RigError(
                    "it is signed already (if it is a plain image that only looks so: --form plain)"
                )
            content, found = upgrade.manufacturer_image, upgrade.force_replace
        if not content:
            raise RigError("its Manufacturer Image is empty")
    upgrade = sign_image(
        content, private_key, force_replace=found if force_replace is None else force_replace
    )
    _write(out, replace(unsigned, payload=build_upgrade_image(upgrade)), Form.GBCS)


def _subject(certificate: Certificate) -> str:
    """The name in a certificate, and the EUI-64 of those that the smart metering key infrastructure issues."""
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    name = str(names[0].value) if names else certificate.subject.rfc4514_string()
    for attribute in certificate.subject.get_attributes_for_oid(NameOID.X500_UNIQUE_IDENTIFIER):
        value = attribute.value
        # A BIT STRING: the count of unused bits, and the EUI-64.
        if isinstance(value, bytes) and len(value) == 9:
            return f"{name} {format_eui64(int.from_bytes(value[1:], 'big'))}"
    return name


def describe(reading: ImageReading) -> dict[str, Any]:
    """What a file says, in words, fit for JSON; octets in hex, what it does not have or cannot be read is None."""
    upgrade, manufacturer_image = reading.upgrade, reading.manufacturer_image
    return {
        "size": reading.size,
        "header": {name: _header_value(reading, name) for name in _HEADER},
        "payload_length": len(reading.payload),
        "form": reading.form,
        "manufacturer_image_length": None if manufacturer_image is None else len(manufacturer_image),
        "cpl_hash": None if reading.cpl_hash is None else _hex(reading.cpl_hash),
        "force_replace": None if upgrade is None else upgrade.force_replace,
        "signature": None if upgrade is None else _hex(upgrade.signature),
        "sub_elements": [_element(element) for element in reading.sub_elements],
        "package": None if reading.package is None else [_part(part) for part in reading.package.parts],
        "problems": list(reading.problems),
    }


def _header_value(reading: ImageReading, name: str) -> Any:
    if name == "header_string":
        return None if reading.header_string is None else _printable(reading.header_string)
    value = reading.header.get(name)
    if value is None:
        return None
    if name == "version":
        return f"{value:08X}"  # as the SMI and GBCS messages write it
    if name == "destination":
        return format_eui64(value)
    return f"0x{value:0{2 * _HEX_OCTETS[name]}X}" if name in _HEX_OCTETS else value


def _printable(text: bytes) -> str:
    # A hostile file must not write to the terminal more than a line of text.
    return "".join(chr(octet) if 0x20 <= octet < 0x7F else f"\\x{octet:02x}" for octet in text.rstrip(b"\0"))


def _element(element: SubElement) -> dict[str, Any]:
    name = _ELEMENTS.get(element.tag, "manufacturer's own" if element.tag >= 0xF000 else "reserved")
    return {"tag": f"0x{element.tag:04X}", "name": name, "length": len(element.data)}


def _part(part: PackagePart) -> dict[str, Any]:
    reading = read_whatever_is_there(build_image(part.image), Form.PLAIN)
    return {"bridge": part.bridge.name} | describe(reading)


def _lines(shown: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    for name, value in shown.items():
        label = f"{indent}{'CPL hash' if name == 'cpl_hash' else name.replace('_', ' ')}"
        if name == "problems" or value is None or value == []:
            continue  # problems go to the error output, with the file's name
        if isinstance(value, Mapping):
            yield label
            yield from _lines(value, indent + "  ")
        elif isinstance(value, list):
            for item in value:
                yield label
                yield from _lines(item, indent + "  ")
        else:
            yield f"{label:<34} {value}".rstrip()


def _hex(octets: bytes) -> str:
    return octets.hex().upper()


# --- files ------------------------------------------------------------------------------------------------------------


@contextmanager
def _in(path: Path) -> Iterator[None]:
    """Say with the file's name what is wrong in it."""
    try:
        yield
    except HarnessError as error:
        raise click.ClickException(f"{path}: {error}") from error


def _octets(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise RigError(f"cannot be read ({error.strerror})") from error


def _read(path: Path) -> bytes:
    with _in(path):
        return _octets(path)


def _certificate(path: Path) -> Certificate:
    with _in(path):
        return load_certificate(_octets(path), KeyUse.SIGNING)


def _key(path: Path) -> PrivateKey:
    with _in(path):
        return load_private_key(_octets(path))


def _package(files: Mapping[Bridge, Path]) -> bytes:
    parts = []
    for bridge, path in sorted(files.items()):
        with _in(path):
            parts.append(PackagePart(bridge, parse_image(_octets(path))))
    return build_package(Package(tuple(parts)))


def _upgrade_image(manufacturer_image: bytes, signer_key: Path | None, force_replace: int) -> bytes:
    if signer_key is None:
        return build_upgrade_image(UpgradeImage(manufacturer_image, UNSIGNED, force_replace))
    return build_upgrade_image(sign_image(manufacturer_image, _key(signer_key), force_replace=force_replace))


def _write(path: Path, content: OtaImage, form: Form) -> None:
    """Write a new file, whole or not at all, and say what it is."""
    with _in(path):
        octets = build_image(content)
        if os.path.lexists(path):
            raise RigError("is there already, and images are not overwritten")
        beside = path.with_name(f".{path.name}.{os.getpid()}.part")
        try:
            try:
                with beside.open("xb") as file:
                    file.write(octets)
                beside.replace(path)
            finally:
                beside.unlink(missing_ok=True)
        except OSError as error:
            raise RigError(f"cannot be written ({error.strerror})") from error
    upgrade = parse_upgrade_image(content.payload) if form is Form.GBCS else None
    digest = image_hash(content.payload) if upgrade is None else upgrade.image_hash
    unsigned = ", not signed" if upgrade is not None and upgrade.signature == UNSIGNED else ""
    click.echo(f"{path}: {len(octets)} octets, {form}, CPL hash {_hex(digest)}{unsigned}")
