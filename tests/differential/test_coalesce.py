"""Output is merged before any of it is withheld: what stock would send is sent as stock sends it.

Past the point where stock would withhold something there is nothing to compare with. There the
property is that nothing is lost but what is counted: the texts that arrive, one behind the other,
are the texts that were printed.

Left out, each with the test that covers it:

* ``iopub_overflow="drop"``: ``test_bridge.py``
* malformed messages: ``test_robust.py``
* whole servers with real kernels: ``integration/test_limits.py`` and ``test_faults.py``
"""

from __future__ import annotations

import asyncio
import json
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from jupyter_client.session import Session

from kernelwire.log.backlog import Backlog
from support.coalescing import (
    DATE,
    FLOOD_LIMITS,
    ROOM,
    SCRIPTS,
    TRAITS,
    Flood,
    Got,
    Message,
    Said,
    Steps,
    arrive,
    cut,
    exceed,
    floods,
    head,
    iopub,
    iopub_numbers,
    kernels,
    let_go,
    odd_idle,
    other,
    printed,
    received,
    said,
    status,
    texts,
    update,
    workbench,
)
from support.offline_messages import display, message_header, packed, stream
from support.waiting import run_to_end, wait_until_async
from support.workbench import NATIVE, PORTABLE, Workbench, clock

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterator

MERGING = (NATIVE, PORTABLE)
SLACK = 0.03
ATTEMPTS = 50
"""A busy machine may make many of them late, not all; the first in time is enough."""

many = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))
every_way = pytest.mark.parametrize("way", MERGING)


@contextmanager
def merging(way: str, **traits: Any) -> Iterator[Workbench]:
    """A workbench whose connection merges."""
    with workbench(way, iopub_overflow="coalesce", **traits) as bench:
        yield bench


@contextmanager
def holding(way: str) -> Iterator[Workbench]:
    """A workbench on which stock would withhold all output, and kernelwire merges it."""
    with clock([1_000.0], DATE), merging(way, **ROOM) as bench:
        exceed(bench)
        yield bench


# as stock, until stock would withhold something


async def played(way: str, steps: Steps, traits: dict[str, Any]) -> bytes:
    """What is sent of a script; nothing may be held, and nothing said about limits."""
    now = [1_000.0]
    with clock(now, DATE), merging(way, **traits) as bench:
        for pause, batch in steps:
            now[0] += pause
            for channel in ("iopub", "shell"):
                arrive(bench, [message for message in batch if message[0] == channel])
                await bench.sent()
            stats = bench.connection.stats
            assert (stats["held"], stats["coalesced"], stats["rate_limited"]) == (0, 0, 0)
        assert [line for line in bench.log.lines if not line.startswith("Dropped")] == []
        return await bench.sent()


def bytes_as_stocks(steps: Steps, traits: dict[str, Any]) -> None:
    """Compare both ways with stock."""

    async def compare() -> None:
        kept, expected = await cut(steps, traits)
        for way in MERGING:
            assert await played(way, kept, traits) == expected, way

    asyncio.run(compare())


@given(steps=SCRIPTS, traits=TRAITS)
@many
def test_client_when_stock_withholds_nothing_yet_then_gets_what_stock_sends(
    steps: Steps, traits: dict[str, Any]
) -> None:
    """Stops merging from changing anything for those whose output is within the limits."""
    bytes_as_stocks(steps, traits)


@pytest.mark.parametrize("idle", [status("idle", 1), odd_idle(1)], ids=["plain", "odd"])
def test_client_when_idle_starts_a_new_account_then_gets_what_stock_sends(idle: Message) -> None:
    """Stops two limiters from counting differently, so that output is held without need."""
    output = [("iopub", stream(number, "x")) for number in range(9)]
    steps = [(0.0, output), (0.0, [idle]), (0.0, output)]
    bytes_as_stocks(steps, ROOM)


# the texts


async def flooded(
    way: str, flood: Flood, limits: dict[str, Any]
) -> tuple[list[Got], dict[str, int]]:
    """What the client gets of a flood, and the counts; these are checked after each step."""
    now = [1_000.0]
    with clock(now, DATE), merging(way, **limits) as bench:
        for pause, batch in flood:
            now[0] += pause
            arrive(bench, [one.message for one in batch])
            check_counts(bench.connection.stats)
        let_go(bench)
        check_counts(bench.connection.stats)
        return await received(bench), bench.connection.stats


