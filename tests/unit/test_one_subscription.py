"""A kernel's output is received once: for its watcher, its clients and whoever listens."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
import zmq
from hypothesis import given, settings
from hypothesis import strategies as st
from tornado.web import HTTPError
from zmq.eventloop.zmqstream import ZMQStream

from support.publishing import Client, Publishing, publishing
from support.waiting import run_to_end, wait_until_async
from support.watching import DELIMITER, KERNEL_ID, NATIVE, PORTABLE, parts, status

if TYPE_CHECKING:
    from collections.abc import Callable

both_ways = pytest.mark.parametrize("way", [NATIVE, PORTABLE])

# what may happen, in any order
STEPS = st.lists(
    st.one_of(
        st.integers(1, 40),
        st.sampled_from(
            ("open", "open", "close", "settle", "turn", "turn", "pause", "callback", "fill")
        ),
    ),
    max_size=25,
)


async def walk(kernel: Any, steps: list[int | str], followed: Callable[[], Any]) -> None:
    """Do one step after the other; wait for what follows, before and after the clients leave."""
    clients: list[Client] = []

    deeds: dict[str, Callable[[], Any]] = {
        "open": lambda: clients.append(Client(kernel)),
        "close": lambda: clients and clients.pop(0).close(),
        "callback": lambda: clients and clients[0].stream.on_recv(lambda _message: None),
        "fill": lambda: clients and clients[0].read(),
        "settle": kernel.settle,
    }
    for step in steps:
        if isinstance(step, int):
            kernel.publish(step)
        elif step in deeds:
            deeds[step]()
        else:
            await asyncio.sleep(0.005 if step == "pause" else 0)
    kernel.publish()
    await followed()
    for client in clients:
        client.close()
    kernel.publish()
    await followed()


@both_ways
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_watcher_when_clients_come_and_go_then_each_state_is_followed_once(
    way: str, steps: list[int | str]
) -> None:
    """Stops a kernel from being busy for ever because its idle came as a tab was closed."""

    async def body() -> None:
        with publishing(way) as kernel:
            await kernel.until_subscribed(1)
            await walk(kernel, steps, kernel.until_followed)

    run_to_end(body)


@both_ways
@settings(max_examples=60, deadline=None)
@given(steps=STEPS)
def test_watcher_when_clients_come_and_go_then_the_true_state_is_the_last(
    way: str, steps: list[int | str]
) -> None:
    """The state that is followed natively ends as the kernel's, whoever received the messages."""

    async def body() -> None:
        with publishing(way, policy="true") as kernel:
            await kernel.until_subscribed(1)
            await walk(kernel, steps, kernel.until_last_followed)

    run_to_end(body)


def state_in(message: list[bytes]) -> str:
    """The state that a message tells."""
    return str(json.loads(message[-1])["execution_state"])


class Live:
    """A client that is there: it reads what is appended."""

    def __init__(self, kernel: Publishing) -> None:
        self.messages: list[list[bytes]] = []
        self.listener = kernel.manager.listen(KERNEL_ID, self._heard)

    def _heard(self, messages: list[list[bytes]], _missed: int) -> None:
        self.messages += messages


