"""Commissioned state: what a HAN's members remember of having joined it, as a value that can be saved and loaded."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from harness.emulation.host import MemberNode
from harness.errors import LocalProtocolError, RemoteProtocolError, RigError
from harness.rig.hub import Hub
from harness.rig.nouns import Device
from harness.rig.schema import RigFile

if TYPE_CHECKING:
    from harness.rig.open import Rig

# Seconds that the last member gets to find what it looks for at the hub, to have its tunnel opened, and to ask for an
# image once (up to 255 s after its join): from then on the hub knows where to tell it of one.
SETTLED_AFTER = 300.0
FORMAT = "harness.commissioned/1"


@dataclass(frozen=True, slots=True)
class Commissioned:
    """A commissioned HAN: for each member that is part of it, what it and its carrier keep.

    `rig` is the name of the rig, `members` have JSON values by the member's name: network key, link keys, addresses,
    frame and originator counters, Device Log, firmware; of equipment nothing, which keeps its own. It holds keys: it
    belongs where a bench's keys belong.
    """

    rig: str
    members: Mapping[str, Mapping[str, Any]] = field(repr=False)


def commissioned(rig: Rig) -> Commissioned:
    """Return what the members of an open rig that are on the HAN keep of it; those that never joined are not in it."""
    members: dict[str, dict[str, Any]] = {}
    for name, member in rig.members.items():
        behaviour, carrier = member.behaviour, member.carrier
        if isinstance(member, Device) and not member.joined:
            continue
        members[name] = {} if behaviour is None else {"behaviour": behaviour.remember()}
        if isinstance(member, Hub) and behaviour is not None:
            members[name]["commands"] = {"counter": member.wan.counter}
        if isinstance(carrier, MemberNode):
            members[name]["node"] = carrier.save()
        elif rig.bench is not None and name in rig.bench.ncps:
            members[name]["ncp"] = rig.bench.ncps[name].save()
    return Commissioned(rig.name, members)


def commission(file: RigFile) -> Commissioned:
    """Let all devices of a rig join, one after the other, and return what they keep of that.

    One that does not join is not in it: whoever asks for that member is told so. It runs on a loop of its own, so that
    on an emulated rig it leaves no trace in the time of whoever asks.
    """
    from harness.rig.open import Rig, event_loop_for

    async def join() -> Commissioned:
        async with Rig(file) as rig:
            for device in rig.devices:
                with suppress(RemoteProtocolError):
                    await rig.joined(device.name)
            await rig.sleep(SETTLED_AFTER)
            rig.check()
            return commissioned(rig)

    with asyncio.Runner(loop_factory=event_loop_for(file)) as runner:
        return runner.run(join())


def recall(rig: Rig, state: Commissioned) -> None:
    """Give the members of a rig that is being opened what they kept: they go on with it when they get their power.

    RigError, naming the member, for a state of another rig, or one that a member does not understand.
    """
    refuse_foreign(rig.file, state)
    for name, saved in state.members.items():
        try:
            _recall(rig, rig.members[name], saved)
        except LocalProtocolError as error:
            raise RigError(f"the commissioned state of {name} cannot be taken: {error}") from error
    if rig.hub.behaviour is not None:
        shorts = {known.eui64: known.short for known in rig.hub.behaviour.devices}
        for device in rig.devices:
            device.short = shorts.get(device.eui64)


def refuse_foreign(file: RigFile, state: Commissioned) -> None:
    """Raise RigError for a state of another rig than that of `file`."""
    if state.rig != file.name:
        raise RigError(f"the commissioned state is of the rig {state.rig}, not of {file.name}")
    for name in state.members:
        if name not in file.members:
            raise RigError(f"the commissioned state has {name}, which {file.name} has not")
    if file.hub not in state.members:
        raise RigError(f"the commissioned state lacks {file.hub}, the hub of {file.name}")


def _recall(rig: Rig, member: Device | Hub, saved: Mapping[str, Any]) -> None:
    carrier = member.carrier
    if isinstance(carrier, MemberNode):
        carrier.restore(_part(saved, "node"))
    elif rig.bench is not None and member.name in rig.bench.ncps:
        rig.bench.ncps[member.name].restore(_part(saved, "ncp"))
    if member.behaviour is not None:
        member.behaviour.recall(_part(saved, "behaviour"))
        if isinstance(member, Hub):
            counter = _part(saved, "commands").get("counter")
            if type(counter) is not int or counter < 0:
                raise LocalProtocolError("the counter of its commands is no number from 0")
            member.wan.go_on_after(counter)


def _part(saved: Mapping[str, Any], name: str) -> dict[str, Any]:
    part = saved.get(name)
    if not isinstance(part, dict):
        raise LocalProtocolError(f"it has no {name}" if part is None else f"its {name} is no mapping")
    return part


def save_commissioned(state: Commissioned, path: Path) -> None:
    """Write the state to a file that only its owner can read. RigError when it cannot be written."""
    content = json.dumps({"format": FORMAT, "rig": state.rig, "members": state.members}, indent=1)
    beside = path.with_name(path.name + ".new")
    try:
        # A crash of ours leaves the old file whole.
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)  # a file that was there already has the mode that it had
            file.write(content)
        os.replace(beside, path)
    except OSError as error:
        raise RigError(f"{path}: cannot be written ({error.strerror})") from error


def load_commissioned(path: Path) -> Commissioned:
    """Read the state that `save_commissioned` wrote. RigError, which shows no key, for anything else."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise RigError(f"{path}: cannot be read ({error.strerror})") from error
    except (ValueError, RecursionError) as error:
        raise RigError(f"{path}: is damaged or cut short: it is no JSON") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise RigError(f"{path}: is not a {FORMAT} file")
    rig, members = content.get("rig"), content.get("members")
    if not isinstance(rig, str) or not isinstance(members, dict):
        raise RigError(f"{path}: has no rig, or no members")
    if not all(isinstance(member, dict) for member in members.values()):
        raise RigError(f"{path}: members: each is a mapping")
    return Commissioned(rig, members)
