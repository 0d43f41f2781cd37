"""What waits for a client that is away: bounded, counted, and as it was received."""

from __future__ import annotations

import asyncio
import json
import logging
from types import SimpleNamespace
from typing import Any

import pytest
from jupyter_client.session import Session

from kernelwire._logging import Throttle
from kernelwire.log.backlog import Backlog
from kernelwire.log.client import Client
from kernelwire.log.kernel_log import KernelLog
from support.offline_messages import DELIMITER

KEY = b"key"


@pytest.fixture
def log() -> KernelLog:
    """The log of a kernel that signs its messages."""

    async def made() -> KernelLog:
        # It takes the clock of the event loop. Python 3.12 and 3.13 warn where there is none.
        return KernelLog(Session(key=KEY), Throttle(logging.getLogger("clients")))

    return asyncio.run(made())


def away(log: KernelLog, bound: int = 0) -> Client:
    """A client without a connection."""
    return Client(log, lambda: bound, Throttle(logging.getLogger("clients")))


def message(number: int, msg_type: str = "stream", size: int = 0, key: bytes = KEY) -> list[bytes]:
    """A signed message with a number."""
    session = Session(key=key)
    content: dict[str, Any] = {"name": "stdout", "text": f"{number};{' ' * size}"}
    if msg_type == "status":
        content = {"execution_state": "busy"}
    frames = session.serialize(session.msg(msg_type, content, metadata={"number": number}))
    return [b"topic", *frames]


def plain(number: int, size: int = 0) -> list[bytes]:
    """Text that may be joined."""
    session = Session(key=KEY)
    content = {"name": "stdout", "text": f"{number};{' ' * size}"}
    return [b"topic", *session.serialize(session.msg("stream", content))]


def numbers(client: Client) -> list[int]:
    """The numbers of what waits, each of which is signed as the kernel does."""
    found = []
    for _, frames in Backlog(client):
        receiver = Session(key=KEY)
        read = receiver.deserialize(receiver.feed_identities(frames)[1])
        found.append(read["metadata"]["number"])
    return found


