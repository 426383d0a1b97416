"""What a device's firmware core is told and tells: its configuration, what it keeps in flash, its events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from enum import StrEnum
from types import MappingProxyType
from typing import Any, Final

from cryptography import x509

from harness.errors import LocalProtocolError
from harness.members.kinds import ACTIVATED_BY_COMMAND, DeviceKind
from harness.wire.gbcs_payloads import ActivateImageResponse
from harness.wire.gbcs_readings import HASH_LENGTH
from harness.wire.gbcs_security import PrivateKey, PublicKey
from harness.wire.package import Bridge
from harness.wire.utc import UTC_2026, utc_seconds, utc_time

# The supplier and the Access Control Broker of the DCC's test PKI, whom the alerts of RTDS 4.5.0 go to.
TEST_SUPPLIER: Final = 0x90B3D51F30010000
TEST_BROKER: Final = 0x90B3D51F30000002

UNSTARTABLE: Final = b"HANNOSTART"
"""A Manufacturer Image that begins so is one that no device can start, though nothing else is wrong with it.

How a maker finds that out is its own affair (GBCS 11.2 leaves it open), so that the harness has a way of its own. It is
the image's property, not the device's: the same device fails with this image and runs the next.
"""


class Receipt(StrEnum):
    """The form of the Firmware Distribution Receipt Alert (0x8F72, 0x8F1C)."""

    DLMS = "dlms"  # message 0x00CE
    GBZ = "gbz"  # message 0x00CF
    NONE = "none"


RECEIPTS: Mapping[DeviceKind, Receipt] = MappingProxyType(
    {
        DeviceKind.ESME: Receipt.DLMS,  # sourced: the title of 0x00CE names the ESME
        DeviceKind.GSME: Receipt.GBZ,  # sourced: the title of 0x00CF names the GSME
        DeviceKind.HCALCS: Receipt.GBZ,  # assumed: no title names it, and it is as the GSME without DLMS
        DeviceKind.PPMID: Receipt.NONE,  # F3: what becomes of its image is told by CS09 alone
        DeviceKind.BRIDGE: Receipt.NONE,  # as a PPMID
        DeviceKind.IHD: Receipt.NONE,  # no Remote Party speaks to a Type 2 Device
    }
)


@dataclass(frozen=True, slots=True)
class FirmwareConfig:
    """What one model of device makes of images and firmware commands. Times in seconds, parties are EUI-64s.

    `eui64` is the device's own. `supplier` is the Authorising Remote Party that signs images and CS06; without it only
    the form of an image's trailer is checked, not whose signature it is, and CS06 needs none. `signing_key` is the
    device's; without it what it sends is unsigned. A field that is None by default follows from the kind.
    """

    kind: DeviceKind
    eui64: int
    manufacturer: int
    image_type: int
    hardware_version: int | None = None
    supplier: PublicKey | x509.Certificate | None = None
    signing_key: PrivateKey | None = field(default=None, repr=False)
    supplier_id: int = TEST_SUPPLIER  # whom the alerts go to that no command asked for
    broker_id: int = TEST_BROKER  # whom CS09 goes to, as in RTDS 4.5.0
    utc_at_zero: int = UTC_2026  # UTC seconds since 2000 at now = 0
    # Samples of the DCC: images of SR11.1 end in Force Replace and a signature, those of SR11.4 (PPMID) do not.
    trailer: bool | None = None
    receipt: Receipt | None = None
    # CS09. The title of its use case names the HCALCS too; assumed that this one is silent, as CS06 has its answer.
    activation_alert: bool | None = None
    # Assumed: GBCS 4.3.1.5 is about replays, its text is not public. CS06 only: RTDS has reads of the same counter.
    refuses_replays: bool = True
    # The bridges that a package for this one has images for, its own first (MP170 option A: B3, B4; option B: all of
    # the site). Empty: its images are no packages.
    bridges: tuple[Bridge, ...] = ()

    def __post_init__(self) -> None:
        for name, value, bits in (
            ("EUI-64", self.eui64, 64),
            ("supplier", self.supplier_id, 64),
            ("Access Control Broker", self.broker_id, 64),
        ):
            if not 0 <= value < 1 << bits:
                raise LocalProtocolError(f"firmware: {name} {value:#x} does not fit {bits} bits")

    @property
    def by_command(self) -> bool:
        """Whether only CS06 has it run an image."""
        return self.kind in ACTIVATED_BY_COMMAND

    @property
    def has_trailer(self) -> bool:
        """Whether its images end in Force Replace and the supplier's signature."""
        return self.by_command if self.trailer is None else self.trailer

    @property
    def receipt_form(self) -> Receipt:
        """In which form it tells what it makes of an image that it got."""
        return RECEIPTS[self.kind] if self.receipt is None else self.receipt

    @property
    def alerts_activation(self) -> bool:
        """Whether it sends CS09 when it has changed its firmware, or failed to."""
        if self.activation_alert is None:
            return self.kind in (DeviceKind.PPMID, DeviceKind.BRIDGE)
        return self.activation_alert

    def time(self, now: float) -> datetime:
        """What the device's clock says, to the second."""
        return utc_time(self.utc(now))

    def utc(self, now: float) -> int:
        """The same in UTC seconds since 2000."""
        return self.utc_at_zero + int(now)

    def seconds_at(self, time: datetime) -> float:
        """When, in seconds of the caller's clock, the device's clock says `time`."""
        return utc_seconds(time) - self.utc_at_zero


