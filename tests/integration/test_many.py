"""The one engine of a process, and many kernels, clients, servers' loops and ZeroMQ contexts."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import zmq
from tornado.iostream import IOStream
from tornado.websocket import WebSocketProtocol13, _WebSocketParams

from kernelwire import live
from kernelwire.sockets import driver
from kernelwire.sockets.outbox import outbox_of
from support import fake_kernel, stalling
from support.desk import finish, kernel_on_a_desk, mock_handler, run_on_shell
from support.fake_kernel import emit, script
from support.server import IMPLEMENTATIONS, Server
from support.waiting import run_to_end, wait_until, wait_until_async
from support.workbench import V1
from support.ws_client import Client, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

KERNELS = 100
OUTPUTS = 200
DROPS = 200
UNLIMITED = {
    "ZMQChannelsWebsocketConnection": {"limit_rate": False},
    "KernelwireWebsocketConnection": {"max_pending_bytes": 0},
}
ENCRYPTED = {"MappingKernelManager": {"transport_encryption": "required"}}


READER = """
import re, socket, sys
client, last, data = socket.socket(fileno=int(sys.argv[1])), sys.argv[2].encode(), b""
client.setblocking(True)
while last not in data[-(1 << 20) :] and (more := client.recv(1 << 18)):
    data += more
print(*re.findall(rb'"number": (\\d+)', data))
"""
"""Reads websocket frames until one has the last number, and says which came."""


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start a server with the engine, and stop it."""
    with stalling.stallable_servers(tmp_path) as started:
        yield lambda **config: started(IMPLEMENTATIONS["kernelwire"], {**UNLIMITED, **config})


def threads(server: Server) -> int:
    """The threads of a server."""
    return psutil.Process(server.process.pid).num_threads()


@pytest.mark.slow
def test_kernels_when_a_hundred_publish_then_each_client_gets_its_own_and_nothing_is_left(
    start: Any,
) -> None:
    """Stops the engine from mixing kernels up, leaving one out, or keeping what they had."""
    server = start()
    first = server.start_kernel("fake")
    Client(server, first).settle().close()
    server.delete_kernel(first)
    wait_until(lambda: server.open_connections() == 0, what="the end of all connections")
    files, before = server.open_files(), threads(server)

    kernels = [server.start_kernel("fake") for _ in range(KERNELS)]
    clients = [
        Client(server, kernel_id, protocol="legacy" if number % 3 == 0 else "v1").settle()
        for number, kernel_id in enumerate(kernels)
    ]
    requests = [client.start(script(emit(OUTPUTS))) for client in clients]
    sessions = set()
    for client, request in zip(clients, requests, strict=True):
        execution = client.collect(request, timeout=120)
        assert execution.numbers == list(range(OUTPUTS))
        (session,) = {m.header["session"] for m in execution.messages if "number" in m.metadata}
        sessions.add(session)
    assert len(sessions) == KERNELS
    for client in clients:
        client.close()
    for kernel_id in kernels:
        server.delete_kernel(kernel_id)
    server.wait_for_files(files)
    wait_until(lambda: threads(server) <= before, what=f"{before} threads", timeout=60)
    assert "Traceback" not in server.log()


@pytest.mark.slow
@pytest.mark.skipif(not zmq.has("curve"), reason="this libzmq has no CURVE")
def test_clients_when_they_drop_in_a_flood_of_an_encrypted_kernel_then_the_last_gets_everything(
    start: Any,
) -> None:
    """Stops descriptors from leaking where a kernel's sockets shake hands before they talk."""
    server = start(**ENCRYPTED)
    kernel_id = server.start_kernel("fake")
    steady = Client(server, kernel_id).settle()
    steady.execute(script({"do": "tick", "count": 1_000_000}))
    assert server.request("GET", live.PATH)["kernels"][kernel_id]["driver"] == "engine"
    before = server.open_files()
    steady_seen = steady.messages(until=_with_number)
    for number in range(DROPS):
        client = Client(
            server,
            kernel_id,
            session_id=f"dropping-{number % 3}",
            protocol="legacy" if number % 2 else "v1",
        )
        if number % 5 == 0:
            client.messages(until=_with_number)
        client.reset()
    server.wait_for_connections(kernel_id, 1)
    last = Client(server, kernel_id).settle()
    seen = last.messages(until=_with_number)
    goal = seen[-1].metadata["number"] + 200
    seen += last.messages(until=lambda m: m.metadata.get("number", 0) >= goal)
    steady_seen += steady.messages(until=lambda m: m.metadata.get("number", 0) >= goal, timeout=60)
    for messages in (seen, steady_seen):
        found = numbers(messages)
        assert found == list(range(found[0], found[-1] + 1))
    last.close()
    # Three sessions are kept, each with three channels of two descriptors.
    server.wait_for_files(before + 4 * 6)
    steady.reset()


def _with_number(message: Any) -> bool:
    return "number" in message.metadata


