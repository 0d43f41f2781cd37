"""What becomes of a connection when tabs, kernels and servers come and go."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from support import cells
from support.fake_kernel import emit, script
from support.waiting import wait_until
from support.ws_client import Client, Connect, numbers

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.messages import Message
    from support.server import Server, StartKernel, StartServer

SHUTDOWN_SECONDS = 15.0


def wait_for(gate: Path) -> dict[str, object]:
    """A step that goes on when the file exists."""
    return {"do": "wait_for", "path": str(gate)}


def leave(server: Server, client: Client, kernel_id: str) -> None:
    """Close the only client, and wait until the server has noticed."""
    client.close()
    server.wait_for_connections(kernel_id, 0)


def last_number(number: int) -> Callable[[Message], bool]:
    """A condition: the message with this number came."""
    return lambda message: message.metadata.get("number") == number


# tabs


def test_reconnect_when_session_is_the_same_then_missed_messages_come_first_and_once(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path, protocol: str
) -> None:
    """Stops output of a closed tab from being lost, doubled or mixed with what follows."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    msg_id = client.start(script(emit(1), wait_for(gate), emit(50, size=100)))
    client.messages(until=last_number(0))
    leave(server, client, kernel_id)
    gate.touch()
    server.wait_for_state(kernel_id, "idle")

    again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
    replayed = again.collect(msg_id)
    live = again.execute(script(emit(5)))
    assert replayed.numbers == list(range(1, 51))
    assert [m.msg_type for m in replayed.messages].count("execute_reply") == 1
    assert live.numbers == list(range(51, 56))


def test_reconnect_when_kernel_still_runs_then_replay_joins_live_output_in_order(
    server: Server, connect: Connect, start_kernel: StartKernel, tmp_path: Path
) -> None:
    """Stops a seam between what was kept and what comes next: no gap, no repeat, no swap."""
    kernel_id = start_kernel("fake")
    gone, back = tmp_path / "gone", tmp_path / "back"
    client = connect(kernel_id)
    steps = (emit(1), wait_for(gone), emit(200), wait_for(back), emit(200))
    msg_id = client.start(script(*steps))
    client.messages(until=last_number(0))
    leave(server, client, kernel_id)
    gone.touch()
    again = connect(kernel_id, session_id=client.session_id, settle=False)
    before = again.messages(until=last_number(200))
    back.touch()
    after = again.collect(msg_id)
    assert numbers(before) + after.numbers == list(range(1, 401))


