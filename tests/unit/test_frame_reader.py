"""The native reader of websocket frames, as Python sees it; `rust/core` tests what it reads."""

from __future__ import annotations

import pytest

from kernelwire._native import FrameReader, unpack_messages

PING, CLOSE = 9, 8


def test_reader_when_a_message_comes_in_pieces_then_it_is_handed_over_whole() -> None:
    """Stops half a frame from being written to a browser, with a ping behind it."""
    reader = FrameReader()
    assert reader.read(b"\x81\x05hel") == (b"", 0, [], None)
    assert reader.held == 5
    assert reader.read(b"lo\x82\x01x\x89\x01p") == (
        b"\x81\x05hello\x82\x01x", 2, [(PING, b"p")], None,
    )  # fmt: skip
    assert reader.held == 0


@pytest.mark.parametrize(
    ("data", "code"), [(b"\x83\x00", 1002), (b"\x81\x7e\x01\x00", 1009), (b"\x81\x80", 1002)]
)
def test_reader_when_a_frame_is_wrong_then_what_came_before_it_is_given(
    data: bytes, code: int
) -> None:
    """Stops a fault from taking along messages that were right, and names the code to close with."""
    frames, count, _, fault = FrameReader(limit=255).read(b"\x81\x01a" + data)
    assert (frames, count) == (b"\x81\x01a", 1)
    assert fault is not None
    assert fault[0] == code


def test_reader_when_the_peer_closes_then_code_and_reason_are_given() -> None:
    """Stops the reason for which a gateway ends a connection from getting lost."""
    assert FrameReader().read(b"\x88\x04\x03\xe9by\x81\x00")[2] == [(CLOSE, b"\x03\xe9by")]
    assert FrameReader().read(b"\x88\x00")[2] == [(CLOSE, b"")]


def test_messages_when_unpacked_then_fragments_are_joined_and_masks_are_off() -> None:
    """Stops a message that goes one by one from differing from the same in a batch."""
    frames = b"\x81\x01a\x02\x01\x00\x80\x01\x01"
    assert unpack_messages(frames) == [(True, b"a", 3), (False, b"\x00\x01", 6)]
    assert unpack_messages(b"\x81\x81\x01\0\0\0\x60", masked=True) == [(True, b"a", 7)]
    with pytest.raises(ValueError, match="masked"):
        unpack_messages(b"\x81\x81\x01\0\0\0\x60")
