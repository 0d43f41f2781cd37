"""Numbered output that a kernel floods with, and what becomes of it on a workbench."""

from __future__ import annotations

import json
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

from support.messages import split_v1
from support.offline_messages import (
    NUMBER,
    Sent,
    display,
    frames_of,
    message_header,
    packed,
    stream,
    streams,
)
from support.workbench import Workbench

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SERVER = "session_"
"""How the ids of what the server says itself begin: its session is the kernel's."""

ROOM = {"iopub_msg_rate_limit": 10.0, "rate_limit_window": 1.0, "iopub_data_rate_limit": 0.0}
"""Limits that `exceed` uses up for stock, and hardly for a bridge that merges."""

Message = tuple[str, list[bytes]]


def websocket_payloads(data: bytes) -> list[bytes]:
    """What is in whole, unmasked websocket frames, back to back (RFC 6455, section 5.2)."""
    payloads, at = [], 0
    while at < len(data):
        assert data[at] == 0x82, "a frame that is not one whole binary message"
        size, at = data[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        payloads.append(data[at : at + size])
        at += size
    assert at == len(data), "half a frame"
    return payloads


class Got(NamedTuple):
    """A message that the client got."""

    channel: str
    parts: list[bytes]

    @property
    def header(self) -> dict[str, Any]:
        """The parsed header."""
        return json.loads(self.parts[0])

    @property
    def msg_type(self) -> str:
        """The message's type."""
        return self.header["msg_type"]

    @property
    def content(self) -> dict[str, Any]:
        """The parsed content."""
        return json.loads(self.parts[3])

    @property
    def is_servers(self) -> bool:
        """Whether the server says this itself."""
        return str(self.header.get("msg_id")).startswith(SERVER)

    @property
    def numbers(self) -> list[int]:
        """Which of the kernel's messages it is made of."""
        if self.msg_type == "stream":
            return [int(number) for number in NUMBER.findall(self.content["text"])]
        return [int(number) for number in NUMBER.findall(self.header["msg_id"])]


async def received(bench: Workbench) -> list[Got]:
    """All that the client got so far."""
    messages = []
    for payload in websocket_payloads(await bench.sent()):
        channel, *parts = split_v1(payload)
        messages.append(Got(channel.decode(), parts))
    return messages


async def kernels(bench: Workbench) -> list[Got]:
    """What the client got so far of what the kernel has said."""
    return [message for message in await received(bench) if not message.is_servers]


def arrive(bench: Workbench, messages: Iterable[Message]) -> None:
    """Let messages arrive at the same time and be read, but nothing that is held be let go."""
    for channel, frames in messages:
        bench.kernel_ends[channel].send_multipart(frames)
    for near in bench.connection.channels.values():
        while near.read_once():
            pass


def let_go(bench: Workbench) -> None:
    """Have everything read and nothing held any more, as before a notice."""
    for near in bench.connection.channels.values():
        near.flush()


@contextmanager
def workbench(way: str, **traits: Any) -> Iterator[Workbench]:
    """A workbench for one test."""
    bench = Workbench(way, **traits)
    try:
        yield bench
    finally:
        bench.close()


def exceed(bench: Workbench) -> None:
    """Use up `ROOM` as far as stock counts: from here on it would withhold all output."""
    arrive(bench, [("iopub", stream(1000 + number, "", "warm-up")) for number in range(10)])


def iopub(parts: list[bytes], buffers: list[bytes] | None = None) -> Message:
    """A message of the kernel's."""
    return "iopub", frames_of(parts, buffers)


def head(parent: Any = "p") -> bytes:
    """A request's header."""
    return packed(message_header("execute_request", parent))


def printed(
    number: int, text: str = "", parent: Any = "p", name: str = "stdout", **more: Any
) -> Message:
    """Stream output; ``more`` goes into its content."""
    header = packed(message_header("stream", number))
    content = packed({"name": name, "text": f"⟦{number}⟧{text}", **more})
    return iopub([header, head(parent), b"{}", content])


def update(
    number: int, shown: str, parent: Any = "p", *, metadata: bytes = b"{}", **more: Any
) -> Message:
    """An update of a display; ``more`` goes into its content."""
    header = packed(message_header("update_display_data", number))
    content = {"data": {"n": number}, "metadata": {}, "transient": {"display_id": shown}, **more}
    return iopub([header, head(parent), metadata, packed(content)])


def status(state: str, number: int, parent: Any = "p") -> Message:
    """A status."""
    header = packed(message_header("status", number))
    return iopub([header, head(parent), b"{}", packed({"execution_state": state})])


def other(msg_type: str, number: int) -> Message:
    """Output that is never merged."""
    return "iopub", display(number, msg_type=msg_type)


# any sequence


class Said(NamedTuple):
    """A message of the kernel's, and what is known of it."""

    number: int
    message: Message
    plain: bool
    """Whether it is stream output that may be joined."""
    shown: str | None
    """The display that it updates and that may be updated by a later message instead."""

    @property
    def got(self) -> Got:
        """What a client gets of it where nothing is merged."""
        channel, frames = self.message
        return Got(channel, frames[3:])


@st.composite
def lines(draw: st.DrawFn, number: int) -> Said:
    """Stream output in any spelling, with or without something that keeps it from being joined."""
    sent: Sent = draw(streams(number))
    return Said(number, (sent.channel, sent.frames), sent.plain, None)


@st.composite
def updates(draw: st.DrawFn, number: int) -> Said:
    """An update of one of a few displays."""
    shown = draw(st.sampled_from("ab"))
    parent = draw(st.sampled_from(("p", "p", "q")))
    oddity = draw(st.sampled_from((None, None, None, None, "key", "metadata")))
    more = {"more": 1} if oddity == "key" else {}
    metadata = b'{"a": 1}' if oddity == "metadata" else b"{}"
    message = update(number, shown, parent, metadata=metadata, **more)
    return Said(number, message, plain=False, shown=shown if oddity is None else None)


TYPES = (
    "clear_output", "comm_close", "comm_msg", "comm_open", "display_data", "error", "execute_input",
    "execute_result", "idle", "busy", "reply", "odd",
)  # fmt: skip


@st.composite
def others(draw: st.DrawFn, number: int) -> Said:
    """Anything else: other output, statuses, replies, and a header that only Python can read."""
    kind = draw(st.sampled_from(TYPES))
    if kind in ("idle", "busy"):
        message = status(kind, number)
    elif kind == "reply":
        message = "shell", display(number, msg_type="execute_reply")
    elif kind == "odd":
        header = packed(message_header("display_data", number))[:-1] + b', "odd": NaN}'
        message = iopub([header, head(), b"{}", b'{"data": {}}'])
    else:
        message = other(kind, number)
    return Said(number, message, plain=False, shown=None)


@st.composite
def floods(draw: st.DrawFn) -> list[tuple[float, list[Said]]]:
    """What a kernel says after which pauses, numbered from 0."""
    pauses = st.sampled_from((0.0, 0.0, 0.01, 0.05, 0.3, 1.1))
    kinds = st.lists(st.sampled_from((lines, lines, updates, others)), max_size=8)
    steps: list[tuple[float, list[Any]]] = draw(st.lists(st.tuples(pauses, kinds), max_size=8))
    number = iter(range(1000))
    return [(pause, [draw(kind(next(number))) for kind in step]) for pause, step in steps]


FLOOD_LIMITS = st.fixed_dictionaries(
    {
        "iopub_msg_rate_limit": st.sampled_from((0.0, 1.0, 3.5, 10.0, 1000.0)),
        "iopub_data_rate_limit": st.sampled_from((0.0, 0.0, 500.0, 3000.0)),
        "rate_limit_window": st.sampled_from((-1.0, 0.05, 1.0, 3.0)),
    }
)
