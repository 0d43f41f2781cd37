"""Names that tornado does not promise."""

from __future__ import annotations

import asyncio
import select
import socket
from asyncio import Future
from inspect import isfunction
from operator import attrgetter
from typing import TYPE_CHECKING, Any

from tornado import httpclient
from tornado.httputil import HTTPHeaders
from tornado.iostream import IOStream
from tornado.websocket import WebSocketHandler, WebSocketProtocol, WebSocketProtocol13

from kernelwire._compat._names import Feature, HostName
from kernelwire._compat._probing import calls

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "NAMES",
    "accepts_origin",
    "client_request",
    "compresses",
    "find_missing",
    "indexes",
    "is_own_connect",
    "note_sent",
    "note_written",
    "sent_index",
    "stop_reading",
    "unsent_bytes",
    "write_future",
    "write_index",
]

_WRITING = Feature.DIRECT_WRITING


def _relaying(name: str, owner: str, purpose: str) -> HostName:
    return HostName(name, owner, "tornado", purpose, Feature.RELAY)


NAMES = (
    HostName("_total_write_index", "IOStream", "tornado", "see write_index", _WRITING),
    HostName("_total_write_done_index", "IOStream", "tornado", "see sent_index", _WRITING),
    HostName("_write_buffer", "IOStream", "tornado", "see unsent_bytes", Feature.PENDING_BOUND),
    HostName("_write_futures", "IOStream", "tornado", "see write_future", Feature.ENGINE_WRITING),
    HostName(
        "_read_buffer_size", "IOStream", "tornado", "see stop_reading", Feature.ENGINE_RELAYING
    ),
    HostName("_state", "IOStream", "tornado", "see stop_reading", Feature.ENGINE_RELAYING),
    HostName("_compressor", "WebSocketProtocol13", "tornado", "see compresses", _WRITING),
    # Public by name, documented nowhere.
    HostName("mask_outgoing", "WebSocketProtocol13", "tornado", "frames are not masked", _WRITING),
    HostName("client_terminated", "WebSocketProtocol", "tornado", "no frame follows", _WRITING),
    HostName("server_terminated", "WebSocketProtocol", "tornado", "no frame follows", _WRITING),
    HostName("_check_cross_origin", "WebSocketHandler", "tornado", "see accepts_origin", None),
    _relaying("_receive_frame_loop", "WebSocketProtocol13", "overridden: frames are read natively"),
    _relaying("_handle_message", "WebSocketProtocol13", "answers the gateway's control frames"),
    _relaying("_abort", "WebSocketProtocol", "ends a connection to a gateway"),
    _relaying("_RequestProxy", "httpclient", "see client_request"),
)

write_index: Callable[[IOStream], int] = attrgetter("_total_write_index")
"""``IOStream._total_write_index``: how many bytes were ever written to the stream.

``BlockWriter`` sends a frame past the stream only where the stream holds nothing, and ``InFlight``
knows by it where in the stream's output a message ends.
"""

sent_index: Callable[[IOStream], int] = attrgetter("_total_write_done_index")
"""``IOStream._total_write_done_index``: how many of these its socket has taken; see above."""

indexes: Callable[[IOStream], tuple[int, int]] = attrgetter(
    "_total_write_index", "_total_write_done_index"
)
"""Both at once: asked at each wake-up."""


def unsent_bytes(stream: IOStream) -> int:
    """``len(IOStream._write_buffer)``: bytes that were written and that its socket has not taken.

    ``max_pending_bytes`` is compared with it, and a replay waits by it.
    """
    buffer = getattr(stream, "_write_buffer", None)
    return len(buffer) if buffer else 0


def note_written(stream: Any, size: int) -> int:
    """Note that so many bytes more are written to the stream, past it; returns how many ever were."""
    stream._total_write_index += size
    return write_index(stream)


def write_future(stream: Any, end: int) -> Future[None]:
    """``BaseIOStream._write_futures``: a future that is done when so many bytes are sent.

    It fails with ``StreamClosedError`` when the stream is closed before, in tornado's turn.
    """
    future: Future[None] = Future()
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    stream._write_futures.append((end, future))
    return future


def note_sent(stream: Any, sent: int) -> None:
    """Note how many bytes of what was ever written the socket has taken, and end the futures of those."""
    stream._total_write_done_index = sent
    futures = stream._write_futures
    while futures and futures[0][0] <= sent:
        _, future = futures.popleft()
        if not future.done():
            future.set_result(None)


