"""Asking a kernel whether it is up, once for everybody who waits for that."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from kernelwire.kernels.probe import own_session

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Readiness"]

FIRST_SECONDS = 0.25
"""Seconds until a kernel is asked: a client that connects meanwhile asks anyway."""

GROWTH = 2.0
"""By how much each interval between two requests is longer than the one before."""

LONGEST_SECONDS = 30.0
"""Seconds between two requests, at most."""


class Readiness:
    """One life of a kernel: starts as "starting", and is ready when the kernel has answered.

    The kernel is asked on a shell socket of its own, at growing intervals: a request that was sent
    before the kernel listens waits in the socket, so that few are needed. The first request is left out while a
    :class:`~kernelwire.kernels.probe.Probe` asks for clients, and no more is asked once the kernel was seen
    to be up by other means.

    Parameters
    ----------
    kernel
        The kernel's manager.
    is_up
        Whether the kernel was seen to be up, by what it has published.
    is_asked
        Whether the kernel is asked for a client that waits.
    on_ready
        Called with the kernel's session, once it has answered.
    on_new_ports
        Called, instead of asking, when the kernel has moved to other ports than it had at first.
    """

    def __init__(
        self,
        kernel: Any,
        *,
        is_up: Callable[[], bool],
        is_asked: Callable[[], bool],
        on_ready: Callable[[str | None], None],
        on_new_ports: Callable[[], None],
    ) -> None:
        self._kernel = kernel
        self._is_up = is_up
        self._is_asked = is_asked
        self._on_ready = on_ready
        self._on_new_ports = on_new_ports
        self._session = own_session(kernel)
        self._loop = asyncio.get_running_loop()
        self._stream: Any = None
        self._deferred = False
        self._interval = FIRST_SECONDS
        self._ports = list(kernel.ports)
        self.ready: asyncio.Future[None] = self._loop.create_future()
        """Done when the kernel is up; cancelled when it is restarted or stopped before."""
        self._timer = self._loop.call_later(self._interval, self._ask)

    def close(self) -> None:
        """Ask no more."""
        self._timer.cancel()
        self._close_stream()
        self.ready.cancel()

    def seen(self) -> None:
        """Note that the kernel was seen to be up."""
        self._timer.cancel()
        self._close_stream()
        if not self.ready.done():
            self.ready.set_result(None)

    def _ask(self) -> None:
        """Send a request, unless somebody else does; come back later."""
        self._interval = min(self._interval * GROWTH, LONGEST_SECONDS)
        self._timer = self._loop.call_later(self._interval, self._ask)
        if self._is_up():
            self.seen()
            return
        if self._timer.cancelled():
            return  # closed by what was read just now, which has told of another process
        ports = list(self._kernel.ports)
        if not self._kernel.has_kernel or 0 in ports:
            return  # it is between two processes
        if ports != self._ports:
            self._on_new_ports()
        elif self._deferred or not self._is_asked():
            self._send()
        else:
            # Only once: a kernel that publishes nothing, or keeps its session, must answer here.
            self._deferred = True

    def _send(self) -> None:
        if self._stream is None or self._stream.closed():
            self._stream = self._kernel.connect_shell()
            self._stream.on_recv(self.on_reply)
        self._session.send(self._stream, "kernel_info_request")

    def on_reply(self, frames: list[bytes]) -> None:
        """Take a reply for what it says: the kernel is up."""
        session = self._kernel.session
        try:
            _, parts = session.feed_identities(frames)
            header = session.deserialize(parts, content=False)["header"]
            sender = header.get("session")
        except Exception:
            return  # forged, or not a message
        self.seen()
        self._on_ready(sender if isinstance(sender, str) else None)

    def _close_stream(self) -> None:
        stream, self._stream = self._stream, None
        if stream is not None and not stream.closed():
            stream.close()
