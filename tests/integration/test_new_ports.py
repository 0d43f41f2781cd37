"""A kernel is restarted on other ports, more than once, while its clients come back."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager

from kernelwire.connection.lifecycle import Phase
from support.desk import finish, leave_while_running, open_files, run_on_shell, seen_numbers
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk

pytestmark = pytest.mark.kernelwire_only("I12")

ROUNDS = 3


@pytest.fixture(autouse=True)
def _new_ports(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have kernels get new ports where they are asked to: by default, theirs are cached."""
    monkeypatch.setattr(
        ServerKernelManager, "_cache_ports_default", lambda _self: False, raising=False
    )


async def move(the_desk: Desk, *, stopped: bool = False) -> None:
    """Restart the kernel on other ports; one that is ``stopped`` never answers."""
    kernel = the_desk.kernel
    before = list(kernel.ports)
    await kernel.restart_kernel(now=True, newports=True)
    if stopped:
        os.kill(kernel.provisioner.pid, signal.SIGSTOP)
    assert set(kernel.ports).isdisjoint(before)


async def outputs(connection: Any, count: int) -> list[int]:
    """The numbers of what a client has seen, once it is ``count`` outputs."""
    await wait_until_async(lambda: len(seen_numbers(connection)) >= count, what="the outputs")
    return seen_numbers(connection)


async def goes_live(connection: Any) -> None:
    """Wait until a connection serves its client."""
    await wait_until_async(lambda: connection._phase is Phase.LIVE, what="going live")


async def returning(the_desk: Desk, former: Any) -> Any:
    """A connection of a session that was there before, about to connect."""
    connection = the_desk.connection()
    connection.session.session = former.session.session
    await connection.prepare()
    return connection


class TestMoved:
    """Twice on other ports, and the first process never answers."""

    def test_client_that_connects_meanwhile_is_served(self, desk: RunOnDesk) -> None:
        """It asks a process that is gone: it goes on with the one that is there."""

        async def body(the_desk: Desk) -> None:
            connection = await the_desk.connected()
            for _ in range(ROUNDS):
                connection.disconnect()
                connection = await returning(the_desk, connection)
                await move(the_desk, stopped=True)
                connection.connect()
                await asyncio.sleep(0.1)
                await move(the_desk)
                await goes_live(connection)
                run_on_shell(connection, script(emit(3)))
                assert await outputs(connection, 3) == [0, 1, 2]
            finish(the_desk, connection)

        desk(body)

    def test_what_was_missed_comes_first(self, desk: RunOnDesk) -> None:
        """The buffer of a session outlives the moves, and comes before what the new kernel says."""

        async def body(the_desk: Desk) -> None:
            first = await the_desk.connected()
            leave_while_running(first, script(emit(4)))
            buffer = the_desk.multi_kernel_manager._kernel_buffers[the_desk.kernel_id]["buffer"]
            await wait_until_async(
                lambda: sum(b"display_data" in m[1][3] for m in buffer) == 4, what="the buffer"
            )
            connection = await returning(the_desk, first)
            await move(the_desk, stopped=True)
            connection.connect()
            await asyncio.sleep(0.1)
            await move(the_desk)
            await goes_live(connection)
            run_on_shell(connection, script(emit(2)))
            assert await outputs(connection, 6) == [0, 1, 2, 3, 0, 1]
            finish(the_desk, connection)

        desk(body)

    def test_no_descriptors_are_left(self, desk: RunOnDesk) -> None:
        """Sockets to ports that were left are closed."""

        async def body(the_desk: Desk) -> None:
            connection = await the_desk.connected()
            files = open_files()
            for _ in range(ROUNDS):
                connection.disconnect()
                connection = await returning(the_desk, connection)
                await move(the_desk, stopped=True)
                connection.connect()
                await move(the_desk)
                await goes_live(connection)
            await wait_until_async(lambda: open_files() <= files + 4, what="closed descriptors")
            finish(the_desk, connection)

        desk(body)

    def test_buffered_streams_are_kept_after_a_move(self, desk: RunOnDesk) -> None:
        """A session that was replaced after a move keeps its sockets when it comes back."""

        async def body(the_desk: Desk) -> None:
            stale = await the_desk.connected()
            await move(the_desk)
            fresh = await returning(the_desk, stale)
            await fresh.connect()
            stale.disconnect()
            streams = dict(fresh.channels)
            fresh.disconnect()
            again = await returning(the_desk, fresh)
            await again.connect()
            assert again.channels == streams
            assert not any(stream.closed() for stream in streams.values())
            finish(the_desk, again)

        desk(body)
