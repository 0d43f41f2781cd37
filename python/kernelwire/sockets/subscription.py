"""What the engine receives of a kernel's output, in the place of a stream."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Protocol

import zmq

from kernelwire.sockets.desk import ACTIVITY, APPENDED, desk_of
from kernelwire.sockets.driver import engine

if TYPE_CHECKING:
    from collections.abc import Mapping

    from kernelwire import _native

__all__ = ["Subscription", "Told", "packed"]

DRAIN_SECONDS = 0.05
"""Time for which the event loop waits for the engine to have received what is ready."""

_WIDE = frozenset({zmq.AFFINITY, zmq.MAXMSGSIZE})
"""Options of 64 bits. Source: zmq_setsockopt(3)."""


class Told(Protocol):
    """Whose log is appended to."""

    @property
    def native(self) -> _native.Log:
        """The log."""

    @property
    def watch(self) -> _native.Watch | None:
        """What is told of each message."""

    def told(self, bits: int) -> bool:
        """Serve what the engine has told; ``True`` to be called again."""

    def finish(self, stream: Any) -> None:
        """Write what can be, now."""


class Subscription:
    """A kernel's ``iopub``, received by the engine on a socket of its own.

    To a log it is what a ``KernelwireStream`` is, without a socket that others could use.

    Parameters
    ----------
    io_loop
        The event loop of whoever is told.
    endpoint
        Where the kernel publishes.
    options
        The socket's options, as they are set in pyzmq.
    """

    channel = "iopub"

    def __init__(self, io_loop: Any, endpoint: str, options: Mapping[int, Any]) -> None:
        self.io_loop = io_loop
        self._desk = desk_of(io_loop.asyncio_loop)
        self._endpoint = endpoint
        self._options = [(int(option), packed(option, value)) for option, value in options.items()]
        self._native: _native.Subscription | None = None
        self._reader: Told | None = None
        self._token = 0
        self._closed = False

    def begin(self, reader: Told) -> None:
        """Append to the log of ``reader`` from now on, and tell it what it must know."""
        native = engine()
        if native is None or self._closed:
            raise RuntimeError("there is nothing to receive with")
        self._reader, self._token = reader, self._desk.open(reader.told)
        self._native = native.subscribe(
            self._endpoint,
            self._options,
            log=reader.native,
            watch=reader.watch,
            desk=self._desk.native,
            token=self._token,
        )

    def follow(self, watch: _native.Watch | None) -> None:
        """Have another watch be told of messages, or none."""
        if self._native is not None:
            self._native.watch(watch)

    def resume(self) -> None:
        """Receive what was left until the event loop had served its readers."""
        if self._native is not None:
            self._native.resume()

    # -- as a stream -------------------------------------------------------------------------------

    def closed(self) -> bool:
        """Whether nothing is received any more."""
        return self._closed

    def close(self, linger: int | None = None) -> None:
        """Receive no more."""
        del linger
        self._closed, self._reader = True, None
        native, self._native = self._native, None
        if native is not None:
            self._desk.close(self._token)
            native.close()

    def flush(self, flag: int = zmq.POLLIN, limit: int | None = None) -> int:
        """Have everything that is ready be received and served, now; returns how often it was served."""
        del flag, limit
        if self._native is not None:
            self._native.drain(DRAIN_SECONDS)
        events = 0
        while self._reader is not None:
            events += 1
            if not self._reader.told(APPENDED | ACTIVITY):
                self._reader.finish(self)
                break
        return events


def packed(option: int, value: Any) -> bytes:
    """Return the value of an option as libzmq takes it."""
    if isinstance(value, str):
        return value.encode()
    if isinstance(value, int):
        return struct.pack("q" if option in _WIDE else "i", value)
    return bytes(value)
