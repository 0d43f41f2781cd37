"""What waits for a client that is away."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, overload

if TYPE_CHECKING:
    from collections.abc import Iterator

    from kernelwire.log.client import Client

__all__ = ["Backlog", "Dropped", "Message"]

Message = tuple[str, list[bytes]]
"""A channel and the frames of a message, as the stock buffer keeps them."""


class Dropped(NamedTuple):
    """What did not fit: how many of the kernel's messages, and their bytes."""

    messages: int
    size: int


class Backlog(Sequence[Message]):
    """What waits for a client, oldest first; looks like stock's list of ``(channel, frames)``."""

    def __init__(self, client: Client) -> None:
        self.client = client

    def _messages(self) -> list[Message]:
        return self.client.cursor.backlog()

    def __len__(self) -> int:
        """Return how many messages there are."""
        return len(self._messages())

    def __iter__(self) -> Iterator[Message]:
        """Go through the messages, oldest first."""
        return iter(self._messages())

    @overload
    def __getitem__(self, index: int) -> Message: ...
    @overload
    def __getitem__(self, index: slice) -> list[Message]: ...
    def __getitem__(self, index: int | slice) -> Message | list[Message]:
        """Return one message, or some."""
        return self._messages()[index]

    def append(self, message: Message) -> None:
        """Put in a message."""
        self.client.extend([message])

    @property
    def dropped(self) -> int:
        """How many messages were skipped since the client came, because too much waited."""
        return self.client.cursor.stats()["congested"]

    @property
    def size(self) -> int:
        """Bytes of memory that wait."""
        return self.client.cursor.waiting()[1]
