"""Output over the rate limits waits, and nothing of it is lost: the default, ``"pace"``.

Where stock withholds nothing, what is sent is what stock sends. Past that, what a client gets in the
end is what was said: texts, the last value of each display, statuses, in the order of each request.

Left out, each with the test that covers it:

* the buckets, and how fast what waits goes: the tests of ``rust/core/src/pace.rs``
* ``iopub_overflow="drop"``: ``test_bridge.py``
* what text is joined, and how exactly: ``test_joining.py``
* whole servers with real kernels: ``integration/test_limits.py``
"""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_server.services.kernels.connection.base import serialize_msg_to_ws_v1

from support.desk import finish, run_on_shell, written
from support.fake_kernel import emit, script
from support.flooding import (
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
    other,
    printed,
    read_default,
    received,
    said,
    status,
    texts,
    update,
    websocket_payloads,
    workbench,
)
from support.offline_messages import DELIMITER, display, message_header, packed
from support.paced import (
    PACING,
    PROTOCOLS,
    Paced,
    by_kernel,
    by_parent,
    notices,
    numbers,
    pacing,
)
from support.waiting import run_to_end, wait_until_async
from support.workbench import STOCK, Workbench, clock, compare

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from pathlib import Path

    from support.desk import Desk, RunOnDesk

LIMITS = ("iopub_pace_seconds", "iopub_msg_rate_limit", "iopub_data_rate_limit")

MUCH = 100_000
"""Bytes that the client of a workbench takes at once."""

ODD = [DELIMITER, b""]
"""How messages begin that may be malformed."""

many = settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
every_way = pytest.mark.parametrize("way", PACING)
every_protocol = pytest.mark.parametrize("protocol", PROTOCOLS)


# as stock, until stock would withhold something


def taken(batch: list[Message]) -> list[list[Message]]:
    """What arrives at a time so that the client keeps up: else statuses overtake output on purpose."""
    channels = [[m for m in batch if m[0] == channel] for channel in ("iopub", "shell")]
    if sum(len(frame) for _, frames in batch for frame in frames) < MUCH:
        return channels
    return [[message] for messages in channels for message in messages]


async def played(way: str, protocol: str, steps: Steps, traits: dict[str, Any]) -> bytes:
    """What is sent of a script; nothing may wait, and nothing be said about limits."""
    with pacing(way, protocol, **traits) as on:
        for pause, batch in steps:
            on.wait(pause)
            for messages in taken(batch):
                arrive(on.bench, messages)
                await on.bench.sent()
            stats = on.stats
            assert (stats["paced"], stats["merged"], stats["rate_limited"]) == (0, 0, 0)
        lines = [line for line in on.bench.log.lines if not line.startswith("Messages to")]
        assert [line for line in lines if not line.startswith("Dropped")] == []
        return await on.bench.sent()


def as_stocks(steps: Steps, protocol: str, traits: dict[str, Any]) -> None:
    """Compare every way with stock, by bytes or, in the default protocol, by values."""

    async def check() -> None:
        kept, sent = await cut(steps, traits, PROTOCOLS[protocol])
        for way in PACING:
            got = await played(way, protocol, kept, traits)
            if protocol == "v1":
                assert got == sent, way
            else:
                assert shown(got) == shown(sent), way

    asyncio.run(check())


def shown(data: bytes) -> list[tuple[type, Got]]:
    """What frames of the default protocol say, and of which kind they are."""
    return [(type(payload), read_default(payload)) for payload in websocket_payloads(data)]


@given(steps=SCRIPTS, traits=TRAITS)
@many
def test_client_when_stock_withholds_nothing_yet_then_gets_what_stock_sends(
    steps: Steps, traits: dict[str, Any]
) -> None:
    """Stops pacing from changing anything for those whose output is within the limits."""
    # What stock fails on costs nothing there, and a token here.
    if traits.get("iopub_msg_rate_limit", 1000.0) * traits.get("rate_limit_window", 3.0) < 100:
        steps = [(pause, [m for m in batch if m[1][:2] != ODD]) for pause, batch in steps]
    as_stocks(steps, "v1", traits)


