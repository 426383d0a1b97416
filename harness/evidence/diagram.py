"""Sequence diagrams: who said what to whom, as text for a terminal, as SVG and as Mermaid's text."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

Kind: TypeAlias = Literal["message", "image", "join", "failure", "lost"]
"""What sort of thing happened. One that is `lost` did not arrive, one that is a `failure` brought bad news."""


@dataclass(frozen=True, slots=True)
class Arrow:
    """Something that went from `source` to `target`, two lifelines by name, at so many seconds."""

    seconds: float
    source: str
    target: str
    text: str
    kind: Kind = "message"


@dataclass(frozen=True, slots=True)
class Note:
    """Something that happened at one party, by name, at so many seconds."""

    seconds: float
    party: str
    text: str
    kind: Kind = "message"


Step: TypeAlias = Arrow | Note


@dataclass(frozen=True, slots=True)
class Folded:
    """A run of `count` steps that are equal but for their times: `step` is the first, `until` the last one's."""

    step: Step
    count: int
    until: float

    @property
    def text(self) -> str:
        """What the step says, and how often."""
        if self.count == 1:
            return self.step.text
        return f"{self.step.text} ({self.count} times, until {_seconds(self.until)} s)"


def fold(steps: Iterable[Step]) -> list[Folded]:
    """Fold each run of steps that differ in nothing but their time into one."""
    folded: list[Folded] = []
    for step in steps:
        last = folded[-1] if folded else None
        if last is not None and _what(last.step) == _what(step):
            folded[-1] = Folded(last.step, last.count + 1, step.seconds)
        else:
            folded.append(Folded(step, 1, step.seconds))
    return folded


def lifelines(steps: Iterable[Step], parties: Iterable[str] = ()) -> list[str]:
    """The parties of a diagram: those given, in their order, then whoever else the steps name."""
    names = dict.fromkeys(parties)
    for step in steps:
        names.update(dict.fromkeys(_parties(step)))
    return list(names)


def _parties(step: Step) -> tuple[str, ...]:
    return (step.source, step.target) if isinstance(step, Arrow) else (step.party,)


def _what(step: Step) -> tuple[object, ...]:
    return (type(step), *_parties(step), step.text, step.kind)


def _seconds(seconds: float) -> str:
    return f"{seconds:.3f}"


# --- text for a terminal ----------------------------------------------------------------------------------------------

_TIME: Final = 12  # columns for the seconds
_TEXT: Final = 32  # the least that is left for what is said
_LIFELINE: Final = (4, 14)  # the least and the most columns of a lifeline


