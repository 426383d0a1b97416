"""Devices played over NCPs: they join another's HAN with an install code, and do there what emulated nodes do."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.emulation.node import NodeKind
from harness.evidence.capture import KeyFile, PcapWriter
from harness.members.firmware_values import ActivationEnded
from harness.members.hub_values import WanMessage
from harness.members.kinds import DeviceKind
from harness.members.tunnels import MessageReceived
from harness.radio.runner import DeliveryFailed, RadioLost, RadioRestarted
from harness.wire.application import LinkKeyEstablished
from harness.wire.cbke_values import KeyEstablished
from harness.wire.ota_server import TransferProgressed
from tests.unit.firmware_bench import activated
from tests.unit.joined_han import DEVICES, HUB, NETWORK, VERSIONS, joined_han, link_key, new_image

HOUR = 3600.0


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_device_joins_establishes_its_key_and_runs_the_image_offered(version: int) -> None:
    """From the install code to the new version on each EZSP version; the key of CBKE takes the place of the code's."""
    async with joined_han() as han:
        member = han.add(version=version)
        await han.join(member)
        assert (member.joiner.joined, member.joiner.eui64, member.joiner.last_join_failure) == (
            True,
            DEVICES[0],
            None,
        )
        assert member.joiner.short == member.ncp.node.short
        (established,) = member.of(LinkKeyEstablished)
        assert member.keys == [link_key(member.eui64), established.key]
        assert member.ncp.node.link_keys[HUB].key == established.key
        assert [event.partner for event in member.of(KeyEstablished)] == [HUB]
        han.offer(member, new_image())
        await han.until(lambda: member.behaviour.running_version == 2, 2 * HOUR)
        await han.until(lambda: member.of(ActivationEnded) == [activated(2)], 60.0)
        assert member.joiner.joined


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", [8, 19])
async def test_a_wrong_install_code_does_not_join_and_says_why(version: int) -> None:
    """However often it tries, the network key does not open; with the right key at the hub it is in at the next try."""
    async with joined_han() as han:
        member = han.add(version=version, link_key=link_key(DEVICES[1]))
        await member.joiner.start()
        await member.joiner.power_on()
        await asyncio.sleep(100.0)
        assert not member.joiner.joined
        assert member.joiner.last_join_failure == (
            "network 00-11-22-33-AA-BB-CC-DD on channel 15: not authenticated: "
            "no network key came that the link key opens"
        )
        assert member.events == []
        han.node.node.set_link_key(member.eui64, link_key(DEVICES[1]))
        await han.until(lambda: member.joiner.joined, 60.0)
        assert member.joiner.last_join_failure is None


@pytest.mark.virtual_time
async def test_a_closed_network_is_named_as_the_reason_and_tried_again() -> None:
    """Nobody is let in until the hub opens; then the next attempt, 20 s later at the most, succeeds."""
    async with joined_han() as han:
        han.node.node.permit_joining(0)
        member = han.add()
        await member.joiner.start()
        await member.joiner.power_on()
        await asyncio.sleep(30.0)
        assert member.joiner.last_join_failure == "no network is open on channels [15] (1 networks heard)"
        han.node.node.permit_joining(255)
        await han.until(lambda: member.joiner.joined, 25.0)


@pytest.mark.virtual_time
async def test_only_the_network_asked_for_is_joined() -> None:
    """With another extended PAN ID than the hub's there is no network to join, whoever is open."""
    async with joined_han() as han:
        member = han.add(extended_pan_id=0x1122334455667788)
        fitting = han.add(1, extended_pan_id=NETWORK.extended_pan_id)
        await han.join(fitting)
        han.node.node.permit_joining(255)
        await member.joiner.start()
        await member.joiner.power_on()
        await asyncio.sleep(30.0)
        assert han.node.node.permits_joining
        assert "no network 11-22-33-44-55-66-77-88 is open" in (member.joiner.last_join_failure or "")


