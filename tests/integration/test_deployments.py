"""Servers as they are deployed: under a base, behind nginx, embedded, and other kernel transports.

Encryption, compression and unix sockets are in ``test_transports.py``.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from support import embedding, nginx, ways
from support.fake_kernel import emit, script

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Implementation, JsonConfig, Server, StartServer
    from support.ws_client import Client, Connect

SUPPORT = Path(embedding.__file__).parent


@dataclass(frozen=True)
class Deployment:
    """How a server is started."""

    config: JsonConfig = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)
    shows: Callable[[JsonConfig], bool] = bool
    """Whether a connection file is one of such a server's."""
    lacks: str = ""
    """What this machine does not have for it."""


DEPLOYMENTS = {
    "curve": Deployment(
        {"MappingKernelManager": {"transport_encryption": "required"}},
        shows=lambda file: bool(file["curve_publickey"]),
        lacks="" if zmq.has("curve") else "this libzmq has no CURVE",
    ),
    "ipc under a base": Deployment(
        {"KernelManager": {"transport": "ipc"}, "ServerApp": {"base_url": "/some/where/"}},
        shows=lambda file: file["transport"] == "ipc",
    ),
    "uvloop": Deployment(
        options={"program": [str(SUPPORT / "on_uvloop.py")]},
        lacks="" if find_spec("uvloop") else "uvloop is missing: pip install uvloop",
    ),
}


@pytest.fixture(scope="module", params=DEPLOYMENTS)
def deployed(
    request: pytest.FixtureRequest, start_server: StartServer, implementation: Implementation
) -> Iterator[Server]:
    """A server that is deployed in one of these ways."""
    deployment = DEPLOYMENTS[request.param]
    if deployment.lacks:
        pytest.skip(deployment.lacks)
    server = start_server(ways.linked(implementation, deployment.config), **deployment.options)
    kernel_id = server.start_kernel("fake")
    assert deployment.shows(server.connection_info(kernel_id))
    server.delete_kernel(kernel_id)
    yield server
    server.stop()


def check(
    server: Server,
    implementation: Implementation,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    **options: Any,
) -> None:
    """A cell is run by ipykernel, and a flood of the scripted kernel's is whole, by the way told."""
    real = server.start_kernel()
    assert connect(real, on=server, **options).execute("print(6 * 7)").text() == "42\n"
    server.delete_kernel(real)
    kernel_id = server.start_kernel("fake")
    client: Client = connect(kernel_id, on=server, **options)
    ways.assert_flood_is_whole(client)
    if implementation.name != "stock":
        way = ways.way_of(client, kernel_id, ways.told(server, monkeypatch))
        assert way == (ways.reader(implementation),) * 2
        assert "Traceback" not in server.log()
    server.delete_kernel(kernel_id)


def test_output_when_the_deployment_is_unusual_then_it_is_whole_and_its_way_is_told(
    deployed: Server,
    implementation: Implementation,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops another event loop, base or kernel transport from silencing kernels, or a wrong report."""
    check(deployed, implementation, connect, monkeypatch)


@pytest.mark.skipif(nginx.executable() is None, reason=nginx.MISSING)
@pytest.mark.parametrize("deployed", ["ipc under a base"], indirect=True)
def test_output_when_nginx_is_in_front_then_it_is_whole_and_its_way_is_told(
    deployed: Server,
    implementation: Implementation,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    """Stops frames of ours from being what a proxy does not pass on."""
    with ExitStack() as stack:
        proxy = nginx.Nginx(tmp_path, deployed.port)
        stack.callback(proxy.stop)
        check(deployed, implementation, connect, monkeypatch, open_socket=proxy.open_socket)


def test_servers_when_two_are_embedded_then_each_has_its_kernels_and_survives_the_other(
    start_server: StartServer, implementation: Implementation, connect: Connect
) -> None:
    """Stops two servers of a process, which share the engine, from mixing or ending each other's."""
    program = [str(SUPPORT / "embedding.py")]
    one = start_server(ways.linked(implementation, {}), program=program)
    two = one.at("/two/")
    kernels = [server.start_kernel("fake") for server in (one, two)]
    clients = [
        connect(kernel, on=server) for kernel, server in zip(kernels, (one, two), strict=True)
    ]
    requests = [client.start(script(emit(ways.FLOOD, size=100))) for client in clients]
    for client, request in zip(clients, requests, strict=True):
        assert client.collect(request).numbers == list(range(ways.FLOOD))
    assert [[each["id"] for each in server.kernels()] for server in (one, two)] == [
        [kernel] for kernel in kernels
    ]
    assert one.at("").request("GET", embedding.OWN) == {"own": True}
    one.at("").request("DELETE", embedding.OWN)
    assert one.kernels() == []
    ways.assert_flood_is_whole(clients[1])
    one.stop()
