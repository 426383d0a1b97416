"""Opens a rig: from a checked file to members that a test can speak to."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.clock import VirtualLoop
from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.evidence.capture import KeyFile
from harness.evidence.diagram import Step, as_mermaid, as_svg, as_text
from harness.evidence.journal import Journal
from harness.members.hub_values import DeviceJoined, DeviceLeft
from harness.radio.coordinator import Coordinator
from harness.radio.emulated import plug_in
from harness.radio.joiner import Joiner
from harness.rig.arrows import Parties, sequence_of
from harness.rig.behaviours import device_of, hub_of
from harness.rig.bench import CAPTURE_NAME, KINDS, EmulatedBench, network_of
from harness.rig.commissioned import Commissioned, recall
from harness.rig.dcc import Dcc
from harness.rig.hub import Hub
from harness.rig.nouns import Device, Member
from harness.rig.overheard import Overheard
from harness.rig.profile import BridgeProfile, DeviceProfile, HubProfile
from harness.rig.schema import RigFile, load_rig
from harness.smi.inventory import Inventory
from harness.wire.mac import format_eui64
from harness.wire.ota_server import TransferProgressed
from harness.wire.security import link_key_from_install_code

JOURNAL_NAME = "journal.jsonl"
SEQUENCE_NAME = "sequence"  # .svg, .txt and .mmd: the journal as a sequence diagram
JOIN_WITHIN = 600.0  # seconds that a device gets to join, before the rig says that it did not
KEY_WITHIN = 600.0  # seconds that it gets to establish its link key then


def open_rig(
    path: str | Path, *, evidence: Path | None = None, commissioned: Commissioned | None = None
) -> Rig:
    """Check a rig file and return its rig, to be entered as an asynchronous context manager.

    `evidence` is a folder for the capture, its key file, the journal and its sequence diagram. With a `commissioned`
    state its HAN goes on as it was then. RigError for a file that is wrong.
    """
    return Rig(load_rig(path), evidence=evidence, commissioned=commissioned)


def event_loop_for(file: RigFile) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the maker of the event loop that a rig runs on: virtual time where its radios are emulated."""
    return VirtualLoop if file.is_emulated else asyncio.new_event_loop