def test_server_when_a_client_is_gone_and_sigpipe_is_the_systems_then_it_lives(
    start: Any,
) -> None:
    """Stops a write to a client that has gone from ending the process of whoever embeds us."""
    server = start()
    server.request("PUT", stalling.SIGPIPE_PATH)
    kernel_id = server.start_kernel("fake")
    steady = Client(server, kernel_id).settle()
    steady.execute(script({"do": "tick", "count": 100_000}))
    for _ in range(30):
        client = Client(server, kernel_id)
        client.messages(until=_with_number)
        client.reset()
    server.wait_for_connections(kernel_id, 1)
    assert server.process.poll() is None
    assert steady.ask("control", "kernel_info_request", {}).messages
    steady.reset()


def test_loop_when_a_flood_is_written_then_it_has_its_turns(start: Any, capsys: Any) -> None:
    """Stops the engine from keeping the event loop from its work, by a lock or by what it tells."""
    server = start()
    client = Client(server, server.start_kernel("fake")).settle()
    server.request("PUT", stalling.LAPS_PATH)
    before = server.request("GET", stalling.LAPS_PATH)["laps"]
    execution = client.execute(script(emit(20_000, size=100)), timeout=120)
    after = server.request("GET", stalling.LAPS_PATH)
    client.reset()
    laps = after["laps"] - before
    with capsys.disabled():
        print(f"\nin a flood: {laps} laps, the longest {after['longest'] * 1000:.0f} ms")  # noqa: T201
    assert execution.numbers == list(range(20_000))
    # The flood takes seconds, each of which has a hundred.
    assert laps >= 10


def test_client_when_it_is_stopped_in_a_flood_then_others_go_on_and_it_misses_nothing(
    start: Any,
) -> None:
    """Stops a front end's process that is stopped from holding others up, or losing output."""
    count = 40_000
    server = start()
    kernel_id = server.start_kernel("fake")
    connection = server.open_socket()
    stopped = Client(server, kernel_id, open_socket=lambda: connection).settle()
    other = Client(server, kernel_id).settle()
    command = [sys.executable, "-c", READER, str(connection.fileno()), f'"number": {count - 1}']
    reader = subprocess.Popen(
        command, pass_fds=[connection.fileno()], stdout=subprocess.PIPE, text=True
    )
    with reader:
        try:
            reader.send_signal(signal.SIGSTOP)
            execution = other.execute(script(emit(count, size=1000)), timeout=120)
            assert execution.numbers == list(range(count))
            # More than sockets take waits for it.
            (lag,) = (
                client["bytes"]
                for client in server.request("GET", live.PATH)["kernels"][kernel_id][
                    "clients"
                ].values()
                if client["bytes"]
            )
            assert lag > 10_000_000
            reader.send_signal(signal.SIGCONT)
            told, _ = reader.communicate(timeout=120)
            assert told == " ".join(str(f"b'{number}'") for number in range(count)) + "\n"
        finally:
            reader.kill()
    stopped.reset()
    other.close()


class Connected:
    """A connection of a desk's kernel with a real websocket, to which the engine writes."""

    def __init__(self, the_desk: Any) -> None:
        ours, self._theirs = socket.socketpair()
        self._theirs.setblocking(False)
        self._data = b""
        self.kernel = the_desk.kernel
        self.stream = IOStream(ours)
        handler = mock_handler()
        handler.ws_connection = WebSocketProtocol13(handler, False, _WebSocketParams())
        handler.ws_connection.stream = self.stream
        handler.ws_connection.selected_subprotocol = V1
        self.connection = the_desk.connection_class(
            parent=the_desk.kernel, websocket_handler=handler, limit_rate=False
        )

    def numbers(self) -> list[int]:
        """The numbers of what has arrived."""
        try:
            while data := self._theirs.recv(1 << 20):
                self._data += data
        except BlockingIOError:
            pass
        return [int(number) for number in re.findall(rb'"number": (\d+)', self._data)]

    async def flood(self, count: int) -> None:
        """Have the kernel say so much, and see all of it, in order; its watcher is told, too."""
        goal, before = len(self.numbers()) + count, self.kernel.last_activity
        run_on_shell(self.connection, script(emit(count)))
        await wait_until_async(lambda: len(self.numbers()) >= goal, what="all outputs")
        assert self.numbers() == list(range(goal))
        await wait_until_async(lambda: self.kernel.last_activity != before, what="activity")

    def close(self) -> None:
        """Close both ends."""
        self.stream.close()
        self._theirs.close()


def test_loops_when_one_of_two_ends_then_the_other_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops what the engine tells from reaching another loop, or one that has ended."""
    fake_kernel.install(tmp_path / "data")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    both_are_live, one_has_ended = Barrier(2, timeout=30), Event()

    def run(*, is_last: bool) -> None:
        async def body() -> None:
            async with kernel_on_a_desk(IMPLEMENTATIONS["kernelwire"].classes) as the_desk:
                connected = Connected(the_desk)
                await connected.connection.prepare()
                await connected.connection.connect()
                assert outbox_of(connected.stream) is not None or not driver.driver().engine
                both_are_live.wait()
                await connected.flood(500)
                if is_last:
                    await wait_until_async(one_has_ended.is_set, what="the other loop's end")
                    await connected.flood(500)
                finish(the_desk, connected.connection)
                connected.close()

        run_to_end(body)

    with ThreadPoolExecutor(2) as pool:
        first, last = (pool.submit(run, is_last=is_last) for is_last in (False, True))
        first.result()
        one_has_ended.set()
        last.result()
