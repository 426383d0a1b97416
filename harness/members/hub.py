"""The Communications Hub: serves images, the time and its identity, and reads what a device says of itself."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from harness.errors import LocalProtocolError
from harness.members.discovery import DEVICE_ANNOUNCE, address_told, ieee_address_request
from harness.members.reads import AttributeRead as AttributeRead
from harness.members.reads import ReadFailed as ReadFailed
from harness.members.reads import Reads
from harness.members.security import UNDER_NETWORK_KEY, SmartEnergySecurity, frame_for, refuse, soonest
from harness.members.tunnels import HubTunnels
from harness.wire import clusters, zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage, SimpleDescriptor
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.cbke_values import KeyEstablished, KeyEstablishmentConfig, KeyRejected
from harness.wire.certificates import Credentials
from harness.wire.image import OtaImage
from harness.wire.ota_messages import OTA_CLUSTER, UPGRADE_NOW
from harness.wire.ota_server import Offer, OtaServer, OtaServerConfig
from harness.wire.tunnel import TunnelClientConfig
from harness.wire.tunnel_messages import TUNNELING_CLUSTER

ENERGY_SERVICE_INTERFACE = 0x0500  # ZSE table 5-13
ASK_AGAIN = 15.0  # assumed: seconds until a stranger that goes on talking is asked again who it is
UTC_2026 = 820540800  # 1 January 2026 in UTC seconds since 2000


@dataclass(frozen=True, slots=True)
class HubConfig:
    """One model of Communications Hub. Times in seconds.

    A hub that is `secured` and has `credentials` establishes link keys with its devices, and speaks Smart Energy under
    those only; without credentials the pre-configured keys are as good.
    """

    ota: OtaServerConfig = field(default_factory=lambda: OtaServerConfig(utc_at_zero=UTC_2026))
    manufacturer_name: str = "Harness"
    model: str = "Communications Hub"
    endpoint: int = 1
    device: int = ENERGY_SERVICE_INTERFACE
    secured: bool = False  # whether Smart Energy clusters travel under the APS link key
    read_timeout: float = 15.0  # assumed: two polls of a sleepy device, 7.5 s apart
    notifies: bool = True  # whether an offer is told to its device by a unicast Image Notify
    credentials: tuple[Credentials, ...] = field(default=(), repr=False)
    key_establishment: KeyEstablishmentConfig = KeyEstablishmentConfig()
    tunnels: bool = True  # whether it opens a tunnel to each device that has its link key
    tunnel: TunnelClientConfig = TunnelClientConfig()
    discovery_timeout: float = (
        5.0  # assumed: from one question after a Tunneling server to the next, doubling ...
    )
    discovery_longest: float = 60.0  # ... up to this
    keep_alive_base: int = 10  # ZCL8 3.18.2.2: TC Keep-Alive Base, in minutes
    keep_alive_jitter: int = 300  # ZCL8 3.18.2.2: TC Keep-Alive Jitter


@dataclass(slots=True)
class KnownDevice:
    """One device of the HAN; `endpoint` is its OTA client's and `key_endpoint` its Key Establishment's, once heard."""

    eui64: int
    short: int
    endpoint: int | None = None
    key_endpoint: int = 1


@dataclass(frozen=True, slots=True)
class DeviceJoined:
    """A device is on the HAN: joined, rejoined or seen anew, as NWK address `short`."""

    eui64: int
    short: int


@dataclass(frozen=True, slots=True)
class DeviceLeft:
    """A device left the HAN."""

    eui64: int
    short: int


class Hub:
    """The hub's behaviour (`Behaviour`). It follows who is on the HAN by what they announce; only those are served.

    `generator` gives the ephemeral keys of a hub with credentials, which needs one.
    """

    def __init__(self, config: HubConfig = HubConfig(), generator: random.Random | None = None) -> None:
        self.config = config
        self._by_short: dict[int, KnownDevice] = {}
        self._by_eui64: dict[int, KnownDevice] = {}
        self._asked: dict[int, float] = {}  # the strangers that were asked who they are, and when
        self._waiting: dict[int, Offer] = {}
        self._zdo_sequence = 0
        self._reads = Reads()
        self._outgoing: list[ApsMessage] = []
        self.server = OtaServer(config.ota, self._by_eui64.__contains__)
        tables = {clusters.BASIC_CLUSTER: clusters.basic_attributes(config.manufacturer_name, config.model)}
        utc_at_zero = config.ota.utc_at_zero
        if utc_at_zero is not None:
            tables[clusters.TIME_CLUSTER] = clusters.time_attributes(lambda now: utc_at_zero + int(now))
        tables[OTA_CLUSTER] = {clusters.CLUSTER_REVISION: zcl.constant(zcl.UINT16, 3)}
        client_tables: dict[int, zcl.AttributeTable] = {}
        self._security: SmartEnergySecurity | None = None
        self._tunnels: HubTunnels | None = None
        if config.secured and config.credentials:
            if generator is None:
                raise LocalProtocolError("a hub with credentials needs a generator for its ephemeral keys")
            self._security = security = SmartEnergySecurity(
                config.credentials, config.key_establishment, generator, []
            )
            tables[clusters.KEEP_ALIVE_CLUSTER] = clusters.keep_alive_attributes(
                config.keep_alive_base, config.keep_alive_jitter
            )
            tables[KEY_ESTABLISHMENT_CLUSTER] = security.attributes
            client_tables[KEY_ESTABLISHMENT_CLUSTER] = security.attributes
            if config.tunnels:
                client_tables[TUNNELING_CLUSTER] = {clusters.CLUSTER_REVISION: zcl.constant(zcl.UINT16, 1)}
                self._tunnels = self._new_tunnels()
        self._descriptors = (
            SimpleDescriptor(
                config.endpoint, SMART_ENERGY_PROFILE, config.device, 0, tuple(tables), tuple(client_tables)
            ),
        )
        self._attributes = zcl.AttributeServer(tables, client_tables)
        self._session_clusters = tuple(client_tables)

    def _new_tunnels(self) -> HubTunnels:
        config = self.config
        return HubTunnels(config.tunnel, config.discovery_timeout, config.discovery_longest, self._next_zdo)

    @property
    def descriptors(self) -> Sequence[SimpleDescriptor]:
        """One endpoint: Basic, Time and OTA Upgrade servers; with credentials all that belongs to security, too."""
        return self._descriptors

    @property
    def devices(self) -> tuple[KnownDevice, ...]:
        """Who is on the HAN, in the order of joining."""
        return tuple(self._by_eui64.values())

    @property
    def keyed(self) -> tuple[int, ...]:
        """The devices (EUI-64) that a link key was established with, in that order."""
        return () if self._security is None else tuple(self._security.keyed)

    # --- what its carrier tells it -------------------------------------------------------------------------------

    def device_joined(self, eui64: int, short: int) -> None:
        """A device joined or came back, maybe under another short address."""
        known = self._by_eui64.get(eui64)
        if known is None:
            known = self._by_eui64[eui64] = KnownDevice(eui64, short)
        elif self._by_short.get(known.short) is known:
            del self._by_short[known.short]
        known.short = short
        self._by_short[short] = known
        self._asked.pop(short, None)

    def device_left(self, eui64: int, now: float) -> list[object]:
        """A device is no more of this HAN: it has to establish a key again. Its image keeps waiting."""
        known = self._by_eui64.pop(eui64, None)
        if known is None:
            return []
        if self._by_short.get(known.short) is known:
            del self._by_short[known.short]
        self.server.forget(eui64)
        if self._security is not None:
            self._security.forget(eui64)
        if self._tunnels is not None:
            self._tunnels.forget(eui64)
        return [DeviceLeft(eui64, known.short)]

    def key_known(self, eui64: int) -> None:
        """A link key that an earlier run established with a device is still in the carrier's table."""
        if self._security is not None and eui64 not in self._security.keyed:
            self._security.keyed.append(eui64)

    def network_up(self, short: int, now: float) -> list[object]:
        """The HAN is up. GBCS 10.2.2.1: the tunnels are opened anew."""
        if self._tunnels is not None:
            for known in self._by_eui64.values():
                if known.eui64 in self.keyed:
                    self._tunnels.open(known.eui64, known.short, now)
            self._take_tunnel_frames()
        return []

    def network_down(self, now: float) -> list[object]:
        """The HAN is down."""
        return []

    def power_cut(self) -> None:
        """Keep the devices, their keys and the images that wait, lose the transfers, the tunnels and the reads."""
        self._outgoing.clear()
        self._reads.clear()
        self._asked.clear()
        if self._security is not None:
            self._security.reset()
        if self._tunnels is not None:
            self._tunnels = self._new_tunnels()
        self.server = OtaServer(self.config.ota, self._by_eui64.__contains__)
        for eui64, offer in self._waiting.items():
            self._waiting[eui64] = self.server.offer(offer.image, eui64, upgrade_at=offer.upgrade_at)

    # --- what it is asked to do ----------------------------------------------------------------------------------

    def offer(self, image: OtaImage, to: int, now: float, *, upgrade_at: int = UPGRADE_NOW) -> list[object]:
        """Let an image wait for the device `to` (EUI-64), in place of one that waited; tell the device if it is known.

        `upgrade_at`: see `OtaServer.offer`. Returns the events of taking the earlier image back.
        """
        events = self.withdraw(to) if to in self._waiting else []
        offer = self._waiting[to] = self.server.offer(image, to, upgrade_at=upgrade_at)
        known = self._by_eui64.get(to)
        # An endpoint not heard yet belongs to a device that has its first query still to make.
        if self.config.notifies and known is not None and known.endpoint is not None:
            self.server.notify(to, offer)
            self._take_frames()
        return events

    def withdraw(self, eui64: int) -> list[object]:
        """Take back the image that waits for a device. LocalProtocolError when none does."""
        if eui64 not in self._waiting:
            raise LocalProtocolError(f"no image waits for {eui64:#018x}")
        return self.server.withdraw(self._waiting.pop(eui64))

    def release(self, eui64: int, now: float) -> None:
        """Tell a device that was told to wait to upgrade now. LocalProtocolError when no image waits for it."""
        if eui64 not in self._waiting:
            raise LocalProtocolError(f"no image waits for {eui64:#018x}")
        self.server.release(self._waiting[eui64], now)
        self._take_frames()

    def read_attribute(
        self, short: int, cluster: int, attribute: int, now: float, *, endpoint: int = 1, plain: bool = False
    ) -> int:
        """Ask a device for one attribute; the answer is `AttributeRead` or `ReadFailed` with the sequence returned.

        An attribute of the OTA Upgrade cluster is read from its client side. Of a device without a link key only what
        needs none is read; any other read fails at once. `plain` asks without APS security, as no hub should: to see
        whether the device minds. LocalProtocolError when 256 reads wait.
        """
        needs_key = self._security is not None and cluster not in UNDER_NETWORK_KEY and not plain
        if needs_key and not self._is_keyed(short):
            return self._reads.begin(short, cluster, attribute, now, "it has no link key yet")[0]
        sequence, frame = self._reads.begin(short, cluster, attribute, now + self.config.read_timeout)
        self._send(short, cluster, endpoint, frame, plain=plain)
        return sequence

    def send_message(self, eui64: int, octets: bytes, now: float) -> None:
        """Send a GBCS message through the tunnel to a device, or let it wait until there is one.

        LocalProtocolError when this hub opens no tunnels, the message has more than 1500 octets, or too many wait.
        """
        if self._tunnels is None:
            raise LocalProtocolError("this hub opens no tunnels: it has no credentials, or was told not to")
        self._tunnels.send(eui64, octets, now)
        self._take_tunnel_frames()

    # --- what the HAN says ---------------------------------------------------------------------------------------

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take one message from the HAN."""
        config, peer = self.config, message.peer
        if message.profile == ZDO_PROFILE and (told := address_told(message)) is not None:
            return self._told(*told, message, now)
        known = self._by_short.get(peer)
        if known is None and now >= self._asked.get(peer, -ASK_AGAIN) + ASK_AGAIN:
            # A member from before this start, which announced itself to somebody else: who is it?
            self._asked[peer] = now
            self._outgoing.append(ieee_address_request(peer, self._next_zdo()))
        if message.profile == ZDO_PROFILE and self._tunnels is not None:
            self._tunnels.discovered(message, now)
            self._take_tunnel_frames()
        frame = frame_for(config.endpoint, message)
        if frame is None:
            return []
        unicast = not message.broadcast and message.group is None
        eui64 = None if known is None else known.eui64
        if self._security is not None and not self._security.admits(eui64, message):
            refused, answer = refuse(eui64, message, frame, unicast=unicast)
            if answer is not None:
                self._answer(message, answer)
            return [refused]
        if frame.control & zcl.CLUSTER_COMMAND:
            if message.cluster == OTA_CLUSTER and unicast and not frame.control & zcl.FROM_SERVER:
                return self._ota(message, frame, now)
        elif frame.command in (zcl.READ_ATTRIBUTES_RESPONSE, zcl.DEFAULT_RESPONSE):
            return self._reads.answered(message, frame) or self._session(known, message, frame, now)
        if frame.control & zcl.CLUSTER_COMMAND and unicast and message.cluster in self._session_clusters:
            return self._session(known, message, frame, now)
        reply = self._attributes.answer(message.cluster, frame, now, unicast=unicast)
        if reply is not None:
            self._answer(message, reply)
        return []

    def _told(self, eui64: int, short: int, message: ApsMessage, now: float) -> list[object]:
        """Learn who has which address. What a carrier reports of a joiner comes before that knows its link key."""
        self.device_joined(eui64, short)
        if self._tunnels is not None and message.cluster == DEVICE_ANNOUNCE and eui64 in self.keyed:
            self._tunnels.open(eui64, short, now)
            self._take_tunnel_frames()
        return [DeviceJoined(eui64, short)]

    def _session(
        self, known: KnownDevice | None, message: ApsMessage, frame: zcl.Frame, now: float
    ) -> list[object]:
        """Hand a frame to the key establishment or the tunnels, which know their partners by EUI-64."""
        events: list[object] = []
        if known is None:
            return events
        if self._security is not None and message.cluster == KEY_ESTABLISHMENT_CLUSTER:
            known.key_endpoint = message.source_endpoint
            unicast = not message.broadcast and message.group is None
            received = self._security.receive(known.eui64, frame, now, unicast=unicast, initiates=False)
            return self._keys(received, now)
        if self._tunnels is not None and message.cluster == TUNNELING_CLUSTER:
            events = self._tunnels.receive(known.eui64, frame, now)
            self._take_tunnel_frames()
        return events

    def _keys(self, events: list[object], now: float) -> list[object]:
        """Pass on what key establishment reports, and open or forget the tunnels that hang on the keys."""
        self._take_key_frames()
        for event in events:
            if self._tunnels is not None and isinstance(event, KeyEstablished):
                self._tunnels.open(event.partner, self._by_eui64[event.partner].short, now)
            elif self._tunnels is not None and isinstance(event, KeyRejected):
                self._tunnels.forget(event.partner)
        self._take_tunnel_frames()
        return events

    def _ota(self, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        known = self._by_short.get(message.peer)
        # ZSE 5.4.6: this cluster's messages count under the link key only.
        if known is None or (self.config.secured and not message.secured):
            self._answer(message, zcl.default_response(frame, zcl.Status.NOT_AUTHORIZED))
            return []
        known.endpoint = message.source_endpoint
        events = self.server.receive(known.eui64, frame, now)
        self._take_frames()
        return events

    # --- time and messages ---------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next block of a page, or a read's time-out, is due."""
        deadline = self.server.next_deadline()
        if self._security is not None:
            deadline = soonest(deadline, self._security.next_deadline())
        if self._tunnels is not None:
            deadline = soonest(deadline, self._tunnels.next_deadline())
        return soonest(deadline, self._reads.next_deadline())

    def on_deadline(self, now: float) -> list[object]:
        """Send the blocks that are due, and end the reads and the sessions that nobody answered."""
        events = self.server.on_deadline(now)
        self._take_frames()
        if self._security is not None:
            events += self._keys(self._security.on_deadline(now, initiates=False), now)
        if self._tunnels is not None:
            events += self._tunnels.on_deadline(now)
            self._take_tunnel_frames()
        return events + self._reads.on_deadline(now)

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def _take_frames(self) -> None:
        for eui64, frame in self.server.frames_to_send():
            known = self._by_eui64.get(eui64)
            if known is None or known.endpoint is None:
                continue
            if self._security is None or eui64 in self._security.keyed:
                self._send(known.short, OTA_CLUSTER, known.endpoint, frame)

    def _take_key_frames(self) -> None:
        if self._security is None:
            return
        for eui64, frame in self._security.frames_to_send():
            known = self._by_eui64.get(eui64)
            if known is not None:
                self._send(known.short, KEY_ESTABLISHMENT_CLUSTER, known.key_endpoint, frame)

    def _take_tunnel_frames(self) -> None:
        if self._tunnels is None:
            return
        self._outgoing += self._tunnels.questions_to_send()
        for eui64, endpoint, frame in self._tunnels.frames_to_send():
            known = self._by_eui64.get(eui64)
            if known is not None and eui64 in self.keyed:
                self._send(known.short, TUNNELING_CLUSTER, endpoint, frame)

    def _is_keyed(self, short: int) -> bool:
        known = self._by_short.get(short)
        return known is not None and known.eui64 in self.keyed

    def _next_zdo(self) -> int:
        self._zdo_sequence = (self._zdo_sequence + 1) & 0xFF
        return self._zdo_sequence

    def _send(self, short: int, cluster: int, endpoint: int, frame: bytes, *, plain: bool = False) -> None:
        self._outgoing.append(
            ApsMessage(
                peer=short,
                profile=SMART_ENERGY_PROFILE,
                cluster=cluster,
                source_endpoint=self.config.endpoint,
                destination_endpoint=endpoint,
                payload=frame,
                # What needs no link key has none: the device may be without one.
                secured=self.config.secured
                and not plain
                and (self._security is None or cluster not in UNDER_NETWORK_KEY),
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
