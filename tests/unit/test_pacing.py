"""Fewer wake-ups where much comes: streams go into pacing and out of it, and nothing is left."""

from __future__ import annotations

import asyncio
import gc
import weakref
from contextlib import ExitStack
from itertools import count
from typing import TYPE_CHECKING

import psutil
import pytest

from kernelwire.sockets.pacing import ACTIVITY, FEW, IOPUB, Pacer, Pacing
from support.streams import Bench, Reader, bench, turns
from support.waiting import run_to_end, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.sockets.stream import KernelwireStream


def eager(**options: float) -> Pacing:
    """Pacing that begins with the second wake-up, and looks every 5 ms."""
    defaults = {
        "busy": 0.005,
        "interval": 0.005,
        "longest": 0.005,
        "share": 1.0,
        "wakeups": 2,
        "window": 60.0,
        "patience": 3,
        "grace": -1.0,
    }
    return Pacing(**{**defaults, **options})  # type: ignore[arg-type]


async def until_paced(on: Bench, pacing: Pacing, among: int = 1) -> None:
    """Wake the loop until the stream is paced."""
    pacer = pacing.pacer(on.loop)

    def is_paced() -> bool:
        if len(pacer) < among:
            on.send(0)
        return len(pacer) >= among

    await wait_until_async(is_paced, what="pacing")


def test_burst_when_it_comes_then_the_stream_is_paced_and_everything_is_read() -> None:
    """Stops a flood from costing a wake-up a message, and pacing from leaving messages."""

    async def body() -> None:
        with bench() as on:
            pacing, reader = eager(), Reader()
            on.read_with(reader, pacing)
            await until_paced(on, pacing)
            assert not on.is_watched()
            reader.messages.clear()
            calls = reader.calls
            on.send(*range(1000))
            await wait_until_async(lambda: len(reader.messages) >= 1000, what="the burst")
            assert reader.numbers[-1000:] == list(range(1000))
            assert reader.calls - calls < 100

    run_to_end(body)


def test_single_messages_when_they_are_rare_then_the_stream_is_never_paced() -> None:
    """Stops the answer to a keystroke from waiting for the next look."""

    async def body() -> None:
        with bench() as on:
            pacing, reader = eager(window=-1.0), Reader()
            on.read_with(reader, pacing)
            for number in range(50):
                on.send(number)
                await wait_until_async(
                    lambda number=number: len(reader.messages) > number, what=str(number)
                )
                assert len(pacing.pacer(on.loop)) == 0
            assert on.is_watched()

    run_to_end(body)


def test_hurry_when_a_stream_is_paced_then_it_is_read_at_once_and_watched_again() -> None:
    """Stops a user who has pressed a key from waiting for a look of the pacer's."""

    async def body() -> None:
        with bench() as on:
            pacing, reader = eager(busy=30.0, interval=30.0, grace=3600.0), Reader()
            on.read_with(reader, pacing)
            on.stream.hurried = -1e9
            await until_paced(on, pacing)
            on.send(7)
            await turns()
            assert 7 not in reader.numbers
            on.stream.hurry()
            assert reader.numbers[-1] == 7
            assert on.is_watched()
            for number in range(8, 30):
                on.send(number)
                await wait_until_async(
                    lambda number=number: reader.numbers[-1] == number, what="the next at once"
                )
            assert len(pacing.pacer(on.loop)) == 0

    run_to_end(body)


def test_event_when_a_stream_is_paced_already_then_it_stays_so_and_nothing_is_raised() -> None:
    """Stops what upstream has scheduled before from raising in a callback of the event loop."""

    async def body() -> None:
        with bench() as on:
            pacing, reader = eager(), Reader()
            on.read_with(reader, pacing)
            await until_paced(on, pacing)
            on.send(7)
            on.stream._handle_events(None, 0)
            assert reader.numbers[-1] == 7
            assert not on.is_watched()
            on.send(8)
            await wait_until_async(lambda: reader.numbers[-1] == 8, what="the next look")

    run_to_end(body)


def test_hurry_when_a_stream_is_not_paced_then_nothing_is_read_twice() -> None:
    """Stops a request from making the server read when there is nothing to read."""

    async def body() -> None:
        with bench() as on:
            reader = Reader()
            on.read_with(reader, eager(wakeups=1000))
            await turns()
            calls = reader.calls
            on.stream.hurry()
            assert reader.calls == calls

    run_to_end(body)


def test_stream_when_it_falls_quiet_then_it_wakes_the_loop_itself_again() -> None:
    """Stops an idle server from looking at idle kernels for ever, hundreds of times a second."""

    async def body() -> None:
        with bench() as on:
            pacing, reader = eager(), Reader()
            pacer = pacing.pacer(on.loop)
            on.read_with(reader, pacing)
            await until_paced(on, pacing)
            await wait_until_async(lambda: len(pacer) == 0, what="the end of pacing")
            await wait_until_async(lambda: not pacer._waiting, what="the last look")
            assert on.is_watched()
            on.send(5)
            await wait_until_async(lambda: reader.numbers[-1] == 5, what="the next message")

    run_to_end(body)