@every_protocol
@given(flood=floods(), traits=TRAITS)
@many
def test_flood_when_stock_withholds_nothing_yet_then_client_gets_what_stock_sends(
    protocol: str, flood: Flood, traits: dict[str, Any]
) -> None:
    """Stops clients of the other protocol from getting other frames."""
    steps = [(pause, [one.message for one in batch]) for pause, batch in flood]
    as_stocks(steps, protocol, traits)


# nothing is lost


@st.composite
def mixed_floods(draw: st.DrawFn) -> Flood:
    """A flood in which statuses are of several requests, as where a front end asks for more."""
    flood = draw(floods())
    kinds = st.sampled_from((("busy", "q"), ("idle", "q"), ("busy", "r"), ("idle", "r")))
    for _, batch in flood:
        for index, one in enumerate(batch):
            if one.got.msg_type == "status" and one.got.channel == "iopub":
                state, parent = draw(kinds)
                message = status(state, one.number, parent)
                batch[index] = Said(one.number, message, plain=False, shown=None)
    return flood


async def flooded(
    way: str, protocol: str, flood: Flood, back: int, traits: dict[str, Any]
) -> tuple[list[Got], dict[str, int]]:
    """What the client gets of a flood in the end, and the counts. Once, the clock is put back."""
    with pacing(way, protocol, iopub_pace_seconds=1e6, **traits) as on:
        arrived = 0
        for index, (pause, batch) in enumerate(flood):
            await on.after(pause - 100.0 if index == back else pause)
            arrive(on.bench, [one.message for one in batch])
            arrived += sum(one.message[0] == "iopub" for one in batch)
            assert on.stats["received"] == arrived
        got = await on.in_the_end(1.0)
        return got, on.stats


@every_way
@every_protocol
@given(flood=mixed_floods(), limits=FLOOD_LIMITS, back=st.integers(0, 8))
@many
def test_flood_when_it_is_over_the_limits_then_all_of_it_arrives_in_the_end(
    way: str, protocol: str, flood: Flood, limits: dict[str, Any], back: int
) -> None:
    """Stops output from being lost, doubled, mixed up, or changed because it came fast."""

    async def check() -> None:
        got, stats = await flooded(way, protocol, flood, back, limits)
        assert notices(got) == []
        gone = ("rate_limited", "congested", "duplicate", "refused", "paced", "queued")
        assert [stats[way] for way in gone] == [0] * len(gone)
        everything = said(flood)
        output = [one for one in got if one.channel == "iopub"]
        assert stats["forwarded"] + stats["handed_over"] == len(output)
        missing = missing_of(everything, output)
        assert stats["superseded"] == len(missing)
        for one in missing:
            assert has_given_way(one, everything, missing), one
        check_order(everything, got)
        for one in got:
            check_unchanged(one, [everything[number] for number in one.numbers], protocol)
        assert by_id(texts(got)) == by_id(texts([one.got for one in everything]))

    asyncio.run(check())


def by_id(found: dict[tuple[bytes, str], str]) -> dict[tuple[Any, str], str]:
    """Texts by the id of the request, however its header is spelled."""
    return {
        (json.loads(parent).get("msg_id"), name): text for (parent, name), text in found.items()
    }


def missing_of(everything: list[Said], output: list[Got]) -> list[Said]:
    """What has not come; nothing may come twice."""
    came = numbers(output)
    assert len(came) == len(set(came))
    return [one for one in everything if one.message[0] == "iopub" and one.number not in came]


def has_given_way(one: Said, everything: list[Said], missing: list[Said]) -> bool:
    """Whether a later update of the same display and request has come."""
    return one.shown is not None and any(
        (later.shown, later.got.parent) == (one.shown, one.got.parent) and later not in missing
        for later in everything[one.number + 1 :]
    )


