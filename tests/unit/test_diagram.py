"""Tests of sequence diagrams: text, SVG and Mermaid of the same steps."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.evidence.diagram import Arrow, Note, as_mermaid, as_svg, as_text, fold, lifelines
from harness.evidence.report import Bench, Report

SVG = "{http://www.w3.org/2000/svg}"

STEPS = [
    Arrow(0.0, "WAN", "hub", "image 0x00000002 for b3", "image"),
    Note(0.25, "hub", "keeps 0x00000002 for b3", "image"),
    Arrow(1.5, "b3", "hub", "Image Block Request", "image"),
    Arrow(1.75, "b3", "hub", "Image Block Request", "image"),
    Arrow(2.0, "b3", "hub", "Image Block Request", "image"),
    Note(2.5, "b3", "power off", "failure"),
    Arrow(63.0, "hub", "b3", "CS06 Activate Firmware", "lost"),
]

texts = st.text(max_size=120)
names = st.text(max_size=30)
kinds = st.sampled_from(["message", "image", "join", "failure", "lost"])
seconds = st.floats(min_value=0, max_value=1e9)
steps = st.lists(
    st.one_of(
        st.builds(Arrow, seconds, names, names, texts, kinds), st.builds(Note, seconds, names, texts, kinds)
    ),
    max_size=12,
)


def test_a_terminal_gets_a_ladder():
    """A line a step: its seconds, its arrow between the lifelines, what it says; equal steps are one with a count."""
    assert as_text(STEPS, ["WAN", "hub", "b3"], width=92) == (
        "            WAN           hub           b3\n"
        "     0.000  ├────────────▶│             │             image 0x00000002 for b3\n"
        "     0.250  │             ●             │             keeps 0x00000002 for b3\n"
        "     1.500  │             │◀────────────┤             Image Block Request (3 times, until\n"
        "            │             │             │             2.000 s)\n"
        "     2.500  │             │             ■             power off\n"
        "    63.000  │             ├╌╌╌╌╌╌╌╌╌╌╌╌x│             CS06 Activate Firmware\n"
    )


def test_an_arrow_passes_over_the_lifelines_between():
    """Who is between two that speak is seen to have no part in it."""
    drawn = as_text([Arrow(0.0, "c", "a", "over b")], ["a", "b", "c"], width=60)
    assert drawn.splitlines()[1] == "     0.000  │◀───┼────┤    over b"


def test_the_last_steps_alone_are_drawn_when_asked():
    """A reader of a failure gets its end, and is told how much came before."""
    drawn = as_text(STEPS, last=2)
    assert "(3 steps before)" in drawn
    assert "power off" in drawn
    assert "Image Block Request" not in drawn


def test_mermaid_gets_its_own_text():
    """Parties have aliases, as Mermaid takes few names as they are; a lost arrow ends in a cross."""
    assert as_mermaid(
        [*STEPS[:2], STEPS[-1], Note(64.0, "b3", "a; b <c> #1\nend")], ["WAN", "hub", "b3"]
    ) == (
        "sequenceDiagram\n"
        "    participant p0 as WAN\n"
        "    participant p1 as hub\n"
        "    participant p2 as b3\n"
        "    p0->>p1: 0.000 s: image 0x00000002 for b3\n"
        "    Note over p1: 0.250 s: keeps 0x00000002 for b3\n"
        "    p1-xp2: 63.000 s: CS06 Activate Firmware\n"
        "    Note over p2: 64.000 s: a#59; b #60;c#62; #35;1 end\n"
    )


def test_the_svg_has_every_party_and_every_step():
    """Names above and below, a group a row with its kind, an arrow from the one lifeline to the other."""
    root = ElementTree.fromstring(as_svg(STEPS, ["WAN", "hub", "b3"], title="option <A> & more"))
    assert root.findtext(f"{SVG}title") == "option <A> & more"
    boxed = [text.text for text in root.iter(f"{SVG}text") if text.get("class") == "name"]
    assert boxed == ["WAN", "hub", "b3"] * 2
    rows = [group.get("class") for group in root.iter(f"{SVG}g")]
    assert rows == ["image", "image", "image", "failure", "lost"]
    said = [group.findall(f"{SVG}text")[-1].text for group in root.iter(f"{SVG}g")]
    assert said[2] == "Image Block Request (3 times, until 2.000 s)"
    lives = [path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == "life"]
    wan, hub, _ = (re.match(r"M(\d+) ", life)[1] for life in lives)
    first = next(path.get("d") for path in root.iter(f"{SVG}path") if path.get("class") == "arrow")
    assert re.fullmatch(rf"M{wan} \d+H{int(hub) - 7}", first)


def test_the_svg_needs_nothing_beside_it():
    """No script, no link, no font or style from elsewhere; dark and light are the reader's."""
    drawn = as_svg(STEPS)
    assert re.findall(r"(?:href|src|url\(|@import|<script)", drawn) == []
    assert re.findall(r"https?://[^\"]*", drawn) == ["http://www.w3.org/2000/svg"]
    assert "prefers-color-scheme: dark" in drawn