class TestSubscription:
    """A kernel's output is received once, for whomever it is."""

    @both_ways
    def test_there_is_one_for_all(self, way: str) -> None:
        """Whoever comes, the kernel sends each message once."""

        async def body() -> None:
            with publishing(way) as kernel:
                await kernel.until_subscribed(1)
                clients = [Client(kernel) for _ in range(3)]
                live = Live(kernel)
                clients[0].stream.on_recv(lambda _message: None)
                kernel.publish(10)
                await kernel.until_followed()
                assert kernel.subscribers == 1
                await wait_until_async(lambda: len(live.messages) == 10, what="the listener's")
                assert [len(client.buffer) for client in clients] == [10, 10, 10]

        run_to_end(body)

    def test_it_goes_on_for_a_client_when_watching_ends(self) -> None:
        """As when a kernel is shut down: its last words are for its clients."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                client = Client(kernel)
                kernel.manager.stop_watching_activity(KERNEL_ID)
                assert kernel.watcher.closed()
                kernel.publish()
                await wait_until_async(lambda: len(client.buffer) == 1, what="the message")
                assert kernel.followed == []
                client.close()
                assert client.stream.closed()
                await kernel.until_subscribed(0)

        run_to_end(body)

    def test_it_ends_with_the_watching_where_nobody_else_uses_it(self) -> None:
        """Nothing is received for nobody."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                client = Client(kernel)
                client.close()
                kernel.manager.stop_watching_activity(KERNEL_ID)
                await kernel.until_subscribed(0)
                assert kernel.manager.kernel_log(KERNEL_ID) is None

        run_to_end(body)

    def test_another_one_follows_what_the_first_has_received(self) -> None:
        """As when a kernel has moved to other ports: its old life comes first, and clients stay."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                client = Client(kernel)
                kernel.publish()
                log = kernel.manager.kernel_log(KERNEL_ID)
                assert log.stream.socket.poll(5000)
                kernel.manager.start_watching_activity(KERNEL_ID)
                await wait_until_async(
                    lambda: kernel.subscribers == 1 and kernel.subscriptions == 2,
                    what="the second subscription",
                )
                kernel.publish()
                await wait_until_async(lambda: len(client.buffer) == 2, what="both")
                assert kernel.manager.kernel_log(KERNEL_ID) is log
                client.close()
                kernel.manager.stop_watching_activity(KERNEL_ID)
                await kernel.until_subscribed(0)

        run_to_end(body)

    def test_it_works_once_something_is_received_in_this_life(self) -> None:
        """Who waits for that is called once: with the next message, or at once where one has come."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                log, calls = kernel.manager.kernel_log(KERNEL_ID), []
                for count in (1, 3):
                    log.when_received(lambda: calls.append("received"))
                    assert len(calls) == count - 1
                    kernel.publish(3)
                    await wait_until_async(lambda n=count: len(calls) == n, what="the call")
                    await kernel.until_followed()
                    log.when_received(lambda: calls.append("at once"))
                    assert len(calls) == count + 1
                    log.restart()
                assert calls == ["received", "at once"] * 2

        run_to_end(body)


