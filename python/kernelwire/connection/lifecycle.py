"""The life of a connection: prepared, connected, live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import Future
from functools import partial
from logging import ERROR
from typing import TYPE_CHECKING, Any, cast
from weakref import WeakMethod

from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError

from kernelwire._protocol import is_for_clients
from kernelwire.connection.ending import EndingMixin, Phase
from kernelwire.connection.nudge import FirstOutput, Nudge, current_state
from kernelwire.log.channel import LogStream, log_of
from kernelwire.sockets.options import keep_little_unsent

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.log.client import Client
    from kernelwire.log.kernel_log import KernelLog

__all__ = ["LifeCycle"]

PORTS_SECONDS = 0.05
"""Seconds between two looks at whether a kernel that is being restarted has its ports."""


class LifeCycle(EndingMixin):
    """Part of ``KernelwireWebsocketConnection``: connecting, going live, and what goes one by one.

    A connection is registered, and replaces another one of its session, when its websocket is
    open, not before: a handshake that is refused has no effect.
    """

    if TYPE_CHECKING:

        def _go_live(self) -> None: ...

    async def prepare(self) -> None:
        """Prepare as upstream does, but with no effect on others: the handshake may be refused."""
        self._check_origin()
        self._check_session(self.session.session)
        self._phase = Phase.NEW
        self._refer_weakly_to_handler()
        try:
            await self._prepare_weakly()
        except BaseException:
            # Not counted yet: a `disconnect` that is upstream's would uncount it.
            EndingMixin.disconnect(self)
            raise
        if self._phase is Phase.ENDED:
            raise Finish  # the client is gone, and with it everything that would come next

    def request_kernel_info(self) -> Any:
        """Ask the kernel for its protocol version, unless the client went while it was starting.

        The channel that asks would be closed by an answer alone.
        """
        if self._phase is Phase.ENDED:
            raise Finish
        return super().request_kernel_info()

    # -- connecting ------------------------------------------------------------------------------

    def create_stream(self) -> None:
        """Create the channels' streams; see ``ChannelsMixin``."""
        self._note_other_connect()
        super().create_stream()

    def _log_of_kernel(self) -> KernelLog | None:
        """Return the log to read: a subclass that connects in its own way receives in its own, too."""
        return None if self._phase is Phase.ELSEWHERE else super()._log_of_kernel()

    def connect(self) -> asyncio.Future[None]:  # type: ignore[override]  # as upstream's class
        """Connect; what was said meanwhile is replayed, then the channels go live.

        The future is done when the kernel is responsive. Where it fails, or this does, the
        connection has been disconnected.
        """
        manager = self.multi_kernel_manager
        self._phase, self._failed, self._restored = Phase.CONNECTING, False, False
        if self._close_future.done():
            self._close_future = Future()
        # The future keeps what it calls, and the connection the future.
        self._close_future.add_done_callback(
            partial(_call, WeakMethod(self._disconnected_elsewhere))
        )
        try:
            manager.notify_connect(self.kernel_id)
            self._counted = True
            self._open_channels(self._replace_stale())
            connected = self.nudge()
            manager.add_restart_callback(self.kernel_id, self.on_kernel_restarted)
            manager.add_restart_callback(self.kernel_id, self.on_restart_failed, "dead")
            self._open_sockets.add(self)
            self._tune_socket()
            connected.add_done_callback(self._connected)
        except Exception as error:
            self._fail()
            if self.kernel_id in manager:
                expected = isinstance(error, HTTPError)
                self.log.log(ERROR, "Error opening stream: %s", error, exc_info=not expected)
            # Without a log message, to which tornado would add the request's address.
            raise HTTPError(getattr(error, "status_code", 500)) from error
        return connected

    def _replace_stale(self) -> Client | None:
        """Register the session; what an open connection of the same one has becomes ours.

        The kernel knows its peers by the session id: while the old sockets are open, it may refuse
        to talk to new ones.
        """
        if not self.session_key:
            return None
        client = None
        stale = self._open_sessions.get(self.session_key)
        if stale is not None and stale is not self.websocket_handler:
            self.log.warning("Replacing stale connection: %s", self.session_key)
            connection = getattr(stale, "connection", None)
            stale.close()
            if isinstance(connection, LifeCycle):
                client = connection._release_client()
        if self.kernel_id in self.multi_kernel_manager:
            self._open_sessions[self.session_key] = self.websocket_handler
        return client

    def _release_client(self) -> Client | None:
        """End at once, and leave the channels, and what was not sent, to the next connection."""
        if self._client is not None:
            self._client.seal()
        client = self._detach(is_replaced=True)
        self.channels = {}
        # Where a subclass disconnects in its own way, that uncounts it when the websocket closes.
        self._end(uncount=not self._overrides_disconnect())
        return client

    def nudge(self) -> asyncio.Future[None]:
        """Return a future that is done when the kernel is known to answer, see ``Nudge``."""
        self._note_other_connect()
        if current_state(self) == "busy":
            self.log.debug("Nudge: not nudging busy kernel %s", self.kernel_id)
            done: asyncio.Future[None] = asyncio.Future()
            done.set_result(None)
            return done
        # Two at a time would take each other's messages.
        if self._nudge is None or self._nudge.future.done():
            ours = self._phase is Phase.CONNECTING
            output: Any = (
                self._client_of_channels().log
                if ours
                else log_of(self.channels.get("iopub")) or FirstOutput(self)
            )
            self._nudge = Nudge(self, output)
        return self._nudge.future

    def _connected(self, connected: asyncio.Future[None]) -> None:
        """Go live, or give up; see ``connect``."""
        if self._phase is not Phase.CONNECTING:
            return  # disconnected meanwhile
        error = asyncio.CancelledError() if connected.cancelled() else connected.exception()
        if error is not None:
            self.log.error("Kernel %s does not answer: %s", self.kernel_id, type(error).__name__)
            self._fail()
            return
        if self._has_moved():
            loop = connected.get_loop()
            self._follow_ports(loop, loop.time() + self.kernel_info_timeout)
            return
        self._phase = Phase.LIVE
        self._websocket = self.websocket_handler.ws_connection
        if self._restored and self._client is not None:
            self.log.info("Replaying %s buffered messages", self._client.cursor.waiting()[0])
        self._or_close(self._go_live)

    def _follow_ports(self, loop: asyncio.AbstractEventLoop, until: float) -> None:
        """Connect anew: the kernel was restarted on other ports before it has answered."""
        if self._phase is not Phase.CONNECTING or not self._is_managed():
            return
        if 0 not in self._kernel_ports():
            self._or_close(self._connect_anew)
        elif loop.time() < until:
            loop.call_later(PORTS_SECONDS, self._follow_ports, loop, until)
        else:
            self._fail()

    def _connect_anew(self) -> None:
        self._close_streams()
        self.create_stream()
        self._note_ports()
        self.nudge().add_done_callback(self._connected)

    def _or_close(self, step: Callable[[], None]) -> None:
        """Take a step, without which the connection is of no use."""
        try:
            step()
        except Exception:
            self._failures.failure("live", "Serving %s failed", self.session_key)
            self._fail()
            self.websocket_handler.close()

    def _tune_socket(self) -> None:
        """Have small messages sent at once: Nagle's algorithm costs 40 ms with delayed ACKs.

        And have little wait in the socket: what does can be overtaken no more, nor joined or skipped.
        """
        handler: Any = self.websocket_handler
        if getattr(handler, "ws_connection", None) is None:
            return
        try:
            handler.set_nodelay(True)
            keep_little_unsent(handler.ws_connection.stream.socket)
        except (AttributeError, OSError, StreamClosedError) as error:
            self.log.debug("The socket's options could not be set: %s", error)

    # -- messages that go one by one ---------------------------------------------------------------

    def handle_held(self, channel: str, frames: list[bytes], *, limited: bool, own: bool) -> Any:
        """Handle one message that the log leaves to Python, as upstream does.

        Returns an awaitable where ``handle_outgoing_message`` is a coroutine function. A message
        that is not for clients is not for whoever has overridden that either. ``limited`` is
        ``False`` for what came before the client did, ``own`` is ``True`` for what the server has
        made for this client. What a stream's own callback was registered for is that one's alone.
        """
        stream = self.channels.get(channel, channel)
        if isinstance(stream, LogStream) and stream.is_taken and not own:
            return stream.call(frames)
        if channel == "iopub" and not is_for_clients(frames, self.session.unpack):
            return None
        self._unlimited = not limited
        result = cast("Any", self).handle_outgoing_message(stream, frames)
        if not isinstance(result, Awaitable):
            self._unlimited = False
        return result

    @property
    def write_message(self) -> Any:
        """The way to write a message through the websocket's handler."""
        return self._write_message

    def _write_message(self, *args: Any, **kwargs: Any) -> Any:
        written = self.websocket_handler.write_message(*args, **kwargs)
        if self._client is not None:
            self._client.note_written(written)
        return written

    def _send_status_message(self, status: str) -> None:
        """Send a notice about the kernel, behind everything that the kernel has said itself."""
        client = self._client
        if client is None:
            super()._send_status_message(status)
            return
        if status in ("restarting", "dead"):
            client.log.end_output()
        client.tell_status(self.session, status)


def _call(method: WeakMethod[Any], *arguments: Any) -> None:
    """Call a method, if there is still an object that has it."""
    alive = method()
    if alive is not None:
        alive(*arguments)
