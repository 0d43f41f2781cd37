"""Text that waits for its turn is joined, exactly, and only where nothing else is said.

The order in which what waits goes is ``test_pace.py``'s.
"""

from __future__ import annotations

import json

import pytest
from jupyter_client.session import Session

from kernelwire.log.backlog import Backlog
from support.flooding import ROOM, Got, Message, arrive, exceed, head, iopub, other, printed, update
from support.offline_messages import message_header, packed
from support.paced import PACING, PROTOCOLS, by_kernel, pacing
from support.waiting import run_to_end

every_way = pytest.mark.parametrize("way", PACING)
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)

SPELLINGS = {
    "escapes": rb'{"name":"stdout","text":"a\n\t\"\\\/\u0041"}',
    "surrogate pair": rb'{"name":"stdout","text":"\ud83d\ude00"}',
    "emoji": '{"name":"stdout","text":"😀é"}'.encode(),
    "spaces": b' { "name" :\n"stdout" , "text" : "a  b" }\r\n',
    "turned": rb'{"text":"b","name":"stdout"}',
    "escaped keys": rb'{"n\u0061me":"stdout","te\u0078t":"c"}',
    "escaped backslash": rb'{"name":"stdout","text":"\\u0041 \\"}',
    "empty": b'{"name":"stdout","text":""}',
    "separators": '{"name":"stdout","text":"\u2028\u2029\x7f"}'.encode(),
    "null": rb'{"name":"stdout","text":"\u0000"}',
}
LONE = {
    "high": rb'{"name":"stdout","text":"\ud83d"}',
    "low": rb'{"name":"stdout","text":"\ude00"}',
    "swapped": rb'{"name":"stdout","text":"\ude00\ud83d"}',
}


def raw(number: int, content: bytes, metadata: bytes = b"{}") -> Message:
    """Stream output with a content as it is."""
    return iopub([packed(message_header("stream", number)), head(), metadata, content])


def text_of(message: Message) -> str:
    """The text in a message of the kernel's."""
    return str(json.loads(message[1][6])["text"])


async def waited(way: str, protocol: str, sent: list[Message]) -> list[Got]:
    """What a client gets of messages that have waited together."""
    with pacing(way, protocol, **ROOM) as on:
        exceed(on.bench)
        arrive(on.bench, sent)
        assert on.stats["paced"] + on.stats["superseded"] == len(sent)
        return by_kernel((await on.in_the_end())[10:])


@every_way
@every_protocol
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_text_when_it_is_spelled_in_some_way_then_joined_text_is_exact(
    way: str, protocol: str, spelling: str
) -> None:
    """Stops escapes, or characters outside ASCII, from being garbled when messages are joined."""

    async def check() -> None:
        odd = SPELLINGS[spelling]
        sent = [printed(1, "a"), raw(2, odd), printed(3, "b"), raw(4, odd)]
        (joined,) = await waited(way, protocol, sent)
        text = "".join(map(text_of, sent))
        assert joined.content == {"name": "stdout", "text": text}
        if protocol == "v1":
            assert joined.parts[:3] == sent[0][1][3:6]

    run_to_end(check)


@every_way
@pytest.mark.parametrize("half", LONE)
def test_text_when_it_has_half_a_character_then_it_is_left_as_it_is(way: str, half: str) -> None:
    """Stops two halves from becoming a character that was never printed, or a parser's error."""

    async def check() -> None:
        sent = [printed(1), raw(2, LONE[half]), raw(3, LONE["low"]), printed(4)]
        got = await waited(way, "v1", sent)
        assert [one.parts for one in got] == [frames[3:] for _, frames in sent]

    run_to_end(check)


