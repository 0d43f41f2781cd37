"""Which way the messages of a client take, and what the server says of that."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from kernelwire.cli_live import ask_running, report_of_running
from support.fake_kernel import emit, script

if TYPE_CHECKING:
    import pytest

    from support.server import Implementation, JsonConfig, Server
    from support.ws_client import Client

FLOOD = 2_900
"""As many as come at once under the default limits."""


LINKED = {"jpserver_extensions": {"kernelwire": True}}


def assert_flood_is_whole(client: Client) -> None:
    """Have the scripted kernel flood its client, which is to get everything, in order."""
    emitted = client.execute(script({"do": "emit", "count": 0})).messages
    assert emitted
    numbers = client.execute(script(emit(FLOOD, size=100))).numbers
    assert numbers == list(range(numbers[0], numbers[0] + FLOOD))


def linked(implementation: Implementation, config: JsonConfig) -> JsonConfig:
    """A configuration with the extension on, where the server is not stock's."""
    if implementation.name == "stock":
        return config
    return config | {"ServerApp": config.get("ServerApp", {}) | LINKED}


def reader(implementation: Implementation) -> str:
    """Who should read kernels."""
    on_loop = implementation.environment or os.environ.get("TESTED_DRIVER") == "loop"
    return "loop" if on_loop else "engine"


def told(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """What ``jupyter kernelwire status --live`` says of a server."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(server.home / "runtime"))
    answers, has_answered = ask_running()
    lines = report_of_running(answers)
    assert has_answered, lines
    return "\n".join(lines)


def way_of(client: Client, kernel_id: str, report: str) -> tuple[str, str]:
    """Who reads a kernel, and who writes to its client, by a report."""
    reads = re.search(rf"kernel {kernel_id}: .*read by the (\w+)", report)
    writes = re.search(
        rf"client (?:{kernel_id}:)?{client.session_id}.*written by the (\w+)", report
    )
    assert reads, report
    assert writes, report
    return reads[1], writes[1]
