"""What the server knows of a kernel's activity, seen over REST, and what it does with it."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import support
from support import cells
from support.fake_kernel import emit, script
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Server, StartKernel, StartServer
    from support.ws_client import Client, Connect

pytestmark = pytest.mark.slow

MANY = 20_000
CULLING = {"cull_idle_timeout": 2, "cull_interval": 1, "cull_connected": True}
UNLIMITED = {"iopub_msg_rate_limit": 0, "iopub_data_rate_limit": 0}


@pytest.fixture(scope="module")
def unlimited(start_server: StartServer) -> Server:
    """A server that does not limit output."""
    return start_server({"ZMQChannelsWebsocketConnection": UNLIMITED})


@pytest.fixture(scope="module")
def culling(start_server: StartServer) -> Server:
    """A server that culls what is idle for two seconds."""
    return start_server({"MappingKernelManager": CULLING})


@pytest.fixture(params=["same ports", "new ports"])
def restarting(
    request: pytest.FixtureRequest,
    start_server: StartServer,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Server]:
    """A server that restarts kernels on their old ports, and one that gives them new ones."""
    config = {}
    if request.param == "new ports":
        monkeypatch.setenv("PYTHONPATH", str(Path(support.__file__).parent.parent))
        name = "support.new_ports.NewPortsKernelManager"
        config = {
            "MappingKernelManager": {"kernel_manager_class": name},
            # Ports that are cached stay what they are.
            "KernelManager": {"cache_ports": False},
        }
    server = start_server(config)
    yield server
    server.stop()


def wait_for_long(server: Server, kernel_id: str, state: str) -> None:
    """Wait for a state that takes a flood to come."""
    wait_until(
        lambda: server.kernel(kernel_id)["execution_state"] == state,
        what=f"state {state}",
        timeout=100,
    )


def last_activity(server: Server, kernel_id: str) -> datetime:
    """When the kernel was last active."""
    return datetime.fromisoformat(server.kernel(kernel_id)["last_activity"])


def is_there(server: Server, kernel_id: str) -> bool:
    """Whether the server still has a kernel."""
    return kernel_id in {kernel["id"] for kernel in server.kernels()}


# floods


@pytest.mark.kernelwire_only("H10")
@pytest.mark.parametrize("stays", [True, False], ids=["with a client", "without a client"])
def test_state_when_a_cell_has_flooded_then_it_is_idle(
    unlimited: Server, connect: Connect, stays: bool
) -> None:
    """Stops a kernel from being busy for ever, and never culled, because its idle got lost."""
    kernel_id = unlimited.start_kernel()
    client = connect(kernel_id, on=unlimited)
    msg_id = client.start(cells.display_numbers(0, MANY))
    client.messages(until=lambda m: m.is_status("busy", msg_id))
    if stays:
        client.until_idle(msg_id, timeout=90)
        assert unlimited.kernel(kernel_id)["execution_state"] == "idle"
    else:
        client.close()
        wait_for_long(unlimited, kernel_id, "idle")
    assert [k["execution_state"] for k in unlimited.kernels() if k["id"] == kernel_id] == ["idle"]
    unlimited.delete_kernel(kernel_id)


def test_culling_when_a_flood_is_over_then_the_kernel_is_culled(
    culling: Server, connect: Connect
) -> None:
    """Stops kernels that have said much from being kept for ever."""
    kernel_id = culling.start_kernel("fake")
    client = connect(kernel_id, on=culling)
    msg_id = client.start(script(emit(5000, size=100)))
    client.until_idle(msg_id)
    assert is_there(culling, kernel_id)
    wait_until(lambda: not is_there(culling, kernel_id), what="the culling", timeout=20)
    assert "Culling 'idle' kernel" in culling.log()


def test_culling_when_a_cell_runs_then_the_kernel_is_kept_until_it_is_idle(
    culling: Server, connect: Connect, gate: Path
) -> None:
    """Stops the culler from taking a kernel in the middle of a long, silent cell."""
    kernel_id = culling.start_kernel("fake")
    client = connect(kernel_id, on=culling)
    wait = {"do": "wait_for", "path": str(gate)}
    msg_id = client.start(script(emit(2000), wait, emit(1)))
    client.messages(until=lambda m: m.metadata.get("number") == 1999)
    # Another kernel, idle for as long as that one is busy, shows that the time is up.
    other = culling.start_kernel("fake")
    wait_until(lambda: not is_there(culling, other), what="the other's culling", timeout=20)
    assert is_there(culling, kernel_id)
    gate.touch()
    client.until_idle(msg_id)
    wait_until(lambda: not is_there(culling, kernel_id), what="the culling", timeout=20)


# freshness


@pytest.mark.kernelwire_only("H10")
@pytest.mark.parametrize("count", [0, 1, 100, 2000])
def test_state_when_rest_is_asked_right_after_a_cell_then_it_is_fresh(
    server: Server, connect: Connect, start_kernel: StartKernel, tmp_path: Path, count: int
) -> None:
    """Stops a state from a moment ago, because the watcher looks only now and then."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    for lap in range(10):
        gate = tmp_path / str(lap)
        wait = {"do": "wait_for", "path": str(gate)}
        msg_id = client.start(script(emit(count, size=10), emit(1, type="comm_msg"), wait))
        client.messages(until=lambda m: m.msg_type == "comm_msg")
        # The watcher has a socket of its own, which may be a moment behind the client's; it must
        # not be as far behind as its wake-ups are apart.
        server.wait_for_state(kernel_id, "busy")
        gate.touch()
        client.until_idle(msg_id)
        server.wait_for_state(kernel_id, "idle")


