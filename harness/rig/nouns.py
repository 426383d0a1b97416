"""The members of an open rig, as tests and operators speak of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from harness.emulation.host import MemberNode
from harness.emulation.ncp import EmulatedNcp
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.members.hub import AttributeRead, ReadFailed
from harness.members.hub import Hub as HubBehaviour
from harness.radio.coordinator import Coordinator, RadioRestarted
from harness.rig.bench import firmware_at_start
from harness.rig.profile import PpmidProfile, Profile
from harness.rig.schema import MemberSettings
from harness.wire.cbke_values import KeyEstablishmentFailed
from harness.wire.clusters import CURRENT_FILE_VERSION
from harness.wire.image import OtaImage
from harness.wire.mac import format_eui64
from harness.wire.ota_messages import OTA_CLUSTER
from harness.wire.ota_server import ImageQueried, TransferProgressed, TransferStarted, UpgradeEnded
from harness.wire.security import link_key_from_install_code
from harness.wire.zcl import Value

if TYPE_CHECKING:
    from harness.rig.open import Rig

_Event = TypeVar("_Event", ImageQueried, UpgradeEnded)

# How often a device is asked over the HAN what it runs, in seconds: often enough for a reader, too seldom to matter on
# the air.
READ_INTERVAL = 10.0
RESTART_WITHIN = 60.0  # seconds that a radio gets to come back after a reset
LONGEST_PERMIT = (
    254  # seconds that one Mgmt_Permit_Joining_req can give (Zigbee PRO 2.4.3.3.7: 255 is for ever)
)


class Member:
    """One party of the HAN. `eui64` is 0 for a hub on a real radio until the rig is open."""

    def __init__(self, rig: Rig, name: str, settings: MemberSettings, profile: Profile) -> None:
        self.rig = rig
        self.name = name
        self.settings = settings
        self.profile = profile
        self.eui64 = settings.eui64 or 0

    @property
    def under_test(self) -> bool:
        """Whether this member is the one judged."""
        return self.settings.under_test

    def __repr__(self) -> str:
        return f"<{self.profile.role} {self.name} {format_eui64(self.eui64)} by {self.settings.by}>"


class Device(Member):
    """A member that joins: seen over the HAN, and where it is emulated, with its power switch at hand."""

    node: MemberNode | None = None
    short: int | None = None
    """Its NWK address while it is on the HAN."""

    @property
    def version_at_start(self) -> int:
        """The firmware version that the rig file, or else the profile, says that it runs."""
        assert isinstance(self.profile, PpmidProfile)
        return firmware_at_start(self.profile, self.settings)

    @property
    def joined(self) -> bool:
        """Whether the hub has it on its HAN."""
        return self.short is not None

    @property
    def keyed(self) -> bool:
        """Whether it has established a link key with the hub (CBKE) since it joined."""
        return self.eui64 in self.rig.hub.behaviour.keyed

    async def power_on(self) -> None:
        """Give it power: it joins, or comes back. RigError where the rig has no switch."""
        self._switched().power_on()

    async def power_off(self) -> None:
        """Take its power away, whatever it is doing. RigError where the rig has no switch."""
        self._switched().power_cut()

    async def cut_power(self, seconds: float) -> None:
        """Take its power away for so long, and give it back."""
        await self.power_off()
        await self.rig.sleep(seconds)
        await self.power_on()

    async def version(self, *, within: float = 60.0) -> int:
        """Read the firmware version that it runs, over the HAN: CurrentFileVersion (0x0002) of its OTA client.

        Asked again until it answers; RemoteProtocolError when it has not after `within` seconds.
        """
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
                within=within,
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

    def refuse_unfit(self, image: OtaImage, name: str) -> None:
        """Raise RigError for an image that is not for this model: by its maker, image type or hardware range."""
        profile = self.profile
        if not isinstance(profile, PpmidProfile):
            raise RigError(f"{self.name} is a {profile.role}, which takes no OTA image")
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
        reason = self.node.last_join_failure if self.node is not None else None
        return f": {reason}" if reason and not self.joined else ""

    def _failure(self) -> str:
        failures = [
            event
            for event in self.rig.journal.since(0, self.rig.hub.name)
            if isinstance(event, KeyEstablishmentFailed) and event.partner == self.eui64
        ]
        return f": {failures[-1].reason}" if failures else ""

    def _switched(self) -> MemberNode:
        if self.node is None:
            raise RigError(f"{self.name}: the rig file gives it no power switch")
        return self.node


class Hub(Member):
    """The Communications Hub that the harness plays: trust centre and OTA server of the HAN."""

    behaviour: HubBehaviour
    carrier: Coordinator
    ncp: EmulatedNcp | None = None

    def __init__(self, rig: Rig, name: str, settings: MemberSettings, profile: Profile) -> None:
        super().__init__(rig, name, settings, profile)
        self._progress: dict[int, TransferStarted | TransferProgressed] = {}

    async def admit(
        self, device: Device, *, install_code: bytes | None = None, period: float = LONGEST_PERMIT
    ) -> None:
        """Put `device` in the Device Log, with the install code (CRC included) of the rig file unless another is given.

        Joining is open for `period` seconds, at most 254.
        """
        code = install_code if install_code is not None else device.settings.install_code
        if code is None:
            raise LocalProtocolError(f"{device.name}: its install code is neither in the rig file nor given")
        if not 0 < period <= LONGEST_PERMIT:
            raise LocalProtocolError(f"a join period is 1 to {LONGEST_PERMIT} seconds, not {period:g}")
        await self.carrier.permit(device.eui64, link_key_from_install_code(code), round(period))

    async def offer(self, image: OtaImage, *, to: Device) -> None:
        """Let an image wait for a device, in place of one that waits for it; the device is told by an Image Notify."""
        self._progress.pop(to.eui64, None)  # of the transfer before
        self.carrier.run(self.behaviour.offer(image, to.eui64, self.carrier.now()))

    async def withdraw(self, *, to: Device) -> None:
        """Take back the image that waits for a device: in mid transfer it is told ABORT."""
        self.carrier.run(self.behaviour.withdraw(to.eui64))

    async def read(self, device: Device, cluster: int, attribute: int, *, plain: bool = False) -> Value:
        """Read an attribute of a device over the HAN; None when it does not answer or has no such attribute.

        `plain` asks without APS security, which a device that has a link key must not answer.
        """
        if device.short is None:
            return None
        behaviour, journal = self.behaviour, self.rig.journal
        seen = len(journal)
        sequence = behaviour.read_attribute(
            device.short,
            cluster,
            attribute,
            self.carrier.now(),
            endpoint=device.profile.endpoint,
            plain=plain,
        )
        answer: list[AttributeRead | ReadFailed] = []

        def answered() -> bool:
            for event in journal.since(seen, self.name):
                if isinstance(event, (AttributeRead, ReadFailed)) and event.sequence == sequence:
                    answer.append(event)
            return bool(answer)

        self.carrier.run([])
        await self.rig.until(
            answered,
            within=2 * behaviour.config.read_timeout,
            failure=lambda: f"the hub's own time-out of a read has not come (sequence {sequence})",
        )
        return answer[0].value if isinstance(answer[0], AttributeRead) else None

    def fetched(self, device: Device) -> int:
        """How many octets of an image the device has fetched in its present, or last, transfer."""
        progress = self._progress.get(device.eui64)
        return 0 if progress is None else progress.offset

    async def until_fetched(self, octets: int, *, by: Device, within: float) -> None:
        """Wait until a device has begun a transfer and fetched so many octets; RemoteProtocolError if it does not."""
        await self.rig.until(
            lambda: by.eui64 in self._progress and self.fetched(by) >= octets,
            within=within,
            failure=lambda: (
                f"{by.name} has not fetched {octets} octets within {within:g} s; {self.transfer_of(by)}"
            ),
        )

    async def until_queried(self, *, by: Device, within: float) -> ImageQueried:
        """Wait for the device's next Query Next Image Request and return it; RemoteProtocolError if none comes."""
        return await self._next(ImageQueried, by, within, "asked for no image")

    async def upgrade_end(self, device: Device, *, within: float) -> UpgradeEnded:
        """Wait for the device's next Upgrade End Request and return it; RemoteProtocolError if none comes."""
        return await self._next(UpgradeEnded, device, within, "ended no upgrade")

    async def _next(self, kind: type[_Event], device: Device, within: float, otherwise: str) -> _Event:
        journal, seen = self.rig.journal, len(self.rig.journal)
        found: list[_Event] = []

        def happened() -> bool:
            found.extend(
                event
                for event in journal.since(seen, self.name)
                if isinstance(event, kind) and event.client == device.eui64
            )
            return bool(found)

        await self.rig.until(
            happened,
            within=within,
            failure=lambda: f"{device.name} has {otherwise} within {within:g} s; {self.transfer_of(device)}",
        )
        return found[0]

    async def hold(self, device: Device, seconds: float) -> None:
        """Answer the device's requests for blocks WAIT_FOR_DATA for so many seconds."""
        self.behaviour.server.hold(device.eui64, self.carrier.now() + seconds)

    async def send_message(self, octets: bytes, *, to: Device) -> None:
        """Send a GBCS message into the tunnel to a device; it waits there until the tunnel is open."""
        self.behaviour.send_message(to.eui64, octets, self.carrier.now())
        self.carrier.run([])

    def transfer_of(self, device: Device) -> str:
        """Say how far the device's transfer has come, for a message."""
        progress = self._progress.get(device.eui64)
        if progress is None:
            return "it has fetched nothing"
        return f"it has fetched {progress.offset} of {progress.total} octets"

    async def reset_radio(self) -> None:
        """Reset the NCP, as a brown-out does, and wait until the carrier runs the HAN again.

        RigError where the rig cannot do that, or when the radio does not come back.
        """
        if self.ncp is None:
            raise RigError(f"{self.name}: the rig file gives no means to reset its radio")
        seen = len(self.rig.journal)
        self.ncp.reset()
        await self.rig.until(
            lambda: any(
                isinstance(event, RadioRestarted) for event in self.rig.journal.since(seen, self.name)
            ),
            within=RESTART_WITHIN,
            failure=lambda: (
                f"the radio of {self.name} has not come back within {RESTART_WITHIN:g} s of its reset"
            ),
        )

    def take(self, event: object) -> None:
        """Follow how far the transfers are."""
        if isinstance(event, (TransferProgressed, TransferStarted)):
            self._progress[event.client] = event
