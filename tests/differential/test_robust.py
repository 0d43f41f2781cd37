"""What stock fails on costs one message at the most, one log line, and nothing that follows.

There is nothing to compare with: stock forwards half messages, or its stream is deaf from then on
(H1, H18, H23, H29).
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from jupyter_client.session import Session
from tornado.websocket import WebSocketClosedError

from kernelwire._native import NativeError
from kernelwire.log.backlog import Backlog
from support.flooding import (
    ROOM,
    arrive,
    exceed,
    head,
    iopub,
    kernels,
    let_go,
    other,
    printed,
    status,
    workbench,
)
from support.offline_messages import DELIMITER, display, message_header, packed
from support.waiting import run_to_end, wait_until_async
from support.workbench import NATIVE, ONE_BY_ONE, PORTABLE, Workbench, clock

if TYPE_CHECKING:
    from collections.abc import Callable

DATE = datetime(2026, 1, 1, tzinfo=UTC)
WAYS = (NATIVE, PORTABLE, ONE_BY_ONE)
every_way = pytest.mark.parametrize("way", WAYS)
both_ways = pytest.mark.parametrize("way", [NATIVE, PORTABLE])


def go_live(bench: Workbench) -> None:
    """Have messages arrive from the channels one by one, as for a subclass that sees each."""
    if bench.way == ONE_BY_ONE:
        bench.connection.get_part = bench.connection.get_part  # a hook that is overridden
        bench.go_live()


async def delivered(bench: Workbench, sent: list[tuple[str, list[bytes]]]) -> None:
    """Let messages arrive, and wait until they have been handled."""
    for channel, frames in sent:
        bench.kernel_ends[channel].send_multipart(frames)
    let_go(bench)
    await asyncio.sleep(0)


def warnings_of(bench: Workbench, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What was logged, by the connection or by its streams."""
    records = [r.getMessage() for r in caplog.records if r.levelno >= logging.WARNING]
    # The workbench keeps what is for debugging, too.
    return [line for line in bench.log.lines if not line.startswith("Messages to")] + records


# messages


def whole(number: int = 0) -> list[bytes]:
    """The parts of a message with nothing wrong."""
    return [packed(message_header("display_data", number)), head(), b"{}", b'{"data": {}}']


def headed(header: bytes) -> list[bytes]:
    """Frames with such a header."""
    return [DELIMITER, b"", header, *whole()[1:]]


MALFORMED = {
    "no delimiter": [b"topic", b"neither", b"here"],
    "one empty frame": [b""],
    "nothing behind the delimiter": [DELIMITER],
    "no parts": [b"topic", DELIMITER, b""],
    "one part": [DELIMITER, b"", *whole()[:1]],
    "three parts": [DELIMITER, b"", *whole()[:3]],
    "header not JSON": headed(b"{nonsense"),
    "header a list": headed(b"[1, 2]"),
    "header null": headed(b"null"),
    "no type": headed(b'{"msg_id": "x"}'),
    "type a list": headed(b'{"msg_type": ["stream"]}'),
    "status without an object": [DELIMITER, b"", packed(message_header("status", 0)), *whole()[1:3], b"[]"],
    "status not JSON": [DELIMITER, b"", packed(message_header("status", 0)), *whole()[1:3], b"{"],
}  # fmt: skip


