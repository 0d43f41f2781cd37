"""Results as charts. Needs matplotlib.

The first one says by how much each figure is better or worse than stock's, on one logarithmic axis.
The others have a panel for each figure and a bar for each contender.
"""

from __future__ import annotations

import io
import textwrap
from typing import TYPE_CHECKING, Any

from kernelwire.bench.stats import FIGURES
from kernelwire.bench.table import Row, conditions, number, rows_of

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH_INCHES = 5.2
"""A phone shows it at three quarters of its size, at which text is still readable."""
BAR_INCHES, ROW_INCHES, TITLE_INCHES = 0.27, 0.44, 0.75
"""Heights: of a bar, of a row in the first chart, and of what stands around the bars of a panel."""
TITLE_WIDTH, NOTE_WIDTH = 44, 74
"""Characters of a line."""

COLOURS = {
    "kernelwire": "#2a6fbb",
    "kernelwire-loop": "#5a8fcb",
    "kernelwire-portable": "#86b0dc",
    "relay": "#4b9b63",
}
OTHER = "#a7a7a7"
MARKERS = {
    "kernelwire": "o",
    "kernelwire-loop": "v",
    "kernelwire-portable": "s",
    "relay": "D",
    "stock-nodelay": "+",
}

STYLE: Any = {
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "kernelwire",  # the same result makes the same file
    "font.size": 10,
    "axes.titlesize": 11,
}

DARK = """<style>@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 !important }
[style*="fill: #ffffff"] { fill: #14181d !important }
[style*="stroke: #000000"], [style*="stroke: #333333"] { stroke: #c9d1d9 !important }
[style*="stroke: #dddddd"] { stroke: #3a4149 !important }
}</style>"""
"""Colours for a dark page. There is a background either way, so that text can be read on any page."""


def draw(result: dict[str, Any], path: Path) -> None:
    """Write both charts into one SVG file. A case whose answer was wrong is in neither."""
    _draw(result, path, with_overview=True, with_panels=True)


def draw_overview(result: dict[str, Any], path: Path) -> None:
    """Write the chart that compares all figures with stock's."""
    _draw(result, path, with_overview=True, with_panels=False)


def draw_panels(result: dict[str, Any], path: Path) -> None:
    """Write the chart with a panel for each figure."""
    _draw(result, path, with_overview=False, with_panels=True)


def _draw(result: dict[str, Any], path: Path, *, with_overview: bool, with_panels: bool) -> None:
    # Only those who want a chart need matplotlib.
    import matplotlib as mpl  # noqa: PLC0415

    with mpl.rc_context(STYLE):
        figure = charts(result, with_overview=with_overview, with_panels=with_panels)
        path.write_text(_as_svg(figure))


def charts(result: dict[str, Any], *, with_overview: bool, with_panels: bool) -> Figure:
    """Make a figure with one chart, or with both below each other."""
    from matplotlib.figure import Figure  # noqa: PLC0415 (as above)

    rows = list(rows_of(result))
    if not rows:
        raise ValueError("there is nothing to draw")
    compared = [(row, gains) for row, _ in rows if (gains := _gains(result, row))]
    heights = [ROW_INCHES * len(compared) + 1.4] if with_overview and compared else []
    panels = rows if with_panels else []
    heights += [BAR_INCHES * len(summaries) + TITLE_INCHES for _, summaries in panels]
    note = textwrap.fill(_note(result, with_panels=with_panels), NOTE_WIDTH)
    size = (WIDTH_INCHES, sum(heights) + 0.14 * (note.count("\n") + 2))
    figure = Figure(figsize=size, layout="constrained")
    axes = list(figure.subplots(len(heights), 1, squeeze=False, height_ratios=heights).flat)
    if with_overview and compared:
        overview(axes.pop(0), compared)
    for axis, (row, summaries) in zip(axes, panels, strict=True):
        panel(axis, row, summaries)
    figure.supxlabel(note, fontsize=7, x=0.01, ha="left")
    return figure


