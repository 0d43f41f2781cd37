"""A kernel's client: its channels, and its place in the kernel's log. It outlives its connections."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import TYPE_CHECKING, Any

from kernelwire._protocol import STDIN
from kernelwire.log.backlog import Dropped
from kernelwire.log.channel import LogStream
from kernelwire.log.holds import Holds
from kernelwire.log.kernel_log import MAX_SECONDS, receive_portably
from kernelwire.log.notices import status_notice
from kernelwire.log.waits import CLOSE, HOLD, MORE, ROOM, TIME
from kernelwire.log.writers import OutboxWriter, writer_for
from kernelwire.sockets.stream import KernelwireStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from jupyter_client.session import Session

    from kernelwire._logging import Throttle
    from kernelwire._native import _Settings
    from kernelwire.connection.websocket import KernelwireWebsocketConnection
    from kernelwire.log.backlog import Message
    from kernelwire.log.kernel_log import KernelLog

__all__ = ["Client"]


class Client:
    """Writes what a kernel publishes, and what it replies, to one client.

    What is received while no connection is attached waits in the log, within as many bytes as
    ``bound`` returns; 0 is no limit. Who attaches gets that first, and then what follows, in one
    order. Nothing foreign runs between sending a part of a frame and queueing the rest of it.
    """

    def __init__(
        self,
        log: KernelLog,
        bound: Callable[[], int],
        failures: Throttle,
        on_question: Callable[[list[bytes]], None] | None = None,
    ) -> None:
        self.log = log
        self.streams: dict[str, Any] = {}
        self.cursor = log.native.open()
        self.cursor.go_away(bound(), False)
        self.window = self.cursor.window()
        self._bound = bound
        self._failures = failures
        self._on_question = on_question
        self._connection: KernelwireWebsocketConnection | None = None
        self._writer: Any = None
        self._timer: asyncio.TimerHandle | None = None
        """What goes on when the time has come that the cursor waits for."""
        self._scheduled = False
        self.has_dropped = False
        """Whether its last connection has ended without a goodbye: it will be back."""
        self.is_kept = False
        """Whether the offline buffer has it."""
        self._holds = Holds(failures)

    @property
    def is_attached(self) -> bool:
        """Whether a connection is served."""
        return self._connection is not None

    @property
    def is_engines(self) -> bool:
        """Whether the engine writes to its websocket."""
        return isinstance(self._writer, OutboxWriter)

    def describe(self) -> dict[str, Any]:
        """Say how far its client is, by whom it is written to, and what went which way, for an operator."""
        messages, size, since, waits_for = self.cursor.standing() or (0, 0, None, "nothing")
        writer = "engine" if self.is_engines else "loop"
        return {
            "driver": None if self._writer is None else writer,
            "messages": messages,
            "bytes": size,
            "seconds": 0.0 if since is None else max(self.log.now() - since, 0.0),
            "waits_for": waits_for,
            "totals": self.cursor.totals(),
        }

    def keep_bound(self) -> None:
        """Follow the bound, which has changed, if no connection is attached."""
        if self._connection is None:
            self.cursor.go_away(self._bound(), False)

    # -- channels --------------------------------------------------------------------------------

    def read_from(self, streams: dict[str, Any]) -> None:
        """Receive from ``streams`` from now on, which have the names of their channels."""
        self.streams = streams
        for channel, stream in streams.items():
            if stream is None or stream.closed():
                continue
            if isinstance(stream, LogStream):
                stream.read_by(self)
                continue
            reader: Any = self.log if channel == "iopub" else Replies(self, channel)
            if isinstance(stream, KernelwireStream):
                stream.on_ready(reader, reader.one)
            else:
                stream.on_recv_stream(reader.one)

    def is_receiving(self) -> bool:
        """Whether somebody receives on each of the channels."""
        return all(stream.closed() or stream.receiving() for stream in self.streams.values())

    def receive(self, channel: str, stream: KernelwireStream) -> bool:
        """Receive what is ready on a channel other than ``iopub``; ``True`` if there may be more."""
        log = self.log
        if log.receives_natively and (channel != STDIN or self._on_question is None):
            more, count, refused = self.cursor.receive(stream.socket, channel.encode(), log.now())
        else:
            more, count, refused = receive_portably(
                stream.socket, lambda message: self._post(channel, message)
            )
        stream.reads += count > 0
        self._warn(channel, refused)
        return self.write() or more

    def take(self, channel: str, message: list[bytes]) -> None:
        """Take a single message on a channel, however it was received."""
        self._warn(channel, self._post(channel, [bytes(part) for part in message]))
        self.go_on()

    def _post(self, channel: str, message: list[bytes]) -> str | None:
        if channel == STDIN and self._on_question is not None:
            self._on_question(message)
        return self.cursor.post(channel.encode(), message, self.log.now(), "arrival")

    def notify(self, channel: str, message: list[bytes], after: str = "end") -> None:
        """Have the client get a message that the server has made; see ``_native.Cursor.post``."""
        self._warn(channel, self.cursor.post(channel.encode(), message, self.log.now(), after))
        self.go_on()

    def tell_status(self, session: Session, status: str) -> None:
        """Have the client get a status of the server's, behind everything that the kernel has said."""
        iopub = self.streams.get("iopub")
        if iopub is not None and not iopub.closed():
            iopub.flush()
        sender = self.log.native.sender()
        self.notify("iopub", status_notice(session, status, sender=sender))

    def extend(self, messages: Iterable[Message]) -> None:
        """Put in messages that somebody else has kept."""
        for channel, frames in messages:
            if channel == "iopub":
                refused = self.log.native.append(frames, self.log.now())
            else:
                refused = self.cursor.post(channel.encode(), frames, self.log.now(), "end")
            self._warn(channel, refused)

    def _warn(self, channel: str, refused: str | None) -> None:
        if refused is not None:
            self._failures.warning(
                "malformed", "Dropped a malformed message on %s: %s", channel, refused
            )

    # -- connections -----------------------------------------------------------------------------

    def attach(self, connection: KernelwireWebsocketConnection) -> None:
        """Write to the websocket of ``connection`` from now on, what has waited first."""
        lost, self.is_kept = None, False
        if self._connection is None:
            lost = self._come_back(connection)
        self._connection = connection
        self._writer = writer_for(
            connection.websocket_handler, self._on_written, by_engine=self.log.clock is monotonic
        )
        self.log.add(self)
        if lost is not None:
            connection.tell_skipped(lost, b"{}", "away")
        self._writer.begin(self.cursor, self._on_told)
        self.go_on()

    def _come_back(self, connection: KernelwireWebsocketConnection) -> Dropped | None:
        """Go on with what has waited; returns what was given up because it was too much."""
        settings = self._settings(connection)
        lost = None
        if not self.cursor.come_back(settings):
            reports = self.log.reports_of(self.cursor.number)
            lost = Dropped(
                sum(count for _, _, count, _, _ in reports), sum(size for *_, size, _ in reports)
            )
            self.cursor = self.log.native.open()
            self.window = self.cursor.window()
            self.cursor.apply(settings)
        self.window.reset_window()
        return lost

    def apply_settings(self) -> None:
        """Follow the connection's settings; what is held by the old ones goes first."""
        if self._connection is not None:
            self.cursor.apply(self._settings(self._connection))
            self.go_on()

    def _settings(self, connection: KernelwireWebsocketConnection) -> _Settings:
        """Return what the connection wants of the log; each message as it is for a stream's callback."""
        settings = connection.settings_of_cursor()
        iopub = self._log_stream()
        if iopub is not None and iopub.is_taken:
            settings["one_by_one"], settings["limits"] = True, None
        return settings

    def _log_stream(self) -> LogStream | None:
        iopub = self.streams.get("iopub")
        return iopub if isinstance(iopub, LogStream) and not iopub.closed() else None

    def detach(self, *, too_big: bool, is_replaced: bool = False) -> list[tuple[int, bytes]]:
        """Write no more; what has not reached the client waits for the next connection.

        With ``is_replaced``, that is there already, and all that waits is kept for it. ``too_big`` if
        the client has closed because of a message too big for it. Returns the sizes and the parent
        headers of the messages that the client has refused, and does not get again.
        """
        self.log.remove(self)
        self._holds.leave()
        if self._writer is not None:
            self._writer.end()
            self.cursor.acknowledge(self._writer.in_flight.take_last())
        self._connection, self._writer = None, None
        iopub = self._log_stream()
        if iopub is not None:
            iopub.read_by(self)  # what was registered there was for this connection
        self.cursor.go_away(0 if is_replaced else self._bound(), too_big)
        reports = self.log.reports_of(self.cursor.number)
        return [(size, parent) for kind, *_, size, parent in reports if kind == "refused"]

    def seal(self) -> None:
        """Make sure that the websocket takes nothing more of what it has not taken."""
        if self._writer is not None:
            self._writer.seal()

    def close(self) -> None:
        """Forget everything that waits."""
        self.log.remove(self)
        self.cursor.close()
        self.log.reports_of(self.cursor.number)

    def note_written(self, written: Any) -> None:
        """Note that a message was written to the websocket past the log."""
        if self._writer is not None:
            self._writer.note(written)

    # -- writing ---------------------------------------------------------------------------------

    def write(self) -> bool:
        """Write what is next to the client; ``True`` if there may be more, and others have their turn."""
        until = None
        if self._holds.is_awaiting and self.cursor.has_overflowed():
            self._close_slow()
        # A hook that is dealing with a message may have caused this call.
        while self._writer is not None and not self._holds.is_busy:
            # Whatever may run foreign code comes before this, or behind `put`.
            written = self._writer.write(self.cursor, self.log.clock())
            if written is None or written is True or written is False:
                return False
            wait, hold, data, error = written
            if data is not None:
                wait = self._queue(data, error, wait)
            if wait == HOLD:
                # The cursor bounds what it does by itself, but not how often it is called.
                until = until or monotonic() + MAX_SECONDS
                if not self._answer(hold):
                    return False
                if monotonic() >= until:
                    return True
            elif wait != MORE or data is None:
                return self._wait_for(wait, hold)
        return False

    def _answer(self, hold: int) -> bool:
        """Have the connection deal with a message that the cursor is held at; see ``Holds.answer``."""
        connection = self._connection
        if connection is None:
            return False
        return self._holds.answer(hold, self.cursor, self._writer, connection, self.go_on)

    def go_on(self) -> None:
        """Write what is next to the client, as soon as others have had their turn if it takes long."""
        if self.write():
            self._schedule()

    def _queue(self, data: list[Any], error: int, wait: int) -> int:
        """Have the websocket write what was not sent; returns what the cursor waits for then."""
        self._writer.put(data, error)
        taken = self._writer.in_flight.take()
        if not taken:
            return wait
        self.cursor.acknowledge(taken)
        return MORE if wait == ROOM else wait

    def _wait_for(self, wait: int, microseconds: int) -> bool:
        """Wait for what the cursor waits for; ``True`` if that is another call."""
        if wait == TIME:
            self._go_on_in(microseconds / 1e6)
        elif wait == CLOSE:
            self._close_slow()
        return wait == MORE

    def flush(self) -> None:
        """Write what can be, a notice that waits for its time included."""
        self.cursor.flush()
        while self.write():
            pass

    def _go_on_in(self, seconds: float) -> None:
        """Go on in so many seconds, if that is not to happen sooner."""
        loop = asyncio.get_running_loop()
        if self._timer is not None:
            if self._timer.when() <= loop.time() + seconds:
                return
            self._timer.cancel()
        self._timer = loop.call_later(seconds, self._on_time)

    def _on_time(self) -> None:
        self._timer = None
        self.go_on()

    def _on_written(self) -> None:
        """Note that the websocket has taken more, and go on."""
        if self._writer is None:
            return
        taken = self._writer.in_flight.take()
        if taken:
            self.cursor.acknowledge(taken)
            self.go_on()

    def _on_told(self) -> None:
        """Serve what the engine cannot: a hold, a client that is too slow, a broken connection."""
        self._on_written()
        self.go_on()

    def _write_on(self) -> None:
        self._scheduled = False
        self.go_on()

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._write_on)

    def _close_slow(self) -> None:
        """Close the websocket of a client for which too much waits that it needs."""
        connection = self._connection
        if connection is not None and self._writer.is_open():
            self._failures.warning(
                "slow", "Closed a client that does not read: too much waits for it"
            )
            connection.websocket_handler.close(1013, "too much waits for this client")


class Replies:
    """Receives on a channel other than ``iopub``; see ``KernelwireStream.on_ready``."""

    def __init__(self, client: Client, channel: str) -> None:
        self._client = client
        self._channel = channel

    def __call__(self, stream: KernelwireStream) -> bool:
        """Receive what is ready; ``True`` if there may be more."""
        return self._client.receive(self._channel, stream)

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Take a single message, however it was received."""
        self._client.take(self._channel, message)