def check_order(everything: list[Said], got: list[Got]) -> None:
    """All that one request has said comes in its order, but for updates that took another's place."""
    moves = {one.number for one in everything if one.shown is not None}
    for of_one in by_parent([one for one in got if one.channel == "iopub"]).values():
        stay = [number for number in numbers(of_one) if number not in moves]
        assert stay == sorted(stay)
    for display_id in "ab":
        updates = [n for n in numbers(got) if everything[n].shown == display_id]
        for parent in "pq":
            mine = [n for n in updates if everything[n].got.parent == f"⟦{parent}⟧"]
            assert mine == sorted(mine)
    comms = [n for one in got if one.msg_type.startswith("comm_") for n in one.numbers]
    assert comms == sorted(comms)
    replies = [one.number for one in everything if one.message[0] == "shell"]
    assert numbers([one for one in got if one.channel == "shell"]) == replies


def check_unchanged(one: Got, sources: list[Said], protocol: str) -> None:
    """A message is the kernel's, or the first of several with the text of all."""
    first = sources[0].got
    if len(sources) > 1:
        assert all(source.plain for source in sources)
        assert len(one.parts) == 4
    if protocol == "v1":
        assert one.parts[:3] == first.parts[:3]
        if len(sources) == 1:
            assert one == first
        return
    assert (one.channel, one.msg_type, one.parent) == (first.channel, first.msg_type, first.parent)
    if len(sources) == 1:
        assert one.content == first.content
        assert one.parts[4:] == first.parts[4:]


@every_protocol
def test_bytes_when_pyzmq_receives_then_they_are_those_of_the_native_way(protocol: str) -> None:
    """Stops platforms without native receiving, and subclasses, from showing other output."""

    @given(flood=mixed_floods(), limits=FLOOD_LIMITS)
    @many
    def check(flood: Flood, limits: dict[str, Any]) -> None:
        async def each() -> None:
            native, *others = [await flooded(way, protocol, flood, -1, limits) for way in PACING]
            for way, (got, stats) in zip(PACING[1:], others, strict=True):
                assert got == native[0], way
                taken = {"forwarded": 0, "handed_over": 0, "largest_batch": 0, "bytes": 0}
                assert stats | taken == native[1] | taken, way

        asyncio.run(each())

    check()


@every_way
@every_protocol
def test_output_when_it_is_over_the_limit_then_it_comes_as_fast_as_that_allows(
    way: str, protocol: str
) -> None:
    """Stops output from coming all at once, or later than it might."""

    async def check() -> None:
        with pacing(way, protocol, **ROOM) as on:
            arrive(on.bench, [other("display_data", number) for number in range(40)])
            assert on.stats["paced"] == 30
            counts = [len(await on.after(0.5)) for _ in range(6)]
            assert counts == [15, 20, 25, 30, 35, 40]
            assert numbers(await on.after(0.0)) == list(range(40))

    run_to_end(check)


@every_way
@every_protocol
def test_status_when_another_request_has_output_that_waits_then_it_comes_at_once(
    way: str, protocol: str
) -> None:
    """Stops completion and inspection from hanging behind a loop that prints."""

    async def check() -> None:
        with pacing(way, protocol, **ROOM) as on:
            exceed(on.bench)
            arrive(on.bench, [other("display_data", number) for number in range(10)])
            reply = "shell", display(12, msg_type="complete_reply")
            arrive(on.bench, [status("busy", 10, "q"), reply, status("idle", 11, "q")])
            assert sorted(numbers((await on.after(0.0))[10:])) == [10, 11, 12]
            arrive(on.bench, [status("idle", 13)])
            assert numbers(await on.in_the_end())[-11:] == [*range(10), 13]

    run_to_end(check)


# how long it waits


@every_way
@every_protocol
def test_output_when_it_has_waited_too_long_then_it_is_dropped_and_one_notice_says_so(
    way: str, protocol: str
) -> None:
    """Stops a client from lagging ever more, and output from vanishing without a word."""

    async def check() -> None:
        with pacing(way, protocol, iopub_pace_seconds=1.0, **ROOM) as on:
            exceed(on.bench)
            arrive(on.bench, [other("display_data", number) for number in range(30)])
            assert len(by_kernel(await on.after(0.5))) == 10 + 5
            arrive(on.bench, [other("display_data", 30), status("idle", 31)])
            assert len(by_kernel(await on.after(0.5))) == 10 + 10
            got = (await on.after(0.01))[20:]
            assert on.stats["congested"] == 20
            got = (await on.in_the_end(0.1))[20:]
            assert [one.numbers for one in got] == [[], [30], [31]]
            (notice,) = notices(got)
            assert notice.startswith("20 messages (")
            for trait in LIMITS:
                value = getattr(on.bench.connection, trait)
                assert f"KernelwireWebsocketConnection.{trait}={value} " in notice
            assert got[0].parent == "⟦p⟧"

    run_to_end(check)


