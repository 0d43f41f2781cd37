"""How what a pump has made gets to the client."""

from __future__ import annotations

from typing import Any

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

__all__ = ["BlockWriter", "MessageWriter", "is_open", "payloads", "writer_for"]


class MessageWriter:
    """Writes each message through the handler: for websockets that are not plain."""

    block = False
    """The pump makes messages, not websocket frames."""

    behind = True
    """Whether something may wait for the client: the handler does not say."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler

    def is_open(self) -> bool:
        """Whether messages can be written."""
        return is_open(self._handler)

    def __call__(self, messages: list[bytes]) -> list[bytes]:
        """Write ``messages``; returns those for which the websocket was closed."""
        for index, message in enumerate(messages):
            try:
                self._handler.write_message(message, binary=True)
            except WebSocketClosedError:  # noqa: PERF203 (what follows is kept)
                return messages[index:]
        return []


class BlockWriter:
    """Writes a block of websocket frames with one call: for plain websockets."""

    block = True
    """The pump makes websocket frames, back to back."""

    def __init__(self, handler: Any, websocket: WebSocketProtocol13) -> None:
        self._handler = handler
        self._websocket = websocket
        self._stream = websocket.stream
        # Under TLS the socket must be written by the stream, which knows the engine's state.
        self._direct = type(self._stream) is IOStream
        self.behind = not self._direct
        """Whether something may wait for the client."""

    def is_open(self) -> bool:
        """Whether frames can be written; ``is_closing`` of tornado without its calls."""
        websocket = self._websocket
        return not (
            self._handler.ws_connection is None
            or websocket.client_terminated
            or websocket.server_terminated
            or self._stream._closed
        )

    def __call__(self, block: bytes) -> list[bytes]:
        """Write ``block``; returns its messages where nothing of it was taken: the client is gone.

        Where nothing waits to be written, the block goes to the socket at once: tornado's buffer
        would copy it, and add a future, for what in all likelihood the socket takes whole.
        """
        stream = self._stream
        sent = 0
        if self._direct and stream._total_write_index == stream._total_write_done_index:
            try:
                sent = stream.socket.send(block)
            except BlockingIOError:
                sent = 0
            except (OSError, AttributeError) as error:  # the latter: closed, without a socket
                stream.close(exc_info=error)  # what tornado does when a write fails
                return payloads(block)
            if sent == len(block):
                self.behind = False
                return []
        self.behind = True
        try:
            stream.write(memoryview(block)[sent:])
        except StreamClosedError:
            return payloads(block)
        return []


def payloads(block: bytes) -> list[bytes]:
    """Take the messages out of a block of websocket frames, as a server sends them (RFC 6455)."""
    messages = []
    at = 0
    while at < len(block):
        length, at = block[at + 1], at + 2
        for mark, size in ((126, 2), (127, 8)):
            if length == mark:
                length, at = int.from_bytes(block[at : at + size], "big"), at + size
                break
        messages.append(block[at : at + length])
        at += length
    return messages


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
    return BlockWriter(handler, websocket) if plain else MessageWriter(handler)


def is_open(handler: Any) -> bool:
    """Whether messages can still be written to the handler's websocket."""
    websocket = handler.ws_connection
    return websocket is not None and not websocket.is_closing()