def test_stream_when_it_is_released_while_a_message_comes_then_it_is_read() -> None:
    """Stops a message that came between the last look and watching from staying for ever."""

    async def body() -> None:
        with bench() as on:
            pacing, reader = eager(), Reader()
            pacer = pacing.pacer(on.loop)
            on.read_with(reader, pacing)
            watch = on.stream.watch

            def late_watch() -> None:
                on.send(99)
                watch()

            on.stream.watch = late_watch
            await until_paced(on, pacing)
            await wait_until_async(lambda: 99 in reader.numbers, what="the late message")
            assert len(pacer) <= 1

    run_to_end(body)


@pytest.mark.parametrize("streams", [1, FEW, FEW + 1, 4 * FEW])
def test_streams_when_many_are_paced_then_each_gets_all_of_its_own_in_order(streams: int) -> None:
    """Stops one kernel's flood from hiding another's output."""

    async def body() -> None:
        with ExitStack() as stack:
            pacing = eager()
            benches = [stack.enter_context(bench()) for _ in range(streams)]
            readers = [Reader(at_most=7) for _ in benches]
            for on, reader in zip(benches, readers, strict=True):
                on.read_with(reader, pacing)
            for first in range(0, 600, 3):
                for on in benches:
                    on.send(*range(first, first + 3))
                await asyncio.sleep(0.001 if first % 30 == 0 else 0)
            await wait_until_async(
                lambda: all(len(reader.messages) == 600 for reader in readers), what="all of it"
            )
            assert all(reader.numbers == list(range(600)) for reader in readers)

    run_to_end(body)


def descriptors() -> int:
    """The file descriptors that this process holds."""
    return psutil.Process().num_fds()


def test_close_when_a_stream_is_paced_then_nothing_is_left_of_it() -> None:
    """Stops closed tabs from leaving descriptors and streams with the pacer."""

    async def body() -> None:
        pacing = eager()
        pacer = pacing.pacer(asyncio.get_running_loop())
        counts = []
        for _ in range(8):
            with bench() as on:
                on.read_with(Reader(), pacing)
                await until_paced(on, pacing)
                closed = weakref.ref(on.stream)
                on.stream.close()
                assert len(pacer) == 0
                assert pacer._by_descriptor == {}
                assert pacer._poll.poll(0) == []
            del on
            await wait_until_async(lambda: not pacer._waiting, what="the last look")
            counts.append(descriptors())
            gc.collect()
            assert closed() is None
        assert counts[-1] == counts[1]

    run_to_end(body)


def test_close_when_another_stream_is_being_read_then_the_look_goes_on() -> None:
    """Stops one tab's end, in the middle of a look, from losing the other tabs' turn."""

    async def body() -> None:
        with bench() as first, bench() as second:
            pacing = eager(wakeups=1, patience=10**6)
            reader = Reader()

            def closing(stream: object) -> bool:
                del stream
                if len(pacing.pacer(first.loop)) == 2 and not second.stream.closed():
                    second.stream.close()
                return reader(first.stream)

            first.stream.on_ready(closing, reader.one, pacing)
            second.read_with(Reader(), pacing)

            def is_closed() -> bool:
                if second.stream.closed():
                    return True
                first.send(0)
                second.send(0)
                return False

            await wait_until_async(is_closed, what="the end of the second")
            first.send(1, 2, 3)
            await wait_until_async(lambda: reader.numbers[-3:] == [1, 2, 3], what="the rest")

    run_to_end(body)


def test_on_recv_when_a_stream_is_paced_then_it_is_watched_again_and_nothing_is_lost() -> None:
    """Stops buffering, which takes a stream over, from starting deaf."""

    async def body() -> None:
        with bench() as on:
            pacing, reader = eager(busy=30.0, interval=30.0), Reader()
            on.read_with(reader, pacing)
            await until_paced(on, pacing)
            on.send(1, 2, 3)
            got: list[bytes] = []
            on.stream.on_recv(got.extend)
            await wait_until_async(lambda: got[-3:] == [b"1", b"2", b"3"], what="what waited")
            assert len(pacing.pacer(on.loop)) == 0

    run_to_end(body)


