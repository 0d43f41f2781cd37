"""The engine in a real server: output while the event loop is blocked, and what ends the engine."""

from __future__ import annotations

import os
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psutil
import pytest

from kernelwire import live
from kernelwire.cli import StatusApp
from support import stalling
from support.fake_kernel import emit, script
from support.server import IMPLEMENTATIONS, RestError, Server
from support.waiting import wait_until
from support.ws_client import Client, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.messages import Message

KERNELWIRE = IMPLEMENTATIONS["kernelwire"]
ON_THE_LOOP = replace(KERNELWIRE, environment={"KERNELWIRE_DRIVER": "loop"})
MAX_AWAY = 4
"""Sessions whose channels are kept for their return."""

DESCRIPTORS = 3 * 2
"""Of such a session: one of libzmq and one of the connection for shell, control and stdin."""

UNLIMITED = {"ZMQChannelsWebsocketConnection": {"limit_rate": False}}


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Any]:
    """Start servers that have the extension, and stop them."""
    with stalling.stallable_servers(tmp_path) as started:
        yield lambda implementation=KERNELWIRE: started(implementation, UNLIMITED)


def numbered(number: int) -> Callable[[Message], bool]:
    """Whether a message is of output with so high a number."""
    return lambda m: m.metadata.get("number", -1) >= number


COUNTING = """
import time
for number in range(10_000):
    print(number, flush=True)
    time.sleep(0.005)
"""


def printed(messages: list[Message]) -> list[int]:
    """The numbers that were printed."""
    text = "".join(m.content["text"] for m in messages if m.msg_type == "stream")
    return [int(line) for line in text.splitlines()]


@pytest.mark.parametrize("protocol", ["v1", "legacy"])
@pytest.mark.parametrize("how", stalling.WAYS)
def test_output_when_the_loop_is_blocked_then_it_flows(
    start: Any, tmp_path: Path, how: str, protocol: str
) -> None:
    """Stops all kernels from falling silent because of one slow extension."""
    server = start()
    client = Client(server, server.start_kernel("python3"), protocol=protocol).settle()
    client.start(COUNTING)
    seen: list[Message] = []

    def count(more: int) -> None:
        """Receive so many numbers more."""
        goal = len(printed(seen)) + more
        while len(printed(seen)) < goal:
            seen.extend(client.messages(until=lambda m: m.msg_type == "stream"))

    count(1)
    with stalling.blocked(server, tmp_path, how):
        # The loop has not had a turn when these are here: it goes on behind them.
        count(200)
    count(100)
    client.reset()
    assert printed(seen) == list(range(len(printed(seen))))


def test_output_when_a_client_does_not_read_and_the_loop_is_blocked_then_it_is_bounded(
    start: Any, tmp_path: Path
) -> None:
    """Stops what waits while nobody looks from growing with what the kernel says."""
    server = start()
    kernel_id = server.start_kernel("fake")
    other = Client(server, kernel_id).settle()
    silent = Client(server, kernel_id).settle()
    before = psutil.Process(server.process.pid).memory_info().rss
    emitted = {"do": "emit", "count": 1000, "size": 1 << 20}
    with stalling.blocked(server, tmp_path, "sleeping"):
        silent.start(script(emitted))
        # The request was read before the block, or is read behind it: either way all of it comes.
    seen = other.messages(until=numbered(999), timeout=60)
    grown = psutil.Process(server.process.pid).memory_info().rss - before
    for client in (other, silent):
        client.reset()
    assert numbers(seen)[-1] == 999
    assert grown < (256 + 128) << 20, f"{grown >> 20} MiB"


def test_connections_when_many_come_and_go_in_a_flood_then_nothing_is_left(start: Any) -> None:
    """Stops descriptors from leaking, or from being written to when they are somebody else's."""
    server = start()
    kernel_id = server.start_kernel("fake")
    steady = Client(server, kernel_id).settle()
    seen = steady.execute(script({"do": "tick", "count": 100_000})).messages
    # What is made once is made by then.
    Client(server, kernel_id).settle().close()
    server.wait_for_connections(kernel_id, 1)
    wait_until(lambda: is_at_rest(server, kernel_id), what="all channels of one client")
    before = server.open_files()
    for number in range(100):
        client = Client(server, kernel_id, protocol="v1" if number % 3 else "legacy")
        if number % 5:
            client.messages(until=numbered(0))
        if number % 2:
            client.reset()
        else:
            client.close()
    server.wait_for_connections(kernel_id, 1)
    server.wait_for_files(before + MAX_AWAY * DESCRIPTORS)
    seen += steady.messages(
        until=numbered(numbers(seen)[-1] + 100) if numbers(seen) else numbered(100)
    )
    steady.reset()
    assert numbers(seen) == list(range(numbers(seen)[-1] + 1))


def is_at_rest(server: Server, kernel_id: str) -> bool:
    """Whether a kernel has the connections of one client, and of the server itself, and no others.

    A socket that is still to connect has a file less than it will have.
    """
    expected = {"shell": 1, "control": 2, "stdin": 1, "iopub": 1}
    return {name: server.connections_to(kernel_id, name) for name in expected} == expected


def test_driver_when_it_is_chosen_then_the_loop_does_the_work(start: Any) -> None:
    """Stops the way back from being lost: what the engine does, the event loop can do."""
    server = start(ON_THE_LOOP)
    assert server.request("GET", stalling.ENGINE_PATH)["driver"] == {
        "engine": False,
        "reason": "KERNELWIRE_DRIVER=loop is set",
    }
    client = Client(server, server.start_kernel("fake")).settle()
    assert client.execute(script(emit(500))).numbers == list(range(500))
    client.reset()


