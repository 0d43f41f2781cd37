"""Where a message's microseconds go: CPU time by library, and system calls, of who carries it.

Usage: ``python -m benches.stages --json benches/results/stages.json``. Needs Linux's perf and
strace. Each contender has three floods of its own: one undisturbed, whose CPU time is divided up;
one sampled by perf, which says in what proportions; a short one whose system calls strace counts.
That is the thread of kernelwire's engine, and for the others the main one.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from benches import contenders, rivals
from kernelwire.bench import environment, procstat
from kernelwire.bench.asking import listening, order_flood, receive_flood
from kernelwire.bench.billing import Bill, billed
from kernelwire.bench.flood_kernel import Order
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.progress import tracked
from kernelwire.bench.run import Options
from kernelwire.bench.verify import check_complete, collect

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from kernelwire.bench.client import KernelSocket
    from kernelwire.bench.contenders import Contender
    from kernelwire.bench.host import Host

WORKLOADS = {
    "flood": Order(count=200_000),
    "trickle": Order(count=8_000, rate=800),
}
FAST = 20
"""Divisor of the counts with ``--fast``."""
BRIEF = 20_000
"""Messages at most under strace, which makes a system call cost many times as much."""
NAMES = ("stock", "kernelwire", "relay")
SAMPLES_PER_S = 5_000
ENGINE = "kernelwire"
"""What the engine's thread is named."""
ATTACH_S = 1.0
"""Time that perf and strace get to attach: neither says when it has."""
STAGES = (
    (r"\[kernel|\[vdso|^\[unknown\]$", "system calls"),
    (r"libzmq", "libzmq"),
    (r"kernelwire/_native", "kernelwire, native"),
    (r"/relay$", "relay"),
    (r"zmq/backend|_zmq", "pyzmq"),
    (r"/libc[.-]|ld-linux", "libc: copies and allocation"),
    (r"python", "Python"),
)
"""Which library is what, the first that fits."""
SAMPLE = re.compile(r"^\s*(?P<tid>\d+)\s+.*\((?P<library>[^()]*)\)\s*$")
CALL = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(?P<calls>\d+)\s+(?:\d+\s+)?(?P<name>\w+)$")


@contextmanager
def tool(command: list[str]) -> Iterator[None]:
    """Run a program that watches a process, for the time of the block."""
    watcher = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        time.sleep(ATTACH_S)
        if watcher.poll() is not None:
            raise OSError(f"{command[0]} ended: {(watcher.communicate()[1] or b'').decode()}")
        yield
    finally:
        watcher.send_signal(signal.SIGINT)
        watcher.communicate(timeout=60)


def flood(server: Host, client: KernelSocket, order: Order) -> Bill:
    """Carry out one order, check the answer, and return what it cost."""
    with billed(server.pid) as bill:
        msg_id = order_flood(client, order)
        receive_flood(client, order.count)
    check_complete(collect(client, msg_id, order.emit, order.count))
    client.clear()
    return bill


def sampled(server: Host, client: KernelSocket, order: Order, folder: Path) -> Counter[str]:
    """Count samples of the thread that carries messages, by stage."""
    carrier = carrier_of(server.pid)
    data = str(folder / "perf.data")
    record = ["perf", "record", "-q", "-e", "cpu-clock", "-F", str(SAMPLES_PER_S)]
    with tool([*record, "-p", str(server.pid), "-o", data]):
        flood(server, client, order)
    script = ["perf", "script", "-i", data, "-F", "tid,ip,dso"]
    done = subprocess.run(script, capture_output=True, text=True, check=True)
    found: Counter[str] = Counter()
    for line in done.stdout.splitlines():
        match = SAMPLE.match(line)
        if match and int(match["tid"]) == carrier:
            found[stage_of(match["library"])] += 1
    if not found:
        raise ValueError(f"perf took no samples: {done.stdout[:300]!r}")
    return found


