"""How what a pump has made gets to the client."""

from __future__ import annotations

import errno
import os
from asyncio import isfuture
from collections import deque
from typing import TYPE_CHECKING, Any

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.log import gen_log
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

from kernelwire._compat import Feature, is_off
from kernelwire._compat.tornado import compresses, indexes, sent_index, write_index
from kernelwire._logs import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "BlockWriter",
    "InFlight",
    "MessageWriter",
    "Pieces",
    "is_open",
    "payloads",
    "writer_for",
]


class Pieces(tuple[Any, ...]):
    """A block of websocket frames, in pieces: bytes, and views of what libzmq has received."""

    __slots__ = ()

    @classmethod
    def of(cls, parts: list[Any]) -> Pieces:
        """Make views of the parts that are not bytes; a view keeps its part alive."""
        return cls(part if type(part) is bytes else memoryview(part) for part in parts)


class InFlight:
    """What was written to a websocket, as long as the operating system has not taken all of it.

    Where the client is gone, it cannot have received that. Nothing is remembered where tornado's
    indexes, by which it is known, are not what they should be.
    """

    def __init__(self, websocket: Any) -> None:
        stream = getattr(websocket, "stream", None)
        plain = type(stream) in (IOStream, SSLIOStream) and not is_off(Feature.DIRECT_WRITING)
        self._stream: Any = stream if plain else None
        self._items: deque[tuple[int, Any]] = deque()
        self._taken_before = self.position

    @property
    def position(self) -> int:
        """How many bytes were ever written."""
        return write_index(self._stream) if self._stream is not None else 0

    def add(self, item: Any) -> None:
        """Note that ``item`` has just been written."""
        if self._stream is not None:
            self._items.append((write_index(self._stream), item))

    def forget(self, _written: Any = None) -> None:
        """Forget what the socket has taken."""
        items = self._items
        while items and items[0][0] <= sent_index(self._stream):
            self._taken_before = items.popleft()[0]

    def left(self) -> Iterator[tuple[Any, int]]:
        """Give each item that is left, and how many bytes up to its end were not taken."""
        for end, item in self._items:
            missing = end - sent_index(self._stream)
            if missing > 0:
                yield item, missing

    def is_begun(self) -> bool:
        """Whether the socket has taken the beginning of the first message that is left."""
        self.forget()
        if not self._items:
            return False
        end, item = self._items[0]
        done = sent_index(self._stream)
        if isinstance(item, (bytes, Pieces)):
            block = item if isinstance(item, bytes) else b"".join(item)
            taken = len(block) - (end - done)
            return all(end != taken for _, end in _frames(block)) and taken > 0
        return bool(done > self._taken_before)

    def seal(self) -> None:
        """Make sure that what is left stays so: it is about to be sent on another connection."""
        self.forget()
        if self._items:
            self._stream.close()

    @property
    def sealed(self) -> bool:
        """Whether the socket takes no more."""
        return self._stream is not None and self._stream.closed()


class MessageWriter:
    """Writes each message through the handler: for websockets that are not plain."""

    block = False
    """The pump makes messages, not websocket frames."""

    behind = True
    """Whether something may wait for the client: the handler does not say."""

    def __init__(self, handler: Any) -> None:
        self._handler = handler
        self._failures = Throttle(gen_log)
        self.in_flight = InFlight(handler.ws_connection)

    def is_open(self) -> bool:
        """Whether messages can be written."""
        return is_open(self._handler)

    def descriptor(self) -> int | None:
        """Return ``None`` where nothing can be written, else -1: there is no direct way."""
        return -1 if is_open(self._handler) else None

    def send(self, _messages: list[str | bytes], _descriptor: int) -> int:
        """Send nothing: there is no direct way."""
        return 0

    def __call__(self, messages: list[str | bytes], _sent: int = 0) -> list[str | bytes]:
        """Write ``messages``; returns those for which the websocket was closed.

        One that the handler refuses is lost, and logged.
        """
        for index, message in enumerate(messages):
            try:
                written = self._handler.write_message(message, isinstance(message, bytes))
            except WebSocketClosedError:
                return messages[index:]
            except Exception:
                self._failures.failure("refused", "The websocket's handler refused a message")
                continue
            self.in_flight.add([message])
            when_written(written, self.in_flight)
        return []


