"""What a notebook user sees of a running cell: results, output, widgets, questions."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support import cells
from support.bodies import interrupt_a_cell
from support.fake_kernel import buffer_bytes
from support.ws_client import Client, Connect, Execution

if TYPE_CHECKING:
    from pathlib import Path

    from support.messages import Message
    from support.server import Server, StartKernel

BUFFER_SIZES = (0, 1, 125, 126, 65_535, 65_536, 1_048_577)


@pytest.fixture
def client(connect: Connect, shared_kernel: str, protocol: str) -> Client:
    """A client on the shared ipykernel, in each subprotocol."""
    return connect(shared_kernel, protocol=protocol)


def shown_numbers(execution: Execution) -> list[int]:
    """The numbers that `display_numbers` put on the page."""
    return [int(m.content["data"]["text/plain"]) for m in execution.of_type("display_data")]


def test_cell_when_it_ends_with_a_value_then_result_lies_between_busy_and_idle(
    client: Client,
) -> None:
    """Stops outputs that arrive outside their cell: the front end would show them elsewhere."""
    execution = client.execute("20 + 22")
    # Upstream's probe of the kernel may still be answered on iopub when the cell is run.
    own = [m for m in execution.messages if m.parent_id == execution.request_id]
    iopub = [m for m in own if m.channel == "iopub"]
    assert [m.msg_type for m in iopub] == ["status", "execute_input", "execute_result", "status"]
    assert iopub[0].is_status("busy")
    assert iopub[-1].is_status("idle")
    assert iopub[2].content["data"]["text/plain"] == "42"
    assert all(m.msg_type == "status" for m in execution.messages if m not in own)


def test_cell_when_it_prints_then_both_streams_arrive_unchanged(client: Client) -> None:
    """Stops text that is lost, doubled or garbled on the way."""
    text = "plain, ünïcödé, \N{SNAKE}, \0, \\, \" and '"
    code = f"import sys\nprint({text!r})\nprint({text!r}, file=sys.stderr)"
    execution = client.execute(code)
    assert execution.text("stdout") == text + "\n"
    assert execution.text("stderr") == text + "\n"


def test_cell_when_it_displays_then_data_and_metadata_arrive(client: Client) -> None:
    """Stops rich output that loses a field."""
    code = (
        "from IPython.display import display\n"
        "display({'text/plain': 'x', 'application/json': {'a': [1, None, 0.5]}},"
        " metadata={'isolated': True}, raw=True, display_id='one')\n"
        "display({'text/plain': 'y'}, raw=True, display_id='one', update=True)"
    )
    execution = client.execute(code)
    (shown,) = execution.of_type("display_data")
    (updated,) = execution.of_type("update_display_data")
    assert shown.content["data"]["application/json"] == {"a": [1, None, 0.5]}
    assert shown.content["metadata"] == {"isolated": True}
    assert updated.content["transient"] == {"display_id": "one"}


def test_cell_when_it_raises_then_error_arrives_on_both_channels(client: Client) -> None:
    """Stops failures that a user cannot see."""
    execution = client.execute("1 / 0")
    (error,) = execution.of_type("error")
    assert error.content["ename"] == "ZeroDivisionError"
    assert "division by zero" in "".join(error.content["traceback"])
    assert execution.reply.content["status"] == "error"


def test_comm_when_client_opens_it_then_buffers_come_back_byte_for_byte(client: Client) -> None:
    """Stops widget data that is cut, shifted or merged in either direction."""
    client.execute(cells.ECHO_COMM)
    buffers = tuple(buffer_bytes(size) for size in BUFFER_SIZES)
    comm = {"comm_id": f"echo-{client.session_id}"}

    opening = comm | {"target_name": "echo", "data": {"n": 1}}
    (echo,) = said_by_comm(client, client.send("shell", "comm_open", opening, buffers=buffers))
    assert echo.buffers == buffers

    update = comm | {"data": {"n": 2}}
    (echo,) = said_by_comm(client, client.send("shell", "comm_msg", update, buffers=buffers))
    assert echo.content["data"] == {"n": 2}
    assert echo.buffers == tuple(b[::-1] for b in buffers)

    closing = client.send("shell", "comm_close", comm | {"data": {"n": 3}})
    assert client.until_idle(closing).text() == "closed with {'n': 3}\n"


def said_by_comm(client: Client, msg_id: str) -> list[Message]:
    """What the kernel's side of a comm said in answer to a message."""
    return client.until_idle(msg_id).of_type("comm_msg")


def test_comm_when_kernel_opens_it_then_open_msg_close_arrive_in_order(client: Client) -> None:
    """Stops widgets that never appear, or appear without their data."""
    execution = client.execute(cells.OPEN_COMM)
    spoken = [m for m in execution.messages if m.msg_type.startswith("comm_")]
    assert [m.msg_type for m in spoken] == ["comm_open", "comm_msg", "comm_close"]
    assert [m.content["data"] for m in spoken] == [{"n": 1}, {"n": 2}, {"n": 3}]
    assert spoken[0].buffers == (bytes(range(256)), b"", b"x")
    assert spoken[1].buffers == (bytes(range(256)) * 300,)


