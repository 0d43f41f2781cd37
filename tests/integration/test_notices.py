"""Notices about dropped output whose request has a header that cannot be written anew."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

import pytest

from kernelwire import _native
from kernelwire.connection.nudge import current_state
from kernelwire.log.backlog import Dropped
from support.desk import finish, run_on_shell, seen_numbers, written
from support.fake_kernel import emit, script
from support.waiting import wait_until_async

if TYPE_CHECKING:
    from support.desk import Desk, RunOnDesk

pytestmark = pytest.mark.kernelwire_only("N3")

LONE = '"\\ud800"'
"""A string that JSON parsers read and that UTF-8 cannot write."""

HEADERS = {
    "lone surrogate": f'{{"msg_id": "m", "username": {LONE}}}',
    "lone surrogate as id": f'{{"msg_id": {LONE}, "username": "u"}}',
    "lone surrogate as name": f'{{"msg_id": "m", {LONE}: 1}}',
    "nested": f'{{"msg_id": "m", "odd": [{{"a": {LONE}}}]}}',
    "null": "null",
    "list": "[1]",
    "text": '"x"',
    "no id": '{"username": "u"}',
    "no JSON": "{",
}
V1 = "v1.kernel.websocket.jupyter.org"


def notices_of(connection: Any) -> list[str]:
    """The notices that were sent, which may be v1 messages."""
    calls = connection.websocket_handler.mock_connection.write_message.call_args_list
    whole = [c.args[0] if isinstance(c.args[0], bytes) else c.args[0].encode() for c in calls]
    return [text.decode(errors="replace") for text in whole if b"were dropped" in text]


def notice_of(connection: Any) -> str:
    """The text of the only notice that was sent."""
    (notice,) = notices_of(connection)
    return notice


class TestNotice:
    """A notice is sent with what can be written of the header, and nothing is lost behind it."""

    @pytest.mark.parametrize("subprotocol", [V1, None], ids=["v1", "legacy"])
    @pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS.keys())
    def test_notice_never_raises(self, desk: RunOnDesk, header: str, subprotocol: str) -> None:
        """Whatever the request's header is, the client is told."""

        async def body(the_desk: Desk) -> None:
            connection = the_desk.connection()
            connection.websocket_handler.ws_connection.selected_subprotocol = subprotocol
            manager = the_desk.multi_kernel_manager
            connection.tell_dropped(
                Dropped(3, 4), "just so", manager, "max_offline_buffer_bytes", header.encode()
            )
            assert "3 messages (4 bytes) of output were dropped just so" in notice_of(connection)
            if header.startswith('{"msg_id": "m"'):
                assert '"msg_id":"m"' in notice_of(connection).replace(": ", ":")

        desk(body)

    @pytest.mark.parametrize("subprotocol", [V1, None], ids=["v1", "legacy"])
    def test_failing_notice_is_logged(self, desk: RunOnDesk, subprotocol: str) -> None:
        """A subclass's ``write_stderr`` that raises costs the notice, not what comes behind it."""

        async def body(the_desk: Desk) -> None:
            connection = the_desk.connection()
            connection.websocket_handler.ws_connection.selected_subprotocol = subprotocol

            def failing(*_args: Any) -> None:
                raise RuntimeError("no notices")

            connection.write_stderr = failing
            connection.tell_dropped(
                Dropped(3, 4), "x", the_desk.multi_kernel_manager, "max_offline_buffer_bytes", b"{}"
            )

        desk(body)

    @pytest.mark.parametrize("subprotocol", [V1, None], ids=["v1", "legacy"])
    def test_first_reconnect_is_served(self, desk: RunOnDesk, subprotocol: str | None) -> None:
        """A replay that begins with such a notice goes on behind it."""

        async def body(the_desk: Desk) -> None:
            manager = the_desk.multi_kernel_manager
            manager.max_offline_buffer_bytes = 20_000
            first = await the_desk.connected()
            run_with_odd_header(first, script(emit(300)))
            first.disconnect()
            buffer = manager._kernel_buffers[the_desk.kernel_id]["buffer"]
            await wait_until_async(
                lambda: (
                    buffer.dropped
                    and any(channel == "shell" for channel, _ in buffer)
                    and any(b'"idle"' in frames[-1] for _, frames in buffer)
                ),
                what="the end of the cell",
            )
            await wait_until_async(
                lambda: current_state(first) == "idle", what="the kernel to be idle"
            )
            again = the_desk.connection()
            again.session.session = first.session.session
            await again.prepare()
            again.websocket_handler.ws_connection.selected_subprotocol = subprotocol
            await again.connect()
            await wait_until_async(lambda: notices_of(again), what="the notice")
            assert "of output were dropped while no client" in notice_of(again)
            assert the_desk.count == 1
            if subprotocol is None:
                await wait_until_async(
                    lambda: seen_numbers(again)[-1:] == [299], what="the backlog"
                )
                run_on_shell(again, script(emit(1)))
                await wait_until_async(lambda: seen_numbers(again)[-1] == 300, what="live output")
                assert any(m["content"] == {"execution_state": "idle"} for m in written(again))
            finish(the_desk, again)

        desk(body)

    def test_idle_behind_a_live_notice_is_sent(self, desk: RunOnDesk) -> None:
        """The request's `idle`, before which the client is told, arrives as well."""

        async def body(the_desk: Desk) -> None:
            connection = the_desk.connection()
            # In the default protocol, Python reads each message with such a parent.
            connection.websocket_handler.ws_connection.selected_subprotocol = V1
            await connection.prepare()
            await connection.connect()
            connection.max_pending_bytes = 1  # the least there is
            with patch.object(connection._client._writer, "descriptor", lambda: None):
                run_with_odd_header(connection, script(emit(1_000)))
                await wait_until_async(
                    lambda: connection.stats["congested"] and current_state(connection) == "idle",
                    what="output that is dropped",
                )
            connection._client.flush()

            def is_told() -> bool:
                calls = connection.websocket_handler.mock_connection.write_message.call_args_list
                messages = [_native.decode_v1(call.args[0])[1] for call in calls]
                return any(b'"idle"' in parts[3] and b'"odd"' in parts[1] for parts in messages)

            await wait_until_async(is_told, what="the idle")
            assert "because the client did not read" in notice_of(connection)
            finish(the_desk, connection)

        desk(body)


def run_with_odd_header(connection: Any, code: str) -> None:
    """Have the kernel run a script for a request whose header cannot be written anew."""
    session = connection.session
    request = session.msg("execute_request", {"code": code, "silent": False})
    parts = [
        json.dumps(request[name], default=str).encode() for name in ("header", "parent_header")
    ]
    parts[0] = parts[0][:-1] + f', "odd": {LONE}}}'.encode()
    parts += [b"{}", json.dumps(request["content"]).encode()]
    shell = connection.channels["shell"]
    shell.send_multipart([b"<IDS|MSG>", session.sign(parts), *parts])
