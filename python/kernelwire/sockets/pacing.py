"""Fewer wake-ups where many messages come, as network drivers do it.

One wake-up of the event loop costs as much as moving twenty messages. While wake-ups come at a
sustained rate, streams therefore stop waking the loop themselves: they are looked after together,
about a hundred times a second, and each look takes all that has come meanwhile. The longer looks
take, the fewer there are. A stream that falls quiet, or whose client sends something, wakes the
loop itself again.
"""

from __future__ import annotations

import select
from collections import deque
from dataclasses import dataclass
from time import monotonic
from typing import TYPE_CHECKING, Any

from kernelwire._compat.pyzmq import file_descriptor

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from kernelwire.sockets.stream import KernelwireStream

__all__ = ["ACTIVITY", "IOPUB", "Pacer", "Pacing"]


SLICE_SECONDS = 0.001
"""Seconds after which a look at many streams lets others have their turn."""

LONG_SECONDS = 0.00025
"""Seconds from which on what streams take, each, are their messages, and not the look at them."""

FEW = 3
"""Streams up to which they are read without asking first which of them are ready."""


@dataclass(kw_only=True, eq=False)
class Pacing:
    """When streams are paced, and how.

    Parameters
    ----------
    busy
        Seconds between two looks while streams have many messages. It is those that take the time
        then, and what they take up in memory while they wait is to stay little.
    interval
        Seconds between two looks otherwise, at least: what pacing may add to a message's way.
    longest
        Seconds between two looks, at most.
    share
        The share of the loop's time that looks may take before there are fewer of them.
    wakeups, window
        Pacing begins with so many wake-ups in so many seconds, of all streams together.
    patience
        Looks in vain after which a stream wakes the loop itself again.
    grace
        Seconds after a message from the client in which a stream is not paced: somebody waits.
    """

    busy: float
    interval: float
    longest: float
    share: float
    wakeups: int
    window: float
    patience: int
    grace: float

    def pacer(self, loop: Any) -> Pacer:
        """Return the pacer of an event loop, which is freed together with it."""
        # A dictionary with weak keys would keep the loops: pacers and their streams refer to them.
        pacers: dict[Pacing, Pacer] = vars(loop).setdefault("kernelwire_pacers", {})
        pacer = pacers.get(self)
        if pacer is None:
            pacer = pacers[self] = Pacer(loop, self)
        return pacer


IOPUB = Pacing(
    busy=0.006,
    interval=0.006,
    longest=0.016,
    share=0.01,
    wakeups=10,
    window=0.02,
    patience=16,
    grace=0.05,
)
"""The way of output to the browser, whose screen shows something new every 16 ms."""

ACTIVITY = Pacing(
    busy=0.025,
    interval=0.05,
    longest=0.25,
    share=0.01,
    wakeups=1,
    window=1.0,
    patience=3,
    grace=-1.0,
)
"""Following a kernel's activity, which nobody waits for: at once when it begins, then seldom."""


@dataclass(slots=True)
class _Paced:
    """A stream while it is paced."""

    descriptor: int
    """Its socket's descriptor, as it was registered."""
    reads: int
    """How often it had read something when last polled for that."""


