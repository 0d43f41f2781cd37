"""A real jupyter_server in its own process, on the loopback or a unix socket."""

from __future__ import annotations

import http.client
import json
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import psutil

from support import fake_kernel
from support.waiting import wait_until

STARTUP = Path(__file__).with_name("startup")
"""Modules that all Python processes of the tests find first."""

START_SECONDS = 60.0
"""How long a server may take to start: on a busy machine, its imports alone take many seconds."""

JsonConfig = dict[str, dict[str, Any]]

STOCK = {
    "kernel_websocket_connection_class": (
        "jupyter_server.services.kernels.connection.channels.ZMQChannelsWebsocketConnection"
    ),
    "kernel_manager_class": (
        "jupyter_server.services.kernels.kernelmanager.AsyncMappingKernelManager"
    ),
}
KERNELWIRE = {
    "kernel_websocket_connection_class": "kernelwire.KernelwireWebsocketConnection",
    "kernel_manager_class": "kernelwire.KernelwireMappingKernelManager",
}


@dataclass(frozen=True)
class Implementation:
    """Which bridge a server runs."""

    name: str
    classes: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)


IMPLEMENTATIONS = {
    implementation.name: implementation
    for implementation in (
        Implementation("stock", STOCK),
        Implementation("kernelwire", KERNELWIRE),
        Implementation("kernelwire-portable", KERNELWIRE, {"KERNELWIRE_DRAIN": "python"}),
    )
}


class RestError(Exception):
    """The server refused a REST request."""

    def __init__(self, status: int, body: str) -> None:
        super().__init__(f"{status}: {body}")
        self.status = status


