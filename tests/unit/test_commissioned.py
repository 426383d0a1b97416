"""The commissioned state: a HAN that was joined once goes on in another run, whatever carries its members."""

from __future__ import annotations

import asyncio
import copy
import json
import random
import re
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import pytest
import yaml

from harness import RigError, minutes, open_rig
from harness.clock import VirtualLoop
from harness.emulation.host import MemberNode
from harness.errors import RemoteProtocolError
from harness.rig.commissioned import (
    SETTLED_AFTER,
    Commissioned,
    commission,
    commissioned,
    load_commissioned,
    save_commissioned,
)
from harness.rig.images import make_image
from harness.rig.open import Rig
from harness.rig.schema import RigFile, load_rig
from harness.wire.aps import open_aps, parse_aps
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
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


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return a function that gives one of the three kinds of rig, commissioned; each is made once."""
    known: dict[str, Made] = {}

    def make(carrier: str) -> Made:
        if carrier not in known:
            known[carrier] = _make(carrier, tmp_path_factory.mktemp("rig"))
        return known[carrier]

    return make


def _make(carrier: str, folder: Path) -> Made:
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


# --- the state as a value ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", CARRIERS)
def test_what_is_saved_is_what_is_loaded(carrier: str, made: Callable[[str], Made], tmp_path: Path) -> None:
    """The state is the same value after it was a file, and all members of the rig are in it."""
    state = made(carrier).state
    path = tmp_path / "state.json"
    save_commissioned(state, path)
    assert load_commissioned(path) == state
    assert list(state.members) == list(made(carrier).file.members)
    save_commissioned(state, path)
    assert load_commissioned(path) == state, "a second time over the first"


def test_only_its_owner_reads_the_file(made: Callable[[str], Made], tmp_path: Path) -> None:
    """It holds keys: mode 0600, even where a file that all can read was there before; nothing is left beside it."""
    path = tmp_path / "state.json"
    for name in ("state.json", "state.json.new"):
        (tmp_path / name).write_text("of an earlier run")
        (tmp_path / name).chmod(0o644)
    save_commissioned(made("nodes only").state, path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [each.name for each in tmp_path.iterdir()] == ["state.json"]


def test_no_key_shows_when_a_state_is_printed(made: Callable[[str], Made]) -> None:
    """As a failing test prints its fixtures."""
    assert repr(made("nodes only").state) == "Commissioned(rig='emulated-devices')"


def test_a_file_that_cannot_be_written_is_one_sentence(made: Callable[[str], Made], tmp_path: Path) -> None:
    """A folder that is not there names itself."""
    with pytest.raises(RigError, match=r"nowhere/state\.json: cannot be written \(No such file"):
        save_commissioned(made("nodes only").state, tmp_path / "nowhere" / "state.json")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "cannot be read (No such file or directory)"),
        ("", "is damaged or cut short: it is no JSON"),
        ('{"format": "harness.commissioned/1", "rig": "a", "mem', "is damaged or cut short: it is no JSON"),
        ("[" * 100_000, "is damaged or cut short: it is no JSON"),
        ("[]", "is not a harness.commissioned/1 file"),
        ('{"format": "harness.commissioned/2"}', "is not a harness.commissioned/1 file"),
        ('{"format": "harness.commissioned/1", "rig": "a"}', "has no rig, or no members"),
        ('{"format": "harness.commissioned/1", "members": {}}', "has no rig, or no members"),
        (
            '{"format": "harness.commissioned/1", "rig": "a", "members": {"hub": 1}}',
            "members: each is a mapping",
        ),
    ],
)
def test_a_file_that_is_no_state_is_one_sentence(content: str | None, said: str, tmp_path: Path) -> None:
    """Missing, cut short, or something else: RigError with the file's name."""
    path = tmp_path / "state.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(RigError) as caught:
        load_commissioned(path)
    assert str(caught.value) == f"{path}: {said}"


def damaged(state: Commissioned, at: str, value: Any) -> Commissioned:
    """The state with another value at a dotted place; without the place where the value is ... ."""
    members: dict[str, Any] = copy.deepcopy(dict(state.members))
    holder: Any = members
    *above, last = at.split(".")
    for name in above:
        holder = holder[int(name) if isinstance(holder, list) else name]
    if value is ...:
        del holder[last]
    else:
        holder[last] = value
    return Commissioned(state.rig, members)


