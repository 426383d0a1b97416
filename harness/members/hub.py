"""The Communications Hub: serves images, the time and its identity, and carries messages between WAN and HAN."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from harness.errors import LocalProtocolError
from harness.members.device_log import DeviceLog, EntryRemoved
from harness.members.discovery import DEVICE_ANNOUNCE, Strangers, ZdoSequence, address_told
from harness.members.hub_admission import HubAdmission
from harness.members.hub_firmware import HubFirmware
from harness.members.hub_flash import HubFlash
from harness.members.hub_sessions import HubSessions
from harness.members.hub_values import DeliveryRefusal
from harness.members.hub_values import DeliveryRefused as DeliveryRefused
from harness.members.hub_values import DeviceExpelled as DeviceExpelled
from harness.members.hub_values import DeviceJoined as DeviceJoined
from harness.members.hub_values import DeviceLeft as DeviceLeft
from harness.members.hub_values import HubConfig as HubConfig
from harness.members.hub_values import KnownDevice as KnownDevice
from harness.members.hub_values import WanMessage as WanMessage
from harness.members.hub_wan import HubWan
from harness.members.kinds import DeviceKind
from harness.members.reads import AttributeRead as AttributeRead
from harness.members.reads import ReadFailed as ReadFailed
from harness.members.reads import Reads
from harness.members.security import UNDER_NETWORK_KEY, frame_for, refuse, soonest
from harness.wire import clusters, zcl
from harness.wire.application import (
    SMART_ENERGY_PROFILE,
    ZDO_PROFILE,
    ApsMessage,
    LinkKeyForgotten,
    SimpleDescriptor,
)
from harness.wire.image import OtaImage
from harness.wire.ota_messages import OTA_CLUSTER, UPGRADE_NOW
from harness.wire.ota_server import OtaServer

# SECMP0007: images for these came with it.
_OTA_OF_SECMP0007 = (DeviceKind.PPMID, DeviceKind.BRIDGE, DeviceKind.HCALCS)


class Hub:
    """The hub's behaviour (`TrustCenterBehaviour`). Who announces itself is on the HAN; only those are served.

    One that was removed from the Device Log is told to leave instead, as often as it shows up; of one that never was
    in it nothing is known that speaks against it, and a bench plays a hub without a log.
    `generator` gives the ephemeral keys of a hub with credentials, which needs one; `flash` is what an earlier hub left
    behind. The WAN drives it through `admit`, `remove`, `deliver_image` and `deliver_command`, and hears of it by
    `WanMessage`. `offer`, `withdraw`, `release` and `read_attribute` are the bench's, which tests a device by playing
    its hub: the image store has no say.
    """

    def __init__(
        self,
        config: HubConfig = HubConfig(),
        generator: random.Random | None = None,
        flash: HubFlash | None = None,
    ) -> None:
        self.config = config
        self.flash = HubFlash() if flash is None else flash
        self._admission = HubAdmission(config.limits, self.flash)
        self._by_eui64 = self.flash.devices
        self._by_short = {known.short: known for known in self._by_eui64.values()}
        self._reader: int | None = None  # who reads an attribute just now: the flags are each reader's own
        self._next_zdo = ZdoSequence()
        self._strangers = Strangers(self._next_zdo)
        self._reads = Reads()
        self._outgoing: list[ApsMessage] = []
        self._wan = HubWan(config, self.flash)
        self.firmware = HubFirmware(config, self.flash, self._by_eui64.__contains__, self._notifies)
        tables: dict[int, zcl.AttributeTable] = {
            clusters.BASIC_CLUSTER: clusters.basic_attributes(config.manufacturer_name, config.model)
        }
        utc_at_zero = config.ota.utc_at_zero
        if utc_at_zero is not None:
            tables[clusters.TIME_CLUSTER] = clusters.time_attributes(lambda now: utc_at_zero + int(now))
        tables[OTA_CLUSTER] = {clusters.CLUSTER_REVISION: zcl.constant(zcl.UINT16, 3)}
        client_tables: dict[int, zcl.AttributeTable] = {}
        self._sessions: HubSessions | None = None
        if config.secured and config.credentials:
            if generator is None:
                raise LocalProtocolError("a hub with credentials needs a generator for its ephemeral keys")
            self._sessions = HubSessions(config, self.flash, self._admission, generator, self._next_zdo)
            tables |= self._sessions.server_tables()
            client_tables = self._sessions.client_tables()
            client_tables[clusters.METERING_CLUSTER] = clusters.notification_attributes(self._flags)
        self._descriptors = (
            SimpleDescriptor(
                config.endpoint, SMART_ENERGY_PROFILE, config.device, 0, tuple(tables), tuple(client_tables)
            ),
        )
        self._attributes = zcl.AttributeServer(tables, client_tables)

    @property
    def log(self) -> DeviceLog:
        """Its Device Log, for asking; it is changed by `admit` and `remove`."""
        return self._admission.log

    @property
    def server(self) -> OtaServer:
        """Its OTA server."""
        return self.firmware.server

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
        return tuple(self.flash.keyed)

    def clock(self, now: float) -> datetime:
        """What its clock says, to the second; without one it counts from its start, as if that were the year 2000."""
        return self._wan.clock(now)

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
        self._strangers.known(short)

    def device_left(self, eui64: int, now: float) -> list[object]:
        """A device is no more of this HAN: it has to establish a key again. Its image keeps waiting."""
        logged = self._admission.followed(self.log.left(eui64, now))
        known = self._by_eui64.pop(eui64, None)
        if known is None:
            return logged
        if self._by_short.get(known.short) is known:
            del self._by_short[known.short]
        self.server.forget(eui64)
        if self._sessions is not None:
            self._sessions.left(eui64)
        return [DeviceLeft(eui64, known.short), *logged]

    def network_up(self, short: int, now: float) -> list[object]:
        """The HAN is up. GBCS 10.2.2.1: the tunnels are opened anew. Joins that are permitted are so again.

        What a power cut has damaged in the image store is told now.
        """
        events = self._admission.resumed(now)
        events += self._wan.alerts(self.firmware.resumed(), now)
        if self._sessions is not None:
            self._sessions.network_up(now)
            self._take_session_frames()
        return events

    def network_down(self, now: float) -> list[object]:
        """The HAN is down."""
        return []

    def power_cut(self) -> None:
        """Keep the flash and what the bench offers, lose the transfers, the tunnels, the mailboxes and the reads."""
        self._outgoing.clear()
        self._reads.clear()
        self._strangers.clear()
        if self._sessions is not None:
            self._sessions.power_cut()
        self.firmware.boot()

    def remember(self) -> dict[str, Any]:
        """Return what commissioning brought about, for JSON: devices, keyed partners, Device Log, counters.

        It has keys in it. The link keys that the carrier uses are not among them, nor are the images that wait.
        """
        return self.flash.remember()

    def recall(self, saved: Mapping[str, Any]) -> None:
        """Take what `remember` gave in the place of all that is here, before the HAN is up.

        The devices are served at once, without key establishment or discovery. Join periods are over.
        LocalProtocolError, and nothing changed, for what is broken: it names the field.
        """
        flash = HubFlash.recalled(saved)
        self._admission.recall(flash.log)
        self.flash.take(flash)
        self._by_short = {known.short: known for known in self._by_eui64.values()}
        self.power_cut()

    # --- what the WAN asks of it ---------------------------------------------------------------------------------

    def admit(self, eui64: int, kind: DeviceKind, link_key: bytes, period: float, now: float) -> list[object]:
        """Add a device to the Device Log (CCS01): for `period` seconds it may join with its install code's `link_key`.

        Errors as in `DeviceLog.add`.
        """
        return self._admission.followed(self.log.add(eui64, kind, link_key, period, now))

    def remove(self, eui64: int, now: float) -> list[object]:
        """Remove a device from the Device Log (CCS02): it is no member any more, and what waits for it is lost."""
        events = self._admission.followed(self.log.remove(eui64, now))
        if not any(isinstance(event, EntryRemoved) for event in events):
            return events
        events += self._wan.alerts(self.firmware.removed(eui64), now)
        if self._sessions is not None:
            events += self._sessions.removed(eui64)
        return events + self.device_left(eui64, now)

    def deliver_image(self, octets: bytes, target: int, now: float) -> list[object]:
        """Take an OTA file for the device `target`; the Device Log says what that is, the image store what comes of it.

        `DeliveryRefused` for a device that is not in the log, or whose images this hub is too old to take.
        """
        kind = self.log.kind_of(target)
        if kind is None:
            return [_not_in_log(target)]
        if kind in _OTA_OF_SECMP0007 and not self.config.ppmid_ota:
            version = self.config.gbcs_version
            reason = (
                f"this hub, of GBCS {version}, takes no image for a {kind}: its firmware predates SECMP0007"
            )
            return [DeliveryRefused(target, reason, DeliveryRefusal.BEFORE_SECMP0007)]
        events = self._wan.alerts(self.firmware.deliver(octets, kind, target, now), now)
        self._take_frames()
        return events

    def deliver_command(self, recipient: int, octets: bytes, now: float) -> list[object]:
        """Take a GBCS message for `recipient`: a device gets it through its tunnel, the hub itself answers (ECS52).

        A GSME fetches it when it wakes. `DeliveryRefused` for a device that is not in the Device Log or gets no
        messages, for a message that its tunnel cannot carry, and when too many wait.
        """
        if recipient == self.config.eui64:
            return self._wan.answer(octets)
        kind = self.log.kind_of(recipient)
        if kind is None:
            return [_not_in_log(recipient)]
        if kind is DeviceKind.IHD:
            return [DeliveryRefused(recipient, f"{recipient:#018x} is an IHD, which takes no messages")]
        if self._sessions is None:
            return [DeliveryRefused(recipient, "this hub opens no tunnels: it has no credentials")]
        try:
            self._sessions.send(recipient, octets, now)
        except LocalProtocolError as error:
            return [DeliveryRefused(recipient, str(error))]
        self._take_session_frames()
        return []

    # --- what the bench asks of it -------------------------------------------------------------------------------

    def offer(self, image: OtaImage, to: int, now: float, *, upgrade_at: int = UPGRADE_NOW) -> list[object]:
        """Let an image wait for the device `to` (EUI-64), in place of one that waited; tell the device if it is known.

        The bench's direct way: not through the image store, and whatever that holds. `upgrade_at`: see
        `OtaServer.offer`. Returns the events of taking the earlier image back.
        """
        events = self.firmware.offer(image, to, upgrade_at)
        self._take_frames()
        return events

    def withdraw(self, eui64: int) -> list[object]:
        """Take back the image that `offer` let wait for a device. LocalProtocolError when none does."""
        return self.firmware.withdraw(eui64)

    def release(self, eui64: int, now: float) -> None:
        """Tell a device that waits with the image of `offer` to upgrade now. LocalProtocolError when none waits."""
        self.firmware.release(eui64, now)
        self._take_frames()

    def _notifies(self, eui64: int) -> bool:
        """Whether a device is told of an image by an Image Notify; a GSME reads the flag NEW_OTA_FIRMWARE instead."""
        known = self._by_eui64.get(eui64)
        # An endpoint not heard yet belongs to a device that has its first query still to make.
        heard = known is not None and known.endpoint is not None
        return self.config.notifies and heard and self.log.kind_of(eui64) is not DeviceKind.GSME

    def read_attribute(
        self, short: int, cluster: int, attribute: int, now: float, *, endpoint: int = 1, plain: bool = False
    ) -> int:
        """Ask a device for one attribute; the answer is `AttributeRead` or `ReadFailed` with the sequence returned.

        An attribute of the OTA Upgrade cluster is read from its client side. Of a device without a link key only what
        needs none is read; any other read fails at once. `plain` asks without APS security, as no hub should: to see
        whether the device minds. LocalProtocolError when 256 reads wait.
        """
        needs_key = self._sessions is not None and cluster not in UNDER_NETWORK_KEY and not plain
        if needs_key and not self._is_keyed(short):
            return self._reads.begin(short, cluster, attribute, now, "it has no link key yet")[0]
        sequence, frame = self._reads.begin(short, cluster, attribute, now + self.config.read_timeout)
        self._send(short, cluster, endpoint, frame, plain=plain)
        return sequence

    # --- what the HAN says ---------------------------------------------------------------------------------------

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take one message from the HAN."""
        config, peer = self.config, message.peer
        if message.profile == ZDO_PROFILE and (told := address_told(message)) is not None:
            return self._told(*told, message, now)
        known = self._by_short.get(peer)
        if known is None:
            # A member from before this start, which announced itself to somebody else: who is it?
            self._outgoing += self._strangers.heard(peer, now)
        if message.profile == ZDO_PROFILE and self._sessions is not None:
            self._sessions.discovered(message, now)
            self._take_session_frames()
        frame = frame_for(config.endpoint, message)
        if frame is None:
            return []
        unicast = not message.broadcast and message.group is None
        sender = None if known is None else known.eui64
        if self._sessions is not None and not self._sessions.security.admits(sender, message):
            refused, answer = refuse(sender, message, frame, unicast=unicast)
            if answer is not None:
                self._answer(message, answer)
            return [refused]
        if frame.control & zcl.CLUSTER_COMMAND:
            if message.cluster == OTA_CLUSTER and unicast and not frame.control & zcl.FROM_SERVER:
                return self._ota(message, frame, now)
        elif frame.command in (zcl.READ_ATTRIBUTES_RESPONSE, zcl.DEFAULT_RESPONSE):
            return self._reads.answered(message, frame) or self._session(known, message, frame, now)
        sessions = self._sessions
        command = frame.control & zcl.CLUSTER_COMMAND
        if command and unicast and sessions is not None and message.cluster in sessions.clusters:
            return self._session(known, message, frame, now)
        self._reader = sender
        reply = self._attributes.answer(message.cluster, frame, now, unicast=unicast)
        if reply is not None:
            self._answer(message, reply)
        return []

    def _told(self, eui64: int, short: int, message: ApsMessage, now: float) -> list[object]:
        """Learn who has which address. What a carrier reports of a joiner comes before that knows its link key."""
        if eui64 in self.flash.removed:  # CCS02: it was out of reach when it was told to leave
            self._by_short.pop(short, None)
            return [DeviceExpelled(eui64, short), LinkKeyForgotten(eui64)]
        self.device_joined(eui64, short)
        events: list[object] = [DeviceJoined(eui64, short)]
        events += self._admission.joined(eui64, now)
        if self._sessions is not None and message.cluster == DEVICE_ANNOUNCE:
            self._sessions.announced(self._by_eui64[eui64], now)
            self._take_session_frames()
        return events

    def _session(
        self, known: KnownDevice | None, message: ApsMessage, frame: zcl.Frame, now: float
    ) -> list[object]:
        """Hand on a frame of a conversation, or an answer that no read waits for; a stranger has none."""
        if known is None or self._sessions is None:
            return []
        events = self._sessions.receive(known, message, frame, now)
        self._take_session_frames()
        return events

    def _flags(self, now: float) -> int:
        """Return the Functional Notification Flags for who reads them."""
        reader = self._reader
        if reader is None or self._sessions is None:
            return 0
        pending = self._sessions.gsmes.pending(reader)
        firmware = clusters.NEW_OTA_FIRMWARE if self.firmware.waits_for(reader) else 0
        return firmware | (clusters.TUNNEL_MESSAGE_PENDING if pending else 0)

    def _ota(self, message: ApsMessage, frame: zcl.Frame, now: float) -> list[object]:
        known = self._by_short.get(message.peer)
        # ZSE 5.4.6: this cluster's messages count under the link key only.
        if known is None or (self.config.secured and not message.secured):
            self._answer(message, zcl.default_response(frame, zcl.Status.NOT_AUTHORIZED))
            return []
        known.endpoint = message.source_endpoint
        events = self.firmware.served(self.server.receive(known.eui64, frame, now))
        self._take_frames()
        return self._wan.alerts(events, now)

    # --- time and messages ---------------------------------------------------------------------------------------

    def next_deadline(self) -> float | None:
        """When the next block of a page, the end of a waiting, or a read's time-out is due."""
        deadline = soonest(self.firmware.next_deadline(), self.log.next_deadline())
        if self._sessions is not None:
            deadline = soonest(deadline, self._sessions.next_deadline())
        return soonest(deadline, self._reads.next_deadline())

    def on_deadline(self, now: float) -> list[object]:
        """Send the blocks that are due, and end the waiting, the reads and the sessions that nobody answered."""
        events = self._wan.alerts(self.firmware.on_deadline(now), now)
        self._take_frames()
        events += self._admission.on_deadline(now)
        if self._sessions is not None:
            events += self._sessions.on_deadline(now)
            self._take_session_frames()
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
            if self._sessions is None or eui64 in self.flash.keyed:
                self._send(known.short, OTA_CLUSTER, known.endpoint, frame)

    def _take_session_frames(self) -> None:
        sessions = self._sessions
        if sessions is None:
            return
        for known, cluster, endpoint, frame in sessions.key_frames_to_send():
            self._send(known.short, cluster, endpoint, frame)
        self._outgoing += sessions.questions_to_send()
        for known, cluster, endpoint, frame in sessions.frames_to_send():
            self._send(known.short, cluster, endpoint, frame)

    def _is_keyed(self, short: int) -> bool:
        known = self._by_short.get(short)
        return known is not None and known.eui64 in self.keyed

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
                and (self._sessions is None or cluster not in UNDER_NETWORK_KEY),
            )
        )

    def _answer(self, message: ApsMessage, frame: bytes) -> None:
        self._outgoing.append(message.answer(frame, endpoint=self.config.endpoint))


def _not_in_log(eui64: int) -> DeliveryRefused:
    return DeliveryRefused(
        eui64, f"{eui64:#018x} is not in the Device Log", DeliveryRefusal.NOT_IN_DEVICE_LOG
    )
