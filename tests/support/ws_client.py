"""A notebook front end in miniature: requests, replies and outputs over one websocket."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from support.messages import PROTOCOLS, Message, decode, encode, request
from support.websocket import ConnectionClosedError, WebSocket

if TYPE_CHECKING:
    import socket

    from support.server import Server

DEFAULT_TIMEOUT = 60.0


@dataclass(frozen=True)
class Execution:
    """All that one execute request brought: the messages in order of arrival."""

    request_id: str
    messages: list[Message]

    @property
    def reply(self) -> Message:
        """The shell's answer."""
        return next(m for m in self.messages if m.msg_type == "execute_reply")

    def of_type(self, msg_type: str) -> list[Message]:
        """The messages of one type."""
        return [m for m in self.messages if m.msg_type == msg_type]

    def text(self, name: str = "stdout") -> str:
        """What was written to stdout or stderr."""
        return "".join(
            m.content["text"] for m in self.of_type("stream") if m.content["name"] == name
        )

    @property
    def numbers(self) -> list[int]:
        """The numbers in the scripted kernel's outputs, in order of arrival."""
        return numbers(self.messages)


def numbers(messages: Sequence[Message]) -> list[int]:
    """The sequence numbers the tests' kernels and cells put in the metadata of outputs."""
    return [m.metadata["number"] for m in messages if "number" in m.metadata]


class Client:
    """One websocket on one kernel."""

    def __init__(
        self,
        server: Server,
        kernel_id: str,
        *,
        protocol: str = "v1",
        session_id: str | None = None,
        compression: bool = False,
        headers: Mapping[str, str] | None = None,
        token_in_url: bool = False,
        handshake_timeout: float = DEFAULT_TIMEOUT,
        open_socket: Callable[[], socket.socket] | None = None,
        max_size: int | None = None,
        closes: bool = True,
    ) -> None:
        self.protocol = protocol
        self.session_id = uuid.uuid4().hex if session_id is None else session_id
        self.raw_frames: list[bytes | str] = []
        self.sent_ids: set[str] = set()
        query = {"session_id": self.session_id}
        if token_in_url:
            query["token"] = server.token
        all_headers = dict(server.auth_headers if headers is None else headers)
        if PROTOCOLS[protocol]:
            all_headers["Sec-WebSocket-Protocol"] = PROTOCOLS[protocol]
        self.socket = WebSocket(
            open_socket or server.open_socket,
            f"{server.base_path}/api/kernels/{kernel_id}/channels?{urlencode(query)}",
            headers=all_headers,
            compression=compression,
            max_size=max_size,
            closes=closes,
            timeout=handshake_timeout,
        )
        if PROTOCOLS[protocol] and "sec-websocket-protocol" not in self.socket.response_headers:
            self.protocol = "legacy"  # as front ends do

    def settle(self) -> Client:
        """Wait until the server has this client on all channels, then forget what came."""
        self.ask("shell", "kernel_info_request", {})
        return self

    def meet_new_kernel(self) -> Client:
        """After a restart, wait until the sockets have found the new kernel: iopub comes last."""
        while True:
            msg_id = self.send("control", "kernel_info_request", {})
            try:
                self.until_idle(msg_id, timeout=0.5)
            except TimeoutError:
                continue
            return self

    def send(
        self,
        channel: str,
        msg_type: str,
        content: dict[str, Any],
        *,
        parent: Message | None = None,
        buffers: Sequence[bytes] = (),
        subshell_id: str | None = None,
    ) -> str:
        """Send one message and return its id."""
        parent_header = parent.header if parent else None
        message = request(
            self.session_id,
            channel,
            msg_type,
            content,
            parent_header=parent_header,
            buffers=buffers,
        )
        if subshell_id is not None:
            message.header["subshell_id"] = subshell_id
        self.sent_ids.add(message.msg_id)
        self.socket.send(encode(message, self.protocol))
        return message.msg_id

    def receive(self, timeout: float = DEFAULT_TIMEOUT) -> Message:
        """The next message."""
        return self._receive(time.monotonic() + timeout)

    def messages(
        self, until: Callable[[Message], bool], timeout: float = DEFAULT_TIMEOUT
    ) -> list[Message]:
        """All messages up to and including the first for which `until` holds."""
        deadline = time.monotonic() + timeout
        collected: list[Message] = []
        try:
            while not collected or not until(collected[-1]):
                collected.append(self._receive(deadline))
        except TimeoutError as error:
            seen = [(m.channel, m.msg_type) for m in collected]
            raise TimeoutError(f"{len(seen)} messages came, the last: {seen[-10:]}") from error
        return collected

    def leave(self) -> list[Message]:
        """Close with a goodbye; what comes until the server hangs up."""
        self.socket.start_close()
        messages, _ = self.rest()
        return messages

    def rest(self, timeout: float = DEFAULT_TIMEOUT) -> tuple[list[Message], int]:
        """What comes until the server hangs up, and the close code."""
        deadline = time.monotonic() + timeout
        collected: list[Message] = []
        try:
            while True:
                collected.append(self._receive(deadline))
        except ConnectionClosedError as closed:
            return collected, closed.code

    def collect(self, msg_id: str, timeout: float = DEFAULT_TIMEOUT) -> Execution:
        """The messages until a request has both its reply and its idle, in whichever order."""
        missing = {"reply", "idle"}

        def is_complete(message: Message) -> bool:
            if message.is_status("idle", msg_id):
                missing.discard("idle")
            elif message.parent_id == msg_id and message.msg_type.endswith("_reply"):
                missing.discard("reply")
            return not missing

        return Execution(msg_id, self.messages(is_complete, timeout))

    def until_idle(self, msg_id: str, timeout: float = DEFAULT_TIMEOUT) -> Execution:
        """The messages until the kernel is idle again after a request that gets no reply."""
        return Execution(msg_id, self.messages(lambda m: m.is_status("idle", msg_id), timeout))

    def ask(
        self,
        channel: str,
        msg_type: str,
        content: dict[str, Any],
        *,
        timeout: float = DEFAULT_TIMEOUT,
    ) -> Execution:
        """Send a request and collect what it brings."""
        return self.collect(self.send(channel, msg_type, content), timeout)

    def start(self, code: str, *, allow_stdin: bool = False, subshell_id: str | None = None) -> str:
        """Send an execute request and return its id."""
        content = {
            "code": code,
            "silent": False,
            "store_history": True,
            "user_expressions": {},
            "allow_stdin": allow_stdin,
            "stop_on_error": True,
        }
        return self.send("shell", "execute_request", content, subshell_id=subshell_id)

    def execute(self, code: str, *, timeout: float = DEFAULT_TIMEOUT) -> Execution:
        """Run code and collect until both the reply and idle are here."""
        return self.collect(self.start(code), timeout)

    def close(self) -> None:
        """Close cleanly."""
        self.socket.close()

    def reset(self) -> None:
        """Break the connection without a word."""
        if not self.socket.closed:
            self.socket.reset()

    def _receive(self, deadline: float) -> Message:
        payload = self.socket.receive(deadline)
        self.raw_frames.append(payload)
        return decode(payload, self.protocol)


Connect = Callable[..., Client]
