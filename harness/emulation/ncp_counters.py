"""EZSP's counters (EmberCounterType), taken from those of the node and its MAC."""

from __future__ import annotations

from harness.emulation.node import Node

# In the order of EmberCounterType (UG100). Each is where the count is kept: ("mac" or "node", name), or None for what
# an emulated radio never counts.
COUNTERS: tuple[tuple[str, str] | None, ...] = (
    ("mac", "rx_broadcast"),
    ("mac", "tx_broadcast"),
    ("mac", "rx_unicast"),
    ("mac", "tx_unicast_success"),
    ("mac", "tx_unicast_retry"),
    ("mac", "tx_unicast_failed"),
    ("node", "aps_rx_broadcast"),
    ("node", "aps_tx_broadcast"),
    ("node", "aps_rx_unicast"),
    ("node", "aps_tx_unicast_success"),
    ("node", "aps_tx_unicast_retry"),
    ("node", "aps_tx_unicast_failed"),
    ("node", "route_discoveries"),
    ("node", "neighbors_added"),
    ("node", "neighbors_removed"),
    None,  # neighbour stale
    ("node", "joins"),
    ("node", "children_removed"),
    None,  # ASH overflow
    None,  # ASH framing
    None,  # ASH overrun
    ("node", "nwk_counter_failures"),
    ("node", "aps_counter_failures"),
    None,  # utility
    ("node", "link_key_missing"),
    ("node", "nwk_decryption_failures"),
    ("node", "aps_decryption_failures"),
    None,  # packet buffer allocation
    ("node", "relayed_unicasts"),
    None,  # PHY to MAC queue limit
    ("node", "malformed"),
    None,  # NWK retry overflow
    ("mac", "cca_failures"),
    ("node", "broadcast_table_full"),
    None,  # packet traffic arbitration, low and high priority: requested, denied, aborted
    None,
    None,
    None,
    None,
    None,
    ("node", "address_conflicts"),
)


class Counters:
    """What was counted since the host cleared the counters; each is 16 bits wide and wraps."""

    def __init__(self) -> None:
        self._cleared: list[int] = [0] * len(COUNTERS)

    def read(self, node: Node) -> list[int]:
        """The counters as EZSP carries them."""
        return [
            (count - cleared) & 0xFFFF for count, cleared in zip(_totals(node), self._cleared, strict=True)
        ]

    def clear(self, node: Node) -> None:
        """Let all start from 0."""
        self._cleared = _totals(node)


def _totals(node: Node) -> list[int]:
    totals = []
    for place in COUNTERS:
        if place is None:
            totals.append(0)
            continue
        owner, name = place
        totals.append(getattr(node.mac.counters if owner == "mac" else node.counters, name))
    return totals
