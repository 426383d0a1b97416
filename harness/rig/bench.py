"""An emulated bench: the air of one premises, the members that are nodes on it, and the NCPs behind its radios."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.ncp import EmulatedNcp, NcpConfig
from harness.emulation.ncp_store import NvStore
from harness.emulation.node import Network, NodeConfig, NodeKind
from harness.errors import RigError
from harness.evidence.capture import KeyFile, PcapWriter
from harness.members.device import HanDevice
from harness.members.hub import Hub
from harness.rig.behaviours import device_of, hub_of
from harness.rig.profile import DeviceProfile
from harness.rig.schema import EMULATED, MemberSettings, NcpSettings, RigFile
from harness.wire.security import link_key_from_install_code

CAPTURE_NAME = "han.pcap"

KINDS = {
    "router": NodeKind.ROUTER,
    "end_device": NodeKind.END_DEVICE,
    "sleepy_end_device": NodeKind.SLEEPY_END_DEVICE,
}


def network_of(file: RigFile) -> Network:
    """Return the HAN that a rig's hub runs. RigError where nothing says its extended PAN id."""
    epid = file.extended_pan_id
    if epid is None:
        raise RigError(f"{file.path}: network.extended_pan_id: is needed for a hub on a real radio")
    network = file.network
    return Network(
        channel=network.channel,
        pan_id=network.pan_id,
        extended_pan_id=epid,
        network_key=file.network_key,
    )


class EmulatedBench:
    """Everything emulated that a rig file names, on one air; nothing has power yet.

    `nodes` and `ncps` are by member name, in the order of the file; `hub` and `devices` are what the nodes carry. `air`
    is a Timed core: whoever makes the bench runs it. `on_event` gets `(seconds, member, event)` of every emulated
    member. Leaving the context ends the capture.
    """

    def __init__(
        self, file: RigFile, on_event: Callable[[float, str, object], None] = lambda *event: None
    ) -> None:
        self.file = file
        self.air = Air(file.seed)
        self.nodes: dict[str, MemberNode] = {}
        self.devices: dict[str, HanDevice] = {}
        self.hub: Hub | None = None
        self.ncps: dict[str, EmulatedNcp] = {}
        self._on_event = on_event
        self._pcap: PcapWriter | None = None
        for name, settings in file.members.items():
            if settings.by == "emulation":
                self.nodes[name] = self._node(name, settings)
            elif settings.radio is not None and settings.radio.startswith(EMULATED):
                self.ncps[name] = self._ncp(settings)
        self._link_up()

    def _node(self, name: str, settings: MemberSettings) -> MemberNode:
        profile = self.file.profiles[name]
        assert settings.eui64 is not None  # load_rig saw to it, and to the install code of whoever joins
        event = partial(self._event, name)
        if not isinstance(profile, DeviceProfile):
            self.hub = hub_of(self.file)
            return MemberNode(
                self.air,
                self.hub,
                eui64=settings.eui64,
                kind=NodeKind.COORDINATOR,
                network=network_of(self.file),
                on_event=event,
            )
        assert settings.install_code is not None
        config = NodeConfig(manufacturer_code=profile.manufacturer_code)
        poll = settings.poll_seconds or profile.poll_seconds
        if poll is not None:
            config = replace(config, poll_interval_us=round(poll * 1_000_000))
        self.devices[name] = device = device_of(self.file, name)
        return MemberNode(
            self.air,
            device,
            eui64=settings.eui64,
            kind=KINDS[profile.kind],
            link_key=link_key_from_install_code(settings.install_code),
            config=config,
            on_event=event,
        )

    def _ncp(self, settings: MemberSettings) -> EmulatedNcp:
        assert settings.eui64 is not None  # load_rig saw to it
        ncp = settings.ncp or NcpSettings()
        return EmulatedNcp(
            self.air,
            settings.eui64,
            ezsp_version=ncp.ezsp,
            config=NcpConfig(baud=ncp.baud),
            nv=None if ncp.state is None else NvStore(ncp.state),
        )

    def _event(self, name: str, now: float, event: object) -> None:
        self._on_event(now, name, event)

    def _link_up(self) -> None:
        """Make the links what the file says, and let a member that has a parent hear no other router."""
        settings = self.file.air
        eui64s = {
            name: member.eui64 for name, member in self.file.members.items() if member.eui64 is not None
        }
        if settings is not None:
            self.air.default_link = replace(self.air.default_link, loss=settings.loss)
            for link in settings.links:
                one, two = (eui64s[name] for name in link.between)
                loss = settings.loss if link.loss is None else link.loss
                self.air.set_link(one, two, loss=loss, delay_us=round(link.delay_ms * 1000), heard=link.heard)
        for name, member in self.file.members.items():
            if member.parent is None:
                continue
            for other in eui64s:
                if other not in (name, member.parent) and self.file.members[other].parent != name:
                    self.air.set_link(eui64s[name], eui64s[other], heard=False)

    def hub_ncp(self) -> EmulatedNcp:
        """The NCP that the hub is played through; RigError where that is a real one."""
        if self.file.hub not in self.ncps:
            raise RigError(f"{self.file.path}: members.{self.file.hub}.radio: is not an {EMULATED} one")
        return self.ncps[self.file.hub]

    def power_on(self) -> None:
        """Give every emulated member its power."""
        for node in self.nodes.values():
            node.power_on()

    def capture(self, pcap: Path, keys: Path) -> None:
        """Write all that is on the air to `pcap`, and every key that a member comes to use to the folder `keys`."""
        try:
            pcap.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RigError(
                f"{pcap.parent}: cannot be made a folder for the capture ({error.strerror})"
            ) from error
        self._pcap = PcapWriter(pcap)
        self.air.add_tap(self._pcap.frame)
        key_file = KeyFile(keys)
        for node in self.nodes.values():
            node.node.on_key = key_file.add
        for ncp in self.ncps.values():
            ncp.node.on_key = key_file.add
        for name, settings in self.file.members.items():
            if settings.install_code is not None:
                key_file.add(link_key_from_install_code(settings.install_code), f"install code of {name}")

    def flush(self) -> None:
        """Hand what was captured so far to whoever follows the file."""
        if self._pcap is not None:
            self._pcap.flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pcap is not None:
            self._pcap.close()
