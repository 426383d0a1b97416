"""A device's link with its hub: found by discovery, keyed, watched, and with a tunnel for GBCS messages."""

from __future__ import annotations

import random

from harness.errors import RemoteProtocolError
from harness.members.device_values import DeviceConfig, DeviceFlash, HubKnown
from harness.members.discovery import Discovery, ZdoSequence
from harness.members.firmware_values import CommandRefused
from harness.members.security import UNDER_NETWORK_KEY, SmartEnergySecurity, not_authorized
from harness.members.tunnels import MessageReceived, messages_received
from harness.wire import clusters, zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.cbke_values import KeyEstablished
from harness.wire.keep_alive import KeepAliveClient, KeepAliveConfig, TrustCenterLost
from harness.wire.ota_messages import OTA_CLUSTER
from harness.wire.tunnel import GONE, DataRefused, TunnelClient
from harness.wire.tunnel_messages import TUNNELING_CLUSTER
from harness.wire.tunnel_server import TunnelServer


class HubLink:
    """What a device has to do with its hub before and beside its own business. The base of `HanDevice`.

    `flash.keyed` outlives it; `_boot` begins anew with what flash holds.
    """

    opens_tunnel = False
    """Whether it opens its own tunnel to the hub, or the hub opens one to it (GBCS 10.2.2.1)."""

    def __init__(self, config: DeviceConfig, generator: random.Random, flash: DeviceFlash) -> None:
        self.config = config
        self.flash = flash
        self._random = generator
        self._known: HubKnown | None = None  # what commissioning left, until the first start uses it
        self._secures = config.secured and bool(config.credentials)

    def _boot(self) -> None:
        """Start from flash."""
        config = self.config
        self._outgoing: list[ApsMessage] = []
        self._unsent: list[bytes] = []  # GBCS messages that wait for a tunnel
        self._told: bytes | None = None  # what went into one last
        self._handed: list[bytes] = []  # those in the tunnel that the carrier has not taken yet
        self._next_zdo = ZdoSequence()
        self._discovery = Discovery(config.discovery_timeout, config.discovery_longest, self._next_zdo)
        self._key_endpoint = 1  # the hub's, where its Key Establishment was found or last heard from
        self._tunnel_endpoint = 1  # the hub's, which its last request for a tunnel came from
        self._security: SmartEnergySecurity | None = None
        self._keep_alive_endpoint = 1  # the hub's, where it was last found
        self._keep_alive = KeepAliveClient(config.keep_alive or KeepAliveConfig(), self._random)
        self.tunnels = self.new_tunnels()
        if self._secures:
            self._security = SmartEnergySecurity(
                config.credentials, config.key_establishment, self._random, self.flash.keyed
            )

    # --- what the kinds of device differ in -----------------------------------------------------------------------

    def new_tunnels(self) -> TunnelServer | TunnelClient:
        """Its end of the tunnel to the hub, without any."""
        return TunnelServer(self.config.tunnel)

    def wanted(self) -> tuple[int, ...]:
        """The clusters that it cannot do without at the hub: OTA Upgrade, where it takes its images from there."""
        return () if self.config.ota is None else (OTA_CLUSTER,)

    def hub_sought(self) -> None:
        """The hub is looked for, maybe anew: until `hub_found` nothing is asked of it."""

    def hub_found(self, eui64: int, now: float) -> None:
        """What is `wanted` of the hub is known, and there is a key with it."""

    def commanded(self, octets: bytes, now: float) -> list[object]:
        """A GBCS message came through the tunnel."""
        return []

    def owed(self) -> list[bytes]:
        """Hand over the GBCS messages that go to the hub, now that there is a tunnel."""
        return []

    def watched_clusters(self) -> tuple[int, ...]:
        """The clusters of the Trust Center that it keeps an eye on."""
        return () if self.config.keep_alive is None else (clusters.KEEP_ALIVE_CLUSTER,)

    # --- messages ---------------------------------------------------------------------------------------------------

    def send(self, short: int, cluster: int, endpoint: int, frame: bytes) -> None:
        """Let a frame of a Smart Energy cluster go to a party, under the link key where it needs one."""
        config = self.config
        secured = config.secured and (self._security is None or cluster not in UNDER_NETWORK_KEY)
        self._outgoing.append(
            ApsMessage(short, SMART_ENERGY_PROFILE, cluster, config.endpoint, endpoint, frame, secured)
        )

    def _answer(self, message: ApsMessage, frame: bytes) -> None:
        self._outgoing.append(message.answer(frame, endpoint=self.config.endpoint))

    # --- security -------------------------------------------------------------------------------------------------

    def partner(self, short: int) -> int | None:
        """Return the EUI-64 of a party that there may be a link key with, by its NWK address; None: a stranger."""
        return self._hub_eui64 if short == self.config.hub else None

    def admits(self, partner: int | None, message: ApsMessage) -> bool:
        """Whether a message counts: under the link key with its sender, or where none is asked for."""
        if message.cluster in UNDER_NETWORK_KEY:
            return True
        return message.secured and partner in self.flash.keyed

    @property
    def _hub_eui64(self) -> int | None:
        # Before the hub has told its EUI-64 anew it is taken for the one that the first key was established with.
        return self._discovery.eui64 or next(iter(self.flash.keyed), None)

    def session(self, partner: int, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        """Hand a frame of a partner to the core that speaks its cluster."""
        assert self._security is not None
        cluster = message.cluster
        if cluster == KEY_ESTABLISHMENT_CLUSTER:
            self._key_endpoint = message.source_endpoint
            received = self._security.receive(partner, frame, now, unicast=True, initiates=True)
            events = self._keys(received, now)
        elif cluster == clusters.KEEP_ALIVE_CLUSTER:
            events = self._keep_alive.receive(frame, now, secured=message.secured)
            if events and not_authorized(frame):
                events.append(TrustCenterLost())  # it is there, but has no key with this device
            events = self._watched(events, now)
        else:
            self._tunnel_endpoint = message.source_endpoint
            events = self._tunnelled(messages_received(self.tunnels.receive(partner, frame, now)), now)
        self._take_session_frames(now)
        return events

    def _keys(self, events: list[object], now: float) -> list[object]:
        """With a new key, go on to what needs one."""
        for event in events:
            if isinstance(event, KeyEstablished):
                self.key_established(event.partner, now)
        return events

    def key_established(self, partner: int, now: float) -> None:
        """There is a link key with a partner: with the hub, as with most devices no other."""
        self._keep_alive.forgive()
        self._search(now, partner)

    def _watched(self, events: list[object], now: float) -> list[object]:
        """Assumed: a device that has lost its Trust Center looks for it, and establishes a key with it anew."""
        if any(isinstance(event, TrustCenterLost) for event in events):
            self.flash.keyed.clear()
            self._search(now)
        return events

    # --- the tunnel -------------------------------------------------------------------------------------------------

    def tunnel_ready(self, hub: int) -> bool:
        """Whether a message to the hub can go now."""
        return self.tunnels.tunnel(hub) is not None

    def into_tunnel(self, octets: bytes) -> bytes:
        """What goes into the tunnel for a message to the hub."""
        return octets

    def out_of_tunnel(self, octets: bytes, now: float) -> bytes | None:
        """The message that came through the tunnel, None for a word that carries none.

        RemoteProtocolError for what does not belong there.
        """
        return octets

    def _tunnelled(self, events: list[object], now: float) -> list[object]:
        """Pass on the messages that came through the tunnel, and obey them."""
        done: list[object] = []
        for event in events:
            if isinstance(event, MessageReceived):
                try:
                    message = self.out_of_tunnel(event.octets, now)
                except RemoteProtocolError as error:
                    done.append(CommandRefused(str(error)))
                    continue
                if message is None:
                    continue
                done.append(MessageReceived(event.eui64, message))
                done += self.commanded(message, now)
            else:
                done.append(event)
                gone = isinstance(event, DataRefused) and event.ours and event.status in GONE
                if gone and self._told is not None and not self.opens_tunnel:
                    # The hub knew of this tunnel no more: what went into it last goes again through the next one, as
                    # what the hub says last does. A TunnelClient, where it is the device that opens, sees to it itself.
                    self._unsent.insert(0, self._told)
                    self._told = None
        return done

    def _take_session_frames(self, now: float) -> None:
        if self._security is None:
            return
        hub, address = self._hub_eui64, self.config.hub
        if hub is not None and self.tunnel_ready(hub):
            self._unsent += self.owed()
            unsent, self._unsent = self._unsent, []
            for octets in unsent:
                self.tunnels.send(hub, self.into_tunnel(octets), now)
                self._told = octets
            self._handed += unsent
        for partner, frame in self._security.frames_to_send():
            self.send(self.address_of(partner), KEY_ESTABLISHMENT_CLUSTER, self._key_endpoint, frame)
        for frame in self._keep_alive.frames_to_send():
            self.send(address, clusters.KEEP_ALIVE_CLUSTER, self._keep_alive_endpoint, frame)
        for _, frame in self.tunnels.frames_to_send():
            self.send(address, TUNNELING_CLUSTER, self._tunnel_endpoint, frame)

    def address_of(self, partner: int) -> int:
        """The NWK address of a partner."""
        return self.config.hub

    # --- discovery of the hub ---------------------------------------------------------------------------------------

    def _search(self, now: float, eui64: int | None = None) -> None:
        """Look for the hub: for its key establishment, or once there is a key for all that needs one.

        `eui64` is the hub's where that is certain.
        """
        config, keyed = self.config, self.flash.keyed
        self.hub_sought()
        # With a key it is watched all through the search: that is how a hub that is gone for good is found out.
        if not keyed:
            self._keep_alive.stop()
        self._key_started = self._ota_started = False
        known = {} if config.server_endpoint is None else {OTA_CLUSTER: config.server_endpoint}
        if self._known is not None:
            eui64, known = self._known.eui64, {**self._known.endpoints, **known}
        wanted = self.wanted()
        if self._security is None:
            self._discovery.start(config.hub, wanted, now, known=known, eui64=eui64)
        elif keyed:
            extra = (*self.watched_clusters(), *((TUNNELING_CLUSTER,) if self.opens_tunnel else ()))
            self._discovery.start(config.hub, wanted, now, dispensable=extra, known=known, eui64=eui64)
        else:
            self._discovery.start(config.hub, (KEY_ESTABLISHMENT_CLUSTER,), now)
        self._outgoing += self._discovery.messages_to_send()
        self._discovered(now)

    def _discovered(self, now: float) -> None:
        """Begin what can begin with what is known of the hub by now."""
        found, eui64 = self._discovery.endpoints, self._discovery.eui64
        if eui64 is None:
            return
        security = self._security
        if security is not None and eui64 not in self.flash.keyed:
            if self.flash.keyed:  # a hub in the place of the one that there is a key with
                self.flash.keyed.clear()
                self._search(now)
            elif KEY_ESTABLISHMENT_CLUSTER in found and not self._key_started:
                self._key_started = True
                self._key_endpoint = found[KEY_ESTABLISHMENT_CLUSTER]
                security.start(eui64, now)
                self._take_session_frames(now)
            return
        if self.opens_tunnel and TUNNELING_CLUSTER in found:
            self._tunnel_endpoint = found[TUNNELING_CLUSTER]
        if not self._ota_started and all(cluster in found for cluster in self.wanted()):
            self._ota_started = True
            self.hub_found(eui64, now)
        if clusters.KEEP_ALIVE_CLUSTER in found:
            self._keep_alive_endpoint = found[clusters.KEEP_ALIVE_CLUSTER]
            if not self._keep_alive.watching:
                self._keep_alive.start(now, at_once=self._known is None)
        known, self._known = self._known, None
        if known is not None and known.tunnel is not None:
            self.tunnels.restore(eui64, known.tunnel, now)
        self._take_session_frames(now)
