"""What waits for a client is bounded in bytes, however its messages go; the rest is counted.

A client that does not read while 30 MB are printed: the memory of the server stays within the bound
and some slack, and each gap is announced where it is, to the message.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest

from support.accounting import (
    Peak,
    announced,
    assert_gaps_are_announced,
    emitted,
    wait_until_quiet,
    watched_memory,
)
from support.fake_kernel import emit, script
from support.hooked import CoroutineConnection, OneByOneConnection, hooked
from support.parts import CHUNKS, Chunks
from support.server import IMPLEMENTATIONS, Server
from support.ws_client import Client, Connect, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from support.messages import Message
    from support.server import JsonConfig

BOUND = 1_000_000
COUNT, SIZE = 3_000, 10_000
SMALL_COUNT, SMALL_SIZE = 18_000, 500
ENVELOPE = 2_000
"""Bytes of a message besides its text, at most."""
SLACK = 12 << 20
"""What a server may take besides the bound: less than half of what is printed."""
LARGE_BOUND = 8_000_000
LARGE_SLACK = 8 << 20
SETTINGS: JsonConfig = {
    "ZMQChannelsWebsocketConnection": {"iopub_msg_rate_limit": 0, "iopub_data_rate_limit": 0},
    "KernelwireWebsocketConnection": {"max_pending_bytes": BOUND},
    "MappingKernelManager": {
        "max_offline_buffer_bytes": BOUND,
        # For `Chunks`.
        "execution_state_policy": "stock",
    },
    # A client that does not read answers no pings.
    "ServerApp": {"tornado_settings": {"ws_ping_interval": 3_600_000}},
}

pytestmark = [pytest.mark.slow, pytest.mark.kernelwire_only("C3", "I", "N6", "N9", "N11")]


@dataclass(frozen=True)
class Way:
    """A way from the kernel's socket to the client's."""

    implementation: str = "kernelwire"
    protocol: str = "v1"
    transport: str = "tcp"
    compression: bool = False
    connection: type[Any] | None = None
    config: JsonConfig = field(default_factory=dict)
    header: dict[str, Any] = field(default_factory=dict)


DEFLATE: JsonConfig = {"ServerApp": {"websocket_compression_options": {}}}
WAYS = {
    "v1": Way(),
    "portable": Way(implementation="kernelwire-portable"),
    "default protocol": Way(protocol="legacy"),
    "default protocol, whole seconds": Way(
        protocol="legacy", header={"date": "2026-11-26T13:53:41Z"}
    ),
    "default protocol, odd date": Way(
        protocol="legacy", header={"date": "2026-11-26T13:53:41+00:00"}
    ),
    "default protocol, no date": Way(protocol="legacy", header={"date": None}),
    "one by one": Way(connection=OneByOneConnection),
    "coroutine": Way(connection=CoroutineConnection),
    "lone surrogate": Way(header={"username": "\udcff"}),
    "compressed": Way(compression=True, config=DEFLATE),
    "tls": Way(transport="tls"),
    "large bound": Way(config={"MappingKernelManager": {"max_offline_buffer_bytes": LARGE_BOUND}}),
}


@pytest.fixture(params=[name for name in WAYS if name != "large bound"])
def way(request: pytest.FixtureRequest) -> Way:
    """Each way in turn."""
    return WAYS[request.param]


@pytest.fixture(scope="module")
def server_for(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Way], Server]]:
    """Servers that no other tests share, because their memory is measured."""
    servers: dict[str, Server] = {}
    with ExitStack() as stack:

        def server_for(way: Way) -> Server:
            config = {name: SETTINGS[name] | way.config.get(name, {}) for name in SETTINGS}
            found = IMPLEMENTATIONS[way.implementation]
            if way.connection is not None:
                found, config = hooked(found, way.connection, config)
            key = repr((way.implementation, config, way.transport))
            if key not in servers:
                home = tmp_path_factory.mktemp("server")
                servers[key] = Server(home, found, config, transport=way.transport)
                stack.callback(servers[key].stop)
            return servers[key]

        yield server_for


@pytest.fixture
def bounded(server_for: Callable[[Way], Server], way: Way) -> Server:
    """The server for a way to the client."""
    return server_for(way)


@pytest.fixture
def kernel_id(bounded: Server) -> Iterator[str]:
    """A scripted kernel on that server, which ends with the test."""
    kernel_id = bounded.start_kernel("fake")
    yield kernel_id
    bounded.delete_kernel(kernel_id)


@pytest.fixture
def open_client(bounded: Server, kernel_id: str, way: Way) -> Iterator[Connect]:
    """Open clients of that kernel, settled unless told otherwise, that end with the test."""
    with ExitStack() as stack:

        def open_client(*, settle: bool = True, **options: Any) -> Client:
            options |= {"protocol": way.protocol, "compression": way.compression}
            client = Client(bounded, kernel_id, **options)
            stack.callback(client.reset)
            return client.settle() if settle else client

        yield open_client


def all_until_now(client: Client, request_id: str) -> list[Message]:
    """What a client of an idle kernel receives for a request, and behind it."""
    messages = client.collect(request_id).messages
    return messages + client.ask("control", "kernel_info_request", {}).messages


def assert_counted(messages: list[Message], count: int, size: int, most: float = 1) -> None:
    """Received and counted are what was printed; gaps are announced where they are.

    There are ``most`` notices at most.
    """
    lost = announced(messages)
    assert len(emitted(messages)) + lost.messages == count
    assert lost.messages * size <= lost.size <= lost.messages * (size + ENVELOPE)
    assert_gaps_are_announced(messages, count)
    assert 1 <= sum(announced([message]).messages > 0 for message in messages) <= most


def print_away(server: Server, client: Client, kernel_id: str, chunks: Chunks) -> tuple[str, Peak]:
    """Drop a client and have its kernel print; the request, and what that takes in the server."""
    request_id = client.start(chunks.code)
    client.messages(until=lambda m: m.is_status("busy", request_id))
    client.reset()
    server.wait_for_connections(kernel_id, 0)
    with watched_memory(server) as memory:
        chunks.run(server, kernel_id)
        server.wait_for_state(kernel_id, "idle")
    return request_id, memory


class TestUnreadClient:
    """A client is open and does not read."""

    def test_memory_is_bounded_and_the_gap_is_counted(
        self, bounded: Server, kernel_id: str, way: Way, open_client: Connect, tmp_path: Path
    ) -> None:
        """On every way to the client, in bytes and to the message.

        A way that is slower than the kernel is one gap a second, until the network takes no more.
        """
        client = open_client()
        noise = way.compression
        chunks = Chunks(
            tmp_path, emit(COUNT, size=SIZE, type="stream", header=way.header, noise=noise)
        )
        started = time.monotonic()
        with watched_memory(bounded) as memory:
            request_id = client.start(chunks.code)
            chunks.run(bounded, kernel_id)
            wait_until_quiet(bounded)
        messages = all_until_now(client, request_id)
        assert memory.growth < BOUND + SLACK
        assert_counted(messages, COUNT, SIZE, most=2 + time.monotonic() - started)


class TestWhatIsNeverDropped:
    """What a front end cannot do without has a bound as well: twice that of the rest."""

    @pytest.mark.parametrize("way", ["v1", "default protocol"], indirect=True)
    @pytest.mark.parametrize("msg_type", ["status", "debug_event"])
    def test_client_is_closed(
        self,
        bounded: Server,
        kernel_id: str,
        open_client: Connect,
        tmp_path: Path,
        msg_type: str,
    ) -> None:
        """A client that does not read is closed, which is logged; it may come back, and is told."""
        client = open_client()
        chunks = Chunks(tmp_path, emit(COUNT, size=SIZE, type=msg_type))
        log_end = bounded.log_end()
        with watched_memory(bounded) as memory:
            client.start(chunks.code)
            chunks.run(bounded, kernel_id)
        assert memory.growth < BOUND + SLACK
        assert "Closed a client that does not read" in bounded.log(log_end)
        messages, code = client.rest()
        # Try again later, or nothing, where the client is silent during the close.
        assert code in (1013, 1006)
        assert 1 <= len(bounded.log_lines(log_end)) <= 2
        bounded.wait_for_connections(kernel_id, 0)
        again = open_client(session_id=client.session_id, settle=False)
        messages += again.execute(script(emit(2))).messages
        *before, last, end = numbers(messages)
        assert (last, end) == (COUNT, COUNT + 1)
        assert before == list(range(len(before)))
        # Some of the kernel's states are lost, too.
        assert 0 <= len(before) + announced(messages).messages - COUNT <= CHUNKS + 4


class TestAwayClient:
    """A client is away."""

    @pytest.mark.parametrize(
        "output", [(COUNT, SIZE), (SMALL_COUNT, SMALL_SIZE)], ids=["large", "small"]
    )
    @pytest.mark.parametrize("way", ["v1", "default protocol", "one by one"], indirect=True)
    def test_memory_is_bounded_and_the_gap_is_counted(
        self,
        bounded: Server,
        kernel_id: str,
        open_client: Connect,
        tmp_path: Path,
        output: tuple[int, int],
    ) -> None:
        """What is kept counts as what it takes in memory."""
        count, size = output
        client = open_client()
        chunks = Chunks(tmp_path, emit(count, size=size))
        request_id, memory = print_away(bounded, client, kernel_id, chunks)
        again = open_client(session_id=client.session_id, settle=False)
        messages = all_until_now(again, request_id)
        assert memory.growth < BOUND + SLACK
        assert_counted(messages, count, size)

    @pytest.mark.parametrize("way", ["large bound"], indirect=True)
    def test_small_messages_count_as_what_they_take(
        self, bounded: Server, kernel_id: str, open_client: Connect, tmp_path: Path
    ) -> None:
        """A full backlog of small messages takes little more memory than its bound."""
        client = open_client()
        chunks = Chunks(tmp_path, emit(SMALL_COUNT, size=SMALL_SIZE))
        _, memory = print_away(bounded, client, kernel_id, chunks)
        assert memory.growth < LARGE_BOUND + LARGE_SLACK


class TestLargeMessage:
    """A message is larger than the bound by itself."""

    def test_client_that_reads_gets_it(self, way: Way, open_client: Connect) -> None:
        """The bound is for clients that do not read, and for what comes besides one message."""
        client = open_client()
        large = emit(1, size=4 * BOUND, header=way.header, noise=way.compression)
        # One at a time: what waits for the event loop, where it has to look at each, may not be two.
        steps = ((emit(5, header=way.header), large), (emit(20, header=way.header), large))
        messages = [m for step in steps for m in client.execute(script(*step)).messages]
        assert numbers(messages) == list(range(27))
        assert announced(messages).messages == 0

    @pytest.mark.parametrize("way", ["v1", "default protocol", "one by one"], indirect=True)
    def test_client_that_was_away_gets_it(
        self, bounded: Server, kernel_id: str, open_client: Connect, tmp_path: Path
    ) -> None:
        """Nor is its session given up."""
        client = open_client()
        gate = tmp_path / "gate"
        wait: dict[str, object] = {"do": "wait_for", "path": str(gate)}
        request_id = client.start(script(wait, emit(1, size=4 * BOUND), emit(20)))
        client.messages(until=lambda m: m.is_status("busy", request_id))
        client.reset()
        bounded.wait_for_connections(kernel_id, 0)
        gate.touch()
        bounded.wait_for_state(kernel_id, "idle")
        again = open_client(session_id=client.session_id, settle=False)
        messages = all_until_now(again, request_id)
        assert numbers(messages) == list(range(21))
        assert announced(messages).messages == 0
