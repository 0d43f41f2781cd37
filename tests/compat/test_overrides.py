"""Subclasses that re-implement what upstream's class lets them, one method at a time and in groups.

Each method's body is the installed upstream's, pasted into a subclass of stock and of kernelwire;
the same life of a session follows on both.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from zmq.eventloop.zmqstream import ZMQStream

from support.desk import (
    finish,
    leave_while_running,
    mock_handler,
    run_on_shell,
    seen_numbers,
    silenced,
    written,
)
from support.fake_kernel import emit, script
from support.pasted import overridable, pasted
from support.waiting import wait_until, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.desk import Desk, RunOnDesk

GROUPS = {
    "life": ("connect", "disconnect"),
    "streams and life": ("create_stream", "connect", "disconnect"),
    "nudge and life": ("create_stream", "nudge", "connect", "disconnect"),
    "handshake": ("_register_session", "prepare", "request_kernel_info", "connect"),
    "messages": ("handle_outgoing_message", "get_part", "_on_zmq_reply", "_reserialize_reply"),
    "all": tuple(overridable()),
}


class OtherStream(ZMQStream):
    """A stream of another kind, as a kernel manager may make it."""


def names_of(case: str) -> tuple[str, ...]:
    """The methods that a case re-implements."""
    return GROUPS.get(case, (case,))


def connection_of(the_desk: Desk, cls: type[Any], session_id: str | None = None) -> Any:
    """A connection of a class, not prepared yet."""
    made = cls(parent=the_desk.kernel, websocket_handler=mock_handler())
    made.session.session = session_id or made.session.session
    return made


async def live(the_desk: Desk, cls: type[Any], session_id: str | None = None) -> Any:
    """A connection that is live."""
    connection = connection_of(the_desk, cls, session_id)
    await connection.prepare()
    await connection.connect()
    return connection


async def has_seen(connection: Any, numbers: list[int]) -> None:
    """Wait until a connection has sent the last of these, and see that it has sent them all."""
    await wait_until_async(lambda: seen_numbers(connection)[-1:] == numbers[-1:], what="the last")
    assert seen_numbers(connection) == numbers


async def is_answered(connection: Any) -> None:
    """Wait for a reply to a request that goes the way of the client's."""
    request = connection.session.msg("kernel_info_request")
    connection.session.send(connection.channels["control"], request)
    await wait_until_async(
        lambda: any(
            m["msg_type"] == "kernel_info_reply"
            and m["parent_header"].get("msg_id") == request["msg_id"]
            for m in written(connection)
        ),
        what="the reply",
    )


async def live_a_session(the_desk: Desk, cls: type[Any]) -> None:
    """Connect, run, leave while it runs, come back, see it all, and leave nothing behind."""
    sockets = set(cls._open_sockets)
    first = await live(the_desk, cls)
    assert the_desk.count == 1
    assert first in cls._open_sockets
    run_on_shell(first, script(emit(5)))
    await has_seen(first, list(range(5)))
    await is_answered(first)
    leave_while_running(first, script(emit(10)))
    assert the_desk.count == 0
    assert set(cls._open_sockets) == sockets

    again = await live(the_desk, cls, first.session.session)
    assert the_desk.count == 1
    await wait_until_async(lambda: seen_numbers(again)[-1:] == [14], what="the replay")
    # Upstream's readiness probe may take one message, whichever comes then.
    seen = seen_numbers(again)
    assert seen == sorted(seen)
    assert len(set(range(5, 15)).difference(seen)) <= 1
    run_on_shell(again, script(emit(3)))
    await wait_until_async(lambda: seen_numbers(again)[-1:] == [17], what="live output")
    assert seen_numbers(again)[-3:] == [15, 16, 17]
    await is_answered(again)
    again.on_kernel_restarted()
    assert written(again)[-1]["content"] == {"execution_state": "restarting"}

    other = await live(the_desk, cls)
    assert the_desk.count == 2
    other.disconnect()
    assert the_desk.count == 1
    assert all(stream.closed() for stream in other.channels.values())
    streams = list(again.channels.values())
    finish(the_desk, again)
    assert the_desk.count == 0
    assert all(stream.closed() for stream in streams)
    assert set(cls._open_sockets) == sockets
    assert again.session_key not in cls._open_sessions


