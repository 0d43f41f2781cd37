"""The browser's side: what the gateway has sent is written as it came, or message by message."""

from __future__ import annotations

from collections import deque
from inspect import isawaitable
from typing import TYPE_CHECKING, Any

from tornado.iostream import StreamClosedError

from kernelwire._native import unpack_messages
from kernelwire.log.writers import is_open, outbox_for, pending_bytes

if TYPE_CHECKING:
    import builtins
    from asyncio import Future
    from collections.abc import Awaitable, Callable

    from kernelwire.sockets.outbox import Outbox
    from kernelwire.sockets.relay import Relay

__all__ = ["Browser"]


class Browser:
    """Writes to a browser, and has whoever sends wait while too much is unsent."""

    def __init__(
        self, handler: Any, handle_message: Callable[[Any], Any] | None, limit: int
    ) -> None:
        """Write to the handler's websocket; at most ``limit`` bytes are to wait, 0 for any number.

        Messages go to ``handle_message``, one by one, where it is given; otherwise frames are written
        past the handler, which must be for that.
        """
        self.limit = limit
        self.is_gone = False
        """Whether nothing more is to be written."""
        self._handler = handler
        self._handle_message = handle_message
        self._writing: deque[Future[None]] = deque()
        self._messages = self._bytes = 0
        self._relay: Relay | None = None

    @property
    def messages(self) -> int:
        """How many messages were received for the browser."""
        return self._messages + (0 if self._relay is None else self._relay.passed()[0])

    @property
    def bytes(self) -> int:
        """What these have, frames included."""
        return self._bytes + (0 if self._relay is None else self._relay.passed()[1])

    def outbox(self) -> Outbox | None:
        """Return where the engine can write whole frames, if it can."""
        if self._handle_message is not None or not is_open(self._handler):
            return None
        return outbox_for(self._handler.ws_connection.stream)

    def follow(self, relay: Relay) -> None:
        """Count what the engine passes on."""
        self._messages, self._bytes = self.messages, self.bytes
        self._relay = relay

    @property
    def unsent(self) -> int:
        """Bytes that the browser's socket has not taken yet."""
        return pending_bytes(self._handler)

    def receive(self, frames: builtins.bytes, count: int) -> Awaitable[None] | None:
        """Write whole messages; what is returned is done when no more than the limit waits."""
        if self.is_gone:
            return None
        self._messages += count
        self._bytes += len(frames)
        if self._handle_message is not None:
            return self._one_by_one(unpack_messages(frames), self._handle_message)
        if not is_open(self._handler):
            return None  # the end is about to be noticed
        try:
            self.note(self._handler.ws_connection.stream.write(frames))
        except StreamClosedError:
            return None
        return self._drained() if self._is_over() else None

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
        self, messages: list[tuple[bool, builtins.bytes, int]], handle: Callable[[Any], Any]
    ) -> None:
        for is_text, payload, _ in messages:
            handled = handle(payload.decode() if is_text else payload)
            if isawaitable(handled):
                await handled
            if self._is_over():
                await self._drained()

    def _is_over(self) -> bool:
        return bool(self.limit) and self.unsent > self.limit

    async def _drained(self) -> None:
        """Wait until half of what may wait does, or the websocket is closed."""
        while self._writing and self.unsent > self.limit // 2:
            writing = self._writing.popleft()
            try:
                await writing
            except Exception:
                return  # the websocket is closed, and what it closes ends what is read


def _retrieve_error(done: Future[None]) -> None:
    """Keep asyncio from reporting that a write failed: the websocket's end is noticed anyway."""
    if not done.cancelled():
        done.exception()
