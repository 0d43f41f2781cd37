"""Kernel messages as a browser sees them, in both websocket subprotocols.

Written from the protocol's description and independent of the implementations under test, so
that a wrong frame cannot hide behind the code that made it.
"""

from __future__ import annotations

import json
import struct
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

V1 = "v1.kernel.websocket.jupyter.org"
PROTOCOLS = {"v1": V1, "legacy": None}
DICT_PARTS = ("header", "parent_header", "metadata", "content")


@dataclass(frozen=True)
class Message:
    """One kernel message, and the websocket payload it came in."""

    channel: str
    header: dict[str, Any]
    parent_header: dict[str, Any]
    metadata: dict[str, Any]
    content: dict[str, Any]
    buffers: tuple[bytes, ...] = ()
    raw: bytes | str = field(default=b"", repr=False)

    @property
    def msg_type(self) -> str:
        """The type, or "" where the kernel sent none."""
        return self.header.get("msg_type", "")

    @property
    def msg_id(self) -> str:
        """The message's own id."""
        return self.header["msg_id"]

    @property
    def parent_id(self) -> str | None:
        """The id of the request this answers, if it has one."""
        return (self.parent_header or {}).get("msg_id")

    def is_status(self, state: str, parent_id: str | None = None) -> bool:
        """Whether this says that the kernel is `state` (because of that request)."""
        return (
            self.msg_type == "status"
            and self.content.get("execution_state") == state
            and parent_id in (None, self.parent_id)
        )

    def is_reply_to(self, request_id: str) -> bool:
        """Whether this is the reply to that request."""
        return self.msg_type.endswith("_reply") and self.parent_id == request_id


def request(
    session_id: str,
    channel: str,
    msg_type: str,
    content: dict[str, Any],
    *,
    parent_header: dict[str, Any] | None = None,
    metadata: dict[str, Any] | None = None,
    buffers: Sequence[bytes] = (),
) -> Message:
    """A message as a client makes it."""
    header = {
        "msg_id": uuid.uuid4().hex,
        "msg_type": msg_type,
        "username": "tester",
        "session": session_id,
        # As browsers write it.
        "date": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        "version": "5.4",
    }
    return Message(channel, header, parent_header or {}, metadata or {}, content, tuple(buffers))


def encode_v1(channel: str, parts: Sequence[bytes]) -> bytes:
    """A v1 frame: count, absolute little-endian offsets, channel, parts."""
    pieces = [channel.encode(), *parts]
    count = len(pieces) + 1
    offsets = [8 * (count + 1)]
    for piece in pieces:
        offsets.append(offsets[-1] + len(piece))
    return struct.pack(f"<{count + 1}Q", count, *offsets) + b"".join(pieces)


def split_v1(frame: bytes) -> list[bytes]:
    """The pieces of a v1 frame, channel first; a frame that breaks the format is an error."""
    (count,) = struct.unpack_from("<Q", frame)
    offsets = struct.unpack_from(f"<{count}Q", frame, 8)
    if offsets[0] != 8 * (count + 1) or offsets[-1] != len(frame):
        raise ValueError(f"v1 offsets {offsets} do not cover a frame of {len(frame)} bytes")
    return [frame[a:b] for a, b in pairwise(offsets)]


def encode_legacy(message: Message) -> bytes | str:
    """A frame of the default protocol: text, or binary where there are buffers."""
    fields: dict[str, Any] = {name: getattr(message, name) for name in DICT_PARTS}
    text = json.dumps(fields | {"channel": message.channel})
    if not message.buffers:
        return text
    pieces = [text.encode(), *message.buffers]
    offsets = [4 * (len(pieces) + 1)]
    for piece in pieces[:-1]:
        offsets.append(offsets[-1] + len(piece))
    return struct.pack(f"!{len(pieces) + 1}I", len(pieces), *offsets) + b"".join(pieces)


def split_legacy(frame: bytes) -> list[bytes]:
    """The pieces of a binary frame of the default protocol, JSON first."""
    (count,) = struct.unpack_from("!I", frame)
    offsets = [*struct.unpack_from(f"!{count}I", frame, 4), len(frame)]
    return [frame[a:b] for a, b in pairwise(offsets)]


def encode(message: Message, protocol: str) -> bytes | str:
    """`message` as one websocket payload of "v1" or "legacy"."""
    if protocol == "legacy":
        return encode_legacy(message)
    parts = [json.dumps(getattr(message, name)).encode() for name in DICT_PARTS]
    return encode_v1(message.channel, [*parts, *message.buffers])


def decode(payload: bytes | str, protocol: str) -> Message:
    """The message in a payload; parts that a broken kernel left out or garbled are empty."""
    if protocol == "v1":
        if not isinstance(payload, bytes):
            raise ValueError("v1 knows no text frames")
        channel, *parts = split_v1(payload)
        dicts = [_dict(part) for part in parts[:4]] + [{}] * (4 - len(parts))
        return Message(channel.decode(), *dicts, buffers=tuple(parts[4:]), raw=payload)
    text, *buffers = [payload] if isinstance(payload, str) else split_legacy(payload)
    fields = json.loads(text)
    dicts = [fields[name] for name in DICT_PARTS]
    return Message(fields["channel"], *dicts, buffers=tuple(buffers), raw=payload)


def _dict(part: bytes) -> dict[str, Any]:
    try:
        value = json.loads(part)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}
