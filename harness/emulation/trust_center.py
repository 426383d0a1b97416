"""Keys between a node and the trust centre: who is let in, and every APS command, at both ends."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import LinkKey, NodeKind, NodeState
from harness.errors import RemoteProtocolError
from harness.wire.aps import ApsFrame, build_aps, open_aps
from harness.wire.aps_commands import (
    DEVICE_LEFT,
    REQUEST_APP_LINK,
    REQUEST_TC_LINK,
    UNSECURED_JOIN,
    UNSECURED_REJOIN,
    ApsCommand,
    ConfirmKey,
    KeyType,
    RemoveDevice,
    RequestKey,
    TransportKey,
    Tunnel,
    UpdateDevice,
    VerifyKey,
    build_aps_command,
    parse_aps_command,
)
from harness.wire.nwk import NwkFrame
from harness.wire.security import AuxHeader, KeyId, aps_key, verify_key_hash

if TYPE_CHECKING:
    from harness.emulation.node import Node

_COMMAND = 1
_UNICAST = 0
_KEY_TRIES = 4
_KEY_RETRY_US = 1_000_000
_PARENTS = 64

# Confirm-Key statuses (Zigbee PRO 05-3474-21).
_SUCCESS = 0x00
_SECURITY_FAIL = 0xAD


class Trust:
    """The APS security management of one node: as trust centre, as parent of a joiner, as joiner, as partner."""

    __slots__ = ("_asked", "_node", "_parents", "_tries")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._parents: dict[int, int] = {}  # at the trust centre: EUI-64 -> router that it joined through
        self._tries: dict[int, int] = {}  # joiner -> how often the MAC had its Transport-Key, in vain
        self._asked: bytes | None = None  # the key that Verify-Key is to prove

    def stop(self) -> None:
        """The node is off the network."""
        self._tries.clear()
        self._asked = None

    # --- who comes and goes, seen by the parent -----------------------------------------------------------------------

    def device_arrived(self, eui64: int, short: int, status: int) -> None:
        """A device joined or rejoined through this node: admit it, or ask the trust centre to."""
        node = self._node
        if node.is_trust_center:
            self._admit(eui64, short, node.short, status)
        else:
            self._send(UpdateDevice(eui64, short, status), 0, self._trust_center_key())

    def device_gone(self, eui64: int, short: int) -> None:
        """A device left, or did not prove itself."""
        node = self._node
        self._tries.pop(eui64, None)
        node.extended_timeouts.pop(eui64, None)
        if node.state != NodeState.JOINED:
            return
        if node.is_trust_center:
            self._parents.pop(eui64, None)
            node.listener.device_joined(eui64, short, node.short, DEVICE_LEFT)
        else:
            self._send(UpdateDevice(eui64, short, DEVICE_LEFT), 0, self._trust_center_key())

    def _trust_center_key(self) -> LinkKey | None:
        node = self._node
        return node.aps.link_key(node.trust_center)

    # --- the trust centre ---------------------------------------------------------------------------------------------

    def _admit(self, eui64: int, short: int, parent: int, status: int) -> None:
        """Let a device in as the policy says, and send it the network key if it has none."""
        node = self._node
        policy = node.policy
        if parent == node.short:
            self._parents.pop(eui64, None)
        else:
            if len(self._parents) >= _PARENTS and eui64 not in self._parents:
                del self._parents[next(iter(self._parents))]
            self._parents[eui64] = parent
        if status not in (UNSECURED_JOIN, UNSECURED_REJOIN):
            node.learn_address(short, eui64)
            node.listener.device_joined(eui64, short, parent, status)
            return
        allowed = policy.allow_joins if status == UNSECURED_JOIN else policy.allow_rejoins
        entry = self.joiner_key(eui64) if allowed else None
        if entry is None:
            if parent == node.short:
                node.parenting.forget_joiner(eui64, tell=False)
            else:
                self._send(RemoveDevice(eui64), parent, self._partner_key(parent))
            node.listener.device_denied(eui64, short, parent, status)
            return
        self._tries.pop(eui64, None)
        node.learn_address(short, eui64)
        if status == UNSECURED_JOIN:
            # A device that associates may have been reset: its frame counters begin anew.
            entry.incoming_counter = 0
        self._send_network_key(eui64, short, parent, entry)
        node.listener.device_joined(eui64, short, parent, status)

    def joiner_key(self, eui64: int) -> LinkKey | None:
        """Return the link key under which a device may get the network key, by the policy; None: it may not."""
        node = self._node
        entry = node.aps.link_key(eui64)
        if entry is None and not node.policy.install_code_only and node.default_link_key is not None:
            entry = node.set_link_key(eui64, node.default_link_key, provisional=True)
        return entry

    def _partner_key(self, short: int) -> LinkKey | None:
        return self._node.aps.link_key(self._node.lookup_eui64(short))

    def _send_network_key(self, eui64: int, short: int, parent: int, entry: LinkKey) -> None:
        node = self._node
        network = node.network
        assert network is not None
        command = TransportKey(
            KeyType.NETWORK, network.network_key, eui64, node.eui64, sequence=network.key_sequence
        )
        in_clear = node.policy.send_key_in_clear
        frame = self._build(command, None if in_clear else entry, KeyId.KEY_TRANSPORT)
        if parent == node.short:
            self._to_joiner(eui64, frame)
        else:
            # Zigbee PRO 4.6.3.7.1: by way of the parent, which passes the frame on without network security.
            self._send(Tunnel(eui64, frame), parent, None)

    def _to_joiner(self, eui64: int, frame: bytes) -> None:
        """Send a Transport-Key to a joining child, again while the MAC fails and the child is waited for."""
        node = self._node
        joiner = node.parenting.joiner(eui64)
        if joiner is None:
            return
        short, sleepy = joiner
        self._tries[eui64] = tries = self._tries.get(eui64, 0) + 1

        def sent(status: MacStatus) -> None:
            if status == MacStatus.SUCCESS:
                self._tries.pop(eui64, None)
            elif tries < _KEY_TRIES:
                node.after(_KEY_RETRY_US, self._to_joiner, eui64, frame)

        node.nwk.transmit_clear(frame, short, indirect=sleepy, done=sent)

    def remove(self, eui64: int) -> bool:
        """Make a device leave; False when it is not known where it is."""
        node = self._node
        short = node.lookup_short(eui64)
        if short is None:
            return False
        parent = self._parents.get(eui64)
        if parent is not None and parent != node.short and short not in node.parenting.by_short:
            self._send(RemoveDevice(eui64), parent, self._partner_key(parent))
        elif short in node.parenting.by_short or short in node.neighbors:
            node.leaving.tell(short, eui64)
        else:
            node.zdo.ask_to_leave(short, eui64)
        return True

    # --- frames -------------------------------------------------------------------------------------------------------

    def _build(self, command: ApsCommand, entry: LinkKey | None, key_id: int = KeyId.LINK) -> bytes:
        node = self._node
        frame = ApsFrame(
            _COMMAND, _UNICAST, counter=node.aps.next_counter(), payload=build_aps_command(command)
        )
        if entry is None:
            return build_aps(frame)
        # With the extended nonce: the receiver may not know our short address yet.
        aux = AuxHeader(key_id, node.aps.take_counter(entry), node.eui64)
        return build_aps(frame._replace(aux=aux), aps_key(entry.key, key_id))

    def _send(self, command: ApsCommand, dst: int, entry: LinkKey | None, key_id: int = KeyId.LINK) -> None:
        """Send an APS command under network security and, with `entry`, under that link key."""
        node = self._node
        data = self._build(command, entry, key_id)
        node.routing.send(node.nwk.data_frame(dst, data))

    def command_received(self, nwk: NwkFrame, frame: ApsFrame, source: int | None, *, clear: bool) -> None:
        """Take an APS command, still sealed; `clear`: it came without network security."""
        node = self._node
        try:
            opened = self._open(frame, source, clear)
            if opened is None:
                return
            command = parse_aps_command(opened.payload)
        except RemoteProtocolError:
            node.counters.malformed += 1
            return
        sealed = frame.aux is not None
        partner = frame.aux.source if frame.aux is not None and frame.aux.source is not None else source
        match command:
            case TransportKey():
                if sealed and (node.state == NodeState.JOINING or partner == node.trust_center):
                    self._key_received(command, clear)
            case _ if clear:
                node.counters.malformed += 1
            case UpdateDevice():
                if node.is_trust_center:
                    self._device_updated(command, nwk.src)
            case Tunnel():
                if node.kind == NodeKind.ROUTER and source == node.trust_center:
                    self._to_joiner(command.destination, command.frame)
            case RemoveDevice():
                if partner == node.trust_center:
                    self._remove_received(command)
            case RequestKey():
                if node.is_trust_center and partner is not None and sealed:
                    self._key_requested(command, nwk.src, partner)
            case VerifyKey():
                if node.is_trust_center:
                    self._verify(command, nwk.src)
            case ConfirmKey():
                if sealed and partner == node.trust_center:
                    self._confirmed(command)
            case _:
                pass  # Switch-Key: the network key does not change

    def _open(self, frame: ApsFrame, source: int | None, clear: bool) -> ApsFrame | None:
        """Open a command under the key that its header names; None (and counted) when that cannot be."""
        node = self._node
        aux = frame.aux
        if aux is None:
            return None if clear else frame
        partner = aux.source if aux.source is not None else source
        if partner is None or aux.key_id == KeyId.NETWORK:
            return None
        joining = node.joining.link_key if node.state == NodeState.JOINING else None
        if joining is not None:
            entry = node.link_keys.get(partner)
            if entry is None or entry.key != joining:
                entry = LinkKey(partner, joining, outgoing_counter=node.aps_high, reserved=node.aps_high)
        else:
            known = node.aps.link_key(partner)
            if known is None:
                node.counters.link_key_missing += 1
                return None
            entry = known
            if aux.frame_counter < entry.incoming_counter:
                node.counters.aps_counter_failures += 1
                return None
        try:
            opened = open_aps(frame, aps_key(entry.key, aux.key_id), partner)
        except RemoteProtocolError:
            node.counters.aps_decryption_failures += 1
            if joining is not None:
                node.joining.unopened += 1
            return None
        entry.incoming_counter = max(entry.incoming_counter, aux.frame_counter + 1)
        if joining is not None:
            node.link_keys[partner] = entry
        return opened

    # --- what comes ---------------------------------------------------------------------------------------------------

    def _device_updated(self, command: UpdateDevice, parent: int) -> None:
        node = self._node
        if command.status == DEVICE_LEFT:
            self._tries.pop(command.device, None)
            if self._parents.get(command.device) == parent:
                del self._parents[command.device]
                node.listener.device_joined(command.device, command.short, parent, DEVICE_LEFT)
            return
        node.parenting.drop_child(command.device)  # it has moved, if it was ours
        self._admit(command.device, command.short, parent, command.status)

    def _remove_received(self, command: RemoveDevice) -> None:
        node = self._node
        if command.target == node.eui64:
            node.leaving.leave("removed by the trust centre", quietly=False)
            return
        if node.parenting.joiner(command.target) is not None:
            node.parenting.forget_joiner(command.target, tell=False)
            return
        short = node.lookup_short(command.target)
        if short is not None and (short in node.parenting.by_short or short in node.neighbors):
            node.leaving.tell(short, command.target)

    def _key_received(self, command: TransportKey, clear: bool) -> None:
        node = self._node
        if command.key_type == KeyType.NETWORK:
            if node.state == NodeState.JOINING and command.destination in (node.eui64, 0):
                node.joining.authenticated(command.key, command.sequence, command.source)
        elif clear:
            return
        elif command.key_type == KeyType.TC_LINK and command.destination == node.eui64:
            entry = node.set_link_key(command.source, command.key)
            node.link_keys[command.source] = entry
            self._asked = command.key
            self._send(VerifyKey(KeyType.TC_LINK, node.eui64, verify_key_hash(command.key)), 0, None)
        elif command.key_type == KeyType.APP_LINK:
            node.set_link_key(command.partner, command.key)
            node.listener.key_changed(command.partner, _SUCCESS)

    def request_key(self, partner: int | None) -> None:
        """Ask the trust centre for a link key: with itself (None) or with `partner`."""
        request = RequestKey(REQUEST_TC_LINK) if partner is None else RequestKey(REQUEST_APP_LINK, partner)
        self._send(request, 0, self._trust_center_key())

    def _key_requested(self, command: RequestKey, short: int, eui64: int) -> None:
        node = self._node
        entry = node.aps.link_key(eui64)
        if not node.policy.allow_link_key_requests or entry is None:
            return
        key = node.air.random.randbytes(16)
        if command.key_type == REQUEST_TC_LINK:
            self._send(TransportKey(KeyType.TC_LINK, key, eui64, node.eui64), short, entry, KeyId.KEY_LOAD)
            # From here on the new key holds; the device proves with Verify-Key that it has it.
            node.set_link_key(eui64, key)
        elif command.partner is not None:
            other = node.lookup_short(command.partner)
            other_entry = node.aps.link_key(command.partner)
            if other is not None and other_entry is not None:
                to_partner = TransportKey(KeyType.APP_LINK, key, partner=eui64)
                to_initiator = TransportKey(KeyType.APP_LINK, key, partner=command.partner, initiator=True)
                self._send(to_partner, other, other_entry, KeyId.KEY_LOAD)
                self._send(to_initiator, short, entry, KeyId.KEY_LOAD)

    def _verify(self, command: VerifyKey, short: int) -> None:
        node = self._node
        entry = node.aps.link_key(command.source)
        good = (
            entry is not None
            and command.key_type == KeyType.TC_LINK
            and command.digest == verify_key_hash(entry.key)
        )
        if entry is not None:
            if good:
                entry.verified, entry.provisional, entry.expires_us = True, False, None
                node.listener.storage_changed()
            status = _SUCCESS if good else _SECURITY_FAIL
            self._send(ConfirmKey(status, KeyType.TC_LINK, command.source), short, entry)
            node.listener.key_changed(command.source, status)

    def _confirmed(self, command: ConfirmKey) -> None:
        node = self._node
        entry = node.link_keys.get(node.trust_center)
        if entry is not None and entry.key == self._asked:
            self._asked = None
            entry.verified = command.status == _SUCCESS
            node.listener.storage_changed()
            node.listener.key_changed(node.trust_center, command.status)
