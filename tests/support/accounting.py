"""What was sent, what came, what was said to be missing, and how much memory that took."""

from __future__ import annotations

import fcntl
import re
import struct
import termios
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

import psutil

from support.waiting import POLL_SECONDS, wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from support.messages import Message
    from support.server import Server
    from support.ws_client import Client

IDLE_SHARE = 0.1
"""Share of a core that a server without work takes, at most: it looks after its kernels."""
QUIET_SECONDS = 0.5
NOTICE = re.compile(r"^([0-9]+) messages \(([0-9]+) bytes\) of output were dropped")
LINE = re.compile(r"^([0-9]+)(?::|$)", re.MULTILINE)


class Loss(NamedTuple):
    """What a client was told that it has missed."""

    messages: int
    size: int


def announced(messages: Sequence[Message]) -> Loss:
    """How much the server says it has dropped, all notices together."""
    told = [NOTICE.match(m.content["text"]) for m in messages if m.msg_type == "stream"]
    return Loss(*(sum(int(notice[n]) for notice in told if notice) for n in (1, 2)))


def emitted(messages: Sequence[Message]) -> list[int]:
    """The numbers with which lines and displays begin, or that metadata has, in order of arrival."""
    found: list[int] = []
    for message in messages:
        if message.msg_type == "stream" and message.content["name"] == "stdout":
            found += map(int, LINE.findall(message.content["text"]))
        elif message.msg_type == "display_data":
            found += map(int, LINE.findall(message.content["data"]["text/plain"]))
        elif "number" in message.metadata:
            found.append(message.metadata["number"])
    return found


def assert_gaps_are_announced(messages: Sequence[Message], total: int) -> None:
    """What is missing of so many outputs is announced where it is missing, to the message."""
    position = 0
    for message in messages:
        missed = announced([message]).messages
        assert emitted([message]) in ([], [*range(position, position + len(emitted([message])))])
        position += missed + len(emitted([message]))
    assert position == total


class Peak:
    """The most memory that was seen, in bytes."""

    def __init__(self, start: int) -> None:
        self.start = self.most = start

    @property
    def growth(self) -> int:
        """How much more that is than in the beginning."""
        return self.most - self.start


@contextmanager
def watched_memory(server: Server) -> Iterator[Peak]:
    """Look at a server's memory all the time."""
    peak, stop = Peak(server.resident_bytes()), threading.Event()

    def watch() -> None:
        while not stop.wait(POLL_SECONDS):
            peak.most = max(peak.most, server.resident_bytes())

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stop.set()
        watcher.join()


def wait_until_quiet(server: Server) -> None:
    """Wait until a server has nothing more to do."""
    process = psutil.Process(server.process.pid)
    last = [(sum(process.cpu_times()[:2]), time.monotonic())]

    def is_quiet() -> bool:
        used, now = sum(process.cpu_times()[:2]), time.monotonic()
        if used - last[0][0] > IDLE_SHARE * (now - last[0][1]):
            last[0] = (used, now)
        return now - last[0][1] > QUIET_SECONDS

    wait_until(is_quiet, what="a server without work", timeout=60)


def wait_until_stalled(client: Client) -> None:
    """Wait until nothing more reaches the client's socket, which nobody reads."""
    last = [(0, time.monotonic())]

    def is_stalled() -> bool:
        answer = fcntl.ioctl(client.socket._socket, termios.FIONREAD, struct.pack("i", 0))
        (waiting,), now = struct.unpack("i", answer), time.monotonic()
        if waiting != last[0][0]:
            last[0] = (waiting, now)
        return waiting > 0 and now - last[0][1] > 0.5

    wait_until(is_stalled, what="a full socket")
