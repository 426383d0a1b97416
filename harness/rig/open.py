"""Opens a rig: from a checked file to members that a test can speak to."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Self

from harness.clock import VirtualLoop
from harness.emulation.air import Air
from harness.emulation.node import Network
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.evidence.capture import KeyFile
from harness.evidence.journal import Journal
from harness.members.hub import DeviceJoined, DeviceLeft
from harness.members.hub import Hub as HubBehaviour
from harness.radio.coordinator import Coordinator
from harness.radio.emulated import plug_in
from harness.rig.bench import CAPTURE_NAME, EmulatedBench, hub_config
from harness.rig.credentials import credentials_of
from harness.rig.nouns import Device, Hub, Member
from harness.rig.profile import HubProfile
from harness.rig.schema import RigFile, load_rig
from harness.wire.mac import format_eui64
from harness.wire.ota_server import TransferProgressed

JOURNAL_NAME = "journal.jsonl"
JOIN_WITHIN = 600.0  # seconds that a device gets to join, before the rig says that it did not
KEY_WITHIN = 600.0  # seconds that it gets to establish its link key then


def open_rig(path: str | Path, *, evidence: Path | None = None) -> Rig:
    """Check a rig file and return its rig, to be entered as an asynchronous context manager.

    `evidence` is a folder for the capture, its key file and the journal. RigError for a file that is wrong.
    """
    return Rig(load_rig(path), evidence=evidence)


def event_loop_for(file: RigFile) -> Callable[[], asyncio.AbstractEventLoop]:
    """Return the maker of the event loop that a rig runs on: virtual time where its radios are emulated."""
    return VirtualLoop if file.is_emulated else asyncio.new_event_loop


class Rig:
    """The bench and its members, by name and in the order of the file. Open from `async with` on.

    Seconds are the rig's own: of virtual time on an emulated rig, which must be opened on a `VirtualLoop`.
    """

    def __init__(self, file: RigFile, *, evidence: Path | None = None) -> None:
        self.file = file
        self.name = file.name
        self.journal = Journal()
        self.bench: EmulatedBench | None = None
        self.members: dict[str, Member] = {}
        self._evidence = evidence
        self._stack = AsyncExitStack()
        self._news = asyncio.Event()
        self._origin = 0.0
        self._errors: list[BaseException] = []
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

    def device(self, name: str) -> Device:
        """Return a member that joins; RigError, with those there are, for a name that is none."""
        member = self.members.get(name)
        if not isinstance(member, Device):
            devices = ", ".join(name for name, member in self.members.items() if isinstance(member, Device))
            raise RigError(f"{self.file.path}: no device {name!r}; there are: {devices or 'none'}")
        return member

    def of_role(self, role: str) -> Device | None:
        """Return the first device whose profile has this role, or None: a rig names its members as it likes."""
        devices = (member for member in self.members.values() if isinstance(member, Device))
        return next((device for device in devices if device.profile.role == role), None)

    async def joined(self, name: str) -> Device:
        """Return a device that is on the HAN, and keyed, after admitting it and giving it power if it is not."""
        device = self.device(name)
        if not device.joined:
            await self.hub.admit(device)
            if device.node is not None:
                await device.power_on()
            await device.until(joined=True, within=JOIN_WITHIN)
        if self.hub.profile.secured and device.profile.secured:
            await device.until(keyed=True, within=KEY_WITHIN)
        return device

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
                raise RemoteProtocolError(failure()) from None

    def note(self, seconds: float, member: str, event: object) -> None:
        """Take an event of a member: it goes to the journal, to the hub, and to whoever waits."""
        if isinstance(event, BaseException):
            self._errors.append(event)
        # One a block: the hub keeps the last, the journal would drown.
        if not isinstance(event, TransferProgressed):
            self.journal.add(seconds, member, event)
        if member == self.file.hub:
            self.hub.take(event)
            if isinstance(event, (DeviceJoined, DeviceLeft)):
                for other in self.members.values():
                    if isinstance(other, Device) and other.eui64 == event.eui64:
                        other.short = event.short if isinstance(event, DeviceJoined) else None
        self._news.set()

    def check(self) -> None:
        """Raise what went wrong beside the test: an error inside a member, a command that no NCP knows."""
        if self._errors:
            raise self._errors[0]
        if self.bench is not None:
            for name, ncp in self.bench.ncps.items():
                if ncp.failures:
                    raise LocalProtocolError(f"{name}: {ncp.failures[0]}")

    # --- opening and closing ----------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        loop = asyncio.get_running_loop()
        self._origin = loop.time()
        hub = self.hub
        url = hub.settings.radio
        if url is None:
            raise RigError(
                f"{self.file.path}: members.{hub.name}: a hub by {hub.settings.by} cannot be played"
            )
        async with AsyncExitStack() as stack:
            if self.file.is_emulated:
                if not isinstance(loop, VirtualLoop):
                    raise RigError(f"{self.name} is an emulated rig, which runs on a VirtualLoop only")
                self.bench = self._plug_in(loop, stack)
            assert isinstance(hub.profile, HubProfile)  # that is what makes it the hub
            hub.behaviour = self._hub_behaviour(hub.profile)
            hub.carrier = Coordinator(
                url,
                hub.behaviour,
                self._network(),
                on_event=lambda seconds, event: self.note(seconds, hub.name, event),
                on_key=self._note_key,
            )
            stack.push_async_callback(hub.carrier.stop)
            await hub.carrier.start()
            if hub.settings.eui64 not in (None, hub.carrier.eui64):
                raise RigError(
                    f"{self.file.path}: members.{hub.name}.eui64: "
                    f"the radio at {url} is {format_eui64(hub.carrier.eui64)}"
                )
            hub.eui64 = hub.carrier.eui64
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
        for name, node in bench.nodes.items():
            self.device(name).node = node
        if self._evidence is not None:
            bench.capture(self._evidence / CAPTURE_NAME, self._evidence)
        return bench

    def _hub_behaviour(self, profile: HubProfile) -> HubBehaviour:
        name = self.hub.name
        if not profile.secured:
            return HubBehaviour(hub_config(profile, ()))
        eui64 = self.hub.settings.eui64
        if eui64 is None:
            raise RigError(
                f"{self.file.path}: members.{name}.eui64: is needed for the certificate of a secured hub"
            )
        # On a real HAN keys are not to be guessed; on an emulated one they shall be the same in every run.
        chance = random.Random(f"{self.file.seed} {name}") if self.file.is_emulated else random.SystemRandom()
        return HubBehaviour(hub_config(profile, credentials_of(self.file, name, eui64)), chance)

    def _network(self) -> Network:
        network = self.file.network
        epid = self.file.extended_pan_id
        if epid is None:
            raise RigError(f"{self.file.path}: network.extended_pan_id: is needed for a hub on a real radio")
        return Network(
            channel=network.channel,
            pan_id=network.pan_id,
            extended_pan_id=epid,
            network_key=self.file.network_key,
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
