"""The seeds of the fuzz targets: `python tests/support/seeds.py` writes them anew.

Real messages in stock's encoding, and the lies about them that stock believes. Seeds of another
origin, such as what a fuzzer has found, stay beside them.
"""

from __future__ import annotations

import json
import struct
from pathlib import Path

from jupyter_server.services.kernels.connection import base

SEEDS = Path(__file__).parents[2] / "rust" / "core" / "tests" / "seeds"

HEADER = {
    "msg_id": "b1f7a0c2",
    "msg_type": "stream",
    "username": "kernel",
    "session": "5e551017",
    "date": "2026-01-01T10:00:00.500000Z",
    "version": "5.4",
}
PARENT = HEADER | {"msg_type": "execute_request"}
STREAM = {"name": "stdout", "text": "é \U0001f600\n"}
MESSAGE = {"header": HEADER, "parent_header": PARENT, "metadata": {}, "content": STREAM}
PARTS = [json.dumps(part, ensure_ascii=False).encode() for part in MESSAGE.values()]
COMM = {"comm_id": "c", "data": {"state": {"value": 1.5e300}, "buffer_paths": [["x"]]}}
BUFFERS = [b"", bytes(range(32))]


def v1_frames() -> dict[str, bytes]:
    """Messages of v1, then frames that break the format."""
    small = [b"{}"] * 4
    return {
        "stream": base.serialize_msg_to_ws_v1(PARTS, "iopub"),
        "buffers": base.serialize_msg_to_ws_v1([*PARTS, *BUFFERS], "shell"),
        "no-parts": base.serialize_msg_to_ws_v1([], "shell"),
        "trailing-bytes": base.serialize_msg_to_ws_v1(small, "shell") + b"more",
        "not-ascii": base.serialize_msg_to_ws_v1(small, "kanäl"),
        "empty": b"",
        "count-2-63": struct.pack("<Q", 2**63),
        "count-1": struct.pack("<2Q", 1, 16),
        "no-table": struct.pack("<Q", 2),
        "offsets-fall": struct.pack("<7Q", 6, 56, 60, 58, 57, 56, 56) + b"shell",
        "offsets-beyond": struct.pack("<7Q", 6, 56, *[2**63] * 5),
        "channel-not-utf8": struct.pack("<4Q", 3, 32, 34, 34) + b"\xff\xfe",
    }


def legacy_frames() -> dict[str, bytes]:
    """Binary messages of the default protocol, then frames that break the format."""
    message = MESSAGE | {"content": COMM, "channel": "shell"}
    return {
        "comm": base.serialize_binary_message(message | {"buffers": BUFFERS}),
        "no-buffers": base.serialize_binary_message(message | {"buffers": []}),
        "empty": b"",
        "count-0": struct.pack("!I", 0),
        "no-table": struct.pack("!I", 1),
        "count-10-7": struct.pack("!I", 10**7),
        "count-negative": struct.pack("!i", -1),
        "offsets-fall": struct.pack("!4I", 3, 16, 20, 18) + b"{}..buffer",
        "offsets-beyond": struct.pack("!3I", 2, 12, 2**32 - 1) + b"{}",
        "v1-frame": base.serialize_msg_to_ws_v1([b"{}"] * 4, "shell"),
    }


def messages() -> dict[str, bytes]:
    """Multipart messages, a frame a line."""
    signature = b"0" * 64
    signed = [b"<IDS|MSG>", signature, *PARTS]
    return {
        name: b"\n".join(frames)
        for name, frames in {
            "stream": [b"kernel.stream", *signed],
            "buffers": [*signed, b"", b"buffer"],
            "two-delimiters": [b"a", *signed, *signed],
            "no-delimiter": [b"topic", *PARTS],
            "three-parts": signed[:5],
            "delimiter-alone": signed[:1],
            "said-twice": [*signed[:5], b'{"name":"a","text":"b","text":"c"}'],
        }.items()
    }


def documents() -> dict[str, bytes]:
    """JSON, most of it of the kind that parsers are known to differ on."""
    deep, long = "[" * 64 + "]" * 64, "1" * 256
    return {
        "header": PARTS[0],
        "status": b'{"execution_state": "idle"}',
        "escaped-key": rb'{"msg\u005ftype":"str\u0065am"}',
        "equal-keys": b'{"msg_type":1,"a":[],"msg_type":"b","":null}',
        "pair": rb'{"msg_type":"\ud83d\ude00"}',
        "half-pair": rb'{"msg_type":"\ud83d"}',
        "pair-reversed": rb'{"msg_type":"\ude00\ud83d"}',
        "numbers": b'{"a":[-0,0.5,1E+5,1e-400,12345678901234567890123]}',
        "not-a-number": b'{"a":NaN}',
        "leading-zero": b'{"a":01}',
        "not-utf8": b'{"msg_type":"\xff"}',
        "control": b'{"msg_type":"\x1f"}',
        "byte-order-mark": b'\xef\xbb\xbf{"a":1}',
        "deep": f'{{"a":{deep}}}'.encode(),
        "too-deep": f'{{"a":[{deep}]}}'.encode(),
        "long": f'{{"a":{long}}}'.encode(),
        "too-long": f'{{"a":1{long}}}'.encode(),
        "trailing": b"{} {}",
        "space": b' \t\r\n{ "a" :\n1 } ',
    }


def websocket_frames() -> dict[str, bytes]:
    """What a peer sends, behind a byte that says how it is read; right, then wrong."""
    server, client, limited = b"\0", b"\1", b"\x0e"
    text, first, last = b"\x81\x02hi", b"\x01\x01a", b"\x80\x01b"
    ping, close = b"\x89\x01?", b"\x88\x04\x03\xe9by"
    return {
        "messages": server + text + b"\x82\x7e\x00\x7e" + bytes(126) + text,
        "long": server + b"\x82\x7f" + (1 << 16).to_bytes(8, "big") + bytes(1 << 16),
        "fragments": server + first + ping + b"\x00\x00" + b"\x8a\x00" + last + text,
        "masked": client + b"\x81\x82\1\2\3\4ik" + b"\x89\x80\0\0\0\0",
        "close": server + text + first + close + text,
        "torn": server + text + first + b"\x80\x7e\x01",
        "as-long-as-allowed": limited + b"\x81\x03abc" + first + b"\x80\x02bc",
        "too-long": limited + first + b"\x80\x03bcd",
        "not-masked": client + text,
        "reserved": server + text + b"\xc1\x00",
        "opcode": server + b"\x83\x00",
        "fragmented-control": server + b"\x09\x00",
        "long-control": server + b"\x89\x7e\x00\x7e" + bytes(126),
        "torn-code": server + b"\x88\x01\x03",
        "nothing-to-continue": server + text + last,
        "interrupted": server + first + text,
        "length-not-shortest": server + b"\x81\x7e\x00\x02hi",
        "length-2-63": server + b"\x82\x7f" + (1 << 63).to_bytes(8, "big"),
        "length-2-62": server + b"\x82\x7f" + (1 << 62).to_bytes(8, "big") + b"x",
    }


def main() -> None:
    """Write all seeds."""
    for target, seeds in {
        "v1_decode": v1_frames(),
        "legacy_decode": legacy_frames(),
        "multipart_split": messages(),
        "peek_vs_serde": documents(),
        "frame_reader": websocket_frames(),
    }.items():
        folder = SEEDS / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds.items():
            (folder / name).write_bytes(data)


if __name__ == "__main__":
    main()