UNLIKE = {
    "name": printed(2, name="stderr"),
    "key": printed(2, more=1),
    "missing name": raw(2, '{"text":"⟦2⟧"}'.encode()),
    "text twice": raw(2, '{"name":"stdout","text":"x","text":"⟦2⟧"}'.encode()),
    "metadata": raw(2, '{"name":"stdout","text":"⟦2⟧"}'.encode(), b'{"a": 1}'),
    "buffer": ("iopub", [*printed(2)[1], b"buffer"]),
    **{
        msg_type: other(msg_type, 2)
        for msg_type in ("display_data", "execute_result", "clear_output", "error", "execute_input")
    },
}


@every_way
@every_protocol
@pytest.mark.parametrize("unlike", UNLIKE)
def test_text_when_something_else_is_said_between_then_it_is_not_joined_across_that(
    way: str, protocol: str, unlike: str
) -> None:
    """Stops what a message says besides its text from vanishing, and text from overtaking it."""

    async def check() -> None:
        sent = [printed(1), UNLIKE[unlike], printed(3)]
        got = await waited(way, protocol, sent)
        assert [one.numbers for one in got] == [[1], [2], [3]]
        if protocol == "v1":
            assert [one.parts for one in got] == [frames[3:] for _, frames in sent]

    run_to_end(check)


UPDATES: dict[str, tuple[list[Message], list[int]]] = {
    "same display": ([update(1, "a"), update(2, "a"), update(3, "a")], [3]),
    "another display between": ([update(1, "a"), update(2, "b"), update(3, "a")], [3, 2]),
    "text between": ([update(1, "a"), printed(2), update(3, "a")], [3, 2]),
    "another request": ([update(1, "a"), update(2, "a", "q")], [1, 2]),
    # What stands between keeps its place, and the later one comes behind it.
    "a display between": ([update(1, "a"), other("display_data", 2), update(3, "a")], [2, 3]),
    "extra key": ([update(1, "a"), update(2, "a", more=1), update(3, "a")], [2, 3]),
    "metadata": ([update(1, "a"), update(2, "a", metadata=b'{"a":1}'), update(3, "a")], [2, 3]),
    "no id": ([update(1, "a"), update(2, "a", transient={}), update(3, "a")], [2, 3]),
    "more than an id": (
        [update(1, "a"), update(2, "a", transient={"display_id": "a", "b": 1}), update(3, "a")],
        [2, 3],
    ),
    "only more than an id": ([update(1, "a"), update(2, "a", more=1)], [1, 2]),
    "display, then update": ([other("display_data", 1), update(2, "a")], [1, 2]),
}


@every_way
@every_protocol
@pytest.mark.parametrize("case", UPDATES)
def test_update_when_a_later_one_follows_then_it_gives_way_only_as_defined(
    way: str, protocol: str, case: str
) -> None:
    """Stops a progress bar from standing still, or one display from taking another's update."""
    sent, expected = UPDATES[case]

    async def check() -> None:
        got = await waited(way, protocol, sent)
        assert [one.numbers for one in got] == [[number] for number in expected]
        if protocol == "v1":
            originals = {number: frames[3:] for number, (_, frames) in enumerate(sent, 1)}
            assert [one.parts for one in got] == [originals[number] for number in expected]

    run_to_end(check)


@every_way
def test_joined_text_when_the_client_goes_then_the_next_connection_can_check_it(way: str) -> None:
    """Stops the last lines before a reload from being lost, or refused for their signature."""

    async def check() -> None:
        with pacing(way, **ROOM) as on:
            exceed(on.bench)
            bench = on.bench
            bench.connection.parent.session = Session(key=b"key")
            arrive(bench, [printed(1), printed(2), printed(3)])
            backlog = bench.connection._take_backlog()
            assert isinstance(backlog, Backlog)
            ((channel, frames),) = backlog
            receiver = Session(key=b"key")
            message = receiver.deserialize(receiver.feed_identities(frames)[1])
            assert (channel, message["content"]["text"]) == ("iopub", "⟦1⟧⟦2⟧⟦3⟧")
            assert message["header"]["msg_id"] == "⟦1⟧"

    run_to_end(check)
