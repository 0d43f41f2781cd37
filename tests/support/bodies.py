"""Tests of cells that are the same wherever a kernel runs: on a gateway, or on another machine."""

from __future__ import annotations

from typing import TYPE_CHECKING

from support import cells
from support.fake_kernel import emit, script
from support.waiting import wait_until
from support.ws_client import Execution

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Server
    from support.ws_client import Client, Connect

__all__ = ["Cells", "interrupt_a_cell", "leave_while_it_emits"]


class Cells:
    """To be inherited where ``kernel`` and ``client`` are fixtures: an ipykernel, and a client on it."""

    def test_result_and_output_arrive(self, connect: Connect, kernel: str, protocol: str) -> None:
        """In either protocol."""
        execution = connect(kernel, protocol=protocol).execute("print('ünïcödé'); 20 + 22")
        assert execution.text() == "ünïcödé\n"
        (result,) = execution.of_type("execute_result")
        assert result.content["data"]["text/plain"] == "42"

    def test_answer_to_a_question_reaches_the_cell(self, client: Client) -> None:
        """What a browser sends on stdin gets there."""
        msg_id = client.start("print('hello', input('who? '))", allow_stdin=True)
        *_, question = client.messages(until=lambda m: m.msg_type == "input_request")
        client.send("stdin", "input_reply", {"value": "wörld", "status": "ok"}, parent=question)
        assert client.collect(msg_id).text() == "hello wörld\n"

    def test_interrupt_ends_a_cell(self, server: Server, client: Client, kernel: str) -> None:
        """And the next one runs."""
        interrupt_a_cell(server, client, kernel)

    def test_two_tabs_see_the_same_and_get_their_own_replies(
        self, connect: Connect, kernel: str
    ) -> None:
        """Each tab has a connection of its own, on to a gateway as well."""
        asker, observer = connect(kernel), connect(kernel)
        execution = asker.execute("print('for both')")
        seen = observer.messages(until=lambda m: m.is_status("idle", execution.request_id))
        # A kernel may send a line in two pieces.
        assert Execution(execution.request_id, seen).text() == execution.text() == "for both\n"
        assert not [m for m in seen if m.is_reply_to(execution.request_id)]


def interrupt_a_cell(server: Server, client: Client, kernel_id: str) -> None:
    """Interrupt an ipykernel's cell that sleeps, and have the next one run."""
    msg_id = client.start(cells.print_once("asleep") + "import time\ntime.sleep(60)")
    client.messages(until=lambda m: m.msg_type == "stream")
    server.interrupt_kernel(kernel_id)
    (error,) = client.collect(msg_id).of_type("error")
    assert error.content["ename"] == "KeyboardInterrupt"
    assert client.execute("print('awake')").text() == "awake\n"


def leave_while_it_emits(
    server: Server, client: Client, kernel_id: str, gate: Path, count: int
) -> str:
    """Break a client's connection, and only then have a fake kernel emit; returns the request's id."""
    done = gate.with_name("done")
    wait_for_gate = {"do": "wait_for", "path": str(gate)}
    msg_id = client.start(script(wait_for_gate, emit(count), {"do": "touch", "path": str(done)}))
    client.messages(until=lambda m: m.is_status("busy", msg_id))
    client.reset()
    server.wait_for_connections(kernel_id, 0)
    gate.touch()
    wait_until(done.exists, what="the kernel")
    return msg_id