@pytest.mark.parametrize(
    ("carrier", "at", "value", "field"),
    [
        ("nodes only", "esme.node", ..., "node"),
        ("nodes only", "esme.node", [], "node"),
        ("nodes only", "esme.behaviour", ..., "behaviour"),
        ("nodes only", "esme.node.short", ..., "short"),
        ("nodes only", "esme.node.short", "0x1234", "short"),
        ("nodes only", "esme.node.nwk_counter", None, "nwk_counter"),
        ("nodes only", "esme.node.link_keys.0.key", "KEY", "link_keys"),
        ("nodes only", "esme.node.link_keys.0.partner", ..., "link_keys"),
        ("nodes only", "esme.node.network.network_key", "KEY", "network"),
        ("nodes only", "esme.node.network.colour", 1, "network"),
        ("nodes only", "esme.node.kind", "KEY", "kind"),
        ("nodes only", "esme.node.eui64", "00-0D-6F-00-0B-7A-11-02", "00-0D-6F-00-0B-7A-11-02"),
        ("nodes only", "esme.behaviour.keyed", ..., "keyed"),
        ("nodes only", "hub.behaviour.keyed", 7, "keyed"),
        ("nodes only", "hub.behaviour.devices.0.short", "KEY", "devices[0].short"),
        ("nodes only", "hub.behaviour.log.entries.1.link_key", "KEY", "entries[1].link_key"),
        ("hub by radio", "hub.ncp", ..., "ncp"),
        ("hub by radio", "hub.ncp.security", ["KEY"], "security"),
        ("hub by radio", "hub.ncp.key_table", ..., "key_table"),
        ("hub by radio", "hub.ncp.node.link_keys", "KEY", "link_keys"),
        ("devices by radio", "esme.ncp.boots", "KEY", "boots"),
        ("devices by radio", "esme.behaviour.firmware", ..., "firmware"),
    ],
)
def test_a_damaged_member_is_named_with_its_field_and_no_key_is_shown(
    carrier: str, at: str, value: Any, field: str, made: Callable[[str], Made]
) -> None:
    """Whoever has to mend a state learns where; half a key in a wrong place stays out of the message."""
    half_a_key = "5A5A5A5A5A5A5A5A5A"
    rig = made(carrier)
    wrong = damaged(
        rig.state, at, [half_a_key] if value == ["KEY"] else half_a_key if value == "KEY" else value
    )

    async def work() -> None:
        async with open_rig(rig.path, commissioned=wrong):
            pass

    with pytest.raises(RigError) as caught:
        run(work())
    text = str(caught.value)
    assert text.startswith(f"the commissioned state of {at.partition('.')[0]} cannot be taken: ")
    assert field in text
    if not at.endswith(".short"):  # an address is no secret
        assert half_a_key not in text
    assert not re.search(r"[0-9a-fA-F]{18}", text) or at.endswith(".short")


def test_a_state_of_another_rig_is_refused(made: Callable[[str], Made]) -> None:
    """By its name, by a member that the rig has not, and by a hub that the state has not."""
    state = made("nodes only").state
    for wrong, said in (
        (
            Commissioned("other", state.members),
            "the commissioned state is of the rig other, not of emulated-devices",
        ),
        (
            Commissioned(state.rig, {**state.members, "aunt": {}}),
            "the commissioned state has aunt, which emulated-devices has not",
        ),
        (
            Commissioned(state.rig, {"esme": state.members["esme"]}),
            "the commissioned state lacks hub, the hub of emulated-devices",
        ),
    ):

        async def work(wrong: Commissioned = wrong) -> None:
            async with open_rig(made("nodes only").path, commissioned=wrong):
                pass

        with pytest.raises(RigError) as caught:
            run(work())
        assert str(caught.value) == said


# --- the HAN that goes on ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("carrier", CARRIERS)
def test_all_members_come_up_and_no_key_is_established_again(
    carrier: str, made: Callable[[str], Made]
) -> None:
    """No KeyEstablishment event, and no frame of cluster 0x0800 on the air; every member answers under its key."""
    rig_made = made(carrier)

    async def work() -> tuple[Heard, list[object]]:
        async with open_rig(rig_made.path, commissioned=rig_made.state) as rig:
            heard = listen(rig)
            await all_on(rig, apart=0.0)
            assert rig.now() < 5
            assert all(device.joined and device.keyed for device in rig.devices)
            for device in rig.devices:
                if device.profile.role not in (
                    "ihd",
                    "gsme",
                ):  # the first has no such attribute, the other sleeps
                    assert await device.version(within=120) == device.version_at_start
            rig.check()
            return heard, everything(rig)

    heard, events = run(work())
    assert [event for event in events if isinstance(event, KEY_EVENTS)] == []
    clusters = {frame.cluster for _, frame in heard.aps(rig_made.file) if frame.aux is None}
    assert clusters
    assert KEY_ESTABLISHMENT_CLUSTER not in clusters
    before = {frame.cluster for _, frame in rig_made.heard.aps(rig_made.file) if frame.aux is None}
    assert KEY_ESTABLISHMENT_CLUSTER in before, "or this looks for something that is never there"


