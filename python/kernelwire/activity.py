"""Watching a kernel's activity: what ``MappingKernelManager.start_watching_activity`` does."""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

import zmq

from kernelwire import _native
from kernelwire._drain import drain
from kernelwire.states import marks_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.session import Session

    from kernelwire._logs import Throttle
    from kernelwire.states import Marks, StockPolicy
    from kernelwire.stream import KernelwireStream

__all__ = ["ActivityReader"]

MAX_MESSAGES = 2048
"""Messages that one wake-up takes at most."""

MAX_SECONDS = 0.0005
"""Seconds that one wake-up takes at most, before others have their turn."""

MAX_WAITING = 8192
"""Items from which on all are followed at once: they come faster than they are followed."""

_EMPTY, _MORE, _MET = 0, 1, 2

_Item = tuple[str, "str | None", "str | None", "Marks"] | list[bytes]
"""A message's type, its parent's, a status' state and marks; or frames for Python's parsers."""


class ActivityReader:
    """Follows one kernel's messages; called by its activity stream when some are ready.

    What messages make of the kernel's state and of its dates is the ``policy``'s business. The
    native part leaves out what says nothing new and, with a policy that has a tracker, follows
    statuses. It does not fail where upstream does; see COMPATIBILITY.md.
    """

    def __init__(
        self,
        kernel_id: str,
        session: Session,
        failures: Throttle,
        policy: StockPolicy,
    ) -> None:
        self._kernel_id = kernel_id
        self._session = session
        self._failures = failures
        self.policy = policy
        signed = session.auth is not None
        # Other digests than the usual one are checked by the session, message by message.
        self.can_overhear = not signed or session.signature_scheme == "hmac-sha256"
        key = session.key if signed and self.can_overhear else b""
        self._watch = _native.Watch(key, MAX_MESSAGES, MAX_SECONDS, policy.tracker)
        self.overheard = _native.Watch(key, MAX_MESSAGES, MAX_SECONDS, policy.tracker)
        """Reads what another stream receives."""
        self._current = self._watch
        """What reads the messages that are followed now."""
        natively = drain().native and self.can_overhear
        self._pull: Any = self._watch.drain if natively else self._pull_portably
        self._items: deque[_Item] = deque()
        self._following = False
        self._met = False
        """Whether ``overheard`` takes over behind what waits to be followed."""
        self.refused = 0
        """Messages that were malformed or forged, since the kernel is watched."""
        self._watch.resume()

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
        """Read and follow for a while; what waits to be followed comes first."""
        if self._following:
            return _EMPTY  # an observer of the state has asked for it; the socket signals again
        self._current = self._watch
        until = monotonic() + MAX_SECONDS
        stop, applied = _MORE, self.policy.applied
        if not self._met and not self._items:
            stop, tale = self._pull(stream.socket, heir)
            stream.reads += bool(tale[0])
            self._met = stop == _MET
            self._queue(*tale)
        more = self._follow_queued(until)
        stream.reads += self.policy.applied - applied
        if more:
            return _MORE
        if self._met:
            self._met, stop = False, _MET
        return int(stop)

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Follow a single message, however it was received."""
        self._current = self._watch
        self._add(message)
        self._queue(*self._watch.take())
        self._follow_queued()

    def take_over(self) -> None:
        """Let what is overheard count from now on."""
        self._watch.retire()
        self._current = self.overheard
        self.follow_overheard()

    def follow_overheard(self) -> bool:
        """Follow what was overheard, for a while; ``True`` if something waits to be followed."""
        self._queue(*self.overheard.take())
        return self._follow_queued(monotonic() + MAX_SECONDS)

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

    def _queue(self, items: list[_Item], refused: int, reason: str | None) -> None:
        """Have what was read followed, in its order."""
        if refused:
            self._refuse(refused, reason)
        self._items.extend(items)

    def _follow_queued(self, until: float = inf) -> bool:
        """Follow what was read, until a time of the monotonic clock; ``True`` if some is left."""
        if self._following:
            return False  # it is followed when the observer that has asked for it returns
        if len(self._items) > MAX_WAITING:
            until = inf
        self._following = True
        try:
            self._follow_items(until)
        finally:
            self._following = False
        return bool(self._items)

    def _follow_items(self, until: float) -> None:
        items = self._items
        while items:
            item = items.popleft()
            if type(item) is tuple:
                self._follow(*item)
            else:
                self._follow_oddly(cast("list[bytes]", item))
            if monotonic() > until:
                break
        if not items:
            self._current.resume()
        self._guarded(self.policy.apply)

    def _follow(self, msg_type: Any, parent_type: Any, state: Any, marks: Marks) -> None:
        self._guarded(self.policy.message, msg_type, parent_type, state, marks)

    def _guarded(self, rule: Callable[..., None], *args: Any) -> None:
        """Apply a rule; those of a subclass, and observers, may fail."""
        try:
            rule(*args)
        except Exception:
            self._failures.failure("rules", "Following kernel %s failed", self._kernel_id)

    def _follow_oddly(self, message: list[bytes]) -> None:
        """Follow a message that only Python's parsers can read, as far as it can be read."""
        unpack = self._session.unpack
        try:
            _, (_, header, parent, _, content, *_) = self._session.feed_identities(message)
            head = unpack(header)
            msg_type = head["msg_type"]
            parent_header = unpack(parent) or {}
            parent_type = parent_header.get("msg_type")
            state = unpack(content)["execution_state"] if msg_type == "status" else None
            self._follow(msg_type, parent_type, state, marks_of(head, parent_header))
        except Exception as error:
            self._refuse(1, f"{type(error).__name__}: {error}")

    def _refuse(self, count: int, reason: str | None) -> None:
        """Count messages that cannot be followed."""
        self.refused += count
        self._failures.warning(
            self._kernel_id, "Ignored a message of kernel %s: %s", self._kernel_id, reason
        )