@pytest.mark.virtual_time
async def test_without_power_nothing_happens_and_nothing_is_on_the_air() -> None:
    """`start` opens the radio only; `power_cut` makes it silent, and what the behaviour wants sent is not."""
    async with joined_han() as han:
        member = han.add()
        await member.joiner.start()
        await asyncio.sleep(60.0)
        assert (member.events, member.joiner.joined, member.ncp.node.network) == ([], False, None)
        await member.joiner.power_on()
        await han.until(lambda: member.keyed, 60.0)
        await member.joiner.power_cut()
        frames: list[int] = []
        eui64, short = member.eui64, member.ncp.node.short
        han.air.add_tap(lambda time, psdu, *rest: frames.append(time))
        han.node.power_off()
        member.joiner.run([])
        await asyncio.sleep(600.0)
        assert (frames, member.joiner.joined, member.joiner.short) == ([], False, None)
        han.node.power_on()
        await member.joiner.power_on()
        await han.until(lambda: member.joiner.joined, 5.0)
        assert (member.ncp.node.eui64, member.joiner.short) == (eui64, short)


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", [8, 14])
async def test_a_power_cut_in_the_middle_of_a_transfer_is_resumed(version: int) -> None:
    """The device comes back on the network it was on, under the key it had, and asks for the blocks it has not."""
    async with joined_han() as han:
        member = han.add(version=version)
        await han.join(member)
        image = new_image(size=8192)
        han.offer(member, image)
        await han.until(lambda: len(member.behaviour.flash.download.data) > 4096, HOUR)
        await member.joiner.power_cut()
        assert not member.joiner.joined
        had = len(member.behaviour.flash.download.data)
        await asyncio.sleep(300.0)
        assert len(member.behaviour.flash.download.data) == had
        seen = len(han.told)
        await member.joiner.power_on()
        await han.until(lambda: member.behaviour.running_version == 2, 2 * HOUR)
        assert len(member.of(KeyEstablished)) == 1
        served = [event.offset for event in han.told[seen:] if isinstance(event, TransferProgressed)]
        assert served
        assert min(served) > had


@pytest.mark.virtual_time
@pytest.mark.parametrize(
    ("kind", "version"),
    [
        (NodeKind.END_DEVICE, 13),
        (NodeKind.SLEEPY_END_DEVICE, 8),
        (NodeKind.SLEEPY_END_DEVICE, 13),
        (NodeKind.SLEEPY_END_DEVICE, 14),
        (NodeKind.SLEEPY_END_DEVICE, 19),
    ],
)
async def test_an_end_device_does_all_that_too(kind: NodeKind, version: int) -> None:
    """A sleepy one asks its parent for everything that it gets, and is back after its restart by a rejoin."""
    async with joined_han() as han:
        member = han.add(version=version, kind=kind, poll_seconds=5.0)
        await han.join(member)
        node = member.ncp.node
        assert (node.kind, node.mac.receiver_on_when_idle) == (kind, kind == NodeKind.END_DEVICE)
        han.offer(member, new_image())
        await han.until(lambda: member.of(ActivationEnded) == [activated(2)], 2 * HOUR)
        assert member.behaviour.running_version == 2
        member.ncp.commands.clear()
        await asyncio.sleep(HOUR)
        assert member.joiner.joined
        assert (
            member.ncp.commands["pollForData"] < 20
        )  # the NCP polls by itself; the host only says how often


@pytest.mark.virtual_time
async def test_a_sleepy_device_whose_parent_is_gone_finds_it_again() -> None:
    """Polls without an answer: the behaviour is told that the network is down, and up when the parent is back."""
    async with joined_han() as han:
        member = han.add(kind=NodeKind.SLEEPY_END_DEVICE)
        await han.join(member)
        han.node.power_off()
        await han.until(lambda: not member.joiner.joined, 120.0)
        await asyncio.sleep(600.0)
        assert not member.joiner.joined
        han.node.power_on()
        await han.until(lambda: member.joiner.joined, 700.0)
        han.offer(member, new_image())
        await han.until(lambda: member.behaviour.running_version == 2, 2 * HOUR)
        assert len(member.of(KeyEstablished)) == 1


