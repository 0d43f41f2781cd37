"""Kernels that others start, whose connection files a server finds."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_client.connect import port_names, write_connection_file

from support import fake_kernel
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import JsonConfig, Server

CONFIG: JsonConfig = {"ServerApp": {"allow_external_kernels": True}}
FAKE = (fake_kernel.__file__,)
IPYKERNEL = ("-m", "ipykernel_launcher", "-f")


@contextmanager
def reserved_port() -> Iterator[int]:
    """Find a port, and keep it: a connection of somebody else's could have it before the kernel has.

    Who listens on it later may share its address, as libzmq's sockets do.
    """
    with socket.socket() as keeper:
        keeper.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        keeper.bind(("127.0.0.1", 0))
        yield int(keeper.getsockname()[1])


@contextmanager
def found_kernel(server: Server, program: tuple[str, ...] = FAKE) -> Iterator[str]:
    """Run a kernel of no server's, which this one finds; gives its id. In the end, its file goes."""
    folder = server.home / "runtime" / "external_kernels"
    folder.mkdir(exist_ok=True)
    before = {each["id"] for each in server.kernels()}
    path = str(server.home / "found.json")
    with ExitStack() as stack:
        ports = {name: stack.enter_context(reserved_port()) for name in port_names}
        written, _ = write_connection_file(path, key=b"a key", kernel_name="found", **ports)
        process = stack.enter_context(subprocess.Popen([sys.executable, *program, written]))
        try:
            file = Path(shutil.copy(written, folder / f"{process.pid}.json"))
            (kernel_id,) = wait_until(
                lambda: {each["id"] for each in server.kernels()} - before, what="a new kernel"
            )
            yield kernel_id
            file.unlink()
            wait_until(
                lambda: kernel_id not in {each["id"] for each in server.kernels()},
                what="the kernel's end",
            )
        finally:
            process.kill()
