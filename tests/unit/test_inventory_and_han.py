"""Random sequences of requests, losses, joins, CPL changes and power cuts on an Inventory and the emulated HAN."""

from __future__ import annotations

import pytest
from hypothesis import Phase, example, given, settings
from hypothesis import strategies as st

from harness.dcc.dsp import Ended
from harness.dcc.interface import Outcome
from harness.smi.devices import DeviceStatus
from harness.smi.inventory import Inventory
from harness.smi.options import Mp105
from harness.smi.responses import ActivationOutcome, FirmwareVersionRead
from tests.unit.inventory_han import BAD, DEVICES, LAST, METERS, Step, play, prove

ANY = st.sampled_from(DEVICES)
METER = st.sampled_from(METERS)
IMAGE = st.sampled_from((2, 3, BAD))
ROW = st.sampled_from((1, 2, 3, BAD))
MEMBER = st.sampled_from((*DEVICES, "hub"))
MINUTES = st.sampled_from((1, 10, 45, 90))

SINGLE = st.one_of(
    st.tuples(st.just("read"), ANY),
    st.tuples(st.just("publish"), ANY, ROW),
    st.tuples(st.just("withdraw"), ANY, ROW),
    st.tuples(st.just("update"), ANY, IMAGE),
    st.tuples(st.just("activate"), METER, st.none() | IMAGE),
    st.tuples(st.just("lose_request"), ANY),
    st.tuples(st.just("lose_response"), ANY),
    st.tuples(st.just("wait"), MINUTES),
    st.tuples(st.just("restart"), st.sampled_from(("snapshot", "store"))),
    st.tuples(st.just("dark"), MEMBER),
    st.tuples(st.just("lit"), MEMBER),
    st.tuples(st.just("leave"), ANY),
    st.tuples(st.just("join"), ANY),
    st.tuples(st.just("read_gpf")),
).map(lambda step: [step])


@st.composite
def upgrades(draw: st.DrawFn) -> list[Step]:
    """An upgrade from the CPL to the activation, of which any step may be missing: by chance few would be whole."""
    name, number = draw(ANY), draw(IMAGE)
    whole: list[Step] = [
        ("publish", name, number),
        ("update", name, number),
        ("wait", 45),
        ("withdraw", name, 1),
        *draw(st.sampled_from(([], [("lose_response", name)], [("lose_request", name)]))),
        *([("activate", name, number)] if name in METERS else []),
        ("read", name),
    ]
    return [step for step in whole if draw(st.integers(0, 9))]


# Several lists: Hypothesis makes no long one of its own accord.
PARTS = (st.lists(SINGLE, max_size=4), upgrades().map(lambda steps: [steps]), st.lists(SINGLE, max_size=4))
STEPS = st.tuples(*PARTS, *PARTS).map(
    lambda lists: [step for parts in lists for part in parts for step in part]
)
# So few random ones may miss it.
FAILED_UPGRADE: list[Step] = [
    ("publish", "esme", BAD), ("update", "esme", BAD), ("wait", 45), ("activate", "esme", BAD), ("read", "esme"),
]  # fmt: skip
# The same on every run, so that a commit that changed nothing fails nowhere; by hand others were run.
SAME = settings(
    max_examples=15, deadline=None, derandomize=True, database=None, phases=(Phase.explicit, Phase.generate)
)


@pytest.mark.parametrize("mp105", [option.value for option in Mp105])
def test_whatever_happens_the_inventory_says_what_a_device_ran_and_suspends_it_by_that(mp105):
    """Suspended on no Active row; a version that was run, and the one that is run once read; restarts lose nothing."""

    @SAME
    @given(STEPS)
    @example(FAILED_UPGRADE)
    def check(steps):
        prove(steps, mp105)

    check()


