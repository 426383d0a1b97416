"""A premises in the Inventory, and a DSP over it, for the tests of who carries Service Requests."""

from __future__ import annotations

import itertools
from datetime import UTC, datetime
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec

from harness.dcc.csp import Up
from harness.dcc.dsp import Dsp, DspConfig, Ended, Originator, Sent
from harness.dcc.interface import Alerted, Answer
from harness.smi.inventory import Inventory
from harness.smi.options import Options
from harness.smi.requests import PreNotifyDevice, UpdateFirmware
from harness.smi.responses import CplLoaded, DeviceCommissioned, DeviceJoined, DeviceLogUpdated
from harness.wire.gbcs import GbcsMessage, build_message, parse_message
from harness.wire.gbcs_image import build_upgrade_image, image_hash, sign_image
from harness.wire.gbcs_payloads import Payload, message_of
from harness.wire.image import OtaImage, build_image
from tests.unit.smi_bench import (
    ESME_ID,
    GPF_ID,
    GS,
    GSME_ID,
    HCALCS_ID,
    HUB_1,
    IS,
    PPMID_ID,
    ROWS,
    S2,
    V1,
    V2,
    row,
)

USER = 0x90B3D51F30010000
KEY = ec.derive_private_key(7, ec.SECP256R1())
MOMENT = datetime(2026, 1, 1, tzinfo=UTC)
NOW = 1_000_000.0


def meter_image(version: int = V2, filling: bytes = b"image") -> bytes:
    """An OTA file for a meter, signed."""
    upgrade = build_upgrade_image(sign_image(filling * 20, KEY))
    return build_image(OtaImage(0x121D, 0, version, upgrade, hardware_min=1, hardware_max=2))


def ppmid_image(version: int = V2, filling: bytes = b"image") -> bytes:
    """An OTA file for a PPMID, which has no trailer."""
    return build_image(OtaImage(0x121D, 0x84, version, filling * 20, hardware_min=1, hardware_max=2))


HASH = image_hash(b"image" * 20)

# The CPL of smi_bench, with the images above in the place of its made-up hashes.
CPL = tuple(
    row(one.model, one.firmware_version, str(one.smets), image_hash=HASH, gbcs_version=one.gbcs_version)
    if one.firmware_version == V2
    else one
    for one in ROWS
)


def premises(**options: Any) -> Inventory:
    """Return the Inventory of a premises whose members are all commissioned and run V1."""
    inventory = Inventory(Options(**options))
    inventory.apply(CplLoaded("CPL 1", CPL), NOW)
    hub = PreNotifyDevice(IS, HUB_1, "CHF", "Acme", "CHF-s2", S2, V1, associated_gpf=GPF_ID)
    inventory.apply(hub, NOW)
    for device, model in (
        (ESME_ID, "ESME-a"),
        (GSME_ID, "GSME-a"),
        (HCALCS_ID, "HCALCS-a"),
        (PPMID_ID, "PPMID-s2"),
    ):
        user = GS if device == GSME_ID else IS
        inventory.apply(PreNotifyDevice(user, device, model.split("-")[0], "Acme", model, S2, V1), NOW)
        inventory.apply(DeviceLogUpdated(HUB_1, device, added=True), NOW)
        inventory.apply(DeviceJoined(HUB_1, device), NOW)
    for device in (HUB_1, GPF_ID, ESME_ID, GSME_ID, HCALCS_ID, PPMID_ID):
        inventory.apply(DeviceCommissioned(device), NOW)
    return inventory


def new_dsp(inventory: Inventory | None = None, **config: Any) -> Dsp:
    """Return a DSP over a premises, whose User's counters begin at 1."""
    counter = itertools.count(1)
    originator = Originator(USER, KEY, lambda: next(counter))
    return Dsp(inventory or premises(), originator, DspConfig(**config))


def distribution(*devices: int, version: int = V2, request_id: str = "r1") -> UpdateFirmware:
    """SR11.1 for these."""
    return UpdateFirmware(request_id, IS, version, devices)


def up(payload: Payload, source: int, counter: int = 1) -> Up:
    """What a Device says, as it comes up."""
    message = message_of(payload, originator=source, recipient=USER, originator_counter=counter)
    return Up(source, build_message(message))


def sent(events: list[Any]) -> list[Any]:
    """What goes down."""
    return [event.what for event in events if isinstance(event, Sent)]


def command(events: list[Any]) -> GbcsMessage:
    """The one GBCS message that goes down."""
    (down,) = sent(events)
    return parse_message(down.octets)


def answer(events: list[Any]) -> Answer | None:
    """The answer among the events; None: none yet."""
    answers = [event.answer for event in events if isinstance(event, Ended)]
    assert len(answers) <= 1
    return answers[0] if answers else None


def alerts(events: list[Any]) -> list[Any]:
    """The DCC Alerts among the events."""
    return [event.alert for event in events if isinstance(event, Alerted)]
