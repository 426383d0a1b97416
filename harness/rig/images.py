"""Images for tests, and images from files."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.rig.nouns import Device
from harness.rig.profile import PpmidProfile
from harness.wire.image import OtaImage, parse_image

DEFAULT_SIZE = 64 * 1024
_HEADER_LENGTH = 60  # with the hardware versions, as every GB image has them


def make_image(source: random.Random) -> Callable[..., OtaImage]:
    """Return a maker of images with payloads from `source`, each one that its target takes."""

    def new_image(*, target: Device, size: int = DEFAULT_SIZE, version: int | None = None) -> OtaImage:
        """Make an image of `size` octets, header included; its version is one above the target's unless given."""
        profile = target.profile
        if not isinstance(profile, PpmidProfile):
            raise LocalProtocolError(f"{target.name} is a {profile.role}, which takes no OTA image")
        if size <= _HEADER_LENGTH:
            raise LocalProtocolError(
                f"an image is longer than its header of {_HEADER_LENGTH} octets (size={size})"
            )
        return OtaImage(
            manufacturer=profile.manufacturer_code,
            image_type=profile.image_type,
            version=target.version_at_start + 1 if version is None else version,
            payload=source.randbytes(size - _HEADER_LENGTH),
            header_string=b"test image of the HAN harness",
            hardware_min=profile.hardware_version,
            hardware_max=profile.hardware_version,
        )

    return new_image


def read_image(path: Path) -> OtaImage:
    """Read an OTA file; RigError with the file's name for one that cannot be read or is no good."""
    try:
        return parse_image(path.read_bytes())
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error
    except RemoteProtocolError as error:
        raise RigError(f"{path}: {error}") from error
