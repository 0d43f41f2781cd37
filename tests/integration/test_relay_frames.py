"""A million frames through the relay, while links break, browsers pause and nothing comes in one piece."""

from __future__ import annotations

import asyncio
import random
import socket
import struct
from contextlib import suppress
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from support.relay import (
    BINARY,
    CLOSE,
    PING,
    PONG,
    TEXT,
    Peer,
    frame,
    relay_bench,
    relay_by,
    unmasked,
)
from support.waiting import run_to_end, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from support.relay import RelayBench

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

RUNS = [*((seed, "engine") for seed in range(4)), (4, "loop")]
"""A seed, and who passes on, of each run; a million frames by the engine."""
FRAMES = 250_000
"""Frames for each run, both directions together."""
BATCH = 300
"""Messages for the browser between two looks of the event loop, at most."""
UP_SHARE = 12
"""One message for the gateway for so many for the browser: tornado reads them one by one."""
LINK_BATCHES = 40
"""Batches of a link, on average."""
SIZES = (0, 1, 20, 40, 90, 112, 113, 114, 400, 2_000)
LARGE = 70_000
"""Now and then: a length that takes eight bytes."""
FILLER = b"x" * LARGE
SMALL_BUFFER = 1 << 17
"""Of sockets, so that a browser that pauses is noticed soon; on loopback, segments have half of it."""

COMPLETE = ("close", "eof", "half, eof", "wrong")
"""Ends of a link that lose nothing: all that was sent arrives, whole messages of it."""
RESETS = ("reset", "half, reset")
"""Ends that throw away what is on its way, in either direction."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a lost connection be made again at once."""
    monkeypatch.setattr("kernelwire.gateway.relaying.random.randint", lambda *_: 0)


class Account:
    """Messages that one side has sent, and which of them the other has seen, each once and in order."""

    def __init__(self) -> None:
        self.sent: list[bytes] = []
        self.seen = 0
        """All before this one were seen, or lost with a link that broke."""
        self.lost = 0

    def see(self, message: bytes) -> None:
        """Note the next message."""
        assert self.seen < len(self.sent), f"was not sent: {message[:80]!r}"
        assert message == self.sent[self.seen], (
            f"{message[:80]!r} instead of {self.sent[self.seen][:80]!r}"
        )
        self.seen += 1

    def skip_to(self, number: int) -> None:
        """Allow for what was lost before this one."""
        assert self.seen <= number < len(self.sent)
        self.lost += number - self.seen
        self.seen = number

    @property
    def is_complete(self) -> bool:
        """Whether nothing is to come."""
        return self.seen == len(self.sent)


def frames_of(buffer: bytearray) -> Iterator[tuple[int, bytes, bytes]]:
    """Take whole frames out of a buffer: their first byte, payload, and all of their bytes."""
    position, size = 0, len(buffer)
    while position + 2 <= size:
        start, length = position + 2, buffer[position + 1] & 0x7F
        if length >= 126:
            extra = 2 if length == 126 else 8
            length = int.from_bytes(buffer[start : start + extra], "big")
            start += extra
        mask = b""
        if buffer[position + 1] & 0x80:
            mask = bytes(buffer[start : start + 4])
            start += 4
        end = start + length
        if end > size or start > size:
            break
        payload = bytes(buffer[start:end])
        if mask:
            payload = unmasked(payload, mask)
        yield buffer[position], payload, bytes(buffer[position:end])
        position = end
    del buffer[:position]


