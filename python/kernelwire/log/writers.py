"""How what a cursor reads gets to the client."""

from __future__ import annotations

import os
from asyncio import isfuture
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from tornado.iostream import IOStream, SSLIOStream, StreamClosedError
from tornado.log import gen_log
from tornado.websocket import WebSocketClosedError, WebSocketHandler, WebSocketProtocol13

from kernelwire._compat import Feature, is_off
from kernelwire._compat.tornado import compresses, indexes, sent_index, write_index
from kernelwire._logging import Throttle
from kernelwire._native import unpack_messages
from kernelwire.sockets.driver import driver
from kernelwire.sockets.outbox import Outbox, outbox_of, unsent_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire import _native

__all__ = [
    "BlockWriter",
    "InFlight",
    "MessageWriter",
    "OutboxWriter",
    "is_open",
    "is_plain",
    "outbox_for",
    "pending_bytes",
    "when_written",
    "writer_for",
]


class _Item(NamedTuple):
    """Something that was written: from where to where in the stream's output, and its size."""

    begin: int
    end: int
    size: int


class InFlight:
    """What was written to a websocket, as long as the operating system has not taken all of it.

    Where the client is gone, it cannot have received that. Where tornado's indexes, by which that is
    known, are not what they should be, everything counts as taken at once.
    """

    def __init__(self, websocket: Any) -> None:
        stream = getattr(websocket, "stream", None)
        plain = type(stream) in (IOStream, SSLIOStream) and not is_off(Feature.DIRECT_WRITING)
        self._stream: Any = stream if plain else None
        self._items: deque[_Item] = deque()
        self._taken = 0
        """Bytes that were taken and not reported, less those that were reported too early."""

    @property
    def position(self) -> int:
        """How many bytes were ever written to the stream."""
        return write_index(self._stream) if self._stream is not None else 0

    def add(self, begin: int, size: int) -> None:
        """Note that ``size`` bytes were written since the stream's output was at ``begin``.

        Encryption and compression make other bytes of them: the size is what they were before.
        """
        if self._stream is None:
            self._taken += size
        else:
            self._items.append(_Item(begin, write_index(self._stream), size))

    def take(self) -> int:
        """Return how many bytes more were taken, in whole writes."""
        items = self._items
        while items and items[0].end <= sent_index(self._stream):
            self._taken += items.popleft().size
        taken, self._taken = self._taken, 0
        return taken

    def take_last(self) -> int:
        """Return how many bytes more were taken: nothing more will be.

        If the stream is open, everything will be sent, and counts as taken.
        """
        if self._stream is not None and not self._stream.closed():
            sizes = sum(item.size for item in self._items)
            self._items.clear()
            return self.take() + sizes
        taken = self.take()
        if self._items:
            item = self._items[0]
            part = sent_index(self._stream) - item.begin
            taken += max(min(part, item.size - 1), 0)
        self._items.clear()
        return taken

    def seal(self) -> None:
        """Make sure that what is left stays so: it is about to be sent on another connection."""
        if (
            self._stream is not None
            and self._items
            and self._items[-1].end > sent_index(self._stream)
        ):
            self._stream.close()


