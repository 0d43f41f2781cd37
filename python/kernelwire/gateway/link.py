"""The websocket to a gateway: tornado's client connection, whose frames are read natively.

tornado awaits two or three times for each frame, and refuses messages over a size. Here whatever has
come is read at once, and whole messages are handed over in one piece, as the gateway has sent them.
"""

from __future__ import annotations

import asyncio
import socket
from collections import deque
from contextlib import contextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Protocol

from tornado.iostream import StreamClosedError
from tornado.websocket import WebSocketClientConnection, WebSocketClosedError, WebSocketProtocol13

from kernelwire._compat import Feature, is_off
from kernelwire._compat.tornado import client_request, sent_index, write_index
from kernelwire._native import FrameReader
from kernelwire.log.writers import outbox_for
from kernelwire.sockets.outbox import unsent_of
from kernelwire.sockets.relay import Relay

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator

    from tornado.httpclient import HTTPRequest

    from kernelwire.sockets.outbox import Outbox

__all__ = ["GatewayLink", "Receiver"]

READ_BYTES = 1 << 18
"""Bytes that are read at once, and after which other work of the event loop comes first."""

FEW_BYTES = 1 << 14
"""Bytes that are read at once where no more come: what is kept for each link."""

QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
"""Linux's option by which what has come is acknowledged at once."""

ONCE = 2
"""Its value with which what comes next is acknowledged as ever (``__tcp_sock_set_quickack``)."""

ACKS_PER_SECOND = 200
ACKS_AT_ONCE = 20
"""How often what has come is acknowledged: so many at once, and then so many a second."""

READ_COST = 1 << 12
"""What a reading counts for beside its bytes: a peer may send them one by one."""

CLOSE = 0x8
"""The opcode of a close frame. Source: RFC 6455, section 5.2."""

NOT_UTF8 = 1007
"""The code for text that is none. Source: RFC 6455, section 7.4.1."""


class Receiver(Protocol):
    """Gets what the gateway says."""

    limit: int
    """Bytes that may wait there, 0 for any number."""

    def receive(self, frames: bytes, count: int) -> Awaitable[Any] | None:
        """Take whole messages: their frames, and how many they are.

        Where an awaitable is returned, nothing more is read until it is done.
        """

    def outbox(self) -> Outbox | None:
        """Return where the engine may write such frames, if it may."""

    def follow(self, relay: Relay) -> None:
        """Note that the engine does so from now on."""