def dlms_time(time: datetime) -> bytes:
    """A DLMS date-time, 12 octets. As in RTDS 4.5.0, day of week, deviation and status are not specified."""
    date = time.year.to_bytes(2, "big") + bytes((time.month, time.day, 0xFF))
    return date + bytes((time.hour, time.minute, time.second, 0)) + b"\x80\x00\xff"


# --- flash -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class HeldImage:
    """A verified image that is not run yet. `size` is that of the whole OTA file in octets.

    Its octets are not kept: nothing here executes them, and no message says more of an image than this. Whoever
    downloaded it may use its storage for the next one.
    """

    version: int
    image_hash: bytes
    size: int
    starts: bool = True  # whether it can be run: see UNSTARTABLE


@dataclass(frozen=True, slots=True)
class ScheduledActivation:
    """A future-dated CS06 that was accepted: from whom (EUI-64), with which counter."""

    image_hash: bytes
    originator: int
    originator_counter: int
    execution_time: datetime


@dataclass(frozen=True, slots=True)
class Order:
    """The CS06 that an activation obeys. `execution_time` None: it was for now, and is still to be answered."""

    originator: int
    originator_counter: int
    execution_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class Activation:
    """A change of firmware. `order` None: of the device's own accord. `result` None: the boot loader's turn is next."""

    image: HeldImage
    order: Order | None = None
    result: ActivateImageResponse | None = None


@dataclass(slots=True)
class FirmwareFlash:
    """What survives a power cut.

    `activation` is the one switch from the old firmware to the new: set, the next boot changes, however often it is
    interrupted. `owed` are messages that nobody has taken yet. `counter` is that of the last alert. `seen` has the
    counter of the last CS06 by originator (EUI-64).
    """

    running_version: int
    held: HeldImage | None = None
    scheduled: ScheduledActivation | None = None
    activation: Activation | None = None
    owed: list[bytes] = field(default_factory=list)
    counter: int = 0
    seen: dict[int, int] = field(default_factory=dict)

    @property
    def changing(self) -> bool:
        """Whether the next boot changes the firmware."""
        return self.activation is not None and self.activation.result is None

    def saved(self) -> dict[str, Any]:
        """The same in values that JSON has."""
        activation = self.activation
        return {
            "running_version": self.running_version,
            "held": None if self.held is None else _values(self.held),
            "scheduled": None if self.scheduled is None else _values(self.scheduled),
            "activation": None
            if activation is None
            else {
                "image": _values(activation.image),
                "order": None if activation.order is None else _values(activation.order),
                "result": None if activation.result is None else int(activation.result),
            },
            "owed": [message.hex() for message in self.owed],
            "counter": self.counter,
            "seen": {f"{originator:016x}": counter for originator, counter in self.seen.items()},
        }

    @classmethod
    def loaded(cls, saved: object) -> FirmwareFlash:
        """Read what `saved` gave. LocalProtocolError names what is wrong with it."""
        flash = _Saved("firmware flash", saved, cls)
        held, scheduled, activation = (flash.get(name) for name in ("held", "scheduled", "activation"))
        return cls(
            running_version=flash.number("running_version", 32),
            held=None if held is None else _image("held image", held),
            scheduled=None if scheduled is None else _scheduled(scheduled),
            activation=None if activation is None else _activation(activation),
            owed=[flash.octets("owed", message) for message in flash.list("owed")],
            counter=flash.number("counter", 64),
            seen=flash.counters("seen"),
        )


def _values(value: HeldImage | ScheduledActivation | Order) -> dict[str, Any]:
    return {item.name: _json(getattr(value, item.name)) for item in fields(value)}


def _json(value: object) -> object:
    if isinstance(value, bytes):
        return value.hex()
    return value.isoformat() if isinstance(value, datetime) else value


