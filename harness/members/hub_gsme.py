"""The hub's side of a sleepy GSME: the tunnel that the meter opens, the messages that wait for its GET, its flags."""

from __future__ import annotations

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.hub_values import CommandNotRetrieved, GsmeDataRefused, WanMessage
from harness.members.security import soonest
from harness.wire import zcl
from harness.wire.tunnel import DataReceived, DataRefused, MessageLost
from harness.wire.tunnel_mailbox import (
    Get,
    GsmeCommandNotRetrieved,
    GsmeData,
    Mailbox,
    MailboxConfig,
    Put,
    build_gsme_data,
    parse_gsme_data,
)
from harness.wire.tunnel_messages import TRANSFER_DATA_TO_CLIENT
from harness.wire.tunnel_server import TunnelServer, TunnelServerConfig


class HubGsmes:
    """Grants tunnels to GSMEs (EUI-64s), and keeps what is for them until they ask. Times in seconds.

    A message waits until its GSME has said by a Default Response that the GET-RESPONSE with it has arrived: one that
    was lost on its way is there at the next GET. Assumed: GBCS as published does not say what ends the waiting. And
    what waits is lost with the power, as nothing published says that the hub keeps it.
    """

    def __init__(self, tunnel: TunnelServerConfig, mailbox: MailboxConfig) -> None:
        self.server = TunnelServer(tunnel)
        self._config = mailbox
        self._mailboxes: dict[int, Mailbox] = {}
        # The ZCL sequence number of the last GET-RESPONSE with a message.
        self._unconfirmed: dict[int, int] = {}

    def post(self, eui64: int, octets: bytes, now: float) -> None:
        """Let a message wait. LocalProtocolError when it is too long or empty, or too many wait already."""
        self._mailboxes.setdefault(eui64, Mailbox(self._config)).post(octets, now)

    def pending(self, eui64: int) -> bool:
        """Whether a message waits."""
        mailbox = self._mailboxes.get(eui64)
        return mailbox is not None and mailbox.pending

    def forget(self, eui64: int) -> None:
        """A GSME rejoined or left: it knows of no tunnel. What waits for it goes on waiting."""
        self.server.forget(eui64)
        self._unconfirmed.pop(eui64, None)

    def remove(self, eui64: int) -> list[object]:
        """Nothing more is to wait for a GSME. Returns what did, and is lost."""
        self._unconfirmed.pop(eui64, None)
        mailbox = self._mailboxes.pop(eui64, None)
        lost: list[object] = []
        while mailbox is not None and mailbox.pending:
            lost.append(MessageLost(eui64, mailbox.fetch().message))
            mailbox.done()
        return lost

    def receive(self, eui64: int, frame: zcl.Frame, now: float) -> list[object]:
        """Take one unicast frame of a GSME's Tunneling client."""
        if not frame.control & zcl.CLUSTER_COMMAND:
            self._confirmed(eui64, frame)
            return []
        events: list[object] = []
        for event in self.server.receive(eui64, frame, now):
            if isinstance(event, DataReceived):
                events += self._data(eui64, event.data, now)
            else:
                if isinstance(event, DataRefused):
                    self._unconfirmed.pop(eui64, None)  # it did arrive, but not where it was meant to
                events.append(event)
        return events

    def _confirmed(self, eui64: int, frame: zcl.Frame) -> None:
        """Take a Default Response: it may be to the GET-RESPONSE."""
        if frame.command != zcl.DEFAULT_RESPONSE or frame.sequence != self._unconfirmed.get(eui64):
            return
        try:
            command, status = zcl.parse_default_response(frame.payload)
        except RemoteProtocolError:
            return
        if command == TRANSFER_DATA_TO_CLIENT and status == zcl.Status.SUCCESS:
            del self._unconfirmed[eui64]
            self._mailboxes[eui64].done()

    def _data(self, eui64: int, octets: bytes, now: float) -> list[object]:
        try:
            data: GsmeData = parse_gsme_data(octets)
        except RemoteProtocolError as error:
            return [GsmeDataRefused(eui64, str(error))]
        if isinstance(data, Put):
            if not data.message:
                return [GsmeDataRefused(eui64, "PUT has no message behind its header")]
            return [WanMessage(eui64, data.message)]
        if not isinstance(data, Get):
            return [GsmeDataRefused(eui64, "GET-RESPONSE is what a hub says, not a GSME")]
        mailbox = self._mailboxes.setdefault(eui64, Mailbox(self._config))
        lost: list[object] = []
        while True:
            response = mailbox.fetch()
            try:
                confirmed = bool(response.message)
                sequence = self.server.send(eui64, build_gsme_data(response), now, confirmed=confirmed)
            except LocalProtocolError:
                # More than this GSME's tunnel takes at once; one that does not take even an empty answer gets none.
                if not response.message:
                    return lost
                lost.append(MessageLost(eui64, response.message))
                mailbox.done()
            else:
                if confirmed:
                    self._unconfirmed[eui64] = sequence
                return lost

    def frames_to_send(self) -> list[tuple[int, bytes]]:
        """What waits to be sent, as (GSME, ZCL frame), each once."""
        return self.server.frames_to_send()

    def next_deadline(self) -> float | None:
        """When a tunnel has been without traffic for too long, or a message has waited too long."""
        waiting = (mailbox.next_deadline() for mailbox in self._mailboxes.values())
        return soonest(self.server.next_deadline(), *waiting)

    def on_deadline(self, now: float) -> list[object]:
        """Close tunnels and throw messages away where it is time."""
        events = self.server.on_deadline(now)
        for eui64, mailbox in self._mailboxes.items():
            for event in mailbox.on_deadline(now):
                assert isinstance(event, GsmeCommandNotRetrieved)
                events.append(CommandNotRetrieved(eui64, event.message))
        return events
