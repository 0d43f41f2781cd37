"""What a kernel says while its tab is closed, and how the tab gets it when it is back."""

from __future__ import annotations

import re
import socket
from typing import TYPE_CHECKING

import pytest

from support import cells
from support.accounting import wait_until_stalled, watched_memory
from support.fake_kernel import emit, script
from support.parts import Chunks
from support.waiting import wait_until
from support.ws_client import Client, Connect, Execution, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.messages import Message
    from support.server import Server, StartKernel, StartServer

pytestmark = pytest.mark.slow

MEBIBYTE = 1 << 20
BOUND = 20_000_000
SLACK = 32 * MEBIBYTE
SMALL_BOUND = 1_000_000
NOTICE = re.compile(r"^([0-9]+) messages \(([0-9]+) bytes\) of output were dropped")
# A legal rate: the limit is 1,000 messages a second.
RATE, SECONDS = 900, 4


@pytest.fixture
def bounded(start_server: StartServer) -> Iterator[Server]:
    """A server that keeps 20 MB for a closed tab; fresh, because its memory is measured."""
    config = {"max_offline_buffer_bytes": BOUND, "execution_state_policy": "stock"}  # For `Chunks`.
    server = start_server({"MappingKernelManager": config})
    yield server
    server.stop()


@pytest.fixture
def fresh(start_server: StartServer) -> Iterator[Server]:
    """A server with default configuration whose memory nothing has touched yet."""
    server = start_server()
    yield server
    server.stop()


@pytest.fixture(scope="module")
def tightly_bounded(start_server: StartServer) -> Server:
    """A server that keeps 1 MB for a closed tab."""
    return start_server({"MappingKernelManager": {"max_offline_buffer_bytes": SMALL_BOUND}})


@pytest.fixture(scope="module")
def unbuffered(start_server: StartServer) -> Server:
    """A server that keeps nothing for a closed tab."""
    return start_server({"MappingKernelManager": {"buffer_offline_messages": False}})


def odd(kind: str) -> dict[str, object]:
    """A step that publishes a message no kernel should."""
    return {"do": "odd", "kind": kind}


def paced(output: str, gate: Path) -> str:
    """Code that runs ``output`` for each ``n``, at the legal rate, once its tab has gone."""
    return cells.wait_for(gate) + (
        "publish = get_ipython().display_pub.publish\n"
        "start = time.monotonic()\n"
        f"for n in range({RATE * SECONDS}):\n"
        f"    {output}\n"
        f"    time.sleep(max(0, start + n / {RATE} - time.monotonic()))\n"
    )


def leave(server: Server, client: Client, kernel_id: str) -> list[Message]:
    """Close the only client, wait until the server has noticed; what came until then."""
    last = client.leave()
    server.wait_for_connections(kernel_id, 0)
    return last


def narrow(server: Server) -> Callable[[], socket.socket]:
    """Open connections of which the operating system does not receive megabytes in advance."""

    def open_socket() -> socket.socket:
        connection = server.open_socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)
        return connection

    return open_socket


def print_lines(count: int, size: int, gate: Path) -> str:
    """Code that prints numbered lines once its tab has gone, each a message."""
    return cells.wait_for(gate) + (
        "import sys\n"
        f"for n in range({count}):\n"
        f"    sys.stdout.write(f'{{n}}:' + 'x' * {size} + '\\n')\n"
        "    sys.stdout.flush()\n"
    )


def do(gate: Path, *steps: dict[str, object]) -> str:
    """Code that has the scripted kernel do steps once its tab has gone."""
    return script({"do": "wait_for", "path": str(gate)}, *steps)


def run_alone(server: Server, client: Client, kernel_id: str, gate: Path, code: str) -> str:
    """Run code, which waits for the gate, while nobody is connected; the request's id."""
    msg_id = client.start(code)
    client.messages(until=lambda m: m.is_status("busy", msg_id))
    leave(server, client, kernel_id)
    gate.touch()
    wait_until(
        lambda: server.kernel(kernel_id)["execution_state"] == "idle",
        what="the end of the cell",
        timeout=60,
    )
    return msg_id


def everything(client: Client, msg_id: str) -> Execution:
    """All that a returning client gets for a request, and what it is told behind that."""
    messages = client.collect(msg_id).messages
    # The second answer is a live one: what is told at the end of a replay came before it.
    for _ in range(2):
        messages += client.ask("control", "kernel_info_request", {}).messages
    return Execution(msg_id, messages)


