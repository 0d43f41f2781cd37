"""Connections with streams of another kind, and hooks of their own: served one by one, as stock."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import zmq
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire.log.channel import LogStream
from kernelwire.sockets import driver
from support.desk import (
    finish,
    leave_while_running,
    mock_handler,
    run_on_shell,
    seen_numbers,
    written,
)
from support.fake_kernel import emit, script
from support.hooked import RegisteringConnection, hooked
from support.server import IMPLEMENTATIONS, JsonConfig, Server
from support.waiting import wait_until_async
from support.ws_client import Client, numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.desk import Desk, RunOnDesk

UNLIMITED: JsonConfig = {"ZMQChannelsWebsocketConnection": {"limit_rate": False}}
CHANNELS = ("iopub", "shell", "control", "stdin")


class OtherStream(ZMQStream):
    """A stream of a kernel manager's own kind."""


def with_own_streams(base: type[Any]) -> type[Any]:
    """Make a connection class that does what ``create_stream`` does, without calling it."""

    class OwnStreams(base):  # type: ignore[misc]
        def create_stream(self) -> None:
            identity = self.session.bsession
            for channel in CHANNELS:
                connect = getattr(self.kernel_manager, f"connect_{channel}")
                self.channels[channel] = stream = connect(identity=identity)
                stream.channel = channel

    return OwnStreams


def with_a_hook(base: type[Any]) -> type[Any]:
    """Make a connection class that sees each part of each message."""

    class Hooked(base):  # type: ignore[misc]
        def get_part(self, field: str, value: Any, msg_list: Any) -> Any:
            return super().get_part(field, value, msg_list)

    return Hooked


def of_another_kind(connect: Callable[..., ZMQStream]) -> Callable[..., ZMQStream]:
    """Have a manager's ``connect_...`` give streams of another kind."""

    def connected(identity: bytes | None = None) -> ZMQStream:
        stream = connect(identity=identity)
        socket = stream.socket
        stream.io_loop.remove_handler(socket)
        stream.socket = None  # type: ignore[assignment]
        return OtherStream(socket)

    return connected


async def connected(the_desk: Desk, cls: type[Any], session_id: str = "") -> Any:
    """A live connection of a class."""
    connection = cls(parent=the_desk.kernel, websocket_handler=mock_handler())
    if session_id:
        connection.session.session = session_id
    await connection.prepare()
    await connection.connect()
    return connection


async def until_seen(connection: Any, *expected: int) -> None:
    """Wait until the client has got as many outputs, which must have these numbers."""
    await wait_until_async(
        lambda: len(seen_numbers(connection)) >= len(expected), what="the output"
    )
    assert seen_numbers(connection) == list(expected)


@pytest.mark.parametrize("whose", ["connection", "manager"])
def test_streams_of_another_kind_are_served(desk: RunOnDesk, whose: str) -> None:
    """Output and replies arrive, the kernel's state is known, and a reconnect gets the rest."""

    async def body(the_desk: Desk) -> None:
        cls = the_desk.connection_class
        if whose == "connection":
            cls = with_own_streams(cls)
        else:
            for channel in CHANNELS:
                own = of_another_kind(getattr(the_desk.kernel, f"connect_{channel}"))
                object.__setattr__(the_desk.kernel, f"connect_{channel}", own)
            manager = the_desk.multi_kernel_manager
            manager.stop_watching_activity(the_desk.kernel_id)
            manager.start_watching_activity(the_desk.kernel_id)
        kind = ZMQStream if whose == "connection" else OtherStream
        connection = await connected(the_desk, cls)
        assert {type(stream) for stream in connection.channels.values()} == {kind}
        run_on_shell(connection, script(emit(3)))
        await until_seen(connection, 0, 1, 2)
        await wait_until_async(lambda: the_desk.kernel.execution_state == "idle", what="idle")
        leave_while_running(connection, script(emit(3)))
        manager, kernel_id = the_desk.multi_kernel_manager, the_desk.kernel_id
        buffer = manager._kernel_buffers[kernel_id]["buffer"]
        await wait_until_async(lambda: len(buffer) >= 5, what="the offline buffer")
        again = await connected(the_desk, cls, connection.session.session)
        assert again.channels is connection.channels
        await until_seen(again, 3, 4, 5)
        run_on_shell(again, script(emit(1)))
        await until_seen(again, 3, 4, 5, 6)
        finish(the_desk, again)

    desk(body)


