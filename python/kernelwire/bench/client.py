"""A websocket client that costs next to nothing, for both of Jupyter Server's protocols.

On a machine with few cores a client that decodes what it gets takes the time it is meant to
measure. While the clock runs this one copies bytes into one buffer and walks from frame header to
frame header; what was in them is decoded and checked by `kernelwire.bench.verify` after the clock stopped.

Frame, as a server sends it (RFC 6455 section 5.2, unmasked)::

    byte 0   FIN, RSV1-3, opcode
    byte 1   0, length (126: two more bytes follow, 127: eight more)

Payload (all integers little endian, 8 bytes)::

    count | offset 0 .. offset count-1 | channel | header | parent | metadata | content | buffers
"""

from __future__ import annotations

import base64
import json
import os
import selectors
import socket
import struct
import time
import uuid
from bisect import bisect_left
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SUBPROTOCOL = "v1.kernel.websocket.jupyter.org"
RECV_BYTES = 256 * 1024
"""Per `recv`: a larger bite would keep other sockets of the same loop waiting."""
INITIAL_BYTES = 8 * 1024 * 1024
OP_TEXT, OP_BINARY, OP_CLOSE, OP_PING, OP_PONG = 0x1, 0x2, 0x8, 0x9, 0xA
FIN = 0x80


class ClientError(Exception):
    """The server broke the websocket protocol or closed the connection."""


class SilenceError(Exception):
    """Nothing arrived for the time given, although something was expected."""


class Source(Protocol):
    """Something `pump` can wait for."""

    sock: socket.socket

    def on_readable(self) -> None:
        """Take what has arrived."""


def pump(
    sources: Sequence[Source], done: Callable[[], bool], quiet: float, tick: float = 0
) -> None:
    """Serve `sources` until `done()`.

    Raises `SilenceError` when nothing arrives for `quiet` seconds. With `tick` seconds given,
    `done` is also asked that often when nothing arrives.
    """
    with selectors.DefaultSelector() as selector:
        for source in sources:
            selector.register(source.sock, selectors.EVENT_READ, source.on_readable)
        last = time.monotonic()
        while not done():
            events = selector.select(tick or quiet)
            for key, _ in events:
                key.data()
            now = time.monotonic()
            if events:
                last = now
            elif now - last >= quiet:
                raise SilenceError(f"nothing arrived for {quiet:g} s")


