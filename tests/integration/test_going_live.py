"""From the handshake to a live connection: no message is swallowed, overtaken or unanswered."""

from __future__ import annotations

import asyncio
import gc
import json
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from weakref import ref

import pytest
from jupyter_server import CallContext
from tornado.ioloop import PeriodicCallback
from tornado.web import Finish

from kernelwire.connection.nudge import current_state
from kernelwire.log.backlog import Backlog
from support.desk import (
    finish,
    leave_while_running,
    run_on_shell,
    seen_numbers,
    silenced,
    written,
)
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk
    from support.server import StartKernel
    from support.ws_client import Connect


@pytest.mark.kernelwire_only("H6")
def test_prepare_when_client_goes_meanwhile_then_it_ends_quietly(desk: RunOnDesk) -> None:
    """Stops the handler from going on without a connection, into a traceback with the address."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        asyncio.get_running_loop().call_soon(connection.disconnect)
        with pytest.raises(Finish):
            await connection.prepare()
        assert the_desk.count == 0

    desk(body)


@pytest.mark.kernelwire_only("H26")
@pytest.mark.parametrize("version", ["x", 5.4, None])
def test_prepare_when_protocol_version_is_odd_then_the_client_is_not_kept_waiting(
    desk: RunOnDesk, version: Any
) -> None:
    """Stops a kernel's typing error from costing a minute with every page load."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        connection._finish_kernel_info({"protocol_version": version})
        assert connection._kernel_info_future.done()

    desk(body)


@pytest.mark.kernelwire_only("H7")
def test_nudge_when_the_connection_is_live_then_it_is_answered(desk: RunOnDesk) -> None:
    """Stops a later request for a sign of life from waiting in vain, and from taking the output."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        await asyncio.wrap_future(connection.nudge())
        run_on_shell(connection, script(emit(1)))
        await wait_until_async(lambda: seen_numbers(connection) == [0], what="the output")
        finish(the_desk, connection)

    desk(body)


@pytest.mark.kernelwire_only("I8")
def test_connect_when_the_kernel_has_said_something_before_then_that_is_enough(
    desk: RunOnDesk,
) -> None:
    """Stops a tab from waiting for a status that proves what the first tab's output has proven."""

    async def body(the_desk: Desk) -> None:
        first = await the_desk.connected()
        run_on_shell(first, script({"do": "hush"}))
        await wait_until_async(lambda: idle_after_busy(first), what="its last status")
        second = the_desk.connection()
        await second.prepare()
        await asyncio.wait_for(second.connect(), 10)
        run_on_shell(second, script(emit(1)))
        await wait_until_async(lambda: seen_numbers(second) == [0], what="the output")
        second.disconnect()
        finish(the_desk, first)

    desk(body)


def info_request(connection: Any) -> str:
    """A request in the default protocol, as a client sends it."""
    message = connection.session.msg("kernel_info_request")
    return json.dumps(message | {"channel": "shell", "buffers": []}, default=str)


def idle_after_busy(connection: Any) -> bool:
    """Whether the client was told that its request has been dealt with."""
    mine = [
        message["content"]["execution_state"]
        for message in written(connection)
        if message["msg_type"] == "status"
        and message["parent_header"].get("session") == connection.session.session
    ]
    return mine == ["busy", "idle"]


@pytest.mark.kernelwire_only("H7")
def test_nudge_when_kernel_talks_meanwhile_then_all_of_it_reaches_the_client(
    desk: RunOnDesk,
) -> None:
    """Stops what comes while the kernel is asked from being swallowed."""

    async def body(the_desk: Desk) -> None:
        worker, connection = await the_desk.connected(), the_desk.connection()
        await connection.prepare()
        with silenced(connection):
            connected = connection.connect()
            run_on_shell(worker, script(emit(1)))
            await wait_until_async(lambda: len(Backlog(connection._client)) > 0, what="the output")
            heard = [frames for _, frames in Backlog(connection._client)]
        await connected
        run_on_shell(worker, script({"do": "emit", "type": "error", "count": 1}))
        await wait_until_async(
            lambda: "error" in {m["msg_type"] for m in written(connection)}, what="the last message"
        )
        ids = {m["msg_id"] for m in written(connection)}
        assert {msg_id(frames) for frames in heard} <= ids
        seen = seen_numbers(connection)
        assert seen == list(range(seen[0], seen[-1] + 1))
        for each in (connection, worker):
            finish(the_desk, each)

    desk(body)


