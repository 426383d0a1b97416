"""The members of an open rig, as tests and operators speak of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from harness.emulation.host import MemberNode
from harness.errors import RemoteProtocolError, RigError
from harness.members.device import HanDevice
from harness.members.firmware_values import ImageHeld
from harness.members.kinds import DeviceKind
from harness.radio.joiner import Joiner
from harness.rig.behaviours import firmware_at_start
from harness.rig.console import read_version
from harness.rig.overheard import Overheard
from harness.rig.profile import Profile, UpgradableProfile
from harness.rig.schema import MemberSettings
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage
from harness.wire.cbke_values import KeyEstablishmentFailed
from harness.wire.clusters import CURRENT_FILE_VERSION
from harness.wire.image import OtaImage
from harness.wire.mac import format_eui64
from harness.wire.ota_messages import OTA_CLUSTER
from harness.wire.tunnel_server import TunnelServer

if TYPE_CHECKING:
    from harness.rig.open import Rig

# How often a device is asked over the HAN what it runs, in seconds: often enough for a reader, too seldom to matter on
# the air.
READ_INTERVAL = 10.0
ANSWER_INTERVAL = 0.05  # seconds from one look for an answer to the next


@dataclass(frozen=True, slots=True)
class PowerCut:
    """The bench took a member's power away."""


@dataclass(frozen=True, slots=True)
class PowerRestored:
    """The bench gave a member its power; it may have had it already."""


class Member:
    """One party of the HAN. `eui64` is 0 for a hub on a real radio until the rig is open."""

    def __init__(self, rig: Rig, name: str, settings: MemberSettings, profile: Profile) -> None:
        self.rig = rig
        self.name = name
        self.settings = settings
        self.profile = profile
        self.eui64 = settings.eui64 or 0

    @property
    def device_kind(self) -> DeviceKind | None:
        """What kind of device it is; None: the hub."""
        return None if self.profile.role == "hub" else DeviceKind(self.profile.role)

    @property
    def under_test(self) -> bool:
        """Whether this member is the one judged."""
        return self.settings.under_test

    def __repr__(self) -> str:
        return f"<{self.profile.role} {self.name} {format_eui64(self.eui64)} by {self.settings.by}>"


