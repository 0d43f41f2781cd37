"""The cases: each takes a fresh, settled server and returns the figures of one round."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from kernelwire.bench import stats
from kernelwire.bench.asking import (
    EXTRA_MESSAGES,
    QUIET_S,
    connected,
    execute_directly,
    listening,
    make_ready,
    order_flood,
    receive_all,
    receive_flood,
    wait_until_idle,
)
from kernelwire.bench.billing import Bill, billed, idle_cpu_ms_per_s
from kernelwire.bench.blocking import find_gap
from kernelwire.bench.client import KernelSocket, pump
from kernelwire.bench.flood_kernel import TRACE, Order
from kernelwire.bench.tabs import TABS, cost_by_tabs
from kernelwire.bench.trips import COMM, KERNEL_INFO, KEY, StatusProbe, TripProbe, round_trip_ns
from kernelwire.bench.verify import (
    Flood,
    WrongAnswerError,
    check_complete,
    collect,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.bench.host import Host
    from kernelwire.bench.trips import Question

SHARED_START_S = 1.0
"""Time the kernels of one schedule get to prepare their messages."""
STARTERS = 4
"""How many kernels are started, made ready and ended at a time."""
BACKGROUND_RATE = 40_000
"""Messages per second of a flood that goes on beside something: more than stock can forward."""
FRAME_BYTES = 1_000
"""Bytes of a message besides its text and its buffer, at most."""
WARM_UP = 20
"""First round trips are not counted: TCP acknowledges at once on a young connection."""


@dataclass(frozen=True)
class Sizes:
    """How much each case does in one round."""

    flood: int = 50_000
    display: int = 20_000
    legacy: int = 20_000
    tabs: int = 20_000
    cells: int = 100
    trickle: int = 4_000
    trickle50: int = 300
    kernels: int = 50
    rtt: int = 200
    background: int = 60_000
    samples: int = 300
    blocked_s: float = 1.5
    buffers: int = 100
    buffer: int = 100_000_000
    idle_s: float = 3.0
    """One period of the check whether kernels are alive, the one thing an idle server does."""


FAST = Sizes(
    flood=5_000,
    display=1_000,
    legacy=1_000,
    tabs=1_000,
    cells=10,
    trickle=200,
    trickle50=20,
    kernels=8,
    rtt=20,
    background=5_000,
    samples=20,
    blocked_s=0.3,
    buffers=10,
    buffer=10_000_000,
    idle_s=0.4,
)
"""To see that everything works."""


@dataclass
class Round:
    """The outcome of one case for one contender in one round."""

    figures: dict[str, float]
    counted: int
    """How many messages or samples the figures rest on."""
    samples_ms: list[float] = field(default_factory=list)


def throughput(client: KernelSocket, flood: Flood, account: dict[str, Any]) -> dict[str, float]:
    """From the kernel's first send to the client's last receive."""
    seconds = (client.arrived_ns(flood.indices[-1]) - account["started_ns"]) / 1e9
    return {
        "msgs_per_s": flood.expected / seconds,
        "mb_per_s": client.payload_bytes / seconds / 1e6,
        "lost": flood.lost,
    }


def flood(server: Host, sizes: Sizes) -> Round:
    """One kernel prints 100-byte pieces as fast as it can, one client listens."""
    return full_speed(server, Order(count=sizes.flood))


def display(server: Host, sizes: Sizes) -> Round:
    """One kernel displays data of 2 KB as fast as it can."""
    return full_speed(server, Order(emit="display_data", count=sizes.display, size=2_000))


def comm(server: Host, sizes: Sizes) -> Round:
    """One kernel sends widgets' messages: 1 KB of JSON, and a buffer of 4 KB."""
    order = Order(emit="comm_msg", count=sizes.display, size=1_000, buffer=4_000)
    return full_speed(server, order)


def legacy(server: Host, sizes: Sizes) -> Round:
    """One kernel prints 100-byte pieces, the client speaks the default protocol."""
    return full_speed(server, Order(count=sizes.legacy), legacy=True)


def full_speed(server: Host, order: Order, *, legacy: bool = False) -> Round:
    """Flood as fast as kernel, server and client can."""
    with server.kernel() as kernel, connected(server, kernel, legacy=legacy) as client:
        client.reserve(room_for(order))
        with billed(server.pid) as bill:
            msg_id = order_flood(client, order)
            receive_flood(client, order.count)
        received = collect(client, msg_id, order.emit, order.count)
        account = check_complete(received)
        figures = throughput(client, received, account) | bill.per_message(order.count)
    return Round(figures, order.count)


def room_for(order: Order) -> int:
    """Bytes that the messages of an order have at most."""
    return order.count * (FRAME_BYTES + order.size + order.buffer)


def delays_ns(client: KernelSocket, flood: Flood, account: dict[str, Any]) -> list[int]:
    """Per message, from the kernel's send to the client's receive."""
    pairs = zip(flood.indices, account["sent_ns"], strict=True)
    return [client.arrived_ns(index) - sent for index, sent in pairs]


