"""A server and a stand-in for a gateway in this process, and raw websockets at both ends."""

from __future__ import annotations

import asyncio
import base64
import fcntl
import hashlib
import logging
import os
import struct
import termios
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_server.base.websocket import WebSocketMixin
from jupyter_server.gateway.gateway_client import GatewayClient
from tornado.httpserver import HTTPServer
from tornado.netutil import bind_sockets
from tornado.web import Application
from tornado.websocket import WebSocketHandler
from traitlets import Unicode
from traitlets.config import LoggingConfigurable

from kernelwire import KernelwireGatewayConnection
from support.messages import V1
from support.workbench import Lines

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import pytest

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
DRIVERS = ("engine", "loop")
"""Who may pass on what a gateway says."""
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
SECONDS = 15.0


def frame(
    opcode: int,
    payload: bytes = b"",
    *,
    final: bool = True,
    masked: bool = False,
    reserved: int = 0,
) -> bytes:
    """A frame, as a server sends it or, masked, a client."""
    first, size = (final << 7) | (reserved << 4) | opcode, len(payload)
    mask_bit = masked << 7
    if size < 126:
        head = struct.pack("!BB", first, mask_bit | size)
    elif size <= 0xFFFF:
        head = struct.pack("!BBH", first, mask_bit | 126, size)
    else:
        head = struct.pack("!BBQ", first, mask_bit | 127, size)
    if not masked:
        return head + payload
    mask = os.urandom(4)
    return head + mask + unmasked(payload, mask)


def unmasked(payload: bytes, mask: bytes) -> bytes:
    """Apply a mask, which undoes it as well."""
    size = len(payload)
    keys = (mask * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(keys, "big")).to_bytes(size, "big")


@dataclass
class Peer:
    """One end of a websocket."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    headers: dict[str, str] = field(default_factory=dict)
    masked: bool = False
    """Whether it has to mask what it sends."""

    def send(self, opcode: int, payload: bytes = b"") -> None:
        """Send one frame."""
        self.writer.write(frame(opcode, payload, masked=self.masked))

    async def read(self) -> tuple[int, bytes]:
        """Read one frame: its opcode, and its payload without its mask."""
        async with asyncio.timeout(SECONDS):
            first, second = await self.reader.readexactly(2)
            size = second & 0x7F
            if size >= 126:
                size = int.from_bytes(await self.reader.readexactly(2 if size == 126 else 8), "big")
            mask = await self.reader.readexactly(4) if second & 0x80 else bytes(4)
            payload = await self.reader.readexactly(size)
        return first & 0x0F, unmasked(payload, mask)

    async def read_exactly(self, size: int) -> bytes:
        """Read so many bytes as they are."""
        async with asyncio.timeout(SECONDS):
            return await self.reader.readexactly(size)

    async def ends(self) -> bytes:
        """Read to the end."""
        async with asyncio.timeout(SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""

    def unacknowledged(self) -> int:
        """Bytes of what was sent that the other end's system has not acknowledged."""
        descriptor = self.writer.get_extra_info("socket").fileno()
        return struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))[0]

    def abort(self) -> None:
        """Break the connection."""
        self.writer.transport.abort()


class StandIn:
    """What a gateway is to a websocket: it accepts, and does what the test tells it."""

    def __init__(self) -> None:
        self.accepted: asyncio.Queue[Peer] = asyncio.Queue()
        self.speaks: Sequence[str] | None = (V1,)
        """The subprotocols to select from; ``None`` selects one that nobody has offered."""
        self.status = 101
        self.token = ""
        """Who asks without it is refused; nobody, where there is none."""
        self.refused = 0
        """How many were refused for want of the token."""
        self.answers = asyncio.Event()
        self.answers.set()
        self.peers: list[Peer] = []
        """All that were accepted."""
        self.asked = 0
        """How many have asked for a websocket."""

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Accept a websocket, or refuse it."""
        headers = await read_head(reader)
        self.asked += 1
        await self.answers.wait()
        if self.token and headers.get("authorization") != f"token {self.token}":
            self.refused += 1
            writer.write(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
            writer.close()
            return
        if self.status != 101:
            writer.write(f"HTTP/1.1 {self.status} No\r\nContent-Length: 0\r\n\r\n".encode())
            writer.close()
            return
        digest = hashlib.sha1((headers["sec-websocket-key"] + GUID).encode()).digest()
        lines = [
            "HTTP/1.1 101 Switching Protocols",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode()}",
        ]
        offered = headers.get("sec-websocket-protocol", "").split(",")
        if self.speaks is None:
            lines.append("Sec-WebSocket-Protocol: another")
        elif common := [each for each in offered if each in self.speaks]:
            lines.append(f"Sec-WebSocket-Protocol: {common[0]}")
        writer.write("\r\n".join([*lines, "", ""]).encode())
        self.peers.append(Peer(reader, writer, headers))
        self.accepted.put_nowait(self.peers[-1])

    async def next(self) -> Peer:
        """Return the next websocket that was accepted."""
        async with asyncio.timeout(SECONDS):
            return await self.accepted.get()


async def read_head(reader: asyncio.StreamReader) -> dict[str, str]:
    """Read a request or an answer up to its body; ``""`` is its first line."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    pairs = (line.split(": ", 1) for line in head[1:] if line)
    return {"": head[0]} | {name.lower(): value for name, value in pairs}


