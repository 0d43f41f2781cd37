"""Messages that a client refuses: they are tried twice at most, then reported instead."""

from __future__ import annotations

from typing import TYPE_CHECKING

from kernelwire._protocol import DELIMITER
from kernelwire.offline import part

if TYPE_CHECKING:
    from collections.abc import Callable

    from kernelwire.offline import Message

__all__ = ["MESSAGE_TOO_BIG", "without_refused"]

MESSAGE_TOO_BIG = 1009
"""The code with which a client closes that got a message too big for it. Source: RFC 6455, 7.4.1"""

LARGE_BYTES = 1 << 16
"""Size from which on a message that is being sent is taken for the one that was too big.

The socket may have taken that one whole, with the beginning of an innocent one behind it.
"""


def without_refused(
    unsent: list[Message],
    tried: bytes,
    *,
    begun: bool,
    too_big: bool,
    notice: Callable[[str, bytes], Message],
) -> tuple[list[Message], bytes]:
    """Return what the session's next connection is to send, and the header of what was tried.

    Parameters
    ----------
    unsent
        What was written to a connection that is closed, and not taken by its socket.
    tried
        Header of the message that the connection before had begun to send.
    begun
        Whether the socket has taken the beginning of the first message.
    too_big
        Whether the client has closed with ``MESSAGE_TOO_BIG``.
    notice
        Makes a message to the client out of a text and the parent header that it is shown under.
    """
    if not begun:
        if too_big:
            text = "A message was not delivered: it was larger than the client accepts.\n"
            unsent = [notice(text, b"{}"), *unsent]
        return unsent, tried
    frames = unsent[0][1]
    header, size = part(frames, 0), message_size(frames)
    if header != tried and not (too_big and size >= LARGE_BYTES):
        return unsent, header
    text = (
        f"A message of {size} bytes was not delivered: "
        "the client closed the connection while it was sent.\n"
        "To receive it, raise the limit on the size of websocket messages of the client, "
        "or of the proxy before this server.\n"
    )
    return [notice(text, part(frames, 1)), *unsent[1:]], b""


def message_size(frames: list[bytes]) -> int:
    """Count the bytes of a message's parts."""
    return sum(map(len, frames[frames.index(DELIMITER) + 2 :]))
