"""A client that does not read: what waits for it is bounded, and it is told what it has missed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tornado.iostream import IOStream, SSLIOStream
from tornado.websocket import WebSocketClosedError

from kernelwire._compat.tornado import unsent_bytes
from kernelwire.offline import Dropped

if TYPE_CHECKING:
    import asyncio

    from kernelwire.connection import KernelwireWebsocketConnection

__all__ = ["Congestion", "pending_bytes"]


def pending_bytes(handler: Any) -> int:
    """Count the bytes that were written to the websocket and that its socket has not yet taken.

    Under TLS, bytes before encryption.
    """
    stream: Any = getattr(handler.ws_connection, "stream", None)
    if type(stream) not in (IOStream, SSLIOStream) or stream.closed():
        return 0
    return unsent_bytes(stream)


class Congestion:
    """Whether one connection's client is behind by more than ``max_pending_bytes``.

    It is, from the moment more than that waits for it, until all that waited then is written. The
    pump drops output meanwhile; one message on ``stderr`` says how much when the client has caught
    up, or before the ``idle`` that ends the request whose output it was.
    """

    def __init__(self, connection: KernelwireWebsocketConnection) -> None:
        self._connection = connection
        self._handler = connection.websocket_handler
        self._active = False
        self._told = Dropped(0, 0)
        stream = getattr(self._handler.ws_connection, "stream", None)
        self._stream: Any = stream if type(stream) in (IOStream, SSLIOStream) else None

    def check(self) -> bool:
        """Whether output must be dropped now."""
        if self._active or self._stream is None or not self._stream.writing():
            return self._active
        limit = self._connection.max_pending_bytes
        if limit and pending_bytes(self._handler) > limit:
            self._begin(limit)
        return self._active

    def _begin(self, limit: int) -> None:
        self._active = True
        self._connection.log.warning(
            "A client of kernel %s does not read: more than %d bytes wait for it",
            self._connection.kernel_id,
            limit,
        )
        # Nothing more is written by this, but its future is done when all before it is.
        self._stream.write(b"").add_done_callback(self._end)

    def _end(self, caught_up: asyncio.Future[None]) -> None:
        """Go on, and tell the client what it has missed, if it is still there."""
        self._active = False
        if not caught_up.cancelled() and caught_up.exception() is None:
            self.tell()

    def tell(self) -> None:
        """Tell the client how much was dropped since it was told last."""
        connection = self._connection
        stats = connection._pump.stats()
        dropped = Dropped(stats["congested"], stats["congested_bytes"])
        new = Dropped(dropped.messages - self._told.messages, dropped.size - self._told.size)
        if not new.messages:
            return
        self._told = dropped
        parent = connection._pump.congested_parent()
        why = "because the client did not read"
        try:
            connection.tell_dropped(new, why, connection, "max_pending_bytes", parent)
        except WebSocketClosedError:
            connection.log.debug("The client is gone that should be told of %s", new)
