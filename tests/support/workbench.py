"""One connection on a workbench: real streams, a real websocket, a scripted clock, no server.

A test puts kernel messages in at one end and compares, byte by byte, what comes out at the other:
of the stock class, and of kernelwire's on each of its ways.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import zmq
from jupyter_client.session import Session
from jupyter_server.services.kernels.connection.channels import ZMQChannelsWebsocketConnection
from jupyter_server.services.kernels.kernelmanager import MappingKernelManager
from jupyter_server.services.kernels.websocket import KernelWebsocketHandler
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream
from tornado.websocket import WebSocketProtocol13, _WebSocketParams
from traitlets import Any as AnyTrait
from traitlets import Bool, Float, List, Unicode
from traitlets.config import LoggingConfigurable
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire import KernelwireWebsocketConnection
from kernelwire.log.notices import make_notice
from kernelwire.sockets.drain import Drain, drain
from kernelwire.sockets.outbox import outbox_of
from kernelwire.sockets.stream import KernelwireStream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

V1 = "v1.kernel.websocket.jupyter.org"
STOCK, NATIVE, PORTABLE, ONE_BY_ONE = "stock", "native", "portable", "one by one"
WAYS = (STOCK, NATIVE, PORTABLE, ONE_BY_ONE)


class Kernels(LoggingConfigurable):
    """What a connection asks of the manager of all kernels."""

    allow_tracebacks = Bool(True)
    traceback_replacement_message = Unicode(
        MappingKernelManager.traceback_replacement_message.default_value
    )
    allowed_message_types = List()
    kernel_info_timeout = Float(60)


class Kernel(LoggingConfigurable):
    """What a connection asks of the manager of one kernel."""

    kernel_id = "kernel"
    # Stock looks for it here, where it is not (H2): with it, the differential test can hide
    # tracebacks on both sides.
    traceback_replacement_message = Unicode(
        MappingKernelManager.traceback_replacement_message.default_value
    )
    session = AnyTrait()


class Lines(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep a line."""
        self.lines.append(record.getMessage())


def websocket_handler(stream: IOStream, subprotocol: str | None = V1) -> KernelWebsocketHandler:
    """Make a handler with an open, plain websocket over ``stream``, without a server around it."""
    handler = KernelWebsocketHandler.__new__(KernelWebsocketHandler)
    websocket = WebSocketProtocol13(handler, False, _WebSocketParams())
    websocket.stream = stream
    websocket.selected_subprotocol = subprotocol
    handler.ws_connection = websocket
    return handler


ENGINE_SECONDS = 0.002
"""Time in which the engine has had its turn."""


class Workbench:
    """One connection with an iopub and a shell channel."""

    def __init__(self, way: str, subprotocol: str | None = V1, **traits: Any) -> None:
        self.way = way
        self.context = zmq.Context()
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.iostream = IOStream(ours)
        self.received = bytearray()
        self.log = Lines()
        logger = logging.Logger("workbench")  # noqa: LOG001 (one of its own for each)
        logger.addHandler(self.log)
        self.kernels = Kernels(allow_tracebacks=traits.pop("allow_tracebacks", True), log=logger)
        cls = ZMQChannelsWebsocketConnection if way == STOCK else KernelwireWebsocketConnection
        self.handler = websocket_handler(self.iostream, subprotocol)
        self.connection = cls(
            parent=Kernel(parent=self.kernels),
            websocket_handler=self.handler,
            session=Session(session="session", key=b"key"),
            log=logger,
            **traits,
        )
        self.kernel_ends: dict[str, zmq.Socket[bytes]] = {}
        self.connection.channels = {name: self._channel(name) for name in ("iopub", "shell")}
        if way in (NATIVE, PORTABLE):
            assert drain().native, drain().reason
            self.go_live()

    def go_live(self) -> None:
        """Serve the client from now on, with what the connection and its handler are like now."""
        self.connection._client = None
        native = Drain(self.way == NATIVE, "the test's choice")
        with patch("kernelwire.log.kernel_log.drain", lambda: native):
            self.connection._go_live()

    def _channel(self, name: str) -> ZMQStream:
        end = self.kernel_ends[name] = self.context.socket(zmq.PAIR)
        near = self.context.socket(zmq.PAIR)
        for each in (end, near):
            each.set_hwm(0)
        end.bind(f"inproc://{name}")
        near.connect(f"inproc://{name}")
        stream = ZMQStream(near)
        stream.channel = name
        return stream if self.way == STOCK else KernelwireStream.adopt(stream)

    def deliver(self, messages: list[tuple[str, list[bytes]]]) -> list[str]:
        """Let messages arrive, all that are in ``messages`` at the same time.

        Returns the exceptions that the one-message path raised, as text.
        """
        raised: list[str] = []
        for channel, frames in messages:
            if self.way in (NATIVE, PORTABLE):
                self.kernel_ends[channel].send_multipart(frames)
                continue
            try:
                self.connection.handle_outgoing_message(
                    self.connection.channels[channel], list(frames)
                )
            except Exception as error:
                raised.append(repr(error))
        if self.way in (NATIVE, PORTABLE):
            for stream in self.connection.channels.values():
                stream.flush()
        return raised

    async def sent(self) -> bytes:
        """Return everything that was sent to the client so far."""
        quiet = 0
        # What a client that lags gets next is written a few turns of the loop after it has caught up.
        while quiet < 5:
            try:
                data = self.theirs.recv(1 << 20)
            except BlockingIOError:
                quiet = 0 if self.is_writing() and not self.iostream.closed() else quiet + 1
                # The engine does not go by the loop's turns.
                await asyncio.sleep(0 if outbox_of(self.iostream) is None else ENGINE_SECONDS)
                continue
            if not data:
                break
            quiet = 0
            self.received += data
        return bytes(self.received)

    def is_writing(self) -> bool:
        """Whether something waits for the client's socket, whoever writes to it."""
        outbox = outbox_of(self.iostream)
        return self.iostream.writing() if outbox is None else outbox.unsent() > 0

    def close(self) -> None:
        """Close everything."""
        for stream in self.connection.channels.values():
            if not stream.closed():
                stream.close()
        self.iostream.close()
        self.theirs.close()
        self.context.destroy(linger=0)


@contextmanager
def clock(now: list[float], date: datetime) -> Iterator[None]:
    """Let the loop's clock show ``now[0]``, and every message be made at ``date``."""
    with (
        patch.object(IOLoop, "time", lambda _: now[0]),
        patch("jupyter_client.session.utcnow", lambda: date),
    ):
        yield


def compare(
    play: Callable[[str, Any, dict[str, Any]], Any], steps: Any, traits: dict[str, Any]
) -> None:
    """Play a script to a connection of each class and way: all must show what stock's shows.

    But for the session in the header of notices, which is the kernel's on purpose: see
    ``integration/test_last_words.py``.
    """

    def as_upstream(*args: Any, **_sender: str) -> dict[str, Any]:
        return make_notice(*args, sender="")

    async def each() -> None:
        expected = await play(STOCK, steps, traits)
        for way in WAYS[1:]:
            got = await play(way, steps, traits)
            for what, value in expected.items():
                assert got[what] == value, f"{way}, {what}: {got[what]!r}, stock: {value!r}"

    with patch("kernelwire.connection.notices.make_notice", as_upstream):
        asyncio.run(each())
