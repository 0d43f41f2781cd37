"""Requests of the server's own, with which it finds out whether a kernel answers."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from zmq.eventloop.zmqstream import ZMQStream

from kernelwire._protocol import OWN_SESSION
from kernelwire.sockets.stream import KernelwireStream

__all__ = ["Probe", "ask_anew", "is_probed", "own_session"]

FIRST_SECONDS = 0.5
"""Seconds between the first request and the second, where there is no answer."""

ANSWERED_SECONDS = 0.05
"""The same where there was one: what is missing is a subscription, which takes a moment."""

GROWTH = 2.0
"""By how much each interval between two requests is longer than the one before."""

LONGEST_SECONDS = 10.0
"""Seconds between two requests, at most."""

CHANNELS = ("shell", "control")

if TYPE_CHECKING:

    class Waiter(Protocol):
        """Somebody who waits for a kernel."""

        def asked(self, attempt: int) -> None:
            """Note that the kernel was asked, and how often that makes."""

        def replied(self, channel: str) -> None:
            """Note that the kernel has answered."""


_probes: dict[int, Probe] = {}
"""Those in use, by the identity of the kernel's manager, which each of them keeps alive."""


class Probe:
    """Asks one kernel, on sockets of its own, as long as somebody waits for it.

    One probe serves all who wait. The intervals grow: a request that was sent before the kernel
    listens waits in the socket, and others are needed only where a process has died with it, or
    where a subscription was too late for the statuses that the first has caused.
    """

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self._ports = list(kernel.ports)
        self._session = own_session(kernel)
        self._waiters: list[Waiter] = []
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._interval = FIRST_SECONDS
        self._answered = False
        self._attempts = 0
        self.streams: dict[str, Any] = {}
        try:
            self._open_streams()
        except BaseException:
            self._close()
            raise

    @classmethod
    def of(cls, kernel: Any) -> Probe:
        """Return the probe of a kernel, on the ports that it has now."""
        probe = _probes.get(id(kernel))
        if probe is None or probe.obstacle() is not None:
            probe = _probes[id(kernel)] = cls(kernel)
        return probe

    def join(self, waiter: Waiter) -> None:
        """Ask for ``waiter`` as well, from now on."""
        self._waiters.append(waiter)
        if len(self._waiters) == 1:
            self._ask_in(0)
        elif self._answered:
            self._hurry()

    def leave(self, waiter: Waiter) -> None:
        """Ask no more for ``waiter``; the last one that leaves ends the probe."""
        if waiter in self._waiters:
            self._waiters.remove(waiter)
        if not self._waiters:
            self._close()

    def ask_anew(self) -> None:
        """Ask at once: the requests so far may have died with another process."""
        self._answered, self._interval = False, FIRST_SECONDS
        self._ask_in(0)

    def obstacle(self) -> str | None:
        """Say why no answer will ever come; ``None`` where one may."""
        if list(self._kernel.ports) != self._ports:
            return "port change"
        if any(stream.closed() for stream in self.streams.values()):
            return "closed zmq socket"
        return None

    def _open_streams(self) -> None:
        """Open the sockets whose replies no client must see."""
        for channel in CHANNELS:
            stream = getattr(self._kernel, f"connect_{channel}")()
            if type(stream) is ZMQStream:
                # The answer to one closes the other, whose next event upstream would warn of.
                stream = KernelwireStream.adopt(stream)
            self.streams[channel] = stream
            stream.on_recv(partial(self._on_reply, channel))

    def _ask_in(self, seconds: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_later(seconds, self._ask)

    def _ask(self) -> None:
        """Send the requests, and come back later."""
        if self.obstacle() is not None:
            return  # those who wait find out for themselves
        self._attempts += 1
        self._send()
        for waiter in list(self._waiters):
            waiter.asked(self._attempts)
        self._ask_in(self._interval)
        self._interval = min(self._interval * GROWTH, LONGEST_SECONDS)

    def _send(self) -> None:
        for stream in self.streams.values():
            self._session.send(stream, "kernel_info_request")

    def _on_reply(self, channel: str, _frames: Any) -> None:
        if not self._answered:
            self._answered = True
            self._hurry()
        for waiter in list(self._waiters):
            waiter.replied(channel)

    def _hurry(self) -> None:
        """Ask again soon, for those who have heard nothing on ``iopub``."""
        self._interval = ANSWERED_SECONDS
        self._ask_in(self._interval)

    def _close(self) -> None:
        if _probes.get(id(self._kernel)) is self:
            del _probes[id(self._kernel)]
        if self._timer is not None:
            self._timer.cancel()
        for stream in self.streams.values():
            if not stream.closed():
                stream.on_recv(None)
                stream.close()


def own_session(kernel: Any) -> Any:
    """Return a session for the server's own requests to a kernel, whose statuses clients miss."""
    session = kernel.session.clone()
    session.session = OWN_SESSION
    return session


def is_probed(kernel: Any) -> bool:
    """Whether a kernel is being asked for somebody who waits."""
    return id(kernel) in _probes


def ask_anew(kernel: Any) -> None:
    """Have a kernel that is another process now asked anew, if somebody waits for it."""
    probe = _probes.get(id(kernel))
    if probe is not None:
        probe.ask_anew()