def trickle(server: Host, sizes: Sizes) -> Round:
    """One kernel at a steady 800 messages a second: one message per wake-up."""
    with server.kernel() as kernel:
        return steady(server, sizes, [kernel], 800, sizes.trickle)


def trickle50(server: Host, sizes: Sizes) -> Round:
    """Fifty kernels at a steady 100 messages a second each, evenly spread in time."""
    kernels: list[str] = []
    with ThreadPoolExecutor(STARTERS) as pool:
        try:
            kernels.extend(pool.map(lambda _: server.start_kernel(), range(sizes.kernels)))
            return steady(server, sizes, kernels, 100, sizes.trickle50)
        finally:
            list(pool.map(server.end_kernel, kernels))


def steady(server: Host, sizes: Sizes, kernels: list[str], rate: float, count: int) -> Round:
    """`count` messages from each kernel at `rate` per second, one loop for all websockets."""
    clients = [
        KernelSocket(server.port, server.token, kernel, legacy=server.default_protocol)
        for kernel in kernels
    ]
    try:
        with ThreadPoolExecutor(STARTERS) as pool:
            list(pool.map(make_ready, clients))
        idle = idle_cpu_ms_per_s(server.pid, sizes.idle_s)
        with billed(server.pid) as bill:
            start_ns = time.monotonic_ns() + int(SHARED_START_S * 1e9)
            ids = []
            for index, client in enumerate(clients):
                phase_ns = int(1e9 / rate * index / len(clients))
                order = Order(count=count, rate=rate, start_ns=start_ns + phase_ns)
                ids.append(order_flood(client, order))
            receive_all(clients, count)
        return steady_figures(clients, ids, count, bill, idle)
    finally:
        for client in clients:
            client.close()


def steady_figures(
    clients: list[KernelSocket], ids: list[str], count: int, bill: Bill, idle: float
) -> Round:
    """Check every client's flood and put the figures of all together."""
    delays: list[int] = []
    for client, msg_id in zip(clients, ids, strict=True):
        received = collect(client, msg_id, Order().emit, count)
        delays += delays_ns(client, received, check_complete(received))
    total = count * len(clients)
    figures = stats.latencies(delays) | bill.per_message(total)
    return Round(figures | {"idle_cpu_ms_per_s": idle, "lost": 0}, total)


def tabs(server: Host, sizes: Sizes) -> Round:
    """One kernel prints 100-byte pieces as fast as it can, to one tab, to two, to four."""
    order = Order(count=sizes.tabs)
    return Round(cost_by_tabs(server, order), order.count * sum(TABS))


def noclient(server: Host, sizes: Sizes) -> Round:
    """Flood with nobody looking: what the activity watcher alone costs."""
    with server.kernel() as kernel:
        return watched(server, sizes, kernel)


def watched(server: Host, sizes: Sizes, kernel: str) -> Round:
    """Flood, and see that the watcher has seen it."""
    wait_until_idle(server, kernel)
    order = Order(count=sizes.flood)
    with billed(server.pid) as bill:
        account = execute_directly(server.connection_file(kernel), order)
    model = server.request("GET", f"/api/kernels/{kernel}")
    finished = time.time() - (time.monotonic_ns() - account["finished_ns"]) / 1e9
    seen = datetime.fromisoformat(model["last_activity"]).timestamp()
    # The date is taken when a message is handled, so it cannot be before the flood's end.
    if model["execution_state"] != "idle" or seen < finished - 0.1:
        msg = f"the watcher did not see the flood's end: {model}, which was at {finished}"
        raise WrongAnswerError(msg)
    return Round(bill.per_message(order.count), order.count)


def trips(server: Host, sizes: Sizes, question: Question) -> Round:
    """Round trips on an idle server, request to answer."""
    with listening(server) as client:
        for _ in range(WARM_UP):
            round_trip_ns(client, question)
        with billed(server.pid) as bill:
            samples = [round_trip_ns(client, question) for _ in range(sizes.rtt)]
    figures = stats.latencies(samples) | bill.per_message(sizes.rtt)
    return Round(figures, sizes.rtt, in_ms(samples))


def in_ms(samples_ns: list[int]) -> list[float]:
    """Return samples as the result file has them."""
    return [round(ns / 1e6, 4) for ns in samples_ns]


def trips_in_flood(server: Host, sizes: Sizes, question: Question) -> Round:
    """Round trips to a kernel that has nothing else to do, while another one floods."""
    with listening(server) as other:
        return in_flood(server, sizes, TripProbe(other, question))


def status(server: Host, sizes: Sizes) -> Round:
    """``GET /api/status`` while a kernel floods, and before: whether others still get their turn."""
    probe = StatusProbe(server.port, server.token)
    try:
        pump([probe], lambda: has_answers(probe, sizes.samples), QUIET_S, tick=0.005)
        quiet = stats.latencies(probe.latencies_ns)
        probe.latencies_ns.clear()
        outcome = in_flood(server, sizes, probe)
    finally:
        probe.close()
    figures = outcome.figures
    figures["quiet_p99_ms"] = quiet["latency_p99_ms"]
    figures["flood_to_quiet"] = figures["latency_p99_ms"] / quiet["latency_p99_ms"]
    return outcome


