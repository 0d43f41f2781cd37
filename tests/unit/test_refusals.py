"""Which message is taken for the one that a client has refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from kernelwire._writers import InFlight, payloads
from kernelwire.refusals import LARGE_BYTES, without_refused
from support.offline_messages import frames_of

if TYPE_CHECKING:
    from kernelwire.offline import Message

pytestmark = pytest.mark.kernelwire_only("I1")


def message(header: bytes, size: int = 10) -> Message:
    """A message of the kernel's."""
    return "iopub", frames_of([header, b"parent", b"{}", b"x" * size])


def notice(text: str, parent: bytes) -> Message:
    """A notice that can be recognised."""
    return "iopub", [text.encode(), parent]


def sort_out(unsent: list[Message], tried: bytes = b"", **facts: bool) -> tuple[Any, bytes]:
    """What is sent next and what was tried; without facts, nothing was begun."""
    facts = {"begun": False, "too_big": False, **facts}
    return without_refused(unsent, tried, notice=notice, **facts)


class TestWithoutRefused:
    """A message is left out when it was tried twice, or was surely too big."""

    def test_begun_message_is_tried_again(self) -> None:
        """It stays, and is remembered."""
        unsent = [message(b"one"), message(b"two")]
        assert sort_out(unsent, begun=True) == (unsent, b"one")

    def test_message_begun_twice_is_left_out(self) -> None:
        """A notice with its size and its parent stands in its place."""
        unsent = [message(b"one", 1000), message(b"two")]
        ((channel, frames), *rest), tried = sort_out(unsent, b"one", begun=True)
        assert (channel, frames[1], rest, tried) == ("iopub", b"parent", unsent[1:], b"")
        size = 1000 + len(b"one" + b"parent" + b"{}")
        assert frames[0].startswith(b"A message of %d bytes was not delivered" % size)

    def test_another_message_is_tried_again(self) -> None:
        """What was begun before has been sent meanwhile."""
        unsent = [message(b"two")]
        assert sort_out(unsent, b"one", begun=True) == (unsent, b"two")

    def test_large_message_is_left_out_at_once(self) -> None:
        """Where the client has said that it was too big."""
        unsent = [message(b"one", LARGE_BYTES)]
        (only,), _ = sort_out(unsent, begun=True, too_big=True)
        assert b"was not delivered" in only[1][0]

    def test_small_message_is_not_taken_for_too_big(self) -> None:
        """The large one may have been taken whole, with this one's beginning behind it."""
        unsent = [message(b"one")]
        assert sort_out(unsent, begun=True, too_big=True) == (unsent, b"one")

    def test_message_that_was_taken_whole_is_reported(self) -> None:
        """Where nothing is known but that one was too big, that is said."""
        unsent = [message(b"one")]
        (first, *rest), _ = sort_out(unsent, too_big=True)
        assert b"larger than the client accepts" in first[1][0]
        assert rest == unsent

    def test_unbegun_messages_stay(self) -> None:
        """What was tried before is still known: a connection may end before it comes to that."""
        unsent = [message(b"one")]
        assert sort_out(unsent, b"tried") == (unsent, b"tried")


class Stream:
    """A stream's counters."""

    _total_write_index = 0
    _total_write_done_index = 0


def in_flight(*items: Any, sizes: list[int], taken: int) -> InFlight:
    """What was written, of which the socket has taken so many bytes."""
    flight = InFlight(None)
    stream: Any = Stream()
    flight._stream = stream
    for item, size in zip(items, sizes, strict=True):
        stream._total_write_index += size
        flight.add(item)
    stream._total_write_done_index = taken
    return flight


class TestIsBegun:
    """Whether the socket has taken a part of the first message that is left."""

    BLOCK = b"\x82\x03abc" + b"\x82\x7e\x00\x80" + b"x" * 128

    @pytest.mark.parametrize(
        ("taken", "begun"), [(0, False), (1, True), (4, True), (5, False), (6, True), (136, True)]
    )
    def test_in_a_block(self, taken: int, begun: bool) -> None:
        """Frames stand back to back in a block."""
        flight = in_flight(self.BLOCK, sizes=[len(self.BLOCK)], taken=taken)
        assert flight.is_begun() is begun
        assert len(payloads(self.BLOCK, taken)) == (2 if taken < 5 else 1)

    def test_with_a_block_that_was_sent_in_part(self) -> None:
        """Only the rest of it is the stream's."""
        flight = in_flight(self.BLOCK, sizes=[len(self.BLOCK) - 5], taken=0)
        assert flight.is_begun() is False

    @pytest.mark.parametrize(("taken", "begun"), [(0, False), (1, True), (10, False), (11, True)])
    def test_with_single_messages(self, taken: int, begun: bool) -> None:
        """Of these only the ends are known."""
        items = [["one"], ("iopub", [])]
        assert in_flight(*items, sizes=[10, 10], taken=taken).is_begun() is begun

    def test_without_a_stream(self) -> None:
        """Nothing is known of other websockets."""
        assert InFlight(None).is_begun() is False