class GatewayLink(WebSocketClientConnection):
    """One websocket to a gateway. Nothing is read of it before :meth:`attach`."""

    def __init__(self, request: HTTPRequest, subprotocols: list[str]) -> None:
        """Begin to connect; ``connect_future`` is done when the gateway has accepted."""
        loop = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = loop.create_future()
        """Done when the link has come to its end, whoever has ended it."""
        self.receiver: asyncio.Future[Receiver | None] = loop.create_future()
        """Who gets what comes; ``None`` for nobody any more."""
        self.relay: Relay | None = None
        """The engine's part, where it passes on what comes."""
        self._heard_at = loop.time()
        self._was_heard = self._waits = False
        self._stream: Any = None
        self._begin = 0
        self._acknowledged = 0.0
        """When as many would have been acknowledged, at their rate."""
        self._acknowledging: asyncio.TimerHandle | None = None
        self._unsent: deque[tuple[int, str | bytes]] = deque()
        super().__init__(client_request(request), subprotocols=subprotocols or None)

    async def headers_received(self, start_line: Any, headers: Any) -> None:
        """Take the gateway's answer; nobody may want the link any more when it comes."""
        await super().headers_received(start_line, headers)
        self._stream = None if self.protocol is None else self.protocol.stream
        self._begin = 0 if self._stream is None else write_index(self._stream)
        if self.connect_future.cancelled():
            self.end()  # an answer that nobody waits for any more

    def get_websocket_protocol(self) -> WebSocketProtocol13:
        """Return the protocol that reads frames natively."""
        return _RelayProtocol(self, mask_outgoing=True, params=self.params)

    @property
    def heard_at(self) -> float:
        """When the gateway has last sent anything, or was last not listened to; in the loop's time."""
        return self._heard_at if self.relay is None else self.relay.heard_at

    @property
    def was_heard(self) -> bool:
        """Whether the gateway has sent anything."""
        return self._was_heard if self.relay is None else self.relay.was_heard

    @property
    def paused(self) -> bool:
        """Whether nothing is read because the browser does not read."""
        return self._waits if self.relay is None else self.relay.is_paused

    @property
    def is_engines(self) -> bool:
        """Whether the engine passes on what comes."""
        return self.relay is not None

    def note_heard(self) -> None:
        """Note that the gateway has sent something."""
        self._heard_at, self._was_heard = asyncio.get_running_loop().time(), True

    def attach(self, receiver: Receiver) -> None:
        """Read from now on, and pass on whole messages."""
        if self.receiver.done():
            return  # it is closing already
        self.relay = self._relay_to(receiver)
        self.receiver.set_result(receiver)

    def set_limit(self, limit: int) -> None:
        """Set how many bytes may wait for who gets what comes."""
        if self.relay is not None:
            self.relay.set_limit(limit)

    def _relay_to(self, receiver: Receiver) -> Relay | None:
        """Have the engine pass on what comes, where it can."""
        stream, now = self._stream, asyncio.get_running_loop().time()
        has_own_clock = abs(now - monotonic()) > 1
        if stream is None or has_own_clock or is_off(Feature.ENGINE_RELAYING):
            return None
        target = receiver.outbox()
        source = None if target is None else outbox_for(stream)
        if source is None or target is None:
            return None
        relay = Relay(stream, source, target, receiver.limit)
        receiver.follow(relay)
        return relay

    def is_open(self) -> bool:
        """Whether anything can be written."""
        return self.protocol is not None and not self.protocol.is_closing()

    def send(self, message: str | bytes) -> None:
        """Send a message; raises ``WebSocketClosedError`` where nothing can be sent any more."""
        if not self.is_open():
            raise WebSocketClosedError
        self._acknowledged = 0.0  # what answers it is a dialogue, however fast those come
        if self.relay is not None:
            self.relay.note_request()
        written = self.write_message(message, binary=isinstance(message, bytes))
        stream = self._stream
        if stream is not None and write_index(stream) > sent_index(stream):
            self._unsent.append((write_index(stream), message))
        written.add_done_callback(self._written)

    def _written(self, written: asyncio.Future[None]) -> None:
        """Forget what was sent; where it was not, the link's end says so."""
        if written.cancelled() or written.exception() is not None or self._stream is None:
            return
        while self._unsent and self._unsent[0][0] <= sent_index(self._stream):
            self._unsent.popleft()

    @property
    def sent_bytes(self) -> int:
        """Bytes that the operating system has taken for the gateway, frames and pings included."""
        return 0 if self._stream is None else sent_index(self._stream) - self._begin

    @property
    def unsent_bytes(self) -> int:
        """Bytes that it has not taken yet."""
        return 0 if self._stream is None else unsent_of(self._stream)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Note that nothing is read meanwhile."""
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
            self.note_heard()

    def acknowledge(self) -> None:
        """Tell the gateway's system that everything has come, where ours can be told to.

        Jupyter Server in a gateway leaves ``TCP_NODELAY`` unset, so that each small message waits there
        until the one before it is acknowledged, which takes 40 ms otherwise. In a dialogue that is done
        at once, in a flood ``ACKS_PER_SECOND`` times: what comes meanwhile comes together.
        """
        if QUICK_ACK is None or self._acknowledging is not None:
            return
        loop = asyncio.get_running_loop()
        wait = self._acknowledged - ACKS_AT_ONCE / ACKS_PER_SECOND - loop.time()
        if wait <= 0:
            self._acknowledge_now(loop)
        else:
            self._acknowledging = loop.call_later(wait, self._acknowledge_now, loop)

    def _acknowledge_now(self, loop: asyncio.AbstractEventLoop) -> None:
        self._acknowledging = None
        self._acknowledged = max(self._acknowledged, loop.time()) + 1 / ACKS_PER_SECOND
        connection = None if self._stream is None else self._stream.socket
        if QUICK_ACK is not None and connection is not None:  # it may have been closed meanwhile
            with suppress(OSError):  # it is no TCP connection
                connection.setsockopt(socket.IPPROTO_TCP, QUICK_ACK, ONCE)

    def set_nodelay(self, value: bool) -> None:
        """Have small messages sent at once, or not."""
        if self._stream is not None:
            self._stream.set_nodelay(value)

    def take_unsent(self) -> list[str | bytes]:
        """Return the messages of a link that has ended which cannot have reached the gateway.

        Of each, a part at least was not taken by the operating system.
        """
        unsent, stream = list(self._unsent), self._stream
        self._unsent.clear()
        return [] if stream is None else [each for end, each in unsent if end > sent_index(stream)]

    def close(self, code: int | None = None, reason: str | None = None) -> None:
        """Close with a goodbye."""
        if not self.receiver.done():
            self.receiver.set_result(None)  # what comes before the gateway's goodbye
        super().close(code, reason)

    def end(self) -> None:
        """End at once, without a goodbye: the gateway does not answer."""
        protocol, self.protocol = self.protocol, None
        if isinstance(protocol, _RelayProtocol):
            protocol.abort()
        if not self.receiver.done():
            self.receiver.cancel()

    def on_ws_connection_close(
        self, close_code: int | None = None, close_reason: str | None = None
    ) -> None:
        """Note the end of the link."""
        super().on_ws_connection_close(close_code, close_reason)
        if not self.ended.done():
            self.ended.set_result(None)


class _RelayProtocol(WebSocketProtocol13):
    """tornado's protocol, but for the way in which messages come in."""

    handler: GatewayLink

    def abort(self) -> None:
        """End at once."""
        self._abort()

    async def _receive_frame_loop(self) -> None:
        """Read until the end."""
        try:
            receiver, relay = await self.handler.receiver, self.handler.relay
            await (self._read_on(receiver) if relay is None else self._answer_to(relay))
        except (StreamClosedError, asyncio.CancelledError):
            self._abort()
        except Exception:
            self._abort()
            raise
        finally:
            self.handler.on_ws_connection_close(self.close_code, self.close_reason)

    async def _answer_to(self, relay: Relay) -> None:
        """Answer what the engine does not pass on."""
        while not self.client_terminated:
            controls, fault = await relay.told()
            self._answer(controls)
            if fault is not None:
                self._fail(fault)

    async def _read_on(self, receiver: Receiver | None) -> None:
        """Read, and hand over."""
        reader, work, buffer = FrameReader(), 0, bytearray(FEW_BYTES)
        while not self.client_terminated:
            # `read_bytes` makes a buffer of 64 KiB, filled with zeros, for each message that comes alone.
            size = await self.stream.read_into(buffer, partial=True)
            with memoryview(buffer) as view:
                data = bytes(view[:size])
            if size < len(buffer):
                self.handler.acknowledge()
            if size == len(buffer) == FEW_BYTES:
                buffer = bytearray(READ_BYTES)
            elif size < FEW_BYTES < len(buffer):
                buffer = bytearray(FEW_BYTES)
            self.handler.note_heard()
            frames, count, controls, fault = reader.read(data)
            # An answer to a ping does not wait for the browser.
            self._answer([each for each in controls if each[0] != CLOSE])
            if frames and not await self._hand_over(receiver, frames, count):
                fault = (NOT_UTF8, "text that is not UTF-8")
            self._answer([each for each in controls if each[0] == CLOSE])
            if fault is not None:
                self._fail(fault)
            work += len(data) + READ_COST
            if work >= READ_BYTES:
                work = 0
                await asyncio.sleep(0)

    def _fail(self, fault: tuple[int, str]) -> None:
        """Close with a code and the reason."""
        self.close_code, self.close_reason = fault
        self.close(*fault)
        self._abort()

    def _answer(self, controls: list[tuple[int, bytes]]) -> None:
        for opcode, payload in controls:
            self._handle_message(opcode, payload)

    async def _hand_over(self, receiver: Receiver | None, frames: bytes, count: int) -> bool:
        """Hand over whole messages; ``False`` where one of them is no text, and should be."""
        waiting = None if receiver is None else receiver.receive(frames, count)
        if waiting is None:
            return True
        with self.handler.waiting():
            try:
                await waiting
            except UnicodeDecodeError:
                return False
        return True
