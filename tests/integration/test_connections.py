"""How connections begin and end: whatever fails, nothing is leaked, miscounted or swallowed."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from tornado.web import Finish, HTTPError

from kernelwire._drain import Drain
from kernelwire.nudge import Nudge
from support.desk import finish, open_files, written
from support.fake_kernel import script
from support.waiting import wait_until, wait_until_async
from support.websocket import HandshakeRefusedError, WebSocket
from support.ws_client import Client, Connect, numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from support.desk import Desk, RunOnDesk
    from support.messages import Message
    from support.server import Server, StartKernel, StartServer

LIMITS = {"MappingKernelManager": {"kernel_info_timeout": 1.0}}
# The server pings every quarter of a second, and gives up on a client soon.
PINGS = {"ServerApp": {"tornado_settings": {"ws_ping_interval": 250, "ws_ping_timeout": 750}}}


def emit(count: int) -> dict[str, object]:
    """A step that emits numbered outputs."""
    return {"do": "emit", "count": count}


def numbered(message: Message) -> bool:
    """Whether this is one of the kernel's numbered outputs."""
    return "number" in message.metadata


# every failure, at every step


class InjectedError(Exception):
    """What the tests let fail."""


@dataclass
class Trial:
    """One connection that is made to fail; patches end with the stack."""

    desk: Desk
    connection: Any
    stack: ExitStack

    def breaks(self, owner: Any, name: str, *, calls_before: int = 0) -> None:
        """Let a method raise, after some calls that go well."""
        original = getattr(owner, name)
        calls = 0

        def failing(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > calls_before:
                raise InjectedError(name)
            return original(*args, **kwargs)

        self.stack.enter_context(patch.object(owner, name, failing))


def break_kernel_info(trial: Trial) -> None:
    trial.breaks(trial.connection, "request_kernel_info")


def break_liveness(trial: Trial) -> None:
    trial.breaks(trial.desk.kernel, "is_alive")


def drop_in_prepare(trial: Trial) -> None:
    """Let the client go while the kernel is asked."""
    connection = trial.connection
    asyncio.get_running_loop().call_soon(connection.disconnect)


def breaking_channel(channel: str, calls_before: int) -> Callable[[Trial], None]:
    def break_channel(trial: Trial) -> None:
        trial.breaks(trial.desk.kernel, f"connect_{channel}", calls_before=calls_before)

    return break_channel


def time_out(trial: Trial) -> None:
    """Let the kernel be found mute."""
    trial.connection.kernel_info_timeout = 0.05
    trial.stack.enter_context(silenced(trial.connection))


def break_nudge(trial: Trial) -> None:
    trial.breaks(trial.connection, "nudge")


def cancel_nudge(trial: Trial) -> None:
    """Let the caller lose patience."""
    connection = trial.connection
    original = connection.nudge

    def cancelled() -> Any:
        future = original()
        future.cancel()
        return future

    trial.stack.enter_context(patch.object(connection, "nudge", cancelled))


def break_restart_callbacks(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "add_restart_callback", calls_before=1)


def break_socket_option(trial: Trial) -> None:
    trial.breaks(trial.connection, "_set_nodelay")


def break_going_live(trial: Trial) -> None:
    trial.breaks(trial.connection, "_go_live")


def break_count(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "notify_connect")


def break_buffer(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "get_buffer")


def break_end(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "start_buffering")


FAULTS = {
    "kernel info": break_kernel_info,
    "liveness": break_liveness,
    "dropped in prepare": drop_in_prepare,
    "iopub": breaking_channel("iopub", 0),
    # The first shell channel may be the one that asks for the protocol version.
    "shell": breaking_channel("shell", 0),
    "control": breaking_channel("control", 0),
    "stdin": breaking_channel("stdin", 0),
    "probe on shell": breaking_channel("shell", 1),
    "probe on control": breaking_channel("control", 1),
    "no answer": time_out,
    "nudge": break_nudge,
    "cancelled": cancel_nudge,
    "restart callbacks": break_restart_callbacks,
    "socket option": break_socket_option,
    "going live": break_going_live,
    "count": break_count,
    "buffer": break_buffer,
    "end": break_end,
}
ROUNDS = 12


def footprint(the_desk: Desk) -> dict[str, Any]:
    """What connections leave behind, but for descriptors, which are closed a moment later."""
    cls = the_desk.connection_class
    callbacks = the_desk.kernel._restarter.callbacks
    return {
        "sessions": len(cls._open_sessions),
        "sockets": len(cls._open_sockets),
        "count": the_desk.count,
        "callbacks": {event: len(callbacks[event]) for event in callbacks},
    }


async def fail_once(the_desk: Desk, fault: Callable[[Trial], None], session_id: str | None) -> Any:
    """Connect as a server does, with a fault on the way; then the client goes."""
    connection = the_desk.connection()
    if session_id is not None:
        connection.session.session = session_id
    with ExitStack() as stack:
        fault(Trial(the_desk, connection, stack))
        try:
            await connection.prepare()
            await connection.connect()
        except (Exception, asyncio.CancelledError):
            pass
        # Twice: by the code that met the failure, and when the websocket closes.
        connection.disconnect()
        connection.disconnect()
    return connection


@pytest.mark.kernelwire_only("H5", "H6")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_connect_when_a_step_fails_then_nothing_is_left_of_it(
    desk: RunOnDesk, fault: Callable[[Trial], None]
) -> None:
    """Stops failed attempts from keeping kernels alive and eating up the descriptors."""

    async def body(the_desk: Desk) -> None:
        quiet(the_desk)
        the_desk.multi_kernel_manager.buffer_offline_messages = False
        (await the_desk.connected()).disconnect()
        before, files = footprint(the_desk), open_files()
        for _ in range(ROUNDS):
            await fail_once(the_desk, fault, None)
            assert footprint(the_desk) == before
        # The first connections of a process open some that stay, once.
        await wait_until_async(lambda: open_files() < files + 4, what="closed descriptors")
        connection = await the_desk.connected()
        assert the_desk.count == 1
        connection.disconnect()

    desk(body)


@pytest.mark.kernelwire_only("H5", "H18")
@pytest.mark.parametrize(
    "error", [InjectedError("why"), HTTPError(503, "why")], ids=["any", "HTTP"]
)
def test_connect_when_a_channel_cannot_be_opened_then_it_raises_without_a_message(
    desk: RunOnDesk, error: Exception
) -> None:
    """Stops a handler from going on with `None`, and the log from showing the request's address."""

    async def body(the_desk: Desk) -> None:
        quiet(the_desk)
        connection = the_desk.connection()
        await connection.prepare()
        with (
            patch.object(the_desk.kernel, "connect_iopub", side_effect=error),
            pytest.raises(HTTPError) as raised,
        ):
            connection.connect()
        assert raised.value.status_code == getattr(error, "status_code", 500)
        assert raised.value.log_message is None
        assert raised.value.__cause__ is error
        assert the_desk.count == 0

    desk(body)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.kernelwire_only("H5", "H6")
@pytest.mark.parametrize("native", [True, False], ids=["native", "portable"])
def test_connect_when_a_thousand_fail_in_turn_then_all_is_back_where_it_was(
    desk: RunOnDesk, native: bool
) -> None:
    """Stops a server that runs for months from being worn down, whatever fails after what."""
    order = random.Random(1)
    way = Drain(native, "the test's choice")
    tried = 0

    async def fail_in_turn(the_desk: Desk) -> int:
        faults = order.sample(list(FAULTS.values()), len(FAULTS))
        for fault in faults:
            await fail_once(the_desk, fault, None)
        return len(faults)

    async def body(the_desk: Desk) -> None:
        nonlocal tried
        quiet(the_desk)
        the_desk.multi_kernel_manager.buffer_offline_messages = False
        await fail_in_turn(the_desk)
        before, files = footprint(the_desk), open_files()
        while tried < 1000:
            tried += await fail_in_turn(the_desk)
            assert footprint(the_desk) == before
        await wait_until_async(lambda: open_files() <= files, what="closed descriptors")

    with (
        patch("kernelwire.reader.drain", lambda: way),
        patch("kernelwire.offline.drain", lambda: way),
    ):
        desk(body, timeout=240)


@pytest.mark.kernelwire_only("H5", "H6")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_connect_when_a_return_fails_then_missed_messages_wait_for_the_next(
    desk: RunOnDesk, fault: Callable[[Trial], None]
) -> None:
    """Stops one failed reload from costing all that the tab has missed."""

    async def body(the_desk: Desk) -> None:
        quiet(the_desk)
        first = await the_desk.connected()
        session_id = first.session.session
        leave_while_running(first, script(emit(3)))
        failed = await fail_once(the_desk, fault, session_id)
        assert the_desk.count == 0
        again = the_desk.connection()
        again.session.session = session_id
        await again.prepare()
        await again.connect()
        # Some faults come too late to keep the first attempt from its work.
        await wait_until_async(
            lambda: seen_numbers(failed) + seen_numbers(again) == [0, 1, 2], what="what was missed"
        )
        finish(the_desk, again)

    if fault in (break_end, break_count):
        pytest.skip("where the buffer itself fails, there is nowhere to keep anything")
    desk(body)


def quiet(the_desk: Desk) -> None:
    """Let the injected failures be logged, but not printed."""
    the_desk.multi_kernel_manager.log.setLevel(logging.CRITICAL + 1)


def run_on_shell(connection: Any, code: str) -> None:
    """Have the kernel run a script, as a client does."""
    content = {"code": code, "silent": False}
    connection.session.send(connection.channels["shell"], "execute_request", content)


def leave_while_running(connection: Any, code: str) -> None:
    """Have the kernel run a script, and go before anything comes of it."""
    run_on_shell(connection, code)
    connection.disconnect()


@contextmanager
def silenced(connection: Any) -> Iterator[None]:
    """Keep a connection from asking its kernel anything: it is not found ready meanwhile."""
    unsent = {"header": {"msg_id": "unsent"}}
    with patch.object(connection.session, "send", lambda *_args, **_kwargs: unsent):
        yield


def msg_id(frames: list[bytes]) -> str:
    """The id of a message as it came from the kernel."""
    return json.loads(frames[frames.index(b"<IDS|MSG>") + 2])["msg_id"]


def seen_numbers(connection: Any) -> list[int]:
    """The numbers of the outputs that were written to the mock websocket."""
    return [m["metadata"]["number"] for m in written(connection) if "number" in m["metadata"]]


# before the connection is live


@pytest.mark.kernelwire_only("H6")
def test_prepare_when_client_goes_meanwhile_then_it_ends_quietly(desk: RunOnDesk) -> None:
    """Stops the handler from going on without a connection, into a traceback with the address."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        asyncio.get_running_loop().call_soon(connection.disconnect)
        with pytest.raises(Finish):
            await connection.prepare()
        assert the_desk.count == 0

    desk(body)


@pytest.mark.kernelwire_only("H26")
@pytest.mark.parametrize("version", ["x", 5.4, None])
def test_prepare_when_protocol_version_is_odd_then_the_client_is_not_kept_waiting(
    desk: RunOnDesk, version: Any
) -> None:
    """Stops a kernel's typing error from costing a minute with every page load."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        connection._finish_kernel_info({"protocol_version": version})
        assert connection._kernel_info_future.done()

    desk(body)


@pytest.mark.kernelwire_only("H7")
def test_nudge_when_kernel_talks_meanwhile_then_all_of_it_reaches_the_client(
    desk: RunOnDesk,
) -> None:
    """Stops the probe for readiness from swallowing the message it has waited for."""

    async def body(the_desk: Desk) -> None:
        worker, connection = await the_desk.connected(), the_desk.connection()
        await connection.prepare()
        heard: list[list[bytes]] = []
        original = Nudge._on_output

        def recording(self: Nudge, frames: list[bytes]) -> None:
            heard.append(frames)
            original(self, frames)

        with patch.object(Nudge, "_on_output", recording), silenced(connection):
            connected = connection.connect()
            # Only now and then: the subscription takes its time to reach the kernel.
            while not heard:
                run_on_shell(worker, script(emit(1)))
                await asyncio.sleep(0.02)
        await connected
        run_on_shell(worker, script({"do": "emit", "type": "error", "count": 1}))
        await wait_until_async(
            lambda: "error" in {m["msg_type"] for m in written(connection)}, what="the last message"
        )
        ids = {m["msg_id"] for m in written(connection)}
        assert {msg_id(frames) for frames in heard} <= ids
        seen = seen_numbers(connection)
        assert seen == list(range(seen[0], seen[-1] + 1))
        for each in (connection, worker):
            finish(the_desk, each)

    desk(body)


@pytest.mark.kernelwire_only("H18")
def test_nudge_when_an_event_comes_after_its_end_then_nothing_is_logged(
    desk: RunOnDesk, caplog: pytest.LogCaptureFixture
) -> None:
    """Stops a warning about a closed stream with some connections and not with others."""

    async def body(the_desk: Desk) -> None:
        connection = the_desk.connection()
        await connection.prepare()
        connected = connection.connect()
        probes = list(connection._nudge._probes.values())
        await connected
        for probe in probes:
            assert probe.closed()
            # What a stream has scheduled for itself is not taken back when it is closed.
            probe._handle_events(None, 0)
        assert [record.getMessage() for record in caplog.records] == []
        finish(the_desk, connection)

    desk(body)


@pytest.mark.kernelwire_only("H7")
def test_restart_when_messages_are_replayed_then_the_notice_comes_behind_them(
    desk: RunOnDesk,
) -> None:
    """Stops a crash notice from overtaking the last words of the crashed kernel."""

    async def body(the_desk: Desk) -> None:
        first = await the_desk.connected()
        leave_while_running(first, script(emit(50)))
        again = the_desk.connection()
        again.session.session = first.session.session
        await again.prepare()
        with silenced(again):
            connected = again.connect()
            await wait_until_async(lambda: len(again._replay.backlog) >= 50, what="the backlog")
            again.on_kernel_restarted()
            assert written(again) == []
        await connected
        await wait_until_async(lambda: any(map(is_restarting, written(again))), what="the notice")
        messages = written(again)
        before = messages[: [is_restarting(m) for m in messages].index(True)]
        assert [m["metadata"]["number"] for m in before if m["metadata"]] == list(range(50))
        finish(the_desk, again)

    desk(body)


def is_restarting(message: dict[str, Any]) -> bool:
    """Whether this says that the kernel restarts."""
    return message["content"] == {"execution_state": "restarting"}


# handshakes that are refused


@pytest.fixture(scope="module")
def impatient(start_server: StartServer) -> Server:
    """A server that soon gives up on kernels that do not answer."""
    return start_server(LIMITS)


@pytest.mark.kernelwire_only("H26")
@pytest.mark.parametrize(
    "session_id", ["x" * 256, "é", "<IDS|MSG>"], ids=["too long", "not ASCII", "delimiter"]
)
def test_session_when_its_id_cannot_be_used_then_the_handshake_is_refused(
    server: Server, connect: Connect, start_kernel: StartKernel, session_id: str
) -> None:
    """Stops ids that ZeroMQ cannot take from leaking connections, or making deaf ones."""
    kernel_id = start_kernel("fake")
    log_end = server.log_end()
    with pytest.raises(HandshakeRefusedError, match="400"):
        connect(kernel_id, session_id=session_id, token_in_url=True)
    assert server.kernel(kernel_id)["connections"] == 0
    assert server.token not in server.log(log_end)


def test_session_when_its_id_is_as_long_as_allowed_then_it_works(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops the bound from refusing what works on stock."""
    client = connect(start_kernel("fake"), session_id="x" * 255)
    assert client.execute(script(emit(2))).numbers == [0, 1]


@pytest.mark.kernelwire_only("H16")
@pytest.mark.parametrize(
    "headers",
    [
        pytest.param({"Origin": "http://evil.example"}, id="origin"),
        pytest.param({"Sec-WebSocket-Version": "12"}, id="version"),
    ],
)
def test_handshake_when_refused_then_the_live_tab_of_the_session_is_left_alone(
    server: Server, connect: Connect, start_kernel: StartKernel, headers: dict[str, str]
) -> None:
    """Stops requests that come to nothing from closing a tab that works."""
    kernel_id = start_kernel("fake")
    client = connect(kernel_id)
    log_end, files = server.log_end(), server.open_files()
    for _ in range(5):
        cookie = {"Cookie": server.login_cookie()}
        with pytest.raises(HandshakeRefusedError):
            knock(server, kernel_id, client.session_id, cookie | headers)
    assert client.execute(script(emit(3))).numbers == [0, 1, 2]
    assert "Replacing stale connection" not in server.log(log_end)
    assert server.kernel(kernel_id)["connections"] == 1
    wait_until(lambda: server.open_files() <= files, what="closed descriptors")


def knock(server: Server, kernel_id: str, session_id: str, headers: dict[str, str]) -> None:
    """Ask for a websocket, with headers that replace those a client sends."""
    path = f"/api/kernels/{kernel_id}/channels?session_id={session_id}"
    WebSocket(server.open_socket, path, headers=headers)


@pytest.mark.kernelwire_only("H5", "H18")
def test_connection_when_kernel_is_mute_then_neither_descriptors_nor_the_token_leak(
    impatient: Server, connect: Connect
) -> None:
    """Stops a hung kernel from filling the log with credentials and the server with sockets."""
    kernel_id = impatient.start_kernel("fake-mute")
    connect(kernel_id, on=impatient, settle=False, token_in_url=True).rest()
    impatient.wait_for_connections(kernel_id, 0)
    files, log_end = impatient.open_files(), impatient.log_end()
    for _ in range(3):
        connect(kernel_id, on=impatient, settle=False, token_in_url=True).rest()
        impatient.wait_for_connections(kernel_id, 0)
    wait_until(lambda: impatient.open_files() <= files, what="closed descriptors")
    log = impatient.log(log_end)
    assert impatient.token not in log
    assert "Traceback" not in log


@pytest.mark.kernelwire_only("H6", "H18")
def test_connection_when_client_goes_in_the_handshake_then_the_log_stays_clean(
    impatient: Server,
) -> None:
    """Stops each impatient reload from logging a traceback with the token in it."""
    kernel_id = impatient.start_kernel("fake-mute")
    log_end = impatient.log_end()
    for _ in range(3):
        with pytest.raises(TimeoutError):
            Client(impatient, kernel_id, handshake_timeout=0.2, token_in_url=True)
    wait_until(lambda: impatient.open_connections() == 0, what="the end of the connections")
    assert impatient.kernel(kernel_id)["connections"] == 0
    log = impatient.log(log_end)
    assert impatient.token not in log
    assert "Traceback" not in log


# clients that vanish


@pytest.fixture(scope="module")
def pinging(start_server: StartServer) -> Server:
    """A server that soon gives up on clients that do not answer."""
    return start_server(PINGS)


@pytest.mark.kernelwire_only("H8", "H29")
@pytest.mark.parametrize("when", ["while it closes", "when it is closed"])
def test_reconnect_when_client_fell_silent_then_nothing_is_missing(
    pinging: Server, connect: Connect, protocol: str, when: str
) -> None:
    """Stops output from falling into the gap between the ping timeout and the end."""
    kernel_id = pinging.start_kernel("fake")
    client = connect(kernel_id, on=pinging, protocol=protocol)
    log_end = pinging.log_end()
    seen = client.execute(script({"do": "tick", "count": 10_000})).messages
    wait_until(lambda: "WebSocket ping timeout" in pinging.log(log_end), what="a ping timeout")
    # The server waits up to five seconds for the client's side of the closing handshake.
    pinging.status()  # a round trip through the loop: output comes meanwhile
    if when == "when it is closed":
        seen += client.rest()[0]
        pinging.wait_for_connections(kernel_id, 0)
    again = connect(
        kernel_id, on=pinging, protocol=protocol, session_id=client.session_id, settle=False
    )
    if when == "while it closes":
        seen += client.rest()[0]
    last = numbers(seen)[-1]
    seen += again.messages(until=lambda m: m.metadata.get("number", 0) > last + 50)
    assert numbers(seen) == list(range(numbers(seen)[-1] + 1))
    assert "Traceback" not in pinging.log(log_end)


@pytest.mark.kernelwire_only("H9", "H29")
def test_session_when_replaced_beside_another_tab_then_nothing_is_missing(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops output from being lost with the sockets of the connection that was replaced."""
    kernel_id = start_kernel("fake")
    other = connect(kernel_id)
    client = connect(kernel_id, protocol=protocol)
    seen = client.execute(script({"do": "tick", "count": 5000})).messages
    for _ in range(5):
        fresh = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        seen += client.rest()[0]
        client = fresh
        seen += client.messages(until=numbered)
    assert numbers(seen) == list(range(numbers(seen)[-1] + 1))
    server.wait_for_connections(kernel_id, 2)
    assert other.ask("control", "kernel_info_request", {}).messages


@pytest.mark.kernelwire_only("H9")
def test_request_when_connection_is_replaced_then_its_reply_reaches_the_new_one(
    connect: Connect, start_kernel: StartKernel, gate: Any
) -> None:
    """Stops a cell that ran while the page was reloaded from staying at [*]."""
    kernel_id = start_kernel("fake-no-handover")
    stale = connect(kernel_id)
    msg_id = stale.start(script({"do": "wait_for", "path": str(gate)}, emit(3)))
    stale.messages(until=lambda m: m.is_status("busy", msg_id))
    fresh = connect(kernel_id, session_id=stale.session_id, settle=False)
    gate.touch()
    assert fresh.collect(msg_id).numbers == [0, 1, 2]


def test_message_when_it_is_sent_right_after_the_handshake_then_it_is_answered(
    connect: Connect, start_kernel: StartKernel
) -> None:
    """Stops requests that come before the kernel was found ready from being lost."""
    client = connect(start_kernel("fake"), settle=False)
    assert client.execute(script(emit(3))).numbers == [0, 1, 2]