@every_way
def test_notice_when_nothing_follows_what_was_dropped_then_it_has_the_requests_parent(
    way: str,
) -> None:
    """Stops a notice from being shown nowhere, as front ends do with what has no parent."""

    async def check() -> None:
        with pacing(way, iopub_pace_seconds=1.0, **ROOM) as on:
            exceed(on.bench)
            arrive(on.bench, [other("display_data", number) for number in range(30)])
            got = await on.after(1.5)
            assert [one.parent for one in got if one.is_servers] == ["⟦p⟧"]

    run_to_end(check)


@every_way
def test_status_when_output_has_waited_too_long_then_it_comes_all_the_same(way: str) -> None:
    """Stops a cell from staying busy, or without its error, because its output was dropped."""

    async def check() -> None:
        with pacing(way, iopub_pace_seconds=1.0, **ROOM) as on:
            exceed(on.bench)
            arrive(on.bench, [other("display_data", number) for number in range(30)])
            arrive(on.bench, [other("error", 30), status("idle", 31)])
            got = (await on.after(1.5))[10:]
            assert [one.numbers for one in got] == [[], [30], [31]]

    run_to_end(check)


async def play(
    way: str, protocol: str, steps: Steps, traits: dict[str, Any], none: dict[str, Any]
) -> dict[str, Any]:
    """Play a script where nothing may wait; return all that can be seen of it."""
    now = [1_000.0]
    more = {} if way == STOCK else none
    with (
        clock(now, DATE),
        workbench(way, subprotocol=PROTOCOLS[protocol], **traits, **more) as bench,
    ):
        for pause, batch in steps:
            now[0] += pause
            for channel in ("iopub", "shell"):
                bench.deliver([message for message in batch if message[0] == channel])
                await bench.sent()
        sent = await bench.sent()
        return {
            "sent": sent if protocol == "v1" else shown(sent),
            "warnings": [line for line in bench.log.lines if not line.startswith("Dropped")],
            "limiter": (
                bench.connection._iopub_window_msg_count,
                bench.connection._iopub_window_byte_count,
                bench.connection._iopub_msgs_exceeded,
                bench.connection._iopub_data_exceeded,
            ),
        }


@given(steps=SCRIPTS, traits=TRAITS)
@many
def test_pace_when_no_time_is_given_then_it_decides_as_stock(
    steps: Steps, traits: dict[str, Any]
) -> None:
    """Stops the setting for those who want stock's limits from being something else."""

    async def each(way: str, script: Steps, limits: dict[str, Any]) -> dict[str, Any]:
        return await play(way, "v1", script, limits, {"iopub_pace_seconds": 0.0})

    compare(each, steps, traits)


@every_protocol
@given(flood=floods(), limits=FLOOD_LIMITS)
@many
def test_flood_when_no_time_is_given_then_what_is_withheld_is_what_stock_withholds(
    protocol: str, flood: Flood, limits: dict[str, Any]
) -> None:
    """Stops the same for floods, and for the other protocol."""

    async def each(way: str, script: Steps, limits: dict[str, Any]) -> dict[str, Any]:
        return await play(way, protocol, script, limits, {"iopub_pace_seconds": 0.0})

    compare(each, [(pause, [one.message for one in batch]) for pause, batch in flood], limits)


# limits of all sizes

OFF: dict[str, dict[str, float]] = {
    "0 messages": {"iopub_msg_rate_limit": 0.0, "iopub_data_rate_limit": 0.0},
    "less than 0 messages": {"iopub_msg_rate_limit": -1.0, "iopub_data_rate_limit": -1.0},
    "1e12": {"iopub_msg_rate_limit": 1e12, "iopub_data_rate_limit": 1e12},
    "no window": {"rate_limit_window": 0.0, "iopub_msg_rate_limit": 1.0},
    "negative window": {"rate_limit_window": -1.0, "iopub_msg_rate_limit": 1.0},
    "not limited": {"limit_rate": False, "iopub_msg_rate_limit": 1.0},
}


