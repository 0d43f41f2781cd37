"""Each session has a backlog of its own: what others do meanwhile takes nothing from it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from support.fake_kernel import emit, script
from support.parts import Parts
from support.ws_client import Client, Connect, numbers

if TYPE_CHECKING:
    from pathlib import Path

    from support.messages import Message
    from support.server import Server, StartKernel

Begun = tuple[Client, str, list["Message"]]
"""A client, its request, and what it has received."""
KEPT_SESSIONS = 4
"""How many sessions without a connection keep a backlog at a kernel."""


def drop(server: Server, client: Client, kernel_id: str, *, remaining: int = 0) -> None:
    """Break a connection without a goodbye, and wait until the server notices."""
    client.reset()
    server.wait_for_connections(kernel_id, remaining)


def close(server: Server, client: Client, kernel_id: str, *, remaining: int = 0) -> list[Message]:
    """Close a connection with a goodbye, and return what is received until it is closed."""
    messages = client.leave()
    server.wait_for_connections(kernel_id, remaining)
    return messages


def until_number(client: Client, number: int) -> list[Message]:
    """What a client receives up to the output with this number."""
    return client.messages(until=lambda m: m.metadata.get("number") == number)


def until_busy(client: Client, request_id: str) -> list[Message]:
    """What a client receives until the kernel runs a request."""
    return client.messages(until=lambda m: m.is_status("busy", request_id))


def begin(connect: Connect, kernel_id: str, parts: Parts, **options: Any) -> Begun:
    """Have a new client run a cell of parts that publish two outputs each, the first part now."""
    client = connect(kernel_id, **options)
    request_id = client.start(parts.code)
    parts.run()
    return client, request_id, until_number(client, 1)


def all_until_now(client: Client) -> list[Message]:
    """What a client of an idle kernel receives; the last answers are not part of it."""
    messages: list[Message] = []
    asked: list[str] = []
    # What is replayed on iopub comes before the first idle; a mailbox has one more chance.
    for _ in range(2):
        execution = client.ask("control", "kernel_info_request", {})
        asked.append(execution.request_id)
        messages += execution.messages
    return [m for m in messages if m.parent_id not in asked]


def replies(messages: list[Message]) -> list[str | None]:
    """The requests that the replies on shell answer."""
    return [m.parent_id for m in messages if m.channel == "shell"]


def assert_complete(messages: list[Message], request_id: str, outputs: int) -> None:
    """All outputs are there, in order and once; so are the reply and the idle of the request."""
    assert numbers(messages) == list(range(outputs))
    assert replies(messages) == [request_id]
    assert sum(m.is_status("idle", request_id) for m in messages) == 1
    ids = [m.msg_id for m in messages]
    assert len(ids) == len(set(ids))


@pytest.mark.kernelwire_only("I5")
class TestVisitor:
    """A drops, B visits, A comes back."""

    def test_session_gets_all_that_it_missed(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        tmp_path: Path,
        protocol: str,
    ) -> None:
        """Output from before, during and after the visit reaches A, with the reply; not B."""
        kernel_id = start_kernel("fake")
        parts = Parts(tmp_path, *[emit(2)] * 4)
        client, request_id, seen = begin(connect, kernel_id, parts, protocol=protocol)
        drop(server, client, kernel_id)
        parts.run()

        visitor = connect(kernel_id, settle=False)
        server.wait_for_connections(kernel_id, 1)
        parts.run()
        visited = close(server, visitor, kernel_id)
        parts.run()
        server.wait_for_state(kernel_id, "idle")

        again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        assert_complete(seen + all_until_now(again), request_id, 8)
        assert set(numbers(visited)) <= {4, 5}
        assert replies(visited) == []

    def test_visitors_come_and_go_by_the_dozen(
        self, server: Server, connect: Connect, start_kernel: StartKernel, tmp_path: Path
    ) -> None:
        """Visitors that never send anything do not push out a session that works."""
        kernel_id = start_kernel("fake")
        parts = Parts(tmp_path, emit(2), emit(2))
        client, request_id, seen = begin(connect, kernel_id, parts)
        drop(server, client, kernel_id)
        for _ in range(KEPT_SESSIONS - 1):
            visitor = connect(kernel_id, settle=False)
            close(server, visitor, kernel_id)
        parts.run()
        server.wait_for_state(kernel_id, "idle")
        again = connect(kernel_id, session_id=client.session_id, settle=False)
        assert_complete(seen + all_until_now(again), request_id, 4)


@pytest.mark.kernelwire_only("I5")
class TestNeighbour:
    """A and B are open, A drops for a moment."""

    def test_session_that_dropped_gets_all_that_it_missed(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        tmp_path: Path,
        protocol: str,
    ) -> None:
        """B goes on as if nothing had happened, and A misses nothing."""
        kernel_id = start_kernel("fake")
        parts = Parts(tmp_path, *[emit(2)] * 4)
        neighbour = connect(kernel_id, protocol=protocol)
        client, request_id, seen = begin(connect, kernel_id, parts, protocol=protocol)
        drop(server, client, kernel_id, remaining=1)
        parts.run()
        parts.run()
        beside = until_number(neighbour, 5)
        again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        parts.run()
        server.wait_for_state(kernel_id, "idle")
        assert_complete(seen + all_until_now(again), request_id, 8)
        beside += all_until_now(neighbour)
        assert numbers(beside) == list(range(8))
        assert replies(beside) == []

    def test_session_that_drops_again_and_again_misses_nothing(
        self, server: Server, connect: Connect, start_kernel: StartKernel, tmp_path: Path
    ) -> None:
        """What is replayed once is not replayed again, and nothing falls between."""
        kernel_id = start_kernel("fake")
        connect(kernel_id)
        client = connect(kernel_id)
        for lap in range(3):
            parts = Parts(tmp_path, emit(3))
            request_id = client.start(parts.code)
            until_busy(client, request_id)
            drop(server, client, kernel_id, remaining=1)
            parts.run()
            server.wait_for_state(kernel_id, "idle")
            client = connect(kernel_id, session_id=client.session_id, settle=False)
            messages = all_until_now(client)
            assert numbers(messages) == [3 * lap, 3 * lap + 1, 3 * lap + 2]
            assert replies(messages) == [request_id]


@pytest.mark.kernelwire_only("I5")
class TestSeveral:
    """As many sessions are away as keep a backlog, or one more."""

    def test_each_session_gets_its_own_replies(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        tmp_path: Path,
        protocol: str,
    ) -> None:
        """Four sessions return in another order: all the output for each, and its own reply."""
        kernel_id = start_kernel("fake")
        parts = Parts(tmp_path, emit(1))
        clients = [connect(kernel_id, protocol=protocol) for _ in range(KEPT_SESSIONS)]
        first = clients[0].start(parts.code)
        # Requests on different sockets reach a kernel in any order.
        for client in clients:
            until_busy(client, first)
        requests = [first, *(client.start(script(emit(1))) for client in clients[1:])]
        for place, client in enumerate(clients):
            drop(server, client, kernel_id, remaining=KEPT_SESSIONS - place - 1)
        parts.run()
        server.wait_for_state(kernel_id, "idle")
        for place in (2, 0, 3, 1):
            again = connect(
                kernel_id, protocol=protocol, session_id=clients[place].session_id, settle=False
            )
            assert_complete(all_until_now(again), requests[place], KEPT_SESSIONS)

    def test_fifth_session_replaces_the_oldest(
        self, server: Server, connect: Connect, start_kernel: StartKernel, tmp_path: Path
    ) -> None:
        """The oldest session starts anew, which is logged in one line; the others miss nothing."""
        kernel_id = start_kernel("fake")
        keeper = connect(kernel_id)
        clients = [connect(kernel_id) for _ in range(KEPT_SESSIONS + 1)]
        parts = Parts(tmp_path, emit(3))
        request_id = keeper.start(parts.code)
        log_end = server.log_end()
        for place, client in enumerate(clients):
            until_busy(client, request_id)
            drop(server, client, kernel_id, remaining=KEPT_SESSIONS - place + 1)
        parts.run()
        keeper.collect(request_id)
        oldest, *others = [
            connect(kernel_id, session_id=client.session_id, settle=False) for client in clients
        ]
        for client in others:
            messages = all_until_now(client)
            assert numbers(messages) == [0, 1, 2]
            assert replies(messages) == []
        assert oldest.execute(script(emit(2))).numbers == [3, 4]
        lines = [
            line
            for line in server.log_lines(log_end, levels="IWEC")
            if clients[0].session_id in line and "oldest" in line
        ]
        assert len(lines) == 1


class TestGoodbye:
    """A session that closes beside others says that it does not come back."""

    def test_nothing_is_kept_for_it(
        self, server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """On its return it gets what is published from then on."""
        kernel_id = start_kernel("fake")
        neighbour = connect(kernel_id)
        client = connect(kernel_id, protocol=protocol)
        client.execute(script(emit(2)))
        close(server, client, kernel_id, remaining=1)
        neighbour.execute(script(emit(2)))
        again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        messages = again.execute(script(emit(2))).messages
        assert numbers(messages) == [4, 5]
