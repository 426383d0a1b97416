"""The commissioned state: a HAN that was joined once goes on in another run, whatever carries its members."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from harness import RigError, minutes, open_rig
from harness.clock import VirtualLoop
from harness.emulation.air import Air
from harness.emulation.host import MemberNode
from harness.emulation.ncp import EmulatedNcp
from harness.emulation.node import NodeKind
from harness.errors import RemoteProtocolError
from harness.members.kinds import DeviceKind
from harness.radio.emulated import plug_in
from harness.radio.membership import NetworkUp
from harness.rig.authority import make_authority, save_authority
from harness.rig.behaviours import hub_of
from harness.rig.bench import network_of
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
from harness.wire.aps import open_aps
from harness.wire.cbke_messages import KEY_ESTABLISHMENT_CLUSTER
from harness.wire.gbcs_payloads import ActivateImageResponse, ExecutionOutcome
from harness.wire.security import link_key_from_install_code
from tests.unit.commissioned_rigs import (
    CARRIERS,
    KEY_EVENTS,
    Heard,
    Made,
    all_on,
    everything,
    listen,
    make,
    replays,
    run,
)
from tests.unit.served import REPOSITORY


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return a function that gives one of the three kinds of rig, commissioned; each is made once."""
    return cache(lambda carrier: make(carrier, tmp_path_factory.mktemp("rig")))


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
        name: ["behaviour", "commands", "node"] if name == "hub" else ["behaviour", "node"]
        for name in by_node
    }
    assert sorted(by_radio["hub"]) == ["behaviour", "commands", "ncp"]


def test_the_next_run_sends_no_command_that_a_device_takes_for_a_replay(made: Callable[[str], Made]) -> None:
    """An ESME keeps the counters that it has seen: CS06 of the third run is answered as in the second."""
    refused = ExecutionOutcome(ActivateImageResponse.NO_IMAGE_HELD, 0x01000000)

    async def again(state: Commissioned) -> Commissioned:
        async with open_rig(made("nodes only").path, commissioned=state) as rig:
            esme = await rig.joined("esme")
            counter = await rig.hub.wan.activate(bytes(32), on=esme)
            outcome = await rig.hub.wan.until(ExecutionOutcome, counter=counter, within=minutes(5))
            assert outcome == replace(refused, firmware_version=esme.version_at_start)
            rig.check()
            return commissioned(rig)

    second = run(again(made("nodes only").state))
    assert second.members["hub"]["commands"] == {"counter": 1}
    third = run(again(second))
    assert third.members["hub"]["commands"] == {"counter": 2}


def test_originator_counters_rise_from_session_to_session_on_a_real_bench(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its devices keep their flash; an emulated rig begins at 0, so that it says the same in every run."""
    file = real_rig(tmp_path, "hub", "esme")
    started = []
    for now in (1_900_000_000.0, 1_900_000_001.0):
        monkeypatch.setattr("time.time", lambda now=now: now)
        started.append(Rig(file).hub.wan.counter)
    assert started[0] > 0
    assert started[1] - started[0] == 65536
    assert Rig(load_rig(REPOSITORY / "rigs" / "emulated-devices.yaml")).hub.wan.counter == 0


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


def test_the_han_of_a_hub_by_equipment_is_commissioned_and_taken_up_again(tmp_path: Path) -> None:
    """Its operator admits the devices; what they keep goes on, and of the hub there is nothing to keep."""
    # The hub and the sticks stand for those of a bench, on an emulated air that the rig knows nothing of.
    file = real_rig(tmp_path, "hub", "ppmid")
    operated = hub_of(file)
    with pytest.raises(RigError, match="hub is by equipment: this bench has no way to its WAN side"):
        Rig(file).hub.played()

    async def work() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualLoop)
        air = Air(seed=1)
        loop.attach(air)
        settings = file.members["ppmid"]
        assert settings.eui64 is not None
        assert settings.install_code is not None
        assert settings.radio is not None
        plug_in(loop, settings.radio, EmulatedNcp(air, settings.eui64, ezsp_version=13), air)
        hub = MemberNode(
            air,
            operated,
            eui64=file.members["hub"].eui64 or 0,
            kind=NodeKind.COORDINATOR,
            network=network_of(file),
            on_event=lambda now, event: None,
        )
        hub.power_on()
        link_key = link_key_from_install_code(settings.install_code)
        hub.run(operated.admit(settings.eui64, DeviceKind.PPMID, link_key, 600.0, 0.0))
        async with Rig(file) as rig:
            await rig.joined("ppmid")
            await rig.sleep(SETTLED_AFTER)
            state = commissioned(rig)
            rig.check()
        assert {name: list(kept) for name, kept in state.members.items()} == {
            "hub": [],
            "ppmid": ["behaviour"],
        }
        save_commissioned(state, tmp_path / "state.json")
        async with Rig(file, commissioned=load_commissioned(tmp_path / "state.json")) as rig:
            ppmid = await rig.joined("ppmid")
            assert ppmid.keyed
            await rig.sleep(SETTLED_AFTER)
            events = [type(event) for event in rig.journal.since(0, "ppmid")]
            assert NetworkUp in events
            assert not set(KEY_EVENTS) & set(events)
            assert operated.keyed == (settings.eui64,)
            rig.check()
        loop.detach(air)

    run(work())


def real_rig(folder: Path, *members: str) -> RigFile:
    """A real rig with these of the standing one's members: its hub by equipment, the devices played through sticks."""
    content = yaml.safe_load((REPOSITORY / "rigs" / "emulated-devices.yaml").read_text())
    content["members"] = {name: content["members"][name] for name in members}
    hub = content["members"]["hub"]
    del hub["radio"], hub["ncp"]
    hub["by"] = "equipment"
    for name in members[1:]:
        content["members"][name] |= {"by": "radio", "radio": f"/dev/{name}"}
    save_authority(make_authority(random.Random(1).randbytes), folder / "ca.json")
    path = folder / "rig.yaml"
    path.write_text(yaml.safe_dump(content | {"authority": "ca.json"}, sort_keys=False))
    file = load_rig(path)
    # Their ports are emulated ones in truth: that is said after the file was checked.
    played = {
        name: file.members[name].model_copy(update={"radio": f"emulated://{name}"}) for name in members[1:]
    }
    return file.model_copy(update={"members": {**file.members, **played}})


def test_commissioning_is_the_same_every_time(made: Callable[[str], Made]) -> None:
    """The same rig and seed give the same state, to the last key and counter."""
    first, second = (json.dumps(commission(made("nodes only").file).members) for _ in range(2))
    assert first == second
