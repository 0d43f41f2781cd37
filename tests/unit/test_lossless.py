"""Which kernels are started with ``kernelwire.ipykernel``, and what it does in them."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
from typing import Any
from unittest.mock import AsyncMock

import pytest
import zmq
from jupyter_client.kernelspec import KernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager

from kernelwire import KernelwireMappingKernelManager, ipykernel
from kernelwire.lossless import ARGUMENT, can_be_lossless

LAUNCH = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]


@pytest.mark.parametrize("executable", ["python", "python3", sys.executable])
def test_own_interpreter_with_ipykernel_loads_it(executable: str) -> None:
    """The server's interpreter is the one that has kernelwire for certain."""
    assert can_be_lossless([executable, *LAUNCH])
    assert can_be_lossless([executable, "-Xfrozen_modules=off", "-m", "ipykernel", "-f", "x"])


@pytest.mark.parametrize(
    "command",
    [
        [],
        ["/usr/bin/another-python", *LAUNCH],
        ["R", "--slave"],
        [sys.executable, "-m", "xeus", "-f", "x"],
        [sys.executable, "kernel.py", "{connection_file}"],
        [sys.executable, *LAUNCH, "--ext=mine"],
        [sys.executable, *LAUNCH, "--IPKernelApp.extra_extensions=mine"],
    ],
)
def test_other_kernels_are_started_as_ever(command: list[str]) -> None:
    """Nothing is added to a command that may not understand it, or that has such an argument."""
    assert not can_be_lossless(command)


@pytest.mark.parametrize("arguments", [None, [], ["--quiet"]])
def test_arguments_of_the_caller_are_kept(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str] | None
) -> None:
    """``None`` is no arguments, as it is upstream."""
    upstream = AsyncMock()
    monkeypatch.setattr(AsyncMappingKernelManager, "start_kernel", upstream)
    manager: Any = KernelwireMappingKernelManager(kernel_spec_manager=KernelSpecManager())
    asyncio.run(manager.start_kernel(kernel_name="python3", extra_arguments=arguments))
    assert upstream.await_args is not None
    assert upstream.await_args.kwargs["extra_arguments"] == [*(arguments or ()), ARGUMENT]


def test_import_is_light() -> None:
    """A kernel does not import the server."""
    code = "import sys, kernelwire.ipykernel; print('jupyter_server' in sys.modules)"
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert output.stdout == "False\n"


class Thread:
    """What owns a socket."""

    def __init__(self, socket: Any) -> None:
        self.socket = socket
        self.scheduled: list[Any] = []

    def schedule(self, call: Any) -> None:
        """Note what is to be called."""
        self.scheduled.append(call)


def shell_with(thread: Any) -> Any:
    """Make the part of a shell that leads to its kernel's thread."""
    kernel = type("Kernel", (), {"iopub_thread": thread})()
    manager = type("ExtensionManager", (), {"loaded": set()})()
    return type("Shell", (), {"kernel": kernel, "extension_manager": manager})()


def test_limit_is_lifted_on_the_thread_that_owns_the_socket() -> None:
    """Sockets are not thread-safe."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        thread = Thread(socket)
        ipykernel.load_ipython_extension(shell_with(thread))
        assert socket.sndhwm == 1000
        (call,) = thread.scheduled
        call()
        assert socket.sndhwm == 0


def test_connections_to_come_have_no_limit_either() -> None:
    """A subscriber that connects later and does not read for a while gets everything."""
    with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
        publisher.linger = 0
        port = publisher.bind_to_random_port("tcp://127.0.0.1")
        thread = Thread(publisher)
        ipykernel.load_ipython_extension(shell_with(thread))
        thread.scheduled[0]()
        with zmq.Context() as other, other.socket(zmq.SUB) as subscriber:
            subscriber.linger, subscriber.rcvhwm, subscriber.rcvtimeo = 0, 1, 5000
            subscriber.subscribe(b"")
            subscriber.connect(f"tcp://127.0.0.1:{port}")
            publisher.recv()  # the subscription
            for number in range(5000):
                publisher.send_multipart([str(number).encode(), b"x" * 8192])
            numbers = [int(subscriber.recv_multipart()[0]) for _ in range(5000)]
        assert numbers == list(range(5000))


def test_failure_never_breaks_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    """A shell of another kind, or a closed socket, costs a warning at most."""
    ipykernel.load_ipython_extension(shell_with(None))
    assert caplog.records == []
    with zmq.Context() as context:
        socket = context.socket(zmq.PUB)
        socket.close()
        thread = Thread(socket)
        ipykernel.load_ipython_extension(shell_with(thread))
        thread.scheduled[0]()
    ipykernel.load_ipython_extension(shell_with(object()))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