@every_way
@pytest.mark.parametrize("kind", MALFORMED)
def test_message_when_it_is_malformed_then_it_costs_one_log_line_and_what_follows_arrives(
    way: str, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Stops one bad message from making a tab deaf, or a broken kernel from filling the log."""

    async def check() -> None:
        with workbench(way) as bench:
            go_live(bench)
            good = [("iopub", display(number)) for number in range(3)]
            bad = [("iopub", MALFORMED[kind])] * 40
            await delivered(bench, [good[0], *bad, good[1], *bad, good[2]])
            assert [one.numbers for one in await kernels(bench)] == [[0], [1], [2]]
            assert len(warnings_of(bench, caplog)) == 1

    run_to_end(check)


@every_way
@pytest.mark.parametrize("kind", ["no delimiter", "three parts", "no parts"])
@pytest.mark.parametrize("channel", ["shell", "iopub"])
def test_message_when_parts_are_missing_then_no_client_sees_it_on_any_channel(
    way: str, kind: str, channel: str
) -> None:
    """Stops half messages from reaching a browser, whose parser then throws."""

    async def check() -> None:
        with workbench(way, limit_rate=False) as bench:
            go_live(bench)
            await delivered(bench, [(channel, MALFORMED[kind]), (channel, display(1))])
            assert [one.numbers for one in await kernels(bench)] == [[1]]

    run_to_end(check)


@both_ways
def test_message_when_it_is_malformed_then_it_is_counted(way: str) -> None:
    """Stops counters that do not add up where a kernel misbehaves."""

    async def check() -> None:
        with workbench(way) as bench:
            await delivered(bench, [("iopub", MALFORMED["three parts"])] * 5)
            stats = bench.connection.stats
            assert (stats["received"], stats["refused"], stats["forwarded"]) == (5, 5, 0)

    run_to_end(check)


# a reader that fails


def break_reader(bench: Workbench, channel: str = "iopub") -> None:
    """Have the next read of a channel fail as a bug of the pump would."""

    def fail(*_: Any) -> Any:
        raise NativeError("a bug")

    reader = bench.connection.channels[channel]._reader
    reader._receive = fail  # a log's
    reader._client = fail  # a mailbox's


@both_ways
def test_reader_when_it_raises_then_messages_go_one_by_one_and_none_is_lost(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Stops a bug in the native code from silencing a tab: the slow way is still there."""

    async def check() -> None:
        with workbench(way) as bench:
            await delivered(bench, [("iopub", display(0))])
            break_reader(bench)
            for number in range(1, 20):
                bench.kernel_ends["iopub"].send_multipart(display(number))
            await wait_until_async(
                lambda: bench.connection.channels["iopub"]._reader is None, what="the failure"
            )
            for number in range(20, 30):
                bench.kernel_ends["iopub"].send_multipart(display(number))
            await got_numbers(bench, list(range(30)))
            assert len(warnings_of(bench, caplog)) == 1

    run_to_end(check)


async def got_numbers(bench: Workbench, expected: list[int]) -> None:
    """Wait until the client has as many messages, which must be these."""
    got: list[int] = []
    for _ in range(500):
        got = [n for one in await kernels(bench) for n in one.numbers]
        if len(got) >= len(expected):
            break
        await asyncio.sleep(0.01)
    assert got == expected


@both_ways
def test_reader_when_it_raises_then_the_other_channels_keep_theirs(way: str) -> None:
    """Stops a failure on one channel from slowing down the others."""

    async def check() -> None:
        with workbench(way) as bench:
            break_reader(bench)
            await delivered(bench, [("iopub", display(1)), ("shell", display(2))])
            await got_numbers(bench, [1, 2])
            assert bench.connection.channels["shell"]._reader is not None

    run_to_end(check)


@both_ways
def test_reader_when_it_raises_then_what_waits_comes_before_what_follows(way: str) -> None:
    """Stops lines that wait for their turn from being lost with the reader that failed."""

    async def check() -> None:
        with workbench(way, **ROOM) as bench:
            with clock([1_000.0], DATE):
                exceed(bench)
                arrive(bench, [printed(1), printed(2)])
                assert bench.connection.stats["paced"] == 2
                break_reader(bench)
                arrive(bench, [status("idle", 3)])
                let_go(bench)
            for _ in range(20):
                await asyncio.sleep(0.01)
            assert [n for one in (await kernels(bench))[10:] for n in one.numbers] == [1, 2, 3]

    run_to_end(check)


# a websocket that is closing


def terminate(bench: Workbench) -> None:
    """The client has sent its close frame."""
    bench.handler.ws_connection.client_terminated = True


def forget(bench: Workbench) -> None:
    """The websocket is gone, and nobody has been told yet."""
    bench.handler.ws_connection = None


def cut(bench: Workbench) -> None:
    """The connection is broken."""
    bench.iostream.close()


CLOSINGS: dict[str, Callable[[Workbench], None]] = {
    "close frame": terminate,
    "no websocket": forget,
    "broken": cut,
}


@both_ways
@pytest.mark.parametrize("closing", CLOSINGS)
def test_websocket_when_it_is_closing_then_messages_wait_for_the_buffer(
    way: str, closing: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Stops what a kernel says between the end of a tab and its buffer from being lost."""

    async def check() -> None:
        with workbench(way) as bench:
            await delivered(bench, [("iopub", display(0)), ("shell", display(1))])
            CLOSINGS[closing](bench)
            sent = [
                (channel, display(number)) for number, channel in enumerate(["iopub", "shell"] * 10)
            ]
            for channel, frames in sent:
                bench.kernel_ends[channel].send_multipart(frames)
            for _ in range(5):
                await asyncio.sleep(0.01)
            let_go(bench)
            assert by_channel(bench.connection._take_backlog()) == by_channel(sent)
            assert warnings_of(bench, caplog) == []

    run_to_end(check)


def by_channel(messages: list[tuple[str, list[bytes]]]) -> dict[str, list[list[bytes]]]:
    """The messages of each channel."""
    return {name: [f for channel, f in messages if channel == name] for name in ("iopub", "shell")}


@both_ways
def test_websocket_when_it_closes_between_messages_then_the_rest_is_kept(way: str) -> None:
    """Stops a websocket that is not plain, and closes under a batch, from losing its rest."""

    async def check() -> None:
        with workbench(way) as bench:
            written: list[bytes] = []

            def write(message: bytes, binary: bool = False) -> None:
                if len(written) == 3 or not binary:
                    raise WebSocketClosedError
                written.append(message)

            bench.handler.write_message = write
            bench.go_live()
            sent = [("iopub", display(number)) for number in range(8)]
            await delivered(bench, sent)
            assert len(written) == 3
            assert kept_numbers(bench) == [3, 4, 5, 6, 7]

    run_to_end(check)


def kept(bench: Workbench) -> list[tuple[str, list[bytes]]]:
    """What the connection leaves to the offline buffer; each message's signature is checked."""
    bench.connection.parent.session = Session(key=b"key")
    backlog = bench.connection._take_backlog()
    assert isinstance(backlog, Backlog)
    for _, frames in backlog:
        receiver = Session(key=b"key")
        receiver.deserialize(receiver.feed_identities(frames)[1])
    return list(backlog)


def kept_numbers(bench: Workbench) -> list[int]:
    """The numbers of the messages that are left to the offline buffer."""
    ids = [json.loads(frames[frames.index(DELIMITER) + 2])["msg_id"] for _, frames in kept(bench)]
    return [int(text.strip("⟦⟧")) for text in ids]


# a socket that fails


def reset(bench: Workbench) -> None:
    """Break the client's connection, as a reset would; the next write notices."""
    bench.iostream.socket.shutdown(socket.SHUT_WR)


@both_ways
def test_socket_when_it_is_reset_then_the_block_goes_to_the_offline_buffer(way: str) -> None:
    """Stops messages from being lost that were received and could not be written any more."""

    async def check() -> None:
        with workbench(way) as bench:
            await delivered(bench, [("iopub", display(0))])
            reset(bench)
            buffered = ("iopub", [*display(3), b"a buffer", b""])
            sent = [("iopub", display(1)), ("iopub", display(2)), buffered]
            for channel, frames in sent:
                bench.kernel_ends[channel].send_multipart(frames)
            bench.kernel_ends["shell"].send_multipart(display(4))
            let_go(bench)
            assert bench.iostream.closed()
            left = kept(bench)
            output = [frames for channel, frames in left if channel == "iopub"]
            assert output == [frames for _, frames in sent]
            assert [frames for channel, frames in left if channel == "shell"] == [display(4)]

    run_to_end(check)


@both_ways
def test_socket_when_it_is_reset_under_a_reply_then_the_buffer_knows_its_channel(way: str) -> None:
    """Stops a reply from coming back as output, for which no client waits."""

    async def check() -> None:
        with workbench(way) as bench:
            await delivered(bench, [("iopub", display(0))])
            reset(bench)
            bench.kernel_ends["shell"].send_multipart(display(1, msg_type="execute_reply"))
            bench.connection.channels["shell"].read_once()
            ((channel, frames),) = kept(bench)
            assert (channel, frames) == ("shell", display(1, msg_type="execute_reply"))

    run_to_end(check)


@both_ways
def test_socket_when_it_is_reset_while_output_waits_then_the_order_is_kept(way: str) -> None:
    """Stops the offline buffer from beginning with what came last."""

    async def check() -> None:
        with clock([1_000.0], DATE), workbench(way, **ROOM) as bench:
            exceed(bench)
            arrive(bench, [printed(1), printed(2)])
            reset(bench)
            arrive(bench, [other("error", 3), printed(4), printed(5)])
            # Each line after the first of its run is in the text of that.
            assert kept_numbers(bench) == [1, 3, 4]

    run_to_end(check)


@both_ways
def test_socket_when_it_is_reset_then_nothing_is_logged_for_each_message(
    way: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Stops a closed lid from filling the log."""

    async def check() -> None:
        with workbench(way) as bench:
            reset(bench)
            await delivered(bench, [("iopub", display(number)) for number in range(500)])
            assert len(warnings_of(bench, caplog)) <= 1

    run_to_end(check)


def odd(number: int) -> tuple[str, list[bytes]]:
    """A message that goes the one-message way."""
    header = packed(message_header("display_data", number))[:-1] + b', "odd": NaN}'
    return iopub([header, *whole()[1:]])


@both_ways
def test_socket_when_it_is_reset_before_a_message_for_python_then_that_is_kept_too(
    way: str,
) -> None:
    """Stops the one-message way from losing what the block's way keeps."""

    async def check() -> None:
        with workbench(way) as bench:
            reset(bench)
            sent = [("iopub", display(1)), odd(2), ("iopub", display(3))]
            for channel, frames in sent:
                bench.kernel_ends[channel].send_multipart(frames)
            let_go(bench)
            assert kept_numbers(bench) == [1, 2, 3]

    run_to_end(check)


# a hook that has the client written to again


@both_ways
def test_hook_that_changes_a_setting_gets_each_message_once(way: str) -> None:
    """What is written because of a hook comes behind the message that the hook deals with."""

    async def check() -> None:
        with workbench(way) as bench:
            connection, seen = bench.connection, []
            original = connection.handle_outgoing_message

            def handle(stream: Any, frames: list[bytes]) -> None:
                connection.max_pending_bytes += 1
                seen.append(frames)
                original(stream, frames)

            connection.handle_outgoing_message = handle
            bench.go_live()
            await delivered(bench, [("iopub", display(number)) for number in range(6)])
            assert [one.numbers for one in await kernels(bench)] == [[n] for n in range(6)]
            assert len(seen) == 6

    run_to_end(check)
