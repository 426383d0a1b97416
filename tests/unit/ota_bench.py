"""Test benches for the OTA cores: a client alone, and a hub with PPMIDs on a link that loses and repeats messages."""

from __future__ import annotations

import heapq
import random
import struct
from functools import partial

from harness.members.device_values import DeviceConfig
from harness.members.firmware_values import FirmwareConfig
from harness.members.hub import Hub
from harness.members.kinds import DeviceKind
from harness.members.ppmid import Ppmid
from harness.wire import zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage, Restart
from harness.wire.image import OtaImage, build_image
from harness.wire.ota_client import OtaClient
from harness.wire.ota_client_values import (
    DownloadStarted,
    OtaClientConfig,
    OtaStorage,
)
from harness.wire.ota_messages import (
    ImageBlock,
    ImageBlockRequest,
    QueryNextImageResponse,
    UpgradeEndRequest,
    build_message,
    parse_message,
)

FILE = build_image(OtaImage(0x121D, 0x0084, 7, bytes(range(184))))  # 240 octets
KEY = (0x121D, 0x0084, 7)
FOUND = QueryNextImageResponse(0, *KEY, 240)
SERVER = 0x0000


def block(offset, size=50, data=FILE):
    """A good block of the file."""
    return ImageBlock(*KEY, offset, data[offset : offset + size])


class ClientBench:
    """A client, and what it says to the server's messages. Blocks of 50 octets, no jitter."""

    def __init__(self, *, storage=None, running=6, verify=lambda data: True, start=True, seed=1, **config):
        config = {"hardware_version": 0x1111, "block_size": 50, "start_jitter": 0.0} | config
        self.storage = storage or OtaStorage()
        self.config = OtaClientConfig(0x121D, 0x0084, **config)
        self.client = OtaClient(self.config, self.storage, running, verify, random.Random(seed))
        self.now = 10.0
        if start:
            self.client.start(SERVER, 0xABCD, self.now)

    def sent(self):
        """What it sent, each as its message, or (command, status) of a Default Response."""
        out = []
        for to, data in self.client.frames_to_send():
            frame = zcl.parse_frame(data)
            general = not frame.control & zcl.CLUSTER_COMMAND
            word = zcl.parse_default_response(frame.payload) if general else parse_message(frame)
            out.append(word if to == SERVER else (to, word))
        return out

    def say(self, message, *, source=SERVER, unicast=True, default_response=False):
        frame = (
            message
            if isinstance(message, zcl.Frame)
            else zcl.parse_frame(build_message(message, 9, default_response=default_response))
        )
        return self.client.receive(source, frame, self.now, unicast=unicast)

    def refuse(self, command, status):
        payload = bytes((command, status))
        return self.say(zcl.Frame(zcl.FROM_SERVER | 0x10, None, 9, zcl.DEFAULT_RESPONSE, payload))

    def wait(self):
        """Go to the client's next deadline and return the events."""
        self.now = self.client.next_deadline()
        return self.client.on_deadline(self.now)

    def begin(self):
        """Up to the first block request."""
        self.wait()
        events = self.say(FOUND)
        assert events == [DownloadStarted(7, 240, 0)]
        self.sent()

    def fetch(self):
        """The whole file, up to the Upgrade End Request."""
        self.begin()
        for offset in range(0, 240, 50):
            self.say(block(offset))
        self.sent()
        events = self.wait()
        assert self.sent()[-1] == UpgradeEndRequest(0, *KEY)
        return events


def request(offset):
    """The block request for an offset, as this bench's client makes it."""
    return ImageBlockRequest(*KEY, offset, 50, None, 0)


HUB_EUI64 = 0x000D6F000A906900
PPMID_EUI64 = 0x000D6F000A9069E7
PPMID_SHORT = 0x1A2B
LINK_DELAY = 0.005


def ppmid_config(**ota):
    """The PPMID of the standing rig: the DCC sample's manufacturer, type and hardware. It starts at once."""
    ota = {"hardware_version": 0x1180, "start_jitter": 0.0} | ota
    client = OtaClientConfig(0x121D, 0x0084, **ota)
    firmware = FirmwareConfig(DeviceKind.PPMID, PPMID_EUI64, 0x121D, 0x0084, client.hardware_version)
    return DeviceConfig(firmware, 1, client, model="PPMID")


def ppmid_image(version=2, size=500, **fields):
    """An image that fits that PPMID."""
    fields = {"hardware_min": 0x1111, "hardware_max": 0x1211} | fields
    return OtaImage(0x121D, 0x0084, version, random.Random(version).randbytes(size), **fields)