@every_way
@every_protocol
@pytest.mark.parametrize("case", OFF)
def test_output_when_nothing_limits_it_then_it_comes_at_once(
    way: str, protocol: str, case: str
) -> None:
    """Stops a limit of nothing from being the lowest of all, and the highest from overflowing."""

    async def check() -> None:
        with pacing(way, protocol, **OFF[case]) as on:
            for first in range(0, 200, 2):
                arrive(on.bench, [printed(first, "x" * 900), other("display_data", first + 1)])
                await on.bench.sent()
                assert on.waits == 0
            assert numbers(await received(on.bench)) == list(range(200))

    run_to_end(check)


@every_way
@every_protocol
@pytest.mark.parametrize("limit", ["iopub_msg_rate_limit", "iopub_data_rate_limit"])
def test_output_when_a_limit_is_less_than_a_message_then_one_comes_at_a_time(
    way: str, protocol: str, limit: str
) -> None:
    """Stops a bucket that is smaller than a message from letting none through, or all."""

    async def check() -> None:
        traits = {"iopub_msg_rate_limit": 0.0, "iopub_data_rate_limit": 0.0, limit: 0.1}
        with pacing(way, protocol, iopub_pace_seconds=1e6, **traits) as on:
            texts = [printed(number, name=("stdout", "stderr")[number % 2]) for number in range(3)]
            arrive(on.bench, texts)
            # A message costs 1 of the one, and its bytes of the other.
            one = 10.0 if limit == "iopub_msg_rate_limit" else 10.0 * sum(map(len, texts[0][1][3:]))
            assert numbers(await on.after(one - 0.5)) == [0]
            assert numbers(await on.after(1.0)) == [0, 1]
            assert numbers(await on.after(one * 1.2)) == [0, 1, 2]

    run_to_end(check)


# interrupts


async def interrupt_by_manager(on: Paced) -> None:
    """Note an interrupt as the manager of the kernels does."""
    on.bench.connection._client.log.interrupt()


async def interrupt_on_control(on: Paced) -> None:
    """Have the client ask for an interrupt."""
    bench = on.bench
    if "control" not in bench.kernel_ends:
        bench.connection.channels["control"] = bench._channel("control")
    header = message_header("interrupt_request", "i")
    if bench.connection.subprotocol is None:
        fields = {"header": header, "parent_header": {}, "metadata": {}, "content": {}}
        bench.connection.handle_incoming_message(json.dumps({**fields, "channel": "control"}))
    else:
        frame = serialize_msg_to_ws_v1([packed(header), b"{}", b"{}", b"{}"], "control")
        bench.connection.handle_incoming_message(frame)
    await wait_until_async(lambda: bench.kernel_ends["control"].poll(0), what="the request")


INTERRUPTS: dict[str, Callable[[Paced], Coroutine[Any, Any, None]]] = {
    "manager": interrupt_by_manager,
    "control": interrupt_on_control,
}


