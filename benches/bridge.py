"""Kernel to browser, end to end: stock's bridge beside kernelwire's, in one run.

Usage: ``python -m benches.bridge --json benches/results/bridge.json``; see benches/README.md.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import contenders, environment, procstat, stats
from benches.cases import CASES, FAST, Sizes
from benches.client import ClientError, SilenceError
from benches.progress import tracked
from benches.server import Server, ServerError, Settings, running
from benches.verify import WrongAnswerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from benches.contenders import Contender

FAILURES = (WrongAnswerError, ClientError, SilenceError, ServerError, OSError, ValueError)
"""What makes a round wrong; ValueError is what decoding garbage raises. The rest is our own bug."""
BASELINE = "stock"
SERVER_CPU = 0


def settings_for(contender: Contender, options: argparse.Namespace) -> Settings:
    """Describe the server a contender runs in."""
    return Settings(
        connection=contender.connection,
        manager=contender.manager,
        watcher=options.watcher == "on",
        environment=contender.environment,
        server_cpu=SERVER_CPU if options.pin else None,
    )


def schedule(
    cases: Sequence[str], fighters: Sequence[Contender], rounds: int
) -> Iterator[tuple[int, str, Contender]]:
    """All measurements in order.

    Contenders alternate within a round and swap places between rounds, so that a machine that gets
    slower or faster in the meantime does so for all of them.
    """
    for case in cases:
        present = [each for each in fighters if each.takes_part(case)]
        for number in range(rounds):
            for contender in present if number % 2 == 0 else reversed(present):
                yield number, case, contender


class Servers:
    """A fresh server for each round, or with ``--fast`` one per contender for the whole run.

    Starting servers is most of what a fast run would do otherwise.
    """

    def __init__(self, options: argparse.Namespace, stack: ExitStack) -> None:
        self._options = options
        self._stack = stack
        self._kept: dict[str, Server] = {}

    @contextmanager
    def serve(self, contender: Contender) -> Iterator[Server]:
        """Lend a settled server of `contender`."""
        settings = settings_for(contender, self._options)
        if not self._options.fast:
            with running(settings) as server:
                yield server
            return
        if contender.name not in self._kept:
            self._kept[contender.name] = self._stack.enter_context(running(settings))
        yield self._kept[contender.name]


def measure(case: str, contender: Contender, servers: Servers, sizes: Sizes) -> dict[str, Any]:
    """One round; a wrong answer becomes a reason instead of figures."""
    try:
        with servers.serve(contender) as server:
            outcome = CASES[case](server, sizes)
    except FAILURES as error:
        return {"ok": False, "reason": f"{type(error).__name__}: {error}"}
    return {"ok": True, **asdict(outcome)}


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Every case for every contender; returns what the result file holds."""
    plan = list(schedule(options.cases, options.contenders, options.rounds))
    rounds: dict[str, dict[str, list[dict[str, Any]]]] = {}
    steps = tracked(plan, lambda step: f"{step[1]} {step[2].name}", quiet=options.quiet)
    with ExitStack() as stack:
        servers = Servers(options, stack)
        for number, case, contender in steps:
            outcome = {"round": number, **measure(case, contender, servers, options.sizes)}
            rounds.setdefault(case, {}).setdefault(contender.name, []).append(outcome)
            if not outcome["ok"]:
                print(f"{case} {contender.name} round {number}: {outcome['reason']}")
    return {
        "schema": environment.SCHEMA,
        "kind": "bridge",
        "environment": environment.describe(),
        "settings": describe_settings(options),
        "cases": {case: summarise_case(by_name) for case, by_name in rounds.items()},
    }


def describe_settings(options: argparse.Namespace) -> dict[str, Any]:
    """Return the options that shape the numbers."""
    return {
        "rounds": options.rounds,
        "watcher": options.watcher,
        "pinned": options.pin,
        "fast": options.fast,
        "sizes": asdict(options.sizes),
        "contenders": {each.name: asdict(each) for each in options.contenders},
    }


def summarise_case(by_name: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """Per contender its rounds and their summary; then the gains over stock."""
    result = {
        name: {"rounds": rounds, "summary": summarise_rounds(rounds)}
        for name, rounds in by_name.items()
    }
    baseline = by_name.get(BASELINE, [])
    gains = {
        name: summarise_gains(baseline, rounds)
        for name, rounds in by_name.items()
        if baseline and name != BASELINE
    }
    correct = all(each["ok"] for rounds in by_name.values() for each in rounds)
    return {"correct": correct, "contenders": result, "gains": gains}


def summarise_rounds(rounds: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """Median and spread of each figure over the rounds that were right."""
    good = [each["figures"] for each in rounds if each["ok"]]
    names = good[0] if good else {}
    return {name: stats.summarise([each[name] for each in good]).as_json() for name in names}


def summarise_gains(
    stock: list[dict[str, Any]], other: list[dict[str, Any]]
) -> dict[str, dict[str, float]]:
    """Gain of each figure, from pairs of the same round: neighbours in time."""
    gains: dict[str, list[float]] = {}
    for ours, theirs in zip(other, stock, strict=True):
        if not (ours["ok"] and theirs["ok"]):
            continue
        for name, value in ours["figures"].items():
            times = stats.gain(name, theirs["figures"][name], value)
            if times is not None:
                gains.setdefault(name, []).append(times)
    return {name: stats.summarise(values).as_json() for name, values in gains.items()}


def parse_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line and check its names before anything starts."""
    parser = argparse.ArgumentParser(prog="python -m benches.bridge", description=__doc__)
    parser.add_argument("--contenders", nargs="+", help="names, or name=connection[,manager]")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=None, help="default 5, with --fast 1")
    parser.add_argument("--watcher", choices=("on", "off"), default="on")
    parser.add_argument("--fast", action="store_true", help="tiny counts, to see that it works")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=len(os.sched_getaffinity(0)) > 1,
        help="server alone on core 0, kernels and client on the others (default, if there are any)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    try:
        names = options.contenders or list(contenders.all_contenders())
        options.contenders = [contenders.parse(name) for name in names]
    except ValueError as error:
        parser.error(str(error))
    options.sizes = FAST if options.fast else Sizes()
    options.rounds = options.rounds or (1 if options.fast else 5)
    if options.watcher == "off":
        # Without watcher and without client nobody listens: nothing to measure.
        options.cases = [case for case in options.cases if case != "noclient"]
    return options


def print_table(result: dict[str, Any]) -> None:
    """Medians with spread, one line per figure, on standard output."""
    for case, outcome in result["cases"].items():
        print(f"\n{case}{'' if outcome['correct'] else '   WRONG ANSWER'}")
        for name, data in outcome["contenders"].items():
            for figure, summary in data["summary"].items():
                times = outcome["gains"].get(name, {}).get(figure)
                what = stats.FIGURES[figure]
                line = f"  {name:20} {what.label:32} {summary['median']:12.3f} {what.unit:6}"
                line += f" ({summary['min']:.3f} .. {summary['max']:.3f}, n={summary['n']})"
                print(line + (f"  {times['median']:.2f}x better" if times else ""))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if any answer was wrong."""
    options = parse_arguments(arguments)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # end the servers then, too
    if options.pin:
        os.sched_setaffinity(0, procstat.other_cpus(SERVER_CPU))
    try:
        result = run(options)
    except KeyboardInterrupt:
        print("interrupted; nothing written", file=sys.stderr)
        return 130
    print_table(result)
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if all(case["correct"] for case in result["cases"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