def announced(messages: list[Message]) -> int:
    """How many messages the server says it has dropped."""
    texts = [m.content["text"] for m in messages if m.msg_type == "stream"]
    return sum(int(found[1]) for text in texts if (found := NOTICE.match(text)))


def texts(execution: Execution) -> list[int]:
    """The numbers in the scripted kernel's printed lines."""
    return [int(number) for number in re.findall(r"^([0-9]+):", execution.text(), re.MULTILINE)]


# everything is there


@pytest.mark.kernelwire_only("H4")
@pytest.mark.parametrize("output", ["publish({'text/plain': str(n)})", "print(n, flush=True)"])
def test_return_when_output_was_made_at_a_legal_rate_then_all_of_it_is_there(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, output: str
) -> None:
    """Stops output from falling to the rate limit because it is read faster than it was made."""
    kernel_id = start_kernel()
    client = connect(kernel_id)
    msg_id = run_alone(server, client, kernel_id, gate, paced(output, gate))
    again = connect(kernel_id, session_id=client.session_id, settle=False)
    execution = again.collect(msg_id)
    displayed = [m.content["data"]["text/plain"] for m in execution.of_type("display_data")]
    assert displayed + execution.text().split() == [str(n) for n in range(RATE * SECONDS)]
    assert execution.text("stderr") == ""


