"""Tests of the emulated NCP with hosts that we did not write: unmodified bellows and zigpy, over `emulated://`."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import bellows.types
import pytest
import zigpy.config
import zigpy.types
from bellows.exception import InvalidCommandError
from bellows.zigbee.application import ControllerApplication

from harness.clock import VirtualLoop
from harness.emulation.air import Air
from harness.emulation.ncp import EmulatedNcp, NvStore
from harness.emulation.node import Node, NodeKind
from harness.radio.emulated import plug_in
from harness.wire.application import ApsMessage, SimpleDescriptor
from harness.wire.ezsp import VERSIONS

HUB = 0x000D6F000A9069E7
OTHER = 0x000D6F0011223344
DEVICE = 0x00155F0001020304
LINK_KEY = bytes(range(16))

# The EZSP versions that differ: the oldest with this framing, the default, the first with sl_Status, the newest.
PINNED = (8, 13, 14, 19)
URL = "emulated://hub"

Scenario = Callable[[ControllerApplication], Awaitable[None]]


class Bench:
    """An event loop on virtual time with an air, on which sticks are plugged in; bellows opens them one at a time."""

    def __init__(self) -> None:
        self.loop = VirtualLoop()
        self.air = Air(seed=7)
        self.loop.attach(self.air)
        self.sticks: list[EmulatedNcp] = []

    def plug(
        self, version: int, *, eui64: int = HUB, url: str = URL, nv: NvStore | None = None
    ) -> EmulatedNcp:
        stick = EmulatedNcp(self.air, eui64, ezsp_version=version, nv=nv)
        plug_in(self.loop, url, stick, self.air)
        self.sticks.append(stick)
        return stick

    def run(self, scenario: Scenario, *, url: str = URL, start: bool = True, watchdog: bool = False) -> None:
        """Open the stick with bellows, start or form its network, play `scenario`, and close it."""
        self.loop.run_until_complete(self._run(scenario, url, start, watchdog))

    async def _run(self, scenario: Scenario, url: str, start: bool, watchdog: bool) -> None:
        application = ControllerApplication(settings(url, watchdog))
        try:
            if start:
                await application.startup(auto_form=True)
            else:
                await application.connect()
            await scenario(application)
        finally:
            await application.shutdown()


def settings(url: str, watchdog: bool) -> dict[str, Any]:
    """What zigpy needs to leave the HAN alone; bellows' thread would live on real time."""
    return {
        zigpy.config.CONF_DEVICE: {zigpy.config.CONF_DEVICE_PATH: url},
        "use_thread": False,
        zigpy.config.CONF_NWK: {zigpy.config.CONF_NWK_CHANNEL: 15},
        zigpy.config.CONF_WATCHDOG_ENABLED: watchdog,
        zigpy.config.CONF_NWK_BACKUP_ENABLED: False,
        zigpy.config.CONF_TOPO_SCAN_ENABLED: False,
        zigpy.config.CONF_OTA: {zigpy.config.CONF_OTA_ENABLED: False},
    }


@pytest.fixture
def bench() -> Iterator[Bench]:
    """A bench whose sticks must not have refused anything that bellows asked."""
    bench = Bench()
    yield bench
    with contextlib.closing(bench.loop):
        assert [failure for stick in bench.sticks for failure in stick.failures] == []


async def nothing(application: ControllerApplication) -> None:
    """Only start and stop."""


def network(application: ControllerApplication) -> tuple[Any, ...]:
    """What makes a network the same one."""
    info = application.state.network_info
    return (info.pan_id, info.extended_pan_id, info.channel, info.network_key.key, info.tc_link_key.key)


@pytest.mark.parametrize("version", VERSIONS)
def test_bellows_forms_a_network_and_finds_it_again(bench: Bench, version: int) -> None:
    """Every version: an empty stick is formed, and a second program, after a reset, is on the same network."""
    stick = bench.plug(version)
    found: list[tuple[Any, ...]] = []

    async def note(application: ControllerApplication) -> None:
        assert application._ezsp.ezsp_version == version
        found.append(network(application))

    bench.run(note)
    bench.run(note)
    assert found[0] == found[1]
    assert (stick.commands["formNetwork"] > 0, stick.node.network is not None) == (True, True)


@pytest.mark.parametrize("version", PINNED)
def test_bellows_permits_a_device_that_joins_and_is_interviewed(bench: Bench, version: int) -> None:
    """A device with the key that permit_with_link_key gave joins; zigpy reads its descriptors through the NCP."""
    bench.plug(version)
    device = Node(bench.air, DEVICE, NodeKind.ROUTER)
    device.descriptors = (SimpleDescriptor(1, 0x0109, 0x0507, 0, (0x0000, 0x0019), (0x0003,)),)

    async def join(application: ControllerApplication) -> None:
        ieee = zigpy.types.EUI64.deserialize(DEVICE.to_bytes(8, "little"))[0]
        await application.permit_with_link_key(ieee, zigpy.types.KeyData(LINK_KEY), 60)
        device.join(link_key=LINK_KEY)
        await asyncio.sleep(30)
        seen = application.get_device(ieee=ieee)
        assert seen.nwk == device.short
        assert seen.endpoints[1].profile_id == 0x0109
        assert sorted(seen.endpoints[1].in_clusters) == [0x0000, 0x0019]
        await application.permit(0)

    bench.run(join)


