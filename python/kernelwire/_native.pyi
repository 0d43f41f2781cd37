"""The native part of kernelwire. Private: its names may change with any release."""

import sys
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from os import PathLike
from typing import Any, TypeAlias, TypedDict, final

import zmq

__all__ = [
    "MAX_PARTS",
    "Cursor",
    "Desk",
    "Engine",
    "FrameReader",
    "LargePart",
    "Log",
    "NativeError",
    "Outbox",
    "Relay",
    "Signer",
    "StateTracker",
    "Subscription",
    "Watch",
    "Window",
    "__version__",
    "count_request",
    "decode_legacy",
    "decode_v1",
    "dump_message",
    "encode_legacy",
    "encode_v1",
    "is_ignored",
    "is_limited",
    "load_libzmq",
    "load_message",
    "read_metrics",
    "receive",
    "send",
    "unpack_messages",
]

MAX_PARTS: int
"""The most parts that ``decode_v1`` and ``decode_legacy`` take apart."""

__version__: str

class NativeError(RuntimeError):
    """Native code failed in a way that is a bug of kernelwire's."""

def encode_v1(channel: str, parts: Sequence[Any]) -> bytes:
    """Encode parts, which are bytes or have such memory, as one v1 message."""

def decode_v1(frame: bytes) -> tuple[str, list[bytes]]:
    """Decode a v1 message into its channel and its parts.

    Raises ``ValueError`` with the field, the value and the limit where a number is out of range.
    """

def encode_legacy(parts: Sequence[Any]) -> bytes:
    """Encode a JSON document and its buffers as one binary message of the default protocol.

    Raises ``ValueError`` where an offset would not fit into 32 bits.
    """

def decode_legacy(frame: bytes) -> list[bytes]:
    """Decode a binary message of the default protocol: the JSON document, then the buffers.

    Raises ``ValueError`` with the field, the value and the limit where a number is out of range.
    """

def dump_message(msg: Mapping[str, Any]) -> bytes | None:
    """Write a message without its buffers, and with the dates of its headers, as JSON.

    The text is ``json.dumps``'s. ``None`` where it is left to Python's encoder.
    """

def load_message(frame: bytes, utc: tzinfo) -> dict[str, Any] | None:
    """Decode a binary message of the default protocol, with the dates of its headers in ``utc``.

    ``None`` where its document is left to Python's parser. Raises ``ValueError`` as
    ``decode_legacy``.
    """

def load_libzmq(path: str | PathLike[str], version: tuple[int, int, int]) -> None:
    """Look up libzmq's functions in the loaded pyzmq extension at ``path``.

    Raises ``OSError`` where they are not there or are not of ``version``.
    """

def receive(socket: zmq.Socket[Any]) -> list[bytes] | None:
    """Receive the next message of ``socket`` without waiting; ``None`` where none is ready."""

def send(socket: zmq.Socket[Any], frames: Sequence[bytes]) -> int | None:
    """Send a message without waiting.

    Returns what the socket is ready for then, as ``zmq.POLLIN`` and ``zmq.POLLOUT``; ``None`` where
    libzmq would have to wait. Raises ``OSError`` for what libzmq reports.
    """

@final
class FrameReader:
    """Reads a peer's websocket frames as their bytes come, and hands over whole messages.

    A message may have ``limit`` bytes; without one, any number. Source: RFC 6455, section 5.
    """

    held: int
    """Bytes that wait for the rest of their message."""

    def __new__(cls, *, masked: bool = False, limit: int | None = None) -> FrameReader:
        """Read frames that are masked, as a client's are, or not, as a server's."""

    def read(
        self, data: bytes
    ) -> tuple[bytes, int, list[tuple[int, bytes]], tuple[int, str] | None]:
        """Read on.

        Returns the frames of whole messages as they were sent, how many messages these are, the
        control frames before, between and inside them, each with its opcode and its payload, and
        what is wrong with the bytes that follow: the code with which to close, and why. Nothing
        may be read after that, and nothing is after a close frame.
        """

def unpack_messages(frames: bytes, *, masked: bool = False) -> list[tuple[bool, bytes, int]]:
    """Unpack the frames of whole messages.

    Gives whether each is text, its payload, and the size of its frames in bytes. Raises
    ``ValueError`` where they are not whole messages.
    """

def read_metrics() -> list[tuple[str, list[str], int]]:
    """Add up what all logs of the process have counted, and what waits in them right now.

    Gives metrics of ``kernelwire.metrics``: their names, the values of their labels, and the number.
    What a log has counted stays when it is gone.
    """