def has_answers(probe: StatusProbe, samples: int) -> bool:
    """Ask, unless so many answers are here."""
    over = len(probe.latencies_ns) >= samples
    if not over:
        probe.ask_if_due()
    return over


def in_flood(server: Host, sizes: Sizes, probe: TripProbe | StatusProbe) -> Round:
    """Ask while a flood lasts. The flood has a rate, so that it lasts as long for everybody."""
    order = Order(count=sizes.background, rate=BACKGROUND_RATE)
    with listening(server) as client:
        client.reserve(room_for(order))
        msg_id = order_flood(client, order)
        client.wait_for(EXTRA_MESSAGES, QUIET_S)  # the flood is under way
        answers = probe_until(client, probe, order.count, sizes.samples)
        receive_flood(client, order.count)
        check_complete(collect(client, msg_id, order.emit, order.count))
    if not answers:
        msg = "the flood was over before anything was answered"
        raise WrongAnswerError(msg)
    return Round(stats.latencies(answers), len(answers), in_ms(answers))


def probe_until(
    client: KernelSocket, probe: TripProbe | StatusProbe, count: int, samples: int
) -> list[int]:
    """Ask while the flood lasts; an answer counts only if more of the flood came after it."""
    answers_during = 0

    def done() -> bool:
        nonlocal answers_during
        over = client.count >= count
        if not over:
            answers_during = len(probe.latencies_ns)
            probe.ask_if_due()
        return over or answers_during >= samples

    pump([client, probe], done, QUIET_S, tick=0.005)
    return probe.latencies_ns[:answers_during]


def blocked(server: Host, sizes: Sizes) -> Round:
    """One kernel at a steady 100 messages a second, while the event loop sleeps for a while."""
    figures = find_gap(server, sizes.blocked_s)
    return Round(figures, int(figures.pop("messages")))


def notebook(server: Host, sizes: Sizes) -> Round:
    """Cells of a notebook, one after the other: request to idle, with outputs of every kind."""
    order = Order(emit="notebook", count=len(TRACE))
    samples = []
    with listening(server) as client, billed(server.pid) as bill:
        for _ in range(sizes.cells):
            asked = time.monotonic_ns()
            msg_id = order_flood(client, order)
            receive_flood(client, order.count)
            received = collect(client, msg_id, order.emit, order.count)
            check_complete(received)
            samples.append(client.arrived_ns(received.states[-1][0]) - asked)
            client.clear()
    cpu = bill.per_message(sizes.cells * (order.count + EXTRA_MESSAGES))
    return Round(stats.latencies(samples) | cpu, sizes.cells, in_ms(samples))


def buffer(server: Host, sizes: Sizes) -> Round:
    """One message with one large binary buffer: copies show as memory and as time."""
    return large(server, Order(emit="comm_msg", count=1, buffer=sizes.buffer))


def buffers(server: Host, sizes: Sizes) -> Round:
    """Messages with a buffer of 1 MB each, as fast as they go."""
    return large(server, Order(emit="comm_msg", count=sizes.buffers, buffer=1_000_000))


def large(server: Host, order: Order) -> Round:
    """Bytes per second, and how much memory they take on their way."""
    with listening(server) as client:
        client.reserve(room_for(order))
        with billed(server.pid) as bill:
            msg_id = order_flood(client, order)
            receive_flood(client, order.count)
        received = collect(client, msg_id, order.emit, order.count)
        figures = throughput(client, received, check_complete(received))
    del figures["msgs_per_s"]
    figures |= bill.per_message(order.count)
    if order.count == 1 and "peak_rss_mb" in figures:
        figures["over_idle_mb"] = bill.peak_rss_mb - bill.rss_before_mb
        figures["peak_over_idle"] = figures["over_idle_mb"] / ((order.size + order.buffer) / 1e6)
    return Round(figures, order.count)


CASES: dict[str, Callable[[Host, Sizes], Round]] = {
    "flood": flood,
    "display": display,
    "comm": comm,
    "notebook": notebook,
    "trickle": trickle,
    "trickle50": trickle50,
    "legacy": legacy,
    "tabs": tabs,
    "noclient": noclient,
    "rtt": partial(trips, question=KERNEL_INFO),
    "rtt_comm": partial(trips, question=COMM),
    "rtt_key": partial(trips, question=KEY),
    "rtt_flood": partial(trips_in_flood, question=KERNEL_INFO),
    "rtt_comm_flood": partial(trips_in_flood, question=COMM),
    "rtt_key_flood": partial(trips_in_flood, question=KEY),
    "status": status,
    "blocked": blocked,
    "buffers": buffers,
    "buffer": buffer,
}
"""What is measured, by name; benches/README.md says what each shows."""
