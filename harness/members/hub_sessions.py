"""What the hub says to a device under a link key of their own: key establishment, tunnels, a GSME's mailbox."""

from __future__ import annotations

import random
from collections.abc import Callable

from harness.errors import LocalProtocolError
from harness.members.hub_admission import HubAdmission
from harness.members.hub_flash import HubFlash
from harness.members.hub_gsme import HubGsmes
from harness.members.hub_values import HubConfig, KnownDevice, WanMessage
from harness.members.kinds import DeviceKind
from harness.members.security import SmartEnergySecurity, soonest
from harness.members.tunnels import HubTunnels, MessageReceived
from harness.wire import clusters, zcl
from harness.wire.application import ApsMessage
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.cbke_values import KeyEstablished, KeyRejected
from harness.wire.tunnel_messages import TUNNELING_CLUSTER

# GBCS 10.2.2.1: the hub opens no tunnel to a GSME, which opens its own, nor to a Type 2 device, which gets no message.
_WITHOUT_TUNNEL = (DeviceKind.GSME, DeviceKind.IHD)


_Frame = tuple[KnownDevice, int, int, bytes]  # to whom, cluster, endpoint, ZCL frame


class HubSessions:
    """The conversations of one hub that has credentials. Devices are known by EUI-64, times are in seconds.

    A device that is not in the Device Log is taken for one that gets a tunnel.
    """

    def __init__(
        self,
        config: HubConfig,
        flash: HubFlash,
        admission: HubAdmission,
        generator: random.Random,
        next_zdo: Callable[[], int],
    ) -> None:
        self.config = config
        self._flash = flash
        self._admission = admission
        self._next_zdo = next_zdo
        self.security = SmartEnergySecurity(
            config.credentials, config.key_establishment, generator, flash.keyed
        )
        self.clusters: tuple[int, ...] = (KEY_ESTABLISHMENT_CLUSTER,)
        """The clusters whose commands are part of a conversation."""
        if config.tunnels:
            self.clusters = (KEY_ESTABLISHMENT_CLUSTER, TUNNELING_CLUSTER)
        self._new_tunnels()

    def _new_tunnels(self) -> None:
        config = self.config
        self.tunnels = HubTunnels(
            config.tunnel, config.discovery_timeout, config.discovery_longest, self._next_zdo
        )
        self.gsmes = HubGsmes(config.gsme_tunnel, config.mailbox)

    def server_tables(self) -> dict[int, zcl.AttributeTable]:
        """The attributes of the clusters that come with credentials, where the hub is server."""
        config = self.config
        tables: dict[int, zcl.AttributeTable] = {
            clusters.KEEP_ALIVE_CLUSTER: clusters.keep_alive_attributes(
                config.keep_alive_base, config.keep_alive_jitter
            ),
            KEY_ESTABLISHMENT_CLUSTER: self.security.attributes,
        }
        if config.tunnels:
            tables[TUNNELING_CLUSTER] = clusters.tunneling_attributes(config.gsme_tunnel.close_timeout)
        return tables

    def client_tables(self) -> dict[int, zcl.AttributeTable]:
        """The same, where it is client."""
        tables: dict[int, zcl.AttributeTable] = {KEY_ESTABLISHMENT_CLUSTER: self.security.attributes}
        if self.config.tunnels:
            tables[TUNNELING_CLUSTER] = {clusters.CLUSTER_REVISION: zcl.constant(zcl.UINT16, 1)}
        return tables

    # --- the HAN and its devices ---------------------------------------------------------------------------------

    def network_up(self, now: float) -> None:
        """GBCS 10.2.2.1: the tunnels are opened anew, each where it was."""
        for known in self._flash.devices.values():
            if known.eui64 in self._flash.keyed:
                self._open(known, now, known.tunnel_endpoint)

    def announced(self, known: KnownDevice, now: float) -> None:
        """A device joined or rejoined. GBCS 10.2.2.1: it knows of no tunnel any more."""
        self.gsmes.forget(known.eui64)
        if known.eui64 in self._flash.keyed:
            self._open(known, now)

    def _open(self, known: KnownDevice, now: float, endpoint: int | None = None) -> None:
        if self.config.tunnels and self._admission.log.kind_of(known.eui64) not in _WITHOUT_TUNNEL:
            self.tunnels.open(known.eui64, known.short, now, endpoint)

    def left(self, eui64: int) -> None:
        """A device left: it has to establish a key again. What waits for its tunnel goes on waiting."""
        self.security.forget(eui64)
        self.tunnels.forget(eui64)
        self.gsmes.forget(eui64)

    def removed(self, eui64: int) -> list[object]:
        """A device is to have nothing more of this hub. Returns what waited for it, and is lost."""
        return self.tunnels.remove(eui64) + self.gsmes.remove(eui64)

    def power_cut(self) -> None:
        """Keep the keys, lose what is under way."""
        self.security.reset()
        self._new_tunnels()

    # --- messages ------------------------------------------------------------------------------------------------

    def send(self, eui64: int, octets: bytes, now: float) -> None:
        """Send a message through a device's tunnel; a GSME's waits until it asks.

        LocalProtocolError when this hub opens no tunnels, the message is longer than one takes, or too many wait.
        """
        if not self.config.tunnels:
            raise LocalProtocolError("this hub opens no tunnels: it was told not to")
        if self._admission.log.kind_of(eui64) is DeviceKind.GSME:
            self.gsmes.post(eui64, octets, now)
        else:
            self.tunnels.send(eui64, octets, now)

    def discovered(self, message: ApsMessage, now: float) -> None:
        """Take a ZDO message: it may say where a device has its Tunneling server."""
        for eui64, endpoint in self.tunnels.discovered(message, now):
            known = self._flash.devices.get(eui64)
            if known is not None:
                known.tunnel_endpoint = endpoint

    def receive(self, known: KnownDevice, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        """Take a frame of a conversation, from a device that is on the HAN."""
        if message.cluster == KEY_ESTABLISHMENT_CLUSTER:
            known.key_endpoint = message.source_endpoint
            unicast = not message.broadcast and message.group is None
            events = self.security.receive(known.eui64, frame, now, unicast=unicast, initiates=False)
            return self._keys(events, now)
        if message.cluster != TUNNELING_CLUSTER or not self.config.tunnels:
            return []
        if self._admission.log.kind_of(known.eui64) is not DeviceKind.GSME:
            return _going_up(self.tunnels.receive(known.eui64, frame, now))
        if frame.control & zcl.FROM_SERVER:
            return []  # this hub is no client of a GSME, and waits for nothing that its server says
        known.tunnel_endpoint = message.source_endpoint
        return self.gsmes.receive(known.eui64, frame, now)

    def _keys(self, events: list[object], now: float) -> list[object]:
        """Pass on what key establishment reports, with what the Device Log makes of it; tunnels hang on the keys."""
        log, logged = self._admission.log, list[object]()
        for event in events:
            if isinstance(event, KeyEstablished):
                logged += self._admission.followed(log.established(event.partner, event.key))
                self._open(self._flash.devices[event.partner], now)
            elif isinstance(event, KeyRejected):
                logged += self._admission.followed(log.rejected(event.partner, now))
                self.tunnels.forget(event.partner)
        return events + logged

    def next_deadline(self) -> float | None:
        """When a partner's silence has lasted too long, or something is to be repeated."""
        return soonest(
            self.security.next_deadline(), self.tunnels.next_deadline(), self.gsmes.next_deadline()
        )

    def on_deadline(self, now: float) -> list[object]:
        """Give up, or ask again, where it is time."""
        events = self._keys(self.security.on_deadline(now, initiates=False), now)
        return events + _going_up(self.tunnels.on_deadline(now)) + self.gsmes.on_deadline(now)

    def questions_to_send(self) -> list[ApsMessage]:
        """The ZDO messages that wait to be sent."""
        return self.tunnels.questions_to_send()

    def key_frames_to_send(self) -> list[_Frame]:
        """The frames of key establishment that wait to be sent, each once."""
        devices = self._flash.devices
        return [
            (known, KEY_ESTABLISHMENT_CLUSTER, known.key_endpoint, frame)
            for eui64, frame in self.security.frames_to_send()
            if (known := devices.get(eui64)) is not None
        ]

    def frames_to_send(self) -> list[_Frame]:
        """All other frames that wait to be sent, each once; what is for a device without a link key is dropped."""
        devices, keyed = self._flash.devices, self._flash.keyed
        frames: list[_Frame] = []
        for eui64, endpoint, frame in self.tunnels.frames_to_send():
            known = devices.get(eui64)
            if known is not None and eui64 in keyed:
                frames.append((known, TUNNELING_CLUSTER, endpoint, frame))
        for eui64, frame in self.gsmes.frames_to_send():
            known = devices.get(eui64)
            if known is not None and known.tunnel_endpoint is not None and eui64 in keyed:
                frames.append((known, TUNNELING_CLUSTER, known.tunnel_endpoint, frame))
        return frames


def _going_up(events: list[object]) -> list[object]:
    """Return a tunnel's events with what devices said as messages to the WAN."""
    return [
        WanMessage(event.eui64, event.octets) if isinstance(event, MessageReceived) else event
        for event in events
    ]
