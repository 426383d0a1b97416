"""The joiner's side of a node: scan, association, authentication, announcement, rejoin, polling its parent."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from harness.emulation.mac_layer import FoundBeacon, MacStatus
from harness.emulation.node_state import Network, NodeKind, NodeState
from harness.errors import LocalProtocolError
from harness.wire.application import BROADCAST_RX_ON, ZDO_PROFILE, ApsMessage
from harness.wire.mac import (
    ASSOCIATED,
    CAPABILITY_ALLOCATE_ADDRESS,
    CAPABILITY_FULL_FUNCTION,
    CAPABILITY_MAINS_POWERED,
    CAPABILITY_RECEIVER_ON_WHEN_IDLE,
    format_eui64,
)
from harness.wire.nwk import NwkFrame
from harness.wire.nwk_commands import (
    EndDeviceTimeoutRequest,
    RejoinRequest,
    RejoinResponse,
    build_nwk_command,
)

if TYPE_CHECKING:
    from harness.emulation.air import Timer
    from harness.emulation.node import Node

Done = Callable[[bool, str], None]

CHANNELS = tuple(range(11, 27))
BROADCAST_PAN = 0xFFFF

_SCAN_DURATION = 3  # 2**3 + 1 superframes of 15.36 ms: 138 ms a channel
_SCANS = 4  # for beacons that two routers send at one moment reach nobody
_KEY_REQUEST_US = 500_000  # once the announcement is through
_REJOIN_WAIT_US = 3_000_000
_ASSOCIATION_TRIES = 3
_DEVICE_ANNCE = 0x0013


def capability(kind: NodeKind) -> int:
    """Return the capability octet with which a node of this kind introduces itself."""
    octet = CAPABILITY_ALLOCATE_ADDRESS
    if kind <= NodeKind.ROUTER:
        octet |= CAPABILITY_FULL_FUNCTION
    if kind != NodeKind.SLEEPY_END_DEVICE:
        octet |= CAPABILITY_RECEIVER_ON_WHEN_IDLE | CAPABILITY_MAINS_POWERED
    return octet


class Joining:
    """How a node becomes and stays a member: everything between it and its parent."""

    __slots__ = (
        "_backoff_us", "_candidates", "_done", "_link_key", "_node", "_poll_timer", "_rejoining", "_secured", "_timer",
        "_tries", "unopened",
    )  # fmt: skip

    def __init__(self, node: Node) -> None:
        self._node = node
        self._candidates: list[FoundBeacon] = []
        self._done: Done | None = None
        self._link_key: bytes | None = None
        self._rejoining = False
        self._secured = True
        self._timer: Timer | None = None
        self._poll_timer: Timer | None = None
        self._tries = 0
        self._backoff_us = 0
        self.unopened = 0  # Transport-Keys of this join that did not open under the link key

    def stop(self) -> None:
        """Drop what is under way, without a result."""
        self._candidates = []
        self._done = None
        self._link_key = None
        self._timer = self._poll_timer = None
        self._backoff_us = 0

    @property
    def link_key(self) -> bytes | None:
        """The preconfigured link key of the join under way."""
        return self._link_key

    # --- join ---------------------------------------------------------------------------------------------------------

    def join(
        self, link_key: bytes, channels: Sequence[int], extended_pan_id: int | None, done: Done | None
    ) -> None:
        """Find an open network and associate with it."""
        node = self._node
        if node.state != NodeState.NO_NETWORK or node.kind == NodeKind.COORDINATOR:
            raise LocalProtocolError(f"{node} cannot join: it is {node.state.name}")
        if node.network is not None:
            node.forget_network()
        self._start(False, done)
        self._link_key = link_key
        self._tries = _ASSOCIATION_TRIES
        self.unopened = 0
        node.key_used(link_key, "preconfigured link key")
        node.mac.pan_id = BROADCAST_PAN
        node.mac.short = BROADCAST_PAN
        self._scan(extended_pan_id, channels, _SCANS)

    def _start(self, rejoining: bool, done: Done | None) -> None:
        node = self._node
        self._rejoining = rejoining
        self._done = done
        node.state = NodeState.JOINING
        node.mac.receiver_on_when_idle = True  # until it has joined, a device listens

    def _scan(self, extended_pan_id: int | None, channels: Sequence[int], scans: int) -> None:
        def found(beacons: list[FoundBeacon]) -> None:
            self._choose(beacons, extended_pan_id, channels, scans - 1)

        self._node.mac.scan(channels, _SCAN_DURATION, found)

    def _choose(
        self,
        beacons: list[FoundBeacon],
        extended_pan_id: int | None,
        channels: Sequence[int],
        scans_left: int,
    ) -> None:
        node = self._node
        fitting = [
            found
            for found in beacons
            if found.beacon.stack_profile == 2 and extended_pan_id in (None, found.beacon.extended_pan_id)
        ]
        if self._rejoining:
            usable = [found for found in fitting if found.short != node.short]
        else:
            usable = [found for found in fitting if found.beacon.permit_association]
        router = node.kind == NodeKind.ROUTER
        self._candidates = sorted(
            (
                found
                for found in usable
                if (found.beacon.router_capacity if router else found.beacon.end_device_capacity)
            ),
            key=lambda found: (-found.lqi, found.beacon.depth, found.short),
        )
        if not self._candidates and scans_left:
            self._scan(extended_pan_id, channels, scans_left)
        elif not self._candidates:
            want = "" if extended_pan_id is None else f" of extended PAN {format_eui64(extended_pan_id)}"
            state = "in reach" if self._rejoining else "open" if fitting else "in reach"
            self._fail(
                f"no network{want} is {state} on channels {list(channels)} ({len(beacons)} beacons heard)"
            )
        elif self._rejoining:
            self._request_rejoin()
        else:
            self._associate()

    def _associate(self) -> None:
        node = self._node
        found = self._candidates[0]
        node.depth = min(found.beacon.depth + 1, 15)
        octet = capability(node.kind)

        def associated(status: int | None, short: int) -> None:
            self._associated(found, status, short)

        node.mac.associate(found.channel, found.pan_id, found.short, octet, associated)

    def _associated(self, found: FoundBeacon, status: int | None, short: int) -> None:
        node = self._node
        if status != ASSOCIATED:
            self._tries -= 1
            if status is not None or self._tries == 0:
                self._candidates.pop(0)
                self._tries = _ASSOCIATION_TRIES
            if self._candidates:
                self._associate()
            elif status is None:
                self._fail(f"{found.short:#06x} did not answer the association request")
            else:
                self._fail(f"{found.short:#06x} refused the association (status {status})")
            return
        node.short = short
        node.parent_short = found.short
        node.trust_center = 0
        mac = node.mac
        mac.channel, mac.pan_id, mac.short, mac.parent = found.channel, found.pan_id, short, found.short
        self._await_key()

    def _await_key(self) -> None:
        """Wait for the network key; a sleepy device polls for it."""
        node = self._node
        self._timer = node.after(node.config.authentication_timeout_us, self._not_authenticated)
        if node.kind == NodeKind.SLEEPY_END_DEVICE:
            node.mac.receiver_on_when_idle = False
            self._poll_while_joining()

    def _poll_while_joining(self) -> None:
        node = self._node
        if node.state == NodeState.JOINING:
            node.mac.poll(_ignore)
            self._poll_later()

    def _poll_later(self) -> None:
        if self._poll_timer is not None:
            self._poll_timer.cancel()  # one round of polls, however many parents were asked
        self._poll_timer = self._node.after(self._node.config.fast_poll_us, self._poll_while_joining)

    def _not_authenticated(self) -> None:
        seconds = self._node.config.authentication_timeout_us / 1e6
        if self.unopened:
            self._fail(
                f"not authenticated within {seconds:g} s: the link key does not open the Transport-Key that came"
            )
        else:
            self._fail(f"not authenticated within {seconds:g} s: no Transport-Key came")

    def authenticated(self, network_key: bytes, key_sequence: int, trust_center: int) -> None:
        """The network key came, under the link key: the node is a member now."""
        node = self._node
        found = self._candidates[0] if self._candidates else None
        if self._rejoining:
            assert node.network is not None
            node.update_network(network_key=network_key, key_sequence=key_sequence)
        else:
            assert found is not None
            beacon = found.beacon
            node.set_network(
                Network(
                    found.channel,
                    found.pan_id,
                    beacon.extended_pan_id,
                    network_key,
                    key_sequence,
                    beacon.update_id,
                )
            )
        node.trust_center = trust_center
        node.learn_address(0, trust_center)
        self._joined(announce=True)

    def _joined(self, *, announce: bool) -> None:
        node = self._node
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        done, self._done = self._done, None
        self._candidates = []
        self._link_key = None
        self._backoff_us = 0
        node.state = NodeState.JOINED
        node.start()
        if announce:
            self.announce()
        if node.kind >= NodeKind.END_DEVICE:
            node.nwk.send_command(EndDeviceTimeoutRequest(node.config.end_device_timeout), node.parent_short)
        node.listener.storage_changed()
        node.listener.network_up()
        if done is not None:
            done(True, "")
        if node.config.request_link_key and not self._rejoining:
            node.after(_KEY_REQUEST_US, node.trust.request_key, None)

    def announce(self) -> None:
        """Broadcast Device_annce (Zigbee PRO 2.4.3.1.11)."""
        node = self._node
        payload = b"%b%b%b%c" % (
            bytes((node.zdo.next_sequence(),)),
            node.short.to_bytes(2, "little"),
            node.eui64.to_bytes(8, "little"),
            capability(node.kind),
        )
        message = ApsMessage(
            BROADCAST_RX_ON, ZDO_PROFILE, _DEVICE_ANNCE, 0, 0, payload, acknowledged=False, broadcast=True
        )
        node.aps.send(message)

    def _fail(self, reason: str) -> None:
        node = self._node
        done, self._done = self._done, None
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._candidates = []
        self._link_key = None
        if self._rejoining:
            node.state = NodeState.JOINED_NO_PARENT
            node.mac.receiver_on_when_idle = node.kind != NodeKind.SLEEPY_END_DEVICE
            if node.config.auto_rejoin:
                self._rejoin_later()
        else:
            node.forget_network()
        if done is not None:
            done(False, reason)

    # --- rejoin -------------------------------------------------------------------------------------------------------

    def rejoin(
        self, secured: bool, channels: Sequence[int] | None, done: Done | None, link_key: bytes | None = None
    ) -> None:
        """Look for a parent in the stored network and ask it for our place, under the network key or (not `secured`)
        with the trust centre sending that key anew."""
        node = self._node
        network = node.network
        if network is None or node.kind == NodeKind.COORDINATOR:
            raise LocalProtocolError(f"{node} cannot rejoin: it has no network")
        if node.state == NodeState.JOINING:
            raise LocalProtocolError(f"{node} cannot rejoin: it is joining")
        node.stop()
        self._start(True, done)
        self._secured = secured
        if not secured:
            known = node.link_keys.get(node.trust_center)
            self._link_key = link_key if link_key is not None else known.key if known is not None else None
            self.unopened = 0
        mac = node.mac
        mac.channel, mac.pan_id, mac.short = network.channel, network.pan_id, node.short
        self._scan(network.extended_pan_id, (network.channel,) if channels is None else channels, _SCANS)

    def _request_rejoin(self) -> None:
        node = self._node
        found = self._candidates[0]
        mac = node.mac
        mac.channel, mac.pan_id, mac.short, mac.parent = found.channel, found.pan_id, node.short, found.short
        node.depth = min(found.beacon.depth + 1, 15)
        request = RejoinRequest(capability(node.kind))
        if self._secured:
            node.nwk.send_command(request, found.short)
        else:
            node.nwk.transmit_clear(build_nwk_command(request), found.short, kind=1, indirect=False)
        self._timer = node.after(_REJOIN_WAIT_US, self._rejoin_unanswered)
        if node.kind == NodeKind.SLEEPY_END_DEVICE:
            mac.receiver_on_when_idle = False
            self._poll_later()

    def _rejoin_unanswered(self) -> None:
        parent = self._candidates.pop(0)
        if self._candidates:
            self._request_rejoin()
        else:
            self._fail(f"{parent.short:#06x} did not answer the rejoin request")

    def rejoin_answered(self, nwk: NwkFrame, response: RejoinResponse, sender: int, secured: bool) -> None:
        """A rejoin response came: the answer to our request or, while joined, a new address from our parent."""
        node = self._node
        if nwk.dst_ieee not in (None, node.eui64):
            return
        if node.state == NodeState.JOINED:
            new = response.address
            if (
                secured
                and sender == node.parent_short
                and response.status == ASSOCIATED
                and new != node.short
            ):
                self.change_address(new)
            return
        if (
            node.state != NodeState.JOINING
            or not self._rejoining
            or not self._candidates
            or secured != self._secured
        ):
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        found = self._candidates[0]
        if response.status != ASSOCIATED:
            self._candidates.pop(0)
            if self._candidates:
                self._request_rejoin()
            else:
                self._fail(f"{sender:#06x} refused the rejoin (status {response.status})")
            return
        assert node.network is not None
        node.update_network(channel=found.channel, pan_id=found.pan_id, update_id=found.beacon.update_id)
        node.short = node.mac.short = response.address
        node.parent_short = found.short
        if nwk.src_ieee is not None:
            node.parent_eui64 = nwk.src_ieee
        if secured:
            self._joined(announce=True)
        else:
            self._await_key()

    def change_address(self, short: int) -> None:
        """Take another short address, because somebody else has ours, and say so."""
        node = self._node
        node.short = node.mac.short = short
        node.listener.storage_changed()
        self.announce()

    def _rejoin_later(self) -> None:
        node = self._node
        config = node.config
        self._backoff_us = min(
            max(self._backoff_us * 2, config.rejoin_backoff_us), config.rejoin_backoff_max_us
        )
        node.after(self._backoff_us + node.air.random.randrange(500_000), self._try_rejoin)

    def _try_rejoin(self) -> None:
        node = self._node
        if node.state == NodeState.JOINED_NO_PARENT and node.network is not None:
            # The network may have moved: from the third failure on, look everywhere.
            everywhere = self._backoff_us > 4 * node.config.rejoin_backoff_us
            backoff = self._backoff_us
            self.rejoin(True, CHANNELS if everywhere else None, None)
            self._backoff_us = backoff

    def parent_lost(self, reason: str) -> None:
        """The parent is gone for this end device: say so, and look for another."""
        node = self._node
        if node.state != NodeState.JOINED:
            return
        node.stop()
        node.state = NodeState.JOINED_NO_PARENT
        if node.config.auto_rejoin:
            node.after(node.air.random.randrange(100_000), self._try_rejoin)
        node.listener.network_down(reason)


def _ignore(status: MacStatus) -> None:
    """Take the result of a poll whose answer comes as a frame."""
