"""Servers that are no Jupyter Server: the bare relay, and jupyverse."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq
from jupyter_client.connect import LocalPortCache, port_names, write_connection_file

from kernelwire.bench.host import STOP_TIMEOUT_S, Host, ServerError
from kernelwire.bench.server import kernel_command, write_kernelspec

if TYPE_CHECKING:
    from kernelwire.bench.server import Settings

HERE = Path(__file__).parent
RELAY = HERE / "relay" / "target" / "release" / "relay"
FLOODER = RELAY.with_name("flooder")
JUPYVERSE = HERE / ".cache" / "jupyverse"


def libzmq_path() -> str:
    """Where the libzmq that pyzmq uses is on disk."""
    if not zmq.zmq_version():
        raise OSError("libzmq is not loaded")
    maps = Path("/proc/self/maps").read_text().splitlines()
    paths = {line.split(maxsplit=5)[5] for line in maps if "libzmq" in line.rpartition("/")[2]}
    if len(paths) != 1:
        raise OSError(f"pyzmq's libzmq is no file of its own here, found {sorted(paths)}")
    return paths.pop()


def native_flooder() -> tuple[str, ...]:
    """Command of the native flooding kernel, before its connection file."""
    return (str(FLOODER), libzmq_path())


class RelayServer(Host):
    """The bare relay, and kernels that it did not start."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.cpu = settings.server_cpu
        self._choosing = threading.Lock()
        self._kernels: dict[str, subprocess.Popen[bytes]] = {}

    def prepare(self) -> None:
        """Nothing but a directory for connection files."""
        (self.root / "runtime").mkdir()

    def command(self) -> list[str]:
        """Return the program with libzmq and that directory."""
        return [str(RELAY), libzmq_path(), str(self.root / "runtime")]

    def environment(self) -> dict[str, str]:
        """Whatever there is: the relay reads none of it."""
        return dict(os.environ)

    def announced_port(self) -> int:
        """Read the line that the relay prints."""
        text = (self.root / "server.log").read_text()
        return int(text) if text.endswith("\n") else 0

    def answers(self) -> bool:
        """Whether the relay is up: it prints its port when it listens."""
        return True

    def start_kernel(self, name: str = "flood") -> str:
        """Start a flooding kernel as a kernel manager does."""
        if name != "flood":
            raise ServerError(f"the relay has no kernel {name!r}")
        kernel_id = str(uuid.uuid4())
        path = self._connection_path(kernel_id)
        with self._choosing:
            # Jupyter's own cache: kernels started at the same time must not get the same ports.
            found = LocalPortCache.instance().find_available_port
            ports: Any = {name: found("127.0.0.1") for name in port_names}
        write_connection_file(str(path), key=uuid.uuid4().hex.encode(), **ports)
        command = kernel_command(self.settings.flooder, self.cpu)
        arguments = [part.format(connection_file=path) for part in command]
        self._kernels[kernel_id] = subprocess.Popen(arguments, stdin=subprocess.DEVNULL)
        return kernel_id

    def end_kernel(self, kernel_id: str) -> None:
        """End it the hard way: it has nothing to save."""
        kernel = self._kernels.pop(kernel_id)
        kernel.terminate()
        kernel.wait(STOP_TIMEOUT_S)

    def _connection_path(self, kernel_id: str) -> Path:
        return self.root / "runtime" / f"kernel-{kernel_id}.json"

    def connection_file(self, kernel_id: str) -> dict[str, Any]:
        """Ports and key of a kernel."""
        return dict(json.loads(self._connection_path(kernel_id).read_text()))

    def stop(self) -> None:
        """End the kernels, too."""
        for kernel_id in list(self._kernels):
            self.end_kernel(kernel_id)
        super().stop()


class JupyverseServer(Host):
    """jupyverse, from an environment of its own."""

    def __init__(self, settings: Settings) -> None:
        super().__init__()
        self.settings = settings
        self.cpu = settings.server_cpu

    def prepare(self) -> None:
        """Write the kernelspec, and choose a port: jupyverse does not tell which it chose."""
        for name in ("data", "runtime", "config", "work"):
            (self.root / name).mkdir()
        command = kernel_command(self.settings.flooder, self.cpu)
        write_kernelspec(self.root / "data", "flood", command)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port = int(probe.getsockname()[1])

    def command(self) -> list[str]:
        """Return jupyverse without what needs a browser."""
        program = str(JUPYVERSE / "bin" / "jupyverse")
        return [program, "--host", "127.0.0.1", "--port", str(self._port), "--disable", "lab"]

    def environment(self) -> dict[str, str]:
        """Everything of Jupyter's in the temporary directory."""
        kept = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")}
        return kept | {
            "JUPYTER_CONFIG_DIR": str(self.root / "config"),
            "JUPYTER_DATA_DIR": str(self.root / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.root / "runtime"),
            "JUPYTER_PATH": str(self.root / "data"),
        }

    def announced_port(self) -> int:
        """Return the port that was chosen for it."""
        return self._port

    def start_kernel(self, name: str = "flood") -> str:
        """Start a kernel by way of a session, the one way there is."""
        body = {"path": uuid.uuid4().hex, "name": "", "type": "notebook", "kernel": {"name": name}}
        return str(self.request("POST", "/api/sessions", body)["kernel"]["id"])

    def connection_file(self, kernel_id: str) -> dict[str, Any]:
        """Not told by jupyverse."""
        raise ServerError(f"jupyverse does not say where {kernel_id} is")


def has_relay() -> bool:
    """Whether the relay is built; ``make relay`` builds it."""
    return RELAY.exists() and FLOODER.exists()


def has_jupyverse() -> bool:
    """Whether jupyverse is installed; ``make jupyverse`` installs it."""
    return (JUPYVERSE / "bin" / "jupyverse").exists()


def describe_jupyverse() -> str:
    """Name it with its version."""
    program = JUPYVERSE / "bin" / "python"
    code = "import importlib.metadata as m; print(m.version('jupyverse'))"
    done = subprocess.run([program, "-c", code], capture_output=True, text=True, check=True)
    return f"jupyverse {done.stdout.strip()}"
