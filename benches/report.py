"""Result files to Markdown: a table per case, under the conditions it was measured in.

Usage: ``python -m benches.report benches/results/bridge.json``. A case whose answer was wrong gets
its reason instead of numbers, and the program ends with 1. ``--svg chart.svg`` draws the first file.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelwire.bench.environment import SCHEMA
from kernelwire.bench.plot import draw
from kernelwire.bench.stats import FIGURES, summarise
from kernelwire.bench.table import conditions, number

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from kernelwire.bench.stats import Figure

SINGLE_ROUND_NOTE = "One round only: no spread, do not quote."


def line_up(result: dict[str, Any]) -> Iterator[str]:
    """Say what each contender was: which classes, or which program."""
    fighters = result["settings"].get("contenders", {}).items()
    yield from (f"* {name}: {each.get('what') or classes(each)}" for name, each in fighters)


def classes(contender: dict[str, Any]) -> str:
    """Name the classes, and what was set for them."""
    extra = "".join(f", {key}={value}" for key, value in contender["environment"].items())
    return f"`{contender['connection']}`, `{contender['manager']}`{extra}"


def cell(summary: dict[str, float] | None, gain: dict[str, float] | None) -> str:
    """Median, the whole range, and how many times better than stock."""
    if summary is None:
        return "-"
    text = number(summary["median"])
    if summary["n"] > 1:
        text += f" ({number(summary['min'])} to {number(summary['max'])})"
    return f"{text} **{number(gain['median'])}x**" if gain else text


def bridge_table(case: str, outcome: dict[str, Any]) -> Iterator[str]:
    """Draw one correct case, and say who is not in it."""
    yield f"### {case}"
    if outcome["contenders"]:
        yield ""
        yield from figures_table(outcome)
    absent = outcome.get("absent", {})
    if absent:
        reasons = (f"{name} ({reason})" for name, reason in absent.items())
        yield ""
        yield f"Cannot do this: {', '.join(reasons)}."


def figures_table(outcome: dict[str, Any]) -> Iterator[str]:
    """Put contenders down, figures across."""
    fighters = outcome["contenders"].items()
    shown = [name for name in FIGURES if any(name in data["summary"] for _, data in fighters)]
    yield "| | " + " | ".join(heading(FIGURES[name]) for name in shown) + " |"
    yield "|---|" + "---:|" * len(shown)
    for contender, data in fighters:
        gains = outcome["gains"].get(contender, {})
        cells = [cell(data["summary"].get(name), gains.get(name)) for name in shown]
        yield f"| {contender} | " + " | ".join(cells) + " |"
    yield ""
    yield samples_line(outcome)


def heading(what: Figure) -> str:
    """Label and unit."""
    return f"{what.label}, {what.unit}" if what.unit else what.label


def samples_line(outcome: dict[str, Any]) -> str:
    """Say what the cells rest on."""
    by_name = outcome["contenders"]
    per = max(len(data["rounds"]) for data in by_name.values())
    spans = {
        name: span([each["counted"] for each in data["rounds"]]) for name, data in by_name.items()
    }
    text = f"Median (min to max) of {per} rounds"
    if len(set(spans.values())) == 1:
        text += f", {spans.popitem()[1]} samples each"
    else:
        text += "; samples in each: " + ", ".join(f"{name} {each}" for name, each in spans.items())
    text += "; **x**: times better than stock, the median of rounds." if outcome["gains"] else "."
    return text if per > 1 else f"{text} {SINGLE_ROUND_NOTE}"


def span(counts: Sequence[int]) -> str:
    """Smallest and largest of some numbers."""
    low, high = min(counts), max(counts)
    return f"{low:,}" if low == high else f"{low:,} to {high:,}"


def bridge_problems(outcome: dict[str, Any]) -> list[str]:
    """Why a case may not be quoted; empty if it may."""
    return [
        f"{name}, round {each['round']}: {each['reason']}"
        for name, data in outcome["contenders"].items()
        for each in data["rounds"]
        if not each["ok"]
    ]


def completeness_table(program: str, by_name: dict[str, list[dict[str, Any]]]) -> Iterator[str]:
    """List what arrived of one program's output, a line per observation."""
    yield f"### {program}"
    yield ""
    yield (
        "| | arrived | of | in order | execute_reply | idle | rate limit announced "
        "| messages within 1 s at most | within 3 s |"
    )
    yield "|---|---:|---:|---|---|---|---|---:|---:|"
    for name, rounds in by_name.items():
        for each in rounds:
            flags = ("in_order", "reply", "idle", "limited")
            answers = " | ".join("yes" if each[flag] else "no" for flag in flags)
            # Counted only since output waits for its turn.
            rates = [each.get(name) for name in ("most_in_1_s", "most_in_3_s")]
            most = " | ".join("" if rate is None else f"{rate:,}" for rate in rates)
            yield f"| {name} | {each['arrived']:,} | {each['expected']:,} | {answers} | {most} |"


