"""Clients of a kernel that are away: each session has a backlog of its own."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from traitlets import Dict, Integer, observe, validate
from traitlets.config import LoggingConfigurable

from kernelwire._config import at_least
from kernelwire._logging import Throttle
from kernelwire.log.backlog import Backlog
from kernelwire.log.channel import client_of, log_for
from kernelwire.log.client import Client

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyter_server.services.kernels.kernelmanager import MappingKernelManager as _Base
else:
    _Base = LoggingConfigurable

__all__ = ["MAX_SESSIONS", "SessionsMixin"]

MAX_SESSIONS = 4
"""Sessions of a kernel that may be away at the same time; the first that went is given up first."""


class SessionsMixin(_Base):
    """Keeps what a kernel publishes and replies for the sessions that will come back.

    Upstream has one buffer for each kernel, which it discards when another session connects. Here
    that is the buffer of the session that went last; those of others are kept beside it, if their
    connections have dropped. A page that was left has said goodbye, and does not come back as the
    same session.
    """

    max_offline_buffer_bytes = Integer(
        64 * 1024 * 1024,
        config=True,
        help="""Memory in bytes for the messages of a kernel whose frontends have disconnected.

        It is for each session that is away; a kernel has four of them at most. Over it, output is
        dropped, the oldest first, and the client is told on reconnection how much. Replies, status
        messages and input requests are never dropped. 0 is no limit.
        """,
    )

    _handed_over: Any = Dict()
    """Clients by session that the buffering which is about to start takes over."""
    _away: Any = Dict()
    """By kernel and session, what upstream's ``_kernel_buffers`` has for one session."""

    @validate("max_offline_buffer_bytes")
    def _not_negative(self, proposal: Any) -> Any:
        """Refuse sizes that mean nothing."""
        return at_least(proposal, 0, zero="no limit")

    @observe("max_offline_buffer_bytes")
    def _bound_changed(self, _change: Any) -> None:
        """Have sessions that are away follow; what is too much by the new size is dropped."""
        for kernel_id in {*self._away, *self._kernel_buffers}:
            for client in self._clients_away(kernel_id).values():
                client.keep_bound()

    def start_buffering(self, kernel_id: str, session_key: str, channels: Any) -> None:
        """Keep a kernel's messages while its clients are away, within bounds."""
        self._put_aside(kernel_id, session_key)
        client = self._handed_over.pop(session_key, None)
        reading = client_of(channels.get("iopub"))
        if client is None and reading is not None:
            # A connection that disconnects in a way of its own hands nothing over. Before upstream
            # registers callbacks: what waits is the client's.
            client = reading
            client.detach(too_big=False)
        with self._keeping_sessions(kernel_id):
            super().start_buffering(kernel_id, session_key, channels)
        if not self.buffer_offline_messages:
            return
        if client is None:
            failures = Throttle(self.log)
            log = log_for(channels.get("iopub"), self.get_kernel(kernel_id).session, failures)
            client = Client(log, lambda: self.max_offline_buffer_bytes, failures)
        # Upstream's callbacks look the buffer up in here, each time.
        self._kernel_buffers[kernel_id]["buffer"] = Backlog(client)
        client.is_kept = True
        client.read_from(channels)

    def get_buffer(self, kernel_id: str, session_key: str) -> Any:
        """Return, once, what is kept for a session; ``None`` if nothing is."""
        self._put_aside(kernel_id, session_key)
        own = self._away.get(kernel_id, {}).pop(session_key, None)
        # Upstream stops all buffering where the session that went last is another one.
        with self._keeping_sessions(kernel_id):
            buffered = super().get_buffer(kernel_id, session_key)
        return buffered if own is None else own

    def stop_buffering(self, kernel_id: str) -> None:
        """Discard what is kept for a kernel's sessions."""
        buffer = self._kernel_buffers.get(kernel_id, {}).get("buffer")
        super().stop_buffering(kernel_id)
        if isinstance(buffer, Backlog):
            buffer.client.close()
        self._discard_sessions(kernel_id)

    def _discard_sessions(self, kernel_id: str) -> None:
        """Discard what is kept for a kernel's sessions: the kernel may be gone already."""
        buffered = self._kernel_buffers.pop(kernel_id, None)
        if buffered is not None:
            _close(buffered)
        for buffered in self._away.pop(kernel_id, {}).values():
            _close(buffered)

    def keep_session(self, kernel_id: str, session_key: str, client: Client) -> None:
        """Keep what is published for a client that is away while others are connected."""
        away = self._away.setdefault(kernel_id, {})
        before = away.pop(session_key, None)
        if before is not None:
            _close(before)
        away[session_key] = {
            "session_key": session_key,
            "buffer": Backlog(client),
            "channels": client.streams,
        }
        client.read_from(client.streams)
        while len(away) > MAX_SESSIONS:
            first = next(iter(away))
            self.log.warning(
                "Discarding %s buffered messages for %s, the oldest of %s sessions that are away",
                len(away[first]["buffer"]),
                first,
                len(away),
            )
            _close(away.pop(first))

    def _tell_away(self, kernel_id: str, status: str) -> None:
        """Tell the sessions of a kernel that are away what has become of it, in its place."""
        for client in self._clients_away(kernel_id).values():
            client.tell_status(self.get_kernel(kernel_id).session, status)

    def describe_away(self, kernel_id: str) -> dict[str, dict[str, Any]]:
        """Say of each session of a kernel that is away how far it is."""
        return {key: client.describe() for key, client in self._clients_away(kernel_id).items()}

    def _clients_away(self, kernel_id: str) -> dict[str, Client]:
        """Return the clients of a kernel that are away, by their sessions."""
        buffered = [*self._away.get(kernel_id, {}).values()]
        if kernel_id in self._kernel_buffers:
            buffered.append(self._kernel_buffers[kernel_id])
        return {
            each["session_key"]: each["buffer"].client
            for each in buffered
            if isinstance(each["buffer"], Backlog)
        }

    @contextmanager
    def handing_over(self, session_key: str, client: Client | None) -> Iterator[None]:
        """Have the buffering that may start meanwhile begin with what waits for ``client``."""
        if client is not None:
            self._handed_over[session_key] = client
        try:
            yield
        finally:
            self._handed_over.pop(session_key, None)

    def _put_aside(self, kernel_id: str, session_key: str) -> None:
        """Keep the buffer of another session than this one, which upstream would discard."""
        buffered = self._kernel_buffers.get(kernel_id)
        if buffered is None or buffered["session_key"] == session_key:
            return
        buffer = buffered.get("buffer")
        if isinstance(buffer, Backlog) and buffer.client.has_dropped:
            del self._kernel_buffers[kernel_id]
            client = buffer.client
            client.streams = buffered["channels"]
            self.keep_session(kernel_id, buffered["session_key"], client)

    @contextmanager
    def _keeping_sessions(self, kernel_id: str) -> Iterator[None]:
        """Keep what is kept for other sessions: upstream stops all buffering before it starts."""
        others = self._away.pop(kernel_id, None)
        try:
            yield
        finally:
            if others is not None:
                self._away[kernel_id] = others


def _close(buffered: dict[str, Any]) -> None:
    """Close the channels of a session, and forget what waits for it."""
    if isinstance(buffered["buffer"], Backlog):
        buffered["buffer"].client.close()
    for stream in buffered["channels"].values():
        if not stream.closed():
            stream.on_recv(None)
            stream.close()