def as_text(
    steps: Sequence[Step], parties: Sequence[str] = (), *, width: int = 120, last: int | None = None
) -> str:
    """Draw a ladder: a line a step, its arrow between the lifelines and what it says behind them.

    No line has more than `width` columns, unless the parties need more: 44 and 4 for each of them. `last` draws no more
    than the last so many steps, and says how many it leaves out.
    """
    names = lifelines(steps, parties)
    folded = fold(steps)
    left_out = 0 if last is None else max(0, len(folded) - last)
    least, most = _LIFELINE
    step_width = max(least, min(most, (width - _TIME - _TEXT) // max(1, len(names))))
    room = max(_TEXT, width - _TIME - step_width * len(names))
    places = {name: index * step_width for index, name in enumerate(names)}
    head = "".join(_cut(_plain(name), step_width - 1).ljust(step_width) for name in names)
    lines = [(" " * _TIME + head).rstrip()]
    if left_out:
        lines.append(f"{'':{_TIME}}({left_out} steps before)")
    for item in folded[left_out:]:
        ladder = _rung(item.step, places, step_width * len(names))
        time = f"{_seconds(item.step.seconds):>{_TIME - 2}}  "
        words = _wrapped(_plain(item.text), room)
        lines.append((time[:_TIME] + ladder + words[0]).rstrip())
        blank = _rung(None, places, step_width * len(names))
        lines += [(" " * _TIME + blank + more).rstrip() for more in words[1:]]
    return "\n".join(lines) + "\n"


def _rung(step: Step | None, places: dict[str, int], length: int) -> str:
    """The lifelines of one line, with the arrow or the mark of a step."""
    cells = [" "] * length
    for place in places.values():
        cells[place] = "│"
    if isinstance(step, Note):
        cells[places[step.party]] = "■" if step.kind in ("failure", "lost") else "●"
    elif isinstance(step, Arrow):
        source, target = places[step.source], places[step.target]
        if source == target:
            cells[source] = "↻"
            return "".join(cells)
        low, high = sorted((source, target))
        line = "╌" if step.kind == "lost" else "─"
        for place in range(low + 1, high):
            # An arrow passes over the lifelines between its ends.
            cells[place] = "┼" if cells[place] == "│" else line
        cells[source] = "├" if source < target else "┤"
        head = target - 1 if source < target else target + 1
        cells[head] = "x" if step.kind == "lost" else ("▶" if source < target else "◀")
    return "".join(cells)


def _plain(text: str) -> str:
    """A text whose characters take one column each: whatever else it has stands as a question mark or a space."""
    return "".join(_column(character) for character in text)


def _column(character: str) -> str:
    if character.isspace():
        return " "
    wide = unicodedata.east_asian_width(character) in ("W", "F")
    return character if character.isprintable() and not wide and not _combines(character) else "?"


def _combines(character: str) -> bool:
    return unicodedata.category(character).startswith("M")


def _cut(text: str, length: int) -> str:
    return text if len(text) <= length else text[: length - 1] + "…"


def _wrapped(text: str, room: int) -> list[str]:
    """The text in lines of at most `room` characters, broken between words where it can be; one line at least."""
    lines: list[str] = []
    line = ""
    for word in text.split(" "):
        joined = f"{line} {word}" if line else word
        while len(joined) > room:
            if line:
                lines.append(line)
                line, joined = "", word
            else:
                lines.append(joined[:room])
                joined = joined[room:]
        line = joined
    return [*lines, line]


# --- SVG --------------------------------------------------------------------------------------------------------------

_LEFT: Final = 96  # pixels for the seconds
_COLUMN: Final = 190  # from one lifeline to the next
_ROW: Final = 34
_TOP: Final = 96
_REPEAT: Final = 30  # rows from one line of names to the next, as no reader remembers whose line is whose
_CHARACTER: Final = 6.7  # pixels, of the 11 pixel monospace font
_LONGEST: Final = 96  # characters of a text; all of it is its tooltip

# The colours of templates/report.html.j2.
_STYLE: Final = """
:root { color-scheme: light dark; --ink: #1c2430; --soft: #5b6675; --line: #c3cad4; --paper: #fff; --shade: #f5f7fa;
  --image: #1257a8; --join: #16794c; --fail: #b3261e; }
@media (prefers-color-scheme: dark) { :root { --ink: #e6e9ee; --soft: #9aa5b3; --line: #465160; --paper: #14181e;
  --shade: #1c222a; --image: #7db4f5; --join: #3fb27f; --fail: #f2726a; } }
svg { background: var(--paper); }
text { font: 11px ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; fill: var(--ink); stroke: var(--paper);
  stroke-width: 3px; paint-order: stroke; }
.title { font: 600 15px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
.name { font-weight: 600; font-size: 12px; text-anchor: middle; stroke: none; }
.again, .time { fill: var(--soft); } .again { text-anchor: middle; } .time { text-anchor: end; }
.life { stroke: var(--line); } .box { fill: var(--shade); stroke: var(--line); }
.arrow { stroke: var(--ink); fill: none; stroke-width: 1.3; } .head { fill: var(--ink); }
.mark { fill: var(--paper); stroke: var(--ink); stroke-width: 1.5; }
.image .arrow, .image .mark { stroke: var(--image); } .image .head { fill: var(--image); }
.join .arrow, .join .mark { stroke: var(--join); } .join .head { fill: var(--join); }
.failure .arrow, .lost .arrow, .failure .mark, .lost .mark { stroke: var(--fail); }
.failure .head { fill: var(--fail); } .lost .arrow { stroke-dasharray: 5 4; } .lost .head { stroke: var(--fail); }
.failure text, .lost text { fill: var(--fail); } .failure .time, .lost .time { fill: var(--soft); }
"""


def as_svg(steps: Sequence[Step], parties: Sequence[str] = (), *, title: str = "") -> str:
    """Draw it as an SVG document of its own, which needs nothing beside it and follows the reader's dark or light."""
    names = lifelines(steps, parties)
    folded = fold(steps)
    places = {name: _LEFT + _COLUMN // 2 + index * _COLUMN for index, name in enumerate(names)}
    right = max([_LEFT + _COLUMN * max(2, len(names)), *(_reach(item, places) for item in folded)])
    bottom = _TOP + _ROW * len(folded)
    height = bottom + 56
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{right}" height="{height}" '
        f'viewBox="0 0 {right} {height}" role="img">\n'
        f"<title>{_xml(title or 'Sequence diagram')}</title>\n<style>{_STYLE}</style>\n"
        f'<text class="title" x="16" y="26">{_xml(title)}</text>\n'
    ]
    out += [f'<path class="life" d="M{x} 64V{bottom + 16}"/>\n' for x in places.values()]
    for y in (40, bottom + 16):
        out += [_name_box(name, x, y) for name, x in places.items()]
    for row, item in enumerate(folded):
        y = _TOP + _ROW * row
        if row and row % _REPEAT == 0:
            out += [
                f'<text class="again" x="{x}" y="{y - 18}">{_xml(_cut(name, 24))}</text>\n'
                for name, x in places.items()
            ]
        out.append(_row(item, places, y, right))
    out.append("</svg>\n")
    return "".join(out)


def _name_box(name: str, x: int, y: int) -> str:
    return (
        f'<rect class="box" x="{x - 84}" y="{y}" width="168" height="24" rx="5"/>'
        f'<text class="name" x="{x}" y="{y + 16}">{_titled(name, 22)}</text>\n'
    )


def _long(text: str) -> float:
    """How many pixels a text takes, about."""
    return min(len(text), _LONGEST) * _CHARACTER


def _reach(item: Folded, places: dict[str, int]) -> int:
    """How far to the right a row has to go: what a note says has to stand on one side of its mark."""
    parties = _parties(item.step)
    x, long = places[parties[0]], _long(item.text)
    if len(set(parties)) > 1:
        return _LEFT + round(long)
    return 0 if x - 10 - long >= _LEFT else x + 10 + round(long)


def _row(item: Folded, places: dict[str, int], y: int, right: int) -> str:
    step = item.step
    said = _titled(item.text, _LONGEST)
    time = f'<text class="time" x="{_LEFT - 16}" y="{y + 4}">{_seconds(step.seconds)}</text>'
    long = _long(item.text)
    if isinstance(step, Note) or step.source == step.target:
        x = places[_parties(step)[0]]
        mark = f'<circle class="mark" cx="{x}" cy="{y}" r="4.5"/>'
        # Beside its mark, on the side that has room for it.
        text = _text(x + 10 if x + 10 + long <= right + 1 else x - 10 - long, y + 4, said)
    else:
        source, target = places[step.source], places[step.target]
        way = 1 if target > source else -1
        mark = f'<path class="arrow" d="M{source} {y}H{target - 7 * way}"/>{_head(target, y, way, step.kind)}'
        middle = (source + target) / 2 - long / 2
        text = _text(max(_LEFT, min(middle, right - long)), y - 7, said)
    return f'<g class="{step.kind}">{time}{mark}{text}</g>\n'


def _text(x: float, y: int, said: str) -> str:
    return f'<text x="{x:.0f}" y="{y}">{said}</text>'


def _head(x: int, y: int, way: int, kind: Kind) -> str:
    back = x - 9 * way
    if kind == "lost":
        return f'<path class="head" stroke-width="2" d="M{back - 4} {y - 4}l8 8m0 -8l-8 8"/>'
    return f'<path class="head" d="M{x} {y}L{back} {y - 4}V{y + 4}Z"/>'


def _titled(text: str, length: int) -> str:
    """A text that is cut where it is too long; the whole of it is its tooltip then."""
    cut = _cut(text, length)
    return _xml(cut) if cut == text else f"<title>{_xml(text)}</title>{_xml(cut)}"


def _xml(text: str) -> str:
    """Escape a text for XML 1.0, which cannot name most control characters at all (2.2)."""
    clean = (
        "".join(_named(character) for character in text)
        if not text.isascii() or not text.isprintable()
        else text
    )
    return clean.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;")


def _named(character: str) -> str:
    return character if character.isprintable() else " "


# --- Mermaid ----------------------------------------------------------------------------------------------------------

_MERMAID_ARROWS: Final = {"lost": "-x"}
_MERMAID_PLAIN: Final = frozenset(" .,:()/-+=_'…")


def as_mermaid(steps: Sequence[Step], parties: Sequence[str] = ()) -> str:
    """Write it as a `sequenceDiagram` of Mermaid, for tools that draw it themselves."""
    names = {name: f"p{index}" for index, name in enumerate(lifelines(steps, parties))}
    return "\n".join(_mermaid_lines(names, fold(steps))) + "\n"


def _mermaid_lines(names: dict[str, str], folded: Iterable[Folded]) -> Iterator[str]:
    yield "sequenceDiagram"
    for name, alias in names.items():
        yield f"    participant {alias} as {_mermaid(name)}"
    for item in folded:
        step = item.step
        said = _mermaid(f"{_seconds(step.seconds)} s: {item.text}")
        if isinstance(step, Note):
            yield f"    Note over {names[step.party]}: {said}"
        else:
            arrow = _MERMAID_ARROWS.get(step.kind, "->>")
            yield f"    {names[step.source]}{arrow}{names[step.target]}: {said}"


def _mermaid(text: str) -> str:
    """Escape a text: what Mermaid or HTML might take for its own stands as an entity, #59; for a semicolon."""
    return "".join(
        character
        if character.isalnum() or character in _MERMAID_PLAIN
        else f"#{ord(character)};"
        if character.isprintable()
        else " "
        for character in text
    )
