"""What waits for a kernel that does not read: bounded in bytes, at a constant cost."""

from __future__ import annotations

import random
import socket
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from kernelwire.sockets import options, sending
from kernelwire.sockets.options import bounded_sending
from kernelwire.sockets.sending import KernelDoesNotReadError
from support.streams import Reader, bench, turns
from support.waiting import run_to_end, wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class Counted(list[bytes]):
    """A message that counts how often somebody goes through it."""

    walks = 0

    def __iter__(self) -> Iterator[bytes]:
        """Go through the parts."""
        self.walks += 1
        return super().__iter__()


def until(error: type[Exception], call: Callable[[], object]) -> int:
    """Call until it raises; returns how often it did not."""
    for count in range(1000):
        try:
            call()
        except error:
            return count
    raise AssertionError(f"no {error.__name__}")


def test_request_when_refused_then_those_that_wait_are_not_counted_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops a client that is refused from taking the loop's time with each request."""
    monkeypatch.setattr(sending, "MAX_QUEUED_MESSAGES", 50)

    async def body() -> None:
        with bench(hwm=1) as on:
            on.read_with(Reader())
            waiting = [Counted([b"x", b"y"]) for _ in range(60)]
            refused = 0
            for message in waiting:
                try:
                    on.stream.send_multipart(message)
                except KernelDoesNotReadError:
                    refused += 1
            assert refused > 0
            walks = [message.walks for message in waiting]
            for _ in range(100):
                with pytest.raises(KernelDoesNotReadError):
                    on.stream.send_multipart([b"z"])
            assert [message.walks for message in waiting] == walks

    run_to_end(body)


@pytest.mark.parametrize("seed", range(4))
def test_size_when_messages_come_and_go_then_the_account_is_exact(seed: int) -> None:
    """Stops a drift that refuses everything in the end, or nothing."""
    chance = random.Random(seed)

    async def body() -> None:
        with bench(hwm=3) as on:
            on.read_with(Reader())
            for _ in range(200):
                parts = [bytes(chance.choice((0, 1, 100))) for _ in range(chance.randint(1, 9))]
                on.stream.send_multipart(
                    [memoryview(part) for part in parts] if chance.random() < 0.2 else parts
                )
                if chance.random() < 0.3:
                    while on.peer.poll(0):
                        on.peer.recv_multipart()
                    await turns(2)
                queue = on.stream._send_queue
                assert queue.size == sum(sending._cost(message) for message, _ in queue.queue)

            def is_drained() -> bool:
                while on.peer.poll(0):
                    on.peer.recv_multipart()
                return not on.stream.sending()

            await wait_until_async(is_drained, what="an empty queue")
            assert on.stream._send_queue.size == 0

    run_to_end(body)


def test_parts_when_there_are_many_empty_ones_then_each_is_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Stops 62 MB of frames from taking 392 MB."""
    monkeypatch.setattr(sending, "MAX_QUEUED_BYTES", 1 << 20)

    async def body() -> None:
        with bench(hwm=1) as on:
            on.read_with(Reader())
            accepted = until(KernelDoesNotReadError, lambda: on.stream.send_multipart([b""] * 1000))
            assert accepted <= (1 << 20) // 64_000 + 3

    run_to_end(body)


@pytest.mark.parametrize("size", [10, 1 << 20])
def test_libzmq_when_nobody_reads_then_holds_few_messages(size: int) -> None:
    """Stops a thousand messages of any size from waiting where nobody counts them."""
    context: zmq.Context[Any] = zmq.Context()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        with bounded_sending(context):
            near = context.socket(zmq.DEALER)
        assert context.sockopts == {}
        near.connect("tcp://{}:{}".format(*silent.getsockname()))
        sent = until(zmq.Again, lambda: near.send_multipart([b"a", bytes(size)], zmq.NOBLOCK))
        assert sent == options.MAX_SENT_MESSAGES
    context.destroy(linger=0)


def test_bounded_sending_when_the_context_has_options_then_they_are_kept() -> None:
    """Stops a context that others use, too, from being left changed."""
    context: zmq.Context[Any] = zmq.Context()
    context.sockopts[zmq.SNDHWM] = 7
    context.sockopts[zmq.LINGER] = 5
    with bounded_sending(context), context.socket(zmq.DEALER) as near:
        assert near.SNDHWM == 7
    assert context.sockopts == {zmq.SNDHWM: 7, zmq.LINGER: 5}
    with bounded_sending(None):
        pass
    context.destroy(linger=0)
