"""Kernels behind a Kernel Gateway: one body for upstream's connection class and kernelwire's."""

from __future__ import annotations

import json
import runpy
import subprocess
import sys
from contextlib import ExitStack, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kernelwire
from kernelwire import live
from support import cells, stalling
from support.bodies import Cells, leave_while_it_emits
from support.enterprise_gateway import EnterpriseGateway
from support.fake_kernel import buffer_bytes, emit, script
from support.gateway import RELAYS, Gateway, Road
from support.messages import V1
from support.scraping import Scrape
from support.server import Server, process_environment
from support.waiting import wait_until
from support.websocket import HandshakeRefusedError
from support.ws_client import Client, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.server import Implementation, JsonConfig, StartKernel
    from support.ws_client import Connect

TRY_AGAIN_LATER, BAD_GATEWAY = 1013, 1014
GATEWAYS = {"kernel-gateway": Gateway, "enterprise-gateway": EnterpriseGateway}
PATIENT: dict[str, Any] = {"gateway_retry_max": 1_000, "gateway_retry_interval_max": 0.05}
"""Has a server try again for as long as a test takes."""
RENEWER = """
from pathlib import Path
from jupyter_server.gateway.gateway_client import GatewayTokenRenewerBase

class Renewer(GatewayTokenRenewerBase):
    def get_token(self, auth_header_key, auth_scheme, auth_token, **kwargs):
        return Path("token").read_text()
"""
Pair = tuple[Server, Any, Road]
"""A server, its gateway, and the road between them."""


@pytest.fixture(scope="module")
def relay(request: pytest.FixtureRequest) -> Implementation:
    """The connection class under test."""
    return RELAYS[request.param]


@pytest.fixture(scope="module", params=GATEWAYS)
def gateway(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Gateway]:
    """A gateway that many tests share; its own connection class is upstream's."""
    gateway = GATEWAYS[request.param](tmp_path_factory.mktemp("gateway"))
    yield gateway
    gateway.stop()


@pytest.fixture(scope="module")
def road(gateway: Gateway) -> Iterator[Road]:
    """The road to it."""
    road = Road(gateway.port)
    yield road
    road.end()


