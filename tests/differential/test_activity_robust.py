"""What stock's activity watcher dies of (H3): kernelwire's follows it, or counts it and goes on."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING
from unittest.mock import patch

import pytest

from kernelwire._logging import INTERVAL
from support.watching import (
    DELIMITER,
    WAYS,
    Watching,
    date_of,
    header,
    parts,
    status,
)

if TYPE_CHECKING:
    from collections.abc import Callable

START = datetime(2026, 1, 1, tzinfo=UTC)
LATER = START + timedelta(hours=1)
OURS = pytest.mark.parametrize("way", WAYS[1:])
SCHEMES = pytest.mark.parametrize("scheme", ["hmac-sha256", "hmac-sha512"])


def watching(body: Callable[[Watching, list[datetime]], None], way: str, **options: object) -> None:
    """Run ``body`` with a watched kernel and its clock."""

    async def run() -> None:
        now = [START]
        with date_of(now):
            watched = Watching(way, **options)
            try:
                body(watched, now)
            finally:
                watched.close()

    asyncio.run(run())


def lives(watched: Watching, now: list[datetime]) -> bool:
    """Whether the watcher follows what comes now."""
    now[0] += timedelta(seconds=1)
    for state in ("busy", "idle"):
        watched.deliver([watched.signed(status(state))])
        if watched.kernel.execution_state != state:
            return False
    return watched.kernel.last_activity == now[0]


# forgeries


FORGERIES = {
    "wrong": lambda genuine: b"0" * len(genuine),
    "missing": lambda _: b"",
    "upper-case": bytes.upper,
    "too short": lambda genuine: genuine[:-2],
    "too long": lambda genuine: genuine + b"00",
    "not hex": lambda genuine: b"z" * len(genuine),
    "not ascii": lambda genuine: b"\xff" * len(genuine),
}


@OURS
@SCHEMES
@pytest.mark.parametrize("forgery", FORGERIES)
def test_forgery_when_it_comes_then_state_and_dates_stay_and_it_is_counted(
    way: str, scheme: str, forgery: str
) -> None:
    """Stops whoever reaches a kernel's port from keeping it alive, or from having it culled."""

    def body(watched: Watching, now: list[datetime]) -> None:
        before = watched.seen
        now[0] = LATER
        messages = []
        for message in (status("busy"), status("weird"), parts("comm_msg", "execute_request")):
            frames = watched.signed(message)
            frames[2] = FORGERIES[forgery](frames[2])
            messages.append(frames)
        watched.deliver(messages)
        assert watched.seen == before
        assert watched.reader.refused == 3
        assert lives(watched, now)

    watching(body, way, scheme=scheme, state="idle")


@OURS
@SCHEMES
@pytest.mark.parametrize("part", range(4))
def test_forgery_when_a_part_was_exchanged_then_it_is_refused(
    way: str, scheme: str, part: int
) -> None:
    """Stops a signature from vouching for less than all four parts."""

    def body(watched: Watching, now: list[datetime]) -> None:
        frames = watched.signed(status("busy"))
        frames[3 + part] += b" "
        before = watched.seen
        now[0] = LATER
        watched.deliver([frames])
        assert watched.seen == before
        assert watched.reader.refused == 1

    watching(body, way, scheme=scheme, state="idle")


@OURS
def test_signature_when_buffers_differ_then_it_is_valid(way: str) -> None:
    """Stops messages with buffers, which are not signed, from being taken for forged."""

    def body(watched: Watching, _: list[datetime]) -> None:
        watched.deliver([[*watched.signed(status("busy")), b"buffer", b""]])
        assert watched.kernel.execution_state == "busy"

    watching(body, way, state="idle")


@OURS
def test_signature_when_kernel_has_no_key_then_none_is_asked_for(way: str) -> None:
    """Stops kernels without a key from never being followed."""

    def body(watched: Watching, _: list[datetime]) -> None:
        watched.deliver([[DELIMITER, b"whatever", *status("busy")]])
        assert watched.kernel.execution_state == "busy"

    watching(body, way, state="idle", key=b"")


# what is followed


def edited(message: list[bytes], part: int, old: bytes, new: bytes) -> list[bytes]:
    """Change the JSON of a part."""
    assert old in message[part]
    return [*message[:part], message[part].replace(old, new), *message[part + 1 :]]


