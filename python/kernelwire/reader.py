"""The live path of one channel: from its socket, through the pump, to the websocket."""

from __future__ import annotations

from time import monotonic, time
from typing import TYPE_CHECKING, Any

import zmq
from tornado.ioloop import IOLoop

from kernelwire._drain import drain
from kernelwire._writers import writer_for

if TYPE_CHECKING:
    from kernelwire import _native
    from kernelwire.congestion import Congestion
    from kernelwire.connection import KernelwireWebsocketConnection
    from kernelwire.signatures import Signatures
    from kernelwire.stream import KernelwireStream

__all__ = ["MAX_BYTES", "MAX_MESSAGES", "MAX_SECONDS", "ChannelReader"]

MAX_MESSAGES = 1024
"""Messages that one wake-up takes at most."""

MAX_BYTES = 1 << 20
"""Bytes of messages that one wake-up takes, the message that crosses the line included."""

MAX_SECONDS = 0.0005
"""Seconds that one wake-up takes at most, before others have their turn."""

HOLD_SECONDS = 0.05
"""Seconds for which output is held back at most, to be merged with what follows."""

_EMPTY, _MORE, _HOLDING, _MADE = 0, 1, 3, 4

_LOOP_TIME = IOLoop.time


_Pulled = tuple[int, Any, "list[bytes] | None", "str | None"]
"""What the pump answers; see ``_native.Pump.flush``."""

_Drained = bool | tuple[int, Any, "list[bytes] | None", "str | None", int]
"""What it answers when it is to send as well; see ``_native.Pump.drain``."""


