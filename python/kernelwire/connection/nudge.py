"""Waiting until a kernel answers, and until the client's own channels are known to work."""

from __future__ import annotations

import asyncio
from enum import Flag, auto
from math import inf
from typing import TYPE_CHECKING, Any

from tornado.web import HTTPError

from kernelwire._protocol import STDIN
from kernelwire.kernels.probe import Probe
from kernelwire.sockets.stream import KernelwireStream

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection

    from kernelwire.log.kernel_log import KernelLog

__all__ = ["Awaited", "FirstOutput", "Nudge", "NudgeTimeoutError", "current_state"]

LOOK_SECONDS = 0.05
"""Seconds between two looks at whether the kernel is still starting."""

CHECK_SECONDS = 0.5
"""Seconds between two looks at whether there is still somebody to answer."""

CONNECTED_LOOK_SECONDS = 0.005
"""Seconds between two looks at whether ``stdin`` is connected, once all else is known."""

CONNECTED_SECONDS = 2.0
"""Seconds that ``stdin`` has for that: a lost packet costs one. Some kernels may have no such channel."""

WARN_EVERY = 5
"""Attempts of which one is worth a warning."""


class NudgeTimeoutError(HTTPError, asyncio.TimeoutError):
    """A kernel that has not answered in time.

    Of both types because tornado logs an ``HTTPError`` without a message not at all, and any other
    exception with the request's address, which may hold a token.
    """

    def __init__(self) -> None:
        super().__init__(504)


class Awaited(Flag):
    """What a nudge waits for; it is done when nothing is left."""

    REPLY = auto()
    """An answer on shell or control."""
    OUTPUT = auto()
    """Any message on the client's iopub: its subscription works."""
    STARTED = auto()
    """A kernel state other than "starting"."""
    CONNECTED = auto()
    """The client's stdin: a question to somebody whom a kernel does not know is lost, and it waits
    for the answer for ever."""
    NOTHING = 0


class FirstOutput:
    """The first message on a connection's ``iopub``, where a subclass connects in its own way.

    It is taken, as by upstream's probe; what comes behind it waits in the socket.
    """

    def __init__(self, connection: ZMQChannelsWebsocketConnection) -> None:
        self._stream: Any = connection.channels["iopub"]
        self._callback: Callable[[], None] | None = None

    def when_received(self, callback: Callable[[], None]) -> None:
        """Call back, once, when something is received."""
        self._callback = callback
        self._stream.on_recv(self._received)

    def forget(self, _callback: Callable[[], None]) -> None:
        """Do not call back any more; leave the stream alone, which somebody else may have."""
        callback, self._callback = self._callback, None
        if callback is not None and not self._stream.closed():
            self._stream.stop_on_recv()

    def _received(self, _frames: list[bytes]) -> None:
        callback = self._callback
        if callback is not None:
            self.forget(callback)
            callback()