def test_input_when_cell_asks_then_answer_reaches_it(client: Client) -> None:
    """Stops cells that wait for ever for the user's answer."""
    msg_id = client.start("name = input('who? ')\nprint('hello', name)", allow_stdin=True)
    *_, question = client.messages(until=lambda m: m.msg_type == "input_request")
    assert (question.channel, question.content["prompt"]) == ("stdin", "who? ")
    client.send("stdin", "input_reply", {"value": "wörld", "status": "ok"}, parent=question)
    assert client.collect(msg_id).text() == "hello wörld\n"


def test_inspection_when_asked_then_what_is_known_comes_back_on_shell(client: Client) -> None:
    """Stops replies other than execute's from getting lost."""
    client.execute("inspected = 'by name'")
    execution = client.ask("shell", "inspect_request", {"code": "inspected", "cursor_pos": 9})
    (reply,) = execution.of_type("inspect_reply")
    assert reply.channel == "shell"
    assert "by name" in reply.content["data"]["text/plain"]


def test_control_when_kernel_is_busy_then_it_answers_meanwhile(client: Client, gate: Path) -> None:
    """Stops control requests that queue behind a running cell."""
    msg_id = client.start(cells.print_once("running") + cells.wait_for(gate))
    client.messages(until=lambda m: m.msg_type == "stream")
    asked = client.send("control", "kernel_info_request", {})
    *_, reply = client.messages(until=lambda m: m.msg_type == "kernel_info_reply")
    assert (reply.channel, reply.parent_id) == ("control", asked)
    gate.touch()
    client.collect(msg_id)


def test_interrupt_when_cell_sleeps_then_it_ends_and_the_next_runs(
    server: Server, client: Client, shared_kernel: str
) -> None:
    """Stops a kernel that cannot be stopped, or is deaf afterwards."""
    interrupt_a_cell(server, client, shared_kernel)


def test_output_when_kernel_floods_then_order_is_kept(client: Client) -> None:
    """Stops reordering under load: the last progress shown must be the last made."""
    shown = shown_numbers(client.execute(cells.display_numbers(0, 2000)))
    assert shown == sorted(set(shown))


@pytest.mark.kernelwire_only("H10")
def test_output_when_kernel_floods_then_nothing_is_lost(client: Client) -> None:
    """Stops output that silently falls out of a full socket queue."""
    shown = shown_numbers(client.execute(cells.display_numbers(0, 2000)))
    assert shown == list(range(2000))


def test_clients_when_two_share_a_kernel_then_only_the_asker_gets_the_reply(
    connect: Connect, shared_kernel: str, protocol: str
) -> None:
    """Stops replies that land at another tab, and tabs that miss shared output."""
    asker = connect(shared_kernel, protocol=protocol)
    observer = connect(shared_kernel, protocol=protocol)
    execution = asker.execute("print('for both')")
    seen = observer.messages(until=lambda m: m.is_status("idle", execution.request_id))
    assert Execution(execution.request_id, seen).text() == execution.text() == "for both\n"
    seen += observer.execute("print('mine')").messages
    replies = [m.parent_id for m in seen if m.msg_type == "execute_reply"]
    assert execution.request_id not in replies
    assert len(replies) == 1


def test_clients_when_they_speak_different_protocols_then_both_see_the_same(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops one protocol's frames from leaking into the other's connection."""
    kernel_id = start_kernel("fake")
    modern, old = connect(kernel_id, protocol="v1"), connect(kernel_id, protocol="legacy")
    step = '[{"do": "emit", "type": "comm_msg", "count": 5, "size": 10, "buffers": [3, 0, 70000]}]'
    execution = modern.execute(step)
    seen = old.messages(until=lambda m: m.is_status("idle", execution.request_id))
    mirrored = Execution(execution.request_id, seen)
    assert execution.numbers == mirrored.numbers == [0, 1, 2, 3, 4]
    for ours, theirs in zip(
        execution.of_type("comm_msg"), mirrored.of_type("comm_msg"), strict=True
    ):
        assert (ours.content, ours.buffers) == (theirs.content, theirs.buffers)
        assert ours.buffers == tuple(buffer_bytes(size) for size in (3, 0, 70000))


def test_state_when_cell_runs_then_rest_reports_busy_then_idle(
    server: Server, client: Client, shared_kernel: str, gate: Path
) -> None:
    """Stops a culler that sees a working kernel as idle, or an idle one as working."""
    msg_id = client.start(cells.wait_for(gate))
    server.wait_for_state(shared_kernel, "busy")
    gate.touch()
    client.collect(msg_id)
    server.wait_for_state(shared_kernel, "idle")