def test_reader_when_it_raises_while_paced_then_the_others_are_still_looked_after() -> None:
    """Stops one broken connection from making all other tabs on the server deaf."""

    async def body() -> None:
        with bench() as broken, bench() as sound:
            pacing = eager(patience=10**6)
            bad, good = Reader(), Reader()
            broken.read_with(bad, pacing)
            sound.read_with(good, pacing)
            await until_paced(broken, pacing)
            await until_paced(sound, pacing, among=2)
            bad.error = RuntimeError("broken")
            broken.send(1)
            sound.send(2)
            await wait_until_async(lambda: bad.one_by_one == [b"1"], what="the broken one's")
            await wait_until_async(lambda: good.numbers[-1] == 2, what="the sound one's")
            assert len(broken.log.lines) == 1

    run_to_end(body)


def test_pacer_when_loops_differ_then_each_has_its_own() -> None:
    """Stops streams of one event loop from being looked after by another, which may be closed."""
    pacing = eager()

    async def its_pacer() -> int:
        with bench() as on:
            on.read_with(Reader(), pacing)
            await until_paced(on, pacing)
            return id(pacing.pacer(on.loop))

    assert run_to_end(its_pacer) != 0
    assert run_to_end(its_pacer) != 0


def test_message_when_a_paced_stream_sends_more_than_fits_then_the_rest_goes_too() -> None:
    """Stops what waits to be sent from waiting for a wake-up that pacing has switched off."""

    async def body() -> None:
        with bench(hwm=5) as on:
            pacing, reader = eager(patience=10**6), Reader()
            on.read_with(reader, pacing)
            await until_paced(on, pacing)
            for number in range(50):
                on.stream.send_multipart([str(number).encode()])
            got: list[int] = []

            def is_all_there() -> bool:
                got.extend(on.received())
                return len(got) == 50

            await wait_until_async(is_all_there, what="everything", timeout=5)
            assert got == list(range(50))

    run_to_end(body)


def test_look_when_many_streams_have_much_then_others_get_their_turn_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops fifty printing kernels from keeping a request waiting for all of them."""
    monkeypatch.setattr("kernelwire.sockets.pacing.SLICE_SECONDS", -1.0)

    async def body() -> None:
        with ExitStack() as stack:
            benches = [stack.enter_context(bench()) for _ in range(FEW + 2)]
            pacing, turn, read_in = eager(patience=10**6), [0], []

            def count_turns() -> None:
                turn[0] += 1
                benches[0].loop.call_soon(count_turns)

            class Noting(Reader):
                def __call__(self, stream: KernelwireStream) -> bool:
                    before = len(self.messages)
                    more = super().__call__(stream)
                    if len(self.messages) > before:
                        read_in.append(turn[0])
                    return more

            readers = [Noting() for _ in benches]
            for on, reader in zip(benches, readers, strict=True):
                on.read_with(reader, pacing)
            for number, on in enumerate(benches):
                await until_paced(on, pacing, number + 1)
            read_in.clear()
            count_turns()
            for on in benches:
                on.send(7)
            await wait_until_async(lambda: len(read_in) >= len(benches), what="all of them")
            assert len(set(read_in)) == len(read_in)

    run_to_end(body)


class ScriptedLoop:
    """An event loop that does nothing by itself, and whose time is told."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.soon: list[Callable[[], object]] = []
        self.timers: list[tuple[float, Callable[[], object]]] = []
        monkeypatch.setattr("kernelwire.sockets.pacing.monotonic", lambda: self.now)

    def call_soon(self, call: Callable[..., object], *arguments: object) -> None:
        """Note a call for the next turn."""
        self.soon.append(lambda: call(*arguments))

    def call_later(self, delay: float, call: Callable[[], object]) -> None:
        """Note a call for later."""
        self.timers.append((delay, call))

    def turn(self) -> None:
        """Call what is due now, or else the timer that was set first."""
        if self.soon:
            self.soon.pop(0)()
        else:
            delay, call = self.timers.pop(0)
            self.now += delay
            call()


class ScriptedStream:
    """A stream each of whose reads takes some time, and may leave something."""

    hurried = 0.0
    _descriptors = count()

    def __init__(self, loop: ScriptedLoop, seconds: float, *, more: bool = False) -> None:
        self.loop, self.seconds, self.more = loop, seconds, more
        self.reads = 0
        self._fd = next(self._descriptors)

    def read(self) -> bool:
        """Read."""
        self.loop.now += self.seconds
        self.reads += 1
        return self.more

    def unwatch(self) -> None:
        """Do nothing."""


def paced(loop: ScriptedLoop, *streams: ScriptedStream, pacing: Pacing = IOPUB) -> Pacer:
    """Return a pacer that looks after the streams already."""
    pacer = Pacer(loop, pacing)
    for stream in streams:
        pacer._take(stream)  # type: ignore[arg-type]
    return pacer


