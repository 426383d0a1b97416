"""A package for Alt HAN bridges: the images of several bridges in one file, which one of them hands to the others.

MP170 has such packages (option A: B3 and B4; option B: every bridge of a site) and leaves their format to the
manufacturer; none is public. This container is the project's own (basis: assumed). It is the payload of a plain OTA
file for the bridge that the Communications Hub feeds, little-endian as all of that file:

    8 octets `HANBRPKG`, 1 octet format version, 1 octet count,
    for each bridge in ascending order: 1 octet bridge (1 is B1), 4 octets length of its OTA file,
    the OTA files in the same order, and nothing behind them.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire.image import OtaImage, build_image, parse_image

PACKAGE_MAGIC: Final = b"HANBRPKG"
PACKAGE_VERSION: Final = 1

_HEAD = struct.Struct("<8sBB")
_ENTRY = struct.Struct("<BI")


class Bridge(IntEnum):
    """The kinds of bridge of MP170, by the number in a package."""

    B1 = 1
    B2 = 2
    B3 = 3
    B4 = 4


@dataclass(frozen=True, slots=True)
class PackagePart:
    """The image of one bridge."""

    bridge: Bridge
    image: OtaImage


@dataclass(frozen=True, slots=True)
class Package:
    """The images that one file carries, in ascending order of their bridges."""

    parts: tuple[PackagePart, ...]

    @property
    def bridges(self) -> tuple[Bridge, ...]:
        """The bridges that it is for."""
        return tuple(part.bridge for part in self.parts)

    def image_for(self, bridge: Bridge) -> OtaImage | None:
        """The image of a bridge, None when the package has none for it."""
        return next((part.image for part in self.parts if part.bridge == bridge), None)


def build_package(package: Package) -> bytes:
    """The octets of a package. LocalProtocolError when it is empty, or its bridges do not ascend."""
    if not package.parts:
        raise LocalProtocolError("a package without any image feeds no bridge")
    for before, after in pairwise(package.bridges):
        if before >= after:
            raise LocalProtocolError(f"package: {after.name} stands behind {before.name}, they must ascend")
    files = [build_image(part.image) for part in package.parts]
    entries = [_ENTRY.pack(part.bridge, len(file)) for part, file in zip(package.parts, files, strict=True)]
    return b"".join([_HEAD.pack(PACKAGE_MAGIC, PACKAGE_VERSION, len(files)), *entries, *files])


def parse_package(payload: bytes) -> Package:
    """Read the payload of an OTA file that is a package. RemoteProtocolError says what is wrong with it.

    What is accepted builds back to the same octets.
    """
    if not payload.startswith(PACKAGE_MAGIC):
        raise RemoteProtocolError(
            f"not a package for bridges: it begins with {payload[: len(PACKAGE_MAGIC)].hex() or 'nothing'}"
        )
    if len(payload) < _HEAD.size:
        raise RemoteProtocolError(f"package is truncated: {len(payload)} octets, its head has {_HEAD.size}")
    _, version, count = _HEAD.unpack_from(payload)
    if version != PACKAGE_VERSION:
        raise RemoteProtocolError(f"package format {version} is not {PACKAGE_VERSION}")
    if not count:
        raise RemoteProtocolError("package without any image")
    offset = _HEAD.size + count * _ENTRY.size
    if len(payload) < offset:
        raise RemoteProtocolError(
            f"package is truncated: {len(payload)} octets, its {count} entries end at {offset}"
        )
    parts: list[PackagePart] = []
    for number, length in _ENTRY.iter_unpack(payload[_HEAD.size : offset]):
        if not Bridge.B1 <= number <= Bridge.B4:
            raise RemoteProtocolError(f"package names bridge {number}, which is none of B1 to B4")
        bridge = Bridge(number)
        if parts and parts[-1].bridge >= bridge:
            raise RemoteProtocolError(f"package names {bridge.name} behind {parts[-1].bridge.name}")
        if offset + length > len(payload):
            raise RemoteProtocolError(
                f"package is truncated: {bridge.name} has {length} octets, {len(payload) - offset} are left"
            )
        try:
            image = parse_image(payload[offset : offset + length])
        except RemoteProtocolError as error:
            raise RemoteProtocolError(f"package, image of {bridge.name}: {error}") from None
        parts.append(PackagePart(bridge, image))
        offset += length
    if offset != len(payload):
        raise RemoteProtocolError(f"package has {len(payload) - offset} trailing octets")
    return Package(tuple(parts))


def check_package(package: Package, on_site: Iterable[Bridge]) -> None:
    """RemoteProtocolError when a package lacks one of the bridges that it must feed, or is for another one too.

    Option A: B3 and B4. Option B: every bridge of the site (MP170: "the package must match the bridges on site").
    """
    wanted = tuple(on_site)
    lacking = [bridge.name for bridge in wanted if bridge not in package.bridges]
    if lacking:
        raise RemoteProtocolError(f"package lacks the image of {', '.join(lacking)}")
    strange = [bridge.name for bridge in package.bridges if bridge not in wanted]
    if strange:
        raise RemoteProtocolError(f"package has an image for {', '.join(strange)}, not one of its bridges")
