"""The four codec functions: equal to stock's on all valid input, clear errors on the rest."""

from __future__ import annotations

import json
import struct
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from enum import IntEnum
from itertools import tee
from typing import Any

import pytest
from dateutil.tz import tzutc
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from jupyter_client.session import json_packer
from jupyter_server.services.kernels.connection import base

from kernelwire import _native, wire

PARTS = st.lists(st.one_of(st.binary(max_size=300), st.just(b"x" * 70_000)), max_size=10)
CHANNELS = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.dictionaries(st.text(), inner, max_size=4)
    ),
    max_leaves=12,
)
DOCUMENTS = st.dictionaries(st.text(), JSON, max_size=4)
MESSAGES = st.fixed_dictionaries(
    {
        "header": st.one_of(DOCUMENTS, st.just({"date": "2026-01-01T10:00:00.5Z"})),
        "parent_header": DOCUMENTS,
        "metadata": DOCUMENTS,
        "content": DOCUMENTS,
        "channel": CHANNELS,
        "buffers": st.lists(st.binary(max_size=200), min_size=0, max_size=5),
    }
)

NUMBERS = st.one_of(st.integers(0, 600), st.sampled_from([2**16, 2**31, 2**32 - 1, 2**63]))
EDITS = st.lists(st.tuples(st.integers(0, 12), NUMBERS), max_size=3)
"""Entries of a frame's table that are to lie, and what they say."""


def tampered(frame: bytes, item: str, edits: list[tuple[int, int]], length: int) -> bytes:
    """Write numbers over entries of a frame's table, and cut it to a length."""
    changed = bytearray(frame)
    size = struct.calcsize(item)
    for place, number in edits:
        if size * (place + 1) <= len(changed):
            struct.pack_into(item, changed, size * place, number % 2 ** (8 * size))
    return bytes(changed[:length])


@given(parts=PARTS, channel=CHANNELS)
def test_v1_encode_when_given_parts_then_equals_stock(parts: list[bytes], channel: str) -> None:
    """Stops a frame that differs from stock's in any byte."""
    frame = wire.serialize_msg_to_ws_v1(parts, channel)
    assert frame == base.serialize_msg_to_ws_v1(parts, channel)
    assert type(frame) is bytes


@given(message=MESSAGES, channel=CHANNELS)
def test_v1_encode_when_given_a_message_and_pack_then_equals_stock(
    message: dict[str, Any], channel: str
) -> None:
    """Stops synthetic messages (status, stderr) that differ from stock's."""
    frame = wire.serialize_msg_to_ws_v1(message, channel, json_packer)
    assert frame == base.serialize_msg_to_ws_v1(message, channel, json_packer)


@given(parts=PARTS, channel=CHANNELS, tail=st.binary(max_size=5))
def test_v1_decode_when_frame_is_valid_then_equals_stock(
    parts: list[bytes], channel: str, tail: bytes
) -> None:
    """Stops requests whose parts differ from what stock would sign and send."""
    frame = base.serialize_msg_to_ws_v1(parts, channel) + tail
    assert wire.deserialize_msg_from_ws_v1(frame) == base.deserialize_msg_from_ws_v1(frame)


@given(message=MESSAGES)
def test_legacy_encode_when_given_a_message_then_equals_stock(message: dict[str, Any]) -> None:
    """Stops a binary message that differs from stock's, or a caller's message being changed."""
    before = dict(message)
    assert wire.serialize_binary_message(message) == base.serialize_binary_message(message)
    assert message == before


def test_legacy_encode_when_message_has_dates_then_equals_stock() -> None:
    """Stops a message that was parsed, and so has dates in it, from being refused."""
    date = datetime(2026, 1, 1, tzinfo=UTC)
    message = {"header": {"date": date}, "buffers": [memoryview(b"abc"), bytearray(b"d")]}
    assert wire.serialize_binary_message(message) == base.serialize_binary_message(message)


class Text(str):
    """A string that another encoder may see as something of its own."""

    __slots__ = ()


class Number(IntEnum):
    """A number that is written as one."""

    ONE = 1


