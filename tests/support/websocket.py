"""A websocket client without a library: what is on the wire is what the tests see.

Blocking, because a test reads best from top to bottom, and able to misbehave: a connection can be
reset, left unread, or sent bytes no decent client would send.
"""

from __future__ import annotations

import base64
import secrets
import socket
import struct
import time
import zlib
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
NORMAL, GOING_AWAY, TOO_BIG = 1000, 1001, 1009
COMPRESSED = 0x40
# Legal, and it spares a Python loop over megabytes.
ZERO_MASK = b"\0\0\0\0"


class HandshakeRefusedError(Exception):
    """The server answered the upgrade with something else than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the server answered {status}")
        self.status = status


class ConnectionClosedError(Exception):
    """The server ended the connection; `code` is its close code (1006: it sent none)."""

    def __init__(self, code: int) -> None:
        super().__init__(f"closed with {code}")
        self.code = code


class WebSocket:
    """One client connection, from the upgrade to the last byte."""

    def __init__(
        self,
        open_socket: Callable[[], socket.socket],
        path: str,
        *,
        headers: Mapping[str, str] | None = None,
        compression: bool = False,
        max_size: int | None = None,
        closes: bool = True,
        timeout: float = 60.0,
    ) -> None:
        """Open a connection; one that gets a larger frame than ``max_size`` refuses it.

        It ``closes`` with code 1009 then, as clients do, or without a word, as a proxy.
        """
        self._max_size = max_size
        self._closes = closes
        self._socket = open_socket()
        self._buffer = bytearray()
        self._inflater = zlib.decompressobj(-zlib.MAX_WBITS)
        self._close_sent = self._close_received = False
        self._compresses = compression
        self.compressed_frames = 0
        self.before_pong: Callable[[], None] | None = None
        """Called when a ping has come, before it is answered."""
        try:
            self.response_headers = self._shake_hands(path, headers or {}, compression, timeout)
        except BaseException:
            self._socket.close()
            raise

    def send(self, payload: bytes | str) -> None:
        """Send one whole message."""
        data = payload.encode() if isinstance(payload, str) else payload
        self._send_frame(TEXT if isinstance(payload, str) else BINARY, data)

    def announce(self, size: int) -> None:
        """Send the head of a message of so many bytes, and nothing of the message."""
        self._socket.sendall(_head(BINARY, size) + ZERO_MASK)

    def receive(self, deadline: float) -> bytes | str:
        """The next message; pings are answered on the way."""
        while True:
            first, payload = self._read_frame(deadline)
            opcode = first & 0x0F
            if opcode == PING:
                if self.before_pong is not None:
                    self.before_pong()
                with suppress(ConnectionError):  # what came before the end is still to be read
                    self._send_frame(PONG, payload)
            elif opcode == CLOSE:
                self._answer_close(payload)
            elif opcode in (TEXT, BINARY):
                data = self._inflate(payload) if first & COMPRESSED else payload
                return data.decode() if opcode == TEXT else data

    def start_close(self, code: int = NORMAL) -> None:
        """Ask for a clean close, unless that was done, and keep reading."""
        if not self._close_sent:
            self._close_sent = True
            self._send_frame(CLOSE, struct.pack("!H", code))

    def close(self, timeout: float = 10.0) -> None:
        """Close cleanly: handshake, then the socket."""
        if self.closed:
            return
        deadline = time.monotonic() + timeout
        try:
            self.start_close()
            while True:
                self.receive(deadline)
        except (ConnectionClosedError, ConnectionError):
            pass
        finally:
            self._socket.close()

    @property
    def closed(self) -> bool:
        """Whether this side has let go of its socket."""
        return self._socket.fileno() < 0

    def reset(self) -> None:
        """Drop the connection as a dying machine does: no close frame, a TCP reset."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._socket.close()

    def _shake_hands(
        self, path: str, headers: Mapping[str, str], compression: bool, timeout: float
    ) -> dict[str, str]:
        lines = [
            f"GET {path} HTTP/1.1",
            "Host: localhost",
            "Upgrade: websocket",
            "Connection: Upgrade",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {base64.b64encode(secrets.token_bytes(16)).decode()}",
            *(f"{name}: {value}" for name, value in headers.items()),
        ]
        if compression:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate")
        self._socket.sendall("\r\n".join([*lines, "", ""]).encode())
        deadline = time.monotonic() + timeout
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            self._fill(deadline)
        head = self._buffer[:end].decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        status = int(head[0].split(" ")[1])
        if status != 101:
            raise HandshakeRefusedError(status)
        return {name.lower(): value for name, value in (line.split(": ", 1) for line in head[1:])}

    def _send_frame(self, opcode: int, payload: bytes) -> None:
        self._socket.settimeout(30)
        self._socket.sendall(_head(opcode, len(payload)) + ZERO_MASK + payload)

    def _read_frame(self, deadline: float) -> tuple[int, bytes]:
        # Nothing is taken before all is there: a timeout must not lose half a frame.
        self._need(2, deadline)
        first, second = self._buffer[:2]
        if not first & 0x80 or second & 0x80:
            raise ValueError("the server sent a fragmented or a masked frame")
        start, size = 2, second & 0x7F
        if size >= 126:
            start = 4 if size == 126 else 10
            self._need(start, deadline)
            size = int.from_bytes(self._buffer[2:start], "big")
        if self._max_size is not None and size > self._max_size:
            self._refuse()
        self._need(start + size, deadline)
        payload = bytes(self._buffer[start : start + size])
        del self._buffer[: start + size]
        self._check(first, second & 0x7F, payload)
        return first, payload

    def _check(self, first: int, length: int, payload: bytes) -> None:
        """Refuse what RFC 6455 forbids (5.2, 5.5, 7.4.1): a fast writer must not be a careless one."""
        opcode, reserved = first & 0x0F, first & 0x70
        shortest = 125 if length <= 125 else 0xFFFF if length == 127 else 125
        wrong = (
            (opcode not in (TEXT, BINARY, CLOSE, PING, PONG), "an unknown opcode"),
            (reserved & ~(COMPRESSED if self._compresses else 0), "a reserved bit"),
            (length > 125 and len(payload) <= shortest, "a length that is longer than needed"),
            (opcode >= CLOSE and len(payload) > 125, "a control frame that is too long"),
            (
                opcode == CLOSE and not _closes_rightly(payload),
                "a close code that must not be sent",
            ),
            (self._close_received, "something behind its close frame"),
        )
        if found := [text for is_wrong, text in wrong if is_wrong]:
            raise ValueError(f"the server sent {', '.join(found)}: {first:#x}, {payload[:80]!r}")
        if opcode == TEXT and not reserved:
            payload.decode()
        self._close_received = opcode == CLOSE

    def _refuse(self) -> None:
        """Refuse a frame that is too large; the server hangs up then."""
        if not self._closes:
            self.reset()
            raise ConnectionClosedError(1006)
        # Nothing more is read: what the sockets take from here on would be lost.
        self._close_sent = True
        self._send_frame(CLOSE, struct.pack("!H", TOO_BIG))
        raise ConnectionClosedError(TOO_BIG)

    def _need(self, count: int, deadline: float) -> None:
        while len(self._buffer) < count:
            self._fill(deadline)

    def _fill(self, deadline: float) -> None:
        self._socket.settimeout(max(deadline - time.monotonic(), 0.001))
        try:
            data = self._socket.recv(1 << 20)
        except ConnectionResetError:
            data = b""
        if not data:
            raise ConnectionClosedError(1006)
        self._buffer += data

    def _inflate(self, payload: bytes) -> bytes:
        self.compressed_frames += 1
        return self._inflater.decompress(payload + b"\0\0\xff\xff")

    def _answer_close(self, payload: bytes) -> None:
        if not self._close_sent:
            self._close_sent = True
            self._send_frame(CLOSE, payload[:2])
        raise ConnectionClosedError(struct.unpack("!H", payload[:2])[0] if payload else 1005)


def _head(opcode: int, size: int) -> bytes:
    """What stands before the mask of a whole message."""
    if size < 126:
        return struct.pack("!BB", 0x80 | opcode, 0x80 | size)
    if size <= 0xFFFF:
        return struct.pack("!BBH", 0x80 | opcode, 0x80 | 126, size)
    return struct.pack("!BBQ", 0x80 | opcode, 0x80 | 127, size)


def _closes_rightly(payload: bytes) -> bool:
    """Whether a close frame says nothing, or a code that may be sent and a reason. RFC 6455, 7.4."""
    if not payload:
        return True
    payload[2:].decode()
    code = int.from_bytes(payload[:2], "big")
    return len(payload) > 1 and (
        code in {*range(1000, 1004), *range(1007, 1016)} - {1015} or code in range(3000, 5000)
    )
