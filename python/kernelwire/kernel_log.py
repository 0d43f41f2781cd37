"""The log of a kernel's output: received once, read by any number of clients."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol

import zmq
from tornado.ioloop import IOLoop

from kernelwire import _native
from kernelwire._drain import drain
from kernelwire._protocol import OWN_SESSION

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.session import Session

    from kernelwire._logs import Throttle
    from kernelwire.stream import KernelwireStream

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "MAX_SECONDS", "KernelLog", "empty_log"]

MAX_MESSAGES = 1024
"""Messages that one wake-up receives at most."""

MAX_BYTES = 1 << 20
"""Bytes that one wake-up receives, the message that crosses the line included."""

MAX_SECONDS = 0.0005
"""Seconds that one wake-up takes at most, before others have their turn."""

_LOOP_TIME = IOLoop.time


class Reader(Protocol):
    """Something that reads the log and writes what it reads to a client."""

    def write(self) -> bool:
        """Write what is next; ``True`` if there may be more, and others have their turn."""

    def go_on(self) -> None:
        """Write what is next, as soon as others have had their turn if it takes long."""

    def flush(self) -> None:
        """Write what is held to be merged."""


def empty_log(key: bytes | None = b"") -> _native.Log:
    """Make a log to which nothing was appended; see ``_native.Log`` for the key."""
    return _native.Log(key, MAX_MESSAGES, MAX_BYTES, MAX_SECONDS)


def signing_key(session: Session) -> bytes | None:
    """Return the key with which the log checks and signs messages; ``None`` where it cannot."""
    if session.auth is None:
        return b""
    return session.key if session.signature_scheme == "hmac-sha256" else None


class KernelLog:
    """Appends what a kernel publishes to its log, and has the log's readers write it.

    It is the reader of the kernel's ``iopub`` stream; see ``KernelwireStream.on_ready``.
    """

    def __init__(self, session: Session, failures: Throttle) -> None:
        self.native = empty_log(signing_key(session))
        self.native.hide_statuses_of(OWN_SESSION)
        self._failures = failures
        self._readers: list[Reader] = []
        self._waiting: list[Callable[[], None]] = []
        self.receives_natively = drain().native
        self._receive: Any = (
            self.native.receive if self.receives_natively else self._receive_portably
        )
        self.now = loop_clock()

    def add(self, reader: Reader) -> None:
        """Have ``reader`` write what is appended from now on."""
        if reader not in self._readers:
            self._readers.append(reader)

    def remove(self, reader: Reader) -> None:
        """Leave ``reader`` alone."""
        if reader in self._readers:
            self._readers.remove(reader)

    def when_received(self, callback: Callable[[], None]) -> None:
        """Call back, once, when something is received: the subscription works."""
        self._waiting.append(callback)

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not call back any more."""
        if callback in self._waiting:
            self._waiting.remove(callback)

    def __call__(self, stream: KernelwireStream) -> bool:
        """Append what is ready, and have it written; ``True`` if there may be more."""
        listener = stream.listener
        record = None if listener is None else listener.record
        more, count, refused = self._receive(stream.socket, self.now(), record)
        stream.reads += count > 0
        if refused is not None:
            self._refuse(refused)
        if self._waiting and count:
            self._notify()
        for reader in self._readers:
            more = reader.write() or more
        return bool(more)

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Append a single message, however it was received, and have it written."""
        refused = self.native.append([bytes(part) for part in message], self.now())
        if refused is not None:
            self._refuse(refused)
        self._notify()
        for reader in list(self._readers):
            reader.go_on()

    def finish(self, _stream: Any) -> None:
        """Have readers write what they hold to be merged, now."""
        for reader in list(self._readers):
            reader.flush()

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    def _refuse(self, reason: str) -> None:
        self._failures.warning(
            "malformed", "Dropped a malformed message on %s: %s", "iopub", reason
        )

    def _receive_portably(
        self, socket: zmq.Socket[bytes], now: float, record: _native.Watch | None
    ) -> tuple[bool, int, str | None]:
        """Do what ``_native.Log.receive`` does, with pyzmq receiving."""

        def take(message: list[bytes]) -> str | None:
            if record is not None:
                record.feed(message, None)
            return self.native.append(message, now)

        return receive_portably(socket, take)


def receive_portably(
    socket: zmq.Socket[bytes], take: Callable[[list[bytes]], str | None]
) -> tuple[bool, int, str | None]:
    """Give what is ready to ``take``, which says why it refuses a message.

    Returns whether there may be more, how many messages were received, and why the first was refused.
    """
    count, size, refused = 0, 0, None
    until = monotonic() + MAX_SECONDS
    while count < MAX_MESSAGES and size < MAX_BYTES and (count == 0 or monotonic() < until):
        try:
            message = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False, count, refused
        count += 1
        size += sum(map(len, message))
        refused = take(message) or refused
    return True, count, refused


def loop_clock() -> Callable[[], float]:
    """Return the clock of the event loop, without a Python frame around it where that is possible."""
    loop = IOLoop.current()
    return time if type(loop).time is _LOOP_TIME else loop.time
