"""The PPMID: a display that finds the hub's OTA server, fetches its image and activates it by itself."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import RemoteProtocolError
from harness.wire import clusters, zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage, Restart, SimpleDescriptor
from harness.wire.image import parse_image
from harness.wire.ota_client import OtaClient
from harness.wire.ota_client_values import OtaClientConfig, OtaStorage, ServerLost, UpgradeDue
from harness.wire.ota_messages import CLOCK_TOLERANCE, OTA_CLUSTER

IN_HOME_DISPLAY = 0x0502  # ZSE table 5-13
PREPAYMENT_TERMINAL = 0x0506  # ZSE table 5-13
ANY_ENDPOINT = 0xFF  # Zigbee PRO 2.2.4.1.1: the broadcast endpoint

# Zigbee PRO 2.4.3 and 2.4.4: the ZDO clusters of discovery.
_IEEE_ADDRESS_REQUEST = 0x0001
_MATCH_DESCRIPTOR_REQUEST = 0x0006
_RESPONSE = 0x8000
_IEEE_REQUEST = struct.Struct("<BHBB")
_IEEE_RESPONSE = struct.Struct("<BBQH")
_MATCH_REQUEST = struct.Struct("<BHHBHB")
_MATCH_RESPONSE = struct.Struct("<BBHB")


@dataclass(frozen=True, slots=True)
class PpmidConfig:
    """One model of PPMID. Times in seconds."""

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


@dataclass(slots=True)
class PpmidFlash:
    """What a PPMID keeps without power: the version it runs, the image on its way, and whether it is changing to it."""

    running_version: int
    download: OtaStorage = field(default_factory=OtaStorage)
    activating: bool = False


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
        self._descriptors = (
            SimpleDescriptor(
                config.endpoint,
                SMART_ENERGY_PROFILE,
                config.device,
                0,
                (clusters.BASIC_CLUSTER,),
                (OTA_CLUSTER,),
            ),
        )
        self._boot()

    @property
    def running_version(self) -> int:
        """The firmware version that runs: what CurrentFileVersion reads."""
        return self.flash.running_version

    @property
    def descriptors(self) -> Sequence[SimpleDescriptor]:
        """One endpoint: Basic server, OTA Upgrade client."""
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
        self._searching: float | None = None  # when to look for the server again
        self._search_pause = config.discovery_timeout
        self._zdo_sequence = 0
        self._server_endpoint = config.server_endpoint
        self._server_eui64: int | None = None
        self.client = OtaClient(config.ota, flash.download, flash.running_version, self._verify, self._random)
        self._attributes = zcl.AttributeServer(
            server={
                clusters.BASIC_CLUSTER: clusters.basic_attributes(config.manufacturer_name, config.model)
            },
            client={OTA_CLUSTER: clusters.ota_client_attributes(self.client)},
        )

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
        self._searching = None
        self.client.stop()
        self._outgoing.clear()
        return []

    def power_cut(self) -> None:
        """Keep the flash, lose the rest."""
        self._boot()

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def next_deadline(self) -> float | None:
        """When discovery or the transfer wants its next turn."""
        deadline = self.client.next_deadline()
        if self._searching is None:
            return deadline
        return self._searching if deadline is None else min(deadline, self._searching)

    def on_deadline(self, now: float) -> list[object]:
        """Look for the server again, or let the transfer go on."""
        if self._searching is not None and now + CLOCK_TOLERANCE >= self._searching:
            self._ask_for_server(now)
        events = self._obey(self.client.on_deadline(now), now)
        self._take_frames(None)
        return events

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take a message: the server's, a reader's of an attribute, or an answer to the discovery."""
        config = self.config
        if message.profile == ZDO_PROFILE:
            self._discovered(message, now)
            return []
        if message.profile != SMART_ENERGY_PROFILE or message.destination_endpoint not in (
            config.endpoint,
            ANY_ENDPOINT,
        ):
            return []
        try:
            frame = zcl.parse_frame(message.payload)
        except RemoteProtocolError:
            return []  # without a header there is nothing to answer to
        unicast = not message.broadcast and message.group is None
        cluster = message.cluster
        if cluster == OTA_CLUSTER and config.secured and not message.secured:
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
            endpoint = self._server_endpoint
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

    # --- discovery of the server ---------------------------------------------------------------------------------

    def _search(self, now: float) -> None:
        self.client.stop()
        self._server_endpoint = self.config.server_endpoint
        self._server_eui64 = None
        self._search_pause = self.config.discovery_timeout
        self._ask_for_server(now)

    def _ask_for_server(self, now: float) -> None:
        hub = self.config.hub
        if self._server_endpoint is None:
            request = (self._next_zdo(), hub, SMART_ENERGY_PROFILE, 1, OTA_CLUSTER, 0)
            self._send_zdo(_MATCH_DESCRIPTOR_REQUEST, _MATCH_REQUEST.pack(*request))
        if self._server_eui64 is None:
            self._send_zdo(_IEEE_ADDRESS_REQUEST, _IEEE_REQUEST.pack(self._next_zdo(), hub, 0, 0))
        self._searching = now + self._search_pause
        self._search_pause = min(2 * self._search_pause, self.config.discovery_longest)

    def _discovered(self, message: ApsMessage, now: float) -> None:
        hub, payload = self.config.hub, message.payload
        if self._searching is None or message.peer != hub:
            return
        if message.cluster == _MATCH_DESCRIPTOR_REQUEST | _RESPONSE and len(payload) > _MATCH_RESPONSE.size:
            _, status, address, count = _MATCH_RESPONSE.unpack_from(payload)
            if status == 0 and address == hub and count and self._server_endpoint is None:
                self._server_endpoint = payload[_MATCH_RESPONSE.size]
        elif message.cluster == _IEEE_ADDRESS_REQUEST | _RESPONSE and len(payload) >= _IEEE_RESPONSE.size:
            _, status, eui64, address = _IEEE_RESPONSE.unpack_from(payload)
            if status == 0 and address == hub:
                self._server_eui64 = eui64
        if self._server_endpoint is not None and self._server_eui64 is not None:
            self._searching = None
            self.client.start(hub, self._server_eui64, now)

    def _next_zdo(self) -> int:
        self._zdo_sequence = (self._zdo_sequence + 1) & 0xFF
        return self._zdo_sequence

    def _send_zdo(self, cluster: int, payload: bytes) -> None:
        self._outgoing.append(ApsMessage(self.config.hub, ZDO_PROFILE, cluster, 0, 0, payload))