class _Writer:
    """What writers of all kinds have in common."""

    def __init__(self, handler: Any, on_written: Callable[[], None]) -> None:
        self._handler = handler
        self._on_written = on_written
        self.in_flight = InFlight(handler.ws_connection)
        self.writes = 0
        """How often a message was written through the handler."""

    def descriptor(self) -> int | None:
        """Return the socket to which a block may be sent, -1 for none, ``None`` where nothing can be."""
        raise NotImplementedError

    def is_open(self) -> bool:
        """Whether anything can be written."""
        return self.descriptor() is not None

    def write(self, cursor: _native.Cursor, now: float) -> Any:
        """Write what ``cursor`` has; what is left to do, or ``None`` where nothing can be written."""
        descriptor = self.descriptor()
        return None if descriptor is None else cursor.write(descriptor, now)

    def begin(self, cursor: _native.Cursor, on_told: Callable[[], None]) -> None:
        """Begin to write what ``cursor`` reads; ``on_told`` is called when that needs the event loop."""

    def end(self) -> None:
        """Write no more."""

    def seal(self) -> None:
        """Make sure that the websocket takes nothing more of what it has not taken."""
        self.in_flight.seal()

    def mark(self) -> tuple[int, int]:
        """Return what :meth:`written_since` compares with."""
        return self.in_flight.position, self.writes

    def written_since(self, mark: tuple[int, int]) -> int:
        """Note what was written through the handler since ``mark``; returns its size in bytes."""
        position, writes = mark
        size = self.in_flight.position - position
        if size <= 0 and self.writes == writes:
            return 0
        size = max(size, 1)
        self.in_flight.add(position, size)
        return size

    def note(self, written: Any) -> None:
        """Note that a message was written through the handler.

        Nobody else asks what becomes of it: without this, each message that is left when a client
        goes is logged.
        """
        self.writes += 1
        when_written(written, self._on_written)


class MessageWriter(_Writer):
    """Writes each message through the handler: for websockets that are not plain."""

    def __init__(self, handler: Any, on_written: Callable[[], None]) -> None:
        super().__init__(handler, on_written)
        self._failures = Throttle(gen_log)
        self._closed = False

    def descriptor(self) -> int | None:
        """Return ``None`` where nothing can be written, else -1: there is no direct way."""
        return -1 if not self._closed and is_open(self._handler) else None

    def put(self, pieces: list[Any], _error: int) -> None:
        """Write the messages in ``pieces`` of frames. One that the handler refuses is lost, and logged."""
        for is_text, payload, size in unpack_messages(b"".join(pieces)):
            begin = self.in_flight.position
            try:
                message = payload.decode(errors="surrogatepass") if is_text else payload
                self.note(self._handler.write_message(message, not is_text))
            except WebSocketClosedError:
                self._closed = True
                return
            except Exception:
                self._failures.failure("refused", "The websocket's handler refused a message")
            self.in_flight.add(begin, size)


class _PlainWriter(_Writer):
    """Writes websocket frames as they are."""

    def __init__(
        self, handler: Any, on_written: Callable[[], None], websocket: WebSocketProtocol13
    ) -> None:
        super().__init__(handler, on_written)
        self._websocket = websocket
        self._stream = websocket.stream

    def is_open(self) -> bool:
        """Whether anything can be written."""
        websocket = self._websocket
        return not (
            self._handler.ws_connection is None
            # ``is_closing`` of tornado, without its calls.
            or websocket.client_terminated
            or websocket.server_terminated
            or self._stream.closed()
        )

    def _break(self, error: int) -> None:
        """Close the connection, which has an error: what tornado does when a write fails."""
        self._stream.close(exc_info=OSError(error, os.strerror(error)))


class OutboxWriter(_PlainWriter):
    """Has the engine write what a cursor reads: for plain websockets that are not encrypted."""

    def __init__(
        self,
        handler: Any,
        on_written: Callable[[], None],
        websocket: WebSocketProtocol13,
        outbox: Outbox,
    ) -> None:
        super().__init__(handler, on_written, websocket)
        self._outbox = outbox

    def begin(self, cursor: _native.Cursor, on_told: Callable[[], None]) -> None:
        """Have the engine write what ``cursor`` reads."""
        self._outbox.attach(cursor, on_told)

    def end(self) -> None:
        """Have the engine write no more of it."""
        self._outbox.detach()

    def seal(self) -> None:
        """Make sure that the websocket takes nothing more of what it has not taken."""
        if self._outbox.unsent():
            self._stream.close()

    def write(self, cursor: _native.Cursor, now: float) -> Any:
        """Write what is next, in this call, as far as nobody else is about to."""
        del cursor, now
        return self._outbox.pump() if self.is_open() else None

    def put(self, _pieces: list[Any], error: int) -> None:
        """Close the connection: writing has failed."""
        self._break(error)


