"""A Zigbee node on the emulated air: coordinator, router or end device; the one class that its users need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from harness.emulation.address_book import AddressBook
from harness.emulation.air import Air, Timer
from harness.emulation.aps_layer import ApsLayer
from harness.emulation.joining import CHANNELS, Joining
from harness.emulation.leaving import Leaving
from harness.emulation.mac_layer import FoundBeacon, Mac, MacStatus
from harness.emulation.node_state import (
    Child,
    LinkKey,
    Neighbor,
    Network,
    NodeConfig,
    NodeCounters,
    NodeKind,
    NodeListener,
    NodeState,
    Route,
    SentStatus,
    TrustCenterPolicy,
)
from harness.emulation.node_storage import restore, save
from harness.emulation.nwk_layer import NwkLayer
from harness.emulation.parenting import Parenting
from harness.emulation.polling import Polling
from harness.emulation.routing import Routing
from harness.emulation.trust_center import Trust
from harness.emulation.zdo import Zdo
from harness.errors import LocalProtocolError
from harness.wire.application import ApsMessage, SimpleDescriptor
from harness.wire.aps import Fragment
from harness.wire.mac import BROADCAST, NO_SHORT, SHORT, MacFrame, format_eui64
from harness.wire.security import KEY_LENGTH

__all__ = [
    "Child", "LinkKey", "Neighbor", "Network", "Node", "NodeConfig", "NodeCounters", "NodeKind",
    "NodeListener", "NodeState", "Route", "SentStatus", "TrustCenterPolicy",
]  # fmt: skip

JoinDone = Callable[[bool, str], None]


class Node:
    """A Zigbee PRO node (05-3474-21). Everything happens in calls of its methods and in events of its `air`.

    The attributes may be read at any time. These may be set: `listener`, `descriptors`, `manufacturer_code`, `policy`,
    `default_link_key` (at the trust centre: for joiners without a key of their own), `groups`, `extended_timeouts`
    (EUI-64s of sleepy devices elsewhere: their acknowledgements are waited for longer), `source_routing`,
    `nwk_counter`, `on_key` (called with each key that the node comes to use, and a label), and, without a network,
    `kind`.
    """

    __slots__ = (
        "_epoch", "addresses", "air", "aps", "aps_high", "book", "children", "config", "counters", "default_link_key",
        "depth", "descriptors", "eui64", "extended_timeouts", "groups", "joining", "kind", "leaving", "link_keys",
        "listener", "mac", "manufacturer_code", "more_waits", "neighbors", "network", "nwk", "on_key", "parent_eui64",
        "parent_short", "parenting", "permit_until_us", "policy", "polling", "powered", "routes", "routing", "short",
        "source_routes", "source_routing", "state", "trust", "trust_center", "zdo",
    )  # fmt: skip

    def __init__(
        self,
        air: Air,
        eui64: int,
        kind: NodeKind,
        listener: NodeListener | None = None,
        *,
        config: NodeConfig | None = None,
    ) -> None:
        self.air = air
        self.eui64 = eui64
        self.kind = kind
        self.listener: NodeListener = listener or NodeListener()
        self.config = config = config or NodeConfig()
        self.powered = True
        self.state = NodeState.NO_NETWORK
        self.network: Network | None = None
        self.short = NO_SHORT
        self.parent_short = NO_SHORT
        self.parent_eui64 = 0
        self.trust_center = 0
        self.depth = 0
        self.link_keys: dict[int, LinkKey] = {}
        self.default_link_key: bytes | None = None
        self.aps_high = 0  # no link key's frame counter was ever taken from here on
        self.children: dict[int, Child] = {}
        self.neighbors: dict[int, Neighbor] = {}
        self.routes: dict[int, Route] = {}
        self.source_routes: dict[int, tuple[int, ...]] = {}
        self.source_routing = False
        self.book = AddressBook()
        self.addresses = self.book.eui64s
        self.groups: list[int] = []
        self.extended_timeouts: dict[int, bool] = {}
        self.descriptors: tuple[SimpleDescriptor, ...] = ()
        self.manufacturer_code = config.manufacturer_code
        self.policy = TrustCenterPolicy()
        self.permit_until_us = 0
        self.counters = NodeCounters()
        self.on_key: Callable[[bytes, str], None] | None = None
        self.more_waits = False
        self._epoch = 0
        self.mac = Mac(air, eui64, self)
        self.nwk = NwkLayer(self)
        self.routing = Routing(self)
        self.parenting = Parenting(self)
        self.joining = Joining(self)
        self.polling = Polling(self)
        self.leaving = Leaving(self)
        self.aps = ApsLayer(self)
        self.trust = Trust(self)
        self.zdo = Zdo(self)

    def __repr__(self) -> str:
        return f"<Node {format_eui64(self.eui64)} {self.kind.name} {self.short:#06x} {self.state.name}>"

    @property
    def is_trust_center(self) -> bool:
        """Whether this node admits the devices of its network."""
        return self.kind == NodeKind.COORDINATOR

    # --- membership ---------------------------------------------------------------------------------------------------

    def form(self, network: Network) -> None:
        """Start `network` as its coordinator and trust centre, with short address 0; up when this returns."""
        self._need(NodeState.NO_NETWORK)
        if self.kind != NodeKind.COORDINATOR:
            raise LocalProtocolError(f"{self} cannot form a network: it is no coordinator")
        self.forget_network()
        self.set_network(network)
        self.short = 0
        self.trust_center = self.eui64
        self._up()

    def resume(self) -> None:
        """Go on with the stored network: a coordinator or router at once, an end device by a secured rejoin."""
        self._need(NodeState.NO_NETWORK)
        if self.network is None:
            raise LocalProtocolError(f"{self} has no network to go on with")
        if self.kind >= NodeKind.END_DEVICE:
            self.state = NodeState.JOINED_NO_PARENT
            self.joining.rejoin(True, None, None)
        else:
            self._up()

    def _up(self) -> None:
        self.state = NodeState.JOINED
        self.start()
        self.listener.storage_changed()
        self.listener.network_up()

    def join(
        self,
        *,
        link_key: bytes,
        channels: Sequence[int] = CHANNELS,
        extended_pan_id: int | None = None,
        done: JoinDone | None = None,
    ) -> None:
        """Scan, associate, authenticate under the preconfigured `link_key`, announce.

        `done(ok, reason)` says how it ended; before done(True, "") comes `network_up`.
        """
        self._need_power()
        self.joining.join(_checked(link_key), channels, extended_pan_id, done)

    def rejoin(
        self, *, secured: bool = True, channels: Sequence[int] | None = None, done: JoinDone | None = None
    ) -> None:
        """Look for a parent in the stored network, on its channel by default.

        Not `secured`: without the network key, which the trust centre sends anew under the link key.
        """
        self._need_power()
        self.joining.rejoin(secured, channels, done)

    def leave(self, *, quietly: bool = False) -> None:
        """Leave the network, after saying so unless `quietly`; `network_down` follows. Frame counters go on rising."""
        self.leaving.leave("left", quietly=quietly)

    def permit_joining(self, seconds: int) -> None:
        """Let devices associate with this node for so long; 0 ends that, 255 is until it is ended."""
        self.parenting.permit(seconds)

    @property
    def permits_joining(self) -> bool:
        """Whether devices may associate with this node now."""
        return self.permit_until_us > self.air.now

    def remove_device(self, eui64: int) -> bool:
        """At the trust centre: make a device leave, by its parent or directly; False when its address is not known."""
        return self.trust.remove(eui64)

    def update_network(self, **changes: Any) -> None:
        """Replace fields of `network` at once, and follow where that changes the radio, without telling anybody."""
        network = self.network
        if network is None:
            raise LocalProtocolError(f"{self} has no network to change")
        self.set_network(replace(network, **changes))
        if self.state == NodeState.JOINED:
            assert self.network is not None
            self.mac.channel, self.mac.pan_id = self.network.channel, self.network.pan_id
            self.parenting.update_beacon()
        self.listener.storage_changed()

    # --- children, keys, addresses ------------------------------------------------------------------------------------

    def add_child(self, child: Child) -> None:
        """Enter an end device in the child table, as from a backup."""
        self.parenting.add_child(child)

    def remove_child(self, eui64: int) -> None:
        """Strike an end device off the child table."""
        self.parenting.drop_child(eui64)

    def set_link_key(
        self,
        partner: int,
        key: bytes,
        *,
        provisional: bool = False,
        seconds: float | None = None,
        outgoing_counter: int | None = None,
        incoming_counter: int | None = None,
    ) -> LinkKey:
        """Enter the link key with `partner`, for so many `seconds` (None: for good).

        The same key again keeps its frame counters, unless they are given. The outgoing counter begins at
        `outgoing_counter`, or higher where this node has used that already.
        """
        old = self.link_keys.get(partner)
        same = old is not None and old.key == key
        # A key that was forgotten may come back, and its counters must not: so each key begins above all those used.
        entry = LinkKey(partner, _checked(key), provisional, self.aps_high, reserved=self.aps_high)
        if old is not None and same:
            entry.outgoing_counter, entry.reserved = old.outgoing_counter, old.reserved
            entry.incoming_counter, entry.verified = old.incoming_counter, old.verified
        if outgoing_counter is not None:
            entry.outgoing_counter = entry.reserved = max(outgoing_counter, self.aps_high)
        if incoming_counter is not None:
            entry.incoming_counter = incoming_counter
        if seconds is not None:
            entry.expires_us = self.air.now + round(seconds * 1e6)
        self.link_keys[partner] = entry
        self.key_used(key, f"link key {format_eui64(partner)}")
        self.listener.storage_changed()
        return entry

    def forget_link_key(self, partner: int) -> bool:
        """Forget the link key with `partner`; False when there is none."""
        if self.link_keys.pop(partner, None) is None:
            return False
        self.listener.storage_changed()
        return True

    def lookup_eui64(self, short: int) -> int | None:
        """Return whose short address this is, if that is known here."""
        return self.eui64 if short == self.short else self.addresses.get(short)

    def lookup_short(self, eui64: int) -> int | None:
        """Return the short address of a device, if it is known here."""
        return self.short if eui64 == self.eui64 else self.book.shorts.get(eui64)

    def learn_address(self, short: int, eui64: int) -> None:
        """Remember whose short address this is now; that it was another's is a conflict."""
        if short == self.parent_short:
            self.parent_eui64 = eui64
        if self.book.learn(short, eui64):
            self.parenting.conflict_seen(short)

    def forget_address(self, short: int) -> None:
        """Forget whose short address this is."""
        self.book.forget(short)

    # --- messages -----------------------------------------------------------------------------------------------------

    def send(
        self,
        message: ApsMessage,
        *,
        tag: int = 0,
        relays: tuple[int, ...] | None = None,
        block: int | None = None,
        blocks: int | None = None,
        aps_counter: int | None = None,
    ) -> int:
        """Send a message and return its APS counter; `message_sent` follows with the result, never before this returns.

        `relays` is a source route, the relay nearest to the destination first. `block`: this is one fragment that the
        caller made itself, number 0 with the count `blocks`, the others with the `aps_counter` that number 0 was given.
        """
        fragment = None
        if block is not None:
            fragment = Fragment(True, blocks or 1) if block == 0 else Fragment(False, block)
        return self.aps.send(message, tag, relays=relays or None, block=fragment, aps_counter=aps_counter)

    def acknowledge_block(
        self, message: ApsMessage, aps_counter: int, block: int, bitfield: int = 0xFF
    ) -> None:
        """Acknowledge blocks from `block` on, which `fragment_received` handed up with `message`."""
        entry = self.aps.link_key(self.lookup_eui64(message.peer)) if message.secured else None
        self.aps.acknowledge(message, aps_counter, entry, Fragment(block == 0, block, bitfield))

    def max_payload(self, secured: bool = False, relays: int = 0) -> int:
        """Return how many octets of payload one frame carries: 82, less 9 when secured, less the source route."""
        return self.aps.room(secured, relays or None)

    def request_many_to_one_routes(self, radius: int = 30, *, high_ram: bool = True) -> None:
        """Become a concentrator: have every router learn the way here; with `high_ram`, keep what they record."""
        self.source_routing = True
        if self.state == NodeState.JOINED:
            self.routing.request_many_to_one(radius, high_ram)

    def request_link_key(self, partner: int | None = None) -> None:
        """Ask the trust centre for a link key with itself (None), which `key_changed` follows, or with `partner`."""
        self._need(NodeState.JOINED)
        self.trust.request_key(partner)

    def poll(self, done: Callable[[MacStatus], None] | None = None) -> None:
        """As an end device: ask the parent for what waits here."""
        self._need(NodeState.JOINED)
        self.polling.poll(done)

    def set_poll_interval(self, us: int | None) -> None:
        """As an end device: poll so often; None: only by `poll`."""
        self.polling.set_interval(us)

    def scan(self, channels: Sequence[int], duration: int, done: Callable[[list[FoundBeacon]], None]) -> None:
        """Look for networks on `channels`."""
        self._need_power()
        self.mac.scan(channels, duration, done)

    def energy_scan(
        self, channels: Sequence[int], duration: int, done: Callable[[list[tuple[int, int]]], None]
    ) -> None:
        """Measure the energy on `channels`: a list of (channel, dBm)."""
        self._need_power()
        self.mac.energy_scan(channels, duration, done)

    # --- power and storage --------------------------------------------------------------------------------------------

    def power_off(self) -> None:
        """Lose the power: everything volatile is gone, without a word to anybody."""
        self.powered = False
        self.state = NodeState.NO_NETWORK
        self.stop(silently=True)
        self.mac.power_off()

    def power_on(self, *, resume: bool = True) -> None:
        """Power again; with `resume`, and a network stored, go on with it."""
        if self.powered:
            return
        self.powered = True
        self.mac.power_on()
        self.nwk.resume()
        for entry in self.link_keys.values():
            entry.outgoing_counter = entry.reserved
        if resume and self.network is not None:
            self.resume()

    def save(self) -> dict[str, Any]:
        """Return what storage holds, as JSON can write it; it contains the keys."""
        return save(self)

    def restore(self, saved: dict[str, Any]) -> None:
        """Take what `save` returned; `resume` goes on with it. LocalProtocolError for anything else."""
        self._need(NodeState.NO_NETWORK)
        restore(self, saved)

    @property
    def nwk_counter(self) -> int:
        """The next outgoing NWK frame counter."""
        return self.nwk.counter

    @nwk_counter.setter
    def nwk_counter(self, value: int) -> None:
        self.nwk.set_counter(value)

    # --- for the layers -----------------------------------------------------------------------------------------------

    def after(self, delay_us: int, callback: Callable[..., object], *args: Any) -> Timer:
        """Call back later, unless the node has lost its power or network by then."""
        return self.air.call_in(delay_us, self._fire, self._epoch, callback, args)

    def _fire(self, epoch: int, callback: Callable[..., object], args: tuple[Any, ...]) -> None:
        if epoch == self._epoch:
            callback(*args)

    def start(self) -> None:
        """Take up the work of a member; state and addresses are set."""
        network = self.network
        assert network is not None
        mac = self.mac
        mac.channel, mac.pan_id, mac.short = network.channel, network.pan_id, self.short
        mac.page = network.page
        self.parent_eui64 = self.addresses.get(self.parent_short, self.parent_eui64)
        if self.kind >= NodeKind.END_DEVICE:
            mac.parent = self.parent_short
            self.polling.start()
            return
        mac.receiver_on_when_idle = True
        if self.kind == NodeKind.ROUTER and self.parent_short != NO_SHORT:
            self.routing.learn_neighbor(self.parent_short, self.parent_eui64, outgoing_cost=1)
        self.parenting.start()
        self.routing.start()

    def stop(self, *, silently: bool = False) -> None:
        """Stop all work; what waited to be sent has failed."""
        self._epoch += 1
        counters = self.mac.counters
        self.mac.reset()
        self.mac.counters = counters
        self.more_waits = False
        self.parenting.stop()
        self.routing.stop()
        self.joining.stop()
        self.polling.stop()
        self.trust.stop()
        self.aps.stop(silently)
        if not silently:
            self.listener.stopped()

    def set_network(self, network: Network) -> None:
        """Make `network` the stored one."""
        _checked(network.network_key)
        self.network = network
        self.key_used(network.network_key, "network key")

    def forget_network(self) -> None:
        """Be no member of any network."""
        self.state = NodeState.NO_NETWORK
        self.stop()
        self.network = None
        self.short = self.parent_short = NO_SHORT
        self.parent_eui64 = self.trust_center = self.depth = 0
        self.children.clear()
        self.book.clear()
        self.source_routes.clear()
        self.nwk.incoming.clear()
        self.listener.storage_changed()

    def key_used(self, key: bytes, label: str) -> None:
        """Tell `on_key` of a key that this node uses from now on."""
        if self.on_key is not None:
            self.on_key(key, label)

    def _need(self, state: NodeState) -> None:
        self._need_power()
        if self.state != state:
            raise LocalProtocolError(f"{self} is {self.state.name}, this takes {state.name}")

    def _need_power(self) -> None:
        if not self.powered:
            raise LocalProtocolError(f"{self} has no power")

    # --- from the MAC -------------------------------------------------------------------------------------------------

    def mac_received(self, frame: MacFrame, lqi: int, rssi: float) -> None:
        """The MAC: a data frame arrived."""
        if frame.dst == BROADCAST:
            if self.kind == NodeKind.SLEEPY_END_DEVICE and self.state == NodeState.JOINED:
                # A sleepy device gets broadcasts from its parent, by polling. One that it happens to hear would make
                # its parent's frame counter overtake the frames that wait for it there.
                return
        else:
            self.more_waits = frame.pending
        if frame.src_mode == SHORT:
            self.nwk.received(frame, lqi, rssi)

    def mac_association_requested(self, eui64: int, capability: int) -> tuple[int, int]:
        """The MAC: a device asks to join."""
        return self.parenting.association_requested(eui64, capability)

    def mac_polled(self, src: int, extended: bool) -> None:
        """The MAC: a device polled."""
        self.parenting.polled(src, extended)


def _checked(key: bytes) -> bytes:
    if len(key) != KEY_LENGTH:
        raise LocalProtocolError(f"A Zigbee key has {KEY_LENGTH} octets, this one has {len(key)}")
    return key
