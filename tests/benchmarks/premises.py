"""One premises on an air of its own, at frame level, and how much faster than life a day of it goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.node import Network, NodeConfig, NodeKind
from harness.members.hub import Hub
from harness.wire import clusters, zcl
from harness.wire.application import SMART_ENERGY_PROFILE, ApsMessage, SimpleDescriptor
from tests.benchmarks.measure import Figure, Seconds, best_of, timed

ROUNDS = 2
DAY = 86400
LOSS = 0.01  # of every frame, on every link
POLL_SECONDS = 7.5
READ_SECONDS = 10.0
SLEEPY = 5
DISPLAYS = 2

HUB_EUI64 = 0x000D6F000A900000
FIRST_EUI64 = 0x000D6F000B7A0000
IN_HOME_DISPLAY = 0x0502  # ZSE table 5-13
METERING_DEVICE = 0x0501
ENDPOINT = 1


class Quiet:
    """The behaviour of a member that says nothing by itself."""

    def __init__(self, device: int = METERING_DEVICE) -> None:
        self.descriptors: Sequence[SimpleDescriptor] = (
            SimpleDescriptor(ENDPOINT, SMART_ENERGY_PROFILE, device, 0, (clusters.BASIC_CLUSTER,), ()),
        )
        self.outgoing: list[ApsMessage] = []

    def network_up(self, short: int, now: float) -> list[object]:
        return []

    def network_down(self, now: float) -> list[object]:
        return []

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        return []

    def messages_to_send(self) -> list[ApsMessage]:
        outgoing = self.outgoing
        if outgoing:
            self.outgoing = []
        return outgoing

    def next_deadline(self) -> float | None:
        return None

    def on_deadline(self, now: float) -> list[object]:
        return []

    def power_cut(self) -> None:
        self.outgoing.clear()


class Display(Quiet):
    """Reads the hub's time every 10 s under the APS link key, and counts the answers that are secured as well."""

    def __init__(self) -> None:
        super().__init__(IN_HOME_DISPLAY)
        self.asked = 0
        self.answered = 0
        self._due: float | None = None
        self._sequence = 0

    def network_up(self, short: int, now: float) -> list[object]:
        self._due = now + READ_SECONDS
        return []

    def next_deadline(self) -> float | None:
        return self._due

    def on_deadline(self, now: float) -> list[object]:
        assert self._due is not None
        self._due += READ_SECONDS
        self._sequence = (self._sequence + 1) & 0xFF
        read = zcl.build_read((clusters.TIME,))
        frame = zcl.build_frame(
            zcl.Frame(zcl.NO_DEFAULT_RESPONSE, None, self._sequence, zcl.READ_ATTRIBUTES, read)
        )
        self.outgoing.append(
            ApsMessage(
                0x0000, SMART_ENERGY_PROFILE, clusters.TIME_CLUSTER, ENDPOINT, ENDPOINT, frame, secured=True
            )
        )
        self.asked += 1
        return []

    def receive(self, message: ApsMessage, now: float) -> list[object]:
        if message.profile != SMART_ENERGY_PROFILE:
            return []
        frame = zcl.parse_frame(message.payload)
        if message.secured and (frame.command, frame.sequence) == (
            zcl.READ_ATTRIBUTES_RESPONSE,
            self._sequence,
        ):
            (record,) = zcl.parse_read_response(frame.payload)
            self.answered += record.status == 0 and isinstance(record.value, int)
        return []


class Premises:
    """A coordinator and 8 devices, joined: 5 sleepy ones, 2 displays, 1 router; each with a link key of its own."""

    def __init__(self, seed: int, *, loss: float = LOSS) -> None:
        self.air = air = Air(seed)
        network = Network(
            channel=11, pan_id=0x4A11, extended_pan_id=HUB_EUI64, network_key=bytes(range(0x30, 0x40))
        )
        self.hub = MemberNode(air, Hub(), eui64=HUB_EUI64, kind=NodeKind.COORDINATOR, network=network)
        self.displays = [Display() for _ in range(DISPLAYS)]
        poll = NodeConfig(poll_interval_us=round(POLL_SECONDS * 1e6))
        members = [
            *((NodeKind.SLEEPY_END_DEVICE, Quiet(), poll) for _ in range(SLEEPY)),
            *((NodeKind.END_DEVICE, display, None) for display in self.displays),
            (NodeKind.ROUTER, Quiet(), None),
        ]
        self.hub.power_on()
        self.devices: list[MemberNode] = []
        for number, (kind, behaviour, config) in enumerate(members):
            eui64 = FIRST_EUI64 + number
            key = eui64.to_bytes(16, "little")
            self.hub.node.set_link_key(eui64, key)
            self.devices.append(
                MemberNode(air, behaviour, eui64=eui64, kind=kind, link_key=key, config=config)
            )
        self._join()
        air.default_link = replace(air.default_link, loss=loss)

    def _join(self) -> None:
        """One after the other, so that all but the router are the hub's own children."""
        self.hub.node.permit_joining(254)
        for device in self.devices:
            device.power_on()
            for _ in range(60):
                self.run(1.0)
                if device.joined:
                    break
            assert device.joined, device.last_join_failure
        self.hub.node.permit_joining(0)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.air.advance(self.air.now + round(seconds * 1e6))

    @property
    def polls(self) -> int:
        """How many polls the hub has answered."""
        return self.hub.node.mac.counters.rx_polls

    @property
    def asked(self) -> int:
        """How many attributes the displays asked for."""
        return sum(display.asked for display in self.displays)

    @property
    def answered(self) -> int:
        """How many of them they were told."""
        return sum(display.answered for display in self.displays)


def _day(seen: list[str]) -> Seconds:
    premises = Premises(seed=1)
    polls, asked, answered = premises.polls, premises.asked, premises.answered
    events = premises.air.events
    taken = timed(lambda: premises.run(DAY))
    polls, asked, answered = premises.polls - polls, premises.asked - asked, premises.answered - answered
    counters = premises.hub.node.mac.counters
    # What a day has to bring: the polls, less those that the loss makes later, and all but a few of the answers.
    assert polls > 0.95 * SLEEPY * DAY / POLL_SECONDS, f"{polls} polls"
    assert asked == DISPLAYS * DAY / READ_SECONDS, f"{asked} reads"
    assert answered > 0.99 * asked, f"{answered} of {asked} reads answered"
    assert counters.tx_unicast_retry > 0, "nothing was lost"
    assert all(device.joined for device in premises.devices), "a device lost its network"
    seen.append(
        f"{polls} polls, {answered} of {asked} secured reads answered, "
        f"{counters.tx_unicast_retry} MAC retries of the hub, {premises.air.events - events} events"
    )
    return taken


def premises_day() -> Figure:
    """A day of a premises with 8 devices, loss and collisions on: simulated seconds a second by the clock."""
    seen: list[str] = []
    (taken,) = best_of(ROUNDS, lambda: _day(seen))
    assert len(dict.fromkeys(seen)) == 1, f"the same seed, another day: {seen}"
    return Figure(
        DAY / taken.wall, f"24 h in {taken.wall:.2f} s by the clock ({taken.cpu:.2f} s of CPU): {seen[0]}"
    )
