"""A JupyterHub with its proxy, and the servers of its users."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

from support import fake_kernel
from support.server import START_SECONDS, RestError, Server, free_port
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

PROXY = "CONFIGURABLE_HTTP_PROXY"
"""In the environment, the path of that program."""

CONFIG = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}"
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.command = {proxy!r}
c.JupyterHub.db_url = "sqlite:///{home}/hub.sqlite"
c.JupyterHub.cookie_secret_file = "{home}/secret"
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = "{home}/{{username}}"
c.Spawner.cmd = [{python!r}, "-m", "jupyterhub.singleuser"]
c.Spawner.args = {arguments!r}
c.JupyterHub.services = [{{"name": "tests", "api_token": {token!r}}}]
scopes = ["admin:users", "admin:servers", "access:servers"]
c.JupyterHub.load_roles = [{{"name": "tests", "scopes": scopes, "services": ["tests"]}}]
"""


class Hub(Server):
    """The hub itself, as far as it is asked over its REST interface."""

    def __init__(self, home: Path, arguments: list[str]) -> None:
        """Start it; ``arguments`` are those of its users' servers."""
        self.home = home
        self.token = secrets.token_hex(16)
        self.transport = "tcp"
        self.log_path = self.output_path = home / "hub.log"
        self._info = {"port": free_port(), "base_url": "/hub/"}
        file = home / "config.py"
        file.write_text(
            CONFIG.format(
                home=home,
                port=self.port,
                hub_port=free_port(),
                api_port=free_port(),
                proxy=os.environ[PROXY].split(),
                token=self.token,
                python=sys.executable,
                arguments=["--allow-root", *arguments],
            )
        )
        left_out = ("JUPYTER", "KERNELWIRE")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "jupyterhub", f"--config={file}"],
                cwd=home,
                env={k: v for k, v in os.environ.items() if not k.startswith(left_out)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._is_up, what="the hub", timeout=START_SECONDS)
        except BaseException:
            self.stop()
            raise

    def server_of(self, user: str) -> Server:
        """Start the server of a user who is made for that; it is reached by the proxy."""
        fake_kernel.install(self.home / user / ".local" / "share" / "jupyter")
        self.request("POST", f"/api/users/{user}")
        self.request("POST", f"/api/users/{user}/server")
        wait_until(lambda: self._servers(user), what=f"the server of {user}", timeout=START_SECONDS)
        return self.at(f"/user/{user}/")

    def stop_server_of(self, user: str) -> None:
        """Stop the server of a user."""
        self.request("DELETE", f"/api/users/{user}/server")
        wait_until(lambda: not self._servers(user), what=f"the end of {user}'s server")

    def stop(self, timeout: float = 60.0) -> int:
        """End the hub, its proxy and all servers."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout)

    def _servers(self, user: str) -> list[Any]:
        servers = self.request("GET", f"/api/users/{user}")["servers"]
        return [each for each in servers.values() if each["ready"]]

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"the hub did not start:\n{self.log()}")
        try:
            return "version" in self.request("GET", "/api/")
        except (OSError, RestError):
            return False
