"""The WAN side of a rig's hub: images and commands go down, responses and alerts come up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from harness.emulation.host import MemberNode
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.members.gpf import answer_as_gpf
from harness.members.hub_values import DeliveryRefused, WanMessage
from harness.members.kinds import ACTIVATED_BY_COMMAND, DeviceKind
from harness.rig.supplier import supplier_of
from harness.wire.gbcs import GbcsMessage, build_message, parse_message
from harness.wire.gbcs_payloads import (
    ActivateFirmware,
    FirmwareTransfer,
    FirmwareVersion,
    Payload,
    ReadFirmwareVersion,
    message_of,
    parse_payload,
)
from harness.wire.gbcs_readings import (
    EsmeFirmwareReceipt,
    EsmeFirmwareVersion,
    GsmeFirmwareReceipt,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadGsmeFirmwareVersion,
    invoke_id,
)
from harness.wire.gbcs_security import sign
from harness.wire.image import OtaImage, build_image, parse_image
from harness.wire.mac import format_eui64

if TYPE_CHECKING:
    from harness.rig.hub import Hub
    from harness.rig.nouns import Device, Member

_P = TypeVar("_P")

FirmwareReceipt = EsmeFirmwareReceipt | GsmeFirmwareReceipt
"""What a device makes of an image that it got: 0x8F72 or 0x8F1C."""

_COMMANDS_A_SECOND = 16  # bits of an originator counter below the UTC seconds at which a session began


@dataclass(frozen=True, slots=True)
class Received:
    """One message that came up: when, in seconds on the rig's clock, who put it on its way, and what it says."""

    seconds: float
    source: int
    message: GbcsMessage
    payload: Payload


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Octets that came up and are no GBCS message, for `reason`."""

    seconds: float
    source: int
    octets: bytes
    reason: str


@dataclass(frozen=True, slots=True)
class ImageDelivered:
    """The WAN handed the hub an image of `size` octets for `target`; `version` is None for octets that may be none."""

    target: int
    version: int | None
    size: int


@dataclass(frozen=True, slots=True)
class CommandDelivered:
    """The WAN handed the hub a GBCS message for `recipient`."""

    recipient: int
    octets: bytes


class Wan:
    """What the Supplier sends through the hub of a rig, and what comes back. Signed as the rig's Supplier signs.

    Whoever carries Service Requests stands on this, above the hub and beside the HAN: it sees GBCS messages, no frames.
    It is the one way down: a `Downlink` for a DCC, and what a test sends past the DCC.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.received: list[Received] = []
        """Every GBCS message that came up, in order."""
        self.unreadable: list[Unreadable] = []
        """What came up and is none."""
        self.on_message: Callable[[int, bytes], None] = lambda source, octets: None
        """Called with all that comes up, as it does: who put it on its way (EUI-64), and the octets."""
        # Assumed to rise from session to session by the bench's clock: a device that kept its flash refuses what it has
        # seen. An emulated one begins with its rig, and says the same in every run.
        self._counter = 0 if hub.rig.file.is_emulated else int(time.time()) << _COMMANDS_A_SECOND

    def take(self, seconds: float, event: object) -> None:
        """Follow what the hub says to the WAN."""
        if not isinstance(event, WanMessage):
            return
        self.on_message(event.source, event.octets)
        try:
            message = parse_message(event.octets)
            payload = parse_payload(message)
        except RemoteProtocolError as error:
            self.unreadable.append(Unreadable(seconds, event.source, event.octets, str(error)))
        else:
            self.received.append(Received(seconds, event.source, message, payload))

    # --- down -------------------------------------------------------------------------------------------------------

    async def deliver(self, image: OtaImage | bytes, *, to: Device) -> None:
        """Hand the hub an image for a device, as the CSP does: its store decides what becomes of it.

        RemoteProtocolError, with a `DeliveryRefusal` as its code, when the hub keeps no image for that device; an image
        that it refuses is alerted (CCS08).
        """
        _raise(self._deliver_image(to.eui64, image if isinstance(image, bytes) else build_image(image)))

    async def deliver_image(self, target: int, octets: bytes) -> str | None:
        """Hand the hub an OTA file for a device (EUI-64); return why it keeps none for it, None: it may."""
        return _reason(self._deliver_image(target, octets))

    def _deliver_image(self, target: int, octets: bytes) -> DeliveryRefused | None:
        behaviour, carrier = self._hub.played()
        if _dark(carrier):
            return DeliveryRefused(target, f"{self._hub.name} has no power")
        for device in self._hub.rig.devices:
            if device.eui64 == target:
                self._hub.begin_transfer(device)
        self._note(ImageDelivered(target, _version_in(octets), len(octets)))
        events = behaviour.deliver_image(octets, target, carrier.now())
        carrier.run(events)
        return _refusal(events)

    async def deliver_command(self, recipient: int, octets: bytes) -> str | None:
        """Hand the hub a GBCS message for a device, its GPF or itself (EUI-64); return why it goes no further."""
        return _reason(self._deliver_command(recipient, octets))

    def _deliver_command(self, recipient: int, octets: bytes) -> DeliveryRefused | None:
        behaviour, carrier = self._hub.played()
        if _dark(carrier):
            return DeliveryRefused(recipient, f"{self._hub.name} has no power")
        self._note(CommandDelivered(recipient, octets))
        if recipient == self._hub.rig.file.gpf:
            events = answer_as_gpf(octets, recipient, self._gsme_version())
        else:
            events = behaviour.deliver_command(recipient, octets, carrier.now())
        carrier.run(events)
        return _refusal(events)

    async def update_device_log(self, device: int, *, add: bool) -> str | None:
        """Put a device of the rig (EUI-64) in the hub's Device Log, or take it off; return why it is not done."""
        try:
            if not add:
                await self._hub.remove(device)
                return None
            known = next((known for known in self._hub.rig.devices if known.eui64 == device), None)
            if known is None:
                return f"the rig has no {format_eui64(device)}, and so no install code of it"
            await self._hub.admit(known)
        except RemoteProtocolError as error:
            return str(error)
        return None

    def _gsme_version(self) -> int | None:
        """The version that the GPF has of its GSME: assumed that its mirror is up to date."""
        gsme = self._hub.rig.of_role("gsme")
        return None if gsme is None or gsme.behaviour is None else gsme.behaviour.running_version

    @property
    def counter(self) -> int:
        """The originator counter of the last command of the rig's Supplier."""
        return self._counter

    def go_on_after(self, counter: int) -> None:
        """Use no counter up to this one any more: an earlier run has."""
        self._counter = max(self._counter, counter)

    def next_counter(self) -> int:
        """Return the next originator counter of the rig's Supplier: there is one row of them, whoever sends."""
        self._counter += 1
        return self._counter

    async def send(self, payload: Payload, *, to: Member) -> int:
        """Send a command to a device or to the hub; return its originator counter. Critical ones are signed."""
        supplier = supplier_of(self._hub.rig.file)
        if supplier is None:
            raise RigError(
                f"{self._hub.rig.file.path}: supplier: is missing: there is nobody to send commands"
            )
        counter = self.next_counter()
        message = message_of(
            payload, originator=supplier.eui64, recipient=to.eui64, originator_counter=counter
        )
        if isinstance(payload, ActivateFirmware):
            message = sign(message, supplier.private_key)
        _raise(self._deliver_command(to.eui64, build_message(message)))
        return counter

    def _note(self, event: object) -> None:
        _, carrier = self._hub.played()
        self._hub.rig.note(carrier.now(), self._hub.name, event)

    async def activate(self, image_hash: bytes, *, on: Device, at: datetime | None = None) -> int:
        """Send CS06, the command of SR11.3, for now or for a time; return its originator counter."""
        if on.device_kind not in ACTIVATED_BY_COMMAND:
            raise LocalProtocolError(f"{on.name} activates its images by itself: CS06 is not for it")
        return await self.send(ActivateFirmware(image_hash, self._counter + 1, at), to=on)

    async def read_version(self, of: Member) -> int:
        """Send what SR11.2 sends to this kind of member (ECS52, GCS38 or CS08); return its originator counter."""
        kind = of.device_kind
        counter = self._counter + 1
        if kind is None or kind is DeviceKind.ESME:
            return await self.send(ReadEsmeFirmwareVersion(invoke_id(counter)), to=of)
        if kind is DeviceKind.GSME:
            return await self.send(ReadGsmeFirmwareVersion(), to=of)
        return await self.send(ReadFirmwareVersion(), to=of)

    def clock(self) -> datetime:
        """What the hub's clock says, to the second: the devices of its HAN set theirs by it."""
        behaviour, carrier = self._hub.played()
        return behaviour.clock(carrier.now())

    # --- up ---------------------------------------------------------------------------------------------------------

    async def version(self, of: Member, *, within: float) -> int:
        """Read the firmware version that a member runs as SR11.2 does. RemoteProtocolError when it does not say it."""
        kind: type[EsmeFirmwareVersion | GsmeFirmwareVersion | FirmwareVersion] = FirmwareVersion
        if of.device_kind in (None, DeviceKind.ESME):
            kind = EsmeFirmwareVersion
        elif of.device_kind is DeviceKind.GSME:
            kind = GsmeFirmwareVersion
        answer = await self.until(kind, within=within, source=of, counter=await self.read_version(of))
        version = answer.version
        if version is None:
            raise RemoteProtocolError(f"{of.name} answers SR11.2 without a version: {answer}")
        return version

    async def receipt(self, by: Device, *, within: float, image_hash: bytes | None = None) -> FirmwareReceipt:
        """Wait for the next Firmware Distribution Receipt Alert of a device, from now on, and return it.

        `image_hash` asks for the one about that image; one that has come already counts, too. RemoteProtocolError if
        none comes.
        """

        def wanted(received: Received) -> bool:
            payload = received.payload
            return (
                isinstance(payload, (EsmeFirmwareReceipt, GsmeFirmwareReceipt))
                and received.source == by.eui64
                and image_hash in (None, payload.image_hash)
            )

        what = "Firmware Distribution Receipt Alert"
        found = await self._next(wanted, what, within, by, from_start=image_hash is not None)
        assert isinstance(found, (EsmeFirmwareReceipt, GsmeFirmwareReceipt))
        return found

    def transfers(self, device: Device) -> list[FirmwareTransfer]:
        """The Firmware Transfer Alerts (CCS08) about a device so far."""
        payloads = (received.payload for received in self.received)
        return [
            payload
            for payload in payloads
            if isinstance(payload, FirmwareTransfer) and payload.target == device.eui64
        ]

    async def until(
        self, kind: type[_P], *, within: float, source: Member | None = None, counter: int | None = None
    ) -> _P:
        """Wait for the next message of a kind of payload, from now on, and return that.

        `counter` asks for the response to the command that had it; one that has come already counts, too.
        RemoteProtocolError if none comes.
        """

        def wanted(received: Received) -> bool:
            return (
                isinstance(received.payload, kind)
                and (source is None or received.source == source.eui64)
                and (counter is None or received.message.originator_counter == counter)
            )

        found = await self._next(wanted, kind.__name__, within, source, from_start=counter is not None)
        assert isinstance(found, kind)
        return found

    async def _next(
        self,
        wanted: Callable[[Received], bool],
        what: str,
        within: float,
        source: Member | None,
        *,
        from_start: bool,
    ) -> Payload:
        seen = 0 if from_start else len(self.received)
        found: list[Payload] = []

        def came() -> bool:
            found.extend(received.payload for received in self.received[seen:] if wanted(received))
            return bool(found)

        whom = "anybody" if source is None else source.name
        await self._hub.rig.until(
            came, within=within, failure=lambda: f"no {what} has come up from {whom} within {within:g} s"
        )
        return found[0]


def _version_in(octets: bytes) -> int | None:
    try:
        return parse_image(octets).version
    except RemoteProtocolError:
        return None


def _dark(carrier: object) -> bool:
    """Whether a hub is without power, as far as the bench can know: of an emulated one."""
    return isinstance(carrier, MemberNode) and not carrier.node.powered


def _refusal(events: Sequence[object]) -> DeliveryRefused | None:
    return next((event for event in events if isinstance(event, DeliveryRefused)), None)


def _reason(refusal: DeliveryRefused | None) -> str | None:
    return None if refusal is None else refusal.reason


def _raise(refusal: DeliveryRefused | None) -> None:
    if refusal is not None:
        raise RemoteProtocolError(refusal.reason, code=refusal.code)