class TestPastedMethod:
    """A subclass with a copy of upstream's body works as it does on upstream's class."""

    @pytest.mark.parametrize("case", [*overridable(), *GROUPS])
    def test_session_is_served_and_counted(self, desk: RunOnDesk, case: str) -> None:
        """Output, replies, the replay and the numbers of connections are right."""

        async def body(the_desk: Desk) -> None:
            await live_a_session(the_desk, pasted(the_desk.connection_class, *names_of(case)))

        desk(body)

    @pytest.mark.parametrize("case", ["connect", "disconnect", "nudge", *GROUPS])
    def test_client_that_never_connects_is_not_counted(self, desk: RunOnDesk, case: str) -> None:
        """A kernel that cannot be opened a channel to has no connection afterwards."""

        async def body(the_desk: Desk) -> None:
            cls = pasted(the_desk.connection_class, *names_of(case))
            connection = connection_of(the_desk, cls)
            await connection.prepare()
            with silenced(connection):
                connected = connection.connect()
                assert the_desk.count == 1
                connection.disconnect()
                assert the_desk.count == 0
                # Upstream's never ends; what it may do, it does in its next look at the kernel.
                await asyncio.wait([asyncio.ensure_future(connected)], timeout=1)
            await live_a_session(the_desk, cls)

        desk(body)

    @pytest.mark.kernelwire_only("B")
    def test_output_that_waits_while_it_disconnects_is_kept(self, desk: RunOnDesk) -> None:
        """The engine may have received what the event loop has had no time to write."""

        async def body(the_desk: Desk) -> None:
            cls = pasted(the_desk.connection_class, "disconnect")
            first = await live(the_desk, cls)
            log = the_desk.multi_kernel_manager.kernel_log(the_desk.kernel_id)
            received = log.describe()["received"]
            run_on_shell(first, script(emit(10)))
            if log.describe()["driver"] == "engine":
                wait_until(lambda: log.describe()["received"] >= received + 5, what="some output")
            first.disconnect()
            again = await live(the_desk, cls, first.session.session)
            await has_seen(again, list(range(10)))
            finish(the_desk, again)

        desk(body)

    @pytest.mark.parametrize("case", ["create_stream", "connect", "streams and life", "all"])
    def test_streams_of_another_kind_serve(self, desk: RunOnDesk, case: str) -> None:
        """A manager may give streams of a class of its own."""

        async def body(the_desk: Desk) -> None:
            give_other_streams(the_desk.kernel)
            await live_a_session(the_desk, pasted(the_desk.connection_class, *names_of(case)))

        desk(body)

    def test_pasted_bodies_are_upstreams(self) -> None:
        """The methods are those of the installed version, and there are some."""
        names = overridable()
        assert {"create_stream", "connect", "disconnect", "nudge", "prepare"} <= set(names)
        assert {"write_message", "subprotocol", "_limit_rate", "on_kernel_restarted"} <= set(names)


def give_other_streams(kernel: Any) -> None:
    """Have a kernel's manager make streams of another kind for clients."""

    def giving(channel: str) -> Callable[..., ZMQStream]:
        original = getattr(kernel, f"connect_{channel}")

        def connect(identity: bytes | None = None) -> ZMQStream:
            stream = original(identity=identity)
            socket = stream.socket
            stream.io_loop.remove_handler(socket)
            stream.socket = None
            return OtherStream(socket)

        return connect

    for channel in ("iopub", "shell", "control", "stdin"):
        object.__setattr__(kernel, f"connect_{channel}", giving(channel))


class TestCoroutineMethod:
    """Upstream's stream awaits a callback that is a coroutine function."""

    def test_live_messages_are_handled(self, desk: RunOnDesk) -> None:
        """``handle_outgoing_message`` may be a coroutine function."""

        async def body(the_desk: Desk) -> None:
            class Coroutine(the_desk.connection_class):  # type: ignore[name-defined, misc]
                async def handle_outgoing_message(self, stream: Any, message: Any) -> None:
                    super().handle_outgoing_message(stream, message)

            connection = await live(the_desk, Coroutine)
            run_on_shell(connection, script(emit(5)))
            await has_seen(connection, list(range(5)))
            await is_answered(connection)
            finish(the_desk, connection)
            assert the_desk.count == 0

        desk(body)