def count_request(channel: str, size: int) -> None:
    """Count a message from a client that a ``Signer`` has not taken apart."""

def is_limited(msg_type: object, paced: bool) -> bool:
    """Whether the rate limiter has a say in ``iopub`` messages of a type.

    Stock's, or kernelwire's own where output is paced.
    """

def is_ignored(msg_type: str) -> bool:
    """Whether messages of a type, and what answers them, are neither activity nor change a state."""

_Marks: TypeAlias = tuple[int | None, int | None, int | None]
"""Hashes of a request's id, of its subshell, and of the session of the kernel that answers."""

_Event: TypeAlias = tuple[str, str | None, str | None, _Marks]

@final
class StateTracker:
    """Follows one kernel's state: busy until all that is running has become idle."""

    def __new__(cls, state: str) -> StateTracker:
        """Follow a kernel that is in ``state`` now."""

    def take(self) -> tuple[str, bool, bool, bool, bool]:
        """Return the state, and what has happened since the last call.

        That is whether a status was received that decides on the state, whether a request has begun
        or ended, whether the kernel was seen to be up, and whether another process reports.
        """

    def status(self, request_type: str | None, state: str, marks: _Marks, tracked: bool) -> None:
        """Note a status; ``tracked`` says whether requests of that type count, from now on."""

    def runs(self, request: str) -> bool:
        """Return whether a request, by its id, is running, or may be."""

    def will_delete(self, request: str, subshell: str) -> None:
        """Note that a request, by its id, was sent which deletes a subshell."""

    def will_run_on_control(self, request: str) -> None:
        """Note that a request, by its id, was sent on the control channel."""

    def welcome(self, marks: _Marks) -> None:
        """Note a welcome to a subscription."""

    def restart(self) -> None:
        """Forget what was running: the kernel is being restarted."""

    def survive(self) -> None:
        """Take a restart back: the process lives on, and what it reports counts again."""

    def ready(self, session: str | None) -> None:
        """Note that the kernel has answered, with its session."""

    def forget_types(self) -> None:
        """Forget which types of requests count."""

    @staticmethod
    def marks(request: str | None, subshell: str | None, session: str | None) -> _Marks:
        """Return the marks of a request's id, of its subshell, and of the kernel's session."""

@final
class Watch:
    """Reads what an activity watcher needs of a kernel's messages."""

    def __new__(cls, key: bytes, tracker: StateTracker | None = None) -> Watch:
        """Make a watch for messages signed with ``key``; an empty one verifies nothing.

        Statuses go to ``tracker``, if there is one.
        """

    def feed(self, message: Sequence[bytes]) -> None:
        """Read a message that no log takes."""

    def take(
        self,
    ) -> tuple[list[_Event | list[bytes]], int, str | None]:
        """Take out what was read.

        Returns the events (message type, the parent's type, the state in a status, the marks of
        what a status answers) and, between them, the frames of messages that only Python's parsers
        can read; how many messages were refused, and why the first of them was.
        """

    def resume(self) -> None:
        """Let statuses go to the tracker: all that was taken out has been dealt with."""

    def is_full(self) -> bool:
        """Whether so much was read that it should be taken out."""

@final
class Signer:
    """Takes messages from a client apart and signs them with HMAC-SHA256.

    Each method returns the channel, the message type if the header tells it plainly, and what to
    send: the delimiter, the signature and the parts. A part of 64 KiB or more is where it begins
    and ends in the message (of ``text``, in its UTF-8) instead of a copy.
    """

    def __new__(cls, key: bytes) -> Signer:
        """Sign with ``key``; an empty one signs nothing."""

    def v1(self, frame: bytes) -> tuple[str, str | None, list[bytes | tuple[int, int]]]:
        """Sign a v1 message; ``ValueError`` names what is wrong with it."""

    def text(self, document: str) -> tuple[str, str | None, list[bytes | tuple[int, int]]] | None:
        """Sign a text message of the default protocol; ``None`` where it is left to Python."""

    def binary(self, frame: bytes) -> tuple[str, str | None, list[bytes | tuple[int, int]]] | None:
        """Sign a binary message of the default protocol; ``None`` where it is left to Python.

        ``ValueError`` names what is wrong with it.
        """