class _Saved:
    """A saved mapping with exactly the fields of a class, whose values are asked for by their kind."""

    def __init__(self, what: str, saved: object, kind: type) -> None:
        if not isinstance(saved, Mapping):
            raise LocalProtocolError(f"{what} is {saved!r}, not a mapping")
        names = {item.name for item in fields(kind)}
        if missing := names - saved.keys():
            raise LocalProtocolError(f"{what} lacks {', '.join(sorted(missing))}")
        if strange := saved.keys() - names:
            raise LocalProtocolError(
                f"{what} has {', '.join(sorted(map(repr, strange)))}, which nothing reads"
            )
        self._what, self._saved = what, saved

    def wrong(self, name: str, value: object, wanted: str) -> LocalProtocolError:
        return LocalProtocolError(f"{self._what}: {name} is {value!r}, not {wanted}")

    def get(self, name: str) -> object:
        return self._saved[name]

    def number(self, name: str, bits: int) -> int:
        return self.fitting(name, self._saved[name], bits)

    def fitting(self, name: str, value: object, bits: int) -> int:
        if type(value) is not int or not 0 <= value < 1 << bits:
            raise self.wrong(name, value, f"a number of {bits} bits")
        return value

    def flag(self, name: str) -> bool:
        value = self._saved[name]
        if not isinstance(value, bool):
            raise self.wrong(name, value, "true or false")
        return value

    def list(self, name: str) -> list[object]:
        value = self._saved[name]
        if not isinstance(value, list):
            raise self.wrong(name, value, "a list")
        return value

    def octets(self, name: str, value: object) -> bytes:
        try:
            return bytes.fromhex(value)  # type: ignore[arg-type]
        except (TypeError, ValueError) as error:
            raise self.wrong(name, value, "octets in hex") from error

    def hash(self, name: str) -> bytes:
        value = self.octets(name, self._saved[name])
        if len(value) != HASH_LENGTH:
            raise self.wrong(name, self._saved[name], f"{HASH_LENGTH} octets")
        return value

    def time(self, name: str) -> datetime:
        value = self._saved[name]
        try:
            time = datetime.fromisoformat(value)
        except (TypeError, ValueError) as error:
            raise self.wrong(name, value, "a time") from error
        if time.utcoffset() != timedelta(0):
            raise self.wrong(name, value, "a time in UTC")
        return time

    def counters(self, name: str) -> dict[int, int]:
        value = self._saved[name]
        if not isinstance(value, Mapping):
            raise self.wrong(name, value, "a mapping")
        counters = {}
        for party, counter in value.items():
            eui64 = int.from_bytes(self.octets(name, party), "big")
            counters[self.fitting(name, eui64, 64)] = self.fitting(name, counter, 64)
        return counters


def _image(what: str, saved: object) -> HeldImage:
    image = _Saved(what, saved, HeldImage)
    return HeldImage(
        image.number("version", 32), image.hash("image_hash"), image.number("size", 32), image.flag("starts")
    )


def _scheduled(saved: object) -> ScheduledActivation:
    scheduled = _Saved("scheduled activation", saved, ScheduledActivation)
    return ScheduledActivation(
        scheduled.hash("image_hash"),
        scheduled.number("originator", 64),
        scheduled.number("originator_counter", 64),
        scheduled.time("execution_time"),
    )


def _activation(saved: object) -> Activation:
    activation = _Saved("activation", saved, Activation)
    result, order = activation.get("result"), activation.get("order")
    results = [int(code) for code in ActivateImageResponse]
    if result is not None and (type(result) is not int or result not in results):
        raise activation.wrong("result", result, f"one of {results}")
    return Activation(
        _image("image of the activation", activation.get("image")),
        None if order is None else _order(order),
        None if result is None else ActivateImageResponse(result),
    )


def _order(saved: object) -> Order:
    order = _Saved("order of the activation", saved, Order)
    return Order(
        order.number("originator", 64),
        order.number("originator_counter", 64),
        None if order.get("execution_time") is None else order.time("execution_time"),
    )


# --- events ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class ImageHeld:
    """A good image is kept, and waits for its activation."""

    version: int
    image_hash: bytes


@dataclass(frozen=True, slots=True)
class ImageRejected:
    """A file was discarded; `reason` is a sentence."""

    version: int
    reason: str


@dataclass(frozen=True, slots=True)
class AlertRaised:
    """An alert waits to be sent, under the device's own originator counter."""

    alert_code: int
    recipient: int
    counter: int


@dataclass(frozen=True, slots=True)
class CommandAnswered:
    """The response to a command waits to be sent. `counter` is the command's originator counter, as in the response."""

    message_code: int
    recipient: int
    counter: int


@dataclass(frozen=True, slots=True)
class CommandRefused:
    """What came is not obeyed and not answered; `reason` is a sentence."""

    reason: str


@dataclass(frozen=True, slots=True)
class ActivationScheduled:
    """A future-dated CS06 was recorded."""

    originator_counter: int
    execution_time: datetime


@dataclass(frozen=True, slots=True)
class ActivationCancelled:
    """A future-dated CS06 will not be executed: the one with counter `by` took it back, or took its place."""

    originator_counter: int
    by: int


@dataclass(frozen=True, slots=True)
class ActivationBegun:
    """The device has to restart now: its boot loader changes to `version`. Power cut or not, there is no way back."""

    version: int


@dataclass(frozen=True, slots=True)
class ActivationEnded:
    """The device is back from changing to `version`, and runs `running_version`: on failure the one of before."""

    version: int
    running_version: int
    response: ActivateImageResponse