class TestBacklog:
    """What waits is a list of channels and frames, within a bound."""

    def test_messages_are_as_received_and_in_order(self, log: KernelLog) -> None:
        """Replies stand where they came among the output."""
        client = away(log)
        sent = [("iopub", message(0)), ("shell", message(1)), ("iopub", message(2))]
        for channel, frames in sent:
            if channel == "iopub":
                log.one(None, frames)
            else:
                client.take(channel, frames)
        assert list(Backlog(client)) == sent
        assert (len(Backlog(client)), Backlog(client)[1], bool(Backlog(client))) == (
            3,
            sent[1],
            True,
        )

    def test_statuses_and_replies_are_never_dropped(self, log: KernelLog) -> None:
        """Over the bound, output goes, the oldest first, and each one is kept or counted."""
        client = away(log, 60_000)
        for number in range(300):
            log.one(None, message(number, "status" if number % 10 == 0 else "stream", 300))
        client.take("shell", message(300, "execute_reply"))
        kept = numbers(client)
        assert {*range(0, 300, 10), 300} <= set(kept)
        text = [number for number in kept if number % 10]
        assert text == [number for number in range(text[0], 300) if number % 10]
        assert len(kept) + Backlog(client).dropped == 301
        assert Backlog(client).size < 120_000

    def test_results_are_dropped_behind_all_text(self, log: KernelLog) -> None:
        """While text is left, no result, error or opening of a comm is dropped."""
        client = away(log, 60_000)
        kinds = ("error", "execute_result", "comm_open", "execute_input")
        for number, kind in enumerate(kinds):
            log.one(None, message(number, kind))
        for number in range(len(kinds), 400):
            log.one(None, message(number, "display_data", 300))
        assert numbers(client)[: len(kinds)] == list(range(len(kinds)))

    @pytest.mark.parametrize("bound", [0, 1 << 70])
    def test_no_bound_keeps_everything(self, log: KernelLog, bound: int) -> None:
        """0 is no limit."""
        client = away(log, bound)
        for number in range(2_000):
            log.one(None, message(number, size=300))
        assert numbers(client) == list(range(2_000))

    def test_joined_text_is_whole_and_signed(self, log: KernelLog) -> None:
        """Text that is joined to fit is what the kernel has published, put together."""
        client = away(log, 400_000)
        for number in range(3_000):
            log.one(None, plain(number))
        text = ""
        for _, frames in Backlog(client):
            receiver = Session(key=KEY)
            text += receiver.deserialize(receiver.feed_identities(frames)[1])["content"]["text"]
        assert text == "".join(f"{number};" for number in range(3_000))
        assert len(Backlog(client)) < 1_500

    def test_forged_text_is_not_made_genuine(self, log: KernelLog) -> None:
        """What the kernel has not signed is not signed for it."""
        client = away(log, 400_000)
        for number in range(3_000):
            log.one(None, message(number, key=b"forged" if number % 3 == 0 else KEY))
        for _, frames in Backlog(client):
            text = json.loads(frames[frames.index(DELIMITER) + 5])["text"]
            forged = any(int(part) % 3 == 0 for part in text.split(";") if part.strip())
            signed = frames[frames.index(DELIMITER) + 1] == Session(key=KEY).sign(frames[-4:])
            assert forged is not signed

    def test_malformed_message_is_not_kept(self, log: KernelLog) -> None:
        """A message without its parts is counted, and costs no other."""
        client = away(log)
        log.one(None, [b"topic", DELIMITER, b"", b"{}"])
        client.take("shell", [b"nothing"])
        log.one(None, message(1))
        assert (numbers(client), log.native.refused()) == ([1], 1)

    def test_client_that_is_closed_keeps_nothing(self, log: KernelLog) -> None:
        """Its memory is given back."""
        client = away(log)
        for number in range(2_000):
            log.one(None, message(number, size=500))
        before = log.native.memory()
        client.close()
        assert log.native.memory() < before / 5
        assert len(Backlog(client)) == 0


class StuckConnection:
    """A connection whose method deals with its first message for ever; notes how it is closed."""

    def __init__(self, bound: int) -> None:
        self.websocket_handler = self
        self.ws_connection: Any = SimpleNamespace(is_closing=lambda: False)
        self.codes: list[int] = []
        self._bound = bound

    def settings_of_cursor(self) -> dict[str, Any]:
        """Messages go one by one."""
        return {
            "spliced": False,
            "limits": None,
            "overflow": "drop",
            "patience": 0.0,
            "hide_tracebacks": False,
            "one_by_one": True,
            "bound": self._bound,
        }

    def handle_held(self, *_arguments: Any, **_options: Any) -> asyncio.Future[None]:
        """Begin, and never end."""
        return asyncio.get_running_loop().create_future()

    def close(self, code: int, _reason: str) -> None:
        """Close, as tornado's handler does."""
        self.ws_connection = None
        self.codes.append(code)


class TestOverflow:
    """Too much waits for a client of what is never dropped."""

    def test_client_is_closed_at_once_while_a_message_is_dealt_with(self, log: KernelLog) -> None:
        """With 1013, once; no memory is kept from then on, and its session is told."""

        async def overflow() -> None:
            connection: Any = StuckConnection(100_000)
            client = away(log)
            client.attach(connection)
            for number in range(300):
                log.one(None, message(number, "status"))
            assert connection.codes == []
            for number in range(300, 3_000):
                log.one(None, message(number, "status"))
            assert connection.codes == [1013]
            assert log.native.memory() < 200_000
            client.detach(too_big=False)
            assert Backlog(client).dropped == 3_000
            log.one(None, message(3_000))
            assert numbers(client) == [3_000]

        asyncio.run(overflow())
