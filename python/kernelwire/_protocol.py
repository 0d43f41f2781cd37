"""Names and numbers of Jupyter's protocols."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["DELIMITER", "MIN_PARTS", "V1", "WELCOME", "is_welcome"]

V1 = "v1.kernel.websocket.jupyter.org"
"""The websocket subprotocol whose messages are the kernel's, part by part."""

DELIMITER = b"<IDS|MSG>"
"""The frame between the routing identities and the signed message."""

MIN_PARTS = 4
"""Header, parent header, metadata and content."""

WELCOME = "iopub_welcome"
"""The type of the message with which an XPUB socket greets a new subscriber.

It is from socket to socket, not for clients. Source: Jupyter Enhancement Proposal 65.
"""


def is_welcome(frames: list[bytes], unpack: Callable[[bytes], Any]) -> bool:
    """Whether an ``iopub`` message greets a subscriber; ``unpack`` parses its header."""
    try:
        header = frames[frames.index(DELIMITER) + 2]
        # Parsing each header would cost more than most of what is done with a message.
        return WELCOME.encode() in header and unpack(header)["msg_type"] == WELCOME
    except Exception:
        return False  # whatever it is, others find out
