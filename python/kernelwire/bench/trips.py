"""Round trips: what a user waits for, on an idle server and while another kernel floods it."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from kernelwire.bench.asking import EXTRA_MESSAGES, QUIET_S
from kernelwire.bench.client import ClientError
from kernelwire.bench.verify import Message, WrongAnswerError, message_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from kernelwire.bench.client import KernelSocket


@dataclass(frozen=True)
class Question:
    """A request, and what answers it."""

    msg_type: str
    content: dict[str, Any]
    channel: str
    """Where the answer arrives."""
    answer: str

    def find_answer(self, messages: Sequence[Message], msg_id: str) -> int:
        """Return which message is the answer; there must be a busy and an idle besides."""
        kinds = sorted((each.channel, each.header["msg_type"]) for each in messages)
        wanted = sorted([("iopub", "status"), ("iopub", "status"), (self.channel, self.answer)])
        if kinds != wanted or any(each.parent_id != msg_id for each in messages):
            raise WrongAnswerError(f"a round trip brought {[each.parts[0] for each in messages]}")
        index = next(i for i, each in enumerate(messages) if each.header["msg_type"] == self.answer)
        if self.answer == self.msg_type and messages[index].content != self.content:
            raise WrongAnswerError(f"the echo is {messages[index].parts[3][:300]!r}")
        return index


KERNEL_INFO = Question("kernel_info_request", {}, "shell", "kernel_info_reply")
COMM = Question("comm_msg", {"comm_id": "flood", "data": {"text": "x" * 1000}}, "iopub", "comm_msg")
"""A widget's state goes to the kernel and comes back."""
KEY = Question("complete_request", {"code": "x", "cursor_pos": 1}, "shell", "complete_reply")
"""What a press of a key asks for."""


class Probe:
    """Asks again and again while something else goes on."""

    GAP_NS = 5_000_000
    """Pause between answer and next question: the probe must not become the load."""

    def __init__(self) -> None:
        self.latencies_ns: list[int] = []
        self._asked_ns = 0
        self._next_ns = 0

    def ask(self) -> None:
        """Send the question."""
        raise NotImplementedError

    def ask_if_due(self) -> None:
        """Send the next question unless one is open or the pause is not over."""
        now = time.monotonic_ns()
        if not self._asked_ns and now >= self._next_ns:
            self._asked_ns = now
            self.ask()

    def answered(self, at_ns: int) -> None:
        """Note the time it took."""
        self.latencies_ns.append(at_ns - self._asked_ns)
        self._next_ns = time.monotonic_ns() + self.GAP_NS
        self._asked_ns = 0


class TripProbe(Probe):
    """Asks a kernel over a websocket."""

    def __init__(self, client: KernelSocket, question: Question) -> None:
        super().__init__()
        self._client = client
        self._question = question
        self._msg_id = ""
        self.sock = client.sock

    def ask(self) -> None:
        """Send the request."""
        self._msg_id = self._client.send(self._question.msg_type, self._question.content)

    def on_readable(self) -> None:
        """Take what has arrived; with the last of it, note when the answer did."""
        self._client.on_readable()
        if self._client.count >= EXTRA_MESSAGES:
            self.answered(arrival_ns(self._client, self._question, self._msg_id))


class RestProbe(Probe):
    """Asks a REST address over one kept-alive connection."""

    path: str

    def __init__(self, port: int, token: str) -> None:
        super().__init__()
        self._request = (
            f"GET {self.path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            f"Authorization: token {token}\r\n\r\n"
        ).encode()
        self._answer = b""
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def is_right(self, answer: Any) -> bool:
        """Whether an answer is what was asked for."""
        raise NotImplementedError

    def ask(self) -> None:
        """Send the request."""
        self.sock.sendall(self._request)

    def on_readable(self) -> None:
        """Collect the answer; when it is complete, note the time it took."""
        chunk = self.sock.recv(65536)
        if not chunk:
            raise ClientError("the server closed the REST connection")
        self._answer += chunk
        head, separator, body = self._answer.partition(b"\r\n\r\n")
        if not separator or len(body) < content_length(head):
            return
        if b" 200 " not in head.split(b"\r\n")[0]:
            raise ClientError(f"GET {self.path}: {head[:100]!r}")
        if not self.is_right(json.loads(body)):
            raise WrongAnswerError(f"GET {self.path}: {body[:300]!r}")
        self._answer = b""
        self.answered(time.monotonic_ns())

    def close(self) -> None:
        """Drop the connection."""
        self.sock.close()


class StatusProbe(RestProbe):
    """Asks for the server's status."""

    path = "/api/status"

    def is_right(self, answer: Any) -> bool:
        """Whether it tells the number of connections."""
        return "connections" in answer


def content_length(head: bytes) -> int:
    """Find the ``Content-Length`` of an HTTP answer."""
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length":
            return int(value)
    raise ClientError("the answer has no Content-Length")


def arrival_ns(client: KernelSocket, question: Question, msg_id: str) -> int:
    """When the answer to `msg_id` arrived; what it was is checked, and forgotten."""
    messages = [message_of(client, index) for index in range(client.count)]
    arrived = client.arrived_ns(question.find_answer(messages, msg_id))
    client.clear()
    return arrived


def round_trip_ns(client: KernelSocket, question: Question) -> int:
    """One round trip; the next may start only when the idle status is here too."""
    asked = time.monotonic_ns()
    msg_id = client.send(question.msg_type, question.content)
    client.wait_for(EXTRA_MESSAGES, QUIET_S)
    return arrival_ns(client, question, msg_id) - asked