def stop_reading(stream: Any) -> bytes:
    """``IOStream._state``: have the event loop watch the stream's socket no more.

    Returns what was read of it and not asked for (``_read_buffer_size``). Nothing may be read from the
    stream, or written by it, from then on: either would have it watched again.
    """
    size = stream._read_buffer_size
    begun: bytes = stream.read_bytes(size).result() if size else b""
    stream.set_close_callback(None)
    if stream._state is not None:
        stream.io_loop.remove_handler(stream.fileno())
        stream._state = None
    return begun


def compresses(websocket: WebSocketProtocol13) -> bool:
    """``WebSocketProtocol13._compressor``: whether messages to the client are compressed.

    Frames that are made natively are not; where tornado would compress, it writes.
    """
    return websocket._compressor is not None


def accepts_origin(handler: WebSocketHandler) -> bool:
    """``WebSocketHandler._check_cross_origin``: whether the websocket's handshake will be let in.

    Without it (before tornado 6.6), the origin is what ``WebSocketHandler.get`` asks about.
    """
    check: Any = getattr(handler, "_check_cross_origin", None)
    if check is not None:
        return check(handler.check_origin) is None
    origin = handler.request.headers.get("Origin")
    return origin is None or handler.check_origin(origin)


def client_request(request: httpclient.HTTPRequest) -> Any:
    """``httpclient._RequestProxy``: the request with defaults, as ``websocket_connect`` passes it on."""
    request.headers = HTTPHeaders(request.headers)
    proxy = httpclient._RequestProxy
    return proxy(request, httpclient.HTTPRequest._DEFAULTS)


def is_own_connect(connect: Any) -> bool:
    """Whether ``websocket_connect`` is tornado's: tests and extensions put others in its place."""
    return isfunction(connect) and connect.__module__ == "tornado.websocket"


_PROBE_BYTES = 1 << 20
"""More than a socket takes at once."""


async def find_missing() -> set[str]:
    """Write to a socket pair, in part and then to the end; returns the names that do not work."""
    begun = {
        name for cls in (WebSocketProtocol, WebSocketProtocol13) for name in calls(cls.__init__)
    }
    begun |= set(dir(WebSocketHandler)) | set(dir(WebSocketProtocol13))
    missing = {name.name for name in NAMES if name.owner.startswith("WebSocket")} - begun
    missing |= await _find_missing_to_stop_reading()
    if not _makes_requests():
        missing.add("_RequestProxy")
    ours, theirs = map(IOStream, socket.socketpair())
    try:
        ours.write(bytes(_PROBE_BYTES))
        missing |= _wrong(ours, partly=True)
        await theirs.read_bytes(_PROBE_BYTES)
        missing |= _wrong(ours, partly=False)
    finally:
        ours.close()
        theirs.close()
    return missing


async def _find_missing_to_stop_reading() -> set[str]:
    """Stop to read in the middle of what has come; returns the names that do not work."""
    connection, theirs = socket.socketpair()
    ours = IOStream(connection)
    try:
        missing = {name for name in ("_read_buffer_size", "_state") if not hasattr(ours, name)}
        if missing:
            return missing
        reading = ours.read_bytes(1)  # the stream's socket is watched from now on
        theirs.send(b"12")
        await reading
        if stop_reading(ours) != b"2":
            return {"_read_buffer_size"}
        theirs.send(b"3")
        # The loop's next turn would find it; the one after that knows that it was there.
        for _ in range(2):
            await asyncio.sleep(0)
        is_left = select.select([ours.fileno()], [], [], 0)[0]
        return set() if is_left else {"_state"}
    finally:
        ours.close()
        theirs.close()


def _makes_requests() -> bool:
    try:
        return bool(client_request(httpclient.HTTPRequest("ws://localhost")).url)
    except AttributeError:
        return False


def _wrong(stream: IOStream, *, partly: bool) -> set[str]:
    """Name the counters of a stream that are not what they must be."""
    written = getattr(stream, "_total_write_index", None)
    sent = getattr(stream, "_total_write_done_index", -1)
    sent_right = 0 < sent < _PROBE_BYTES if partly else sent == _PROBE_BYTES
    unsent_right = hasattr(stream, "_write_buffer") and 0 < unsent_bytes(stream) < _PROBE_BYTES
    if not partly:
        unsent_right = not unsent_bytes(stream)
    futures = getattr(stream, "_write_futures", None)
    right = {
        "_write_futures": hasattr(futures, "popleft") and len(futures or ()) == int(partly),
        "_total_write_index": written == _PROBE_BYTES,
        "_total_write_done_index": sent_right,
        "_write_buffer": unsent_right,
    }
    return {name for name, is_right in right.items() if not is_right}
