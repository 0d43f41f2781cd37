"""What a real server says of a real kernel's state: while it runs, when it crashes, when it is born."""

from __future__ import annotations

import os
import signal
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from support import cells
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Server, StartKernel, StartServer
    from support.ws_client import Client, Connect

pytestmark = pytest.mark.slow

RESTARTER = {"KernelRestarter": {"time_to_dead": 0.3, "restart_limit": 100}}
CULLING = {"cull_idle_timeout": 3, "cull_interval": 1, "cull_connected": True}
CRASH = "import os; os._exit(1)"
TELL_PID = "import os; print(os.getpid())"


@pytest.fixture(scope="module")
def restarting(start_server: StartServer) -> Server:
    """A server that finds out soon that a kernel has died."""
    return start_server(RESTARTER)


@pytest.fixture(scope="module")
def culling(start_server: StartServer) -> Server:
    """A server that culls what is idle for three seconds."""
    return start_server({"MappingKernelManager": CULLING, **RESTARTER})


def state(server: Server, kernel_id: str) -> str:
    """Return a kernel's state."""
    return str(server.kernel(kernel_id)["execution_state"])


def wait_for_state(server: Server, kernel_id: str, expected: str) -> None:
    """Wait for a kernel's state, for as long as a process may take to start."""
    wait_until(lambda: state(server, kernel_id) == expected, what=expected, timeout=60)


def is_there(server: Server, kernel_id: str) -> bool:
    """Whether the server still has a kernel."""
    return kernel_id in {kernel["id"] for kernel in server.kernels()}


def create_subshell(client: Client) -> str:
    """Have a kernel create a subshell, and return its id."""
    (reply,) = client.ask("control", "create_subshell_request", {}).of_type("create_subshell_reply")
    return str(reply.content["subshell_id"])


@contextmanager
def running_cell(
    server: Server, kernel_id: str, client: Client, gate: Path, subshell_id: str | None = None
) -> Iterator[None]:
    """Have a kernel be busy with a cell; it is idle when the cell has ended."""
    msg_id = client.start(cells.wait_for(gate), subshell_id=subshell_id)
    server.wait_for_state(kernel_id, "busy")
    yield
    gate.touch()
    client.until_idle(msg_id)
    server.wait_for_state(kernel_id, "idle")


class TestRunning:
    """A kernel is busy while a cell runs."""

    @pytest.mark.kernelwire_only("I2")
    @pytest.mark.parametrize("request_type", ["usage_request", "create_subshell_request"])
    def test_control_requests_leave_it_busy(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        gate: Path,
        request_type: str,
    ) -> None:
        """Neither a resource monitor nor a subshell makes a running kernel idle."""
        kernel_id = start_kernel()
        client = connect(kernel_id)
        with running_cell(server, kernel_id, client, gate):
            # What the cell itself has said is followed by then.
            client.ask("control", request_type, {})
            before = server.kernel(kernel_id)["last_activity"]
            for _ in range(3):
                client.ask("control", request_type, {})
                assert state(server, kernel_id) == "busy"
            assert server.kernel(kernel_id)["last_activity"] == before

    @pytest.mark.kernelwire_only("I2")
    @pytest.mark.parametrize("protocol", ["v1", "legacy"])
    def test_shell_requests_on_control_leave_it_busy(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        gate: Path,
        protocol: str,
    ) -> None:
        """A completion on the control channel ends nothing that the main shell runs."""
        kernel_id = start_kernel()
        client = connect(kernel_id, protocol=protocol)
        with running_cell(server, kernel_id, client, gate):
            client.ask("control", "complete_request", {"code": "prin", "cursor_pos": 4})
            assert state(server, kernel_id) == "busy"

    @pytest.mark.kernelwire_only("I2")
    @pytest.mark.parametrize("protocol", ["v1", "legacy"])
    def test_another_subshell_that_is_deleted_leaves_it_busy(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        gate: Path,
        protocol: str,
    ) -> None:
        """A cell that runs in a subshell counts until it ends, whatever else is deleted or run."""
        kernel_id = start_kernel()
        client = connect(kernel_id, protocol=protocol)
        running, unused = (create_subshell(client) for _ in range(2))
        with running_cell(server, kernel_id, client, gate, running):
            client.ask("control", "delete_subshell_request", {"subshell_id": unused})
            client.execute("1 + 1")
            assert state(server, kernel_id) == "busy"

    @pytest.mark.kernelwire_only("I2")
    def test_culling_spares_it_until_it_is_idle(
        self, culling: Server, connect: Connect, gate: Path
    ) -> None:
        """A monitored kernel is not culled with its cell running, and is culled afterwards."""
        kernel_id = culling.start_kernel()
        client = connect(kernel_id, on=culling)
        msg_id = client.start(cells.wait_for(gate))
        culling.wait_for_state(kernel_id, "busy")
        other = culling.start_kernel("fake")  # shows that the time is up
        while is_there(culling, other):
            client.ask("control", "usage_request", {})
            assert is_there(culling, kernel_id)
            time.sleep(0.2)
        assert state(culling, kernel_id) == "busy"
        gate.touch()
        client.until_idle(msg_id)
        wait_until(lambda: not is_there(culling, kernel_id), what="the culling", timeout=30)


