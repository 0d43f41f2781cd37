"""Clients of the default websocket protocol get from kernelwire what they get from stock, as JSON.

Left out is what ``test_bridge.py`` leaves out.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import struct
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernelwire.connection.websocket import KernelwireWebsocketConnection
from support.flooding import let_go
from support.kernel_messages import DELIMITER, MESSAGE_TYPES, content, odd_messages, spelled
from support.waiting import run_to_end
from support.workbench import NATIVE, PORTABLE, STOCK, Workbench, clock, compare

if TYPE_CHECKING:
    from collections.abc import Iterator

DATE = datetime(2026, 1, 1, tzinfo=UTC)
KEY = b"key"

DATES = (
    "2026-02-28T23:59:59.123456Z", "2026-02-28T23:59:59.000000Z", "2026-02-28T23:59:59Z",
    "2026-02-28T23:59:59.5Z", "2026-02-28T23:59:59.123456+00:00", "2026-02-28T23:59:59.123456+0230",
    "2024-02-29T00:00:00.000001Z", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "yesterday", "",
    "2026-02-28T24:00:00Z", "2026-02-28", "٢026-02-28T23:59:59Z", "2026-02-28T23:59:59Z\n", None, 5,
)  # fmt: skip
NUMBERS = (
    b'{"a": 123456789012345678901234567890}', b'{"a": -9223372036854775809}', b'{"a": 1e400}',
    b'{"a": [1E5, 1.10, 12345678901234567, 1e-400, 0.1e1, -0, 1.7976931348623157e308]}',
)  # fmt: skip
VERSIONS = ("5.4", "5.4", "5.4", "5.0", "5", "4.1", "6.0", "five", None, 5)


def signature(parts: list[bytes]) -> bytes:
    """Sign as a kernel does."""
    return hmac.new(KEY, b"".join(parts[:4]), hashlib.sha256).hexdigest().encode()


@st.composite
def headers(draw: st.DrawFn, msg_type: str) -> dict[str, Any]:
    """A header of any version, with dates in all places and spellings."""
    header: dict[str, Any] = {
        "msg_id": draw(st.sampled_from(("id", "id\u00e9", "2026-02-28T23:59:59Z"))),
        "msg_type": msg_type,
        "username": draw(st.text(max_size=4)),
        "date": draw(st.sampled_from(DATES[:1] * 5 + DATES)),
        "version": draw(st.sampled_from(VERSIONS)),
    }
    header |= draw(
        st.dictionaries(
            st.sampled_from(("nested", "more")),
            st.one_of(
                st.lists(st.sampled_from(DATES), max_size=2),
                st.fixed_dictionaries({"when": st.sampled_from(DATES)}),
            ),
            max_size=1,
        )
    )
    lacking = draw(st.sampled_from((*["nothing"] * 12, "msg_id", "date", "version")))
    header.pop(lacking, None)
    return header


@st.composite
def genuine(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A message as a kernel signs it, now and then wrongly, and its channel."""
    msg_type = draw(st.sampled_from(MESSAGE_TYPES))
    parent: Any = draw(st.one_of(st.just({}), st.none(), headers("execute_request")))
    parts = [
        spelled(draw, draw(headers(msg_type))),
        json.dumps(parent).encode(),
        draw(st.sampled_from((b"{}", b'{"tags":["\xc3\xa9"]}', b"null", b'{"a": NaN}', *NUMBERS))),
        spelled(draw, content(draw, msg_type, draw(st.integers(0, 300)))),
    ]
    right = draw(st.sampled_from((True, True, True, True, False)))
    signed = signature(parts) if right else draw(st.sampled_from((b"", b"forged", b"0" * 64)))
    buffers = draw(st.lists(st.binary(max_size=50), max_size=3))
    channel = draw(st.sampled_from(("iopub", "iopub", "shell")))
    return channel, [b"topic", DELIMITER, signed, *parts, *buffers]


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[str, list[bytes]]]:
    """Messages, some of them twice."""
    batch = draw(st.lists(st.one_of(genuine(), genuine(), odd_messages()), max_size=8))
    again = draw(st.lists(st.sampled_from(batch), max_size=2)) if batch else []
    return batch + again


