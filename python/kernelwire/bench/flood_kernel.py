"""A kernel that does nothing but publish, as fast or as evenly as it is told to.

It is a real kernel process (started through a kernelspec, signing every message), but every
message of a flood is built and signed *before* the flood starts, so that what a benchmark sees is
the server and not the publisher. It imports pyzmq and the standard library only: fifty of these
have to start in a few seconds.

The code of an ``execute_request`` is a JSON object, see :class:`Order`.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import hmac
import json
import os
import signal
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import zmq

if TYPE_CHECKING:
    from collections.abc import Iterator

DELIMITER = b"<IDS|MSG>"
PROTOCOL_VERSION = "5.3"
POLL_MS = 1000
"""How often an idle kernel looks whether the server that started it is still there."""
DATE = "2026-01-01T00:00:00.123456Z"
"""Every header's date. Constant, so that two floods of the same order differ in ids alone; with a
fraction, as in life, because Python writes a date without one in another way."""

KERNEL_INFO = {
    "status": "ok",
    "protocol_version": PROTOCOL_VERSION,
    "implementation": "flood",
    "implementation_version": "1",
    "language_info": {"name": "json", "mimetype": "application/json", "file_extension": ".json"},
    "banner": "",
    "help_links": [],
}


COMPLETION = {
    "status": "ok",
    "matches": [],
    "cursor_start": 0,
    "cursor_end": 1,
    "metadata": {},
}


@dataclass(frozen=True)
class Order:
    """What an ``execute_request`` asks for."""

    emit: str = "stream"
    """``stream``, ``display_data``, ``comm_msg``, ``status`` (busy and idle by turns), or
    ``notebook`` for `TRACE`."""
    count: int = 1
    size: int = 100
    """Bytes of text in one message; a notebook has its own sizes."""
    rate: float = 0
    """Messages per second on an absolute schedule; 0 means as fast as possible."""
    buffer: int = 0
    """Bytes of one binary buffer per message; 0 means none."""
    start_ns: int = 0
    """Not before this ``time.monotonic_ns()``; lets many kernels share one schedule."""


TRACE = (
    ("execute_input", 200),
    ("stream", 40),
    ("stream", 40),
    ("stream", 80),
    ("stream", 1_000),
    ("display_data", 2_000),
    ("stream", 60),
    ("display_data", 30_000),
    ("update_display_data", 500),
    ("update_display_data", 500),
    ("execute_result", 300),
    ("error", 1_500),
)
"""What a cell of a notebook says, over and over: type, and bytes of text."""

STATES = ("busy", "idle")
"""What a flood of statuses says by turns."""


def sequence_text(number: int, size: int) -> str:
    """`size` characters that start with the sequence number."""
    return f"seq{number:08d} ".ljust(size, "x")


def content_of(order: Order, number: int) -> tuple[str, dict[str, Any]]:
    """Build type and content of message `number` of a flood."""
    kind, size = order.emit, order.size
    if kind == "notebook":
        kind, size = TRACE[number % len(TRACE)]
    text = sequence_text(number, size)
    shown: dict[str, Any] = {"data": {"text/plain": text}, "metadata": {}}
    contents: dict[str, dict[str, Any]] = {
        "execute_input": {"code": text, "execution_count": 1},
        "stream": {"name": "stdout", "text": text},
        "display_data": shown | {"transient": {"display_id": "flood"}},
        "update_display_data": shown | {"transient": {"display_id": "flood"}},
        "execute_result": shown | {"execution_count": 1},
        "error": {"ename": "Flood", "evalue": text, "traceback": []},
        "comm_msg": {"comm_id": "flood", "data": {"text": text}},
        "status": {"execution_state": STATES[number % 2]},
    }
    if kind not in contents:
        msg = f"emit must be stream, display_data, comm_msg, status or notebook, not {kind!r}"
        raise ValueError(msg)
    return kind, contents[kind]


def buffers_of(order: Order, number: int) -> list[bytes]:
    """Build the buffers of message `number`: none, or one that starts with the number."""
    if not order.buffer:
        return []
    return [number.to_bytes(8, "little").ljust(order.buffer, b"\xa5")[: order.buffer]]


def digest_parts(digest: hashlib._Hash, parts: list[bytes]) -> None:
    """Add one message (header to last buffer), or some of its parts, to a running digest.

    Lengths go in first: without them two different splits of the same bytes would look equal.
    """
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)


class Digests:
    """What was sent, or what arrived, in few bytes."""

    def __init__(self) -> None:
        self.whole = hashlib.sha256()
        """Of every byte of every part."""
        self.contents = hashlib.sha256()
        """Of the contents alone: the default protocol writes the rest anew."""

    def add(self, parts: list[bytes]) -> None:
        """Add one message, header to last buffer."""
        digest_parts(self.whole, parts)
        digest_parts(self.contents, parts[3:4])


class Signer:
    """HMAC-SHA256 over the JSON parts, as the connection file demands."""

    def __init__(self, key: bytes) -> None:
        self._base = hmac.new(key, digestmod=hashlib.sha256) if key else None

    def sign(self, parts: list[bytes]) -> bytes:
        """Hex signature of the four JSON parts, empty when the kernel has no key."""
        if self._base is None:
            return b""
        mac = self._base.copy()
        for part in parts:
            mac.update(part)
        return mac.hexdigest().encode()


class Channels:
    """The five sockets of one kernel."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._context = zmq.Context()
        self._base = f"{connection['transport']}://{connection['ip']}"
        self.signer = Signer(connection["key"].encode())
        self.shell = self._router(connection["shell_port"])
        self.control = self._router(connection["control_port"])
        self.stdin = self._router(connection["stdin_port"])
        self.iopub = self._context.socket(zmq.PUB)
        # No limit: what is measured is the server. With the default of 1000 a slow server would be
        # flattered, because the publisher throws away what the server is too slow to take.
        self.iopub.setsockopt(zmq.SNDHWM, 0)
        self.iopub.bind(f"{self._base}:{connection['iopub_port']}")
        self._start_heartbeat(connection["hb_port"])

    def _router(self, port: int) -> zmq.Socket[bytes]:
        socket = self._context.socket(zmq.ROUTER)
        # A reconnecting websocket keeps its identity; without handover the new peer gets no reply.
        socket.setsockopt(zmq.ROUTER_HANDOVER, 1)
        socket.setsockopt(zmq.LINGER, 1000)
        socket.bind(f"{self._base}:{port}")
        return socket

    def _start_heartbeat(self, port: int) -> None:
        """Echo on a thread of its own, where a flood cannot delay it."""
        socket = self._context.socket(zmq.ROUTER)
        socket.bind(f"{self._base}:{port}")
        threading.Thread(target=zmq.proxy, args=(socket, socket), daemon=True).start()


