"""Draws a comparison of campaigns: how many Devices are Suspended at the end of each day, a line a value."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from xml.etree import ElementTree

import pygal
from pygal.style import Style

from harness.smi.campaign_runs import Losses, Outcome

_MOST_LABELS = 20

# pygal 3.1 leaves a hook for its plug-ins in the import system, of a form that Python 3.12 has given up: every import
# that fails, whoever's it is, warns of it. No plug-in is used here.
sys.meta_path[:] = [finder for finder in sys.meta_path if not isinstance(finder, pygal.PluginImportFixer)]


def draw(outcomes: Sequence[Outcome], losses: Losses) -> bytes:
    """Return an SVG. The same outcomes give the same octets: no date, no chance, and nothing that it would load."""
    days = max(len(outcome.days) for outcome in outcomes)
    chart = pygal.Line(
        title=f"Devices Suspended at the end of each day, {losses.responses:.0%} of responses lost, seed {losses.seed}",
        x_title="day",
        y_title="Devices",
        x_labels=[str(day) for day in range(days)],
        legend_at_bottom=True,
        include_x_axis=True,
        js=[],
        x_labels_major_every=max(1, days // _MOST_LABELS),
        show_minor_x_labels=False,
        truncate_label=-1,
        stroke_style={"width": 2},
        style=Style(
            font_family="sans-serif",
            background="white",
            guide_stroke_color="#dddddd",
            major_guide_stroke_color="#dddddd",
        ),
    )
    chart.uuid = "campaign"  # its id in the SVG, random otherwise
    for outcome in outcomes:
        chart.add(f"{outcome.option}={outcome.value}", [count.suspended for count in outcome.days])
    root = chart.render_tree()
    for parent in list(root.iter()):
        for child in list(parent):
            # A comment has the date of today; a script is for a page that has pygal's, which this one does not load.
            if child.tag is ElementTree.Comment or str(child.tag).rpartition("}")[2] == "script":
                parent.remove(child)
    drawn: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return drawn + b"\n"
