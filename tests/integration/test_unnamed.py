"""Clients without a session id: nobody could claim what is kept for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import emit, script

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Server, StartKernel
    from support.ws_client import Connect

UNNAMED = ""
"""What a client without a session id says; the server makes one up."""


def test_unnamed_client_is_served(
    connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """It gets all that its kernel says, as long as it is there."""
    client = connect(start_kernel("fake"), session_id=UNNAMED, protocol=protocol)
    assert client.execute(script(emit(3))).numbers == [0, 1, 2]


@pytest.mark.kernelwire_only("I9")
class TestGone:
    """An unnamed client that has left."""

    def test_nothing_is_kept_for_it(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        gate: Path,
        protocol: str,
    ) -> None:
        """Its sockets are closed while its cell still runs, and no buffer is filled."""
        kernel_id = start_kernel("fake")
        connect(kernel_id, session_id=UNNAMED).close()
        server.wait_for_connections(kernel_id, 0)
        server.wait_for_channels(kernel_id, shell=0, stdin=0, iopub=1, control=1)
        before, log_end = server.open_files(), server.log_end()
        client = connect(kernel_id, session_id=UNNAMED, protocol=protocol)
        client.start(script(emit(1), {"do": "wait_for", "path": str(gate)}, emit(50)))
        client.messages(until=lambda m: m.metadata.get("number") == 0)
        client.close()
        server.wait_for_connections(kernel_id, 0)
        server.wait_for_files(before)
        assert "Starting buffering" not in server.log(log_end)
        gate.touch()
        server.wait_for_state(kernel_id, "idle")

    def test_named_client_is_still_kept_for(
        self, server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
    ) -> None:
        """One with a session id gets what it missed, though an unnamed one was there before."""
        kernel_id = start_kernel("fake")
        unnamed, client = connect(kernel_id, session_id=UNNAMED), connect(kernel_id)
        unnamed.close()
        server.wait_for_connections(kernel_id, 1)
        wait = {"do": "wait_for", "path": str(gate)}
        msg_id = client.start(script(emit(1), wait, emit(2)))
        client.messages(until=lambda m: m.metadata.get("number") == 0)
        client.close()
        server.wait_for_connections(kernel_id, 0)
        gate.touch()
        again = connect(kernel_id, session_id=client.session_id, settle=False)
        assert again.collect(msg_id).numbers == [1, 2]
