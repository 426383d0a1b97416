"""EZSP commands about polling: an end device asks its parent when its host says so."""

from __future__ import annotations

from harness.emulation.mac_layer import MacStatus
from harness.emulation.ncp_state import NcpState
from harness.emulation.ncp_status import Status
from harness.emulation.ncp_system import Answer, Arguments, Handler
from harness.emulation.node import Node, NodeKind, NodeState

# EmberEventUnits: what one unit is, in seconds ("binary" milliseconds, quarter seconds and minutes).
_UNITS = {1: 0.001, 2: 0.256, 3: 65.536}
# What a poll's end is to the host; these are no failures.
_POLL_STATUS = {MacStatus.SUCCESS: Status.OK, MacStatus.NO_DATA: Status.MAC_NO_DATA}


def poll_for_data(ncp: NcpState, args: Arguments) -> Answer:
    """UG100: poll the parent, once (interval 0 or no units) or again and again.

    A pollCompleteHandler follows each poll, or with a failureLimit only so many failures in a row.
    """
    if ncp.node.state != NodeState.JOINED:
        return Status.NOT_JOINED
    if ncp.node.kind < NodeKind.END_DEVICE:
        return Status.INVALID_STATE
    unit = _UNITS.get(args["units"], 0.0)
    ncp.stop_timer("poll")
    _poll(ncp, ncp.node, int(args["interval"]) * unit, int(args["failureLimit"]), 0)
    return Status.OK


def _poll(ncp: NcpState, node: Node, seconds: float, limit: int, failures: int) -> None:
    if node.state != NodeState.JOINED:
        return  # it lost its parent, or left, since the poll before: it is for the host to begin again

    def done(status: MacStatus) -> None:
        failed = 0 if status in _POLL_STATUS else failures + 1
        if failed >= limit:
            ncp.callback(
                "pollCompleteHandler", {"status": _POLL_STATUS.get(status, Status.MAC_NO_ACK_RECEIVED)}
            )
        if seconds and node.state == NodeState.JOINED:
            ncp.start_timer("poll", seconds, lambda: _poll(ncp, node, seconds, limit, failed))

    node.poll(done)


COMMANDS: dict[str, Handler] = {"pollForData": poll_for_data}
