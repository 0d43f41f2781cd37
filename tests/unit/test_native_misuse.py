"""What the native functions do with what they were not made for: a clear error, never a crash."""

from __future__ import annotations

import math
from contextlib import suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import zmq

from kernelwire import _native
from kernelwire.sockets.drain import drain

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def log() -> _native.Log:
    """A log whose calls take little."""
    return _native.Log(b"", 10, 10, 1.0)


USERS: dict[str, Callable[[Any], Any]] = {
    "receive": _native.receive,
    "send": lambda socket: _native.send(socket, [b"x"]),
    "Log.receive": lambda socket: log().receive(socket, 0.0, None),
    "Cursor.receive": lambda socket: log().open().receive(socket, b"shell", 0.0),
}


@pytest.fixture
def context() -> Iterator[zmq.Context[Any]]:
    """A context of its own, where libzmq can be used natively."""
    assert drain().native, drain().reason
    context = zmq.Context()
    yield context
    context.destroy(linger=0)


@pytest.fixture(params=USERS)
def use(request: pytest.FixtureRequest, context: zmq.Context[Any]) -> Callable[[Any], Any]:
    """Each function that takes a socket."""
    assert not context.closed
    return USERS[request.param]


def test_socket_when_it_is_something_else_then_is_a_type_error(
    use: Callable[[Any], Any], context: zmq.Context[Any]
) -> None:
    """Stops whatever has an attribute of the same name from being taken for libzmq's memory."""
    likeness = SimpleNamespace(closed=False, underlying=0x1234)
    for other in (likeness, context, None, 4660, zmq.Socket):
        with pytest.raises(TypeError, match=r"a zmq\.Socket is required, not an object of type"):
            use(other)


def test_socket_when_its_context_is_destroyed_then_is_a_value_error(
    use: Callable[[Any], Any], context: zmq.Context[Any]
) -> None:
    """Stops the memory of a socket that went with its context from being used."""
    socket = context.socket(zmq.PAIR)
    context.destroy(linger=0)
    with pytest.raises(ValueError, match="the socket is closed"):
        use(socket)


def test_socket_when_it_never_came_to_be_then_is_a_value_error(use: Callable[[Any], Any]) -> None:
    """Stops a socket without libzmq's behind it from being used."""
    with pytest.raises((ValueError, OSError)):
        use(zmq.Socket.__new__(zmq.Socket))


def test_socket_when_a_subclass_lies_then_its_own_class_is_asked(
    use: Callable[[Any], Any], context: zmq.Context[Any]
) -> None:
    """Stops a property of a subclass from naming any address."""

    class Liar(zmq.Socket):  # type: ignore[type-arg]
        underlying = 0x1234
        closed = False

    socket = Liar(context, zmq.PAIR)
    use(socket)
    zmq.Socket.close(socket)
    with pytest.raises(ValueError, match="the socket is closed"):
        use(socket)
    del Liar.closed  # pyzmq asks for it in the end


ODD_NUMBERS = (-1, 0, 2**63, 2**64, 10**30, math.nan, math.inf, -math.inf, None, "1")


@pytest.mark.parametrize("odd", ODD_NUMBERS)
def test_number_when_it_is_odd_then_is_taken_or_a_clear_error(odd: Any) -> None:
    """Stops a number that nobody thought of from ending the server with a panic."""
    cursor = log().open()
    window = cursor.window()
    flags = dict.fromkeys(("spliced", "hide_tracebacks", "one_by_one"), False)
    settings: Any = {**flags, "overflow": "pace", "patience": 1.0}
    calls: list[Callable[[], object]] = [
        lambda: _native.Log(b"", odd, 10, 1.0),
        lambda: _native.Log(b"", 10, odd, 1.0),
        lambda: _native.Log(b"", 10, 10, odd).append([b"x"], 0.0),
        lambda: log().append([b"x"], odd),
        lambda: cursor.apply({**settings, "limits": (odd, odd, odd), "bound": 1}),
        lambda: cursor.apply({**settings, "limits": None, "bound": odd}),
        lambda: cursor.apply({**settings, "limits": None, "bound": 1, "patience": odd}),
        lambda: cursor.apply({**settings, "limits": None, "bound": 1, "overflow": odd}),
        lambda: cursor.write(odd, 0.0),
        lambda: cursor.write(-1, odd),
        lambda: cursor.acknowledge(odd),
        lambda: cursor.release(odd, odd),
        lambda: cursor.post(b"shell", [b"x"], odd, "now"),
        lambda: cursor.post(b"shell", [b"x"], 0.0, odd),
        lambda: cursor.go_away(odd, False),
        lambda: window.queue_get(odd),
        lambda: window.queue_remove(odd),
        lambda: window.queue_insert(odd, odd, 1),
        lambda: window.queue_insert(0, 1.0, odd),
        lambda: window.queue_set(odd, 1.0, 1),
        lambda: setattr(window, "window_messages", odd),
        lambda: setattr(window, "window_bytes", odd),
        window.reset_window,
        cursor.stats,
    ]
    for call in calls:
        with suppress(TypeError, ValueError, OverflowError, IndexError):
            call()


class TestClosedCursor:
    """A cursor that was closed: nothing is written, and its state is not there."""

    @pytest.fixture
    def cursor(self) -> _native.Cursor:
        """A cursor that was closed."""
        cursor = log().open()
        cursor.close()
        return cursor

    def test_reading_is_a_value_error(self, cursor: _native.Cursor) -> None:
        """What needs the cursor says that it is closed."""
        window = cursor.window()
        for call in (lambda: cursor.write(-1, 0.0), window.queue_len):
            with pytest.raises(ValueError, match="the cursor is closed"):
                call()

    def test_the_rest_changes_nothing(self, cursor: _native.Cursor) -> None:
        """What comes late for a client that is gone is of no use, and no error."""
        cursor.acknowledge(5)
        cursor.go_away(0, False)
        cursor.close()
        assert not cursor.release(1, 0)
        assert cursor.held() is None
        assert (cursor.backlog(), cursor.waiting(), cursor.is_open()) == ([], (0, 0), False)