OFFSETS = [timedelta(0), timedelta(hours=2), timedelta(hours=-5), timedelta(seconds=30)]
VALUES = st.recursive(
    st.one_of(
        JSON,
        st.floats(),
        st.integers(-(2**70), 2**70),
        st.text(st.characters(), max_size=9),
        st.binary(max_size=5),
        st.datetimes(timezones=st.sampled_from([timezone(each) for each in OFFSETS])),
        st.dates(),
        st.sampled_from([Text("é"), Number.ONE, {1: 2}, {None: True}, {Text("k"): 1}, (), {3}]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.tuples(inner, inner),
        st.dictionaries(st.text(st.characters(), max_size=5), inner, max_size=3),
    ),
    max_leaves=8,
)


@settings(max_examples=400)
@given(content=VALUES, buffers=st.lists(st.binary(max_size=5), min_size=1, max_size=2))
def test_legacy_encode_when_message_has_any_values_then_equals_stock(
    content: Any, buffers: list[bytes]
) -> None:
    """Stops values from being written in another way than Python's encoder writes them."""
    message = {"content": content, "nested": {"buffers": content}, "buffers": buffers}
    assert wire.serialize_binary_message(message) == base.serialize_binary_message(message)


@pytest.mark.parametrize(
    "content",
    [(number for number in range(3)), {"a": {"a": object()}}, [[[[]]]] * 40, range(5)],
    ids=["generator", "unknown", "wide", "range"],
)
def test_legacy_encode_when_only_python_knows_a_value_then_it_does_as_stock(content: Any) -> None:
    """Stops a value that can be read once from being read twice, and errors from changing."""
    copies = [
        {"c": each, "buffers": [b"x"]}
        for each in (tee(content) if is_iterator(content) else (content, content))
    ]
    try:
        expected = base.serialize_binary_message(copies[0])
    except TypeError:
        with pytest.raises(TypeError, match="not JSON serializable"):
            wire.serialize_binary_message(copies[1])
    else:
        assert wire.serialize_binary_message(copies[1]) == expected


def is_iterator(value: Any) -> bool:
    """Whether a value is used up when it is read."""
    return hasattr(value, "__next__")


def test_legacy_encode_when_message_is_endless_then_raises_as_stock() -> None:
    """Stops a message that contains itself from taking the stack."""
    message: dict[str, Any] = {"buffers": [b"x"]}
    message["content"] = message
    with pytest.raises(ValueError, match="Circular reference"):
        wire.serialize_binary_message(message)


@given(message=MESSAGES)
def test_legacy_decode_when_frame_is_valid_then_equals_stock(message: dict[str, Any]) -> None:
    """Stops requests that differ from stock's, dates in their headers included."""
    frame = base.serialize_binary_message(message)
    assert wire.deserialize_binary_message(frame) == base.deserialize_binary_message(frame)


def test_v1_encode_when_parts_are_not_bytes_then_equals_stock() -> None:
    """Stops widgets' buffers, which are memoryviews, from being refused."""
    parts = [b"{}", bytearray(b"{}"), memoryview(b"{}"), b"{}"]
    assert wire.serialize_msg_to_ws_v1(parts, "shell") == base.serialize_msg_to_ws_v1(
        parts, "shell"
    )


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"", "offset count needs 8 bytes, the frame has 0"),
        (struct.pack("<Q", 2**63), r"offset count\[0\] is 9223372036854775808, allowed is 2 to 0"),
        (struct.pack("<QQQ", 2, 24, 99), r"offset\[1\] is 99, allowed is 24 to 24"),
        (struct.pack("<QQQ", 2, 23, 24), r"offset\[0\] is 23, allowed is 24 to 24"),
        (struct.pack("<Q", 65_539) + bytes(600_000), r"65539, allowed is 2 to 65538"),
        (struct.pack("<QQQ", 2, 24, 25) + b"\xff", "channel name is not UTF-8 at its byte 0"),
    ],
)
def test_v1_decode_when_frame_lies_then_error_names_field_value_and_limit(
    frame: bytes, says: str
) -> None:
    """Stops a count of 2**63 from freezing the server (H13)."""
    with pytest.raises(ValueError, match=says):
        wire.deserialize_msg_from_ws_v1(frame)


