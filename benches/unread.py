"""What does a client cost that never reads? A real ipykernel displays, and memory is watched.

Usage: ``python -m benches.unread --json benches/results/unread.json``; see benches/README.md.
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
from kernelwire.bench.asking import connected
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.progress import tracked
from kernelwire.bench.server import Server, Settings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelwire.bench.contenders import Contender

SIZE = 100 * 1024
PROGRAM = """
import time
from IPython import get_ipython
publish = get_ipython().display_pub.publish
end, sent = time.monotonic() + {seconds}, 0
while time.monotonic() < end:
    publish(dict([("text/plain", "x" * {size})]))
    sent += 1
    time.sleep({pause})
open({account!r}, "w").write(str(sent))
"""
MEBIBYTE = 1 << 20
MAX_PENDING_MB = 64 * MEBIBYTE / 1e6
"""The default of ``max_pending_bytes``, in megabytes."""
SLACK_MB = 64 * MEBIBYTE / 1e6
LOOK_S = 0.1


def observe(server: Server, options: argparse.Namespace) -> dict[str, float]:
    """Run the program in a fresh kernel, read nothing, and watch the server's memory."""
    account = server.root / "sent.txt"
    with connected(server, server.start_kernel("ipy")) as client:
        idle = procstat.rss_mb(server.pid)
        procstat.reset_peak_rss(server.pid)
        code = PROGRAM.format(
            seconds=options.seconds, size=SIZE, pause=options.pause, account=str(account)
        )
        client.execute(code)
        deadline = time.monotonic() + options.seconds + 60
        while not (account.exists() and account.read_text()):
            if time.monotonic() > deadline:
                raise TimeoutError("the kernel has not come to the end of its program")
            time.sleep(LOOK_S)
        time.sleep(1)  # what is on its way arrives
        peak = procstat.peak_rss_mb(server.pid)
        sent = int(account.read_text())
    return {
        "idle_mb": idle,
        "peak_mb": peak,
        "growth_mb": peak - idle,
        "sent": sent,
        "sent_mb": sent * SIZE / 1e6,
    }


def measure(contender: Contender, options: argparse.Namespace) -> dict[str, Any]:
    """One observation in a fresh server, with the default limits."""
    settings = Settings.of(
        contender,
        lift_limits=False,
    )
    with running(Server(settings)) as server:
        return observe(server, options)


def main(arguments: Sequence[str] | None = None) -> int:
    """Watch each contender; 1 where kernelwire has taken more than it may."""
    parser = argparse.ArgumentParser(prog="python -m benches.unread", description=__doc__)
    parser.add_argument("--contenders", nargs="+", default=["stock", "kernelwire"])
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--pause", type=float, default=0.002, help="seconds between two displays")
    parser.add_argument("--json", type=Path, help="write everything observed to this file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    plan = [contenders.parse(name) for name in options.contenders]
    end_on_signals()
    cases = {
        each.name: measure(each, options)
        for each in tracked(plan, lambda each: each.name, quiet=options.quiet)
    }
    result = {
        "schema": environment.SCHEMA,
        "kind": "unread",
        "environment": environment.describe(),
        "settings": {"seconds": options.seconds, "size": SIZE, "pause_s": options.pause},
        "cases": cases,
    }
    within = True
    for name, seen in cases.items():
        print(
            f"{name:20} {seen['sent_mb']:.0f} MB sent, memory {seen['idle_mb']:.0f} MB idle, "
            f"{seen['growth_mb']:.0f} MB more at its peak"
        )
        if name.startswith("kernelwire"):
            within &= seen["growth_mb"] <= MAX_PENDING_MB + SLACK_MB
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0 if within else 1


if __name__ == "__main__":
    sys.exit(main())
