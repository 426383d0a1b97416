"""The hub's images: what the WAN delivered waits in its store and is served on the HAN, and what becomes of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from harness.errors import LocalProtocolError
from harness.members.hub_flash import FetchedImage, HubFlash
from harness.members.hub_values import HubConfig
from harness.members.image_store import ImageStore
from harness.members.image_store_values import (
    ImageDiscarded,
    ImageExpired,
    ImageRefused,
    ImageStored,
    ImageTransferred,
    StoreEvent,
    WaitingImage,
)
from harness.members.kinds import ACTIVATED_BY_COMMAND, DeviceKind
from harness.wire.image import OtaImage
from harness.wire.ota_messages import SUCCESS, UPGRADE_NOW, UPGRADE_WAIT
from harness.wire.ota_server import (
    ImageQueried,
    Offer,
    OtaServer,
    TransferProgressed,
    TransferStarted,
    UpgradeEnded,
)


class HubFirmware:
    """The image store and the OTA server of one hub. Times in seconds, devices by EUI-64.

    Two ways lead to an offer on the HAN. `deliver` is the hub's own: what arrives goes through the store, and the store
    alone decides how long it is offered. `offer` is the bench's: the harness, playing the hub, offers a device an image
    that no store would take, and the store never hears of it. A device that both have something for is offered what
    came last.

    `authorized` says which clients may be served, `notifies` which are told of an image by a unicast Image Notify.
    """

    def __init__(
        self,
        config: HubConfig,
        flash: HubFlash,
        authorized: Callable[[int], bool],
        notifies: Callable[[int], bool],
    ) -> None:
        self.config = config
        self._flash = flash
        self._authorized = authorized
        self._notifies = notifies
        self._direct: dict[int, Offer] = {}
        # Targets that the store got an image for after the bench's offer.
        self._overtaken: set[int] = set()
        self.boot()

    def boot(self) -> None:
        """Start from flash. Transfers that were under way go on with the client's next request."""
        self.server = OtaServer(self.config.ota, self._authorized)
        self.store = ImageStore(self.config.store)
        self._stored: dict[int, Offer] = {}  # what is offered for the store, by target
        for eui64, fetched in self._flash.fetched.items():
            self.server.settle(eui64, fetched.key, fetched.upgrade_at)
        images = self._flash.images
        self._lost: list[object] = [] if images is None else [*self.store.restore(images)]
        # What is offered last goes first: as it was before.
        self._offer_again(self._overtaken)
        for held in self.store.waiting:
            self._offer(held)
        self._offer_again(self._direct.keys() - self._overtaken)

    def _offer_again(self, targets: Iterable[int]) -> None:
        for eui64 in targets:
            offer = self._direct[eui64]
            self._direct[eui64] = self.server.offer(offer.image, eui64, upgrade_at=offer.upgrade_at)

    def resumed(self) -> list[object]:
        """Return what the last start found lost, once."""
        lost, self._lost = self._lost, []
        if lost:
            self._flash.images = self.store.snapshot()
        return lost

    # --- the hub's own way -------------------------------------------------------------------------------------------

    def deliver(self, octets: bytes, kind: DeviceKind, target: int, now: float) -> list[object]:
        """Take an OTA file that the WAN delivered for a device of the Device Log."""
        known = self._flash.devices.get(target)
        hardware = None if known is None else known.hardware
        return self._obey(self.store.receive(octets, kind, target, now, hardware=hardware))

    def removed(self, eui64: int) -> list[object]:
        """A device may not be on the HAN any more. Assumed: what waits for it is thrown away."""
        self._flash.fetched.pop(eui64, None)
        self.server.unsettle(eui64)
        return [] if self.store.get(eui64) is None else self._obey(self.store.withdraw(eui64))

    def waits_for(self, eui64: int) -> bool:
        """Whether a device has an image to fetch: of the store's or, until it has that whole, of the bench's."""
        offer = self._direct.get(eui64)
        return self.store.get(eui64) is not None or (
            offer is not None and not self.server.fetched(eui64, offer)
        )

    def served(self, events: list[object]) -> list[object]:
        """Follow what the OTA server did, and return its events and those of the store.

        Only what is of the store's own offer counts: a client may be late, and end an image that was overwritten.
        """
        more: list[object] = []
        for event in events:
            if type(event) is ImageQueried:
                more += self._queried(event)
            elif type(event) is TransferProgressed:
                if self._is_stored(event.client):
                    self.store.progressed(event.client, event.offset)
            elif type(event) is TransferStarted:
                if self._is_stored(event.client):
                    self.store.started(event.client)
            elif type(event) is UpgradeEnded and self._is_stored(event.client):
                target = event.client
                ended = (
                    self.store.transferred(target) if event.status == SUCCESS else self.store.failed(target)
                )
                more += self._obey(ended)
        return events + more if more else events

    def _is_stored(self, client: int) -> bool:
        offer = self._stored.get(client)
        return offer is not None and self.server.fetching(client) is offer

    def _queried(self, event: ImageQueried) -> list[object]:
        fetched = self._flash.fetched.get(event.client)
        if fetched is not None and fetched.key == (event.manufacturer, event.image_type, event.version):
            # It runs what it was told to wait with: there is nothing more to tell.
            del self._flash.fetched[event.client]
            self.server.unsettle(event.client)
        if event.hardware is None:
            return []
        known = self._flash.devices.get(event.client)
        if known is not None:
            known.hardware = event.hardware
        return self._obey(self.store.hardware_learned(event.client, event.hardware))

    def _obey(self, events: list[StoreEvent]) -> list[object]:
        """Offer what is stored and take back what is not, and write down what a power cut must leave."""
        obeyed: list[object] = []
        for event in events:
            obeyed.append(event)
            if isinstance(event, ImageStored):
                held = self.store.get(event.target)
                assert held is not None  # nothing comes behind it in the events of one call
                offer = self._offer(held)
                if event.target in self._direct:
                    self._overtaken.add(event.target)
                if self._notifies(event.target):
                    self.server.notify(event.target, offer)
            elif isinstance(event, (ImageDiscarded, ImageExpired)):
                obeyed += self.server.withdraw(self._stored.pop(event.target))
            elif isinstance(event, ImageTransferred):
                offer = self._stored.pop(event.target)
                fetched = FetchedImage(*offer.key, offer.upgrade_at)
                self._flash.fetched[event.target] = fetched
                self.server.settle(event.target, fetched.key, fetched.upgrade_at)
                obeyed += self.server.withdraw(offer)
        if events and not isinstance(events[0], ImageRefused):  # a refusal changes nothing in the store
            self._flash.images = self.store.snapshot()
        return obeyed

    def _offer(self, held: WaitingImage) -> Offer:
        # GBCS 11.2.1: those that CS06 activates are told to wait for it.
        upgrade_at = UPGRADE_WAIT if held.kind in ACTIVATED_BY_COMMAND else UPGRADE_NOW
        offer = self._stored[held.target] = self.server.offer(held.image, held.target, upgrade_at=upgrade_at)
        return offer

    # --- the bench's way ---------------------------------------------------------------------------------------------

    def offer(self, image: OtaImage, to: int, upgrade_at: int) -> list[object]:
        """See `Hub.offer`."""
        events = self.withdraw(to) if to in self._direct else []
        offer = self._direct[to] = self.server.offer(image, to, upgrade_at=upgrade_at)
        if self._notifies(to):
            self.server.notify(to, offer)
        return events

    def withdraw(self, eui64: int) -> list[object]:
        """See `Hub.withdraw`."""
        offer = self._offered(eui64)
        del self._direct[eui64]
        self._overtaken.discard(eui64)
        return self.server.withdraw(offer)

    def release(self, eui64: int, now: float) -> None:
        """See `Hub.release`."""
        self.server.release(self._offered(eui64), now)

    def _offered(self, eui64: int) -> Offer:
        offer = self._direct.get(eui64)
        if offer is None:
            raise LocalProtocolError(f"no image waits for {eui64:#018x}")
        return offer

    # --- time --------------------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next block of a page is due, or the next image expires."""
        blocks, expiry = self.server.next_deadline(), self.store.next_deadline()
        if blocks is None or expiry is None:
            return expiry if blocks is None else blocks
        return min(blocks, expiry)

    def on_deadline(self, now: float) -> list[object]:
        """Send the blocks that are due, and throw away what waited long enough."""
        return self.served(self.server.on_deadline(now)) + self._obey(self.store.expire(now))
