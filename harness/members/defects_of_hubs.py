"""Deliberate faults of Communications Hubs: what `defects` has its table of. Each replaces some of a hub's methods."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import replace

from harness.members.device_log import DeviceLimits
from harness.members.hub import Hub
from harness.members.hub_firmware import HubFirmware
from harness.members.hub_flash import HubFlash
from harness.members.hub_values import HubConfig, WanMessage
from harness.members.hub_wan import HubWan
from harness.members.image_store_values import (
    TransferAlert,
    Verdict,
    WaitingImage,
)
from harness.members.kinds import DeviceKind
from harness.wire import clusters
from harness.wire.application import ApsMessage, JoinEnded, LinkKeyForgotten
from harness.wire.gbcs import parse_message
from harness.wire.gbcs_names import FIRMWARE_TRANSFER_FAILED, FIRMWARE_TRANSFERRED
from harness.wire.gbcs_payloads import (
    ActivateImageResponse,
    ExecutionOutcome,
    TransferResponse,
    parse_payload,
)
from harness.wire.ota_server import Offer

# --- what a hub does with images -------------------------------------------------------------------------------------


class _FlawedHub(Hub):
    """A hub that is of another make than its profile says, or has other cores. Each flaw adds to those before."""

    def __init__(
        self,
        config: HubConfig = HubConfig(),
        generator: random.Random | None = None,
        flash: HubFlash | None = None,
    ) -> None:
        super().__init__(self.flawed(config), generator, flash)
        self._wan = type("HubWan", self._speech(), {})(self.config, self.flash)
        images = type("HubFirmware", self._images(), {})
        self.firmware = images(self.config, self.flash, self._by_eui64.__contains__, self._notifies)

    def _speech(self) -> tuple[type[HubWan], ...]:
        return (HubWan,)

    def _images(self) -> tuple[type[HubFirmware], ...]:
        return (HubFirmware,)

    def flawed(self, config: HubConfig) -> HubConfig:
        """How it is configured."""
        return config


def _keeps(config: HubConfig, *pairs: tuple[DeviceKind, DeviceKind]) -> HubConfig:
    """The hub that refuses the image that arrives, for these pairs of an arriving and a waiting one."""
    refused = dict.fromkeys(pairs, Verdict.REFUSE)
    return replace(config, store=replace(config.store, precedence={**config.store.precedence, **refused}))


class KeepsABridgesImage(_FlawedHub):
    """It refuses an image for the GSME while one for a bridge waits."""

    def flawed(self, config: HubConfig) -> HubConfig:
        """Who came first stays."""
        return _keeps(super().flawed(config), (DeviceKind.GSME, DeviceKind.BRIDGE))


class KeepsAPpmidsImage(_FlawedHub):
    """It refuses an image for the GSME while one for a PPMID waits."""

    def flawed(self, config: HubConfig) -> HubConfig:
        """Who came first stays."""
        return _keeps(super().flawed(config), (DeviceKind.GSME, DeviceKind.PPMID))


class KeepsAPpmidsImageFromAnHcalcs(_FlawedHub):
    """It refuses an image for an HCALCS while one for a PPMID waits, and the other way round."""

    def flawed(self, config: HubConfig) -> HubConfig:
        """Who came first stays."""
        pair = (DeviceKind.PPMID, DeviceKind.HCALCS)
        return _keeps(super().flawed(config), pair, pair[::-1])


class _Silent(HubWan):
    def alerts(self, events: Iterable[object], now: float) -> list[object]:
        return super().alerts([event for event in events if not _is_discard(event)], now)


class OverwritesSilently(_FlawedHub):
    """It drops an image that another overwrites, and does not say so (CCS08)."""

    def _speech(self) -> tuple[type[HubWan], ...]:
        return (_Silent, *super()._speech())


def _is_discard(event: object) -> bool:
    return isinstance(event, TransferAlert) and event.response is TransferResponse.IMAGE_DISCARDED


class _NoFailure(HubWan):
    def alerts(self, events: Iterable[object], now: float) -> list[object]:
        return super().alerts(
            [
                replace(event, alert_code=FIRMWARE_TRANSFERRED, response=TransferResponse.SUCCESS)
                if isinstance(event, TransferAlert)
                and event.response is TransferResponse.FILE_TRANSFER_FAILURE
                else event
                for event in events
            ],
            now,
        )


class CallsAFailedTransferASuccess(_FlawedHub):
    """It says success (CCS08) of a transfer that the device ended with a failure."""

    def _speech(self) -> tuple[type[HubWan], ...]:
        return (_NoFailure, *super()._speech())


class TakesARefusalForAFailedTransfer(Hub):
    """It says that a transfer failed (CCS08) when the device refuses to activate what it got."""

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Read what a device says to the Supplier."""
        events = super().receive(message, now)
        for event in tuple(events):
            fetched = self.flash.fetched.get(event.source) if isinstance(event, WanMessage) else None
            if fetched is None or not isinstance(event, WanMessage):
                continue
            said = parse_payload(parse_message(event.octets))
            if isinstance(said, ExecutionOutcome) and said.response is not ActivateImageResponse.SUCCESS:
                failure = TransferResponse.FILE_TRANSFER_FAILURE
                alert = TransferAlert(FIRMWARE_TRANSFER_FAILED, failure, event.source, fetched.version)
                events += self._wan.alerts([alert], now)
        return events


class IgnoresTheHardware(_FlawedHub):
    """It keeps an image that the target's hardware version excludes."""

    def flawed(self, config: HubConfig) -> HubConfig:
        """It does not look."""
        config = super().flawed(config)
        return replace(config, store=replace(config.store, checks_hardware=False))


class _ForAll(HubFirmware):
    def _offer(self, held: WaitingImage) -> Offer:
        offer = super()._offer(held)
        self.server.withdraw(offer)
        offer = self.server.offer(held.image, upgrade_at=offer.upgrade_at)
        self._stored[held.target] = offer
        return offer


class ServesAnyDevice(_FlawedHub):
    """It serves an image to whoever asks for its manufacturer and type, not to its target alone."""

    def _images(self) -> tuple[type[HubFirmware], ...]:
        return (_ForAll, *super()._images())


class NeverClearsAFlag(Hub):
    """Once it has set the flag that tells a GSME of an image, it never clears it."""

    def __init__(
        self,
        config: HubConfig = HubConfig(),
        generator: random.Random | None = None,
        flash: HubFlash | None = None,
    ) -> None:
        super().__init__(config, generator, flash)
        self._flagged: set[int | None] = set()

    def _flags(self, now: float) -> int:
        flags = super()._flags(now)
        if flags & clusters.NEW_OTA_FIRMWARE:
            self._flagged.add(self._reader)
        return flags | (clusters.NEW_OTA_FIRMWARE if self._reader in self._flagged else 0)


# --- whom a hub admits -----------------------------------------------------------------------------------------------


class LetsJoinAtAnyTime(Hub):
    """It lets a device of its Device Log join after its join period, too."""

    def on_deadline(self, now: float) -> list[object]:
        """Close nothing."""
        return [
            event
            for event in super().on_deadline(now)
            if not isinstance(event, (JoinEnded, LinkKeyForgotten))
        ]


class HasNoLimits(_FlawedHub):
    """It admits as many devices as somebody adds to its Device Log."""

    def flawed(self, config: HubConfig) -> HubConfig:
        """More than anybody has."""
        most = 1000
        limits = DeviceLimits(esme=most, gsme=most, type_1=most, type_2=most, total=most)
        return replace(super().flawed(config), limits=limits)
