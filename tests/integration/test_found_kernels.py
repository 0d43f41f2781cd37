"""Kernels that the server did not start: it finds their connection files in a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import cells, found, ways
from support.fake_kernel import emit, script
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import Implementation, Server, StartServer
    from support.ws_client import Connect


@pytest.fixture(scope="module")
def finder(start_server: StartServer, implementation: Implementation) -> Iterator[Server]:
    """A server that looks for them."""
    server = start_server(ways.linked(implementation, found.CONFIG))
    yield server
    server.stop()


def test_output_when_the_kernel_was_found_then_it_is_whole(
    finder: Server, connect: Connect, protocol: str
) -> None:
    """Stops kernels with a console or a program of their own from being silent in a notebook."""
    with found.found_kernel(finder) as kernel_id:
        client = connect(kernel_id, on=finder, protocol=protocol)
        ways.assert_flood_is_whole(client)
        client.close()


@pytest.mark.kernelwire_only("N15")
def test_way_when_the_kernel_was_found_then_it_is_told(
    finder: Server,
    implementation: Implementation,
    connect: Connect,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops the event loop from reading them where the engine could."""
    with found.found_kernel(finder) as kernel_id:
        client = connect(kernel_id, on=finder)
        way = ways.way_of(client, kernel_id, ways.told(finder, monkeypatch))
        assert way == (ways.reader(implementation),) * 2
        client.close()


@pytest.mark.kernelwire_only("N15")
def test_state_when_the_kernel_was_found_then_it_is_true_and_its_clients_are_counted(
    finder: Server, connect: Connect, gate: Path
) -> None:
    """Stops one that works for its clients from being culled as idle and left."""
    with found.found_kernel(finder, found.IPYKERNEL) as kernel_id:
        assert finder.kernel(kernel_id)["execution_state"] == "idle"
        client = connect(kernel_id, on=finder)
        finder.wait_for_connections(kernel_id, 1)
        msg_id = client.start(cells.wait_for(gate))
        finder.wait_for_state(kernel_id, "busy")
        gate.touch()
        client.collect(msg_id)
        finder.wait_for_state(kernel_id, "idle")
        client.close()
        finder.wait_for_connections(kernel_id, 0)


@pytest.mark.kernelwire_only("N15")
def test_output_when_the_client_of_a_found_kernel_drops_then_it_gets_all_on_its_return(
    finder: Server, connect: Connect, gate: Path
) -> None:
    """Stops what such a kernel says from being lost where a notebook's connection drops."""
    with found.found_kernel(finder) as kernel_id:
        client = connect(kernel_id, on=finder)
        steps = [emit(10), {"do": "wait_for", "path": str(gate)}, emit(500)]
        msg_id = client.start(script(*steps))
        seen = client.messages(until=lambda m: m.metadata.get("number") == 9)
        client.reset()
        finder.wait_for_connections(kernel_id, 0)
        gate.touch()
        again = connect(kernel_id, on=finder, session_id=client.session_id, settle=False)
        numbers = again.collect(msg_id).numbers
        assert [m.metadata["number"] for m in seen if "number" in m.metadata] == list(range(10))
        assert numbers == list(range(10, 510))
        again.close()


@pytest.mark.kernelwire_only("N15")
def test_descriptors_when_found_kernels_come_and_go_then_none_is_left(
    finder: Server, connect: Connect
) -> None:
    """Stops subscriptions and kept sessions from outliving the file of their kernel."""

    def visit() -> None:
        with found.found_kernel(finder) as kernel_id:
            connect(kernel_id, on=finder).reset()
            finder.wait_for_connections(kernel_id, 0)

    visit()
    wait_until(lambda: finder.open_connections() == 0, what="the end of all connections")
    before = finder.open_files()
    for _ in range(3):
        visit()
    finder.wait_for_files(before)
