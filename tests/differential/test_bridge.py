"""Whatever a kernel sends, the client gets from kernelwire what it gets from stock, byte by byte.

Left out, each with the test that covers it:

* messages without a delimiter or with fewer than four parts, which stock forwards or fails on:
  ``test_robust.py``
* what stock's streams do after an exception, which is nothing any more: ``test_robust.py``
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from support.kernel_messages import messages, odd_messages
from support.workbench import STOCK, Workbench, clock, compare

DATE = datetime(2026, 1, 1, tzinfo=UTC)

STEPS = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.01, 0.3, 1.0, 5.0)),
        st.lists(st.one_of(messages(), messages(), messages(), odd_messages()), max_size=8),
    ),
    max_size=8,
)
TRAITS = st.fixed_dictionaries(
    {},
    optional={
        "allow_tracebacks": st.booleans(),
        "limit_rate": st.booleans(),
        "iopub_msg_rate_limit": st.sampled_from((-1.0, 0.0, 1.0, 3.5, 1000.0)),
        "iopub_data_rate_limit": st.sampled_from((0.0, 500.0, 3000.0, 1e6)),
        "rate_limit_window": st.sampled_from((-1.0, 0.05, 1.0, 3.0)),
    },
)

Steps = list[tuple[float, list[tuple[str, list[bytes]]]]]


async def play(way: str, steps: Steps, traits: dict[str, Any]) -> dict[str, Any]:
    """Play a script to a connection; return all that can be seen of it."""
    now = [1_000.0]
    with clock(now, DATE):
        bench = Workbench(way, **traits, **({} if way == STOCK else {"iopub_overflow": "drop"}))
        try:
            states = []
            for pause, batch in steps:
                now[0] += pause
                # Order holds within a channel: the channels are read one after the other. A client
                # that lags gets a reply first, and is limited when it comes to a message.
                for channel in ("iopub", "shell"):
                    bench.deliver([message for message in batch if message[0] == channel])
                    await bench.sent()
                states.append(limiter(bench.connection))
            return {
                "bytes": await bench.sent(),
                "warnings": [line for line in bench.log.lines if not line.startswith("Dropped")],
                "limiter": states,
            }
        finally:
            bench.close()


def limiter(connection: Any) -> tuple[Any, ...]:
    """Return the rate limiter's state, where stock has it."""
    return (
        connection._iopub_window_msg_count,
        connection._iopub_window_byte_count,
        connection._iopub_msgs_exceeded,
        connection._iopub_data_exceeded,
        list(connection._iopub_window_byte_queue),
    )


@given(steps=STEPS, traits=TRAITS)
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
def test_client_when_kernel_sends_anything_then_gets_what_stock_sends(
    steps: Steps, traits: dict[str, Any]
) -> None:
    """Stops every difference in bytes, order, warnings or the limiter's state."""
    compare(play, steps, traits)