class Server:
    """A running server; `stop()` ends it as an operator would, with SIGTERM."""

    def __init__(
        self,
        home: Path,
        implementation: Implementation,
        config: JsonConfig | None = None,
        *,
        transport: str = "tcp",
        program: Sequence[str] = ("-m", "jupyter_server"),
        start_timeout: float = START_SECONDS,
    ) -> None:
        """Start a server; ``program`` is what Python runs, with the argument ``--config``."""
        self.home = home
        self.token = secrets.token_hex(16)
        # The server's own words; its kernels write to the same standard output as it does.
        self.log_path = home / "server.log"
        self.output_path = home / "output.txt"
        self.transport = transport
        fake_kernel.install(home / "data")
        command = [sys.executable, *program, f"--config={home / 'config.json'}"]
        settings = _settings(home, implementation, self.token, transport, config or {})
        (home / "config.json").write_text(json.dumps(settings))
        with self.output_path.open("wb") as output:
            self.process = subprocess.Popen(
                command,
                cwd=home,
                env=process_environment(home, implementation),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            self._info: dict[str, Any] = wait_until(
                self._read_info, what="the info file", timeout=start_timeout
            )
            wait_until(self._answers, what="the server's first answer")
        except BaseException:
            self.process.kill()
            self.process.wait()
            raise

    @property
    def auth_headers(self) -> dict[str, str]:
        """The headers that let a request in."""
        return {"Authorization": f"token {self.token}"}

    @property
    def port(self) -> int:
        """The TCP port of a server that has one."""
        return int(self._info["port"])

    @property
    def base_path(self) -> str:
        """What each path of the server begins with."""
        return str(self._info["base_url"]).rstrip("/")

    def at(self, base_url: str) -> Server:
        """The server of the same process, token and folders that has another base."""
        other = copy(self)
        other._info = self._info | {"base_url": base_url}
        return other

    def open_socket(self) -> socket.socket:
        """A fresh connection to the server, encrypted where it wants that."""
        if self.transport == "unix":
            connection = socket.socket(socket.AF_UNIX)
            try:
                connection.connect(self._info["sock"])
            except OSError:
                connection.close()
                raise
            return connection
        connection = socket.create_connection(("127.0.0.1", self._info["port"]), timeout=60)
        if self.transport == "tls":
            return self._tls.wrap_socket(connection, server_hostname="localhost")
        return connection

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.home / "cert.pem"))

    # REST

    def request(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        headers: Mapping[str, str] | None = None,
        timeout: float = 60.0,
    ) -> Any:
        """Ask the REST interface; the decoded answer, None where it has no body."""
        connection = http.client.HTTPConnection("localhost", timeout=timeout)
        connection.sock = self.open_socket()
        connection.sock.settimeout(timeout)
        try:
            payload = None if body is None else json.dumps(body)
            whole = self.base_path + path
            connection.request(method, whole, payload, dict(headers or self.auth_headers))
            response = connection.getresponse()
            text = response.read().decode()
        finally:
            connection.close()
        if response.status >= 400:
            raise RestError(response.status, text)
        return json.loads(text) if text else None

    def login_cookie(self) -> str:
        """The cookie a browser gets from the login page, for requests without a token."""
        connection = http.client.HTTPConnection("localhost", timeout=60)
        connection.sock = self.open_socket()
        try:
            connection.request("GET", f"{self.base_path}/login?token={self.token}")
            response = connection.getresponse()
            response.read()
        finally:
            connection.close()
        cookies = response.headers.get_all("Set-Cookie", [])
        return "; ".join(cookie.split(";")[0] for cookie in cookies)

    def start_kernel(self, name: str = "python3") -> str:
        """Start a kernel and return its id."""
        return self.request("POST", "/api/kernels", {"name": name})["id"]

    def delete_kernel(self, kernel_id: str) -> None:
        """Shut a kernel down."""
        self.request("DELETE", f"/api/kernels/{kernel_id}")

    def restart_kernel(self, kernel_id: str) -> None:
        """Restart a kernel; returns when the new one answers."""
        self.request("POST", f"/api/kernels/{kernel_id}/restart")

    def interrupt_kernel(self, kernel_id: str) -> None:
        """Interrupt a kernel."""
        self.request("POST", f"/api/kernels/{kernel_id}/interrupt")

    def kernel(self, kernel_id: str) -> dict[str, Any]:
        """What the server says of a kernel."""
        return self.request("GET", f"/api/kernels/{kernel_id}")

    def kernels(self) -> list[dict[str, Any]]:
        """What the server says of all kernels."""
        return self.request("GET", "/api/kernels")

    def status(self) -> dict[str, Any]:
        """The server's own status."""
        return self.request("GET", "/api/status", timeout=5)

    def wait_for_connections(self, kernel_id: str, count: int) -> None:
        """Wait until the server counts `count` clients on a kernel."""
        wait_until(
            lambda: self.kernel(kernel_id)["connections"] == count,
            what=f"{count} connections on {kernel_id}",
        )

    def wait_for_state(self, kernel_id: str, state: str, timeout: float = 60.0) -> None:
        """Wait until the activity watcher has seen a kernel become `state`."""
        wait_until(
            lambda: self.kernel(kernel_id)["execution_state"] == state,
            what=f"state {state} of {kernel_id}",
            timeout=timeout,
        )

    # the process

    def stop(self, timeout: float = 60.0) -> int:
        """End the server with SIGTERM and return its exit code; one that hangs is killed."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise

    def log(self, start: int = 0) -> str:
        """The server's log from a position on (see `log_end`)."""
        with self.log_path.open("rb") as log:
            log.seek(start)
            return log.read().decode(errors="replace")

    def output(self) -> str:
        """What the server and its kernels have written to their standard output and error."""
        return self.output_path.read_text(errors="replace")

    def log_end(self) -> int:
        """The position after the last line so far."""
        return self.log_path.stat().st_size

    def log_lines(self, start: int = 0, levels: str = "WEC") -> list[str]:
        """The first lines of the log's entries of these levels, from a position on."""
        return re.findall(rf"^\[[{levels}] .*$", self.log(start), re.MULTILINE)

    def resident_bytes(self) -> int:
        """The memory the server holds."""
        return psutil.Process(self.process.pid).memory_info().rss

    def open_files(self) -> int:
        """The file descriptors the server holds."""
        return psutil.Process(self.process.pid).num_fds()

    def wait_for_files(self, most: int) -> None:
        """Wait until the server holds no more than so many file descriptors; tells them if it does."""
        try:
            wait_until(lambda: self.open_files() <= most, what=f"no more than {most} descriptors")
        except TimeoutError as error:
            error.add_note("\n".join(self.describe_files()))
            raise

    def describe_files(self) -> list[str]:
        """What the server's descriptors are, for who finds too many: connections, and whatever else."""
        process = psutil.Process(self.process.pid)
        connections = [
            f"{each.fd}: {each.laddr} to {each.raddr}, {each.status}"
            for each in process.net_connections("all")
        ]
        folder = Path(f"/proc/{process.pid}/fd")
        others = [f"{each.name}: {each.readlink()}" for each in folder.glob("*")]
        return sorted(connections + [each for each in others if "socket:" not in each])

    def open_connections(self) -> int:
        """The TCP connections the server has and has not closed, from whomever."""
        return self._connections(self._info["port"])

    def subscriptions(self, kernel_id: str) -> int:
        """The TCP connections to a kernel's iopub."""
        return self.connections_to(kernel_id, "iopub")

    def connections_to(self, kernel_id: str, channel: str) -> int:
        """The TCP connections to one of a kernel's channels."""
        port = self.connection_info(kernel_id)[f"{channel}_port"]
        return self._connections(port, remote=True)

    def wait_for_channels(self, kernel_id: str, **counts: int) -> None:
        """Wait until a kernel's channels have so many connections: one that is to come is no descriptor.

        The manager has one to control, and one to iopub for all clients.
        """
        wait_until(
            lambda: all(self.connections_to(kernel_id, each) == n for each, n in counts.items()),
            what=f"{counts} of {kernel_id}",
        )

    def unacknowledged(self, kernel_id: str, channel: str) -> int:
        """The bytes to one of a kernel's channels that its machine has not acknowledged; on Linux."""
        port = f":{self.connection_info(kernel_id)[f'{channel}_port']:04X}"
        lines = Path(f"/proc/{self.process.pid}/net/tcp").read_text().splitlines()[1:]
        found = [line.split() for line in lines]
        return sum(int(each[4].partition(":")[0], 16) for each in found if each[2].endswith(port))

    def connection_info(self, kernel_id: str) -> dict[str, Any]:
        """Where a kernel listens, as its connection file says."""
        return json.loads((self.home / "runtime" / f"kernel-{kernel_id}.json").read_text())

    def _connections(self, port: int, *, remote: bool = False) -> int:
        """The server's TCP connections from or to a port, which it has not closed."""
        alive = (psutil.CONN_ESTABLISHED, psutil.CONN_CLOSE_WAIT)
        found = psutil.Process(self.process.pid).net_connections("tcp")
        ends = [one.raddr if remote else one.laddr for one in found if one.status in alive]
        return sum(end.port == port for end in ends if end)

    def _read_info(self) -> dict[str, Any] | None:
        if self.process.poll() is not None:
            raise RuntimeError(f"the server did not start:\n{self.log()}")
        path = self.home / "runtime" / f"jpserver-{self.process.pid}.json"
        try:
            return json.loads(path.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return None

    def _answers(self) -> bool:
        try:
            return "started" in self.status()
        except OSError:
            return False


StartServer = Callable[..., Server]
StartKernel = Callable[..., str]


def _settings(
    home: Path, implementation: Implementation, token: str, transport: str, config: JsonConfig
) -> JsonConfig:
    app: dict[str, Any] = {
        **implementation.classes,
        "open_browser": False,
        "allow_root": True,
        "root_dir": str(home),
        "logging_config": _logging(home / "server.log"),
    }
    if transport == "unix":
        app["sock"] = str(home / "server.sock")
    else:
        app |= {"ip": "127.0.0.1", "port": free_port()}
    if transport == "tls":
        app |= {"certfile": str(home / "cert.pem"), "keyfile": str(home / "key.pem")}
        make_certificate(home / "cert.pem", home / "key.pem")
    settings: JsonConfig = {
        "ServerApp": app,
        "IdentityProvider": {"token": token},
        # How often a server looks whether its kernels live; 3 s unless told otherwise.
        "KernelRestarter": {"time_to_dead": 0.5},
    }
    for section, values in config.items():
        settings.setdefault(section, {}).update(values)
    return settings


def free_port() -> int:
    """Find a port. For port 0, older releases of Jupyter Server do not tell which one they got."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _logging(path: Path) -> dict[str, Any]:
    handler = {"class": "logging.FileHandler", "filename": str(path), "formatter": "console"}
    return {
        "handlers": {"file": handler},
        "loggers": {"ServerApp": {"level": "INFO", "handlers": ["file"], "propagate": False}},
        # asyncio's complaints about lost exceptions go here.
        "root": {"level": "WARNING", "handlers": ["file"]},
    }


def process_environment(home: Path, implementation: Implementation) -> dict[str, str]:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "KERNELWIRE"))}
    own = implementation.environment
    path = filter(None, [own.get("PYTHONPATH"), inherited.get("PYTHONPATH")])
    return inherited | {
        # Keeps the configuration of the machine out, an installed kernelwire.json included.
        "JUPYTER_NO_CONFIG": "1",
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "IPYTHONDIR": str(home / "ipython"),
        "PYTHONUNBUFFERED": "1",
        **({"KERNELWIRE_DRIVER": tested} if (tested := os.environ.get("TESTED_DRIVER")) else {}),
        **own,
        "PYTHONPATH": os.pathsep.join(path),
    }


def make_certificate(certificate: Path, key: Path) -> None:
    """Write a self-signed certificate for localhost."""
    openssl = shutil.which("openssl")
    if openssl is None:
        raise RuntimeError("the TLS tests need the openssl command")
    names = "subjectAltName=DNS:localhost,IP:127.0.0.1"
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-addext", names]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
