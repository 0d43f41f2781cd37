"""The native part of kernelwire. Private: its names may change with any release."""

import sys
from collections.abc import Mapping, Sequence
from datetime import tzinfo
from os import PathLike
from typing import Any, TypeAlias, final

import zmq

__all__ = [
    "MAX_PARTS",
    "LargePart",
    "Pump",
    "PumpError",
    "Signer",
    "StateTracker",
    "Watch",
    "__version__",
    "decode_legacy",
    "decode_v1",
    "describe",
    "dump_message",
    "encode_legacy",
    "encode_v1",
    "is_ignored",
    "load_libzmq",
    "load_message",
    "receive",
    "receive_many",
    "send",
]

MAX_PARTS: int
"""The most parts that ``decode_v1`` and ``decode_legacy`` take apart."""

__version__: str

class PumpError(RuntimeError):
    """The native pump failed in a way that is a bug of kernelwire's."""

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

def receive_many(
    socket: zmq.Socket[Any], max_messages: int, max_bytes: int, watch: Watch | None
) -> tuple[list[list[bytes]], bool]:
    """Receive the messages that are ready on ``socket``, and whether there may be more.

    At most ``max_messages``, and not much more than ``max_bytes`` bytes. ``watch`` reads them.
    """

def describe(frames: Sequence[bytes]) -> tuple[str | None, tuple[str, bytes] | None]:
    """Return a message's type, and the name and the text of a plain ``stream`` message.

    The latter as they stand in its content between the quotes. ``None`` for what it does not
    plainly say.
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

    def __new__(
        cls,
        key: bytes,
        max_messages: int,
        max_seconds: float,
        tracker: StateTracker | None = None,
    ) -> Watch:
        """Make a watch for messages signed with ``key``; an empty one verifies nothing.

        One ``drain`` takes at most so many messages and seconds. Statuses go to ``tracker``, if
        there is one, from ``resume`` on.
        """

    def drain(
        self, socket: zmq.Socket[Any], heir: Watch | None
    ) -> tuple[int, tuple[list[_Event | list[bytes]], int, str | None]]:
        """Take what is ready on a pyzmq socket, up to the message at which ``heir`` takes over.

        Returns 0 where nothing more is ready, 1 where there may be more, 2 where that message has
        been received, which is not read then; and what ``take`` returns.
        """

    def feed(self, message: Sequence[bytes], heir: Watch | None) -> bool:
        """Do for one message that Python has received what ``drain`` does for a socket's.

        ``True`` where ``heir`` takes over at it.
        """

    def take(
        self,
    ) -> tuple[list[_Event | list[bytes]], int, str | None]:
        """Take out what was read.

        Returns the events (message type, the parent's type, the state in a status, the marks of
        what a status answers) and, between them, the frames of messages that only Python's parsers can read; how many messages were
        refused, and why the first of them was.
        """

    def begin(self, other: Watch) -> None:
        """Forget what was read, to take over from ``other``: nothing is missing or read twice.

        It takes over at its first message, should the other come to that, or behind the other's
        last message, should it come to that itself.
        """

    def resume(self) -> None:
        """Let statuses go to the tracker: all that was taken before has been dealt with."""

    def retire(self) -> None:
        """Forget which message was the last: another one goes on."""

    def has_met(self) -> bool:
        """Whether it has come to the other's last message, who must not go on then."""

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

@final
class Pump:
    """The rules, the rate limiter and the counters of one connection."""

    window_messages: int
    window_bytes: int
    messages_exceeded: bool
    bytes_exceeded: bool

    def __new__(cls, max_messages: int, max_bytes: int, max_seconds: float) -> Pump:
        """Make a pump. One ``drain`` takes at most so many messages, bytes and seconds."""

    def set_limits(
        self, limit: bool, message_rate: float, byte_rate: float, window: float, coalesce: bool
    ) -> None:
        """Set whether iopub is limited, and to how much.

        ``message_rate`` and ``byte_rate`` (of stream output) are per second, taken over ``window``
        seconds. With ``coalesce``, output is merged before any of it is withheld.
        """

    def splice(self, key: bytes) -> None:
        """Speak the default protocol from now on; ``key`` is the kernel's, empty for none."""

    def hide_statuses_of(self, session: str) -> None:
        """Leave out the statuses on ``iopub`` that requests of ``session`` cause."""

    def drain(
        self,
        socket: zmq.Socket[Any],
        channel: bytes,
        now: float,
        hide_tracebacks: bool,
        block: bool,
        congested: bool,
        descriptor: int,
        history: set[bytes] | None,
        watch: Watch | None,
    ) -> (
        bool
        | tuple[
            int, bytes | list[str | bytes | LargePart] | None, list[bytes] | None, str | None, int
        ]
    ):
        """Take what is ready on a pyzmq socket, and send it to the socket ``descriptor``.

        ``watch`` reads what is taken.

        Returns ``False`` where nothing was ready and ``True`` where all that was has been sent.
        Else how it stopped (0: nothing more is ready; 1: there may be more; 2: a message is left
        to the caller; 3: nothing more is ready, and output is held back to be merged), what to
        write (websocket frames back to back where ``block``, in pieces if some are large, else a
        list of messages), the frames
        of the message that is left to the caller, what is wrong with that message if it is
        malformed, and how many bytes of a block were sent, or, negative, the number of the error
        that has kept it from being sent. Where ``congested``, output is dropped but for what a
        client cannot do without. Nothing is sent where ``descriptor`` is -1. After ``splice`` with
        a key, ``history`` has the signatures of the messages before, and gets those of the ones
        taken.

        Raises ``OSError`` for what libzmq reports, ``PumpError`` for a bug.
        """

    def feed(
        self,
        message: Sequence[bytes],
        channel: bytes,
        now: float,
        hide_tracebacks: bool,
        block: bool,
        congested: bool,
        limited: bool,
        history: set[bytes] | None,
    ) -> tuple[int, bytes | list[str | bytes | LargePart] | None, list[bytes] | None, str | None]:
        """Do for one message that Python has received what ``drain`` does, without sending.

        Without ``limited``, no rate limit looks at it. An empty message only goes on with what a
        message that was left to the caller has kept waiting.
        """

    def flush(
        self, channel: bytes, now: float, block: bool, congested: bool
    ) -> tuple[int, bytes | list[str | bytes | LargePart] | None, list[bytes] | None, str | None]:
        """Let go what is held back; returns what ``feed`` does."""

    def take_held(self) -> tuple[list[list[bytes]], list[list[bytes]]]:
        """Take out what has been received and not yet decided on.

        First what was held to be merged, with an empty signature; then the messages that have come.
        """

    def congested_parent(self) -> bytes:
        """Return the parent header of the message dropped last because the client does not read.

        As JSON; empty where none was.
        """

    def stats(self) -> dict[str, int]:
        """Return how many messages and bytes took which way."""

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
