"""A bridge's links to other bridges: where they are on the HAN, and the key with each."""

from __future__ import annotations

import random
import struct
from collections.abc import Callable

from harness.members.bridge_values import BridgeConfig, BridgeFlash, LinkPartner
from harness.members.discovery import Discovery, Strangers, address_told
from harness.members.security import SmartEnergySecurity, soonest
from harness.wire import zcl
from harness.wire.application import BROADCAST_RX_ON, ZDO_PROFILE, ApsMessage
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.ota_messages import CLOCK_TOLERANCE, OTA_CLUSTER

# Zigbee PRO (05-3474-21) 2.4.3.1.1 and 2.4.4.2.1.
_NWK_ADDRESS_REQUEST = 0x0000
_NWK_ADDRESS_RESPONSE = 0x8000
_REQUEST = struct.Struct("<BQBB")
_RESPONSE = struct.Struct("<BBQH")
_LAST_ADDRESS = 0xFFF7  # Zigbee PRO table 3.59: those above are broadcasts and reserved


class BridgeLinks:
    """Finds the bridge that feeds this one, and lets those that it feeds find it. Times in seconds.

    It has a key establishment of its own, apart from that with the hub: losing the hub's key touches no other.
    """

    def __init__(
        self,
        config: BridgeConfig,
        flash: BridgeFlash,
        generator: random.Random,
        next_sequence: Callable[[], int],
    ) -> None:
        self.config = config
        self.flash = flash
        self.security = SmartEnergySecurity(
            config.credentials, config.key_establishment, generator, flash.keyed
        )
        self._discovery = Discovery(config.discovery_timeout, config.discovery_longest, next_sequence)
        self._next_sequence = next_sequence
        self._outgoing: list[ApsMessage] = []
        self._deadline: float | None = None  # when to ask for the feeder's address again
        self._pause = 0.0
        self._key_started = False
        self._strangers = Strangers(next_sequence)

    # --- who is where -------------------------------------------------------------------------------------------------

    def partner(self, short: int) -> int | None:
        """The bridge that has this NWK address, as far as is known."""
        return next((eui64 for eui64, it in self.flash.partners.items() if it.short == short), None)

    def told(self, message: ApsMessage, now: float) -> None:
        """Take a ZDO message: who has which address, or where the feeder has its servers."""
        found = _nwk_address(message) or address_told(message)
        if found is not None and found[0] in self.config.partners:
            self._found(*found, now)
        if self._discovery.receive(message):
            self._go_on(now)

    def _found(self, eui64: int, short: int, now: float) -> None:
        partners = self.flash.partners
        stale = self.partner(short)
        if stale is not None and stale != eui64:
            del partners[stale]
        known = partners.get(eui64)
        moved = known is None or known.short != short
        if known is None:
            partners[eui64] = LinkPartner(short)
        else:
            known.short = short
        self._strangers.known(short)
        if self._deadline is not None and (moved or self._discovery.deadline is None):
            self._ask(now)

    def heard(self, message: ApsMessage, now: float) -> None:
        """Ask a stranger that wants a key or an image who it is: it may be one of those that this bridge feeds."""
        peer = message.peer
        if (
            not self.config.feeds
            or message.cluster not in (KEY_ESTABLISHMENT_CLUSTER, OTA_CLUSTER)
            or peer == self.config.hub
            or self.partner(peer) is not None
        ):
            return
        self._outgoing += self._strangers.heard(peer, now)

    # --- the way to the feeder ----------------------------------------------------------------------------------------

    @property
    def feeder(self) -> LinkPartner | None:
        """The bridge that feeds this one, once there is a key with it and its OTA server is known."""
        eui64 = self.config.fed_by
        if eui64 is None or eui64 not in self.flash.keyed:
            return None
        known = self.flash.partners.get(eui64)
        return None if known is None or known.ota_endpoint is None else known

    def look(self, now: float) -> None:
        """Look for the feeder, unless all is known that it takes to speak to it."""
        if self.feeder is not None or self._deadline is not None:
            return
        self._pause = self.config.discovery_timeout
        self._key_started = False
        self._search(now)

    def lost(self, now: float) -> None:
        """The feeder answers no more: assumed, as with a Trust Center that is lost, that a key is to be made anew."""
        fed_by = self.config.fed_by
        assert fed_by is not None
        self.security.forget(fed_by)
        self.flash.partners.pop(fed_by, None)
        self.look(now)

    def stop(self) -> None:
        """Off the network."""
        self._discovery.stop()
        self.security.reset()
        self._deadline = None
        self._outgoing.clear()

    def _search(self, now: float) -> None:
        payload = _REQUEST.pack(self._next_sequence(), self.config.fed_by, 0, 0)
        self._outgoing.append(
            ApsMessage(
                BROADCAST_RX_ON,
                ZDO_PROFILE,
                _NWK_ADDRESS_REQUEST,
                0,
                0,
                payload,
                acknowledged=False,
                broadcast=True,
            )
        )
        self._deadline = now + self._pause
        self._pause = min(2 * self._pause, self.config.discovery_longest)

    def _ask(self, now: float) -> None:
        """The feeder's address is known: ask for its endpoints."""
        fed_by = self.config.fed_by
        assert fed_by is not None
        wanted = (KEY_ESTABLISHMENT_CLUSTER, OTA_CLUSTER)
        self._discovery.start(self.flash.partners[fed_by].short, wanted, now, eui64=fed_by)

    def _go_on(self, now: float) -> None:
        """Establish the key as soon as it is known where; with it and the server's endpoint the search is over."""
        fed_by, found = self.config.fed_by, self._discovery.endpoints
        if fed_by is None or (known := self.flash.partners.get(fed_by)) is None:
            return
        known.ota_endpoint = found.get(OTA_CLUSTER, known.ota_endpoint)
        if fed_by in self.flash.keyed:
            if known.ota_endpoint is not None:
                self._deadline = None
        elif KEY_ESTABLISHMENT_CLUSTER in found and not self._key_started:
            known.key_endpoint = found[KEY_ESTABLISHMENT_CLUSTER]
            self._key_started = True
            self.security.start(fed_by, now)

    # --- keys ---------------------------------------------------------------------------------------------------------

    def key_frame(self, partner: int, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        """Take a frame of a bridge's Key Establishment cluster. The fed one begins."""
        self.flash.partners[partner].key_endpoint = message.source_endpoint
        fed = partner == self.config.fed_by
        events = self.security.receive(partner, frame, now, unicast=True, initiates=fed)
        self._go_on(now)
        return events

    def key_frames_to_send(self) -> list[tuple[LinkPartner, bytes]]:
        """What waits to be sent to other bridges' Key Establishment, each once."""
        partners = self.flash.partners
        return [
            (partners[eui64], frame) for eui64, frame in self.security.frames_to_send() if eui64 in partners
        ]

    # --- time and messages --------------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next question is due, or a partner has been silent for too long."""
        return soonest(self._deadline, self._discovery.deadline, self.security.next_deadline())

    def on_deadline(self, now: float) -> list[object]:
        """Ask again, or give up on a partner."""
        if self._deadline is not None and now + CLOCK_TOLERANCE >= self._deadline:
            self._search(now)
        self._discovery.on_deadline(now)
        return self.security.on_deadline(now, initiates=self.config.fed_by is not None)

    def messages_to_send(self) -> list[ApsMessage]:
        """The ZDO messages that wait to be sent."""
        outgoing, self._outgoing = self._outgoing, []
        return outgoing + self._discovery.messages_to_send()


def _nwk_address(message: ApsMessage) -> tuple[int, int] | None:
    """Return (EUI-64, short address) of a NWK_addr_rsp; None of any other or a broken one."""
    if (
        message.profile != ZDO_PROFILE
        or message.cluster != _NWK_ADDRESS_RESPONSE
        or len(message.payload) < _RESPONSE.size
    ):
        return None
    _, status, eui64, short = _RESPONSE.unpack_from(message.payload)
    return (eui64, short) if status == 0 and short <= _LAST_ADDRESS else None
