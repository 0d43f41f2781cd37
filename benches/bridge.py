"""Kernel to browser, end to end: stock's bridge beside kernelwire's, in one run.

Usage: ``python -m benches.bridge --json benches/results/bridge.json``; see benches/README.md.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import contenders, rivals
from kernelwire.bench import procstat
from kernelwire.bench.cases import CASES, FAST, Sizes
from kernelwire.bench.program import carry_out, conclude
from kernelwire.bench.run import Options
from kernelwire.bench.table import listing

if TYPE_CHECKING:
    from collections.abc import Sequence


def parse_arguments(arguments: Sequence[str] | None = None) -> tuple[Options, argparse.Namespace]:
    """Read the command line and check its names before anything starts."""
    parser = argparse.ArgumentParser(prog="python -m benches.bridge", description=__doc__)
    parser.add_argument("--contenders", nargs="+", help="names, or name=connection[,manager]")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--rounds", type=int, default=None, help="default 5, with --fast 1")
    parser.add_argument("--watcher", choices=("on", "off"), default="on")
    parser.add_argument("--flooder", choices=("native", "python"), default=None)
    parser.add_argument("--fast", action="store_true", help="tiny counts, to see that it works")
    parser.add_argument("--json", type=Path, help="write everything measured to this file")
    parser.add_argument(
        "--update", type=Path, help="put the cases measured in place of those in this file"
    )
    parser.add_argument(
        "--pin",
        action=argparse.BooleanOptionalAction,
        default=procstat.can_pin(),
        help="server alone on a core, kernels and client on the others (default, if there are any)",
    )
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args(arguments)
    try:
        names = given.contenders or list(contenders.all_contenders())
        fighters = [contenders.parse(name) for name in names]
        native = rivals.has_relay() if given.flooder is None else given.flooder == "native"
        flooder = rivals.native_flooder() if native else ()
    except (ValueError, OSError) as error:
        parser.error(str(error))
    # Without watcher and without client nobody listens: nothing to measure.
    left_out = {"noclient"} if given.watcher == "off" else set()
    options = Options(
        contenders=fighters,
        cases=[case for case in given.cases if case not in left_out],
        rounds=given.rounds or (1 if given.fast else 5),
        sizes=FAST if given.fast else Sizes(),
        watcher=given.watcher == "on",
        pin=given.pin,
        keep_servers=given.fast,
        flooder=flooder,
    )
    return options, given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; 1 if any answer was wrong."""
    options, given = parse_arguments(arguments)
    result = carry_out(options, quiet=given.quiet)
    print("\n".join(listing(result)))
    save(result, given.json, given.update)
    return conclude(result)


def save(result: dict[str, Any], file: Path | None, update: Path | None) -> None:
    """Write a result to a file, and put its cases in place of another's."""
    if file:
        file.write_text(json.dumps(result, indent=1) + "\n")
    if update:
        whole = updated(json.loads(update.read_text()), result)
        update.write_text(json.dumps(whole, indent=1) + "\n")


def updated(earlier: dict[str, Any], later: dict[str, Any]) -> dict[str, Any]:
    """Put the cases of one result in place of another's; each says when it was measured.

    Raises ``ValueError`` where they were measured in different ways, or on different things. A size
    that the earlier one does not have is that of a case which it cannot have either.
    """
    sizes = later["settings"]["sizes"] | earlier["settings"]["sizes"]
    earlier = earlier | {"settings": earlier["settings"] | {"sizes": sizes}}
    alike = [
        {key: value for key, value in each["environment"].items() if key not in {"date", "commit"}}
        | each["settings"]
        for each in (earlier, later)
    ]
    different = [key for key in alike[0] if alike[0][key] != alike[1].get(key)]
    if different:
        raise ValueError(f"the results differ in {', '.join(different)}")
    when = {key: later["environment"][key] for key in ("date", "commit")}
    cases = {case: outcome | {"measured": when} for case, outcome in later["cases"].items()}
    return earlier | {"cases": earlier["cases"] | cases}


if __name__ == "__main__":
    sys.exit(main())