class Rig:
    """The bench and its members, by name and in the order of the file. Open from `async with` on.

    Seconds are the rig's own: of virtual time on an emulated rig, which must be opened on a `VirtualLoop`.
    """

    def __init__(
        self, file: RigFile, *, evidence: Path | None = None, commissioned: Commissioned | None = None
    ) -> None:
        self.file = file
        self.name = file.name
        self.journal = Journal()
        self.bench: EmulatedBench | None = None
        self.members: dict[str, Device | Hub] = {}
        self._evidence = evidence
        self._commissioned = commissioned
        self._stack = AsyncExitStack()
        self._news = asyncio.Event()
        self._origin = 0.0
        self._errors: list[BaseException] = []
        self._dcc: Dcc | None = None
        self.elapsed = 0.0
        """Seconds on the rig's clock when it was closed; while it is open, see `now`."""
        for name, settings in file.members.items():
            profile = file.profiles[name]
            kind = Hub if isinstance(profile, HubProfile) else Device
            self.members[name] = kind(self, name, settings, profile)

    # --- who and what is there --------------------------------------------------------------------------------------

    @property
    def hub(self) -> Hub:
        """The Communications Hub."""
        hub = self.members[self.file.hub]
        assert isinstance(hub, Hub)
        return hub

    @property
    def dcc(self) -> Dcc:
        """What carries Service Requests, made when it is first asked for. RigError where this bench has nothing for it.

        Of an open rig only.
        """
        if self._dcc is None:
            self._dcc = Dcc(self)
            self._stack.push_async_callback(self._dcc.close)
        return self._dcc

    @property
    def inventory(self) -> Inventory:
        """The Smart Metering Inventory of this premises: empty until members are put in it, see `Dcc.enrol`."""
        return self.dcc.inventory

    @property
    def devices(self) -> tuple[Device, ...]:
        """The members that join, in the order of the file."""
        return tuple(member for member in self.members.values() if isinstance(member, Device))

    def device(self, name: str) -> Device:
        """Return a member that joins; RigError, with those there are, for a name that is none."""
        member = self.members.get(name)
        if not isinstance(member, Device):
            names = ", ".join(device.name for device in self.devices)
            raise RigError(f"{self.file.path}: no device {name!r}; there are: {names or 'none'}")
        return member

    def of_role(self, role: str) -> Device | None:
        """Return the first device whose profile has this role, or None: a rig names its members as it likes."""
        return next((device for device in self.devices if device.profile.role == role), None)

    @property
    def bridges(self) -> dict[str, Device]:
        """The Alt HAN bridges by type, "B1" to "B4"."""
        return {
            device.profile.bridge: device
            for device in self.devices
            if isinstance(device.profile, BridgeProfile)
        }

    async def joined(self, name: str) -> Device:
        """Return a device that is on the HAN, and keyed, after admitting it and giving it power if it is not.

        To the Device Log of a hub by equipment it is added by whoever operates that hub.
        """
        device = self.device(name)
        if self.hub.behaviour is not None and not device.joined and not self._is_member(device):
            await self.hub.admit(device)
        if device.carrier is not None:
            await device.power_on()
        await device.until(joined=True, within=JOIN_WITHIN)
        if self.hub.profile.secured and device.profile.secured:
            await device.until(keyed=True, within=KEY_WITHIN)
        return device

    def _is_member(self, device: Device) -> bool:
        """Whether it comes back without being admitted, by the hub's Device Log."""
        assert self.hub.behaviour is not None  # joined() asks of no other
        return any(
            entry.eui64 == device.eui64 and (entry.joined or entry.tc_key is not None)
            for entry in self.hub.behaviour.log.entries
        )

    @property
    def capabilities(self) -> frozenset[str]:
        """What a test may ask of this bench: air (faults of the air), power (switches), reset (of the hub's radio)."""
        return frozenset({"air", "power", "reset"}) if self.file.is_emulated else frozenset()

    @property
    def air(self) -> Air:
        """The emulated air, for faults; RigError on a real rig."""
        if self.bench is None:
            raise RigError(f"{self.name} is a real rig: nobody can set what its air does")
        return self.bench.air

    # --- time and events --------------------------------------------------------------------------------------------

    def now(self) -> float:
        """Seconds since the rig was opened."""
        return asyncio.get_running_loop().time() - self._origin

    async def sleep(self, seconds: float) -> None:
        """Let so much of the rig's time pass."""
        await asyncio.sleep(seconds)

    async def until(
        self, condition: Callable[[], bool], *, within: float, failure: Callable[[], str]
    ) -> None:
        """Wait until `condition` holds, asking at every event; RemoteProtocolError(failure()) if it never does."""
        deadline = asyncio.get_running_loop().time() + within
        while not condition():
            self._news.clear()
            try:
                async with asyncio.timeout_at(deadline):
                    await self._news.wait()
            except TimeoutError:
                if not condition():  # not everything that comes about is an event
                    raise RemoteProtocolError(failure()) from None

    def note(self, seconds: float, member: str, event: object) -> None:
        """Take an event of a member: it goes to the journal, to the hub, and to whoever waits."""
        if isinstance(event, BaseException):
            self._errors.append(event)
        # One a block: the hub keeps the last, the journal would drown.
        if not isinstance(event, TransferProgressed):
            self.journal.add(seconds, member, event)
        noun = self.members[member]
        if isinstance(noun, Device):
            noun.take(event)
        else:
            noun.take(seconds, event)
            if isinstance(event, (DeviceJoined, DeviceLeft)):
                for device in self.devices:
                    if device.eui64 == event.eui64:
                        device.short = event.short if isinstance(event, DeviceJoined) else None
            if isinstance(event, DeviceJoined) and self._dcc is not None:
                self._dcc.joined(event.eui64)
        self._news.set()

    def remark(self, source: str, event: object) -> None:
        """Take what is no member's: it goes to the journal, and to whoever waits."""
        self.journal.add(self.now(), source, event)
        self._news.set()

    def sequence(self) -> tuple[list[Step], list[str]]:
        """What has happened so far as a sequence: its steps, and the lifelines of those who took part in it."""
        members = self.members.items()
        parties = Parties(
            names={member.eui64: name for name, member in members},
            hub=self.hub.name,
            shorts={device.name: device.short for device in self.devices if device.short is not None},
            fed_by={name: member.settings.fed_by for name, member in members if member.settings.fed_by},
            silent=frozenset(name for name, member in members if member.settings.by == "equipment"),
        )
        return sequence_of(self.journal, parties)

    def check(self) -> None:
        """Raise what went wrong beside the test: an error inside a member, a command that no NCP knows."""
        if self._errors:
            raise self._errors[0]
        if self._dcc is not None:
            self._dcc.system.check()
        if self.bench is not None:
            for name, ncp in self.bench.ncps.items():
                if ncp.failures:
                    raise LocalProtocolError(f"{name}: {ncp.failures[0]}")

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._origin = loop.time()
        async with AsyncExitStack() as stack:
            if self.file.is_emulated:
                if not isinstance(loop, VirtualLoop):
                    raise RigError(f"{self.name} is an emulated rig, which runs on a VirtualLoop only")
                self.bench = self._plug_in(loop, stack)
            self._embody()
            if self._commissioned is not None:
                recall(self, self._commissioned)
            if isinstance(self.hub.carrier, MemberNode):
                self.hub.carrier.power_on()
            for member in self.members.values():
                if member.settings.by != "radio":
                    continue
                if isinstance(member, Hub):
                    await self._play_hub(member, stack)
                elif isinstance(member, Device):
                    await self._play_device(member, stack)
            stack.callback(self._write_journal)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.elapsed = self.now()
        await self._stack.aclose()

    def _plug_in(self, loop: VirtualLoop, stack: AsyncExitStack) -> EmulatedBench:
        bench = stack.enter_context(EmulatedBench(self.file, self.note))
        loop.attach(bench.air)
        stack.callback(loop.detach, bench.air)
        for name, ncp in bench.ncps.items():
            url = self.members[name].settings.radio
            assert url is not None  # it is an emulated:// one, or there were no NCP
            plug_in(loop, url, ncp, bench.air)
            if name == self.hub.name:
                self.hub.ncp = ncp
        if self._evidence is not None:
            bench.capture(self._evidence / CAPTURE_NAME, self._evidence)
        return bench

    def _embody(self) -> None:
        """Give each member that is not by equipment what it does, and each node what it is one's carrier for."""
        bench = self.bench
        for name, member in self.members.items():
            if member.settings.by == "equipment":
                continue
            if bench is not None and name in bench.nodes:
                member.carrier = bench.nodes[name]
            if isinstance(member, Hub):
                member.behaviour = (None if bench is None else bench.hub) or hub_of(self.file)
            else:
                member.behaviour = (None if bench is None else bench.devices.get(name)) or device_of(
                    self.file, name
                )

    async def _play_hub(self, hub: Hub, stack: AsyncExitStack) -> None:
        url = hub.settings.radio
        assert url is not None  # load_rig saw to it
        assert hub.behaviour is not None  # _embody
        hub.carrier = carrier = Coordinator(
            url,
            hub.behaviour,
            network_of(self.file),
            on_event=lambda seconds, event: self.note(seconds, hub.name, event),
            on_key=self._note_key,
        )
        stack.push_async_callback(carrier.stop)
        await carrier.start()
        self._same_radio(hub, carrier.eui64)
        hub.eui64 = carrier.eui64

    async def _play_device(self, device: Device, stack: AsyncExitStack) -> None:
        """Open the radio of a member that the harness plays; until `power_on` it stays off the HAN."""
        settings, profile = device.settings, device.profile
        assert settings.radio is not None  # load_rig saw to it, and to the install code
        assert settings.install_code is not None
        assert isinstance(profile, DeviceProfile)  # whatever is no hub
        assert device.behaviour is not None  # _embody
        device.ear = Overheard(device.behaviour)
        device.carrier = carrier = Joiner(
            settings.radio,
            device.ear,
            link_key=link_key_from_install_code(settings.install_code),
            kind=KINDS[profile.kind],
            extended_pan_id=self.file.extended_pan_id,
            channels=(self.file.network.channel,),
            poll_seconds=settings.poll_seconds or profile.poll_seconds,
            manufacturer_code=profile.manufacturer_code,
            on_event=lambda seconds, event: self.note(seconds, device.name, event),
            on_key=self._note_key,
        )
        stack.push_async_callback(carrier.stop)
        await carrier.start()
        self._same_radio(device, carrier.eui64)

    def _same_radio(self, member: Member, eui64: int) -> None:
        if member.settings.eui64 not in (None, eui64):
            raise RigError(
                f"{self.file.path}: members.{member.name}.eui64: "
                f"the radio at {member.settings.radio} is {format_eui64(eui64)}"
            )

    def _note_key(self, key: bytes, label: str) -> None:
        """Write a key of a real HAN for whoever captures it with a sniffer; the bench sees to emulated ones."""
        if self._evidence is not None and not self.file.is_emulated:
            keys = KeyFile(self._evidence)
            keys.add(self.file.network_key, "network key")
            keys.add(key, label)

    def _write_journal(self) -> None:
        if self._evidence is not None:
            self._evidence.mkdir(parents=True, exist_ok=True)
            self.journal.write(self._evidence / JOURNAL_NAME)
            self._write_sequence(self._evidence / SEQUENCE_NAME)

    def _write_sequence(self, path: Path) -> None:
        steps, lifelines = self.sequence()
        if not steps:
            return
        for suffix, drawn in (
            (".svg", as_svg(steps, lifelines, title=self.name)),
            (".txt", as_text(steps, lifelines)),
            (".mmd", as_mermaid(steps, lifelines)),
        ):
            path.with_suffix(suffix).write_text(drawn, encoding="utf-8")
