"""Messages that are nearly right, thrown at a live server: it serves on, stays small and quiet.

Hypothesis makes them: real requests with parts, keys, offsets and single bytes changed, in both
protocols, as text and as binary. Left out is what tornado refuses before the connection sees it;
``test_hostile.py`` has the frames that are known to have hurt.

``HOSTILE_EXAMPLES=2000`` goes on for minutes; each example is a handful of messages.
"""

from __future__ import annotations

import json
import os
import struct
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from support.messages import DICT_PARTS, Message, encode_legacy, encode_v1, request
from support.ws_client import ConnectionClosedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from support.server import Server, StartKernel
    from support.ws_client import Client, Connect

Payload = bytes | str

EXAMPLES = int(os.environ.get("HOSTILE_EXAMPLES", "40"))
# What a server may grow by when it is asked to do next to nothing.
FLAT = 48 << 20
STOCKS_LINES = ("No such channel: ", "No channel specified, assuming shell: ")
"""What stock says of a message that is whole, every time."""

# Of a channel that has a kernel's socket behind it, so that much of this reaches the kernel.
CHANNELS = st.sampled_from(
    ["shell", "control", "shell", "control", "stdin", "iopub", "nowhere", ""]
)
TYPES = st.sampled_from(["kernel_info_request", "comm_msg", "comm_open", "complete_request", "x"])
ODD_JSON = st.sampled_from(
    [
        None,
        True,
        0,
        -1,
        10**30,
        1e300,
        float("nan"),
        "",
        "é",
        "\ud800",
        "2026-01-01T10:00:00Z",
        "2026-13-01T10:00:00Z",
        [],
        ["shell"],
        {},
        {"msg_type": 1},
        {"msg_type": ["x"]},
        {"msg_type": "comm_msg", "version": "x", "date": 1},
        {"msg_id": None, "msg_type": "kernel_info_request"},
    ]
)
RAW_PARTS = st.one_of(
    ODD_JSON.map(lambda value: json.dumps(value).encode()),
    st.sampled_from([b"", b"{", b"{}{}", b"\xff", b"[" * 2000, b"<IDS|MSG>", b'{"a":01}']),
    st.binary(max_size=40),
)
NUMBERS = st.one_of(
    st.integers(0, 900),
    st.sampled_from([2**16, 2**20, 10**7, 2**31 - 1, 2**31, 2**32 - 1, 2**61, 2**63, 2**64 - 1]),
)
EDITS = st.lists(st.tuples(st.integers(0, 9), NUMBERS), max_size=2)
BYTES = st.lists(st.tuples(st.integers(0, 700), st.integers(0, 255)), max_size=2)
CUTS = st.one_of(st.just(10**6), st.integers(0, 900))
MESSAGES = st.builds(
    lambda channel, msg_type, buffers: request(
        "mutant", channel, msg_type, {"comm_id": "c", "data": {}}, buffers=buffers
    ),
    CHANNELS,
    TYPES,
    st.lists(st.binary(max_size=30), max_size=3),
)


def spoiled(frame: bytes, item: str, edits: Any, changes: Any, cut: int) -> bytes:
    """Write numbers over entries of a frame's table, change bytes, and cut it."""
    data = bytearray(frame)
    size = struct.calcsize(item)
    for place, number in edits:
        if size * (place + 1) <= len(data):
            struct.pack_into(item, data, size * place, number % 2 ** (8 * size))
    for place, byte in changes:
        if place < len(data):
            data[place] = byte
    return bytes(data[:cut])


@st.composite
def v1_payloads(draw: st.DrawFn) -> Payload:
    """A v1 message that is nearly right."""
    message: Message = draw(MESSAGES)
    parts = [json.dumps(getattr(message, name)).encode() for name in DICT_PARTS]
    parts += message.buffers
    for place, part in draw(st.lists(st.tuples(st.integers(0, 3), RAW_PARTS), max_size=1)):
        parts[place] = part
    parts = parts[: draw(st.one_of(st.just(9), st.integers(0, 9)))]
    frame = encode_v1(message.channel, parts)
    return spoiled(frame, "<Q", draw(EDITS), draw(BYTES), draw(CUTS))