def numbered() -> dict[str, list[bytes]]:
    """The messages that are followed although stock stumbles over them: all say ``busy``."""
    busy = status("busy")
    head = json.loads(busy[0])
    return {
        "NaN in the header": edited(busy, 0, b"{", b'{"nan": NaN, '),
        "Infinity in the parent": edited(busy, 1, b"{", b'{"inf": -Infinity, '),
        "NaN in the content": edited(busy, 3, b"{", b'{"nan": NaN, '),
        "a lone surrogate in the header": edited(busy, 0, b"{", b'{"x": "\\ud800", '),
        "a lone surrogate in the content": edited(busy, 3, b"{", b'{"x": "\\udc00", '),
        "deep nesting": edited(busy, 3, b"{", b'{"x": ' + b"[" * 70 + b"]" * 70 + b", "),
        "a huge number": edited(busy, 3, b"{", b'{"x": ' + b"9" * 300 + b", "),
        "a header without version": status("busy", version=None),
        "a header without msg_id": status("busy", msg_id=None),
        "a header without date": status("busy", date=None),
        "nothing but a type": [json.dumps({"msg_type": "status"}).encode(), *busy[1:]],
        "protocol 4": status("busy", version="4.1"),
        "protocol 6": status("busy", version="6.0"),
        "a version that is no number": status("busy", version="new"),
        "month 13": status("busy", date="2026-13-01T00:00:00.000000Z"),
        "a date that is a number": status("busy", date=20260101),
        "a parent of protocol 4": [
            busy[0],
            json.dumps(header("execute_request", version=None)).encode(),
            *busy[2:],
        ],
        "metadata that is not JSON": [*busy[:2], b"{nonsense", busy[3]],
        "a header with a key twice": [b'{"msg_type":"x",' + json.dumps(head)[1:].encode(), *busy[1:]],
    }  # fmt: skip


@OURS
@SCHEMES
@pytest.mark.parametrize("kind", numbered())
def test_message_when_stock_would_die_of_it_then_it_is_followed(
    way: str, scheme: str, kind: str
) -> None:
    """Stops a kernel that is a little different from being busy, or idle, for ever."""

    def body(watched: Watching, now: list[datetime]) -> None:
        now[0] = LATER
        watched.deliver([watched.signed(numbered()[kind])])
        assert watched.kernel.execution_state == "busy"
        assert watched.kernel.last_activity == watched.manager.last_kernel_activity == LATER
        assert watched.reader.refused == 0
        assert watched.log.lines == []
        assert lives(watched, now)

    watching(body, way, scheme=scheme, state="idle")


@OURS
@pytest.mark.parametrize("packer", ["json", "default"])
def test_message_when_it_begins_with_a_byte_order_mark_then_python_decides(
    way: str, packer: str
) -> None:
    """Stops a message that one parser reads and another does not from ending the watcher."""

    def body(watched: Watching, now: list[datetime]) -> None:
        if packer == "json":
            watched.reader._session.unpacker = "json"
        before = watched.kernel.execution_state
        busy = status("busy")
        watched.deliver([watched.signed([b"\xef\xbb\xbf" + busy[0], *busy[1:]])])
        try:
            watched.session.unpack(b"\xef\xbb\xbf{}")
        except ValueError:
            expected = before
        else:
            expected = "busy"
        assert watched.kernel.execution_state == expected
        assert watched.reader.refused == (expected == before)
        assert lives(watched, now)

    watching(body, way, state="idle")


@OURS
def test_status_when_it_is_repeated_to_the_letter_then_it_is_followed_each_time(way: str) -> None:
    """Stops kernels that publish the same message twice from being followed no longer (H30)."""

    def body(watched: Watching, now: list[datetime]) -> None:
        busy, idle = (watched.signed(status(state)) for state in ("busy", "idle"))
        for _ in range(3):
            for frames, state in ((busy, "busy"), (idle, "idle")):
                now[0] += timedelta(seconds=1)
                watched.deliver([frames, frames])
                assert watched.kernel.execution_state == state
                assert watched.kernel.last_activity == now[0]

    watching(body, way)


# what cannot be followed


def signed_later(message: list[bytes]) -> Callable[[Watching], list[bytes]]:
    """A message with a signature that is right."""
    return lambda watched: watched.signed(message)