@pytest.mark.parametrize("carrier", CARRIERS)
def test_frame_counters_go_on_and_none_is_used_twice(carrier: str, made: Callable[[str], Made]) -> None:
    """A counter used again under the same key would give its keystream away: every one of this run lies above."""
    rig_made = made(carrier)

    async def work() -> Heard:
        async with open_rig(rig_made.path, commissioned=rig_made.state) as rig:
            heard = listen(rig)
            await all_on(rig)
            await rig.sleep(minutes(35))
            rig.check()
            assert replays(rig) == {}
            return heard

    heard = run(work())
    first, second = rig_made.heard.nwk(rig_made.file), heard.nwk(rig_made.file)
    highest: dict[int, int] = {}
    for source, counter, _ in first:
        highest[source] = max(counter, highest.get(source, -1))
    assert set(highest) == {member.eui64 for member in rig_made.file.members.values()}
    for source, counter, _ in second:
        assert counter > highest[source]
    assert {source for source, _, _ in second} == set(highest), "every member has sent something"
    for frames in (first, second):
        used = [(source, counter) for source, counter, _ in frames]
        assert len(used) == len(set(used))

    used_before, used_after = under_link_keys(rig_made, rig_made.heard), under_link_keys(rig_made, heard)
    assert len(used_before) > 20
    assert len(used_after) > 20
    assert not used_before & used_after


def under_link_keys(rig: Made, heard: Heard) -> set[tuple[bytes, int, int]]:
    """The nonces of frames under link keys that members still have: key, sender and counter."""
    nonces = set()
    eui64s = {frame.src: source for source, _, frame in rig.heard.nwk(rig.file) if frame.src_ieee == source}
    members = [member.eui64 for member in rig.file.members.values() if member.eui64 is not None]
    for short, frame in heard.aps(rig.file):
        if frame.aux is None:
            continue
        sources = [frame.aux.source or eui64s.get(short)] if frame.aux.source else members
        for key in rig.keys:
            for source in sources:
                try:
                    open_aps(frame, key, source)
                except RemoteProtocolError:
                    continue
                nonces.add((key, source, frame.aux.frame_counter))
    return nonces


@pytest.mark.parametrize("carrier", CARRIERS)
def test_an_image_is_fetched_at_once(carrier: str, made: Callable[[str], Made]) -> None:
    """A transfer begins within seconds of the power coming on: nothing has to be joined, agreed or found before."""
    rig_made = made(carrier)

    async def work() -> None:
        async with open_rig(rig_made.path, commissioned=rig_made.state) as rig:
            ppmid = await rig.joined("ppmid")
            image = make_image(random.Random(7))(target=ppmid, size=4096)
            await rig.hub.offer(image, to=ppmid)
            await rig.hub.until_fetched(1024, by=ppmid, within=30)
            await ppmid.until(running=image.version, within=minutes(10))
            rig.check()

    run(work())


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_power_cut_after_it_is_as_any_other(carrier: str, made: Callable[[str], Made]) -> None:
    """Each device, and then the hub, is cut and comes back with its key, and with counters that nobody has seen."""
    rig_made = made(carrier)

    async def work() -> list[object]:
        async with open_rig(rig_made.path, commissioned=rig_made.state) as rig:
            await all_on(rig)
            for name in ("ppmid", "esme", "b4"):
                await rig.device(name).cut_power(30)
            await rig.sleep(60)
            assert replays(rig) == {}
            if isinstance(rig.hub.carrier, MemberNode):
                rig.hub.carrier.power_cut()
                await rig.sleep(30)
                rig.hub.carrier.power_on()
            else:
                await rig.hub.reset_radio()
            for name in ("ppmid", "esme", "b1"):
                device = rig.device(name)
                assert await device.version(within=300) == device.version_at_start
                assert await rig.hub.read(device, 0x0000, 0x0004) == "Harness"
                assert device.keyed
            rig.check()
            return everything(rig)

    assert [event for event in run(work()) if isinstance(event, KEY_EVENTS)] == []


