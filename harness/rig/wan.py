"""The WAN side of a rig's hub: images and commands go down, responses and alerts come up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, TypeVar

from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
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
from harness.wire.image import OtaImage, build_image

if TYPE_CHECKING:
    from harness.rig.hub import Hub
    from harness.rig.nouns import Device, Member

_P = TypeVar("_P")

FirmwareReceipt = EsmeFirmwareReceipt | GsmeFirmwareReceipt
"""What a device makes of an image that it got: 0x8F72 or 0x8F1C."""

_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)


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


class Wan:
    """What the Supplier sends through the hub of a rig, and what comes back. Signed as the rig's Supplier signs.

    Whoever carries Service Requests stands here, above the hub and beside the HAN: it sees GBCS messages, no frames.
    """

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self.received: list[Received] = []
        """Every GBCS message that came up, in order."""
        self.unreadable: list[Unreadable] = []
        """What came up and is none."""
        self._counter = 0

    def take(self, seconds: float, event: object) -> None:
        """Follow what the hub says to the WAN."""
        if not isinstance(event, WanMessage):
            return
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

        RemoteProtocolError when the hub keeps no image for that device; an image that it refuses is alerted (CCS08).
        """
        octets = image if isinstance(image, bytes) else build_image(image)
        behaviour, carrier = self._hub.played()
        self._hub.begin_transfer(to)
        events = behaviour.deliver_image(octets, to.eui64, carrier.now())
        carrier.run(events)
        _refused(events)

    async def send(self, payload: Payload, *, to: Member) -> int:
        """Send a command to a device or to the hub; return its originator counter. Critical ones are signed."""
        supplier = supplier_of(self._hub.rig.file)
        if supplier is None:
            raise RigError(
                f"{self._hub.rig.file.path}: supplier: is missing: there is nobody to send commands"
            )
        self._counter += 1
        message = message_of(
            payload, originator=supplier.eui64, recipient=to.eui64, originator_counter=self._counter
        )
        if isinstance(payload, ActivateFirmware):
            message = sign(message, supplier.private_key)
        behaviour, carrier = self._hub.played()
        events = behaviour.deliver_command(to.eui64, build_message(message), carrier.now())
        carrier.run(events)
        _refused(events)
        return self._counter

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
        """What the hub's clock says, which the devices of its HAN set theirs by."""
        behaviour, carrier = self._hub.played()
        return _EPOCH + timedelta(seconds=(behaviour.config.ota.utc_at_zero or 0) + carrier.now())

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


def _refused(events: list[object]) -> None:
    for event in events:
        if isinstance(event, DeliveryRefused):
            raise RemoteProtocolError(event.reason)
