"""What a node is and keeps: its network, keys, children, policy and counters, and who listens to it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from harness.wire.application import ApsMessage


class NodeKind(IntEnum):
    """What a node is on its network."""

    COORDINATOR = 0
    ROUTER = 1
    END_DEVICE = 2  # its receiver is always on
    SLEEPY_END_DEVICE = 3  # hears its parent only by polling


class NodeState(IntEnum):
    """Where a node stands with its network; the values are those of EmberNetworkStatus."""

    NO_NETWORK = 0
    JOINING = 1
    JOINED = 2
    JOINED_NO_PARENT = 3


class SentStatus(IntEnum):
    """What became of a message handed to `Node.send`."""

    DELIVERED = 0
    NOT_ACKNOWLEDGED = (
        1  # sent, with all retries; no APS (or, without APS acknowledgement, no MAC) acknowledgement
    )
    NO_ROUTE = 2
    NOT_JOINED = 3
    NO_KEY = 4  # to be secured, but there is no link key with that party
    TOO_LONG = 5
    BUSY = 6  # as many messages wait for their acknowledgement as the node holds


@dataclass(frozen=True, slots=True)
class Network:
    """A Zigbee network as its members know it."""

    channel: int
    pan_id: int
    extended_pan_id: int
    network_key: bytes = field(repr=False)
    key_sequence: int = 0
    update_id: int = 0
    page: int = 0
    manager: int = 0


@dataclass(slots=True)
class LinkKey:
    """An APS link key with one partner, and the frame counters that belong to it.

    `outgoing_counter` is the next to be sent, `incoming_counter` the lowest still accepted. `reserved` is what storage
    holds: after a power cycle `outgoing_counter` goes on from there, so that none is used twice. `provisional` marks a
    key that only serves to join (an install code's, a transient one); it ends at `expires_us`, if that is given.
    """

    partner: int
    key: bytes = field(repr=False)
    provisional: bool = False
    outgoing_counter: int = 0
    incoming_counter: int = 0
    reserved: int = 0
    expires_us: int | None = None
    verified: bool = False


@dataclass(slots=True)
class Child:
    """An end device that this node is the parent of. `timeout_s` is how long it may be silent."""

    eui64: int
    short: int
    kind: NodeKind
    timeout_s: int
    last_seen_us: int


@dataclass(slots=True)
class Neighbor:
    """A router or coordinator within reach. `outgoing_cost` is 0 while it is not known to hear us."""

    short: int
    eui64: int
    lqi: int = 255
    outgoing_cost: int = 0
    last_heard_us: int = 0


@dataclass(slots=True)
class Route:
    """How to reach a node that is not a neighbour."""

    next_hop: int
    cost: int
    record: bool = False  # to a concentrator: a route record goes before the next frame
    low_ram: bool = False  # ... before every frame


@dataclass(slots=True)
class TrustCenterPolicy:
    """Whom a trust centre lets in."""

    allow_joins: bool = True
    install_code_only: bool = (
        True  # only devices with a link key of their own; else `default_link_key` serves, too
    )
    allow_rejoins: bool = True  # rejoins without network security (trust centre rejoins)
    allow_link_key_requests: bool = False
    send_key_in_clear: bool = False  # the network key without APS security; no node of ours takes it so


@dataclass(frozen=True, slots=True)
class NodeConfig:
    """How a node is set up. Times are microseconds unless the name says otherwise."""

    manufacturer_code: int = 0
    authentication_timeout_us: int = 10_000_000
    poll_interval_us: int = 7_500_000
    fast_poll_us: int = (
        250_000  # while it waits for an answer: joining, or for `awake_us` after it sent something
    )
    awake_us: int = 1_500_000
    keepalive_us: int = 60_000_000  # poll interval of an end device with its receiver on
    lost_parent_polls: int = 3  # failed polls in a row after which the parent is taken for lost
    end_device_timeout: int = 8  # index of nwk_commands.END_DEVICE_TIMEOUTS
    auto_rejoin: bool = True
    rejoin_backoff_us: int = 2_000_000  # doubled with each failure
    rejoin_backoff_max_us: int = 600_000_000
    max_children: int = 32
    max_depth: int = 15
    link_status_us: int = 15_000_000
    aps_retries: int = 3
    aps_ack_wait_us: int = 1_600_000
    aps_ack_wait_sleepy_us: int = 9_280_000  # the indirect queue's 7.68 s more
    max_pending: int = 16  # unicasts that wait for their APS acknowledgement
    counter_reserve: int = 1024  # frame counters taken from storage at a time
    request_link_key: bool = (
        False  # after a join, ask the trust centre for a key of its own (R21); not done in GB HANs
    )
    fragment: bool = True  # long messages go in fragments, and arriving fragments are put together
    fragment_window: int = 1
    deliver_all: bool = False  # hand up messages for any endpoint and profile
    hand_up_zdo_requests: bool = False  # hand up ZDO requests too, after answering those that the node knows


@dataclass(slots=True)
class NodeCounters:
    """What a node counted since `clear`: the NWK and APS part (the MAC has its own)."""

    aps_rx_broadcast: int = 0
    aps_tx_broadcast: int = 0
    aps_rx_unicast: int = 0
    aps_tx_unicast_success: int = 0
    aps_tx_unicast_retry: int = 0
    aps_tx_unicast_failed: int = 0
    route_discoveries: int = 0
    neighbors_added: int = 0
    neighbors_removed: int = 0
    joins: int = 0
    children_removed: int = 0
    nwk_counter_failures: int = 0
    aps_counter_failures: int = 0
    nwk_decryption_failures: int = 0
    aps_decryption_failures: int = 0
    link_key_missing: int = 0
    relayed_unicasts: int = 0
    broadcast_table_full: int = 0
    address_conflicts: int = 0
    malformed: int = 0

    def clear(self) -> None:
        """Set every counter to 0."""
        for name in self.__slots__:
            setattr(self, name, 0)


class NodeListener:
    """What a node tells whoever runs on it. Every method does nothing unless a subclass overrides it."""

    __slots__ = ()

    def network_up(self) -> None:
        """The node formed, joined or rejoined its network, or went on with the stored one."""

    def network_down(self, reason: str) -> None:
        """The node left its network, or lost its parent."""

    def stopped(self) -> None:
        """All work stopped, but for want of power: what was asked of the node before, as scans, has no result now."""

    def message_received(self, message: ApsMessage, aps_counter: int, lqi: int, rssi: float) -> None:
        """A message for one of the endpoints, or for ZDO; the node itself answers ZDO requests."""

    def message_sent(self, tag: int, message: ApsMessage, status: SentStatus) -> None:
        """What became of the message that `Node.send` took with `tag`."""

    def fragment_received(
        self, message: ApsMessage, aps_counter: int, block: int, total: int | None, lqi: int, rssi: float
    ) -> None:
        """One block of a long message, with `NodeConfig.fragment` off. `total` comes with block 0 only."""

    def security_failed(self, peer: int, reason: str) -> None:
        """A frame from short address `peer`, secured under a link key, was dropped; `reason` has no key in it."""

    def device_joined(self, eui64: int, short: int, parent_short: int, status: int) -> None:
        """At the trust centre: 0 secured rejoin, 1 join, 2 left, 3 rejoin without security (Update-Device's status)."""

    def device_denied(self, eui64: int, short: int, parent_short: int, status: int) -> None:
        """At the trust centre: the same, but the policy refused it the network key."""

    def child_joined(self, eui64: int, short: int, kind: NodeKind) -> None:
        """An end device is this node's child now (it has proved to know the network key)."""

    def child_left(self, eui64: int, short: int) -> None:
        """It is no longer: it left, moved, or was silent too long."""

    def route_recorded(self, short: int, eui64: int, relays: tuple[int, ...]) -> None:
        """A route record came from `short`; relays in the order of the frame: nearest to `short` first."""

    def route_failed(self, short: int, status: int) -> None:
        """A network status command said that `short` cannot be reached."""

    def id_conflict(self, short: int) -> None:
        """Two nodes use this short address."""

    def polled(self, child: Child) -> None:
        """A child polled."""

    def key_changed(self, partner: int, status: int) -> None:
        """The link key with `partner` was established or confirmed (status 0), or was not."""

    def storage_changed(self) -> None:
        """What `Node.save` returns has changed in a way that a power cycle must not lose."""
