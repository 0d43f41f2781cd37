"""Large buffers reach the client whole, without being copied on the way, and are let go of."""

from __future__ import annotations

import gc
import json
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from kernelwire._native import LargePart
from kernelwire.log.writers import BlockWriter
from support.waiting import run_to_end, wait_until_async
from support.workbench import NATIVE, PORTABLE, STOCK, V1, Workbench

if TYPE_CHECKING:
    from typing import Any

LARGE = bytes(range(256)) * 1024
protocols = pytest.mark.parametrize("protocol", [V1, None])


def display(number: int) -> list[bytes]:
    """A message that is plain to everybody."""
    header = {"msg_id": str(number), "msg_type": "display_data", "version": "5.4", "date": ""}
    parts = [json.dumps(part).encode() for part in (header, {}, {}, {"number": number})]
    return [b"<IDS|MSG>", b"", *parts]


def messages() -> list[tuple[str, list[bytes]]]:
    """Small messages and large ones, with buffers on both sides of the threshold."""
    buffers: list[list[bytes]] = [
        [], [LARGE], [b"small", LARGE, b"", LARGE[1:]], [b"x" * 65_535], [b"x" * 65_536], [],
    ]  # fmt: skip
    return [("iopub", [*display(number), *each]) for number, each in enumerate(buffers)]


async def got(way: str, protocol: str | None) -> bytes:
    bench = Workbench(way, protocol, limit_rate=False)
    bench.connection.session.key = b""  # the displays are not signed
    if way != STOCK:
        bench.go_live()
    try:
        bench.deliver(messages())
        return await bench.sent()
    finally:
        bench.close()


@pytest.mark.parametrize("way", [NATIVE, PORTABLE])
def test_client_when_parts_are_large_then_gets_the_bytes_that_stock_sends(way: str) -> None:
    """Stops heads, order or lengths from going wrong where a block is written in pieces."""

    async def check() -> None:
        assert await got(way, V1) == await got(STOCK, V1)

    run_to_end(check)


def referrers(objects: list[Any]) -> list[list[Any]]:
    """What holds each of some objects.

    Not in the coroutine that asks: from Python 3.14 on, one that runs holds its variables as well,
    and that of a comprehension is one of them.
    """
    return [gc.get_referrers(held) for held in objects]


@protocols
def test_part_when_it_is_large_then_is_written_where_libzmq_has_put_it(
    protocol: str | None,
) -> None:
    """Stops copies, and memory that is never given back, where the event loop writes."""
    parts: list[LargePart] = []

    def remembering(writer: BlockWriter, pieces: list[Any], error: int) -> None:
        parts.extend(piece for piece in pieces if isinstance(piece, LargePart))
        original(writer, pieces, error)

    original = BlockWriter.put

    async def check() -> None:
        bench = Workbench(NATIVE, protocol, limit_rate=False)
        bench.connection.session.key = b""
        bench.go_live()
        with patch.object(BlockWriter, "put", remembering):
            bench.deliver(messages())
            assert bench.is_writing(), "more than fits the socket"
            data = await bench.sent()
        # Of the one that the socket has taken in part, the rest; those that it took whole are not seen.
        sizes = {len(memoryview(part)) for part in parts}
        assert sizes & {len(LARGE), len(LARGE) - 1}
        assert LARGE in data
        cursor = bench.connection._client.cursor
        await wait_until_async(lambda: cursor.waiting() == (0, 0), what="nothing in flight")
        bench.close()
        gc.collect()
        # Each part is held by this list alone.
        assert referrers(parts) == [[parts]] * len(parts)

    run_to_end(check)


@protocols
def test_client_when_it_goes_in_the_middle_of_a_large_part_then_the_next_has_it_whole(
    protocol: str | None,
) -> None:
    """Stops what was written in pieces from being lost, or kept in pieces."""

    async def check() -> None:
        bench = Workbench(NATIVE, protocol, limit_rate=False)
        bench.connection.session.key = b""
        bench.go_live()
        large = LARGE * 20
        bench.deliver([("iopub", [*display(0), b"before"]), ("iopub", [*display(1), large, b"x"])])
        assert bench.is_writing()
        bench.iostream.close()
        unsent = bench.connection._take_backlog()
        assert [frames[6:] for _, frames in unsent][-1] == [large, b"x"]
        assert [json.loads(frames[5]) for _, frames in unsent][-1] == json.loads(display(1)[-1])
        bench.close()

    run_to_end(check)
