"""A hub and the Alt HAN bridges of a site, each on a node of an emulated air."""

from __future__ import annotations

import json
import random

from harness.emulation import node_storage
from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.node import NodeConfig, NodeKind
from harness.members.bridge import AltHanBridge
from harness.members.bridge_values import BridgeConfig
from harness.members.firmware_values import FirmwareConfig
from harness.members.hub import Hub, HubConfig, WanMessage
from harness.members.kinds import DeviceKind
from harness.rig.authority import make_authority
from harness.wire.certificates import SUITE_2
from harness.wire.gbcs import parse_message
from harness.wire.gbcs_payloads import FirmwareActivated, parse_payload
from harness.wire.image import OtaImage
from harness.wire.ota_client_values import OtaClientConfig
from harness.wire.ota_server import ImageQueried
from harness.wire.package import Bridge, Package, PackagePart, build_package
from tests.unit.premises import CHANNEL, NETWORK, link_key

B1, B2, B3, B4 = Bridge
HUB = 0x000D6F000A906900
EUI64S = {bridge: 0x000D6F000A90B000 + bridge for bridge in Bridge}
TYPES = {bridge: 0x0090 + bridge for bridge in Bridge}
MAKER = 0x121D
HARDWARE = 0x1180
OLD, NEW = 1, 2
OPTION_A = {B3: (B4,)}
OPTION_B = {B1: (B2, B3, B4)}

_AUTHORITY = make_authority(random.Random(3).randbytes, suites=(SUITE_2,))
_CREDENTIALS = {
    eui64: _AUTHORITY.issue(eui64, random.Random(eui64).randbytes) for eui64 in (HUB, *EUI64S.values())
}


def image(bridge, *, version=NEW, size=300, **fields):
    """An image for one type of bridge."""
    payload = random.Random(f"{bridge} {version}").randbytes(size)
    return OtaImage(
        **(
            {"manufacturer": MAKER, "image_type": TYPES[bridge], "version": version, "payload": payload}
            | fields
        )
    )


def package(feeder, *bridges, version=NEW, parts=None, **fields):
    """An image for `feeder` that is a package of the images of `bridges`; `parts` has those that are not plain."""
    given = parts or {}
    held = tuple(PackagePart(it, given.get(it) or image(it, version=version)) for it in sorted(bridges))
    return image(feeder, version=version, payload=build_package(Package(held)), **fields)


def bridge_config(bridge, *, feeds=(), fed_by=None, **fields):
    """A bridge of this site."""
    ota = OtaClientConfig(MAKER, TYPES[bridge], hardware_version=HARDWARE, start_jitter=5.0)
    eui64 = EUI64S[bridge]
    return BridgeConfig(
        firmware=FirmwareConfig(DeviceKind.BRIDGE, eui64, MAKER, TYPES[bridge], hardware_version=HARDWARE),
        running_version=OLD,
        ota=ota,
        model=bridge.name,
        secured=True,
        credentials=_CREDENTIALS[eui64],
        bridge=bridge,
        feeds={it: EUI64S[it] for it in feeds},
        fed_by=None if fed_by is None else EUI64S[fed_by],
        **fields,
    )


