"""A replay in which something fails: that message is lost, the others and what follows are not."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from kernelwire import _native
from kernelwire._protocol import V1
from support.desk import finish, leave_while_running, run_on_shell
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk

pytestmark = pytest.mark.kernelwire_only("E")


def v1_connection(the_desk: Desk) -> Any:
    """A connection that speaks the v1 protocol, for which no message is left to Python."""
    connection = the_desk.connection()
    connection.websocket_handler.ws_connection.selected_subprotocol = V1
    return connection


def seen_numbers(connection: Any) -> list[int]:
    """The numbers of the outputs that were written to the mock websocket."""
    calls = connection.websocket_handler.mock_connection.write_message.call_args_list
    metadata = [json.loads(_native.decode_v1(call.args[0])[1][2]) for call in calls]
    return [each["number"] for each in metadata if "number" in each]


async def replayed(the_desk: Desk, fault: Any) -> Any:
    """A connection whose backlog of 40 messages meets a fault."""
    first = await the_desk.connected()
    leave_while_running(first, script(emit(40)))
    again = v1_connection(the_desk)
    again.session.session = first.session.session
    fault(again)
    await again.prepare()
    await again.connect()
    run_on_shell(again, script(emit(2)))
    await wait_until_async(lambda: seen_numbers(again)[-1:] == [41], what="live output")
    return again


def refuse_number(number: int) -> Any:
    """A handler that refuses one message."""

    def fault(connection: Any) -> None:
        handler = connection.websocket_handler
        original = handler.write_message

        def write_message(message: Any, binary: bool = False) -> Any:
            if f'"number": {number}}}' in str(message):
                raise ValueError("one message that the handler refuses")
            return original(message, binary)

        handler.write_message = write_message

    return fault


class TestFailingReplay:
    """What raises costs one message at most."""

    @pytest.mark.parametrize("number", [0, 3, 17, 39])
    def test_refused_message_costs_no_other(self, desk: RunOnDesk, number: int) -> None:
        """One that the websocket's handler refuses is left out, wherever in the backlog it is."""

        async def body(the_desk: Desk) -> None:
            again = await replayed(the_desk, refuse_number(number))
            assert seen_numbers(again) == [n for n in range(42) if n != number]
            finish(the_desk, again)

        desk(body)

    def test_connection_that_cannot_go_live_is_closed(self, desk: RunOnDesk) -> None:
        """A failure behind the replay ends the connection: it is not left deaf."""

        async def body(the_desk: Desk) -> None:
            first = await the_desk.connected()
            leave_while_running(first, script(emit(40)))
            again = v1_connection(the_desk)
            again.session.session = first.session.session
            with (
                patch.object(type(again), "_go_live", side_effect=RuntimeError("not live")),
                patch.object(again.websocket_handler, "close") as close,
            ):
                await again.prepare()
                await again.connect()
                await wait_until_async(lambda: close.called, what="the end")
            assert the_desk.count == 0

        desk(body)


class TestRefusedLiveMessage:
    """The same, live."""

    def test_refused_message_costs_no_other(self, desk: RunOnDesk) -> None:
        """One that the websocket's handler refuses costs none that came in the same batch."""

        async def body(the_desk: Desk) -> None:
            connection = v1_connection(the_desk)
            refuse_number(3)(connection)
            await connection.prepare()
            await connection.connect()
            run_on_shell(connection, script(emit(10)))
            await wait_until_async(lambda: seen_numbers(connection)[-1:] == [9], what="the last")
            assert seen_numbers(connection) == [n for n in range(10) if n != 3]
            finish(the_desk, connection)

        desk(body)
