"""How a connection ends, once, and what it leaves to the next one of its session."""

from __future__ import annotations

from contextlib import nullcontext
from enum import Enum, auto
from inspect import getattr_static
from typing import TYPE_CHECKING, Any

from kernelwire._compat.jupyter import connection_count, forget_kernel_info
from kernelwire.connection.notices import NoticesMixin
from kernelwire.log.backlog import Backlog, Dropped

if TYPE_CHECKING:
    from kernelwire.connection.nudge import Nudge
    from kernelwire.log.client import Client

__all__ = ["EndingMixin", "Phase"]

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


class Phase(Enum):
    """How far a connection has got."""

    NEW = auto()
    CONNECTING = auto()
    """Counted and registered; the kernel has not answered yet."""
    ELSEWHERE = auto()
    """A subclass connects without this class's ``connect``."""
    LIVE = auto()
    ENDED = auto()


class EndingMixin(NoticesMixin):
    """Part of ``KernelwireWebsocketConnection``: disconnecting exactly once."""

    _phase = Phase.NEW
    _counted = False
    _failed = False
    _nudge: Nudge | None = None
    _websocket: Any = None
    """The websocket at the time the connection went live; its handler forgets it."""

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
        return getattr_static(self, "disconnect") is not getattr_static(EndingMixin, "disconnect")

    def _disconnected_elsewhere(self, _closed: Any) -> None:
        """Let go of what only this class knows of: a subclass has disconnected as upstream does."""
        if self._phase is Phase.ENDED:
            return
        self.log.debug(
            "%s: disconnect overridden, output beside other clients is lost", self.session_key
        )
        self._phase, self._counted = Phase.ENDED, False
        client = self._detach()
        if client is not None and not client.is_kept:
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
            self._stop_pinging,
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

    def _stop_pinging(self) -> None:
        """Stop the timer for pings, which keeps a websocket that is closed until the next is due.

        Upstream's handler stops it then.
        """
        handler: Any = self.websocket_handler
        timer = getattr(handler, "ping_callback", None)
        if timer is not None and getattr(handler, "ws_connection", None) is None:
            timer.stop()

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

    def _detach(self, *, is_replaced: bool = False) -> Client | None:
        """Write no more to this websocket; what has not reached it waits in the log."""
        client, self._client = self._client, None
        if client is None:
            return None
        code: Any = getattr(self._websocket, "close_code", GOODBYES[0])
        client.has_dropped = code is None or (isinstance(code, int) and code not in GOODBYES)
        too_big = code == MESSAGE_TOO_BIG
        refused = client.detach(too_big=too_big, is_replaced=is_replaced)
        for size, parent in refused:
            client.notify(*self._notice(client, REFUSED.format(size), parent), after="now")
            self.emit_dropped(Dropped(1, size), "refused")
        if too_big and not refused:
            client.notify(*self._notice(client, TOO_BIG, b"{}"), after="now")
        return client

    def _take_backlog(self) -> Backlog | None:
        """Write no more; what has not reached the client."""
        client = self._detach()
        return None if client is None else Backlog(client)

    def _note_other_connect(self) -> None:
        """Note that a subclass connects as upstream's class does: it has counted the connection."""
        if self._phase is Phase.NEW:
            self._phase, self._counted = Phase.ELSEWHERE, True
            self.log.debug("Messages to %s go as upstream: connect overridden", self.session_key)