@every_way
@every_protocol
@pytest.mark.parametrize("by", INTERRUPTS)
def test_output_when_its_request_is_interrupted_then_it_is_skipped_and_the_notice_says_so(
    way: str, protocol: str, by: str
) -> None:
    """Stops a user who has pressed the button from watching a minute of output go by."""

    async def check() -> None:
        with pacing(way, protocol, **ROOM) as on:
            arrive(on.bench, [status("busy", 2000)])
            exceed(on.bench)
            comms = [other(kind, 50 + at) for at, kind in enumerate(("comm_open", "comm_msg"))]
            output = [other("display_data", number) for number in range(50)]
            arrive(on.bench, [*output[:25], *comms, printed(60, parent="q"), *output[25:]])
            await INTERRUPTS[by](on)
            # Until it ends, what it goes on to say is skipped, too.
            arrive(on.bench, [other("display_data", number) for number in range(100, 120)])
            arrive(on.bench, [other("error", 130), status("idle", 131)])
            early = (await on.after(1.0))[11:]
            got = (await on.in_the_end())[11:]
            assert early == got, "the error takes no second"
            kept = [n for n in numbers(got) if n < 50 or 100 <= n < 120]
            assert 1 <= len(kept) <= 10
            assert kept == list(range(120 - len(kept), 120))
            assert set(numbers(got)) == {*kept, 50, 51, 60, 130, 131}
            assert got[-2].numbers + got[-1].numbers == [130, 131]
            # The workbench has notices go at once, where one would wait for the error.
            told = notices(got[:-2])
            assert all(" were skipped because the kernel was interrupted" in one for one in told)
            for setting in (*LIMITS, "Connection", "max_pending_bytes"):
                assert setting not in "".join(told)
            assert {one.parent for one in got if one.is_servers} == {"⟦p⟧"}
            assert sum(int(one.split()[0]) for one in told) == 70 - len(kept)
            assert on.stats["congested"] == 70 - len(kept)

    run_to_end(check)


@every_way
def test_output_when_no_request_runs_then_an_interrupt_skips_nothing(way: str) -> None:
    """Stops a button pressed too late from taking what a cell has said that has ended well."""

    async def check() -> None:
        with pacing(way, **ROOM) as on:
            exceed(on.bench)
            arrive(on.bench, [other("display_data", number) for number in range(30)])
            arrive(on.bench, [status("idle", 30)])
            await interrupt_by_manager(on)
            assert numbers((await on.in_the_end())[10:]) == list(range(31))

    run_to_end(check)


@every_way
@every_protocol
def test_output_when_the_kernel_ends_then_it_is_skipped_before_the_notice_of_its_end(
    way: str, protocol: str
) -> None:
    """Stops a restart from showing only when all that the kernel had said has gone by."""

    async def check() -> None:
        with pacing(way, protocol, **ROOM) as on:
            exceed(on.bench)
            arrive(on.bench, [printed(number, parent=number % 2) for number in range(20)])
            arrive(on.bench, [other("display_data", number) for number in range(20, 50)])
            on.bench.connection.on_kernel_restarted()
            got = (await on.after(1.0))[10:]
            assert got[-1].content == {"execution_state": "restarting"}
            (notice,) = notices([one for one in got if one.msg_type != "status"])
            assert "has ended" in notice
            kept = numbers(got)
            assert kept == list(range(50 - len(kept), 50))
            assert on.waits == 0

    run_to_end(check)


@pytest.mark.kernelwire_only("I15")
def test_output_when_the_manager_interrupts_a_kernel_then_its_end_comes_soon(
    desk: RunOnDesk, gate: Path
) -> None:
    """Stops an interrupt over REST from being one for the kernel alone."""

    async def body(the_desk: Desk) -> None:
        connection = await the_desk.connected()
        connection.set_trait("iopub_msg_rate_limit", 10.0)
        connection.set_trait("rate_limit_window", 1.0)
        waiting = {"do": "wait_for", "path": str(gate)}
        run_on_shell(connection, script(emit(300), waiting, emit(1, type="error")))
        await wait_until_async(lambda: connection.stats["paced"] > 280, what="what waits")
        await the_desk.multi_kernel_manager.interrupt_kernel(the_desk.kernel_id)
        assert connection.stats["congested"] > 260
        await asyncio.to_thread(gate.touch)
        await wait_until_async(
            lambda: any(one["msg_type"] == "error" for one in written(connection)), what="the error"
        )
        told = [one for one in written(connection) if one["content"].get("name") == "stderr"]
        assert ["was interrupted" in one["content"]["text"] for one in told] == [True]
        finish(the_desk, connection)

    desk(body)


# what is malformed

WHOLE = [packed(message_header("display_data", 0)), head(), b"{}", b'{"data": {}}']
MALFORMED = {
    "no delimiter": [b"topic", b"neither", b"here"],
    "three parts": [DELIMITER, b"", *WHOLE[:3]],
    "header not JSON": iopub([b"{nonsense", *WHOLE[1:]])[1],
    "type a list": iopub([b'{"msg_type": ["stream"]}', *WHOLE[1:]])[1],
    "status not JSON": iopub([packed(message_header("status", 0)), *WHOLE[1:3], b"{"])[1],
    "status of a list": iopub([packed(message_header("status", 0)), *WHOLE[1:3], b"[]"])[1],
}


