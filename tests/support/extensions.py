"""Servers with extensions of others, and what kernelwire says of itself there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass

from support.server import Implementation, JsonConfig, Server, process_environment

UNCONFIGURED = Implementation("unconfigured", {})
"""No class is named: whoever comes to set one, kernelwire or another package, does so."""

SERVER_DOCUMENTS = "jupyter_server_documents.websocket_connection.KernelWebsocketConnection"
STAND_IN: JsonConfig = {"KernelwireWebsocketConnection": {"stand_in_for": [SERVER_DOCUMENTS]}}
"""Has kernelwire's connection serve in the place of that of ``jupyter-server-documents``."""

FIRST = "aa_kernelwire"
LINKED_FIRST = """
def _jupyter_server_extension_points():
    return [{"module": "kernelwire"}]
"""
"""kernelwire by a name that is linked before all others: the server goes by the alphabet."""

StartWith = Callable[..., Server]


@dataclass(frozen=True)
class Told:
    """What ``jupyter kernelwire status`` says of a server's configuration."""

    is_on: bool
    output: str

    def of(self, trait: str) -> tuple[str, str]:
        """The class that is used, and why."""
        found = re.search(rf"^{trait}\n    (.*)\n    because (.*)$", self.output, re.MULTILINE)
        assert found, self.output
        return found[1], found[2]


def status(server: Server, *options: str) -> Told:
    """Ask ``jupyter kernelwire status`` about a server's own configuration."""
    run = subprocess.run(
        [
            *(sys.executable, "-m", "kernelwire.cli", "status"),
            f"--config={server.home / 'config.json'}",
            *options,
        ],
        env=process_environment(server.home, UNCONFIGURED),
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    return Told(run.returncode == 0, run.stdout + run.stderr)


def in_use(server: Server) -> list[str]:
    """What a server has logged about whether kernelwire is on."""
    return re.findall(r"^\[I .*\] kernelwire is (.*)$", server.log(), re.MULTILINE)
