"""What a hub's store of waiting images is told and tells: its policy, the images that wait, its events."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from harness.errors import LocalProtocolError
from harness.members.kinds import DeviceKind
from harness.wire.gbcs_payloads import TransferResponse
from harness.wire.image import OtaImage


class Verdict(StrEnum):
    """What an arriving image does to one that is in its place; where it may not overwrite it, it is itself refused."""

    OVERWRITE = "overwrite"  # at any point, a transfer that is under way included
    OVERWRITE_WAITING = "overwrite_waiting"  # as long as no transfer is under way
    REFUSE = "refuse"

    def yields(self, *, transferring: bool) -> bool:
        """Whether the image that is in place gives way."""
        return self is Verdict.OVERWRITE or (self is Verdict.OVERWRITE_WAITING and not transferring)


class Victim(StrEnum):
    """Which of several images that may be overwritten is."""

    OLDEST = "oldest"
    NEWEST = "newest"


@dataclass(frozen=True, slots=True)
class SlotGroup:
    """The kinds of target that share `slots` places, one image each."""

    kinds: tuple[DeviceKind, ...]
    slots: int = 1


_E, _G, _H, _P, _B = (
    DeviceKind.ESME,
    DeviceKind.GSME,
    DeviceKind.HCALCS,
    DeviceKind.PPMID,
    DeviceKind.BRIDGE,
)
_OVERWRITE, _REFUSE = Verdict.OVERWRITE, Verdict.REFUSE

# (arriving, waiting): what becomes of it, between images for different devices. The basis stands beside each row; the
# Alt HAN device "behaves exactly as a PPMID" (MP170 Working Group, July 2022), so that a bridge has a PPMID's rows.
DEFAULT_PRECEDENCE: Mapping[tuple[DeviceKind, DeviceKind], Verdict] = MappingProxyType(
    {
        (_G, _P): _OVERWRITE,  # sourced, MP170 Working Group: GSME has priority
        (_G, _B): _OVERWRITE,  # sourced, the same
        (_G, _H): _OVERWRITE,  # assumed: one slot, GSME highest
        (_G, _G): _OVERWRITE,  # assumed: a HAN has one GSME; a second is a replaced meter
        (_P, _H): _OVERWRITE,  # sourced, MP170 Working Group: PPMID and HCALCS overwrite each other
        (_H, _P): _OVERWRITE,  # sourced, the same
        (_B, _H): _OVERWRITE,  # sourced, a bridge as a PPMID
        (_H, _B): _OVERWRITE,  # sourced, a bridge as a PPMID
        (_P, _P): _OVERWRITE,  # assumed: one slot, neither has priority
        (_P, _B): _OVERWRITE,  # assumed, the same
        (_B, _P): _OVERWRITE,  # assumed, the same
        (_B, _B): _OVERWRITE,  # assumed, the same
        (_H, _H): _OVERWRITE,  # assumed, the same
        (_P, _G): _REFUSE,  # assumed from "GSME has priority"
        (_B, _G): _REFUSE,  # assumed from "GSME is not affected by it"
        (_H, _G): _REFUSE,  # assumed: as a PPMID
        (_E, _E): _OVERWRITE,  # assumed: the latest delivery is what the Supplier wants
    }
)


@dataclass(frozen=True, slots=True)
class StorePolicy:
    """How one model of Communications Hub keeps images. Every field is something that no public document fixes.

    `precedence` has a verdict for each pair (arriving, waiting) of kinds that share a group; it is about images for
    different devices, `same_target` about two for one. LocalProtocolError for a policy that leaves a case open.
    """

    # Assumed: one slot shared by GSME, PPMID and HCALCS is what the overwriting that is known looks like. Whether an
    # ESME's image shares it is not published; apart, it can cause none of the overwriting that nobody reported.
    groups: tuple[SlotGroup, ...] = (SlotGroup((_G, _H, _P, _B)), SlotGroup((_E,)))
    precedence: Mapping[tuple[DeviceKind, DeviceKind], Verdict] = field(
        default_factory=lambda: DEFAULT_PRECEDENCE
    )
    victim: Victim = Victim.OLDEST  # assumed; of no effect with one slot a group
    same_target: Verdict = Verdict.OVERWRITE  # assumed: as between two PPMIDs
    same_target_newer_only: bool = False  # assumed: a Supplier may go back to an older version
    # Assumed: nothing published says what the octet does, so by default the table alone decides.
    force_replace_forces: bool = False
    # Samples of the DCC: SR11.1 images have the trailer, SR11.4 ones (PPMID) have none. HCALCS assumed, by its SR11.1.
    trailer_kinds: tuple[DeviceKind, ...] = (_E, _G, _H)
    checks_trailer: bool = False  # assumed: the device verifies, the hub has no use for the signature
    size_limit: int | None = (
        750_000  # assumed: octets of the whole file; "about 750 kB" is hearsay. None: none
    )
    # Sourced that a hub reports a mismatch (CCS08 response code 2); not, whether every hub looks.
    checks_hardware: bool = True
    retention_seconds: float | None = None  # assumed: nothing published ends the waiting. None: for ever
    expires_during_transfer: bool = False  # assumed: a transfer under way is let finish
    # How many transfers may fail until the image is given up. Assumed: CCS08 reports a failed transfer, not a try.
    transfer_attempts: int | None = 1  # None: it is tried for ever, and no failure is reported
    # Assumed: an image that reached the hub and was not kept is a discarded one. A hardware mismatch is always told.
    alerts_refusals: bool = True

    def __post_init__(self) -> None:
        # A policy is a value: what its maker does to the table later must not change it.
        object.__setattr__(self, "precedence", MappingProxyType(dict(self.precedence)))
        placed: list[DeviceKind] = []
        for group in self.groups:
            if group.slots < 1:
                raise LocalProtocolError(f"image store: {group.slots} slots for {', '.join(group.kinds)}")
            for kind in group.kinds:
                if kind in placed:
                    raise LocalProtocolError(f"image store: {kind} has its slots twice")
                placed.append(kind)
                for waiting in group.kinds:
                    if (kind, waiting) not in self.precedence:
                        raise LocalProtocolError(
                            f"image store: {kind} and {waiting} share slots, and no precedence says what becomes of"
                            f" the one for {waiting} when one for {kind} arrives"
                        )
        if self.size_limit is not None and self.size_limit < 1:
            raise LocalProtocolError(f"image store: a size limit of {self.size_limit} octets")
        if self.retention_seconds is not None and not 0 < self.retention_seconds < math.inf:
            raise LocalProtocolError(f"image store: a retention of {self.retention_seconds} s")
        if self.transfer_attempts is not None and self.transfer_attempts < 1:
            raise LocalProtocolError(f"image store: {self.transfer_attempts} attempts at a transfer")

    def group_of(self, kind: DeviceKind) -> SlotGroup | None:
        """Return where an image for this kind of target is kept; None: nowhere."""
        for group in self.groups:
            if kind in group.kinds:
                return group
        return None


@dataclass(frozen=True, slots=True)
class WaitingImage:
    """One image in the store, for the device `target` (EUI-64). `stored_at` in seconds of the caller's clock.

    `offset`: octets of the transfer under way; None: none is. `failures`: transfers that failed so far.
    """

    kind: DeviceKind
    target: int
    image: OtaImage
    stored_at: float
    offset: int | None = None
    failures: int = 0

    @property
    def version(self) -> int:
        """The file version in the OTA header."""
        return self.image.version

    @property
    def transferring(self) -> bool:
        """Whether its transfer is under way."""
        return self.offset is not None


class RefusalReason(StrEnum):
    """Why an image was not stored."""

    MALFORMED = "malformed"  # not an OTA file, or one cut short or with octets behind it
    NO_TRAILER = "no trailer"  # its payload does not end in Force Replace and a signature
    TOO_LARGE = "too large"
    HARDWARE_VERSION_MISMATCH = "hardware version mismatch"
    NO_SLOT = "no slot"  # this hub keeps no image for this kind of target
    PRECEDENCE = "precedence"  # what waits may not be overwritten by it
    TRANSFER_UNDER_WAY = "transfer under way"  # ... not any more
    SAME_TARGET = "same target"  # one waits for the same device, and stays
    NOT_NEWER = "not newer"  # ... because it is of the same version or a newer one


class DiscardCause(StrEnum):
    """Why an image that was stored is in the store no more."""

    OVERWRITTEN = "overwritten"
    HARDWARE_VERSION_MISMATCH = "hardware version mismatch"
    TRANSFER_FAILED = "transfer failed"
    WITHDRAWN = "withdrawn"


class LossReason(StrEnum):
    """Why a snapshot did not give an image back."""

    CUT_SHORT = "cut short"
    DAMAGED = "damaged"
    NO_ROOM = "no room"  # whole, but the policy of the store that reads it has no place for it


@dataclass(frozen=True, slots=True)
class ImageStored:
    """An image waits for its target from now on."""

    target: int
    version: int


@dataclass(frozen=True, slots=True)
class ImageRefused:
    """An image was not stored. `version` is None where the file is too short to say; `detail` is a sentence."""

    target: int
    version: int | None
    reason: RefusalReason
    detail: str


@dataclass(frozen=True, slots=True)
class ImageDiscarded:
    """An image was thrown away. `by`: the target (EUI-64) of the image that overwrote it.

    `offset`: octets of the transfer that was under way, which somebody has to abort; None: none was.
    """

    target: int
    version: int
    cause: DiscardCause
    by: int | None = None
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class ImageExpired:
    """An image waited as long as the hub keeps one. `offset` as in `ImageDiscarded`."""

    target: int
    version: int
    offset: int | None = None


@dataclass(frozen=True, slots=True)
class ImageTransferred:
    """The target has the whole image. The store has it no more."""

    target: int
    version: int


@dataclass(frozen=True, slots=True)
class TransferFailed:
    """A transfer failed for the `failures`th time. The image waits for another one."""

    target: int
    version: int
    failures: int


@dataclass(frozen=True, slots=True)
class ImageLost:
    """A snapshot did not give an image back. None, None: even what it was is lost, and no alert can name it."""

    target: int | None
    version: int | None
    reason: LossReason


@dataclass(frozen=True, slots=True)
class SnapshotLost:
    """A snapshot of `octets` does not say how many images it held. What is whole of it is back all the same."""

    octets: int


@dataclass(frozen=True, slots=True)
class TransferAlert:
    """What the hub is to say as CCS08 (GBCS 11.7): `alert_code` 0x8F8A for success, 0x8F89 for anything else."""

    alert_code: int
    response: TransferResponse
    target: int
    version: int


StoreEvent = (
    ImageStored
    | ImageRefused
    | ImageDiscarded
    | ImageExpired
    | ImageTransferred
    | TransferFailed
    | ImageLost
    | SnapshotLost
    | TransferAlert
)
