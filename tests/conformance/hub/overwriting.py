"""Brings one image at a hub to a stage, lets another arrive, and says what became of both."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from harness import Device, OtaImage, Rig, hours, image_hash_of, minutes, seconds
from harness.gbcs import (
    FIRMWARE_VERIFIED,
    EsmeFirmwareReceipt,
    ExecutionOutcome,
    GsmeFirmwareReceipt,
    TransferResponse,
)
from harness.smi.image_fate import Fate, Stage, Target

SIZE = 600  # octets of the images: enough blocks to be in the middle of

# How long a device may take to learn of its image: a GSME wakes every 30 minutes, one that missed its Image Notify
# asks within the hour.
LEARNS_WITHIN = hours(2)
FETCHES_WITHIN = minutes(10)
# A device that waits for its activation asks every hour whether its time has come: a hub could take its image then.
ASKS_AGAIN_WITHIN = minutes(61)
# Who does not activate by itself (F3).
_COMMANDED = ("esme", "gsme", "hcalcs")
_IN_DEVICE = (Stage.FULLY_TRANSFERRED, Stage.AWAITING_ACTIVATION)


def device_for(rig: Rig, target: Target) -> Device:
    """Return the rig's device of that kind."""
    return rig.bridges[target] if target in rig.bridges else rig.device(target.lower())


@dataclass(frozen=True)
class Observation:
    """What was seen: the fate, whether each device got its image, and the CCS08 response codes about each, in order.

    An image that its device held at the collision counts as got if the device ran it after all.
    """

    fate: Fate
    waiting_got: bool
    arriving_got: bool
    alerts_on_waiting: tuple[TransferResponse, ...]
    alerts_on_arriving: tuple[TransferResponse, ...]

    def __str__(self) -> str:
        got = {True: "got", False: "did not get"}
        return (
            f"{self.fate}: the waiting image's device {got[self.waiting_got]} it ({_named(self.alerts_on_waiting)}),"
            f" the arriving one's {got[self.arriving_got]} it ({_named(self.alerts_on_arriving)})"
        )


def _named(alerts: tuple[TransferResponse, ...]) -> str:
    return "CCS08 " + ", ".join(alert.name for alert in alerts) if alerts else "no CCS08"


