"""Numbered kernel messages for buffers: each can be told from all others, even when joined."""

from __future__ import annotations

import json
import re
from itertools import groupby
from typing import Any, NamedTuple

from hypothesis import strategies as st
from jupyter_client.session import Session

DELIMITER = b"<IDS|MSG>"
NEVER, LATE, EARLY = "never", "late", "early"
WHEN = {
    "status": NEVER,
    "comm_close": LATE,
    "comm_open": LATE,
    "error": LATE,
    "execute_input": LATE,
    "execute_result": LATE,
    "stream": EARLY,
    "display_data": EARLY,
    "update_display_data": EARLY,
    "comm_msg": EARLY,
    "clear_output": EARLY,
}
"""When output of each type may be dropped."""

NUMBER = re.compile("⟦([0-9]+)⟧")

session = Session(key=b"key")


class Sent(NamedTuple):
    """A message of the kernel's, and what is known of it."""

    number: int
    channel: str
    frames: list[bytes]
    when: str
    plain: bool
    """Whether it may be joined with others."""
    run: tuple[Any, ...]
    """What must be equal for two messages to be joined."""
    text: str


def frames_of(
    parts: list[bytes], buffers: list[bytes] | None = None, signature: bytes | None = None
) -> list[bytes]:
    """Make the frames of a message, signed unless a signature is given."""
    signed = session.sign(parts) if signature is None else signature
    return [b"topic", DELIMITER, signed, *parts, *(buffers or [])]


def message_header(msg_type: str, number: int | str) -> dict[str, Any]:
    """Make a header that jupyter_client reads."""
    return {
        "msg_id": f"⟦{number}⟧",
        "msg_type": msg_type,
        "username": "kernel",
        "session": "s",
        "date": "2026-01-01T00:00:00.000000Z",
        "version": "5.4",
    }


def packed(document: Any) -> bytes:
    """Spell a document as kernels do."""
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()


def stream(number: int, text: str, parent: Any = "p", name: str = "stdout") -> list[bytes]:
    """Make a plain stream message."""
    header = packed(message_header("stream", number))
    head = packed(message_header("execute_request", parent))
    return frames_of([header, head, b"{}", packed({"name": name, "text": text})])


def display(number: int, size: int = 0, msg_type: str = "display_data") -> list[bytes]:
    """Make a message that is never joined."""
    header = packed(message_header(msg_type, number))
    head = packed(message_header("execute_request", "p"))
    return frames_of([header, head, b"{}", packed({"data": "x" * size})])


TEXTS = st.one_of(
    st.text(max_size=12),
    st.sampled_from(("😀", '\\ " \n', "\0", "é" * 40, "x" * 300, "\\", "\\u0041")),
)
SPELLINGS = st.sampled_from(("packed", "ascii", "spaced", "escaped", "turned"))
ODDITIES = st.sampled_from((None, None, None, None, "key", "metadata", "buffer", "lone"))


def spelled_stream(draw: st.DrawFn, name: str, text: str) -> bytes:
    """Write the content of a stream message in one of the ways in which it can be written."""
    document = {"name": name, "text": text}
    spelling = draw(SPELLINGS)
    if spelling == "ascii":
        return json.dumps(document).encode()
    if spelling == "spaced":
        return json.dumps(document, indent=1, ensure_ascii=False).encode() + b" \n"
    if spelling == "escaped":
        return packed(document).replace(b"x", b"\\u0078").replace(b"text", b"te\\u0078t")
    if spelling == "turned":
        return packed(dict(reversed(document.items())))
    return packed(document)


@st.composite
def streams(draw: st.DrawFn, number: int) -> Sent:
    """A stream message, plain or with something that keeps it from being joined."""
    text = f"⟦{number}⟧" + draw(TEXTS)
    name = draw(st.sampled_from(("stdout", "stdout", "stderr")))
    parent = draw(st.sampled_from(("p", "p", "q", None)))
    head = b"{}" if parent is None else packed(message_header("execute_request", parent))
    oddity = draw(ODDITIES)
    content = spelled_stream(draw, name, text)
    if oddity == "lone":
        lone = draw(st.sampled_from(("\\ud83d", "\\ude00", "\\ude00\\ud83d")))
        content = packed({"name": name, "text": text})[:-2] + lone.encode() + b'"}'
    elif oddity == "key":
        content = packed({"name": name, "text": text, "more": 1})
    metadata = b'{"a":1}' if oddity == "metadata" else draw(st.sampled_from((b"{}", b"{ }")))
    buffers = [b"buffer"] if oddity == "buffer" else []
    frames = frames_of([packed(message_header("stream", number)), head, metadata, content], buffers)
    run = (parent, name)
    return Sent(number, "iopub", frames, EARLY, oddity is None, run, text)


@st.composite
def others(draw: st.DrawFn, number: int) -> Sent:
    """A message that is never joined: output of another type, or on another channel."""
    channel = draw(st.sampled_from(("iopub", "iopub", "iopub", "shell", "stdin", "control")))
    msg_type = draw(st.sampled_from(sorted(set(WHEN) - {"stream"})))
    replies = {"shell": "execute_reply", "stdin": "input_request", "control": "debug_reply"}
    # A reply may look like output: its channel is what counts.
    msg_type = draw(st.sampled_from((replies.get(channel, msg_type), msg_type)))
    size = draw(st.sampled_from((0, 10, 300, 2000)))
    frames = display(number, size, msg_type)
    when = WHEN[msg_type] if channel == "iopub" else NEVER
    return Sent(number, channel, frames, when, plain=False, run=(), text="")


@st.composite
def sequences(draw: st.DrawFn, max_size: int = 30) -> list[Sent]:
    """Messages as a kernel sends them, numbered from 0."""
    kinds = draw(st.lists(st.sampled_from((streams, streams, others)), max_size=max_size))
    return [draw(kind(number)) for number, kind in enumerate(kinds)]


def numbers_in(message: tuple[str, list[bytes]]) -> list[int]:
    """Tell which of the kernel's messages a message of the buffer is made of."""
    header, _, _, content = message[1][3:7]
    if json.loads(header)["msg_type"] == "stream":
        return [int(number) for number in NUMBER.findall(json.loads(content)["text"])]
    return [int(number) for number in NUMBER.findall(json.loads(header)["msg_id"])]


def runs(sent: list[Sent]) -> list[Any]:
    """What must be left of messages, however they are joined: plain runs as one text."""
    result: list[Any] = []
    for (plain, run), group in groupby(sent, key=lambda one: (one.plain, one.run)):
        members = list(group)
        if plain:
            result.append((run, "".join(one.text for one in members)))
        else:
            result.extend((one.channel, one.frames) for one in members)
    return result


def runs_in(messages: list[tuple[str, list[bytes]]], sent: list[Sent]) -> list[Any]:
    """The same of what is in a buffer."""
    by_number = {one.number: one for one in sent}
    found = []
    for message in messages:
        first = by_number[numbers_in(message)[0]]
        said = json.loads(message[1][6]).get("text", "") if first.plain else ""
        found.append(first._replace(channel=message[0], frames=message[1], text=said))
    return runs(found)
