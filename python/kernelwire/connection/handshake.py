"""Before the websocket is open: what is refused, and asked of the kernel, without a trace."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast
from weakref import proxy

from jupyter_server import CallContext
from tornado.httputil import HTTPServerRequest

from kernelwire._logging import Throttle
from kernelwire._protocol import DELIMITER, OWN_SESSION
from kernelwire._refusals import check_origin, refuse

if TYPE_CHECKING:
    from jupyter_server.services.kernels.connection.channels import (
        ZMQChannelsWebsocketConnection as _Base,
    )
else:
    _Base = object

__all__ = ["HandshakeMixin"]

MAX_SESSION_BYTES = 255
"""Length of a ZeroMQ routing id, as which the session id serves, in bytes."""


class HandshakeMixin(_Base):
    """Part of ``KernelwireWebsocketConnection``: whom it lets in, and as which session."""

    _selected_subprotocol: str | None = None
    _unnamed: str | None = None
    """The session id that was made up here because the client has not told one."""

    if TYPE_CHECKING:
        _failures: Throttle

    def __init__(self, **kwargs: Any) -> None:
        """Make a connection, if the session id that the client has asked for can be had."""
        super().__init__(**kwargs)
        self._failures = Throttle(self.log)
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

    async def _prepare_weakly(self) -> None:
        """Prepare as upstream does, without leaving a reference to this connection behind.

        Upstream's timer for giving up refers to the connection for a minute, closed or not.
        """
        prepare = super().prepare
        function = getattr(prepare, "__func__", None)
        await (prepare() if function is None else function(proxy(self)))

    def _refer_weakly_to_handler(self) -> None:
        """Have what begins in this request's context not keep its handler in memory.

        A timer keeps the context that it was made in until it would be due, also when it was
        cancelled: upstream's for giving up for a minute, that for pings for 30 s.
        """
        handler, name = self.websocket_handler, CallContext.JUPYTER_HANDLER
        if CallContext.get(name) is handler:
            CallContext.set(name, proxy(handler))

    def _check_session(self, session_id: str) -> None:
        """Refuse a session id that cannot be a routing id."""
        encoded = session_id.encode(errors="surrogateescape")
        if len(encoded) > MAX_SESSION_BYTES:
            refuse(
                self,
                400,
                f"session_id has {len(encoded)} bytes, at most {MAX_SESSION_BYTES} are allowed",
            )
        if not (encoded.isascii() and session_id.isprintable()):
            refuse(self, 400, "session_id must be printable ASCII")
        if encoded == DELIMITER:
            refuse(self, 400, "session_id must not be the delimiter of messages")

    def _check_origin(self) -> None:
        """Refuse a foreign origin, before the kernel is asked anything."""
        if not isinstance(self.websocket_handler.request, HTTPServerRequest):
            return
        check_origin(self)

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

    def _can_return(self) -> bool:
        """Whether there is a session id by which the client could come back."""
        return self.session.session != self._unnamed
