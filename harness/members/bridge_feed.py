"""How a bridge hands out a package: to each bridge that it feeds its image, until it is known what became of it."""

from __future__ import annotations

from collections.abc import Callable

from harness.members.bridge_values import (
    BridgeConfig,
    BridgeFailed,
    BridgeFlash,
    BridgeUpdated,
    FedState,
    FeedingBegun,
    FeedingEnded,
)
from harness.members.security import soonest
from harness.wire import zcl
from harness.wire.gbcs_image import parse_upgrade_image
from harness.wire.image import OtaImage, parse_image
from harness.wire.ota_messages import ABORT, CLOCK_TOLERANCE, SUCCESS
from harness.wire.ota_server import ImageQueried, Offer, OtaServer, UpgradeEnded
from harness.wire.package import Bridge, Package, parse_package

_SETTLED = (FedState.UPDATED, FedState.FAILED)


class Feeding:
    """The OTA server of a bridge that feeds others. `authorized` says which of them (EUI-64) have a key with it.

    What a bridge runs it says itself: every query for the next image names the version that runs. One that was told to
    run its image and asks with another version could not; one whose image does not fit it (image type, hardware) is
    told so when it asks.
    """

    def __init__(self, config: BridgeConfig, flash: BridgeFlash, authorized: Callable[[int], bool]) -> None:
        self.config = config
        self.flash = flash
        self.server = OtaServer(config.feeder, authorized)
        self._bridges = {eui64: bridge for bridge, eui64 in config.feeds.items()}
        self._version = 0
        self._images: dict[Bridge, OtaImage] = {}
        self._offers: dict[Bridge, Offer] = {}
        if flash.package:
            self._offer()

    @property
    def under_way(self) -> bool:
        """Whether there is a package whose end has not been told."""
        return bool(self.flash.package)

    @property
    def settled(self) -> bool:
        """Whether every bridge is updated or failed."""
        return self.under_way and all(state in _SETTLED for state in self.flash.fed.values())

    @property
    def failed(self) -> tuple[Bridge, ...]:
        """The bridges that do not run their image."""
        return tuple(bridge for bridge, state in self.flash.fed.items() if state is FedState.FAILED)

    def begin(self, package: bytes, now: float) -> list[object]:
        """Hand out an OTA file that was found good; the one that is being handed out goes on."""
        if package == self.flash.package:
            return []
        self.drop()
        self.flash.package = package
        self.flash.fed = dict.fromkeys(sorted(self.config.feeds), FedState.WAITING)
        self.flash.limit = now + self.config.feeding_limit
        self._offer()
        for bridge, offer in self._offers.items():
            self.server.notify(self.config.feeds[bridge], offer)
        return [FeedingBegun(self._version, tuple(self._offers))]

    def drop(self) -> None:
        """There is nothing to hand out any more."""
        for offer in self._offers.values():
            self.server.withdraw(offer)
        self._offers.clear()
        self.flash.package = b""
        self.flash.fed = {}

    def _offer(self) -> None:
        image, package = self._parts()
        self._version = image.version
        for bridge, state in self.flash.fed.items():
            part = package.image_for(bridge)
            assert part is not None  # the firmware core has checked the package
            self._images[bridge] = part
            if state is not FedState.FAILED:
                self._offers[bridge] = self.server.offer(part, self.config.feeds[bridge])

    def _parts(self) -> tuple[OtaImage, Package]:
        image = parse_image(self.flash.package)
        payload = image.payload
        if self.config.firmware.has_trailer:
            payload = parse_upgrade_image(payload).manufacturer_image
        return image, parse_package(payload)

    # --- what the bridges say -----------------------------------------------------------------------------------------

    def receive(self, eui64: int, frame: zcl.Frame, now: float) -> list[object]:
        """Take one frame that a bridge's OTA client sent to this server alone."""
        return self._follow(self.server.receive(eui64, frame, now))

    def next_deadline(self) -> float | None:
        """When the next block of a page is due, or the bridges' time is over."""
        limit = self.flash.limit if self.under_way and not self.settled else None
        return soonest(limit, self.server.next_deadline())

    def on_deadline(self, now: float) -> list[object]:
        """Send what is due, and give up on the bridges that are not done in time."""
        events = self._follow(self.server.on_deadline(now))
        if self.under_way and not self.settled and now + CLOCK_TOLERANCE >= self.flash.limit:
            for bridge, state in self.flash.fed.items():
                if state not in _SETTLED:
                    reason = f"not updated within {self.config.feeding_limit:g} s"
                    events += self._fail(bridge, reason)
            events.append(FeedingEnded(self._version, self.failed))
        return events

    def _follow(self, events: list[object]) -> list[object]:
        """Draw from what the server reports how far each bridge has come."""
        followed: list[object] = []
        for event in events:
            followed.append(event)
            if not isinstance(event, (ImageQueried, UpgradeEnded)):
                continue
            bridge = self._bridges.get(event.client)
            if bridge is None or self.flash.fed.get(bridge, FedState.FAILED) in _SETTLED:
                continue
            if isinstance(event, ImageQueried):
                followed += self._queried(bridge, event)
            elif event.version == self._images[bridge].version:
                followed += self._ended(bridge, event.status)
            if self.settled:
                followed.append(FeedingEnded(self._version, self.failed))
        return followed

    def _queried(self, bridge: Bridge, event: ImageQueried) -> list[object]:
        version = self._images[bridge].version
        if event.version == version:
            self.flash.fed[bridge] = FedState.UPDATED
            return [BridgeUpdated(bridge, version)]
        if self.flash.fed[bridge] is FedState.TAKEN:
            return self._fail(bridge, f"it has the image, and runs {event.version:#010x}")
        if event.status != SUCCESS:
            return self._fail(
                bridge, "the image is not for its manufacturer, image type and hardware version"
            )
        return []

    def _ended(self, bridge: Bridge, status: int) -> list[object]:
        if status == SUCCESS:
            self.flash.fed[bridge] = FedState.TAKEN
        elif status != ABORT:  # a bridge that could not fetch it all begins again
            return self._fail(bridge, f"it ended the transfer with {zcl.status_name(status)}")
        return []

    def _fail(self, bridge: Bridge, reason: str) -> list[object]:
        self.flash.fed[bridge] = FedState.FAILED
        withdrawn = self.server.withdraw(self._offers.pop(bridge))
        return [*withdrawn, BridgeFailed(bridge, self._images[bridge].version, reason)]
