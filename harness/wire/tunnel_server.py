"""The server side of the Tunneling cluster (0x0704) as a core: it grants tunnels to its clients."""

from __future__ import annotations

from dataclasses import dataclass

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.wire import zcl
from harness.wire.ota_messages import CLOCK_TOLERANCE
from harness.wire.tunnel import GONE, DataReceived, DataRefused, TunnelClosed, TunnelOpened, TunnelRefused
from harness.wire.tunnel_messages import (
    GB_HRGP,
    MAX_TRANSFER,
    NO_MANUFACTURER,
    NO_TUNNEL,
    CloseTunnel,
    GetSupportedTunnelProtocols,
    Message,
    RequestTunnel,
    RequestTunnelResponse,
    SupportedTunnelProtocols,
    TransferData,
    TransferDataError,
    TransferStatus,
    TunnelClosureNotification,
    TunnelStatus,
    build_message,
    parse_message,
)


@dataclass(frozen=True, slots=True)
class TunnelServerConfig:
    """What a tunnel server grants."""

    protocols: tuple[tuple[int, int], ...] = ((NO_MANUFACTURER, GB_HRGP),)  # GBCS 10.2.2
    max_transfer: int = MAX_TRANSFER  # GBCS 10.2.2
    close_timeout: int = 0xFFFF  # ZSE: CloseTunnelTimeout, s without traffic until the server closes
    capacity: int = 4  # assumed: tunnels at a time
    replaces: bool = True  # SL: a client's next tunnel takes the place of the one it had
    notifies_closure: bool = True  # ZSE lets the server close without a word


@dataclass(slots=True)
class _Granted:
    peer: int
    max_transfer: int
    deadline: float


