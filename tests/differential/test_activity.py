"""Whatever a kernel says, the server thinks of its activity what stock thinks, batch after batch.

Left out is what stock's watcher dies of (H3), each covered by ``test_activity_robust.py``:

* malformed messages: no delimiter, fewer than four parts, parts that are not the JSON they should be
* forged and unsigned messages
* headers without ``msg_id``, ``msg_type`` or ``version``, and those of protocol 4
* dates and versions that do not parse
* parents that are neither an object nor ``null``
* a status without ``execution_state``, or repeated to the letter

The state ``null`` has a test of its own below.

What is logged for DEBUG is not compared: kernelwire logs what says something new.
"""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from unittest.mock import patch

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from support.kernel_messages import spelled
from support.watching import STOCK, WAYS, Watching, date_of, header, parts, status

START = datetime(2026, 1, 1, tzinfo=UTC)

UNTRACKED = (
    "stream", "display_data", "update_display_data", "execute_input", "execute_result", "error",
    "status", "clear_output", "kernel_info_request", "comm_info_reply", "debug_event",
)  # fmt: skip
TRACKED = (
    "execute_request", "execute_reply", "comm_msg", "comm_open", "comm_close", "complete_request",
    "débug", "",
)  # fmt: skip
TYPES = st.sampled_from((*UNTRACKED, *TRACKED))
# What only Python's parsers read: stock follows that as well.
ODD_TYPES = st.sampled_from((None, 1, 1.5, True, ["stream"], {"a": 1}, "\ud800"))
STATES = st.sampled_from(("busy", "idle", "starting", "weird", "", "é"))
ODD_STATES = st.sampled_from((0, 1, False, ["busy"], {}, "\ud83d"))
NAN = b', "nan": NaN}'


class OwnOpinion(AsyncMappingKernelManager):
    """Tracks by a rule of its own, as a subclass may."""

    def track_message_type(self, message_type: Any) -> bool:
        """Track what is short, and what has no parent; never comms."""
        return message_type is None or len(str(message_type)) < len("display_data")


@st.composite
def parents(draw: st.DrawFn) -> bytes:
    """A parent header: a request's, an empty one, or none."""
    kind = draw(st.sampled_from(("request", "request", "request", "odd", "typeless", "none")))
    if kind == "none":
        return draw(st.sampled_from((b"{}", b"null", b" null ", b"{ }", b'{"msg_type": null}')))
    if kind == "typeless":
        return spelled(draw, {"msg_id": "p"})
    if kind == "odd":
        return json.dumps(header(draw(ODD_TYPES))).encode()
    return spelled(draw, header(draw(TYPES)))


@st.composite
def messages(draw: st.DrawFn) -> list[bytes]:
    """The parts of a message that stock survives."""
    odd = draw(st.integers(0, 9)) == 0
    msg_type = draw(st.one_of(TYPES, st.just("status"), st.just("status")))
    if odd:
        msg_type = draw(st.one_of(ODD_TYPES, st.just("status")))
        head = json.dumps(header(msg_type)).encode()
        if draw(st.booleans()):
            head = head[:-1] + NAN
    else:
        head = spelled(draw, header(msg_type))
    if msg_type == "status":
        said = draw(st.one_of(STATES, STATES, STATES, ODD_STATES) if odd else STATES)
        state = {"execution_state": said}
        content = json.dumps(state).encode() if odd else spelled(draw, state)
    else:
        # Stock does not look at it.
        content = draw(st.sampled_from((b"{}", b"", b"{not JSON", b'{"execution_state": "busy"}')))
    metadata = draw(st.sampled_from((b"{}", b'{"tags": ["a"]}')))
    buffers = draw(st.lists(st.binary(max_size=20), max_size=2))
    return [head, draw(parents()), metadata, content, *buffers]


@st.composite
def quiet_messages(draw: st.DrawFn) -> list[bytes]:
    """The parts of a message that counts as activity only while the kernel is busy."""
    msg_type = draw(st.sampled_from(UNTRACKED))
    parent_type = draw(st.sampled_from(UNTRACKED))
    return parts(msg_type, parent_type, {"execution_state": draw(STATES)})


BATCHES = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.5, 60.0)),
        st.one_of(
            st.lists(messages(), max_size=8),
            st.lists(messages(), max_size=1),
            st.lists(quiet_messages(), max_size=3),
        ),
    ),
    max_size=8,
)
SETTINGS = st.fixed_dictionaries(
    {
        "key": st.sampled_from((b"key", b"")),
        "scheme": st.sampled_from(("hmac-sha256", "hmac-sha256", "hmac-sha512")),
        "state": st.sampled_from(("starting", "starting", "idle", "busy", "unknown")),
        "manager_base": st.sampled_from((AsyncMappingKernelManager, OwnOpinion)),
    },
    optional={"untracked_message_types": st.lists(TYPES, max_size=6)},
)
Batches = list[tuple[float, list[list[bytes]]]]


def follow(way: str, batches: Batches, options: dict[str, Any]) -> list[dict[str, Any]]:
    """Let a kernel say all that; return what the server knows after each batch."""
    now = [START]
    with date_of(now):
        watching = Watching(way, **options)
        try:
            seen = [watching.seen]
            for pause, batch in batches:
                now[0] += timedelta(seconds=pause)
                watching.deliver([watching.signed(message) for message in batch])
                seen.append(watching.seen)
            return seen
        finally:
            watching.close()


@given(batches=BATCHES, options=SETTINGS, at_most=st.sampled_from((1, 2, 2048)))
@settings(deadline=None, max_examples=200, suppress_health_check=list(HealthCheck))
def test_activity_when_kernel_says_anything_then_it_is_what_stock_makes_of_it(
    batches: Batches, options: dict[str, Any], at_most: int
) -> None:
    """Stops kernels from being culled at work, or never, because they are followed otherwise."""

    async def compare() -> None:
        expected = follow(STOCK, batches, options)
        with patched_batch(at_most):
            for way in WAYS[1:]:
                assert follow(way, batches, options) == expected, way

    asyncio.run(compare())


@pytest.mark.parametrize("way", WAYS[1:])
@pytest.mark.parametrize("parent", ["execute_request", "kernel_info_request"])
def test_state_when_kernel_says_null_then_it_is_what_stock_makes_of_it(
    way: str, parent: str
) -> None:
    """Stops a starting kernel with an odd first status from being taken for starting for ever."""
    batches = [(0.0, [status(None, parent)])]

    async def compare() -> None:
        assert follow(way, batches, {}) == follow(STOCK, batches, {})

    asyncio.run(compare())


def patched_batch(at_most: int) -> Any:
    """Let one wake-up take no more messages than that."""
    return patch("kernelwire.log.kernel_log.MAX_MESSAGES", at_most)