@final
class LargePart:
    """A part that libzmq has received: a read-only buffer of its bytes, which are not copied."""

    if sys.version_info >= (3, 12):  # Python 3.11 knows the protocol, but has no name for it
        def __buffer__(self, flags: int, /) -> memoryview:
            """Give a view, which keeps the part alive."""

_Written: TypeAlias = bool | tuple[int, int, list[bytes | LargePart] | None, int]
"""What a write has left to Python; see ``Cursor.write``."""

_Taken: TypeAlias = tuple[bool, int, str | None]
"""Whether there may be more, how many messages were received, why the first was refused that was."""

class _Settings(TypedDict):
    spliced: bool
    """Whether the client speaks the default websocket protocol."""
    limits: tuple[float, float, float] | None
    """Messages and bytes of stream output per second, taken over so many seconds."""
    overflow: str
    """What becomes of output over the limits: ``"pace"`` or ``"drop"``."""
    patience: float
    """Seconds for which output over the limits waits at most, where it waits."""
    hide_tracebacks: bool
    """Whether ``error`` messages are left to the caller."""
    one_by_one: bool
    """Whether every message is."""
    bound: int
    """Bytes of memory that may wait for the client; 0 is no bound."""

@final
class Engine:
    """The thread that reads kernels and writes to clients. Not on Windows."""

    def __new__(cls, now: float) -> Engine:
        """Start it; ``now`` is what ``time.monotonic`` says.

        Raises ``RuntimeError`` where it cannot be started.
        """

    def desk(self) -> Desk:
        """Make a desk for an event loop."""

    def subscribe(
        self,
        endpoint: str,
        options: Sequence[tuple[int, bytes]],
        *,
        log: Log,
        watch: Watch | None,
        desk: Desk,
        token: int,
    ) -> Subscription:
        """Have what comes from ``endpoint`` be appended to ``log``, and ``watch`` be told of it.

        The socket gets the options, as ``zmq_setsockopt`` takes them, before it connects. What the
        event loop must know is told to ``desk`` under the token. Raises ``OSError`` for what libzmq
        reports.
        """

    def outbox(self, socket: Any, desk: Desk, token: int) -> Outbox:
        """Make the writer of a socket, which is kept open until the writer is closed."""

    def relay(self, source: Outbox, target: Outbox, begun: bytes, limit: int, token: int) -> Relay:
        """Read the frames that come to a gateway's socket, and have a browser's outbox write them.

        Nobody else may read from that socket any more; ``begun`` was read of it before. At most
        ``limit`` bytes and what was just read wait for the browser; 0 is no limit. ``source``'s desk
        is told under the token. Raises ``OSError`` where the socket cannot be watched.
        """

    def is_alive(self) -> bool:
        """Whether the thread runs, in this process."""

    def turns(self) -> int:
        """Count how often the thread has looked for something to do: a sign of life."""

    def fail(self) -> None:
        """Have the thread panic, to see what becomes of that."""

    def stop(self, time: float) -> bool:
        """End the thread; ``False`` where it has not ended after so many seconds."""

@final
class Desk:
    """What an event loop is told by the engine."""

    def fileno(self) -> int:
        """Return the descriptor that is readable when something lies here."""

    def take(self) -> list[tuple[int, int]]:
        """Take everything off: tokens, and what has happened, as the bits of ``sockets.desk``."""

@final
class Subscription:
    """What the engine receives of one kernel."""

    def watch(self, watch: Watch | None) -> None:
        """Have another watch be told of messages, or none."""

    def resume(self) -> None:
        """Go on with what was left until the event loop has served its readers."""

    def drain(self, time: float) -> bool:
        """Wait until everything that is ready was received, but no more than so many seconds."""

    def close(self) -> None:
        """Receive no more."""

@final
class Relay:
    """A gateway's websocket that the engine reads, and whose messages go to a browser as they are."""

    def take(self) -> tuple[list[tuple[int, bytes]], bool, tuple[int, str] | None, int]:
        """Take the control frames that are to be answered, as opcodes and payloads; and the end.

        Of several pings or pongs there is the last one. Then whether nothing more comes, the code with
        which to close and why, where that is for what is no frame, and the error's number, where the
        connection is broken.
        """

    def passed(self) -> tuple[int, int]:
        """Count the messages that were passed on, and the bytes of their frames."""

    def heard_at(self) -> float:
        """Return when the gateway was last heard, or was last not listened to: a monotonic time.

        0 before that.
        """

    def is_paused(self) -> bool:
        """Whether nothing is read because the browser does not read."""

    def set_limit(self, limit: int) -> None:
        """Set how many bytes may wait for the browser; 0 is no limit."""

    def note_request(self) -> None:
        """Note that something was sent to the gateway: its answer is acknowledged at once."""

    def close(self) -> None:
        """Pass on no more."""

