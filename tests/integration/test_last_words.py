"""A kernel ends while its output waits: all that it has published comes first, then the notice."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from support.accounting import wait_until_stalled
from support.fake_kernel import emit, script
from support.hooked import GATE_VARIABLE, GatedConnection, hooked
from support.server import Implementation, Server
from support.waiting import wait_until
from support.ws_client import Client, Connect, numbers

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from support.messages import Message
    from support.server import JsonConfig, StartServer

COUNT, SIZE = 300, 100_000
"""More than the sockets between server and client hold."""
ANSWER_SECONDS = 0.5
UNLIMITED: JsonConfig = {
    "ZMQChannelsWebsocketConnection": {"iopub_msg_rate_limit": 0, "iopub_data_rate_limit": 0},
    # A client that does not read answers no pings.
    "ServerApp": {"tornado_settings": {"ws_ping_interval": 3_600_000}},
}
STRICT: JsonConfig = {
    "ZMQChannelsWebsocketConnection": {"iopub_msg_rate_limit": 10, "iopub_data_rate_limit": 0},
    "KernelwireWebsocketConnection": {"iopub_overflow": "drop"},
}
EXIT = {"do": "exit"}


@pytest.fixture(scope="module")
def patient(start_server: StartServer) -> Server:
    """A server on which 30 MB may wait for a client."""
    return start_server(UNLIMITED)


@pytest.fixture(scope="module")
def gated(
    implementation: Implementation, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Server, Path]]:
    """A server that handles messages while a file is there, and the file."""
    home = tmp_path_factory.mktemp("server")
    gate = home / "gate"
    gate.touch()
    variables = {GATE_VARIABLE: str(gate)}
    server = Server(home, *hooked(implementation, GatedConnection, UNLIMITED, **variables))
    try:
        yield server, gate
    finally:
        server.stop()


def wait_for_restart(server: Server, log_end: int) -> None:
    """Wait until the server has started a kernel in the place of one that died."""
    wait_until(lambda: "restarting kernel" in server.log(log_end), what="a restart")


def until_restarting(client: Client) -> list[Message]:
    """What a client receives up to the notice that its kernel is restarted."""
    return client.messages(until=lambda m: m.is_status("restarting"))


def until_answered(client: Client) -> list[Message]:
    """What a client receives until the kernel that it has now answers on iopub."""
    seen: list[Message] = []
    while True:
        request_id = client.send("control", "kernel_info_request", {})
        deadline = time.monotonic() + ANSWER_SECONDS
        try:
            while not seen or not seen[-1].is_status("idle", request_id):
                seen.append(client.receive(deadline - time.monotonic()))
        except TimeoutError:
            continue
        return seen


def assert_lives_follow_each_other(messages: list[Message], *lives: int) -> None:
    """Each life of the kernel has published so many outputs, and none comes in another's."""
    assert numbers(messages) == [number for life in lives for number in range(life)]
    sessions = [m.header["session"] for m in messages if "number" in m.metadata]
    assert len(set(sessions)) == sum(life > 0 for life in lives)


