"""What a client sends reaches the kernel as through stock: v1 byte by byte, else as JSON.

Left out is what stock trusts and kernelwire refuses: ``test_hostile.py`` and COMPATIBILITY.md.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import pytest
import zmq
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from jupyter_server.services.kernels.connection.base import (
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)

from support.kernel_messages import spelled
from support.waiting import run_to_end
from support.workbench import NATIVE, PORTABLE, STOCK, V1, Workbench, clock

DATE = datetime(2026, 1, 1, tzinfo=UTC)
DATES = ("2026-02-28T23:59:59.123456Z", "2026-02-28T23:59:59.5Z", "2026-02-28T23:59:59Z", "now")
CHANNELS = ("shell", "shell", "shell", "control", "elsewhere", None)


@st.composite
def messages(draw: st.DrawFn) -> dict[str, Any]:
    """A message as a client's library makes it, and as some odd one does."""
    header = {
        "msg_id": draw(st.text(max_size=5)),
        "msg_type": draw(st.sampled_from(("execute_request", "comm_msg"))),
        "username": draw(st.text(max_size=3)),
        "session": "s",
        "date": draw(st.sampled_from(DATES)),
        "version": draw(st.sampled_from(("5.3", "5.3", "5.3", "5.0", "4.1"))),
    }
    header.pop(draw(st.sampled_from(("nothing", "nothing", "date", "version"))), None)
    message = {
        "header": header,
        "parent_header": draw(st.sampled_from(({}, {"msg_id": "p", "date": DATES[1]}))),
        "metadata": draw(st.sampled_from(({}, {"a": [1.5, None, "é"]}))),
        "content": {"code": draw(st.text(max_size=20)), "n": draw(st.floats(allow_nan=False))},
        "channel": draw(st.sampled_from(CHANNELS)),
    }
    if message["channel"] is None and draw(st.booleans()):
        del message["channel"]
    return message


@st.composite
def v1_frames(draw: st.DrawFn) -> bytes:
    """A v1 frame; its parts are anything that a kernel might be sent."""
    message = draw(messages())
    parts = [
        spelled(draw, message["header"]),
        json.dumps(message["parent_header"]).encode(),
        draw(st.sampled_from((b"{}", b"not json"))),
        spelled(draw, message["content"]),
        *draw(st.lists(st.sampled_from((b"", b"buffer", b"\xff" * 70_000)), max_size=2)),
    ]
    return bytes(serialize_msg_to_ws_v1(parts, str(message.get("channel"))))


@st.composite
def spliced_frames(draw: st.DrawFn) -> str | bytes:
    """A text or a binary message of the default protocol."""
    message = draw(messages())
    buffers = draw(st.lists(st.sampled_from((b"", b"buffer", b"\xff" * 70_000)), max_size=2))
    if buffers:
        return bytes(serialize_binary_message(message | {"buffers": buffers}))
    if draw(st.booleans()):
        message["buffers"] = []
    return spelled(draw, message).decode()


def sent_by(way: str, protocol: str | None, frames: list[Any], **session: Any) -> list[Any]:
    """Have a client's frames handled; return what the kernel gets, and what is logged."""

    async def play() -> list[Any]:
        with (
            clock([1_000.0], DATE),
            patch("jupyter_client.adapter.utcnow", lambda: DATE, create=True),
        ):
            bench = Workbench(way, protocol)
            for trait, value in session.items():
                setattr(bench.connection.session, trait, value)
            try:
                for frame in frames:
                    try:
                        bench.connection.handle_incoming_message(frame)
                    except Exception:
                        assert way == STOCK
                # Stock's streams send when the loop comes round to it.
                for _ in range(10):
                    await asyncio.sleep(0)
                return received(bench.kernel_ends["shell"])
            finally:
                bench.close()

    return run_to_end(play)


def received(end: zmq.Socket[bytes]) -> list[list[bytes]]:
    """Take all that has come to the kernel."""
    messages = []
    while end.poll(0):
        messages.append(end.recv_multipart())
    return messages


