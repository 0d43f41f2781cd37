"""The README's table, from committed result files, between its markers.

Usage: ``python -m benches.readme benches/results/bridge.json benches/results/completeness-prints.json``.
With ``--check`` nothing is written, and the program ends with 1 where the README differs.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches.report import render
from kernelwire.bench.table import conditions, number, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

START, END = "<!-- figures:start -->", "<!-- figures:end -->"
README = Path(__file__).parent.parent / "README.md"

SHOWN = {
    ("flood", "main_us_per_msg"),
    ("flood", "cpu_us_per_msg"),
    ("trickle", "main_us_per_msg"),
    ("trickle50", "main_us_per_msg"),
    ("noclient", "main_us_per_msg"),
    ("legacy", "main_us_per_msg"),
    ("rtt", "latency_p50_ms"),
}
"""Case and figure: the fewest rows that say what a user gets."""

SHOWN_PROGRAMS = {
    ("display_data", 20_000),
    ("comm_msg", 20_000),
    ("widgets", 20_000),
    ("print", 200_000),
}
"""Program and count, likewise."""


def bridge_rows(result: dict[str, Any]) -> Iterator[str]:
    """Write a row for each figure that the result has."""
    for row, summaries in rows_of(result):
        if (row.case, row.figure) not in SHOWN:
            continue
        stock, ours = (summaries[name]["median"] for name in CONTENDERS)
        gain = result["cases"][row.case]["gains"]["kernelwire"][row.figure]["median"]
        cells = (f"{number(each)} {row.unit}" for each in (stock, ours))
        yield f"| {row.what} | {' | '.join(cells)} | {number(gain)} times |"


CONTENDERS = ("stock", "kernelwire")


def completeness_rows(result: dict[str, Any]) -> Iterator[str]:
    """Write a row for each program of which it was counted what arrives."""
    stall = result["settings"]["stall_s"]
    limits = f"{result['settings']['limits']} limits"
    pause = f", {number(stall)} s stall" if stall else ""
    for program, by_name in result["cases"].items():
        if (program, result["settings"]["count"]) not in SHOWN_PROGRAMS:
            continue
        arrived = [min(each["arrived"] for each in by_name[name]) for name in CONTENDERS]
        expected = by_name["kernelwire"][0]["expected"]
        count = result["settings"]["count"]
        what = f"of {expected:,} `{program}` from ipykernel"
        if expected < count:
            what = f"of the last {expected:,} of {count:,} `{program}` from ipykernel"
        counts = " | ".join(f"{each:,}" for each in arrived)
        yield f"| {what}, arrived ({limits}{pause}) | {counts} | |"


KINDS = {"bridge": bridge_rows, "completeness": completeness_rows}


def table(results: list[dict[str, Any]]) -> str:
    """Put the rows of all results together, and the conditions below."""
    lines = ["| | stock | kernelwire | |", "|---|---:|---:|---:|"]
    for result in results:
        if not render(result)[1]:
            raise ValueError("a case whose answer was wrong cannot be quoted")
        lines += KINDS[result["kind"]](result)
    notes = "; ".join(conditions(result).removesuffix(".") for result in results[:1])
    if any(result["settings"].get("watcher") == "off" for result in results):
        lines += [
            "",
            "The kernel manager's activity watcher was switched off in both for the times.",
        ]
    lines += ["", f"{notes}. Medians; the spread, and how to measure it yourself, is in"]
    lines += ["[benches/README.md](benches/README.md) and `benches/results/`."]
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> int:
    """Write the table into the README, or compare it."""
    parser = argparse.ArgumentParser(prog="python -m benches.readme", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="only compare")
    options = parser.parse_args(arguments)
    text = README.read_text()
    before, rest = text.split(START)
    _, after = rest.split(END)
    results = [json.loads(path.read_text()) for path in options.results]
    wanted = f"{before}{START}\n{table(results)}\n{END}{after}"
    if options.check:
        return int(text != wanted)
    README.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main())
