"""The browser's side: what the gateway has sent is written as it came, or message by message."""

from __future__ import annotations

from collections import deque
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from kernelwire._native import unpack_messages
from kernelwire.log.writers import is_open, pending_bytes

if TYPE_CHECKING:
    from asyncio import Future
    from collections.abc import Awaitable, Callable

__all__ = ["Browser"]


class Browser:
    """Writes to a browser, and has whoever sends wait while too much is unsent."""

    def __init__(self, handler: Any, handle_message: Callable[[Any], Any] | None) -> None:
        """Write to the handler's websocket.

        Messages go to ``handle_message``, one by one, where it is given; otherwise frames are written
        past the handler, which must be for that.
        """
        self._handler = handler
        self._handle_message = handle_message
        self._writing: deque[Future[None]] = deque()
        self.messages = self.bytes = 0
        """What was received for the browser, frames included."""

    @property
    def unsent(self) -> int:
        """Bytes that the browser's socket has not taken yet."""
        return pending_bytes(self._handler)

    def receive(self, frames: bytes, count: int, limit: int) -> Awaitable[None] | None:
        """Write whole messages; what is returned is done when no more than ``limit`` bytes wait."""
        self.messages += count
        self.bytes += len(frames)
        if self._handle_message is not None:
            return self._one_by_one(unpack_messages(frames), limit, self._handle_message)
        if not is_open(self._handler):
            return None  # the end is about to be noticed
        try:
            self.note(self._handler.ws_connection.stream.write(frames))
        except StreamClosedError:
            return None
        return self._drained(limit) if self._is_over(limit) else None

    def note(self, written: Any) -> None:
        """Note that something is being written."""
        if not (isawaitable(written) and hasattr(written, "add_done_callback")):
            return
        future: Any = written
        while self._writing and self._writing[0].done():
            self._writing.popleft()
        if future.done():
            _retrieve_error(future)  # a callback would take another turn of the event loop
        else:
            future.add_done_callback(_retrieve_error)
            self._writing.append(future)

    async def _one_by_one(
        self,
        messages: list[tuple[bool, bytes, int]],
        limit: int,
        handle: Callable[[Any], Any],
    ) -> None:
        for is_text, payload, _ in messages:
            handled = handle(payload.decode() if is_text else payload)
            if isawaitable(handled):
                await handled
            if self._is_over(limit):
                await self._drained(limit)

    def _is_over(self, limit: int) -> bool:
        return bool(limit) and self.unsent > limit

    async def _drained(self, limit: int) -> None:
        """Wait until half of what may wait does, or the websocket is closed."""
        while self._writing and self.unsent > limit // 2:
            writing = self._writing.popleft()
            try:
                await writing
            except Exception:
                return  # the websocket is closed, and what it closes ends what is read


def _retrieve_error(done: Future[None]) -> None:
    """Keep asyncio from reporting that a write failed: the websocket's end is noticed anyway."""
    if not done.cancelled():
        done.exception()
