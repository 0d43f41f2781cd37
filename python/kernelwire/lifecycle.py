"""The life of a connection: how it begins, what it leaves behind, and that both happen once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import Future
from contextlib import nullcontext
from enum import Enum, auto
from inspect import getattr_static
from logging import ERROR
from typing import TYPE_CHECKING, Any, cast
from weakref import proxy

import zmq
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._compat.jupyter import connection_count, forget_kernel_info
from kernelwire._compat.tornado import accepts_origin
from kernelwire._logs import Throttle
from kernelwire._protocol import DELIMITER, OWN_SESSION, is_for_clients
from kernelwire.clients import Backlog, Client
from kernelwire.iopub import LogStream, log_of
from kernelwire.kernel_log import KernelLog, ports_of
from kernelwire.nudge import FirstOutput, Nudge, current_state
from kernelwire.prompts import SessionPrompt
from kernelwire.stream import KernelwireStream, bounded_sending

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_server.services.kernels.connection.channels import (
        ZMQChannelsWebsocketConnection as _Base,
    )

else:
    _Base = object

__all__ = ["LifeCycle", "Phase"]

MAX_SESSION_BYTES = 255
"""Length of a ZeroMQ routing id, as which the session id serves, in bytes."""


MESSAGE_TOO_BIG = 1009
"""The code with which a client closes that got a message too big for it. Source: RFC 6455, 7.4.1"""

GOODBYES = (1000, 1001)
"""The codes with which a client closes that is done, or whose page goes away. Source: RFC 6455, 7.4.1"""

TOO_BIG = "A message was not delivered: it was larger than the client accepts.\n"

REFUSED = (
    "A message of {} bytes was not delivered: "
    "the client closed the connection while it was sent.\n"
    "To receive it, raise the limit on the size of websocket messages of the client, "
    "or of the proxy before this server.\n"
)
"""What a client is told that has refused a message of so many bytes twice."""

PORTS_SECONDS = 0.05
"""Seconds between two looks at whether a kernel that is being restarted has its ports."""


class Phase(Enum):
    """How far a connection has got."""

    NEW = auto()
    CONNECTING = auto()
    """Counted and registered; the kernel has not answered yet."""
    ELSEWHERE = auto()
    """A subclass connects without this class's ``connect``."""
    LIVE = auto()
    ENDED = auto()


