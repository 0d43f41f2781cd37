"""What comes through while the server's event loop is blocked? Gaps at a client, and memory.

Usage: ``python -m benches.blocked --json benches/results/blocked.json``; see benches/README.md. The
kernels are flooding kernels, and the IOPub rate limits are out of reach. Cases:

* ``sleep``, ``spin``, ``hold-gil``: a kernel publishes 100 messages a second while the loop is blocked
  in that way. The longest time between two messages at a client, if all came, once and in order.
* ``memory``: two kernels flood a client each as fast as they can while the loop sleeps. What the
  server's memory grows by until all has come, and what came.
"""

from __future__ import annotations

import sys
import time
from contextlib import ExitStack, suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from benches import contenders, rounds
from benches.completeness import Program, count_marks
from benches.report import render
from kernelwire.bench import procstat
from kernelwire.bench.asking import QUIET_S, connected, order_flood
from kernelwire.bench.blocking import RATE, Listener, Stall, find_gap
from kernelwire.bench.cases import room_for
from kernelwire.bench.client import SilenceError, pump
from kernelwire.bench.flood_kernel import Order, wait_until
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.plugins import STALLS
from kernelwire.bench.run import FAILURES
from kernelwire.bench.server import Server, Settings
from kernelwire.bench.verify import WrongAnswerError, message_of

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from kernelwire.bench.client import KernelSocket
    from kernelwire.bench.contenders import Contender

MEMORY = "memory"
CASES = (*STALLS, MEMORY)
KERNELS = 2
COUNT, SIZE = 20_000, 10_000
"""Messages of each kernel that floods, and their bytes: three times what may wait for a client."""
PREPARED_S = 5.0
"""Seconds that a kernel has for building its messages."""
LEAD_S = 0.3
"""How long before a flood begins the loop is blocked."""
LOOK_S = 0.1
"""How often memory is looked at, at least."""


def watch_memory(server: Server, options: argparse.Namespace) -> dict[str, Any]:
    """Block the loop while kernels flood, and wait for all that comes."""
    order = Order(count=options.count, size=SIZE)
    stall = Stall(server, options.memory_seconds, 0)
    with ExitStack() as stack:
        kernels = [server.start_kernel() for _ in range(KERNELS)]
        clients = [stack.enter_context(connected(server, kernel)) for kernel in kernels]
        for client in clients:
            client.reserve(room_for(order))
        procstat.settle(server.pid)
        before = blocked = procstat.rss_mb(server.pid)
        procstat.reset_peak_rss(server.pid)
        order = replace(order, start_ns=time.monotonic_ns() + int((PREPARED_S + LEAD_S) * 1e9))
        listeners = [Listener(client, order_flood(client, order)) for client in clients]
        wait_until(order.start_ns - int(LEAD_S * 1e9))
        blocked_until = time.monotonic() + options.memory_seconds
        stall.start_if_due(0)

        def done() -> bool:
            nonlocal blocked
            if time.monotonic() < blocked_until:
                blocked = procstat.peak_rss_mb(server.pid)
            return sum(each.finished() for each in listeners) == KERNELS

        with suppress(SilenceError):  # something is missing; counting will say what
            pump(clients, done, QUIET_S + options.memory_seconds, LOOK_S)
        stall.check()
        peak = procstat.peak_rss_mb(server.pid)
        for client in clients:
            check_time(client, stall)
        arrivals = [count_marks(client, Program(""), order.count) for client in clients]
    return {
        "before_mb": before,
        "peak_mb": peak,
        "blocked_growth_mb": blocked - before,
        "growth_mb": peak - before,
        "sent": order.count,
        **{f"arrived_{at}": each.arrived for at, each in enumerate(arrivals, 1)},
        "out_of_order": sum(not each.in_order for each in arrivals),
        "without_idle": sum(not each.idle for each in listeners),
        "without_reply": sum(not each.reply for each in listeners),
    }


def check_time(client: KernelSocket, stall: Stall) -> None:
    """Demand that the kernel began to flood while the loop was blocked, if it says when."""
    for index in range(client.count):
        message = message_of(client, index)
        if message.channel == "shell":
            began = message.content["flood"]["started_ns"]
            if not stall.started_ns < began < stall.finished_ns:
                raise WrongAnswerError("the flood did not begin while the loop was blocked")


def measure(contender: Contender, case: str, options: argparse.Namespace) -> dict[str, Any]:
    """One observation in a fresh server."""
    settings = Settings.of(contender, config=contender.config)
    try:
        with running(Server(settings)) as server:
            if case == MEMORY:
                return {"ok": True, **watch_memory(server, options)}
            return {"ok": True, **find_gap(server, options.seconds, case)}
    except FAILURES as error:
        return {"ok": False, "reason": f"{type(error).__name__}: {error}"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Observe each contender in turn, case by case; 1 where an answer was wrong."""
    parser = rounds.parser("blocked", __doc__)
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--seconds", type=float, default=3, help="how long the loop is blocked")
    parser.add_argument("--memory-seconds", type=float, default=10, help="the same, for memory")
    parser.add_argument("--count", type=int, default=COUNT, help="messages of each flood")
    options = parser.parse_args(arguments)
    end_on_signals()
    cases = {
        case: rounds.observe(options, partial(measure, case=case, options=options))
        for case in options.cases
    }
    settings = {
        "rounds": options.rounds,
        "rate": RATE,
        "seconds": options.seconds,
        "memory_seconds": options.memory_seconds,
        "kernels": KERNELS,
        "count": options.count,
        "size": SIZE,
        "limits": "lifted",
        "contenders": {name: contenders.parse(name).as_json() for name in options.contenders},
    }
    text, sound = render(rounds.write(options, "blocked", settings, cases))
    print(text)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
