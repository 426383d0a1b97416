"""The Communications Hub of an open rig, as tests and operators speak of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from harness.emulation.host import MemberNode
from harness.emulation.ncp import EmulatedNcp
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.members.device_log import EntryRefused
from harness.members.hub import Hub as HubBehaviour
from harness.members.kinds import ACTIVATED_BY_COMMAND, DeviceKind
from harness.members.reads import AttributeRead, ReadFailed
from harness.members.security import UnsecuredRefused
from harness.radio.coordinator import Coordinator, RadioRestarted
from harness.rig.nouns import Device, Member
from harness.rig.profile import Profile
from harness.rig.schema import MemberSettings
from harness.rig.wan import Wan
from harness.wire.image import OtaImage
from harness.wire.mac import format_eui64
from harness.wire.ota_messages import UPGRADE_NOW, UPGRADE_WAIT
from harness.wire.ota_server import ImageQueried, TransferProgressed, TransferStarted, UpgradeEnded
from harness.wire.security import link_key_from_install_code
from harness.wire.zcl import READ_ATTRIBUTES_RESPONSE, Value

if TYPE_CHECKING:
    from harness.rig.open import Rig

_Event = TypeVar("_Event", ImageQueried, UpgradeEnded)

RESTART_WITHIN = 60.0  # seconds that a radio gets to come back after a reset
JOIN_PERIOD = 254.0  # seconds; the most that one Mgmt_Permit_Joining_req can give, so that no radio renews it


class Hub(Member):
    """The Communications Hub: trust centre and OTA server of the HAN, with the WAN behind it.

    The harness plays it through a radio, or emulates it as a node; one by equipment is on the bench, and `played` says
    that nobody here can speak for it.
    """

    behaviour: HubBehaviour | None = None
    carrier: Coordinator | MemberNode | None = None
    ncp: EmulatedNcp | None = None

    def __init__(self, rig: Rig, name: str, settings: MemberSettings, profile: Profile) -> None:
        super().__init__(rig, name, settings, profile)
        self.wan = Wan(self)
        self._progress: dict[int, TransferStarted | TransferProgressed] = {}

    def played(self) -> tuple[HubBehaviour, Coordinator | MemberNode]:
        """Return what the hub does, and what carries it. RigError for a hub by equipment."""
        if self.behaviour is None or self.carrier is None:
            raise RigError(f"{self.name} is by {self.settings.by}: this bench has no way to its WAN side")
        return self.behaviour, self.carrier

    def radio(self) -> Coordinator:
        """Return the radio that the harness plays the hub through. RigError for a hub that is played by none."""
        if not isinstance(self.carrier, Coordinator):
            raise RigError(f"{self.name} is by {self.settings.by}: it has no radio of the harness'")
        return self.carrier

    async def admit(
        self, device: Device, *, install_code: bytes | None = None, period: float = JOIN_PERIOD
    ) -> None:
        """Put `device` in the Device Log, with the install code (CRC included) of the rig file unless another is given.

        Joining is open for `period` seconds, at most 3600. RemoteProtocolError, with a `JoinResponse` as its code, when
        the hub's Device Log is full.
        """
        code = install_code if install_code is not None else device.settings.install_code
        kind = device.device_kind
        if code is None or kind is None:
            raise LocalProtocolError(f"{device.name}: its install code is neither in the rig file nor given")
        await self._admit(device.eui64, kind, code, period, device.name)

    async def admit_stranger(
        self, eui64: int, kind: DeviceKind, *, install_code: bytes, period: float = JOIN_PERIOD
    ) -> None:
        """Put a device in the Device Log that the rig does not have, as `admit` does: it takes room, and never comes.

        RemoteProtocolError, with a `JoinResponse` as its code, when the hub's Device Log is full.
        """
        await self._admit(eui64, kind, install_code, period, f"{kind} {format_eui64(eui64)}")

    async def _admit(self, eui64: int, kind: DeviceKind, code: bytes, period: float, name: str) -> None:
        behaviour, carrier = self.played()
        link_key = link_key_from_install_code(code)
        events = behaviour.admit(eui64, kind, link_key, period, carrier.now())
        carrier.run(events)
        if isinstance(carrier, Coordinator):
            await carrier.settled()
        for event in events:
            if isinstance(event, EntryRefused):
                raise RemoteProtocolError(
                    f"{self.name} does not admit {name}: {event.response.name}, {event.detail}",
                    code=event.response,
                )

    async def remove(self, device: Device | int) -> None:
        """Take a device, or a stranger (EUI-64), off the Device Log: it is no member any more."""
        behaviour, carrier = self.played()
        eui64 = device if isinstance(device, int) else device.eui64
        carrier.run(behaviour.remove(eui64, carrier.now()))
        if isinstance(carrier, Coordinator):
            await carrier.settled()

    async def offer(self, image: OtaImage, *, to: Device) -> None:
        """Let an image wait for a device, in place of one that waits for it; the device is told by an Image Notify.

        This is the bench's way, past the hub's store: `wan.deliver` is the Supplier's.
        """
        self.begin_transfer(to)
        behaviour, carrier = self.played()
        # GBCS 11.2.1: those that CS06 activates are told to wait for it.
        upgrade_at = UPGRADE_WAIT if to.device_kind in ACTIVATED_BY_COMMAND else UPGRADE_NOW
        carrier.run(behaviour.offer(image, to.eui64, carrier.now(), upgrade_at=upgrade_at))

    def begin_transfer(self, device: Device) -> None:
        """Forget how far a device's transfer has come: what it fetches from now on is of another."""
        self._progress.pop(device.eui64, None)

    async def withdraw(self, *, to: Device) -> None:
        """Take back the image that waits for a device: in mid transfer it is told ABORT."""
        behaviour, carrier = self.played()
        carrier.run(behaviour.withdraw(to.eui64))

    async def read(self, device: Device, cluster: int, attribute: int, *, plain: bool = False) -> Value:
        """Read an attribute of a device over the HAN; None when it does not answer or has no such attribute.

        `plain` asks without APS security, which a device that has a link key must not answer: RemoteProtocolError when
        its answer has none either.
        """
        if device.short is None:
            return None
        (behaviour, carrier), journal = self.played(), self.rig.journal
        seen = len(journal)
        sequence = behaviour.read_attribute(
            device.short,
            cluster,
            attribute,
            carrier.now(),
            endpoint=device.profile.endpoint,
            plain=plain,
        )
        answer: list[AttributeRead | ReadFailed] = []

        def answered() -> bool:
            for event in journal.since(seen, self.name):
                if isinstance(event, (AttributeRead, ReadFailed)) and event.sequence == sequence:
                    answer.append(event)
            return bool(answer)

        carrier.run([])
        await self.rig.until(
            answered,
            within=2 * behaviour.config.read_timeout,
            failure=lambda: f"the hub's own time-out of a read has not come (sequence {sequence})",
        )
        if plain and any(
            isinstance(event, UnsecuredRefused)
            and (event.peer, event.cluster) == (device.short, cluster)
            and event.command == READ_ATTRIBUTES_RESPONSE
            for event in journal.since(seen, self.name)
        ):
            raise RemoteProtocolError(f"{device.name} answers a read of {cluster:#06x} without APS security")
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

    def queries(self, device: Device) -> int:
        """How many Query Next Image Requests of the device have come to the hub, whatever it answered."""
        journal = self.rig.journal
        return sum(
            isinstance(event, ImageQueried) and event.client == device.eui64
            for event in journal.since(0, self.name)
        )

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

    async def release(self, device: Device) -> None:
        """Tell a device that waits with the image of `offer` that it may upgrade now, as only an OTA server would."""
        behaviour, carrier = self.played()
        behaviour.release(device.eui64, carrier.now())
        carrier.run([])

    async def hold(self, device: Device, seconds: float) -> None:
        """Answer the device's requests for blocks WAIT_FOR_DATA for so many seconds."""
        behaviour, carrier = self.played()
        behaviour.server.hold(device.eui64, carrier.now() + seconds)

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

    def take(self, seconds: float, event: object) -> None:
        """Follow how far the transfers are, and what goes up to the WAN."""
        self.wan.take(seconds, event)
        if isinstance(event, (TransferProgressed, TransferStarted)):
            self._progress[event.client] = event
