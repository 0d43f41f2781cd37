"""Handling messages one at a time where handling one may be a coroutine."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelwire._logs import Throttle

__all__ = ["InOrder"]

Message = tuple[Any, list[bytes]]
"""A stream and the frames of a message that came on it."""

MAX_MESSAGES = 1000
"""Messages that may be queued behind a coroutine; the rest waits in the sockets."""

MAX_BYTES = 1 << 22
"""Bytes of the messages that may be queued."""


class InOrder:
    """Calls ``handle(stream, message)`` for each message, one at a time and in order.

    Where that returns an awaitable, the next message is handled when it is done and ``awaited`` has
    been called with the stream, the message, and the exception, if any. Streams stop
    receiving while too much is queued: what they have stays in their sockets. Once the client is
    going, what is queued stays so until it is taken out.
    """

    def __init__(
        self,
        handle: Callable[[Any, list[bytes]], Any],
        awaited: Callable[[Any, list[bytes], BaseException | None], None],
        is_closing: Callable[[], bool],
        failures: Throttle,
    ) -> None:
        self._handle = handle
        self._awaited = awaited
        self._is_closing = is_closing
        self._failures = failures
        self._queue: deque[Message] = deque()
        self._queued_bytes = 0
        self._may_pause = True
        self._paused: dict[Any, Callable[[Any, list[bytes]], Any]] = {}
        self._task: asyncio.Future[Any] | None = None
        self._current: Message | None = None
        self._when_idle: Callable[[], None] | None = None

    @property
    def busy(self) -> bool:
        """Whether a coroutine has not finished."""
        return self._task is not None

    def handle(self, stream: Any, message: list[bytes]) -> None:
        """Handle a message now, or queue it behind the ones before."""
        if self._task is None:
            self._begin(stream, message)
        else:
            self._queue.append((stream, message))
            self._queued_bytes += sum(map(len, message))

    def pause_if_full(self, stream: Any, callback: Callable[[Any, list[bytes]], Any]) -> None:
        """Stop a stream whose messages go to ``callback`` until the queue is empty, if it is full."""
        full = len(self._queue) >= MAX_MESSAGES or self._queued_bytes >= MAX_BYTES
        if full and self._may_pause and stream not in self._paused:
            self._paused[stream] = callback
            stream.stop_on_recv()

    @contextmanager
    def not_pausing(self) -> Iterator[None]:
        """Let all streams receive for a while, however much is queued."""
        self._may_pause = False
        try:
            self._resume()
            yield
        finally:
            self._may_pause = True

    def _resume(self) -> None:
        """Let the streams receive again, unless somebody else has made them do so."""
        paused, self._paused = self._paused, {}
        for stream, callback in paused.items():
            if not stream.closed() and not stream.receiving():
                stream.on_recv_stream(callback)

    def when_idle(self, callback: Callable[[], None]) -> None:
        """Call back, once, when all that is queued has been handled."""
        self._when_idle = callback

    def take(self, *, with_current: bool) -> list[Message]:
        """Stop, and take out what has not been handled.

        ``with_current`` cancels the coroutine that runs, and takes out its message as well.
        """
        waiting = list(self._queue)
        task, self._task = self._task, None
        if task is not None and not task.done() and with_current and self._current is not None:
            waiting.insert(0, self._current)
            task.cancel()
        self._queue.clear()
        self._queued_bytes = 0
        self._current = self._when_idle = None
        self._paused = {}
        return waiting

    def _begin(self, stream: Any, message: list[bytes]) -> None:
        result = self._handle(stream, message)
        if isinstance(result, Awaitable):
            self._current = (stream, message)
            self._task = asyncio.ensure_future(result)
            self._task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Future[Any]) -> None:
        """Go on behind a coroutine."""
        error = None if task.cancelled() else task.exception()
        current, self._current = self._current, None
        if task is not self._task or current is None:
            return  # what was queued behind it has been taken out
        self._task = None
        self._awaited(*current, error)
        if error is not None:
            self._failed(current[0], error)
        while self._queue and self._task is None and not self._is_closing():
            stream, message = self._queue.popleft()
            self._queued_bytes -= sum(map(len, message))
            try:
                self._begin(stream, message)
            except Exception as error:
                self._failed(stream, error)
        if not self._queue:
            self._resume()
        callback = self._when_idle
        if self._task is None and callback is not None:
            self._when_idle = None
            callback()

    def _failed(self, stream: Any, error: BaseException) -> None:
        kind, channel = type(error).__name__, stream.channel
        self._failures.warning("failed", "Dropped a message on %s: %s: %s", channel, kind, error)
