"""Kernels on a network of their own, launched by a provisioner: one body for every bridge.

They are reached over tcp, and not by the loopback: at once (``veth``), or with a round trip of 20 ms
and a loss of 1 % (``slow``).
"""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.connect import port_names

from support import cells, provisioner
from support.bodies import Cells, leave_while_it_emits
from support.fake_kernel import buffer_bytes, emit, script
from support.namespaces import Namespace, NamespaceUnavailableError
from support.server import Server
from support.waiting import wait_until
from support.ws_client import numbers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.server import Implementation, StartKernel
    from support.ws_client import Client, Connect

PYTHON, FAKE = "remote-python3", "remote-fake"
FLOOD_SECONDS = 150.0
"""What a flood may take on a slow link and a machine that is slow itself."""

COUNT = 20_000


@pytest.fixture(scope="module", params=["veth", "slow"])
def namespace(
    request: pytest.FixtureRequest, implementation: Implementation
) -> Iterator[Namespace]:
    """A network for the kernels of one server."""
    del implementation  # another server has another one
    try:
        namespace = Namespace(request.param)
    except NamespaceUnavailableError as error:
        pytest.skip(str(error))
    yield namespace
    namespace.end()


@pytest.fixture(scope="module")
def shared_server(
    namespace: Namespace, implementation: Implementation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server with the provisioner, and kernels that name it."""
    home = tmp_path_factory.mktemp("server")
    packages = tmp_path_factory.mktemp("packages")
    provisioner.register(packages)
    path = {"PYTHONPATH": f"{packages}{os.pathsep}{Path(__file__).parents[1]}"}
    provisioned = replace(implementation, environment={**implementation.environment, **path})
    provisioner.install(home, namespace)
    # Limits are no matter of the network, and floods take the less time without them.
    server = Server(home, provisioned, {"ZMQChannelsWebsocketConnection": {"limit_rate": False}})
    yield server
    server.stop(timeout=60)


@pytest.fixture(scope="module")
def kernel(shared_server: Server) -> str:
    """An ipykernel, for tests that leave it as they found it."""
    return shared_server.start_kernel(PYTHON)


@pytest.fixture
def client(connect: Connect, kernel: str) -> Client:
    """A client on it."""
    return connect(kernel)


def connection_info(server: Server, kernel_id: str) -> dict[str, Any]:
    """Where the server says that a kernel is; nothing while that is being written."""
    try:
        return server.connection_info(kernel_id)
    except (FileNotFoundError, json.JSONDecodeError):
        return {}


def kernel_ports(server: Server, kernel_id: str) -> list[int]:
    """The ports of a kernel."""
    info = connection_info(server, kernel_id)
    return [info[name] for name in port_names if name in info]


class TestCells(Cells):
    """What a notebook user sees of a running cell."""

    def test_kernel_is_not_on_this_machine(
        self, namespace: Namespace, shared_server: Server, kernel: str, client: Client
    ) -> None:
        """Nothing of what follows goes over the loopback."""
        assert connection_info(shared_server, kernel)["ip"] == namespace.address
        network = client.execute("import os\nprint(os.readlink('/proc/self/ns/net'))").text()
        assert network.strip() != str(Path("/proc/self/ns/net").readlink())

    @pytest.mark.kernelwire_only("N16")
    def test_answer_to_a_question_reaches_the_cell(
        self, connect: Connect, shared_server: Server, kernel: str
    ) -> None:
        """What a browser sends on stdin gets there, and the kernel knows by then whom to ask."""
        client = connect(kernel)
        # The last packet of the handshake may be lost, and is sent again a little later.
        wait_until(lambda: not shared_server.unacknowledged(kernel, "stdin"), what="the handshake")
        super().test_answer_to_a_question_reaches_the_cell(client)

    def test_order_is_kept_in_a_flood(self, connect: Connect, start_kernel: StartKernel) -> None:
        """Each message arrives once, whatever is lost on the way and sent again."""
        client = connect(start_kernel(FAKE))
        execution = client.execute(script(emit(900, size=3_000)), timeout=FLOOD_SECONDS)
        assert execution.numbers == list(range(900))

    @pytest.mark.kernelwire_only("M3")
    def test_all_of_20000_displays_arrive(self, client: Client) -> None:
        """Without limits in the server, as many as the link takes."""
        execution = client.execute(cells.display_numbers(0, COUNT), timeout=FLOOD_SECONDS)
        shown = [m.content["data"]["text/plain"] for m in execution.of_type("display_data")]
        assert shown == [*map(str, range(COUNT))]
        assert execution.text("stderr") == ""

    def test_buffers_arrive_byte_for_byte(
        self, connect: Connect, start_kernel: StartKernel
    ) -> None:
        """In both directions."""
        client = connect(start_kernel(FAKE))
        buffers = tuple(buffer_bytes(size) for size in (0, 1, 65_536, 1 << 20))
        comm = {"comm_id": "x", "data": {"n": 1}}
        sent = client.send("shell", "comm_msg", comm, buffers=buffers)
        (message,) = client.until_idle(sent, timeout=FLOOD_SECONDS).of_type("comm_msg")
        assert (message.content, message.buffers) == (comm, buffers)


class TestControl:
    """Restarts and crashes."""

    def test_kernel_that_is_restarted_answers_on_other_ports(
        self, server: Server, connect: Connect, start_kernel: StartKernel
    ) -> None:
        """Front ends connect anew after a restart."""
        kernel_id = start_kernel(PYTHON)
        client = connect(kernel_id)
        client.execute("here = 1")
        before = kernel_ports(server, kernel_id)
        server.restart_kernel(kernel_id)
        assert set(kernel_ports(server, kernel_id)).isdisjoint(before)
        client.reset()
        (error,) = connect(kernel_id, session_id=client.session_id).execute("here").of_type("error")
        assert error.content["ename"] == "NameError"

    def test_kernel_that_crashed_is_started_again(
        self, server: Server, connect: Connect, start_kernel: StartKernel
    ) -> None:
        """A new connection finds where its new process is."""
        kernel_id = start_kernel(FAKE)
        client = connect(kernel_id)
        before = kernel_ports(server, kernel_id)
        client.start(script({"do": "exit"}))
        wait_until(
            lambda: kernel_ports(server, kernel_id) not in ([], before),
            what="a restart",
            timeout=30,
        )
        client.reset()
        # Upstream takes the kernel for busy, and lets clients in before they are subscribed (I3).
        again = connect(kernel_id, settle=False).meet_new_kernel()
        assert again.execute(script(emit(3))).numbers == [0, 1, 2]


class TestReturning:
    """A browser whose connection breaks."""

    @pytest.mark.kernelwire_only("H7")
    def test_session_that_returns_gets_what_it_missed(
        self, server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
    ) -> None:
        """Also what is still on its way: upstream's probe takes a message of that."""
        kernel_id = start_kernel(FAKE)
        client = connect(kernel_id)
        msg_id = leave_while_it_emits(server, client, kernel_id, gate, 50)
        back = connect(kernel_id, session_id=client.session_id, settle=False)
        assert back.collect(msg_id).numbers == list(range(50))


class TestActivity:
    """What the server says of a kernel."""

    def test_state_and_time_follow_the_kernel(
        self, server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
    ) -> None:
        """Also when nobody is connected any more."""
        kernel_id = start_kernel(FAKE)
        client = connect(kernel_id)
        server.wait_for_state(kernel_id, "idle")
        before = server.kernel(kernel_id)["last_activity"]
        client.start(script({"do": "wait_for", "path": str(gate)}))
        server.wait_for_state(kernel_id, "busy")
        client.reset()
        server.wait_for_connections(kernel_id, 0)
        assert server.kernel(kernel_id)["execution_state"] == "busy"
        gate.touch()
        server.wait_for_state(kernel_id, "idle")
        assert server.kernel(kernel_id)["last_activity"] > before


@pytest.mark.parametrize("namespace", ["slow"], indirect=True, scope="module")
class TestOutages:
    """A link over which nothing goes for a while."""

    @pytest.mark.kernelwire_only("M3")
    def test_kernel_that_is_cut_off_keeps_its_output(
        self, namespace: Namespace, client: Client, gate: Path
    ) -> None:
        """1,000 messages are ipykernel's limit; two lines of its configuration lift it."""
        done = gate.with_name("done")
        code = cells.wait_for(gate) + cells.display_numbers(0, COUNT)
        msg_id = client.start(code + f"open({str(done)!r}, 'w').close()")
        client.messages(until=lambda m: m.msg_type == "execute_input")
        namespace.interrupt_link()
        try:
            gate.touch()
            wait_until(done.exists, what="the end of the cell", timeout=60)
        finally:
            namespace.restore_link()
        execution = client.collect(msg_id, timeout=FLOOD_SECONDS)
        shown = [m.content["data"]["text/plain"] for m in execution.of_type("display_data")]
        assert shown == [*map(str, range(COUNT))]

    def test_nothing_is_lost_in_an_outage(
        self, namespace: Namespace, connect: Connect, start_kernel: StartKernel, gate: Path
    ) -> None:
        """Both ends keep what they send: output goes on where it stopped, and so do requests."""
        client = connect(start_kernel(FAKE))
        done = gate.with_name("done")
        steps = ({"do": "wait_for", "path": str(gate)}, emit(300, size=1_000))
        msg_id = client.start(script(*steps, {"do": "touch", "path": str(done)}))
        client.messages(until=lambda m: m.is_status("busy", msg_id))
        namespace.interrupt_link()
        try:
            gate.touch()
            wait_until(done.exists, what="the kernel")
            last = client.start(script(emit(3)))
        finally:
            namespace.restore_link()
        seen = client.messages(until=lambda m: m.is_status("idle", last), timeout=60)
        assert numbers(seen) == list(range(303))
