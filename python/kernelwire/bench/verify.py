"""Was the answer right? Runs after the clock has stopped, on the raw payloads.

A flood is right when every message of it arrived once, in order, byte for byte as the kernel sent
it (the kernel reports a digest of all parts in its reply), on the iopub channel, between its busy
and its idle status, in well-formed v1 payloads. In the default protocol the server writes messages
anew; there the contents are compared, by their digest, and the rest by what it means.
"""

from __future__ import annotations

import itertools
import json
import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from kernelwire.bench.flood_kernel import TRACE, Digests

if TYPE_CHECKING:
    from kernelwire.bench.client import KernelSocket

SEQUENCE = re.compile(rb"seq(\d{8}) ")


class WrongAnswerError(Exception):
    """What arrived is not what was sent; the round does not count."""


@dataclass(frozen=True)
class Message:
    """One decoded v1 payload."""

    channel: str
    parts: list[bytes]

    @property
    def header(self) -> dict[str, Any]:
        """The decoded header."""
        return dict(json.loads(self.parts[0]))

    @property
    def parent_id(self) -> str | None:
        """``msg_id`` of the request this message answers."""
        parent = json.loads(self.parts[1])
        return parent.get("msg_id") if parent else None

    @property
    def content(self) -> dict[str, Any]:
        """The decoded content."""
        return dict(json.loads(self.parts[3]))


def decode_v1(payload: bytes) -> Message:
    """Decode a v1 payload, refusing every table that is not exactly right."""
    count = int.from_bytes(payload[:8], "little")
    if not 6 <= count <= len(payload) // 8:
        raise WrongAnswerError(f"v1 table claims {count} offsets in {len(payload)} bytes")
    offsets = struct.unpack_from(f"<{count}Q", payload, 8)
    if offsets[0] != 8 * (count + 1) or offsets[-1] != len(payload):
        raise WrongAnswerError(f"v1 table spans {offsets[0]}..{offsets[-1]}, not the payload")
    if any(a > b for a, b in itertools.pairwise(offsets)):
        raise WrongAnswerError("v1 offsets are not in order")
    pieces = [payload[a:b] for a, b in itertools.pairwise(offsets)]
    return Message(pieces[0].decode(), pieces[1:])


def decode_legacy(payload: bytes) -> Message:
    """Decode a message of the default protocol, with its parts as the kernel wrote them."""
    message = json.loads(payload)
    names = ("header", "parent_header", "metadata", "content")
    return Message(message["channel"], [json.dumps(message[name]).encode() for name in names])


def message_of(client: KernelSocket, index: int) -> Message:
    """Decode message `index` of a client."""
    decode = decode_legacy if client.legacy else decode_v1
    return decode(client.payload(index))


@dataclass
class Flood:
    """What arrived of one flood."""

    expected: int
    indices: list[int] = field(default_factory=list)
    """Which of the client's messages belong to the flood."""
    numbers: list[int] = field(default_factory=list)
    """Their sequence numbers, in order of arrival."""
    states: list[tuple[int, str]] = field(default_factory=list)
    """(index, execution_state) of the request's status messages."""
    reply: dict[str, Any] | None = None
    digest: str = ""
    """Of the messages as they arrived."""
    account_key: str = "digest"
    """What the kernel calls the digest that this must be."""

    @property
    def lost(self) -> int:
        """Messages that were sent and never arrived."""
        return self.expected - len(set(self.numbers))


def kinds_of(emit: str) -> set[str]:
    """Return the message types that make up a flood."""
    return {kind for kind, _ in TRACE} if emit == "notebook" else {emit}


def collect(client: KernelSocket, msg_id: str, emit: str, expected: int) -> Flood:
    """Sort what `client` received for the request `msg_id`."""
    flood = Flood(expected)
    digests, kinds = Digests(), kinds_of(emit)
    for index in range(client.count):
        message = message_of(client, index)
        if message.parent_id != msg_id:
            raise WrongAnswerError(f"message {index} answers another request: {message.parts[0]!r}")
        channel, kind = message.channel, message.header["msg_type"]
        if channel == "iopub" and kind in kinds:
            found = SEQUENCE.search(message.parts[3])
            if found is None:
                raise WrongAnswerError(f"not from the kernel: {message.parts[3][:300]!r}")
            flood.indices.append(index)
            flood.numbers.append(int(found.group(1)))
            digests.add(message.parts)
        elif (channel, kind) == ("iopub", "status"):
            flood.states.append((index, message.content["execution_state"]))
        elif (channel, kind) == ("shell", "execute_reply"):
            flood.reply = message.content
        else:
            raise WrongAnswerError(f"unexpected message {kind} on {channel}")
    flood.account_key = "content_digest" if client.legacy else "digest"
    flood.digest = (digests.contents if client.legacy else digests.whole).hexdigest()
    return flood


def check_prefix(flood: Flood) -> None:
    """Demand order without a gap; the end may be missing."""
    if flood.numbers != list(range(len(flood.numbers))):
        position = next(i for i, n in enumerate(flood.numbers) if i != n)
        raise WrongAnswerError(
            f"message {flood.numbers[position]} arrived where {position} was due"
        )


def check_complete(flood: Flood) -> dict[str, Any]:
    """Everything arrived and is right; returns the kernel's own account of the flood."""
    if flood.reply is None:
        raise WrongAnswerError("no execute_reply")
    account: dict[str, Any] = flood.reply["flood"]
    check_output(flood, account)
    return account


def check_copy(flood: Flood, account: dict[str, Any]) -> None:
    """Everything arrived at a client that has not asked for it, and nothing that is not for it."""
    if flood.reply is not None:
        raise WrongAnswerError("an execute_reply to another client's request")
    check_output(flood, account)


def check_output(flood: Flood, account: dict[str, Any]) -> None:
    """Every message is there once, in order, between busy and idle, as it was sent."""
    if flood.lost:
        raise WrongAnswerError(f"{flood.lost} of {flood.expected} messages lost")
    check_prefix(flood)
    if [state for _, state in flood.states] != ["busy", "idle"]:
        raise WrongAnswerError(f"status messages: {flood.states}, expected busy and idle")
    if not flood.states[0][0] < flood.indices[0] <= flood.indices[-1] < flood.states[1][0]:
        raise WrongAnswerError("output outside busy .. idle")
    if account[flood.account_key] != flood.digest:
        raise WrongAnswerError("the bytes that arrived are not the bytes that were sent")
