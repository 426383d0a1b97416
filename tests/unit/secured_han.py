"""A hub and devices with certificates, on a link that knows their keys and loses and repeats messages."""

from __future__ import annotations

import heapq
import random
import struct
from functools import partial

from harness.members.device_values import DeviceConfig
from harness.members.firmware_values import FirmwareConfig
from harness.members.hub import Hub, HubConfig
from harness.members.kinds import DeviceKind
from harness.members.ppmid import Ppmid
from harness.rig.authority import make_authority
from harness.wire.application import (
    SMART_ENERGY_PROFILE,
    ZDO_PROFILE,
    ApsMessage,
    LinkKeyEstablished,
    LinkKeyRestored,
    Restart,
)
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.certificates import SUITE_2
from harness.wire.ota_client_values import OtaClientConfig

HUB, PPMID, SECOND = 0x000D6F000A906900, 0x000D6F000A9069E7, 0x000D6F000A9069E8
ESME, GSME = 0x00DB1234567890A0, 0x00DB1234567890A1
SHORTS = {HUB: 0x0000, PPMID: 0x1A2B, SECOND: 0x1A2C, ESME: 0x1A2D, GSME: 0x1A2E}
DELAY = 0.005

_AUTHORITY = make_authority(random.Random(3).randbytes, suites=(SUITE_2,))
_STRANGER = make_authority(random.Random(4).randbytes, issuer=0x5354524E47455231, suites=(SUITE_2,))
CREDENTIALS = {eui64: _AUTHORITY.issue(eui64, random.Random(eui64).randbytes) for eui64 in SHORTS}
STRANGERS = _STRANGER.issue(PPMID, random.Random(5).randbytes)


def hub_config(**fields):
    """A secured hub with certificates."""
    return HubConfig(**({"secured": True, "credentials": CREDENTIALS[HUB]} | fields))


def ppmid_config(eui64=PPMID, **fields):
    """A secured PPMID with certificates, which starts its OTA at once."""
    ota = OtaClientConfig(0x121D, 0x0084, hardware_version=0x1180, start_jitter=0.0)
    firmware = FirmwareConfig(DeviceKind.PPMID, eui64, 0x121D, 0x0084, 0x1180)
    return DeviceConfig(firmware, 1, ota, **({"secured": True, "credentials": CREDENTIALS[eui64]} | fields))