class KernelSocket:
    """One websocket to one kernel. Received payloads stay in memory until `clear`."""

    def __init__(self, port: int, token: str, kernel_id: str, *, legacy: bool = False) -> None:
        self.session = uuid.uuid4().hex
        self.legacy = legacy
        """Whether the default protocol is spoken: JSON, one text frame per message."""
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=60)
        # As browsers do: the client's side must not add a delay of its own.
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(INITIAL_BYTES)
        self._reset()
        self._handshake(port, token, kernel_id)
        self.sock.setblocking(False)

    def _reset(self) -> None:
        self._end = 0
        self._next = 0
        self._starts: list[int] = []
        self._stops: list[int] = []
        self._read_ends: list[int] = []
        self._read_ns: list[int] = []

    def _handshake(self, port: int, token: str, kernel_id: str) -> None:
        key = base64.b64encode(os.urandom(16)).decode()
        lines = [
            f"GET /api/kernels/{kernel_id}/channels?session_id={self.session} HTTP/1.1",
            f"Host: 127.0.0.1:{port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {key}",
            "Sec-WebSocket-Version: 13",
            f"Authorization: token {token}",
        ]
        if not self.legacy:
            lines.append(f"Sec-WebSocket-Protocol: {SUBPROTOCOL}")
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        reply = b""
        while b"\r\n\r\n" not in reply:
            chunk = self.sock.recv(1)  # one by one: what follows the header is a frame
            if not chunk:
                raise ClientError("the server closed the connection during the handshake")
            reply += chunk
        if b" 101 " not in reply.split(b"\r\n")[0]:
            raise ClientError(f"no upgrade: {reply[:300]!r}")
        if (SUBPROTOCOL.encode() in reply) is self.legacy:
            raise ClientError(f"not the protocol asked for: {reply[:300]!r}")

    def reserve(self, size: int) -> None:
        """Make room for `size` bytes now, so that growing is not part of what is timed."""
        missing = self._end + size + 2 * RECV_BYTES - len(self._buffer)
        self._buffer.extend(bytes(max(0, missing)))

    @property
    def count(self) -> int:
        """Messages received since the last `clear`."""
        return len(self._starts)

    @property
    def payload_bytes(self) -> int:
        """Bytes of all payloads received since the last `clear`."""
        return sum(self._stops) - sum(self._starts)

    def payload(self, index: int) -> bytes:
        """Return the payload of message `index`."""
        return bytes(self._buffer[self._starts[index] : self._stops[index]])

    def arrived_ns(self, index: int) -> int:
        """When the last byte of message `index` was read, in `time.monotonic_ns()`."""
        return self._read_ns[bisect_left(self._read_ends, self._stops[index])]

    def clear(self) -> None:
        """Forget everything received so far; only between messages."""
        if self._next != self._end:
            raise ClientError("clear() in the middle of a frame")
        self._reset()

    def on_readable(self, most: int = RECV_BYTES) -> None:
        """One `recv` of so many bytes at most, and a walk over the frames it completed."""
        if len(self._buffer) - self._end < RECV_BYTES:
            self._buffer.extend(bytes(len(self._buffer)))
        with memoryview(self._buffer) as view:
            try:
                got = self.sock.recv_into(view[self._end :], most)
            except BlockingIOError:
                return
        if not got:
            raise ClientError("the server closed the connection")
        self._end += got
        self._read_ends.append(self._end)
        self._read_ns.append(time.monotonic_ns())
        self._walk()

    def _walk(self) -> None:
        """Note where each complete data frame starts and stops."""
        buffer, end, position = self._buffer, self._end, self._next
        data = FIN | (OP_TEXT if self.legacy else OP_BINARY)
        while position + 2 <= end:
            start = position + 2
            length = buffer[position + 1]
            if length >= 126:
                size = 2 if length == 126 else 8
                start += size
                if start > end:
                    break
                length = int.from_bytes(buffer[position + 2 : start], "big")
            stop = start + length
            if stop > end:
                break
            if buffer[position] == data:
                self._starts.append(start)
                self._stops.append(stop)
            else:
                self._control_frame(buffer[position], bytes(buffer[start:stop]))
            position = stop
        self._next = position

    def _control_frame(self, first: int, payload: bytes) -> None:
        if first == FIN | OP_PING:
            self._send_frame(OP_PONG, payload)
        elif first == FIN | OP_CLOSE:
            raise ClientError(f"the server closed the websocket: {payload!r}")
        elif first != FIN | OP_PONG:
            raise ClientError(f"unexpected frame, first byte {first:#x}")

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        """Send one masked frame. Requests are small; blocking for them is simpler than a queue."""
        frame = masked_frame(opcode, payload)
        if self.sock.send(frame) != len(frame):
            raise ClientError("the server does not read its websocket")

    def send(self, msg_type: str, content: dict[str, Any], channel: str = "shell") -> str:
        """Send a request; returns its ``msg_id``."""
        msg_id = uuid.uuid4().hex
        header = {
            "msg_id": msg_id,
            "msg_type": msg_type,
            "username": "bench",
            "session": self.session,
            "date": "2026-01-01T00:00:00.123456Z",
            "version": "5.3",
        }
        if self.legacy:
            names = ("header", "parent_header", "metadata", "content", "channel")
            message = dict(zip(names, (header, {}, {}, content, channel), strict=True))
            self._send_frame(OP_TEXT, json.dumps(message).encode())
        else:
            parts = [json.dumps(part).encode() for part in (header, {}, {}, content)]
            self._send_frame(OP_BINARY, encode_v1(channel, parts))
        return msg_id

    def execute(self, code: str) -> str:
        """Send an ``execute_request`` for `code`; returns its ``msg_id``."""
        content = {
            "code": code,
            "silent": False,
            "store_history": False,
            "user_expressions": {},
            "allow_stdin": False,
            "stop_on_error": True,
        }
        return self.send("execute_request", content)

    def wait_for(self, count: int, quiet: float) -> None:
        """Receive until `count` messages are here (see `pump` for `quiet`)."""
        pump([self], lambda: self.count >= count, quiet)

    def close(self) -> None:
        """Drop the connection without a closing handshake."""
        self.sock.close()


def masked_frame(opcode: int, payload: bytes) -> bytes:
    """Make a frame as a client sends it."""
    mask = os.urandom(4)
    size = len(payload)
    stretched = (mask * (size // 4 + 1))[:size]
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(stretched, "big")
    if size < 126:
        head = struct.pack("!BB", FIN | opcode, 0x80 | size)
    elif size < 1 << 16:
        head = struct.pack("!BBH", FIN | opcode, 0x80 | 126, size)
    else:
        head = struct.pack("!BBQ", FIN | opcode, 0x80 | 127, size)
    return head + mask + masked.to_bytes(size, "big")


def encode_v1(channel: str, parts: Sequence[bytes]) -> bytes:
    """Build the v1 payload of a message."""
    pieces = [channel.encode(), *parts]
    offsets = [8 * (len(pieces) + 2)]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece))
    return b"".join([struct.pack(f"<{len(offsets) + 1}Q", len(offsets), *offsets), *pieces])
