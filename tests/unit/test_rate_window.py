"""The rate limiter's queue, which lives in the log, behaves as the list that stock has."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from kernelwire.connection.rate_limit import RateWindow
from kernelwire.log.kernel_log import empty_log

ENTRY = st.tuples(st.floats(allow_nan=False), st.integers(-(2**40), 2**40))
INDEX = st.integers(-6, 6)
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), ENTRY),
        st.tuples(st.just("insert"), INDEX, ENTRY),
        st.tuples(st.just("pop"), INDEX),
        st.tuples(st.just("__delitem__"), st.one_of(INDEX, st.slices(6))),
        st.tuples(st.just("__setitem__"), INDEX, ENTRY),
        st.tuples(st.just("__getitem__"), st.one_of(INDEX, st.slices(6))),
        st.tuples(st.just("clear")),
        st.tuples(st.just("__len__")),
    ),
    max_size=30,
)


def outcome(target: Any, name: str, arguments: tuple[Any, ...]) -> Any:
    """Call a method; return its result, or the type of what it raised."""
    try:
        return getattr(target, name)(*arguments)
    except IndexError:
        return IndexError


@given(operations=OPERATIONS)
def test_window_when_used_as_a_list_then_behaves_as_one(
    operations: list[tuple[Any, ...]],
) -> None:
    """Stops the inherited limiter from working on something else than it was written for."""
    window, expected = RateWindow(empty_log().open().window()), []
    for name, *arguments in operations:
        got = outcome(window, name, tuple(arguments))
        assert got == outcome(expected, name, tuple(arguments))
        assert list(window) == expected


def test_window_when_replaced_then_holds_the_new_entries() -> None:
    """Stops `connection._iopub_window_byte_queue = []` from leaving the old entries counted."""
    window = RateWindow(empty_log().open().window())
    window.extend([(1.0, 2), (2.0, 3)])
    window.replace([(5.0, 6)])
    assert window == [(5.0, 6)]
    assert repr(window) == "[(5.0, 6)]"
