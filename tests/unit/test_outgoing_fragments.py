"""Long messages in APS fragments through an NCP: hub to device and back, with losses, as tshark reads them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from harness.emulation.node import NodeKind, SentStatus
from harness.errors import LocalProtocolError
from harness.evidence.capture import KeyFile, PcapWriter
from harness.radio.coordinator import DeliveryFailed
from tests.unit.carried import PPMID, han, message
from tests.unit.premises import HUB, Premises
from tests.unit.premises import message as premises_message

PINNED = (8, 13, 14, 19)
LONG = bytes(index * 7 & 0xFF for index in range(1500))
# TransferData (0x00) of tunnel 1 (ZSE 07-5356-19 D.6.2.4.3), whose content is nobody's.
TRANSFER = bytes.fromhex("0105000100") + LONG
BLOCK = 71  # octets: 82 that a frame holds, less 9 for security and 2 for the fragment's header


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_tunnelled_message_goes_down_in_fragments_and_tshark_puts_it_together(
    version: int, tmp_path: Path, check_capture: Callable[..., Any]
) -> None:
    """1500 octets from hub to device: 22 blocks under one APS counter, each acknowledged before the next is sent."""
    async with han(asyncio.get_running_loop(), version) as bench:
        keys = KeyFile(tmp_path)
        bench.ncp.node.on_key = bench.member.node.on_key = keys.add
        with PcapWriter(tmp_path / "han.pcap") as pcap:
            bench.air.add_tap(pcap.frame)
            await bench.join()
            bench.down(TRANSFER)
            await asyncio.sleep(30)
        assert bench.device.take() == [TRANSFER]
        assert bench.of(DeliveryFailed) == []
    capture = check_capture(tmp_path / "han.pcap", tmp_path)
    blocks = -(-len(TRANSFER) // BLOCK)
    sent = "zbee_aps.fragmentation == 1 || zbee_aps.fragmentation == 2"
    rows = capture.fields("zbee_aps.type", "zbee_aps.counter", where=f"({sent}) && zbee_nwk.src == 0x0000")
    assert len(rows) == blocks
    assert len({counter for _, counter in rows}) == 1
    assert capture.fields("zbee_aps.reassembled.length", where="zbee_aps.reassembled.length") == [("1505",)]


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", PINNED)
async def test_a_tunnelled_message_comes_up_in_fragments(version: int) -> None:
    """1500 octets from device to hub on each EZSP version, two of them at a time, and once more after 10 s."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        bench.up(LONG)
        bench.up(LONG[::-1])
        await asyncio.sleep(30)
        assert sorted(bench.hub.take()) == sorted([LONG, LONG[::-1]])
        bench.up(LONG)
        await asyncio.sleep(30)
        assert bench.hub.take() == [LONG]


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", [8, 13, 19])
async def test_fragments_survive_losses_both_ways(version: int) -> None:
    """With 5 of 100 frames lost on the air everything arrives, whole and once; no delivery is said to have failed."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        bench.air.set_link(bench.ncp.node.eui64, PPMID, loss=0.05)
        for index in range(3):
            bench.down(bytes([index]) + LONG)
            bench.up(bytes([index]) + LONG)
            await asyncio.sleep(120)
        expected = [bytes([index]) + LONG for index in range(3)]
        assert bench.device.take() == expected
        assert bench.hub.take() == expected
        assert bench.of(DeliveryFailed) == []


@pytest.mark.virtual_time
async def test_a_block_is_tried_again_when_the_ncp_gives_it_up() -> None:
    """A device in a dead spot for 5 s gets the message all the same: the NCP's attempts, and then the carrier's."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        await bench.join()
        bench.air.set_link(bench.ncp.node.eui64, PPMID, heard=False)
        bench.down(LONG)
        await asyncio.sleep(9)
        bench.air.set_link(bench.ncp.node.eui64, PPMID, heard=True)
        await asyncio.sleep(60)
        assert bench.device.take() == [LONG]
        assert bench.of(DeliveryFailed) == []


