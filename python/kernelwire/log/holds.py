"""Messages that a cursor leaves to Python, one at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, NamedTuple

from tornado.websocket import WebSocketClosedError

from kernelwire.log.backlog import Dropped

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire._logging import Throttle
    from kernelwire._native import Cursor
    from kernelwire.connection import KernelwireWebsocketConnection

__all__ = ["Holds"]


class _Hold(NamedTuple):
    """A message that is dealt with: which cursor is held by it, and what was written before it."""

    number: int
    cursor: Cursor
    writer: Any
    mark: Any

    def written(self) -> Any:
        """Return what was written for it."""
        return self.writer.written_since(self.mark)


class Holds:
    """Has a connection deal with the messages that its cursor is held at.

    Failures are logged with ``failures``.
    """

    def __init__(self, failures: Throttle) -> None:
        self._failures = failures
        self._hold: _Hold | None = None
        self._task: asyncio.Future[Any] | None = None
        """The coroutine that deals with it."""

    @property
    def is_busy(self) -> bool:
        """Whether a message is being dealt with, possibly further up the stack."""
        return self._hold is not None

    @property
    def is_awaiting(self) -> bool:
        """Whether a coroutine is dealing with a message."""
        return self._task is not None

    def answer(
        self,
        number: int,
        cursor: Cursor,
        writer: Any,
        connection: KernelwireWebsocketConnection,
        go_on: Callable[[], None],
    ) -> bool:
        """Deal with a message; ``False`` if that takes longer, or the connection ends over it.

        Where a coroutine deals with it, ``go_on`` is called when it has.
        """
        held = cursor.held()
        if held is None:
            return False
        channel, frames, parent, limited, own, messages, size, why = held
        hold = self._hold = _Hold(number, cursor, writer, writer.mark())
        closed = False
        try:
            if not frames:
                connection.tell_skipped(Dropped(messages, size), parent, why)
            else:
                result = connection.handle_held(channel, frames, limited=limited, own=own)
                if isinstance(result, Awaitable):
                    self._await(result, hold, channel, go_on)
                    return False
        except WebSocketClosedError:
            closed = True
        except Exception:
            self._failures.failure("failed", "Dropped a message on %s", channel)
        return self._release(hold, closed=closed)

    def leave(self) -> None:
        """Let go of a message that is dealt with: its coroutine is ended if it has written nothing."""
        hold, self._hold = self._hold, None
        task, self._task = self._task, None
        if hold is None or task is None:
            return
        written = hold.written()
        if written:
            hold.cursor.release(hold.number, written)
        else:
            task.cancel()

    def _await(
        self, result: Awaitable[Any], hold: _Hold, channel: str, go_on: Callable[[], None]
    ) -> None:
        """Go on when a coroutine has dealt with a message."""
        task = self._task = asyncio.ensure_future(result)

        def done(task: asyncio.Future[Any]) -> None:
            if task is not self._task:
                return  # let go of meanwhile
            self._task = None
            error = asyncio.CancelledError() if task.cancelled() else task.exception()
            closed = isinstance(error, WebSocketClosedError)
            if error is not None and not closed:
                kind = type(error).__name__
                self._failures.warning(
                    "failed", "Dropped a message on %s: %s: %s", channel, kind, error
                )
            if self._release(hold, closed=closed):
                go_on()

        task.add_done_callback(done)

    def _release(self, hold: _Hold, *, closed: bool) -> bool:
        """Go on behind a message that was dealt with; ``False`` if the websocket has closed under it.

        It is then held until the next connection, unless it was written.
        """
        if self._hold is not hold:
            return False
        self._hold = None
        written = hold.written()
        if closed and not written:
            return False
        hold.cursor.release(hold.number, written)
        hold.cursor.acknowledge(hold.writer.in_flight.take())
        return True
