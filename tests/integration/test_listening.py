"""An extension listens to a kernel, as docs/listening.md shows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from support import cells
from support.server import Implementation, Server
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from support.ws_client import Connect

DOCUMENT = Path(__file__).parents[2] / "docs" / "listening.md"


pytestmark = pytest.mark.kernelwire_only


@pytest.fixture
def saving(implementation: Implementation, tmp_path: Path) -> Iterator[Server]:
    """A server with the extension of the document."""
    extension = re.findall(r"```python\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)[-1]
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "save_outputs.py").write_text(extension)
    environment = {**implementation.environment, "PYTHONPATH": str(tmp_path / "modules")}
    home = tmp_path / "server"
    home.mkdir()
    config = {"ServerApp": {"jpserver_extensions": {"save_outputs": True}}}
    server = Server(home, replace(implementation, environment=environment), config)
    yield server
    server.stop()


def test_outputs_are_saved_whether_a_client_is_there_or_not(
    saving: Server, connect: Connect, tmp_path: Path
) -> None:
    """All that was printed is in the file, in its order, and the client has it as well."""
    kernel_id = saving.start_kernel("python3")
    client = connect(kernel_id, on=saving)
    assert client.execute(cells.print_once("before")).text() == "before\n"
    gate = tmp_path / "gate"
    request = client.start(cells.wait_for(gate) + cells.print_once("after"))
    client.messages(until=lambda m: m.is_status("busy", request))
    client.reset()
    saving.wait_for_connections(kernel_id, 0)
    gate.touch()
    (folder,) = {path.parent for path in saving.home.rglob(f"{kernel_id}.txt")}
    path = folder / f"{kernel_id}.txt"
    wait_until(lambda: path.read_text().endswith("before\nafter\n"), what="the outputs")
