"""Contenders observed in turn, so many times each: the frame of programs that observe, and count nothing."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import contenders
from kernelwire.bench import environment
from kernelwire.bench.progress import tracked

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from kernelwire.bench.contenders import Contender

__all__ = ["observe", "parser", "write"]

Observations = dict[str, list[dict[str, Any]]]
"""By contender."""


def parser(program: str, description: str | None) -> argparse.ArgumentParser:
    """Return a parser of the options that all such programs have."""
    made = argparse.ArgumentParser(prog=f"python -m benches.{program}", description=description)
    made.add_argument("--contenders", nargs="+", default=["stock", "kernelwire"])
    made.add_argument("--rounds", type=int, default=3)
    made.add_argument("--json", type=Path, help="write everything observed to this file")
    made.add_argument("--quiet", action="store_true", help="no progress bar")
    return made


def observe(
    options: argparse.Namespace, measure: Callable[[Contender], dict[str, Any]]
) -> Observations:
    """Measure each contender in turn, round by round."""
    plan = [contenders.parse(name) for _ in range(options.rounds) for name in options.contenders]
    cases: Observations = {}
    for contender in tracked(plan, lambda each: each.name, quiet=options.quiet):
        cases.setdefault(contender.name, []).append(measure(contender))
    return cases


def write(
    options: argparse.Namespace, kind: str, settings: dict[str, Any], cases: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the result file, if one is wanted, and return what it holds."""
    result = {
        "schema": environment.SCHEMA,
        "kind": kind,
        "environment": environment.describe(),
        "settings": settings,
        "cases": cases,
    }
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return result
