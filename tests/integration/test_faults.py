"""Clients that do not read or vanish, loops that stall, kernels that die: what is lost is counted.

In each of these what the kernel has sent is what the client got and what it was told it missed,
and the server's memory is bounded. Stock is left out: it bounds nothing, and it loses without a
word (H1, H10, H15).
"""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import psutil
import pytest
import zmq

from support import cells, stalling
from support.accounting import announced, emitted, wait_until_stalled, watched_memory
from support.fake_kernel import DELIMITER, emit, script
from support.server import Implementation, JsonConfig, Server, StartKernel, StartServer
from support.waiting import wait_until
from support.ws_client import Client, Connect, Execution

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.messages import Message

MEBIBYTE = 1 << 20
MAX_PENDING = 5_000_000
SLACK = 64 * MEBIBYTE
SIZE = 100 * 1024
UNLIMITED = {"iopub_msg_rate_limit": 0, "iopub_data_rate_limit": 0}
KERNELS = 50
RATE = 300
MESSAGE_BYTES = 1500
"""Bytes that a line of the scripted kernel takes in a socket."""
RECEIVE_BUFFER = 8192
"""Bytes of the buffer that libzmq keeps, at the worst, for each message that waits in a socket."""
QUIET_SECONDS = 0.5
"""How long nothing may be on its way from a kernel that has said all it had to say."""

pytestmark = [pytest.mark.slow, pytest.mark.kernelwire_only("H1", "H10", "H15")]


@pytest.fixture(scope="module", params=["tcp", "tls"])
def impatient(start_server: StartServer, request: pytest.FixtureRequest) -> Server:
    """A server that lets 5 MB wait for a client, with and without encryption."""
    config = {"KernelwireWebsocketConnection": {"max_pending_bytes": MAX_PENDING, **UNLIMITED}}
    return start_server(config, transport=request.param)