def test_what_is_driven_is_not_idle():
    """A long sequence by hand reaches what the random ones are after: upgrades, losses, readings, joins, the dark."""
    rig = play([
        ("publish", "esme", 2), ("update", "esme", 2), ("wait", 45), ("withdraw", "esme", 1),
        ("lose_response", "esme"), ("activate", "esme", 2), ("restart", "store"), ("read", "esme"),
        ("publish", "gsme", 2), ("lose_request", "gsme"), ("update", "gsme", 2), ("update", "gsme", 2), ("wait", 180),
        ("activate", "gsme", None), ("activate", "gsme", 2), ("read_gpf",), ("withdraw", "gsme", 2),
        ("publish", "ppmid", BAD), ("update", "ppmid", BAD), ("dark", "ppmid"), ("wait", 10), ("lit", "ppmid"),
        ("wait", 45),
        ("publish", "ppmid", 3), ("update", "ppmid", 3), ("dark", "hub"), ("wait", 1), ("lit", "hub"), ("wait", 180),
        ("restart", "snapshot"), ("leave", "esme"), ("join", "esme"), ("read", "esme"),
    ])  # fmt: skip
    start = 0x01000000
    assert rig.ran == {"esme": [start, start + 1], "gsme": [start, start + 1], "ppmid": [start, start + 2]}
    answers = [entry.event.answer for entry in rig.journal if isinstance(entry.event, Ended)]
    ended = [(answer.request.srv, answer.outcome) for answer in answers]
    assert ("11.3", Outcome.TIMED_OUT) in ended
    assert ended[-3:] == [("8.11", Outcome.DONE), ("8.1.1", Outcome.DONE), ("11.2", Outcome.DONE)]
    outcomes = [answer.activation for answer in answers if answer.activation is not None]
    assert outcomes == [ActivationOutcome.HASH_MISMATCH, ActivationOutcome.SUCCESS]
    assert [len(rig.dcc.alerts_of(number)) for number in ("N28", "N29", "N61")] == [2, 1, 1]


# --- the bench itself -------------------------------------------------------------------------------------------------


def forgets(inventory: Inventory) -> None:
    """Break an Inventory: one that was Suspended stays so, whatever version is read and whatever row comes back."""
    settle = inventory.ledger.settle

    def never_back(record, *args, **kwargs):
        return [] if record.status is DeviceStatus.SUSPENDED else settle(record, *args, **kwargs)

    inventory.ledger.settle = never_back


def test_a_broken_inventory_is_found_out_by_a_few_lines():
    """What random steps find is left with no step that could be left out: out of about fifteen."""

    @SAME
    @given(STEPS)
    def check(steps):
        prove(steps, "both", forgets)

    with pytest.raises(AssertionError) as failed:
        check()
    what, told, _ = str(failed.value).split("\n\n")
    assert "that is an Active row, and it is Suspended" in what
    first, *steps = told.splitlines()
    assert first == "with mp105 both, after:"
    assert 2 <= len(steps) <= 6


def test_a_version_that_was_never_run_is_found_out():
    """An Inventory that takes another version than the response to SR11.2 has, and steps before that have no part."""

    def misreads(inventory: Inventory) -> None:
        apply = inventory.apply

        def wrong(event, now):
            if isinstance(event, FirmwareVersionRead):
                event = FirmwareVersionRead(event.device, event.firmware_version + 1)
            return apply(event, now)

        inventory.apply = wrong

    with pytest.raises(AssertionError, match="it never ran that") as failed:
        prove([("wait", 1), ("restart", "store"), ("read", "esme"), ("wait", 1)], spoil=misreads)
    assert "after:\n  read esme\n\n" in str(failed.value)


def test_the_diagram_of_a_failure_is_its_end():
    """The last steps of what a failure was drawn from, whatever came before; lifelines by name."""
    with pytest.raises(AssertionError) as failed:
        play(
            [
                ("publish", "esme", 2), ("update", "esme", 2), ("wait", 180), ("wait", 180), ("activate", "esme", 2),
                ("withdraw", "esme", 2), ("publish", "esme", 2),
            ],
            spoil=forgets,
        )  # fmt: skip
    _, told, drawn = str(failed.value).split("\n\n")
    assert told.splitlines()[-1] == "  publish esme 2"
    head, *ladder = drawn.splitlines()
    assert head.split() == ["WAN", "hub", "esme", "gsme", "ppmid"]
    assert any("CS06 Activate Firmware, for esme" in rung for rung in ladder)
    assert sum(rung[:12].strip() != "" for rung in ladder) <= LAST