@pytest.mark.kernelwire_only("H10")
def test_dates_when_a_cell_has_run_then_they_are_those_of_its_end(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a date of last activity that lags behind, by which a kernel is culled too early."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    previous = last_activity(server, kernel_id)
    for _ in range(10):
        client.execute(script(emit(10)))
        current = last_activity(server, kernel_id)
        assert current > previous
        previous = current


def test_dates_when_only_untracked_requests_come_then_they_stay(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a tab that only asks for the kernel's name from keeping it alive."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    client.execute(script())
    server.wait_for_state(kernel_id, "idle")
    before = last_activity(server, kernel_id)
    for _ in range(5):
        client.ask("shell", "kernel_info_request", {})
    assert last_activity(server, kernel_id) == before


def test_state_when_a_kernel_says_something_odd_then_rest_says_it_too(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops states that a kernel makes up from being read as others."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    meet_watcher(server, client, kernel_id)
    wait = {"do": "wait_for", "path": str(gate)}
    client.start(script({"do": "status", "state": "wëird"}, wait))
    client.messages(until=lambda m: m.is_status("wëird"))
    server.wait_for_state(kernel_id, "wëird")
    gate.touch()
    server.wait_for_state(kernel_id, "idle")


# restarts


def test_restart_when_it_is_done_then_the_state_is_followed(
    restarting: Server, connect: Connect, gate: Path, request: pytest.FixtureRequest
) -> None:
    """Stops a restarted kernel from being watched where it no longer is."""
    kernel_id = restarting.start_kernel("fake")
    connect(kernel_id, on=restarting).execute(script(emit(3)))
    before = restarting.connection_info(kernel_id)
    restarting.restart_kernel(kernel_id)
    new_ports = request.node.callspec.params["restarting"] == "new ports"
    assert (restarting.connection_info(kernel_id) != before) == new_ports
    client = connect(kernel_id, on=restarting)
    meet_watcher(restarting, client, kernel_id)
    for lap in range(2):
        assert follows_a_cell(restarting, client, kernel_id, gate.with_suffix(f".{lap}"))


def meet_watcher(server: Server, client: Client, kernel_id: str) -> None:
    """Wait until the server's watcher has found the new kernel; other sockets may be faster."""
    before = last_activity(server, kernel_id)

    def is_followed() -> bool:
        client.execute(script())
        state = server.kernel(kernel_id)["execution_state"]
        return state == "idle" and last_activity(server, kernel_id) > before

    wait_until(is_followed, what="a cell that the watcher sees")


def follows_a_cell(server: Server, client: Client, kernel_id: str, gate: Path) -> bool:
    """Whether the server sees a cell begin and end."""
    msg_id = client.start(script({"do": "wait_for", "path": str(gate)}, emit(1)))
    server.wait_for_state(kernel_id, "busy")
    gate.touch()
    client.until_idle(msg_id)
    server.wait_for_state(kernel_id, "idle")
    return True


def test_restart_when_the_kernel_has_died_then_the_state_is_followed(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops a kernel that crashed once from being busy for ever."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    client.start(script(emit(100), {"do": "exit"}))
    client.messages(until=lambda m: m.is_status("restarting"))
    client.meet_new_kernel()
    meet_watcher(server, client, kernel_id)
    assert follows_a_cell(server, client, kernel_id, gate)


def test_files_when_kernels_are_restarted_then_none_stay_open(
    restarting: Server, connect: Connect
) -> None:
    """Stops watchers of the kernels before from keeping their sockets."""
    kernel_id = restarting.start_kernel("fake")
    connect(kernel_id, on=restarting).close()
    restarting.wait_for_connections(kernel_id, 0)
    # Right after a restart, sockets that are about to connect again are missing.
    before = restarting.open_files()
    for _ in range(6):
        restarting.restart_kernel(kernel_id)
    restarting.wait_for_files(before + 2)
