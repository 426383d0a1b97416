"""Tests of the options of the Inventory, and of what its rules say of themselves."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from harness.errors import LocalProtocolError
from harness.smi.image_fate import Basis
from harness.smi.options import Options
from harness.smi.rules import RULES

VALUES = {
    "mp105": ["before", "sr11_2", "both"],
    "mp170": ["off", "base", "option_a", "option_b"],
    "ppmid_variant": ["optional", "mandatory"],
    "variant_change": ["refused", "allowed"],
    "mp202": ["off", "on"],
    "smets1_ota": ["refused", "allowed"],
    "secmp0007": ["off", "on"],
}


@pytest.mark.parametrize(("name", "value"), [(name, value) for name in VALUES for value in VALUES[name]])
def test_each_option_takes_each_of_its_values(name, value):
    """Each modification and each of its options is switchable, by its word."""
    assert getattr(Options.of({name: value}), name) == value
    assert Options.of({name: value}) == Options(**{name: value})


@pytest.mark.parametrize("name", VALUES)
def test_an_unknown_value_names_the_option_the_value_and_the_nearest_right_one(name):
    """Bad input: a clear error."""
    wrong = VALUES[name][-1] + "x"
    with pytest.raises(
        LocalProtocolError, match=f"option {name}: '{wrong}' is none of .*; did you mean {VALUES[name][-1]}?"
    ):
        Options.of({name: wrong})


@pytest.mark.parametrize(("name", "message"), [
    ("mp15", "no Inventory option 'mp15'; did you mean mp105?"),
    ("zzz", "no Inventory option 'zzz'; there are mp105, mp170, ppmid_variant"),
])  # fmt: skip
def test_an_unknown_option_is_named_with_the_nearest_right_one(name, message):
    """Bad input: a clear error."""
    with pytest.raises(LocalProtocolError, match=re.escape(message)):
        Options.of({name: "on"})


@pytest.mark.parametrize("version", ["", "four", "4.x", "v"])
def test_a_gbcs_version_has_to_be_one(version):
    """The parameter of AH-17."""
    with pytest.raises(LocalProtocolError, match="no GBCS version"):
        Options(secmp0007_gbcs=version)


def test_yaml_makes_a_boolean_of_off_and_the_message_says_what_is_wanted():
    """A rig file's `mp202: off` is False by YAML 1.1: it is refused, not taken for a value."""
    with pytest.raises(LocalProtocolError, match=r"option mp202: False is none of off \| on"):
        Options(mp202=False)


# --- the rules as data ----------------------------------------------------------------------------------------------


def test_each_rule_says_where_it_comes_from():
    """A source, a sentence and a basis; what a document does not say does not claim to be sourced."""
    assert len(RULES) > 40
    for found in RULES.values():
        assert found.source
        assert found.text.endswith(".")
        assert found.text[0].isupper()
        unsourced = re.search("inferred|general knowledge|not found", found.source)
        assert (found.basis is Basis.ASSUMED) == bool(unsourced), found.id
        assert found.modification == found.id.partition(".")[0]


# What the catalogue of requirements marks as assumed.
ASSUMED = {"LB-04", "LB-07", "LB-08", "SU-11"}


def test_a_rule_is_assumed_where_its_requirement_is():
    """DESIGN.md section 6: one that differs from an assumed requirement is OBSERVED, never failed."""
    assert {name for found in RULES.values() for name in found.requirements} >= ASSUMED
    for found in RULES.values():
        assert not ASSUMED.intersection(found.requirements) or found.basis is Basis.ASSUMED, found.id


def test_each_rule_stands_under_options_that_there_are():
    """The settings under which it holds are data, and each is a real option with real values."""
    for found in RULES.values():
        for name, values in found.when:
            assert set(values) <= set(VALUES[name])
            assert set(values) != set(VALUES[name])
        assert found.modification == "base" or found.when or found.id in UNSWITCHED


# They hold with and without their modification: N52 was raised before MP105; what a failed alert says was never told.
UNSWITCHED = {"mp105.gpf_shows_mismatch", "mp170.failure_says_no_version"}


@pytest.mark.parametrize(("options", "holding"), [
    ({"mp105": "before"}, {"mp105.gpf_shows_mismatch"}),
    ({"mp105": "sr11_2"}, {"mp105.gpf_shows_mismatch", "mp105.read_while_suspended", "mp105.version_read"}),
    ({"mp105": "both"}, {
        "mp105.gpf_shows_mismatch", "mp105.read_while_suspended", "mp105.version_read", "mp105.version_in_any_outcome",
    }),
])  # fmt: skip
def test_an_option_selects_the_rules_of_its_modification(options, holding):
    """The table can be listed for a run: which rules were on."""
    chosen = Options.of(options)
    assert {one.id for one in RULES.values() if one.modification == "mp105" and one.holds(chosen)} == holding


def test_every_requirement_of_the_inventory_has_a_rule_and_a_test():
    """LB, SU and AH-09 on: a rule or a test names each of them; a rule does for all that are under_test: smi."""
    smi = {f"LB-{n:02}" for n in (1, 2, 3, 4, 6, 7, 8, 10)} | {"AH-09", "AH-10", "AH-13"}
    smi |= {f"SU-{n:02}" for n in (1, 2, 3, 4, 5, 6, 8, 9, 10, 11)} | {"FW-14", "FW-15"}
    ruled = {requirement for found in RULES.values() for requirement in found.requirements}
    assert smi <= ruled
    tests = "".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_smi_mp*.py")
    )
    tests += (Path(__file__).parent / "test_smi_requests.py").read_text(encoding="utf-8")
    wanted = smi | {f"LB-{n:02}" for n in range(1, 12)} | {f"SU-{n:02}" for n in range(1, 14)}
    wanted |= {f"AH-{n:02}" for n in (1, 2, *range(9, 18))}
    assert {requirement for requirement in wanted if requirement not in tests} == set()
