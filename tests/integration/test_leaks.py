"""Descriptors: none stays open for a kernel that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from tornado.web import Finish

from support.desk import files_at_rest, open_files, silenced
from support.waiting import POLL_SECONDS, wait_until_async
from support.ws_client import Client

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk
    from support.server import Server

LINGER_SECONDS = 2.0
"""Longer than jupyter_client lets a closed socket wait for a kernel that is gone."""


@pytest.mark.kernelwire_only("M1")
@pytest.mark.parametrize("when", ["before", "meanwhile", "after"])
def test_files_when_a_tab_closes_as_its_kernel_is_deleted_then_none_stay_open(
    desk: RunOnDesk, when: str
) -> None:
    """Stops streams that are left to a kernel which is on its way out from staying open."""

    async def body(the_desk: Desk) -> None:
        manager = the_desk.multi_kernel_manager

        async def cycle() -> None:
            kernel_id = await manager.start_kernel(kernel_name="fake")
            kernel = type(the_desk)(the_desk.connection_class, manager, kernel_id)
            connection = await kernel.connected()
            if when == "before":
                connection.disconnect()
            deletion = asyncio.ensure_future(manager.shutdown_kernel(kernel_id))
            if when == "meanwhile":
                await asyncio.sleep(0)  # upstream has looked for what is buffered
                assert kernel_id in manager
                connection.disconnect()
            await deletion
            connection.disconnect()

        before = await files_at_rest(the_desk)
        for _ in range(3):
            await cycle()
        await wait_until_async(lambda: open_files() <= before, what=f"{before} descriptors")

    desk(body)


@pytest.mark.kernelwire_only("M1")
def test_files_when_a_kernel_is_removed_as_dead_then_none_stay_open(desk: RunOnDesk) -> None:
    """Stops the watcher, and the buffer, of a kernel that died for good from staying open."""

    async def body(the_desk: Desk) -> None:
        manager = the_desk.multi_kernel_manager

        async def cycle() -> None:
            kernel_id = await manager.start_kernel(kernel_name="fake")
            kernel = type(the_desk)(the_desk.connection_class, manager, kernel_id)
            (await kernel.connected()).disconnect()
            kernel_manager = kernel.kernel
            os.kill(kernel_manager.provisioner.pid, signal.SIGKILL)
            kernel_manager.stop_restarter()
            manager.remove_kernel(kernel_id)
            await kernel_manager.cleanup_resources()
            await kernel_manager.provisioner.wait()

        before = await files_at_rest(the_desk)
        for _ in range(3):
            await cycle()
        await wait_until_async(lambda: open_files() <= before, what=f"{before} descriptors")

    desk(body)


@pytest.mark.kernelwire_only("M1")
def test_files_when_a_tab_closes_while_its_kernel_is_looked_for_then_none_stay_open(
    desk: RunOnDesk,
) -> None:
    """Stops a handshake from asking a kernel, which may never answer, for a client that is gone."""

    async def body(the_desk: Desk) -> None:
        before = await files_at_rest(the_desk)
        for _ in range(3):
            connection = the_desk.connection()
            connection.kernel_info_timeout = 0.05

            async def is_alive(connection: Any = connection) -> bool:
                connection.disconnect()
                return True

            with (
                silenced(connection),
                patch.object(the_desk.kernel, "is_alive", is_alive),
                pytest.raises(Finish),
            ):
                await connection.prepare()
        await wait_until_async(lambda: open_files() <= before, what=f"{before} descriptors")

    desk(body)


@pytest.mark.kernelwire_only("M1")
def test_files_when_kernels_come_and_go_then_the_server_is_back_where_it_was(
    server: Server,
) -> None:
    """Stops a server that runs for weeks from running out of descriptors."""

    def cycle() -> None:
        kernel_id = server.start_kernel("fake")
        client = Client(server, kernel_id)
        client.reset()  # and the server learns of it while it deletes the kernel
        server.delete_kernel(kernel_id)

    cycle()
    before = fewest_files(server)
    for _ in range(8):
        cycle()
    server.wait_for_files(before)


def fewest_files(server: Server) -> int:
    """The descriptors of a server, without those that are about to be closed."""
    until = time.monotonic() + LINGER_SECONDS
    fewest = server.open_files()
    while time.monotonic() < until:
        fewest = min(fewest, server.open_files())
        time.sleep(POLL_SECONDS)
    return fewest
