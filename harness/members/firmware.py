"""What a device makes of the images that it has fetched, and of the GBCS firmware commands that it gets."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.firmware_values import (
    UNSTARTABLE,
    Activation,
    ActivationBegun,
    ActivationCancelled,
    ActivationEnded,
    ActivationScheduled,
    AlertRaised,
    CommandAnswered,
    CommandRefused,
    FirmwareConfig,
    FirmwareFlash,
    HeldImage,
    ImageHeld,
    ImageRejected,
    Order,
    Receipt,
    ScheduledActivation,
    dlms_time,
)
from harness.members.kinds import DeviceKind
from harness.wire import gbcs_names as names
from harness.wire.gbcs import Cra, GbcsMessage, build_message, parse_message
from harness.wire.gbcs_image import image_hash, parse_upgrade_image, verify_image
from harness.wire.gbcs_payloads import (
    ActivateFirmware,
    ActivateImageResponse,
    ActivationResult,
    CommandAccepted,
    ExecutionOutcome,
    FirmwareActivated,
    FirmwareVersion,
    FutureDatedActivation,
    Payload,
    ReadFirmwareVersion,
    ReadResponse,
    build_payload,
    message_of,
    parse_payload,
)
from harness.wire.gbcs_readings import (
    HASH_LENGTH,
    EsmeFirmwareReceipt,
    EsmeFirmwareVersion,
    GsmeFirmwareReceipt,
    GsmeFirmwareVersion,
    ReadEsmeFirmwareVersion,
    ReadGsmeFirmwareVersion,
    invoke_id,
)
from harness.wire.gbcs_security import sign, verify
from harness.wire.image import OtaImage, parse_image
from harness.wire.mac import format_eui64
from harness.wire.ota_messages import CLOCK_TOLERANCE
from harness.wire.package import PACKAGE_MAGIC, check_package, parse_package

_READS_CS08: Final = (DeviceKind.PPMID, DeviceKind.BRIDGE, DeviceKind.HCALCS)
_NO_HASH: Final = bytes(HASH_LENGTH)  # assumed: of a file that has no Manufacturer Image to be found


class Firmware:
    """The firmware of one device: what runs, what waits to run, and what is said about it. A pure core.

    It lives from boot to boot; `flash` outlives it. A MAC is neither checked nor made, as no key is agreed with anybody
    here; signatures are, where the configuration has the keys.
    """

    def __init__(self, config: FirmwareConfig, flash: FirmwareFlash) -> None:
        self.config = config
        self.flash = flash
        self._hash = (
            _NO_HASH  # of the Manufacturer Image last examined, which the alert about a bad one names
        )

    @property
    def running_version(self) -> int:
        """The firmware version that runs."""
        return self.flash.running_version

    # --- images ---------------------------------------------------------------------------------------------------

    def examine(self, data: bytes, version: int) -> str | None:
        """The reason why this device cannot run the file that was announced as `version`; None: it can.

        Whether a version may follow the one that runs is not looked at: the OTA client's policy has decided that.
        """
        self._hash = _NO_HASH
        try:
            found = self._check(data)
        except RemoteProtocolError as error:
            return str(error)
        if found.version != version:
            return f"its version is {found.version:#010x}, {version:#010x} was announced"
        return None

    def stored(self, data: bytes, now: float) -> list[object]:
        """Keep a file that `examine` found good, in place of one that was held; nothing runs it yet.

        LocalProtocolError for any other file.
        """
        try:
            held = self._check(data)
        except RemoteProtocolError as error:
            raise LocalProtocolError(f"a file that this device cannot run was to be kept: {error}") from error
        # Assumed: a CS06 that waits for its time stays, and finds then whether its hash is the new image's.
        self.flash.held = held
        self._hash = _NO_HASH
        return [
            ImageHeld(held.version, held.image_hash),
            *self._receipt(names.FIRMWARE_VERIFIED, held.image_hash, now),
        ]

    def rejected(self, version: int, reason: str, now: float) -> list[object]:
        """A file was fetched and is no good. One held from before stays (assumed)."""
        hash_, self._hash = self._hash, _NO_HASH
        return [
            ImageRejected(version, reason),
            *self._receipt(names.FIRMWARE_VERIFICATION_FAILED, hash_, now),
        ]

    def _check(self, data: bytes) -> HeldImage:
        """What the file holds. RemoteProtocolError says why this device cannot run it."""
        config = self.config
        image = parse_image(data)
        manufacturer_image = image.payload
        if config.has_trailer:
            upgrade = parse_upgrade_image(image.payload)
            manufacturer_image = upgrade.manufacturer_image
        self._hash = image_hash(manufacturer_image)
        self._check_header(image, "it")
        if not manufacturer_image:
            raise RemoteProtocolError("its Manufacturer Image is empty")
        if config.has_trailer and config.supplier is not None and not verify_image(upgrade, config.supplier):
            raise RemoteProtocolError("its signature is not the supplier's")
        run = manufacturer_image
        if config.bridges:
            # MP170: each type of bridge has a package of its own, which has to match what is on site.
            package = parse_package(manufacturer_image)
            check_package(package, config.bridges)
            own = package.image_for(config.bridges[0])
            assert own is not None  # check_package
            self._check_header(own, f"the image of {config.bridges[0].name} in it")
            run = own.payload
        elif manufacturer_image.startswith(PACKAGE_MAGIC):
            raise RemoteProtocolError("it is a package for bridges, this device runs a plain image")
        return HeldImage(image.version, self._hash, len(data), starts=not run.startswith(UNSTARTABLE))

    def _check_header(self, image: OtaImage, what: str) -> None:
        config = self.config
        if image.manufacturer != config.manufacturer:
            raise RemoteProtocolError(
                f"{what} is of manufacturer {image.manufacturer:#06x}, this device of {config.manufacturer:#06x}"
            )
        if image.image_type != config.image_type:
            raise RemoteProtocolError(
                f"{what} is of image type {image.image_type:#06x}, this device runs {config.image_type:#06x}"
            )
        if image.destination not in (None, config.eui64):
            raise RemoteProtocolError(f"{what} is for {format_eui64(image.destination)} alone")
        hardware = config.hardware_version
        if hardware is not None and not image.fits_hardware(hardware):
            raise RemoteProtocolError(
                f"{what} is for the hardware versions {image.hardware_min:#06x} to {image.hardware_max:#06x},"
                f" this device has {hardware:#06x}"
            )

    # --- commands ---------------------------------------------------------------------------------------------------

    def receive(self, octets: bytes, now: float) -> list[object]:
        """Take one GBCS message for this device: CS06, or the read of its firmware version. Nothing is raised."""
        try:
            message = parse_message(octets)
            payload = parse_payload(message)
            if message.cra is not Cra.COMMAND:
                raise RemoteProtocolError(f"a {message.cra.name.lower()} is no command")
            if message.recipient != self.config.eui64:
                raise RemoteProtocolError(f"a command for {format_eui64(message.recipient)}")
            if isinstance(payload, ActivateFirmware):
                return self._activate_firmware(message, payload, now)
            return self._answer(message, self._version_read(message, payload))
        except RemoteProtocolError as error:
            return [CommandRefused(str(error))]

    def _version_read(self, message: GbcsMessage, payload: Payload) -> Payload:
        kind, running = self.config.kind, self.flash.running_version
        if isinstance(payload, ReadFirmwareVersion) and kind in _READS_CS08:
            return FirmwareVersion(running, ReadResponse.SUCCESS)
        if isinstance(payload, ReadEsmeFirmwareVersion) and kind is DeviceKind.ESME:
            return EsmeFirmwareVersion(payload.invoke_id, running)
        if isinstance(payload, ReadGsmeFirmwareVersion) and kind is DeviceKind.GSME:
            return GsmeFirmwareVersion(running, sequence=payload.sequence)
        raise RemoteProtocolError(
            f"{names.use_case_name(message.message_code)} ({message.message_code:#06x}) is no firmware command"
            f" of this {kind.name}"
        )

    def _activate_firmware(self, message: GbcsMessage, command: ActivateFirmware, now: float) -> list[object]:
        """CS06, in the order of GBCS 11.5: authenticate; record what is for later; else look at the image and run."""
        config, flash = self.config, self.flash
        counter, originator = message.originator_counter, message.originator
        if not config.by_command:
            raise RemoteProtocolError(
                f"CS06 is no command of a {config.kind.name}, which runs an image by itself"
            )
        if config.supplier is not None and not verify(message, config.supplier):
            raise RemoteProtocolError("the signature of CS06 is not the supplier's")
        # GBCS 0.8.1 annex 3: the counter in the payload is that of the Grouping Header.
        if command.originator_counter != counter:
            raise RemoteProtocolError(
                f"CS06 has the originator counter {command.originator_counter}, its header {counter}"
            )
        if flash.activation is not None:
            raise RemoteProtocolError(
                f"CS06 while the device changes to {flash.activation.image.version:#010x}"
            )
        last = flash.seen.get(originator)
        if config.refuses_replays and last is not None and counter <= last:
            raise RemoteProtocolError(
                f"CS06 with the originator counter {counter}, {format_eui64(originator)} has come to {last}"
            )
        flash.seen[originator] = counter if last is None else max(counter, last)
        if command.execution_time is None:
            return self._run(command.image_hash, Order(originator, counter), now)
        # GBCS 11.5: recorded before it is looked at; what it orders is told by an alert at its time.
        events: list[object] = []
        if flash.scheduled is not None:
            # Assumed: there is one record, so that a later command takes its place; a cancellation is one for never.
            events.append(ActivationCancelled(flash.scheduled.originator_counter, counter))
            flash.scheduled = None
        if not command.cancels:
            flash.scheduled = ScheduledActivation(
                command.image_hash, originator, counter, command.execution_time
            )
            events.append(ActivationScheduled(counter, command.execution_time))
        return events + self._respond(CommandAccepted(), Order(originator, counter), now)

    def _run(self, wanted: bytes, order: Order, now: float) -> list[object]:
        """Begin to run the held image if it is the one that is wanted."""
        held = self.flash.held
        if held is None:
            return self._report(ActivateImageResponse.NO_IMAGE_HELD, order, now)
        if held.image_hash != wanted:
            return self._report(ActivateImageResponse.HASH_MISMATCH, order, now)
        return self._begin(held, order)

    def _begin(self, image: HeldImage, order: Order | None) -> list[object]:
        self.flash.held = None
        self.flash.activation = Activation(image, order)
        return [ActivationBegun(image.version)]

    # --- activation -------------------------------------------------------------------------------------------------

    def due(self, now: float) -> list[object]:
        """Run the held image now, as the OTA server said. LocalProtocolError when a command alone may, or none is held.

        A device that is changing already goes on with that.
        """
        config, flash = self.config, self.flash
        if config.by_command:
            raise LocalProtocolError(f"a {config.kind.name} runs an image on CS06 only")
        if flash.activation is not None:
            return []
        if flash.held is None:
            raise LocalProtocolError(f"this {config.kind.name} holds no image that it could run")
        return self._begin(flash.held, None)

    def boot(self) -> None:
        """The boot loader's turn: finish a change that was begun.

        An image that does not start is dropped, and the old one runs on (assumed).
        """
        flash = self.flash
        activation = flash.activation
        if activation is None or activation.result is not None:
            return
        image = activation.image
        if not image.starts:
            flash.activation = replace(activation, result=ActivateImageResponse.ACTIVATION_FAILURE)
            return
        flash.running_version = image.version
        flash.activation = replace(activation, result=ActivateImageResponse.SUCCESS)

    def booted(self, now: float) -> list[object]:
        """The device runs again, planned or not: what the last activation made owed waits to be sent from now on."""
        self.boot()
        flash, config = self.flash, self.config
        activation, flash.activation = flash.activation, None
        if activation is None:
            return []
        result = activation.result
        assert result is not None  # of boot()
        events: list[object] = [ActivationEnded(activation.image.version, flash.running_version, result)]
        if activation.order is not None:
            events += self._report(result, activation.order, now)
        if config.alerts_activation:
            events += self.alert_activation(result is ActivateImageResponse.SUCCESS, now)
        return events

    def alert_activation(self, success: bool, now: float) -> list[object]:
        """Say by CS09 how a change of firmware ended. Called from outside only without `alerts_activation`."""
        config = self.config
        outcome = ActivationResult.SUCCESS if success else ActivationResult.FAILURE
        code = names.PPMID_FIRMWARE_ACTIVATION
        # The version is the one that runs now, as in CS06; assumed for a failure.
        alert = FirmwareActivated(code, config.time(now), self.flash.running_version, outcome)
        return self._alert(code, alert, config.broker_id)

    def next_deadline(self) -> float | None:
        """When a future-dated CS06 is due, in seconds of the caller's clock."""
        scheduled = self.flash.scheduled
        if scheduled is None or self.flash.activation is not None:
            return None
        return self.config.seconds_at(scheduled.execution_time)

    def on_deadline(self, now: float) -> list[object]:
        """Do what a future-dated CS06 asked for, if its time has come; late, too, where the device was off then."""
        deadline, scheduled = self.next_deadline(), self.flash.scheduled
        if scheduled is None or deadline is None or now + CLOCK_TOLERANCE < deadline:
            return []
        self.flash.scheduled = None
        order = Order(scheduled.originator, scheduled.originator_counter, scheduled.execution_time)
        return self._run(scheduled.image_hash, order, now)

    # --- what it says -----------------------------------------------------------------------------------------------

    def messages_to_send(self) -> list[bytes]:
        """Take what waits to be sent. Until then it outlasts a power cut, so that each is said once, and none is lost.

        To be asked for only by who has a tunnel to put it into.
        """
        owed, self.flash.owed = self.flash.owed, []
        return owed

    def _report(self, result: ActivateImageResponse, order: Order, now: float) -> list[object]:
        """Tell who ordered an activation what became of it, with the version that runs now."""
        outcome = ExecutionOutcome(result, self.flash.running_version)
        if order.execution_time is None:
            return self._respond(outcome, order, now)
        code = names.FUTURE_DATED_COMMAND_FAILED
        if result is ActivateImageResponse.SUCCESS:
            code = names.FUTURE_DATED_COMMAND_ACTIONED
        alert = FutureDatedActivation(code, order.execution_time, order.originator_counter, outcome)
        return self._alert(code, alert, order.originator)

    def _respond(self, payload: CommandAccepted | ExecutionOutcome, order: Order, now: float) -> list[object]:
        """The response to CS06: signed, and with its time, as RTDS 4.5.0 has it."""
        message = message_of(
            payload,
            originator=self.config.eui64,
            recipient=order.originator,
            originator_counter=order.originator_counter,
            date_time=dlms_time(self.config.time(now)),
        )
        self._owe(message, signed=True)
        return [CommandAnswered(names.CS06, order.originator, order.originator_counter)]

    def _answer(self, command: GbcsMessage, payload: Payload) -> list[object]:
        """The response to a read, which goes to its originator with the supplementary party that it named."""
        answer = replace(
            command,
            cra=Cra.RESPONSE,
            originator=self.config.eui64,
            recipient=command.originator,
            content=build_payload(payload),
            date_time=b"",
            supplementary_originator_counter=None,
            supplementary_certificate=b"",
            signature=b"",
            mac=None,
        )
        self._owe(answer, signed=False)
        return [CommandAnswered(command.message_code, command.originator, command.originator_counter)]

    def _receipt(self, code: int, hash_: bytes, now: float) -> list[object]:
        """The Firmware Distribution Receipt Alert."""
        config, form = self.config, self.config.receipt_form
        if form is Receipt.NONE:
            return []
        receipt: Payload = GsmeFirmwareReceipt(code, config.utc(now), hash_)
        if form is Receipt.DLMS:
            invoke = invoke_id(self.flash.counter + 1)
            receipt = EsmeFirmwareReceipt(invoke, code, dlms_time(config.time(now)), hash_)
        return self._alert(code, receipt, config.supplier_id)

    def _alert(self, code: int, payload: Payload, recipient: int) -> list[object]:
        flash = self.flash
        flash.counter += 1
        message = message_of(
            payload, originator=self.config.eui64, recipient=recipient, originator_counter=flash.counter
        )
        self._owe(message, signed=True)
        return [AlertRaised(code, recipient, flash.counter)]

    def _owe(self, message: GbcsMessage, *, signed: bool) -> None:
        key = self.config.signing_key
        if signed and key is not None:
            message = sign(message, key)
        self.flash.owed.append(build_message(message))