@pytest.mark.parametrize("version", PINNED)
def test_bellows_permits_anybody_and_closes_again(bench: Bench, version: int) -> None:
    """permit(10): a device with the well-known key joins; when the time is over nobody does."""
    bench.plug(version)
    early, late = Node(bench.air, DEVICE, NodeKind.ROUTER), Node(bench.air, DEVICE + 1, NodeKind.ROUTER)
    results: list[bool] = []

    async def join(application: ControllerApplication) -> None:
        await application.permit(10)
        early.join(link_key=b"ZigBeeAlliance09", done=lambda ok, reason: results.append(ok))
        await asyncio.sleep(30)
        late.join(link_key=b"ZigBeeAlliance09", done=lambda ok, reason: results.append(ok))
        await asyncio.sleep(30)

    bench.run(join)
    assert results == [True, False]


@pytest.mark.parametrize("version", PINNED)
def test_bellows_feeds_its_watchdog_and_reads_the_counters(bench: Bench, version: int) -> None:
    """An hour of watchdog, with the counters cleared in between; they count what went over the air."""
    stick = bench.plug(version)

    async def wait(application: ControllerApplication) -> None:
        await application.permit(1)
        await asyncio.sleep(2)
        counters = await application._ezsp.read_counters()
        assert len(counters) == 41
        assert counters[bellows.types.EmberCounterType.COUNTER_MAC_TX_BROADCAST] > 0
        await asyncio.sleep(3600)
        assert application._watchdog_failures == 0
        assert application.state.counters["ezsp_counters"]["EZSP_FREE_BUFFERS"] == 255

    bench.run(wait, watchdog=True)
    assert stick.commands["readCounters"] > 300
    assert stick.commands["readAndClearCounters"] == 2


@pytest.mark.parametrize("version", PINNED)
def test_bellows_backs_a_stick_up_and_restores_it_onto_another(version: int) -> None:
    """Network, keys, children, EUI-64 and counters move to a fresh stick, which a child takes for the old one."""
    old, new = Bench(), Bench()
    broken, fresh = old.plug(version), new.plug(version, eui64=OTHER)
    child = Node(old.air, DEVICE, NodeKind.SLEEPY_END_DEVICE)
    backups: list[Any] = []
    partner = zigpy.types.EUI64.convert("00:15:5f:00:01:02:09:09")

    async def back_up(application: ControllerApplication) -> None:
        await application.permit(60)
        child.join(link_key=b"ZigBeeAlliance09")
        await asyncio.sleep(20)
        key = zigpy.types.KeyData(LINK_KEY)
        await application._ezsp.write_link_keys([zigpy.state.Key(key=key, partner_ieee=partner)])
        backups.append(await application.backups.create_backup(load_devices=True))

    async def restore(application: ControllerApplication) -> None:
        # EZSP 8 has no token for the address: it can be burnt in, once, on explicit demand.
        demand = "i_understand_i_can_update_eui64_only_once_and_i_still_want_to_do_it"
        backups[0].network_info.stack_specific["ezsp"][demand] = True
        await application.backups.restore_backup(backups[0], create_new=False)
        await application.load_network_info(load_devices=True)
        now, then = application.state.network_info, backups[0].network_info
        for field in ("pan_id", "extended_pan_id", "channel", "tc_link_key"):
            assert getattr(now, field) == getattr(then, field)
        assert now.network_key.key == then.network_key.key
        assert now.network_key.tx_counter >= then.network_key.tx_counter
        # From EZSP 14 on bellows 1.2.1 reads exportLinkKeyByIndex in the order of EZSP 13, and finds no keys.
        keys = [(partner, LINK_KEY)] if version < 14 else []
        assert [(key.partner_ieee, bytes(key.key)) for key in now.key_table] == keys
        # EZSP 8 cannot write children, they have to find back.
        assert now.children == (then.children if version >= 9 else [])
        assert len(then.children) == 1
        assert application.state.node_info.ieee == backups[0].node_info.ieee

    old.run(back_up)
    new.run(restore, start=False)
    assert (broken.failures, fresh.failures) == ([], [])
    assert fresh.node.eui64 == HUB

    moved = Node(new.air, DEVICE, NodeKind.SLEEPY_END_DEVICE)
    moved.restore(child.save())
    moved.resume()
    received: list[bytes] = []

    async def hear(application: ControllerApplication) -> None:
        application.packet_received = lambda packet: received.append(packet.data.serialize())
        await asyncio.sleep(30)
        moved.send(ApsMessage(0, 0x0109, 0x0019, 1, 1, b"still there"))
        await asyncio.sleep(5)

    new.run(hear)
    assert b"still there" in received
    old.loop.close()
    new.loop.close()


