"""Metrics for Prometheus, on the server's own ``/metrics``.

What the native code counts anyway is added up when somebody asks. Nothing is counted here.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kernelwire import _native
from kernelwire._logging import Throttle
from kernelwire._version import __version__
from kernelwire.gateway.connection import KernelwireGatewayConnection
from kernelwire.sockets.driver import running_engine

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from jupyter_server.serverapp import ServerApp
    from prometheus_client import Metric as Family

__all__ = ["METRICS", "PREFIX", "Collector", "Metric", "register", "samples"]

PREFIX = "kernelwire_"

Sample = tuple[str, tuple[str, ...], float]
"""A metric, the values of its labels, and what it is now."""


class Metric(NamedTuple):
    """What is published under a name."""

    name: str
    """Its name, without the prefix, and without ``_total`` where it is a counter."""
    kind: str
    """``counter``, ``gauge`` or ``histogram``."""
    help: str
    """What it is, as Prometheus is told."""
    labels: tuple[str, ...] = ()
    values: tuple[tuple[str, ...], ...] = ((),)
    """All combinations of its labels' values. Each is there from the start."""

    @property
    def full_name(self) -> str:
        """Its name as it is published."""
        return f"{PREFIX}{self.name}{'_total' if self.kind == 'counter' else ''}"


def _each(*values: str) -> tuple[tuple[str, ...], ...]:
    return tuple((value,) for value in values)


_CHANNELS = tuple(
    (channel, direction)
    for direction in ("from_kernel", "to_client", "from_client")
    for channel in ("shell", "iopub", "stdin", "control")
    if (channel, direction) != ("iopub", "from_client")
)

METRICS = (
    Metric(
        "messages",
        "counter",
        "Messages received from kernels, written to clients and received from clients. Output of a"
        " kernel is received once, and written to each client.",
        ("channel", "direction"),
        _CHANNELS,
    ),
    Metric(
        "message_bytes",
        "counter",
        "Bytes of these messages: of all parts (from_kernel), of websocket frames (to_client), of"
        " what is in them (from_client).",
        ("channel", "direction"),
        _CHANNELS,
    ),
    Metric(
        "merged_messages",
        "counter",
        "Messages that clients got as a part of another one (text), or of which they got only a"
        " later one (update).",
        ("kind",),
        _each("text", "update"),
    ),
    Metric(
        "waited_messages",
        "counter",
        "Messages that had to wait for the rate limits, or for a client that took nothing.",
    ),
    Metric(
        "dropped_messages",
        "counter",
        "Messages that a client did not get, by the cause.",
        ("cause",),
        _each(
            "bound",
            "late",
            "interrupted",
            "away",
            "overflowed",
            "given_up",
            "refused",
            "rate_limited",
            "malformed",
        ),
    ),
    Metric(
        "duplicate_messages",
        "counter",
        "Messages that clients of the default protocol did not get, because they came before.",
    ),
    Metric(
        "drop_notices",
        "counter",
        "Notices in which clients and listeners were told what they did not get.",
    ),
    Metric(
        "handed_over_messages",
        "counter",
        "Messages that were handed over to Python, by the reason. Listeners get theirs one_by_one.",
        ("reason",),
        _each("one_by_one", "unreadable", "limit_change", "traceback"),
    ),
    Metric(
        "batch_messages",
        "histogram",
        "Messages of a kernel's output that were received at once.",
        ("le",),
        _each("1.0", "4.0", "16.0", "64.0", "256.0", "1024.0", "+Inf", "sum"),
    ),
    Metric(
        "wakeups",
        "counter",
        "Times that the native thread looked for something to do (engine), and that the event loop"
        " was woken by it, or received natively itself (loop).",
        ("thread",),
        _each("engine", "loop"),
    ),
    Metric(
        "engine_cpu_seconds",
        "counter",
        "CPU time of the native thread; 0 where it does not run, and on systems other than Linux.",
    ),
    Metric(
        "pending_messages",
        "gauge",
        "Messages that wait for clients that are connected, and for listeners.",
    ),
    Metric("pending_bytes", "gauge", "Bytes of memory that these messages take."),
    Metric("sessions_away", "gauge", "Sessions that wait for their clients to come back."),
    Metric("backlog_bytes", "gauge", "Bytes of memory that wait for sessions that are away."),
    Metric("held_messages", "gauge", "Messages that Python is dealing with, or is asked to."),
    Metric("log_entries", "gauge", "Messages of kernels' output that are kept."),
    Metric("log_bytes", "gauge", "Bytes of memory that kernels' output and replies take."),
    Metric(
        "gateway_messages",
        "counter",
        "Messages received from a gateway for browsers, and sent to it for them.",
        ("direction",),
        _each("from_gateway", "to_gateway"),
    ),
    Metric(
        "gateway_message_bytes",
        "counter",
        "Bytes of websocket frames with these messages; to_gateway includes pings.",
        ("direction",),
        _each("from_gateway", "to_gateway"),
    ),
    Metric("gateway_outages", "counter", "Links to a gateway that were lost."),
    Metric("gateway_pending_bytes", "gauge", "Bytes from a gateway that wait for browsers."),
    Metric("gateway_unsent_bytes", "gauge", "Bytes that wait for a gateway to read."),
    Metric("gateway_kept_requests", "gauge", "Requests that wait until a gateway is back."),
    Metric("gateway_kept_bytes", "gauge", "Bytes of these requests."),
)
"""All that is published, in the order in which it is documented."""