BUSY = status("busy")
MALFORMED: dict[str, Callable[[Watching], list[bytes]]] = {
    "no delimiter": lambda _: [b"topic", b"neither", b"here"],
    "one empty frame": lambda _: [b""],
    "nothing behind the delimiter": lambda _: [b"topic", DELIMITER],
    "no parts": signed_later([]),
    "three parts": signed_later(BUSY[:3]),
    "header is no JSON": signed_later([b"{nonsense", *BUSY[1:]]),
    "header is empty": signed_later([b"", *BUSY[1:]]),
    "header is a list": signed_later([b"[1, 2]", *BUSY[1:]]),
    "header is null": signed_later([b"null", *BUSY[1:]]),
    "header is a string": signed_later([b'"x"', *BUSY[1:]]),
    "no type": signed_later([b"{}", *BUSY[1:]]),
    "parent is no JSON": signed_later([BUSY[0], b"{", *BUSY[2:]]),
    "parent is a number": signed_later([BUSY[0], b"1", *BUSY[2:]]),
    "status without content": signed_later([*BUSY[:3], b""]),
    "status with a list": signed_later([*BUSY[:3], b"[]"]),
    "status without state": signed_later([*BUSY[:3], b"{}"]),
}


@OURS
@SCHEMES
@pytest.mark.parametrize("kind", MALFORMED)
def test_message_when_it_cannot_be_read_then_it_is_counted_and_the_watcher_lives(
    way: str, scheme: str, kind: str
) -> None:
    """Stops one bad message from leaving the watcher deaf: that kernel is never culled (H1)."""

    def body(watched: Watching, now: list[datetime]) -> None:
        before = watched.seen
        now[0] = LATER
        watched.deliver([MALFORMED[kind](watched)] * 5)
        assert watched.seen == before
        assert watched.reader.refused == 5
        assert lives(watched, now)

    watching(body, way, scheme=scheme, state="idle")


@OURS
def test_message_when_it_stands_between_good_ones_then_all_of_those_are_followed(way: str) -> None:
    """Stops a batch from ending, or changing its order, at what only Python can read."""

    def body(watched: Watching, _: list[datetime]) -> None:
        kinds = [
            *map(watched.signed, numbered().values()),
            *(make(watched) for make in MALFORMED.values()),
        ]
        batch = []
        for number, frames in enumerate(kinds):
            batch += [frames, watched.signed(status(f"state {number}"))]
        with recorded(watched) as states:
            watched.deliver(batch)
        assert [s for s in states if s != "busy"] == [f"state {n}" for n in range(len(kinds))]

    watching(body, way, state="idle")


class recorded:  # noqa: N801 (reads as a function)
    """Notes each state that the kernel is given meanwhile."""

    def __init__(self, watched: Watching) -> None:
        self._kernel = watched.kernel
        self._states: list[str] = []

    def __enter__(self) -> list[str]:
        states = self._states

        class Noting(type(self._kernel)):  # type: ignore[misc]
            def __setattr__(self, name: str, value: object) -> None:
                if name == "execution_state":
                    states.append(value)
                super().__setattr__(name, value)

        self._kernel.__class__ = Noting
        return states

    def __exit__(self, *_: object) -> None:
        self._kernel.__class__ = type(self._kernel).__mro__[1]


# the log


@OURS
def test_log_when_bad_messages_flood_then_it_has_one_line_a_minute(way: str) -> None:
    """Stops a broken kernel from filling the disk with its own complaints."""

    def body(watched: Watching, _: list[datetime]) -> None:
        for minute in range(3):
            watched.reader._failures._clock = lambda minute=minute: minute * INTERVAL
            for make in MALFORMED.values():
                watched.deliver([make(watched)] * 20)
            forged = watched.signed(status("busy"))
            forged[2] = b"0" * 64
            watched.deliver([forged] * 20)
            assert len(watched.log.lines) == minute + 1
        assert watched.reader.refused == 3 * 20 * (len(MALFORMED) + 1)
        assert all("Ignored a message of kernel kernel" in line for line in watched.log.lines)
        assert "more like this" in watched.log.lines[-1]
        assert "Traceback" not in "".join(watched.log.lines)

    watching(body, way, state="idle")


@OURS
def test_watcher_when_a_subclass_raises_then_it_lives_on(way: str) -> None:
    """Stops a bug in an extension's rule from ending the watching of a kernel."""

    def body(watched: Watching, now: list[datetime]) -> None:
        with patch.object(type(watched.manager), "track_message_type", side_effect=RuntimeError):
            watched.deliver([watched.signed(status("busy"))] * 3)
        assert lives(watched, now)

    watching(body, way, state="idle")