class Kernel(LoggingConfigurable):
    """What a connection asks of a kernel's manager."""

    kernel_id = Unicode("the-kernel")


class Handler(WebSocketMixin, WebSocketHandler):
    """What ``KernelWebsocketHandler`` does, without a server around it."""

    allow_origin = allow_origin_pat = ""

    @property
    def log(self) -> logging.Logger:
        """The log of the test."""
        return self.settings["kernel"].log

    def get_origin(self) -> str | None:
        """Return who asks."""
        return self.request.headers.get("Origin")

    async def get(self) -> None:  # type: ignore[override]
        """Prepare, and shake hands."""
        kernel = self.settings["kernel"]
        self.connection = self.settings["connection_class"](parent=kernel, websocket_handler=self)
        self.connection.session.session = "the-session"
        self.settings["connections"].append(self.connection)
        await self.connection.prepare()
        await super().get()

    async def open(self) -> None:  # type: ignore[override]
        """Connect."""
        super().open()
        await self.connection.connect()

    def on_message(self, message: str | bytes) -> None:
        """Hand a message on."""
        self.connection.handle_incoming_message(message)

    def on_close(self) -> None:
        """Disconnect."""
        self.connection.disconnect()

    def select_subprotocol(self, subprotocols: list[str]) -> str | None:
        """Select as ``KernelWebsocketHandler`` does."""
        preferred = self.connection.kernel_ws_protocol
        preferred = V1 if preferred is None else preferred
        return preferred if preferred in subprotocols else None


class RelayBench:
    """A server whose kernels run on a stand-in."""

    def __init__(self, port: int, gateway: StandIn, settings: dict[str, Any]) -> None:
        self.port = port
        self.gateway = gateway
        self.connections: list[Any] = settings["connections"]
        self.lines: Lines = settings["lines"]
        self.writers: list[asyncio.StreamWriter] = []
        """Of those that have asked."""

    async def ask(self, headers: dict[str, str]) -> Peer:
        """Ask for something, and read the head of the answer."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        self.writers.append(writer)
        lines = ["GET / HTTP/1.1", f"Host: 127.0.0.1:{self.port}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        writer.write("\r\n".join([*lines, "", ""]).encode())
        async with asyncio.timeout(SECONDS):
            return Peer(reader, writer, await read_head(reader), masked=True)

    async def browse(self, protocol: str | None = V1, **headers: str) -> Peer:
        """Ask for a websocket, as a browser does."""
        return await self.ask(handshake(protocol) | headers)

    async def pair(self, protocol: str | None = V1) -> tuple[Peer, Peer]:
        """A browser, and the gateway's end of its connection."""
        browser = await self.browse(protocol)
        assert " 101 " in browser.headers[""]
        return browser, await self.gateway.next()


def handshake(protocol: str | None = V1) -> dict[str, str]:
    """The headers of a browser that asks for a websocket."""
    key = base64.b64encode(os.urandom(16)).decode()
    headers = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13"}
    offer = {"Sec-WebSocket-Protocol": protocol} if protocol else {}
    return headers | {"Sec-WebSocket-Key": key} | offer


def relay_by(driver: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have one of these do so from now on; the engine does where it can."""
    if driver == "loop":
        monkeypatch.setattr("kernelwire.gateway.link.outbox_for", lambda _: None)


@asynccontextmanager
async def relay_bench(
    connection_class: type[Any] = KernelwireGatewayConnection,
    tornado_settings: dict[str, Any] | None = None,
    **client: Any,
) -> AsyncIterator[RelayBench]:
    """Run a server and a stand-in for its gateway."""
    gateway, lines = StandIn(), Lines()
    there = await asyncio.start_server(gateway.accept, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{there.sockets[0].getsockname()[1]}"
    GatewayClient.clear_instance()
    GatewayClient.instance(url=url, gateway_retry_interval=0.0, **client)
    log = logging.Logger("relay")  # noqa: LOG001 (one of its own for each)
    log.addHandler(lines)
    settings = {
        "kernel": Kernel(log=log),
        "connection_class": connection_class,
        "connections": [],
        "lines": lines,
        "allow_unauthenticated_access": True,
        **(tornado_settings or {}),
    }
    server = HTTPServer(Application([("/", Handler)], **settings))
    sockets = bind_sockets(0, "127.0.0.1")
    server.add_sockets(sockets)
    bench = RelayBench(sockets[0].getsockname()[1], gateway, settings)
    try:
        yield bench
    finally:
        for writer in [*(peer.writer for peer in gateway.peers), *bench.writers]:
            writer.transport.abort()
        await connection_class.close_all()
        server.stop()
        await server.close_all_connections()
        there.close()
        GatewayClient.clear_instance()
        for _ in range(3):
            await asyncio.sleep(0)  # transports close in a turn of their own
