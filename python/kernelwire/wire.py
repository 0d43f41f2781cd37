"""The four codec functions of Jupyter Server's websocket protocols, natively.

Same names, arguments and results as in
:mod:`jupyter_server.services.kernels.connection.base`. They differ on frames that break their
format: those raise ``ValueError`` with the field, the value and the limit, where the reference
returns parts that were never there, or does not return at all.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast

from dateutil.tz import tzutc  # type: ignore[import-untyped]
from jupyter_client.jsonutil import ISO8601_PAT, extract_dates, json_default

from kernelwire import _native

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_PARTS",
    "deserialize_binary_message",
    "deserialize_msg_from_ws_v1",
    "serialize_binary_message",
    "serialize_msg_to_ws_v1",
]

MAX_PARTS = _native.MAX_PARTS
"""The most parts a message may have that is to be deserialized, its buffers included."""

_DATE_LENGTH = len("2026-01-01T10:00:00.000000Z")

_UTC = tzutc()

_DECODER = json.JSONDecoder()
"""What ``json.loads`` uses, without the search for space around the document."""

_DICT_PARTS = ("header", "parent_header", "metadata", "content")


def _as_bytes(frame: Any) -> bytes:
    """Make bytes of a frame; ``bytes`` alone would make some of a number, too."""
    return frame if type(frame) is bytes else bytes(memoryview(frame))


def serialize_msg_to_ws_v1(
    msg_or_list: dict[str, Any] | list[Any],
    channel: str,
    pack: Callable[[Any], bytes] | None = None,
) -> bytes:
    """Serialize a message for ``v1.kernel.websocket.jupyter.org``.

    Parameters
    ----------
    msg_or_list
        Header, parent header, metadata, content and buffers; or, with ``pack``, a message whose
        first four of these are packed by it. Its buffers are then left out, as in the reference.
    channel
        The channel's name.
    pack
        Serializes one part, such as ``Session.pack``.
    """
    if pack:
        return _native.encode_v1(channel, [pack(msg_or_list[part]) for part in _DICT_PARTS])  # type: ignore[call-overload]
    return _native.encode_v1(channel, cast("list[Any]", msg_or_list))


def deserialize_msg_from_ws_v1(ws_msg: bytes) -> tuple[str, list[bytes]]:
    """Deserialize a message of ``v1.kernel.websocket.jupyter.org`` into channel and parts.

    Raises
    ------
    ValueError
        A count or an offset is out of range (the message says which, and the range), or the
        channel is not UTF-8.
    """
    return _native.decode_v1(_as_bytes(ws_msg))


def serialize_binary_message(msg: dict[str, Any]) -> bytes:
    """Serialize a message with buffers for the default protocol. ``msg`` is left as it is.

    Raises
    ------
    ValueError
        An offset would be 4 GiB or more.
    """
    document = _native.dump_message(msg)
    if document is None:
        rest = {key: value for key, value in msg.items() if key != "buffers"}
        document = json.dumps(rest, default=json_default).encode()
    return _native.encode_legacy([document, *msg["buffers"]])


def deserialize_binary_message(bmsg: bytes) -> dict[str, Any]:
    """Deserialize a binary message of the default protocol.

    Raises
    ------
    ValueError
        A count or an offset is out of range (the message says which, and the range), the document
        is not a JSON object, or its ``header`` or ``parent_header`` is missing, of another type
        than an object, or has a date that is none. A ``parent_header`` may be null.
    """
    frame = _as_bytes(bmsg)
    loaded = _native.load_message(frame, _UTC)
    if loaded is not None:
        return loaded
    document, *buffers = _native.decode_legacy(frame)
    msg = _parsed(document)
    msg["header"] = _with_dates(msg, "header", dict)
    msg["parent_header"] = _with_dates(msg, "parent_header", (dict, type(None)))
    msg["buffers"] = buffers
    return msg


def _parsed(document: bytes) -> dict[str, Any]:
    """Parse the JSON document of a message."""
    try:
        text = document.decode()
        try:
            msg, end = _DECODER.raw_decode(text)
        except ValueError:
            end = -1
        if end != len(text):
            msg = json.loads(text)
    except UnicodeDecodeError as error:
        raise ValueError(f"the document is not UTF-8 at its byte {error.start}") from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the document is not JSON that can be read: {error}") from error
    if not isinstance(msg, dict):
        raise ValueError(f"the document is of type {type(msg).__name__}, an object is required")  # noqa: TRY004 (it is the message's fault, not the caller's)
    return msg


def _with_dates(msg: dict[str, Any], field: str, types: Any) -> Any:
    """Return a header with its dates parsed."""
    if field not in msg:
        raise ValueError(f"the document has no {field}, an object is required")
    header = msg[field]
    if not isinstance(header, types):
        raise ValueError(f"{field} is of type {type(header).__name__}, an object is required")  # noqa: TRY004 (it is the message's fault, not the caller's)
    if not header:
        return header
    dated = header.copy()
    try:
        for key, value in header.items():
            # Every date has a dash there, and hardly any other text of a header.
            if type(value) is not str or value[4:5] == "-":
                dated[key] = _with_date(value)
    except (ValueError, OverflowError, RecursionError) as error:
        raise ValueError(f"{field} has a date that cannot be read: {error}") from error
    return dated


def _with_date(value: Any) -> Any:
    """Do what ``extract_dates`` does, faster for the dates that ``Session`` writes."""
    if type(value) is str and len(value) == _DATE_LENGTH and value[-1] == "Z":
        if not ISO8601_PAT.match(value):
            return value
        try:
            naive = datetime.fromisoformat(value[:-1])
            return datetime.combine(naive, naive.time(), _UTC)  # much faster than `replace`
        except ValueError:
            pass  # such as the hour 24, which only the other parser knows
    return extract_dates(value)