class TunnelServer:
    """Grants tunnels to its clients. Takes and gives ZCL frames of the cluster.

    While `busy` is set every request is answered so.
    """

    def __init__(self, config: TunnelServerConfig = TunnelServerConfig()) -> None:
        self.config = config
        self.busy = False
        self._tunnels: dict[int, _Granted] = {}
        self._next = 0
        self._outgoing: list[tuple[int, bytes]] = []
        self._sequence = 0

    def tunnel(self, peer: int) -> int | None:
        """The id of a client's latest tunnel; None when it has none."""
        return next((tunnel for tunnel, it in reversed(self._tunnels.items()) if it.peer == peer), None)

    def restore(self, peer: int, tunnel: int, now: float) -> None:
        """Hold a tunnel that an earlier run granted to a client."""
        self._tunnels[tunnel] = _Granted(peer, self.config.max_transfer, now + self.config.close_timeout)

    def send(self, peer: int, data: bytes, now: float, *, confirmed: bool = False) -> int:
        """Send through a client's latest tunnel; return the ZCL sequence number of that.

        The client says by a Default Response that it has what is sent `confirmed`. LocalProtocolError when it has no
        tunnel, or that does not take so much.
        """
        tunnel = self.tunnel(peer)
        if tunnel is None:
            raise LocalProtocolError(f"{peer:#x} has no tunnel")
        granted = self._tunnels[tunnel]
        most = min(granted.max_transfer, MAX_TRANSFER)
        if not 0 < len(data) <= most:
            raise LocalProtocolError(f"transfer of {len(data)} octets, the tunnel takes 1 to {most}")
        granted.deadline = now + self.config.close_timeout
        return self._put(peer, TransferData(tunnel, data), confirmed=confirmed)

    def forget(self, peer: int) -> None:
        """The client rejoined or left: its tunnels are no more."""
        for tunnel in [tunnel for tunnel, granted in self._tunnels.items() if granted.peer == peer]:
            del self._tunnels[tunnel]

    def frames_to_send(self) -> list[tuple[int, bytes]]:
        """What waits to be sent, as (peer, ZCL frame), each once."""
        outgoing = self._outgoing
        if outgoing:
            self._outgoing = []
        return outgoing

    def receive(self, peer: int, frame: zcl.Frame, now: float) -> list[object]:
        """Take one unicast frame of the cluster from a client."""
        events: list[object] = []
        if not frame.control & zcl.CLUSTER_COMMAND:
            return events
        try:
            message = parse_message(frame)
        except RemoteProtocolError:
            self._respond(peer, frame, zcl.Status.MALFORMED_COMMAND)
            return events
        if isinstance(message, RequestTunnel):
            self._answer(peer, frame, self._grant(peer, message, now, events))
        elif isinstance(message, GetSupportedTunnelProtocols):
            rows = self.config.protocols[message.offset :]
            self._answer(peer, frame, SupportedTunnelProtocols(True, rows))
        elif isinstance(message, CloseTunnel):
            granted = self._tunnels.get(message.tunnel)
            if granted is None or granted.peer != peer:
                self._respond(peer, frame, zcl.Status.NOT_FOUND)
            else:
                del self._tunnels[message.tunnel]
                events.append(TunnelClosed(peer, message.tunnel, "closed by the client"))
                self._respond(peer, frame, zcl.Status.SUCCESS)
        elif isinstance(message, TransferData):
            self._data(peer, message, now, events)
            self._respond(peer, frame, zcl.Status.SUCCESS)
        elif isinstance(message, TransferDataError):
            self._refused(peer, message, events)
            self._respond(peer, frame, zcl.Status.SUCCESS)
        else:
            self._respond(peer, frame, zcl.Status.UNSUP_CLUSTER_COMMAND)
        return events

    def _grant(
        self, peer: int, request: RequestTunnel, now: float, events: list[object]
    ) -> RequestTunnelResponse:
        config = self.config
        status = self._judge(peer, request)
        if status != TunnelStatus.SUCCESS:
            events.append(TunnelRefused(peer, status))
            return RequestTunnelResponse(NO_TUNNEL, status, config.max_transfer)
        if config.replaces:
            self.forget(peer)
        while self._next in self._tunnels:
            self._next = (self._next + 1) % NO_TUNNEL
        tunnel = self._next
        self._next = (tunnel + 1) % NO_TUNNEL
        self._tunnels[tunnel] = _Granted(peer, request.max_transfer, now + config.close_timeout)
        events.append(TunnelOpened(peer, tunnel, request.max_transfer))
        return RequestTunnelResponse(tunnel, status, config.max_transfer)

    def _judge(self, peer: int, request: RequestTunnel) -> TunnelStatus:
        config = self.config
        if (request.manufacturer, request.protocol) not in config.protocols:
            return TunnelStatus.PROTOCOL_NOT_SUPPORTED
        if request.flow_control:
            return TunnelStatus.FLOW_CONTROL_NOT_SUPPORTED
        if self.busy:
            return TunnelStatus.BUSY
        own = config.replaces and self.tunnel(peer) is not None
        return (
            TunnelStatus.SUCCESS
            if own or len(self._tunnels) < config.capacity
            else TunnelStatus.NO_MORE_TUNNEL_IDS
        )

    def _data(self, peer: int, message: TransferData, now: float, events: list[object]) -> None:
        granted = self._tunnels.get(message.tunnel)
        if granted is None:
            status = TransferStatus.NO_SUCH_TUNNEL
        elif granted.peer != peer:
            status = TransferStatus.WRONG_DEVICE
        elif len(message.data) > self.config.max_transfer:
            status = TransferStatus.DATA_OVERFLOW
        else:
            granted.deadline = now + self.config.close_timeout
            events.append(DataReceived(peer, message.tunnel, message.data))
            return
        self._put(peer, TransferDataError(message.tunnel, status))
        events.append(DataRefused(peer, message.tunnel, status, ours=False))

    def _refused(self, peer: int, message: TransferDataError, events: list[object]) -> None:
        granted = self._tunnels.get(message.tunnel)
        if granted is None or granted.peer != peer:
            return
        events.append(DataRefused(peer, message.tunnel, message.status, ours=True))
        if message.status in GONE:
            del self._tunnels[message.tunnel]
            events.append(TunnelClosed(peer, message.tunnel, "unknown to the client"))

    def _answer(self, peer: int, frame: zcl.Frame, message: Message) -> None:
        self._outgoing.append((peer, build_message(message, frame.sequence, from_server=True)))

    def _put(self, peer: int, message: Message, *, confirmed: bool = False) -> int:
        self._sequence = (self._sequence + 1) & 0xFF
        frame = build_message(message, self._sequence, from_server=True, confirmed=confirmed)
        self._outgoing.append((peer, frame))
        return self._sequence

    def _respond(self, peer: int, frame: zcl.Frame, status: int) -> None:
        if zcl.default_response_due(frame, status, unicast=True):
            self._outgoing.append((peer, zcl.default_response(frame, status)))

    def next_deadline(self) -> float | None:
        """When the next tunnel has been without traffic for too long."""
        return min((granted.deadline for granted in self._tunnels.values()), default=None)

    def on_deadline(self, now: float) -> list[object]:
        """Close the tunnels that nobody used."""
        events: list[object] = []
        for tunnel, granted in tuple(self._tunnels.items()):
            if now + CLOCK_TOLERANCE < granted.deadline:
                continue
            del self._tunnels[tunnel]
            if self.config.notifies_closure:
                self._put(granted.peer, TunnelClosureNotification(tunnel))
            events.append(TunnelClosed(granted.peer, tunnel, "without traffic for too long"))
        return events