class TestCrash:
    """A kernel that has died is starting, then idle."""

    @pytest.mark.kernelwire_only("I3")
    def test_killed_while_busy_without_a_client_then_idle_and_culled(
        self, culling: Server, connect: Connect
    ) -> None:
        """A crash does not leave a kernel busy for good, so that its machine never shuts down."""
        kernel_id = culling.start_kernel()
        client = connect(kernel_id, on=culling)
        pid = int(client.execute(TELL_PID).text())
        client.start("import time; time.sleep(1000)")
        culling.wait_for_state(kernel_id, "busy")
        client.close()
        os.kill(pid, signal.SIGKILL)
        wait_for_state(culling, kernel_id, "idle")
        wait_until(lambda: not is_there(culling, kernel_id), what="the culling", timeout=30)

    @pytest.mark.timeout(400)
    @pytest.mark.kernelwire_only("I3")
    def test_twenty_crashes_in_a_row_end_idle_each_time(
        self, restarting: Server, connect: Connect
    ) -> None:
        """Nothing accumulates, and no crash is missed."""
        kernel_id = restarting.start_kernel("fake")
        client = connect(kernel_id, on=restarting)
        opened = None
        for _ in range(20):
            client.start('[{"do": "exit"}]')
            client.messages(until=lambda m: m.is_status("restarting"))
            wait_for_state(restarting, kernel_id, "idle")
            client.meet_new_kernel()
            opened = opened or restarting.open_files()
        client.execute("[]")
        restarting.wait_for_state(kernel_id, "idle")
        assert opened is not None
        limit = opened + 4
        restarting.wait_for_files(limit)
        restarting.delete_kernel(kernel_id)

    @pytest.mark.kernelwire_only("I3")
    def test_restart_over_rest_while_busy_ends_idle(
        self, restarting: Server, connect: Connect
    ) -> None:
        """A kernel that is restarted with its cell running runs nothing any more."""
        kernel_id = restarting.start_kernel()
        client = connect(kernel_id, on=restarting)
        client.start("import time; time.sleep(1000)")
        restarting.wait_for_state(kernel_id, "busy")
        client.close()
        restarting.restart_kernel(kernel_id)
        assert state(restarting, kernel_id) in ("starting", "idle")
        wait_for_state(restarting, kernel_id, "idle")
        restarting.delete_kernel(kernel_id)


class TestBirth:
    """A kernel to which nobody connects is idle once it is up."""

    @pytest.mark.kernelwire_only("I4")
    @pytest.mark.parametrize("name", ["python3", "fake"])
    def test_started_over_rest_then_idle(
        self, server: Server, start_kernel: StartKernel, name: str
    ) -> None:
        """Its date stays that of its start."""
        kernel_id = start_kernel(name)
        before = server.kernel(kernel_id)["last_activity"]
        wait_for_state(server, kernel_id, "idle")
        assert server.kernel(kernel_id)["last_activity"] == before

    @pytest.mark.kernelwire_only("I4")
    def test_started_over_rest_then_culled(self, culling: Server) -> None:
        """A kernel that nobody wanted is culled, as idle."""
        start = culling.log_end()
        kernel_id = culling.start_kernel("fake")  # one that is up long before the time is
        wait_until(lambda: not is_there(culling, kernel_id), what="the culling", timeout=60)
        assert f"Culling 'idle' kernel 'fake' ({kernel_id})" in culling.log(start)

    @pytest.mark.kernelwire_only("I4")
    def test_restarted_on_new_ports_then_idle(
        self, start_server: StartServer, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A restart with new ports needs no client either."""
        config: dict[str, dict[str, Any]] = {
            "MappingKernelManager": {
                "kernel_manager_class": "support.new_ports.NewPortsKernelManager"
            },
            "KernelManager": {"cache_ports": False},
            **RESTARTER,
        }
        monkeypatch.setenv("PYTHONPATH", str(Path(cells.__file__).parent.parent))
        server = start_server(config)
        kernel_id = server.start_kernel("fake")
        wait_for_state(server, kernel_id, "idle")
        server.restart_kernel(kernel_id)
        wait_for_state(server, kernel_id, "idle")
        server.stop()
