"""Numbered output that a kernel floods with, and what becomes of it on a workbench."""

from __future__ import annotations

import json
from collections import defaultdict
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, NamedTuple

from hypothesis import strategies as st

from support.kernel_messages import messages, odd_messages
from support.messages import DICT_PARTS, decode, split_v1
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
from support.workbench import STOCK, V1, Workbench, clock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

SERVER = "session_"
"""How the ids of what the server says itself begin: its session is the kernel's."""

ROOM = {"iopub_msg_rate_limit": 10.0, "rate_limit_window": 1.0, "iopub_data_rate_limit": 0.0}
"""Limits that `exceed` uses up."""

Message = tuple[str, list[bytes]]
Steps = list[tuple[float, list[Message]]]

DATE = datetime(2026, 1, 1, tzinfo=UTC)


def websocket_payloads(data: bytes) -> list[bytes | str]:
    """What is in whole, unmasked websocket frames, back to back (RFC 6455, section 5.2)."""
    payloads: list[bytes | str] = []
    at = 0
    while at < len(data):
        assert data[at] in (0x81, 0x82), "a frame that is not one whole message"
        is_text, size, at = data[at] == 0x81, data[at + 1], at + 2
        if size >= 126:
            width = 2 if size == 126 else 8
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        payload = data[at : at + size]
        payloads.append(payload.decode() if is_text else payload)
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
    def parent(self) -> str | None:
        """The id of the request that it belongs to."""
        return (json.loads(self.parts[1]) or {}).get("msg_id")

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
    read = read_v1 if bench.connection.subprotocol == V1 else read_default
    return [read(payload) for payload in websocket_payloads(await bench.sent())]


def read_v1(payload: bytes | str) -> Got:
    """Take a message apart."""
    assert isinstance(payload, bytes), "a text frame, where this protocol has binary ones only"
    channel, *parts = split_v1(payload)
    return Got(channel.decode(), parts)


def read_default(payload: bytes | str) -> Got:
    """Take a message of the default protocol apart, each part in one spelling."""
    message = decode(payload, "legacy")
    parts = (getattr(message, part) for part in DICT_PARTS)
    spelled = [json.dumps(part, sort_keys=True).encode() for part in parts]
    return Got(message.channel, [*spelled, *message.buffers])


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


Flood = list[tuple[float, list[Said]]]


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
def floods(draw: st.DrawFn) -> Flood:
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


# what stock sends


def odd_idle(number: int) -> Message:
    """An idle that only Python's parsers can read."""
    header = packed(message_header("status", number))
    return iopub([header, head(), b"{}", b'{"execution_state": "idle", "odd": NaN}'])


SCRIPTS = st.lists(
    st.tuples(
        st.sampled_from((0.0, 0.01, 0.3, 1.0, 5.0)),
        st.lists(
            st.one_of(
                messages(), messages(), messages(), odd_messages(), st.builds(odd_idle, st.just(0))
            ),
            max_size=8,
        ),
    ),
    max_size=8,
)
TRAITS = st.fixed_dictionaries(
    {},
    optional={
        "allow_tracebacks": st.booleans(),
        "limit_rate": st.booleans(),
        "iopub_msg_rate_limit": st.sampled_from((0.0, 3.5, 10.0, 1000.0)),
        "iopub_data_rate_limit": st.sampled_from((0.0, 3000.0, 1e6)),
        "rate_limit_window": st.sampled_from((-1.0, 0.05, 1.0, 3.0)),
    },
)


def is_withholding(bench: Workbench) -> bool:
    """Whether stock has begun to withhold output."""
    return bench.connection._iopub_msgs_exceeded or bench.connection._iopub_data_exceeded


def by_channel(batch: list[Message]) -> list[Message]:
    """Messages in the order in which the channels are read."""
    return [message for channel in ("iopub", "shell") for message in batch if message[0] == channel]


async def cut(
    steps: Steps, traits: dict[str, Any], subprotocol: str | None = V1
) -> tuple[Steps, bytes]:
    """The part of a script of which stock withholds nothing, and what stock sends of it."""
    now, kept = [1_000.0], []
    with clock(now, DATE), workbench(STOCK, subprotocol=subprotocol, **traits) as bench:
        sent = b""
        for pause, batch in steps:
            now[0] += pause
            kept.append((pause, []))
            for message in by_channel(batch):
                bench.deliver([message])
                if is_withholding(bench):
                    return kept, sent
                sent = await bench.sent()
                kept[-1][1].append(message)
        return kept, sent


# what arrived


def texts(messages: list[Got]) -> dict[tuple[bytes, str], str]:
    """Per parent and name, the texts of stream output, one behind the other."""
    found: dict[tuple[bytes, str], str] = defaultdict(str)
    for message in messages:
        if message.msg_type == "stream":
            found[message.parts[1], message.content["name"]] += message.content["text"]
    return dict(found)


def said(flood: Flood) -> list[Said]:
    """All messages of a flood."""
    return [one for _, batch in flood for one in batch]
