"""Deliberate faults of devices: what `defects` has its table of. Each takes the place of some of a member's methods."""

from __future__ import annotations

from dataclasses import replace

from harness.members.bridge import AltHanBridge
from harness.members.bridge_feed import Feeding
from harness.members.device import HanDevice
from harness.members.firmware import Firmware
from harness.members.firmware_values import (
    Activation,
    ActivationBegun,
    FirmwareConfig,
    HeldImage,
    ImageHeld,
    Order,
)
from harness.members.meter import Gsme
from harness.members.security import frame_for
from harness.wire import zcl
from harness.wire.application import ApsMessage
from harness.wire.gbcs import GbcsMessage
from harness.wire.gbcs_payloads import (
    ActivateFirmware,
    ActivateImageResponse,
    CommandAccepted,
    ExecutionOutcome,
)
from harness.wire.gbcs_readings import HASH_LENGTH
from harness.wire.image import parse_image
from harness.wire.ota_client_values import DownloadAborted
from harness.wire.ota_messages import IMAGE_NOTIFY, OTA_CLUSTER
from harness.wire.package import Bridge, parse_package

# --- what a device makes of an image ---------------------------------------------------------------------------------


class _FlawedFirmware(HanDevice):
    """A device with another firmware core, or with one that is configured otherwise. Each flaw adds to those before."""

    def _boot(self) -> None:
        super()._boot()
        core = type("Firmware", self._cores(), {})
        self.firmware = core(self.flawed(self.config.firmware), self.flash.firmware)

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (Firmware,)

    def flawed(self, config: FirmwareConfig) -> FirmwareConfig:
        """How its firmware is configured."""
        return config


class RunsWhatAnAbortLeft(HanDevice):
    """Told that its image is gone, it runs the part that it has of it."""

    def _obey(self, events: list[object], now: float) -> list[object]:
        obeyed = super()._obey(events, now)
        for event in events:
            if isinstance(event, DownloadAborted):
                part = HeldImage(event.version, bytes(HASH_LENGTH), event.offset)
                obeyed += self._begun(_run_anyhow(self.firmware, part))
        return obeyed


class AsksNoMoreAfterAnAbort(HanDevice):
    """Told that its image is gone, it asks for none until it is started anew."""

    def _obey(self, events: list[object], now: float) -> list[object]:
        if any(isinstance(event, DownloadAborted) for event in events):
            self.client.stop()
        return super()._obey(events, now)


class RunsHalfAnImageAfterAPowerCut(HanDevice):
    """When its power comes back in mid transfer, it runs the part that it has."""

    def power_cut(self) -> None:
        """Take the part for the whole."""
        download = self.flash.download
        if download.version is not None and not download.verified and download.data:
            self.flash.firmware.running_version = download.version
            download.clear()
        super().power_cut()


class IgnoresImageNotify(HanDevice):
    """It does not ask for an image when its hub tells it of one, only when an hour is over."""

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Miss it."""
        frame = frame_for(self.config.endpoint, message)
        notify = frame is not None and frame.control & zcl.CLUSTER_COMMAND and frame.command == IMAGE_NOTIFY
        return [] if message.cluster == OTA_CLUSTER and notify else super().receive(message, now)


class RunsAtOnce(HanDevice):
    """It runs an image as soon as it has verified it, and waits for no SR11.3."""

    def _obey(self, events: list[object], now: float) -> list[object]:
        obeyed = super()._obey(events, now)
        held = self.flash.firmware.held
        if held is not None and any(isinstance(event, ImageHeld) for event in obeyed):
            self.flash.firmware.held = None
            obeyed += self._begun(_run_anyhow(self.firmware, held))
        return obeyed


def _run_anyhow(firmware: Firmware, image: HeldImage) -> list[object]:
    """Begin to run an image, whoever may or may not have ordered it."""
    firmware.flash.activation = Activation(image, None)
    return [ActivationBegun(image.version)]


class TakesAnySignature(_FlawedFirmware):
    """It takes an image whoever signed it."""

    def flawed(self, config: FirmwareConfig) -> FirmwareConfig:
        """Without the supplier's key there is nothing to compare a signature with."""
        return replace(super().flawed(config), supplier=None)


# --- what a device makes of commands, and says -----------------------------------------------------------------------


class _AnyHash(Firmware):
    def _run(self, wanted: bytes, order: Order, now: float) -> list[object]:
        held = self.flash.held
        return super()._run(wanted if held is None else held.image_hash, order, now)


class TakesAnyHash(_FlawedFirmware):
    """It runs the image that it holds, whichever SR11.3 names."""

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (_AnyHash, *super()._cores())