@pytest.mark.virtual_time
async def test_several_devices_join_and_upgrade_at_once_on_one_loop() -> None:
    """Four sticks of four EZSP versions: each is keyed, fetches its image while the others do, and runs it."""
    async with joined_han() as han:
        members = [han.add(index, version) for index, version in enumerate(VERSIONS)]
        await han.join(*members, within=300.0)
        assert len({member.joiner.short for member in members}) == 4
        for member in members:
            han.offer(member, new_image())
        await han.until(lambda: all(member.behaviour.running_version == 2 for member in members), 2 * HOUR)


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", [NodeKind.ROUTER, NodeKind.SLEEPY_END_DEVICE])
@pytest.mark.parametrize("version", [8, 14])
async def test_an_ncp_that_resets_itself_is_recovered(version: int, kind: NodeKind) -> None:
    """A brown-out in mid-transfer: RadioLost, RadioRestarted, the same network under the same key, the image runs."""
    async with joined_han() as han:
        member = han.add(version=version, kind=kind)
        await han.join(member)
        han.offer(member, new_image(size=8192))
        await han.until(lambda: len(member.behaviour.flash.download.data) > 2048, HOUR)
        member.ncp.reset()
        await han.until(lambda: member.of(RadioLost) != [], 5.0)
        assert not member.joiner.joined
        await han.until(lambda: member.joiner.joined, 30.0)
        assert [type(event) for event in member.of(RadioLost, RadioRestarted)] == [RadioLost, RadioRestarted]
        await han.until(lambda: member.behaviour.running_version == 2, 2 * HOUR)
        assert len(member.of(KeyEstablished)) == 1


@pytest.mark.virtual_time
async def test_an_ncp_that_resets_itself_in_the_middle_of_a_join_is_recovered() -> None:
    """Whatever the join had come to, it is begun again, and succeeds."""
    async with joined_han() as han:
        member = han.add(link_key=link_key(DEVICES[0]))
        await member.joiner.start()
        await member.joiner.power_on()
        for delay in (0.02, 0.1, 0.2, 0.3):
            await asyncio.sleep(delay)
            member.ncp.reset()
            await asyncio.sleep(0.01)
        await han.until(lambda: member.keyed, 120.0)


@pytest.mark.virtual_time
@pytest.mark.parametrize("kind", [NodeKind.ROUTER, NodeKind.SLEEPY_END_DEVICE])
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_message_of_1200_octets_crosses_the_tunnel_both_ways(version: int, kind: NodeKind) -> None:
    """In fragments from either end, whole and once."""
    there, back = random.Random(1).randbytes(1200), random.Random(2).randbytes(1200)
    async with joined_han() as han:
        member = han.add(version=version, kind=kind)
        await han.join(member)
        await asyncio.sleep(30.0)
        han.hub.admit(member.eui64, DeviceKind.PPMID, bytes(16), 3600, han.air.now / 1e6)
        assert han.hub.deliver_command(member.eui64, there, han.air.now / 1e6) == []
        han.node.run([])
        member.behaviour.send_message(back, member.joiner.now())
        member.joiner.run([])
        await asyncio.sleep(60.0)
        assert member.of(MessageReceived) == [MessageReceived(HUB, there)]
        sent_up = [event for event in han.told if isinstance(event, WanMessage)]
        assert sent_up == [WanMessage(member.eui64, back)]
        assert member.of(DeliveryFailed) == []


@pytest.mark.virtual_time
async def test_tshark_reads_all_of_it(tmp_path: Path, check_capture: Callable[..., Any]) -> None:
    """With the keys that the carriers name every frame decrypts, and all Smart Energy has APS security."""
    async with joined_han() as han:
        keys = KeyFile(tmp_path)
        han.node.node.on_key = keys.add
        keys.add(NETWORK.network_key, "network key")
        members = [han.add(0, 13), han.add(1, 14, kind=NodeKind.SLEEPY_END_DEVICE)]
        with PcapWriter(tmp_path / "han.pcap") as pcap:
            han.air.add_tap(pcap.frame)
            await han.join(*members, within=300.0)
            for member in members:
                han.offer(member, new_image())
            await han.until(lambda: all(it.behaviour.running_version == 2 for it in members), 2 * HOUR)
            await asyncio.sleep(60.0)
        for member in members:
            for number, key in enumerate(member.keys):
                keys.add(key, f"{member.eui64:016x} {number}")
    capture = check_capture(tmp_path / "han.pcap", tmp_path)
    secured = "zbee_aps.cluster in {0x0019, 0x0025, 0x0704}"
    assert capture.count(secured) > 100
    assert capture.count(f"{secured} && !(zbee_aps.security == 1)") == 0