class Han:
    """A hub and PPMIDs on a link that takes 5 ms, and may lose and repeat messages.

    It plays the carrier of each: hands messages over, answers the ZDO of discovery for the hub, obeys Restart.
    """

    def __init__(self, *configs, hub=None, loss=0.0, repeats=0.0, seed=1):
        self.now = 0.0
        self.random = random.Random(seed)
        self.loss = loss
        self.repeats = repeats
        self.hub = hub or Hub()
        self.hub_deaf = False
        self.ppmids = {}
        self.events = []
        self.delivered = 0  # messages that reached a PPMID
        self.on_delivery = lambda: None
        self._queue = []
        self._order = 0
        self._epoch = {0: 0}  # a power cut ends what is on its way to or from the node
        self.hub.network_up(0, 0.0)
        for index, config in enumerate(configs or (ppmid_config(),)):
            short = PPMID_SHORT + index
            self.ppmids[short] = Ppmid(config, random.Random(seed + index))
            self._epoch[short] = 0
            self.hub.device_joined(PPMID_EUI64 + index, short)
            self.power_on(short)

    @property
    def ppmid(self):
        return self.ppmids[PPMID_SHORT]

    def kinds(self):
        """The events so far, without times."""
        return [event for _, event in self.events]

    def power_on(self, short):
        self._record(short, self.ppmids[short].network_up(short, self.now))

    def power_cut(self, short=PPMID_SHORT, dark=5.0):
        """Cut a PPMID's power now, and give it back `dark` seconds later."""
        self.ppmids[short].power_cut()
        self.ppmids[short].network_down(self.now)
        self._go_dark(short, dark)

    def _go_dark(self, short, seconds):
        self._epoch[short] += 1
        epoch = self._epoch[short]
        self._at(self.now + seconds, lambda: self._epoch[short] == epoch and self.power_on(short))

    def _at(self, when, callback):
        self._order += 1
        heapq.heappush(self._queue, (when, self._order, callback))

    def _record(self, short, events):
        for event in events:
            self.events.append((self.now, event))
            if type(event) is Restart:
                self._go_dark(short, event.seconds)
        self.collect()

    def collect(self):
        """Put what the members want sent on the link."""
        for message in self.hub.messages_to_send():
            self._carry(0, message.peer, message)
        for short, ppmid in self.ppmids.items():
            for message in ppmid.messages_to_send():
                self._carry(short, message.peer, message)

    def _carry(self, source, to, message):
        for _ in range(1 + (self.random.random() < self.repeats)):
            if self.random.random() >= self.loss and to in self._epoch:
                arriving = replace_peer(message, source)
                epoch = self._epoch[to]
                delay = LINK_DELAY * (1 + self.random.randrange(3) * (self.repeats > 0))
                self._at(self.now + delay, partial(self._deliver, to, epoch, arriving))

    def _deliver(self, to, epoch, message):
        if self._epoch[to] != epoch:
            return
        if to != 0:
            self.delivered += 1
            self._record(to, self.ppmids[to].receive(message, self.now))
            self.on_delivery()
        elif self.hub_deaf:
            return
        elif message.profile == ZDO_PROFILE:
            self._carry(0, message.peer, zdo_answer(message))
        else:
            self._record(0, self.hub.receive(message, self.now))

    def run(self, until, stop=lambda event: False):
        """Let time pass up to `until`, or to the first event that `stop` accepts; say whether there was one."""
        seen = len(self.events)
        self.collect()
        while True:
            for _, event in self.events[seen:]:
                seen += 1
                if stop(event):
                    return True
            members = [(0, self.hub), *self.ppmids.items()]
            due = [(member.next_deadline(), short, member) for short, member in members]
            due = [row for row in due if row[0] is not None]
            when = min([row[0] for row in due] + [row[0] for row in self._queue[:1]], default=until)
            if when >= until:
                self.now = until
                return False
            self.now = max(self.now, when)
            if self._queue and self._queue[0][0] <= when:
                heapq.heappop(self._queue)[2]()
            else:
                _, short, member = min(due, key=lambda row: row[:2])
                self._record(short, member.on_deadline(self.now))


def replace_peer(message, peer):
    """A message as it arrives: `peer` is its sender."""
    return ApsMessage(
        peer,
        message.profile,
        message.cluster,
        message.source_endpoint,
        message.destination_endpoint,
        message.payload,
        secured=message.secured,
    )


def zdo_answer(message):
    """What the hub's node answers to Match_Desc_req and IEEE_addr_req."""
    sequence = message.payload[0]
    if message.cluster == 0x0006:
        asked = struct.unpack("<BHHBHB", message.payload)
        assert asked[1:] == (0x0000, SMART_ENERGY_PROFILE, 1, 0x0019, 0)
        payload = struct.pack("<BBHBB", sequence, 0, 0x0000, 1, 1)
    else:
        assert (message.cluster, message.payload[1:]) == (0x0001, bytes(4))
        payload = struct.pack("<BBQH", sequence, 0, HUB_EUI64, 0x0000)
    return ApsMessage(message.peer, ZDO_PROFILE, message.cluster | 0x8000, 0, 0, payload)
