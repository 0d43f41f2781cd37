"""A stream over a real socket, with the other end in the test's hand."""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING, Any

import zmq
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._logging import Throttle
from kernelwire.sockets.stream import KernelwireStream
from support.workbench import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator


_addresses = count()


class Reader:
    """Takes what is ready, at most so many messages at a time, and keeps it."""

    def __init__(self, at_most: int = 1 << 30) -> None:
        self.at_most = at_most
        self.messages: list[bytes] = []
        self.calls = 0
        self.one_by_one: list[bytes] = []
        self.error: Exception | None = None

    def __call__(self, stream: KernelwireStream) -> bool:
        """Read as a reader must; raises ``error`` where there is one."""
        self.calls += 1
        if self.error is not None:
            raise self.error
        for taken in range(self.at_most):
            try:
                self.messages.append(stream.socket.recv(zmq.NOBLOCK))
            except zmq.Again:
                stream.reads += taken > 0
                return False
        stream.reads += 1
        return True

    def one(self, _stream: Any, frames: list[bytes]) -> None:
        """Take a single message."""
        self.one_by_one += frames

    @property
    def numbers(self) -> list[int]:
        """What was read, as numbers."""
        return [int(message) for message in self.messages]


class Bench:
    """A stream, its peer, and everything that must not happen."""

    def __init__(self, cls: type[ZMQStream] = KernelwireStream, *, hwm: int = 0) -> None:
        self.escaped: list[dict[str, Any]] = []
        self.loop = asyncio.get_running_loop()
        escaped = self.escaped
        self.loop.set_exception_handler(lambda _loop, context: escaped.append(context))
        self.context = zmq.Context()
        self.peer = self.context.socket(zmq.PAIR)
        self.near = self.context.socket(zmq.PAIR)
        for socket in (self.peer, self.near):
            socket.set_hwm(hwm)
        address = f"inproc://stream-{next(_addresses)}"
        self.peer.bind(address)
        self.near.connect(address)
        stream = ZMQStream(self.near)
        self.stream: Any = stream if cls is ZMQStream else KernelwireStream.adopt(stream)
        self.log = Lines()
        if cls is not ZMQStream:
            logger = logging.Logger("stream")  # noqa: LOG001 (one of its own for each)
            logger.addHandler(self.log)
            self.stream.failures = Throttle(logger)

    def read_with(self, reader: Reader) -> None:
        """Let ``reader`` read."""
        self.stream.on_ready(reader, reader.one)

    def send(self, *numbers: int) -> None:
        """Send numbers to the stream."""
        for number in numbers:
            self.peer.send(str(number).encode())

    def received(self) -> list[int]:
        """Take what the stream has sent."""
        numbers = []
        while self.peer.poll(0):
            numbers.append(int(self.peer.recv()))
        return numbers

    def is_watched(self) -> bool:
        """Whether the socket wakes the loop."""
        return self.stream._fd in self.loop._selector.get_map()  # type: ignore[attr-defined]

    def close(self) -> None:
        """Close everything."""
        if not self.stream.closed():
            self.stream.close()
        self.context.destroy(linger=0)


@contextmanager
def bench(cls: type[ZMQStream] = KernelwireStream, *, hwm: int = 0) -> Iterator[Bench]:
    """Make a bench for a while; nothing may have escaped to the event loop."""
    made = Bench(cls, hwm=hwm)
    try:
        yield made
        assert made.escaped == []
    finally:
        made.close()


async def turns(number: int = 3) -> None:
    """Let the event loop turn."""
    for _ in range(number):
        await asyncio.sleep(0)
