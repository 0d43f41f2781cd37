"""One clock for a turn of the event loop, however many streams have something to read."""

from __future__ import annotations

import asyncio
from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kernelwire.sockets.stream import KernelwireStream

__all__ = ["TURN_SECONDS", "ReadQueue", "SharedTime", "read_queue"]

TURN_SECONDS = 0.0005
"""Seconds of one turn after which no further stream is read."""


class ReadQueue:
    """Streams that are to be read on, first come, first served.

    A request takes many turns of the loop to be answered. Were each of them as long as all streams
    together take, a server would be the slower the more kernels talk.
    """

    def __init__(self, loop: Any) -> None:
        self._call_soon = loop.call_soon
        self._waiting: deque[KernelwireStream] = deque()
        self._scheduled = False

    def add(self, stream: KernelwireStream) -> None:
        """Have a stream read when its turn comes, and not in this turn of the loop."""
        self._waiting.append(stream)
        self._schedule()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._call_soon(self._run)

    def _run(self) -> None:
        """Read those that wait now, one at least, until the time is up."""
        until = monotonic() + TURN_SECONDS
        try:
            for _ in range(len(self._waiting)):
                self._waiting.popleft().read_in_turn()
                if monotonic() > until:
                    break
        finally:
            self._scheduled = False
            if self._waiting:
                self._schedule()


def read_queue(loop: Any) -> ReadQueue:
    """Return the queue of an event loop, which is freed together with it."""
    # A dictionary with weak keys would keep the loops: queues refer to them.
    queue: ReadQueue | None = vars(loop).get("kernelwire_reads")
    if queue is None:
        queue = vars(loop)["kernelwire_reads"] = ReadQueue(loop)
    return queue


class SharedTime:
    """A time that all who ask for it in one turn of the event loop share."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None

    def until(self) -> float:
        """Return when this turn's time ends, on the monotonic clock; where no loop runs, a time of its own."""
        until = self._until
        if until is None:
            until = monotonic() + self._seconds
            try:
                asyncio.get_running_loop().call_soon(self._forget)
            except RuntimeError:
                return until
            self._until = until
        return until

    def _forget(self) -> None:
        self._until = None
