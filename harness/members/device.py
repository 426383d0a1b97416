"""What every device of a HAN does on top of its link with the hub: it fetches, verifies, activates and answers."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from harness.errors import LocalProtocolError
from harness.members.device_values import (
    DeviceConfig,
    DeviceFlash,
    HubKnown,
    commissioned,
    recalled,
)
from harness.members.firmware import Firmware
from harness.members.firmware_values import ActivationBegun, FirmwareFlash
from harness.members.hub_link import HubLink
from harness.members.kinds import ACTIVATED_BY_COMMAND
from harness.members.security import (
    frame_for,
    refuse,
    soonest,
)
from harness.wire import clusters, zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage, Restart, SimpleDescriptor
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.ota_client import OtaClient
from harness.wire.ota_client_values import ImageVerified, OtaClientConfig, ServerLost, UpgradeDue
from harness.wire.ota_messages import OTA_CLUSTER
from harness.wire.tunnel_messages import MAX_TRANSFER, TUNNELING_CLUSTER

_SESSION_CLUSTERS = (KEY_ESTABLISHMENT_CLUSTER, clusters.KEEP_ALIVE_CLUSTER, TUNNELING_CLUSTER)
_NO_IMAGES = OtaClientConfig(manufacturer=0, image_type=0)


class HanDevice(HubLink):
    """A device's behaviour (`Behaviour`). `generator` gives its jitter; `flash` is what an earlier one left behind.

    The kinds of device differ in what they serve (`served`, `used`) and in how they hear from their hub.
    """

    def __init__(
        self, config: DeviceConfig, generator: random.Random, flash: DeviceFlash | None = None
    ) -> None:
        super().__init__(config, generator, flash or DeviceFlash(FirmwareFlash(config.running_version)))
        servers = [clusters.BASIC_CLUSTER, *self.served()]
        clients = [*(() if config.ota is None else (OTA_CLUSTER,)), *self.used()]
        if self._secures:
            if config.tunnels:
                (clients if self.opens_tunnel else servers).append(TUNNELING_CLUSTER)
            servers.append(KEY_ESTABLISHMENT_CLUSTER)
            clients += (*self.watched_clusters(), KEY_ESTABLISHMENT_CLUSTER)
        self._descriptors = (
            SimpleDescriptor(
                config.endpoint, SMART_ENERGY_PROFILE, config.device, 0, tuple(servers), tuple(clients)
            ),
        )
        self._boot()

    # --- what the kinds of device differ in -----------------------------------------------------------------------

    def served(self) -> dict[int, zcl.AttributeTable]:
        """The attribute tables of the clusters that it serves beside Basic and those of security."""
        return {}

    def used(self) -> tuple[int, ...]:
        """The clusters that it is a client of, beside OTA Upgrade and those of security."""
        return ()

    # --- what it is -----------------------------------------------------------------------------------------------

    @property
    def running_version(self) -> int:
        """The firmware version that runs: what CurrentFileVersion reads."""
        return self.flash.firmware.running_version

    def console(self, line: str) -> str:
        """The line that its serial console answers to a line."""
        return self.config.console.answer(line, self.running_version)

    @property
    def descriptors(self) -> Sequence[SimpleDescriptor]:
        """One endpoint: Basic server, OTA Upgrade client; with credentials all that belongs to security, too."""
        return self._descriptors

    def _boot(self) -> None:
        """Start from flash. The boot loader finishes an activation that was begun, however often it is interrupted."""
        flash, config = self.flash, self.config
        self.firmware = Firmware(config.firmware, flash.firmware)
        if flash.firmware.changing:
            flash.download.clear()  # used up, whether it starts or not
        self.firmware.boot()
        super()._boot()
        self._reason = ""  # why the last file cannot be run
        ota = config.ota or _NO_IMAGES
        self.client = OtaClient(ota, flash.download, self.running_version, self._verify, self._random)
        server = {
            clusters.BASIC_CLUSTER: clusters.basic_attributes(config.manufacturer_name, config.model),
            **self.served(),
        }
        client: dict[int, zcl.AttributeTable] = {}
        if config.ota is not None:
            client[OTA_CLUSTER] = clusters.ota_client_attributes(self.client)
        security = self._security
        if security is not None:
            if config.tunnels and not self.opens_tunnel:
                server[TUNNELING_CLUSTER] = clusters.tunneling_attributes(config.tunnel.close_timeout)
            server[KEY_ESTABLISHMENT_CLUSTER] = client[KEY_ESTABLISHMENT_CLUSTER] = security.attributes
        self._attributes = zcl.AttributeServer(server, client)

    def _verify(self, data: bytes) -> bool:
        """Whether this device can run the file."""
        reason = self.firmware.examine(data, self.flash.download.version or 0)
        self._reason = reason or ""
        return reason is None

    # --- the carrier ------------------------------------------------------------------------------------------------

    def network_up(self, short: int, now: float) -> list[object]:
        """Joined or back: look for the hub. After an activation, say what runs now."""
        if self.flash.firmware.changing:
            self._boot()
        events = self.firmware.booted(now)
        self._search(now)
        return events

    def network_down(self, now: float) -> list[object]:
        """Off the network: ask for nothing."""
        self._discovery.stop()
        self._keep_alive.stop()
        self.client.stop()
        if self._security is not None:
            self._security.reset()
        if self._hub_eui64 is not None:
            self.tunnels.forget(self._hub_eui64)  # GBCS 10.2.2.1: whoever rejoins knows of no tunnel
        self._unsent[:0] = self._handed  # nobody took them: they wait for the next tunnel
        self._handed.clear()
        self._outgoing.clear()
        return []

    def power_cut(self) -> None:
        """Keep the flash, lose the rest."""
        self._boot()

    def remember(self) -> dict[str, Any]:
        """What commissioning made of it, as JSON can write it: its firmware, its keys' partners, and its hub."""
        hub = self._hub_eui64
        known = None if hub is None else HubKnown(hub, self._discovery.endpoints, self.tunnels.tunnel(hub))
        return commissioned(self.flash, known)

    def recall(self, saved: dict[str, Any]) -> None:
        """Take what `remember` gave, before the first start: its hub is not looked for then.

        LocalProtocolError for anything else.
        """
        self.flash, self._known = recalled(saved)
        self._boot()

    def send_message(self, octets: bytes, now: float) -> None:
        """Send a GBCS message to the hub, once there is a tunnel. LocalProtocolError when it does not take so much."""
        if not 0 < len(self.into_tunnel(octets)) <= MAX_TRANSFER:
            raise LocalProtocolError(f"message of {len(octets)} octets, a tunnel takes 1 to {MAX_TRANSFER}")
        self._unsent.append(octets)
        self._take_session_frames(now)

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent."""
        self._handed.clear()
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def next_deadline(self) -> float | None:
        """When discovery, security, the firmware or the transfer wants its next turn."""
        deadline = soonest(
            self.client.next_deadline(), self._discovery.deadline, self.firmware.next_deadline()
        )
        if self._security is None:
            return deadline
        sessions = self._keep_alive.next_deadline(), self.tunnels.next_deadline()
        return soonest(deadline, self._security.next_deadline(), *sessions)

    def on_deadline(self, now: float) -> list[object]:
        """Ask the hub again, or let the transfer go on."""
        self._discovery.on_deadline(now)
        self._outgoing += self._discovery.messages_to_send()
        events = self._obey(self.client.on_deadline(now), now)
        events += self._begun(self.firmware.on_deadline(now))
        self._take_frames(None)
        if self._security is not None:
            events += self._keys(self._security.on_deadline(now, initiates=True), now)
            events += self._watched(self._keep_alive.on_deadline(now), now)
            events += self.tunnels.on_deadline(now)
            self._take_session_frames(now)
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
            partner = self.partner(message.peer)
            if not self.admits(partner, message):
                refused, refusal = refuse(partner, message, frame, unicast=unicast)
                if refusal is not None:
                    self._answer(message, refusal)
                return [refused]
            if unicast and cluster in _SESSION_CLUSTERS and _for_session(frame):
                # Of a stranger there is nothing to make: key establishment needs to know the partner's EUI-64.
                return [] if partner is None else self.session(partner, message, frame, now)
        elif cluster == OTA_CLUSTER and config.secured and not message.secured:
            # ZSE 5.4.6: this cluster's messages count under the link key only.
            if zcl.default_response_due(frame, zcl.Status.NOT_AUTHORIZED, unicast=unicast):
                self._answer(message, zcl.default_response(frame, zcl.Status.NOT_AUTHORIZED))
            return []
        if (
            cluster == OTA_CLUSTER
            and config.ota is not None
            and frame.control & zcl.FROM_SERVER
            and (frame.control & zcl.CLUSTER_COMMAND or frame.command == zcl.DEFAULT_RESPONSE)
        ):
            events = self.client.receive(message.peer, frame, now, unicast=unicast)
            if events:
                events = self._obey(events, now)
            self._take_frames(message)
            return events
        return self.other_frame(message, frame, now, unicast=unicast)

    def other_frame(
        self, message: ApsMessage, frame: zcl.Frame, now: float, *, unicast: bool
    ) -> list[object]:
        """Take a frame that is of no session and not for the OTA client: a reader's of an attribute."""
        reply = self._attributes.answer(message.cluster, frame, now, unicast=unicast)
        if reply is not None:
            self._answer(message, reply)
        return []

    # --- firmware ---------------------------------------------------------------------------------------------------

    def _obey(self, events: list[object], now: float) -> list[object]:
        """Act on what the client reports, and pass it on."""
        obeyed: list[object] = []
        for event in events:
            obeyed.append(event)
            if type(event) is ImageVerified:
                obeyed += self.examined(event, now)
            elif type(event) is UpgradeDue:
                obeyed += self.upgrade_due(now)
            elif type(event) is ServerLost:
                self.server_lost(now)
        return obeyed

    def upgrade_due(self, now: float) -> list[object]:
        """The OTA server said that the image may run now."""
        # GBCS 11.2.1: whatever a hub's Upgrade End Response says, a meter's image waits for its CS06.
        if self.config.firmware.kind in ACTIVATED_BY_COMMAND:
            return []
        return self._begun(self.firmware.due(now))

    def server_lost(self, now: float) -> None:
        """The OTA server does not answer any more."""
        self._search(now)

    def examined(self, event: ImageVerified, now: float) -> list[object]:
        """A file was fetched whole, and found good or not."""
        if event.good:
            events = self.firmware.stored(bytes(self.flash.download.data), now)
        else:
            events = self.firmware.rejected(event.version, self._reason, now)
        self._take_session_frames(now)
        return events

    def _begun(self, events: list[object]) -> list[object]:
        """Change to the new image where the firmware core says so."""
        if any(isinstance(event, ActivationBegun) for event in events):
            self.client.stop()
            events.append(Restart(self.config.activation_seconds))
        return events

    def _take_frames(self, received: ApsMessage | None) -> None:
        """Hand over what the OTA client has to say; `received` is the message that it answers, if it does."""
        for short, frame in self.client.frames_to_send():
            endpoint = self.ota_endpoint()
            if received is not None and received.peer == short:
                endpoint = received.source_endpoint
            if endpoint is not None:
                self.send(short, OTA_CLUSTER, endpoint, frame)

    def ota_endpoint(self) -> int | None:
        """The endpoint of the OTA server that it takes images from, None before that is known."""
        return self._discovery.endpoints.get(OTA_CLUSTER)

    def commanded(self, octets: bytes, now: float) -> list[object]:
        """A GBCS message: the firmware core obeys it, or refuses."""
        return self._begun(self.firmware.receive(octets, now))

    def owed(self) -> list[bytes]:
        """What the firmware core has to say: until there is a tunnel it outlasts power cuts."""
        return self.firmware.messages_to_send()

    def hub_sought(self) -> None:
        """The hub is looked for, maybe anew: no image is asked for until it is found."""
        self.client.stop()

    def hub_found(self, eui64: int, now: float) -> None:
        """What is `wanted` of the hub is known, and there is a key with it: ask it for images."""
        if self.config.ota is not None:
            self.client.start(self.config.hub, eui64, now)


def _for_session(frame: zcl.Frame) -> bool:
    """Whether a frame is part of a conversation, and not about attributes that this device serves."""
    answers = (zcl.READ_ATTRIBUTES_RESPONSE, zcl.DEFAULT_RESPONSE)
    return bool(frame.control & zcl.CLUSTER_COMMAND) or frame.command in answers
