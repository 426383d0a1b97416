"""The hub's own GBCS messages: what it tells the WAN of its images, and what it answers."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from harness.errors import RemoteProtocolError
from harness.members.hub_flash import HubFlash
from harness.members.hub_values import DeliveryRefused, HubConfig, WanMessage
from harness.members.image_store_values import TransferAlert
from harness.wire.gbcs import build_message, parse_message
from harness.wire.gbcs_names import use_case_name
from harness.wire.gbcs_payloads import FirmwareTransfer, message_of, parse_payload
from harness.wire.gbcs_readings import EsmeFirmwareVersion, ReadEsmeFirmwareVersion
from harness.wire.utc import utc_time


class HubWan:
    """Speaks GBCS for the hub itself. Its messages have neither signature nor MAC: the hub has no keys of the SMKI."""

    def __init__(self, config: HubConfig, flash: HubFlash) -> None:
        self.config = config
        self._flash = flash

    def alerts(self, events: Iterable[object], now: float) -> list[object]:
        """Return these events, behind each `TransferAlert` its message (CCS08), where there is one to send it to."""
        told: list[object] = []
        for event in events:
            told.append(event)
            if isinstance(event, TransferAlert):
                told += self._transfer(event, now)
        return told

    def _transfer(self, alert: TransferAlert, now: float) -> list[object]:
        own, party = self.config.eui64, self.config.wan_party
        if own is None or party is None:
            return []
        self._flash.counter += 1
        payload = FirmwareTransfer(
            alert.alert_code, self.clock(now), alert.target, alert.version, alert.response
        )
        message = message_of(payload, originator=own, recipient=party, originator_counter=self._flash.counter)
        return [WanMessage(own, build_message(message))]

    def clock(self, now: float) -> datetime:
        """See `Hub.clock`."""
        return utc_time((self.config.ota.utc_at_zero or 0) + int(now))

    def answer(self, octets: bytes) -> list[object]:
        """Take a command to the hub itself: ECS52 is answered, anything else refused."""
        own = self.config.eui64
        assert own is not None  # that is how the command came here
        try:
            command = parse_message(octets)
            payload = parse_payload(command)
        except RemoteProtocolError as error:
            return [DeliveryRefused(own, str(error))]
        if command.recipient != own:
            return [DeliveryRefused(own, f"the message in it is for {command.recipient:#018x}")]
        if not isinstance(payload, ReadEsmeFirmwareVersion):
            name = use_case_name(command.message_code)
            return [
                DeliveryRefused(own, f"{name} ({command.message_code:#06x}) is not for this hub to act on")
            ]
        answer = message_of(
            EsmeFirmwareVersion(payload.invoke_id, self.config.firmware_version),
            originator=own,
            recipient=command.originator,
            originator_counter=command.originator_counter,  # GBCS 7.2.7: a response has its command's
        )
        return [WanMessage(own, build_message(answer))]