@st.composite
def legacy_payloads(draw: st.DrawFn) -> Payload:
    """A message of the default protocol that is nearly right, as text or binary."""
    message: Message = draw(MESSAGES)
    fields: dict[str, Any] = {name: getattr(message, name) for name in DICT_PARTS}
    fields["channel"] = message.channel
    keys = st.sampled_from([*DICT_PARTS, "channel", "buffers", "msg_id"])
    fields |= draw(st.dictionaries(keys, ODD_JSON, max_size=1))
    for key in draw(st.lists(keys, max_size=1)):
        fields.pop(key, None)
    text = json.dumps(fields)
    if draw(st.booleans()):
        edited = spoiled(text.encode(), "B", [], draw(BYTES), draw(CUTS))
        return edited.decode(errors="replace")
    pieces = [text.encode(), *message.buffers]
    offsets = [4 * (len(pieces) + 1)]
    for piece in pieces[:-1]:
        offsets.append(offsets[-1] + len(piece))
    frame = struct.pack(f"!{len(pieces) + 1}I", len(pieces), *offsets) + b"".join(pieces)
    return spoiled(frame, "!I", draw(EDITS), draw(BYTES), draw(CUTS))


ANYTHING: st.SearchStrategy[Payload] = st.one_of(
    st.binary(max_size=100),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    MESSAGES.map(encode_legacy),
)
"""For either protocol: noise, and what is right in the other one."""


class Vandal:
    """A client that is connected anew where the server has hung up on it."""

    def __init__(self, connect: Callable[[], Client]) -> None:
        self._connect = connect
        self._client = connect()
        self.connections = 1

    def throw(self, payloads: list[Payload]) -> None:
        """Send payloads, then ask for something on the same connection and get it."""
        try:
            for payload in payloads:
                self._client.socket.send(payload)
            self._client.ask("shell", "kernel_info_request", {}, timeout=10)
        except (ConnectionClosedError, ConnectionError, TimeoutError):
            # Hypothesis goes on to look for the smallest example.
            self._client.reset()
            self._client = self._connect()
            self.connections += 1
            raise


@pytest.mark.kernelwire_only("H12", "H13", "H14", "H18", "H24")
@pytest.mark.timeout(120 + EXAMPLES)
def test_server_when_clients_send_what_is_nearly_right_then_it_serves_on(
    server: Server, connect: Connect, start_kernel: StartKernel, protocol: str
) -> None:
    """Stops any client's message from ending a connection, or from costing others anything."""
    kernel_id = start_kernel("fake")
    vandal = Vandal(lambda: connect(kernel_id, protocol=protocol, token_in_url=True))
    log_end, resident, begun = server.log_end(), server.resident_bytes(), time.monotonic()
    payloads = {"v1": v1_payloads(), "legacy": legacy_payloads()}[protocol]
    thrown = [0]

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(st.lists(st.one_of(payloads, payloads, payloads, ANYTHING), min_size=5, max_size=30))
    @example([struct.pack("<Q", 2**63), struct.pack("!I", 10**7), "{", b""])
    def throw(batch: list[Payload]) -> None:
        vandal.throw(batch)
        server.status()
        thrown[0] += len(batch)

    throw()
    assert thrown[0] >= 5 * EXAMPLES
    assert server.resident_bytes() - resident < FLAT
    minutes = int(time.monotonic() - begun) // 60
    assert_quiet(server, log_end, at_most=2 * vandal.connections * (1 + minutes))


def assert_quiet(server: Server, log_end: int, at_most: int) -> None:
    """No traceback, no address, and no more lines than messages that stock has a word for."""
    log = server.log(log_end)
    assert server.token not in log
    assert "/channels" not in log
    assert all(line.startswith("[") for line in log.splitlines())
    lines = [line.partition("] ")[2] for line in server.log_lines(log_end)]
    said = [line for line in lines if not line.startswith(STOCKS_LINES)]
    assert 1 <= len(said) <= at_most, said
