"""How a node leaves its network: by itself, told by its parent or the trust centre, or told to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

from harness.emulation.mac_layer import MacStatus
from harness.emulation.node_state import NodeKind, NodeState
from harness.wire.application import BROADCAST_RX_ON
from harness.wire.nwk import NwkFrame
from harness.wire.nwk_commands import Leave

if TYPE_CHECKING:
    from harness.emulation.node import Node

_SAY_SO_US = 200_000  # longest time for the leave command to get out before the node is gone


class Leaving:
    """The leave command of Zigbee PRO (3.4.4, 3.6.1.10), both ways."""

    __slots__ = ("_gone", "_node")

    def __init__(self, node: Node) -> None:
        self._node = node
        self._gone = True

    def leave(self, reason: str, *, quietly: bool, rejoin: bool = False) -> None:
        """Tell the neighbours, unless `quietly`, then be gone."""
        node = self._node
        self._gone = False
        if quietly or node.state != NodeState.JOINED:
            self._go(reason, rejoin)
            return

        def told(status: MacStatus) -> None:
            self._go(reason, rejoin)

        command = Leave(rejoin=rejoin)
        if node.kind >= NodeKind.END_DEVICE:
            node.nwk.send_command(command, node.parent_short, done=told)
        else:
            node.nwk.send_command(command, BROADCAST_RX_ON, done=told)
        node.after(_SAY_SO_US, self._go, reason, rejoin)

    def _go(self, reason: str, rejoin: bool) -> None:
        if self._gone:
            return
        self._gone = True
        node = self._node
        if rejoin and node.kind != NodeKind.COORDINATOR:
            node.joining.parent_lost(reason)
            return
        node.forget_network()
        node.listener.network_down(reason)

    def tell(self, short: int, eui64: int | None, *, rejoin: bool = False) -> None:
        """Tell a child or a neighbour to leave."""
        self._node.nwk.send_command(Leave(request=True, rejoin=rejoin), short, dst_ieee=eui64)

    def leave_received(self, nwk: NwkFrame, command: Leave, sender: int, source: int | None) -> None:
        """A leave command came: somebody goes, or we are to."""
        node = self._node
        if not command.request:
            self._gone_away(nwk.src, source, command)
        elif nwk.dst == node.short and (node.kind == NodeKind.ROUTER or sender == node.parent_short):
            # Zigbee PRO 3.6.1.10.3: a router obeys whoever is in its network, an end device its parent.
            self.leave(f"told to leave by {nwk.src:#06x}", quietly=False, rejoin=command.rejoin)

    def _gone_away(self, short: int, eui64: int | None, command: Leave) -> None:
        node = self._node
        if node.kind >= NodeKind.END_DEVICE:
            if short == node.parent_short:
                node.joining.parent_lost("the parent left the network")
            return
        node.routing.forget_neighbor(short)
        node.forget_address(short)
        if eui64 is None:
            return
        was_child = eui64 in node.children
        node.parenting.drop_child(eui64)
        if (was_child or node.is_trust_center) and not command.rejoin:
            node.trust.device_gone(eui64, short)
