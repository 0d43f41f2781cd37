"""Write docs/metrics.md: ``python docs/metrics_page.py``."""

from __future__ import annotations

from pathlib import Path

from kernelwire.events import OUTPUT_DROPPED
from kernelwire.metrics import METRICS, Metric

PAGE = Path(__file__).with_name("metrics.md")

HEAD = """\
# Metrics and events

<!-- Written by docs/metrics_page.py from kernelwire.metrics: do not edit. -->

A Jupyter Server with kernelwire publishes these metrics on its own `/metrics`, beside Jupyter Server's, for \
[Prometheus](https://prometheus.io). `/metrics` wants the server's token, unless \
`ServerApp.authenticate_prometheus` is off. Everything is counted by the native code as it works, and added up when \
somebody asks. The numbers are those of the whole process, since it began; those of kernels and tabs that are gone \
stay. Each value of a label is there from the start, with 0. No label names a kernel, a session or a user.

`kernelwire_info` has the `version`.

| metric | kind | labels | what it is |
|---|---|---|---|
"""

TAIL = f"""
## Why messages are dropped

`kernelwire_dropped_messages_total` has these causes. Clients are told of the first five in a notice.

| `cause` | what has happened | what decides |
|---|---|---|
| `bound` | more waited for a client that is connected, or for a listener | \
`KernelwireWebsocketConnection.max_pending_bytes` |
| `late` | output waited for the rate limits for too long | `iopub_pace_seconds`, `iopub_msg_rate_limit`, \
`iopub_data_rate_limit` |
| `interrupted` | the kernel was interrupted, or has ended, while its output waited | |
| `away` | more waited for a session whose client was away | \
`KernelwireMappingKernelManager.max_offline_buffer_bytes` |
| `refused` | the client closed its connection over the message, twice | |
| `overflowed` | more than twice `max_pending_bytes` waited of what is never dropped: the client is closed with 1013 | \
`max_pending_bytes` |
| `given_up` | the same for a session that was away: it is given up | `max_offline_buffer_bytes` |
| `rate_limited` | `iopub_overflow` is `"drop"`, and the output came faster than the rate limits allow | \
`iopub_msg_rate_limit`, `iopub_data_rate_limit` |
| `malformed` | a kernel has sent what is no message | |

## What to watch

| what | when |
|---|---|
| `rate(kernelwire_dropped_messages_total{{cause!="interrupted"}}[5m]) > 0` | somebody does not see all output |
| `kernelwire_pending_bytes`, `kernelwire_backlog_bytes` | what clients that lag, and sessions that are away, cost in \
memory |
| `rate(kernelwire_handed_over_messages_total[5m])` | messages take the slow way through Python: a hook is overridden, \
or a kernel sends what only Python can read |
| `rate(kernelwire_engine_cpu_seconds_total[1m])` | near 1, the native thread is all that one core can do |
| `rate(kernelwire_gateway_outages_total[1h])` | links to the gateway are lost |

The same as a page that moves, by kernel and tab, is at `/kernelwire/` of the server, and as JSON at \
`/kernelwire/api/stats`, for whoever may read about kernels.

## Prometheus

How it is told, and what it may warn of. A user's own server is one target; behind a JupyterHub, each user's server is, \
at `/user/NAME/metrics`.

```yaml
# prometheus.yml
scrape_configs:
  - job_name: jupyter
    metrics_path: /metrics
    authorization:
      type: token
      credentials_file: /etc/prometheus/jupyter-token
    static_configs:
      - targets: ["jupyter.example.org:8888"]
```

```yaml
# rules.yml
groups:
  - name: kernelwire
    rules:
      - alert: JupyterOutputDropped
        expr: sum by (instance) (rate(kernelwire_dropped_messages_total{{cause!="interrupted"}}[5m])) > 0
        for: 5m
        annotations:
          summary: "Somebody on {{{{ $labels.instance }}}} does not see all output"
      - alert: JupyterOutputWaits
        expr: kernelwire_pending_bytes + kernelwire_backlog_bytes > 500e6
        for: 15m
        annotations:
          summary: "What clients have not read takes {{{{ $value | humanize1024 }}}}B on {{{{ $labels.instance }}}}"
      - alert: JupyterMessagesGoOneByOne
        expr: sum by (instance, reason) (rate(kernelwire_handed_over_messages_total[5m])) > 100
        for: 15m
        annotations:
          summary: "Messages of {{{{ $labels.instance }}}} take the slow way: {{{{ $labels.reason }}}}"
      - alert: JupyterGatewayIsLost
        expr: increase(kernelwire_gateway_outages_total[15m]) > 3
        annotations:
          summary: "Links of {{{{ $labels.instance }}}} to its gateway break"
```

## Events

Where something listens to the [events](https://jupyter-events.readthedocs.io) of the server, `{OUTPUT_DROPPED}` is \
emitted once for each notice that a client is shown: the kernel's id, the cause, and how many messages and bytes. \
The schema is `kernelwire/events/output_dropped.yaml`.
"""


def row(metric: Metric) -> str:
    """Return the row of a metric."""
    labels = []
    for index, label in enumerate(metric.labels):
        values = dict.fromkeys(each[index] for each in metric.values)
        shown = ", ".join(f"`{value}`" for value in values if value != "sum")
        labels.append(f"`{label}`: {shown}")
    cells = (f"`{metric.full_name}`", metric.kind, "; ".join(labels), metric.help)
    return f"| {' | '.join(cells)} |\n"


def page() -> str:
    """Return the page."""
    return HEAD + "".join(map(row, METRICS)) + TAIL


if __name__ == "__main__":
    PAGE.write_text(page())
