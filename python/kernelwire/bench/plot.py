"""Results as a chart: a panel per figure, a bar per contender. Needs matplotlib."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

from kernelwire.bench.stats import FIGURES
from kernelwire.bench.table import Row, conditions, number, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

COLUMNS = 2
PANEL_INCHES = (5.4, 0.36)
"""Width of a panel, and height of a bar in it."""
COLOURS = {
    "kernelwire": "#2a6fbb",
    "kernelwire-loop": "#5a8fcb",
    "kernelwire-portable": "#86b0dc",
    "relay": "#4b9b63",
}
OTHER = "#a7a7a7"
STYLE: Any = {"svg.fonttype": "none", "svg.hashsalt": "kernelwire", "font.size": 9}
"""Text stays text, and the same result makes the same file."""


def draw(result: dict[str, Any], path: Path) -> None:
    """Write the chart as SVG. A case whose answer was wrong has no panel."""
    # Only those who want a chart need matplotlib.
    import matplotlib as mpl  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    panels = list(rows_of(result))
    if not panels:
        raise ValueError("there is nothing to draw")
    lines = -(-len(panels) // COLUMNS)
    bars = max(len(summaries) for _, summaries in panels)
    with mpl.rc_context(STYLE):
        size = (PANEL_INCHES[0] * COLUMNS, lines * (PANEL_INCHES[1] * bars + 0.8) + 1.1)
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(lines, COLUMNS, squeeze=False).flatten()
        for axis, (row, summaries) in zip(axes, panels, strict=False):
            panel(axis, row, summaries)
        for axis in axes[len(panels) :]:
            axis.set_visible(False)
        note = "Bars: median of rounds; lines: their whole range. " + conditions(result)
        figure.supxlabel("\n".join(textwrap.wrap(note, 170)), fontsize=7, x=0.01, ha="left")
        figure.savefig(path, format="svg", metadata={"Date": None})


def panel(axis: Axes, row: Row, summaries: dict[str, dict[str, float]]) -> None:
    """Draw one figure; the first contender is on top."""
    names = list(summaries)
    medians = [summaries[name]["median"] for name in names]
    below = [each["median"] - each["min"] for each in summaries.values()]
    above = [each["max"] - each["median"] for each in summaries.values()]
    colours = [COLOURS.get(name, OTHER) for name in names]
    axis.barh(names, medians, xerr=(below, above), color=colours, ecolor="#333333", capsize=2)
    for index, each in enumerate(summaries.values()):
        text = f"  {number(each['median'])} {row.unit}"
        axis.annotate(text, (each["max"], index), va="center")
    axis.invert_yaxis()
    better = FIGURES[row.figure].better
    axis.set_title(f"{row.what} ({better} is better)" if better else row.what, loc="left")
    axis.spines[["top", "right"]].set_visible(False)
    axis.set_xlim(0, max(each["max"] for each in summaries.values()) * 1.25)
