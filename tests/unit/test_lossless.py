"""Which kernels are started with ``kernelwire.ipykernel``, and what it does in them."""

from __future__ import annotations

import logging
import subprocess
import sys
from typing import Any

import pytest
import zmq

from kernelwire import ipykernel
from kernelwire.lossless import can_be_lossless

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
    return type("Shell", (), {"kernel": kernel})()


def test_limit_is_lifted_on_the_thread_that_owns_the_socket() -> None:
    """Sockets are not thread-safe."""
    with zmq.Context() as context, context.socket(zmq.PUB) as socket:
        thread = Thread(socket)
        ipykernel.load_ipython_extension(shell_with(thread))
        assert socket.sndhwm == 1000
        (call,) = thread.scheduled
        call()
        assert socket.sndhwm == 0


def test_failure_never_breaks_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    """A shell of another kind, or a closed socket, costs a warning at most."""
    ipykernel.load_ipython_extension(object())
    assert caplog.records == []
    with zmq.Context() as context:
        socket = context.socket(zmq.PUB)
        socket.close()
        thread = Thread(socket)
        ipykernel.load_ipython_extension(shell_with(thread))
        thread.scheduled[0]()
    ipykernel.load_ipython_extension(shell_with(object()))
    assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
