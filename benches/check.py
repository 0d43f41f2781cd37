"""Has an optimisation been lost? Short runs, and ratios that must not fall below floors.

Usage: ``python -m benches.check --markdown table.md``. Ratios between contenders of one run are
far steadier than times; the floors in ``floors.json`` are a third to a half of what is usual, so that
noise does not fail a run, and a lost optimisation does. What fails is measured once more.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import contenders, rivals
from kernelwire.bench import procstat, stats
from kernelwire.bench.cases import CASES, FAST
from kernelwire.bench.program import carry_out, conclude
from kernelwire.bench.run import Options
from kernelwire.bench.table import conditions, number

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

FLOORS = Path(__file__).with_name("floors.json")
SIZES = replace(FAST, flood=10_000, legacy=5_000, trickle=400)
ROUNDS = 3
TRIES = 2


@dataclass(frozen=True)
class Floor:
    """How many times better one contender must be than another."""

    case: str
    figure: str
    of: str
    than: str
    floor: float
    why: str


@dataclass(frozen=True)
class Verdict:
    """A floor, and what was measured."""

    floor: Floor
    times: stats.Summary | None
    """None where an answer was wrong."""

    @property
    def holds(self) -> bool:
        """Whether the median is not below the floor."""
        return self.times is not None and self.times.median >= self.floor.floor


def read_floors() -> list[Floor]:
    """Read the committed floors."""
    return [Floor(**each) for each in json.loads(FLOORS.read_text())]


def judge(floor: Floor, result: dict[str, Any]) -> Verdict:
    """Compare a floor with the median of the ratios of single rounds."""
    by_name = result["cases"][floor.case]["contenders"]
    ratios = []
    for ours, theirs in zip(
        by_name[floor.of]["rounds"], by_name[floor.than]["rounds"], strict=True
    ):
        if not (ours["ok"] and theirs["ok"]):
            return Verdict(floor, None)
        pair = theirs["figures"][floor.figure], ours["figures"][floor.figure]
        ratios.append(stats.gain(floor.figure, *pair) or 0)
    return Verdict(floor, stats.summarise(ratios))


def measure(floors: Iterable[Floor], *, quiet: bool) -> dict[str, Any]:
    """Run the cases of `floors`, each with those contenders that its floors name."""
    pairs = {(name, floor.case) for floor in floors for name in (floor.of, floor.than)}
    known = contenders.all_contenders()
    missing = {name for name, _ in pairs} - set(known)
    if missing:
        raise SystemExit(f"not here: {', '.join(sorted(missing))}")
    fighters = [
        replace(each, only=tuple(sorted(case for name, case in pairs if name == each.name)))
        for each in known.values()
        if any(name == each.name for name, _ in pairs)
    ]
    cases = list(dict.fromkeys(floor.case for floor in floors))
    return carry_out(options(fighters, cases, ROUNDS), quiet=quiet)


def options(fighters: list[Any], cases: list[str], rounds: int) -> Options:
    """Return the options that every run here shares."""
    return Options(
        contenders=fighters,
        cases=cases,
        rounds=rounds,
        sizes=SIZES,
        pin=procstat.can_pin(),
        keep_servers=True,
        flooder=rivals.native_flooder(),
    )


def table(verdicts: list[Verdict], result: dict[str, Any]) -> Iterator[str]:
    """Write Markdown that also reads well in a log."""
    yield "| case | figure | times better than | measured (range) | floor | |"
    yield "|---|---|---|---:|---:|---|"
    for verdict in verdicts:
        floor, times = verdict.floor, verdict.times
        measured = "wrong answer"
        if times is not None:
            measured = f"{number(times.median)} ({number(times.min)} to {number(times.max)})"
        label = stats.FIGURES[floor.figure].label
        mark = "holds" if verdict.holds else f"**LOST**: {floor.why}"
        cells = (floor.case, label, floor.than, measured, number(floor.floor), mark)
        yield "| " + " | ".join(cells) + " |"
    yield ""
    yield conditions(result)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and compare; 1 if a floor does not hold or an answer is wrong."""
    parser = argparse.ArgumentParser(prog="python -m benches.check", description=__doc__)
    parser.add_argument("--markdown", type=Path, help="write the table to this file, too")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument("--cases", nargs="+", choices=CASES, help="only these; default all")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    return check(parser.parse_args(arguments))


def check(given: argparse.Namespace) -> int:
    """Do what the command line asks for."""
    cases = given.cases or list(CASES)
    floors = [floor for floor in read_floors() if floor.case in cases]
    if not floors:
        raise SystemExit(f"there is no floor for {', '.join(cases)}")
    result = measure(floors, quiet=given.quiet)
    verdicts = {floor: judge(floor, result) for floor in floors}
    for _ in range(TRIES - 1):
        failed = [floor for floor, verdict in verdicts.items() if not verdict.holds]
        if failed:
            again = measure(failed, quiet=given.quiet)
            verdicts |= {floor: judge(floor, again) for floor in failed}
    text = "\n".join(table(list(verdicts.values()), result))
    print(text)
    if given.markdown:
        given.markdown.write_text(text + "\n")
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    rest = [case for case in cases if case not in {floor.case for floor in floors}]
    lost = not all(verdict.holds for verdict in verdicts.values())
    return conclude(result, run_once(rest, quiet=given.quiet)) or int(lost)


def run_once(cases: list[str], *, quiet: bool) -> dict[str, Any]:
    """Run cases without a floor, to see that their answers are right."""
    ours = [contenders.parse("kernelwire")]
    return carry_out(options(ours, cases, 1), quiet=quiet)


if __name__ == "__main__":
    sys.exit(main())
