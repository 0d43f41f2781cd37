"""A server as ``jupyter lab`` starts it, kernelwire on by installation alone, and its page in Chromium."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from benches.labpage import Notebook, write_notebook

from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

TOKEN = "browser"


@contextmanager
def running_lab(home: Path) -> Iterator[str]:
    """A server with nothing of the user's configuration, at this address."""
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    (home / "config").mkdir()
    app = {
        "ServerApp": {"root_dir": str(home), "open_browser": False, "allow_root": True},
        "IdentityProvider": {"token": TOKEN},
        "LabApp": {"expose_app_in_browser": True, "news_url": None},
    }
    (home / "config" / "jupyter_config.json").write_text(json.dumps(app))
    folders = {
        f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    url = f"http://127.0.0.1:{port}"
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", "--ip=127.0.0.1", f"--port={port}"],
            env=os.environ | folders | {"IPYTHONDIR": str(home / "ipython")},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    try:
        wait_until(lambda: answers(url), what="the server's first answer", timeout=60)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        try:
            server.wait(15)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait()


def answers(url: str) -> bool:
    """Whether there is a server."""
    try:
        with urlopen(f"{url}/api?token={TOKEN}") as answer:
            return answer.status == 200
    except (URLError, ConnectionError):
        return False


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, Path]]:
    """The address and the home of a server."""
    home = tmp_path_factory.mktemp("lab")
    with running_lab(home) as url:
        assert "kernelwire is on" in (home / "server.log").read_text()
        yield url, home


@pytest.fixture
def open_notebook(
    lab: tuple[str, Path], request: pytest.FixtureRequest
) -> Iterator[Callable[[Sequence[str]], Notebook]]:
    """Open notebooks with these cells, one after the other."""
    url, home = lab
    with ExitStack() as stack:

        def open_it(cells: Sequence[str]) -> Notebook:
            name = f"{request.node.name}.ipynb"
            write_notebook(home / name, cells)
            return stack.enter_context(Notebook.opened(url, TOKEN, name))

        yield open_it
