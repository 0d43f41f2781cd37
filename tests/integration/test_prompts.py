"""A kernel asks its user while the tab is away: the question is there when the tab comes back."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import emit, script
from support.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from support.messages import Message
    from support.server import Server, StartKernel
    from support.ws_client import Client, Connect

    ComeBack = Callable[[Client, str], Client]

ASK = "print('hello', input('who? '))"


def is_question(message: Message) -> bool:
    """Whether the kernel asks something."""
    return message.msg_type == "input_request"


def asked(client: Client) -> tuple[str, Message]:
    """Have the kernel ask; returns the request's id, and the question."""
    msg_id = client.start(ASK, allow_stdin=True)
    return msg_id, client.messages(until=is_question)[-1]


def answer(client: Client, question: Message) -> None:
    """Answer a question."""
    client.send("stdin", "input_reply", {"value": "world", "status": "ok"}, parent=question)


def is_asked(client: Client, within: float = 0.5) -> bool:
    """Whether a client is asked anything; it had the time for it."""
    with suppress(TimeoutError):
        client.messages(until=is_question, timeout=within)
        return True
    return False


@pytest.mark.kernelwire_only("I6")
class TestPrompt:
    """The question of a cell whose tab has gone."""

    @pytest.fixture(params=["nobody", "a visitor"])
    def come_back(
        self, request: pytest.FixtureRequest, server: Server, connect: Connect
    ) -> ComeBack:
        """Have a session go and come back; perhaps another one was there in between."""

        def comes_back(client: Client, kernel_id: str) -> Client:
            client.close()
            server.wait_for_connections(kernel_id, 0)
            if request.param == "a visitor":
                visitor = connect(kernel_id, settle=False)
                server.wait_for_connections(kernel_id, 1)
                visitor.close()
                server.wait_for_connections(kernel_id, 0)
            return connect(
                kernel_id, protocol=client.protocol, session_id=client.session_id, settle=False
            )

        return comes_back

    def test_unanswered_one_is_given_again(
        self,
        connect: Connect,
        start_kernel: StartKernel,
        come_back: ComeBack,
        protocol: str,
    ) -> None:
        """It was shown already; the session is asked once more, and the answer counts."""
        kernel_id = start_kernel()
        client = connect(kernel_id, protocol=protocol)
        msg_id, first = asked(client)
        for _ in range(2):
            client = come_back(client, kernel_id)
            *_, again = client.messages(until=is_question)
            assert (again.msg_id, again.content) == (first.msg_id, first.content)
        answer(client, again)
        assert client.collect(msg_id).text() == "hello world\n"

    def test_one_that_came_meanwhile_is_given_once(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        come_back: ComeBack,
        gate: Path,
    ) -> None:
        """It has never been shown: it is, though its buffer was discarded."""
        kernel_id = start_kernel()
        client = connect(kernel_id)
        asked = gate.with_name("asked")
        code = (
            "import pathlib, time\n"
            "session = get_ipython().kernel.session\n"
            "send = session.send\n"
            "def tell(stream, what, *args, **options):\n"
            "    sent = send(stream, what, *args, **options)\n"
            f"    if what == 'input_request': pathlib.Path({str(asked)!r}).touch()\n"
            "    return sent\n"
            "session.send = tell\n"
            f"while not pathlib.Path({str(gate)!r}).exists(): time.sleep(0.01)\n{ASK}"
        )
        msg_id = client.start(code, allow_stdin=True)
        client.messages(until=lambda m: m.is_status("busy", msg_id))
        client.close()
        gate.touch()
        wait_until(asked.exists, what="the question")
        # It is on its way; a server that has answered since has received it.
        server.kernel(kernel_id)
        again = come_back(client, kernel_id)
        *_, question = again.messages(until=is_question)
        assert not is_asked(again)
        answer(again, question)
        assert again.collect(msg_id).text() == "hello world\n"

    def test_answered_one_is_not_given_again(
        self,
        connect: Connect,
        start_kernel: StartKernel,
        come_back: ComeBack,
        protocol: str,
    ) -> None:
        """The cell goes on after the answer; nobody is asked a second time."""
        kernel_id = start_kernel()
        client = connect(kernel_id, protocol=protocol)
        client.start(f"{ASK}\nimport time\nprint('on')\ntime.sleep(60)", allow_stdin=True)
        answer(client, client.messages(until=is_question)[-1])
        client.messages(until=lambda m: m.msg_type == "stream")
        assert not is_asked(come_back(client, kernel_id))

    @pytest.mark.parametrize("ending", ["restart_kernel", "interrupt_kernel"])
    def test_one_that_nobody_waits_for_is_not_given_again(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        come_back: ComeBack,
        ending: str,
    ) -> None:
        """The cell was ended meanwhile, and another one runs."""
        kernel_id = start_kernel()
        client = connect(kernel_id)
        asked(client)
        client.close()
        server.wait_for_connections(kernel_id, 0)
        getattr(server, ending)(kernel_id)
        other = connect(kernel_id)
        other.start("import time\nprint('on')\ntime.sleep(60)")
        other.messages(until=lambda m: m.msg_type == "stream")
        other.close()
        server.wait_for_connections(kernel_id, 0)
        assert not is_asked(come_back(client, kernel_id))

    def test_one_whose_cell_has_ended_is_not_given_while_another_asks(
        self, server: Server, connect: Connect, start_kernel: StartKernel
    ) -> None:
        """The kernel was interrupted by message; the answer would go to the other cell."""
        kernel_id = start_kernel()
        client = connect(kernel_id)
        asked(client)
        client.close()
        other = connect(kernel_id, settle=False)
        other.ask("control", "interrupt_request", {})
        server.wait_for_state(kernel_id, "idle")
        msg_id, question = asked(other)
        again = connect(kernel_id, session_id=client.session_id, settle=False)
        assert not is_asked(again)
        answer(other, question)
        assert other.collect(msg_id).text() == "hello world\n"


@pytest.mark.kernelwire_only("N16")
class TestChannel:
    """A kernel cannot ask whom it does not know: the channel is connected before anything is run."""

    def test_kernel_that_listens_late_can_ask(
        self, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """A question that comes before its channel is connected is lost, and the cell never ends."""
        kernel_id = start_kernel("fake-late-stdin")
        client = connect(kernel_id, protocol=protocol, settle=False)
        msg_id = client.start(script({"do": "ask"}))
        client.messages(until=lambda message: is_question(message) and message.parent_id == msg_id)

    def test_kernel_that_never_listens_runs_cells(
        self, connect: Connect, start_kernel: StartKernel
    ) -> None:
        """One that asks nothing is not waited for in vain."""
        client = connect(start_kernel("fake-no-stdin"))
        assert client.execute(script(emit(3))).numbers == [0, 1, 2]
