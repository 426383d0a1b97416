"""Devices, images and commands for the tests of the firmware core."""

from __future__ import annotations

import json
from datetime import UTC, datetime

from cryptography.hazmat.primitives.asymmetric import ec

from harness.members.firmware import Firmware
from harness.members.firmware_values import ActivationEnded, CommandRefused, FirmwareConfig, FirmwareFlash
from harness.members.kinds import DeviceKind
from harness.wire.gbcs import build_message, parse_message
from harness.wire.gbcs_image import build_upgrade_image, image_hash, sign_image
from harness.wire.gbcs_payloads import ActivateFirmware, ActivateImageResponse, message_of, parse_payload
from harness.wire.gbcs_security import sign
from harness.wire.image import OtaImage, build_image

SUPPLIER_KEY = ec.derive_private_key(11, ec.SECP256R1())
OTHER_KEY = ec.derive_private_key(12, ec.SECP256R1())
SUPPLIER, BROKER = 0x90B3D51F30010000, 0x90B3D51F30000002
DEVICE = 0x00DB1234567890A0
MAKER, IMAGE_TYPE, HARDWARE = 0x121D, 0x0084, 0x1112
OLD, NEW, NEWER = 0x01000000, 0x01000001, 0x01000002
HASH, STRANGE_HASH = image_hash(b"firmware"), image_hash(b"another")
START = datetime(2026, 1, 1, tzinfo=UTC)  # what the device's clock says at now = 0
COMMANDED = [DeviceKind.ESME, DeviceKind.GSME, DeviceKind.HCALCS]
SELF_ACTIVATED = [DeviceKind.PPMID, DeviceKind.BRIDGE, DeviceKind.IHD]
SUCCESS, NO_IMAGE, MISMATCH, FAILURE = ActivateImageResponse


def config(kind=DeviceKind.ESME, **changes):
    """One device, which knows its supplier."""
    fields = {
        "kind": kind,
        "eui64": DEVICE,
        "manufacturer": MAKER,
        "image_type": IMAGE_TYPE,
        "hardware_version": HARDWARE,
        "supplier": SUPPLIER_KEY.public_key(),
    }
    return FirmwareConfig(**{**fields, **changes})


def device(kind=DeviceKind.ESME, flash=None, **changes):
    """A device that runs OLD, or what its flash says."""
    return Firmware(config(kind, **changes), flash or FirmwareFlash(OLD))


def file(manufacturer_image=b"firmware", version=NEW, key=SUPPLIER_KEY, **fields):
    """An OTA file with a trailer, or without one where `key` is None."""
    payload = manufacturer_image
    if key is not None:
        payload = build_upgrade_image(sign_image(manufacturer_image, key))
    fields = {"hardware_min": 0x1111, "hardware_max": 0x1211, **fields}
    return build_image(
        OtaImage(
            fields.pop("manufacturer", MAKER),
            fields.pop("image_type", IMAGE_TYPE),
            version,
            payload,
            **fields,
        )
    )


def cs06(image_hash, counter, at=None, *, key=SUPPLIER_KEY, originator=SUPPLIER, recipient=DEVICE):
    """The octets of CS06, signed; without signature where `key` is None."""
    payload = ActivateFirmware(image_hash, counter, at)
    message = message_of(payload, originator=originator, recipient=recipient, originator_counter=counter)
    return build_message(message if key is None else sign(message, key))


def command(payload, counter=1, originator=SUPPLIER, recipient=DEVICE):
    """The octets of a command without signature."""
    return build_message(
        message_of(payload, originator=originator, recipient=recipient, originator_counter=counter)
    )


def power_cut(firmware):
    """What is there after a power cut: another core on what the flash is as JSON."""
    saved = json.loads(json.dumps(firmware.flash.saved()))
    return Firmware(firmware.config, FirmwareFlash.loaded(saved))


def restart(firmware, now):
    """Let the device restart; return it and what it reports."""
    firmware = power_cut(firmware)
    firmware.boot()
    return firmware, firmware.booted(now)


def said(firmware):
    """What the device has to say, as (message, payload)."""
    messages = [parse_message(octets) for octets in firmware.messages_to_send()]
    return [(message, parse_payload(message)) for message in messages]


def payloads(firmware):
    """The payloads of what the device has to say."""
    return [payload for _, payload in said(firmware)]


def holding(kind=DeviceKind.ESME, data=None, **changes):
    """A device with an image, whose alert about it is taken."""
    firmware = device(kind, **changes)
    firmware.stored(file() if data is None else data, 0.0)
    firmware.messages_to_send()
    return firmware


def refusal(events):
    """The reason of the one refusal that the events are."""
    assert [type(event) for event in events] == [CommandRefused]
    return events[0].reason


def activated(version):
    """What a device says that has come back running an image of `version`."""
    return ActivationEnded(version, version, ActivateImageResponse.SUCCESS)
