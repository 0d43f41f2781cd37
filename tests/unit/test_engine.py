"""What Python has to do with the engine: whose kernels it reads, what it tells, what it writes."""

from __future__ import annotations

import asyncio
import gc
import logging
import random
import socket
import struct
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import MagicMock, patch

import pytest
import zmq
import zmq.asyncio
from jupyter_client.session import Session
from jupyter_server.services.kernels.kernelmanager import ServerKernelManager
from tornado.ioloop import IOLoop
from tornado.iostream import IOStream, StreamClosedError

from kernelwire import _native
from kernelwire.kernels.source import subscription_to
from kernelwire.log.kernel_log import empty_log
from kernelwire.log.writers import BlockWriter, OutboxWriter, writer_for
from kernelwire.sockets import driver
from kernelwire.sockets.desk import APPENDED, Desk, desk_of
from kernelwire.sockets.outbox import Outbox, outbox_of
from kernelwire.sockets.subscription import Subscription, packed
from support.waiting import run_to_end, wait_until_async
from support.workbench import Lines

if TYPE_CHECKING:
    from collections.abc import Iterator


class TestDriver:
    """Who does the work, and why."""

    @pytest.fixture(autouse=True)
    def _asked_anew(self) -> Iterator[None]:
        driver._chosen.cache_clear()
        yield
        driver._chosen.cache_clear()

    def test_engine_is_the_default(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The engine is not switched off without anybody noticing."""
        monkeypatch.delenv(driver.ENVIRONMENT, raising=False)
        assert driver.driver() == (True, "it runs on a thread of its own")

    def test_environment_chooses_the_loop(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """There is a way back."""
        monkeypatch.setenv(driver.ENVIRONMENT, "LOOP")
        assert driver.driver() == (False, "KERNELWIRE_DRIVER=loop is set")

    def test_unknown_choice_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A slip of the pen is told of, with what it may be."""
        monkeypatch.setenv(driver.ENVIRONMENT, "threads")
        lines = Lines()
        logger = logging.Logger("driver")  # noqa: LOG001 (one of its own)
        logger.addHandler(lines)
        with patch("kernelwire.sockets.choice.get_logger", lambda: logger):
            assert driver.driver().engine
        (line,) = lines.lines
        assert "KERNELWIRE_DRIVER is 'threads'" in line
        assert "'loop'" in line

    def test_portable_receiving_has_no_engine(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Where libzmq cannot be called, the loop receives, and says why."""
        monkeypatch.delenv(driver.ENVIRONMENT, raising=False)
        with patch("kernelwire.sockets.driver.drain", lambda: (False, "it is not there")):
            expected = (False, "libzmq cannot be called natively: it is not there")
            assert driver.driver() == expected

    def test_engine_that_cannot_start_is_told_of(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A system without room for a thread still has a server."""
        monkeypatch.delenv(driver.ENVIRONMENT, raising=False)
        with (
            patch.dict(driver._engines, clear=True),
            patch.object(_native, "Engine", MagicMock(side_effect=RuntimeError("no more threads"))),
        ):
            assert driver.driver() == (False, "it could not be started: no more threads")


class TestSubscription:
    """Whose output the engine receives."""

    @contextmanager
    def kernel(self, cls: type[Any] = ServerKernelManager, **traits: Any) -> Iterator[Any]:
        """A kernel's manager, without a kernel."""
        context = zmq.asyncio.Context()
        kernel = cls(context=context, **{"ip": "127.0.0.1", "iopub_port": 1, **traits})
        try:
            yield kernel
        finally:
            context.term()

    def test_usual_kernel_is_received_by_the_engine(self) -> None:
        """Kernels of the server's own manager are not left to the loop."""

        async def body() -> None:
            with self.kernel() as kernel:
                assert subscription_to(kernel) is not None

        run_to_end(body)

    def test_kernel_that_connects_otherwise_is_left_to_the_loop(self) -> None:
        """Who has overridden how sockets are made, or signs in another way, gets what they made."""

        class Tunnelled(ServerKernelManager):
            def connect_iopub(self, identity: bytes | None = None) -> Any:
                return super().connect_iopub(identity)

        class Elsewhere(ServerKernelManager):
            def _make_url(self, channel: str) -> str:
                return f"tcp://example.org:1/{channel}"

        async def body() -> None:
            for cls in (Tunnelled, Elsewhere):
                with self.kernel(cls) as kernel:
                    assert subscription_to(kernel) is None
            with self.kernel(transport="ipc", ip="kernel") as kernel:
                assert subscription_to(kernel) is not None
            with self.kernel() as kernel:
                kernel.connect_iopub = MagicMock()
                assert subscription_to(kernel) is None
            with self.kernel() as kernel:
                kernel.session.signature_scheme = "hmac-sha512"
                assert subscription_to(kernel) is None
            with self.kernel() as kernel, patch.object(driver, "_chosen", lambda: "loop"):
                assert subscription_to(kernel) is None

        run_to_end(body)

    def test_loop_with_a_clock_of_its_own_receives_itself(self) -> None:
        """What goes by a scripted clock is not done by another."""

        async def body() -> None:
            loop: Any = IOLoop.current()
            with self.kernel() as kernel, patch.object(type(loop), "time", lambda _: 0.0):
                assert subscription_to(kernel) is None

        run_to_end(body)

    @pytest.mark.parametrize(
        ("option", "value", "expected"),
        [
            (zmq.RCVHWM, 0, struct.pack("i", 0)),
            (zmq.MAXMSGSIZE, 1 << 40, struct.pack("q", 1 << 40)),
            (zmq.SUBSCRIBE, b"", b""),
            (zmq.CURVE_PUBLICKEY, "key", b"key"),
        ],
    )
    def test_options_are_packed_as_libzmq_takes_them(
        self, option: int, value: Any, expected: bytes
    ) -> None:
        """An option of a context is one of the engine's socket."""
        assert packed(option, value) == expected


class Told:
    """A log that the engine appends to, and what it was told."""

    watch = None

    def __init__(self) -> None:
        self.native = empty_log()
        self.bits: list[int] = []
        self.has_finished = False

    def finish(self, stream: Any) -> None:
        """Note it."""
        self.has_finished = not stream.closed()

    def told(self, bits: int) -> bool:
        """Note it."""
        self.bits.append(bits)
        return False

    @property
    def received(self) -> int:
        """How many messages have come."""
        return self.native.counts()[1]


class TestReceiving:
    """What a kernel publishes is appended by the engine."""

    @pytest.mark.parametrize("is_encrypted", [False, True])
    def test_messages_are_appended_and_served(self, is_encrypted: bool) -> None:
        """Also those of a kernel with CURVE keys; the event loop hears of them where it reads."""
        if is_encrypted and not zmq.has("curve"):
            pytest.skip("this libzmq has no CURVE")
        public, secret = zmq.curve_keypair()

        async def body() -> None:
            with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
                options: dict[int, Any] = {zmq.RCVHWM: 0, zmq.SUBSCRIBE: b""}
                if is_encrypted:
                    publisher.curve_server = True
                    publisher.curve_secretkey = secret
                    keys = {zmq.CURVE_PUBLICKEY: public, zmq.CURVE_SERVERKEY: public}
                    options |= {zmq.CURVE_SECRETKEY: secret, **keys}
                port = publisher.bind_to_random_port("tcp://127.0.0.1")
                log = Told()
                source = Subscription(IOLoop.current(), f"tcp://127.0.0.1:{port}", options)
                source.begin(log)
                await wait_until_async(lambda: publisher.poll(0), what="the subscription")
                session = Session(key=b"")
                for _ in range(100):
                    publisher.send_multipart(session.serialize(session.msg("stream", {})))
                await wait_until_async(lambda: log.received == 100, what="all messages")
                assert log.bits == []
                log.native.set_served(1, False)
                publisher.send_multipart(session.serialize(session.msg("stream", {})))
                await wait_until_async(lambda: log.bits == [APPENDED], what="word of it")
                assert not log.has_finished
                source.flush()
                assert log.has_finished
                source.close()
                source.close()
                assert source.closed()
                assert not source.flush()

        run_to_end(body)

    def test_messages_that_are_no_messages_are_told_of(self) -> None:
        """Whoever publishes rubbish does not do so unnoticed where no watcher follows."""

        async def body() -> None:
            with zmq.Context() as context, context.socket(zmq.XPUB) as publisher:
                port = publisher.bind_to_random_port("tcp://127.0.0.1")
                log = Told()
                source = Subscription(
                    IOLoop.current(), f"tcp://127.0.0.1:{port}", {zmq.SUBSCRIBE: b""}
                )
                source.begin(log)
                await wait_until_async(lambda: publisher.poll(0), what="the subscription")
                publisher.send_multipart([b"rubbish"])
                await wait_until_async(lambda: log.bits == [APPENDED], what="word of it")
                assert "delimiter" in str(log.native.take_refused())
                assert log.native.take_refused() is None
                source.close()

        run_to_end(body)

    def test_place_that_is_none_is_refused(self) -> None:
        """What libzmq says of an address is raised where it is given."""

        async def body() -> None:
            source = Subscription(IOLoop.current(), "nowhere", {zmq.SUBSCRIBE: b""})
            with pytest.raises(OSError, match="libzmq reports error"):
                source.begin(Told())

        run_to_end(body)


class TestDesk:
    """Who is called with what the engine tells."""

    def test_callbacks_have_their_turns(self) -> None:
        """Who has more to do comes again; who fails, or is gone, ends nothing."""
        calls: list[tuple[str, int]] = []

        class Called:
            def __init__(self, name: str) -> None:
                self.name = name

            def told(self, bits: int) -> bool:
                calls.append((self.name, bits))
                if self.name == "failing":
                    raise ValueError("no")
                return self.name == "busy" and len(calls) < 6

        async def body() -> None:
            native = MagicMock()
            reading, writing = socket.socketpair()
            native.fileno.return_value = reading.fileno()
            loop = asyncio.get_running_loop()
            desk = Desk(native, loop)
            objects = [Called(name) for name in ("failing", "busy", "gone")]
            tokens = [desk.open(each.told) for each in objects]
            native.take.return_value = [(token, APPENDED) for token in (*tokens, 99)]
            del objects[2]
            gc.collect()
            with patch("kernelwire.sockets.desk.gen_log"):
                desk._woken()
            await wait_until_async(lambda: len(calls) >= 6, what="all turns")
            assert calls[0] == ("failing", APPENDED)
            assert set(calls[1:]) == {("busy", APPENDED)}
            desk.close(tokens[1])
            native.take.return_value = [(tokens[1], APPENDED)]
            desk._woken()
            assert len(calls) == 6
            loop.remove_reader(reading.fileno())
            reading.close()
            writing.close()

        run_to_end(body)

    def test_each_loop_has_one(self) -> None:
        """Two loops in one process are told apart."""
        desks = []

        async def body() -> None:
            loop = asyncio.get_running_loop()
            assert desk_of(loop) is desk_of(loop)
            desks.append(desk_of(loop))

        run_to_end(body)
        run_to_end(body)
        assert desks[0] is not desks[1]


@contextmanager
def stream_pair() -> Iterator[tuple[IOStream, socket.socket]]:
    """A stream whose socket takes little, and its other end."""
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    theirs.setblocking(False)
    stream = IOStream(ours)
    try:
        yield stream, theirs
    finally:
        stream.close()
        theirs.close()


def frame(number: int, size: int = 100) -> bytes:
    """A websocket frame that has its number throughout."""
    return b"\x82\x7e" + struct.pack("!H", size) + bytes([number]) * size


def received(theirs: socket.socket) -> bytes:
    """Everything that has arrived."""
    data = b""
    try:
        while more := theirs.recv(1 << 16):
            data += more
    except BlockingIOError:
        pass
    return data


class TestOutbox:
    """What tornado writes goes through one writer, and tornado cannot tell."""

    def test_frames_are_sent_at_once_and_futures_are_done(self) -> None:
        """A reply on an idle connection leaves in the call that writes it."""

        async def body() -> None:
            with stream_pair() as (stream, theirs):
                Outbox(stream)
                futures = [stream.write(frame(number)) for number in range(5)]
                assert received(theirs) == b"".join(frame(number) for number in range(5))
                assert all(future.done() for future in futures)
                assert not outbox_of(stream).unsent()  # type: ignore[union-attr]

        run_to_end(body)

    def test_frames_wait_for_room_and_futures_with_them(self) -> None:
        """A slow client gets everything, in order, and who awaits a write waits for it."""

        async def body() -> None:
            with stream_pair() as (stream, theirs):
                Outbox(stream)
                frames = [frame(number, 60_000) for number in range(10)]
                futures = [stream.write(each) for each in frames]
                assert not futures[-1].done()
                data = b""

                def has_all() -> bool:
                    nonlocal data
                    data += received(theirs)
                    return len(data) == sum(map(len, frames))

                await wait_until_async(has_all, what="all frames")
                assert data == b"".join(frames)
                await asyncio.gather(*futures)

        run_to_end(body)

    def test_large_frames_are_lent_and_given_back(self) -> None:
        """What waits of a large frame is not there twice, and no longer than it has to be."""

        async def body() -> None:
            with stream_pair() as (stream, theirs):
                Outbox(stream)
                # As frames begin: behind one that closes, nothing would follow.
                large, begun = (b"\x82" + random.randbytes(size << 20) for size in (8, 16))
                references = sys.getrefcount(large)
                stream.write(begun)
                future = stream.write(large)
                assert sys.getrefcount(large) == references + 1
                arrived = bytearray()

                def has_all() -> bool:
                    arrived.extend(received(theirs))
                    return len(arrived) == len(begun) + len(large)

                await wait_until_async(has_all, what="both frames")
                await future
                assert sys.getrefcount(large) == references
                assert arrived == begun + large

        run_to_end(body)

    def test_what_is_lent_is_given_back_when_the_stream_is_closed(self) -> None:
        """A client that goes leaves nothing behind."""

        async def body() -> None:
            with stream_pair() as (stream, _):
                Outbox(stream)
                large = random.randbytes(8 << 20)
                references = sys.getrefcount(large)
                stream.write(bytes(16 << 20))
                future = stream.write(large)
                stream.close()
                with pytest.raises(StreamClosedError):
                    await future
                assert sys.getrefcount(large) == references

        run_to_end(body)

    def test_what_may_change_or_call_back_is_copied(self) -> None:
        """A buffer that is used again, or whose finalizer runs Python code, is not lent."""

        class Calling(bytes):
            def __del__(self) -> None:
                raise AssertionError

        async def body() -> None:
            with stream_pair() as (stream, theirs):
                Outbox(stream)
                begun = bytes(4 << 20)
                changing, calling = bytearray(b"a" * (1 << 20)), Calling(b"b" * (1 << 20))
                stream.write(begun)
                references = sys.getrefcount(calling)
                futures = [stream.write(memoryview(changing)), stream.write(calling)]
                assert sys.getrefcount(calling) == references
                changing[:] = b"?" * len(changing)
                arrived = bytearray()

                def has_all() -> bool:
                    arrived.extend(received(theirs))
                    return len(arrived) == len(begun) + (2 << 20)

                await wait_until_async(has_all, what="all frames")
                await asyncio.gather(*futures)
                assert arrived[len(begun) :] == b"a" * (1 << 20) + b"b" * (1 << 20)
                with patch.object(Calling, "__del__", lambda _: None):
                    del calling

        run_to_end(body)

    def test_futures_fail_when_the_stream_is_closed(self) -> None:
        """Who awaits what will never be sent is told, as by tornado; nothing is sent any more."""

        async def body() -> None:
            with stream_pair() as (stream, theirs):
                outbox = Outbox(stream)
                futures = [stream.write(frame(number, 60_000)) for number in range(10)]
                stream.close()
                with pytest.raises(StreamClosedError):
                    await futures[-1]
                with pytest.raises(StreamClosedError):
                    stream.write(frame(1))
                arrived = received(theirs)
                assert len(arrived) < 10 * 60_000
                assert outbox.unsent() == 0
                assert theirs.recv(1) == b""  # the end of the stream

        run_to_end(body)

    def test_stream_that_nobody_closes_is_freed(self) -> None:
        """A descriptor that is used again is not written to by who had it before."""

        async def body() -> None:
            ours, theirs = socket.socketpair()
            theirs.setblocking(False)
            stream = IOStream(ours)
            Outbox(stream)
            stream.write(frame(1))
            stream.io_loop.remove_handler(stream.fileno())
            del stream, ours
            with pytest.warns(ResourceWarning):
                gc.collect()
            assert received(theirs) == frame(1)
            assert theirs.recv(1) == b""
            theirs.close()

        run_to_end(body)

    def test_writer_is_chosen_by_what_the_websocket_is(self) -> None:
        """The engine writes to plain websockets with nothing before it, and to no others."""
        from tornado.websocket import (  # noqa: PLC0415 (beside what it is for)
            WebSocketHandler,
            WebSocketProtocol13,
        )

        def handler_of(stream: IOStream) -> Any:
            handler = WebSocketHandler(MagicMock(), MagicMock())
            params = MagicMock(compression_options=None)
            handler.ws_connection = WebSocketProtocol13(handler, False, params)
            handler.ws_connection.stream = stream
            return handler

        async def body() -> None:
            def chosen(stream: IOStream, *, by_engine: bool = True) -> type[Any]:
                return type(writer_for(handler_of(stream), lambda: None, by_engine=by_engine))

            with stream_pair() as (stream, _):
                assert chosen(stream, by_engine=False) is BlockWriter
                assert chosen(stream) is OutboxWriter
                assert chosen(stream) is OutboxWriter  # and once more for its next client
            with stream_pair() as (stream, _):
                stream.write(bytes(1 << 20))
                assert chosen(stream) is BlockWriter  # something waits before it
            with stream_pair() as (stream, _):
                stream.write = MagicMock()  # type: ignore[method-assign]
                assert chosen(stream) is BlockWriter  # somebody else has had the same idea

        run_to_end(body)
