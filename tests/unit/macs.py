"""MACs for tests, and what stands above and around them."""

from __future__ import annotations

from harness.emulation.air import Air
from harness.emulation.mac_layer import Mac
from harness.wire.mac import ASSOCIATED, Beacon

PAN = 0x1A62
PARENT, CHILD, OTHER = 0x000D6F0000000001, 0x000D6F0000000002, 0x000D6F0000000003
SENSE = 128 + 192  # clear channel assessment and turnaround, us


class Layer:
    """What stands above a MAC in these tests: it keeps what it is told."""

    def __init__(self):
        self.frames = []
        self.polls = []
        self.requests = []
        self.response = (ASSOCIATED, 0x1234)
        self.on_frame = None
        self.on_poll = None

    def mac_received(self, frame, lqi, rssi):
        self.frames.append(frame)
        if self.on_frame is not None:
            self.on_frame(frame)

    def mac_association_requested(self, eui64, capability):
        self.requests.append((eui64, capability))
        return self.response

    def mac_polled(self, src, extended):
        self.polls.append((src, extended))
        if self.on_poll is not None:
            self.on_poll()

    @property
    def payloads(self):
        return [frame.payload for frame in self.frames]


class Jammer(Mac):
    """A radio that puts any octets on the air, at any time."""

    def transmitted(self, transmission):
        pass


class Tap:
    """All that was on the air, as (time, octets)."""

    def __init__(self, air):
        self.seen = []
        air.add_tap(lambda at, psdu, *rest: self.seen.append((at, psdu)))

    def of(self, kind):
        return [(at, psdu) for at, psdu in self.seen if psdu[0] & 7 == kind]


def member(air, eui64, short, *, parent=None, sleepy=False):
    """A MAC that is in the PAN already."""
    mac = Mac(air, eui64, Layer())
    mac.pan_id = PAN
    mac.short = short
    if parent is not None:
        mac.parent = parent
    mac.receiver_on_when_idle = not sleepy
    return mac


def pair(seed=1):
    """A parent 0x0000 and a child 0x0001 that listens."""
    air = Air(seed)
    return air, member(air, PARENT, 0), member(air, CHILD, 1, parent=0)


def sleepy_pair(seed=1):
    """A parent 0x0000 and a sleepy child 0x0001."""
    air = Air(seed)
    return air, member(air, PARENT, 0), member(air, CHILD, 1, parent=0, sleepy=True)


def run(air, seconds):
    """Let so much time pass."""
    air.on_deadline(air.now / 1_000_000 + seconds)


def network(air, eui64, channel, pan_id, short=0):
    """A coordinator or router that answers beacon and association requests."""
    mac = Mac(air, eui64, Layer())
    mac.channel, mac.pan_id, mac.short = channel, pan_id, short
    mac.coordinator = True
    mac.beacon = Beacon(extended_pan_id=eui64, coordinator=short == 0, permit_association=True)
    return mac


def associate(air, joiner, channel=11):
    """Let `joiner` try to join; return the status and address that it is told."""
    results = []
    joiner.associate(channel, PAN, 0, 0x80, lambda status, short: results.append((status, short)))
    run(air, 2)
    (result,) = results
    return result
