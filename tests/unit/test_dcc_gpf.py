"""Tests of the Gas Proxy Function: what it says of its GSME, and what it leaves alone."""

from __future__ import annotations

import pytest

from harness.members.gpf import answer_as_gpf
from harness.members.hub_values import DeliveryRefused, WanMessage
from harness.wire.gbcs import build_message, parse_message
from harness.wire.gbcs_payloads import Payload, ReadFirmwareVersion, message_of, parse_payload
from harness.wire.gbcs_readings import GsmeFirmwareVersion, ReadGsmeFirmwareVersion

USER, GPF, GSME = 0x90B3D51F30010000, 0x13, 0x12


def asked(payload: Payload, recipient: int = GPF) -> bytes:
    """A command of the Supplier's, as the hub gets it."""
    return build_message(message_of(payload, originator=USER, recipient=recipient, originator_counter=7))


def test_it_answers_sr11_2_with_the_version_of_its_gsme():
    """GCS38 comes back from the GPF, to whoever asked, with the command's counter and its sequence number."""
    (answer,) = answer_as_gpf(asked(ReadGsmeFirmwareVersion(5)), GPF, 0x01020304)
    assert isinstance(answer, WanMessage)
    message = parse_message(answer.octets)
    assert (answer.source, message.originator, message.recipient) == (GPF, GPF, USER)
    assert message.originator_counter == 7
    assert parse_payload(message) == GsmeFirmwareVersion(0x01020304, sequence=5)


@pytest.mark.parametrize(
    ("octets", "version", "said"),
    [
        (asked(ReadGsmeFirmwareVersion()), None, "has no version of a GSME"),
        (asked(ReadGsmeFirmwareVersion(), GSME), 1, "is for 0x0000000000000012"),
        (asked(ReadFirmwareVersion()), 1, "is not for this GPF to act on"),
        (b"noise", 1, "GBCS"),
    ],
)
def test_anything_else_goes_no_further(octets, version, said):
    """Without a version, for somebody else, another command, or noise: refused with the reason."""
    (refused,) = answer_as_gpf(octets, GPF, version)
    assert isinstance(refused, DeliveryRefused)
    assert refused.recipient == GPF
    assert said in refused.reason
