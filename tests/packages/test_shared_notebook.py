"""A notebook that two pages share by ``jupyter-server-documents``, in Chromium.

With its own connections, and with kernelwire's standing in for them.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from benches.labpage import Notebook, browser_page, chromium
from benches.notebooks import write_notebook

from browser.conftest import TOKEN, keep, running_lab
from support.extensions import STAND_IN
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.server import JsonConfig

pytestmark = pytest.mark.skipif(chromium() is None, reason="apt-get install chromium")

COUNT = 500
FLOOD = f"for number in range({COUNT}): display(number)"
KERNEL = "const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;"
ASK_COMPLETION = f"{KERNEL} const code = 'import os; os.getcw';"
ASK_COMPLETION += " const reply = await kernel.requestComplete({code, cursor_pos: code.length});"
ASK_COMPLETION += " return reply.content.matches.join();"
"""What a page asks by its own connection, not by the room, as completers and extensions do."""

ASK_SECONDS = 20

OTHERS = ("jupyter_server_nbmodel", "jupyter_server_proxy", "voila")
"""Installed beside it for other tests: one more that runs cells in the server would be in its way."""

OTHER_PAGES = ("@datalayer/jupyter-server-nbmodel",)
WAYS = {"stock": {}, "kernelwire, aside": {}, "kernelwire, standing in": STAND_IN}


@pytest.fixture(scope="module", params=WAYS)
def lab(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Path]]:
    """The address and the home of a server."""
    home = tmp_path_factory.mktemp("lab")
    config: JsonConfig = {"ServerApp": {"jpserver_extensions": dict.fromkeys(OTHERS, False)}}
    is_stock = request.param == "stock"
    with running_lab(
        home, is_stock=is_stock, config=config | WAYS[request.param], disabled=OTHER_PAGES
    ) as url:
        log = (home / "server.log").read_text()
        assert ("it stands in for" in log) == (WAYS[request.param] is STAND_IN)
        assert ("kernelwire is on" in log) != is_stock
        yield url, home


@contextmanager
def two_pages(url: str, name: str) -> Iterator[tuple[Notebook, Notebook]]:
    """The same notebook twice."""
    with browser_page() as page:
        one = Notebook(page, url, TOKEN, name)
        two = Notebook(page.context.new_page(), url, TOKEN, name)
        yield one, two


def within(notebook: Notebook, body: str) -> str:
    """What the body of a function returns in a page; nothing where that takes too long."""
    late = f"new Promise(done => setTimeout(() => done(''), {ASK_SECONDS * 1000}))"
    asked = f"() => Promise.race([(async () => {{ {body} }})(), {late}])"
    return str(notebook.page.evaluate(asked))


def test_notebook_when_two_pages_share_it_then_both_show_what_one_runs(
    lab: tuple[str, Path], request: pytest.FixtureRequest
) -> None:
    """Stops outputs from missing on a page beside a room, or a page's own requests from being unanswered."""
    url, home = lab
    stands_in = WAYS[request.node.callspec.params["lab"]] is STAND_IN
    write_notebook(home / "shared.ipynb", [FLOOD])
    with two_pages(url, "shared.ipynb") as (one, two):
        one.run(0)
        for page in (one, two):
            page.wait_for_count(0, COUNT)
            texts = ["".join(each["data"]["text/plain"]) for each in page.outputs(0)]
            assert texts == [str(number) for number in range(COUNT)]
            # Their own connections answer one page only, the one that has connected last.
            if stands_in:
                assert "getcwd" in within(page, ASK_COMPLETION)
        keep(one.page, f"{request.node.name} one.png")
        keep(two.page, f"{request.node.name} two.png")

    def saved() -> int:
        """How many outputs the room has saved, which it does now and then."""
        content = json.loads((home / "shared.ipynb").read_text())
        return len(content["cells"][0]["outputs"])

    wait_until(lambda: saved() == COUNT, what="the room's next save")
