"""Clients that fall silent or are replaced: nothing is missing on the session's next connection."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.fake_kernel import emit, script
from support.waiting import wait_until
from support.ws_client import Connect, numbers

if TYPE_CHECKING:
    from support.messages import Message
    from support.server import Server, StartKernel, StartServer

# The server pings every quarter of a second, and gives up on a client soon.
PINGS = {"ServerApp": {"tornado_settings": {"ws_ping_interval": 250, "ws_ping_timeout": 750}}}


def numbered(message: Message) -> bool:
    """Whether this is one of the kernel's numbered outputs."""
    return "number" in message.metadata


@pytest.fixture(scope="module")
def pinging(start_server: StartServer) -> Server:
    """A server that soon gives up on clients that do not answer."""
    return start_server(PINGS)


@pytest.mark.kernelwire_only("H8", "H29")
@pytest.mark.parametrize("when", ["while it closes", "when it is closed"])
def test_reconnect_when_client_fell_silent_then_nothing_is_missing(
    pinging: Server, connect: Connect, protocol: str, when: str
) -> None:
    """Stops output from falling into the gap between the ping timeout and the end."""
    kernel_id = pinging.start_kernel("fake")
    client = connect(kernel_id, on=pinging, protocol=protocol)
    log_end = pinging.log_end()
    seen = client.execute(script({"do": "tick", "count": 10_000})).messages
    wait_until(lambda: "WebSocket ping timeout" in pinging.log(log_end), what="a ping timeout")
    # The server waits up to five seconds for the client's side of the closing handshake.
    pinging.status()  # a round trip through the loop: output comes meanwhile
    if when == "when it is closed":
        seen += client.rest()[0]
        pinging.wait_for_connections(kernel_id, 0)
    again = connect(
        kernel_id, on=pinging, protocol=protocol, session_id=client.session_id, settle=False
    )
    if when == "while it closes":
        seen += client.rest()[0]
    last = numbers(seen)[-1]
    seen += again.messages(until=lambda m: m.metadata.get("number", 0) > last + 50)
    assert numbers(seen) == list(range(numbers(seen)[-1] + 1))
    assert "Traceback" not in pinging.log(log_end)


@pytest.mark.kernelwire_only("H9", "H29")
def test_session_when_replaced_beside_another_tab_then_nothing_is_missing(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops output from being lost with the sockets of the connection that was replaced."""
    kernel_id = start_kernel("fake")
    other = connect(kernel_id)
    client = connect(kernel_id, protocol=protocol)
    seen = client.execute(script({"do": "tick", "count": 5000})).messages
    for _ in range(5):
        fresh = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        seen += client.rest()[0]
        client = fresh
        seen += client.messages(until=numbered)
    assert numbers(seen) == list(range(numbers(seen)[-1] + 1))
    server.wait_for_connections(kernel_id, 2)
    assert other.ask("control", "kernel_info_request", {}).messages


@pytest.mark.kernelwire_only("H9")
def test_request_when_connection_is_replaced_then_its_reply_reaches_the_new_one(
    connect: Connect, start_kernel: StartKernel, gate: Any
) -> None:
    """Stops a cell that ran while the page was reloaded from staying at [*]."""
    kernel_id = start_kernel("fake-no-handover")
    stale = connect(kernel_id)
    msg_id = stale.start(script({"do": "wait_for", "path": str(gate)}, emit(3)))
    stale.messages(until=lambda m: m.is_status("busy", msg_id))
    fresh = connect(kernel_id, session_id=stale.session_id, settle=False)
    # Before, the output is the stale connection's: a client has its answer first.
    stale.rest()
    gate.touch()
    assert fresh.collect(msg_id).numbers == [0, 1, 2]
