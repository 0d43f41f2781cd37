"""A network between a client and a server that goes down, comes back, or breaks for good.

A TCP proxy for one connection. While it is down, neither side learns of it: the server's side stays
open, as when a laptop sleeps or a router forgets. What it has taken from the server by then, or
takes meanwhile, reaches the client's socket once the network is up again or broken for good, so
that a test sees exactly what has left the server.
"""

from __future__ import annotations

import select
import socket
import struct
import threading
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CHUNK_BYTES = 1 << 16
AHEAD_BYTES = 1 << 18
"""What may wait for the client while the network is up, before the server has to wait."""
ABORT = struct.pack("ii", 1, 0)
"""For `SO_LINGER`: close with a reset."""


class State(Enum):
    """What the network does with what it gets."""

    UP = auto()
    SILENT = auto()
    """Down: takes what the server sends, and sends it nothing."""
    STUCK = auto()
    """Down: takes nothing, so that the server's buffers fill."""
    BROKEN = auto()
    """The server's side is gone; the client gets what is left, then the end."""


class Network:
    """One connection through the proxy: `connect` gives the client's end of it."""

    def __init__(
        self,
        open_socket: Callable[[], socket.socket],
        on_sent: Callable[[], object] = lambda: None,
    ) -> None:
        """Connect to the server; ``on_sent`` is called in the thread when something has gone there."""
        self._on_sent = on_sent
        self._server = open_socket()
        self._client, self._client_end = socket.socketpair()
        # Whoever changes the state wakes the thread, which waits on nothing but sockets.
        self._woken, self._wake = socket.socketpair()
        for each in (self._server, self._client):
            each.setblocking(False)
        self._state = State.UP
        self._to_client, self._to_server = bytearray(), bytearray()
        self._server_is_open = True
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def connect(self) -> socket.socket:
        """The client's end."""
        return self._client_end

    def go_down(self, state: State) -> None:
        """Stop, in silence or stuck."""
        self._enter(state)

    def come_up(self) -> None:
        """Go on, with nothing lost."""
        self._enter(State.UP)

    def break_off(self) -> None:
        """Reset the server's side."""
        self._enter(State.BROKEN)

    def end(self) -> None:
        """Reset what is still open, and wait for the end."""
        self._enter(State.BROKEN)
        self._thread.join(15)
        assert not self._thread.is_alive(), "the network did not end"

    def _enter(self, state: State) -> None:
        with suppress(OSError):  # the thread has ended: then there is nothing to tell it
            self._wake.send(bytes([state.value]))
        with self._changed:
            done = self._changed.wait_for(
                lambda: self._state is state or not self._thread.is_alive(), timeout=15
            )
        assert done, f"the network did not become {state.name}"

    # in the thread

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        finally:
            with self._changed:
                for each in (self._server, self._client, self._woken, self._wake):
                    each.close()
                self._changed.notify_all()

    def _turn(self) -> bool:
        """Wait for something to do, and do it; `False` at the end."""
        delivers = self._state in (State.UP, State.BROKEN)
        if delivers and not self._server_is_open and not self._to_client:
            return False
        readers = [self._woken]
        if delivers:
            readers.append(self._client)
        if self._takes():
            readers.append(self._server)
        writers = []
        if delivers and self._to_client:
            writers.append(self._client)
        if self._state is State.UP and self._server_is_open and self._to_server:
            writers.append(self._server)
        readable, writable, _ = select.select(readers, writers, [])
        if self._woken in readable:
            self._change(State(self._woken.recv(1)[0]))
            return True
        return self._move(readable, writable)

    def _takes(self) -> bool:
        if not self._server_is_open or self._state is State.STUCK:
            return False
        return self._state is State.SILENT or len(self._to_client) < AHEAD_BYTES

    def _change(self, state: State) -> None:
        if state is State.BROKEN:
            self._abort()
        with self._changed:
            self._state = state
            self._changed.notify_all()

    def _move(self, readable: list[socket.socket], writable: list[socket.socket]) -> bool:
        """Move bytes; `False` when the client has gone."""
        if self._server in readable:
            data = _received(self._server)
            self._to_client += data
            self._server_is_open = bool(data)
        if self._client in readable:
            data = _received(self._client)
            if not data:
                self._abort()
                return False
            self._to_server += data
        for end, data in ((self._server, self._to_server), (self._client, self._to_client)):
            if end in writable:
                try:
                    del data[: end.send(data[:CHUNK_BYTES])]
                except OSError:
                    data.clear()  # that end has gone, which its next reading tells
                if end is self._server:
                    self._on_sent()
        return True

    def _abort(self) -> None:
        self._server_is_open = False
        if self._server.fileno() < 0:
            return
        self._server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
        self._server.close()


def _received(end: socket.socket) -> bytes:
    """What has come; nothing where the other side has ended, in whatever way."""
    try:
        return end.recv(CHUNK_BYTES)
    except OSError:
        return b""