def check_counts(stats: dict[str, int]) -> None:
    """Every message is counted in one place."""
    ways = ("forwarded", "coalesced", "rate_limited", "congested", "handed_over", "held")
    assert stats["received"] == sum(stats[way] for way in ways)


def has_given_way(missing: Said, all_said: list[Said], arrived: set[int]) -> bool:
    """Whether an update is missing because a later one has come, with updates between them."""
    for later in (one for one in all_said[missing.number + 1 :] if one.message[0] == "iopub"):
        if later.shown is None or missing.shown is None:
            return False
        if later.shown == missing.shown and later.number in arrived:
            return True
    return False


@given(flood=floods(), limits=FLOOD_LIMITS)
@many
def test_text_when_kernel_floods_then_it_is_complete_or_the_rest_is_counted(
    flood: Flood, limits: dict[str, Any]
) -> None:
    """Stops output from being changed, mixed up, or lost without a word."""

    async def check() -> None:
        for way in MERGING:
            everything, stats = await flooded(way, flood, limits)
            got = [one for one in everything if not one.is_servers]
            expected = texts([one.got for one in said(flood)])
            was_told = len(got) < len(everything)
            if not was_told and not stats["rate_limited"]:
                assert texts(got) == expected
            for key, text in texts(got).items():
                assert is_subsequence(text, expected[key])
            missing = stats["received"] - sum(len(one.numbers) for one in got)
            assert missing <= stats["rate_limited"] + stats["coalesced"] + stats["handed_over"]

    asyncio.run(check())


def is_subsequence(shorter: str, longer: str) -> bool:
    """Whether ``shorter`` is what is left of ``longer`` after taking some away."""
    rest = iter(longer)
    return all(character in rest for character in shorter)


@given(flood=floods(), limits=FLOOD_LIMITS)
@many
def test_order_when_kernel_floods_then_it_is_the_kernels(
    flood: Flood, limits: dict[str, Any]
) -> None:
    """Stops output that comes twice, or after what came after it."""

    async def check() -> None:
        for way in MERGING:
            everything, _ = await flooded(way, flood, limits)
            got = [one for one in everything if not one.is_servers]
            numbers = iopub_numbers(got)
            assert numbers == sorted(set(numbers))
            replies = [one.number for one in said(flood) if one.message[0] == "shell"]
            assert [n for one in got if one.channel == "shell" for n in one.numbers] == replies

    asyncio.run(check())


@given(flood=floods(), limits=FLOOD_LIMITS)
@many
def test_message_when_kernel_floods_then_only_plain_ones_are_merged(
    flood: Flood, limits: dict[str, Any]
) -> None:
    """Stops a message that says more than its text from losing the rest of what it says."""

    async def check() -> None:
        all_said = said(flood)
        for way in MERGING:
            everything, stats = await flooded(way, flood, limits)
            got = [one for one in everything if not one.is_servers]
            for one in got:
                sources = [all_said[number] for number in one.numbers]
                if len(sources) == 1:
                    assert one == sources[0].got
                else:
                    assert all(source.plain for source in sources)
                    assert one.parts[:3] == sources[0].got.parts[:3]
            if len(got) == len(everything) and not stats["rate_limited"]:
                check_missing(all_said, set(iopub_numbers(got)))

    asyncio.run(check())


def check_missing(all_said: list[Said], arrived: set[int]) -> None:
    """All that is missing are updates that have given way."""
    for one in all_said:
        if one.message[0] == "iopub" and one.number not in arrived:
            assert has_given_way(one, all_said, arrived), one


@given(flood=floods(), limits=FLOOD_LIMITS)
@many
def test_bytes_when_pyzmq_receives_then_they_are_those_of_the_native_way(
    flood: Flood, limits: dict[str, Any]
) -> None:
    """Stops platforms without native receiving from showing other output."""

    async def check() -> None:
        native, portable = [await flooded(way, flood, limits) for way in MERGING]
        assert portable[0] == native[0]
        assert portable[1] | {"largest_batch": 0} == native[1] | {"largest_batch": 0}

    asyncio.run(check())


