"""The Gas Proxy Function of a Communications Hub, as far as firmware goes: what it answers of its GSME."""

from __future__ import annotations

from harness.errors import RemoteProtocolError
from harness.members.hub_values import DeliveryRefused, WanMessage
from harness.wire.gbcs import build_message, parse_message
from harness.wire.gbcs_names import use_case_name
from harness.wire.gbcs_payloads import message_of, parse_payload
from harness.wire.gbcs_readings import GsmeFirmwareVersion, ReadGsmeFirmwareVersion


def answer_as_gpf(octets: bytes, eui64: int, gsme_version: int | None) -> list[object]:
    """Take a command to the GPF `eui64`, whose mirror has this version of its GSME; None: it has none.

    GCS38 is answered (MP105: SR11.2 may go to the GPF), anything else refused: it is no model of a mirror. Its messages
    have neither signature nor MAC, as the hub's own.
    """
    try:
        command = parse_message(octets)
        payload = parse_payload(command)
    except RemoteProtocolError as error:
        return [DeliveryRefused(eui64, str(error))]
    if command.recipient != eui64:
        return [DeliveryRefused(eui64, f"the message in it is for {command.recipient:#018x}")]
    if not isinstance(payload, ReadGsmeFirmwareVersion):
        name = use_case_name(command.message_code)
        return [DeliveryRefused(eui64, f"{name} ({command.message_code:#06x}) is not for this GPF to act on")]
    if gsme_version is None:
        return [DeliveryRefused(eui64, "the GPF has no version of a GSME to tell")]
    answer = message_of(
        GsmeFirmwareVersion(gsme_version, sequence=payload.sequence),
        originator=eui64,
        recipient=command.originator,
        originator_counter=command.originator_counter,  # GBCS 7.2.7: a response has its command's
    )
    return [WanMessage(eui64, build_message(answer))]
