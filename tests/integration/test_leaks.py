"""Descriptors: none stays open for a kernel that is gone."""

from __future__ import annotations

import asyncio
import os
import signal
from typing import TYPE_CHECKING

import pytest

from support.desk import open_files
from support.waiting import wait_until, wait_until_async
from support.ws_client import Client

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk
    from support.server import Server


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

        await cycle()
        before = open_files()
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

        await cycle()
        before = open_files()
        for _ in range(3):
            await cycle()
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
    before = server.open_files()
    for _ in range(8):
        cycle()
    wait_until(lambda: server.open_files() <= before, what=f"{before} descriptors")
