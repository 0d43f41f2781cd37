"""The log of a kernel's output: received once, read by any number of clients."""

from __future__ import annotations

from functools import partial
from time import monotonic, time
from typing import TYPE_CHECKING, Any, Protocol

import zmq
from tornado.ioloop import IOLoop

from kernelwire import _native
from kernelwire._protocol import OWN_SESSION
from kernelwire.log.listeners import Listener
from kernelwire.log.notices import make_notice
from kernelwire.sockets.desk import ACTIVITY, APPENDED, FAILED
from kernelwire.sockets.drain import drain
from kernelwire.sockets.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyter_client.session import Session

    from kernelwire._logging import Throttle
    from kernelwire.kernels.activity import Activity
    from kernelwire.sockets.stream import KernelwireStream

__all__ = [
    "MAX_BYTES",
    "MAX_MESSAGES",
    "MAX_SECONDS",
    "KernelLog",
    "empty_log",
    "loop_clock",
    "ports_of",
    "signing_key",
]

MAX_MESSAGES = 1024
"""Messages that one wake-up receives at most."""

MAX_BYTES = 1 << 20
"""Bytes that one wake-up receives, the message that crosses the line included."""

MAX_SECONDS = 0.0005
"""Seconds that one wake-up takes at most, before others have their turn."""

SETTLE_SECONDS = 0.01
"""Time that is spent at most on what a kernel has said, before its state is told."""

FRESH_SECONDS = 0.01
"""Time for which what has been read for clients is good enough to tell a kernel's state."""

LOST = (
    "The server had to connect to the kernel anew: output of the last moment may be missing here.\n"
)
"""What clients are told where the engine has failed."""

_LOOP_TIME = IOLoop.time


class Reader(Protocol):
    """Something that reads the log and writes what it reads to a client."""

    @property
    def is_engines(self) -> bool:
        """Whether the engine writes, and only what it cannot decide is written here."""

    def write(self) -> bool:
        """Write what is next; ``True`` if there may be more, and others have their turn."""

    def go_on(self) -> None:
        """Write what is next, as soon as others have had their turn if it takes long."""

    def flush(self) -> None:
        """Write what can be, a notice that waits for its time included."""


def empty_log(key: bytes | None = b"") -> _native.Log:
    """Make a log to which nothing was appended; see ``_native.Log`` for the key."""
    return _native.Log(key, MAX_MESSAGES, MAX_BYTES, MAX_SECONDS)


def signing_key(session: Session) -> bytes | None:
    """Return the key with which the log checks and signs messages; ``None`` where it cannot."""
    if session.auth is None:
        return b""
    return session.key if session.signature_scheme == "hmac-sha256" else None


def ports_of(kernel: Any) -> tuple[Any, ...]:
    """Return a kernel's ports; managers of other kinds may have none."""
    return tuple(getattr(kernel, "ports", ()))