@pytest.fixture(scope="module")
def shared(
    relay: Implementation, gateway: Gateway, road: Road, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A server whose kernels run on the gateway."""
    config = {"GatewayClient": gateway.client_config(road.port)}
    server = Server(tmp_path_factory.mktemp("server"), relay, config)
    yield server
    server.stop()


@pytest.fixture
def server(shared: Server, relay: Implementation) -> Iterator[Server]:
    """The same; a test that makes kernelwire log a traceback fails."""
    start = shared.log_end()
    yield shared
    if relay.name != "stock":
        assert "Traceback" not in shared.log(start)


@pytest.fixture(scope="module")
def kernel(shared: Server) -> str:
    """An ipykernel, for tests that leave it as they found it."""
    return shared.start_kernel()


@pytest.fixture
def client(connect: Connect, kernel: str) -> Client:
    """A client on it, as front ends are: it offers v1, and speaks what it is given."""
    return connect(kernel)


@pytest.fixture
def start_kernel(server: Server) -> Iterator[StartKernel]:
    """Start kernels that end with the test."""
    with ExitStack() as stack:

        def start(name: str = "fake") -> str:
            kernel_id = server.start_kernel(name)
            stack.callback(server.delete_kernel, kernel_id)
            return kernel_id

        yield start


@pytest.fixture
def start_pair(
    relay: Implementation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[..., Pair]]:
    """Start a gateway and a server with configurations of their own."""
    with ExitStack() as stack:

        def start(
            gateway_config: JsonConfig | None = None,
            config: JsonConfig | None = None,
            *,
            far_end: type[Gateway] = Gateway,
            tls: bool = False,
            environment: dict[str, str] | None = None,
            prepare: Callable[[Path, Gateway], None] = lambda *_: None,
            **client: Any,
        ) -> Pair:
            gateway = far_end(tmp_path_factory.mktemp("gateway"), gateway_config, tls=tls)
            stack.callback(gateway.stop)
            road = Road(gateway.port)
            stack.callback(road.end)
            traits = gateway.client_config(road.port) | client
            home = tmp_path_factory.mktemp("server")
            prepare(home, gateway)
            implementation = replace(relay, environment=environment or {})
            all_config = {"GatewayClient": traits, **(config or {})}
            server = Server(home, implementation, all_config)
            stack.callback(server.stop)
            stack.callback(road.mend)  # a server that ends asks the gateway to end its kernels
            return server, gateway, road

        yield start


def read_until(client: Client, condition: Callable[[], bool]) -> None:
    """Read, and answer pings, until a condition holds."""

    def holds() -> bool:
        with suppress(TimeoutError):
            client.receive(timeout=0.05)
        return condition()

    wait_until(holds, what="a lost connection", timeout=30)


def prepare_renewer(home: Path, gateway: Gateway) -> None:
    """Put a renewer in place, which knows the gateway's token."""
    (home / "renewing.py").write_text(RENEWER)
    (home / "token").write_text(gateway.token)


def code_for(client: Client) -> int:
    """Read to the end; the code with which the server has closed."""
    code = client.rest()[1]
    client.reset()
    return code


def lost(server: Server, start: int, count: int = 1) -> None:
    """Wait until the server has noticed that its connection to the gateway is gone."""
    wait_until(
        lambda: server.log(start).count("Lost connection to Gateway") >= count,
        what="a lost connection",
    )


class TestCells(Cells):
    """What a notebook user sees of a running cell."""

    def test_order_is_kept_in_a_flood(self, connect: Connect, start_kernel: StartKernel) -> None:
        """Messages are passed on in batches, and each once."""
        client = connect(start_kernel())
        assert client.execute(script(emit(900, size=300))).numbers == list(range(900))

    def test_kernel_that_is_restarted_answers(
        self, server: Server, connect: Connect, start_kernel: StartKernel
    ) -> None:
        """The connection is that of the kernel's new process."""
        kernel_id = start_kernel("python3")
        client = connect(kernel_id)
        client.execute("here = 1")
        server.restart_kernel(kernel_id)
        client.meet_new_kernel()
        (error,) = client.execute("here").of_type("error")
        assert error.content["ename"] == "NameError"


class TestKernels:
    """What REST says of kernels on the gateway."""

    def test_state_follows_the_kernel(
        self, server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
    ) -> None:
        """Busy while a cell runs, then idle."""
        kernel_id = start_kernel()
        client = connect(kernel_id)

        def state() -> str:
            return next(
                each["execution_state"] for each in server.kernels() if each["id"] == kernel_id
            )

        msg_id = client.start(script({"do": "wait_for", "path": str(gate)}))
        wait_until(lambda: state() == "busy", what="a busy kernel")
        gate.touch()
        client.collect(msg_id)
        wait_until(lambda: state() == "idle", what="an idle kernel")

    def test_kernel_that_is_deleted_is_gone(
        self, server: Server, gateway: Gateway, connect: Connect
    ) -> None:
        """On the gateway as well, and new connections to it are refused."""
        kernel_id = server.start_kernel("fake")
        connect(kernel_id).reset()
        server.delete_kernel(kernel_id)
        assert kernel_id not in {each["id"] for each in server.kernels()}
        assert kernel_id not in gateway.kernels()


class TestBinary:
    """Messages with buffers."""

    @pytest.mark.kernelwire_only("G1", "G2")
    def test_buffers_come_back_byte_for_byte(
        self, connect: Connect, kernel: str, protocol: str
    ) -> None:
        """In both directions, and what follows arrives as well."""
        client = connect(kernel, protocol=protocol)
        client.execute(cells.ECHO_COMM)
        buffers = tuple(buffer_bytes(size) for size in (0, 1, 125, 126, 65_535, 65_536, 1 << 20))
        opening = {"comm_id": f"echo-{client.session_id}", "target_name": "echo", "data": {"n": 1}}
        asked = client.send("shell", "comm_open", opening, buffers=buffers)
        (echo,) = client.until_idle(asked).of_type("comm_msg")
        assert echo.buffers == buffers
        assert client.execute("print('still here')").text() == "still here\n"

    @pytest.mark.kernelwire_only("G5")
    def test_message_of_50_mb_arrives(self, connect: Connect, start_kernel: StartKernel) -> None:
        """There is no limit on the way, and the connection stays."""
        client = connect(start_kernel())
        size = 50 * 1000 * 1000
        execution = client.execute(script(emit(1, type="comm_msg", buffers=[size]), emit(1)))
        assert execution.numbers == [0, 1]
        (large,) = execution.of_type("comm_msg")
        assert large.buffers == (buffer_bytes(size),)


class TestProtocol:
    """What browser, server and gateway agree on."""

    @pytest.mark.kernelwire_only("G8")
    def test_browser_and_gateway_speak_v1_where_both_can(
        self, connect: Connect, kernel: str, gateway: Gateway
    ) -> None:
        """The gateway need not put JSON together for each message."""
        agreed = connect(kernel).socket.response_headers.get("sec-websocket-protocol")
        assert agreed == (None if isinstance(gateway, EnterpriseGateway) else V1)
        old = connect(kernel, protocol="legacy")
        assert "sec-websocket-protocol" not in old.socket.response_headers

    def test_gateway_that_speaks_the_default_protocol_only_is_understood(
        self, start_pair: Callable[..., Pair]
    ) -> None:
        """As Enterprise Gateway's may be configured: a browser that offers v1 does not get it."""
        old = {"ZMQChannelsWebsocketConnection": {"kernel_ws_protocol": ""}}
        server, _, _ = start_pair(old)
        client = Client(server, server.start_kernel("fake"))
        assert client.protocol == "legacy"
        assert client.execute(script(emit(3))).numbers == [0, 1, 2]
        client.reset()

    @pytest.mark.kernelwire_only("G9")
    def test_protocol_that_is_configured_is_the_only_one_that_is_offered(
        self, start_pair: Callable[..., Pair]
    ) -> None:
        """To the gateway and to the browser."""
        config = {"GatewayWebSocketConnection": {"kernel_ws_protocol": ""}}
        server, _, _ = start_pair(config=config)
        client = Client(server, server.start_kernel("fake"))
        assert client.protocol == "legacy"
        assert client.execute(script(emit(3))).numbers == [0, 1, 2]
        client.reset()


class TestBrowserThatGoes:
    """A browser whose connection breaks."""

    def test_session_that_returns_gets_what_it_missed(
        self,
        server: Server,
        gateway: Gateway,
        connect: Connect,
        start_kernel: StartKernel,
        gate: Path,
    ) -> None:
        """The gateway keeps it, and knows the session."""
        kernel_id = start_kernel()
        client = connect(kernel_id)
        msg_id = leave_while_it_emits(server, client, kernel_id, gate, 50)
        # The gateway's own classes take a message that comes while a client returns (H7).
        wait_until(lambda: gateway.state_of(kernel_id) == "idle", what="the cell's end")
        back = connect(kernel_id, session_id=client.session_id, settle=False)
        assert back.collect(msg_id).numbers == list(range(50))

    @pytest.mark.kernelwire_only("G6")
    def test_browser_that_does_not_read_costs_no_memory(
        self, start_pair: Callable[..., Pair], tmp_path: Path
    ) -> None:
        """The gateway is not read then; all arrives once the browser reads."""
        server, _, _ = start_pair({"ZMQChannelsWebsocketConnection": {"limit_rate": False}})
        kernel_id = server.start_kernel("fake")
        client = Client(server, kernel_id).settle()
        before = server.resident_bytes()
        done = tmp_path / "done"
        told = {"do": "touch", "path": str(done)}
        msg_id = client.start(script(emit(500, size=250_000), told))
        wait_until(done.exists, what="the kernel", timeout=60)
        assert server.resident_bytes() - before < 64 << 20
        assert client.collect(msg_id, timeout=60).numbers == list(range(500))
        client.reset()


class TestServerThatIsBusy:
    """A server whose event loop has something else to do."""

    @pytest.fixture
    def stallable(self, relay: Implementation, start_pair: Callable[..., Pair]) -> Server:
        """One that can be blocked."""
        implementation, config = stalling.stallable(relay, {})
        limits = {"ZMQChannelsWebsocketConnection": {"limit_rate": False}}
        return start_pair(limits, config, environment=implementation.environment)[0]

    @pytest.mark.kernelwire_only("G15")
    def test_output_when_the_loop_is_blocked_then_it_flows(
        self, stallable: Server, tmp_path: Path
    ) -> None:
        """As where kernels run on the server's own machine."""
        client = Client(stallable, stallable.start_kernel("fake")).settle()
        gate, pipes = tmp_path / "gate", tmp_path / "pipes"
        pipes.mkdir()
        msg_id = client.start(script({"do": "wait_for", "path": str(gate)}, emit(300)))
        seen = client.messages(until=lambda m: m.is_status("busy", msg_id))
        with stalling.blocked(stallable, pipes, "holding the lock"):
            gate.touch()
            # The loop has not had a turn when these are here.
            seen += client.messages(until=lambda m: m.is_status("idle", msg_id))
        assert numbers(seen) == list(range(300))
        client.reset()

    @pytest.mark.kernelwire_only("G15")
    def test_engine_when_it_panics_then_the_loop_goes_on(self, stallable: Server) -> None:
        """The browser is closed, and comes back."""
        kernel_id = stallable.start_kernel("fake")
        client = Client(stallable, kernel_id).settle()
        assert client.execute(script(emit(100))).numbers == list(range(100))
        stallable.request("DELETE", stalling.ENGINE_PATH)
        client.rest()
        client.reset()
        again = Client(stallable, kernel_id, session_id=client.session_id).settle()
        assert again.execute(script(emit(100))).numbers == list(range(100, 200))
        again.reset()


class TestGatewayThatGoes:
    """A gateway whose connection breaks, or that is gone."""

    def test_output_of_an_outage_arrives(
        self, server: Server, road: Road, connect: Connect, start_kernel: StartKernel, gate: Path
    ) -> None:
        """The browser's connection stays, and the gateway replays."""
        kernel_id = start_kernel()
        client = connect(kernel_id)
        msg_id = client.start(script({"do": "wait_for", "path": str(gate)}, emit(50)))
        client.messages(until=lambda m: m.is_status("busy", msg_id))
        start = server.log_end()
        road.break_once()
        lost(server, start)
        gate.touch()
        assert client.collect(msg_id).numbers == list(range(50))

    @pytest.mark.kernelwire_only("G3", "G10")
    def test_requests_of_an_outage_are_sent_in_their_order(
        self, server: Server, road: Road, connect: Connect, start_kernel: StartKernel
    ) -> None:
        """And the log has one line for its beginning, and one for its end."""
        kernel_id = start_kernel()
        client = connect(kernel_id)
        start = server.log_end()
        road.cut()
        try:
            lost(server, start)
            ids = [client.start(script(emit(1))) for _ in range(20)]
        finally:
            road.mend()
        assert numbers(client.messages(until=lambda m: m.is_status("idle", ids[-1]))) == [
            *range(20)
        ]
        warnings, told = (
            [each for each in server.log_lines(start, level) if kernel_id in each]
            for level in ("WEC", "I")
        )
        assert len(warnings) == 1
        (again,) = (each for each in told if "to Gateway" in each)
        assert "20 requests were kept" in again

    @pytest.mark.kernelwire_only("G3")
    def test_browser_is_closed_where_too_many_requests_wait(
        self, start_pair: Callable[..., Pair]
    ) -> None:
        """It is told, and may connect anew, when the bound is reached."""
        bound = {"KernelwireGatewayConnection": {"max_pending_bytes": 10_000}}
        server, _, road = start_pair(config=bound)
        client = Client(server, server.start_kernel("fake")).settle()
        start = server.log_end()
        road.cut()
        lost(server, start)
        for _ in range(20):
            client.start(f"[]{' ' * 1_000}")
        assert code_for(client) == TRY_AGAIN_LATER
        (_, closing) = server.log_lines(start)
        assert "more than 10000 bytes wait for the gateway" in closing
        assert "requests are lost" in closing

    @pytest.mark.kernelwire_only("G3", "G10")
    def test_browser_is_closed_where_the_gateway_does_not_come_back(
        self, start_pair: Callable[..., Pair]
    ) -> None:
        """A front end then tells its user, and tries on its own."""
        server, _, road = start_pair(gateway_retry_max=2)
        kernel_id = server.start_kernel("fake")
        client = Client(server, kernel_id).settle()
        start = server.log_end()
        road.cut()
        assert code_for(client) == BAD_GATEWAY
        assert len(server.log_lines(start)) == 2
        with pytest.raises(HandshakeRefusedError) as refused:
            Client(server, kernel_id)
        assert refused.value.status == 503

    @pytest.mark.kernelwire_only("G4")
    def test_gateway_that_is_silent_is_noticed(self, start_pair: Callable[..., Pair]) -> None:
        """Nothing tells of a connection that is half open but that pings are not answered."""
        pings = {"tornado_settings": {"ws_ping_interval": 100, "ws_ping_timeout": 300}}
        server, _, road = start_pair(config={"ServerApp": pings})
        client = Client(server, server.start_kernel("fake")).settle()
        start = server.log_end()
        road.block()
        read_until(client, lambda: "Lost connection to Gateway" in server.log(start))
        road.unblock()
        assert client.execute(script(emit(3))).numbers == [0, 1, 2]
        client.reset()

    def test_gateway_that_pauses_is_waited_for(
        self, server: Server, gateway: Gateway, connect: Connect, kernel: str
    ) -> None:
        """A pause that is shorter than pings take is none of anybody's business."""
        client = connect(kernel)
        start = server.log_end()
        gateway.pause()
        try:
            msg_id = client.start("print('then')")
        finally:
            gateway.go_on()
        assert client.collect(msg_id).text() == "then\n"
        # Stock may still be after a kernel of another test.
        assert not [line for line in server.log_lines(start) if kernel in line]

    @pytest.mark.kernelwire_only("G3")
    def test_gateway_that_was_restarted_has_no_such_kernel(
        self, start_pair: Callable[..., Pair], tmp_path: Path
    ) -> None:
        """The browser is closed at once, and other kernels can be had."""
        server, gateway, _ = start_pair()
        client = Client(server, server.start_kernel("fake")).settle()
        gateway.stop()
        again = Gateway(tmp_path, port=gateway.port, token=gateway.token)
        try:
            assert code_for(client) == BAD_GATEWAY
            other = Client(server, server.start_kernel("fake")).settle()
            assert other.execute(script(emit(3))).numbers == [0, 1, 2]
            other.reset()
        finally:
            server.stop()
            again.stop()


class TestInside:
    """kernelwire inside the gateway."""

    def test_all_output_arrives(self, start_pair: Callable[..., Pair]) -> None:
        """Over the rate limits as well, where upstream's connection drops it."""
        server, gateway, _ = start_pair(
            {
                "KernelGatewayApp": {
                    "kernel_websocket_connection_class": "kernelwire.KernelwireWebsocketConnection",
                    "kernel_manager_class": (
                        "kernelwire.kernel_gateway.KernelwireSeedingMappingKernelManager"
                    ),
                    "prespawn_count": 1,
                }
            }
        )
        client = Client(server, server.start_kernel("fake")).settle()
        assert client.execute(script(emit(4_000))).numbers == list(range(4_000))
        client.reset()
        assert "kernelwire is on, receiving natively" in gateway.log()
        assert "Traceback" not in gateway.log()

    @pytest.mark.parametrize("configured", [True, False])
    def test_status_tells_what_a_gateway_would_use(self, configured: bool, tmp_path: Path) -> None:
        """And how to have it use kernelwire, where it would not."""
        command = [sys.executable, "-m", "kernelwire.cli", "status", "--app=kernel-gateway"]
        config = Path(kernelwire.__file__).with_name("kernel_gateway_config.py")
        run = subprocess.run(
            [*command, *([f"--config={config}"] if configured else [])],
            env=process_environment(tmp_path, RELAYS["kernelwire"]),
            capture_output=True,
            text=True,
            check=False,
        )
        ours = "kernelwire.kernel_gateway.KernelwireSeedingMappingKernelManager" in run.stdout
        assert (run.returncode == 0, ours) == (configured, configured), run.stdout + run.stderr
        assert (f"--config={config} uses kernelwire's" in run.stdout) != configured

    def test_configuration_can_be_switched_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """With ``KERNELWIRE=off`` the file leaves a gateway as it is."""
        monkeypatch.setattr("kernelwire._switch.is_switched_off", lambda: True)
        path = Path(kernelwire.__file__).with_name("kernel_gateway_config.py")
        assert runpy.run_path(str(path))["c"] == {}


class TestOperator:
    """What a running server says of its links to the gateway."""

    @pytest.mark.kernelwire_only
    def test_report_tells_how_a_link_is_and_what_waits_for_it(
        self, start_pair: Callable[..., Pair], relay: Implementation
    ) -> None:
        """While it is up, and while it is away; on the command line as well."""
        enabled = {"ServerApp": {"jpserver_extensions": {"kernelwire": True}}}
        server, _, road = start_pair(config=enabled, **PATIENT)
        kernel_id = server.start_kernel("fake")
        client = Client(server, kernel_id).settle()
        client.execute(script(emit(3)))

        def report() -> dict[str, Any]:
            (one,) = server.request("GET", live.PATH)["relays"][kernel_id]
            return one

        up = report()
        assert (up["session"], up["protocol"]) == (client.session_id, V1)
        assert (up["link"], up["outages"], up["paused"], up["requests"]) == ("up", 0, False, 2)
        assert up["messages"] == len(client.raw_frames)
        assert up["bytes"] > sum(map(len, client.raw_frames))
        found, labels = Scrape(server), {"direction": "from_gateway"}
        assert found.get("gateway_messages_total", **labels) == up["messages"]
        assert found.get("gateway_message_bytes_total", **labels) == up["bytes"]
        start = server.log_end()
        road.cut()
        lost(server, start)
        msg_id = client.start(script(emit(3)))
        wait_until(lambda: report()["kept_requests"] == 1, what="a request that is kept")
        away = report()
        assert (away["link"], away["outages"]) == ("away", 1)
        assert away["kept_bytes"] > 0
        assert away["request_bytes"] >= up["request_bytes"] > 0
        run = subprocess.run(
            [sys.executable, "-m", "kernelwire.cli", "status", "--live"],
            env=process_environment(server.home, relay),
            capture_output=True,
            text=True,
            check=True,
        )
        assert f"kernel {kernel_id}: on the gateway" in run.stdout
        assert f"client {client.session_id}: {V1}, link away for " in run.stdout
        road.mend()
        assert client.collect(msg_id).numbers == [3, 4, 5]
        before = Scrape(server).counters()
        client.reset()
        wait_until(lambda: not server.request("GET", live.PATH)["relays"], what="its end")
        after = Scrape(server).counters()
        assert [key for key, number in before.items() if number > after[key]] == []
        assert Scrape(server).get("gateway_outages_total") == 1


class TestGatewayClient:
    """What is configured for connections to the gateway."""

    def test_encrypted_connections_work(self, start_pair: Callable[..., Pair]) -> None:
        """With a certificate that need not be valid."""
        server, _, _ = start_pair(tls=True)
        client = Client(server, server.start_kernel("fake")).settle()
        assert client.execute(script(emit(300, size=1_000))).numbers == list(range(300))
        client.reset()

    def test_token_is_renewed_with_each_connection(self, start_pair: Callable[..., Pair]) -> None:
        """The one that is configured is out of date, and the renewer is asked for another."""
        server, _, road = start_pair(
            prepare=prepare_renewer,
            auth_token="old",
            headers=json.dumps({"X-Test": "1"}),
            gateway_token_renewer_class="renewing.Renewer",
        )
        client = Client(server, server.start_kernel("fake")).settle()
        start = server.log_end()
        road.break_once()
        lost(server, start)
        assert client.meet_new_kernel().execute(script(emit(3))).numbers == [0, 1, 2]
        client.reset()

    def test_gateway_that_changes_its_token_is_connected_to_with_the_new_one(
        self, start_pair: Callable[..., Pair]
    ) -> None:
        """It refuses the old one, until the renewer has another; the browser stays meanwhile."""
        server, gateway, road = start_pair(
            far_end=EnterpriseGateway,
            prepare=prepare_renewer,
            **PATIENT,
            gateway_token_renewer_class="renewing.Renewer",
        )
        client = Client(server, server.start_kernel("fake")).settle()
        gateway.change_token("new")
        road.break_once()
        wait_until(lambda: "401 GET" in gateway.log(), what="a refusal")
        (server.home / "token").write_text("new")
        assert client.meet_new_kernel().execute(script(emit(3))).numbers == [0, 1, 2]
        assert server.kernels()
        client.reset()
