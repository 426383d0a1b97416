"""What can be read of an OTA file, whole or damaged, and everything that is wrong with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from harness.errors import RemoteProtocolError
from harness.wire.gbcs import SIGNATURE_LENGTH
from harness.wire.gbcs_image import TRAILER_LENGTH, UpgradeImage, image_hash, parse_upgrade_image
from harness.wire.image import FILE_IDENTIFIER, HEADER_VERSION, SubElement, parse_sub_elements
from harness.wire.package import PACKAGE_MAGIC, Package, parse_package

UNSIGNED: Final = bytes(SIGNATURE_LENGTH)
"""What stands in the place of the signature of a GBCS image that nobody has signed yet."""

# ZCL8 11.4.2: the fields of the header in their order; the optional ones by their bit of the field control.
_FIXED: Final = (
    ("file_identifier", 4),
    ("header_version", 2),
    ("header_length", 2),
    ("field_control", 2),
    ("manufacturer", 2),
    ("image_type", 2),
    ("version", 4),
    ("stack_version", 2),
    ("header_string", 32),
    ("total_size", 4),
)
_OPTIONAL: Final = (
    (0x0001, "security_credential", 1),
    (0x0002, "destination", 8),
    (0x0004, "hardware_min", 2),
    (0x0004, "hardware_max", 2),
)
_KNOWN_FIELDS: Final = 0x0007
# FIPS 186-4 D.1.2.3: the order of P-256; both halves of a signature are less, and neither is 0.
_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551


class Form(StrEnum):
    """What the payload of an OTA file is, by who it is for."""

    GBCS = "gbcs"  # ESME, GSME, HCALCS: an Upgrade Image, with Force Replace and a signature (GBCS 11.2.2)
    PLAIN = "plain"  # PPMID, bridge: a Manufacturer Image and nothing else


@dataclass(frozen=True, slots=True)
class ImageReading:
    """What a file holds as far as it goes. A field of the header that is absent or cut off is not in `header`.

    `form` is None where the end of the payload is missing and with it what tells the forms apart; so are the values
    that need the whole payload. `problems` are sentences, empty when nothing is wrong.
    """

    size: int
    header: Mapping[str, int]
    header_string: bytes | None
    payload: bytes
    form: Form | None
    manufacturer_image: bytes | None
    upgrade: UpgradeImage | None
    sub_elements: tuple[SubElement, ...]
    package: Package | None
    problems: tuple[str, ...]

    @property
    def cpl_hash(self) -> bytes | None:
        """The Manufacturer Image Hash that the CPL and CS06 name; of a plain image, that of its whole payload."""
        return None if self.manufacturer_image is None else image_hash(self.manufacturer_image)


def find_form(payload: bytes) -> Form:
    """Tell the forms apart by the octet 0x40 (the signature's length) where a GBCS image has it, 65 from the end.

    A heuristic: nothing in the file states its form, and one plain image in 256 has that octet there by chance.
    """
    if len(payload) < TRAILER_LENGTH or payload[1 - TRAILER_LENGTH] != SIGNATURE_LENGTH:
        return Form.PLAIN
    return Form.GBCS if _package(payload) is None else Form.PLAIN


def read_whatever_is_there(data: bytes, form: Form | None = None) -> ImageReading:
    """Read a file as far as it goes. Nothing is raised: what is wrong is in `problems`.

    No problems means that `parse_image` takes the file. `form` None: `find_form` tells.
    """
    problems: list[str] = []
    header, header_string, end = _read_header(data, problems)
    start = _payload_start(header, end, len(data), problems)
    total = header.get("total_size")
    stop = len(data)
    if total is not None and start is not None:
        if total < start:
            problems.append(f"its total image size {total} is less than its header, which has {start} octets")
        elif total < stop:
            problems.append(f"{stop - total} trailing octets: {stop} where its header states {total}")
            stop = total
        elif total > stop:
            problems.append(f"it is truncated: {stop} of the {total} octets that its header states")
    whole = total is not None and start is not None and start <= total <= len(data)
    payload = b"" if start is None else bytes(data[start:stop])
    if whole and form is None:
        form = find_form(payload)
    upgrade = manufacturer_image = package = None
    elements: tuple[SubElement, ...] = ()
    if whole:
        manufacturer_image = payload
        if form is Form.GBCS:
            upgrade = _upgrade_image(payload, problems)
            manufacturer_image = None if upgrade is None else upgrade.manufacturer_image
    if manufacturer_image is not None:
        if not manufacturer_image:
            problems.append("its Manufacturer Image is empty")
        elements = _sub_elements(manufacturer_image)
        package = _package(manufacturer_image, problems)
    return ImageReading(
        size=len(data),
        header=header,
        header_string=header_string,
        payload=payload,
        form=form,
        manufacturer_image=manufacturer_image,
        upgrade=upgrade,
        sub_elements=elements,
        package=package,
        problems=tuple(problems),
    )


def _read_header(data: bytes, problems: list[str]) -> tuple[dict[str, int], bytes | None, int | None]:
    """The fields that are there, and where they end; None where the file ends first."""
    header: dict[str, int] = {}
    header_string = None
    offset = 0
    for name, length in _fields(header):
        octets = data[offset : offset + length]
        if len(octets) < length:
            problems.append(f"it is truncated: {len(data)} octets, it ends before its {_words(name)} does")
            return header, header_string, None
        offset += length
        if name == "header_string":
            header_string = bytes(octets)
        else:
            header[name] = int.from_bytes(octets, "little")
            problems.extend(_wrong_value(name, header[name]))
    minimum, maximum = header.get("hardware_min", 0), header.get("hardware_max", 0xFFFF)
    if minimum > maximum:
        problems.append(
            f"no device can run it: its minimum hardware version {minimum:#06x} is above its maximum {maximum:#06x}"
        )
    return header, header_string, offset


def _fields(header: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    yield from _FIXED
    # Asked for only now: the reader has put the field control there.
    yield from ((name, length) for bit, name, length in _OPTIONAL if header["field_control"] & bit)


def _wrong_value(name: str, value: int) -> Iterator[str]:
    if name == "file_identifier" and value != FILE_IDENTIFIER:
        yield f"not an OTA file: it begins with the identifier {value:#010x}, not {FILE_IDENTIFIER:#010x}"
    if name == "header_version" and value != HEADER_VERSION:
        yield f"its header version {value:#06x} is not {HEADER_VERSION:#06x}"
    if name == "field_control" and value & ~_KNOWN_FIELDS:
        yield f"its field control {value:#06x} announces unknown fields"


def _payload_start(header: Mapping[str, int], end: int | None, size: int, problems: list[str]) -> int | None:
    """Where the payload begins: where the header says that it ends if that can be, else behind its last field."""
    if end is None:
        return None
    stated = header["header_length"]
    if stated == end:
        return end
    problems.append(f"its header length {stated} is wrong: the fields that it announces take {end} octets")
    return stated if end < stated <= size else end


def _upgrade_image(payload: bytes, problems: list[str]) -> UpgradeImage | None:
    try:
        upgrade = parse_upgrade_image(payload)
    except RemoteProtocolError as error:
        problems.append(str(error))
        return None
    half = SIGNATURE_LENGTH // 2
    if upgrade.signature == UNSIGNED:
        problems.append("it is not signed: the place of its signature is filled with zeros")
    elif not all(
        0 < int.from_bytes(part, "big") < _ORDER
        for part in (upgrade.signature[:half], upgrade.signature[half:])
    ):
        problems.append("its signature is nobody's: r or s is not between 1 and the order of P-256")
    return upgrade


def _sub_elements(manufacturer_image: bytes) -> tuple[SubElement, ...]:
    """The sub-elements where they fill it and none is empty: nothing else in the file says that it has them."""
    try:
        elements = parse_sub_elements(manufacturer_image)
    except RemoteProtocolError:
        return ()
    return elements if all(element.data for element in elements) else ()


def _package(payload: bytes, problems: list[str] | None = None) -> Package | None:
    if not payload.startswith(PACKAGE_MAGIC):
        return None
    try:
        return parse_package(payload)
    except RemoteProtocolError as error:
        if problems is not None:
            problems.append(str(error))
        return None


def _words(name: str) -> str:
    return name.replace("_", " ")
