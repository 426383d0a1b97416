"""The PPMID: a display that finds the hub's OTA server, fetches its image and activates it by itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.discovery import Discovery
from harness.members.security import (
    UNDER_NETWORK_KEY,
    SmartEnergySecurity,
    frame_for,
    not_authorized,
    refuse,
    soonest,
)
from harness.members.tunnels import messages_received
from harness.wire import clusters, zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage, Restart, SimpleDescriptor
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.cbke_values import KeyEstablished, KeyEstablishmentConfig
from harness.wire.certificates import Credentials
from harness.wire.image import parse_image
from harness.wire.keep_alive import KeepAliveClient, KeepAliveConfig, TrustCenterLost
from harness.wire.ota_client import OtaClient
from harness.wire.ota_client_values import OtaClientConfig, OtaStorage, ServerLost, UpgradeDue
from harness.wire.ota_messages import OTA_CLUSTER
from harness.wire.tunnel_messages import TUNNELING_CLUSTER
from harness.wire.tunnel_server import TunnelServer, TunnelServerConfig

IN_HOME_DISPLAY = 0x0502  # ZSE table 5-13
PREPAYMENT_TERMINAL = 0x0506  # ZSE table 5-13
_SESSION_CLUSTERS = (KEY_ESTABLISHMENT_CLUSTER, clusters.KEEP_ALIVE_CLUSTER, TUNNELING_CLUSTER)


@dataclass(frozen=True, slots=True)
class PpmidConfig:
    """One model of PPMID. Times in seconds.

    A PPMID that is `secured` and has `credentials` establishes a link key with its hub before it speaks Smart Energy;
    without credentials the pre-configured key is as good.
    """

    ota: OtaClientConfig
    running_version: int  # what it leaves the factory with
    manufacturer_name: str = "Harness"
    model: str = "PPMID"
    endpoint: int = 1
    device: int = IN_HOME_DISPLAY  # or PREPAYMENT_TERMINAL: which of the two GBCS asks for is not public
    secured: bool = False  # whether Smart Energy clusters travel under the APS link key
    activation_seconds: float = 30.0  # assumed: dark while it changes to the new image
    hub: int = 0x0000  # the hub is the trust centre, and the coordinator's address is fixed
    server_endpoint: int | None = None  # of the hub's OTA server; None: discovered by Match_Desc_req
    discovery_timeout: float = 5.0  # assumed: from one attempt at discovery to the next, doubling ...
    discovery_longest: float = 60.0  # ... up to this
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)
    key_establishment: KeyEstablishmentConfig = KeyEstablishmentConfig()
    tunnel: TunnelServerConfig = TunnelServerConfig()
    keep_alive: KeepAliveConfig = KeepAliveConfig()


@dataclass(slots=True)
class PpmidFlash:
    """What a PPMID keeps without power: the version it runs, the image on its way, and whether it is changing to it.

    `keyed` are the EUI-64s that it has established a link key with; the keys themselves are its carrier's to keep.
    """

    running_version: int
    download: OtaStorage = field(default_factory=OtaStorage)
    activating: bool = False
    keyed: list[int] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class ImageActivated:
    """The device came back running `version`."""

    version: int


class Ppmid:
    """A PPMID's behaviour (`Behaviour`). `generator` gives its jitter; `flash` is what an earlier one left behind."""

    def __init__(
        self, config: PpmidConfig, generator: random.Random, flash: PpmidFlash | None = None
    ) -> None:
        self.config = config
        self.flash = flash or PpmidFlash(config.running_version)
        self._random = generator
        self._activated: int | None = None  # version that the last boot changed to, until it is reported
        servers, clients = [clusters.BASIC_CLUSTER], [OTA_CLUSTER]
        self._secures = config.secured and bool(config.credentials)
        if self._secures:
            servers += (TUNNELING_CLUSTER, KEY_ESTABLISHMENT_CLUSTER)
            clients += (clusters.KEEP_ALIVE_CLUSTER, KEY_ESTABLISHMENT_CLUSTER)
        self._descriptors = (
            SimpleDescriptor(
                config.endpoint, SMART_ENERGY_PROFILE, config.device, 0, tuple(servers), tuple(clients)
            ),
        )
        self._boot()

    @property
    def running_version(self) -> int:
        """The firmware version that runs: what CurrentFileVersion reads."""
        return self.flash.running_version

    @property
    def descriptors(self) -> Sequence[SimpleDescriptor]:
        """One endpoint: Basic server, OTA Upgrade client; with credentials all that belongs to security, too."""
        return self._descriptors

    def _boot(self) -> None:
        """Start from flash. The boot loader finishes an activation that was begun, however often it is interrupted."""
        flash, config = self.flash, self.config
        if flash.activating:
            if flash.download.version is not None:
                flash.running_version = self._activated = flash.download.version
            flash.download.clear()
            flash.activating = False
        self._outgoing: list[ApsMessage] = []
        self._zdo_sequence = 0
        self._discovery = Discovery(config.discovery_timeout, config.discovery_longest, self._next_zdo)
        self._key_endpoint = 1  # the hub's, where its Key Establishment was found or last heard from
        self._tunnel_endpoint = 1  # the hub's, which its last request for a tunnel came from
        self.client = OtaClient(config.ota, flash.download, flash.running_version, self._verify, self._random)
        server = {clusters.BASIC_CLUSTER: clusters.basic_attributes(config.manufacturer_name, config.model)}
        client = {OTA_CLUSTER: clusters.ota_client_attributes(self.client)}
        self._security: SmartEnergySecurity | None = None
        self._keep_alive = KeepAliveClient(config.keep_alive, self._random)
        self.tunnels = TunnelServer(config.tunnel)
        if self._secures:
            self._security = security = SmartEnergySecurity(
                config.credentials, config.key_establishment, self._random, flash.keyed
            )
            server[TUNNELING_CLUSTER] = clusters.tunneling_attributes(config.tunnel.close_timeout)
            server[KEY_ESTABLISHMENT_CLUSTER] = client[KEY_ESTABLISHMENT_CLUSTER] = security.attributes
        self._attributes = zcl.AttributeServer(server, client)

    def _verify(self, data: bytes) -> bool:
        """Whether this device can run the file: whole, of its maker and type, for its hardware."""
        try:
            image = parse_image(data)
        except RemoteProtocolError:
            return False
        ota = self.config.ota
        return (
            (image.manufacturer, image.image_type) == (ota.manufacturer, ota.image_type)
            and image.version == self.flash.download.version
            and (ota.hardware_version is None or image.fits_hardware(ota.hardware_version))
        )

    def network_up(self, short: int, now: float) -> list[object]:
        """Joined or back: look for the OTA server. After an activation, say what runs now."""
        if self.flash.activating:
            self._boot()
        events: list[object] = []
        if self._activated is not None:
            events.append(ImageActivated(self._activated))
            self._activated = None
        self._search(now)
        return events

    def network_down(self, now: float) -> list[object]:
        """Off the network: ask for nothing."""
        self._discovery.stop()
        self._keep_alive.stop()
        self.client.stop()
        if self._security is not None:
            self._security.reset()
        self.tunnels = TunnelServer(self.config.tunnel)  # GBCS 10.2.2.1: whoever rejoins knows of no tunnel
        self._outgoing.clear()
        return []

    def power_cut(self) -> None:
        """Keep the flash, lose the rest."""
        self._boot()

    def send_message(self, octets: bytes, now: float) -> None:
        """Send a GBCS message to the hub. LocalProtocolError when it has opened no tunnel, or does not take so much."""
        hub = self._hub_eui64
        if hub is None:
            raise LocalProtocolError("this PPMID does not know its hub yet")
        self.tunnels.send(hub, octets, now)
        self._take_session_frames()

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def next_deadline(self) -> float | None:
        """When discovery, security or the transfer wants its next turn."""
        deadline = soonest(self.client.next_deadline(), self._discovery.deadline)
        if self._security is None:
            return deadline
        sessions = self._keep_alive.next_deadline(), self.tunnels.next_deadline()
        return soonest(deadline, self._security.next_deadline(), *sessions)

    def on_deadline(self, now: float) -> list[object]:
        """Ask the hub again, or let the transfer go on."""
        self._discovery.on_deadline(now)
        self._outgoing += self._discovery.messages_to_send()
        events = self._obey(self.client.on_deadline(now), now)
        self._take_frames(None)
        if self._security is not None:
            events += self._keys(self._security.on_deadline(now, initiates=True), now)
            events += self._watched(self._keep_alive.on_deadline(now), now)
            events += self.tunnels.on_deadline(now)
            self._take_session_frames()
        return events

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take a message: the server's, a reader's of an attribute, or an answer to the discovery."""
        config = self.config
        if message.profile == ZDO_PROFILE:
            if self._discovery.receive(message):
                self._discovered(now)
            return []
        frame = frame_for(config.endpoint, message)
        if frame is None:
            return []
        unicast = not message.broadcast and message.group is None
        cluster = message.cluster
        if self._security is not None:
            hub = self._hub_eui64 if message.peer == config.hub else None
            if not self._admits(message):
                refused, refusal = refuse(hub, message, frame, unicast=unicast)
                if refusal is not None:
                    self._answer(message, refusal)
                return [refused]
            if unicast and cluster in _SESSION_CLUSTERS and _for_session(frame):
                # Of a stranger there is nothing to make: key establishment needs to know the partner's EUI-64.
                return [] if hub is None else self._session(hub, message, frame, now)
        elif cluster == OTA_CLUSTER and config.secured and not message.secured:
            # ZSE 5.4.6: this cluster's messages count under the link key only.
            if zcl.default_response_due(frame, zcl.Status.NOT_AUTHORIZED, unicast=unicast):
                self._answer(message, zcl.default_response(frame, zcl.Status.NOT_AUTHORIZED))
            return []
        if (
            cluster == OTA_CLUSTER
            and frame.control & zcl.FROM_SERVER
            and (frame.control & zcl.CLUSTER_COMMAND or frame.command == zcl.DEFAULT_RESPONSE)
        ):
            events = self.client.receive(message.peer, frame, now, unicast=unicast)
            if events:
                events = self._obey(events, now)
            self._take_frames(message)
            return events
        reply = self._attributes.answer(cluster, frame, now, unicast=unicast)
        if reply is not None:
            self._answer(message, reply)
        return []

    def _obey(self, events: list[object], now: float) -> list[object]:
        """Act on what the client reports, and pass it on."""
        for event in tuple(events):
            if type(event) is UpgradeDue:
                # One bit in flash decides which image the next boot runs: before it the old one, from now on the new.
                self.flash.activating = True
                self.client.stop()
                events.append(Restart(self.config.activation_seconds))
            elif type(event) is ServerLost:
                self._search(now)
        return events

    def _take_frames(self, received: ApsMessage | None) -> None:
        config = self.config
        for short, frame in self.client.frames_to_send():
            endpoint: int | None = self._discovery.endpoints.get(OTA_CLUSTER)
            if received is not None and received.peer == short:
                endpoint = received.source_endpoint
            if endpoint is not None:
                self._outgoing.append(
                    ApsMessage(
                        peer=short,
                        profile=SMART_ENERGY_PROFILE,
                        cluster=OTA_CLUSTER,
                        source_endpoint=config.endpoint,
                        destination_endpoint=endpoint,
                        payload=frame,
                        secured=config.secured,
                    )
                )

    def _answer(self, message: ApsMessage, frame: bytes) -> None:
        self._outgoing.append(
            ApsMessage(
                peer=message.peer,
                profile=message.profile,
                cluster=message.cluster,
                source_endpoint=self.config.endpoint,
                destination_endpoint=message.source_endpoint,
                payload=frame,
                secured=message.secured,
            )
        )

    # --- security -------------------------------------------------------------------------------------------------

    def _admits(self, message: ApsMessage) -> bool:
        """Whether a message counts: under the link key with the hub, or where none is asked for."""
        if message.cluster in UNDER_NETWORK_KEY:
            return True
        return message.secured and message.peer == self.config.hub and bool(self.flash.keyed)

    @property
    def _hub_eui64(self) -> int | None:
        # Before the hub has told its EUI-64 anew it is taken for the one that the key was established with.
        return self._discovery.eui64 or next(iter(self.flash.keyed), None)

    def _session(self, hub: int, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        """Hand a frame of the hub to the core that speaks its cluster."""
        assert self._security is not None
        cluster = message.cluster
        if cluster == KEY_ESTABLISHMENT_CLUSTER:
            self._key_endpoint = message.source_endpoint
            received = self._security.receive(hub, frame, now, unicast=True, initiates=True)
            events = self._keys(received, now)
        elif cluster == clusters.KEEP_ALIVE_CLUSTER:
            events = self._keep_alive.receive(frame, now, secured=message.secured)
            if events and not_authorized(frame):
                events.append(TrustCenterLost())  # it is there, but has no key with this device
            events = self._watched(events, now)
        else:
            self._tunnel_endpoint = message.source_endpoint
            events = messages_received(self.tunnels.receive(hub, frame, now))
        self._take_session_frames()
        return events

    def _keys(self, events: list[object], now: float) -> list[object]:
        """With a new key, go on to what needs one."""
        for event in events:
            if isinstance(event, KeyEstablished):
                self._search(now, event.partner)
        return events

    def _watched(self, events: list[object], now: float) -> list[object]:
        """Assumed: a device that has lost its Trust Center looks for it, and establishes a key with it anew."""
        if any(isinstance(event, TrustCenterLost) for event in events):
            self.flash.keyed.clear()
            self._search(now)
        return events

    def _take_session_frames(self) -> None:
        if self._security is None:
            return
        endpoints = self._discovery.endpoints
        for _, frame in self._security.frames_to_send():
            self._send(KEY_ESTABLISHMENT_CLUSTER, self._key_endpoint, frame)
        for frame in self._keep_alive.frames_to_send():
            self._send(clusters.KEEP_ALIVE_CLUSTER, endpoints[clusters.KEEP_ALIVE_CLUSTER], frame)
        for _, frame in self.tunnels.frames_to_send():
            self._send(TUNNELING_CLUSTER, self._tunnel_endpoint, frame)

    def _send(self, cluster: int, endpoint: int, frame: bytes) -> None:
        secured = cluster not in UNDER_NETWORK_KEY
        source = self.config.endpoint
        self._outgoing.append(
            ApsMessage(self.config.hub, SMART_ENERGY_PROFILE, cluster, source, endpoint, frame, secured)
        )

    # --- discovery of the hub ---------------------------------------------------------------------------------------

    def _search(self, now: float, eui64: int | None = None) -> None:
        """Look for the hub: for its key establishment, or once there is a key for all that needs one.

        `eui64` is the hub's where that is certain.
        """
        config, keyed = self.config, self.flash.keyed
        self.client.stop()
        self._keep_alive.stop()
        self._key_started = self._ota_started = self._keep_alive_started = False
        known = {} if config.server_endpoint is None else {OTA_CLUSTER: config.server_endpoint}
        if self._security is None:
            self._discovery.start(config.hub, (OTA_CLUSTER,), now, known=known)
        elif keyed:
            watched = (clusters.KEEP_ALIVE_CLUSTER,)
            self._discovery.start(
                config.hub, (OTA_CLUSTER,), now, dispensable=watched, known=known, eui64=eui64
            )
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
                self._take_session_frames()
            return
        if OTA_CLUSTER in found and not self._ota_started:
            self._ota_started = True
            self.client.start(self.config.hub, eui64, now)
        if clusters.KEEP_ALIVE_CLUSTER in found and not self._keep_alive_started:
            self._keep_alive_started = True
            self._keep_alive.start(now)
            self._take_session_frames()

    def _next_zdo(self) -> int:
        self._zdo_sequence = (self._zdo_sequence + 1) & 0xFF
        return self._zdo_sequence


def _for_session(frame: zcl.Frame) -> bool:
    """Whether a frame is part of a conversation, and not about attributes that this device serves."""
    answers = (zcl.READ_ATTRIBUTES_RESPONSE, zcl.DEFAULT_RESPONSE)
    return bool(frame.control & zcl.CLUSTER_COMMAND) or frame.command in answers
