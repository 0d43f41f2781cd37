"""Figures in the documentation, rendered from committed result files, between their markers.

Usage: ``python -m benches.pages``. A block in a page begins with a line that says what to render::

    <!-- figures: summary benches/results/bridge.json -->

and ends with ``<!-- figures end -->``. With ``--check`` nothing is written, and the program ends
with 1 where a page differs from what the files say.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.report import render
from kernelwire.bench.plot import draw_overview, draw_panels
from kernelwire.bench.run import summarise_gains
from kernelwire.bench.stats import FIGURES
from kernelwire.bench.table import conditions, number, rows_of, spread

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

ROOT = Path(__file__).parent.parent
PAGES = (ROOT / "docs" / "performance.md",)
BLOCK = re.compile(
    r"(?P<start><!-- figures: (?P<how>\w+) (?P<file>\S+) -->\n).*?(?P<end><!-- figures end -->)",
    re.DOTALL,
)
FIRST, NOW = "first", "kernelwire"
"""Contenders: the version that `earlier` compares with, and this one."""


def without_first(result: dict[str, Any]) -> dict[str, Any]:
    """Return a result without the version that only `earlier` compares with."""
    cases = {
        case: outcome
        | {
            part: {name: each for name, each in outcome[part].items() if name != FIRST}
            for part in ("contenders", "gains")
        }
        for case, outcome in result["cases"].items()
    }
    return result | {"cases": cases}


def summary(result: dict[str, Any]) -> Iterator[str]:
    """Tabulate the figures that say most, a column per contender."""
    names = [name for name in result["settings"]["contenders"] if name != FIRST]
    yield "| | " + " | ".join(names) + " |"
    yield "|---|" + "---:|" * len(names)
    for row, summaries in rows_of(result):
        cells = [spread(summaries[name], row.unit) if name in summaries else "" for name in names]
        yield f"| {row.what} | " + " | ".join(cells) + " |"
    yield ""
    yield f"Median of rounds and their whole range. {conditions(result)}"


def tables(result: dict[str, Any]) -> Iterator[str]:
    """Give everything: the report."""
    yield render(result)[0].rstrip("\n")


def functions(result: dict[str, Any]) -> Iterator[str]:
    """Tabulate single functions and steps, and below them what is in neither contender's."""
    ours: list[str] = []
    outside: list[str] = []
    for case, outcome in result["cases"].items():
        summaries = [each["summary"]["us_per_call"] for each in outcome["contenders"].values()]
        gains = [f"{number(gain['us_per_call']['median'])}x" for gain in outcome["gains"].values()]
        cells = [spread(summary, "µs") for summary in summaries] + gains
        (ours if gains else outside).append(f"| {case} | {' | '.join(cells)} |")
    yield "| | stock | kernelwire | times better |"
    yield "|---|---:|---:|---:|"
    yield from ours
    if outside:
        yield ""
        yield "| | tornado |"
        yield "|---|---:|"
        yield from outside
    yield ""
    yield f"Median of rounds and their whole range. {conditions(result)}"


def earlier(result: dict[str, Any]) -> Iterator[str]:
    """Tabulate every figure that has a better, of an earlier version and of this one."""
    yield "| case | figure | first version | kernelwire | times better |"
    yield "|---|---|---:|---:|---:|"
    for case, outcome in result["cases"].items():
        if not outcome["correct"] or FIRST not in outcome["contenders"]:
            continue
        before, now = (outcome["contenders"][name] for name in (FIRST, NOW))
        for name, gain in summarise_gains(before["rounds"], now["rounds"]).items():
            figure = FIGURES[name]
            cells = [spread(each["summary"][name], figure.unit) for each in (before, now)]
            yield f"| {case} | {figure.label} | {' | '.join(cells)} | {spread(gain, '')} |"
    yield ""
    what = result["settings"]["contenders"][FIRST]["what"]
    yield f"The first version is {what}. Median of rounds, and of their ratios, with the whole range."


RENDERERS: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "summary": summary,
    "tables": tables,
    "functions": functions,
    "earlier": earlier,
}


CHARTS: dict[str, tuple[str, str, Callable[[dict[str, Any], Path], None]]] = {
    "overview": ("-overview", "How many times better than stock each figure is", draw_overview),
    "chart": ("", "The figures as bars, with the range of rounds", draw_panels),
}
"""By the word in a block: what the file's name ends with, what it shows, and who draws it."""


def rendered(page: Path, draws: dict[Path, Callable[[], None]]) -> str:
    """Return the page as it should be, and add to `draws` which charts it shows."""

    def block(match: re.Match[str]) -> str:
        file = ROOT / match["file"]
        if not file.exists():
            body = f"`{match['file']}` has not been measured yet."
        elif match["how"] in CHARTS:
            ending, shows, draw = CHARTS[match["how"]]
            chart = page.with_name(f"{file.stem}{ending}.svg")
            draws[chart] = partial(draw, without_first(json.loads(file.read_text())), chart)
            body = f"![{shows}]({chart.name})"
        else:
            body = "\n".join(RENDERERS[match["how"]](json.loads(file.read_text())))
        return f"{match['start']}\n{body}\n\n{match['end']}"

    return BLOCK.sub(block, page.read_text())


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the pages and their charts, or compare the pages."""
    parser = argparse.ArgumentParser(prog="python -m benches.pages", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    given = parser.parse_args(arguments)
    draws: dict[Path, Callable[[], None]] = {}
    texts = {page: rendered(page, draws) for page in PAGES}
    if given.check:
        return int(any(page.read_text() != text for page, text in texts.items()))
    for page, text in texts.items():
        page.write_text(text)
    for draw in draws.values():
        draw()
    return 0


if __name__ == "__main__":
    sys.exit(main())
