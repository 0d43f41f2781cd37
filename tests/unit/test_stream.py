"""A stream that lives on, whatever its callbacks do, and never leaves a message unread."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import pytest
import zmq
from zmq.eventloop.zmqstream import ZMQStream

from kernelwire.sockets.stream import KernelwireStream
from support.streams import Reader, bench, turns
from support.waiting import run_to_end, wait_until_async

# exceptions


@pytest.mark.parametrize("how", ["raise", "await"])
def test_callback_when_it_raises_then_the_stream_goes_on_where_stocks_stops(how: str) -> None:
    """Stops one bad message from making a tab deaf for ever (H1)."""

    async def count_after_failure(cls: type[ZMQStream]) -> int:
        with bench(cls) as on:
            on.loop.set_exception_handler(lambda *_: None)
            got: list[bytes] = []

            def fail(frames: list[bytes]) -> Any:
                got.extend(frames)
                if how == "raise":
                    raise RuntimeError("a bug")
                return fail_later()

            on.stream.on_recv(fail)
            on.send(*range(20))
            await turns(200)
            return len(got)

    assert run_to_end(lambda: count_after_failure(KernelwireStream)) == 20
    if how == "raise":
        assert run_to_end(lambda: count_after_failure(ZMQStream)) == 1


async def fail_later() -> None:
    """A coroutine that fails."""
    await asyncio.sleep(0)
    raise RuntimeError("a bug")


def test_callback_when_it_raises_many_times_then_the_log_has_one_line() -> None:
    """Stops a bug that meets every message from filling the disk."""

    async def body() -> None:
        with bench() as on:
            calls: list[object] = []
            on.stream.on_recv(lambda frames: calls.append(frames) or 1 / 0)
            on.send(*range(100))
            await wait_until_async(lambda: len(calls) == 100, what="the end")
            assert len(on.log.lines) == 1
            assert "ZeroDivisionError" in on.log.lines[0]

    run_to_end(body)


def test_reader_when_it_raises_then_each_message_goes_one_by_one_from_then_on() -> None:
    """Stops a bug in the fast path from costing more than its speed."""

    async def body() -> None:
        with bench() as on:
            reader = Reader()
            on.read_with(reader)
            on.send(1, 2)
            await wait_until_async(lambda: reader.numbers == [1, 2], what="the first")
            reader.error = RuntimeError("a bug")
            on.send(*range(3, 50))
            await wait_until_async(lambda: len(reader.one_by_one) == 47, what="the others")
            assert reader.one_by_one == [str(number).encode() for number in range(3, 50)]
            assert len(on.log.lines) == 1

    run_to_end(body)


def test_reader_when_it_raises_in_flush_then_flush_hands_over_the_rest() -> None:
    """Stops a dead kernel's last words from being lost to a bug."""

    async def body() -> None:
        with bench() as on:
            reader = Reader()
            on.read_with(reader)
            reader.error = RuntimeError("a bug")
            on.send(*range(10))
            assert on.stream.flush() > 0
            assert reader.one_by_one == [str(number).encode() for number in range(10)]

    run_to_end(body)


# readers


def test_on_ready_when_messages_wait_already_then_they_are_read() -> None:
    """Stops what came before a reader from waiting for what comes after."""

    async def body() -> None:
        with bench() as on:
            on.send(1, 2, 3)
            await turns()
            reader = Reader()
            on.read_with(reader)
            await wait_until_async(lambda: reader.numbers == [1, 2, 3], what="what waited")

    run_to_end(body)


def test_reader_when_it_wants_more_then_others_have_their_turn_between() -> None:
    """Stops one flood from keeping the event loop to itself."""

    async def body() -> None:
        with bench() as on:
            reader = Reader(at_most=10)
            on.read_with(reader)
            on.send(*range(1000))
            laps = 0
            while len(reader.messages) < 1000:
                before = len(reader.messages)
                await asyncio.sleep(0)
                laps += 1
                # Twice in a turn: because of the wake-up, and because more was wanted.
                assert len(reader.messages) - before <= 20
            assert laps >= 50

    run_to_end(body)


