"""What Smart Energy security asks of every member: a link key of its own with each partner, and no word without it."""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass

from harness.errors import RemoteProtocolError
from harness.wire import zcl
from harness.wire.application import (
    ANY_ENDPOINT,
    SMART_ENERGY_PROFILE,
    ApsMessage,
    LinkKeyEstablished,
    LinkKeyRestored,
)
from harness.wire.cbke import KeyEstablishment
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER, key_establishment_attributes
from harness.wire.cbke_values import (
    KeyEstablished,
    KeyEstablishmentConfig,
    KeyEstablishmentFailed,
    KeyRejected,
)
from harness.wire.certificates import Credentials
from harness.wire.clusters import BASIC_CLUSTER
from harness.wire.ota_messages import CLOCK_TOLERANCE

# ZSE 07-5356-19 5.4.6 assigns each cluster a key: the network key to Basic and Key Establishment, which come before a
# link key, the link key to Time and to all clusters of Smart Energy. What it says of Basic is assumed: no copy of the
# table was at hand. ZDO is not of the profile, and has no link key to wait for.
UNDER_NETWORK_KEY = (BASIC_CLUSTER, KEY_ESTABLISHMENT_CLUSTER)


@dataclass(frozen=True, slots=True)
class UnsecuredRefused:
    """A message was not acted on, as it did not come under an established link key.

    `peer` is the sender's NWK address, `eui64` None where that is not known. `secured` says that it came under a link
    key, but one that no key establishment has put in the place of the pre-configured one.
    """

    peer: int
    eui64: int | None
    cluster: int
    command: int
    secured: bool = False


class SmartEnergySecurity:
    """Establishes link keys for a member, and says which messages count without one.

    `keyed` are the EUI-64s of the partners that a key was established with: the member's storage keeps the list.
    """

    def __init__(
        self,
        credentials: Iterable[Credentials],
        config: KeyEstablishmentConfig,
        generator: random.Random,
        keyed: list[int],
    ) -> None:
        self.core = KeyEstablishment(credentials, generator.randbytes, config)
        self.keyed = keyed
        self.attributes = key_establishment_attributes(self.core.suites)
        self._replaced = False  # whether the last key took the place of one established earlier
        self._again: tuple[int, float] | None = None  # with whom to begin again, and when

    def start(self, partner: int, now: float) -> None:
        """Establish a link key with a partner (EUI-64), and try until there is one."""
        self._again = None
        if self.core.partner is None:
            self.core.start(partner, now)
        else:
            self._again = (partner, now + self.core.config.own_wait_time)

    def reset(self) -> None:
        """Forget what is under way, as a power cut does; the keys are kept."""
        self._again = None
        self.core.reset()

    def forget(self, partner: int) -> None:
        """The link key with a partner counts no more."""
        if partner in self.keyed:
            self.keyed.remove(partner)

    def receive(
        self, partner: int, frame: zcl.Frame, now: float, *, unicast: bool, initiates: bool
    ) -> list[object]:
        """Take one frame of the cluster. `initiates`: this member is the one that begins with that partner."""
        return self._obey(self.core.receive(partner, frame, now, unicast=unicast), now, initiates=initiates)

    def frames_to_send(self) -> list[tuple[int, bytes]]:
        """What waits to be sent, as (partner, ZCL frame), each once; never under a link key."""
        return self.core.frames_to_send()

    def next_deadline(self) -> float | None:
        """When a partner's silence has lasted too long, or the next try is due."""
        deadline = self.core.next_deadline()
        if self._again is None:
            return deadline
        return self._again[1] if deadline is None else min(deadline, self._again[1])

    def on_deadline(self, now: float, *, initiates: bool) -> list[object]:
        """Give up on a partner, or begin again with one."""
        events = self._obey(self.core.on_deadline(now), now, initiates=initiates)
        if self._again is not None and now + CLOCK_TOLERANCE >= self._again[1]:
            self.start(self._again[0], now)
        return events

    def _obey(self, events: list[object], now: float, *, initiates: bool) -> list[object]:
        obeyed: list[object] = []
        for event in events:
            obeyed.append(event)
            if isinstance(event, KeyEstablished):
                self._replaced = event.partner in self.keyed
                if not self._replaced:
                    self.keyed.append(event.partner)
                obeyed.append(LinkKeyEstablished(event.partner, event.key))
            elif isinstance(event, KeyRejected):
                if not self._replaced:
                    self.forget(event.partner)
                obeyed.append(LinkKeyRestored(event.partner))
            if (
                initiates
                and isinstance(event, (KeyRejected, KeyEstablishmentFailed))
                and event.partner not in self.keyed
                and self.core.partner is None
            ):
                self._again = (event.partner, now + event.retry_after)
        return obeyed

    def admits(self, eui64: int | None, message: ApsMessage) -> bool:
        """Whether a message of the Smart Energy profile counts: under an established key, or where it needs none."""
        return message.cluster in UNDER_NETWORK_KEY or (message.secured and eui64 in self.keyed)


def frame_for(endpoint: int, message: ApsMessage) -> zcl.Frame | None:
    """Return the ZCL frame of a Smart Energy message to this endpoint; None when it is for another, or is no frame."""
    if message.profile != SMART_ENERGY_PROFILE or message.destination_endpoint not in (
        endpoint,
        ANY_ENDPOINT,
    ):
        return None
    try:
        return zcl.parse_frame(message.payload)
    except RemoteProtocolError:
        return None  # without a header there is nothing to answer to


def refuse(
    eui64: int | None, message: ApsMessage, frame: zcl.Frame, *, unicast: bool
) -> tuple[UnsecuredRefused, bytes | None]:
    """Return what is said of a message that does not count, and the Default Response where one is due."""
    event = UnsecuredRefused(message.peer, eui64, message.cluster, frame.command, message.secured)
    status = zcl.Status.NOT_AUTHORIZED
    due = zcl.default_response_due(frame, status, unicast=unicast)
    return event, zcl.default_response(frame, status) if due else None


def not_authorized(frame: zcl.Frame) -> bool:
    """Whether a frame is a Default Response that says NOT_AUTHORIZED: its sender knows of no key with this member."""
    if frame.control & zcl.CLUSTER_COMMAND or frame.command != zcl.DEFAULT_RESPONSE:
        return False
    try:
        _, status = zcl.parse_default_response(frame.payload)
    except RemoteProtocolError:
        return False
    return status == zcl.Status.NOT_AUTHORIZED


def soonest(*deadlines: float | None) -> float | None:
    """Return the first of several deadlines, None where nothing is waited for."""
    return min((deadline for deadline in deadlines if deadline is not None), default=None)
