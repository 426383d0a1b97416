"""What an application sees of a Zigbee stack: messages, endpoints, and the contract of a member's behaviour."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol, runtime_checkable

# Zigbee PRO (05-3474-21) 3.6.5: broadcast addresses; those from FIRST_BROADCAST on are no node's.
BROADCAST_ALL = 0xFFFF
BROADCAST_RX_ON = 0xFFFD
BROADCAST_ROUTERS = 0xFFFC
FIRST_BROADCAST = 0xFFF8

ANY_ENDPOINT = 0xFF  # the broadcast endpoint: a message for every endpoint of its profile

ZDO_PROFILE = 0x0000
SMART_ENERGY_PROFILE = 0x0109  # ZSE 07-5356-19: the profile that every GB HAN device speaks


class ApsMessage(NamedTuple):
    """One application message between two endpoints.

    `peer` is the other party's NWK short address: the sender's of a message received, the destination's of one to
    send (0xFFFC to 0xFFFF are broadcasts). `payload` is the ZCL or ZDO frame. `secured` says that it travels, or
    travelled, under an APS link key; `acknowledged` that an APS acknowledgement is asked for.
    """

    peer: int
    profile: int
    cluster: int
    source_endpoint: int
    destination_endpoint: int
    payload: bytes
    secured: bool = False
    acknowledged: bool = True
    broadcast: bool = False
    group: int | None = None
    radius: int = 30

    def answer(self, payload: bytes, *, endpoint: int) -> ApsMessage:
        """Return the answer to this message: from one's own `endpoint` to where it came from, secured as it was."""
        return ApsMessage(
            peer=self.peer,
            profile=self.profile,
            cluster=self.cluster,
            source_endpoint=endpoint,
            destination_endpoint=self.source_endpoint,
            payload=payload,
            secured=self.secured,
        )


@dataclass(frozen=True, slots=True)
class SimpleDescriptor:
    """One endpoint as ZDO Simple_Desc_rsp describes it (Zigbee PRO 2.3.2.5)."""

    endpoint: int
    profile: int
    device: int
    device_version: int
    server_clusters: tuple[int, ...]
    client_clusters: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Restart:
    """A request of a behaviour to its carrier: go dark for `seconds`, then come back with what storage holds."""

    seconds: float


@dataclass(frozen=True, slots=True)
class LinkKeyEstablished:
    """A request of a behaviour to its carrier: from now on `key` is the APS link key with `partner` (EUI-64)."""

    partner: int
    key: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class LinkKeyRestored:
    """A request of a behaviour to its carrier: the link key before the last one is that with `partner` again."""

    partner: int


@dataclass(frozen=True, slots=True)
class LinkKeyForgotten:
    """A request of a hub to its carrier: `partner` (EUI-64) is no member any more, the link key with it is dropped.

    One that is on the HAN all the same is told to leave.
    """

    partner: int


@dataclass(frozen=True, slots=True)
class JoinPermitted:
    """A request of a hub to its carrier: let this device join under `key` for `seconds`, in place of an earlier one.

    The HAN is open to joiners as long as one such permission runs; the hub ends each with `JoinEnded`. After a
    `network_up` those that run are given anew.
    """

    eui64: int
    key: bytes = field(repr=False)
    seconds: float


@dataclass(frozen=True, slots=True)
class JoinEnded:
    """A request of a hub to its carrier: the permission to join is over, as the device joined or its time is up."""

    eui64: int


class Behaviour(Protocol):
    """What a member does, as a core: it never waits, and runs on an emulated node or over an NCP alike.

    Each call returns the events that it caused, in order; afterwards the carrier takes `messages_to_send` and asks
    `next_deadline`. Times are seconds on the carrier's clock.
    """

    @property
    def descriptors(self) -> Sequence[SimpleDescriptor]:
        """The endpoints that the carrier registers and answers ZDO for."""

    def network_up(self, short: int, now: float) -> list[object]:
        """The carrier joined, rejoined or formed its network, as NWK address `short`."""

    def network_down(self, now: float) -> list[object]:
        """The carrier lost or left its network."""

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        """Take one message from the HAN."""

    def messages_to_send(self) -> list[ApsMessage]:
        """Hand over what waits to be sent, each message once."""

    def next_deadline(self) -> float | None:
        """When `on_deadline` wants to be called next; None: nothing to wait for."""

    def on_deadline(self, now: float) -> list[object]:
        """Do what is due at `now`."""

    def power_cut(self) -> None:
        """Lose everything but what the device keeps in non-volatile storage."""


@runtime_checkable
class TrustCenterBehaviour(Behaviour, Protocol):
    """The behaviour of a trust centre: its carrier also says who left the network."""

    def device_left(self, eui64: int, now: float) -> list[object]:
        """A device said that it leaves, or its parent said so."""
