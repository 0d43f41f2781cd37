"""Users of a JupyterHub, each with a server of their own behind the hub's proxy.

Run by ``nox --session hub``, which installs JupyterHub and its proxy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import ways
from support.fake_kernel import emit, script
from support.hub import Hub
from support.ws_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

USERS = ("ada", "grace")
OFF = "--ServerApp.jpserver_extensions={'kernelwire': False}"
ASK_STATUS = "import subprocess, sys\n"
ASK_STATUS += "ask = [sys.executable, '-m', 'kernelwire.cli', 'status', '--live']\n"
ASK_STATUS += "print(subprocess.run(ask, capture_output=True, text=True).stdout)"


@pytest.fixture(scope="module", params=["kernelwire", "stock"])
def hub(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Hub, bool]]:
    """A hub in whose servers kernelwire is on by installation, or off; and whether it is on."""
    is_on = request.param == "kernelwire"
    running = Hub(tmp_path_factory.mktemp("hub"), [] if is_on else [OFF])
    yield running, is_on
    running.stop()


def test_users_when_both_are_flooded_then_each_gets_all_of_their_own(
    hub: tuple[Hub, bool], protocol: str
) -> None:
    """Stops the hub's proxy, and its way of starting servers, from being one too many for us."""
    running, is_on = hub
    users = [f"{name}-{protocol}" for name in USERS]
    servers = [running.server_of(user) for user in users]
    kernels = [server.start_kernel("fake") for server in servers]
    clients = [
        Client(server, kernel, protocol=protocol).settle()
        for server, kernel in zip(servers, kernels, strict=True)
    ]
    requests = [client.start(script(emit(ways.FLOOD, size=100))) for client in clients]
    for client, request in zip(clients, requests, strict=True):
        assert client.collect(request).numbers == list(range(ways.FLOOD))

    for user, server, client, kernel in zip(users, servers, clients, kernels, strict=True):
        own = Client(server, server.start_kernel()).settle()
        assert own.execute("import os; print(os.path.expanduser('~'))").text().endswith(f"{user}\n")
        report = own.execute(ASK_STATUS).text()
        if is_on:
            assert ways.way_of(client, kernel, report) == ("engine", "engine")
        else:
            assert "kernelwire is off" in report
        own.close()

    # A server that a hub stops leaves kernels behind that do not look for their parent.
    servers[0].delete_kernel(kernels[0])
    running.stop_server_of(users[0])
    ways.assert_flood_is_whole(clients[1])
    servers[1].delete_kernel(kernels[1])
    for client in clients:
        client.reset()
    assert "Traceback" not in running.log()
