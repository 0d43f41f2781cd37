"""Pings: who has answered in time stays connected, whatever happened to the server meanwhile."""

from __future__ import annotations

import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import emit, script
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server, StartServer
    from support.ws_client import Client, Connect

PING_INTERVAL_MS, PING_TIMEOUT_MS = 300, 900
STOP_SECONDS = 2.0
"""Longer than a client may take to answer a ping."""
READ_SECONDS = 0.05


@pytest.fixture(scope="module")
def pinging(start_server: StartServer) -> Server:
    """A server that soon gives up on clients that do not answer."""
    pings = {"ws_ping_interval": PING_INTERVAL_MS, "ws_ping_timeout": PING_TIMEOUT_MS}
    return start_server({"ServerApp": {"tornado_settings": pings}})


class TestStoppedServer:
    """A server is stopped for longer than clients may take to answer a ping."""

    @pytest.mark.kernelwire_only("I10")
    def test_tab_that_has_answered_stays_open(
        self, pinging: Server, connect: Connect, protocol: str
    ) -> None:
        """Its answer is there when the server goes on."""
        client = connect(pinging.start_kernel("fake"), on=pinging, protocol=protocol)
        log_end = pinging.log_end()
        pings = 0

        def stop() -> None:
            nonlocal pings
            pings += 1
            if pings == 1:
                pinging.process.send_signal(signal.SIGSTOP)

        client.socket.before_pong = stop
        try:
            read_until(client, lambda: pings == 1)
            time.sleep(STOP_SECONDS)
        finally:
            pinging.process.send_signal(signal.SIGCONT)
        read_until(client, lambda: pings > 2)
        assert client.execute(script(emit(2))).numbers == [0, 1]
        assert pinging.log_lines(log_end) == []


def read_until(client: Client, condition: Callable[[], bool]) -> None:
    """Read, and answer pings, until a condition holds; nothing else is sent."""

    def holds() -> bool:
        with suppress(TimeoutError):
            client.receive(timeout=READ_SECONDS)
        return condition()

    wait_until(holds, what="pings")
