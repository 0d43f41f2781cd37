"""The page that shows what goes on, and what it asks: who may see it, and what is in it."""

from __future__ import annotations

import http.client
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import kernelwire
from kernelwire.live import PAGE, PATH
from support import denying
from support.fake_kernel import emit, script
from support.server import IMPLEMENTATIONS, Server
from support.waiting import wait_until
from support.ws_client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

CONFIG = {
    "ServerApp": {
        "jpserver_extensions": {"kernelwire": True},
        "authorizer_class": "support.denying.DenyingAuthorizer",
    },
}
ASSETS = Path(kernelwire.__file__).parent / "page"
FILES = {
    "": "text/html",
    "index.html": "text/html",
    "live.css": "text/css",
    "live.js": "text/javascript",
}


@pytest.fixture(scope="module")
def watched(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with an authorizer."""
    environment = {"PYTHONPATH": str(Path(__file__).parents[1])}
    implementation = replace(IMPLEMENTATIONS["kernelwire"], environment=environment)
    server = Server(tmp_path_factory.mktemp("watched"), implementation, CONFIG)
    yield server
    server.stop()
    # The oldest releases of Jupyter Server log a refusal with a traceback, of their own code alone.
    assert 'kernelwire/live.py", line' not in server.log()


def get(server: Server, path: str, headers: Mapping[str, str]) -> Any:
    """The answer to a request, its body read."""
    connection = http.client.HTTPConnection("localhost", timeout=60)
    connection.sock = server.open_socket()
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        body = answer.read().decode()
    finally:
        connection.close()
    return answer, body


@pytest.mark.kernelwire_only
class TestAccess:
    """Who may not read about kernels sees nothing."""

    @pytest.mark.parametrize("name", FILES)
    def test_page_is_for_who_is_logged_in(self, watched: Server, name: str) -> None:
        """Others are asked to log in; a browser's cookie does."""
        answer, body = get(watched, PAGE + name, {})
        assert (answer.status, body) == (302, "")
        assert answer.headers["Location"].startswith("/login?")
        answer, body = get(watched, PAGE + name, {"Cookie": watched.login_cookie()})
        assert (answer.status, answer.headers.get_content_type()) == (200, FILES[name])
        assert body == (ASSETS / (name or "index.html")).read_text()

    def test_numbers_are_for_who_is_logged_in(self, watched: Server) -> None:
        """A program without a token is refused."""
        assert get(watched, PATH, {})[0].status == 403
        assert get(watched, PATH, {"Cookie": watched.login_cookie()})[0].status == 200

    @pytest.mark.parametrize("path", [PAGE, f"{PAGE}live.js", PATH])
    def test_nothing_is_for_who_may_not_read_kernels(self, watched: Server, path: str) -> None:
        """An authorizer decides, by the same resource as on the kernels themselves."""
        for denied, status in (("read kernels", 403), ("write kernels", 200)):
            headers = {**watched.auth_headers, denying.HEADER: denied}
            assert get(watched, path, headers)[0].status == status

    def test_page_needs_nothing_from_elsewhere(self, watched: Server) -> None:
        """Nor may it: what it has is allowed, and nothing that stands in the page itself."""
        answer, _ = get(watched, PAGE, watched.auth_headers)
        policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
        assert "unsafe" not in policy
        assert "frame-ancestors 'self'" in policy

    def test_other_names_are_not_there(self, watched: Server) -> None:
        """No file beside the page can be had."""
        for name in ("live.py", "../live.py", "%2e%2e/live.py"):
            assert get(watched, PAGE + name, watched.auth_headers)[0].status == 404

    def test_address_without_its_slash_leads_to_the_page(self, watched: Server) -> None:
        """Links on the page are relative to it."""
        answer, _ = get(watched, PAGE.rstrip("/"), watched.auth_headers)
        assert (answer.status, answer.headers["Location"]) == (302, PAGE)


@pytest.mark.kernelwire_only
class TestNumbers:
    """What is said of a kernel and its tabs."""

    def test_tab_has_what_has_gone_to_it(self, watched: Server) -> None:
        """And the kernel its state; looking is no activity."""
        kernel_id = watched.start_kernel("fake")
        client = Client(watched, kernel_id).settle()
        client.execute(script(emit(10)))
        watched.wait_for_state(kernel_id, "idle")
        last = watched.status()["last_activity"]

        def said() -> dict[str, Any]:
            path = f"{PATH}?no_track_activity=1"
            kernel: dict[str, Any] = watched.request("GET", path)["kernels"][kernel_id]
            return kernel

        wait_until(lambda: _totals(said())["messages"] == len(client.raw_frames), what="the last")
        kernel, totals = said(), _totals(said())
        assert (kernel["name"], kernel["state"]) == ("fake", "idle")
        assert kernel["received"] >= 12
        assert kernel["received_bytes"] > 1_000
        assert totals["bytes"] > sum(map(len, client.raw_frames))
        assert (totals["waited"], totals["merged"], totals["dropped"]) == (0, 0, 0)
        assert watched.status()["last_activity"] == last
        client.close()
        watched.delete_kernel(kernel_id)
        assert watched.request("GET", PATH)["kernels"] == {}


def _totals(kernel: dict[str, Any]) -> dict[str, int]:
    (client,) = kernel["clients"].values()
    totals: dict[str, int] = client["totals"]
    return totals
