"""The README's table, from committed result files, between its markers.

Usage: ``python -m benches.readme``. With ``--check`` nothing is written, and the program ends with 1 where the README differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benches.report import render
from kernelwire.bench.table import ROWS, number

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START, END = "<!-- figures:start -->", "<!-- figures:end -->"
README = Path(__file__).parent.parent / "README.md"

RESULTS = ("completeness-prints", "blocked", "bridge")
"""The files in benches/results that are shown, in this order."""

CONTENDERS = ("stock", "kernelwire")

SHOWN = {
    ("rtt", "latency_p50_ms"): "round trip of a small request (`kernel_info_request`), median",
    ("flood", "main_us_per_msg"): "event loop time per message of a kernel at full speed",
}
"""Case and figure, and what a reader is told that it is."""


def completeness_rows(result: dict[str, Any]) -> Iterator[str]:
    """Write a row of how much arrives of what a cell prints: of the worst round."""
    count = result["settings"]["count"]
    rounds = result["cases"]["print"]
    arrived = (min(each["arrived"] for each in rounds[name]) for name in CONTENDERS)
    yield row(f"of {count:,} lines that a cell prints, arrived", *(f"{each:,}" for each in arrived))


def blocked_rows(result: dict[str, Any]) -> Iterator[str]:
    """Write a row of the longest time for which a client gets nothing."""
    seconds, by_name = result["settings"]["seconds"], result["cases"]["sleep"]
    gaps = (median(each["gap_ms"] for each in by_name[name]) for name in CONTENDERS)
    what = f"longest gap in the output while the server is busy for {seconds} s"
    yield row(what, *(f"{number(gap)} ms" for gap in gaps))


def bridge_rows(result: dict[str, Any]) -> Iterator[str]:
    """Write a row for each figure that is shown."""
    units = {(each.case, each.figure): each.unit for each in ROWS}
    for (case, figure), what in SHOWN.items():
        by_name = result["cases"][case]["contenders"]
        medians = (by_name[name]["summary"][figure]["median"] for name in CONTENDERS)
        yield row(what, *(f"{number(each)} {units[case, figure]}" for each in medians))


KINDS = {"completeness": completeness_rows, "blocked": blocked_rows, "bridge": bridge_rows}


def row(*cells: str) -> str:
    """Write a row of a table."""
    return f"| {' | '.join(cells)} |"


def table(results: list[dict[str, Any]]) -> str:
    """Put the rows of all results together, and where their conditions are."""
    lines = ["| | Jupyter Server | with kernelwire |", "|---|---:|---:|"]
    for result in results:
        if not render(result)[1]:
            raise ValueError("a case whose answer was wrong cannot be quoted")
        lines += KINDS[result["kind"]](result)
    places = [result["environment"] for result in results]
    dates = sorted({where["date"][:10] for where in places})
    servers = sorted({where["versions"]["jupyter_server"] for where in places})
    cores = sorted({str(where["cores"]) for where in places})
    measured = f"Measured {' and '.join(dates)} with Jupyter Server {' and '.join(servers)}"
    where = "[Conditions, spread and all other figures](docs/performance.md)"
    lines += ["", f"{measured} on {' and '.join(cores)} cores. {where}."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table into the README, or compare it."""
    parser = argparse.ArgumentParser(prog="python -m benches.readme", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    text = README.read_text()
    before, rest = text.split(START)
    _, after = rest.split(END)
    folder = Path(__file__).parent / "results"
    results = [json.loads((folder / f"{name}.json").read_text()) for name in RESULTS]
    wanted = f"{before}{START}\n{table(results)}\n{END}{after}"
    if options.check:
        return int(text != wanted)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