def test_reconnect_when_connection_was_reset_then_new_one_works(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a tab from being locked out after its network broke."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    client.reset()
    server.wait_for_connections(kernel_id, 0)
    again = connect(kernel_id, session_id=client.session_id)
    assert again.execute(script(emit(3))).numbers == [0, 1, 2]


def test_reconnect_when_session_is_another_then_buffer_is_discarded(
    server: Server, connect: Connect, start_kernel: StartKernel, gate: Path
) -> None:
    """Stops one person's missed output from turning up in another's tab."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    client.start(script(emit(1), wait_for(gate), emit(20)))
    client.messages(until=last_number(0))
    leave(server, client, kernel_id)
    gate.touch()
    server.wait_for_state(kernel_id, "idle")
    log_end = server.log_end()
    stranger = connect(kernel_id, settle=False)
    execution = stranger.execute(script(emit(2)))
    assert execution.numbers == [21, 22]
    assert "buffered messages for" in server.log(log_end)


def test_session_when_opened_twice_then_the_stale_connection_is_replaced(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops a half-dead connection from keeping the replies of the one that replaced it."""
    kernel_id = start_kernel("fake")
    stale = connect(kernel_id, protocol=protocol)
    log_end = server.log_end()
    fresh = connect(kernel_id, protocol=protocol, session_id=stale.session_id, settle=False)
    _, code = stale.rest()
    assert code in (1000, 1005, 1006)
    assert fresh.execute(script(emit(3))).numbers == [0, 1, 2]
    assert "Replacing stale connection" in server.log(log_end)
    server.wait_for_connections(kernel_id, 1)


def test_connections_when_tabs_come_and_go_then_count_follows(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a culler that takes a kernel from under a live tab, or never takes an empty one."""
    kernel_id = start_kernel("fake")
    clients = [connect(kernel_id) for _ in range(3)]
    server.wait_for_connections(kernel_id, 3)
    clients[0].close()
    clients[1].reset()
    server.wait_for_connections(kernel_id, 1)
    assert clients[2].execute(script(emit(1))).numbers == [0]
    clients[2].close()
    server.wait_for_connections(kernel_id, 0)


def test_files_when_tabs_come_and_go_then_none_stay_open(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops descriptors that leak with every page reload until the server can open no more."""
    kernel_id = start_kernel("fake")
    leave(server, connect(kernel_id), kernel_id)
    before = server.open_files()
    for _ in range(10):
        leave(server, connect(kernel_id), kernel_id)
    server.wait_for_files(before + 2)


# kernels


def test_restart_when_output_flows_then_socket_stays_open_and_silent(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a restart from cutting the tab off: the front end restarts over REST alone."""
    kernel_id = start_kernel()
    client = connect(kernel_id)
    old_session = client.execute("1").reply.header["session"]
    code = "import itertools, time\nfor i in itertools.count():\n print(i)\n time.sleep(0.001)"
    client.start(code)
    client.messages(until=lambda m: m.msg_type == "stream")
    server.restart_kernel(kernel_id)
    execution = client.meet_new_kernel().execute("print('a new kernel')")
    assert execution.text() == "a new kernel\n"
    assert execution.reply.header["session"] != old_session
    assert not any(b"restarting" in frame for frame in client.raw_frames)


def test_death_when_kernel_is_killed_then_its_output_comes_before_restarting(
    connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops the last words of a crashed kernel from being lost behind the notice."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    client.start(script(emit(500), {"do": "exit"}))
    messages = client.messages(until=lambda m: m.is_status("restarting"))
    assert numbers(messages) == list(range(500))
    notice = messages[-1]
    assert (notice.channel, notice.parent_header) == ("iopub", {})
    assert client.meet_new_kernel().execute(script(emit(2))).numbers == [0, 1]


@pytest.mark.dirty_log
def test_death_when_ipykernel_gets_sigkill_then_tab_is_told_and_can_go_on(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a cell that hangs at [*] for ever after the kernel ran out of memory."""
    client = connect(start_kernel())
    pid = int(client.execute("import os\nprint(os.getpid())").text())
    client.start(cells.print_once("last words") + "import time\ntime.sleep(60)")
    client.messages(until=lambda m: m.msg_type == "stream")
    os.kill(pid, signal.SIGKILL)
    client.messages(until=lambda m: m.is_status("restarting"))
    assert client.meet_new_kernel().execute("print('alive')").text() == "alive\n"


def test_delete_when_tab_is_open_then_server_and_other_kernels_go_on(
    server: Server, connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops a deleted kernel from taking its neighbours, or the server, with it."""
    doomed, other = start_kernel("fake"), start_kernel("fake")
    client, bystander = connect(doomed), connect(other)
    server.delete_kernel(doomed)
    client.send("shell", "kernel_info_request", {})
    assert bystander.execute(script(emit(3))).numbers == [0, 1, 2]
    client.close()
    assert doomed not in {kernel["id"] for kernel in server.kernels()}


def test_connect_when_kernel_is_unknown_then_handshake_is_refused(connect: Connect) -> None:
    """Stops a tab from waiting on a kernel that does not exist."""
    with pytest.raises(Exception, match="404"):
        connect("00000000-0000-0000-0000-000000000000")


# the server


@pytest.mark.parametrize("kernel_name", ["python3", "fake"])
def test_shutdown_when_sockets_are_open_then_it_is_prompt_and_clean(
    start_server: StartServer, connect: Connect, kernel_name: str
) -> None:
    """Stops a server that hangs on exit, or dies with tracebacks, because tabs are open."""
    server = start_server()
    kernel_id = server.start_kernel(kernel_name)
    clients = [connect(kernel_id, on=server, protocol=p) for p in ("v1", "legacy")]
    assert server.stop(SHUTDOWN_SECONDS) == 0
    assert all(client.rest()[1] in (1000, 1001, 1005, 1006) for client in clients)
    assert "Traceback" not in server.log()


def test_shutdown_when_a_kernel_floods_then_it_is_prompt(
    start_server: StartServer, connect: Connect
) -> None:
    """Stops a flood from keeping the event loop so busy that a server cannot be stopped."""
    server = start_server({"KernelManager": {"shutdown_wait_time": 1.0}})
    client = connect(server.start_kernel("fake"), on=server)
    client.start(script(emit(10**9)))
    client.messages(until=last_number(100))
    server.stop(SHUTDOWN_SECONDS)


@pytest.mark.kernelwire_only("a second subscription costs every message once more")
def test_subscriptions_when_clients_come_and_go_then_the_kernel_sends_everything_once(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops the activity watcher from having the kernel send, and the server receive, it all twice."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id, protocol=protocol)
    for _ in range(2):
        assert client.execute(script(emit(3))).numbers
        wait_until(lambda: server.subscriptions(kernel_id) == 1, what="one subscription")
        assert server.kernel(kernel_id)["execution_state"] == "idle"
        leave(server, client, kernel_id)
        # What is closed here, libzmq's thread closes a moment later.
        wait_until(lambda: server.subscriptions(kernel_id) == 1, what="one subscription")
        client = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
    stranger = connect(kernel_id, protocol=protocol)
    client.close()
    server.wait_for_connections(kernel_id, 1)
    assert stranger.execute(script(emit(3))).numbers
    wait_until(lambda: server.subscriptions(kernel_id) == 1, what="one subscription")
    assert server.kernel(kernel_id)["execution_state"] == "idle"