@pytest.mark.parametrize("callback", [True, False])
def test_on_recv_when_there_is_a_reader_then_it_ends_and_nothing_is_lost(callback: bool) -> None:
    """Stops two from reading one socket, and messages between them from being lost."""

    async def body() -> None:
        with bench() as on:
            reader = Reader()
            on.read_with(reader)
            on.send(1)
            await wait_until_async(lambda: reader.numbers == [1], what="the first")
            got: list[bytes] = []
            on.stream.on_recv(got.extend if callback else None)
            assert on.stream.receiving() is callback
            on.send(2, 3)
            await turns(20)
            assert reader.numbers == [1]
            on.stream.on_recv(got.extend)
            await wait_until_async(lambda: got == [b"2", b"3"], what="the others")

    run_to_end(body)


def test_reader_when_it_has_ended_then_the_stream_lets_go_of_it() -> None:
    """Stops a discarded buffer of many megabytes from living as long as its stream."""

    async def body() -> None:
        with bench() as on:
            reader = Reader()
            on.read_with(reader)
            await turns()
            on.stream.on_recv(None)
            on.stream.close()
            held = [name for name, value in vars(on.stream).items() if refers_to(value, reader)]
            assert held == []

    run_to_end(body)


def refers_to(value: object, reader: Reader) -> bool:
    """Whether a value is a reader, or one of its methods."""
    return value is reader or getattr(value, "__self__", None) is reader


def test_close_when_the_reader_does_it_then_nothing_is_read_or_raised_any_more() -> None:
    """Stops a client's end, met while writing to it, from raising in the event loop."""

    async def body() -> None:
        with bench() as on:

            def closing(stream: KernelwireStream) -> bool:
                stream.close()
                return True

            on.stream.on_ready(closing, lambda *_: None)
            on.send(1)
            await turns(20)
            assert on.stream.closed()
            assert on.log.lines == []

    run_to_end(body)


def test_close_when_a_read_is_scheduled_then_nothing_is_raised() -> None:
    """Stops the turn between a close and its clean-up from touching a closed socket."""

    async def body() -> None:
        with bench() as on:
            reader = Reader(at_most=1)
            on.read_with(reader)
            on.send(*range(100))
            await turns(5)
            on.stream.close()
            read = len(reader.messages)
            await turns(20)
            assert 0 < len(reader.messages) == read < 100

    run_to_end(body)


# flush


@pytest.mark.parametrize("at_most", [1, 7, 10_000])
def test_flush_when_there_is_a_reader_then_everything_is_handed_over(at_most: int) -> None:
    """Stops the last words of a dead kernel from coming behind the notice of its death."""

    async def body() -> None:
        with bench() as on:
            reader = Reader(at_most)
            on.read_with(reader)
            on.send(*range(500))
            assert on.stream.flush() >= 500 / at_most
            assert reader.numbers == list(range(500))

    run_to_end(body)


def test_flush_when_there_is_a_callback_then_it_is_stocks() -> None:
    """Stops callers of the inherited method from meeting another one."""

    async def body() -> None:
        for cls in (ZMQStream, KernelwireStream):
            with bench(cls) as on:
                got: list[bytes] = []
                on.stream.on_recv(got.extend)
                on.send(*range(10))
                assert on.stream.flush(limit=4) == 4
                assert on.stream.flush(zmq.POLLOUT) == 0
                assert on.stream.flush() == 6
                assert len(got) == 10

    run_to_end(body)


def test_flush_when_the_stream_is_closed_then_it_says_so_as_stock_does() -> None:
    """Stops callers that handle a closed stream from handling it no more."""

    async def body() -> None:
        for cls in (ZMQStream, KernelwireStream):
            with bench(cls) as on:
                if cls is KernelwireStream:
                    on.read_with(Reader())
                on.stream.close()
                with pytest.raises(OSError, match="closed"):
                    on.stream.flush()

    run_to_end(body)


# sending


def test_send_when_there_is_a_reader_then_it_is_sent_at_once() -> None:
    """Stops a request from waiting for a turn of the event loop."""

    async def body() -> None:
        with bench() as on:
            on.read_with(Reader())
            on.stream.send_multipart([b"1"])
            assert on.received() == [1]

    run_to_end(body)