@pytest.mark.kernelwire_only("I4")
def test_kernel_with_streams_of_another_kind_becomes_idle(desk: RunOnDesk) -> None:
    """A kernel to which nobody connects is asked there as well."""

    async def body(the_desk: Desk) -> None:
        manager, kernel = the_desk.multi_kernel_manager, the_desk.kernel
        await wait_until_async(lambda: kernel.execution_state == "idle", what="idle")
        manager.stop_watching_activity(the_desk.kernel_id)
        object.__setattr__(kernel, "connect_iopub", of_another_kind(kernel.connect_iopub))
        kernel.execution_state = "starting"
        manager.start_watching_activity(the_desk.kernel_id)
        assert isinstance(kernel._activity_stream, OtherStream)
        await wait_until_async(lambda: kernel.execution_state == "idle", what="idle")

    desk(body)


@pytest.mark.kernelwire_only("B")
def test_streams_of_another_kind_are_reported(
    desk: RunOnDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A DEBUG line says why messages go one by one."""

    async def body(the_desk: Desk) -> None:
        lines: list[str] = []
        cls = with_own_streams(the_desk.connection_class)
        connection = cls(parent=the_desk.kernel, websocket_handler=mock_handler())
        debug = connection.log.debug
        monkeypatch.setattr(
            connection.log, "debug", lambda text, *more: (lines.append(text % more), debug(text))
        )
        await connection.prepare()
        await connection.connect()
        own = [line for line in lines if "go one by one" in line]
        assert own == [f"Messages on {each} go one by one: it is a ZMQStream" for each in CHANNELS]
        finish(the_desk, connection)

    desk(body)


def test_queue_is_bounded_where_a_class_has_its_own_streams(desk: RunOnDesk) -> None:
    """As it is with upstream: what they receive is that class's business."""

    async def body(the_desk: Desk) -> None:
        cls = with_own_streams(the_desk.connection_class)
        connection = await connected(the_desk, cls)
        assert connection.channels["iopub"].socket.getsockopt(zmq.RCVHWM) == 1000
        connection.disconnect()
        assert connection.channels["iopub"].socket.getsockopt(zmq.RCVHWM) == 1000
        again = await connected(the_desk, cls, connection.session.session)
        assert again.channels["iopub"].socket.getsockopt(zmq.RCVHWM) == 1000
        finish(the_desk, again)

    desk(body)


@pytest.mark.kernelwire_only("H10")
@pytest.mark.parametrize("make", [lambda base: base, with_a_hook], ids=["plain", "with a hook"])
def test_queue_is_unbounded_where_the_log_is_read(
    desk: RunOnDesk, make: Callable[[type[Any]], type[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Libzmq drops nothing: what waits is the log's to bound, and to count."""
    monkeypatch.setattr(driver, "_chosen", lambda: "loop")  # the engine's socket is nobody else's

    async def body(the_desk: Desk) -> None:
        connection = await connected(the_desk, make(the_desk.connection_class))
        log = the_desk.multi_kernel_manager.kernel_log(the_desk.kernel_id)
        assert isinstance(connection.channels["iopub"], LogStream)
        assert log.stream.socket.getsockopt(zmq.RCVHWM) == 0
        finish(the_desk, connection)

    desk(body)


class TestCallback:
    """Who registers a callback on a live client's channel takes the place of the client."""

    def test_it_alone_gets_what_the_kernel_publishes(self, desk: RunOnDesk) -> None:
        """Stops output that the client gets twice, or that the callback misses."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk, the_desk.connection_class)
            run_on_shell(connection, script(emit(2)))
            await until_seen(connection, 0, 1)
            taken: list[list[bytes]] = []
            iopub = connection.channels["iopub"]
            iopub.on_recv(taken.append)
            run_on_shell(connection, script(emit(2)))
            await wait_until_async(lambda: numbers_in(taken) == [2, 3], what="the output")
            await until_replied(connection, 2)
            iopub.on_recv_stream(connection.handle_outgoing_message)
            run_on_shell(connection, script(emit(2)))
            await until_replied(connection, 3)
            await until_seen(connection, 0, 1, 4, 5)
            iopub.stop_on_recv()
            assert not iopub.receiving()
            run_on_shell(connection, script(emit(2)))
            await until_replied(connection, 4)
            assert seen_numbers(connection) == [0, 1, 4, 5]
            finish(the_desk, connection)

        desk(body)

    def test_it_may_be_given_frames(self, desk: RunOnDesk) -> None:
        """With ``copy=False`` it gets pyzmq's frames, and its stream with them."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk, the_desk.connection_class)
            taken: list[Any] = []
            iopub = connection.channels["iopub"]
            iopub.on_recv_stream(lambda *got: taken.append(got), copy=False)
            run_on_shell(connection, script(emit(1)))
            await wait_until_async(lambda: numbers_in(taken_bytes(taken)) == [0], what="the output")
            assert {stream for stream, _ in taken} == {iopub}
            finish(the_desk, connection)

        desk(body)

    def test_it_is_not_for_what_the_server_has_to_say(self, desk: RunOnDesk) -> None:
        """A notice about the kernel is the client's; upstream writes it past the streams."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk, the_desk.connection_class)
            taken: list[list[bytes]] = []
            connection.channels["iopub"].on_recv(taken.append)
            connection.on_kernel_restarted()
            await wait_until_async(lambda: "restarting" in states_in(connection), what="the notice")
            assert not any(b"restarting" in frame for message in taken for frame in message)
            finish(the_desk, connection)

        desk(body)

    def test_it_ends_with_the_connection(self, desk: RunOnDesk) -> None:
        """What the kernel says while the client is away is for the client when it returns."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk, the_desk.connection_class)
            taken: list[list[bytes]] = []
            connection.channels["iopub"].on_recv(taken.append)
            leave_while_running(connection, script(emit(2)))
            manager, kernel_id = the_desk.multi_kernel_manager, the_desk.kernel_id
            buffer = manager._kernel_buffers[kernel_id]["buffer"]
            await wait_until_async(lambda: len(buffer) >= 4, what="the offline buffer")
            again = await connected(the_desk, the_desk.connection_class, connection.session.session)
            run_on_shell(again, script(emit(1)))
            await until_seen(again, 0, 1, 2)
            assert numbers_in(taken) == []
            finish(the_desk, again)

        desk(body)

    @pytest.mark.kernelwire_only("H1")
    def test_when_it_raises_then_the_next_message_comes(self, desk: RunOnDesk) -> None:
        """A callback that fails is logged, and does not end the output."""

        async def body(the_desk: Desk) -> None:
            connection = await connected(the_desk, the_desk.connection_class)
            taken: list[list[bytes]] = []

            def fail(message: list[bytes]) -> None:
                taken.append(message)
                raise ValueError("a callback that fails")

            connection.channels["iopub"].on_recv(fail)
            run_on_shell(connection, script(emit(2)))
            await wait_until_async(lambda: numbers_in(taken) == [0, 1], what="the output")
            finish(the_desk, connection)

        desk(body)


@pytest.mark.parametrize("protocol", ["v1", "legacy"])
@pytest.mark.parametrize("chosen", ["engine", "loop"])
def test_output_when_a_callback_is_registered_in_its_middle_then_each_comes_once(
    tmp_path: Path, chosen: str, protocol: str
) -> None:
    """Stops output that is written by the engine, or held in it, and by the callback as well."""
    found, config = hooked(IMPLEMENTATIONS["kernelwire"], RegisteringConnection, UNLIMITED)
    environment = {**found.environment, "KERNELWIRE_DRIVER": chosen}
    server = Server(tmp_path, replace(found, environment=environment), config)
    try:
        client = Client(server, server.start_kernel("fake"), protocol=protocol).settle()
        client.start(script(emit(3000)))
        client.send("shell", "comm_info_request", {})
        client.start(script(emit(3000)))
        seen = client.messages(until=lambda m: m.metadata.get("number") == 5999)
        client.reset()
    finally:
        server.stop()
    assert numbers(seen) == list(range(6000))


def numbers_in(messages: list[list[bytes]]) -> list[int]:
    """The numbers of the outputs among messages as they were received."""
    metadata = [json.loads(message[-2]) for message in messages]
    return [each["number"] for each in metadata if "number" in each]


def taken_bytes(taken: list[Any]) -> list[list[bytes]]:
    """The messages that a callback was given as frames, with their stream."""
    return [[frame.bytes for frame in frames] for _, frames in taken]


def states_in(connection: Any) -> list[str]:
    """The states that a connection's client was told of."""
    return [
        m["content"]["execution_state"] for m in written(connection) if m["msg_type"] == "status"
    ]


async def until_replied(connection: Any, times: int) -> None:
    """Wait until the client has got as many replies to what it ran."""
    await wait_until_async(
        lambda: [m["msg_type"] for m in written(connection)].count("execute_reply") == times,
        what="the reply",
    )
