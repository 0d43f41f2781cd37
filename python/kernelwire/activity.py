"""Watching a kernel's activity: what ``MappingKernelManager.start_watching_activity`` does."""

from __future__ import annotations

from collections import deque
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import zmq

from kernelwire import _native
from kernelwire._compat.jupyter import managed_kernel, utcnow
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

_EMPTY, _MORE, _MET = 0, 1, 2

_Item = tuple[str, "str | None", "str | None"] | list[bytes]
"""A message's type, its parent's, and the state of a status; or frames for Python's parsers."""


class ActivityReader:
    """Follows one kernel's messages; called by its activity stream when some are ready.

    Which messages count as activity, and how they change ``execution_state``, is upstream's
    ``record_activity``, message for message: what the native part leaves out is what says nothing
    new. It does not fail where upstream does; see COMPATIBILITY.md.
    """

    def __init__(self, manager: Any, kernel_id: str, session: Session, failures: Throttle) -> None:
        self._manager = manager
        self._kernel_id = kernel_id
        self._kernel = managed_kernel(manager, kernel_id)
        self._session = session
        self._failures = failures
        signed = session.auth is not None
        # Other digests than the usual one are checked by the session, message by message.
        self.can_overhear = not signed or session.signature_scheme == "hmac-sha256"
        key = session.key if signed and self.can_overhear else b""
        self._watch = _native.Watch(key, MAX_MESSAGES, MAX_SECONDS)
        self.overheard = _native.Watch(key, MAX_MESSAGES, MAX_SECONDS)
        """Reads what another stream receives."""
        natively = drain().native and self.can_overhear
        self._pull: Any = self._watch.drain if natively else self._pull_portably
        self._items: deque[_Item] = deque()
        self._following = False
        self.refused = 0
        """Messages that were malformed or forged, since the kernel is watched."""

    def __call__(self, stream: KernelwireStream) -> bool:
        """Follow what is ready; ``True`` if there may be more."""
        return self._follow_ready(stream, None) == _MORE

    def approach(self, stream: KernelwireStream) -> tuple[bool, bool]:
        """Do the same, up to the message at which ``overheard`` takes over.

        Returns whether there may be more, and whether that message has been met.
        """
        stop = self._follow_ready(stream, self.overheard)
        return stop == _MORE, stop == _MET

    def _follow_ready(self, stream: KernelwireStream, heir: _native.Watch | None) -> int:
        stop, (items, refused, reason) = self._pull(stream.socket, heir)
        if items:
            stream.reads += 1
        self._follow_all(items, refused, reason)
        return int(stop)

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Follow a single message, however it was received."""
        self._add(message)
        self._follow_all(*self._watch.take())

    def take_over(self) -> None:
        """Let what is overheard count from now on."""
        self._watch.retire()
        self.follow_overheard()

    def follow_overheard(self) -> None:
        """Follow what was overheard."""
        self._follow_all(*self.overheard.take())

    def _pull_portably(self, socket: zmq.Socket[bytes], heir: _native.Watch | None) -> Any:
        """Do what ``Watch.drain`` does, with pyzmq receiving."""
        stop = _MORE
        until = monotonic() + MAX_SECONDS
        for _ in range(MAX_MESSAGES):
            try:
                message = socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                stop = _EMPTY
                break
            if self._add(message, heir):
                stop = _MET
                break
            if monotonic() > until:
                break
        return stop, self._watch.take()

    def _add(self, message: list[bytes], heir: _native.Watch | None = None) -> bool:
        if not self.can_overhear and not self._is_genuine(message):
            self._refuse(1, "the signature is missing or wrong")
            return False
        return self._watch.feed(message, heir)

    def begin_to_overhear(self) -> None:
        """Have what is overheard take over from the own subscription."""
        self.overheard.begin(self._watch)

    def _is_genuine(self, message: list[bytes]) -> bool:
        """Check a signature as the session does."""
        try:
            _, (signature, *parts) = self._session.feed_identities(message)
        except ValueError:
            return True  # it is malformed, and refused for that
        return bool(signature) and signature == self._session.sign(parts[:4])

    def _follow_all(self, items: list[_Item], refused: int, reason: str | None) -> None:
        """Follow what was read, in its order."""
        if refused:
            self._refuse(refused, reason)
        self._items.extend(items)
        if self._following:
            return  # an observer of the state has asked for it
        self._following = True
        try:
            while self._items:
                item = self._items.popleft()
                if type(item) is tuple:
                    self._follow(*item)
                else:
                    self._follow_oddly(cast("list[bytes]", item))
        finally:
            self._following = False

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
