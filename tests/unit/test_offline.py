"""The buffer of a kernel without a client: what it keeps, drops, joins and counts."""

from __future__ import annotations

import json
import tracemalloc
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_client.session import Session

from kernelwire.offline import DELIMITER, MERGED_BYTES, OfflineBuffer
from support.offline_messages import (
    EARLY,
    LATE,
    NEVER,
    Sent,
    display,
    frames_of,
    message_header,
    numbers_in,
    packed,
    runs,
    runs_in,
    sequences,
    session,
    stream,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MEBIBYTE = 1 << 20
LIMITS = st.sampled_from((1, 700, 2_000, 5_000, 20_000))

many = settings(deadline=None, max_examples=150, suppress_health_check=list(HealthCheck))


def buffer_of(sent: list[Sent], limit: int = 0) -> OfflineBuffer:
    """Make a buffer and put messages in."""
    buffer = OfflineBuffer(limit, session.sign)
    buffer.extend((one.channel, one.frames) for one in sent)
    return buffer


def kept_numbers(buffer: OfflineBuffer) -> list[int]:
    """Tell which of the kernel's messages are left, in the buffer's order."""
    return [number for message in buffer for number in numbers_in(message)]


# the bound


@given(sent=sequences(), limit=LIMITS)
@many
def test_bound_when_exceeded_then_only_what_is_never_dropped_is_left(
    sent: list[Sent], limit: int
) -> None:
    """Stops a closed tab from eating the server's memory."""
    buffer = OfflineBuffer(limit, session.sign)
    for one in sent:
        buffer.append((one.channel, one.frames))
        bytes_held = sum(len(frame) for _, frames in buffer for frame in frames)
        kept = {sent[number].when for number in kept_numbers(buffer)}
        assert buffer.size >= bytes_held
        assert buffer.size <= limit or kept <= {NEVER}


@given(sent=sequences(), limit=LIMITS)
@many
def test_bound_when_exceeded_then_statuses_replies_and_questions_stay(
    sent: list[Sent], limit: int
) -> None:
    """Stops a cell that seems to run for ever because its reply or its idle was dropped."""
    kept = kept_numbers(buffer_of(sent, limit))
    assert {one.number for one in sent if one.when == NEVER} <= set(kept)


@given(sent=sequences(), limit=LIMITS)
@many
def test_bound_when_exceeded_then_the_oldest_output_goes_first_and_results_last(
    sent: list[Sent], limit: int
) -> None:
    """Stops the newest output, or an error, from being dropped while older output is kept."""
    buffer = OfflineBuffer(limit, session.sign)
    before: list[int] = []
    for one in sent:
        buffer.append((one.channel, one.frames))
        after = kept_numbers(buffer)
        known = [*before, one.number]
        gone = [number for number in known if number not in set(after)]
        for when in (EARLY, LATE):
            ours = [number for number in known if sent[number].when == when]
            gone_of_ours = [number for number in gone if sent[number].when == when]
            assert gone_of_ours == ours[: len(gone_of_ours)]
        if any(sent[number].when == LATE for number in gone):
            assert not any(sent[number].when == EARLY for number in after)
        before = after


@given(sent=sequences(), limit=LIMITS)
@many
def test_count_when_messages_are_dropped_then_every_one_is_kept_or_counted(
    sent: list[Sent], limit: int
) -> None:
    """Stops a notice that says less, or more, than is missing."""
    buffer = buffer_of(sent, limit)
    kept = kept_numbers(buffer)
    assert kept == sorted(set(kept))
    assert buffer.received == len(sent) == len(kept) + buffer.dropped.messages
    assert (buffer.dropped.size > 0) == (buffer.dropped.messages > 0)


def test_parent_when_messages_are_dropped_then_it_is_that_of_the_last_of_them() -> None:
    """Stops the notice from showing up below a cell that has lost nothing."""
    buffer = OfflineBuffer(3_000, session.sign)
    for number, parent in enumerate("aabbcc"):
        buffer.append(("iopub", stream(number, f"⟦{number}⟧" + "x" * 1000, parent)))
    kept = kept_numbers(buffer)
    last_dropped = "aabbcc"[kept[0] - 1]
    assert 0 < len(kept) < len("aabbcc")
    assert json.loads(buffer.dropped_parent)["msg_id"] == f"⟦{last_dropped}⟧"


def test_bound_when_it_is_zero_then_everything_is_kept() -> None:
    """Stops the setting that means no limit from meaning no room."""
    buffer = OfflineBuffer(0, session.sign)
    for number in range(200):
        buffer.append(("iopub", display(number, 10_000)))
    assert kept_numbers(buffer) == list(range(200))
    assert buffer.dropped == (0, 0)


def displays(size: int) -> Iterator[tuple[str, list[bytes]]]:
    """Output that is never joined."""
    return (("iopub", display(number, size)) for number in count())


def prints(text: str, *names: str) -> Iterator[tuple[str, list[bytes]]]:
    """Printed text, to each of the names in turn."""
    return (("iopub", stream(number, text, name=names[number % len(names)])) for number in count())


FLOODS: dict[str, Callable[[], Iterator[tuple[str, list[bytes]]]]] = {
    "small displays": lambda: displays(10),
    "large displays": lambda: displays(100_000),
    "lines": lambda: prints("a line of text\n", "stdout"),
    "lines of two streams": lambda: prints("a line of text\n", "stdout", "stderr"),
    "pages": lambda: prints("x" * 60_000, "stdout"),
    "pages of two streams": lambda: prints("x" * 60_000, "stdout", "stderr"),
    "lines with an emoji": lambda: prints("a line of text 😀\n", "stdout"),
    "pages with an emoji": lambda: prints("x" * 60_000 + "😀", "stdout"),
}


@pytest.mark.parametrize("flood", FLOODS)
def test_bound_when_kernel_floods_then_the_process_holds_it_too(flood: str) -> None:
    """Stops a bound that is kept on paper while the server's memory grows to a multiple."""
    limit = 4 * MEBIBYTE
    buffer = OfflineBuffer(limit, session.sign)
    tracemalloc.start()
    try:
        given = 0
        for message in FLOODS[flood]():
            buffer.append(message)
            given += sum(map(len, message[1]))
            if buffer.dropped.messages > 20 or given > 20 * limit:
                break
        del message
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 1.4 * limit


# joining


@given(sent=sequences())
@many
def test_join_when_kernel_prints_anything_then_no_text_is_changed_moved_or_mixed(
    sent: list[Sent],
) -> None:
    """Stops joined output that is not what was printed, under the cell that printed it."""
    assert runs_in(list(buffer_of(sent)), sent) == runs(sent)


@given(sent=sequences(), limit=LIMITS)
@many
def test_join_when_messages_are_joined_then_each_has_a_valid_signature(
    sent: list[Sent], limit: int
) -> None:
    """Stops clients of the default protocol, whose bridge checks, from losing joined output."""
    receiver = Session(key=session.key)
    for _, frames in buffer_of(sent, limit):
        _, fed = receiver.feed_identities(frames)
        receiver.deserialize(fed)


def test_join_when_kernel_prints_line_by_line_then_few_messages_are_left() -> None:
    """Stops a progress log from filling the buffer with headers."""
    buffer = OfflineBuffer(0, session.sign)
    buffer.extend(("iopub", stream(number, f"⟦{number}⟧")) for number in range(1000))
    assert len(buffer) == 1
    assert kept_numbers(buffer) == list(range(1000))


def test_join_when_text_grows_long_then_a_new_message_begins() -> None:
    """Stops a whole log from being dropped at once for being one message."""
    buffer = OfflineBuffer(0, session.sign)
    buffer.extend(("iopub", stream(number, "x" * 1000)) for number in range(1000))
    sizes = [len(frames[6]) for _, frames in buffer]
    assert len(sizes) > 10
    assert max(sizes) < MERGED_BYTES + 2000


UNLIKE = {
    "parent": stream(1, "b", parent="q"),
    "name": stream(1, "b", name="stderr"),
    "type": display(1),
    "key": frames_of(
        [packed(message_header("stream", 1)), b"{}", b"{}", b'{"name":"stdout","text":"b","k":1}']
    ),
}


@pytest.mark.parametrize("unlike", UNLIKE)
def test_join_when_something_else_lies_between_then_nothing_is_joined_across(unlike: str) -> None:
    """Stops text from overtaking what was said before it."""
    buffer = OfflineBuffer(0, session.sign)
    sent = [stream(0, "a"), UNLIKE[unlike], stream(2, "c")]
    buffer.extend(("iopub", frames) for frames in sent)
    assert [frames for _, frames in buffer] == sent


@pytest.mark.parametrize("channel", ["shell", "stdin", "control"])
def test_join_when_another_channel_lies_between_then_nothing_is_joined_across(channel: str) -> None:
    """Stops output from overtaking the reply, or the question, that came before it."""
    buffer = OfflineBuffer(0, session.sign)
    buffer.append(("iopub", stream(0, "a")))
    buffer.append((channel, stream(1, "b")))
    buffer.append(("iopub", stream(2, "c")))
    assert [(name, numbers(frames)) for name, frames in buffer] == [
        ("iopub", "⟦0⟧"),
        (channel, "⟦1⟧"),
        ("iopub", "⟦2⟧"),
    ]


def numbers(frames: list[bytes]) -> str:
    """The id in a message's header."""
    return json.loads(frames[3])["msg_id"]


FORGERIES = {"wrong": b"0" * 64, "missing": b"", "upper-case": None}


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("forgery", FORGERIES)
def test_join_when_a_signature_is_forged_then_it_is_not_made_valid(
    position: int, forgery: str
) -> None:
    """Stops the server from signing in the kernel's name what the kernel has not said."""
    sent = [stream(number, f"⟦{number}⟧") for number in range(3)]
    signature = FORGERIES[forgery]
    genuine = sent[position][2]
    sent[position][2] = genuine.upper() if signature is None else signature
    buffer = OfflineBuffer(0, session.sign)
    buffer.extend(("iopub", frames) for frames in sent)
    believed = [n for frames in buffer if is_genuine(frames[1]) for n in numbers_in(frames)]
    assert believed == [number for number in range(3) if number != position]


def is_genuine(frames: list[bytes]) -> bool:
    """Whether a client of the default protocol would get it."""
    receiver = Session(key=session.key)
    try:
        receiver.deserialize(receiver.feed_identities(frames)[1])
    except ValueError:
        return False
    return True


MALFORMED = {
    "nothing": [],
    "no delimiter": [b"topic", b"neither", b"here"],
    "three parts": [DELIMITER, b"", b"{}", b"{}", b"{}"],
    "no JSON": [DELIMITER, b"", b"{", b"{}", b"{}", b"{}"],
    "no object": [DELIMITER, b"", b"[]", b"null", b"{}", b"{}"],
}


@pytest.mark.parametrize("kind", MALFORMED)
def test_message_when_it_is_malformed_then_it_is_kept_as_it_is(kind: str) -> None:
    """Stops one odd message from ending the buffering, or from swallowing its neighbours."""
    buffer = OfflineBuffer(0, session.sign)
    sent = [stream(0, "a"), MALFORMED[kind], stream(2, "c")]
    buffer.extend(("iopub", list(frames)) for frames in sent)
    assert [frames for _, frames in buffer] == sent


def test_message_when_malformed_ones_flood_then_they_are_bounded_too() -> None:
    """Stops a broken kernel from eating the memory that a sound one may not eat."""
    buffer = OfflineBuffer(10_000, session.sign)
    buffer.extend(("iopub", [b"nonsense" * 20]) for _ in range(1000))
    assert buffer.size <= 10_000
    assert len(buffer) + buffer.dropped.messages == 1000


# as stock's list


@given(sent=sequences(max_size=12), limit=st.sampled_from((0, 5_000)), at=st.integers(-15, 15))
@many
def test_buffer_when_read_as_a_list_then_it_is_one(sent: list[Sent], limit: int, at: int) -> None:
    """Stops code that knows stock's buffer from failing on this one."""
    buffer = buffer_of(sent, limit)
    as_list = list(buffer)
    assert len(buffer) == len(as_list)
    assert bool(buffer) == bool(as_list)
    assert buffer[:] == as_list
    assert buffer[at:] == as_list[at:]
    assert list(reversed(buffer)) == as_list[::-1]
    assert item(buffer, at) == item(as_list, at)


def item(messages: Any, at: int) -> Any:
    """One message, or the error that there is none."""
    try:
        return messages[at]
    except IndexError:
        return "IndexError"


@given(sent=sequences(), leaving=st.lists(st.booleans(), min_size=30, max_size=30))
@many
def test_popleft_when_messages_come_meanwhile_then_each_leaves_once_in_order(
    sent: list[Sent], leaving: list[bool]
) -> None:
    """Stops a replay that loses what is printed while it runs, or shows it twice."""
    buffer = OfflineBuffer(0, session.sign)
    left = []
    for one, leaves in zip(sent, leaving, strict=False):
        buffer.append((one.channel, one.frames))
        if leaves:
            left.append(buffer.popleft())
    while buffer:
        left.append(buffer.popleft())
    assert runs_in(left, sent) == runs(sent)
    assert buffer.size == 0


@given(sent=sequences(), limit=LIMITS, leaving=st.lists(st.booleans(), min_size=30, max_size=30))
@many
def test_popleft_when_the_bound_drops_meanwhile_then_every_message_left_or_is_counted(
    sent: list[Sent], limit: int, leaving: list[bool]
) -> None:
    """Stops counts that go wrong because a slow client is replayed to while the kernel floods."""
    buffer = OfflineBuffer(limit, session.sign)
    left: list[int] = []
    for one, leaves in zip(sent, leaving, strict=False):
        buffer.append((one.channel, one.frames))
        if leaves and buffer:
            left += numbers_in(buffer.popleft())
    left += kept_numbers(buffer)
    assert left == sorted(set(left))
    assert len(left) + buffer.dropped.messages == len(sent)


def test_popleft_when_nothing_is_left_then_it_says_so() -> None:
    """Stops an end that looks like a message."""
    buffer = OfflineBuffer(0, session.sign)
    buffer.append(("iopub", stream(0, "a")))
    buffer.popleft()
    with pytest.raises(IndexError):
        buffer.popleft()
