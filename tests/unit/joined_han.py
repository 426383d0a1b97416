"""A secured HAN whose hub is emulated, and whose devices are played over emulated NCPs by Joiners."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from harness.clock import VirtualLoop
from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.ncp import EmulatedNcp, NcpConfig
from harness.emulation.node import Network, NodeKind
from harness.members.device_values import DeviceConfig
from harness.members.firmware_values import FirmwareConfig
from harness.members.hub import Hub
from harness.members.hub_values import HubConfig
from harness.members.kinds import DeviceKind
from harness.members.ppmid import Ppmid
from harness.radio.emulated import plug_in
from harness.radio.joiner import Joiner
from harness.rig.authority import make_authority
from harness.wire.application import Behaviour
from harness.wire.certificates import SUITE_2
from harness.wire.image import OtaImage
from harness.wire.ota_client_values import OtaClientConfig
from harness.wire.security import install_code_crc, link_key_from_install_code

HUB = 0x000D6F000A906900
DEVICES = tuple(0x00155F0001020300 + index for index in range(8))
NETWORK = Network(15, 0x1A62, 0x00112233AABBCCDD, bytes.fromhex("0f1e2d3c4b5a69788796a5b4c3d2e1f0"))
VERSIONS = (8, 13, 14, 19)

_AUTHORITY = make_authority(random.Random(3).randbytes, suites=(SUITE_2,))


def link_key(eui64: int) -> bytes:
    """The key of the install code that this device came with."""
    code = eui64.to_bytes(8, "big") * 2
    return link_key_from_install_code(code + install_code_crc(code).to_bytes(2, "little"))


def new_ppmid(eui64: int) -> Ppmid:
    """A secured PPMID with certificates, which runs version 1 and is back 30 s after it activated another."""
    firmware = FirmwareConfig(DeviceKind.PPMID, eui64, 0x121D, 0x0084, hardware_version=0x1180)
    ota = OtaClientConfig(0x121D, 0x0084, hardware_version=0x1180, start_jitter=0.0)
    credentials = _AUTHORITY.issue(eui64, random.Random(eui64).randbytes)
    config = DeviceConfig(firmware, 1, ota=ota, secured=True, credentials=credentials)
    return Ppmid(config, random.Random(eui64))


def new_image(version: int = 2, size: int = 2048) -> OtaImage:
    """An image that such a PPMID takes."""
    payload = random.Random(version).randbytes(size)
    return OtaImage(0x121D, 0x0084, version, payload, hardware_min=0x1180, hardware_max=0x1180)


class Member:
    """One device: its behaviour, its stick, and the Joiner between the two."""

    def __init__(
        self, han: JoinedHan, eui64: int, version: int, behaviour: Behaviour, **settings: Any
    ) -> None:
        self.eui64 = eui64
        self.behaviour: Any = behaviour
        config = NcpConfig(baud=settings.pop("baud", None))
        self.ncp = EmulatedNcp(han.air, eui64, ezsp_version=version, config=config)
        self.url = f"emulated://{eui64:016x}"
        plug_in(han.loop, self.url, self.ncp, han.air)
        self.events: list[tuple[float, object]] = []
        self.keys: list[bytes] = []
        self._settings = {"link_key": link_key(eui64), "kind": NodeKind.ROUTER, "channels": [15]} | settings
        self.joiner = self.new_joiner()

    def new_joiner(self) -> Joiner:
        """Another carrier on the same stick, as after the program was started again."""
        return Joiner(
            self.url,
            self.behaviour,
            on_event=lambda now, event: self.events.append((now, event)),
            on_key=lambda key, label: self.keys.append(key),
            **self._settings,
        )

    def of(self, *kinds: type[Any]) -> list[Any]:
        """Its events of these kinds."""
        return [event for _, event in self.events if isinstance(event, kinds)]

    @property
    def keyed(self) -> bool:
        """Whether its PPMID has established a link key with the hub."""
        return self.behaviour.flash.keyed == [HUB]


class JoinedHan:
    """The hub, on the air as a node, and the devices that may join it."""

    def __init__(self, loop: VirtualLoop, seed: int) -> None:
        self.loop = loop
        self.air = Air(seed)
        self.told: list[object] = []
        credentials = _AUTHORITY.issue(HUB, random.Random(HUB).randbytes)
        self.hub = Hub(HubConfig(secured=True, credentials=credentials), random.Random(seed))
        self.node = MemberNode(
            self.air,
            self.hub,
            eui64=HUB,
            kind=NodeKind.COORDINATOR,
            network=NETWORK,
            on_event=lambda now, event: self.told.append(event),
        )
        self.members: list[Member] = []

    def add(
        self, index: int = 0, version: int = 13, behaviour: Behaviour | None = None, **settings: Any
    ) -> Member:
        """A device that the hub knows, with a PPMID on it unless told otherwise."""
        eui64 = DEVICES[index]
        member = Member(self, eui64, version, behaviour or new_ppmid(eui64), **settings)
        self.members.append(member)
        self.node.node.set_link_key(eui64, link_key(eui64))
        return member

    async def join(self, *members: Member, within: float = 60.0) -> None:
        """Switch devices on, and wait until they have their link keys."""
        for member in members:
            await member.joiner.start()
            await member.joiner.power_on()
        await self.until(lambda: all(member.keyed for member in members), within)

    async def until(self, condition: Callable[[], bool], within: float, *, step: float = 0.1) -> None:
        """Wait for something, and fail when it does not come."""
        for _ in range(round(within / step)):
            if condition():
                return
            await asyncio.sleep(step)
        raise AssertionError(
            f"not within {within} s: {self.told[-5:]} {[m.events[-5:] for m in self.members]}"
        )

    def offer(self, member: Member, image: OtaImage) -> None:
        """Offer an image to one device, at the hub."""
        self.hub.offer(image, member.eui64, self.air.now / 1e6)
        self.node.run([])


@asynccontextmanager
async def joined_han(seed: int = 7) -> AsyncIterator[JoinedHan]:
    """Open a HAN with nobody but its hub; no NCP may refuse a command, and nothing may be raised beside the test."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualLoop)
    han = JoinedHan(loop, seed)
    loop.attach(han.air)
    try:
        han.node.power_on()
        han.node.node.permit_joining(255)
        try:
            yield han
        finally:
            for member in han.members:
                await member.joiner.stop()
    finally:
        loop.detach(han.air)
    for member in han.members:
        assert member.ncp.failures == []
        assert member.of(BaseException) == []
