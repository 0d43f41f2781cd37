"""A message larger than a client, or a proxy before it, accepts: it is not sent for ever."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from support.fake_kernel import emit, script
from support.websocket import ConnectionClosedError

if TYPE_CHECKING:
    from support.messages import Message
    from support.server import Server, StartKernel
    from support.ws_client import Client, Connect

ACCEPTED = 1 << 20
REFUSED = 16 << 20
"""More than the sockets between server and client hold."""

NOTICE = re.compile(r"^A message of ([0-9]+) bytes was not delivered")

pytestmark = pytest.mark.kernelwire_only("I1")


class TestRefusedMessage:
    """A session whose client refuses a message goes on behind it, and is told."""

    @pytest.mark.parametrize("closes", [True, False], ids=["1009", "cut off"])
    def test_session_goes_on_behind_it(
        self,
        server: Server,
        connect: Connect,
        start_kernel: StartKernel,
        protocol: str,
        closes: bool,
    ) -> None:
        """The second reconnect stays open, what follows arrives, and one notice has the size."""
        kernel_id = start_kernel("fake")
        options = {"protocol": protocol, "max_size": ACCEPTED, "closes": closes}
        client = connect(kernel_id, **options)
        msg_id = client.start(script(emit(1), emit(1, buffers=[REFUSED]), emit(3)))
        seen = until_closed(client)
        attempts = 1
        while (found := reconnected(server, connect, kernel_id, client, options)) is None:
            attempts += 1
        again, replayed = found
        seen += replayed
        if not any(m.is_status("idle", msg_id) for m in seen):
            seen += again.until_idle(msg_id).messages  # an answer may overtake what waits
        assert attempts == (1 if closes else 2)
        assert [m.metadata["number"] for m in seen if "number" in m.metadata] == [0, 2, 3, 4]
        (notice,) = notices(seen)
        assert notice.parent_id == msg_id
        size = NOTICE.match(notice.content["text"])
        assert size is not None
        assert REFUSED < int(size[1]) < REFUSED + 4096

        # It has been told, and the session is as good as any.
        again.close()
        server.wait_for_connections(kernel_id, 0)
        last = connect(kernel_id, session_id=client.session_id, settle=False, **options)
        execution = last.execute(script(emit(2)))
        assert execution.numbers == [5, 6]
        assert notices(execution.messages) == []

    def test_message_is_sent_whole_at_the_second_try(
        self, server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
    ) -> None:
        """A connection that breaks once in a large message costs nothing."""
        kernel_id = start_kernel("fake")
        client = connect(kernel_id, protocol=protocol, max_size=ACCEPTED, closes=False)
        msg_id = client.start(script(emit(1), emit(1, buffers=[REFUSED]), emit(1)))
        seen = until_closed(client)
        server.wait_for_connections(kernel_id, 0)
        again = connect(kernel_id, protocol=protocol, session_id=client.session_id, settle=False)
        # The reply may have been sent before the output was.
        seen += again.until_idle(msg_id).messages
        assert [m.metadata["number"] for m in seen if "number" in m.metadata] == [0, 1, 2]
        assert notices(seen) == []


def until_closed(client: Client) -> list[Message]:
    """What comes until the client has refused a message."""
    return client.rest()[0]


def reconnected(
    server: Server, connect: Connect, kernel_id: str, client: Client, options: dict[str, object]
) -> tuple[Client, list[Message]] | None:
    """A connection of the same session and what it gets; `None` where it refuses a message."""
    server.wait_for_connections(kernel_id, 0)
    again = connect(kernel_id, session_id=client.session_id, settle=False, **options)
    try:
        return again, again.ask("control", "kernel_info_request", {}).messages
    except ConnectionClosedError:
        return None


def notices(messages: list[Message]) -> list[Message]:
    """The messages that say what was not delivered."""
    return [m for m in messages if m.msg_type == "stream" and "not delivered" in m.content["text"]]