_OF_GATEWAY = {
    "messages": ("gateway_messages", ("from_gateway",)),
    "requests": ("gateway_messages", ("to_gateway",)),
    "bytes": ("gateway_message_bytes", ("from_gateway",)),
    "request_bytes": ("gateway_message_bytes", ("to_gateway",)),
    "outages": ("gateway_outages", ()),
    "pending_bytes": ("gateway_pending_bytes", ()),
    "unsent_bytes": ("gateway_unsent_bytes", ()),
    "kept_requests": ("gateway_kept_requests", ()),
    "kept_bytes": ("gateway_kept_bytes", ()),
}
"""By what connections to a gateway count, where it is published."""


def samples() -> Iterator[Sample]:
    """Return everything, as of now."""
    yield from ((name, tuple(each), number) for name, each, number in _native.read_metrics())
    engine = running_engine()
    yield "wakeups", ("engine",), 0 if engine is None else engine.turns()
    yield "engine_cpu_seconds", (), 0.0 if engine is None else _cpu_seconds()
    totals = KernelwireGatewayConnection.totals()
    for name, (metric, values) in _OF_GATEWAY.items():
        yield metric, values, totals[name]


def _cpu_seconds() -> float:
    """Return the CPU time of the native thread. Source: ``Documentation/scheduler/sched-stats.rst``."""
    for task in Path("/proc/self/task").glob("*"):
        try:
            if (task / "comm").read_text() == "kernelwire\n":
                return int((task / "schedstat").read_text().split()[0]) / 1e9
        except OSError:  # another thread that has just ended
            continue
    return 0.0


class Collector:
    """Gives the metrics to a registry of ``prometheus_client``, whenever it is asked.

    It never raises: the server's other metrics do not depend on these. Failures are logged with ``log``.
    """

    def __init__(self, log: Any) -> None:
        self._failures = Throttle(log)

    def describe(self) -> Iterable[Family]:
        """Return the metrics without numbers."""
        return [_family(metric, {}) for metric in METRICS]

    def collect(self) -> Iterable[Family]:
        """Return the metrics as they are now."""
        try:
            return self._collect()
        except Exception:
            self._failures.failure("metrics", "The metrics could not be read")
            return []

    @staticmethod
    def _collect() -> Iterable[Family]:
        numbers: dict[str, dict[tuple[str, ...], float]] = {}
        for name, values, number in samples():
            numbers.setdefault(name, {})[values] = number
        return [_family(metric, numbers[metric.name]) for metric in METRICS] + [_info()]


def _family(metric: Metric, numbers: dict[tuple[str, ...], float]) -> Family:
    from prometheus_client import core  # noqa: PLC0415 (a server may be without)

    name = PREFIX + metric.name
    if metric.kind == "histogram":
        histogram = core.HistogramMetricFamily(name, metric.help)
        if numbers:
            buckets = [(le, number) for (le,), number in numbers.items() if le != "sum"]
            histogram.add_metric([], buckets, numbers[("sum",)])
        return histogram
    kind = core.CounterMetricFamily if metric.kind == "counter" else core.GaugeMetricFamily
    family = kind(name, metric.help, labels=metric.labels)
    for values in metric.values if numbers else ():
        family.add_metric(values, numbers[values])
    return family


def _info() -> Family:
    from prometheus_client import core  # noqa: PLC0415 (a server may be without)

    return core.InfoMetricFamily("kernelwire", "The version in use.", {"version": __version__})


_registered: list[Any] = []
"""The collector, once there is one: the registry is the process'."""


def register(app: ServerApp) -> None:
    """Have the process' registry, which a server shows on ``/metrics``, ask for the metrics."""
    if _registered:
        return
    try:
        from prometheus_client import REGISTRY  # noqa: PLC0415 (a server may be without)

        collector = Collector(app.log)
        REGISTRY.register(collector)
    except Exception as error:
        app.log.warning("kernelwire has no metrics: %s", error)
        return
    _registered.append(collector)