class BlockWriter(_PlainWriter):
    """Writes blocks of websocket frames in the event loop: for plain websockets."""

    def __init__(
        self, handler: Any, on_written: Callable[[], None], websocket: WebSocketProtocol13
    ) -> None:
        super().__init__(handler, on_written, websocket)
        # Under TLS the socket must be written by the stream, which knows the engine's state.
        direct = type(self._stream) is IOStream and self._stream.socket is not None
        self._descriptor = self._stream.socket.fileno() if direct else -1

    def descriptor(self) -> int | None:
        """Return the socket to which a block may be sent at once.

        -1 where something waits to be written before it, or where only the stream can write;
        ``None`` where nothing can be written any more. Where nothing waits, the stream's buffer
        would copy the block, and add a future, for what in all likelihood the socket takes whole.
        """
        if not self.is_open():
            return None
        written, sent = indexes(self._stream)
        return self._descriptor if written == sent else -1

    def put(self, pieces: list[Any], error: int) -> None:
        """Queue the pieces of a block that were not sent; nothing of it is copied.

        Where sending has failed, the connection is closed with the error's number.
        """
        stream = self._stream
        if error:
            self._break(error)
            return
        begin, size = self.in_flight.position, 0
        written: Any = None
        try:
            for piece in pieces:
                view = memoryview(piece)
                written = stream.write(view)
                size += len(view)
        except StreamClosedError:
            pass  # what was written of it is not taken any more
        self.in_flight.add(begin, size)
        when_written(written, self._on_written)


def when_written(written: Any, callback: Callable[[], None]) -> None:
    """Call back when what a stream writes is written, or never will be."""

    def done(done: Any) -> None:
        if not done.cancelled():
            done.exception()
        callback()

    if isfuture(written):
        written.add_done_callback(done)


def pending_bytes(handler: Any) -> int:
    """Count the bytes that were written to the websocket and that its socket has not yet taken."""
    stream: Any = getattr(handler.ws_connection, "stream", None)
    if not isinstance(stream, IOStream) or stream.closed():
        return 0
    return unsent_of(stream)


def writer_for(
    handler: Any, on_written: Callable[[], None], *, by_engine: bool = False
) -> OutboxWriter | BlockWriter | MessageWriter:
    """Choose the writer for the handler's websocket; ``on_written`` is called when it has room.

    The engine's is chosen only ``by_engine``.
    """
    if not is_plain(handler):
        return MessageWriter(handler, on_written)
    websocket = handler.ws_connection
    outbox = outbox_for(websocket.stream) if by_engine else None
    if outbox is not None:
        return OutboxWriter(handler, on_written, websocket, outbox)
    return BlockWriter(handler, on_written, websocket)


def outbox_for(stream: Any) -> Outbox | None:
    """Return the stream's outbox, which is made if need be; ``None`` if the engine cannot write to it."""
    if not _suits_engine(stream):
        return None
    try:
        return outbox_of(stream) or Outbox(stream)
    except OSError as error:  # there is no room for one more descriptor
        gen_log.warning("The event loop writes to a socket, and not the engine: %s", error)
        return None


def is_plain(handler: Any) -> bool:
    """Whether frames can be written past the handler: tornado would make the same of the messages."""
    websocket = handler.ws_connection
    return (
        not is_off(Feature.DIRECT_WRITING)
        and type(websocket) is WebSocketProtocol13
        and not websocket.mask_outgoing
        and not compresses(websocket)
        and type(handler).write_message is WebSocketHandler.write_message
        and "write_message" not in vars(handler)
        and type(websocket.stream) in (IOStream, SSLIOStream)
    )


def _suits_engine(stream: Any) -> bool:
    """Whether the engine can write to a stream's socket: nobody else may, and nothing may wait."""
    if type(stream) is not IOStream or stream.closed() or is_off(Feature.ENGINE_WRITING):
        return False
    if outbox_of(stream) is not None:
        return True
    untouched = not {"write", "close_fd"} & set(vars(stream))
    return untouched and len(set(indexes(stream))) == 1 and driver().engine


def is_open(handler: Any) -> bool:
    """Whether messages can still be written to the handler's websocket."""
    websocket = handler.ws_connection
    return websocket is not None and not websocket.is_closing()