def test_what_an_svg_note_says_never_covers_its_mark():
    """A long note that fits on neither side of its lifeline makes the picture wider."""
    root = ElementTree.fromstring(as_svg([Note(0.0, "b", "long " * 18)], ["a", "b"]))
    group = next(root.iter(f"{SVG}g"))
    mark = float(group.find(f"{SVG}circle").get("cx"))
    text = group.findall(f"{SVG}text")[-1]
    start, length = float(text.get("x")), len(text.text) * 6.7
    assert mark + 4.5 < start
    assert start + length <= float(root.get("width")) + 1


@pytest.mark.parametrize("count", [1, 2, 300])
def test_a_run_of_equal_steps_is_one(count):
    """300 blocks are one arrow with a count, and the time of the last."""
    run = [Arrow(float(i), "b1", "hub", "block") for i in range(count)]
    (folded,) = fold(run)
    assert (folded.step, folded.count, folded.until) == (run[0], count, count - 1.0)
    assert ("times" in folded.text) is (count > 1)


def test_steps_that_differ_are_never_folded():
    """Another text, direction or kind, or something between them: each is drawn."""
    apart = [
        Arrow(0.0, "a", "b", "x"),
        Arrow(1.0, "b", "a", "x"),
        Arrow(2.0, "b", "a", "x", "lost"),
        Arrow(3.0, "b", "a", "y", "lost"),
        Note(4.0, "a", "y", "lost"),
        Arrow(5.0, "b", "a", "y", "lost"),
    ]
    assert [item.step for item in fold(apart)] == apart


@settings(max_examples=100, deadline=None)
@given(steps, st.lists(names, max_size=5), st.integers(min_value=0, max_value=200))
def test_no_line_of_text_is_too_wide(given_steps, parties, width):
    """Whatever the names and the texts, a line has `width` columns, or 44 and 4 a party where that is more."""
    parties = list(dict.fromkeys(parties))
    drawn = as_text(given_steps, parties, width=width)
    most = max(width, 44 + 4 * len(lifelines(given_steps, parties)))
    assert all(len(line) <= most for line in drawn.split("\n"))
    assert all(line.isprintable() for line in drawn.split("\n"))
    assert drawn.count("\n") >= 1 + len(fold(given_steps))


@settings(max_examples=100, deadline=None)
@given(steps, st.lists(names, max_size=5), texts)
def test_the_svg_is_always_well_formed(given_steps, parties, title):
    """Whatever the names and the texts, an XML parser reads it, with a row a step and every party."""
    root = ElementTree.fromstring(as_svg(given_steps, parties, title=title))
    assert len(list(root.iter(f"{SVG}g"))) == len(fold(given_steps))
    lives = [path for path in root.iter(f"{SVG}path") if path.get("class") == "life"]
    assert len(lives) == len(lifelines(given_steps, parties))
    for text in root.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= float(root.get("width"))


@settings(max_examples=100, deadline=None)
@given(steps)
def test_no_text_breaks_out_of_its_mermaid_line(given_steps):
    """Mermaid gets a line a party and a step, and nothing that it takes for its own in what they say."""
    lines = as_mermaid(given_steps).split("\n")
    assert len(lines) == 2 + len(lifelines(given_steps)) + len(fold(given_steps))
    for line in lines[1:-1]:
        said = line.partition(" as ")[2] if "participant" in line[:16] else line.partition(": ")[2]
        assert not re.search(r"[<>\"{}%&]", said)
        assert re.sub(r"#\d+;", "", said).count(";") == 0
        assert line.isprintable()


def test_the_report_shows_the_diagram_of_a_test(tmp_path):
    """It is a picture in the report, fetched when its reader opens it, and listed with its hash like all evidence."""
    folder = tmp_path / "tests" / "odd name"
    folder.mkdir(parents=True)
    (folder / "sequence.svg").write_text(as_svg(STEPS))
    report = Report(tmp_path, Bench("bench"), {})
    report.add("t::drawn", "passed", evidence=[folder])
    report.add("t::undrawn", "passed")
    page = report.write().read_text()
    assert re.findall(r'<img loading="lazy" src="([^"]*)"', page) == ["tests/odd%20name/sequence.svg"]
    assert page.count("<details>") == 1
    assert 'href="tests/odd%20name/sequence.svg"' in page
