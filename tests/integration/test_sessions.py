"""Sessions that are away: each has its own backlog, whoever connects meanwhile."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernelwire.kernels.sessions import MAX_SESSIONS
from support.desk import finish, open_files, run_on_shell, seen_numbers, written
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk

pytestmark = pytest.mark.kernelwire_only("I5")

GOODBYE = 1001


async def connected(the_desk: Desk, former: Any = None) -> Any:
    """A live connection, of a session that was there before or of a new one."""
    connection = the_desk.connection()
    connection.websocket_handler.ws_connection.close_code = None
    if former is not None:
        connection.session.session = former.session.session
    await connection.prepare()
    await connection.connect()
    return connection


async def run(connection: Any, count: int) -> None:
    """Have the kernel publish so many numbers, and wait until this client has them."""
    before = len(seen_numbers(connection))
    run_on_shell(connection, script(emit(count)))
    await until_seen(connection, before + count)


async def until_seen(connection: Any, count: int) -> None:
    """Wait until a client has so many numbers."""
    await wait_until_async(lambda: len(seen_numbers(connection)) >= count, what="the output")


class TestSession:
    """A session that is away gets what it has missed, and nothing else does away with it."""

    def test_backlog_survives_the_visit_of_another(self, desk: RunOnDesk) -> None:
        """A drops, B visits and leaves, A returns: all of it."""

        async def body(the_desk: Desk) -> None:
            first = await connected(the_desk)
            await run(first, 2)
            first.disconnect()
            visitor = await connected(the_desk)
            await run(visitor, 3)
            visitor.disconnect()
            again = await connected(the_desk, first)
            await until_seen(again, 3)
            assert seen_numbers(again) == [2, 3, 4]
            await run(again, 1)
            finish(the_desk, again)

        desk(body)

    def test_backlog_of_one_that_drops_beside_others(self, desk: RunOnDesk) -> None:
        """A and B are connected, A drops for a while: all of it, and its replies."""

        async def body(the_desk: Desk) -> None:
            first, other = await connected(the_desk), await connected(the_desk)
            await run(first, 1)
            run_on_shell(first, script(emit(2)))
            first.disconnect()
            assert the_desk.count == 1
            await until_seen(other, 3)
            await run(other, 2)
            again = await connected(the_desk, first)
            await until_seen(again, 4)
            assert seen_numbers(again) == [1, 2, 3, 4]
            await wait_until_async(
                lambda: any(m["msg_type"] == "execute_reply" for m in written(again)),
                what="the reply",
            )
            for each in (again, other):
                finish(the_desk, each)

        desk(body)

    def test_goodbye_beside_others_keeps_nothing(self, desk: RunOnDesk) -> None:
        """A page that goes away while another tab is open will not come back as this session."""

        async def body(the_desk: Desk) -> None:
            first, other = await connected(the_desk), await connected(the_desk)
            first.websocket_handler.ws_connection.close_code = GOODBYE
            streams = list(first.channels.values())
            first.disconnect()
            assert all(stream.closed() for stream in streams)
            finish(the_desk, other)

        desk(body)

    def test_sessions_are_bounded(self, desk: RunOnDesk) -> None:
        """Of too many sessions, the one that went first is given up, with its sockets."""

        async def body(the_desk: Desk) -> None:
            stays = await connected(the_desk)
            (await connected(the_desk)).disconnect()
            before = open_files()
            gone = []
            for _ in range(2 * MAX_SESSIONS):
                gone.append(await connected(the_desk))
                gone[-1].disconnect()
            await run(stays, 2)
            for former, expected in ((gone[-1], [0, 1]), (gone[0], [])):
                again = await connected(the_desk, former)
                await until_seen(again, len(expected))
                await run(again, 1)
                assert seen_numbers(again)[:-1] == expected
                again.websocket_handler.ws_connection.close_code = GOODBYE
                again.disconnect()
            kept = MAX_SESSIONS * 4 * 3  # channels of each, and what libzmq has open for them
            assert open_files() < before + kept
            finish(the_desk, stays)

        desk(body)
