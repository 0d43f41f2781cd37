"""One subscription where one will do: the watcher of a kernel listens in on a client's."""

from __future__ import annotations

from time import monotonic
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

from kernelwire.pacing import ACTIVITY
from kernelwire.stream import KernelwireStream

if TYPE_CHECKING:
    from kernelwire import _native
    from kernelwire.activity import ActivityReader

__all__ = ["ActivityStream"]

SETTLE_SECONDS = 0.01
"""Time that is spent at most on what a kernel has said, before its state is told."""

FRESH_SECONDS = 0.01
"""Time for which what has been read of another stream is good enough."""

LATE_SECONDS = 0.5
"""Seconds after which a message that was overheard does not come to the own subscription any more."""


class ActivityStream(KernelwireStream):
    """The stream of a kernel's watcher: a subscription of its own, or none where one will do.

    Every subscription has the kernel send everything once more, and the server receive it. Where
    a client's stream is there to listen in on, the watcher gives its own up, and it takes over
    the other's socket, with all that waits in it, when that stream is closed. Nothing is followed
    twice and nothing is missed: what is overheard counts from the very message on at which the
    watcher has arrived with its own subscription.

    One that never arrives was not there yet: a socket that finds nobody at its port tries again
    after a while, and a client that connects meanwhile is faster. Then all counts that was overheard,
    and what the own subscription has received after that is followed once more.
    """

    _follower: ActivityReader
    record: _native.Watch
    """What reads the messages of the stream that is listened in on."""
    _source: KernelwireStream | None = None
    """The stream that is listened in on."""
    _own = True
    """Whether the socket is its own; with a source, only until the watcher has caught up."""
    _due = False
    """Whether what was overheard will be followed shortly."""
    _followed = 0.0
    _heard = 0.0
    """When something was last overheard."""
    _begun = 0.0
    """When something was overheard that the own subscription has not come to."""
    _waits = False
    """Whether it is about to see if the own subscription has come to that."""

    def follow_with(self, follower: ActivityReader) -> None:
        """Let ``follower`` follow the kernel from now on."""
        self._follower = follower
        self.record = follower.overheard
        self._offers: WeakSet[KernelwireStream] = WeakSet()
        self.on_ready(self._follow_own, follower.one, ACTIVITY)

    def offer(self, stream: KernelwireStream) -> None:
        """Listen in on ``stream``, which is read from now on, as soon as nothing is missed."""
        if self._follower.can_overhear:
            self._offers.add(stream)
            self._choose()

    def _choose(self) -> None:
        """Choose a stream to listen in on, if there is one and none is chosen."""
        if self._source is not None or self._reader is None or self.closed():
            return
        stream = next((offer for offer in self._offers if not offer.closed()), None)
        if stream is not None:
            self._source = stream
            self._begin()
            stream.listener = self

    def _begin(self) -> None:
        """Have what is overheard from now on take over, as soon as nothing is missed."""
        self._follower.begin_to_overhear()
        self._begun = monotonic()

    def _wait_for_own(self) -> None:
        """See, after a while, whether the own subscription has come to what was overheard."""
        if not self._waits:
            self._waits = True
            self._loop.call_later(LATE_SECONDS, self._give_up_late)

    def _give_up_late(self) -> None:
        """Give the own subscription up if it was too late for what was overheard."""
        self._waits = False
        if not self._own or self._source is None or self.closed():
            return
        more = self.read_once()
        source = self._source
        if not self._own or source is None:
            return
        if more or monotonic() - self._begun < LATE_SECONDS:
            self._wait_for_own()
        elif self.record.has_begun():
            self._give_up_own(source)

    def _follow_own(self, _stream: KernelwireStream) -> bool:
        """Follow what the own subscription has received; give it up once it is not needed."""
        source = self._source
        if source is None:
            return self._follower(self)
        more, met = self._follower.approach(self)
        if met:
            self._give_up_own(source)
        return more

    def _give_up_own(self, source: KernelwireStream) -> None:
        self._own = False
        self._stop_pacing()
        self._pacer = None
        self.surrender().close()
        self.socket = source.socket
        self._follower.take_over()

    # -- what the stream that is listened in on calls ---------------------------------------------

    def heard(self) -> None:
        """Follow what was overheard: at once when it begins, then seldom; see ``pacing``."""
        self._heard = now = monotonic()
        record, source = self.record, self._source
        full = record.is_full()
        if self._own and source is not None:
            if record.has_met():
                self._give_up_own(source)
                return
            if full:
                self._begin()  # too far ahead of the own subscription
            elif record.has_begun():
                self._wait_for_own()
        elif full or (not self._due and now - self._followed > ACTIVITY.longest):
            self._follow_overheard()
        elif not self._due:
            self._due = True
            # One wake-up for all kernels, not one for each.
            ACTIVITY.pacer(self._loop).later(self._follow_if_due)

    def left(self, stream: KernelwireStream) -> None:
        """Go on with the socket of a stream that is being closed."""
        self._offers.discard(stream)
        self._source = None
        if not self._own:
            self._follow_overheard()
            if stream.socket.closed:
                return
            self._own = True
            self.socket = stream.surrender()
            self._fd = self.socket.FD
            self.watch()
            self.on_ready(self._follow_own, self._follower.one, ACTIVITY)
        self._choose()

    def _follow_if_due(self) -> None:
        if self._due:
            self._follow_overheard()

    def _follow_overheard(self) -> bool:
        """Follow what was overheard, for a while; ``True`` if some waits."""
        self._due = self._follower.follow_overheard()
        self._followed = monotonic()
        if self._due:
            self._call_soon(self._follow_if_due)
        return self._due

    # -- as a stream -------------------------------------------------------------------------------

    def read(self) -> bool:
        """Read, where there is something of one's own to read; ``True`` if there may be more."""
        return self._own and super().read()

    def read_once(self) -> bool:
        """Read what there is, wherever it is received; ``True`` if there may be more."""
        if self._own or self._source is None:
            return super().read_once()
        more = self._source.read_once()
        if more:
            # Its signal is taken: unless somebody reads on, the rest stays until more comes.
            self._source.schedule_read()
        return self._follow_overheard() or more

    def settle(self, until: float | None = None) -> None:
        """Follow now what has come, until then by the clock, or for :data:`SETTLE_SECONDS`.

        Another stream is read once at most, and not if it was just now, as in a flood: its client
        has not seen the rest either, and somebody waits for an answer.
        """
        now = monotonic()
        until = now + SETTLE_SECONDS if until is None else until
        if not self._own and now - self._heard < FRESH_SECONDS:
            self._follow_overheard()
            return
        while self.read_once() and self._own and monotonic() < until:
            pass

    def _handle_events(self, fd: Any, events: int) -> None:
        if self._own:
            super()._handle_events(fd, events)

    def close(self, linger: int | None = None) -> None:
        """Watch no more; a stream that is listened in on stays open."""
        source, self._source = self._source, None
        if source is not None:
            source.listener = None
        self._due = False
        if not self._own:
            self._own, self.socket = True, None  # type: ignore[assignment]
        super().close(linger)