class LifeCycle(_Base):
    """Part of ``KernelwireWebsocketConnection``: connecting, and disconnecting exactly once.

    A connection is registered, and replaces another one of its session, when its websocket is
    open, not before: a handshake that is refused has no effect.
    """

    _phase = Phase.NEW
    _counted = False
    _failed = False
    _restored = False
    """Whether the streams are an earlier connection's."""
    _selected_subprotocol: str | None = None
    _client: Client | None = None
    """The client whose channels these are, and its place in the kernel's log."""
    _nudge: Nudge | None = None
    _ports: tuple[Any, ...] = ()
    _prompt: SessionPrompt
    _websocket: Any = None
    """The websocket at the time the connection went live; its handler forgets it."""
    _unnamed: str | None = None
    """The session id that was made up here because the client has not told one."""

    if TYPE_CHECKING:
        _failures: Throttle
        channels: dict[str, Any]

        def _go_live(self) -> None: ...
        def _obstacle(self) -> str | None: ...
        def _notice(self, client: Client, text: str, parent: bytes) -> tuple[str, list[bytes]]: ...

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection, if the session id that the client has asked for can be had."""
        super().__init__(**kwargs)
        self._failures = Throttle(self.log)
        self._prompt = SessionPrompt(self)
        handler = kwargs.get("websocket_handler")
        if isinstance(getattr(handler, "request", None), HTTPServerRequest):
            # The caller is about to use it, and fails on some of what a client can ask for.
            session_id = cast("Any", handler).get_argument("session_id", None)
            self._check_session(session_id or "")
            if not session_id:
                self._unnamed = self.session.session

    @property
    def subprotocol(self) -> str | None:  # type: ignore[override]  # unannotated upstream
        """The subprotocol; also after the websocket, which knows it, has gone."""
        # Embedders' handlers may have no websocket at all.
        if getattr(self.websocket_handler, "ws_connection", self) is not None:
            self._selected_subprotocol = super().subprotocol
        return self._selected_subprotocol

    # -- before the websocket is open ------------------------------------------------------------

    async def prepare(self) -> None:
        """Prepare as upstream does, but with no effect on others: the handshake may be refused."""
        self._check_origin()
        self._check_session(self.session.session)
        self._phase = Phase.NEW
        try:
            await self._prepare_weakly()
        except BaseException:
            # Not counted yet: a `disconnect` that is upstream's would uncount it.
            LifeCycle.disconnect(self)
            raise
        if self._phase is Phase.ENDED:
            raise Finish  # the client is gone, and with it everything that would come next

    async def _prepare_weakly(self) -> None:
        """Prepare as upstream does, without leaving a reference to this connection behind.

        Upstream's timer for giving up refers to the connection for a minute, closed or not.
        """
        prepare = super().prepare
        function = getattr(prepare, "__func__", None)
        await (prepare() if function is None else function(proxy(self)))

    def _check_session(self, session_id: str) -> None:
        """Refuse a session id that cannot be a routing id."""
        encoded = session_id.encode(errors="surrogateescape")
        if len(encoded) > MAX_SESSION_BYTES:
            self._refuse(
                400, f"session_id has {len(encoded)} bytes, at most {MAX_SESSION_BYTES} are allowed"
            )
        if not (encoded.isascii() and session_id.isprintable()):
            self._refuse(400, "session_id must be printable ASCII")
        if encoded == DELIMITER:
            self._refuse(400, "session_id must not be the delimiter of messages")

    def _check_origin(self) -> None:
        """Refuse what the websocket would refuse as well, before the kernel is asked anything."""
        handler: Any = self.websocket_handler
        if not isinstance(handler.request, HTTPServerRequest):
            return
        if not accepts_origin(handler):
            self._refuse(403, "Cross origin websockets not allowed")

    def _refuse(self, status: int, reason: str) -> None:
        """End the handshake. The exception has no log message: tornado would add the address."""
        self.log.warning("Refused a connection to kernel %s: %s", self.kernel_id, reason)
        raise HTTPError(status, reason=reason)

    async def _register_session(self) -> None:
        """Name the session; it is registered once the websocket is open, see ``connect``."""
        self.session_key = f"{self.kernel_id}:{self.session.session}"

    def request_kernel_info(self) -> Any:
        """Ask the kernel for its protocol version, as upstream does.

        The future is one that may be given a result by who gives up waiting; with upstream's, the
        answer or the end of the connection then fails to set it again. The request is the server's
        own, not the client's.
        """
        session = self.session
        client, session.session = session.session, OWN_SESSION
        try:
            answer = super().request_kernel_info()
        finally:
            session.session = client
        if not asyncio.isfuture(answer):
            return answer
        waiting: asyncio.Future[Any] = answer.get_loop().create_future()

        def pass_on(answer: asyncio.Future[Any]) -> None:
            if not waiting.done() and not answer.cancelled():
                waiting.set_result(answer.result())

        answer.add_done_callback(pass_on)
        return waiting

    def _finish_kernel_info(self, info: Any) -> None:
        """Adapt to the kernel's protocol version, as upstream does, if it makes sense."""
        try:
            super()._finish_kernel_info(info)
        except Exception:
            self._failures.failure(
                "kernel_info", "Kernel %s tells no usable protocol version", self.kernel_id
            )
            if not self._kernel_info_future.done():
                self._kernel_info_future.set_result(info)

    # -- connecting ------------------------------------------------------------------------------

    def create_stream(self) -> None:
        """Create the channels' streams; that of ``iopub`` has no socket where the manager has a log."""
        self._note_other_connect()
        log = self._log_of_kernel()
        try:
            with bounded_sending(getattr(self.kernel_manager, "context", None)):
                if log is None:
                    super().create_stream()
                else:
                    self._create_streams_on(log)
            for channel, stream in self.channels.items():
                # Other kernel managers may give streams of their own kind: those stay as they are.
                if type(stream) is ZMQStream:
                    self.channels[channel] = KernelwireStream.adopt(stream)
        except BaseException:
            self._close_streams()
            raise
        iopub = self.channels["iopub"]
        if isinstance(iopub, KernelwireStream) and self._obstacle() is None:
            # For good: a socket whose RCVHWM is set back from 0 may never receive again.
            iopub.socket.setsockopt(zmq.RCVHWM, 0)

    def _log_of_kernel(self) -> KernelLog | None:
        """Return the log that the manager has of the kernel; ``None`` where there is none for us.

        A subclass that connects in its own way receives in its own way as well.
        """
        logs = getattr(self.multi_kernel_manager, "kernel_log", None)
        if logs is None or self._phase is Phase.ELSEWHERE:
            return None
        log: KernelLog | None = logs(self.kernel_id)
        return log

    def _create_streams_on(self, log: KernelLog) -> None:
        """Create the streams as upstream does, but for the subscription."""
        kernel: Any = self.kernel_manager
        self.channels["iopub"] = LogStream(log)
        for channel in ("shell", "control", "stdin"):
            stream = getattr(kernel, f"connect_{channel}")(identity=self.session.bsession)
            stream.channel = channel
            self.channels[channel] = stream

    def connect(self) -> asyncio.Future[None]:  # type: ignore[override]  # as upstream's class
        """Connect; what was said meanwhile is replayed, then the channels go live.

        The future is done when the kernel is responsive. Where it fails, or this does, the
        connection has been disconnected.
        """
        manager = self.multi_kernel_manager
        self._phase, self._failed, self._restored = Phase.CONNECTING, False, False
        if self._close_future.done():
            self._close_future = Future()
        self._close_future.add_done_callback(self._disconnected_elsewhere)
        try:
            manager.notify_connect(self.kernel_id)
            self._counted = True
            self._open_channels(self._replace_stale())
            connected = self.nudge()
            manager.add_restart_callback(self.kernel_id, self.on_kernel_restarted)
            manager.add_restart_callback(self.kernel_id, self.on_restart_failed, "dead")
            self._open_sockets.add(self)
            self._set_nodelay()
            connected.add_done_callback(self._connected)
        except Exception as error:
            self._fail()
            if self.kernel_id in manager:
                expected = isinstance(error, HTTPError)
                self.log.log(ERROR, "Error opening stream: %s", error, exc_info=not expected)
            # Without a log message, to which tornado would add the request's address.
            raise HTTPError(getattr(error, "status_code", 500)) from error
        return connected

    def _note_other_connect(self) -> None:
        """Note that a subclass connects as upstream's class does: it has counted the connection."""
        if self._phase is Phase.NEW:
            self._phase, self._counted = Phase.ELSEWHERE, True
            self.log.debug("Messages to %s go as upstream: connect overridden", self.session_key)

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
        client = self._detach()
        self.channels = {}
        # Where a subclass disconnects in its own way, that uncounts it when the websocket closes.
        self._end(uncount=not self._overrides_disconnect())
        return client

    def _open_channels(self, client: Client | None) -> None:
        """Take the session's channels over, or make new ones."""
        info: Any = self.multi_kernel_manager.get_buffer(self.kernel_id, self.session_key)
        if client is None and info and info["session_key"] == self.session_key:
            self.log.info("Restoring connection for %s", self.session_key)
            client = self._client_of_buffer(info)
        if client is not None:
            # From here on a failure puts it all back.
            self._client, self.channels, self._restored = client, client.streams, True
        streams = self.channels
        is_open = all(not stream.closed() for stream in streams.values())
        if not streams or not is_open or (client is not None and self._are_elsewhere(streams)):
            self._close_streams()
            self.create_stream()
        self._note_ports()
        self._prompt.ask_again(self._client_of_channels())

    def _client_of_buffer(self, info: dict[str, Any]) -> Client:
        """Return the client whose messages were kept: the kernels' manager may be another's."""
        buffer = info["buffer"]
        if isinstance(buffer, Backlog):
            return buffer.client
        client = self._new_client()
        client.extend(buffer)
        client.read_from(info["channels"])
        return client

    def _new_client(self) -> Client:
        bound = getattr(self.multi_kernel_manager, "max_offline_buffer_bytes", 0)
        log = log_of(self.channels.get("iopub")) or KernelLog(self.session, self._failures)
        return Client(log, bound, self._failures, self._prompt.noter())

    def _client_of_channels(self) -> Client:
        """Return the client whose channels ours are; whatever they receive, it gets."""
        client = self._client
        if client is None:
            client = self._client = self._new_client()
        log = log_of(self.channels.get("iopub"))
        if log is not None and log is not client.log:
            client = self._client = self._moved(client)
        if client.streams is not self.channels or not client.is_receiving():
            client.read_from(self.channels)
        return client

    def _moved(self, client: Client) -> Client:
        """Have what waits for a client wait in the log that its channels are of now."""
        moved = self._new_client()
        moved.extend(Backlog(client))
        client.close()
        return moved

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
            self.log.info("Replaying %s buffered messages", len(Backlog(self._client)))
        self._or_close(self._go_live)

    def _has_moved(self) -> bool:
        """Whether the kernel has left the ports that the channels are connected to."""
        return self._is_managed() and self._ports != self._kernel_ports()

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

    def _note_ports(self) -> None:
        """Note where the channels are connected to, also for who inherits them."""
        self._ports = self._kernel_ports()
        for stream in self.channels.values():
            stream.kernel_ports = self._ports

    def _are_elsewhere(self, streams: dict[str, Any]) -> bool:
        """Whether buffered streams are connected to ports that the kernel has left.

        Upstream's manager knows where the kernel was when it was asked last, which is not where
        streams of a connection were that had replaced another one.
        """
        changed = self.multi_kernel_manager.ports_changed(self.kernel_id)
        ports = {getattr(stream, "kernel_ports", None) for stream in streams.values()}
        return changed if None in ports else ports != {self._kernel_ports()}

    def _or_close(self, step: Callable[[], None]) -> None:
        """Take a step, without which the connection is of no use."""
        try:
            step()
        except Exception:
            self._failures.failure("live", "Serving %s failed", self.session_key)
            self._fail()
            self.websocket_handler.close()

    def _set_nodelay(self) -> None:
        """Have small messages sent at once: Nagle's algorithm costs 40 ms with delayed ACKs."""
        handler = self.websocket_handler
        if getattr(handler, "ws_connection", None) is None:
            return
        try:
            handler.set_nodelay(True)
        except (OSError, StreamClosedError) as error:
            self.log.debug("TCP_NODELAY could not be set: %s", error)

    # -- messages that go one by one ---------------------------------------------------------------

    def handle_held(self, channel: str, frames: list[bytes], *, limited: bool) -> Any:
        """Handle one message that the log leaves to Python, as upstream does.

        Returns an awaitable where ``handle_outgoing_message`` is a coroutine function. A message
        that is not for clients is not for whoever has overridden that either. ``limited`` is
        ``False`` for what came before the client did.
        """
        if channel == "iopub" and not is_for_clients(frames, self.session.unpack):
            return None
        self._unlimited = not limited
        stream = self.channels.get(channel, channel)
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
        client.tell_status(self.session, status)

    # -- disconnecting ---------------------------------------------------------------------------

    def disconnect(self) -> None:  # type: ignore[override]  # as the class that is subclassed
        """End the connection, once; what did not reach the client waits for the next connection.

        Where it was the kernel's last, or has gone without a goodbye, its streams stay open and fill
        the session's backlog. Those of a connection that never came to life are closed, unless it had them from an earlier one; so
        are those of a client without a session id, as nobody could claim what is kept for it.
        """
        if self._phase is Phase.ENDED:
            self._uncount()  # if that was left to a subclass, which has left it to this
            return
        if self.channels or self in self._open_sockets:
            self._note_other_connect()
        client = self._detach()
        last = self._end()
        keep = self._is_managed() and (self._restored or not self._failed) and self._can_return()
        if not keep or not (self._start_buffering(client) if last else self._keep(client)):
            self._close_streams()
            if client is not None:
                client.close()

    def _fail(self) -> None:
        """Disconnect because connecting has failed.

        A subclass's way is left to the websocket, which will close, as upstream does: it may count
        each call.
        """
        self._failed = True
        if not self._overrides_disconnect():
            self.disconnect()

    def _overrides_disconnect(self) -> bool:
        return getattr_static(self, "disconnect") is not getattr_static(LifeCycle, "disconnect")

    def _disconnected_elsewhere(self, _closed: Any) -> None:
        """Let go of what only this class knows of: a subclass has disconnected as upstream does."""
        if self._phase is Phase.ENDED:
            return
        self.log.debug("%s: disconnect overridden, unsent output is lost", self.session_key)
        self._phase, self._counted = Phase.ENDED, False
        client = self._detach()
        if client is not None:
            client.close()
        self._cancel_nudge()

    def _end(self, *, uncount: bool = True) -> bool:
        """Undo everything but the streams; ``True`` if this was the kernel's last connection."""
        counted = self._counted
        self._phase = Phase.ENDED
        self.log.debug("Websocket closed %s", self.session_key)
        for step in (
            *([self._uncount] if uncount else []),
            self._unregister,
            self._cancel_nudge,
            self._release_kernel_info,
            self._forget_restarts,
        ):
            try:
                step()
            except Exception:
                self._failures.failure(step.__name__, "Disconnecting failed in %s", step.__name__)
        return counted and connection_count(self.multi_kernel_manager, self.kernel_id) == 0

    def _uncount(self) -> None:
        counted, self._counted = self._counted, False
        if counted:
            self.multi_kernel_manager.notify_disconnect(self.kernel_id)

    def _unregister(self) -> None:
        if self._open_sessions.get(self.session_key) is self.websocket_handler:
            self._open_sessions.pop(self.session_key)
        self._open_sockets.discard(self)
        if not self._close_future.done():
            self._close_future.set_result(None)

    def _cancel_nudge(self) -> None:
        nudge, self._nudge = self._nudge, None
        if nudge is not None:
            nudge.cancel()

    def _release_kernel_info(self) -> None:
        """Give up a request for the kernel's protocol version; the next connection asks anew."""
        channel, self.kernel_info_channel = self.kernel_info_channel, None
        if channel is None or channel.closed():
            return
        channel.close()
        future = self._kernel_info_future
        if not future.done():
            future.set_result({})  # others may be waiting for it
        forget_kernel_info(self.kernel_manager, future)

    def _forget_restarts(self) -> None:
        if self._is_managed():
            forget = self.multi_kernel_manager.remove_restart_callback
            forget(self.kernel_id, self.on_kernel_restarted)
            forget(self.kernel_id, self.on_restart_failed, "dead")

    def _keep(self, client: Client | None) -> bool:
        """Keep the session of a client that will be back; ``False`` if it has said goodbye."""
        manager: Any = self.multi_kernel_manager
        if client is None or not client.has_dropped or not hasattr(manager, "keep_session"):
            return False
        is_open = len(self._open_streams()) == len(self.channels)
        if not manager.buffer_offline_messages or not is_open:
            return False
        manager.keep_session(self.kernel_id, self.session_key, client)
        return True

    def _start_buffering(self, client: Client | None) -> bool:
        """Leave the channels, and what waits, to the offline buffer; ``False`` where it cannot have them."""
        manager: Any = self.multi_kernel_manager
        if len(self._open_streams()) < len(self.channels):
            self._close_streams()  # there is nothing to listen to, but something to keep
        keeps = hasattr(manager, "handing_over")
        try:
            with manager.handing_over(self.session_key, client) if keeps else nullcontext():
                manager.start_buffering(self.kernel_id, self.session_key, self.channels)
            if not keeps and client is not None:
                manager.get_buffer(self.kernel_id, self.session_key)["buffer"].extend(
                    Backlog(client)
                )
                client.close()
        except Exception:
            self._failures.failure("buffering", "Buffering for %s failed", self.session_key)
            return False
        return True

    def _close_streams(self) -> None:
        for stream in self._open_streams().values():
            stream.on_recv(None)
            stream.close()
        self.channels = {}

    # -- what there is ---------------------------------------------------------------------------

    def _is_managed(self) -> bool:
        return self.kernel_id in self.multi_kernel_manager

    def _can_return(self) -> bool:
        """Whether there is a session id by which the client could come back."""
        return self.session.session != self._unnamed

    def _kernel_ports(self) -> tuple[Any, ...]:
        return ports_of(self.kernel_manager)

    def _open_streams(self) -> dict[str, Any]:
        return {
            name: stream
            for name, stream in self.channels.items()
            if stream is not None and not stream.closed()
        }

    def _detach(self) -> Client | None:
        """Write no more to this websocket; what has not reached it waits in the log."""
        client, self._client = self._client, None
        if client is None:
            return None
        code: Any = getattr(self._websocket, "close_code", GOODBYES[0])
        client.has_dropped = code is None or (isinstance(code, int) and code not in GOODBYES)
        too_big = code == MESSAGE_TOO_BIG
        refused = client.detach(too_big=too_big)
        for size, parent in refused:
            client.notify(*self._notice(client, REFUSED.format(size), parent), after="now")
        if too_big and not refused:
            client.notify(*self._notice(client, TOO_BIG, b"{}"), after="now")
        return client

    def _take_backlog(self) -> Backlog | None:
        """Write no more; what has not reached the client."""
        client = self._detach()
        return None if client is None else Backlog(client)
