"""Real kernels whose output waits for a server that does not read."""

from __future__ import annotations

import json
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from support import cells

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import Server, StartServer
    from support.ws_client import Connect

pytestmark = [pytest.mark.slow, pytest.mark.kernelwire_only("M3")]

COUNT = 20_000
UNLIMITED = {"iopub_msg_rate_limit": 0, "iopub_data_rate_limit": 0}
HIGH_WATER_MARK = "print(get_ipython().kernel.iopub_thread.socket.sndhwm)"
OWN_EXTENSION = """
def load_ipython_extension(shell):
    shell.user_ns.setdefault("own", []).append(__name__)
"""


@pytest.mark.parametrize("transport", ["tcp", "ipc"])
def test_output_waits_for_a_stopped_server(
    start_server: StartServer, connect: Connect, transport: str
) -> None:
    """All of 20,000 displays arrive although the server is stopped for 3 s in their middle."""
    config: dict[str, dict[str, Any]] = {
        "ZMQChannelsWebsocketConnection": UNLIMITED,
        "KernelManager": {"transport": transport},
    }
    server = start_server(config)
    kernel_id = server.start_kernel()
    client = connect(kernel_id, on=server)
    assert client.execute(HIGH_WATER_MARK).text() == "0\n"
    msg_id = client.start(cells.display_numbers(0, COUNT))
    client.messages(until=lambda m: m.is_status("busy", msg_id))
    server.process.send_signal(signal.SIGSTOP)
    go_on = threading.Timer(3, server.process.send_signal, (signal.SIGCONT,))
    go_on.start()
    execution = client.until_idle(msg_id, timeout=90)
    go_on.join()
    shown = [m.content["data"]["text/plain"] for m in execution.of_type("display_data")]
    assert len(shown) == COUNT
    server.stop()


@pytest.mark.parametrize("restart", [False, True], ids=["started", "restarted"])
def test_kernels_have_no_limit(start_server: StartServer, connect: Connect, restart: bool) -> None:
    """Kernels have it from their start on, and after a restart."""
    server = start_server()
    kernel_id = server.start_kernel()
    if restart:
        server.restart_kernel(kernel_id)
    assert connect(kernel_id, on=server).execute(HIGH_WATER_MARK).text() == "0\n"
    server.stop()


def test_trait_turns_it_off(start_server: StartServer, connect: Connect) -> None:
    """``lossless_kernels = False`` starts kernels as ever."""
    server = start_server({"MappingKernelManager": {"lossless_kernels": False}})
    client = connect(server.start_kernel(), on=server)
    assert client.execute(HIGH_WATER_MARK).text() == "1000\n"
    server.stop()


@pytest.mark.parametrize(
    "trait", ["IPKernelApp.extensions", "InteractiveShellApp.extra_extensions"]
)
def test_configured_extensions_are_loaded_as_well(
    start_server: StartServer,
    connect: Connect,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    trait: str,
) -> None:
    """What the user has configured for the kernel stays in force."""
    (tmp_path / "own_extension.py").write_text(OWN_EXTENSION)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    server = start_server()
    profile = server.home / "ipython" / "profile_default"
    profile.mkdir(parents=True)
    (profile / "ipython_kernel_config.py").write_text(f"c.{trait} = ['own_extension']\n")
    client = connect(server.start_kernel(), on=server)
    assert client.execute("print(own)").text() == "['own_extension']\n"
    assert client.execute(HIGH_WATER_MARK).text() == "0\n"
    server.stop()


def test_kernel_survives_clients_that_come_and_go(
    start_server: StartServer, connect: Connect
) -> None:
    """Stops options that are set on a socket in use: libzmq crashes if a connection is just ending."""
    server = start_server({"ZMQChannelsWebsocketConnection": UNLIMITED})
    kernel_id = server.start_kernel()
    client = connect(kernel_id, on=server)
    with coming_and_going(server, kernel_id):
        execution = client.execute(cells.display_numbers(0, COUNT // 2), timeout=90)
    assert len(execution.of_type("display_data")) == COUNT // 2
    server.stop()


@contextmanager
def coming_and_going(server: Server, kernel_id: str) -> Iterator[None]:
    """Have subscribers connect to a kernel and leave it again as fast as they can."""
    (file,) = server.home.rglob(f"kernel-{kernel_id}.json")
    address = "tcp://127.0.0.1:{iopub_port}".format(**json.loads(file.read_text()))
    ended = threading.Event()

    def come_and_go() -> None:
        with zmq.Context() as context:
            while not ended.is_set():
                with context.socket(zmq.SUB) as subscriber:
                    subscriber.linger = 0
                    subscriber.subscribe(b"")
                    subscriber.connect(address)
                    subscriber.poll(10)

    threads = [threading.Thread(target=come_and_go) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()
