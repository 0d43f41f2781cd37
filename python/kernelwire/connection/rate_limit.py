"""The rate limiter's window, seen from Python.

Stock keeps the limiter's state in five attributes of the connection, and its ``_limit_rate`` works
on them in place. Here the state lives in the connection's cursor; what stands in this module makes it look
like stock's, so that the inherited ``_limit_rate`` works on the very same state.
"""

from __future__ import annotations

from collections.abc import MutableSequence
from typing import TYPE_CHECKING, Any, overload

if TYPE_CHECKING:
    from collections.abc import Iterable

    from kernelwire._native import Window


class RateWindow(MutableSequence[Any]):
    """The queue of ``(expiry time in seconds, bytes)`` of the messages in the window.

    A live view: what is changed here is changed in the cursor.
    """

    __slots__ = ("_window",)

    def __init__(self, window: Window) -> None:
        self._window = window

    def __len__(self) -> int:
        """Return how many messages are in the window."""
        return self._window.queue_len()

    def _position(self, index: int) -> int:
        """Resolve a negative index, as a list does."""
        position = index + len(self) if index < 0 else index
        if position < 0:
            raise IndexError("list index out of range")
        return position

    @overload
    def __getitem__(self, index: int) -> tuple[float, int]: ...
    @overload
    def __getitem__(self, index: slice) -> list[tuple[float, int]]: ...  # type: ignore[override]
    def __getitem__(self, index: int | slice) -> Any:
        """Return an entry, or a list of some."""
        if isinstance(index, slice):
            return [self._window.queue_get(i) for i in range(*index.indices(len(self)))]
        return self._window.queue_get(self._position(index))

    def __setitem__(self, index: Any, value: Any) -> None:
        """Replace an entry; slices are replaced by clearing and extending instead."""
        self._window.queue_set(self._position(index), *value)

    def __delitem__(self, index: int | slice) -> None:
        """Remove an entry, or some."""
        if isinstance(index, slice):
            for i in sorted(range(*index.indices(len(self))), reverse=True):
                self._window.queue_remove(i)
            return
        self._window.queue_remove(self._position(index))

    def insert(self, index: int, value: tuple[float, int]) -> None:
        """Insert an entry before ``index``."""
        size = len(self)
        self._window.queue_insert(max(index + size, 0) if index < 0 else index, *value)

    def replace(self, entries: Iterable[tuple[float, int]]) -> None:
        """Put ``entries`` in the place of what is there."""
        entries = list(entries)
        if entries:
            self.clear()
            self.extend(entries)
        else:
            # What the inherited limiter does at `idle`: nothing that was counted counts any more.
            self._window.reset_window()

    def __eq__(self, other: object) -> bool:
        """Compare as the list it stands for."""
        return list(self) == other

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Show the list it stands for."""
        return repr(list(self))


def window_attribute(name: str, doc: str) -> Any:
    """Make a property of the connection that stands for an attribute of its limiter."""

    def read(connection: Any) -> Any:
        return getattr(connection._window, name)

    def write(connection: Any, value: Any) -> None:
        setattr(connection._window, name, value)

    return property(read, write, doc=doc)
