"""Requests of a browser that wait for the gateway to be there again."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["KeptRequests"]


class KeptRequests:
    """Requests in their order, up to a number of bytes."""

    def __init__(self) -> None:
        """Make a store that is empty."""
        self._messages: deque[str | bytes] = deque()
        self.bytes = 0
        """Their size; of text, what it takes as UTF-8."""

    def __len__(self) -> int:
        """Count them."""
        return len(self._messages)

    def add(self, message: str | bytes, limit: int) -> bool:
        """Keep a message behind the others; ``False`` where that would be more than ``limit`` bytes.

        A single message of any size is kept. A ``limit`` of 0 is none.
        """
        size = _size(message)
        if self._messages and limit and self.bytes + size > limit:
            return False
        self._messages.append(message)
        self.bytes += size
        return True

    def put_back(self, messages: Iterable[str | bytes]) -> None:
        """Put messages before the others: they were handed out, and could not be sent."""
        for message in reversed(list(messages)):
            self._messages.appendleft(message)
            self.bytes += _size(message)

    def take(self) -> list[str | bytes]:
        """Return all of them, and forget them."""
        messages = list(self._messages)
        self._messages.clear()
        self.bytes = 0
        return messages


def _size(message: str | bytes) -> int:
    if isinstance(message, bytes):
        return len(message)
    return len(message) if message.isascii() else len(message.encode(errors="surrogatepass"))
