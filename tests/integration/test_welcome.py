"""The message with which a kernel's XPUB socket greets a subscriber: it is not for clients."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from support.desk import (
    finish,
    leave_while_running,
    mock_handler,
    run_on_shell,
    seen_numbers,
    written,
)
from support.fake_kernel import emit, script
from support.pasted import pasted
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from pathlib import Path

    from support.desk import Desk, RunOnDesk
    from support.messages import Message
    from support.server import Server, StartKernel, StartServer
    from support.ws_client import Client, Connect

WELCOME = {"do": "odd", "kind": "welcome"}

pytestmark = pytest.mark.kernelwire_only("N13")


def no_welcome(*clients: Client) -> bool:
    """Whether no client has been sent a welcome message."""
    frames = [frame for client in clients for frame in client.raw_frames]
    whole = [frame.encode() if isinstance(frame, str) else frame for frame in frames]
    return bool(whole) and not any(b"iopub_welcome" in frame for frame in whole)


class TestWelcome:
    """A client never gets it, however it comes."""

    def test_live_clients_get_none(
        self, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """Each new subscriber makes the kernel greet all; none of that is sent on."""
        kernel_id = start_kernel("fake-xpub")
        clients = [connect(kernel_id, protocol=protocol) for _ in range(4)]
        for index, client in enumerate(clients):
            execution = client.execute(script(emit(2), WELCOME, emit(1)))
            assert execution.numbers == list(range(3 * index + 3))
        assert no_welcome(*clients)

    def test_unlimited_client_gets_none(self, start_server: StartServer, connect: Connect) -> None:
        """It is filtered also where no rule has to look at messages."""
        server = start_server({"ZMQChannelsWebsocketConnection": {"limit_rate": False}})
        client = connect(server.start_kernel("fake-xpub"), on=server)
        assert client.execute(script(emit(1), WELCOME, emit(1))).numbers == [0, 1]
        assert no_welcome(client)

    def test_returning_client_gets_none(
        self, server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, protocol: str
    ) -> None:
        """It is not kept for a closed tab, and not replayed."""
        kernel_id = start_kernel("fake-xpub")
        client = connect(kernel_id, protocol=protocol)
        wait = {"do": "wait_for", "path": str(gate)}
        msg_id = client.start(script(emit(1), wait, WELCOME, emit(3), WELCOME))
        client.messages(until=is_number(0))
        client.close()
        server.wait_for_connections(kernel_id, 0)
        gate.touch()
        server.wait_for_state(kernel_id, "idle")
        again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        assert again.collect(msg_id).numbers == [1, 2, 3]
        assert again.execute(script(WELCOME, emit(1))).numbers == [4]
        assert no_welcome(client, again)

    def test_restarted_kernel_sends_none(
        self, server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """The sockets that connect anew to a restarted kernel are greeted, not the client."""
        kernel_id = start_kernel("fake-xpub")
        client = connect(kernel_id, protocol=protocol)
        server.restart_kernel(kernel_id)
        assert client.meet_new_kernel().execute(script(emit(2))).numbers == [0, 1]
        assert no_welcome(client)

    def test_overridden_hook_gets_none(self, desk: RunOnDesk) -> None:
        """A subclass that sees each message does not see it, live or in a replay."""
        handled: list[bytes] = []

        async def body(the_desk: Desk) -> None:
            class Seeing(the_desk.connection_class):  # type: ignore[name-defined, misc]
                def handle_outgoing_message(self, stream: Any, frames: list[bytes]) -> Any:
                    handled.extend(frames)
                    return super().handle_outgoing_message(stream, frames)

            def connection(session_id: str | None = None) -> Any:
                made = the_desk.connection()
                made = Seeing(parent=the_desk.kernel, websocket_handler=made.websocket_handler)
                made.session.session = session_id or made.session.session
                return made

            first = connection()
            await first.prepare()
            await first.connect()
            run_on_shell(first, script(WELCOME, emit(1)))
            await wait_until_async(lambda: seen_numbers(first) == [0], what="the output")
            leave_while_running(first, script(emit(1), WELCOME, emit(1)))
            again = connection(first.session.session)
            await again.prepare()
            await again.connect()
            await wait_until_async(lambda: seen_numbers(again) == [1, 2], what="the replay")
            finish(the_desk, again)

        desk(body)
        assert handled
        assert not any(b"iopub_welcome" in frame for frame in handled)

    def test_upstreams_own_path_sends_none(self, desk: RunOnDesk) -> None:
        """A subclass may subscribe ``handle_outgoing_message`` itself, as upstream does."""

        async def body(the_desk: Desk) -> None:
            subclass = pasted(the_desk.connection_class, "connect")
            connection = subclass(parent=the_desk.kernel, websocket_handler=mock_handler())
            await connection.prepare()
            await connection.connect()
            run_on_shell(connection, script(WELCOME, emit(2)))
            await wait_until_async(lambda: 1 in seen_numbers(connection), what="the output")
            assert seen_numbers(connection) == [0, 1]
            assert "iopub_welcome" not in {m["msg_type"] for m in written(connection)}
            finish(the_desk, connection)

        desk(body)

    def test_probe_counts_it_and_keeps_it(self, desk: RunOnDesk) -> None:
        """It shows the readiness probe that the subscription works, and goes no further."""

        async def body(the_desk: Desk) -> None:
            worker, connection = await the_desk.connected(), the_desk.connection()
            await connection.prepare()
            connected = connection.connect()
            while not connected.done():
                run_on_shell(worker, script(WELCOME))
                await asyncio.sleep(0.02)  # more would be a queue for the kernel
            run_on_shell(worker, script(emit(1)))
            await wait_until_async(lambda: seen_numbers(connection) == [0], what="the output")
            assert "iopub_welcome" not in {m["msg_type"] for m in written(connection)}
            for each in (connection, worker):
                finish(the_desk, each)

        desk(body)


def is_number(number: int) -> Any:
    """A condition: the message with this number came."""

    def holds(message: Message) -> bool:
        return bool(message.metadata.get("number") == number)

    return holds