@final
class Outbox:
    """The only writer of a websocket's socket, whichever thread has something to write."""

    def put(self, frame: bytes) -> bool:
        """Write whole frames of the event loop's; ``False`` where they have to wait.

        From 64 KiB on the object is lent, and given back once it is sent or the socket is closed.
        """

    def sent(self) -> int:
        """Count the bytes of such frames that were sent."""

    def unsent(self) -> int:
        """Count the bytes that wait for the socket."""

    def is_cut(self) -> bool:
        """Whether a relayed message was begun that will not go on: the connection must be closed."""

    def attach(self, cursor: Cursor) -> None:
        """Write what a cursor reads from now on, whatever the event loop does."""

    def detach(self) -> bool:
        """Write no more from its cursor, which knows then exactly what was sent.

        ``True`` if something of it was begun and not sent: the connection must be closed then.
        """

    def pump(self, now: float) -> _Written:
        """Write what is next, at a time of the monotonic clock; see :meth:`Cursor.write`."""

    def close(self) -> None:
        """Write no more: when this returns, nobody uses the socket."""

@final
class Log:
    """Everything that a kernel publishes, for any number of cursors, on any thread."""

    def __new__(
        cls, key: bytes | None, max_messages: int, max_bytes: int, max_seconds: float
    ) -> Log:
        """Make the log of a kernel that signs with ``key`` and HMAC-SHA256.

        Empty where messages are not signed, ``None`` where they are in another way. One call takes at
        most so many messages, bytes and seconds.
        """

    def hide_statuses_of(self, session: str) -> None:
        """Leave out the statuses that requests of ``session`` cause."""

    def receive(self, socket: zmq.Socket[Any], now: float, watch: Watch | None) -> _Taken:
        """Append what is ready on a pyzmq socket; ``watch`` is told of each message.

        Raises ``OSError`` for what libzmq reports, ``NativeError`` for a bug.
        """

    def append(self, frames: Sequence[bytes], now: float, watch: Watch | None = None) -> str | None:
        """Append a message that Python has received, and tell ``watch`` of it.

        Returns why it is refused, if it is. Parts of 64 KiB or more are lent, and given back when the
        log needs them no more.
        """

    def open(self) -> Cursor:
        """Make a cursor behind everything that was appended, without limits or bounds."""

    def restart(self) -> None:
        """Begin the kernel's next life, of which nothing has come yet. What waits, waits on."""

    def interrupt(self, now: float) -> None:
        """Note that the kernel was interrupted, at a time of the clock by which cursors write.

        Until what it executes is idle, output of that which waits for a client is skipped, but for
        its last words.
        """

    def cut_short(self, now: float) -> None:
        """Note that the kernel has ended: output that waits is skipped, but for its last words."""

    def has_received(self) -> bool:
        """Return whether anything was appended in this life."""

    def sender(self) -> str:
        """Return the session of whoever has sent the last message; empty where it is not known."""

    def memory(self) -> int:
        """Return how many bytes of memory the log takes."""

    def refused(self) -> int:
        """Return how many messages could not be appended."""

    def largest_batch(self) -> int:
        """Return the most messages that one call has received."""

    def counts(self) -> tuple[int, int, int, int]:
        """Count the entries that are kept, what has come, and the lives before this one.

        What has come is counted in messages and in bytes.
        """

    def set_served(self, readers: int, awaited: bool) -> None:
        """Set how many readers the event loop serves, and whether it awaits the next message.

        Where neither is so, the engine does not tell of what it has appended.
        """

    def note_served(self) -> bool:
        """Note that the event loop has served its readers.

        ``True`` if the engine waits for that, and is to be asked to go on.
        """

    def take_refused(self) -> str | None:
        """Take out why a message was refused that the engine has received; ``None`` if none was."""

    def take_reports(self) -> list[tuple[str, int, int, int, bytes]]:
        """Take out what there is to report.

        That is "given up", "overflowed" or "refused"; the number of the cursor; how many messages and
        bytes that concerns; and, for a message that the client has refused, its parent header.
        """

