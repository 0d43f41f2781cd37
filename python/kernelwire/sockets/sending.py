"""What waits to be sent to a kernel that does not read, within bounds."""

from __future__ import annotations

from queue import Queue
from typing import Any

__all__ = ["KernelDoesNotReadError", "SendQueue"]

MAX_QUEUED_MESSAGES = 10_000
"""Messages that may wait for a kernel that does not read, besides those that libzmq holds."""

MAX_QUEUED_BYTES = 64 * 1024 * 1024
"""Bytes that these messages may take, with what each part of them costs."""

PART_BYTES = 64
"""Memory in bytes that a part costs besides its own: libzmq's ``zmq_msg_t``, Python's object."""


class KernelDoesNotReadError(Exception):
    """A message was not sent: too much waits for the kernel."""


class SendQueue(Queue[Any]):
    """The queue of a stream's messages to be sent, with the memory they take.

    Whoever puts something in or takes it out, the account is exact.
    """

    size = 0
    """Bytes that the messages in the queue take."""

    def _put(self, item: Any) -> None:
        self.size += _cost(item[0])
        super()._put(item)

    def _get(self) -> Any:
        item = super()._get()
        self.size -= _cost(item[0])
        return item

    def check_room(self, message: Any) -> None:
        """Make sure that a message may wait; raises ``KernelDoesNotReadError``.

        One that is larger than all that may wait is let through where nothing does.
        """
        count, size = self.qsize(), self.size
        full = count and size + _cost(message) > MAX_QUEUED_BYTES
        if full or count >= MAX_QUEUED_MESSAGES:
            raise KernelDoesNotReadError(
                f"{count} messages ({size} bytes) wait for the kernel, "
                f"{MAX_QUEUED_MESSAGES} messages and {MAX_QUEUED_BYTES} bytes are allowed"
            )


def _cost(message: Any) -> int:
    """Return the bytes that a message takes."""
    return sum(map(_part_size, message)) + PART_BYTES * len(message)


def _part_size(part: Any) -> int:
    return part.nbytes if isinstance(part, memoryview) else len(part)
