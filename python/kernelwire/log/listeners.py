"""Listeners: what a kernel publishes, for other extensions, with the one subscription there is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from kernelwire._protocol import message_type
from kernelwire.log.waits import HOLD, MORE, TIME

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from kernelwire.log.kernel_log import KernelLog

__all__ = ["MAX_LISTENER_BYTES", "Listener"]

MAX_LISTENER_BYTES = 16 * 1024 * 1024
"""Bytes that may wait for a listener; more is dropped, the oldest first, and counted."""

BATCH = 256
"""Messages that a listener is given at once, at most."""


class Listener:
    """Gives what a kernel publishes to a callback, in batches, until it is closed.

    The callback gets a list of messages, each a list of frames as they were received, and the number
    of messages that were dropped before them because it was too slow. What it raises is logged. It
    is not called again before an awaitable that it returns is done.

    Parameters
    ----------
    log
        The kernel's log.
    callback
        Called with the messages and the number of those that were missed.
    msg_types
        Types of messages to listen to; ``None`` for all.
    bound
        Bytes that may wait; 0 is no limit.
    batch
        Messages in one call, at most.
    """

    is_engines = False
    """What is read is given to Python."""

    def __init__(
        self,
        log: KernelLog,
        callback: Callable[[list[list[bytes]], int], Any],
        *,
        msg_types: Collection[str] | None = None,
        bound: int = MAX_LISTENER_BYTES,
        batch: int = BATCH,
    ) -> None:
        self._log = log
        self._callback = callback
        self._msg_types = None if msg_types is None else frozenset(msg_types)
        self._batch = batch
        self._scheduled = self._calling = self._closed = False
        self._cursor = log.native.open()
        self._cursor.apply(
            {
                "spliced": False,
                "limits": None,
                "overflow": "drop",
                "patience": 0.0,
                "hide_tracebacks": False,
                "one_by_one": True,
                "bound": bound,
            }
        )
        log.use(self)
        log.add(self)

    def close(self) -> None:
        """Listen no more."""
        if not self._closed:
            self._closed = True
            self._log.remove(self)
            self._cursor.close()
            self._log.leave(self)

    # -- as a reader of the log --------------------------------------------------------------------

    def write(self) -> bool:
        """Call back with what is next; ``True`` if there may be more."""
        if self._calling or self._closed:
            return False
        messages, missed, more = self._take()
        if messages or missed:
            self._call(messages, missed)
        return more and not self._calling

    def go_on(self) -> None:
        """Call back with what is next, and go on after others had their turn."""
        if self.write():
            self._write_after(0)

    def flush(self) -> None:
        """Call back with everything that waits."""
        while self.write():
            pass

    def _write_after(self, seconds: float) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_later(seconds, self._write_on)

    def _write_on(self) -> None:
        self._scheduled = False
        self.go_on()

    def _take(self) -> tuple[list[list[bytes]], int, bool]:
        """Take a batch, how many messages were dropped, and whether there may be more."""
        messages: list[list[bytes]] = []
        missed = 0
        while len(messages) < self._batch:
            written = self._cursor.write(-1, self._log.clock())
            if written is True or written is False:
                return messages, missed, False
            wait, hold, _, _ = written
            held = self._cursor.held() if wait == HOLD else None
            if held is None:
                if wait == TIME:
                    self._write_after(hold / 1e6)
                return messages, missed, wait == MORE
            _, frames, _, _, _, skipped, _, _ = held
            self._cursor.release(hold, 0)
            if not frames:
                missed += skipped
            elif self._wants(frames):
                messages.append(frames)
        return messages, missed, True

    def _wants(self, frames: list[bytes]) -> bool:
        return self._msg_types is None or message_type(frames) in self._msg_types

    def _call(self, messages: list[list[bytes]], missed: int) -> None:
        try:
            result = self._callback(messages, missed)
        except Exception:
            self._log.failures.failure("listener", "A listener failed")
            return
        if isinstance(result, Awaitable):
            self._calling = True
            asyncio.ensure_future(result).add_done_callback(self._called)

    def _called(self, done: asyncio.Future[Any]) -> None:
        self._calling = False
        if not done.cancelled() and (error := done.exception()) is not None:
            self._log.failures.warning("listener", "A listener failed: %s", type(error).__name__)
        self.go_on()
