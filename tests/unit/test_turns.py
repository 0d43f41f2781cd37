"""The event loop's turns stay short, however many streams have something to read."""

from __future__ import annotations

import asyncio
from collections import Counter
from time import monotonic
from typing import TYPE_CHECKING, Any

from jupyter_server.services.kernels.kernelmanager import MappingKernelManager

from kernelwire import KernelwireMappingKernelManager
from kernelwire.sockets.turns import TURN_SECONDS, ReadQueue, SharedTime
from support.streams import bench
from support.waiting import run_to_end, wait_until_async

if TYPE_CHECKING:
    import pytest

    from kernelwire.sockets.stream import KernelwireStream

STREAMS = 4


class Slow:
    """A reader that always has more, and takes a whole turn each time."""

    def __init__(self, name: int, calls: list[tuple[int, int]], turn: list[int]) -> None:
        self._name, self._calls, self._turn = name, calls, turn

    def __call__(self, _stream: KernelwireStream) -> bool:
        """Take the time, and note in which turn."""
        self._calls.append((self._turn[0], self._name))
        until = monotonic() + TURN_SECONDS
        while monotonic() < until:
            pass
        return True

    def one(self, _stream: Any, _message: Any) -> None:
        """Take no single message."""


class TestReadQueue:
    """Streams share one clock, and take turns."""

    def test_streams_together_take_no_longer_than_one(self) -> None:
        """One that takes its time is the only one in its turn, and each gets as many turns."""

        async def body() -> None:
            loop, turn = asyncio.get_running_loop(), [0]
            calls: list[tuple[int, int]] = []

            def count_turns() -> None:
                turn[0] += 1
                loop.call_soon(count_turns)

            with bench() as first, bench() as second, bench() as third, bench() as fourth:
                count_turns()
                for name, on in enumerate((first, second, third, fourth)):
                    reader = Slow(name, calls, turn)
                    on.stream.on_ready(reader, reader.one)
                await wait_until_async(lambda: len(calls) >= 10 * STREAMS, what="reads")
            turns = Counter(turn for turn, _ in calls)
            assert max(turns.values()) == 1
            shares = Counter(name for _, name in calls)
            assert max(shares.values()) - min(shares.values()) <= 1

        run_to_end(body)

    def test_stream_that_raises_ends_no_others_reads(self) -> None:
        """Whatever escapes a read, those that wait behind it are read."""

        async def body() -> None:
            queue, read = ReadQueue(asyncio.get_running_loop()), []

            class Failing:
                def read_in_turn(self) -> None:
                    raise RuntimeError

            class Sound:
                def read_in_turn(self) -> None:
                    read.append(self)

            asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
            failing: Any = Failing()
            sound: Any = Sound()
            queue.add(failing)
            queue.add(sound)
            await wait_until_async(lambda: read == [sound], what="the read behind")

        run_to_end(body)


class TestSharedTime:
    """What many ask for in one turn takes no longer than what one asks for."""

    def test_one_turn_has_one_end(self) -> None:
        """The next turn has a time of its own."""

        async def body() -> None:
            time = SharedTime(60.0)
            first = time.until()
            assert time.until() == first
            await asyncio.sleep(0)
            assert time.until() > first

        run_to_end(body)

    def test_without_a_loop_each_has_its_own(self) -> None:
        """A program that lists kernels need not have a loop."""
        time = SharedTime(60.0)
        assert time.until() < time.until()

    def test_kernels_that_are_described_together_settle_together(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A list of sessions describes one kernel after the other."""
        ends: list[float | None] = []
        monkeypatch.setattr(
            KernelwireMappingKernelManager,
            "settle_activity",
            lambda _manager, _kernel_id, until=None: ends.append(until),
        )
        monkeypatch.setattr(MappingKernelManager, "kernel_model", lambda *_: {})

        async def body() -> None:
            manager = KernelwireMappingKernelManager()
            for kernel_id in "abc":
                manager.kernel_model(kernel_id)
            assert len(ends) == 3
            assert len(set(ends)) == 1
            manager._describing = SharedTime(0)
            manager.kernel_model("d")
            assert len(ends) == 3, "the time is up"

        run_to_end(body)
