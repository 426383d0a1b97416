"""A hub with a Device Log, whose devices are played octet by octet."""

from __future__ import annotations

import random
import struct

from harness.members.hub import Hub, HubConfig, WanMessage
from harness.members.hub_flash import HubFlash
from harness.members.kinds import DeviceKind
from harness.rig.authority import make_authority
from harness.wire import zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ZDO_PROFILE, ApsMessage
from harness.wire.gbcs import parse_message as parse_gbcs
from harness.wire.gbcs_payloads import parse_payload
from harness.wire.image import OtaImage, build_image
from harness.wire.ota_messages import (
    ImageBlockRequest,
    QueryNextImageRequest,
    UpgradeEndRequest,
    build_message,
    parse_message,
)

HUB, DSP = 0x000D6F000A906900, 0x90B3D51F30010000
ESME, GSME, HCALCS, PPMID, BRIDGE, IHD = DeviceKind
# A device a kind: EUI-64, short address, image type.
DEVICES = {kind: 0x000D6F000A9069E0 + index for index, kind in enumerate(DeviceKind)}
SHORTS = {eui64: 0x1A20 + index for index, eui64 in enumerate(DEVICES.values())}
MAKER = 0x121D
SIZE = 160
LINK_KEY = bytes(range(16))

_AUTHORITY = make_authority(random.Random(3).randbytes)
CREDENTIALS = _AUTHORITY.issue(HUB, random.Random(HUB).randbytes)


def image_type(kind):
    """What the images of a kind are."""
    return 0x0084 if kind is PPMID else 0x0100 + list(DeviceKind).index(kind)


def image(kind, version=2, **fields):
    """An OTA file of 160 octets for a kind of device."""
    hardware = {"hardware_min": 0x1111, "hardware_max": 0x1211}
    fields = hardware | {"payload": bytes(SIZE - 60)} | fields
    return build_image(OtaImage(MAKER, image_type(kind), version, **fields))


class HubBench:
    """A hub whose log has one device of each kind of `kinds`, all of them on the HAN; times are the bench's."""

    def __init__(self, *kinds, secured=False, flash=None, **config):
        config = {"eui64": HUB, "wan_party": DSP, "secured": secured} | config
        if secured:
            config |= {"credentials": CREDENTIALS}
        self.config = HubConfig(**config)
        self.secured = secured
        self.now = 10.0
        if flash is None:
            flash = HubFlash(keyed=[DEVICES[kind] for kind in kinds] if secured else [])
        self.hub = Hub(self.config, random.Random(1), flash)
        self.events = []
        for kind in kinds:
            self.hub.admit(DEVICES[kind], kind, LINK_KEY, 600, self.now)
            self.announce(kind)

    def announce(self, kind):
        """Let a device say that it is on the HAN."""
        short, eui64 = SHORTS[DEVICES[kind]], DEVICES[kind]
        payload = struct.pack("<BHQB", 1, short, eui64, 0x80)
        message = ApsMessage(short, ZDO_PROFILE, 0x0013, 0, 0, payload, broadcast=True)
        self.events = self.hub.receive(message, self.now)
        self.asked = [each for each in self.hub.messages_to_send() if each.profile == ZDO_PROFILE]

    def deliver(self, kind, version=2, **fields):
        """Deliver an image for the device of a kind; return the events."""
        self.events = self.hub.deliver_image(image(kind, version, **fields), DEVICES[kind], self.now)
        return self.events

    def hear(self, kind, payload, *, cluster=0x0019):
        """Let a device say something; return what it is answered, the hub's ZDO questions left out."""
        message = ApsMessage(
            SHORTS[DEVICES[kind]], SMART_ENERGY_PROFILE, cluster, 5, 1, payload, secured=self.secured
        )
        self.events = self.hub.receive(message, self.now)
        return self.sent()

    def sent(self):
        """What the hub has sent, but for its questions of the ZDO, as ZCL frames with their receivers."""
        return [
            (message.peer, message.cluster, zcl.parse_frame(message.payload))
            for message in self.hub.messages_to_send()
            if message.profile != ZDO_PROFILE
        ]

    def ask(self, kind, request):
        """Let a device say something of OTA; return the one answer, or the command and status of a default one."""
        ((peer, _, frame),) = self.hear(kind, build_message(request, 0x42))
        assert peer == SHORTS[DEVICES[kind]]
        if not frame.control & zcl.CLUSTER_COMMAND:
            return zcl.parse_default_response(frame.payload)
        return parse_message(frame)

    def query(self, kind, version=1, hardware=0x1180):
        """Let a device ask for an image."""
        return self.ask(kind, QueryNextImageRequest(MAKER, image_type(kind), version, hardware))

    def block(self, kind, offset=0, version=2):
        """Let a device fetch 50 octets."""
        return self.ask(kind, ImageBlockRequest(MAKER, image_type(kind), version, offset, 50))

    def fetch(self, kind, upto=SIZE, version=2):
        """Let a device ask, and fetch the blocks before `upto`."""
        self.query(kind)
        for offset in range(0, upto, 50):
            self.block(kind, offset, version)

    def end(self, kind, status=0, version=2):
        """Let a device say how its transfer ended."""
        return self.ask(kind, UpgradeEndRequest(status, MAKER, image_type(kind), version))

    def cut_power(self, dark=5.0):
        """Cut the hub's power; return what it says when it is back."""
        self.hub.power_cut()
        self.now += dark
        self.events = self.hub.network_up(0, self.now)
        return self.events

    def told(self):
        """The GBCS payloads that the hub itself has just sent up, each with its message."""
        messages = [
            parse_gbcs(event.octets)
            for event in self.events
            if isinstance(event, WanMessage) and event.source == HUB
        ]
        return [(message, parse_payload(message)) for message in messages]

    def alerts(self):
        """The firmware transfer alerts just sent up, as (alert code, target, version, response)."""
        return [
            (payload.alert_code, payload.target, payload.firmware_version, payload.response.name)
            for _, payload in self.told()
        ]
