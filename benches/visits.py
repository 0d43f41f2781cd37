"""What does a tab leave behind? Thousands are opened on one kernel, one after the other, and closed.

Usage: ``python -m benches.visits --json benches/results/visits.json``; see benches/README.md. Each
tab has a session of its own, hears its kernel, and drops its connection while another stays open.
Memory is what the process has, with what its allocators keep for later.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import contenders
from kernelwire.bench import environment, procstat
from kernelwire.bench.asking import connected, hear_kernel
from kernelwire.bench.client import KernelSocket
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.progress import tracked
from kernelwire.bench.server import Server, Settings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kernelwire.bench.contenders import Contender

FIRST_LOOK = 100
"""How many tabs come and go before the first look at the server."""
HELD_S = 61.0
"""How long upstream's timers hold on to what a tab had: that for its next ping for 30 s, that for a
kernel's first answer for a minute, both also when they were cancelled."""


def visit(server: Server, kernel: str) -> None:
    """Open a tab, have the kernel answer it, and close it without a goodbye."""
    client = KernelSocket(server.port, server.token, kernel)
    try:
        hear_kernel(client)
    finally:
        client.close()


def looks(server: Server, kernel: str, count: int, label: str, *, quiet: bool) -> Iterator[Any]:
    """Open and close so many tabs: the server's memory in MB, and its descriptors, now and then."""
    with connected(server, kernel):
        for number in tracked(range(1, count + 1), lambda _: label, quiet=quiet):
            visit(server, kernel)
            if number in (FIRST_LOOK, count // 2, count):
                time.sleep(HELD_S)
                procstat.settle(server.pid)
                yield {
                    "tabs": number,
                    "rss_mb": procstat.rss_mb(server.pid),
                    "descriptors": sum(1 for _ in Path(f"/proc/{server.pid}/fd").iterdir()),
                }


def measure(contender: Contender, options: argparse.Namespace) -> list[dict[str, float]]:
    """Let tabs come and go in a fresh server."""
    settings = Settings.of(
        contender,
        lift_limits=False,
    )
    with running(Server(settings)) as server, server.kernel() as kernel:
        return list(looks(server, kernel, options.count, contender.name, quiet=options.quiet))


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch each contender; 1 where kernelwire keeps descriptors of tabs that are gone."""
    parser = argparse.ArgumentParser(prog="python -m benches.visits", description=__doc__)
    parser.add_argument("--contenders", nargs="+", default=["stock", "kernelwire"])
    parser.add_argument("--count", type=int, default=6000, help="how many tabs come and go")
    parser.add_argument("--json", type=Path, help="write everything observed to this file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    plan = [contenders.parse(name) for name in options.contenders]
    end_on_signals()
    cases = {each.name: measure(each, options) for each in plan}
    result = {
        "schema": environment.SCHEMA,
        "kind": "visits",
        "environment": environment.describe(),
        "settings": {"count": options.count, "wait_s": HELD_S},
        "cases": cases,
    }
    within = True
    for name, seen in cases.items():
        first, last = seen[0], seen[-1]
        growth = last["rss_mb"] - first["rss_mb"]
        print(
            f"{name:20} {last['tabs']} tabs: {growth:+.1f} MB, and "
            f"{last['descriptors'] - first['descriptors']:+d} descriptors, behind the first "
            f"{first['tabs']} ({first['rss_mb']:.0f} MB)"
        )
        if name.startswith("kernelwire"):
            within &= last["descriptors"] <= first["descriptors"]
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
