"""Requests that say a thing twice, or oddly: the kernel gets what was checked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from jupyter_server.services.kernels.connection.base import (
    serialize_binary_message,
    serialize_msg_to_ws_v1,
)

from differential.test_incoming import read, received, sent_by
from support.waiting import run_to_end
from support.workbench import NATIVE, PORTABLE, STOCK, V1, Workbench

ALLOWED, FORBIDDEN = "comm_info_request", "execute_request"
REST = '"msg_id": "1", "version": "5.3", "date": "2026-01-01T00:00:00Z"'
DOUBLES = [
    '{%s, "msg_type": "FIRST", "msg_type": "LAST"}',
    '{"msg_type": "FIRST", %s, "msg\\u005ftype": "LAST"}',
    '{"\\u006dsg_type": "FIRST", "msg_type": "LAST", %s}',
    '{"msg_type": "FIRST", "odd": NaN, %s, "msg_type": "LAST"}',
]


def frames(header: str, protocol: str) -> str | bytes:
    """A client's frame with a header that is written by hand."""
    if protocol == "v1":
        parts = [header.encode(), b"{}", b"{}", b"{}"]
        return bytes(serialize_msg_to_ws_v1(parts, "shell"))
    rest = '"parent_header": {}, "metadata": {}, "content": {}, "channel": "shell"'
    document = f'{{"header": {header}, {rest}, "buffers": []}}'
    if protocol == "text":
        return document
    head = serialize_binary_message({"buffers": [b""]})[:12]
    offset = (12 + len(document)).to_bytes(4, "big")
    return bytes(head[:8] + offset + document.encode())


def sent(frame: str | bytes, protocol: str, scheme: str = "hmac-sha256") -> list[list[bytes]]:
    """Send a frame where one type is allowed; returns what the kernel gets."""

    async def play() -> list[list[bytes]]:
        bench = Workbench(NATIVE, V1 if protocol == "v1" else None)
        bench.connection.session.signature_scheme = scheme
        bench.kernels.allowed_message_types = [ALLOWED]
        try:
            bench.connection.handle_incoming_message(frame)
            return received(bench.kernel_ends["shell"])
        finally:
            bench.close()

    return run_to_end(play)


@pytest.mark.parametrize("scheme", ["hmac-sha256", "hmac-sha512"])
@pytest.mark.parametrize("protocol", ["v1", "text", "binary"])
@pytest.mark.parametrize("double", DOUBLES)
def test_type_when_a_header_tells_two_then_the_kernel_gets_the_one_checked(
    double: str, protocol: str, scheme: str
) -> None:
    """Stops a kernel whose parser takes the first of equal keys from running what is forbidden."""
    header = double.replace("%s", REST)
    allowed_last = header.replace("FIRST", FORBIDDEN).replace("LAST", ALLOWED)
    (message,) = sent(frames(allowed_last, protocol), protocol, scheme)
    pairs = json.loads(message[2], object_pairs_hook=list)
    assert [value for key, value in pairs if key == "msg_type"] == [ALLOWED]
    if scheme == "hmac-sha256":
        read(message)  # its signature is right
    forbidden_last = header.replace("FIRST", ALLOWED).replace("LAST", FORBIDDEN)
    assert sent(frames(forbidden_last, protocol), protocol, scheme) == []


@pytest.mark.parametrize(
    "rest", ['"odd": NaN', '"odd": 1e999', '"msg_type": "x"', '"a": "\\ud800"']
)
def test_v1_header_when_large_and_not_plain_then_is_sent_as_stock_does(rest: str) -> None:
    """Stops a header that fills 64 KiB from being taken for a place in the message."""
    header = f'{{"msg_type": "{ALLOWED}", "long": "{"x" * 70_000}", {rest}}}'.encode()
    frame = serialize_msg_to_ws_v1([header, b"{}", b"{}", b"y" * 70_000, b"z" * 70_000], "shell")
    expected = sent_by(STOCK, V1, [frame])
    assert len(expected) == 1
    for way in (NATIVE, PORTABLE):
        assert sent_by(way, V1, [frame]) == expected


def test_log_when_types_are_refused_then_is_one_line_of_plain_text() -> None:
    """Stops a tab from filling the disk, or from writing lines of its own into the log."""

    async def play() -> list[str]:
        bench = Workbench(NATIVE, V1)
        bench.kernels.allowed_message_types = [ALLOWED]
        for number in range(50):
            msg_type: Any = f"bad\n[E] \x1b[31m{number}" + "x" * 10_000
            parts = [json.dumps({"msg_type": msg_type}).encode(), b"{}", b"{}", b"{}"]
            bench.connection.handle_incoming_message(serialize_msg_to_ws_v1(parts, "shell"))
        bench.close()
        return bench.log.lines

    (line,) = run_to_end(play)
    assert line.startswith(r'Received message of type "bad\n[E] \x1b[31m0x')
    assert line.isprintable()
    assert len(line) < 250
