"""A kernel on a desk: real managers and sockets in this process, and a mock websocket."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, patch

import psutil
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from traitlets.utils.importstring import import_item

from kernelwire.kernels.probe import Probe
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping


@dataclass(frozen=True)
class Desk:
    """A kernel, its managers, and what it takes to connect to it."""

    connection_class: type[Any]
    multi_kernel_manager: Any
    kernel_id: str

    @property
    def kernel(self) -> Any:
        """The kernel's manager."""
        return self.multi_kernel_manager.get_kernel(self.kernel_id)

    @property
    def count(self) -> int:
        """How many connections the manager counts."""
        return self.multi_kernel_manager.kernel_model(self.kernel_id)["connections"]

    def connection(self) -> Any:
        """A connection whose websocket is a mock."""
        return self.connection_class(parent=self.kernel, websocket_handler=mock_handler())

    async def connected(self) -> Any:
        """A connection that is live."""
        connection = self.connection()
        await connection.prepare()
        await connection.connect()
        return connection


def mock_handler() -> Any:
    """A websocket handler without a websocket: what is written is recorded."""
    handler = KernelWebsocketHandler(MagicMock(), MagicMock())
    handler.ws_connection = MagicMock()
    handler.ws_connection.is_closing.return_value = False
    handler.mock_connection = handler.ws_connection  # a handler that is closed forgets its own
    return handler


def written(connection: Any) -> list[dict[str, Any]]:
    """The text messages a connection wrote to its mock websocket."""
    calls = connection.websocket_handler.mock_connection.write_message.call_args_list
    return [json.loads(call.args[0]) for call in calls]


@asynccontextmanager
async def kernel_on_a_desk(classes: Mapping[str, str]) -> AsyncIterator[Desk]:
    """A manager with one running kernel."""
    manager = import_item(classes["kernel_manager_class"])()
    connection_class = import_item(classes["kernel_websocket_connection_class"])
    open_before = set(connection_class._open_sockets)
    kernel_id = await manager.start_kernel(kernel_name="fake")
    try:
        yield Desk(connection_class, manager, kernel_id)
    finally:
        # The set is the class's: what a test that fails leaves in it would be the next one's.
        connection_class._open_sockets.intersection_update(open_before)
        await manager.shutdown_kernel(kernel_id, now=True)
        manager.context.destroy(linger=0)


def open_files() -> int:
    """The file descriptors of this process."""
    return psutil.Process().num_fds()


async def files_at_rest(the_desk: Desk) -> int:
    """The descriptors of this process, once the desk's kernel is up and nobody asks it any more.

    Before, there are fewer: a socket whose kernel does not listen yet has no connection. After
    another kernel has gone there are more, for a second: libzmq lingers over what it was to be sent.
    """
    kernel = the_desk.kernel

    def is_at_rest() -> bool:
        found = psutil.Process().net_connections("tcp")
        peers = {one.raddr.port for one in found if one.status == psutil.CONN_ESTABLISHED}
        # The activity watcher's, and that of the kernel's manager.
        expected = {kernel.iopub_port, kernel.control_port}
        return kernel.execution_state == "idle" and peers & {*kernel.ports} == expected

    await wait_until_async(is_at_rest, what="a kernel that is up", timeout=30)
    return open_files()


def close_streams(connection: Any) -> None:
    """Close what `disconnect` keeps for the next connection."""
    for stream in connection.channels.values():
        stream.close()


def finish(the_desk: Desk, connection: Any) -> None:
    """Disconnect for good."""
    the_desk.multi_kernel_manager.buffer_offline_messages = False
    connection.disconnect()


def run_on_shell(connection: Any, code: str) -> None:
    """Have the kernel run a script, as a client does."""
    content = {"code": code, "silent": False}
    connection.session.send(connection.channels["shell"], "execute_request", content)


def leave_while_running(connection: Any, code: str) -> None:
    """Have the kernel run a script, and go before anything comes of it."""
    run_on_shell(connection, code)
    connection.disconnect()


@contextmanager
def silenced(connection: Any) -> Iterator[None]:
    """Keep a kernel from being asked for a connection: it is not found ready meanwhile."""
    unsent = {"header": {"msg_id": "unsent"}}
    with (
        patch.object(connection.session, "send", lambda *_args, **_kwargs: unsent),
        patch.object(Probe, "_send", lambda _self: None),
    ):
        yield


def seen_numbers(connection: Any) -> list[int]:
    """The numbers of the outputs that were written to the mock websocket."""
    return [m["metadata"]["number"] for m in written(connection) if "number" in m["metadata"]]


Body = Callable[[Desk], Coroutine[Any, Any, None]]
RunOnDesk = Callable[..., None]
