"""``handle_outgoing_message`` as a coroutine function: awaited, one message at a time, in order."""

from __future__ import annotations

import asyncio
from itertools import cycle
from typing import TYPE_CHECKING, Any

import pytest

from support.desk import finish, leave_while_running, run_on_shell, seen_numbers, written
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk

pytestmark = pytest.mark.kernelwire_only("F")


class Slow:
    """Takes some turns of the loop for each message, for some more than for others."""

    running = 0
    most_running = 0
    gate: asyncio.Event | None = None
    """Where there is one, messages wait for it."""
    failing: int | None = None
    """A number whose message raises."""

    async def handle_outgoing_message(self, stream: Any, frames: list[bytes]) -> None:
        """Handle a message as upstream does, after a while."""
        self.running += 1
        self.most_running = max(self.most_running, self.running)
        try:
            for _ in range(next(self.turns)):
                await asyncio.sleep(0)
            if self.gate is not None:
                await self.gate.wait()
            if self.failing is not None and b'"number": %d}' % self.failing in frames[-2]:
                raise ValueError("one message that fails")
            super().handle_outgoing_message(stream, frames)  # type: ignore[misc]
        finally:
            self.running -= 1

    turns = cycle((3, 0, 1, 5, 0, 2))


def slow_connection(the_desk: Desk, session_id: str | None = None) -> Any:
    """A connection whose messages are handled slowly."""
    cls = type("SlowConnection", (Slow, the_desk.connection_class), {})
    made = cls(parent=the_desk.kernel, websocket_handler=the_desk.connection().websocket_handler)
    made.session.session = session_id or made.session.session
    return made


async def connected(the_desk: Desk, session_id: str | None = None) -> Any:
    """A slow connection that is live or replays."""
    connection = slow_connection(the_desk, session_id)
    await connection.prepare()
    await connection.connect()
    await wait_until_async(lambda: connection._client is not None, what="the end of the replay")
    return connection


async def has_seen(connection: Any, numbers: list[int]) -> None:
    """Wait until a connection has sent just these."""
    await wait_until_async(
        lambda: len(seen_numbers(connection)) >= len(numbers), what="all numbers"
    )
    assert seen_numbers(connection) == numbers
    assert connection.most_running == 1


class TestCoroutine:
    """Messages are handled one at a time, in order, whenever they come."""

    def test_messages_during_the_nudge_are_awaited(self, desk: RunOnDesk) -> None:
        """What comes before the connection is live is handled, in front of the rest."""

        async def body(the_desk: Desk) -> None:
            worker, connection = await the_desk.connected(), slow_connection(the_desk)
            await connection.prepare()
            done = connection.connect()
            while not done.done():
                run_on_shell(worker, script(emit(1)))
                await asyncio.sleep(0.01)
            run_on_shell(worker, script(emit(3)))
            await wait_until_async(
                lambda: (
                    seen_numbers(worker)[-1:] == seen_numbers(connection)[-1:] != []
                    and len(seen_numbers(connection)) > 3
                ),
                what="the last message",
            )
            seen = seen_numbers(connection)
            assert seen == list(range(seen[0], seen[-1] + 1))
            assert connection.most_running == 1
            for each in (connection, worker):
                finish(the_desk, each)

        desk(body)

    def test_replayed_messages_are_awaited(self, desk: RunOnDesk) -> None:
        """A replay waits for each message, and live output follows it; no limit applies to it."""

        async def body(the_desk: Desk) -> None:
            first = await connected(the_desk)
            leave_while_running(first, script(emit(60)))
            buffered = the_desk.multi_kernel_manager._kernel_buffers[the_desk.kernel_id]["buffer"]
            await wait_until_async(lambda: len(buffered) >= 62, what="the backlog")
            again = slow_connection(the_desk, first.session.session)
            again.iopub_msg_rate_limit = 1
            await again.prepare()
            await again.connect()
            await has_seen(again, list(range(60)))
            again.iopub_msg_rate_limit = 0
            run_on_shell(again, script(emit(5)))
            await has_seen(again, list(range(65)))
            finish(the_desk, again)

        desk(body)

    def test_live_messages_are_awaited(self, desk: RunOnDesk) -> None:
        """Messages that wait for a coroutine keep their order."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk)
            run_on_shell(connection, script(emit(200)))
            await has_seen(connection, list(range(200)))
            finish(the_desk, connection)

        desk(body)

    def test_queue_is_bounded(self, desk: RunOnDesk) -> None:
        """While a coroutine takes its time, only so much waits; the client is told of the rest."""

        async def body(the_desk: Desk) -> None:
            worker, connection = await the_desk.connected(), await connected(the_desk)
            connection.max_pending_bytes = 20_000
            gate = connection.gate = asyncio.Event()
            run_on_shell(worker, script(emit(100)))
            await wait_until_async(lambda: len(seen_numbers(worker)) == 100, what="all of it")
            dropped = connection.stats["congested"]
            assert 0 < dropped < 100
            gate.set()
            await wait_until_async(
                lambda: any("were dropped" in c.get("text", "") for c in contents(connection)),
                what="the notice",
            )
            await has_seen(connection, list(range(dropped, 100)))
            for each in (connection, worker):
                finish(the_desk, each)

        desk(body)

    def test_failing_message_costs_no_other(self, desk: RunOnDesk) -> None:
        """An exception is logged; live and replayed messages behind it are handled."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk)
            connection.failing = 2
            run_on_shell(connection, script(emit(5)))
            await has_seen(connection, [0, 1, 3, 4])
            leave_while_running(connection, script(emit(5)))
            again = slow_connection(the_desk, connection.session.session)
            again.failing = 6
            await again.prepare()
            await again.connect()
            await has_seen(again, [5, 7, 8, 9])
            finish(the_desk, again)

        desk(body)

    def test_notice_of_a_restart_comes_behind_them(self, desk: RunOnDesk) -> None:
        """It does not overtake what the kernel has said before."""

        async def body(the_desk: Desk) -> None:
            worker, connection = await the_desk.connected(), await connected(the_desk)
            gate = connection.gate = asyncio.Event()
            run_on_shell(worker, script(emit(20)))
            await wait_until_async(lambda: len(seen_numbers(worker)) == 20, what="all of it")
            connection.on_kernel_restarted()
            gate.set()
            await wait_until_async(
                lambda: {"execution_state": "restarting"} in contents(connection),
                what="the notice",
            )
            assert contents(connection)[-1] == {"execution_state": "restarting"}
            assert seen_numbers(connection) == list(range(20))
            for each in (connection, worker):
                finish(the_desk, each)

        desk(body)

    def test_client_that_goes_loses_nothing(self, desk: RunOnDesk) -> None:
        """What was queued or being handled waits for the session's next connection, in order."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk)
            connection.gate = asyncio.Event()
            run_on_shell(connection, script(emit(10)))
            await wait_until_async(lambda: connection.stats["queued"] >= 5, what="queued messages")
            connection.disconnect()
            again = slow_connection(the_desk, connection.session.session)
            gate = again.gate = asyncio.Event()
            await again.prepare()
            await again.connect()
            await wait_until_async(lambda: again.running == 1, what="the replay")
            again.disconnect()
            gate.set()
            last = await connected(the_desk, connection.session.session)
            await has_seen(last, list(range(10)))
            assert seen_numbers(connection) + seen_numbers(again) == []
            finish(the_desk, last)

        desk(body)


def contents(connection: Any) -> list[dict[str, Any]]:
    """The contents of what was sent."""
    return [message["content"] for message in written(connection)]