@pytest.mark.parametrize("carrier", CARRIERS)
def test_one_that_is_removed_after_it_joins_anew(carrier: str, made: Callable[[str], Made]) -> None:
    """The hub forgets the device, which leaves; admitted again it joins, and has a link key."""
    rig_made = made(carrier)

    async def work() -> None:
        async with open_rig(rig_made.path, commissioned=rig_made.state) as rig:
            esme = await rig.joined("esme")
            await rig.hub.remove(esme)
            await esme.until(joined=False, within=60)
            await rig.sleep(10)  # that is the hub's word: here it is told, and leaves
            await esme.power_off()
            assert await rig.joined("esme") is esme
            assert esme.keyed
            assert await esme.version() == esme.version_at_start
            rig.check()

    run(work())


@pytest.mark.parametrize("carrier", CARRIERS)
def test_a_state_taken_from_a_han_that_went_on_serves_as_well(
    carrier: str, made: Callable[[str], Made]
) -> None:
    """Commissioned, recalled, and taken again: the third run is as good as the second."""
    rig_made = made(carrier)

    async def again(state: Commissioned, check: bool) -> Commissioned:
        async with open_rig(rig_made.path, commissioned=state) as rig:
            await all_on(rig)
            await rig.sleep(60)
            if check:
                assert await rig.device("esme").version() == rig.device("esme").version_at_start
                assert replays(rig) == {}
            rig.check()
            return commissioned(rig)

    second = run(again(rig_made.state, False))
    assert list(second.members) == list(rig_made.state.members)
    run(again(second, True))


def test_what_the_members_remember_does_not_depend_on_their_carriers(made: Callable[[str], Made]) -> None:
    """Behaviours keep the same fields, partners and kinds over a stick and on a node; only their carriers differ."""
    by_radio, by_node = made("hub by radio").state.members, made("nodes only").state.members

    def of_hub(members: Any) -> Any:
        hub = members["hub"]["behaviour"]
        return (
            list(hub),
            sorted(hub["keyed"]),
            [(entry["eui64"], entry["kind"], entry["joined"]) for entry in hub["log"]["entries"]],
            [known["eui64"] for known in hub["devices"]],
        )

    assert of_hub(by_radio) == of_hub(by_node)
    for name in by_node.keys() - {"hub"}:
        one, other = dict(by_radio[name]["behaviour"]), dict(by_node[name]["behaviour"])
        # The NWK addresses in there are chance; whose they are is not.
        bridges = [kept.pop("bridges", None) for kept in (one, other)]
        assert one == other
        if bridges[0] is not None:
            assert bridges[0]["keyed"] == bridges[1]["keyed"]
    assert {name: sorted(kept) for name, kept in by_node.items()} == {
        name: ["behaviour", "node"] for name in by_node
    }
    assert sorted(by_radio["hub"]) == ["behaviour", "ncp"]


# --- commission -------------------------------------------------------------------------------------------------------


def test_one_that_does_not_join_is_not_in_the_state(tmp_path: Path) -> None:
    """A device out of reach is left out; the others are commissioned, and come up without it."""
    content = yaml.safe_load((REPOSITORY / "rigs" / "emulated-devices.yaml").read_text())
    content["members"] = {name: content["members"][name] for name in ("hub", "ppmid", "esme")}
    content["air"] = {"links": [{"between": [one, "ppmid"], "heard": False} for one in ("hub", "esme")]}
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    state = commission(load_rig(path))
    assert list(state.members) == ["hub", "esme"]

    async def work() -> None:
        async with open_rig(path, commissioned=state) as rig:
            await rig.joined("esme")
            assert not rig.device("ppmid").joined
            with pytest.raises(RemoteProtocolError, match="ppmid has not joined after 600 s"):
                await rig.joined("ppmid")

    run(work())


def test_an_error_of_a_member_ends_a_commissioning(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A state that was made beside an error is none to begin tests with."""
    content = yaml.safe_load((REPOSITORY / "rigs" / "emulated-devices.yaml").read_text())
    content["members"] = {name: content["members"][name] for name in ("hub", "esme")}
    path = tmp_path / "rig.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False))
    joined = Rig.joined

    async def stumble(rig: Rig, name: str) -> Any:
        rig.note(0.0, name, ZeroDivisionError("in a member"))
        return await joined(rig, name)

    monkeypatch.setattr(Rig, "joined", stumble)
    with pytest.raises(ZeroDivisionError, match="in a member"):
        commission(load_rig(path))


def test_commissioning_is_the_same_every_time(made: Callable[[str], Made]) -> None:
    """The same rig and seed give the same state, to the last key and counter."""
    first, second = (json.dumps(commission(made("nodes only").file).members) for _ in range(2))
    assert first == second
