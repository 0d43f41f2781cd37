"""Fixtures of the integration tests: one body, every implementation of the bridge.

`implementation` runs a test on a server with the stock bridge, with kernelwire, and with
kernelwire reading its sockets in Python. A test that fails on stock is a wrong test, unless it is
marked `kernelwire_only("H1")`: those show a weakness of stock, by its number in the
specification, that kernelwire does not have.
"""

from __future__ import annotations

import os
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

import pytest

from support import fake_kernel
from support.desk import Body, RunOnDesk, kernel_on_a_desk
from support.gateway import RELAYS
from support.sampling import sample_seed
from support.server import (
    IMPLEMENTATIONS,
    STARTUP,
    Implementation,
    JsonConfig,
    Server,
    StartKernel,
    StartServer,
)
from support.startup import own_ports
from support.waiting import run_to_end
from support.ws_client import Client, Connect

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

pytest.register_assert_rewrite("support.bodies")  # it has tests, in classes that are inherited

MARKERS = (
    "slow: minutes of floods, faults and stalls; left out unless asked for with `-m slow`",
    "kernelwire_only(*weaknesses): stock has these weaknesses and is left out",
    "fails_on_stock(reason): what upstream does not do; the test must fail there",
    "dirty_log: what the test does to the server may show up as tracebacks on stock",
)
LOG_TAIL = 6000


def pytest_configure(config: pytest.Config) -> None:
    """Name the markers, have servers start sooner, and each run have ports of its own."""
    if claimed := own_ports.claim():
        config.add_cleanup(claimed.close)
    own_ports.choose_among_own()
    path = filter(None, [str(STARTUP), os.environ.get("PYTHONPATH")])
    os.environ["PYTHONPATH"] = os.pathsep.join(path)
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)


def pytest_report_header() -> str:
    """Tell by what a failure in a sample can be had again."""
    return f"samples: SAMPLE_SEED={sample_seed()}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test on every implementation it is meant for."""
    only_ours = metafunc.definition.get_closest_marker("kernelwire_only") is not None
    names = [name for name in IMPLEMENTATIONS if not (only_ours and name == "stock")]
    if "implementation" in metafunc.fixturenames:
        metafunc.parametrize("implementation", names, indirect=True, scope="session")
    if "relay" in metafunc.fixturenames:
        relays = [name for name in RELAYS if not (only_ours and name == "stock")]
        metafunc.parametrize("relay", relays, indirect=True, scope="module")
    if "bridge" in metafunc.fixturenames:
        in_process = [name for name in names if not IMPLEMENTATIONS[name].environment]
        metafunc.parametrize("bridge", in_process, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure the end of what the servers and kernels have said."""
    report = yield
    if report.failed:
        values = getattr(item, "funcargs", {}).values()
        for server in {value for value in values if isinstance(value, Server)}:
            report.sections.append(("server log", server.log()[-LOG_TAIL:]))
            report.sections.append(("output of it and its kernels", server.output()[-LOG_TAIL:]))
    return report


@pytest.fixture(scope="session")
def implementation(request: pytest.FixtureRequest) -> Implementation:
    """The bridge under test."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture
def bridge(request: pytest.FixtureRequest) -> Implementation:
    """The bridge under test, for tests that use its classes in this process."""
    return IMPLEMENTATIONS[request.param]


@pytest.fixture(scope="session")
def start_server(
    implementation: Implementation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[StartServer]:
    """Start servers with a configuration of their own; all end with the session."""
    with ExitStack() as stack:

        def start(config: JsonConfig | None = None, **options: Any) -> Server:
            home = tmp_path_factory.mktemp("server")
            server = Server(home, implementation, config, **options)
            stack.callback(server.stop)
            return server

        yield start


@pytest.fixture(scope="session")
def shared_server(start_server: StartServer) -> Server:
    """The server with default configuration that most tests share."""
    return start_server()


@pytest.fixture
def server(
    shared_server: Server, implementation: Implementation, request: pytest.FixtureRequest
) -> Iterator[Server]:
    """The shared server; a test that makes kernelwire log a traceback fails."""
    start = shared_server.log_end()
    yield shared_server
    assert shared_server.process.poll() is None, "the server died"
    # What upstream's own classes log, of whichever version, is not tested here.
    is_ours = implementation.name != "stock"
    if is_ours and request.node.get_closest_marker("dirty_log") is None:
        assert "Traceback" not in shared_server.log(start)


@pytest.fixture(params=["v1", "legacy"])
def protocol(request: pytest.FixtureRequest) -> str:
    """Both websocket subprotocols."""
    return request.param


@pytest.fixture(scope="session")
def shared_kernel(shared_server: Server) -> str:
    """An ipykernel on the shared server, for tests that leave it as they found it."""
    return shared_server.start_kernel()


@pytest.fixture
def start_kernel(server: Server) -> Iterator[StartKernel]:
    """Start kernels on the shared server that end with the test."""
    with ExitStack() as stack:

        def start(name: str = "python3") -> str:
            kernel_id = server.start_kernel(name)
            stack.callback(_delete_if_there, server, kernel_id)
            return kernel_id

        yield start


@pytest.fixture
def connect(server: Server) -> Iterator[Connect]:
    """Open clients, settled unless told otherwise, that are closed with the test."""
    with ExitStack() as stack:

        def open_client(
            kernel_id: str, *, on: Server = server, settle: bool = True, **options: Any
        ) -> Client:
            client = Client(on, kernel_id, **options)
            stack.callback(client.reset)
            return client.settle() if settle else client

        yield open_client


@pytest.fixture
def desk(bridge: Implementation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOnDesk:
    """Run a coroutine function on a desk with a scripted kernel, then clear the desk."""
    fake_kernel.install(tmp_path / "data")
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))

    def run(body: Body, *, timeout: float = 120.0) -> None:
        async def with_kernel() -> None:
            async with kernel_on_a_desk(bridge.classes) as the_desk:
                await body(the_desk)

        run_to_end(with_kernel, timeout=timeout)

    return run


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """A file that is not there yet and that kernels can wait for (see `opens`)."""
    return tmp_path / "gate"


def _delete_if_there(server: Server, kernel_id: str) -> None:
    if kernel_id in {kernel["id"] for kernel in server.kernels()}:
        server.delete_kernel(kernel_id)
