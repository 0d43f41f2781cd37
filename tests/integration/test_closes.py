"""How connections end: the client sees the code that it would see of stock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import script
from support.websocket import GOING_AWAY, NORMAL, TOO_BIG

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Server, StartServer
    from support.ws_client import Client, Connect

NO_CODE, NO_FRAME = 1005, 1006
"""What RFC 6455, 7.4.1, calls a close frame without a code, and an end without a close frame."""

ACCEPTED = 1 << 16
"""Bytes of a message that the server takes."""


@pytest.fixture(scope="module")
def choosy(start_server: StartServer) -> Server:
    """A server that takes small messages only."""
    return start_server(
        {"ServerApp": {"tornado_settings": {"websocket_max_message_size": ACCEPTED}}}
    )


@pytest.fixture
def kernel_id(choosy: Server) -> Iterator[str]:
    """A kernel on that server, which ends with the test if it is still there."""
    kernel_id = choosy.start_kernel("fake")
    yield kernel_id
    if kernel_id in {kernel["id"] for kernel in choosy.kernels()}:
        choosy.delete_kernel(kernel_id)


@pytest.fixture(params=["in silence", "in a flood"])
def client(
    choosy: Server, kernel_id: str, connect: Connect, protocol: str, request: pytest.FixtureRequest
) -> Client:
    """A client of a kernel that says nothing, or goes on and on."""
    client = connect(kernel_id, on=choosy, protocol=protocol)
    if request.param == "in a flood":
        client.execute(script({"do": "tick", "count": 100_000}))
        client.messages(until=lambda m: "number" in m.metadata)
    return client


@pytest.mark.parametrize("code", [NORMAL, GOING_AWAY, TOO_BIG, 4000])
def test_close_when_the_client_asks_for_it_then_its_code_comes_back(
    client: Client, code: int
) -> None:
    """Stops a goodbye from being answered with another, or with none."""
    client.socket.start_close(code)
    assert client.rest()[1] == code


def test_close_when_a_message_is_too_large_then_the_client_is_told(client: Client) -> None:
    """Stops a client from trying again what the server will never take."""
    # The server hangs up on what it has not read with a reset, which may overtake the close frame.
    client.socket.announce(ACCEPTED + 1)
    assert client.rest()[1] == TOO_BIG


def test_close_when_the_tab_is_replaced_then_there_is_no_code(
    choosy: Server, kernel_id: str, connect: Connect, client: Client
) -> None:
    """Stops the tab that was replaced from hearing of a fault."""
    fresh = connect(
        kernel_id, on=choosy, protocol=client.protocol, session_id=client.session_id, settle=False
    )
    assert client.rest()[1] == NO_CODE
    fresh.socket.start_close()
    assert fresh.rest()[1] == NORMAL


def test_close_when_the_kernel_was_deleted_then_it_is_the_clients_to_do(
    choosy: Server, kernel_id: str, client: Client
) -> None:
    """Stops a deleted kernel from taking the connection with it, which stock leaves open."""
    choosy.delete_kernel(kernel_id)
    client.socket.start_close()
    assert client.rest()[1] == NORMAL


def test_close_when_the_server_ends_then_there_is_no_frame(
    start_server: StartServer, connect: Connect, protocol: str
) -> None:
    """Stops the end of a server from looking different than it does with stock."""
    server = start_server()
    client = connect(server.start_kernel("fake"), on=server, protocol=protocol)
    assert server.stop() == 0
    assert client.rest()[1] == NO_FRAME