# what merges


def on_both(body: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    """Run the body on each way of receiving."""
    for way in MERGING:
        run_to_end(lambda way=way: body(way))


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
    return json.loads(message[1][6])["text"]


@every_way
@pytest.mark.parametrize("spelling", SPELLINGS)
def test_text_when_it_is_spelled_in_some_way_then_joined_text_is_exact(
    way: str, spelling: str
) -> None:
    """Stops escapes, or characters outside ASCII, from being garbled when messages are joined."""

    async def check() -> None:
        with holding(way) as bench:
            sent = [
                printed(1, "a"),
                raw(2, SPELLINGS[spelling]),
                printed(3, "b"),
                raw(4, SPELLINGS[spelling]),
            ]
            arrive(bench, sent)
            let_go(bench)
            (merged,) = (await kernels(bench))[10:]
            assert merged.content == {"name": "stdout", "text": "".join(map(text_of, sent))}
            assert merged.parts[:3] == sent[0][1][3:6]

    run_to_end(check)


@every_way
@pytest.mark.parametrize("half", LONE)
def test_text_when_it_has_half_a_character_then_it_is_left_as_it_is(way: str, half: str) -> None:
    """Stops two halves from becoming a character that was never printed, or a parser's error."""

    async def check() -> None:
        with holding(way) as bench:
            sent = [printed(1), raw(2, LONE[half]), raw(3, LONE["low"]), printed(4)]
            arrive(bench, sent)
            let_go(bench)
            got = (await kernels(bench))[10:]
            assert [one.parts for one in got] == [frames[3:] for _, frames in sent]

    run_to_end(check)


UNLIKE = {
    "name": printed(2, name="stderr"),
    "parent": printed(2, parent="q"),
    "key": printed(2, more=1),
    "missing name": raw(2, '{"text":"⟦2⟧"}'.encode()),
    "text twice": raw(2, '{"name":"stdout","text":"x","text":"⟦2⟧"}'.encode()),
    "metadata": raw(2, '{"name":"stdout","text":"⟦2⟧"}'.encode(), b'{"a": 1}'),
    "buffer": ("iopub", [*printed(2)[1], b"buffer"]),
    "type": other("display_data", 2),
}


@every_way
@pytest.mark.parametrize("unlike", UNLIKE)
def test_message_when_it_is_of_another_kind_then_nothing_is_merged_across_it(
    way: str, unlike: str
) -> None:
    """Stops what a message says besides its text from vanishing, and text from overtaking it."""

    async def check() -> None:
        with holding(way) as bench:
            sent = [printed(1), UNLIKE[unlike], printed(3)]
            arrive(bench, sent)
            let_go(bench)
            got = (await kernels(bench))[10:]
            assert [one.parts for one in got] == [frames[3:] for _, frames in sent]

    run_to_end(check)


UPDATES: dict[str, tuple[list[Message], list[int]]] = {
    "same display": ([update(1, "a"), update(2, "a"), update(3, "a")], [3]),
    "another display between": ([update(1, "a"), update(2, "b"), update(3, "a")], [2, 3]),
    "another request": ([update(1, "a"), update(2, "a", "q")], [2]),
    "text between": ([update(1, "a"), printed(2), update(3, "a")], [1, 2, 3]),
    "output between": ([update(1, "a"), other("display_data", 2), update(3, "a")], [1, 2, 3]),
    "status between": ([update(1, "a"), status("busy", 2), update(3, "a")], [1, 2, 3]),
    "extra key": ([update(1, "a"), update(2, "a", more=1), update(3, "a")], [1, 2, 3]),
    "metadata": ([update(1, "a"), update(2, "a", metadata=b'{"a":1}'), update(3, "a")], [1, 2, 3]),
    "no id": ([update(1, "a"), update(2, "a", transient={}), update(3, "a")], [1, 2, 3]),
    "more than an id": (
        [update(1, "a"), update(2, "a", transient={"display_id": "a", "b": 1}), update(3, "a")],
        [1, 2, 3],
    ),
    "display, then update": ([other("display_data", 1), update(2, "a")], [1, 2]),
}


@every_way
@pytest.mark.parametrize("case", UPDATES)
def test_update_when_a_later_one_follows_then_it_gives_way_only_as_defined(
    way: str, case: str
) -> None:
    """Stops a progress bar from standing still, or one display from taking another's update."""
    sent, expected = UPDATES[case]

    async def check() -> None:
        with holding(way) as bench:
            arrive(bench, sent)
            let_go(bench)
            got = (await kernels(bench))[10:]
            assert [one.numbers for one in got] == [[number] for number in expected]
            originals = {number: frames[3:] for number, (_, frames) in enumerate(sent, 1)}
            assert [one.parts for one in got] == [originals[number] for number in expected]

    run_to_end(check)


def test_flood_when_a_cell_prints_line_by_line_then_all_of_it_arrives_in_few_messages() -> None:
    """Stops the feature from merging nothing: without it, all but ten lines would be withheld."""

    async def check(way: str) -> None:
        with holding(way) as bench:
            for first in range(1, 501, 50):
                arrive(bench, [printed(number) for number in range(first, first + 50)])
            let_go(bench)
            got = (await kernels(bench))[10:]
            assert [n for one in got for n in one.numbers] == list(range(1, 501))
            assert len(got) < 10
            assert bench.connection.stats["coalesced"] == 500 - len(got)

    on_both(check)


# when it comes out


@every_way
def test_held_output_when_nothing_follows_then_it_is_out_in_50_ms(way: str) -> None:
    """Stops the last line that was printed from waiting for the next one."""

    async def once() -> float:
        with merging(way, **ROOM) as bench:
            bench.deliver([("iopub", stream(1000 + n, "", "warm-up")) for n in range(10)])
            start = time.monotonic()
            bench.kernel_ends["iopub"].send_multipart(printed(1)[1])
            await wait_until_async(lambda: bench.connection.stats["held"], what="the line")
            await wait_until_async(lambda: not bench.connection.stats["held"], what="its release")
            took = time.monotonic() - start
            assert (await kernels(bench))[-1].numbers == [1]
            return took

    assert any(run_to_end(once) < 0.05 + SLACK for _ in range(ATTEMPTS))


@every_way
def test_held_output_when_the_kernel_prints_on_then_the_first_line_does_not_wait(way: str) -> None:
    """Stops a cell that prints without a pause from showing nothing until it ends."""

    async def once() -> float:
        with merging(way, **ROOM) as bench:
            bench.deliver([("iopub", stream(1000 + n, "", "warm-up")) for n in range(10)])
            start, number = time.monotonic(), 0
            while len(await kernels(bench)) == 10:
                number += 1
                bench.kernel_ends["iopub"].send_multipart(printed(number)[1])
                await asyncio.sleep(0.002)
                assert number < 2000, "nothing comes out"
            took = time.monotonic() - start
            assert (await kernels(bench))[10].numbers[0] == 1
            return took

    assert any(run_to_end(once) < 0.05 + SLACK for _ in range(ATTEMPTS))


BEHIND: dict[str, Message] = {
    "idle": status("idle", 3),
    "busy": status("busy", 3),
    "odd idle": odd_idle(3),
    "other stream": printed(3, name="stderr"),
    "other request": printed(3, parent="q"),
    **{
        msg_type: other(msg_type, 3)
        for msg_type in (
            "comm_open", "comm_msg", "comm_close", "display_data", "execute_input", "error",
            "execute_result", "clear_output",
        )
    },
}  # fmt: skip


@every_way
@pytest.mark.parametrize("behind", BEHIND)
def test_held_output_when_something_else_follows_then_it_comes_before_that(
    way: str, behind: str
) -> None:
    """Stops text from showing up below a result, an error, or a cell that has ended."""

    async def check() -> None:
        with holding(way) as bench:
            arrive(bench, [printed(1), printed(2)])
            assert bench.connection.stats["held"] == 2
            arrive(bench, [BEHIND[behind]])
            if "other" in behind:
                let_go(bench)
            got = (await kernels(bench))[10:]
            assert [one.numbers for one in got] == [[1, 2], [3]]

    run_to_end(check)


@every_way
@pytest.mark.parametrize("behind", ["idle", "error", "execute_input", "odd idle"])
def test_message_when_a_limit_is_reached_by_what_is_held_then_it_still_comes(
    way: str, behind: str
) -> None:
    """Stops the end of a request from staying inside until the kernel says something else."""

    async def check() -> None:
        traits = {**ROOM, "iopub_msg_rate_limit": 2.0}
        with clock([1_000.0], DATE), merging(way, **traits) as bench:
            arrive(bench, [other("display_data", 1), other("display_data", 2)])
            # Neither stock's limiter nor the other one has room for these.
            arrive(bench, [printed(3), printed(4)])
            arrive(bench, [BEHIND[behind]])
            got = await kernels(bench)
            assert [one.msg_type for one in got[:2]] == ["display_data"] * 2
            assert [one.parts for one in got[2:]] == [BEHIND[behind][1][3:]]
            check_counts(bench.connection.stats)

    run_to_end(check)


@every_way
def test_message_when_it_waits_behind_what_is_held_then_no_other_channel_gets_it(way: str) -> None:
    """Stops output from being sent as a reply because another channel was read in between."""

    async def check() -> None:
        traits = {**ROOM, "iopub_msg_rate_limit": 2.0}
        with clock([1_000.0], DATE), merging(way, **traits) as bench:
            arrive(bench, [other("display_data", 1), other("display_data", 2)])
            arrive(bench, [printed(3)])
            bench.kernel_ends["iopub"].send_multipart(status("idle", 4)[1])
            bench.kernel_ends["shell"].send_multipart(display(5, msg_type="execute_reply"))
            for channel in ("iopub", "shell", "iopub", "shell"):
                bench.connection.channels[channel].read_once()
            got = await kernels(bench)
            last = sorted((one.channel, one.msg_type) for one in got[2:])
            assert last == [("iopub", "status"), ("shell", "execute_reply")]

    run_to_end(check)


@every_way
@pytest.mark.parametrize(
    ("notice", "state"), [("on_kernel_restarted", "restarting"), ("on_restart_failed", "dead")]
)
def test_held_output_when_the_kernel_dies_then_all_it_has_said_comes_before_the_notice(
    way: str, notice: str, state: str
) -> None:
    """Stops the last words of a kernel from being lost, or shown after its end."""

    async def check() -> None:
        with holding(way) as bench:
            arrive(bench, [printed(1), printed(2)])
            for number in (3, 4):  # has arrived, and nobody has read it
                bench.kernel_ends["iopub"].send_multipart(printed(number)[1])
            getattr(bench.connection, notice)()
            got = (await received(bench))[10:]
            assert [n for one in got[:-1] for n in one.numbers] == [1, 2, 3, 4]
            assert got[-1].content == {"execution_state": state}

    run_to_end(check)


def test_held_output_when_rate_limits_are_switched_off_then_nothing_overtakes_it() -> None:
    """Stops a change of configuration from reordering what is on its way."""

    async def check(way: str) -> None:
        for change in ({"limit_rate": False}, {"iopub_overflow": "drop"}):
            with holding(way) as bench:
                arrive(bench, [printed(1), printed(2)])
                bench.connection.set_trait(*change.popitem())
                arrive(bench, [status("idle", 3)])
                let_go(bench)
                got = (await kernels(bench))[10:]
                assert [n for one in got for n in one.numbers] == [1, 2, 3]

    on_both(check)


# what is left when the client goes


def buffered(bench: Workbench) -> list[tuple[str, list[bytes]]]:
    """What a connection leaves to the offline buffer."""
    backlog = bench.connection._take_backlog()
    assert isinstance(backlog, Backlog)
    return list(backlog)


@every_way
def test_held_output_when_the_client_goes_then_the_offline_buffer_has_it(way: str) -> None:
    """Stops the last lines before a reload from being lost, or refused for their signature."""

    async def check() -> None:
        with holding(way) as bench:
            bench.connection.parent.session = Session(key=b"key")
            arrive(bench, [printed(1), printed(2), printed(3)])
            ((channel, frames),) = buffered(bench)
            receiver = Session(key=b"key")
            message = receiver.deserialize(receiver.feed_identities(frames)[1])
            assert (channel, message["content"]["text"]) == ("iopub", "⟦1⟧⟦2⟧⟦3⟧")
            assert message["header"]["msg_id"] == "⟦1⟧"
            assert bench.connection.stats["held"] == 0
            assert len(await kernels(bench)) == 10

    run_to_end(check)