@pytest.mark.parametrize("version", PINNED)
def test_bellows_scans_for_networks_and_energy(bench: Bench, version: int) -> None:
    """network_scan finds the other stick's network; energy_scan has a value for each channel."""
    bench.plug(13, eui64=OTHER, url="emulated://other")
    bench.run(nothing, url="emulated://other")
    bench.plug(version)

    async def scan(application: ControllerApplication) -> None:
        channels = zigpy.types.Channels.from_channel_list([11, 15, 20])
        found = [beacon async for beacon in application.network_scan(channels=channels, duration_exp=3)]
        other = bench.sticks[0].node.network
        assert other is not None
        assert [(beacon.channel, beacon.pan_id) for beacon in found] == [(15, other.pan_id)]
        energy = await application.energy_scan(channels=channels, duration_exp=2, count=1)
        assert sorted(energy) == [11, 15, 20]

    bench.run(scan)


@pytest.mark.parametrize("version", PINNED)
def test_zigpy_moves_the_network_to_another_channel(bench: Bench, version: int) -> None:
    """The NCP is told by a ZDO request to itself; device and NCP meet again on channel 20."""
    stick = bench.plug(version)
    device = Node(bench.air, DEVICE, NodeKind.ROUTER)

    async def move(application: ControllerApplication) -> None:
        await application.permit(60)
        device.join(link_key=b"ZigBeeAlliance09")
        await asyncio.sleep(20)
        await application.move_network_to_channel(20)
        assert application.state.network_info.channel == 20
        await asyncio.sleep(10)  # a node moves when the broadcast has had its time to get round

    bench.run(move)
    assert stick.node.network is not None
    assert device.network is not None
    assert (stick.node.network.channel, device.network.channel) == (20, 20)


@pytest.mark.parametrize("version", PINNED)
def test_zigpy_captures_packets(bench: Bench, version: int) -> None:
    """A second stick is the sniffer: zigpy's packet_capture yields frames with the FCS that was on the air."""
    bench.plug(version, eui64=OTHER, url="emulated://sniffer")
    bench.plug(13)
    on_air: list[bytes] = []
    captured: list[Any] = []

    async def both(hub: ControllerApplication) -> None:
        sniffer = ControllerApplication(settings("emulated://sniffer", False))
        await sniffer.connect()

        async def capture() -> None:
            async for packet in sniffer.packet_capture(channel=15):
                captured.append(packet)

        task = asyncio.ensure_future(capture())
        await asyncio.sleep(1)
        bench.air.add_tap(lambda time_us, psdu, channel, page, rssi, lqi: on_air.append(psdu))
        captured.clear()
        await hub.permit(1)
        await asyncio.sleep(1)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        await sniffer.shutdown()

    bench.run(both)
    assert [packet.data + packet.compute_fcs() for packet in captured] == on_air
    assert len(captured) > 0


@pytest.mark.parametrize("version", PINNED)
def test_bellows_leaves_and_forms_anew(bench: Bench, version: int) -> None:
    """leaveNetwork ends in NETWORK_DOWN; the next start forms another network."""
    bench.plug(version)
    found: list[tuple[Any, ...]] = []

    async def leave(application: ControllerApplication) -> None:
        found.append(network(application))
        await application._ezsp.leaveNetwork()

    bench.run(leave)
    bench.run(leave)
    assert found[0] != found[1]


def test_bellows_finds_the_network_after_a_power_cycle_with_a_file(bench: Bench, tmp_path: Path) -> None:
    """The stick is pulled out and put back: its tokens are in the file."""
    stick = bench.plug(13, nv=NvStore(tmp_path / "stick.json"))
    found: list[tuple[Any, ...]] = []

    async def note(application: ControllerApplication) -> None:
        found.append(network(application))

    bench.run(note)
    stick.power_cycle()
    bench.run(note)
    assert found[0] == found[1]


def test_bellows_notices_a_reset_of_the_stick(bench: Bench) -> None:
    """An unsolicited RSTACK is a lost connection to bellows."""
    stick = bench.plug(13)
    lost: list[object] = []

    async def pull(application: ControllerApplication) -> None:
        application.connection_lost = lost.append
        stick.reset(0x03)
        await asyncio.sleep(1)

    bench.run(pull)
    assert repr(lost[0]) == "<NcpFailure(code=<NcpResetCode.RESET_WATCHDOG: 3>)>"


def test_what_the_stick_refuses_fails_the_bench() -> None:
    """A command that the NCP does not know raises in bellows, and is in `failures` for the rig to find."""
    bench = Bench()
    stick = bench.plug(13)

    async def ask(application: ControllerApplication) -> None:
        with pytest.raises(InvalidCommandError):
            await application._ezsp.sendLinkPowerDeltaRequest()

    with contextlib.closing(bench.loop):
        bench.run(ask)
    assert stick.failures == [
        "the emulated NCP does not know sendLinkPowerDeltaRequest (0x00F7, EZSP 13); the host got invalidCommand"
    ]