class Pacer:
    """Looks after the paced streams of one event loop."""

    def __init__(self, loop: Any, pacing: Pacing) -> None:
        self._call_later = loop.call_later
        self._call_soon = loop.call_soon
        self._pacing = pacing
        self._wakeups: deque[float] = deque(maxlen=pacing.wakeups)
        # Not on Windows, where all are read at each look.
        self._poll: Any = select.poll() if hasattr(select, "poll") else None
        self._by_descriptor: dict[int, KernelwireStream] = {}
        self._paced: dict[KernelwireStream, _Paced] = {}
        self._looks = 0
        self._waiting = False
        self._spent = 0.0
        """Seconds that the look has taken so far."""
        self._visits = 0
        """At how many streams it looks."""
        self._behind = False
        """Whether it has left anything behind."""
        self._calls: deque[Callable[[], None]] = deque()
        """What is to be called after the next interval."""
        self._due: deque[Callable[[], None]] = deque()
        """What is being called."""
        self._calling = False
        """Whether a round of calls is scheduled or under way."""

    def __len__(self) -> int:
        """Return how many streams are paced now."""
        return len(self._paced)

    def woken(self, stream: KernelwireStream) -> None:
        """Note that ``stream`` has woken the loop; take it in if that happens too often."""
        now = monotonic()
        wakeups = self._wakeups
        wakeups.append(now)
        pacing = self._pacing
        if (
            len(wakeups) == pacing.wakeups
            and now - wakeups[0] < pacing.window
            and now - stream.hurried > pacing.grace
            # Upstream's stream schedules wake-ups of its own, as when its callback is replaced;
            # one of them may come when the stream has been taken in already.
            and stream not in self._paced
        ):
            self._take(stream)

    def _take(self, stream: KernelwireStream) -> None:
        stream.unwatch()
        descriptor = file_descriptor(stream)
        previous = self._by_descriptor.get(descriptor)
        if previous is not None:
            # Its socket was closed by others, and the descriptor is in use again.
            self.release(previous)
        self._by_descriptor[descriptor] = stream
        if self._poll is not None:
            self._poll.register(descriptor, select.POLLIN)
        self._paced[stream] = _Paced(descriptor, stream.reads)
        if not self._waiting:
            self._waiting = True
            # It may be the beginning of a flood.
            self._call_later(self._pacing.busy, self._look)

    def release(self, stream: KernelwireStream) -> bool:
        """Look after ``stream`` no longer; ``False`` where it was not paced."""
        paced = self._paced.pop(stream, None)
        if paced is None:
            return False
        del self._by_descriptor[paced.descriptor]
        if self._poll is not None:
            self._poll.unregister(paced.descriptor)
        return True

    def _look(self) -> None:
        """Have everything read that has come; let those go that have been quiet."""
        streams = self._ready()
        self._visits = len(streams)
        self._serve(iter(streams))

    def _serve(self, streams: Iterator[KernelwireStream]) -> None:
        """Read for a while; go on after others had their turn, then wait for the next look."""
        began = monotonic()
        spent = 0.0
        try:
            for stream in streams:
                if stream in self._paced and stream.read():
                    self._behind = True
                spent = monotonic() - began
                if spent > SLICE_SECONDS:
                    self._spent += spent
                    self._call_soon(self._serve, streams)
                    return
            self._spent += spent
            self._looks += 1
            if self._looks % self._pacing.patience == 0:
                self._release_quiet()
        except BaseException:
            self._wait_for_next()
            raise
        self._wait_for_next()

    def _wait_for_next(self) -> None:
        pacing = self._pacing
        interval = pacing.busy
        if not self._behind and self._spent <= LONG_SECONDS * self._visits:
            interval = min(max(pacing.interval, self._spent / pacing.share), pacing.longest)
        self._spent, self._behind = 0.0, False
        self._waiting = bool(self._paced)
        if self._waiting:
            self._call_later(interval, self._look)

    def _ready(self) -> list[KernelwireStream]:
        """Find the streams with something to read; for a few, reading is as cheap as asking."""
        if len(self._paced) <= FEW or self._poll is None:
            return list(self._paced)
        streams = self._by_descriptor
        return [streams[descriptor] for descriptor, _ in self._poll.poll(0)]

    def _release_quiet(self) -> None:
        for stream, paced in list(self._paced.items()):
            if stream.reads == paced.reads:
                self.release(stream)
                stream.watch()
            else:
                paced.reads = stream.reads

    def later(self, call: Callable[[], None]) -> None:
        """Call ``call`` after the longest interval, together with all that others ask for."""
        self._calls.append(call)
        if not self._calling:
            self._calling = True
            self._call_later(self._pacing.longest, self._call_all)

    def _call_all(self) -> None:
        """Begin a round of calls; those that are requested meanwhile wait for the next one."""
        self._due, self._calls = self._calls, deque()
        self._call_some()

    def _call_some(self) -> None:
        """Call for a while; go on after others had their turn, and then wait for the next round."""
        until = monotonic() + SLICE_SECONDS
        try:
            while self._due and monotonic() < until:
                self._due.popleft()()
        finally:
            self._calling = bool(self._due or self._calls)
            if self._due:
                self._call_soon(self._call_some)
            elif self._calls:
                self._call_later(self._pacing.longest, self._call_all)
