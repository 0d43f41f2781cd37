"""Does a flood of states stop the server? Kernels turn busy and idle, and REST is asked meanwhile.

Usage: ``python -m benches.states --json benches/results/states.json``; see benches/README.md.
Whoever watches kernels must follow each change of state; the time that takes is the event loop's.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import contenders
from kernelwire.bench import environment, procstat
from kernelwire.bench.asking import (
    EXTRA_MESSAGES,
    QUIET_S,
    connected,
    execute_directly,
    wait_until_idle,
)
from kernelwire.bench.client import pump
from kernelwire.bench.flood_kernel import STATES, Order
from kernelwire.bench.host import end_on_signals, running
from kernelwire.bench.progress import tracked
from kernelwire.bench.run import order_of
from kernelwire.bench.server import Server, Settings
from kernelwire.bench.stats import latencies, summarise
from kernelwire.bench.trips import RestProbe
from kernelwire.bench.verify import WrongAnswerError, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelwire.bench.client import KernelSocket
    from kernelwire.bench.contenders import Contender

FOLLOWED_S = 300
"""How long it may take until a server has followed everything."""
FAST_SHARE = 50
"""A fast run has so many times fewer states."""


@dataclass(frozen=True)
class Case:
    """What kernels publish."""

    kernels: int
    count: int
    """States of each."""
    rate: float
    """States of each in a second; 0 is as fast as possible."""
    client: bool
    """Whether somebody is connected."""


CASES = {
    "one kernel with a client": Case(1, 150_000, 0, client=True),
    "four kernels without a client": Case(4, 37_500, 12_500, client=False),
}


class KernelsProbe(RestProbe):
    """Asks for the list of kernels, as a dashboard does."""

    path = "/api/kernels"

    def is_right(self, answer: Any) -> bool:
        """Whether it tells the state of each kernel."""
        return bool(answer) and all("execution_state" in kernel for kernel in answer)


def check_states(client: KernelSocket, order: Order) -> None:
    """Demand every state, in order, between the busy and the idle of the request."""
    seen = [
        message.content["execution_state"]
        for message in (message_of(client, index) for index in range(client.count))
        if message.header["msg_type"] == "status"
    ]
    published = [STATES[number % 2] for number in range(order.count)]
    if seen != ["busy", *published, "idle"]:
        raise WrongAnswerError(f"{len(seen)} states arrived, not {order.count + 2}, or in disorder")


def flood_client(server: Server, kernel: str, order: Order, probe: KernelsProbe) -> None:
    """Flood one client, and ask meanwhile."""
    with connected(server, kernel) as client:
        client.reserve(order.count * 1000)
        client.execute(json.dumps(asdict(order)))

        def done() -> bool:
            probe.ask_if_due()
            return client.count >= order.count + EXTRA_MESSAGES

        pump([client, probe], done, QUIET_S, probe.GAP_NS / 1e9)
        check_states(client, order)


def flood_watcher(
    server: Server, kernels: Sequence[str], order: Order, probe: KernelsProbe
) -> None:
    """Flood the server from kernels that nobody is connected to, and ask meanwhile."""
    files = [server.connection_file(kernel) for kernel in kernels]
    with ThreadPoolExecutor(len(kernels)) as pool:
        floods = [pool.submit(execute_directly, file, order) for file in files]

        def done() -> bool:
            probe.ask_if_due()
            return all(flood.done() for flood in floods)

        pump([probe], done, QUIET_S, probe.GAP_NS / 1e9)
        for flood in floods:
            if flood.result()["count"] != order.count:
                raise WrongAnswerError("a kernel has published less than it was told to")
    for kernel in kernels:
        wait_until_idle(server, kernel)


def observe(server: Server, case: Case, share: int) -> dict[str, float]:
    """Run one case in a fresh server: how long answers took, and what the loop has spent."""
    kernels = [server.start_kernel() for _ in range(case.kernels)]
    for kernel in kernels:
        wait_until_idle(server, kernel)
    order = Order(emit="status", count=case.count // share, rate=case.rate)
    probe = KernelsProbe(server.port, server.token)
    before = procstat.cpu_time(server.pid)
    started = time.monotonic()
    if case.client:
        flood_client(server, kernels[0], order, probe)
    else:
        flood_watcher(server, kernels, order, probe)
    procstat.settle(server.pid, FOLLOWED_S)
    seconds = time.monotonic() - started
    spent = (procstat.cpu_time(server.pid) - before).main
    probe.close()
    return {
        **latencies(probe.latencies_ns),
        "answers": len(probe.latencies_ns),
        "seconds": seconds,
        "main_us_per_msg": spent * 1e6 / (order.count * case.kernels),
    }


def measure(contender: Contender, case: Case, share: int) -> dict[str, float]:
    """One observation in a fresh server, with limits that do not get in the way."""
    settings = Settings.of(
        contender,
        server_cpu=procstat.SERVER_CPU if procstat.can_pin() else None,
    )
    with running(Server(settings)) as server:
        return observe(server, case, share)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, contenders side by side."""
    parser = argparse.ArgumentParser(prog="python -m benches.states", description=__doc__)
    parser.add_argument("--contenders", nargs="+", default=["stock", "kernelwire"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--fast", action="store_true", help=f"1 of {FAST_SHARE} states")
    parser.add_argument("--json", type=Path, help="write everything observed to this file")
    parser.add_argument("--quiet", action="store_true", help="no progress bar")
    options = parser.parse_args(arguments)
    chosen = [contenders.parse(name) for name in options.contenders]
    share = FAST_SHARE if options.fast else 1
    plan = [
        (name, contender, number)
        for name in CASES
        for number in range(options.rounds)
        for contender in order_of(chosen, number)
    ]
    end_on_signals()
    if procstat.can_pin():
        procstat.leave_server_cpu()
    cases: dict[str, dict[str, Any]] = {name: {} for name in CASES}
    for name, contender, _ in tracked(plan, lambda step: step[0], quiet=options.quiet):
        rounds = cases[name].setdefault(contender.name, [])
        rounds.append(measure(contender, CASES[name], share))
    result = {
        "schema": environment.SCHEMA,
        "kind": "states",
        "environment": environment.describe(),
        "settings": {
            "rounds": options.rounds,
            "share": share,
            "contenders": {each.name: each.as_json() for each in chosen},
        },
        "cases": cases,
    }
    for name, by_name in cases.items():
        for who, rounds in by_name.items():
            p99 = summarise([each["latency_p99_ms"] for each in rounds])
            most = max(each["latency_max_ms"] for each in rounds)
            print(
                f"{name}: {who}: GET /api/kernels p99 {p99.median:.1f} ms "
                f"({p99.min:.1f} to {p99.max:.1f}), at most {most:.0f} ms"
            )
    if options.json:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
