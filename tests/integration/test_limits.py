"""What the server withholds, what it says about that, and how much it may hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import script
from support.waiting import wait_until
from support.ws_client import Client, Connect, Execution

if TYPE_CHECKING:
    from pathlib import Path

    from support.server import Server, StartKernel, StartServer

MEBIBYTE = 1 << 20
# 400 MiB are on their way; a bounded server holds the bound and some slack.
FLOOD = {"do": "emit", "type": "display_data", "count": 400, "size": MEBIBYTE}
BOUND = 256 * MEBIBYTE

LIMITS = {"iopub_msg_rate_limit": 10, "iopub_data_rate_limit": 10_000, "rate_limit_window": 3}
ALLOWED_IN_WINDOW = 30
WARNING = """\
IOPub {what} rate exceeded.
The Jupyter server will temporarily stop sending output
to the client in order to avoid crashing it.
To change this limit, set the config variable
`--ServerApp.iopub_{key}_rate_limit`.

Current values:
ServerApp.iopub_{key}_rate_limit={value} ({unit}/sec)
ServerApp.rate_limit_window=3.0 (secs)

"""
MESSAGE_WARNING = WARNING.format(what="message", key="msg", value="10.0", unit="msgs")
DATA_WARNING = WARNING.format(what="data", key="data", value="10000.0", unit="bytes")


@pytest.fixture(scope="module")
def limited(start_server: StartServer) -> Server:
    """A server with tiny limits and little patience."""
    return start_server(
        {
            "ZMQChannelsWebsocketConnection": LIMITS,
            "MappingKernelManager": {"kernel_info_timeout": 2.0},
        }
    )


@pytest.fixture(scope="module")
def dropping(start_server: StartServer) -> Server:
    """A server with tiny limits, over which it drops."""
    return start_server(
        {
            "ZMQChannelsWebsocketConnection": LIMITS,
            "KernelwireWebsocketConnection": {"iopub_overflow": "drop"},
        }
    )


@pytest.fixture(scope="module")
def restricted(start_server: StartServer) -> Server:
    """A server that hides tracebacks, allows few requests, and drops what exceeds the limits."""
    return start_server(
        {
            "ZMQChannelsWebsocketConnection": LIMITS,
            "KernelwireWebsocketConnection": {"iopub_overflow": "drop"},
            "MappingKernelManager": {
                "allow_tracebacks": False,
                "traceback_replacement_message": "nothing to see",
                "allowed_message_types": ["execute_request", "kernel_info_request"],
            },
        }
    )


def emit(msg_type: str, count: int, size: int = 0) -> dict[str, object]:
    """A step that emits numbered outputs of a type."""
    return {"do": "emit", "type": msg_type, "count": count, "size": size}


def stderr_after(execution: Execution, shown: int) -> str:
    """What the server says on stderr right behind the first outputs."""
    outputs = [m for m in execution.messages if m.msg_type in ("display_data", "stream")]
    assert len(outputs) == shown + 1
    notice = outputs[shown]
    assert notice.parent_id == execution.request_id
    assert notice.content["name"] == "stderr"
    return notice.content["text"]


# the rate


def test_rate_when_messages_exceed_it_then_the_rest_is_dropped_behind_one_warning(
    dropping: Server, connect: Connect, protocol: str
) -> None:
    """Stops a runaway cell from crashing the browser, and users from not being told."""
    client = connect(dropping.start_kernel("fake"), on=dropping, protocol=protocol)
    log_end = dropping.log_end()
    execution = client.execute(script(emit("display_data", 100)))
    assert execution.numbers == list(range(ALLOWED_IN_WINDOW))
    assert stderr_after(execution, ALLOWED_IN_WINDOW) == MESSAGE_WARNING
    assert "IOPub message rate exceeded." in "".join(dropping.log_lines(log_end))
    # Idle starts a new account.
    assert client.execute(script(emit("display_data", 20))).numbers == list(range(100, 120))


def test_rate_when_stream_bytes_exceed_it_then_the_rest_is_dropped_behind_one_warning(
    dropping: Server, connect: Connect, protocol: str
) -> None:
    """Stops endless printing from crashing the browser, and users from not being told."""
    client = connect(dropping.start_kernel("fake"), on=dropping, protocol=protocol)
    execution = client.execute(script(emit("stream", 1, size=100), emit("stream", 1, size=40_000)))
    assert execution.numbers == [0]
    assert stderr_after(execution, 1) == DATA_WARNING


def test_rate_when_overflow_is_dropped_then_streams_count_one_by_one(
    restricted: Server, connect: Connect
) -> None:
    """Stops the setting that asks for the stock limiter from doing something else."""
    client = connect(restricted.start_kernel("fake"), on=restricted)
    execution = client.execute(script(emit("stream", 100)))
    assert execution.numbers == list(range(ALLOWED_IN_WINDOW))
    assert stderr_after(execution, ALLOWED_IN_WINDOW) == MESSAGE_WARNING


@pytest.mark.kernelwire_only("H22")
def test_rate_when_a_cell_prints_line_by_line_then_all_its_text_arrives(
    limited: Server, connect: Connect
) -> None:
    """Stops a progress log from being cut because it came in many small pieces."""
    client = connect(limited.start_kernel(), on=limited)
    execution = client.execute("for n in range(500): print(n, flush=True)")
    assert execution.text() == "".join(f"{n}\n" for n in range(500))
    assert execution.text("stderr") == ""
    assert execution.messages[-1].is_status("idle") or execution.messages[-2].is_status("idle")


@pytest.mark.kernelwire_only("H22")
def test_rate_when_displays_exceed_it_then_they_wait_and_all_arrive(
    limited: Server, connect: Connect, protocol: str
) -> None:
    """Stops a loop that displays fast from losing what it displays."""
    client = connect(limited.start_kernel("fake"), on=limited, protocol=protocol)
    execution = client.execute(script(emit("display_data", 60)))
    assert execution.numbers == list(range(60))
    assert execution.text("stderr") == ""


@pytest.mark.kernelwire_only("I15")
def test_interrupt_when_output_waits_then_it_is_skipped_and_the_cell_ends(
    limited: Server, connect: Connect, protocol: str, gate: Path
) -> None:
    """Stops an endless cell from showing for minutes after it was interrupted."""
    kernel_id = limited.start_kernel()
    client = connect(kernel_id, on=limited, protocol=protocol)
    said = f"import pathlib, time\npathlib.Path({str(gate)!r}).touch()\ntime.sleep(600)"
    request_id = client.start(f"for _ in range(300): display('x')\n{said}")
    wait_until(gate.exists, what="the end of what the cell displays")
    limited.interrupt_kernel(kernel_id)
    rest = client.messages(until=lambda m: m.is_status("idle", request_id))
    assert [m.content["ename"] for m in rest if m.msg_type == "error"] == ["KeyboardInterrupt"]
    notices = [m.content["text"] for m in rest if m.msg_type == "stream"]
    assert ["were skipped because the kernel was interrupted" in text for text in notices] == [True]


@pytest.mark.kernelwire_only("H22")
@pytest.mark.parametrize("msg_type", ["error", "execute_result", "comm_close", "clear_output"])
def test_rate_when_it_is_exceeded_then_what_matters_is_still_sent(
    limited: Server, connect: Connect, msg_type: str
) -> None:
    """Stops failures and results from vanishing behind a flood of output."""
    client = connect(limited.start_kernel("fake"), on=limited)
    execution = client.execute(script(emit("display_data", 100), emit(msg_type, 1)))
    assert [m.metadata["number"] for m in execution.of_type(msg_type)] == [100]


@pytest.mark.kernelwire_only("H4")
def test_rate_when_missed_output_is_replayed_then_it_is_not_limited(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops output made at a legal rate from being dropped because it is read at once."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    wait = {"do": "wait_for", "path": str(gate)}
    msg_id = client.start(script(emit("display_data", 1), wait, emit("display_data", 5000)))
    client.messages(until=lambda m: m.metadata.get("number") == 0)
    client.close()
    server.wait_for_connections(kernel_id, 0)
    gate.touch()
    server.wait_for_state(kernel_id, "idle")
    again = connect(kernel_id, session_id=client.session_id, settle=False)
    assert again.collect(msg_id).numbers == list(range(1, 5001))


# requests and tracebacks


def test_request_when_its_type_is_not_allowed_then_it_never_reaches_the_kernel(
    restricted: Server, connect: Connect, protocol: str
) -> None:
    """Stops a whitelist that lets something through, or that costs the connection."""
    client = connect(restricted.start_kernel("fake"), on=restricted, protocol=protocol)
    log_end = restricted.log_end()
    refused = client.send("shell", "comm_msg", {"comm_id": "x", "data": {}})
    execution = client.execute(script(emit("display_data", 1)))
    assert refused not in {m.parent_id for m in execution.messages}
    warning = 'Received message of type "comm_msg", which is not allowed. Ignoring.'
    assert warning in restricted.log(log_end)


@pytest.mark.kernelwire_only("H2")
def test_traceback_when_hidden_then_error_is_replaced_and_output_goes_on(
    restricted: Server, connect: Connect, protocol: str
) -> None:
    """Stops a privacy setting from silencing every cell after the first error."""
    client = connect(restricted.start_kernel("fake"), on=restricted, protocol=protocol)
    (error,) = client.execute(script(emit("error", 1))).of_type("error")
    assert error.content == {
        "ename": "ExecutionError",
        "evalue": "Execution error",
        "traceback": ["nothing to see"],
    }
    assert client.execute(script(emit("display_data", 3))).numbers == [1, 2, 3]


# the memory


@pytest.mark.kernelwire_only("H15")
def test_memory_when_client_does_not_read_then_it_is_bounded_and_the_loss_is_told(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops one sleeping laptop from eating the server's memory."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    resident = server.resident_bytes()
    msg_id = client.start(script(FLOOD))
    server.wait_for_state(kernel_id, "busy")
    server.wait_for_state(kernel_id, "idle")
    assert server.resident_bytes() - resident < BOUND
    execution = client.collect(msg_id)
    assert_ordered_and_told(execution)


@pytest.mark.kernelwire_only("H17")
def test_memory_when_nobody_is_connected_then_it_is_bounded_and_the_loss_is_told(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops a closed tab from eating the server's memory."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    resident = server.resident_bytes()
    msg_id = client.start(script({"do": "wait_for", "path": str(gate)}, FLOOD))
    client.messages(until=lambda m: m.is_status("busy", msg_id))
    client.close()
    server.wait_for_connections(kernel_id, 0)
    gate.touch()
    server.wait_for_state(kernel_id, "idle")
    assert server.resident_bytes() - resident < BOUND
    again = connect(kernel_id, session_id=client.session_id, settle=False)
    assert_ordered_and_told(again.collect(msg_id))


def assert_ordered_and_told(execution: Execution) -> None:
    """What is left is in order, and a notice tells that something is missing."""
    left = execution.numbers
    assert left == sorted(set(left))
    assert len(left) < FLOOD["count"]
    assert "dropped" in execution.text("stderr")


# connections that never come to life


@pytest.mark.kernelwire_only("H5")
@pytest.mark.dirty_log
def test_connection_when_kernel_is_mute_then_it_is_given_up_without_a_trace(
    limited: Server, connect: Connect
) -> None:
    """Stops failed attempts from counting as tabs for ever: such a kernel is never culled."""
    kernel_id = limited.start_kernel("fake-mute")
    client = connect(kernel_id, on=limited, settle=False)
    client.rest()
    limited.wait_for_connections(kernel_id, 0)


@pytest.mark.kernelwire_only("H6")
def test_connection_when_it_is_dropped_in_the_handshake_then_count_stays_zero(
    limited: Server,
) -> None:
    """Stops a negative count, with which a live tab's kernel is culled."""
    kernel_id = limited.start_kernel("fake-mute")
    with pytest.raises(TimeoutError):
        Client(limited, kernel_id, handshake_timeout=0.3)
    wait_until(lambda: limited.open_connections() == 0, what="the end of the connection")
    assert limited.kernel(kernel_id)["connections"] == 0
