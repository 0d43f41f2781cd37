"""A websocket's stream of which the engine does the writing."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from kernelwire._compat.tornado import (
    note_sent,
    note_written,
    sent_index,
    unsent_bytes,
    write_future,
)
from kernelwire.sockets.desk import FAILED, desk_of
from kernelwire.sockets.driver import engine

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Callable

    from kernelwire import _native

__all__ = ["Outbox", "outbox_of", "unsent_of"]

_NAME = "kernelwire_outbox"


class Outbox:
    """Stands between a stream and its socket: whatever is written goes through one writer.

    Tornado reads from the socket, and closes it, as before. What it writes is sent in the same call
    where nothing waits, and else when what is before it is sent; futures are done, and fail, as those
    of the stream's own ``write``. It begins where the stream has nothing to be sent.
    """

    def __init__(self, stream: Any) -> None:
        native = engine()
        if native is None:
            raise RuntimeError("there is no engine")
        self._stream = stream
        self._desk = desk_of(stream.io_loop.asyncio_loop)
        self._token = self._desk.open(self._told)
        self.native: _native.Outbox = native.outbox(stream.socket, self._desk.native, self._token)
        self._begun = sent_index(stream)
        self._on_told: Callable[[], None] | None = None
        self.on_close: Callable[[], None] | None = None
        """Called when the socket is about to be closed."""
        self._close_fd = stream.close_fd
        stream.write, stream.close_fd = self.write, self.close_fd
        setattr(stream, _NAME, self)

    # -- in the stream's place ---------------------------------------------------------------------

    def write(self, data: bytes | memoryview) -> Future[None]:
        """Write whole frames; see ``tornado.iostream.BaseIOStream.write``."""
        stream = self._stream
        if stream.closed():
            raise StreamClosedError(real_error=stream.error)
        size = memoryview(data).nbytes
        end = note_written(stream, size)
        if size:
            self.native.put(bytes(data))
        future = write_future(stream, end)
        self._settle()  # a part of it may be sent where it has to wait
        return future

    def close_fd(self) -> None:
        """Close the socket, once nobody writes to it; see ``tornado.iostream.IOStream.close_fd``."""
        if self.on_close is not None:
            self.on_close()
        self.native.close()
        # Behind that: what was sent until then is not to be written again.
        self._settle()
        self._desk.close(self._token)
        self._close_fd()

    def _settle(self) -> None:
        """Have the stream know how much of what it has written is sent."""
        note_sent(self._stream, self._begun + self.native.sent())

    # -- for whoever writes from a log -------------------------------------------------------------

    def attach(self, cursor: _native.Cursor, on_told: Callable[[], None]) -> None:
        """Write what ``cursor`` reads; ``on_told`` is called when it needs the event loop."""
        self._on_told = on_told
        self.native.attach(cursor)

    def detach(self) -> None:
        """Write no more of it; where a frame was begun, the stream is closed."""
        self._on_told = None
        if self.native.detach():
            self._stream.close()
        elif not self._stream.closed():
            self._settle()

    def pump(self) -> Any:
        """Write what is next; what is left to Python of it, as ``Cursor.write`` tells."""
        return self.native.pump(monotonic())

    def unsent(self) -> int:
        """Count the bytes that the socket has not yet taken."""
        return self.native.unsent()

    def _told(self, bits: int) -> bool:
        if bits & FAILED:
            # The client comes back, and what it has not got is written by the event loop.
            self._stream.close()
            return False
        if self.native.is_cut():
            self._stream.close()  # in the middle of a message: nothing can follow
        if not self._stream.closed():
            self._settle()
        if self._on_told is not None:
            self._on_told()
        return False


def outbox_of(stream: Any) -> Outbox | None:
    """Return the outbox of a stream; ``None`` where it writes by itself."""
    found: Outbox | None = getattr(stream, _NAME, None)
    return found


def unsent_of(stream: Any) -> int:
    """Count the bytes that were written to a stream and that its socket has not yet taken.

    Under TLS, bytes before encryption.
    """
    outbox = outbox_of(stream)
    return unsent_bytes(stream) if outbox is None else outbox.unsent()
