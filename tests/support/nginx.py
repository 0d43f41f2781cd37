"""nginx in front of a server, with its defaults and the few lines that websockets need."""

from __future__ import annotations

import shutil
import socket
import subprocess
from typing import TYPE_CHECKING

from support.server import free_port
from support.waiting import wait_until

if TYPE_CHECKING:
    from pathlib import Path

MISSING = "nginx is missing: apt-get install nginx-light"

CONFIG = """
daemon off;
pid {home}/nginx.pid;
error_log {home}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {home}/body;
    proxy_temp_path {home}/proxy;
    fastcgi_temp_path {home}/fastcgi;
    uwsgi_temp_path {home}/uwsgi;
    scgi_temp_path {home}/scgi;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{to};
            proxy_http_version 1.1;
            proxy_set_header Host $host;
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection upgrade;
        }}
    }}
}}
"""


def executable() -> str | None:
    """Find nginx, which is no command of users on Debian."""
    return shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin:/usr/local/sbin")


class Nginx:
    """A running nginx that leads to a port of this machine."""

    def __init__(self, home: Path, to: int) -> None:
        self._port = free_port()
        command = executable()
        if command is None:
            raise RuntimeError(MISSING)
        file = home / "nginx.conf"
        file.write_text(CONFIG.format(home=home, port=self._port, to=to))
        self._process = subprocess.Popen(
            [command, "-p", home, "-c", file, "-e", home / "error.log"],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        wait_until(self._answers, what="nginx", timeout=15)

    def open_socket(self) -> socket.socket:
        """A fresh connection to it."""
        return socket.create_connection(("127.0.0.1", self._port), timeout=60)

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        self._process.wait(15)

    def _answers(self) -> bool:
        if self._process.poll() is not None:
            raise RuntimeError("nginx has ended")
        try:
            self.open_socket().close()
        except OSError:
            return False
        return True
