"""The octets that a hub's waiting images outlive a power cut in: a damage loses what it hits, and names it."""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Sequence
from typing import NamedTuple

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.image_store_values import ImageLost, LossReason, SnapshotLost, WaitingImage
from harness.members.kinds import DeviceKind
from harness.wire.image import build_image, parse_image

# Header, its copy; each entry, its copy; the images. What names an image lies ahead of all images, so that a file cut
# short can still say which it lost; and twice, so that no single damage loses a name.
MAGIC = b"HIS1"
_HEADER = struct.Struct("<4sH")  # magic, number of entries
_ENTRY = struct.Struct("<BQIdHQI32s")  # kind, target, version, stored at, failures, offset, length, SHA-256
_CHECK = struct.Struct("<I")  # CRC-32 behind each of them
HEADER_LENGTH = 2 * (_HEADER.size + _CHECK.size)
ENTRY_LENGTH = 2 * (_ENTRY.size + _CHECK.size)
_MOST_IMAGES = 0xFFFF
_MOST_FAILURES = 0xFFFF

# On file; never to be renumbered.
_KINDS = {
    0: DeviceKind.ESME,
    1: DeviceKind.GSME,
    2: DeviceKind.HCALCS,
    3: DeviceKind.PPMID,
    4: DeviceKind.BRIDGE,
    5: DeviceKind.IHD,
}
_NUMBERS = {kind: number for number, kind in _KINDS.items()}


class _Entry(NamedTuple):
    kind: DeviceKind
    target: int
    version: int
    stored_at: float
    failures: int
    offset: int
    length: int
    digest: bytes


def _twice(packed: bytes) -> bytes:
    return (packed + _CHECK.pack(zlib.crc32(packed))) * 2


def build_snapshot(waiting: Sequence[WaitingImage]) -> bytes:
    """Return the octets of these images. What a transfer had reached is not in them: it ends with the power."""
    if len(waiting) > _MOST_IMAGES:
        raise LocalProtocolError(
            f"image store: a snapshot of {len(waiting)} images, {_MOST_IMAGES} are the most"
        )
    entries, bodies = [], []
    offset = HEADER_LENGTH + ENTRY_LENGTH * len(waiting)
    for held in waiting:
        body = build_image(held.image)
        entries.append(
            _twice(
                _ENTRY.pack(
                    _NUMBERS[held.kind],
                    held.target,
                    held.version,
                    held.stored_at,
                    min(held.failures, _MOST_FAILURES),
                    offset,
                    len(body),
                    hashlib.sha256(body).digest(),
                )
            )
        )
        bodies.append(body)
        offset += len(body)
    return b"".join((_twice(_HEADER.pack(MAGIC, len(waiting))), *entries, *bodies))


def read_snapshot(data: bytes) -> tuple[list[WaitingImage], list[ImageLost | SnapshotLost]]:
    """Return the images that are whole, and what is lost. Raises nothing, whatever the octets are."""
    images: list[WaitingImage] = []
    lost: list[ImageLost | SnapshotLost] = []
    count = _read_count(data)
    if count is None:
        lost.append(SnapshotLost(len(data)))
    index = 0
    while count is None or index < count:
        entry = _read_entry(data, HEADER_LENGTH + ENTRY_LENGTH * index)
        index += 1
        if entry is None:
            if count is None:
                break  # nothing says that there ever was one more
            cut = len(data) < HEADER_LENGTH + ENTRY_LENGTH * index
            lost.append(ImageLost(None, None, LossReason.CUT_SHORT if cut else LossReason.DAMAGED))
            continue
        found = _read_image(data, entry)
        if isinstance(found, WaitingImage):
            images.append(found)
        else:
            lost.append(found)
    return images, lost


def _whole(shape: struct.Struct, data: bytes, offset: int) -> bytes | None:
    """Return what stands at `offset` in the first of its two copies whose checksum is right."""
    step = shape.size + _CHECK.size
    for start in (offset, offset + step):
        packed = data[start : start + shape.size]
        if data[start + shape.size : start + step] == _CHECK.pack(zlib.crc32(packed)):
            return packed
    return None


def _read_count(data: bytes) -> int | None:
    packed = _whole(_HEADER, data, 0)
    if packed is None:
        return None
    magic, count = _HEADER.unpack(packed)
    return int(count) if magic == MAGIC else None


def _read_entry(data: bytes, offset: int) -> _Entry | None:
    packed = _whole(_ENTRY, data, offset)
    if packed is None:
        return None
    number, *fields = _ENTRY.unpack(packed)
    kind = _KINDS.get(number)
    if kind is None:
        return None
    entry = _Entry(kind, *fields)
    return entry if math.isfinite(entry.stored_at) else None


def _read_image(data: bytes, entry: _Entry) -> WaitingImage | ImageLost:
    body = data[entry.offset : entry.offset + entry.length]
    if len(body) < entry.length:
        return ImageLost(entry.target, entry.version, LossReason.CUT_SHORT)
    damaged = ImageLost(entry.target, entry.version, LossReason.DAMAGED)
    if hashlib.sha256(body).digest() != entry.digest:
        return damaged
    try:
        image = parse_image(body)
    except RemoteProtocolError:
        return damaged
    if image.version != entry.version:
        return damaged
    return WaitingImage(entry.kind, entry.target, image, entry.stored_at, failures=entry.failures)
