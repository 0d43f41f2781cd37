"""A stream that the engine reads, to pass on what comes to another one."""

from __future__ import annotations

import asyncio
import os
from time import monotonic
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from kernelwire._compat.tornado import stop_reading
from kernelwire.sockets.desk import desk_of
from kernelwire.sockets.driver import engine

if TYPE_CHECKING:
    from kernelwire import _native
    from kernelwire.sockets.outbox import Outbox

__all__ = ["Relay"]


class Relay:
    """Has the engine read a gateway's websocket frames, and pass on its messages to a browser.

    The event loop answers control frames, and writes: nothing else is left to it. The stream is of no
    further use to whoever reads; it ends when the stream is closed.
    """

    def __init__(self, stream: Any, source: Outbox, target: Outbox, limit: int) -> None:
        """Read ``stream``, whose outbox is ``source``, and write to ``target``.

        Nothing is read while more than ``limit`` bytes wait there, until half of that does; 0 is no
        limit. Raises ``OSError`` where the engine cannot watch the socket, and ``RuntimeError`` where
        there is none.
        """
        native = engine()
        if native is None:
            raise RuntimeError("there is no engine")
        self._began_at = monotonic()
        self._told: asyncio.Future[None] | None = None
        self._has_ended = False
        self._error = 0
        self._desk = desk_of(stream.io_loop.asyncio_loop)
        self._token = self._desk.open(self._note)
        begun = stop_reading(stream)
        self._native: _native.Relay = native.relay(
            source.native, target.native, begun, limit, self._token
        )
        source.on_close = self.close

    @property
    def heard_at(self) -> float:
        """When the gateway was last heard, or was last not listened to; else when this began."""
        return max(self._native.heard_at(), self._began_at)

    @property
    def was_heard(self) -> bool:
        """Whether the gateway has sent anything."""
        return self._native.heard_at() > 0

    @property
    def is_paused(self) -> bool:
        """Whether nothing is read because too much waits for the browser."""
        return self._native.is_paused()

    def passed(self) -> tuple[int, int]:
        """Count the messages that were passed on, and the bytes of their frames."""
        return self._native.passed()

    def set_limit(self, limit: int) -> None:
        """Set how many bytes may wait for the browser."""
        self._native.set_limit(limit)

    def note_request(self) -> None:
        """Note that something was sent to the gateway: its answer is acknowledged at once."""
        self._native.note_request()

    async def told(self) -> tuple[list[tuple[int, bytes]], tuple[int, str] | None]:
        """Wait for control frames: their opcodes and payloads; or for what is no frame.

        That is told by the code with which to close, and why. Raises ``StreamClosedError`` at the end.
        """
        while True:
            controls, has_ended, fault, error = self._native.take()
            self._has_ended |= has_ended
            self._error = error or self._error
            if controls or fault is not None:
                return controls, fault
            if self._has_ended:
                raise StreamClosedError(
                    OSError(self._error, os.strerror(self._error)) if self._error else None
                )
            self._told = asyncio.get_running_loop().create_future()
            await self._told

    def close(self) -> None:
        """End: the stream is being closed."""
        self._native.close()
        self._desk.close(self._token)
        self._has_ended = True
        self._wake()

    def _note(self, _bits: int) -> bool:
        self._wake()
        return False

    def _wake(self) -> None:
        if self._told is not None and not self._told.done():
            self._told.set_result(None)