class SecuredHan:
    """The carriers of all members in one: a message under a key that the other side has not is lost.

    `devices` are behaviours by EUI-64; without them those of `eui64s` are PPMIDs.
    """

    def __init__(self, *eui64s, hub=None, ppmid=None, devices=None, loss=0.0, repeats=0.0, seed=1):
        self.now = 0.0
        self.random = random.Random(seed)
        self.loss, self.repeats = loss, repeats
        self.members = {HUB: Hub(hub or hub_config(), random.Random(seed))}
        self.members |= devices or {
            eui64: Ppmid(ppmid or ppmid_config(eui64), random.Random(eui64)) for eui64 in eui64s or (PPMID,)
        }
        self.by_short = {SHORTS[eui64]: eui64 for eui64 in self.members}
        # What each has as link key with each, the last one last; None is the pre-configured one.
        self.keys = {}
        self.up = dict.fromkeys(self.members, False)
        self.epoch = dict.fromkeys(self.members, 0)
        self.events = []
        self.sent = []  # (sender, message) of what was not lost
        self.lose = lambda sender, message: False
        self._queue, self._order = [], 0
        for eui64 in self.members:
            self.power_on(eui64)

    @property
    def hub(self):
        return self.members[HUB]

    @property
    def ppmid(self):
        return self.members[PPMID]

    def of(self, eui64, *kinds):
        """The events of a member, of these kinds."""
        return [event for _, who, event in self.events if who == eui64 and isinstance(event, kinds)]

    def key(self, owner, partner):
        return self.keys.get((owner, partner), [None])[-1]

    def power_on(self, eui64):
        """It is on the network; a device announces itself."""
        self.up[eui64] = True
        self._record(eui64, self.members[eui64].network_up(SHORTS[eui64], self.now))
        if eui64 != HUB:
            announced = struct.pack("<BHQB", 1, SHORTS[eui64], eui64, 0x80)
            self.carry(eui64, ApsMessage(0, ZDO_PROFILE, 0x0013, 0, 0, announced, broadcast=True))

    def power_cut(self, eui64, dark=5.0):
        """Cut a member's power, and give it back `dark` seconds later."""
        self.members[eui64].power_cut()
        self._go_dark(eui64, dark)

    def _go_dark(self, eui64, seconds):
        self.members[eui64].power_cut()
        self.members[eui64].network_down(self.now)
        self.up[eui64] = False
        self.epoch[eui64] += 1
        epoch = self.epoch[eui64]
        self._at(self.now + seconds, lambda: self.epoch[eui64] == epoch and self.power_on(eui64))

    def _at(self, when, callback):
        self._order += 1
        heapq.heappush(self._queue, (when, self._order, callback))

    def _record(self, eui64, events):
        for event in events:
            self.events.append((self.now, eui64, event))
            if isinstance(event, LinkKeyEstablished):
                self.keys.setdefault((eui64, event.partner), [None]).append(event.key)
            elif isinstance(event, LinkKeyRestored):
                self.keys[eui64, event.partner].pop()
            elif isinstance(event, Restart):
                self._go_dark(eui64, event.seconds)
        self.collect()

    def collect(self):
        """Put what the members want sent on the link."""
        for eui64, member in self.members.items():
            for message in member.messages_to_send():
                if self.up[eui64]:
                    self.carry(eui64, message)

    def carry(self, sender, message):
        """Let a message travel from a member."""
        to = self.by_short.get(message.peer)
        assert not (message.cluster == KEY_ESTABLISHMENT_CLUSTER and message.secured)
        for _ in range(1 + (self.random.random() < self.repeats)):
            if to is None or self.random.random() < self.loss or self.lose(sender, message):
                continue
            self.sent.append((sender, message))
            key = self.key(sender, to) if message.secured else None
            arriving = message._replace(peer=SHORTS[sender])
            delay = DELAY * (1 + self.random.randrange(3) * (self.repeats > 0))
            self._at(self.now + delay, partial(self._deliver, sender, to, arriving, key))

    def _deliver(self, sender, to, message, key):
        if not self.up[to] or (message.secured and self.key(to, sender) != key):
            return
        if message.profile == ZDO_PROFILE and not message.cluster & 0x8000 and message.cluster != 0x0013:
            self.carry(to, self._zdo_answer(to, message))
            return
        self._record(to, self.members[to].receive(message, self.now))

    def _zdo_answer(self, eui64, message):
        sequence, short = message.payload[0], SHORTS[eui64]
        if message.cluster == 0x0001:
            payload = struct.pack("<BBQH", sequence, 0, eui64, short)
        else:
            _, address, profile, _, cluster, _ = struct.unpack("<BHHBHB", message.payload)
            assert (address, profile) == (short, SMART_ENERGY_PROFILE)
            (descriptor,) = self.members[eui64].descriptors
            found = bytes((descriptor.endpoint,)) if cluster in descriptor.server_clusters else b""
            payload = struct.pack("<BBHB", sequence, 0, short, len(found)) + found
        return ApsMessage(message.peer, ZDO_PROFILE, message.cluster | 0x8000, 0, 0, payload)

    def run(self, until, stop=lambda event: False):
        """Let time pass up to `until`, or to the first event that `stop` accepts; say whether there was one."""
        seen = len(self.events)
        self.collect()
        while True:
            for _, _, event in self.events[seen:]:
                seen += 1
                if stop(event):
                    return True
            due = [
                (deadline, SHORTS[eui64], eui64)
                for eui64, member in self.members.items()
                if self.up[eui64] and (deadline := member.next_deadline()) is not None
            ]
            when = min([row[0] for row in due] + [row[0] for row in self._queue[:1]], default=until)
            if when >= until:
                self.now = until
                return False
            self.now = max(self.now, when)
            if self._queue and self._queue[0][0] <= when:
                heapq.heappop(self._queue)[2]()
            else:
                eui64 = min(due)[2]
                self._record(eui64, self.members[eui64].on_deadline(self.now))
