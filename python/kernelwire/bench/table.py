"""Results as text: what each figure says to a reader, and tables of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from kernelwire.bench.stats import FIGURES

if TYPE_CHECKING:
    from collections.abc import Iterator

FIRST_WIDTH, CELL_WIDTH = 46, 27


class Row(NamedTuple):
    """One figure of one case, and what a reader is told it is."""

    case: str
    figure: str
    unit: str
    what: str


ROWS = (
    Row("flood", "msgs_per_s", "/s", "100-byte messages, kernel at full speed"),
    Row("flood", "main_us_per_msg", "µs", "event loop per 100-byte message, full speed"),
    Row("flood", "cpu_us_per_msg", "µs", "whole process per 100-byte message, full speed"),
    Row("legacy", "main_us_per_msg", "µs", "event loop per message, default protocol"),
    Row("display", "main_us_per_msg", "µs", "event loop per displayed 2 KB, full speed"),
    Row("trickle", "main_us_per_msg", "µs", "event loop per message, 1 kernel at 800/s"),
    Row("trickle50", "main_us_per_msg", "µs", "event loop per message, 50 kernels at 100/s"),
    Row("tabs", "cpu_us_per_copy_4", "µs", "whole process per message and tab, 4 tabs"),
    Row("noclient", "main_us_per_msg", "µs", "event loop per message, full speed, no client"),
    Row("notebook", "latency_p50_ms", "ms", "cell with 12 outputs until idle, median"),
    Row("rtt", "latency_p50_ms", "ms", "round trip of kernel_info_request, median"),
    Row("rtt_key", "latency_p50_ms", "ms", "round trip of complete_request, median"),
    Row("rtt_key_flood", "latency_p99_ms", "ms", "the same while another kernel floods, p99"),
    Row("status", "latency_p99_ms", "ms", "GET /api/status while a kernel floods, p99"),
    Row("blocked", "gap_ms", "ms", "longest gap in output while the server is busy"),
    Row("buffers", "mb_per_s", "MB/s", "messages with 1 MB of binary data"),
    Row("buffer", "peak_over_idle", "x", "memory for one large buffer, of its size"),
)
"""The figures that say most; a result file has more."""


def number(value: float) -> str:
    """Three significant digits, without an exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def spread(summary: dict[str, float], unit: str) -> str:
    """Median, and the whole range if there is one; a ratio has no unit."""
    text = f"{number(summary['median'])} {unit}".rstrip()
    if summary["n"] > 1:
        text += f" ({number(summary['min'])}-{number(summary['max'])})"
    return text


def rows_of(result: dict[str, Any]) -> Iterator[tuple[Row, dict[str, dict[str, float]]]]:
    """Each row that the result has and whose answer was right, with its summaries by contender."""
    for row in ROWS:
        outcome = result["cases"].get(row.case)
        if outcome is None or not outcome["correct"]:
            continue
        summaries = {
            name: data["summary"][row.figure]
            for name, data in outcome["contenders"].items()
            if row.figure in data["summary"]
        }
        if summaries:
            yield row, summaries


def comparison(result: dict[str, Any], names: tuple[str, str]) -> Iterator[str]:
    """Compare two contenders, a line per row."""
    yield "".join([" " * FIRST_WIDTH, *(f"{name:>{CELL_WIDTH}}" for name in names)])
    for row, summaries in rows_of(result):
        if not all(name in summaries for name in names):
            continue
        cells = [f"{spread(summaries[name], row.unit):>{CELL_WIDTH}}" for name in names]
        gain = result["cases"][row.case]["gains"][names[1]].get(row.figure)
        times = f"   {compared(gain['median'])}" if gain else ""
        yield f"{row.what:{FIRST_WIDTH}}{''.join(cells)}{times}"


def compared(gain: float) -> str:
    """Say how a figure compares with stock's."""
    return f"{number(gain)} times better" if gain >= 1 else f"{number(1 / gain)} times worse"


def listing(result: dict[str, Any]) -> Iterator[str]:
    """Everything, a line per figure."""
    for case, outcome in result["cases"].items():
        yield f"\n{case}{'' if outcome['correct'] else '   WRONG ANSWER'}"
        for name, data in outcome["contenders"].items():
            for figure, summary in data["summary"].items():
                times = outcome["gains"].get(name, {}).get(figure)
                what = FIGURES[figure]
                line = f"  {name:20} {what.label:32} {summary['median']:12.3f} {what.unit:6}"
                line += f" ({summary['min']:.3f} .. {summary['max']:.3f}, n={summary['n']})"
                yield line + (f"  {times['median']:.2f}x better" if times else "")
        for name, reason in outcome["absent"].items():
            yield f"  {name:20} cannot do this: {reason}"


def conditions(result: dict[str, Any]) -> str:
    """Write the line without which no number may be quoted."""
    where = result["environment"]
    versions = ", ".join(f"{k} {v}" for k, v in where["versions"].items() if v)
    settings = {k: v for k, v in result["settings"].items() if not isinstance(v, dict)}
    how = ", ".join(f"{k} {v}" for k, v in settings.items())
    commit = f", commit {where['commit']}" if where["commit"] else ""
    machine = f"{where['cpu']}, {where['cores']} cores, {where['os']}"
    again = [
        f"{case} {outcome['measured']['date']}, commit {outcome['measured']['commit']}"
        for case, outcome in result.get("cases", {}).items()
        if "measured" in outcome
    ]
    text = f"Measured {where['date']} on {machine}{commit}; {versions}; {how}."
    return f"{text} Measured again: {'; '.join(again)}." if again else text