class Device(Member):
    """A member that joins: emulated, played by the harness through a radio, or a real thing seen over the HAN."""

    carrier: MemberNode | Joiner | None = None
    behaviour: HanDevice | None = None
    """What it does, where the harness plays or emulates it."""
    ear: Overheard | None = None
    """What stands between the two where the harness plays it through a radio."""
    short: int | None = None
    """Its NWK address while the hub that the harness plays has it on the HAN."""

    def __init__(self, rig: Rig, name: str, settings: MemberSettings, profile: Profile) -> None:
        super().__init__(rig, name, settings, profile)
        self.images_held: list[int] = []
        """The versions of the images that it has fetched whole and found good, where the harness can see that."""

    def take(self, event: object) -> None:
        """Follow what it has."""
        if isinstance(event, ImageHeld):
            self.images_held.append(event.version)

    @property
    def fed_by(self) -> Device | None:
        """The bridge that hands it its images in the hub's place, by the rig file; None: it takes them from the hub."""
        feeder = self.settings.fed_by
        return None if feeder is None else self.rig.device(feeder)

    @property
    def feeds(self) -> tuple[Device, ...]:
        """The bridges that it hands images to, in the order of the rig file."""
        return tuple(device for device in self.rig.devices if device.settings.fed_by == self.name)

    @property
    def fetching(self) -> int | None:
        """The version of the image that it is fetching, or has fetched and not yet run; None: none."""
        return self._played().flash.download.version

    @property
    def fetched(self) -> int:
        """How many octets of that it has."""
        return len(self._played().flash.download.data)

    def _played(self) -> HanDevice:
        if self.behaviour is None:
            raise RigError(f"{self.name} is by {self.settings.by}: nobody here can see into it")
        return self.behaviour

    @property
    def version_at_start(self) -> int:
        """The firmware version that the rig file, or else the profile, says that it runs."""
        return firmware_at_start(self.rig.file, self.name)

    @property
    def joined(self) -> bool:
        """Whether it is on the HAN: by the hub's word, or its own where the harness plays it."""
        if isinstance(self.carrier, Joiner):
            return self.carrier.joined
        return self.short is not None

    @property
    def keyed(self) -> bool:
        """Whether it has established a link key with the hub (CBKE) since it joined."""
        if isinstance(self.carrier, Joiner):
            return self.behaviour is not None and self.rig.hub.eui64 in self.behaviour.flash.keyed
        behaviour, _ = self.rig.hub.played()
        return self.eui64 in behaviour.keyed

    async def power_on(self) -> None:
        """Give it power: it joins, or comes back. RigError where the rig has no switch."""
        carrier = self._switched()
        self.rig.note(carrier.now(), self.name, PowerRestored())
        if isinstance(carrier, Joiner):
            await carrier.power_on()
        else:
            carrier.power_on()

    async def power_off(self) -> None:
        """Take its power away, whatever it is doing. RigError where the rig has no switch."""
        carrier = self._switched()
        self.rig.note(carrier.now(), self.name, PowerCut())
        if isinstance(carrier, Joiner):
            await carrier.power_cut()
        else:
            carrier.power_cut()

    async def cut_power(self, seconds: float) -> None:
        """Take its power away for so long, and give it back."""
        await self.power_off()
        await self.rig.sleep(seconds)
        await self.power_on()

    async def console_version(self) -> int:
        """Read the firmware version that it runs, on its console. RigError where the rig has none for it."""
        return await read_version(self)

    async def version(self, *, within: float = 60.0) -> int:
        """Read the firmware version that it runs, over the HAN: CurrentFileVersion (0x0002) of its OTA client.

        Asked again until it answers; RemoteProtocolError when it has not after `within` seconds. A device that the
        harness plays through a radio says it itself: the hub is somebody else's.
        """
        if isinstance(self.carrier, Joiner) and self.behaviour is not None:
            return self.behaviour.running_version
        deadline = self.rig.now() + within
        while True:
            value = await self.rig.hub.read(self, OTA_CLUSTER, CURRENT_FILE_VERSION) if self.joined else None
            if isinstance(value, int):
                return value
            if self.rig.now() >= deadline:
                raise RemoteProtocolError(
                    f"{self.name} has not said within {within:g} s which version it runs"
                )
            await self.rig.sleep(min(READ_INTERVAL, max(deadline - self.rig.now(), 0.001)))

    async def until(
        self,
        *,
        joined: bool | None = None,
        keyed: bool | None = None,
        running: int | None = None,
        within: float,
    ) -> None:
        """Wait until it has joined (or left), has established a link key, or runs firmware version `running`.

        The version is its own word over the HAN.

        RemoteProtocolError, with what it did instead, when that has not come within so many seconds.
        """
        deadline = self.rig.now() + within
        if joined is not None:
            await self.rig.until(
                lambda: self.joined is joined,
                within=max(deadline - self.rig.now(), 0.0),
                failure=lambda: (
                    f"{self.name} has {'not joined' if joined else 'not left'} after {within:g} s{self._why()}"
                ),
            )
        if keyed is not None:
            await self.rig.until(
                lambda: self.keyed is keyed,
                within=max(deadline - self.rig.now(), 0.0),
                failure=lambda: (
                    f"{self.name} has no link key of its own with the hub after {within:g} s{self._failure()}"
                ),
            )
        last: int | None = None
        while running is not None and last != running:
            remaining = deadline - self.rig.now()
            if remaining <= 0:
                said = "has not said what it runs" if last is None else f"runs {last:#010x}"
                raise RemoteProtocolError(
                    f"{self.name} {said} after {within:g} s, not {running:#010x}; {self.rig.hub.transfer_of(self)}"
                )
            try:
                last = await self.version(within=min(READ_INTERVAL, remaining))
            except RemoteProtocolError:
                continue  # dark while it activates, perhaps; the deadline decides
            if last != running:
                await self.rig.sleep(min(READ_INTERVAL, max(remaining, 0.001)))

    def play_busy(self, busy: bool) -> None:
        """Have it answer every Request Tunnel with Busy, or no more.

        RigError for a device that nobody here plays, and for one that opens its tunnel itself.
        """
        tunnels = self._played().tunnels
        if not isinstance(tunnels, TunnelServer):
            raise RigError(f"{self.name} opens its tunnel itself: nobody asks it for one")
        tunnels.busy = busy

    def overhear(self, cluster: int) -> list[ApsMessage]:
        """Return a list that grows with every message of a cluster that the hub sends it from now on.

        RigError for a device that the harness does not play through a radio.
        """
        return self._heard().record(cluster)

    async def request(
        self, cluster: int, frame: bytes, *, answers: int = 1, within: float = 15.0, secured: bool = True
    ) -> list[ApsMessage]:
        """Send the hub a ZCL frame of the bench's own in this device's name, and return what comes back to it.

        That is, with the same sequence number; the device itself never sees it, and should have nothing of this
        cluster under way. `secured`: under the APS link key. RemoteProtocolError when fewer `answers` come, RigError
        for a device that the harness does not play through a radio.
        """
        ear, profile, hub = self._heard(), self.profile, self.rig.hub.profile
        assert self.carrier is not None  # it has an ear
        came = ear.ask(
            ApsMessage(0, SMART_ENERGY_PROFILE, cluster, profile.endpoint, hub.endpoint, frame, secured)
        )
        self.carrier.run([])
        deadline = self.rig.now() + within
        # Answers are no events: nobody else on the rig is to know of them.
        while len(came) < answers and self.rig.now() < deadline:
            await self.rig.sleep(ANSWER_INTERVAL)
        ear.end_question()
        if len(came) < answers:
            raise RemoteProtocolError(
                f"{self.rig.hub.name} has given {self.name} {len(came)} of {answers} answers within {within:g} s"
            )
        return came

    def _heard(self) -> Overheard:
        if self.ear is None:
            raise RigError(
                f"{self.name} is by {self.settings.by}: the bench has no voice of its own on the HAN"
            )
        return self.ear

    def refuse_unfit(self, image: OtaImage, name: str) -> None:
        """Raise RigError for an image that is not for this model: by its maker, image type or hardware range."""
        profile = self.profile
        if not isinstance(profile, UpgradableProfile):
            raise RigError(f"{self.name} takes no OTA image: the role of its profile is {profile.role}")
        for what, has, wants in (
            ("manufacturer code", image.manufacturer, profile.manufacturer_code),
            ("image type", image.image_type, profile.image_type),
        ):
            if has != wants:
                raise RigError(f"{name}: {what} {has:#06x} is not {self.name}'s, which is {wants:#06x}")
        if not image.fits_hardware(profile.hardware_version):
            raise RigError(
                f"{name}: is for hardware {image.hardware_min:#06x} to {image.hardware_max:#06x}, "
                f"{self.name} is {profile.hardware_version:#06x}"
            )

    def _why(self) -> str:
        reason = None if self.carrier is None else self.carrier.last_join_failure
        return f": {reason}" if reason and not self.joined else ""

    def _failure(self) -> str:
        failures = [
            event
            for event in self.rig.journal.since(0, self.rig.hub.name)
            if isinstance(event, KeyEstablishmentFailed) and event.partner == self.eui64
        ]
        return f": {failures[-1].reason}" if failures else ""

    def _switched(self) -> MemberNode | Joiner:
        if self.carrier is None:
            raise RigError(f"{self.name}: the rig file gives it no power switch")
        return self.carrier