def frames(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Split what a server has sent into opcodes and payloads."""
    at = 0
    while at < len(data):
        opcode, length, at = data[at] & 15, data[at + 1], at + 2
        if length >= 126:
            size = 2 if length == 126 else 8
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        yield opcode, data[at : at + length]
        at += length


def read(opcode: int, payload: bytes) -> tuple[int, str, list[bytes]]:
    """Read a message as a client does: the document in one spelling, and the buffers."""
    buffers: list[bytes] = []
    if opcode == 2:
        count = int.from_bytes(payload[:4], "big")
        offsets = [*struct.unpack(f"!{count}I", payload[4 : 4 * (count + 1)]), len(payload)]
        payload, *buffers = (payload[a:b] for a, b in pairwise(offsets))
    return opcode, json.dumps(json.loads(payload), sort_keys=True), buffers


async def play(way: str, steps: Any, traits: dict[str, Any]) -> dict[str, Any]:
    """Play a script to a connection; return all that can be seen of it."""
    now = [1_000.0]
    with clock(now, DATE):
        if way != STOCK:
            traits = {"iopub_overflow": "drop", **traits}
        bench = Workbench(way, subprotocol=None, **traits)
        try:
            for pause, batch in steps:
                now[0] += pause
                for channel in ("iopub", "shell"):
                    bench.deliver([message for message in batch if message[0] == channel])
            return {
                "messages": [read(*frame) for frame in frames(await bench.sent())],
                "warnings": [line for line in bench.log.lines if not line.startswith("Dropped")],
            }
        finally:
            bench.close()


@given(
    steps=st.lists(st.tuples(st.sampled_from((0.0, 0.3, 5.0)), batches()), max_size=6),
    traits=st.fixed_dictionaries(
        {},
        optional={
            "allow_tracebacks": st.booleans(),
            "iopub_msg_rate_limit": st.sampled_from((0.0, 1.0, 3.5)),
            "iopub_data_rate_limit": st.sampled_from((0.0, 500.0, 3000.0)),
        },
    ),
)
@settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
def test_client_when_it_speaks_the_default_protocol_then_gets_what_stock_sends(
    steps: Any, traits: dict[str, Any]
) -> None:
    """Stops every difference in values, order, kind of frame, or warnings."""
    compare(play, steps, traits)


def message(number: int, msg_type: str = "stream", **more: Any) -> tuple[str, list[bytes]]:
    """One of many genuine messages."""
    header = {"msg_id": str(number), "msg_type": msg_type, "date": DATES[0], "version": "5.4"}
    body = more or {"name": "stdout", "text": f"{number}\n"}
    parts = [json.dumps(part).encode() for part in (header, {}, {}, body)]
    return "iopub", [DELIMITER, signature(parts), *parts]


both_ways = pytest.mark.parametrize("way", [NATIVE, PORTABLE])


@both_ways
def test_message_when_it_is_plain_then_python_does_not_see_it(way: str) -> None:
    """Stops the fast path from being right only because it is never taken."""

    async def check() -> None:
        bench = Workbench(way, subprotocol=None)
        bench.deliver([message(number) for number in range(5)])
        bench.deliver([("shell", message(5, "execute_reply", status="ok")[1])])
        assert bench.connection.stats["forwarded"] == 5
        assert bench.connection.stats["handed_over"] == 0
        assert len([*frames(await bench.sent())]) == 6
        bench.close()

    run_to_end(check)


@both_ways
@pytest.mark.parametrize("channel", ["iopub", "shell"])
def test_message_that_is_repeated_arrives_once(way: str, channel: str) -> None:
    """Somebody who holds the kernel's socket cannot replay a message; stock's session refuses it."""

    async def check() -> None:
        bench = Workbench(way, subprotocol=None)
        one, other = message(1)[1], message(2)[1]
        bench.deliver([(channel, one), (channel, one), (channel, other), (channel, one)])
        ids = [json.loads(payload)["msg_id"] for _, payload in frames(await bench.sent())]
        assert ids == ["1", "2"]
        bench.close()

    run_to_end(check)


@both_ways
def test_output_when_over_the_limit_then_is_joined_and_all_of_it_arrives(way: str) -> None:
    """Stops joined messages from being taken for forged or repeated ones."""

    async def check() -> None:
        now = [1_000.0]
        with clock(now, DATE):
            bench = Workbench(way, subprotocol=None, iopub_msg_rate_limit=3.0)
            for first in range(0, 60, 4):
                now[0] += 0.06
                bench.deliver([message(number) for number in range(first, first + 4)])
            bench.deliver([message(60, "status", execution_state="idle")])
            for _ in range(10):
                now[0] += 1.0
                let_go(bench)
            documents = [json.loads(payload) for _, payload in frames(await bench.sent())]
            said = [d["content"] for d in documents if d["msg_type"] == "stream"]
            text = "".join(each["text"] for each in said if each["name"] == "stdout")
            stats = bench.connection.stats
            assert stats["merged"] > 0
            assert text == "".join(f"{number}\n" for number in range(60))
            assert documents[-1]["content"] == {"execution_state": "idle"}
            assert not [line for line in bench.log.lines if line.startswith("Dropped")]
            bench.close()

    run_to_end(check)


@both_ways
def test_message_when_it_was_not_written_then_the_next_connection_has_it(way: str) -> None:
    """Stops what is taken apart again from changing on the way."""

    async def check() -> None:
        bench = Workbench(way, subprotocol=None)
        channel, sent = message(1, "display_data", data={"text/plain": "\u00e9"})
        _, with_buffers = message(2, "comm_msg", comm_id="c", data={})
        with_buffers += [b"buffer", b""]
        bench.handler.ws_connection.client_terminated = True
        bench.deliver([(channel, sent), (channel, with_buffers)])
        kept = [frames for _, frames in bench.connection._take_backlog()]
        assert kept == [sent, with_buffers]
        bench.close()

    run_to_end(check)


@pytest.mark.parametrize(
    ("trait", "value", "why"),
    [("signature_scheme", "hmac-md5", "hmac-md5"), ("debug", True, "own hands")],
)
def test_session_when_it_must_see_messages_then_they_go_one_by_one(
    trait: str, value: object, why: str
) -> None:
    """Stops sessions that are out of the ordinary from being passed by."""

    async def check() -> None:
        bench = Workbench(NATIVE, subprotocol=None)
        setattr(bench.connection.session, trait, value)
        assert why in str(KernelwireWebsocketConnection._obstacle(bench.connection))
        bench.close()

    run_to_end(check)
