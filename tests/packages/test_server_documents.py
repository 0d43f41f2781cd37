"""``jupyter-server-documents``, which has a connection class of its own, and rooms that run cells.

It takes the place of ``jupyter-collaboration``'s server extension, whose front end it works with.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from benches.notebooks import notebook
from jupyter_server_documents.rooms import ynotebook_room

from support import ways
from support.extensions import SERVER_DOCUMENTS, STAND_IN, in_use, status
from support.fake_kernel import emit, script
from support.server import RestError
from support.waiting import wait_until
from support.ws_client import Client

if TYPE_CHECKING:
    import pytest

    from support.extensions import StartWith
    from support.messages import Message
    from support.server import Server

TRAIT = "kernel_websocket_connection_class"
NAME = "jupyter_server_documents"
OURS = "kernelwire.connection.websocket.KernelwireWebsocketConnection"
EXTENSIONS = (NAME, "jupyter_server_fileid")
KEPT = f"{SERVER_DOCUMENTS} is kept: it was set by the extension {NAME}"
REMEDY = f'c.KernelwireWebsocketConnection.stand_in_for = ["{SERVER_DOCUMENTS}"]'


class Room:
    """The room of a notebook with one cell, which the server runs."""

    def __init__(self, server: Server, code: str) -> None:
        self.server, self.code = server, code
        self.path = "shared.ipynb"
        (server.home / self.path).write_text(json.dumps(notebook([code])))
        self.file_id = server.request("POST", f"/api/fileid/index?path={self.path}", {})["id"]
        model = {"path": self.path, "name": self.path, "type": "notebook"}
        kernel = {"kernel": {"name": "python3"}}
        self.session = server.request("POST", "/api/sessions", model | kernel)
        self.kernel_id = self.session["kernel"]["id"]

    def start(self) -> bool:
        """Have the cell run; whether that is accepted, as the room connects in its own time."""
        cell = {"cell_id": "c0", "source_hash": ynotebook_room._source_hash(self.code)}
        body = {"document_id": f"json:notebook:{self.file_id}", "cells": [cell]}
        try:
            self.server.request("POST", f"/api/kernels/{self.kernel_id}/execute", body)
        except RestError as error:
            if error.status == 400:
                return False
            raise
        return True

    def outputs(self) -> list[dict[str, Any]] | None:
        """What the room has written into the file, once the cell has ended."""
        try:
            (cell,) = json.loads((self.server.home / self.path).read_text())["cells"]
        except json.JSONDecodeError:
            return None  # it is being written
        return cell["outputs"] if cell["execution_count"] else None

    def end(self) -> None:
        """End the session, and its kernel."""
        self.server.request("DELETE", f"/api/sessions/{self.session['id']}")


def assert_flood_is_whole(server: Server, count: int = ways.FLOOD) -> None:
    """A tab gets all; it begins only when it is subscribed, which a tab there has to find out."""
    kernel_id = server.start_kernel("fake")
    client = Client(server, kernel_id).meet_new_kernel()
    assert client.execute(script(emit(count, size=100))).numbers == list(range(count))
    client.close()
    server.delete_kernel(kernel_id)


def assert_room_is_whole(server: Server) -> None:
    """A room has all outputs of a cell that floods, and a tab beside it as well."""
    shown = [str(n) for n in range(ways.FLOOD)]
    room = Room(server, f"for n in range({ways.FLOOD}): display(n)")
    tab = Client(server, room.kernel_id).meet_new_kernel()
    wait_until(room.start, what="a room that has its notebook and its kernel")
    beside = tab.messages(lambda m: text_of(m) == shown[-1])
    outputs = wait_until(room.outputs, what="the end of the room's cell", timeout=120)
    assert ["".join(each["data"]["text/plain"]) for each in outputs] == shown
    assert [text_of(each) for each in beside if text_of(each)] == shown
    tab.close()
    room.end()


def text_of(message: Message) -> str:
    """What a message displays; empty where it displays nothing."""
    return str(message.content.get("data", {}).get("text/plain", ""))


def test_connection_when_the_extension_has_its_own_then_it_is_kept_and_works(
    start_with: StartWith, is_on: bool
) -> None:
    """Stops rooms or tabs from missing output, as kernelwire's manager is in place all the same."""
    server = start_with(*EXTENSIONS)
    if is_on:
        assert in_use(server) == [f"on for the kernel manager only, receiving natively; {KEPT}"]
        said = status(server)
        assert not said.is_on
        assert said.of(TRAIT) == (SERVER_DOCUMENTS, f"it was set by the extension {NAME}")
        assert REMEDY in said.output
        assert "driver" not in said.output
    assert_flood_is_whole(server)
    assert_room_is_whole(server)


def test_connection_when_kernelwire_is_linked_first_then_it_is_theirs_as_well(
    start_with: StartWith, is_on: bool
) -> None:
    """Stops a log that says on where they have come later."""
    server = start_with(*EXTENSIONS, first=True)
    if is_on:
        used = KEPT.replace("kept", "used")
        assert in_use(server) == [f"on for the kernel manager only, receiving natively; {used}"]
    assert_flood_is_whole(server)


def test_connection_when_it_stands_in_for_theirs_then_rooms_and_tabs_work(
    start_with: StartWith, is_on: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops ``stand_in_for`` from costing a room its outputs, and a tab what a room runs."""
    server = start_with(*EXTENSIONS, config=STAND_IN)
    if is_on:
        why = f"it stands in for {SERVER_DOCUMENTS}"
        assert in_use(server) == [f"on, receiving natively; {why}"]
        said = status(server)
        assert said.is_on
        assert said.of(TRAIT) == (OURS, why)
        assert REMEDY not in said.output
        kernel_id = server.start_kernel("fake")
        client = Client(server, kernel_id).settle()
        assert server.kernel(kernel_id)["connections"] == 1
        ways.assert_flood_is_whole(client)
        way = ways.way_of(client, kernel_id, ways.told(server, monkeypatch))
        assert way == ("engine", "engine")
        client.close()
    else:
        assert_flood_is_whole(server)
    assert_room_is_whole(server)


def test_first_tab_when_a_second_has_come_then_it_is_answered_by_kernelwires_connection(
    start_with: StartWith, is_on: bool
) -> None:
    """Stops two tabs from having one identity: a kernel's replies go to whoever came last then."""
    server = start_with(*EXTENSIONS, config=STAND_IN)
    kernel_id = server.start_kernel()
    first = Client(server, kernel_id).meet_new_kernel()
    second = Client(server, kernel_id).meet_new_kernel()
    try:
        answer = first.ask("shell", "kernel_info_request", {}, timeout=5)
        is_answered = bool(answer.of_type("kernel_info_reply"))
    except TimeoutError:
        is_answered = False
    assert is_answered == is_on
    second.close()
    first.close()
