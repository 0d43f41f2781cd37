"""Who wakes a stream's reader: one owner of each socket's wake-up, one pending read a stream."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest

from kernelwire.sockets.pacing import ACTIVITY, IOPUB, Pacing
from support.streams import Bench, Reader, bench, turns
from support.waiting import run_to_end, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.sockets.stream import KernelwireStream


def eager(**options: float) -> Pacing:
    """Pacing that begins with the second wake-up, polls every 5 ms, and does not end by itself."""
    defaults = {
        "busy": 0.005,
        "interval": 0.005,
        "longest": 0.005,
        "share": 1.0,
        "wakeups": 2,
        "window": 60.0,
        "patience": 10**6,
        "grace": -1.0,
    }
    return Pacing(**{**defaults, **options})  # type: ignore[arg-type]


async def paced(on: Bench, reader: Reader, pacing: Pacing) -> Any:
    """Have a stream paced; returns its pacer."""
    on.read_with(reader, pacing)
    pacer = pacing.pacer(on.loop)

    def is_paced() -> bool:
        on.send(0)
        return on.stream in pacer._paced

    await wait_until_async(is_paced, what="pacing")
    return pacer


def read_with_another(on: Bench) -> None:
    """Go live on a channel that is not paced, as shell does after the offline buffer."""
    reader = Reader()
    on.stream.on_ready(reader, reader.one)


WAYS_OUT: dict[str, Callable[[Bench], Any]] = {
    "unpaced reader": read_with_another,
    "callback": lambda on: on.stream.on_recv(lambda _: None),
    "close": lambda on: on.stream.close(),
    "unpaced, then close": lambda on: (read_with_another(on), on.stream.close()),
}


class TestPacerMembership:
    """A stream is polled by its pacer, or watched by the loop, and never both or neither."""

    @pytest.mark.parametrize("way", WAYS_OUT)
    def test_stream_that_leaves_is_forgotten(self, way: str) -> None:
        """A stream that leaves the pacer in any way is not polled any more."""

        async def body() -> None:
            with bench() as on:
                pacer = await paced(on, Reader(), eager())
                WAYS_OUT[way](on)
                assert on.stream not in pacer._paced
                assert pacer._by_descriptor == {}
                assert on.stream.closed() or on.is_watched()

        run_to_end(body)

    @pytest.mark.filterwarnings("ignore:Unregistering FD")
    def test_stream_of_a_reused_descriptor_is_read(self) -> None:
        """A stream gets its messages, though another's socket with its descriptor was paced."""

        async def body() -> None:
            with bench() as first:
                pacing = eager(patience=3)
                pacer = await paced(first, Reader(), pacing)
                # Closed by others: the stream cannot know.
                first.context.destroy(linger=0)
                benches = [Bench() for _ in range(12)]
                same = [on for on in benches if on.stream._fd == first.stream._fd]
                assert same, "no descriptor was used again"
                on, reader = same[0], Reader()
                on.read_with(reader, pacing)
                pacer._take(on.stream)
                pacer.release(first.stream)
                assert list(pacer._by_descriptor.values()) == [on.stream]
                on.send(7)
                await wait_until_async(lambda: 7 in reader.numbers, what="the message")
                await wait_until_async(lambda: len(pacer) == 0, what="the end of pacing")
                on.send(8)
                await wait_until_async(lambda: 8 in reader.numbers, what="the next message")
                assert not any(each.escaped for each in benches)
                for each in benches:
                    each.close()

        run_to_end(body)

    def test_calls_are_made_in_one_chain(self) -> None:
        """Calls that take long, and are requested again and again, run one slice a turn."""

        async def body() -> None:
            loop = asyncio.get_running_loop()
            pacer = eager(longest=0.0).pacer(loop)
            turn, called_in = [0], []

            def count_turns() -> None:
                turn[0] += 1
                loop.call_soon(count_turns)

            def call() -> None:
                called_in.append(turn[0])
                until = loop.time() + 0.0015
                while loop.time() < until:
                    pass
                pacer.later(call)

            count_turns()
            for _ in range(5):
                pacer.later(call)
                await asyncio.sleep(0.002)
            await wait_until_async(lambda: len(called_in) > 60, what="calls")
            recent = called_in[30:]
            assert len(set(recent)) == len(recent), "two slices in one turn"

        run_to_end(body)


class TestLoops:
    """Pacers do not outlive their event loop, nor keep it."""

    def test_closed_loops_are_freed(self) -> None:
        """A loop that is closed is collected, with its pacers and a stream that was paced."""
        pacing = eager()
        loops: list[weakref.ref[Any]] = []

        async def body() -> None:
            loop = asyncio.get_running_loop()
            loops.append(weakref.ref(loop))
            IOPUB.pacer(loop)
            ACTIVITY.pacer(loop)
            with bench() as on:
                await paced(on, Reader(), pacing)

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

    @pytest.mark.parametrize("is_paced", [True, False])
    def test_loop_turns_stay_short(self, is_paced: bool) -> None:
        """With more than can be read, each turn of the loop has one read, whoever asks."""

        async def body() -> None:
            with bench() as on:
                reader = Reader(at_most=1)
                pacing = eager(busy=0.0, interval=0.0, longest=0.0)
                on.send(*range(100))
                if is_paced:
                    pacer = await paced(on, reader, pacing)
                    assert on.stream in pacer._paced
                else:
                    on.read_with(reader)
                on.send(*range(2000))
                await turns(10)
                for _ in range(300):
                    # A wake-up, a request, something to send, a callback that is replaced.
                    on.stream._handle_events(None, 0)
                    on.stream.hurry()
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
    @pytest.mark.parametrize("state", ["scheduled", "woken", "paced", "callback", "sending"])
    def test_socket_closed_by_others_ends_the_stream(self, state: str) -> None:
        """A stream whose socket was closed behind its back is closed; nothing escapes."""

        async def body() -> None:
            with bench() as on:
                reader = Reader()
                pacer = None
                if state == "paced":
                    pacer = await paced(on, reader, eager())
                elif state == "callback":
                    on.stream.on_recv(lambda _: None)
                else:
                    on.read_with(reader)
                if state == "woken":
                    await turns()
                    on.stream.on_ready(reader, reader.one, eager(wakeups=1))
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
                assert pacer is None or len(pacer) == 0

        run_to_end(body)