@pytest.mark.parametrize(
    ("frame", "says"),
    [
        (b"\0\0", "part count needs 4 bytes, the frame has 2"),
        (struct.pack("!I", 10_000_000), r"part count\[0\] is 10000000, allowed is 1 to 0"),
        (struct.pack("!II", 1, 7), r"offset\[0\] is 7, allowed is 8 to 8"),
        (struct.pack("!I", 65_537) + b"\0" * 300_000, rf"65537, allowed is 1 to {wire.MAX_PARTS}"),
    ],
)
def test_legacy_decode_when_frame_lies_then_error_names_field_value_and_limit(
    frame: bytes, says: str
) -> None:
    """Stops 4 bytes from costing 300 MB that are never given back (H14)."""
    with pytest.raises(ValueError, match=says):
        wire.deserialize_binary_message(frame)


@pytest.mark.parametrize(
    ("document", "says"),
    [
        (b"", "not JSON that can be read: Expecting value"),
        (b"{nonsense", "not JSON that can be read: Expecting property name"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "not JSON that can be read: Exceeds the limit"),
        (b'{"a": "\xff"}', "document is not UTF-8 at its byte 7"),
        (b"[1]", "document is of type list, an object is required"),
        (b"null", "document is of type NoneType, an object is required"),
        (b'{"header": {}}', "document has no parent_header, an object is required"),
        (b'{"parent_header": {}}', "document has no header, an object is required"),
        (b'{"header": null, "parent_header": {}}', "header is of type NoneType, an object"),
        (b'{"header": {}, "parent_header": [1]}', "parent_header is of type list, an object"),
        (
            b'{"header": {"date": "2026-13-01T10:00:00Z"}, "parent_header": {}}',
            "header has a date that cannot be read: month must be in 1..12",
        ),
    ],
)
def test_legacy_decode_when_document_is_wrong_then_error_names_field_and_value(
    document: bytes, says: str
) -> None:
    """Stops exceptions of all kinds, which say nothing of the message, from reaching a caller."""
    frame = struct.pack("!II", 1, 8) + document
    with pytest.raises(ValueError, match=says):
        wire.deserialize_binary_message(frame)


@pytest.mark.parametrize("nested", ['{"a":' * 100_000, '{"header":' + "[" * 900 + "]" * 900])
def test_legacy_decode_when_document_is_deep_then_raises_a_value_error(nested: str) -> None:
    """Stops a document from raising something that a caller does not expect."""
    document = nested + ', "parent_header": {}}'
    with pytest.raises(ValueError, match=r"document|header"):
        wire.deserialize_binary_message(struct.pack("!II", 1, 8) + document.encode())


@given(
    text=st.one_of(
        st.from_regex(r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,7})?(Z|[+-]\d\d:?\d\d)\n?\Z"),
        st.datetimes().map(lambda date: date.isoformat() + "Z"),
        st.datetimes().map(lambda date: date.isoformat()[:-1] + "Z"),
        st.sampled_from(
            [
                "2026-01-01T24:00:00.000000Z",
                "2026-W01-1T10:00:00.000000Z",
                "2026-01-01 10:00:00.000000Z",
                "2026-01-01T10:00:00,000000Z",
                "abcd-a text of the very lengthZ"[:27],
                "2026-01-01T10:00:00.5Z",
                "2026-01-01T10:00:00.Z",
                "2026-01-01T10:00:60Z",
                "2026-02-30T10:00:00.500Z",
                "0000-01-01T10:00:00.500Z",
                "0001-01-01T00:00:00.500Z",
                "0031-12-11T10:00:00Z",
                "2026-",
                "user-name",
            ]
        ),
    )
)
def test_legacy_decode_when_header_has_a_date_then_equals_stock(text: str) -> None:
    """Stops dates, and what only looks like one, from being read differently."""
    document = {"header": {"date": text, "deep": [text]}, "parent_header": {}}
    frame = struct.pack("!II", 1, 8) + json.dumps(document).encode()
    try:
        expected = base.deserialize_binary_message(frame)
    except ValueError:
        with pytest.raises(ValueError, match="header has a date that cannot be read"):
            wire.deserialize_binary_message(frame)
        return
    decoded = wire.deserialize_binary_message(frame)
    assert repr(decoded) == repr(expected)


def decoded(decode: Any, document: str) -> str:
    """Say what is made of a document, in a way that tells types, order and NaN apart."""
    frame = struct.pack("!III", 2, 12, 12 + len(document.encode())) + document.encode() + b"buffer"
    try:
        return repr(decode(frame))
    except ValueError:
        return "refused"