class ChannelReader:
    """Called by a channel's stream when something may be ready; see ``KernelwireStream.on_ready``.

    What the pump leaves to Python (a traceback to hide, a limit that is reached, a header only
    Python's parsers can vouch for) goes to the connection's ``handle_outgoing_message``, between
    what came before it and what comes after.
    """

    def __init__(
        self,
        connection: KernelwireWebsocketConnection,
        channel: str,
        congestion: Congestion,
        signatures: Signatures | None,
    ) -> None:
        self._connection = connection
        self._handle_one: Any = connection._handle_one
        self._handler = connection.websocket_handler
        self._pump = connection._pump
        self._signatures = signatures
        self._channel = channel.encode()
        self._write: Any = writer_for(self._handler)
        self._block = self._write.block
        self._congestion = congestion
        self._may_be_congested = channel == "iopub"
        self._drain: Any = self._pump.drain if drain().native else self._drain_portably
        loop = IOLoop.current()
        # The loop's clock is `time.time`, which is called without a Python frame around it here.
        self._clock = time if type(loop).time is _LOOP_TIME else loop.time
        self._call_later = loop.call_later
        self._holding = False
        self._handed_over = False

    def __call__(self, stream: KernelwireStream) -> bool:
        """Move what is ready; ``True`` if there may be more.

        A block may be sent in part, and the rest is queued here. Nothing foreign may run in
        between, or what it writes stands in the middle of a frame: whatever may call a log
        handler, an observer or a subclass comes before the descriptor is looked up, or at the end.
        """
        write = self._write
        now, listener = self._clock(), stream.listener
        known = None if self._signatures is None else self._signatures.known()
        congested = write.behind and self._is_congested()
        descriptor = write.descriptor()
        if descriptor is None:
            return self._leave(stream)
        more = False
        drained = self._drain(
            stream.socket,
            self._channel,
            now,
            self._connection.hides_tracebacks,
            self._block,
            congested,
            descriptor,
            known,
            None if listener is None else listener.record,
        )
        if drained is True:
            stream.reads += 1
            write.behind = False
        elif drained is not False:
            stop, data, message, malformed, sent = drained
            more = self._deal(stream, (stop, data, message, malformed), sent)
        if self._signatures is not None:
            self._signatures.cull()  # also where all was withheld: that is remembered, too
        return more

    def _is_congested(self) -> bool:
        return self._may_be_congested and self._congestion.check()

    def finish(self, stream: KernelwireStream) -> None:
        """Let go what is held back, now."""
        more = self._write.is_open()
        while more:
            more = self._deal(
                stream,
                self._pump.flush(self._channel, self._clock(), self._block, self._is_congested()),
            )

    def _deal(self, stream: KernelwireStream, pulled: _Pulled, sent: int = 0) -> bool:
        """Write what the pump gives, of which some bytes are sent; ``True`` if it may have more."""
        stop, data, message, malformed = pulled
        if data is not None:
            stream.reads += 1
            unsent = self._write(data, sent)
            if unsent:
                self._connection._keep_unsent(unsent)
        if message is not None:
            self._hand_over(stream, self._signed(message) if stop == _MADE else message, malformed)
            return True
        if stop == _HOLDING and not self._holding:
            self._holding = True
            self._call_later(HOLD_SECONDS, self._end_hold, stream)
        return stop == _MORE

    def _end_hold(self, stream: KernelwireStream) -> None:
        """Let go what has been held back long enough."""
        self._holding = False
        if stream._reader is self:
            self.finish(stream)

    def _leave(self, stream: KernelwireStream) -> bool:
        """Leave messages where they are: the client is going, and the buffer will want them.

        Somebody who listens in wants them now. Asking for the events takes the socket's signal,
        which would wake the loop for ever.
        """
        if stream.listener is not None:
            self._connection._hold_back()
        else:
            stream.socket.EVENTS  # noqa: B018
        return False

    def _drain_portably(  # noqa: PLR0917 (as `Pump.drain`)
        self,
        socket: zmq.Socket[bytes],
        channel: bytes,
        now: float,
        hide: bool,
        block: bool,
        congested: bool,
        descriptor: int,
        history: set[bytes] | None,
        record: _native.Watch | None,
    ) -> _Drained:
        """Do what ``Pump.drain`` does, with pyzmq receiving."""
        stop, data, message, malformed = self._pull_portably(
            socket, record, channel, now, hide, block, congested, True, history
        )
        joint = joined(data, block)
        sent = 0 if joint is None else self._write.send(joint, descriptor)
        return stop, joint, message, malformed, sent

    def _pull_portably(
        self, socket: zmq.Socket[bytes], record: _native.Watch | None, *arguments: Any
    ) -> tuple[int, list[Any], list[bytes] | None, str | None]:
        """Feed the pump with what is ready; ``arguments`` are those of ``Pump.feed``."""
        data: list[Any] = []
        taken = 0
        stop = _EMPTY
        until = monotonic() + MAX_SECONDS
        # The message that was left to Python may have kept the one behind it waiting.
        waiting, self._handed_over = self._handed_over, False
        while waiting or (len(data) < MAX_MESSAGES and taken < MAX_BYTES and monotonic() < until):
            try:
                received = [] if waiting else socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return stop, data, None, None
            if record is not None and not waiting:
                record.feed(received, None)
            waiting = False
            taken += sum(map(len, received))
            stop, one, message, malformed = self._pump.feed(received, *arguments)
            if one is not None:
                data.append(one)
            if message is not None:
                self._handed_over = True
                return stop, data, message, malformed
        return _MORE, data, None, None

    def _signed(self, message: list[bytes]) -> list[bytes]:
        """Sign a message that was merged, or held to be."""
        message = self._connection._signed(message)
        if self._signatures is not None:
            # Where it was not merged with any other, its signature is known already.
            self._signatures.forget(message)
        return message

    def _hand_over(
        self, stream: KernelwireStream, message: list[bytes], malformed: str | None
    ) -> None:
        """Let the one-message path do what the pump does not decide on."""
        failures = self._connection._failures
        channel = stream.channel
        if malformed is not None:
            failures.warning(
                "malformed", "Dropped a malformed message on %s: %s", channel, malformed
            )
            return
        connection = self._connection
        if not self._write.is_open():
            # What came before it was not taken either, and is kept for the next connection.
            connection._unsent.append((str(channel), message))
            return
        try:
            self._congestion.tell()
            self._handle_one(stream, message)
        except Exception:
            failures.failure("failed", "Dropped a message on %s", channel)


def joined(data: list[Any], block: bool) -> Any:
    """Put the data of single messages together, in the form in which ``drain`` gives it."""
    if not data:
        return None
    if not block:
        return [message for one in data for message in one]
    if all(type(one) is bytes for one in data):
        return b"".join(data)
    return [piece for one in data for piece in ([one] if type(one) is bytes else one)]
