"""How what a pump has made gets to the client."""

from __future__ import annotations

from typing import Any

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

__all__ = ["BlockWriter", "MessageWriter", "is_open", "pending_bytes", "writer_for"]


class MessageWriter:
    """Writes each message through the handler: for websockets that are not plain."""

    block = False
    """The pump makes messages, not websocket frames."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def __call__(self, messages: list[bytes]) -> None:
        """Write ``messages``; raises ``WebSocketClosedError`` as the handler does."""
        for message in messages:
            self._handler.write_message(message, binary=True)


class BlockWriter:
    """Writes a block of websocket frames with one call: for plain websockets."""

    block = True
    """The pump makes websocket frames, back to back."""

    def __init__(self, stream: IOStream) -> None:
        self._stream = stream
        # Under TLS the socket must be written by the stream, which knows the engine's state.
        self._direct = type(stream) is IOStream

    def __call__(self, block: bytes) -> None:
        """Write ``block``; raises ``WebSocketClosedError`` where the client is gone.

        Where nothing waits to be written, the block goes to the socket at once: tornado's buffer
        would copy it, and add a future, for what in all likelihood the socket takes whole.
        """
        stream = self._stream
        sent = 0
        if self._direct and not stream.writing() and stream.socket is not None:
            try:
                sent = stream.socket.send(block)
            except OSError:
                sent = 0  # the stream meets it again, and does what tornado does
            if sent == len(block):
                return
        try:
            stream.write(memoryview(block)[sent:])
        except StreamClosedError:
            raise WebSocketClosedError from None


def writer_for(handler: Any) -> BlockWriter | MessageWriter:
    """Choose the writer for the handler's websocket."""
    websocket = handler.ws_connection
    plain = (
        type(websocket) is WebSocketProtocol13
        and not websocket.mask_outgoing
        and websocket._compressor is None
        and type(handler).write_message is WebSocketHandler.write_message
        and "write_message" not in vars(handler)
        and type(websocket.stream) in (IOStream, SSLIOStream)
    )
    return BlockWriter(websocket.stream) if plain else MessageWriter(handler)


def is_open(handler: Any) -> bool:
    """Whether messages can still be written to the handler's websocket."""
    websocket = handler.ws_connection
    return websocket is not None and not websocket.is_closing()


def pending_bytes(handler: Any) -> int:
    """Count the bytes that were written to the websocket and that its socket has not yet taken.

    Under TLS, bytes before encryption. Tornado has no public name for it; see ``IOStream.write``.
    """
    stream: Any = getattr(handler.ws_connection, "stream", None)
    if type(stream) not in (IOStream, SSLIOStream) or stream.closed():
        return 0
    return len(stream._write_buffer)
