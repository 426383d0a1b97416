"""The Communications Hub's store of waiting firmware images: who is kept, who gives way, and what is told of it."""

from __future__ import annotations

import struct
from dataclasses import replace

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.image_store_file import build_snapshot, read_snapshot
from harness.members.image_store_values import (
    DiscardCause,
    ImageDiscarded,
    ImageExpired,
    ImageLost,
    ImageRefused,
    ImageStored,
    ImageTransferred,
    LossReason,
    RefusalReason,
    StoreEvent,
    StorePolicy,
    TransferAlert,
    TransferFailed,
    Verdict,
    Victim,
    WaitingImage,
)
from harness.members.kinds import DeviceKind
from harness.wire.gbcs_image import parse_upgrade_image
from harness.wire.gbcs_names import FIRMWARE_TRANSFER_FAILED, FIRMWARE_TRANSFERRED
from harness.wire.gbcs_payloads import TransferResponse
from harness.wire.image import FILE_IDENTIFIER, OtaImage, build_image, parse_image

_VERSION = struct.Struct("<I10xI")  # file identifier ... file version: the head of an OTA header, ZCL8 11.4.2


class ImageStore:
    """The images that wait in one hub, at most one a target (EUI-64), by a policy. Times in seconds.

    An image that came in has exactly one end: refused, discarded, expired, lost or transferred. It says nothing on the
    HAN: its owner offers what is stored, aborts what is discarded, and sends each `TransferAlert` as CCS08.
    """

    def __init__(self, policy: StorePolicy) -> None:
        self.policy = policy
        self._held: dict[int, WaitingImage] = {}  # by target, in the order of arrival

    @property
    def waiting(self) -> tuple[WaitingImage, ...]:
        """What waits or is being transferred, in the order of arrival."""
        return tuple(self._held.values())

    def get(self, target: int) -> WaitingImage | None:
        """Return what waits for a target; None: nothing does."""
        return self._held.get(target)

    # --- what arrives --------------------------------------------------------------------------------------------

    def receive(
        self,
        image: bytes | OtaImage,
        kind: DeviceKind,
        target: int,
        now: float,
        *,
        hardware: int | None = None,
    ) -> list[StoreEvent]:
        """Take an image that the WAN delivered for `target`, and say what becomes of it and of those in its way.

        `hardware` is the target's hardware version where it is known by now; see `hardware_learned`. A file that is
        none is refused. LocalProtocolError for a target that is no EUI-64, or waits as another kind, and for an
        `OtaImage` that does not build.
        """
        if not 0 <= target < 1 << 64:
            raise LocalProtocolError(f"image store: target {target:#x} is no EUI-64")
        same = self._held.get(target)
        if same is not None and same.kind is not kind:
            raise LocalProtocolError(f"image store: {target:#018x} is {kind}, and was {same.kind}")
        data = build_image(image) if isinstance(image, OtaImage) else bytes(image)
        limit = self.policy.size_limit
        if limit is not None and len(data) > limit:
            detail = f"the file has {len(data)} octets, {limit} are the most"
            return self._refuse(target, _stated_version(data), RefusalReason.TOO_LARGE, detail)
        try:
            parsed = parse_image(data)
        except RemoteProtocolError as error:
            return self._refuse(target, _stated_version(data), RefusalReason.MALFORMED, str(error))
        force_replace = 0
        if kind in self.policy.trailer_kinds:
            try:
                force_replace = parse_upgrade_image(parsed.payload).force_replace
            except RemoteProtocolError as error:
                if self.policy.checks_trailer:
                    return self._refuse(target, parsed.version, RefusalReason.NO_TRAILER, str(error))
        forced = self.policy.force_replace_forces and force_replace != 0
        if not self._fits(parsed, hardware):
            return self._refuse(
                target,
                parsed.version,
                RefusalReason.HARDWARE_VERSION_MISMATCH,
                _mismatch(parsed, hardware),
            )
        place = self._place(kind, target, parsed.version, forced=forced)
        if isinstance(place, ImageRefused):
            return self._refuse(target, place.version, place.reason, place.detail)
        events: list[StoreEvent] = []
        if place is not None:
            events += self._discard(place, DiscardCause.OVERWRITTEN, by=target)
        self._held[target] = WaitingImage(kind, target, parsed, now)
        return [*events, ImageStored(target, parsed.version)]

    def hardware_learned(self, target: int, hardware: int) -> list[StoreEvent]:
        """A device said which hardware it is, as it does when it asks for an image; one that excludes it goes."""
        held = self._held.get(target)
        if held is None or self._fits(held.image, hardware):
            return []
        return self._discard(
            held, DiscardCause.HARDWARE_VERSION_MISMATCH, TransferResponse.HARDWARE_VERSION_MISMATCH
        )

    def _fits(self, image: OtaImage, hardware: int | None) -> bool:
        return not self.policy.checks_hardware or hardware is None or image.fits_hardware(hardware)

    def _place(
        self, kind: DeviceKind, target: int, version: int, *, forced: bool
    ) -> WaitingImage | ImageRefused | None:
        """Return which image gives way (None: a slot is free), or why the arriving one does."""
        policy = self.policy
        group = policy.group_of(kind)
        if group is None:
            return ImageRefused(target, version, RefusalReason.NO_SLOT, f"this hub keeps no image for {kind}")
        same = self._held.get(target)
        if same is not None:
            if not forced and policy.same_target_newer_only and version <= same.version:
                detail = f"version {same.version:#010x} waits for the same device"
                return ImageRefused(target, version, RefusalReason.NOT_NEWER, detail)
            rivals, verdicts, reason = [same], [policy.same_target], RefusalReason.SAME_TARGET
        else:
            rivals = [held for held in self._held.values() if held.kind in group.kinds]
            if len(rivals) < group.slots:
                return None
            verdicts = [policy.precedence[kind, rival.kind] for rival in rivals]
            reason = RefusalReason.PRECEDENCE
        yielding = [
            rival
            for rival, verdict in zip(rivals, verdicts, strict=True)
            if forced or verdict.yields(transferring=rival.transferring)
        ]
        if yielding:
            return yielding[0 if policy.victim is Victim.OLDEST else -1]
        if Verdict.OVERWRITE_WAITING in verdicts:
            reason = RefusalReason.TRANSFER_UNDER_WAY
        keepers = ", ".join(f"{rival.kind} {rival.target:#018x}" for rival in rivals)
        return ImageRefused(target, version, reason, f"the image for {keepers} stays")

    # --- the transfer --------------------------------------------------------------------------------------------

    def started(self, target: int) -> None:
        """The target fetches its image, from the first octet. LocalProtocolError when none waits."""
        self._held[target] = replace(self._waiting_for(target), offset=0)

    def progressed(self, target: int, offset: int) -> None:
        """So many octets went to the target. LocalProtocolError when none waits, or when there are not so many."""
        held = self._waiting_for(target)
        if not 0 <= offset <= held.image.total_size:
            raise LocalProtocolError(
                f"image store: {offset} of the {held.image.total_size} octets for {target:#018x} went"
            )
        self._held[target] = replace(held, offset=offset)

    def transferred(self, target: int) -> list[StoreEvent]:
        """The target has its image whole. LocalProtocolError when none waits."""
        held = self._waiting_for(target)
        del self._held[target]
        return [
            ImageTransferred(target, held.version),
            TransferAlert(FIRMWARE_TRANSFERRED, TransferResponse.SUCCESS, target, held.version),
        ]

    def failed(self, target: int) -> list[StoreEvent]:
        """The transfer failed: the image waits for another attempt, or is given up. LocalProtocolError: none waits."""
        held = self._waiting_for(target)
        failures = held.failures + 1
        attempts = self.policy.transfer_attempts
        if attempts is not None and failures >= attempts:
            return self._discard(held, DiscardCause.TRANSFER_FAILED, TransferResponse.FILE_TRANSFER_FAILURE)
        self._held[target] = replace(held, offset=None, failures=failures)
        return [TransferFailed(target, held.version, failures)]

    def withdraw(self, target: int) -> list[StoreEvent]:
        """Throw away what waits for a target: somebody at the hub wants it so. LocalProtocolError when nothing does."""
        return self._discard(self._waiting_for(target), DiscardCause.WITHDRAWN)

    # --- time ----------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next image expires; None: none does, as things stand."""
        due = [at for held in self._held.values() if (at := self._expiry(held)) is not None]
        return min(due, default=None)

    def expire(self, now: float) -> list[StoreEvent]:
        """Throw away what waited long enough, in the order of arrival."""
        events: list[StoreEvent] = []
        for held in self.waiting:
            due = self._expiry(held)
            if due is not None and now >= due:
                del self._held[held.target]
                events.append(ImageExpired(held.target, held.version, held.offset))
                events.append(_loss(held.target, held.version))
        return events

    def _expiry(self, held: WaitingImage) -> float | None:
        retention = self.policy.retention_seconds
        if retention is None or (held.transferring and not self.policy.expires_during_transfer):
            return None
        return held.stored_at + retention

    # --- a power cut ---------------------------------------------------------------------------------------------

    def snapshot(self) -> bytes:
        """Return the octets to write down, so that `restore` has these images again after a power cut."""
        return build_snapshot(self.waiting)

    def restore(self, data: bytes) -> list[StoreEvent]:
        """Come up with what is whole of a snapshot, an alert for each image that is not; no octets make it fail.

        What was being transferred waits again. The clock is taken to be the one that the snapshot was made by.
        LocalProtocolError when this store holds images already.
        """
        if self._held:
            raise LocalProtocolError(f"image store: restored over {len(self._held)} images that wait")
        images, lost = read_snapshot(data)
        for held in images:
            group = self.policy.group_of(held.kind)
            full = group is None or (
                sum(other.kind in group.kinds for other in self._held.values()) >= group.slots
            )
            # The file may be another hub's, or an earlier policy's.
            if full or held.target in self._held:
                lost.append(ImageLost(held.target, held.version, LossReason.NO_ROOM))
            else:
                self._held[held.target] = held
        events: list[StoreEvent] = []
        for loss in lost:
            events.append(loss)
            if isinstance(loss, ImageLost) and loss.target is not None and loss.version is not None:
                events.append(_loss(loss.target, loss.version))
        return events

    # --- the ends of an image ------------------------------------------------------------------------------------

    def _waiting_for(self, target: int) -> WaitingImage:
        held = self._held.get(target)
        if held is None:
            raise LocalProtocolError(f"image store: no image waits for {target:#018x}")
        return held

    def _discard(
        self,
        held: WaitingImage,
        cause: DiscardCause,
        response: TransferResponse = TransferResponse.IMAGE_DISCARDED,
        *,
        by: int | None = None,
    ) -> list[StoreEvent]:
        del self._held[held.target]
        return [
            ImageDiscarded(held.target, held.version, cause, by, held.offset),
            _loss(held.target, held.version, response),
        ]

    def _refuse(
        self, target: int, version: int | None, reason: RefusalReason, detail: str
    ) -> list[StoreEvent]:
        events: list[StoreEvent] = [ImageRefused(target, version, reason, detail)]
        mismatch = reason is RefusalReason.HARDWARE_VERSION_MISMATCH
        # CCS08 names a version: without one there is nothing to say.
        if version is not None and (mismatch or self.policy.alerts_refusals):
            response = (
                TransferResponse.HARDWARE_VERSION_MISMATCH if mismatch else TransferResponse.IMAGE_DISCARDED
            )
            events.append(_loss(target, version, response))
        return events


def _loss(
    target: int, version: int, response: TransferResponse = TransferResponse.IMAGE_DISCARDED
) -> TransferAlert:
    return TransferAlert(FIRMWARE_TRANSFER_FAILED, response, target, version)


def _mismatch(image: OtaImage, hardware: int | None) -> str:
    return f"hardware {hardware:#06x} is not in {image.hardware_min:#06x} to {image.hardware_max:#06x}"


def _stated_version(data: bytes) -> int | None:
    """Return the version in the head of a file that is otherwise wrong; None: it is too short, or no OTA file."""
    if len(data) < _VERSION.size:
        return None
    identifier, version = _VERSION.unpack_from(data)
    return int(version) if identifier == FILE_IDENTIFIER else None