@pytest.fixture(scope="module")
def stallable(
    implementation: Implementation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose loop can be blocked, with default limits."""
    yield from blockable(implementation, tmp_path_factory, {})


@pytest.fixture(scope="module")
def stallable_unlimited(
    implementation: Implementation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose loop can be blocked, with the limits lifted."""
    config: JsonConfig = {"ZMQChannelsWebsocketConnection": UNLIMITED}
    yield from blockable(implementation, tmp_path_factory, config)


def blockable(
    implementation: Implementation, tmp_path_factory: pytest.TempPathFactory, config: JsonConfig
) -> Iterator[Server]:
    """Start a server with the extension that blocks its loop, and stop it."""
    implementation, config = stalling.stallable(implementation, config)
    server = Server(tmp_path_factory.mktemp("server"), implementation, config)
    try:
        yield server
    finally:
        server.stop()


@contextmanager
def stalled(server: Server, folder: Path, *, seconds: float = 0.0) -> Iterator[None]:
    """Block the server's loop, for so long at least."""
    began, until = folder / "began", folder / "until"
    query = urlencode({"seconds": seconds, "began": began, "until": until})
    with stalling.under_way(server, f"{stalling.PATH}?{query}", began):
        try:
            yield
        finally:
            until.touch()


def wait_for(path: Path) -> dict[str, object]:
    """A step that waits for a file."""
    return {"do": "wait_for", "path": str(path)}


@contextmanager
def listening(server: Server, kernel_id: str, client: Client) -> Iterator[zmq.Socket[bytes]]:
    """Hear what a kernel publishes, without a server in between."""
    port = iopub_port(server, kernel_id)
    with zmq.Context() as context, context.socket(zmq.SUB) as listener:
        listener.set_hwm(0)
        listener.subscribe(b"")
        listener.connect(f"tcp://127.0.0.1:{port}")
        while not listener.poll(50):
            client.ask("control", "kernel_info_request", {})
        yield listener


def iopub_port(server: Server, kernel_id: str) -> int:
    """The port on which a kernel publishes."""
    return server.connection_info(kernel_id)["iopub_port"]


def wait_until_said(listener: zmq.Socket[bytes], msg_type: str) -> None:
    """Wait until a kernel has published a message of a type."""
    while listener.poll(15_000):
        frames = listener.recv_multipart()
        header = json.loads(frames[frames.index(DELIMITER) + 2])
        if header["msg_type"] == msg_type:
            return
    raise TimeoutError(f"waited in vain for {msg_type}")


PATIENT = (
    "thread = get_ipython().kernel.iopub_thread\n"
    "thread.schedule(lambda: setattr(thread.socket, 'sndhwm', 5000))\n"
)
"""Code that lets more wait in the kernel, which on a busy machine may be what drops messages."""


# a client that does not read


def display_steadily(first: int, count: int) -> str:
    """Code that displays numbered outputs of 100 KiB, for some time."""
    return (
        "import time\n"
        "publish = get_ipython().display_pub.publish\n"
        f"for n in range({first}, {first + count}):\n"
        f"    publish({{'text/plain': f'{{n}}:' + 'x' * {SIZE}}})\n"
        f"    time.sleep({1 / RATE})\n"
    )


SEND_WHAT_MATTERS = (
    "kernel = get_ipython().kernel\n"
    "for msg_type in ('comm_open', 'comm_close', 'error'):\n"
    "    kernel.send_response(kernel.iopub_socket, msg_type, {'comm_id': 'x', 'data': {}})\n"
)


def assert_all_is_accounted_for(messages: list[Message], total: int) -> None:
    """What came is in order, and what did not was announced, messages and bytes."""
    got, told = emitted(messages), announced(messages)
    assert got == sorted(set(got))
    assert len(got) + told.messages == total
    assert told.messages * SIZE <= told.size <= told.messages * (SIZE + 2000)


def test_slow_client_when_it_reads_again_then_it_has_or_is_told_of_every_message(
    impatient: Server, connect: Connect
) -> None:
    """Stops a sleeping laptop from eating the server's memory, or from missing output unknowingly."""
    kernel_id = impatient.start_kernel()
    client = connect(kernel_id, on=impatient)
    code = display_steadily(0, 1500) + SEND_WHAT_MATTERS + display_steadily(1500, 1500)
    with watched_memory(impatient) as memory:
        msg_id = client.start(code)
        impatient.wait_for_state(kernel_id, "busy")
        # The cell takes 10 s, and longer on a busy machine.
        impatient.wait_for_state(kernel_id, "idle", timeout=60)
        execution = client.collect(msg_id)
    assert_all_is_accounted_for(execution.messages, 3000)
    assert announced(execution.messages).messages > 2000
    sent = [m.msg_type for m in execution.messages]
    assert {"comm_open", "comm_close", "error", "execute_input"} <= set(sent)
    assert memory.growth < MAX_PENDING + SLACK
    later = client.execute(display_steadily(3000, 20)).messages
    assert emitted(later) == list(range(3000, 3020))


def test_slow_client_when_it_falls_behind_again_then_it_is_told_again_and_not_twice(
    impatient: Server, connect: Connect
) -> None:
    """Stops a notice that repeats what has been told, or that comes only the first time."""
    client = connect(impatient.start_kernel("fake"), on=impatient)
    messages: list[Message] = []
    for lap in range(1, 4):
        told = announced(messages).messages
        msg_id = client.start(script(emit(300, size=SIZE)))
        wait_until_stalled(client)
        messages += client.collect(msg_id).messages
        assert_all_is_accounted_for(messages, 300 * lap)
        assert announced(messages).messages > told


def test_slow_client_when_it_is_told_then_that_is_below_the_cell_that_lost_output(
    impatient: Server, connect: Connect
) -> None:
    """Stops the notice from showing up below a cell that has lost nothing, or below none."""
    kernel_id = impatient.start_kernel("fake")
    client = connect(kernel_id, on=impatient)
    log_end = impatient.log_end()
    msg_id = client.start(script(emit(300, size=SIZE)))
    wait_until_stalled(client)
    # All of it came before the client reads: it falls behind once.
    impatient.wait_for_state(kernel_id, "idle")
    messages = client.collect(msg_id).messages
    told = [place for place, message in enumerate(messages) if announced([message]).messages]
    assert told
    assert {messages[place].parent_id for place in told} == {msg_id}
    idle = next(
        place for place, message in enumerate(messages) if message.is_status("idle", msg_id)
    )
    assert told[-1] < idle
    # That it began, and what it has cost.
    assert len(impatient.log_lines(log_end)) <= 2


def test_slow_client_when_it_does_not_read_then_another_one_gets_everything(
    impatient: Server, connect: Connect
) -> None:
    """Stops one sleeping tab from costing the others their output."""
    kernel_id = impatient.start_kernel()
    sleeper = connect(kernel_id, on=impatient)
    reader = connect(kernel_id, on=impatient)
    # No cell's output is more than may wait: the reader may be slow as well, on a busy machine.
    cells = [reader.execute(display_steadily(40 * cell, 40)) for cell in range(15)]
    messages = [message for cell in cells for message in cell.messages]
    assert emitted(messages) == list(range(600))
    assert announced(messages).messages == 0
    missed = sleeper.messages(lambda m: m.is_status("idle", cells[-1].request_id))
    assert announced(missed).messages > 0
    assert_all_is_accounted_for(missed, 600)


# a client that vanishes


def test_vanished_client_when_megabytes_wait_for_it_then_one_line_is_logged_and_the_rest_is_kept(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops 58,000 log lines for a closed lid, and the loss of all that is said afterwards."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    msg_id = client.start(script(emit(300, size=SIZE), wait_for(gate), emit(50, size=SIZE)))
    wait_until_stalled(client)
    log_end = server.log_end()
    with watched_memory(server) as memory:
        client.reset()
        server.wait_for_connections(kernel_id, 0)
        gate.touch()
        server.wait_for_state(kernel_id, "idle")
    again = connect(kernel_id, session_id=client.session_id, settle=False)
    numbers = again.collect(msg_id).numbers
    # What the socket had taken is gone: nobody can tell how much of it was read.
    assert numbers == list(range(numbers[0], 350))
    assert numbers[0] <= 300
    assert memory.growth < SLACK
    assert len(server.log_lines(log_end)) <= 1
    assert "never retrieved" not in server.log(log_end)
    assert "Exception" not in server.log(log_end)


def test_vanished_client_when_the_kernel_floods_on_then_the_rest_is_kept_without_a_gap(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops a gap between what was on its way and what the offline buffer gets."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    log_end = server.log_end()
    msg_id = client.start(script(emit(2000, size=10_000), wait_for(gate), emit(10)))
    client.messages(until=lambda m: m.metadata.get("number") == 100)
    client.reset()
    server.wait_for_connections(kernel_id, 0)
    gate.touch()
    again = connect(kernel_id, session_id=client.session_id, settle=False)
    numbers = again.collect(msg_id).numbers
    assert numbers == list(range(numbers[0], 2010))
    assert "never retrieved" not in server.log(log_end)
    assert len(server.log_lines(log_end)) <= 1


# a loop that stalls


def longest_wait(server: Server, work: Future[Any]) -> float:
    """The longest time in seconds that a request takes until ``work`` is done; one at least."""
    longest = 0.0
    while True:
        begun = time.monotonic()
        server.status()
        longest = max(longest, time.monotonic() - begun)
        if work.done():
            return longest


def print_lines(count: int) -> str:
    """Code that prints numbered lines, each a message."""
    return f"for n in range({count}): print(f'{{n}}:', flush=True)\n"


def test_stall_when_a_kernel_displays_at_full_speed_then_nothing_is_lost(
    stallable_unlimited: Server, connect: Connect, gate: Path, tmp_path: Path
) -> None:
    """Stops a busy moment of the server from costing output, and its aftermath from freezing it."""
    server, count = stallable_unlimited, 20_000
    kernel_id = server.start_kernel()
    client = connect(kernel_id, on=server)
    msg_id = client.start(PATIENT + cells.wait_for(gate) + cells.display_numbers(0, count))
    client.messages(until=lambda m: m.msg_type == "execute_input")
    with watched_memory(server) as memory, ThreadPoolExecutor(1) as pool:
        with stalled(server, tmp_path, seconds=3):
            gate.touch()
        execution = pool.submit(client.collect, msg_id)
        longest = longest_wait(server, execution)
    assert emitted(execution.result().messages) == list(range(count))
    assert announced(execution.result().messages).messages == 0
    assert longest < 4
    assert memory.growth < SLACK + 2 * count * RECEIVE_BUFFER


@contextmanager
def asking(server: Server, path: str) -> Iterator[tuple[Callable[[], None], Callable[[], Any]]]:
    """Two functions, to ask and to get the answer, over a connection that the server knows."""
    connection = http.client.HTTPConnection("localhost", timeout=30)
    with closing(connection):
        connection.sock = server.open_socket()

        def ask() -> None:
            connection.request("GET", path, headers=server.auth_headers)

        def answer() -> Any:
            return json.loads(connection.getresponse().read())

        ask()
        answer()
        yield ask, answer


def test_stall_when_it_is_over_then_others_are_served_before_the_backlog_is_worked_off(
    stallable_unlimited: Server, connect: Connect, gate: Path, tmp_path: Path
) -> None:
    """Stops a flooding kernel from freezing all other users until its backlog is done."""
    server, count = stallable_unlimited, 20_000
    kernel_id = server.start_kernel()
    client = connect(kernel_id, on=server)
    code = PATIENT + cells.wait_for(gate) + cells.display_numbers(0, count) + SEND_WHAT_MATTERS
    with listening(server, kernel_id, client) as listener:
        msg_id = client.start(code)
        client.messages(until=lambda m: m.msg_type == "execute_input")
        with asking(server, stalling.STATS_PATH) as (ask, answer):
            with stalled(server, tmp_path):
                gate.touch()
                wait_until_said(listener, "error")
                ask()
            (stats,) = (one for one in answer()["connections"] if one["received"] > 0)
    on_the_loop = not server.request("GET", stalling.ENGINE_PATH)["driver"]["engine"]
    # Where the loop reads, it has not read all of it before it answers; the engine has, meanwhile.
    assert (stats["received"] < count) == on_the_loop
    assert stats["largest_batch"] < count / 10
    assert emitted(client.collect(msg_id).messages) == list(range(count))


def test_stall_when_a_kernel_prints_at_full_speed_then_nothing_is_lost(
    stallable: Server, connect: Connect, gate: Path, tmp_path: Path
) -> None:
    """Stops lines from being cut as too many a second because they are read at once."""
    count = 10_000
    client = connect(stallable.start_kernel(), on=stallable)
    msg_id = client.start(PATIENT + cells.wait_for(gate) + print_lines(count))
    client.messages(until=lambda m: m.msg_type == "execute_input")
    with stalled(stallable, tmp_path, seconds=3):
        gate.touch()
    execution = client.collect(msg_id)
    assert emitted(execution.messages) == list(range(count))
    assert execution.text("stderr") == ""


# many kernels


def test_kernels_when_fifty_print_at_once_then_every_client_gets_every_line(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops one kernel's flood from costing another's output, or the server its life."""
    count = 3000
    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(KERNELS))
        kernel_ids = [start_kernel("fake") for _ in range(KERNELS)]
        clients = [connect(kernel_id) for kernel_id in kernel_ids]
        memory = stack.enter_context(watched_memory(server))
        code = script(wait_for(gate), emit(count, type="stream"))
        requests = [client.start(code) for client in clients]
        gate.touch()
        # 150,000 lines: a busy machine takes a while.
        collected = [
            pool.submit(client.collect, request, timeout=120)
            for client, request in zip(clients, requests, strict=True)
        ]
        executions = [each.result() for each in collected]
    for execution in executions:
        assert emitted(execution.messages) == list(range(count))
        assert execution.text("stderr") == ""
    assert memory.growth < SLACK + 2 * KERNELS * count * MESSAGE_BYTES


# a kernel that is killed


def process_of(kernel_id: str) -> int:
    """The process that runs with a kernel's connection file."""
    for process in psutil.process_iter(["cmdline"]):
        if any(f"kernel-{kernel_id}.json" in word for word in process.info["cmdline"] or ()):
            return process.pid
    raise LookupError(f"no process runs kernel {kernel_id}")


def wait_until_written_out(port: int) -> None:
    """Wait until all that is published at a port of the loopback has reached the other side.

    ZeroMQ writes to each subscriber in its turn: one that has a message does not say that others do.
    """
    wait_until(lambda: stays_written_out(port), what="the kernel's last words")


def stays_written_out(port: int) -> bool:
    """Whether nothing more is on its way for a while."""
    deadline = time.monotonic() + QUIET_SECONDS
    while time.monotonic() < deadline:
        if not is_written_out(port):
            return False
        time.sleep(0.01)
    return True


def is_written_out(port: int) -> bool:
    """Whether all that was sent from a port of the loopback has reached the other side."""
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return all(row[4].startswith("00000000:") for row in rows if row[1].endswith(f":{port:04X}"))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc/net/tcp says what is written out")
def test_kernel_when_it_is_killed_in_a_flood_then_what_it_has_said_comes_before_the_notice(
    stallable: Server, connect: Connect, gate: Path, tmp_path: Path
) -> None:
    """Stops the last words of a kernel, which tell why it died, from being lost or out of order."""
    count = 5000
    kernel_id = stallable.start_kernel()
    client = connect(kernel_id, on=stallable)
    never = cells.wait_for(tmp_path / "never")
    code = PATIENT + cells.wait_for(gate) + print_lines(count) + SEND_WHAT_MATTERS + never
    with listening(stallable, kernel_id, client) as listener:
        msg_id = client.start(code)
        client.messages(until=lambda m: m.msg_type == "execute_input")
        with stalled(stallable, tmp_path):
            gate.touch()
            wait_until_said(listener, "error")
            port = iopub_port(stallable, kernel_id)
            wait_until_written_out(port)
            os.kill(process_of(kernel_id), signal.SIGKILL)
    messages = client.messages(until=lambda m: m.is_status("restarting"))
    assert emitted(messages) == list(range(count))
    assert messages[-2].msg_type == "error"
    assert Execution(msg_id, messages).text("stderr") == ""
    client.meet_new_kernel()
    assert client.execute("print('here')").text() == "here\n"
