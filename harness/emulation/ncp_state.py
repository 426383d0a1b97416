"""The state of an emulated NCP: tokens, which last, and tables, which a reset clears; and its node on the air."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from harness.emulation import ncp_config as ids
from harness.emulation.air import Air, Timer
from harness.emulation.ncp_config import CONFIGURATION, FIRMWARE, MFG_TOKENS, POLICIES, VALUE_CELLS, NcpConfig
from harness.emulation.ncp_counters import Counters
from harness.emulation.ncp_dialect import Dialect
from harness.emulation.ncp_memory import (
    HAVE_PRECONFIGURED_KEY,
    NO_EUI64,
    NO_TOKENS,
    AddressEntry,
    MulticastEntry,
    Pending,
    SecurityState,
    Tokens,
    wrong_field,
)
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_store import NvStore
from harness.emulation.node import LinkKey, Network, Node, NodeConfig, NodeKind, NodeListener, NodeState
from harness.errors import LocalProtocolError, RigError
from harness.wire.application import ApsMessage, SimpleDescriptor
from harness.wire.mac import format_eui64
from harness.wire.nwk_commands import END_DEVICE_TIMEOUTS
from harness.wire.security import link_key_from_install_code

_BEST_LQI = 255
_OWN_RSSI = 0.0
_COUNTER_STEP = 4096  # what the counter in the flash lies behind the one in use, at most
_NO_LIMIT = 0x7FFFFFFF  # the NCP counts messages on their way by itself


class NcpState:
    """The NCP as the handlers of its commands see it.

    `callback(name, values)` hands the host a callback, in the newest version's names (see ncp_dialect).
    """

    def __init__(
        self,
        air: Air,
        eui64: int,
        config: NcpConfig,
        dialect: Dialect,
        store: NvStore | None,
        listener: NodeListener,
        callback: Callable[[str, Mapping[str, Any]], None],
    ) -> None:
        self.air = air
        unknown = sorted(set(config.configuration) - set(CONFIGURATION))
        if unknown:
            raise LocalProtocolError(
                f"EZSP configuration ids are {sorted(CONFIGURATION)} (configuration={unknown[0]})"
            )
        self.factory_eui64 = eui64
        self.config = config
        self.dialect = dialect
        self.store = store
        self.callback = callback
        self.restart: Callable[[], None] = lambda: None
        self.callbacks_waiting: Callable[[], int] = lambda: 0
        self.firmware = config.firmware or FIRMWARE[dialect.version]
        self._listener = listener
        self._nodes: dict[int, tuple[Node, dict[str, Any]]] = {}
        self._wiped = False
        self._tapped = False
        self._booting = True
        self.last_tag = 0
        self.last_scan = 0
        self.tokens = Tokens()
        self.load_tokens()
        self.node = self._node_of_tokens()
        self._booting = False
        self.clear()
        self.forget_wildcard()

    def clear(self) -> None:
        """Set everything that lives in RAM to what it is after a reset."""
        self.configuration = {number: setting.default for number, setting in CONFIGURATION.items()}
        self.configuration.update(self.config.configuration)
        self.values = dict(VALUE_CELLS)
        self.policies = dict(POLICIES)
        self.endpoints: dict[int, SimpleDescriptor] = {}
        self.endpoint_flags: dict[int, int] = {}
        self.addresses: dict[int, AddressEntry] = {}
        self.multicast: dict[int, MulticastEntry] = {}
        self.bindings: dict[int, Mapping[str, Any]] = {}
        self.node.extended_timeouts.clear()
        self.initial_security: SecurityState | None = None
        self.pending: dict[int, Pending] = {}
        self.pending_unicasts = 0
        self.broadcasts: deque[int] = deque()
        self.fragments: dict[tuple[int, int], ApsMessage] = {}
        self.source_routes: dict[int, tuple[int, ...]] = {}
        self.child_slots = dict(enumerate(self.node.children))
        self.scanning = 0  # the number of the scan under way
        self.rejoining = False
        self.mfglib: int | None = None
        self.mfglib_listens = False
        self.wildcard_until_us = 0
        self.concentrator: tuple[int, int, int] | None = None
        self.timers: dict[str, Timer] = {}
        self.counters = Counters()
        self.counters.clear(self.node)
        self.apply_configuration()
        self.apply_policies()

    # --- the node ---------------------------------------------------------------------------------------

    @property
    def up(self) -> bool:
        """Whether the network is up: formed, joined, or resumed by networkInit."""
        return self.node.state in (NodeState.JOINED, NodeState.JOINED_NO_PARENT)

    @property
    def eui64(self) -> int:
        """The address in force after the next reset: restored, else custom (burnt in once), else the chip's own."""
        if self.tokens.restored_eui64 != NO_EUI64:
            return self.tokens.restored_eui64
        custom = self.tokens.manufacturing.get(ids.MFG_CUSTOM_EUI_64)
        return self.factory_eui64 if custom is None else int.from_bytes(custom, "little")

    def _node_of_tokens(self) -> Node:
        """The node with the address in force, powered, with the state in the tokens, on no network yet."""
        # Addresses change only when a host restores another stick's; the radio of the old one stays, without power.
        eui64 = self.eui64
        if eui64 not in self._nodes:
            # Without a time awake: it is for the host to say when to poll, and how fast.
            config = NodeConfig(
                fragment=False, deliver_all=True, auto_rejoin=False, max_pending=_NO_LIMIT, awake_us=0
            )
            node = Node(self.air, eui64, NodeKind.COORDINATOR, self._listener, config=config)
            self._nodes[eui64] = (node, node.save())
        node, blank = self._nodes[eui64]
        node.power_on(resume=False)
        if self.tokens.node:
            try:
                node.restore({**self.tokens.node, "eui64": format_eui64(eui64)})
            except LocalProtocolError as error:
                if self.store is None:
                    raise
                raise self._not_tokens(self.store, error) from error
        else:
            node.restore(blank)
            node.nwk_counter = self.tokens.nwk_counter
        return node

    def reset(self) -> None:
        """Restart the chip: RAM is lost, tokens stay; the network waits for networkInit."""
        self.save_tokens()
        self._boot()

    def lose_power(self) -> None:
        """Restart with what is in the flash file, or as a new stick where there is none."""
        self.load_tokens()
        self.tokens.aps_counter += _COUNTER_STEP
        self._boot()

    def _boot(self) -> None:
        for timer in self.timers.values():
            timer.cancel()
        self._booting = True
        self.tokens.boots += 1
        old = self.node
        old.power_off()
        self.node = self._node_of_tokens()
        self.node.on_key = old.on_key
        if self.tokens.network_changes and self.node.network is not None:
            changes: Mapping[str, Any] = self.tokens.network_changes
            self.node.update_network(**changes)
        self.tokens.network_changes = {}
        self._wiped = False
        self._booting = False
        self.clear()
        self.forget_wildcard()
        self.save_tokens()

    def factory_reset(self, *, keep_counters: bool, keep_boots: bool) -> None:
        """Forget network, keys and children; the node goes on with what it has in RAM until the next reset."""
        aps_counter = self.aps_counter() if keep_counters else 0
        old, self.tokens = self.tokens, self._new_tokens()
        self.tokens.manufacturing = old.manufacturing
        self.tokens.nwk_counter = self.node.nwk_counter if keep_counters else 0
        self.tokens.aps_counter = aps_counter
        self.tokens.boots = old.boots if keep_boots else 0
        self._wiped = True
        self.save_tokens()

    def network_made(self) -> None:
        """The node has a network of its own again: it is to be kept."""
        self._wiped = False
        self.tokens.network_changes = {}
        self.save_tokens()

    def apply_configuration(self) -> None:
        """Let the node work with the sizes and times that the host has set."""
        self.node.config = replace(
            self.node.config,
            max_children=self.configuration[ids.MAX_END_DEVICE_CHILDREN],
            end_device_timeout=self.configuration[ids.END_DEVICE_POLL_TIMEOUT],
            aps_ack_wait_us=1000 * self.configuration[ids.APS_ACK_TIMEOUT],
        )

    def apply_policies(self) -> None:
        """Let the node's trust centre decide by the policies that the host has set."""
        decision = self.policies[ids.POLICY_TRUST_CENTER]
        policy = self.node.policy
        policy.allow_joins = bool(decision & ids.ALLOW_JOINS)
        policy.install_code_only = bool(decision & ids.JOINS_USE_INSTALL_CODE_KEY)
        policy.allow_rejoins = bool(decision & ids.ALLOW_UNSECURED_REJOINS)
        policy.send_key_in_clear = bool(decision & ids.SEND_KEY_IN_CLEAR)
        policy.allow_link_key_requests = self.policies[ids.POLICY_TC_KEY_REQUEST] != ids.DENY_TC_KEY_REQUESTS

    def start_timer(self, name: str, seconds: float, action: Callable[[], None]) -> None:
        """Call `action` in `seconds`, unless a timer of the same name is started or the NCP resets before that."""
        self.stop_timer(name)
        self.timers[name] = self.air.call_in(round(seconds * 1_000_000), action)

    def stop_timer(self, name: str) -> None:
        """Forget the timer of that name."""
        timer = self.timers.pop(name, None)
        if timer is not None:
            timer.cancel()

    def read_counters(self) -> list[int]:
        """EmberCounterType's counters since they were cleared."""
        return self.counters.read(self.node)

    def clear_counters(self) -> None:
        """Let all counters start from 0."""
        self.counters.clear(self.node)

    def relays_to(self, short: int) -> tuple[int, ...]:
        """The source route to `short`, nearest to it first: the one that the host set, else the one recorded."""
        return self.source_routes.get(short) or self.node.source_routes.get(short, ())

    def aps_counter(self) -> int:
        """The one outgoing APS frame counter of all link keys: no key is ever used below it (EmberZNet has but one)."""
        counters = [key.outgoing_counter for key in self.node.link_keys.values()]
        return max(self.tokens.aps_counter, *counters) if counters else self.tokens.aps_counter

    def trust_center(self) -> int:
        """The EUI-64 of the network's trust centre."""
        return self.node.trust_center

    def is_trust_center(self) -> bool:
        """Whether that is this NCP."""
        return self.node.trust_center == self.node.eui64

    def child_timeout_s(self) -> int:
        """How long a child may be silent, in seconds."""
        return int(END_DEVICE_TIMEOUTS[self.configuration[ids.END_DEVICE_POLL_TIMEOUT]])

    def hear_self(self, message: ApsMessage) -> None:
        """Hand the host a message that this node has sent itself."""
        self._listener.message_received(message, message.payload[0], _BEST_LQI, _OWN_RSSI)

    def forget_transient_keys(self) -> None:
        """Drop the keys that were only given to join with."""
        for key in self.transient_keys():
            self.node.forget_link_key(key.partner)
        self.forget_wildcard()

    def transient_keys(self) -> list[LinkKey]:
        """The keys that end with their time: those given to one device each to join with."""
        now = self.air.now
        keys = self.node.link_keys.values()
        return [key for key in keys if key.expires_us is not None and key.expires_us > now]

    def forget_wildcard(self) -> None:
        """Drop the key that any joiner could use, for the preconfigured one, if that is for all."""
        self.stop_timer("wildcard")
        security = self.tokens.security
        shared = security is not None and not security.hashed and security.bitmask & HAVE_PRECONFIGURED_KEY
        self.node.default_link_key = security.preconfigured_key if security is not None and shared else None

    def tap(self) -> None:
        """Hear every frame on the air from now on, for as long as the manufacturing library runs."""
        if not self._tapped:
            self._tapped = True
            self.air.add_tap(self._overhear)

    def _overhear(self, time_us: int, psdu: bytes, channel: int, page: int, rssi: float, lqi: int) -> None:
        if self.mfglib != channel or page or not self.mfglib_listens:
            return
        # A stick hands up the frame without its FCS and two octets of the radio's own behind it.
        level = max(-128, min(127, round(rssi)))
        contents = psdu[:-2] + bytes([level & 0xFF, lqi])
        self.callback("mfglibRxHandler", {"linkQuality": lqi, "rssi": level, "packetContents": contents})

    def stored_network(self) -> Network | None:
        """The network as the tokens have it: that of the node, with what comes into force at the next reset."""
        network = self.node.network
        changes: Mapping[str, Any] = self.tokens.network_changes
        return None if network is None else replace(network, **changes)

    # --- tokens -----------------------------------------------------------------------------------------

    def load_tokens(self) -> None:
        """Read the flash file; the tokens of a new stick without one."""
        saved = {} if self.store is None else self.store.load()
        if not saved:
            self.tokens = self._new_tokens()
            return
        assert self.store is not None
        try:
            self.tokens = Tokens.from_json(saved)
        except NO_TOKENS as error:
            raise self._not_tokens(self.store, error) from error

    def take_tokens(self, saved: Mapping[str, Any]) -> None:
        """Restart with the tokens of another run. LocalProtocolError, which shows no key, for what is none."""
        try:
            self.tokens = Tokens.from_json(saved)
        except NO_TOKENS as error:
            raise LocalProtocolError(
                f"not the tokens of an NCP: {wrong_field(saved)} ({type(error).__name__})"
            ) from None
        self._boot()

    @staticmethod
    def _not_tokens(store: NvStore, error: Exception) -> RigError:
        return RigError(f"the NCP's token file {store.path} holds no NCP's tokens: {error!r}")

    def save_tokens(self) -> None:
        """Take what the node must not lose into the tokens, and write the file, if there is one."""
        self.tokens.node = {} if self._wiped else self.node.save()
        if not self._wiped:
            self.tokens.aps_counter = self.aps_counter()
        if self.store is not None:
            self.store.save(self.tokens.to_json())

    def node_stopped(self) -> None:
        """The node stopped all work: a scan ends with what it has reported, a rejoin without a result."""
        if self._booting:
            return
        self.rejoining = False
        self.end_scan()

    def end_scan(self) -> None:
        """Tell the host that the scan is over, if there is one."""
        if self.scanning:
            self.scanning = 0
            self.callback("scanCompleteHandler", {"channel": 0, "status": Status.OK})

    def storage_changed(self) -> None:
        """The node has something that must survive; the file gets it at once, the tokens at the next reset."""
        if self.store is not None and not self._booting:
            self.save_tokens()

    def _new_tokens(self) -> Tokens:
        tokens = Tokens()
        tokens.manufacturing[ids.MFG_STRING] = _text_token(ids.MFG_STRING, self.config.manufacturer)
        tokens.manufacturing[ids.MFG_BOARD_NAME] = _text_token(ids.MFG_BOARD_NAME, self.config.board)
        code = self.config.install_code
        if code is not None:
            link_key_from_install_code(code)  # raises on a length or CRC that is wrong
            # AN1089: flags (bits 1-2: which size, bit 0 clear: valid), the code in 16 octets, its CRC.
            size = {8: 0, 10: 1, 14: 2, 18: 3}[len(code)]
            tokens.manufacturing[ids.MFG_INSTALLATION_CODE] = (
                (size << 1).to_bytes(2, "little") + code[:-2].ljust(16, b"\xff") + code[-2:]
            )
        return tokens

    def manufacturing_token(self, token: int) -> bytes:
        """A manufacturing token as it reads: 0xFF where it was never written."""
        return self.tokens.manufacturing.get(token, b"\xff" * MFG_TOKENS[token])


def _text_token(token: int, text: str) -> bytes:
    size = MFG_TOKENS[token]
    return text.encode()[:size].ljust(size, b"\xff")
