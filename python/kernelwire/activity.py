"""Watching a kernel's activity: what ``MappingKernelManager.start_watching_activity`` does."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import zmq
from jupyter_server._tz import utcnow

from kernelwire import _native
from kernelwire._drain import drain
from kernelwire._logs import shows_debug

if TYPE_CHECKING:
    from jupyter_client.session import Session

    from kernelwire._logs import Throttle
    from kernelwire.stream import KernelwireStream

__all__ = ["ActivityReader"]

MAX_MESSAGES = 2048
"""Messages that one wake-up takes at most."""

MAX_SECONDS = 0.0005
"""Seconds that one wake-up takes at most, before others have their turn."""

_Watched = tuple[bool, "list[tuple[str, str | None, str | None]]", int, "str | None", Any]
"""What the native watcher answers; see ``_native.Watch.drain``."""


class ActivityReader:
    """Follows one kernel's messages; called by its activity stream when some are ready.

    Which messages count as activity, and how they change ``execution_state``, is upstream's
    ``record_activity``, message for message: what the native part leaves out is what says nothing
    new. It does not fail where upstream does; see COMPATIBILITY.md.
    """

    def __init__(self, manager: Any, kernel_id: str, session: Session, failures: Throttle) -> None:
        self._manager = manager
        self._kernel_id = kernel_id
        self._kernel = manager._kernels[kernel_id]
        self._session = session
        self._failures = failures
        self._signed = session.auth is not None
        # Other digests than the usual one are checked by the session, message by message.
        self._checked_here = self._signed and session.signature_scheme != "hmac-sha256"
        key = session.key if self._signed and not self._checked_here else b""
        self._watch = _native.Watch(key, MAX_MESSAGES, MAX_SECONDS)
        natively = drain().native and not self._checked_here
        self._pull: Any = self._watch.drain if natively else self._pull_portably
        self.refused = 0
        """Messages that were malformed or forged, since the kernel is watched."""

    def __call__(self, stream: KernelwireStream) -> bool:
        """Follow what is ready; ``True`` if there may be more."""
        more, events, refused, reason, left = self._pull(stream.socket)
        if events:
            stream.reads += 1
            for event in events:
                self._follow(*event)
        if refused:
            self._refuse(refused, reason)
        if left is not None:
            self._follow_oddly(left)
        return more

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Follow a single message, however it was received."""
        if self._checked_here and not self._is_genuine(message):
            self._refuse(1, "the signature is missing or wrong")
            return
        _, events, refused, reason, left = self._watch.feed(message)
        for event in events:
            self._follow(*event)
        if refused:
            self._refuse(refused, reason)
        if left is not None:
            self._follow_oddly(left)

    def _pull_portably(self, socket: zmq.Socket[bytes]) -> _Watched:
        """Receive with pyzmq; each message is followed at once."""
        for _ in range(MAX_MESSAGES):
            try:
                message = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return False, [], 0, None, None
            self.one(None, message)
        return True, [], 0, None, None

    def _is_genuine(self, message: list[bytes]) -> bool:
        """Check a signature as the session does."""
        try:
            _, (signature, *parts) = self._session.feed_identities(message)
        except ValueError:
            return True  # it is malformed, and refused for that
        return bool(signature) and signature == self._session.sign(parts[:4])

    def _follow(self, msg_type: str, parent_type: str | None, state: str | None) -> None:
        """Do what upstream does with a message of that type; a subclass's rules may fail."""
        try:
            self._record(msg_type, parent_type, state)
        except Exception:
            self._failures.failure("rules", "Following kernel %s failed", self._kernel_id)

    def _record(self, msg_type: str, parent_type: str | None, state: str | None) -> None:
        manager, kernel = self._manager, self._kernel
        track = manager.track_message_type
        if track(msg_type) or track(parent_type) or kernel.execution_state == "busy":
            manager.last_kernel_activity = kernel.last_activity = utcnow()
        if msg_type == "status":
            if track(parent_type):
                kernel.execution_state = state
            elif kernel.execution_state == "starting" and state != "starting":
                # Upstream: "We always normalize post-starting execution state to 'idle' unless we
                # know that the status is in response to one of our tracked message types."
                kernel.execution_state = "idle"
        if shows_debug(manager.log):
            shown = f" ({kernel.execution_state})" if msg_type == "status" else ""
            manager.log.debug("activity on %s: %s%s", self._kernel_id, msg_type, shown)

    def _follow_oddly(self, message: list[bytes]) -> None:
        """Follow a message that only Python's parsers can read, as far as it can be read."""
        unpack = self._session.unpack
        try:
            _, (_, header, parent, _, content, *_) = self._session.feed_identities(message)
            msg_type = unpack(header)["msg_type"]
            parent_header = unpack(parent)
            parent_type = parent_header.get("msg_type") if parent_header else None
            state = unpack(content)["execution_state"] if msg_type == "status" else None
            self._follow(msg_type, parent_type, state)
        except Exception as error:
            self._refuse(1, f"{type(error).__name__}: {error}")

    def _refuse(self, count: int, reason: str | None) -> None:
        """Count messages that cannot be followed."""
        self.refused += count
        self._failures.warning(
            self._kernel_id, "Ignored a message of kernel %s: %s", self._kernel_id, reason
        )
