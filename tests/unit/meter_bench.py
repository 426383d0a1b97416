"""A hub and one meter with certificates, on the link of `secured_han`."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import pytest

from harness.members.hub_values import WanMessage
from harness.members.kinds import DeviceKind
from harness.members.meter import Esme, Gsme, GsmeConfig, MeterConfig
from harness.wire import zcl
from harness.wire.gbcs import parse_message
from harness.wire.gbcs_payloads import (
    ActivateImageResponse,
    EsmeFirmwareReceipt,
    ExecutionOutcome,
    GsmeFirmwareReceipt,
    parse_payload,
)
from harness.wire.ota_client_values import (
    OtaClientConfig,
)
from harness.wire.ota_messages import OTA_CLUSTER, QUERY_NEXT_IMAGE_REQUEST
from tests.unit import firmware_bench
from tests.unit.firmware_bench import (
    HARDWARE,
    HASH,
    IMAGE_TYPE,
    MAKER,
    OLD,
)
from tests.unit.secured_han import CREDENTIALS, ESME, GSME, HUB, SecuredHan, hub_config

SUCCESS, NO_IMAGE, MISMATCH, FAILURE = ActivateImageResponse
WAKES = 1800.0
METERS = pytest.mark.parametrize("eui64", [ESME, GSME], ids=["esme", "gsme"])


def meter(eui64, *, storage=None, **fields):
    """A meter that runs OLD, with a certificate of the test authority."""
    sleepy = eui64 == GSME
    kind = DeviceKind.GSME if sleepy else DeviceKind.ESME
    values = {
        "firmware": firmware_bench.config(kind, eui64=eui64),
        "running_version": OLD,
        "ota": OtaClientConfig(
            MAKER, IMAGE_TYPE, hardware_version=HARDWARE, start_jitter=0.0, unprompted=not sleepy
        ),
        "secured": True,
        "credentials": CREDENTIALS[eui64],
    } | fields
    if sleepy:
        return Gsme(GsmeConfig(**values), random.Random(eui64))
    return Esme(MeterConfig(**values), random.Random(eui64))


class MeterHan(SecuredHan):
    """A hub and one meter of its Device Log, which has its key and its tunnel."""

    def __init__(self, eui64, *, settled=100.0, loss=0.0, repeats=0.0, seed=1, **fields):
        self.eui64 = eui64
        super().__init__(
            hub=hub_config(eui64=HUB),
            devices={eui64: meter(eui64, **fields)},
            loss=loss,
            repeats=repeats,
            seed=seed,
        )
        kind = DeviceKind.GSME if eui64 == GSME else DeviceKind.ESME
        self._record(HUB, self.hub.admit(eui64, kind, bytes(16), 3600.0, self.now))
        self.run(settled)

    @property
    def meter(self):
        return self.members[self.eui64]

    def image(self, data=None):
        """The WAN delivers an image for the meter."""
        self._record(HUB, self.hub.deliver_image(data or firmware_bench.file(), self.eui64, self.now))

    def command(self, octets):
        """The WAN delivers a command for the meter."""
        self._record(HUB, self.hub.deliver_command(self.eui64, octets, self.now))

    def activate(self, image_hash=HASH, counter=1, at=None, **fields):
        """The WAN delivers CS06."""
        self.command(firmware_bench.cs06(image_hash, counter, at, recipient=self.eui64, **fields))

    def after(self, seconds):
        """Let time pass."""
        self.run(self.now + seconds)

    @property
    def told(self):
        """The payloads that the meter sent to the WAN."""
        octets = [event.octets for event in self.of(HUB, WanMessage) if event.source == self.eui64]
        return [parse_payload(parse_message(message)) for message in octets]

    def outcomes(self):
        """(response, version) of each response to a CS06 for now."""
        return [(it.response, it.firmware_version) for it in self.told if isinstance(it, ExecutionOutcome)]

    def alerts(self):
        """The codes of the receipts of images, with their hashes."""
        kinds = EsmeFirmwareReceipt, GsmeFirmwareReceipt
        return [(it.alert_code, it.image_hash) for it in self.told if isinstance(it, kinds)]

    def queries(self):
        """How many Query Next Image Requests the meter sent."""
        frames = [
            zcl.parse_frame(message.payload)
            for sender, message in self.sent
            if sender == self.eui64 and message.cluster == OTA_CLUSTER
        ]
        return sum(
            frame.control & zcl.CLUSTER_COMMAND and frame.command == QUERY_NEXT_IMAGE_REQUEST
            for frame in frames
        )


def at(han, seconds):
    """The time of a future-dated command, `seconds` from now by the devices' clock."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=int(han.now + seconds))


def held(eui64, **fields):
    """A HAN whose meter has fetched the image of HASH and told so."""
    han = MeterHan(eui64, **fields)
    han.image()
    han.after(WAKES + 60)
    assert han.alerts() == [(0x8F72, HASH)]
    return han
