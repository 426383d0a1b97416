"""The hub's side of a sleepy GSME: the tunnel that the meter opens, the messages that wait for its GET, its flags."""

from __future__ import annotations

from harness.errors import LocalProtocolError, RemoteProtocolError
from harness.members.hub_values import CommandNotRetrieved, GsmeDataRefused, WanMessage
from harness.members.security import soonest
from harness.wire import zcl
from harness.wire.tunnel import DataReceived, MessageLost
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
from harness.wire.tunnel_server import TunnelServer, TunnelServerConfig


class HubGsmes:
    """Grants tunnels to GSMEs (EUI-64s), and keeps what is for them until they ask. Times in seconds.

    Assumed: what waits is lost with the power, as nothing published says that the hub keeps it.
    """

    def __init__(self, tunnel: TunnelServerConfig, mailbox: MailboxConfig) -> None:
        self.server = TunnelServer(tunnel)
        self._config = mailbox
        self._mailboxes: dict[int, Mailbox] = {}

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

    def remove(self, eui64: int) -> list[object]:
        """Nothing more is to wait for a GSME. Returns what did, and is lost."""
        mailbox = self._mailboxes.pop(eui64, None)
        lost: list[object] = []
        while mailbox is not None and mailbox.pending:
            lost.append(MessageLost(eui64, mailbox.fetch().message))
        return lost

    def receive(self, eui64: int, frame: zcl.Frame, now: float) -> list[object]:
        """Take one unicast frame of a GSME's Tunneling client."""
        events: list[object] = []
        for event in self.server.receive(eui64, frame, now):
            if isinstance(event, DataReceived):
                events += self._data(eui64, event.data, now)
            else:
                events.append(event)
        return events

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
                self.server.send(eui64, build_gsme_data(response), now)
            except LocalProtocolError:
                # More than this GSME's tunnel takes at once; one that does not take even an empty answer gets none.
                if not response.message:
                    return lost
                lost.append(MessageLost(eui64, response.message))
            else:
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