@pytest.mark.kernelwire_only("H7", "H8")
def test_return_when_kernel_goes_on_then_what_was_kept_comes_before_what_is_new(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops gaps, repeats and swaps where the tab closes, and where replay meets live output."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    client.start(script({"do": "tick", "count": 1500}))
    seen = client.messages(until=lambda m: m.metadata.get("number") == 100)
    seen += leave(server, client, kernel_id)
    for target in (400, 700, 1000, 1499):
        client = connect(kernel_id, session_id=client.session_id, settle=False)
        seen += client.messages(until=has_number(target))
        seen += leave(server, client, kernel_id)
    assert numbers(seen) == list(range(1500))


def has_number(number: int) -> Callable[[Message], bool]:
    """A condition: the message with this number, or a later one, came."""
    return lambda message: message.metadata.get("number", -1) >= number


def test_return_when_output_was_printed_then_its_text_is_complete(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, protocol: str
) -> None:
    """Stops joined messages that a client's bridge refuses, for their signature or their form."""
    kernel_id = start_kernel()
    client = connect(kernel_id, protocol=protocol)
    code = print_lines(300, 10, gate) + "print('ünïcödé \\N{SNAKE} \\0 \\\\ \"', flush=True)\n"
    msg_id = run_alone(server, client, kernel_id, gate, code)
    log_end = server.log_end()
    again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
    execution = again.collect(msg_id)
    lines = [f"{n}:xxxxxxxxxx" for n in range(300)]
    assert execution.text().splitlines() == [*lines, 'ünïcödé \N{SNAKE} \0 \\ "']
    assert server.log_lines(log_end) == []


@pytest.mark.kernelwire_only("H17")
def test_return_when_output_was_printed_then_it_comes_in_few_messages(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, protocol: str
) -> None:
    """Stops a browser from drowning in single lines when its tab is back."""
    kernel_id = start_kernel()
    client = connect(kernel_id, protocol=protocol)
    msg_id = run_alone(server, client, kernel_id, gate, print_lines(2000, 10, gate))
    again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
    execution = again.collect(msg_id)
    assert texts(execution) == list(range(2000))
    assert len(execution.of_type("stream")) < 20


@pytest.mark.kernelwire_only("H28")
@pytest.mark.parametrize("kind", ["no_delimiter", "header_not_json", "parts_2", "bad_signature"])
def test_return_when_a_kept_message_is_malformed_then_the_others_are_there(  # noqa: PLR0917 (fixtures)
    server: Server,
    connect: Connect,
    start_kernel: StartKernel,
    gate: Path,
    protocol: str,
    kind: str,
) -> None:
    """Stops one bad message from ending the replay."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    steps = (emit(5), odd(kind), emit(5, type="stream"), odd(kind), emit(5))
    msg_id = run_alone(server, client, kernel_id, gate, do(gate, *steps))
    again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
    replayed = again.collect(msg_id)
    # The odd message with a bad signature is a number below 0: who does not check it shows it.
    assert [n for n in replayed.numbers if n >= 0] == list(range(15))
    assert again.execute(script(emit(2))).numbers == [15, 16]


def test_return_when_buffering_is_off_then_nothing_was_kept_and_the_tab_works(
    unbuffered: Server, connect: Connect, gate: Path, protocol: str
) -> None:
    """Stops a server that was told to keep nothing from keeping something."""
    kernel_id = unbuffered.start_kernel("fake")
    client = connect(kernel_id, on=unbuffered, protocol=protocol)
    files = unbuffered.open_files()
    run_alone(unbuffered, client, kernel_id, gate, do(gate, emit(50)))
    wait_until(lambda: unbuffered.open_files() < files, what="the end of the channels")
    session_id = client.session_id
    again = connect(kernel_id, on=unbuffered, protocol=protocol, session_id=session_id)
    assert again.execute(script(emit(2))).numbers == [50, 51]
    assert sum(b'"number"' in bytes_of(frame) for frame in again.raw_frames) == 2


def bytes_of(frame: bytes | str) -> bytes:
    """A frame's payload, whatever its kind."""
    return frame.encode() if isinstance(frame, str) else frame


# the bound


@pytest.mark.kernelwire_only("H17")
def test_flood_when_nobody_is_connected_then_memory_is_bounded_and_the_loss_is_counted(
    bounded: Server, connect: Connect, tmp_path: Path, protocol: str
) -> None:
    """Stops a closed tab from eating the server, and a notice from saying less than is lost."""
    kernel_id = bounded.start_kernel("fake")
    client = connect(kernel_id, on=bounded, protocol=protocol)
    total = 1500
    chunks = Chunks(tmp_path, emit(total, size=100 * 1024))
    msg_id = client.start(chunks.code)
    client.messages(until=lambda m: m.is_status("busy", msg_id))
    leave(bounded, client, kernel_id)
    with watched_memory(bounded) as memory:
        chunks.run(bounded, kernel_id)
    session_id = client.session_id
    again = connect(kernel_id, on=bounded, protocol=protocol, session_id=session_id, settle=False)
    execution = everything(again, msg_id)
    assert memory.growth < BOUND + SLACK
    assert execution.numbers == sorted(set(execution.numbers))
    assert execution.numbers[-1] == total - 1
    assert len(execution.numbers) > BOUND / 2 / (100 * 1024)
    assert len(execution.numbers) + announced(execution.messages) == total
    assert announced([m for m in execution.messages if m.parent_id != msg_id]) == 0


@pytest.mark.kernelwire_only("H17")
def test_flood_when_it_is_text_then_every_line_is_there_or_counted(
    tightly_bounded: Server, connect: Connect, gate: Path, protocol: str
) -> None:
    """Stops joined lines from being counted as one when they are dropped."""
    kernel_id = tightly_bounded.start_kernel()
    client = connect(kernel_id, on=tightly_bounded, protocol=protocol)
    total = 10_000
    code = print_lines(total, 400, gate)
    msg_id = run_alone(tightly_bounded, client, kernel_id, gate, code)
    session_id = client.session_id
    again = connect(
        kernel_id, on=tightly_bounded, protocol=protocol, session_id=session_id, settle=False
    )
    execution = everything(again, msg_id)
    left = texts(execution)
    assert left == sorted(set(left))
    assert left[-1] == total - 1
    assert len(left) + announced(execution.messages) == total
    assert announced(execution.messages) > 0


@pytest.mark.kernelwire_only("H17")
def test_flood_when_results_and_errors_are_among_it_then_they_are_kept(
    tightly_bounded: Server, connect: Connect, gate: Path
) -> None:
    """Stops the one message that tells why a long run failed from being dropped for progress bars."""
    kernel_id = tightly_bounded.start_kernel("fake")
    client = connect(kernel_id, on=tightly_bounded)
    flood = emit(50, size=100 * 1024)
    steps = (emit(1, type="error"), flood, emit(1, type="execute_result"), flood)
    msg_id = run_alone(tightly_bounded, client, kernel_id, gate, do(gate, *steps))
    again = connect(kernel_id, on=tightly_bounded, session_id=client.session_id, settle=False)
    execution = everything(again, msg_id)
    (error,), (result,) = execution.of_type("error"), execution.of_type("execute_result")
    assert (error.metadata["number"], result.metadata["number"]) == (0, 51)
    assert len(execution.numbers) + announced(execution.messages) == 102


def test_memory_when_another_session_takes_the_kernel_then_it_is_given_back(
    fresh: Server, connect: Connect, tmp_path: Path
) -> None:
    """Stops buffers that nobody will ever read from staying for as long as the server runs."""
    kernel_id = fresh.start_kernel("fake")
    grown = []
    for cycle in range(6):
        client = connect(kernel_id, on=fresh)
        gate = tmp_path / str(cycle)
        code = do(gate, emit(400, size=100 * 1024))
        run_alone(fresh, client, kernel_id, gate, code)
        grown.append(fresh.resident_bytes())
    assert grown[-1] - grown[0] < 40 * MEBIBYTE + SLACK


# the way back


@pytest.mark.kernelwire_only("H15")
def test_replay_when_the_client_is_slow_then_little_waits_for_it_in_the_server(
    fresh: Server, connect: Connect, gate: Path, protocol: str
) -> None:
    """Stops a buffer from being copied whole to the socket's: it would be held twice."""
    kernel_id = fresh.start_kernel("fake")
    client = connect(kernel_id, on=fresh, protocol=protocol)
    total = 500
    step = emit(total, size=100 * 1024)
    msg_id = run_alone(fresh, client, kernel_id, gate, do(gate, step))
    before = fresh.resident_bytes()
    again = connect(
        kernel_id, on=fresh, protocol=protocol, session_id=client.session_id, settle=False
    )
    wait_until_stalled(again)
    assert fresh.resident_bytes() - before < 16 * MEBIBYTE
    assert again.collect(msg_id).numbers == list(range(total))


@pytest.mark.kernelwire_only("H8")
def test_replay_when_the_tab_is_closed_in_its_middle_then_the_rest_comes_next_time(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, protocol: str
) -> None:
    """Stops a second reload from losing what the first has not yet shown."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    total = 4000
    msg_id = run_alone(server, client, kernel_id, gate, do(gate, emit(total, size=10_000)))
    session_id = client.session_id
    options = {"protocol": protocol, "session_id": session_id, "settle": False}
    again = connect(kernel_id, open_socket=narrow(server), **options)
    seen = again.messages(until=has_number(100))
    seen += leave(server, again, kernel_id)
    last = connect(kernel_id, **options)
    seen += last.until_idle(msg_id).messages
    # The reply is on another channel: it may come before the output, or behind it.
    seen += last.ask("control", "kernel_info_request", {}).messages
    assert numbers(seen) == list(range(total))
    assert [m.msg_type for m in seen].count("execute_reply") == 1


@pytest.mark.kernelwire_only("H8")
def test_replay_when_the_connection_breaks_in_its_middle_then_none_comes_twice(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, protocol: str
) -> None:
    """Stops a broken network from leaving a replay that goes on beside the next one."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    total = 4000
    msg_id = run_alone(server, client, kernel_id, gate, do(gate, emit(total, size=10_000)))
    log_end = server.log_end()
    session_id = client.session_id
    again = connect(kernel_id, protocol=protocol, session_id=session_id, settle=False)
    seen = again.messages(until=has_number(100))
    again.reset()
    server.wait_for_connections(kernel_id, 0)
    last = connect(kernel_id, protocol=protocol, session_id=session_id, settle=False)
    execution = last.until_idle(msg_id)
    both = numbers(seen) + execution.numbers
    assert both == sorted(set(both))
    assert execution.numbers[-1] == total - 1
    assert server.log_lines(log_end) == []


@pytest.mark.kernelwire_only("H17")
def test_notice_when_the_tab_is_closed_after_reading_it_then_it_is_not_told_again(
    tightly_bounded: Server, connect: Connect, gate: Path
) -> None:
    """Stops the same loss from being announced twice, as if twice as much were missing."""
    kernel_id = tightly_bounded.start_kernel("fake")
    client = connect(kernel_id, on=tightly_bounded)
    total = 400
    # What is never dropped is more than the bound, but not twice that.
    states = emit(150, size=10_000, channel="iopub", type="status")
    steps = (emit(total, size=10_000), states)
    run_alone(tightly_bounded, client, kernel_id, gate, do(gate, *steps))
    options = {"on": tightly_bounded, "session_id": client.session_id, "settle": False}
    again = connect(kernel_id, **options)
    first = again.messages(until=lambda m: announced([m]) > 0)
    seen = leave(tightly_bounded, again, kernel_id)
    last = connect(kernel_id, **options)
    seen += last.ask("control", "kernel_info_request", {}).messages
    assert announced(first) == total
    assert announced(seen) == 0
