"""Names and numbers of Jupyter's protocols."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import uuid4

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "DELIMITER",
    "MIN_PARTS",
    "OWN_SESSION",
    "STDIN",
    "V1",
    "WELCOME",
    "is_for_clients",
    "message_type",
]

V1 = "v1.kernel.websocket.jupyter.org"
"""The websocket subprotocol whose messages are the kernel's, part by part."""

DELIMITER = b"<IDS|MSG>"
"""The frame between the routing identities and the signed message."""

MIN_PARTS = 4
"""Header, parent header, metadata and content."""

STDIN = "stdin"
"""The channel on which kernels ask."""

WELCOME = "iopub_welcome"
"""The type of the message with which an XPUB socket greets a new subscriber.

It is from socket to socket, not for clients. Source: Jupyter Enhancement Proposal 65.
"""


OWN_SESSION = uuid4().hex
"""The session of the requests with which this server finds out about kernels."""

_OWN_SESSION = OWN_SESSION.encode()


def is_for_clients(frames: list[bytes], unpack: Callable[[bytes], Any] = json.loads) -> bool:
    """Whether a message on ``iopub`` is for clients; ``unpack`` parses its headers.

    Neither a greeting to a subscriber is, nor a status that a request of the server's own has
    caused.
    """
    return not is_welcome(frames, unpack) and not is_own_status(frames, unpack)


def is_own_status(frames: list[bytes], unpack: Callable[[bytes], Any] = json.loads) -> bool:
    """Whether a message is a status that a request of the server's own has caused."""
    try:
        header, parent = frames[(at := frames.index(DELIMITER) + 2) : at + 2]
        if _OWN_SESSION not in parent or unpack(parent)["session"] != OWN_SESSION:
            return False
        return bool(unpack(header)["msg_type"] == "status")
    except Exception:
        return False  # whatever it is, others find out


def is_welcome(frames: list[bytes], unpack: Callable[[bytes], Any]) -> bool:
    """Whether an ``iopub`` message greets a subscriber; ``unpack`` parses its header."""
    try:
        header = frames[frames.index(DELIMITER) + 2]
        # Parsing each header would cost more than most of what is done with a message.
        return WELCOME.encode() in header and unpack(header)["msg_type"] == WELCOME
    except Exception:
        return False  # whatever it is, others find out


def message_type(frames: list[bytes]) -> str | None:
    """Return the type that a message's header tells; ``None`` if it tells none."""
    try:
        msg_type = json.loads(frames[frames.index(DELIMITER) + 2])["msg_type"]
    except Exception:
        return None
    return msg_type if isinstance(msg_type, str) else None