class TestCrash:
    """A kernel dies behind a flood."""

    def test_notice_comes_behind_all_that_waits(
        self, patient: Server, connect: Connect, protocol: str
    ) -> None:
        """A client that does not read meanwhile sees the whole of the old life, then the notice."""
        client = connect(patient.start_kernel("fake"), on=patient, protocol=protocol)
        log_end = patient.log_end()
        client.start(script(emit(COUNT, size=SIZE), EXIT))
        wait_until_stalled(client)
        wait_for_restart(patient, log_end)
        assert_lives_follow_each_other(until_restarting(client), COUNT)
        until_answered(client)
        assert_lives_follow_each_other(client.execute(script(emit(2))).messages, 2)

    @pytest.mark.kernelwire_only("F")
    def test_notice_comes_behind_what_a_coroutine_has_not_handled(
        self, gated: tuple[Server, Path], connect: Connect, protocol: str
    ) -> None:
        """A notice does not overtake messages that wait for Python."""
        server, gate = gated
        client = connect(server.start_kernel("fake"), on=server, protocol=protocol)
        log_end = server.log_end()
        gate.unlink()
        client.start(script(emit(50), EXIT))
        wait_for_restart(server, log_end)
        gate.touch()
        assert_lives_follow_each_other(until_restarting(client), 50)

    def test_away_client_gets_the_last_words(
        self, patient: Server, connect: Connect, tmp_path: Path, protocol: str
    ) -> None:
        """What a kernel publishes before it dies reaches a client that comes back later."""
        again = self._back_after_crash(patient, connect, tmp_path, protocol)
        seen = until_answered(again)
        assert_lives_follow_each_other(seen + again.execute(script(emit(2))).messages, 50, 2)

    @pytest.mark.kernelwire_only("I5")
    def test_away_client_gets_the_notice_behind_them(
        self, patient: Server, connect: Connect, tmp_path: Path, protocol: str
    ) -> None:
        """A client that comes back sees that its kernel died, and where."""
        again = self._back_after_crash(patient, connect, tmp_path, protocol)
        seen = until_answered(again)
        (place,) = [place for place, m in enumerate(seen) if m.is_status("restarting")]
        assert_lives_follow_each_other(seen[:place], 50)

    @staticmethod
    def _back_after_crash(server: Server, connect: Connect, folder: Path, protocol: str) -> Client:
        """A client whose kernel published 50 outputs and died while it was away."""
        kernel_id, gate = server.start_kernel("fake"), folder / "gate"
        client = connect(kernel_id, on=server, protocol=protocol)
        log_end = server.log_end()
        wait = {"do": "wait_for", "path": str(gate)}
        request_id = client.start(script(wait, emit(50), EXIT))
        client.messages(until=lambda m: m.is_status("busy", request_id))
        client.reset()
        server.wait_for_connections(kernel_id, 0)
        gate.touch()
        wait_for_restart(server, log_end)
        options = {"protocol": protocol, "session_id": client.session_id, "settle": False}
        return connect(kernel_id, on=server, **options)


class TestRestart:
    """A kernel is restarted over REST."""

    def test_backlog_of_a_client_comes_first(
        self, patient: Server, connect: Connect, protocol: str
    ) -> None:
        """A client that does not read meanwhile sees the old life whole, then the new one."""
        kernel_id = patient.start_kernel("fake")
        client = connect(kernel_id, on=patient, protocol=protocol)
        client.start(script(emit(COUNT, size=SIZE)))
        wait_until_stalled(client)
        patient.restart_kernel(kernel_id)
        seen = until_answered(client)
        seen += client.execute(script(emit(2))).messages
        assert_lives_follow_each_other(seen, COUNT, 2)

    @pytest.mark.kernelwire_only("I5")
    def test_backlog_of_an_away_client_is_kept(
        self, patient: Server, connect: Connect, protocol: str
    ) -> None:
        """A restart, and what others run then, comes behind what a client has missed."""
        kernel_id = patient.start_kernel("fake")
        client = connect(kernel_id, on=patient, protocol=protocol)
        other = connect(kernel_id, on=patient)
        client.reset()
        patient.wait_for_connections(kernel_id, 1)
        other.execute(script(emit(50)))
        patient.restart_kernel(kernel_id)
        until_answered(other)
        other.execute(script(emit(2)))
        options = {"protocol": protocol, "session_id": client.session_id, "settle": False}
        again = connect(kernel_id, on=patient, **options)
        assert_lives_follow_each_other(until_answered(again), 50, 2)


@pytest.mark.kernelwire_only
class TestSessionOfNotices:
    """Messages that the server makes bear the kernel's session, by which front ends go."""

    def test_notice_of_a_restart(self, patient: Server, connect: Connect) -> None:
        """JupyterLab gives up what it has not handled when the session differs."""
        client = connect(patient.start_kernel("fake"), on=patient)
        client.start(script(emit(1), EXIT))
        messages = until_restarting(client)
        assert {m.header["session"] for m in messages if m.channel == "iopub"} == {
            messages[0].header["session"]
        }

    def test_warning_of_the_rate_limit(
        self, start_server: StartServer, connect: Connect, protocol: str
    ) -> None:
        """As any output of the cell that it is about."""
        server = start_server(STRICT)
        client = connect(server.start_kernel("fake"), on=server, protocol=protocol)
        execution = client.execute(script(emit(100)))
        (warning,) = execution.of_type("stream")
        assert warning.header["session"] == execution.messages[0].header["session"]
