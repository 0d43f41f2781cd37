"""The ``iopub`` channel of a client that reads a kernel's log: a stream without a socket."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import proxy

import zmq
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire.log.kernel_log import KernelLog
from kernelwire.log.listeners import Listener

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.session import Session

    from kernelwire._logging import Throttle
    from kernelwire.log.client import Client

__all__ = ["LogStream", "client_of", "log_for", "log_of"]


class _NoSocket:
    """Says of a stream that has no socket whether it is closed."""

    def __init__(self, stream: LogStream) -> None:
        self._stream = proxy(stream)

    @property
    def closed(self) -> bool:
        """Whether the stream is closed; upstream's manager asks the socket."""
        return self._stream.closed()

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(
            f"the iopub channel of a kernelwire connection has no socket with {name!r}: one "
            "subscription serves all clients of a kernel. Use the stream's on_recv, or the "
            "kernel manager's connect_iopub() for a socket of your own."
        )


class LogStream(ZMQStream):
    """A stream of what a kernel publishes, received with the one subscription of its log.

    It is a ``ZMQStream`` to everybody: what is received can be had with :meth:`on_recv` and
    :meth:`on_recv_stream`. A client's messages do not come this way: it reads the log. Who registers
    a callback while a client is served takes its place: the client is held at each message.

    Source: ``zmq.eventloop.zmqstream.ZMQStream``.
    """

    channel = "iopub"

    def __init__(self, log: KernelLog) -> None:  # no socket: nothing of the base class's is set up
        self.log = log
        self.socket: Any = _NoSocket(self)
        stream: Any = log.stream
        self.io_loop = stream.io_loop
        self._closed = False
        self._client: Client | None = None
        self.is_taken = False
        """Whether the callback, or that there is none, is in the place of the client."""
        self._callback: Callable[[list[Any]], Any] | None = None
        self._listener: Listener | None = None
        self._on_close: Callable[[], object] | None = None
        log.use(self)

    @property
    def client(self) -> Client | None:
        """The client whose channel this is, if it reads the log."""
        return self._client

    def read_by(self, client: Client) -> None:
        """Note that ``client`` reads the log: no callback is called any more."""
        self._client, self._callback, self.is_taken = client, None, False
        self._stop_listening()

    def call(self, message: list[bytes]) -> Any:
        """Call back with a message, if there is a callback; returns what that does."""
        return None if self._callback is None else self._callback(message)

    # -- as a stream -------------------------------------------------------------------------------

    def on_recv(self, callback: Any, copy: bool = True) -> None:
        """Register a callback for each message; ``None`` for none. See upstream."""
        self._stop_listening()
        if self._closed:
            return
        self._callback = callback if copy or callback is None else _with_frames(callback)
        client = self._client
        if client is not None and client.is_attached:
            self.is_taken = True
            client.apply_settings()
            return
        self._client = None
        if callback is not None:
            self._listener = Listener(self.log, self._pass_on, batch=1)

    def _pass_on(self, messages: list[list[bytes]], _missed: int) -> Any:
        return self.call(messages[0]) if messages else None

    def on_recv_stream(self, callback: Any, copy: bool = True) -> None:
        """Register a callback that is given this stream and a message. See upstream."""
        if callback is None:
            self.on_recv(None)
        else:
            self.on_recv(lambda message: callback(self, message), copy=copy)

    def stop_on_recv(self) -> None:
        """Call back no more."""
        self.on_recv(None)

    def receiving(self) -> bool:
        """Whether anybody receives."""
        is_read = self._client is not None and not self.is_taken
        return not self._closed and (is_read or self._callback is not None)

    def sending(self) -> bool:
        """Whether anything waits to be sent: nothing can be."""
        return False

    def flush(self, flag: int = zmq.POLLIN | zmq.POLLOUT, limit: int | None = None) -> int:
        """Have everything that is ready handed over, now; returns how many events were handled."""
        stream = self.log.stream
        return 0 if stream is None or stream.closed() else stream.flush(flag, limit)

    def set_close_callback(self, callback: Callable[[], object] | None) -> None:
        """Call ``callback`` when this stream is closed."""
        self._on_close = callback

    def closed(self) -> bool:
        """Whether this stream is closed."""
        return self._closed

    def close(self, linger: int | None = None) -> None:
        """Close this stream; the subscription ends with the last one."""
        del linger
        if self._closed:
            return
        self._stop_listening()
        self._closed, self._client, self._callback = True, None, None
        self.log.leave(self)
        callback, self._on_close = self._on_close, None
        if callback is not None:
            callback()

    def _stop_listening(self) -> None:
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.close()


def _with_frames(callback: Callable[[list[zmq.Frame]], Any]) -> Callable[[list[bytes]], Any]:
    return lambda message: callback([zmq.Frame(part) for part in message])


def client_of(stream: Any) -> Client | None:
    """Return the client that reads a log by this channel; ``None`` where none does."""
    return stream.client if isinstance(stream, LogStream) else None


def log_of(stream: Any) -> KernelLog | None:
    """Return the log that a channel's stream is of; ``None`` where it has a socket of its own."""
    return stream.log if isinstance(stream, LogStream) else None


def log_for(stream: Any, session: Session, failures: Throttle) -> KernelLog:
    """Return the log that a channel's stream is of, or one to receive it with, of its own."""
    return log_of(stream) or KernelLog(session, failures)
