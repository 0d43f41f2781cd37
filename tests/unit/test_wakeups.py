"""Who wakes a stream's reader: one owner of each socket's wake-up, one pending read a stream."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from kernelwire.sockets.desk import desk_of
from kernelwire.sockets.turns import read_queue
from support.streams import Reader, bench, turns
from support.waiting import run_to_end, wait_until_async

if TYPE_CHECKING:
    from kernelwire.sockets.stream import KernelwireStream


class TestLoops:
    """What belongs to an event loop does not outlive it, nor keep it."""

    def test_closed_loops_are_freed(self) -> None:
        """A loop that is closed is collected, with its queue of reads, its desk and a stream."""
        loops: list[weakref.ref[Any]] = []

        async def body() -> None:
            loop = asyncio.get_running_loop()
            loops.append(weakref.ref(loop))
            read_queue(loop)
            desk_of(loop)
            with bench() as on:
                on.read_with(Reader(at_most=1))
                on.send(1, 2, 3)
                await turns(2)

        for _ in range(3):
            run_to_end(body)
        # Tornado forgets closed loops when it meets a new one.
        run_to_end(lambda: asyncio.sleep(0))
        asyncio.run(use_tornado())
        gc.collect()
        assert [ref() for ref in loops] == [None] * 3


async def use_tornado() -> None:
    """Have tornado meet an event loop."""
    with bench():
        pass


class TestPendingReads:
    """However many ask for a read, one is scheduled."""

    def test_loop_turns_stay_short(self) -> None:
        """With more than can be read, each turn of the loop has one read, whoever asks."""

        async def body() -> None:
            with bench() as on:
                reader = Reader(at_most=1)
                on.send(*range(100))
                on.read_with(reader)
                on.send(*range(2000))
                await turns(10)
                for _ in range(300):
                    # A wake-up, a request, something to send, a callback that is replaced.
                    on.stream._handle_events(None, 0)
                    on.stream._send_now([b"1"], 0, True, False)
                    calls = reader.calls
                    await asyncio.sleep(0)
                    assert reader.calls - calls <= 1

        run_to_end(body)

    def test_new_readers_do_not_add_reads(self) -> None:
        """A stream whose reader is replaced in a flood still has one read a turn."""

        async def body() -> None:
            with bench() as on:
                reader = Reader(at_most=1)
                on.send(*range(500))
                for _ in range(20):
                    on.read_with(reader)
                    await asyncio.sleep(0)
                calls = reader.calls
                await asyncio.sleep(0)
                assert reader.calls - calls == 1

        run_to_end(body)


class TestReentrancy:
    """A reader that is running is not called again before it has returned."""

    @pytest.mark.parametrize("ask", ["read", "read_once", "flush", "_handle_events"])
    def test_read_requested_meanwhile_comes_after(self, ask: str) -> None:
        """What is received later is passed on later, and without another wake-up."""

        async def body() -> None:
            with bench() as on:
                running, got = [0], []
                arguments = (None, 0) if ask == "_handle_events" else ()

                def reader(stream: KernelwireStream) -> bool:
                    assert running[0] == 0, "called while it runs"
                    running[0] += 1
                    while stream.socket.poll(0):
                        got.append(int(stream.socket.recv()))
                        if got[-1] == 1:
                            on.send(2)
                            getattr(stream, ask)(*arguments)
                            got.append(-1)
                            break
                    running[0] -= 1
                    return False

                on.stream.on_ready(reader, lambda *_: None)
                await turns()
                on.send(1)
                on.stream.read()
                assert got == [1, -1]
                await wait_until_async(lambda: got == [1, -1, 2], what="the second message")
                assert on.log.lines == []

        run_to_end(body)

    def test_flush_leaves_what_a_running_reader_holds(self) -> None:
        """What a reader holds back is not passed on in the middle of its call."""

        async def body() -> None:
            with bench() as on:

                class Holding(Reader):
                    running = False

                    def __init__(self) -> None:
                        super().__init__()
                        self.finished: list[bool] = []

                    def __call__(self, stream: KernelwireStream) -> bool:
                        more = super().__call__(stream)
                        if len(self.messages) == 1:
                            self.running = True
                            stream.flush()
                            self.messages.append(b"2")
                            self.running = False
                        return more

                    def finish(self, _stream: KernelwireStream) -> None:
                        self.finished.append(self.running)

                reader = Holding()
                on.read_with(reader)
                on.send(1)
                on.stream.flush()
                assert reader.finished == [False]
                assert reader.numbers == [1, 2]

        run_to_end(body)


class TestFailures:
    """Whatever is raised, or closed, nothing escapes and nothing is lost."""

    @pytest.mark.parametrize("where", ["reader", "callback"])
    def test_cancelled_error_ends_nothing(self, where: str) -> None:
        """A future's cancellation, raised from a callback, is a failure like any other."""

        async def body() -> None:
            with bench() as on:
                reader, got = Reader(), []
                error = asyncio.CancelledError()

                def fail(frames: list[bytes]) -> None:
                    got.extend(frames)
                    raise error

                if where == "callback":
                    on.stream.on_recv(fail)
                else:
                    on.read_with(reader)
                if where == "reader":
                    reader.error = error  # type: ignore[assignment]
                for number in range(4):
                    on.send(number)
                    await turns(10)
                everything = got + reader.messages + reader.one_by_one
                assert [int(each) for each in everything] == [0, 1, 2, 3]

        run_to_end(body)

    @pytest.mark.filterwarnings("ignore:Unregistering FD")
    @pytest.mark.parametrize("state", ["scheduled", "woken", "callback", "sending"])
    def test_socket_closed_by_others_ends_the_stream(self, state: str) -> None:
        """A stream whose socket was closed behind its back is closed; nothing escapes."""

        async def body() -> None:
            with bench() as on:
                reader = Reader()
                if state == "callback":
                    on.stream.on_recv(lambda _: None)
                else:
                    on.read_with(reader)
                if state == "woken":
                    await turns()
                    on.stream.on_ready(reader, reader.one)
                    await turns()
                    on.send(1)
                on.context.destroy(linger=0)
                if state == "woken":
                    on.stream._handle_events(None, 1)
                if state == "callback":
                    on.stream._handle_events(None, 1)
                if state == "sending":
                    with pytest.raises(OSError, match="Stream is closed"):  # as upstream's
                        on.stream.send_multipart([b"1"])
                await wait_until_async(lambda: on.stream.socket is None, what="the end")

        run_to_end(body)
