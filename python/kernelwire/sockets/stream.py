"""A ``ZMQStream`` that can hand over all that is ready in one callback."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, cast

import zmq
from tornado.log import gen_log
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire import _native
from kernelwire._logging import Throttle
from kernelwire.sockets.drain import drain
from kernelwire.sockets.sending import SendQueue
from kernelwire.sockets.turns import read_queue

if TYPE_CHECKING:
    from collections.abc import Callable

    from tornado.ioloop import IOLoop

__all__ = ["KernelwireStream"]

_FAILURES = (Exception, asyncio.CancelledError)
"""What a callback may raise: also what comes of asking a cancelled future for its result."""

SENT_AT_ONCE = 64
"""Messages of those that wait that one turn of the event loop sends at most."""


class KernelwireStream(ZMQStream):
    """A stream of one kernel channel.

    It is a ``ZMQStream`` to everybody, with two differences. An exception in a callback is logged
    and the stream goes on: upstream's stream is deaf from then on, because its file descriptor
    signals changes only and nobody reads what is left. And once :meth:`on_ready` is called, the
    given reader takes messages off the socket itself, as many as it likes, instead of getting one
    per turn of the event loop.

    Source: ``zmq.eventloop.zmqstream.ZMQStream``.
    """

    channel: str | None = None
    reads: int = 0
    """How often the reader has found something; the reader counts."""

    _reading: bool = False
    """Whether the reader is running: it is not called again meanwhile."""

    _read_again: bool = False
    """Whether a read was requested while the reader was running."""

    _read_pending: bool = False
    """Whether a read is scheduled."""

    _reader: Callable[[KernelwireStream], bool] | None = None
    _otherwise: Callable[[Any, list[bytes]], Any] | None = None

    def __init__(self, socket: zmq.Socket[Any], io_loop: IOLoop | None = None) -> None:
        super().__init__(socket, io_loop)
        self._send_queue: SendQueue = SendQueue()
        self.failures = Throttle(gen_log)
        # Tornado's add_callback may be called from any thread and wakes the loop with a write to
        # a pipe; a wake-up from within the loop needs neither.
        self._loop = self.io_loop.asyncio_loop  # type: ignore[attr-defined]
        self._call_soon = self._loop.call_soon
        self._reads = read_queue(self._loop)
        self._native = drain().native

    @classmethod
    def adopt(cls, stream: ZMQStream) -> KernelwireStream:
        """Make a stream of the socket of ``stream``, which reads as closed from then on."""
        adopted = cls(_release_socket(stream), stream.io_loop)
        adopted.channel = getattr(stream, "channel", None)
        return adopted

    def on_ready(
        self,
        reader: Callable[[KernelwireStream], bool],
        otherwise: Callable[[Any, list[bytes]], Any],
    ) -> None:
        """Let ``reader`` take messages off the socket whenever some are ready.

        ``reader(stream)`` must read until the socket is empty, or return ``True`` to be called
        again after others had their turn. Should it ever raise, that is logged, and each message
        goes to ``otherwise(stream, message)`` from then on. Any call of ``on_recv`` ends this.

        The reader is never called while it runs, and one read is scheduled at most, whoever
        requests one.
        """
        super().on_recv(None)
        self._reader = reader
        self._otherwise = otherwise
        # What came before has signalled already.
        self.schedule_read()

    def on_recv(self, callback: Any, copy: bool = True) -> None:
        """Register a callback for each message, as upstream does; ``None`` for none."""
        self._forget_reader()
        super().on_recv(callback, copy=copy)

    def _forget_reader(self) -> None:
        self._reader = self._otherwise = None

    def close(self, linger: int | None = None) -> None:
        """Close this stream."""
        self._forget_reader()
        super().close(linger)

    def receiving(self) -> bool:
        """Whether anybody receives."""
        return self._reader is not None or super().receiving()

    def flush(self, flag: int = zmq.POLLIN | zmq.POLLOUT, limit: int | None = None) -> int:
        """Hand over everything that is ready, now; returns how many events were handled.

        With a reader, one event is one call of it, and ``limit`` is not looked at: its callers
        want what a stopped kernel has left, all of it. While the reader runs, this only has it
        called once more.
        """
        if self._reader is None or not flag & zmq.POLLIN:
            return super().flush(flag, limit)
        self._check_closed()
        events = 1
        while self.read_once():
            events += 1
        self.finish()
        return events if self._reader is not None else events + super().flush(flag, limit)

    def finish(self) -> None:
        """Have the reader pass on what it holds back; not in the middle of its own call."""
        if not self._reading:
            self._finish()

    def _finish(self) -> None:
        finish = getattr(self._reader, "finish", None)
        if finish is not None:
            finish(self)

    def send_multipart(self, msg: Any, flags: int = 0, copy: bool = True, track: bool = False, callback: Any = None, **kwargs: Any) -> None:  # fmt: skip
        """Send a message: at once where nothing waits to be sent, else in its turn."""
        at_once = self._reader is not None and callback is None and not kwargs
        if not at_once or self.sending() or not self._send_now(msg, flags, copy, track):
            self._send_queue.check_room(msg)
            super().send_multipart(
                msg, flags=flags, copy=copy, track=track, callback=callback, **kwargs
            )

    def can_send(self) -> bool:
        """Whether libzmq takes a message now; see ``sending_to_peers`` for what that may tell."""
        events = cast("int", self.socket.EVENTS)
        # Looking may have taken the signal that something has come.
        if events & zmq.POLLIN:
            if self._reader is not None:
                self.schedule_read()
            else:
                self._run_callback(self._rebuild_io_state)
        return bool(events & zmq.POLLOUT)

    def _handle_send(self) -> None:
        """Send what waits, as much as libzmq takes; upstream sends one message a turn."""
        for _ in range(SENT_AT_ONCE):
            super()._handle_send()
            if (
                self.socket is None
                or not self.sending()
                or not cast("int", self.socket.EVENTS) & zmq.POLLOUT
            ):
                return

    def _send_now(self, msg: Any, flags: int, copy: bool, track: bool) -> bool:
        """Try to send; ``False`` where libzmq would have to wait."""
        if self.closed():
            return False
        try:
            events = self._sent_natively(msg) if copy and not flags else None
            if events is None:
                self.socket.send_multipart(msg, flags | zmq.NOBLOCK, copy=copy, track=track)
                events = cast("int", self.socket.EVENTS)
        except zmq.Again:
            return False
        except (zmq.ZMQError, OSError) as error:
            gen_log.error("SEND Error: %s", error)
            return True
        # Sending may have taken the signal that something has come.
        if events & zmq.POLLIN:
            self.schedule_read()
        return True

    def _sent_natively(self, msg: Any) -> int | None:
        """Send what is bytes throughout; ``None`` where that is pyzmq's to do.

        pyzmq looks at each part several times, which takes longer than the sending.
        """
        if not self._native or any(type(part) is not bytes for part in msg):
            return None
        events = _native.send(self.socket, msg)
        if events is None:
            raise zmq.Again
        return events

    def _handle_events(self, fd: Any, events: int) -> None:
        """Serve the socket: the reader where there is one, else as upstream does."""
        if self.socket is None:
            return  # closed since this was scheduled
        if self._reader is not None and not self.sending():
            self.read()
            return
        try:
            super()._handle_events(fd, events)
        except _FAILURES:
            self.failures.failure("events", "Serving %s failed", self.channel)
            if not self.closed():
                self._run_callback(self._rebuild_io_state)

    def _handle_recv(self) -> None:
        """Receive as upstream does, or let the reader do it."""
        if self._reader is None:
            super()._handle_recv()
        else:
            self.read()

    def read(self) -> bool:
        """Let the reader read, unless it is about to; ``True`` if a read is scheduled."""
        if not self._read_pending and self.read_once():
            self.schedule_read()
        return self._read_pending

    def schedule_read(self) -> None:
        """Let the reader read after others had their turn: once, however often this is called."""
        if not self._read_pending:
            self._read_pending = True
            self._reads.add(self)

    def read_in_turn(self) -> None:
        """Read as scheduled; the queue of reads calls this."""
        self._read_pending = False
        self.read()

    def read_once(self) -> bool:
        """Let the reader read; ``True`` if it is to be called again, which is up to the caller.

        While the reader runs, this only notes that: what it has received and not yet passed on
        must not be overtaken.
        """
        reader = self._reader
        if reader is None or self.socket is None:
            return False
        if self._reading:
            self._read_again = True
            return False
        self._reading, self._read_again, more = True, False, False
        try:
            more = reader(self)
        except _FAILURES:
            self._run_callback(self._give_up_reading)
        finally:
            self._reading = False
        return more or self._read_again

    def _give_up_reading(self) -> None:
        """Log what the reader has raised, and do without it."""
        if self.closed():
            self.failures.warning("closed", "The socket of %s was closed by others", self.channel)
            return
        self.failures.warning(
            "read", "Messages on %s go one by one from now on", self.channel, exc_info=True
        )
        otherwise = self._otherwise
        # What the reader holds back comes before all that comes from now on.
        self._run_callback(self._finish)
        if not self.closed():
            self.on_recv_stream(otherwise)

    def _run_callback(self, callback: Any, *args: Any, **kwargs: Any) -> None:
        """Run a callback, or start a coroutine; whatever it raises is logged and ends here."""
        try:
            result = callback(*args, **kwargs)
            if isinstance(result, Awaitable):
                asyncio.ensure_future(result).add_done_callback(self._log_failure)
        except _FAILURES:
            self.failures.failure("callback", "A callback failed on %s", self.channel)

    def _log_failure(self, future: asyncio.Future[Any]) -> None:
        """Log what a coroutine has raised."""
        self._run_callback(lambda: None if future.cancelled() else future.result())


def _release_socket(stream: ZMQStream) -> zmq.Socket[Any]:
    """Take the socket of a stream, which reads as closed from then on."""
    socket = stream.socket
    stream.io_loop.remove_handler(socket)
    stream.socket = None  # type: ignore[assignment]
    return socket
