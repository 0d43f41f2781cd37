"""Connecting, with a failure at every step: nothing is leaked, miscounted or lost."""

from __future__ import annotations

import asyncio
import logging
import random
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest
from tornado.web import HTTPError

from kernelwire.sockets.drain import Drain
from support.desk import finish, leave_while_running, open_files, seen_numbers, silenced
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.desk import Desk, RunOnDesk


class InjectedError(Exception):
    """What the tests let fail."""


@dataclass
class Trial:
    """One connection that is made to fail; patches end with the stack."""

    desk: Desk
    connection: Any
    stack: ExitStack

    def breaks(self, owner: Any, name: str, *, calls_before: int = 0) -> None:
        """Let a method raise, after some calls that go well."""
        original = getattr(owner, name)
        calls = 0

        def failing(*args: Any, **kwargs: Any) -> Any:
            nonlocal calls
            calls += 1
            if calls > calls_before:
                raise InjectedError(name)
            return original(*args, **kwargs)

        self.stack.enter_context(patch.object(owner, name, failing))


def break_kernel_info(trial: Trial) -> None:
    trial.breaks(trial.connection, "request_kernel_info")


def break_liveness(trial: Trial) -> None:
    trial.breaks(trial.desk.kernel, "is_alive")


def drop_in_prepare(trial: Trial) -> None:
    """Let the client go while the kernel is asked."""
    connection = trial.connection
    asyncio.get_running_loop().call_soon(connection.disconnect)


def breaking_channel(channel: str, calls_before: int) -> Callable[[Trial], None]:
    def break_channel(trial: Trial) -> None:
        trial.breaks(trial.desk.kernel, f"connect_{channel}", calls_before=calls_before)

    return break_channel


def time_out(trial: Trial) -> None:
    """Let the kernel be found mute."""
    trial.connection.kernel_info_timeout = 0.05
    trial.stack.enter_context(silenced(trial.connection))


def break_nudge(trial: Trial) -> None:
    trial.breaks(trial.connection, "nudge")


def cancel_nudge(trial: Trial) -> None:
    """Let the caller lose patience."""
    connection = trial.connection
    original = connection.nudge

    def cancelled() -> Any:
        future = original()
        future.cancel()
        return future

    trial.stack.enter_context(patch.object(connection, "nudge", cancelled))


def break_restart_callbacks(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "add_restart_callback", calls_before=1)


def break_socket_option(trial: Trial) -> None:
    trial.breaks(trial.connection, "_tune_socket")


def break_going_live(trial: Trial) -> None:
    trial.breaks(trial.connection, "_go_live")


def break_count(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "notify_connect")


def break_buffer(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "get_buffer")


def break_end(trial: Trial) -> None:
    trial.breaks(trial.desk.multi_kernel_manager, "start_buffering")


FAULTS = {
    "kernel info": break_kernel_info,
    "liveness": break_liveness,
    "dropped in prepare": drop_in_prepare,
    "iopub": breaking_channel("iopub", 0),
    # The first shell channel may be the one that asks for the protocol version.
    "shell": breaking_channel("shell", 0),
    "control": breaking_channel("control", 0),
    "stdin": breaking_channel("stdin", 0),
    "probe on shell": breaking_channel("shell", 1),
    "probe on control": breaking_channel("control", 1),
    "no answer": time_out,
    "nudge": break_nudge,
    "cancelled": cancel_nudge,
    "restart callbacks": break_restart_callbacks,
    "socket option": break_socket_option,
    "going live": break_going_live,
    "count": break_count,
    "buffer": break_buffer,
    "end": break_end,
}
ROUNDS = 12


def footprint(the_desk: Desk) -> dict[str, Any]:
    """What connections leave behind, but for descriptors, which are closed a moment later."""
    cls = the_desk.connection_class
    callbacks = the_desk.kernel._restarter.callbacks
    return {
        "sessions": len(cls._open_sessions),
        "sockets": len(cls._open_sockets),
        "count": the_desk.count,
        "callbacks": {event: len(callbacks[event]) for event in callbacks},
    }


async def fail_once(the_desk: Desk, fault: Callable[[Trial], None], session_id: str | None) -> Any:
    """Connect as a server does, with a fault on the way; then the client goes."""
    connection = the_desk.connection()
    if session_id is not None:
        connection.session.session = session_id
    with ExitStack() as stack:
        fault(Trial(the_desk, connection, stack))
        try:
            await connection.prepare()
            await connection.connect()
        except (Exception, asyncio.CancelledError):
            pass
        # Twice: by the code that met the failure, and when the websocket closes.
        connection.disconnect()
        connection.disconnect()
    return connection


