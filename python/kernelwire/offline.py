"""What a kernel says while no browser listens: kept within bounds, and joined where it can be."""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, overload

import zmq

from kernelwire import _native
from kernelwire._drain import drain
from kernelwire._protocol import DELIMITER, MIN_PARTS, WELCOME, is_own_status
from kernelwire.pacing import IOPUB
from kernelwire.stream import KernelwireStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

__all__ = ["BufferReader", "Dropped", "OfflineBuffer", "fill", "lacks_parts", "part"]

Message = tuple[str, list[bytes]]
"""A channel and the frames of a message, as the stock buffer keeps them."""


MERGED_BYTES = 1 << 16
"""Bytes up to which stream output is joined, so that what must be dropped is dropped in pieces."""

FRAME_OVERHEAD, MESSAGE_OVERHEAD = 40, 200
"""About the memory in bytes that Python takes for a frame and a message besides the data."""

NEVER, LATE, EARLY = range(3)
"""When messages are dropped: never, after all others, or first."""

_WHEN: dict[str | None, int] = {
    "status": NEVER,
    "comm_close": LATE,
    "comm_open": LATE,
    "error": LATE,
    "execute_input": LATE,
    "execute_result": LATE,
    None: LATE,
}
"""When the types of iopub messages are dropped; the others come first."""


class Dropped(NamedTuple):
    """What did not fit: how many of the kernel's messages, and their bytes."""

    messages: int
    size: int


class _Entry:
    """A kept message, or a run of stream messages that have become one."""

    __slots__ = ("channel", "count", "frames", "name", "size", "texts")

    def __init__(self, channel: str, frames: list[bytes]) -> None:
        self.channel = channel
        self.frames = frames
        self.count = 1
        self.size = memory(frames)
        self.name: str | None = None
        self.texts: list[bytes] = []


def memory(frames: list[bytes]) -> int:
    """Estimate the memory of a message, in bytes."""
    return sum(map(len, frames)) + FRAME_OVERHEAD * len(frames) + MESSAGE_OVERHEAD


class OfflineBuffer(Sequence[Message]):
    """The messages of a kernel without a client, oldest first.

    Looks like stock's list of ``(channel, frames)``. Consecutive ``stream`` messages of the same
    parent and name are joined. Over ``limit`` bytes of memory, output is dropped, the oldest
    first; ``status``, replies and input requests never are, and results, errors, inputs and the
    opening and closing of comms only when no other output is left.

    Parameters
    ----------
    limit
        Bytes of memory; 0 is no limit.
    sign
        Signs the four parts of a joined message, as ``Session.sign``.
    """

    def __init__(self, limit: int, sign: Callable[[list[bytes]], bytes]) -> None:
        self._limit = limit
        self._sign = sign
        self._entries: OrderedDict[int, _Entry] = OrderedDict()
        self._next = 0
        self._droppable: dict[int, deque[int]] = {LATE: deque(), EARLY: deque()}
        self._last: _Entry | None = None
        self.size = 0
        """Bytes of memory, about."""
        self.received = 0
        """Messages that were put in."""
        self.dropped = Dropped(0, 0)
        self.dropped_parent: bytes = b"{}"
        """The parent header of what was dropped last, as JSON."""
        self.question: list[bytes] | None = None
        """The message on ``stdin`` that was put in last, unless it was taken out."""
        self.begun: bytes = b""
        """Header of the message that the last connection has sent a part of, and no more."""

    # -- as a list -------------------------------------------------------------------------------

    def __len__(self) -> int:
        """Return how many messages there are, joined ones counted once."""
        return len(self._entries)

    def __iter__(self) -> Iterator[Message]:
        """Go through the messages, oldest first."""
        for entry in list(self._entries.values()):
            yield entry.channel, self._finished(entry)

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        """Return one message, or some."""
        return list(self)[index]

    def popleft(self) -> Message:
        """Remove and return the oldest message; ``IndexError`` where there is none."""
        if not self._entries:
            raise IndexError("the buffer is empty")
        _, entry = self._entries.popitem(last=False)
        self.size -= entry.size
        if entry is self._last:
            self._last = None
        if entry.frames is self.question:
            self.question = None
        return entry.channel, self._finished(entry)

    # -- filling ---------------------------------------------------------------------------------

    def append(self, message: tuple[str, list[bytes]]) -> None:
        """Put in a message, unless it is one on ``iopub`` that is not for clients."""
        channel, frames = message
        msg_type, text = _native.describe(frames) if channel == "iopub" else (None, None)
        if msg_type == WELCOME or (msg_type == "status" and is_own_status(frames)):
            return
        self.received += 1
        if channel == "stdin":
            self.question = frames
        if text is None or not self._join(frames, *text):
            entry = _Entry(channel, frames)
            if text is not None and self._is_genuine(frames):
                entry.name = text[0]
            self._put(entry, NEVER if channel != "iopub" else _WHEN.get(msg_type, EARLY))
        if self._limit and self.size > self._limit:
            self._shrink()

    def extend(self, messages: Iterable[Message]) -> None:
        """Put in several messages."""
        for message in messages:
            self.append(message)

    def prepend(self, messages: list[Message]) -> None:
        """Put messages in front of all others."""
        if not messages:
            return
        later, self._entries = self._entries, OrderedDict()
        question = self.question
        droppable, self._droppable = self._droppable, {LATE: deque(), EARLY: deque()}
        self._last = None
        self.extend(messages)
        self._last = None
        self.question = question or self.question
        # Keys are only names, and an order: the earlier messages' come before the later ones'.
        self._entries.update(later)
        for when, numbers in droppable.items():
            self._droppable[when].extend(numbers)

    def _put(self, entry: _Entry, when: int) -> None:
        number = self._next
        self._next += 1
        self._entries[number] = entry
        self._last = entry
        self.size += entry.size
        if when != NEVER:
            self._droppable[when].append(number)

    def _join(self, frames: list[bytes], name: str, text: bytes) -> bool:
        """Join stream output with what came last; ``False`` where it does not belong to it."""
        last = self._last
        if last is None or last.name != name or last.size > MERGED_BYTES:
            return False
        if _parent(frames) != _parent(last.frames) or not self._is_genuine(frames):
            return False
        if not last.texts:
            # Its own text becomes the first of several, and is not kept twice.
            own = _native.describe(last.frames)[1]
            last.texts.append(own[1] if own else b"")
            last.frames = [*last.frames[:-1], b""]
        last.texts.append(text)
        last.count += 1
        added = len(text) + FRAME_OVERHEAD
        last.size += added
        self.size += added
        return True

    def _is_genuine(self, frames: list[bytes]) -> bool:
        """Whether the kernel has signed a message: what it has not said is not signed for it."""
        at = frames.index(DELIMITER)
        return frames[at + 1] == self._sign(frames[at + 2 : at + 6])

    def _finished(self, entry: _Entry) -> list[bytes]:
        """Return the frames of a message, those of a joined one with its text and a signature."""
        if entry.count == 1:
            return entry.frames
        at = entry.frames.index(DELIMITER)
        name, text = str(entry.name).encode(), b"".join(entry.texts)
        content = b'{"name":"' + name + b'","text":"' + text + b'"}'
        parts = [*entry.frames[at + 2 : at + 5], content]
        return [*entry.frames[: at + 1], self._sign(parts), *parts]

    # -- the bound -------------------------------------------------------------------------------

    def _shrink(self) -> None:
        """Drop what may be dropped until the rest fits."""
        messages, size = self.dropped
        for when in (EARLY, LATE):
            waiting = self._droppable[when]
            while waiting and self.size > self._limit:
                entry = self._entries.pop(waiting.popleft(), None)
                if entry is None:
                    continue  # taken out meanwhile
                self.size -= entry.size
                messages += entry.count
                size += sum(map(len, self._finished(entry)))
                self.dropped_parent = _parent(entry.frames)
                if entry is self._last:
                    self._last = None
        self.dropped = Dropped(messages, size)