LITERALS = st.one_of(
    JSON.map(json.dumps),
    JSON.map(lambda value: json.dumps(value, ensure_ascii=False, indent=1)),
    st.datetimes().map(lambda date: f'"{date.isoformat(timespec="milliseconds")}Z"'),
    st.sampled_from(["NaN", "-Infinity", "1e400", "-1e-400", "-0", "-0.0", "1E+2", "0.1e1"]),
    st.sampled_from([str(2**63 - 1), str(2**63), str(-(2**63)), "1" * 300, "1" * 5000, "01", "1."]),
    st.sampled_from([r'"\ud83d"', r'"\ud83d\ude00"', r'"\ude00\ud83d"', r'"\u00E9\/\b"', r'"\x"']),
    st.sampled_from(['"\x7f"', '"\x00"', '"\t"', '"', "tru", "", '"\u2028é\U0001f600"']),
)
SPELLINGS = st.recursive(
    LITERALS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]"),
        st.lists(st.tuples(st.sampled_from(['"a"', '"\\u0061"', '"é"']), inner), max_size=3).map(
            lambda members: f"{{{','.join(f'{key}:{value}' for key, value in members)}}}"
        ),
    ),
    max_leaves=6,
)
"""JSON as it may also be written, and what only looks like it."""


@settings(max_examples=400)
@given(
    members=st.lists(
        st.tuples(
            st.sampled_from(["header", "parent_header", "content", "buffers", "h\\u0065ader"]),
            SPELLINGS.map(lambda value: f'{{"date": {value}}}') | SPELLINGS,
        ),
        max_size=4,
    ),
    padding=st.sampled_from(["", "x" * 9_000, "é" * 5_000]),
)
def test_legacy_decode_when_document_is_spelt_in_any_way_then_equals_stock(
    members: list[tuple[str, str]], padding: str
) -> None:
    """Stops numbers, escapes, equal keys and dates from being read in another way than Python's."""
    first = [("header", '{"a": 1}'), ("parent_header", "null"), ("padding", f'"{padding}"')]
    document = ", ".join(f'"{key}": {value}' for key, value in [*first, *members])
    document = f"{{{document}}}"
    ours = decoded(wire.deserialize_binary_message, document)
    kinds = {key: type(value) for key, value in parsed(document).items()}
    if issubclass(kinds.get("header", str), dict) and kinds["parent_header"] in (dict, type(None)):
        assert ours == decoded(base.deserialize_binary_message, document)
    else:
        assert ours == "refused"


def parsed(document: str) -> dict[str, Any]:
    """Read a document; an empty one where it cannot be read."""
    try:
        return json.loads(document)
    except ValueError:
        return {}


@pytest.mark.parametrize("fraction", ["", ".5", ".500", ".000500"])
def test_legacy_decode_when_message_is_ordinary_then_it_is_read_natively(fraction: str) -> None:
    """Stops what makes it fast from being lost without anybody noticing."""
    header = {"date": f"2026-01-01T10:00:00{fraction}Z", "msg_id": "2026abcd-1"}
    message = {"header": header, "parent_header": {}, "content": {"a": [1, 0.5, None, "é\n"]}}
    frame = base.serialize_binary_message(message | {"buffers": [b"a", b""]})
    assert _native.load_message(frame, tzutc()) == base.deserialize_binary_message(frame)


def test_legacy_decode_when_long_then_whoever_is_faster_reads_it() -> None:
    """Stops long documents of short strings or escapes from being slower than with stock."""
    message = {"header": {}, "parent_header": {}, "content": "a longer line of text\n" * 1_000}
    frame = base.serialize_binary_message(message | {"buffers": [b"a"]})
    assert _native.load_message(frame, tzutc()) is not None
    frame = base.serialize_binary_message(message | {"content": "\n" * 9_000, "buffers": []})
    assert _native.load_message(frame, tzutc()) is None


@pytest.mark.parametrize("document", [' {"header": {}, "parent_header": {}}\n', "\ufeff{}", "{}{}"])
def test_legacy_decode_when_document_has_more_around_it_then_equals_stock(document: str) -> None:
    """Stops space from being refused, and anything else from being overlooked."""
    frame = struct.pack("!II", 1, 8) + document.encode()
    try:
        expected = base.deserialize_binary_message(frame)
    except ValueError:
        with pytest.raises(ValueError, match="not JSON"):
            wire.deserialize_binary_message(frame)
    else:
        assert wire.deserialize_binary_message(frame) == expected


