"""A real Jupyter server in a process of its own, on loopback, with nothing of the user's config."""

from __future__ import annotations

import http.client
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benches import procstat
from benches.plugins import MANAGER_VARIABLE

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import TracebackType

    from typing_extensions import Self

STOCK_CONNECTION = (
    "jupyter_server.services.kernels.connection.channels.ZMQChannelsWebsocketConnection"
)
STOCK_MANAGER = "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager"
QUIET_MANAGER = "benches.plugins.QuietManager"
NO_LIMIT = 1e12
"""A rate no flood reaches. The limiter stays on: its bookkeeping is part of what users pay."""

START_TIMEOUT_S = 30.0
STOP_TIMEOUT_S = 15.0
REPOSITORY = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Settings:
    """Which classes a server runs, and under which conditions."""

    connection: str = STOCK_CONNECTION
    manager: str = STOCK_MANAGER
    watcher: bool = True
    lift_limits: bool = True
    environment: dict[str, str] = field(default_factory=dict)
    server_cpu: int | None = None
    """The core the server has to itself; None leaves everything to the scheduler."""


class ServerError(Exception):
    """The server did not start, did not answer, or answered with an error."""


class Server:
    """One server; use as a context manager, which also ends it on Ctrl-C."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.token = secrets.token_hex(16)
        self.root = Path(tempfile.mkdtemp(prefix="kernelwire-bench-"))
        self.port = 0
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Process id of the running server."""
        if self._process is None:
            raise ServerError("the server is not running")
        return self._process.pid

    def __enter__(self) -> Self:
        """Start, and clean up if that fails: ``__exit__`` is not called then."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the server, whatever happened."""
        self.stop()

    def _start(self) -> None:
        self._write_files()
        with (self.root / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "jupyter_server", f"--config={self.root / 'bench.json'}"],
                cwd=self.root,
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                # Ctrl-C must reach this process alone, which then ends the server in order.
                start_new_session=True,
            )
        self._wait_until_up()
        self._check_identity()
        if self.settings.server_cpu is not None:
            procstat.pin(self.pid, self.settings.server_cpu)

    def _write_files(self) -> None:
        for name in ("config", "data", "runtime", "work", "tmp", "ipython"):
            (self.root / name).mkdir()
        flood = Path(__file__).with_name("flood_kernel.py")
        pinning = self._kernel_pinning()
        self._write_kernelspec("flood", [str(flood), "-f", "{connection_file}", *pinning])
        self._write_kernelspec("ipy", ["-m", "ipykernel_launcher", "-f", "{connection_file}"])
        (self.root / "bench.json").write_text(json.dumps(self._config()))

    def _kernel_pinning(self) -> list[str]:
        """Kernels inherit the server's core and have to leave it themselves."""
        if self.settings.server_cpu is None:
            return []
        others = procstat.other_cpus(self.settings.server_cpu)
        return ["--cpus", ",".join(map(str, sorted(others)))]

    def _write_kernelspec(self, name: str, arguments: list[str]) -> None:
        folder = self.root / "data" / "kernels" / name
        folder.mkdir(parents=True)
        spec = {"argv": [sys.executable, *arguments], "display_name": name, "language": "python"}
        (folder / "kernel.json").write_text(json.dumps(spec))

    def _config(self) -> dict[str, Any]:
        manager = self.settings.manager if self.settings.watcher else QUIET_MANAGER
        connection: dict[str, Any] = {"limit_rate": True}
        if self.settings.lift_limits:
            connection |= {"iopub_msg_rate_limit": NO_LIMIT, "iopub_data_rate_limit": NO_LIMIT}
        server = {
            "ip": "127.0.0.1",
            "port": 0,
            "open_browser": False,
            "allow_root": True,
            "root_dir": str(self.root / "work"),
            "terminals_enabled": False,
            "jpserver_extensions": {"benches.plugins": True},
            "kernel_websocket_connection_class": self.settings.connection,
            "kernel_manager_class": manager,
        }
        return {
            "ServerApp": server,
            "IdentityProvider": {"token": self.token},
            "ZMQChannelsWebsocketConnection": connection,
        }

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "KERNELWIRE"))}
        return kept | {
            # Else the environment's own etc/jupyter is read, and an installed kernelwire would
            # switch itself on in the server that is meant to be stock.
            "JUPYTER_NO_CONFIG": "1",
            "JUPYTER_CONFIG_DIR": str(self.root / "config"),
            "JUPYTER_DATA_DIR": str(self.root / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.root / "runtime"),
            "JUPYTER_PATH": str(self.root / "data"),
            "IPYTHONDIR": str(self.root / "ipython"),
            "TMPDIR": str(self.root / "tmp"),
            "PYTHONPATH": os.pathsep.join(filter(None, [str(REPOSITORY), kept.get("PYTHONPATH")])),
            MANAGER_VARIABLE: self.settings.manager,
            **self.settings.environment,
        }

    def _wait_until_up(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if self._process is not None and self._process.poll() is not None:
                break
            if not self.port:
                self.port = self._announced_port()
            elif self._answers():
                return
            time.sleep(0.05)
        raise ServerError(f"the server did not start:\n{self.log_tail()}")

    def _announced_port(self) -> int:
        """Read which port the server chose; choosing for it leaves a gap for others to bind."""
        try:
            info = self.root / "runtime" / f"jpserver-{self.pid}.json"
            return int(json.loads(info.read_text())["port"])
        except (FileNotFoundError, json.JSONDecodeError):
            return 0

    def _answers(self) -> bool:
        try:
            self.request("GET", "/api/status")
        except OSError:
            return False
        return True

    def _check_identity(self) -> None:
        """Refuse to measure one class under another's name."""
        found = self.request("GET", "/bench/identity")
        quiet = not self.settings.watcher
        wanted = {"manager": QUIET_MANAGER if quiet else self.settings.manager}
        wanted["connection"] = self.settings.connection
        for what, path in wanted.items():
            # A package may re-export its classes, so only the last name has to agree.
            if found[what].rsplit(".", 1)[1] != path.rsplit(".", 1)[1]:
                raise ServerError(f"{what} class is {found[what]}, expected {path}")

    def log_tail(self, lines: int = 15) -> str:
        """Return the end of the server's log."""
        log = self.root / "server.log"
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])

    def request(self, method: str, path: str, body: dict[str, Any] | None = None) -> Any:
        """One REST call; returns the decoded JSON answer, or None if it is empty."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            headers = {"Authorization": f"token {self.token}", "Content-Type": "application/json"}
            text = None if body is None else json.dumps(body)
            connection.request(method, path, body=text, headers=headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status >= 400:
            raise ServerError(f"{method} {path}: {response.status} {content[:300]!r}")
        return json.loads(content) if content else None

    def start_kernel(self, name: str = "flood") -> str:
        """Start a kernel from one of the server's own kernelspecs; returns its id."""
        return str(self.request("POST", "/api/kernels", {"name": name})["id"])

    def connection_file(self, kernel_id: str) -> dict[str, Any]:
        """Ports and key of a kernel, for speaking to it without the server."""
        path = self.root / "runtime" / f"kernel-{kernel_id}.json"
        return dict(json.loads(path.read_text()))

    def stop(self) -> None:
        """End the server and its kernels and remove every file it wrote."""
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                self._process.kill()  # the kernels notice that their parent is gone
                self._process.wait()
        shutil.rmtree(self.root, ignore_errors=True)


@contextmanager
def running(settings: Settings) -> Iterator[Server]:
    """Start a server and let it settle: start-up work is nobody's cost per message."""
    with Server(settings) as server:
        procstat.settle(server.pid)
        yield server
