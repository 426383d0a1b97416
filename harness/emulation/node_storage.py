"""What a node keeps when its power goes, as JSON can write it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from harness.emulation.node_state import Child, LinkKey, Network, NodeKind
from harness.errors import LocalProtocolError
from harness.wire.mac import format_eui64, parse_eui64
from harness.wire.security import KEY_LENGTH

if TYPE_CHECKING:
    from harness.emulation.node import Node

_Value = TypeVar("_Value")


def save(node: Node) -> dict[str, Any]:
    """Return the non-volatile state of `node`, keys included; outgoing counters are those to go on from."""
    network = node.network
    return {
        "eui64": format_eui64(node.eui64),
        "kind": node.kind.name,
        "network": None if network is None else {
            "channel": network.channel,
            "page": network.page,
            "pan_id": network.pan_id,
            "extended_pan_id": network.extended_pan_id,
            "network_key": network.network_key.hex(),
            "key_sequence": network.key_sequence,
            "update_id": network.update_id,
            "manager": network.manager,
        },
        "short": node.short,
        "depth": node.depth,
        "parent_short": node.parent_short,
        "parent_eui64": node.parent_eui64,
        "trust_center": node.trust_center,
        "nwk_counter": node.nwk.stored_counter,
        "incoming_counters": [[eui64, counter] for eui64, counter in node.nwk.incoming.items()],
        "aps_counter": node.aps_high,
        "default_link_key": None if node.default_link_key is None else node.default_link_key.hex(),
        "link_keys": [
            {
                "partner": entry.partner,
                "key": entry.key.hex(),
                "provisional": entry.provisional,
                "verified": entry.verified,
                "outgoing_counter": entry.reserved,
                "incoming_counter": entry.incoming_counter,
            }
            for entry in node.link_keys.values()
            if entry.expires_us is None  # a transient key is kept in RAM only
        ],
        "children": [
            {"eui64": child.eui64, "short": child.short, "kind": child.kind.name, "timeout_s": child.timeout_s}
            for child in node.children.values()
        ],
        "addresses": [[short, eui64] for short, eui64 in node.addresses.items()],
        "groups": list(node.groups),
    }  # fmt: skip


def restore(node: Node, saved: dict[str, Any]) -> None:
    """Give `node`, which is on no network, the state that `save` returned for one with the same EUI-64."""
    owner = _read(saved, "eui64", parse_eui64)
    if owner != node.eui64:
        raise LocalProtocolError(f"State of {format_eui64(owner)} restored to {format_eui64(node.eui64)}")
    network = _read(saved, "network", _network)
    kind = _read(saved, "kind", NodeKind.__getitem__)
    short, depth = _read(saved, "short", _number), _read(saved, "depth", _number)
    parent_short = _read(saved, "parent_short", _number)
    parent_eui64 = _read(saved, "parent_eui64", _number)
    trust_center = _read(saved, "trust_center", _number)
    nwk_counter = _read(saved, "nwk_counter", _number)
    incoming = _read(saved, "incoming_counters", _pairs)
    aps_counter = _read(saved, "aps_counter", _number)
    default = _read(saved, "default_link_key", _key_if_any)
    keys = _read(saved, "link_keys", _link_keys)
    children = _read(saved, "children", partial(_children, node.air.now))
    addresses = _read(saved, "addresses", _pairs)
    groups = _read(saved, "groups", _numbers)
    node.forget_network()
    node.kind = kind
    if network is not None:
        node.set_network(network)
    node.short, node.depth = short, depth
    node.parent_short, node.parent_eui64 = parent_short, parent_eui64
    node.trust_center = trust_center
    node.nwk.set_counter(nwk_counter)
    node.nwk.incoming.update(incoming)
    node.aps_high = aps_counter
    node.default_link_key = default
    node.link_keys = {entry.partner: entry for entry in keys}
    node.children.update((child.eui64, child) for child in children)
    for address, eui64 in addresses:
        node.learn_address(address, eui64)
    node.groups = groups
    for entry in keys:
        node.key_used(entry.key, f"link key {format_eui64(entry.partner)}")


def _read(saved: dict[str, Any], name: str, read: Callable[[Any], _Value]) -> _Value:
    if name not in saved:
        raise LocalProtocolError(f"Not the saved state of a node: it has no {name}")
    try:
        return read(saved[name])
    except (AttributeError, KeyError, TypeError, ValueError, LocalProtocolError) as error:
        # The name of the field at most: the values hold keys.
        raise LocalProtocolError(
            f"Not the saved state of a node: {name} is wrong ({type(error).__name__})"
        ) from None


def _number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError
    return value


def _numbers(values: Any) -> list[int]:
    return [_number(value) for value in values]


def _pairs(values: Any) -> list[tuple[int, int]]:
    return [(_number(one), _number(other)) for one, other in values]


def _key(digits: Any) -> bytes:
    key = bytes.fromhex(digits)
    if len(key) != KEY_LENGTH:
        raise ValueError
    return key


def _key_if_any(digits: Any) -> bytes | None:
    return None if digits is None else _key(digits)


def _network(given: Any) -> Network | None:
    if given is None:
        return None
    numbers = {name: _number(value) for name, value in given.items() if name != "network_key"}
    return Network(**numbers, network_key=_key(given["network_key"]))


def _link_keys(entries: Any) -> list[LinkKey]:
    return [
        LinkKey(
            _number(entry["partner"]), _key(entry["key"]), bool(entry["provisional"]),
            _number(entry["outgoing_counter"]), _number(entry["incoming_counter"]),
            _number(entry["outgoing_counter"]), None, bool(entry["verified"]),
        )
        for entry in entries
    ]  # fmt: skip


def _children(now: int, entries: Any) -> list[Child]:
    return [
        Child(
            _number(entry["eui64"]), _number(entry["short"]), NodeKind[entry["kind"]],
            _number(entry["timeout_s"]), now,
        )
        for entry in entries
    ]  # fmt: skip
