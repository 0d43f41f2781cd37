"""The methods others call on a connection: same names, same effects, without a server around.

A real kernel and a real kernel manager, and a mock where the websocket would be, as in the code of
those who wrap or subclass the connection.
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, patch

import pytest
from tornado.websocket import WebSocketHandler
from zmq.eventloop.zmqstream import ZMQStream

from support.desk import close_streams, finish, open_files, written
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.desk import Desk

CHANNELS = {"iopub", "shell", "control", "stdin"}


def test_connection_when_it_is_made_then_it_belongs_to_kernel_and_handler(desk: Any) -> None:
    """Stops wrappers that construct the class themselves from getting something else."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        assert connection.kernel_manager is the_desk.kernel
        assert connection.multi_kernel_manager is the_desk.multi_kernel_manager
        assert connection.kernel_id == the_desk.kernel_id
        assert connection.session_id == connection.session.session
        assert isinstance(connection.websocket_handler, WebSocketHandler)
        assert connection.channels == {}
        assert connection.session_key == ""

    desk(body)


def test_connect_when_kernel_answers_then_channels_live_until_disconnect(desk: Any) -> None:
    """Stops connections that are counted, registered or left open after their end."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        streams = list(connection.channels.values())
        assert set(connection.channels) == CHANNELS
        assert all(isinstance(stream, ZMQStream) for stream in streams)
        assert {stream.channel for stream in streams} == CHANNELS
        assert connection.session_key == f"{the_desk.kernel_id}:{connection.session_id}"
        assert connection in connection._open_sockets
        assert the_desk.count == 1
        the_desk.multi_kernel_manager.buffer_offline_messages = False
        connection.disconnect()
        assert the_desk.count == 0
        assert connection not in connection._open_sockets
        assert connection._close_future.done()
        assert all(stream.closed() for stream in streams)

    desk(body)


def test_disconnect_when_it_is_the_last_then_streams_go_on_buffering(desk: Any) -> None:
    """Stops the output of a closed tab from having nowhere to go."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        connection.disconnect()
        assert not any(stream.closed() for stream in connection.channels.values())
        manager = the_desk.multi_kernel_manager
        buffered = manager.get_buffer(the_desk.kernel_id, connection.session_key)
        assert buffered["channels"] is connection.channels
        close_streams(connection)

    desk(body)


def test_create_stream_when_called_then_each_channel_has_one(desk: Any) -> None:
    """Stops subclasses that make their own streams from missing a channel."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        connection.create_stream()
        assert list(connection.channels) == ["iopub", "shell", "control", "stdin"]
        identities = {s.socket.identity for s in connection.channels.values()}
        assert identities == {connection.session.bsession}
        close_streams(connection)

    desk(body)


def test_nudge_when_done_then_its_own_streams_are_closed(desk: Any) -> None:
    """Stops the two sockets of every page load from leaking."""

    async def body(the_desk: Desk) -> None:
        made: list[ZMQStream] = []
        original = ZMQStream.__init__

        def recording(self: ZMQStream, *args: Any, **kwargs: Any) -> None:
            made.append(self)
            original(self, *args, **kwargs)

        with patch.object(ZMQStream, "__init__", recording):
            connection = the_desk.connection()
            await connection.prepare()
            connection.create_stream()
            kept = set(map(id, connection.channels.values()))
            await nudged(connection)
            await nudged(connection)
        transient = [stream for stream in made if id(stream) not in kept]
        await wait_until_async(lambda: all(s.closed() for s in transient), what="closed streams")
        assert not any(stream.closed() for stream in connection.channels.values())
        close_streams(connection)

    desk(body)


async def nudged(connection: Any) -> None:
    """Nudge, and wait for what it returns as callers do: it may be either kind of future."""
    await asyncio.wait_for(asyncio.wrap_future(connection.nudge()), 10)


def test_outgoing_when_stream_is_named_then_message_is_written_whole(desk: Any) -> None:
    """Stops callers that hand over a single message from being ignored or doubled."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        connection.websocket_handler.ws_connection.write_message.reset_mock()
        message = connection.session.msg("display_data", {"data": {"text/plain": "x"}})
        parts = connection.session.serialize(message)
        connection.handle_outgoing_message("iopub", [b"topic", *parts])
        await wait_until_async(lambda: written(connection), what="the message")
        (seen,) = (m for m in written(connection) if m["msg_type"] == "display_data")
        assert seen["content"] == {"data": {"text/plain": "x"}}
        assert seen["channel"] == "iopub"
        assert seen["msg_id"] == message["msg_id"]
        finish(the_desk, connection)

    desk(body)