class KernelLog:
    """Appends what a kernel publishes to its log, and has the log's readers write it.

    It is the reader of the kernel's ``iopub`` stream; see ``KernelwireStream.on_ready``. With an
    ``activity``, that follows everything as well.
    """

    def __init__(
        self, session: Session, failures: Throttle, activity: Activity | None = None
    ) -> None:
        self.native = empty_log(signing_key(session))
        self.native.hide_statuses_of(OWN_SESSION)
        self.failures = failures
        self._session = session
        self._activity = activity
        self.on_failed: Callable[[], None] | None = None
        """Called when the engine receives no more; it subscribes anew."""
        self.stream: KernelwireStream | Subscription | None = None
        """Where the log is received from, if that is its own."""
        self.ports: tuple[Any, ...] = ()
        """Those of the kernel, when it was subscribed to."""
        self._users: set[object] = set()
        """For whom it is received."""
        self._readers: list[Reader] = []
        self._waiting: list[Callable[[], None]] = []
        self._reports: dict[int, list[tuple[str, int, int, int, bytes]]] = {}
        self._heard = 0.0
        """When something was last received."""
        self.receives_natively = drain().native
        self.now = loop_clock()
        """The clock by which messages arrive, and by which upstream's rate limits decide."""
        self.clock = monotonic if self.now is time else self.now
        """The clock by which clients are written to: output is not to wait for a clock that was put back."""

    @property
    def activity(self) -> Activity | None:
        """What follows everything; ``None`` where nothing does."""
        return self._activity

    @activity.setter
    def activity(self, activity: Activity | None) -> None:
        self._activity = activity
        if isinstance(self.stream, Subscription):
            self.stream.follow(self.watch)

    @property
    def watch(self) -> _native.Watch | None:
        """What the engine tells of each message."""
        return None if self._activity is None else self._activity.record

    # -- where it is received from -----------------------------------------------------------------

    def subscribe(
        self, stream: KernelwireStream | Subscription, ports: tuple[Any, ...] = ()
    ) -> None:
        """Receive from ``stream`` from now on, which the log closes when nobody uses it any more.

        ``ports`` are those that the kernel has. What the stream before has received comes first.
        """
        before, self.stream, self.ports = self.stream, stream, ports
        if before is not None:
            if not before.closed():
                before.flush()
            before.close()
            self.restart()
        stream.channel = "iopub"
        if isinstance(stream, Subscription):
            stream.begin(self)
            self._set_served()
        else:
            stream.on_ready(self, self.one)

    def use(self, user: object) -> None:
        """Receive for ``user``."""
        self._users.add(user)

    def leave(self, user: object) -> None:
        """Receive no more for ``user``; after the last one, for nobody."""
        self._users.discard(user)
        if not self._users and self.stream is not None:
            self.stream.close()

    def end(self) -> None:
        """Have those that only listen get the rest, and leave: the kernel is gone."""
        listeners = [user for user in self._users if isinstance(user, Listener)]
        if listeners and self.stream is not None and not self.stream.closed():
            self.stream.flush()
        for listener in listeners:
            listener.close()

    @property
    def is_open(self) -> bool:
        """Whether it has a subscription."""
        return self.stream is not None and not self.stream.closed()

    def _set_served(self) -> None:
        """Have the engine tell of messages for which the event loop is needed."""
        served = sum(not reader.is_engines for reader in self._readers)
        self.native.set_served(served, bool(self._waiting))
        self._note_served()

    def _note_served(self) -> None:
        """Have the engine go on that may wait for the event loop, where that alone has readers."""
        if self.native.note_served() and isinstance(self.stream, Subscription):
            self.stream.resume()

    # -- who reads it ------------------------------------------------------------------------------

    def add(self, reader: Reader) -> None:
        """Have ``reader`` write what is appended from now on."""
        if reader not in self._readers:
            self._readers.append(reader)
            self._set_served()

    def remove(self, reader: Reader) -> None:
        """Leave ``reader`` alone."""
        if reader in self._readers:
            self._readers.remove(reader)
            self._set_served()

    def restart(self) -> None:
        """Begin the kernel's next life, of which nothing has come yet. What waits, waits on."""
        self.native.restart()

    def interrupt(self) -> None:
        """Have clients wait no longer for what the kernel has said that was interrupted just now."""
        self.native.interrupt(self.clock())
        self._go_on()

    def end_output(self) -> None:
        """Have clients wait no longer for what the kernel has said that has ended just now."""
        self.native.cut_short(self.clock())
        self._go_on()

    def _go_on(self) -> None:
        for reader in list(self._readers):
            reader.go_on()

    def when_received(self, callback: Callable[[], None]) -> None:
        """Call back, once, when the subscription is known to work.

        That is when something is received, or at once where something was in this life.
        """
        if self.native.has_received():
            callback()
            return
        self._waiting.append(callback)
        self._set_served()
        if self.native.has_received():  # meanwhile
            self._notify()

    def forget(self, callback: Callable[[], None]) -> None:
        """Do not call back any more."""
        if callback in self._waiting:
            self._waiting.remove(callback)
            self._set_served()

    def reports_of(self, cursor: int) -> list[tuple[str, int, int, int, bytes]]:
        """Take out what there is to report of a cursor; see ``_native.Log.take_reports``."""
        for report in self.native.take_reports():
            self._reports.setdefault(report[1], []).append(report)
        return self._reports.pop(cursor, [])

    def describe(self) -> dict[str, Any]:
        """Say how much there is, since when, and by whom it is received, for an operator."""
        entries, received, received_bytes, lives = self.native.counts()
        return {
            "driver": "engine" if isinstance(self.stream, Subscription) else "loop",
            "entries": entries,
            "bytes": self.native.memory(),
            "received": received,
            "received_bytes": received_bytes,
            "life": lives + 1,
        }

    # -- receiving ---------------------------------------------------------------------------------

    def __call__(self, stream: KernelwireStream) -> bool:
        """Append what is ready, and have it written; ``True`` if there may be more."""
        activity = self.activity
        if activity is not None and not self._readers and activity.is_behind():
            activity.heard(at_once=True)
            return True
        more, count, refused = self._receive(stream.socket)
        stream.reads += count > 0
        if refused is not None and activity is None:
            self._refuse(refused)
        if self._waiting and count:
            self._notify()
        more = self._write() or more
        self._tell_activity()
        return bool(more)

    def told(self, bits: int) -> bool:
        """Serve what the engine has received; ``True`` if there may be more."""
        if bits & FAILED and self.on_failed is not None:
            self.on_failed()
            self._tell_of_loss()
            return False
        refused = self.native.take_refused()
        if refused is not None and self.activity is None:
            self._refuse(refused)
        if self._waiting and self.native.has_received():
            self._notify()
        if bits & ACTIVITY and self.activity is not None:
            self.activity.heard(at_once=True)
        more = bool(bits & APPENDED) and self._write()
        if not more:
            self._note_served()
        return more

    def _tell_of_loss(self) -> None:
        """Tell everybody who reads the log that something is missing here: how much, nobody knows."""
        content = {"name": "stderr", "text": LOST}
        notice = make_notice(self._session, "stream", content, {}, sender=self.native.sender())
        self.native.append(self._session.serialize(notice), self.now())
        self._go_on()

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Append a single message, however it was received, and have it written."""
        message = [bytes(part) for part in message]
        refused = self._append(message, self.now())
        if refused is not None and self.activity is None:
            self._refuse(refused)
        self._notify()
        self._go_on()
        self._tell_activity()

    def finish(self, _stream: Any) -> None:
        """Have readers write what they can, now."""
        for reader in list(self._readers):
            reader.flush()

    def _write(self) -> bool:
        """Have all readers write; ``True`` if one may have more, and others have their turn."""
        more, until = False, 0.0
        for reader in list(self._readers):
            if until and monotonic() > until:
                self._begin_with(reader)
                return True
            more = reader.write() or more
            until = until or monotonic() + MAX_SECONDS
        return more

    def _begin_with(self, reader: Reader) -> None:
        """Have ``reader`` be the first that writes the next time."""
        if reader in self._readers:
            index = self._readers.index(reader)
            self._readers = self._readers[index:] + self._readers[:index]

    def _receive(self, socket: Any) -> tuple[bool, int, str | None]:
        activity = self.activity
        if self.receives_natively and (activity is None or activity.reads_natively):
            record = None if activity is None else activity.record
            return self.native.receive(socket, self.now(), record)
        return receive_portably(socket, partial(self._append, now=self.now()))

    def _append(self, message: list[bytes], now: float) -> str | None:
        """Append a message, and have it followed; why it is refused, if it is."""
        activity = self.activity
        if activity is None:
            return self.native.append(message, now)
        if activity.reads_natively:
            return self.native.append(message, now, activity.record)
        activity.read(message)
        return self.native.append(message, now)

    def _notify(self) -> None:
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()
        if waiting:
            self._set_served()

    def _refuse(self, reason: str) -> None:
        self.failures.warning("malformed", "Dropped a malformed message on %s: %s", "iopub", reason)

    # -- what is followed --------------------------------------------------------------------------

    def _tell_activity(self) -> None:
        activity = self.activity
        if activity is None:
            return
        self._heard = monotonic()
        activity.heard(at_once=not self._readers)

    def settle(self, until: float | None = None) -> None:
        """Follow now what has come, until then by the clock, or for :data:`SETTLE_SECONDS`.

        Where there are clients, it is read once at most, and not if it was just now, as in a flood:
        they have not seen the rest either, and somebody waits for an answer.
        """
        stream, activity, now = self.stream, self.activity, monotonic()
        if stream is None or activity is None or activity.ended:
            return
        until = now + SETTLE_SECONDS if until is None else until
        if isinstance(stream, Subscription):
            activity.settle(until)  # what has come is received by now
            return
        more = False
        if not self._readers:
            more = stream.read_once()
            while more and monotonic() < until:
                more = stream.read_once()
        elif now - self._heard >= FRESH_SECONDS:
            more = stream.read_once()
        if more:
            # Its signal is taken: unless somebody reads on, the rest stays until more comes.
            stream.schedule_read()
        activity.settle(until)


def receive_portably(
    socket: zmq.Socket[bytes], take: Callable[[list[bytes]], str | None]
) -> tuple[bool, int, str | None]:
    """Give what is ready to ``take``, which says why it refuses a message.

    Returns whether there may be more, how many messages were received, and why the first was refused.
    """
    count, size, refused = 0, 0, None
    until = monotonic() + MAX_SECONDS
    while count < MAX_MESSAGES and size < MAX_BYTES and (count == 0 or monotonic() < until):
        try:
            message = socket.recv_multipart(zmq.NOBLOCK)
        except zmq.Again:
            return False, count, refused
        count += 1
        size += sum(map(len, message))
        refused = take(message) or refused
    return True, count, refused


def loop_clock() -> Callable[[], float]:
    """Return the clock of the event loop, without a Python frame around it where that is possible."""
    loop = IOLoop.current()
    return time if type(loop).time is _LOOP_TIME else loop.time
