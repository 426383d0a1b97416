"""What whoever carries Service Requests has in common: how it is asked, how it answers, and what it needs below."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Protocol

from harness.smi.alerts import Alert
from harness.smi.inventory import Inventory
from harness.smi.requests import ServiceRequest, Verdict
from harness.smi.responses import (
    ActivationOutcome,
    Event,
    FirmwareActivated,
    FirmwareVersionRead,
    ImageDelivered,
)


class Outcome(StrEnum):
    """How a Service Request ended, as its sender knows it."""

    REFUSED = "refused"
    """Its verdict is a refusal: nothing was sent."""

    DONE = "done"
    """All that was to come back came."""

    TIMED_OUT = "timed out"
    """Nothing came back in time. Whether the Device acted nobody on this side of the WAN knows."""

    UNDELIVERED = "undelivered"
    """The hub says that it cannot pass it on."""


@dataclass(frozen=True, slots=True)
class Alerted:
    """A DCC Alert and when it was raised, in POSIX seconds."""

    at: float
    alert: Alert


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of a Service Request. `responses` are what the Inventory was told by it; `detail` is for a reader.

    `expected` is what the Inventory says of it, where another than the Inventory gave the verdict; `reported` are the
    numbers of the DCC Alerts that a lab's own DCC raised.
    """

    request: ServiceRequest
    verdict: Verdict
    outcome: Outcome
    responses: tuple[Event, ...] = ()
    attempts: int = 0
    detail: str = ""
    expected: Verdict | None = None
    reported: tuple[str, ...] = ()

    @property
    def firmware_version(self) -> int | None:
        """The version that the Device says it runs; None: it did not say."""
        for response in self.responses:
            if isinstance(response, FirmwareVersionRead | FirmwareActivated):
                return response.firmware_version
        return None

    @property
    def activation(self) -> ActivationOutcome | None:
        """What came of SR11.3; None: the response did not come, or only says that the command is recorded."""
        for response in self.responses:
            if isinstance(response, FirmwareActivated):
                return response.outcome
        return None

    @property
    def delivered_to(self) -> tuple[int, ...]:
        """The Devices of a distribution whose image reached the hub."""
        return tuple(
            response.device
            for response in self.responses
            if isinstance(response, ImageDelivered) and response.delivered
        )


class Downlink(Protocol):
    """The way down to one hub, from the far end of the WAN: each says why the hub does not take it, or None.

    What comes up reaches whoever carries Service Requests by its `take`.
    """

    async def deliver_image(self, target: int, octets: bytes) -> str | None:
        """Hand the hub an OTA file for a Device."""

    async def deliver_command(self, recipient: int, octets: bytes) -> str | None:
        """Hand the hub a GBCS message for a Device of its HAN, its GPF, or itself."""

    async def update_device_log(self, device: int, *, add: bool) -> str | None:
        """Have the hub put a Device in its Device Log, or take it off (CCS01, CCS02)."""


class DccSystem(Protocol):
    """Whoever carries Service Requests: emulated, an operator at the lab's own tool, an adapter to a test system."""

    inventory: Inventory
    alerts: list[Alerted]
    """The DCC Alerts so far, in order."""

    async def request(
        self, request: ServiceRequest, *, image: bytes | None = None, at: datetime | None = None
    ) -> Answer:
        """Send a Service Request and wait for what comes of it.

        `image` is the OTA file of SR11.1 and SR11.4; `at` is when an SR11.3 is to act, None: at once.
        LocalProtocolError for a request that cannot be sent so.
        """

    def tell(self, event: Event) -> None:
        """Tell the Inventory what comes with no request: a Device on the HAN, a CPL. Errors are the Inventory's."""

    def check(self) -> None:
        """Raise what went wrong beside those who wait for an answer."""

    async def close(self) -> None:
        """End it: what is under way comes to nothing."""