@pytest.mark.kernelwire_only("H5", "H6")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_connect_when_a_step_fails_then_nothing_is_left_of_it(
    desk: RunOnDesk, fault: Callable[[Trial], None]
) -> None:
    """Stops failed attempts from keeping kernels alive and eating up the descriptors."""

    async def body(the_desk: Desk) -> None:
        quiet(the_desk)
        the_desk.multi_kernel_manager.buffer_offline_messages = False
        (await the_desk.connected()).disconnect()
        before, files = footprint(the_desk), open_files()
        for _ in range(ROUNDS):
            await fail_once(the_desk, fault, None)
            assert footprint(the_desk) == before
        # The first connections of a process open some that stay, once.
        await wait_until_async(lambda: open_files() < files + 4, what="closed descriptors")
        connection = await the_desk.connected()
        assert the_desk.count == 1
        connection.disconnect()

    desk(body)


@pytest.mark.kernelwire_only("H5", "H18")
@pytest.mark.parametrize(
    "error", [InjectedError("why"), HTTPError(503, "why")], ids=["any", "HTTP"]
)
def test_connect_when_a_channel_cannot_be_opened_then_it_raises_without_a_message(
    desk: RunOnDesk, error: Exception
) -> None:
    """Stops a handler from going on with `None`, and the log from showing the request's address."""

    async def body(the_desk: Desk) -> None:
        quiet(the_desk)
        connection = the_desk.connection()
        await connection.prepare()
        with (
            patch.object(the_desk.kernel, "connect_stdin", side_effect=error),
            pytest.raises(HTTPError) as raised,
        ):
            connection.connect()
        assert raised.value.status_code == getattr(error, "status_code", 500)
        assert raised.value.log_message is None
        assert raised.value.__cause__ is error
        assert the_desk.count == 0

    desk(body)


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.kernelwire_only("H5", "H6")
@pytest.mark.parametrize("native", [True, False], ids=["native", "portable"])
def test_connect_when_a_thousand_fail_in_turn_then_all_is_back_where_it_was(
    desk: RunOnDesk, native: bool
) -> None:
    """Stops a server that runs for months from being worn down, whatever fails after what."""
    order = random.Random(1)
    way = Drain(native, "the test's choice")
    tried = 0

    async def fail_in_turn(the_desk: Desk) -> int:
        faults = order.sample(list(FAULTS.values()), len(FAULTS))
        for fault in faults:
            await fail_once(the_desk, fault, None)
        return len(faults)

    async def body(the_desk: Desk) -> None:
        nonlocal tried
        quiet(the_desk)
        the_desk.multi_kernel_manager.buffer_offline_messages = False
        await fail_in_turn(the_desk)
        before, files = footprint(the_desk), open_files()
        while tried < 1000:
            tried += await fail_in_turn(the_desk)
            assert footprint(the_desk) == before
        await wait_until_async(lambda: open_files() <= files, what="closed descriptors")

    with (
        patch("kernelwire.log.kernel_log.drain", lambda: way),
    ):
        desk(body, timeout=240)


@pytest.mark.kernelwire_only("H5", "H6")
@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS.keys())
def test_connect_when_a_return_fails_then_missed_messages_wait_for_the_next(
    desk: RunOnDesk, fault: Callable[[Trial], None]
) -> None:
    """Stops one failed reload from costing all that the tab has missed."""

    async def body(the_desk: Desk) -> None:
        quiet(the_desk)
        first = await the_desk.connected()
        session_id = first.session.session
        leave_while_running(first, script(emit(3)))
        failed = await fail_once(the_desk, fault, session_id)
        assert the_desk.count == 0
        again = the_desk.connection()
        again.session.session = session_id
        await again.prepare()
        await again.connect()
        # Some faults come too late to keep the first attempt from its work.
        await wait_until_async(
            lambda: seen_numbers(failed) + seen_numbers(again) == [0, 1, 2], what="what was missed"
        )
        finish(the_desk, again)

    if fault in (break_end, break_count):
        pytest.skip("where the buffer itself fails, there is nowhere to keep anything")
    desk(body)


def quiet(the_desk: Desk) -> None:
    """Let the injected failures be logged, but not printed."""
    the_desk.multi_kernel_manager.log.setLevel(logging.CRITICAL + 1)