def problems_by_name(by_name: dict[str, list[dict[str, Any]]]) -> list[str]:
    """Why a case's observations may not be quoted; empty if they may."""
    return [
        f"{name}, round {count}: {each['reason']}"
        for name, rounds in by_name.items()
        for count, each in enumerate(rounds)
        if not each["ok"]
    ]


def stages_table(workload: str, by_name: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Divide the CPU time of the thread that carries messages up, and list its system calls."""
    each = by_name.values()
    yield f"### {workload}, by stage"
    yield ""
    yield (
        "| µs of CPU time per message, of the thread that carries it | "
        + " | ".join(by_name)
        + " |"
    )
    yield "|---|" + "---:|" * len(by_name)
    for stage in dict.fromkeys(stage for data in each for stage in data["stages_us_per_msg"]):
        cells = (number(data["stages_us_per_msg"].get(stage, 0)) for data in each)
        yield f"| {stage} | " + " | ".join(cells) + " |"
    for label, key in (
        ("**together**", "carrier_us_per_msg"),
        ("besides, the event loop", "loop_us_per_msg"),
        ("besides, other threads: libzmq's I/O", "other_threads_us_per_msg"),
    ):
        yield f"| {label} | " + " | ".join(number(data[key]) for data in each) + " |"
    yield ""
    for name, data in by_name.items():
        calls = [(call, rate) for call, rate in data["calls_per_msg"].items() if rate >= 0.001]
        text = ", ".join(f"`{call}` {rate:.3f}" for call, rate in calls[:6])
        yield f"* {name}: {data['samples']:,} samples; system calls per message: {text}"


STATES_ROWS = {
    "latency_p50_ms": "`GET /api/kernels`, p50, ms",
    "latency_p99_ms": "`GET /api/kernels`, p99, ms",
    "latency_max_ms": "`GET /api/kernels`, longest, ms",
    "main_us_per_msg": "loop CPU per state, answers included, µs",
    "seconds": "until all states have been followed, s",
}


BLOCKED_ROWS = {
    "gap_ms": "longest gap while the loop is blocked, ms",
    "sent_gap_ms": "longest gap in what was sent then, ms",
    "before_ms": "longest gap before that, ms",
    "sent_meanwhile": "messages sent while it is blocked",
    "arrived_meanwhile": "messages that arrived while it is blocked",
    "before_mb": "memory before, MB",
    "blocked_growth_mb": "more while the loop is blocked, MB",
    "growth_mb": "more at its peak, MB",
    "sent": "messages sent by each kernel",
    "arrived_1": "messages at the first client in the end",
    "arrived_2": "messages at the second client in the end",
    "out_of_order": "clients that got them out of order",
    "without_reply": "executions without a reply",
    "without_idle": "executions without an idle",
}


def columns(
    rows: dict[str, str], case: str, by_name: dict[str, list[dict[str, float]]]
) -> Iterator[str]:
    """Tabulate those of the figures that a case has, a column per contender."""
    yield f"### {case}"
    yield ""
    yield "| | " + " | ".join(by_name) + " |"
    yield "|---|" + "---:|" * len(by_name)
    observed = [each for rounds in by_name.values() for each in rounds]
    for figure, what in rows.items():
        if not all(figure in each for each in observed):
            continue
        summaries = (
            summarise([each[figure] for each in rounds]).as_json() for rounds in by_name.values()
        )
        yield f"| {what} | " + " | ".join(cell(summary, None) for summary in summaries) + " |"


def visits_table(name: str, looks: list[dict[str, float]]) -> Iterator[str]:
    """List what a server has behind so many tabs that have come and gone."""
    yield f"### {name}"
    yield ""
    yield "| tabs that have come and gone | memory, MB | descriptors |"
    yield "|---:|---:|---:|"
    for look in looks:
        yield f"| {look['tabs']:,} | {number(look['rss_mb'])} | {look['descriptors']} |"


def interrupts_table(name: str, rounds: list[dict[str, Any]]) -> Iterator[str]:
    """List how long a client has waited for what an interrupt, or a restart, brings about."""
    yield f"### {name}"
    yield ""
    figures = [figure for figure in INTERRUPTS if any(figure in each for each in rounds)]
    yield "| round | " + " | ".join(INTERRUPTS[figure] for figure in figures) + " |"
    yield "|---:|" + "---:|" * len(figures)
    for count, each in enumerate(rounds, 1):
        seen = (number(each[figure]) if each["ok"] else "never" for figure in figures)
        yield f"| {count} | " + " | ".join(seen) + " |"


def lab_table(name: str, rounds: list[dict[str, Any]]) -> Iterator[str]:
    """List what a person waits for in JupyterLab, a column per round."""
    yield f"### {name}"
    yield ""
    yield "| | " + " | ".join(f"round {count}" for count in range(1, len(rounds) + 1)) + " |"
    yield "|---|" + "---:|" * len(rounds)
    counts = (f"{each['displays']:,}" for each in rounds)
    yield "| displays in the end | " + " | ".join(counts) + " |"
    ends = ("yes" if each["ended"] else "no" for each in rounds)
    yield "| the cell ends | " + " | ".join(ends) + " |"
    for what in ("completion", "slider"):
        for phase, label in (("before", "before"), ("first", "at first"), ("then", "then")):
            cells = (waits(each["waits"], what, phase) for each in rounds)
            yield f"| {what}, {label}, ms | " + " | ".join(cells) + " |"
    for figure, label in (("error_ms", "error"), ("number_ms", "number of the cell")):
        times = (each["interrupt"][figure] for each in rounds)
        cells = ("never" if time is None else number(time) for time in times)
        yield f"| interrupt until the {label}, ms | " + " | ".join(cells) + " |"


def waits(found: list[dict[str, Any]], what: str, phase: str) -> str:
    """Median and range of the times that somebody has waited for one thing, in one phase."""
    mine = [one[what] for one in found if one["phase"] == phase]
    seen = [time for time in mine if time is not None]
    missed = f", {len(mine) - len(seen)} never" if len(seen) < len(mine) else ""
    return (cell(summarise(seen).as_json(), None) if seen else "-") + missed


def never(_outcome: dict[str, Any]) -> list[str]:
    """Return no problems: a wrong answer ends the program that has measured this."""
    return []


INTERRUPTS = {
    "error_s": "error, s",
    "idle_s": "idle, s",
    "restarted_s": "restarted, s",
    "reply_s": "reply behind that, s",
    "restarting_s": "restarting, s",
}

KINDS: dict[str, tuple[Callable[[Any], list[str]], Callable[[str, Any], Iterator[str]]]] = {
    "bridge": (bridge_problems, bridge_table),
    "codec": (bridge_problems, bridge_table),
    "blocked": (problems_by_name, partial(columns, BLOCKED_ROWS)),
    "completeness": (problems_by_name, completeness_table),
    "stages": (never, stages_table),
    "interrupts": (never, interrupts_table),
    "lab": (never, lab_table),
    "states": (never, partial(columns, STATES_ROWS)),
    "visits": (never, visits_table),
}


def render(result: dict[str, Any]) -> tuple[str, bool]:
    """Markdown for one result file, and whether every case could be shown."""
    if result["schema"] != SCHEMA:
        msg = f"result file has schema {result['schema']}, this report reads {SCHEMA}"
        raise ValueError(msg)
    problems_of, table_of = KINDS[result["kind"]]
    lines = [conditions(result), "", *line_up(result)]
    sound = True
    for case, outcome in result["cases"].items():
        lines.append("")
        problems = problems_of(outcome)
        if problems:
            sound = False
            lines += [f"### {case}", "", "Refused, the answer was wrong:", ""]
            lines += [f"* {problem}" for problem in problems]
        else:
            lines += table_of(case, outcome)
    return "\n".join(lines) + "\n", sound


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the report of each file; 1 if a case had to be refused."""
    parser = argparse.ArgumentParser(prog="python -m benches.report", description=__doc__)
    parser.add_argument("results", nargs="+", type=Path)
    parser.add_argument("--svg", type=Path, help="draw the first result into this file")
    options = parser.parse_args(arguments)
    results = [json.loads(path.read_text()) for path in options.results]
    reports = [render(result) for result in results]
    if options.svg:
        draw(results[0], options.svg)
    print("\n".join(text for text, _ in reports))
    return 0 if all(sound for _, sound in reports) else 1


if __name__ == "__main__":
    sys.exit(main())
