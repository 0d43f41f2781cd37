"""Percentiles, summaries and ratios, and what each figure means."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True)
class Figure:
    """What a measured number is."""

    label: str
    unit: str
    better: Literal["lower", "higher", ""] = ""
    """Which way is better; empty for figures that are not compared."""


FIGURES = {
    "msgs_per_s": Figure("throughput", "msg/s", "higher"),
    "mb_per_s": Figure("throughput", "MB/s", "higher"),
    "cpu_us_per_msg": Figure("server CPU per message", "µs", "lower"),
    "main_us_per_msg": Figure("loop CPU per message", "µs", "lower"),
    "cpu_us_per_copy_1": Figure("server CPU per message, 1 tab", "µs", "lower"),
    "cpu_us_per_copy_2": Figure("server CPU per copy, 2 tabs", "µs", "lower"),
    "cpu_us_per_copy_4": Figure("server CPU per copy, 4 tabs", "µs", "lower"),
    "four_tabs_to_one": Figure("cost of a copy, 4 tabs to 1", "times", "lower"),
    "idle_cpu_ms_per_s": Figure("server CPU while idle", "ms/s"),
    "latency_p50_ms": Figure("latency p50", "ms", "lower"),
    "latency_p99_ms": Figure("latency p99", "ms", "lower"),
    "latency_max_ms": Figure("latency max", "ms", "lower"),
    "quiet_p99_ms": Figure("latency p99 without a flood", "ms", "lower"),
    "flood_to_quiet": Figure("p99 beside a flood, to without", "times", "lower"),
    "peak_rss_mb": Figure("peak RSS", "MB", "lower"),
    "over_idle_mb": Figure("peak memory over idle", "MB", "lower"),
    "peak_over_idle": Figure("peak memory over idle / message", "times", "lower"),
    "gap_ms": Figure("longest gap while blocked", "ms", "lower"),
    "sent_gap_ms": Figure("longest gap in what was sent then", "ms"),
    "before_ms": Figure("longest gap before that", "ms"),
    "sent_meanwhile": Figure("sent while blocked", ""),
    "arrived_meanwhile": Figure("arrived while blocked", ""),
    "lost": Figure("messages lost", ""),
    "us_per_call": Figure("time per call", "µs", "lower"),
}


@dataclass(frozen=True)
class Summary:
    """A figure over all rounds of one run."""

    median: float
    min: float
    max: float
    q1: float
    q3: float
    n: int

    def as_json(self) -> dict[str, float]:
        """For the result file."""
        return asdict(self)


def percentile(ordered: Sequence[float], percent: float) -> float:
    """Nearest-rank percentile of sorted values: always a value that was measured."""
    rank = max(1, -(-len(ordered) * percent // 100))
    return ordered[int(rank) - 1]


def summarise(values: Sequence[float]) -> Summary:
    """Median and spread; with fewer than two values the quartiles are the value itself."""
    ordered = sorted(values)
    if len(ordered) > 1:
        q1, _, q3 = statistics.quantiles(ordered, n=4, method="inclusive")
    else:
        q1 = q3 = ordered[0]
    return Summary(statistics.median(ordered), ordered[0], ordered[-1], q1, q3, len(ordered))


def latencies(samples_ns: Sequence[int]) -> dict[str, float]:
    """Return the latency figures of one round, in ms."""
    ordered = sorted(ns / 1e6 for ns in samples_ns)
    return {
        "latency_p50_ms": percentile(ordered, 50),
        "latency_p99_ms": percentile(ordered, 99),
        "latency_max_ms": ordered[-1],
    }


def gain(figure: str, stock: float, other: float) -> float | None:
    """How many times better than stock; None where that has no meaning."""
    better = FIGURES[figure].better
    if not better or not stock or not other:
        return None
    return stock / other if better == "lower" else other / stock
