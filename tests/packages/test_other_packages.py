"""Server extensions of others, as PyPI has them: what they do themselves, and a flood beside that.

Run by ``nox --session packages``, which installs them.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from support import ways
from support.extensions import in_use, status
from support.waiting import wait_until
from support.ws_client import Client

if TYPE_CHECKING:
    import pytest

    from support.extensions import StartWith
    from support.messages import Message
    from support.server import Server

CONNECTION_TRAIT, MANAGER_TRAIT = "kernel_websocket_connection_class", "kernel_manager_class"
OURS = {
    CONNECTION_TRAIT: "kernelwire.connection.websocket.KernelwireWebsocketConnection",
    MANAGER_TRAIT: "kernelwire.kernels.manager.KernelwireMappingKernelManager",
}
NEXTGEN = "nextgen_kernels_api"
THEIRS = {
    CONNECTION_TRAIT: (
        f"{NEXTGEN}.services.kernels.connection.kernel_client_connection."
        "KernelClientWebsocketConnection"
    ),
    MANAGER_TRAIT: f"{NEXTGEN}.services.kernels.kernelmanager.MultiKernelManager",
}


def assert_both_say_on(server: Server) -> None:
    """The log and ``status`` say that both classes are kernelwire's, by installation alone."""
    assert in_use(server) == ["on, receiving natively"]
    said = status(server)
    assert said.is_on, said.output
    for trait, ours in OURS.items():
        assert said.of(trait) == (ours, "installed, and no other class was chosen")


def assert_kernels_serve(
    server: Server, monkeypatch: pytest.MonkeyPatch, *, is_on: bool, base_url: str = "/"
) -> None:
    """A cell runs and a flood is whole; where kernelwire is on, the engine reads and writes."""
    kernel_id = server.start_kernel("fake")
    client = Client(server.at(base_url), kernel_id).settle()
    ways.assert_flood_is_whole(client)
    if is_on:
        way = ways.way_of(client, kernel_id, ways.told(server, monkeypatch))
        assert way == ("engine", "engine")
    client.close()
    server.delete_kernel(kernel_id)
    own = server.start_kernel()
    client = Client(server.at(base_url), own).settle()
    assert client.execute("print(6 * 7)").text() == "42\n"
    client.close()
    server.delete_kernel(own)
    assert "Traceback" not in server.log()


def text_of(message: Message) -> str:
    """What a message displays; empty where it displays nothing."""
    return str(message.content.get("data", {}).get("text/plain", ""))


class TestResourceUsage:
    """``jupyter-resource-usage``, which asks kernels on ``control`` with a client of its own."""

    def test_kernel_is_measured_while_it_floods(
        self, start_with: StartWith, is_on: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stops its requests from being taken for the user's, or from costing output."""
        server = start_with("jupyter_resource_usage")
        assert server.request("GET", "/api/metrics/v1")["rss"] > 0
        if is_on:
            assert_both_say_on(server)
        kernel_id = server.start_kernel()
        client = Client(server, kernel_id).settle()
        msg_id = client.start(f"for n in range({ways.FLOOD}): display(n)")
        usage = f"/api/metrics/v1/kernel_usage/get_usage/{kernel_id}"
        assert server.request("GET", usage)["content"]["kernel_memory"] > 0
        shown = client.collect(msg_id).of_type("display_data")
        assert [text_of(each) for each in shown] == [str(n) for n in range(ways.FLOOD)]
        client.close()
        server.delete_kernel(kernel_id)
        assert_kernels_serve(server, monkeypatch, is_on=is_on)


class TestServerProxy:
    """``jupyter-server-proxy``, by which the server is reached at a path of its own."""

    def test_flood_is_whole_behind_it(
        self, start_with: StartWith, is_on: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stops its websocket, which answers for the browser's, from missing what is written to it."""
        server = start_with("jupyter_server_proxy")
        if is_on:
            assert_both_say_on(server)
        through = f"/proxy/{server.port}/"
        assert "started" in server.at(through).status()
        assert_kernels_serve(server, monkeypatch, is_on=is_on, base_url=through)


class TestNbmodel:
    """``jupyter-server-nbmodel``, which runs cells in the server with a client of its own."""

    def run(self, server: Server, kernel_id: str, code: str) -> list[dict[str, Any]]:
        """Have it run a cell; the outputs that it has kept."""
        server.request("POST", f"/api/kernels/{kernel_id}/execute", {"code": code})
        (asked,) = server.request("GET", f"/api/kernels/{kernel_id}/execute")["requests"]

        def answer() -> dict[str, Any] | None:
            found: dict[str, Any] = server.request("GET", asked["request_url"])
            return None if found["pending"] else found

        outputs = wait_until(answer, what="the cell's end")["outputs"]
        return list(json.loads(outputs))

    def test_outputs_are_whole_in_a_flood(
        self, start_with: StartWith, is_on: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stops a cell that the server runs from missing output, and a tab beside it as well."""
        server = start_with("jupyter_server_nbmodel")
        if is_on:
            assert_both_say_on(server)
        kernel_id = server.start_kernel()
        client = Client(server, kernel_id).settle()
        outputs = self.run(server, kernel_id, f"for n in range({ways.FLOOD}): display(n)")
        shown = [str(n) for n in range(ways.FLOOD)]
        assert [each["data"]["text/plain"] for each in outputs] == shown
        beside = client.messages(lambda m: text_of(m) == shown[-1])
        assert [text_of(each) for each in beside if text_of(each)] == shown
        client.close()
        server.delete_kernel(kernel_id)
        assert_kernels_serve(server, monkeypatch, is_on=is_on)


class TestNextgenKernelsApi:
    """``nextgen-kernels-api``, which is linked after kernelwire and sets both classes."""

    def test_it_keeps_its_classes_and_both_say_so(
        self, start_with: StartWith, is_on: bool, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Stops a log and a ``status`` that say on where another package's classes serve."""
        server = start_with(NEXTGEN)
        if is_on:
            why = f"it was set by the extension {NEXTGEN}"
            used = [f"{theirs} is used: {why}" for theirs in THEIRS.values()]
            assert in_use(server) == ["; ".join(["off", *used])]
            said = status(server)
            assert not said.is_on
            for trait, theirs in THEIRS.items():
                assert said.of(trait) == (theirs, why)
            assert said.of("receiving")[0] == "not at all"
        assert_kernels_serve(server, monkeypatch, is_on=False)
