"""The watcher needs no subscription of its own while a client's will do, and misses nothing."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernelwire.pacing import ACTIVITY
from support.publishing import Client, client_of, listened_to, publishing
from support.waiting import run_to_end, wait_until_async
from support.watching import DELIMITER, KERNEL_ID, NATIVE, PORTABLE, status

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


@pytest.fixture(autouse=True)
def punctual(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have no subscription be taken for late because the machine is slow."""
    monkeypatch.setattr("kernelwire.listening.LATE_SECONDS", 60.0)


async def walk(kernel: Any, steps: list[int | str], followed: Callable[[], Any]) -> None:
    """Do one step after the other; wait for what follows, before and after the clients leave."""
    clients: list[Client] = []

    def open_one() -> None:
        clients.append(Client(kernel))
        clients[-1].go_live()

    deeds: dict[str, Callable[[], Any]] = {
        "open": open_one,
        "close": lambda: clients and clients.pop(0).close(),
        "callback": lambda: clients and clients[0].stream.on_recv(lambda _message: None),
        "fill": lambda: clients and clients[0].go_live(),
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


@both_ways
def test_subscriptions_when_a_client_listens_then_there_is_one(way: str) -> None:
    """Stops the server from receiving every message twice."""

    async def body() -> None:
        async with listened_to(way) as (kernel, client):
            assert kernel.watcher.socket is client.stream.socket

    run_to_end(body)


@both_ways
def test_subscriptions_when_the_client_leaves_then_the_watcher_goes_on_with_its_socket(
    way: str,
) -> None:
    """Stops messages from being lost to the watcher while it would subscribe anew."""

    async def body() -> None:
        async with listened_to(way) as (kernel, client):
            socket = client.stream.socket
            kernel.publish(100)
            client.close()
            kernel.publish(100)
            assert client.stream.closed()
            assert kernel.watcher.socket is socket
            # Without anybody asking for it: the socket wakes the loop again.
            await wait_until_async(lambda: kernel.followed == kernel.sent, what="all states")
            assert kernel.subscribers == 1

    run_to_end(body)


def test_watchers_when_many_overhear_then_they_follow_with_one_wake_up() -> None:
    """Stops each printing kernel from waking the loop four times a second for its watcher alone."""

    async def body() -> None:
        async with listened_to() as (one, _), listened_to() as (another, _):
            pacer = ACTIVITY.pacer(asyncio.get_running_loop())

            def wait_together() -> bool:
                one.publish()
                another.publish()
                return len(pacer._calls) == 2

            await wait_until_async(wait_together, what="both waiting for the same wake-up")
            # Without anybody asking for it.
            await wait_until_async(lambda: one.followed == one.sent, what="the one's states")
            await wait_until_async(lambda: another.followed == another.sent, what="the other's")

    run_to_end(body)


def test_subscriptions_when_one_of_two_clients_leaves_then_the_other_is_listened_to() -> None:
    """Stops the watcher from keeping a subscription of its own after the first tab is closed."""

    async def body() -> None:
        with publishing() as kernel:
            await kernel.until_subscribed(1)
            first, second = await client_of(kernel), await client_of(kernel)
            await wait_until_async(
                lambda: (kernel.publish(), kernel.settle(), kernel.subscribers == 2)[-1],
                what="two subscriptions",
            )
            first.close()
            await kernel.until_one_subscription()
            await kernel.until_followed()
            assert kernel.watcher.socket is second.stream.socket

    run_to_end(body)


def test_subscription_when_it_comes_too_late_then_what_a_client_has_received_counts() -> None:
    """Stops a kernel from being idle while a cell runs, because only the client saw it begin."""

    async def body() -> None:
        with publishing() as kernel, patch("kernelwire.listening.LATE_SECONDS", 0.01):
            await kernel.until_subscribed(1)
            kernel.watcher.socket.unsubscribe(b"")
            await kernel.until_subscribed(0)
            await client_of(kernel)
            kernel.publish()
            # Without anybody asking for it.
            await wait_until_async(lambda: kernel.followed == kernel.sent, what="the state")
            kernel.publish(10)
            await kernel.until_followed()

    run_to_end(body)


def test_states_when_nobody_asks_then_they_are_followed_within_a_moment() -> None:
    """Stops the culler and observers from waiting for somebody to ask for the state."""

    async def body() -> None:
        async with listened_to() as (kernel, _):
            for _ in range(3):
                kernel.publish(2)
                await wait_until_async(lambda: kernel.followed == kernel.sent, what="the states")

    run_to_end(body)


def test_stop_when_listening_in_then_the_client_keeps_its_socket() -> None:
    """Stops the end of watching, as at a restart on new ports, from closing a tab's socket."""

    async def body() -> None:
        async with listened_to() as (kernel, client):
            known = len(client.buffer)
            kernel.manager.stop_watching_activity(KERNEL_ID)
            assert kernel.watcher.closed()
            kernel.publish()
            await wait_until_async(lambda: len(client.buffer) > known, what="the client's message")
            assert len(kernel.followed) < len(kernel.sent)
            client.close()
            assert client.stream.closed()
            await kernel.until_subscribed(0)

    run_to_end(body)


def test_messages_when_received_one_by_one_then_they_are_followed_too() -> None:
    """Stops a connection whose fast path has failed from blinding the watcher."""

    async def body() -> None:
        async with listened_to() as (kernel, client):
            heard: list[Any] = []
            client.stream.on_recv(heard.append, copy=False)
            kernel.publish(10)
            await wait_until_async(lambda: len(heard) >= 10, what="the callback")
            await kernel.until_followed()

    run_to_end(body)


def test_forged_message_when_overheard_then_it_is_refused_and_the_client_gets_it() -> None:
    """Stops a stranger who can send to a client from deciding what the server thinks."""

    async def body() -> None:
        async with listened_to() as (kernel, client):
            known = len(client.buffer)
            kernel.publisher.send_multipart([b"", DELIMITER, b"0" * 64, *status("forged")])
            kernel.publish()
            await wait_until_async(lambda: len(client.buffer) >= known + 2, what="both")
            await kernel.until_followed()
            assert "Ignored a message of kernel" in "\n".join(kernel.log.lines)

    run_to_end(body)


def test_other_digests_when_a_client_listens_then_the_watcher_keeps_its_own_subscription() -> None:
    """Stops signatures that only the session can check from not being checked."""

    async def body() -> None:
        with publishing(scheme="hmac-sha512") as kernel:
            await kernel.until_subscribed(1)
            await client_of(kernel)
            kernel.publish(10)
            await kernel.until_followed()
            assert kernel.subscribers == 2

    run_to_end(body)


def test_record_when_the_watcher_is_far_behind_then_it_begins_anew() -> None:
    """Stops memory from growing while the watcher tries to catch up."""

    async def body() -> None:
        with publishing() as kernel:
            await kernel.until_subscribed(1)
            own = kernel.watcher._follow_own
            with patch.object(kernel.watcher, "_reader", lambda _stream: False):
                client = await client_of(kernel)
                kernel.publish(5000)
                await wait_until_async(lambda: len(client.buffer) == 5000, what="the client")
                assert not kernel.watcher.record.is_full()
                assert kernel.followed == []
            assert kernel.watcher._reader == own
            await kernel.until_one_subscription()
            await kernel.until_followed()

    run_to_end(body)


def test_client_when_it_leaves_then_what_it_has_read_counts() -> None:
    """Stops what was read by a tab, and not yet looked at, from being lost with it."""

    async def body() -> None:
        async with listened_to() as (kernel, client):
            for _ in range(2):  # at least the second one waits for the next look
                known = len(client.buffer)
                kernel.publish()
                await wait_until_async(
                    lambda known=known: len(client.buffer) > known, what="the client's message"
                )
            client.close()
            await kernel.until_followed()

    run_to_end(body)


def test_observer_when_it_always_asks_for_the_state_then_each_is_followed_once() -> None:
    """Stops somebody who asks for the state whenever it changes from exhausting the stack."""

    async def body() -> None:
        async with listened_to() as (kernel, client):
            kernel.on_state = kernel.settle
            known = len(client.buffer)
            kernel.publish(1000)
            await wait_until_async(lambda: len(client.buffer) >= known + 1000, what="the messages")
            await kernel.until_followed()
            assert kernel.log.lines == []

    run_to_end(body)


def test_settling_when_a_kernel_floods_a_client_then_it_reads_no_more_of_it() -> None:
    """Stops a request for the state from waiting as long as output comes."""

    async def body() -> None:
        async with listened_to() as (kernel, client):
            wake_ups: list[Any] = []

            def floods(stream: Any) -> bool:
                wake_ups.append(stream)
                return True

            with patch.object(client.stream, "_reader", floods):
                kernel.watcher._heard = 0.0
                kernel.settle()
                assert wake_ups == [client.stream]
                kernel.watcher.heard()
                kernel.settle()
                assert wake_ups == [client.stream]

    run_to_end(body)


def test_portable_watcher_when_its_time_is_up_then_others_have_their_turn() -> None:
    """Stops a flood from holding the event loop where messages are received in Python."""

    async def body() -> None:
        with publishing(PORTABLE) as kernel, patch("kernelwire.activity.MAX_SECONDS", 0.0):
            await kernel.until_subscribed(1)
            kernel.publish(10)
            assert kernel.watcher.socket.poll(5000)
            assert kernel.watcher.read_once()
            assert len(kernel.followed) == 1
            await kernel.until_followed()

    run_to_end(body)