@dataclass(frozen=True)
class Request:
    """A message that arrived on shell or control."""

    socket: zmq.Socket[bytes]
    identities: list[bytes]
    header: bytes
    content: bytes

    @property
    def msg_type(self) -> str:
        """The request's ``msg_type``."""
        return str(json.loads(self.header)["msg_type"])


class FloodKernel:
    """Answers requests one at a time, on one thread."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self.channels = Channels(connection)
        self.session = f"flood-{os.getpid()}"
        self.sent = 0
        self.running = True

    def run(self) -> None:
        """Serve until a ``shutdown_request`` arrives or the server is gone."""
        poller = zmq.Poller()
        poller.register(self.channels.shell, zmq.POLLIN)
        poller.register(self.channels.control, zmq.POLLIN)
        parent = os.getppid()
        while self.running and os.getppid() == parent:
            for socket, _ in poller.poll(POLL_MS):
                self.answer(self.receive(socket))

    def receive(self, socket: zmq.Socket[bytes]) -> Request:
        """Read one request. Signatures are not checked: the only peer is the benchmark."""
        frames = socket.recv_multipart()
        split = frames.index(DELIMITER)
        return Request(socket, frames[:split], frames[split + 2], frames[split + 5])

    def answer(self, request: Request) -> None:
        """Busy, whatever the request asks for, reply, idle."""
        msg_type = request.msg_type
        self.publish_status(request, "busy")
        content = self.carry_out(msg_type, request)
        if content is not None:
            self.reply(request, msg_type.replace("_request", "_reply"), content)
        self.publish_status(request, "idle")

    def carry_out(self, msg_type: str, request: Request) -> dict[str, Any] | None:
        """Do what is asked; returns the reply's content, None where there is no reply."""
        if msg_type == "execute_request":
            return self.flood(request)
        if msg_type == "comm_msg":
            self.publish(request, "comm_msg", json.loads(request.content))
            return None
        if msg_type == "complete_request":
            return COMPLETION
        if msg_type == "shutdown_request":
            self.running = False
            restart = json.loads(request.content).get("restart", False)
            return {"status": "ok", "restart": restart}
        return KERNEL_INFO

    def publish_status(self, request: Request, state: str) -> None:
        """Publish a ``status`` message whose parent is `request`."""
        self.publish(request, "status", {"execution_state": state})

    def publish(self, request: Request, msg_type: str, content: dict[str, Any]) -> None:
        """Publish one message whose parent is `request`."""
        parts = self.build(msg_type, request.header, content)
        self.channels.iopub.send_multipart(self.signed(msg_type.encode(), parts))

    def reply(self, request: Request, msg_type: str, content: dict[str, Any]) -> None:
        """Answer on the socket the request came from, to the peer it came from."""
        parts = self.build(msg_type, request.header, content)
        frames = [*request.identities, *self.signed(None, parts)]
        request.socket.send_multipart(frames)

    def build(self, msg_type: str, parent: bytes, content: dict[str, Any]) -> list[bytes]:
        """Build the four JSON parts of a message."""
        self.sent += 1
        header = {
            "msg_id": f"{self.session}_{self.sent}",
            "msg_type": msg_type,
            "username": "flood",
            "session": self.session,
            "date": DATE,
            "version": PROTOCOL_VERSION,
        }
        return [json.dumps(header).encode(), parent, b"{}", json.dumps(content).encode()]

    def signed(self, topic: bytes | None, parts: list[bytes]) -> list[bytes]:
        """Frames for the wire: topic if any, delimiter, signature, parts."""
        head = [] if topic is None else [topic]
        return [*head, DELIMITER, self.channels.signer.sign(parts[:4]), *parts]

    def flood(self, request: Request) -> dict[str, Any]:
        """Carry out one order and say in the reply what was sent, and when."""
        order = Order(**json.loads(json.loads(request.content)["code"]))
        digests = Digests()
        messages = list(self.prepare(order, request.header, digests))
        gc.collect()
        gc.freeze()  # or the collector walks every prepared message in the middle of the flood
        sent_ns = self.emit(order, messages)
        flood = {
            "count": order.count,
            "digest": digests.whole.hexdigest(),
            "content_digest": digests.contents.hexdigest(),
            "started_ns": sent_ns[0],
            "finished_ns": time.monotonic_ns(),
            "sent_ns": sent_ns,
        }
        return {"status": "ok", "execution_count": 1, "user_expressions": {}, "flood": flood}

    def prepare(self, order: Order, parent: bytes, digests: Digests) -> Iterator[list[bytes]]:
        """Build and sign every message of the flood."""
        for number in range(order.count):
            kind, content = content_of(order, number)
            parts = self.build(kind, parent, content)
            parts += buffers_of(order, number)
            digests.add(parts)
            yield self.signed(kind.encode(), parts)

    def emit(self, order: Order, messages: list[list[bytes]]) -> list[int]:
        """Send; returns the send times in ns (only the first one if there is no schedule)."""
        wait_until(order.start_ns)
        started = time.monotonic_ns()
        send = self.channels.iopub.send_multipart
        if not order.rate:
            for frames in messages:
                send(frames)
            return [started]
        sent_ns = []
        for number, frames in enumerate(messages):
            # Absolute times: a late message must not delay all that follow.
            wait_until(started + int(number * 1e9 / order.rate))
            sent_ns.append(time.monotonic_ns())
            send(frames)
        return sent_ns


def wait_until(deadline_ns: int) -> None:
    """Sleep until `time.monotonic_ns()` reaches `deadline_ns`."""
    left = deadline_ns - time.monotonic_ns()
    if left > 0:
        time.sleep(left / 1e9)


def main() -> None:
    """Entry point of the kernelspec: ``flood_kernel.py -f CONNECTION_FILE``."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-f", dest="connection_file", type=Path, required=True)
    parser.add_argument("--cpus", default="", help="run on these cores only, like 1,2,3")
    options = parser.parse_args()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the server decides when a kernel ends
    if options.cpus:
        # Kernels inherit the server's affinity, and that core is the one being measured.
        os.sched_setaffinity(0, {int(cpu) for cpu in options.cpus.split(",")})
    FloodKernel(json.loads(options.connection_file.read_text())).run()


if __name__ == "__main__":
    main()
