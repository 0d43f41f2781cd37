"""Voilà as an application of its own, which serves one notebook."""

from __future__ import annotations

import http.client
import re
import secrets
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from benches.notebooks import write_notebook

from support.extensions import UNCONFIGURED
from support.server import START_SECONDS, Server, free_port, process_environment
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

CONFIGURED = "from kernelwire.voila_config import c as kernelwire_config\n"
CONFIGURED += "c.merge(kernelwire_config)\n"
"""What docs/works-with.md says is to be put into ``voila.py``."""


class Voila(Server):
    """A running ``voila``, as far as it is asked as a server is."""

    def __init__(self, home: Path, cells: Sequence[str], *, is_on: bool) -> None:
        """Start it with a notebook of these cells; ``is_on`` is whether kernelwire is configured."""
        self.home = home
        self.token = secrets.token_hex(16)
        self.transport = "tcp"
        self.log_path = self.output_path = home / "voila.log"
        self._info = {"port": free_port(), "base_url": "/"}
        if is_on:
            self.config.mkdir()
            (self.config / "voila.py").write_text(CONFIGURED)
        write_notebook(home / "page.ipynb", cells)
        options = ("--no-browser", f"--port={self.port}", f"--token={self.token}", "--debug")
        with self.log_path.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "voila", "page.ipynb", *options],
                cwd=home,
                env=self.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(self._is_up, what="Voilà", timeout=START_SECONDS)
        except BaseException:
            self.stop()
            raise

    @property
    def config(self) -> Path:
        """The folder with the user's configuration."""
        return self.home / "config"

    def environment(self, **more: str) -> dict[str, str]:
        """The environment in which it runs, and ``status`` is to be asked."""
        inherited = process_environment(self.home, UNCONFIGURED)
        # It would keep the user's configuration out as well.
        del inherited["JUPYTER_NO_CONFIG"]
        return inherited | {"JUPYTER_CONFIG_DIR": str(self.config)} | more

    def open_page(self) -> str:
        """Have the notebook run as somebody who opens the page does; the id of its kernel."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", "/", headers=self.auth_headers | {"Connection": "close"})
        with connection.getresponse() as answer:
            page = answer.read().decode()
        connection.close()
        found = re.search(r'"kernelId": "([\w-]+)"', page)
        if found is None:
            raise RuntimeError(f"the page names no kernel:\n{page[:2000]}")
        return found[1]

    def threads(self) -> set[str]:
        """The names of its threads."""
        tasks = Path(f"/proc/{self.process.pid}/task")
        return {(each / "comm").read_text().strip() for each in tasks.iterdir()}

    def _is_up(self) -> bool:
        if self.process.poll() is not None:
            raise RuntimeError(f"Voilà did not start:\n{self.log()}")
        try:
            self.open_socket().close()
        except OSError:
            return False
        return True