def carrier_of(pid: int) -> int:
    """Return the thread that carries messages."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return next((int(t.name) for t in tasks if (t / "comm").read_text().strip() == ENGINE), pid)


def stage_of(library: str) -> str:
    """Name what a library does here."""
    return next((stage for pattern, stage in STAGES if re.search(pattern, library)), "other")


def counted(server: Host, client: KernelSocket, order: Order, folder: Path) -> dict[str, float]:
    """System calls of the thread that carries messages, per message."""
    table = folder / "strace"
    with tool(["strace", "-q", "-c", "-p", str(carrier_of(server.pid)), "-o", str(table)]):
        flood(server, client, order)
    matches = (CALL.match(line) for line in table.read_text().splitlines())
    calls = {each["name"]: int(each["calls"]) for each in matches if each}
    calls.pop("total", None)
    return {name: count / order.count for name, count in sorted(calls.items(), key=lambda c: -c[1])}


def divide(contender: Contender, options: Options, order: Order) -> dict[str, Any]:
    """Measure one contender under one workload."""
    host = contender.host(options.settings_for(contender))
    brief = replace(order, count=min(order.count, BRIEF))
    with running(host) as server, listening(server) as client, TemporaryDirectory() as folder:
        flood(server, client, brief)  # warm
        carrier = carrier_of(server.pid)
        before = procstat.thread_time(server.pid, carrier)
        bill = flood(server, client, order)
        carried = (procstat.thread_time(server.pid, carrier) - before) / order.count * 1e6
        samples = sampled(server, client, order, Path(folder))
        calls = counted(server, client, brief, Path(folder))
    figures = bill.per_message(order.count)
    loop = 0.0 if carrier == server.pid else figures["main_us_per_msg"]
    return {
        "count": order.count,
        "carrier_us_per_msg": carried,
        "loop_us_per_msg": loop,
        "other_threads_us_per_msg": figures["cpu_us_per_msg"] - carried - loop,
        "samples": samples.total(),
        "stages_us_per_msg": {
            stage: count / samples.total() * carried for stage, count in samples.most_common()
        },
        "calls_per_msg": calls,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Profile every contender under every workload."""
    parser = argparse.ArgumentParser(prog="python -m benches.stages", description=__doc__)
    parser.add_argument("--json", type=Path, help="write the result to this file")
    parser.add_argument("--watcher", choices=("on", "off"), default="on")
    parser.add_argument("--fast", action="store_true", help="few messages, to see that it works")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    given = parser.parse_args(arguments)
    missing = [name for name in ("perf", "strace") if shutil.which(name) is None]
    if missing:
        parser.error(f"not installed: {', '.join(missing)}")
    end_on_signals()
    options = Options(
        contenders=[contenders.parse(name) for name in NAMES],
        cases=list(WORKLOADS),
        watcher=given.watcher == "on",
        pin=procstat.can_pin(),
        flooder=rivals.native_flooder(),
    )
    if options.pin:
        procstat.leave_server_cpu()
    result = {
        "schema": environment.SCHEMA,
        "kind": "stages",
        "environment": environment.describe(),
        "settings": {
            "watcher": given.watcher,
            "pinned": options.pin,
            "fast": given.fast,
            "contenders": {each.name: each.as_json() for each in options.contenders},
        },
        "cases": cases(options, fast=given.fast, quiet=given.quiet),
    }
    text = json.dumps(result, indent=1) + "\n"
    if given.json:
        given.json.write_text(text)
    else:
        print(text)
    return 0


def cases(options: Options, *, fast: bool, quiet: bool) -> dict[str, dict[str, Any]]:
    """Every workload with every contender."""
    found: dict[str, dict[str, Any]] = {}
    steps = [(name, each) for name in WORKLOADS for each in options.contenders]
    for name, contender in tracked(steps, lambda s: f"{s[0]}, {s[1].name}", quiet=quiet):
        order = WORKLOADS[name]
        if fast:
            order = replace(order, count=order.count // FAST)
        found.setdefault(name, {})[contender.name] = divide(contender, options, order)
    return found


if __name__ == "__main__":
    sys.exit(main())
