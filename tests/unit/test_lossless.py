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
from kernelwire.kernels.lossless import ARGUMENT, CONFIG_FILE, can_be_lossless

LAUNCH = ["-m", "ipykernel_launcher", "-f", "{connection_file}"]


@pytest.mark.parametrize("executable", ["python", "python3", sys.executable])
def test_own_interpreter_with_ipykernel_reads_it(executable: str) -> None:
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
        [sys.executable, *LAUNCH, "--config=mine"],
        [sys.executable, *LAUNCH, "--config", "mine"],
        [sys.executable, *LAUNCH, "--IPKernelApp.extra_config_file=mine"],
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


class Application:
    """What makes and binds a kernel's iopub socket."""

    def init_iopub(self, context: Any) -> Any:
        """Return the socket, its limit when it was bound, and its port."""
        socket = context.socket(zmq.XPUB)
        limit = socket.sndhwm
        return socket, limit, socket.bind_to_random_port("tcp://127.0.0.1")


@pytest.fixture
def application() -> Any:
    """A class of its own, for which a kernel's configuration was read."""
    application = type("Mine", (Application,), {})
    ipykernel.keep_output(application)
    return application


def test_limit_is_lifted_before_the_socket_is_bound(application: Any) -> None:
    """Later is too late: libzmq crashes if a connection is just ending."""
    with zmq.Context() as context:
        socket, limit, _ = application().init_iopub(context)
        with socket, context.socket(zmq.ROUTER) as other:
            assert (limit, other.sndhwm) == (0, 1000)


def test_file_is_read_more_than_once(application: Any) -> None:
    """IPython reads a file for each directory in which it looks."""
    once = application.init_iopub
    ipykernel.keep_output(application)
    assert application.init_iopub is once


def test_connections_have_no_limit(application: Any) -> None:
    """A subscriber that does not read for a while gets everything."""
    with zmq.Context() as context:
        publisher, _, port = application().init_iopub(context)
        publisher.linger = 0
        with publisher, zmq.Context() as other, other.socket(zmq.SUB) as subscriber:
            subscriber.linger, subscriber.rcvhwm, subscriber.rcvtimeo = 0, 1, 5000
            subscriber.subscribe(b"")
            subscriber.connect(f"tcp://127.0.0.1:{port}")
            publisher.recv()  # the subscription
            for number in range(5000):
                publisher.send_multipart([str(number).encode(), b"x" * 8192])
            numbers = [int(subscriber.recv_multipart()[0]) for _ in range(5000)]
        assert numbers == list(range(5000))


def test_failure_never_breaks_the_kernel(caplog: pytest.LogCaptureFixture) -> None:
    """An ipykernel that makes its socket in another way costs a warning."""
    ipykernel.keep_output(object)
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


def test_ipykernel_makes_its_socket_as_expected() -> None:
    """The name that is replaced is the one by which ipykernel makes its iopub socket."""
    code = (
        "import runpy, sys\n"
        "from ipykernel.kernelapp import IPKernelApp\n"
        "runpy.run_path(sys.argv[1])\n"
        "print(hasattr(IPKernelApp.init_iopub, 'keeps_output'))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code, str(CONFIG_FILE)], check=True, capture_output=True, text=True
    )
    assert output.stdout == "True\n"
