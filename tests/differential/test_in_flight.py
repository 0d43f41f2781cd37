"""What was written when a client goes: each message has left the server, or is kept, and not both.

There is nothing to compare with: stock loses what its websocket has not handed to the socket (H8).
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_client.session import Session
from tornado.websocket import WebSocketHandler

from kernelwire.log.backlog import Backlog
from support.flooding import head, iopub, let_go
from support.messages import decode
from support.offline_messages import DELIMITER, display, message_header, packed
from support.waiting import run_to_end
from support.websocket import CLOSE
from support.workbench import NATIVE, PORTABLE, V1, Workbench

if TYPE_CHECKING:
    from collections.abc import Iterator

KINDS = {
    "native": (NATIVE, V1, False),
    "portable": (PORTABLE, V1, False),
    "message by message": (NATIVE, V1, True),
    "default protocol": (NATIVE, None, False),
}
SEND_BUFFER_BYTES = 8192
"""So little that the larger messages do not fit."""

few = settings(deadline=None, max_examples=40, suppress_health_check=list(HealthCheck))
sizes = st.sampled_from((0, 10, 300, 5000, 70_000))
Step = tuple[list[tuple[int, bool]], int]
steps = st.lists(
    st.tuples(
        # What comes at the same time: sizes, and whether the pump leaves a message to Python.
        st.lists(st.tuples(sizes, st.booleans()), max_size=6),
        # How many bytes the client reads then.
        st.sampled_from((0, 0, 1, 700, 100_000)),
    ),
    min_size=1,
    max_size=6,
)


def message(number: int, size: int, odd: bool) -> list[bytes]:
    """A numbered message; an odd one has a header that only Python can read."""
    if not odd:
        return display(number, size)
    header = packed(message_header("display_data", number))[:-1] + b', "odd": NaN}'
    return iopub([header, head(), b"{}", packed({"data": "x" * size})])[1]


def open_bench(kind: str) -> Workbench:
    """A workbench whose connection is live, as after `connect`."""
    way, subprotocol, overridden = KINDS[kind]
    bench = Workbench(way, subprotocol)
    for end in (bench.iostream.socket, bench.theirs):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    connection = bench.connection
    connection.parent.session = Session(key=b"key")
    if overridden:
        write = WebSocketHandler.write_message
        bench.handler.write_message = lambda *args, **more: write(bench.handler, *args, **more)
    bench.go_live()
    return bench


async def read(bench: Workbench, count: int) -> None:
    """Have the client read so much, or all there is."""
    while count > 0:
        await asyncio.sleep(0)
        try:
            data = bench.theirs.recv(count)
        except BlockingIOError:
            return
        if not data:
            return
        bench.received += data
        count -= len(data)


def whole_payloads(data: bytes) -> Iterator[bytes]:
    """What is in websocket frames, of which the last may be cut off (RFC 6455, section 5.2)."""
    at = 0
    while at + 2 <= len(data):
        opcode, size, at = data[at] & 0x0F, data[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            if at + width > len(data):
                return
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            return
        if opcode != CLOSE:
            yield data[at : at + size]
        at += size


def seen(bench: Workbench, kind: str) -> list[int]:
    """The numbers of the messages that the client has whole."""
    v1 = KINDS[kind][1] is not None
    ids = [
        (decode(each, "v1") if v1 else decode(each.decode(), "legacy")).msg_id
        for each in whole_payloads(bytes(bench.received))
    ]
    return [int(text.strip("⟦⟧")) for text in ids]


def close(bench: Workbench) -> Any:
    """End as tornado does when the client's close frame has come; what is kept."""
    bench.handler.ws_connection.client_terminated = True
    bench.iostream.close()
    return bench.connection._take_backlog()


def replace(bench: Workbench) -> Any:
    """End as where another connection takes the session over; what that one gets."""
    bench.handler.ws_connection.close()
    return Backlog(bench.connection._release_client())


ENDS = {"closed": close, "replaced": replace}


def kept(backlog: Any) -> list[int]:
    """The numbers of the messages in a backlog, each signed with the kernel's key."""
    numbers = []
    for _, frames in backlog or ():
        receiver = Session(key=b"key")
        receiver.deserialize(receiver.feed_identities(list(frames))[1])
        header = json.loads(frames[frames.index(DELIMITER) + 2])
        numbers.append(int(header["msg_id"].strip("⟦⟧")))
    return numbers


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ENDS)
@given(flood=steps)
@few
def test_client_when_it_goes_in_a_flood_then_each_message_is_sent_or_kept(
    kind: str, end: str, flood: list[Step]
) -> None:
    """Stops messages from being lost, or shown twice, because a tab was closed in their middle."""

    async def check() -> None:
        bench = open_bench(kind)
        try:
            count = 0
            for messages, wanted in flood:
                for size, odd in messages:
                    bench.kernel_ends["iopub"].send_multipart(message(count, size, odd))
                    count += 1
                let_go(bench)
                await read(bench, wanted)
            backlog = ENDS[end](bench)
            await read(bench, 1 << 30)
            assert seen(bench, kind) + kept(backlog) == list(range(count))
        finally:
            bench.close()

    run_to_end(check)