class TestFollowing:
    """The watcher follows what the log receives."""

    @pytest.mark.parametrize("watched_by", ["nobody", "a client"])
    def test_states_are_followed_within_a_moment(self, watched_by: str) -> None:
        """The culler and observers do not wait for somebody to ask for the state."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                live = Live(kernel) if watched_by == "a client" else None
                for _ in range(3):
                    kernel.publish(2)
                    await wait_until_async(
                        lambda: kernel.followed == kernel.sent, what="the states"
                    )
                assert live is None or live.messages

        run_to_end(body)

    @pytest.mark.parametrize("scheme", ["hmac-sha256", "hmac-sha512"])
    def test_forgeries_are_for_clients_to_judge(self, scheme: str) -> None:
        """A stranger who can send to the server does not decide what it thinks."""

        async def body() -> None:
            with publishing(scheme=scheme) as kernel:
                await kernel.until_subscribed(1)
                client = Client(kernel)
                kernel.publisher.send_multipart([b"", DELIMITER, b"0" * 64, *status("forged")])
                kernel.publish()
                await wait_until_async(lambda: len(client.buffer) >= 2, what="both")
                await kernel.until_followed()
                assert "Ignored a message of kernel" in "\n".join(kernel.log.lines)

        run_to_end(body)

    def test_observer_may_always_ask_for_the_state(self) -> None:
        """Who asks for it whenever it changes does not exhaust the stack, nor has it followed twice."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                kernel.on_state = kernel.settle
                kernel.publish(1000)
                await kernel.until_followed()
                assert kernel.log.lines == []

        run_to_end(body)

    def test_request_for_the_state_reads_once_beside_a_client(self) -> None:
        """It does not wait as long as output comes; what it leaves is read soon."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                live = Live(kernel)
                log = kernel.manager.kernel_log(KERNEL_ID)
                calls: list[Any] = []

                def floods(stream: Any) -> bool:
                    calls.append(stream)
                    return len(calls) < 3

                with patch.object(log.stream, "_reader", floods):
                    log._heard = 0.0
                    kernel.settle()
                    assert calls == [log.stream]
                    await wait_until_async(lambda: len(calls) == 3, what="the rest")
                    log._tell_activity()
                    kernel.settle()
                    assert len(calls) == 3
                live.listener.close()

        run_to_end(body)

    @both_ways
    def test_request_for_the_state_leaves_nothing_unread(self, way: str) -> None:
        """What it has no time for is read soon, though the socket does not signal it again."""

        async def body() -> None:
            with patch("kernelwire.log.kernel_log.MAX_MESSAGES", 1), publishing(way) as kernel:
                await kernel.until_subscribed(1)
                stream = kernel.manager.kernel_log(KERNEL_ID).stream
                await wait_until_async(lambda: not stream._read_pending, what="its first read")
                kernel.publish(3)
                assert stream.socket.poll(5000)
                kernel.manager.settle_activity(KERNEL_ID, 0.0)
                assert len(kernel.followed) == 1
                await wait_until_async(lambda: kernel.followed == kernel.sent, what="the rest")

        run_to_end(body)

    def test_portable_log_leaves_others_their_turn(self) -> None:
        """A flood does not hold the event loop where messages are received in Python."""

        async def body() -> None:
            with (
                publishing(PORTABLE) as kernel,
                patch("kernelwire.log.kernel_log.MAX_SECONDS", 0.0),
            ):
                await kernel.until_subscribed(1)
                kernel.publish(10)
                log = kernel.manager.kernel_log(KERNEL_ID)
                assert log.stream.socket.poll(5000)
                assert log.stream.read_once()
                assert len(kernel.followed) == 1
                await kernel.until_followed()

        run_to_end(body)


class TestLogStream:
    """``channels["iopub"]`` is a stream to everybody, without a socket."""

    def test_it_is_a_stream(self) -> None:
        """Callbacks get each message, in order, until they are replaced."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                stream, got, closed = Client(kernel).stream, [], []
                assert isinstance(stream, ZMQStream)
                stream.on_recv(got.append)
                kernel.publish(2)
                await wait_until_async(lambda: len(got) == 2, what="the messages")
                assert [state_in(message) for message in got] == kernel.sent
                stream.on_recv_stream(lambda own, message: got.append((own, message)), copy=False)
                kernel.publish()
                await wait_until_async(lambda: len(got) == 3, what="a message")
                own, frames = got[-1]
                assert own is stream
                assert state_in([part.bytes for part in frames]) == kernel.sent[-1]
                stream.stop_on_recv()
                assert not stream.receiving()
                stream.set_close_callback(lambda: closed.append(True))
                for _ in range(2):
                    stream.close()
                assert (stream.closed(), stream.socket.closed, closed) == (True, True, [True])

        run_to_end(body)

    def test_flush_hands_over_what_is_ready(self) -> None:
        """Before a notice, say, that is to come behind what the kernel has said."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                client = Client(kernel)
                kernel.publish()
                assert kernel.manager.kernel_log(KERNEL_ID).stream.socket.poll(5000)
                client.stream.flush()
                assert len(client.buffer) == 1

        run_to_end(body)

    def test_its_socket_says_why_there_is_none(self) -> None:
        """Who needs one gets to know how to have one."""

        async def body() -> None:
            with publishing() as kernel:
                stream = Client(kernel).stream
                with pytest.raises(AttributeError, match=r"connect_iopub\(\)"):
                    stream.socket.setsockopt(zmq.RCVHWM, 1)

        run_to_end(body)


class TestListener:
    """``listen`` gives other extensions what a kernel publishes."""

    def test_messages_come_in_batches(self) -> None:
        """What is there at the same time is given together, and nothing twice."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                batches: list[list[list[bytes]]] = []
                listener = kernel.manager.listen(
                    KERNEL_ID, lambda messages, _missed: batches.append(messages)
                )
                kernel.publish(100)
                await wait_until_async(lambda: sum(map(len, batches)) == 100, what="the messages")
                assert len(batches) < 100
                assert [state_in(each) for batch in batches for each in batch] == kernel.sent
                listener.close()
                kernel.publish()
                await kernel.until_followed()
                assert sum(map(len, batches)) == 100

        run_to_end(body)

    def test_only_the_types_it_wants_come(self) -> None:
        """Of all others, it hears nothing."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                got: list[list[bytes]] = []
                kernel.manager.listen(
                    KERNEL_ID, lambda messages, _: got.extend(messages), msg_types={"stream"}
                )
                kernel.publish(3)
                stream = parts("stream", "execute_request")
                kernel.publisher.send_multipart([b"", DELIMITER, b"", *stream])
                kernel.publish(3)
                await kernel.until_followed()
                await wait_until_async(lambda: len(got) == 1, what="the one")
                assert got[0][3:] == stream

        run_to_end(body)

    def test_what_it_is_too_slow_for_is_counted(self) -> None:
        """It waits within its bound; the rest is dropped, the oldest first, to the message."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                gate, got, missed = asyncio.Event(), [0], [0]

                async def slow(messages: list[list[bytes]], lost: int) -> None:
                    got[0] += len(messages)
                    missed[0] += lost
                    await gate.wait()

                kernel.manager.listen(KERNEL_ID, slow, max_bytes=100_000)
                message = parts("stream", "execute_request")
                for gap in (1, 2):  # the second one is told a while after the first
                    for _ in range(2000):
                        kernel.publisher.send_multipart([b"", DELIMITER, b"", *message])
                    kernel.publish()
                    await kernel.until_followed()
                    assert got[0] + missed[0] < 2001 * gap - 1000
                    gate.set()
                    await wait_until_async(
                        lambda gap=gap: got[0] + missed[0] == 2001 * gap, what="all"
                    )
                    gate.clear()
                assert missed[0] > 2000

        run_to_end(body)

    @pytest.mark.parametrize("fails", ["at once", "later"])
    def test_what_it_raises_ends_nothing(self, fails: str) -> None:
        """A bug of an extension costs neither it nor others a message."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                got: list[list[bytes]] = []

                async def later() -> None:
                    raise RuntimeError("a bug")

                def fail(messages: list[list[bytes]], _missed: int) -> Any:
                    got.extend(messages)
                    if fails == "later":
                        return later()
                    raise RuntimeError("a bug")

                kernel.manager.listen(KERNEL_ID, fail)
                live = Live(kernel)
                for count in range(1, 4):
                    kernel.publish()
                    await wait_until_async(lambda count=count: len(got) == count, what="each")
                await wait_until_async(lambda: len(live.messages) == 3, what="the others")
                assert "A listener failed" in kernel.log.lines[0]

        run_to_end(body)

    def test_it_ends_with_its_kernel(self) -> None:
        """It gets what the kernel has said last, and keeps no subscription to it."""

        async def body() -> None:
            with publishing() as kernel:
                await kernel.until_subscribed(1)
                live = Live(kernel)
                log = kernel.manager.kernel_log(KERNEL_ID)
                kernel.publish()
                assert log.stream.socket.poll(5000)
                kernel.manager.remove_kernel(KERNEL_ID)
                assert len(live.messages) == 1
                await kernel.until_subscribed(0)
                assert not log.is_open

        run_to_end(body)

    def test_unknown_kernels_are_refused(self) -> None:
        """As in all other methods of the manager."""

        async def body() -> None:
            with publishing() as kernel, pytest.raises(HTTPError, match="404"):
                kernel.manager.listen("none", print)

        run_to_end(body)