class Site:
    """`feeding` says who feeds whom; the others take their images from the hub. B4 sleeps under option A.

    `saved` is what `save` gave of a site of the same bridges: they are joined then, and have their keys.
    """

    def __init__(self, feeding=OPTION_B, bridges=tuple(Bridge), *, changes=None, saved=None, seed=1):
        self.air = Air(seed)
        self.events = []
        self.feeding = feeding
        hub = HubConfig(secured=True, credentials=_CREDENTIALS[HUB])
        self.hub = self._member(Hub(hub, random.Random(1)), HUB, "hub", NodeKind.COORDINATOR, network=NETWORK)
        self.members = {}
        for bridge in bridges:
            fed_by = next((it for it, fed in feeding.items() if bridge in fed), None)
            feeds = [it for it in feeding.get(bridge, ()) if it in bridges]
            plain = {"feeds": feeds, "fed_by": fed_by}
            config = bridge_config(bridge, **(plain | (changes or {}).get(bridge, {})))
            eui64 = EUI64S[bridge]
            kind = NodeKind.SLEEPY_END_DEVICE if bridge is B4 and feeding == OPTION_A else NodeKind.ROUTER
            behaviour = AltHanBridge(config, random.Random(eui64))
            joins = {"link_key": link_key(eui64), "channels": [CHANNEL]}
            self.members[bridge] = self._member(behaviour, eui64, bridge, kind, **joins)
        for member, state in zip(self._all(), json.loads(saved or "[]"), strict=saved is not None):
            node_storage.restore(member.node, state["node"])
            member.behaviour.recall(state["behaviour"])
        if saved is None:
            self._power_on(self.hub)
            self.hub.node.permit_joining(255)
            for bridge, member in self.members.items():
                self.hub.node.set_link_key(EUI64S[bridge], member.link_key)
            self._power_on(*self.members.values())
        else:
            # The hub last: it opens its tunnels when it comes up, and again to whoever announces itself.
            self._power_on(*self.members.values())
            self.run(2)
            self._power_on(self.hub)
            self.run(30)

    def _power_on(self, *members):
        for member in members:
            member.power_on()

    def _all(self):
        return [self.hub, *self.members.values()]

    def save(self):
        """What each member's storage and memory of its commissioning hold, as JSON."""
        return json.dumps(
            [
                {"node": node_storage.save(member.node), "behaviour": member.behaviour.remember()}
                for member in self._all()
            ]
        )

    def _member(self, behaviour, eui64, name, kind, **fields):
        def on_event(now, event):
            self.events.append((now, name, event))

        config = NodeConfig(manufacturer_code=MAKER)
        return MemberNode(
            self.air, behaviour, eui64=eui64, kind=kind, config=config, on_event=on_event, **fields
        )

    @property
    def now(self):
        return self.air.now / 1e6

    def run(self, seconds):
        self.air.advance(self.air.now + round(seconds * 1e6))

    def until(self, done, within, step=1.0):
        """Let time pass until `done()`, which events make so, and say whether it came to that."""
        end = self.now + within
        seen = -1
        while self.now < end:
            if len(self.events) != seen:
                seen = len(self.events)
                if done():
                    return True
            self.run(step)
        return bool(done())

    def offer(self, offered, to):
        self.hub.behaviour.offer(offered, EUI64S[to], self.now)
        self.hub.run([])

    def of(self, name, *kinds):
        """The events of a member, of these kinds."""
        return [event for _, who, event in self.events if who == name and isinstance(event, kinds)]

    def versions(self):
        return {bridge: member.behaviour.running_version for bridge, member in self.members.items()}

    def alerts(self):
        """Each CS09 that came to the hub: who sent it, the version in it, and the result."""
        told = []
        for event in self.of("hub", WanMessage):
            message = parse_message(event.octets)
            payload = parse_payload(message)
            assert isinstance(payload, FirmwareActivated)
            assert payload.alert_code == 0x8F8B
            sender = next(bridge for bridge, eui64 in EUI64S.items() if eui64 == message.originator)
            told.append((sender, payload.firmware_version, payload.result.name))
        return told

    def behaviour(self, bridge):
        return self.members[bridge].behaviour

    def link(self):
        """Let time pass until each bridge that is fed has asked its feeder for an image, and the others the hub."""

        def asked():
            fed = {bridge: feeder for feeder, bridges in self.feeding.items() for bridge in bridges}
            return all(
                any(event.client == EUI64S[bridge] for event in self.of(fed.get(bridge, "hub"), ImageQueried))
                for bridge in self.members
            )

        assert self.until(asked, within=180)
        return self

    def cut(self, bridge, dark):
        """Cut a bridge's power, and give it back later."""
        self.members[bridge].power_cut()
        self.run(dark)
        self.members[bridge].power_on()
