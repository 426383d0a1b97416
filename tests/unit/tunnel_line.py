"""The two ends of a tunnel, with a line between them that can be cut."""

from __future__ import annotations

from harness.wire import zcl
from harness.wire.tunnel import (
    TunnelClient,
    TunnelClientConfig,
    TunnelOpened,
)
from harness.wire.tunnel_server import TunnelServer, TunnelServerConfig

HUB, PPMID, HCALCS = 0x000D6F000A9069E7, 0x00DB1234567890A4, 0x00DB1234567890A5


class Line:
    """A client (the hub) and a server (the PPMID) with a line between them that can be cut."""

    def __init__(self, client=None, server=None):
        self.client = TunnelClient(client or TunnelClientConfig())
        self.server = TunnelServer(server or TunnelServerConfig())
        self.now = 0.0
        self.whole = True
        self.requests = 0
        self.at_client: list[object] = []
        self.at_server: list[object] = []

    def settle(self):
        """Carry frames to and fro until nothing is left to carry."""
        for _ in range(50):
            there, back = self.client.frames_to_send(), self.server.frames_to_send()
            if not there and not back:
                return
            self.requests += len(there)
            for _, octets in there if self.whole else ():
                self.at_server += self.server.receive(HUB, zcl.parse_frame(octets), self.now)
            for _, octets in back if self.whole else ():
                self.at_client += self.client.receive(PPMID, zcl.parse_frame(octets), self.now)
        raise AssertionError("the two ends do not come to rest")

    def until(self, now):
        """Let time pass."""
        while True:
            due = [at for at in (self.client.next_deadline(), self.server.next_deadline()) if at is not None]
            if not due or min(due) > now:
                break
            self.now = max(self.now, min(due))
            self.at_client += self.client.on_deadline(self.now)
            self.at_server += self.server.on_deadline(self.now)
            self.settle()
        self.now = now

    def open(self):
        self.client.open(PPMID, self.now)
        self.settle()

    def send(self, data):
        self.client.send(PPMID, data, self.now)
        self.settle()

    def client_says(self):
        said, self.at_client = self.at_client, []
        return said

    def server_says(self):
        said, self.at_server = self.at_server, []
        return said


def opened(**settings):
    """A line with an open tunnel (id 0), its events taken."""
    line = Line(**settings)
    line.open()
    assert line.client_says() == [TunnelOpened(PPMID, 0, 1500)]
    assert line.server_says() == [TunnelOpened(HUB, 0, 1500)]
    return line