class BlockWriter:
    """Writes a block of websocket frames with one call: for plain websockets."""

    block = True
    """The pump makes websocket frames, back to back."""

    def __init__(self, handler: Any, websocket: WebSocketProtocol13) -> None:
        self._handler = handler
        self._websocket = websocket
        self._stream = websocket.stream
        self.in_flight = InFlight(websocket)
        # Under TLS the socket must be written by the stream, which knows the engine's state.
        direct = type(self._stream) is IOStream and self._stream.socket is not None
        self._descriptor = self._stream.socket.fileno() if direct else -1
        self.behind = not direct
        """Whether something may wait for the client."""

    def is_open(self) -> bool:
        """Whether frames can be written."""
        return self.descriptor() is not None

    def descriptor(self) -> int | None:
        """Return the socket to which a block may be sent at once.

        -1 where something waits to be written before it, or where only the stream can write;
        ``None`` where nothing can be written any more. Where nothing waits, the stream's buffer
        would copy the block, and add a future, for what in all likelihood the socket takes whole.
        """
        websocket, stream = self._websocket, self._stream
        if (
            self._handler.ws_connection is None
            # ``is_closing`` of tornado, without its calls.
            or websocket.client_terminated
            or websocket.server_terminated
            or stream.closed()
        ):
            return None
        written, sent = indexes(stream)
        return self._descriptor if written == sent else -1

    def send(self, block: bytes | list[Any], descriptor: int) -> int:
        """Send as ``Pump.drain`` does: returns how many bytes, or an error's number, negative."""
        if descriptor < 0 or not isinstance(block, bytes):
            return 0
        try:
            return int(self._stream.socket.send(block))
        except BlockingIOError:
            return 0
        except OSError as error:
            return -(error.errno or errno.EIO)

    def __call__(self, block: bytes | list[Any], sent: int = 0) -> list[bytes]:
        """Write what is left of ``block``, of which ``sent`` bytes were sent to the descriptor.

        Where that failed, ``sent`` is the error's number, negative. Returns the messages that
        were not taken because the client is gone.
        """
        stream = self._stream
        if not isinstance(block, bytes):
            return self._write_pieces(Pieces.of(block))
        if sent < 0:
            # What tornado does when a write fails.
            stream.close(exc_info=OSError(-sent, os.strerror(-sent)))
            return payloads(block)
        self.behind = sent < len(block)
        if not self.behind:
            return []
        try:
            written = stream.write(memoryview(block)[sent:])
        except StreamClosedError:
            return payloads(block)
        self.in_flight.add(block)
        written.add_done_callback(self.in_flight.forget)
        return []

    def _write_pieces(self, pieces: Pieces) -> list[bytes]:
        """Write a block that is in pieces; nothing of it is copied."""
        self.behind = True
        written: Any = None
        try:
            for piece in pieces:
                written = self._stream.write(piece)
        except StreamClosedError:
            # The client is gone: what was written of it does not matter any more.
            return payloads(b"".join(pieces))
        self.in_flight.add(pieces)
        written.add_done_callback(self.in_flight.forget)
        return []


def when_written(written: Any, in_flight: InFlight) -> None:
    """Take note of it when a message that a handler writes is written, or never will be.

    Nobody else asks: without this, each message that is left when a client goes is logged.
    """
    if isfuture(written):
        written.add_done_callback(lambda done: done.cancelled() or done.exception())
        written.add_done_callback(in_flight.forget)


def payloads(block: bytes, taken: int = 0) -> list[bytes]:
    """Take the messages out of a block of websocket frames, as a server sends them (RFC 6455).

    Those that end within the first ``taken`` bytes are left out.
    """
    return [block[start:end] for start, end in _frames(block) if end > taken]


def _frames(block: bytes) -> Iterator[tuple[int, int]]:
    """Give where the payload of each websocket frame begins and where it ends."""
    at = 0
    while at < len(block):
        length, at = block[at + 1], at + 2
        for mark, size in ((126, 2), (127, 8)):
            if length == mark:
                length, at = int.from_bytes(block[at : at + size], "big"), at + size
                break
        yield at, at + length
        at += length


def writer_for(handler: Any) -> BlockWriter | MessageWriter:
    """Choose the writer for the handler's websocket: the same for all that write to it."""
    websocket = handler.ws_connection
    if not isinstance(websocket, WebSocketProtocol13):
        return MessageWriter(handler)
    writer: BlockWriter | MessageWriter | None = vars(websocket).get("kernelwire_writer")
    if writer is None:
        writer = _new_writer(handler, websocket)
        vars(websocket)["kernelwire_writer"] = writer
    return writer


def _new_writer(handler: Any, websocket: WebSocketProtocol13) -> BlockWriter | MessageWriter:
    plain = (
        not is_off(Feature.DIRECT_WRITING)
        and type(websocket) is WebSocketProtocol13
        and not websocket.mask_outgoing
        and not compresses(websocket)
        and type(handler).write_message is WebSocketHandler.write_message
        and "write_message" not in vars(handler)
        and type(websocket.stream) in (IOStream, SSLIOStream)
    )
    return BlockWriter(handler, websocket) if plain else MessageWriter(handler)


def is_open(handler: Any) -> bool:
    """Whether messages can still be written to the handler's websocket."""
    websocket = handler.ws_connection
    return websocket is not None and not websocket.is_closing()
