"""The commissioned state as a value: saved, loaded, and refused with one sentence where it is damaged."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from harness import RigError, open_rig
from harness.rig.commissioned import (
    Commissioned,
    load_commissioned,
    save_commissioned,
)
from tests.unit.commissioned_rigs import (
    CARRIERS,
    Made,
    make,
    run,
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Made]:
    """Return a function that gives one of the three kinds of rig, commissioned; each is made once."""
    return cache(lambda carrier: make(carrier, tmp_path_factory.mktemp("rig")))


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
    place = int(last) if isinstance(holder, list) else last
    if value is ...:
        del holder[place]
    else:
        holder[place] = value
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
        ("nodes only", "esme.behaviour.keyed.0", -1, "keyed"),
        ("nodes only", "esme.behaviour.keyed.0", "KEY", "keyed"),
        ("nodes only", "esme.behaviour.hub.eui64", 1 << 64, "eui64"),
        ("nodes only", "esme.behaviour.hub.endpoints.0", [1, "1"], "an endpoint"),
        ("nodes only", "esme.behaviour.hub.tunnel", 1.5, "tunnel"),
        ("nodes only", "hub.behaviour.keyed", 7, "keyed"),
        ("nodes only", "hub.commands", ..., "commands"),
        ("nodes only", "hub.commands.counter", -1, "counter"),
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