def test_send_when_the_peer_does_not_read_then_order_is_kept_and_nothing_lost() -> None:
    """Stops requests from overtaking those that wait for a busy kernel."""

    async def body() -> None:
        with bench(hwm=5) as on:
            reader = Reader()
            on.read_with(reader)
            got: list[int] = []
            for number in range(300):
                on.stream.send_multipart([str(number).encode()])
                if number % 50 == 0:
                    got += on.received()
                    await turns(1)

            def is_all_there() -> bool:
                got.extend(on.received())
                return len(got) == 300

            await wait_until_async(is_all_there, what="everything")
            assert got == list(range(300))
            on.send(1, 2)
            await wait_until_async(lambda: reader.numbers == [1, 2], what="the other way")

    run_to_end(body)


def test_message_when_a_send_takes_its_signal_then_it_is_read_all_the_same() -> None:
    """Stops a reply from waiting for the next one: the socket signals changes only, and once."""

    async def body() -> None:
        with bench() as on:
            reader = Reader()
            on.read_with(reader)
            await turns()
            for number in range(20):
                # libzmq looks at its signals when it sends, if it has not for a millisecond.
                await asyncio.sleep(0.005)
                on.send(number)
                on.stream.send_multipart([b"0"])
                await wait_until_async(
                    lambda number=number: reader.numbers == list(range(number + 1)),
                    what=f"message {number}",
                    timeout=5,
                )

    run_to_end(body)


@pytest.mark.parametrize("seed", range(12))
def test_messages_when_both_sides_talk_at_random_then_none_is_left_unread(seed: int) -> None:
    """Stops a message that waits for the next one: sending takes the socket's signal away."""
    chance = random.Random(seed)

    async def body() -> None:
        with bench(hwm=chance.choice((0, 0, 3))) as on:
            reader = Reader(chance.choice((1, 5, 1 << 30)))
            on.read_with(reader)
            sent_in = sent_out = 0
            got: list[int] = []
            for _ in range(400):
                for _ in range(chance.choice((0, 0, 1, 2, 20))):
                    try:
                        on.peer.send(str(sent_in).encode(), zmq.NOBLOCK)
                    except zmq.Again:
                        break
                    sent_in += 1
                for _ in range(chance.choice((0, 1, 1, 3))):
                    on.stream.send_multipart([str(sent_out).encode()])
                    sent_out += 1
                if chance.random() < 0.3:
                    await turns(chance.choice((1, 2, 5)))
                if chance.random() < 0.1:
                    on.stream.flush()
                if chance.random() < 0.5:
                    got += on.received()
            await wait_until_async(lambda: len(reader.messages) == sent_in, what="the last of it")

            def is_all_out() -> bool:
                got.extend(on.received())
                return len(got) == sent_out

            await wait_until_async(is_all_out, what="all that was sent")
            assert reader.numbers == list(range(sent_in))
            assert got == list(range(sent_out))

    run_to_end(body)


@pytest.mark.parametrize("seed", range(6))
def test_messages_when_modes_change_at_random_then_none_is_lost_or_doubled(seed: int) -> None:
    """Stops the moments between buffering, replay and live output from eating a message."""
    chance = random.Random(seed)

    async def body() -> None:
        with bench() as on:
            got: list[int] = []
            sent = 0

            class Into(Reader):
                def __call__(self, stream: KernelwireStream) -> bool:
                    more = super().__call__(stream)
                    got.extend(self.numbers)
                    self.messages.clear()
                    return more

            def one(frames: list[bytes]) -> None:
                got.extend(map(int, frames))

            for _ in range(1500):
                if chance.random() < 0.1:
                    if chance.random() < 0.5:
                        on.stream.on_recv(one)
                    else:
                        on.read_with(Into(chance.choice((1, 4, 1 << 30))))
                for _ in range(chance.choice((0, 1, 3))):
                    on.send(sent)
                    sent += 1
                if chance.random() < 0.4:
                    await turns(1)
            on.stream.on_recv(one)
            await wait_until_async(lambda: len(got) >= sent, what="the last of it")
            assert got == list(range(sent))

    run_to_end(body)


# adoption


def test_adopt_when_a_stream_is_taken_over_then_the_old_one_reads_as_closed() -> None:
    """Stops two streams from reading one socket."""

    async def body() -> None:
        with bench() as on:
            old = ZMQStream(on.context.socket(zmq.PAIR))
            old.channel = "shell"  # type: ignore[attr-defined]
            socket = old.socket
            adopted = KernelwireStream.adopt(old)
            assert old.closed()
            assert (adopted.socket, adopted.channel) == (socket, "shell")
            adopted.close()
            assert socket.closed

    run_to_end(body)
