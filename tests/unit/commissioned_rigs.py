"""Rigs that were commissioned, whatever carries their members, and what was on their air meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import yaml

from harness.clock import VirtualLoop
from harness.rig.commissioned import (
    SETTLED_AFTER,
    Commissioned,
    commissioned,
)
from harness.rig.open import Rig
from harness.rig.schema import RigFile, load_rig
from harness.wire.aps import parse_aps
from harness.wire.cbke_values import KeyEstablished, KeyEstablishmentFailed, KeyRejected
from harness.wire.mac import FrameType, parse_mac
from harness.wire.nwk import FrameType as NwkFrameType
from harness.wire.nwk import open_nwk, parse_nwk
from tests.unit.served import REPOSITORY

CARRIERS = ("hub by radio", "devices by radio", "nodes only")
KEY_EVENTS = (KeyEstablished, KeyRejected, KeyEstablishmentFailed)
_Result = TypeVar("_Result")


def run(work: Coroutine[Any, Any, _Result]) -> _Result:
    """Run it on virtual time."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(work)


class Heard(NamedTuple):
    """What was on the air: frames as they were, and those that the network key opens, by sender."""

    psdus: list[bytes]

    def nwk(self, file: RigFile) -> list[tuple[int, int, Any]]:
        """Each secured NWK frame once: the EUI-64 that secured it, its frame counter, and the frame, opened."""
        frames = []
        macs = map(parse_mac, self.psdus)
        # What is sent again, by the MAC or by a layer above it, is the same octets.
        for payload in dict.fromkeys(
            mac.payload for mac in macs if mac.kind == FrameType.DATA and mac.payload
        ):
            frame = parse_nwk(payload)
            if frame.aux is not None and frame.aux.source is not None:
                opened = open_nwk(frame, file.network_key)
                frames.append((frame.aux.source, frame.aux.frame_counter, opened))
        return frames

    def aps(self, file: RigFile) -> list[tuple[int, Any]]:
        """Each APS frame: who sent it, by its short address, and the frame, as it was under the network key."""
        return [
            (frame.src, parse_aps(frame.payload))
            for _, _, frame in self.nwk(file)
            if frame.kind == NwkFrameType.DATA
        ]


def listen(rig: Rig) -> Heard:
    """Write down what is on the air of a rig from now on."""
    heard = Heard([])
    rig.air.add_tap(lambda time_us, psdu, *rest: heard.psdus.append(psdu))
    return heard


def nodes(rig: Rig) -> dict[str, Any]:
    """The node of each member, its own or its NCP's."""
    assert rig.bench is not None
    own = {name: member.node for name, member in rig.bench.nodes.items()}
    return own | {name: ncp.node for name, ncp in rig.bench.ncps.items()}


class Made(NamedTuple):
    """A rig that was commissioned, what was on its air meanwhile, and the keys that its members had in the end."""

    path: Path
    file: RigFile
    state: Commissioned
    heard: Heard
    keys: frozenset[bytes]


def make(carrier: str, folder: Path) -> Made:
    """Commission a rig whose members are carried so, in a file of that folder."""
    standing = "emulated-hub" if carrier == "devices by radio" else "emulated-devices"
    content = yaml.safe_load((REPOSITORY / "rigs" / f"{standing}.yaml").read_text())
    if carrier == "nodes only":
        del content["members"]["hub"]["radio"], content["members"]["hub"]["ncp"]
        content["members"]["hub"]["by"] = "emulation"
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    file = load_rig(path)

    async def work() -> tuple[Commissioned, Heard, frozenset[bytes]]:
        async with Rig(file) as rig:
            heard = listen(rig)
            for device in rig.devices:
                await rig.joined(device.name)
            await rig.sleep(SETTLED_AFTER)
            state = commissioned(rig)
            # What is said after it was taken must not clash with the run after either.
            await rig.sleep(5)
            rig.check()
            keys = frozenset(entry.key for node in nodes(rig).values() for entry in node.link_keys.values())
        return state, heard, keys

    return Made(path, file, *run(work()))


async def all_on(rig: Rig, apart: float = 5.0) -> None:
    """Give every member its power, and wait until it is back.

    Some seconds apart: where all speak at once, one frame overtakes another, and is refused for its counter.
    """
    for device in rig.devices:
        await rig.joined(device.name)
        await rig.sleep(apart)


def everything(rig: Rig) -> list[object]:
    """All events of all members."""
    return [event for name in rig.members for event in rig.journal.since(0, name)]


def replays(rig: Rig) -> dict[str, int]:
    """How many frames each node refused for their counter or key, where there were any."""
    refused = {
        name: node.counters.nwk_counter_failures
        + node.counters.aps_counter_failures
        + node.counters.nwk_decryption_failures
        + node.counters.aps_decryption_failures
        + node.counters.link_key_missing
        for name, node in nodes(rig).items()
    }
    return {name: count for name, count in refused.items() if count}