@every_way
@every_protocol
@pytest.mark.parametrize("kind", MALFORMED)
def test_message_when_it_is_malformed_while_output_waits_then_it_costs_one_line(
    way: str, protocol: str, kind: str
) -> None:
    """Stops one bad message from holding up all that waits behind it, or filling the log."""

    async def check() -> None:
        with pacing(way, protocol, **ROOM) as on:
            exceed(on.bench)
            good = [other("display_data", number) for number in range(1, 6)]
            bad = [("iopub", MALFORMED[kind])] * 20
            arrive(on.bench, [*good[:2], *bad, *good[2:4], *bad, good[4]])
            got = (await on.in_the_end())[10:]
            assert [one.numbers for one in got] == [[number] for number in range(1, 6)]
            assert len(warnings_of(on.bench)) == 1

    run_to_end(check)


def warnings_of(bench: Workbench) -> list[str]:
    """What was logged, but for debugging."""
    return [line for line in bench.log.lines if not line.startswith("Messages to")]


def forged(message: Message) -> Message:
    """The message with a signature that somebody has made up."""
    channel, frames = message
    return channel, [*frames[:2], b"0" * 64, *frames[3:]]


@every_way
def test_message_when_it_is_forged_while_output_waits_then_it_costs_one_line(way: str) -> None:
    """Stops what somebody else has said from being signed by the server as the kernel's."""

    async def check() -> None:
        with pacing(way, "default", **ROOM) as on:
            exceed(on.bench)
            lies = [forged(printed(number, "a lie")) for number in range(100, 120)]
            arrive(on.bench, [printed(1), *lies[:10], printed(2), *lies[10:], printed(3)])
            arrive(on.bench, [status("idle", 4)])
            got = (await on.in_the_end())[10:]
            assert numbers(got) == [1, 2, 3, 4]
            assert "a lie" not in "".join(texts(got).values())
            assert len(warnings_of(on.bench)) == 1

    run_to_end(check)


# too much


@every_way
@every_protocol
def test_output_when_too_much_waits_then_text_goes_first_and_one_notice_says_so(
    way: str, protocol: str
) -> None:
    """Stops a flood from filling the server's memory, and text from displacing a plot."""

    async def check() -> None:
        with pacing(way, protocol, max_pending_bytes=100_000, **ROOM) as on:
            exceed(on.bench)
            plots = list(range(0, 40, 2))
            for number in plots:
                plot = "iopub", display(number, 1000)
                # Each of another request: they are not joined.
                arrive(on.bench, [plot, printed(number + 1, "x" * 10_000, parent=number)])
            assert on.stats["congested"] > 0
            got = (await on.in_the_end())[10:]
            came = numbers(got)
            assert [number for number in came if number % 2 == 0] == plots
            lines = [number for number in came if number % 2]
            assert 0 < len(lines) < 20
            assert lines[-1] == 39, "the oldest goes first"
            (notice,) = notices(got)
            assert "KernelwireWebsocketConnection.max_pending_bytes=100000 (bytes)" in notice
            assert notice.startswith(f"{20 - len(lines)} messages (")
            assert on.stats["congested"] == 20 - len(lines)

    run_to_end(check)


@every_way
@every_protocol
def test_update_when_it_waits_then_the_last_one_takes_its_place(way: str, protocol: str) -> None:
    """Stops a progress bar from creeping behind its loop, or ending short of its end."""

    async def check() -> None:
        with pacing(way, protocol, **ROOM) as on:
            exceed(on.bench)
            for number in range(0, 200, 2):
                arrive(on.bench, [update(number, "a"), printed(number + 1)])
            assert on.stats["superseded"] == 99
            got = (await on.in_the_end())[10:]
            assert got[0].numbers == [198]
            assert numbers(got[1:]) == list(range(1, 200, 2))

    run_to_end(check)