def test_legacy_decode_when_parent_is_null_then_equals_stock() -> None:
    """Stops a request without a parent, which some clients send as null, from being refused."""
    frame = struct.pack("!II", 1, 8) + b'{"header": {}, "parent_header": null}'
    assert wire.deserialize_binary_message(frame) == base.deserialize_binary_message(frame)


def test_decode_when_frame_is_a_bytearray_then_equals_stock() -> None:
    """Stops callers that read into memory of their own from being refused."""
    frame = bytearray(base.serialize_msg_to_ws_v1([b"{}"] * 4, "shell"))
    assert wire.deserialize_msg_from_ws_v1(frame) == base.deserialize_msg_from_ws_v1(frame)
    frame = bytearray(struct.pack("!II", 1, 8) + b'{"header": {}, "parent_header": {}}')
    assert wire.deserialize_binary_message(frame) == base.deserialize_binary_message(frame)


@pytest.mark.parametrize("frame", ["text", 7, None])
@pytest.mark.parametrize(
    "decode", [wire.deserialize_msg_from_ws_v1, wire.deserialize_binary_message]
)
def test_decode_when_given_no_bytes_then_raises_as_stock(decode: Any, frame: Any) -> None:
    """Stops a number from being taken for so many zero bytes."""
    with pytest.raises(TypeError):
        decode(frame)
    with pytest.raises(TypeError):
        getattr(base, decode.__name__)(frame)


@given(parts=PARTS, channel=CHANNELS, edits=EDITS, length=st.integers(0, 1500))
def test_v1_decode_when_frame_is_tampered_with_then_equals_stock_or_stock_is_wrong(
    parts: list[bytes], channel: str, edits: list[tuple[int, int]], length: int
) -> None:
    """Stops checks that refuse what is valid, or let pass what stock makes something else of."""
    whole = base.serialize_msg_to_ws_v1(parts, channel)
    frame = tampered(whole, "<Q", edits, length)
    assume(int.from_bytes(frame[:8], "little") < 10_000)  # H13
    try:
        expected: Any = base.deserialize_msg_from_ws_v1(frame)
        encoded = base.serialize_msg_to_ws_v1(expected[1], expected[0])
    except (ValueError, IndexError):
        expected, encoded = None, b""
    if expected is not None and frame.startswith(encoded):
        assert wire.deserialize_msg_from_ws_v1(frame) == expected
    else:
        with pytest.raises(ValueError, match=r"\d"):
            wire.deserialize_msg_from_ws_v1(frame)


@given(message=MESSAGES, edits=EDITS, length=st.integers(0, 1500))
def test_legacy_decode_when_frame_is_tampered_with_then_equals_stock_or_is_refused(
    message: dict[str, Any], edits: list[tuple[int, int]], length: int
) -> None:
    """Stops a frame that lies from being taken for something else than stock takes it for."""
    frame = tampered(base.serialize_binary_message(message), "!I", edits, length)
    try:
        decoded = wire.deserialize_binary_message(frame)
    except ValueError:
        return
    assert decoded == base.deserialize_binary_message(frame)


@given(frame=st.binary(max_size=200))
def test_decode_when_given_any_bytes_then_raises_nothing_undocumented(frame: bytes) -> None:
    """Stops exceptions that a caller does not expect."""
    for decode in (wire.deserialize_msg_from_ws_v1, wire.deserialize_binary_message):
        try:
            decode(frame)
        except ValueError:
            continue


@given(
    document=st.one_of(
        JSON, st.fixed_dictionaries({"header": JSON, "parent_header": JSON}), MESSAGES
    )
)
def test_legacy_decode_when_given_any_json_then_raises_nothing_undocumented(document: Any) -> None:
    """Stops exceptions that a caller does not expect."""
    text = json.dumps(document, default=bytes.hex).encode()
    with suppress(ValueError):
        decoded = wire.deserialize_binary_message(struct.pack("!II", 1, 8) + text)
        assert isinstance(decoded["header"], dict)
