"""A premises for tests of nodes: a hub, devices that join it, and what each of them was told."""

from __future__ import annotations

from harness.emulation.air import Air
from harness.emulation.node import Network, Node, NodeConfig, NodeKind, NodeListener, NodeState
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage, SimpleDescriptor
from harness.wire.security import install_code_crc, link_key_from_install_code

HUB, METER, PPMID, BRIDGE, OTHER = (0x000D6F000A9069E0 + index for index in range(5))
CHANNEL = 11
NETWORK = Network(CHANNEL, 0x1A62, 0x00112233AABBCCDD, bytes.fromhex("0f1e2d3c4b5a69788796a5b4c3d2e1f0"))
CLUSTER = 0x0702
SECOND = 1_000_000


def link_key(eui64: int) -> bytes:
    """The link key of the install code that this device came with."""
    code = eui64.to_bytes(8, "big") * 2
    return link_key_from_install_code(code + install_code_crc(code).to_bytes(2, "little"))


class Witness(NodeListener):
    """Keeps what its node was told, as (name, ...) tuples."""

    def __init__(self):
        self.seen = []
        self.messages = []
        self.sent = []
        self.stored = 0

    def of(self, name):
        return [event[1:] for event in self.seen if event[0] == name]

    def network_up(self):
        self.seen.append(("up",))

    def network_down(self, reason):
        self.seen.append(("down", reason))

    def message_received(self, message, aps_counter, lqi, rssi):
        if message.profile != 0:
            self.messages.append(message)
        else:
            self.seen.append(("zdo", message.cluster, message.payload))

    def message_sent(self, tag, message, status):
        self.sent.append((tag, status))

    def fragment_received(self, message, aps_counter, block, total, lqi, rssi):
        self.seen.append(("fragment", message, aps_counter, block, total))

    def device_joined(self, eui64, short, parent_short, status):
        self.seen.append(("joined", eui64, short, parent_short, status))

    def device_denied(self, eui64, short, parent_short, status):
        self.seen.append(("denied", eui64, short, parent_short, status))

    def child_joined(self, eui64, short, kind):
        self.seen.append(("child", eui64, short, kind))

    def child_left(self, eui64, short):
        self.seen.append(("child left", eui64, short))

    def route_recorded(self, short, eui64, relays):
        self.seen.append(("route", short, eui64, relays))

    def route_failed(self, short, status):
        self.seen.append(("route failed", short, status))

    def id_conflict(self, short):
        self.seen.append(("conflict", short))

    def key_changed(self, partner, status):
        self.seen.append(("key", partner, status))

    def storage_changed(self):
        self.stored += 1


class Premises:
    """An air with a hub that lets devices with their install codes join."""

    def __init__(self, seed=1, **config):
        self.air = Air(seed)
        self.frames = []
        self.air.add_tap(self._tap)
        self.told = {}
        self.hub = self.node(HUB, NodeKind.COORDINATOR, **config)
        self.hub.form(NETWORK)
        self.hub.permit_joining(255)

    def _tap(self, time_us, psdu, channel, page, rssi, lqi):
        self.frames.append((time_us, psdu, channel, page, rssi, lqi))

    def node(self, eui64, kind, **config):
        """A node on the air, with one Smart Energy endpoint, on no network."""
        self.told[eui64] = witness = Witness()
        node = Node(self.air, eui64, kind, witness, config=NodeConfig(**config))
        node.descriptors = (
            SimpleDescriptor(1, SMART_ENERGY_PROFILE, 0x0500, 0, (CLUSTER, 0x0019), (0x0000,)),
        )
        return node

    def run(self, seconds):
        self.air.advance(self.air.now + round(seconds * SECOND))

    def join(self, eui64, kind, key=None, known=True, wait=6.0, **config):
        """A device of the hub's Device Log that joins; returns it and how that ended."""
        node = self.node(eui64, kind, **config)
        if known:
            self.hub.set_link_key(eui64, link_key(eui64))
        ended = []
        node.join(link_key=key or link_key(eui64), channels=[CHANNEL], done=lambda *end: ended.append(end))
        self.run(wait)
        return node, ended

    def member(self, eui64, kind, **config):
        """A device that has joined."""
        node, ended = self.join(eui64, kind, **config)
        assert ended == [(True, "")], ended
        assert node.state == NodeState.JOINED
        return node

    def deaf(self, one, other):
        """Neither of the two hears the other."""
        self.air.set_link(one, other, heard=False)

    def unread(self):
        """Messages that reached each node's application."""
        return {eui64: len(witness.messages) for eui64, witness in self.told.items() if witness.messages}


def message(peer, payload=b"hello", **changes):
    """A secured Smart Energy message to `peer`."""
    fields = {"source_endpoint": 1, "destination_endpoint": 1, "secured": True} | changes
    return ApsMessage(peer, SMART_ENERGY_PROFILE, CLUSTER, payload=payload, **fields)
