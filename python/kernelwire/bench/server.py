"""A real Jupyter server with nothing of the user's config."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kernelwire.bench import procstat
from kernelwire.bench.host import Host, ServerError
from kernelwire.bench.plugins import MANAGER_VARIABLE

if TYPE_CHECKING:
    from kernelwire.bench.contenders import Contender

STOCK_CONNECTION = (
    "jupyter_server.services.kernels.connection.channels.ZMQChannelsWebsocketConnection"
)
STOCK_MANAGER = "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager"
QUIET_MANAGER = "kernelwire.bench.plugins.QuietManager"
NO_LIMIT = 1e12
"""A rate no flood reaches. The limiter stays on: its bookkeeping is part of what users pay."""


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
    flooder: tuple[str, ...] = ()
    """Command of the flooding kernel, before its connection file; empty for the one in Python."""
    config: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Further sections of the server's configuration."""

    @classmethod
    def of(cls, contender: Contender, **conditions: Any) -> Settings:
        """Return what runs a contender's classes, under these conditions."""
        return cls(
            connection=contender.connection,
            manager=contender.manager,
            environment=contender.environment,
            **conditions,
        )


def kernel_command(flooder: tuple[str, ...], server_cpu: int | None) -> list[str]:
    """Return the flooding kernel's command, on cores that are not the server's.

    Kernels inherit the server's core and have to leave it themselves.
    """
    others = (
        ",".join(map(str, sorted(procstat.other_cpus(server_cpu))))
        if server_cpu is not None
        else ""
    )
    if flooder:
        pinning = ["taskset", "-c", others] if others else []
        return [*pinning, *flooder, "{connection_file}"]
    script = str(Path(__file__).with_name("flood_kernel.py"))
    return [sys.executable, script, "-f", "{connection_file}", "--cpus", others]


class Server(Host):
    """One Jupyter server."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.cpu = settings.server_cpu

    def command(self) -> list[str]:
        """``jupyter server`` with a config file that says everything."""
        return [sys.executable, "-m", "jupyter_server", f"--config={self.root / 'bench.json'}"]

    def prepare(self) -> None:
        """Write the config file and the kernelspecs."""
        for name in ("config", "data", "runtime", "work", "tmp", "ipython"):
            (self.root / name).mkdir()
        command = kernel_command(self.settings.flooder, self.cpu)
        write_kernelspec(self.root / "data", "flood", command)
        ipykernel = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
        write_kernelspec(self.root / "data", "ipy", ipykernel)
        (self.root / "bench.json").write_text(json.dumps(self.configuration()))

    def configuration(self) -> dict[str, dict[str, Any]]:
        """Return what the config file says."""
        manager = self.settings.manager if self.settings.watcher else QUIET_MANAGER
        connection: dict[str, Any] = {"limit_rate": True}
        if self.settings.lift_limits:
            connection |= {"iopub_msg_rate_limit": NO_LIMIT, "iopub_data_rate_limit": NO_LIMIT}
        own: dict[str, Any] = {}
        if self.settings.lift_limits:
            # Text that waits is joined where output over the limits waits, also for a client that is
            # only slow: fewer messages would arrive than were sent, and other bytes.
            own = {"KernelwireWebsocketConnection": {"iopub_overflow": "drop"}}
        server = {
            "ip": "127.0.0.1",
            "port": 0,
            "open_browser": False,
            "allow_root": True,
            "root_dir": str(self.root / "work"),
            "terminals_enabled": False,
            "jpserver_extensions": {"kernelwire.bench.plugins": True},
            "kernel_websocket_connection_class": self.settings.connection,
            "kernel_manager_class": manager,
        }
        return {
            "ServerApp": server,
            "IdentityProvider": {"token": self.token},
            "ZMQChannelsWebsocketConnection": connection,
            **own,
            **self.settings.config,
        }

    def environment(self) -> dict[str, str]:
        """Everything of Jupyter's in the temporary directory."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
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
            MANAGER_VARIABLE: self.settings.manager,
            **self.settings.environment,
        }

    def announced_port(self) -> int:
        """Read which port the server chose; choosing for it leaves a gap for others to bind."""
        try:
            info = self.root / "runtime" / f"jpserver-{self.pid}.json"
            return int(json.loads(info.read_text())["port"])
        except (FileNotFoundError, json.JSONDecodeError):
            return 0

    def check(self) -> None:
        """Refuse to measure one class under another's name."""
        found = self.request("GET", "/bench/identity")
        quiet = not self.settings.watcher
        wanted = {"manager": QUIET_MANAGER if quiet else self.settings.manager}
        wanted["connection"] = self.settings.connection
        for what, path in wanted.items():
            # A package may re-export its classes, so only the last name has to agree.
            if found[what].rsplit(".", 1)[1] != path.rsplit(".", 1)[1]:
                raise ServerError(f"{what} class is {found[what]}, expected {path}")

    def start_kernel(self, name: str = "flood") -> str:
        """Start a kernel from one of the server's own kernelspecs; returns its id."""
        return str(self.request("POST", "/api/kernels", {"name": name})["id"])

    def connection_file(self, kernel_id: str) -> dict[str, Any]:
        """Ports and key of a kernel, for speaking to it without the server."""
        path = self.root / "runtime" / f"kernel-{kernel_id}.json"
        return dict(json.loads(path.read_text()))


def write_kernelspec(data: Path, name: str, command: list[str]) -> None:
    """Write a kernelspec below the data directory `data`."""
    folder = data / "kernels" / name
    folder.mkdir(parents=True)
    spec = {"argv": command, "display_name": name, "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(spec))
