"""Giving a returning client what its kernel has said while it was away."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from kernelwire._writers import writer_for
from kernelwire.congestion import pending_bytes
from kernelwire.offline import Dropped
from kernelwire.prompts import STDIN
from kernelwire.reader import joined

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.connection import KernelwireWebsocketConnection
    from kernelwire.offline import OfflineBuffer

__all__ = ["Replay"]

SLICE_SECONDS = 0.002
"""Seconds that a replay takes at a time, before others have their turn."""

SLICE_MESSAGES = 8
"""Messages that a replay takes at a time at least."""

BLOCK_BYTES = 1 << 16
"""Bytes of small messages that are written together."""

PENDING_BYTES = 1 << 22
"""Bytes that may wait for the client before a replay waits too."""

PAUSE_SECONDS = 0.01
"""Seconds between two looks at whether the client has caught up."""


class Replay:
    """Writes a buffer's messages in order, and calls ``done`` when none is left.

    The buffer may be filled meanwhile: that comes before ``done``, too. No rate limit applies; the
    messages were produced over time. A message that fails is logged, and the next one follows.
    """

    def __init__(
        self,
        connection: KernelwireWebsocketConnection,
        backlog: OfflineBuffer,
        done: Callable[[], None],
    ) -> None:
        self.backlog = backlog
        self._connection = connection
        self._done = done
        self._loop = asyncio.get_running_loop()
        self._one_by_one = connection._obstacle() is not None
        self._signatures = None if self._one_by_one else connection.signatures()
        self._write: Any = writer_for(connection.websocket_handler)
        self._hidden = not connection.multi_kernel_manager.allow_tracebacks
        self._waiting: list[Any] = []
        self._waiting_bytes = 0
        limit = connection.max_pending_bytes
        self._pending_limit = min(limit, PENDING_BYTES) if limit else PENDING_BYTES

    def start(self) -> None:
        """Write the first slice now."""
        self._tell_dropped()
        self._slice()

    def _slice(self) -> None:
        """Write for a while; come back later if something is left."""
        connection = self._connection
        if connection._replay is not self:
            return  # disconnected: the rest waits for the next connection
        if connection._is_closing():
            return  # what is left goes where the rest of the connection's messages go
        connection._unlimited = False
        more = self._write_some()
        if connection._in_order.busy:
            connection._in_order.when_idle(self._slice)
        elif more:
            self._loop.call_soon(self._slice)
        elif self.backlog:
            self._loop.call_later(PAUSE_SECONDS, self._slice)
        else:
            self._tell_dropped()
            connection._or_close(self._done)

    def _write_some(self) -> bool:
        """Write until the time is up (``True``), somebody must catch up, or nothing is left."""
        until = monotonic() + SLICE_SECONDS
        taken = 0
        more = False
        while self.backlog and not more and self._may_go_on():
            channel, frames = self.backlog.popleft()
            try:
                self._replay_one(channel, frames)
            except Exception:
                self._lost(channel)
            taken += 1
            more = taken >= SLICE_MESSAGES and monotonic() > until
        self._flush()
        return more and bool(self.backlog)

    def _may_go_on(self) -> bool:
        """Whether the connection, its client, and a coroutine in the way are ready for more."""
        connection = self._connection
        if connection._is_closing() or connection._in_order.busy:
            return False
        pending = self._waiting_bytes + pending_bytes(connection.websocket_handler)
        return pending <= self._pending_limit

    def _lost(self, channel: str) -> None:
        """Log the exception that has cost a message."""
        self._connection._failures.failure("failed", "Dropped a message on %s", channel)

    def _replay_one(self, channel: str, frames: list[bytes]) -> None:
        connection = self._connection
        if self._one_by_one:
            self._hand_over(channel, frames)
            return
        if channel == STDIN:
            connection._prompt.asked(frames)
        signatures = self._signatures
        _, data, message, malformed = connection._pump.feed(
            frames,
            channel.encode(),
            0.0,
            self._hidden,
            self._write.block,
            False,
            False,
            None if signatures is None else signatures.known(),
        )
        if signatures is not None:
            signatures.cull()
        if data is not None:
            self._waiting.append(data)
            self._waiting_bytes += sum(map(len, frames))
            if self._waiting_bytes > BLOCK_BYTES:
                self._flush()
        elif malformed is not None:
            connection._failures.warning(
                "malformed", "Dropped a malformed message on %s: %s", channel, malformed
            )
        elif message is not None:
            self._flush()
            self._hand_over(channel, message)

    def _hand_over(self, channel: str, frames: list[bytes]) -> None:
        connection: Any = self._connection
        connection._unlimited = True
        try:
            connection._in_order.handle(connection.channels[channel], frames)
        except Exception:
            self._lost(channel)
        finally:
            # A coroutine may come to the limits later on: no other message is handled meanwhile.
            connection._unlimited = connection._in_order.busy

    def _flush(self) -> None:
        if not self._waiting:
            return
        waiting, self._waiting, self._waiting_bytes = self._waiting, [], 0
        try:
            unsent = self._write(joined(waiting, self._write.block))
        except Exception:
            self._lost("all channels")
            return
        # The websocket has closed under it: what is kept comes before the rest of the backlog.
        self._connection._keep_unsent(unsent)

    def _tell_dropped(self) -> None:
        """Tell the client how much is missing, if that has not been told."""
        dropped = self.backlog.dropped
        if not dropped.messages:
            return
        # The buffer may come back, if the client goes in the middle: this has been told then.
        self.backlog.dropped = Dropped(0, 0)
        self._connection.tell_dropped(
            dropped,
            "while no client was connected",
            self._connection.multi_kernel_manager,
            "max_offline_buffer_bytes",
            self.backlog.dropped_parent,
        )
