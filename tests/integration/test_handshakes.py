"""Handshakes that are refused or come to nothing: no leak, no token in the log, no harm to others."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import emit, script
from support.waiting import wait_until
from support.websocket import HandshakeRefusedError, WebSocket
from support.ws_client import Client, Connect

if TYPE_CHECKING:
    from support.server import Server, StartKernel, StartServer

LIMITS = {"MappingKernelManager": {"kernel_info_timeout": 1.0}}


@pytest.fixture(scope="module")
def impatient(start_server: StartServer) -> Server:
    """A server that soon gives up on kernels that do not answer."""
    return start_server(LIMITS)


@pytest.mark.kernelwire_only("H26")
@pytest.mark.parametrize(
    "session_id", ["x" * 256, "é", "<IDS|MSG>"], ids=["too long", "not ASCII", "delimiter"]
)
def test_session_when_its_id_cannot_be_used_then_the_handshake_is_refused(
    server: Server, connect: Connect, start_kernel: StartKernel, session_id: str
) -> None:
    """Stops ids that ZeroMQ cannot take from leaking connections, or making deaf ones."""
    kernel_id = start_kernel("fake")
    log_end = server.log_end()
    with pytest.raises(HandshakeRefusedError, match="400"):
        connect(kernel_id, session_id=session_id, token_in_url=True)
    assert server.kernel(kernel_id)["connections"] == 0
    assert server.token not in server.log(log_end)


def test_session_when_its_id_is_as_long_as_allowed_then_it_works(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops the bound from refusing what works on stock."""
    client = connect(start_kernel("fake"), session_id="x" * 255)
    assert client.execute(script(emit(2))).numbers == [0, 1]


@pytest.mark.kernelwire_only("H16")
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "http://evil.example"}, id="origin"),
        pytest.param({"Sec-WebSocket-Version": "12"}, id="version"),
    ],
)
def test_handshake_when_refused_then_the_live_tab_of_the_session_is_left_alone(
    server: Server, connect: Connect, start_kernel: StartKernel, headers: dict[str, str]
) -> None:
    """Stops requests that come to nothing from closing a tab that works."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    # Its own, and on control the manager's: a socket that is about to connect has fewer descriptors.
    expected = {"shell": 1, "stdin": 1, "iopub": 1, "control": 2}
    wait_until(
        lambda: all(server.connections_to(kernel_id, each) >= n for each, n in expected.items()),
        what="all connections to the kernel",
    )
    log_end, files = server.log_end(), server.open_files()
    for _ in range(5):
        cookie = {"Cookie": server.login_cookie()}
        with pytest.raises(HandshakeRefusedError):
            knock(server, kernel_id, client.session_id, cookie | headers)
    assert client.execute(script(emit(3))).numbers == [0, 1, 2]
    assert "Replacing stale connection" not in server.log(log_end)
    assert server.kernel(kernel_id)["connections"] == 1
    server.wait_for_files(files)


def knock(server: Server, kernel_id: str, session_id: str, headers: dict[str, str]) -> None:
    """Ask for a websocket, with headers that replace those a client sends."""
    path = f"/api/kernels/{kernel_id}/channels?session_id={session_id}"
    WebSocket(server.open_socket, path, headers=headers)


@pytest.mark.kernelwire_only("H5", "H18")
def test_connection_when_kernel_is_mute_then_neither_descriptors_nor_the_token_leak(
    impatient: Server, connect: Connect
) -> None:
    """Stops a hung kernel from filling the log with credentials and the server with sockets."""
    kernel_id = impatient.start_kernel("fake-mute")
    connect(kernel_id, on=impatient, settle=False, token_in_url=True).rest()
    impatient.wait_for_connections(kernel_id, 0)
    files, log_end = impatient.open_files(), impatient.log_end()
    for _ in range(3):
        connect(kernel_id, on=impatient, settle=False, token_in_url=True).rest()
        impatient.wait_for_connections(kernel_id, 0)
    impatient.wait_for_files(files)
    log = impatient.log(log_end)
    assert impatient.token not in log
    assert "Traceback" not in log


@pytest.mark.kernelwire_only("H6", "H18")
def test_connection_when_client_goes_in_the_handshake_then_the_log_stays_clean(
    impatient: Server,
) -> None:
    """Stops each impatient reload from logging a traceback with the token in it."""
    kernel_id = impatient.start_kernel("fake-mute")
    log_end = impatient.log_end()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            Client(impatient, kernel_id, handshake_timeout=0.2, token_in_url=True)
    wait_until(lambda: impatient.open_connections() == 0, what="the end of the connections")
    assert impatient.kernel(kernel_id)["connections"] == 0
    log = impatient.log(log_end)
    assert impatient.token not in log
    assert "Traceback" not in log