class Traffic:
    """A browser, a gateway, and everything that goes wrong between them."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.down, self.up = Account(), Account()
        self.relayed = self.pauses = self.pings = 0
        """Frames of messages that have come through, pauses of the gateway, and pings of all."""
        self.is_pausing = False
        self.ends: list[tuple[int, bool]] = []
        """Of each link that has ended: the number of the next one's first message for the browser,
        and whether it was reset."""
        self.was_reset = False
        """Whether nothing has come to the gateway since a link was reset."""
        self.gateway_waits = False

    # -- what is sent ----------------------------------------------------------------------------

    def message(self, account: Account, *, masked: bool) -> list[bytes]:
        """Make frames of one message, with control frames between its fragments."""
        choose = self.random
        size = LARGE if choose.random() < 0.0005 else choose.choice(SIZES)
        payload = b"%08d " % len(account.sent) + FILLER[:size]
        parts = [payload]
        if choose.random() < 0.2:
            cuts = sorted(choose.randint(0, len(payload)) for _ in range(choose.randint(1, 4)))
            parts = [payload[a:b] for a, b in pairwise([0, *cuts, len(payload)])]
        opcode = choose.choice((TEXT, BINARY))
        made = [
            frame(0 if n else opcode, part, final=n == len(parts) - 1, masked=masked)
            for n, part in enumerate(parts)
        ]
        account.sent.append(bytes([opcode]) + payload if masked else b"".join(made))
        if choose.random() < 0.1:
            self.pings += 1
            control = frame(choose.choice((PING, PONG)), b"%08d" % self.pings, masked=masked)
            made.insert(choose.randint(0, len(made)), control)
        return made

    async def send(self, peer: Peer, data: bytes) -> None:
        """Send bytes torn at any place, with turns of the event loop between the pieces."""
        cuts = sorted(self.random.randint(0, len(data)) for _ in range(self.random.randint(0, 6)))
        for start, end in pairwise([0, *cuts, len(data)]):
            peer.writer.write(data[start:end])
            if self.random.random() < 0.7:
                await asyncio.sleep(0)
        await peer.writer.drain()

    async def send_up(self, browser: Peer, count: int) -> None:
        """Send messages for the gateway."""
        made = [each for _ in range(count) for each in self.message(self.up, masked=True)]
        await self.send(browser, b"".join(made))

    async def fill_link(self, browser: Peer, gateway: Peer) -> None:
        """Send in both directions, for as long as this link is to last."""
        batches = self.random.randint(1, 2 * LINK_BATCHES)
        while batches > 0 or self.is_pausing:
            batches -= 1
            count = self.random.randint(1, BATCH)
            made = [each for _ in range(count) for each in self.message(self.down, masked=False)]
            await asyncio.gather(
                self.send(gateway, b"".join(made)), self.send_up(browser, count // UP_SHARE)
            )

    async def end_link(self, browser: Peer, gateway: Peer, reading: asyncio.Task[None]) -> bool:
        """End a link in one way or another; whether it was reset."""
        end = self.random.choice(COMPLETE + RESETS)
        if end in RESETS:
            await self.have_on_the_way(browser, gateway)
        last = [each for _ in range(20) for each in self.message(self.down, masked=False)]
        if end.startswith("half"):
            last += [frame(TEXT, b"half", final=False), frame(0, FILLER[:200])[:100]]
        elif end == "wrong":
            last.append(frame(3, b"?"))
        elif end == "close":
            last.append(frame(CLOSE))
        gateway.writer.write(b"".join(last))
        if end in RESETS:
            linger = struct.pack("ii", 1, 0)  # else the system sends what it has
            sock = gateway.writer.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            gateway.abort()
        elif end.endswith("eof"):
            gateway.writer.write_eof()
        await reading
        gateway.abort()
        return end in RESETS

    async def have_on_the_way(self, browser: Peer, gateway: Peer) -> None:
        """Send more than is read at once, in both directions, for a reset to throw it away."""
        gateway.writer.transport.pause_reading()  # type: ignore[attr-defined]
        for account, peer, count in ((self.down, gateway, 2_000), (self.up, browser, 30)):
            made = (self.message(account, masked=peer.masked) for _ in range(count))
            peer.writer.write(b"".join(each for frames in made for each in frames))
        for _ in range(self.random.randint(0, 12)):
            await asyncio.sleep(0)

    # -- what is seen ----------------------------------------------------------------------------

    async def read_browser(self, browser: Peer, connection: Any) -> None:
        """See what comes to the browser, and stop reading now and then."""
        buffer, message = bytearray(), b""
        while data := await browser.reader.read(1 << 16):
            buffer += data
            for first, payload, raw in frames_of(buffer):
                if first & 0x0F in (PING, PONG):
                    continue
                assert first & 0x0F != CLOSE, f"the browser was closed: {payload!r}"
                message += raw
                self.relayed += 1
                if first & 0x80:
                    self.see_down(message)
                    message = b""
            if self.random.random() < 0.01:
                await self.pause(browser, connection)

    def see_down(self, message: bytes) -> None:
        """Check a message for the browser; what a reset link had sent may be missing at its end."""
        account = self.down
        if account.seen < len(account.sent) and message != account.sent[account.seen]:
            for end, was_reset in self.ends:
                if end <= account.seen:
                    continue
                if not was_reset:
                    break
                account.skip_to(end)
                if message == account.sent[end]:
                    break
        account.see(message)

    async def pause(self, browser: Peer, connection: Any) -> None:
        """Read nothing until the gateway is not read either, or has nothing to send."""
        browser.writer.transport.pause_reading()  # type: ignore[attr-defined]
        self.is_pausing = True
        await wait_until_async(
            lambda: self.gateway_waits or (connection.ws is not None and connection.ws.paused),
            what="a pause of the link",
        )
        self.is_pausing = False
        self.pauses += connection.ws is not None and connection.ws.paused
        browser.writer.transport.resume_reading()  # type: ignore[attr-defined]

    async def read_gateway(self, gateway: Peer) -> None:
        """See what comes by one link; where the one before was reset, behind a gap."""
        buffer, pong = bytearray(), b""
        with suppress(ConnectionError):  # it is reset
            while data := await gateway.reader.read(1 << 16):
                buffer += data
                for first, payload, _ in frames_of(buffer):
                    if first & 0x0F == PONG:
                        assert payload > pong, "an answer to a ping came twice, or too late"
                        pong = payload
                    elif first & 0x0F in (TEXT, BINARY):
                        assert first & 0x80
                        if self.was_reset:
                            self.up.skip_to(int(payload[:8]))
                            self.was_reset = False
                        self.relayed += 1
                        self.up.see(bytes([first & 0x0F]) + payload)

    # -- all of it -------------------------------------------------------------------------------

    async def run(self, bench: RelayBench) -> None:
        """Let links come and go until enough frames were sent; all that is due must have come then."""
        browser, gateway = await bench.pair()
        (connection,) = bench.connections
        shrink(browser, connection)
        watching = asyncio.create_task(self.read_browser(browser, connection))
        while True:
            reading = asyncio.create_task(self.read_gateway(gateway))
            filling = asyncio.create_task(self.fill_link(browser, gateway))
            await asyncio.wait([filling, watching, reading], return_when=asyncio.FIRST_COMPLETED)
            for task in (watching, reading, filling):
                if task.done():
                    await task
            assert filling.done(), "a link has ended, or the browser was closed"
            self.gateway_waits = True
            if self.relayed >= FRAMES:
                break
            was_reset = await self.end_link(browser, gateway, reading)
            self.was_reset |= was_reset
            self.ends.append((len(self.down.sent), was_reset))
            await self.send_up(browser, self.random.randint(0, 30))  # while the gateway is away
            gateway = await bench.gateway.next()
            self.gateway_waits = False
        await wait_until_async(
            lambda: watching.done() or (self.down.is_complete and self.up.is_complete),
            what="the last messages",
        )
        assert connection.stats["outages"] == len(self.ends)
        browser.abort()
        gateway.abort()
        await asyncio.wait([watching, reading])


def shrink(browser: Peer, connection: Any) -> None:
    """Have what the operating system keeps for a browser that does not read be little."""
    connection.max_pending_bytes = SMALL_BUFFER
    sockets = (
        (browser.writer.get_extra_info("socket"), socket.SO_RCVBUF),
        (connection.websocket_handler.ws_connection.stream.socket, socket.SO_SNDBUF),
    )
    for sock, which in sockets:
        sock.setsockopt(socket.SOL_SOCKET, which, SMALL_BUFFER)


class TestMillionFrames:
    """What is relayed for a long time, whatever happens."""

    @pytest.mark.parametrize(("seed", "driver"), RUNS)
    def test_nothing_is_lost_doubled_or_reordered(
        self, seed: int, driver: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """But for what a reset connection had on its way, which nobody could deliver."""
        relay_by(driver, monkeypatch)
        traffic = Traffic(seed)

        async def body() -> None:
            async with relay_bench() as bench:
                await traffic.run(bench)

        run_to_end(body, timeout=200)
        assert traffic.down.is_complete
        assert traffic.up.is_complete
        assert traffic.relayed >= FRAMES
        assert traffic.pauses, "the browser has always read"
        assert any(was_reset for _, was_reset in traffic.ends), "no link was reset"
