"""Asking kernels whether they answer: once for all who wait, and unseen by clients."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from support.desk import finish, written
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from support.desk import Desk, RunOnDesk
    from support.messages import Message
    from support.server import Server, StartKernel
    from support.ws_client import Client, Connect

pytestmark = pytest.mark.kernelwire_only("I8")

PAUSE_SECONDS = 4.0
"""How long the kernel is stopped; asked twice a second by three clients, it would hear 48 requests.

It hears 8, at growing intervals, and 2 for each interval that passes until its output arrives."""


def strangers(messages: Iterable[Message], *clients: Client) -> list[Message]:
    """The messages that belong to requests that none of these clients has sent."""
    known: set[Any] = {None}.union(*(client.sent_ids for client in clients))
    return [m for m in messages if m.parent_header.get("msg_id") not in known]


class TestUnseen:
    """No client is sent a status of a request that the server has made for itself."""

    def test_live_client_sees_none_of_others_connecting(
        self, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """Visitors connect and the kernel is asked for them; the client sees what they ask only."""
        kernel_id = start_kernel("fake")
        clients = [connect(kernel_id, protocol=protocol, settle=False)]
        clients += [connect(kernel_id, protocol=protocol) for _ in range(3)]
        execution = clients[0].execute(script(emit(2)))
        assert execution.numbers == [0, 1]
        assert strangers(execution.messages, *clients) == []
        assert strangers(clients[-1].execute(script(emit(1))).messages, *clients) == []

    def test_limits_off_hide_them_as_well(
        self, start_server: Any, connect: Connect, protocol: str
    ) -> None:
        """Where no rule has to look at messages, these are looked at."""
        server = start_server({"ZMQChannelsWebsocketConnection": {"limit_rate": False}})
        kernel_id = server.start_kernel("fake")
        clients = [connect(kernel_id, on=server, protocol=protocol) for _ in range(3)]
        execution = clients[0].execute(script(emit(1)))
        assert strangers(execution.messages, *clients) == []

    def test_returning_client_is_replayed_none(
        self, server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, protocol: str
    ) -> None:
        """The requests of its own return are not kept, and not replayed."""
        kernel_id = start_kernel("fake")
        client = connect(kernel_id, protocol=protocol)
        msg_id = client.start(script(emit(1), {"do": "wait_for", "path": str(gate)}, emit(1)))
        client.messages(until=lambda m: m.metadata.get("number") == 0)
        client.close()
        server.wait_for_connections(kernel_id, 0)
        gate.touch()
        server.wait_for_state(kernel_id, "idle")
        again = connect(kernel_id, session_id=client.session_id, protocol=protocol, settle=False)
        seen = again.collect(msg_id).messages + again.execute(script(emit(1))).messages
        assert strangers(seen, client, again) == []

    def test_live_client_sees_none_of_a_restart(
        self, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """The kernel crashes, and the server finds out when the next one is up."""
        client = connect(start_kernel("fake"), protocol=protocol)
        client.start(script({"do": "exit"}))
        seen = client.messages(until=lambda m: m.is_status("restarting"))
        msg_id = client.meet_new_kernel().start(script(emit(1)))
        seen += client.collect(msg_id).messages
        assert strangers(seen, client) == []


class TestShared:
    """All who wait for a kernel share what it is asked."""

    def test_slow_kernel_is_asked_a_handful_of_times(self, desk: RunOnDesk) -> None:
        """Three clients wait until it goes on; each of them goes live then."""

        async def body(the_desk: Desk) -> None:
            first = await the_desk.connected()
            before = await times_asked(first)
            first.disconnect()
            connections = [the_desk.connection() for _ in range(3)]
            for connection in connections:
                await connection.prepare()
            pid = the_desk.kernel.provisioner.pid
            os.kill(pid, signal.SIGSTOP)
            try:
                connected = [connection.connect() for connection in connections]
                await asyncio.sleep(PAUSE_SECONDS)
                assert not any(future.done() for future in connected)
            finally:
                os.kill(pid, signal.SIGCONT)
            await asyncio.wait_for(asyncio.gather(*connected), 10)
            asked = await times_asked(connections[0]) - before
            assert asked <= 20, f"{asked} requests"
            for connection in connections:
                finish(the_desk, connection)

        desk(body)

    def test_clients_that_come_together_share_requests(self, desk: RunOnDesk) -> None:
        """Eight that connect at the same time cost hardly more than one: by themselves, 16 at least."""

        async def body(the_desk: Desk) -> None:
            connections = [await the_desk.connected()]
            before = await times_asked(connections[0])
            fresh = [the_desk.connection() for _ in range(8)]
            for connection in fresh:
                await connection.prepare()
            await asyncio.gather(*[connection.connect() for connection in fresh])
            asked = await times_asked(connections[0]) - before
            assert asked <= 14, f"{asked} requests"
            for connection in [*connections, *fresh]:
                finish(the_desk, connection)

        desk(body)


async def times_asked(connection: Any) -> int:
    """How often the kernel has been asked for its information; this one is included."""
    request = connection.session.send(connection.channels["shell"], "kernel_info_request")
    msg_id = request["header"]["msg_id"]

    def replies() -> list[dict[str, Any]]:
        return [
            message
            for message in written(connection)
            if message["msg_type"] == "kernel_info_reply"
            and message["parent_header"]["msg_id"] == msg_id
        ]

    await wait_until_async(replies, what="the reply")
    return int(replies()[0]["content"]["asked"])
