"""The life of a connection: how it begins, what it leaves behind, and that both happen once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from concurrent.futures import Future
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from inspect import getattr_static
from logging import ERROR
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import proxy

import zmq
from tornado.httputil import HTTPServerRequest
from tornado.iostream import StreamClosedError
from tornado.web import Finish, HTTPError
from tornado.websocket import WebSocketClosedError
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._compat.jupyter import connection_count, forget_kernel_info
from kernelwire._compat.tornado import accepts_origin
from kernelwire._logs import Throttle
from kernelwire._protocol import DELIMITER, OWN_SESSION, is_for_clients
from kernelwire._writers import InFlight, Pieces, is_open, payloads, when_written, writer_for
from kernelwire.in_order import InOrder
from kernelwire.nudge import Nudge, current_state
from kernelwire.offline import OfflineBuffer, fill, lacks_parts
from kernelwire.prompts import STDIN, SessionPrompt
from kernelwire.refusals import MESSAGE_TOO_BIG, without_refused
from kernelwire.replay import Replay
from kernelwire.stream import KernelwireStream, bounded_sending

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jupyter_server.services.kernels.connection.channels import (
        ZMQChannelsWebsocketConnection as _Base,
    )

    from kernelwire._native import Pump
else:
    _Base = object

__all__ = ["LifeCycle", "Phase"]

MAX_SESSION_BYTES = 255
"""Length of a ZeroMQ routing id, as which the session id serves, in bytes."""


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


class Estate(NamedTuple):
    """What a connection leaves to the one that takes its session over."""

    streams: dict[str, Any]
    backlog: OfflineBuffer | None
    moved: bool
    """Whether the kernel has left the ports that the streams are connected to."""


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
    _writes = 0
    """How often ``write_message`` was called."""
    _position = (0, 0)
    """What had been written, in bytes and in calls, when the last message came to be handled."""
    _was_open = False
    """Whether there was a websocket when the connection went live; embedders may have none."""
    _selected_subprotocol: str | None = None
    _replay: Replay | None = None
    """Holds what was received and not yet sent; ``None`` where messages pass right through."""
    _in_flight: InFlight = InFlight(None)
    """What was written and may not reach the client; set when there is a websocket."""
    _nudge: Nudge | None = None
    _ports: tuple[Any, ...] = ()
    _prompt: SessionPrompt
    _in_order: InOrder
    """Handles messages that go one by one."""
    _websocket: Any = None
    """The websocket at the time the connection went live; its handler forgets it."""
    _tried: bytes = b""
    """Header of the message that the session's connection before had begun to send."""
    _unnamed: str | None = None
    """The session id that was made up here because the client has not told one."""

    if TYPE_CHECKING:
        _failures: Throttle
        _pump: Pump
        _unsent: list[tuple[str, list[bytes]]]
        channels: dict[str, Any]

        def _go_live(self) -> None: ...
        def _obstacle(self) -> str | None: ...
        def _keep_unsent(self, messages: Sequence[str | bytes]) -> None: ...
        def _notice(self, text: str, parent: bytes) -> tuple[str, list[bytes]]: ...
        def _signed(self, frames: list[bytes]) -> list[bytes]: ...

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection, if the session id that the client has asked for can be had."""
        super().__init__(**kwargs)
        self._failures = Throttle(self.log)
        self._prompt = SessionPrompt(self)
        self._in_order = InOrder(
            self._handle_one, self._awaited_one, self._is_closing, self._failures
        )
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
        """Create the channels' streams, and keep libzmq from dropping what waits on iopub.

        It may drop where messages go one by one: more can come than can be handled, and only
        libzmq bounds what waits then. The choice is made here and for good, as a socket whose
        ``RCVHWM`` is set back from 0 may never receive again.
        """
        self._note_other_connect()
        try:
            with bounded_sending(getattr(self.kernel_manager, "context", None)):
                super().create_stream()
            for channel, stream in self.channels.items():
                # Other kernel managers may give streams of their own kind: those stay as they are.
                if type(stream) is ZMQStream:
                    self.channels[channel] = KernelwireStream.adopt(stream)
        except BaseException:
            self._close_channels()
            raise
        iopub = self.channels["iopub"]
        if isinstance(iopub, KernelwireStream) and self._obstacle() is None:
            iopub.socket.setsockopt(zmq.RCVHWM, 0)

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

    def _replace_stale(self) -> Estate | None:
        """Register the session; what an open connection of the same one has becomes ours.

        The kernel knows its peers by the session id: while the old sockets are open, it may refuse
        to talk to new ones.
        """
        if not self.session_key:
            return None
        estate = None
        stale = self._open_sessions.get(self.session_key)
        if stale is not None and stale is not self.websocket_handler:
            self.log.warning("Replacing stale connection: %s", self.session_key)
            connection = getattr(stale, "connection", None)
            stale.close()
            if isinstance(connection, LifeCycle):
                estate = connection._bequeath()
        if self.kernel_id in self.multi_kernel_manager:
            self._open_sessions[self.session_key] = self.websocket_handler
        return estate

    def _bequeath(self) -> Estate:
        """End at once, and leave what is open, and what was not sent, to the next connection."""
        self._in_flight.seal()
        estate = Estate(self.channels, self._take_backlog(), self._ports != self._kernel_ports())
        self.channels = {}
        # Where a subclass disconnects in its own way, that uncounts it when the websocket closes.
        self._end(uncount=not self._overrides_disconnect())
        return estate

    def _open_channels(self, estate: Estate | None) -> None:
        """Take the session's streams over, or make new ones."""
        manager = self.multi_kernel_manager
        info: Any = manager.get_buffer(self.kernel_id, self.session_key)
        if estate is None and info and info["session_key"] == self.session_key:
            self.log.info("Restoring connection for %s", self.session_key)
            estate = Estate(info["channels"], self._as_backlog(info["buffer"]), moved=False)
            # From here on a failure puts it all back.
            self._inherit(estate)
            estate = estate._replace(moved=self._are_elsewhere(estate.streams))
        elif estate is not None:
            self._inherit(estate)
        else:
            self._hold(self._make_backlog())
        streams = list(self.channels.values())
        if not streams or (estate and estate.moved) or any(s.closed() for s in streams):
            self._close_channels()
            self.create_stream()
        self._note_ports()
        if self._replay is not None:
            self._prompt.ask_again(self._replay.backlog)

    def _inherit(self, estate: Estate) -> None:
        self._restored = True
        self.channels = estate.streams
        backlog = self._make_backlog() if estate.backlog is None else estate.backlog
        self._tried = backlog.begun
        self._hold(backlog)
        fill(backlog, self._open_streams())

    def _hold(self, backlog: OfflineBuffer) -> None:
        """Have ``backlog`` replayed before anything that is yet to come."""
        self._replay = Replay(cast("Any", self), backlog, self._go_live)

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
            self._nudge = Nudge(self, self._replay.backlog if self._replay else None)
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
        self._was_open = is_open(self.websocket_handler)
        self._in_flight = writer_for(self.websocket_handler).in_flight
        self._or_close(self._catch_up)

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
        self._close_channels()
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

    def _catch_up(self) -> None:
        """Replay what there is to replay, then go live; at once where there is nothing."""
        replay = self._replay
        if replay is None or not (replay.backlog or replay.backlog.dropped.messages):
            self._go_live()
            return
        if self._restored:
            self.log.info("Replaying %s buffered messages", len(replay.backlog))
        fill(replay.backlog, self._open_streams())
        replay.start()

    def _set_nodelay(self) -> None:
        """Have small messages sent at once: Nagle's algorithm costs 40 ms with delayed ACKs."""
        handler = self.websocket_handler
        if getattr(handler, "ws_connection", None) is None:
            return
        try:
            handler.set_nodelay(True)
        except (OSError, StreamClosedError) as error:
            self.log.debug("TCP_NODELAY could not be set: %s", error)

    # -- while the websocket is closing ----------------------------------------------------------

    def _is_closing(self) -> bool:
        """Whether there was a websocket and nothing can be written to it any more."""
        return self._was_open and not is_open(self.websocket_handler)

    def _one_by_one(self, stream: Any, message: list[bytes]) -> None:
        """Handle one message in its turn, or keep it and those that follow it for the next connection.

        One that lacks parts is dropped, as on the way in batches: no client can read it.
        """
        if lacks_parts(message):
            self._failures.warning(
                "malformed", "Dropped a malformed message on %s: parts are missing", stream.channel
            )
            return
        if self._is_closing():
            self._hold_back().append((stream.channel, message))
            return
        self._in_order.handle(stream, message)
        self._in_order.pause_if_full(stream, self._one_by_one)

    def _handle_one(self, stream: Any, message: list[bytes]) -> Any:
        """Handle one message, and remember it until the client's socket has taken it.

        Returns an awaitable where ``handle_outgoing_message`` is a coroutine function. A message
        that is not for clients is not for whoever has overridden that either.
        """
        if stream.channel == "iopub" and not is_for_clients(message, self.session.unpack):
            return None
        if stream.channel == STDIN:
            self._prompt.asked(message)
        self._position = (self._in_flight.position, self._writes)
        result = cast("Any", self).handle_outgoing_message(stream, message)
        if isinstance(result, Awaitable):
            return result
        self._note_written(stream, message)
        return None

    def _awaited_one(self, stream: Any, message: list[bytes], error: BaseException | None) -> None:
        """Remember a message that a coroutine has handled, or keep it if it came too late."""
        if isinstance(error, WebSocketClosedError) and not self._has_written():
            self._unsent.append((stream.channel, message))
        self._note_written(stream, message)

    def _note_written(self, stream: Any, message: list[bytes]) -> None:
        if self._has_written():
            self._in_flight.add((stream.channel, message))

    def _has_written(self) -> bool:
        """Whether anything was written since the last message came to be handled."""
        return (self._in_flight.position, self._writes) != self._position

    @property
    def write_message(self) -> Any:
        """The way to write a message through the websocket's handler."""
        return self._write_message

    def _write_message(self, *args: Any, **kwargs: Any) -> Any:
        written = self.websocket_handler.write_message(*args, **kwargs)
        self._writes += 1
        when_written(written, self._in_flight)
        return written

    def _hold_back(self) -> OfflineBuffer:
        """Have everything that comes from now on kept."""
        if self._replay is not None:
            return self._replay.backlog
        backlog = self._take_backlog()
        if backlog is None:
            backlog = self._make_backlog()
        self._hold(backlog)
        fill(backlog, self._open_streams())
        return backlog

    def _send_status_message(self, status: str) -> None:
        """Send a notice about the kernel, behind everything that the kernel has said itself."""
        passes = self._replay is None and not self._is_closing()
        iopub: Any = self.channels.get("iopub")
        is_open = iopub is not None and not iopub.closed()
        if passes and not (is_open and self._in_order.busy):
            super()._send_status_message(status)
            return
        backlog = None if passes else self._hold_back()
        if is_open:
            # A flush of a stream that has stopped receiving would throw its messages away.
            with self._in_order.not_pausing():
                iopub.flush()
        notice = self.session.serialize(self.session.msg("status", {"execution_state": status}))
        if backlog is None:
            self._in_order.handle(iopub, notice)
        else:
            backlog.append(("iopub", notice))

    # -- disconnecting ---------------------------------------------------------------------------

    def disconnect(self) -> None:  # type: ignore[override]  # as the class that is subclassed
        """End the connection, once; what did not reach the client waits for the next connection.

        Where it was the kernel's last, its streams stay open and fill the offline buffer. Those of
        a connection that never came to life are closed, unless it had them from an earlier one; so
        are those of a client without a session id, as nobody could claim what is kept for it.
        """
        if self._phase is Phase.ENDED:
            self._uncount()  # if that was left to a subclass, which has left it to this
            return
        if self.channels or self in self._open_sockets:
            self._note_other_connect()
        backlog = self._take_backlog()
        last = self._end()
        keep = last and self._is_managed() and (self._restored or not self._failed)
        if not (keep and self._can_return()) or not self._start_buffering(backlog):
            self._close_channels()

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
        self._phase, self._counted, self._replay = Phase.ENDED, False, None
        self._in_order.take(with_current=True)
        if self._nudge is not None:
            self._nudge.leave_output()
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

    def _start_buffering(self, backlog: OfflineBuffer | None) -> bool:
        """Leave the streams to the offline buffer; ``False`` where it cannot have them."""
        if len(self._open_streams()) < len(self.channels):
            self._close_channels()  # there is nothing to listen to, but something to keep
        try:
            with self._keeping(backlog):
                self.multi_kernel_manager.start_buffering(
                    self.kernel_id, self.session_key, self.channels
                )
        except Exception:
            self._failures.failure("buffering", "Buffering for %s failed", self.session_key)
            return False
        return True

    def _keeping(self, backlog: OfflineBuffer | None) -> AbstractContextManager[None]:
        manager: Any = self.multi_kernel_manager
        if not hasattr(manager, "keeping_backlog"):
            return nullcontext()
        return manager.keeping_backlog(self.session_key, backlog)

    def _close_channels(self) -> None:
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
        return tuple(getattr(self.kernel_manager, "ports", ()))

    def _open_streams(self) -> dict[str, Any]:
        return {
            name: stream
            for name, stream in self.channels.items()
            if stream is not None and not stream.closed()
        }

    def _take_backlog(self) -> OfflineBuffer | None:
        """Take out what was received and has not been sent."""
        replay, self._replay = self._replay, None
        not_handled = self._in_order.take(with_current=not self._has_written())
        unsent = self._take_unsent()
        unsent += [(stream.channel, message) for stream, message in not_handled]
        made, received = self._pump.take_held()
        unsent += [("iopub", message) for message in [*map(self._signed, made), *received]]
        if replay is None and not unsent:
            return None
        backlog = self._make_backlog() if replay is None else replay.backlog
        backlog.begun = self._tried
        backlog.prepend(unsent)
        return backlog

    def _take_unsent(self) -> list[tuple[str, list[bytes]]]:
        """Take out the messages that were written, or would have been, and are lost otherwise."""
        later, self._unsent = self._unsent, []
        if self._in_flight.sealed:
            in_flight, self._in_flight = self._in_flight, InFlight(None)
            begun = in_flight.is_begun()
            for item, missing in in_flight.left():
                if isinstance(item, (bytes, Pieces)):
                    block = item if isinstance(item, bytes) else b"".join(item)
                    self._keep_unsent(payloads(block, len(block) - missing))
                elif isinstance(item, list):
                    self._keep_unsent(item)
                else:
                    self._unsent.append(item)
            self._unsent, self._tried = without_refused(
                self._unsent,
                self._tried,
                begun=begun,
                too_big=getattr(self._websocket, "close_code", None) == MESSAGE_TOO_BIG,
                notice=self._notice,
            )
        unsent, self._unsent = self._unsent, []
        return unsent + later

    def _make_backlog(self) -> OfflineBuffer:
        limit = getattr(self.multi_kernel_manager, "max_offline_buffer_bytes", 0)
        return OfflineBuffer(limit, self.kernel_manager.session.sign)

    def _as_backlog(self, messages: Any) -> OfflineBuffer:
        """Return a buffer as ours: the kernels' manager may be another's."""
        if isinstance(messages, OfflineBuffer):
            return messages
        backlog = self._make_backlog()
        backlog.extend(messages)
        return backlog