def test_incoming_when_it_is_text_then_kernel_answers_it(desk: Any) -> None:
    """Stops filters that override or call this method from losing requests."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        request = connection.session.msg("kernel_info_request")
        text = json.dumps(request | {"channel": "control"}, default=str)
        connection.handle_incoming_message(text)

        def answered() -> bool:
            return any(
                m["parent_header"].get("msg_id") == request["msg_id"]
                and m["msg_type"] == "kernel_info_reply"
                and m["channel"] == "control"
                for m in written(connection)
            )

        await wait_until_async(answered, what="the reply")
        finish(the_desk, connection)

    desk(body)


def test_incoming_when_connection_is_closed_then_it_is_ignored(desk: Any) -> None:
    """Stops a late message from raising in the websocket's read loop."""

    async def body(the_desk: Desk) -> None:
        closed, other = await the_desk.connected(), await the_desk.connected()
        closed.disconnect()
        assert closed.channels == {}
        closed.handle_incoming_message('{"channel": "shell"}')
        finish(the_desk, other)

    desk(body)


def test_write_stderr_when_called_then_client_gets_a_stream_message(desk: Any) -> None:
    """Stops the server's own notices from changing their form."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        connection.write_stderr("careful", {})
        (message,) = written(connection)
        assert message["content"] == {"name": "stderr", "text": "careful\n"}
        assert (message["msg_type"], message["channel"]) == ("stream", "iopub")
        assert message["parent_header"] == {}

    desk(body)


@pytest.mark.parametrize(
    ("callback", "state"), [("on_kernel_restarted", "restarting"), ("on_restart_failed", "dead")]
)
def test_restart_when_noticed_then_client_gets_the_state(
    desk: Any, callback: str, state: str
) -> None:
    """Stops a crash from going unnoticed in the tab."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        getattr(connection, callback)()
        last = written(connection)[-1]
        assert (last["msg_type"], last["channel"]) == ("status", "iopub")
        assert last["content"] == {"execution_state": state}
        finish(the_desk, connection)

    desk(body)


def test_on_error_when_channel_is_shell_then_message_is_left_alone(desk: Any) -> None:
    """Stops the hiding of tracebacks from touching what it should not."""

    async def body(the_desk: Desk) -> None:
        the_desk.multi_kernel_manager.allow_tracebacks = False
        connection = the_desk.connection()
        message = connection.session.msg("error", {"ename": "E", "evalue": "v", "traceback": []})
        parts = connection.session.serialize(message)[2:]
        connection._on_error("shell", message, parts)
        assert message["content"] == {"ename": "E", "evalue": "v", "traceback": []}

    desk(body)


def test_close_all_when_connections_are_open_then_none_is_left(desk: Any) -> None:
    """Stops a server's exit from leaving sockets behind."""

    async def body(the_desk: Desk) -> None:
        the_desk.multi_kernel_manager.buffer_offline_messages = False
        connections = [await the_desk.connected() for _ in range(2)]
        streams = [stream for c in connections for stream in c.channels.values()]
        await the_desk.connection_class.close_all()
        assert the_desk.count == 0
        assert not any(c in c._open_sockets for c in connections)
        assert all(stream.closed() for stream in streams)

    desk(body)


def test_files_when_connections_come_and_go_then_none_stay_open(desk: Any) -> None:
    """Stops descriptors from leaking over a day of page reloads."""

    async def body(the_desk: Desk) -> None:
        the_desk.multi_kernel_manager.buffer_offline_messages = False
        (await the_desk.connected()).disconnect()
        before = open_files()
        for _ in range(20):
            (await the_desk.connected()).disconnect()
        await wait_until_async(lambda: open_files() <= before + 2, what="closed descriptors")

    desk(body)


@pytest.mark.kernelwire_only("H6")
def test_disconnect_when_called_twice_then_it_counts_once(desk: Any) -> None:
    """Stops a count below zero, with which a live tab's kernel is culled."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        finish(the_desk, connection)
        connection.disconnect()
        assert the_desk.count == 0

    desk(body)


@pytest.mark.kernelwire_only("H11")
def test_connect_when_done_then_small_frames_are_not_held_back(desk: Any) -> None:
    """Stops Nagle's algorithm from adding 40 ms to every round trip."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        connection.websocket_handler.set_nodelay = MagicMock()
        await connection.prepare()
        await connection.connect()
        connection.websocket_handler.set_nodelay.assert_called_with(True)
        finish(the_desk, connection)

    desk(body)
