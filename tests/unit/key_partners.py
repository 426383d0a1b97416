"""The published vectors of key establishment, and two partners that establish keys over a wire without a radio."""

from __future__ import annotations

import json
import random

from harness.wire import zcl
from harness.wire.cbke import KeyEstablishment
from harness.wire.cbke_messages import TERMINATE, key_establishment_attributes, parse_message
from harness.wire.cbke_values import KeyEstablishmentConfig
from harness.wire.certificates import (
    CURVES,
    SUITE_1,
    SUITE_2,
    Credentials,
    issue,
    new_authority,
    parse_certificate,
)
from tests.conftest import REPOSITORY

HUB = 0x000D6F000A9069E7
PPMID = 0x000D6F000B7A1102
METER = 0x000D6F000B7A1103
ISSUER = 0x4854455354434101

VECTORS = json.loads((REPOSITORY / "fixtures" / "zse-annex-c.json").read_text())["suites"]

_rng = random.Random(2026)
AUTHORITIES = {suite: new_authority(suite, ISSUER, _rng.randbytes) for suite in (SUITE_1, SUITE_2)}
STRANGER = new_authority(SUITE_2, ISSUER + 1, _rng.randbytes)
_issued: dict[tuple[int, int], Credentials] = {}


def credentials(eui64, suite=SUITE_2):
    """Return a device's credentials of the test CA, issued once."""
    if (eui64, suite) not in _issued:
        _issued[eui64, suite] = issue(AUTHORITIES[suite], eui64, random.Random(eui64 + suite).randbytes)
    return _issued[eui64, suite]


def published(suite, role):
    """Return the credentials of the standard's initiator or responder."""
    vectors, curve = VECTORS[str(suite)], CURVES[suite]
    own = vectors[role]
    return Credentials(
        parse_certificate(bytes.fromhex(own["certificate"])),
        int(own["private_key"], 16),
        curve.decompress(bytes.fromhex(vectors["ca_public_key"])),
    )


def octets_of(suite, private_key):
    """Return the random octets that a private key is made of: see `new_private_key`."""
    curve = CURVES[suite]
    return lambda count: (private_key % curve.order - 1).to_bytes(count, "big")


class Device:
    """One device: its key establishment, and the attributes that it answers."""

    def __init__(self, *owned, random_octets=None, **config):
        eui64 = owned[0].certificate.subject
        self.core = KeyEstablishment(
            owned, random_octets or random.Random(eui64).randbytes, KeyEstablishmentConfig(**config)
        )
        table = {0x0800: key_establishment_attributes(self.core.suites)}
        self.attributes = zcl.AttributeServer(table, table)
        self.eui64 = self.core.eui64
        self.events = []

    def key(self):
        """Return the key of the one KeyEstablished event there is."""
        (event,) = self.events
        return event.key


class Wire:
    """Carries frames between devices, at once and in order. `log` keeps what was sent, `lose` decides what is lost."""

    def __init__(self, *devices):
        self.devices = {device.eui64: device for device in devices}
        self.now = 100.0
        self.log = []
        self.lose = lambda source, frame: False
        self.alter = lambda source, frame: frame

    def carry_one_round(self):
        """Deliver what waits at each device now; return whether there was anything."""
        waiting = [
            (device, to, data)
            for device in self.devices.values()
            for to, data in device.core.frames_to_send()
        ]
        for source, to, data in waiting:
            frame = zcl.parse_frame(data)
            self.log.append((source.eui64, to, frame))
            if to in self.devices and not self.lose(source.eui64, frame):
                self.deliver(source.eui64, to, self.alter(source.eui64, frame))
        return bool(waiting)

    def deliver(self, source, to, frame):
        """Let a device take a frame."""
        target = self.devices[to]
        general = not frame.control & zcl.CLUSTER_COMMAND
        if general and frame.command == zcl.READ_ATTRIBUTES:
            reply = zcl.parse_frame(target.attributes.answer(0x0800, frame, self.now))
            self.log.append((to, source, reply))
            if not self.lose(to, reply):
                self.deliver(to, source, self.alter(to, reply))
            return
        target.events += target.core.receive(source, frame, self.now)

    def run(self):
        """Carry until nothing is left to carry."""
        for _ in range(50):
            if not self.carry_one_round():
                return
        raise AssertionError("the devices do not stop talking")

    def wait(self):
        """Let time pass until nobody waits for anything."""
        while deadlines := [
            deadline
            for device in self.devices.values()
            if (deadline := device.core.next_deadline()) is not None
        ]:
            self.now = min(deadlines)
            for device in self.devices.values():
                device.events += device.core.on_deadline(self.now)
            self.run()

    def sent(self, source):
        """Return the cluster commands that a device sent, as (command, from server)."""
        return [
            (frame.command, bool(frame.control & zcl.FROM_SERVER))
            for sender, _, frame in self.log
            if sender == source and frame.control & zcl.CLUSTER_COMMAND
        ]


def pair(**config):
    """Return a PPMID that has begun with a hub, the hub, and their wire; nothing has been carried yet."""
    ppmid, hub = Device(credentials(PPMID), **config), Device(credentials(HUB), **config)
    wire = Wire(hub, ppmid)
    ppmid.core.start(HUB, wire.now)
    return ppmid, hub, wire


def other(eui64):
    """Return the partner of one of the two."""
    return PPMID if eui64 == HUB else HUB


def altering(wire, sender, command, change):
    """Let the wire change the payload of one command of a sender."""

    def alter(source, frame):
        hit = source == sender and frame.control & zcl.CLUSTER_COMMAND and frame.command == command
        return frame._replace(payload=change(frame.payload)) if hit else frame

    wire.alter = alter


def terminates(wire, sender):
    """Return the Terminates of a sender, each with whether it came from a server."""
    return [
        (parse_message(frame), bool(frame.control & zcl.FROM_SERVER))
        for source, _, frame in wire.log
        if source == sender and frame.control & zcl.CLUSTER_COMMAND and frame.command == TERMINATE
    ]


def assert_both_can_try_again(wire, *devices):
    """Prove that nobody waits for anything, and that the next try between the first two succeeds."""
    for device in devices:
        assert device.core.partner is None
        assert device.core.next_deadline() is None
        device.events.clear()
    wire.lose, wire.alter = lambda source, frame: False, lambda source, frame: frame
    first, second = devices[:2]
    first.core.start(second.eui64, wire.now)
    wire.run()
    assert first.key() == second.key()
