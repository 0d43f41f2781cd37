"""The cases: each takes a fresh, settled server and returns the figures of one round."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from benches import stats
from benches.asking import (
    EXTRA_MESSAGES,
    QUIET_S,
    connected,
    execute_directly,
    make_ready,
    order_flood,
    receive_all,
    receive_flood,
    wait_until_idle,
)
from benches.billing import Bill, billed, idle_cpu_ms_per_s
from benches.client import KernelSocket, StatusProbe, pump
from benches.flood_kernel import Order
from benches.verify import (
    Flood,
    WrongAnswerError,
    check_complete,
    check_prefix,
    collect,
    decode_v1,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from benches.server import Server

SHARED_START_S = 1.0
"""Time the kernels of one schedule get to prepare their messages."""
WARM_UP = 20
"""First round trips are not counted: TCP acknowledges at once on a young connection."""


@dataclass(frozen=True)
class Sizes:
    """How much each case does in one round."""

    flood: int = 50_000
    trickle: int = 4_000
    trickle50: int = 300
    kernels: int = 50
    rtt: int = 300
    status_flood: int = 200_000
    status_samples: int = 300
    buffer: int = 100_000_000
    idle_s: float = 3.0
    """One period of the check whether kernels are alive, the one thing an idle server does."""


FAST = Sizes(2_000, 200, 20, 8, 30, 5_000, 20, 10_000_000, 0.4)


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


def flood(server: Server, sizes: Sizes) -> Round:
    """One kernel prints 100-byte pieces as fast as it can, one client listens."""
    order = Order(count=sizes.flood)
    with connected(server, server.start_kernel()) as client:
        with billed(server.pid) as bill:
            msg_id = order_flood(client, order)
            receive_flood(client, order.count)
        received = collect(client, msg_id, order.emit, order.count)
        account = check_complete(received)
        figures = throughput(client, received, account) | bill.per_message(order.count)
    return Round(figures, order.count)


def delays_ns(client: KernelSocket, flood: Flood, account: dict[str, Any]) -> list[int]:
    """Per message, from the kernel's send to the client's receive."""
    pairs = zip(flood.indices, account["sent_ns"], strict=True)
    return [client.arrived_ns(index) - sent for index, sent in pairs]


def trickle(server: Server, sizes: Sizes) -> Round:
    """One kernel at a steady 800 messages a second: one message per wake-up."""
    return steady(server, sizes, [server.start_kernel()], 800, sizes.trickle)


def trickle50(server: Server, sizes: Sizes) -> Round:
    """Fifty kernels at a steady 100 messages a second each, evenly spread in time."""
    with ThreadPoolExecutor(4) as pool:
        kernels = list(pool.map(lambda _: server.start_kernel(), range(sizes.kernels)))
    return steady(server, sizes, kernels, 100, sizes.trickle50)


def steady(server: Server, sizes: Sizes, kernels: list[str], rate: float, count: int) -> Round:
    """`count` messages from each kernel at `rate` per second, one loop for all websockets."""
    clients = [KernelSocket(server.port, server.token, kernel) for kernel in kernels]
    try:
        for client in clients:
            make_ready(client)
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


def noclient(server: Server, sizes: Sizes) -> Round:
    """Flood with nobody looking: what the activity watcher alone costs."""
    kernel = server.start_kernel()
    wait_until_idle(server, kernel)
    order = Order(count=sizes.flood)
    with billed(server.pid) as bill:
        account = execute_directly(server.connection_file(kernel), order)
    model = server.request("GET", f"/api/kernels/{kernel}")
    finished = time.time() - (time.monotonic_ns() - account["finished_ns"]) / 1e9
    seen = datetime.fromisoformat(model["last_activity"].replace("Z", "+00:00")).timestamp()
    # The date is taken when a message is handled, so it cannot be before the flood's end.
    if model["execution_state"] != "idle" or seen < finished - 0.1:
        msg = f"the watcher did not see the flood's end: {model}, which was at {finished}"
        raise WrongAnswerError(msg)
    return Round(bill.per_message(order.count), order.count)


def rtt(server: Server, sizes: Sizes) -> Round:
    """Round trips of a ``kernel_info_request`` on an idle server, request to reply."""
    with connected(server, server.start_kernel()) as client:
        for _ in range(WARM_UP):
            round_trip_ns(client)
        with billed(server.pid) as bill:
            samples = [round_trip_ns(client) for _ in range(sizes.rtt)]
    figures = stats.latencies(samples) | bill.per_message(sizes.rtt)
    return Round(figures, sizes.rtt, [round(ns / 1e6, 4) for ns in samples])


def round_trip_ns(client: KernelSocket) -> int:
    """One round trip; the next may start only when the idle status is here too."""
    asked = time.monotonic_ns()
    msg_id = client.send("kernel_info_request", {})
    client.wait_for(EXTRA_MESSAGES, QUIET_S)
    messages = [decode_v1(client.payload(index)) for index in range(client.count)]
    replies = [i for i, each in enumerate(messages) if each.channel == "shell"]
    if len(replies) != 1 or any(each.parent_id != msg_id for each in messages):
        raise WrongAnswerError(f"a round trip brought {[each.parts[0] for each in messages]}")
    answered = client.arrived_ns(replies[0])
    client.clear()
    return answered - asked


def status(server: Server, sizes: Sizes) -> Round:
    """``GET /api/status`` while one kernel floods: how long the others wait."""
    order = Order(count=sizes.status_flood)
    with connected(server, server.start_kernel()) as client:
        probe = StatusProbe(server.port, server.token)
        msg_id = order_flood(client, order)
        client.wait_for(EXTRA_MESSAGES, QUIET_S)  # the flood is under way
        answers = probe_until(client, probe, order.count, sizes.status_samples)
        probe.close()
        received = collect(client, msg_id, order.emit, order.count)
        check_prefix(received)
    if not answers:
        msg = "the flood was over before one status request was answered"
        raise WrongAnswerError(msg)
    figures = stats.latencies(answers)
    return Round(figures, len(answers), [round(ns / 1e6, 4) for ns in answers])


def probe_until(client: KernelSocket, probe: StatusProbe, count: int, samples: int) -> list[int]:
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


def buffer(server: Server, sizes: Sizes) -> Round:
    """One message with one large binary buffer: copies show as memory and as time."""
    order = Order(emit="comm_msg", count=1, buffer=sizes.buffer)
    with connected(server, server.start_kernel()) as client:
        client.reserve(sizes.buffer)
        with billed(server.pid) as bill:
            msg_id = order_flood(client, order)
            receive_flood(client, order.count)
        received = collect(client, msg_id, order.emit, order.count)
        figures = throughput(client, received, check_complete(received))
    del figures["msgs_per_s"]
    over_idle = bill.peak_rss_mb - bill.rss_before_mb
    memory = {"peak_rss_mb": bill.peak_rss_mb, "peak_over_idle": over_idle / (sizes.buffer / 1e6)}
    cpu = bill.per_message(1)
    return Round(figures | cpu | memory, 1)


CASES: dict[str, Callable[[Server, Sizes], Round]] = {
    "flood": flood,
    "trickle": trickle,
    "trickle50": trickle50,
    "noclient": noclient,
    "rtt": rtt,
    "status": status,
    "buffer": buffer,
}
