"""What the tests of both carriers share: a behaviour that does as it is told, and a hub on an emulated stick."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness.clock import VirtualLoop
from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.ncp import EmulatedNcp, NcpConfig
from harness.emulation.node import Network, NodeKind
from harness.radio.coordinator import Coordinator
from harness.radio.emulated import plug_in
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage, JoinPermitted, SimpleDescriptor

HUB, PPMID, OTHER = 0x000D6F000A9069E7, 0x00155F0001020304, 0x00155F0001020305
CHANNEL = 11
NETWORK = Network(CHANNEL, 0x1A62, 0x00112233AABBCCDD, bytes.fromhex("0f1e2d3c4b5a69788796a5b4c3d2e1f0"))
CLUSTER = 0x0704
INSTALL_KEY = bytes(range(16))
NEW_KEY = bytes(range(0x80, 0x90))
URL = "emulated://hub"


class Toy:
    """A behaviour that sends what is put in its outbox, and keeps what it is told."""

    def __init__(self) -> None:
        self.outbox: list[ApsMessage] = []
        self.received: list[ApsMessage] = []
        self.gone: list[int] = []

    @property
    def descriptors(self) -> list[SimpleDescriptor]:
        return [SimpleDescriptor(1, SMART_ENERGY_PROFILE, 0x0500, 0, (CLUSTER,), (CLUSTER,))]

    def network_up(self, short: int, now: float) -> list[object]:
        return []

    def network_down(self, now: float) -> list[object]:
        return []

    def receive(self, received: ApsMessage, now: float) -> list[object]:
        if received.profile == SMART_ENERGY_PROFILE:
            self.received.append(received)
        return []

    def device_left(self, eui64: int, now: float) -> list[object]:
        self.gone.append(eui64)
        return []

    def messages_to_send(self) -> list[ApsMessage]:
        outbox, self.outbox = self.outbox, []
        return outbox

    def next_deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> list[object]:
        return []

    def power_cut(self) -> None:
        self.outbox = []

    def take(self) -> list[bytes]:
        """The payloads that arrived since the last call; every one of them was secured."""
        received, self.received = self.received, []
        assert all(message.secured for message in received)
        return [message.payload for message in received]


def message(peer: int, payload: bytes) -> ApsMessage:
    """A Smart Energy message under the link key."""
    return ApsMessage(peer, SMART_ENERGY_PROFILE, CLUSTER, 1, 1, payload, secured=True)


class Han:
    """A hub played over an emulated stick, and a device on the air; both do as the test says."""

    def __init__(self, loop: VirtualLoop, version: int, config: NcpConfig | None) -> None:
        self.air = Air(seed=3)
        self.ncp = EmulatedNcp(self.air, HUB, ezsp_version=version, config=config)
        plug_in(loop, URL, self.ncp, self.air)
        self.keys: list[tuple[bytes, str]] = []
        self.events: list[object] = []
        self.hub = Toy()
        self.carrier = Coordinator(
            URL,
            self.hub,
            NETWORK,
            on_event=lambda now, event: self.events.append(event),
            on_key=lambda key, label: self.keys.append((key, label)),
        )
        self.device = Toy()
        self.told: list[object] = []
        self.member = self.add(self.device, PPMID)

    def add(self, behaviour: Toy, eui64: int, kind: NodeKind = NodeKind.ROUTER) -> MemberNode:
        return MemberNode(
            self.air,
            behaviour,
            eui64=eui64,
            kind=kind,
            link_key=INSTALL_KEY,
            channels=[CHANNEL],
            on_event=lambda now, event: self.told.append(event),
        )

    async def permit(self) -> None:
        """Open the HAN to the device for a minute, under the key of its install code."""
        self.carrier.run([JoinPermitted(PPMID, INSTALL_KEY, 60.0)])
        await self.carrier.settled()

    async def join(self) -> None:
        """Let the device join under the key of its install code."""
        await self.permit()
        self.member.power_on()
        await asyncio.sleep(10)
        assert self.member.joined

    def of(self, kind: type[Any]) -> list[Any]:
        """The events of the hub's carrier that are of that kind."""
        return [event for event in self.events if isinstance(event, kind)]

    def down(self, payload: bytes) -> None:
        """Have the hub send to the device."""
        self.hub.outbox.append(message(self.member.node.short, payload))
        self.carrier.run([])

    def up(self, payload: bytes) -> None:
        """Have the device send to the hub."""
        self.device.outbox.append(message(0, payload))
        self.member._follow([])


@asynccontextmanager
async def han(loop: Any, version: int, config: NcpConfig | None = None) -> AsyncIterator[Han]:
    """Open a HAN of which nobody is a member yet; the NCP must know every command that it is sent."""
    assert isinstance(loop, VirtualLoop)
    made = Han(loop, version, config)
    loop.attach(made.air)
    try:
        await made.carrier.start()
        try:
            yield made
        finally:
            await made.carrier.stop()
    finally:
        loop.detach(made.air)
    assert made.ncp.failures == []
    assert [event for event in made.events if isinstance(event, BaseException)] == []
