"""Other ways to the server than plain TCP: the bytes must be the same."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from support import ways
from support.fake_kernel import buffer_bytes, script

if TYPE_CHECKING:
    from support.server import Implementation, JsonConfig, Server, StartServer
    from support.ws_client import Connect

SIZES = [0, 1, 125, 126, 65_535, 65_536, 3_000_000]


@dataclass(frozen=True)
class Way:
    """How clients reach the server."""

    transport: str = "tcp"
    is_engines: bool = False
    """Whether the engine can write in that way."""
    config: JsonConfig = field(default_factory=dict)
    compression: bool = False


WAYS = {
    "deflate": Way(config={"ServerApp": {"websocket_compression_options": {}}}, compression=True),
    "tls": Way(transport="tls"),
    "unix": Way(transport="unix", is_engines=True),
}


@pytest.fixture(scope="module", params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each way in turn."""
    return WAYS[request.param]


@pytest.fixture(scope="module")
def own_server(start_server: StartServer, implementation: Implementation, way: Way) -> Server:
    """A server reached in that way."""
    return start_server(ways.linked(implementation, way.config), transport=way.transport)


def test_bytes_when_the_way_is_unusual_then_they_arrive_unchanged(
    own_server: Server, way: Way, connect: Connect, protocol: str
) -> None:
    """Stops a fast path made for plain sockets from writing past the encryption or compression."""
    kernel_id = own_server.start_kernel("fake")
    options = {"protocol": protocol, "compression": way.compression}
    client = connect(kernel_id, on=own_server, **options)
    outputs = {"do": "emit", "type": "comm_msg", "count": 20, "buffers": SIZES}
    execution = client.execute(script(outputs, {"do": "emit", "count": 500, "size": 100}))
    expected = tuple(buffer_bytes(size) for size in SIZES)
    assert execution.numbers == list(range(520))
    assert {m.buffers for m in execution.of_type("comm_msg")} == {expected}
    assert (client.socket.compressed_frames > 0) == way.compression

    comm = {"comm_id": "x", "data": {"n": 1}}
    echo = client.until_idle(client.send("shell", "comm_msg", comm, buffers=expected))
    (message,) = echo.of_type("comm_msg")
    assert (message.content, message.buffers) == (comm, expected)
    own_server.delete_kernel(kernel_id)


@pytest.mark.kernelwire_only("M2")
def test_flood_when_the_way_is_unusual_then_it_is_whole_and_its_way_is_told(
    own_server: Server,
    implementation: Implementation,
    way: Way,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops `status --live` from saying nothing of such servers, or what is not so."""
    kernel_id = own_server.start_kernel("fake")
    client = connect(kernel_id, on=own_server, compression=way.compression)
    ways.assert_flood_is_whole(client)
    report = ways.told(own_server, monkeypatch)
    reader = ways.reader(implementation)
    writer = reader if way.is_engines else "loop"
    assert ways.way_of(client, kernel_id, report) == (reader, writer)
    own_server.delete_kernel(kernel_id)


def test_bytes_when_client_declines_compression_then_frames_are_plain(
    start_server: StartServer, connect: Connect
) -> None:
    """Stops compressed frames from reaching a client that never agreed to them."""
    server = start_server(WAYS["deflate"].config)
    client = connect(server.start_kernel("fake"), on=server)
    assert client.execute(script({"do": "emit", "count": 50, "size": 999})).numbers == [*range(50)]
    assert client.socket.compressed_frames == 0