@pytest.mark.kernelwire_only("H18")
def test_nudge_when_an_event_comes_after_its_end_then_nothing_is_logged(
    desk: RunOnDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """Stops a warning about a closed stream with some connections and not with others."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        await connection.prepare()
        connected = connection.connect()
        probes = list(connection._nudge._probe.streams.values())
        await connected
        for probe in probes:
            assert probe.closed()
            # What a stream has scheduled for itself is not taken back when it is closed.
            probe._handle_events(None, 0)
        assert [record.getMessage() for record in caplog.records] == []
        finish(the_desk, connection)

    desk(body)


@pytest.mark.kernelwire_only("H7")
def test_restart_when_messages_are_replayed_then_the_notice_comes_behind_them(
    desk: RunOnDesk,
) -> None:
    """Stops a crash notice from overtaking the last words of the crashed kernel."""

    async def body(the_desk: Desk) -> None:
        first = await the_desk.connected()
        leave_while_running(first, script(emit(50)))
        # A busy kernel is not asked whether it is ready: the connection would be live at once.
        # It is idle before the cell as well, hence the backlog: busy, the output, idle, the reply.
        backlog = the_desk.multi_kernel_manager._kernel_buffers[the_desk.kernel_id]["buffer"]
        await wait_until_async(
            lambda: len(backlog) >= 53 and current_state(first) == "idle",
            what="the end of the cell",
        )
        again = the_desk.connection()
        again.session.session = first.session.session
        await again.prepare()
        with silenced(again):
            connected = again.connect()
            await wait_until_async(lambda: len(Backlog(again._client)) >= 50, what="the backlog")
            again.on_kernel_restarted()
            assert written(again) == []
        await connected
        await wait_until_async(lambda: any(map(is_restarting, written(again))), what="the notice")
        messages = written(again)
        before = messages[: [is_restarting(m) for m in messages].index(True)]
        assert [m["metadata"]["number"] for m in before if m["metadata"]] == list(range(50))
        finish(the_desk, again)

    desk(body)


def is_restarting(message: dict[str, Any]) -> bool:
    """Whether this says that the kernel restarts."""
    return message["content"] == {"execution_state": "restarting"}


def msg_id(frames: list[bytes]) -> str:
    """The id of a message as it came from the kernel."""
    return json.loads(frames[frames.index(b"<IDS|MSG>") + 2])["msg_id"]


def test_message_when_it_is_sent_right_after_the_handshake_then_it_is_answered(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops requests that come before the kernel was found ready from being lost."""
    client = connect(start_kernel("fake"), settle=False)
    assert client.execute(script(emit(3))).numbers == [0, 1, 2]


class TestGivenUp:
    """A connection that its caller or its client has given up."""

    @pytest.mark.kernelwire_only("L")
    def test_cancelled_connect_does_not_go_live(self, desk: RunOnDesk) -> None:
        """A caller that waits no longer leaves nothing behind, and nothing is served."""

        async def body(the_desk: Desk) -> None:
            connection = the_desk.connection()
            await connection.prepare()
            with silenced(connection):
                with pytest.raises(asyncio.TimeoutError):
                    await asyncio.wait_for(connection.connect(), 0.1)
                await wait_until_async(lambda: the_desk.count == 0, what="the end")
            assert connection.channels == {}
            assert connection not in connection._open_sockets

        desk(body)

    @pytest.mark.kernelwire_only("N14")
    def test_closed_connection_is_released(self, desk: RunOnDesk) -> None:
        """No timer keeps a connection in memory for a minute after its end."""

        async def body(the_desk: Desk) -> None:
            the_desk.multi_kernel_manager.buffer_offline_messages = False
            (await the_desk.connected()).disconnect()  # the kernel keeps what the first one asked
            connection = await the_desk.connected()
            alive = ref(connection)
            connection.disconnect()
            del connection

            def is_released() -> bool:
                gc.collect()
                return alive() is None

            await wait_until_async(is_released, what="the release")

        desk(body)

    @pytest.mark.kernelwire_only("N14")
    def test_closed_connection_is_no_work_for_the_garbage_collector(self, desk: RunOnDesk) -> None:
        """What thousands of tabs leave is freed as they close, not when Python looks for cycles."""

        async def used_and_closed(the_desk: Desk) -> list[ref[Any]]:
            connection = await the_desk.connected()
            connection.handle_incoming_message(info_request(connection))
            await wait_until_async(lambda: idle_after_busy(connection), what="the answer")
            parts = [connection, connection._client, *connection.channels.values()]
            connection.disconnect()
            return [ref(part) for part in parts]

        async def body(the_desk: Desk) -> None:
            the_desk.multi_kernel_manager.buffer_offline_messages = False
            (await the_desk.connected()).disconnect()
            gc.collect()
            gc.disable()
            try:
                alive = await used_and_closed(the_desk)
                await wait_until_async(
                    lambda: all(part() is None for part in alive), what="the release"
                )
            finally:
                gc.enable()

        desk(body)

    @pytest.mark.kernelwire_only("N14")
    def test_closed_websocket_is_released(self, desk: RunOnDesk) -> None:
        """The timer for pings does not keep a websocket in memory until the next one is due."""

        async def body(the_desk: Desk) -> None:
            connection = await the_desk.connected()
            handler = connection.websocket_handler
            timer = handler.ping_callback = PeriodicCallback(handler.send_ping, 30_000)
            timer.start()
            handler.connection = connection
            handler.ws_connection = None  # as tornado has it before it calls `on_close`
            handler.on_close()
            assert not timer.is_running()
            finish(the_desk, connection)

        desk(body)

    @pytest.mark.kernelwire_only("N14")
    def test_context_of_a_timer_does_not_keep_the_websocket(self, desk: RunOnDesk) -> None:
        """A timer keeps the context of the request until it is due, also when it is cancelled."""

        async def body(the_desk: Desk) -> None:
            the_desk.multi_kernel_manager.buffer_offline_messages = False
            connection = the_desk.connection()
            handler = connection.websocket_handler
            CallContext.set(CallContext.JUPYTER_HANDLER, handler)
            await connection.prepare()
            assert CallContext.get(CallContext.JUPYTER_HANDLER) == handler
            context = copy_context()
            alive = ref(handler)
            connection.disconnect()
            del connection, handler

            def is_released() -> bool:
                gc.collect()
                return alive() is None

            await wait_until_async(is_released, what="the release")
            assert CallContext._NAME_VALUE_MAP in {variable.name for variable in context}

        desk(body)
