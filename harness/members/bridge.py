"""The Alt HAN bridges B1 to B4 of MP170, which join the HAN as PPMID variants, and may feed each other.

Base solution: each takes its own images from the hub, as a PPMID does. Option A: B4, which sleeps, takes them from B3,
for which a package of both is meant. Option B: B1 takes a package for all bridges on site, and feeds them.

How bridges speak to each other is in no public document (MP170's sequence diagrams are not). Assumed: the one that
feeds is an OTA server on the HAN, and the fed one its client, under a link key of the two.
"""

from __future__ import annotations

import random
from typing import Any

from harness.errors import LocalProtocolError
from harness.members.bridge_feed import Feeding
from harness.members.bridge_links import BridgeLinks
from harness.members.bridge_values import BridgeConfig, BridgeFlash
from harness.members.device_values import DeviceFlash
from harness.members.firmware_values import ActivationEnded
from harness.members.ppmid import Ppmid
from harness.members.security import UNDER_NETWORK_KEY, soonest
from harness.wire import clusters, zcl
from harness.wire.application import ZDO_PROFILE, ApsMessage
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.gbcs_payloads import ActivateImageResponse
from harness.wire.ota_client_values import ImageVerified
from harness.wire.ota_messages import OTA_CLUSTER


class AltHanBridge(Ppmid):
    """A bridge's behaviour (`Behaviour`). `known` is what an earlier one left behind of other bridges.

    The one that feeds runs its own image last (assumed): until then the firmware hands the others their images that has
    shown it can. It runs it whatever became of the others, and those that are updated stay so (assumed). Then it sends
    one CS09: success when all of them run the package, failure when any does not, and of a package that does not match
    the bridges that it feeds.
    """

    config: BridgeConfig

    def __init__(
        self,
        config: BridgeConfig,
        generator: random.Random,
        flash: DeviceFlash | None = None,
        known: BridgeFlash | None = None,
    ) -> None:
        self.known = known or BridgeFlash()
        super().__init__(config, generator, flash)

    def _boot(self) -> None:
        super()._boot()
        config, known = self.config, self.known
        self._links = BridgeLinks(config, known, self._random, self._next_zdo) if config.linked else None
        self._feeding = Feeding(config, known, known.keyed.__contains__) if config.feeds else None

    def served(self) -> dict[int, zcl.AttributeTable]:
        """OTA Upgrade, where it feeds other bridges."""
        if not self.config.feeds:
            return {}
        return {OTA_CLUSTER: {clusters.CLUSTER_REVISION: zcl.constant(zcl.UINT16, 3)}}

    def wanted(self) -> tuple[int, ...]:
        """Nothing of the hub's, where another bridge feeds it."""
        return () if self.config.fed_by is not None else super().wanted()

    # --- the carrier ------------------------------------------------------------------------------------------------

    def network_up(self, short: int, now: float) -> list[object]:
        """Joined or back. One that feeds others and has changed its firmware knows now what to tell the Supplier."""
        events = super().network_up(short, now)
        feeding = self._feeding
        if feeding is None:
            return events
        ended = next((event for event in events if isinstance(event, ActivationEnded)), None)
        if ended is not None:
            done = ended.response is ActivateImageResponse.SUCCESS and not feeding.failed
            feeding.drop()
            events += self.firmware.alert_activation(done, now)
        return events + self._own_turn(now)

    def network_down(self, now: float) -> list[object]:
        """Off the network: ask for nothing."""
        events = super().network_down(now)
        if self._links is not None:
            self._links.stop()
        if self._feeding is not None:
            self._feeding.server.frames_to_send()  # nobody hears them
        return events

    def remember(self) -> dict[str, Any]:
        """What commissioning made of it, as JSON can write it; with what it knows of other bridges."""
        return {**super().remember(), "bridges": self.known.saved()}

    def recall(self, saved: dict[str, Any]) -> None:
        """Take what `remember` gave, before the first start. LocalProtocolError for anything else."""
        if "bridges" not in saved:
            raise LocalProtocolError(
                "not the commissioned state of a bridge: it says nothing of other bridges"
            )
        self.known = BridgeFlash.loaded(saved["bridges"])
        super().recall({name: value for name, value in saved.items() if name != "bridges"})

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent, to the hub and to other bridges."""
        if self._links is not None:
            self._outgoing += self._links.messages_to_send()
            for to, frame in self._links.key_frames_to_send():
                self.send(to.short, KEY_ESTABLISHMENT_CLUSTER, to.key_endpoint, frame)
        if self._feeding is not None:
            for eui64, frame in self._feeding.server.frames_to_send():
                partner = self.known.partners.get(eui64)
                # An endpoint not heard yet belongs to a bridge that has its first query still to make.
                if partner is not None and partner.ota_endpoint is not None and eui64 in self.known.keyed:
                    self.send(partner.short, OTA_CLUSTER, partner.ota_endpoint, frame)
        return super().messages_to_send()

    def next_deadline(self) -> float | None:
        """When it, its links or those that it feeds want the next turn."""
        deadline = super().next_deadline()
        if self._feeding is not None:
            deadline = soonest(deadline, self._feeding.next_deadline())
        return deadline if self._links is None else soonest(deadline, self._links.next_deadline())

    def on_deadline(self, now: float) -> list[object]:
        """Do what is due."""
        events = super().on_deadline(now)
        if self._links is not None:
            events += self._links.on_deadline(now)
            self._fetch(now)
        if self._feeding is not None:
            events += self._feeding.on_deadline(now) + self._own_turn(now)
        return events

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take a message: the hub's, another bridge's, or one about where that is."""
        links = self._links
        if links is None:
            return super().receive(message, now)
        if message.profile == ZDO_PROFILE:
            links.told(message, now)
        else:
            links.heard(message, now)
        events = super().receive(message, now)
        self._fetch(now)
        return events

    # --- other bridges ----------------------------------------------------------------------------------------------

    def partner(self, short: int) -> int | None:
        """The hub, or another bridge."""
        if short == self.config.hub or self._links is None:
            return super().partner(short)
        return self._links.partner(short)

    def admits(self, partner: int | None, message: ApsMessage) -> bool:
        """Whether a message counts: under the link key with its sender, the hub or another bridge."""
        if message.peer == self.config.hub or message.cluster in UNDER_NETWORK_KEY:
            return super().admits(partner, message)
        return message.secured and partner in self.known.keyed

    def session(self, partner: int, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        """Take a frame of the hub's sessions; of another bridge's, those that establish a key."""
        if message.peer == self.config.hub:
            return super().session(partner, message, frame, now)
        if self._links is None or message.cluster != KEY_ESTABLISHMENT_CLUSTER:
            return []
        return self._links.key_frame(partner, message, frame, now)

    def other_frame(
        self, message: ApsMessage, frame: zcl.Frame, now: float, *, unicast: bool
    ) -> list[object]:
        """Take a request for an image, where this bridge feeds the one that asks; or a reader's of an attribute."""
        feeding = self._feeding
        to_server = frame.control & zcl.CLUSTER_COMMAND and not frame.control & zcl.FROM_SERVER
        if feeding is None or not (message.cluster == OTA_CLUSTER and unicast and to_server):
            return super().other_frame(message, frame, now, unicast=unicast)
        eui64 = self.partner(message.peer)
        if eui64 is None or message.peer == self.config.hub:
            return super().other_frame(message, frame, now, unicast=unicast)
        self.known.partners[eui64].ota_endpoint = message.source_endpoint
        return feeding.receive(eui64, frame, now) + self._own_turn(now)

    # --- images -----------------------------------------------------------------------------------------------------

    def hub_found(self, eui64: int, now: float) -> None:
        """There is a key with the hub: ask it for images, or look for the bridge that has them."""
        if self.config.fed_by is None or self._links is None:
            super().hub_found(eui64, now)
            return
        self._links.look(now)
        self._fetch(now)

    def _fetch(self, now: float) -> None:
        """Ask the bridge that feeds this one for images, once all is known that it takes."""
        fed_by, links = self.config.fed_by, self._links
        if fed_by is None or links is None or links.feeder is None or self.client.server is not None:
            return
        if not self.flash.firmware.changing:
            self.client.start(links.feeder.short, fed_by, now)

    def ota_endpoint(self) -> int | None:
        """The endpoint of the OTA server that it takes images from: the hub's, or another bridge's."""
        if self.config.fed_by is None or self._links is None:
            return super().ota_endpoint()
        return None if self._links.feeder is None else self._links.feeder.ota_endpoint

    def server_lost(self, now: float) -> None:
        """Who it takes images from does not answer any more."""
        if self.config.fed_by is None or self._links is None:
            super().server_lost(now)
        else:
            self._links.lost(now)

    def examined(self, event: ImageVerified, now: float) -> list[object]:
        """A file was fetched: one that is good takes the place of a package that is being handed out."""
        events = super().examined(event, now)
        if self._feeding is not None:
            if event.good:
                self._feeding.drop()
            else:
                # MP170: the package has to match the bridges. What a PPMID says of an image that it discards is CS09.
                events += self.firmware.alert_activation(success=False, now=now)
                self._take_session_frames(now)
        return events

    def upgrade_due(self, now: float) -> list[object]:
        """The OTA server said that the image may run now: first the others get theirs."""
        if self._feeding is None:
            return super().upgrade_due(now)
        return self._feeding.begin(bytes(self.flash.download.data), now) + self._own_turn(now)

    def _own_turn(self, now: float) -> list[object]:
        """Run the own image once there is nobody left to wait for."""
        feeding = self._feeding
        if feeding is None or not feeding.settled or self.flash.firmware.changing:
            return []
        return self._begun(self.firmware.due(now))
