"""Following a kernel's activity: what ``MappingKernelManager.start_watching_activity`` does."""

from __future__ import annotations

from collections import deque
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, cast

from kernelwire import _native
from kernelwire.kernels.states import marks_of
from kernelwire.log.kernel_log import signing_key

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.session import Session

    from kernelwire._logging import Throttle
    from kernelwire.kernels.states import Marks, StockPolicy

__all__ = ["Activity"]

MAX_SECONDS = 0.0005
"""Seconds that following takes at most, before others have their turn."""

INTERVAL = 0.25
"""Seconds between two times that what is no change of state is followed."""

MAX_WAITING = 8192
"""Items from which on all are followed at once: they come faster than they are followed."""

_Item = tuple[str, "str | None", "str | None", "Marks"] | list[bytes]
"""A message's type, its parent's, a status' state and marks; or frames for Python's parsers."""


class Activity:
    """Follows what a kernel publishes, which its log receives.

    What messages make of the kernel's state and of its dates is the ``policy``'s business. The
    native part leaves out what says nothing new and, with a policy that has a tracker, follows
    statuses. It does not fail where upstream does; see COMPATIBILITY.md.
    """

    def __init__(
        self, kernel_id: str, session: Session, failures: Throttle, policy: StockPolicy, loop: Any
    ) -> None:
        self._kernel_id = kernel_id
        self._session = session
        self._failures = failures
        self.policy = policy
        self._loop = loop
        key = signing_key(session)
        self.reads_natively = key is not None
        """Whether messages may be put into :attr:`record`: other digests are checked by the session."""
        self.record = _native.Watch(key or b"", policy.tracker)
        """What reads the messages."""
        self._items: deque[_Item] = deque()
        self._following = False
        self._due = False
        """Whether what was read will be followed shortly."""
        self._followed = 0.0
        self.ended = False
        self.refused = 0
        """Messages that were malformed or forged, since the kernel is watched."""

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Follow a single message, however it was received."""
        self.read(message)
        self.follow(inf)

    def read(self, message: list[bytes]) -> None:
        """Read a message that Python has received, to be followed later."""
        if self.reads_natively or self._is_genuine(message):
            self.record.feed(message)
        else:
            self._refuse(1, "the signature is missing or wrong")

    def heard(self, *, at_once: bool) -> None:
        """Follow what was read, ``at_once`` or when it begins; otherwise soon: nobody waits for it."""
        late = monotonic() - self._followed > INTERVAL
        if at_once or self.record.is_full() or (late and not self._due):
            self._follow_for_a_while()
        elif not self._due:
            self._due = True
            self._loop.call_later(INTERVAL, self._follow_if_due)

    def settle(self, until: float) -> None:
        """Follow now what was read, until a time of the monotonic clock; the rest soon."""
        self._followed = monotonic()
        self._due = self.follow(until) and not self.ended
        if self._due:
            self._loop.call_soon(self._follow_if_due)

    def is_behind(self) -> bool:
        """Whether some of what was read waits to be followed."""
        return bool(self._items)

    def follow(self, until: float) -> bool:
        """Follow what was read, until a time of the monotonic clock; ``True`` if some is left."""
        items, refused, reason = self.record.take()
        if refused:
            self._refuse(refused, reason)
        self._items.extend(items)
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

    def end(self) -> None:
        """Follow no more."""
        self.ended = True
        self._due = False

    def _follow_if_due(self) -> None:
        if self._due:
            self._follow_for_a_while()

    def _follow_for_a_while(self) -> None:
        """Follow, and go on after others had their turn."""
        self.settle(monotonic() + MAX_SECONDS)

    def _is_genuine(self, message: list[bytes]) -> bool:
        """Check a signature as the session does."""
        try:
            _, (signature, *parts) = self._session.feed_identities(message)
        except ValueError:
            return True  # it is malformed, and refused for that
        return bool(signature) and signature == self._session.sign(parts[:4])

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
            self.record.resume()
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