def lacks_parts(frames: list[bytes]) -> bool:
    """Whether fewer than four parts follow the signature; without a delimiter, there are none."""
    return DELIMITER not in frames or len(frames) - frames.index(DELIMITER) - 2 < MIN_PARTS


def part(frames: list[bytes], index: int) -> bytes:
    """Return one of the parts behind the signature; empty where a message lacks it."""
    try:
        return frames[frames.index(DELIMITER) + 2 + index]
    except (ValueError, IndexError):
        return b""


def _parent(frames: list[bytes]) -> bytes:
    return part(frames, 1)


class BufferReader:
    """Moves what comes on one channel into a buffer; see ``KernelwireStream.on_ready``."""

    MAX_MESSAGES = 512
    MAX_BYTES = 1 << 20
    """What one wake-up takes at most."""

    def __init__(self, buffer: OfflineBuffer, channel: str) -> None:
        self._buffer = buffer
        self._channel = channel
        self._receive: Any = _native.receive_many if drain().native else self._receive_portably

    def __call__(self, stream: KernelwireStream) -> bool:
        """Take what is ready; ``True`` if there may be more."""
        listener = stream.listener
        record = None if listener is None else listener.record
        messages, more = self._receive(stream.socket, self.MAX_MESSAGES, self.MAX_BYTES, record)
        if messages:
            stream.reads += 1
        for message in messages:
            self._buffer.append((self._channel, message))
        return more

    def one(self, _stream: Any, message: list[bytes]) -> None:
        """Take a single message, however it was received."""
        self._buffer.append((self._channel, message))

    @staticmethod
    def _receive_portably(
        socket: zmq.Socket[bytes],
        max_messages: int,
        max_bytes: int,
        record: _native.Watch | None,
    ) -> tuple[list[list[bytes]], bool]:
        messages: list[list[bytes]] = []
        taken = 0
        while len(messages) < max_messages and taken < max_bytes:
            try:
                messages.append(socket.recv_multipart(zmq.NOBLOCK))
            except zmq.Again:
                return messages, False
            taken += sum(map(len, messages[-1]))
            if record is not None:
                record.feed(messages[-1], None)
        return messages, True


def fill(buffer: OfflineBuffer, channels: dict[str, Any]) -> None:
    """Have everything that comes on ``channels`` put into ``buffer`` from now on."""
    for channel, stream in channels.items():
        reader = BufferReader(buffer, channel)
        if isinstance(stream, KernelwireStream):
            stream.on_ready(reader, reader.one, IOPUB)
        else:
            stream.on_recv_stream(reader.one)