def test_engine_when_nothing_happens_then_it_sleeps(start: Any) -> None:
    """Stops a server that nobody uses from using a processor."""
    server = start()
    client = Client(server, server.start_kernel("fake")).settle()
    client.execute(script(emit(5)))

    def turns() -> int:
        return server.request("GET", stalling.ENGINE_PATH)["turns"]

    def is_still() -> bool:
        before = turns()
        return all(turns() == before for _ in range(50))

    wait_until(is_still, what="an engine that is parked")
    client.reset()


def test_engine_when_it_panics_then_the_loop_goes_on_and_nothing_is_lost(start: Any) -> None:
    """Stops a fault in native code from ending anybody's work: the server lives, and so do kernels."""
    server = start()
    kernel_id = server.start_kernel("fake")
    client = Client(server, kernel_id).settle()
    assert client.execute(script(emit(100))).numbers == list(range(100))
    server.request("DELETE", stalling.ENGINE_PATH)
    seen = client.rest()[0]
    client.reset()
    again = Client(server, kernel_id, session_id=client.session_id)
    seen += again.ask("shell", "kernel_info_request", {}).messages
    told = [m.content["text"] for m in seen if m.msg_type == "stream"]
    assert len(told) == 1
    assert "output of the last moment may be missing" in told[0]
    assert again.execute(script(emit(100))).numbers == list(range(100, 200))
    other = Client(server, server.start_kernel("fake")).settle()
    assert other.execute(script(emit(100))).numbers == list(range(100))
    wait_until(
        lambda: server.request("GET", f"/api/kernels/{kernel_id}")["execution_state"] == "idle",
        what="the kernel's state",
    )
    for each in (again, other):
        each.reset()
    log = server.log()
    assert log.count("kernelwire's engine has failed") == 1
    assert "Traceback" not in log


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks here")
def test_server_when_it_was_forked_then_the_child_touches_nothing(
    start: Any, tmp_path: Path
) -> None:
    """Stops a child, as of multiprocessing, from ending connections, or from never ending itself."""
    server = start()
    client = Client(server, server.start_kernel("fake")).settle()
    assert client.execute(script(emit(10))).numbers == list(range(10))
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    query = urlencode({"pipe": pipe})
    child = psutil.Process(server.request("GET", f"{stalling.FORK_PATH}?{query}")["child"])
    assert client.execute(script(emit(10))).numbers == list(range(10, 20))
    os.close(os.open(pipe, os.O_WRONLY))
    wait_until(lambda: not child.is_running() or child.status() == "zombie", what="the child's end")
    assert client.execute(script(emit(10))).numbers == list(range(20, 30))
    client.reset()
    # The child had the socket open as well: that is not to keep a connection from ending.
    last = Client(server, server.start_kernel("fake")).settle()
    last.close()


def test_server_when_it_is_stopped_with_everything_open_then_it_ends(start: Any) -> None:
    """Stops the end of a server from waiting for a thread, or for a socket of the engine's."""
    server = start()
    client = Client(server, server.start_kernel("fake")).settle()
    client.execute(script({"do": "tick", "count": 100_000}))
    server.process.terminate()
    wait_until(lambda: server.process.poll() is not None, what="the end of the server")
    assert server.process.returncode == 0
    client.reset()


def test_status_of_a_running_server_says_who_waits_for_what(
    start: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops an operator from having to guess why a notebook stands still."""
    server = start()
    kernel_id = server.start_kernel("fake")
    silent, other = (Client(server, kernel_id).settle() for _ in range(2))
    silent.start(script({"do": "emit", "count": 20, "size": 1 << 20}))
    other.messages(until=numbered(19))
    dropped = Client(server, kernel_id).settle()
    dropped.reset()
    said = wait_until(
        lambda: _described(server, kernel_id, other.session_id), what="the session's end"
    )
    log = said["kernels"][kernel_id]
    clients = _by_session(log["clients"])
    lagging, idle = clients[silent.session_id], clients[other.session_id]
    assert said["driver"] == log["driver"] == lagging["driver"] == "engine"
    assert lagging["waits_for"] == "room at the client"
    assert 0 < lagging["messages"] < 40
    assert lagging["bytes"] > 10 << 20
    assert lagging["seconds"] > 0
    assert (idle["messages"], idle["seconds"]) == (0, 0.0)
    assert log["entries"] > 0
    assert log["life"] == 1

    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.home / "runtime"))
    app = StatusApp()
    app.initialize(["--live"])
    with pytest.raises(SystemExit, match="0"):
        app.start()
    report = capfd.readouterr().out
    assert re.search(r"^    page: http://127.0.0.1:\d+/kernelwire/$", report, re.MULTILINE)
    assert f"kernel {kernel_id}: " in report
    assert "waits for room at the client, written by the engine" in report
    assert "waits for its client" in report
    for client in (silent, other):
        client.reset()


def _by_session(clients: dict[str, Any]) -> dict[str, Any]:
    """Of each session, what is told."""
    return {key.split(":")[1]: each for key, each in clients.items()}


def _described(server: Server, kernel_id: str, idle: str) -> Any:
    """What the server says, once a session is away and another one has got everything."""
    said = server.request("GET", live.PATH)
    log = said["kernels"][kernel_id]
    waits = [each["waits_for"] for each in log["away"].values()]
    waits.append(_by_session(log["clients"])[idle]["waits_for"])
    return said if waits == ["its client", "nothing"] else None


def test_status_of_a_running_server_is_for_who_may_know(start: Any) -> None:
    """Stops the names of sessions from being told to anybody who asks."""
    server = start()
    token, server.token = server.token, "wrong"
    with pytest.raises(RestError, match="403"):
        server.request("GET", live.PATH)
    server.token = token
