"""The Zigbee OTA upgrade file: its header, its payload, the sub-elements that some payloads are made of."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError

FILE_IDENTIFIER = 0x0BEEF11E  # ZCL8 11.4.2.1
HEADER_VERSION = 0x0100  # ZCL8 11.4.2.2
STACK_PRO = 0x0002  # ZCL8 11.4.2.8: ZigBee Pro, what every GB HAN device runs
HEADER_STRING_LENGTH = 32

# ZCL8 11.4.2.4: field control.
_SECURITY_CREDENTIAL = 0x0001
_DESTINATION = 0x0002
_HARDWARE_VERSIONS = 0x0004
_KNOWN_FIELDS = _SECURITY_CREDENTIAL | _DESTINATION | _HARDWARE_VERSIONS

_FIXED = struct.Struct("<IHHHHHIH32sI")
_HARDWARE = struct.Struct("<HH")
_ELEMENT = struct.Struct("<HI")
_LARGEST_FILE = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class OtaImage:
    """One OTA upgrade file. Hardware versions are both given or both None; the range includes both ends.

    `header_string` is the 32 octets of the file (a shorter one is padded with NUL when built); `destination` is
    the EUI-64 of the only device that the file is for; `payload` is everything after the header.
    """

    manufacturer: int
    image_type: int
    version: int
    payload: bytes
    stack_version: int = STACK_PRO
    header_string: bytes = bytes(HEADER_STRING_LENGTH)
    security_credential: int | None = None
    destination: int | None = None
    hardware_min: int | None = None
    hardware_max: int | None = None

    @property
    def header_length(self) -> int:
        """Octets of the header: 56 without options, 69 with all of them."""
        return _header_length(_field_control(self))

    @property
    def total_size(self) -> int:
        """Octets of the whole file, header included."""
        return self.header_length + len(self.payload)

    def fits_hardware(self, version: int) -> bool:
        """Whether a device of this hardware version may run the image (both ends of the range included)."""
        if self.hardware_min is None or self.hardware_max is None:
            return True
        return self.hardware_min <= version <= self.hardware_max


class SubElement(NamedTuple):
    """One tagged part of a payload (ZCL8 11.4.3). The images of the GB HAN have none."""

    tag: int
    data: bytes


def _field_control(image: OtaImage) -> int:
    return (
        (_SECURITY_CREDENTIAL if image.security_credential is not None else 0)
        | (_DESTINATION if image.destination is not None else 0)
        | (_HARDWARE_VERSIONS if image.hardware_min is not None else 0)
    )


def _header_length(field_control: int) -> int:
    return (
        _FIXED.size
        + (1 if field_control & _SECURITY_CREDENTIAL else 0)
        + (8 if field_control & _DESTINATION else 0)
        + (4 if field_control & _HARDWARE_VERSIONS else 0)
    )


def _check_range(name: str, value: int | None, bits: int) -> None:
    if value is not None and not 0 <= value < 1 << bits:
        raise LocalProtocolError(f"OTA image: {name} {value:#x} does not fit {bits} bits")


def build_image(image: OtaImage) -> bytes:
    """The octets of the file. LocalProtocolError when a field does not fit its place."""
    _check_range("manufacturer code", image.manufacturer, 16)
    _check_range("image type", image.image_type, 16)
    _check_range("file version", image.version, 32)
    _check_range("stack version", image.stack_version, 16)
    _check_range("security credential version", image.security_credential, 8)
    _check_range("destination", image.destination, 64)
    _check_range("minimum hardware version", image.hardware_min, 16)
    _check_range("maximum hardware version", image.hardware_max, 16)
    if len(image.header_string) > HEADER_STRING_LENGTH:
        raise LocalProtocolError(
            f"OTA image: header string of {len(image.header_string)} octets, 32 are the most"
        )
    if (image.hardware_min is None) != (image.hardware_max is None):
        raise LocalProtocolError("OTA image: a hardware version range needs both its minimum and its maximum")
    if image.total_size > _LARGEST_FILE:
        raise LocalProtocolError(f"OTA image: {image.total_size} octets are more than 32 bits can state")
    field_control = _field_control(image)
    parts = [
        _FIXED.pack(
            FILE_IDENTIFIER,
            HEADER_VERSION,
            _header_length(field_control),
            field_control,
            image.manufacturer,
            image.image_type,
            image.version,
            image.stack_version,
            image.header_string,
            image.total_size,
        )
    ]
    if image.security_credential is not None:
        parts.append(bytes((image.security_credential,)))
    if image.destination is not None:
        parts.append(image.destination.to_bytes(8, "little"))
    if image.hardware_min is not None and image.hardware_max is not None:
        parts.append(_HARDWARE.pack(image.hardware_min, image.hardware_max))
    parts.append(image.payload)
    return b"".join(parts)


def parse_image(data: bytes) -> OtaImage:
    """Read one whole file: nothing missing, nothing behind it. RemoteProtocolError says what is wrong.

    What is accepted builds back to the same octets.
    """
    if len(data) >= 4 and (identifier := int.from_bytes(data[:4], "little")) != FILE_IDENTIFIER:
        raise RemoteProtocolError(
            f"not an OTA file: it begins with the identifier {identifier:#010x}, not {FILE_IDENTIFIER:#010x}"
        )
    if len(data) < _FIXED.size:
        raise RemoteProtocolError(f"OTA file is truncated: {len(data)} octets, a header has {_FIXED.size}")
    fields = _FIXED.unpack_from(data)
    _, header_version, header_length, field_control = fields[:4]
    manufacturer, image_type, version, stack_version, text, total = fields[4:]
    if header_version != HEADER_VERSION:
        raise RemoteProtocolError(f"OTA header version {header_version:#06x} is not {HEADER_VERSION:#06x}")
    if field_control & ~_KNOWN_FIELDS:
        raise RemoteProtocolError(f"OTA header field control {field_control:#06x} announces unknown fields")
    if header_length != _header_length(field_control):
        raise RemoteProtocolError(
            f"OTA header length {header_length} is wrong: the fields that it announces take"
            f" {_header_length(field_control)} octets"
        )
    if total < header_length:
        raise RemoteProtocolError(
            f"OTA total image size {total} is less than its header length {header_length}"
        )
    if len(data) < total:
        raise RemoteProtocolError(f"OTA file is truncated: {len(data)} of the {total} octets that it states")
    if len(data) > total:
        raise RemoteProtocolError(
            f"OTA file has {len(data) - total} trailing octets: {len(data)} where its header states {total}"
        )
    offset = _FIXED.size
    security_credential = destination = hardware_min = hardware_max = None
    if field_control & _SECURITY_CREDENTIAL:
        security_credential = data[offset]
        offset += 1
    if field_control & _DESTINATION:
        destination = int.from_bytes(data[offset : offset + 8], "little")
        offset += 8
    if field_control & _HARDWARE_VERSIONS:
        hardware_min, hardware_max = _HARDWARE.unpack_from(data, offset)
        offset += _HARDWARE.size
    return OtaImage(
        manufacturer=manufacturer,
        image_type=image_type,
        version=version,
        payload=bytes(data[offset:]),
        stack_version=stack_version,
        header_string=text,
        security_credential=security_credential,
        destination=destination,
        hardware_min=hardware_min,
        hardware_max=hardware_max,
    )


def build_sub_elements(elements: Iterable[SubElement]) -> bytes:
    """A payload made of sub-elements. LocalProtocolError when a tag does not fit 16 bits."""
    parts = []
    for tag, data in elements:
        _check_range("sub-element tag", tag, 16)
        parts.append(_ELEMENT.pack(tag, len(data)) + data)
    return b"".join(parts)


def parse_sub_elements(payload: bytes) -> tuple[SubElement, ...]:
    """Read a payload that is made of sub-elements. RemoteProtocolError when they do not fill it exactly."""
    elements = []
    offset = 0
    while offset < len(payload):
        if offset + _ELEMENT.size > len(payload):
            raise RemoteProtocolError(f"OTA sub-element at octet {offset} is cut off in its tag or length")
        tag, length = _ELEMENT.unpack_from(payload, offset)
        offset += _ELEMENT.size
        if offset + length > len(payload):
            raise RemoteProtocolError(
                f"OTA sub-element {tag:#06x} states {length} octets, the payload has {len(payload) - offset} left"
            )
        elements.append(SubElement(tag, bytes(payload[offset : offset + length])))
        offset += length
    return tuple(elements)
