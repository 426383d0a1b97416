"""Images for tests, and images from files."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from cryptography.hazmat.primitives.asymmetric import ec

from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.members.firmware_values import UNSTARTABLE
from harness.members.kinds import ACTIVATED_BY_COMMAND
from harness.rig.nouns import Device
from harness.rig.profile import BridgeProfile, UpgradableProfile
from harness.rig.supplier import supplier_of
from harness.wire.gbcs_image import TRAILER_LENGTH, build_upgrade_image, parse_upgrade_image, sign_image
from harness.wire.image import OtaImage, parse_image
from harness.wire.package import Bridge, Package, PackagePart, build_package

DEFAULT_SIZE = 64 * 1024
_HEADER_LENGTH = 60  # with the hardware versions, as every GB image has them


def make_image(source: random.Random) -> Callable[..., OtaImage]:
    """Return a maker of images with payloads from `source`, each one that its target takes."""

    def new_image(
        *,
        target: Device,
        size: int = DEFAULT_SIZE,
        version: int | None = None,
        force_replace: int = 0,
        signed_by: Literal["supplier", "stranger"] | None = "supplier",
        starts: bool = True,
    ) -> OtaImage:
        """Make an image of about `size` octets, header included; its version is one above the target's unless given.

        For an ESME, GSME or HCALCS it is signed by the rig's Supplier, with that Force Replace octet; `signed_by`
        "stranger" has it signed with a key that nobody knows, None leaves out the octet and the signature. For a bridge
        that feeds others it is a package, with a part of `size` octets for each of them, too. One that does not start
        is such for the harness' own devices only.
        """
        version = target.version_at_start + 1 if version is None else version
        image = _plain(source, target, size, version)
        if not starts:
            image = replace(image, payload=UNSTARTABLE + image.payload[len(UNSTARTABLE) :])
        if target.feeds and isinstance(target.profile, BridgeProfile):
            parts = [PackagePart(Bridge[target.profile.bridge], image)]
            for device in target.feeds:
                assert isinstance(device.profile, BridgeProfile)  # load_rig saw to it
                part = _plain(source, device, size, version)
                parts.append(PackagePart(Bridge[device.profile.bridge], part))
            package = Package(tuple(sorted(parts, key=lambda part: part.bridge)))
            return replace(image, payload=build_package(package))
        if target.device_kind not in ACTIVATED_BY_COMMAND:
            return image
        manufacturer_image = image.payload[:-TRAILER_LENGTH]
        if signed_by is None:
            # Of the same size; octets of chance could pass for a trailer.
            return replace(image, payload=manufacturer_image + bytes(TRAILER_LENGTH))
        supplier = supplier_of(target.rig.file)
        if supplier is None:
            raise RigError(
                f"{target.rig.file.path}: supplier: is missing: nobody can sign an image for {target.name}"
            )
        key = supplier.private_key
        if signed_by == "stranger":
            key = ec.derive_private_key(source.getrandbits(255) + 1, ec.SECP256R1())
        upgrade = sign_image(manufacturer_image, key, force_replace=force_replace)
        return replace(image, payload=build_upgrade_image(upgrade))

    return new_image


def image_hash_of(image: OtaImage) -> bytes:
    """Return the Manufacturer Image Hash of an image for an ESME, GSME or HCALCS: what SR11.3 names it by.

    RemoteProtocolError for an image that does not end in Force Replace and a signature, as a PPMID's does not.
    """
    return parse_upgrade_image(image.payload).image_hash


def _plain(source: random.Random, target: Device, size: int, version: int) -> OtaImage:
    profile = target.profile
    if not isinstance(profile, UpgradableProfile):
        raise LocalProtocolError(
            f"{target.name} takes no OTA image: the role of its profile is {profile.role}"
        )
    least = _HEADER_LENGTH + TRAILER_LENGTH
    if size <= least:
        raise LocalProtocolError(
            f"an image is longer than its header and trailer of {least} octets (size={size})"
        )
    return OtaImage(
        manufacturer=profile.manufacturer_code,
        image_type=profile.image_type,
        version=version,
        payload=source.randbytes(size - _HEADER_LENGTH),
        header_string=b"test image of the HAN harness",
        hardware_min=profile.hardware_version,
        hardware_max=profile.hardware_version,
    )


def read_image(path: Path) -> OtaImage:
    """Read an OTA file; RigError with the file's name for one that cannot be read or is no good."""
    try:
        return parse_image(path.read_bytes())
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error
    except RemoteProtocolError as error:
        raise RigError(f"{path}: {error}") from error
