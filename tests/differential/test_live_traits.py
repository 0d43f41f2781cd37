"""Settings that are changed while a connection is live: order is kept, and the new one counts."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1

from support.desk import finish, leave_while_running, seen_numbers, written
from support.fake_kernel import emit, script
from support.flooding import (
    ROOM,
    arrive,
    exceed,
    head,
    iopub,
    kernels,
    let_go,
    packed,
    printed,
    received,
    workbench,
)
from support.offline_messages import message_header
from support.streams import turns
from support.waiting import run_to_end, wait_until_async
from support.workbench import NATIVE, PORTABLE

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk

SMALL = 1_000_000
"""Bytes in which not all of a cell's output fits."""

WAYS = pytest.mark.parametrize("way", [NATIVE, PORTABLE])

CHANGES: list[tuple[str, Any]] = [
    ("iopub_overflow", "drop"),
    ("limit_rate", False),
    ("iopub_msg_rate_limit", 0.0),
    ("iopub_msg_rate_limit", 1e9),
    ("iopub_data_rate_limit", 1e9),
    ("rate_limit_window", 0.0),
]


@WAYS
@pytest.mark.parametrize(("trait", "value"), CHANGES)
def test_limits_when_changed_while_output_waits_then_order_is_kept(
    way: str, trait: str, value: Any
) -> None:
    """Stops what comes later from overtaking what has waited by the limit before."""

    async def play() -> None:
        with workbench(way, **ROOM) as bench:
            exceed(bench)
            arrive(bench, [printed(number) for number in range(3)])
            assert bench.connection.stats["paced"] > 0
            setattr(bench.connection, trait, value)
            # Nothing limits an error, whatever the settings are.
            error = iopub([packed(message_header("error", 3)), head(), b"{}", b"{}"])
            arrive(bench, [error, printed(4)])
            let_go(bench)
            await wait_until_async(lambda: not bench.connection.stats["paced"], what="its turn")
            numbers = [n for got in await kernels(bench) for n in got.numbers if n < 1000]
            assert numbers == [0, 1, 2, 3, 4]  # the limit is off, or it has waited

    run_to_end(play)


@WAYS
@pytest.mark.parametrize("seconds", [0.0, 0.05])
def test_pace_seconds_when_lowered_live_then_what_waits_is_not_lost_without_a_word(
    way: str, seconds: float
) -> None:
    """Stops a change of the time from losing output that nobody is told of."""

    async def play() -> None:
        with workbench(way, iopub_msg_rate_limit=0.5, rate_limit_window=2.0) as bench:
            arrive(bench, [printed(number, parent=number) for number in range(20)])
            assert bench.connection.stats["paced"] == 19
            bench.connection.iopub_pace_seconds = seconds
            await wait_until_async(lambda: not bench.connection.stats["paced"], what="its turn")
            got = await received(bench)
            numbers = [n for one in got for n in one.numbers]
            if seconds == 0:
                # It has waited where it was to wait, and is not thrown away for that.
                assert numbers == list(range(20))
                assert len(got) == 20
            else:
                dropped = bench.connection.stats["congested"]
                assert dropped == 20 - len(numbers) > 0
                # One notice, or, where the machine has taken its time, more, a second apart.
                told = 0
                while told < dropped:
                    notices = [one.content["text"] for one in got[len(numbers) :]]
                    assert all("iopub_pace_seconds=0.05 (seconds)" in text for text in notices)
                    told = sum(int(text.split(" messages (")[0]) for text in notices)
                    await asyncio.sleep(0.01)
                    got = await received(bench)
                assert told == dropped

    run_to_end(play)


@WAYS
def test_tracebacks_when_hidden_live_then_the_next_error_is(way: str) -> None:
    """Stops a privacy setting from waiting for the next connection."""

    async def play() -> None:
        with workbench(way) as bench:
            content = packed({"ename": "E", "evalue": "e", "traceback": ["secret"]})
            for hidden in (False, True, False):
                bench.kernels.allow_tracebacks = not hidden
                error = iopub([packed(message_header("error", 1)), b"{}", b"{}", content])
                arrive(bench, [error])
                let_go(bench)
                last = (await kernels(bench))[-1]
                assert (last.content["traceback"] != ["secret"]) is hidden

    run_to_end(play)


@WAYS
def test_types_when_allowed_live_then_the_next_request_is(way: str) -> None:
    """Stops a whitelist from waiting for the next connection."""

    async def play() -> None:
        with workbench(way) as bench:
            header = json.dumps({"msg_type": "comm_msg"}).encode()
            frame = serialize_msg_to_ws_v1([header, b"{}", b"{}", b"{}"], "shell")
            for allowed, passes in ([], 1), (["x"], 0), (["x", "comm_msg"], 1), ([], 1):
                bench.kernels.allowed_message_types = allowed
                bench.connection.handle_incoming_message(frame)
                assert bench.kernel_ends["shell"].poll(0) == passes
                if passes:
                    bench.kernel_ends["shell"].recv_multipart()

    run_to_end(play)


@WAYS
def test_pending_bytes_when_lowered_live_then_output_is_dropped_from_there(way: str) -> None:
    """Stops a lower bound from waiting for the next connection."""

    async def play() -> None:
        with workbench(way, limit_rate=False) as bench:
            bulk = [printed(number, "x" * 100_000) for number in range(40)]
            arrive(bench, bulk)
            assert bench.connection.stats["congested"] == 0
            bench.connection.max_pending_bytes = 1_000_000
            arrive(bench, bulk)
            dropped = bench.connection.stats["congested"]
            assert dropped > 0
            await bench.sent()
            await turns()  # the client has caught up
            for unlimited in (0, 1 << 70):
                bench.connection.max_pending_bytes = unlimited
                arrive(bench, bulk)
                assert bench.connection.stats["congested"] == dropped

    run_to_end(play)


@pytest.mark.kernelwire_only("H17")
@pytest.mark.parametrize("when", ["connected", "away"])
def test_offline_bytes_when_lowered_live_then_what_is_too_much_is_dropped_and_told(
    desk: RunOnDesk, when: str
) -> None:
    """Stops the size that a server was started with from being kept until its sessions are gone."""

    async def body(the_desk: Desk) -> None:
        manager = the_desk.multi_kernel_manager
        first = await the_desk.connected()
        if when == "connected":
            manager.max_offline_buffer_bytes = SMALL
        leave_while_running(first, script(emit(300, size=10_000)))
        buffer = manager._kernel_buffers[the_desk.kernel_id]["buffer"]
        await wait_until_async(
            lambda: any(b'"idle"' in frames[-1] for _, frames in buffer), what="the end of the cell"
        )
        if when == "away":
            assert not buffer.dropped
            manager.max_offline_buffer_bytes = SMALL
        assert buffer.dropped
        again = the_desk.connection()
        again.session.session = first.session.session
        await again.prepare()
        await again.connect()
        await wait_until_async(lambda: seen_numbers(again)[-1:] == [299], what="the rest")
        assert len(seen_numbers(again)) == 300 - buffer.dropped
        (notice,) = (m for m in written(again) if m["msg_type"] == "stream")
        assert "while no client" in notice["content"]["text"]
        finish(the_desk, again)

    desk(body)
