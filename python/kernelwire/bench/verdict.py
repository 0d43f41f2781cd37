"""One line that says what a run has shown, for a person to quote."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any, NamedTuple

from kernelwire.bench.cases import FAST
from kernelwire.bench.contenders import KERNELWIRE, STOCK
from kernelwire.bench.stats import FIGURES
from kernelwire.bench.table import Row, number, rows_of

if TYPE_CHECKING:
    from collections.abc import Sequence

WIDE = 1.5
"""How many times the least the most may be for the median to stand for both."""

LOOP = ("flood", "main_us_per_msg")
TRIPS = ("rtt", "latency_p50_ms")
GAP = ("blocked", "gap_ms")
HEADLINES = {
    LOOP: "event-loop time per message in a flood",
    TRIPS: "round trips",
    GAP: "the longest gap in output while the server is busy",
}
"""What a person asks for first: case and figure, and what it is called in a sentence."""


class Pair(NamedTuple):
    """One figure of both contenders."""

    row: Row
    ours: dict[str, float]
    stock: dict[str, float]
    gain: dict[str, float]
    """How many times better than stock, from rounds side by side."""

    @property
    def key(self) -> tuple[str, str]:
        """Case and figure."""
        return self.row.case, self.row.figure

    @property
    def is_apart(self) -> bool:
        """Whether the ranges of the rounds do not overlap."""
        return self.ours["max"] < self.stock["min"] or self.stock["max"] < self.ours["min"]

    @property
    def is_better(self) -> bool:
        """Whether all rounds are better than all of stock's."""
        lower = FIGURES[self.row.figure].better == "lower"
        return self.is_apart and (self.ours["median"] < self.stock["median"]) is lower

    @property
    def is_worse(self) -> bool:
        """Whether all rounds are worse than all of stock's."""
        return self.is_apart and not self.is_better

    @property
    def name(self) -> str:
        """What it is called in a sentence."""
        return HEADLINES.get(self.key, self.row.what)

    @property
    def values(self) -> str:
        """Both figures."""
        unit = self.row.unit
        return f"{amount(self.ours, unit)} instead of {amount(self.stock, unit)}"


def verdict(result: dict[str, Any]) -> str:
    """Say in one line what is better, what is the same, and what is worse; or why nothing is said.

    Only what the run has measured is named. What is better or the same is told of the headlines
    where there are any, and of all figures where there are none; what is worse, of all figures.
    """
    reason = why_not(result)
    pairs = [] if reason else pairs_of(result)
    if not (reason or pairs):
        reason = "nothing was measured that can be compared"
    if reason:
        return f"Nothing to quote: {reason}."
    told = [pair for pair in pairs if pair.key in HEADLINES] or pairs
    busy_s = result["settings"]["sizes"]["blocked_s"]
    better = [advantage(pair, busy_s) for pair in told if pair.is_better]
    same = [pair.name for pair in told if not pair.is_apart]
    worse = [f"{pair.row.what} ({pair.values})" for pair in pairs if pair.is_worse]
    parts = [
        listed(better),
        f"no difference beyond the spread in {listed(same)}" if same else "",
        f"worse: {listed(worse)}" if worse else "",
    ]
    rounds = result["settings"]["rounds"]
    return f"On this machine, in {rounds} rounds: {'; '.join(filter(None, parts))}."


def why_not(result: dict[str, Any]) -> str:
    """Why nothing of a result may be quoted; empty where something may."""
    wrong = [case for case, outcome in result["cases"].items() if not outcome["correct"]]
    if wrong:
        return f"an answer was wrong in {listed(wrong)}"
    if result["settings"]["sizes"] == asdict(FAST):
        return "--fast says nothing about speed"
    if result["settings"]["rounds"] < 2:
        return "one round has no spread"
    return ""


def pairs_of(result: dict[str, Any]) -> list[Pair]:
    """Each figure that both contenders have, and that has a better."""
    return [
        Pair(row, summaries[KERNELWIRE.name], summaries[STOCK.name], gain)
        for row, summaries in rows_of(result)
        if (gain := result["cases"][row.case]["gains"][KERNELWIRE.name].get(row.figure))
    ]


def advantage(pair: Pair, busy_s: float) -> str:
    """Say what is better, as much of it as is true."""
    if pair.key == LOOP:
        return f"{amount(pair.gain, 'x')} less {pair.name}"
    if pair.key != GAP:
        return f"{pair.name} {pair.values}"
    busy = f"while the server is busy for {busy_s:g} s"
    # A gap that is only a little shorter than stock's is one all the same.
    if pair.ours["max"] > busy_s * 1e3 / 2:
        return f"longest gap in output {busy} {pair.values}"
    return f"output goes on {busy} (longest gap {pair.values})"


def amount(summary: dict[str, float], unit: str) -> str:
    """Write the median, or the range of the rounds where that is wide."""
    gap = "" if unit == "x" else " "
    if summary["max"] > WIDE * summary["min"]:
        return f"{number(summary['min'])} to {number(summary['max'])}{gap}{unit}"
    return f"{number(summary['median'])}{gap}{unit}"


def listed(texts: Sequence[str]) -> str:
    """Put texts in a row as a sentence does: a, b, and c."""
    if len(texts) < 3:
        return " and ".join(texts)
    return f"{', '.join(texts[:-1])}, and {texts[-1]}"