def read(frames: list[bytes]) -> Any:
    """Read a message as a kernel does, after its signature is checked."""
    delimiter, signature, *parts = frames
    assert delimiter == b"<IDS|MSG>"
    assert signature == hmac.new(b"key", b"".join(parts[:4]), hashlib.sha256).hexdigest().encode()
    documents = [json.loads(part) for part in parts[:4]]
    for header in documents[:2]:
        # Added by stock where it is missing, with the time of the day.
        header.pop("date", None) if header.get("date", "").startswith("202") else None
    return documents, parts[4:]


@pytest.mark.parametrize("scheme", ["hmac-sha256", "hmac-sha512"])
@given(frames=st.lists(v1_frames(), max_size=5))
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
def test_kernel_when_client_speaks_v1_then_gets_the_bytes_that_stock_sends(
    scheme: str, frames: list[bytes]
) -> None:
    """Stops parts from being changed, reordered or signed differently."""
    expected = sent_by(STOCK, V1, frames, signature_scheme=scheme)
    for way in (NATIVE, PORTABLE):
        assert sent_by(way, V1, frames, signature_scheme=scheme) == expected


@pytest.mark.parametrize("adapt_version", [0, 5, 4])
@given(frames=st.lists(spliced_frames(), max_size=5))
@settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
def test_kernel_when_client_speaks_the_default_protocol_then_gets_what_stock_sends(
    adapt_version: int, frames: list[str | bytes]
) -> None:
    """Stops values from being changed, and versions from being left untranslated."""
    expected = [read(m) for m in sent_by(STOCK, None, frames, adapt_version=adapt_version)]
    for way in (NATIVE, PORTABLE):
        got = [read(m) for m in sent_by(way, None, frames, adapt_version=adapt_version)]
        assert got == expected


def request(channel: str = "shell", *, size: int = 10) -> dict[str, Any]:
    """A message with some text in it."""
    header = {"msg_id": "1", "msg_type": "x", "date": DATES[0], "version": "5.3"}
    message = {"header": header, "parent_header": {}, "metadata": {}, "content": {"a": "x" * size}}
    return message | {"channel": channel}


@pytest.mark.parametrize("binary", [False, True])
def test_iopub_when_a_client_of_the_default_protocol_writes_to_it_then_nothing_is_queued(
    binary: bool,
) -> None:
    """Stops messages from piling up on a socket that never sends (H12)."""

    async def check() -> None:
        bench = Workbench(NATIVE, subprotocol=None)
        message = request("iopub")
        frame = serialize_binary_message(message | {"buffers": [b""]})
        for _ in range(3):
            bench.connection.handle_incoming_message(frame if binary else json.dumps(message))
        assert not bench.connection.channels["iopub"].sending()
        assert len(bench.log.lines) == 1
        assert "iopub is for messages from the kernel" in bench.log.lines[0]
        bench.close()

    run_to_end(check)


@pytest.mark.parametrize("protocol", [V1, None])
def test_kernel_when_it_does_not_read_then_what_waits_for_it_is_bounded(
    protocol: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stops a client from filling the server's memory through a stopped kernel."""
    monkeypatch.setattr("kernelwire.sockets.sending.MAX_QUEUED_MESSAGES", 20)
    monkeypatch.setattr("kernelwire.sockets.sending.MAX_QUEUED_BYTES", 20_000)

    async def fill(size: int) -> int:
        bench = Workbench(NATIVE, protocol)
        message = request(size=size)
        pack = lambda part: json.dumps(part).encode()  # noqa: E731
        frame = serialize_msg_to_ws_v1(message, "shell", pack) if protocol else json.dumps(message)
        stream = bench.connection.channels["shell"]
        with patch("kernelwire._native.send", lambda *_: None):
            for _ in range(50):
                bench.connection.handle_incoming_message(frame)
            waiting: int = stream._send_queue.qsize()
            assert [line for line in bench.log.lines if "wait for the kernel" in line]
            assert len(bench.log.lines) == 1
        while stream.sending():
            stream.flush(zmq.POLLOUT)
        assert len(received(bench.kernel_ends["shell"])) == waiting
        bench.connection.handle_incoming_message(frame)
        assert len(received(bench.kernel_ends["shell"])) == 1
        bench.close()
        return waiting

    async def check() -> None:
        assert await fill(1) == 20
        assert 1 <= await fill(5_000) < 5
        # One that is larger than all that may wait is let through when nothing waits.
        assert await fill(30_000) == 1

    run_to_end(check)