@pytest.mark.virtual_time
async def test_a_message_to_a_silent_device_fails_after_its_retries() -> None:
    """The event names the message, once; the others are not held up by it for ever."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        await bench.join()
        bench.member.power_off()
        bench.down(LONG)
        await asyncio.sleep(120)
        (failed,) = bench.of(DeliveryFailed)
        assert failed.message == message(failed.message.peer, LONG)


@pytest.mark.virtual_time
async def test_what_just_fits_goes_in_one_frame_and_what_is_too_long_not_at_all() -> None:
    """73 secured octets and 82 open ones are no fragments; without acknowledgement there are none; 1600 is the most."""
    async with han(asyncio.get_running_loop(), 13) as bench:
        await bench.join()
        sent: list[bytes] = []
        bench.air.add_tap(lambda time, psdu, *rest: sent.append(psdu))
        bench.down(LONG[:73])
        await asyncio.sleep(2)
        assert bench.device.take() == [LONG[:73]]
        frames = len(sent)
        bench.down(LONG[:74])
        await asyncio.sleep(2)
        assert bench.device.take() == [LONG[:74]]
        assert len(sent) - frames > frames
        short = bench.member.node.short
        bench.hub.outbox.append(message(short, LONG)._replace(acknowledged=False))
        bench.carrier.run([])
        await asyncio.sleep(2)
        error = bench.events.pop()
        assert isinstance(error, LocalProtocolError)
        assert "1500" in str(error)
        bench.down(bytes(1600))
        await asyncio.sleep(10)
        assert bench.device.take() == [bytes(1600)]
        bench.down(bytes(1601))
        await asyncio.sleep(1)
        error = bench.events.pop()
        assert isinstance(error, LocalProtocolError)
        assert "1601" in str(error)


@pytest.mark.virtual_time
@pytest.mark.parametrize("version", [13, 19])
async def test_a_block_of_no_message_is_left_alone(version: int) -> None:
    """A device that begins in the middle, or with a block too many, gets nothing through, and breaks nothing."""
    async with han(asyncio.get_running_loop(), version) as bench:
        await bench.join()
        node = bench.member.node
        node.send(message(0, b"middle"), block=3, aps_counter=200)
        await asyncio.sleep(30)
        counter = node.send(message(0, b"first"), block=0, blocks=2)
        await asyncio.sleep(1)
        node.send(message(0, b"too many"), block=2, aps_counter=counter)
        await asyncio.sleep(30)
        assert bench.hub.take() == []
        bench.up(LONG)
        await asyncio.sleep(10)
        assert bench.hub.take() == [LONG]


def test_an_acknowledgement_of_the_block_before_does_not_count_for_this_one() -> None:
    """The blocks of a message share its APS counter: a late acknowledgement of block 0 must not deliver block 1."""
    premises = Premises()
    device = premises.member(PPMID, NodeKind.ROUTER, fragment=False)
    hub, told = premises.hub, premises.told
    counter = hub.send(premises_message(device.short, b"zero"), tag=1, block=0, blocks=2)
    premises.run(0.1)
    ((received, *_),) = told[PPMID].of("fragment")
    device.acknowledge_block(received, counter, 0)
    premises.run(0.1)
    assert told[HUB].sent == [(1, SentStatus.DELIVERED)]
    hub.send(premises_message(device.short, b"one"), tag=2, block=1, aps_counter=counter)
    premises.run(0.1)
    device.acknowledge_block(received, counter, 0)
    premises.run(0.1)
    assert told[HUB].sent == [(1, SentStatus.DELIVERED)]
    device.acknowledge_block(received, counter, 1)
    premises.run(0.1)
    assert told[HUB].sent == [(1, SentStatus.DELIVERED), (2, SentStatus.DELIVERED)]
