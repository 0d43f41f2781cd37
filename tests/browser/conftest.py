"""A server as ``jupyter lab`` starts it, kernelwire on by installation alone, and its page in Chromium.

With ``-m "slow or not slow"``, each test runs on stock as well: what is known to fail there is marked
``fails_on_stock``, and must fail. ``SCREENSHOTS=folder`` keeps what each page showed in the end.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any
from urllib.error import URLError
from urllib.request import urlopen

import pytest
from benches.labpage import Notebook, browser_page
from benches.notebooks import write_notebook

from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from playwright.sync_api import Page

    from support.server import JsonConfig

TOKEN = "browser"


@contextmanager
def running_lab(
    home: Path,
    *,
    is_stock: bool = False,
    base_url: str = "/",
    config: JsonConfig | None = None,
    disabled: Sequence[str] = (),
) -> Iterator[str]:
    """A server with nothing of the user's configuration but ``config``, at this address.

    ``disabled`` are extensions of the page that are installed, and not wanted.
    """
    with socket.create_server(("127.0.0.1", 0)) as found:
        port = found.getsockname()[1]
    (home / "config").mkdir()
    app: dict[str, dict[str, Any]] = {
        "ServerApp": {
            "root_dir": str(home),
            "open_browser": False,
            "allow_root": True,
            "base_url": base_url,
        },
        "IdentityProvider": {"token": TOKEN},
        "LabApp": {"expose_app_in_browser": True, "news_url": None},
        "JupyterNotebookApp": {"expose_app_in_browser": True},
    }
    if is_stock:
        app["ServerApp"]["jpserver_extensions"] = {"kernelwire": False}
    for section, values in (config or {}).items():
        own = app.setdefault(section, {})
        extensions = own.get("jpserver_extensions", {}) | values.get("jpserver_extensions", {})
        own.update(values)
        if extensions:
            own["jpserver_extensions"] = extensions
    page = {"disabledExtensions": dict.fromkeys(disabled, True)}
    (home / "config" / "labconfig").mkdir()
    (home / "config" / "labconfig" / "page_config.json").write_text(json.dumps(page))
    (home / "config" / "jupyter_config.json").write_text(json.dumps(app))
    folders = {
        f"JUPYTER_{name}_DIR": str(home / name.lower()) for name in ("CONFIG", "DATA", "RUNTIME")
    }
    url = f"http://127.0.0.1:{port}{base_url}".rstrip("/")
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
def token() -> str:
    """What lets a person in."""
    return TOKEN


@pytest.fixture(scope="module")
def base_url() -> str:
    """Under which path the server answers."""
    return "/"


@pytest.fixture(
    scope="module", params=["kernelwire", pytest.param("stock", marks=pytest.mark.slow)]
)
def lab(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, base_url: str
) -> Iterator[tuple[str, Path]]:
    """The address and the home of a server."""
    home, is_stock = tmp_path_factory.mktemp("lab"), request.param == "stock"
    with running_lab(home, is_stock=is_stock, base_url=base_url) as url:
        assert ("kernelwire is on" in (home / "server.log").read_text()) is not is_stock
        yield url, home


@pytest.fixture(autouse=True)
def _failing_on_stock(request: pytest.FixtureRequest) -> None:
    """Expect a test to fail on stock that is marked so."""
    marker = request.node.get_closest_marker("fails_on_stock")
    if marker is not None and request.node.callspec.params["lab"] == "stock":
        request.applymarker(pytest.mark.xfail(reason=marker.args[0], strict=True))


@pytest.fixture
def open_notebook(
    lab: tuple[str, Path], request: pytest.FixtureRequest
) -> Iterator[Callable[..., Notebook]]:
    """Open notebooks with these cells, one after the other."""
    url, home = lab
    with ExitStack() as stack:

        def open_it(cells: Sequence[str], path: str = "lab/tree") -> Notebook:
            name = f"{request.node.originalname}.ipynb"
            write_notebook(home / name, cells)
            notebook = stack.enter_context(Notebook.opened(url, TOKEN, name, path=path))
            stack.callback(lambda: keep(notebook.page, f"{request.node.name}.png"))
            return notebook

        yield open_it


@pytest.fixture
def open_page(
    lab: tuple[str, Path], request: pytest.FixtureRequest
) -> Iterator[Callable[[Sequence[str], str], Page]]:
    """Open a notebook with these cells under the path of a front end."""
    url, home = lab
    with ExitStack() as stack:

        def open_it(cells: Sequence[str], path: str) -> Page:
            name = f"{request.node.originalname}.ipynb"
            write_notebook(home / name, cells)
            page = stack.enter_context(browser_page())
            stack.callback(keep, page, f"{request.node.name}.png")
            page.goto(f"{url}/{path}/{name}?token={TOKEN}")
            return page

        yield open_it


def keep(page: Page, name: str) -> None:
    """Keep what a page shows, if ``SCREENSHOTS`` says where."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        page.screenshot(path=f"{folder}/{name}")