@pytest.mark.parametrize(
    ("seconds", "next_look"),
    [
        ([0.0], 0.006),
        ([0.00003], 0.006),
        ([0.00010], 0.010),
        ([0.00012], 0.012),
        ([0.00024], 0.016),
        ([0.00026], 0.006),
        ([0.00200], 0.006),
        ([0.00003] * 50, 0.016),
        ([0.00030] + [0.00003] * 20, 0.016),
        ([0.00030] * 3, 0.006),
    ],
    ids=lambda value: str(len(value)) if isinstance(value, list) else None,
)
def test_looks_when_they_take_long_then_they_are_fewer_but_never_rarer_than_a_screens_frames(
    seconds: list[float], next_look: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops paced output from taking much of a slow machine's loop; a fast one needs no waiting.

    A flood, whose messages are what takes the time, is not throttled.
    """
    monkeypatch.setattr("kernelwire.sockets.pacing.FEW", 50)
    loop = ScriptedLoop(monkeypatch)
    paced(loop, *(ScriptedStream(loop, each) for each in seconds))
    for _ in range(3):
        loop.turn()
        while loop.soon:
            loop.turn()
        assert [delay for delay, _ in loop.timers] == [pytest.approx(next_look)]


def test_look_when_it_is_done_in_slices_then_all_of_them_count(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops a look at fifty kernels from being taken for the short piece it ended with."""
    monkeypatch.setattr("kernelwire.sockets.pacing.SLICE_SECONDS", 0.00005)
    loop = ScriptedLoop(monkeypatch)
    streams = [ScriptedStream(loop, 0.00006) for _ in range(2)]
    paced(loop, *streams)
    loop.turn()
    while loop.soon:
        loop.turn()
    assert [stream.reads for stream in streams] == [1, 1]
    assert [delay for delay, _ in loop.timers] == [pytest.approx(0.012)]


def test_look_when_it_leaves_something_then_the_next_is_not_put_off(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops large messages, few of which fill a look, from being throttled."""
    loop = ScriptedLoop(monkeypatch)
    flood = ScriptedStream(loop, 0.0002, more=True)
    paced(loop, ScriptedStream(loop, 0.0), flood)
    loop.turn()
    assert loop.timers[0][0] == IOPUB.interval
    flood.more = False
    loop.turn()
    assert loop.timers[0][0] == IOPUB.longest


def test_watching_when_a_kernel_floods_then_looks_are_near_each_other_until_it_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops a quarter of a second of a flood, which may be gigabytes, from waiting in memory."""
    loop = ScriptedLoop(monkeypatch)
    flood = ScriptedStream(loop, 0.0005, more=True)
    paced(loop, flood, pacing=ACTIVITY)
    for _ in range(3):
        assert [delay for delay, _ in loop.timers] == [ACTIVITY.busy]
        loop.turn()
    flood.seconds, flood.more = 0.0001, False
    loop.turn()
    assert [delay for delay, _ in loop.timers] == [ACTIVITY.interval]


def test_look_when_there_is_nothing_to_look_at_then_the_next_is_not_sooner(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops quiet kernels from being looked at as if they flooded."""
    loop = ScriptedLoop(monkeypatch)
    pacer = paced(loop, ScriptedStream(loop, 0.0), pacing=ACTIVITY)
    monkeypatch.setattr(pacer, "_ready", list)
    loop.turn()
    assert [delay for delay, _ in loop.timers] == [ACTIVITY.interval]


def test_later_when_many_ask_then_one_wake_up_does_for_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops each of fifty kernels from waking the loop four times a second for itself."""
    loop = ScriptedLoop(monkeypatch)
    pacer, called = Pacer(loop, IOPUB), []
    for number in range(50):
        pacer.later(lambda number=number: called.append(number))
    assert len(loop.timers) == 1
    loop.turn()
    assert called == list(range(50))
    assert loop.timers == loop.soon == []
    pacer.later(lambda: called.append(50))
    loop.turn()
    assert called[-1] == 50


def test_later_when_the_calls_take_long_then_others_get_their_turn_in_between(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops a thousand kernels' states from keeping a request waiting, or each other for ever."""
    loop = ScriptedLoop(monkeypatch)
    pacer, called = Pacer(loop, IOPUB), []

    def call() -> None:
        loop.now += 0.0007
        called.append(loop.now)
        pacer.later(call)  # it has something to say at once

    for _ in range(4):
        pacer.later(call)
    for done in (2, 4):
        loop.turn()
        assert len(called) == done
    assert loop.soon == []
    assert len(loop.timers) == 1


def test_later_when_a_call_fails_then_the_others_are_made_all_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops one kernel's observer from keeping the states of all others from being followed."""
    loop = ScriptedLoop(monkeypatch)
    pacer, called = Pacer(loop, IOPUB), []
    pacer.later(lambda: called.append(1 // 0))
    pacer.later(lambda: called.append(1))
    with pytest.raises(ZeroDivisionError):
        loop.turn()
    loop.turn()
    assert called == [1]
