"""Hypothesis strategies for what kernels send."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import strategies as st

DELIMITER = b"<IDS|MSG>"

MESSAGE_TYPES = (
    "clear_output", "comm_close", "comm_msg", "comm_open", "display_data", "error", "execute_input",
    "execute_result", "status", "stream", "update_display_data", "débug",
)  # fmt: skip


def spelled(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """Write a document as JSON, in one of the ways in which it can be written."""
    style = draw(st.sampled_from(("orjson", "json", "spaced", "escaped", "doubled")))
    if style == "orjson":
        return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
    if style == "spaced":
        return json.dumps(document, indent=draw(st.integers(0, 3))).encode()
    text = json.dumps(document)
    if style == "escaped":
        return text.replace("m", "\\u006d").encode()
    if style == "doubled" and document:
        # The last of equal keys counts.
        return ("{" + '"msg_type": "stream", "execution_state": "idle", ' + text[1:]).encode()
    return text.encode()


def header(msg_type: Any, note: str) -> dict[str, Any]:
    """Make a header; ``note`` makes it look like none before."""
    return {
        "msg_id": "id",
        "msg_type": msg_type,
        "username": note,
        "session": "s",
        "date": "2026-01-01T00:00:00.000000Z",
        "version": "5.4",
    }


def content(draw: st.DrawFn, msg_type: str, size: int) -> dict[str, Any]:
    """Make a content of about ``size`` bytes."""
    if msg_type == "status":
        return {"execution_state": draw(st.sampled_from(("busy", "idle", "starting")))}
    if msg_type == "error":
        return {"ename": "E", "evalue": "x" * size, "traceback": ["y"]}
    return {"name": "stdout", "text": "x" * size}


SIZES = st.one_of(
    st.sampled_from((0, 1, 100, 125, 126, 1_000)),
    st.sampled_from((65_400, 65_535, 65_536, 1_000_000)),
)


@st.composite
def messages(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A message as it comes off the kernel's socket, and its channel."""
    msg_type = draw(st.sampled_from(MESSAGE_TYPES))
    parent = draw(st.sampled_from(({}, header("execute_request", "p"))))
    small = draw(st.booleans()) or draw(st.booleans())
    size = draw(st.integers(0, 300)) if small else draw(SIZES)
    parts = [
        spelled(draw, header(msg_type, draw(st.text(max_size=6)))),
        json.dumps(parent).encode(),
        draw(st.sampled_from((b"{}", b'{"tags":["\xc3\xa9"]}'))),
        spelled(draw, content(draw, msg_type, size)),
    ]
    identities = draw(st.lists(st.binary(max_size=40).filter(DELIMITER.__ne__), max_size=3))
    buffers = draw(st.lists(st.binary(max_size=50), max_size=5))
    channel = draw(st.sampled_from(("iopub", "iopub", "iopub", "shell")))
    return channel, [*identities, DELIMITER, b"signature", *parts, *buffers]


ODD_HEADERS = (
    b"", b"{", b"null", b"[]", b'"x"', b"{}", b'{"msg_type": 1}', b'{"msg_type": null}',
    b'{"msg_type": ["stream"]}', b'{"msg_type": "stream", "a": NaN}', b'{"msg_type": "a\xff"}',
    b'{"msg_type": "\\ud800"}', b'\xef\xbb\xbf{"msg_type": "stream"}', b'{"msg_type": "stream"} x',
)  # fmt: skip
ODD_CONTENTS = (
    b"",
    b"{",
    b"[]",
    b"null",
    b'{"execution_state": 1}',
    b'{"execution_state": "idle", }',
)


@st.composite
def odd_messages(draw: st.DrawFn) -> tuple[str, list[bytes]]:
    """A message that some rule stumbles over: stock raises on most of them."""
    good = json.dumps(header(draw(st.sampled_from(("status", "stream"))), "")).encode()
    parts = [
        draw(st.sampled_from((*ODD_HEADERS, good))),
        draw(st.sampled_from((b"{}", b"null", b"{"))),
        b"{}",
        draw(st.sampled_from((*ODD_CONTENTS, b"{}"))),
    ]
    return "iopub", [DELIMITER, b"", *parts]