class Match:
    """Two images for two devices, or for one device, on their way through one hub.

    `make` makes images, of `size` octets; `force_replace` is the octet of the arriving one.
    """

    def __init__(
        self,
        rig: Rig,
        waiting: Device,
        arriving: Device,
        make: Callable[..., OtaImage],
        *,
        size: int = SIZE,
        force_replace: int = 0,
    ) -> None:
        self.rig = rig
        self.waiting, self.arriving = waiting, arriving
        version = waiting.version_at_start
        self.first = make(target=waiting, size=size, version=version + 1)
        # The versions differ, so that an alert says which image it is about.
        self.second = make(target=arriving, size=size, version=version + 2, force_replace=force_replace)
        self._stage = Stage.QUEUED

    async def bring_to(self, stage: Stage) -> None:
        """Deliver the first image, and let its device come so far with it; up to PART_TRANSFERRED it is dark then."""
        device, wan = self.waiting, self.rig.hub.wan
        self._stage = stage
        if stage is Stage.QUEUED:
            await device.power_off()  # what the hub says of the image now, nobody hears
        await wan.deliver(self.first, to=device)
        if stage in (Stage.ANNOUNCED, Stage.PART_TRANSFERRED):
            await self._until(lambda: device.fetching == self.first.version, LEARNS_WITHIN)
            while stage is Stage.PART_TRANSFERRED and device.fetched < self.first.total_size // 3:
                await self.rig.sleep(seconds(0.01))  # a block more is no event
            await device.power_off()
            if stage is Stage.ANNOUNCED:
                assert device.fetched == 0, "it has been told of its image, and has no block yet"
            else:
                assert 0 < device.fetched < self.first.total_size, "it has a part of its image"
        elif stage in _IN_DEVICE:
            await self._until(lambda: self._has(device, self.first.version), LEARNS_WITHIN)
            await self._until(lambda: bool(wan.transfers(device)), FETCHES_WITHIN)
            if stage is Stage.FULLY_TRANSFERRED:
                assert not self._verified, "the hub has its success, and not yet its verdict"
            elif device.profile.role in _COMMANDED:
                await self._until(lambda: self._verified, FETCHES_WITHIN)
            else:
                await self.rig.sleep(
                    seconds(1)
                )  # it has been told that it may run, and takes a moment for that
        else:
            assert device.fetching is None, "it has not been told of its image"
        assert await device.version() == device.version_at_start, "it does not run its image yet"
        assert self._alerts(device, self.first.version) == (
            (TransferResponse.SUCCESS,) if stage in _IN_DEVICE else ()
        )

    async def collide(self) -> Observation:
        """Let the second image arrive, give the first one's device its power back, and see what becomes of both."""
        wan = self.rig.hub.wan
        await wan.deliver(self.second, to=self.arriving)
        await self.rig.sleep(seconds(1))
        await self.waiting.power_on()
        settled = self.rig.now() + LEARNS_WITHIN
        while self.rig.now() < settled and not (
            self._ended(self.waiting, self.first) and self._ended(self.arriving, self.second)
        ):
            await self.rig.sleep(seconds(5))
        got_first = self._has(self.waiting, self.first.version)
        if self._stage in _IN_DEVICE and self.waiting is not self.arriving:
            got_first = await self._runs_after_all()
        return self._observed(got_first, self._has(self.arriving, self.second.version))

    async def _runs_after_all(self) -> bool:
        """Whether the device still runs the image that it held, once it may."""
        device, wan = self.waiting, self.rig.hub.wan
        if device.profile.role in _COMMANDED:
            await self.rig.sleep(ASKS_AGAIN_WITHIN)
            assert await device.version() == device.version_at_start, "nobody has activated it"
            counter = await wan.activate(image_hash_of(self.first), on=device)
            await wan.until(ExecutionOutcome, counter=counter, within=LEARNS_WITHIN)
        await self.rig.sleep(FETCHES_WITHIN)  # it may be dark while it changes
        return await device.version() == self.first.version

    async def offer_again(self) -> None:
        """The device whose image was overwritten runs what it ran, and the hub gives it the next one that comes."""
        device = self.waiting
        assert await device.version(within=LEARNS_WITHIN) == device.version_at_start
        third = replace(self.first, version=self.first.version + 2)
        await self.rig.hub.wan.deliver(third, to=device)
        await self._until(lambda: self._has(device, third.version), LEARNS_WITHIN)

    def _observed(self, got_first: bool, got_second: bool) -> Observation:
        on_first = self._alerts(self.waiting, self.first.version)
        on_second = self._alerts(self.arriving, self.second.version)
        discarded = TransferResponse.IMAGE_DISCARDED in on_first
        if got_first and got_second:
            # A hub that tells of a loss that was none is not believed the next time.
            fate = Fate.UNKNOWN if discarded or TransferResponse.IMAGE_DISCARDED in on_second else Fate.KEPT
        elif got_second:
            fate = Fate.OVERWRITTEN if discarded else Fate.LOST
        elif got_first:
            fate = Fate.REFUSED
        else:
            fate = Fate.UNKNOWN
        return Observation(fate, got_first, got_second, on_first, on_second)

    @property
    def _verified(self) -> bool:
        """Whether the waiting device's verdict on its image has come up."""
        receipts = (EsmeFirmwareReceipt, GsmeFirmwareReceipt)
        return any(
            received.source == self.waiting.eui64
            and isinstance(received.payload, receipts)
            and received.payload.alert_code == FIRMWARE_VERIFIED
            for received in self.rig.hub.wan.received
        )

    def _ended(self, device: Device, image: OtaImage) -> bool:
        """Whether the hub has told what became of an image: before that it may still have it."""
        return bool(self._alerts(device, image.version))

    def _has(self, device: Device, version: int) -> bool:
        """Whether a device has, or had, the whole of an image: it held it, or runs it."""
        return version in device.images_held

    def _alerts(self, device: Device, version: int) -> tuple[TransferResponse, ...]:
        return tuple(
            alert.response
            for alert in self.rig.hub.wan.transfers(device)
            if alert.firmware_version == version
        )

    async def _until(self, condition: Callable[[], bool], within: float) -> None:
        """Wait for something that an event brings about."""
        await self.rig.until(
            condition,
            within=within,
            failure=lambda: f"{self.waiting.name} has not come so far in {within:g} s",
        )