def _as_svg(figure: Figure) -> str:
    out = io.StringIO()
    figure.savefig(out, format="svg", metadata={"Date": None})
    head, defs, rest = out.getvalue().partition("<defs>")
    return f"{head}{DARK}\n {defs}{rest}"


def _note(result: dict[str, Any], *, with_panels: bool) -> str:
    bars = "Bars: median of rounds; lines: their whole range. " if with_panels else ""
    return f"{bars}{conditions(result)}"


def _gains(result: dict[str, Any], row: Row) -> dict[str, float]:
    """Return by how much each contender is better than stock in one figure, as medians."""
    gains: dict[str, dict[str, Any]] = result["cases"][row.case]["gains"]
    return {
        name: found[row.figure]["median"] for name, found in gains.items() if row.figure in found
    }


def overview(axis: Axes, compared: list[tuple[Row, dict[str, float]]]) -> None:
    """Draw how many times better than stock each figure is; a row has its name above its marks."""
    labelled: set[str] = set()
    most = max(max(gains.values()) for _, gains in compared)
    least = min(min(gains.values()) for _, gains in compared)
    for index, (row, gains) in enumerate(compared):
        axis.plot([1, max(*gains.values(), 1)], [index, index], color="#dddddd", lw=2, zorder=1)
        for name, gain in gains.items():
            axis.plot(
                [gain],
                [index],
                marker=MARKERS.get(name, "x"),
                markersize=9 if name == "kernelwire" else 5,
                color=COLOURS.get(name, OTHER),
                linestyle="none",
                label="" if name in labelled else name,
                zorder=3 if name == "kernelwire" else 2,
            )
            labelled.add(name)
        if "kernelwire" in gains:
            text, at = f"{number(gains['kernelwire'])}x", (max(*gains.values(), 1), index)
            axis.annotate(text, at, (9, 0), textcoords="offset points", va="center", weight="bold")
        left = (0.0, index - 0.42)
        axis.annotate(
            row.what, left, xycoords=("axes fraction", "data"), va="center", fontsize=9,
            bbox={"facecolor": "#ffffff", "edgecolor": "none", "pad": 1},
        )  # fmt: skip
    axis.set_xscale("log")
    axis.set_xlim(min(least, 1) / 1.5, most * 8)
    axis.set_ylim(len(compared) - 0.5, -0.8)
    axis.axvline(1, color="#333333", lw=0.8)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}x")
    axis.set_yticks([])
    axis.spines[["top", "right", "left"]].set_visible(False)
    axis.set_title("Times better than stock (1x: the same)", loc="left")
    axis.legend(
        loc="upper left", bbox_to_anchor=(-0.02, -0.06), ncols=3, frameon=False,
        fontsize=8, handletextpad=0.2, columnspacing=1.0,
    )  # fmt: skip


def panel(axis: Axes, row: Row, summaries: dict[str, dict[str, float]]) -> None:
    """Draw one figure; the first contender is on top."""
    names = list(summaries)
    medians = [summaries[name]["median"] for name in names]
    below = [each["median"] - each["min"] for each in summaries.values()]
    above = [each["max"] - each["median"] for each in summaries.values()]
    colours = [COLOURS.get(name, OTHER) for name in names]
    axis.barh(names, medians, xerr=(below, above), color=colours, ecolor="#333333", capsize=2)
    for index, each in enumerate(summaries.values()):
        text = f"{number(each['median'])} {row.unit}"
        axis.annotate(text, (each["max"], index), (7, 0), textcoords="offset points", va="center")
    axis.invert_yaxis()
    better = FIGURES[row.figure].better
    title = f"{row.what} ({better} is better)" if better else row.what
    # The title begins at the left edge, where the names of the contenders do.
    axis.set_title(textwrap.fill(title, TITLE_WIDTH), loc="left", x=-0.36)
    axis.spines[["top", "right"]].set_visible(False)
    axis.locator_params(axis="x", nbins=4)
    axis.xaxis.set_major_formatter(lambda value, _: f"{value:,g}")
    axis.set_xlim(0, max(each["max"] for each in summaries.values()) * 1.4)