@final
class Cursor:
    """A client's place in a log. Once closed, it has nothing, and ``write`` is a ``ValueError``."""

    @property
    def number(self) -> int:
        """Which of the log's cursors it is."""

    def window(self) -> Window:
        """Return the state of its rate limiter."""

    def apply(self, settings: _Settings) -> None:
        """Set what the client wants, from the message on that it gets next."""

    def write(self, descriptor: int, now: float) -> _Written:
        """Send what is next, as websocket frames, to the socket ``descriptor``; -1 for none.

        Returns ``False`` where nothing was to be written and ``True`` where all of it has been sent.
        Else what it waits for (0: an entry; 1: another call; 2: room, as more than 256 KiB are not
        acknowledged; 3: the client, which is away; 4: an answer to a hold; 5: nothing, the client is
        to be closed; 6: a time), the number of the hold or the microseconds until that time, the pieces
        that are left to be written, and the number of the error that has kept them from being sent, 0
        for none. ``now`` is in seconds, of any clock that is the same for all calls.
        """

    def standing(self) -> tuple[int, int, float | None, str] | None:
        """Say where it is: messages and bytes that its client has not got, and what it waits for.

        And when the first of them came, by the clock of ``Log.receive``. ``None`` where it has ended.
        """

    def acknowledge(self, size: int) -> None:
        """Note that so many bytes more of what was left to be written are."""

    def held(self) -> tuple[str, list[bytes], bytes, bool, bool, int, int, str] | None:
        """Return the message that waits for an answer.

        Its channel, frames and parent header, whether the rate limits apply to it, and whether it was
        put in for this client alone. Without frames it is a notice about so many skipped messages and bytes, and why they were: ``"bound"``,
        ``"late"``, ``"interrupted"`` or ``"away"``.
        """

    def release(self, number: int, written: int) -> bool:
        """Answer a hold: the message was written in so many bytes, which are in flight; 0 if not."""

    def post(self, channel: bytes, frames: Sequence[bytes], now: float, after: str) -> str | None:
        """Put in a message for this client alone; returns why it is refused, if it is.

        It is read "now", by its "arrival" (now, or in its place for a client that is away), or at the
        "end" of what was appended. Large parts are lent; see ``Log.append``.
        """

    def receive(self, socket: zmq.Socket[Any], channel: bytes, now: float) -> _Taken:
        """Put in what is ready on a pyzmq socket; see ``Log.receive``."""

    def flush(self) -> None:
        """Have a notice that waits for its time go with the next write."""

    def go_away(self, bound: int, too_big: bool) -> None:
        """Note that the client is gone and may come back; ``bound`` as in the settings.

        What is in flight will be written again. ``too_big`` if a message was too big for it.
        """

    def come_back(self, settings: _Settings) -> bool:
        """Note that the client is back; ``False`` if it was not away."""

    def close(self) -> None:
        """End the cursor; what waits for it is lost."""

    def sender(self) -> str:
        """Return the session of whoever has sent what is read next; see ``Log.sender``."""

    def is_open(self) -> bool:
        """Whether it has not ended."""

    def has_overflowed(self) -> bool:
        """Whether so much waited that the client must be closed; ``write`` says so as well."""

    def waiting(self) -> tuple[int, int]:
        """Return how many messages wait, and the bytes that they take."""

    def stats(self) -> dict[str, int]:
        """Return how many messages of the log took which way."""

    def totals(self) -> dict[str, int]:
        """Count what has gone to the client on all channels, and what became of the rest.

        ``messages`` and ``bytes`` were taken by its socket; ``waited``, ``merged`` and ``dropped`` are
        messages. No number goes down.
        """

    def note_withheld(self) -> None:
        """Count a message as dropped by the rate limits, which were applied in Python."""

    def backlog(self) -> list[tuple[str, list[bytes]]]:
        """Return what waits for a client that is away: channels and frames, in order."""

@final
class Window:
    """The state of a cursor's rate limiter. ``ValueError`` where the cursor is closed."""

    window_messages: int
    window_bytes: int
    messages_exceeded: bool
    bytes_exceeded: bool

    def reset_window(self) -> None:
        """Forget what the rate limiter has counted."""

    def queue_len(self) -> int:
        """Return how many entries the window's queue has."""

    def queue_get(self, index: int) -> tuple[float, int]:
        """Return one entry: when it leaves the window, and its bytes."""

    def queue_set(self, index: int, expires: float, size: int) -> None:
        """Replace an entry."""

    def queue_insert(self, index: int, expires: float, size: int) -> None:
        """Insert an entry in front of the one at ``index``; at the end where there is none."""

    def queue_remove(self, index: int) -> None:
        """Remove an entry."""