class _SuccessWithoutAnImage(Firmware):
    def _run(self, wanted: bytes, order: Order, now: float) -> list[object]:
        if self.flash.held is None:
            return self._report(ActivateImageResponse.SUCCESS, order, now)
        return super()._run(wanted, order, now)


class SaysSuccessWithoutAnImage(_FlawedFirmware):
    """It answers SR11.3 with success though it holds no image."""

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (_SuccessWithoutAnImage, *super()._cores())


class _FirstVersion(Firmware):
    first = 0

    def _respond(self, payload: CommandAccepted | ExecutionOutcome, order: Order, now: float) -> list[object]:
        if isinstance(payload, ExecutionOutcome):
            payload = replace(payload, firmware_version=self.first)
        return super()._respond(payload, order, now)


class NamesItsFirstVersion(_FlawedFirmware):
    """It answers SR11.3 with the version that it left the factory with, whatever runs."""

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (_FirstVersion, *super()._cores())

    def _boot(self) -> None:
        super()._boot()
        assert isinstance(self.firmware, _FirstVersion)  # by _cores
        self.firmware.first = self.config.running_version


class _BeforeItsTime(Firmware):
    def _activate_firmware(self, message: GbcsMessage, command: ActivateFirmware, now: float) -> list[object]:
        return super()._activate_firmware(message, replace(command, execution_time=None), now)


class ActsBeforeItsTime(_FlawedFirmware):
    """It does at once what a future-dated SR11.3 orders for later."""

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (_BeforeItsTime, *super()._cores())


class _NoCancellation(Firmware):
    def _activate_firmware(self, message: GbcsMessage, command: ActivateFirmware, now: float) -> list[object]:
        scheduled = self.flash.scheduled
        events = super()._activate_firmware(message, command, now)
        if command.cancels:
            self.flash.scheduled = scheduled
        return events


class IgnoresACancellation(_FlawedFirmware):
    """It acknowledges that a future-dated SR11.3 is cancelled, and obeys that at its time."""

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (_NoCancellation, *super()._cores())


class SaysNothingOfItsActivation(_FlawedFirmware):
    """It runs its image and does not say so (0x8F8B)."""

    def flawed(self, config: FirmwareConfig) -> FirmwareConfig:
        """Without the alert."""
        return replace(super().flawed(config), activation_alert=False)


class _AlwaysActivated(Firmware):
    def alert_activation(self, success: bool, now: float) -> list[object]:
        return super().alert_activation(True, now)


class SaysThatItActivated(_FlawedFirmware):
    """It says by 0x8F8B that its activation succeeded, though it failed."""

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (_AlwaysActivated, *super()._cores())


class ObeysWithoutALinkKey(HanDevice):
    """It acts on Smart Energy traffic that is not under its link key."""

    def admits(self, partner: int | None, message: ApsMessage) -> bool:
        """All of it."""
        return True


class AsksAtEveryWakeUp(Gsme):
    """It asks for an image whenever it wakes up, with its flag or without."""

    def _wake_up(self, now: float) -> None:
        super()._wake_up(now)
        self.client.ask(now)
        self._take_frames(None)


# --- what a bridge that feeds others makes of a package --------------------------------------------------------------


class _IncompletePackage(Firmware):
    def _check(self, data: bytes) -> HeldImage:
        whole = self.config
        in_it = parse_package(parse_image(data).payload).bridges
        self.config = replace(whole, bridges=tuple(bridge for bridge in whole.bridges if bridge in in_it))
        try:
            return super()._check(data)
        finally:
            self.config = whole


class TakesAnIncompletePackage(_FlawedFirmware, AltHanBridge):
    """It runs its image of a package that lacks another bridge's, and hands nothing out."""

    def _cores(self) -> tuple[type[Firmware], ...]:
        return (_IncompletePackage, *super()._cores())

    def upgrade_due(self, now: float) -> list[object]:
        """Hand out what is complete."""
        in_it = parse_package(parse_image(bytes(self.flash.download.data)).payload).bridges
        if all(bridge in in_it for bridge in self.config.feeds):
            return super().upgrade_due(now)
        return self._begun(self.firmware.due(now))


class _NoneFailed(Feeding):
    @property
    def failed(self) -> tuple[Bridge, ...]:
        return ()


class HidesAFailedBridge(AltHanBridge):
    """It says by 0x8F8B that all bridges run the package, though one that it feeds does not."""

    def _boot(self) -> None:
        super()._boot()
        self._feeding = _NoneFailed(self.config, self.known, self.known.keyed.__contains__)