class Nudge:
    """Waits until a kernel has given all signs of life; a :class:`~kernelwire.kernels.probe.Probe` asks.

    :attr:`future` is done when the kernel is ready,
    or when there is no point in waiting any more: it was stopped, or has moved to other ports. It
    fails with :class:`NudgeTimeoutError` after the connection's ``kernel_info_timeout``, and is
    cancelled where its caller cancels it.
    """

    def __init__(
        self, connection: ZMQChannelsWebsocketConnection, output: KernelLog | FirstOutput
    ) -> None:
        self._connection = connection
        self._kernel: Any = connection.kernel_manager
        self._kernel_id = connection.kernel_id
        self._log = connection.log
        self._output = output
        self._iopub: Any = connection.channels["iopub"]
        self._stdin: Any = connection.channels.get(STDIN)
        self._connected_until = inf
        self._awaited = ~Awaited.NOTHING
        self._loop = asyncio.get_running_loop()
        self._ended: asyncio.Future[None] = self._loop.create_future()
        self._given_up = False
        self._probe = Probe.of(self._kernel)
        self._probe.join(self)
        self._timer = self._loop.call_later(0, self._look)
        output.when_received(self._on_output)
        self.future = asyncio.ensure_future(self._wait(connection.kernel_info_timeout))
        # A task that is cancelled before its first step never gets to a `finally`.
        self.future.add_done_callback(self._release)

    def cancel(self) -> None:
        """Stop waiting; :attr:`future` ends without a failure."""
        self._given_up = True
        self._release()
        if not self._ended.done():
            self._ended.cancel()

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._ended, seconds)
        except asyncio.CancelledError:
            if not self._given_up:
                raise  # by the caller of `connect`, who waits no longer
        except TimeoutError:
            raise NudgeTimeoutError from None

    def _release(self, _future: Any = None) -> None:
        """Let go of everything."""
        self._timer.cancel()
        self._probe.leave(self)
        self._output.forget(self._on_output)

    def _obstacle(self) -> str | None:
        """Say why no answer will ever come; ``None`` where one may."""
        if self._kernel_id not in self._connection.multi_kernel_manager:
            return "stopped kernel"
        if self._iopub.closed():
            return "closed zmq socket"
        return self._probe.obstacle()

    # -- signs of life ---------------------------------------------------------------------------

    def _seen(self, sign: Awaited) -> None:
        """Cross a sign off; come to an end with the last one."""
        self._awaited &= ~sign
        if self._awaited is Awaited.NOTHING:
            self._release()
            if not self._ended.done():
                self._ended.set_result(None)
        elif self._awaited is Awaited.CONNECTED:
            self._connected_until = self._loop.time() + CONNECTED_SECONDS
            self._look_in(0)

    def _look_in(self, seconds: float) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._look)

    def _look(self) -> None:
        """See whether the kernel is still starting, and whether there is still one."""
        obstacle = self._obstacle()
        if obstacle is not None:
            self._log.debug("Nudge: cancelling on %s: %s", obstacle, self._kernel_id)
            self.cancel()
            return
        starting = False
        if Awaited.STARTED in self._awaited:
            state = current_state(self._connection)
            starting = state == "starting"
            if not starting:
                self._log.debug("Nudge: %s execution_state=%s", self._kernel_id, state)
                self._seen(Awaited.STARTED)
        if self._awaited is Awaited.CONNECTED:
            if self._is_connected() or self._loop.time() > self._connected_until:
                self._seen(Awaited.CONNECTED)
            else:
                self._look_in(CONNECTED_LOOK_SECONDS)
        elif self._awaited is not Awaited.NOTHING:
            self._look_in(LOOK_SECONDS if starting else CHECK_SECONDS)

    def _is_connected(self) -> bool:
        """Whether the kernel knows the client's stdin; ``True`` where that cannot be told."""
        stream = self._stdin
        return not isinstance(stream, KernelwireStream) or stream.closed() or stream.can_send()

    def asked(self, attempt: int) -> None:
        """Log that the kernel was asked, and how often that makes."""
        log = self._log.debug if attempt % WARN_EVERY else self._log.warning
        log("Nudge: attempt %d on kernel %s", attempt, self._kernel_id)

    def replied(self, channel: str) -> None:
        """Note that the kernel has answered."""
        self._log.debug("Nudge: %s info reply received: %s", channel, self._kernel_id)
        if Awaited.REPLY in self._awaited:
            self._log.debug("Nudge: resolving %s future: %s", channel, self._kernel_id)
            self._seen(Awaited.REPLY)

    def _on_output(self) -> None:
        self._log.debug("Nudge: IOPub received: %s", self._kernel_id)
        if Awaited.OUTPUT in self._awaited:
            self._log.debug("Nudge: resolving iopub future: %s", self._kernel_id)
            self._seen(Awaited.OUTPUT)


def current_state(connection: ZMQChannelsWebsocketConnection) -> str | None:
    """Return the kernel's state as of now: the watcher may have messages that it has not read."""
    settle = getattr(connection.multi_kernel_manager, "settle_activity", None)
    if settle is not None:
        settle(connection.kernel_id)
    return getattr(connection.kernel_manager, "execution_state", None)
