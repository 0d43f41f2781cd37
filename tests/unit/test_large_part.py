"""The memory of a large part, as other objects see it: read-only, and there as long as a view."""

from __future__ import annotations

import ctypes
import gc
import json
import sys
import time
from typing import TYPE_CHECKING

import pytest
import zmq

from kernelwire._native import Cursor, LargePart, Log
from kernelwire.sockets import drain

if TYPE_CHECKING:
    from collections.abc import Iterator

LARGE = bytes(range(256)) * 1024
HEADER = {"msg_id": "1", "msg_type": "display_data", "version": "5.4", "date": ""}
PARTS = [b"<IDS|MSG>", b"", *(json.dumps(part).encode() for part in (HEADER, {}, {}, {}))]
MAX_BYTES = 1 << 30

pytestmark = pytest.mark.skipif(
    not drain.drain().native, reason="pyzmq's libzmq cannot be used here"
)


@pytest.fixture
def sockets() -> Iterator[tuple[zmq.Socket[bytes], zmq.Socket[bytes]]]:
    """One that sends, and one that receives."""
    with (
        zmq.Context() as context,
        context.socket(zmq.PUSH) as push,
        context.socket(zmq.PULL) as pull,
    ):
        pull.bind("inproc://part")
        push.connect("inproc://part")
        yield push, pull


@pytest.fixture
def part(sockets: tuple[zmq.Socket[bytes], zmq.Socket[bytes]]) -> LargePart:
    """A part that a log has received; nobody else holds it."""
    push, pull = sockets
    push.send_multipart([*PARTS, LARGE])
    assert pull.poll(5000)
    log = Log(b"", 100, MAX_BYTES, 1.0)
    cursor = log.open()
    log.receive(pull, time.monotonic(), None)
    written = cursor.write(-1, time.monotonic())
    assert not isinstance(written, bool)
    assert isinstance(written[2], list)
    (part,) = (piece for piece in written[2] if isinstance(piece, LargePart))
    return part


class TestLargePart:
    """A part that libzmq has received, offered by the buffer protocol."""

    def test_view_is_read_only_bytes(self, part: LargePart) -> None:
        """A view shows the received bytes, and cannot be written."""
        view = memoryview(part)
        assert (view.readonly, view.format, view.ndim, view.contiguous) == (True, "B", 1, True)
        assert view == LARGE
        with pytest.raises(TypeError, match="read-only"):
            view[0] = 1  # type: ignore[index]

    def test_writable_buffer_is_refused(self, part: LargePart) -> None:
        """A consumer that asks for memory that it may write gets an error."""
        with pytest.raises((BufferError, TypeError), match=r"(?i)writable|read-write"):
            ctypes.c_char.from_buffer(part)  # type: ignore[arg-type]

    def test_views_share_the_memory(self, part: LargePart) -> None:
        """Two views show one and the same memory: nothing is copied."""
        numpy_like = [(ctypes.c_char * len(LARGE)).from_buffer_copy(part).raw, bytes(part)]
        assert numpy_like == [LARGE, LARGE]
        addresses = {address_of(memoryview(part)) for _ in range(3)}
        assert len(addresses) == 1

    def test_view_holds_one_reference(self, part: LargePart) -> None:
        """Each view holds the part once, and gives it back when released."""
        before = sys.getrefcount(part)
        views = [memoryview(part) for _ in range(10)]
        assert sys.getrefcount(part) == before + len(views)
        for view in views[:5]:
            view.release()
        del view
        assert sys.getrefcount(part) == before + 5
        views.clear()
        assert sys.getrefcount(part) == before

    def test_refused_buffer_leaves_no_reference(self, part: LargePart) -> None:
        """A consumer that is refused does not keep the part alive."""
        before = sys.getrefcount(part)
        for _ in range(10):
            with pytest.raises((BufferError, TypeError)):
                ctypes.c_char.from_buffer(part)  # type: ignore[arg-type]
        gc.collect()
        assert sys.getrefcount(part) == before

    def test_view_outlives_its_object(
        self, sockets: tuple[zmq.Socket[bytes], zmq.Socket[bytes]], request: pytest.FixtureRequest
    ) -> None:
        """A view alone keeps the memory, also when the sockets are closed and memory is reused."""
        view = memoryview(request.getfixturevalue("part"))[1:]
        for socket in sockets:
            socket.close(0)
        gc.collect()
        others = [bytes([number]) * len(LARGE) for number in range(50)]
        assert view == LARGE[1:]
        assert len(others) == 50


class TestLent:
    """A part that Python has received, which its log borrows."""

    @pytest.mark.parametrize("way", ["appended", "posted"])
    def test_large_part_is_not_copied(self, way: str) -> None:
        """The bytes that are written are those that were given, until nobody needs them."""
        given = bytes(len(LARGE))
        references = sys.getrefcount(given)
        log, cursor = keeper(way, [*PARTS, given])
        assert sys.getrefcount(given) == references + 1
        written = cursor.write(-1, time.monotonic())
        assert not isinstance(written, bool)
        assert isinstance(written[2], list)
        (part,) = (piece for piece in written[2] if isinstance(piece, LargePart))
        assert address_of(memoryview(part)) == address_of(memoryview(given))
        assert log.memory() > len(given)
        del part, written
        cursor.close()
        assert sys.getrefcount(given) == references

    @pytest.mark.parametrize("way", ["appended", "posted"])
    def test_what_is_not_quite_bytes_is_copied(self, way: str) -> None:
        """What may change, or may call back when it goes, is not borrowed."""

        class Calling(bytes):
            pass

        changing, calling = bytearray(LARGE), Calling(LARGE)
        references = sys.getrefcount(calling)
        _, cursor = keeper(way, [*PARTS, changing, calling])  # type: ignore[list-item]
        changing[:] = bytes(len(changing))
        assert sys.getrefcount(calling) == references
        written = cursor.write(-1, time.monotonic())
        assert not isinstance(written, bool)
        assert isinstance(written[2], list)
        parts = [piece for piece in written[2] if isinstance(piece, LargePart)]
        assert [bytes(part) for part in parts] == [LARGE, LARGE]


def keeper(way: str, frames: list[bytes]) -> tuple[Log, Cursor]:
    """Make a log that has one message, and its cursor that has not read it."""
    log = Log(b"", 100, MAX_BYTES, 1.0)
    cursor = log.open()
    if way == "appended":
        assert log.append(frames, time.monotonic()) is None
    else:
        assert cursor.post(b"shell", frames, time.monotonic(), "end") is None
    return log, cursor


def address_of(view: memoryview) -> int:
    """Where a view's memory is, which Python tells of a PyObject only through its C API."""
    get = ctypes.pythonapi.PyObject_GetBuffer
    get.argtypes = [ctypes.py_object, ctypes.c_void_p, ctypes.c_int]
    raw = (ctypes.c_void_p * 32)()
    assert get(view, raw, 0) == 0
    ctypes.pythonapi.PyBuffer_Release.argtypes = [ctypes.c_void_p]
    address = raw[0]
    ctypes.pythonapi.PyBuffer_Release(raw)
    assert address is not None
    return address
