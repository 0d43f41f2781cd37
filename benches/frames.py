"""How tornado reads a client's frame, which is before stock or kernelwire have the message.

What is timed is one turn of the event loop as a server has it: the socket is readable, tornado
reads, unmasks and, where it is text, decodes, ``on_message`` is called, and the next frame is
waited for.
"""

from __future__ import annotations

import asyncio
import socket
from contextlib import contextmanager
from threading import Thread
from typing import TYPE_CHECKING, Any

from tornado.iostream import IOStream
from tornado.websocket import WebSocketProtocol13, _WebSocketParams

from kernelwire.bench.client import OP_BINARY, OP_TEXT, masked_frame

if TYPE_CHECKING:
    from collections.abc import Iterator


class Reader:
    """A websocket of tornado's, and a client that sends it one message again and again."""

    def __init__(self, message: str | bytes, loop: asyncio.AbstractEventLoop) -> None:
        if isinstance(message, str):
            self._frame = masked_frame(OP_TEXT, message.encode())
        else:
            self._frame = masked_frame(OP_BINARY, message)
        self._loop = loop
        self._message: Any = None
        near, self._client = socket.socketpair()
        self._sending = Thread()
        protocol = WebSocketProtocol13(self, mask_outgoing=False, params=_WebSocketParams())  # type: ignore[arg-type]
        self._stream = protocol.stream = IOStream(near)
        self._reading = loop.create_task(protocol._receive_frame_loop())

    def send(self) -> None:
        """Send a frame; what the system does not take at once is sent while it is read."""
        sent = self._client.send(self._frame, socket.MSG_DONTWAIT)
        if sent < len(self._frame):
            self._sending = Thread(target=self._client.sendall, args=(self._frame[sent:],))
            self._sending.start()

    def read(self) -> None:
        """Run the event loop until the message has been read."""
        self._loop.run_forever()

    def answer(self) -> Any:
        """Send once; what tornado then hands over."""
        self.send()
        self.read()
        return self._message

    def close(self) -> None:
        """Close both ends."""
        self._stream.close()
        self._loop.run_until_complete(self._reading)
        if self._sending.ident:
            self._sending.join()
        self._client.close()

    # what tornado asks of a handler

    def on_message(self, message: Any) -> None:
        """Take a message; the event loop has done its work."""
        self._message = message
        self._loop.stop()

    def on_ws_connection_close(self, *_: Any) -> None:
        """Stop waiting for a message."""
        self._loop.stop()

    def log_exception(self, _: Any, error: BaseException, *__: Any) -> None:
        """Let nothing pass in silence."""
        raise error


@contextmanager
def reading(message: str | bytes) -> Iterator[Reader]:
    """Make a reader of a message, and an event loop for it."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    reader = Reader(message, loop)
    try:
        yield reader
    finally:
        reader.close()
        asyncio.set_event_loop(None)
        loop.close()
