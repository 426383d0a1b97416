"""What a node keeps when its power goes, as JSON can write it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from harness.emulation.node_state import Child, LinkKey, Network, NodeKind
from harness.errors import LocalProtocolError
from harness.wire.mac import format_eui64, parse_eui64

if TYPE_CHECKING:
    from harness.emulation.node import Node


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
    try:
        if parse_eui64(saved["eui64"]) != node.eui64:
            raise LocalProtocolError(f"State of {saved['eui64']} restored to {format_eui64(node.eui64)}")
        given = saved["network"]
        network = (
            None
            if given is None
            else Network(**{**given, "network_key": bytes.fromhex(given["network_key"])})
        )
        kind = NodeKind[saved["kind"]]
        keys = [
            LinkKey(
                entry["partner"], bytes.fromhex(entry["key"]), entry["provisional"], entry["outgoing_counter"],
                entry["incoming_counter"], entry["outgoing_counter"], None, entry["verified"],
            )
            for entry in saved["link_keys"]
        ]  # fmt: skip
        children = [
            Child(child["eui64"], child["short"], NodeKind[child["kind"]], child["timeout_s"], node.air.now)
            for child in saved["children"]
        ]
        default = saved["default_link_key"]
        node.forget_network()
        node.kind = kind
        if network is not None:
            node.set_network(network)
        node.short, node.depth = saved["short"], saved["depth"]
        node.parent_short, node.parent_eui64 = saved["parent_short"], saved["parent_eui64"]
        node.trust_center = saved["trust_center"]
        node.nwk.set_counter(saved["nwk_counter"])
        node.nwk.incoming.update((eui64, counter) for eui64, counter in saved["incoming_counters"])
        node.aps_high = saved["aps_counter"]
        node.default_link_key = None if default is None else bytes.fromhex(default)
        node.link_keys = {entry.partner: entry for entry in keys}
        node.children.update((child.eui64, child) for child in children)
        for short, eui64 in saved["addresses"]:
            node.learn_address(short, eui64)
        node.groups = list(saved["groups"])
    except (KeyError, TypeError, ValueError) as error:
        # The name of the field at most: the values hold keys.
        raise LocalProtocolError(f"Not the saved state of a node: {type(error).__name__}") from None
    for entry in keys:
        node.key_used(entry.key, f"link key {format_eui64(entry.partner)}")
